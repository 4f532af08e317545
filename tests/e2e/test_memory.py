"""max_process_memory: whatever clients do, the process does not grow past it, and it serves on."""
import contextlib
import http.client
import json
import re
import resource
import signal
import socket
import threading
import time

import pytest

import harness
from jetstream import Js

pytestmark = pytest.mark.ours_only
LIMIT = 256 << 20
SANITIZED = harness.SLOW > 1  # shadow memory counts as resident: figures mean nothing there


def check(server):
    """The peak so far is within the limit, and a new client is served."""
    peak = server.memory("VmHWM")
    assert SANITIZED or peak <= LIMIT, "grew to %.1f MB\n%s" % (
        peak / (1 << 20), server.log()[-2000:])

    def serves():
        with contextlib.suppress(AssertionError, OSError):
            with server.connect() as c:
                c.sub("check.me").pub("check.me", "x").ping()
                return True
        return False
    harness.wait_until(serves, what="a new client to be served\n" + server.log()[-3000:])
    return peak


def stubborn(server, text, rcvbuf=4096):
    """A client that says text and never reads."""
    c = server.client(rcvbuf=rcvbuf)
    c.send_connect().send(text)
    return c


@pytest.mark.skipif(SANITIZED, reason="shadow memory counts as resident")
def test_room_for_many_connections_costs_nothing_before_they_come(start):
    few, many = (start(config="max_connections: %d\n" % n) for n in (100, 60000))
    spent = many.memory("RssAnon") - few.memory("RssAnon")
    assert spent < 1 << 20, "%d KiB" % (spent >> 10)


class Pump(threading.Thread):
    """Sends the same bytes until told to stop; a server that does not take them is fine."""

    def __init__(self, server, data, seconds):
        super().__init__(daemon=True)
        self.client, self.data = server.connect(), data
        self.until = time.monotonic() + seconds
        self.sent = 0
        self.start()

    def run(self):
        s = self.client.socket
        s.settimeout(0.2)
        view = memoryview(self.data)
        at = 0
        with contextlib.suppress(OSError):
            while time.monotonic() < self.until:
                try:
                    n = s.send(view[at:at + (1 << 20)])
                except (TimeoutError, socket.timeout):
                    continue
                self.sent += n
                at = (at + n) % len(self.data)
        self.client.close()


def serve(start, *args, config=None):
    return start("--max_process_memory", "256MB", *args, config=config, monitor=True)


def test_slow_consumers(start):
    server = serve(start)
    slow = [stubborn(server, "SUB load.> 1\r\n") for _ in range(12)]
    healthy = server.connect()
    healthy.sub("load.>").ping()
    pumps = [Pump(server, b"PUB load.a 16000\r\n" + b"x" * 16000 + b"\r\n", 4) for _ in range(2)]
    got = 0
    until = time.monotonic() + 4
    while time.monotonic() < until:
        with contextlib.suppress(TimeoutError, socket.timeout):
            got += len(healthy.socket.recv(1 << 20))
    for p in pumps:
        p.join()
    assert got > 1 << 20
    for s in slow:
        s.close()
    healthy.close()
    check(server)
    assert server.page("/varz")["slow_consumer_stats"]["clients"] > 0


def test_small_messages_to_many_that_do_not_read(start):
    server = serve(start)
    slow = [stubborn(server, "SUB load.> 1\r\n") for _ in range(300)]
    pump = Pump(server, b"PUB load.a 100\r\n" + b"x" * 100 + b"\r\n" +
                b"PUB load.b 9\r\n123456789\r\n" * 50, 4)
    pump.join()
    assert pump.sent > 100000
    assert SANITIZED or server.memory("VmHWM") <= LIMIT
    for s in slow:
        s.close()
    check(server)


def test_large_payloads(start):
    server = serve(start, config="max_payload: 64MB\n")
    sub = stubborn(server, "SUB big 1\r\n")
    mine = server.connect()
    mine.sub("big").ping()
    body = b"PUB big 62914560\r\n" + b"x" * 62914560 + b"\r\n"
    pumps = [Pump(server, body, 6) for _ in range(6)]
    until = time.monotonic() + 6
    got = 0
    while time.monotonic() < until:
        with contextlib.suppress(TimeoutError, socket.timeout, OSError):
            data = mine.socket.recv(1 << 20)
            got += len(data)
            if not data:
                break
    for p in pumps:
        p.join()
    sub.close()
    mine.close()
    check(server)


def test_announced_sizes_cost_nothing(start):
    server = serve(start, config="max_payload: 64MB\n")
    claims = [stubborn(server, "PUB big 62914560\r\nabc") for _ in range(200)]
    with server.connect() as c:
        c.sub("a").pub("a", b"x" * 1000000).ping()
    check(server)
    for c in claims:
        c.close()


def test_half_sent_payloads_give_way(start):
    """Nobody is a slow consumer here: publishers that hold each other up are let go of."""
    server = serve(start, config="max_payload: 64MB\n")
    body = b"PUB big 62914560\r\n" + b"x" * 50000000
    pumps = [Pump(server, body, 5) for _ in range(8)]
    time.sleep(4)
    check(server)
    for p in pumps:
        p.join()


def test_many_subjects(start):
    server = serve(start)
    listener = stubborn(server, "SUB > 1\r\n", rcvbuf=1 << 20)
    reader = threading.Thread(target=drain, args=(listener,), daemon=True)
    reader.start()
    data = b"".join(b"PUB s.%d.%s 2\r\nhi\r\n" % (i, b"t" * 100) for i in range(65536))
    with server.connect() as c:
        for _ in range(3):
            c.socket.settimeout(20)
            c.send(data)
            c.ping()
    check(server)
    listener.close()


def drain(client):
    with contextlib.suppress(OSError):
        client.socket.settimeout(30)
        while client.socket.recv(1 << 20):
            pass


def test_a_million_subscriptions(start):
    server = serve(start)
    clients = []
    for n in range(10):
        c = server.connect()
        c.socket.settimeout(30)
        data = b"".join(b"SUB subject.%d.%d.> %d\r\n" % (n, i, i) for i in range(100000))
        t = threading.Thread(target=lambda c=c, data=data: c.socket.sendall(data), daemon=True)
        t.start()
        clients.append((c, t))
    for _, t in clients:
        t.join(25)
    check(server)  # while they stay
    for c, _ in clients:
        c.close()
    check(server)


def test_streams_leave_memory_to_the_others(start, tmp_path):
    """What a stream remembers stays: it must end before nobody can be served any more, and what
    makes room again must work."""
    server = start("--max_process_memory", "64MB", "-js", "-sd", str(tmp_path / "store"))
    with Js(server) as js:
        js.stream("FULL", subjects=["full.>"])
        tail = "t" * 1000

        def publish(i):
            return b"PUB full.%d.%s _INBOX.p 1\r\nx\r\n" % (i, tail.encode())
        for i in range(0, 100000, 500):
            js.c.send(b"".join(publish(i + n) for n in range(500)))
            answers = [json.loads(m.data) for m in js.c.ping()]
            if any("error" in a for a in answers):
                break
        full = next(a["error"] for a in answers if "error" in a)
        assert (full["code"], full["err_code"]) == (503, 10023), full

        def refuses_streams():  # what answers took is free again: there may be room for a few
            nonlocal i
            i += 500
            js.c.send(b"".join(publish(i + n) for n in range(500)))
            js.c.ping()
            reply = js.api("STREAM.CREATE.MORE%d" % i, {"name": "MORE%d" % i})
            return reply.get("error", {}).get("err_code") == 10023
        harness.wait_until(refuses_streams, what="a stream to be refused")
    with Js(server) as js:
        with server.connect() as c:
            c.sub("a").pub("a", b"x" * 100000)
            assert c.msg().data == b"x" * 100000
        assert js.state("FULL")["messages"] > 1000
        js.ok("STREAM.PURGE.FULL")
        harness.wait_until(lambda: "seq" in js.publish("full.again"), what="room for a message")
    assert SANITIZED or server.memory("VmHWM") <= 64 << 20


def test_idle_crowd_is_refused_in_time(start):
    server = serve(start)
    crowd = []
    try:
        with contextlib.suppress(OSError):
            for i in range(15000):
                s = socket.create_connection(("127.0.0.1", server.port), 2)
                s.sendall(b'CONNECT {"verbose":false,"name":"%s"}\r\nSUB i.%d 1\r\n' % (
                    b"n" * 900, i))
                crowd.append(s)
    finally:
        peak = server.memory("VmHWM")
        for s in crowd:
            s.close()
    assert SANITIZED or peak <= LIMIT
    check(server)


@pytest.mark.skipif(SANITIZED, reason="shadow memory counts as resident")
def test_requests_to_the_server_that_wait_are_bounded(start):
    """Large requests come faster than they are answered, and wait outside the budget."""
    server = start("--max_process_memory", "64MB")
    request = b"PUB $SYS.REQ.SERVER.PING.CONNZ r 900000\r\n" + b" " * 900000 + b"\r\n"

    def flood(c):
        with contextlib.suppress(OSError):
            for _ in range(400):
                c.send(request)
    clients = [server.connect() for _ in range(4)]
    threads = [threading.Thread(target=flood, args=(c,)) for c in clients]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert server.memory("VmHWM") <= 72 << 20


def test_a_limit_that_is_too_little_for_the_shards_is_named():
    r = harness.run_binary("-a", "127.0.0.1", "-p", "-1", "--shards", "32",
                           "--max_process_memory", "64MB")
    assert r.returncode == 1
    assert re.search(r"\[FTL\] out of memory: max_process_memory \(\d+ MiB\) is too little for "
                     r"32 shards; raise it, or lower --shards", r.stderr), r.stderr


@pytest.mark.skipif(SANITIZED, reason="sanitizers do without jemalloc, and need address space")
@pytest.mark.parametrize("what", ["system", "helper", "http", "log", "subscriptions"])
def test_the_kernel_gives_no_more_memory(start, what):
    """As with `ulimit -v`, or where the kernel does not overcommit: each thread's first use comes
    when nothing is left. What was asked for may fail, the server may not."""
    bcrypt = "$2a$04$" + "abcdefghijklmnopqrstuu" + "x" * 31
    server = start(monitor=True, config="""
        accounts { $SYS { users: [ {user: s, password: s} ] },
                   A { users: [ {user: a, password: "%s"} ] } }
        """ % bcrypt)
    honest = server.connect(user="s", **{"pass": "s"})
    size = server.memory("VmSize")
    before = resource.prlimit(server.pid, resource.RLIMIT_AS, (size, resource.RLIM_INFINITY))
    # No answer within the time is one, too.
    with contextlib.suppress(OSError, AssertionError, http.client.HTTPException):
        if what == "system":
            honest.request("$SYS.REQ.SERVER.PING", timeout=0.5)
        elif what == "helper":
            with server.client() as c:
                c.send_connect(user="a", **{"pass": "b"}).rest(0.5)
        elif what == "http":
            server.http("/varz")
        elif what == "log":
            server.signal(signal.SIGUSR1)
            server.wait_log("Trapped")
        else:
            for i in range(5000):
                honest.sub("x.%d.y" % i, str(i))
            honest.fill(0.5)
    honest.close()
    time.sleep(0.1)
    assert server.process.poll() is None, server.log()
    resource.prlimit(server.pid, resource.RLIMIT_AS, before)
    server.connect(user="s", **{"pass": "s"}).close()
