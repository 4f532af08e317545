#include "io/sysinfo.h"
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <time.h>
#include <unistd.h>
#include "core/base/bytes.h"

enum {
    SMALL_FILE_BYTES = 4096,
    QUOTA_CORES_MIN = 2,
    NS_PER_SECOND = 1000000000,
};

static const char cgroup_file_self[] = "/proc/self/cgroup";
static const char cgroup_mount[] = "/sys/fs/cgroup";

/* The first bytes of a small file as a text; false when it cannot be read. */
static bool file_text(const char *path, char out[SMALL_FILE_BYTES])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = read(fd, out, SMALL_FILE_BYTES - 1);
    close(fd);
    if (n < 0) return false;
    out[n] = 0;
    return true;
}

uint32_t sysinfo_cores(void)
{
    /* Larger than the fixed set for machines with more than 1024 cores. */
    for (int cpus = 1024; cpus <= 1024 * 64; cpus *= 4) {
        cpu_set_t *set = CPU_ALLOC((size_t)cpus);
        if (set == NULL) break;
        size_t bytes = CPU_ALLOC_SIZE((size_t)cpus);
        int count = sched_getaffinity(0, bytes, set) == 0 ? CPU_COUNT_S(bytes, set) : 0;
        CPU_FREE(set);
        if (count > 0) return (uint32_t)count;
    }
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 ? (uint32_t)online : 1;
}

/* --- control groups --- */

/* The group's path in one hierarchy: controller "" is version 2. Lines are "id:controllers:path".
 */
static bool cgroup_path(const char *cgroup_file, const char *controller, char path[PATH_MAX])
{
    char text[SMALL_FILE_BYTES];
    if (!file_text(cgroup_file, text)) return false;
    char *rest = text;
    for (char *line = strsep(&rest, "\n"); line != NULL; line = strsep(&rest, "\n")) {
        char *first = strchr(line, ':');
        char *second = first == NULL ? NULL : strchr(first + 1, ':');
        if (second == NULL) continue;
        *second = 0;
        bool is_ours = controller[0] == 0 && first[1] == 0;
        char *list = first + 1;
        for (char *name = strsep(&list, ","); name != NULL; name = strsep(&list, ",")) {
            if (controller[0] != 0 && strcmp(name, controller) == 0) is_ours = true;
        }
        if (!is_ours) continue;
        snprintf(path, PATH_MAX, "%s", second + 1);
        return true;
    }
    return false;
}

/* Calls look for the group's directory and each one above it, up to the mount. A container often
 * sees only its own group, mounted at the top: then the deeper directories are not there. */
static void cgroup_walk(const char *root, char path[PATH_MAX],
                        void (*look)(const char *directory, void *context), void *context)
{
    char directory[2 * PATH_MAX];
    for (;;) {
        snprintf(directory, sizeof directory, "%s%s", root, strcmp(path, "/") == 0 ? "" : path);
        look(directory, context);
        char *slash = strrchr(path, '/');
        if (slash == NULL || path[0] == 0 || strcmp(path, "/") == 0) return;
        *slash = 0;
        if (path[0] == 0) snprintf(path, PATH_MAX, "/");
    }
}

static bool number_in(const char *directory, const char *name, uint64_t *value)
{
    char path[3 * PATH_MAX], text[SMALL_FILE_BYTES];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    if (!file_text(path, text)) return false;
    return bytes_to_u64(bytes_trim(bytes_from_text(text)), 20, value) == ERR_OK;
}

static void look_memory_2(const char *directory, void *context)
{
    uint64_t *limit = context, value;
    if (number_in(directory, "memory.max", &value) && value < *limit) *limit = value;
}

static void look_memory_1(const char *directory, void *context)
{
    uint64_t *limit = context, value;
    if (number_in(directory, "memory.limit_in_bytes", &value) && value < *limit) *limit = value;
}

static void look_cores_2(const char *directory, void *context)
{
    double *limit = context;
    char path[3 * PATH_MAX], text[SMALL_FILE_BYTES];
    unsigned long long quota, period;
    snprintf(path, sizeof path, "%s/cpu.max", directory);
    if (!file_text(path, text) || sscanf(text, "%llu %llu", &quota, &period) != 2) return;
    if (period == 0) return;
    double cores = (double)quota / (double)period;
    if (*limit == 0 || cores < *limit) *limit = cores;
}

static void look_cores_1(const char *directory, void *context)
{
    double *limit = context;
    uint64_t quota, period; /* a quota of -1 is no number here: no limit */
    if (!number_in(directory, "cpu.cfs_quota_us", &quota)) return;
    if (!number_in(directory, "cpu.cfs_period_us", &period) || period == 0) return;
    double cores = (double)quota / (double)period;
    if (*limit == 0 || cores < *limit) *limit = cores;
}

static void cgroup_look(const char *cgroup_file, const char *mount, const char *controller,
                        void (*look_1)(const char *, void *), void (*look_2)(const char *, void *),
                        void *context)
{
    char path[PATH_MAX], root[PATH_MAX];
    if (cgroup_path(cgroup_file, "", path)) {
        cgroup_walk(mount, path, look_2, context);
    }
    if (cgroup_path(cgroup_file, controller, path)) {
        snprintf(root, sizeof root, "%s/%s", mount, controller);
        cgroup_walk(root, path, look_1, context);
    }
}

uint64_t sysinfo_cgroup_memory(const char *cgroup_file, const char *mount)
{
    uint64_t limit = UINT64_MAX;
    cgroup_look(cgroup_file, mount, "memory", look_memory_1, look_memory_2, &limit);
    return limit;
}

double sysinfo_cgroup_cores(const char *cgroup_file, const char *mount)
{
    double limit = 0;
    cgroup_look(cgroup_file, mount, "cpu", look_cores_1, look_cores_2, &limit);
    return limit;
}

uint32_t sysinfo_cores_by_quota(void)
{
    uint32_t cores = sysinfo_cores();
    double quota = sysinfo_cgroup_cores(cgroup_file_self, cgroup_mount);
    if (quota <= 0 || quota >= cores) return cores;
    uint32_t whole = (uint32_t)quota;
    if (quota > whole) whole++;
    if (whole < QUOTA_CORES_MIN) whole = QUOTA_CORES_MIN;
    return whole < cores ? whole : cores;
}

uint64_t sysinfo_memory_limit(void)
{
    struct sysinfo s;
    uint64_t machine = sysinfo(&s) == 0 ? (uint64_t)s.totalram * s.mem_unit : UINT64_MAX;
    uint64_t group = sysinfo_cgroup_memory(cgroup_file_self, cgroup_mount);
    return group < machine ? group : machine;
}

/* --- this process --- */

uint64_t sysinfo_resident(uint64_t *of_files)
{
    char text[SMALL_FILE_BYTES];
    unsigned long long pages, shared;
    *of_files = 0;
    if (!file_text("/proc/self/statm", text) || sscanf(text, "%*u %llu %llu", &pages, &shared) != 2)
        return 0;
    uint64_t page_bytes = (uint64_t)sysconf(_SC_PAGESIZE);
    *of_files = shared * page_bytes;
    return pages * page_bytes;
}

uint64_t sysinfo_rss(void)
{
    uint64_t unused;
    return sysinfo_resident(&unused);
}

uint64_t sysinfo_raise_files(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return 0;
    struct rlimit wanted = {.rlim_cur = limit.rlim_max, .rlim_max = limit.rlim_max};
    if (limit.rlim_cur == limit.rlim_max) return limit.rlim_cur;
    return setrlimit(RLIMIT_NOFILE, &wanted) == 0 ? wanted.rlim_cur : limit.rlim_cur;
}

/* The kernel looks at the limit each time the stack grows, so this helps the main thread too. */
bool sysinfo_raise_stack(uint64_t bytes)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_STACK, &limit) != 0 || limit.rlim_cur >= bytes) return true;
    limit.rlim_cur = bytes;
    if (limit.rlim_max < bytes) limit.rlim_max = bytes; /* root may */
    return setrlimit(RLIMIT_STACK, &limit) == 0;
}

uint64_t sysinfo_open_files(void)
{
    DIR *dir = opendir("/proc/self/fd");
    uint64_t count = 0;
    if (dir == NULL) return 0;
    for (struct dirent *e = readdir(dir); e != NULL; e = readdir(dir)) count += e->d_name[0] != '.';
    closedir(dir);
    return count - 1; /* the directory's own */
}

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

void sysinfo_cpu_init(struct sysinfo_cpu *c)
{
    *c = (struct sysinfo_cpu){.total_ns_last = clock_ns(CLOCK_PROCESS_CPUTIME_ID),
                              .at_ns_last = clock_ns(CLOCK_MONOTONIC)};
}

void sysinfo_cpu_sample(struct sysinfo_cpu *c)
{
    uint64_t total_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID), at_ns = clock_ns(CLOCK_MONOTONIC);
    uint64_t passed_ns = at_ns - c->at_ns_last;
    /* A timer of one second that rings a little early still counts as one. */
    if (passed_ns < NS_PER_SECOND / 10 * 9) return;
    uint64_t tenths = (total_ns - c->total_ns_last) * 1000 / passed_ns;
    c->percent = (double)tenths / 10;
    c->total_ns_last = total_ns;
    c->at_ns_last = at_ns;
}

const char *sysinfo_errno_text(int number, char out[SYSINFO_ERRNO_TEXT_BYTES])
{
    const char *text = strerrordesc_np(number);
    snprintf(out, SYSINFO_ERRNO_TEXT_BYTES, "%s", text == NULL ? "unknown error" : text);
    /* "No such file", but not "RPC struct is bad". */
    if (out[0] >= 'A' && out[0] <= 'Z' && !(out[1] >= 'A' && out[1] <= 'Z')) {
        out[0] = (char)(out[0] + ('a' - 'A'));
    }
    return out;
}

void sysinfo_process(struct sysinfo_process *out)
{
    *out =
        (struct sysinfo_process){.resident_bytes = sysinfo_rss(), .open_fds = sysinfo_open_files()};
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) out->max_fds = files.rlim_cur;
    struct rusage usage;
    if (getrusage(RUSAGE_SELF, &usage) == 0)
        out->cpu_seconds = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    FILE *f = fopen("/proc/self/statm", "re");
    unsigned long pages;
    if (f != NULL && fscanf(f, "%lu", &pages) == 1)
        out->virtual_bytes = (uint64_t)pages * (uint64_t)sysconf(_SC_PAGESIZE);
    if (f != NULL) fclose(f);
}

int sysinfo_parse_cpus(const char *text, int *list, int max)
{
    int count = 0;
    while (*text != 0) {
        char *end;
        long first = strtol(text, &end, 10);
        long last = first;
        if (end == text || first < 0) return 0;
        if (*end == '-') {
            text = end + 1;
            last = strtol(text, &end, 10);
            if (end == text || last < first) return 0;
        }
        for (long c = first; c <= last; c++) {
            if (count == max) return 0;
            list[count++] = (int)c;
        }
        if (*end == ',')
            end++;
        else if (*end != 0)
            return 0;
        text = end;
    }
    return count;
}
