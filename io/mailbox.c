#include "io/mailbox.h"
#include <stdatomic.h>
#include <string.h>
#include "core/base/must.h"

/* A line is two of 64 bytes: processors fetch them in adjacent pairs. */
enum {
    MAILBOX_LINE = 128,
    MAILBOX_SENDERS_MAX = 1024,
    MAILBOX_RING_BYTES_MIN = 1024,
    MAILBOX_STAMP_EACH = 4, /* publishes: the stamp's line goes to the other processor and back */
};

#define AWAITS_NOTHING UINT64_MAX

/* One ring. Each line is written by one side only, except that the receiver clears awaited and
 * stamp_ns. */
struct pair {
    _Alignas(MAILBOX_LINE) _Atomic uint64_t published; /* sender: end of what may be read */
    _Atomic uint64_t awaited;  /* sender waits until head reaches it; AWAITS_NOTHING */
    _Atomic uint64_t stamp_ns; /* when the mail that ends at stamp_at was published; 0 free */
    uint64_t stamp_at;         /* of who may write stamp_ns: the sender while it is 0 */
    _Alignas(MAILBOX_LINE) _Atomic uint64_t head; /* receiver: end of what was read */
    uint64_t seen;                                /* receiver: the last end that it was shown */
    _Alignas(MAILBOX_LINE) struct lane lane;      /* sender only, from here on */
    uint64_t published_copy;
    uint32_t publish_count; /* wraps */
};

struct receiver {
    _Alignas(MAILBOX_LINE) _Atomic uint64_t doorbell[MAILBOX_SENDERS_MAX / 64]; /* by sender */
    _Alignas(MAILBOX_LINE) _Atomic uint32_t is_sleeping;
    /* Receiver only: who rang, and was maybe not read to the end. */
    _Alignas(MAILBOX_LINE) uint64_t unread[MAILBOX_SENDERS_MAX / 64];
    uint32_t cursor; /* the sender to begin with */
};

struct mailbox_net {
    struct mem *mem;
    uint32_t shards, senders, ring_bytes;
    void (*wake)(void *context, uint32_t who);
    void *context;
    struct pair *pairs; /* [sender][receiver] */
    struct receiver *receivers;
    uint8_t *rings; /* in the order of pairs */
    void *block;    /* the memory of these three */
    size_t block_bytes;
};

static struct pair *pair_at(struct mailbox_net *n, uint32_t sender, uint32_t receiver)
{
    must(sender < n->senders);
    must(receiver < n->shards);
    return &n->pairs[(size_t)sender * n->shards + receiver];
}

static uint8_t *ring_at(struct mailbox_net *n, const struct pair *p)
{
    return n->rings + (size_t)(p - n->pairs) * n->ring_bytes;
}

/* Acquire: what the receiver read from the freed space happened before we overwrite it. */
static void lane_refresh(struct lane *l)
{
    struct pair *p = l->mailbox;
    l->head = atomic_load_explicit(&p->head, memory_order_acquire);
}

static void pair_init(struct mailbox_net *n, struct pair *p, uint32_t receiver)
{
    atomic_init(&p->published, 0);
    atomic_init(&p->awaited, AWAITS_NOTHING);
    atomic_init(&p->stamp_ns, 0);
    atomic_init(&p->head, 0);
    p->seen = 0;
    p->published_copy = 0;
    p->publish_count = 0;
    p->stamp_at = 0;
    p->lane = (struct lane){.ring = ring_at(n, p),
                            .ring_bytes = n->ring_bytes,
                            .refresh = lane_refresh,
                            .mailbox = p,
                            .target = receiver};
}

/* Rings are not touched here: a pair that never mails never costs a page. */
enum err mailbox_open(struct mem *mem, uint32_t shards, uint32_t senders, uint32_t ring_bytes,
                      void (*wake)(void *context, uint32_t who), void *context,
                      struct mailbox_net **out)
{
    must(shards >= 1);
    must(senders >= shards);
    must(senders <= MAILBOX_SENDERS_MAX);
    must(ring_bytes >= MAILBOX_RING_BYTES_MIN);
    must((ring_bytes & (ring_bytes - 1)) == 0);
    struct mailbox_net *n = mem_alloc_zero(mem, MEM_MAIL, sizeof *n);
    if (n == NULL) return ERR_MEMORY;
    size_t pair_count = (size_t)shards * senders;
    size_t pairs_bytes = pair_count * sizeof(struct pair);
    size_t receivers_bytes = shards * sizeof(struct receiver);
    n->block_bytes = pairs_bytes + receivers_bytes + pair_count * ring_bytes + MAILBOX_LINE;
    n->block = mem_alloc(mem, MEM_MAIL, n->block_bytes);
    if (n->block == NULL) {
        mem_free(mem, MEM_MAIL, n, sizeof *n);
        return ERR_MEMORY;
    }
    uintptr_t base = ((uintptr_t)n->block + MAILBOX_LINE - 1) & ~(uintptr_t)(MAILBOX_LINE - 1);
    n->mem = mem;
    n->shards = shards;
    n->senders = senders;
    n->ring_bytes = ring_bytes;
    n->wake = wake;
    n->context = context;
    n->pairs = (struct pair *)base;
    n->receivers = (struct receiver *)(base + pairs_bytes);
    n->rings = (uint8_t *)(base + pairs_bytes + receivers_bytes);
    memset(n->receivers, 0, receivers_bytes);
    for (size_t i = 0; i < pair_count; i++) pair_init(n, &n->pairs[i], (uint32_t)(i % shards));
    *out = n;
    return ERR_OK;
}

void mailbox_close(struct mailbox_net *n)
{
    struct mem *mem = n->mem;
    mem_free(mem, MEM_MAIL, n->block, n->block_bytes);
    mem_free(mem, MEM_MAIL, n, sizeof *n);
}

struct lane *mailbox_lane(struct mailbox_net *n, uint32_t sender, uint32_t receiver)
{
    return &pair_at(n, sender, receiver)->lane;
}

/* --- the sender's side ------------------------------------------------------------------------ */

static void stamp(struct pair *p, uint64_t now_ns)
{
    if (p->publish_count++ % MAILBOX_STAMP_EACH != 0) return;
    /* Acquire: pairs with the release in mailbox_stamped, which has read stamp_at. */
    if (atomic_load_explicit(&p->stamp_ns, memory_order_acquire) != 0) return;
    p->stamp_at = p->lane.tail;
    /* Release: who sees the time sees the position. */
    atomic_store_explicit(&p->stamp_ns, now_ns, memory_order_release);
}

/* now_ns 0: without a stamp. */
static void publish_one(struct mailbox_net *n, struct pair *p, uint32_t sender, uint32_t receiver,
                        uint64_t now_ns)
{
    struct receiver *r = &n->receivers[receiver];
    must(p->lane.tail > p->published_copy);
    if (now_ns > 0) stamp(p, now_ns);
    p->published_copy = p->lane.tail;
    /* Release: pairs with the acquire in mailbox_next, which makes the records readable. The bell
     * comes after it, so who sees the bit sees this position or a later one. */
    atomic_store_explicit(&p->published, p->published_copy, memory_order_release);
    atomic_fetch_or(&r->doorbell[sender / 64], UINT64_C(1) << (sender % 64));
    /* Both seq_cst: pairs with mailbox_may_sleep, which writes the flag and then reads the bell.
     * The exchange lets one of several senders ring. */
    if (atomic_load(&r->is_sleeping) != 0 && atomic_exchange(&r->is_sleeping, 0) != 0)
        n->wake(n->context, receiver);
}

void mailbox_publish(struct mailbox_net *n, uint32_t sender)
{
    mailbox_publish_at(n, sender, 0);
}

void mailbox_publish_at(struct mailbox_net *n, uint32_t sender, uint64_t now_ns)
{
    for (uint32_t receiver = 0; receiver < n->shards; receiver++) {
        struct pair *p = pair_at(n, sender, receiver);
        if (p->lane.tail != p->published_copy) publish_one(n, p, sender, receiver, now_ns);
    }
}

bool mailbox_await(struct mailbox_net *n, uint32_t sender, uint32_t receiver, uint64_t position)
{
    struct pair *p = pair_at(n, sender, receiver);
    must(position <= p->lane.tail);
    lane_refresh(&p->lane);
    if (p->lane.head >= position) return true;

    uint64_t before = atomic_load(&p->awaited);
    bool is_asked = false;
    while (position < before && !is_asked)
        is_asked = atomic_compare_exchange_strong(&p->awaited, &before, position);
    /* seq_cst after the write of awaited: pairs with mailbox_consumed, which writes head and then
     * reads awaited. One of the two sees the other. */
    p->lane.head = atomic_load(&p->head);
    if (p->lane.head < position) return false;
    /* Reached meanwhile. A larger position that was replaced is asked for anew by its owner when
     * the bell rings, so only a lone request is taken back. */
    if (is_asked && before == AWAITS_NOTHING)
        atomic_compare_exchange_strong(&p->awaited, &position, AWAITS_NOTHING);
    return true;
}

/* --- the receiver's side ---------------------------------------------------------------------- */

static void doorbell_collect(struct receiver *r, uint32_t word)
{
    if (atomic_load_explicit(&r->doorbell[word], memory_order_relaxed) == 0) return;
    r->unread[word] |= atomic_exchange(&r->doorbell[word], 0);
}

/* The first sender >= from that may have unread mail, or UINT32_MAX. */
static uint32_t unread_find(struct receiver *r, uint32_t from, uint32_t word_count)
{
    for (uint32_t word = from / 64; word < word_count; word++) {
        doorbell_collect(r, word);
        uint64_t bits = r->unread[word];
        if (word == from / 64) bits &= ~UINT64_C(0) << (from % 64);
        if (bits != 0) return word * 64 + (uint32_t)__builtin_ctzll(bits);
    }
    return UINT32_MAX;
}

bool mailbox_next(struct mailbox_net *n, uint32_t receiver, struct mailbox_batch *b)
{
    must(receiver < n->shards);
    struct receiver *r = &n->receivers[receiver];
    uint32_t word_count = (n->senders + 63) / 64;
    for (;;) {
        uint32_t sender = unread_find(r, r->cursor, word_count);
        if (sender == UINT32_MAX) sender = unread_find(r, 0, word_count);
        if (sender == UINT32_MAX) return false;
        struct pair *p = pair_at(n, sender, receiver);
        uint64_t at = atomic_load_explicit(&p->head, memory_order_relaxed);
        /* After its bit was taken: what is published later sets the bit again. */
        p->seen = atomic_load_explicit(&p->published, memory_order_acquire);
        r->cursor = sender + 1 == n->senders ? 0 : sender + 1;
        if (at == p->seen) {
            r->unread[sender / 64] &= ~(UINT64_C(1) << (sender % 64));
            continue;
        }
        *b = (struct mailbox_batch){.sender = sender,
                                    .ring = ring_at(n, p), /* not through the sender's line */
                                    .ring_bytes = n->ring_bytes,
                                    .at = at,
                                    .end = p->seen};
        return true;
    }
}

void mailbox_consumed(struct mailbox_net *n, uint32_t receiver, uint32_t sender, uint64_t at)
{
    struct pair *p = pair_at(n, sender, receiver);
    must(at <= p->seen);
    must(at >= atomic_load_explicit(&p->head, memory_order_relaxed));
    /* seq_cst, then awaited: see mailbox_await. It is a release for the freed space as well. */
    atomic_store(&p->head, at);
    uint64_t awaited = atomic_load(&p->awaited);
    while (awaited <= at) {
        if (!atomic_compare_exchange_strong(&p->awaited, &awaited, AWAITS_NOTHING)) continue;
        n->wake(n->context, sender);
        return;
    }
}

uint64_t mailbox_stamped(struct mailbox_net *n, uint32_t receiver, uint32_t sender, uint64_t at)
{
    struct pair *p = pair_at(n, sender, receiver);
    uint64_t stamp_ns = atomic_load_explicit(&p->stamp_ns, memory_order_acquire);
    if (stamp_ns == 0 || p->stamp_at > at) return 0;
    atomic_store_explicit(&p->stamp_ns, 0, memory_order_release);
    return stamp_ns;
}

bool mailbox_may_sleep(struct mailbox_net *n, uint32_t receiver)
{
    must(receiver < n->shards);
    struct receiver *r = &n->receivers[receiver];
    /* seq_cst, then the bell: see publish_one. */
    atomic_store(&r->is_sleeping, 1);
    uint32_t word_count = (n->senders + 63) / 64;
    for (uint32_t word = 0; word < word_count; word++)
        if (atomic_load(&r->doorbell[word]) != 0 || r->unread[word] != 0) return false;
    return true;
}

void mailbox_awake(struct mailbox_net *n, uint32_t receiver)
{
    must(receiver < n->shards);
    atomic_store_explicit(&n->receivers[receiver].is_sleeping, 0, memory_order_relaxed);
}
