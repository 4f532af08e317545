/* The consumers of one stream: by name and by number, what CONSUMER.CREATE may do with them, and
 * what the stream asks all of them. Records and replies are the caller's. Owned by the stream's
 * shard; pure.
 *
 * The fan-out (removed, purged, needs) is a loop over all consumers with a few comparisons each;
 * what is evicted behind all of them costs nothing, and neither do new messages. */
#ifndef CORE_JS_CONSUMER_SET_H
#define CORE_JS_CONSUMER_SET_H
#include "core/base/table.h"
#include "core/js/consumer.h"
#include "core/js/consumer_order.h"
#include "core/js/consumer_request.h"
#include "core/js/overlap.h"

struct consumer_set {
    struct mem *mem;
    const struct consumer_feed *feed;
    struct table names;        /* of struct consumer */
    struct consumer **numbers; /* the same by number, ascending: names.count of number_room */
    uint32_t number_room;
    uint32_t hidden_count : 31; /* whose first record is not durable yet */
    uint32_t is_all_wanted : 1;
    uint64_t number_next;
    uint64_t floor; /* below it no consumer has anything left, or pending */
    uint64_t change_ticket; /* work queue: of a change of filters in flight; 0 none */
    /* What all of them select, as it was after so many changes of their filters. */
    uint32_t changes, wanted_changes;
    struct overlap_list *wanted;  /* NULL: nobody asked since */
    struct consumer_order *order; /* NULL: nobody asked, or few */
};

enum {
    CONSUMER_SET_ORDER_COST = 2048, /* units of core/js/sieve, of a consumer that is put in order */
    CONSUMER_SET_ORDER_MIN = 1024,  /* consumers; the order of fewer is made each time */
};

/* What the stream and the account say about a new consumer. */
struct consumer_set_bounds {
    struct consumer_rules rules;
    int64_t max_consumers;         /* of stream or account, the lower one; <= 0: none */
    int64_t max_consumers_default; /* of the server, where there is no other; 0: none */
};

/* feed->changes has to lead to s->changes (where it is NULL, matches looks at every consumer). */
void consumer_set_init(struct consumer_set *s, struct mem *mem, const struct consumer_feed *feed);
/* Closes and frees all. */
void consumer_set_deinit(struct consumer_set *s);
/* Hidden ones included. */
static inline uint32_t consumer_set_count(const struct consumer_set *s)
{
    return s->names.count;
}
/* Its first record is durable. */
void consumer_set_show(struct consumer_set *s, struct consumer *c);
/* Goes on putting those that are not hidden in the order of their names. True: there is more, call
 * again. False: s->order is whole until something else is done here, or *e is ERR_MEMORY. */
NODISCARD bool consumer_set_order(struct consumer_set *s, uint32_t *left, enum err *e);
void consumer_set_order_done(struct consumer_set *s);
/* NULL: none. Hidden ones are found by all of these. */
struct consumer *consumer_set_find(const struct consumer_set *s, struct bytes name);
struct consumer *consumer_set_find_number(const struct consumer_set *s, uint64_t number);
/* Every one, in no order: *at starts at 0; NULL at the end. */
struct consumer *consumer_set_each(const struct consumer_set *s, uint32_t *at);

/* Takes r->config through defaults and checks; an ephemeral one without a name gets one, that lies
 * in the arena. *existing: the consumer that is to become like this, or NULL: a new one is to be
 * made. False: refused. is_bound says whether somebody listens to an existing one. */
NODISCARD bool consumer_set_check(struct consumer_set *s, struct arena *arena,
                                  const struct consumer_set_bounds *bounds,
                                  struct consumer_request *r, struct rng *rng,
                                  struct consumer **existing, struct jsapi_error *error);
/* number 0: the next one, and consumer_start follows. ERR_MEMORY, ERR_EXISTS (the name). */
NODISCARD enum err consumer_set_add(struct consumer_set *s, const struct consumer_config *config,
                                    uint64_t number, int64_t created_ns, struct shard_time now,
                                    struct consumer **c);
/* Closes and frees it. */
void consumer_set_drop(struct consumer_set *s, struct consumer *c);

/* As the functions of consumer, for all. True: one of them has room now. */
bool consumer_set_removed(struct consumer_set *s, uint64_t seq, struct bytes subject,
                          struct outlet *o);
/* A consumer was reset, got other filters, or its record was applied. */
void consumer_set_moved_back(struct consumer_set *s);
/* first: as for consumer_purged. */
void consumer_set_purged(struct consumer_set *s, struct bytes filter, uint64_t first);
/* Some consumer must still get or settle message seq. ticket: of the record that asks; consumers
 * whose first record is behind it in the log do not count, as at a start. 0: all count. */
bool consumer_set_needs(const struct consumer_set *s, uint64_t seq, struct bytes subject,
                        uint64_t ticket);
/* The record of a change of some consumer is in flight: of one that is there, and stays. */
bool consumer_set_has_order(const struct consumer_set *s);
/* The record of its end is in flight, or failed: matches passes it over, or not any more. */
void consumer_set_end(struct consumer_set *s, struct consumer *c, bool is_ending);
/* Some consumer's filters match. What is published behind the record of its end one does not want:
 * a start, too, finds that first. */
bool consumer_set_matches(struct consumer_set *s, struct bytes subject);

#endif
