/* A growing buffer for text made for people and tools: pages, replies, events. Memory comes from
 * a port, doubles as needed up to a bound, and belongs to the buffer until text_deinit. When it
 * cannot grow the append is dropped, is_failed is set for good, and the caller checks once, at
 * the end. Never used per message. */
#ifndef CORE_BASE_TEXT_H
#define CORE_BASE_TEXT_H
#include "core/base/bytes.h"
#include "core/base/mem.h"

struct text {
    char *data;       /* no zero at the end */
    size_t len;
    size_t capacity;
    size_t bytes_max; /* never grows beyond */
    bool is_failed;   /* something is missing: out of memory, or over bytes_max */
    struct mem *mem;
    enum mem_class class;
};

/* Empty, no memory yet. */
void text_init(struct text *t, struct mem *mem, enum mem_class class, size_t bytes_max);
/* Empty, in the caller's room, which it does not grow beyond; no teardown. */
void text_init_in(struct text *t, char *room, size_t bytes);
/* Gives the memory back; t is empty and usable again. */
void text_deinit(struct text *t);
/* Forgets the contents and a failure, keeps the memory. */
void text_clear(struct text *t);

void text_bytes(struct text *t, struct bytes b);
void text_string(struct text *t, const char *string);
void text_char(struct text *t, char c);
void text_fill(struct text *t, char c, size_t count);
void text_u64(struct text *t, uint64_t value);
void text_i64(struct text *t, int64_t value);
/* Decimal with leading zeros up to digits. */
void text_u64_padded(struct text *t, uint64_t value, unsigned digits);
static inline struct bytes text_written(const struct text *t)
{
    return (struct bytes){t->data, t->len};
}

#endif
