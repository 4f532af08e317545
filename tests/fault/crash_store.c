/* The store under power cuts, exhaustively: every workload of up to N operations, cut at every I/O
 * boundary, with every choice of what survives of what was volatile then, and once more during the
 * recovery that follows. After each: what was acknowledged is there, in order, nothing that was
 * not appended is, and the store goes on. At the level `always`, and with a sync interval: there a
 * power cut may take what no flush covered, and the end of the process nothing.
 *
 *   crash_store [--ops N] [--recovery-ops N] [--past N] [--seeds A-B]
 *   --ops: length of the workloads (default 1); --recovery-ops: up to which length the recovery is
 *   cut too (default 0); --past: nothing but workloads after this past, from 0; --seeds: long
 * random runs, with random survival
 *
 * Crashes that leave the same disk to a server that was told the same are one crash: their hash is
 * compared before anything is started, so that a workload runs once to see what it could leave, and
 * then once for each crash that leaves something new.
 *
 * And rot: each live byte of a store flipped in turn costs its record at most, and is told. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "core/base/must.h"
#include "core/base/table.h"
#include "persist/recovery.h"
#include "persist/slog.h"
#include "tests/sim/disk.h"
#include "tests/support/mem_heap.h"

enum {
    SEGMENT_BYTES = 16 * 1024,
    GROUP_BYTES = 8 * 1024,
    STAGING_BYTES = 128 * 1024,
    RECORDS_MAX = 4096,
    LOGS = 2,
    PUMPS_MAX = 100000,
    NEVER = INT32_MAX,
    STREAMS = 2,
    STREAM_FIRST = 7,
    FEW = 4,         /* volatile things: all combinations of what survives of them */
    FILE_ROUNDS = 4, /* of freeing, until a file is freed again */
    LONG_SEGMENT_BYTES = 64 * 1024,
};

enum op {
    OP_PUBLISH,
    OP_BIG,
    OP_ACK,
    OP_ERASE, /* of the oldest message */
    OP_IDLE,
    OP_WAIT,
    OP_SEAL,
    OP_FREE, /* segments that are closed */
    OP_STOP,
    OP_COUNT
};

/* A record that was appended and not refused. A toy core stands on them: a stream is its live
 * messages, and how many other records it had, with a hash of these. */
struct entry {
    uint64_t id, ticket, place;
    uint64_t target; /* ERASE: id of the message */
    uint32_t stream, bytes;
    enum record_kind kind;
    bool is_acked;
    bool is_durable; /* no power cut may take it: set when one comes, or the process ends */
    bool is_dead;    /* message: an ERASE stands behind it */
    bool is_placed;  /* message: the replay said where it lies */
};

struct toy {
    uint64_t last; /* id of the newest record in it */
    uint64_t facts, hash;
    uint64_t live[RECORDS_MAX];
    uint32_t live_count;
};

struct world {
    struct disk disk;
    struct mem_heap heap;
    struct blocking blocking;
    struct recovery recovery;
    struct slog log;
    bool is_open, is_off; /* the log runs; the power is off */
    int64_t steps, cut_at;
    struct disk_fate fate;
    bool is_kill;                      /* the cut is the end of the process only */
    uint64_t key;                      /* of what the cut is to leave; 0: not known */
    uint32_t moves, checkpoints, luck; /* which of them are refused */
    uint64_t now_ns;
    uint32_t starts;
    uint64_t ids;
    struct entry live[RECORDS_MAX]; /* appended and not refused, in order */
    uint32_t live_count;
    uint32_t told_count; /* of them were told as stored: the toy core has applied them */
    uint32_t found;
    bool was_checkpointed; /* the last replay gave a checkpoint */
    uint64_t damaged;
    bool may_fail; /* faults are planted: refusals are an answer */
    bool has_failed;
    bool is_past; /* what a workload begins with: nothing is erased for good */
};

/* A crash to look at: at this boundary, with this fate. */
struct crash {
    int64_t at;
    struct disk_fate fate;
    uint64_t key;
    bool is_proved; /* what it leaves was proved before */
};

/* Keys of what crashes left: of each it is proved once that a start goes well, and once that a cut
 * in that start does no harm. */
struct keys {
    uint64_t *slots;
    uint64_t count, capacity;
};

/* The crashes of one run that leave something new. */
struct scout {
    struct keys *keys; /* NULL: nobody looks */
    struct crash *found;
    uint32_t count, capacity;
};

static struct world w;
static struct keys proved, cut_again;
static struct scout scout;
static uint64_t cases, recoveries, crashes;
/* Rare paths, taken. */
static uint64_t failures, cache_waits, asked, moves, checkpoints, freed, recycled, dropped,
    rewritten, wiped;
static const char *doing = "";
static uint64_t sync_interval_ns; /* the level */
static uint64_t checkpoint_bytes; /* at least */
static uint64_t kills, taken;     /* processes; acknowledged records by power cuts */

static void wrong(const char *what)
{
    if (!w.has_failed) fprintf(stderr, "WRONG: %s (%s)\n", what, doing);
    w.has_failed = true;
}

static uint32_t size_of_id(uint64_t id, bool is_big)
{
    return is_big ? 7000 : (uint32_t)(20 + id % 90);
}

static uint64_t secret_id; /* of a message whose bytes are found wherever they lie; 0: none */

static char byte_of(uint64_t id, uint64_t i)
{
    uint64_t facts[] = {id, i};
    return id == secret_id ? (char)hash_bytes(facts, sizeof facts, 0) : (char)(id * 31 + i);
}

static void mark_durable(void)
{
    for (uint32_t i = 0; i < w.live_count && w.is_open; i++)
        if (w.live[i].ticket > 0 && w.live[i].ticket <= w.log.commit.durable_ticket)
            w.live[i].is_durable = true;
}

/* Now. */
static void end_process(struct disk_fate fate)
{
    mark_durable();
    w.disk.fate = fate;
    w.is_off = true;
    if (w.is_kill) {
        kills++;
        disk_kill(&w.disk);
        return;
    }
    disk_crash(&w.disk);
    for (uint32_t i = 0; i < w.live_count; i++) {
        taken += w.live[i].is_acked && !w.live[i].is_durable;
        w.live[i].is_acked = w.live[i].is_acked && w.live[i].is_durable;
    }
}

/* --- crashes that are alike ----------------------------------------------------------------- */

static uint64_t *key_slot(const struct keys *k, uint64_t key)
{
    uint64_t i = key & (k->capacity - 1);
    while (k->slots[i] != 0 && k->slots[i] != key) i = (i + 1) & (k->capacity - 1);
    return &k->slots[i];
}

/* False: it was there. */
static bool key_add(struct keys *k, uint64_t key)
{
    if (2 * (k->count + 1) > k->capacity) {
        struct keys old = *k;
        k->capacity = old.capacity == 0 ? 1 << 16 : 2 * old.capacity;
        k->slots = calloc(k->capacity, sizeof *k->slots);
        must(k->slots != NULL);
        for (uint64_t i = 0; i < old.capacity; i++)
            if (old.slots[i] != 0) *key_slot(k, old.slots[i]) = old.slots[i];
        free(old.slots);
    }
    uint64_t *slot = key_slot(k, key);
    if (*slot != 0) return false;
    *slot = key;
    k->count++;
    return true;
}

/* What a start may depend on, but for the disk: what was appended and told. */
static uint64_t hash_of_facts(void)
{
    uint64_t hash = w.ids * LOGS + w.starts % LOGS + (sync_interval_ns << 32);
    for (uint32_t i = 0; i < w.live_count; i++) {
        const struct entry *e = &w.live[i];
        bool is_kept = e->is_acked && e->is_durable;
        uint64_t facts[] = {e->id, e->target, e->stream, e->bytes, e->kind, is_kept};
        hash = hash_bytes(facts, sizeof facts, hash);
    }
    return hash;
}

static uint64_t key_of(uint64_t facts, struct disk_fate fate)
{
    uint64_t key = disk_hash_after(&w.disk, fate) ^ facts;
    return key == 0 ? 1 : key;
}

/* The fates of n volatile things. Few: each is lost, torn or whole, in every combination. Many:
 * none, all, each prefix, each missing, each torn beside whole ones and beside lost ones. */
static bool fate_at(uint32_t i, uint32_t n, struct disk_fate *out)
{
    static const enum disk_fate_kind kinds[] = {DISK_FATE_PREFIX, DISK_FATE_MISSING, DISK_FATE_TORN,
                                                DISK_FATE_TORN_ALONE};
    if (n <= FEW) {
        static const uint32_t ways[FEW + 1] = {1, 3, 9, 27, 81};
        *out = (struct disk_fate){.kind = DISK_FATE_EACH, .index = i};
        return i < ways[n];
    }
    if (i < 2) {
        *out = (struct disk_fate){.kind = i == 0 ? DISK_FATE_NONE : DISK_FATE_ALL};
        return true;
    }
    i -= 2;
    if (i >= sizeof kinds / sizeof *kinds * n) return false;
    *out = (struct disk_fate){.kind = kinds[i / n], .index = i % n};
    return true;
}

/* At a boundary: which fates would leave what no crash has left yet. */
static void look_ahead(void)
{
    uint32_t n = disk_volatile_count(&w.disk);
    mark_durable();
    uint64_t facts = hash_of_facts();
    struct disk_fate fate;
    for (uint32_t i = 0; fate_at(i, n, &fate); i++) {
        uint64_t key = key_of(facts, fate);
        crashes++;
        bool is_new = key_add(&proved, key);
        if (!is_new && (scout.keys == &proved || !key_add(scout.keys, key))) continue;
        if (is_new && scout.keys != &proved) (void)key_add(scout.keys, key);
        if (scout.count == scout.capacity) {
            scout.capacity = scout.capacity == 0 ? 1024 : 2 * scout.capacity;
            scout.found = realloc(scout.found, scout.capacity * sizeof *scout.found);
            must(scout.found != NULL);
        }
        scout.found[scout.count++] =
            (struct crash){.at = w.steps, .fate = fate, .key = key, .is_proved = !is_new};
    }
}

static bool pump(void *context)
{
    (void)context;
    if (scout.keys != NULL && !w.is_off) look_ahead();
    if (w.steps++ == w.cut_at) {
        mark_durable();
        must(w.key == 0 || key_of(hash_of_facts(), w.fate) == w.key);
        end_process(w.fate);
    }
    if (w.is_off) {
        w.disk.op_count = 0; /* what is asked of a machine without power */
        return false;
    }
    return disk_step(&w.disk);
}

/* --- the toy core ------------------------------------------------------------------------- */

static struct toy toys[STREAMS], model; /* as a replay made them */

static struct entry *entry_of(uint64_t id)
{
    uint32_t low = 0, high = w.live_count;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        if (w.live[middle].id < id)
            low = middle + 1;
        else
            high = middle;
    }
    return low < w.live_count && w.live[low].id == id ? &w.live[low] : NULL;
}

static bool toy_remove(struct toy *t, uint64_t id)
{
    for (uint32_t i = 0; i < t->live_count; i++)
        if (t->live[i] == id) {
            t->live_count--;
            memmove(&t->live[i], &t->live[i + 1], (t->live_count - i) * sizeof *t->live);
            return true;
        }
    return false;
}

static void toy_apply(struct toy *t, uint64_t id, enum record_kind kind, uint64_t target)
{
    t->last = id;
    if (kind == RECORD_MESSAGE) {
        t->live[t->live_count++] = id;
        return;
    }
    if (kind == RECORD_ERASE) (void)toy_remove(t, target);
    t->facts++;
    t->hash = (t->hash ^ id) * 0x9E3779B97F4A7C15u;
}

/* The stream as its records up to an id make it. */
static void toy_fold(struct toy *t, uint32_t stream, uint64_t last)
{
    memset(t, 0, sizeof *t);
    for (uint32_t i = 0; i < w.live_count && w.live[i].id <= last; i++)
        if (w.live[i].stream == stream)
            toy_apply(t, w.live[i].id, w.live[i].kind, w.live[i].target);
}

static uint64_t told_last(void)
{
    return w.told_count == 0 ? 0 : w.live[w.told_count - 1].id;
}

static enum store_fate on_fate(void *context, uint64_t stream, uint64_t seq, uint64_t place)
{
    (void)context;
    const struct entry *e = entry_of(seq);
    asked++;
    if (e == NULL) return STORE_DEAD; /* of a group that failed */
    if (seq > told_last()) wrong("asked about what is not told");
    if (e->stream != stream || e->place != place) return STORE_DEAD;
    toy_fold(&model, (uint32_t)stream, told_last());
    for (uint32_t i = 0; i < model.live_count; i++)
        if (model.live[i] == seq) return STORE_LIVE;
    return STORE_DEAD;
}

static enum err on_moved(void *context, uint64_t stream, uint64_t seq, uint64_t from, uint64_t to,
                         uint32_t bytes)
{
    (void)context;
    struct entry *e = entry_of(seq);
    if (e == NULL || e->stream != stream || e->place != from) {
        wrong("something else moved");
        return ERR_OK;
    }
    moves++;
    if (w.moves++ % 7 == 3) return ERR_MEMORY;
    e->place = to;
    e->bytes = bytes;
    return ERR_OK;
}

static enum err on_checkpoint(void *context, uint64_t stream, struct text *out)
{
    (void)context;
    checkpoints++;
    if (w.checkpoints++ % 5 == 2) return ERR_BUSY;
    uint64_t before = out->len;
    toy_fold(&model, (uint32_t)stream, told_last());
    uint64_t head[4] = {model.last, model.facts, model.hash, model.live_count};
    text_bytes(out, (struct bytes){(const char *)head, sizeof head});
    text_bytes(out, (struct bytes){(const char *)model.live, model.live_count * sizeof(uint64_t)});
    if (checkpoint_bytes > out->len - before)
        text_fill(out, 0, checkpoint_bytes - (out->len - before));
    return ERR_OK;
}

static uint64_t on_count(void *context, uint64_t stream, uint64_t seq_first, uint64_t seq_last)
{
    (void)context;
    toy_fold(&model, (uint32_t)stream, told_last());
    uint64_t count = 0;
    for (uint32_t i = 0; i < model.live_count; i++)
        count += model.live[i] >= seq_first && model.live[i] <= seq_last;
    return count;
}

static const struct store_hooks HOOKS = {
    .fate = on_fate, .moved = on_moved, .checkpoint = on_checkpoint, .count = on_count};

static void replay_checkpoint(struct toy *t, const struct record *r)
{
    uint64_t head[4];
    if (t->last != 0 || r->body.len < sizeof head) wrong("a checkpoint behind its records");
    memcpy(head, r->body.data, sizeof head);
    uint64_t bytes = sizeof head + head[3] * sizeof(uint64_t);
    if (r->body.len != (bytes < checkpoint_bytes ? checkpoint_bytes : bytes)) {
        wrong("a checkpoint of the wrong size");
        return;
    }
    *t = (struct toy){
        .last = head[0], .facts = head[1], .hash = head[2], .live_count = (uint32_t)head[3]};
    memcpy(t->live, r->body.data + sizeof head, head[3] * sizeof(uint64_t));
    w.was_checkpointed = true;
}

static void replay_place(struct toy *t, const struct record *r, const struct store_stub *stub)
{
    for (uint32_t i = 0; i < t->live_count; i++) {
        struct entry *e = entry_of(r->seq);
        if (t->live[i] != r->seq || e == NULL) continue;
        e->place = stub->place;
        e->bytes = stub->bytes;
        e->is_placed = true;
    }
}

static bool is_body_right(const struct record *r)
{
    for (size_t i = 0; r->body.data != NULL && i < r->body.len; i++)
        if (r->body.data[i] != byte_of(r->seq, i)) return false;
    return true;
}

static enum err on_record(void *context, const struct record *r, const struct store_stub *stub)
{
    (void)context;
    uint64_t stream = r->stream - STREAM_FIRST;
    if (stream >= STREAMS) {
        wrong("a record of no stream");
        return ERR_OK;
    }
    struct toy *t = &toys[stream];
    if (r->kind == RECORD_CHECKPOINT) {
        replay_checkpoint(t, r);
        return ERR_OK;
    }
    if (!is_body_right(r)) wrong("a record with other bytes");
    if (r->kind == RECORD_MESSAGE && r->seq <= t->last) {
        replay_place(t, r, stub);
        return ERR_OK;
    }
    struct entry *e = NULL;
    for (uint32_t i = 0; i < w.live_count && e == NULL; i++)
        if (w.live[i].stream == r->stream && w.live[i].id > t->last) e = &w.live[i];
    if (e == NULL || e->id != r->seq || e->kind != r->kind || e->target != r->prev_seq) {
        wrong("a record that was not appended, or out of order");
        return ERR_OK;
    }
    toy_apply(t, r->seq, r->kind, r->prev_seq);
    e->is_placed = true;
    e->place = stub->place;
    e->bytes = stub->bytes;
    return ERR_OK;
}

/* What the replay made is what some prefix of the records makes, and that holds all that was
 * acknowledged. */
static void judge_replay(void)
{
    uint64_t last = 0;
    for (uint32_t s = 0; s < STREAMS; s++)
        if (toys[s].last > last) last = toys[s].last;
    w.found = 0;
    while (w.found < w.live_count && w.live[w.found].id <= last) w.found++;
    for (uint32_t i = w.found; i < w.live_count; i++)
        if (w.live[i].is_acked) wrong("an acknowledged record is gone");
    for (uint32_t s = 0; s < STREAMS; s++) {
        toy_fold(&model, STREAM_FIRST + s, last);
        const struct toy *t = &toys[s];
        if (t->last != model.last) wrong("a record in the middle is gone");
        if (t->facts != model.facts || t->hash != model.hash) wrong("a fact is gone");
        if (t->live_count != model.live_count ||
            memcmp(t->live, model.live, model.live_count * sizeof *t->live) != 0)
            wrong("other messages are live");
        for (uint32_t i = 0; i < model.live_count; i++)
            if (!entry_of(model.live[i])->is_placed) wrong("a live message has no place");
    }
}

static void on_lost(void *context, const struct store_lost *lost)
{
    (void)context;
    if (lost->kind == STORE_LOST_DAMAGED) w.damaged++;
}

static void mark_dead(void)
{
    for (uint32_t i = 0; i < w.live_count; i++) w.live[i].is_dead = false;
    for (uint32_t i = 0; i < w.live_count; i++) {
        struct entry *e = w.live[i].target == 0 ? NULL : entry_of(w.live[i].target);
        if (e != NULL) e->is_dead = true;
    }
}

/* False: the power went off. */
static bool start(void)
{
    struct recovery_options o = {.blocking = &w.blocking,
                                 .mem = &w.heap.mem,
                                 .log_count = LOGS,
                                 .new_store = 11,
                                 .new_secret = 0x1234567812345678,
                                 .is_direct = true,
                                 .replay = {.record = on_record, .lost = on_lost}};
    memset(toys, 0, sizeof toys);
    for (uint32_t i = 0; i < w.live_count; i++) w.live[i].is_placed = false;
    w.damaged = 0;
    w.moves = w.checkpoints = w.luck; /* a process remembers nothing */
    recoveries++;
    enum err e = recovery_open(&w.recovery, &o);
    if (w.is_off) {
        if (e == ERR_OK) recovery_close(&w.recovery);
        return false;
    }
    if (e != ERR_OK) {
        if (!w.may_fail) wrong(err_text(e));
        return false;
    }
    judge_replay();
    if (w.damaged > 0) wrong("damage after a mere power cut");
    if (w.recovery.counts.kept > 0) wrong("a file is kept after a mere power cut");
    /* What came back is as good as acknowledged: it must not go again. */
    w.live_count = w.told_count = w.found;
    for (uint32_t i = 0; i < w.live_count; i++) {
        w.live[i].is_acked = w.live[i].is_durable = true;
        w.live[i].ticket = 0;
    }
    mark_dead();
    uint32_t number = w.starts++ % LOGS == 0 ? 1 : 0;
    struct slog_options s = {.vfs = &w.disk.vfs,
                             .mem = &w.heap.mem,
                             .segment_bytes = SEGMENT_BYTES,
                             .group_bytes = GROUP_BYTES,
                             .staging_bytes = STAGING_BYTES,
                             .is_direct = true,
                             .sync_interval_ns = sync_interval_ns,
                             .hooks = &HOOKS,
                             .files = &w.blocking,
                             .files_mem = &w.heap.mem,
                             .scrub_wait_ns = COMPACT_LOOK_NS / 2,
                             .sealed_wait = UINT32_MAX};
    e = slog_open(&w.log, &s, &w.recovery.logs[number], w.recovery.logs, w.recovery.log_count);
    recovery_close(&w.recovery);
    if (e != ERR_OK) {
        if (!w.may_fail) wrong(err_text(e));
        return false;
    }
    w.is_open = true;
    return true;
}

static void take_failed(const struct store_event *e)
{
    if (!w.may_fail) wrong("a write failed");
    failures++;
    for (uint32_t i = 0; i < w.live_count; i++)
        if (w.live[i].ticket >= e->ticket && w.live[i].is_acked) wrong("stored, then failed");
    if (e->err == ERR_DENIED) return; /* read-only: each may be there after all */
    while (w.live_count > 0 && w.live[w.live_count - 1].ticket >= e->ticket) w.live_count--;
    mark_dead();
}

/* A fourth of what is erased is erased for good. */
static void scrub_for(const struct entry *e)
{
    const struct entry *target = e->kind == RECORD_ERASE ? entry_of(e->target) : NULL;
    if (target != NULL && !w.is_past && e->id % 4 == 0) slog_scrub(&w.log, target->place);
}

static void take_events(void)
{
    struct store_event e;
    while (slog_next_event(&w.log, &e)) {
        if (e.kind == STORE_STORED)
            for (uint32_t i = w.live_count; i-- > 0 && w.live[i].ticket > 0;)
                if (w.live[i].ticket <= e.ticket && !w.live[i].is_acked) {
                    w.live[i].is_acked = true;
                    if (w.told_count <= i) w.told_count = i + 1;
                    scrub_for(&w.live[i]);
                }
        if (e.kind == STORE_FAILED) take_failed(&e);
        if (e.kind == STORE_READ) *(struct store_event *)e.read->context = e;
    }
}

static void turn(void)
{
    slog_turn(&w.log, w.now_ns += 1000);
    if (!w.is_off) take_events(); /* it may have ended in the middle of it */
}

/* One completion. False: the power went off, or nothing is left to do. */
static bool step(void)
{
    if (!pump(NULL)) return false;
    take_events();
    return true;
}

/* Until nothing more happens soon: what waits for a second, or for a retry, stays. */
static void settle(void)
{
    turn();
    for (int i = 0; i < PUMPS_MAX && !w.is_off; i++) {
        uint64_t next = slog_deadline_ns(&w.log);
        if (!step()) {
            if (w.is_off || next > w.now_ns + 2 * COMPACT_BUSY_NS) return;
            if (next > w.now_ns) w.now_ns = next;
        }
        turn();
    }
}

static enum err append(bool is_big, enum record_kind kind)
{
    static char body[8000];
    uint64_t id = w.ids + 1;
    uint32_t bytes = size_of_id(id, is_big);
    uint32_t stream = STREAM_FIRST + (kind == RECORD_MESSAGE ? is_big : id % STREAMS);
    for (uint32_t i = 0; i < bytes; i++) body[i] = byte_of(id, i);
    uint64_t target = 0;
    for (uint32_t i = 0; kind == RECORD_ERASE && i < w.live_count && target == 0; i++)
        if (w.live[i].kind == RECORD_MESSAGE && !w.live[i].is_dead) {
            target = w.live[i].id;
            stream = w.live[i].stream;
        }
    struct record r = {.kind = kind,
                       .stream = stream,
                       .seq = id,
                       .prev_seq = target,
                       .subject = BYTES_LITERAL("orders.eu"),
                       .body = {body, bytes}};
    struct store_stub stub;
    enum err e = ERR_FULL;
    for (int i = 0; i < PUMPS_MAX && e == ERR_FULL; i++) {
        e = store_append(&w.log.store, &r, &stub);
        if (e != ERR_FULL) break;
        turn();
        if (!step()) break;
    }
    if (e != ERR_OK) return e;
    must(w.live_count < RECORDS_MAX);
    w.ids = id;
    w.live[w.live_count++] = (struct entry){.id = id,
                                            .ticket = stub.ticket,
                                            .place = stub.place,
                                            .target = target,
                                            .stream = stream,
                                            .bytes = stub.bytes,
                                            .kind = kind};
    mark_dead();
    return ERR_OK;
}

/* Every live message is read back by its place; a third of them without saying how long it is. */
static void read_all(void)
{
    for (uint32_t i = 0; i < w.live_count && !w.has_failed; i++) {
        if (w.live[i].kind != RECORD_MESSAGE || w.live[i].is_dead) continue;
        struct store_event event = {.kind = STORE_STORED};
        struct store_read q = {.place = w.live[i].place,
                               .stream = w.live[i].stream,
                               .seq = w.live[i].id,
                               .bytes = i % 3 == 0 ? 0 : w.live[i].bytes,
                               .context = &event};
        struct record r;
        enum err e = store_read(&w.log.store, &q, &r);
        for (int k = 0; k < PUMPS_MAX && e == ERR_BUSY && event.kind != STORE_READ; k++) {
            struct store_event now;
            if (slog_next_event(&w.log, &now) && now.kind == STORE_READ) {
                event = now; /* its record is valid until the next call */
                break;
            }
            (void)disk_step(&w.disk);
            slog_turn(&w.log, w.now_ns);
        }
        if (e == ERR_BUSY) {
            e = event.kind == STORE_READ ? event.err : ERR_TIMEOUT;
            r = event.record;
        }
        if (e != ERR_OK) {
            wrong(err_text(e));
            return;
        }
        for (size_t k = 0; k < r.body.len; k++)
            if (r.body.data[k] != byte_of(r.seq, k)) wrong("another record was read");
        if (r.seq != w.live[i].id) wrong("another sequence was read");
    }
}

static void power_off(void)
{
    if (!w.is_off) mark_durable(); /* a stop */
    if (w.is_open) {
        cache_waits += w.log.reader.counts.waits;
        freed += w.log.compact.counts.segments;
        recycled += w.log.compact.counts.recycled;
        dropped += w.log.compact.counts.dropped;
        rewritten += w.log.compact.counts.rewritten;
        wiped += w.log.compact.counts.wiped;
    }
    if (w.is_open) slog_close(&w.log);
    w.is_open = false;
    if (w.is_off) w.disk.op_count = 0; /* asked for in the turn in which the power went */
}

/* Now, and nothing that is volatile survives. */
static void cut_power(void)
{
    end_process((struct disk_fate){.kind = DISK_FATE_NONE});
    power_off();
    w.is_off = false;
}

static void stop(void)
{
    slog_stop(&w.log);
    settle();
    if (!w.is_off && w.log.state != SLOG_STOPPED && !w.may_fail) wrong("does not stop");
    power_off();
}

static void free_segments(void)
{
    w.log.options.sealed_wait = 0;
    w.now_ns += COMPACT_LOOK_NS; /* a pack may be looked at */
    settle();
    /* Core had no time for a checkpoint, and is asked again later each time. */
    for (int i = 0; i < 4 && w.is_open && w.log.compact.state == COMPACT_CHECKPOINTING; i++) {
        w.now_ns += COMPACT_BUSY_MAX_NS;
        settle();
    }
    w.log.options.sealed_wait = UINT32_MAX;
}

static enum err append_of(enum op op)
{
    switch (op) {
    case OP_BIG: return append(true, RECORD_MESSAGE);
    case OP_ACK: return append(false, RECORD_PROGRESS);
    case OP_ERASE: return append(false, RECORD_ERASE);
    default: return append(false, RECORD_MESSAGE);
    }
}

static void run_op(enum op op)
{
    enum err e = ERR_OK;
    if (w.is_off) return;
    if (!w.is_open && !start()) return;
    switch (op) {
    case OP_PUBLISH:
    case OP_BIG:
    case OP_ACK:
    case OP_ERASE:
        e = append_of(op);
        if (e != ERR_FULL) break;
        /* No segment is ready, or a failure is not told yet: full until the log has caught up. */
        settle();
        if (!w.is_off) e = append_of(op);
        break;
    case OP_IDLE: w.now_ns += 2 * SLOG_IDLE_NS; break;
    case OP_WAIT: settle(); return;
    case OP_SEAL: (void)!slog_seal(&w.log); break; /* when the next segment is ready */
    case OP_FREE: free_segments(); return;
    default: stop(); return;
    }
    if (e != ERR_OK && !w.is_off && !w.may_fail) wrong("refused");
    if (!w.is_off) turn();
}

static void begin(int64_t cut_at, struct disk_fate fate)
{
    memset(&w, 0, sizeof w);
    disk_init(&w.disk, 1);
    w.disk.is_in_order = true;
    mem_heap_init(&w.heap);
    w.blocking = (struct blocking){.vfs = &w.disk.vfs, .pump = pump};
    w.now_ns = 1;
    w.cut_at = cut_at;
    w.fate = fate;
}

static void end(void)
{
    if (w.heap.live_count != 0 && !w.has_failed) wrong("memory is left");
    disk_deinit(&w.disk);
    cases++;
}

/* Starts again, with power: appends, stops, and finds all of it. */
static void prove(void)
{
    w.cut_at = NEVER;
    w.is_off = false;
    for (int round = 0; round < 2 && !w.has_failed; round++) {
        if (!start()) {
            wrong("does not start");
            return;
        }
        uint32_t before = w.live_count;
        if (append(false, RECORD_MESSAGE) != ERR_OK) wrong("does not go on");
        settle();
        if (w.live_count != before + 1 || !w.live[before].is_acked) wrong("not acknowledged");
        read_all();
        if (round == 0) {
            cut_power();
        } else {
            stop();
        }
    }
    if (!w.has_failed && start()) power_off();
}

/* What happened before a workload begins. */
struct past {
    const char *name;
    const enum op *ops;
    uint32_t count;
    uint32_t closed, freed; /* segments, at its end */
    bool has_pack;
};

static const enum op DEAD_SEGMENTS[] = {OP_PUBLISH, OP_ACK,  OP_ERASE, OP_WAIT, OP_SEAL, OP_PUBLISH,
                                        OP_ERASE,   OP_WAIT, OP_SEAL,  OP_ACK,  OP_WAIT};
static const enum op CHECKPOINTED[] = {OP_PUBLISH, OP_ERASE, OP_ACK,  OP_WAIT, OP_SEAL, OP_WAIT,
                                       OP_FREE,    OP_ACK,   OP_WAIT, OP_SEAL, OP_ACK,  OP_WAIT};
static const enum op LIVE_SEGMENTS[] = {OP_PUBLISH, OP_BIG,  OP_PUBLISH, OP_WAIT, OP_SEAL,
                                        OP_ERASE,   OP_WAIT, OP_SEAL,    OP_ACK,  OP_WAIT};
static const enum op DEAD_PACK[] = {OP_PUBLISH, OP_WAIT,  OP_SEAL, OP_WAIT,
                                    OP_FREE,    OP_ERASE, OP_WAIT};
static const enum op SPARSE_PACK[] = {OP_BIG,  OP_PUBLISH, OP_WAIT,  OP_SEAL,
                                      OP_WAIT, OP_FREE,    OP_ERASE, OP_WAIT};
static const enum op SPARSE_PACKS[] = {OP_BIG,   OP_PUBLISH, OP_WAIT,  OP_SEAL, OP_WAIT, OP_FREE,
                                       OP_BIG,   OP_PUBLISH, OP_WAIT,  OP_SEAL, OP_WAIT, OP_FREE,
                                       OP_ERASE, OP_ERASE,   OP_ERASE, OP_WAIT};
static const enum op PACKED[] = {OP_PUBLISH, OP_BIG, OP_PUBLISH, OP_WAIT, OP_SEAL,  OP_WAIT,
                                 OP_FREE,    OP_ACK, OP_WAIT,    OP_SEAL, OP_ERASE, OP_WAIT};
#define OPS(a) a, sizeof a / sizeof *a
static const struct past PASTS[] = {{"no past", NULL, 0, 0, 0, false},
                                    {"dead segments", OPS(DEAD_SEGMENTS), 2, 0, false},
                                    {"a checkpoint", OPS(CHECKPOINTED), 1, 1, false},
                                    {"live segments", OPS(LIVE_SEGMENTS), 2, 0, false},
                                    {"a dead pack", OPS(DEAD_PACK), 0, 1, true},
                                    {"a pack", OPS(PACKED), 1, 1, true},
                                    {"a sparse pack", OPS(SPARSE_PACK), 0, 1, true},
                                    {"two sparse packs", OPS(SPARSE_PACKS), 1, 3, true}};
enum { PASTS_COUNT = sizeof PASTS / sizeof *PASTS };

static const struct past *past = &PASTS[0];

/* Flushes as fast as they go, and hardly any. */
static const uint64_t LEVELS[] = {0, 1000000, UINT64_C(3600000000000)};
enum { LEVELS_COUNT = sizeof LEVELS / sizeof *LEVELS };

static bool live_through(void)
{
    if (past->count == 0) return start();
    int64_t cut_at = w.cut_at;
    struct keys *keys = scout.keys;
    w.cut_at = NEVER;
    scout.keys = NULL;
    w.is_past = true;
    if (!start()) return false;
    for (uint32_t i = 0; i < past->count; i++) run_op(past->ops[i]);
    settle();
    w.is_past = false;
    uint32_t closed = 0;
    while (closed < w.log.manifest.count && w.log.manifest.segments[closed].is_closed) closed++;
    if (sync_interval_ns == 0) { /* what waits for a flush there is done later */
        if (closed != past->closed || w.log.compact.counts.segments != past->freed)
            fprintf(stderr, "%s: %u closed, %llu freed\n", past->name, closed,
                    (unsigned long long)w.log.compact.counts.segments);
        must(closed == past->closed && w.log.compact.counts.segments == past->freed);
        must((w.log.manifest.pack_count > 0) == past->has_pack);
    }
    w.steps = 0;
    w.cut_at = cut_at;
    scout.keys = keys;
    return true;
}

static void workload(const enum op *ops, uint32_t count, int64_t cut_at, struct disk_fate fate,
                     uint64_t key)
{
    begin(cut_at, fate);
    w.key = key;
    if (live_through())
        for (uint32_t i = 0; i < count; i++) run_op(ops[i]);
    if (!w.is_off && w.is_open) settle();
}

static void name_case(const enum op *ops, uint32_t count, const struct crash *first,
                      const struct crash *second)
{
    static char text[240];
    int n = snprintf(text, sizeof text, "sync %llu, after %s, ops",
                     (unsigned long long)sync_interval_ns, past->name);
    for (uint32_t i = 0; i < count; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, " %d", (int)ops[i]);
    for (int i = 0; i < 2; i++) {
        const struct crash *c = i == 0 ? first : second;
        if (c == NULL) break;
        n += snprintf(text + n, sizeof text - (size_t)n, ", cut %s%lld fate %d/%u",
                      i == 0 ? "" : "again ", (long long)c->at, c->fate.kind, c->fate.index);
    }
    doing = text;
}

/* The power is back, in the middle of a start it goes again, or not. */
static void start_again(const struct crash *second)
{
    w.is_off = false;
    w.steps = 0;
    w.cut_at = second == NULL ? NEVER : second->at;
    w.fate = second == NULL ? w.fate : second->fate;
    w.key = second == NULL ? 0 : second->key;
    if (start() && second != NULL) wrong("unexpectedly open");
    power_off();
}

/* Runs until the crash, that it leaves what the scout said, and further. */
static void run_case(const enum op *ops, uint32_t count, const struct crash *first,
                     const struct crash *second)
{
    name_case(ops, count, first, second);
    workload(ops, count, first->at, first->fate, first->key);
    must(w.is_off);
    power_off();
    if (second != NULL) {
        start_again(second);
        must(w.is_off);
    }
    if (!w.has_failed) prove();
    if (w.has_failed) exit(1); /* the case is printed; what it left behind is not interesting */
    end();
}

/* The crashes that a run would leave something new with; the caller frees them. */
static struct crash *scouted(uint32_t *count)
{
    struct crash *found = scout.found;
    *count = scout.count;
    scout = (struct scout){0};
    return found;
}

/* Every boundary of the start that follows a crash. */
static void cut_the_start(const enum op *ops, uint32_t count, const struct crash *first)
{
    uint32_t n;
    name_case(ops, count, first, NULL);
    workload(ops, count, first->at, first->fate, first->key);
    power_off();
    scout.keys = &proved;
    start_again(NULL);
    struct crash *found = scouted(&n);
    end();
    for (uint32_t i = 0; i < n; i++) run_case(ops, count, first, &found[i]);
    free(found);
}

static void cut_everywhere(const enum op *ops, uint32_t count, bool is_start_cut)
{
    uint32_t n;
    name_case(ops, count, NULL, NULL);
    scout.keys = is_start_cut ? &cut_again : &proved;
    workload(ops, count, NEVER, (struct disk_fate){0}, 0);
    struct crash *found = scouted(&n);
    if (w.is_open) stop();
    if (!w.has_failed) prove();
    if (w.has_failed) exit(1);
    end();
    for (uint32_t i = 0; i < n; i++) {
        if (!found[i].is_proved) run_case(ops, count, &found[i], NULL);
        if (is_start_cut) cut_the_start(ops, count, &found[i]);
    }
    free(found);
}

/* past_only: number of the one past to begin with; PASTS_COUNT: each. */
static void every_workload(uint32_t ops_max, uint32_t recovery_ops, uint32_t past_only)
{
    for (uint32_t count = 1; count <= ops_max; count++) {
        uint32_t all = 1;
        for (uint32_t i = 0; i < count; i++) all *= OP_COUNT;
        for (uint32_t n = 0; n < all; n++) {
            enum op ops[8] = {0};
            for (uint32_t i = 0, rest = n; i < count; i++, rest /= OP_COUNT)
                ops[i] = (enum op)(rest % OP_COUNT);
            for (uint32_t i = 0; i < 2 * PASTS_COUNT; i++) {
                if (past_only < PASTS_COUNT && past_only != i % PASTS_COUNT) continue;
                past = &PASTS[i % PASTS_COUNT];
                sync_interval_ns = LEVELS[i / PASTS_COUNT];
                cut_everywhere(ops, count, count <= recovery_ops);
            }
        }
        sync_interval_ns = 0;
        printf("up to %u operations: %llu crashes, of which %llu left something new; %llu cases, "
               "%llu recoveries\n",
               count, (unsigned long long)crashes, (unsigned long long)proved.count,
               (unsigned long long)cases, (unsigned long long)recoveries);
        fflush(stdout);
    }
}

static void random_run(uint64_t seed)
{
    static char text[64];
    struct rng rng;
    snprintf(text, sizeof text, "seed %llu", (unsigned long long)seed);
    doing = text;
    rng_init(&rng, seed);
    sync_interval_ns = LEVELS[seed % LEVELS_COUNT];
    begin(NEVER, (struct disk_fate){0});
    rng_init(&w.disk.rng, seed);
    w.disk.is_in_order = false;
    for (int life = 0; life < 6 && !w.has_failed; life++) {
        w.is_off = false;
        w.steps = 0;
        w.cut_at = rng_below(&rng, 300);
        w.fate = (struct disk_fate){.kind = DISK_FATE_RANDOM};
        w.luck = rng_below(&rng, 35);
        w.is_kill = rng_below(&rng, 3) == 0;
        for (int i = 0; i < 60 && !w.is_off && !w.has_failed; i++) {
            run_op((enum op)rng_below(&rng, OP_STOP));
            for (uint32_t k = rng_below(&rng, 4); k > 0 && w.is_open && !w.is_off; k--) step();
        }
        if (!w.is_off) { /* cut here */
            w.cut_at = w.steps;
            (void)pump(NULL);
        }
        power_off();
    }
    w.is_kill = false;
    if (!w.has_failed) prove();
    if (w.has_failed) exit(1);
    end();
    sync_interval_ns = 0;
}

/* --- rot ---------------------------------------------------------------------------------- */

/* Replays without writing: what is found, compared with what was appended; gives how many are
 * missing. */
static uint64_t missing_ids;
static uint64_t lost_records;

static enum err on_rotten_record(void *context, const struct record *r,
                                 const struct store_stub *stub)
{
    (void)context;
    (void)stub;
    while (w.found < w.live_count && w.live[w.found].id != r->seq) {
        missing_ids++;
        w.found++;
    }
    if (w.found == w.live_count) wrong("a record that was not appended, after rot");
    for (size_t i = 0; i < r->body.len; i++)
        if (r->body.data[i] != byte_of(r->seq, i)) wrong("rot was replayed");
    w.found++;
    return ERR_OK;
}

static void on_rot(void *context, const struct store_lost *lost)
{
    (void)context;
    if (lost->kind == STORE_LOST_DAMAGED) w.damaged++;
    if (lost->has_count) lost_records += lost->record_count;
}

static void look_at_rot(void)
{
    struct recovery_options o = {.blocking = &w.blocking,
                                 .mem = &w.heap.mem,
                                 .is_direct = true,
                                 .is_read_only = true,
                                 .replay = {.record = on_rotten_record, .lost = on_rot}};
    w.found = 0;
    w.damaged = missing_ids = lost_records = 0;
    enum err e = recovery_open(&w.recovery, &o);
    if (e != ERR_OK) {
        wrong(err_text(e));
        return;
    }
    recovery_close(&w.recovery);
    missing_ids += w.live_count - w.found;
}

static struct disk_file *file_at(const char *path)
{
    for (int i = 0; i < DISK_NAMES_MAX; i++)
        if (strcmp(w.disk.names[i].path, path) == 0) return &w.disk.files[w.disk.names[i].file];
    must(false);
    return NULL;
}

/* Each byte of the groups of one segment is flipped in turn. At most its record is lost; what is
 * lost is told, and counted where the header of its group is whole. */
static void flip_every_byte(const char *path, uint64_t bytes)
{
    char *data = file_at(path)->now;
    uint64_t flips = 0, lost = 0;
    for (uint64_t at = 0; at < bytes && !w.has_failed; at++) {
        if (data[at] == 0 && at % 61 != 0) { /* padding mostly: a sample is enough */
            bool is_padding = true;
            for (uint64_t k = at; k % 4096 != 0 && is_padding; k++) is_padding = data[k] == 0;
            if (is_padding) continue;
        }
        data[at] ^= 0x10;
        look_at_rot();
        data[at] ^= 0x10;
        flips++;
        lost += missing_ids;
        if (missing_ids > 1) wrong("one flipped bit lost more than one record");
        if (missing_ids > 0 && w.damaged == 0) wrong("a record was lost without a word");
        if (lost_records != missing_ids) wrong("the count of what was lost is not exact");
    }
    if (lost == 0) wrong("no flip lost anything: the test is blind");
    printf("rot in %s: %llu flips, %llu lost their record\n", path, (unsigned long long)flips,
           (unsigned long long)lost);
}

/* is_clean: stopped; else the power went off after an idle second. */
static void rot(bool is_clean)
{
    static const enum op OPS[] = {OP_PUBLISH, OP_WAIT, OP_ACK,  OP_ERASE, OP_WAIT,
                                  OP_PUBLISH, OP_IDLE, OP_WAIT, OP_IDLE,  OP_WAIT};
    doing = is_clean ? "rot after a stop" : "rot after a power cut";
    begin(NEVER, (struct disk_fate){.kind = DISK_FATE_NONE});
    must(start());
    for (uint32_t i = 0; i < sizeof OPS / sizeof *OPS; i++) run_op(OPS[i]);
    uint64_t bytes = w.log.commit.offset - (is_clean ? 0 : PLACE_BLOCK_BYTES);
    if (is_clean) {
        stop();
    } else {
        cut_power();
    }
    look_at_rot();
    if (missing_ids != 0 || w.damaged != 0) wrong("something is missing before any rot");
    flip_every_byte("0001-00000001.log", bytes);
    if (w.has_failed) exit(1);
    end();
}

/* A pack: one flipped bit costs the block that it lies in, and is told; what indexes, table and
 * feet say is found elsewhere. The streams are whole in any case: their messages are known. */
static void rot_in_pack(void)
{
    static const enum op OPS_[] = {OP_PUBLISH, OP_BIG,  OP_PUBLISH, OP_WAIT, OP_SEAL,
                                   OP_WAIT,    OP_FREE, OP_ACK,     OP_WAIT};
    doing = "rot in a pack";
    begin(NEVER, (struct disk_fate){.kind = DISK_FATE_NONE});
    must(start());
    for (uint32_t i = 0; i < sizeof OPS_ / sizeof *OPS_; i++) run_op(OPS_[i]);
    uint64_t packed = w.log.compact.counts.live;
    stop();
    struct recovery_options o = {.blocking = &w.blocking,
                                 .mem = &w.heap.mem,
                                 .is_direct = true,
                                 .is_read_only = true,
                                 .is_thorough = true,
                                 .replay = {.record = on_record, .lost = on_rot}};
    struct disk_file *file = file_at("0001-00000001.pack");
    uint32_t held;
    memcpy(&held, file->now + 12, sizeof held);
    uint64_t told = 0, repaired = 0;
    for (uint64_t at = 0; at < file->now_bytes && !w.has_failed; at++) {
        if (file->now[at] == 0 && at % 7 != 0) continue;
        file->now[at] ^= 0x10;
        memset(toys, 0, sizeof toys);
        w.damaged = lost_records = 0;
        enum err e = recovery_open(&w.recovery, &o);
        file->now[at] ^= 0x10;
        if (e != ERR_OK) wrong(err_text(e));
        judge_replay();
        bool is_block = at < 32 + (uint64_t)held;
        if (is_block != (w.damaged > 0)) wrong("a damaged block is told, nothing else is");
        if (lost_records != (is_block ? packed : 0))
            wrong("the count of what was lost is not exact");
        told += w.damaged;
        repaired += w.recovery.counts.damaged_indexes;
        recovery_close(&w.recovery);
    }
    printf("rot in a pack of %llu messages: %llu blocks told, %llu indexes repaired\n",
           (unsigned long long)packed, (unsigned long long)told, (unsigned long long)repaired);
    if (packed == 0 || told == 0 || repaired == 0) wrong("the test is blind");
    if (w.has_failed) exit(1);
    end();
}

/* A segment of which a part does not validate, or cannot be read now, is not freed: what lay there
 * nobody knows (P6). */
static void rot_is_not_freed(bool is_read_error)
{
    doing = is_read_error ? "freeing what cannot be read" : "freeing what has rotted";
    begin(NEVER, (struct disk_fate){.kind = DISK_FATE_NONE});
    must(start());
    run_op(OP_PUBLISH);
    run_op(OP_PUBLISH);
    run_op(OP_WAIT);
    run_op(OP_SEAL);
    run_op(OP_PUBLISH);
    run_op(OP_WAIT);
    struct disk_file *file = file_at("0001-00000001.log");
    if (is_read_error)
        w.disk.faults.read_error_at = w.disk.faults.reads + 1;
    else
        file->now[150] ^= 1;
    /* Block by block one of them still cannot be read. */
    w.disk.is_bad_sector = is_read_error;
    run_op(OP_FREE);
    w.disk.is_bad_sector = false;
    w.disk.faults.read_error_at = 0;
    if (w.log.manifest.segments[0].number != 1 || w.log.compact.counts.segments != 0)
        wrong("it was freed");
    if (w.log.compact.state != (is_read_error ? COMPACT_PAUSED : COMPACT_PINNED))
        wrong("it is neither left alone nor tried again");
    if (is_read_error) {
        w.now_ns += 2 * COMPACT_RETRY_NS;
        run_op(OP_FREE);
        if (w.log.compact.counts.segments != 1) wrong("it is not freed later");
        stop();
        prove();
    } else {
        file->now[150] ^= 1;
        stop();
    }
    if (w.has_failed) exit(1);
    end();
}

/* Each byte of the segment that holds checkpoints is flipped in turn: one of the two of each stream
 * is whole, so nothing is lost, though what they stand for is gone. */
static void rot_in_checkpoint(void)
{
    static const enum op OPS_[] = {OP_PUBLISH, OP_ACK,  OP_ACK,  OP_ERASE, OP_WAIT,
                                   OP_SEAL,    OP_WAIT, OP_FREE, OP_WAIT};
    doing = "rot in a checkpoint";
    begin(NEVER, (struct disk_fate){.kind = DISK_FATE_NONE});
    must(start());
    for (uint32_t i = 0; i < sizeof OPS_ / sizeof *OPS_; i++) run_op(OPS_[i]);
    if (w.log.compact.counts.segments != 1) wrong("nothing was freed");
    uint64_t bytes = w.log.commit.offset, flips = 0;
    stop();
    struct recovery_options o = {.blocking = &w.blocking,
                                 .mem = &w.heap.mem,
                                 .is_direct = true,
                                 .is_read_only = true,
                                 .replay = {.record = on_record, .lost = on_rot}};
    struct disk_file *file = file_at("0001-00000002.log");
    for (uint64_t at = 0; at < bytes && !w.has_failed; at++) {
        if (file->now[at] == 0 && at % 7 != 0) continue;
        file->now[at] ^= 0x10;
        memset(toys, 0, sizeof toys);
        w.was_checkpointed = false;
        enum err e = recovery_open(&w.recovery, &o);
        file->now[at] ^= 0x10;
        if (e != ERR_OK) wrong(err_text(e));
        if (!w.was_checkpointed) wrong("both copies are gone");
        judge_replay();
        if (w.found != w.live_count) wrong("something is gone");
        recovery_close(&w.recovery);
        flips++;
    }
    printf("rot in checkpoints: %llu flips cost nothing\n", (unsigned long long)flips);
    if (flips == 0) wrong("the test is blind");
    if (w.has_failed) exit(1);
    end();
}

/* Checkpoints that take more of the log than may wait are not a reason to free segments: else a
 * server with nothing to do would write them again and again. */
static void large_checkpoints_rest(void)
{
    doing = "large checkpoints on an idle server";
    checkpoint_bytes = 24 * 1024;
    begin(NEVER, (struct disk_fate){.kind = DISK_FATE_NONE});
    must(start());
    w.log.options.sealed_wait = 1;
    for (int i = 0; i < 8; i++) {
        run_op(i % 2 == 0 ? OP_BIG : OP_ACK);
        run_op(OP_PUBLISH);
        run_op(OP_WAIT);
        (void)!slog_seal(&w.log);
    }
    uint64_t written = 0;
    for (int i = 0; i < 60; i++) {
        w.now_ns += COMPACT_LOOK_NS;
        settle();
        if (i == 30) written = w.log.compact.counts.checkpoints;
        if (w.log.compact.counts.checkpoints > 500) {
            wrong("checkpoints are written for ever");
            break;
        }
    }
    if (written == 0) wrong("nothing was freed: the test is blind");
    if (w.log.compact.counts.checkpoints != written) wrong("checkpoints are written for ever");
    stop();
    prove();
    checkpoint_bytes = 0;
    if (w.has_failed) exit(1);
    end();
}

static bool has_name(const char *path)
{
    for (int i = 0; i < DISK_NAMES_MAX; i++)
        if (strcmp(w.disk.names[i].path, path) == 0) return true;
    return false;
}

/* A pack that does not fit on the disk: nothing of it stays, and it is not tried all the time. */
static void full_while_packing(void)
{
    doing = "the disk is full while packing";
    begin(NEVER, (struct disk_fate){.kind = DISK_FATE_NONE});
    must(start());
    run_op(OP_BIG);
    run_op(OP_PUBLISH);
    run_op(OP_WAIT);
    run_op(OP_SEAL);
    run_op(OP_PUBLISH);
    run_op(OP_WAIT);
    w.disk.capacity_bytes = 1; /* files cannot grow */
    uint64_t errors = 0, began_ns = w.now_ns;
    w.log.options.sealed_wait = 0;
    while (w.now_ns < began_ns + 60 * COMPACT_RETRY_NS) {
        settle();
        w.now_ns += COMPACT_RETRY_NS / 4;
    }
    errors = w.log.compact.counts.errors;
    if (has_name("0001-00000001.pack")) wrong("a part of the pack stays");
    if (errors < 3 || errors > 8) wrong("it is tried all the time, or not at all");
    w.disk.capacity_bytes = 0;
    w.now_ns += COMPACT_RETRY_MAX_NS;
    settle();
    if (w.log.compact.counts.packs != 1) wrong("it does not go on when there is space");
    w.log.options.sealed_wait = UINT32_MAX;
    stop();
    prove();
    if (w.has_failed) exit(1);
    end();
}

/* A full disk: publishers are refused, deletes are not, and what they free is served again without
 * a restart, also while the disk stays full. */
static void full_disk(uint32_t segments, uint32_t sealed_wait)
{
    doing = sealed_wait == 0 ? "the disk is full" : "a small disk is full";
    begin(NEVER, (struct disk_fate){.kind = DISK_FATE_NONE});
    must(start());
    w.log.options.sealed_wait = sealed_wait;
    w.disk.capacity_bytes = segments * (uint64_t)SEGMENT_BYTES;
    enum err e = ERR_OK;
    uint32_t published = 0, erased = 0;
    for (; e == ERR_OK && published < 200; published++) {
        w.now_ns += SLOG_RETRY_NS;
        settle();
        e = append(true, RECORD_MESSAGE);
    }
    if (e != ERR_NO_SPACE) wrong("a full disk is no answer to a publisher");
    for (e = ERR_OK; e == ERR_OK && erased + 2 < published; erased++) {
        e = append(false, RECORD_ERASE);
        w.now_ns += COMPACT_RETRY_MAX_NS;
        settle();
    }
    if (e != ERR_OK) wrong("a delete is refused");
    for (int i = 0; i < 40; i++) {
        w.now_ns += COMPACT_RETRY_MAX_NS;
        settle();
    }
    e = append(true, RECORD_MESSAGE);
    if (e != ERR_OK) wrong("what was deleted is not free");
    w.log.options.sealed_wait = UINT32_MAX;
    settle();
    w.disk.capacity_bytes = 0;
    stop();
    prove();
    printf("full disk: %u published, %u deleted\n", published, erased);
    if (w.has_failed) exit(1);
    end();
}

static uint64_t pack_bytes(uint32_t *count)
{
    uint64_t bytes = 0;
    *count = 0;
    for (int i = 0; i < DISK_NAMES_MAX; i++) {
        const char *path = w.disk.names[i].path;
        if (strstr(path, ".pack") == NULL) continue;
        bytes += w.disk.files[w.disk.names[i].file].now_bytes;
        ++*count;
    }
    return bytes;
}

static void wait_long(void)
{
    for (int i = 0; i < 40; i++) {
        w.now_ns += COMPACT_RETRY_MAX_NS;
        settle();
    }
}

/* Checkpoints that a full disk has no room for: what is kept for deletes stays theirs, no file of
 * an attempt stays, and once the checkpoints are small what was deleted is free. */
static void full_disk_and_large_checkpoints(void)
{
    enum { SEGMENTS = 6 };
    doing = "checkpoints that do not fit on a full disk";
    begin(NEVER, (struct disk_fate){.kind = DISK_FATE_NONE});
    must(start());
    w.log.options.segment_bytes = LONG_SEGMENT_BYTES;
    w.disk.capacity_bytes = SEGMENTS * (uint64_t)LONG_SEGMENT_BYTES;
    enum err e = ERR_OK;
    uint32_t published = 0, erased = 0, files;
    for (; e == ERR_OK && published < 200; published++) {
        w.now_ns += SLOG_RETRY_NS;
        settle();
        e = append(true, RECORD_MESSAGE);
    }
    if (e != ERR_NO_SPACE) wrong("a full disk is no answer to a publisher");
    checkpoint_bytes = LONG_SEGMENT_BYTES;
    w.log.options.sealed_wait = 0;
    wait_long();
    (void)pack_bytes(&files);
    if (files > w.log.manifest.pack_count) wrong("the pack of an attempt stays");
    for (e = ERR_OK; e == ERR_OK && erased + 1 < published; erased++)
        e = append(false, RECORD_ERASE);
    settle();
    if (e != ERR_OK) wrong("checkpoints took what is kept for deletes");
    checkpoint_bytes = 0;
    wait_long();
    if (append(true, RECORD_MESSAGE) != ERR_OK) wrong("what was deleted is not free");
    w.log.options.sealed_wait = UINT32_MAX;
    settle();
    w.disk.capacity_bytes = 0;
    w.log.options.segment_bytes = SEGMENT_BYTES;
    stop();
    prove();
    if (w.has_failed) exit(1);
    end();
}

/* The manifest grows by a block, to so many, on a disk that has not one byte left: its room was
 * made before, and made larger while there was space. */
static void manifest_grows_on_a_full_disk(uint32_t blocks)
{
    doing = "the manifest grows on a full disk";
    begin(NEVER, (struct disk_fate){.kind = DISK_FATE_NONE});
    must(start());
    /* Segments are too small here to ask for it. */
    w.log.pair.reserve_bytes = 2 * PLACE_BLOCK_BYTES;
    w.disk.capacity_bytes = UINT64_MAX;
    for (uint32_t i = 0; i < blocks * 70 && w.log.state != SLOG_READ_ONLY; i++) {
        run_op(OP_ACK);
        run_op(OP_WAIT);
        run_op(OP_SEAL);
        run_op(OP_WAIT);
        uint32_t bytes = manifest_bytes(&w.log.manifest);
        if (bytes == blocks * PLACE_BLOCK_BYTES) break;
        if (bytes + PLACE_BLOCK_BYTES < blocks * PLACE_BLOCK_BYTES) continue;
        w.disk.capacity_bytes = disk_used_bytes(&w.disk) + SEGMENT_BYTES;
    }
    if (manifest_bytes(&w.log.manifest) != blocks * PLACE_BLOCK_BYTES) wrong("it does not grow");
    if (w.log.state != SLOG_RUNNING) wrong("the log is read-only");
    run_op(OP_ACK);
    stop();
    prove();
    if (w.has_failed) exit(1);
    end();
}

/* --- sparse packs -------------------------------------------------------------------------- */

static void let_it_look(void)
{
    for (int i = 0; i < 8 && !w.is_off; i++) {
        w.now_ns += 2 * COMPACT_LOOK_NS;
        settle();
    }
}

/* One pack of a large message and a small one, the large one erased. */
static void make_sparse(void)
{
    begin(NEVER, (struct disk_fate){.kind = DISK_FATE_NONE});
    must(start());
    for (uint32_t i = 0; i < sizeof SPARSE_PACK / sizeof *SPARSE_PACK; i++) run_op(SPARSE_PACK[i]);
}

/* It gives its space back, and a start finds what is left of it. */
static void sparse_is_rewritten(void)
{
    uint32_t count;
    doing = "a sparse pack";
    make_sparse();
    (void)pack_bytes(&count);
    if (count != 1 || w.log.manifest.packs[0].record_bytes < 7000) wrong("there is no pack");
    let_it_look();
    (void)pack_bytes(&count);
    if (count != 1 || w.log.manifest.packs[0].record_bytes > 400) wrong("it stays as large");
    if (w.log.compact.counts.rewritten != 1) wrong("it is not rewritten, or again and again");
    read_all();
    stop();
    prove();
    if (w.has_failed) exit(1);
    end();
}

/* Something of it cannot be read: it is left as it is, whatever else might be freed (P6). */
static void damaged_is_not_rewritten(bool is_index)
{
    doing = is_index ? "a sparse pack with a damaged index" : "a sparse pack with a damaged block";
    make_sparse();
    struct disk_file *file = file_at("0001-00000001.pack");
    uint32_t held;
    memcpy(&held, file->now + 12, sizeof held);
    uint64_t at = is_index ? 32 + (held + 7) / 8 * 8 + 40 : 60;
    file->now[at] ^= 1;
    let_it_look();
    if (!has_name("0001-00000001.pack") || w.log.compact.counts.rewritten != 0)
        wrong("it is rewritten");
    if (w.log.compact.counts.errors != 1) wrong("it is tried again and again, or never");
    file->now[at] ^= 1;
    read_all();
    stop();
    prove();
    if (w.has_failed) exit(1);
    end();
}

/* With memory for a part of a segment only it is packed all the same. */
static void packing_with_little_memory(void)
{
    enum { MEMORY = 2 * 1024 * 1024 };
    doing = "a segment that does not fit into memory";
    begin(NEVER, (struct disk_fate){.kind = DISK_FATE_NONE});
    must(start());
    w.log.options.segment_bytes = 2 * MEMORY;
    while (w.log.commit.segment_bytes < 2 * MEMORY) {
        run_op(OP_ACK);
        run_op(OP_WAIT);
        run_op(OP_SEAL);
    }
    while (w.log.commit.offset < MEMORY + MEMORY / 4) {
        run_op(OP_BIG);
        run_op(OP_PUBLISH);
        run_op(OP_WAIT);
    }
    run_op(OP_SEAL);
    w.heap.bytes_max = MEMORY;
    run_op(OP_FREE);
    w.heap.bytes_max = 0;
    if (w.log.compact.counts.packs != 1 || w.log.compact.counts.errors != 0)
        wrong("it is not packed");
    w.log.options.segment_bytes = SEGMENT_BYTES;
    read_all();
    stop();
    prove();
    if (w.has_failed) exit(1);
    end();
}

/* Without room for the new one the old one stays; with room it goes on. */
static void full_while_rewriting(void)
{
    uint32_t count;
    doing = "the disk is full while a pack is rewritten";
    make_sparse();
    w.disk.capacity_bytes = 1;
    let_it_look();
    (void)pack_bytes(&count);
    if (count != 1 || !has_name("0001-00000001.pack")) wrong("a part of the new pack stays");
    uint64_t errors = w.log.compact.counts.errors;
    if (errors < 2 || errors > 8) wrong("it is tried all the time, or not at all");
    read_all();
    w.disk.capacity_bytes = 0;
    w.now_ns += COMPACT_RETRY_MAX_NS;
    let_it_look();
    if (w.log.compact.counts.rewritten != 1) wrong("it does not go on when there is space");
    stop();
    prove();
    if (w.has_failed) exit(1);
    end();
}

/* A message or two of each of many segments: their packs become few. */
static void small_packs_become_one(void)
{
    uint32_t count, most = 0;
    doing = "small packs";
    begin(NEVER, (struct disk_fate){.kind = DISK_FATE_NONE});
    must(start());
    w.log.options.segment_bytes =
        1024 * 1024; /* what is small beside that; files stay as they are */
    for (int i = 0; i < 3 * COMPACT_SMALL_RUN; i++) {
        run_op(OP_PUBLISH);
        run_op(OP_WAIT);
        run_op(OP_SEAL);
        run_op(OP_FREE);
        (void)pack_bytes(&count);
        if (count > most) most = count;
    }
    let_it_look();
    (void)pack_bytes(&count);
    if (most < COMPACT_SMALL_RUN || count >= COMPACT_SMALL_RUN) wrong("they stay");
    read_all();
    w.log.options.segment_bytes = SEGMENT_BYTES;
    stop();
    prove();
    if (w.has_failed) exit(1);
    end();
}

/* --- erased for good ----------------------------------------------------------------------- */

static bool holds(const char *data, uint64_t bytes)
{
    char secret[16];
    for (uint32_t i = 0; i < sizeof secret; i++) secret[i] = byte_of(secret_id, i);
    return data != NULL && memmem(data, bytes, secret, sizeof secret) != NULL;
}

/* How many files hold what is secret. */
static uint32_t count_secrets(void)
{
    uint32_t count = 0;
    for (int i = 0; i < DISK_NAMES_MAX; i++) {
        if (w.disk.names[i].path[0] == 0 || w.disk.names[i].file < 0) continue;
        const struct disk_file *f = &w.disk.files[w.disk.names[i].file];
        count += holds(f->now, f->now_bytes) || holds(f->stable, f->stable_bytes);
    }
    return count;
}

/* The oldest message, now. */
static void erase_for_good(void)
{
    uint64_t place = entry_of(secret_id)->place;
    run_op(OP_ERASE);
    slog_scrub(&w.log, place);
    settle();
}

static void let_it_scrub(void)
{
    for (int i = 0; i < 40 && !w.is_off; i++) {
        w.now_ns += COMPACT_LOOK_NS / 4;
        settle();
    }
}

/* How far the message has come when it is erased. */
enum age { IN_THE_LOG, IN_A_SEALED_SEGMENT, IN_A_PACK, AGES };

static void begin_secret(enum age age)
{
    begin(NEVER, (struct disk_fate){.kind = DISK_FATE_NONE});
    must(start());
    secret_id = w.ids + 1;
    run_op(OP_PUBLISH);
    run_op(OP_BIG);
    run_op(OP_WAIT);
    if (age >= IN_A_SEALED_SEGMENT) run_op(OP_SEAL);
    run_op(OP_WAIT);
    if (age == IN_A_PACK) run_op(OP_FREE); /* its segment is recycled, with all its bytes */
    if (count_secrets() == 0) wrong("it is nowhere: the test is blind");
    if (age == IN_A_PACK && count_secrets() < 2) wrong("no earlier life: the test is blind");
}

/* Starts go from log to log: until it is that one's turn again. */
static void start_again_there(uint32_t log)
{
    w.is_off = false;
    w.cut_at = NEVER;
    must(start());
    if (w.log.manifest.log == log) return;
    stop();
    must(start());
}

/* Its bytes are off the disk, wherever they lay: in the log, in a pack, in the file that was its
 * segment once. What else lay there is there still. */
static void erased_is_gone(enum age age, bool is_cut)
{
    static char text[64];
    snprintf(text, sizeof text, "erased for good, age %d%s", (int)age,
             is_cut ? ", then a cut" : "");
    doing = text;
    begin_secret(age);
    erase_for_good();
    if (is_cut) { /* before anything happened; the manifest remembers */
        uint32_t log = w.log.manifest.log;
        cut_power();
        start_again_there(log);
    }
    let_it_scrub();
    if (count_secrets() != 0) wrong("it is still there");
    if (w.log.scrub_ns != 0 || w.log.manifest.has_scrubs) wrong("it does not come to an end");
    read_all();
    stop();
    prove();
    if (w.has_failed) exit(1);
    end();
    secret_id = 0;
}

/* The power goes at every boundary of that; the next start ends it. */
static void erased_is_gone_after_cuts(enum age age)
{
    static char text[64];
    int64_t cut_at = 0, last = -1;
    uint32_t cuts = 0;
    for (; last != cut_at; cut_at++) {
        snprintf(text, sizeof text, "erased for good, age %d, cut %d", (int)age, (int)cut_at);
        doing = text;
        begin_secret(age);
        erase_for_good();
        w.steps = 0;
        w.cut_at = cut_at;
        w.fate = (struct disk_fate){.kind = DISK_FATE_ALL};
        let_it_scrub();
        if (!w.is_off) last = cut_at + 1;
        uint32_t log = w.log.manifest.log;
        power_off();
        start_again_there(log);
        let_it_scrub();
        if (count_secrets() != 0) wrong("it is still there");
        if (w.has_failed) exit(1);
        stop();
        end();
        cuts++;
    }
    printf("erased for good, age %d: %u cuts\n", (int)age, cuts);
    secret_id = 0;
}

/* What holds it takes no write any more: it goes as it is, by the server that runs or by the next
 * one, and freeing goes on. */
static void erased_on_bad_sectors(enum age age, bool is_cut)
{
    static char text[64];
    snprintf(text, sizeof text, "erased for good on bad sectors, age %d%s", (int)age,
             is_cut ? ", then a cut" : "");
    doing = text;
    begin_secret(age);
    const char *path = age == IN_A_PACK ? "0001-00000001.pack" : "0001-00000001.log";
    file_at(path)->is_bad = true;
    uint64_t place = entry_of(secret_id)->place;
    run_op(OP_ERASE);
    slog_scrub(&w.log, place);
    if (is_cut) {
        uint32_t log = w.log.manifest.log;
        for (int i = 0; i < PUMPS_MAX && w.log.compact.state != COMPACT_WIPING; i++) {
            if (!step()) w.now_ns += COMPACT_BUSY_NS;
            turn();
        }
        if (w.log.compact.state != COMPACT_WIPING) wrong("nothing was overwritten");
        cut_power();
        if (!has_name(path)) wrong("it went before: the test is blind");
        start_again_there(log);
    }
    let_it_scrub();
    if (has_name(path)) wrong("it is still there");
    if (!is_cut && w.log.compact.counts.unwiped != 1) wrong("nobody was told");
    if (w.log.scrub_ns != 0 || w.log.manifest.has_scrubs) wrong("it does not come to an end");
    uint64_t before = w.log.compact.counts.segments;
    run_op(OP_PUBLISH);
    run_op(OP_WAIT);
    run_op(OP_SEAL);
    run_op(OP_PUBLISH);
    run_op(OP_WAIT);
    run_op(OP_FREE);
    if (w.log.compact.counts.segments == before) wrong("nothing is freed any more");
    read_all();
    stop();
    prove();
    if (w.has_failed) exit(1);
    end();
    secret_id = 0;
}

/* The log is freeing a segment, as far as n steps come, when it is erased: of the segment that
 * holds it, or, rounds later, of one whose file held it in an earlier life. */
static bool erased_while_freeing(int rounds, int n)
{
    static char text[64];
    snprintf(text, sizeof text, "erased for good, round %d of freeing, step %d", rounds, n);
    doing = text;
    begin(NEVER, (struct disk_fate){.kind = DISK_FATE_NONE});
    must(start());
    w.log.options.segment_bytes = LONG_SEGMENT_BYTES;
    while (w.log.commit.segment_bytes < LONG_SEGMENT_BYTES) {
        run_op(OP_ACK);
        run_op(OP_WAIT);
        run_op(OP_SEAL);
    }
    run_op(OP_FREE);
    /* So far in that the next life of the file does not reach it. */
    while (w.log.commit.offset < LONG_SEGMENT_BYTES - 2 * PLACE_BLOCK_BYTES) {
        run_op(OP_ACK);
        run_op(OP_WAIT);
    }
    secret_id = w.ids + 1;
    run_op(OP_PUBLISH);
    run_op(OP_WAIT);
    run_op(OP_SEAL);
    run_op(OP_WAIT);
    for (int i = 0; i < rounds; i++) {
        run_op(OP_FREE);
        run_op(OP_PUBLISH);
        run_op(OP_WAIT);
        run_op(OP_SEAL);
        run_op(OP_WAIT);
    }
    uint64_t before = w.log.compact.counts.segments;
    w.log.options.sealed_wait = 0;
    for (int i = 0; i < n; i++) {
        if (!step()) w.now_ns += COMPACT_BUSY_NS;
        turn();
    }
    if (count_secrets() == 0) wrong("it is nowhere: the test is blind");
    bool is_through = w.log.compact.counts.segments > before;
    w.log.options.sealed_wait = UINT32_MAX;
    slog_scrub(&w.log, entry_of(secret_id)->place);
    run_op(OP_ERASE);
    const struct entry *erase = &w.live[w.live_count - 1];
    for (int i = 0; i < PUMPS_MAX && !erase->is_acked; i++) {
        turn();
        (void)step();
    }
    slog_scrub(&w.log, entry_of(secret_id)->place); /* it may have moved since */
    let_it_scrub();
    if (count_secrets() != 0) wrong("it is still there");
    if (w.log.scrub_ns != 0 || w.log.manifest.has_scrubs) wrong("it does not come to an end");
    w.log.options.segment_bytes = SEGMENT_BYTES;
    read_all();
    stop();
    prove();
    if (w.has_failed) exit(1);
    end();
    secret_id = 0;
    return is_through;
}

/* Moved into a pack, and erased for good while the one it came from waits to be removed, since
 * somebody reads it: that one is overwritten too. */
static void erased_while_shedding(void)
{
    doing = "erased for good while its earlier pack is shed";
    begin(NEVER, (struct disk_fate){.kind = DISK_FATE_NONE});
    must(start());
    run_op(OP_BIG);
    secret_id = w.ids + 1;
    static const enum op rest[] = {OP_PUBLISH, OP_WAIT,  OP_SEAL, OP_WAIT,
                                   OP_FREE,    OP_ERASE, OP_WAIT};
    for (uint32_t i = 0; i < sizeof rest / sizeof *rest; i++) run_op(rest[i]);
    read_all();
    uint32_t number = w.log.manifest.packs[0].number;
    struct names_text name = names_pack(w.log.manifest.log, number);
    const struct disk_file *old = file_at(name.text);
    if (!holds(old->now, old->now_bytes)) wrong("it is not in the pack: the test is blind");
    w.now_ns += 2 * COMPACT_LOOK_NS;
    for (int i = 0; i < PUMPS_MAX && w.log.compact.state != COMPACT_SHEDDING; i++) {
        turn();
        if (w.log.compact.state != COMPACT_SHEDDING && !step()) w.now_ns += COMPACT_BUSY_NS;
    }
    if (!has_name(name.text)) wrong("it was removed: the test is blind");
    if (place_segment(entry_of(secret_id)->place) == number) wrong("it did not move");
    erase_for_good();
    let_it_scrub();
    if (has_name(name.text)) wrong("the earlier pack stays");
    if (holds(old->now, old->now_bytes)) wrong("it was removed as it was");
    if (count_secrets() != 0) wrong("it is still there");
    if (w.log.scrub_ns != 0 || w.log.manifest.has_scrubs) wrong("it does not come to an end");
    read_all();
    stop();
    prove();
    if (w.has_failed) exit(1);
    end();
    secret_id = 0;
}

/* --- the n-th call fails ------------------------------------------------------------------- */

enum fault {
    FAULT_WRITE,      /* EIO, and a part of it is there */
    FAULT_WRITES,     /* that one and all that follow */
    FAULT_SPACE,      /* ENOSPC, and nothing of it is there */
    FAULT_SPACE_LATE, /* ENOSPC, and half of it is there */
    FAULT_FLUSH,
    FAULT_READ,
    FAULT_SHORT_READ,
    FAULT_CALL, /* open, rename, unlink, truncate, allocate, list, size, a new folder */
    FAULT_MEMORY,
    FAULT_COUNT
};

static const char *const FAULT_NAMES[] = {"write",      "this write and all others",
                                          "space",      "space after half of it",
                                          "flush",      "read",
                                          "short read", "other call",
                                          "allocation"};

/* The n-th of its kind; returns the counter that n runs over. */
static const uint64_t *plant(enum fault fault, uint64_t n)
{
    struct disk_faults *f = &w.disk.faults;
    switch (fault) {
    case FAULT_WRITES: f->write_errors = UINT64_MAX; /* fall through */
    case FAULT_WRITE: f->write_error_at = n; return &f->writes;
    case FAULT_SPACE_LATE: f->is_space_late = true; /* fall through */
    case FAULT_SPACE: f->space_error_at = n; return &f->writes;
    case FAULT_FLUSH: f->flush_error_at = n; return &f->flushes;
    case FAULT_READ: f->read_error_at = n; return &f->reads;
    case FAULT_SHORT_READ: f->short_read_at = n; return &f->reads;
    case FAULT_CALL: f->call_error_at = n; return &f->calls;
    default: w.heap.fail_at = n; return &w.heap.alloc_count;
    }
}

struct script {
    const enum op *ops;
    uint32_t count;
};

/* False: n is beyond the last call. */
static bool fail_nth(enum fault fault, const struct script *script, uint64_t n)
{
    static char text[64];
    snprintf(text, sizeof text, "%s %llu fails", FAULT_NAMES[fault], (unsigned long long)n);
    doing = text;
    begin(NEVER, (struct disk_fate){.kind = DISK_FATE_NONE});
    w.may_fail = true;
    const uint64_t *calls = plant(fault, n);
    for (uint32_t i = 0; i < script->count; i++) {
        run_op(script->ops[i]);
        w.now_ns += 2 * SLOG_RETRY_NS;
    }
    bool was_reached = n <= *calls;
    w.heap.fail_at = 0;
    w.disk.faults = (struct disk_faults){0};
    cut_power();
    w.may_fail = false;
    if (!w.has_failed) prove();
    if (w.has_failed) exit(1);
    end();
    return was_reached;
}

static void every_fault(void)
{
    static const enum op LIFE[] = {OP_PUBLISH, OP_BIG,  OP_WAIT,  OP_ACK,     OP_BIG,  OP_ERASE,
                                   OP_PUBLISH, OP_WAIT, OP_STOP,  OP_PUBLISH, OP_BIG,  OP_WAIT,
                                   OP_ERASE,   OP_SEAL, OP_ERASE, OP_ERASE,   OP_FREE, OP_WAIT,
                                   OP_FREE,    OP_ACK,  OP_WAIT,  OP_STOP,    OP_IDLE, OP_WAIT};
    static const enum op REWRITE[] = {OP_BIG,   OP_PUBLISH, OP_WAIT, OP_SEAL, OP_WAIT, OP_FREE,
                                      OP_ERASE, OP_WAIT,    OP_FREE, OP_WAIT, OP_STOP};
    static const struct script SCRIPTS[] = {{OPS(LIFE)}, {OPS(REWRITE)}};
    for (int fault = 0; fault < FAULT_COUNT; fault++) {
        uint64_t calls = 0;
        for (int i = 0; i < 4; i++) {
            /* A flush that fails may take what was acknowledged: see flush_fails. */
            if (i >= 2 && fault == FAULT_FLUSH) break;
            sync_interval_ns = LEVELS[i / 2];
            for (uint64_t n = 1; fail_nth((enum fault)fault, &SCRIPTS[i % 2], n); n++) calls++;
        }
        sync_interval_ns = 0;
        printf("%s: %llu calls, each failed once\n", FAULT_NAMES[fault], (unsigned long long)calls);
    }
}

/* What a failed flush was to cover may be gone, and is told then; nothing else is, before or
 * after: the log goes on in another segment. */
static void flush_fails(void)
{
    doing = "a flush of groups fails";
    sync_interval_ns = LEVELS[1];
    begin(NEVER, (struct disk_fate){.kind = DISK_FATE_NONE});
    must(start());
    run_op(OP_PUBLISH);
    run_op(OP_WAIT);
    uint32_t segment = w.log.current;
    w.disk.faults.flush_error_at = w.disk.faults.flushes + 1;
    run_op(OP_PUBLISH);
    run_op(OP_WAIT);
    if (!w.live[1].is_acked) wrong("what was written is not told as stored");
    if (w.log.counts.failures != 1 || w.log.state != SLOG_RUNNING) wrong("it does not go on");
    run_op(OP_PUBLISH);
    run_op(OP_WAIT);
    if (w.log.current == segment || w.log.current == 0) wrong("it goes on in the same segment");
    if (!w.live[2].is_acked) wrong("what came after it is not stored");
    /* Of the second group nothing reached the disk. */
    memset(file_at("0001-00000001.log")->stable + 4096, 0, 4096);
    cut_power();
    w.is_off = false;
    look_at_rot();
    if (missing_ids != 1 || w.damaged == 0) wrong("something else is gone, or it is not told");
    if (w.has_failed) exit(1);
    end();
    sync_interval_ns = 0;
}

static void wait_for_flush(void)
{
    for (int i = 0; i < 3; i++) {
        w.now_ns += 2 * SLOG_FLUSH_PAUSE_NS;
        settle();
    }
    must(w.log.commit.durable == w.log.commit.written);
}

static void begin_relaxed(const char *what)
{
    doing = what;
    sync_interval_ns = LEVELS[2];
    begin(NEVER, (struct disk_fate){.kind = DISK_FATE_NONE});
    must(start());
}

/* The oldest message is erased, and that is in memory only when the power goes. */
static void lose_an_erase(void)
{
    w.log.flush_ns = w.now_ns; /* the next one waits */
    run_op(OP_ERASE);
    w.log.options.sealed_wait = 0;
    turn();
    w.log.compact.look_ns = w.now_ns;
    settle();
    for (int i = 0; i < 50; i++) {
        turn();
        (void)step();
    }
    if (w.log.commit.durable == w.log.commit.written) wrong("it was flushed: the test is blind");
    cut_power();
    w.is_off = false;
    prove();
    if (w.has_failed) exit(1);
    end();
    sync_interval_ns = 0;
}

/* A pack whose last message died, which no flush covered yet, stays: a power cut may take its end.
 */
static void dead_pack_is_kept_until_flushed(void)
{
    begin_relaxed("a pack dies in memory only");
    run_op(OP_PUBLISH);
    run_op(OP_WAIT);
    run_op(OP_SEAL);
    run_op(OP_PUBLISH);
    w.log.options.sealed_wait = 0;
    wait_for_flush();
    if (w.log.compact.counts.packs != 1) wrong("nothing was packed");
    lose_an_erase();
}

/* So does a segment, also where checkpoints of before its messages died stand for it already. */
static void dead_segment_is_kept_until_flushed(void)
{
    begin_relaxed("a segment dies in memory only");
    for (int i = 0; i < 2; i++) {
        run_op(OP_PUBLISH);
        run_op(OP_WAIT);
        run_op(OP_SEAL);
    }
    run_op(OP_ERASE);
    w.log.options.sealed_wait = 1;
    wait_for_flush();
    if (w.log.compact.counts.segments != 1) wrong("the first segment is not freed");
    w.log.options.sealed_wait = UINT32_MAX;
    for (uint32_t segment = w.log.current; w.log.current == segment; wait_for_flush())
        run_op(OP_PUBLISH); /* until there is room for what follows */
    lose_an_erase();
}

int main(int argc, char **argv)
{
    unsigned ops = 1, recovery_ops = 0, past_only = PASTS_COUNT;
    unsigned long first = 1, last = 300;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--ops") == 0) ops = (unsigned)strtoul(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--recovery-ops") == 0)
            recovery_ops = (unsigned)strtoul(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--past") == 0) past_only = (unsigned)strtoul(argv[i + 1], NULL, 10);
        if (strcmp(argv[i], "--seeds") == 0)
            must(sscanf(argv[i + 1], "%lu-%lu", &first, &last) == 2);
    }
    clock_t began = clock();
    if (past_only < PASTS_COUNT) {
        every_workload(ops, recovery_ops, past_only);
        return 0;
    }
    /* What finds most in least time comes first: tests/sim/broken gives it a minute. */
    flush_fails();
    dead_pack_is_kept_until_flushed();
    dead_segment_is_kept_until_flushed();
    rot(true);
    rot(false);
    rot_in_pack();
    rot_in_checkpoint();
    large_checkpoints_rest();
    full_while_packing();
    full_disk(10, 0);
    full_disk(6, 3); /* the most of it are segments that would be left as they are */
    full_disk_and_large_checkpoints();
    sparse_is_rewritten();
    damaged_is_not_rewritten(false);
    damaged_is_not_rewritten(true);
    full_while_rewriting();
    manifest_grows_on_a_full_disk(2);
    manifest_grows_on_a_full_disk(4);
    packing_with_little_memory();
    small_packs_become_one();
    for (int age = 0; age < AGES; age++) {
        erased_is_gone((enum age)age, false);
        erased_is_gone((enum age)age, true);
        erased_is_gone_after_cuts((enum age)age);
    }
    for (int age = IN_A_SEALED_SEGMENT; age < AGES; age++) {
        erased_on_bad_sectors((enum age)age, false);
        erased_on_bad_sectors((enum age)age, true);
    }
    for (int n = 0; !erased_while_freeing(0, n); n++) continue;
    for (int n = 0; !erased_while_freeing(FILE_ROUNDS, n); n++) continue;
    erased_while_shedding();
    rot_is_not_freed(false);
    rot_is_not_freed(true);
    for (unsigned long seed = first; seed <= last; seed++) random_run(seed);
    printf("%lu random runs\n", last - first + 1);
    every_fault();
    every_workload(ops, recovery_ops, past_only);
    printf("%llu failed groups, %llu reads from disk, %llu messages asked about, %llu moved, "
           "%llu checkpoints, %llu segments freed, %llu of them recycled, %llu packs dropped, %llu "
           "rewritten, %llu files overwritten\n",
           (unsigned long long)failures, (unsigned long long)cache_waits, (unsigned long long)asked,
           (unsigned long long)moves, (unsigned long long)checkpoints, (unsigned long long)freed,
           (unsigned long long)recycled, (unsigned long long)dropped, (unsigned long long)rewritten,
           (unsigned long long)wiped);
    if (failures == 0 || cache_waits == 0 || asked == 0 || checkpoints == 0 || freed == 0 ||
        recycled == 0 || dropped == 0 || rewritten == 0 || wiped == 0) {
        printf("blind: some of these paths were never taken\n");
        return 1;
    }
    printf("%llu processes killed, %llu acknowledged records that no flush covered lost\n",
           (unsigned long long)kills, (unsigned long long)taken);
    if (kills == 0 || taken == 0) {
        printf("blind: no process was killed, or no power cut took anything\n");
        return 1;
    }
    printf("%llu cases in %.1f s\n", (unsigned long long)cases,
           (double)(clock() - began) / CLOCKS_PER_SEC);
    return 0;
}
