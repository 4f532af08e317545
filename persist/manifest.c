#include "persist/manifest.h"
#include <xxhash.h>
#include "core/base/must.h"
#include "persist/group.h"
#include "persist/wire.h"

#define MAGIC 0x314E414D4C4C494Du
enum { SEED = 0x4D414E49, CHECKSUM_BYTES = 8, FIRST_CAPACITY = 16 };
enum { KIND_SEGMENT = 1, KIND_PACK = 2 };
enum { STATE_OPEN = 1, STATE_CLOSED = 2 };
enum { FLAG_CLEAN = 1, FLAG_SCRUBS = 2 };
enum { SEGMENT_HAS_CHECKPOINTS = 1, SEGMENT_SCRUBBED = 2 };
enum { PACK_SCRUBBED = 1 };

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
    mem_free(m->mem, MEM_STORE, m->packs, m->pack_capacity * sizeof *m->packs);
    m->segments = NULL;
    m->packs = NULL;
    m->count = m->capacity = m->pack_count = m->pack_capacity = 0;
}

static enum err reserve(struct mem *mem, void **array, uint32_t used, uint32_t *capacity,
                        uint32_t count, size_t size)
{
    uint32_t wanted = *capacity == 0 ? FIRST_CAPACITY : *capacity;
    if (count <= *capacity) return ERR_OK;
    if (count > MANIFEST_SEGMENTS_MAX) return ERR_FULL;
    while (wanted < count) wanted *= 2;
    void *to = mem_alloc(mem, MEM_STORE, wanted * size);
    if (to == NULL) return ERR_MEMORY;
    if (used > 0) memcpy(to, *array, used * size);
    mem_free(mem, MEM_STORE, *array, *capacity * size);
    *array = to;
    *capacity = wanted;
    return ERR_OK;
}

enum err manifest_reserve(struct manifest *m, uint32_t count)
{
    return reserve(m->mem, (void **)&m->segments, m->count, &m->capacity, count,
                   sizeof *m->segments);
}

enum err manifest_reserve_packs(struct manifest *m, uint32_t count)
{
    return reserve(m->mem, (void **)&m->packs, m->pack_count, &m->pack_capacity, count,
                   sizeof *m->packs);
}

static enum err add_pack(struct manifest *m, const struct manifest_pack *p)
{
    enum err e = manifest_reserve_packs(m, m->pack_count + 1);
    if (e != ERR_OK) return e;
    m->packs[m->pack_count++] = *p;
    return ERR_OK;
}

enum err manifest_add_pack(struct manifest *m, const struct manifest_pack *p)
{
    must(manifest_find_pack(m, p->number) == NULL);
    return add_pack(m, p);
}

struct manifest_pack *manifest_find_pack(const struct manifest *m, uint32_t number)
{
    for (uint32_t i = 0; i < m->pack_count; i++)
        if (m->packs[i].number == number) return &m->packs[i];
    return NULL;
}

void manifest_replace_packs(struct manifest *m, uint32_t first_number, uint32_t count,
                            const struct manifest_pack *to)
{
    struct manifest_pack *p = manifest_find_pack(m, first_number);
    must(p != NULL && count > 0 && count <= (size_t)(m->packs + m->pack_count - p));
    uint32_t gone = to == NULL ? count : count - 1;
    struct manifest_pack *rest = p + count;
    size_t left = (size_t)(m->packs + m->pack_count - rest);
    if (to != NULL) *p = *to;
    memmove(rest - gone, rest, left * sizeof *p);
    m->pack_count -= gone;
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
    /* Group numbers have no gaps, so the reader knows what it must find first; unless nothing ever
     * landed in this one, and nobody knew. */
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

void manifest_scrub(struct manifest *m, uint64_t place)
{
    m->has_scrubs = true;
    if (place_is_packed(place)) {
        struct manifest_pack *p = manifest_find_pack(m, place_segment(place));
        if (p != NULL) p->is_scrubbed = true;
        /* It came there from a segment whose file has another life now, not overwritten to its end.
         */
        for (uint32_t i = 0; i < m->count; i++)
            if (!m->segments[i].is_fresh) m->segments[i].is_scrubbed = true;
        return;
    }
    struct manifest_segment *s = manifest_find(m, place_segment(place));
    if (s != NULL) s->is_scrubbed = true;
}

bool manifest_is_scrubbed(const struct manifest *m)
{
    for (uint32_t i = 0; i < m->count; i++)
        if (m->segments[i].is_scrubbed) return true;
    for (uint32_t i = 0; i < m->pack_count; i++)
        if (m->packs[i].is_scrubbed) return true;
    return false;
}

enum err manifest_copy(struct manifest *to, const struct manifest *from, struct mem *mem)
{
    *to = *from;
    to->mem = mem;
    to->segments = NULL;
    to->packs = NULL;
    to->count = to->capacity = to->pack_count = to->pack_capacity = 0;
    enum err e = manifest_reserve(to, from->count);
    if (e == ERR_OK) e = manifest_reserve_packs(to, from->pack_count);
    if (e != ERR_OK) {
        manifest_deinit(to);
        return e;
    }
    if (from->count > 0) memcpy(to->segments, from->segments, from->count * sizeof *to->segments);
    if (from->pack_count > 0) memcpy(to->packs, from->packs, from->pack_count * sizeof *to->packs);
    to->count = from->count;
    to->pack_count = from->pack_count;
    return ERR_OK;
}

uint32_t manifest_bytes(const struct manifest *m)
{
    return (uint32_t)place_block_up(MANIFEST_HEAD_BYTES +
                                    ((uint64_t)m->count + m->pack_count) * MANIFEST_ENTRY_BYTES +
                                    CHECKSUM_BYTES);
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
    wire_put_u32(out + 48, (s->has_checkpoints ? SEGMENT_HAS_CHECKPOINTS : 0u) |
                               (s->is_scrubbed ? SEGMENT_SCRUBBED : 0u));
}

static void encode_pack(const struct manifest_pack *p, char *out)
{
    wire_put_u32(out, KIND_PACK);
    wire_put_u32(out + 4, p->number);
    wire_put_u32(out + 8, p->incarnation);
    wire_put_u32(out + 12, STATE_CLOSED);
    wire_put_u64(out + 16, p->size);
    wire_put_u64(out + 24, p->message_count);
    wire_put_u64(out + 32, p->record_bytes);
    wire_put_u32(out + 40, p->is_scrubbed ? PACK_SCRUBBED : 0);
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
    wire_put_u32(out + 64, m->pack_count + m->count);
    wire_put_u32(out + 68, m->next_segment);
    wire_put_u32(out + 72, (m->is_clean ? FLAG_CLEAN : 0u) | (m->has_scrubs ? FLAG_SCRUBS : 0u));
    wire_put_u32(out + 76, m->replay_segment);
    wire_put_u64(out + 80, m->stream_max);
    char *entry = out + MANIFEST_HEAD_BYTES;
    for (uint32_t i = 0; i < m->pack_count; i++, entry += MANIFEST_ENTRY_BYTES)
        encode_pack(&m->packs[i], entry);
    for (uint32_t i = 0; i < m->count; i++, entry += MANIFEST_ENTRY_BYTES)
        encode_segment(&m->segments[i], entry);
    char *end = out + bytes - CHECKSUM_BYTES;
    wire_put_u64(end, XXH3_64bits_withSeed(out, bytes - CHECKSUM_BYTES, SEED ^ m->log));
}

static enum err decode_segment(const char *data, const struct manifest *m, uint32_t pack_max,
                               struct manifest_segment *out)
{
    uint32_t state = wire_u32(data + 12);
    if (state != STATE_OPEN && state != STATE_CLOSED) return ERR_UNSUPPORTED;
    *out = (struct manifest_segment){.number = wire_u32(data + 4),
                                     .incarnation = wire_u32(data + 8),
                                     .is_closed = state == STATE_CLOSED,
                                     .size = wire_u64(data + 16),
                                     .end = wire_u64(data + 24),
                                     .last_group = wire_u64(data + 32),
                                     .first_group = wire_u64(data + 40),
                                     .has_checkpoints =
                                         (wire_u32(data + 48) & SEGMENT_HAS_CHECKPOINTS) != 0,
                                     .is_scrubbed = (wire_u32(data + 48) & SEGMENT_SCRUBBED) != 0};
    if (out->number == 0 || out->number >= m->next_segment) return ERR_CORRUPT;
    /* Its own pack will have that number. */
    if (out->number <= pack_max && manifest_find_pack(m, out->number) != NULL) return ERR_CORRUPT;
    if (m->count > 0 && out->number <= m->segments[m->count - 1].number) return ERR_CORRUPT;
    if (out->size % PLACE_BLOCK_BYTES != 0 || out->size > PLACE_SEGMENT_BYTES_MAX)
        return ERR_CORRUPT;
    if (out->end % PLACE_BLOCK_BYTES != 0 || out->end > out->size) return ERR_CORRUPT;
    if (out->first_group > GROUP_NUMBER_MAX || out->last_group > GROUP_NUMBER_MAX)
        return ERR_CORRUPT;
    return ERR_OK;
}

/* *number_max: the highest number of any so far. */
static enum err decode_pack(const char *data, const struct manifest *m, uint32_t *number_max,
                            struct manifest_pack *out)
{
    *out = (struct manifest_pack){.number = wire_u32(data + 4),
                                  .incarnation = wire_u32(data + 8),
                                  .size = wire_u64(data + 16),
                                  .message_count = wire_u64(data + 24),
                                  .record_bytes = wire_u64(data + 32),
                                  .is_scrubbed = (wire_u32(data + 40) & PACK_SCRUBBED) != 0};
    if (out->number == 0 || out->number >= m->next_segment || m->count > 0) return ERR_CORRUPT;
    if (m->pack_count > 0 && out->incarnation < m->packs[m->pack_count - 1].incarnation)
        return ERR_CORRUPT;
    /* As a rule they ascend, so nothing has to be searched. */
    if (out->number <= *number_max && manifest_find_pack(m, out->number) != NULL)
        return ERR_CORRUPT;
    if (out->number > *number_max) *number_max = out->number;
    return out->size % PLACE_BLOCK_BYTES == 0 ? ERR_OK : ERR_CORRUPT;
}

static enum err decode_entry(const char *data, struct manifest *m, uint32_t *pack_max)
{
    struct manifest_segment s;
    struct manifest_pack p;
    enum err e;
    switch (wire_u32(data)) {
    case KIND_SEGMENT:
        e = decode_segment(data, m, *pack_max, &s);
        return e == ERR_OK ? manifest_add(m, &s) : e;
    case KIND_PACK:
        e = decode_pack(data, m, pack_max, &p);
        return e == ERR_OK ? add_pack(m, &p) : e;
    default: return ERR_UNSUPPORTED;
    }
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
    if (wire_u32(data + 12) != log || count > 2 * MANIFEST_SEGMENTS_MAX) return ERR_CORRUPT;
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
    m.has_scrubs = (wire_u32(data + 72) & FLAG_SCRUBS) != 0;
    m.replay_segment = wire_u32(data + 76);
    m.stream_max = wire_u64(data + 80);
    if (m.next_segment == 0 || m.next_segment == UINT32_MAX || m.next_group == 0 ||
        m.next_group > GROUP_NUMBER_MAX || m.durable_group > GROUP_NUMBER_MAX)
        return ERR_CORRUPT;
    uint32_t pack_max = 0;
    for (uint32_t i = 0; i < count; i++) {
        enum err e = decode_entry(data + MANIFEST_HEAD_BYTES + (size_t)i * MANIFEST_ENTRY_BYTES, &m,
                                  &pack_max);
        if (e != ERR_OK) {
            manifest_deinit(&m);
            return e;
        }
    }
    *out = m;
    return ERR_OK;
}
