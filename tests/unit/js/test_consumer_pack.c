#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/must.h"
#include "core/js/consumer_pack.h"
#include "tests/support/mem_heap.h"

static struct mem_heap heap;
static struct arena arena;

static void setup(void)
{
    mem_heap_init(&heap);
    arena_init(&arena, &heap.mem, MEM_JETSTREAM);
}

static void teardown(void)
{
    arena_deinit(&arena);
    must(heap.live_count == 0);
}

TestSuite(consumer_pack, .init = setup, .fini = teardown);

static struct text written(const struct consumer_config *c)
{
    struct text text;
    struct json_write w;
    text_init(&text, &heap.mem, MEM_JETSTREAM, 1 << 20);
    json_write_init(&w, &text, 0);
    consumer_config_write(c, &w, NULL, true);
    cr_assert_not(text.is_failed);
    return text;
}

static const char *const requests[] = {
#define ROW(request, reply) request,
#include "tests/unit/js/consumer_config_reference.def"
#undef ROW
};

Test(consumer_pack, what_was_packed_reads_back)
{
    uint32_t count = 0;
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        struct consumer_config c = {.deliver_policy = 0}, d;
        struct jsapi_error error;
        jsapi_error_clear(&error);
        if (!request_read(&arena, bytes_from_text(requests[i]), &consumer_config_type,
                          REQUEST_STRICT, &c, &error))
            continue;
        size_t bytes = consumer_pack_bytes(&c);
        char *packed = malloc(bytes > 0 ? bytes : 1);
        consumer_pack(&c, packed);
        cr_assert_eq(consumer_pack_read(&arena, bytes_of(packed, bytes), &d), ERR_OK);
        struct text first = written(&c), second = written(&d);
        cr_expect(bytes_equal(text_written(&first), text_written(&second)), "%s", requests[i]);
        text_deinit(&first);
        text_deinit(&second);
        free(packed);
        count++;
    }
    cr_assert_gt(count, 50);
}

Test(consumer_pack, what_is_not_set_takes_nothing_and_an_equal_name_is_kept_once)
{
    struct consumer_config c = {.deliver_policy = 0}, d;
    cr_expect_eq(consumer_pack_bytes(&c), 0);
    c.durable_name = BYTES_LITERAL("a_name_of_some_length");
    size_t alone = consumer_pack_bytes(&c);
    c.name = c.durable_name;
    cr_expect_eq(consumer_pack_bytes(&c), alone + 2);
    char packed[64];
    consumer_pack(&c, packed);
    cr_assert_eq(consumer_pack_read(&arena, bytes_of(packed, alone + 2), &d), ERR_OK);
    cr_expect(bytes_equal(d.name, c.name));
}
