/* Log lines for machines: the same facts as in nats-server's format, as JSON or logfmt.
 *
 *   {"time":"2026-11-21T09:10:11.123456Z","level":"INF","pid":7,"msg":"Server is ready"}
 *   time=2026-11-21T09:10:11.123456Z level=INF pid=7 msg="Server is ready"
 *
 * The time is UTC. A text is one value: what is not UTF-8 becomes U+FFFD, and one that does not
 * fit is cut between two characters and ends with "...", so that a line can always be parsed. */
#ifndef IO_LOG_FORMAT_H
#define IO_LOG_FORMAT_H
#include "io/log.h"

struct log_format_line {
    const char *level;
    int pid;           /* 0: left out, as is a time_ns of 0 */
    uint64_t time_ns;  /* wall time */
    struct bytes text; /* without an end of line */
};

enum { LOG_FORMAT_HEAD_BYTES = 128 }; /* all but the text never takes more */

/* Into out[0..room), room > LOG_FORMAT_HEAD_BYTES, newline and all. Returns the length. */
size_t log_format_json(const struct log_format_line *l, char *out, size_t room);
size_t log_format_logfmt(const struct log_format_line *l, char *out, size_t room);

#endif
