#include "core/js/consumer_request.h"
#include "core/route/subject.h"

static const struct request_enum action_words = {.values = {{"", CONSUMER_ACTION_ANY},
                                                            {"update", CONSUMER_ACTION_UPDATE},
                                                            {"create", CONSUMER_ACTION_CREATE}},
                                                 .refusal = "unknown consumer action: "};

#define FIELD(member, text, ...) REQUEST_FIELD(struct consumer_request, member, text, __VA_ARGS__)

static const struct request_field fields[] = {
    FIELD(stream_name, "stream_name", REQUEST_TEXT),
    FIELD(config, "config", REQUEST_OBJECT, .type = &consumer_config_type),
    FIELD(action, "action", REQUEST_ENUM, .values = &action_words),
    FIELD(pedantic, "pedantic", REQUEST_BOOL),
};

static const struct request_type request_type = {.go_name = "CreateConsumerRequest",
                                                 .fields = fields,
                                                 .field_count = sizeof fields / sizeof fields[0],
                                                 .bytes = sizeof(struct consumer_request)};

enum form { FORM_UNNAMED, FORM_NAMED, FORM_DURABLE };

struct subject_parts {
    enum form form;
    struct bytes stream, name, filter;
    uint32_t token_count;
};

static struct subject_parts split(struct bytes subject)
{
    struct subject_parts p = {.token_count = subject_token_count(subject)};
    if (bytes_equal(subject_token(subject, 1), BYTES_LITERAL("DURABLE"))) {
        p.form = FORM_DURABLE;
        p.stream = subject_token(subject, 3);
        p.name = subject_token(subject, 4);
        return p;
    }
    p.stream = subject_token(subject, 2);
    if (p.token_count <= 3) return p;
    p.form = FORM_NAMED;
    p.name = subject_token(subject, 3);
    if (p.token_count <= 4) return p;
    const char *from = p.name.data + p.name.len + 1;
    p.filter = bytes_of(from, (size_t)(subject.data + subject.len - from));
    return p;
}

static bool has_separator(struct bytes name)
{
    return bytes_find(name, '/') < name.len || bytes_find(name, '\\') < name.len;
}

static bool check_name(const struct subject_parts *p, struct consumer_config *c,
                       struct jsapi_error *error)
{
    struct bytes name = p->form == FORM_UNNAMED ? c->name : p->name;
    if (has_separator(name))
        return jsapi_error_refuse(error, JSAPI_CONSUMER_NAME_CONTAINS_PATH_SEPARATORS);
    if (p->form == FORM_UNNAMED) {
        if (c->durable_name.len == 0) return true;
        return jsapi_error_refuse(error, JSAPI_CONSUMER_EPHEMERAL_WITH_DURABLE_NAME);
    }
    if (p->form == FORM_DURABLE && c->durable_name.len == 0)
        return jsapi_error_refuse(error, JSAPI_CONSUMER_DURABLE_NAME_NOT_SET);
    if (c->durable_name.len > 0 && !bytes_equal(c->durable_name, name))
        return jsapi_error_refuse(error, JSAPI_CONSUMER_DURABLE_NAME_NOT_MATCH_SUBJECT);
    c->name = name;
    return true;
}

static bool check_filter(const struct subject_parts *p, const struct consumer_config *c,
                         struct jsapi_error *error)
{
    if (p->filter.len == 0) return true;
    if (c->filter_subjects.count > 0)
        return jsapi_error_refuse(error, JSAPI_CONSUMER_MULTIPLE_FILTERS_NOT_ALLOWED);
    if (!bytes_equal(c->filter_subject, p->filter))
        return jsapi_error_refuse(error, JSAPI_CONSUMER_CREATE_FILTER_SUBJECT_MISMATCH);
    return true;
}

bool consumer_request_read(struct arena *arena, struct bytes subject, struct bytes body,
                           enum request_mode mode, struct consumer_request *r,
                           struct jsapi_error *error)
{
    struct subject_parts p = split(subject);
    *r = (struct consumer_request){.action = CONSUMER_ACTION_ANY};
    if (!request_read(arena, body, &request_type, mode, r, error)) return false;
    if (p.form == FORM_DURABLE && p.token_count != 5)
        return jsapi_error_refuse(error, JSAPI_CONSUMER_DURABLE_NAME_NOT_IN_SUBJECT);
    if (!bytes_equal(r->stream_name, p.stream))
        return jsapi_error_refuse(error, JSAPI_STREAM_MISMATCH);
    if (!check_name(&p, &r->config, error) || !check_filter(&p, &r->config, error)) return false;
    if (r->config.replicas > 1)
        return jsapi_error_refuse(error, JSAPI_STREAM_REPLICAS_NOT_SUPPORTED);
    return true;
}
