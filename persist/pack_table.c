#include "persist/pack_table.h"

enum err pack_table_locate(const char *data, const struct place_key *k, uint64_t file_bytes,
                           uint32_t copy, uint64_t *offset, uint32_t *bytes)
{
    must(copy < PACK_FEET && file_bytes >= (uint64_t)PACK_FEET * PACK_FOOT_BYTES);
    struct pack_foot foot;
    uint64_t at = file_bytes - (uint64_t)(PACK_FEET - copy) * PACK_FOOT_BYTES;
    enum err e = pack_decode_foot(data + (size_t)copy * PACK_FOOT_BYTES, k, at, &foot);
    if (e != ERR_OK) return e;
    uint64_t length = PACK_PIECE_BYTES + (uint64_t)foot.block_count * PACK_TABLE_BYTES;
    if (foot.block_count == 0 || foot.table_offset + length > at) return ERR_CORRUPT;
    *offset = foot.table_offset;
    *bytes = (uint32_t)length;
    return ERR_OK;
}

enum err pack_table_take(struct pack_table *t, struct mem *mem, const char *data, uint32_t bytes,
                         const struct place_key *k, uint64_t offset)
{
    struct pack_piece p;
    enum err e = pack_decode_piece(data, bytes, k, offset, PACK_TABLE, &p);
    if (e != ERR_OK) return e;
    if (p.is_compressed || p.count == 0 || p.raw_bytes != (uint64_t)p.count * PACK_TABLE_BYTES)
        return ERR_CORRUPT;
    must(t->count == 0);
    t->entries = mem_alloc(mem, MEM_STORE, p.count * sizeof *t->entries);
    if (t->entries == NULL) return ERR_MEMORY;
    t->count = p.count;
    for (uint32_t i = 0; i < p.count; i++)
        pack_decode_table_entry(data + PACK_PIECE_BYTES + (size_t)i * PACK_TABLE_BYTES,
                                &t->entries[i]);
    return ERR_OK;
}

void pack_table_free(struct pack_table *t, struct mem *mem)
{
    mem_free(mem, MEM_STORE, t->entries, t->count * sizeof *t->entries);
    *t = (struct pack_table){0};
}

const struct pack_table_entry *pack_table_find(const struct pack_table *t, uint64_t at)
{
    uint32_t low = 0, high = t->count;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (t->entries[middle].at > at)
            high = middle;
        else
            low = middle;
    }
    if (t->count == 0) return NULL;
    const struct pack_table_entry *e = &t->entries[low];
    return at >= e->at && at - e->at < e->raw_bytes ? e : NULL;
}
