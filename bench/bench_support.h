/* Lets a Google Benchmark file see the C headers of the core. They are C17: some of its words mean
 * something else in C++, and linkage has to be said. So this file comes first, then
 *
 *   extern "C" {
 *   #include "core/proto/nats_parse.h"
 *   }
 */
#ifndef BENCH_BENCH_SUPPORT_H
#define BENCH_BENCH_SUPPORT_H

#include <benchmark/benchmark.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <string>
#include <vector>

#define _Noreturn [[noreturn]]
#define class class_
#define private private_

/* bench/instructions runs each bench with two fixed numbers of iterations and takes the difference,
 * so that set-up does not count; without it Google Benchmark decides. */
inline void bench_iterations(benchmark::internal::Benchmark *bench)
{
    const char *text = getenv("BENCH_ITERATIONS");
    if (text) bench->Iterations(strtol(text, nullptr, 10));
}

#endif
