/* The simulator's program: seeds in, broken rules and counts of rare paths out. A failing run says
 * its seed; `sim --seed N` plays it again, bit for bit.
 *
 *   sim [--seed N | --seeds A-B | --seed-file F] [--ops N] [--verbose] [--replay EVERY]
 *   --stop: end with the first seed that fails */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "core/base/json.h"
#include "core/base/must.h"
#include "tests/sim/workload.h"

enum { OPS_DEFAULT = 10000, SEEDS_FOR_RARE = 200, REPLAY_EVERY = 20 };

struct run {
    uint32_t ops;
    bool is_verbose, stops;
    uint64_t seeds, failed, replay_every;
    struct workload_counts counts;
};

static void run_seed(struct run *r, uint64_t seed)
{
    struct workload_config config = {.seed = seed, .ops = r->ops, .is_verbose = r->is_verbose};
    struct workload_result result = {0}, again = {0};
    workload_run(&config, &r->counts, &result);
    check_split(seed, &result.errors);
    if (r->replay_every > 0 && r->seeds % r->replay_every == 0) {
        struct workload_counts unused = {0};
        workload_run(&config, &unused, &again);
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

static int run_file(struct run *r, const char *path)
{
    char line[256];
    FILE *f = fopen(path, "r");
    if (f == NULL) {
        perror(path);
        return 1;
    }
    while (fgets(line, sizeof line, f) != NULL)
        if (line[0] >= '0' && line[0] <= '9') run_seed(r, strtoull(line, NULL, 10));
    fclose(f);
    return 0;
}

static uint64_t print_counts(const struct workload_counts *c)
{
    uint64_t never = 0;
#define X(name)                                                                                    \
    printf("  %-16s %llu%s\n", #name, (unsigned long long)c->name, c->name == 0 ? "  NEVER" : ""); \
    never += c->name == 0;
    RARE_PATHS(X)
#undef X
    return never;
}

int main(int argc, char **argv)
{
    struct run r = {.ops = OPS_DEFAULT, .replay_every = REPLAY_EVERY};
    uint64_t first = 1, last = 1;
    const char *file = NULL;
    for (int i = 1; i < argc; i++) {
        const char *value = i + 1 < argc ? argv[i + 1] : "";
        if (strcmp(argv[i], "--verbose") == 0) {
            r.is_verbose = true;
            continue;
        }
        if (strcmp(argv[i], "--stop") == 0) {
            r.stops = true;
            continue;
        }
        if (strcmp(argv[i], "--seed") == 0)
            first = last = strtoull(value, NULL, 10);
        else if (strcmp(argv[i], "--seeds") == 0)
            must(sscanf(value, "%lu-%lu", &first, &last) == 2);
        else if (strcmp(argv[i], "--seed-file") == 0)
            file = value;
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
    clock_t began = clock();
    if (file != NULL && run_file(&r, file) != 0) return 1;
    for (uint64_t seed = first; file == NULL && seed <= last && !(r.stops && r.failed > 0); seed++)
        run_seed(&r, seed);
    double seconds = (double)(clock() - began) / CLOCKS_PER_SEC;
    printf("%llu seeds, %llu failed; %llu operations, %llu deliveries, %llu turns, "
           "%.1f s simulated in %.1f s\n",
           (unsigned long long)r.seeds, (unsigned long long)r.failed,
           (unsigned long long)r.counts.ops, (unsigned long long)r.counts.deliveries,
           (unsigned long long)r.counts.turns, (double)r.counts.simulated_ns / 1e9, seconds);
    uint64_t never = print_counts(&r.counts);
    if (r.seeds >= SEEDS_FOR_RARE && never > 0) {
        printf("%llu rare paths were never taken\n", (unsigned long long)never);
        return 1;
    }
    return r.failed == 0 ? 0 : 1;
}
