/* The only randomness of core: xoshiro256**, seeded from outside (the kernel in io, the seed in
 * the simulator). Not for secrets: who reads some of its output can work out the
 * rest. Those come with events (docs/decisions/015). */
#ifndef CORE_BASE_RNG_H
#define CORE_BASE_RNG_H
#include <stddef.h>
#include <stdint.h>

struct rng {
    uint64_t state[4];
};

/* Any seed is fine; equal seeds give equal sequences. */
void rng_init(struct rng *r, uint64_t seed);
uint64_t rng_next(struct rng *r);
/* Uniform in [0, bound), bound > 0, without division on the usual path. */
uint32_t rng_below(struct rng *r, uint32_t bound);
/* Fills text with letters and digits: six bits each, nearly. No zero byte follows. */
void rng_text(struct rng *r, char *text, size_t count);

#endif
