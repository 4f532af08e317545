#include <criterion/criterion.h>
#include "core/auth/nkey.h"

static const struct {
    enum nkey_kind kind;
    const char *text; /* of the bytes 0 to 31 */
} known[] = {
    {NKEY_ACCOUNT, "AAAACAQDAQCQMBYIBEFAWDANBYHRAEISCMKBKFQXDAMRUGY4DUPB776S"},
    {NKEY_USER, "UAAACAQDAQCQMBYIBEFAWDANBYHRAEISCMKBKFQXDAMRUGY4DUPB63NN"},
    {NKEY_SERVER, "NAAACAQDAQCQMBYIBEFAWDANBYHRAEISCMKBKFQXDAMRUGY4DUPB6CRG"},
    {NKEY_CURVE, "XAAACAQDAQCQMBYIBEFAWDANBYHRAEISCMKBKFQXDAMRUGY4DUPB7QO7"},
    {NKEY_OPERATOR, "OAAACAQDAQCQMBYIBEFAWDANBYHRAEISCMKBKFQXDAMRUGY4DUPB7JSU"},
    {NKEY_CLUSTER, "CAAACAQDAQCQMBYIBEFAWDANBYHRAEISCMKBKFQXDAMRUGY4DUPB6N4O"},
};

Test(nkey, public_keys_of_all_kinds_go_both_ways)
{
    uint8_t raw[NKEY_RAW_BYTES], back[NKEY_RAW_BYTES];
    for (int i = 0; i < NKEY_RAW_BYTES; i++) raw[i] = (uint8_t)i;
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++) {
        char text[NKEY_TEXT_BYTES];
        enum nkey_kind kind;
        nkey_encode(known[i].kind, raw, text);
        cr_assert(bytes_equal(bytes_of(text, sizeof text), bytes_from_text(known[i].text)));
        cr_assert_eq(nkey_decode(bytes_from_text(known[i].text), &kind, back), ERR_OK);
        cr_assert_eq(kind, known[i].kind);
        cr_assert_eq(memcmp(raw, back, sizeof raw), 0);
    }
}

Test(nkey, one_kind_is_not_another)
{
    cr_assert_eq(nkey_decode_as(NKEY_USER, bytes_from_text(known[0].text), NULL), ERR_INVALID);
    cr_assert(nkey_is_valid(NKEY_ACCOUNT, bytes_from_text(known[0].text)));
    cr_assert(!nkey_is_valid(NKEY_ACCOUNT, bytes_from_text(known[1].text)));
}

Test(nkey, seeds_and_private_keys_are_no_public_keys)
{
    enum nkey_kind kind;
    uint8_t raw[NKEY_RAW_BYTES];
    static const char *const texts[] = {
        "SAAACAQDAQCQMBYIBEFAWDANBYHRAEISCMKBKFQXDAMRUGY4DUPB6NKI",
        "PAAACAQDAQCQMBYIBEFAWDANBYHRAEISCMKBKFQXDAMRUGY4DUPB7QT2",
    };
    for (size_t i = 0; i < 2; i++)
        cr_assert_eq(nkey_decode(bytes_from_text(texts[i]), &kind, raw), ERR_UNKNOWN);
}

/* GHSA-g33f: a truncated issuer key ended the process of another server. */
Test(nkey, every_other_length_is_refused)
{
    char text[64];
    enum nkey_kind kind;
    uint8_t raw[NKEY_RAW_BYTES];
    for (size_t len = 0; len <= sizeof text; len++) {
        memset(text, 'A', sizeof text);
        memcpy(text, known[1].text, len < NKEY_TEXT_BYTES ? len : NKEY_TEXT_BYTES);
        cr_assert_eq(nkey_decode(bytes_of(text, len), &kind, raw),
                     len == NKEY_TEXT_BYTES ? ERR_OK : ERR_TOO_LONG);
    }
}

Test(nkey, every_changed_character_is_noticed)
{
    enum nkey_kind kind;
    uint8_t raw[NKEY_RAW_BYTES];
    for (size_t at = 0; at < NKEY_TEXT_BYTES; at++) {
        for (int c = 0; c < 256; c++) {
            char text[NKEY_TEXT_BYTES];
            memcpy(text, known[1].text, sizeof text);
            if (text[at] == (char)c) continue;
            text[at] = (char)c;
            cr_assert_neq(nkey_decode(bytes_of(text, sizeof text), &kind, raw), ERR_OK);
        }
    }
}
