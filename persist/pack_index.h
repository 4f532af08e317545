/* An index of a pack: up to PACK_INDEX_MESSAGES_MAX messages of one stream, where they lie and what
 * they are, in columns (docs/FORMAT.md, "Pack"). Built message by message; read back likewise.
 *
 *   pack_index_reset -> pack_index_add ... until it gives ERR_FULL, or the stream ends
 *     -> pack_index_encode
 *   pack_index_open -> pack_index_next ... until it gives false */
#ifndef PERSIST_PACK_INDEX_H
#define PERSIST_PACK_INDEX_H
#include "core/base/mem.h"
#include "core/base/record.h"
#include "core/base/text.h"
#include "persist/pack.h"

enum {
    PACK_INDEX_MESSAGES_MAX = 4096,
    PACK_INDEX_HEAD_BYTES = 32,
    PACK_INDEX_MESSAGE_BYTES = 28,         /* in all columns */
    PACK_INDEX_SUBJECTS_BYTES = 64 * 1024, /* an index with more is closed */
    PACK_INDEX_HASH_SLOTS = 2 * PACK_INDEX_MESSAGES_MAX,
};

/* A message as an index knows it. */
struct pack_index_message {
    uint64_t stream, seq;
    int64_t time_ns;
    uint64_t at; /* among all records of the pack */
    uint32_t headers_bytes, body_bytes;
    struct bytes subject;
};

struct pack_index_subject {
    uint32_t text_at, count;
    uint16_t bytes;
};

struct pack_index {
    struct mem *mem;
    uint64_t stream, seq_before, seq_first, seq_last, at_first, at_last;
    int64_t time_before, time_first, time_last;
    uint32_t count, subject_count, subject_last;
    uint32_t seqs[PACK_INDEX_MESSAGES_MAX], ats[PACK_INDEX_MESSAGES_MAX];
    uint32_t headers[PACK_INDEX_MESSAGES_MAX], bodies[PACK_INDEX_MESSAGES_MAX];
    uint32_t subjects[PACK_INDEX_MESSAGES_MAX];
    uint64_t times[PACK_INDEX_MESSAGES_MAX];
    struct pack_index_subject table[PACK_INDEX_MESSAGES_MAX];
    uint16_t hash[PACK_INDEX_HASH_SLOTS]; /* number of the subject plus one */
    struct text text;                     /* of all subjects */
};

void pack_index_init(struct pack_index *x, struct mem *mem);
void pack_index_deinit(struct pack_index *x);
/* Begins the index of this stream's next messages. */
void pack_index_reset(struct pack_index *x, uint64_t stream);
/* ERR_FULL: it belongs into the next one. ERR_MEMORY. */
NODISCARD enum err pack_index_add(struct pack_index *x, const struct pack_index_message *m);
/* The unpacked form goes behind what out holds. */
void pack_index_encode(const struct pack_index *x, struct text *out);

struct pack_index_reader {
    const char *data;
    size_t len;
    uint32_t count, at, subject_count, subject;
    uint64_t stream, seq;
    uint32_t units; /* offset of the newest message, in units of 8 */
    int64_t time_ns;
    uint32_t *subject_at; /* where each subject's text begins; of the caller */
};
/* raw: an index as it was encoded; subject_at[PACK_INDEX_MESSAGES_MAX] is filled. ERR_CORRUPT: it
 * does not add up. */
NODISCARD enum err pack_index_open(struct pack_index_reader *r, const char *raw, size_t len,
                                   uint32_t *subject_at);
/* False: there is no further message. */
bool pack_index_next(struct pack_index_reader *r, struct pack_index_message *out);

#endif
