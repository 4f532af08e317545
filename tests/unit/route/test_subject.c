#include <criterion/criterion.h>
#include <stdio.h>
#include "core/route/subject.h"

static struct bytes text(const char *s)
{
    return bytes_from_text(s);
}

Test(subject, valid_ones_have_no_empty_token_no_blank_and_rest_only_at_the_end)
{
    const char *good[] = {"a", "a.b", "*", ">", "*.>", "a.*.b", "a*.b", "*a", "a>.b", ">>.a",
                          "$JS.x", "a.\x01", "\xc3\xa9"};
    const char *bad[] = {"",  ".",    "a.", ".a",   "a..b",    ">.a", "a.>.b", "a b",
                         " ", "a.\t", "\r", "a\nb", "a.b\f.c", ">.>", "a. .b", "a.b ."};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        cr_assert(subject_is_valid(text(good[i])), "%s", good[i]);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        cr_assert_not(subject_is_valid(text(bad[i])), "%s", bad[i]);
    cr_assert(subject_is_valid(bytes_of("a\0b", 3)), "a zero byte is allowed");
}

Test(subject, wildcards_count_only_as_whole_tokens)
{
    cr_assert(subject_has_wildcard(text("a.*")));
    cr_assert(subject_has_wildcard(text(">")));
    cr_assert_not(subject_has_wildcard(text("a*.>b.**")));
    cr_assert(subject_is_literal(text("a*.b")));
    cr_assert_not(subject_is_literal(text("a.*")));
    cr_assert_not(subject_is_literal(text("a..b")));
    cr_assert(subject_matches(text("*a.b"), text("*a.b")));
    cr_assert_not(subject_matches(text("xa.b"), text("*a.b")));
}

Test(subject, tokens_are_found_by_number)
{
    cr_assert_eq(subject_token_count(text("")), 0);
    cr_assert_eq(subject_token_count(text("a")), 1);
    cr_assert_eq(subject_token_count(text("a.bc.d")), 3);
    cr_assert(bytes_equal(subject_token(text("a.bc.d"), 1), text("bc")));
    cr_assert_eq(subject_token(text("a.bc.d"), 3).len, 0);
    cr_assert(subject_has_empty_token(text("a..b")) && subject_has_empty_token(text(".a")) &&
              subject_has_empty_token(text("a.")) && subject_has_empty_token(text("")));
    cr_assert_not(subject_has_empty_token(text("a.b")));
}

Test(subject, hashes_differ_by_account_and_are_never_zero)
{
    cr_assert_neq(subject_hash(9, 0, text("a.b")), subject_hash(9, 1, text("a.b")));
    cr_assert_eq(subject_hash(9, 3, text("a.b")), subject_hash(9, 3, text("a.b")));
    cr_assert_neq(subject_hash(9, 3, text("a.b")), subject_hash(8, 3, text("a.b")));
    cr_assert_neq(subject_hash(0, 0, text("")), 0);
}

/* --- against a naive oracle: every filter of up to four tokens over a small alphabet ----- */

enum { TOKENS = 4, FILTERS_MAX = 700, LITERALS_MAX = 1200 };

struct list {
    uint32_t count;
    char (*text)[2 * TOKENS + 4];
};

static void enumerate(struct list *l, const char *alphabet, uint32_t tokens_max, bool is_filter)
{
    for (uint32_t tokens = 1; tokens <= tokens_max; tokens++) {
        uint32_t base = (uint32_t)strlen(alphabet), total = 1;
        for (uint32_t i = 0; i < tokens; i++) total *= base;
        for (uint32_t n = 0; n < total; n++) {
            char *out = l->text[l->count];
            uint32_t rest = n, at = 0;
            for (uint32_t i = 0; i < tokens; i++, rest /= base) {
                if (i > 0) out[at++] = '.';
                out[at++] = alphabet[rest % base];
            }
            out[at] = 0;
            if (is_filter ? subject_is_valid(text(out)) : true) l->count++;
        }
    }
}

/* Directly from the definition, by recursion over the texts. */
static bool naive(const char *s, const char *f)
{
    size_t sn = strcspn(s, "."), fn = strcspn(f, ".");
    if (fn == 1 && *f == '>') return true;
    if (!(fn == 1 && *f == '*') && !(fn == sn && strncmp(s, f, sn) == 0)) return false;
    if (s[sn] == 0 || f[fn] == 0) return s[sn] == f[fn];
    return naive(s + sn + 1, f + fn + 1);
}

Test(subject, matches_subset_and_collides_agree_with_the_definition)
{
    static char filters[FILTERS_MAX][2 * TOKENS + 4], literals[LITERALS_MAX][2 * TOKENS + 4];
    static bool hit[FILTERS_MAX][LITERALS_MAX];
    struct list f = {0, filters}, l = {0, literals};
    enumerate(&f, "ab*>", TOKENS, true);
    enumerate(&l, "abc", TOKENS + 1, false); /* c is in no filter; one token more than any */
    cr_assert(f.count < FILTERS_MAX && l.count < LITERALS_MAX);
    for (uint32_t i = 0; i < f.count; i++)
        for (uint32_t k = 0; k < l.count; k++) {
            hit[i][k] = naive(literals[k], filters[i]);
            cr_assert_eq(subject_matches(text(literals[k]), text(filters[i])), hit[i][k], "%s %s",
                         literals[k], filters[i]);
        }
    for (uint32_t i = 0; i < f.count; i += 1 + i % 3)
        for (uint32_t j = 0; j < f.count; j += 1 + j % 2) {
            bool is_subset = true, collides = false;
            for (uint32_t k = 0; k < l.count; k++) {
                if (hit[i][k] && !hit[j][k]) is_subset = false;
                if (hit[i][k] && hit[j][k]) collides = true;
            }
            cr_assert_eq(subject_is_subset(text(filters[i]), text(filters[j])), is_subset,
                         "%s in %s", filters[i], filters[j]);
            cr_assert_eq(subject_collides(text(filters[i]), text(filters[j])), collides, "%s %s",
                         filters[i], filters[j]);
        }
}

Test(subject, a_published_wildcard_is_an_ordinary_token)
{
    cr_assert(subject_matches(text("foo.*"), text("foo.*")));
    cr_assert(subject_matches(text("foo.>"), text("foo.*")));
    cr_assert(subject_matches(text("foo.>"), text(">")));
    cr_assert_not(subject_matches(text("foo.*"), text("foo.bar")));
    cr_assert_not(subject_matches(text("foo..bar"), text(">")));
    cr_assert_not(subject_matches(text("foo."), text("foo.*")));
    cr_assert_not(subject_matches(text("foo.bar"), text(">.bar")));
    cr_assert_not(subject_matches(text("foo.bar.x"), text("foo.>.x")));
}
