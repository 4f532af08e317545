#include <criterion/criterion.h>
#include <string.h>
#include "core/base/must.h"
#include "core/shard/token.h"
#include "tests/support/mem_heap.h"

static struct mem_heap heap;
static struct token_table table;

static void setup(void)
{
    mem_heap_init(&heap);
    table = (struct token_table){0};
}

static void teardown(void)
{
    token_deinit(&table, &heap.mem);
    must(heap.live_count == 0);
}

TestSuite(token, .init = setup, .fini = teardown);

static struct conn_id conn(uint64_t bits)
{
    return (struct conn_id){bits};
}

static uint32_t take(uint64_t bits)
{
    return token_take(&table, &heap.mem, conn(bits), BYTES_LITERAL("s"), BYTES_LITERAL("r"));
}

Test(token, a_number_leads_to_its_texts_until_it_is_free)
{
    char subject[2 * TOKEN_TEXT_MAX];
    memset(subject, 'x', sizeof subject);
    for (size_t len = 1; len < sizeof subject; len += 50) {
        struct bytes wanted = bytes_of(subject, len);
        uint32_t number = token_take(&table, &heap.mem, conn(7), wanted, BYTES_LITERAL("reply"));
        struct token *t = token_at(&table, number);
        cr_assert_not_null(t);
        cr_assert_eq(t->conn.bits, 7);
        cr_assert(bytes_equal(token_subject(t), wanted));
        cr_assert(bytes_equal(token_reply(t), BYTES_LITERAL("reply")));
        token_free(&table, &heap.mem, t);
        cr_assert_null(token_at(&table, number));
    }
    cr_assert_null(token_at(&table, 0));
}

Test(token, an_answer_to_an_earlier_owner_of_the_slot_finds_nothing)
{
    uint32_t before = take(1);
    token_free(&table, &heap.mem, token_at(&table, before));
    uint32_t after = take(2);
    cr_assert_eq(before % TOKEN_COUNT_MAX, after % TOKEN_COUNT_MAX);
    cr_assert_null(token_at(&table, before));
    cr_assert_not_null(token_at(&table, after));
}

Test(token, no_number_is_0_however_often_a_slot_is_used)
{
    for (uint32_t i = 0; i < 2 * (UINT16_MAX + 1); i++) {
        uint32_t number = take(1);
        cr_assert_neq(number, 0);
        token_free(&table, &heap.mem, token_at(&table, number));
    }
}

Test(token, a_full_table_takes_again_when_a_connection_goes)
{
    for (uint32_t i = 0; i < TOKEN_COUNT_MAX; i++) cr_assert_neq(take(1 + i % 2), 0);
    cr_assert_eq(take(3), 0);
    token_free_of(&table, &heap.mem, conn(2));
    cr_assert_eq(table.count, TOKEN_COUNT_MAX / 2);
    for (uint32_t i = 0; i < TOKEN_COUNT_MAX / 2; i++) cr_assert_neq(take(3), 0);
    cr_assert_eq(take(3), 0);
}

Test(token, without_memory_nothing_is_taken)
{
    heap.fail_at = heap.alloc_count + 1;
    cr_assert_eq(take(1), 0);
    cr_assert_eq(table.count, 0);
}
