/* A JSON object into a struct, by a table of its fields: requests and configurations of the
 * JetStream API, refused with the words of Go's decoder, which clients and their tests know:
 *
 *   json: unknown field "x"
 *   json: cannot unmarshal string into Go struct field ConsumerConfig.config.ack_wait of type ...
 *
 * Fields are looked at in the order of the text. The first fault is the one told, except that a
 * word which is none of an enumeration, or no time, ends the decoding at once and is told instead.
 * Null leaves a value as it was (an enumeration refuses it). What differs from Go: a number that is
 * no integer is told in its shortest form, and a text that is no JSON in our own words.
 *
 * Texts and lists are borrowed from the document. */
#ifndef CORE_JS_DECODE_H
#define CORE_JS_DECODE_H
#include "core/base/json.h"
#include "core/js/time_parse.h"

/* A list or map, checked: its elements have the type of the field. NULL: absent, empty or null. */
struct decode_list {
    const struct json_node *node;
};

enum decode_kind {
    DECODE_TEXT,      /* struct bytes */
    DECODE_BOOL,      /* bool */
    DECODE_INT,       /* int64_t; Go's int */
    DECODE_I64,       /* int64_t */
    DECODE_U64,       /* uint64_t; above INT64_MAX the document itself is refused */
    DECODE_DURATION,  /* int64_t, nanoseconds */
    DECODE_TIME,      /* struct time_stamp */
    DECODE_ENUM,      /* uint8_t: index into the words of the field */
    DECODE_TEXTS,     /* struct decode_list of texts */
    DECODE_DURATIONS, /* struct decode_list of integers */
    DECODE_MAP,       /* struct decode_list: an object whose values are texts */
    DECODE_OBJECT,    /* an inner struct, by its own table */
    DECODE_NODE,      /* const struct json_node *, whatever it is */
};

struct decode_field {
    const char *name;
    enum decode_kind kind;
    uint32_t offset; /* in the struct */
    union {
        const struct decode_words *words; /* DECODE_ENUM */
        const struct decode_shape *shape; /* DECODE_OBJECT */
    };
};

struct decode_words {
    const char *const *words; /* count of them; NULL: none at this index */
    uint32_t count;
    bool is_quoted;    /* the fault shows the value as Go's %q, else as it is */
    const char *fault; /* what stands before the value: "can not unmarshal " */
};

struct decode_shape {
    const char *type;  /* as Go names it: server.ConsumerConfig */
    const char *where; /* what stands before a field's name in a fault: ConsumerConfig.config. */
    const struct decode_field *fields;
    uint32_t count;
    bool is_lenient; /* unknown fields are passed over */
};

enum { DECODE_DEPTH_MAX = 4, DECODE_FAULT_BYTES = 512 };

struct decode_fault {
    char text[DECODE_FAULT_BYTES];
    uint32_t len;
};

static inline struct bytes decode_fault_text(const struct decode_fault *f)
{
    return bytes_of(f->text, f->len);
}

/* Parses text (which must outlive nothing: *doc has copies) and decodes its object into out, whose
 * fields hold their defaults before. An empty text, or null, is an empty object, *doc is NULL then.
 * ERR_OK: the caller closes *doc once it is done with out. Any other error: *doc is NULL, fault
 * says why; ERR_MEMORY also. */
NODISCARD enum err decode_text(struct mem *mem, struct bytes text, const struct decode_shape *shape,
                               void *out, struct json_doc **doc, struct decode_fault *fault);
/* The same of a node at hand. ERR_INVALID: see fault. */
NODISCARD enum err decode_node(const struct json_node *n, const struct decode_shape *shape,
                               void *out, struct decode_fault *fault);

/* Elements of a list, 0 for none. */
size_t decode_count(struct decode_list l);
/* Element index, a text; null reads as empty. */
struct bytes decode_text_at(struct decode_list l, size_t index);
/* Element index, an integer. */
int64_t decode_i64_at(struct decode_list l, size_t index);
/* Every pair of a map: *at starts at NULL; false at the end. */
bool decode_each(struct decode_list l, const void **at, struct bytes *key, struct bytes *value);

#endif
