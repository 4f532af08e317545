/* The newest checkpoint of every stream, collected while a store is opened: parts come in the order
 * of the log, a set without a gap and with an end is whole (docs/FORMAT.md, "Checkpoint").
 *
 *   none -- part 0 --> collecting -- part n + 1 --> collecting -- RECORD_LAST --> whole, kept
 *                          \-- part 0 again: begins anew; any other part: dropped
 *
 * A whole one stays until a newer one is whole. */
#ifndef PERSIST_CHECKPOINTS_H
#define PERSIST_CHECKPOINTS_H
#include "core/base/record.h"
#include "core/base/table.h"
#include "core/base/text.h"

struct checkpoints_entry {
    uint64_t stream;
    struct checkpoints_entry *next;
    bool is_whole;
    uint32_t incarnation, log; /* of the whole one */
    uint64_t group;            /* it stands for every record up to this group of that log */
    struct text body;
    bool is_collecting;
    uint64_t part_next, part_group;
    struct text parts;
};

struct checkpoints {
    struct mem *mem;
    struct table entries; /* by stream */
    struct checkpoints_entry *first, *last;
    struct table gone; /* streams whose end was seen: nothing of them counts; values mean nothing */
};

void checkpoints_init(struct checkpoints *c, struct mem *mem);
void checkpoints_deinit(struct checkpoints *c);
/* r: a CHECKPOINT record of this log and incarnation. ERR_MEMORY. */
NODISCARD enum err checkpoints_take(struct checkpoints *c, const struct record *r,
                                    uint32_t incarnation, uint32_t log);
/* The stream's end was seen, behind all of its records. ERR_MEMORY. */
NODISCARD enum err checkpoints_end(struct checkpoints *c, uint64_t stream);
bool checkpoints_is_gone(const struct checkpoints *c, uint64_t stream);
/* True if a checkpoint stands for the stream's records in this group. */
bool checkpoints_contain(const struct checkpoints *c, uint64_t stream, uint32_t incarnation,
                         uint32_t log, uint64_t group);
/* The whole one behind e, the first one if e is NULL, in the order in which streams were seen: that
 * of their memory, here and in what is made of them. NULL at the end. */
struct checkpoints_entry *checkpoints_next(const struct checkpoints *c,
                                           const struct checkpoints_entry *e);

#endif
