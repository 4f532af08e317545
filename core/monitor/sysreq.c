#include "core/monitor/sysreq.h"
#include "core/base/json.h"
#include "core/base/json_write.h"
#include "core/base/must.h"
#include "core/monitor/accountz.h"
#include "core/monitor/accstatz.h"
#include "core/monitor/jsz.h"
#include "core/monitor/page.h"
#include "core/monitor/sysevents.h"
#include "core/route/subject.h"

/* --- the body ------------------------------------------------------------------------------- */

/* Reads fields one after the other; the first that is wrong stops it. */
struct body {
    const struct json_node *root; /* NULL: the request had no body, all defaults */
    struct page_query *q;
    struct json_fault fault;
    bool is_bad;
};

static void read_bool(struct body *b, const char *name, bool *value)
{
    if (b->root == NULL || b->is_bad) return;
    b->is_bad = json_get_bool(b->root, name, value, &b->fault) != ERR_OK;
}

static void read_i64(struct body *b, const char *name, int64_t *value)
{
    if (b->root == NULL || b->is_bad) return;
    b->is_bad = json_get_i64(b->root, name, value, &b->fault) != ERR_OK;
}

static void read_u64(struct body *b, const char *name, uint64_t *value)
{
    if (b->root == NULL || b->is_bad) return;
    b->is_bad = json_get_u64(b->root, name, value, &b->fault) != ERR_OK;
}

static void set_fault(struct body *b, const char *text)
{
    size_t len = strlen(text);
    must(len < sizeof b->fault.text);
    memcpy(b->fault.text, text, len + 1);
    b->is_bad = true;
}

static void keep(struct body *b, struct bytes text, struct bytes *value)
{
    if (query_keep(b->q, text, value) != ERR_OK) set_fault(b, "request too long");
}

static void read_text(struct body *b, const char *name, struct bytes *value)
{
    struct bytes text = {NULL, 0};
    if (b->root == NULL || b->is_bad) return;
    b->is_bad = json_get_text(b->root, name, &text, &b->fault) != ERR_OK;
    if (!b->is_bad && text.len != 0) keep(b, text, value);
}

static void read_texts(struct body *b, const char *name, struct bytes *values, uint32_t max,
                       uint32_t *count)
{
    const struct json_node *array = NULL;
    if (b->root == NULL || b->is_bad) return;
    b->is_bad = json_get_array(b->root, name, &array, &b->fault) != ERR_OK;
    if (b->is_bad || array == NULL) return;
    if (json_count(array) > max) {
        set_fault(b, "too many elements");
        return;
    }
    for (size_t i = 0; i < json_count(array) && !b->is_bad; i++) {
        struct bytes text;
        b->is_bad = json_as_text(json_at(array, i), name, &text, &b->fault) != ERR_OK;
        if (!b->is_bad) keep(b, text, &values[(*count)++]);
    }
}

static void read_filter(struct body *b, struct query_filter *f)
{
    read_text(b, "server_name", &f->server_name);
    read_text(b, "cluster", &f->cluster);
    read_text(b, "host", &f->host);
    read_bool(b, "exact_match", &f->is_exact);
    read_texts(b, "tags", f->tags, sizeof f->tags / sizeof f->tags[0], &f->tag_count);
    read_text(b, "domain", &f->domain);
}

static void read_state(struct body *b)
{
    int64_t state = CONN_STATE_OPEN;
    if (b->root == NULL || b->is_bad) return;
    b->is_bad = json_get_i64_in(b->root, "state", CONN_STATE_OPEN, CONN_STATE_ALL, &state,
                                &b->fault) != ERR_OK;
    if (!b->is_bad) b->q->state = (enum conn_state)state;
}

static void read_connz(struct body *b, struct bytes *sort)
{
    struct page_query *q = b->q;
    read_text(b, "sort", sort);
    read_bool(b, "auth", &q->auth);
    read_bool(b, "subscriptions", &q->subs);
    read_bool(b, "subscriptions_detail", &q->subs_detail);
    read_i64(b, "offset", &q->offset);
    read_i64(b, "limit", &q->limit);
    read_u64(b, "cid", &q->cid);
    read_text(b, "mqtt_client", &q->mqtt_client);
    read_state(b);
    read_text(b, "user", &q->user);
    read_text(b, "acc", &q->account);
    read_text(b, "filter_subject", &q->filter_subject);
}

static void read_jsz(struct body *b)
{
    struct page_query *q = b->q;
    read_text(b, "account", &q->account);
    read_bool(b, "accounts", &q->js_accounts);
    read_bool(b, "streams", &q->js_streams);
    read_bool(b, "consumer", &q->js_consumers);
    read_bool(b, "direct_consumer", &q->js_direct_consumers);
    read_bool(b, "config", &q->js_config);
    read_bool(b, "leader_only", &q->js_leader_only);
    read_i64(b, "offset", &q->offset);
    read_i64(b, "limit", &q->limit);
    read_bool(b, "raft", &q->js_raft);
    read_bool(b, "stream_leader_only", &q->js_stream_leader_only);
}

static void read_healthz(struct body *b)
{
    struct page_query *q = b->q;
    read_bool(b, "js-enabled", &q->js_enabled);
    read_bool(b, "js-enabled-only", &q->js_enabled_only);
    read_bool(b, "js-server-only", &q->js_server_only);
    read_bool(b, "js-meta-only", &q->js_meta_only);
    read_text(b, "account", &q->account);
    read_text(b, "stream", &q->stream);
    read_text(b, "consumer", &q->consumer);
    read_bool(b, "details", &q->details);
}

/* The options of q->page. */
static void read_options(struct body *b, struct bytes *sort)
{
    struct page_query *q = b->q;
    switch (q->page) {
    case PAGE_CONNZ:
        read_connz(b, sort);
        break;
    case PAGE_SUBSZ:
        read_i64(b, "offset", &q->offset);
        read_i64(b, "limit", &q->limit);
        read_bool(b, "subscriptions", &q->subs);
        read_text(b, "account", &q->account);
        read_text(b, "test", &q->test);
        break;
    case PAGE_ROUTEZ:
        read_bool(b, "subscriptions", &q->subs);
        read_bool(b, "subscriptions_detail", &q->subs_detail);
        break;
    case PAGE_GATEWAYZ:
        read_text(b, "name", &q->gateway_name);
        read_bool(b, "accounts", &q->gateway_accounts);
        read_text(b, "account_name", &q->account);
        read_bool(b, "subscriptions", &q->subs);
        read_bool(b, "subscriptions_detail", &q->subs_detail);
        break;
    case PAGE_LEAFZ:
        read_bool(b, "subscriptions", &q->subs);
        read_text(b, "account", &q->account);
        break;
    case PAGE_ACCOUNTZ:
        read_text(b, "account", &q->account);
        break;
    case PAGE_ACCSTATZ:
        read_texts(b, "accounts", q->names, QUERY_ACCOUNTS_MAX, &q->name_count);
        read_bool(b, "include_unused", &q->unused);
        break;
    case PAGE_JSZ:
        read_jsz(b);
        break;
    case PAGE_HEALTHZ:
        read_healthz(b);
        break;
    case PAGE_PROFILEZ:
        read_text(b, "name", &q->profile_name);
        read_i64(b, "debug", &q->profile_debug);
        read_i64(b, "duration", &q->profile_duration_ns);
        break;
    case PAGE_IPQUEUESZ:
        read_bool(b, "all", &q->all);
        read_text(b, "filter", &q->queues);
        break;
    case PAGE_RAFTZ:
        read_text(b, "account", &q->account);
        read_text(b, "group", &q->group);
        break;
    case PAGE_ACCOUNT_NSUBS:
        read_text(b, "acc", &q->account);
        read_text(b, "subj", &q->test);
        break;
    default:
        break;
    }
}

/* --- is this server meant? ------------------------------------------------------------------ */

static bool text_contains(struct bytes text, struct bytes part)
{
    for (size_t at = 0; at + part.len <= text.len; at++)
        if (bytes_equal(bytes_of(text.data + at, part.len), part)) return true;
    return false;
}

static bool passes(struct bytes ours, struct bytes wanted, bool is_exact)
{
    if (wanted.len == 0) return true;
    return is_exact ? bytes_equal(ours, wanted) : text_contains(ours, wanted);
}

static bool is_meant(const struct server_snapshot *server, const struct query_filter *f)
{
    if (!passes(server->name, f->server_name, f->is_exact)) return false;
    if (!passes(server->host, f->host, f->is_exact)) return false;
    if (!passes(server->cluster, f->cluster, f->is_exact)) return false;
    const struct options_texts *tags = &server->options->server_tags;
    for (uint32_t i = 0; i < f->tag_count; i++) {
        bool is_ours = false;
        for (uint32_t k = 0; k < tags->count; k++)
            if (bytes_equal_nocase(tags->items[k], f->tags[i])) is_ours = true;
        if (!is_ours) return false;
    }
    return passes(server->domain, f->domain, true);
}

/* --- the subject ---------------------------------------------------------------------------- */

static const struct {
    const char *name;
    enum page page;
} server_requests[] = {
    {"IDZ", PAGE_IDZ},           {"STATSZ", PAGE_STATSZ},       {"VARZ", PAGE_VARZ},
    {"SUBSZ", PAGE_SUBSZ},       {"CONNZ", PAGE_CONNZ},         {"ROUTEZ", PAGE_ROUTEZ},
    {"GATEWAYZ", PAGE_GATEWAYZ}, {"LEAFZ", PAGE_LEAFZ},         {"ACCOUNTZ", PAGE_ACCOUNTZ},
    {"JSZ", PAGE_JSZ},           {"HEALTHZ", PAGE_HEALTHZ},     {"PROFILEZ", PAGE_PROFILEZ},
    {"EXPVARZ", PAGE_EXPVARZ},   {"IPQUEUESZ", PAGE_IPQUEUESZ}, {"RAFTZ", PAGE_RAFTZ},
}, account_requests[] = {
    {"SUBSZ", PAGE_SUBSZ},       {"CONNZ", PAGE_CONNZ},         {"LEAFZ", PAGE_LEAFZ},
    {"JSZ", PAGE_JSZ},           {"INFO", PAGE_ACCOUNT_INFO},   {"STATZ", PAGE_ACCSTATZ},
    {"CONNS", PAGE_ACCOUNT_CONNS},
};

static bool is_text(struct bytes b, const char *text)
{
    return bytes_equal(b, bytes_from_text(text));
}

static enum sysreq_verdict server_verdict(const struct server_snapshot *server, struct bytes who,
                                          struct bytes what, enum page *page)
{
    bool is_ping = is_text(who, "PING");
    if (!is_ping && !bytes_equal(who, server->id)) return SYSREQ_SILENT;
    for (size_t i = 0; i < sizeof server_requests / sizeof server_requests[0]; i++) {
        if (!is_text(what, server_requests[i].name)) continue;
        *page = server_requests[i].page;
        return SYSREQ_COLLECT;
    }
    if (is_ping) return SYSREQ_SILENT;
    if (is_text(what, "RELOAD")) return SYSREQ_RELOAD;
    if (is_text(what, "KICK")) return SYSREQ_KICK;
    if (is_text(what, "LDM")) return SYSREQ_LDM;
    return SYSREQ_SILENT;
}

static enum sysreq_verdict account_verdict(struct bytes account, struct bytes what,
                                           struct sysreq *r, enum page *page)
{
    bool is_ping = is_text(account, "PING");
    for (size_t i = 0; i < sizeof account_requests / sizeof account_requests[0]; i++) {
        if (!is_text(what, account_requests[i].name)) continue;
        *page = account_requests[i].page;
        /* PING is the name of all accounts for STATZ; for CONNZ it is taken for a name, and
         * there is none such. */
        r->is_account = !(is_ping && *page == PAGE_ACCSTATZ);
        return SYSREQ_COLLECT;
    }
    return SYSREQ_SILENT;
}

/* What any account may ask, about itself. */
static bool is_open_to_all(struct bytes area, struct bytes who, struct bytes what)
{
    if (!is_text(who, "PING")) return false;
    if (is_text(what, "CONNZ")) return is_text(area, "ACCOUNT") || is_text(area, "SERVER");
    return is_text(what, "STATZ") && is_text(area, "ACCOUNT");
}

static enum sysreq_verdict subject_verdict(const struct server_snapshot *server,
                                           const struct sysreq_from *from, struct bytes subject,
                                           struct sysreq *r, enum page *page)
{
    if (!bytes_starts_with(subject, BYTES_LITERAL("$SYS.REQ."))) return SYSREQ_SILENT;
    uint32_t tokens = subject_token_count(subject);
    struct bytes area = subject_token(subject, 2);
    struct bytes who = subject_token(subject, 3);
    struct bytes what = subject_token(subject, 4);
    if (is_text(subject, "$SYS.REQ.USER.INFO")) return SYSREQ_USER;
    if (!from->is_system) {
        if (tokens != 5 || !is_open_to_all(area, who, what)) return SYSREQ_SILENT;
        r->is_scoped = r->is_account = true;
        *page = is_text(what, "CONNZ") ? PAGE_CONNZ : PAGE_ACCSTATZ;
        return SYSREQ_COLLECT;
    }
    if (is_text(subject, "$SYS.REQ.SERVER.PING")) {
        *page = PAGE_STATSZ;
        return SYSREQ_COLLECT;
    }
    if (is_text(subject, "$SYS.REQ.ACCOUNT.NSUBS")) {
        *page = PAGE_ACCOUNT_NSUBS;
        return SYSREQ_COLLECT;
    }
    if (tokens != 5) return SYSREQ_SILENT;
    if (is_text(area, "SERVER")) return server_verdict(server, who, what, page);
    if (is_text(area, "ACCOUNT")) return account_verdict(who, what, r, page);
    return SYSREQ_SILENT;
}

/* The account of the subject, or of the requester, wins over the body's. */
static enum err scope_query(struct page_query *q, const struct sysreq *r,
                            const struct sysreq_from *from, struct bytes subject)
{
    if (!r->is_account) return ERR_OK;
    struct bytes name = r->is_scoped ? from->account : subject_token(subject, 3);
    if (q->page == PAGE_ACCSTATZ) {
        q->name_count = 1;
        return query_keep(q, name, &q->names[0]);
    }
    if (q->page == PAGE_SUBSZ) q->subs = true;
    return query_keep(q, name, &q->account);
}

static enum sysreq_verdict parse_body(struct mem *mem, const struct server_snapshot *server,
                                      const struct sysreq_from *from, struct bytes subject,
                                      struct bytes text, struct page_query *q, struct sysreq *r,
                                      enum sysreq_verdict verdict, struct text *error)
{
    struct json_doc *doc = NULL;
    struct body b = {.q = q};
    struct bytes sort = {NULL, 0};
    if (text.len > SYSREQ_BODY_MAX) {
        set_fault(&b, "request too long");
    } else if (text.len > 0) {
        b.is_bad = json_open(mem, MEM_MONITOR, text, NULL, &doc, &b.fault) != ERR_OK;
        if (!b.is_bad) b.root = json_root(doc);
        if (!b.is_bad && json_kind_of(b.root) == JSON_KIND_NULL) b.root = NULL;
        if (b.root != NULL && json_kind_of(b.root) != JSON_KIND_OBJECT)
            set_fault(&b, "request is no object");
    }
    if (verdict == SYSREQ_KICK || verdict == SYSREQ_LDM) {
        /* nats-server says nothing to a request without a readable cid. */
        read_u64(&b, "cid", &r->cid);
        if (b.is_bad || b.root == NULL) verdict = SYSREQ_SILENT;
    }
    read_options(&b, &sort);
    read_filter(&b, &q->filter);

    if (verdict == SYSREQ_SILENT) {
        /* nothing to say */
    } else if (b.is_bad && q->page == PAGE_IDZ) {
        /* IDZ never looks at its body. */
    } else if (b.is_bad) {
        text_string(error, b.fault.text);
        verdict = q->page == PAGE_ACCOUNT_CONNS || q->page == PAGE_ACCOUNT_NSUBS ? SYSREQ_SILENT
                                                                                  : SYSREQ_REFUSED;
    } else if (q->page != PAGE_IDZ && !is_meant(server, &q->filter)) {
        verdict = SYSREQ_SILENT;
    } else if (scope_query(q, r, from, subject) != ERR_OK) {
        text_string(error, "request too long");
        verdict = SYSREQ_REFUSED;
    } else if (verdict == SYSREQ_COLLECT) {
        r->is_late_error = query_finish(q, sort, error) != ERR_OK;
        if (r->is_late_error) q->collect = 0;
    }
    json_close(doc);
    return verdict;
}

bool sysreq_is_known(const struct server_snapshot *server, const struct sysreq_from *from,
                     struct bytes subject)
{
    struct sysreq r;
    enum page page;
    return subject_verdict(server, from, subject, &r, &page) != SYSREQ_SILENT;
}

enum sysreq_verdict sysreq_parse(struct mem *mem, const struct server_snapshot *server,
                                 const struct sysreq_from *from, struct bytes subject,
                                 struct bytes body, struct page_query *q, struct sysreq *out,
                                 struct text *error)
{
    enum page page = PAGE_NONE;
    *out = (struct sysreq){.cid = 0};
    enum sysreq_verdict verdict = subject_verdict(server, from, subject, out, &page);
    query_init(q, page);
    if (verdict == SYSREQ_SILENT || verdict == SYSREQ_USER) return verdict;
    verdict = parse_body(mem, server, from, subject, body, q, out, verdict, error);
    if (verdict == SYSREQ_COLLECT) snapshot_resolve(server, q);
    if (q->page == PAGE_ACCOUNT_NSUBS && verdict == SYSREQ_COLLECT &&
        (q->account_number == QUERY_NO_ACCOUNT || !subject_is_literal(q->test)))
        return SYSREQ_SILENT;
    return verdict;
}

/* --- replies -------------------------------------------------------------------------------- */

static void write_error(struct json_write *w, uint32_t code, struct bytes description)
{
    json_write_object(w, "error");
    json_write_u64(w, "code", code);
    json_write_text_if(w, "description", description);
    json_write_end(w);
}

static enum err write_account_info(const struct page_input *in, struct json_write *w,
                                   struct text *error)
{
    const struct account *a = snapshot_account_by_name(in->server, in->query->account);
    if (a == NULL) {
        text_string(error, "Account ");
        text_bytes(error, in->query->account);
        text_string(error, " does not exist");
        return ERR_INVALID;
    }
    accountz_write_detail(in, w, NULL, a);
    return ERR_OK;
}

/* The value of "data". ERR_INVALID: nothing was written, *error says why. */
static enum err write_data(const struct page_input *in, const struct sysreq *r,
                           struct json_write *w, struct text *error)
{
    const struct page_query *q = in->query;
    uint32_t shown = 0;
    if (r->is_late_error) return ERR_INVALID;
    switch (q->page) {
    case PAGE_ACCOUNT_INFO:
        return write_account_info(in, w, error);
    case PAGE_ACCSTATZ:
        if (accstatz_write(in, w, &shown) != ERR_OK) return ERR_MEMORY;
        return shown == 0 && !q->unused ? ERR_CLOSED : ERR_OK;
    case PAGE_JSZ:
        if (r->is_account) return jsz_write_account(in, w, error);
        if (q->js_leader_only && !in->server->jetstream.is_on) return ERR_CLOSED;
        return page_write(in, w, error);
    case PAGE_PROFILEZ:
        json_write_object(w, NULL);
        json_write_null(w, "profile");
        json_write_text(w, "error",
                        q->profile_name.len == 0 ? BYTES_LITERAL("Profile name not specified")
                                                 : BYTES_LITERAL("Profiles are not supported"));
        json_write_end(w);
        return ERR_OK;
    default:
        return page_write(in, w, error);
    }
}

static enum err write_wrapped(const struct page_input *in, const struct sysreq *r,
                              struct text *error, struct text *out)
{
    struct json_write w;
    json_write_init(&w, out, 0);
    json_write_object(&w, NULL);
    sysevents_write_server(&w, "server", in->server);
    json_write_key(&w, BYTES_LITERAL("data"));
    enum err e = write_data(in, r, &w, error);
    if (e == ERR_INVALID) {
        json_write_null(&w, NULL);
        write_error(&w, 500, text_written(error));
    } else if (e != ERR_OK) {
        return e == ERR_CLOSED ? ERR_CLOSED : ERR_MEMORY;
    }
    json_write_end(&w);
    return ERR_OK;
}

static void write_id(const struct server_snapshot *server, struct text *out)
{
    struct json_write w;
    json_write_init(&w, out, 0);
    json_write_object(&w, NULL);
    json_write_text(&w, "name", server->name);
    json_write_text(&w, "host", server->host);
    json_write_text(&w, "id", server->id);
    json_write_end(&w);
}

/* How many subscriptions a subject would reach. Silent like CONNS. */
static enum err write_subs_count(const struct page_input *in, struct text *out)
{
    struct account_snapshot sums;
    snapshot_merge_account(in, in->query->account_number, &sums);
    if (sums.connections == 0) return ERR_CLOSED;
    uint64_t subs = 0;
    for (uint32_t i = 0; i < in->shard_count; i++) subs += in->shards[i]->subs_matched;
    text_u64(out, subs);
    return ERR_OK;
}

/* Silent unless the account has connections here. */
static enum err write_account_conns(const struct page_input *in, struct bytes event_id,
                                    struct text *out)
{
    const struct account *a = snapshot_account_by_number(in->server, in->query->account_number);
    if (a == NULL) return ERR_CLOSED;
    struct account_snapshot sums;
    snapshot_merge_account(in, a->number, &sums);
    if (sums.connections == 0) return ERR_CLOSED;
    struct sysevents_head head = {event_id, in->server->now_ns};
    sysevents_write_account(out, in->server, &head, a, &sums);
    return ERR_OK;
}

enum err sysreq_write_reply(const struct page_input *in, const struct sysreq *r,
                            struct bytes event_id, struct text *error, struct text *out)
{
    enum err e = ERR_OK;
    switch (in->query->page) {
    case PAGE_IDZ:
        write_id(in->server, out);
        break;
    case PAGE_STATSZ:
        e = sysevents_write_statsz(in, out);
        break;
    case PAGE_ACCOUNT_CONNS:
        e = write_account_conns(in, event_id, out);
        break;
    case PAGE_ACCOUNT_NSUBS:
        e = write_subs_count(in, out);
        break;
    default:
        e = write_wrapped(in, r, error, out);
    }
    if (e == ERR_OK && (out->is_failed || snapshot_is_short(in))) return ERR_MEMORY;
    return e;
}

void sysreq_write_error(struct text *out, const struct server_snapshot *server, uint32_t code,
                        struct bytes description)
{
    struct json_write w;
    json_write_init(&w, out, 0);
    json_write_object(&w, NULL);
    sysevents_write_server(&w, "server", server);
    write_error(&w, code, description);
    json_write_end(&w);
}

void sysreq_write_done(struct text *out, const struct server_snapshot *server,
                       struct bytes failure)
{
    if (failure.len != 0) {
        sysreq_write_error(out, server, 500, failure);
        return;
    }
    struct json_write w;
    json_write_init(&w, out, 0);
    json_write_object(&w, NULL);
    sysevents_write_server(&w, "server", server);
    json_write_end(&w);
}

static void write_permissions(struct json_write *w, const struct perms_spec *p)
{
    json_write_object(w, "permissions");
    json_write_object(w, "publish");
    json_write_texts_if(w, "allow", p->publish_allow.entries, p->publish_allow.count);
    json_write_texts_if(w, "deny", p->publish_deny.entries, p->publish_deny.count);
    json_write_end(w);
    json_write_object(w, "subscribe");
    json_write_texts_if(w, "allow", p->subscribe_allow.entries, p->subscribe_allow.count);
    json_write_texts_if(w, "deny", p->subscribe_deny.entries, p->subscribe_deny.count);
    json_write_end(w);
    if (p->has_responses) {
        json_write_object(w, "responses");
        json_write_i64(w, "max", p->responses_max);
        json_write_i64(w, "ttl", p->responses_ttl_ns);
        json_write_end(w);
    }
    json_write_end(w);
}

void sysreq_write_user(struct text *out, const struct server_snapshot *server,
                       const struct sysreq_user *user)
{
    struct json_write w;
    json_write_init(&w, out, 0);
    json_write_object(&w, NULL);
    sysevents_write_server(&w, "server", server);
    json_write_object(&w, "data");
    json_write_text(&w, "user", user->user);
    json_write_text(&w, "account", user->account);
    json_write_text_if(&w, "account_name", user->account_name);
    json_write_text_if(&w, "user_name", user->user_name);
    if (user->permissions != NULL) write_permissions(&w, user->permissions);
    json_write_i64_if(&w, "expires", user->expires_ns);
    json_write_end(&w);
    json_write_end(&w);
}
