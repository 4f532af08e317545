#include "io/crypto.h"
#include <crypt.h>
#include <errno.h>
#include <sodium.h>
#include <stdlib.h>
#include <sys/random.h>
#include "core/auth/account.h"
#include "core/base/must.h"

enum {
    BCRYPT_TEXT_BYTES = 60,   /* prefix, cost, salt and hash */
    BCRYPT_PASSWORD_MAX = 72, /* the algorithm looks at no more */
};

_Static_assert(CRYPTO_KEY_BYTES == crypto_sign_PUBLICKEYBYTES, "Ed25519 public key");
_Static_assert(CRYPTO_KEY_BYTES == crypto_sign_SEEDBYTES, "Ed25519 seed");
_Static_assert(CRYPTO_KEY_BYTES == crypto_scalarmult_BYTES, "X25519 key");
_Static_assert(CRYPTO_SIGNATURE_BYTES == crypto_sign_BYTES, "Ed25519 signature");
_Static_assert(CRYPTO_SHA256_BYTES == crypto_hash_sha256_BYTES, "SHA-256");

enum err crypto_init(void)
{
    return sodium_init() < 0 ? ERR_IO : ERR_OK;
}

void crypto_random(void *out, size_t bytes)
{
    char *at = out;
    while (bytes > 0) {
        ssize_t n = getrandom(at, bytes, 0);
        if (n < 0 && errno == EINTR) continue;
        must(n > 0);
        at += n;
        bytes -= (size_t)n;
    }
}

bool crypto_bcrypt_matches(struct bytes hash, struct bytes password)
{
    char setting[BCRYPT_TEXT_BYTES + 1], secret[BCRYPT_PASSWORD_MAX + 1];
    if (!account_is_bcrypt(hash) || hash.len != BCRYPT_TEXT_BYTES) return false;
    if (password.len > 0 && memchr(password.data, 0, password.len) != NULL) return false;

    memcpy(setting, hash.data, hash.len);
    setting[hash.len] = 0;
    /* nats-server runs the one correct algorithm whatever the letter; crypt would apply the bug
     * that x stands for, and a countermeasure against it under a. */
    setting[2] = 'b';
    size_t bytes = password.len < BCRYPT_PASSWORD_MAX ? password.len : BCRYPT_PASSWORD_MAX;
    if (bytes > 0) memcpy(secret, password.data, bytes);
    secret[bytes] = 0;

    /* 32 KiB, too large for the stacks of all callers. */
    struct crypt_data *work = calloc(1, sizeof *work);
    bool matches = false;
    if (work != NULL) {
        const char *text = crypt_r(secret, setting, work);
        matches = text != NULL &&
                  crypto_equal(bytes_from_text(text), bytes_of(setting, BCRYPT_TEXT_BYTES));
        crypto_wipe(work, sizeof *work);
        free(work);
    }
    crypto_wipe(secret, sizeof secret);
    return matches;
}

bool crypto_equal(struct bytes a, struct bytes b)
{
    if (a.len != b.len) return false;
    return a.len == 0 || sodium_memcmp(a.data, b.data, a.len) == 0;
}

static const unsigned char *unsigned_of(struct bytes b)
{
    return (const unsigned char *)b.data;
}

void crypto_sha256(struct bytes data, uint8_t out[CRYPTO_SHA256_BYTES])
{
    crypto_hash_sha256(out, unsigned_of(data), data.len);
}

bool crypto_ed25519_verify(const uint8_t public_key[CRYPTO_KEY_BYTES], struct bytes message,
                           const uint8_t signature[CRYPTO_SIGNATURE_BYTES])
{
    return crypto_sign_verify_detached(signature, unsigned_of(message), message.len, public_key) ==
           0;
}

void crypto_ed25519_sign(const uint8_t seed[CRYPTO_KEY_BYTES], struct bytes message,
                         uint8_t signature[CRYPTO_SIGNATURE_BYTES])
{
    uint8_t public_key[CRYPTO_KEY_BYTES], secret_key[crypto_sign_SECRETKEYBYTES];
    crypto_sign_seed_keypair(public_key, secret_key, seed);
    crypto_sign_detached(signature, NULL, unsigned_of(message), message.len, secret_key);
    crypto_wipe(secret_key, sizeof secret_key);
}

void crypto_ed25519_public(const uint8_t seed[CRYPTO_KEY_BYTES],
                           uint8_t public_key[CRYPTO_KEY_BYTES])
{
    uint8_t secret_key[crypto_sign_SECRETKEYBYTES];
    crypto_sign_seed_keypair(public_key, secret_key, seed);
    crypto_wipe(secret_key, sizeof secret_key);
}

void crypto_x25519_public(const uint8_t seed[CRYPTO_KEY_BYTES],
                          uint8_t public_key[CRYPTO_KEY_BYTES])
{
    crypto_scalarmult_base(public_key, seed);
}

void crypto_wipe(void *p, size_t bytes)
{
    sodium_memzero(p, bytes);
}
