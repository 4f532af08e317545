/* Texts that carry keys and names: nkeys, base64, distinguished names. What decodes must encode
 * back to the same text (nkeys), to the same bytes (base64), and equal itself (names). */
#include <stdint.h>
#include <stdlib.h>
#include "core/auth/nkey.h"
#include "core/auth/tlsname.h"
#include "core/base/base64.h"
#include "core/base/must.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_nkey(struct bytes text)
{
    enum nkey_kind kind;
    uint8_t raw[NKEY_RAW_BYTES];
    char back[NKEY_TEXT_BYTES];
    if (nkey_decode(text, &kind, raw) != ERR_OK) return;
    nkey_encode(kind, raw, back);
    must(bytes_equal(bytes_of(back, sizeof back), text));
}

static void check_base64(enum base64_kind kind, struct bytes text)
{
    uint8_t out[512], again[512];
    char back[1024];
    size_t len, again_len;
    if (base64_decode(kind, text, out, sizeof out, &len) != ERR_OK) return;
    struct bytes encoded = bytes_of(back, base64_encode(kind, out, len, back));
    must(base64_decode(kind, encoded, again, sizeof again, &again_len) == ERR_OK);
    must(again_len == len && memcmp(out, again, len) == 0);
}

static void check_name(struct bytes text)
{
    struct tlsname a, b;
    size_t half = text.len / 2;
    bool has_a = tlsname_parse(text, &a) == ERR_OK;
    if (has_a) must(tlsname_equal(&a, &a) && tlsname_equal_unordered(&a, &a));
    if (tlsname_parse(bytes_of(text.data, half), &b) != ERR_OK) return;
    if (tlsname_parse(bytes_of(text.data + half, text.len - half), &a) != ERR_OK) return;
    must(tlsname_equal_unordered(&a, &b) == tlsname_equal_unordered(&b, &a));
    if (tlsname_equal(&a, &b)) must(tlsname_equal_unordered(&a, &b));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes text = bytes_of((const char *)data, size);
    check_nkey(text);
    check_base64(BASE64_URL, text);
    check_base64(BASE64_STD, text);
    check_name(text);
    return 0;
}
