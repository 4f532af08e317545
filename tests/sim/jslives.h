/* Limits and life times of the simulator's streams: which ones are asked for, and the model of what
 * they may have taken. A message whose life may be over may be gone; one whose life is over must
 * be, soon; and a limit takes one only if there was a moment at which enough of what came behind it
 * can have been there: what was over by then gave room, at a start as well. */
#ifndef TESTS_SIM_JSLIVES_H
#define TESTS_SIM_JSLIVES_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/base/rng.h"

#define JSLIVES_WINDOW_NS 120000000000u /* of message ids, where no max_age is shorter */

struct jslimits { /* UINT64_MAX: none */
    uint64_t max_msgs, max_bytes, per_subject, max_age_ns;
    bool is_new; /* discard: new */
};

struct jslives { /* of one stream */
    bool is_on;  /* else nothing of it is asked for */
    bool has_markers;
    bool evicts;           /* discard: old was asked for */
    struct jslimits now;   /* what was asked for last */
    struct jslimits least; /* the lowest of each since its creation */
    uint64_t age_most_ns;  /* the longest */
};

struct jsledger;
struct jsledger_entry;

/* Another stream. */
void jslives_renew(struct jslives *v);
/* Chooses other limits and asks for them. */
void jslives_change(struct jslives *v, struct rng *rng);
/* The part of a configuration that says so, for a stream that keeps message ids for window_ns where
 * it may; begins with a comma. */
void jslives_write(const struct jslives *v, uint64_t window_ns, char *out, size_t bytes);
/* A header line for the life of one message, or nothing; *ttl_ns: 0 none, UINT64_MAX for ever. */
void jslives_write_ttl(struct rng *rng, char *out, size_t bytes, uint64_t *ttl_ns);

/* When its life can be over at the earliest, and is over at the latest. */
uint64_t jslives_earliest_ns(const struct jsledger *l, const struct jsledger_entry *e);
uint64_t jslives_latest_ns(const struct jsledger *l, const struct jsledger_entry *e);
/* Was it over long enough for every timer? */
bool jslives_is_over(const struct jsledger *l, const struct jsledger_entry *e, uint64_t now_ns);
/* Can a limit have taken it? */
bool jslives_may_take(const struct jsledger *l, const struct jsledger_entry *e, uint64_t last);
/* May both be stored under one message id: was the older one's forgotten? */
bool jslives_may_repeat(const struct jsledger *l, const struct jsledger_entry *a,
                        const struct jsledger_entry *b, uint64_t window_ns);

#endif
