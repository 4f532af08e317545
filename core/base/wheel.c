#include "core/base/wheel.h"
#include <stddef.h>
#include "core/base/must.h"

/* Level l slot s holds timers whose tick, shifted right by 6 l, ends in s. A timer goes to the
 * lowest level whose span reaches it; when a higher slot comes up, its timers cascade down. */

void wheel_init(struct wheel *w, uint64_t now_ns)
{
    for (int l = 0; l < WHEEL_LEVELS; l++) {
        w->occupied[l] = 0;
        for (int s = 0; s < WHEEL_SLOTS; s++) list_init(&w->slots[l][s]);
    }
    list_init(&w->expired);
    w->tick = now_ns >> WHEEL_TICK_SHIFT;
}

void wheel_timer_init(struct wheel_timer *t)
{
    list_init(&t->link);
    t->deadline_ns = 0;
}

bool wheel_is_armed(const struct wheel_timer *t)
{
    return !list_is_empty(&t->link);
}

/* Rounded up, so that a timer never fires before its deadline. */
static uint64_t tick_of(uint64_t deadline_ns)
{
    uint64_t tick = deadline_ns >> WHEEL_TICK_SHIFT;
    return (deadline_ns & ((1ull << WHEEL_TICK_SHIFT) - 1)) == 0 ? tick : tick + 1;
}

static void place(struct wheel *w, struct wheel_timer *t)
{
    uint64_t tick = tick_of(t->deadline_ns);
    if (tick <= w->tick) {
        list_push(&w->expired, &t->link);
        return;
    }
    uint64_t ahead = tick - w->tick;
    int level = 0;
    while (level < WHEEL_LEVELS - 1 && ahead >= 1ull << (6 * (level + 1))) level++;
    if (ahead >= 1ull << (6 * WHEEL_LEVELS)) tick = w->tick + (1ull << (6 * WHEEL_LEVELS)) - 1;
    unsigned slot = (unsigned)(tick >> (6 * level)) & (WHEEL_SLOTS - 1);
    list_push(&w->slots[level][slot], &t->link);
    w->occupied[level] |= 1ull << slot;
}

void wheel_arm(struct wheel *w, struct wheel_timer *t, uint64_t deadline_ns)
{
    list_remove(&t->link);
    t->deadline_ns = deadline_ns;
    place(w, t);
}

void wheel_cancel(struct wheel_timer *t)
{
    list_remove(&t->link);
}

static void cascade(struct wheel *w, int level, unsigned slot)
{
    struct list moved;
    list_init(&moved);
    struct list *from = &w->slots[level][slot];
    w->occupied[level] &= ~(1ull << slot);
    struct list *link;
    while ((link = list_pop(from)) != NULL) list_push(&moved, link);
    while ((link = list_pop(&moved)) != NULL) place(w, LIST_OWNER(link, struct wheel_timer, link));
}

/* Moves on to the tick of now, skipping empty stretches of the lowest level. */
static void advance(struct wheel *w, uint64_t now_ns)
{
    uint64_t now_tick = now_ns >> WHEEL_TICK_SHIFT;
    while (w->tick < now_tick) {
        bool is_empty = true;
        for (int l = 0; l < WHEEL_LEVELS; l++) is_empty = is_empty && w->occupied[l] == 0;
        if (is_empty) {
            w->tick = now_tick;
            return;
        }
        uint64_t next = w->tick + 1;
        if (w->occupied[0] == 0) {
            uint64_t boundary = (w->tick | (WHEEL_SLOTS - 1)) + 1;
            next = boundary < now_tick ? boundary : now_tick;
        }
        w->tick = next;
        for (int l = WHEEL_LEVELS - 1; l >= 0; l--)
            if (l == 0 || (next & ((1ull << (6 * l)) - 1)) == 0)
                cascade(w, l, (unsigned)(next >> (6 * l)) & (WHEEL_SLOTS - 1));
    }
}

struct wheel_timer *wheel_pop(struct wheel *w, uint64_t now_ns)
{
    if (list_is_empty(&w->expired)) advance(w, now_ns);
    struct list *link = list_pop(&w->expired);
    return link == NULL ? NULL : LIST_OWNER(link, struct wheel_timer, link);
}

uint64_t wheel_next_ns(const struct wheel *w)
{
    if (!list_is_empty(&w->expired)) return 0;
    uint64_t best = UINT64_MAX;
    for (int l = 0; l < WHEEL_LEVELS; l++) {
        if (w->occupied[l] == 0) continue;
        uint64_t base = w->tick >> (6 * l);
        for (unsigned i = 1; i <= WHEEL_SLOTS; i++) {
            unsigned slot = (unsigned)(base + i) & (WHEEL_SLOTS - 1);
            if ((w->occupied[l] & (1ull << slot)) == 0) continue;
            uint64_t tick = (base + i) << (6 * l);
            if (tick << WHEEL_TICK_SHIFT < best) best = tick << WHEEL_TICK_SHIFT;
            break;
        }
    }
    return best;
}
