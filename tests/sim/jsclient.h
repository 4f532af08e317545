/* A client of JetStream in the simulator: one connection, its inbox, and what it says. It checks
 * the protocol no further than it must to find messages (tests/sim/peer does). */
#ifndef TESTS_SIM_JSCLIENT_H
#define TESTS_SIM_JSCLIENT_H
#include "core/base/bytes.h"
#include "tests/sim/server.h"

enum { JSCLIENT_INBOX_SID = 1, JSCLIENT_PUSH_SID = 10, JSCLIENT_BYTES_MAX = 1 << 20 };

struct jsmessage { /* valid during the call */
    struct bytes subject, reply, headers, body;
    uint32_t sid;
    int status; /* 0: none */
};

struct jsclient {
    struct net_link *link;
    uint32_t index;
    uint64_t connection; /* counts over all of the world's */
    bool is_ready;       /* its subscriptions stand */
    bool is_over;
    char *rx, *tx;
    size_t rx_len, tx_len;
    void (*message)(void *context, struct jsclient *c, const struct jsmessage *m);
    void *context;
};

void jsclient_init(struct jsclient *c, uint32_t index,
                   void (*message)(void *context, struct jsclient *c, const struct jsmessage *m),
                   void *context);
void jsclient_deinit(struct jsclient *c);
/* False: nobody listens. */
bool jsclient_connect(struct jsclient *c, struct server *s, uint64_t connection);
/* The other end is gone. */
void jsclient_forget(struct jsclient *c);
void jsclient_subscribe(struct jsclient *c, const char *subject, uint32_t sid);
/* headers: lines with their ends, or empty. inbox: number for the answer; UINT32_MAX none. */
void jsclient_publish(struct jsclient *c, const char *subject, uint32_t inbox, const char *headers,
                      const char *body, size_t bytes);
void jsclient_flush(struct jsclient *c);
/* Takes what came. */
void jsclient_read(struct jsclient *c);
/* Behind `name` in text; UINT64_MAX: it is not there. */
uint64_t jsclient_number(struct bytes text, const char *name);
bool jsclient_has(struct bytes text, const char *part);

#endif
