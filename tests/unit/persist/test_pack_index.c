#include <criterion/criterion.h>
#include "core/base/must.h"
#include "persist/pack_index.h"
#include "tests/support/mem_heap.h"

static struct mem_heap heap;
static struct pack_index *x;
static struct text encoded;
static uint32_t subject_at[PACK_INDEX_MESSAGES_MAX];

static void setup(void)
{
    mem_heap_init(&heap);
    x = mem_alloc(&heap.mem, MEM_STORE, sizeof *x);
    cr_assert_not_null(x);
    pack_index_init(x, &heap.mem);
    pack_index_reset(x, 7);
    text_init(&encoded, &heap.mem, MEM_STORE, 1 << 22);
}

static void teardown(void)
{
    pack_index_deinit(x);
    mem_free(&heap.mem, MEM_STORE, x, sizeof *x);
    text_deinit(&encoded);
    must(heap.live_count == 0);
}

TestSuite(pack_index, .init = setup, .fini = teardown);

static struct pack_index_message message(uint64_t i)
{
    static const char *const SUBJECTS[] = {"a", "b.c", "a.longer.subject"};
    return (struct pack_index_message){.stream = 7,
                                       .seq = 100 + i * i,
                                       .time_ns = 5000 - (int64_t)i, /* a clock that was set back */
                                       .at = i * 64,
                                       .headers_bytes = (uint32_t)i % 2 * 12,
                                       .body_bytes = (uint32_t)i,
                                       .subject = bytes_from_text(SUBJECTS[i % 3])};
}

static enum err add(uint64_t i)
{
    struct pack_index_message m = message(i);
    return pack_index_add(x, &m);
}

static enum err open_it(struct pack_index_reader *r)
{
    return pack_index_open(r, encoded.data, encoded.len, subject_at);
}

Test(pack_index, gives_back_what_was_added)
{
    struct pack_index_reader r;
    struct pack_index_message got;
    for (uint64_t i = 0; i < 50; i++) cr_assert_eq(add(i), ERR_OK);
    pack_index_encode(x, &encoded);
    cr_assert_eq(open_it(&r), ERR_OK);
    for (uint64_t i = 0; i < 50; i++) {
        struct pack_index_message m = message(i);
        cr_assert(pack_index_next(&r, &got));
        cr_assert_eq(got.stream, 7);
        cr_assert_eq(got.seq, m.seq);
        cr_assert_eq(got.time_ns, m.time_ns);
        cr_assert_eq(got.at, m.at);
        cr_assert_eq(got.headers_bytes, m.headers_bytes);
        cr_assert_eq(got.body_bytes, m.body_bytes);
        cr_assert(bytes_equal(got.subject, m.subject));
    }
    cr_assert_not(pack_index_next(&r, &got));
    cr_assert_eq(x->subject_count, 3);
}

Test(pack_index, is_full_after_4096_messages)
{
    for (uint64_t i = 0; i < PACK_INDEX_MESSAGES_MAX; i++) cr_assert_eq(add(i), ERR_OK);
    cr_assert_eq(add(PACK_INDEX_MESSAGES_MAX), ERR_FULL);
}

Test(pack_index, a_gap_of_sequences_beyond_32_bits_begins_the_next_one)
{
    struct pack_index_message m = message(0);
    cr_assert_eq(pack_index_add(x, &m), ERR_OK);
    m.seq += UINT64_C(1) << 32;
    cr_assert_eq(pack_index_add(x, &m), ERR_FULL);
}

Test(pack_index, begins_with_any_sequence)
{
    struct pack_index_reader r;
    struct pack_index_message m = message(0), got;
    m.seq = UINT64_C(1) << 62;
    cr_assert_eq(pack_index_add(x, &m), ERR_OK);
    pack_index_encode(x, &encoded);
    cr_assert_eq(open_it(&r), ERR_OK);
    cr_assert(pack_index_next(&r, &got));
    cr_assert_eq(got.seq, m.seq);
}

Test(pack_index, of_another_length_does_not_open)
{
    struct pack_index_reader r;
    for (uint64_t i = 0; i < 5; i++) cr_assert_eq(add(i), ERR_OK);
    pack_index_encode(x, &encoded);
    size_t whole = encoded.len;
    for (encoded.len = 0; encoded.len < whole; encoded.len++)
        cr_assert_eq(open_it(&r), ERR_CORRUPT, "%zu bytes", encoded.len);
    cr_assert_eq(open_it(&r), ERR_OK);
}
