// Random trees, printed in random loose syntax and parsed back: the same content must come out.
// links: config
/* The oracle is the tree itself, printed as JSON by code of its own. Every spelling that the
 * grammar allows for a value is drawn at random: separators, quotes, comments, units, variables,
 * duplicate keys. Usage: model_conf [seed [rounds]] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/rng.h"
#include "core/config/conf.h"
#include "tests/support/mem_heap.h"

enum { KEYS = 8, ITEMS_MAX = 5, DEPTH_MAX = 5, TEXT_BYTES_MAX = 1 << 20, ROUNDS = 30000 };

struct node {
    enum { NODE_INTEGER, NODE_BOOL, NODE_TEXT, NODE_ARRAY, NODE_MAP } kind;
    long long integer;
    char text[16];
    struct node *children[KEYS]; /* of a map: by key, NULL where absent */
    int count;                   /* of an array */
};

struct sheet {
    char data[TEXT_BYTES_MAX];
    size_t len;
};

static void put(struct sheet *s, const char *text)
{
    size_t len = strlen(text);
    if (s->len + len >= sizeof(s->data)) abort();
    memcpy(s->data + s->len, text, len);
    s->len += len;
}

static const char *pick(struct rng *r, const char *const *choices, uint32_t count)
{
    return choices[rng_below(r, count)];
}
#define PICK(r, ...)                                                                               \
    pick(r, (const char *const[]){__VA_ARGS__},                                                    \
         sizeof((const char *const[]){__VA_ARGS__}) / sizeof(const char *))

static struct node *node_new(int kind)
{
    struct node *n = calloc(1, sizeof(*n));
    if (n == NULL) abort();
    n->kind = kind;
    return n;
}

static void node_free(struct node *n)
{
    if (n == NULL) return;
    for (int i = 0; i < KEYS; i++) node_free(n->children[i]);
    free(n);
}

static void key_name(int key, char *name)
{
    sprintf(name, "key%d", key);
}

/* --- the tree as loose text ----------------------------------------------------------------- */

static struct node *value(struct rng *r, struct sheet *s, int depth);

static void loose_gap(struct rng *r, struct sheet *s)
{
    put(s, PICK(r, "", "", " ", "\t", "\n", "  \n\n", "# note ] } \" \n", "// note\n \n"));
}

static void loose_key(struct rng *r, struct sheet *s, int key)
{
    char name[16], quoted[24];
    key_name(key, name);
    const char *quote = PICK(r, "", "", "\"", "'");
    snprintf(quoted, sizeof(quoted), "%s%s%s", quote, name, quote);
    put(s, quoted);
    put(s, PICK(r, ":", "=", ": ", " = ", " ", "\n", "\t:\t"));
}

static void entries(struct rng *r, struct sheet *s, struct node *map, int depth)
{
    uint32_t count = rng_below(r, ITEMS_MAX);
    for (uint32_t i = 0; i < count; i++) {
        int key = (int)rng_below(r, KEYS);
        loose_gap(r, s);
        loose_key(r, s, key);
        struct node *n = value(r, s, depth);
        node_free(map->children[key]);
        map->children[key] = n;
        put(s, PICK(r, "\n", "\n", ",", ", ", ";", " # end\n", " // end\n", "\r\n"));
    }
    loose_gap(r, s);
}

static struct node *loose_array(struct rng *r, struct sheet *s, int depth)
{
    struct node *n = node_new(NODE_ARRAY);
    n->count = (int)rng_below(r, ITEMS_MAX);
    put(s, "[");
    for (int i = 0; i < n->count; i++) {
        loose_gap(r, s);
        n->children[i] = value(r, s, depth);
        if (i + 1 < n->count) put(s, PICK(r, ",", ", ", "\n", " ,\n", " # item\n"));
    }
    put(s, n->count == 0 ? PICK(r, "]", " ]") : PICK(r, "]", " ]", "\n]", ",]"));
    return n;
}

static struct node *loose_integer(struct rng *r, struct sheet *s)
{
    static const struct {
        const char *unit;
        long long factor;
    } units[] = {{"", 1},           {"", 1},           {"k", 1000},    {"K", 1000},
                 {"kb", 1024},      {"KiB", 1024},     {"m", 1000000}, {"Mi", 1048576},
                 {"g", 1000000000}, {"gb", 1073741824}};
    char text[40];
    struct node *n = node_new(NODE_INTEGER);
    uint32_t unit = rng_below(r, sizeof(units) / sizeof(units[0]));
    long long number = (long long)rng_below(r, 2000000) - 1000;
    n->integer = number * units[unit].factor;
    snprintf(text, sizeof(text), "%lld%s", number, units[unit].unit);
    put(s, text);
    return n;
}

static struct node *loose_text(struct rng *r, struct sheet *s)
{
    /* What is meant, and ways to write it. */
    static const char *const texts[][4] = {
        {"word", "word", "\"word\"", "'word'"},
        {"two words", "\"two words\"", "'two words'", "\"two\\x20words\""},
        {"", "\"\"", "''", "\"\""},
        {"2s", "2s", "\"2s\"", "'2s'"},
        {"a\tb", "\"a\\tb\"", "'a\tb'", "a\\tb"},
        {"true", "\"true\"", "'true'", "\"\\x74rue\""},
        {"1.2.3.4:5", "1.2.3.4:5", "\"1.2.3.4:5\"", "'1.2.3.4:5'"},
        {"x\"y", "\"x\\\"y\"", "'x\"y'", "x\"y"},
        {"$2a$11$x", "$2a$11$x", "'$2a$11$x'", "\"$2a$11$x\""},
        {"h://u", "h://u", "\"h://u\"", "'h://u'"},
    };
    struct node *n = node_new(NODE_TEXT);
    uint32_t which = rng_below(r, sizeof(texts) / sizeof(texts[0]));
    strcpy(n->text, texts[which][0]);
    put(s, texts[which][1 + rng_below(r, 3)]);
    return n;
}

static struct node *value(struct rng *r, struct sheet *s, int depth)
{
    uint32_t choice = rng_below(r, depth == DEPTH_MAX ? 6 : 9);
    if (choice < 2) return loose_integer(r, s);
    if (choice < 5) return loose_text(r, s);
    if (choice == 5) {
        struct node *n = node_new(NODE_BOOL);
        n->integer = rng_below(r, 2);
        put(s, n->integer ? PICK(r, "true", "on", "Yes", "TRUE") : PICK(r, "false", "off", "NO"));
        return n;
    }
    if (choice == 6) return loose_array(r, s, depth + 1);
    struct node *n = node_new(NODE_MAP);
    put(s, "{");
    entries(r, s, n, depth + 1);
    put(s, "}");
    return n;
}

/* --- the tree as JSON ------------------------------------------------------------------------ */

static void json(struct sheet *s, const struct node *n)
{
    char text[64];
    bool has_any = false;
    switch (n->kind) {
    case NODE_INTEGER:
        snprintf(text, sizeof(text), "%lld", n->integer);
        put(s, text);
        break;
    case NODE_BOOL: put(s, n->integer ? "true" : "false"); break;
    case NODE_TEXT:
        put(s, "\"");
        for (const char *c = n->text; *c != 0; c++) {
            char one[2] = {*c, 0};
            put(s, *c == '"' ? "\\\"" : *c == '\t' ? "\\t" : one);
        }
        put(s, "\"");
        break;
    case NODE_ARRAY:
        put(s, "[");
        for (int i = 0; i < n->count; i++) {
            if (i > 0) put(s, ",");
            json(s, n->children[i]);
        }
        put(s, "]");
        break;
    case NODE_MAP:
        put(s, "{");
        for (int i = 0; i < KEYS; i++) {
            if (n->children[i] == NULL) continue;
            key_name(i, text);
            if (has_any) put(s, ",");
            put(s, "\"");
            put(s, text);
            put(s, "\":");
            json(s, n->children[i]);
            has_any = true;
        }
        put(s, "}");
        break;
    }
}

/* --- one round ------------------------------------------------------------------------------- */

static bool check(const struct sheet *loose, const struct sheet *wanted)
{
    struct mem_heap heap;
    struct arena arena;
    struct text got;
    struct conf_error error;
    struct conf_value *map;
    mem_heap_init(&heap);
    arena_init(&arena, &heap.mem, MEM_CONFIG);
    text_init(&got, &heap.mem, MEM_CONFIG, 8 << 20);
    enum err e = conf_parse_text(&arena, NULL, BYTES_LITERAL("t"),
                                 bytes_of(loose->data, loose->len), &map, &error);
    if (e == ERR_OK) e = conf_canonical(map, &arena, &got);
    bool is_same = e == ERR_OK && got.len == wanted->len + 1 &&
                   memcmp(got.data, wanted->data, wanted->len) == 0;
    if (!is_same)
        fprintf(stderr, "--- text\n%.*s\n--- wanted\n%.*s\n--- got\n%.*s%s\n", (int)loose->len,
                loose->data, (int)wanted->len, wanted->data, (int)got.len,
                got.len > 0 ? got.data : "", e == ERR_OK ? "" : error.text);
    text_deinit(&got);
    arena_deinit(&arena);
    return is_same && heap.live_count == 0;
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    int rounds = argc > 2 ? atoi(argv[2]) : ROUNDS;
    struct sheet *loose = malloc(sizeof(*loose)), *wanted = malloc(sizeof(*wanted));
    if (loose == NULL || wanted == NULL) abort();
    int failed = 0;
    for (int i = 0; i < rounds && failed == 0; i++) {
        struct rng r;
        rng_init(&r, seed + (uint64_t)i);
        loose->len = wanted->len = 0;
        struct node *root = node_new(NODE_MAP);
        bool is_wrapped = rng_below(&r, 3) == 0;
        if (is_wrapped) put(loose, "{");
        entries(&r, loose, root, 0);
        if (is_wrapped) put(loose, "}\n");
        json(wanted, root);
        node_free(root);
        if (!check(loose, wanted)) {
            fprintf(stderr, "model_conf: seed %llu\n", (unsigned long long)(seed + (uint64_t)i));
            failed = 1;
        }
    }
    free(loose);
    free(wanted);
    if (failed == 0) printf("model_conf: %d trees\n", rounds);
    return failed;
}
