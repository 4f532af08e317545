/* From CONNECT to rights: login, its checks on helper threads, the permit of the account, and the
 * second look after a reload. The verdict itself is core/auth/login's. */
#include "core/base/base64.h"
#include "core/base/must.h"
#include "core/route/subject.h"
#include "core/shard/internal.h"
#include "core/shard/permit.h"

static struct login_facts facts_of(struct shard *s, struct client *c)
{
    return (struct login_facts){.connection = ACCOUNT_STANDARD,
                                .tls_map =
                                    s->options->tls.verify_and_map && client_has(c, CLIENT_IS_TLS),
                                .tls = c->tls.names,
                                .nonce = bytes_of(c->nonce, strlen(c->nonce)),
                                .is_again = client_has(c, CLIENT_CONNECTED),
                                .earlier = client_has(c, CLIENT_CONNECTED) ? c->user : NULL};
}

void entry_abandon(struct shard *s, struct client *c)
{
    if (client_has(c, CLIENT_LOGIN_OWED)) {
        c->flags &= ~(uint32_t)CLIENT_LOGIN_OWED;
        s->login_owed_count--;
    }
    login_options_forget(s->mem, &c->connect);
    if (c->login != NULL) mem_free(s->mem, MEM_CONNECTION, c->login, sizeof *c->login);
    c->login = NULL;
    c->ticket = 0;
}

static void fail(struct shard *s, struct client *c)
{
    s->counts.auth_failures++;
    if (session_logs(s, LOG_LEVEL_ERR)) {
        struct writer *w = session_log_open(s, c);
        writer_text(w, "authentication error");
        if (c->connect.user.len > 0) {
            writer_text(w, " - User ");
            writer_quoted(w, c->connect.user);
        } else if (c->connect.nkey.len > 0) {
            writer_text(w, " - Nkey ");
            writer_quoted(w, c->connect.nkey);
        }
        session_log_close(s, LOG_LEVEL_ERR);
    }
    system_auth_failed(s, c, CLOSED_AUTH_FAILURE);
    session_error(s, c, NATS_ERR_LINE("Authorization Violation"));
    session_close(s, c, CLOSED_AUTH_FAILURE, true);
}

static int64_t smaller_limit(int64_t a, int64_t b)
{
    if (a < 0) return b;
    return b < 0 || a < b ? a : b;
}

static void apply_limits(struct shard *s, struct client *c)
{
    const struct account *conf = c->account->conf;
    int64_t payload = s->options->max_payload;
    int64_t subs = s->options->max_subscriptions > 0 ? s->options->max_subscriptions : -1;
    if (conf != NULL) {
        payload = smaller_limit(payload, conf->limits.max_payload);
        subs = smaller_limit(subs, conf->limits.max_subscriptions);
    }
    c->limits.payload_max = (int32_t)payload;
    c->limits.control_line_max = (uint32_t)s->options->max_control_line;
    c->subs_max = subs;
}

static void apply_perms(struct shard *s, struct client *c, const struct perms *p)
{
    c->perms = p;
    c->flags &= ~(uint32_t)CLIENT_PUB_CHECKED;
    if (p != NULL) c->flags |= CLIENT_PUB_CHECKED;
    if (p != NULL && perms_has_responses(p) && c->replies == NULL &&
        perms_replies_open(s->mem, interest_seed(s->interest), &c->replies) != ERR_OK)
        c->replies = NULL; /* without memory no reply is allowed: the safe side */
    if (c->replies != NULL && !perms_has_responses(p)) {
        perms_replies_close(c->replies);
        c->replies = NULL;
    }
}

static void apply_connect_options(struct client *c, const struct login_options *o,
                                  bool server_headers)
{
    uint32_t mask =
        CLIENT_VERBOSE | CLIENT_PEDANTIC | CLIENT_ECHO | CLIENT_HEADERS | CLIENT_NO_RESPONDERS;
    c->flags &= ~mask;
    if (o->verbose) c->flags |= CLIENT_VERBOSE;
    if (o->pedantic) c->flags |= CLIENT_PEDANTIC;
    if (o->echo) c->flags |= CLIENT_ECHO;
    if (o->headers && server_headers) c->flags |= CLIENT_HEADERS;
    if (o->no_responders) c->flags |= CLIENT_NO_RESPONDERS;
    c->limits.headers_allowed = o->headers && server_headers;
}

/* The last step: rights are known and the account has room. */
static enum login_outcome admit(struct shard *s, struct client *c)
{
    const struct login *l = c->login;
    c->user = l->user;
    apply_perms(s, c, l->permissions);
    apply_limits(s, c);
    struct bytes name = login_options_label(&c->connect, l->user);
    (void)!client_set_text(s->mem, &c->user_name, name); /* empty without memory: pages only */
    entry_abandon(s, c);
    c->state = CLIENT_OPEN;
    session_logged_in(s, c);
    if (!c->is_connect) return LOGIN_DONE;

    switch (login_options_refusal(&c->connect, !s->options->no_header_support)) {
    case LOGIN_FINE: break;
    case LOGIN_BAD_PROTOCOL:
        session_error(s, c, NATS_ERR_LINE("invalid client protocol"));
        session_close(s, c, CLOSED_BAD_CLIENT_PROTOCOL, true);
        return LOGIN_CLOSED;
    case LOGIN_NO_RESPONDERS_NEEDS_HEADERS:
        session_error(s, c, NATS_ERR_LINE("no responders requires headers support"));
        session_close(s, c, CLOSED_NO_RESPONDERS_NEEDS_HEADERS, true);
        return LOGIN_CLOSED;
    }
    bool is_first = !client_has(c, CLIENT_CONNECTED);
    c->flags |= CLIENT_CONNECTED;
    if (is_first) {
        c->rtt_ns = s->now.mono_ns - c->opened_ns;
        if (s->histograms[SHARD_HISTOGRAM_LOGIN] != NULL)
            histogram_add(s->histograms[SHARD_HISTOGRAM_LOGIN], c->rtt_ns);
        verbs_arm_ping(s, c, true);
        system_connected(s, c);
    }
    if (client_has(c, CLIENT_VERBOSE)) session_reply(s, c, BYTES_LITERAL("+OK\r\n"));
    return LOGIN_DONE;
}

static enum login_outcome refuse_permit(struct shard *s, struct client *c)
{
    session_error(s, c, NATS_ERR_LINE("maximum account active connections exceeded"));
    session_close(s, c, CLOSED_MAX_ACCOUNT_CONNECTIONS, true);
    return LOGIN_CLOSED;
}

static enum login_outcome join(struct shard *s, struct client *c)
{
    struct shard_account *a = session_account(s, c->login->account);
    if (a == NULL) {
        permit_free(s, c->login->account);
        return refuse_permit(s, c);
    }
    session_join_account(s, c, a);
    return admit(s, c);
}

/* A verdict is there. */
static enum login_outcome follow(struct shard *s, struct client *c)
{
    struct login *l = c->login;
    c->state = CLIENT_CHECKING;
    if (l->verdict == LOGIN_CRYPTO) {
        c->ticket = ++s->last_ticket;
        s->rare.crypto_logins++;
        struct effect *e = session_effect(s, EFFECT_CRYPTO, c->id);
        e->crypto.job = &l->job;
        e->crypto.ticket = c->ticket;
        return LOGIN_WAITS;
    }
    if (l->verdict == LOGIN_REFUSED) {
        fail(s, c);
        return LOGIN_CLOSED;
    }
    /* A client that stays in its account keeps its permit. */
    if (client_has(c, CLIENT_COUNTED) && c->account->number == l->account) return admit(s, c);
    session_leave_account(s, c);
    switch (permit_ask(s, c, l->account)) {
    case PERMIT_GRANTED: return join(s, c);
    case PERMIT_REFUSED: return refuse_permit(s, c);
    case PERMIT_ASKED: break;
    }
    return LOGIN_WAITS;
}

/* The connection waited for an answer: its next bytes may be parsed now. */
static void go_on(struct shard *s, struct client *c, enum login_outcome outcome)
{
    if (outcome == LOGIN_DONE) session_effect(s, EFFECT_RESUME, c->id);
}

void entry_permit(struct shard *s, struct client *c, bool is_granted)
{
    must(c->state == CLIENT_CHECKING && c->login != NULL);
    c->ticket = 0;
    go_on(s, c, is_granted ? join(s, c) : refuse_permit(s, c));
}

static bool make_login(struct shard *s, struct client *c)
{
    if (c->login == NULL) c->login = mem_alloc_zero(s->mem, MEM_CONNECTION, sizeof *c->login);
    if (c->login == NULL) session_close(s, c, CLOSED_AUTH_FAILURE, false);
    return c->login != NULL;
}

enum login_outcome entry_connect(struct shard *s, struct client *c, struct bytes json)
{
    if (login_options_read(s->mem, json, &c->connect, NULL) != ERR_OK) {
        session_close(s, c, CLOSED_PROTOCOL_VIOLATION, true);
        return LOGIN_CLOSED;
    }
    apply_connect_options(c, &c->connect, !s->options->no_header_support);
    if (client_has(c, CLIENT_CONNECTED)) session_drop_all_subs(s, c);
    if (!make_login(s, c)) return LOGIN_CLOSED;
    c->is_connect = true;
    struct login_facts facts = facts_of(s, c);
    login_begin(s->options->accounts, &c->connect, &facts, c->login);
    return follow(s, c);
}

enum login_outcome entry_implicit(struct shard *s, struct client *c)
{
    if (!make_login(s, c)) return LOGIN_CLOSED;
    c->is_connect = false;
    struct login_facts facts = facts_of(s, c);
    login_begin_without_connect(s->options->accounts, &facts, c->login);
    return follow(s, c);
}

void entry_crypto_done(struct shard *s, struct client *c, uint64_t ticket, bool is_valid)
{
    if (c->state != CLIENT_CHECKING || c->ticket != ticket || c->login == NULL) return;
    c->ticket = 0;
    login_finish(c->login, is_valid);
    go_on(s, c, follow(s, c));
}

/* Its user in the new set: by what it logged in as, not by what it called itself. */
static const struct user *find_again(const struct account_set *set, const struct client *c)
{
    const struct user *was = c->user;
    if (set->mode == ACCOUNT_MODE_SINGLE)
        return bytes_equal(set->single.name, was->name) ? &set->single : NULL;
    return was->nkey.len > 0 ? account_set_user_by_nkey(set, was->nkey)
                             : account_set_user(set, was->name);
}

/* With the users of the options now in force. */
static void begin_again(struct shard *s, struct client *c)
{
    c->flags &= ~(uint32_t)CLIENT_LOGIN_OWED;
    s->login_owed_count--;
    struct login_facts facts = facts_of(s, c);
    facts.is_again = false;
    facts.earlier = NULL;
    if (c->is_connect)
        login_begin(s->options->accounts, &c->connect, &facts, c->login);
    else
        login_begin_without_connect(s->options->accounts, &facts, c->login);
    go_on(s, c, follow(s, c));
}

/* A crowd that logs in during a reload: those for whom there was no room in that step. */
void entry_begin_owed(struct shard *s)
{
    for (struct list *link = s->all.next;
         link != &s->all && s->login_owed_count > 0 && session_has_room(s);) {
        struct client *c = LIST_OWNER(link, struct client, all);
        link = link->next;
        if (client_has(c, CLIENT_LOGIN_OWED)) begin_again(s, c);
    }
}

/* After a reload (old is the set before it): a connection whose user vanished or moved to another
 * account is closed without a word, as nats-server does; one whose secret changed would fail its
 * login now; others keep going with the new rights. */
void entry_recheck(struct shard *s, struct client *c, const struct account_set *old)
{
    const struct account_set *set = s->options->accounts;
    if (c->state == CLIENT_CHECKING && c->login != NULL) {
        /* The check under way was against the old users: the answer to it is ignored. */
        c->ticket = 0;
        c->user = NULL; /* of the old options */
        c->perms = NULL;
        if (client_has(c, CLIENT_LOGIN_OWED)) return;
        c->flags |= CLIENT_LOGIN_OWED;
        s->login_owed_count++;
        if (session_has_room(s)) begin_again(s, c);
        return;
    }
    if (c->state != CLIENT_OPEN) return;
    const struct user *user = NULL;
    bool is_failed = false;
    if (set->mode == ACCOUNT_MODE_USERS || set->mode == ACCOUNT_MODE_SINGLE) {
        if (c->user != NULL) {
            user = find_again(set, c);
        } else if (set->no_auth != NULL && c->user_name.len == 0) {
            user = set->no_auth;
        } else {
            /* It came when nobody was asked; what it said then was not looked at, and is gone. */
            fail(s, c);
            return;
        }
        if (user == NULL || user->account != c->account->number) {
            session_close(s, c, CLOSED_CLIENT, false);
            return;
        }
        is_failed = c->user != NULL && !bytes_equal(user->password, c->user->password);
    } else if (set->mode == ACCOUNT_MODE_TOKEN) {
        is_failed = old->mode != ACCOUNT_MODE_TOKEN || !bytes_equal(old->token, set->token);
    } else if (c->account->number != ACCOUNT_GLOBAL) {
        session_close(s, c, CLOSED_CLIENT, false);
        return;
    }
    if (is_failed) {
        fail(s, c);
        return;
    }
    s->rare.rechecks++;
    c->user = user;
    apply_perms(s, c, user == NULL ? NULL : user->permissions);
    apply_limits(s, c);
    verbs_recheck_subs(s, c);
}

/* A new connection on a server that asks for no login. ERR: no memory. */
bool entry_open_without_login(struct shard *s, struct client *c)
{
    struct shard_account *a = session_account(s, ACCOUNT_GLOBAL);
    if (a == NULL) return false;
    c->account = a;
    apply_limits(s, c);
    return true;
}
