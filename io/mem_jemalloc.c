#include "io/mem_jemalloc.h"
#include <semaphore.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include "core/base/must.h"
#include "io/sysinfo.h"
#ifndef MILLRACE_SANITIZED
#include <jemalloc/jemalloc.h>
#endif

enum {
    UNLIMITED_SLICES = 1 << 30,
    SLICES_WANTED = 128,   /* at least, where that does not make them too small */
    BASE_BYTES = 20 << 20, /* code, stacks, what libraries and the allocator need themselves */
    IDLE_SLICES_MAX = 2,   /* so many idle ones: all but one go back */
    RESERVE_PART = 16,     /* 1/16 of the slices is for what must not fail: mail, records, orders */
    HEADROOM_PART = 16,    /* of the process: so much below its limit slices are withheld */
    STAY_PART = 5,         /* subscriptions leave 1/5 to what moves: they stay, and would end it */
    CALM_PART = 2,         /* below half of the slices only main looks at the process */
    LOOK_NS = 1000000,
    PURGE_NS = 1000000,        /* between two times that unused pages go back */
    STACK_BYTES_MIN = 1 << 20, /* of a thread, however small `ulimit -s` is */
    PAGE_BYTES = 4096,
    TELL_BYTES = 64 * 1024,  /* more or less of JetStream is news to the other threads */
    LARGE_BYTES_MIN = 16384, /* jemalloc's: from here on an allocation has pages of its own */
};
_Static_assert(100 - 100 / STAY_PART == MEM_SHORT_PERCENT, "they find none from there on");

#ifndef MILLRACE_SANITIZED

/* What an allocation really takes. A large one begins anywhere in its first page, so that the heads
 * of many do not meet in one line of the cache, and has a page more for that. */
static uint64_t footprint(size_t bytes)
{
    uint64_t class = nallocx(bytes, 0);
    return class >= LARGE_BYTES_MIN ? class + PAGE_BYTES : class;
}

static void *allocate(size_t bytes)
{
    return mallocx(bytes, 0);
}

/* Fresh pages of the kernel are zero already, and jemalloc knows which are. */
static void *allocate_zero(size_t bytes)
{
    return mallocx(bytes, MALLOCX_ZERO);
}

static void deallocate(void *p, size_t bytes)
{
    sdallocx(p, bytes, 0);
}

static uint64_t figure(const char *name)
{
    size_t value = 0, bytes = sizeof value;
    return mallctl(name, &value, &bytes, NULL, 0) == 0 ? value : 0;
}

/* Statistics are a snapshot that moves with the epoch. */
static bool move_epoch(void)
{
    uint64_t epoch = 1;
    size_t bytes = sizeof epoch;
    return mallctl("epoch", &epoch, &bytes, &epoch, sizeof epoch) == 0;
}

static uint64_t resident(void)
{
    return sysinfo_rss();
}

/* What the process may be in a moment without asking anybody: what it is, or, if that is more, all
 * that jemalloc has ready, since pages that were allocated and not yet written do not count with
 * the kernel. A tenth of a millisecond. */
static uint64_t resident_soon(void)
{
    uint64_t of_files, now = sysinfo_resident(&of_files);
    uint64_t soon = move_epoch() ? figure("stats.resident") + of_files : 0;
    return soon > now ? soon : now;
}

#else

static uint64_t footprint(size_t bytes)
{
    return (bytes + 15) & ~(uint64_t)15;
}

static void *allocate(size_t bytes)
{
    return malloc(bytes);
}

static void *allocate_zero(size_t bytes)
{
    return calloc(1, bytes);
}

static void deallocate(void *p, size_t bytes)
{
    free(p);
}

/* Shadow memory and quarantine are several times what the server holds: a budget compared with
 * them would be short for ever, and every publisher parked. The leases still count. */
static uint64_t resident(void)
{
    return 0;
}

static uint64_t resident_soon(void)
{
    return 0;
}

#endif

/* --- budget --- */

/* What is leased must never bring the process so near to its limit that no slice can be had any
 * more: then nobody is served, and nothing says so before. */
static uint64_t margin_of(uint64_t process_bytes_max)
{
    uint64_t part = process_bytes_max / 100 * MEM_JEMALLOC_MARGIN_PERCENT;
    uint64_t base = BASE_BYTES + process_bytes_max / HEADROOM_PART;
    if (base > process_bytes_max / 2) base = process_bytes_max / 2;
    return part > base ? part : base;
}

/* Each thread holds up to two slices that it does not use. Of a small budget those of 4 MiB would
 * be half, and it would be full with little in it. */
static uint32_t fit(uint64_t usable)
{
    uint32_t bytes = MEM_JEMALLOC_SLICE_BYTES_MAX;
    while (bytes > MEM_JEMALLOC_SLICE_BYTES_MIN && usable / bytes < SLICES_WANTED) bytes /= 2;
    return bytes;
}

void mem_jemalloc_budget_init(struct mem_jemalloc_budget *b, uint64_t process_bytes_max)
{
    uint64_t usable = process_bytes_max - margin_of(process_bytes_max);
    uint32_t slice_bytes = process_bytes_max == 0 ? MEM_JEMALLOC_SLICE_BYTES_MAX : fit(usable);
    uint64_t slices = usable / slice_bytes;
    if (process_bytes_max == 0 || slices > UNLIMITED_SLICES) slices = UNLIMITED_SLICES;
    *b = (struct mem_jemalloc_budget){.process_bytes_max = process_bytes_max,
                                      .slice_bytes = slice_bytes,
                                      .slice_count = slices == 0 ? 1 : (uint32_t)slices};
    (void)resident_soon(); /* jemalloc makes what it needs for that while there is memory */
}

static bool is_essential(enum mem_class class)
{
    return class != MEM_OUTPUT && class != MEM_INTEREST;
}

/* Slices that a class may reach. What clients fill (payloads, subscriptions) ends below the
 * reserve and below what is withheld, so that a full server still moves mail, closes connections
 * and answers its operator; also when the process stays too large for a reason that no slice can
 * mend, such as memory of a library. */
static uint32_t slices_for(const struct mem_jemalloc_budget *b, enum mem_class class)
{
    if (is_essential(class)) return b->slice_count;
    uint32_t part = class == MEM_INTEREST ? STAY_PART : RESERVE_PART;
    uint32_t kept = b->slice_count / part;
    uint32_t withheld = atomic_load_explicit(&b->withheld, memory_order_relaxed);
    return b->slice_count - kept > withheld ? b->slice_count - kept - withheld : 0;
}

static uint64_t clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* What was freed stays with the process for a while, with each thread's arena its own, and no lease
 * says so: a shard may fill what another has freed, and both are there. */
static void purge(struct mem_jemalloc_budget *b, uint64_t now_ns)
{
    uint64_t last_ns = atomic_load_explicit(&b->purged_ns, memory_order_relaxed);
    if (now_ns - last_ns >= PURGE_NS &&
        atomic_compare_exchange_strong_explicit(&b->purged_ns, &last_ns, now_ns,
                                                memory_order_relaxed, memory_order_relaxed))
        mem_jemalloc_purge();
}

static bool is_calm(const struct mem_jemalloc_budget *b)
{
    return atomic_load_explicit(&b->leased, memory_order_relaxed) < b->slice_count / CALM_PART;
}

/* Whether more bytes fit beside what the process is, unused pages given back if need be. A no holds
 * for a moment: who waits for memory tries again and again. */
static bool process_has_room(struct mem_jemalloc_budget *b, uint64_t more)
{
    uint64_t most = b->process_bytes_max - b->process_bytes_max / HEADROOM_PART;
    if (b->process_bytes_max == 0) return true;
    uint64_t now_ns = clock_ns();
    if (now_ns < atomic_load_explicit(&b->full_ns, memory_order_relaxed) + LOOK_NS) return false;
    if ((is_calm(b) ? resident() : resident_soon()) + more <= most) return true;
    purge(b, now_ns);
    if (resident_soon() + more <= most) return true;
    atomic_store_explicit(&b->full_ns, now_ns, memory_order_relaxed);
    return false;
}

void mem_jemalloc_budget_look(struct mem_jemalloc_budget *b, uint64_t now_ns)
{
    uint64_t last_ns = atomic_load_explicit(&b->looked_ns, memory_order_relaxed);
    if (LIKELY(is_calm(b)) || b->process_bytes_max == 0 || now_ns < last_ns + LOOK_NS) return;
    if (atomic_compare_exchange_strong_explicit(&b->looked_ns, &last_ns, now_ns,
                                                memory_order_relaxed, memory_order_relaxed))
        (void)process_has_room(b, 0); /* it is looked at for what it does */
}

static bool is_within(struct mem_jemalloc_budget *b, enum mem_class class)
{
    return atomic_load_explicit(&b->leased, memory_order_relaxed) <= slices_for(b, class);
}

/* The pool is a plain counter: nothing is published through it, so relaxed order is enough. */
static bool slices_take(struct mem_jemalloc_budget *b, uint32_t count, uint32_t limit)
{
    uint32_t leased = atomic_load_explicit(&b->leased, memory_order_relaxed);
    do {
        if ((uint64_t)leased + count > limit) {
            atomic_fetch_add_explicit(&b->refused, 1, memory_order_relaxed);
            return false;
        }
    } while (!atomic_compare_exchange_weak_explicit(&b->leased, &leased, leased + count,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

static void slices_return(struct mem_jemalloc_budget *b, uint32_t count)
{
    uint32_t before = atomic_fetch_sub_explicit(&b->leased, count, memory_order_relaxed);
    must(before >= count);
}

uint64_t mem_jemalloc_budget_check(struct mem_jemalloc_budget *b, uint64_t rss_bytes)
{
    uint32_t withheld = atomic_load_explicit(&b->withheld, memory_order_relaxed);
    uint64_t over = 0;
    if (b->process_bytes_max == 0) return 0;
    if (rss_bytes > b->process_bytes_max) {
        over = rss_bytes - b->process_bytes_max;
        uint64_t more = withheld + over / b->slice_bytes + 1;
        withheld = more > b->slice_count ? b->slice_count : (uint32_t)more;
    } else if (withheld > 0 &&
               b->process_bytes_max - rss_bytes > 2 * (uint64_t)MEM_JEMALLOC_SLICE_BYTES_MAX) {
        uint32_t back = MEM_JEMALLOC_SLICE_BYTES_MAX / b->slice_bytes;
        withheld -= withheld < back ? withheld : back; /* so much a second: it must not swing */
    }
    atomic_store_explicit(&b->withheld, withheld, memory_order_relaxed);
    return over;
}

void mem_jemalloc_budget_watch(struct mem_jemalloc_budget *b)
{
    if (b->process_bytes_max == 0) return;
    uint64_t rss = is_calm(b) ? resident() : resident_soon();
    uint64_t headroom = b->process_bytes_max / HEADROOM_PART;
    if (rss + headroom > b->process_bytes_max) {
        purge(b, clock_ns());
        rss = resident_soon();
    }
    mem_jemalloc_budget_check(b, rss + headroom);
}

uint32_t mem_jemalloc_budget_percent(const struct mem_jemalloc_budget *b)
{
    uint64_t taken = (uint64_t)atomic_load_explicit(&b->leased, memory_order_relaxed) +
                     atomic_load_explicit(&b->withheld, memory_order_relaxed);
    uint64_t percent = taken * 100 / b->slice_count;
    return percent > 100 ? 100 : (uint32_t)percent;
}

/* --- port --- */

static uint64_t lease_bytes(const struct mem_jemalloc *m)
{
    return (uint64_t)m->slices * m->budget->slice_bytes;
}

static bool lease_fits(struct mem_jemalloc *m, enum mem_class class, uint64_t more)
{
    uint64_t wanted = m->used_bytes + more;
    if (wanted <= lease_bytes(m)) {
        /* Room that was leased for what must not fail is not for the others. */
        if (LIKELY(is_within(m->budget, class))) return true;
        atomic_fetch_add_explicit(&m->budget->refused, 1, memory_order_relaxed);
        return false;
    }
    uint64_t missing = wanted - lease_bytes(m);
    uint64_t slices = (missing + m->budget->slice_bytes - 1) / m->budget->slice_bytes;
    if (slices > UNLIMITED_SLICES) return false;
    if (!slices_take(m->budget, (uint32_t)slices, slices_for(m->budget, class))) return false;
    /* The process itself is asked, too, and here: main may not run for as long as it takes to fill
     * all that is left. */
    if (!process_has_room(m->budget, missing) && !is_essential(class)) {
        slices_return(m->budget, (uint32_t)slices);
        atomic_fetch_add_explicit(&m->budget->refused, 1, memory_order_relaxed);
        return false;
    }
    m->slices += (uint32_t)slices;
    return true;
}

static inline void *lease(struct mem *mem, enum mem_class class, size_t bytes, bool is_zeroed)
{
    struct mem_jemalloc *m = mem->context;
    if (bytes > PTRDIFF_MAX) return NULL;
    uint64_t real = footprint(bytes);
    if (UNLIKELY(!lease_fits(m, class, real))) return NULL;
    void *p = is_zeroed ? allocate_zero(bytes) : allocate(bytes);
    if (p != NULL) m->used_bytes += real;
    return p;
}

static void *port_alloc(struct mem *mem, enum mem_class class, size_t bytes)
{
    return lease(mem, class, bytes, false);
}

static void *port_alloc_zero(struct mem *mem, enum mem_class class, size_t bytes)
{
    return lease(mem, class, bytes, true);
}

static void port_release(struct mem *mem, enum mem_class class, void *p, size_t bytes)
{
    struct mem_jemalloc *m = mem->context;
    uint64_t real = footprint(bytes);
    must(m->used_bytes >= real);
    m->used_bytes -= real;
    deallocate(p, bytes);
    uint64_t idle = (lease_bytes(m) - m->used_bytes) / m->budget->slice_bytes;
    if (UNLIKELY(idle >= IDLE_SLICES_MAX)) {
        slices_return(m->budget, (uint32_t)idle - 1);
        m->slices -= (uint32_t)idle - 1;
    }
}

static uint32_t port_percent(const struct mem *mem)
{
    const struct mem_jemalloc *m = mem->context;
    return mem_jemalloc_budget_percent(m->budget);
}

void mem_jemalloc_tell(struct mem_jemalloc *m)
{
    uint64_t has = m->mem.used_bytes[MEM_JETSTREAM] + m->mem.used_bytes[MEM_STORE];
    uint64_t change = has - m->told_bytes; /* modulo 2^64 where it is less */
    if (change + TELL_BYTES <= 2 * (uint64_t)TELL_BYTES) return;
    atomic_fetch_add_explicit(&m->budget->jetstream_bytes, change, memory_order_relaxed);
    m->told_bytes = has;
}

static uint64_t port_jetstream_bytes(const struct mem *mem)
{
    struct mem_jemalloc *m = mem->context;
    mem_jemalloc_tell(m);
    return atomic_load_explicit(&m->budget->jetstream_bytes, memory_order_relaxed);
}

void mem_jemalloc_init(struct mem_jemalloc *m, struct mem_jemalloc_budget *b)
{
    *m = (struct mem_jemalloc){.mem = {.alloc = port_alloc,
                                       .alloc_zero = port_alloc_zero,
                                       .release = port_release,
                                       .percent = port_percent,
                                       .jetstream_bytes = port_jetstream_bytes},
                               .budget = b};
    m->mem.context = m;
}

void mem_jemalloc_deinit(struct mem_jemalloc *m)
{
    must(m->used_bytes == 0);
    atomic_fetch_sub_explicit(&m->budget->jetstream_bytes, m->told_bytes, memory_order_relaxed);
    slices_return(m->budget, m->slices);
    m->slices = 0;
}

struct beginning {
    void *(*run)(void *);
    void *argument;
    sem_t has_begun;
};

static void *begin(void *beginning)
{
    struct beginning *b = beginning;
    void *(*run)(void *) = b->run, *argument = b->argument;
    void *p = allocate(1);
    if (p != NULL) deallocate(p, 1);
    sem_post(&b->has_begun); /* b is gone from here on */
    return run(argument);
}

enum err mem_jemalloc_thread(pthread_t *thread, void *(*run)(void *), void *argument)
{
    struct beginning b = {.run = run, .argument = argument};
    pthread_attr_t how;
    size_t stack_bytes;
    if (pthread_attr_init(&how) != 0) return ERR_MEMORY;
    /* Its default is the limit of the main thread's, which some set very low. */
    if (pthread_attr_getstacksize(&how, &stack_bytes) == 0 && stack_bytes < STACK_BYTES_MIN)
        (void)pthread_attr_setstacksize(&how, STACK_BYTES_MIN);
    sem_init(&b.has_begun, 0, 0);
    enum err e = pthread_create(thread, &how, begin, &b) == 0 ? ERR_OK : ERR_MEMORY;
    pthread_attr_destroy(&how);
    while (e == ERR_OK && sem_wait(&b.has_begun) != 0) {
    }
    sem_destroy(&b.has_begun);
    return e;
}

/* --- figures --- */

#ifndef MILLRACE_SANITIZED

bool mem_jemalloc_figures(struct mem_jemalloc_figures *out)
{
    *out = (struct mem_jemalloc_figures){0};
    if (!move_epoch()) return false;
    *out = (struct mem_jemalloc_figures){.allocated_bytes = figure("stats.allocated"),
                                         .active_bytes = figure("stats.active"),
                                         .resident_bytes = figure("stats.resident"),
                                         .mapped_bytes = figure("stats.mapped"),
                                         .retained_bytes = figure("stats.retained")};
    return true;
}

static void do_in_all_arenas(const char *what)
{
    char name[32];
    snprintf(name, sizeof name, "arena.%u.%s", (unsigned)MALLCTL_ARENAS_ALL, what);
    (void)mallctl(name, NULL, NULL, NULL, 0);
}

void mem_jemalloc_purge(void)
{
    do_in_all_arenas("purge");
}

void mem_jemalloc_decay(void)
{
    do_in_all_arenas("decay");
}

#else

bool mem_jemalloc_figures(struct mem_jemalloc_figures *out)
{
    *out = (struct mem_jemalloc_figures){0};
    return false;
}

void mem_jemalloc_purge(void)
{
}

void mem_jemalloc_decay(void)
{
}

#endif
