/* The parts of a pack file as bytes (docs/FORMAT.md, "Pack"): pieces, the table of blocks, the
 * directory of indexes, the feet. What the indexes hold is persist/pack_index. */
#ifndef PERSIST_PACK_H
#define PERSIST_PACK_H
#include "core/base/mem.h"
#include "core/base/record.h"
#include "persist/place.h"

enum {
    PACK_VERSION = 1,
    PACK_PIECE_BYTES = 32,         /* header of a piece */
    PACK_BLOCK_BYTES = 128 * 1024, /* of records in a block, unless one is larger */
    PACK_TABLE_BYTES = 24,         /* an entry */
    PACK_DIRECTORY_BYTES = 64,     /* an entry */
    PACK_FOOT_BYTES = 4096,
    PACK_FEET = 2,
    PACK_RECORDS_BYTES_MAX = PLACE_SEGMENT_BYTES_MAX,
};

enum pack_kind {
    PACK_BLOCK = 0x314B4C42,
    PACK_INDEX = 0x31584449,
    PACK_TABLE = 0x314C4254,
    PACK_DIRECTORY = 0x31524944,
};

struct pack_piece {
    enum pack_kind kind;
    uint32_t held_bytes; /* in the file, behind the header */
    uint32_t raw_bytes;
    bool is_compressed;
    uint32_t at; /* of the first record among all, in units of 8 */
    uint32_t count;
};

struct pack_table_entry {
    uint64_t offset;      /* of the piece in the file */
    uint64_t at;          /* of its first record among all records */
    uint32_t raw_bytes;   /* unpacked */
    uint32_t piece_bytes; /* header and what is held */
};

struct pack_directory_entry {
    uint64_t stream, seq_first, seq_last;
    int64_t time_first, time_last;
    uint64_t offset;
    uint32_t piece_bytes, raw_bytes, count;
    uint64_t at;
};

struct pack_foot {
    uint32_t block_count, index_count;
    uint64_t table_offset, directory_offset;
    uint64_t message_count, record_bytes, file_bytes;
};

/* Memory of a compressor or decompressor. */
struct pack_zstd {
    struct mem *mem;
    void *memory;
    size_t bytes;
    void *context; /* of the library, inside memory */
};
/* ERR_MEMORY: nothing is held. */
NODISCARD enum err pack_zstd_init(struct pack_zstd *z, struct mem *mem, bool is_compressor);
void pack_zstd_deinit(struct pack_zstd *z);

/* Bytes that pack_encode_piece may write at most. */
size_t pack_piece_room(size_t raw_bytes);
/* Writes header and bytes (raw[p->raw_bytes], compressed if that is worth it) to out, as they are
 * to lie at offset; fills in held_bytes and is_compressed. z NULL: never compressed. */
void pack_encode_piece(struct pack_piece *p, const struct place_key *k, uint64_t offset,
                       const char *raw, struct pack_zstd *z, char *out);
/* data: len bytes that lie at offset. ERR_CORRUPT: no valid piece of this kind begins there. */
NODISCARD enum err pack_decode_piece(const char *data, size_t len, const struct place_key *k,
                                     uint64_t offset, enum pack_kind kind, struct pack_piece *out);
/* data: as above, checked; raw[p->raw_bytes] is filled. ERR_CORRUPT: it does not unpack. */
NODISCARD enum err pack_unpack(const struct pack_piece *p, const char *data, struct pack_zstd *z,
                               char *raw);

void pack_encode_table_entry(const struct pack_table_entry *e, char *out);
void pack_decode_table_entry(const char *data, struct pack_table_entry *out);
void pack_encode_directory_entry(const struct pack_directory_entry *e, char *out);
void pack_decode_directory_entry(const char *data, struct pack_directory_entry *out);

/* out: PACK_FOOT_BYTES that are to lie at offset. */
void pack_encode_foot(const struct pack_foot *f, const struct place_key *k, uint64_t offset,
                      char *out);
/* ERR_CORRUPT: no valid foot. ERR_UNSUPPORTED: valid, of a newer format. */
NODISCARD enum err pack_decode_foot(const char *data, const struct place_key *k, uint64_t offset,
                                    struct pack_foot *out);

/* Records as they lie in a block: without a checksum of their own. */
uint32_t pack_record_bytes(const struct record *r);
void pack_encode_record(const struct record *r, char *out);
/* ERR_CORRUPT: no record, or longer than len. Its slices point into data. */
NODISCARD enum err pack_decode_record(const char *data, size_t len, struct record *out,
                                      uint32_t *bytes);

#endif
