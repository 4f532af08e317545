/* A record as bytes (docs/FORMAT.md, "Record"): what encode writes, decode accepts, and nothing
 * else but bytes that this store wrote at this very place. */
#ifndef PERSIST_RECORD_H
#define PERSIST_RECORD_H
#include "core/base/record.h"
#include "persist/place.h"

enum {
    RECORD_HEAD_BYTES = 48,
    RECORD_CHECKSUM_BYTES = 8,
    RECORD_BYTES_MIN = RECORD_HEAD_BYTES + RECORD_CHECKSUM_BYTES,
};

/* Bytes of the record on disk; 0: it is larger than a record may be. */
uint32_t record_bytes(const struct record *r);
/* Writes record_bytes(r) bytes to out, for offset in the segment of k. */
void record_encode(const struct record *r, const struct place_key *k, uint64_t offset, char *out);
/* The record at data, of which len bytes can be seen. Its slices point into data.
 * ERR_INCOMPLETE: it may be one, but more than len bytes are needed: *bytes says how many.
 * ERR_CORRUPT: it is none, *bytes is not written. Never reads beyond len. */
NODISCARD enum err record_decode(const char *data, size_t len, const struct place_key *k,
                                 uint64_t offset, struct record *out, uint32_t *bytes);
/* The head and the parts alone, as packs hold them too; bytes goes into the head. What lies behind
 * the parts is not touched. */
void record_encode_parts(const struct record *r, uint32_t bytes, char *out);
/* The same back, for bytes that were checked. */
void record_decode_parts(const char *data, struct record *out);
/* As record_decode, for bytes whose checksum was looked at before; nothing but a must can fail. */
void record_decode_checked(const char *data, struct record *out, uint32_t *bytes);

#endif
