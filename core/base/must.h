/* Assertions. must() stays on in release: a broken invariant ends the process before it spreads.
 * verify() is for whole-structure checks and is compiled in debug, test and simulator builds only.
 * Neither may have side effects. Never assert anything about foreign bytes. */
#ifndef CORE_BASE_MUST_H
#define CORE_BASE_MUST_H

/* The hook of the program that links core: reports file, line and condition, then aborts.
 * io/main prints the shard as well; tests print and abort. Never returns. */
_Noreturn void must_fail(const char *file, int line, const char *condition);

#define must(condition) \
    (__builtin_expect(!!(condition), 1) ? (void)0 : must_fail(__FILE__, __LINE__, #condition))

#ifdef NDEBUG
#define verify(condition) ((void)sizeof(!!(condition)))
#else
#define verify(condition) must(condition)
#endif

#define UNLIKELY(condition) __builtin_expect(!!(condition), 0)
#define LIKELY(condition) __builtin_expect(!!(condition), 1)
#define NOINLINE __attribute__((noinline))

#endif
