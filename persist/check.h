/* Looks through a whole store without changing it: both copies of root and manifests, every segment
 * and pack. Gives the records, and tells each damaged range with what is known to have been in it.
 *
 *   check_run -> ERR_OK: ranges, gaps and counts are filled -> check_close
 *
 * What a damaged range held is worked out from what lies around it: messages of a stream have
 * sequences without gaps in the log, and so have a consumer's records and the parts of a
 * checkpoint, so what is missing between two of them lay in the ranges in between. Of packs the
 * indexes say it. Behind the last record of a stream nothing is known.
 *
 * Nothing is created, written or removed; the caller sees to it that no server uses the store. */
#ifndef PERSIST_CHECK_H
#define PERSIST_CHECK_H
#include "core/base/store.h"
#include "core/base/table.h"
#include "persist/names.h"
#include "persist/place.h"
#include "persist/recovery.h"

enum {
    CHECK_RANGES_MAX = 4096, /* of each kind of finding; beyond that they are only counted */
};

enum check_kind {
    CHECK_LOST, /* what was in it is gone */
    CHECK_COPY, /* damaged; another copy says the same */
    CHECK_CUT,  /* what was in flight when the server ended; no damage */
};

struct check_range {
    enum check_kind kind;
    struct names_text file;
    uint64_t place;   /* of its first byte, if it is one of a segment; else 0 */
    const char *what; /* it was */
    uint64_t offset, bytes;
    uint64_t group; /* 0: not known */
    uint32_t record_count;
    bool has_count;
};

enum check_gap_kind { CHECK_MESSAGES, CHECK_PROGRESS, CHECK_PARTS };

/* Numbers [first, last] are missing, and lay in the ranges [range_first, range_end). */
struct check_gap {
    enum check_gap_kind kind;
    uint64_t stream, consumer;
    uint64_t first, last;
    uint32_t range_first, range_end;
    uint64_t place_before, place_after; /* of the records around it; 0: of a pack */
};

/* Where a record lies. */
struct check_place {
    struct names_text file;
    uint64_t offset; /* in the file; of a packed one: among all records of the pack */
    bool is_packed;
};

struct check_options {
    const struct blocking *blocking;
    struct mem *mem;
    bool is_direct;
    void *context;
    /* Every record that is valid, in the order of a replay; may be NULL. */
    enum err (*record)(void *context, const struct record *r, const struct check_place *place);
    void (*progress)(void *context, uint64_t bytes_done, uint64_t bytes_total); /* may be NULL */
    /* "account name" out of the first part of a CHECKPOINT; may be NULL. */
    enum err (*name)(struct bytes body, struct bytes *account_and_name);
};

struct check_counts {
    struct recovery_counts read;
    uint64_t segments, packs, packed_messages, checkpoints;
    uint64_t kinds[RECORD_KIND_COUNT];
    uint64_t lost_ranges, lost_bytes, copy_ranges, cut_ranges;
    uint64_t ranges_left_out; /* beyond CHECK_RANGES_MAX */
    uint64_t orphans;         /* files that no manifest names: see persist/orphans.h */
    uint64_t kept;            /* files that a start kept so: FILE.kept */
};

struct check {
    struct check_options options;
    struct recovery_options recovery;
    struct root root;
    bool has_root;
    struct manifest logs[PLACE_LOGS_MAX];
    bool has_log[PLACE_LOGS_MAX];
    uint32_t log_count;
    struct check_counts counts;
    struct text ranges, gaps; /* of struct check_range and check_gap */
    struct table streams;
    struct names_text newer;           /* with ERR_UNSUPPORTED: the file */
    uint32_t newer_version;            /* its version; 0: a part of it is unknown */
    uint64_t bytes_before, file_bytes; /* files that were read; the one that is being read */
};

/* ERR_OK: all that can be read was read; damage is no error. ERR_UNKNOWN: there is no store.
 * ERR_UNSUPPORTED: newer says what. ERR_CORRUPT: neither root nor any manifest is valid.
 * ERR_IO, ERR_DENIED, ERR_FULL, ERR_MEMORY; or what the record callback returned.
 * In each case end it with check_close. */
NODISCARD enum err check_run(struct check *c, const struct check_options *o);
void check_close(struct check *c);

uint32_t check_range_count(const struct check *c);
struct check_range check_range_at(const struct check *c, uint32_t index);
uint32_t check_gap_count(const struct check *c);
struct check_gap check_gap_at(const struct check *c, uint32_t index);
/* "account name"; empty: no record says it. Valid until check_close. */
struct bytes check_stream_name(const struct check *c, uint64_t stream);

#endif
