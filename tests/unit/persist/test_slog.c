#include <criterion/criterion.h>
#include "persist/place.h"
#include "persist/slog.h"
#include "tests/support/mem_heap.h"

/* How near a log says it is to refusing publishes, while a part of the disk is slower than they
 * are; and when it asks for a turn. */

enum {
    SEGMENT = 64 * 1024,
    GROUP = 16 * 1024,
    STAGING = 16 * GROUP,
    BODY = 3900, /* a message and the head of its group are a block */
    OPS_MAX = 64,
    CONGESTED = 75, /* from here on publishers are slowed down */
};

static char body[BODY];

/* A disk that keeps nothing, and ends what it is not told to hold. */
struct rig {
    struct vfs vfs; /* first */
    struct mem_heap heap;
    struct manifest manifest;
    struct slog log;
    struct vfs_op *ops[OPS_MAX];
    uint32_t count;
    uint64_t now_ns, seq;
    bool holds_making, holds_naming, holds_flushes;
    bool fails_writes;
    uint64_t room;            /* for what is allocated at once */
    struct store_hooks hooks; /* segments are to be freed, and nobody does it */
};

static enum err submit(struct vfs *v, struct vfs_op *op)
{
    struct rig *r = (struct rig *)v;
    cr_assert_lt(r->count, OPS_MAX);
    r->ops[r->count++] = op;
    return ERR_OK;
}

static const struct vfs_ops ops = {.submit = submit};

static bool is_held(const struct rig *r, const struct vfs_op *op)
{
    return (r->holds_making && op->kind == VFS_ALLOCATE) ||
           (r->holds_naming && r->log.make_wanted != 0) ||
           (r->holds_flushes && op == &r->log.flush_op);
}

static bool end_one(struct rig *r)
{
    for (uint32_t i = 0; i < r->count; i++) {
        struct vfs_op *op = r->ops[i];
        if (is_held(r, op)) continue;
        r->ops[i] = r->ops[--r->count];
        bool is_full = op->kind == VFS_ALLOCATE && op->size > r->room;
        bool is_failed = r->fails_writes && op->kind == VFS_WRITE;
        op->result = is_full ? ERR_NO_SPACE : is_failed ? ERR_IO : ERR_OK;
        op->bytes_done = op->bytes;
        op->done(op);
        return true;
    }
    return false;
}

static void settle(struct rig *r)
{
    struct store_event e;
    for (int i = 0; i < 8; i++) {
        r->now_ns += 1000000;
        slog_turn(&r->log, r->now_ns);
        while (end_one(r)) continue;
        while (slog_next_event(&r->log, &e)) cr_assert_eq(e.kind, STORE_STORED);
    }
}

static struct rig *open_rig_on(uint64_t room, uint64_t sync_interval_ns, bool frees)
{
    struct rig *r = calloc(1, sizeof *r);
    r->vfs.ops = &ops;
    r->room = room;
    r->now_ns = 1000000000;
    mem_heap_init(&r->heap);
    manifest_init(&r->manifest, &r->heap.mem, 0, 1, 2);
    r->manifest.incarnation = r->manifest.next_segment = 1;
    r->manifest.next_group = 1;
    struct slog_options o = {.vfs = &r->vfs,
                             .mem = &r->heap.mem,
                             .segment_bytes = SEGMENT,
                             .group_bytes = GROUP,
                             .staging_bytes = STAGING,
                             .cache_bytes = 1024 * 1024,
                             .sync_interval_ns = sync_interval_ns,
                             .hooks = frees ? &r->hooks : NULL,
                             .sealed_wait = 2};
    cr_assert_eq(slog_open(&r->log, &o, &r->manifest, &r->manifest, 1), ERR_OK);
    settle(r);
    return r;
}

static struct rig *open_rig(uint64_t sync_interval_ns, bool frees)
{
    struct rig *r = open_rig_on(UINT64_MAX, sync_interval_ns, frees);
    cr_assert_eq(r->log.state, SLOG_RUNNING);
    cr_assert_eq(r->log.ready_count, SLOG_READY_MADE);
    return r;
}

static void close_rig(struct rig *r)
{
    slog_close(&r->log);
    manifest_deinit(&r->manifest);
    cr_assert_eq(r->heap.live_count, 0);
    free(r);
}

/* The disk is full no more, and the log tries again. */
static void give_room(struct rig *r)
{
    r->room = UINT64_MAX;
    r->now_ns += SLOG_RETRY_NS;
    settle(r);
}

static enum err erase(struct rig *r)
{
    struct store_stub stub;
    struct record record = {.kind = RECORD_ERASE, .stream = 1, .seq = 1};
    enum err e = store_append(&r->log.store, &record, &stub);
    settle(r);
    return e;
}

static enum err publish(struct rig *r)
{
    struct store_stub stub;
    struct record record = {.kind = RECORD_MESSAGE,
                            .stream = 1,
                            .seq = ++r->seq,
                            .subject = BYTES_LITERAL("s"),
                            .body = bytes_of(body, sizeof body)};
    enum err e = store_append(&r->log.store, &record, &stub);
    settle(r);
    return e;
}

static uint32_t percent(const struct rig *r)
{
    return store_behind_percent(&r->log.store);
}

/* Bytes that go in from the first word about it to the refusal. */
static uint64_t fill(struct rig *r, enum err refusal)
{
    uint64_t after = 0;
    for (;;) {
        bool is_told = percent(r) >= CONGESTED;
        enum err e = publish(r);
        cr_assert(e == ERR_OK || e == refusal);
        if (e != ERR_OK) break;
        cr_assert(after == 0 || is_told, "%u percent, and it was more", percent(r));
        if (is_told) after += PLACE_BLOCK_BYTES;
    }
    return after;
}

Test(slog, publishers_faster_than_segments_are_made_are_told_before_they_are_refused)
{
    struct rig *r = open_rig(0, false);
    cr_assert_eq(percent(r), 0);
    r->holds_making = true;
    cr_assert_gt(fill(r, ERR_FULL), SEGMENT / 8);
    cr_assert_eq(publish(r), ERR_FULL);
    r->holds_making = false;
    settle(r);
    cr_assert_eq(percent(r), 0);
    cr_assert_eq(publish(r), ERR_OK);
    close_rig(r);
}

Test(slog, publishers_who_wait_when_told_are_never_refused)
{
    enum { MESSAGES = 200 }; /* a dozen segments */
    struct rig *r = open_rig(0, false);
    uint32_t waits = 0;
    for (int i = 0; i < MESSAGES; i++) {
        r->holds_making = true;
        for (; percent(r) >= CONGESTED; waits++) {
            r->holds_making = false;
            settle(r);
        }
        cr_assert_eq(publish(r), ERR_OK);
    }
    cr_assert_gt(waits, 3);
    close_rig(r);
}

Test(slog, publishers_faster_than_segments_are_freed_are_told_long_before)
{
    struct rig *r = open_rig(0, true);
    cr_assert_gt(fill(r, ERR_FULL), 3 * SEGMENT);
    cr_assert_geq(percent(r), 99);
    close_rig(r);
}

Test(slog, publishers_faster_than_flushes_are_told)
{
    struct rig *r = open_rig(120000000000, false);
    r->holds_flushes = true;
    cr_assert_gt(fill(r, ERR_FULL), SEGMENT / 2);
    r->holds_flushes = false;
    settle(r);
    cr_assert_lt(percent(r), CONGESTED);
    cr_assert_eq(publish(r), ERR_OK);
    close_rig(r);
}

/* Nobody is to wait for what only people can mend. */
Test(slog, a_full_disk_is_told_by_refusals_at_once)
{
    struct rig *r = open_rig(0, false);
    r->room = 0;
    cr_assert_eq(fill(r, ERR_NO_SPACE), 0);
    cr_assert_eq(percent(r), 0);
    close_rig(r);
}

/* Else the first delete would open it for publishers, and soon nothing could be deleted. */
Test(slog, publishers_stay_out_of_the_reserve_also_when_deletes_are_in_it)
{
    struct rig *r = open_rig(0, false);
    r->room = 0;
    cr_assert_eq(fill(r, ERR_NO_SPACE), 0);
    while (r->log.ready_count > 0) cr_assert_eq(erase(r), ERR_OK);
    cr_assert_eq(publish(r), ERR_NO_SPACE);
    cr_assert_eq(erase(r), ERR_OK);
    give_room(r);
    cr_assert_eq(publish(r), ERR_OK);
    close_rig(r);
}

/* Else a server that starts on a full disk could never free anything. */
Test(slog, on_a_full_disk_a_smaller_segment_takes_the_deletes)
{
    struct rig *r = open_rig_on(SEGMENT / 3, 0, false);
    cr_assert_eq(r->log.state, SLOG_RUNNING);
    cr_assert(r->log.has_no_space);
    cr_assert_eq(erase(r), ERR_OK);
    cr_assert_eq(publish(r), ERR_NO_SPACE);
    give_room(r);
    cr_assert_eq(publish(r), ERR_OK);
    close_rig(r);
}

Test(slog, what_no_smaller_segment_can_take_goes_into_the_next_whole_one)
{
    struct rig *r = open_rig_on(SEGMENT / 3, 0, false);
    cr_assert_eq(r->log.ready[0].size, SEGMENT / 4);
    give_room(r);
    static char large[SEGMENT / 2];
    struct store_stub stub;
    struct record record = {.kind = RECORD_MESSAGE,
                            .stream = 1,
                            .seq = 1,
                            .subject = BYTES_LITERAL("s"),
                            .body = bytes_of(large, sizeof large)};
    cr_assert_eq(store_append(&r->log.store, &record, &stub), ERR_OK);
    cr_assert_eq(place_segment(stub.place), 2);
    settle(r);
    close_rig(r);
}

Test(slog, without_any_room_a_log_that_opens_says_so)
{
    struct rig *r = open_rig_on(0, 0, false);
    cr_assert_eq(r->log.state, SLOG_OPENING);
    cr_assert_eq(publish(r), ERR_NO_SPACE);
    cr_assert_eq(erase(r), ERR_NO_SPACE);
    give_room(r);
    cr_assert_eq(publish(r), ERR_OK);
    close_rig(r);
}

/* Else its shard would spin: also when the last segment has no room for the group that closes it.
 */
Test(slog, a_log_with_nothing_to_do_asks_for_no_turn)
{
    struct rig *r = open_rig(0, false);
    cr_assert_eq(publish(r), ERR_OK); /* so that a message has the last block, not an empty group */
    for (int i = 0; i < 2 * SEGMENT / PLACE_BLOCK_BYTES; i++) {
        cr_assert_eq(publish(r), ERR_OK);
        r->now_ns += SLOG_IDLE_NS;
        settle(r);
        cr_assert_gt(slog_deadline_ns(&r->log), r->now_ns);
    }
    close_rig(r);
}

Test(slog, the_manifest_that_names_a_segment_is_waited_for_without_turns)
{
    struct rig *r = open_rig(0, false);
    r->holds_naming = true;
    while (r->log.make_wanted == 0) cr_assert_eq(publish(r), ERR_OK);
    r->now_ns += SLOG_IDLE_NS;
    slog_turn(&r->log, r->now_ns);
    cr_assert_gt(slog_deadline_ns(&r->log), r->now_ns);
    r->holds_naming = false;
    settle(r);
    cr_assert_eq(r->log.ready_count, SLOG_READY_MADE);
    close_rig(r);
}

/* Publishers wait for the cut that is to be in it, and nothing else may happen for long. */
Test(slog, a_cut_whose_manifest_finds_no_memory_is_tried_again)
{
    struct rig *r = open_rig(0, false);
    struct store_stub stub;
    struct store_event e;
    struct record record = {.kind = RECORD_ERASE, .stream = 1, .seq = 1};
    cr_assert_eq(store_append(&r->log.store, &record, &stub), ERR_OK);
    slog_turn(&r->log, r->now_ns);
    r->fails_writes = true;
    r->heap.fail_at = r->heap.alloc_count + 1;
    r->heap.fail_from = 1;
    while (end_one(r)) continue;
    slog_turn(&r->log, r->now_ns);
    cr_assert_eq(r->log.state, SLOG_FAILING);
    cr_assert_not(slog_next_event(&r->log, &e));
    cr_assert_leq(slog_deadline_ns(&r->log), r->now_ns + SLOG_MEMORY_RETRY_NS);
    cr_assert_gt(slog_deadline_ns(&r->log), r->now_ns);
    r->fails_writes = false;
    r->heap.fail_at = 0;
    slog_turn(&r->log, slog_deadline_ns(&r->log));
    while (end_one(r)) continue;
    cr_assert(slog_next_event(&r->log, &e));
    cr_assert_eq(e.kind, STORE_FAILED);
    settle(r);
    cr_assert_eq(publish(r), ERR_OK);
    close_rig(r);
}

static bool pump(void *context)
{
    return end_one(context);
}

/* What lies in a damaged segment stays there until somebody mends the store: a shard that looks two
 * hundred times a second whether it is overwritten would never rest. */
Test(slog, what_cannot_be_overwritten_is_not_waited_for_all_the_time)
{
    struct rig *r = open_rig(0, true);
    struct blocking files = {.vfs = &r->vfs, .pump = pump, .context = r};
    struct store_stub stub;
    struct record record = {.kind = RECORD_ERASE, .stream = 1, .seq = 1};
    r->log.options.files = &files;
    r->log.compact.state = COMPACT_PINNED;
    cr_assert_eq(store_append(&r->log.store, &record, &stub), ERR_OK);
    settle(r);
    slog_scrub(&r->log, stub.place);
    r->now_ns += SLOG_SCRUB_NS;
    for (int i = 0; i < 4; i++) settle(r);
    r->now_ns += SLOG_IDLE_NS;
    settle(r);
    cr_assert(r->log.is_scrubbing);
    cr_assert_gt(slog_deadline_ns(&r->log), r->now_ns + SLOG_IDLE_NS);
    close_rig(r);
}

/* Something has the name of the pack, and the next number is that of a segment that is made: it is
 * waited for, and nothing is packed once more for a name that cannot be had. */
Test(slog, a_pack_waits_for_a_name_of_its_own)
{
    struct rig *r = open_rig(0, true);
    struct blocking files = {.vfs = &r->vfs, .pump = pump, .context = r};
    const struct compact *c = &r->log.compact;
    uint32_t first = r->log.manifest.segments[0].number;
    r->holds_making = true;
    while (r->log.manifest.segments[0].end == 0 || !r->log.manifest.segments[0].is_closed)
        cr_assert_eq(publish(r), ERR_OK);
    cr_assert(r->log.is_making);
    r->log.options.files = &files;
    r->log.options.sealed_wait = 0;
    r->log.compact.packer_result = ERR_INVALID;
    settle(r);
    cr_assert_eq(c->state, COMPACT_PAUSED);
    cr_assert_gt(slog_deadline_ns(&r->log), r->now_ns);
    r->holds_making = false;
    while (end_one(r)) continue;
    while (r->log.is_making || r->log.make_wanted != 0) {
        slog_turn(&r->log, r->now_ns);
        while (end_one(r)) continue;
    }
    r->holds_making = true;
    r->now_ns += COMPACT_BUSY_NS;
    slog_turn(&r->log, r->now_ns);
    cr_assert_eq(c->state, COMPACT_READING);
    cr_assert_neq(c->packer.number, first);
    r->holds_making = false;
    while (end_one(r)) continue;
    close_rig(r);
}
