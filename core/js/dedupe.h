/* The message ids of a stream's duplicate window: id -> sequence, for as long as the window.
 *
 * An id is held as 128 bits of XXH3 under a secret seed. A wrong "duplicate" would lose a message:
 * two of n ids in a window meet with probability n^2 / 2^129, for a billion ids 1.5 * 10^-21, and
 * who does not know the seed cannot make them meet. So the bytes of the id are not kept.
 *
 * Entries lie in a ring in the order of their sequences, which is the order of their times; an
 * extendible hash table of pages holds ring positions and 16 bits of the hash. A page that is full
 * is split alone: no look-up or insert ever pays for the whole table. Memory follows the largest
 * number of ids in a window and goes back when the window runs empty.
 *
 * Exact after replay: whether an id is a duplicate depends on the record's time and the time of
 * the request only (an entry counts while now - time < window), never on when dedupe_expire ran.
 * The seed belongs to the store: a checkpoint of (hash, sequence, time) is void under another.
 *
 * Bounded: entries_max ids (44 bytes each); beyond, dedupe_add answers ERR_FULL and the publish is
 * refused (10023), since forgetting an id early would store a duplicate silently.
 * Ids in flight are here as well; dedupe_drop_from takes those out whose record failed. */
#ifndef CORE_JS_DEDUPE_H
#define CORE_JS_DEDUPE_H
#include "core/base/bytes.h"
#include "core/base/mem.h"
#include "core/base/table.h"

enum { DEDUPE_ENTRIES_MAX = 64 * 1024 * 1024 }; /* 2.8 GiB: 500,000 ids a second for two minutes */

struct dedupe_entry {
    struct hash128 hash;
    uint64_t seq;
    int64_t time_ns; /* of the record, wall clock */
};

struct dedupe_page;
struct dedupe {
    struct mem *mem;
    uint64_t seed;
    int64_t window_ns;
    int64_t forgotten_ns;       /* what is older stays forgotten, however long the window is now */
    struct dedupe_entry **runs; /* the ring: run_count of run_room from run_first on */
    uint32_t run_first, run_count, run_room;
    uint32_t run_entries; /* of each run; a first run that is alone grows up to full size */
    uint32_t front;       /* entries of the first run that have gone */
    uint32_t head;        /* position of the oldest entry, counts up and wraps at 2^31 */
    uint32_t count;
    uint32_t entries_max;
    struct dedupe_page **pages; /* 2^page_bits, several may be one; NULL while empty */
    uint32_t page_bits;
    size_t bytes_taken;
};

/* Empty, no memory yet. window_ns 0: nothing is a duplicate and dedupe_add keeps nothing.
 * entries_max from 1 to DEDUPE_ENTRIES_MAX. */
void dedupe_init(struct dedupe *d, struct mem *mem, uint64_t seed, int64_t window_ns,
                 uint32_t entries_max);
/* Gives all memory back; empty and usable afterwards. */
void dedupe_clear(struct dedupe *d);
/* A changed configuration. What is outside the window that was is not brought back. */
void dedupe_set_window(struct dedupe *d, int64_t window_ns, int64_t now_ns);

struct hash128 dedupe_hash(const struct dedupe *d, struct bytes id);
/* The sequence that has this id inside the window at now_ns; 0: none. */
uint64_t dedupe_find(const struct dedupe *d, struct hash128 hash, int64_t now_ns);
/* Keeps an id that dedupe_find did not find. seq is above all others here; a time below the newest
 * counts as the newest. ERR_FULL (entries_max), ERR_MEMORY: nothing changed. */
NODISCARD enum err dedupe_add(struct dedupe *d, struct hash128 hash, uint64_t seq, int64_t time_ns);
/* Forgets what is outside the window at now_ns, at most batch_max entries. True: there is more. */
bool dedupe_expire(struct dedupe *d, int64_t now_ns, uint32_t batch_max);
/* When the newest entry leaves the window and nothing is needed any more; INT64_MAX when empty. */
int64_t dedupe_end_ns(const struct dedupe *d);
/* Forgets entries with sequence >= seq: their records did not become durable. */
void dedupe_drop_from(struct dedupe *d, uint64_t seq);
/* Entry number index (below count) from the oldest, for a checkpoint, which leaves out those that
 * are older than forgotten_ns. */
const struct dedupe_entry *dedupe_at(const struct dedupe *d, uint32_t index);

#endif
