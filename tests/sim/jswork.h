/* A run of JetStream in the simulator: clients against a server whose power fails now and then,
 * made from one seed. */
#ifndef TESTS_SIM_JSWORK_H
#define TESTS_SIM_JSWORK_H
#include <stdbool.h>
#include <stdint.h>

/* Seldom taken, or the point of it all: a run of many seeds must take each. */
#define JSWORK_PATHS(X)                                                                            \
    X(cuts_random)                                                                                 \
    X(cuts_none)                                                                                   \
    X(cuts_all)                                                                                    \
    X(cuts_prefix)                                                                                 \
    X(cuts_missing)                                                                                \
    X(cuts_torn)                                                                                   \
    X(cuts_in_recovery) X(cut_groups) X(writes_failed) X(disk_full) X(read_only) X(segments)       \
        X(lost_found) X(lost_gone) X(duplicates) X(sets_refused) X(redeliveries) X(acks_confirmed) \
            X(erased) X(purged) X(updated) X(deleted) X(resets) X(held) X(outbox_full)             \
                X(log_stalls) X(log_stalls_mailed) X(rests) X(rollups) X(mores) X(lesses) X(ttls)  \
                    X(expired) X(evicted) X(markers) X(limits_set) X(full_refused) X(pauses)

struct jswork_counts {
#define X(name) uint64_t name;
    JSWORK_PATHS(X)
#undef X
    uint64_t ops, stored, deliveries, starts, simulated_ns, checkpoints, moves;
    uint64_t pieces; /* of checkpoints */
    uint64_t packs_dropped, packs_rewritten;
};

struct jswork_config {
    uint64_t seed;
    uint32_t ops;
    bool is_verbose;
    bool frees;      /* segments of the log */
    bool is_relaxed; /* with a sync interval: the process is killed, the power stays */
};

struct jswork_result {
    uint64_t hash, errors;
};

void jswork_run(const struct jswork_config *config, struct jswork_counts *counts,
                struct jswork_result *result);

#endif
