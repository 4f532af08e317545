/* One client connection: connect and log in, send, receive, answer the server's PINGs.
 *
 * Two ways to receive:
 *   counting  all messages of the connection have one known length on the wire (the stride), so
 *             only the first byte of each is looked at: the cheapest honest receiver.
 *   parsing   each message is cut into its parts and handed to a function.
 * A publisher sends from a tape (load_tape.h), everything else from the small queue `out`. What is
 * in `out` goes between two messages of the tape, never inside one.
 *
 * The socket never blocks; the functions named _wait poll until they are done or out of time.
 * A connection belongs to one thread. */
#ifndef BENCH_LOAD_CONN_H
#define BENCH_LOAD_CONN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bench/load_opts.h"
#include "bench/load_tape.h"
#include "core/base/err.h"

enum {
    LOAD_CONN_LINE_MAX = 1024,            /* kept part of a line that is no message */
    LOAD_CONN_READ_BYTES = 256 * 1024,    /* one receive */
    LOAD_CONN_WRITE_BYTES = 64 * 1024,    /* one send from a tape */
    LOAD_CONN_OUT_MAX = 64 * 1024 * 1024, /* more waiting than this is a mistake of the workload */
};

struct load_message {
    const char *subject;
    const char *reply; /* NULL without one */
    const uint8_t *payload;
    uint64_t sid;
    uint32_t subject_bytes;
    uint32_t reply_bytes;
    uint32_t payload_bytes;
    uint32_t header_bytes; /* 0 without headers; then payload begins behind them */
    uint64_t now_ns;       /* when the bytes were read */
};

struct load_conn;
typedef void (*load_conn_message_fn)(struct load_conn *conn, const struct load_message *message);

struct load_bytes {
    uint8_t *data;
    size_t begin; /* first byte that is not sent or parsed yet */
    size_t end;
    size_t size;
};

struct load_conn {
    int fd; /* -1 when closed */
    uint32_t index;
    bool wants_write; /* registered for EPOLLOUT */
    bool failed;      /* closed by the server, or -ERR */
    uint64_t skip_bytes;
    uint64_t stride_bytes; /* counting: length of each message; 0: none is expected */
    struct load_bytes in;  /* parsing: what is not a whole message yet */
    struct load_bytes out;
    char *line; /* LOAD_CONN_LINE_MAX; begins an INFO, PING, PONG, +OK or -ERR */
    uint32_t line_bytes;
    uint64_t messages; /* received whole */
    uint64_t pongs;
    uint64_t infos;                  /* a client logs in behind the first */
    uint64_t errors;                 /* bytes out of step, messages that failed a check */
    load_conn_message_fn on_message; /* NULL: counting */
    void *owner;                     /* of on_message */
    struct load_pub *pub;            /* NULL: no publisher */
    char error[128];                 /* the first thing that went wrong */
    char server_version[32];
    char server_name[64];
};

/* Opens, logs in and waits for the first PONG. ERR_IO or ERR_TIMEOUT with conn->error filled;
 * then conn holds nothing. source, an IPv4 address or NULL, is bound first: one source address
 * has only some 28,000 ports towards one server. */
NODISCARD enum err load_conn_open(struct load_conn *conn, const struct load_opts *opts,
                                  const char *source);

/* Begins to open: socket and a connect under way. For storms, which do the rest by events. */
NODISCARD enum err load_conn_begin(struct load_conn *conn, const struct load_opts *opts,
                                   const char *source);

void load_conn_close(struct load_conn *conn);

/* Puts CONNECT with the credentials of opts and a PING into `out`. */
void load_conn_login(struct load_conn *conn, const struct load_opts *opts);

/* Puts bytes or text into `out`; nothing is sent yet. */
void load_conn_put(struct load_conn *conn, const void *bytes, size_t count);
void load_conn_putf(struct load_conn *conn, const char *format, ...) PRINTF_LIKE(2, 3);

/* Sends what the socket takes: `out`, then the tape. Sets conn->failed when the server is gone. */
void load_conn_write(struct load_conn *conn);

/* True while there is something that load_conn_write could send. */
bool load_conn_has_output(const struct load_conn *conn);

/* Receives into buffer (LOAD_CONN_READ_BYTES, shared by the connections of a thread) while it comes
 * back full, a bounded number of times, and handles what came. Sets conn->failed at the end of the
 * connection or an -ERR. */
void load_conn_read(struct load_conn *conn, uint8_t *buffer);

/* Sends `out` and a PING, waits for the PONG: everything before is in force at the server. */
NODISCARD enum err load_conn_flush_wait(struct load_conn *conn, uint64_t timeout_ns);

/* Marks the connection as failed and keeps the first reason. */
void load_conn_fail(struct load_conn *conn, const char *format, ...) PRINTF_LIKE(2, 3);

#endif
