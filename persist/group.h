/* A commit group as bytes (docs/FORMAT.md, "Group"): its header and the rule of
 * validity. */
#ifndef PERSIST_GROUP_H
#define PERSIST_GROUP_H
#include "core/base/record.h"
#include "persist/place.h"

enum { GROUP_HEAD_BYTES = 64, GROUP_INCARNATION_AT = 12 };
#define GROUP_NUMBER_MAX (UINT64_C(1) << 62) /* nobody counts so far */

struct group_head {
    uint64_t number;  /* from 1, through all segments of the log */
    uint64_t durable; /* every group up to it was durable when this one was closed */
    uint32_t bytes;   /* a multiple of PLACE_BLOCK_BYTES */
    uint32_t record_bytes, record_count;
};

void group_encode_head(const struct group_head *h, const struct place_key *k, uint64_t offset,
                       char *out);
/* data: GROUP_HEAD_BYTES that lie at offset of a segment of segment_bytes. ERR_CORRUPT: none. */
NODISCARD enum err group_decode_head(const char *data, const struct place_key *k, uint64_t offset,
                                     uint64_t segment_bytes, struct group_head *out);

/* True if all records of the group at data are valid and as many as its header says. */
bool group_is_whole(const struct group_head *h, const char *data, const struct place_key *k,
                    uint64_t offset);

#endif
