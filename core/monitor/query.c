#include "core/monitor/query.h"
#include "core/base/must.h"
#include "core/route/subject.h"

/* --- paths ----------------------------------------------------------------------------------- */

static const struct {
    const char *path;
    enum page page;
} page_paths[] = {
    {"/", PAGE_ROOT},           {"/varz", PAGE_VARZ},         {"/connz", PAGE_CONNZ},
    {"/routez", PAGE_ROUTEZ},   {"/gatewayz", PAGE_GATEWAYZ}, {"/leafz", PAGE_LEAFZ},
    {"/subsz", PAGE_SUBSZ},     {"/accountz", PAGE_ACCOUNTZ}, {"/accstatz", PAGE_ACCSTATZ},
    {"/jsz", PAGE_JSZ},         {"/healthz", PAGE_HEALTHZ},   {"/ipqueuesz", PAGE_IPQUEUESZ},
    {"/raftz", PAGE_RAFTZ},     {"/stacksz", PAGE_STACKSZ},   {"/debug/vars", PAGE_EXPVARZ},
    {"/metrics", PAGE_METRICS}, {"/subscriptionsz", PAGE_SUBSZ}, /* an old name */
};

enum { PAGE_PATH_COUNT = sizeof page_paths / sizeof page_paths[0] };

enum page query_page_of_path(struct bytes path)
{
    for (int i = 0; i < PAGE_PATH_COUNT; i++)
        if (bytes_equal(path, bytes_from_text(page_paths[i].path))) return page_paths[i].page;
    return PAGE_NONE;
}

const char *query_path_of_page(enum page page)
{
    for (int i = 0; i < PAGE_PATH_COUNT; i++)
        if (page_paths[i].page == page) return page_paths[i].path;
    return NULL;
}

/* --- values ----------------------------------------------------------------------------------- */

/* Where the parameters come from, and where the complaint goes. */
struct params {
    const struct query_param *list;
    size_t count;
    struct text *error;
};

static struct bytes param_of(const struct params *p, const char *name)
{
    struct bytes wanted = bytes_from_text(name);
    for (size_t i = 0; i < p->count; i++)
        if (bytes_equal(p->list[i].name, wanted)) return p->list[i].value;
    return (struct bytes){NULL, 0};
}

/* Error decoding <type> for '<name>': strconv.<function>: parsing "<value>": <what> */
static enum err decode_error(const struct params *p, const char *type, const char *name,
                             const char *function, struct bytes value, const char *what)
{
    char room[256];
    struct writer w;
    writer_init(&w, room, sizeof room);
    /* Go quotes the whole value; a very long one is cut, nobody matches on that. */
    writer_quoted(&w, bytes_of(value.data, value.len < 60 ? value.len : 60));
    text_string(p->error, "Error decoding ");
    text_string(p->error, type);
    text_string(p->error, " for '");
    text_string(p->error, name);
    text_string(p->error, "': strconv.");
    text_string(p->error, function);
    text_string(p->error, ": parsing ");
    text_bytes(p->error, writer_written(&w));
    text_string(p->error, ": ");
    text_string(p->error, what);
    return ERR_INVALID;
}

static enum err decode_bool(const struct params *p, const char *name, bool *out)
{
    static const char *const spellings[] = {"1", "t", "T", "TRUE", "true", "True",
                                            "0", "f", "F", "FALSE", "false", "False"};
    struct bytes value = param_of(p, name);
    if (value.len == 0) return ERR_OK;
    for (int i = 0; i < 12; i++) {
        if (!bytes_equal(value, bytes_from_text(spellings[i]))) continue;
        *out = i < 6;
        return ERR_OK;
    }
    return decode_error(p, "boolean", name, "ParseBool", value, "invalid syntax");
}

/* Digits up to max. A digit that goes beyond max ends the scan, as in Go: what follows it is not
 * looked at any more. */
static enum err parse_digits(struct bytes digits, uint64_t max, uint64_t *out)
{
    if (digits.len == 0) return ERR_SYNTAX;
    uint64_t value = 0;
    for (size_t i = 0; i < digits.len; i++) {
        char c = digits.data[i];
        if (c < '0' || c > '9') return ERR_SYNTAX;
        uint64_t digit = (uint64_t)(c - '0');
        if (value > (max - digit) / 10) return ERR_RANGE;
        value = value * 10 + digit;
    }
    *out = value;
    return ERR_OK;
}

static enum err decode_int(const struct params *p, const char *name, int64_t *out)
{
    struct bytes value = param_of(p, name);
    if (value.len == 0) return ERR_OK;
    bool is_negative = value.data[0] == '-';
    struct bytes digits = value;
    if (is_negative || value.data[0] == '+') digits = bytes_of(value.data + 1, value.len - 1);
    uint64_t magnitude = 0;
    uint64_t max = is_negative ? (uint64_t)INT64_MAX + 1 : (uint64_t)INT64_MAX;
    enum err e = parse_digits(digits, max, &magnitude);
    if (e == ERR_SYNTAX) return decode_error(p, "int", name, "Atoi", value, "invalid syntax");
    if (e != ERR_OK) return decode_error(p, "int", name, "Atoi", value, "value out of range");
    *out = is_negative ? (int64_t)(0 - magnitude) : (int64_t)magnitude;
    return ERR_OK;
}

static enum err decode_u64(const struct params *p, const char *name, uint64_t *out)
{
    struct bytes value = param_of(p, name);
    if (value.len == 0) return ERR_OK;
    enum err e = parse_digits(value, UINT64_MAX, out);
    if (e == ERR_SYNTAX)
        return decode_error(p, "uint64", name, "ParseUint", value, "invalid syntax");
    if (e != ERR_OK)
        return decode_error(p, "uint64", name, "ParseUint", value, "value out of range");
    return ERR_OK;
}

/* subs = detail (any case) or a boolean. */
static enum err decode_subs(const struct params *p, struct page_query *q)
{
    q->subs_detail = bytes_equal_nocase(param_of(p, "subs"), BYTES_LITERAL("detail"));
    return q->subs_detail ? ERR_OK : decode_bool(p, "subs", &q->subs);
}

static enum err decode_state(const struct params *p, enum conn_state *out)
{
    struct bytes value = param_of(p, "state");
    if (value.len == 0 || bytes_equal_nocase(value, BYTES_LITERAL("open"))) {
        *out = CONN_STATE_OPEN;
    } else if (bytes_equal_nocase(value, BYTES_LITERAL("closed"))) {
        *out = CONN_STATE_CLOSED;
    } else if (bytes_equal_nocase(value, BYTES_LITERAL("any")) ||
               bytes_equal_nocase(value, BYTES_LITERAL("all"))) {
        *out = CONN_STATE_ALL;
    } else {
        text_string(p->error, "Error decoding state for ");
        text_bytes(p->error, value);
        return ERR_INVALID;
    }
    return ERR_OK;
}

enum err query_keep(struct page_query *q, struct bytes text, struct bytes *kept)
{
    must(q->text_bytes <= QUERY_TEXT_MAX);
    if (text.len > QUERY_TEXT_MAX - q->text_bytes) return ERR_TOO_LONG;
    *kept = (struct bytes){NULL, 0};
    if (text.len == 0) return ERR_OK;
    char *copy = q->text + q->text_bytes;
    memcpy(copy, text.data, text.len);
    q->text_bytes += text.len;
    *kept = bytes_of(copy, text.len);
    return ERR_OK;
}

static enum err keep_param(const struct params *p, struct page_query *q, const char *name,
                           struct bytes *out)
{
    if (query_keep(q, param_of(p, name), out) == ERR_OK) return ERR_OK;
    text_string(p->error, "query too long");
    return ERR_INVALID;
}

/* --- pages, in the order in which nats-server decodes ---------------------------------------- */

#define TRY(call) \
    do { \
        enum err try_ = (call); \
        if (try_ != ERR_OK) return try_; \
    } while (0)

static enum err parse_connz(const struct params *p, struct page_query *q)
{
    TRY(decode_bool(p, "auth", &q->auth));
    TRY(decode_subs(p, q));
    TRY(decode_int(p, "offset", &q->offset));
    TRY(decode_int(p, "limit", &q->limit));
    TRY(decode_u64(p, "cid", &q->cid));
    TRY(decode_state(p, &q->state));
    TRY(keep_param(p, q, "user", &q->user));
    TRY(keep_param(p, q, "acc", &q->account));
    return keep_param(p, q, "mqtt_client", &q->mqtt_client);
}

static enum err parse_subsz(const struct params *p, struct page_query *q)
{
    TRY(decode_bool(p, "subs", &q->subs));
    TRY(decode_int(p, "offset", &q->offset));
    TRY(decode_int(p, "limit", &q->limit));
    TRY(keep_param(p, q, "test", &q->test));
    return keep_param(p, q, "acc", &q->account);
}

static enum err parse_gatewayz(const struct params *p, struct page_query *q)
{
    TRY(decode_subs(p, q));
    TRY(decode_bool(p, "accs", &q->gateway_accounts));
    TRY(keep_param(p, q, "gw_name", &q->gateway_name));
    return keep_param(p, q, "acc_name", &q->account);
}

static enum err parse_jsz(const struct params *p, struct page_query *q)
{
    TRY(decode_bool(p, "accounts", &q->js_accounts));
    TRY(decode_bool(p, "streams", &q->js_streams));
    TRY(decode_bool(p, "consumers", &q->js_consumers));
    TRY(decode_bool(p, "direct-consumers", &q->js_direct_consumers));
    TRY(decode_bool(p, "config", &q->js_config));
    TRY(decode_int(p, "offset", &q->offset));
    TRY(decode_int(p, "limit", &q->limit));
    TRY(decode_bool(p, "leader-only", &q->js_leader_only));
    TRY(decode_bool(p, "raft", &q->js_raft));
    TRY(decode_bool(p, "stream-leader-only", &q->js_stream_leader_only));
    return keep_param(p, q, "acc", &q->account);
}

static enum err parse_healthz(const struct params *p, struct page_query *q)
{
    TRY(decode_bool(p, "js-enabled", &q->js_enabled));
    TRY(decode_bool(p, "js-enabled-only", &q->js_enabled_only));
    TRY(decode_bool(p, "js-server-only", &q->js_server_only));
    TRY(decode_bool(p, "js-meta-only", &q->js_meta_only));
    TRY(decode_bool(p, "details", &q->details));
    TRY(keep_param(p, q, "account", &q->account));
    TRY(keep_param(p, q, "stream", &q->stream));
    return keep_param(p, q, "consumer", &q->consumer);
}

static bool is_metric_prefix(struct bytes name)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = name.data[i];
        bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
        if (!is_letter && (i == 0 || c < '0' || c > '9')) return false;
    }
    return true;
}

/* consumers = durable (the default), all or none. */
static enum err decode_consumers(const struct params *p, struct page_query *q)
{
    struct bytes value = param_of(p, "consumers");
    q->js_ephemeral = bytes_equal_nocase(value, BYTES_LITERAL("all"));
    q->js_consumers = !bytes_equal_nocase(value, BYTES_LITERAL("none"));
    if (value.len == 0 || q->js_ephemeral || !q->js_consumers ||
        bytes_equal_nocase(value, BYTES_LITERAL("durable")))
        return ERR_OK;
    text_string(p->error, "invalid consumers: durable, all or none");
    return ERR_INVALID;
}

/* Ours alone: prefix of the names, which streams and consumers, and connections one by one (bounded
 * by limit). */
static enum err parse_metrics(const struct params *p, struct page_query *q)
{
    TRY(keep_param(p, q, "prefix", &q->prefix));
    if (!is_metric_prefix(q->prefix)) {
        text_string(p->error, "invalid prefix: letters, digits and underscores only");
        return ERR_INVALID;
    }
    TRY(decode_bool(p, "connz_detailed", &q->connz_detailed));
    q->js_streams = true;
    TRY(decode_bool(p, "streams", &q->js_streams));
    TRY(decode_consumers(p, q));
    if (param_of(p, "streams").len == 0) q->js_streams_max = QUERY_METRICS_SINGLES;
    if (param_of(p, "consumers").len == 0) q->js_consumers_max = QUERY_METRICS_SINGLES;
    return decode_int(p, "limit", &q->limit);
}

static enum err parse_page(const struct params *p, struct page_query *q)
{
    switch (q->page) {
    case PAGE_CONNZ:
        return parse_connz(p, q);
    case PAGE_SUBSZ:
        return parse_subsz(p, q);
    case PAGE_ROUTEZ:
        return decode_subs(p, q);
    case PAGE_GATEWAYZ:
        return parse_gatewayz(p, q);
    case PAGE_LEAFZ:
        TRY(decode_bool(p, "subs", &q->subs));
        return keep_param(p, q, "acc", &q->account);
    case PAGE_ACCOUNTZ:
        return keep_param(p, q, "acc", &q->account);
    case PAGE_ACCSTATZ:
        return decode_bool(p, "unused", &q->unused);
    case PAGE_JSZ:
        return parse_jsz(p, q);
    case PAGE_HEALTHZ:
        return parse_healthz(p, q);
    case PAGE_IPQUEUESZ:
        TRY(decode_bool(p, "all", &q->all));
        return keep_param(p, q, "queues", &q->queues);
    case PAGE_RAFTZ:
        TRY(keep_param(p, q, "acc", &q->account));
        return keep_param(p, q, "group", &q->group);
    case PAGE_METRICS:
        return parse_metrics(p, q);
    default: /* pages without parameters */
        return ERR_OK;
    }
}

void query_init(struct page_query *q, enum page page)
{
    /* The text room is large and needs no zeros. */
    memset(q, 0, offsetof(struct page_query, text));
    q->page = page;
    q->account_number = QUERY_NO_ACCOUNT;
}

enum err query_parse(struct page_query *q, enum page page, const struct query_param *params,
                     size_t param_count, struct text *error)
{
    struct params p = {params, param_count, error};
    query_init(q, page);
    TRY(parse_page(&p, q));
    return query_finish(q, page == PAGE_CONNZ ? param_of(&p, "sort") : (struct bytes){NULL, 0},
                        error);
}

/* --- the last step --------------------------------------------------------------------------- */

static enum err parse_sort(struct bytes sort, enum conn_sort *out, struct text *error)
{
    static const char *const names[] = {
        [CONN_SORT_CID] = "cid",
        [CONN_SORT_START] = "start",
        [CONN_SORT_SUBS] = "subs",
        [CONN_SORT_PENDING] = "pending",
        [CONN_SORT_MSGS_TO] = "msgs_to",
        [CONN_SORT_MSGS_FROM] = "msgs_from",
        [CONN_SORT_BYTES_TO] = "bytes_to",
        [CONN_SORT_BYTES_FROM] = "bytes_from",
        [CONN_SORT_LAST] = "last",
        [CONN_SORT_IDLE] = "idle",
        [CONN_SORT_UPTIME] = "uptime",
        [CONN_SORT_STOP] = "stop",
        [CONN_SORT_REASON] = "reason",
        [CONN_SORT_RTT] = "rtt",
    };
    *out = CONN_SORT_CID;
    if (sort.len == 0) return ERR_OK;
    for (int i = CONN_SORT_CID; i <= CONN_SORT_RTT; i++) {
        if (!bytes_equal(sort, bytes_from_text(names[i]))) continue;
        *out = (enum conn_sort)i;
        return ERR_OK;
    }
    text_string(error, "invalid sorting option: ");
    text_bytes(error, sort);
    return ERR_INVALID;
}

static enum err refuse(struct text *error, const char *why)
{
    text_string(error, why);
    return ERR_INVALID;
}

static void clamp_list(struct page_query *q)
{
    if (q->offset < 0) q->offset = 0;
    if (q->limit <= 0) q->limit = QUERY_LIST_DEFAULT;
}

static enum err finish_connz(struct page_query *q, struct bytes sort, struct text *error)
{
    TRY(parse_sort(sort, &q->sort, error));
    clamp_list(q);
    if (q->sort == CONN_SORT_STOP && q->state != CONN_STATE_CLOSED)
        return refuse(error, "sort by stop only valid on closed connections");
    if (q->sort == CONN_SORT_REASON && q->state != CONN_STATE_CLOSED)
        return refuse(error, "sort by reason only valid on closed connections");
    if (q->cid > 0) q->limit = 1;
    if (bytes_equal(q->filter_subject, BYTES_LITERAL(">"))) q->filter_subject.len = 0;
    if (q->filter_subject.len != 0 && q->account.len == 0)
        return refuse(error, "filter by subject only valid with account filtering");

    if (q->state != CONN_STATE_CLOSED) q->collect |= COLLECT_CONNECTIONS;
    if (q->state != CONN_STATE_OPEN) q->collect |= COLLECT_CLOSED;
    if (q->subs || q->subs_detail) q->collect |= COLLECT_CONNECTION_SUBS;
    return ERR_OK;
}

static enum err finish_subsz(struct page_query *q, struct text *error)
{
    clamp_list(q);
    if (q->test.len != 0 && !subject_is_literal(q->test)) {
        text_string(error, "invalid test subject, must be valid publish subject: ");
        text_bytes(error, q->test);
        return ERR_INVALID;
    }
    if (q->subs) q->collect |= COLLECT_SUBS;
    return ERR_OK;
}

enum err query_finish(struct page_query *q, struct bytes sort, struct text *error)
{
    switch (q->page) {
    case PAGE_CONNZ:
        return finish_connz(q, sort, error);
    case PAGE_SUBSZ:
        return finish_subsz(q, error);
    case PAGE_GATEWAYZ:
        if (q->account.len != 0) q->gateway_accounts = true;
        return ERR_OK;
    case PAGE_JSZ:
        if (q->offset < 0) q->offset = 0;
        if (q->limit == 0) q->limit = QUERY_LIST_DEFAULT;
        if (q->js_consumers) q->js_streams = true;
        if (q->js_streams && q->account.len == 0) q->js_accounts = true;
        q->collect |= COLLECT_JETSTREAM | COLLECT_JS_MESSAGES;
        if (q->js_streams) q->collect |= COLLECT_JS_STREAMS;
        if (q->js_consumers) q->collect |= COLLECT_JS_CONSUMERS;
        q->js_ephemeral = true;
        return ERR_OK;
    case PAGE_VARZ:
        q->collect |= COLLECT_JETSTREAM;
        return ERR_OK;
    case PAGE_HEALTHZ:
        q->collect |= COLLECT_JETSTREAM;
        if (q->details) q->collect |= COLLECT_JS_MESSAGES;
        if (q->stream.len != 0) q->collect |= COLLECT_JS_ASSET;
        return ERR_OK;
    case PAGE_METRICS:
        clamp_list(q);
        q->collect |= COLLECT_ACCOUNTS | COLLECT_HISTOGRAMS;
        q->collect |= COLLECT_JETSTREAM | COLLECT_JS_MESSAGES;
        if (q->js_streams) q->collect |= COLLECT_JS_STREAMS;
        if (q->js_streams && q->js_consumers) q->collect |= COLLECT_JS_CONSUMERS;
        if (q->connz_detailed) q->collect |= COLLECT_CONNECTIONS;
        return ERR_OK;
    case PAGE_ACCOUNT_NSUBS: /* counts, lists nothing: limit stays 0 */
        q->collect |= COLLECT_SUBS | COLLECT_ACCOUNTS;
        return ERR_OK;
    case PAGE_STATSZ: /* counts active accounts */
        q->collect |= COLLECT_ACCOUNTS | COLLECT_JETSTREAM;
        return ERR_OK;
    case PAGE_ACCSTATZ:
    case PAGE_ACCOUNTZ:
    case PAGE_ACCOUNT_INFO:
    case PAGE_ACCOUNT_CONNS:
        q->collect |= COLLECT_ACCOUNTS;
        return ERR_OK;
    default:
        return ERR_OK;
    }
}

/* --- what shards ask ------------------------------------------------------------------------- */

bool query_wants_conn(const struct page_query *q, const struct conn_facts *facts)
{
    if (q->cid != 0 && facts->cid != q->cid) return false;
    if (q->account.len != 0 && facts->account != q->account_number) return false;
    if (q->user.len != 0 && !bytes_equal(facts->user, q->user)) return false;
    if (q->mqtt_client.len != 0 && !bytes_equal(facts->mqtt_client, q->mqtt_client)) return false;
    return true;
}

static int64_t clamp(uint64_t value)
{
    return value > INT64_MAX ? INT64_MAX : (int64_t)value;
}

/* Number of reasons whose text sorts before the text of reason. */
static int64_t reason_rank(enum closed_reason reason)
{
    struct bytes text = closed_reason_text(reason);
    int64_t rank = 0;
    for (int other = CLOSED_NONE; other < CLOSED_REASON_COUNT; other++)
        if (bytes_compare(closed_reason_text((enum closed_reason)other), text) < 0) rank++;
    return rank;
}

int64_t query_conn_key(const struct page_query *q, const struct conn_facts *facts)
{
    switch (q->sort) {
    case CONN_SORT_CID:
    case CONN_SORT_START: /* connection ids are given in the order of arrival */
        return -clamp(facts->cid);
    case CONN_SORT_SUBS:
        return facts->subscriptions;
    case CONN_SORT_PENDING:
        return clamp(facts->pending_bytes);
    case CONN_SORT_MSGS_TO:
        return clamp(facts->out.msgs);
    case CONN_SORT_MSGS_FROM:
        return clamp(facts->in.msgs);
    case CONN_SORT_BYTES_TO:
        return clamp(facts->out.bytes);
    case CONN_SORT_BYTES_FROM:
        return clamp(facts->in.bytes);
    case CONN_SORT_LAST:
        return facts->last_activity_ns;
    case CONN_SORT_IDLE:
        return -facts->last_activity_ns;
    case CONN_SORT_UPTIME: { /* the youngest first, as in nats-server */
        int64_t end_ns = facts->stop_ns != 0 ? facts->stop_ns : facts->now_ns;
        return facts->start_ns - end_ns;
    }
    case CONN_SORT_STOP:
        return facts->stop_ns;
    case CONN_SORT_REASON: /* alphabetic */
        return -reason_rank(facts->reason);
    case CONN_SORT_RTT:
        return facts->rtt_ns;
    }
    must(!"sort order");
    return 0;
}

bool query_wants_sub(const struct page_query *q, uint32_t account, struct bytes subject)
{
    if (q->account.len != 0 && account != q->account_number) return false;
    if (q->test.len != 0 && !subject_matches(q->test, subject)) return false;
    return true;
}

uint64_t query_window(const struct page_query *q)
{
    uint64_t offset = q->offset > 0 ? (uint64_t)q->offset : 0;
    uint64_t limit = q->limit > 0 ? (uint64_t)q->limit : 0;
    return offset + limit; /* both below 2^63: no overflow */
}

