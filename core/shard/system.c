/* The server as a participant of its own messaging: requests on $SYS.REQ.> that it takes for
 * itself, events in the system account, and subject mappings. Pages are rendered by io on a thread
 * of its own; here is only what must happen in the step. */
#include "core/base/must.h"
#include "core/base/text.h"
#include "core/monitor/sysevents.h"
#include "core/monitor/sysreq.h"
#include "core/route/mapping.h"
#include "core/shard/internal.h"

enum { EVENT_BYTES_MAX = 64 * 1024, EVENT_SUBJECT_MAX = 8192 };

/* An event that waits for the end of the step: it may have happened inside a fan-out. */
struct system_event {
    struct system_event *next;
    uint32_t account;
    struct text subject, body;
};

bool system_map_subject(struct shard *s, const struct mapping_set *mappings, struct bytes *subject,
                        char *room, size_t room_bytes)
{
    struct bytes mapped;
    switch (mapping_set_apply(mappings, *subject, &s->rng, room, room_bytes, &mapped)) {
    case MAPPING_MAPPED: *subject = mapped; return true;
    case MAPPING_DROPPED: return false;
    default: return true;
    }
}

/* --- requests ------------------------------------------------------------------------------- */

static char *put(char *to, struct bytes *slot, struct bytes from)
{
    if (from.len > 0) memcpy(to, from.data, from.len);
    *slot = bytes_of(to, from.len);
    return to + from.len;
}

/* Asks io. Without memory, or with more requests in one step than io takes, it is lost, as a
 * message without a responder would be. */
static bool ask(struct shard *s, const struct system_request *like)
{
    size_t bytes =
        sizeof *like + like->subject.len + like->reply.len + like->body.len + like->user.len;
    if (!session_has_room(s)) return false;
    struct system_request *r = mem_alloc(s->mem, MEM_MONITOR, bytes);
    if (r == NULL) return false;
    *r = *like;
    r->bytes = bytes;
    char *to = (char *)(r + 1);
    to = put(to, &r->subject, like->subject);
    to = put(to, &r->reply, like->reply);
    to = put(to, &r->body, like->body);
    put(to, &r->user, like->user);
    session_effect(s, EFFECT_SYSTEM, (struct conn_id){0})->system.request = r;
    return true;
}

void shard_system_done(struct shard *s, struct system_request *r)
{
    mem_free(s->mem, MEM_MONITOR, r, r->bytes);
}

bool system_takes(struct shard *s, struct client *c, const struct message *m)
{
    if (!bytes_starts_with(m->subject, BYTES_LITERAL("$SYS.REQ."))) return false;
    struct server_snapshot self = {.id = s->server->id};
    struct sysreq_from from = {.is_system = c->account->number == s->options->accounts->system};
    if (!sysreq_is_known(&self, &from, m->subject)) return false;
    struct system_request r = {
        .account = c->account->number,
        .cid = c->cid,
        .subject = m->subject,
        .reply = m->reply,
        .body = bytes_of(m->payload + m->header_bytes, m->total_bytes - m->header_bytes),
        .user = c->user_name};
    return ask(s, &r);
}

/* --- events ---------------------------------------------------------------------------------- */

static void free_event(struct shard *s, struct system_event *e)
{
    text_deinit(&e->subject);
    text_deinit(&e->body);
    mem_free(s->mem, MEM_MONITOR, e, sizeof *e);
}

void system_drop(struct shard *s)
{
    while (s->events_first != NULL) {
        struct system_event *e = s->events_first;
        s->events_first = e->next;
        free_event(s, e);
    }
    s->events_last = NULL;
}

void system_step(struct shard *s)
{
    while (s->events_first != NULL) {
        struct system_event *e = s->events_first;
        s->events_first = e->next;
        if (s->events_first == NULL) s->events_last = NULL;
        size_t bytes = e->body.len;
        text_string(&e->body, "\r\n");
        if (e->subject.is_failed || e->body.is_failed)
            s->counts.dropped_msgs++;
        else
            system_publish(s, e->account, text_written(&e->subject), bytes_of(e->body.data, bytes),
                           0);
        free_event(s, e);
    }
}

/* An event with its subject, if anybody wants it; NULL otherwise. It is queued already. */
static struct system_event *begin_event(struct shard *s, uint32_t account, enum sysevents_kind kind,
                                        struct bytes name)
{
    struct shard_account *a = session_account(s, account);
    struct system_event *e = a == NULL ? NULL : mem_alloc_zero(s->mem, MEM_MONITOR, sizeof *e);
    if (e == NULL) return NULL;
    e->account = account;
    text_init(&e->subject, s->mem, MEM_MONITOR, EVENT_SUBJECT_MAX);
    text_init(&e->body, s->mem, MEM_MONITOR, EVENT_BYTES_MAX);
    sysevents_subject(&e->subject, kind, name);
    if (e->subject.is_failed ||
        !interest_exists(s->interest, a->trie, bytes_of(e->subject.data, e->subject.len))) {
        free_event(s, e);
        return NULL;
    }
    if (s->events_last == NULL)
        s->events_first = e;
    else
        s->events_last->next = e;
    s->events_last = e;
    return e;
}

struct event_facts {
    struct server_snapshot server;
    struct sysevents_head head;
    struct conn_snapshot conn;
    char id[22];
};

static void describe_event(struct shard *s, const struct client *c, struct event_facts *f)
{
    *f = (struct event_facts){.server = {.id = s->server->id,
                                         .name = s->server->name,
                                         .version = s->server->version,
                                         .host = s->server->host,
                                         .cluster = s->options->cluster_name,
                                         .options = s->options,
                                         .domain = s->options->jetstream.domain,
                                         .jetstream = {.is_on = s->options->jetstream.is_on},
                                         .now_ns = s->now.wall_ns,
                                         .seq = ++s->event_seq}};
    rng_text(&s->rng, f->id, sizeof f->id);
    f->head =
        (struct sysevents_head){.id = bytes_of(f->id, sizeof f->id), .time_ns = s->now.wall_ns};
    collect_describe(s, c, &f->conn);
}

static void account_changed(struct shard *s, uint32_t account)
{
    struct system_request r = {.is_change = true, .account = account};
    struct text subject;
    struct shard_account *system = session_account(s, s->options->accounts->system);
    struct shard_account *a = session_account(s, account);
    if (account == ACCOUNT_GLOBAL || system == NULL || a == NULL || a->conf == NULL) return;
    text_init(&subject, s->mem, MEM_MONITOR, EVENT_SUBJECT_MAX);
    bool is_wanted = false;
    for (int legacy = 0; legacy < 2 && !is_wanted; legacy++) {
        text_clear(&subject);
        sysevents_subject(&subject,
                          legacy ? SYSEVENTS_ACCOUNT_CONNS_LEGACY : SYSEVENTS_ACCOUNT_CONNS,
                          a->conf->name);
        is_wanted = !subject.is_failed &&
                    interest_exists(s->interest, system->trie, bytes_of(subject.data, subject.len));
    }
    text_deinit(&subject);
    if (is_wanted) (void)!ask(s, &r); /* without memory one statistic is late */
}

static bool has_events(const struct shard *s, const struct client *c)
{
    uint32_t system = s->options->accounts->system;
    return system != UINT32_MAX && c->account != NULL && c->account->conf != NULL &&
           c->account->number != system;
}

void system_connected(struct shard *s, struct client *c)
{
    if (!has_events(s, c)) return;
    struct system_event *e =
        begin_event(s, s->options->accounts->system, SYSEVENTS_CONNECT, c->account->conf->name);
    struct event_facts f;
    if (e != NULL) {
        describe_event(s, c, &f);
        sysevents_write_connect(&e->body, &f.server, &f.head, &f.conn);
    }
    account_changed(s, c->account->number);
}

void system_disconnected(struct shard *s, struct client *c)
{
    if (!has_events(s, c) || !client_has(c, CLIENT_CONNECTED)) return;
    struct system_event *e =
        begin_event(s, s->options->accounts->system, SYSEVENTS_DISCONNECT, c->account->conf->name);
    struct event_facts f;
    if (e != NULL) {
        describe_event(s, c, &f);
        f.conn.stop_ns = s->now.wall_ns;
        f.conn.reason = (enum closed_reason)c->reason;
        sysevents_write_disconnect(&e->body, &f.server, &f.head, &f.conn,
                                   closed_reason_text((enum closed_reason)c->reason));
    }
    account_changed(s, c->account->number);
}

void system_auth_failed(struct shard *s, struct client *c, enum closed_reason reason)
{
    if (s->options->accounts->system == UINT32_MAX) return;
    struct system_event *e =
        begin_event(s, s->options->accounts->system, SYSEVENTS_AUTH_ERROR, s->server->id);
    if (e == NULL) return;
    struct event_facts f;
    describe_event(s, c, &f);
    if (f.conn.user.len == 0) f.conn.user = c->connect.user;
    f.conn.stop_ns = s->now.wall_ns;
    f.conn.reason = reason;
    sysevents_write_disconnect(&e->body, &f.server, &f.head, &f.conn, closed_reason_text(reason));
}

/* For -VV, in the words of nats-server: without a reply there are two spaces. */
static void trace_own(struct shard *s, struct bytes subject, struct bytes payload)
{
    if (LIKELY(!s->options->trace || !s->options->trace_verbose)) return;
    struct writer *w = session_log_open(s, NULL);
    writer_text(w, "SYSTEM - <<- [PUB ");
    writer_bytes(w, subject);
    writer_text(w, "  ");
    writer_u64(w, payload.len);
    writer_char(w, ']');
    session_log_close(s, LOG_LEVEL_TRC);
    session_trace_payload(s, NULL, payload, 0, false);
}

/* An internal message of the server in an account. */
void system_publish(struct shard *s, uint32_t account, struct bytes subject, struct bytes payload,
                    uint32_t header_bytes)
{
    struct shard_account *a = session_account(s, account);
    if (a == NULL) return;
    trace_own(s, subject, payload);
    struct message m = {.account = a,
                        .subject = subject,
                        .header_bytes = header_bytes,
                        .total_bytes = (uint32_t)payload.len,
                        .payload = payload.data,
                        .origin_shard = s->index};
    enum park_reason reason;
    /* No room in a mail ring: the event is lost for that shard and counted; the server does not
     * park. */
    if (fanout_publish(s, &m, NULL, &reason) == FANOUT_PARK) s->counts.dropped_msgs++;
}
