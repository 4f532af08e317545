/* Log lines in nats-server's format: `[pid] 2026/11/21 09:10:11.123456 [INF] text`.
 *
 * Nobody who logs ever waits for the disk or for a reader of stderr: a line is formatted into a
 * bounded lock-free ring and a writer thread of its own carries it to stderr, a file or syslog.
 * When the ring is full the line is dropped and counted; the writer logs the count as soon as it
 * can write again. Before log_start and after log_close lines are written directly.
 *
 * Any thread may log. open, start, configure and close belong to the main thread. The text goes
 * out as it is (nats-server escapes nothing either) and ends with one newline. */
#ifndef IO_LOG_H
#define IO_LOG_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/base/bytes.h"
#include "core/base/err.h"

enum {
    LOG_LINE_BYTES_MAX = 16 * 1024,  /* a longer text is cut and ends with "..." */
    LOG_RING_BYTES = 1024 * 1024,    /* some thousand lines; a power of two */
    LOG_CLOSE_WAIT_MS = 1000,        /* how long close and fatal lines wait for the sink */
};

enum log_label {
    LOG_LABEL_INF,
    LOG_LABEL_DBG,
    LOG_LABEL_WRN,
    LOG_LABEL_ERR,
    LOG_LABEL_FTL,
    LOG_LABEL_TRC,
};

/* How a line looks: as nats-server's, or for machines (io/log_format). */
enum log_format { LOG_TEXT, LOG_JSON, LOG_LOGFMT };

/* Where lines go: file, else remote_syslog, else syslog, else stderr_fd. Texts are copied. */
struct log_options {
    const char *file;          /* NULL or "": none */
    uint64_t file_bytes_max;   /* rotated above this; 0: never */
    uint64_t files_max;        /* this file and its rotated copies; 0: all are kept */
    const char *remote_syslog; /* udp://host:port, tcp://host:port, unix:///path; NULL: none */
    bool has_syslog;
    const char *tag;           /* program name for syslog */
    int stderr_fd;             /* 2; -1: no output at all */
    bool has_time;             /* logtime */
    bool is_utc;               /* logtime_utc */
    bool has_debug, has_trace;
    enum log_format format;
};

struct log;

/* Opens the sink. On failure reason says which file or address and why.
 * ERR_IO: it cannot be opened or reached; ERR_INVALID: a remote address of an unknown kind. */
NODISCARD enum err log_open(const struct log_options *o, struct log **out, char *reason,
                            size_t reason_bytes);
/* Starts the writer thread. Until then each call writes by itself. */
NODISCARD enum err log_start(struct log *l);
/* Writes what waits (at most LOG_CLOSE_WAIT_MS), ends the thread, closes the sink. l may be NULL:
 * nothing happens. */
void log_close(struct log *l);

/* Another sink or other flags (reload). As log_open on failure; the old sink stays then. */
NODISCARD enum err log_configure(struct log *l, const struct log_options *o, char *reason,
                                 size_t reason_bytes);
/* Closes and opens the log file, for those who have moved it away (SIGUSR1). Asynchronous; the
 * outcome is a log line. */
void log_reopen(struct log *l);

/* Whether a line of that label would be written: asked before costly formatting. */
bool log_wants(const struct log *l, enum log_label label);
/* One line, formatted. LOG_LABEL_FTL waits until it is written; ending the process is up to the
 * caller. l may be NULL: nothing happens. */
void log_line(struct log *l, enum log_label label, const char *format, ...) PRINTF_LIKE(3, 4);
/* One line that is text already. */
void log_text(struct log *l, enum log_label label, struct bytes text);

#define log_info(l, ...) log_line((l), LOG_LABEL_INF, __VA_ARGS__)
#define log_warn(l, ...) log_line((l), LOG_LABEL_WRN, __VA_ARGS__)
#define log_error(l, ...) log_line((l), LOG_LABEL_ERR, __VA_ARGS__)
#define log_fatal(l, ...) log_line((l), LOG_LABEL_FTL, __VA_ARGS__)
#define log_debug(l, ...) \
    (log_wants((l), LOG_LABEL_DBG) ? log_line((l), LOG_LABEL_DBG, __VA_ARGS__) : (void)0)
#define log_trace(l, ...) \
    (log_wants((l), LOG_LABEL_TRC) ? log_line((l), LOG_LABEL_TRC, __VA_ARGS__) : (void)0)

/* Lines dropped since the start because the ring was full. */
uint64_t log_dropped(const struct log *l);
/* Waits until all lines so far are written, at most timeout_ms; false when they are not. */
bool log_flush(struct log *l, uint32_t timeout_ms);

#endif
