/* Shall a shard with nothing to do look again for a moment before it sleeps? A wake-up costs its
 * sender and the sleeper 5-20 us each; looking costs this core, which a client may need. So it
 * pays only for request-like traffic (few completions per turn, and who was sent something
 * answers soon) and while nobody else wants the core. Learned from what happens, sleeps included:
 * a sleep that ended within the time of a spin and two wake-ups says that a spin would have paid,
 * and costs nothing to observe. If spins then say otherwise, sleeps are not believed for a while.
 *
 *   budget 0 ─most sleeps were short─► spinning ─every second one in vain, or preempted─► budget 0
 *
 * Pure policy, of one shard's thread; the loop measures and looks. */
#ifndef IO_SPIN_H
#define IO_SPIN_H
#include <stdbool.h>
#include <stdint.h>

enum {
    SPIN_NS_MIN = 40 * 1000,
    SPIN_NS_MAX = 60 * 1000,
    /* A sleep this short holds SPIN_NS_MAX, its own wake-up and that of the other side, which
     * sleeps as well: where idle processors wake slowly they are most of it. */
    SPIN_SLEEP_NS_SHORT = 160 * 1000,
    SPIN_BATCH_MAX = 16,             /* completions of a turn; beyond it traffic is a stream */
    SPIN_PAID_ONE = 1024,
    SPIN_PAID_ENOUGH = SPIN_PAID_ONE * 6 / 10,
    SPIN_GAP_NS_MAX = 15 * 1000,     /* between two looks: somebody else ran on this core */
    SPIN_HOLDOFF_FIRST = 16,         /* sleeps without a spin after that, or after spins in vain */
    SPIN_HOLDOFF_MAX = 8192,
};

struct spin {
    bool is_allowed;        /* false on a single core */
    uint32_t paid;          /* share of late waits that work ended soon, of SPIN_PAID_ONE */
    uint32_t found_ns;      /* typical time until a spin found work */
    uint32_t holdoff_count; /* waits left without a spin */
    uint32_t holdoff_next;  /* length of the next hold-off */
    uint64_t spins, found;  /* for /metrics */
};

/* cores: how many this process may run on. */
void spin_init(struct spin *s, uint32_t cores);

/* How long to look before sleeping now, 0: not at all. completions: of the last turn that had any.
 * If it is not 0, spin_ended must follow. */
uint32_t spin_budget_ns(struct spin *s, uint32_t completions);

/* A spin ended after spent_ns, has_found: by an answer. gap_ns: the longest time between two
 * looks. */
void spin_ended(struct spin *s, bool has_found, uint64_t spent_ns, uint64_t gap_ns);

/* A sleep without a spin before it ended after slept_ns; has_found: by an answer. */
void spin_slept(struct spin *s, bool has_found, uint64_t slept_ns);

#endif
