#include "tests/sim/jswork.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/must.h"
#include "core/shard/jet.h"
#include "tests/sim/jsclient.h"
#include "tests/sim/jsledger.h"

enum {
    CLIENTS_MAX = 6,
    AUDITOR = CLIENTS_MAX, /* reads streams at rest */
    REQUESTS_MAX = 1 << 17,
    PENDING_MAX = 64, /* publishes of a stream without an answer */
    TICK_NS = 400000,
    DISK_FULL_NS = 200000000,
    LOOK_NS = 400000000,
    RESET_ONE_IN = 4, /* seeds in which consumers of the interest stream are reset */
    RESET_LOOKS = 8,  /* until the work queue's is set back again at the end */
    CONSUMERS_MAX = 3,
    MORE = 2, /* the third consumer, which comes and goes */
    MORE_SLOT = JSL_INTEREST,
    MORE_ONE_IN = 3, /* seeds that have it */
    MORE_OPS = 25,
    DELIVERIES_MAX = 3,  /* of one consumer */
    ROLLUP_ONE_IN = 100, /* publishes to the limits stream */
    CROWDED_ONE_IN = 4,  /* seeds */
    RESTS_ONE_IN = 3,    /* lives */
    LIVES_SLOTS = 3,     /* streams with life times and limits: all but that of keys */
    LIVES_RARELY = 4,    /* there, orders that take anything are given: one in so many */
    PAUSE_OPS = 40,      /* operations until what lives not for long is waited for */
    PAUSE_BACK = 200,    /* messages */
    PAUSE_NS = 1000000,  /* before it ends, at most */
    SAID_MAX = 1 + CONSUMERS_MAX,
    SAID_BEFORE = 60, /* of a difference */
    SAID_TOLD = 240,
};
static const uint64_t REST_NS = 2500000000; /* longer than a pull waits */
/* Longer than a message lives that does not live for an hour, and then its marker; both end at full
 * seconds. */
static const uint64_t LIVES_REST_NS = 6500000000;
static const uint64_t PAUSE_MAX_NS = 2000000000;
static const uint64_t WAIT_NS = 20000000000u; /* for an answer, or for a start */
static const uint64_t DRAIN_NS = 60000000000u;

enum asked {
    REQUEST_PUBLISH,
    REQUEST_CREATE,
    REQUEST_CONSUMER,
    REQUEST_DELETE,
    REQUEST_UPDATE,
    REQUEST_PURGE,
    REQUEST_ERASE,
    REQUEST_ACK,
    REQUEST_RESET,
    REQUEST_MORE,
    REQUEST_LESS, /* of the third consumer: its end */
    REQUEST_PULL,
    REQUEST_INFO, /* of an audit, as the next two */
    REQUEST_CONSUMER_INFO,
    REQUEST_GET,
    REQUEST_LOOK, /* how many messages are left */
};

struct request {
    uint8_t kind, slot, consumer;
    bool is_open, is_rollup;
    uint32_t entry;
    uint64_t seq;
};

/* A stream's life as its clients know it. */
enum stream_state { STREAM_NONE, STREAM_BUSY, STREAM_CONSUMERS, STREAM_READY };

struct stream_of_work {
    enum stream_state state;
    bool is_confirmed; /* its creation */
    bool was_deleted;  /* its deletion was asked for */
    /* Since its creation was refused by a log that became read-only: it may be there after all. */
    uint32_t maybe_from;
    bool has_consumer[CONSUMERS_MAX];
    uint32_t pending;
    uint64_t first, last, messages; /* of the audit, or of a look */
    bool was_seen;
};

struct work {
    const struct jswork_config *config;
    struct jswork_counts *counts;
    struct rng rng;
    struct simstore store;
    struct server server;
    struct jsledger ledger;
    struct jsclient clients[CLIENTS_MAX + 1];
    uint32_t client_count;
    uint64_t connections;
    struct request requests[REQUESTS_MAX];
    uint32_t request_count, audit_open;
    struct stream_of_work streams[JSLEDGER_SLOTS];
    uint64_t full_until_ns, next_op_ns;
    uint32_t ops;
    bool is_draining, is_up, is_more_gone;
    uint64_t hash;
    /* What streams and their consumers say of themselves in an audit, and what they said when all
     * had come to rest: a start must find exactly that. */
    char *said[JSLEDGER_SLOTS][SAID_MAX], *rested[JSLEDGER_SLOTS][SAID_MAX];
    bool is_rested;
    struct rng calm; /* of its own: a seed stays the run it was until it rests */
};

/* Consumers: 0 is pulled from, 1 is pushed. Of the interest stream there may be one more, which
 * keeps what its filters select until it ends, gets other filters, or is set behind it. */
static const uint8_t consumers_of[JSLEDGER_SLOTS] = {2, 1, 2, 1};
static const char *const consumer_names[CONSUMERS_MAX] = {"PULL", "PUSH", "MORE"};

static uint32_t below(struct work *w, uint32_t bound)
{
    return rng_below(&w->rng, bound);
}

static struct jsledger_slot *slot_of(struct work *w, uint32_t slot)
{
    return &w->ledger.slots[slot];
}

/* Seeds with life times, and limits of all kinds. */
static bool has_lives(const struct work *w)
{
    return w->config->seed % 5 < 2;
}

/* Without lives that draws nothing. */
static bool is_rare(struct work *w)
{
    return !has_lives(w) || rng_below(&w->calm, LIVES_RARELY) == 0;
}

/* --- requests ------------------------------------------------------------------------------- */

static uint32_t open_request(struct work *w, enum asked kind, uint32_t slot)
{
    must(w->request_count < REQUESTS_MAX);
    w->requests[w->request_count] =
        (struct request){.kind = (uint8_t)kind, .slot = (uint8_t)slot, .is_open = true};
    return w->request_count++;
}

static void api(struct jsclient *c, const char *verb, uint32_t slot, const char *behind,
                uint32_t inbox, const char *body)
{
    char subject[96];
    snprintf(subject, sizeof subject, "$JS.API.%s.S%u%s", verb, slot, behind);
    jsclient_publish(c, subject, inbox, "", body, strlen(body));
}

static const char *config_of(struct work *w, uint32_t slot, char *out, size_t bytes)
{
    static const char *const retentions[] = {"limits", "workqueue", "interest", "limits"};
    const struct jsledger_slot *s = slot_of(w, slot);
    long long max = s->max_msgs == UINT64_MAX ? -1 : (long long)s->max_msgs;
    char limits[256];
    if (s->lives.is_on)
        jslives_write(&s->lives, JSLIVES_WINDOW_NS, limits, sizeof limits);
    else
        snprintf(limits, sizeof limits,
                 ",\"max_msgs\":%lld,\"max_msgs_per_subject\":%d,\"duplicate_window\":%llu", max,
                 s->retention == JSL_KEYS ? 1 : -1, (unsigned long long)JSLIVES_WINDOW_NS);
    snprintf(out, bytes,
             "{\"name\":\"S%u\",\"description\":\"inc %u.\",\"subjects\":[\"s%u.>\"],"
             "\"retention\":\"%s\",\"storage\":\"file\",\"num_replicas\":1,"
             "\"allow_direct\":true,\"allow_rollup_hdrs\":%s%s}",
             slot, s->incarnation, slot, retentions[s->retention],
             s->retention == JSL_LIMITS ? "true" : "false", limits);
    return out;
}

static void create(struct work *w, struct jsclient *c, uint32_t slot)
{
    char body[768];
    struct stream_of_work *x = &w->streams[slot];
    *x = (struct stream_of_work){.state = STREAM_BUSY, .maybe_from = x->maybe_from};
    struct jslives *v = &slot_of(w, slot)->lives, before = *v;
    jsledger_renew(&w->ledger, slot);
    if (x->maybe_from != 0) *v = before; /* what was asked for since may be what holds */
    if (v->is_on) jslives_change(v, &w->calm);
    uint32_t inbox = open_request(w, REQUEST_CREATE, slot);
    api(c, "STREAM.CREATE", slot, "", inbox, config_of(w, slot, body, sizeof body));
}

static void create_consumer(struct work *w, struct jsclient *c, uint32_t slot)
{
    char body[512], behind[16], deliver[64] = "";
    struct stream_of_work *x = &w->streams[slot];
    uint32_t n = 0;
    while (n < consumers_of[slot] && x->has_consumer[n]) n++;
    if (n == consumers_of[slot]) {
        x->state = STREAM_READY;
        return;
    }
    x->state = STREAM_BUSY;
    if (n == 1) snprintf(deliver, sizeof deliver, "\"deliver_subject\":\"D.%u\",", slot);
    snprintf(body, sizeof body,
             "{\"stream_name\":\"S%u\",\"config\":{\"durable_name\":\"%s\",%s"
             "\"ack_policy\":\"%s\",\"ack_wait\":300000000,\"max_ack_pending\":100,"
             "\"deliver_policy\":\"%s\",\"filter_subject\":\"s%u.>\",\"max_deliver\":%d,"
             "\"replay_policy\":\"instant\"}}",
             slot, consumer_names[n], deliver, slot == 0 && n == 1 ? "all" : "explicit",
             slot_of(w, slot)->retention == JSL_KEYS ? "last_per_subject" : "all", slot,
             slot == 0 && n == 0 ? DELIVERIES_MAX : -1);
    snprintf(behind, sizeof behind, ".%s", consumer_names[n]);
    uint32_t inbox = open_request(w, REQUEST_CONSUMER, slot);
    w->requests[inbox].consumer = (uint8_t)n;
    api(c, "CONSUMER.DURABLE.CREATE", slot, behind, inbox, body);
}

/* An order on its way on another connection may arrive behind the deletion, and behind the creation
 * of the next stream of this name: it would be as good an order of that one. */
static bool has_open_order(const struct work *w, uint32_t slot)
{
    for (uint32_t i = 0; i < w->request_count; i++) {
        const struct request *r = &w->requests[i];
        bool is_order = r->kind == REQUEST_UPDATE || r->kind == REQUEST_PURGE ||
                        r->kind == REQUEST_ERASE || r->kind == REQUEST_RESET;
        if (r->is_open && r->slot == slot && is_order) return true;
    }
    return false;
}

static void delete_stream(struct work *w, struct jsclient *c, uint32_t slot)
{
    struct stream_of_work *x = &w->streams[slot];
    if (x->pending > 0 || has_open_order(w, slot)) return;
    x->state = STREAM_BUSY;
    x->was_deleted = true;
    api(c, "STREAM.DELETE", slot, "", open_request(w, REQUEST_DELETE, slot), "");
}

static void update(struct work *w, struct jsclient *c, uint32_t slot)
{
    char body[768];
    struct jsledger_slot *s = slot_of(w, slot);
    uint64_t max = 60 + below(w, 200);
    if (s->lives.is_on)
        jslives_change(&s->lives, &w->calm);
    else if (s->retention != JSL_LIMITS)
        return;
    else if (max < s->max_msgs)
        s->max_msgs = max;
    uint32_t inbox = open_request(w, REQUEST_UPDATE, slot);
    api(c, "STREAM.UPDATE", slot, "", inbox, config_of(w, slot, body, sizeof body));
}

static void purge(struct work *w, struct jsclient *c, uint32_t slot)
{
    struct jsledger_slot *s = slot_of(w, slot);
    if (s->retention == JSL_KEYS || s->is_purging) return;
    jsledger_purge_sent(&w->ledger, slot);
    char body[64] = "";
    /* Which ones it keeps is not known; but what was gone then is gone for good. */
    bool is_some = below(w, 2) == 0;
    if (is_some)
        snprintf(body, sizeof body, "{\"filter\":\"s%u.%s\",\"keep\":%u}", slot,
                 below(w, 2) == 0 ? "*" : "1", 1 + below(w, 12));
    uint32_t inbox = open_request(w, REQUEST_PURGE, slot);
    w->requests[inbox].entry = is_some;
    api(c, "STREAM.PURGE", slot, "", inbox, body);
}

static void erase(struct work *w, struct jsclient *c, uint32_t slot)
{
    char body[64];
    struct jsledger_slot *s = slot_of(w, slot);
    if (s->retention == JSL_KEYS || s->seen_last == 0) return;
    uint64_t seq = s->seen_last - below(w, s->seen_last < 40 ? (uint32_t)s->seen_last : 40);
    uint32_t entry = s->owner[seq];
    if (entry == JSLEDGER_NONE) return;
    jsledger_erase_sent(&w->ledger, entry);
    uint32_t inbox = open_request(w, REQUEST_ERASE, slot);
    w->requests[inbox].entry = entry;
    snprintf(body, sizeof body, "{\"seq\":%llu%s}", (unsigned long long)seq,
             below(w, 3) == 0 ? "" : ",\"no_erase\":true");
    api(c, "STREAM.MSG.DELETE", slot, "", inbox, body);
}

static void pull(struct work *w, struct jsclient *c, uint32_t slot)
{
    char body[64];
    if (consumers_of[slot] == 0) return;
    snprintf(body, sizeof body, "{\"batch\":%u,\"expires\":%u}", 1 + below(w, 20),
             1000000000 + below(w, 1000000000));
    uint32_t inbox = open_request(w, REQUEST_PULL, slot);
    api(c, "CONSUMER.MSG.NEXT", slot, ".PULL", inbox, body);
}

static bool has_more(const struct work *w)
{
    return w->config->seed % MORE_ONE_IN == 1;
}

static void end_more(struct work *w, struct jsclient *c)
{
    api(c, "CONSUMER.DELETE", MORE_SLOT, ".MORE", open_request(w, REQUEST_LESS, MORE_SLOT), "");
}

/* It is there from now on, or is another one, or is there no more. */
static void change_more(struct work *w, struct jsclient *c)
{
    static const char *const filters[] = {"\"s2.>\"", "\"s2.1\"", "\"s2.0\",\"s2.2\"", "\"s2.3\""};
    const struct jsledger_slot *s = slot_of(w, MORE_SLOT);
    char body[256];
    uint32_t what = rng_below(&w->calm, 8);
    if (what < 2) {
        end_more(w, c);
        return;
    }
    if (what == 2 && s->seen_last > 0) {
        snprintf(body, sizeof body, "{\"seq\":%u}",
                 1 + rng_below(&w->calm, (uint32_t)s->seen_last));
        /* Where it is not there that has no answer, as a pull may have none. */
        api(c, "CONSUMER.RESET", MORE_SLOT, ".MORE", open_request(w, REQUEST_PULL, MORE_SLOT),
            body);
        return;
    }
    slot_of(w, MORE_SLOT)->is_kept = true;
    snprintf(body, sizeof body,
             "{\"stream_name\":\"S2\",\"config\":{\"durable_name\":\"MORE\","
             "\"ack_policy\":\"explicit\",\"filter_subjects\":[%s],\"inactive_threshold\":%d}}",
             filters[rng_below(&w->calm, sizeof filters / sizeof *filters)],
             what == 3 ? 100000000 : 0);
    api(c, "CONSUMER.DURABLE.CREATE", MORE_SLOT, ".MORE", open_request(w, REQUEST_MORE, MORE_SLOT),
        body);
}

/* To somewhere in what was seen: what it passes over in a work queue stays, and is delivered when
 * it is set back. */
static void reset(struct work *w, struct jsclient *c, uint32_t slot, uint64_t seq)
{
    char body[64];
    const struct jsledger_slot *s = slot_of(w, slot);
    bool is_asked = s->retention == JSL_WORK_QUEUE ||
                    (s->retention == JSL_INTEREST && w->config->seed % RESET_ONE_IN == 0);
    if (!is_asked || s->seen_last == 0) return;
    if (seq == 0) seq = 1 + below(w, (uint32_t)s->seen_last);
    jsledger_reset_sent(&w->ledger, slot, 0);
    snprintf(body, sizeof body, "{\"seq\":%llu}", (unsigned long long)seq);
    api(c, "CONSUMER.RESET", slot, ".PULL", open_request(w, REQUEST_RESET, slot), body);
}

/* --- publishes ------------------------------------------------------------------------------ */

static uint64_t last_of_subject(const struct work *w, uint32_t slot, uint32_t subject)
{
    const struct jsledger_slot *s = &w->ledger.slots[slot];
    for (uint64_t seq = s->seen_last; seq > 0; seq--)
        if (s->owner[seq] != JSLEDGER_NONE && w->ledger.entries[s->owner[seq]].subject == subject)
            return seq;
    return 0;
}

/* A message id that was used lately, to be found a duplicate; else a new one. */
static uint32_t choose_msg_id(struct work *w, uint32_t slot, uint32_t *subject)
{
    struct jsledger *l = &w->ledger;
    if (below(w, 3) != 0) return l->next_msg_id++;
    for (int i = 0; i < 20 && l->entry_count > 0; i++) {
        uint32_t back = 1 + below(w, l->entry_count < 300 ? l->entry_count : 300);
        const struct jsledger_entry *e = &l->entries[l->entry_count - back];
        if (e->slot != slot || e->msg_id == 0 || e->incarnation != l->slots[slot].incarnation)
            continue;
        *subject = e->subject;
        return e->msg_id;
    }
    return l->next_msg_id++;
}

static void publish(struct work *w, struct jsclient *c, uint32_t slot)
{
    char body[JSLEDGER_BODY_MAX], headers[200] = "", subject[32];
    size_t at = 0;
    struct jsledger_publish p = {.slot = slot,
                                 .subject = below(w, JSLEDGER_SUBJECTS),
                                 .client = c->index,
                                 .bytes = 10 + below(w, below(w, 8) == 0 ? 4000 : 150),
                                 .expected = UINT64_MAX,
                                 .connection = c->connection};
    if (slot_of(w, slot)->retention == JSL_KEYS) {
        p.expected = last_of_subject(w, slot, p.subject);
        at += (size_t)snprintf(headers, sizeof headers,
                               "Nats-Expected-Last-Subject-Sequence: %llu\r\n",
                               (unsigned long long)p.expected);
    } else if (below(w, 5) < 2) {
        p.msg_id = choose_msg_id(w, slot, &p.subject);
        snprintf(headers + at, sizeof headers - at, "Nats-Msg-Id: id-%u\r\n", p.msg_id);
    }
    struct jsledger_slot *s = slot_of(w, slot);
    bool is_rollup = s->retention == JSL_LIMITS && !s->is_purging &&
                     rng_below(&w->calm, ROLLUP_ONE_IN) == 0 && is_rare(w);
    if (is_rollup)
        strcat(headers,
               rng_below(&w->calm, 2) == 0 ? "Nats-Rollup: all\r\n" : "Nats-Rollup: sub\r\n");
    if (s->lives.is_on) {
        at = strlen(headers);
        jslives_write_ttl(&w->calm, headers + at, sizeof headers - at, &p.ttl_ns);
        w->counts->ttls += p.ttl_ns != 0;
    }
    p.counted = (uint32_t)(p.bytes + strlen(headers) + JSLEDGER_HEAD_BYTES);
    uint32_t inbox = open_request(w, REQUEST_PUBLISH, slot);
    w->requests[inbox].is_rollup = is_rollup;
    uint32_t id = jsledger_publish(&w->ledger, &p);
    w->requests[inbox].entry = id;
    w->streams[slot].pending++;
    if (is_rollup) {
        jsledger_purge_sent(&w->ledger, slot);
        w->ledger.entries[id].maybe_gone = false;
    }
    jsledger_body(&w->ledger, id, body);
    snprintf(subject, sizeof subject, "s%u.%u", slot, p.subject);
    jsclient_publish(c, subject, inbox, headers, body, p.bytes);
}

static void answer_publish(struct work *w, struct request *r, const struct jsmessage *m)
{
    struct jsledger *l = &w->ledger;
    w->streams[r->slot].pending--;
    /* Which ones it took is not known; but what was gone then is gone for good. */
    if (r->is_rollup) jsledger_purged(l, r->slot, false);
    w->counts->rollups += r->is_rollup;
    uint64_t seq = jsclient_number(m->body, "\"seq\":");
    if (m->status != 0 || jsclient_has(m->body, "\"error\"")) {
        uint64_t code = jsclient_number(m->body, "\"err_code\":");
        w->counts->sets_refused += code == 10071 || code == 10164;
        w->counts->disk_full += code == 10047;
        w->counts->full_refused += jsclient_has(m->body, "maximum ");
        /* A log that is read-only from now on does not say which of its last writes landed. */
        if (simstore_is_read_only(&w->store))
            jsledger_lost(l, r->entry);
        else
            jsledger_refused(l, r->entry);
        return;
    }
    if (seq == 0 || seq == UINT64_MAX || !jsclient_has(m->body, "\"stream\":\"S")) {
        jsledger_wrong(l, "a strange answer: %.*s", (int)m->body.len, m->body.data);
        return;
    }
    bool is_duplicate = jsclient_has(m->body, "\"duplicate\"");
    jsledger_stored(l, r->entry, seq, is_duplicate);
    w->counts->duplicates += is_duplicate;
    w->counts->stored += !is_duplicate;
}

/* --- deliveries ----------------------------------------------------------------------------- */

static void say_ack(struct work *w, struct jsclient *c, const struct jsmessage *m, uint32_t id,
                    uint32_t slot, uint32_t consumer)
{
    char subject[256];
    if (m->reply.len >= sizeof subject) return;
    memcpy(subject, m->reply.data, m->reply.len);
    subject[m->reply.len] = 0;
    uint32_t how = w->is_draining ? 9 : below(w, 12);
    uint32_t inbox = UINT32_MAX;
    if (how == 0) return;
    if (how == 1) {
        jsclient_publish(c, subject, UINT32_MAX, "", "-NAK", 4);
        return;
    }
    jsledger_ack_sent(&w->ledger, id, consumer);
    bool is_all = slot == 0 && consumer == 1;
    if (how >= 6 && !is_all) {
        inbox = open_request(w, REQUEST_ACK, slot);
        w->requests[inbox].entry = id;
        w->requests[inbox].consumer = (uint8_t)consumer;
    }
    const char *what = how == 2 ? "+TERM" : how == 3 ? "" : "+ACK";
    jsclient_publish(c, subject, inbox, "", what, strlen(what));
}

static void on_delivery(struct work *w, struct jsclient *c, const struct jsmessage *m)
{
    char text[256], name[16];
    unsigned slot;
    unsigned long long deliveries, seq;
    size_t n = m->reply.len < sizeof text - 1 ? m->reply.len : sizeof text - 1;
    memcpy(text, m->reply.data, n);
    text[n] = 0;
    if (sscanf(text, "$JS.ACK.S%u.%15[A-Z].%llu.%llu.", &slot, name, &deliveries, &seq) != 4 ||
        slot >= JSLEDGER_SLOTS) {
        jsledger_wrong(&w->ledger, "a strange ack subject: %s", text);
        return;
    }
    w->counts->deliveries++;
    uint32_t consumer = strcmp(name, "PUSH") == 0;
    if (jsclient_has(m->headers, "Nats-Marker-Reason: ")) {
        jsclient_publish(c, text, UINT32_MAX, "", "+ACK", 4);
        return;
    }
    uint32_t id = jsledger_seen(&w->ledger, slot, seq, m->subject, m->body);
    if (id == JSLEDGER_NONE) return;
    jsledger_delivered(&w->ledger, slot, consumer, id, deliveries);
    say_ack(w, c, m, id, slot, consumer);
}

/* --- answers -------------------------------------------------------------------------------- */

static void answer_create(struct work *w, struct request *r, const struct jsmessage *m)
{
    struct stream_of_work *x = &w->streams[r->slot];
    x->is_confirmed = m->status == 0 && !jsclient_has(m->body, "\"error\"");
    x->state = x->is_confirmed ? STREAM_CONSUMERS : STREAM_NONE;
    if (x->is_confirmed)
        x->maybe_from = 0;
    else if (x->maybe_from == 0 && simstore_is_read_only(&w->store))
        x->maybe_from = slot_of(w, r->slot)->incarnation;
}

static void answer_delete(struct work *w, struct request *r, const struct jsmessage *m)
{
    struct stream_of_work *x = &w->streams[r->slot];
    bool is_done = jsclient_has(m->body, "\"success\":true");
    w->counts->deleted += is_done;
    x->state = is_done ? STREAM_NONE : STREAM_READY;
    if (is_done) x->is_confirmed = false;
}

/* All with that name, up to the first of these characters. */
static void cut_out_to(char *text, const char *name, const char *ends)
{
    for (char *at = text; (at = strstr(at, name)) != NULL;) {
        char *end = at + strlen(name);
        end += strcspn(end, ends);
        memmove(at, end, strlen(end) + 1);
    }
}

static void cut_out(char *text, const char *name)
{
    cut_out_to(text, name, ",}");
}

/* Sequences before the stream's first message: how far consumers that have nothing there moved up
 * is said by when a purge came, and at a start what is over by then, or died and was not packed,
 * was gone before it. */
static void cut_out_passed(char *text, uint64_t first)
{
    static const char name[] = "\"stream_seq\":";
    for (char *at = text; (at = strstr(at, name)) != NULL; at += strlen(name)) {
        char *number = at + strlen(name);
        if (strtoull(number, NULL, 10) >= first) continue;
        char *end = number + strspn(number, "0123456789");
        memmove(number, end, strlen(end) + 1);
    }
}

static bool has_passed(struct work *w, uint32_t slot)
{
    return slot_of(w, slot)->lives.is_on || w->config->frees;
}

/* Without what changes while nothing happens, or is of a life alone. */
static void keep_said(struct work *w, uint32_t slot, uint32_t which, struct bytes body)
{
    static const char *const passing[] = {
        "\"ts\":", "\"num_waiting\":", "\"push_bound\":", ",\"last_active\":"};
    char *text = strndup(body.data, body.len);
    must(text != NULL);
    for (size_t i = 0; i < sizeof passing / sizeof *passing; i++) cut_out(text, passing[i]);
    if (which > 0 && has_passed(w, slot)) cut_out_passed(text, w->streams[slot].first);
    free(w->said[slot][which]);
    w->said[slot][which] = text;
}

/* What a stream says of itself in an audit, and then all its messages. */
static void answer_info(struct work *w, struct jsclient *c, struct request *r,
                        const struct jsmessage *m)
{
    struct stream_of_work *x = &w->streams[r->slot];
    char body[64];
    keep_said(w, r->slot, 0, m->body);
    if (jsclient_has(m->body, "\"err_code\":10059")) {
        if (x->is_confirmed && !x->was_deleted)
            jsledger_wrong(&w->ledger, "stream S%u is gone", r->slot);
        x->state = STREAM_NONE;
        return;
    }
    x->first = jsclient_number(m->body, "\"first_seq\":");
    x->last = jsclient_number(m->body, "\"last_seq\":");
    x->messages = jsclient_number(m->body, "\"messages\":");
    x->was_seen = true;
    if (x->last == UINT64_MAX || x->first == UINT64_MAX) {
        jsledger_wrong(&w->ledger, "S%u: a strange answer: %.*s", r->slot, (int)m->body.len,
                       m->body.data);
        return;
    }
    uint64_t incarnation = jsclient_number(m->body, "\"inc "),
             newest = slot_of(w, r->slot)->incarnation;
    bool is_maybe = x->maybe_from != 0 && incarnation >= x->maybe_from && incarnation < newest;
    if (incarnation != newest && !is_maybe)
        jsledger_wrong(&w->ledger, "stream S%u came back from the dead", r->slot);
    for (uint64_t seq = x->first; seq <= x->last && x->messages > 0; seq++) {
        snprintf(body, sizeof body, "{\"seq\":%llu}", (unsigned long long)seq);
        uint32_t inbox = open_request(w, REQUEST_GET, r->slot);
        w->requests[inbox].seq = seq;
        w->audit_open++;
        api(c, "DIRECT.GET", r->slot, "", inbox, body);
    }
}

static void answer_consumer_info(struct work *w, struct request *r, const struct jsmessage *m)
{
    struct stream_of_work *x = &w->streams[r->slot];
    bool is_there = !jsclient_has(m->body, "\"error\"");
    keep_said(w, r->slot, 1 + r->consumer, m->body);
    bool may_go = r->consumer >= consumers_of[r->slot];
    if (!is_there && x->has_consumer[r->consumer] && x->was_seen && !may_go)
        jsledger_wrong(&w->ledger, "consumer %s of S%u is gone", consumer_names[r->consumer],
                       r->slot);
    x->has_consumer[r->consumer] = is_there;
    if (!is_there) return;
    /* {"delivered":{"consumer_seq":..,"stream_seq":..},"ack_floor":{...}} */
    const char *floor = memmem(m->body.data, m->body.len, "\"ack_floor\"", 11);
    if (floor == NULL) {
        jsledger_wrong(&w->ledger, "no ack floor: %.*s", (int)m->body.len, m->body.data);
        return;
    }
    struct bytes behind = bytes_of(floor, (size_t)(m->body.data + m->body.len - floor));
    uint64_t delivered = jsclient_number(m->body, "\"stream_seq\":");
    uint64_t acked = jsclient_number(behind, "\"stream_seq\":");
    if (delivered > x->last || acked > delivered)
        jsledger_wrong(&w->ledger, "S%u ends at %llu; %s delivered %llu, ack floor %llu", r->slot,
                       (unsigned long long)x->last, consumer_names[r->consumer],
                       (unsigned long long)delivered, (unsigned long long)acked);
}

static struct bytes header_of(struct bytes headers, const char *name)
{
    const char *at = memmem(headers.data, headers.len, name, strlen(name));
    if (at == NULL) return bytes_of(NULL, 0);
    at += strlen(name);
    const char *end = memchr(at, '\r', (size_t)(headers.data + headers.len - at));
    return end == NULL ? bytes_of(NULL, 0) : bytes_of(at, (size_t)(end - at));
}

static void answer_get(struct work *w, const struct request *r, const struct jsmessage *m)
{
    if (m->status == 404) return;
    struct bytes subject = header_of(m->headers, "Nats-Subject: ");
    if (m->status != 0 || jsclient_number(m->headers, "Nats-Sequence: ") != r->seq) {
        jsledger_wrong(&w->ledger, "S%u, sequence %llu cannot be read: %.*s", r->slot,
                       (unsigned long long)r->seq, (int)m->headers.len, m->headers.data);
        return;
    }
    if (jsclient_has(m->headers, "Nats-Marker-Reason: ")) {
        jsledger_marker(&w->ledger, r->slot, r->seq);
        return;
    }
    uint32_t id = jsledger_seen(&w->ledger, r->slot, r->seq, subject, m->body);
    if (id != JSLEDGER_NONE) w->ledger.entries[id].is_present = true;
}

static void on_answer(struct work *w, struct jsclient *c, const struct jsmessage *m)
{
    const char *dot = memrchr(m->subject.data, '.', m->subject.len);
    must(dot != NULL);
    uint64_t n =
        jsclient_number(bytes_of(dot, (size_t)(m->subject.data + m->subject.len - dot)), ".");
    must(n < w->request_count);
    struct request *r = &w->requests[n];
    bool is_good = m->status == 0 && !jsclient_has(m->body, "\"error\"");
    if (w->config->is_verbose)
        fprintf(stderr, "%12.6f request %llu kind %u S%u: %d %.*s\n",
                (double)w->server.clock.now_ns / 1e9, (unsigned long long)n, r->kind, r->slot,
                m->status, (int)m->body.len, m->body.data);
    if (!r->is_open && r->kind != REQUEST_PULL)
        jsledger_wrong(&w->ledger, "two answers to request %llu of kind %u", (unsigned long long)n,
                       r->kind);
    r->is_open = false;
    switch (r->kind) {
    case REQUEST_PUBLISH: answer_publish(w, r, m); break;
    case REQUEST_CREATE: answer_create(w, r, m); break;
    case REQUEST_CONSUMER:
        if (is_good) w->streams[r->slot].has_consumer[r->consumer] = true;
        w->streams[r->slot].state = STREAM_CONSUMERS;
        break;
    case REQUEST_DELETE: answer_delete(w, r, m); break;
    case REQUEST_UPDATE:
        w->counts->updated += is_good;
        w->counts->limits_set += is_good && slot_of(w, r->slot)->lives.is_on;
        break;
    case REQUEST_PURGE:
        w->counts->purged += is_good;
        jsledger_purged(&w->ledger, r->slot, is_good && r->entry == 0);
        break;
    case REQUEST_ERASE:
        w->counts->erased += is_good;
        if (is_good) jsledger_erased(&w->ledger, r->entry);
        break;
    case REQUEST_ACK:
        if (m->status != 0) break;
        w->counts->acks_confirmed++;
        jsledger_ack_confirmed(&w->ledger, r->entry, r->consumer);
        break;
    case REQUEST_RESET: w->counts->resets += is_good; break;
    case REQUEST_MORE: w->counts->mores += is_good; break;
    case REQUEST_LESS:
        w->counts->lesses += is_good;
        if (is_good || jsclient_has(m->body, "\"err_code\":10014"))
            w->is_more_gone = w->is_draining;
        break;
    case REQUEST_LOOK:
        w->streams[r->slot].messages = jsclient_number(m->body, "\"messages\":");
        break;
    case REQUEST_INFO: answer_info(w, c, r, m); break;
    case REQUEST_CONSUMER_INFO: answer_consumer_info(w, r, m); break;
    case REQUEST_GET: answer_get(w, r, m); break;
    default: break;
    }
    if (r->kind == REQUEST_INFO || r->kind == REQUEST_CONSUMER_INFO || r->kind == REQUEST_GET)
        w->audit_open--;
}

static void on_message(void *context, struct jsclient *c, const struct jsmessage *m)
{
    struct work *w = context;
    if (m->sid >= JSCLIENT_PUSH_SID || bytes_starts_with(m->reply, BYTES_LITERAL("$JS.ACK.")))
        on_delivery(w, c, m);
    else
        on_answer(w, c, m);
}

/* --- steps ---------------------------------------------------------------------------------- */

static void step(struct work *w)
{
    struct server *s = &w->server;
    (void)server_step(s);
    w->ledger.now_ns = s->clock.now_ns;
    if (w->full_until_ns != 0 && s->clock.now_ns >= w->full_until_ns) {
        w->store.disk.capacity_bytes = 0;
        w->full_until_ns = 0;
    }
    for (uint32_t i = 0; i < s->shard_count; i++)
        for (uint32_t k = 0; k < s->shards[i].shard->jet_count; k++)
            w->counts->held += !list_is_empty(&s->shards[i].shard->jets[k]->held);
    for (uint32_t i = 0; i <= CLIENTS_MAX; i++) {
        jsclient_read(&w->clients[i]);
        jsclient_flush(&w->clients[i]);
        if (!w->clients[i].is_over) continue;
        jsledger_wrong(&w->ledger, "client %u was closed", i);
        w->clients[i].is_over = false;
    }
}

static bool link_up(struct work *w, uint32_t index)
{
    struct jsclient *c = &w->clients[index];
    if (!jsclient_connect(c, &w->server, ++w->connections)) return false;
    for (uint32_t slot = 0; slot < JSLEDGER_SLOTS; slot++)
        if (index < w->client_count && slot % w->client_count == index && consumers_of[slot] > 1) {
            char subject[16];
            snprintf(subject, sizeof subject, "D.%u", slot);
            jsclient_subscribe(c, subject, JSCLIENT_PUSH_SID + slot);
        }
    uint64_t limit = w->server.clock.now_ns + WAIT_NS;
    while (!c->is_ready && w->server.clock.now_ns < limit) step(w);
    if (!c->is_ready) jsledger_wrong(&w->ledger, "client %u cannot connect", index);
    return c->is_ready;
}

/* Everything that every stream shows is read and judged. */
static void audit(struct work *w)
{
    struct jsclient *c = &w->clients[AUDITOR];
    for (uint32_t slot = 0; slot < JSLEDGER_SLOTS; slot++) {
        jsledger_audit_begin(&w->ledger, slot);
        w->streams[slot].was_seen = false;
        w->audit_open++;
        api(c, "STREAM.INFO", slot, "", open_request(w, REQUEST_INFO, slot),
            w->is_rested ? "{\"deleted_details\":true}" : "");
        uint32_t count = slot == MORE_SLOT && has_more(w) ? MORE + 1 : consumers_of[slot];
        for (uint32_t n = 0; n < count; n++) {
            char behind[16];
            uint32_t inbox = open_request(w, REQUEST_CONSUMER_INFO, slot);
            snprintf(behind, sizeof behind, ".%s", consumer_names[n]);
            w->requests[inbox].consumer = (uint8_t)n;
            w->audit_open++;
            api(c, "CONSUMER.INFO", slot, behind, inbox, "");
        }
    }
    jsclient_flush(c); /* else time might pass first */
    uint64_t limit = w->server.clock.now_ns + WAIT_NS;
    while (w->audit_open > 0 && w->server.clock.now_ns < limit) step(w);
    if (w->audit_open > 0)
        jsledger_wrong(&w->ledger, "%u questions of an audit stay without answer", w->audit_open);
    for (uint32_t slot = 0; slot < JSLEDGER_SLOTS; slot++) {
        const struct stream_of_work *x = &w->streams[slot];
        if (x->was_seen) jsledger_audit_end(&w->ledger, slot, x->last, x->messages);
    }
}

/* Messages that a limit removed are back, no more of them than it allows: see jsledger_seen. Those
 * that are over have their markers instead. */
static bool is_back_within_limit(struct work *w, uint32_t slot, const char *was, const char *is)
{
    struct bytes before = bytes_from_text(was), after = bytes_from_text(is);
    const struct jsledger_slot *s = slot_of(w, slot);
    uint64_t more =
        jsclient_number(after, "\"last_seq\":") - jsclient_number(before, "\"last_seq\":");
    /* The reading judges each of them. */
    if (s->lives.is_on)
        return jsclient_number(after, "\"messages\":") > jsclient_number(before, "\"messages\":") &&
               more <= s->new_markers;
    return s->max_msgs != UINT64_MAX && jsclient_number(after, "\"messages\":") <= s->max_msgs &&
           jsclient_number(after, "\"first_seq\":") < jsclient_number(before, "\"first_seq\":") &&
           more == 0;
}

static void tell_difference(struct work *w, uint32_t slot, uint32_t which, const char *was,
                            const char *is)
{
    size_t n = 0;
    while (was[n] == is[n]) n++;
    n -= n < SAID_BEFORE ? n : SAID_BEFORE;
    jsledger_wrong(&w->ledger, "S%u%s%s at rest, and after a start:\n%.*s\n%.*s", slot,
                   which == 0 ? "" : ", ", which == 0 ? "" : consumer_names[which - 1], SAID_TOLD,
                   was + n, SAID_TOLD, is + n);
}

/* Those messages that are back and were not acked are pending again, and the floor lies before
 * them: a limit that removes a message leaves no record. */
static void forget_pending_again(struct work *w, uint32_t slot, char *was, char *is)
{
    static const char messages[] = "\"messages\":", pending[] = "\"num_ack_pending\":",
                      floor[] = "\"ack_floor\":{\"consumer_seq\":";
    struct bytes before = bytes_from_text(was), after = bytes_from_text(is);
    uint64_t back = jsclient_number(bytes_from_text(w->said[slot][0]), messages) -
                    jsclient_number(bytes_from_text(w->rested[slot][0]), messages);
    uint64_t more = jsclient_number(after, pending) - jsclient_number(before, pending);
    bool is_lower = jsclient_number(after, floor) < jsclient_number(before, floor);
    if (more == 0 || more > back || back > JSLEDGER_SEQS_MAX || !is_lower) return;
    char *texts[] = {was, is};
    for (int i = 0; i < 2; i++) {
        cut_out(texts[i], pending);
        cut_out(texts[i], "\"num_redelivered\":");
        cut_out_to(texts[i], floor, "}");
    }
}

/* Nothing was under way: what was said must be said again. */
static void compare_said(struct work *w)
{
    static const char pending[] = "\"num_pending\":", first_seq[] = "\"first_seq\":";
    bool is_back = false;
    for (uint32_t slot = 0; slot < JSLEDGER_SLOTS; slot++)
        for (uint32_t i = 0; i < SAID_MAX; i++) {
            char *was = w->rested[slot][i], *is = w->said[slot][i];
            if (i == 0) is_back = false;
            if (was == NULL || is == NULL || strcmp(was, is) == 0) continue;
            if (i == 0) is_back = is_back_within_limit(w, slot, was, is);
            if (i == 0 && is_back) continue;
            if (is_back) { /* there is as much more to deliver, and it lies before the old first */
                uint64_t first = jsclient_number(bytes_from_text(w->rested[slot][0]), first_seq);
                cut_out(was, pending);
                cut_out(is, pending);
                if (has_passed(w, slot)) cut_out_passed(is, first);
                forget_pending_again(w, slot, was, is);
                if (strcmp(was, is) == 0) continue;
            }
            tell_difference(w, slot, i, was, is);
        }
    w->is_rested = false;
}

/* --- lives ---------------------------------------------------------------------------------- */

static const char *const conf = "jetstream: enabled\nwrite_deadline: \"10s\"\n";

static bool start(struct work *w, bool is_hostile)
{
    struct server_config config = {.seed = rng_next(&w->rng),
                                   .net_seed = rng_next(&w->rng),
                                   .ring_bytes = 65536,
                                   .conf = conf,
                                   .is_hostile = is_hostile,
                                   .is_crowded = w->config->seed % CROWDED_ONE_IN == 0,
                                   .store = &w->store,
                                   .start_ns = w->ledger.now_ns};
    config.shard_count = 2 + below(w, 2);
    while (below(w, 4) == 0) {
        struct server_config cut = config;
        cut.recovery_steps = 1 + below(w, 40);
        w->store.disk.fate = (struct disk_fate){.kind = DISK_FATE_RANDOM};
        if (server_open(&w->server, &cut)) goto opened;
        w->counts->cuts_in_recovery++;
    }
    if (!server_open(&w->server, &config)) {
        jsledger_wrong(&w->ledger, "the store does not open");
        return false;
    }
opened:
    w->is_up = true;
    w->server.is_verbose = w->config->is_verbose;
    w->ledger.life++;
    w->counts->starts++;
    w->audit_open = 0;
    uint64_t limit = w->server.clock.now_ns + WAIT_NS;
    while (!simstore_is_ready(&w->store) && w->server.clock.now_ns < limit) step(w);
    if (!simstore_is_ready(&w->store)) jsledger_wrong(&w->ledger, "the log does not open");
    if (!link_up(w, AUDITOR)) return false;
    audit(w);
    if (w->is_rested) compare_said(w);
    for (uint32_t slot = 0; slot < JSLEDGER_SLOTS; slot++) {
        struct stream_of_work *x = &w->streams[slot];
        x->pending = 0;
        x->was_deleted = false;
        x->is_confirmed = x->was_seen;
        x->state = x->was_seen ? STREAM_CONSUMERS : STREAM_NONE;
        slot_of(w, slot)->is_purging = false;
    }
    for (uint32_t i = 0; i < w->client_count; i++)
        if (!link_up(w, i)) return false;
    return true;
}

static void forget_all(struct work *w)
{
    w->hash = (w->hash ^ w->server.hash) * 1099511628211u;
    w->counts->simulated_ns += w->server.clock.now_ns;
    w->counts->outbox_full += w->server.outbox_full;
    for (uint32_t i = 0; i <= CLIENTS_MAX; i++) jsclient_forget(&w->clients[i]);
    for (uint32_t i = 0; i < w->request_count; i++) {
        struct request *r = &w->requests[i];
        if (r->is_open && r->kind == REQUEST_PUBLISH) jsledger_lost(&w->ledger, r->entry);
        if (r->is_open && (r->kind == REQUEST_PURGE || r->is_rollup))
            jsledger_purged(&w->ledger, r->slot, false);
        r->is_open = false;
    }
    w->request_count = 0;
    w->is_up = false;
}

static void mend_disk(struct work *w)
{
    struct disk *d = &w->store.disk;
    d->capacity_bytes = 0;
    w->full_until_ns = 0;
    d->faults = (struct disk_faults){.writes = d->faults.writes, .flushes = d->faults.flushes};
}

static void cut_power(struct work *w)
{
    struct disk *d = &w->store.disk;
    uint32_t count = disk_volatile_count(d);
    d->fate.kind = (enum disk_fate_kind)below(w, DISK_FATE_TORN + 1);
    d->fate.index = count == 0 ? 0 : below(w, count);
    uint64_t *counts[] = {&w->counts->cuts_random, &w->counts->cuts_none,    &w->counts->cuts_all,
                          &w->counts->cuts_prefix, &w->counts->cuts_missing, &w->counts->cuts_torn};
    (*counts[d->fate.kind])++;
    w->counts->read_only += simstore_is_read_only(&w->store);
    for (uint32_t i = 0; i < w->server.shard_count; i++) {
        w->counts->log_stalls += w->server.shards[i].shard->rare.log_stalls;
        w->counts->log_stalls_mailed += w->server.shards[i].shard->rare.log_stalls_mailed;
    }
    server_crash(&w->server);
    mend_disk(w);
    forget_all(w);
}

static void plan_fault(struct work *w)
{
    struct disk *d = &w->store.disk;
    switch (below(w, 3)) {
    case 0:
        d->faults.write_error_at = d->faults.writes + 1 + below(w, 6);
        d->faults.write_errors = 1 + below(w, 4);
        break;
    case 1: d->faults.flush_error_at = d->faults.flushes + 1 + below(w, 3); break;
    default:
        d->capacity_bytes = 1; /* nothing grows any more */
        w->full_until_ns = w->server.clock.now_ns + below(w, DISK_FULL_NS);
        break;
    }
}

static void operate(struct work *w, struct jsclient *c)
{
    uint32_t slot = below(w, JSLEDGER_SLOTS), what = below(w, 100);
    struct stream_of_work *x = &w->streams[slot];
    w->ops++;
    w->counts->ops++;
    if (x->state == STREAM_NONE) create(w, c, slot);
    if (x->state == STREAM_CONSUMERS) create_consumer(w, c, slot);
    if (x->state != STREAM_READY) return;
    if (slot == MORE_SLOT && has_more(w) && rng_below(&w->calm, MORE_OPS) == 0) change_more(w, c);
    if (what < 60) {
        for (uint32_t n = 1 + below(w, 4); n > 0 && x->pending < PENDING_MAX; n--)
            publish(w, c, slot);
    } else if (what < 85) {
        pull(w, c, slot);
    } else if (what < 92) {
        erase(w, c, slot);
    } else if (what < 94) {
        if (is_rare(w)) purge(w, c, slot);
    } else if (what < 97) {
        update(w, c, slot);
    } else if (what < 98) {
        delete_stream(w, c, slot);
    } else if (what < 99) {
        reset(w, c, slot, 0);
    } else if (below(w, 20) == 0) {
        plan_fault(w);
    }
}

static void on_time(void *work, uint64_t unused)
{
    (void)work;
    (void)unused;
}

/* An alarm of its own: else time would pass over it where the server has nothing to do. */
static void wait_for(struct work *w, uint64_t ns)
{
    w->next_op_ns = w->server.clock.now_ns + ns;
    clock_set(&w->server.clock, ns, on_time, w, 0);
}

/* Until shortly before the end of a life, where one of the newest ends soon; else nothing. */
static uint64_t choose_pause(struct work *w)
{
    const struct jsledger *l = &w->ledger;
    uint32_t from = l->entry_count > PAUSE_BACK ? l->entry_count - PAUSE_BACK : 0;
    if (!has_lives(w) || l->entry_count == 0 || rng_below(&w->calm, PAUSE_OPS) != 0) return 0;
    for (uint32_t i = from + rng_below(&w->calm, l->entry_count - from); i < l->entry_count; i++) {
        const struct jsledger_entry *e = &l->entries[i];
        const struct jsledger_slot *s = &l->slots[e->slot];
        uint64_t end = jslives_earliest_ns(l, e);
        if (e->incarnation != s->incarnation || end <= l->now_ns + PAUSE_NS) continue;
        if (end > l->now_ns + PAUSE_MAX_NS) continue;
        w->counts->pauses++;
        return end - l->now_ns - rng_below(&w->calm, PAUSE_NS);
    }
    return 0;
}

/* Until the power fails, or everything is done. */
static void live(struct work *w, uint32_t ops)
{
    uint32_t until = w->ops + ops;
    w->next_op_ns = w->server.clock.now_ns;
    while (w->ops < until && w->ledger.errors == 0) {
        step(w);
        if (w->server.clock.now_ns < w->next_op_ns) continue;
        uint64_t pause = choose_pause(w);
        wait_for(w, pause + below(w, 2 * TICK_NS));
        operate(w, &w->clients[below(w, w->client_count)]);
        if (simstore_is_read_only(&w->store) && until > w->ops + 30) until = w->ops + 30;
    }
    /* Not only between two operations. */
    for (uint32_t n = below(w, 40); n > 0; n--) step(w);
}

/* The first request from `from` on that must be answered and is not; request_count: none. */
static uint32_t next_unanswered(const struct work *w, uint32_t from)
{
    for (; from < w->request_count; from++) {
        const struct request *r = &w->requests[from];
        /* An ack of what is to come again since a reset has no answer. */
        bool may_stay = r->kind == REQUEST_PULL ||
                        (r->kind == REQUEST_ACK && w->ledger.slots[r->slot].was_reset != 0);
        if (r->is_open && !may_stay) return from;
    }
    return from;
}

/* Faults are over: everything must be answered, and what is to be consumed is. */
static void drain(struct work *w)
{
    uint64_t limit = w->server.clock.now_ns + DRAIN_NS;
    bool is_done = false;
    uint32_t looks = 0;
    w->is_draining = true;
    w->is_more_gone = false;
    while (!is_done && w->server.clock.now_ns < limit) {
        wait_for(w, LOOK_NS);
        for (uint32_t slot = 0; slot < JSLEDGER_SLOTS; slot++) {
            struct jsclient *c = &w->clients[0];
            struct stream_of_work *x = &w->streams[slot];
            x->messages = UINT64_MAX;
            if (x->state == STREAM_NONE) create(w, c, slot);
            if (x->state == STREAM_CONSUMERS) create_consumer(w, c, slot);
            if (x->state != STREAM_READY) continue;
            if (slot == MORE_SLOT && has_more(w)) end_more(w, c);
            if (slot == 1 && slot_of(w, slot)->was_reset != 0 && looks % RESET_LOOKS == 0)
                reset(w, c, slot, 1);
            for (int i = 0; i < 6; i++) pull(w, c, slot);
            api(c, "STREAM.INFO", slot, "", open_request(w, REQUEST_LOOK, slot), "");
        }
        looks++;
        while (w->server.clock.now_ns < w->next_op_ns) step(w);
        is_done = w->streams[1].messages == 0 && w->streams[2].messages == 0;
        is_done = is_done && (w->is_more_gone || !has_more(w));
        for (uint32_t slot = 0; slot < JSLEDGER_SLOTS; slot++)
            is_done = is_done && w->streams[slot].state == STREAM_READY;
    }
    if (!is_done)
        jsledger_wrong(&w->ledger, "messages stay: %llu in S1, %llu in S2",
                       (unsigned long long)w->streams[1].messages,
                       (unsigned long long)w->streams[2].messages);
    /* The last look may have brought messages whose acks are under way. */
    limit = w->server.clock.now_ns + WAIT_NS;
    while (next_unanswered(w, 0) < w->request_count && w->server.clock.now_ns < limit) {
        wait_for(w, TICK_NS);
        while (w->server.clock.now_ns < w->next_op_ns) step(w);
    }
    for (uint32_t i = 0; (i = next_unanswered(w, i)) < w->request_count; i++)
        jsledger_wrong(&w->ledger, "request %u of kind %u to S%u has no answer", i,
                       w->requests[i].kind, w->requests[i].slot);
    if (is_done) slot_of(w, MORE_SLOT)->is_kept = false;
    w->is_draining = false;
}

static bool has_open_request(const struct work *w)
{
    for (uint32_t i = 0; i < w->request_count; i++)
        if (w->requests[i].is_open && w->requests[i].kind != REQUEST_PULL &&
            w->requests[i].kind != REQUEST_ACK)
            return true;
    return false;
}

/* What consumers did, or that they ended, is not on disk: a log has no room, or there are writes
 * under way. */
static bool has_unsaved(const struct work *w)
{
    for (uint32_t i = 0; i < w->server.shard_count; i++) {
        const struct shard *s = w->server.shards[i].shard;
        for (uint32_t k = 0; k < s->jet_count; k++)
            if (!list_is_empty(&s->jets[k]->deliver.unsaved) ||
                !list_is_empty(&s->jets[k]->deliver.flights) ||
                !list_is_empty(&s->jets[k]->js->ends) || !list_is_empty(&s->jets[k]->js->ends_lost))
                return true;
    }
    return false;
}

/* All is answered, the clients go, and what they left runs out. Then all streams and consumers say
 * what they are. Nothing of it if a log takes no records any more. */
static void rest(struct work *w)
{
    uint64_t limit = w->server.clock.now_ns + WAIT_NS;
    while (has_open_request(w) && w->server.clock.now_ns < limit) {
        wait_for(w, TICK_NS);
        step(w);
    }
    for (uint32_t i = 0; i < w->client_count; i++) {
        if (w->clients[i].link != NULL) net_reset(w->clients[i].link);
        jsclient_forget(&w->clients[i]);
    }
    wait_for(w, has_lives(w) ? LIVES_REST_NS : REST_NS);
    while (w->server.clock.now_ns < w->next_op_ns) step(w);
    /* A log without a segment makes one when the disk lets it, and tries that once a second. */
    limit = w->server.clock.now_ns + WAIT_NS;
    while (has_unsaved(w) && !simstore_is_read_only(&w->store) && w->server.clock.now_ns < limit) {
        wait_for(w, TICK_NS);
        step(w);
    }
    if (has_open_request(w) || simstore_is_read_only(&w->store)) return;
    if (has_unsaved(w)) jsledger_wrong(&w->ledger, "what consumers did is never stored");
    w->is_rested = true;
    audit(w);
    for (uint32_t slot = 0; slot < JSLEDGER_SLOTS; slot++)
        for (uint32_t i = 0; i < SAID_MAX; i++) free(w->rested[slot][i]);
    memcpy(w->rested, w->said, sizeof w->said);
    memset(w->said, 0, sizeof w->said);
    w->counts->rests++;
}

static bool stop(struct work *w)
{
    if (!server_close(&w->server)) {
        jsledger_wrong(&w->ledger, "it does not end");
        return false;
    }
    /* An end takes its time: what ended in it has ended. Elsewhere message ids would. */
    if (has_lives(w)) w->ledger.now_ns = w->server.clock.now_ns;
    mend_disk(w);
    forget_all(w);
    return true;
}

static void run_lives(struct work *w)
{
    bool is_hostile = below(w, 2) == 0;
    if (!start(w, is_hostile)) return;
    while (w->ops < w->config->ops && w->ledger.errors == 0) {
        live(w, 20 + below(w, below(w, 2) == 0 ? 60 : 800));
        if (rng_below(&w->calm, RESTS_ONE_IN) == 0) rest(w);
        if (!w->is_rested || rng_below(&w->calm, 2) == 0)
            cut_power(w);
        else if (!stop(w))
            return;
        if (!start(w, is_hostile)) return;
    }
    if (w->ledger.errors > 0) return;
    drain(w);
    audit(w);
    if (stop(w) && start(w, false)) audit(w);
}

void jswork_run(const struct jswork_config *config, struct jswork_counts *counts,
                struct jswork_result *result)
{
    struct work *w = calloc(1, sizeof *w);
    must(w != NULL);
    w->config = config;
    w->counts = counts;
    rng_init(&w->rng, config->seed);
    jsledger_init(&w->ledger, config->seed);
    rng_init(&w->calm, ~config->seed);
    simstore_init(&w->store, rng_next(&w->rng));
    w->store.frees = config->frees;
    w->store.is_relaxed = config->is_relaxed;
    w->client_count = 2 + below(w, CLIENTS_MAX - 1);
    for (uint32_t i = 0; i < JSLEDGER_SLOTS; i++) {
        w->ledger.slots[i].retention = (enum jsledger_retention)i;
        w->ledger.slots[i].consumers = consumers_of[i];
        w->ledger.slots[i].lives.is_on = has_lives(w) && i < LIVES_SLOTS;
        w->ledger.slots[i].lives.has_markers = has_lives(w) && i == 0 && config->seed % 2 == 0;
    }
    for (uint32_t i = 0; i <= CLIENTS_MAX; i++) jsclient_init(&w->clients[i], i, on_message, w);
    run_lives(w);
    if (w->is_up) {
        server_crash(&w->server);
        forget_all(w);
    }
    if (w->store.damaged > 0) jsledger_wrong(&w->ledger, "damage after a mere power cut");
    if (w->store.skipped > 0) jsledger_wrong(&w->ledger, "records that make no sense");
    counts->checkpoints += w->store.checkpoints;
    counts->pieces += w->store.pieces;
    counts->moves += w->store.moves;
    counts->packs_dropped += w->store.dropped;
    counts->packs_rewritten += w->store.rewritten;
    counts->cut_groups += w->store.cut_groups;
    counts->writes_failed += w->store.failures;
    counts->segments += w->store.segments;
    counts->lost_found += w->ledger.found_again;
    counts->lost_gone += w->ledger.never_found;
    counts->redeliveries += w->ledger.redeliveries;
    counts->expired += w->ledger.expired;
    counts->evicted += w->ledger.evicted;
    counts->markers += w->ledger.markers;
    *result = (struct jswork_result){.hash = w->hash, .errors = w->ledger.errors};
    for (uint32_t i = 0; i <= CLIENTS_MAX; i++) jsclient_deinit(&w->clients[i]);
    for (uint32_t slot = 0; slot < JSLEDGER_SLOTS; slot++)
        for (uint32_t i = 0; i < SAID_MAX; i++) {
            free(w->said[slot][i]);
            free(w->rested[slot][i]);
        }
    simstore_deinit(&w->store);
    free(w);
}
