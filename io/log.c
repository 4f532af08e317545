#include "io/log.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>
#include "core/base/must.h"
#include "io/log_sink.h"
#include "io/mem_jemalloc.h"

/* The ring has many producers and one consumer. A producer reserves space by moving tail, copies,
 * and publishes by storing the record's size; the writer stops at a record whose size is still 0.
 * It clears what it consumed before it moves head, so a size of 0 always means "not yet".
 *
 * Memory orders. size: stored after the text (release), loaded before it (acquire). head: stored
 * after the clearing (release), loaded before a reservation (acquire). Sleep: the writer stores
 * is_sleeping and then looks at the next size, the producer stores the size and then looks at
 * is_sleeping, all four seq_cst: one of them sees the other. */
struct record {
    _Atomic uint32_t size; /* of the record with its padding; 0: not published yet */
    uint16_t label;        /* enum log_label, or RECORD_FILLER up to the end of the ring */
    uint16_t text_bytes;
    uint64_t time_ns;
    char text[];
};

enum {
    RECORD_FILLER = 0xffff,
    RECORD_ALIGN = 16,
    OUT_BYTES = 64 * 1024 + LOG_SINK_LINE_BYTES_MAX,
};

_Static_assert(sizeof(struct record) == RECORD_ALIGN, "a filler fits any gap");
_Static_assert(LOG_LINE_BYTES_MAX < 0xffff, "text_bytes has 16 bits");
_Static_assert((LOG_RING_BYTES & (LOG_RING_BYTES - 1)) == 0, "positions are masked");

struct log {
    _Alignas(64) _Atomic uint64_t tail; /* next byte to reserve */
    _Alignas(64) _Atomic uint64_t head; /* next byte to consume; written by the writer only */
    _Atomic uint64_t written;           /* all below it has left for the sink */
    _Atomic bool is_sleeping, is_running, is_stopping, wants_reopen;
    _Atomic bool has_debug, has_trace;
    _Atomic uint64_t dropped;
    uint64_t dropped_told; /* the part of dropped that a line has told */
    int wake_fd;
    pthread_t thread;
    char *ring;
    struct log_sink *sink; /* the writer's while it runs, else the main thread's */
    pthread_mutex_t lock;
    struct log_sink *sink_next; /* under lock: from configure to the writer */
    /* Lines on their way out; the writer's. The first note_bytes tell of note_count lost ones. */
    size_t out_at, out_bytes, note_bytes;
    uint64_t note_count;
    char out[OUT_BYTES];
};

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static struct record *record_at(const struct log *l, uint64_t position)
{
    return (struct record *)(void *)(l->ring + (position & (LOG_RING_BYTES - 1)));
}

static void wake(struct log *l)
{
    uint64_t one = 1;
    ssize_t n = write(l->wake_fd, &one, sizeof one);
    (void)n; /* a full counter wakes as well */
}

/* --- producers --- */

static void ring_put(struct log *l, enum log_label label, struct bytes text)
{
    uint32_t size = (uint32_t)(sizeof(struct record) + text.len + RECORD_ALIGN - 1) &
                    ~(uint32_t)(RECORD_ALIGN - 1);
    uint64_t at, need, gap;
    uint64_t time_ns = clock_ns(CLOCK_REALTIME);
    for (;;) {
        /* head first: a tail read later is never below it. */
        uint64_t head = atomic_load_explicit(&l->head, memory_order_acquire);
        at = atomic_load_explicit(&l->tail, memory_order_relaxed);
        uint64_t to_end = LOG_RING_BYTES - (at & (LOG_RING_BYTES - 1));
        gap = to_end < size ? to_end : 0;
        need = gap + size;
        if (at + need - head > LOG_RING_BYTES) {
            atomic_fetch_add_explicit(&l->dropped, 1, memory_order_relaxed);
            return;
        }
        if (atomic_compare_exchange_weak_explicit(&l->tail, &at, at + need, memory_order_relaxed,
                                                  memory_order_relaxed)) {
            break;
        }
    }
    if (gap > 0) {
        struct record *filler = record_at(l, at);
        filler->label = RECORD_FILLER;
        atomic_store_explicit(&filler->size, (uint32_t)gap, memory_order_release);
    }
    struct record *r = record_at(l, at + gap);
    r->label = (uint16_t)label;
    r->text_bytes = (uint16_t)text.len;
    r->time_ns = time_ns;
    memcpy(r->text, text.data, text.len);
    atomic_store(&r->size, size);
    if (atomic_load(&l->is_sleeping) && atomic_exchange(&l->is_sleeping, false)) wake(l);
}

/* Before the writer runs, and after it has ended: by the calling thread, waiting a bounded time. */
static void write_directly(struct log *l, enum log_label label, struct bytes text)
{
    char line[LOG_SINK_LINE_BYTES_MAX];
    size_t bytes =
        log_sink_format(l->sink, label, clock_ns(CLOCK_REALTIME), text, line, sizeof line);
    size_t at = 0;
    while (at < bytes) {
        struct pollfd p = {.fd = log_sink_poll_fd(l->sink), .events = POLLOUT};
        size_t written = 0;
        if (p.fd >= 0 && poll(&p, 1, LOG_CLOSE_WAIT_MS) != 1) return;
        if (log_sink_write(l->sink, bytes_of(line + at, bytes - at), &written) != ERR_OK) return;
        at += written;
    }
}

void log_text(struct log *l, enum log_label label, struct bytes text)
{
    static const char cut[] = "...";
    char shortened[LOG_LINE_BYTES_MAX];
    if (l == NULL || !log_wants(l, label)) return;
    if (text.len > LOG_LINE_BYTES_MAX) {
        memcpy(shortened, text.data, LOG_LINE_BYTES_MAX);
        memcpy(shortened + LOG_LINE_BYTES_MAX - (sizeof cut - 1), cut, sizeof cut - 1);
        text = bytes_of(shortened, LOG_LINE_BYTES_MAX);
    }
    if (!atomic_load_explicit(&l->is_running, memory_order_acquire)) {
        write_directly(l, label, text);
        return;
    }
    ring_put(l, label, text);
    if (label == LOG_LABEL_FTL) (void)log_flush(l, LOG_CLOSE_WAIT_MS);
}

void log_line(struct log *l, enum log_label label, const char *format, ...)
{
    char text[LOG_LINE_BYTES_MAX + 1];
    if (l == NULL || !log_wants(l, label)) return;
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (n < 0) return;
    if ((size_t)n >= sizeof text) {
        memcpy(text + LOG_LINE_BYTES_MAX - 3, "...", 3);
        n = LOG_LINE_BYTES_MAX;
    }
    log_text(l, label, bytes_of(text, (size_t)n));
}

bool log_wants(const struct log *l, enum log_label label)
{
    if (l == NULL) return false;
    if (label == LOG_LABEL_DBG) return atomic_load_explicit(&l->has_debug, memory_order_relaxed);
    if (label == LOG_LABEL_TRC) return atomic_load_explicit(&l->has_trace, memory_order_relaxed);
    return true;
}

uint64_t log_dropped(const struct log *l)
{
    return atomic_load_explicit(&l->dropped, memory_order_relaxed);
}

bool log_flush(struct log *l, uint32_t timeout_ms)
{
    uint64_t target = atomic_load(&l->tail);
    uint64_t deadline_ns = clock_ns(CLOCK_MONOTONIC) + timeout_ms * UINT64_C(1000000);
    if (!atomic_load(&l->is_running)) return true;
    /* Only tests, fatal errors and the end wait here, so a short sleep is good enough. */
    while (atomic_load_explicit(&l->written, memory_order_acquire) < target) {
        if (clock_ns(CLOCK_MONOTONIC) > deadline_ns) return false;
        struct timespec pause = {.tv_nsec = 200000};
        nanosleep(&pause, NULL);
    }
    return true;
}

/* --- the writer --- */

static void out_line(struct log *l, enum log_label label, uint64_t time_ns, struct bytes text)
{
    l->out_bytes += log_sink_format(l->sink, label, time_ns, text, l->out + l->out_bytes,
                                    OUT_BYTES - l->out_bytes);
}

static void out_dropped(struct log *l)
{
    uint64_t dropped = atomic_load_explicit(&l->dropped, memory_order_relaxed);
    char text[96];
    if (dropped == l->dropped_told) return;
    l->note_count = dropped - l->dropped_told;
    int n = snprintf(text, sizeof text,
                     "%llu log lines dropped, the log was full or written too slowly",
                     (unsigned long long)l->note_count);
    l->dropped_told = dropped;
    out_line(l, LOG_LABEL_WRN, clock_ns(CLOCK_REALTIME), bytes_of(text, (size_t)n));
    l->note_bytes = l->out_bytes;
}

/* What waits in out never leaves: it is told when something does. */
static void out_lose(struct log *l)
{
    uint64_t lost = 0;
    for (size_t i = l->out_at; i < l->out_bytes; i++) lost += l->out[i] == '\n';
    if (l->out_at < l->note_bytes) {
        l->dropped_told -= l->note_count;
        lost--;
    }
    atomic_fetch_add_explicit(&l->dropped, lost, memory_order_relaxed);
    l->out_at = l->out_bytes = l->note_bytes = 0;
}

/* Moves published records into out, at least one when there is one, then as many as the sink
 * wants at once. */
static void out_fill(struct log *l)
{
    size_t batch = log_sink_batch_max(l->sink);
    uint64_t head = atomic_load_explicit(&l->head, memory_order_relaxed);
    l->out_at = l->out_bytes = l->note_bytes = 0;
    /* Only in front of a line: a note alone that does not get out would be tried for ever. */
    if (atomic_load_explicit(&record_at(l, head)->size, memory_order_acquire) != 0) out_dropped(l);
    for (;;) {
        struct record *r = record_at(l, head);
        uint32_t size = atomic_load_explicit(&r->size, memory_order_acquire);
        if (size == 0) break;
        if (r->label != RECORD_FILLER) {
            size_t line_max = r->text_bytes + (LOG_SINK_LINE_BYTES_MAX - LOG_LINE_BYTES_MAX);
            if (l->out_bytes > 0 && l->out_bytes + line_max > batch) break;
            out_line(l, (enum log_label)r->label, r->time_ns, bytes_of(r->text, r->text_bytes));
        }
        memset((void *)r, 0, size);
        head += size;
        atomic_store_explicit(&l->head, head, memory_order_release);
    }
}

/* What waits in out for a sink that does not take it is given up. */
static void take_new_sink(struct log *l)
{
    pthread_mutex_lock(&l->lock);
    struct log_sink *next = l->sink_next;
    l->sink_next = NULL;
    pthread_mutex_unlock(&l->lock);
    if (next == NULL) return;
    log_sink_close(l->sink);
    l->sink = next;
    out_lose(l);
}

static void reopen(struct log *l)
{
    enum err e = log_sink_reopen(l->sink);
    struct bytes text = BYTES_LITERAL("File log re-opened");
    if (e == ERR_UNSUPPORTED) {
        text = BYTES_LITERAL("File log re-open ignored, not a file logger");
    } else if (e != ERR_OK) {
        text = BYTES_LITERAL("File log could not be re-opened, lines go on into the old file");
    }
    out_line(l, e == ERR_IO ? LOG_LABEL_ERR : LOG_LABEL_INF, clock_ns(CLOCK_REALTIME), text);
}

static void sleep_until_woken(struct log *l, int poll_fd, int timeout_ms)
{
    struct pollfd p[2] = {{.fd = l->wake_fd, .events = POLLIN}, {.fd = poll_fd, .events = POLLOUT}};
    uint64_t count;
    (void)poll(p, 2, timeout_ms);
    if (p[0].revents != 0) {
        ssize_t n = read(l->wake_fd, &count, sizeof count);
        (void)n;
    }
}

/* Writes a piece of out, or waits for room without losing sight of wake_fd (whose bell rings only
 * once at the end, hence the short waits then). */
static void out_write(struct log *l, bool is_stopping)
{
    struct pollfd p = {.fd = log_sink_poll_fd(l->sink), .events = POLLOUT};
    if (p.fd >= 0 && poll(&p, 1, 0) <= 0) {
        sleep_until_woken(l, p.fd, is_stopping ? 10 : -1);
        take_new_sink(l);
        return;
    }
    size_t written = 0;
    struct bytes rest = bytes_of(l->out + l->out_at, l->out_bytes - l->out_at);
    enum err e = log_sink_write(l->sink, rest, &written);
    l->out_at += written;
    if (e != ERR_OK) out_lose(l);
}

static void sleep_unless_work(struct log *l)
{
    atomic_store(&l->is_sleeping, true);
    uint64_t head = atomic_load_explicit(&l->head, memory_order_relaxed);
    if (atomic_load(&record_at(l, head)->size) == 0 && !atomic_load(&l->wants_reopen) &&
        !atomic_load(&l->is_stopping)) {
        sleep_until_woken(l, -1, -1);
    }
    atomic_store(&l->is_sleeping, false);
}

static void *writer_main(void *context)
{
    struct log *l = context;
    uint64_t stop_ns = 0;
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, NULL); /* a reader of stderr that left is no reason to die */
    pthread_setname_np(pthread_self(), "log");
    for (;;) {
        bool is_stopping = atomic_load(&l->is_stopping);
        if (l->out_at < l->out_bytes) {
            out_write(l, is_stopping);
        } else {
            take_new_sink(l);
            atomic_store_explicit(&l->written, atomic_load_explicit(&l->head, memory_order_relaxed),
                                  memory_order_release);
            out_fill(l);
            if (l->out_bytes == 0 && atomic_exchange(&l->wants_reopen, false)) reopen(l);
            if (l->out_bytes == 0 && is_stopping) return NULL;
            if (l->out_bytes == 0) sleep_unless_work(l);
        }
        if (!is_stopping) continue;
        uint64_t now_ns = clock_ns(CLOCK_MONOTONIC);
        if (stop_ns == 0) stop_ns = now_ns + LOG_CLOSE_WAIT_MS * UINT64_C(1000000);
        if (now_ns > stop_ns) return NULL;
    }
}

/* --- life --- */

enum err log_open(const struct log_options *o, struct log **out, char *reason, size_t reason_bytes)
{
    reason[0] = 0;
    struct log *l = aligned_alloc(64, (sizeof *l + 63) / 64 * 64);
    if (l == NULL) return ERR_MEMORY;
    memset(l, 0, sizeof *l);
    enum err e = ERR_MEMORY;
    l->ring = calloc(1, LOG_RING_BYTES);
    if (l->ring == NULL) goto free_log;
    l->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (l->wake_fd < 0) goto free_ring;
    e = log_sink_open(o, &l->sink, reason, reason_bytes);
    if (e != ERR_OK) goto close_wake;
    pthread_mutex_init(&l->lock, NULL);
    atomic_store(&l->has_debug, o->has_debug);
    atomic_store(&l->has_trace, o->has_trace);
    *out = l;
    return ERR_OK;

close_wake:
    close(l->wake_fd);
free_ring:
    free(l->ring);
free_log:
    free(l);
    return e;
}

enum err log_start(struct log *l)
{
    must(!atomic_load(&l->is_running));
    if (mem_jemalloc_thread(&l->thread, writer_main, l) != ERR_OK) return ERR_MEMORY;
    atomic_store_explicit(&l->is_running, true, memory_order_release);
    return ERR_OK;
}

void log_close(struct log *l)
{
    if (l == NULL) return;
    if (atomic_load(&l->is_running)) {
        struct timespec deadline;
        clock_gettime(CLOCK_REALTIME, &deadline);
        deadline.tv_sec += 2 + LOG_CLOSE_WAIT_MS / 1000;
        atomic_store(&l->is_stopping, true);
        wake(l);
        /* A writer that hangs in the kernel keeps its memory; the process is about to end. */
        if (pthread_timedjoin_np(l->thread, NULL, &deadline) != 0) return;
    }
    log_sink_close(l->sink);
    log_sink_close(l->sink_next);
    pthread_mutex_destroy(&l->lock);
    close(l->wake_fd);
    free(l->ring);
    free(l);
}

enum err log_configure(struct log *l, const struct log_options *o, char *reason,
                       size_t reason_bytes)
{
    struct log_sink *next;
    reason[0] = 0;
    enum err e = log_sink_open(o, &next, reason, reason_bytes);
    if (e != ERR_OK) return e;
    atomic_store(&l->has_debug, o->has_debug);
    atomic_store(&l->has_trace, o->has_trace);
    pthread_mutex_lock(&l->lock);
    struct log_sink *unused = l->sink_next;
    l->sink_next = next;
    pthread_mutex_unlock(&l->lock);
    log_sink_close(unused);
    if (atomic_load(&l->is_running)) {
        wake(l);
    } else {
        take_new_sink(l);
    }
    return ERR_OK;
}

void log_reopen(struct log *l)
{
    if (!atomic_load(&l->is_running)) {
        enum err e = log_sink_reopen(l->sink);
        (void)e; /* the old file stays open then */
        return;
    }
    atomic_store(&l->wants_reopen, true);
    wake(l);
}
