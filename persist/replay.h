/* One log, read from front to back: what is valid, what is rot, where the cut lies (P4). Reads
 * only; the outcome goes into the manifest in memory, which recovery then writes.
 *
 * expected is the number of the next group. At each position of a segment:
 *   header valid, number expected, records valid   replayed
 *   the same but a record is invalid               up to W: salvaged; above: cut
 *   else, and the log goes on in the next segment with the number expected: this one ended here
 *   else, expected up to W                         rot: salvaged up to the next valid header
 *   else                                           cut (or simply the end, when nothing follows) */
#ifndef PERSIST_REPLAY_H
#define PERSIST_REPLAY_H
#include "core/base/store.h"
#include "persist/manifest.h"
#include "persist/recovery.h"
#include "persist/scan.h"

struct replay_log {
    const struct recovery_options *options;
    struct recovery_counts *counts;
    struct manifest *manifest;
    uint64_t expected; /* 0: not known yet */
    uint64_t durable;  /* W as far as it is known */
    bool is_cut;       /* nothing behind it counts */
    uint64_t place_before;
    /* What a survey of the rest of the log found; of the segment surveyed_segment. */
    uint32_t surveyed_segment;
    uint64_t next_number; /* first valid header in the segments after it; 0: none */
    uint64_t next_offset;
    uint32_t next_segment;
};

void replay_init(struct replay_log *l, const struct recovery_options *o, struct recovery_counts *c,
                 struct manifest *m);
/* Reads the segment at index of the manifest, the next in order, and closes it there if it holds
 * anything. A segment that stays open holds nothing.
 * ERR_IO: bytes that decide about the cut cannot be read. ERR_MEMORY, ERR_CLOSED, or what a
 * callback returned. */
NODISCARD enum err replay_segment(struct replay_log *l, uint32_t index);

#endif
