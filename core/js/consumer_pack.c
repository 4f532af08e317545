#include "core/js/consumer_pack.h"
#include <string.h>
#include "core/base/must.h"

enum { VARINT_BYTES_MAX = 10 };

/* Counts when data is NULL. */
struct pack {
    char *data;
    size_t len;
};

static void pack_raw(struct pack *p, const void *data, size_t len)
{
    if (p->data != NULL && len > 0) memcpy(p->data + p->len, data, len);
    p->len += len;
}

static void pack_number(struct pack *p, uint64_t value)
{
    uint8_t bytes[VARINT_BYTES_MAX];
    size_t n = 0;
    for (; value >= 0x80; value >>= 7) bytes[n++] = (uint8_t)(value | 0x80);
    bytes[n++] = (uint8_t)value;
    pack_raw(p, bytes, n);
}

/* Small numbers of both signs stay short. */
static uint64_t fold(int64_t value)
{
    return (uint64_t)value << 1 ^ (uint64_t)(value >> 63);
}

static int64_t unfold(uint64_t value)
{
    return (int64_t)(value >> 1 ^ (0 - (value & 1)));
}

static void pack_text(struct pack *p, struct bytes b)
{
    pack_number(p, b.len);
    pack_raw(p, b.data, b.len);
}

static bool is_unset(const struct request_field *f, const void *at)
{
    uint64_t number = 0;
    switch (f->kind) {
    case REQUEST_TEXT: return ((const struct bytes *)at)->len == 0;
    case REQUEST_BOOL: return !*(const bool *)at;
    case REQUEST_ENUM: return *(const uint32_t *)at == 0;
    case REQUEST_TIME: return !((const struct time_stamp *)at)->is_set;
    case REQUEST_TEXTS: return ((const struct request_texts *)at)->count == 0;
    case REQUEST_DURATIONS: return ((const struct request_durations *)at)->count == 0;
    case REQUEST_MAP: return ((const struct request_map *)at)->count == 0;
    default: memcpy(&number, at, sizeof number); return number == 0;
    }
}

static void pack_value(struct pack *p, const struct request_field *f, const void *at)
{
    const struct request_texts *texts = at;
    const struct request_durations *durations = at;
    const struct request_map *map = at;
    const struct time_stamp *time = at;
    uint64_t number = 0;
    switch (f->kind) {
    case REQUEST_TEXT: pack_text(p, *(const struct bytes *)at); break;
    case REQUEST_BOOL: break; /* only a true one is packed */
    case REQUEST_ENUM: pack_number(p, *(const uint32_t *)at); break;
    case REQUEST_TIME:
        pack_number(p, fold(time->wall_ns));
        pack_number(p, fold(time->offset_minutes));
        pack_number(p, time->is_zero);
        break;
    case REQUEST_TEXTS:
        pack_number(p, texts->count);
        for (uint32_t i = 0; i < texts->count; i++) pack_text(p, texts->items[i]);
        break;
    case REQUEST_DURATIONS:
        pack_number(p, durations->count);
        for (uint32_t i = 0; i < durations->count; i++) pack_number(p, fold(durations->items[i]));
        break;
    case REQUEST_MAP:
        pack_number(p, map->count);
        for (uint32_t i = 0; i < map->count; i++) {
            pack_text(p, map->items[i].key);
            pack_text(p, map->items[i].value);
        }
        break;
    default:
        memcpy(&number, at, sizeof number);
        pack_number(p, fold((int64_t)number));
        break;
    }
}

/* A name that equals the durable name, as it does for nearly every durable one, is not kept twice:
 * its length is written as 0. */
static void pack_all(struct pack *p, const struct consumer_config *c)
{
    const uint32_t field_count = consumer_config_type.field_count;
    for (uint32_t i = 0; i < field_count; i++) {
        const struct request_field *f = &consumer_config_type.fields[i];
        const void *at = (const char *)c + f->offset;
        if (is_unset(f, at)) continue;
        pack_number(p, i);
        if (f->offset == offsetof(struct consumer_config, name) &&
            bytes_equal(c->name, c->durable_name))
            pack_text(p, bytes_of("", 0));
        else
            pack_value(p, f, at);
    }
    if (c->is_nameless) pack_number(p, field_count);
}

size_t consumer_pack_bytes(const struct consumer_config *c)
{
    struct pack p = {NULL, 0};
    pack_all(&p, c);
    return p.len;
}

void consumer_pack(const struct consumer_config *c, char *out)
{
    struct pack p = {out, 0};
    pack_all(&p, c);
}

/* Our own bytes, so that anything wrong in them is a bug. */
static uint64_t take_number(struct bytes *rest)
{
    uint64_t value = 0;
    for (unsigned shift = 0;; shift += 7) {
        must(rest->len > 0);
        must(shift < 64);
        uint8_t byte = (uint8_t)rest->data[0];
        rest->data++;
        rest->len--;
        value |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80) return value;
    }
}

static struct bytes take_text(struct bytes *rest)
{
    uint64_t len = take_number(rest);
    must(len <= rest->len);
    struct bytes b = bytes_of(rest->data, (size_t)len);
    rest->data += len;
    rest->len -= (size_t)len;
    return b;
}

static enum err take_texts(struct arena *arena, struct bytes *rest, struct request_texts *out)
{
    out->count = (uint32_t)take_number(rest);
    out->items = arena_alloc(arena, out->count * sizeof *out->items);
    if (out->items == NULL) return ERR_MEMORY;
    for (uint32_t i = 0; i < out->count; i++) out->items[i] = take_text(rest);
    return ERR_OK;
}

static enum err take_map(struct arena *arena, struct bytes *rest, struct request_map *out)
{
    out->count = (uint32_t)take_number(rest);
    out->items = arena_alloc(arena, out->count * sizeof *out->items);
    if (out->items == NULL) return ERR_MEMORY;
    for (uint32_t i = 0; i < out->count; i++) {
        out->items[i].key = take_text(rest);
        out->items[i].value = take_text(rest);
    }
    return ERR_OK;
}

static enum err take_durations(struct arena *arena, struct bytes *rest,
                               struct request_durations *out)
{
    out->count = (uint32_t)take_number(rest);
    out->items = arena_alloc(arena, out->count * sizeof *out->items);
    if (out->items == NULL) return ERR_MEMORY;
    for (uint32_t i = 0; i < out->count; i++) out->items[i] = unfold(take_number(rest));
    return ERR_OK;
}

static enum err take_value(struct arena *arena, struct bytes *rest, const struct request_field *f,
                           void *at)
{
    int64_t number;
    struct time_stamp *time = at;
    switch (f->kind) {
    case REQUEST_TEXT: *(struct bytes *)at = take_text(rest); return ERR_OK;
    case REQUEST_BOOL: *(bool *)at = true; return ERR_OK;
    case REQUEST_ENUM: *(uint32_t *)at = (uint32_t)take_number(rest); return ERR_OK;
    case REQUEST_TIME:
        time->is_set = true;
        time->wall_ns = unfold(take_number(rest));
        time->offset_minutes = (int16_t)unfold(take_number(rest));
        time->is_zero = take_number(rest) != 0;
        return ERR_OK;
    case REQUEST_TEXTS: return take_texts(arena, rest, at);
    case REQUEST_DURATIONS: return take_durations(arena, rest, at);
    case REQUEST_MAP: return take_map(arena, rest, at);
    default:
        number = unfold(take_number(rest));
        memcpy(at, &number, sizeof number);
        return ERR_OK;
    }
}

enum err consumer_pack_read(struct arena *arena, struct bytes packed, struct consumer_config *c)
{
    const uint32_t field_count = consumer_config_type.field_count;
    *c = (struct consumer_config){.deliver_policy = 0};
    while (packed.len > 0) {
        uint64_t i = take_number(&packed);
        if (i == field_count) {
            c->is_nameless = true;
            continue;
        }
        must(i < field_count);
        const struct request_field *f = &consumer_config_type.fields[i];
        enum err e = take_value(arena, &packed, f, (char *)c + f->offset);
        if (e != ERR_OK) return e;
        if (f->offset == offsetof(struct consumer_config, name) && c->name.len == 0)
            c->name = c->durable_name;
    }
    return ERR_OK;
}
