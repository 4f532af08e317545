/* Real threads, one per shard, on one interest index: what SUB and UNSUB have done must be seen.
 * links: route
 *
 * The oracle is a cell per (shard, filter, group): the writer notes "begun" before each change and
 * the new count and "done" after it. Who resolves reads the cells of all filters that match before
 * and after: a cell that was settled before and has not begun since was constant throughout, so
 * the route must show exactly its count (rules R2 and R3). Routes come from each thread's route
 * cache, so a route that was built too early and is used too late is found as well.
 *
 * All threads work around one hot first token at a time, which moves on: there they meet, and the
 * tokens just left are quiet, so a wrong route that stayed behind shows.
 * Usage: model_threads [seconds [seed]] */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "core/base/must.h"
#include "core/base/rng.h"
#include "core/route/route_cache.h"
#include "tests/support/mem_heap.h"

enum {
    SHARDS = 4,
    TOKENS = 16,
    SHAPES = 7,
    GROUPED_FROM = 4,  /* shapes from here on are of queue group "q" */
    WILD = SHAPES - 1, /* this shape does not name the token */
    SUBJECTS = 3,
    SUBS_MAX = 64,
    NOISE_MAX = 600, /* subs of each thread that only make child tables grow and shrink */
    HOT_STEPS = 400,
    SECONDS = 4,
};

/* # stands for the letter of the token. */
static const char *const SHAPE_TEXTS[SHAPES] = {"t#.a", "t#.*", "t#.>", "t#.b",
                                                "t#.a", "t#.>", "*.a"};
static const char *const SUBJECT_TEXTS[SUBJECTS] = {"t#.a", "t#.b", "t#.a.b"};
static const bool MATCHES[SUBJECTS][SHAPES] = {
    {1, 1, 1, 0, 1, 1, 1}, {0, 1, 1, 1, 0, 1, 0}, {0, 0, 1, 0, 0, 1, 0}};

struct cell {
    _Atomic uint64_t begun, done;
    _Atomic uint32_t count;
};

struct held {
    uint32_t sub, token, shape; /* shape SHAPES: noise */
};

struct world;
struct thread {
    struct world *world;
    uint32_t shard;
    struct mem_heap heap;
    struct rng rng;
    struct sub_pool *subs;
    struct route_cache *cache;
    struct held held[SUBS_MAX], noise[NOISE_MAX];
    uint32_t held_count, noise_count;
    uint64_t writes, busy, checks, exact;
};

struct world {
    struct mem_heap heap;
    struct interest *x;
    struct interest_account *a;
    _Atomic bool is_over;
    _Atomic uint32_t steps;
    struct cell cells[SHARDS][TOKENS][SHAPES];
    struct thread threads[SHARDS];
};

static uint32_t hot_token(struct thread *t)
{
    uint32_t step = atomic_fetch_add_explicit(&t->world->steps, 1, memory_order_relaxed);
    return step / HOT_STEPS % TOKENS;
}

static struct bytes print(char *room, const char *shape, uint32_t token)
{
    size_t len = strlen(shape);
    memcpy(room, shape, len);
    for (size_t i = 0; i < len; i++)
        if (room[i] == '#') room[i] = (char)('a' + token);
    return bytes_of(room, len);
}

/* The wild shape belongs to no token: cell of token 0. */
static struct cell *cell_of(struct world *w, uint32_t shard, uint32_t token, uint32_t shape)
{
    return &w->cells[shard][shape == WILD ? 0 : token][shape];
}

static void cell_change(struct cell *c, int by)
{
    uint32_t count = atomic_load_explicit(&c->count, memory_order_relaxed);
    atomic_store_explicit(&c->count, count + (uint32_t)by, memory_order_release);
    atomic_fetch_add_explicit(&c->done, 1, memory_order_release);
}

static void insert(struct thread *t, uint32_t token)
{
    char room[64];
    uint32_t shape = rng_below(&t->rng, SHAPES);
    if (shape == WILD && rng_below(&t->rng, 20) != 0) shape = 0; /* it makes all routes stale */
    bool is_noise = rng_below(&t->rng, 3) == 0;
    if (is_noise ? t->noise_count == NOISE_MAX : t->held_count == SUBS_MAX) return;
    uint32_t sub;
    must(sub_acquire(t->subs, NULL, BYTES_LITERAL("1"), &sub) == ERR_OK);
    struct bytes filter = print(room, SHAPE_TEXTS[shape], token);
    struct bytes queue = bytes_from_text(shape == GROUPED_FROM || shape == GROUPED_FROM + 1 ? "q"
                                                                                            : "");
    struct cell *c = NULL;
    if (is_noise) {
        int len = snprintf(room, sizeof room, "t%c.n%u", 'a' + (int)token,
                           rng_below(&t->rng, 1000));
        filter = bytes_of(room, (size_t)len);
        queue = bytes_of("", 0);
    } else {
        c = cell_of(t->world, t->shard, token, shape);
        atomic_fetch_add(&c->begun, 1);
    }
    enum err e = interest_insert(t->world->x, t->world->a, t->shard, filter, queue, sub);
    must(e == ERR_OK || e == ERR_BUSY);
    if (c != NULL) cell_change(c, e == ERR_OK);
    if (e == ERR_BUSY) {
        t->busy++;
        sub_release(t->subs, sub);
        return;
    }
    t->writes++;
    if (is_noise)
        t->noise[t->noise_count++] = (struct held){sub, token, SHAPES};
    else
        t->held[t->held_count++] = (struct held){sub, token, shape};
}

static bool drop(struct thread *t, struct held *list, uint32_t *count, uint32_t i)
{
    struct cell *c = NULL;
    if (list[i].shape != SHAPES) {
        c = cell_of(t->world, t->shard, list[i].token, list[i].shape);
        atomic_fetch_add(&c->begun, 1);
    }
    enum err e = interest_remove(t->world->x, t->world->a, t->shard, list[i].sub);
    must(e == ERR_OK || e == ERR_BUSY);
    if (c != NULL) cell_change(c, e == ERR_OK ? -1 : 0);
    if (e == ERR_BUSY) {
        t->busy++;
        return false;
    }
    t->writes++;
    sub_release(t->subs, list[i].sub);
    list[i] = list[--*count];
    return true;
}

/* What the cells of one shard said before the look-up. */
struct view {
    uint64_t begun[SHAPES];
    uint32_t count[SHAPES];
    bool is_settled[SHAPES];
};

static void view_take(struct world *w, uint32_t shard, uint32_t token, struct view *v)
{
    for (uint32_t i = 0; i < SHAPES; i++) {
        struct cell *c = cell_of(w, shard, token, i);
        uint64_t done = atomic_load(&c->done);
        v->count[i] = atomic_load(&c->count);
        v->begun[i] = atomic_load(&c->begun);
        v->is_settled[i] = done == v->begun[i];
    }
}

/* Drops what changed meanwhile. */
static void view_confirm(struct world *w, uint32_t shard, uint32_t token, struct view *v)
{
    for (uint32_t i = 0; i < SHAPES; i++)
        if (atomic_load(&cell_of(w, shard, token, i)->begun) != v->begun[i])
            v->is_settled[i] = false;
}

static void check_shard(struct thread *t, uint32_t subject, const struct route *r, uint32_t shard,
                        const struct view *v)
{
    bool plain_known = true, group_known = true;
    uint32_t plain = 0, members = 0;
    for (uint32_t i = 0; i < SHAPES; i++) {
        if (!MATCHES[subject][i]) continue;
        bool is_grouped = i == GROUPED_FROM || i == GROUPED_FROM + 1;
        if (!v->is_settled[i])
            *(is_grouped ? &group_known : &plain_known) = false;
        else if (is_grouped)
            members += v->count[i];
        else
            plain += v->count[i];
    }
    bool has_plain = shard == t->shard ? r->plain_count > 0 : (r->remote_plain >> shard & 1) != 0;
    uint32_t shown = r->group_count == 0 ? 0 : r->groups[0].by_shard[shard];
    must(r->group_count <= 1);
    if (plain > 0) must(has_plain); /* a SUB that returned is seen */
    if (plain_known && plain == 0) must(!has_plain); /* an UNSUB too */
    must(shown >= members);
    if (group_known) must(shown == members);
    if (shard == t->shard) must(plain_known && group_known && r->plain_count == plain);
    t->checks++;
    t->exact += plain_known && group_known;
}

static void look_up(struct thread *t, uint32_t token)
{
    struct world *w = t->world;
    struct view views[SHARDS];
    char room[32];
    uint32_t subject = rng_below(&t->rng, SUBJECTS);
    struct bytes text = print(room, SUBJECT_TEXTS[subject], token);
    for (uint32_t s = 0; s < SHARDS; s++) view_take(w, s, token, &views[s]);
    const struct route *r;
    struct route *own = NULL;
    if (rng_below(&t->rng, 8) == 0) {
        must(interest_resolve(w->x, w->a, t->shard, &t->heap.mem, text, &own) == ERR_OK);
        r = own;
    } else {
        must(route_cache_find(t->cache, 0, w->a, text, &r) == ERR_OK);
    }
    for (uint32_t s = 0; s < SHARDS; s++) view_confirm(w, s, token, &views[s]);
    for (uint32_t s = 0; s < SHARDS; s++) check_shard(t, subject, r, s, &views[s]);
    for (uint32_t i = 0; i < r->plain_count; i++) must(r->subs[i]->place != 0);
    if (own != NULL) {
        bool exists = own->plain_count + own->group_count > 0 || own->remote_plain != 0;
        if (own->plain_count > 0) must(interest_exists(w->x, w->a, text) && exists);
        route_free(&t->heap.mem, own);
    }
}

static void *work(void *argument)
{
    struct thread *t = argument;
    struct world *w = t->world;
    interest_online(w->x, t->shard);
    while (!atomic_load_explicit(&w->is_over, memory_order_relaxed)) {
        uint32_t token = hot_token(t), kind = rng_below(&t->rng, 100);
        if (kind < 6) {
            insert(t, token);
        } else if (kind < 12 && t->held_count > 0) {
            drop(t, t->held, &t->held_count, rng_below(&t->rng, t->held_count));
        } else if (kind < 15 && t->noise_count > 0) {
            drop(t, t->noise, &t->noise_count, rng_below(&t->rng, t->noise_count));
        } else if (kind == 15) {
            interest_offline(w->x, t->shard);
            if (rng_below(&t->rng, 50) == 0) nanosleep(&(struct timespec){.tv_nsec = 50000}, NULL);
            interest_online(w->x, t->shard);
        } else if (kind < 25) {
            interest_quiesce(w->x, t->shard);
        } else {
            /* The hot token, or one left a little while ago. */
            look_up(t, (token + TOKENS - rng_below(&t->rng, 3)) % TOKENS);
        }
    }
    while (t->held_count > 0) drop(t, t->held, &t->held_count, t->held_count - 1);
    while (t->noise_count > 0) drop(t, t->noise, &t->noise_count, t->noise_count - 1);
    interest_offline(w->x, t->shard);
    return NULL;
}

int main(int argc, char **argv)
{
    int seconds = argc > 1 ? atoi(argv[1]) : SECONDS;
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : (uint64_t)time(NULL);
    struct world *w = calloc(1, sizeof *w);
    pthread_t ids[SHARDS];
    uint64_t writes = 0, busy = 0, checks = 0, exact = 0;
    if (w == NULL) return 1;
    printf("seed %llu\n", (unsigned long long)seed);
    mem_heap_init(&w->heap);
    must(interest_open(&w->heap.mem, SHARDS, seed, &w->x) == ERR_OK);
    must(interest_account_of(w->x, 0, &w->a) == ERR_OK);
    for (uint32_t s = 0; s < SHARDS; s++) {
        struct thread *t = &w->threads[s];
        t->world = w;
        t->shard = s;
        mem_heap_init(&t->heap);
        rng_init(&t->rng, seed * SHARDS + s);
        must(sub_pool_open(&t->heap.mem, &t->subs) == ERR_OK);
        interest_attach(w->x, s, t->subs);
        must(route_cache_open(&t->heap.mem, w->x, s, 64, 1 << 20, &t->cache) == ERR_OK);
    }
    for (uint32_t s = 0; s < SHARDS; s++)
        must(pthread_create(&ids[s], NULL, work, &w->threads[s]) == 0);
    nanosleep(&(struct timespec){.tv_sec = seconds}, NULL);
    atomic_store(&w->is_over, true);
    for (uint32_t s = 0; s < SHARDS; s++) must(pthread_join(ids[s], NULL) == 0);
    for (uint32_t s = 0; s < SHARDS; s++) {
        struct thread *t = &w->threads[s];
        writes += t->writes;
        busy += t->busy;
        checks += t->checks;
        exact += t->exact;
        route_cache_close(t->cache);
    }
    interest_close(w->x);
    for (uint32_t s = 0; s < SHARDS; s++) {
        sub_pool_close(w->threads[s].subs);
        must(w->threads[s].heap.live_count == 0);
    }
    must(w->heap.live_count == 0);
    printf("%llu writes (%llu busy), %llu checks, %llu of them exact\n",
           (unsigned long long)writes, (unsigned long long)busy, (unsigned long long)checks,
           (unsigned long long)exact);
    free(w);
    return writes == 0 || exact == 0;
}
