/* One log, read from front to back: what is valid, what is rot, where the cut lies (P4). Reads
 * only; the outcome goes into the manifest in memory, which recovery then writes.
 *
 * In two passes. The first reads what is not closed, and what may hold checkpoints: it decides
 * about the cut, tells it, closes the segments and collects the checkpoints. The second reads the
 * closed ones, tells what is damaged, and gives the records that no checkpoint stands for.
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
#include "persist/checkpoints.h"
#include "persist/manifest.h"
#include "persist/recovery.h"
#include "persist/scan.h"

enum replay_pass { REPLAY_CHECKPOINTS, REPLAY_RECORDS };

struct replay_log {
    enum replay_pass pass;
    struct checkpoints *checkpoints; /* filled by the first pass; NULL: every record is given */
    const struct recovery_options *options;
    struct recovery_counts *counts;
    struct manifest *manifest;
    uint64_t expected; /* 0: not known yet */
    uint64_t durable;  /* W as far as it is known */
    bool is_cut;       /* nothing behind it counts */
    bool has_damage;   /* something was told as damaged */
    uint64_t place_before;
    /* What a survey of the rest of the log found; of the segment surveyed_segment. */
    uint32_t surveyed_segment;
    uint64_t empty_from;  /* no header in that segment is valid from here on */
    uint64_t next_number; /* first valid header in the segments after it; 0: none */
    uint64_t next_offset;
    uint32_t next_segment;
};

void replay_init(struct replay_log *l, const struct recovery_options *o, struct recovery_counts *c,
                 struct manifest *m, struct checkpoints *checkpoints);
/* The second pass begins. */
void replay_again(struct replay_log *l);
/* Reads the segment at index of the manifest, the next in order, and closes it there if it holds
 * anything. A segment that stays open after the first pass holds nothing.
 * ERR_IO: bytes that decide about the cut cannot be read. ERR_MEMORY, ERR_CLOSED, or what a
 * callback returned. */
NODISCARD enum err replay_segment(struct replay_log *l, uint32_t index);

#endif
