/* Requests of clients: JSON text into C structs, driven by tables, as Go's encoding/json does it.
 * Clients see its errors (10025 "invalid JSON: ..."), so the texts are Go's too: the character and
 * offset of a syntax error, "unknown field", the type that did not fit with the path to its field.
 * (core/base/json is for configuration: it neither keeps what Go's texts name nor reads integers
 * above INT64_MAX, which sequences may be.)
 *
 * Rules kept from Go: names match without regard to ASCII case; the last of two fields wins, and
 * a second object fills in the first; null leaves a value alone and empties a pointer or list; the
 * first field that does not fit or is unknown is reported, but decoding goes on and a later value
 * that its own parser refuses (an enum, a time) wins over it. In strict mode the values that
 * follow the first one are decoded over it, up to the end of the text.
 *
 * Memory: what a request needs beyond its own bytes comes from the caller's arena. Texts without
 * escapes are slices of the request: they live as long as both. Hostile input: nothing is asserted
 * about it. */
#ifndef CORE_JS_REQUEST_H
#define CORE_JS_REQUEST_H
#include "core/base/arena.h"
#include "core/js/jsapi_error.h"
#include "core/js/time_parse.h"

enum request_kind {                    /* the C type at the offset */
                    REQUEST_BOOL,      /* bool */
                    REQUEST_INT,       /* int64_t; Go's int */
                    REQUEST_INT32,     /* int32_t */
                    REQUEST_INT64,     /* int64_t */
                    REQUEST_UINT64,    /* uint64_t */
                    REQUEST_DURATION,  /* int64_t nanoseconds, written as an integer */
                    REQUEST_TEXT,      /* struct bytes */
                    REQUEST_TIME,      /* struct time_stamp */
                    REQUEST_TEXTS,     /* struct request_texts */
                    REQUEST_DURATIONS, /* struct request_durations */
                    REQUEST_MAP,       /* struct request_map: text to text, sorted by key; a request
                                          has one such field */
                    REQUEST_ENUM,      /* an enum of 4 bytes; see request_enum */
                    REQUEST_OBJECT,    /* the struct itself */
                    REQUEST_POINTER,   /* pointer to the struct; NULL when absent or null */
                    REQUEST_POINTERS,  /* struct request_objects of pointers; an element may be NULL
                                        */
                    REQUEST_OBJECTS,   /* struct request_objects of structs in a row */
};

/* What a map may have, one key counted as often as it is written: all of them are sorted in one
 * step. */
enum { REQUEST_PAIRS_MAX = 1 << 15 };

struct request_texts {
    struct bytes *items;
    uint32_t count;
};

struct request_durations {
    int64_t *items;
    uint32_t count;
};

struct request_pair {
    struct bytes key, value;
};

struct request_map {
    struct request_pair *items;
    uint32_t count;
    uint32_t room; /* while it is decoded */
};

struct request_objects {
    void *items;
    uint32_t count;
};

/* The texts of an enum's values. */
struct request_enum {
    struct {
        const char *text; /* NULL ends the list */
        uint32_t value;
    } values[8];
    /* What its parser says to anything else: NULL for: can not unmarshal "<raw, quoted>"; a text
     * that ends in a blank is followed by the raw value; other texts stand alone. */
    const char *refusal;
    bool is_text_first; /* the parser reads a text first: other JSON types are type errors */
};

struct request_type;

struct request_field {
    const char *name;
    uint32_t offset;
    enum request_kind kind;
    const struct request_enum *values; /* REQUEST_ENUM */
    const struct request_type *type;   /* REQUEST_OBJECT and after */
    const char *embedded;              /* Go's embedded struct, as errors name it; or NULL */
};

/* A row; .values, .type and .embedded may follow. */
#define REQUEST_FIELD(owner, member, text, kind_, ...)                                             \
    {                                                                                              \
        .name = (text), .offset = offsetof(owner, member), .kind = (kind_), __VA_ARGS__            \
    }

struct request_type {
    const char *go_name; /* as errors name it */
    const struct request_field *fields;
    uint32_t field_count;
    uint32_t bytes; /* of the C struct */
};

enum request_mode {
    REQUEST_STRICT,  /* unknown fields are errors, many values may follow one another */
    REQUEST_LENIENT, /* unknown fields are skipped; one value */
};

/* Decodes text into out, whose defaults the caller has set. An empty text leaves it as it is.
 * ERR_SYNTAX: why holds Go's text; out may be half filled. ERR_MEMORY: the arena is out. */
NODISCARD enum err request_decode(struct arena *arena, struct bytes text,
                                  const struct request_type *type, enum request_mode mode,
                                  void *out, struct writer *why);
/* The same with the refusal as an API error: 10025, or 10023 when memory is short. */
NODISCARD bool request_read(struct arena *arena, struct bytes text, const struct request_type *type,
                            enum request_mode mode, void *out, struct jsapi_error *error);
/* The first byte that is no blank opens an object or an array. */
bool request_is_container(struct bytes text);
/* Nothing, or an object without fields. */
bool request_is_empty(struct bytes text);
/* Headers ask for an API level above ours. */
bool request_needs_higher_level(struct bytes headers);

#endif
