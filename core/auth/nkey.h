/* nkeys: Ed25519 and X25519 public keys as text, 56 characters of base32 over
 *   prefix byte (kind), 32 bytes of key, CRC-16/XMODEM of both (little endian).
 * The first character tells the kind. Foreign bytes: every length and every damage is an error. */
#ifndef CORE_AUTH_NKEY_H
#define CORE_AUTH_NKEY_H
#include <stdbool.h>
#include "core/base/bytes.h"

enum { NKEY_RAW_BYTES = 32, NKEY_TEXT_BYTES = 56 };

/* Values are the prefix byte. */
enum nkey_kind {
    NKEY_ACCOUNT = 0,        /* A */
    NKEY_CURVE = 23 << 3,    /* X */
    NKEY_CLUSTER = 2 << 3,   /* C */
    NKEY_SERVER = 13 << 3,   /* N */
    NKEY_OPERATOR = 14 << 3, /* O */
    NKEY_USER = 20 << 3,     /* U */
};

/* A public key of any kind. ERR_TOO_LONG: not NKEY_TEXT_BYTES characters. ERR_SYNTAX: no base32.
 * ERR_CORRUPT: the sum is wrong. ERR_UNKNOWN: no public key (a seed, a private key, other). */
NODISCARD enum err nkey_decode(struct bytes text, enum nkey_kind *kind,
                               uint8_t raw[NKEY_RAW_BYTES]);
/* The same, and of this kind, else ERR_INVALID. raw may be NULL. */
NODISCARD enum err nkey_decode_as(enum nkey_kind kind, struct bytes text, uint8_t *raw);
bool nkey_is_valid(enum nkey_kind kind, struct bytes text);
/* NKEY_TEXT_BYTES characters at text, no zero. */
void nkey_encode(enum nkey_kind kind, const uint8_t raw[NKEY_RAW_BYTES], char *text);

#endif
