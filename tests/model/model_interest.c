/* Random inserts, removes and look-ups on the interest index against a list of all subscriptions.
 * links: route
 *
 * One thread plays all shards. Allocations fail now and then; a refused insert must leave no trace.
 * Usage: model_interest [seed [operations]] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "core/base/must.h"
#include "core/base/rng.h"
#include "core/route/route_cache.h"
#include "core/route/subject.h"
#include "tests/support/mem_heap.h"

enum {
    SHARDS = 3,
    ACCOUNTS = 2,
    TEXT_MAX = 96,
    LIVE_MAX = 3000,
    SECONDS_MAX = 8,
};

struct record {
    uint32_t shard, account, sub;
    char filter[TEXT_MAX], queue[8];
};

struct model {
    struct mem_heap heap;
    struct rng rng;
    struct interest *x;
    struct interest_account *accounts[ACCOUNTS];
    struct sub_pool *pools[SHARDS];
    struct route_cache *caches[SHARDS];
    bool is_online[SHARDS];
    struct record live[LIVE_MAX];
    uint32_t count;
    uint64_t refused, resolved, hits;
};

static uint32_t below(struct model *m, uint32_t bound)
{
    return rng_below(&m->rng, bound);
}

/* A few tokens that meet often, and at times one of many, so that child tables grow and split. */
static void random_token(struct model *m, char *out, bool may_be_star)
{
    uint32_t kind = below(m, 10);
    if (may_be_star && kind < 3)
        strcpy(out, "*");
    else if (kind == 9)
        sprintf(out, "n%u", below(m, 2000));
    else if (kind == 8)
        sprintf(out, "a.longer.token.%u", below(m, 3));
    else
        sprintf(out, "%c", 'a' + (char)below(m, 3));
}

static void random_subject(struct model *m, char *out, bool is_filter)
{
    uint32_t tokens = 1 + below(m, 4);
    out[0] = 0;
    for (uint32_t i = 0; i < tokens; i++) {
        if (i > 0) strcat(out, ".");
        random_token(m, out + strlen(out), is_filter || below(m, 50) == 0);
    }
    if (is_filter && below(m, 5) == 0) strcat(out, ".>");
    if (is_filter && below(m, 40) == 0) strcpy(out, ">");
    if (!is_filter && below(m, 100) == 0) strcat(out, below(m, 2) == 0 ? "." : "..x");
}

static struct bytes text(const char *s)
{
    return bytes_from_text(s);
}

static void insert(struct model *m)
{
    if (m->count == LIVE_MAX) return;
    struct record *r = &m->live[m->count];
    *r = (struct record){.shard = below(m, SHARDS), .account = below(m, ACCOUNTS)};
    random_subject(m, r->filter, true);
    if (below(m, 3) == 0) sprintf(r->queue, "q%u", below(m, below(m, 20) == 0 ? 400 : 3));
    if (sub_acquire(m->pools[r->shard], NULL, text("sid"), &r->sub) != ERR_OK) abort();
    if (below(m, 4) == 0) {
        m->heap.fail_at = m->heap.alloc_count + 1 + below(m, 8);
        m->heap.fail_from = (int)below(m, 2);
    }
    enum err e = interest_insert(m->x, m->accounts[r->account], r->shard, text(r->filter),
                                 text(r->queue), r->sub);
    m->heap.fail_at = 0;
    if (e == ERR_OK) {
        m->count++;
        return;
    }
    must(e == ERR_MEMORY);
    must(sub_at(m->pools[r->shard], r->sub)->place == 0);
    m->refused++;
    sub_release(m->pools[r->shard], r->sub);
}

static void remove_at(struct model *m, uint32_t i)
{
    struct record *r = &m->live[i];
    bool is_short = below(m, 4) == 0; /* a remove never fails for memory */
    if (is_short) {
        m->heap.fail_at = m->heap.alloc_count + 1;
        m->heap.fail_from = 1;
    }
    must(interest_remove(m->x, m->accounts[r->account], r->shard, r->sub) == ERR_OK);
    m->heap.fail_at = 0;
    sub_release(m->pools[r->shard], r->sub);
    m->live[i] = m->live[--m->count];
}

static bool route_has(const struct route *r, uint32_t from, uint32_t size, uint32_t sub)
{
    for (uint32_t i = from; i < from + size; i++)
        if (r->subs[i]->index == sub) return true;
    return false;
}

static const struct route_group *group_of(const struct route *r, const char *queue)
{
    for (uint32_t i = 0; i < r->group_count; i++)
        if (bytes_equal(r->groups[i].queue, text(queue))) return &r->groups[i];
    return NULL;
}

/* The route says what the list says, no more and no less. */
static void check(const struct model *m, const struct route *r, uint32_t account,
                  const char *subject)
{
    uint32_t plain = 0, members = 0, route_members = 0;
    uint64_t remote = 0;
    for (uint32_t i = 0; i < m->count; i++) {
        const struct record *live = &m->live[i];
        if (live->account != account || !subject_matches(text(subject), text(live->filter)))
            continue;
        if (live->queue[0] != 0) {
            const struct route_group *g = group_of(r, live->queue);
            must(g != NULL && g->by_shard[live->shard] > 0);
            if (live->shard == r->shard)
                must(route_has(r, g->local_first, g->local_count, live->sub));
            members++;
        } else if (live->shard == r->shard) {
            must(route_has(r, 0, r->plain_count, live->sub));
            plain++;
        } else {
            remote |= (uint64_t)1 << live->shard;
        }
    }
    must(plain == r->plain_count && remote == r->remote_plain);
    for (uint32_t i = 0; i < r->group_count; i++) {
        const struct route_group *g = &r->groups[i];
        uint32_t sum = 0;
        for (uint32_t s = 0; s < SHARDS; s++) sum += g->by_shard[s];
        must(sum == g->members && g->members > 0 && g->local_count == g->by_shard[r->shard]);
        must(i == 0 || bytes_compare(r->groups[i - 1].queue, g->queue) < 0);
        route_members += g->members;
    }
    must(members == route_members);
}

static void resolve(struct model *m)
{
    uint32_t shard = below(m, SHARDS), account = below(m, ACCOUNTS);
    char subject[TEXT_MAX];
    struct route *r;
    const struct route *cached;
    random_subject(m, subject, false);
    if (!m->is_online[shard]) {
        interest_online(m->x, shard);
        m->is_online[shard] = true;
    }
    if (below(m, 10) == 0) m->heap.fail_at = m->heap.alloc_count + 1 + below(m, 3);
    enum err e =
        interest_resolve(m->x, m->accounts[account], shard, &m->heap.mem, text(subject), &r);
    m->heap.fail_at = 0;
    if (e != ERR_OK) {
        must(e == ERR_MEMORY);
        return;
    }
    check(m, r, account, subject);
    must(interest_exists(m->x, m->accounts[account], text(subject)) ==
         (r->plain_count + r->group_count > 0 || r->remote_plain != 0));
    m->hits += r->plain_count + r->group_count;
    route_free(&m->heap.mem, r);
    must(route_cache_find(m->caches[shard], account, m->accounts[account], text(subject),
                          &cached) == ERR_OK);
    check(m, cached, account, subject);
    m->resolved++;
}

static void check_filter(const struct model *m, const struct record *r)
{
    char room[256];
    struct bytes filter, queue;
    must(interest_filter_of(m->x, sub_at(m->pools[r->shard], r->sub), room, sizeof room, &filter,
                            &queue) == ERR_OK);
    must(bytes_equal(filter, text(r->filter)) && bytes_equal(queue, text(r->queue)));
}

static void step(struct model *m)
{
    /* The list breathes: it grows for a while, then shrinks, down to nothing at times. */
    uint32_t kind = below(m, 100), shard = below(m, SHARDS);
    bool grows = (m->heap.alloc_count >> 14) % 2 == 0;
    if (kind < (grows ? 50u : 25u))
        insert(m);
    else if (kind < 75 && m->count > 0)
        remove_at(m, below(m, m->count));
    else if (kind < 85)
        resolve(m);
    else if (kind < 87 && m->count > 0)
        check_filter(m, &m->live[below(m, m->count)]);
    else if (kind < 95 && m->is_online[shard])
        interest_quiesce(m->x, shard);
    else if (kind == 95 && m->is_online[shard]) {
        interest_offline(m->x, shard);
        m->is_online[shard] = false;
    } else if (kind == 96 && below(m, 2000) == 0)
        while (m->count > 0) remove_at(m, m->count - 1);
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    uint64_t operations = argc > 2 ? strtoull(argv[2], NULL, 10) : 400000, done = 0;
    struct model *m = calloc(1, sizeof *m);
    time_t end = time(NULL) + SECONDS_MAX;
    struct interest_counts counts;
    if (m == NULL) return 1;
    mem_heap_init(&m->heap);
    rng_init(&m->rng, seed);
    must(interest_open(&m->heap.mem, SHARDS, seed, &m->x) == ERR_OK);
    for (uint32_t s = 0; s < SHARDS; s++) {
        must(sub_pool_open(&m->heap.mem, &m->pools[s]) == ERR_OK);
        interest_attach(m->x, s, m->pools[s]);
        must(route_cache_open(&m->heap.mem, m->x, s, 256, 1 << 20, &m->caches[s]) == ERR_OK);
    }
    for (uint32_t a = 0; a < ACCOUNTS; a++)
        must(interest_account_of(m->x, a * 1500, &m->accounts[a]) == ERR_OK);

    for (; done < operations && (done % 256 != 0 || time(NULL) < end); done++) step(m);

    interest_count_all(m->x, &counts);
    must(counts.subscriptions == m->count);
    while (m->count > 0) remove_at(m, m->count - 1);
    interest_count_all(m->x, &counts);
    must(counts.subscriptions == 0 && counts.nodes == 0);
    for (uint32_t s = 0; s < SHARDS; s++) {
        if (m->is_online[s]) interest_offline(m->x, s);
        route_cache_close(m->caches[s]);
    }
    interest_close(m->x);
    for (uint32_t s = 0; s < SHARDS; s++) sub_pool_close(m->pools[s]);
    must(m->heap.live_count == 0);
    printf("seed %llu: %llu operations, %llu resolved (%llu targets), %llu refused\n",
           (unsigned long long)seed, (unsigned long long)done, (unsigned long long)m->resolved,
           (unsigned long long)m->hits, (unsigned long long)m->refused);
    bool is_blind = done > 10000 && (m->refused == 0 || m->hits == 0);
    free(m);
    return is_blind;
}
