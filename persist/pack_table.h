/* The table of a pack's blocks in memory: which block holds a record, and where that block lies.
 * Read in two steps, the feet and then the table itself, by whoever has the file. */
#ifndef PERSIST_PACK_TABLE_H
#define PERSIST_PACK_TABLE_H
#include "core/base/mem.h"
#include "persist/pack.h"

struct pack_table {
    struct pack_table_entry *entries; /* by their first record */
    uint32_t count;                   /* 0: not read yet */
};

/* data: the feet, as they lie at the end of a file of file_bytes; copy: whose table is wanted.
 * Gives where its piece lies. ERR_CORRUPT: that foot is damaged. ERR_UNSUPPORTED. */
NODISCARD enum err pack_table_locate(const char *data, const struct place_key *k,
                                     uint64_t file_bytes, uint32_t copy, uint64_t *offset,
                                     uint32_t *bytes);
/* data: that piece. ERR_CORRUPT: it is damaged. ERR_MEMORY. */
NODISCARD enum err pack_table_take(struct pack_table *t, struct mem *mem, const char *data,
                                   uint32_t bytes, const struct place_key *k, uint64_t offset);
void pack_table_free(struct pack_table *t, struct mem *mem);
/* The block that holds the record at this offset among all; NULL: none. */
const struct pack_table_entry *pack_table_find(const struct pack_table *t, uint64_t at);

#endif
