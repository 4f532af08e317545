#!/usr/bin/env python3
"""JetStream in mixed use for as long as one likes, at a moderate rate and under a memory budget.

  soak_jetstream.py [seconds] [pace] [megabytes]
                      (120; 0.02: what each worker rests after each thing; 512: the memory budget)
  MILLRACE_SERVER, MILLRACE_IO, MILLRACE_SHARDS pick what runs; SIGINT ends the time early.

The workers of tests/fault/load.py (publishers with message ids, a work queue, acks with an answer,
compare-and-set on keys, erasing, purging) work in rounds: after each their connections are cut, and
everything that is stored is read and held against all that they were told. Beside them, for the
whole time: a memory stream with a subscriber that checks its order, a bucket that is put to, got
from and watched, an object store, messages as large as may be into a file and a memory stream,
readers that do not read, consumers and streams that come and go, a reload now and then, and
questions of administrators. At the end the server is stopped and started: it must have what it had.

Fails when anything acknowledged is lost (or the other things that load.py knows), when the process
grows past its budget, when memory is higher at the end of the time than at its quarter (the lowest
tenth of the second and of the last quarter: what lies above comes and goes with readers that do not
read; from five minutes on, since message ids are kept for two), when
the disk holds more than a bound that does not depend on the time, when descriptors or memory for
streams are left over after all clients and streams are gone, or when it does not end with code 0.
"""
import asyncio
import contextlib
import hashlib
import itertools
import json
import os
import re
import shutil
import signal
import statistics
import sys
import tempfile
import time
import traceback

sys.path.append(os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "fault"))
import harness  # noqa: E402
import load  # noqa: E402
from load import Client, Gone, ack_of  # noqa: E402

SECONDS = int(sys.argv[1]) if len(sys.argv) > 1 else 120
PACE = float(sys.argv[2]) if len(sys.argv) > 2 else 0.02
BUDGET = int(sys.argv[3]) if len(sys.argv) > 3 else 512
LIMIT = BUDGET << 20
ROUND_S = 20
SETTLE_S = 0.5 * harness.SLOW  # what a connection that was cut had sent is carried out
SLOPE_FROM_S = 300
SLOPE_BYTES = 24 << 20
LEFT_BYTES = 1 << 20  # of a class of memory, once everything is deleted
LEFT_FILES = 40       # of the store, which keeps some open
# Streams hold 300 MB at most. A log has its segments on top: some being made, some to be packed.
DISK_BYTES = 1400 << 20
BIG = 1000000
CHUNK = 128 << 10
CONFIG = """
max_process_memory: %dMB
write_deadline: "2s"
debug: %s
jetstream { max_file_store: 4GB, max_memory_store: 256MB }
"""


class Soak:
    def __init__(self, server):
        self.server = server
        self.m = load.Memory(int(os.environ.get("MILLRACE_SEED", "1")), PACE)
        self.until = time.monotonic() + SECONDS
        self.rss, self.disk, self.cpu = [], [], []
        self.names = itertools.count(1)
        self.objects = {}

    def is_on(self):
        return time.monotonic() < self.until

    def wrong(self, kind, text):
        self.m.is_wrong(kind, text)

    @contextlib.asynccontextmanager
    async def client(self):
        c = await Client.connect(self.server.port)
        try:
            yield c
        finally:
            c.cut()

    async def each(self, seconds):
        """Waits; whether there is more time."""
        end = min(self.until, time.monotonic() + seconds)
        while (left := min(end, self.until) - time.monotonic()) > 0:
            await asyncio.sleep(min(left, 1))
        return self.is_on()

    def end(self):
        self.until = time.monotonic()


async def ok(c, subject, body=None):
    r = await c.api(subject, body)
    assert "error" not in r, (subject, r)
    return r


async def watch(c, stream, take, **config):
    """A consumer that pushes to this connection."""
    inbox = "_W.%d.%d" % (id(c), c.count)
    c.subscribe(inbox, take)
    r = await ok(c, "CONSUMER.CREATE." + stream, {"stream_name": stream, "config": {
        "deliver_subject": inbox, "ack_policy": "none", "inactive_threshold": 2000000000,
        "mem_storage": True, **config}})
    return r["name"]


async def pull(c, stream, name):
    """One message, or the status that says why not."""
    answer = asyncio.get_running_loop().create_future()
    inbox = "_P.%d.%d" % (id(c), c.count)
    c.subscribe(inbox, lambda r: answer.done() or answer.set_result(r))
    c.publish("$JS.API.CONSUMER.MSG.NEXT.%s.%s" % (stream, name), b'{"batch":1,"no_wait":true}',
              inbox)
    await asyncio.wait((answer, c.gone), timeout=30, return_when="FIRST_COMPLETED")
    if not answer.done() and c.gone.done():
        raise Gone
    return await asyncio.wait_for(answer, 0)


# --- workers: each runs until the time is over, on connections of its own


async def memory_stream(s):
    """What is acknowledged reaches the subscriber once, in order, with its bytes."""
    number = 0
    while s.is_on():
        async with s.client() as c:
            expected = asyncio.Queue()
            seen = []

            def take(r):
                if r.status() == 0:
                    seen.append((int(r.reply.split(".")[5]), r.data))
            name = await watch(c, "MEM", take, deliver_policy="new")
            end = time.monotonic() + 10
            while time.monotonic() < end and s.is_on():
                await asyncio.sleep(PACE * 5)
                answers = []
                for _ in range(5):
                    number += 1
                    body = b"%d " % number + b"m" * s.m.dice.choice((10, 200, 8000))
                    answers.append((body, c.request("mem.%d" % (number % 50), body)))
                for body, answer in answers:
                    seq, _, error = ack_of(await answer)
                    if seq == 0:
                        s.m.count("refused")
                        s.wrong("refused", "MEM: %d" % error)
                    else:
                        expected.put_nowait((seq, body))
                        s.m.count("acknowledged")
            for _ in range(100 * harness.SLOW):
                if len(seen) >= expected.qsize():
                    break
                await asyncio.sleep(0.05)
            told = [expected.get_nowait() for _ in range(expected.qsize())]
            if seen != told:
                s.wrong("lost", "MEM: %d told, %d delivered; first difference %s" % (
                    len(told), len(seen), next(((a[0], b[0]) for a, b in zip(told, seen)
                                                if a != b), "at the end")))
            s.m.count("delivered", len(seen))
            await c.api("CONSUMER.DELETE.MEM." + name)


async def bucket(s):
    """Puts, gets and a watcher that must hear of each put."""
    values = {}
    while s.is_on():
        async with s.client() as c:
            heard = {}
            wake = asyncio.Event()

            def take(r):
                heard[int(r.reply.split(".")[5])] = (r.subject, r.data)
                wake.set()
            await watch(c, "KV_W", take, deliver_policy="last_per_subject",
                        filter_subject="$KV.W.>")
            end = time.monotonic() + 15
            while time.monotonic() < end and s.is_on():
                await s.m.rest()
                key = "$KV.W.k%d" % s.m.dice.randrange(2000)
                is_delete = s.m.dice.random() < 0.1
                body = b"" if is_delete else b"v" * s.m.dice.choice((5, 100, 3000))
                headers = {"KV-Operation": "DEL"} if is_delete else None
                seq, _, error = ack_of(await c.request(key, body, headers))
                if seq == 0:
                    s.wrong("refused", "KV_W: %d" % error)
                    continue
                values[key] = (seq, body)
                s.m.count("acknowledged")
                limit = time.monotonic() + 10 * harness.SLOW
                while seq not in heard and time.monotonic() < limit:
                    wake.clear()
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(wake.wait(), 1)
                if heard.get(seq) != (key, body):
                    s.wrong("lost", "the watcher was not told of revision %d" % seq)
                heard.clear()
                key = s.m.dice.choice(list(values))
                r = await c.request("$JS.API.DIRECT.GET.KV_W." + key)
                if (int(r.header("Nats-Sequence") or 0), r.data) != values[key]:
                    s.wrong("lost", "%s is %s, was %s" % (key, r.headers[:200], values[key][0]))
                s.m.count("gets")


async def read_object(s, c, name, size):
    """Its chunks by an ordered push consumer with flow control."""
    done = asyncio.get_running_loop().create_future()
    digest, got = hashlib.sha256(), [0, 0]

    def take(r):
        if r.status() == 100:
            if r.reply:
                c.publish(r.reply, b"")
            return
        got[0] += len(r.data)
        got[1] += 1
        digest.update(r.data)
        if got[0] >= size and not done.done():
            done.set_result(None)
    consumer = await watch(c, "OBJ_O", take, filter_subject="$O.O.C." + name,
                           flow_control=True, idle_heartbeat=1000000000)
    await asyncio.wait((done, c.gone), timeout=30 * harness.SLOW, return_when="FIRST_COMPLETED")
    await c.api("CONSUMER.DELETE.OBJ_O." + consumer)
    return got[0], digest.digest()


async def objects(s):
    """Objects of some megabytes are put in pieces, read back and deleted."""
    kept = s.objects
    while await s.each(50 * PACE):
        async with s.client() as c:
            name, size = "o%d" % next(s.names), s.m.dice.randrange(1, 3 << 20)
            data = os.urandom(1 << 16) * (size // (1 << 16) + 1)
            digest = hashlib.sha256(data[:size]).digest()
            for at in range(0, size, CHUNK):
                seq, _, error = ack_of(await c.request("$O.O.C." + name,
                                                       data[at:min(size, at + CHUNK)]))
                if seq == 0:
                    s.wrong("refused", "OBJ_O: %d" % error)
                await s.m.rest()
            await c.request("$O.O.M." + name, b"{}", {"Nats-Rollup": "sub"})
            kept[name] = (size, digest)
            s.m.count("objects")
            name = s.m.dice.choice(list(kept))
            if await read_object(s, c, name, kept[name][0]) != kept[name]:
                s.wrong("lost", "object %s of %d bytes is not what was put" % (
                    name, kept[name][0]))
            while len(kept) > 12:
                name = next(iter(kept))
                del kept[name]
                await ok(c, "STREAM.PURGE.OBJ_O", {"filter": "$O.O.C." + name})
                await c.request("$O.O.M." + name, b'{"deleted":true}', {"Nats-Rollup": "sub"})


async def big(s, stream, subject):
    """Messages as large as may be; what a limit did not remove is there, byte for byte."""
    kept = {}
    while await s.each(100 * PACE):
        async with s.client() as c:
            for _ in range(5):
                body = os.urandom(1000) * (BIG // 1000)
                seq, _, error = ack_of(await c.request(subject, body))
                if seq == 0:
                    s.wrong("refused", "%s: %d" % (stream, error))
                    continue
                kept[seq] = hashlib.sha256(body).digest()
                s.m.count("big")
                await s.each(10 * PACE)
            first = (await ok(c, "STREAM.INFO." + stream))["state"]["first_seq"]
            kept = {q: d for q, d in kept.items() if q >= first}
            for seq in s.m.dice.sample(list(kept), min(3, len(kept))):
                r = await c.request("$JS.API.DIRECT.GET." + stream,
                                    json.dumps({"seq": seq}).encode())
                if hashlib.sha256(r.data).digest() != kept[seq]:
                    state = (await ok(c, "STREAM.INFO." + stream))["state"]
                    if seq >= state["first_seq"]:
                        s.wrong("lost", "%s %d: %s" % (stream, seq, r.headers[:100]))


async def slow_readers(s):
    """They ask for everything, and read nothing."""
    while s.is_on():
        clients = []
        for stream in ("BIG", "BIGMEM", "LOG"):
            async with s.client() as c:
                clients.append(await Client.connect(s.server.port))
                await watch(clients[-1], stream, lambda r: None, deliver_policy="all")
            clients[-1].transport.pause_reading()
            s.m.count("slow readers")
        await s.each(4)
        for c in clients:
            c.cut()
        await s.each(50 * PACE)


async def consumers(s):
    """Made, used and deleted, or left to the server."""
    while s.is_on():
        async with s.client() as c:
            for _ in range(10):
                if not await s.each(5 * PACE):
                    return
                number = next(s.names)
                stream, name = s.m.dice.choice(("LOG", "MEM", "BIG")), "c%d" % number
                config = {"name": name, "ack_policy": "explicit", "deliver_policy": "last",
                          "inactive_threshold": 15000000000}
                if number % 3 == 0:
                    config.update(durable_name=name, inactive_threshold=0)
                elif number % 3 == 1:
                    config.update(filter_subject="log.1" if stream == "LOG" else "mem.%d" % (
                        number % 50) if stream == "MEM" else "big")
                await ok(c, "CONSUMER.CREATE.%s.%s" % (stream, name),
                         {"stream_name": stream, "config": config})
                r = await pull(c, stream, name)
                if r.status() == 0:
                    c.publish(r.reply, b"+ACK")
                if number % 3 == 0 or number % 2 == 0:
                    await ok(c, "CONSUMER.DELETE.%s.%s" % (stream, name))
                s.m.count("consumers")


async def streams(s):
    while await s.each(20 * PACE):
        async with s.client() as c:
            number = next(s.names)
            name = "T%d" % number
            await load.make_stream(c, name, subjects=[name + ".>"],
                                   storage="memory" if number % 2 else "file")
            await ok(c, "CONSUMER.DURABLE.CREATE.%s.d" % name, {"stream_name": name, "config": {
                "durable_name": "d", "ack_policy": "explicit"}})
            answers = [c.request("%s.%d" % (name, i), b"t" * 500) for i in range(30)]
            acks = [ack_of(await answer) for answer in answers]
            s.m.count("acknowledged", sum(seq != 0 for seq, _, _ in acks))
            for error in (e for _, _, e in acks if e != 0):
                s.wrong("refused", "%s: %d" % (name, error))
                raise Gone  # it is not what it should be, and stays so
            await ok(c, "STREAM.PURGE." + name, {"keep": 5})
            state = (await ok(c, "STREAM.INFO." + name))["state"]
            if (state["messages"], state["last_seq"]) != (5, 30):
                s.wrong("lost", "%s: %s" % (name, state))
            await ok(c, "STREAM.DELETE." + name)
            s.m.count("streams")


async def administrators(s):
    number = 0
    while await s.each(2):
        number += 1
        async with s.client() as c:
            await ok(c, "STREAM.LIST")
            await ok(c, "CONSUMER.LIST.LOG")
            await ok(c, "INFO")
        for page in ("/jsz?streams=true&consumers=true&config=true", "/varz", "/connz?subs=1"):
            await asyncio.get_running_loop().run_in_executor(None, s.server.page, page)
        if number % 10 == 0:
            s.server.write_config(CONFIG % (BUDGET, "true" if number % 20 else "false"))
            s.server.signal(signal.SIGHUP)
            s.m.count("reloads")


async def rounds(s, work):
    """The workers of load.py."""
    while s.is_on():
        running = await work.start(s.server.port)
        await s.each(ROUND_S)
        for c, _ in running:
            c.cut()
        await asyncio.gather(*(task for _, task in running))
        await asyncio.sleep(SETTLE_S)
        await work.check(s.server.port)
        s.m.count("rounds")


# --- what the server takes


def disk_bytes(folder):
    total = 0
    for path, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                total += os.stat(os.path.join(path, name)).st_blocks * 512
    return total


def cpu_seconds(server):
    with open("/proc/%d/stat" % server.pid, encoding="ascii") as f:
        words = f.read().rsplit(")", 1)[1].split()
    return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")


def classes(server):
    """Memory by what it is for."""
    _, _, text = server.http("/metrics")
    return {k: int(float(v)) for k, v in
            re.findall(r'millrace_memory_bytes\{[^}]*class="(\w+)"[^}]*\} (\S+)', text)}


async def sample(s, folder):
    while s.is_on():
        s.rss.append(s.server.memory())
        if len(s.rss) % 5 == 0:
            s.disk.append(disk_bytes(folder))
        if len(s.rss) % 60 == 0:
            print("%5d s: %.1f MB resident, %.0f MB on disk, %.1f s cpu, %s %s" % (
                len(s.rss), s.rss[-1] / (1 << 20), s.disk[-1] / (1 << 20), cpu_seconds(s.server),
                s.m.counts, s.m.wrong), flush=True)
        await s.each(1)


async def again_and_again(s, job):
    """A short budget closes connections, and refuses new ones: that is said, and tried again."""
    while s.is_on():
        try:
            await job(s)
        except (Gone, ConnectionError):
            s.m.count("closed")
            await s.each(1)


async def make_streams(c):
    await load.make_stream(c, "MEM", subjects=["mem.>"], storage="memory", max_msgs=20000,
                           max_bytes=16 << 20)
    await load.make_stream(c, "KV_W", subjects=["$KV.W.>"], max_msgs_per_subject=3,
                           allow_rollup_hdrs=True, discard="new")
    await load.make_stream(c, "OBJ_O", subjects=["$O.O.>"], max_bytes=80 << 20,
                           allow_rollup_hdrs=True, discard="new")
    await load.make_stream(c, "BIG", subjects=["big"], max_bytes=60 << 20)
    await load.make_stream(c, "BIGMEM", subjects=["bigmem"], max_bytes=40 << 20, storage="memory")


async def all_states(c):
    names = (await ok(c, "STREAM.NAMES"))["streams"]
    out = {}
    for name in names:
        r = await ok(c, "STREAM.INFO." + name)
        if r["config"]["storage"] == "file":
            out[name] = {k: v for k, v in r["state"].items()
                         if "ts" not in k and k != "consumer_count"}
    return out


async def again(s, start):
    """Stopped and started: the same streams hold the same."""
    async with s.client() as c:
        before = await all_states(c)
    code = s.server.stop()
    if code != 0:
        s.wrong("end", "code %d" % code)
    s.server = start()
    async with s.client() as c:
        after = await all_states(c)
    if after != before:
        s.wrong("lost", "a restart: %s, was %s" % (after, before))


async def empty(s, files, memory):
    """Without streams and clients nothing is left over."""
    async with s.client() as c:
        for name in (await ok(c, "STREAM.NAMES"))["streams"]:
            await ok(c, "STREAM.DELETE." + name)
    left = None
    for _ in range(100):
        left = s.server.descriptors() - files
        more = {k: v - memory.get(k, 0) for k, v in classes(s.server).items()
                if k in ("jetstream", "interest", "route", "mail", "output", "connection")}
        if left <= LEFT_FILES and max(more.values()) <= LEFT_BYTES:
            break
        await asyncio.sleep(0.1)
    else:
        s.wrong("left over", "%d descriptors, memory %s" % (left, more))
    return left, more


def judge(s):
    quarter = len(s.rss) // 4
    early = statistics.quantiles(s.rss[quarter:2 * quarter], n=10)[0]
    late = statistics.quantiles(s.rss[-quarter:], n=10)[0]
    peak = s.server.memory("VmHWM")
    if harness.SLOW == 1 and peak > LIMIT:
        s.wrong("memory", "grew to %.1f MB" % (peak / (1 << 20)))
    if harness.SLOW == 1 and len(s.rss) >= SLOPE_FROM_S and late > early + SLOPE_BYTES:
        s.wrong("memory", "%.1f MB in the last quarter, %.1f MB in the second" % (
            late / (1 << 20), early / (1 << 20)))
    if max(s.disk) > DISK_BYTES:
        s.wrong("disk", "%.0f MB" % (max(s.disk) / (1 << 20)))
    if s.m.counts.get("refused"):
        s.wrong("refused", "%d publishes" % s.m.counts["refused"])
    return "resident %.1f MB in the second quarter, %.1f MB in the last, peak %.1f MB; disk %.0f " \
        "MB at most, %.0f MB at the end" % tuple(
            x / (1 << 20) for x in (early, late, peak, max(s.disk), s.disk[-1]))


async def main():
    folder = tempfile.mkdtemp(prefix="soak")
    shards = os.environ.get("MILLRACE_SHARDS", "2")
    store = os.path.join(folder, "store")

    def start():
        return harness.Server(os.path.join(folder, "run"), ("--shards", shards, "-sd", store),
                              config=CONFIG % (BUDGET, "false"), monitor=True, log_to_file=True)
    s = Soak(start())
    asyncio.get_running_loop().add_signal_handler(signal.SIGINT, s.end)
    s.server.page("/varz")
    files, memory = s.server.descriptors(), classes(s.server)
    work = load.Load(s.m)
    await work.make(s.server.port)
    async with s.client() as c:
        await make_streams(c)
    jobs = [rounds(s, work), sample(s, store)] + [again_and_again(s, job) for job in (
        memory_stream, bucket, objects, lambda s: big(s, "BIG", "big"),
        lambda s: big(s, "BIGMEM", "bigmem"), slow_readers, consumers, streams, administrators)]
    for r in await asyncio.gather(*jobs, return_exceptions=True):
        if isinstance(r, Exception):
            s.wrong("a job ended", "".join(traceback.format_exception(r)[-4:]))
    cpu = cpu_seconds(s.server)
    figures = judge(s)
    await work.drain(s.server.port)
    await again(s, start)
    await work.check(s.server.port)
    left, more = await empty(s, files, memory)
    code = s.server.stop()
    if code != 0:
        s.wrong("end", "code %d" % code)
    print("%s, %s shards, %d s: %s" % (harness.DRIVER, shards, len(s.rss), ", ".join(
        "%s %d" % i for i in sorted(s.m.counts.items()))))
    print("%s; %.0f s cpu; left over: %d descriptors, memory %s" % (figures, cpu, left, more))
    for text in s.m.examples:
        print("  " + text)
    if s.m.wrong:
        print("WRONG: %s; log: %s" % (s.m.wrong, folder))
        return 1
    shutil.rmtree(folder)
    print("nothing was lost, nothing is left over")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
