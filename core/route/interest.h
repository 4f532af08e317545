/* The interest index: who wants which subject. The one structure that shards share, and the one
 * file of core with atomics.
 *
 * One trie per account (an account is a small number, stable across reloads). The node of a
 * filter holds per shard a list of that shard's own subscriptions, which only that shard follows,
 * and, readable by all, a presence mark per shard and the member count of each queue group per
 * shard. Readers never block and never write shared memory: nodes are reclaimed by epochs, and
 * each turn of a shard is a quiescent point. Writers take the account's try-lock; on ERR_BUSY the
 * caller's connection parks until its next turn, nobody spins.
 *
 * Orders. Writer: the structure (release), then the generation of the filter's first-token bucket
 * (release), then retire. Reader: the generation (acquire) *before* walking, and compares that
 * value at each later use of what it found. A filter that begins with a wildcard bumps all
 * buckets. An epoch holds a reader off only while it is online.
 *
 * Subjects and filters given here are valid (core/route/subject) unless said otherwise. */
#ifndef CORE_ROUTE_INTEREST_H
#define CORE_ROUTE_INTEREST_H
#include "core/route/sub.h"

enum {
    INTEREST_SHARDS_MAX = 64,
    INTEREST_BUCKETS = 256,           /* generations per account, by hash of the first token */
    INTEREST_FILTER_BYTES_MAX = 4096, /* of a filter and of a queue name: a control line */
};

struct interest;         /* shared by all shards */
struct interest_account; /* one account's trie; lives as long as the interest */

/* mem is used under an internal lock, from every shard. seed: random, so that clients cannot choose
 * tokens whose hashes collide. */
NODISCARD enum err interest_open(struct mem *mem, uint32_t shard_count, uint64_t seed,
                                 struct interest **out);
/* All shards are offline and every sub is removed. */
void interest_close(struct interest *x);
/* That seed, for other tables that clients' words are keys of. */
uint64_t interest_seed(const struct interest *x);
/* Each shard names its pool once, before its first insert. */
void interest_attach(struct interest *x, uint32_t shard, struct sub_pool *subs);

/* Thread: the shard's own. Online comes first (seq_cst); offline while the shard sleeps;
 * quiesce once per turn, when no pointer into the index is held (route_cache keeps none). */
void interest_online(struct interest *x, uint32_t shard);
void interest_offline(struct interest *x, uint32_t shard);
void interest_quiesce(struct interest *x, uint32_t shard);

/* The trie of account number account, made at first use. ERR_MEMORY. ERR_BUSY: try again.
 * ERR_RANGE: above a million. */
NODISCARD enum err interest_account_of(struct interest *x, uint32_t account,
                                       struct interest_account **out);

/* Inserts a sub of this shard under filter, in group queue (empty: plain).
 * ERR_BUSY: another shard writes this account now; nothing changed, try in the next turn.
 * ERR_MEMORY: nothing changed. ERR_TOO_LONG: filter or queue beyond INTEREST_FILTER_BYTES_MAX. */
NODISCARD enum err interest_insert(struct interest *x, struct interest_account *a, uint32_t shard,
                                   struct bytes filter, struct bytes queue, uint32_t sub);
/* Removes it; s->place becomes 0. ERR_BUSY as above. Frees nothing that a route may still name:
 * the generation tells. */
NODISCARD enum err interest_remove(struct interest *x, struct interest_account *a, uint32_t shard,
                                   uint32_t sub);
/* The filter and the queue name of an inserted sub, written into room (4096 + 4096 bytes are
 * always enough, or ERR_FULL). For monitoring pages and permission re-checks. */
NODISCARD enum err interest_filter_of(const struct interest *x, const struct sub *s, char *room,
                                      size_t room_bytes, struct bytes *filter, struct bytes *queue);

/* Generation of the bucket of subject's first token (acquire). */
uint64_t interest_generation(const struct interest_account *a, struct bytes subject);
/* The same in two steps, for who keeps the bucket: it depends on the subject alone. */
uint32_t interest_bucket(const struct interest *x, struct bytes subject);
uint64_t interest_generation_at(const struct interest_account *a, uint32_t bucket);

/* What a subject resolves to, seen from one shard. */
struct route_group {
    struct bytes queue;       /* borrowed from the route */
    uint32_t members;         /* over all shards and all matching filters; > 0 */
    uint32_t local_first;     /* members of this shard: route->subs[local_first .. + local_count) */
    uint32_t local_count;     /* == by_shard[route->shard] */
    const uint32_t *by_shard; /* member count per shard, [shard_count]; borrowed from the route */
};

/* Immutable once built but for users, owned by the shard that built it. */
struct route {
    uint64_t generation;   /* of the bucket, sampled before the walk */
    uint64_t remote_plain; /* bit s: shard s (not this one) has plain subscriptions */
    uint32_t plain_count;  /* subs[0 .. plain_count): this shard's plain subscriptions */
    uint32_t group_count;
    uint32_t bytes;     /* of this allocation */
    uint32_t shard;     /* whose view */
    uint32_t users;     /* of the route cache: how often it is held */
    uint32_t looked_to; /* offset of the last token that anything in the index looks at */
    bool is_last_free;  /* the last token, whatever it is, makes no difference */
    struct sub *const *subs;
    const struct route_group *groups;
    /* arrays and queue names follow */
};

/* Walks the index for a literal subject (R3: groups of one name over all filters are merged, in
 * a stable order). subject may contain the characters * and > as tokens: a publish on such a
 * subject is legal, and they are ordinary tokens there. A subject with an empty token is legal too
 * and resolves to nobody, not even to > . The shard is online.
 * The route is allocated from mem (MEM_ROUTE); free it with route_free. ERR_MEMORY. */
NODISCARD enum err interest_resolve(struct interest *x, struct interest_account *a, uint32_t shard,
                                    struct mem *mem, struct bytes subject, struct route **out);
void route_free(struct mem *mem, struct route *r);
/* Does anything at all, in any shard, want this literal subject? The calling shard is online. */
bool interest_exists(struct interest *x, struct interest_account *a, struct bytes subject);
/* Is there a subscription with exactly this literal filter, in exactly this group (empty: plain)?
 * Those with wildcards do not count. The calling shard is online. */
bool interest_has(const struct interest *x, const struct interest_account *a, struct bytes filter,
                  struct bytes queue);

/* The shard wants to hear when subscriptions of the account come and go, or not any more. Who
 * inserts or removes asks for the watchers (a bit each) afterwards and tells them; who watches
 * looks at the index afterwards: one of both sees the other. */
void interest_watch(struct interest_account *a, uint32_t shard, bool is_on);
uint64_t interest_watchers(const struct interest_account *a);

/* For /subsz and metrics; approximate while writers run. */
struct interest_counts {
    uint64_t subscriptions, inserts, removes, matches, nodes, bytes;
    uint32_t max_fanout;
};
void interest_count(const struct interest *x, uint32_t account, struct interest_counts *out);
void interest_count_all(const struct interest *x, struct interest_counts *out);

#endif
