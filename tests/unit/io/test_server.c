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

Test(server, descriptors_are_kept_for_the_store)
{
    uint64_t least;
    struct server_files f = {.limit = 1024, .shard_count = 1, .log_count = 1};
    cr_assert_eq(server_clients_of(&f, &least), 1024 - 48 - 4 - 84);
    cr_assert_eq(least, 62);
    f.has_pages = true;
    cr_assert_eq(server_clients_of(&f, &least), 1024 - 48 - 4 - 84 - 128);
    cr_assert_eq(least, 62);
    f.log_count = 0;
    cr_assert_eq(server_clients_of(&f, &least), 1024 - 48 - 4 - 128);
    f.limit = UINT64_MAX; /* none */
    cr_assert_geq(server_clients_of(&f, &least), 1 << 20);
}

Test(server, of_few_descriptors_the_server_keeps_half_and_what_it_cannot_do_without)
{
    uint64_t least;
    struct server_files f = {.limit = 256, .shard_count = 1, .log_count = 1, .has_pages = true};
    cr_assert_eq(server_clients_of(&f, &least), 128);
    f.limit = 100;
    cr_assert_eq(server_clients_of(&f, &least), 38);
    f.limit = 63;
    cr_assert_eq(server_clients_of(&f, &least), 1);
    for (f.limit = 0; f.limit <= 62; f.limit++) cr_assert_eq(server_clients_of(&f, &least), 0);
    /* The usual hard limit of a shell must do for a machine of many cores. */
    f = (struct server_files){.limit = 1024, .shard_count = 64, .log_count = 64};
    cr_assert_geq(server_clients_of(&f, &least), 64);
}
