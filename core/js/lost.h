/* Which messages a stream lost to damage of the store, as far as it is known: for those who ask.
 * Best effort: without memory, or beyond LOST_RANGES_MAX, a range is left out. */
#ifndef CORE_JS_LOST_H
#define CORE_JS_LOST_H
#include "core/base/json_write.h"
#include "core/base/mem.h"

enum {
    LOST_RANGES_MAX = 1024,
    LOST_SHOWN_MAX = 10000, /* sequences in an answer, which would have no end after the loss of
                               a whole segment */
};

struct lost_range {
    uint64_t first, last;
};

struct lost {
    struct mem *mem;
    uint64_t bytes; /* of the store, that were damaged there */
    uint32_t count, capacity;
    struct lost_range ranges[]; /* ascending, apart from each other */
};

/* *l: NULL at first. first <= last; what is known already is not added again, nor its bytes. */
void lost_add(struct lost **l, struct mem *mem, uint64_t first, uint64_t last, uint64_t bytes);
/* l: may be NULL. */
void lost_free(struct lost *l);
/* What lies below the sequence `from` may have gone without damage. l: may be NULL. */
void lost_forget(struct lost *l, uint64_t from);
/* The member "lost", if something is: however far the stream has gone since. l: may be NULL. */
void lost_write(const struct lost *l, struct json_write *w);

#endif
