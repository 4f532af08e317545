#include "bench/load_opts.h"

#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/base/must.h"

enum {
    OPT_URL = 256,
    OPT_USER,
    OPT_PASS,
    OPT_TOKEN,
    OPT_MSGS,
    OPT_SECONDS,
    OPT_WARMUP,
    OPT_TIMEOUT,
    OPT_RATE,
    OPT_CHURN_RATE,
    OPT_CHURN_SAME,
    OPT_WINDOW,
    OPT_SIZE,
    OPT_PUBS,
    OPT_SUBS,
    OPT_FANOUT,
    OPT_GROUPS,
    OPT_SUBJECTS,
    OPT_CONNS,
    OPT_THREADS,
    OPT_STALLED,
    OPT_SERVER_PID,
    OPT_SEED,
    OPT_VERIFY,
    OPT_SPIN,
    OPT_SELFTEST,
    OPT_WORKLOAD,
    OPT_STREAMS,
    OPT_INFLIGHT,
    OPT_IN_MEMORY,
    OPT_CONSUMERS,
    OPT_BATCH,
    OPT_MODE,
    OPT_NO_FILL,
    OPT_KEEP,
    OPT_DRAIN,
};

static const char *const workload_names[LOAD_WORKLOAD_COUNT] = {
    [LOAD_WORKLOAD_PUB] = "pub",           [LOAD_WORKLOAD_PUBSUB] = "pubsub",
    [LOAD_WORKLOAD_PAIRS] = "pairs",       [LOAD_WORKLOAD_QUEUE] = "queue",
    [LOAD_WORKLOAD_SUBJECTS] = "subjects", [LOAD_WORKLOAD_SUBS] = "subs",
    [LOAD_WORKLOAD_REQREP] = "reqrep",     [LOAD_WORKLOAD_LATENCY] = "latency",
    [LOAD_WORKLOAD_STORM] = "storm",       [LOAD_WORKLOAD_IDLE] = "idle",
    [LOAD_WORKLOAD_CHURN] = "churn",       [LOAD_WORKLOAD_JSPUB] = "jspub",
    [LOAD_WORKLOAD_JSFILL] = "jsfill",     [LOAD_WORKLOAD_JSTAKE] = "jstake",
    [LOAD_WORKLOAD_JSFIRST] = "jsfirst",   [LOAD_WORKLOAD_KVPUT] = "kvput",
    [LOAD_WORKLOAD_KVGET] = "kvget",       [LOAD_WORKLOAD_SELFTEST] = "selftest",
};

static const struct option long_options[] = {
    {"help", no_argument, NULL, 'h'},
    {"host", required_argument, NULL, 'H'},
    {"port", required_argument, NULL, 'p'},
    {"quiet", no_argument, NULL, 'q'},
    {"url", required_argument, NULL, OPT_URL},
    {"user", required_argument, NULL, OPT_USER},
    {"pass", required_argument, NULL, OPT_PASS},
    {"token", required_argument, NULL, OPT_TOKEN},
    {"msgs", required_argument, NULL, OPT_MSGS},
    {"seconds", required_argument, NULL, OPT_SECONDS},
    {"warmup", required_argument, NULL, OPT_WARMUP},
    {"timeout", required_argument, NULL, OPT_TIMEOUT},
    {"rate", required_argument, NULL, OPT_RATE},
    {"churn-rate", required_argument, NULL, OPT_CHURN_RATE},
    {"window", required_argument, NULL, OPT_WINDOW},
    {"churn-same", no_argument, NULL, OPT_CHURN_SAME},
    {"size", required_argument, NULL, OPT_SIZE},
    {"pubs", required_argument, NULL, OPT_PUBS},
    {"clients", required_argument, NULL, OPT_PUBS},
    {"subs", required_argument, NULL, OPT_SUBS},
    {"services", required_argument, NULL, OPT_SUBS},
    {"members", required_argument, NULL, OPT_SUBS},
    {"fanout", required_argument, NULL, OPT_FANOUT},
    {"groups", required_argument, NULL, OPT_GROUPS},
    {"subjects", required_argument, NULL, OPT_SUBJECTS},
    {"conns", required_argument, NULL, OPT_CONNS},
    {"threads", required_argument, NULL, OPT_THREADS},
    {"stalled", required_argument, NULL, OPT_STALLED},
    {"server-pid", required_argument, NULL, OPT_SERVER_PID},
    {"seed", required_argument, NULL, OPT_SEED},
    {"verify", no_argument, NULL, OPT_VERIFY},
    {"spin", no_argument, NULL, OPT_SPIN},
    {"selftest", no_argument, NULL, OPT_SELFTEST},
    {"streams", required_argument, NULL, OPT_STREAMS},
    {"inflight", required_argument, NULL, OPT_INFLIGHT},
    {"in-memory", no_argument, NULL, OPT_IN_MEMORY},
    {"consumers", required_argument, NULL, OPT_CONSUMERS},
    {"batch", required_argument, NULL, OPT_BATCH},
    {"mode", required_argument, NULL, OPT_MODE},
    {"no-fill", no_argument, NULL, OPT_NO_FILL},
    {"keep", no_argument, NULL, OPT_KEEP},
    {"drain", no_argument, NULL, OPT_DRAIN},
    {"workload", required_argument, NULL, OPT_WORKLOAD},
    {NULL, 0, NULL, 0},
};

static const char usage_text[] =
    "usage: load WORKLOAD [options]\n"
    "Drives any NATS server and prints one JSON object on stdout, one line for people on stderr.\n"
    "\n"
    "Workloads\n"
    "  pub       publish, nobody listens\n"
    "  pubsub    --pubs N publishers and --subs M connections on one subject\n"
    "  pairs     --pubs N pairs, each on a subject of its own (32)\n"
    "  queue     --pubs publishers, --groups G queue groups (3) of --members M (10)\n"
    "  subjects  --subjects N distinct subjects (50000), --subs M wildcard subscribers (4)\n"
    "  subs      --subjects N subscriptions (1000000): insert, memory, then match\n"
    "  reqrep    --clients C in a closed loop against --services S in one queue group\n"
    "  latency   open loop at --rate (100000/s); --stalled other|same adds a reader that never "
    "reads\n"
    "  storm     connect, PING, PONG, close; --conns attempts in flight (64)\n"
    "  idle      --conns N connections (10000) that do nothing: memory of the server\n"
    "  churn     1:1 traffic beside SUB and UNSUB (--churn-rate, --churn-same)\n"
    "  jspub     JetStream publishes with acknowledgements: --pubs N publishers on --streams S "
    "(1)\n"
    "            with --inflight K (500) each, 1: synchronous; --in-memory for memory streams\n"
    "  jsfill    makes --streams S with --consumers C on them, stores --msgs N: memory, "
    "bytes\n"
    "            written; --drain: until packing has drained\n"
    "  jstake    reads a stream of --msgs N: --mode push (ordered) | fetch | ack; --clients, "
    "--batch\n"
    "  jsfirst   a new consumer's first message, on --msgs N over --subjects S\n"
    "  kvput     a bucket of --subjects keys (10000): --clients C in a closed loop\n"
    "  kvget     the same, direct gets\n"
    "            all of JetStream: --keep leaves the streams there, --no-fill takes what is there\n"
    "  selftest  checks this tool against a small server of its own, honest and broken\n"
    "\n"
    "Server    --url nats://[user:pass@]host:port | --host H --port P  --user --pass --token\n"
    "          --server-pid PID  CPU, memory, faults and switches of that process\n"
    "Amount    --msgs N | --seconds S (3)   --warmup S (0.5)   --timeout S (10)\n"
    "Shape     --size BYTES (128) --pubs --subs --fanout --groups --subjects --conns\n"
    "Client    --threads T (1)  --verify  --spin  --seed N  --quiet\n"
    "          --window MIB (8) undelivered per subscriber at which publishers pause; 0: never,\n"
    "          then a server that disconnects slow readers may do so\n";

_Noreturn static void refuse(const char *what, const char *value)
{
    fprintf(stderr, "load: %s '%s'\n%s", what, value, usage_text);
    exit(2);
}

static uint64_t number(const char *text, uint64_t min, uint64_t max)
{
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(text, &end, 10);
    if (errno != 0 || end == text || text[0] == '-') refuse("not a number:", text);
    if (*end == 'k' || *end == 'K')
        value *= 1000, end++;
    else if (*end == 'm' || *end == 'M')
        value *= 1000000, end++;
    if (*end != '\0') refuse("not a number:", text);
    if (value < min || value > max) refuse("out of range:", text);
    return value;
}

static uint64_t seconds_ns(const char *text)
{
    char *end = NULL;
    double value = strtod(text, &end);
    if (end == text || *end != '\0') refuse("not a number of seconds:", text);
    if (!(value >= 0 && value <= LOAD_SECONDS_MAX)) refuse("out of range:", text);
    return (uint64_t)(value * 1e9);
}

static void copy_text(char *into, size_t size, const char *from, size_t length)
{
    if (length >= size) refuse("too long:", from);
    memcpy(into, from, length);
    into[length] = '\0';
}

/* nats://user:pass@host:port, nats://token@host:port, host:port, host. */
static void parse_url(struct load_opts *opts, const char *url)
{
    const char *rest = strstr(url, "://");
    rest = rest ? rest + 3 : url;
    const char *at = strrchr(rest, '@');
    if (at) {
        const char *colon = memchr(rest, ':', (size_t)(at - rest));
        if (colon) {
            copy_text(opts->user, sizeof(opts->user), rest, (size_t)(colon - rest));
            copy_text(opts->pass, sizeof(opts->pass), colon + 1, (size_t)(at - colon - 1));
        } else {
            copy_text(opts->token, sizeof(opts->token), rest, (size_t)(at - rest));
        }
        rest = at + 1;
    }
    size_t length = strcspn(rest, "/");
    const char *colon = memchr(rest, ':', length);
    if (rest[0] == '[') { /* an IPv6 address in brackets */
        const char *close = memchr(rest, ']', length);
        if (!close) refuse("bad address:", url);
        copy_text(opts->host, sizeof(opts->host), rest + 1, (size_t)(close - rest - 1));
        colon = close[1] == ':' ? close + 1 : NULL;
    } else {
        copy_text(opts->host, sizeof(opts->host), rest, colon ? (size_t)(colon - rest) : length);
    }
    if (colon) {
        copy_text(opts->port, sizeof(opts->port), colon + 1, (size_t)(rest + length - colon - 1));
    }
}

static enum load_workload workload_by_name(const char *name)
{
    for (uint32_t i = 0; i < LOAD_WORKLOAD_COUNT; i++) {
        if (strcmp(name, workload_names[i]) == 0) return (enum load_workload)i;
    }
    refuse("unknown workload:", name);
}

static enum load_stalled stalled_by_name(const char *name)
{
    if (strcmp(name, "none") == 0) return LOAD_STALLED_NONE;
    if (strcmp(name, "other") == 0) return LOAD_STALLED_OTHER;
    if (strcmp(name, "same") == 0) return LOAD_STALLED_SAME;
    refuse("not none, other or same:", name);
}

static enum load_mode mode_by_name(const char *name)
{
    if (strcmp(name, "push") == 0) return LOAD_MODE_PUSH;
    if (strcmp(name, "fetch") == 0) return LOAD_MODE_FETCH;
    if (strcmp(name, "ack") == 0) return LOAD_MODE_ACK;
    refuse("not push, fetch or ack:", name);
}

static void take_server(struct load_opts *o, int option, const char *arg)
{
    switch (option) {
    case 'H': copy_text(o->host, sizeof(o->host), arg, strlen(arg)); break;
    case 'p': copy_text(o->port, sizeof(o->port), arg, strlen(arg)); break;
    case OPT_URL: parse_url(o, arg); break;
    case OPT_USER: copy_text(o->user, sizeof(o->user), arg, strlen(arg)); break;
    case OPT_PASS: copy_text(o->pass, sizeof(o->pass), arg, strlen(arg)); break;
    case OPT_TOKEN: copy_text(o->token, sizeof(o->token), arg, strlen(arg)); break;
    case OPT_SERVER_PID: o->server_pid = (pid_t)number(arg, 1, INT32_MAX); break;
    default: exit(2); /* getopt has said why */
    }
}

static void take_option(struct load_opts *o, int option, const char *arg)
{
    switch (option) {
    case 'h': fputs(usage_text, stdout); exit(0);
    case 'q': o->quiet = true; break;
    case OPT_MSGS: o->msgs = number(arg, 1, UINT64_C(1) << 40); break;
    case OPT_SECONDS: o->duration_ns = seconds_ns(arg); break;
    case OPT_WARMUP: o->warmup_ns = seconds_ns(arg); break;
    case OPT_TIMEOUT: o->timeout_ns = seconds_ns(arg); break;
    case OPT_RATE: o->rate = number(arg, 1, 100000000); break;
    case OPT_CHURN_RATE: o->churn_rate = number(arg, 0, 100000000); break;
    case OPT_WINDOW: o->window_bytes = number(arg, 0, 65536) << 20; break;
    case OPT_CHURN_SAME: o->churn_same = true; break;
    case OPT_SIZE: o->size = (uint32_t)number(arg, 0, LOAD_SIZE_MAX); break;
    case OPT_PUBS: o->pubs = (uint32_t)number(arg, 1, LOAD_CONNS_MAX / 2); break;
    case OPT_SUBS: o->subs = (uint32_t)number(arg, 1, LOAD_CONNS_MAX / 2); break;
    case OPT_FANOUT: o->fanout = (uint32_t)number(arg, 1, 100000); break;
    case OPT_GROUPS: o->groups = (uint32_t)number(arg, 1, 1000); break;
    case OPT_SUBJECTS: o->subjects = (uint32_t)number(arg, 1, LOAD_SUBJECTS_MAX); break;
    case OPT_CONNS: o->conns = (uint32_t)number(arg, 1, LOAD_CONNS_MAX); break;
    case OPT_THREADS: o->threads = (uint32_t)number(arg, 1, LOAD_THREADS_MAX); break;
    case OPT_STALLED: o->stalled = stalled_by_name(arg); break;
    case OPT_SEED: o->seed = number(arg, 0, UINT64_MAX); break;
    case OPT_VERIFY: o->verify = true; break;
    case OPT_SPIN: o->spin = true; break;
    case OPT_STREAMS: o->streams = (uint32_t)number(arg, 1, LOAD_STREAMS_MAX); break;
    case OPT_INFLIGHT: o->inflight = (uint32_t)number(arg, 1, LOAD_INFLIGHT_MAX); break;
    case OPT_IN_MEMORY: o->in_memory = true; break;
    case OPT_CONSUMERS: o->consumers = (uint32_t)number(arg, 0, 1000000); break;
    case OPT_BATCH: o->batch = (uint32_t)number(arg, 1, LOAD_BATCH_MAX); break;
    case OPT_MODE: o->mode = mode_by_name(arg); break;
    case OPT_NO_FILL: o->fills = false; break;
    case OPT_KEEP: o->keeps = true; break;
    case OPT_DRAIN: o->drains = true; break;
    case OPT_SELFTEST: o->workload = LOAD_WORKLOAD_SELFTEST; break;
    case OPT_WORKLOAD: o->workload = workload_by_name(arg); break;
    default: take_server(o, option, arg); break;
    }
}

/* Those that store or read a number of messages rather than for a time. */
static bool is_by_count(const struct load_opts *o)
{
    return o->workload == LOAD_WORKLOAD_JSFILL || o->workload == LOAD_WORKLOAD_JSTAKE ||
           o->workload == LOAD_WORKLOAD_JSFIRST;
}

static bool is_jetstream(const struct load_opts *o)
{
    return o->workload >= LOAD_WORKLOAD_JSPUB && o->workload <= LOAD_WORKLOAD_KVGET;
}

static uint32_t subjects_of(const struct load_opts *o)
{
    if (o->workload == LOAD_WORKLOAD_SUBS) return 1000000;
    if (o->workload == LOAD_WORKLOAD_KVPUT || o->workload == LOAD_WORKLOAD_KVGET) return 10000;
    return is_jetstream(o) ? 1 : 50000;
}

/* A shape that was not given takes the one of its workload. */
static void fill_shape(struct load_opts *o)
{
    bool is_queue = o->workload == LOAD_WORKLOAD_QUEUE;
    if (o->pubs == 0) o->pubs = o->workload == LOAD_WORKLOAD_PAIRS ? 32 : 1;
    if (o->subs == 0) {
        o->subs = 1;
        if (is_queue) o->subs = 10;
        if (o->workload == LOAD_WORKLOAD_SUBJECTS) o->subs = 4;
    }
    if (o->groups == 0) o->groups = is_queue ? 3 : 1;
    if (o->subjects == 0) o->subjects = subjects_of(o);
    if (is_by_count(o) && o->msgs == 0) o->msgs = 100000;
    if (o->conns == 0) o->conns = o->workload == LOAD_WORKLOAD_IDLE ? 10000 : 64;
}

static void check_shape(const struct load_opts *o)
{
    if ((uint64_t)o->subs * o->groups > LOAD_CONNS_MAX) refuse("too many members of", "groups");
    if (o->workload == LOAD_WORKLOAD_LATENCY || o->verify) {
        if (o->size < LOAD_STAMP_BYTES) refuse("this needs a --size of at least", "16");
    }
    if (o->workload == LOAD_WORKLOAD_JSTAKE && o->mode == LOAD_MODE_PUSH && o->pubs > 1) {
        refuse("a push has one client, not", "--clients");
    }
    if (o->workload >= LOAD_WORKLOAD_JSTAKE && o->workload <= LOAD_WORKLOAD_KVGET &&
        o->streams > 1) {
        refuse("this reads one stream, not", "--streams");
    }
    if (o->workload == LOAD_WORKLOAD_SUBJECTS && o->subs > 1000) refuse("too many", "--subs");
    if (o->msgs == 0 && o->duration_ns == 0) refuse("nothing to measure:", "--seconds 0");
}

void load_opts_parse(struct load_opts *opts, int argc, char **argv)
{
    *opts = (struct load_opts){
        .workload = LOAD_WORKLOAD_COUNT,
        .host = "127.0.0.1",
        .port = "4222",
        .duration_ns = UINT64_C(3000000000),
        .warmup_ns = UINT64_C(500000000),
        .timeout_ns = UINT64_C(10000000000),
        .rate = 100000,
        .window_bytes = UINT64_C(8) << 20,
        .churn_rate = 20000,
        .size = 128,
        .fanout = 1,
        .threads = 1,
        .streams = 1,
        .inflight = 500,
        .batch = 500,
        .fills = true,
        .seed = 1,
    };
    int option;
    while ((option = getopt_long(argc, argv, "hp:q", long_options, NULL)) != -1) {
        take_option(opts, option, optarg);
    }
    if (optind < argc) opts->workload = workload_by_name(argv[optind++]);
    if (optind < argc) refuse("left over:", argv[optind]);
    if (opts->workload == LOAD_WORKLOAD_COUNT) refuse("which workload?", "");
    fill_shape(opts);
    check_shape(opts);
}

const char *load_opts_workload_name(enum load_workload workload)
{
    must(workload < LOAD_WORKLOAD_COUNT);
    return workload_names[workload];
}
