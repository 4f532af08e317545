/* One turn of a shard: completions and mail to events, the step, effects to ports, outputs to
 * sends. It uses ports only (driver.h, mailbox.h, and the hooks below), so the server's loop and
 * the simulator link the same files. One thread: the shard's. The connections are io/turn_conn.
 *
 * Connections here are what the driver knows (slot, generation) plus received bytes that the
 * shard has not taken yet. States of a connection:
 *
 *   FREE -> PEEK (TLS may come first) -> OPEN -> FLUSHING -> CLOSING -> FREE
 *
 * PEEK: the shard has not heard of it. FLUSHING: the shard closed it, its last bytes leave, at
 * most TURN_FLUSH_NS. CLOSING: the driver joins what is in flight. */
#ifndef IO_TURN_H
#define IO_TURN_H
#include "core/shard/shard.h"
#include "io/driver.h"
#include "io/mailbox.h"
#include "persist/slog.h"

enum {
    TURN_DONE_MAX = 256,
    TURN_EVENTS_PER_DONE = 3,
    TURN_OFFERS_MAX =
        8, /* stretches of received bytes of one connection in a turn: 256 KiB, so that
              many receivers get one larger send each and others still get their turn */
    TURN_HELD_MAX =
        2 * TURN_OFFERS_MAX, /* receive buffers that one connection keeps from others; what comes
                                beyond is copied, and its receiving is suspended */
    TURN_EVENTS_MAX = 2048,    /* completions, then room for deadlines, offers, orders and mail */
    TURN_ORDERS_MAX = 64,      /* run in one turn; the others wait for the next */
    TURN_FLUSH_NS = 100000000, /* last words of a connection: as nats-server, 100 ms at most */
    TURN_SEND_BYTES_MAX = 1 << 20, /* in one send */
};

/* Kinds of mail that are io's own; core passes them through (EFFECT_IO_MAIL). */
enum turn_mail {
    TURN_MAIL_SOCKET = LANE_IO_KINDS, /* struct turn_socket: a connection for this shard */
    TURN_MAIL_ORDER,                  /* struct order * */
    TURN_MAIL_CRYPTO,                 /* struct turn_crypto */
    TURN_MAIL_CALL,                   /* struct turn_call: run by the shard's thread */
};

struct turn_socket {
    int fd;
    uint16_t port;
    uint8_t ip_len;
    uint8_t is_unix;
    uint8_t refusal; /* enum closed_reason: greet it, then close it for this; 0 serve it */
    char ip[46];
    uint8_t nonce[CONN_NONCE_BYTES]; /* from the kernel (struct conn_opened) */
    uint64_t cid;
    struct conn_peer peer; /* of a Unix socket */
};

struct turn_crypto {
    uint64_t conn, ticket;
    bool is_valid;
};

struct turn;
struct turn_call {
    void (*run)(void *context, struct turn *t);
    void *context;
};

/* A stretch of received bytes that waits. */
struct turn_held {
    struct turn_held *next;
    const char *data;
    size_t len;
    uint32_t buffer;
    char *copy; /* owned; NULL: the bytes lie in the driver's buffer */
    size_t copy_bytes;
};

enum turn_conn_state { TURN_FREE, TURN_PEEK, TURN_OPEN, TURN_FLUSHING, TURN_CLOSING };

struct turn_tls; /* io/conn_tls: ciphertext of one connection */

struct turn_conn {
    uint32_t generation;
    uint32_t sent_round; /* turn.round of its last send */
    uint8_t state;
    bool is_suspended; /* its receiving */
    bool is_resuming;  /* in the resume list */
    bool is_ended;     /* the peer ended; the shard hears of it once it took all bytes */
    bool is_error;     /* it ended by an error */
    uint8_t offered;   /* EVENT_BYTES of this turn that carry its bytes */
    uint16_t held_count;
    bool is_told;    /* the shard was told that it ended */
    bool awaits_tls; /* INFO is out, the handshake is next */
    bool in_handshake;
    bool is_sending; /* a send is in flight */
    bool is_handshake_send;
    bool wants_flush; /* output waits for a handshake's send */
    bool was_opened;  /* the shard knows it */
    bool is_unix;
    struct turn_held *held_first, *held_last;
    struct turn_tls *tls;
    struct wheel_timer timer;   /* PEEK, handshake, FLUSHING */
    uint64_t send_bytes;        /* plaintext bytes of the send in flight */
    struct list flushed;        /* FLUSHING: its last words may have left */
    struct turn_socket *socket; /* as it came; owned, until the socket is closed */
    bool is_logged_in;
    bool peeks; /* waits for TLS first */
};

struct turn_hooks {
    struct shard_time (*now)(void *context);
    void (*log)(void *context, enum log_level level, struct bytes text);
    void (*crypto)(void *context, uint32_t shard, struct conn_id conn, void *job, uint64_t ticket);
    void (*order_done)(void *context, struct order *o, uint32_t shard);
    void (*gone)(void *context, uint32_t shard, struct turn_conn *c); /* its socket is closed */
    /* A request to the server itself; copied by the hook before it returns. */
    void (*system)(void *context, uint32_t shard, const struct system_request *r);
    /* No slot or no memory for a socket that came by mail: the hook closes it. */
    void (*refused)(void *context, uint32_t shard, const struct turn_socket *s);
    void (*logged_in)(void *context, struct turn_conn *c);
    /* TLS, all NULL without: see io/conn_tls. */
    const struct turn_tls_ops *tls;
    void *context;
};

/* How turn drives TLS of a connection without knowing how. */
struct turn_tls_ops {
    /* A connection begins: PEEK when bytes of the client decide first; *deadline_ns set. */
    bool (*wants_peek)(void *context, uint64_t *wait_ns);
    bool (*is_first_only)(void *context); /* without TLS in that time it is closed */
    struct turn_tls *(*open)(void *context, struct turn *t, struct conn_id conn, bool is_first);
    /* Takes all of cipher, or nothing (false) while a helper has the handshake or plain bytes wait.
     */
    bool (*feed)(struct turn_tls *x, struct bytes cipher);
    /* Decrypted bytes not yet taken by the shard; len 0: none. used says how many it took. */
    struct bytes (*plain)(struct turn_tls *x);
    void (*plain_used)(struct turn_tls *x, size_t used);
    /* Encrypts runs into memory of x until sent; returns plaintext bytes taken. */
    uint64_t (*seal)(struct turn_tls *x, const struct bytes *runs, uint32_t count,
                     struct bytes *cipher);
    bool (*is_busy)(const struct turn_tls *x); /* a helper has what was fed */
    /* Bytes of the handshake to send, or an alert; len 0: none. */
    struct bytes (*handshake_out)(struct turn_tls *x);
    void (*handshake_sent)(struct turn_tls *x);
    const struct conn_tls *(*facts)(struct turn_tls *x); /* NULL until the handshake is done */
    bool (*failed)(const struct turn_tls *x);            /* no more can be read */
    bool (*has_ended)(const struct turn_tls *x); /* because the peer said that it has no more */
    void (*close)(struct turn_tls *x);           /* frees it, now or when its helper returns it */
    bool (*allows_plaintext)(void *context);     /* allow_non_tls */
    uint64_t (*handshake_ns)(void *context);
    bool (*may_begin)(void *context); /* connection_rate_limit */
};

struct turn {
    struct shard *shard;
    struct driver *driver;
    struct mailbox_net *mail;
    struct turn_hooks hooks;
    uint32_t index, shard_count;
    struct mem *mem;
    struct turn_conn *conns; /* [slots_max] */
    uint32_t *free_slots;    /* stack of those below slots_used */
    uint32_t free_count, slots_max;
    uint32_t slots_used;           /* from here on never used: memory that nobody touched */
    uint32_t freed[TURN_DONE_MAX]; /* closed in this turn; the shard hears of it in its step */
    uint32_t freed_count;
    struct outbox outbox;
    struct turn_held *held_free;
    uint32_t *resumes; /* slots to offer again, [slots_max] */
    uint32_t resume_count;
    struct wheel wheel;
    struct list flushed; /* to be looked at when the turn has sent */
    struct order *orders_first, *orders_last; /* came by mail, run in the next steps; linked
                                                 through order.behind, so there is room for all */
    struct turn_crypto *cryptos;              /* answers of helpers, [crypto_capacity] */
    uint32_t crypto_count, crypto_capacity;
    struct done done[TURN_DONE_MAX];
    /* Completions that are not of connections: accepts, watches, wakes, files. */
    void (*on_done)(void *context, struct turn *t, const struct done *d);
    void *on_done_context;
    struct slog *logs[PLACE_LOGS_MAX]; /* [log_count]: none, or not yet, or not any more */
    uint32_t log_count;
    uint32_t file_count; /* file operations that ended in this turn */
    struct shard_time now;
    uint32_t event_slots[TURN_EVENTS_MAX];
    struct event events[TURN_EVENTS_MAX];
    struct mailbox_batch batches[INTEREST_SHARDS_MAX + 32];
    bool has_more;       /* something was left for the next turn: do not sleep */
    bool is_busy;        /* the last turn had work, and its end was not counted yet */
    uint32_t done_count; /* completions of this turn */
    bool has_news;       /* it had more than the ends of its own sends */
    bool is_answered;    /* who was sent something last said something, or another shard did */
    uint32_t round;      /* turns that sent something, from 1 */
    uint64_t slept_ns;   /* waited in this turn; 0: it did not sleep */
};

enum { TURN_SLOTS_EXTRA = 16 }; /* driver slots above slots_max: listeners, watches */

struct turn_config {
    struct shard *shard;
    struct driver *driver;
    struct mailbox_net *mail;
    struct mem *mem;
    struct turn_hooks hooks;
    uint32_t slots_max;
    void (*on_done)(void *context, struct turn *t, const struct done *d);
    void *on_done_context;
};

NODISCARD enum err turn_open(const struct turn_config *config, struct turn **out);
/* All connections are gone. */
void turn_close(struct turn *t);

/* One turn. Waits at most until wait_until_ns (monotonic; 0 not at all) for something to do.
 * Returns whether it found anything to do. */
bool turn_run(struct turn *t, uint64_t wait_until_ns);
/* Takes a connected socket. ERR_FULL: no slot; or what the driver says. The caller closes it. */
NODISCARD enum err turn_take(struct turn *t, const struct turn_socket *s);
/* Something about this connection's TLS changed (its helper returned it). */
void turn_tls_ready(struct turn *t, struct conn_id conn);
uint32_t turn_conn_count(const struct turn *t);
/* Closes the connections that the shard has not heard of: nobody else would end them before their
 * time when the server stops. */
void turn_drop_strangers(struct turn *t);

#endif
