/* Rot in a whole store, as `check` and a start see it: a store of three streams, one with a
 * consumer, one that is all packed, with a pack, checkpoints and records behind them, is stopped
 * cleanly; then bytes of every file are flipped in turn. Each is detected; it costs its record (of
 * a log), its block (of a pack), or nothing (root, manifest, indexes, group headers); and what it
 * cost is told exactly.
 *
 *   rot_store [--step N]    every N-th byte (default 331); 1: each, which takes a minute */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/must.h"
#include "core/base/varint.h"
#include "core/js/checkpoint.h"
#include "persist/check.h"
#include "persist/pack.h"
#include "persist/record.h"
#include "persist/slog.h"
#include "persist/wire.h"
#include "tests/sim/disk.h"
#include "tests/support/mem_heap.h"

enum {
    SEGMENT_BYTES = 512 * 1024,
    GROUP_BYTES = 16 * 1024,
    STAGING_BYTES = 1024 * 1024,
    MEMORY_BYTES = 1 << 20,
    BODY_BYTES_MAX = 4000,
    KNOWN_MAX = 1024,
    PUMPS_MAX = 100000,
    STREAM_LIMITS_ID = 1,
    STREAM_WORK_ID = 2,
    STREAM_QUIET_ID = 3, /* nothing of it is behind its checkpoint */
    STREAM_IDS,
    LOOK_EVERY = 5, /* so many flips between two starts */
};

/* A record of the whole store. */
struct known {
    struct names_text file;
    uint64_t offset, bytes; /* of a packed one: of all records, unpacked */
    enum record_kind kind;
    uint64_t stream, seq;
    bool is_packed, is_found;
};

enum place { PLACE_OTHER, PLACE_RECORD, PLACE_HEAD, PLACE_BLOCK, PLACE_COPY };

static struct {
    struct disk disk;
    struct mem_heap heap;
    struct blocking blocking;
    struct recovery recovery;
    struct slog log;
    struct js js;
    uint64_t now_ns;
    uint64_t seqs[STREAM_IDS]; /* by stream */
    struct known known[KNOWN_MAX];
    uint32_t known_count, lost_count;
    uint64_t live[STREAM_IDS]; /* messages of each stream, in the whole store */
    bool has_failed;
    char doing[128];
} w;

static void wrong(const char *what)
{
    if (!w.has_failed) fprintf(stderr, "WRONG: %s (%s)\n", what, w.doing);
    w.has_failed = true;
}

static bool pump(void *context)
{
    return disk_step(&w.disk);
}

/* --- making it ----------------------------------------------------------------------------- */

static enum store_fate on_fate(void *context, uint64_t stream, uint64_t seq, uint64_t place)
{
    return checkpoint_fate(&w.js, false, stream, seq, place);
}

static enum err on_moved(void *context, uint64_t stream, uint64_t seq, uint64_t from, uint64_t to,
                         uint32_t bytes)
{
    return checkpoint_moved(&w.js, stream, seq, from, to);
}

static enum err on_checkpoint(void *context, uint64_t stream, struct text *out)
{
    return checkpoint_write(&w.js, stream, out);
}

static const struct store_hooks HOOKS = {
    .fate = on_fate, .moved = on_moved, .checkpoint = on_checkpoint};

static enum err on_replay(void *context, const struct record *r, const struct store_stub *stub)
{
    enum err e = js_replay(&w.js, 0, r, stub->place);
    return e == ERR_UNKNOWN ? ERR_OK : e;
}

static void on_damage(void *context, const struct store_lost *lost)
{
    w.js.is_damaged = true;
    js_replay_lost(&w.js, lost);
}

static enum err open_store(bool is_read_only)
{
    struct recovery_options o = {.blocking = &w.blocking,
                                 .mem = &w.heap.mem,
                                 .log_count = 1,
                                 .new_store = 11,
                                 .new_secret = 0x1234567812345678,
                                 .is_direct = true,
                                 .is_read_only = is_read_only,
                                 .replay = {.record = on_replay, .lost = on_damage}};
    js_init(&w.js, &w.heap.mem, NULL, o.new_secret, MEMORY_BYTES);
    w.js.now = w.js.clock = (struct shard_time){.wall_ns = 1700000000000000000, .mono_ns = 1};
    enum err e = recovery_open(&w.recovery, &o);
    if (e == ERR_OK) js_replay_end(&w.js);
    return e;
}

static void start(void)
{
    must(open_store(false) == ERR_OK);
    struct slog_options s = {.vfs = &w.disk.vfs,
                             .mem = &w.heap.mem,
                             .segment_bytes = SEGMENT_BYTES,
                             .group_bytes = GROUP_BYTES,
                             .staging_bytes = STAGING_BYTES,
                             .is_direct = true,
                             .hooks = &HOOKS,
                             .files = &w.blocking,
                             .files_mem = &w.heap.mem,
                             .sealed_wait = UINT32_MAX};
    must(slog_open(&w.log, &s, &w.recovery.logs[0], w.recovery.logs, 1) == ERR_OK);
    recovery_close(&w.recovery);
}

static void settle(void)
{
    struct store_event e;
    for (int i = 0; i < PUMPS_MAX; i++) {
        slog_turn(&w.log, w.now_ns += 1000);
        while (slog_next_event(&w.log, &e)) must(e.kind != STORE_FAILED);
        uint64_t next = slog_deadline_ns(&w.log);
        if (disk_step(&w.disk)) continue;
        if (next > w.now_ns + 2 * COMPACT_BUSY_NS) return;
        if (next > w.now_ns) w.now_ns = next;
    }
}

static void append(struct record r)
{
    struct store_stub stub;
    r.time_ns = 1700000000000000000 + (int64_t)w.now_ns;
    enum err e = store_append(&w.log.store, &r, &stub);
    if (e == ERR_FULL) {
        settle();
        e = store_append(&w.log.store, &r, &stub);
    }
    must(e == ERR_OK);
    if (w.now_ns % 3 == 0) settle(); /* groups of one record and of several */
    w.now_ns += 1000;
    must(js_replay(&w.js, 0, &r, stub.place) == ERR_OK);
}

static void make_stream(uint64_t id, const char *name, const char *retention)
{
    char subject[32], body[512];
    snprintf(subject, sizeof subject, "$G %s", name);
    snprintf(body, sizeof body,
             "{\"config\":{\"name\":\"%s\",\"subjects\":[\"%s.>\"],\"storage\":\"file\","
             "\"num_replicas\":1,\"retention\":\"%s\",\"discard\":\"old\","
             "\"duplicate_window\":60000000000},\"created_ns\":1700000000000000000}",
             name, name, retention);
    append((struct record){.kind = RECORD_STREAM,
                           .stream = id,
                           .subject = bytes_from_text(subject),
                           .body = bytes_from_text(body)});
}

static void publish(uint64_t stream, uint32_t count)
{
    static char body[BODY_BYTES_MAX];
    for (uint32_t i = 0; i < count; i++) {
        uint64_t seq = ++w.seqs[stream];
        uint32_t bytes = 50 + (uint32_t)(seq * 397 % (BODY_BYTES_MAX - 50));
        char subject[16];
        snprintf(subject, sizeof subject, "%c.%u", "-LWQ"[stream], (unsigned)(seq % 5));
        for (uint32_t k = 0; k < bytes; k++) body[k] = (char)(seq * 31 + k * k);
        append((struct record){.kind = RECORD_MESSAGE,
                               .stream = stream,
                               .seq = seq,
                               .subject = bytes_from_text(subject),
                               .headers = BYTES_LITERAL("NATS/1.0\r\nA: b\r\n\r\n"),
                               .body = {body, bytes}});
    }
}

/* The consumer of the work queue has settled all in (from, to]. */
static void ack(uint64_t number, uint64_t from, uint64_t to)
{
    struct text body;
    text_init(&body, &w.heap.mem, MEM_JETSTREAM, 256);
    uint64_t fields[] = {1, 0, from, to, to, to, to, 0, 0};
    for (size_t i = 0; i < sizeof fields / sizeof *fields; i++) varint_put(&body, fields[i]);
    append((struct record){.kind = RECORD_PROGRESS,
                           .stream = STREAM_WORK_ID,
                           .seq = 1,
                           .prev_seq = number,
                           .body = text_written(&body)});
    text_deinit(&body);
}

static void stop(void)
{
    slog_stop(&w.log);
    settle();
    must(w.log.state == SLOG_STOPPED);
    slog_close(&w.log);
    js_deinit(&w.js);
}

static void make_store(void)
{
    disk_init(&w.disk, 1);
    w.disk.is_in_order = true;
    mem_heap_init(&w.heap);
    w.blocking = (struct blocking){.vfs = &w.disk.vfs, .pump = pump};
    w.now_ns = 1;
    start();
    settle();
    make_stream(STREAM_LIMITS_ID, "L", "limits");
    make_stream(STREAM_WORK_ID, "W", "workqueue");
    make_stream(STREAM_QUIET_ID, "Q", "limits");
    append((struct record){
        .kind = RECORD_CONSUMER,
        .stream = STREAM_WORK_ID,
        .seq = 1,
        .subject = BYTES_LITERAL("c"),
        .body = BYTES_LITERAL("{\"config\":{\"durable_name\":\"c\",\"ack_policy\":\"explicit\","
                              "\"deliver_policy\":\"all\",\"ack_wait\":30000000000,"
                              "\"max_deliver\":-1,\"max_ack_pending\":1000,\"max_waiting\":512,"
                              "\"replay_policy\":\"instant\"},"
                              "\"created_ns\":1700000000000000000}")});
    publish(STREAM_LIMITS_ID, 60);
    publish(STREAM_WORK_ID, 30);
    publish(STREAM_QUIET_ID, 6);
    append((struct record){.kind = RECORD_ERASE, .stream = STREAM_LIMITS_ID, .seq = 5});
    ack(1, 0, 4);
    settle();
    must(slog_seal(&w.log) == ERR_OK);
    publish(STREAM_LIMITS_ID, 1);
    settle();
    w.log.options.sealed_wait = 0;
    settle();
    w.log.options.sealed_wait = UINT32_MAX;
    must(w.log.compact.counts.segments == 1);
    stop();
    start();
    settle();
    publish(STREAM_LIMITS_ID, 12);
    publish(STREAM_WORK_ID, 12);
    ack(2, 4, 6);
    ack(3, 6, 9);
    publish(STREAM_LIMITS_ID, 3);
    publish(STREAM_WORK_ID, 3);
    append((struct record){.kind = RECORD_ERASE, .stream = STREAM_LIMITS_ID, .seq = 66});
    settle();
    stop();
}

/* --- looking at it ------------------------------------------------------------------------- */

static uint64_t bytes_of_record(const struct record *r, bool is_packed)
{
    return is_packed ? pack_record_bytes(r) : record_bytes(r);
}

static enum err on_known(void *context, const struct record *r, const struct check_place *place)
{
    must(w.known_count < KNOWN_MAX);
    w.known[w.known_count++] = (struct known){.file = place->file,
                                              .offset = place->offset,
                                              .bytes = bytes_of_record(r, place->is_packed),
                                              .kind = r->kind,
                                              .stream = r->stream,
                                              .seq = r->seq,
                                              .is_packed = place->is_packed};
    return ERR_OK;
}

static bool is_same(const struct names_text *a, const struct names_text *b)
{
    return strcmp(a->text, b->text) == 0;
}

static enum err on_found(void *context, const struct record *r, const struct check_place *place)
{
    for (uint32_t i = 0; i < w.known_count; i++) {
        struct known *k = &w.known[i];
        if (k->offset != place->offset || !is_same(&k->file, &place->file)) continue;
        if (k->kind != r->kind || k->stream != r->stream || k->seq != r->seq || k->is_found)
            wrong("another record than was written");
        k->is_found = true;
        return ERR_OK;
    }
    wrong("a record that was not written");
    return ERR_OK;
}

static enum err check(struct check *c, bool is_first)
{
    struct check_options o = {.blocking = &w.blocking,
                              .mem = &w.heap.mem,
                              .is_direct = true,
                              .record = is_first ? on_known : on_found,
                              .name = checkpoint_name};
    for (uint32_t i = 0; i < w.known_count; i++) w.known[i].is_found = false;
    enum err e = check_run(c, &o);
    w.lost_count = 0;
    for (uint32_t i = 0; i < w.known_count; i++) w.lost_count += !w.known[i].is_found;
    return e;
}

/* Numbers that are told as missing, of messages. */
static uint64_t told_messages(const struct check *c, const struct known *k)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < check_gap_count(c); i++) {
        struct check_gap g = check_gap_at(c, i);
        if (g.kind != CHECK_MESSAGES) continue;
        if (k == NULL)
            count += g.last - g.first + 1;
        else
            count += g.stream == k->stream && g.first <= k->seq && k->seq <= g.last;
    }
    return count;
}

/* --- what a byte belongs to ---------------------------------------------------------------- */

static struct names_text current; /* the file whose bytes are flipped */
static const char *bytes;         /* its bytes */

static bool is_named(const char *end)
{
    size_t len = strlen(current.text), tail = strlen(end);
    return len >= tail && strcmp(current.text + len - tail, end) == 0;
}

static const struct known *record_at(uint64_t at)
{
    for (uint32_t i = 0; i < w.known_count; i++)
        if (!w.known[i].is_packed && is_same(&w.known[i].file, &current) &&
            at >= w.known[i].offset && at < w.known[i].offset + w.known[i].bytes)
            return &w.known[i];
    return NULL;
}

static bool is_group_head(uint64_t at)
{
    uint64_t start = place_block_down(at);
    return at - start < 64 && wire_u32(bytes + start) == 0x3147524D;
}

/* The piece that holds the byte; 0 bytes: none does. */
static uint64_t piece_at(uint64_t at, uint64_t *start, uint32_t *kind)
{
    uint64_t offset = 0;
    for (;;) {
        *kind = wire_u32(bytes + offset + 8);
        uint64_t length = PACK_PIECE_BYTES + (uint64_t)wire_u32(bytes + offset + 12);
        if (*kind != PACK_BLOCK && *kind != PACK_INDEX && *kind != PACK_TABLE &&
            *kind != PACK_DIRECTORY)
            return 0;
        *start = offset;
        if (at < offset + length) return at >= offset ? length : 0;
        offset += (length + 7) / 8 * 8;
        if (at < offset) return 0;
    }
}

static enum place place_at(uint64_t at, uint64_t size, uint64_t *start, uint64_t *length)
{
    uint32_t kind;
    if (is_named(".log")) {
        const struct known *k = record_at(at);
        if (k == NULL) return is_group_head(at) ? PLACE_HEAD : PLACE_OTHER;
        *start = k->offset;
        *length = k->bytes;
        return PLACE_RECORD;
    }
    if (!is_named(".pack")) return PLACE_COPY;
    if (at >= size - (uint64_t)PACK_FEET * PACK_FOOT_BYTES) return PLACE_COPY;
    *length = piece_at(at, start, &kind);
    return *length == 0 ? PLACE_OTHER : kind == PACK_BLOCK ? PLACE_BLOCK : PLACE_COPY;
}

/* --- judgement ----------------------------------------------------------------------------- */

static void judge_range(const struct check *c, uint64_t start, uint64_t length)
{
    if (c->counts.lost_ranges != 1 || check_range_count(c) != 1) {
        wrong("not one damaged range");
        return;
    }
    struct check_range r = check_range_at(c, 0);
    if (!is_same(&r.file, &current) || r.offset != start || r.bytes != length)
        wrong("another range than the damaged one");
    if (!r.has_count || r.record_count != w.lost_count)
        wrong("another number of records than were lost");
}

/* Of a message with others of its stream on both sides the sequence is known. */
static void judge_record(const struct check *c, uint64_t at)
{
    const struct known *lost = record_at(at);
    bool has_before = false, has_after = false;
    if (w.lost_count != 1 || lost->is_found) wrong("another record than the damaged one is lost");
    for (uint32_t i = 0; i < w.known_count; i++) {
        const struct known *k = &w.known[i];
        if (k->kind != RECORD_MESSAGE || k->stream != lost->stream || k->is_packed) continue;
        has_before |= k->seq < lost->seq;
        has_after |= k->seq > lost->seq;
    }
    uint64_t told = told_messages(c, NULL);
    if (lost->kind == RECORD_MESSAGE && has_before && has_after) {
        if (told != 1 || told_messages(c, lost) != 1) wrong("the message is not told");
    } else if (told != 0) {
        wrong("a message is told that was not lost");
    }
}

static void judge_block(const struct check *c)
{
    for (uint32_t i = 0; i < w.known_count; i++) {
        const struct known *k = &w.known[i];
        if (k->is_found) continue;
        if (!k->is_packed) wrong("a record of a log is lost to a pack");
        if (told_messages(c, k) != 1) wrong("a lost message of a block is not told");
    }
    if (w.lost_count == 0) wrong("a damaged block costs nothing");
    if (told_messages(c, NULL) != w.lost_count) wrong("messages are told that were not lost");
}

static void judge(enum place place, const struct check *c, uint64_t at, uint64_t start,
                  uint64_t length)
{
    const struct check_counts *n = &c->counts;
    switch (place) {
    case PLACE_OTHER:
        if (n->lost_ranges + n->copy_ranges + w.lost_count != 0) wrong("padding costs something");
        break;
    case PLACE_RECORD:
        judge_range(c, start, length);
        judge_record(c, at);
        break;
    case PLACE_HEAD:
        if (w.lost_count != 0) wrong("the header of a group costs a record");
        if (n->lost_ranges == 0) wrong("a damaged header is not told");
        break;
    case PLACE_BLOCK:
        judge_range(c, start, length);
        judge_block(c);
        break;
    case PLACE_COPY:
        if (w.lost_count + n->lost_ranges != 0) wrong("one of two copies costs something");
        if (n->copy_ranges != 1) wrong("a damaged copy is not told");
        break;
    }
}

static uint64_t live_of(uint64_t stream, uint64_t *lost)
{
    const struct js_stream *s = js_find_id(&w.js, stream);
    if (s == NULL) return 0;
    *lost = s->messages_lost;
    return s->stream.msgs.live_count;
}

static uint64_t last_of(uint64_t stream)
{
    const struct js_stream *s = js_find_id(&w.js, stream);
    return s == NULL ? 0 : s->stream.seq_last;
}

/* It lies before all checkpoints of its segment, which have all of its time. */
static bool is_contained(const struct known *k)
{
    bool has_later = false;
    for (uint32_t i = 0; i < w.known_count; i++) {
        if (w.known[i].kind != RECORD_CHECKPOINT || !is_same(&w.known[i].file, &k->file)) continue;
        if (w.known[i].offset < k->offset) return false;
        has_later = true;
    }
    return has_later;
}

/* A start finds all but what was lost. In the log a lost record may be one that takes messages out
 * (ERASE, PROGRESS): these are there again. */
static void judge_start(enum place place, uint64_t at)
{
    const struct known *k = place == PLACE_RECORD ? record_at(at) : NULL;
    if (open_store(true) != ERR_OK) {
        wrong("does not start");
        return;
    }
    recovery_close(&w.recovery);
    for (uint64_t id = STREAM_LIMITS_ID; id < STREAM_IDS; id++) {
        uint64_t lost = 0, live = live_of(id, &lost);
        bool is_hit = k != NULL && k->stream == id;
        bool is_message = is_hit && k->kind == RECORD_MESSAGE;
        bool is_named =
            k != NULL && at - k->offset >= 4 && at - k->offset < 16 && at != k->offset + 5;
        if (is_hit && k->kind == RECORD_CHECKPOINT &&
            (live != w.live[id] || (lost != 0 && !is_named)))
            wrong("a damaged checkpoint costs something: it has a twin");
        if (!is_hit && (live != w.live[id] || (lost != 0 && !is_named)))
            wrong("a stream that is whole changed");
        if (last_of(id) < w.seqs[id]) wrong("a sequence that was given would be given again");
        if (last_of(id) > w.seqs[id] + (k != NULL && !is_contained(k)))
            wrong("sequences are passed over for nothing");
        if (is_message && live + 1 != w.live[id] && live != w.live[id])
            wrong("more than the damaged message is gone");
        if (is_message && live + lost != w.live[id] && live + lost != w.live[id] + 1 &&
            w.seqs[id] != k->seq)
            wrong("the stream does not say what it lost");
    }
    js_deinit(&w.js);
}

static void flip(char *data, uint64_t at, uint64_t size, uint32_t *flips)
{
    static struct check c;
    uint64_t start = 0, length = 0;
    enum place place = place_at(at, size, &start, &length);
    if (place == PLACE_OTHER && at % 7 != 0) return;
    snprintf(w.doing, sizeof w.doing, "%s, byte %llu", current.text, (unsigned long long)at);
    data[at] ^= (char)(1 << at % 8);
    if (check(&c, false) != ERR_OK) wrong("cannot be checked");
    /* What a byte belongs to is told by the bytes as they were. */
    data[at] ^= (char)(1 << at % 8);
    judge(place, &c, at, start, length);
    check_close(&c);
    data[at] ^= (char)(1 << at % 8);
    bool is_old = place == PLACE_RECORD && is_contained(record_at(at));
    if (++*flips % LOOK_EVERY == 0 || is_old) judge_start(place, at);
    data[at] ^= (char)(1 << at % 8);
}

static uint64_t end_of(const struct names_text *file)
{
    uint64_t end = 0;
    for (uint32_t i = 0; i < w.known_count; i++)
        if (is_same(&w.known[i].file, file) && w.known[i].offset + w.known[i].bytes > end)
            end = w.known[i].offset + w.known[i].bytes;
    return end;
}

static void flip_file(const struct disk_name *name, uint64_t step)
{
    struct disk_file *f = &w.disk.files[name->file];
    uint32_t flips = 0;
    snprintf(current.text, sizeof current.text, "%s", name->path);
    bytes = f->now;
    f->used = f->capacity;
    uint64_t end = is_named(".log") ? end_of(&current) : f->now_bytes;
    for (uint64_t at = end % step; at < end && !w.has_failed; at += step)
        flip(f->now, at, f->now_bytes, &flips);
    printf("%s: %u of %llu bytes flipped\n", name->path, flips, (unsigned long long)end);
}

int main(int argc, char **argv)
{
    static struct check c;
    uint64_t step = 331;
    if (argc == 3 && strcmp(argv[1], "--step") == 0) step = strtoull(argv[2], NULL, 10);
    must(step > 0);
    make_store();
    must(check(&c, true) == ERR_OK);
    must(check_range_count(&c) == 0);
    must(c.counts.packed_messages > 50);
    must(c.counts.checkpoints >= 3);
    check_close(&c);
    must(open_store(true) == ERR_OK);
    recovery_close(&w.recovery);
    for (uint64_t id = STREAM_LIMITS_ID; id < STREAM_IDS; id++) {
        uint64_t lost = 0;
        w.live[id] = live_of(id, &lost);
        must(lost == 0);
        must(w.live[id] > 0);
    }
    js_deinit(&w.js);
    for (int i = 0; i < DISK_NAMES_MAX && !w.has_failed; i++)
        if (w.disk.names[i].path[0] != 0 && w.disk.names[i].file >= 0)
            flip_file(&w.disk.names[i], step);
    must(w.heap.live_count == 0);
    disk_deinit(&w.disk);
    return w.has_failed ? 1 : 0;
}
