#include "core/base/rng.h"
#include "core/base/must.h"

static uint64_t rotate_left(uint64_t x, unsigned k)
{
    return (x << k) | (x >> (64 - k));
}

/* splitmix64: spreads any seed, zero included, over the whole state. */
static uint64_t spread(uint64_t *seed)
{
    uint64_t z = (*seed += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

void rng_init(struct rng *r, uint64_t seed)
{
    for (int i = 0; i < 4; i++) r->state[i] = spread(&seed);
}

uint64_t rng_next(struct rng *r)
{
    uint64_t *s = r->state;
    uint64_t result = rotate_left(s[1] * 5, 7) * 9;
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

/* Multiply-shift with rejection of the few values that would favour small results. */
uint32_t rng_below(struct rng *r, uint32_t bound)
{
    must(bound > 0);
    uint64_t product = (rng_next(r) >> 32) * bound;
    if (UNLIKELY((uint32_t)product < bound)) {
        uint32_t floor = (0u - bound) % bound;
        while ((uint32_t)product < floor) product = (rng_next(r) >> 32) * bound;
    }
    return (uint32_t)(product >> 32);
}

void rng_text(struct rng *r, char *text, size_t count)
{
    static const char digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    for (size_t i = 0; i < count; i++) text[i] = digits[rng_below(r, sizeof digits - 1)];
}
