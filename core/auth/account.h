/* Accounts, users, and the immutable whole that the options hold: struct account_set.
 *
 * Building (core/config): open, add accounts and users in any order, set what the authorization
 * block says, then seal once. Nothing changes after account_set_seal. All texts are copied into
 * the set, each followed by a zero byte. Every refusal carries the text that nats-server prints
 * after file:line:column.
 *
 * Numbers: account 0 is $G, account 1 is $SYS; others get the next number at their first use and
 * keep it over reloads (struct account_numbers, which outlives every set). */
#ifndef CORE_AUTH_ACCOUNT_H
#define CORE_AUTH_ACCOUNT_H
#include <stdbool.h>
#include "core/auth/nkey.h"
#include "core/auth/perms.h"
#include "core/base/bytes.h"
#include "core/base/mem.h"
#include "core/base/table.h"

struct mapping_set; /* core/route/transform */

enum {
    ACCOUNT_GLOBAL = 0, /* $G */
    ACCOUNT_SYSTEM = 1, /* $SYS by name; the system account may be another, see system */
    ACCOUNT_FAULT_BYTES = 512,
};
#define ACCOUNT_GLOBAL_NAME "$G"
#define ACCOUNT_SYSTEM_NAME "$SYS"

/* How a client came; bits, since a user may be bound to some. */
enum account_connection {
    ACCOUNT_STANDARD = 1 << 0,
    ACCOUNT_WEBSOCKET = 1 << 1,
    ACCOUNT_LEAFNODE = 1 << 2,
    ACCOUNT_LEAFNODE_WS = 1 << 3,
    ACCOUNT_MQTT = 1 << 4,
    ACCOUNT_MQTT_WS = 1 << 5,
    ACCOUNT_IN_PROCESS = 1 << 6,
};
/* The name of the configuration, in any case. ERR_UNKNOWN. */
NODISCARD enum err account_connection_parse(struct bytes name, uint32_t *bit);

/* -1: no limit. 0 lets nothing through. As in the limits block of an account. */
struct account_limits {
    int64_t max_connections, max_subscriptions, max_payload, max_leafnodes;
};

/* Streams and consumers of an account; -1: no limit of its own. */
struct account_jetstream {
    bool is_on;
    int64_t max_memory, max_storage; /* bytes */
    int64_t max_streams, max_consumers, max_ack_pending;
    int64_t memory_max_stream_bytes, storage_max_stream_bytes;
    bool max_bytes_required; /* a stream must have max_bytes */
};
/* No limits. */
struct account_jetstream account_jetstream_open(bool is_on);

struct account {
    struct bytes name;
    struct bytes nkey;    /* public key A..., or empty */
    uint32_t number;
    uint32_t user_count;
    bool is_system;
    bool is_configured;   /* named in the configuration, not just there by default */
    struct account_limits limits;
    struct account_jetstream jetstream; /* is_on is what the server asks, see account_set_seal */
    const struct perms *default_permissions; /* of account_set_compile; NULL: none */
    struct mapping_set *mappings;      /* NULL: none; owned by who set it, see mappings_free */
};

struct user {
    struct bytes name;     /* empty for an nkey user */
    struct bytes password; /* plain or a bcrypt hash; never shown */
    struct bytes nkey;     /* U..., empty for others */
    uint8_t nkey_raw[NKEY_RAW_BYTES];
    uint32_t account;      /* number */
    uint32_t allowed_connections; /* bits; 0: every kind */
    bool is_bcrypt;
    bool is_internal;      /* made up for clients of $G beside a lone system account */
    bool is_proxy_required;
    const struct perms *permissions; /* NULL: no restrictions */
};

enum account_mode {
    ACCOUNT_MODE_NONE,   /* no credentials asked for: everybody is in $G */
    ACCOUNT_MODE_SINGLE, /* one user and password for all */
    ACCOUNT_MODE_TOKEN,
    ACCOUNT_MODE_USERS,  /* users or nkeys, in the authorization block or in accounts */
};

struct account_set {
    struct mem *mem;
    struct account **accounts; /* [account_count], those of this configuration; $G first */
    uint32_t account_count;
    struct user **users;       /* [user_count], in the order of the configuration */
    uint32_t user_count;
    uint32_t name_user_count;  /* of them have a name, the others an nkey */
    enum account_mode mode;
    struct user single;        /* mode SINGLE; account 0, no restrictions */
    struct bytes token;        /* mode TOKEN; plain or bcrypt; never shown */
    bool is_token_bcrypt;
    bool auth_required;        /* a login needs credentials or no_auth_user */
    bool info_auth_required;   /* what INFO says: false where no_auth_user helps */
    bool nonce_required;       /* INFO carries a nonce */
    bool has_plain_passwords;  /* worth a warning at start */
    bool is_authorization_defined; /* the file has an authorization block; set before seal */
    bool no_system_account;        /* set before seal */
    struct bytes no_auth_user; /* empty: none; then no_auth names the user */
    const struct user *no_auth;
    struct bytes decoy_bcrypt; /* a hash to compare with when the user is unknown; or empty */
    uint32_t system;           /* number of the system account; UINT32_MAX without one */
    const struct perms *default_permissions; /* of the authorization block; NULL none */
    bool is_sealed;
    struct account_private *private; /* memory, look-up tables */
};

/* Text of a refusal; ends with a zero. */
struct account_fault {
    char text[ACCOUNT_FAULT_BYTES];
};

/* --- numbers: one for the process, kept over reloads; not for several threads at once --- */
struct account_numbers;
NODISCARD enum err account_numbers_open(struct mem *mem, struct account_numbers **out);
void account_numbers_close(struct account_numbers *n);
/* The number of name, given now if it is new. ERR_MEMORY. */
NODISCARD enum err account_numbers_of(struct account_numbers *n, struct bytes name,
                                      uint32_t *number);
/* number was given by account_numbers_of. */
struct bytes account_numbers_name(const struct account_numbers *n, uint32_t number);

/* --- building --- */
/* Holds $G and $SYS from the start. ERR_MEMORY. */
NODISCARD enum err account_set_open(struct mem *mem, struct account_numbers *numbers,
                                    struct account_set **out);
/* Frees users, accounts, permissions. set may be NULL. */
void account_set_close(struct account_set *set);

/* ERR_EXISTS, ERR_DENIED (a reserved name), ERR_MEMORY, each with its text. The caller fills in
 * nkey, limits, mappings and default_permissions through the setters below or the pointer. */
NODISCARD enum err account_add(struct account_set *set, struct bytes name, struct account **out,
                               struct account_fault *fault);
NODISCARD enum err account_set_nkey(struct account_set *set, struct account *a, struct bytes nkey,
                                    struct account_fault *fault);
/* Compiles, keeps and frees with the set; for users' own permissions and for defaults. */
NODISCARD enum err account_set_compile(struct account_set *set, const struct perms_spec *spec,
                                       const struct perms **out, struct account_fault *fault);
/* The set takes over the mappings of its accounts: calls release on each at close. */
void account_set_own_mappings(struct account_set *set,
                              void (*release)(struct mem *mem, struct mapping_set *m));

struct account_user_spec {
    struct bytes name, password, nkey;
    struct account *account; /* NULL: a user of the authorization block, in $G */
    const struct perms *permissions; /* of account_set_compile; NULL: the defaults apply at seal */
    uint32_t allowed_connections;
    bool is_proxy_required;
};
/* ERR_INVALID: no name, a bad nkey, an nkey with a password. ERR_EXISTS: a duplicate. */
NODISCARD enum err account_set_add_user(struct account_set *set,
                                        const struct account_user_spec *spec,
                                        struct account_fault *fault);
/* What the authorization block (or the flags) says; empty slices where nothing was said. */
struct account_authorization {
    struct bytes user, password, token;
    bool has_users; /* it has a users array, be it empty */
    const struct perms *default_permissions;
};
NODISCARD enum err account_set_authorize(struct account_set *set,
                                         const struct account_authorization *a,
                                         struct account_fault *fault);
/* Names an account that must exist at seal. Empty: $SYS. */
NODISCARD enum err account_set_system(struct account_set *set, struct bytes name);
NODISCARD enum err account_set_no_auth_user(struct account_set *set, struct bytes name);
/* All checks across blocks; works out the modes. seed makes the internal user's name, if one is
 * needed: give the same over reloads, or clients of $G are cut off by one.
 * ERR_INVALID, ERR_UNKNOWN with their text: the set is useless then. */
NODISCARD enum err account_set_seal(struct account_set *set, uint64_t seed,
                                    struct account_fault *fault);

/* --- looking up, on a sealed set --- */
const struct user *account_set_user(const struct account_set *set, struct bytes name);
const struct user *account_set_user_by_nkey(const struct account_set *set, struct bytes nkey);
/* NULL: this configuration does not know it. */
const struct account *account_set_find(const struct account_set *set, struct bytes name);
const struct account *account_set_by_number(const struct account_set *set, uint32_t number);
/* $2a$, $2b$, $2x$, $2y$ and a two-digit cost: what nats-server takes for a bcrypt hash. */
bool account_is_bcrypt(struct bytes password);

#endif
