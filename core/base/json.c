#include "core/base/json.h"
#include <jansson.h>
#include <setjmp.h>
#include <stddef.h>
#include "core/base/list.h"
#include "core/base/must.h"
#include "core/base/utf8.h"

/* What the open document is charged to. */
struct json_heap {
    struct mem *mem;
    enum mem_class class;
    size_t used_bytes, bytes_max;
    bool is_over;  /* bytes_max refused an allocation */
    bool is_short; /* the port refused one */
    struct list blocks;
    jmp_buf *escape; /* out of the parser, whose own answer to a refusal is to run over its text */
};

struct json_doc {
    struct json_heap heap;
    json_t *root;
};

/* In front of each block of jansson: mem_free wants the size back. Keeps the alignment. */
struct json_block {
    _Alignas(16) size_t bytes;
    struct list link;
};

/* The one thread-local of core, see the header. */
static _Thread_local struct json_heap *heap_now;

static void *block_alloc(size_t bytes)
{
    struct json_heap *h = heap_now;
    must(h != NULL);
    if (bytes > h->bytes_max || h->used_bytes > h->bytes_max - bytes) {
        h->is_over = true;
        longjmp(*h->escape, 1);
    }
    struct json_block *b = mem_alloc(h->mem, h->class, sizeof *b + bytes);
    if (b == NULL) {
        h->is_short = true;
        longjmp(*h->escape, 1);
    }
    b->bytes = bytes;
    list_init(&b->link);
    list_push(&h->blocks, &b->link);
    h->used_bytes += bytes;
    return b + 1;
}

/* Wiped, since jansson keeps texts, keys and its read buffer in such blocks, and a CONNECT has
 * passwords among them. The barrier keeps the compiler from dropping a store before a free. */
static void block_free(void *p)
{
    struct json_heap *h = heap_now;
    if (p == NULL) return;
    must(h != NULL);
    struct json_block *b = (struct json_block *)p - 1;
    size_t bytes = b->bytes;
    must(h->used_bytes >= bytes);
    h->used_bytes -= bytes;
    list_remove(&b->link);
    memset(p, 0, bytes);
    __asm__ volatile("" : : "r"(p) : "memory");
    mem_free(h->mem, h->class, b, sizeof *b + bytes);
}

void json_init(uint64_t seed)
{
    json_set_alloc_funcs(block_alloc, block_free);
    /* 0 would make jansson read a device file. */
    json_object_seed(seed == 0 ? 1 : (size_t)seed);
}

/* --- faults --- */

struct fault_text {
    struct writer w;
};

static void fault_begin(struct fault_text *f, struct json_fault *fault)
{
    writer_init(&f->w, fault->text, sizeof fault->text - 1);
}

static void fault_end(struct fault_text *f)
{
    f->w.data[f->w.len] = 0;
}

static enum err fault_plain(struct json_fault *fault, enum err e, const char *text)
{
    if (fault == NULL) return e;
    struct fault_text f;
    fault_begin(&f, fault);
    writer_text(&f.w, text);
    fault_end(&f);
    return e;
}

static enum err fault_field(struct json_fault *fault, enum err e, const char *name,
                            const char *text, const char *more)
{
    if (fault == NULL) return e;
    struct fault_text f;
    fault_begin(&f, fault);
    writer_text(&f.w, "field ");
    writer_quoted(&f.w, bytes_from_text(name));
    writer_text(&f.w, text);
    if (more != NULL) writer_text(&f.w, more);
    fault_end(&f);
    return e;
}

static const char *kind_name(enum json_kind kind)
{
    switch (kind) {
    case JSON_KIND_NULL: return "null";
    case JSON_KIND_BOOL: return "a boolean";
    case JSON_KIND_INTEGER: return "an integer";
    case JSON_KIND_REAL: return "a real number";
    case JSON_KIND_TEXT: return "a string";
    case JSON_KIND_ARRAY: return "an array";
    case JSON_KIND_OBJECT: return "an object";
    }
    return "?";
}

/* --- before jansson: depth, and text that it would refuse but Go takes --- */

/* The value of the four hex digits after \u at text[at], or -1. */
static int escape_value(struct bytes text, size_t at)
{
    int value = 0;
    if (text.len - at < 6 || text.data[at] != '\\' || text.data[at + 1] != 'u') return -1;
    for (size_t i = at + 2; i < at + 6; i++) {
        char c = text.data[i];
        int digit = c >= '0' && c <= '9'   ? c - '0'
                    : c >= 'a' && c <= 'f' ? c - 'a' + 10
                    : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                           : -1;
        if (digit < 0) return -1;
        value = value << 4 | digit;
    }
    return value;
}

/* One pass over the text that knows strings from the rest. With out it copies and repairs:
 * invalid UTF-8 and lone surrogate escapes inside strings become U+FFFD, as in Go. Without out
 * it only tells what it would write. */
struct scan {
    char *out;       /* NULL: measure */
    size_t len;      /* written or measured */
    uint32_t depth, depth_max;
    bool is_changed;
};

static void scan_put(struct scan *s, const char *data, size_t len)
{
    if (s->out != NULL) memcpy(s->out + s->len, data, len);
    s->len += len;
}

/* Takes the escape at text[at]; returns how many bytes of text it was. */
static size_t scan_escape(struct scan *s, struct bytes text, size_t at)
{
    int value = escape_value(text, at);
    if (value < 0) {
        /* A short escape; a broken one is for jansson to refuse. */
        size_t len = text.len - at < 2 ? text.len - at : 2;
        scan_put(s, text.data + at, len);
        return len;
    }
    bool is_high = value >= 0xd800 && value <= 0xdbff, is_low = value >= 0xdc00 && value <= 0xdfff;
    if (is_high) {
        int next = escape_value(text, at + 6);
        if (next >= 0xdc00 && next <= 0xdfff) {
            scan_put(s, text.data + at, 12);
            return 12;
        }
    }
    if (is_high || is_low) {
        s->is_changed = true;
        scan_put(s, "\\ufffd", 6);
    } else {
        scan_put(s, text.data + at, 6);
    }
    return 6;
}

static void scan_run(struct scan *s, struct bytes text)
{
    bool is_string = false;
    for (size_t at = 0; at < text.len;) {
        char c = text.data[at];
        if (is_string && c == '\\') {
            at += scan_escape(s, text, at);
            continue;
        }
        size_t len = utf8_length(bytes_of(text.data + at, text.len - at));
        if (len == 0) {
            s->is_changed = true;
            if (is_string) {
                scan_put(s, "\xef\xbf\xbd", 3);
            } else {
                scan_put(s, "?", 1); /* no JSON either way */
            }
            at++;
            continue;
        }
        scan_put(s, text.data + at, len);
        at += len;
        if (c == '"') {
            is_string = !is_string;
        } else if (!is_string && (c == '[' || c == '{')) {
            if (++s->depth > s->depth_max) s->depth_max = s->depth;
        } else if (!is_string && (c == ']' || c == '}') && s->depth > 0) {
            s->depth--;
        }
    }
}

/* --- parsing --- */

static enum err parse_error(struct json_doc *d, const json_error_t *error, struct json_fault *fault)
{
    if (d->heap.is_over)
        return fault_plain(fault, ERR_TOO_LONG, "JSON text needs too much memory");
    if (d->heap.is_short) return fault_plain(fault, ERR_MEMORY, "out of memory");
    switch (json_error_code(error)) {
    case json_error_numeric_overflow:
        return fault_plain(fault, ERR_RANGE, "JSON text has a number out of range");
    case json_error_stack_overflow:
        return fault_plain(fault, ERR_TOO_LONG, "JSON text is nested too deep");
    default: break;
    }
    if (fault != NULL) {
        /* jansson's own text may quote the input, so only the place is told. */
        struct fault_text f;
        fault_begin(&f, fault);
        writer_text(&f.w, "invalid JSON at byte ");
        writer_i64(&f.w, error->position);
        fault_end(&f);
    }
    return ERR_SYNTAX;
}

static enum err parse(struct json_doc *d, struct bytes text, struct json_fault *fault)
{
    json_error_t error;
    jmp_buf escape;
    struct json_heap *h = &d->heap;
    list_init(&h->blocks);
    h->escape = &escape;
    heap_now = h;
    /* An empty text may come with no address, which jansson takes for misuse. */
    if (setjmp(escape) == 0)
        d->root = json_loadb(text.len == 0 ? "" : text.data, text.len,
                             JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    else
        while (!list_is_empty(&h->blocks))
            block_free(LIST_OWNER(h->blocks.next, struct json_block, link) + 1);
    h->escape = NULL;
    heap_now = NULL;
    return d->root == NULL ? parse_error(d, &error, fault) : ERR_OK;
}

enum err json_open(struct mem *mem, enum mem_class class, struct bytes text,
                   const struct json_limits *limits, struct json_doc **doc,
                   struct json_fault *fault)
{
    struct json_limits l = {.depth_max = JSON_DEPTH_DEFAULT, .bytes_max = JSON_BYTES_DEFAULT};
    if (limits != NULL && limits->depth_max > 0) l.depth_max = limits->depth_max;
    if (limits != NULL && limits->bytes_max > 0) l.bytes_max = limits->bytes_max;
    must(l.depth_max <= JSON_DEPTH_MAX);
    json_malloc_t alloc_now;
    json_free_t free_now;
    json_get_alloc_funcs(&alloc_now, &free_now);
    must(alloc_now == block_alloc && free_now == block_free); /* json_init came first */

    struct scan look = {0};
    scan_run(&look, text);
    if (look.depth_max > l.depth_max)
        return fault_plain(fault, ERR_TOO_LONG, "JSON text is nested too deep");

    struct json_doc *d = mem_alloc(mem, class, sizeof *d);
    if (d == NULL) return fault_plain(fault, ERR_MEMORY, "out of memory");
    *d = (struct json_doc){.heap = {.mem = mem, .class = class, .bytes_max = l.bytes_max}};

    enum err e;
    if (look.is_changed) {
        struct scan copy = {.out = mem_alloc(mem, class, look.len)};
        if (copy.out == NULL) {
            e = fault_plain(fault, ERR_MEMORY, "out of memory");
            goto free_doc;
        }
        scan_run(&copy, text);
        must(copy.len == look.len);
        e = parse(d, bytes_of(copy.out, copy.len), fault);
        memset(copy.out, 0, copy.len);
        __asm__ volatile("" : : "r"(copy.out) : "memory");
        mem_free(mem, class, copy.out, look.len);
    } else {
        e = parse(d, text, fault);
    }
    if (e != ERR_OK) goto free_doc;
    *doc = d;
    return ERR_OK;

free_doc:
    must(d->heap.used_bytes == 0);
    mem_free(mem, class, d, sizeof *d);
    return e;
}

void json_close(struct json_doc *doc)
{
    if (doc == NULL) return;
    struct mem *mem = doc->heap.mem;
    enum mem_class class = doc->heap.class;
    must(heap_now == NULL);
    heap_now = &doc->heap;
    json_decref(doc->root);
    heap_now = NULL;
    must(doc->heap.used_bytes == 0);
    mem_free(mem, class, doc, sizeof *doc);
}

/* --- nodes --- */

static const json_t *value_of(const struct json_node *n)
{
    return (const json_t *)(const void *)n;
}

static const struct json_node *node_of(const json_t *value)
{
    return (const struct json_node *)(const void *)value;
}

const struct json_node *json_root(const struct json_doc *doc)
{
    return node_of(doc->root);
}

enum json_kind json_kind_of(const struct json_node *n)
{
    switch (json_typeof(value_of(n))) {
    case JSON_OBJECT: return JSON_KIND_OBJECT;
    case JSON_ARRAY: return JSON_KIND_ARRAY;
    case JSON_STRING: return JSON_KIND_TEXT;
    case JSON_INTEGER: return JSON_KIND_INTEGER;
    case JSON_REAL: return JSON_KIND_REAL;
    case JSON_TRUE:
    case JSON_FALSE: return JSON_KIND_BOOL;
    case JSON_NULL: break;
    }
    return JSON_KIND_NULL;
}

size_t json_count(const struct json_node *n)
{
    const json_t *v = value_of(n);
    return json_is_array(v) ? json_array_size(v) : json_is_object(v) ? json_object_size(v) : 0;
}

const struct json_node *json_at(const struct json_node *n, size_t index)
{
    return node_of(json_array_get(value_of(n), index));
}

/* jansson's iterator is a void * into the table of the object, which is never changed here. */
bool json_each(const struct json_node *n, const void **at, struct bytes *name,
               const struct json_node **value)
{
    json_t *object = (json_t *)(uintptr_t)(const void *)n;
    void *iter = *at == NULL ? json_object_iter(object)
                             : json_object_iter_next(object, (void *)(uintptr_t)*at);
    if (iter == NULL) return false;
    *at = iter;
    *name = bytes_of(json_object_iter_key(iter), json_object_iter_key_len(iter));
    *value = node_of(json_object_iter_value(iter));
    return true;
}

const struct json_node *json_field(const struct json_node *n, const char *name)
{
    const struct json_node *found = NULL, *value;
    const void *at = NULL;
    struct bytes wanted = bytes_from_text(name), key;
    if (n == NULL || json_kind_of(n) != JSON_KIND_OBJECT) return NULL;
    while (json_each(n, &at, &key, &value))
        if (bytes_equal_nocase(key, wanted) && json_kind_of(value) != JSON_KIND_NULL)
            found = value;
    return found;
}

static enum err wrong_kind(const struct json_node *n, const char *name, const char *wanted,
                           struct json_fault *fault)
{
    if (fault == NULL) return ERR_INVALID;
    struct fault_text f;
    fault_begin(&f, fault);
    writer_text(&f.w, "field ");
    writer_quoted(&f.w, bytes_from_text(name));
    writer_text(&f.w, " is ");
    writer_text(&f.w, n == NULL ? "missing" : kind_name(json_kind_of(n)));
    writer_text(&f.w, ", not ");
    writer_text(&f.w, wanted);
    fault_end(&f);
    return ERR_INVALID;
}

static bool is_kind(const struct json_node *n, enum json_kind kind)
{
    return n != NULL && json_kind_of(n) == kind;
}

enum err json_as_bool(const struct json_node *n, const char *name, bool *value,
                      struct json_fault *fault)
{
    if (!is_kind(n, JSON_KIND_BOOL)) return wrong_kind(n, name, "a boolean", fault);
    *value = json_is_true(value_of(n));
    return ERR_OK;
}

enum err json_as_i64(const struct json_node *n, const char *name, int64_t *value,
                     struct json_fault *fault)
{
    if (!is_kind(n, JSON_KIND_INTEGER)) return wrong_kind(n, name, "an integer", fault);
    *value = (int64_t)json_integer_value(value_of(n));
    return ERR_OK;
}

enum err json_as_u64(const struct json_node *n, const char *name, uint64_t *value,
                     struct json_fault *fault)
{
    int64_t number;
    enum err e = json_as_i64(n, name, &number, fault);
    if (e != ERR_OK) return e;
    if (number < 0) return fault_field(fault, ERR_RANGE, name, " is negative", NULL);
    *value = (uint64_t)number;
    return ERR_OK;
}

enum err json_as_text(const struct json_node *n, const char *name, struct bytes *value,
                      struct json_fault *fault)
{
    if (!is_kind(n, JSON_KIND_TEXT)) return wrong_kind(n, name, "a string", fault);
    *value = bytes_of(json_string_value(value_of(n)), json_string_length(value_of(n)));
    return ERR_OK;
}

/* --- fields --- */

enum err json_get_bool(const struct json_node *object, const char *name, bool *value,
                       struct json_fault *fault)
{
    const struct json_node *n = json_field(object, name);
    return n == NULL ? ERR_OK : json_as_bool(n, name, value, fault);
}

enum err json_get_i64(const struct json_node *object, const char *name, int64_t *value,
                      struct json_fault *fault)
{
    const struct json_node *n = json_field(object, name);
    return n == NULL ? ERR_OK : json_as_i64(n, name, value, fault);
}

enum err json_get_i64_in(const struct json_node *object, const char *name, int64_t low,
                         int64_t high, int64_t *value, struct json_fault *fault)
{
    must(low <= high);
    const struct json_node *n = json_field(object, name);
    int64_t number;
    if (n == NULL) return ERR_OK;
    enum err e = json_as_i64(n, name, &number, fault);
    if (e != ERR_OK) return e;
    if (number < low || number > high)
        return fault_field(fault, ERR_RANGE, name, " is out of range", NULL);
    *value = number;
    return ERR_OK;
}

enum err json_get_u64(const struct json_node *object, const char *name, uint64_t *value,
                      struct json_fault *fault)
{
    const struct json_node *n = json_field(object, name);
    return n == NULL ? ERR_OK : json_as_u64(n, name, value, fault);
}

enum err json_get_text(const struct json_node *object, const char *name, struct bytes *value,
                       struct json_fault *fault)
{
    const struct json_node *n = json_field(object, name);
    return n == NULL ? ERR_OK : json_as_text(n, name, value, fault);
}

enum err json_get_array(const struct json_node *object, const char *name,
                        const struct json_node **value, struct json_fault *fault)
{
    const struct json_node *n = json_field(object, name);
    if (n == NULL) return ERR_OK;
    if (!is_kind(n, JSON_KIND_ARRAY)) return wrong_kind(n, name, "an array", fault);
    *value = n;
    return ERR_OK;
}

enum err json_get_object(const struct json_node *object, const char *name,
                         const struct json_node **value, struct json_fault *fault)
{
    const struct json_node *n = json_field(object, name);
    if (n == NULL) return ERR_OK;
    if (!is_kind(n, JSON_KIND_OBJECT)) return wrong_kind(n, name, "an object", fault);
    *value = n;
    return ERR_OK;
}
