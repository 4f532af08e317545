#include <criterion/criterion.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#ifndef MILLRACE_SANITIZED
#include <jemalloc/jemalloc.h>
#endif
#include "io/mem_jemalloc.h"
#include "io/sysinfo.h"

enum { MIB = 1024 * 1024 };

TestSuite(mem_jemalloc, .timeout = 20);

Test(mem_jemalloc, the_budget_is_the_process_less_a_margin)
{
    struct mem_jemalloc_budget b;
    mem_jemalloc_budget_init(&b, 256 * (uint64_t)MIB);
    cr_assert_eq(b.slice_count, 217, "85 percent of 256 MiB in slices of 1 MiB");
    mem_jemalloc_budget_init(&b, 64 * (uint64_t)MIB);
    cr_assert_geq(b.slice_count, 128, "idle leases of a few threads are not half of it");
    uint64_t room = 64 * (uint64_t)MIB - (uint64_t)b.slice_count * b.slice_bytes;
    cr_assert_geq(room, 24 * MIB, "libraries and headroom are there when all is leased");
    mem_jemalloc_budget_init(&b, 1024 * (uint64_t)MIB);
    cr_assert_eq(b.slice_bytes, 4 * MIB);
    mem_jemalloc_budget_init(&b, MIB);
    cr_assert_eq(b.slice_count, 2);
    mem_jemalloc_budget_init(&b, 1000);
    cr_assert_eq(b.slice_count, 1);
    mem_jemalloc_budget_init(&b, 0);
    cr_assert_gt(b.slice_count, 1000000);
}

Test(mem_jemalloc, what_jetstream_has_is_the_sum_over_all_threads)
{
    struct mem_jemalloc_budget b;
    struct mem_jemalloc first, second;
    mem_jemalloc_budget_init(&b, 0);
    mem_jemalloc_init(&first, &b);
    mem_jemalloc_init(&second, &b);
    void *stream = mem_alloc(&first.mem, MEM_JETSTREAM, MIB);
    void *group = mem_alloc(&second.mem, MEM_STORE, 2 * MIB);
    void *output = mem_alloc(&second.mem, MEM_OUTPUT, 4 * MIB);
    cr_assert_eq(mem_jetstream_bytes(&first.mem), MIB, "who asks is told of itself at once");
    mem_jemalloc_tell(&second);
    cr_assert_eq(mem_jetstream_bytes(&first.mem), 3 * MIB, "and of others when they have told");
    mem_free(&second.mem, MEM_STORE, group, 2 * MIB);
    cr_assert_eq(mem_jetstream_bytes(&second.mem), MIB);
    mem_free(&second.mem, MEM_OUTPUT, output, 4 * MIB);
    mem_free(&first.mem, MEM_JETSTREAM, stream, MIB);
    mem_jemalloc_deinit(&first);
    cr_assert_eq(mem_jetstream_bytes(&second.mem), 0, "what a thread told ends with it");
    mem_jemalloc_deinit(&second);
}

Test(mem_jemalloc, a_used_up_budget_gives_null_and_recovers)
{
    struct mem_jemalloc_budget b;
    struct mem_jemalloc first, second;
    void *blocks[64];
    uint32_t count = 0;
    mem_jemalloc_budget_init(&b, 0);
    b.slice_count = 4;
    b.process_bytes_max = 0; /* slices are what counts here, not the process of the test */
    mem_jemalloc_init(&first, &b);
    mem_jemalloc_init(&second, &b);
    void *p = mem_alloc(&second.mem, MEM_OUTPUT, 100);
    cr_assert_not_null(p);
    while (count < 64 && (blocks[count] = mem_alloc(&first.mem, MEM_OUTPUT, MIB)) != NULL) count++;
    cr_assert(count == 11 || count == 12, "three slices of four; jemalloc adds a page to each");
    cr_assert_eq(b.refused, 1);
    cr_assert_eq(mem_jemalloc_budget_percent(&b), 100);
    cr_assert_eq(first.mem.used_bytes[MEM_OUTPUT], count * MIB);
    void *small = mem_alloc(&second.mem, MEM_OUTPUT, 1000);
    cr_assert_not_null(small, "a lease of one's own is not touched by others");

    while (count > 0) mem_free(&first.mem, MEM_OUTPUT, blocks[--count], MIB);
    cr_assert_leq(b.leased, 3, "idle slices went back");
    void *large = mem_alloc(&second.mem, MEM_MAIL, 7 * MIB);
    cr_assert_not_null(large);
    mem_free(&second.mem, MEM_MAIL, large, 7 * MIB);
    mem_free(&second.mem, MEM_OUTPUT, small, 1000);
    mem_free(&second.mem, MEM_OUTPUT, p, 100);
    mem_jemalloc_deinit(&first);
    mem_jemalloc_deinit(&second);
    cr_assert_eq(b.leased, 0);
}

Test(mem_jemalloc, absurd_sizes_are_refused)
{
    struct mem_jemalloc_budget b;
    struct mem_jemalloc m;
    mem_jemalloc_budget_init(&b, 64 * MIB);
    mem_jemalloc_init(&m, &b);
    cr_assert_null(mem_alloc(&m.mem, MEM_CONFIG, SIZE_MAX / 2));
    cr_assert_null(mem_alloc(&m.mem, MEM_CONFIG, SIZE_MAX));
    cr_assert_null(mem_alloc(&m.mem, MEM_CONFIG, 60 * (size_t)MIB));
    cr_assert_eq(b.leased, 0);
    mem_jemalloc_deinit(&m);
}

Test(mem_jemalloc, a_process_that_is_too_large_loses_slices_for_a_while)
{
    struct mem_jemalloc_budget b;
    struct mem_jemalloc m;
    mem_jemalloc_budget_init(&b, 100 * MIB);
    mem_jemalloc_init(&m, &b);
    cr_assert_eq(mem_jemalloc_budget_check(&b, 90 * MIB), 0);
    cr_assert_eq(mem_jemalloc_budget_check(&b, 105 * (uint64_t)MIB), 5 * MIB);
    cr_assert_gt((uint64_t)b.withheld * b.slice_bytes, 5 * MIB);
    for (int i = 0; i < 20; i++) mem_jemalloc_budget_check(&b, 500 * (uint64_t)MIB);
    cr_assert_eq(b.withheld, b.slice_count);
    cr_assert_null(mem_alloc(&m.mem, MEM_OUTPUT, 10));
    void *page = mem_alloc(&m.mem, MEM_MONITOR, 10);
    cr_assert_not_null(page, "the operator still gets an answer");
    cr_assert_null(mem_alloc(&m.mem, MEM_INTEREST, 10), "the room behind it is not for clients");
    mem_free(&m.mem, MEM_MONITOR, page, 10);
    for (int i = 0; i < 20; i++) cr_assert_eq(mem_jemalloc_budget_check(&b, 50 * MIB), 0);
    void *p = mem_alloc(&m.mem, MEM_OUTPUT, 10);
    cr_assert_not_null(p);
    mem_free(&m.mem, MEM_OUTPUT, p, 10);
    mem_jemalloc_deinit(&m);
}

Test(mem_jemalloc, a_large_zeroed_block_costs_what_is_used_of_it)
{
    struct mem_jemalloc_budget b;
    struct mem_jemalloc m;
    struct mem_jemalloc_figures unused;
    mem_jemalloc_budget_init(&b, 0);
    mem_jemalloc_init(&m, &b);
    /* Used memory that came back is zeroed anew, whoever had it. */
    char *p = mem_alloc(&m.mem, MEM_CONNECTION, 64 * MIB);
    memset(p, 1, 64 * MIB);
    mem_free(&m.mem, MEM_CONNECTION, p, 64 * MIB);
    mem_jemalloc_purge();
    uint64_t rss = sysinfo_rss();
    p = mem_alloc_zero(&m.mem, MEM_CONNECTION, 64 * MIB);
    cr_assert_not_null(p);
    cr_assert_eq(m.mem.used_bytes[MEM_CONNECTION], 64 * MIB);
    if (mem_jemalloc_figures(&unused)) cr_assert_lt(sysinfo_rss(), rss + 8 * MIB);
    for (size_t i = 0; i < 64 * (size_t)MIB; i += 4000) cr_assert_eq(p[i], 0);
    mem_free(&m.mem, MEM_CONNECTION, p, 64 * MIB);
    char *small = mem_alloc(&m.mem, MEM_CONNECTION, 100);
    memset(small, 1, 100);
    mem_free(&m.mem, MEM_CONNECTION, small, 100);
    small = mem_alloc_zero(&m.mem, MEM_CONNECTION, 100);
    for (size_t i = 0; i < 100; i++) cr_assert_eq(small[i], 0);
    mem_free(&m.mem, MEM_CONNECTION, small, 100);
    mem_jemalloc_deinit(&m);
}

enum { CHUNK = 64 * 1024, PROCESS = 128 * MIB };

/* Fills up to count chunks; returns how many there were, and in *most how large the process got. */
static uint32_t fill(struct mem_jemalloc *m, void **chunks, uint32_t count, uint64_t *most)
{
    uint32_t got = 0;
    for (*most = 0; got < count; got++) {
        if ((chunks[got] = mem_alloc(&m->mem, MEM_OUTPUT, CHUNK)) == NULL) break;
        memset(chunks[got], 1, CHUNK);
        uint64_t rss = sysinfo_rss();
        if (rss > *most) *most = rss;
    }
    return got;
}

static void *fill_and_free(void *budget)
{
    static void *chunks[64 * MIB / CHUNK];
    struct mem_jemalloc m;
    uint64_t most;
    mem_jemalloc_init(&m, budget);
    uint32_t count = fill(&m, chunks, sizeof chunks / sizeof chunks[0], &most);
    for (uint32_t i = 0; i < count; i++) mem_free(&m.mem, MEM_OUTPUT, chunks[i], CHUNK);
    mem_jemalloc_deinit(&m);
    return NULL;
}

/* Two shards, one after the other: what the first has freed is not the second's to reuse, and stays
 * with the process. Nobody but who leases looks at it here. */
Test(mem_jemalloc, what_another_thread_freed_does_not_add_to_what_is_leased)
{
    static void *chunks[90 * MIB / CHUNK];
    struct mem_jemalloc_budget b;
    struct mem_jemalloc m;
    struct mem_jemalloc_figures unused;
    pthread_t thread;
    uint64_t most;
    mem_jemalloc_budget_init(&b, PROCESS);
    mem_jemalloc_init(&m, &b);
    pthread_create(&thread, NULL, fill_and_free, &b);
    pthread_join(thread, NULL);
    uint32_t count = fill(&m, chunks, sizeof chunks / sizeof chunks[0], &most);
    cr_assert_gt(count, 60 * MIB / CHUNK);
    if (mem_jemalloc_figures(&unused)) cr_assert_leq(most, PROCESS);
    for (uint32_t i = 0; i < count; i++) mem_free(&m.mem, MEM_OUTPUT, chunks[i], CHUNK);
    mem_jemalloc_deinit(&m);
}

Test(mem_jemalloc, a_full_process_leases_nothing_more_to_what_clients_fill)
{
    struct mem_jemalloc_budget b;
    struct mem_jemalloc m;
    struct mem_jemalloc_figures unused;
    if (!mem_jemalloc_figures(&unused)) return; /* a sanitizer's process is always too large */
    mem_jemalloc_budget_init(&b, PROCESS);
    mem_jemalloc_init(&m, &b);
    char *library = malloc(PROCESS);
    memset(library, 1, PROCESS);
    cr_assert_null(mem_alloc(&m.mem, MEM_OUTPUT, CHUNK));
    cr_assert_eq(b.refused, 1);
    void *record = mem_alloc(&m.mem, MEM_CONNECTION, 100);
    cr_assert_not_null(record);
    void *route = mem_alloc(&m.mem, MEM_ROUTE, 100);
    cr_assert_not_null(route, "what is mailed to a client has to find it");
    mem_free(&m.mem, MEM_ROUTE, route, 100);
    cr_assert_eq(library[PROCESS - 1], 1);
    free(library);
    void *p = NULL;
    for (int i = 0; i < 1000 && p == NULL; i++) {
        p = mem_alloc(&m.mem, MEM_OUTPUT, 5 * MIB); /* more than the record's slice */
        usleep(1000);
    }
    cr_assert_not_null(p, "what was freed is given back to the kernel before the next no");
    mem_free(&m.mem, MEM_OUTPUT, p, 5 * MIB);
    mem_free(&m.mem, MEM_CONNECTION, record, 100);
    mem_jemalloc_deinit(&m);
}

static void *churn(void *context)
{
    struct mem_jemalloc m;
    mem_jemalloc_init(&m, context);
    void *blocks[16] = {NULL};
    for (int i = 0; i < 4000; i++) {
        int at = i % 16;
        mem_free(&m.mem, MEM_OUTPUT, blocks[at], MIB);
        blocks[at] = mem_alloc(&m.mem, MEM_OUTPUT, MIB);
    }
    for (int at = 0; at < 16; at++) mem_free(&m.mem, MEM_OUTPUT, blocks[at], MIB);
    mem_jemalloc_deinit(&m);
    return NULL;
}

Test(mem_jemalloc, threads_never_lease_more_than_there_is)
{
    struct mem_jemalloc_budget b;
    pthread_t threads[3];
    mem_jemalloc_budget_init(&b, 40 * MIB); /* 8 slices for three threads that want 4 each */
    for (int i = 0; i < 3; i++) pthread_create(&threads[i], NULL, churn, &b);
    for (int i = 0; i < 1000; i++) cr_assert_leq(b.leased, b.slice_count);
    for (int i = 0; i < 3; i++) pthread_join(threads[i], NULL);
    cr_assert_eq(b.leased, 0);
}

Test(mem_jemalloc, figures_move_with_what_is_allocated)
{
    struct mem_jemalloc_budget b;
    struct mem_jemalloc m;
    struct mem_jemalloc_figures before, after;
    mem_jemalloc_budget_init(&b, 0);
    mem_jemalloc_init(&m, &b);
    if (!mem_jemalloc_figures(&before)) return; /* built with a sanitizer */
    uint64_t rss = sysinfo_rss();
    void *p = mem_alloc_zero(&m.mem, MEM_OUTPUT, 32 * MIB);
    memset(p, 1, 32 * MIB);
    cr_assert(mem_jemalloc_figures(&after));
    cr_assert_geq(after.allocated_bytes, before.allocated_bytes + 32 * MIB);
    cr_assert_geq(sysinfo_rss(), rss + 31 * MIB);
    mem_free(&m.mem, MEM_OUTPUT, p, 32 * MIB);
    mem_jemalloc_purge();
    cr_assert_leq(sysinfo_rss(), rss + 8 * MIB);
    mem_jemalloc_deinit(&m);
}

#ifndef MILLRACE_SANITIZED
/* jemalloc looks at its clock when somebody allocates. */
Test(mem_jemalloc, what_was_freed_goes_back_though_nobody_allocates)
{
    static void *blocks[16];
    struct mem_jemalloc_budget b;
    struct mem_jemalloc m;
    unsigned arena;
    size_t bytes = sizeof arena;
    ssize_t decay_ms = 100;
    char name[40];
    mem_jemalloc_budget_init(&b, 0);
    mem_jemalloc_init(&m, &b);
    cr_assert_eq(mallctl("thread.arena", &arena, &bytes, NULL, 0), 0);
    snprintf(name, sizeof name, "arena.%u.dirty_decay_ms", arena);
    cr_assert_eq(mallctl(name, NULL, NULL, &decay_ms, sizeof decay_ms), 0);
    uint64_t rss = sysinfo_rss();
    for (int i = 0; i < 16; i++) {
        blocks[i] = mem_alloc(&m.mem, MEM_OUTPUT, 2 * MIB);
        memset(blocks[i], 1, 2 * MIB);
    }
    for (int i = 0; i < 16; i++) mem_free(&m.mem, MEM_OUTPUT, blocks[i], 2 * MIB);
    mem_jemalloc_decay(); /* sees what is unused from now on */
    for (int i = 0; i < 100 && sysinfo_rss() > rss + 8 * MIB; i++) {
        usleep(50000);
        mem_jemalloc_decay();
    }
    cr_assert_leq(sysinfo_rss(), rss + 8 * MIB);
    mem_jemalloc_deinit(&m);
}
#endif
