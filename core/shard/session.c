/* Life and death of a shard's connections: closing, replies, parking, and the slow way of many
 * subscriptions out of the index. */
#include "core/base/must.h"
#include "core/shard/internal.h"
#include "core/shard/jet_interest.h"
#include "core/shard/permit.h"

enum {
    REAP_SUBS_PER_STEP = 2000, /* about 1 ms: a million subscriptions leave without a hiccup */
};

struct client *shard_client(const struct shard *s, struct conn_id id)
{
    uint32_t slot = conn_id_slot(id);
    if (slot >= s->slots_max) return NULL;
    struct client *c = s->clients[slot];
    return c != NULL && c->id.bits == id.bits ? c : NULL;
}

struct effect *session_effect(struct shard *s, enum effect_kind kind, struct conn_id id)
{
    must(s->outbox->count + s->outbox->withheld < OUTBOX_EFFECTS_MAX);
    struct effect *e = &s->outbox->effects[s->outbox->count++];
    *e = (struct effect){.kind = kind, .conn = id};
    return e;
}

bool session_has_room(const struct shard *s)
{
    return s->outbox->count + s->outbox->withheld + OUTBOX_RESERVE < OUTBOX_EFFECTS_MAX;
}

/* --- log ---------------------------------------------------------------------------------- */

bool session_logs(const struct shard *s, enum log_level level)
{
    if (level == LOG_LEVEL_TRC) return s->options->trace;
    if (level == LOG_LEVEL_DBG) return s->options->debug;
    return true;
}

static void write_peer(struct writer *w, const struct conn_peer *p)
{
    if (!p->is_known) return;
    writer_text(w, " uid:");
    writer_u64(w, p->uid);
    writer_text(w, " gid:");
    writer_u64(w, p->gid);
    writer_text(w, " pid:");
    writer_i64(w, p->pid);
}

/* Who a client is, once its CONNECT named somebody: ` - "A/user:joe"`, "A/nkey:U..." or "A/token".
 * Of what may be looked at here all outlives a reload. */
static void write_account(struct writer *w, const struct client *c)
{
    char room[512];
    struct writer label;
    if (!c->is_connect || c->user_name.len == 0 || c->account == NULL) return;
    const struct login_options *o = &c->connect;
    const struct account *a = c->account->conf;
    writer_init(&label, room, sizeof room);
    writer_bytes(&label, a == NULL ? BYTES_LITERAL("") : a->name);
    if (o->nkey.len > 0) {
        writer_text(&label, "/nkey:");
        writer_bytes(&label, c->user_name);
    } else if (login_options_is_token(o, c->user_name)) {
        writer_text(&label, "/token");
    } else {
        writer_text(&label, "/user:");
        writer_bytes(&label, c->user_name);
    }
    writer_text(w, " - ");
    writer_quoted(w, writer_written(&label));
}

/* `127.0.0.1:4711 - cid:5 - "v1.0:go:name" - "$G/user:joe"`, as nats-server names a client in its
 * log; of the Unix socket `unix uid:1000 gid:1000 pid:4711 - cid:5`. */
static void write_client(struct writer *w, const struct client *c)
{
    if (client_has(c, CLIENT_IS_UNIX)) {
        writer_text(w, "unix");
        write_peer(w, &c->peer);
    } else {
        writer_bytes(w, bytes_of(c->ip, c->ip_len));
        writer_char(w, ':');
        writer_u64(w, c->port);
    }
    writer_text(w, " - cid:");
    writer_u64(w, c->cid);
    const struct login_options *o = &c->connect;
    if (o->version.len + o->lang.len + o->name.len > 0) {
        char room[512];
        struct writer label;
        writer_init(&label, room, sizeof room);
        if (o->version.len > 0) writer_char(&label, 'v');
        writer_bytes(&label, o->version);
        if (o->lang.len > 0 && o->version.len > 0) writer_char(&label, ':');
        writer_bytes(&label, o->lang);
        if (o->name.len > 0 && label.len > 0) writer_char(&label, ':');
        writer_bytes(&label, o->name);
        writer_text(w, " - ");
        writer_quoted(w, writer_written(&label));
    }
    write_account(w, c);
    writer_text(w, " - ");
}

struct writer *session_log_open(struct shard *s, const struct client *c)
{
    struct writer *w = &s->outbox->text;
    s->log_from = w->len;
    if (c != NULL) write_client(w, c);
    return w;
}

void session_log_close(struct shard *s, enum log_level level)
{
    struct writer *w = &s->outbox->text;
    if (w->is_full || !session_has_room(s)) {
        w->is_full = false;
        w->len = s->log_from;
        s->outbox->lost_lines++;
        return;
    }
    struct effect *e = session_effect(s, EFFECT_LOG, (struct conn_id){0});
    e->log.level = level;
    e->log.text = bytes_of(w->data + s->log_from, w->len - s->log_from);
}

void session_log(struct shard *s, const struct client *c, enum log_level level, const char *text)
{
    if (!session_logs(s, level)) return;
    writer_text(session_log_open(s, c), text);
    session_log_close(s, level);
}

/* --- output ------------------------------------------------------------------------------- */

void session_mark_dirty(struct shard *s, struct client *c)
{
    if (list_is_empty(&c->dirty)) list_push(&s->dirty, &c->dirty);
}

void session_end_unanswered(struct shard *s, struct client *c)
{
    if (c->state == CLIENT_CLOSING) return;
    s->counts.slow_consumers.clients++;
    if (c->account != NULL) c->account->counts.slow_consumers++;
    session_log(s, c, LOG_LEVEL_WRN, "Client closed: there is no memory to answer it");
    session_close(s, c, CLOSED_SLOW_PENDING, false);
}

/* Bytes that bypass held PONGs: messages and the INFO. No memory: the client is too slow for the
 * budget and goes (R5c). */
void session_write(struct shard *s, struct client *c, struct bytes b)
{
    if (c->state == CLIENT_CLOSING) return;
    if (output_append(&s->outputs, &c->output, b) != ERR_OK) {
        s->counts.slow_consumers.clients++;
        session_close(s, c, CLOSED_SLOW_PENDING, false);
        return;
    }
    session_mark_dirty(s, c);
}

void session_reply(struct shard *s, struct client *c, struct bytes line)
{
    if (c->held_last != NULL)
        fence_hold(s, c, line);
    else
        session_write(s, c, line);
}

/* What goes out to the client, for -V. */
void session_trace(struct shard *s, const struct client *c, struct bytes line)
{
    if (LIKELY(!session_logs(s, LOG_LEVEL_TRC))) return;
    struct writer *w = session_log_open(s, c);
    writer_text(w, "->> [");
    writer_bytes(w, line);
    writer_char(w, ']');
    session_log_close(s, LOG_LEVEL_TRC);
}

void session_trace_payload(struct shard *s, const struct client *c, struct bytes payload,
                           uint32_t header_bytes, bool is_out)
{
    /* Headers are part of what is shown; with trace_headers all of it, without the empty line. */
    uint32_t max = (uint32_t)s->options->max_traced_msg_len;
    size_t len = payload.len;
    if (s->options->trace_headers) len = header_bytes - (header_bytes >= 4 ? 4 : 0);
    if (len == 0) return;
    struct writer *w = session_log_open(s, c);
    if (c == NULL) writer_text(w, "SYSTEM - ");
    writer_text(w, is_out ? "->> MSG_PAYLOAD: [" : "<<- MSG_PAYLOAD: [");
    writer_quoted(w, bytes_of(payload.data, max > 0 && len > max ? max : len));
    if (max > 0 && len > max) {
        w->len--; /* the dots stand inside the quotes */
        writer_text(w, "...\"");
    }
    writer_char(w, ']');
    session_log_close(s, LOG_LEVEL_TRC);
}

void session_error(struct shard *s, struct client *c, struct bytes line)
{
    session_trace(s, c, bytes_trim(line));
    session_reply(s, c, line);
}

/* --- parking ------------------------------------------------------------------------------ */

void session_park(struct shard *s, struct client *c, enum park_reason reason)
{
    must(c->park == 0);
    must(c->state != CLIENT_CLOSING);
    c->park = (uint8_t)(reason + 1);
    c->park_began_ns = s->now.mono_ns;
    list_push(&s->parked[reason], &c->parked);
    s->counts.parks[reason]++;
    s->counts.parked++;
}

static void unpark(struct shard *s, struct client *c)
{
    if (c->park == 0) return;
    c->park = 0;
    list_remove(&c->parked);
    s->counts.parked--;
    if (s->histograms[SHARD_HISTOGRAM_PARK] != NULL)
        histogram_add(s->histograms[SHARD_HISTOGRAM_PARK], s->now.mono_ns - c->park_began_ns);
}

void session_resume(struct shard *s, struct client *c)
{
    unpark(s, c);
    if (c->state != CLIENT_CLOSING) session_effect(s, EFFECT_RESUME, c->id);
}

/* Wakes the clients parked for a reason, oldest first, as far as there is room. */
void session_resume_all(struct shard *s, enum park_reason reason)
{
    while (!list_is_empty(&s->parked[reason]) && session_has_room(s))
        session_resume(s, LIST_OWNER(s->parked[reason].next, struct client, parked));
}

/* --- subscriptions ------------------------------------------------------------------------ */

void session_interest_changed(struct shard *s, uint32_t account, struct bytes filter)
{
    uint64_t shards = interest_watchers(s->accounts[account]->trie);
    if (shards == 0) return;
    if ((shards >> s->index & 1) != 0) jet_consumer_interest(s, account, filter);
    jet_interest_tell(s, shards, account, filter);
}

/* With somebody who wants to hear of it: the filter is known only as long as it is in the index. */
static NOINLINE bool remove_watched(struct shard *s, uint32_t account, uint32_t index)
{
    char room[2 * INTEREST_FILTER_BYTES_MAX + 64];
    struct bytes filter, queue;
    struct sub *sub = sub_at(s->subs, index);
    if (interest_filter_of(s->interest, sub, room, sizeof room, &filter, &queue) != ERR_OK)
        filter = bytes_of(NULL, 0);
    if (interest_remove(s->interest, s->accounts[account]->trie, s->index, index) != ERR_OK)
        return false;
    session_interest_changed(s, account, filter);
    return true;
}

/* Takes it out of the index, the sid table must not have it any more. False: the writer is busy. */
static bool remove_from_index(struct shard *s, uint32_t account, uint32_t index)
{
    struct interest_account *trie = s->accounts[account]->trie;
    bool is_removed = UNLIKELY(interest_watchers(trie) != 0)
                          ? remove_watched(s, account, index)
                          : interest_remove(s->interest, trie, s->index, index) == ERR_OK;
    if (is_removed) sub_release(s->subs, index);
    return is_removed;
}

/* Without memory of its own: the sid chain and the maximum of a dead sub have no other use. */
static void doom(struct shard *s, uint32_t account, uint32_t index)
{
    struct sub *sub = sub_at(s->subs, index);
    must((sub->flags & CLIENT_SUB_FLAG_DEAD) != 0);
    sub->sid_next = s->doomed_first;
    sub->max = account;
    s->doomed_first = index;
    s->doomed_count++;
    s->rare.doomed++;
}

static void count_sub(struct shard *s, struct client *c, int by)
{
    s->counts.subscriptions += (uint64_t)(int64_t)by;
    if (c->account != NULL) c->account->counts.subscriptions += (uint64_t)(int64_t)by;
}

void session_drop_sub(struct shard *s, struct client *c, uint32_t index)
{
    struct sub *sub = sub_at(s->subs, index);
    must((sub->flags & CLIENT_SUB_FLAG_DEAD) == 0);
    client_remove_sid(c, s->subs, index);
    sub->flags |= CLIENT_SUB_FLAG_DEAD;
    count_sub(s, c, -1);
    uint32_t account = c->account->number;
    if (s->is_fanning_out || !remove_from_index(s, account, index)) doom(s, account, index);
}

void session_forget_sub(struct shard *s, uint32_t account, uint32_t index)
{
    struct sub *sub = sub_at(s->subs, index);
    must((sub->flags & CLIENT_SUB_FLAG_DEAD) == 0);
    sub->flags |= CLIENT_SUB_FLAG_DEAD;
    if (s->is_fanning_out || !remove_from_index(s, account, index)) doom(s, account, index);
}

void session_added_sub(struct shard *s, struct client *c)
{
    count_sub(s, c, 1);
}

void session_drop_all_subs(struct shard *s, struct client *c)
{
    uint32_t bucket = 0;
    uint32_t index;
    while ((index = client_any_sid(c, &bucket)) != 0) session_drop_sub(s, c, index);
}

void session_retry_doomed(struct shard *s)
{
    must(!s->is_fanning_out);
    while (s->doomed_count > 0) {
        uint32_t index = s->doomed_first;
        uint32_t next = sub_at(s->subs, index)->sid_next;
        uint32_t account = (uint32_t)sub_at(s->subs, index)->max;
        if (!remove_from_index(s, account, index)) return;
        s->doomed_first = next;
        s->doomed_count--;
    }
}

/* --- closing ------------------------------------------------------------------------------ */

struct shard_account *session_open_account(struct shard *s, uint32_t number)
{
    if (number >= s->account_count) {
        uint32_t count = s->account_count == 0 ? 8 : s->account_count * 2;
        while (count <= number) count *= 2;
        struct shard_account **grown =
            mem_resize(s->mem, MEM_CONNECTION, s->accounts, s->account_count * sizeof(void *),
                       count * sizeof(void *));
        if (grown == NULL) return NULL;
        memset(grown + s->account_count, 0, (count - s->account_count) * sizeof(void *));
        s->accounts = grown;
        s->account_count = count;
    }
    must(s->accounts[number] == NULL);
    struct interest_account *trie;
    if (interest_account_of(s->interest, number, &trie) != ERR_OK) return NULL;
    struct shard_account *a = mem_alloc_zero(s->mem, MEM_CONNECTION, sizeof *a);
    if (a == NULL) return NULL;
    a->number = number;
    a->trie = trie;
    a->conf = account_set_by_number(s->options->accounts, number);
    a->counts.account = number;
    s->accounts[number] = a;
    return a;
}

void session_join_account(struct shard *s, struct client *c, struct shard_account *a)
{
    must(!client_has(c, CLIENT_COUNTED) && c->sub_count == 0);
    c->account = a;
    c->flags |= CLIENT_COUNTED;
    a->counts.connections++;
    a->counts.total_connections++;
}

void session_leave_account(struct shard *s, struct client *c)
{
    if (!client_has(c, CLIENT_COUNTED)) return;
    c->flags &= ~(uint32_t)CLIENT_COUNTED;
    c->account->counts.connections--;
    permit_free(s, c->account->number);
}

void session_logged_in(struct shard *s, struct client *c)
{
    if (!c->is_pre_login) return;
    c->is_pre_login = false;
    s->pre_login_count--;
    /* Of a closed connection io finds out by itself when the socket goes. */
    if (c->state != CLIENT_CLOSING || session_has_room(s))
        session_effect(s, EFFECT_LOGGED_IN, c->id);
}

struct client *session_open(struct shard *s, const struct event *e)
{
    uint32_t slot = conn_id_slot(e->conn);
    must(slot < s->slots_max && s->clients[slot] == NULL);
    struct client *c = mem_alloc_zero(s->mem, MEM_CONNECTION, sizeof *c);
    if (c == NULL) return NULL;
    c->id = e->conn;
    c->cid = e->opened.cid;
    c->state = CLIENT_GREETED;
    c->flags = CLIENT_VERBOSE | CLIENT_PEDANTIC | CLIENT_ECHO;
    c->subs_max = -1;
    c->limits = (struct nats_limits){.control_line_max = (uint32_t)s->options->max_control_line,
                                     .payload_max = s->options->max_payload};
    if (e->opened.is_unix) c->flags |= CLIENT_IS_UNIX;
    must(e->opened.ip.len <= sizeof c->ip);
    memcpy(c->ip, e->opened.ip.data, e->opened.ip.len);
    c->ip_len = (uint8_t)e->opened.ip.len;
    c->port = e->opened.port;
    c->peer = e->opened.peer;
    c->opened_ns = c->active_ns = s->now.mono_ns;
    c->sid_seed = interest_seed(s->interest);
    c->opened_wall_ns = s->now.wall_ns;
    login_options_init(&c->connect);
    wheel_timer_init(&c->timer);
    list_init(&c->dirty);
    list_init(&c->sending);
    list_init(&c->parked);
    list_init(&c->fenced);
    list_init(&c->all);
    s->clients[slot] = c;
    list_push(&s->all, &c->all);
    s->counts.connections++;
    s->counts.total_connections++;
    s->open_count++;
    c->is_pre_login = true;
    s->pre_login_count++;
    return c;
}

void session_gone(struct shard *s, struct client *c)
{
    if (c->state != CLIENT_CLOSING) {
        c->flags |= CLIENT_IO_GONE;
        session_close(s, c, CLOSED_CLIENT, false);
    }
    c->flags |= CLIENT_IO_GONE;
    if (client_has(c, CLIENT_CLOSE_OWED)) {
        c->flags &= ~(uint32_t)CLIENT_CLOSE_OWED;
        s->close_owed_count--;
    }
    /* The slot is io's again after this step, however long the subscriptions take to leave. */
    s->clients[conn_id_slot(c->id)] = NULL;
    list_remove(&c->sending);
    list_remove(&c->dirty);
    output_clear(&s->outputs, &c->output);
}

static void release(struct shard *s, struct client *c)
{
    must(c->sub_count == 0);
    must(client_has(c, CLIENT_IO_GONE));
    must(c->park == 0);
    list_remove(&c->all);
    client_free_sids(c, s->mem);
    output_clear(&s->outputs, &c->output);
    if (c->mail_until != NULL)
        mem_free(s->mem, MEM_CONNECTION, c->mail_until, s->shard_count * sizeof *c->mail_until);
    (void)!client_set_text(s->mem, &c->user_name, bytes_of(NULL, 0));
    login_options_free(s->mem, &c->connect);
    mem_free(s->mem, MEM_CONNECTION, c, sizeof *c);
}

/* One event may close thousands: a reload that takes their user away, a message that is the last
 * straw for each of its receivers. */
static void tell_closed(struct shard *s, struct client *c, bool flush)
{
    if (session_has_room(s)) {
        session_effect(s, EFFECT_CLOSE, c->id)->close.flush = flush;
        return;
    }
#ifdef MILLRACE_BREAK_CLOSE_FORGOTTEN
    return;
#endif
    c->flags |= CLIENT_CLOSE_OWED;
    if (flush) c->flags |= CLIENT_CLOSE_FLUSHES;
    s->close_owed_count++;
}

void session_tell_closed(struct shard *s)
{
    for (struct list *link = s->reaping.next;
         link != &s->reaping && s->close_owed_count > 0 && session_has_room(s); link = link->next) {
        struct client *c = LIST_OWNER(link, struct client, all);
        if (!client_has(c, CLIENT_CLOSE_OWED)) continue;
        c->flags &= ~(uint32_t)CLIENT_CLOSE_OWED;
        s->close_owed_count--;
        tell_closed(s, c, client_has(c, CLIENT_CLOSE_FLUSHES));
    }
}

void session_close(struct shard *s, struct client *c, enum closed_reason reason, bool flush)
{
    if (c->state == CLIENT_CLOSING) return;
    if (session_logs(s, LOG_LEVEL_DBG)) {
        struct writer *w = session_log_open(s, c);
        writer_text(w, "Client connection closed: ");
        writer_bytes(w, closed_reason_text(reason));
        session_log_close(s, LOG_LEVEL_DBG);
    }
    if (reason == CLOSED_STALE) s->counts.stale_connections.clients++;
    /* Held replies must leave before the last bytes, or never. */
    if (flush) fence_release_all(s, c);
    if (c->state == CLIENT_CLOSING) return; /* there was no memory for them */
    c->state = CLIENT_CLOSING;
    c->reason = (uint8_t)reason;
    unpark(s, c);
    fence_drop(s, c);
    wheel_cancel(&c->timer);
    collect_closed(s, c);
    system_disconnected(s, c);
    session_leave_account(s, c);
    entry_abandon(s, c);
    if (c->carry != NULL) {
        block_release(&s->outputs, c->carry);
        c->carry = NULL;
    }
    if (c->replies != NULL) {
        perms_replies_close(c->replies);
        c->replies = NULL;
    }
    relay_drop_tokens(s, c);
    if (!flush) {
        list_remove(&c->dirty);
        /* Its memory is worth more elsewhere than until io has let go. */
        if (client_has(c, CLIENT_SENDING))
            output_cut(&s->outputs, &c->output);
        else
            output_clear(&s->outputs, &c->output);
    }
    s->counts.connections--;
    count_sub(s, c, -(int)c->sub_count);
    s->open_count--;
    session_logged_in(s, c);
    list_remove(&c->all);
    list_push(&s->reaping, &c->all);
    if (!client_has(c, CLIENT_IO_GONE)) tell_closed(s, c, flush);
}

/* Takes subscriptions of closed connections out of the index, a slice per step, and lets go of
 * connections that io and the index have both left. */
void session_reap(struct shard *s)
{
    uint32_t budget = REAP_SUBS_PER_STEP;
    struct list *link = s->reaping.next;
    while (link != &s->reaping && budget > 0) {
        struct client *c = LIST_OWNER(link, struct client, all);
        link = link->next;
        uint32_t bucket = 0;
        uint32_t index;
        while (budget > 0 && (index = client_any_sid(c, &bucket)) != 0) {
            client_remove_sid(c, s->subs, index);
            sub_at(s->subs, index)->flags |= CLIENT_SUB_FLAG_DEAD;
            if (!remove_from_index(s, c->account->number, index))
                doom(s, c->account->number, index);
            budget--;
        }
        if (c->sub_count > 0) s->rare.sliced_reaping++;
        if (c->sub_count == 0 && client_has(c, CLIENT_IO_GONE)) release(s, c);
    }
}
