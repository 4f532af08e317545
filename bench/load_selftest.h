/* A test of the tool itself: verifying runs against a small server in this process, first honest,
 * then broken in one way after the other; each break must be found. */
#ifndef BENCH_LOAD_SELFTEST_H
#define BENCH_LOAD_SELFTEST_H

/* 0 when all is as it should be, 1 with a line on stderr otherwise. Takes a few seconds. */
int load_selftest_run(void);

#endif
