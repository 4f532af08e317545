/* Where log lines end up: stderr, a file with rotation, or syslog (local or remote). Used by one
 * thread at a time: the log's writer, or whoever logs before it runs. */
#ifndef IO_LOG_SINK_H
#define IO_LOG_SINK_H
#include "io/log.h"

enum { LOG_SINK_LINE_BYTES_MAX = LOG_LINE_BYTES_MAX + 512 }; /* with all that stands before it */

struct log_sink;

/* As log_open. */
NODISCARD enum err log_sink_open(const struct log_options *o, struct log_sink **out, char *reason,
                                 size_t reason_bytes);
void log_sink_close(struct log_sink *s); /* may be NULL */

/* One line as this sink wants it at out[0..room), room >= LOG_SINK_LINE_BYTES_MAX. time_ns is
 * wall time. Returns its length, at least 1. */
size_t log_sink_format(struct log_sink *s, enum log_label label, uint64_t time_ns,
                       struct bytes text, char *out, size_t room);
/* How many bytes of lines one log_sink_write may get; a single line may always be longer. */
size_t log_sink_batch_max(const struct log_sink *s);
/* The descriptor to be polled for writing before log_sink_write; -1: no need to wait for it. */
int log_sink_poll_fd(const struct log_sink *s);
/* Writes what goes without waiting long; *written <= bytes.len. Whole lines go to files and
 * syslog. ERR_IO: these bytes are lost. */
NODISCARD enum err log_sink_write(struct log_sink *s, struct bytes lines, size_t *written);
/* Closes and opens the file. ERR_UNSUPPORTED: the sink is no file. ERR_IO: the old one stays. */
NODISCARD enum err log_sink_reopen(struct log_sink *s);

#endif
