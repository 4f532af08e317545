#include <criterion/criterion.h>
#include <string.h>
#include "core/config/conf_fault.h"

static struct conf_error error;
static struct conf_parse parse = {.error = &error};

static struct conf_scan scan_at(uint32_t line, uint32_t column)
{
    static const char text[64];
    return (struct conf_scan){
        .p = &parse, .at = text + column - 1, .end = text + 64, .line_start = text, .line = line};
}

Test(conf_fault, a_message_has_the_place_of_the_cursor)
{
    struct conf_scan s = scan_at(7, 5);
    cr_expect_eq(conf_fault_syntax_about(&s, "no ", BYTES_LITERAL("x"), "!"), ERR_SYNTAX);
    cr_expect_str_eq(error.text, "Parse error on line 7: 'no x!'");
    cr_expect_eq(error.place.line, 7);
    cr_expect_eq(error.place.column, 5);
}

Test(conf_fault, what_is_open_is_told_with_its_line)
{
    struct conf_scan s = scan_at(9, 1), opening = scan_at(4, 2);
    cr_expect_eq(conf_fault_unclosed(&s, "map", &opening), ERR_SYNTAX);
    cr_expect_str_eq(error.text,
                     "Parse error on line 9: 'The map that opens on line 4 is never closed'");
}

Test(conf_fault, the_error_itself_may_be_the_detail_of_the_next_one)
{
    struct conf_scan s = scan_at(1, 1);
    cr_expect_eq(conf_fault_syntax(&s, "bad"), ERR_SYNTAX);
    cr_expect_eq(conf_fault_variable(&s, BYTES_LITERAL("V"), ": ", bytes_from_text(error.text)),
                 ERR_SYNTAX);
    cr_expect_str_eq(error.text,
                     "variable reference for 'V' on line 1: Parse error on line 1: 'bad'");
}

Test(conf_fault, a_long_name_is_clipped)
{
    char name[2 * CONF_ERROR_BYTES];
    memset(name, 'n', sizeof name);
    struct conf_scan s = scan_at(1, 1);
    cr_expect_eq(conf_fault_unread(&s, bytes_of(name, sizeof name), BYTES_LITERAL("gone")), ERR_IO);
    cr_expect(bytes_ends_with(bytes_from_text(error.text), BYTES_LITERAL("nn: gone")));
    cr_expect_lt(strlen(error.text), 300);
}
