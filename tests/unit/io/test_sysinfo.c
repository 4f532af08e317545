#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "core/base/must.h"
#include "io/sysinfo.h"

static char directory[64];

static void setup(void)
{
    strcpy(directory, "/tmp/millrace-sys-XXXXXX");
    cr_assert_not_null(mkdtemp(directory));
}

static void teardown(void)
{
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", directory);
    must(system(command) == 0);
}

TestSuite(sysinfo, .init = setup, .fini = teardown, .timeout = 20);

/* Writes text to a file below the directory, making folders on the way. */
static void put(const char *name, const char *text)
{
    char command[512];
    snprintf(command, sizeof command, "cd %s && mkdir -p $(dirname %s) && printf %%b '%s' > %s",
             directory, name, text, name);
    cr_assert_eq(system(command), 0);
}

static uint64_t memory(void)
{
    char file[128], mount[128];
    snprintf(file, sizeof file, "%s/cgroup", directory);
    snprintf(mount, sizeof mount, "%s/fs", directory);
    return sysinfo_cgroup_memory(file, mount);
}

static double cores(void)
{
    char file[128], mount[128];
    snprintf(file, sizeof file, "%s/cgroup", directory);
    snprintf(mount, sizeof mount, "%s/fs", directory);
    return sysinfo_cgroup_cores(file, mount);
}

Test(sysinfo, the_smallest_limit_above_a_group_counts)
{
    put("cgroup", "0::/a/b\\n");
    cr_assert_eq(memory(), UINT64_MAX);
    cr_assert_eq(cores(), 0);
    put("fs/a/b/memory.max", "max\\n");
    put("fs/a/memory.max", "1000000\\n");
    put("fs/a/b/cpu.max", "max 100000\\n");
    put("fs/a/cpu.max", "150000 100000\\n");
    cr_assert_eq(memory(), 1000000);
    cr_assert_float_eq(cores(), 1.5, 0.001);
    put("fs/a/b/memory.max", "700000\\n");
    put("fs/memory.max", "900000\\n");
    cr_assert_eq(memory(), 700000);
}

Test(sysinfo, a_container_sees_its_own_group_at_the_top)
{
    put("cgroup", "0::/docker/abc\\n");
    put("fs/memory.max", "5000000\\n");
    cr_assert_eq(memory(), 5000000);
    put("cgroup", "0::/\\n");
    cr_assert_eq(memory(), 5000000);
}

Test(sysinfo, the_older_kind_of_groups_works_too)
{
    put("cgroup", "5:cpu,cpuacct:/x\\n4:memory:/x\\n1:name=systemd:/x\\n0::/x\\n");
    put("fs/memory/x/memory.limit_in_bytes", "123456789\\n");
    put("fs/memory/memory.limit_in_bytes", "9223372036854771712\\n");
    put("fs/cpu/x/cpu.cfs_quota_us", "-1\\n");
    put("fs/cpu/x/cpu.cfs_period_us", "100000\\n");
    cr_assert_eq(memory(), 123456789);
    cr_assert_eq(cores(), 0);
    put("fs/cpu/x/cpu.cfs_quota_us", "250000\\n");
    cr_assert_float_eq(cores(), 2.5, 0.001);
}

Test(sysinfo, the_machine_has_cores_and_memory)
{
    cr_assert_geq(sysinfo_cores(), 1);
    cr_assert_geq(sysinfo_cores(), sysinfo_cores_by_quota());
    cr_assert_geq(sysinfo_cores_by_quota(), 1);
    cr_assert_gt(sysinfo_memory_limit(), 1024 * 1024);
    cr_assert_lt(sysinfo_memory_limit(), UINT64_MAX);
    cr_assert_gt(sysinfo_rss(), 100000);
    uint64_t of_files;
    cr_assert_gt(sysinfo_resident(&of_files), of_files);
    cr_assert_gt(of_files, 100000);
}

Test(sysinfo, descriptors_are_counted_and_their_limit_raised)
{
    uint64_t before = sysinfo_open_files();
    int fd = open("/dev/null", O_RDONLY);
    cr_assert_eq(sysinfo_open_files(), before + 1);
    close(fd);
    struct rlimit limit;
    cr_assert_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max / 2;
    cr_assert_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    cr_assert_eq(sysinfo_raise_files(), limit.rlim_max);
}

Test(sysinfo, a_busy_second_shows)
{
    struct sysinfo_cpu c;
    sysinfo_cpu_init(&c);
    cr_assert_float_eq(c.percent, 0, 0.001);
    sysinfo_cpu_sample(&c);
    cr_assert_float_eq(c.percent, 0, 0.001, "no whole second yet");
    clock_t start = clock();
    while (clock() - start < CLOCKS_PER_SEC / 2) continue;
    struct timespec pause = {.tv_nsec = 600000000};
    nanosleep(&pause, NULL);
    sysinfo_cpu_sample(&c);
    cr_assert_gt(c.percent, 5);
    cr_assert_lt(c.percent, 100);
}

Test(sysinfo, errors_are_texts_as_go_has_them)
{
    char text[SYSINFO_ERRNO_TEXT_BYTES];
    cr_assert_str_eq(sysinfo_errno_text(ENOENT, text), "no such file or directory");
    cr_assert_str_eq(sysinfo_errno_text(EACCES, text), "permission denied");
    cr_assert_str_eq(sysinfo_errno_text(99999, text), "unknown error");
}
