"""Limits and what happens at them: sizes, counts, slow receivers, silent peers."""
import os
import signal
import time

import pytest

from harness import SLOW, Closed, Msg, Raw, run_binary, wait_until


# --- max_payload

def test_max_payload_is_exact(start):
    s = start(config="max_payload: 100\n")
    c = s.connect()
    assert c.sub("a").pub("a", "x" * 100).ping()[0].data == b"x" * 100
    c.pub("a", "x" * 101).closed("Maximum Payload Violation")


def test_max_payload_counts_headers(start):
    s = start(config="max_payload: 100\n")
    c = s.connect()
    assert len(c.sub("a").hpub("a", b"NATS/1.0\r\n\r\n", "x" * 88).ping()) == 1
    c.hpub("a", b"NATS/1.0\r\n\r\n", "x" * 89).closed("Maximum Payload Violation")


def test_max_payload_is_checked_before_the_payload_arrives(start):
    s = start(config="max_payload: 100\n")
    c = s.connect()
    c.send("PUB a 101\r\n").closed("Maximum Payload Violation")


def test_max_payload_reason(start):
    s = start(config="max_payload: 100\n", monitor=True)
    c = s.connect()
    c.send("PUB a 101\r\n").closed("Maximum Payload Violation")
    assert s.page("/connz?state=closed")["connections"][0]["reason"] == \
        "Maximum Message Payload Exceeded"


# --- max_connections

def test_max_connections(start):
    s = start(config="max_connections: 3\n", monitor=True)
    kept = [s.connect() for _ in range(3)]
    extra = s.client(read_info=False)
    extra.closed("maximum connections exceeded")
    kept[0].close()
    wait_until(lambda: s.page("/varz")["connections"] == 2)
    s.connect()
    closed = s.page("/connz?state=closed")["connections"]
    assert "Maximum Connections Exceeded" in [c["reason"] for c in closed]


@pytest.mark.parametrize("value", ["0", "-1"])
def test_no_connections_at_all(start, value):
    s = start(config="max_connections: %s\n" % value)
    s.client(read_info=False).closed("maximum connections exceeded")


# --- connections that have not logged in

LOGIN = "authorization { user: u, password: p }\n"


@pytest.mark.ours_only  # nats-server has no such cap
@pytest.mark.parametrize("cap", ["preauth_max: 3", "preauth_max_per_address: 3"])
def test_connections_before_login_are_capped(start, cap):
    s = start(config=LOGIN + cap + "\n")
    silent = [s.client() for _ in range(3)]
    s.client(read_info=False).closed()
    s.wait_log("New connections are refused: too many have not logged in")
    # Who logs in does not count any more, and makes room.
    silent[0].connect(user="u", **{"pass": "p"}).ping()
    s.connect(user="u", **{"pass": "p"})
    s.client().close()


@pytest.mark.ours_only
def test_connections_before_login_are_capped_without_being_asked(start):
    page = run_binary("-c", os.devnull, "--print-config").stdout
    assert "preauth_max: 32768" in page and "preauth_max_per_address: 16384" in page


# --- max_subscriptions

def test_max_subscriptions(start):
    s = start(config="max_subscriptions: 3\n")
    c = s.connect()
    c.send_connect(verbose=True)
    c.expect("+OK")
    for i in range(3):
        c.sub("s.%d" % i, i).expect("+OK")
    c.sub("s.3", 3)
    assert c.next() == "-ERR 'maximum subscriptions exceeded'"
    c.quiet(0.05)
    c.unsub(0).expect("+OK")
    c.sub("s.3", 3).expect("+OK")
    s.connect().sub("other").ping()


# --- max_sub_tokens

def test_max_sub_tokens(start):
    s = start(config="max_sub_tokens: 3\n")
    c = s.connect()
    assert c.sub("a.b.c").ping() == []
    c.sub("a.b.c.d", 2).expect(
        "-ERR 'Permissions Violation for Subscription to \"a.b.c.d\", too many tokens'")
    assert c.pub("a.b.c.d").pub("a.b.c").ping() == [Msg("a.b.c", "1", None, None, b"")]


# --- max_control_line

def test_max_control_line(start):
    s = start(config="max_control_line: 1k\n")
    c = s.connect()
    c.sub("a" * 990).ping()
    c.sub("a" * 1100).closed("maximum control line exceeded")


@pytest.mark.ours_only
@pytest.mark.parametrize("line", [
    "SUB %s 1\r\n", "SUB a %s 1\r\n", "SUB a %s\r\n", "UNSUB %s\r\n", "PUB %s 0\r\n\r\n",
    "PUB a %s  1\r\nx\r\n", "PUB a %s 01\r\nx\r\n", "HPUB a %s 0 1\r\nx\r\n"])
def test_one_argument_of_a_long_line(start, line):
    """max_control_line is raised for CONNECT; what is kept and sent on ends at 4096 bytes."""
    s = start(config="max_control_line: 200000\n")
    witness = s.connect().sub("a", "w")
    witness.ping()
    s.client().send_connect(name="n" * 150000).ping()
    s.connect().sub("a", "s").send(line % ("x" * 4096)).ping()
    for count in (4097, 70000, 199000):
        s.connect().sub("a", "s").send(line % ("x" * count)).closed("maximum control line exceeded")
    assert len(witness.ping()) == ("PUB a" in line)


@pytest.mark.parametrize("config", [
    'client_advertise: "%s:44"\n', 'cluster { name: "%s" }\n', 'server_name: "%s"\n',
    'accounts { "%s": { users: [ {user: a, password: b} ] } }\n'])
def test_long_names_in_info(start, config):
    s = start(config=config % ("n" * 9000))
    s.connect(user="a", **{"pass": "b"})


def test_reason_of_a_long_control_line(start):
    s = start(config="max_control_line: 256\n", monitor=True)
    c = s.connect(lang=None, version=None)
    c.sub("a" * 300).closed("maximum control line exceeded")
    assert s.page("/connz?state=closed")["connections"][0]["reason"] == \
        "Maximum Control Line Exceeded"


# --- slow consumers

def flood(publisher, subject, total, size=65536):
    body = b"x" * size
    block = b"PUB %s %d\r\n%s\r\n" % (subject.encode(), size, body)
    for _ in range(total // size):
        publisher.send(block)


def slow_pair(s, total):
    """A receiver that reads nothing while a publisher sends total bytes to it."""
    receiver = s.client(rcvbuf=4096)
    receiver.send_connect()
    receiver.sub("slow").ping()
    publisher = s.connect()
    flood(publisher, "slow", total)
    publisher.ping()
    return receiver, publisher


def test_slow_consumer_by_pending_bytes(start):
    s = start(config="max_pending: 2MB\nwrite_deadline: 60s\nmax_payload: 1MB\n", monitor=True)
    receiver, publisher = slow_pair(s, 48 << 20)
    wait_until(lambda: s.page("/varz")["slow_consumers"] == 1)
    cid = receiver.info["client_id"]
    closed = wait_until(lambda: s.page("/connz?state=closed&cid=%d" % cid)["connections"])
    assert closed[0]["reason"] == "Slow Consumer (Pending Bytes)"
    v = s.page("/varz")
    assert v["slow_consumer_stats"] == {"clients": 1, "routes": 0, "gateways": 0, "leafs": 0}
    assert b"-ERR" not in receiver.rest(20)
    s.wait_log(r"Slow Consumer Detected: MaxPending of 2\d* Exceeded")
    assert publisher.ping() == []


def test_slow_consumer_by_write_deadline(start):
    s = start(config="max_pending: 512MB\nwrite_deadline: 300ms\n", monitor=True)
    receiver, _ = slow_pair(s, 16 << 20)
    cid = receiver.info["client_id"]
    closed = wait_until(lambda: s.page("/connz?state=closed&cid=%d" % cid)["connections"])
    assert closed[0]["reason"] == "Slow Consumer (Write Deadline)"
    s.wait_log("WriteDeadline of 300ms exceeded")
    assert s.page("/varz")["slow_consumers"] == 1


@pytest.mark.ours_only
def test_write_timeout_retry_keeps_the_receiver(start):
    """nats-server with retry still closes a receiver that took nothing at all in the deadline;
    ours leaves it to max_pending."""
    s = start(config="max_pending: 512MB\nwrite_deadline: 300ms\nwrite_timeout: retry\n",
              monitor=True)
    receiver, _ = slow_pair(s, 16 << 20)
    time.sleep(1)
    assert s.page("/connz?state=closed&cid=%d" % receiver.info["client_id"])["connections"] == []
    for _ in range((16 << 20) // 65536):
        assert len(receiver.msg().data) == 65536


def test_a_slow_reader_that_reads_gets_everything(start):
    s = start(config="max_pending: 64MB\n")
    receiver, _ = slow_pair(s, 8 << 20)
    for _ in range((8 << 20) // 65536):
        assert len(receiver.msg().data) == 65536


def test_one_slow_receiver_does_not_hurt_another(start):
    s = start(config="max_pending: 2MB\nwrite_deadline: 60s\n", monitor=True)
    good = s.connect()
    good.sub("fine").ping()
    slow_pair(s, 24 << 20)
    p = s.connect()
    p.pub("fine", "x").ping()
    assert good.msg().data == b"x"


def test_slow_consumer_does_not_take_order_from_the_others(start):
    """While one receiver overflows, a reader of the same subject misses nothing."""
    s = start(config="max_pending: 1MB\nwrite_deadline: 60s\nmax_payload: 1MB\n", monitor=True)
    lazy = s.client(rcvbuf=4096)
    lazy.send_connect()
    lazy.sub("both").ping()
    reader = s.connect()
    reader.sub("both").ping()
    p = s.connect()
    count = 0
    while s.page("/varz")["slow_consumers"] == 0 and count < 4000:
        for _ in range(10):
            p.pub("both", b"%06d" % count + b"x" * 20000)
            count += 1
        p.ping()
        for i in range(count - 10, count):
            assert int(reader.msg().data[:6]) == i
    assert s.page("/varz")["slow_consumers"] == 1


# --- silent peers

def test_stale_connection(start):
    s = start(config='ping_interval: "100ms"\nping_max: 2\n', monitor=True)
    c = s.client(answer_pings=False)
    c.send_connect()
    c.send("PING\r\n")
    data = c.rest(5 * SLOW)
    assert data.count(b"PING\r\n") == 2
    assert data.endswith(b"-ERR 'Stale Connection'\r\n")
    closed = s.page("/connz?state=closed")["connections"]
    assert closed[0]["reason"] == "Stale Connection"
    v = s.page("/varz")
    assert v["stale_connections"] == 1


def test_pong_keeps_a_connection(start):
    interval = 0.3 * SLOW
    s = start(config='ping_interval: "%dms"\nping_max: 1\n' % (interval * 1000))
    c = s.connect()
    end = time.monotonic() + 5 * interval
    while time.monotonic() < end:
        try:
            c.next(0.05)
        except TimeoutError:
            pass
    assert c.ping() == []


def test_data_puts_off_the_ping(start):
    s = start(config='ping_interval: "500ms"\nping_max: 2\n')
    c = s.client(answer_pings=False)
    c.send_connect()
    c.send("PING\r\n")
    c.raw_line()
    c.read_info()
    c.raw_line(4)  # the first PING measures the round trip
    c.send("PONG\r\n")
    end = time.monotonic() + 1.6
    while time.monotonic() < end:
        c.pub("x", "data")
        time.sleep(0.03)
    c.send("SUB end 1\r\nPUB end 0\r\n\r\n")
    assert c.raw_line() == b"MSG end 1 0"


def test_a_stopped_process_is_not_a_crash(start):
    """SIGSTOP and SIGCONT: everything waits and then goes on."""
    s = start()
    c = s.connect()
    s.signal(signal.SIGSTOP)
    s.wait_stopped()
    c.sub("a").pub("a", "x")
    c.quiet(0.1)
    s.signal(signal.SIGCONT)
    assert [m.data for m in c.ping()] == [b"x"]


# --- connections that vanish

def test_reset_in_the_middle_of_a_message(start):
    s = start(monitor=True)
    for cut in (b"PUB a 100\r\nabc", b"PUB a 10", b"SUB", b"CONN", b"", b"PUB a 3\r\nabc\r"):
        c = s.client()
        c.send(cut)
        c.close()
    c = s.connect()
    assert c.sub("a").pub("a").ping() == [Msg("a", "1", None, None, b"")]
    wait_until(lambda: s.page("/varz")["connections"] == 1)


def test_client_closed_is_the_reason(start):
    s = start(monitor=True)
    c = s.connect()
    c.close()
    closed = wait_until(lambda: s.page("/connz?state=closed")["connections"])
    assert closed[0]["reason"] == "Client Closed"


def test_half_closed_client_gets_its_messages(start):
    """Bytes sent before the end of the stream are still worked on."""
    s = start()
    receiver = s.connect()
    receiver.sub("a").ping()
    c = s.connect()
    c.pub("a", "last words")
    c.socket.shutdown(1)
    assert receiver.msg().data == b"last words"


def test_half_closed_client_gets_its_answers(start):
    """Also those that wait until the publish before the PING has arrived on other shards."""
    s = start()
    receivers = [s.connect().sub("a") for _ in range(4)]
    for r in receivers:
        r.ping()
    for _ in range(20):
        with s.client() as c:
            c.send(b'CONNECT {"verbose":true}\r\nSUB a 1\r\nPUB a 4\r\nlast\r\nPING\r\n')
            c.socket.shutdown(1)
            data = c.rest()
            assert data.count(b"+OK") == 3 and b"last" in data and b"PONG" in data, data
        for r in receivers:
            assert r.msg().data == b"last"


@pytest.mark.parametrize("count", [200])
def test_connections_come_and_go(start, count):
    s = start(monitor=True)
    for _ in range(3):
        clients = [Raw(s.port) for _ in range(count)]
        for c in clients:
            c.send_connect()
            c.send("SUB x 1\r\nPING\r\n")
        for c in clients:
            c.until_pong()
            c.close()
    wait_until(lambda: s.page("/varz")["connections"] == 0)
    v = s.page("/varz")
    assert v["total_connections"] == 3 * count
    wait_until(lambda: s.page("/subsz")["num_subscriptions"] <= v["subscriptions"])


# --- closing

def test_a_reply_before_an_error_is_flushed(start):
    """What was queued before a fatal error reaches the client before the error does."""
    s = start()
    c = s.connect()
    c.send("SUB a 1\r\nPUB a 2\r\nhi\r\nBLAH\r\n")
    data = c.rest()
    assert b"MSG a 1 2\r\nhi\r\n" in data
    assert data.endswith(b"-ERR 'Unknown Protocol Operation'\r\n")


def test_nothing_is_processed_after_a_fatal_error(start):
    s = start()
    receiver = s.connect()
    receiver.sub("after").ping()
    c = s.connect()
    c.send("BLAH\r\nPUB after 2\r\nhi\r\n")
    try:
        c.rest()
    except Closed:
        pass
    assert receiver.ping() == []


def test_too_many_pings_in_one_write(start):
    s = start()
    c = s.connect()
    c.send("PING\r\n" * 5000)
    for _ in range(5000):
        c.expect("PONG")
