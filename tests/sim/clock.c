#include "tests/sim/clock.h"
#include <stdlib.h>
#include "core/base/must.h"

enum { CLOCK_START_NS = 1000000000, ALARMS_FIRST = 256 };

void clock_init(struct clock *c)
{
    *c = (struct clock){.now_ns = CLOCK_START_NS};
}

void clock_deinit(struct clock *c)
{
    free(c->heap);
    c->heap = NULL;
}

static bool is_before(const struct clock_alarm *a, const struct clock_alarm *b)
{
    return a->at_ns != b->at_ns ? a->at_ns < b->at_ns : a->order < b->order;
}

static void swap(struct clock_alarm *a, struct clock_alarm *b)
{
    struct clock_alarm t = *a;
    *a = *b;
    *b = t;
}

void clock_set(struct clock *c, uint64_t after_ns, void (*ring)(void *context, uint64_t detail),
               void *context, uint64_t detail)
{
    if (c->count == c->capacity) {
        c->capacity = c->capacity == 0 ? ALARMS_FIRST : c->capacity * 2;
        c->heap = realloc(c->heap, c->capacity * sizeof *c->heap);
        must(c->heap != NULL);
    }
    uint32_t i = c->count++;
    c->heap[i] = (struct clock_alarm){c->now_ns + after_ns, c->next_order++, ring, context, detail};
    for (; i > 0 && is_before(&c->heap[i], &c->heap[(i - 1) / 2]); i = (i - 1) / 2)
        swap(&c->heap[i], &c->heap[(i - 1) / 2]);
}

uint64_t clock_next_ns(const struct clock *c)
{
    return c->count == 0 ? UINT64_MAX : c->heap[0].at_ns;
}

static struct clock_alarm take_first(struct clock *c)
{
    struct clock_alarm first = c->heap[0];
    c->heap[0] = c->heap[--c->count];
    uint32_t i = 0;
    for (;;) {
        uint32_t least = i, left = 2 * i + 1, right = 2 * i + 2;
        if (left < c->count && is_before(&c->heap[left], &c->heap[least])) least = left;
        if (right < c->count && is_before(&c->heap[right], &c->heap[least])) least = right;
        if (least == i) return first;
        swap(&c->heap[i], &c->heap[least]);
        i = least;
    }
}

void clock_advance(struct clock *c, uint64_t at_ns)
{
    must(at_ns >= c->now_ns);
    while (clock_next_ns(c) <= at_ns) {
        struct clock_alarm a = take_first(c);
        if (a.at_ns > c->now_ns) c->now_ns = a.at_ns;
        a.ring(a.context, a.detail);
    }
    c->now_ns = at_ns;
}
