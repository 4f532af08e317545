"""Who gets which message: wildcards, echo, headers, no responders, auto-unsubscribe, queue
groups, order, across connections (and so across shards)."""
import collections

import pytest

from harness import Msg


# --- plain subscriptions

@pytest.mark.parametrize("pattern,subject,matches", [
    ("a", "a", True), ("a", "b", False), ("a", "A", False), ("a.b", "a.b", True),
    ("a.*", "a.b", True), ("a.*", "a", False), ("a.*", "a.b.c", False), ("*.b", "a.b", True),
    ("*", "a", True), ("*", "a.b", False), (">", "a", True), (">", "a.b.c", True),
    ("a.>", "a.b", True), ("a.>", "a.b.c.d", True), ("a.>", "a", False), ("a.>", "b.a", False),
    ("*.*.c", "a.b.c", True), ("a.*.>", "a.b", False), ("a.*.>", "a.b.c", True),
    ("a*", "ab", False), ("a*", "a*", True), ("a.b*.c", "a.bb.c", False), ("*.>", "a.b", True),
    (">", "$SYS.x", True), ("*", "$x", True), ("日本.*", "日本.語", True),
])
def test_wildcards(client, pattern, subject, matches):
    c, d = client(), client()
    c.sub(pattern, "s").ping()
    d.pub(subject, "x", "reply").ping()
    got = [m for m in c.ping() if m.subject == subject]
    assert got == ([Msg(subject, "s", "reply", None, b"x")] if matches else [])


def test_overlapping_subscriptions_each_get_a_copy(client):
    c = client()
    for sid, subject in enumerate(["o.a", "o.*", "o.>", "*.a", "o.a"]):
        c.sub(subject, sid)
    assert sorted(m.sid for m in c.pub("o.a").ping()) == ["0", "1", "2", "3", "4"]


def test_sid_is_any_token_and_unique(client):
    c = client()
    c.sub("sid.a", "any-token_é").sub("sid.b", "any-token_é")
    assert [m.sid for m in c.pub("sid.a").pub("sid.b").ping()] == ["any-token_é"]
    c.send_connect(verbose=True)
    c.expect("+OK")
    c.send("SUB sid.a 7\r\n").expect("+OK")
    c.send("SUB sid.b 7\r\n").expect("+OK")


def test_unsubscribe_is_immediate(client):
    c, d = client(), client()
    c.sub("un").ping()
    d.pub("un", "1").ping()
    c.unsub().ping()
    d.pub("un", "2").ping()
    assert c.ping() == []


def test_visible_at_once_to_the_same_connection(client):
    """SUB, PUB, UNSUB, PUB in one write, no PING between."""
    c = client()
    c.send("SUB v 1\r\nPUB v 1\r\na\r\nUNSUB 1\r\nPUB v 1\r\nb\r\nSUB v 2\r\nPUB v 1\r\nc\r\n")
    assert [(m.sid, m.data) for m in c.ping()] == [("1", b"a"), ("2", b"c")]


def test_pong_means_delivered(client):
    """After a publisher's PONG the message waits at every receiver."""
    receivers = [client() for _ in range(8)]
    for r in receivers:
        r.sub("fl.*").ping()
    p = client()
    for i in range(50):
        p.pub("fl.x", str(i)).ping()
        for r in receivers:
            r.send("PING\r\n")
        for r in receivers:
            got = r.until_pong()
            assert [m.data for m in got] == [b"%d" % i]


def test_subscriptions_end_with_their_connection(server, client):
    c = client()
    c.sub("gone.>").ping()
    before = server.page("/varz")["subscriptions"]
    c.close()
    deadline = 100
    while server.page("/varz")["subscriptions"] >= before and deadline:
        deadline -= 1
    assert deadline


# --- echo

def test_no_echo(client):
    c, d = client(echo=False), client()
    c.sub("e").ping()
    d.sub("e").ping()
    assert c.pub("e", "x").ping() == []
    assert d.msg().data == b"x"
    d.pub("e", "y").ping()
    assert c.msg().data == b"y"


def test_no_echo_with_a_queue_group_takes_another_member(client):
    c, d = client(echo=False), client()
    c.sub("eq", 1, "q").ping()
    d.sub("eq", 1, "q").ping()
    for _ in range(20):
        c.pub("eq")
    assert c.ping() == []
    assert len(d.ping()) == 20


def test_no_echo_and_nobody_else_is_no_responder(client):
    c = client(echo=False)
    c.sub("en").sub("inbox", 2).pub("en", "x", "inbox")
    got = c.ping()
    assert [m.subject for m in got] == ["inbox"]
    assert got[0].headers.startswith(b"NATS/1.0 503\r\n")


# --- headers

def test_headers_arrive_as_sent(client):
    c = client()
    block = b"NATS/1.0\r\nkey: one\r\nKey:two\r\n  folded\r\n:odd\r\n\r\n"
    assert c.sub("h").hpub("h", block, "body").ping() == [Msg("h", "1", None, block, b"body")]


@pytest.mark.parametrize("block", [b"not a header block", b"", b"NATS/1.0", b"\r\n\r\n", b"\0" * 9])
def test_the_header_block_is_not_validated(client, block):
    c = client()
    got = c.sub("h").hpub("h", block, "body").ping()
    assert [(m.headers or b"", m.data) for m in got] == [(block, b"body")]


def test_headers_are_stripped_for_a_receiver_without(client):
    c, d = client(), client(headers=False, no_responders=False)
    d.sub("h", 9).ping()
    c.hpub("h", {"a": "b"}, "body", "r").ping()
    assert d.ping() == [Msg("h", "9", "r", None, b"body")]


def test_message_without_headers_is_a_plain_msg(client):
    c = client()
    c.sub("h").send("PUB h 1\r\nx\r\n")
    assert c.raw_line() == b"MSG h 1 1"


def test_hmsg_line(client):
    c = client()
    c.sub("h", 5).hpub("h", b"NATS/1.0\r\n\r\n", "xyz", "r.e")
    assert c.raw_line() == b"HMSG h 5 r.e 12 15"
    assert c.raw_bytes(17) == b"NATS/1.0\r\n\r\nxyz\r\n"
    c.hpub("h", b"NATS/1.0\r\n\r\n", "")
    assert c.raw_line() == b"HMSG h 5 12 12"


# --- no responders

@pytest.mark.parametrize("subject", ["nr", "nr.with.tokens", "x" * 300])
def test_no_responders_bytes(client, subject):
    c = client()
    c.sub("in.*", 42).pub(subject, "x", "in.1")
    size = 32 + len(subject)
    assert c.raw_line() == b"HMSG in.1 42 %d %d" % (size, size)
    assert c.raw_bytes(size + 2) == \
        b"NATS/1.0 503\r\nNats-Subject: %s\r\n\r\n\r\n" % subject.encode()


def test_no_503_without_the_option_or_the_reply(client):
    c = client(no_responders=False)
    assert c.sub("in").pub("nobody", "", "in").ping() == []
    c = client()
    assert c.sub("in").pub("nobody", "").ping() == []


def test_no_503_when_somebody_got_it(client):
    c, d = client(), client()
    d.sub("some").ping()
    assert c.sub("in").pub("some", "", "in").ping() == []


def test_no_503_to_a_queue_subscription(client):
    c = client()
    assert c.sub("in", 1, "q").pub("nobody", "", "in").ping() == []


def test_503_goes_to_the_requestor_alone(client):
    c, d = client(), client()
    d.sub("in").ping()
    assert len(c.sub("in").pub("nobody", "", "in").ping()) == 1
    assert d.ping() == []


def test_503_for_a_request_with_headers(client):
    c = client()
    got = c.sub("in").hpub("nobody", {"k": "v"}, "x", "in").ping()
    assert [m.headers for m in got] == [b"NATS/1.0 503\r\nNats-Subject: nobody\r\n\r\n"]


def test_503_does_not_count_towards_auto_unsubscribe(client):
    c = client()
    c.sub("in").unsub(1, 1).pub("nobody", "", "in")
    assert len(c.ping()) == 1
    assert len(c.pub("in").pub("in").ping()) == 1


# --- auto-unsubscribe

def test_auto_unsubscribe_delivers_up_to_max(client):
    c, d = client(), client()
    c.sub("au").unsub(1, 3).ping()
    for i in range(10):
        d.pub("au", str(i))
    d.ping()
    assert [m.data for m in c.ping()] == [b"0", b"1", b"2"]


def test_auto_unsubscribe_in_one_write(client):
    c = client()
    c.send("SUB au 1\r\nUNSUB 1 2\r\n" + "PUB au 0\r\n\r\n" * 5)
    assert len(c.ping()) == 2


def test_max_below_what_was_delivered_is_immediate(client):
    c = client()
    c.sub("au").pub("au").pub("au").ping()
    c.unsub(1, 2)
    assert c.pub("au").ping() == []


def test_max_above_what_was_delivered(client):
    c = client()
    c.sub("au").pub("au").pub("au").ping()
    c.unsub(1, 3)
    assert len(c.pub("au").pub("au").ping()) == 1


@pytest.mark.parametrize("word", ["x", "-5", "0", "99999999999", "1.5"])
def test_bad_max_counts_as_immediate(client, word):
    c = client()
    c.sub("au").send("UNSUB 1 %s\r\n" % word)
    assert c.pub("au").ping() == []


def test_auto_unsubscribe_of_a_queue_member(client):
    c, d = client(), client()
    c.sub("auq", 1, "q").unsub(1, 2).ping()
    d.sub("auq", 1, "q").ping()
    p = client()
    for _ in range(60):
        p.pub("auq")
    p.ping()
    first, second = len(c.ping()), len(d.ping())
    assert first == 2 and second == 58


def test_two_maxima_the_last_counts(client):
    c = client()
    c.sub("au").unsub(1, 5).unsub(1, 2)
    assert len(c.pub("au").pub("au").pub("au").ping()) == 2


# --- queue groups

def test_one_member_gets_each_message(client):
    members = [client() for _ in range(5)]
    for m in members:
        m.sub("q1", 1, "g").ping()
    p = client()
    for i in range(500):
        p.pub("q1", str(i))
    p.ping()
    counts = []
    seen = []
    for m in members:
        got = m.ping()
        counts.append(len(got))
        seen += [int(x.data) for x in got]
        assert [int(x.data) for x in got] == sorted(int(x.data) for x in got)
    assert sorted(seen) == list(range(500))
    assert min(counts) > 40, counts


def test_members_on_one_connection(client):
    c = client()
    for sid in range(4):
        c.sub("q2", sid, "g")
    for _ in range(200):
        c.pub("q2")
    counts = collections.Counter(m.sid for m in c.ping())
    assert sum(counts.values()) == 200 and len(counts) == 4


def test_groups_are_separate_from_each_other_and_from_plain(client):
    c = client()
    c.sub("q3", 1, "a").sub("q3", 2, "b").sub("q3", 3)
    assert sorted(m.sid for m in c.pub("q3").ping()) == ["1", "2", "3"]


def test_one_group_over_overlapping_subjects(client):
    """The name alone makes the group: `q4.x g` and `q4.* g` share one copy."""
    c, d = client(), client()
    c.sub("q4.x", 1, "g").ping()
    d.sub("q4.*", 1, "g").sub("q4.>", 2, "g").ping()
    p = client()
    for _ in range(120):
        p.pub("q4.x")
    p.ping()
    first, second = len(c.ping()), len(d.ping())
    assert first + second == 120 and first > 0 and second > 0


def test_group_names_are_bytes(client):
    c = client()
    c.sub("q5", 1, "g").sub("q5", 2, "G").sub("q5", 3, "g.x").sub("q5", 4, "g*")
    assert len(c.pub("q5").ping()) == 4


def test_member_that_left_is_not_picked(client):
    a, b, p = client(), client(), client()
    a.sub("q6", 1, "g").ping()
    b.sub("q6", 1, "g").ping()
    a.unsub().ping()
    for _ in range(50):
        p.pub("q6")
    p.ping()
    assert (len(a.ping()), len(b.ping())) == (0, 50)


def test_queue_request_gets_one_answer(client):
    workers = [client() for _ in range(3)]
    for w in workers:
        w.sub("svc", 1, "g").ping()
    c = client()
    for i in range(30):
        c.sub("in.%d" % i, i).pub("svc", "", "in.%d" % i)
    c.ping()
    total = 0
    for w in workers:
        for m in w.ping():
            w.pub(m.reply, "ok")
            total += 1
        w.ping()
    assert total == 30
    assert len(c.ping()) == 30


def test_reserved_queue_name(client):
    c = client()
    c.send("SUB a _sys_ 1\r\n")
    assert c.next() in (
        "-ERR 'Permissions Violation for Subscription to \"a\" using queue \"_sys_\"'",)


# --- order

def test_order_across_subjects(client):
    c, p = client(), client()
    c.sub("or.*", 1).ping()
    p.send(b"".join(b"PUB or.%d %d\r\n%d\r\n" % (i % 13, len(b"%d" % i), i) for i in range(20000)))
    got = []
    p.ping()
    while len(got) < 20000:
        got.append(c.msg())
    assert [int(m.data) for m in got] == list(range(20000))


def test_order_of_several_publishers_to_several_receivers(client):
    receivers = [client() for _ in range(4)]
    for r in receivers:
        r.sub("mp.>").ping()
    publishers = [client() for _ in range(4)]
    for n in range(20):
        for i, p in enumerate(publishers):
            p.send(b"".join(b"PUB mp.%d.%d 3\r\n%03d\r\n" % (i, k % 5, n * 25 + k)
                            for k in range(25)))
    for p in publishers:
        p.ping()
    for r in receivers:
        got = r.ping()
        assert len(got) == 2000
        for i in range(4):
            mine = [int(m.data) for m in got if m.subject.startswith("mp.%d." % i)]
            assert mine == list(range(500))


def test_mixed_sizes_keep_order(client):
    """Small messages are copied, large ones referenced; both on one connection keep their order."""
    c, p = client(), client()
    c.sub("mix").ping()
    sizes = [1, 100000, 3, 70000, 0, 4096, 4097, 65536, 12, 300000, 8, 1048576, 2] * 3
    for i, size in enumerate(sizes):
        p.pub("mix", bytes([i]) * size)
    p.send("PING\r\n")
    got = [c.msg() for _ in sizes]
    assert [(len(m.data), set(m.data) <= {i}) for i, m in enumerate(got)] == \
        [(size, True) for size in sizes]


# --- many

def test_fan_out(client):
    receivers = [client() for _ in range(60)]
    for r in receivers:
        r.sub("fan.*").ping()
    p = client()
    for i in range(40):
        p.pub("fan.x", "payload %d" % i)
    p.ping()
    for r in receivers:
        assert [m.data for m in r.ping()] == [b"payload %d" % i for i in range(40)]


def test_many_subscriptions_on_one_connection(client):
    c, p = client(), client()
    c.send("".join("SUB many.%d %d\r\n" % (i, i) for i in range(20000))).ping()
    for i in range(0, 20000, 997):
        p.pub("many.%d" % i, str(i))
    p.ping()
    assert [m.sid for m in c.ping()] == [str(i) for i in range(0, 20000, 997)]
    c.send("".join("UNSUB %d\r\n" % i for i in range(20000))).ping()
    p.pub("many.0").ping()
    assert c.ping() == []


def test_subscribe_and_unsubscribe_under_load(client):
    c, p = client(), client()
    for i in range(300):
        c.send("SUB churn.%d %d\r\n" % (i, i)).ping()
        p.pub("churn.%d" % i, "x").ping()
        assert len(c.ping()) == 1
        c.send("UNSUB %d\r\n" % i)


def test_reply_subjects_of_many_requests(client):
    w, c = client(), client()
    w.sub("echo").ping()
    c.sub("_INBOX.abc.*").ping()
    for i in range(2000):
        c.pub("echo", str(i), "_INBOX.abc.%d" % i)
    c.send("PING\r\n")
    for _ in range(2000):
        m = w.msg()
        w.pub(m.reply, m.data)
    w.ping()
    got = [m for m in c.until_pong()]
    while len(got) < 2000:
        got.append(c.msg())
    assert [int(m.data) for m in got] == list(range(2000))
