#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <regex.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include "core/base/must.h"
#include "io/log.h"

enum { TEXT_BYTES = 4 * 1024 * 1024 };

static char directory[64];

static void setup(void)
{
    strcpy(directory, "/tmp/millrace-log-XXXXXX");
    cr_assert_not_null(mkdtemp(directory));
}

static void teardown(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", directory);
    must(system(command) == 0);
}

TestSuite(log, .init = setup, .fini = teardown, .timeout = 20);

static struct log *log_to(const struct log_options *o)
{
    struct log *l;
    char reason[512];
    cr_assert_eq(log_open(o, &l, reason, sizeof reason), ERR_OK, "%s", reason);
    return l;
}

static void path_of(char *out, const char *name)
{
    snprintf(out, 128, "%s/%s", directory, name);
}

static char *read_all(int fd)
{
    char *text = calloc(1, TEXT_BYTES);
    size_t at = 0;
    ssize_t n;
    while ((n = read(fd, text + at, TEXT_BYTES - 1 - at)) > 0) at += (size_t)n;
    return text;
}

static char *file_text(const char *path)
{
    int fd = open(path, O_RDONLY);
    cr_assert_geq(fd, 0);
    char *text = read_all(fd);
    close(fd);
    return text;
}

static void assert_matches(const char *text, const char *pattern)
{
    regex_t r;
    cr_assert_eq(regcomp(&r, pattern, REG_EXTENDED | REG_NOSUB | REG_NEWLINE), 0);
    cr_assert_eq(regexec(&r, text, 0, NULL, 0), 0, "%s does not match %s", text, pattern);
    regfree(&r);
}

static unsigned count_of(const char *text, const char *part)
{
    unsigned count = 0;
    for (text = strstr(text, part); text != NULL; text = strstr(text + 1, part)) count++;
    return count;
}

/* What the notes of lost lines say in all. A writer that was slow to begin tells of the first ones
 * while more are lost, and of those behind the lines that it takes next. */
static uint64_t told_as_lost(const char *text)
{
    uint64_t sum = 0, told;
    for (text = strstr(text, "[WRN] "); text != NULL; text = strstr(text + 1, "[WRN] ")) {
        cr_assert_eq(sscanf(text, "[WRN] %lu log lines dropped", &told), 1, "%.100s", text);
        sum += told;
    }
    return sum;
}

static unsigned files_in_directory(void)
{
    unsigned count = 0;
    DIR *d = opendir(directory);
    for (struct dirent *e = readdir(d); e != NULL; e = readdir(d)) count += e->d_name[0] != '.';
    closedir(d);
    return count;
}

Test(log, lines_look_like_those_of_nats_server)
{
    int pipes[2];
    cr_assert_eq(pipe(pipes), 0);
    struct log *l = log_to(&(struct log_options){.stderr_fd = pipes[1], .has_time = true});
    log_info(l, "Listening for client connections on %s:%d", "0.0.0.0", 4222);
    cr_assert_eq(log_start(l), ERR_OK);
    log_warn(l, "two");
    log_error(l, "three\n");
    log_debug(l, "not wanted");
    log_trace(l, "not wanted");
    log_fatal(l, "five");
    log_close(l);
    close(pipes[1]);
    char *text = read_all(pipes[0]), pattern[256];
    static const char time[] = "20[0-9]{2}/[0-9]{2}/[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{6}";
    snprintf(pattern, sizeof pattern,
             "^\\[%d\\] %s \\[INF\\] Listening for client connections on 0.0.0.0:4222$", getpid(),
             time);
    assert_matches(text, pattern);
    assert_matches(text, "\\[WRN\\] two$");
    assert_matches(text, "\\[ERR\\] three$");
    assert_matches(text, "\\[FTL\\] five$");
    cr_assert_eq(count_of(text, "\n"), 4);
    free(text);
}

Test(log, without_logtime_there_is_no_time)
{
    int pipes[2];
    char expected[64];
    cr_assert_eq(pipe(pipes), 0);
    struct log *l = log_to(&(struct log_options){.stderr_fd = pipes[1], .has_debug = true});
    log_debug(l, "x");
    log_close(l);
    close(pipes[1]);
    char *text = read_all(pipes[0]);
    snprintf(expected, sizeof expected, "[%d] [DBG] x\n", getpid());
    cr_assert_str_eq(text, expected);
    free(text);
}

/* JOURNAL_STREAM as systemd sets it for what fd is, its inode moved by off. */
static void name_journal(int fd, int off)
{
    struct stat st;
    char stream[64];
    cr_assert_eq(fstat(fd, &st), 0);
    snprintf(stream, sizeof stream, "%llu:%llu", (unsigned long long)st.st_dev,
             (unsigned long long)st.st_ino + (unsigned long long)off);
    setenv("JOURNAL_STREAM", stream, 1);
}

Test(log, the_journal_gets_priorities_and_keeps_the_time_itself)
{
    int pipes[2];
    char expected[512];
    cr_assert_eq(pipe(pipes), 0);
    name_journal(pipes[1], 0);
    struct log_options o = {
        .stderr_fd = pipes[1], .has_time = true, .has_debug = true, .has_trace = true};
    struct log *l = log_to(&o);
    log_info(l, "a");
    log_debug(l, "b");
    log_warn(l, "c");
    log_error(l, "d\n");
    log_fatal(l, "e\r\n<0>f");
    log_trace(l, "g");
    log_close(l);
    o.format = LOG_JSON;
    l = log_to(&o);
    log_error(l, "h\n<0>i");
    log_close(l);
    close(pipes[1]);
    char *text = read_all(pipes[0]);
    int pid = getpid();
    snprintf(expected, sizeof expected,
             "<6>[%d] [INF] a\n<7>[%d] [DBG] b\n<4>[%d] [WRN] c\n<3>[%d] [ERR] d\n"
             "<2>[%d] [FTL] e  <0>f\n<7>[%d] [TRC] g\n<3>{\"time\":\"",
             pid, pid, pid, pid, pid, pid);
    cr_expect(strncmp(text, expected, strlen(expected)) == 0, "%s", text);
    cr_expect_eq(count_of(text, "\n"), 7);
    free(text);
}

Test(log, a_stderr_that_is_not_the_journal_it_was_stays_as_it_is)
{
    int pipes[2];
    cr_assert_eq(pipe(pipes), 0);
    name_journal(pipes[1], 1);
    struct log *l = log_to(&(struct log_options){.stderr_fd = pipes[1], .has_time = true});
    log_info(l, "x");
    log_close(l);
    close(pipes[1]);
    char *text = read_all(pipes[0]);
    assert_matches(text, "^\\[[0-9]+\\] 20[0-9/]+ [0-9:.]+ \\[INF\\] x$");
    free(text);
}

Test(log, utc_time_is_that_of_the_clock)
{
    int pipes[2];
    char expected[64];
    setenv("TZ", "Asia/Kolkata", 1);
    cr_assert_eq(pipe(pipes), 0);
    struct log *l =
        log_to(&(struct log_options){.stderr_fd = pipes[1], .has_time = true, .is_utc = true});
    time_t before = time(NULL);
    log_info(l, "x");
    log_close(l);
    close(pipes[1]);
    char *text = read_all(pipes[0]);
    struct tm tm;
    gmtime_r(&before, &tm);
    strftime(expected, sizeof expected, "%Y/%m/%d %H:", &tm);
    cr_assert_not_null(strstr(text, expected), "%s", text);
    free(text);
}

Test(log, a_reader_that_never_reads_stops_nobody)
{
    int pipes[2];
    cr_assert_eq(pipe(pipes), 0);
    struct log *l = log_to(&(struct log_options){.stderr_fd = pipes[1]});
    cr_assert_eq(log_start(l), ERR_OK);
    char line[512];
    memset(line, 'x', sizeof line);
    for (int i = 0; i < 10000; i++) log_text(l, LOG_LABEL_INF, bytes_of(line, sizeof line));
    uint64_t dropped = log_dropped(l);
    cr_assert_gt(dropped, 0);
    cr_assert_not(log_flush(l, 10));

    /* Once somebody reads, the rest comes, and the number of lost lines. */
    cr_assert_eq(fcntl(pipes[0], F_SETFL, O_NONBLOCK), 0);
    char *text = calloc(1, 2 * TEXT_BYTES);
    size_t at = 0;
    for (int i = 0; i < 4000 && !log_flush(l, 1); i++) {
        ssize_t n;
        while ((n = read(pipes[0], text + at, 2 * TEXT_BYTES - 1 - at)) > 0) at += (size_t)n;
    }
    ssize_t n;
    while ((n = read(pipes[0], text + at, 2 * TEXT_BYTES - 1 - at)) > 0) at += (size_t)n;
    cr_assert_eq(told_as_lost(text), dropped);
    log_close(l);
    close(pipes[1]);
    cr_assert_eq(count_of(text, "[INF]"), 10000 - dropped);
    free(text);
}

/* The limit on a file's size stands for a full disk: it cuts a line, then takes nothing. */
Test(log, a_full_disk_tears_one_line_and_the_lost_ones_are_told)
{
    enum { LINES = 50, LINE_BYTES = 90, ROOM = 1000 };
    char path[128], line[LINE_BYTES];
    struct rlimit limit;
    path_of(path, "log");
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &limit), 0);
    rlim_t before = limit.rlim_cur;
    cr_assert_neq(signal(SIGXFSZ, SIG_IGN), SIG_ERR);
    struct log *l = log_to(&(struct log_options){.file = path, .stderr_fd = -1});
    cr_assert_eq(log_start(l), ERR_OK);
    memset(line, 'x', sizeof line);
    limit.rlim_cur = ROOM;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    for (int i = 0; i < LINES; i++) {
        log_text(l, LOG_LABEL_INF, bytes_of(line, sizeof line));
        cr_assert(log_flush(l, 5000));
    }
    limit.rlim_cur = before;
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    uint64_t dropped = log_dropped(l);
    log_info(l, "room again");
    log_close(l);

    char *text = file_text(path);
    uint64_t told = 0;
    char *note = strstr(text, "[WRN] ");
    cr_assert_not_null(note, "%s", text);
    cr_assert_eq(sscanf(note, "[WRN] %lu log lines dropped", &told), 1);
    cr_assert_eq(told, dropped);
    cr_assert_null(strstr(note + 1, "[WRN] "));
    cr_assert_not_null(strstr(text, "room again\n"));
    unsigned whole = 0, torn = 0;
    for (char *at = text; *at != 0; at = strchr(at, '\n') + 1) {
        size_t bytes = strcspn(at, "\n");
        cr_assert_eq(at[0], '[');
        cr_assert_null(memchr(at + 1, '[', 3), "two lines in one: %.200s", at);
        if (at == note || memmem(at, bytes, "[WRN]", 5) != NULL) continue;
        if (memmem(at, bytes, "room", 4) != NULL) continue;
        whole += bytes > LINE_BYTES;
        torn += bytes <= LINE_BYTES;
    }
    cr_assert_eq(torn, 1, "%s", text);
    cr_assert_eq(whole, LINES - told);
    free(text);
}

Test(log, close_does_not_wait_for_a_reader_for_ever)
{
    int pipes[2];
    cr_assert_eq(pipe(pipes), 0);
    struct log *l = log_to(&(struct log_options){.stderr_fd = pipes[1]});
    cr_assert_eq(log_start(l), ERR_OK);
    for (int i = 0; i < 20000; i++) log_info(l, "a line of some length, number %d", i);
    time_t before = time(NULL);
    log_close(l);
    cr_assert_leq(time(NULL) - before, 9);
    close(pipes[0]);
    close(pipes[1]);
}

struct logger {
    struct log *l;
    int number;
};

static void *log_much(void *context)
{
    struct logger *me = context;
    for (int i = 0; i < 1500; i++) log_info(me->l, "<%d:%d>", me->number, i);
    return NULL;
}

Test(log, threads_do_not_mix_their_lines)
{
    char path[128];
    path_of(path, "threads.log");
    struct log *l = log_to(&(struct log_options){.file = path, .has_time = true});
    cr_assert_eq(log_start(l), ERR_OK);
    pthread_t threads[3];
    struct logger loggers[3];
    for (int i = 0; i < 3; i++) {
        loggers[i] = (struct logger){l, i};
        pthread_create(&threads[i], NULL, log_much, &loggers[i]);
    }
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    log_close(l);
    char *text = file_text(path);
    int next[3] = {0}, number, index;
    unsigned lines = 0;
    for (char *at = strchr(text, '<'); at != NULL; at = strchr(at + 1, '<'), lines++) {
        cr_assert_eq(sscanf(at, "<%d:%d>\n", &number, &index), 2);
        cr_assert_eq(index, next[number]++);
    }
    cr_assert_eq(lines, 4500);
    free(text);
}

Test(log, a_full_file_is_rotated_and_old_ones_are_purged)
{
    char path[128], other[128];
    path_of(path, "server.log");
    path_of(other, "server.log.keep");
    close(open(other, O_CREAT | O_WRONLY, 0600));
    struct log *l =
        log_to(&(struct log_options){.file = path, .file_bytes_max = 600, .files_max = 3});
    cr_assert_eq(log_start(l), ERR_OK);
    for (int i = 0; i < 100; i++) log_info(l, "line %d of the test of the rotation", i);
    log_close(l);
    cr_assert_eq(files_in_directory(), 3 + 1, "the file, two older ones, and a foreign file");
    char *text = file_text(path);
    assert_matches(text, "\\[INF\\] Rotated log, backup saved as \"/tmp/.*server.log(\\.[0-9]{2,4})"
                         "{6}\\.[0-9]{9}\"$");
    assert_matches(text, "\\[INF\\] Purged log file \"server.log\\.");
    free(text);
}

Test(log, a_file_moved_away_is_opened_anew_on_demand)
{
    char path[128], moved[128];
    path_of(path, "a.log");
    path_of(moved, "b.log");
    struct log *l = log_to(&(struct log_options){.file = path});
    cr_assert_eq(log_start(l), ERR_OK);
    log_info(l, "before");
    cr_assert(log_flush(l, 10000));
    cr_assert_eq(rename(path, moved), 0);
    log_reopen(l);
    for (int i = 0; i < 2000 && access(path, F_OK) != 0; i++) usleep(1000);
    log_info(l, "after");
    log_close(l);
    char *old = file_text(moved), *new = file_text(path);
    cr_assert_not_null(strstr(old, "before"));
    cr_assert_null(strstr(old, "after"));
    cr_assert_not_null(strstr(new, "[INF] File log re-opened"));
    cr_assert_not_null(strstr(new, "after"));
    struct stat st;
    cr_assert_eq(stat(path, &st), 0);
    cr_assert_eq(st.st_mode & 0137, 0, "no more than 0640");
    free(old);
    free(new);
}

Test(log, a_reload_moves_the_log_elsewhere)
{
    char path[128], reason[512];
    int pipes[2];
    path_of(path, "new.log");
    cr_assert_eq(pipe(pipes), 0);
    struct log *l = log_to(&(struct log_options){.stderr_fd = pipes[1]});
    cr_assert_eq(log_start(l), ERR_OK);
    struct log_options next = {.file = path, .has_debug = true};
    cr_assert_eq(log_configure(l, &next, reason, sizeof reason), ERR_OK);
    log_debug(l, "to the file");
    log_close(l);
    char *text = file_text(path);
    cr_assert_not_null(strstr(text, "[DBG] to the file"));
    free(text);

    l = log_to(&(struct log_options){.stderr_fd = pipes[1]});
    next.file = "/nowhere/at/all.log";
    cr_assert_eq(log_configure(l, &next, reason, sizeof reason), ERR_IO);
    cr_assert_str_eq(reason, "error opening file: open /nowhere/at/all.log: "
                             "no such file or directory");
    log_close(l);
}

Test(log, remote_syslog_gets_datagrams_with_priority_host_and_tag)
{
    char path[128], url[160], text[512], pattern[256];
    path_of(path, "syslog.sock");
    snprintf(url, sizeof url, "unix://%s", path);
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    strcpy(a.sun_path, path);
    cr_assert_eq(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    struct log *l = log_to(&(struct log_options){.remote_syslog = url, .tag = "/bin/nats-server"});
    log_error(l, "trouble");
    ssize_t n = recv(fd, text, sizeof text - 1, 0);
    cr_assert_gt(n, 0);
    text[n] = 0;
    snprintf(pattern, sizeof pattern,
             "^<3>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}(Z|[+-][0-9]{2}:[0-9]{2}) [^ ]* "
             "nats-server\\[%d\\]: trouble$",
             getpid());
    assert_matches(text, pattern);
    log_close(l);
    close(fd);
}

Test(log, a_bad_syslog_address_is_told)
{
    char reason[512];
    struct log *l;
    struct log_options o = {.remote_syslog = "http://x:1"};
    cr_assert_eq(log_open(&o, &l, reason, sizeof reason), ERR_INVALID);
    cr_assert_str_eq(reason, "error invalid network type: \"http\"");
    o.remote_syslog = "udp://localhost";
    cr_assert_eq(log_open(&o, &l, reason, sizeof reason), ERR_INVALID);
    cr_assert_not_null(strstr(reason, "missing port in address"));
}

Test(log, a_very_long_line_is_cut)
{
    char path[128];
    path_of(path, "long.log");
    char *line = malloc(LOG_LINE_BYTES_MAX * 2);
    memset(line, 'y', LOG_LINE_BYTES_MAX * 2);
    struct log *l = log_to(&(struct log_options){.file = path});
    cr_assert_eq(log_start(l), ERR_OK);
    log_text(l, LOG_LABEL_INF, bytes_of(line, LOG_LINE_BYTES_MAX * 2));
    log_line(l, LOG_LABEL_INF, "%.*s", LOG_LINE_BYTES_MAX * 2, line);
    log_close(l);
    char *text = file_text(path);
    cr_assert_eq(count_of(text, "yyy...\n"), 2);
    cr_assert_leq(strlen(text), 2 * (LOG_LINE_BYTES_MAX + 64));
    free(text);
    free(line);
}

Test(log, lines_for_machines_are_bounded_too)
{
    int pipes[2];
    cr_assert_eq(pipe(pipes), 0);
    struct log *l =
        log_to(&(struct log_options){.stderr_fd = pipes[1], .has_time = true, .format = LOG_JSON});
    cr_assert_eq(log_start(l), ERR_OK);
    char text[8000];
    memset(text, 1, sizeof text); /* six bytes each */
    log_text(l, LOG_LABEL_INF, bytes_of(text, sizeof text));
    log_error(l, "two\n");
    log_close(l);
    close(pipes[1]);
    char *lines = read_all(pipes[0]), *second = strchr(lines, '\n') + 1;
    cr_assert_gt(second - lines, LOG_LINE_BYTES_MAX / 2);
    cr_assert_eq(memcmp(second - 6, "...\"}\n", 6), 0);
    assert_matches(second, "^\\{\"time\":\"20[^\"]*Z\",\"level\":\"ERR\",\"pid\":[0-9]+,"
                           "\"msg\":\"two\"\\}$");
    cr_assert_eq(count_of(lines, "\n"), 2);
    free(lines);
}
