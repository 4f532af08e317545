#include "bench/load_probe.h"

#include <ctype.h>
#include <dirent.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "core/base/must.h"

enum { PATH_BYTES = 300, LINE_BYTES = 1024 };

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec t;
    if (clock_gettime(clock, &t) != 0) return 0;
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

uint64_t load_probe_now_ns(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

uint64_t load_probe_thread_cpu_ns(void)
{
    return clock_ns(CLOCK_THREAD_CPUTIME_ID);
}

bool load_probe_is_interrupted(void)
{
    sigset_t waiting;
    if (sigpending(&waiting) != 0) return false;
    return sigismember(&waiting, SIGINT) == 1 || sigismember(&waiting, SIGTERM) == 1;
}

uint64_t load_probe_raise_files(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
    return limit.rlim_cur;
}

/* The number behind "name" at the start of a line of a /proc file; 0 if there is none. */
static uint64_t field(const char *path, const char *name)
{
    FILE *file = fopen(path, "re");
    if (!file) return 0;
    char line[LINE_BYTES];
    uint64_t value = 0;
    size_t length = strlen(name);
    while (fgets(line, sizeof(line), file)) {
        if (strncmp(line, name, length) != 0) continue;
        value = strtoull(line + length, NULL, 10);
        break;
    }
    fclose(file);
    return value;
}

static uint64_t first_number(const char *path)
{
    return field(path, "");
}

uint64_t load_probe_written_bytes(pid_t pid)
{
    char path[PATH_BYTES];
    if (pid == 0) return 0;
    snprintf(path, sizeof(path), "/proc/%d/io", (int)pid);
    return field(path, "write_bytes:");
}

/* A task may end between the listing and the read: then its files are gone and count as 0. */
static bool take_tasks(struct load_probe *probe, pid_t pid)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    DIR *tasks = opendir(path);
    if (!tasks) return false;
    struct dirent *entry;
    while ((entry = readdir(tasks))) {
        if (!isdigit((unsigned char)entry->d_name[0])) continue;
        probe->threads++;
        snprintf(path, sizeof(path), "/proc/%d/task/%.16s/schedstat", (int)pid, entry->d_name);
        probe->cpu_ns += first_number(path);
        snprintf(path, sizeof(path), "/proc/%d/task/%.16s/status", (int)pid, entry->d_name);
        probe->switches_voluntary += field(path, "voluntary_ctxt_switches:");
        probe->switches_forced += field(path, "nonvoluntary_ctxt_switches:");
    }
    closedir(tasks);
    return true;
}

/* Faults are fields 10 and 12 of stat, counted behind the name, which may hold spaces. */
static void take_faults(struct load_probe *probe, pid_t pid)
{
    char path[PATH_BYTES];
    char line[LINE_BYTES];
    snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (!file) return;
    if (fgets(line, sizeof(line), file)) {
        const char *rest = strrchr(line, ')');
        unsigned long minor = 0;
        unsigned long major = 0;
        if (rest &&
            sscanf(rest + 1, " %*c %*d %*d %*d %*d %*d %*u %lu %*u %lu", &minor, &major) == 2) {
            probe->minor_faults = minor;
            probe->major_faults = major;
        }
    }
    fclose(file);
}

static void take_memory(struct load_probe *probe, pid_t pid, bool with_pss)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    probe->rss_bytes = field(path, "VmRSS:") * 1024;
    if (!with_pss) return;
    snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)pid);
    probe->pss_bytes = field(path, "Pss:") * 1024;
}

static void take_machine(struct load_probe *probe)
{
    FILE *file = fopen("/proc/stat", "re");
    if (!file) return;
    uint64_t user, nice, system, idle, wait, irq, softirq, steal;
    int got = fscanf(file,
                     "cpu %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64 " %" SCNu64
                     " %" SCNu64 " %" SCNu64,
                     &user, &nice, &system, &idle, &wait, &irq, &softirq, &steal);
    fclose(file);
    if (got != 8) return;
    uint64_t tick_ns = 1000000000u / (uint64_t)sysconf(_SC_CLK_TCK);
    probe->busy_ns = (user + nice + system + irq + softirq) * tick_ns;
    probe->steal_ns = steal * tick_ns;
}

bool load_probe_take(struct load_probe *probe, pid_t pid, bool with_memory)
{
    must(pid >= 0);
    *probe = (struct load_probe){0};
    take_machine(probe);
    probe->client_cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
    bool found = true;
    if (pid > 0) {
        clockid_t clock;
        take_memory(probe, pid, with_memory);
        take_faults(probe, pid);
        found = take_tasks(probe, pid);
        if (clock_getcpuclockid(pid, &clock) == 0) probe->cpu_clock_ns = clock_ns(clock);
    }
    probe->at_ns = load_probe_now_ns();
    return found;
}
