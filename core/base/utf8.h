/* UTF-8 well-formedness, for texts that go where only valid UTF-8 may. */
#ifndef CORE_BASE_UTF8_H
#define CORE_BASE_UTF8_H
#include "core/base/bytes.h"

/* Length (1..4) of the well-formed sequence at the start of b, which is not empty; 0 when there is
 * none: a stray or missing byte, an overlong form, a surrogate, beyond the last code point. */
static inline size_t utf8_length(struct bytes b)
{
    const unsigned char *p = (const unsigned char *)b.data;
    unsigned char lead = p[0];
    if (lead < 0x80) return 1;
    size_t len = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
    if (lead < 0xc2 || lead > 0xf4 || b.len < len) return 0;
    for (size_t i = 1; i < len; i++)
        if ((p[i] & 0xc0) != 0x80) return 0;
    if (lead == 0xe0 && p[1] < 0xa0) return 0;
    if (lead == 0xed && p[1] > 0x9f) return 0;
    if (lead == 0xf0 && p[1] < 0x90) return 0;
    if (lead == 0xf4 && p[1] > 0x8f) return 0;
    return len;
}

#endif
