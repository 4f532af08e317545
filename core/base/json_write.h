/* JSON as text, written front to back, in the form of Go's encoder: its escapes, its numbers, its
 * indentation (or none). Keys come in the order of the calls; nobody sorts or checks duplicates.
 *
 *   json_write_object(w, NULL);            // a value without a key: top level or array element
 *   json_write_u64(w, "connections", 3);   // a member
 *   json_write_end(w);
 *
 * Depth is bounded by JSON_WRITE_DEPTH_MAX and asserted: the caller's structure is fixed. */
#ifndef CORE_BASE_JSON_WRITE_H
#define CORE_BASE_JSON_WRITE_H
#include "core/base/text.h"

enum { JSON_WRITE_DEPTH_MAX = 16 };

struct json_write {
    struct text *out;
    uint32_t indent; /* spaces a level; 0: compact */
    uint32_t depth;
    bool is_array[JSON_WRITE_DEPTH_MAX];
    bool has_member[JSON_WRITE_DEPTH_MAX];
};

void json_write_init(struct json_write *w, struct text *out, uint32_t indent);
/* key NULL inside an array and at the top. */
void json_write_object(struct json_write *w, const char *key);
void json_write_array(struct json_write *w, const char *key);
/* Ends the innermost object or array. */
void json_write_end(struct json_write *w);

void json_write_text(struct json_write *w, const char *key, struct bytes value);
void json_write_u64(struct json_write *w, const char *key, uint64_t value);
void json_write_i64(struct json_write *w, const char *key, int64_t value);
void json_write_float(struct json_write *w, const char *key, double value);
void json_write_bool(struct json_write *w, const char *key, bool value);
void json_write_null(struct json_write *w, const char *key);
void json_write_time(struct json_write *w, const char *key, int64_t wall_ns);
void json_write_duration(struct json_write *w, const char *key, int64_t ns); /* as text: "1.2ms" */
void json_write_uptime(struct json_write *w, const char *key, int64_t ns);
/* A value that is JSON already. */
void json_write_raw(struct json_write *w, const char *key, struct bytes json);
/* A member whose key is foreign text. Then one value with key NULL. */
void json_write_key(struct json_write *w, struct bytes key);

/* "omitempty": nothing is written for an empty text, 0 or false. */
void json_write_text_if(struct json_write *w, const char *key, struct bytes value);
void json_write_u64_if(struct json_write *w, const char *key, uint64_t value);
void json_write_i64_if(struct json_write *w, const char *key, int64_t value);
void json_write_bool_if(struct json_write *w, const char *key, bool value);
void json_write_time_if(struct json_write *w, const char *key, int64_t wall_ns);
/* An array of texts; nothing when there are none. */
void json_write_texts_if(struct json_write *w, const char *key, const struct bytes *values,
                         size_t count);

/* Only the quoted text, escaped: for text formats that use JSON strings. */
void json_write_quote(struct text *out, struct bytes value);

#endif
