/* Direct gets: which messages a request on $JS.API.DIRECT.GET selects, and the headers that each
 * answer carries. The caller reads the messages one by one and sends them.
 *
 *   status = direct_begin(...);             a status line instead of messages, or NULL
 *   while ((seq = direct_next(&d, &s, &entry)) != 0) read it, then direct_write(...) and send
 *   direct_write_end(&d, &s, out)           true: send it, too, without a body
 *
 * multi_last asks for the last message of each subject that one of its filters selects, as of a
 * sequence or a time; they come in order of sequences, at most DIRECT_MULTI_MAX of them. */
#ifndef CORE_JS_DIRECT_H
#define CORE_JS_DIRECT_H
#include "core/js/stream.h"

enum { DIRECT_MULTI_MAX = 1024 };

struct direct {
    uint64_t seq; /* where to look next; 0: the last one of the subject */
    struct bytes last_by_subj, next_by_subj;
    uint64_t left;    /* messages to be sent at most */
    uint64_t pending; /* Nats-Num-Pending */
    uint64_t last_seq;
    uint64_t bytes_sent, bytes_max;
    uint32_t sent;
    bool is_batch, no_headers;
    const uint64_t *multi; /* sequences, in the arena; NULL: no multi_last */
    uint32_t multi_count, multi_at;
    uint64_t up_to_seq;
};

/* key: of DIRECT.GET.<stream>.<key>, empty for the plain form. arena keeps what the request needs.
 * bytes_max: of a batch that says nothing. */
const char *direct_begin(struct direct *d, struct stream *s, struct arena *arena, struct bytes key,
                         struct bytes headers, struct bytes body, uint64_t bytes_max);
/* The sequence of the next message; 0: that was all. */
uint64_t direct_next(struct direct *d, struct stream *s, struct msgs_entry *entry);
/* The headers to send message r with. */
void direct_write(struct direct *d, const struct stream *s, const struct record *r,
                  struct text *out);
/* False: nothing is to be sent. */
bool direct_write_end(const struct direct *d, struct text *out);

#endif
