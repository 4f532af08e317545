#include "core/js/stream_config.h"
#include "core/js/overlap.h"
#include "core/base/must.h"
#include "core/base/time_text.h"
#include "core/route/subject.h"
#include "core/route/transform.h"

#define NS_PER_MS INT64_C(1000000)
#define DUPLICATE_WINDOW_DEFAULT (120 * JS_SECOND)

#define LEVEL_KEY "_nats.req.level"
#define REPLY_LEVEL_KEY "_nats.level"
#define REPLY_VERSION_KEY "_nats.ver"

/* --- the table of fields --------------------------------------------------------------------- */

static const struct request_enum retention_values = {
    {{"limits", STREAM_LIMITS}, {"interest", STREAM_INTEREST}, {"workqueue", STREAM_WORK_QUEUE}},
    NULL,
    false};
static const struct request_enum discard_values = {
    {{"old", STREAM_DISCARD_OLD}, {"new", STREAM_DISCARD_NEW}}, NULL, false};
static const struct request_enum storage_values = {
    {{"memory", STREAM_MEMORY}, {"file", STREAM_FILE}}, NULL, false};
static const struct request_enum compression_values = {
    {{"none", STREAM_COMPRESSION_NONE}, {"s2", STREAM_COMPRESSION_S2}},
    "unknown compression algorithm",
    true};
static const struct request_enum persist_values = {{{"default", STREAM_PERSIST_DEFAULT},
                                                    {"", STREAM_PERSIST_DEFAULT},
                                                    {"async", STREAM_PERSIST_ASYNC}},
                                                   NULL,
                                                   false};

#define COUNT(fields) (sizeof(fields) / sizeof(fields)[0])

static const struct request_field transform_fields[] = {
    REQUEST_FIELD(struct stream_transform, src, "src", REQUEST_TEXT),
    REQUEST_FIELD(struct stream_transform, dest, "dest", REQUEST_TEXT),
};
static const struct request_type transform_type = {"SubjectTransformConfig", transform_fields,
                                                   COUNT(transform_fields),
                                                   sizeof(struct stream_transform)};

static const struct request_field republish_fields[] = {
    REQUEST_FIELD(struct stream_republish, src, "src", REQUEST_TEXT),
    REQUEST_FIELD(struct stream_republish, dest, "dest", REQUEST_TEXT),
    REQUEST_FIELD(struct stream_republish, headers_only, "headers_only", REQUEST_BOOL),
};
static const struct request_type republish_type = {
    "RePublish", republish_fields, COUNT(republish_fields), sizeof(struct stream_republish)};

static const struct request_field placement_fields[] = {
    REQUEST_FIELD(struct stream_placement, cluster, "cluster", REQUEST_TEXT),
    REQUEST_FIELD(struct stream_placement, tags, "tags", REQUEST_TEXTS),
    REQUEST_FIELD(struct stream_placement, preferred, "preferred", REQUEST_TEXT),
};
static const struct request_type placement_type = {
    "Placement", placement_fields, COUNT(placement_fields), sizeof(struct stream_placement)};

static const struct request_field external_fields[] = {
    REQUEST_FIELD(struct stream_external, api, "api", REQUEST_TEXT),
    REQUEST_FIELD(struct stream_external, deliver, "deliver", REQUEST_TEXT),
};
static const struct request_type external_type = {
    "ExternalStream", external_fields, COUNT(external_fields), sizeof(struct stream_external)};

static const struct request_field source_consumer_fields[] = {
    REQUEST_FIELD(struct stream_source_consumer, name, "name", REQUEST_TEXT),
    REQUEST_FIELD(struct stream_source_consumer, deliver_subject, "deliver_subject", REQUEST_TEXT),
};
static const struct request_type source_consumer_type = {
    "StreamConsumerSource", source_consumer_fields, COUNT(source_consumer_fields),
    sizeof(struct stream_source_consumer)};

static const struct request_field source_fields[] = {
    REQUEST_FIELD(struct stream_source, name, "name", REQUEST_TEXT),
    REQUEST_FIELD(struct stream_source, opt_start_seq, "opt_start_seq", REQUEST_UINT64),
    REQUEST_FIELD(struct stream_source, opt_start_time, "opt_start_time", REQUEST_TIME),
    REQUEST_FIELD(struct stream_source, filter_subject, "filter_subject", REQUEST_TEXT),
    REQUEST_FIELD(struct stream_source, subject_transforms, "subject_transforms", REQUEST_OBJECTS,
                  .type = &transform_type),
    REQUEST_FIELD(struct stream_source, external, "external", REQUEST_POINTER,
                  .type = &external_type),
    REQUEST_FIELD(struct stream_source, consumer, "consumer", REQUEST_POINTER,
                  .type = &source_consumer_type),
};
static const struct request_type source_type = {"StreamSource", source_fields, COUNT(source_fields),
                                                sizeof(struct stream_source)};

static const struct request_field consumer_limits_fields[] = {
    REQUEST_FIELD(struct stream_consumer_limits, inactive_threshold, "inactive_threshold",
                  REQUEST_DURATION),
    REQUEST_FIELD(struct stream_consumer_limits, max_ack_pending, "max_ack_pending", REQUEST_INT),
};
static const struct request_type consumer_limits_type = {
    "StreamConsumerLimits", consumer_limits_fields, COUNT(consumer_limits_fields),
    sizeof(struct stream_consumer_limits)};

/* The JSON name of a field is its name in the struct. */
#define FIELD(member, kind, ...)                                                                   \
    REQUEST_FIELD(struct stream_config_request, config.member, #member, kind,                      \
                  .embedded = "StreamConfig", __VA_ARGS__)

static const struct request_field config_fields[] = {
    FIELD(name, REQUEST_TEXT),
    FIELD(description, REQUEST_TEXT),
    FIELD(subjects, REQUEST_TEXTS),
    FIELD(retention, REQUEST_ENUM, .values = &retention_values),
    FIELD(max_consumers, REQUEST_INT),
    FIELD(max_msgs, REQUEST_INT64),
    FIELD(max_bytes, REQUEST_INT64),
    FIELD(max_age, REQUEST_DURATION),
    FIELD(max_msgs_per_subject, REQUEST_INT64),
    FIELD(max_msg_size, REQUEST_INT32),
    FIELD(discard, REQUEST_ENUM, .values = &discard_values),
    FIELD(storage, REQUEST_ENUM, .values = &storage_values),
    FIELD(num_replicas, REQUEST_INT),
    FIELD(no_ack, REQUEST_BOOL),
    FIELD(duplicate_window, REQUEST_DURATION),
    FIELD(placement, REQUEST_POINTER, .type = &placement_type),
    FIELD(mirror, REQUEST_POINTER, .type = &source_type),
    FIELD(sources, REQUEST_POINTERS, .type = &source_type),
    FIELD(compression, REQUEST_ENUM, .values = &compression_values),
    FIELD(first_seq, REQUEST_UINT64),
    FIELD(subject_transform, REQUEST_POINTER, .type = &transform_type),
    FIELD(republish, REQUEST_POINTER, .type = &republish_type),
    FIELD(allow_direct, REQUEST_BOOL),
    FIELD(mirror_direct, REQUEST_BOOL),
    FIELD(discard_new_per_subject, REQUEST_BOOL),
    FIELD(sealed, REQUEST_BOOL),
    FIELD(deny_delete, REQUEST_BOOL),
    FIELD(deny_purge, REQUEST_BOOL),
    FIELD(allow_rollup_hdrs, REQUEST_BOOL),
    FIELD(consumer_limits, REQUEST_OBJECT, .type = &consumer_limits_type),
    FIELD(allow_msg_ttl, REQUEST_BOOL),
    FIELD(subject_delete_marker_ttl, REQUEST_DURATION),
    FIELD(allow_msg_counter, REQUEST_BOOL),
    FIELD(allow_atomic, REQUEST_BOOL),
    FIELD(allow_msg_schedules, REQUEST_BOOL),
    FIELD(persist_mode, REQUEST_ENUM, .values = &persist_values),
    FIELD(allow_batched, REQUEST_BOOL),
    FIELD(metadata, REQUEST_MAP),
    REQUEST_FIELD(struct stream_config_request, pedantic, "pedantic", REQUEST_BOOL),
};
const struct request_type stream_config_request_type = {"StreamConfigRequest", config_fields,
                                                        COUNT(config_fields),
                                                        sizeof(struct stream_config_request)};

/* --- the check ------------------------------------------------------------------------------- */

static bool invalid(struct jsapi_error *e, const char *why)
{
    return jsapi_error_refuse_text(e, JSAPI_STREAM_INVALID_CONFIG, bytes_from_text(why));
}

static bool pedantic(struct jsapi_error *e, const char *why)
{
    return jsapi_error_refuse_text(e, JSAPI_PEDANTIC, bytes_from_text(why));
}

static bool no_memory(struct jsapi_error *e)
{
    return jsapi_error_refuse(e, JSAPI_INSUFFICIENT_RESOURCES);
}

bool stream_config_is_name(struct bytes name)
{
    if (name.len == 0) return false;
    for (size_t i = 0; i < name.len; i++)
        if (memchr(" \t\r\n\f.*>\\/", name.data[i], 10) != NULL) return false;
    return true;
}

static bool check_texts(const struct stream_config *c, struct jsapi_error *e)
{
    if (!stream_config_is_name(c->name))
        return invalid(e, "stream name is required and can not contain '.', '*', '>', '\\', '/'");
    if (c->name.len > JS_NAME_BYTES_MAX)
        return invalid(e, "stream name is too long, maximum allowed is 255");
    if (c->description.len > JS_DESCRIPTION_BYTES_MAX)
        return invalid(e, "stream description is too long, maximum allowed is 4096");
    size_t bytes = 0;
    for (uint32_t i = 0; i < c->metadata.count; i++)
        bytes += c->metadata.items[i].key.len + c->metadata.items[i].value.len;
    if (bytes > JS_METADATA_BYTES_MAX)
        return invalid(e, "stream metadata exceeds maximum size of 131072 bytes");
    return true;
}

static bool check_supported(const struct stream_config *c, struct jsapi_error *e)
{
    const char *setting = c->mirror != NULL        ? "mirror"
                          : c->sources.count > 0   ? "sources"
                          : c->allow_msg_counter   ? "allow_msg_counter"
                          : c->allow_atomic        ? "allow_atomic"
                          : c->allow_msg_schedules ? "allow_msg_schedules"
                          : c->allow_batched       ? "allow_batched"
                                                   : NULL;
    if (setting == NULL) return true;
    char text[64];
    struct writer w;
    writer_init(&w, text, sizeof text);
    writer_text(&w, setting);
    writer_text(&w, " is not supported yet");
    return jsapi_error_refuse_text(e, JSAPI_STREAM_INVALID_CONFIG, writer_written(&w));
}

/* 0 and below -1 mean no limit; a pedantic request has to say so. */
static bool complete_limit(int64_t *limit, const char *why, bool is_pedantic, struct jsapi_error *e)
{
    if (is_pedantic && *limit < -1) return pedantic(e, why);
    if (*limit == 0 || *limit < -1) *limit = -1;
    return true;
}

static bool check_limits(struct stream_config *c, bool is_pedantic, struct jsapi_error *e)
{
    if (c->storage == STREAM_STORAGE_UNSET) c->storage = STREAM_FILE;
    if (c->num_replicas == 0) c->num_replicas = 1;
    if (c->num_replicas > STREAM_REPLICAS_MAX) return invalid(e, "maximum replicas is 5");
    if (c->num_replicas < 0) return jsapi_error_refuse(e, JSAPI_REPLICAS_COUNT_CANNOT_BE_NEGATIVE);

    int64_t msg_size = c->max_msg_size;
    if (!complete_limit(&c->max_msgs, "max_msgs must be set to -1", is_pedantic, e)) return false;
    if (!complete_limit(&c->max_msgs_per_subject, "max_msgs_per_subject must be set to -1",
                        is_pedantic, e))
        return false;
    if (!complete_limit(&c->max_bytes, "max_bytes must be set to -1", is_pedantic, e)) return false;
    if (!complete_limit(&msg_size, "max_msg_size must be set to -1", is_pedantic, e)) return false;
    if (!complete_limit(&c->max_consumers, "max_consumers must be set to -1", is_pedantic, e))
        return false;
    c->max_msg_size = (int32_t)msg_size;
    if (c->first_seq > STREAM_SEQ_MAX) return invalid(e, "first sequence is too large");
    if (c->max_age < 0) return invalid(e, "max age can not be negative");
    if (c->max_age != 0 && c->max_age < 100 * NS_PER_MS)
        return invalid(e, "max age needs to be >= 100ms");
    return true;
}

static bool refuse_window_limit(int64_t limit, struct jsapi_error *e)
{
    char duration[64];
    /* A duration as text needs a growing buffer; this one never grows. */
    struct text t = {.data = duration, .capacity = sizeof duration, .bytes_max = sizeof duration};
    time_text_duration(&t, limit);
    char text[160];
    struct writer w;
    writer_init(&w, text, sizeof text);
    writer_text(&w, "duplicates window can not be larger then server limit of ");
    writer_bytes(&w, text_written(&t));
    return jsapi_error_refuse_text(e, JSAPI_STREAM_INVALID_CONFIG, writer_written(&w));
}

static bool check_window(struct stream_config *c, int64_t limit, bool is_pedantic,
                         struct jsapi_error *e)
{
    if (c->duplicate_window == 0) {
        int64_t window = DUPLICATE_WINDOW_DEFAULT;
        if (limit > 0 && window > limit) {
            if (is_pedantic)
                return pedantic(e, "duplicate window limits are higher than current limits");
            window = limit;
        }
        if (c->max_age != 0 && c->max_age < window) {
            if (is_pedantic) return pedantic(e, "duplicate window cannot be bigger than max age");
            window = c->max_age;
        }
        c->duplicate_window = window;
    }
    if (c->duplicate_window < 0) return invalid(e, "duplicates window can not be negative");
    if (c->max_age != 0 && c->duplicate_window > c->max_age)
        return invalid(e, "duplicates window can not be larger then max age");
    if (limit > 0 && c->duplicate_window > limit) return refuse_window_limit(limit, e);
    if (c->duplicate_window < 100 * NS_PER_MS)
        return invalid(e, "duplicates window needs to be >= 100ms");
    return true;
}

static bool check_discard_new_per_subject(const struct stream_config *c, struct jsapi_error *e)
{
    if (!c->discard_new_per_subject) return true;
    if (c->discard != STREAM_DISCARD_NEW)
        return invalid(e, "discard new per subject requires discard new policy to be set");
    if (c->max_msgs_per_subject <= 0)
        return invalid(e, "discard new per subject requires max msgs per subject > 0");
    return true;
}

static bool check_flags(struct stream_config *c, bool is_pedantic, struct jsapi_error *e)
{
    if (c->deny_purge && c->allow_rollup_hdrs)
        return invalid(e, "roll-ups require the purge permission");
    if (!check_discard_new_per_subject(c, e)) return false;
    if (c->subject_delete_marker_ttl < 0)
        return invalid(e, "subject delete marker TTL must not be negative");
    if (c->subject_delete_marker_ttl > 0) {
        if (c->subject_delete_marker_ttl < JS_SECOND)
            return invalid(e, "subject delete marker TTL must be at least 1 second");
        if (!c->allow_msg_ttl) {
            if (is_pedantic)
                return invalid(e,
                               "subject delete marker cannot be set if message TTLs are disabled");
            c->allow_msg_ttl = true;
        }
        if (!c->allow_rollup_hdrs) {
            if (is_pedantic)
                return invalid(e, "subject delete marker cannot be set if roll-ups are disabled");
            c->allow_rollup_hdrs = true;
            c->deny_purge = false;
        }
    }
    if (c->persist_mode == STREAM_PERSIST_ASYNC) {
        if (c->storage != STREAM_FILE)
            return invalid(e, "async persist mode is only supported on file storage");
        if (c->num_replicas > 1)
            return invalid(e, "async persist mode is not supported on replicated streams");
    }
    return true;
}

/* A stream that captures requests to the server would answer them: only without acks. */
static bool check_reserved(const struct stream_config *c, struct bytes subject,
                           struct jsapi_error *e)
{
    if (bytes_equal(subject, BYTES_LITERAL(">"))) {
        if (!c->no_ack) return invalid(e, "capturing all subjects requires no-ack to be true");
        if (c->num_replicas != 1)
            return invalid(e, "capturing all subjects requires replicas of 1");
    }
    if (c->no_ack) return true;
    static const char *const spaces[] = {"$JS.>", "$JSC.>", "$NRG.>"};
    for (size_t i = 0; i < COUNT(spaces); i++)
        if (subject_collides(subject, bytes_from_text(spaces[i])) &&
            !subject_is_subset(subject, BYTES_LITERAL("$JS.EVENT.>")))
            return invalid(e, "subjects that overlap with jetstream api require no-ack to be true");
    if (subject_collides(subject, BYTES_LITERAL("$SYS.>")) &&
        !subject_is_subset(subject, BYTES_LITERAL("$SYS.ACCOUNT.>")))
        return invalid(e, "subjects that overlap with system api require no-ack to be true");
    return true;
}

static bool refuse_overlap(struct bytes a, struct bytes b, struct jsapi_error *e)
{
    char text[JSAPI_ERROR_TEXT_BYTES];
    struct writer w;
    writer_init(&w, text, sizeof text);
    writer_text(&w, "subject ");
    writer_quoted(&w, a);
    writer_text(&w, " overlaps with ");
    writer_quoted(&w, b);
    return jsapi_error_refuse_text(e, JSAPI_STREAM_INVALID_CONFIG, writer_written(&w));
}

static bool check_subject(const struct stream_config *c, const struct overlap_list *list,
                          uint32_t at, struct jsapi_error *e)
{
    struct bytes subject = c->subjects.items[at];
    if (!subject_is_valid(subject)) return invalid(e, "invalid subject");
    if (!check_reserved(c, subject, e)) return false;
    if (!overlap_list_meets(list, subject, &c->subjects.items[at])) return true;
    for (uint32_t k = 0; k < at; k++)
        if (bytes_equal(c->subjects.items[k], subject))
            return invalid(e, "duplicate subjects detected");
    for (uint32_t k = at + 1; k < c->subjects.count; k++)
        if (subject_collides(c->subjects.items[k], subject))
            return refuse_overlap(subject, c->subjects.items[k], e);
    return true;
}

static bool check_subjects(struct arena *scratch, struct stream_config *c, struct jsapi_error *e)
{
    if (c->subjects.count == 0) {
        struct bytes *subject = arena_alloc(scratch, sizeof *subject);
        if (subject == NULL) return no_memory(e);
        *subject = c->name;
        c->subjects = (struct request_texts){subject, 1};
        return true;
    }
    if (c->subjects.count > JS_SUBJECTS_MAX) return invalid(e, "too many subjects");
    for (uint32_t i = 0; i < c->subjects.count; i++)
        if (c->subjects.items[i].len > JS_SUBJECT_BYTES_MAX)
            return invalid(e, "subject is too long, maximum allowed is 4096");
    struct overlap_list list;
    if (overlap_list_open(&list, scratch->mem, c->subjects.items, c->subjects.count) != ERR_OK)
        return no_memory(e);
    bool is_fine = true;
    for (uint32_t i = 0; is_fine && i < c->subjects.count; i++)
        is_fine = check_subject(c, &list, i, e);
    overlap_list_close(&list);
    return is_fine;
}

static bool check_bytes(const struct stream_config *c, const struct stream_config_bounds *bounds,
                        struct jsapi_error *e)
{
    int64_t limit = c->storage == STREAM_MEMORY ? bounds->memory_stream_bytes_max
                                                : bounds->file_stream_bytes_max;
    if (bounds->is_max_bytes_required && c->max_bytes <= 0)
        return jsapi_error_refuse(e, JSAPI_STREAM_MAX_BYTES_REQUIRED);
    if (limit > 0 && c->max_bytes > limit)
        return jsapi_error_refuse(e, JSAPI_STREAM_MAX_STREAM_BYTES_EXCEEDED);
    return true;
}

static bool check_transform(struct mem *mem, const struct stream_transform *t,
                            struct jsapi_error *e)
{
    if (t == NULL) return true;
    char text[JSAPI_ERROR_TEXT_BYTES];
    struct writer why;
    writer_init(&why, text, sizeof text);
    if (t->src.len > 0 && !subject_is_valid(t->src)) {
        writer_text(&why, "invalid subject ");
        writer_bytes(&why, t->src);
        return jsapi_error_refuse_text(e, JSAPI_STREAM_TRANSFORM_INVALID_SOURCE,
                                       writer_written(&why));
    }
    switch (transform_check(mem, t->src, t->dest, &why)) {
    case ERR_OK: return true;
    case ERR_MEMORY: return no_memory(e);
    default:
        return jsapi_error_refuse_text(e, JSAPI_STREAM_TRANSFORM_INVALID_DESTINATION,
                                       writer_written(&why));
    }
}

static bool check_republish(struct mem *mem, struct stream_config *c, bool is_pedantic,
                            struct jsapi_error *e)
{
    struct stream_republish *r = c->republish;
    if (r == NULL) return true;
    if (r->src.len == 0) {
        if (is_pedantic) return pedantic(e, "republish source can not be empty");
        r->src = BYTES_LITERAL(">");
    }
    /* From everything to everything goes round in a circle, but not where a transform of all that
     * the stream takes gives it another subject: then republish under that one. */
    const struct stream_transform *t = c->subject_transform;
    if (bytes_equal(r->dest, BYTES_LITERAL(">")) && bytes_equal(r->src, BYTES_LITERAL(">")) &&
        t != NULL && c->subjects.count == 1 && bytes_equal(t->src, c->subjects.items[0])) {
        if (is_pedantic) return pedantic(e, "implicit republish based on subject transform");
        r->src = r->dest = t->dest;
    }
    for (uint32_t i = 0; i < c->subjects.count; i++)
        if (subject_collides(r->dest, c->subjects.items[i]))
            return invalid(e, "stream configuration for republish destination forms a cycle");

    struct transform *compiled = NULL;
    enum err err = transform_compile(mem, r->src, r->dest, TRANSFORM_PLAIN, NULL, &compiled);
    transform_free(mem, compiled);
    if (err == ERR_MEMORY) return no_memory(e);
    if (err == ERR_OK) return true;
    char text[JSAPI_ERROR_TEXT_BYTES];
    struct writer w;
    writer_init(&w, text, sizeof text);
    writer_text(&w, "stream configuration for republish with transform from '");
    writer_bytes(&w, r->src);
    writer_text(&w, "' to '");
    writer_bytes(&w, r->dest);
    writer_text(&w, "' not valid");
    return jsapi_error_refuse_text(e, JSAPI_STREAM_INVALID_CONFIG, writer_written(&w));
}

bool stream_config_check(struct arena *scratch, struct stream_config *c,
                         const struct stream_config_bounds *bounds, bool is_pedantic,
                         struct jsapi_error *e)
{
    struct mem *mem = scratch->mem;
    if (!check_texts(c, e) || !check_supported(c, e)) return false;
    if (!check_limits(c, is_pedantic, e)) return false;
    if (!check_window(c, bounds->duplicate_window_max, is_pedantic, e)) return false;
    if (!check_flags(c, is_pedantic, e)) return false;
    if (!check_subjects(scratch, c, e)) return false;
    if (!check_bytes(c, bounds, e)) return false;
    if (!check_transform(mem, c->subject_transform, e)) return false;
    if (!check_republish(mem, c, is_pedantic, e)) return false;
    struct stream_placement *p = c->placement;
    if (p != NULL && p->cluster.len == 0 && p->tags.items == NULL && p->preferred.len == 0)
        c->placement = NULL;
    if (c->placement != NULL && c->placement->preferred.len > 0)
        return invalid(e, "preferred server not permitted in placement");
    return true;
}

bool stream_config_check_create(struct arena *scratch, struct stream_config *c, struct bytes name,
                                const struct stream_config_bounds *bounds, bool is_pedantic,
                                struct jsapi_error *e)
{
    if (!bytes_equal(c->name, name)) return jsapi_error_refuse(e, JSAPI_STREAM_MISMATCH);
    if (bytes_find(name, '/') < name.len || bytes_find(name, '\\') < name.len)
        return jsapi_error_refuse(e, JSAPI_STREAM_NAME_CONTAINS_PATH_SEPARATORS);
    if (c->sealed) return invalid(e, "stream configuration for create can not be sealed");
    if (c->mirror_direct && c->mirror == NULL)
        return invalid(e, "stream has no mirror but does have mirror direct");
    if (!stream_config_check(scratch, c, bounds, is_pedantic, e)) return false;
    if (c->num_replicas > 1) return jsapi_error_refuse(e, JSAPI_STREAM_REPLICAS_NOT_SUPPORTED);
    return true;
}

bool stream_config_check_update(const struct stream_config *old, struct stream_config *c,
                                struct jsapi_error *e)
{
    must(c->storage != STREAM_STORAGE_UNSET);
    if (!bytes_equal(c->name, old->name))
        return invalid(e, "stream configuration name must match original");
    if (c->num_replicas > 1) return jsapi_error_refuse(e, JSAPI_STREAM_REPLICAS_NOT_SUPPORTED);
    if (c->storage != old->storage)
        return invalid(e, "stream configuration update can not change storage type");
    if (c->retention != old->retention &&
        (c->retention == STREAM_WORK_QUEUE || old->retention == STREAM_WORK_QUEUE))
        return invalid(
            e, "stream configuration update can not change retention policy to/from workqueue");
    if (!c->sealed && old->sealed)
        return invalid(e, "stream configuration update can not unseal a sealed stream");
    if (!c->deny_delete && old->deny_delete)
        return invalid(e, "stream configuration update can not cancel deny message deletes");
    if (!c->deny_purge && old->deny_purge)
        return invalid(e, "stream configuration update can not cancel deny purge");
    if (!check_discard_new_per_subject(c, e)) return false;
    if (old->allow_msg_ttl && !c->allow_msg_ttl)
        return invalid(e, "message TTL status can not be disabled");
    if (old->persist_mode != c->persist_mode)
        return invalid(e, "stream configuration update can not change persist mode");
    if (c->sealed) {
        c->max_age = 0;
        c->discard = STREAM_DISCARD_NEW;
        c->deny_delete = c->deny_purge = true;
        c->allow_rollup_hdrs = false;
    }
    return true;
}

/* --- metadata -------------------------------------------------------------------------------- */

static bool is_key(struct bytes key, const char *name)
{
    return bytes_equal(key, bytes_from_text(name));
}

static bool is_reply_key(struct bytes key)
{
    return is_key(key, REPLY_LEVEL_KEY) || is_key(key, REPLY_VERSION_KEY);
}

enum err stream_config_set_level(struct arena *scratch, struct stream_config *c)
{
    /* Settings that need more than level 1 are refused. */
    bool is_ttl = c->allow_msg_ttl || c->subject_delete_marker_ttl > 0;
    bool is_async = c->persist_mode == STREAM_PERSIST_ASYNC;
    struct request_pair level = {BYTES_LITERAL(LEVEL_KEY), is_async ? BYTES_LITERAL("2")
                                                           : is_ttl ? BYTES_LITERAL("1")
                                                                    : BYTES_LITERAL("0")};
    struct request_pair *items =
        arena_alloc(scratch, (c->metadata.count + 1) * sizeof(struct request_pair));
    if (items == NULL) return ERR_MEMORY;
    uint32_t count = 0;
    bool is_set = false;
    for (uint32_t i = 0; i < c->metadata.count; i++) {
        struct request_pair pair = c->metadata.items[i];
        if (is_reply_key(pair.key) || is_key(pair.key, LEVEL_KEY)) continue;
        if (!is_set && bytes_compare(level.key, pair.key) < 0) {
            items[count++] = level;
            is_set = true;
        }
        items[count++] = pair;
    }
    if (!is_set) items[count++] = level;
    c->metadata = (struct request_map){.items = items, .count = count};
    return ERR_OK;
}

/* --- comparing and copying ------------------------------------------------------------------- */

static bool texts_equal(const struct request_texts *a, const struct request_texts *b)
{
    if (a->count != b->count) return false;
    for (uint32_t i = 0; i < a->count; i++)
        if (!bytes_equal(a->items[i], b->items[i])) return false;
    return true;
}

static bool metadata_equal(const struct request_map *a, const struct request_map *b)
{
    uint32_t i = 0, k = 0;
    for (;;) {
        while (i < a->count && is_key(a->items[i].key, LEVEL_KEY)) i++;
        while (k < b->count && is_key(b->items[k].key, LEVEL_KEY)) k++;
        if (i == a->count || k == b->count) return i == a->count && k == b->count;
        if (!bytes_equal(a->items[i].key, b->items[k].key)) return false;
        if (!bytes_equal(a->items[i].value, b->items[k].value)) return false;
        i++;
        k++;
    }
}

static bool placement_equal(const struct stream_placement *a, const struct stream_placement *b)
{
    if (a == NULL || b == NULL) return a == b;
    return bytes_equal(a->cluster, b->cluster) && texts_equal(&a->tags, &b->tags);
}

static bool transform_equal(const struct stream_transform *a, const struct stream_transform *b)
{
    if (a == NULL || b == NULL) return a == b;
    return bytes_equal(a->src, b->src) && bytes_equal(a->dest, b->dest);
}

static bool republish_equal(const struct stream_republish *a, const struct stream_republish *b)
{
    if (a == NULL || b == NULL) return a == b;
    return bytes_equal(a->src, b->src) && bytes_equal(a->dest, b->dest) &&
           a->headers_only == b->headers_only;
}

bool stream_config_equal(const struct stream_config *a, const struct stream_config *b)
{
    return bytes_equal(a->name, b->name) && bytes_equal(a->description, b->description) &&
           texts_equal(&a->subjects, &b->subjects) && a->retention == b->retention &&
           a->max_consumers == b->max_consumers && a->max_msgs == b->max_msgs &&
           a->max_bytes == b->max_bytes && a->max_age == b->max_age &&
           a->max_msgs_per_subject == b->max_msgs_per_subject &&
           a->max_msg_size == b->max_msg_size && a->discard == b->discard &&
           a->storage == b->storage && a->num_replicas == b->num_replicas &&
           a->no_ack == b->no_ack && a->duplicate_window == b->duplicate_window &&
           placement_equal(a->placement, b->placement) && a->compression == b->compression &&
           a->first_seq == b->first_seq &&
           transform_equal(a->subject_transform, b->subject_transform) &&
           republish_equal(a->republish, b->republish) && a->allow_direct == b->allow_direct &&
           a->mirror_direct == b->mirror_direct &&
           a->discard_new_per_subject == b->discard_new_per_subject && a->sealed == b->sealed &&
           a->deny_delete == b->deny_delete && a->deny_purge == b->deny_purge &&
           a->allow_rollup_hdrs == b->allow_rollup_hdrs &&
           a->consumer_limits.inactive_threshold == b->consumer_limits.inactive_threshold &&
           a->consumer_limits.max_ack_pending == b->consumer_limits.max_ack_pending &&
           a->allow_msg_ttl == b->allow_msg_ttl &&
           a->subject_delete_marker_ttl == b->subject_delete_marker_ttl &&
           a->persist_mode == b->persist_mode && metadata_equal(&a->metadata, &b->metadata);
}

struct copier {
    struct arena *arena;
    bool is_short;
};

static struct bytes copy_text(struct copier *k, struct bytes b)
{
    struct bytes copy = BYTES_LITERAL("");
    if (b.len > 0 && arena_text(k->arena, b, &copy) != ERR_OK) k->is_short = true;
    return copy;
}

static void *copy_room(struct copier *k, size_t bytes)
{
    void *p = arena_alloc(k->arena, bytes);
    if (p == NULL) k->is_short = true;
    return p;
}

static struct request_texts copy_texts(struct copier *k, struct request_texts t)
{
    struct bytes *items = copy_room(k, t.count * sizeof *items);
    if (items == NULL) return (struct request_texts){0};
    for (uint32_t i = 0; i < t.count; i++) items[i] = copy_text(k, t.items[i]);
    return (struct request_texts){items, t.count};
}

enum err stream_config_copy(struct arena *arena, const struct stream_config *c,
                            struct stream_config *out)
{
    must(c->mirror == NULL);
    must(c->sources.count == 0);
    struct copier k = {.arena = arena};
    *out = *c;
    out->name = copy_text(&k, c->name);
    out->description = copy_text(&k, c->description);
    out->subjects = copy_texts(&k, c->subjects);
    if (c->placement != NULL && (out->placement = copy_room(&k, sizeof *out->placement)) != NULL) {
        out->placement->cluster = copy_text(&k, c->placement->cluster);
        out->placement->tags = copy_texts(&k, c->placement->tags);
        out->placement->preferred = copy_text(&k, c->placement->preferred);
    }
    if (c->subject_transform != NULL &&
        (out->subject_transform = copy_room(&k, sizeof *out->subject_transform)) != NULL) {
        out->subject_transform->src = copy_text(&k, c->subject_transform->src);
        out->subject_transform->dest = copy_text(&k, c->subject_transform->dest);
    }
    if (c->republish != NULL && (out->republish = copy_room(&k, sizeof *out->republish)) != NULL) {
        out->republish->src = copy_text(&k, c->republish->src);
        out->republish->dest = copy_text(&k, c->republish->dest);
        out->republish->headers_only = c->republish->headers_only;
    }
    struct request_pair *pairs = copy_room(&k, c->metadata.count * sizeof *pairs);
    for (uint32_t i = 0; pairs != NULL && i < c->metadata.count; i++) {
        pairs[i].key = copy_text(&k, c->metadata.items[i].key);
        pairs[i].value = copy_text(&k, c->metadata.items[i].value);
    }
    out->metadata.items = pairs;
    return k.is_short ? ERR_MEMORY : ERR_OK;
}

/* --- writing --------------------------------------------------------------------------------- */

static void write_map_pair(struct json_write *w, struct bytes key, struct bytes value)
{
    json_write_key(w, key);
    json_write_text(w, NULL, value);
}

static void write_metadata(const struct request_map *m, struct json_write *w, bool is_reply)
{
    if (m->count == 0 && !is_reply) return;
    struct request_pair added[2] = {
        {BYTES_LITERAL(REPLY_LEVEL_KEY), BYTES_LITERAL("5")},
        {BYTES_LITERAL(REPLY_VERSION_KEY), BYTES_LITERAL(JS_VERSION)},
    };
    _Static_assert(JS_API_LEVEL == 5, "the text above");
    uint32_t next = is_reply ? 0 : 2;
    json_write_object(w, "metadata");
    for (uint32_t i = 0; i < m->count; i++) {
        struct request_pair pair = m->items[i];
        while (next < 2 && bytes_compare(added[next].key, pair.key) <= 0) {
            write_map_pair(w, added[next].key, added[next].value);
            next++;
        }
        if (!is_reply || !is_reply_key(pair.key)) write_map_pair(w, pair.key, pair.value);
    }
    for (; next < 2; next++) write_map_pair(w, added[next].key, added[next].value);
    json_write_end(w);
}

static void write_texts(struct json_write *w, const char *key, const struct request_texts *t)
{
    json_write_texts_if(w, key, t->items, t->count);
}

void stream_config_write(const struct stream_config *c, struct json_write *w, const char *key,
                         bool is_reply)
{
    json_write_object(w, key);
    json_write_text(w, "name", c->name);
    json_write_text_if(w, "description", c->description);
    write_texts(w, "subjects", &c->subjects);
    json_write_text(w, "retention", bytes_from_text(retention_values.values[c->retention].text));
    json_write_i64(w, "max_consumers", c->max_consumers);
    json_write_i64(w, "max_msgs", c->max_msgs);
    json_write_i64(w, "max_bytes", c->max_bytes);
    json_write_i64(w, "max_age", c->max_age);
    json_write_i64(w, "max_msgs_per_subject", c->max_msgs_per_subject);
    json_write_i64_if(w, "max_msg_size", c->max_msg_size);
    json_write_text(w, "discard", bytes_from_text(discard_values.values[c->discard].text));
    json_write_text(w, "storage",
                    c->storage == STREAM_MEMORY ? BYTES_LITERAL("memory") : BYTES_LITERAL("file"));
    json_write_i64(w, "num_replicas", c->num_replicas);
    json_write_bool_if(w, "no_ack", c->no_ack);
    json_write_i64_if(w, "duplicate_window", c->duplicate_window);
    if (c->placement != NULL) {
        json_write_object(w, "placement");
        json_write_text_if(w, "cluster", c->placement->cluster);
        write_texts(w, "tags", &c->placement->tags);
        json_write_text_if(w, "preferred", c->placement->preferred);
        json_write_end(w);
    }
    json_write_text(w, "compression",
                    bytes_from_text(compression_values.values[c->compression].text));
    json_write_u64_if(w, "first_seq", c->first_seq);
    if (c->subject_transform != NULL) {
        json_write_object(w, "subject_transform");
        json_write_text(w, "src", c->subject_transform->src);
        json_write_text(w, "dest", c->subject_transform->dest);
        json_write_end(w);
    }
    if (c->republish != NULL) {
        json_write_object(w, "republish");
        json_write_text_if(w, "src", c->republish->src);
        json_write_text(w, "dest", c->republish->dest);
        json_write_bool_if(w, "headers_only", c->republish->headers_only);
        json_write_end(w);
    }
    json_write_bool(w, "allow_direct", c->allow_direct);
    json_write_bool(w, "mirror_direct", c->mirror_direct);
    json_write_bool_if(w, "discard_new_per_subject", c->discard_new_per_subject);
    json_write_bool(w, "sealed", c->sealed);
    json_write_bool(w, "deny_delete", c->deny_delete);
    json_write_bool(w, "deny_purge", c->deny_purge);
    json_write_bool(w, "allow_rollup_hdrs", c->allow_rollup_hdrs);
    json_write_object(w, "consumer_limits");
    json_write_i64_if(w, "inactive_threshold", c->consumer_limits.inactive_threshold);
    json_write_i64_if(w, "max_ack_pending", c->consumer_limits.max_ack_pending);
    json_write_end(w);
    json_write_bool(w, "allow_msg_ttl", c->allow_msg_ttl);
    json_write_i64_if(w, "subject_delete_marker_ttl", c->subject_delete_marker_ttl);
    if (c->persist_mode == STREAM_PERSIST_ASYNC)
        json_write_text(w, "persist_mode", BYTES_LITERAL("async"));
    write_metadata(&c->metadata, w, is_reply);
    json_write_end(w);
}
