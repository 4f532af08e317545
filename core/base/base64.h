/* Base64, both alphabets that clients use: URL without padding (nonce, signatures) and standard
 * with padding. Decoding is as lenient as Go's: CR and LF are skipped, unused bits of the last
 * digit may be anything. */
#ifndef CORE_BASE_BASE64_H
#define CORE_BASE_BASE64_H
#include "core/base/bytes.h"

enum base64_kind { BASE64_URL, BASE64_STD };

/* Characters that byte_count bytes become, padding included. */
size_t base64_encoded_len(enum base64_kind kind, size_t byte_count);
/* Writes base64_encoded_len characters at out, no zero; returns their count. */
size_t base64_encode(enum base64_kind kind, const void *data, size_t byte_count, char *out);
/* ERR_SYNTAX: not this alphabet, or a wrong length or padding. ERR_FULL: more than room bytes.
 * After an error *byte_count is not written, but out may be. */
NODISCARD enum err base64_decode(enum base64_kind kind, struct bytes text, uint8_t *out,
                                 size_t room, size_t *byte_count);

#endif
