/* Requests to the server by message, on $SYS.REQ.>: what a subject and body ask for, whether this
 * server is meant, and the replies.
 *
 * From the system account:
 *   $SYS.REQ.SERVER.<id>.<X>, $SYS.REQ.SERVER.PING.<X>    X: IDZ STATSZ VARZ SUBSZ CONNZ ROUTEZ
 *       GATEWAYZ LEAFZ ACCOUNTZ JSZ HEALTHZ PROFILEZ EXPVARZ IPQUEUESZ RAFTZ
 *   $SYS.REQ.SERVER.PING                                  as PING.STATSZ
 *   $SYS.REQ.SERVER.<id>.RELOAD, .KICK {cid}, .LDM {cid}
 *   $SYS.REQ.ACCOUNT.<a>.<X>                              X: SUBSZ CONNZ LEAFZ JSZ INFO STATZ CONNS
 *   $SYS.REQ.ACCOUNT.PING.STATZ, $SYS.REQ.ACCOUNT.NSUBS
 * From every account, about itself only:
 *   $SYS.REQ.USER.INFO, $SYS.REQ.{ACCOUNT,SERVER}.PING.CONNZ, $SYS.REQ.ACCOUNT.PING.STATZ
 *
 * Replies are compact JSON: {"server":..., "data":... or "error":{code,description}}; statsz, IDZ,
 * CONNS and NSUBS have forms of their own. They are never compressed: a request's Accept-Encoding
 * is not looked at, and the reply has no Content-Encoding header. */
#ifndef CORE_MONITOR_SYSREQ_H
#define CORE_MONITOR_SYSREQ_H
#include "core/auth/perms.h"
#include "core/base/text.h"
#include "core/monitor/snapshot.h"

enum sysreq_verdict {
    SYSREQ_SILENT,  /* no answer: not for this server, or malformed in a way nobody answers */
    SYSREQ_REFUSED, /* reply sysreq_write_error(400, error) */
    SYSREQ_COLLECT, /* collect query, then sysreq_write_reply */
    SYSREQ_USER,    /* sysreq_write_user */
    SYSREQ_RELOAD,  /* act, then sysreq_write_done */
    SYSREQ_KICK,    /* the same, with sysreq.cid */
    SYSREQ_LDM,
};

struct sysreq {
    uint64_t cid;
    bool is_account;  /* $SYS.REQ.ACCOUNT.<a>: of one account */
    bool is_scoped;   /* asked from a normal account */
    bool is_late_error; /* the query did not finish: error is the text of a 500 reply */
};

/* Who asks. account: the requester's. is_system: it is the system account. */
struct sysreq_from {
    struct bytes account;
    bool is_system;
};

enum {
    SYSREQ_BODY_MAX = 64 * 1024, /* a longer body is refused */
};

/* Is there an answer to this subject for such a requester (its account name may be empty)? */
bool sysreq_is_known(const struct server_snapshot *server, const struct sysreq_from *from,
                     struct bytes subject);
/* Reads one request into *q and *out. mem: for the parsed body, given back before the return.
 * STATSZ without a reply subject asks for a broadcast: the caller sees q->page. *error is set for
 * SYSREQ_REFUSED, and when out->is_late_error; it is empty before. A query is resolved on return.
 * Queue names in NSUBS are not looked at. */
enum sysreq_verdict sysreq_parse(struct mem *mem, const struct server_snapshot *server,
                                 const struct sysreq_from *from, struct bytes subject,
                                 struct bytes body, struct page_query *q, struct sysreq *out,
                                 struct text *error);

/* After SYSREQ_COLLECT. event_id: for CONNS only. ERR_CLOSED: stay silent, out is of no use.
 * ERR_MEMORY: the same. error: as left by sysreq_parse. */
NODISCARD enum err sysreq_write_reply(const struct page_input *in, const struct sysreq *r,
                                      struct bytes event_id, struct text *error,
                                      struct text *out);
void sysreq_write_error(struct text *out, const struct server_snapshot *server, uint32_t code,
                        struct bytes description);
/* RELOAD, KICK, LDM: failure empty for success, else the text of a 500. */
void sysreq_write_done(struct text *out, const struct server_snapshot *server,
                       struct bytes failure);

/* The requester, for $SYS.REQ.USER.INFO. */
struct sysreq_user {
    struct bytes user;         /* raw name or nkey */
    struct bytes account;
    struct bytes account_name; /* name tag or name */
    struct bytes user_name;    /* name tag of the user; may be empty */
    const struct perms_spec *permissions; /* NULL: none */
    int64_t expires_ns;        /* time left; 0: never */
};
void sysreq_write_user(struct text *out, const struct server_snapshot *server,
                       const struct sysreq_user *user);

#endif
