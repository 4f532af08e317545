"""Runs: one workload against one fresh server, and interleaved pairs of them."""
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from . import servers, stats

STEAL_MAX = 0.02       # of all CPU time in a run; above, the pair is run again
REPEATS_MAX = 3        # for one pair
STRACE_SECONDS = 1.0
LIMIT_SECONDS = 900    # for one run of anything


class Failed(Exception):
    """A run that gave no valid result; the text says why."""


class Plan:
    """The two servers and how they are run."""

    def __init__(self, ours, peer, load, nats_bench, pairs, seconds, warmup, placement, gomaxprocs,
                 messages=10_000_000):
        self.commands = {"ours": ours, "peer": peer}
        self.load, self.nats_bench = load, nats_bench
        self.pairs, self.seconds, self.warmup = pairs, seconds, warmup
        self.placement, self.gomaxprocs = placement, gomaxprocs
        self.messages = messages  # of the largest scenario

    def server(self, side, row):
        environment = {}
        if side == "peer" and self.gomaxprocs != "default":
            environment["GOMAXPROCS"] = self.gomaxprocs
        cpus = 0 if self.placement == "pinned" else None
        config = row.peer_config if side == "peer" else row.ours_config
        return servers.Server(self.commands[side], cpus, environment, row.server, config)

    def client(self, arguments):
        return (["taskset", "-c", "1"] if self.placement == "pinned" else []) + list(arguments)


def run_load(plan, server, row, extra=()):
    """One run of the load generator; its JSON. Failed if the run is not valid."""
    seconds = row.seconds or plan.seconds
    return load(plan, server, [*row.load, "--seconds", str(seconds), "--warmup", str(plan.warmup),
                               *extra])


def load(plan, server, words):
    arguments = [plan.load, *words, "--port", str(server.port), "--server-pid", str(server.pid),
                 "--quiet"]
    done = subprocess.run(plan.client(arguments), capture_output=True, text=True,
                          timeout=LIMIT_SECONDS)
    try:
        record = json.loads(done.stdout)
    except ValueError:
        raise Failed((done.stderr or "no answer from the load generator")[-200:]) from None
    if not record["ok"]:
        raise Failed(record.get("error") or "short by %d of %d" % (record["shortfall"],
                                                                   record["expected"]))
    return record


def run_scenario(plan, server, row):
    """Its runs by count take no notice of the time, those by time are as long as a row's."""
    def one(words):
        begin = time.monotonic()
        record = load(plan, server, [*words.split(), "--seconds", str(plan.seconds), "--warmup",
                                     str(plan.warmup)])
        print("    %s: %s: %.3g /s, %.1f s" % (row.name, words, record["per_second"],
                                               time.monotonic() - begin), file=sys.stderr)
        return record
    return row.scenario(server, one, plan.messages)


def run_side(plan, side, row):
    try:
        with plan.server(side, row) as server:
            run = run_scenario if row.scenario else run_load
            return run(plan, server, row)
    except (RuntimeError, subprocess.TimeoutExpired) as failure:
        raise Failed(str(failure)) from None


def steal_share(record):
    wall = record["wall_ns"] * (os.cpu_count() or 1)
    return record["machine"]["steal_ns"] / wall if wall else 0


def pressure():
    """The machine's own view: load average and stalled share of the last 10 s."""
    facts = {"loadavg": os.getloadavg()[0]}
    try:
        with open("/proc/pressure/cpu") as file:
            facts["psi_avg10"] = float(re.search(r"some avg10=([\d.]+)", file.read())[1])
    except (OSError, TypeError):
        pass
    return facts


def run_pair(plan, row, order):
    """Both sides in the given order; repeated while the hypervisor took too much."""
    for repeat in range(REPEATS_MAX + 1):
        pair = {"before": pressure(), "repeats": repeat}
        for side in order:
            pair[side] = run_side(plan, side, row)
        if max(steal_share(pair["ours"]), steal_share(pair["peer"])) <= STEAL_MAX:
            break
    return pair


def run_row(plan, row, progress):
    """All pairs of a row, ABBA. A failure ends the row and is kept: losses are published."""
    result = {"pairs": [], "error": None}
    for index in range(row.pairs_max and min(plan.pairs, row.pairs_max) or plan.pairs):
        order = ("peer", "ours") if index % 4 in (0, 3) else ("ours", "peer")
        try:
            pair = run_pair(plan, row, order)
        except Failed as failure:
            result["error"] = str(failure)
            progress(row, index, None, str(failure))
            break
        result["pairs"].append(pair)
        progress(row, index, pair, None)
    return result


# --- nats-bench: what a user with Go clients sees ------------------------------------------------

def parse_bench(text):
    """Messages per second of all clients together, publishers and subscribers."""
    match = re.search(r"Pub/Sub stats: ([\d,]+) msgs/sec", text)
    if not match:
        raise Failed("nats-bench: " + text[-200:])
    return int(match[1].replace(",", ""))


def run_bench(plan, side, row):
    try:
        with plan.server(side, row) as server:
            arguments = [plan.nats_bench, "-s", "nats://127.0.0.1:%d" % server.port, *row.bench,
                         "compare"]
            done = subprocess.run(plan.client(arguments), capture_output=True, text=True,
                                  timeout=LIMIT_SECONDS)
    except (RuntimeError, subprocess.TimeoutExpired) as failure:
        raise Failed(str(failure)) from None
    return parse_bench(done.stdout + done.stderr)


def run_bench_row(plan, row, progress):
    result = {"pairs": [], "error": None}
    for index in range(plan.pairs):
        order = ("peer", "ours") if index % 4 in (0, 3) else ("ours", "peer")
        try:
            pair = {side: run_bench(plan, side, row) for side in order}
        except Failed as failure:
            result["error"] = str(failure)
            break
        result["pairs"].append(pair)
        progress(row, index, None, "nats-bench %d : %d /s" % (pair["peer"], pair["ours"]))
    return result


# --- system calls per 1000 messages --------------------------------------------------------------

def count_syscalls(plan, side, row):
    """strace -c on a short run at saturation; None without strace."""
    strace = shutil.which("strace")
    if not strace:
        return None
    with plan.server(side, row) as server, tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "counts")
        tracer = subprocess.Popen([strace, "-c", "-f", "-q", "-p", str(server.pid), "-o", path],
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            time.sleep(0.5)
            record = run_load(plan, server, row, ("--seconds", str(STRACE_SECONDS), "--warmup",
                                                  "0"))
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait(servers.STOP_SECONDS)
        with open(path) as file:
            calls = total_calls(file.read())
    return calls * 1000 / record["operations"] if record["operations"] else None


def total_calls(text):
    """The calls column of strace's last line ("100.00 seconds usecs/call calls errors total")."""
    for line in reversed(text.splitlines()):
        fields = line.split()
        if fields and fields[-1] == "total":
            return int(fields[3])
    raise Failed("strace: no total in its answer")


class Progress:
    """One line per pair on stderr, with the time that is left."""

    def __init__(self, total):
        self.total, self.done, self.begin = total, 0, time.monotonic()

    def __call__(self, row, index, pair, text):
        self.done += 1
        if pair and row.figures:
            figure = row.figures[0]
            peer = stats.figure_value(figure, pair["peer"])
            ours = stats.figure_value(figure, pair["ours"])
            value = stats.ratio(figure.kind, ours, peer)
            text = "%s  peer %.5g  ours %.5g %s%s" % (
                figure.label, peer or 0, ours or 0, figure.unit,
                "  ratio %.2f" % value if value else "")
        spent = time.monotonic() - self.begin
        left = spent / self.done * max(self.total - self.done, 0)
        print("[%d/%d, %d:%02d left] %s pair %d: %s" % (self.done, self.total, left // 60, left % 60,
                                                        row.name, index + 1, text),
              file=sys.stderr, flush=True)
