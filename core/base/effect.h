/* Events and effects: how a shard's core and the world around it talk.
 *
 * io (or the simulator) turns completions into events and hands them to shard_step in batches; core
 * answers with effects in a bounded outbox and with a list of connections that have output. Core
 * calls nothing, waits for nothing, and reads no clock: `now` comes with each step. */
#ifndef CORE_BASE_EFFECT_H
#define CORE_BASE_EFFECT_H
#include "core/base/bytes.h"
#include "core/base/lane.h"

/* A connection of one shard: slot and generation. A slot is used again only after EVENT_GONE. */
struct conn_id {
    uint64_t bits; /* generation in the upper half, slot in the lower; 0 is none */
};

static inline struct conn_id conn_id_of(uint32_t slot, uint32_t generation)
{
    return (struct conn_id){(uint64_t)generation << 32 | slot};
}

static inline uint32_t conn_id_slot(struct conn_id id)
{
    return (uint32_t)id.bits;
}

static inline uint32_t conn_id_generation(struct conn_id id)
{
    return (uint32_t)(id.bits >> 32);
}

struct shard_time {
    uint64_t mono_ns; /* never goes back */
    int64_t wall_ns;  /* since 1970, UTC */
};

enum { CONN_NONCE_BYTES = 11 }; /* 15 characters of base64, as nats-server's */

/* The process at the other end of a Unix socket, as the kernel knew it when it connected; it may
 * have handed the socket on since. */
struct conn_peer {
    bool is_known;
    uint32_t uid, gid; /* of another user namespace: the kernel's overflow ids (65534) */
    int32_t pid;       /* 0: of a process that our pid namespace does not see */
};

/* What io knows of a new connection. */
struct conn_opened {
    struct bytes ip; /* text; empty for a Unix socket */
    uint16_t port;
    uint64_t cid; /* unique in the server */
    bool is_unix;
    struct conn_peer peer; /* not known unless is_unix */
    uint8_t refusal;       /* enum closed_reason: greet it, then close it for this; 0: serve it */
    bool is_tls_first;     /* io waits for a TLS handshake before anything; INFO comes after it */
    /* What the client signs to log in by nkey. From the kernel, never from core/base/rng: who could
     * tell the next one could have it signed beforehand. */
    uint8_t nonce[CONN_NONCE_BYTES];
};

struct login_tls; /* core/auth/login */

/* Facts of a finished TLS handshake. Everything it points to stays until EVENT_GONE. */
struct conn_tls {
    struct bytes version, cipher;  /* Go spelling: "1.3", "TLS_AES_128_GCM_SHA256" */
    const struct login_tls *names; /* of the client certificate; NULL: it showed none */
    struct bytes subject, spki_sha256, cert_sha256; /* hex digests; empty without a certificate */
    bool is_first;                                  /* the handshake came before INFO */
};

enum event_kind {
    EVENT_OPENED, /* a socket was given to this shard */
    EVENT_TLS,    /* its handshake is done */
    EVENT_BYTES,  /* received; the step sets used, the rest is offered again after EFFECT_RESUME */
    EVENT_SENT,   /* sent.bytes of the output left; another send may follow */
    EVENT_ENDED,  /* the peer is gone (ended.reason) */
    EVENT_GONE,   /* the slot is free after this step */
    EVENT_MAIL,   /* unread mail of one sender; the step moves at, and what it leaves comes again */
    EVENT_CRYPTO, /* a check asked for by EFFECT_CRYPTO is done */
    EVENT_ORDER,  /* an order of the operator: struct order of the shard */
};

enum ended_reason {
    ENDED_EOF,
    ENDED_READ_ERROR,
    ENDED_WRITE_ERROR,
    ENDED_TLS_FAILED,
    ENDED_TLS_TIMEOUT,
    ENDED_TLS_THROTTLED
};

struct event {
    enum event_kind kind;
    struct conn_id conn;
    union {
        struct conn_opened opened;
        struct conn_tls tls;
        struct {
            const char *data;
            size_t len;
            size_t used;
        } bytes;
        struct {
            uint64_t bytes;
        } sent;
        struct {
            enum ended_reason reason;
        } ended;
        struct {
            uint32_t sender;
            const uint8_t *ring;
            uint32_t ring_bytes;
            uint64_t at, end;
        } mail;
        struct {
            uint64_t ticket; /* of the job */
            bool is_valid;
        } crypto;
        void *order;
    };
};

enum effect_kind {
    EFFECT_CLOSE,  /* no more output is made; send what is queued (close.flush) or drop it, then
                      close */
    EFFECT_RESUME, /* offer the rest of the received bytes again, even if there is none; receive on
                    */
    EFFECT_LOGGED_IN,  /* the connection is no longer one of those before login */
    EFFECT_TLS,        /* after the queued output is sent, start the handshake as server */
    EFFECT_CRYPTO,     /* run the job on a helper thread, then EVENT_CRYPTO with its ticket */
    EFFECT_LOG,        /* a line for the log; text is valid until the next step */
    EFFECT_ORDER_DONE, /* this shard is done with the order */
    EFFECT_SYSTEM,     /* a request to the server itself (struct system_request of the shard) */
    EFFECT_IO_MAIL, /* mail of a kind that is io's own (LANE_IO_KINDS and up); body valid until the
                       next step */
};

enum log_level {
    LOG_LEVEL_INF,
    LOG_LEVEL_DBG,
    LOG_LEVEL_WRN,
    LOG_LEVEL_ERR,
    LOG_LEVEL_FTL,
    LOG_LEVEL_TRC
};

struct effect {
    enum effect_kind kind;
    struct conn_id conn;
    union {
        struct {
            bool flush;
        } close;
        struct {
            void *job; /* struct login_job of core/auth/login: copied while effects are carried
                          out, and only if shard_wants_crypto */
            uint64_t ticket;
        } crypto;
        struct {
            enum log_level level;
            struct bytes text;
        } log;
        struct {
            void *request;
        } system;
        struct {
            uint16_t kind;
            uint32_t sender;
            const void *body;
        } io_mail;
        void *order;
    };
};

enum {
    OUTBOX_EFFECTS_MAX = 4096,
    OUTBOX_RESERVE = 256, /* effects that one event may need beside those that can wait */
    OUTBOX_TEXT_BYTES = 256 * 1024,
};

/* Filled by a step, carried out and emptied by io before the next one. */
struct outbox {
    struct effect *effects; /* [OUTBOX_EFFECTS_MAX] */
    uint32_t count;
    uint32_t withheld;   /* places that are not to be used: in the simulator, which so fills it */
    struct writer text;  /* memory of log lines */
    struct lane **lanes; /* [shards]: towards each other shard; own entry NULL */
    uint32_t lane_count;
    uint64_t lost_lines; /* log lines that found no room */
};

#endif
