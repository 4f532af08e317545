#include <criterion/criterion.h>
#include <stdio.h>
#include "io/crypto.h"

static void setup(void)
{
    cr_assert_eq(crypto_init(), ERR_OK);
}

TestSuite(crypto, .init = setup, .timeout = 20);

static void from_hex(const char *text, uint8_t *out)
{
    for (; *text != 0; text += 2) {
        unsigned byte;
        cr_assert_eq(sscanf(text, "%2x", &byte), 1);
        *out++ = (uint8_t)byte;
    }
}

static bool matches(const char *hash, const char *password)
{
    return crypto_bcrypt_matches(bytes_from_text(hash), bytes_from_text(password));
}

/* The published vectors of the algorithm (cost 5). */
Test(crypto, bcrypt_knows_the_published_vectors)
{
    cr_assert(matches("$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U"));
    cr_assert(matches("$2a$05$CCCCCCCCCCCCCCCCCCCCC.VGOzA784oUp/Z0DY336zx7pLYAy0lwK", "U*U*"));
    cr_assert(matches("$2a$05$XXXXXXXXXXXXXXXXXXXXXOAcXxm9kjPGEMsLznoKqmqw7tc8WCx4a", "U*U*U"));
    cr_assert(matches("$2a$05$CCCCCCCCCCCCCCCCCCCCC.7uG0VCzI2bS7j6ymqJi9CdcdxiRTWNy", ""));
    cr_assert(matches("$2y$05$/OK.fbVrR/bpIqNJ5ianF.Sa7shbm4.OzKpvFnX1pQLmQW96oUlCq", "\xa3"));
    cr_assert_not(matches("$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*V"));
}

Test(crypto, all_bcrypt_letters_mean_one_algorithm)
{
    static const char *const hashes[] = {
        "$2a$05$/OK.fbVrR/bpIqNJ5ianF.Sa7shbm4.OzKpvFnX1pQLmQW96oUlCq",
        "$2b$05$/OK.fbVrR/bpIqNJ5ianF.Sa7shbm4.OzKpvFnX1pQLmQW96oUlCq",
        "$2x$05$/OK.fbVrR/bpIqNJ5ianF.Sa7shbm4.OzKpvFnX1pQLmQW96oUlCq"};
    for (int i = 0; i < 3; i++) cr_assert(matches(hashes[i], "\xa3"), "%s", hashes[i]);
}

Test(crypto, bcrypt_looks_at_72_bytes)
{
    /* 72 bytes of the published vector, and more of them. */
    static const char hash[] = "$2a$05$abcdefghijklmnopqrstuu5s2v8.iXieOjg/.AySBTTZIIVFJeBui";
    char password[1000];
    memset(password, '0', sizeof password);
    static const char first[] =
        "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789";
    memcpy(password, first, 72);
    cr_assert(crypto_bcrypt_matches(bytes_from_text(hash), bytes_of(password, 72)));
    cr_assert(crypto_bcrypt_matches(bytes_from_text(hash), bytes_of(password, 1000)));
    cr_assert_not(crypto_bcrypt_matches(bytes_from_text(hash), bytes_of(password, 71)));
}

Test(crypto, damaged_hashes_match_nothing)
{
    cr_assert_not(matches("", ""));
    cr_assert_not(matches("$2a$05$", ""));
    cr_assert_not(matches("$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOe", "U*U"));
    cr_assert_not(matches("$2a$03$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U"));
    cr_assert_not(matches("*0", "U*U"));
    cr_assert_not(crypto_bcrypt_matches(
        BYTES_LITERAL("$2a$05$CCCCCCCCCCCCCCCCCCCCC.7uG0VCzI2bS7j6ymqJi9CdcdxiRTWNy"),
        BYTES_LITERAL("\0")));
}

/* RFC 8032, section 7.1, tests 1 and 2. */
Test(crypto, ed25519_knows_the_published_vectors)
{
    uint8_t seed[32], expected[32], public_key[32], signature[64], made[64];
    from_hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb", seed);
    from_hex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", expected);
    from_hex("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
             "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
             signature);
    crypto_ed25519_public(seed, public_key);
    cr_assert_arr_eq(public_key, expected, 32);
    crypto_ed25519_sign(seed, BYTES_LITERAL("\x72"), made);
    cr_assert_arr_eq(made, signature, 64);
    cr_assert(crypto_ed25519_verify(public_key, BYTES_LITERAL("\x72"), signature));
    cr_assert_not(crypto_ed25519_verify(public_key, BYTES_LITERAL("\x73"), signature));
    signature[5] ^= 1;
    cr_assert_not(crypto_ed25519_verify(public_key, BYTES_LITERAL("\x72"), signature));
}

Test(crypto, an_all_zero_key_verifies_nothing)
{
    uint8_t key[32] = {0}, signature[64] = {0};
    cr_assert_not(crypto_ed25519_verify(key, BYTES_LITERAL("x"), signature));
}

/* RFC 7748, section 6.1. */
Test(crypto, x25519_knows_the_published_vector)
{
    uint8_t seed[32], expected[32], public_key[32];
    from_hex("77076d0a7318a57d3c16c17251b26645"
             "df4c2f87ebc0992ab177fba51db92c2a",
             seed);
    from_hex("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a", expected);
    crypto_x25519_public(seed, public_key);
    cr_assert_arr_eq(public_key, expected, 32);
}

Test(crypto, sha256_knows_the_published_vector)
{
    uint8_t expected[32], out[32];
    from_hex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", expected);
    crypto_sha256(BYTES_LITERAL("abc"), out);
    cr_assert_arr_eq(out, expected, 32);
    from_hex("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", expected);
    crypto_sha256(bytes_of(NULL, 0), out);
    cr_assert_arr_eq(out, expected, 32);
}

Test(crypto, equality_needs_equal_lengths)
{
    cr_assert(crypto_equal(BYTES_LITERAL("abc"), BYTES_LITERAL("abc")));
    cr_assert(crypto_equal(bytes_of(NULL, 0), bytes_of(NULL, 0)));
    cr_assert_not(crypto_equal(BYTES_LITERAL("abc"), BYTES_LITERAL("abd")));
    cr_assert_not(crypto_equal(BYTES_LITERAL("abc"), BYTES_LITERAL("abcd")));
}

Test(crypto, random_bytes_differ)
{
    uint8_t a[32] = {0}, b[32] = {0};
    crypto_random(a, sizeof a);
    crypto_random(b, sizeof b);
    cr_assert_arr_neq(a, b, sizeof a);
}
