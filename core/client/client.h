/* One connection as its shard knows it: a record with its input carry, output queue, sid table,
 * rights and counts. The protocol itself is core/shard/verbs; this file only keeps the record.
 *
 * States and who moves them (core/shard):
 *
 *   HANDSHAKE --EVENT_TLS--> GREETED --login ok--> OPEN
 *       |  (no TLS first: starts as GREETED)  |        ^
 *       |                                     v        |
 *       |                                 CHECKING ----+   (bcrypt, Ed25519, a permit of shard 0)
 *       +---------------+---------------------+--------+--> CLOSING --EVENT_GONE--> released
 *
 * Without authentication a connection is OPEN at once. CLOSING: nothing is parsed and nothing is
 * delivered; subscriptions leave the index in slices, and the record goes when both io and the
 * index have let go. */
#ifndef CORE_CLIENT_CLIENT_H
#define CORE_CLIENT_CLIENT_H
#include "core/auth/login.h"
#include "core/auth/perms.h"
#include "core/base/effect.h"
#include "core/base/list.h"
#include "core/base/wheel.h"
#include "core/client/output.h"
#include "core/monitor/snapshot.h"
#include "core/proto/nats_parse.h"
#include "core/route/interest.h"

enum client_state {
    CLIENT_HANDSHAKE,
    CLIENT_GREETED,
    CLIENT_CHECKING,
    CLIENT_OPEN,
    CLIENT_CLOSING,
};

enum client_flag {
    CLIENT_VERBOSE = 1 << 0,
    CLIENT_PEDANTIC = 1 << 1,
    CLIENT_ECHO = 1 << 2,
    CLIENT_HEADERS = 1 << 3, /* both sides speak headers */
    CLIENT_NO_RESPONDERS = 1 << 4,
    CLIENT_CONNECTED = 1 << 5, /* CONNECT was received */
    CLIENT_PONGED = 1 << 6,    /* its first PING was answered */
    CLIENT_SENDING = 1 << 7,   /* io has a send in flight */
    CLIENT_IS_TLS = 1 << 8,
    CLIENT_TLS_FIRST = 1 << 9,
    CLIENT_IS_UNIX = 1 << 10,
    CLIENT_IO_GONE = 1 << 11,       /* EVENT_GONE came */
    CLIENT_PUB_CHECKED = 1 << 12,   /* publish rights apply */
    CLIENT_SUB_FILTERED = 1 << 13,  /* a delivery must be checked against subscribe denials */
    CLIENT_COUNTED = 1 << 14,       /* in the connection counts of its account */
    CLIENT_TLS_PENDING = 1 << 16,   /* INFO asked for TLS; the handshake has not ended */
    CLIENT_CLOSE_OWED = 1 << 17,    /* closed, but io has not been told: the outbox was full */
    CLIENT_CLOSE_FLUSHES = 1 << 18, /* with CLOSE_OWED: what is queued is sent first */
    CLIENT_SAID_ALL = 1 << 19, /* its stream has ended; it is closed when its PONGs have left */
    CLIENT_LOGIN_OWED = 1 << 20, /* its login begins again with a reload's users: no room so far */
};

enum {
    /* Nothing is delivered; leaves the index when the writer's lock is free. */
    CLIENT_SUB_FLAG_DEAD = 1,
    CLIENT_SUB_FLAG_FILTERED = 2, /* overlaps a denial: each delivery is checked */
    CLIENT_SUB_FLAG_INTERNAL = 4, /* of the server itself (core/shard/jet), of no connection */
};

/* Why a publisher waits after a message (R5b), the least urgent first. */
enum client_stall {
    CLIENT_STALL_NONE,
    CLIENT_STALL_RECEIVER,      /* it is above 75 % of max_pending */
    CLIENT_STALL_RECEIVER_FULL, /* above all of it */
    /* The log of a stream is: 2 ms, and four times as long with each step. */
    CLIENT_STALL_LOG,
    CLIENT_STALL_LOG_STAGED = CLIENT_STALL_LOG + 1, /* at most, for what is written soon */
    CLIENT_STALL_LOG_BEHIND = CLIENT_STALL_LOG + 4, /* at most, for a disk that is slower */
    CLIENT_STALL_COUNT
};

struct shard_account;
struct held_reply; /* core/shard/fence: replies behind a PONG that waits for mail */

struct client {
    struct conn_id id;
    uint32_t flags;
    uint8_t state;
    uint8_t park; /* enum park_reason + 1; 0 not parked */
    uint8_t pings_out;
    uint8_t reason; /* enum closed_reason once CLOSING */
    struct nats_limits limits;
    struct shard_account *account;
    const struct perms *perms;     /* NULL: everything is allowed; of the current options */
    struct perms_replies *replies; /* allow_responses; NULL none */

    struct output output;
    struct list dirty;   /* in the shard's list of outputs to flush */
    struct list sending; /* in the order in which sends began */
    uint64_t send_began_ns;
    uint64_t waits_ns; /* output waits since then for the send in flight; 0: none does */

    struct block *carry; /* first bytes of an incomplete operation; len of them */
    size_t carry_need;   /* bytes that the operation will take; 0 not known yet */
    uint8_t carry_skip;  /* only these first bytes matter (PING without its line end) */
    bool carry_is_whole; /* complete, but parked: to be run again before anything else */
    bool is_retrying;    /* the publish at hand was parked: its rights are checked, its +OK sent */
    bool has_pinged;     /* the server has sent a PING */

    uint32_t *sids; /* heads of chains, sid_mask + 1 of them; NULL: no subscription yet */
    uint32_t sid_mask;
    uint32_t subs_in_step; /* SUBs and UNSUBs in step number subs_step */
    uint64_t subs_step;
    uint32_t sid_chains; /* of them in use: the table grows by one chain at a time */
    uint64_t sid_seed;
    uint32_t sub_count;

    struct traffic in, out;
    uint64_t stalls;
    struct wheel_timer timer; /* login deadline, then pings */
    struct list parked;       /* in a list of the shard, by reason */
    uint64_t park_began_ns;
    uint64_t resume_ns;     /* PARK_CONGESTED: go on at this time */
    uint32_t stall_pass_ns; /* spent parked in this read pass */
    uint8_t stall_asked;    /* enum client_stall, by mail: who takes its messages is congested */
    struct list all;        /* every connection of the shard; or the reaping list */

    uint64_t *mail_until; /* [shards] lane position after our last mail; NULL: never mailed */
    struct held_reply *held_first, *held_last;
    uint32_t held_count;

    uint64_t cid;
    uint64_t opened_ns, active_ns, ping_sent_ns, rtt_ns; /* monotonic */
    int64_t opened_wall_ns;
    uint64_t login_deadline_ns;
    bool is_connect;              /* the login under way came with a CONNECT */
    bool is_pre_login;            /* counted among those that have not logged in */
    int64_t subs_max;             /* of this connection; -1: no limit */
    struct list fenced;           /* in the shard's list of held replies */
    uint64_t ticket;              /* of the crypto job or the permit in flight */
    struct login *login;          /* while CHECKING */
    struct login_options connect; /* of the last CONNECT; names for pages and logs */
    const struct user *user;      /* NULL: none; of the current options */
    uint16_t port;
    uint8_t ip_len;
    char ip[46];
    struct conn_peer peer;  /* CLIENT_IS_UNIX */
    char nonce[16];         /* 15 characters; empty when not needed */
    struct bytes user_name; /* owned copy for pages: survives a reload */
    struct conn_tls tls;    /* after the handshake; io's until EVENT_GONE */
};

static inline bool client_has(const struct client *c, uint32_t flag)
{
    return (c->flags & flag) != 0;
}

/* Index of the live sub with this sid, or 0. */
uint32_t client_find_sid(const struct client *c, const struct sub_pool *subs, struct bytes sid);
/* Adds a sub whose sid is not in the table. ERR_MEMORY: nothing changed. */
NODISCARD enum err client_add_sid(struct client *c, struct mem *mem, const struct sub_pool *subs,
                                  uint32_t index);
void client_remove_sid(struct client *c, const struct sub_pool *subs, uint32_t index);
/* Some sub of the table, or 0: for emptying it. *bucket starts at 0 and keeps the place. */
uint32_t client_any_sid(const struct client *c, uint32_t *bucket);
void client_free_sids(struct client *c, struct mem *mem);

/* Owned texts: a copy in MEM_CONNECTION, the old one freed. ERR_MEMORY: it becomes empty. */
NODISCARD enum err client_set_text(struct mem *mem, struct bytes *text, struct bytes value);

#endif
