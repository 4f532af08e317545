/* Permissions of a user: which subjects it may publish and subscribe to.
 *
 * Rules (nats-server 2.15): deny wins over allow; no allow list means everything; entries of
 * subscribe lists may name a queue ("subject queue"); a SUB must be covered by an allow entry
 * token by token; a wildcard or queue SUB that overlaps a deny is accepted and its denied
 * messages are left out at delivery. One difference, on the safe side: nats-server takes the
 * filter a.> as covered by the allow entry a.* and then delivers a.b.c; here such a SUB is
 * accepted too, but only what the allow list names is delivered.
 *
 * A perms object is compiled once from the configuration and immutable: all shards read it.
 * NULL stands for no restrictions in every function. Verdicts of publishes are cheap (a hash
 * look-up and a walk over the wildcard entries); callers cache them per subject. */
#ifndef CORE_AUTH_PERMS_H
#define CORE_AUTH_PERMS_H
#include <stdbool.h>
#include "core/base/bytes.h"
#include "core/base/mem.h"

enum {
    PERMS_RESPONSES_MAX_DEFAULT = 1,
    PERMS_FAULT_BYTES = 512,
    PERMS_REPLIES_MAX = 65536,     /* open reply permissions of one connection; the oldest goes */
    PERMS_REPLY_SUBJECT_MAX = 4096, /* a longer reply subject is never tracked */
};
#define PERMS_RESPONSES_TTL_DEFAULT_NS INT64_C(120000000000)

struct perms_list {
    const struct bytes *entries;
    uint32_t count;
};

struct perms_spec {
    struct perms_list publish_allow, publish_deny;     /* subjects */
    struct perms_list subscribe_allow, subscribe_deny; /* "subject" or "subject queue" */
    /* allow_responses. Without a publish allow list everything else is then denied. */
    bool has_responses;
    int64_t responses_max;    /* messages per reply subject; 0: default; negative: no limit */
    int64_t responses_ttl_ns; /* 0: default; negative: no limit */
};

struct perms;
/* Text for the configuration error; ends with a zero. */
struct perms_fault {
    char text[PERMS_FAULT_BYTES];
};

/* Copies everything it keeps. fault may be NULL.
 * ERR_INVALID: a bad subject, as in  subject "a..b" is not a valid subject . ERR_MEMORY. */
NODISCARD enum err perms_compile(struct mem *mem, const struct perms_spec *spec,
                                 struct perms **out, struct perms_fault *fault);
/* Checks the lists of a spec alone, with the texts above. */
NODISCARD enum err perms_check_list(struct perms_list list, bool allow_queue,
                                    struct perms_fault *fault);
void perms_free(struct mem *mem, struct perms *p); /* p may be NULL */
/* The lists as compiled, for pages and $SYS.REQ.USER.INFO; defaults are filled in. */
const struct perms_spec *perms_spec_of(const struct perms *p);
/* Same lists in the same order and same responses: a reload need not look at such a user. */
bool perms_equal(const struct perms *a, const struct perms *b);

/* A literal subject (characters * and > as tokens of a publish are ordinary). Does not know of
 * tracked replies: when it says no and perms_has_responses, ask perms_replies_take. */
bool perms_may_publish(const struct perms *p, struct bytes subject);

enum perms_verdict {
    PERMS_DENIED,
    PERMS_ALLOWED,
    PERMS_FILTERED, /* accepted; ask perms_may_deliver for each message */
};
/* filter is valid; queue is empty for a plain subscription. */
enum perms_verdict perms_may_subscribe(const struct perms *p, struct bytes filter,
                                       struct bytes queue);
/* May a message on subject go to a PERMS_FILTERED subscription with this queue? */
bool perms_may_deliver(const struct perms *p, struct bytes subject, struct bytes queue);

bool perms_has_responses(const struct perms *p);

/* Reply subjects that one connection may publish to because a message with that reply was
 * delivered to it. Bounded by PERMS_REPLIES_MAX: the oldest is forgotten when it is full. */
struct perms_replies;

/* seed: a secret, since it is others who choose the reply subjects. */
NODISCARD enum err perms_replies_open(struct mem *mem, uint64_t seed, struct perms_replies **out);
void perms_replies_close(struct perms_replies *r); /* r may be NULL */
/* A message with this reply was delivered; call only if perms_has_responses and the reply is not
 * allowed anyway. Starts its count and its time anew. now_ns: monotonic.
 * ERR_MEMORY, ERR_TOO_LONG: the permission is not given. */
NODISCARD enum err perms_replies_add(struct perms_replies *r, const struct perms *p,
                                     struct bytes reply, uint64_t now_ns);
/* Uses up one message of the permission; false: there is none (any more). */
bool perms_replies_take(struct perms_replies *r, const struct perms *p, struct bytes subject,
                        uint64_t now_ns);
uint32_t perms_replies_count(const struct perms_replies *r);

#endif
