/* CONNECT: from its JSON to a verdict. Never runs bcrypt or Ed25519 itself: it names the work
 * (struct login_job), the caller has a helper thread do it and comes back with the answer.
 *
 *   login_options_read -> login_begin --> LOGIN_ACCEPTED
 *                                    \--> LOGIN_REFUSED
 *                                     \-> LOGIN_CRYPTO: run job, then login_finish -> one of these
 *
 * A struct login between begin and finish points into the account_set: the caller keeps that set
 * alive. Secrets (pass, auth_token, sig) live in the options only until login_options_forget. */
#ifndef CORE_AUTH_LOGIN_H
#define CORE_AUTH_LOGIN_H
#include "core/auth/account.h"

enum {
    LOGIN_NONCE_BYTES_MAX = 64,
    LOGIN_HASH_BYTES_MAX = 128,   /* a longer bcrypt text is no hash and matches nothing */
    LOGIN_PASSWORD_BYTES_MAX = 72, /* bcrypt looks at no more */
    LOGIN_SIGNATURE_BYTES = 64,
};

/* The fields of CONNECT. Texts are owned (one block each for those kept and the secrets). */
struct login_options {
    bool verbose, pedantic, echo, tls_required, headers, no_responders;
    bool new_account;
    bool has_credentials; /* the last CONNECT named user, pass, auth_token, nkey or sig */
    bool has_token;       /* auth_token was given, also after it was forgotten */
    int64_t protocol;
    /* For pages and logs. */
    struct bytes name, lang, version, user, nkey;
    struct bytes account; /* any use is refused */
    /* Secrets. */
    struct bytes pass, auth_token, sig;
    void *kept, *secret;  /* of login_options_* */
    size_t kept_bytes, secret_bytes;
};

/* verbose, pedantic and echo on, everything else off or empty: what holds before any CONNECT. */
void login_options_init(struct login_options *o);
/* Reads a CONNECT over what o holds: fields that are absent keep their value (a second CONNECT
 * too), except secrets that were forgotten. jwt and unknown fields are dropped unread.
 * ERR_SYNTAX, ERR_INVALID, ERR_RANGE, ERR_TOO_LONG: protocol violation, closed without -ERR;
 * ERR_MEMORY. After an error o is unchanged. fault may be NULL, and holds no value of a field. */
struct json_fault;
NODISCARD enum err login_options_read(struct mem *mem, struct bytes text, struct login_options *o,
                                      struct json_fault *fault);
/* Wipes and frees the secrets; after the verdict. */
void login_options_forget(struct mem *mem, struct login_options *o);
/* Frees everything; o is as after init. */
void login_options_free(struct mem *mem, struct login_options *o);
/* What a CONNECT asks for that cannot be, checked after the login. */
enum login_refusal { LOGIN_FINE, LOGIN_BAD_PROTOCOL, LOGIN_NO_RESPONDERS_NEEDS_HEADERS };
enum login_refusal login_options_refusal(const struct login_options *o, bool server_has_headers);

/* Who is logged in, as connz and logs name it: the nkey or name of user (may be NULL), else what
 * CONNECT said, "[REDACTED]" for a token, or empty. Borrowed from either. */
struct bytes login_options_label(const struct login_options *o, const struct user *user);
/* Whether the label stands for a token. */
bool login_options_is_token(const struct login_options *o, struct bytes label);

/* The names of a verified client certificate, as io/tls hands them out. Empty: none shown. */
struct login_tls {
    const struct bytes *emails, *dns, *uris;
    uint32_t email_count, dns_count, uri_count;
    struct bytes dn, dcs, rdn;
};

struct login_facts {
    enum account_connection connection; /* one bit */
    bool tls_map;                       /* the listener says verify_and_map */
    const struct login_tls *tls;        /* NULL: no TLS or no certificate */
    struct bytes nonce;                 /* what INFO carried */
    /* This connection is logged in already: a further CONNECT that brings no credentials keeps
     * the user of before (looked up anew by the caller; NULL if it had none). */
    bool is_again;
    const struct user *earlier;
};

enum login_verdict { LOGIN_ACCEPTED, LOGIN_REFUSED, LOGIN_CRYPTO };

/* Why, for who debugs and for tests. To the client it is always "Authorization Violation". */
enum login_reason {
    LOGIN_REASON_NONE,
    LOGIN_REASON_CREDENTIALS,     /* unknown user, wrong password or token, or none given */
    LOGIN_REASON_CONNECTION_TYPE,
    LOGIN_REASON_SIGNATURE,       /* missing, damaged or wrong */
    LOGIN_REASON_CERTIFICATE,     /* none, or no user of that name */
    LOGIN_REASON_ACCOUNT,         /* account or new_account in CONNECT */
    LOGIN_REASON_PROXY,           /* the user must come through a trusted proxy */
};

enum login_work { LOGIN_BCRYPT, LOGIN_ED25519 };

/* Work for a helper thread; copied whole, no pointers. Wipe it afterwards. */
struct login_job {
    enum login_work work;
    uint8_t hash_len, password_len, nonce_len;
    bool is_hopeless; /* of login: the answer is no, whatever the work says */
    char hash[LOGIN_HASH_BYTES_MAX];
    char password[LOGIN_PASSWORD_BYTES_MAX];
    uint8_t key[NKEY_RAW_BYTES];
    uint8_t signature[LOGIN_SIGNATURE_BYTES];
    char nonce[LOGIN_NONCE_BYTES_MAX];
};

struct login {
    enum login_verdict verdict;
    enum login_reason reason;   /* when refused */
    const struct user *user;    /* NULL: token, or no login asked for; then account 0 */
    uint32_t account;
    const struct perms *permissions;
    struct login_job job;       /* when verdict is LOGIN_CRYPTO */
};

/* A CONNECT came. */
void login_begin(const struct account_set *set, const struct login_options *o,
                 const struct login_facts *facts, struct login *l);
/* A first verb other than CONNECT came. Refused unless no login is asked for or no_auth_user
 * takes it in. */
void login_begin_without_connect(const struct account_set *set, const struct login_facts *facts,
                                 struct login *l);
/* The answer of the job of l. Wipes the job. */
void login_finish(struct login *l, bool is_match);

#endif
