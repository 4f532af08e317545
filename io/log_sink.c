#include "io/log_sink.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include "core/base/must.h"
#include "io/log_format.h"
#include "io/sysinfo.h"

enum sink_kind { SINK_NONE, SINK_STDERR, SINK_FILE, SINK_SYSLOG };

enum {
    FILE_MODE = 0640,
    FILE_BATCH_BYTES = 64 * 1024,
    /* POLLOUT on a pipe promises room for PIPE_BUF bytes: a write of no more never waits. */
    STDERR_BATCH_BYTES = PIPE_BUF,
    SYSLOG_WAIT_MS = 1000,
    STAMP_BYTES = 64,
    FACILITY_DAEMON = 3 << 3,
};

struct log_sink {
    enum sink_kind kind;
    int fd; /* -1: none, or the connection is lost */
    bool has_time, is_utc, has_colours;
    bool is_journal; /* standard error is the journal of systemd */
    enum log_format format;
    int pid;
    /* broken-down time of the last line's second, since localtime_r is slow */
    time_t second;
    struct tm tm;
    /* file */
    char *path;
    bool is_torn;       /* it ends within a line: there was no room for the rest */
    uint64_t bytes;     /* in the file */
    uint64_t bytes_max; /* 0: no rotation */
    uint64_t files_max; /* 0: all are kept */
    /* syslog */
    char *network; /* "udp", "tcp", "unix"; NULL: the local daemon */
    char *host, *port;
    char *tag;
    char hostname[256];
};

static const char *const label_texts[] = {"INF", "DBG", "WRN", "ERR", "FTL", "TRC"};
static const char *const label_colours[] = {"32", "36", "0;93", "31", "31", "33"};
/* Severities as nats-server gives them: notice, debug, warning, error, critical, notice. */
static const int label_severities[] = {5, 7, 4, 3, 2, 5};
/* What the journal is told, where a notice is shown in bold and "-p info" leaves debugging out. */
static const int label_priorities[] = {6, 7, 4, 3, 2, 7};

/* --- file --- */

static enum err file_open(struct log_sink *s)
{
    int fd = open(s->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, FILE_MODE);
    if (fd < 0) return ERR_IO;
    struct stat st;
    if (fstat(fd, &st) != 0) {
        close(fd);
        return ERR_IO;
    }
    if (s->fd >= 0) close(s->fd);
    s->fd = fd;
    s->bytes = (uint64_t)st.st_size;
    s->is_torn = s->is_torn && s->bytes > 0;
    return ERR_OK;
}

/* How much of data is in the file. */
static size_t file_append(struct log_sink *s, const char *data, size_t bytes)
{
    size_t at = 0;
    while (at < bytes) {
        ssize_t n = write(s->fd, data + at, bytes - at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        at += (size_t)n;
    }
    s->bytes += at;
    if (at > 0) s->is_torn = data[at - 1] != '\n';
    return at;
}

/* A line that was cut off because the disk was full ends before the next one begins. */
static size_t file_write(struct log_sink *s, const char *data, size_t bytes)
{
    if (s->is_torn && file_append(s, "\n", 1) == 0) return 0;
    return file_append(s, data, bytes);
}

static void file_note(struct log_sink *s, enum log_label label, const char *before,
                      const char *name)
{
    char line[LOG_SINK_LINE_BYTES_MAX], text[PATH_MAX + 64];
    struct writer w;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    writer_init(&w, text, sizeof text);
    writer_text(&w, before);
    if (name != NULL) writer_quoted(&w, bytes_from_text(name));
    uint64_t now_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    (void)file_write(s, line,
                     log_sink_format(s, label, now_ns, writer_written(&w), line, sizeof line));
}

/* A rotated file ends in .YYYY.MM.DD.HH.MM.SS and a fraction. */
static bool is_stamp(const char *text)
{
    static const char shape[] = "dddd.dd.dd.dd.dd.dd.";
    size_t i;
    for (i = 0; shape[i] != 0; i++) {
        bool is_digit = text[i] >= '0' && text[i] <= '9';
        if (shape[i] == 'd' ? !is_digit : text[i] != '.') return false;
    }
    if (text[i] == 0) return false;
    for (; text[i] != 0; i++) {
        if (text[i] < '0' || text[i] > '9') return false;
    }
    return true;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

/* Removes the oldest rotated files until, with the current one, files_max are left. One scan per
 * file to remove: there is one as a rule. */
static void file_purge(struct log_sink *s)
{
    const char *base = base_name(s->path);
    size_t base_bytes = strlen(base);
    char directory[PATH_MAX], oldest[NAME_MAX + 1], path[PATH_MAX + NAME_MAX + 2];
    snprintf(directory, sizeof directory, "%.*s", (int)(base - s->path), s->path);
    if (directory[0] == 0) snprintf(directory, sizeof directory, "./");
    for (;;) {
        DIR *dir = opendir(directory);
        if (dir == NULL) {
            file_note(s, LOG_LABEL_ERR, "Unable to read the log directory for purge: ", directory);
            return;
        }
        uint64_t count = 0;
        oldest[0] = 0;
        for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) {
            if (strncmp(e->d_name, base, base_bytes) != 0 || e->d_name[base_bytes] != '.') continue;
            if (!is_stamp(e->d_name + base_bytes + 1)) continue;
            count++;
            if (oldest[0] == 0 || strcmp(e->d_name, oldest) < 0) {
                snprintf(oldest, sizeof oldest, "%s", e->d_name);
            }
        }
        closedir(dir);
        if (count + 1 <= s->files_max || count == 0) return;
        snprintf(path, sizeof path, "%s%s", directory, oldest);
        if (unlink(path) != 0) {
            file_note(s, LOG_LABEL_ERR, "Unable to remove backup log file ", oldest);
            return;
        }
        file_note(s, LOG_LABEL_INF, "Purged log file ", oldest);
    }
}

static void file_rotate(struct log_sink *s)
{
    struct timespec now;
    struct tm tm;
    char backup[PATH_MAX + STAMP_BYTES];
    clock_gettime(CLOCK_REALTIME, &now);
    localtime_r(&now.tv_sec, &tm);
    snprintf(backup, sizeof backup, "%s.%04d.%02d.%02d.%02d.%02d.%02d.%09ld", s->path,
             tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
             now.tv_nsec);
    if (rename(s->path, backup) != 0 || file_open(s) != ERR_OK) {
        /* Lines go on into the old file; the next try comes after as much again. */
        s->bytes = 0;
        file_note(s, LOG_LABEL_ERR, "Unable to rotate the log file ", s->path);
        return;
    }
    file_note(s, LOG_LABEL_INF, "Rotated log, backup saved as ", backup);
    if (s->files_max > 0) file_purge(s);
}

/* --- syslog --- */

static int unix_connect(const char *path, int type)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof a.sun_path) return -1;
    memcpy(a.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);
    if (fd < 0) return -1;
    if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0) return fd;
    close(fd);
    return -1;
}

static int unix_connect_any(const char *path)
{
    int fd = unix_connect(path, SOCK_DGRAM);
    return fd >= 0 ? fd : unix_connect(path, SOCK_STREAM);
}

/* Connects within SYSLOG_WAIT_MS. */
static int inet_connect(const char *host, const char *port, int type)
{
    struct addrinfo hints = {.ai_family = AF_UNSPEC, .ai_socktype = type}, *list = NULL;
    if (getaddrinfo(host, port, &hints, &list) != 0) return -1;
    int fd = -1;
    for (struct addrinfo *a = list; a != NULL && fd < 0; a = a->ai_next) {
        fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);
        if (fd < 0) continue;
        int failed = connect(fd, a->ai_addr, a->ai_addrlen) == 0 ? 0 : errno;
        if (failed == EINPROGRESS) {
            struct pollfd p = {.fd = fd, .events = POLLOUT};
            socklen_t bytes = sizeof failed;
            if (poll(&p, 1, SYSLOG_WAIT_MS) != 1 ||
                getsockopt(fd, SOL_SOCKET, SO_ERROR, &failed, &bytes) != 0) {
                failed = ETIMEDOUT;
            }
        }
        if (failed != 0) {
            close(fd);
            fd = -1;
        }
    }
    freeaddrinfo(list);
    return fd;
}

static enum err syslog_connect(struct log_sink *s)
{
    if (s->fd >= 0) close(s->fd);
    s->fd = -1;
    if (s->network == NULL) {
        static const char *const paths[] = {"/dev/log", "/var/run/syslog", "/var/run/log"};
        for (size_t i = 0; i < sizeof paths / sizeof paths[0] && s->fd < 0; i++) {
            s->fd = unix_connect_any(paths[i]);
        }
    } else if (strcmp(s->network, "unix") == 0) {
        s->fd = unix_connect_any(s->host);
    } else {
        int type = strcmp(s->network, "udp") == 0 ? SOCK_DGRAM : SOCK_STREAM;
        s->fd = inet_connect(s->host, s->port, type);
    }
    if (s->fd < 0) return ERR_IO;
    struct timeval wait = {.tv_sec = SYSLOG_WAIT_MS / 1000};
    /* Sends wait that long and no longer, so that the writer always comes back. */
    (void)fcntl(s->fd, F_SETFL, fcntl(s->fd, F_GETFL) & ~O_NONBLOCK);
    (void)setsockopt(s->fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof wait);
    return ERR_OK;
}

static enum err syslog_send(struct log_sink *s, struct bytes line)
{
    if (s->fd < 0 && syslog_connect(s) != ERR_OK) return ERR_IO;
    for (int attempt = 0; attempt < 2; attempt++) {
        ssize_t n = send(s->fd, line.data, line.len, MSG_NOSIGNAL);
        if (n == (ssize_t)line.len) return ERR_OK;
        if (n < 0 && errno == EMSGSIZE) return ERR_IO;
        if (syslog_connect(s) != ERR_OK) return ERR_IO;
    }
    return ERR_IO;
}

/* network://host:port or unix:///path into its parts. */
static enum err remote_split(struct log_sink *s, const char *url, char *reason, size_t reason_bytes)
{
    const char *rest = strstr(url, "://");
    s->network = rest == NULL ? NULL : strndup(url, (size_t)(rest - url));
    if (s->network == NULL || (strcmp(s->network, "udp") != 0 && strcmp(s->network, "tcp") != 0 &&
                               strcmp(s->network, "unix") != 0)) {
        snprintf(reason, reason_bytes, "error invalid network type: \"%s\"",
                 s->network == NULL ? "" : s->network);
        return ERR_INVALID;
    }
    rest += 3;
    if (strcmp(s->network, "unix") == 0) {
        s->host = strdup(rest);
        return s->host == NULL ? ERR_MEMORY : ERR_OK;
    }
    size_t bytes = strcspn(rest, "/?#");
    const char *colon = memrchr(rest, ':', bytes);
    if (colon == NULL || (rest[0] == '[' && memchr(colon, ']', bytes - (size_t)(colon - rest)))) {
        snprintf(reason, reason_bytes,
                 "error connecting to syslog: \"dial %s: address %.*s: missing port in address\"",
                 s->network, (int)bytes, rest);
        return ERR_INVALID;
    }
    s->port = strndup(colon + 1, bytes - (size_t)(colon - rest) - 1);
    bool is_bracketed = rest[0] == '[' && colon > rest + 1;
    s->host = is_bracketed ? strndup(rest + 1, (size_t)(colon - rest) - 2)
                           : strndup(rest, (size_t)(colon - rest));
    return s->host == NULL || s->port == NULL ? ERR_MEMORY : ERR_OK;
}

static enum err syslog_open(struct log_sink *s, const struct log_options *o, char *reason,
                            size_t reason_bytes)
{
    s->kind = SINK_SYSLOG;
    s->tag = strdup(base_name(o->tag == NULL ? "nats-server" : o->tag));
    if (s->tag == NULL) return ERR_MEMORY;
    if (gethostname(s->hostname, sizeof s->hostname - 1) != 0) s->hostname[0] = 0;
    if (o->remote_syslog != NULL && o->remote_syslog[0] != 0) {
        enum err e = remote_split(s, o->remote_syslog, reason, reason_bytes);
        if (e != ERR_OK) return e;
    }
    char why[SYSINFO_ERRNO_TEXT_BYTES];
    enum err e = syslog_connect(s);
    if (e != ERR_OK) {
        snprintf(reason, reason_bytes, "error connecting to syslog: \"%s\"",
                 s->network == NULL ? "Unix syslog delivery error"
                                    : sysinfo_errno_text(errno, why));
    }
    return e;
}

/* --- standard error --- */

/* systemd names the device and inode of what it connected; a shell between may have put something
 * else in its place, so the name alone proves nothing. */
static bool is_the_journal(const struct stat *st)
{
    unsigned long long device, inode;
    const char *name = getenv("JOURNAL_STREAM");
    return name != NULL && sscanf(name, "%llu:%llu", &device, &inode) == 2 &&
           device == st->st_dev && inode == st->st_ino;
}

static void stderr_open(struct log_sink *s, int fd)
{
    struct stat st;
    s->kind = SINK_STDERR;
    s->fd = fd;
    if (fstat(fd, &st) != 0) return;
    s->has_colours = S_ISCHR(st.st_mode);
    s->is_journal = is_the_journal(&st);
}

/* --- all --- */

enum err log_sink_open(const struct log_options *o, struct log_sink **out, char *reason,
                       size_t reason_bytes)
{
    struct log_sink *s = calloc(1, sizeof *s);
    if (s == NULL) return ERR_MEMORY;
    *s = (struct log_sink){
        .fd = -1, .has_time = o->has_time, .is_utc = o->is_utc, .pid = (int)getpid(), .second = -1};
    s->format = o->format;
    enum err e = ERR_OK;
    if (o->file != NULL && o->file[0] != 0) {
        s->kind = SINK_FILE;
        s->bytes_max = o->file_bytes_max;
        s->files_max = o->files_max;
        s->path = strdup(o->file);
        e = s->path == NULL ? ERR_MEMORY : file_open(s);
        if (e == ERR_IO) {
            char why[SYSINFO_ERRNO_TEXT_BYTES];
            snprintf(reason, reason_bytes, "error opening file: open %s: %s", o->file,
                     sysinfo_errno_text(errno, why));
        }
    } else if ((o->remote_syslog != NULL && o->remote_syslog[0] != 0) || o->has_syslog) {
        e = syslog_open(s, o, reason, reason_bytes);
    } else if (o->stderr_fd >= 0) {
        stderr_open(s, o->stderr_fd);
    }
    if (e != ERR_OK) {
        log_sink_close(s);
        return e;
    }
    /* A file that is too long already is rotated at once, as in nats-server. */
    if (s->kind == SINK_FILE && s->bytes_max > 0 && s->bytes > s->bytes_max) {
        file_note(s, LOG_LABEL_INF, "Rotating logfile...", NULL);
        file_rotate(s);
    }
    *out = s;
    return ERR_OK;
}

void log_sink_close(struct log_sink *s)
{
    if (s == NULL) return;
    if (s->fd >= 0 && s->kind != SINK_STDERR) close(s->fd);
    free(s->path);
    free(s->network);
    free(s->host);
    free(s->port);
    free(s->tag);
    free(s);
}

static const struct tm *broken_down(struct log_sink *s, time_t second, bool is_utc)
{
    if (second != s->second) {
        if (is_utc) {
            gmtime_r(&second, &s->tm);
        } else {
            localtime_r(&second, &s->tm);
        }
        s->second = second;
    }
    return &s->tm;
}

static size_t format_syslog_head(struct log_sink *s, enum log_label label, time_t second, char *out,
                                 size_t room)
{
    const struct tm *tm = broken_down(s, second, false);
    char stamp[STAMP_BYTES];
    int n;
    if (s->network == NULL) {
        strftime(stamp, sizeof stamp, "%b %e %H:%M:%S", tm);
        n = snprintf(out, room, "<%d>%s %s[%d]: ", FACILITY_DAEMON | label_severities[label], stamp,
                     s->tag, s->pid);
    } else {
        long offset = tm->tm_gmtoff / 60;
        strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", tm);
        size_t at = strlen(stamp);
        if (offset == 0) {
            snprintf(stamp + at, sizeof stamp - at, "Z");
        } else {
            long positive = offset < 0 ? -offset : offset;
            snprintf(stamp + at, sizeof stamp - at, "%c%02ld:%02ld", offset < 0 ? '-' : '+',
                     positive / 60, positive % 60);
        }
        n = snprintf(out, room, "<%d>%s %s %s[%d]: ", label_severities[label], stamp, s->hostname,
                     s->tag, s->pid);
    }
    return n < 0 ? 0 : (size_t)n < room ? (size_t)n : room - 1;
}

static size_t format_head(struct log_sink *s, enum log_label label, uint64_t time_ns, char *out,
                          size_t room)
{
    int n = snprintf(out, room, "[%d] ", s->pid);
    if (s->has_time && !s->is_journal) {
        const struct tm *tm = broken_down(s, (time_t)(time_ns / 1000000000u), s->is_utc);
        n += snprintf(out + n, room - (size_t)n, "%04d/%02d/%02d %02d:%02d:%02d.%06u ",
                      tm->tm_year + 1900, tm->tm_mon + 1, tm->tm_mday, tm->tm_hour, tm->tm_min,
                      tm->tm_sec, (unsigned)(time_ns % 1000000000u / 1000u));
    }
    if (s->has_colours) {
        n += snprintf(out + n, room - (size_t)n, "[\x1b[%sm%s\x1b[0m] ", label_colours[label],
                      label_texts[label]);
    } else {
        n += snprintf(out + n, room - (size_t)n, "[%s] ", label_texts[label]);
    }
    return (size_t)n;
}

/* Behind the head of a syslog line, which says when and who, if there is one. */
static size_t format_for_machines(struct log_sink *s, enum log_label label, uint64_t time_ns,
                                  struct bytes text, char *out, size_t room)
{
    bool has_head = s->kind == SINK_SYSLOG;
    while (text.len > 0 && text.data[text.len - 1] == '\n') text.len--;
    struct log_format_line line = {.level = label_texts[label],
                                   .pid = has_head ? 0 : s->pid,
                                   .time_ns = has_head || !s->has_time ? 0 : time_ns,
                                   .text = text};
    return s->format == LOG_JSON ? log_format_json(&line, out, room)
                                 : log_format_logfmt(&line, out, room);
}

/* A line within a text would be an entry of its own, without a priority or, where a client wrote
 * the text, with one of its choice. */
static void keep_one_line(char *text, size_t bytes)
{
    for (size_t i = 0; i + 1 < bytes; i++)
        if (text[i] == '\n' || text[i] == '\r') text[i] = ' ';
}

size_t log_sink_format(struct log_sink *s, enum log_label label, uint64_t time_ns,
                       struct bytes text, char *out, size_t room)
{
    must(room >= LOG_SINK_LINE_BYTES_MAX);
    /* Half of the spare room is for what stands before the text. */
    size_t head_room = (LOG_SINK_LINE_BYTES_MAX - LOG_LINE_BYTES_MAX) / 2;
    size_t n = 0;
    if (s->kind == SINK_SYSLOG)
        n = format_syslog_head(s, label, (time_t)(time_ns / 1000000000u), out, head_room);
    if (s->is_journal) n = (size_t)snprintf(out, head_room, "<%d>", label_priorities[label]);
    if (s->format != LOG_TEXT)
        return n +
               format_for_machines(s, label, time_ns, text, out + n, LOG_SINK_LINE_BYTES_MAX - n);
    if (s->kind != SINK_SYSLOG) n += format_head(s, label, time_ns, out + n, head_room - n);
    size_t text_bytes = text.len < LOG_LINE_BYTES_MAX ? text.len : LOG_LINE_BYTES_MAX;
    if (text_bytes > 0) memcpy(out + n, text.data, text_bytes);
    if (s->is_journal) keep_one_line(out + n, text_bytes);
    n += text_bytes;
    if (text_bytes == 0 || out[n - 1] != '\n') out[n++] = '\n';
    return n;
}

size_t log_sink_batch_max(const struct log_sink *s)
{
    switch (s->kind) {
    case SINK_STDERR: return STDERR_BATCH_BYTES;
    case SINK_SYSLOG: return 0; /* one line each */
    case SINK_FILE:
        if (s->bytes_max == 0 || s->bytes + FILE_BATCH_BYTES <= s->bytes_max) break;
        /* The file may pass its limit by one line only. */
        return s->bytes < s->bytes_max ? (size_t)(s->bytes_max - s->bytes) : 0;
    case SINK_NONE: break;
    }
    return FILE_BATCH_BYTES;
}

int log_sink_poll_fd(const struct log_sink *s)
{
    return s->kind == SINK_STDERR ? s->fd : -1;
}

enum err log_sink_write(struct log_sink *s, struct bytes lines, size_t *written)
{
    ssize_t n;
    switch (s->kind) {
    case SINK_STDERR:
        do {
            n = write(s->fd, lines.data,
                      lines.len < STDERR_BATCH_BYTES ? lines.len : STDERR_BATCH_BYTES);
        } while (n < 0 && errno == EINTR);
        if (n < 0 && errno == EAGAIN) n = 0;
        if (n < 0) return ERR_IO;
        *written = (size_t)n;
        return ERR_OK;
    case SINK_FILE:
        *written = file_write(s, lines.data, lines.len);
        if (s->bytes_max > 0 && s->bytes > s->bytes_max) file_rotate(s);
        return *written == lines.len ? ERR_OK : ERR_IO;
    case SINK_SYSLOG: {
        enum err e = syslog_send(s, lines);
        if (e == ERR_OK) *written = lines.len;
        return e;
    }
    case SINK_NONE: break;
    }
    *written = lines.len;
    return ERR_OK;
}

enum err log_sink_reopen(struct log_sink *s)
{
    return s->kind == SINK_FILE ? file_open(s) : ERR_UNSUPPORTED;
}
