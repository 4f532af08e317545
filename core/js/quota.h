/* What an account, or the whole server, holds in JetStream, and how much it may hold. Kept up to
 * date as it changes, so that no publish and no request counts streams. Owned by the shard. */
#ifndef CORE_JS_QUOTA_H
#define CORE_JS_QUOTA_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/base/must.h"

struct quota_bytes {
    uint64_t used;     /* by messages, as streams count them */
    uint64_t others;   /* the same in all other logs, as far as it was told */
    uint64_t reserved; /* sum of max_bytes */
    uint64_t changes;  /* of used, so far: two may leave a sum of several as it was */
    int64_t max;       /* below 0: no limit */
};

struct quota {
    uint32_t account; /* of the server's own: not used */
    uint64_t streams, consumers;
    uint64_t api_total, api_errors;
    struct quota_bytes memory, storage;
};

/* Sums of another log. */
static inline void quota_add(struct quota *to, const struct quota *q)
{
    to->streams += q->streams;
    to->consumers += q->consumers;
    to->api_total += q->api_total;
    to->api_errors += q->api_errors;
    to->memory.used += q->memory.used;
    to->memory.reserved += q->memory.reserved;
    to->storage.used += q->storage.used;
    to->storage.reserved += q->storage.reserved;
}

/* NULL: nobody counts. */
static inline void quota_bytes_use(struct quota_bytes *q, uint64_t bytes)
{
    if (q == NULL) return;
    q->used += bytes;
    q->changes++;
}

static inline void quota_bytes_give_back(struct quota_bytes *q, uint64_t bytes)
{
    if (q == NULL) return;
    must(q->used >= bytes);
    q->used -= bytes;
    q->changes++;
}

/* So many bytes more, which may be in flight, are within the limit. */
static inline bool quota_bytes_may_use(const struct quota_bytes *q, uint64_t more)
{
    return q == NULL || q->max < 0 || q->used + q->others + more <= (uint64_t)q->max;
}

/* So much more max_bytes may be promised. */
static inline bool quota_bytes_may_reserve(const struct quota_bytes *q, uint64_t more)
{
    return q->max < 0 ||
           (q->reserved <= (uint64_t)q->max && more <= (uint64_t)q->max - q->reserved);
}

#endif
