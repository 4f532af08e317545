/* The simulator of JetStream: seeds in, broken rules and counts of rare paths out.
 *
 *   simjs [--seed N | --seeds A-B] [--ops N] [--verbose] [--replay EVERY] [--stop] [--free]
 *         [--relaxed]
 *   --free: segments of the log are freed, by checkpoints and packs
 *   --relaxed: with a sync interval, and the process is killed where else the power fails */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "core/base/json.h"
#include "core/base/must.h"
#include "tests/sim/jswork.h"

enum { OPS_DEFAULT = 2500, SEEDS_FOR_RARE = 40, SEEDS_FOR_PACKS = 30, REPLAY_EVERY = 20 };

struct run {
    uint32_t ops;
    bool is_verbose, stops, frees, is_relaxed;
    uint64_t seeds, failed, replay_every;
    struct jswork_counts counts;
};

static void run_seed(struct run *r, uint64_t seed)
{
    struct jswork_config config = {.seed = seed,
                                   .ops = r->ops,
                                   .is_verbose = r->is_verbose,
                                   .frees = r->frees,
                                   .is_relaxed = r->is_relaxed};
    struct jswork_result result = {0}, again = {0};
    jswork_run(&config, &r->counts, &result);
    if (r->replay_every > 0 && r->seeds % r->replay_every == 0) {
        struct jswork_counts unused = {0};
        jswork_run(&config, &unused, &again);
        if (again.hash != result.hash) {
            fprintf(stderr, "seed %llu: does not replay\n", (unsigned long long)seed);
            result.errors++;
        }
    }
    r->seeds++;
    if (result.errors > 0) {
        r->failed++;
        fprintf(stderr, "seed %llu FAILED (--seed %llu --ops %u)\n", (unsigned long long)seed,
                (unsigned long long)seed, r->ops);
    }
    if (r->is_verbose)
        printf("seed %llu hash %016llx\n", (unsigned long long)seed,
               (unsigned long long)result.hash);
}

static uint64_t print_counts(const struct jswork_counts *c)
{
    uint64_t never = 0;
#define X(name)                                                                                    \
    printf("  %-16s %llu%s\n", #name, (unsigned long long)c->name, c->name == 0 ? "  NEVER" : ""); \
    never += c->name == 0;
    JSWORK_PATHS(X)
#undef X
    return never;
}

int main(int argc, char **argv)
{
    struct run r = {.ops = OPS_DEFAULT, .replay_every = REPLAY_EVERY};
    unsigned long first = 1, last = 1;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--verbose") == 0) {
            r.is_verbose = true;
            continue;
        }
        if (strcmp(argv[i], "--free") == 0) {
            r.frees = true;
            continue;
        }
        if (strcmp(argv[i], "--relaxed") == 0) {
            r.is_relaxed = true;
            continue;
        }
        if (strcmp(argv[i], "--stop") == 0) {
            r.stops = true;
            continue;
        }
        if (strcmp(argv[i], "--seed") == 0)
            first = last = strtoul(value, NULL, 10);
        else if (strcmp(argv[i], "--seeds") == 0)
            must(sscanf(value, "%lu-%lu", &first, &last) == 2);
        else if (strcmp(argv[i], "--ops") == 0)
            r.ops = (uint32_t)strtoul(value, NULL, 10);
        else if (strcmp(argv[i], "--replay") == 0)
            r.replay_every = strtoull(value, NULL, 10);
        else {
            fprintf(stderr, "unknown argument %s\n", argv[i]);
            return 2;
        }
        i++;
    }
    json_init(1);
    /* What a seed gives back is there for the next one: a page of the kernel's costs a clearing. */
    mallopt(M_MMAP_THRESHOLD, 1 << 30);
    mallopt(M_TRIM_THRESHOLD, 1 << 30);
    clock_t began = clock();
    for (uint64_t seed = first; seed <= last && !(r.stops && r.failed > 0); seed++)
        run_seed(&r, seed);
    double seconds = (double)(clock() - began) / CLOCKS_PER_SEC;
    const struct jswork_counts *c = &r.counts;
    printf("%llu seeds, %llu failed; %llu operations, %llu stored, %llu deliveries, %llu starts, "
           "%llu checkpoints, %llu moves, %llu packs dropped, %llu rewritten, %.1f s\n",
           (unsigned long long)r.seeds, (unsigned long long)r.failed, (unsigned long long)c->ops,
           (unsigned long long)c->stored, (unsigned long long)c->deliveries,
           (unsigned long long)c->starts, (unsigned long long)c->checkpoints,
           (unsigned long long)c->moves, (unsigned long long)c->packs_dropped,
           (unsigned long long)c->packs_rewritten, seconds);
    uint64_t never = print_counts(c);
    if (r.seeds >= SEEDS_FOR_RARE && never > 0) {
        printf("%llu rare paths were never taken\n", (unsigned long long)never);
        return 1;
    }
    bool is_blind = c->checkpoints == 0 || c->moves == 0 || c->pieces == 0;
    /* A few seeds need not come to it. */
    if (r.seeds >= SEEDS_FOR_PACKS)
        is_blind = is_blind || c->packs_dropped == 0 || c->packs_rewritten == 0;
    if (r.frees && is_blind) {
        printf("blind: no checkpoint was made, no message moved to a pack, or no pack rewritten\n");
        return 1;
    }
    return r.failed == 0 ? 0 : 1;
}
