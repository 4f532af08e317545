/* What spans the streams of all shards: their names, which log each lives in, their subjects, and
 * how many of them and how many promised bytes accounts and the server have. One per server, of
 * shard 0; rebuilt at each start from the streams that the logs hold. Pure.
 *
 * Who creates or changes a stream claims first and settles then; between the two the claim stands
 * against everybody else's, and nothing else of the stream is claimed:
 *
 *   directory_claim --granted--> the record is appended ... durable ──> directory_settle(done)
 *                                                       \── failed ───> directory_settle(undone)
 *   the stream's end is durable ──> directory_drop
 *
 * What a stream is its own log decides. An entry only says what that log said last, and where it
 * says otherwise, it is the entry that is wrong. */
#ifndef CORE_JS_DIRECTORY_H
#define CORE_JS_DIRECTORY_H
#include "core/base/list.h"
#include "core/js/overlap.h"
#include "core/js/quota.h"
#include "core/js/request.h"

struct directory_subjects {
    struct overlap_claim **claims; /* [count] */
    uint32_t count;
};

struct directory_entry {
    uint64_t stream; /* its id */
    uint32_t account, log;
    bool is_memory;               /* its messages are kept there */
    bool is_new;                  /* its record is not durable */
    bool is_claimed;              /* a claim is not settled */
    uint64_t bytes, bytes_wanted; /* of max_bytes: now, and what is claimed */
    uint64_t ending_until_ns;     /* its deletion is under way until then, if it has not failed;
                                     monotonic, 0: none was asked for */
    struct list ending;           /* in the directory's while that may be */
    struct directory_subjects subjects, wanted;
    uint32_t name_bytes;
    char name[];
};

struct directory {
    struct mem *mem;
    struct overlap overlap; /* the subjects of all streams */
    struct table names;     /* of struct directory_entry, by account and name */
    struct table ids;       /* the same by stream */
    struct table quotas;    /* struct quota, by account */
    struct quota total;
    /* What may be promised of them where the server has no limit: what the machine has; below 0:
     * nobody knows. */
    int64_t memory_machine, storage_machine;
    struct list ending; /* streams whose deletion is under way, in the order of its end */
    /* What may be listed, by account and name: order_count of order_room. NULL: nobody asked since
     * much changed. */
    const void **order;
    uint32_t order_count, order_room, order_changes;
    uint64_t seed;
};

enum directory_verdict {
    DIRECTORY_UNASKED,
    DIRECTORY_GRANTED,
    DIRECTORY_AGAIN,     /* another claim on it is not settled, or a stream is about to go that has
                            the subjects, the place or the bytes: ask again later */
    DIRECTORY_ELSEWHERE, /* it lives in another log */
    DIRECTORY_STREAMS,   /* refused: the account has as many as it may have */
    DIRECTORY_BYTES,     /* refused: no so much max_bytes is left to the account or the server */
    DIRECTORY_OVERLAP,   /* refused: another stream has some of the subjects */
    DIRECTORY_MEMORY,    /* refused: none is left here */
};

/* Below 0, and for streams 0 too: none. */
struct directory_limits {
    int64_t streams, memory, storage;
    int64_t server_memory, server_storage;
};

struct directory_ask {
    uint32_t account, log;
    uint64_t stream;
    struct bytes name;
    bool is_new, is_memory;
    int64_t max_bytes;
    struct request_texts subjects;
    uint64_t now_ns; /* monotonic */
};

/* Empty, no memory yet. seed: of the store, so that nobody can make names meet. */
void directory_init(struct directory *d, struct mem *mem, uint64_t seed);
/* Frees all entries, claimed ones too. */
void directory_deinit(struct directory *d);

/* GRANTED: entry, subjects and bytes are taken until directory_settle; of a stream that changes the
 * old ones too. Each other verdict leaves everything as it was. Copies what it keeps of a. An entry
 * of that name and log under which a new stream is claimed is out of date, and goes. */
enum directory_verdict directory_claim(struct directory *d, const struct directory_ask *a,
                                       const struct directory_limits *l);
/* is_done: what was claimed is so now; else what was before stands, and a new stream's entry goes.
 * Nothing, when the entry has gone or nothing of it is claimed. */
void directory_settle(struct directory *d, uint64_t stream, bool is_done);
/* The stream is going to be deleted, if nothing is wrong: who wants its subjects, its place or its
 * bytes waits for that until then (monotonic; never earlier than in the call before). Nothing, when
 * there is none. */
void directory_end_soon(struct directory *d, uint32_t account, struct bytes name,
                        uint64_t until_ns);
/* The stream has gone, with its name, subjects and bytes. Nothing, when the entry has. */
void directory_drop(struct directory *d, uint64_t stream);
/* A stream that is there, at a start. ERR_EXISTS: the name is taken. ERR_MEMORY, ERR_FULL: nothing
 * changed. */
NODISCARD enum err directory_enter(struct directory *d, const struct directory_ask *a);

/* Also new ones. NULL: none. */
const struct directory_entry *directory_find(const struct directory *d, uint32_t account,
                                             struct bytes name);
const struct directory_entry *directory_find_id(const struct directory *d, uint64_t stream);
/* Every entry, in no order: *at starts at 0. NULL at the end. */
const struct directory_entry *directory_each(const struct directory *d, uint32_t *at);
/* Durable, of the account, and with a subject that collides with the filter, which may be empty. */
bool directory_is_listed(const struct directory_entry *e, uint32_t account, struct bytes filter);
struct directory_list {
    const void *const *entries; /* in the arena or the directory: until that changes */
    uint32_t count;
};
/* All that are listed, in the order of their names. ERR_MEMORY. */
NODISCARD enum err directory_list(struct directory *d, struct arena *arena, uint32_t account,
                                  struct bytes filter, struct directory_list *out);
static inline struct bytes directory_name(const struct directory_entry *e)
{
    return bytes_of(e->name, e->name_bytes);
}

#endif
