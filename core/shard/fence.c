/* Rule R2b: a PONG leaves only when every shard has consumed what this connection mailed before
 * the PING, so that a client's flush means delivered and counted. Replies that follow (+OK, -ERR,
 * further PONGs) wait behind it, in order; messages do not wait.
 *
 * A held reply remembers the lane positions of the connection's last mail at the PING. */
#include "core/base/must.h"
#include "core/shard/internal.h"

enum {
    HELD_PINGS_MAX = 16,       /* then the connection parks */
    HELD_TEXT_MAX = 64 * 1024, /* replies behind one PONG; a client that asks for more is cut off */
};

struct held_reply {
    struct held_reply *next;
    char *text; /* replies after this PONG */
    uint32_t text_len, text_capacity;
    uint64_t until[]; /* [shard_count] */
};

static size_t held_bytes(const struct shard *s)
{
    return sizeof(struct held_reply) + s->shard_count * sizeof(uint64_t);
}

static bool is_passed(struct shard *s, const uint64_t *until)
{
    for (uint32_t t = 0; t < s->shard_count; t++)
        if (t != s->index && until[t] > 0 && !relay_is_reached(s, t, until[t])) return false;
    return true;
}

static struct held_reply *take_first(struct client *c)
{
    struct held_reply *h = c->held_first;
    c->held_first = h->next;
    if (h->next == NULL) c->held_last = NULL;
    c->held_count--;
    return h;
}

static void free_held(struct shard *s, struct held_reply *h)
{
    mem_free(s->mem, MEM_CONNECTION, h->text, h->text_capacity);
    mem_free(s->mem, MEM_CONNECTION, h, held_bytes(s));
}

/* Out of the list first: without memory for output the write closes the connection, which drops
 * what is held. */
static void release_first(struct shard *s, struct client *c)
{
    struct held_reply *h = take_first(c);
    verbs_pong(s, c);
    if (h->text_len > 0) session_write(s, c, bytes_of(h->text, h->text_len));
    free_held(s, h);
}

void fence_ping(struct shard *s, struct client *c)
{
#ifndef MILLRACE_BREAK_PONG_EARLY
    bool must_wait =
        c->held_last != NULL || (c->mail_until != NULL && !is_passed(s, c->mail_until));
#else
    bool must_wait = false;
#endif
    if (!must_wait) {
        verbs_pong(s, c);
        return;
    }
    struct held_reply *h = mem_alloc_zero(s->mem, MEM_CONNECTION, held_bytes(s));
    if (h == NULL) {
        session_close(s, c, CLOSED_SLOW_PENDING, false);
        return;
    }
    if (c->mail_until != NULL) memcpy(h->until, c->mail_until, s->shard_count * sizeof(uint64_t));
    if (c->held_last == NULL)
        c->held_first = h;
    else
        c->held_last->next = h;
    c->held_last = h;
    s->rare.fences_held++;
    if (c->held_count++ == 0) list_push(&s->fenced, &c->fenced);
}

bool fence_is_full(const struct client *c)
{
    return c->held_count >= HELD_PINGS_MAX;
}

void fence_hold(struct shard *s, struct client *c, struct bytes line)
{
    struct held_reply *h = c->held_last;
    uint32_t need = h->text_len + (uint32_t)line.len;
    if (need > h->text_capacity) {
        uint32_t capacity = h->text_capacity == 0 ? 256 : h->text_capacity * 2;
        while (capacity < need) capacity *= 2;
        char *grown = need > HELD_TEXT_MAX
                          ? NULL
                          : mem_resize(s->mem, MEM_CONNECTION, h->text, h->text_capacity, capacity);
        if (grown == NULL) {
            session_close(s, c, CLOSED_SLOW_PENDING, false);
            return;
        }
        h->text = grown;
        h->text_capacity = capacity;
    }
    memcpy(h->text + h->text_len, line.data, line.len);
    h->text_len = need;
}

void fence_step(struct shard *s)
{
    struct list *link = s->fenced.next;
    while (link != &s->fenced && session_has_room(s)) {
        struct client *c = LIST_OWNER(link, struct client, fenced);
        link = link->next;
        while (c->held_first != NULL && is_passed(s, c->held_first->until)) {
            release_first(s, c);
            if (c->state == CLIENT_CLOSING) break;
        }
        if (c->held_first == NULL) list_remove(&c->fenced);
        if (c->held_first == NULL && client_has(c, CLIENT_SAID_ALL))
            session_close(s, c, CLOSED_CLIENT, true);
        if (c->park == PARK_PINGS + 1 && !fence_is_full(c)) session_resume(s, c);
    }
}

/* Before a close that still flushes: what was answered must be seen in its order. */
void fence_release_all(struct shard *s, struct client *c)
{
    while (c->held_first != NULL) release_first(s, c);
    list_remove(&c->fenced);
}

void fence_drop(struct shard *s, struct client *c)
{
    while (c->held_first != NULL) free_held(s, take_first(c));
    list_remove(&c->fenced);
}

/* The position in the lane towards target that held replies wait for; 0 none (M4). */
uint64_t fence_awaits(const struct shard *s, uint32_t target)
{
    uint64_t first = 0;
    for (const struct list *link = s->fenced.next; link != &s->fenced; link = link->next) {
        const struct client *c = LIST_OWNER(link, struct client, fenced);
        if (c->held_first == NULL) continue;
        uint64_t until = c->held_first->until[target];
        if (until > s->outbox->lanes[target]->head && (first == 0 || until < first)) first = until;
    }
    return first;
}
