#include <criterion/criterion.h>
#include "core/js/memstore.h"
#include "tests/support/mem_heap.h"

static struct record message(uint64_t seq, const char *body)
{
    return (struct record){.kind = RECORD_MESSAGE,
                           .stream = 3,
                           .seq = seq,
                           .time_ns = 5,
                           .subject = BYTES_LITERAL("a.b"),
                           .headers = BYTES_LITERAL("NATS/1.0\r\n\r\n"),
                           .body = bytes_from_text(body)};
}

static enum err read(struct memstore *s, uint64_t place, uint64_t seq, struct record *out)
{
    struct store_read q = {.place = place, .stream = 3, .seq = seq};
    return store_read(&s->store, &q, out);
}

Test(memstore, what_was_appended_is_read_until_it_is_released)
{
    struct mem_heap heap;
    struct memstore s;
    struct store_stub a, b, c;
    struct record r, out;
    mem_heap_init(&heap);
    memstore_init(&s, &heap.mem, 1 << 20);
    char body[] = "one";
    r = message(1, body);
    cr_assert_eq(store_append(&s.store, &r, &a), ERR_OK);
    body[0] = 'X'; /* the store has its own copy */
    r = message(2, "two");
    cr_assert_eq(store_append(&s.store, &r, &b), ERR_OK);
    cr_assert_eq(a.ticket, 1);
    cr_assert_eq(b.ticket, 2);
    cr_assert_eq(read(&s, a.place, 1, &out), ERR_OK);
    cr_assert(bytes_equal(out.body, bytes_from_text("one")));
    cr_assert(bytes_equal(out.subject, r.subject));
    cr_assert(bytes_equal(out.headers, r.headers));
    cr_assert_eq(out.time_ns, 5);
    cr_assert_eq(read(&s, a.place, 2, &out), ERR_CORRUPT);
    memstore_release(&s, a.place);
    memstore_release(&s, a.place);
    cr_assert_eq(read(&s, a.place, 1, &out), ERR_UNKNOWN);
    r = message(3, "three");
    cr_assert_eq(store_append(&s.store, &r, &c), ERR_OK);
    cr_assert_eq((uint32_t)c.place, (uint32_t)a.place, "the slot is used again");
    cr_assert_eq(read(&s, a.place, 1, &out), ERR_UNKNOWN, "under another generation");
    cr_assert_eq(read(&s, b.place, 2, &out), ERR_OK);
    memstore_deinit(&s);
    cr_assert_eq(heap.live_count, 0);
}

Test(memstore, other_kinds_take_a_ticket_and_no_memory)
{
    struct mem_heap heap;
    struct memstore s;
    struct store_stub stub;
    struct record out;
    mem_heap_init(&heap);
    memstore_init(&s, &heap.mem, 10);
    struct record r = {.kind = RECORD_ERASE, .stream = 3, .seq = 1};
    cr_assert_eq(store_append(&s.store, &r, &stub), ERR_OK);
    cr_assert_eq(stub.ticket, 1);
    cr_assert_eq(read(&s, stub.place, 1, &out), ERR_UNKNOWN);
    memstore_release(&s, stub.place);
    cr_assert_eq(heap.live_count, 0);
}

Test(memstore, a_full_store_and_missing_memory_refuse_and_change_nothing)
{
    struct mem_heap heap;
    struct memstore s;
    struct store_stub stub, first;
    mem_heap_init(&heap);
    memstore_init(&s, &heap.mem, 400);
    struct record r = message(1, "one");
    for (uint64_t n = 1; n <= 3; n++) { /* table of runs, run, block */
        heap.fail_at = heap.alloc_count + (n == 1 ? 1 : 2);
        cr_assert_eq(store_append(&s.store, &r, &stub), ERR_NO_SPACE);
        heap.fail_at = 0;
        cr_assert_eq(s.ticket, 0);
        cr_assert_eq(s.bytes_used, 0);
    }
    cr_assert_eq(store_append(&s.store, &r, &first), ERR_OK);
    enum err e = ERR_OK;
    for (uint64_t seq = 2; seq < 50 && e == ERR_OK; seq++) {
        r = message(seq, "two");
        e = store_append(&s.store, &r, &stub);
    }
    cr_assert_eq(e, ERR_NO_SPACE);
    cr_assert_leq(s.bytes_used, 400);
    memstore_release(&s, first.place);
    cr_assert_eq(store_append(&s.store, &r, &stub), ERR_OK);
    memstore_deinit(&s);
    cr_assert_eq(heap.live_count, 0);
}

Test(memstore, thousands_of_messages_keep_their_places)
{
    enum { MANY = 5000 };
    struct mem_heap heap;
    struct memstore s;
    static uint64_t places[MANY];
    mem_heap_init(&heap);
    memstore_init(&s, &heap.mem, 1 << 24);
    for (uint32_t i = 0; i < MANY; i++) {
        struct record r = message(i + 1, "body");
        struct store_stub stub;
        cr_assert_eq(store_append(&s.store, &r, &stub), ERR_OK);
        places[i] = stub.place;
    }
    for (uint32_t i = 0; i < MANY; i += 2) memstore_release(&s, places[i]);
    for (uint32_t i = 0; i < MANY; i++) {
        struct record out;
        cr_assert_eq(read(&s, places[i], i + 1, &out), i % 2 == 0 ? ERR_UNKNOWN : ERR_OK);
    }
    cr_assert_eq(s.live_count, MANY / 2);
    memstore_deinit(&s);
    cr_assert_eq(heap.live_count, 0);
}
