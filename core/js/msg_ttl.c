#include "core/js/msg_ttl.h"
#include "core/base/must.h"

enum {
    ROOM_MIN = 8,
    ROOM_MAX = 1 << 27, /* 2 GiB */
    CHILDREN = 4,       /* half the levels of a binary heap, and the children share a cache line */
};

void msg_ttl_init(struct msg_ttl *t, struct mem *mem)
{
    *t = (struct msg_ttl){.mem = mem};
}

void msg_ttl_clear(struct msg_ttl *t)
{
    mem_free(t->mem, MEM_JETSTREAM, t->entries, t->room * sizeof *t->entries);
    msg_ttl_init(t, t->mem);
}

static bool is_before(struct msg_ttl_entry a, struct msg_ttl_entry b)
{
    return a.deadline_ns != b.deadline_ns ? a.deadline_ns < b.deadline_ns : a.seq < b.seq;
}

/* Puts e at the hole or below it. */
static void sift_down(struct msg_ttl *t, uint32_t hole, struct msg_ttl_entry e)
{
    for (;;) {
        uint32_t first = hole * CHILDREN + 1, least = first;
        if (first >= t->count) break;
        for (uint32_t i = first + 1; i < first + CHILDREN && i < t->count; i++)
            if (is_before(t->entries[i], t->entries[least])) least = i;
        if (!is_before(t->entries[least], e)) break;
        t->entries[hole] = t->entries[least];
        hole = least;
    }
    t->entries[hole] = e;
}

/* Entries whose message has gone leave. */
static void sweep(struct msg_ttl *t, const struct msgs *msgs)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < t->count; i++)
        if (msgs_has(msgs, t->entries[i].seq)) t->entries[kept++] = t->entries[i];
    t->count = kept;
    for (uint32_t i = kept / CHILDREN + 1; i-- > 0;)
        if (i < kept) sift_down(t, i, t->entries[i]);
}

enum err msg_ttl_reserve(struct msg_ttl *t, const struct msgs *msgs, uint32_t count)
{
    if (count <= t->room - t->count) return ERR_OK;
    sweep(t, msgs);
    /* A quarter stays free behind a sweep, so that sweeps are paid by as many adds. */
    uint64_t wanted = (uint64_t)t->count + count, room = t->room < ROOM_MIN ? ROOM_MIN : t->room;
    while (wanted > room / 4 * 3) room *= 2;
    if (room == t->room) return ERR_OK;
    if (room > ROOM_MAX) return wanted <= t->room ? ERR_OK : ERR_FULL;
    struct msg_ttl_entry *entries = mem_resize(t->mem, MEM_JETSTREAM, t->entries,
                                               t->room * sizeof *entries, room * sizeof *entries);
    if (entries == NULL) return wanted <= t->room ? ERR_OK : ERR_MEMORY;
    t->entries = entries;
    t->room = (uint32_t)room;
    return ERR_OK;
}

enum err msg_ttl_add(struct msg_ttl *t, const struct msgs *msgs, uint64_t seq, int64_t deadline_ns)
{
    must(seq > 0);
    enum err e = msg_ttl_reserve(t, msgs, 1);
    if (e != ERR_OK) return e;
    struct msg_ttl_entry added = {.deadline_ns = deadline_ns, .seq = seq};
    uint32_t hole = t->count++;
    while (hole > 0) {
        uint32_t parent = (hole - 1) / CHILDREN;
        if (!is_before(added, t->entries[parent])) break;
        t->entries[hole] = t->entries[parent];
        hole = parent;
    }
    t->entries[hole] = added;
    return ERR_OK;
}

uint64_t msg_ttl_pop(struct msg_ttl *t, int64_t now_ns)
{
    if (t->count == 0 || t->entries[0].deadline_ns > now_ns) return 0;
    uint64_t seq = t->entries[0].seq;
    t->count--;
    if (t->count > 0)
        sift_down(t, 0, t->entries[t->count]);
    else if (t->room > ROOM_MIN)
        msg_ttl_clear(t);
    return seq;
}

int64_t msg_ttl_next_ns(const struct msg_ttl *t)
{
    return t->count == 0 ? INT64_MAX : t->entries[0].deadline_ns;
}

bool msg_ttl_is_due(const struct msg_ttl *t, int64_t now_ns, uint32_t count)
{
    uint32_t found[MSG_TTL_DUE_MAX], looked_at = 0, found_count = 0;
    must(count > 0 && count <= MSG_TTL_DUE_MAX);
    if (t->count < count || t->entries[0].deadline_ns > now_ns) return false;
    found[found_count++] = 0;
    /* What is due lies below nothing but what is due. */
    while (found_count < count && looked_at < found_count) {
        uint32_t first = found[looked_at++] * CHILDREN + 1;
        for (uint32_t i = first; i < first + CHILDREN && i < t->count && found_count < count; i++)
            if (t->entries[i].deadline_ns <= now_ns) found[found_count++] = i;
    }
    return found_count == count;
}
