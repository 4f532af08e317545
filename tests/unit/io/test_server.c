#include "io/server.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { SHARDS = 3, CASES = 4, LATE_NS = 30000000 };

/* A shard's thread at its end, as loop_run has it. */
static void *end_now(void *server_shard)
{
    struct server_shard *x = server_shard;
    bool is_held = x->end.is_held;
    atomic_store(&x->is_ended, true);
    while (is_held) pause();
    return NULL;
}

static void *end_late(void *server_shard)
{
    struct timespec pause = {.tv_nsec = LATE_NS};
    nanosleep(&pause, NULL);
    return end_now(server_shard);
}

/* Never freed: threads that are held look at theirs until the process ends. */
static struct server *kept[CASES];

/* How all of them ended, where the last one is late. */
static struct server_end join(uint32_t at, const struct server_end ends[SHARDS])
{
    struct server *s = kept[at] = calloc(1, sizeof *s);
    cr_assert_not_null(s);
    s->shards = calloc(SHARDS, sizeof *s->shards);
    cr_assert_not_null(s->shards);
    s->shard_count = SHARDS;
    for (uint32_t i = 0; i < SHARDS; i++) {
        struct server_shard *x = &s->shards[i];
        x->end = ends[i];
        x->is_started = true;
        cr_assert_eq(pthread_create(&x->thread, NULL, i + 1 < SHARDS ? end_now : end_late, x), 0);
    }
    struct server_end all = server_join(s);
    for (uint32_t i = 0; i < SHARDS; i++) cr_assert(atomic_load(&s->shards[i].is_ended));
    return all;
}

/* A shard that need not wait for its packing ended the process with 0, while another one still
 * wrote, or had a log that takes no writes. */
Test(server, the_end_of_one_shard_hides_no_other)
{
    struct server_end all = join(0, (struct server_end[SHARDS]){{0}});
    cr_assert(!all.is_unclean && !all.is_held);
    all = join(1, (struct server_end[SHARDS]){{.is_held = true}, {0}, {.is_unclean = true}});
    cr_assert(all.is_unclean && all.is_held);
    all = join(2, (struct server_end[SHARDS]){{0}, {.is_unclean = true, .is_held = true}, {0}});
    cr_assert(all.is_unclean && all.is_held);
    all = join(3, (struct server_end[SHARDS]){{.is_held = true}, {0}, {0}});
    cr_assert(!all.is_unclean && all.is_held);
}
