#include "core/config/conf.h"
#include "core/base/float_text.h"
#include "core/base/json_write.h"
#include "core/base/must.h"
#include "core/base/sort.h"
#include "core/base/table.h"

/* --- maps ----------------------------------------------------------------------------------- */

enum { SLOTS_FROM = 16 };

static uint32_t key_hash(struct bytes key)
{
    return (uint32_t)hash_bytes(key.data, key.len, 0);
}

static struct conf_entry *map_find(const struct conf_map *m, struct bytes key)
{
    if (m->slots == NULL) {
        for (struct conf_entry *e = m->first; e != NULL; e = e->next)
            if (bytes_equal(e->key, key)) return e;
        return NULL;
    }
    for (uint32_t i = key_hash(key);; i++) {
        struct conf_entry *e = m->slots[i & (m->slot_count - 1)];
        if (e == NULL || bytes_equal(e->key, key)) return e;
    }
}

static void slot_put(struct conf_map *m, struct conf_entry *e)
{
    uint32_t i = key_hash(e->key);
    while (m->slots[i & (m->slot_count - 1)] != NULL) i++;
    m->slots[i & (m->slot_count - 1)] = e;
}

/* At most half full. Old tables stay in the arena: together less than the last one. */
static enum err map_grow(struct arena *arena, struct conf_map *m)
{
    if (m->count + 1 < SLOTS_FROM || (m->slots != NULL && (m->count + 1) * 2 <= m->slot_count))
        return ERR_OK;
    uint32_t slot_count = m->slots == NULL ? SLOTS_FROM * 4 : m->slot_count * 2;
    struct conf_entry **slots = arena_alloc(arena, slot_count * sizeof(*slots));
    if (slots == NULL) return ERR_MEMORY;
    m->slots = slots;
    m->slot_count = slot_count;
    for (struct conf_entry *e = m->first; e != NULL; e = e->next) slot_put(m, e);
    return ERR_OK;
}

struct conf_value *conf_get(const struct conf_value *map, struct bytes key)
{
    must(map->kind == CONF_MAP);
    struct conf_entry *e = map_find(&map->map, key);
    return e == NULL ? NULL : e->value;
}

static void grow_from(struct conf_value *whole, const struct conf_value *part)
{
    if (whole->depth < part->depth + 1) whole->depth = part->depth + 1;
    whole->weight += part->weight;
}

enum err conf_set(struct arena *arena, struct conf_value *map, struct bytes key,
                  struct conf_value *value)
{
    must(map->kind == CONF_MAP);
    struct conf_entry *old = map_find(&map->map, key);
    if (old != NULL) {
        old->value = value;
        grow_from(map, value);
        return ERR_OK;
    }
    struct conf_entry *e = arena_alloc(arena, sizeof(*e));
    if (e == NULL || map_grow(arena, &map->map) != ERR_OK) return ERR_MEMORY;
    *e = (struct conf_entry){.key = key, .value = value};
    struct conf_map *m = &map->map;
    if (m->last == NULL)
        m->first = e;
    else
        m->last->next = e;
    m->last = e;
    m->count++;
    if (m->slots != NULL) slot_put(m, e);
    grow_from(map, value);
    return ERR_OK;
}

enum err conf_add(struct arena *arena, struct conf_value *array, struct conf_value *value)
{
    struct conf_item *item = arena_alloc(arena, sizeof(*item));
    if (item == NULL) return ERR_MEMORY;
    item->value = value;
    if (array->array.last == NULL)
        array->array.first = item;
    else
        array->array.last->next = item;
    array->array.last = item;
    array->array.count++;
    grow_from(array, value);
    return ERR_OK;
}

struct conf_value *conf_new_map(struct arena *arena)
{
    struct conf_value *v = arena_alloc(arena, sizeof(*v));
    if (v == NULL) return NULL;
    *v = (struct conf_value){.kind = CONF_MAP, .depth = 1, .weight = 1};
    return v;
}

/* --- texts for people and the canonical form ------------------------------------------------ */

const char *conf_kind_text(enum conf_kind kind)
{
    static const char *const texts[CONF_KIND_COUNT] = {
        [CONF_BOOL] = "a boolean", [CONF_INTEGER] = "an integer", [CONF_FLOAT] = "a float",
        [CONF_TEXT] = "a string",  [CONF_TIME] = "a datetime",    [CONF_ARRAY] = "an array",
        [CONF_MAP] = "a map",
    };
    must(kind < CONF_KIND_COUNT);
    return texts[kind];
}

void conf_place_print(struct conf_place place, struct text *out)
{
    text_bytes(out, place.file);
    if (place.line == 0) return;
    text_char(out, ':');
    text_u64(out, place.line);
    text_char(out, ':');
    text_u64(out, place.column);
}

void conf_error_print(const struct conf_error *e, struct text *out)
{
    if (e->place.line > 0) {
        conf_place_print(e->place, out);
        text_string(out, ": ");
    }
    text_string(out, e->text);
}

static int compare_keys(const void *a, const void *b)
{
    const struct conf_entry *x = a, *y = b;
    return bytes_compare(x->key, y->key);
}

static enum err canonical_value(const struct conf_value *v, struct arena *scratch,
                                struct text *out);

static enum err canonical_map(const struct conf_map *m, struct arena *scratch, struct text *out)
{
    struct conf_entry **sorted = arena_alloc(scratch, m->count * sizeof(*sorted));
    if (sorted == NULL) return ERR_MEMORY;
    size_t count = 0;
    for (struct conf_entry *e = m->first; e != NULL; e = e->next) sorted[count++] = e;
    must(count == m->count);
    sort_pointers((const void **)sorted, count, compare_keys);
    text_char(out, '{');
    for (size_t i = 0; i < count; i++) {
        if (i > 0) text_char(out, ',');
        json_write_quote(out, sorted[i]->key);
        text_char(out, ':');
        enum err e = canonical_value(sorted[i]->value, scratch, out);
        if (e != ERR_OK) return e;
    }
    text_char(out, '}');
    return ERR_OK;
}

static enum err canonical_array(const struct conf_array *a, struct arena *scratch, struct text *out)
{
    text_char(out, '[');
    for (const struct conf_item *i = a->first; i != NULL; i = i->next) {
        if (i != a->first) text_char(out, ',');
        enum err e = canonical_value(i->value, scratch, out);
        if (e != ERR_OK) return e;
    }
    text_char(out, ']');
    return ERR_OK;
}

/* Recursion: value->depth is at most CONF_DEPTH_MAX and one for the document. */
static enum err canonical_value(const struct conf_value *v, struct arena *scratch, struct text *out)
{
    must(v->depth <= CONF_DEPTH_MAX + 1);
    switch (v->kind) {
    case CONF_BOOL: text_string(out, v->boolean ? "true" : "false"); break;
    case CONF_INTEGER: text_i64(out, v->integer); break;
    case CONF_FLOAT:
        /* The reference hashes the sign of a zero; the pages' printer has no need of it. */
        if (v->number == 0 && __builtin_signbit(v->number))
            text_string(out, "-0");
        else
            float_text_json(out, v->number);
        break;
    case CONF_TEXT:
    case CONF_TIME: json_write_quote(out, v->text); break;
    case CONF_ARRAY: return canonical_array(&v->array, scratch, out);
    case CONF_MAP: return canonical_map(&v->map, scratch, out);
    case CONF_KIND_COUNT: must(false);
    }
    return ERR_OK;
}

enum err conf_canonical(const struct conf_value *map, struct arena *scratch, struct text *out)
{
    must(map->kind == CONF_MAP);
    enum err e = canonical_value(map, scratch, out);
    text_char(out, '\n');
    return e == ERR_OK && out->is_failed ? ERR_MEMORY : e;
}
