#!/usr/bin/env python3
"""Everything at once, under a memory budget, for a minute: a crowd of idle connections, publishers
and subscribers that check every message, readers that do not read, clients that are killed in the
middle of a payload, garbage on every port, a reload each second, and lame duck mode at the end.

  soak_everything.py [seconds] [connections]      (60, 10000)
  MILLRACE_SERVER, MILLRACE_IO, MILLRACE_SHARDS pick what runs.

Fails when a checked subscriber misses a message, sees one twice or out of order (R1, R5: nobody
checked is slow), when the process grows past its budget, when descriptors are left over, when the
server serves nobody for two seconds (eight under a sanitizer), or when it does not end by itself with code 0.
"""
import asyncio
import contextlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time

import harness

SECONDS = int(sys.argv[1]) if len(sys.argv) > 1 else 60
CROWD = int(sys.argv[2]) if len(sys.argv) > 2 else 10000
LIMIT = 256 << 20
PAIRS = 8
LAST_CROWD = 500  # still there when lame duck mode begins
OTHERS = 8  # readers that were not let go yet, and the like
RATE_BATCH = 50
STUCK_S = 10 * harness.SLOW  # a publisher that cannot write for so long will never write again
GAP_S = 2 * harness.SLOW
CONFIG = """
max_process_memory: 256MB
lame_duck_duration: "30s"
lame_duck_grace_period: "1s"
write_deadline: "2s"
no_auth_user: guest
accounts: {
  A: { users: [ {user: guest, password: g}, {user: u%d, password: p} ] }
}
debug: %s
"""
HELLO = b'CONNECT {"verbose":false,"headers":true,"no_responders":true,"protocol":1}\r\n'


class Figures:
    sent = got = kills = slow = garbage = reloads = crowd = churn = 0
    longest_gap = 0.0
    faults = []


def fault(text):
    Figures.faults.append(text)


async def connect(port, hello=HELLO):
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    writer.write(hello)
    return reader, writer


class Pair:
    """A publisher and a subscriber that counts what comes."""

    def __init__(self, server, number, until):
        self.server, self.number, self.until = server, number, until
        self.sent = self.got = 0
        self.writers = []

    async def publish(self):
        reader, writer = await connect(self.server.port)
        self.writers.append(writer)
        asyncio.ensure_future(self.answer(reader, writer))
        while time.monotonic() < self.until:
            lines = []
            for _ in range(RATE_BATCH):
                body = b"%d" % self.sent + b" " + b"p" * random.choice((0, 10, 500, 9000))
                lines.append(b"PUB check.%d.%d %d\r\n%s\r\n" % (
                    self.number, self.sent % 97, len(body), body))
                self.sent += 1
            writer.write(b"".join(lines))
            await asyncio.wait_for(writer.drain(), STUCK_S)
            await asyncio.sleep(0.05)
        writer.write(b"PING\r\n")
        await asyncio.wait_for(writer.drain(), STUCK_S)

    async def answer(self, reader, writer):
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while line := await reader.readline():
                if line == b"PING\r\n":
                    writer.write(b"PONG\r\n")
                elif line.startswith(b"-ERR"):
                    fault("publisher: %r" % line)

    async def subscribe(self, is_ready):
        reader, writer = await connect(self.server.port)
        self.writers.append(writer)
        writer.write(b"SUB check.%d.> 1\r\nPING\r\n" % self.number)
        last = time.monotonic()
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            while line := await reader.readline():
                if line.startswith(b"MSG "):
                    body = await reader.readexactly(int(line.split()[-1]) + 2)
                    number = int(body.split(b" ", 1)[0])
                    if number != self.got:
                        fault("pair %d: got %d, not %d" % (self.number, number, self.got))
                        self.got = number
                    self.got += 1
                    now = time.monotonic()
                    if now - last > Figures.longest_gap and now < self.until:
                        Figures.longest_gap = now - last
                    last = now
                elif line == b"PING\r\n":
                    writer.write(b"PONG\r\n")
                elif line == b"PONG\r\n":
                    is_ready.set()
                elif line.startswith(b"-ERR"):
                    fault("subscriber: %r" % line)


async def idle_crowd(server, until):
    """Opens its connections in bursts, then closes and opens some all the time."""
    crowd = []

    async def one():
        with contextlib.suppress(OSError):
            r, w = await connect(server.port)
            w.write(b"SUB idle.%d.> 1\r\nSUB crowd g 2\r\n" % len(crowd))
            w.transport.pause_reading()
            crowd.append(w)
    while len(crowd) < CROWD and time.monotonic() < until:
        await asyncio.gather(*(one() for _ in range(200)))
    Figures.crowd = len(crowd)
    while time.monotonic() < until:
        for _ in range(20):
            w = crowd.pop(random.randrange(len(crowd)))
            w.transport.abort() if random.random() < 0.5 else w.close()
        await asyncio.gather(*(one() for _ in range(20)))
        Figures.churn += 20
        await asyncio.sleep(0.1)
    return crowd


async def slow_readers(server, until):
    """They subscribe to a flood and read nothing: the server lets go of them (R5c)."""
    kept = []
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            kept.append(await connect(server.port))
            w = kept[-1][1]
            w.transport.pause_reading()
            w.write(b"SUB flood.> 1\r\n")
            Figures.slow += 1
            await asyncio.sleep(0.5)
    for _, w in kept:
        w.transport.abort()


async def flood(server, until):
    data = b"PUB flood.a 20000\r\n" + b"f" * 20000 + b"\r\n"
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            _, w = await connect(server.port)
            while time.monotonic() < until and not w.is_closing():
                w.write(data * 10)
                await asyncio.wait_for(w.drain(), 10)
                await asyncio.sleep(0.02)


async def killed(server, until):
    """Ends in the middle of payloads, verbs and handshakes."""
    cuts = [b"PUB a 100000\r\n" + b"x" * 40000, b"PU", b"SUB kill.> 1\r\nPUB kill.a 5\r\nhel",
            b"HPUB a 12 20\r\nNATS/1.0\r\n", HELLO[:20]]
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            _, w = await connect(server.port)
            w.write(random.choice(cuts))
            await asyncio.sleep(0.01)
            w.transport.abort()
            Figures.kills += 1


async def garbage(server, until):
    ports = [server.port, server.http_port]
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            _, w = await connect(random.choice(ports), b"")
            w.write(random.choice([os.urandom(300), b"\x16\x03\x01\x02\x00" + os.urandom(200),
                                   b"GET /varz HTTP/1.1\r\nHost: a\r\n\r\n", b"GET /" + b"a" * 9000,
                                   b"PUB a 99999999999999999999\r\n", b"\r\n" * 50]))
            await asyncio.sleep(0.02)
            w.close()
            Figures.garbage += 1


async def reloads(server, until):
    n = 0
    while time.monotonic() < until:
        n += 1
        server.write_config(CONFIG % (n % 5, "true" if n % 2 else "false"))
        server.signal(signal.SIGHUP)
        Figures.reloads += 1
        await asyncio.sleep(1)


async def settle(server, before):
    """Descriptors of everybody who left are closed soon."""
    for _ in range(100):
        if server.descriptors() <= before:
            return
        await asyncio.sleep(0.1)
    fault("descriptors: %d before, %d after" % (before, server.descriptors()))


async def soak(server):
    before = server.descriptors()
    until = time.monotonic() + SECONDS
    pairs = [Pair(server, i, until) for i in range(PAIRS)]
    subscribers = []
    for p in pairs:
        is_ready = asyncio.Event()
        subscribers.append(asyncio.ensure_future(p.subscribe(is_ready)))
        await asyncio.wait_for(is_ready.wait(), 10)
    jobs = [idle_crowd(server, until), reloads(server, until), flood(server, until)]
    jobs += [slow_readers(server, until), garbage(server, until), killed(server, until)]
    jobs += [p.publish() for p in pairs]
    results = await asyncio.gather(*jobs, return_exceptions=True)
    for r in results:
        if isinstance(r, Exception):
            fault("a job ended with %r" % r)
    deadline = time.monotonic() + 2 * harness.SLOW
    while any(p.got != p.sent for p in pairs) and time.monotonic() < deadline:
        await asyncio.sleep(0.1)
    for p in pairs:
        if p.got != p.sent:
            fault("pair %d: sent %d, got %d" % (p.number, p.sent, p.got))
        Figures.sent += p.sent
        Figures.got += p.got
    if Figures.longest_gap > GAP_S:
        fault("nothing was delivered for %.2f s" % Figures.longest_gap)
    varz = server.page("/varz")
    if varz["slow_consumers"] == 0:
        fault("no slow consumer was found")
    crowd = results[0] if isinstance(results[0], list) else []
    keep = min(len(crowd), LAST_CROWD)
    for w in crowd[keep:]:
        w.transport.abort()
    await settle(server, before + keep + 2 * PAIRS + OTHERS)
    server.signal(signal.SIGUSR2)
    began = time.monotonic()
    # The server closes them one after another; after a while all others leave by themselves.
    while server.process.poll() is None and time.monotonic() - began < 40:
        await asyncio.sleep(0.1)
        if time.monotonic() - began > 10:
            for w in crowd[:keep]:
                w.transport.abort()
            for p in pairs:
                for w in p.writers:
                    w.transport.abort()
    return before, varz["slow_consumers"], time.monotonic() - began


async def main():
    folder = tempfile.mkdtemp(prefix="soak")
    shards = os.environ.get("MILLRACE_SHARDS", "1")
    server = harness.Server(folder, ("--shards", shards), config=CONFIG % (0, "false"),
                            monitor=True, log_to_file=True)
    highest = 0

    async def watch():
        nonlocal highest
        while server.process.poll() is None:
            with contextlib.suppress(OSError, StopIteration):
                highest = max(highest, server.memory("VmHWM"))
            await asyncio.sleep(0.2)
    watcher = asyncio.ensure_future(watch())
    _, slow, duck_s = await soak(server)
    await watcher
    if harness.SLOW == 1 and highest > LIMIT:
        fault("grew to %.1f MB" % (highest / (1 << 20)))
    if server.process.poll() != 0:
        fault("ended with %r" % server.process.poll())
        server.kill()
    log = server.log()
    if harness.SANITIZER_REPORT.search(log):
        fault("report of a sanitizer or an assertion:\n" + log[-4000:])
    print("%s, %s shards, %d s: crowd %d (+%d churned), %d of %d messages, longest gap %.2f s, "
          "%d slow readers (%d let go), %d killed, %d garbage, %d reloads, lame duck %.1f s, "
          "peak %.0f MB" % (harness.DRIVER, shards, SECONDS, Figures.crowd, Figures.churn,
                            Figures.got, Figures.sent, Figures.longest_gap, Figures.slow, slow,
                            Figures.kills, Figures.garbage, Figures.reloads, duck_s,
                            highest / (1 << 20)))
    for f in Figures.faults[:20]:
        print("FAULT", f)
    if not Figures.faults:
        shutil.rmtree(folder)
    else:
        print("log:", folder)
    return 1 if Figures.faults else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
