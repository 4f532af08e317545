#include "io/spin.h"
#include "core/base/must.h"

/* One eighth of the way: five failures in a row end certainty. */
static uint32_t moved_towards(uint32_t value, uint32_t target)
{
    return value - value / 8 + target / 8;
}

void spin_init(struct spin *s, uint32_t cores)
{
    *s = (struct spin){
        .is_allowed = cores >= 2, .found_ns = SPIN_NS_MIN, .holdoff_next = SPIN_HOLDOFF_FIRST};
}

uint32_t spin_budget_ns(struct spin *s, uint32_t completions)
{
    must(s->paid <= SPIN_PAID_ONE);
    if (!s->is_allowed || completions > SPIN_BATCH_MAX || s->paid < SPIN_PAID_ENOUGH) return 0;
    if (s->holdoff_count > 0) return 0;
    uint32_t budget_ns = s->found_ns * 2;
    if (budget_ns < SPIN_NS_MIN) return SPIN_NS_MIN;
    return budget_ns > SPIN_NS_MAX ? SPIN_NS_MAX : budget_ns;
}

static void hold_off(struct spin *s)
{
    s->holdoff_count = s->holdoff_next;
    if (s->holdoff_next < SPIN_HOLDOFF_MAX) s->holdoff_next *= 2;
}

void spin_ended(struct spin *s, bool has_found, uint64_t spent_ns, uint64_t gap_ns)
{
    s->spins++;
    s->found += has_found;
    s->paid = moved_towards(s->paid, has_found ? SPIN_PAID_ONE : 0);
    if (has_found) {
        uint32_t found_ns = spent_ns > SPIN_NS_MAX ? SPIN_NS_MAX : (uint32_t)spent_ns;
        s->found_ns = moved_towards(s->found_ns, found_ns);
    } else {
        s->found_ns = moved_towards(s->found_ns, SPIN_NS_MAX);
    }
    bool is_vain = !has_found && s->paid < SPIN_PAID_ENOUGH; /* sleeps promised too much */
    if (gap_ns > SPIN_GAP_NS_MAX || is_vain) {
        hold_off(s);
    } else if (has_found && s->spins % SPIN_HOLDOFF_FIRST == 0) {
        s->holdoff_next =
            s->holdoff_next / 2 > SPIN_HOLDOFF_FIRST ? s->holdoff_next / 2 : SPIN_HOLDOFF_FIRST;
    }
}

void spin_slept(struct spin *s, bool has_found, uint64_t slept_ns)
{
    bool would_have_paid = has_found && slept_ns <= SPIN_SLEEP_NS_SHORT;
    s->paid = moved_towards(s->paid, would_have_paid ? SPIN_PAID_ONE : 0);
    if (s->holdoff_count > 0) s->holdoff_count--;
}
