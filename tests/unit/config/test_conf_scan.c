#include <criterion/criterion.h>
#include <string.h>
#include "core/config/conf_scan.h"

static struct conf_scan scan_of(const char *text)
{
    return (struct conf_scan){
        .at = text, .end = text + strlen(text), .line_start = text, .line = 1};
}

Test(conf_scan, a_column_counts_bytes_from_the_last_newline)
{
    struct conf_scan s = scan_of("ab\n\xc3\xa4x");
    for (int i = 0; i < 5; i++) conf_scan_advance(&s);
    cr_expect_eq(conf_scan_peek(&s), 'x');
    cr_expect_eq(conf_scan_place(&s).line, 2);
    cr_expect_eq(conf_scan_place(&s).column, 3);
    conf_scan_advance(&s);
    cr_expect_eq(conf_scan_peek(&s), CONF_SCAN_END);
    cr_expect_eq(conf_scan_peek_second(&s), CONF_SCAN_END);
}

Test(conf_scan, space_is_what_unicode_counts_as_space)
{
    static const struct {
        const char *text;
        unsigned bytes;
    } cases[] = {{"", 0},         {"x", 0},        {" ", 1},           {"\v", 1},
                 {"\xc2\x85", 2}, {"\xc2\xa0", 2}, {"\xc2\xa1", 0},    {"\xe2\x80\x8a", 3},
                 {"\xe2\x80", 0}, {"\xc2", 0},     {"\xe3\x80\x80", 3}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *text = cases[i].text;
        cr_expect_eq(conf_scan_space_bytes(text, text + strlen(text)), cases[i].bytes, "%zu", i);
    }
}

Test(conf_scan, a_comment_leaves_the_newline_behind_it)
{
    struct conf_scan s = scan_of("// a\n# b");
    cr_expect(conf_scan_skip_comment(&s));
    cr_expect_eq(conf_scan_peek(&s), '\n');
    cr_expect_not(conf_scan_skip_comment(&s));
    conf_scan_advance(&s);
    cr_expect(conf_scan_skip_comment(&s));
    cr_expect_eq(conf_scan_peek(&s), CONF_SCAN_END);
    s = scan_of("/ a");
    cr_expect_not(conf_scan_skip_comment(&s));
    cr_expect_eq(conf_scan_peek(&s), '/');
}
