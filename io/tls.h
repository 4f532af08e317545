/* TLS for accepted connections: the only file that sees OpenSSL.
 *
 * A tls_context is made from a tls block of the configuration, immutable, counted by reference
 * and shared by all threads; a reload makes a new one and connections keep theirs. A tls_conn
 * belongs to one thread at a time and may be handed over whole (handshakes run on helpers).
 *
 * A tls_conn keeps no ciphertext of its own beyond a half-received record: each call takes it
 * from the caller's memory and puts it into the caller's memory (struct tls_io). So an idle
 * connection holds no buffers. TLS 1.2 and 1.3 only; no compression, no renegotiation. Sessions
 * are resumed only where clients show no certificates: with verify each handshake is a full one,
 * so that the identity is always that of a certificate checked now. */
#ifndef IO_TLS_H
#define IO_TLS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/base/bytes.h"
#include "core/base/err.h"

enum {
    TLS_REASON_BYTES = 512,
    TLS_PIN_BYTES = 32,
    TLS_VERSION_1_2 = 0x0303,
    TLS_VERSION_1_3 = 0x0304,
    TLS_PEER_CERTS_MAX = 10,             /* a longer chain fails the handshake */
    TLS_HANDSHAKE_BYTES_MAX = 64 * 1024, /* from the client, then the handshake fails */
    TLS_RECORD_BYTES_MAX = 16 * 1024,    /* plaintext in one record */
    TLS_RECORD_OVERHEAD_MAX = 320,       /* what encryption adds to a record, all suites */
    /* Output room with which handshake and read calls never answer ERR_FULL in practice. */
    TLS_OUT_ROOM = 16 * 1024,
};

/* --- context --- */

struct tls_pair {
    const char *cert_file, *key_file; /* PEM; the certificate's chain follows it */
};

struct tls_options {
    const struct tls_pair *pairs; /* the one whose names fit the client's SNI, else the first */
    uint32_t pair_count;
    const char *ca_file;          /* NULL or "": the machine's roots */
    bool verify;                  /* the client must show a certificate that ca_file vouches for */
    uint16_t min_version;         /* 0: TLS_VERSION_1_2 */
    const struct bytes *cipher_suites; /* IANA names; none: all good ones. 1.3: always all */
    uint32_t cipher_suite_count;
    bool allow_insecure_cipher_suites;
    const struct bytes *curves;   /* X25519, CurveP256 ...; none: the defaults */
    uint32_t curve_count;
    const uint8_t (*pinned)[TLS_PIN_BYTES]; /* SHA-256 of the public key; none: any */
    uint32_t pinned_count;
};

struct tls_context;

/* One reference for the caller. On failure reason (may be NULL) names the file or the option.
 * ERR_IO: a file cannot be read; ERR_INVALID: what it says is no use. */
NODISCARD enum err tls_context_open(const struct tls_options *o, struct tls_context **out,
                                    char *reason, size_t reason_bytes);
struct tls_context *tls_context_hold(struct tls_context *t);
void tls_context_drop(struct tls_context *t); /* may be NULL */
/* Unix seconds after which the first certificate is no longer valid (varz). */
int64_t tls_context_not_after(const struct tls_context *t);
/* false: pinned certificates are set and the peer shows none of them. */
bool tls_context_allows_pin(const struct tls_context *t, const uint8_t spki_sha256[TLS_PIN_BYTES]);

/* --- connection --- */

/* The caller's memory for one call. in moves on past what was taken; out_bytes grows up to
 * out_room. What out holds must be sent whatever the call answers (alerts too). */
struct tls_io {
    struct bytes in;
    char *out;
    size_t out_bytes;
    size_t out_room;
};

struct tls_conn;

/* Holds a reference of t until tls_conn_close. ERR_MEMORY. */
NODISCARD enum err tls_conn_open(struct tls_context *t, struct tls_conn **out);
void tls_conn_close(struct tls_conn *c); /* may be NULL; sends nothing */

/* One step of the handshake.
 * ERR_OK: it is finished; what is left in io->in is application data for tls_conn_read.
 * ERR_INCOMPLETE: send out, call again with more ciphertext.
 * ERR_FULL: send out, call again with room.
 * ERR_DENIED: failed (tls_conn_reason); send out, which may hold an alert, and close. */
NODISCARD enum err tls_conn_handshake(struct tls_conn *c, struct tls_io *io);
/* Decrypts into plain[0..room). After ERR_OK *len > 0; call again while it answers ERR_OK.
 * ERR_INCOMPLETE: io->in is used up, nothing more to read. ERR_FULL: out has no room for an
 * answer of the protocol itself. ERR_CLOSED: the peer ended the stream. ERR_CORRUPT: close. */
NODISCARD enum err tls_conn_read(struct tls_conn *c, struct tls_io *io, char *plain, size_t room,
                                 size_t *len);
/* Encrypts plain into out, whole records only; *taken says how much of plain went (all of it
 * when out has tls_ciphertext_max(plain.len) free). Never needs a repetition with the same bytes.
 * ERR_CORRUPT: close. */
NODISCARD enum err tls_conn_write(struct tls_conn *c, struct tls_io *io, struct bytes plain,
                                  size_t *taken);
/* Puts the end-of-stream alert into out. */
void tls_conn_shutdown(struct tls_conn *c, struct tls_io *io);
/* Why the last call failed, in the words of Go where there are some. Lives as long as c. */
const char *tls_conn_reason(const struct tls_conn *c);

static inline size_t tls_ciphertext_max(size_t plain_bytes)
{
    return plain_bytes + (plain_bytes / TLS_RECORD_BYTES_MAX + 1) * TLS_RECORD_OVERHEAD_MAX;
}

/* After the handshake, static texts: "1.3", "TLS_AES_128_GCM_SHA256". */
const char *tls_conn_version(const struct tls_conn *c);
const char *tls_conn_cipher_suite(const struct tls_conn *c);
bool tls_conn_is_resumed(const struct tls_conn *c);

/* --- who the client is --- */

struct tls_peer_cert {
    struct bytes subject; /* as Go prints pkix.Name */
    uint8_t spki_sha256[TLS_PIN_BYTES];
    uint8_t cert_sha256[TLS_PIN_BYTES];
};

struct tls_names {
    const struct bytes *items;
    uint32_t count;
};

/* What verify_and_map and connz need of the certificates of the client. The names are those of
 * the first certificate, to be tried in this order: emails, dns, uris, dn, rdn with domain
 * components, rdn. One block of memory. */
struct tls_peer {
    struct tls_peer_cert certs[TLS_PEER_CERTS_MAX];
    uint32_t cert_count;
    struct tls_names emails, dns, uris;
    struct bytes dn;  /* RFC 2253, last element first, all attributes; empty when one has no name */
    struct bytes dcs; /* "DC=a,DC=b" in the order of the certificate; may be empty */
    struct bytes rdn; /* Go's Subject.ToRDNSequence().String() */
};

/* NULL when the client showed no certificate or memory is short (then the caller that verifies
 * refuses the connection). To be freed by tls_peer_free, at any later time. */
struct tls_peer *tls_conn_peer(const struct tls_conn *c);
void tls_peer_free(struct tls_peer *p);

/* --- connection_rate_limit --- */

/* At most limit handshakes begin in each second. Pure; belongs to one thread. */
struct tls_rate {
    int64_t limit;   /* 0 or less: no limit */
    int64_t count;   /* in the window that ends at window_end_ns */
    uint64_t window_end_ns;
    uint64_t blocked; /* since the last tls_rate_blocked */
};

void tls_rate_init(struct tls_rate *r, int64_t limit);
bool tls_rate_allow(struct tls_rate *r, uint64_t now_ns);
/* How many were refused since the last call: nats-server logs that once a second. */
uint64_t tls_rate_blocked(struct tls_rate *r);

#endif
