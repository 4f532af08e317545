/* Passwords, signatures, hashes and random bytes: libxcrypt and libsodium behind a small face.
 * All functions may be called from any thread after crypto_init. The slow ones (bcrypt, verify)
 * belong on helper threads, never on a shard. */
#ifndef IO_CRYPTO_H
#define IO_CRYPTO_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/base/bytes.h"
#include "core/base/err.h"

enum {
    CRYPTO_KEY_BYTES = 32,       /* Ed25519 public key or seed, X25519 key */
    CRYPTO_SIGNATURE_BYTES = 64, /* Ed25519 */
    CRYPTO_SHA256_BYTES = 32,
};

/* Once, before threads. ERR_IO: the library does not start. */
NODISCARD enum err crypto_init(void);

/* From the kernel, for seeds, keys and nonces. Waits for the kernel's pool at boot; ends the
 * process when the kernel has no random bytes, since nothing sensible could follow. */
void crypto_random(void *out, size_t bytes);

/* Slow by design (about 50 ms at cost 10). false for a damaged hash and for a password with a
 * zero byte. All four prefixes mean the same algorithm, as in nats-server. */
bool crypto_bcrypt_matches(struct bytes hash, struct bytes password);

/* Equal in a time that depends on the lengths only. */
bool crypto_equal(struct bytes a, struct bytes b);

void crypto_sha256(struct bytes data, uint8_t out[CRYPTO_SHA256_BYTES]);

bool crypto_ed25519_verify(const uint8_t public_key[CRYPTO_KEY_BYTES], struct bytes message,
                           const uint8_t signature[CRYPTO_SIGNATURE_BYTES]);
void crypto_ed25519_sign(const uint8_t seed[CRYPTO_KEY_BYTES], struct bytes message,
                         uint8_t signature[CRYPTO_SIGNATURE_BYTES]);
/* The public key of a seed. */
void crypto_ed25519_public(const uint8_t seed[CRYPTO_KEY_BYTES],
                           uint8_t public_key[CRYPTO_KEY_BYTES]);
/* The same for the key exchange key that INFO shows as xkey. */
void crypto_x25519_public(const uint8_t seed[CRYPTO_KEY_BYTES],
                          uint8_t public_key[CRYPTO_KEY_BYTES]);

/* Overwrites secrets in a way that the compiler keeps. */
void crypto_wipe(void *p, size_t bytes);

#endif
