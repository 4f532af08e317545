#include "io/signals.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>
#include "core/base/bytes.h"
#include "io/sysinfo.h"

enum {
    PIDS_MAX = 1024,
    PID_DIGITS_MAX = 10,
    PID_FILE_BYTES = 64,
};

/* The name clients' tools and scripts know; a server started under its own name counts as well. */
static const char process_name[] = "nats-server";
static const char process_name_own[] = "millrace";

/* --- receiving --- */

static const struct {
    int number;
    const char *name;
} names[] = {
    {SIGINT, "interrupt"},
    {SIGTERM, "terminated"},
    {SIGHUP, "hangup"},
    {SIGUSR1, "user defined signal 1"},
    {SIGUSR2, "user defined signal 2"},
};

enum { NAME_COUNT = sizeof names / sizeof names[0] };

enum err signals_open(int *fd)
{
    sigset_t set;
    sigemptyset(&set);
    for (int i = 0; i < NAME_COUNT; i++) sigaddset(&set, names[i].number);
    if (pthread_sigmask(SIG_BLOCK, &set, NULL) != 0) return ERR_IO;
    if (signal(SIGPIPE, SIG_IGN) == SIG_ERR) return ERR_IO;
    /* A file that may not grow is an error of its writer, be it only the log. */
    if (signal(SIGXFSZ, SIG_IGN) == SIG_ERR) return ERR_IO;
    int new_fd = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (new_fd < 0) return ERR_IO;
    *fd = new_fd;
    return ERR_OK;
}

void signals_close(int fd)
{
    close(fd);
}

int signals_next(int fd)
{
    struct signalfd_siginfo info;
    ssize_t n;
    do {
        n = read(fd, &info, sizeof info);
    } while (n < 0 && errno == EINTR);
    return n == (ssize_t)sizeof info ? (int)info.ssi_signo : 0;
}

bool signals_end_waits(void)
{
    sigset_t set;
    return sigpending(&set) == 0 &&
           (sigismember(&set, SIGTERM) == 1 || sigismember(&set, SIGINT) == 1);
}

const char *signals_name(int number)
{
    for (int i = 0; i < NAME_COUNT; i++) {
        if (names[i].number == number) return names[i].name;
    }
    return "unknown";
}

/* --- sending --- */

static const struct {
    const char *command;
    int number;
} commands[] = {
    {"stop", SIGKILL},   {"quit", SIGINT},   {"term", SIGTERM},
    {"reopen", SIGUSR1}, {"reload", SIGHUP}, {"ldm", SIGUSR2},
};

static int number_of(struct bytes command)
{
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (bytes_equal(command, bytes_from_text(commands[i].command))) return commands[i].number;
    }
    return 0;
}

/* Whether process pid goes by one of our names. */
static bool is_server(const char *pid)
{
    char path[64], name[64];
    snprintf(path, sizeof path, "/proc/%.20s/comm", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = read(fd, name, sizeof name - 1);
    close(fd);
    if (n <= 0) return false;
    name[n] = 0;
    name[strcspn(name, "\n")] = 0;
    return strstr(name, process_name) != NULL || strcmp(name, process_name_own) == 0;
}

static int compare_pids(const void *a, const void *b)
{
    const pid_t *left = a, *right = b;
    return *left < *right ? -1 : *left > *right;
}

/* ERR_UNSUPPORTED: there is no /proc to search. */
static enum err find_pids(pid_t *pids, size_t *count)
{
    DIR *dir = opendir("/proc");
    if (dir == NULL) return ERR_UNSUPPORTED;
    size_t found = 0;
    for (struct dirent *e = readdir(dir); e != NULL && found < PIDS_MAX; e = readdir(dir)) {
        uint64_t pid;
        if (bytes_to_u64(bytes_from_text(e->d_name), PID_DIGITS_MAX, &pid) != ERR_OK) continue;
        if ((pid_t)pid == getpid() || !is_server(e->d_name)) continue;
        pids[found++] = (pid_t)pid;
    }
    closedir(dir);
    qsort(pids, found, sizeof pids[0], compare_pids);
    *count = found;
    return ERR_OK;
}

/* The text of a pid file where the argument is one, else the argument. Of an empty file, which a
 * full disk leaves behind, its name: that is no pid, while no text at all would mean any server. */
static struct bytes pid_expression(const char *argument, char file[PID_FILE_BYTES])
{
    int fd = open(argument, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO has nothing to say */
    if (fd < 0) return bytes_from_text(argument);
    ssize_t n = read(fd, file, PID_FILE_BYTES);
    close(fd);
    struct bytes text = bytes_trim(bytes_of(file, n < 0 ? 0 : (size_t)n));
    return text.len == 0 || n == PID_FILE_BYTES ? bytes_from_text(argument) : text;
}

struct target {
    struct bytes command;
    struct bytes digits; /* of the pid, or its first ones; may be empty */
    bool is_glob;
};

/* Sends to those of pids that the target means; collects failures in w. */
static void send_all(const struct target *t, int number, const pid_t *pids, size_t count,
                     struct writer *w)
{
    char why[SYSINFO_ERRNO_TEXT_BYTES], digits[BYTES_U64_TEXT_MAX];
    for (size_t i = 0; i < count; i++) {
        struct bytes pid = bytes_of(digits, bytes_u64_text(digits, (uint64_t)pids[i]));
        if (t->is_glob && !bytes_starts_with(pid, t->digits)) continue;
        if (kill(pids[i], number) == 0) continue;
        int failure = errno;
        writer_text(w, "\nsignal ");
        writer_quoted(w, t->command);
        writer_char(w, ' ');
        writer_bytes(w, pid);
        writer_text(w, ": ");
        writer_text(w, sysinfo_errno_text(failure, why));
    }
}

static enum err send_to(const struct target *t, struct writer *w)
{
    pid_t pids[PIDS_MAX];
    size_t count = 1;
    uint64_t pid = 0;
    if (t->digits.len > 0 &&
        (bytes_to_u64(t->digits, PID_DIGITS_MAX, &pid) != ERR_OK || pid == 0 || pid > INT32_MAX)) {
        writer_text(w, "invalid pid: ");
        writer_bytes(w, t->digits);
        return ERR_INVALID;
    }
    pids[0] = (pid_t)pid;
    if ((t->digits.len == 0 || t->is_glob) && find_pids(pids, &count) != ERR_OK) {
        writer_text(w, "unable to resolve pid, try providing one");
        return ERR_UNSUPPORTED;
    }
    if (count > 1 && !t->is_glob) {
        writer_text(w, "multiple nats-server processes running:");
        for (size_t i = 0; i < count; i++) {
            writer_char(w, '\n');
            writer_u64(w, (uint64_t)pids[i]);
        }
        return ERR_INVALID;
    }
    if (count == 0) {
        writer_text(w, "no nats-server processes running");
        return ERR_UNKNOWN;
    }
    int number = number_of(t->command);
    if (number == 0) {
        writer_text(w, "unknown signal ");
        writer_quoted(w, t->command);
        return ERR_INVALID;
    }
    send_all(t, number, pids, count, w);
    return w->len == 0 ? ERR_OK : ERR_IO;
}

enum err signals_send(const char *argument, char *reason, size_t reason_bytes)
{
    struct target t = {.command = bytes_from_text(argument)};
    char file[PID_FILE_BYTES];
    struct writer w;
    writer_init(&w, reason, reason_bytes - 1);
    enum err e = ERR_OK;
    const char *equals = strchr(argument, '=');
    const char *second = equals == NULL ? NULL : strchr(equals + 1, '=');
    if (second != NULL) {
        writer_text(&w, "invalid signal parameters: [");
        for (const char *at = second + 1; *at != 0; at++) writer_char(&w, *at == '=' ? ' ' : *at);
        writer_char(&w, ']');
        e = ERR_INVALID;
    } else {
        if (equals != NULL) {
            t.command = bytes_of(argument, (size_t)(equals - argument));
            t.digits = pid_expression(equals + 1, file);
        }
        t.is_glob = bytes_ends_with(t.digits, BYTES_LITERAL("*"));
        if (t.is_glob) t.digits.len--;
        e = send_to(&t, &w);
    }
    reason[w.len] = 0;
    return e;
}
