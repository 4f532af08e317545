/* The job behind freeing a segment: reads what it holds, later writes what of it is still needed
 * into a pack. Runs in steps of blocking calls, on the shard's thread in tests and on a helper
 * thread in the server; between the steps the shard may crash it.
 *
 *   IDLE -- packer_begin --> READING -- the whole segment was read --> LISTED
 *   LISTED -- the shard has marked what is live; packer_end --> IDLE
 *   any error --> FAILED -- packer_end --> IDLE
 *
 * While READING the job belongs to whoever runs packer_step; else to the shard. It touches nothing
 * of the shard but what stands here. */
#ifndef PERSIST_PACKER_H
#define PERSIST_PACKER_H
#include "core/base/mem.h"
#include "core/base/table.h"
#include "persist/blocking.h"
#include "persist/manifest.h"

enum packer_state { PACKER_IDLE, PACKER_READING, PACKER_LISTED, PACKER_FAILED };

struct packer_message {
    uint64_t seq;
    uint32_t stream; /* index in streams */
    uint32_t at;     /* offset in the segment, in units of 8 */
    uint32_t bytes;  /* in the segment */
    bool is_live;    /* the shard's word */
};

struct packer_stream {
    uint64_t id;
    uint32_t live_count;
};

struct packer {
    const struct blocking *files;
    struct mem *mem; /* of the thread that runs the steps; the shard only frees */
    bool is_direct;
    enum packer_state state;
    enum err result; /* FAILED: why */
    uint64_t secret;
    uint32_t log;
    struct manifest_segment segment;
    struct packer_message *messages; /* in the order of the log */
    uint32_t message_count, message_room;
    struct packer_stream *streams; /* every stream with any record in the segment */
    uint32_t stream_count, stream_room;
    struct table stream_index; /* of streams, by id; the value is the index plus one */
    uint32_t stream_last;      /* of the newest record */
    bool is_damaged;           /* parts of the segment do not validate */
};

void packer_init(struct packer *p, const struct blocking *files, struct mem *mem, bool is_direct);
/* IDLE only; the segment is closed. */
void packer_begin(struct packer *p, const struct manifest *m, const struct manifest_segment *s);
/* Goes on. False: the job is not READING any more. */
bool packer_step(struct packer *p);
/* Gives back what it holds; in any state, with nobody inside packer_step. */
void packer_end(struct packer *p);

#endif
