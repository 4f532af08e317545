#include "bench/load_loop.h"

#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "bench/load_probe.h"
#include "core/base/must.h"

/* Between two looks at whether the user wants it to end. */
static const uint64_t INTERRUPT_NS = 100 * 1000 * 1000;

enum { EVENTS_MAX = 256, WAIT_MAX_NS = 20 * 1000 * 1000, WAIT_PAUSED_NS = 100 * 1000 };

void load_loop_init(struct load_loop *loop, uint32_t worker_count)
{
    must(worker_count > 0 && worker_count <= LOAD_THREADS_MAX);
    *loop = (struct load_loop){.worker_count = worker_count, .window = UINT64_MAX};
    size_t bytes = sizeof(struct load_worker) * worker_count;
    loop->workers = aligned_alloc(_Alignof(struct load_worker), bytes);
    must(loop->workers != NULL);
    for (uint32_t i = 0; i < worker_count; i++) {
        struct load_worker *worker = &loop->workers[i];
        *worker = (struct load_worker){.loop = loop, .index = i};
        worker->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        worker->buffer = malloc(LOAD_CONN_READ_BYTES);
        must(worker->epoll_fd >= 0 && worker->buffer != NULL);
    }
}

void load_loop_deinit(struct load_loop *loop)
{
    for (uint32_t i = 0; i < loop->worker_count; i++) {
        close(loop->workers[i].epoll_fd);
        free(loop->workers[i].buffer);
        free(loop->workers[i].conns);
        free(loop->workers[i].pubs);
    }
    free(loop->workers);
    *loop = (struct load_loop){0};
}

static void append(struct load_conn ***list, uint32_t *count, struct load_conn *conn)
{
    if ((*count & (*count - 1)) == 0) { /* grow at each power of two */
        size_t size = *count ? 2 * (size_t)*count : 1;
        *list = realloc(*list, size * sizeof((*list)[0]));
        must(*list != NULL);
    }
    (*list)[(*count)++] = conn;
}

void load_loop_add(struct load_loop *loop, uint32_t index, struct load_conn *conn)
{
    struct load_worker *worker = &loop->workers[index % loop->worker_count];
    append(&worker->conns, &worker->conn_count, conn);
    if (conn->pub) append(&worker->pubs, &worker->pub_count, conn);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = conn};
    must(epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, conn->fd, &event) == 0);
}

void load_loop_arm(struct load_worker *worker, struct load_conn *conn)
{
    bool wants = load_conn_has_output(conn);
    if (conn->failed || wants == conn->wants_write) return;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = conn};
    if (wants) event.events |= EPOLLOUT;
    must(epoll_ctl(worker->epoll_fd, EPOLL_CTL_MOD, conn->fd, &event) == 0);
    conn->wants_write = wants;
}

bool load_loop_is_publishing(const struct load_worker *worker)
{
    for (uint32_t i = 0; i < worker->pub_count; i++) {
        if (worker->pubs[i]->pub->state == LOAD_PUB_SENDING) return true;
    }
    return false;
}

const char *load_loop_error(const struct load_loop *loop)
{
    for (uint32_t i = 0; i < loop->worker_count; i++) {
        const struct load_worker *worker = &loop->workers[i];
        for (uint32_t c = 0; c < worker->conn_count; c++) {
            if (worker->conns[c]->failed) return worker->conns[c]->error;
        }
    }
    return NULL;
}

/* --- one worker ----------------------------------------------------------------------------- */

static void begin_phase(struct load_worker *worker)
{
    const struct load_phase *phase = &worker->loop->phase;
    worker->received = worker->busy_extra = worker->expected_extra = 0;
    worker->failed = false;
    for (uint32_t i = 0; i < worker->pub_count; i++) {
        struct load_conn *conn = worker->pubs[i];
        struct load_pub *pub = conn->pub;
        pub->state = LOAD_PUB_SENDING;
        pub->phase_begin = load_tape_sent(pub);
        pub->bytes_left = phase->msgs ? phase->msgs * pub->tape->frame_bytes : UINT64_MAX;
        load_loop_arm(worker, conn);
    }
    atomic_store(&worker->share.delivered, 0);
    atomic_store(&worker->share.expected, 0);
    /* Nobody may find a worker done that has not had its first turn. */
    atomic_store(&worker->share.busy, 1);
}

/* Time is over: each publisher finishes the message that it is in. */
static void stop_publishers(struct load_worker *worker)
{
    for (uint32_t i = 0; i < worker->pub_count; i++) {
        struct load_pub *pub = worker->pubs[i]->pub;
        if (pub->state != LOAD_PUB_SENDING || pub->bytes_left != UINT64_MAX) continue;
        size_t into = pub->position % pub->tape->frame_bytes;
        pub->bytes_left = into > 0 ? pub->tape->frame_bytes - into : 0;
        load_loop_arm(worker, worker->pubs[i]);
    }
}

static void publish_counters(struct load_worker *worker)
{
    uint64_t expected = worker->expected_extra;
    uint64_t busy = worker->busy_extra;
    for (uint32_t i = 0; i < worker->pub_count; i++) {
        struct load_conn *conn = worker->pubs[i];
        struct load_pub *pub = conn->pub;
        if (pub->state == LOAD_PUB_FLUSHING && conn->pongs >= pub->pongs_wanted) {
            pub->state = LOAD_PUB_IDLE;
        }
        if (pub->state != LOAD_PUB_IDLE) busy++;
        expected += (load_tape_sent(pub) - pub->phase_begin) * pub->fan;
    }
    /* expected before busy: who sees busy 0 sees the final number of deliveries. */
    atomic_store_explicit(&worker->share.delivered, worker->received, memory_order_relaxed);
    atomic_store_explicit(&worker->share.expected, expected, memory_order_relaxed);
    atomic_store_explicit(&worker->share.busy, busy, memory_order_release);
    if (worker->failed) atomic_store(&worker->loop->gave_up, true);
}

/* True when all workers are done; *moved is the sum that grows while anything happens, *waiting
 * what is undelivered. */
static bool is_phase_over(const struct load_loop *loop, uint64_t *moved, uint64_t *waiting)
{
    uint64_t busy = 0;
    uint64_t delivered = 0;
    uint64_t expected = 0;
    for (uint32_t i = 0; i < loop->worker_count; i++) {
        const struct load_share *share = &loop->workers[i].share;
        busy += atomic_load_explicit(&share->busy, memory_order_acquire);
        delivered += atomic_load_explicit(&share->delivered, memory_order_relaxed);
        expected += atomic_load_explicit(&share->expected, memory_order_relaxed);
    }
    *moved = delivered + expected;
    *waiting = expected > delivered ? expected - delivered : 0;
    return busy == 0 && delivered >= expected;
}

/* Publishers pause above the window and go on below its half. */
static void mind_window(struct load_worker *worker, uint64_t waiting)
{
    const uint64_t window = worker->loop->window;
    bool pauses = worker->is_paused ? waiting > window / 2 : waiting > window;
    if (pauses == worker->is_paused) return;
    worker->is_paused = pauses;
    for (uint32_t i = 0; i < worker->pub_count; i++) {
        worker->pubs[i]->pub->is_paused = pauses;
        load_loop_arm(worker, worker->pubs[i]);
    }
}

static void wait_and_serve(struct load_worker *worker, uint64_t wait_ns)
{
    struct epoll_event events[EVENTS_MAX];
    struct timespec wait = {.tv_nsec = (long)(wait_ns < WAIT_MAX_NS ? wait_ns : WAIT_MAX_NS)};
    int count = epoll_pwait2(worker->epoll_fd, events, EVENTS_MAX, &wait, NULL);
    for (int i = 0; i < count; i++) {
        struct load_conn *conn = events[i].data.ptr;
        if (conn->failed) continue;
        uint64_t before = conn->messages;
        /* Reading first: a publisher that also receives must not let its own messages wait. */
        if (events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP)) {
            load_conn_read(conn, worker->buffer);
        }
        load_conn_write(conn);
        load_loop_arm(worker, conn);
        worker->received += conn->messages - before;
        worker->failed = worker->failed || conn->failed;
    }
}

static void run_worker(struct load_worker *worker)
{
    struct load_loop *loop = worker->loop;
    uint64_t cpu_begin = load_probe_thread_cpu_ns();
    uint64_t moved_last = UINT64_MAX;
    uint64_t moved_at = load_probe_now_ns();
    uint64_t looked_at = moved_at;
    bool stopped = false;
    for (;;) {
        uint64_t now = load_probe_now_ns();
        uint64_t next = loop->tick ? loop->tick(worker, now) : UINT64_MAX;
        if (!stopped && now >= loop->phase.end_ns) {
            stop_publishers(worker);
            stopped = true;
        }
        publish_counters(worker);
        uint64_t moved;
        uint64_t waiting;
        if (is_phase_over(loop, &moved, &waiting) || atomic_load(&loop->gave_up)) break;
        if (moved != moved_last) {
            moved_last = moved;
            moved_at = now;
        } else if (now - moved_at > loop->phase.idle_ns) {
            atomic_store(&loop->gave_up, true);
            break;
        }
        if (now - looked_at > INTERRUPT_NS) {
            looked_at = now;
            if (load_probe_is_interrupted()) atomic_store(&loop->gave_up, true);
        }
        mind_window(worker, waiting);
        /* While paused, what is awaited may happen in another thread. */
        uint64_t wait = worker->is_paused ? WAIT_PAUSED_NS : WAIT_MAX_NS;
        if (next <= now)
            wait = 0;
        else if (next - now < wait)
            wait = next - now;
        if (!stopped && loop->phase.end_ns - now < wait) wait = loop->phase.end_ns - now;
        wait_and_serve(worker, loop->spin ? 0 : wait);
    }
    worker->cpu_ns = load_probe_thread_cpu_ns() - cpu_begin;
}

static void *worker_main(void *argument)
{
    run_worker(argument);
    return NULL;
}

/* --- all workers ---------------------------------------------------------------------------- */

static void sum_up(struct load_loop *loop)
{
    loop->expected = loop->delivered = loop->published = loop->busiest_cpu_ns = 0;
    for (uint32_t i = 0; i < loop->worker_count; i++) {
        struct load_worker *worker = &loop->workers[i];
        loop->delivered += atomic_load(&worker->share.delivered);
        loop->expected += atomic_load(&worker->share.expected);
        if (worker->cpu_ns > loop->busiest_cpu_ns) loop->busiest_cpu_ns = worker->cpu_ns;
        for (uint32_t c = 0; c < worker->pub_count; c++) {
            const struct load_pub *pub = worker->pubs[c]->pub;
            loop->published += load_tape_sent(pub) - pub->phase_begin;
        }
    }
}

bool load_loop_run(struct load_loop *loop, const struct load_phase *phase)
{
    uint64_t begin = load_probe_now_ns();
    loop->phase = *phase;
    loop->phase.end_ns = phase->msgs ? UINT64_MAX : begin + phase->run_ns;
    atomic_store(&loop->gave_up, false);
    for (uint32_t i = 0; i < loop->worker_count; i++) begin_phase(&loop->workers[i]);
    for (uint32_t i = 1; i < loop->worker_count; i++) {
        struct load_worker *worker = &loop->workers[i];
        must(pthread_create(&worker->thread, NULL, worker_main, worker) == 0);
    }
    run_worker(&loop->workers[0]);
    for (uint32_t i = 1; i < loop->worker_count; i++) pthread_join(loop->workers[i].thread, NULL);
    loop->wall_ns = load_probe_now_ns() - begin;
    sum_up(loop);
    return !atomic_load(&loop->gave_up);
}
