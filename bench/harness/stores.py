"""Scenarios of JetStream: several runs against one server, whose store is filled once.

A scenario is called with the server (running, its store empty), a function load(arguments) that
runs the load generator against it and returns its record, and the number of messages of a full
size run. It returns one record: the runs by name, and what it measured itself.
"""
import json
import os
import signal
import socket
import time

SERVING_SECONDS = 240
RESTING_SECONDS = 30
UNCHANGED_SECONDS = 5


def connect(port, deadline):
    """A connection to a server that is just coming up."""
    while True:
        try:
            return socket.create_connection(("127.0.0.1", port), timeout=5)
        except OSError:
            if time.monotonic() > deadline:
                raise RuntimeError("the server did not come up again") from None
            time.sleep(0.001)


def ask(file, link, subject):
    """The JSON answer to a request without a body."""
    link.sendall(b"PUB %s _INBOX.serving 0\r\n\r\n" % subject.encode())
    while True:
        line = file.readline()
        if line == b"":
            raise ConnectionError("closed")
        if line.startswith((b"MSG", b"HMSG")):
            body = file.read(int(line.split()[-1]) + 2)
            return None if line.startswith(b"HMSG") else json.loads(body)
        if line.startswith(b"PING"):
            link.sendall(b"PONG\r\n")


def serving_seconds(server, begin, stream, messages):
    """From `begin` until the server has answered that this stream holds so many messages."""
    deadline = begin + SERVING_SECONDS
    while time.monotonic() < deadline:
        link = connect(server.port, deadline)
        link.settimeout(SERVING_SECONDS)
        try:
            with link, link.makefile("rb") as file:
                link.sendall(b'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\n'
                             b"SUB _INBOX.serving 1\r\n")
                while time.monotonic() < deadline:
                    answer = ask(file, link, "$JS.API.STREAM.INFO." + stream)
                    if answer and "state" in answer:
                        took = time.monotonic() - begin
                        found = answer["state"]["messages"]
                        if found != messages:
                            raise RuntimeError("%d of %d messages after a restart" % (found,
                                                                                      messages))
                        return took
                    time.sleep(0.002)
        except OSError:
            time.sleep(0.002)
    raise RuntimeError("the server did not come back")


def drop_caches():
    """The page cache of the machine; False where that is not allowed."""
    try:
        os.sync()
        with open("/proc/sys/vm/drop_caches", "w") as file:
            file.write("3\n")
        return True
    except OSError:
        return False


def kill_and_restart(server, stream, messages, cold=False):
    """SIGKILL, start on the same store: seconds to serving."""
    server.process.send_signal(signal.SIGKILL)
    server.process.wait()
    is_cold = drop_caches() if cold else False
    begin = time.monotonic()
    server.start()
    return {"seconds": serving_seconds(server, begin, stream, messages), "is_cold": is_cold}


def total(runs):
    """What the record of a scenario needs besides its figures."""
    records = [r for r in runs.values() if "wall_ns" in r]
    return dict(runs, wall_ns=sum(r["wall_ns"] for r in records),
                machine={"steal_ns": sum(r["machine"]["steal_ns"] for r in records)},
                client={"client_bound": any(r["client"]["client_bound"] for r in records)})


def consume(server, load, messages):
    """One stream, read in three ways."""
    count = max(messages // 10, 1000)
    load("jsfill --keep --inflight 5000 --msgs %d" % count)
    return total({
        "push": load("jstake --no-fill --keep --mode push"),
        "fetch": load("jstake --no-fill --keep --mode fetch"),
        "ack": load("jstake --no-fill --keep --mode ack --clients 4")})


def key_value(server, load, messages, names=("put", "get")):
    """One bucket: puts by 1 and 16 clients, then gets."""
    keys = max(min(messages // 100, 10000), 100)
    runs = {}
    for name in names:
        for clients in (1, 16):
            runs["%s%d" % (name, clients)] = load("kv%s --keep --clients %d --subjects %d" % (
                name, clients, keys))
    return total(runs)


def key_value_puts(server, load, messages):
    return key_value(server, load, messages, ("put",))


def big(server, load, messages):
    """Messages over a tenth as many subjects: stored at full speed, asked, killed, read cold."""
    keys = max(messages // 10, 1000)
    shape = "--msgs %d --subjects %d --timeout 60" % (messages, keys)
    runs = {"fill": load("jsfill --keep --drain --inflight 5000 " + shape)}
    runs["first"] = load("jsfirst --no-fill --keep " + shape)
    runs["restart"] = kill_and_restart(server, "LOAD0", messages, cold=True)
    runs["replay"] = load("jstake --no-fill --keep --mode push --timeout 60")
    return total(runs)


def fill_and_kill(server, load, streams):
    """Ten messages in each of so many streams, then a restart."""
    fill = load("jsfill --keep --drain --inflight 5000 --timeout 60 --streams %d --msgs %d"
                % (streams, streams * 10))
    return fill, kill_and_restart(server, "LOAD%d" % (streams - 1), 10)


def many(server, load, messages):
    """A thousandth as many streams, killed; then a hundredth on our server alone: nats-server
    looks at all streams of an account whenever it makes one, so ten times as many take it a
    hundred times as long, which is hours."""
    streams = max(messages // 1000, 10)
    runs = {}
    runs["fill"], runs["restart"] = fill_and_kill(server, load, streams)
    if server.is_ours:
        runs["fill_all"], runs["restart_all"] = fill_and_kill(server, load, streams * 10)
    return total(runs)


def resident_bytes(server):
    """Of the server, once it rests: packing and collecting garbage take memory for a while, and
    what was freed goes back to the kernel some seconds later."""
    held, end = None, time.monotonic() + RESTING_SECONDS
    changed = time.monotonic()
    while time.monotonic() < min(end, changed + UNCHANGED_SECONDS):
        with open("/proc/%d/statm" % server.pid, encoding="ascii") as file:
            now = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        if held is None or abs(now - held) > held // 1000:
            held, changed = now, time.monotonic()
        time.sleep(0.1)
    return held


def memory(server, load, messages):
    """What the server grows by: each step is a run that leaves what it stored."""
    part = max(messages // 100, 1000)
    runs = {}
    fill = "jsfill --keep --inflight 5000 --timeout 60 --msgs %d"
    idle = "jsfill --keep --no-fill --timeout 60 "

    def bytes_after(words):
        runs["run"] = load(words)
        return resident_bytes(server)

    # Whatever is made once for all streams is there, and what is kept of the newest messages.
    before = bytes_after(fill % part)
    # No more than one file of our log takes: with more than two full ones packing begins.
    runs["fresh"] = {"bytes": (bytes_after(fill % (2 * part)) - before) / (2 * part)}
    # Those that are idle before the many messages: they would take what these gave back.
    before = bytes_after(idle + "--streams 10")
    streams = bytes_after(idle + "--streams %d" % (part // 10))
    runs["stream"] = {"bytes": (streams - before) / (part // 10 - 10)}
    consumers = bytes_after(idle + "--streams %d --consumers %d" % (part // 10, part // 10))
    runs["consumer"] = {"bytes": (consumers - streams) / (part // 10)}
    before = bytes_after((fill + " --drain") % (13 * part))
    runs["packed"] = {"bytes": (bytes_after((fill + " --drain") % (30 * part)) - before) /
                               (30 * part)}
    return total(runs)


def keys(server, load, messages):
    """Each message on a subject of its own, against as many on few: what a key costs."""
    count = max(messages // 10, 1000)
    fill = "jsfill --inflight 5000 --timeout 60 --msgs %d --drain --subjects %d --keep"
    load(fill % (count, 2))
    before = resident_bytes(server)
    own = load(fill % (count, count))
    return total({"key": {"bytes": (resident_bytes(server) - before) / count}, "run": own})
