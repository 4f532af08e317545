/* What the kernel says about the machine and this process: cores, memory, limits, usage. */
#ifndef IO_SYSINFO_H
#define IO_SYSINFO_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/base/err.h"

/* Cores that this process may run on (its affinity mask), at least 1. */
uint32_t sysinfo_cores(void);
/* The same, lowered by the quota of the cgroup, rounded up but not below 2, as Go does. */
uint32_t sysinfo_cores_by_quota(void);
/* Bytes of memory this process may use: the machine's, or less if its cgroup (v2, v1) says so. */
uint64_t sysinfo_memory_limit(void);
/* What the control group allows: cgroup_file is /proc/self/cgroup, mount is /sys/fs/cgroup; the
 * smallest limit on the way up counts. UINT64_MAX bytes, or 0 cores: no limit. */
uint64_t sysinfo_cgroup_memory(const char *cgroup_file, const char *mount);
double sysinfo_cgroup_cores(const char *cgroup_file, const char *mount);
/* Resident bytes of this process; 0 when /proc is not there. */
uint64_t sysinfo_rss(void);
/* The same; of_files of them are pages of files: the program and its libraries. */
uint64_t sysinfo_resident(uint64_t *of_files);
/* Raises the soft limit of descriptors to the hard one; returns what it is then. */
uint64_t sysinfo_raise_files(void);
/* The limit of the stack, unless it is as high already; false: it may not be. */
bool sysinfo_raise_stack(uint64_t bytes);
/* Descriptors that are open now; 0 when /proc is not there. */
uint64_t sysinfo_open_files(void);

/* Processor use as /varz shows it: percent of one core over the last whole seconds. */
struct sysinfo_cpu {
    uint64_t total_ns_last; /* user and system time at the last sample */
    uint64_t at_ns_last;
    double percent; /* one decimal */
};

/* Starts at 0 percent. */
void sysinfo_cpu_init(struct sysinfo_cpu *c);
/* Called about once a second by one thread; percent changes when a second has passed. */
void sysinfo_cpu_sample(struct sysinfo_cpu *c);

enum { SYSINFO_ERRNO_TEXT_BYTES = 64 };
/* The text of an errno as Go spells it ("no such file or directory"); returns out. */
const char *sysinfo_errno_text(int number, char out[SYSINFO_ERRNO_TEXT_BYTES]);

/* This process as /metrics shows it. */
struct sysinfo_process {
    uint64_t resident_bytes, virtual_bytes;
    uint64_t open_fds, max_fds;
    double cpu_seconds;
};
void sysinfo_process(struct sysinfo_process *out);

/* "0,2-5" into list; returns the count, 0 for a text that is no such list or names more than max.
 */
int sysinfo_parse_cpus(const char *text, int *list, int max);

#endif
