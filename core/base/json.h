/* Reading JSON: the one file that sees jansson. (Writing is core/base/json_write.)
 *
 * Getters follow Go's decoder, on which the behaviour of nats-server rests: field names match
 * without regard to ASCII case, the last of two fields wins, null and absence leave the caller's
 * value alone, invalid UTF-8 and lone surrogates read as U+FFFD, and a value of a wrong type is
 * an error that names the field. Integers stay integers: 1.0 is none, and what does not fit is
 * ERR_RANGE (jansson itself ends at INT64_MAX, so a larger number fails the whole text).
 *
 * Memory: each document is charged to the caller's port, within limits.bytes_max. jansson's
 * allocator hook has no context, so a thread-local pointer to the open document's port is set on
 * entry to json_open and json_close and cleared on return; nothing else here allocates. */
#ifndef CORE_BASE_JSON_H
#define CORE_BASE_JSON_H
#include <stdbool.h>
#include "core/base/bytes.h"
#include "core/base/mem.h"

struct json_doc;
struct json_node; /* a value inside a document; lives as long as it */

enum json_kind {
    JSON_KIND_NULL,
    JSON_KIND_BOOL,
    JSON_KIND_INTEGER,
    JSON_KIND_REAL,
    JSON_KIND_TEXT,
    JSON_KIND_ARRAY,
    JSON_KIND_OBJECT,
};

struct json_limits {
    uint32_t depth_max; /* nested arrays and objects; 0: JSON_DEPTH_DEFAULT */
    size_t bytes_max;   /* of memory for the parsed document; 0: JSON_BYTES_DEFAULT */
};

enum {
    JSON_DEPTH_DEFAULT = 64,
    JSON_DEPTH_MAX = 1024, /* jansson recurses */
    JSON_BYTES_DEFAULT = 16 * 1024 * 1024,
    JSON_FAULT_BYTES = 192,
};

/* What was wrong, for people; ends with a zero. Names the field, never shows a value. */
struct json_fault {
    char text[JSON_FAULT_BYTES];
};

/* Once per process, before threads: where jansson allocates, and the seed of its hash tables. */
void json_init(uint64_t seed);

/* Parses text, which is not kept. fault may be NULL here and below.
 * ERR_SYNTAX, ERR_RANGE (a number), ERR_TOO_LONG (depth_max or bytes_max), ERR_MEMORY. */
NODISCARD enum err json_open(struct mem *mem, enum mem_class class, struct bytes text,
                             const struct json_limits *limits, struct json_doc **doc,
                             struct json_fault *fault);
/* Frees it and all its nodes; doc may be NULL. Texts are wiped: they may be secrets. */
void json_close(struct json_doc *doc);

/* The top value. */
const struct json_node *json_root(const struct json_doc *doc);
enum json_kind json_kind_of(const struct json_node *n);
/* Fields of an object or elements of an array; 0 for anything else. */
size_t json_count(const struct json_node *n);
/* Element index of an array; NULL beyond the end or when n is no array. */
const struct json_node *json_at(const struct json_node *n, size_t index);
/* The field name of an object; NULL when n is none, or the field is absent or null. */
const struct json_node *json_field(const struct json_node *n, const char *name);
/* Every field in order: *at starts at NULL; false at the end. Null values are shown too. */
bool json_each(const struct json_node *n, const void **at, struct bytes *name,
               const struct json_node **value);

/* A value that must be of the type; name is for the fault only. ERR_INVALID: another type.
 * ERR_RANGE: an integer outside the range. After an error *value is not written. */
NODISCARD enum err json_as_bool(const struct json_node *n, const char *name, bool *value,
                                struct json_fault *fault);
NODISCARD enum err json_as_i64(const struct json_node *n, const char *name, int64_t *value,
                               struct json_fault *fault);
NODISCARD enum err json_as_u64(const struct json_node *n, const char *name, uint64_t *value,
                               struct json_fault *fault);
/* Borrowed from the document; may hold zero bytes. */
NODISCARD enum err json_as_text(const struct json_node *n, const char *name, struct bytes *value,
                                struct json_fault *fault);

/* The same for a field of an object; absent or null: ERR_OK and *value stays as it was. */
NODISCARD enum err json_get_bool(const struct json_node *object, const char *name, bool *value,
                                 struct json_fault *fault);
NODISCARD enum err json_get_i64(const struct json_node *object, const char *name, int64_t *value,
                                struct json_fault *fault);
/* Within [low, high], else ERR_RANGE. */
NODISCARD enum err json_get_i64_in(const struct json_node *object, const char *name, int64_t low,
                                   int64_t high, int64_t *value, struct json_fault *fault);
NODISCARD enum err json_get_u64(const struct json_node *object, const char *name, uint64_t *value,
                                struct json_fault *fault);
NODISCARD enum err json_get_text(const struct json_node *object, const char *name,
                                 struct bytes *value, struct json_fault *fault);
NODISCARD enum err json_get_array(const struct json_node *object, const char *name,
                                  const struct json_node **value, struct json_fault *fault);
NODISCARD enum err json_get_object(const struct json_node *object, const char *name,
                                   const struct json_node **value, struct json_fault *fault);

#endif
