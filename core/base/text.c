#include "core/base/text.h"
#include "core/base/must.h"

enum { TEXT_BYTES_FIRST = 512 };

void text_init(struct text *t, struct mem *mem, enum mem_class class, size_t bytes_max)
{
    *t = (struct text){.mem = mem, .class = class, .bytes_max = bytes_max};
}

void text_init_in(struct text *t, char *room, size_t bytes)
{
    *t = (struct text){.data = room, .capacity = bytes, .bytes_max = bytes};
}

void text_deinit(struct text *t)
{
    mem_free(t->mem, t->class, t->data, t->capacity);
    t->data = NULL;
    t->capacity = 0;
    text_clear(t);
}

void text_clear(struct text *t)
{
    t->len = 0;
    t->is_failed = false;
}

/* Room for bytes more, or NULL once and for all. */
static char *text_room(struct text *t, size_t bytes)
{
    must(t->len <= t->capacity);
    if (t->is_failed) return NULL;
    if (bytes > t->capacity - t->len) {
        if (bytes > t->bytes_max || t->len > t->bytes_max - bytes) goto fail;
        size_t needed = t->len + bytes;
        size_t capacity = t->capacity == 0 ? TEXT_BYTES_FIRST : t->capacity;
        while (capacity < needed) capacity *= 2;
        if (capacity > t->bytes_max) capacity = t->bytes_max;
        char *data = t->data == NULL
                         ? mem_alloc(t->mem, t->class, capacity)
                         : mem_resize(t->mem, t->class, t->data, t->capacity, capacity);
        if (data == NULL) goto fail;
        t->data = data;
        t->capacity = capacity;
    }
    char *room = t->data + t->len;
    t->len += bytes;
    return room;
fail:
    t->is_failed = true;
    return NULL;
}

void text_bytes(struct text *t, struct bytes b)
{
    if (b.len == 0) return;
    char *room = text_room(t, b.len);
    if (room != NULL) memcpy(room, b.data, b.len);
}

void text_string(struct text *t, const char *string)
{
    text_bytes(t, bytes_from_text(string));
}

void text_char(struct text *t, char c)
{
    char *room = text_room(t, 1);
    if (room != NULL) *room = c;
}

void text_fill(struct text *t, char c, size_t count)
{
    if (count == 0) return;
    char *room = text_room(t, count);
    if (room != NULL) memset(room, c, count);
}

void text_u64(struct text *t, uint64_t value)
{
    char digits[BYTES_U64_TEXT_MAX];
    text_bytes(t, bytes_of(digits, bytes_u64_text(digits, value)));
}

void text_i64(struct text *t, int64_t value)
{
    if (value < 0) text_char(t, '-');
    /* The magnitude of INT64_MIN exists as unsigned only. */
    text_u64(t, value < 0 ? 0 - (uint64_t)value : (uint64_t)value);
}

void text_u64_padded(struct text *t, uint64_t value, unsigned digits)
{
    char room[BYTES_U64_TEXT_MAX];
    size_t len = bytes_u64_text(room, value);
    if (len < digits) text_fill(t, '0', digits - len);
    text_bytes(t, bytes_of(room, len));
}
