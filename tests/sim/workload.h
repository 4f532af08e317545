/* A run: random clients against one server, made from one seed. */
#ifndef TESTS_SIM_WORKLOAD_H
#define TESTS_SIM_WORKLOAD_H
#include "tests/sim/peer.h"

/* Rare paths, summed over all runs of the program: a run of many seeds that never takes one says
 * that the simulator is blind there. */
#define RARE_PATHS(X)                                                                              \
    X(queue_forwards)                                                                              \
    X(ring_full)                                                                                   \
    X(park_mail) X(park_memory) X(park_congested) X(park_index) X(park_pings) X(park_tokens)       \
        X(spills) X(stalls) X(congested_mail) X(loans) X(route_stale) X(fences_held) X(tokens)     \
            X(no_responders) X(doomed) X(partial_pieces) X(sliced_reaping) X(late_flushes)         \
                X(slow_pending) X(slow_deadline) X(dropped) X(reloads) X(rechecks) X(lame_ducks)   \
                    X(vanished) X(crypto_logins) X(preemptions) X(outbox_full) X(close_owed)       \
                        X(lines_lost)

struct workload_counts {
#define X(name) uint64_t name;
    RARE_PATHS(X)
#undef X
    uint64_t ops, deliveries, turns, simulated_ns;
};

struct workload_result {
    uint64_t hash, errors, allocs, failed_allocs;
    struct net_faults faults;
};

struct workload_config {
    uint64_t seed;
    uint32_t ops;
    bool is_verbose;
    /* Injected failures: losses are then allowed, crashes, leaks and hangs are not. */
    uint64_t fail_alloc_at, fail_accept_at, fail_recv_at, fail_send_at, fail_add_at;
};

void workload_run(const struct workload_config *config, struct workload_counts *counts,
                  struct workload_result *result);

/* R6, in worlds of its own. */
void check_split(uint64_t seed, uint64_t *errors);
/* R2 at rest. */
void check_index(struct server *s, struct ledger *l, struct peer *const *peers);

#endif
