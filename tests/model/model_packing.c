/* Packing on a helper thread beside publishing and reading, on real files: what tsan has to see,
 * since the simulators run the job on the shard's thread.
 * links: io */
#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "core/base/must.h"
#include "io/vfs_blocking.h"
#include "persist/recovery.h"
#include "persist/slog.h"
#include "tests/support/mem_heap.h"

enum {
    MESSAGES = 4600,
    HELD = 600, /* the last ones: no job makes progress while they come */
    LIVE = 300, /* the newest are, and each SPARED-th */
    SPARED = 16,
    BODY_BYTES = 600,
    A_TURN = 20, /* messages at most */
    STREAM = 5,
    TURNS_MAX = 200000,
};

/* The job's thread and what it works with. */
struct helper {
    struct vfs_blocking files;
    struct blocking blocking;
    struct mem_heap heap;
    pthread_t thread;
    struct packer *packer;
    bool is_out;
    atomic_bool is_done, is_held, is_waiting;
};

static struct {
    struct vfs_blocking files;
    struct blocking blocking;
    struct mem_heap heap;
    struct recovery recovery;
    struct slog log;
    struct helper helper;
    uint64_t now_ns;
    uint64_t appended, told; /* sequences */
    uint64_t tickets[MESSAGES + 1], places[MESSAGES + 1];
    uint32_t bytes[MESSAGES + 1];
    uint64_t jobs, beside, moves, reads;
} w;

static void body_of(uint64_t seq, char *out)
{
    for (uint32_t i = 0; i < BODY_BYTES; i++) out[i] = (char)(seq * 31 + i);
}

static bool is_live(uint64_t seq)
{
    return seq <= w.told && (seq + LIVE > w.told || seq % SPARED == 0);
}

static bool pump(void *files)
{
    return vfs_blocking_step(files);
}

/* --- the helper ------------------------------------------------------------------------------ */

static void *run_job(void *context)
{
    struct helper *h = context;
    while (atomic_load(&h->is_held)) {
        atomic_store(&h->is_waiting, true);
        usleep(100);
    }
    while (packer_step(h->packer)) continue;
    atomic_store_explicit(&h->is_done, true, memory_order_release);
    return NULL;
}

static bool start_job(void *context, struct packer *packer)
{
    struct helper *h = context;
    must(!h->is_out);
    h->packer = packer;
    h->is_out = true;
    atomic_store_explicit(&h->is_done, false, memory_order_relaxed);
    w.jobs++;
    return pthread_create(&h->thread, NULL, run_job, h) == 0;
}

static bool job_is_done(void *context)
{
    struct helper *h = context;
    if (!h->is_out) return true;
    if (!atomic_load_explicit(&h->is_done, memory_order_acquire)) return false;
    /* Not joined: that would order everything for tsan, whatever the flag does. */
    pthread_detach(h->thread);
    h->is_out = false;
    return true;
}

/* --- a toy core: one stream, whose state is its last sequence ----------------------------------
 */

static enum store_fate on_fate(void *context, uint64_t stream, uint64_t seq, uint64_t place)
{
    must(stream == STREAM && seq <= w.told);
    return is_live(seq) && w.places[seq] == place ? STORE_LIVE : STORE_DEAD;
}

static enum err on_moved(void *context, uint64_t stream, uint64_t seq, uint64_t from, uint64_t to,
                         uint32_t bytes)
{
    must(w.places[seq] == from);
    w.places[seq] = to;
    w.bytes[seq] = bytes;
    w.moves++;
    return ERR_OK;
}

static enum err on_checkpoint(void *context, uint64_t stream, struct text *out)
{
    text_bytes(out, bytes_of((const char *)&w.told, sizeof w.told));
    return ERR_OK;
}

static uint64_t on_count(void *context, uint64_t stream, uint64_t seq_first, uint64_t seq_last)
{
    uint64_t count = 0;
    for (uint64_t seq = seq_first; seq <= seq_last && seq <= w.told; seq++) count += is_live(seq);
    return count;
}

static const struct store_hooks HOOKS = {
    .fate = on_fate, .moved = on_moved, .checkpoint = on_checkpoint, .count = on_count};

static enum err on_record(void *context, const struct record *r, const struct store_stub *stub)
{
    uint64_t last;
    must(r->stream == STREAM);
    if (r->kind == RECORD_CHECKPOINT) {
        must(r->body.len == sizeof last);
        memcpy(&w.told, r->body.data, sizeof last);
        return ERR_OK;
    }
    must(r->kind == RECORD_MESSAGE && r->seq <= MESSAGES && r->seq <= w.told + 1);
    if (r->seq > w.told) w.told = r->seq;
    w.places[r->seq] = stub->place;
    w.bytes[r->seq] = stub->bytes;
    return ERR_OK;
}

static void on_lost(void *context, const struct store_lost *lost)
{
    must(lost->kind != STORE_LOST_DAMAGED);
}

/* --- the shard ---------------------------------------------------------------------------------
 */

static void take(const struct store_event *e)
{
    must(e->kind == STORE_STORED);
    while (w.told < w.appended && w.tickets[w.told + 1] <= e->ticket) w.told++;
}

static void check(uint64_t seq, const struct record *r)
{
    char body[BODY_BYTES];
    body_of(seq, body);
    must(r->seq == seq && bytes_equal(r->body, bytes_of(body, sizeof body)));
    w.reads++;
}

static void turn(void)
{
    struct store_event e;
    slog_turn(&w.log, w.now_ns += 1000000);
    for (int i = 0; i < 3; i++) (void)vfs_blocking_step(&w.files);
    while (slog_next_event(&w.log, &e))
        if (e.kind == STORE_READ)
            check(e.read->seq, &e.record);
        else
            take(&e);
}

static void read_back(uint64_t seq, struct store_read *q)
{
    struct record r;
    uint64_t reads = w.reads;
    if (!is_live(seq)) return;
    *q = (struct store_read){
        .place = w.places[seq], .stream = STREAM, .seq = seq, .bytes = w.bytes[seq]};
    enum err e = store_read(&w.log.store, q, &r);
    if (e == ERR_OK)
        check(seq, &r);
    else
        must(e == ERR_BUSY);
    for (int i = 0; i < TURNS_MAX && w.reads == reads; i++) turn();
    must(w.reads == reads + 1);
}

static void append(void)
{
    char body[BODY_BYTES];
    struct store_stub stub;
    uint64_t seq = w.appended + 1;
    body_of(seq, body);
    struct record r = {.kind = RECORD_MESSAGE,
                       .stream = STREAM,
                       .seq = seq,
                       .subject = BYTES_LITERAL("a.subject"),
                       .body = bytes_of(body, sizeof body)};
    if (store_append(&w.log.store, &r, &stub) != ERR_OK) return; /* full for a while */
    w.appended = seq;
    w.tickets[seq] = stub.ticket;
    w.places[seq] = stub.place;
    w.bytes[seq] = stub.bytes;
    w.beside += slog_is_helped(&w.log);
}

static void start(void)
{
    struct recovery_options o = {.blocking = &w.blocking,
                                 .mem = &w.heap.mem,
                                 .log_count = 1,
                                 .new_store = 3,
                                 .new_secret = 77,
                                 .replay = {.record = on_record, .lost = on_lost}};
    must(recovery_open(&w.recovery, &o) == ERR_OK);
}

/* taken: a folder of this name is made, where a pack was to be: that takes another one. */
static void publish(const char *taken)
{
    struct slog_helper helper = {.context = &w.helper, .start = start_job, .is_done = job_is_done};
    struct slog_options s = {.vfs = &w.files.vfs,
                             .mem = &w.heap.mem,
                             .segment_bytes = 128 * 1024,
                             .group_bytes = 32 * 1024,
                             .staging_bytes = 512 * 1024,
                             .cache_bytes = 128 * 1024,
                             .hooks = &HOOKS,
                             .files = &w.helper.blocking,
                             .files_mem = &w.helper.heap.mem,
                             .helper = &helper,
                             .sealed_wait = 1};
    struct store_read q;
    start();
    must(slog_open(&w.log, &s, &w.recovery.logs[0], w.recovery.logs, w.recovery.log_count) ==
         ERR_OK);
    recovery_close(&w.recovery);
    must(mkdir(taken, 0700) == 0);
    for (int i = 0; i < TURNS_MAX && w.told < MESSAGES - HELD; i++) {
        for (int k = 0; k < A_TURN && w.appended < MESSAGES - HELD; k++) append();
        turn();
        if (i % 8 == 0) read_back(w.told / 2 / SPARED * SPARED + (i % 16 == 0 ? SPARED : 0), &q);
    }
    must(w.told == MESSAGES - HELD);
    /* The log ends while a job makes no progress: the disk may be slow, and the stop has a bound.
     */
    atomic_store(&w.helper.is_held, true);
    for (int i = 0; i < TURNS_MAX && !atomic_load(&w.helper.is_waiting); i++) {
        if (w.appended < MESSAGES) append();
        turn();
        if (slog_is_helped(&w.log)) usleep(100);
    }
    must(slog_is_helped(&w.log));
    slog_stop(&w.log);
    for (int i = 0; i < TURNS_MAX && w.log.state != SLOG_STOPPED; i++) turn();
    must(w.log.state == SLOG_STOPPED && slog_is_helped(&w.log));
    atomic_store(&w.helper.is_held, false);
    while (slog_is_helped(&w.log)) {
        turn();
        usleep(100);
    }
    printf("%llu jobs, %llu messages appended beside one, %llu moved to packs, %llu read, "
           "%llu segments freed\n",
           (unsigned long long)w.jobs, (unsigned long long)w.beside, (unsigned long long)w.moves,
           (unsigned long long)w.reads, (unsigned long long)w.log.compact.counts.segments);
    must(w.jobs > 0 && w.beside > 0 && w.moves > 0 && w.log.compact.counts.segments > 2);
    must(w.log.compact.counts.errors > 0);
    slog_close(&w.log);
}

static void clear(const char *folder)
{
    DIR *d = opendir(folder);
    must(d != NULL);
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        if (e->d_name[0] != '.') must(unlinkat(dirfd(d), e->d_name, 0) == 0);
    closedir(d);
    must(rmdir(folder) == 0);
}

int main(void)
{
    char folder[] = "/tmp/millrace-model-packing-XXXXXX";
    must(mkdtemp(folder) != NULL);
    mem_heap_init(&w.heap);
    mem_heap_init(&w.helper.heap);
    must(vfs_blocking_open(&w.files, folder) == ERR_OK);
    must(vfs_blocking_open(&w.helper.files, folder) == ERR_OK);
    w.blocking = (struct blocking){.vfs = &w.files.vfs, .pump = pump, .context = &w.files};
    w.helper.blocking =
        (struct blocking){.vfs = &w.helper.files.vfs, .pump = pump, .context = &w.helper.files};
    char taken[sizeof folder + 32];
    snprintf(taken, sizeof taken, "%s/0000-00000002.pack", folder);
    publish(taken);
    /* All that is live has a place again after a start. */
    uint64_t told = w.told;
    memset(w.places, 0, sizeof w.places);
    w.told = 0;
    start();
    must(w.told == told);
    for (uint64_t seq = 1; seq <= told; seq++) must(!is_live(seq) || w.places[seq] != 0);
    recovery_close(&w.recovery);
    vfs_blocking_close(&w.files);
    vfs_blocking_close(&w.helper.files);
    must(w.heap.live_count == 0 && w.helper.heap.live_count == 0);
    must(rmdir(taken) == 0);
    clear(folder);
    return 0;
}
