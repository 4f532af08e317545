/* What goes when the memory budget is short, in this order (R5):
 *
 *   75 % of the budget   caches: kept output chunks, cached routes
 *   85 %                 the slowest consumers, most output first (R5c); from 80 % on while
 *                        somebody waits for memory
 *   92 %                 new connections (io/listener refuses them)
 *   no allocation        publishers park until memory is back (R5a)
 *   so for two seconds   the largest half-received message, whose sender may be waiting as well;
 *                        subscriptions are refused instead of parked
 *
 * Runs at the end of each step and looks at most once a millisecond, so that a server in need
 * does its work besides. */
#include "core/base/must.h"
#include "core/shard/internal.h"

enum {
    CACHES_PERCENT = 75,
    SLOW_PERCENT = 85,
    LOOK_NS = 1000000,
    QUIET_NS = 20000000,  /* nobody parked for so long: memory is not short any more */
    INPUT_NS = 200000000, /* between two publishers that are closed: the first may be enough */
    ROUTES_PER_LOOK = 1 << 20,
    SHEDS_PER_LOOK = 4,
    SHED_BYTES_MIN = 256 * 1024, /* closing a connection with less would win nothing */
};
static const uint64_t PATIENCE_NS = 2000000000u;

bool pressure_shed(struct shard *s)
{
    struct client *slowest = NULL;
    for (struct list *link = s->all.next; link != &s->all; link = link->next) {
        struct client *c = LIST_OWNER(link, struct client, all);
        if (slowest == NULL || c->output.pending_bytes > slowest->output.pending_bytes) slowest = c;
    }
    if (slowest == NULL || slowest->output.pending_bytes < SHED_BYTES_MIN) return false;
    s->counts.slow_consumers.clients++;
    if (slowest->account != NULL) slowest->account->counts.slow_consumers++;
    session_log(s, slowest, LOG_LEVEL_WRN, "Slow Consumer closed: the memory budget is short");
    session_close(s, slowest, CLOSED_SLOW_PENDING, false);
    return true;
}

/* Half-received messages wait for memory that others of their kind hold: one has to go. */
static void shed_input(struct shard *s)
{
    struct client *largest = NULL;
    for (struct list *link = s->all.next; link != &s->all; link = link->next) {
        struct client *c = LIST_OWNER(link, struct client, all);
        if (c->carry == NULL || c->carry->capacity < SHED_BYTES_MIN) continue;
        if (largest == NULL || c->carry->capacity > largest->carry->capacity) largest = c;
    }
    if (largest == NULL) return;
    session_log(s, largest, LOG_LEVEL_WRN, "Publisher closed: the memory budget is short");
    session_close(s, largest, CLOSED_STALE, false);
}

bool pressure_is_lasting(const struct shard *s)
{
    return s->pressure.short_since_ns != 0 &&
           s->now.mono_ns - s->pressure.short_since_ns > PATIENCE_NS;
}

/* A waiter is resumed and parks again and again: what counts is when it last did. */
static void watch_waiters(struct shard *s)
{
    uint64_t parks = s->counts.parks[PARK_MEMORY];
    if (parks != s->pressure.parks_seen) {
        s->pressure.parks_seen = parks;
        s->pressure.park_ns = s->now.mono_ns;
        if (s->pressure.short_since_ns == 0) s->pressure.short_since_ns = s->now.mono_ns;
    } else if (s->now.mono_ns - s->pressure.park_ns > QUIET_NS) {
        s->pressure.short_since_ns = 0;
    }
}

void pressure_step(struct shard *s)
{
    bool has_waiters =
        s->pressure.short_since_ns != 0 || s->counts.parks[PARK_MEMORY] != s->pressure.parks_seen;
    if (LIKELY(!has_waiters && mem_percent(s->mem) < CACHES_PERCENT)) return;
    if (s->now.mono_ns - s->pressure.at_ns < LOOK_NS) return;
    s->pressure.at_ns = s->now.mono_ns;
    watch_waiters(s);
    if (has_waiters || mem_percent(s->mem) >= CACHES_PERCENT) {
        output_pool_shrink(&s->outputs);
        route_cache_shrink(s->routes, ROUTES_PER_LOOK);
    }
    uint32_t slow = s->pressure.short_since_ns != 0 ? MEM_SHORT_PERCENT : SLOW_PERCENT;
    for (int i = 0; i < SHEDS_PER_LOOK && mem_percent(s->mem) >= slow; i++)
        if (!session_has_room(s) || !pressure_shed(s)) break;
    if (!pressure_is_lasting(s) || s->now.mono_ns - s->pressure.shed_ns < INPUT_NS) return;
    s->pressure.shed_ns = s->now.mono_ns;
    shed_input(s);
}
