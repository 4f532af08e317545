/* Which consumers of a stream wait for a message like this one: filters to members. A new message
 * costs a look at its subject when somebody waits, nothing when nobody does; members that do not
 * wait cost memory only.
 *
 * Members with one filter share a leaf. A leaf is found by the literal tokens before its first
 * wildcard: a subject is looked up once for each count of tokens that some leaf has. So many
 * consumers with a literal token of their own each (a key, a user) stay apart; filters that begin
 * with a wildcard are gone through one by one.
 *
 *   wake_join --> idle --wake_wait--> waiting --wake_stored, wake_stop--> idle --> wake_leave
 *
 * Owned by the stream's shard; pure. */
#ifndef CORE_JS_WAKE_H
#define CORE_JS_WAKE_H
#include "core/base/bytes.h"
#include "core/base/list.h"
#include "core/base/table.h"

enum { WAKE_PREFIX_TOKENS_MAX = 31 };

struct wake_leaf {
    struct list waiting; /* struct wake_entry */
    uint32_t member_count;
    uint32_t prefix_bytes, prefix_tokens;
    uint32_t filter_bytes;
    char filter[];
};

/* One filter of a member; the member embeds it. */
struct wake_entry {
    struct list link; /* in waiting of the leaf, in the list of wake_stored, or alone */
    struct wake_leaf *leaf;
    void *owner;
    bool is_waiting;
};

struct wake {
    struct table leaves;    /* by their prefix */
    uint32_t waiting_count; /* entries */
    uint32_t *leaf_counts; /* [WAKE_PREFIX_TOKENS_MAX + 1] by tokens; NULL while there is no leaf */
};

void wake_init(struct wake *w, struct mem *mem);
/* Nobody is a member any more. */
void wake_deinit(struct wake *w);
/* An empty filter stands for everything. ERR_MEMORY, ERR_FULL. */
NODISCARD enum err wake_join(struct wake *w, struct bytes filter, struct wake_entry *e,
                             void *owner);
void wake_leave(struct wake *w, struct wake_entry *e);
/* Harmless when it waits already, or does not wait. */
void wake_wait(struct wake *w, struct wake_entry *e);
void wake_stop(struct wake *w, struct wake_entry *e);
/* Those that wait for this subject wait no longer: they are appended to out, by their link. */
void wake_stored(struct wake *w, struct bytes subject, struct list *out);

#endif
