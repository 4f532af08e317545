/* The whole server, in the simulator, with one call failing: the n-th allocation, accept,
 * receive, send or socket_add, for all n of a short scenario. Losing a connection is allowed;
 * a crash, a leak, a hang or a broken byte is not.
 *
 *   fault_server [ops [stride]]    every stride-th n */
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include "core/base/json.h"
#include "tests/sim/workload.h"

enum { OPS_DEFAULT = 120, SEED = 7, STRIDE_DEFAULT = 1, SECONDS_MAX = 20, SHOWN_MAX = 20 };

struct tally {
    uint64_t runs, bad;
};

/* In a process of its own, so that one abort does not end the search. */
static void run_one(struct tally *t, const char *what, uint64_t n,
                    const struct workload_config *config)
{
    int status;
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        struct workload_counts counts = {0};
        struct workload_result result = {0};
        alarm(SECONDS_MAX);
        workload_run(config, &counts, &result);
        _exit(result.errors == 0 ? 0 : 1);
    }
    if (pid < 0 || waitpid(pid, &status, 0) != pid) {
        perror("fork");
        exit(1);
    }
    t->runs++;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return;
    if (t->bad++ < SHOWN_MAX)
        fprintf(stderr, "%s %llu fails: %s %d\n", what, (unsigned long long)n,
                WIFSIGNALED(status) ? "signal" : "exit",
                WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

int main(int argc, char **argv)
{
    struct workload_config base = {.seed = SEED, .ops = OPS_DEFAULT};
    uint64_t stride = STRIDE_DEFAULT;
    if (argc > 1) base.ops = (uint32_t)strtoul(argv[1], NULL, 10);
    if (argc > 2) stride = strtoull(argv[2], NULL, 10);
    json_init(1);

    /* How many there are, without a failure. */
    struct workload_counts counts = {0};
    struct workload_result clean = {0};
    workload_run(&base, &counts, &clean);
    if (clean.errors > 0) return 1;
    printf("%llu allocations, %llu accepts, %llu receives, %llu sends, %llu sockets\n",
           (unsigned long long)clean.allocs, (unsigned long long)clean.faults.accepts,
           (unsigned long long)clean.faults.recvs, (unsigned long long)clean.faults.sends,
           (unsigned long long)clean.faults.adds);

    struct tally t = {0};
    struct workload_config c;
    for (uint64_t n = 1; n <= clean.allocs; n += stride) {
        c = base;
        c.fail_alloc_at = n;
        run_one(&t, "allocation", n, &c);
    }
    for (uint64_t n = 1; n <= clean.faults.accepts; n++) {
        c = base;
        c.fail_accept_at = n;
        run_one(&t, "accept", n, &c);
    }
    for (uint64_t n = 1; n <= clean.faults.recvs; n += stride) {
        c = base;
        c.fail_recv_at = n;
        run_one(&t, "receive", n, &c);
    }
    for (uint64_t n = 1; n <= clean.faults.sends; n += stride) {
        c = base;
        c.fail_send_at = n;
        run_one(&t, "send", n, &c);
    }
    for (uint64_t n = 1; n <= clean.faults.adds; n++) {
        c = base;
        c.fail_add_at = n;
        run_one(&t, "socket_add", n, &c);
    }
    printf("%llu runs, %llu bad\n", (unsigned long long)t.runs, (unsigned long long)t.bad);
    return t.bad == 0 ? 0 : 1;
}
