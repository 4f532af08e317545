/* A whole pack file, read by blocking calls: its messages from the indexes at a start, every byte
 * of it for a check of the store. What an index cannot say any more the blocks say themselves. */
#ifndef PERSIST_PACK_FILE_H
#define PERSIST_PACK_FILE_H
#include "core/base/store.h"
#include "persist/manifest.h"
#include "persist/pack_index.h"
#include "persist/recovery.h"

/* Gives every message of the pack, head only, by stream and in a stream by sequence; what is
 * damaged is told as lost, as far as it costs messages. check: blocks are read and verified too.
 * ERR_MEMORY, ERR_CLOSED, ERR_FULL, ERR_DENIED, or what the callback returned. */
NODISCARD enum err pack_file_read(const struct recovery_options *o, const struct manifest *m,
                                  const struct manifest_pack *p, bool check,
                                  struct recovery_counts *counts);

/* The end of a pack, where its indexes are, on its way into the page cache beside other work. */
struct pack_warm {
    struct vfs_op op;
    struct mem *mem;
    char *memory; /* for bytes that nobody looks at; NULL: nothing is on its way */
    bool is_done;
};

/* Nothing depends on what comes of it. *w may not move until pack_file_warm_end. */
void pack_file_warm_begin(struct pack_warm *w, const struct recovery_options *o,
                          const struct manifest *m, const struct manifest_pack *p);
/* ERR_CLOSED. */
NODISCARD enum err pack_file_warm_end(struct pack_warm *w, const struct blocking *b);

/* The directory of the pack behind what out holds, entry by entry, as it is encoded.
 * ERR_CORRUPT: neither copy is whole. ERR_UNKNOWN: no such file. Else as above. */
NODISCARD enum err pack_file_directory(const struct recovery_options *o, const struct manifest *m,
                                       const struct manifest_pack *p, struct text *out);

#endif
