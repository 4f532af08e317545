/* Parser of the verbs that a client may send (NATS client protocol, spec: nats-server 2.15).
 *
 * One call looks at contiguous received bytes and yields at most one operation; slices in it point
 * into those bytes. The parser keeps no state: when an operation is not complete yet, the caller
 * keeps its first bytes (client/carry) and calls again with more. So the result cannot depend on
 * how bytes were split into reads (rule R6); a verb that can never become valid is refused at its
 * first wrong byte, as nats-server does. Asserts nothing about its input. */
#ifndef CORE_PROTO_NATS_PARSE_H
#define CORE_PROTO_NATS_PARSE_H
#include "core/base/bytes.h"

enum nats_verb {
    NATS_CONNECT,
    NATS_PUB, /* and HPUB: has_headers tells */
    NATS_SUB,
    NATS_UNSUB,
    NATS_PING,
    NATS_PONG,
    NATS_OK,
    NATS_ERR,
    NATS_INFO,
};

struct nats_op {
    enum nats_verb verb;
    bool has_headers; /* HPUB; header_bytes may still be 0 */
    uint32_t header_bytes;
    uint32_t total_bytes; /* headers and payload, without the last CRLF */
    struct bytes arg;     /* CONNECT, INFO, -ERR: the argument; empty otherwise */
    struct bytes subject; /* PUB, SUB */
    struct bytes reply;   /* PUB; empty when absent */
    struct bytes queue;   /* SUB; empty when absent */
    struct bytes sid;     /* SUB, UNSUB */
    int64_t max;          /* UNSUB: -1 absent or not a number */
    const char *payload;  /* PUB: headers first; total_bytes and CRLF */
    /* PUB: "[reply ][header_bytes ]total_bytes\r\n" headers payload "\r\n" in one piece, as a MSG
     * or HMSG needs it, if the sender wrote it with single spaces and CRLF; else data is NULL. */
    struct bytes tail;
};

/* However long a line may be: no subject, reply, queue or sid is longer. What holds them relies on
 * it; max_control_line is raised for CONNECT. */
enum { NATS_ARG_BYTES_MAX = 4096 };

enum nats_status {
    NATS_DONE,        /* *op is complete; *used bytes belong to it */
    NATS_MORE,        /* incomplete; *used = bytes the whole operation will take if known, else 0 */
    NATS_SKIP_MORE,   /* PING, PONG or +OK whose line end is not there yet; bytes after the verb do
                         not matter: keep the first *used bytes only */
    NATS_BAD_VERB,    /* "Unknown Protocol Operation" and close */
    NATS_BAD_ARGS,    /* close without -ERR (Protocol Violation) */
    NATS_LINE_LONG,   /* "maximum control line exceeded" and close */
    NATS_PAYLOAD_BIG, /* "Maximum Payload Violation" and close; op->total_bytes is set */
};

struct nats_limits {
    uint32_t control_line_max; /* bytes of the argument part */
    int32_t payload_max;       /* bytes with headers; -1 none */
    bool headers_allowed;      /* negotiated in CONNECT */
};

enum nats_status nats_parse(const struct nats_limits *limits, const char *data, size_t len,
                            struct nats_op *op, size_t *used);

/* At most 9 digits, as nats-server reads sizes; -1 for anything else. */
int64_t nats_parse_size(struct bytes text);

#endif
