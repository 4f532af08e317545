#include <criterion/criterion.h>
#include "core/auth/tlsname.h"

static bool same(const char *a, const char *b)
{
    struct tlsname x, y;
    cr_assert_eq(tlsname_parse(bytes_from_text(a), &x), ERR_OK, "%s", a);
    cr_assert_eq(tlsname_parse(bytes_from_text(b), &y), ERR_OK, "%s", b);
    cr_assert_eq(tlsname_equal_unordered(&x, &y), tlsname_equal_unordered(&y, &x));
    if (tlsname_equal(&x, &y)) cr_assert(tlsname_equal_unordered(&x, &y));
    return tlsname_equal_unordered(&x, &y);
}

static enum err parse(const char *text)
{
    struct tlsname n;
    return tlsname_parse(bytes_from_text(text), &n);
}

Test(tlsname, blanks_case_of_types_and_order_do_not_matter)
{
    cr_assert(same("CN=bob,O=Acme,C=US", "cn = bob , o=Acme,C=US"));
    cr_assert(same("CN=bob,O=Acme,C=US", "C=US,CN=bob,O=Acme"));
    cr_assert(same("CN=bob+UID=1,O=Acme", "UID=1+CN=bob,O=Acme"));
    cr_assert(same("DC=example,DC=com,CN=x", "DC=com,CN=x,DC=example"));
}

Test(tlsname, order_is_known_to_the_strict_comparison)
{
    struct tlsname x, y;
    cr_assert_eq(tlsname_parse(BYTES_LITERAL("CN=a,O=b"), &x), ERR_OK);
    cr_assert_eq(tlsname_parse(BYTES_LITERAL("O=b,CN=a"), &y), ERR_OK);
    cr_assert(!tlsname_equal(&x, &y));
    cr_assert(tlsname_equal(&x, &x));
}

/* CVE-2026-33248: names that only resemble the configured one were taken for it. */
Test(tlsname, what_only_resembles_a_name_is_another)
{
    cr_assert(!same("CN=bob,O=Acme", "CN=bob"));
    cr_assert(!same("CN=bob", "CN=bob,O=Acme"));
    cr_assert(!same("CN=bob,O=Acme", "CN=bobby,O=Acme"));
    cr_assert(!same("CN=bob,O=Acme", "CN=Bob,O=Acme"));
    cr_assert(!same("CN=bob,O=Acme", "CN=bob+O=Acme"));
    cr_assert(!same("CN=bob+OU=x,O=Acme", "CN=bob,OU=x,O=Acme"));
    cr_assert(!same("OU=a,OU=a,OU=b", "OU=a,OU=b,OU=b"));
    cr_assert(!same("OU=a+OU=a+OU=b,CN=x", "OU=a+OU=b+OU=b,CN=x"));
    cr_assert(!same("CN=bob,O=", "CN=bob"));
    cr_assert(!same("CN=bob,CN=bob", "CN=bob"));
    cr_assert(!same("CN=a\\,O=Acme", "CN=a,O=Acme"));
    cr_assert(!same("CN=a\\+O=Acme", "CN=a+O=Acme"));
}

Test(tlsname, escapes_mean_the_byte_they_name)
{
    cr_assert(same("CN=a\\2Cb", "CN=a\\,b"));
    cr_assert(same("CN=\\C3\\A9", "CN=\xc3\xa9"));
    cr_assert(same("CN=\\ a\\ ", "CN=\\20a\\20"));
    cr_assert(!same("CN=\\ a", "CN=a"));
    cr_assert(same("CN=a=b", "CN=a\\=b"));
    cr_assert(same("CN=a\\00b", "CN=a\\00b"));
    cr_assert(!same("CN=a\\00b", "CN=a"));
}

Test(tlsname, text_that_is_no_name_is_refused)
{
    static const char *const bad[] = {
        "",       "bob",     "=bob",     "CN=a,", ",CN=a", "CN=a,,O=b", "CN=a\\", "CN=\\4",
        "CN=\\zz", "CN=#0401", "CN=a+", "+",     "CN=a,bob", "\\=a",   " ",      "CN",
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        cr_assert_eq(parse(bad[i]), ERR_SYNTAX, "%s", bad[i]);
}

Test(tlsname, size_is_bounded)
{
    static char text[TLSNAME_BYTES_MAX + 64];
    struct tlsname n;
    memset(text, 'x', sizeof text);
    memcpy(text, "CN=", 3);
    cr_assert_eq(tlsname_parse(bytes_of(text, sizeof text), &n), ERR_TOO_LONG);
    cr_assert_eq(n.attribute_count, 0);
    for (size_t i = 0; i + 4 <= sizeof text; i += 4) memcpy(text + i, "O=a,", 4);
    cr_assert_eq(tlsname_parse(bytes_of(text, sizeof text - 1), &n), ERR_TOO_LONG);
}
