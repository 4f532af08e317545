"""The wire format: verbs, separators, sizes, every error that the parser gives, and that the way
bytes are split over reads never matters."""
import time

import pytest

from harness import Closed, Msg

CONNECT = b'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\n'


# --- verbs, case and separators

@pytest.mark.parametrize("verb", ["ping", "Ping", "pInG", "PING"])
def test_ping_in_any_case(client, verb):
    c = client()
    c.send(verb + "\r\n").expect("PONG")


@pytest.mark.parametrize("text", [
    "SUB a 1\r\nPUB a 2\r\nhi\r\n", "sub a 1\r\npub a 2\r\nhi\r\n", "Sub a 1\r\nPuB a 2\r\nhi\r\n",
    "SUB\ta\t1\r\nPUB\ta\t2\r\nhi\r\n", "SUB   a \t 1\r\nPUB \t a   2\r\nhi\r\n",
    "SUB a 1  \r\nPUB a 2 \t\r\nhi\r\n", "SUB a 1\nPUB a 2\nhi\r\n",
])
def test_case_and_separators(client, text):
    c = client()
    assert c.send(text).ping() == [Msg("a", "1", None, None, b"hi")]


def test_line_ends_with_lf_alone(client):
    c = client()
    c.send("PING\n").expect("PONG")
    c.send('CONNECT {"verbose":true}\n').expect("+OK")
    c.send("SUB x 1\n").expect("+OK")
    c.send("UNSUB 1\n").expect("+OK")


def test_ping_and_pong_ignore_what_follows(client):
    c = client()
    c.send("PING some more\r\n").expect("PONG")
    c.send("PONG and more\r\nPING\r\n").expect("PONG")


def test_ok_and_info_from_a_client_are_ignored(client):
    c = client()
    c.send("+OK\r\nINFO {}\r\n+ok\r\nPING\r\n").expect("PONG")


def test_err_from_a_client_closes(client):
    c = client()
    c.send("-ERR 'x'\r\n").closed()


@pytest.mark.parametrize("line", [
    "A+ $G\r\n", "A- $G\r\n", "RS+ $G a\r\n", "RS- $G a\r\n", "LS+ a\r\n", "LS- a\r\n",
    "RMSG $G a 0\r\n\r\n", "LMSG a 0\r\n\r\n", "HMSG a 1 12 12\r\n", "MSG a 1 0\r\n\r\n",
    "BLAH\r\n", "\x00\r\n", "GET / HTTP/1.0\r\n", "SUBS a 1\r\n", "PUBLISH a 0\r\n", "P\r\n",
    "\r\n", " PING\r\n", "CONNEC {}\r\n", "PINGO\r\n"[:3] + "X\r\n", "HPUBX\r\n", "UNSUBX 1\r\n",
])
def test_unknown_verbs(client, line):
    c = client()
    c.send(line)
    c.closed("Unknown Protocol Operation")


# --- payload framing

@pytest.mark.parametrize("tail", ["xx\r\n", "x\r\n", "\n\r\n", "\rx\n", "PING\r\n"])
def test_payload_must_end_with_crlf(client, tail):
    c = client()
    c.send("PUB a 2\r\nhi" + tail).closed("Unknown Protocol Operation")


def test_payload_bytes_are_opaque(client):
    c = client()
    body = bytes(range(256)) + b"\r\nPUB a 1\r\n\x00\r\n"
    assert c.sub("a").pub("a", body).ping()[0].data == body


def test_empty_payload(client):
    c = client()
    assert c.sub("a").pub("a").ping() == [Msg("a", "1", None, None, b"")]


# --- sizes (also CVE-2019-13126)

@pytest.mark.parametrize("size", [
    "-1", "-0", "+1", "1.0", "0x1", "abc", "1a", "1e3", "1000000000", "9999999999", "4294967296",
    "9223372036854775808", "18446744073709551616", "99999999999999999999", "-9223372036854775808",
])
@pytest.mark.parametrize("verb", ["PUB a %s", "PUB a r %s", "HPUB a 12 %s", "HPUB a r 12 %s"])
def test_bad_sizes_close_without_a_word(client, verb, size):
    c = client()
    c.send(verb % size + "\r\n").closed()


@pytest.mark.parametrize("size", ["2147483647", "2147483648", "4294967295"])
def test_ten_digits_are_too_many(client, size):
    c = client()
    c.send("PUB a %s\r\n" % size).closed()


@pytest.mark.parametrize("size", ["999999999", "1048577", "100000000"])
@pytest.mark.parametrize("verb", ["PUB a %s", "HPUB a 12 %s"])
def test_sizes_over_max_payload(client, verb, size):
    c = client()
    c.send(verb % size + "\r\n").closed("Maximum Payload Violation")


@pytest.mark.parametrize("size", ["0", "00", "000000000"])
def test_zero_in_any_spelling(client, size):
    c = client()
    assert c.sub("a").send("PUB a %s\r\n\r\n" % size).ping() == [Msg("a", "1", None, None, b"")]


def test_leading_zeros(client):
    c = client()
    assert c.sub("a").send("PUB a 000000002\r\nhi\r\n").ping()[0].data == b"hi"


@pytest.mark.parametrize("hdrlen", ["-1", "x", "13", "1000000000", "99999999999999999999"])
def test_bad_header_lengths(client, hdrlen):
    c = client()
    c.send("HPUB a %s 12\r\nNATS/1.0\r\n\r\n\r\n" % hdrlen).closed()


# --- argument counts

@pytest.mark.parametrize("line", [
    "PUB a", "PUB a b c 0", "HPUB a 12", "HPUB a b 12 12 12", "HPUB a", "HPUB a b c",
    "SUB a", "SUB a b c d", "UNSUB 1 2 3"])
def test_wrong_argument_count_is_silent(client, line):
    c = client()
    c.send(line + "\r\n").closed()


@pytest.mark.parametrize("line", ["PUB", "HPUB", "SUB", "UNSUB"])
def test_a_verb_without_any_argument(client, line):
    c = client()
    c.send(line + "\r\n").closed("Unknown Protocol Operation")


@pytest.mark.parametrize("text", ["CONNECT {\r\n", "CONNECT nonsense\r\n", "CONNECT []\r\n",
                                  "CONNECT {\"verbose\":\"x\"}\r\n", "CONNECT {\"protocol\":\"1\"}\r\n",
                                  "CONNECT {}}\r\n"])
def test_bad_connect_json_closes_silently(client, text):
    c = client(raw=True)
    c.send(text).closed()


def test_hpub_without_negotiated_headers_is_fatal(client):
    c = client(headers=False, no_responders=False)
    c.hpub("a", {"k": "v"}).closed()


def test_protocol_violation_is_the_reason_in_connz(server, client):
    c = client()
    cid = c.info["client_id"]
    c.send("PUB a b c 0\r\n").closed()
    gone = server.page("/connz?state=closed&cid=%d" % cid)["connections"][0]
    assert gone["reason"] == "Protocol Violation"
    c = client()
    c.send("BLAH\r\n").closed("Unknown Protocol Operation")
    gone = server.page("/connz?state=closed&cid=%d" % c.info["client_id"])["connections"][0]
    assert gone["reason"] in ("Parse Error", "Protocol Violation")


# --- control line limit

@pytest.mark.parametrize("verb,build", [
    ("PUB", lambda n: "PUB " + "a" * (n - 2) + " 0\r\n\r\n"),
    ("SUB", lambda n: "SUB " + "a" * (n - 2) + " 1\r\n"),
    ("UNSUB", lambda n: "UNSUB " + "a" * n + "\r\n"),
    ("HPUB", lambda n: "HPUB " + "a" * (n - 6) + " 12 12\r\nNATS/1.0\r\n\r\n\r\n"),
])
def test_control_line_counts_the_arguments(client, verb, build):
    c = client()
    c.send(build(4096)).ping()
    c.send(build(4098))
    c.closed("maximum control line exceeded")


def test_control_line_of_connect(client):
    c = client(raw=True)
    c.send('CONNECT {"name":"%s","verbose":false}\r\nPING\r\n' % ("x" * 4000)).expect("PONG")
    c = client(raw=True)
    c.send('CONNECT {"name":"%s"}\r\n' % ("x" * 5000))
    c.closed("maximum control line exceeded")


def test_endless_line_is_cut_off(client):
    """A line that never ends is refused at the limit, not collected."""
    c = client()
    c.send("SUB " + "a" * 5000)
    c.closed("maximum control line exceeded")


# --- subjects

@pytest.mark.parametrize("subject", [
    "a..b", ".a", "a.", ".", "..", "a.>.b", ">.a", "a..", ">.>", "*..*"])
def test_invalid_subscribe_subject(client, subject):
    c = client()
    c.send('CONNECT {"verbose":true}\r\n').expect("+OK")
    c.send("SUB %s 1\r\n" % subject).expect("-ERR 'Invalid Subject'")
    c.send("PING\r\n").expect("PONG")


@pytest.mark.parametrize("subject", [
    "a", "a.b", "*", ">", "a.*", "a.>", "*.*", "*.>", "a*", "a>", "*a", ">a", "a.b*.c", "a.**", "a.>>",
    "$SYS.x", "日本.語", "a-b_c/d", "a'b\"c", "\x01.\x7f"])
def test_valid_subscribe_subject(client, subject):
    c = client()
    assert c.sub(subject).ping() == []


@pytest.mark.parametrize("subject", ["a.*", ">", "a.>", "*", "a..b", ".a", "a."])
def test_pedantic_names_a_bad_publish_subject(client, subject):
    c, d = client(pedantic=True), client()
    c.send("PUB %s 0\r\n\r\n" % subject).expect("-ERR 'Invalid Publish Subject'")
    assert c.ping() == []
    d.send("PUB %s 0\r\n\r\n" % subject)
    assert d.ping() == []


def test_wildcards_in_a_publish_are_tokens(client):
    c = client()
    c.sub("x.*", 1).sub("x.>", 2).sub("x.y", 3).ping()
    assert sorted((m.subject, m.sid) for m in c.pub("x.*", "").ping()) == [("x.*", "1"), ("x.*", "2")]
    assert sorted((m.subject, m.sid) for m in c.pub("x.>", "").ping()) == [("x.>", "1"), ("x.>", "2")]


def test_a_pedantic_message_is_processed_all_the_same(client):
    c = client(pedantic=True)
    c.sub("p.>").ping()
    c.send("PUB p.* 2\r\nhi\r\n").expect("-ERR 'Invalid Publish Subject'")
    assert c.ping() == [Msg("p.*", "1", None, None, b"hi")]


def test_long_subjects(client):
    c = client()
    subject = ".".join(["token"] * 600)
    assert c.sub(subject).pub(subject, "x").ping()[0].subject == subject


# --- bytes split over reads

SCRIPT = (CONNECT + b"SUB a.* 1\r\nSUB b 2\r\nSUB c q 3\r\nPUB a.x 5\r\nhello\r\nPUB a.y rep 0\r\n\r\n"
          b"HPUB b 18 21\r\nNATS/1.0\r\nK: v\r\n\r\nxyz\r\nhpub  a.z\tr 12  12 \r\nNATS/1.0\r\n\r\n\r\n"
          b"UNSUB 1 9\r\nPONG\r\nPUB a.w 3\r\n\r\n\r\r\nPING\r\n")
EXPECTED = [
    Msg("a.x", "1", None, None, b"hello"), Msg("a.y", "1", "rep", None, b""),
    Msg("b", "2", None, b"NATS/1.0\r\nK: v\r\n\r\n", b"xyz"),
    Msg("a.z", "1", "r", b"NATS/1.0\r\n\r\n", b""), Msg("a.w", "1", None, None, b"\r\n\r")]


def test_whole(client):
    c = client(raw=True)
    assert c.send(SCRIPT).until_pong() == EXPECTED


@pytest.mark.parametrize("residue", range(4))
def test_split_at_every_byte(client, residue):
    """Two writes per connection, a pause between them, for every place of the cut."""
    for cut in range(1 + residue, len(SCRIPT), 4):
        c = client(raw=True)
        c.send(SCRIPT[:cut])
        time.sleep(0.0015)
        c.send(SCRIPT[cut:])
        assert c.until_pong() == EXPECTED, cut
        c.close()


def test_byte_by_byte(client):
    c = client(raw=True)
    for i in range(len(SCRIPT)):
        c.send(SCRIPT[i:i + 1])
    assert c.until_pong() == EXPECTED


def test_error_split_at_every_byte(client):
    script = b"SUB a 1\r\nPUB a 2\r\nhix\r\n"
    for cut in range(1, len(script)):
        c = client()
        c.send(script[:cut])
        time.sleep(0.0015)
        try:
            c.send(script[cut:])
            c.closed("Unknown Protocol Operation")
        except (Closed, BrokenPipeError, ConnectionResetError):
            pass


def test_many_messages_in_one_write(client):
    c = client()
    c.sub("m")
    c.send(b"".join(b"PUB m %d\r\n%d\r\n" % (len(b"%d" % i), i) for i in range(5000)))
    assert [m.data for m in c.ping()] == [b"%d" % i for i in range(5000)]


def test_large_payload_in_small_pieces(client):
    c = client()
    body = bytes(i % 251 for i in range(1 << 20))
    c.sub("big").send(b"PUB big %d\r\n" % len(body))
    for i in range(0, len(body), 65537):
        c.send(body[i:i + 65537])
    c.send("\r\n")
    assert c.ping()[0].data == body
