/* What the server tells the system account: advisories on connections and accounts, statistics,
 * and the end of the server. Subjects and bodies; sending is the caller's, who skips an event that
 * nobody has interest in. All bodies are compact JSON.
 *
 *   client connect, disconnect   at each login and its end, except of the system account's own
 *   account connections          at each change of an account's count, and every 30 s while it
 *                                has connections; not for $G
 *   statsz                       250 ms after start, then doubling to 10 s; at once on request
 *   auth error                   at a failed login */
#ifndef CORE_MONITOR_SYSEVENTS_H
#define CORE_MONITOR_SYSEVENTS_H
#include "core/base/json_write.h"
#include "core/monitor/snapshot.h"

enum sysevents_kind {
    SYSEVENTS_CONNECT,              /* $SYS.ACCOUNT.<account>.CONNECT */
    SYSEVENTS_DISCONNECT,           /* $SYS.ACCOUNT.<account>.DISCONNECT */
    SYSEVENTS_ACCOUNT_CONNS,        /* $SYS.ACCOUNT.<account>.SERVER.CONNS */
    SYSEVENTS_ACCOUNT_CONNS_LEGACY, /* $SYS.SERVER.ACCOUNT.<account>.CONNS, the same body */
    SYSEVENTS_STATSZ,               /* $SYS.SERVER.<id>.STATSZ */
    SYSEVENTS_LAMEDUCK,             /* $SYS.SERVER.<id>.LAMEDUCK */
    SYSEVENTS_SHUTDOWN,             /* $SYS.SERVER.<id>.SHUTDOWN */
    SYSEVENTS_AUTH_ERROR,           /* $SYS.SERVER.<id>.CLIENT.AUTH.ERR */
    SYSEVENTS_ACCOUNT_AUTH_ERROR,   /* $SYS.ACCOUNT.CLIENT.AUTH.ERR, in the client's account */
};

#define SYSEVENTS_HEARTBEAT_NS INT64_C(30000000000)
#define SYSEVENTS_STATSZ_FIRST_NS INT64_C(250000000)
#define SYSEVENTS_STATSZ_NS INT64_C(10000000000)

/* name: the account's name or the server's id, by event. */
void sysevents_subject(struct text *out, enum sysevents_kind event, struct bytes name);

/* Each event's own name and time; id is unique, 22 characters of [0-9A-Za-z]. server->seq was
 * counted up for this message. */
struct sysevents_head {
    struct bytes id;
    int64_t time_ns;
};

void sysevents_write_connect(struct text *out, const struct server_snapshot *server,
                             const struct sysevents_head *head, const struct conn_snapshot *client);
/* client->stop_ns is set. reason: closed_reason_text of its end. Serves the auth errors too. */
void sysevents_write_disconnect(struct text *out, const struct server_snapshot *server,
                                const struct sysevents_head *head,
                                const struct conn_snapshot *client, struct bytes reason);
void sysevents_write_account(struct text *out, const struct server_snapshot *server,
                             const struct sysevents_head *head, const struct account *a,
                             const struct account_snapshot *sums);
/* in->query->collect had COLLECT_ACCOUNTS. ERR_MEMORY. */
NODISCARD enum err sysevents_write_statsz(const struct page_input *in, struct text *out);
/* Lame duck and shutdown: only who it is. */
void sysevents_write_farewell(struct text *out, const struct server_snapshot *server);

/* The ServerInfo object under key; NULL for the top level. */
void sysevents_write_server(struct json_write *w, const char *key,
                            const struct server_snapshot *server);

#endif
