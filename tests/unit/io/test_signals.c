#include <criterion/criterion.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "io/pidfile.h"
#include "io/signals.h"

TestSuite(signals, .timeout = 20);
TestSuite(pidfile, .timeout = 20);

Test(signals, what_is_sent_is_read_and_named)
{
    int fd;
    cr_assert_eq(signals_open(&fd), ERR_OK);
    cr_assert_eq(signals_next(fd), 0);
    kill(getpid(), SIGHUP);
    kill(getpid(), SIGPIPE);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    cr_assert_eq(poll(&p, 1, 1000), 1);
    int number = signals_next(fd);
    cr_assert_eq(number, SIGHUP);
    cr_assert_str_eq(signals_name(number), "hangup");
    cr_assert_eq(signals_next(fd), 0);
    kill(getpid(), SIGUSR2);
    cr_assert_eq(signals_next(fd), SIGUSR2);
    cr_assert_str_eq(signals_name(SIGUSR2), "user defined signal 2");
    cr_assert_str_eq(signals_name(SIGINT), "interrupt");
    cr_assert_str_eq(signals_name(SIGTERM), "terminated");
    signals_close(fd);
}

Test(signals, an_end_that_waits_is_seen_and_left_there)
{
    static const int ends[] = {SIGINT, SIGTERM};
    int fd;
    cr_assert_eq(signals_open(&fd), ERR_OK);
    kill(getpid(), SIGHUP);
    kill(getpid(), SIGUSR2);
    cr_assert_not(signals_end_waits());
    while (signals_next(fd) != 0) continue;
    for (int i = 0; i < 2; i++) {
        kill(getpid(), ends[i]);
        cr_assert(signals_end_waits());
        cr_assert_eq(signals_next(fd), ends[i]);
        cr_assert_not(signals_end_waits());
    }
    signals_close(fd);
}

/* A child that goes by the given process name and sleeps. */
static pid_t sleeper(const char *name)
{
    int ready[2];
    char byte;
    cr_assert_eq(pipe(ready), 0);
    pid_t pid = fork();
    if (pid == 0) {
        prctl(PR_SET_NAME, name);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (write(ready[1], "x", 1) != 1) _exit(1);
        for (;;) pause();
    }
    cr_assert_eq(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    close(ready[1]);
    return pid;
}

static int end_of(pid_t pid)
{
    int status;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

Test(signals, every_command_has_its_signal)
{
    static const struct {
        const char *command;
        int number;
    } cases[] = {{"stop", SIGKILL},   {"quit", SIGINT},   {"term", SIGTERM},
                 {"reopen", SIGUSR1}, {"reload", SIGHUP}, {"ldm", SIGUSR2}};
    char argument[64], reason[SIGNALS_REASON_BYTES];
    for (int i = 0; i < 6; i++) {
        pid_t pid = sleeper("some-process");
        snprintf(argument, sizeof argument, "%s=%d", cases[i].command, pid);
        cr_assert_eq(signals_send(argument, reason, sizeof reason), ERR_OK, "%s", reason);
        cr_assert_eq(end_of(pid), cases[i].number);
    }
}

/* Whether no other process has a pid that begins with these digits: a test must not end servers
 * that others run on this machine. */
static bool is_no_beginning(pid_t pid)
{
    char digits[16];
    bool is_alone = true;
    int n = snprintf(digits, sizeof digits, "%d", pid);
    DIR *dir = opendir("/proc");
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
        if (strncmp(e->d_name, digits, (size_t)n) == 0 && e->d_name[n] != 0) is_alone = false;
    }
    closedir(dir);
    return is_alone;
}

Test(signals, a_pid_may_come_from_a_file_or_be_a_beginning)
{
    char path[] = "/tmp/millrace-pid-XXXXXX", argument[64], reason[SIGNALS_REASON_BYTES];
    pid_t pid = sleeper("some-process");
    int fd = mkstemp(path);
    dprintf(fd, "%d\n", pid);
    close(fd);
    snprintf(argument, sizeof argument, "term=%s", path);
    cr_assert_eq(signals_send(argument, reason, sizeof reason), ERR_OK, "%s", reason);
    cr_assert_eq(end_of(pid), SIGTERM);
    unlink(path);

    /* With a star only servers of that beginning are meant. */
    pid = sleeper("nats-server");
    pid_t stranger = sleeper("some-process");
    if (is_no_beginning(pid) && is_no_beginning(stranger)) {
        snprintf(argument, sizeof argument, "quit=%d*", stranger);
        (void)!signals_send(argument, reason, sizeof reason);
        cr_assert_eq(kill(stranger, 0), 0, "no server, so left alone");
        snprintf(argument, sizeof argument, "quit=%d*", pid);
        cr_assert_eq(signals_send(argument, reason, sizeof reason), ERR_OK, "%s", reason);
    } else {
        kill(pid, SIGINT);
    }
    cr_assert_eq(end_of(pid), SIGINT);
    kill(stranger, SIGKILL);
    end_of(stranger);
}

/* Not even when it is the only server. */
Test(signals, a_file_without_a_pid_means_nobody)
{
    static const char *const texts[] = {"", "\n", "-1", "0", "1x", "99999999999"};
    char path[] = "/tmp/millrace-pid-XXXXXX", argument[64], reason[SIGNALS_REASON_BYTES];
    pid_t pid = sleeper("nats-server");
    int fd = mkstemp(path);
    snprintf(argument, sizeof argument, "term=%s", path);
    for (size_t i = 0; i <= sizeof texts / sizeof texts[0]; i++) {
        if (i < sizeof texts / sizeof texts[0]) {
            cr_assert_eq(ftruncate(fd, 0), 0);
            cr_assert_eq(pwrite(fd, texts[i], strlen(texts[i]), 0), strlen(texts[i]));
        } else {
            unlink(path);
            cr_assert_eq(mkfifo(path, 0600), 0);
        }
        cr_assert_eq(signals_send(argument, reason, sizeof reason), ERR_INVALID);
        cr_assert_eq(strncmp(reason, "invalid pid: ", 13), 0, "%s", reason);
    }
    close(fd);
    unlink(path);
    cr_assert_eq(kill(pid, SIGKILL), 0);
    cr_assert_eq(end_of(pid), SIGKILL);
}

Test(signals, several_servers_are_listed_not_signalled)
{
    char reason[SIGNALS_REASON_BYTES], line[32];
    pid_t first = sleeper("nats-server"), second = sleeper("nats-server");
    cr_assert_eq(signals_send("reload", reason, sizeof reason), ERR_INVALID);
    cr_assert_eq(strncmp(reason, "multiple nats-server processes running:\n", 40), 0, "%s", reason);
    snprintf(line, sizeof line, "\n%d", first);
    cr_assert_not_null(strstr(reason, line));
    snprintf(line, sizeof line, "\n%d", second);
    cr_assert_not_null(strstr(reason, line));
    kill(first, SIGKILL);
    kill(second, SIGKILL);
    end_of(first);
    end_of(second);
}

Test(signals, mistakes_are_told_as_nats_server_does)
{
    char reason[SIGNALS_REASON_BYTES], argument[64], expected[128];
    cr_assert_eq(signals_send("reload=abc", reason, sizeof reason), ERR_INVALID);
    cr_assert_str_eq(reason, "invalid pid: abc");
    cr_assert_eq(signals_send("reload=-1", reason, sizeof reason), ERR_INVALID);
    cr_assert_eq(signals_send("reload=0", reason, sizeof reason), ERR_INVALID);
    cr_assert_eq(signals_send("a=b=c=d", reason, sizeof reason), ERR_INVALID);
    cr_assert_str_eq(reason, "invalid signal parameters: [c d]");
    snprintf(argument, sizeof argument, "dance=%d", getpid());
    cr_assert_eq(signals_send(argument, reason, sizeof reason), ERR_INVALID);
    cr_assert_str_eq(reason, "unknown signal \"dance\"");
    pid_t pid = sleeper("some-process");
    kill(pid, SIGKILL);
    end_of(pid);
    snprintf(argument, sizeof argument, "reload=%d", pid);
    cr_assert_eq(signals_send(argument, reason, sizeof reason), ERR_IO);
    snprintf(expected, sizeof expected, "\nsignal \"reload\" %d: no such process", pid);
    cr_assert_str_eq(reason, expected);
}

static void read_file(const char *path, char *text, size_t room)
{
    int fd = open(path, O_RDONLY);
    cr_assert_geq(fd, 0);
    ssize_t n = read(fd, text, room - 1);
    text[n] = 0;
    close(fd);
}

Test(pidfile, holds_digits_only_and_is_private)
{
    char directory[] = "/tmp/millrace-pid-XXXXXX", path[64], text[64], expected[64], reason[256];
    cr_assert_not_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/pid", directory);
    umask(0);
    cr_assert_eq(pidfile_write(path, reason, sizeof reason), ERR_OK);
    cr_assert_eq(pidfile_write(path, reason, sizeof reason), ERR_OK);
    read_file(path, text, sizeof text);
    snprintf(expected, sizeof expected, "%d", getpid());
    cr_assert_str_eq(text, expected);
    struct stat st;
    stat(path, &st);
    cr_assert_eq(st.st_mode & 0777, 0600);
    unlink(path);
    rmdir(directory);
    cr_assert_eq(pidfile_write("/nowhere/pid", reason, sizeof reason), ERR_IO);
    cr_assert_str_eq(reason, "open /nowhere/pid: no such file or directory");
}

Test(pidfile, ports_are_json_under_the_name_that_clients_look_for)
{
    char directory[] = "/tmp/millrace-ports-XXXXXX", path[PIDFILE_PATH_BYTES], text[512];
    char expected[128], reason[256];
    cr_assert_not_null(mkdtemp(directory));
    cr_assert_eq(pidfile_ports_path(directory, "./bin/nats-server", path), ERR_OK);
    snprintf(expected, sizeof expected, "%s/nats-server_%d.ports", directory, getpid());
    cr_assert_str_eq(path, expected);
    struct pidfile_ports ports = {
        .nats = {{"nats://127.0.0.1:4222", "nats://[::1]:4222"}, 2},
        .monitoring = {{"http://127.0.0.1:8222"}, 1},
    };
    cr_assert_eq(pidfile_ports_write(path, &ports, reason, sizeof reason), ERR_OK);
    read_file(path, text, sizeof text);
    cr_assert_str_eq(text, "{\"nats\":[\"nats://127.0.0.1:4222\",\"nats://[::1]:4222\"],"
                           "\"monitoring\":[\"http://127.0.0.1:8222\"]}");
    pidfile_ports_remove(path);
    cr_assert_eq(rmdir(directory), 0, "nothing is left");
    cr_assert_eq(pidfile_ports_write("/nowhere/x", &ports, reason, sizeof reason), ERR_IO);
}
