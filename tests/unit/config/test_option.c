#include <criterion/criterion.h>
#include "core/config/option.h"

Test(option, no_name_or_flag_stands_for_two_options)
{
    size_t count;
    const struct option *rows = option_rows(&count);
    for (size_t i = 0; i < count; i++) {
        struct bytes flag, word;
        const char *at = rows[i].flags;
        while (option_next_flag(&at, &flag)) cr_expect_eq(option_find_flag(flag), &rows[i]);
        if (rows[i].path[0] == 0) continue;
        cr_expect_eq(option_find(bytes_from_text(rows[i].path)), &rows[i], "%s", rows[i].path);
        const char *dot = strrchr(rows[i].path, '.');
        size_t block_len = dot == NULL ? 0 : (size_t)(dot + 1 - rows[i].path);
        for (at = rows[i].aliases; option_next_word(&at, &word);) {
            char path[128];
            cr_assert(block_len + word.len < sizeof(path));
            memcpy(path, rows[i].path, block_len);
            memcpy(path + block_len, word.data, word.len);
            cr_expect_eq(option_find(bytes_of(path, block_len + word.len)), &rows[i], "%.*s",
                         (int)(block_len + word.len), path);
        }
    }
}

Test(option, names_are_found_in_any_case_and_only_whole)
{
    cr_expect_not_null(option_find(BYTES_LITERAL("PORT")));
    cr_expect_not_null(option_find(BYTES_LITERAL("Tls.Cert_File")));
    cr_expect_null(option_find(BYTES_LITERAL("por")));
    cr_expect_null(option_find(BYTES_LITERAL("ports")));
    cr_expect_null(option_find(BYTES_LITERAL("")));
    cr_expect_null(option_find(BYTES_LITERAL("cert_file")));
    cr_expect_null(option_find(BYTES_LITERAL("tls.")));
    cr_expect(option_is_block(BYTES_LITERAL("metrics")));
    cr_expect(!option_is_block(BYTES_LITERAL("metric")));
    cr_expect(!option_is_block(BYTES_LITERAL("port")));
}

Test(option, flags_keep_their_case)
{
    cr_expect_neq(option_find_flag(BYTES_LITERAL("p")), option_find_flag(BYTES_LITERAL("P")));
    cr_expect_null(option_find_flag(BYTES_LITERAL("port=")));
    cr_expect_null(option_find_flag(BYTES_LITERAL("")));
    cr_expect(option_takes_value(option_find_flag(BYTES_LITERAL("port"))));
    cr_expect(!option_takes_value(option_find_flag(BYTES_LITERAL("js"))));
    cr_expect(!option_takes_value(option_find_flag(BYTES_LITERAL("no_advertise"))));
}
