#include <criterion/criterion.h>
#include "core/config/duration.h"

Test(duration, reads_what_go_reads)
{
    static const struct {
        const char *text;
        int64_t ns;
    } rows[] = {
        {"0", 0},
        {"-0", 0},
        {"5s", 5000000000},
        {"30s", 30000000000},
        {"1478s", 1478000000000},
        {"-5s", -5000000000},
        {"+5s", 5000000000},
        {"5.0s", 5000000000},
        {"5.6s", 5600000000},
        {"5.s", 5000000000},
        {".5s", 500000000},
        {"1.004s", 1004000000},
        {"100.00100s", 100001000000},
        {"10ns", 10},
        {"11us", 11000},
        {"12\xc2\xb5s", 12000},
        {"12\xce\xbcs", 12000},
        {"13ms", 13000000},
        {"15m", 900000000000},
        {"16h", 57600000000000},
        {"3h30m", 12600000000000},
        {"10.5s4m", 250500000000},
        {"-2m3.4s", -123400000000},
        {"1h2m3s4ms5us6ns", 3723004005006},
        {"0.3333333333333333333h", 1200000000000},
        {"9223372036854775807ns", INT64_MAX},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int64_t ns = -1;
        cr_expect_eq(duration_parse(bytes_from_text(rows[i].text), &ns, NULL), ERR_OK, "%s",
                     rows[i].text);
        cr_expect_eq(ns, rows[i].ns, "%s", rows[i].text);
    }
}

Test(duration, says_what_is_wrong)
{
    static const struct {
        const char *text;
        enum err e;
        const char *unit;
    } rows[] = {
        {"", ERR_SYNTAX, NULL},
        {"-", ERR_SYNTAX, NULL},
        {"s", ERR_SYNTAX, NULL},
        {".", ERR_SYNTAX, NULL},
        {".s", ERR_SYNTAX, NULL},
        {"+.s", ERR_SYNTAX, NULL},
        {"3", ERR_INCOMPLETE, NULL},
        {"1h2", ERR_INCOMPLETE, NULL},
        {"3.", ERR_INCOMPLETE, NULL},
        {"5x", ERR_UNKNOWN, "x"},
        {"1d", ERR_UNKNOWN, "d"},
        {"3 s", ERR_UNKNOWN, " s"},
        {"9223372036854775808ns", ERR_RANGE, NULL},
        {"9223372036854775807ns1ns", ERR_RANGE, NULL},
        {"3000000h", ERR_RANGE, NULL},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        int64_t ns = 7;
        struct bytes unit = {0};
        cr_expect_eq(duration_parse(bytes_from_text(rows[i].text), &ns, &unit), rows[i].e, "%s",
                     rows[i].text);
        cr_expect_eq(ns, 7);
        if (rows[i].unit != NULL) cr_expect(bytes_equal(unit, bytes_from_text(rows[i].unit)));
    }
}
