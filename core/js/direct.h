/* Direct gets: which messages a request on $JS.API.DIRECT.GET selects, and the headers that each
 * answer carries. The caller reads the messages one by one and sends them. What takes long goes by
 * pieces (units of core/js/sieve).
 *
 *   status = direct_begin(...);             a status line instead of messages, or NULL
 *   direct_next(&d, &s, &left, &seq, &entry)
 *       DIRECT_MESSAGE: read it, then direct_write(...), send, and again
 *       DIRECT_AGAIN:   in another turn, with a new piece
 *       DIRECT_OVER:    direct_write_end(&d, &s, out): true: send it, too, without a body
 *   direct_end(&d)                          unless there was a status
 *
 * multi_last asks for the last message of each subject that one of its filters selects, as of a
 * sequence or a time; they come in order of sequences, at most DIRECT_MULTI_MAX of them. Where it
 * takes several pieces, it says what was there at the first; the newer message of a subject stands
 * in for one that has gone since. */
#ifndef CORE_JS_DIRECT_H
#define CORE_JS_DIRECT_H
#include "core/js/search.h"
#include "core/js/stream.h"

enum { DIRECT_MULTI_MAX = 1024 };

#define DIRECT_NOT_FOUND "NATS/1.0 404 Message Not Found\r\n\r\n"

enum direct_step { DIRECT_MESSAGE, DIRECT_AGAIN, DIRECT_OVER };

struct direct_found {
    uint64_t seq;
    uint32_t node;
};

/* While the subjects of multi_last are gathered. */
struct direct_gather {
    const struct bytes *filters; /* NULL: done, or another request */
    uint32_t filter_count, at;
    struct subject_index_rest rest;
    uint32_t cut_node; /* its messages are looked through below cut_seq; 0: none */
    uint64_t cut_seq;
    bool has_bound;    /* the request says up to where */
    uint32_t renewals; /* of the index, as it began */
};

struct direct {
    uint64_t seq; /* where to look next; 0: the last one of the subject */
    struct bytes last_by_subj, next_by_subj;
    const char *status; /* instead of an end: it came to nothing */
    struct search search;
    bool is_counting; /* pending is not known yet */
    uint64_t at;      /* up to here it was searched or counted; 0: not begun */
    struct subject_index_rest rest;
    uint64_t left;    /* messages to be sent at most */
    uint64_t pending; /* Nats-Num-Pending */
    uint64_t last_seq;
    uint64_t bytes_sent, bytes_max;
    uint32_t sent;
    bool is_batch, no_headers;
    struct direct_gather gather;
    struct direct_found *multi; /* in the arena; NULL: no multi_last */
    uint32_t multi_count, multi_at;
    uint64_t up_to_seq;
};

/* d is at its place until direct_end. key: of DIRECT.GET.<stream>.<key>, empty for the plain form.
 * arena keeps what the request needs. bytes_max: of a batch that says nothing. */
const char *direct_begin(struct direct *d, struct stream *s, struct arena *arena, struct bytes key,
                         struct bytes headers, struct bytes body, uint64_t bytes_max);
void direct_end(struct direct *d);
NODISCARD enum direct_step direct_next(struct direct *d, struct stream *s, uint32_t *left,
                                       uint64_t *seq, struct msgs_entry *entry);
/* The message that direct_next gave went before it was read: one that stands for it comes next. */
void direct_gone(struct direct *d);
/* The headers to send message r with. Without memory for them (out->is_failed) it is to be written
 * once more. */
void direct_write(struct direct *d, const struct stream *s, const struct record *r,
                  struct text *out);
/* False: nothing is to be sent. */
bool direct_write_end(const struct direct *d, struct text *out);

#endif
