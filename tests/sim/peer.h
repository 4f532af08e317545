/* A simulated client: writes verbs, validates every byte that the server says, and tells the
 * ledger. Replies (+OK, -ERR, PONG) are expected in the exact order of the verbs that ask for
 * them; messages may come between them. */
#ifndef TESTS_SIM_PEER_H
#define TESTS_SIM_PEER_H
#include "tests/sim/ledger.h"
#include "tests/sim/server.h"

enum { PEER_HOARD_SID = 1000000 };

enum peer_expected { EXPECT_OK, EXPECT_PONG, EXPECT_ERROR };
struct peer_expect {
    uint8_t kind;
    uint32_t acks; /* PONG: this many notes are done with */
    char text[40]; /* of the error, its beginning */
};

enum peer_note_kind { NOTE_PUB, NOTE_SUB, NOTE_UNSUB, NOTE_MAX };
struct peer_note {
    uint8_t kind;
    uint32_t index;
};

struct workload;
struct peer {
    struct workload *w;
    struct server *server;
    struct ledger *ledger;
    struct ledger_peer *record;
    struct net_link *link;
    uint32_t index;
    bool is_verbose, is_pedantic, is_headers, is_echo, is_no_responders, is_bad_login;
    bool is_ready; /* INFO came, CONNECT is out */
    bool is_over;
    bool is_leaving;   /* half-closed or reset by itself */
    bool is_condemned; /* the server will close it: bad login, reload, lame duck */
    bool answers;      /* is a responder */
    bool is_ldm_told;
    char error[80]; /* the last -ERR that comes before a close */

    struct peer_expect *expects; /* ring, grown */
    uint32_t expect_first, expect_end, expect_capacity;
    struct peer_note *notes;
    uint32_t note_first, note_end, note_capacity;
    uint32_t pings_out;

    char *rx;
    size_t rx_len, rx_at, rx_capacity;
    char *tx; /* gathers verbs of one write */
    size_t tx_len, tx_capacity;

    /* Reading: 0 read_bytes: everything at once. */
    uint32_t read_bytes;
    uint64_t read_every_ns, read_until_ns; /* slow until then */
    bool has_read_alarm;

    uint32_t next_sid, next_inbox;
    uint32_t *sub_of_sid; /* ledger index + 1; 0 none */
    uint32_t sid_capacity;
    uint32_t *request_of_inbox; /* by inbox number: publish id + 1 */
    uint32_t inbox_capacity;
    uint32_t inbox_sid;
    uint64_t tick_ns;
    uint32_t ops;
    uint32_t to_answer[16][2]; /* requests: asking peer and inbox number */
    uint32_t to_answer_count;
};

void peer_init(struct peer *p, struct server *s, struct ledger *l, uint32_t index, uint8_t user);
void peer_deinit(struct peer *p);
/* Connects; false: nobody listens. */
bool peer_start(struct peer *p, uint64_t latency_ns, size_t window_bytes);

/* Verbs; they gather until peer_flush. */
void peer_connect(struct peer *p);
void peer_ping(struct peer *p);
uint32_t peer_sub(struct peer *p, uint8_t filter, int8_t queue);
void peer_unsub(struct peer *p, uint32_t sub, uint32_t max);
struct peer_publish {
    uint8_t subject;
    uint32_t inbox_peer, inbox_number;
    bool wants_reply, has_headers;
    uint32_t bytes;
};
void peer_publish(struct peer *p, const struct peer_publish *what);
void peer_hoard(struct peer *p, uint32_t count); /* many subscriptions that nobody mails to */
void peer_raw(struct peer *p, const char *text, size_t bytes);
void peer_flush(struct peer *p);
void peer_leave(struct peer *p, bool by_reset);
void peer_read_slowly(struct peer *p, uint32_t bytes, uint64_t every_ns, uint64_t for_ns);

#endif
