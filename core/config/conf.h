/* The NATS configuration grammar: text in, a tree of values with their places out.
 *
 *   document = entries, optionally wrapped in { }        (so a JSON object is a document)
 *   entry    = key [ "=" | ":" ] value | "include" path
 *   key      = bare word up to a space or separator | "..." | '...'
 *   value    = map | array | text | block | number | boolean | time | variable
 *   map      = "{" entries "}"      array = "[" values "]"
 *   entries end with a newline, "," or ";"; values of an array with a newline or ","
 *   text     = "..." with \xXX \t \n \r \" \\ | '...' raw | a bare word with the same escapes
 *   block    = "(" anything up to a ")" alone on its line
 *   number   = digits, optionally with k m g t p e (powers of 1000) or kb ki kib ... (of 1024);
 *              digits "." digits; digits that go on with other characters are text (2s, 1h)
 *   boolean  = true false on off yes no, in any case
 *   time     = YYYY-MM-DDThh:mm:ssZ
 *   variable = "$" name: a key of an enclosing map of the same file, inner ones first, then the
 *              environment, whose text is parsed as a value. $2a$... is a password, not a variable.
 *   comments = "#" or "//" up to the end of the line
 *
 * The last of several equal keys wins. An included file sees no variables of the including one;
 * its path is relative to the directory of the file that includes it, even with a leading slash
 * (all as nats-server has it; tests/unit/config/conf_reference.def holds the comparison).
 *
 * Bounds that the reference has not: CONF_DEPTH_MAX nested maps and arrays, counted through
 * variables too; CONF_INCLUDE_DEPTH_MAX files above each other, CONF_INCLUDES_MAX in all;
 * CONF_VALUES_MAX values, counted as if every
 * variable had been written out, so that no walk over the tree can explode.
 *
 * Pure: files and environment come through struct conf_source. Values lie in the caller's arena
 * and borrow texts from it. */
#ifndef CORE_CONFIG_CONF_H
#define CORE_CONFIG_CONF_H
#include "core/base/arena.h"
#include "core/base/bytes.h"
#include "core/base/text.h"

enum {
    CONF_DEPTH_MAX = 64,
    CONF_INCLUDE_DEPTH_MAX = 16,
    CONF_INCLUDES_MAX = 4096, /* in all: files that include each other twice would be 2^16 */
    CONF_ENV_DEPTH_MAX = 16,
    CONF_VALUES_MAX = 4 << 20,
    CONF_ERROR_BYTES = 1024,
};

enum conf_kind {
    CONF_BOOL,
    CONF_INTEGER,
    CONF_FLOAT,
    CONF_TEXT,
    CONF_TIME, /* text holds it as written */
    CONF_ARRAY,
    CONF_MAP,
    CONF_KIND_COUNT
};

/* Where something stands. line and column are from 1; 0: not from a file. */
struct conf_place {
    struct bytes file;
    uint32_t line, column;
};

struct conf_item {
    struct conf_item *next;
    struct conf_value *value;
};

struct conf_array {
    struct conf_item *first, *last;
    uint32_t count;
};

struct conf_entry {
    struct conf_entry *next; /* in the order of first mention */
    struct bytes key;
    struct conf_value *value;
};

struct conf_map {
    struct conf_entry *first, *last;
    uint32_t count;
    struct conf_entry **slots; /* open addressing by key; NULL while the map is small */
    uint32_t slot_count;
};

struct conf_value {
    enum conf_kind kind;
    bool is_used;            /* a variable names it, so its key need not be an option */
    uint32_t depth;          /* of nesting below; 0 for scalars, 1 for an empty map */
    uint32_t weight;         /* values in it, itself included */
    struct conf_place place; /* of its key in a map, else its own */
    union {
        bool boolean;
        int64_t integer;
        double number;
        struct bytes text;
        struct conf_array array;
        struct conf_map map;
    };
};

struct conf_error {
    struct conf_place place;
    char text[CONF_ERROR_BYTES]; /* zero-terminated, without the place */
};

/* The outside world of a configuration. */
struct conf_source {
    /* The whole file into arena. ERR_IO: could not, *why says it ("no such file or directory");
     * ERR_MEMORY. path ends with a zero byte. */
    enum err (*read)(struct conf_source *s, struct arena *arena, struct bytes path,
                     struct bytes *content, struct bytes *why);
    /* false: not set. *value stays valid while the configuration is parsed. */
    bool (*getenv)(struct conf_source *s, struct bytes name, struct bytes *value);
    void *context; /* of the implementation */
    /* The name of environment variable number at; false: there are fewer. NULL: not to be had. */
    bool (*name_at)(struct conf_source *s, size_t at, struct bytes *name);
};

/* Reads and parses path into *map, a value of kind CONF_MAP in arena.
 * ERR_IO: the file or an included one could not be read. ERR_SYNTAX: the grammar, a variable or a
 * bound refused it. ERR_MEMORY. In each case *error says what and where. */
NODISCARD enum err conf_parse_file(struct arena *arena, struct conf_source *source,
                                   struct bytes path, struct conf_value **map,
                                   struct conf_error *error);
/* The same for text that is already here; name stands for the file in places and for includes. */
NODISCARD enum err conf_parse_text(struct arena *arena, struct conf_source *source,
                                   struct bytes name, struct bytes content, struct conf_value **map,
                                   struct conf_error *error);
/* One value as it would stand after a key: for the environment and --set. */
NODISCARD enum err conf_parse_value(struct arena *arena, struct conf_source *source,
                                    struct bytes name, struct bytes content,
                                    struct conf_value **value, struct conf_error *error);

/* NULL: no such key. Exact, not folded. map->kind is CONF_MAP. */
struct conf_value *conf_get(const struct conf_value *map, struct bytes key);
/* Puts or replaces; used to apply --set on a parsed file. ERR_MEMORY. */
NODISCARD enum err conf_set(struct arena *arena, struct conf_value *map, struct bytes key,
                            struct conf_value *value);
/* Appends to an array. ERR_MEMORY. */
NODISCARD enum err conf_add(struct arena *arena, struct conf_value *array,
                            struct conf_value *value);
/* An empty map of no place. NULL: no memory. */
NODISCARD struct conf_value *conf_new_map(struct arena *arena);

/* "a map", "an integer" ...: for messages. */
const char *conf_kind_text(enum conf_kind kind);
/* "<file>:<line>:<col>: <text>", or only the text when the place is unknown. */
void conf_error_print(const struct conf_error *e, struct text *out);
void conf_place_print(struct conf_place place, struct text *out);

/* The parsed content as compact JSON, keys sorted by bytes, and a newline: what the configuration
 * digest is the SHA-256 of, byte for byte as the reference hashes it. ERR_MEMORY. */
NODISCARD enum err conf_canonical(const struct conf_value *map, struct arena *scratch,
                                  struct text *out);

#endif
