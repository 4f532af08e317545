"""What is compared: one row per workload, with the figures that are read from its runs.

A ratio is always written so that its target reads naturally: CPU as peer over ours (at least X),
rates as ours over peer (at least X), latencies as ours over peer (at most X). An absolute target
(memory, spread) looks at our figure alone.
"""
from dataclasses import dataclass

from . import stores

CPU, RATE, LATENCY, OURS = "cpu", "rate", "latency", "ours"


@dataclass(frozen=True)
class Figure:
    """One number of a run: where it is in the load generator's JSON, and what is wanted of it."""
    label: str
    path: tuple  # keys in the JSON object
    kind: str    # CPU: peer/ours >= target; RATE: ours/peer >=; LATENCY: ours/peer <=; OURS: ours <=
    unit: str
    target: float = None
    scale: float = 1.0
    per: tuple = None  # divide by the value at this path


@dataclass(frozen=True)
class Row:
    name: str
    title: str
    load: tuple            # arguments of the load generator
    figures: tuple
    seconds: float = None  # None: as asked for on the command line
    bench: tuple = None    # arguments of nats-bench, or None
    bench_target: float = None
    own: tuple = ()        # (label, row, path, target): our figure over ours of another row, at most
    count_syscalls: bool = False
    chart: bool = True     # shown in the chart
    server: tuple = ()     # arguments of both servers; {folder}: the run's own
    peer_config: str = ""  # configuration file of nats-server
    ours_config: str = ""  # of ours
    scenario: object = None    # of harness/stores.py: several runs against one server
    pairs_max: int = None      # the longest rows


def cpu(target, label="server CPU", path=("server", "cpu_ns_per_op"), unit="ns/msg"):
    return Figure(label, path, CPU, unit, target)


def rate(target=None, unit="msg/s"):
    return Figure("rate", ("per_second",), RATE, unit, target)


def machine():
    """All work of the machine, the client's included: shows what the process figure hides."""
    return Figure("whole machine CPU", ("machine", "busy_ns_per_op"), CPU, "ns/msg")


def quantile(name, label, target=None):
    return Figure(label, ("latency_ns", name), LATENCY, "us", target, scale=1e-3)


def flow(name, title, arguments, cpu_target, rate_target=None, **more):
    return Row(name, title, tuple(arguments.split()),
               (cpu(cpu_target), rate(rate_target), machine()), **more)


def latency(name, title, arguments, **more):
    return Row(name, title, tuple(("latency " + arguments).split()),
               (quantile("p50", "p50"), quantile("p99", "p99", 0.5),
                quantile("p999", "p99.9", 0.5), quantile("max", "max"),
                Figure("server CPU", ("server", "cpu_ns_per_op"), CPU, "ns/msg")), **more)


FAULTS = Figure("page faults", ("server", "minor_faults"), OURS, "per 1000 msg", 0.0005, 1000,
                ("operations",))

ROWS = (
    flow("pub16", "publish only, 16 B", "pub --size 16", 4, 3),
    flow("pub128", "publish only, 128 B", "pub", 4, 3),
    flow("one16", "1:1, 16 B", "pubsub --size 16", 4.5, 3,
         bench=("-np", "1", "-ns", "1", "-ms", "16", "-n", "3000000"), bench_target=1.3),
    Row("one128", "1:1, 128 B", ("pubsub",), (cpu(4.5), rate(3), machine(), FAULTS),
        bench=("-np", "1", "-ns", "1", "-ms", "128", "-n", "3000000"), bench_target=1.3,
        count_syscalls=True),
    flow("one1k", "1:1, 1 KiB", "pubsub --size 1024", 3, 1.7),
    flow("one64k", "1:1, 64 KiB", "pubsub --size 65536", 2, 1.4),
    flow("fan10", "fan-out 1:10, 128 B", "pubsub --subs 10", 4),
    flow("fan1000", "fan-out 1:1000, 128 B", "pubsub --subs 1000", 4),
    flow("pubs4", "4:1, 128 B", "pubsub --pubs 4", 3),
    flow("pubs64", "64:1, 128 B", "pubsub --pubs 64", 3),
    flow("four4", "4:4, 128 B", "pubsub --pubs 4 --subs 4", 3),
    flow("pairs", "32 pairs, 128 B", "pairs", 3),
    Row("queue", "queue groups, 1 to 3 x 10, 128 B", ("queue",),
        (cpu(4), rate(), machine(),
         Figure("spread over members", ("spread_percent",), OURS, "%", 5))),
    flow("subjects", "50 k subjects, 4 wildcard subscribers, 128 B", "subjects", 8),
    Row("subs", "1 M subscriptions", ("subs", "--size", "16"),
        (cpu(4, "insert: server CPU", ("insert_cpu_ns",), "ns/sub"),
         cpu(5, "match: server CPU"),
         Figure("insert: rate", ("insert_per_second",), RATE, "sub/s"),
         Figure("memory beyond the subject", ("rss_per_sub_beyond_subject",), OURS, "B/sub", 120))),
    Row("rr1", "request-reply, 1 client, 16 B", ("reqrep", "--size", "16"),
        (cpu(1.5, unit="ns/req"), rate(None, "req/s"), quantile("p50", "p50"),
         quantile("p99", "p99"))),
    Row("rr50", "request-reply, 50 clients x 2 services, 128 B",
        ("reqrep", "--clients", "50", "--services", "2"),
        (cpu(2, unit="ns/req"), rate(2, "req/s"), quantile("p50", "p50", 0.6),
         quantile("p99", "p99"))),
    Row("idle", "10 k idle connections", ("idle",),
        (Figure("memory (RSS)", ("rss_per_conn",), OURS, "B/conn", 2.5 * 1024),
         Figure("memory ratio", ("rss_per_conn",), CPU, "B/conn", 8)),
        chart=False),
    latency("lat", "100 k msg/s, 128 B, 1:1", "", chart=False),
    latency("lat_other", "the same beside a stalled reader on another subject",
            "--stalled other", seconds=6, chart=False,
            own=(("p99 against without", "lat", ("latency_ns", "p99"), 1.0),
                 ("p99.9 against without", "lat", ("latency_ns", "p999"), 1.0))),
    latency("lat_same", "the same beside a stalled reader on the same subject",
            "--stalled same", seconds=6, chart=False,
            own=(("p99 against without", "lat", ("latency_ns", "p99"), 1.0),
                 ("p99.9 against without", "lat", ("latency_ns", "p999"), 1.0))),
    Row("churn", "1:1, 128 B, beside 20 k SUB and UNSUB per second", ("churn",),
        (cpu(None), rate())),
    Row("storm", "connection storm, 64 at once", ("storm",),
        (cpu(None, unit="ns/conn"), rate(None, "conn/s"), quantile("p50", "p50"),
         quantile("p99", "p99"))),
)

# Both levels are named in each title: an acknowledgement of ours at `always` means "on disk", one
# of nats-server at its default means "in the page cache".
STORE = ("-js", "-sd", "{folder}/store")
SYNC_ALWAYS = "jetstream { sync_interval: always }"
SYNC_LATER = "jetstream { sync_interval: 2m }"  # nats-server's default


def acked(name, title, arguments, cpu_target=None, rate_target=None, p50_target=None, **more):
    figures = (cpu(cpu_target), rate(rate_target), machine(), quantile("p50", "p50", p50_target),
               quantile("p99", "p99"))
    return Row(name, title, tuple(("jspub " + arguments).split()), figures, server=STORE,
               chart=False, **more)


JETSTREAM_ROWS = (
    acked("js500", "file stream, 500 in flight, 128 B: `always` against its default",
          "--inflight 500", 5, 2),
    acked("js5000", "file stream, 5000 in flight, 128 B: `always` against its default",
          "--inflight 5000", 5, 2),
    acked("js500_always", "file stream, 500 in flight, 128 B: both `always`", "--inflight 500",
          None, 50, peer_config=SYNC_ALWAYS),
    acked("js1_always", "one synchronous publisher, 128 B: both `always`", "--inflight 1",
          None, None, 0.65, peer_config=SYNC_ALWAYS),
    acked("js1", "one synchronous publisher, 128 B: `always` against its default",
          "--inflight 1"),
    acked("js1_relaxed", "one synchronous publisher, 128 B: ours `sync_interval: 2m` against its default",
          "--inflight 1", None, None, 0.7, ours_config=SYNC_LATER),
    acked("js500_relaxed",
          "file stream, 500 in flight, 128 B: ours `sync_interval: 2m` against its default",
          "--inflight 500", ours_config=SYNC_LATER),
    acked("js64_always", "64 synchronous publishers on 64 streams, 128 B: both `always`",
          "--inflight 1 --pubs 64 --streams 64", None, 10, peer_config=SYNC_ALWAYS),
    acked("js500_mem", "memory stream, 500 in flight, 128 B", "--inflight 500 --in-memory"),
)



def part(label, name, *path, kind=CPU, unit="ns/msg", target=None, scale=1.0):
    """A figure of one of a scenario's runs."""
    return Figure(label, (name,) + path, kind, unit, target, scale)


def server_cpu(label, name, target, unit="ns/msg"):
    return part(label + ": server CPU", name, "server", "cpu_ns_per_op", unit=unit, target=target)


def consumed(label, name):
    return (server_cpu(label, name, 5),
            part(label + ": rate", name, "per_second", kind=RATE, unit="msg/s"))


def key_value(label, name):
    unit = "ns/put" if name.startswith("put") else "ns/get"
    return (server_cpu(label, name, 3, unit),
            part(label + ": rate", name, "per_second", kind=RATE, unit="/s"),
            part(label + ": p50", name, "latency_ns", "p50", kind=LATENCY, unit="us", scale=1e-3))


def first_message(label, figure, target):
    return (part(label, "first", figure, kind=OURS, unit="ms", target=target, scale=1e-3),
            part(label + ": ratio", "first", figure, kind=CPU, unit="ms", scale=1e-3))


def restart(target=1.5):
    return (part("restart after SIGKILL, to serving", "restart", "seconds", kind=OURS, unit="s",
                 target=target),
            part("restart: ratio", "restart", "seconds", kind=CPU, unit="s", target=5))


def bytes_of(label, name, target):
    return part(label, name, "bytes", kind=OURS, unit="B", target=target)


def scenario(name, title, run, figures, **more):
    return Row(name, title, ("scenario",), figures, server=STORE, chart=False, scenario=run, **more)


FILLED = ("fill", "server", "cpu_ns_per_op")
JETSTREAM_ROWS += (
    scenario("jsconsume", "reading a file stream, 128 B, our `always` against its default",
             stores.consume,
             consumed("ordered push", "push") + consumed("pull, fetch 500", "fetch") +
             consumed("explicit ack, 4 clients", "ack")),
    scenario("jskv", "Key-Value, 128 B: ours `sync_interval: 2m` against its default",
             stores.key_value,
             key_value("put, 1 client", "put1") + key_value("put, 16 clients", "put16") +
             key_value("get, 1 client", "get1") + key_value("get, 16 clients", "get16"),
             ours_config=SYNC_LATER),
    scenario("jskv_always", "Key-Value puts, 128 B: both `always`", stores.key_value_puts,
             key_value("put, 1 client", "put1") + key_value("put, 16 clients", "put16"),
             peer_config=SYNC_ALWAYS),
    scenario("jsbig", "10 M messages of 128 B over 1 M subjects, 5000 in flight", stores.big,
             (part("stored: rate", "fill", "per_second", kind=RATE, unit="msg/s"),
              part("stored: server CPU", *FILLED),
              part("bytes written per byte published, drained", "fill", "written_per_byte",
                   kind=OURS, unit="", target=3)) +
             first_message("new consumer to first message, literal filter", "literal_us", 5) +
             first_message("new consumer to first message, `a.>`", "all_us", 5) +
             first_message("new consumer to first message, from the middle", "middle_us", 5) +
             first_message("new consumer to first message, `a.*.7`", "star_us", None) +
             restart() +
             (part("cold replay: rate", "replay", "per_second", kind=RATE, unit="msg/s", target=3),
              server_cpu("cold replay", "replay", None)), pairs_max=2),
    scenario("jsmany", "10 k streams of 10 x 128 B, and 100 k on ours alone", stores.many,
             (part("stored: server CPU", *FILLED),) + restart(None) +
             (part("100 k streams: restart after SIGKILL, to serving", "restart_all", "seconds",
                   kind=OURS, unit="s", target=1.5),), pairs_max=1),
    scenario("jsmemory", "memory of what is stored, 128 B", stores.memory,
             (bytes_of("a message, not packed", "fresh", 24),
              bytes_of("a message, packed", "packed", 0.5),
              bytes_of("an idle stream", "stream", 4096),
              bytes_of("an idle consumer", "consumer", 512)), pairs_max=2),
    scenario("jskeys", "memory of a key of 11 B", stores.keys,
             (bytes_of("a key with its message", "key", 11 + 80),), pairs_max=2),
)

# What a second table, of other settings, is worth its time for: `--rows main`.
MAIN = ["one16", "one128", "one1k", "fan10", "pubs4", "four4", "pairs", "queue", "subjects", "rr1",
        "rr50", "lat"]

SYSCALLS_TARGET = 6.0  # per 1000 messages, row one128


def by_names(names):
    """The rows named in a comma-separated list, in table order; all of core for an empty one."""
    wanted = [n for n in (names or "").split(",") if n]
    if "main" in wanted:
        wanted += MAIN
    if not wanted:
        return list(ROWS)
    everything = ROWS + JETSTREAM_ROWS
    known = {row.name for row in everything} | {"main"}
    unknown = [n for n in wanted if n not in known]
    if unknown:
        raise SystemExit("unknown rows: %s (known: %s)" % (", ".join(unknown),
                                                           ", ".join(r.name for r in everything)))
    return [row for row in everything if row.name in wanted]
