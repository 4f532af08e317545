#include <criterion/criterion.h>
#include <string.h>
#include "core/base/must.h"
#include "persist/group.h"
#include "persist/record.h"
#include "persist/replay.h"
#include "tests/support/mem_heap.h"
#include "tests/support/vfs_bytes.h"

/* The replay of a segment whose bytes a test wrote. */

enum { BLOCKS = 8, GIVEN_MAX = 128 };

static const struct place_key KEY = {.secret = 42, .log = 0, .segment = 1, .incarnation = 1};

static struct rig {
    struct mem_heap heap;
    char bytes[BLOCKS * PLACE_BLOCK_BYTES];
    uint32_t block; /* the next group begins here */
    uint64_t group; /* of the last one */
    struct {
        enum record_kind kind;
        uint64_t stream, seq;
    } given[GIVEN_MAX];
    uint32_t given_count;
    uint64_t expected[STORE_NEARNESS_COUNT][GIVEN_MAX];
    uint32_t expected_count[STORE_NEARNESS_COUNT];
    struct {
        struct store_lost lost;
        uint32_t given_count; /* before it */
    } told[GIVEN_MAX];
    uint32_t told_count;
} rig;

static void setup(void)
{
    rig = (struct rig){0};
    mem_heap_init(&rig.heap);
}

static void teardown(void)
{
    must(rig.heap.live_count == 0);
}

TestSuite(replay, .init = setup, .fini = teardown);

static void add_group(const struct record *records, uint32_t count)
{
    uint64_t from = (uint64_t)rig.block * PLACE_BLOCK_BYTES, at = from + GROUP_HEAD_BYTES;
    for (uint32_t i = 0; i < count; i++) {
        record_encode(&records[i], &KEY, at, rig.bytes + at);
        at += record_bytes(&records[i]);
    }
    struct group_head h = {.number = ++rig.group,
                           .durable = rig.group - 1,
                           .bytes = (uint32_t)(place_block_up(at) - from),
                           .record_bytes = (uint32_t)(at - from - GROUP_HEAD_BYTES),
                           .record_count = count};
    group_encode_head(&h, &KEY, from, rig.bytes + from);
    rig.block += h.bytes / PLACE_BLOCK_BYTES;
    cr_assert_leq(rig.block, BLOCKS);
}

static enum err on_salvaged(void *context, const struct record *r, const struct store_stub *stub)
{
    cr_assert_lt(rig.given_count, GIVEN_MAX);
    rig.given[rig.given_count].kind = r->kind;
    rig.given[rig.given_count].stream = r->stream;
    rig.given[rig.given_count++].seq = r->seq;
    return ERR_OK;
}

static enum err on_record(void *context, const struct record *r, const struct store_stub *stub)
{
    for (int n = 0; n < STORE_NEARNESS_COUNT; n++) {
        cr_assert_gt(rig.expected_count[n], rig.given_count, "it was expected");
        cr_assert_eq(rig.expected[n][rig.given_count], r->stream);
    }
    return on_salvaged(context, r, stub);
}

static void on_expected(void *context, uint32_t log, uint64_t stream, enum store_nearness n)
{
    cr_assert_eq(log, 0);
    cr_assert_lt(rig.expected_count[n], GIVEN_MAX);
    rig.expected[n][rig.expected_count[n]++] = stream;
}

/* What the first pass that does not go well gives. */
static enum err try_replay(const struct store_replay *calls)
{
    struct vfs_bytes files;
    struct manifest m;
    struct checkpoints all;
    uint64_t bytes = (uint64_t)rig.block * PLACE_BLOCK_BYTES;
    vfs_bytes_init(&files);
    vfs_bytes_add(&files, "0000-00000001.log", rig.bytes, bytes);
    manifest_init(&m, &rig.heap.mem, 0, 7, KEY.secret);
    m.durable_group = rig.group;
    m.next_segment = 2;
    struct manifest_segment s = {.number = 1,
                                 .incarnation = 1,
                                 .size = bytes,
                                 .is_closed = true,
                                 .has_checkpoints = true,
                                 .end = bytes,
                                 .first_group = 1,
                                 .last_group = rig.group};
    cr_assert_eq(manifest_add(&m, &s), ERR_OK);
    struct recovery_options o = {
        .blocking = &files.blocking, .mem = &rig.heap.mem, .is_read_only = true, .replay = *calls};
    struct recovery_counts counts = {0};
    struct replay_log l;
    checkpoints_init(&all, &rig.heap.mem);
    replay_init(&l, &o, &counts, &m, &all);
    enum err e = replay_segment(&l, 0);
    replay_again(&l);
    if (e == ERR_OK) e = replay_segment(&l, 0);
    checkpoints_deinit(&all);
    manifest_deinit(&m);
    return e;
}

static void replay(const struct store_replay *calls)
{
    cr_assert_eq(try_replay(calls), ERR_OK);
}

Test(replay, records_of_a_group_are_expected_before_they_come)
{
    struct record r[60];
    for (uint64_t i = 0; i < 60; i++)
        r[i] = (struct record){
            .kind = RECORD_MESSAGE, .stream = i * 7 % 60, .seq = 1, .subject = BYTES_LITERAL("s")};
    add_group(r, 60);
    replay(&(struct store_replay){.record = on_record, .expect = on_expected});
    cr_assert_eq(rig.given_count, 60);
    for (int n = 0; n < STORE_NEARNESS_COUNT; n++) cr_assert_eq(rig.expected_count[n], 60);
}

static enum err on_progress(void *context, uint64_t bytes_done, uint64_t bytes_total)
{
    uint32_t *left = context;
    return --*left > 0 ? ERR_OK : ERR_CLOSED;
}

/* Each of the two passes asks after each group. */
Test(replay, whoever_is_told_of_the_progress_may_end_it)
{
    struct record r = {
        .kind = RECORD_MESSAGE, .stream = 1, .seq = 1, .subject = BYTES_LITERAL("s")};
    for (; r.seq <= 3; r.seq++) add_group(&r, 1);
    for (uint32_t at = 1; at <= 6; at++) {
        uint32_t left = at;
        struct store_replay calls = {
            .context = &left, .record = on_salvaged, .progress = on_progress};
        rig.given_count = 0;
        cr_assert_eq(try_replay(&calls), ERR_CLOSED);
        cr_assert_eq(left, 0);
        cr_assert_eq(rig.given_count, at < 4 ? 0 : at - 3);
    }
}

static bool was_given(enum record_kind kind, uint64_t seq)
{
    for (uint32_t i = 0; i < rig.given_count; i++)
        if (rig.given[i].kind == kind && rig.given[i].seq == seq) return true;
    return false;
}

/* Of groups 2 and 3 the headers are gone: nobody knows which of them a record is of. */
Test(replay, a_purge_behind_the_checkpoint_happens_though_the_headers_around_it_are_gone)
{
    struct record state = {.kind = RECORD_CHECKPOINT,
                           .flags = RECORD_LAST,
                           .stream = 5,
                           .prev_seq = 2,
                           .body = BYTES_LITERAL("state")};
    struct record second[] = {{.kind = RECORD_PURGE, .stream = 5, .seq = 10},
                              {.kind = RECORD_CONSUMER, .stream = 5, .seq = 1}};
    struct record third = {.kind = RECORD_PURGE, .stream = 5, .seq = 20};
    struct record before = {.kind = RECORD_PURGE, .stream = 5, .seq = 5};
    add_group(&before, 1);
    add_group(second, 2);
    add_group(&third, 1);
    add_group(&state, 1);
    memset(rig.bytes + PLACE_BLOCK_BYTES, 0, GROUP_HEAD_BYTES);
    memset(rig.bytes + 2 * PLACE_BLOCK_BYTES, 0, GROUP_HEAD_BYTES);
    replay(&(struct store_replay){.record = on_salvaged});
    cr_assert_not(was_given(RECORD_PURGE, 5), "the checkpoint stands for it");
    cr_assert(was_given(RECORD_PURGE, 20), "it is news");
    cr_assert(was_given(RECORD_PURGE, 10), "twice is no harm");
    cr_assert_not(was_given(RECORD_CONSUMER, 1), "it may be gone again");
}

/* Most of the segment that was in use when a server was killed holds nothing yet. */
Test(replay, the_empty_rest_of_a_segment_is_read_once)
{
    enum { SIZE = 4 * SCAN_WINDOW_BYTES };
    struct vfs_bytes files;
    struct manifest m;
    struct record r = {.kind = RECORD_MESSAGE, .stream = 1, .seq = 1, .subject = {"s", 1}};
    char *bytes = mem_alloc_zero(&rig.heap.mem, MEM_STORE, SIZE);
    add_group(&r, 1);
    memcpy(bytes, rig.bytes, sizeof rig.bytes);
    vfs_bytes_init(&files);
    vfs_bytes_add(&files, "0000-00000001.log", bytes, SIZE);
    manifest_init(&m, &rig.heap.mem, 0, 7, KEY.secret);
    m.next_segment = 2;
    struct manifest_segment s = {.number = 1, .incarnation = 1, .size = SIZE};
    cr_assert_eq(manifest_add(&m, &s), ERR_OK);
    struct recovery_options o = {
        .blocking = &files.blocking, .mem = &rig.heap.mem, .is_read_only = true};
    struct recovery_counts counts = {0};
    struct replay_log l;
    replay_init(&l, &o, &counts, &m, NULL);
    cr_assert_eq(replay_segment(&l, 0), ERR_OK);
    cr_assert(l.is_cut);
    cr_assert(m.segments[0].is_closed);
    cr_assert_eq(m.segments[0].end, PLACE_BLOCK_BYTES);
    cr_assert_leq(counts.bytes_read, SIZE + SCAN_WINDOW_BYTES);
    manifest_deinit(&m);
    mem_free(&rig.heap.mem, MEM_STORE, bytes, SIZE);
}

static void on_lost(void *context, const struct store_lost *lost)
{
    cr_assert_lt(rig.told_count, GIVEN_MAX);
    rig.told[rig.told_count].lost = *lost;
    rig.told[rig.told_count++].given_count = rig.given_count;
}

/* Three groups without headers: of two records, of one, and of zeros. */
static void lose_headers(uint64_t more)
{
    struct record r = {.kind = RECORD_MESSAGE, .stream = 1, .subject = BYTES_LITERAL("a")};
    add_group((struct record[]){r, r}, 2);
    add_group(&r, 1);
    add_group(&r, 1);
    memset(rig.bytes, 0x55, GROUP_HEAD_BYTES);
    memset(rig.bytes + PLACE_BLOCK_BYTES, 0x55, GROUP_HEAD_BYTES + more);
    memset(rig.bytes + (uint64_t)2 * PLACE_BLOCK_BYTES, 0, PLACE_BLOCK_BYTES);
    replay(&(struct store_replay){.record = on_salvaged, .lost = on_lost});
    cr_assert_eq(rig.told[0].given_count, 0);
    cr_assert_eq(rig.told[0].lost.record_max, 0);
    cr_assert_eq(rig.told[1].given_count, 2);
    for (uint32_t i = 0; i < rig.told_count; i++) {
        cr_assert_eq(rig.told[i].lost.end.incarnation, 1);
        cr_assert_eq(rig.told[i].lost.end.group, 3);
    }
}

/* What lies behind it may be news to a checkpoint that lies in it, too. */
Test(replay, where_no_header_is_left_what_is_lost_is_told_in_its_place)
{
    lose_headers(8);
    cr_assert_eq(rig.given_count, 2);
    cr_assert_eq(rig.told_count, 2);
    cr_assert_geq(rig.told[1].lost.record_max, 1 + PLACE_BLOCK_BYTES / 56);
}

Test(replay, blocks_of_zeros_behind_the_last_record_may_have_held_some)
{
    lose_headers(0);
    cr_assert_eq(rig.given_count, 3);
    cr_assert_eq(rig.told_count, 3);
    cr_assert_eq(rig.told[2].given_count, 3);
    cr_assert_eq(rig.told[2].lost.offset, (uint64_t)2 * PLACE_BLOCK_BYTES);
    cr_assert_geq(rig.told[2].lost.record_max, PLACE_BLOCK_BYTES / 56 - 2);
}
