#include "core/js/consumer_config.h"
#include "core/base/must.h"
#include "core/js/overlap.h"
#include "core/route/subject.h"

#define HEARTBEAT_MIN_NS INT64_C(100000000)
#define EXPIRES_MIN_NS INT64_C(1000000)
#define PINNED_TIMEOUT_DEFAULT_NS INT64_C(120000000000)
#define FLOW_HEARTBEAT_NS INT64_C(1000000000)

static const struct request_enum deliver_words = {
    .values = {{"all", CONSUMER_DELIVER_ALL},
               {"undefined", CONSUMER_DELIVER_ALL},
               {"last", CONSUMER_DELIVER_LAST},
               {"new", CONSUMER_DELIVER_NEW},
               {"by_start_sequence", CONSUMER_DELIVER_BY_START_SEQUENCE},
               {"by_start_time", CONSUMER_DELIVER_BY_START_TIME},
               {"last_per_subject", CONSUMER_DELIVER_LAST_PER_SUBJECT}}};
static const struct request_enum ack_words = {.values = {{"none", CONSUMER_ACK_NONE},
                                                         {"all", CONSUMER_ACK_ALL},
                                                         {"explicit", CONSUMER_ACK_EXPLICIT},
                                                         {"flow_control", CONSUMER_ACK_FLOW}}};
static const struct request_enum replay_words = {
    .values = {{"instant", CONSUMER_REPLAY_INSTANT}, {"original", CONSUMER_REPLAY_ORIGINAL}}};
static const struct request_enum priority_words = {
    .values = {{"none", 0}, {"overflow", 1}, {"pinned_client", 2}, {"prioritized", 3}},
    .refusal = "unknown priority policy: "};

#define FIELD(member, text, ...) REQUEST_FIELD(struct consumer_config, member, text, __VA_ARGS__)

/* In the order in which they are shown. */
static const struct request_field fields[] = {
    FIELD(durable_name, "durable_name", REQUEST_TEXT),
    FIELD(name, "name", REQUEST_TEXT),
    FIELD(description, "description", REQUEST_TEXT),
    FIELD(deliver_policy, "deliver_policy", REQUEST_ENUM, .values = &deliver_words),
    FIELD(opt_start_seq, "opt_start_seq", REQUEST_UINT64),
    FIELD(opt_start_time, "opt_start_time", REQUEST_TIME),
    FIELD(ack_policy, "ack_policy", REQUEST_ENUM, .values = &ack_words),
    FIELD(ack_wait_ns, "ack_wait", REQUEST_DURATION),
    FIELD(max_deliver, "max_deliver", REQUEST_INT),
    FIELD(backoff, "backoff", REQUEST_DURATIONS),
    FIELD(filter_subject, "filter_subject", REQUEST_TEXT),
    FIELD(filter_subjects, "filter_subjects", REQUEST_TEXTS),
    FIELD(replay_policy, "replay_policy", REQUEST_ENUM, .values = &replay_words),
    FIELD(rate_limit_bps, "rate_limit_bps", REQUEST_UINT64),
    FIELD(sample_freq, "sample_freq", REQUEST_TEXT),
    FIELD(max_waiting, "max_waiting", REQUEST_INT),
    FIELD(max_ack_pending, "max_ack_pending", REQUEST_INT),
    FIELD(flow_control, "flow_control", REQUEST_BOOL),
    FIELD(headers_only, "headers_only", REQUEST_BOOL),
    FIELD(max_batch, "max_batch", REQUEST_INT),
    FIELD(max_expires_ns, "max_expires", REQUEST_DURATION),
    FIELD(max_bytes, "max_bytes", REQUEST_INT),
    FIELD(deliver_subject, "deliver_subject", REQUEST_TEXT),
    FIELD(deliver_group, "deliver_group", REQUEST_TEXT),
    FIELD(heartbeat_ns, "idle_heartbeat", REQUEST_DURATION),
    FIELD(inactive_threshold_ns, "inactive_threshold", REQUEST_DURATION),
    FIELD(replicas, "num_replicas", REQUEST_INT),
    FIELD(mem_storage, "mem_storage", REQUEST_BOOL),
    FIELD(direct, "direct", REQUEST_BOOL),
    FIELD(sourcing, "sourcing", REQUEST_BOOL),
    FIELD(metadata, "metadata", REQUEST_MAP),
    FIELD(pause_until, "pause_until", REQUEST_TIME),
    FIELD(priority_groups, "priority_groups", REQUEST_TEXTS),
    FIELD(priority_policy, "priority_policy", REQUEST_ENUM, .values = &priority_words),
    FIELD(priority_timeout_ns, "priority_timeout", REQUEST_DURATION),
};

enum { FIELD_COUNT = sizeof fields / sizeof fields[0] };

const struct request_type consumer_config_type = {.go_name = "ConsumerConfig",
                                                  .fields = fields,
                                                  .field_count = FIELD_COUNT,
                                                  .bytes = sizeof(struct consumer_config)};

/* Always shown; the rest only where it is set. */
static bool is_always_shown(const struct request_field *f)
{
    return f->offset == offsetof(struct consumer_config, deliver_policy) ||
           f->offset == offsetof(struct consumer_config, ack_policy) ||
           f->offset == offsetof(struct consumer_config, replay_policy) ||
           f->offset == offsetof(struct consumer_config, replicas);
}

/* --- questions ------------------------------------------------------------------------------- */

bool consumer_config_is_push(const struct consumer_config *c)
{
    return c->deliver_subject.len > 0;
}

bool consumer_config_is_durable(const struct consumer_config *c)
{
    return c->durable_name.len > 0;
}

uint32_t consumer_config_filter_count(const struct consumer_config *c)
{
    return c->filter_subject.len > 0 ? 1 : c->filter_subjects.count;
}

struct bytes consumer_config_filter(const struct consumer_config *c, uint32_t index)
{
    must(index < consumer_config_filter_count(c));
    return c->filter_subject.len > 0 ? c->filter_subject : c->filter_subjects.items[index];
}

static enum err parse_sample(struct bytes text, int64_t *percent)
{
    if (bytes_ends_with(text, BYTES_LITERAL("%"))) text.len--;
    return bytes_to_i64(text, percent);
}

uint32_t consumer_config_sample_percent(const struct consumer_config *c)
{
    int64_t percent;
    if (c->sample_freq.len == 0 || parse_sample(c->sample_freq, &percent) != ERR_OK) return 0;
    return percent <= 0 ? 0 : percent > 100 ? 100 : (uint32_t)percent;
}

uint32_t consumer_config_level(const struct consumer_config *c)
{
    if (c->ack_policy == CONSUMER_ACK_FLOW) return 4;
    return time_stamp_is_real(&c->pause_until) ? 1 : 0;
}

void consumer_config_settle(struct consumer_config *c)
{
    if (!consumer_config_is_durable(c) && c->inactive_threshold_ns <= 0)
        c->inactive_threshold_ns = CONSUMER_INACTIVE_DEFAULT_NS;
}

/* --- defaults -------------------------------------------------------------------------------- */

static bool refuse_pedantic(struct jsapi_error *error, const char *text)
{
    return jsapi_error_refuse_text(error, JSAPI_PEDANTIC, bytes_from_text(text));
}

/* A value below low becomes what it should have been. */
static bool lift(int64_t *value, int64_t low, int64_t instead, bool is_pedantic, const char *text,
                 struct jsapi_error *error)
{
    if (*value >= low) return true;
    if (is_pedantic) return refuse_pedantic(error, text);
    *value = instead;
    return true;
}

static bool lift_all(struct consumer_config *c, bool is_pedantic, struct jsapi_error *error)
{
    return lift(&c->max_deliver, -1, -1, is_pedantic, "max_deliver must be set to -1", error) &&
           lift(&c->max_waiting, 0, 0, is_pedantic, "max_waiting must not be negative", error) &&
           lift(&c->max_ack_pending, -1, -1, is_pedantic, "max_ack_pending must be set to -1",
                error) &&
           lift(&c->max_batch, 0, 0, is_pedantic, "max_batch must not be negative", error) &&
           lift(&c->max_expires_ns, 0, 0, is_pedantic, "max_expires must not be negative", error) &&
           lift(&c->max_bytes, 0, 0, is_pedantic, "max_bytes must not be negative", error) &&
           lift(&c->heartbeat_ns, 0, 0, is_pedantic, "idle_heartbeat must not be negative",
                error) &&
           lift(&c->inactive_threshold_ns, 0, 0, is_pedantic,
                "inactive_threshold must not be negative", error) &&
           lift(&c->priority_timeout_ns, 0, 0, is_pedantic, "priority_timeout must not be negative",
                error);
}

static bool is_servers_own(struct bytes key)
{
    return bytes_equal(key, BYTES_LITERAL("_nats.req.level")) ||
           bytes_equal(key, BYTES_LITERAL("_nats.ver")) ||
           bytes_equal(key, BYTES_LITERAL("_nats.level"));
}

/* The server writes its own entries itself, whatever a client says about them. */
static void drop_servers_own(struct request_map *m)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < m->count; i++)
        if (!is_servers_own(m->items[i].key)) m->items[kept++] = m->items[i];
    m->count = kept;
}

void consumer_config_unwrap(struct consumer_config *c)
{
    drop_servers_own(&c->metadata);
}

static int64_t lower(int64_t value, int64_t limit)
{
    return limit > 0 && limit < value ? limit : value;
}

bool consumer_config_set_defaults(struct consumer_config *c, const struct consumer_rules *rules,
                                  bool is_pedantic, struct jsapi_error *error)
{
    if (!lift_all(c, is_pedantic, error)) return false;
    drop_servers_own(&c->metadata);
    bool is_push = consumer_config_is_push(c);
    if (c->max_deliver == 0) c->max_deliver = -1;
    if (!is_push && c->max_waiting == 0) c->max_waiting = CONSUMER_MAX_WAITING_DEFAULT;
    if (c->ack_wait_ns == 0 &&
        (c->ack_policy == CONSUMER_ACK_EXPLICIT || c->ack_policy == CONSUMER_ACK_ALL))
        c->ack_wait_ns = CONSUMER_ACK_WAIT_DEFAULT_NS;
    if (c->backoff.count > 0) {
        if (is_pedantic && c->ack_wait_ns != c->backoff.items[0])
            return refuse_pedantic(error, "first backoff value has to equal batch AckWait");
        c->ack_wait_ns = c->backoff.items[0];
    }
    if (c->max_ack_pending == 0) {
        if (is_pedantic && rules->stream_max_ack_pending > 0)
            return refuse_pedantic(
                error, "max_ack_pending must be set if it's configured in stream limits");
        c->max_ack_pending = rules->stream_max_ack_pending;
    }
    if (c->inactive_threshold_ns == 0) {
        if (is_pedantic && rules->stream_inactive_threshold_ns > 0)
            return refuse_pedantic(
                error, "inactive_threshold must be set if it's configured in stream limits");
        c->inactive_threshold_ns = rules->stream_inactive_threshold_ns;
    }
    if (c->max_ack_pending == 0 && c->ack_policy != CONSUMER_ACK_NONE)
        c->max_ack_pending =
            lower(lower(CONSUMER_MAX_ACK_PENDING_DEFAULT, rules->server_max_ack_pending),
                  rules->account_max_ack_pending);
    if (!is_push && c->max_batch == 0 && rules->server_max_batch > 0) {
        if (is_pedantic)
            return refuse_pedantic(
                error, "max_request_batch must be set if it's JetStream limits are set");
        c->max_batch = rules->server_max_batch;
    }
    if (c->priority_policy == 2 && c->priority_timeout_ns == 0)
        c->priority_timeout_ns = PINNED_TIMEOUT_DEFAULT_NS;
    if (c->ack_policy == CONSUMER_ACK_FLOW && !is_pedantic) {
        c->flow_control = true;
        c->heartbeat_ns = FLOW_HEARTBEAT_NS;
    }
    return true;
}

/* --- checks, in the order of nats-server ----------------------------------------------------- */

static bool refuse_config(struct jsapi_error *error, const char *text)
{
    return jsapi_error_refuse_text(error, JSAPI_STREAM_INVALID_CONFIG, bytes_from_text(text));
}

static bool check_names(const struct consumer_config *c, struct jsapi_error *error)
{
    if (c->name.len > 0 && !stream_config_is_name(c->name))
        return refuse_config(error, "consumer name can not contain '.', '*', '>', '\\', '/'");
    if (c->durable_name.len > 0 && !stream_config_is_name(c->durable_name))
        return refuse_config(error,
                             "consumer durable name can not contain '.', '*', '>', '\\', '/'");
    return true;
}

static bool check_replicas(const struct consumer_config *c, const struct consumer_rules *rules,
                           struct jsapi_error *error)
{
    if (c->replicas > 0 && c->replicas > rules->replicas)
        return jsapi_error_refuse(error, JSAPI_CONSUMER_REPLICAS_EXCEEDS_STREAM);
    if (c->replicas < 0) return jsapi_error_refuse(error, JSAPI_REPLICAS_COUNT_CANNOT_BE_NEGATIVE);
    if ((rules->is_interest || rules->is_workqueue) && c->replicas != 0 &&
        c->replicas != rules->replicas)
        return jsapi_error_refuse(error, JSAPI_CONSUMER_REPLICAS_SHOULD_MATCH_STREAM);
    return true;
}

static bool check_flow_acks(const struct consumer_config *c, struct jsapi_error *error)
{
    if (c->ack_policy != CONSUMER_ACK_FLOW) return true;
    if (!consumer_config_is_push(c))
        return jsapi_error_refuse(error, JSAPI_CONSUMER_ACK_FC_REQUIRES_PUSH);
    if (!c->flow_control) return jsapi_error_refuse(error, JSAPI_CONSUMER_ACK_FC_REQUIRES_FC);
    if (c->heartbeat_ns != FLOW_HEARTBEAT_NS)
        return refuse_config(error, "flow control ack policy heartbeat needs to be 1s");
    if (c->max_ack_pending <= 0)
        return jsapi_error_refuse(error, JSAPI_CONSUMER_ACK_FC_REQUIRES_MAX_ACK_PENDING);
    if (c->ack_wait_ns != 0 || c->backoff.count > 0)
        return jsapi_error_refuse(error, JSAPI_CONSUMER_ACK_FC_REQUIRES_NO_ACK_WAIT);
    if (c->max_deliver > 0)
        return jsapi_error_refuse(error, JSAPI_CONSUMER_ACK_FC_REQUIRES_NO_MAX_DELIVER);
    return true;
}

static bool check_waits(const struct consumer_config *c, struct jsapi_error *error)
{
    for (uint32_t i = 0; i < c->backoff.count; i++)
        if (c->backoff.items[i] < 0)
            return jsapi_error_refuse(error, JSAPI_CONSUMER_BACKOFF_NEGATIVE);
    if (c->ack_wait_ns < 0) return jsapi_error_refuse(error, JSAPI_CONSUMER_ACK_WAIT_NEGATIVE);
    return true;
}

static bool check_backoff_count(const struct consumer_config *c, struct jsapi_error *error)
{
    if (c->backoff.count > 0 && c->max_deliver != -1 && (int64_t)c->backoff.count > c->max_deliver)
        return jsapi_error_refuse(error, JSAPI_CONSUMER_MAX_DELIVER_BACKOFF);
    return true;
}

static bool forms_cycle(const struct consumer_rules *rules, struct bytes subject)
{
    for (uint32_t i = 0; i < rules->subject_count; i++)
        if (subject_is_subset(subject, rules->subjects[i])) return true;
    return false;
}

static bool check_push(const struct consumer_config *c, const struct consumer_rules *rules,
                       struct jsapi_error *error)
{
    if (subject_has_wildcard(c->deliver_subject))
        return jsapi_error_refuse(error, JSAPI_CONSUMER_DELIVER_TO_WILDCARDS);
    if (!subject_is_valid(c->deliver_subject) || c->deliver_subject.len > JS_SUBJECT_BYTES_MAX)
        return jsapi_error_refuse(error, JSAPI_CONSUMER_INVALID_DELIVER_SUBJECT);
    if (forms_cycle(rules, c->deliver_subject))
        return jsapi_error_refuse(error, JSAPI_CONSUMER_DELIVER_CYCLE);
    if (c->max_waiting != 0) return jsapi_error_refuse(error, JSAPI_CONSUMER_PUSH_MAX_WAITING);
    if (c->max_ack_pending > 0 && c->ack_policy == CONSUMER_ACK_NONE)
        return jsapi_error_refuse(error, JSAPI_CONSUMER_MAX_PENDING_ACK_POLICY_REQUIRED);
    if (c->heartbeat_ns > 0 && c->heartbeat_ns < HEARTBEAT_MIN_NS)
        return jsapi_error_refuse(error, JSAPI_CONSUMER_SMALL_HEARTBEAT);
    return true;
}

static bool check_pull(const struct consumer_config *c, const struct consumer_rules *rules,
                       struct jsapi_error *error)
{
    if (c->ack_policy == CONSUMER_ACK_NONE && rules->is_workqueue)
        return jsapi_error_refuse(error, JSAPI_CONSUMER_PULL_REQUIRES_ACK);
    if (c->rate_limit_bps > 0)
        return jsapi_error_refuse(error, JSAPI_CONSUMER_PULL_WITH_RATE_LIMIT);
    if (c->heartbeat_ns > 0) return jsapi_error_refuse(error, JSAPI_CONSUMER_HB_REQUIRES_PUSH);
    if (c->flow_control) return jsapi_error_refuse(error, JSAPI_CONSUMER_FC_REQUIRES_PUSH);
    if (c->max_expires_ns != 0 && c->max_expires_ns < EXPIRES_MIN_NS)
        return jsapi_error_refuse(error, JSAPI_CONSUMER_MAX_REQUEST_EXPIRES_TOO_SMALL);
    if (rules->server_max_batch > 0 && c->max_batch > rules->server_max_batch) {
        jsapi_error_set_u64(error, JSAPI_CONSUMER_MAX_REQUEST_BATCH_EXCEEDED,
                            (uint64_t)rules->server_max_batch);
        return false;
    }
    return true;
}

static bool check_pending_limit(const struct consumer_config *c, int64_t limit,
                                struct jsapi_error *error)
{
    if (limit <= 0 || c->max_ack_pending <= limit) return true;
    jsapi_error_set_u64(error, JSAPI_CONSUMER_MAX_PENDING_ACK_EXCESS, (uint64_t)limit);
    return false;
}

static bool check_limits(const struct consumer_config *c, const struct consumer_rules *rules,
                         struct jsapi_error *error)
{
    if (!check_pending_limit(c, rules->server_max_ack_pending, error)) return false;
    if (!check_pending_limit(c, rules->account_max_ack_pending, error)) return false;
    if (!check_pending_limit(c, rules->stream_max_ack_pending, error)) return false;
    int64_t threshold = rules->stream_inactive_threshold_ns;
    if (threshold <= 0 || c->inactive_threshold_ns <= threshold) return true;
    jsapi_error_set_u64(error, JSAPI_CONSUMER_INACTIVE_THRESHOLD_EXCESS, (uint64_t)threshold);
    return false;
}

/* One may have subjects in common with another, but not all of them. */
static bool check_filter(const struct request_texts *f, const struct overlap_list *list,
                         uint32_t at, struct jsapi_error *error)
{
    struct bytes filter = f->items[at];
    if (!subject_is_valid(filter)) return refuse_config(error, "invalid subject");
    if (!overlap_list_meets(list, filter, &f->items[at])) return true;
    for (uint32_t k = 0; k < f->count; k++)
        if (k != at && subject_is_valid(f->items[k]) && subject_is_subset(filter, f->items[k]))
            return jsapi_error_refuse(error, JSAPI_CONSUMER_OVERLAPPING_SUBJECT_FILTERS);
    return true;
}

static bool check_filters(struct mem *mem, const struct consumer_config *c,
                          struct jsapi_error *error)
{
    const struct request_texts *f = &c->filter_subjects;
    if (c->filter_subject.len > 0 && f->count > 0)
        return jsapi_error_refuse(error, JSAPI_CONSUMER_DUPLICATE_FILTER_SUBJECTS);
    if (c->filter_subject.len > 0 && !subject_is_valid(c->filter_subject))
        return refuse_config(error, "invalid subject");
    for (uint32_t i = 0; i < f->count; i++)
        if (f->items[i].len == 0) return jsapi_error_refuse(error, JSAPI_CONSUMER_EMPTY_FILTER);
    if (f->count > JS_SUBJECTS_MAX) return refuse_config(error, "too many filter subjects");
    for (uint32_t i = 0; i < consumer_config_filter_count(c); i++)
        if (consumer_config_filter(c, i).len > JS_SUBJECT_BYTES_MAX)
            return refuse_config(error, "filter subject is too long, maximum allowed is 4096");
    struct overlap_list list;
    if (overlap_list_open(&list, mem, f->items, f->count) != ERR_OK)
        return jsapi_error_refuse(error, JSAPI_INSUFFICIENT_RESOURCES);
    bool is_fine = true;
    for (uint32_t i = 0; is_fine && i < f->count; i++) is_fine = check_filter(f, &list, i, error);
    overlap_list_close(&list);
    return is_fine;
}

static bool refuse_start(struct jsapi_error *error, const char *policy, const char *set,
                         const char *not_set)
{
    char text[160];
    struct writer w;
    writer_init(&w, text, sizeof text);
    writer_text(&w, "consumer delivery policy is deliver ");
    writer_text(&w, policy);
    writer_text(&w, ", but optional ");
    if (set != NULL) writer_text(&w, "start ");
    writer_text(&w, set != NULL ? set : not_set);
    writer_text(&w, set != NULL ? " is also set" : " is not set");
    return jsapi_error_refuse_text(error, JSAPI_CONSUMER_INVALID_POLICY, writer_written(&w));
}

static bool check_start(const struct consumer_config *c, struct jsapi_error *error)
{
    static const char *const names[] = {
        "all", "last", "new", "by start sequence", "by start time", "last per subject"};
    must(c->deliver_policy < sizeof names / sizeof names[0]);
    const char *name = names[c->deliver_policy];
    if (c->deliver_policy == CONSUMER_DELIVER_BY_START_SEQUENCE) {
        if (c->opt_start_seq == 0) return refuse_start(error, name, NULL, "start sequence");
        if (c->opt_start_time.is_set) return refuse_start(error, name, "time", NULL);
        return true;
    }
    if (c->deliver_policy == CONSUMER_DELIVER_BY_START_TIME) {
        if (!c->opt_start_time.is_set) return refuse_start(error, name, NULL, "start time");
        if (c->opt_start_seq != 0) return refuse_start(error, name, "start sequence", NULL);
        return true;
    }
    if (c->opt_start_seq > 0) return refuse_start(error, name, "sequence", NULL);
    if (c->opt_start_time.is_set) return refuse_start(error, name, "time", NULL);
    if (c->deliver_policy == CONSUMER_DELIVER_LAST_PER_SUBJECT &&
        consumer_config_filter_count(c) == 0)
        return refuse_start(error, name, NULL, "filter subject");
    return true;
}

static bool check_sample(const struct consumer_config *c, struct jsapi_error *error)
{
    int64_t percent;
    if (c->sample_freq.len == 0) return true;
    enum err e = parse_sample(c->sample_freq, &percent);
    if (e == ERR_OK && percent >= 0) return true;
    char text[JSAPI_ERROR_TEXT_BYTES];
    struct writer w;
    writer_init(&w, text, sizeof text);
    if (e == ERR_OK) {
        writer_text(&w, "<nil>");
    } else {
        struct bytes number = c->sample_freq;
        if (bytes_ends_with(number, BYTES_LITERAL("%"))) number.len--;
        writer_text(&w, "strconv.Atoi: parsing ");
        writer_quoted(&w, number);
        writer_text(&w, e == ERR_RANGE ? ": value out of range" : ": invalid syntax");
    }
    return jsapi_error_refuse_text(error, JSAPI_CONSUMER_INVALID_SAMPLING, writer_written(&w));
}

static bool check_metadata(const struct consumer_config *c, struct jsapi_error *error)
{
    size_t bytes = sizeof "_nats.req.level" - 1 + 1; /* which the server adds */
    for (uint32_t i = 0; i < c->metadata.count; i++)
        bytes += c->metadata.items[i].key.len + c->metadata.items[i].value.len;
    if (bytes <= JS_METADATA_BYTES_MAX) return true;
    return jsapi_error_refuse_text(error, JSAPI_CONSUMER_METADATA_LENGTH, BYTES_LITERAL("128KB"));
}

static bool is_group_name(struct bytes name)
{
    for (size_t i = 0; i < name.len; i++) {
        char c = name.data[i];
        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '/' || c == '_' || c == '=' || c == '-'))
            return false;
    }
    return name.len >= 1 && name.len <= 16;
}

static bool check_priority(const struct consumer_config *c, struct jsapi_error *error)
{
    const struct request_texts *groups = &c->priority_groups;
    if (c->priority_policy == 0) {
        if (groups->count > 0)
            return jsapi_error_refuse(error, JSAPI_CONSUMER_PRIORITY_GROUP_WITH_POLICY_NONE);
        if (c->priority_timeout_ns > 0)
            return jsapi_error_refuse(error,
                                      JSAPI_CONSUMER_PINNED_TTL_WITHOUT_PRIORITY_POLICY_NONE);
        return true;
    }
    if (consumer_config_is_push(c))
        return jsapi_error_refuse(error, JSAPI_CONSUMER_PUSH_WITH_PRIORITY_GROUP);
    if (groups->count == 0)
        return jsapi_error_refuse(error, JSAPI_CONSUMER_PRIORITY_POLICY_WITHOUT_GROUP);
    for (uint32_t i = 0; i < groups->count; i++) {
        if (groups->items[i].len == 0)
            return jsapi_error_refuse(error, JSAPI_CONSUMER_EMPTY_GROUP_NAME);
        if (!is_group_name(groups->items[i]))
            return jsapi_error_refuse(error, JSAPI_CONSUMER_INVALID_GROUP_NAME);
    }
    return refuse_config(error, "priority_policy is not supported yet");
}

bool consumer_config_check(struct mem *mem, const struct consumer_config *c,
                           const struct consumer_rules *rules, struct jsapi_error *error)
{
    bool is_push = consumer_config_is_push(c);
    if (!check_names(c, error) || !check_replicas(c, rules, error) || !check_waits(c, error) ||
        !check_flow_acks(c, error) || !check_backoff_count(c, error))
        return false;
    if (c->description.len > JS_DESCRIPTION_BYTES_MAX) {
        jsapi_error_set_u64(error, JSAPI_CONSUMER_DESCRIPTION_TOO_LONG, JS_DESCRIPTION_BYTES_MAX);
        return false;
    }
    if (is_push ? !check_push(c, rules, error) : !check_pull(c, rules, error)) return false;
    if (!check_limits(c, rules, error)) return false;
    if (c->direct && !is_push)
        return jsapi_error_refuse(error, JSAPI_CONSUMER_DIRECT_REQUIRES_PUSH);
    if (c->direct && consumer_config_is_durable(c))
        return jsapi_error_refuse(error, JSAPI_CONSUMER_DIRECT_REQUIRES_EPHEMERAL);
    if (!check_filters(mem, c, error) || !check_start(c, error) || !check_sample(c, error))
        return false;
    if (c->flow_control && c->heartbeat_ns == 0)
        return jsapi_error_refuse(error, JSAPI_CONSUMER_WITH_FLOW_CONTROL_NEEDS_HEARTBEATS);
    if (c->durable_name.len > 0 && c->name.len > 0 && !bytes_equal(c->durable_name, c->name))
        return jsapi_error_refuse(error, JSAPI_CONSUMER_CREATE_DURABLE_AND_NAME_MISMATCH);
    if (!check_metadata(c, error) || !check_priority(c, error)) return false;
    if (c->ack_policy == CONSUMER_ACK_FLOW)
        return refuse_config(error, "ack_policy flow_control is not supported yet");
    if (c->sourcing) return refuse_config(error, "sourcing is not supported yet");
    return true;
}

/* --- updates --------------------------------------------------------------------------------- */

static bool refuse_update(struct jsapi_error *error, const char *text)
{
    return jsapi_error_refuse_text(error, JSAPI_CONSUMER_CREATE, bytes_from_text(text));
}

static bool is_same_time(const struct time_stamp *a, const struct time_stamp *b)
{
    return a->is_set == b->is_set && (!a->is_set || a->wall_ns == b->wall_ns);
}

bool consumer_config_check_update(const struct consumer_config *old,
                                  const struct consumer_config *c, bool is_bound,
                                  struct jsapi_error *error)
{
    if (old->deliver_policy != c->deliver_policy)
        return refuse_update(error, "deliver policy can not be updated");
    if (old->mem_storage != c->mem_storage)
        return refuse_update(error, "storage type can not be updated");
    if (old->direct != c->direct) return refuse_update(error, "direct can not be updated");
    if (old->sourcing != c->sourcing) return refuse_update(error, "sourcing can not be updated");
    if (old->opt_start_seq != c->opt_start_seq)
        return refuse_update(error, "start sequence can not be updated");
    if (!is_same_time(&old->opt_start_time, &c->opt_start_time))
        return refuse_update(error, "start time can not be updated");
    if (old->ack_policy != c->ack_policy)
        return refuse_update(error, "ack policy can not be updated");
    if (old->replay_policy != c->replay_policy)
        return refuse_update(error, "replay policy can not be updated");
    if (old->heartbeat_ns != c->heartbeat_ns)
        return refuse_update(error, "heart beats can not be updated");
    if (old->flow_control != c->flow_control)
        return refuse_update(error, "flow control can not be updated");
    if (!bytes_equal(old->deliver_subject, c->deliver_subject)) {
        if (!consumer_config_is_push(old))
            return refuse_update(error, "can not update pull consumer to push based");
        if (!consumer_config_is_push(c))
            return refuse_update(error, "can not update push consumer to pull based");
        if (is_bound) return jsapi_error_refuse(error, JSAPI_CONSUMER_NAME_EXIST);
    }
    if (old->max_waiting != c->max_waiting)
        return refuse_update(error, "max waiting can not be updated");
    return check_backoff_count(c, error);
}

/* --- JSON ------------------------------------------------------------------------------------ */

static void write_time(struct json_write *w, const struct request_field *f,
                       const struct time_stamp *t)
{
    if (!t->is_set) return;
    /* Room for the longest, so that nothing is allocated. */
    char room[64];
    struct text out = {.data = room, .capacity = sizeof room, .bytes_max = sizeof room};
    time_parse_write(&out, t);
    must(!out.is_failed);
    json_write_text(w, f->name, text_written(&out));
}

static void write_enum(struct json_write *w, const struct request_field *f, uint32_t value)
{
    for (uint32_t i = 0; f->values->values[i].text != NULL; i++) {
        if (f->values->values[i].value != value) continue;
        json_write_text(w, f->name, bytes_from_text(f->values->values[i].text));
        return;
    }
    must(false);
}

static void write_pair(struct json_write *w, struct bytes key, struct bytes value)
{
    json_write_key(w, key);
    json_write_text(w, NULL, value);
}

struct own_entry {
    const char *key;
    struct bytes value;
};

/* The server's own entries in their places among the client's, by key. */
static void write_metadata(struct json_write *w, const struct request_map *m,
                           const struct own_entry *own, uint32_t own_count)
{
    uint32_t next = 0;
    json_write_object(w, "metadata");
    for (uint32_t i = 0; i < m->count; i++) {
        for (;
             next < own_count && bytes_compare(bytes_from_text(own[next].key), m->items[i].key) < 0;
             next++)
            write_pair(w, bytes_from_text(own[next].key), own[next].value);
        write_pair(w, m->items[i].key, m->items[i].value);
    }
    for (; next < own_count; next++) write_pair(w, bytes_from_text(own[next].key), own[next].value);
    json_write_end(w);
}

static void write_durations(struct json_write *w, const char *key,
                            const struct request_durations *d)
{
    if (d->count == 0) return;
    json_write_array(w, key);
    for (uint32_t i = 0; i < d->count; i++) json_write_i64(w, NULL, d->items[i]);
    json_write_end(w);
}

static void write_field(struct json_write *w, const struct request_field *f, const void *at)
{
    const struct request_texts *texts = at;
    uint64_t number;
    switch (f->kind) {
    case REQUEST_TEXT: json_write_text_if(w, f->name, *(const struct bytes *)at); break;
    case REQUEST_BOOL: json_write_bool_if(w, f->name, *(const bool *)at); break;
    case REQUEST_ENUM:
        if (is_always_shown(f) || *(const uint32_t *)at != 0)
            write_enum(w, f, *(const uint32_t *)at);
        break;
    case REQUEST_UINT64: json_write_u64_if(w, f->name, *(const uint64_t *)at); break;
    case REQUEST_INT:
    case REQUEST_DURATION:
        memcpy(&number, at, sizeof number);
        if (is_always_shown(f) || number != 0) json_write_i64(w, f->name, (int64_t)number);
        break;
    case REQUEST_TIME: write_time(w, f, at); break;
    case REQUEST_TEXTS: json_write_texts_if(w, f->name, texts->items, texts->count); break;
    case REQUEST_DURATIONS: write_durations(w, f->name, at); break;
    default: must(false);
    }
}

void consumer_config_write(const struct consumer_config *c, struct json_write *w, const char *key,
                           bool is_reply)
{
    char needed[BYTES_U64_TEXT_MAX], has[BYTES_U64_TEXT_MAX];
    struct bytes level = bytes_of(needed, bytes_u64_text(needed, consumer_config_level(c)));
    const struct own_entry shown[] = {
        {"_nats.level", bytes_of(has, bytes_u64_text(has, JS_API_LEVEL))},
        {"_nats.req.level", level},
        {"_nats.ver", BYTES_LITERAL(JS_VERSION)},
    };
    json_write_object(w, key);
    for (uint32_t i = 0; i < FIELD_COUNT; i++) {
        const struct request_field *f = &fields[i];
        if (f->offset == offsetof(struct consumer_config, name) && c->is_nameless) continue;
        if (f->kind != REQUEST_MAP)
            write_field(w, f, (const char *)c + f->offset);
        else if (is_reply)
            write_metadata(w, &c->metadata, shown, 3);
        else
            write_metadata(w, &c->metadata, &shown[1], 1);
    }
    json_write_end(w);
}
