/* Figures of the server process, of the whole machine and of this process, read from /proc.
 * The headline figure is cpu_ns: the run time of all tasks of the server (kernel workers of its
 * ring included) in nanoseconds, where /proc/PID/stat only knows ticks of 10 ms. */
#ifndef BENCH_LOAD_PROBE_H
#define BENCH_LOAD_PROBE_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct load_probe {
    uint64_t at_ns;        /* monotonic */
    uint64_t cpu_ns;       /* sum over /proc/PID/task of schedstat run time */
    uint64_t cpu_clock_ns; /* the process clock: also counts threads that have ended */
    uint64_t rss_bytes;
    uint64_t pss_bytes; /* 0 unless memory was asked for */
    uint64_t minor_faults;
    uint64_t major_faults;
    uint64_t switches_voluntary;
    uint64_t switches_forced;
    uint64_t threads;
    uint64_t busy_ns;  /* machine: all time that is neither idle, nor waiting, nor stolen */
    uint64_t steal_ns; /* machine: time the hypervisor gave to others */
    uint64_t client_cpu_ns;
};

/* Reads everything now. pid 0: the server's figures stay 0. PSS walks the page tables of the
 * server, so it is only read with_memory, outside of what is measured. False: no such process. */
bool load_probe_take(struct load_probe *probe, pid_t pid, bool with_memory);

/* Bytes that the process has had written to disks since it was started (/proc/PID/io); 0: unknown.
 * What goes to the page cache counts when a page becomes dirty. */
uint64_t load_probe_written_bytes(pid_t pid);

/* The monotonic clock in nanoseconds. */
uint64_t load_probe_now_ns(void);

/* True once SIGINT or SIGTERM waits for this process, which has blocked them (load_main): a
 * workload that leaves something on the server ends its phase and clears up. */
bool load_probe_is_interrupted(void);

/* CPU time of the calling thread in nanoseconds. */
uint64_t load_probe_thread_cpu_ns(void);

/* Raises the soft limit of open files to the hard one; the new limit is the answer. */
uint64_t load_probe_raise_files(void);

#endif
