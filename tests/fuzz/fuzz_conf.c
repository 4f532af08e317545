/* The configuration grammar and everything behind it: text that is a file, and the same text for
 * every file it includes and every variable of the environment it asks for. What is accepted is
 * printed and loaded again. */
#include <stdlib.h>
#include "core/auth/account.h"
#include "core/config/flags.h"
#include "core/config/help.h"
#include "core/config/options.h"
#include "tests/support/mem_heap.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { INPUT_BYTES_MAX = 1 << 16, OUTPUT_BYTES_MAX = 64 << 20 };

static enum err read_input(struct conf_source *s, struct arena *arena, struct bytes path,
                           struct bytes *content, struct bytes *why)
{
    (void)arena;
    (void)path;
    (void)why;
    *content = *(const struct bytes *)s->context;
    return ERR_OK;
}

static bool get_input(struct conf_source *s, struct bytes name, struct bytes *value)
{
    struct bytes input = *(const struct bytes *)s->context;
    if (name.len != 1) return false;
    *value = bytes_of(input.data, input.len < 64 ? input.len : 64);
    return true;
}

static void load(struct mem *mem, struct bytes input)
{
    struct conf_source source = {.read = read_input, .getenv = get_input, .context = &input};
    char *words[] = {"x", "-c", "input"};
    struct account_numbers *numbers;
    struct options_report report;
    struct options *o = NULL;
    struct flags flags;
    if (account_numbers_open(mem, &numbers) != ERR_OK) abort();
    if (flags_parse(&flags, mem, 3, words) != ERR_OK) abort();
    options_report_init(&report, mem);
    struct options_input in = {.source = &source, .flags = &flags, .numbers = numbers};
    enum err e = options_load(mem, &in, &o, &report);
    if (e == ERR_OK) {
        struct text out;
        text_init(&out, mem, MEM_CONFIG, OUTPUT_BYTES_MAX);
        help_config(&out, o);
        text_deinit(&out);
        options_free(o);
    } else if (report.error_count == 0 && e != ERR_MEMORY) {
        abort(); /* a refusal that says nothing */
    }
    options_report_deinit(&report);
    flags_deinit(&flags);
    account_numbers_close(numbers);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > INPUT_BYTES_MAX) return 0;
    struct mem_heap heap;
    mem_heap_init(&heap);
    struct bytes input = bytes_of((const char *)data, size);
    struct arena arena;
    struct text canonical;
    struct conf_value *map;
    struct conf_error error;
    struct conf_source source = {.read = read_input, .getenv = get_input, .context = &input};
    arena_init(&arena, &heap.mem, MEM_CONFIG);
    text_init(&canonical, &heap.mem, MEM_CONFIG, OUTPUT_BYTES_MAX);
    if (conf_parse_text(&arena, &source, BYTES_LITERAL("t"), input, &map, &error) == ERR_OK) {
        enum err e = conf_canonical(map, &arena, &canonical);
        if (e != ERR_OK && e != ERR_MEMORY) abort();
    }
    text_deinit(&canonical);
    arena_deinit(&arena);
    load(&heap.mem, input);
    if (heap.live_count != 0) abort();
    return 0;
}
