#include "persist/manifest.h"
#include <xxhash.h>
#include "core/base/must.h"
#include "persist/place.h"
#include "persist/wire.h"

#define MAGIC 0x314E414D4C4C494Du
enum { SEED = 0x4D414E49, CHECKSUM_BYTES = 8, FIRST_CAPACITY = 16 };
enum { KIND_SEGMENT = 1 };
enum { STATE_OPEN = 1, STATE_CLOSED = 2 };
enum { FLAG_CLEAN = 1 };
enum { SEGMENT_HAS_CHECKPOINTS = 1 };

void manifest_init(struct manifest *m, struct mem *mem, uint32_t log, uint64_t store,
                   uint64_t secret)
{
    *m = (struct manifest){.mem = mem,
                           .log = log,
                           .store = store,
                           .secret = secret,
                           .next_group = 1,
                           .next_segment = 1};
}

void manifest_deinit(struct manifest *m)
{
    mem_free(m->mem, MEM_STORE, m->segments, m->capacity * sizeof *m->segments);
    m->segments = NULL;
    m->count = m->capacity = 0;
}

enum err manifest_reserve(struct manifest *m, uint32_t count)
{
    uint32_t capacity = m->capacity == 0 ? FIRST_CAPACITY : m->capacity;
    if (count <= m->capacity) return ERR_OK;
    if (count > MANIFEST_SEGMENTS_MAX) return ERR_FULL;
    while (capacity < count) capacity *= 2;
    struct manifest_segment *to = mem_alloc(m->mem, MEM_STORE, capacity * sizeof *to);
    if (to == NULL) return ERR_MEMORY;
    if (m->count > 0) memcpy(to, m->segments, m->count * sizeof *to);
    mem_free(m->mem, MEM_STORE, m->segments, m->capacity * sizeof *to);
    m->segments = to;
    m->capacity = capacity;
    return ERR_OK;
}

enum err manifest_add(struct manifest *m, const struct manifest_segment *s)
{
    must(manifest_find(m, s->number) == NULL);
    must(m->count == 0 || m->segments[m->count - 1].number < s->number);
    enum err e = manifest_reserve(m, m->count + 1);
    if (e != ERR_OK) return e;
    m->segments[m->count++] = *s;
    return ERR_OK;
}

void manifest_remove(struct manifest *m, uint32_t number)
{
    struct manifest_segment *s = manifest_find(m, number);
    must(s != NULL);
    uint32_t index = (uint32_t)(s - m->segments);
    m->count--;
    memmove(s, s + 1, (m->count - index) * sizeof *s);
}

void manifest_remove_first(struct manifest *m)
{
    must(m->count > 1);
    const struct manifest_segment *s = &m->segments[0];
    struct manifest_segment *next = &m->segments[1];
    uint64_t next_group = s->last_group > 0 ? s->last_group + 1 : s->first_group;
    if (next_group == 0 && m->replay_segment == 0) next_group = 1;
    must(next_group > 0);
    /* Group numbers have no gaps, so the reader knows what it must find first. */
    if (next->first_group == 0) next->first_group = next_group;
    m->replay_segment = next->number;
    manifest_remove(m, s->number);
}

struct manifest_segment *manifest_find(const struct manifest *m, uint32_t number)
{
    uint32_t low = 0, high = m->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (m->segments[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low < m->count && m->segments[low].number == number ? &m->segments[low] : NULL;
}

enum err manifest_copy(struct manifest *to, const struct manifest *from, struct mem *mem)
{
    *to = *from;
    to->mem = mem;
    to->segments = NULL;
    to->count = to->capacity = 0;
    enum err e = manifest_reserve(to, from->count);
    if (e != ERR_OK) return e;
    if (from->count > 0) memcpy(to->segments, from->segments, from->count * sizeof *to->segments);
    to->count = from->count;
    return ERR_OK;
}

uint32_t manifest_bytes(const struct manifest *m)
{
    return (uint32_t)place_block_up(MANIFEST_HEAD_BYTES +
                                    (uint64_t)m->count * MANIFEST_ENTRY_BYTES + CHECKSUM_BYTES);
}

static void encode_segment(const struct manifest_segment *s, char *out)
{
    wire_put_u32(out, KIND_SEGMENT);
    wire_put_u32(out + 4, s->number);
    wire_put_u32(out + 8, s->incarnation);
    wire_put_u32(out + 12, s->is_closed ? STATE_CLOSED : STATE_OPEN);
    wire_put_u64(out + 16, s->size);
    wire_put_u64(out + 24, s->is_closed ? s->end : 0);
    wire_put_u64(out + 32, s->is_closed ? s->last_group : 0);
    wire_put_u64(out + 40, s->first_group);
    wire_put_u32(out + 48, s->has_checkpoints ? SEGMENT_HAS_CHECKPOINTS : 0);
}

void manifest_encode(const struct manifest *m, char *out)
{
    uint32_t bytes = manifest_bytes(m);
    memset(out, 0, bytes);
    wire_put_u64(out, MAGIC);
    wire_put_u32(out + 8, MANIFEST_VERSION);
    wire_put_u32(out + 12, m->log);
    wire_put_u64(out + 16, m->store);
    wire_put_u64(out + 24, m->secret);
    wire_put_u64(out + 32, m->generation);
    wire_put_u64(out + 40, m->durable_group);
    wire_put_u64(out + 48, m->next_group);
    wire_put_u32(out + 56, m->incarnation);
    wire_put_u32(out + 60, bytes);
    wire_put_u32(out + 64, m->count);
    wire_put_u32(out + 68, m->next_segment);
    wire_put_u32(out + 72, m->is_clean ? FLAG_CLEAN : 0);
    wire_put_u32(out + 76, m->replay_segment);
    for (uint32_t i = 0; i < m->count; i++)
        encode_segment(&m->segments[i],
                       out + MANIFEST_HEAD_BYTES + (size_t)i * MANIFEST_ENTRY_BYTES);
    char *end = out + bytes - CHECKSUM_BYTES;
    wire_put_u64(end, XXH3_64bits_withSeed(out, bytes - CHECKSUM_BYTES, SEED ^ m->log));
}

static enum err decode_segment(const char *data, const struct manifest *m,
                               struct manifest_segment *out)
{
    uint32_t state = wire_u32(data + 12);
    if (wire_u32(data) != KIND_SEGMENT) return ERR_UNSUPPORTED;
    if (state != STATE_OPEN && state != STATE_CLOSED) return ERR_UNSUPPORTED;
    *out = (struct manifest_segment){.number = wire_u32(data + 4),
                                     .incarnation = wire_u32(data + 8),
                                     .is_closed = state == STATE_CLOSED,
                                     .size = wire_u64(data + 16),
                                     .end = wire_u64(data + 24),
                                     .last_group = wire_u64(data + 32),
                                     .first_group = wire_u64(data + 40),
                                     .has_checkpoints =
                                         (wire_u32(data + 48) & SEGMENT_HAS_CHECKPOINTS) != 0};
    if (out->number == 0 || out->number >= m->next_segment) return ERR_CORRUPT;
    if (m->count > 0 && out->number <= m->segments[m->count - 1].number) return ERR_CORRUPT;
    if (out->size % PLACE_BLOCK_BYTES != 0 || out->size > PLACE_SEGMENT_BYTES_MAX)
        return ERR_CORRUPT;
    if (out->end % PLACE_BLOCK_BYTES != 0 || out->end > out->size) return ERR_CORRUPT;
    return ERR_OK;
}

enum err manifest_decode(const char *data, size_t bytes, uint32_t log, struct mem *mem,
                         struct manifest *out)
{
    if (bytes < PLACE_BLOCK_BYTES || wire_u64(data) != MAGIC) return ERR_CORRUPT;
    uint32_t length = wire_u32(data + 60), count = wire_u32(data + 64);
    if (length < PLACE_BLOCK_BYTES || length > bytes) return ERR_CORRUPT;
    if (wire_u64(data + length - CHECKSUM_BYTES) !=
        XXH3_64bits_withSeed(data, length - CHECKSUM_BYTES, SEED ^ log))
        return ERR_CORRUPT;
    if (wire_u32(data + 8) != MANIFEST_VERSION) return ERR_UNSUPPORTED;
    if (wire_u32(data + 12) != log || count > MANIFEST_SEGMENTS_MAX) return ERR_CORRUPT;
    if (MANIFEST_HEAD_BYTES + (uint64_t)count * MANIFEST_ENTRY_BYTES + CHECKSUM_BYTES > length)
        return ERR_CORRUPT;
    struct manifest m;
    manifest_init(&m, mem, log, wire_u64(data + 16), wire_u64(data + 24));
    m.generation = wire_u64(data + 32);
    m.durable_group = wire_u64(data + 40);
    m.next_group = wire_u64(data + 48);
    m.incarnation = wire_u32(data + 56);
    m.next_segment = wire_u32(data + 68);
    m.is_clean = (wire_u32(data + 72) & FLAG_CLEAN) != 0;
    m.replay_segment = wire_u32(data + 76);
    for (uint32_t i = 0; i < count; i++) {
        struct manifest_segment s;
        enum err e =
            decode_segment(data + MANIFEST_HEAD_BYTES + (size_t)i * MANIFEST_ENTRY_BYTES, &m, &s);
        if (e == ERR_OK) e = manifest_add(&m, &s);
        if (e != ERR_OK) {
            manifest_deinit(&m);
            return e;
        }
    }
    *out = m;
    return ERR_OK;
}
