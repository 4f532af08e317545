/* Records of one pack, by their offsets among all of them, with headers and body, by blocking
 * calls: for rewriting it. Keeps its newest block unpacked. */
#ifndef PERSIST_PACK_SOURCE_H
#define PERSIST_PACK_SOURCE_H
#include "core/base/record.h"
#include "persist/blocking.h"
#include "persist/manifest.h"
#include "persist/pack_table.h"

struct pack_source {
    const struct blocking *files;
    struct mem *mem;
    struct place_key key;
    uint64_t size;
    struct vfs_file file;
    bool is_open;
    struct pack_table table;
    const struct pack_table_entry *held; /* whose records raw holds; NULL: none */
    char *piece, *raw;
    size_t piece_room, raw_room;
};

/* ERR_CORRUPT: neither table is whole. ERR_IO, ERR_MEMORY, ERR_CLOSED, ERR_UNKNOWN: no such file.
 * To be closed in any case. */
NODISCARD enum err pack_source_open(struct pack_source *s, const struct blocking *files,
                                    struct mem *mem, uint32_t log, uint64_t secret,
                                    const struct manifest_pack *p);
void pack_source_close(struct pack_source *s);
/* The record at this offset; its slices are valid until the next call. z: a decompressor.
 * ERR_CORRUPT: its block is damaged, or none begins there. */
NODISCARD enum err pack_source_record(struct pack_source *s, struct pack_zstd *z, uint64_t at,
                                      struct record *out);

#endif
