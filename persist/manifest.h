/* What belongs to one log, in memory and as bytes (docs/FORMAT.md, "Manifest"). Where the two
 * copies lie and how they are written is persist/pair. */
#ifndef PERSIST_MANIFEST_H
#define PERSIST_MANIFEST_H
#include <stdbool.h>
#include <stdint.h>
#include "core/base/mem.h"

enum {
    MANIFEST_VERSION = 1,
    MANIFEST_HEAD_BYTES = 128,
    MANIFEST_ENTRY_BYTES = 64,
    MANIFEST_SEGMENTS_MAX = 65536, /* 4 TiB in one log */
    MANIFEST_BYTES_MAX =
        MANIFEST_HEAD_BYTES + 2 * MANIFEST_SEGMENTS_MAX * MANIFEST_ENTRY_BYTES + 4096,
};

struct manifest_segment {
    uint32_t number, incarnation;
    bool is_closed;       /* nothing is written to it any more; end and last_group count */
    bool has_checkpoints; /* closed: some of its records are CHECKPOINT or STREAM_GONE */
    bool is_scrubbed;    /* what is dead in it is to be overwritten before the file is used again */
    bool is_cut;         /* in memory only: the file may be longer than its size */
    bool is_fresh;       /* in memory only: the file had no life before this one */
    uint64_t size;       /* of the file */
    uint64_t end;        /* of what counts */
    uint64_t last_group; /* that counts; 0: none */
    uint64_t first_group; /* 0: not known (yet) */
};

/* Messages of segments that are gone. Written when one was freed it has the number of that; written
 * out of earlier packs it has a number of its own, and the incarnation and the place of the first
 * of these. */
struct manifest_pack {
    uint32_t number, incarnation;
    bool is_left;           /* in memory only: it cannot be rewritten in this run */
    bool is_scrubbed;       /* what is dead in it is to be overwritten before the file goes */
    uint64_t size;          /* of the file */
    uint64_t message_count; /* when it was written */
    uint64_t record_bytes;  /* unpacked */
};

struct manifest {
    struct mem *mem;
    uint32_t log;
    uint64_t store, secret;
    uint64_t generation;
    uint64_t durable_group; /* W */
    uint64_t next_group;
    uint32_t incarnation, next_segment;
    uint32_t replay_segment; /* a replay starts with it; 0: with the first */
    uint64_t stream_max;     /* the highest stream id of any record so far: none is given again */
    bool is_clean;
    bool has_scrubs; /* a file that no entry names is to be overwritten before it goes */
    struct manifest_segment *segments; /* in the order of the log */
    uint32_t count, capacity;
    struct manifest_pack *packs; /* as what they hold stood in the log: not by number */
    uint32_t pack_count, pack_capacity;
};

/* What lies at this place is to be gone soon, from earlier lives of segments too. */
void manifest_scrub(struct manifest *m, uint64_t place);
/* Some entry is to be scrubbed. */
bool manifest_is_scrubbed(const struct manifest *m);
/* An empty log. Allocates nothing yet. */
void manifest_init(struct manifest *m, struct mem *mem, uint32_t log, uint64_t store,
                   uint64_t secret);
void manifest_deinit(struct manifest *m);
/* Room for so many segments: up to there manifest_add cannot fail. Errors as below. */
NODISCARD enum err manifest_reserve(struct manifest *m, uint32_t count);
/* ERR_MEMORY, ERR_FULL: nothing changed. */
NODISCARD enum err manifest_add(struct manifest *m, const struct manifest_segment *s);
void manifest_remove(struct manifest *m, uint32_t number);
/* Takes the first segment out, which has a successor; a replay starts there from now on. */
void manifest_remove_first(struct manifest *m);
/* Room for so many packs. */
NODISCARD enum err manifest_reserve_packs(struct manifest *m, uint32_t count);
/* Behind those that are there; no other has its number. */
NODISCARD enum err manifest_add_pack(struct manifest *m, const struct manifest_pack *p);
/* In place of these, which stand side by side: *to, or nothing (NULL). */
void manifest_replace_packs(struct manifest *m, uint32_t first_number, uint32_t count,
                            const struct manifest_pack *to);
/* NULL: no such pack. Valid until the next change of them. */
struct manifest_pack *manifest_find_pack(const struct manifest *m, uint32_t number);
/* NULL: no such segment. Valid until the next add or remove. */
struct manifest_segment *manifest_find(const struct manifest *m, uint32_t number);
/* *to is not initialised. ERR_MEMORY: it is not to be used. */
NODISCARD enum err manifest_copy(struct manifest *to, const struct manifest *from, struct mem *mem);

/* Of the encoded form; a multiple of 4096. */
uint32_t manifest_bytes(const struct manifest *m);
/* Writes manifest_bytes(m) bytes. */
void manifest_encode(const struct manifest *m, char *out);
/* ERR_CORRUPT: no valid manifest of this log. ERR_UNSUPPORTED: valid, of a newer format.
 * ERR_MEMORY. On ERR_OK *out is initialised, to be ended with manifest_deinit. */
NODISCARD enum err manifest_decode(const char *data, size_t bytes, uint32_t log, struct mem *mem,
                                   struct manifest *out);

#endif
