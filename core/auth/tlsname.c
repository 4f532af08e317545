#include "core/auth/tlsname.h"
#include "core/base/must.h"

/* Where the parser stands, and the text it collects: leading blanks are skipped, trailing ones
 * cut, unless they were escaped. */
struct parse {
    struct tlsname *name;
    size_t used;       /* of room */
    size_t first;      /* start of the text being collected */
    size_t end;        /* its end without unescaped trailing blanks */
    struct bytes type; /* of the attribute being read; len 0: none yet */
    bool has_type;
};

static enum err collect(struct parse *p, char c, bool is_escaped)
{
    if (c == ' ' && !is_escaped && p->used == p->first) return ERR_OK;
    if (p->used == TLSNAME_BYTES_MAX) return ERR_TOO_LONG;
    p->name->room[p->used++] = c;
    if (c != ' ' || is_escaped) p->end = p->used;
    return ERR_OK;
}

static struct bytes collected(struct parse *p)
{
    struct bytes text = bytes_of(p->name->room + p->first, p->end - p->first);
    p->first = p->end = p->used;
    return text;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

/* The escape after the backslash at text[at]; moves *at to its last byte. */
static enum err collect_escape(struct parse *p, struct bytes text, size_t *at)
{
    static const char specials[] = " \"#+,;<=>\\";
    if (*at + 1 >= text.len) return ERR_SYNTAX;
    char c = text.data[*at + 1];
    if (c != 0 && strchr(specials, c) != NULL) {
        *at += 1;
        return collect(p, c, true);
    }
    if (*at + 2 >= text.len) return ERR_SYNTAX;
    int high = hex_value(c), low = hex_value(text.data[*at + 2]);
    if (high < 0 || low < 0) return ERR_SYNTAX;
    *at += 2;
    return collect(p, (char)(high << 4 | low), true);
}

static enum err end_attribute(struct parse *p)
{
    struct tlsname *n = p->name;
    if (!p->has_type) return ERR_SYNTAX;
    if (n->attribute_count == TLSNAME_ATTRIBUTES_MAX) return ERR_TOO_LONG;
    n->attributes[n->attribute_count++] = (struct tlsname_attribute){
        .type = p->type, .value = collected(p), .rdn = n->rdn_count};
    p->has_type = false;
    return ERR_OK;
}

static enum err end_type(struct parse *p, struct bytes text, size_t at)
{
    p->type = collected(p);
    p->has_type = true;
    if (p->type.len == 0) return ERR_SYNTAX;
    /* # starts a value in hexadecimal BER, which nobody writes by hand. */
    if (at + 1 < text.len && text.data[at + 1] == '#') return ERR_SYNTAX;
    return ERR_OK;
}

static enum err parse(struct parse *p, struct bytes text)
{
    enum err e = ERR_OK;
    for (size_t at = 0; at < text.len && e == ERR_OK; at++) {
        char c = text.data[at];
        if (c == '\\') {
            e = collect_escape(p, text, &at);
        } else if (c == '=' && !p->has_type) {
            e = end_type(p, text, at);
        } else if (c == ',' || c == '+') {
            e = end_attribute(p);
            if (c == ',') p->name->rdn_count++;
        } else {
            e = collect(p, c, false);
        }
    }
    if (e == ERR_OK) e = end_attribute(p);
    if (e == ERR_OK) p->name->rdn_count++;
    return e;
}

enum err tlsname_parse(struct bytes text, struct tlsname *out)
{
    struct parse p = {.name = out};
    out->attribute_count = out->rdn_count = 0;
    enum err e = parse(&p, text);
    if (e != ERR_OK) out->attribute_count = out->rdn_count = 0;
    must(out->rdn_count <= out->attribute_count);
    return e;
}

static bool attribute_equal(const struct tlsname_attribute *a, const struct tlsname_attribute *b)
{
    return bytes_equal_nocase(a->type, b->type) && bytes_equal(a->value, b->value);
}

/* The attributes of relative name rdn: [*first, return value). They lie side by side. */
static uint32_t rdn_range(const struct tlsname *n, uint32_t rdn, uint32_t *first)
{
    uint32_t i = 0;
    while (i < n->attribute_count && n->attributes[i].rdn < rdn) i++;
    *first = i;
    while (i < n->attribute_count && n->attributes[i].rdn == rdn) i++;
    return i;
}

/* As sets: each attribute of one is paired with its own of the other. Equality is transitive, so
 * taking the first free partner never spoils a pairing. */
static bool rdn_equal(const struct tlsname *a, uint32_t rdn_a, const struct tlsname *b,
                      uint32_t rdn_b)
{
    uint32_t first_a, first_b;
    uint32_t end_a = rdn_range(a, rdn_a, &first_a), end_b = rdn_range(b, rdn_b, &first_b);
    bool is_taken[TLSNAME_ATTRIBUTES_MAX] = {0};
    if (end_a - first_a != end_b - first_b) return false;
    for (uint32_t i = first_a; i < end_a; i++) {
        uint32_t k = first_b;
        while (k < end_b && (is_taken[k] || !attribute_equal(&a->attributes[i], &b->attributes[k])))
            k++;
        if (k == end_b) return false;
        is_taken[k] = true;
    }
    return true;
}

bool tlsname_equal(const struct tlsname *a, const struct tlsname *b)
{
    if (a->rdn_count != b->rdn_count) return false;
    for (uint32_t i = 0; i < a->rdn_count; i++)
        if (!rdn_equal(a, i, b, i)) return false;
    return true;
}

bool tlsname_equal_unordered(const struct tlsname *a, const struct tlsname *b)
{
    bool is_taken[TLSNAME_ATTRIBUTES_MAX] = {0};
    if (a->rdn_count != b->rdn_count) return false;
    for (uint32_t i = 0; i < a->rdn_count; i++) {
        uint32_t k = 0;
        while (k < b->rdn_count && (is_taken[k] || !rdn_equal(a, i, b, k))) k++;
        if (k == b->rdn_count) return false;
        is_taken[k] = true;
    }
    return true;
}
