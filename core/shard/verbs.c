/* The client protocol: what each verb does (spec: NATS client protocol as nats-server 2.15
 * speaks it). R2: a SUB or UNSUB is in the index before the next verb is parsed; a verb that
 * cannot be done now parks the connection with its bytes unparsed and is parsed again later, so
 * every verb checks first and changes something last. */
#include "core/base/must.h"
#include "core/route/subject.h"
#include "core/shard/internal.h"

enum {
    PING_FIRST_NS = 2000000000u, /* round-trip probe after CONNECT */
    CARRY_EAGER = 256 * 1024,    /* up to here the room is made at once */
    CARRY_FIRST = 512,           /* first room for a control line that was cut by a read */
    LINE_BLANKS_MAX = 8192,      /* beyond the control line itself: verb and blanks */
    SUBS_FEW = 16,               /* of a client in a step, though others had all that there are */
};
static const uint64_t RTT_REFRESH_NS = 3600ull * 1000000000ull;

enum verb_outcome { VERB_DONE, VERB_PARK, VERB_STOP };

static enum verb_outcome park(struct shard *s, struct client *c, enum park_reason reason)
{
    /* Its own verb may have closed it, as the receiver with the most output when memory is short.
     */
    if (c->state == CLIENT_CLOSING) return VERB_STOP;
    session_park(s, c, reason);
    return VERB_PARK;
}

/* --- INFO, PING, PONG ------------------------------------------------------------------------ */

void verbs_send_info(struct shard *s, struct client *c, bool is_connect_info)
{
    const struct options *o = s->options;
    bool has_tls = o->tls.is_on && !client_has(c, CLIENT_IS_UNIX);
    struct nats_info i = {.server_id = s->server->id,
                          .server_name = s->server->name,
                          .version = s->server->version,
                          .go = s->server->go,
                          .host = s->info_host,
                          .port = s->info_port,
                          .headers = !o->no_header_support,
                          .auth_required = o->accounts->info_auth_required,
                          .tls_required = has_tls && !o->allow_non_tls,
                          .tls_verify = has_tls && (o->tls.verify || o->tls.verify_and_map),
                          .tls_available = has_tls && o->allow_non_tls,
                          .max_payload =
                              c->account == NULL ? o->max_payload : c->limits.payload_max,
                          .jetstream = o->jetstream.is_on,
                          .client_id = c->cid,
                          .client_ip = bytes_of(c->ip, c->ip_len),
                          .nonce = bytes_of(c->nonce, strlen(c->nonce)),
                          .cluster = o->cluster_name,
                          .ldm = s->is_lame_duck,
                          .connect_info = is_connect_info,
                          .domain = o->jetstream.domain,
                          .xkey = s->server->xkey};
    if (is_connect_info) {
        i.remote_account = c->account->conf == NULL ? bytes_of(NULL, 0) : c->account->conf->name;
        i.is_system_account = c->account->number == o->accounts->system;
    }
    /* The operator may choose names of any length. */
    char near[NATS_INFO_BYTES_MAX];
    size_t names =
        i.server_name.len + i.host.len + i.cluster.len + i.remote_account.len + i.domain.len;
    size_t bytes = NATS_INFO_BYTES_MAX + names * NATS_INFO_BYTES_PER_CHAR;
    bool is_far = names > NATS_INFO_NAMES_NEAR;
    char *room = is_far ? mem_alloc(s->mem, MEM_CONNECTION, bytes) : near;
    if (room == NULL) {
        session_close(s, c, CLOSED_SLOW_PENDING, false);
        return;
    }
    struct writer w;
    writer_init(&w, room, is_far ? bytes : sizeof near);
    nats_write_info(&w, &i);
    must(!w.is_full);
    session_write(s, c, writer_written(&w));
    if (is_far) mem_free(s->mem, MEM_CONNECTION, room, bytes);
}

void verbs_pong(struct shard *s, struct client *c)
{
    session_trace(s, c, BYTES_LITERAL("PONG"));
    session_write(s, c, BYTES_LITERAL("PONG\r\n"));
    if (client_has(c, CLIENT_PONGED) || !client_has(c, CLIENT_CONNECTED)) return;
    c->flags |= CLIENT_PONGED;
    if (c->connect.protocol >= 1 && c->state != CLIENT_CLOSING) verbs_send_info(s, c, true);
}

void verbs_arm_ping(struct shard *s, struct client *c, bool is_first)
{
    uint64_t interval = (uint64_t)s->options->ping_interval_ns;
    if (is_first && interval > PING_FIRST_NS) interval = PING_FIRST_NS;
    /* Up to a fifth on top of the first, so that a crowd that came together does not ping together.
     */
    if (is_first && interval >= 5) interval += rng_next(&s->rng) % (interval / 5);
    wheel_arm(&s->wheel, &c->timer, s->now.mono_ns + interval);
}

void verbs_timer(struct shard *s, struct client *c)
{
    if (c->state == CLIENT_CLOSING) return;
    if (c->state != CLIENT_OPEN) {
        if (c->state == CLIENT_HANDSHAKE) return; /* io has its own deadline for the handshake */
        s->counts.auth_timeouts++;
        session_log(s, c, LOG_LEVEL_ERR, "authentication timeout");
        session_error(s, c, NATS_ERR_LINE("Authentication Timeout"));
        system_auth_failed(s, c, CLOSED_AUTH_TIMEOUT);
        session_close(s, c, CLOSED_AUTH_TIMEOUT, true);
        return;
    }
    uint64_t interval = (uint64_t)s->options->ping_interval_ns;
    bool wants_rtt =
        c->rtt_ns == 0 || s->now.mono_ns - c->ping_sent_ns > RTT_REFRESH_NS || !c->has_pinged;
    bool is_idle = s->now.mono_ns - c->active_ns >= interval;
    /* A parked publisher is our doing, not its silence (R5a). */
    if ((is_idle || wants_rtt) && c->park == 0) {
        if (c->pings_out + 1 > s->options->ping_max && is_idle) {
            session_log(s, c, LOG_LEVEL_DBG, "Stale Client Connection - Closing");
            session_error(s, c, NATS_ERR_LINE("Stale Connection"));
            session_close(s, c, CLOSED_STALE, true);
            return;
        }
        if (c->pings_out < UINT8_MAX) c->pings_out++;
        c->has_pinged = true;
        c->ping_sent_ns = s->now.mono_ns;
        session_trace(s, c, BYTES_LITERAL("PING"));
        session_write(s, c, BYTES_LITERAL("PING\r\n"));
    }
    if (c->state != CLIENT_CLOSING) wheel_arm(&s->wheel, &c->timer, s->now.mono_ns + interval);
}

static enum verb_outcome on_ping(struct shard *s, struct client *c)
{
    if (fence_is_full(c)) return park(s, c, PARK_PINGS);
    fence_ping(s, c);
    return VERB_DONE;
}

static void on_pong(struct shard *s, struct client *c)
{
    c->pings_out = 0;
    if (c->has_pinged && c->ping_sent_ns > 0) c->rtt_ns = s->now.mono_ns - c->ping_sent_ns;
}

static void reply_ok(struct shard *s, struct client *c)
{
    if (!client_has(c, CLIENT_VERBOSE)) return;
    session_trace(s, c, BYTES_LITERAL("+OK"));
    session_reply(s, c, BYTES_LITERAL("+OK\r\n"));
}

/* --- subscriptions ---------------------------------------------------------------------------- */

/* "-ERR 'Permissions Violation for <what> "<subject>"<rest>'" */
static void violation(struct shard *s, struct client *c, const char *what, struct bytes subject,
                      struct bytes queue, const char *rest)
{
    char room[4 * 4096 * 2 + 256];
    struct writer w;
    writer_init(&w, room, sizeof room);
    writer_text(&w, "-ERR 'Permissions Violation for ");
    writer_text(&w, what);
    writer_char(&w, ' ');
    writer_quoted(&w, subject);
    if (queue.len > 0) {
        writer_text(&w, " using queue ");
        writer_quoted(&w, queue);
    }
    writer_text(&w, rest);
    writer_text(&w, "'\r\n");
    if (!w.is_full) session_error(s, c, writer_written(&w));
}

/* The lines of nats-server, which are others than what the client gets. */
static void log_publish_violation(struct shard *s, const struct client *c, const char *what,
                                  struct bytes subject)
{
    struct writer *w = session_log_open(s, c);
    writer_text(w, "Publish Violation - ");
    writer_text(w, what);
    writer_char(w, ' ');
    writer_quoted(w, subject);
    session_log_close(s, LOG_LEVEL_ERR);
}

static void log_sub_violation(struct shard *s, const struct client *c, const struct nats_op *op,
                              bool is_too_long)
{
    struct writer *w = session_log_open(s, c);
    writer_text(w, "Subscription Violation ");
    if (is_too_long) writer_text(w, "Too Many Tokens ");
    writer_text(w, "- Subject ");
    writer_quoted(w, op->subject);
    if (op->queue.len > 0 && !is_too_long) {
        writer_text(w, ", Queue: ");
        writer_quoted(w, op->queue);
    }
    writer_text(w, ", SID ");
    writer_bytes(w, op->sid);
    session_log_close(s, LOG_LEVEL_ERR);
}

/* A subscription that a reload took away: `Removed sub "x" using queue "q" (sid "2") for User "joe"
 * - not authorized`. */
static void log_removed_sub(struct shard *s, const struct client *c, struct bytes filter,
                            struct bytes queue, struct bytes sid)
{
    struct writer *w = session_log_open(s, NULL);
    bool has_nkey = c->connect.nkey.len > 0;
    bool is_token = login_options_is_token(&c->connect, c->user_name);
    writer_text(w, "Removed sub ");
    writer_quoted(w, filter);
    if (queue.len > 0) {
        writer_text(w, " using queue ");
        writer_quoted(w, queue);
    }
    writer_text(w, " (sid ");
    writer_quoted(w, sid);
    writer_text(w, has_nkey ? ") for Nkey " : is_token ? ") for Token " : ") for User ");
    writer_quoted(w, c->user_name.len > 0 ? c->user_name : BYTES_LITERAL("N/A"));
    writer_text(w, " - not authorized");
    session_log_close(s, LOG_LEVEL_INF);
}

bool verbs_may_deliver(struct shard *s, struct client *c, struct sub *sub, struct bytes subject)
{
    if ((sub->flags & CLIENT_SUB_FLAG_FILTERED) == 0) return true;
    char room[2 * 4096 + 64];
    struct bytes filter, queue;
    if (interest_filter_of(s->interest, sub, room, sizeof room, &filter, &queue) != ERR_OK)
        return false;
    return perms_may_deliver(c->perms, subject, queue);
}

void verbs_allow_reply(struct shard *s, struct client *c, struct bytes reply)
{
    if (perms_may_publish(c->perms, reply)) return;
    /* ERR_MEMORY, ERR_TOO_LONG: the permission is not given, the safe side. */
    (void)!perms_replies_add(c->replies, c->perms, reply, s->now.mono_ns);
}

/* No memory for a subscription: it waits, since others may go; but not for ever. */
static enum verb_outcome sub_without_memory(struct shard *s, struct client *c)
{
    if (!pressure_is_lasting(s)) return park(s, c, PARK_MEMORY);
    session_error(s, c, NATS_ERR_LINE("maximum subscriptions exceeded"));
    return c->state == CLIENT_CLOSING ? VERB_STOP : VERB_DONE;
}

static enum verb_outcome on_sub(struct shard *s, struct client *c, const struct nats_op *op)
{
    bool is_valid = subject_is_valid(op->subject);
    enum perms_verdict verdict = PERMS_ALLOWED;
    if (c->perms != NULL && is_valid)
        verdict = perms_may_subscribe(c->perms, op->subject, op->queue);
    if (verdict == PERMS_DENIED || bytes_equal(op->queue, BYTES_LITERAL("_sys_"))) {
        violation(s, c, "Subscription to", op->subject, op->queue, "");
        log_sub_violation(s, c, op, false);
        return VERB_DONE;
    }
    if (s->options->max_sub_tokens > 0 &&
        subject_token_count(op->subject) > s->options->max_sub_tokens) {
        violation(s, c, "Subscription to", op->subject, bytes_of(NULL, 0), ", too many tokens");
        log_sub_violation(s, c, op, true);
        return VERB_DONE;
    }
    if (c->subs_max >= 0 && (int64_t)c->sub_count >= c->subs_max) {
        session_error(s, c, NATS_ERR_LINE("maximum subscriptions exceeded"));
        return VERB_DONE;
    }
    if (client_find_sid(c, s->subs, op->sid) != 0) {
        reply_ok(s, c);
        return VERB_DONE;
    }
    if (!is_valid) {
        session_error(s, c, NATS_ERR_LINE("Invalid Subject"));
        return VERB_DONE;
    }
    uint32_t index;
    if (sub_acquire(s->subs, c, op->sid, &index) != ERR_OK) return sub_without_memory(s, c);
    if (client_add_sid(c, s->mem, s->subs, index) != ERR_OK) {
        sub_release(s->subs, index);
        return sub_without_memory(s, c);
    }
    if (verdict == PERMS_FILTERED) {
        sub_at(s->subs, index)->flags |= CLIENT_SUB_FLAG_FILTERED;
        c->flags |= CLIENT_SUB_FILTERED;
    }
    enum err e =
        interest_insert(s->interest, c->account->trie, s->index, op->subject, op->queue, index);
    if (e != ERR_OK) {
        client_remove_sid(c, s->subs, index);
        sub_release(s->subs, index);
        return e == ERR_BUSY ? park(s, c, PARK_INDEX) : sub_without_memory(s, c);
    }
    session_added_sub(s, c);
    session_interest_changed(s, c->account->number, op->subject);
    reply_ok(s, c);
    return VERB_DONE;
}

static void on_unsub(struct shard *s, struct client *c, const struct nats_op *op)
{
    uint32_t index = client_find_sid(c, s->subs, op->sid);
    reply_ok(s, c);
    if (index == 0 || c->state == CLIENT_CLOSING) return;
    struct sub *sub = sub_at(s->subs, index);
    if (op->max > 0 && (uint64_t)op->max > sub->delivered)
        sub->max = (uint64_t)op->max;
    else
        session_drop_sub(s, c, index);
}

/* After a reload: subscriptions that are no longer allowed go, with the line that says so. */
void verbs_recheck_subs(struct shard *s, struct client *c)
{
    uint32_t count = 0;
    if (c->sub_count == 0) return;
    if (c->subs_max >= 0 && (int64_t)c->sub_count > c->subs_max) {
        session_error(s, c, NATS_ERR_LINE("maximum subscriptions exceeded"));
        session_close(s, c, CLOSED_MAX_SUBSCRIPTIONS, true);
        return;
    }
    uint32_t *lost = mem_alloc(s->mem, MEM_CONNECTION, c->sub_count * sizeof *lost);
    size_t lost_bytes = c->sub_count * sizeof *lost;
    if (lost == NULL) {
        session_close(s, c, CLOSED_REVOKED, false); /* rights that cannot be checked are not kept */
        return;
    }
    char room[2 * 4096 + 64];
    struct bytes filter, queue;
    c->flags &= ~(uint32_t)CLIENT_SUB_FILTERED;
    for (uint32_t b = 0; b <= c->sid_mask; b++) {
        for (uint32_t i = c->sids[b]; i != 0; i = sub_at(s->subs, i)->sid_next) {
            struct sub *sub = sub_at(s->subs, i);
            enum perms_verdict v = PERMS_DENIED;
            if (interest_filter_of(s->interest, sub, room, sizeof room, &filter, &queue) == ERR_OK)
                v = c->perms == NULL ? PERMS_ALLOWED : perms_may_subscribe(c->perms, filter, queue);
            sub->flags &= (uint8_t)~CLIENT_SUB_FLAG_FILTERED;
            if (v == PERMS_FILTERED) {
                sub->flags |= CLIENT_SUB_FLAG_FILTERED;
                c->flags |= CLIENT_SUB_FILTERED;
            }
            if (v == PERMS_DENIED) lost[count++] = i;
        }
    }
    for (uint32_t n = 0; n < count && c->state != CLIENT_CLOSING; n++) {
        struct sub *sub = sub_at(s->subs, lost[n]);
        char sid_room[256];
        struct writer w;
        writer_init(&w, sid_room, sizeof sid_room);
        writer_text(&w, " (sid ");
        writer_quoted(&w, sub_sid(sub));
        writer_text(&w, ")");
        writer_bytes(&w, bytes_of("", 1));
        if (!w.is_full &&
            interest_filter_of(s->interest, sub, room, sizeof room, &filter, &queue) == ERR_OK) {
            violation(s, c, "Subscription to", filter, queue, sid_room);
            log_removed_sub(s, c, filter, queue, sub_sid(sub));
        }
        if (c->state != CLIENT_CLOSING) session_drop_sub(s, c, lost[n]);
    }
    mem_free(s->mem, MEM_CONNECTION, lost, lost_bytes);
}

/* --- publish ------------------------------------------------------------------------------------
 */

static bool is_reserved_reply(struct bytes reply)
{
    if (reply.data[0] != '_' && reply.data[0] != '$') return false;
    return bytes_starts_with(reply, BYTES_LITERAL("_R_.")) ||
           bytes_starts_with(reply, BYTES_LITERAL("_GR_.")) ||
           bytes_starts_with(reply, BYTES_LITERAL("$JS.ACK."));
}

static bool is_reserved_subject(const struct shard *s, const struct client *c, struct bytes subject)
{
    if (subject.data[0] != '_' && subject.data[0] != '$') return false;
    if (bytes_starts_with(subject, BYTES_LITERAL("$NRG.")))
        return c->account->number != s->options->accounts->system;
    return bytes_starts_with(subject, BYTES_LITERAL("_GR_.")) ||
           bytes_starts_with(subject, BYTES_LITERAL("$GR."));
}

static bool may_publish(struct shard *s, struct client *c, struct bytes subject)
{
    if (perms_may_publish(c->perms, subject)) return true;
    return c->replies != NULL && perms_replies_take(c->replies, c->perms, subject, s->now.mono_ns);
}

static void count_in(struct shard *s, struct client *c, uint32_t bytes)
{
    c->in.msgs++;
    c->in.bytes += bytes;
    s->counts.in.msgs++;
    s->counts.in.bytes += bytes;
    c->account->counts.received.msgs++;
    c->account->counts.received.bytes += bytes;
}

static void trace_publish(struct shard *s, struct client *c, const struct nats_op *op)
{
    if (LIKELY(!s->options->trace)) return;
    struct writer *w = session_log_open(s, c);
    writer_text(w, op->has_headers ? "<<- [HPUB " : "<<- [PUB ");
    writer_bytes(w, op->subject);
    if (op->reply.len > 0) {
        writer_char(w, ' ');
        writer_bytes(w, op->reply);
    }
    if (op->has_headers) {
        writer_char(w, ' ');
        writer_u64(w, op->header_bytes);
    }
    writer_char(w, ' ');
    writer_u64(w, op->total_bytes);
    writer_char(w, ']');
    session_log_close(s, LOG_LEVEL_TRC);
    session_trace_payload(s, c, bytes_of(op->payload, op->total_bytes), op->header_bytes, false);
}

/* op with the subject that the account's mappings left of it. */
static enum verb_outcome publish(struct shard *s, struct client *c, const struct nats_op *op,
                                 struct bytes subject, bool is_lost, struct block *block)
{
    bool is_retry = c->is_retrying;
    c->is_retrying = false;
    /* A mapping with weights may choose anew: its choice is checked each time. */
    bool is_checked = is_retry && subject.data == op->subject.data;
    if (UNLIKELY(client_has(c, CLIENT_PUB_CHECKED)) && !is_checked && !may_publish(s, c, subject)) {
        count_in(s, c, op->total_bytes);
        violation(s, c, "Publish to", subject, bytes_of(NULL, 0), "");
        log_publish_violation(s, c, "Subject", subject);
        return VERB_DONE;
    }
    if (UNLIKELY(is_reserved_subject(s, c, subject))) {
        count_in(s, c, op->total_bytes);
        violation(s, c, "Publish to", subject, bytes_of(NULL, 0), "");
        log_publish_violation(s, c, "Subject", subject);
        return VERB_DONE;
    }
    if (op->reply.len > 0 && UNLIKELY(is_reserved_reply(op->reply))) {
        count_in(s, c, op->total_bytes);
        violation(s, c, "Publish with Reply of", op->reply, bytes_of(NULL, 0), "");
        log_publish_violation(s, c, "Reply", op->reply);
        return VERB_DONE;
    }
    if (!is_retry) {
        trace_publish(s, c, op);
        reply_ok(s, c);
        if (UNLIKELY(c->state == CLIENT_CLOSING)) return VERB_STOP;
    }
    struct message m = {.account = c->account,
                        .subject = subject,
                        .reply = op->reply,
                        .header_bytes = op->header_bytes,
                        .total_bytes = op->total_bytes,
                        .has_headers = op->has_headers,
                        .is_no_echo = !client_has(c, CLIENT_ECHO),
                        .payload = op->payload,
                        .tail = op->tail,
                        .block = block,
                        .origin = c->id,
                        .origin_shard = s->index};
    bool wants_word = op->reply.len > 0 && client_has(c, CLIENT_NO_RESPONDERS);
    enum park_reason reason;
    enum fanout_result result = FANOUT_NOBODY;
    if (!is_lost) result = fanout_publish(s, &m, wants_word ? c : NULL, &reason);
    if (UNLIKELY(result == FANOUT_PARK)) {
        c->is_retrying = true;
        return park(s, c, reason);
    }
    count_in(s, c, op->total_bytes);
    if (UNLIKELY(subject.data[0] == '$') && system_takes(s, c, &m)) result = FANOUT_DELIVERED;
    if (result == FANOUT_NOBODY && wants_word) fanout_no_responders(s, c, subject, op->reply);
    if (UNLIKELY(s->stall > c->stall_asked)) c->stall_asked = s->stall;
    s->stall = CLIENT_STALL_NONE;
    return c->state == CLIENT_CLOSING ? VERB_STOP : VERB_DONE;
}

/* A function of its own for its stack: a page of it, probed for each message, would cost 3 ns. */
static NOINLINE enum verb_outcome publish_mapped(struct shard *s, struct client *c,
                                                 const struct nats_op *op, struct block *block)
{
    char room[VERBS_MAPPED_MAX];
    struct bytes subject = op->subject;
    bool is_lost = !system_map_subject(s, c->account->conf->mappings, &subject, room, sizeof room);
    return publish(s, c, op, subject, is_lost, block);
}

static enum verb_outcome on_pub(struct shard *s, struct client *c, const struct nats_op *op,
                                struct block *block)
{
    if (UNLIKELY(client_has(c, CLIENT_PEDANTIC)) && !c->is_retrying &&
        !subject_is_literal(op->subject))
        session_error(s, c, NATS_ERR_LINE("Invalid Publish Subject"));
    if (UNLIKELY(c->account->conf != NULL && c->account->conf->mappings != NULL))
        return publish_mapped(s, c, op, block);
    return publish(s, c, op, op->subject, false, block);
}

static uint32_t stall_ns(enum client_stall why)
{
    switch (why) {
    case CLIENT_STALL_RECEIVER: return STALL_NS;
    case CLIENT_STALL_RECEIVER_FULL: return STALL_FULL_NS;
    default: return (uint32_t)STALL_NS << 2 * (why - CLIENT_STALL_LOG);
    }
}

/* R5b: a receiver, or the log of a stream, is congested: the publisher waits a little after this
 * message. For a receiver it does not wait for ever, since others get the message too; a log that
 * is behind has no use for more. */
static enum verb_outcome stall(struct shard *s, struct client *c)
{
    enum client_stall why = c->stall_asked;
    uint32_t ns = stall_ns(why);
    c->stall_asked = CLIENT_STALL_NONE;
    if (why < CLIENT_STALL_LOG) {
        if (c->stall_pass_ns + ns > STALL_PASS_NS) return VERB_DONE;
        c->stall_pass_ns += ns;
    } else {
        s->rare.log_stalls++;
    }
    s->counts.stalled_clients++;
    c->resume_ns = s->now.mono_ns + ns;
    enum verb_outcome outcome = park(s, c, PARK_CONGESTED);
    if (outcome == VERB_PARK) {
        list_remove(&c->parked);
        list_push(&s->stalled[why], &c->parked);
    }
    return outcome;
}

/* --- the loop over received bytes ------------------------------------------------------------ */

static void trace_op(struct shard *s, struct client *c, const char *data, size_t len,
                     enum nats_verb verb)
{
    if (LIKELY(!s->options->trace) || verb == NATS_PUB) return;
    struct writer *w = session_log_open(s, c);
    struct bytes line = bytes_trim(bytes_of(data, len));
    writer_text(w, "<<- [");
    /* A CONNECT may hold secrets: none of it is shown. */
    if (verb == NATS_CONNECT)
        writer_text(w, "CONNECT {[REDACTED]}");
    else
        writer_bytes(w, line);
    writer_char(w, ']');
    session_log_close(s, LOG_LEVEL_TRC);
}

static enum verb_outcome refuse(struct shard *s, struct client *c, enum nats_status status)
{
    enum closed_reason reason = CLOSED_PROTOCOL_VIOLATION;
    switch (status) {
    case NATS_BAD_VERB: session_error(s, c, NATS_ERR_LINE("Unknown Protocol Operation")); break;
    case NATS_LINE_LONG:
        reason = CLOSED_MAX_CONTROL_LINE;
        session_error(s, c, NATS_ERR_LINE("maximum control line exceeded"));
        break;
    case NATS_PAYLOAD_BIG:
        reason = CLOSED_MAX_PAYLOAD;
        session_error(s, c, NATS_ERR_LINE("Maximum Payload Violation"));
        break;
    default: break;
    }
    session_log(s, c, LOG_LEVEL_ERR, "Client parser ERROR");
    session_close(s, c, reason, true);
    return VERB_STOP;
}

/* The first byte of a verb decides whether a login comes first. */
static enum verb_outcome check_login(struct shard *s, struct client *c, char first)
{
    if (LIKELY(c->state == CLIENT_OPEN)) return VERB_DONE;
    if (c->state != CLIENT_GREETED) return VERB_PARK;
    if (first == 'C' || first == 'c') return VERB_DONE;
    switch (entry_implicit(s, c)) {
    case LOGIN_DONE: return VERB_DONE;
    case LOGIN_WAITS: return VERB_PARK;
    case LOGIN_CLOSED: break;
    }
    return VERB_STOP;
}

static enum verb_outcome run(struct shard *s, struct client *c, const struct nats_op *op,
                             struct block *block)
{
    switch (op->verb) {
    case NATS_PUB: return on_pub(s, c, op, block);
    case NATS_SUB: return on_sub(s, c, op);
    case NATS_UNSUB: on_unsub(s, c, op); break;
    case NATS_PING: return on_ping(s, c);
    case NATS_PONG: on_pong(s, c); break;
    case NATS_OK: break;
    case NATS_INFO: break;
    case NATS_ERR: session_close(s, c, CLOSED_PARSE_ERROR, true); return VERB_STOP;
    case NATS_CONNECT:
        switch (entry_connect(s, c, op->arg)) {
        case LOGIN_DONE: break;
        case LOGIN_WAITS: return VERB_DONE; /* consumed; the next verb waits */
        case LOGIN_CLOSED: return VERB_STOP;
        }
        break;
    }
    return c->state == CLIENT_CLOSING ? VERB_STOP : VERB_DONE;
}

/* Runs the operations in [data, data + len). Returns the bytes done with; *more tells why it
 * stopped: the rest is an incomplete operation of *need bytes (0 unknown), or must wait. */
/* An operation that was parsed, and how far it reaches. */
struct parsed {
    struct nats_op op;
    size_t used;
    enum nats_status status;
};

/* Parses the operation behind a PUB before that is run, and has the cache line of its route
 * fetched meanwhile: with many live subjects that line is far away (50 k: half of all time). A PUB
 * changes nothing that the parser looks at. Out of line: who repeats a subject does not pay. */
static NOINLINE void parse_ahead(const struct shard *s, const struct client *c, const char *data,
                                 size_t len, struct parsed *next)
{
    next->status = nats_parse(&c->limits, data, len, &next->op, &next->used);
    if (next->status == NATS_DONE && next->op.verb == NATS_PUB)
        route_cache_prefetch(s->routes, c->account->number, next->op.subject);
}

/* Others wait while a client subscribes to a million subjects. Whoever has only a few goes on. */
static bool has_had_its_turn(struct shard *s, struct client *c)
{
    if (c->subs_step != s->counts.turns) {
        c->subs_step = s->counts.turns;
        c->subs_in_step = 0;
    }
    if (s->subs_left == 0 && c->subs_in_step >= SUBS_FEW) return true;
    if (s->subs_left > 0) s->subs_left--;
    c->subs_in_step++;
    return false;
}

static size_t run_all(struct shard *s, struct client *c, const char *data, size_t len,
                      struct block *block, bool *is_incomplete, size_t *need)
{
    struct parsed parsed[2];
    uint32_t turn = 0;
    bool is_ahead = false;
    struct bytes subject = bytes_of(NULL, 0); /* of the last operation, if it was a PUB */
    size_t at = 0;
    *is_incomplete = false;
    while (at < len) {
        enum verb_outcome outcome = check_login(s, c, data[at]);
        if (outcome != VERB_DONE) return outcome == VERB_STOP ? len : at;
        struct parsed *p = &parsed[turn];
        if (!is_ahead) p->status = nats_parse(&c->limits, data + at, len - at, &p->op, &p->used);
        if (p->status == NATS_MORE || p->status == NATS_SKIP_MORE) {
            *is_incomplete = true;
            *need = p->status == NATS_MORE ? p->used : 0;
            c->carry_skip = p->status == NATS_SKIP_MORE ? (uint8_t)p->used : 0;
            return at;
        }
        if (UNLIKELY(p->status != NATS_DONE)) {
            refuse(s, c, p->status);
            return len;
        }
        size_t next = at + p->used;
        bool is_pub = p->op.verb == NATS_PUB;
        is_ahead =
            is_pub && next < len && subject.len > 0 && !bytes_equal_short(subject, p->op.subject);
        subject = is_pub ? p->op.subject : bytes_of(NULL, 0);
        if (is_ahead) {
            turn ^= 1;
            parse_ahead(s, c, data + next, len - next, &parsed[turn]);
        }
        if (UNLIKELY(p->op.verb == NATS_SUB || p->op.verb == NATS_UNSUB) &&
            has_had_its_turn(s, c)) {
            session_park(s, c, PARK_TURN);
            return at;
        }
        trace_op(s, c, data + at, p->used, p->op.verb);
        outcome = run(s, c, &p->op, block);
        if (outcome == VERB_STOP) return len;
        if (outcome == VERB_PARK) return at;
        at = next;
        if (UNLIKELY(c->stall_asked != CLIENT_STALL_NONE) && stall(s, c) == VERB_PARK) return at;
    }
    return at;
}

/* Keeps the first bytes of an incomplete operation. False: no memory (parked) or refused. */
static bool keep(struct shard *s, struct client *c, const char *data, size_t len, size_t need)
{
    size_t keep_len = c->carry_skip > 0 ? c->carry_skip : len;
    size_t capacity = need > keep_len ? need : keep_len;
    if (need == 0) capacity = capacity < CARRY_FIRST ? CARRY_FIRST : capacity * 2;
    /* A size that was only announced costs its sender nothing: room is made as bytes come. */
    if (need > CARRY_EAGER) {
        capacity = keep_len * 2 > CARRY_EAGER ? keep_len * 2 : CARRY_EAGER;
        if (capacity > need) capacity = need;
    }
    struct block *b = block_make(&s->outputs, (uint32_t)capacity);
    if (b == NULL) return false;
    memcpy(b->data, data, keep_len);
    b->len = (uint32_t)keep_len;
    if (c->carry != NULL) block_release(&s->outputs, c->carry);
    c->carry = b;
    c->carry_need = need;
    return true;
}

/* Adds to the carry what its operation still takes and runs it when it is whole. Returns the
 * bytes taken from data, or SIZE_MAX when nothing may be taken now. */
static size_t feed_carry(struct shard *s, struct client *c, const char *data, size_t len)
{
    struct block *b = c->carry;
    size_t take;
    if (c->carry_need > 0) {
        take = c->carry_need - b->len;
        if (take > len) take = len;
    } else {
        const char *newline = memchr(data, '\n', len);
        take = newline == NULL ? len : (size_t)(newline + 1 - data);
        /* Never more than a line may have: the parser refuses it then. */
        size_t line_max = (size_t)c->limits.control_line_max + LINE_BLANKS_MAX;
        if (take > line_max) take = line_max;
    }
    if (c->carry_need > 0 && b->len + take > b->capacity) {
        if (!keep(s, c, b->data, b->len, c->carry_need)) return SIZE_MAX;
        b = c->carry;
        if (take > b->capacity - b->len) take = b->capacity - b->len;
    }
    if (b->len + take > b->capacity) {
        if (!keep(s, c, b->data, b->len, b->len + take + 512)) return SIZE_MAX;
        c->carry_need = 0;
        b = c->carry;
    }
    if (take > 0) memcpy(b->data + b->len, data, take);
    b->len += (uint32_t)take;
    /* One byte short, and the one before it is no CR: refused now, as when it came whole (R6). */
    if (c->carry_need > 0 && b->len < c->carry_need &&
        (b->len + 1 < c->carry_need || b->data[b->len - 1] == '\r'))
        return take;

    bool is_incomplete;
    size_t need;
    /* A publisher may be closed by its own message, as its slow consumer: the bytes that are being
     * delivered outlive the carry. */
    b->refs++;
    size_t done = run_all(s, c, b->data, b->len, b, &is_incomplete, &need);
    block_release(&s->outputs, b);
    if (c->state == CLIENT_CLOSING) return len;
    if (is_incomplete && done == 0) {
        if (c->carry_skip > 0) {
            b->len = c->carry_skip;
        } else if (need > b->capacity) {
            if (!keep(s, c, b->data, b->len, need)) {
                /* Nothing is lost: the bytes stay in the old carry, only the room is missing. */
                c->carry_need = b->len;
                c->carry_is_whole = true;
                session_park(s, c, PARK_MEMORY);
            }
        } else {
            c->carry_need = need;
        }
        return take;
    }
    if (done < b->len) {
        /* Parked: the whole operation stays here and is run again first. */
        must(done == 0);
        c->carry_need = b->len;
        c->carry_is_whole = true;
        return take;
    }
    block_release(&s->outputs, b);
    c->carry = NULL;
    c->carry_need = 0;
    return take;
}

size_t verbs_bytes(struct shard *s, struct client *c, const char *data, size_t len)
{
    size_t at = 0;
    if (c->state == CLIENT_CLOSING) return len;
    if (c->park != 0 || c->state == CLIENT_HANDSHAKE || c->state == CLIENT_CHECKING) return 0;
    c->active_ns = s->now.mono_ns;
    if (c->carry_is_whole) {
        c->carry_is_whole = false;
        size_t done = feed_carry(s, c, data, 0);
        if (done == SIZE_MAX || c->park != 0 || c->carry_is_whole) return 0;
    }
    while (at < len && c->carry != NULL && c->state != CLIENT_CLOSING) {
        size_t taken = feed_carry(s, c, data + at, len - at);
        if (taken == SIZE_MAX) {
            session_park(s, c, PARK_MEMORY);
            return at;
        }
        at += taken;
        if (c->park != 0 || c->carry_is_whole || c->state == CLIENT_CHECKING) return at;
    }
    if (c->state == CLIENT_CLOSING) return len;
    if (at == len) {
        c->stall_pass_ns = 0;
        return len;
    }
    bool is_incomplete;
    size_t need;
    at += run_all(s, c, data + at, len - at, NULL, &is_incomplete, &need);
    if (c->state == CLIENT_CLOSING) return len;
    if (is_incomplete) {
        if (!keep(s, c, data + at, len - at, need)) {
            session_park(s, c, PARK_MEMORY);
            return at;
        }
        at = len;
    }
    if (at == len) c->stall_pass_ns = 0;
    return at;
}
