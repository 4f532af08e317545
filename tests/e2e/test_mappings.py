"""Subject mappings: literal and wildcard, weights, transform functions, partitions."""
import collections

import pytest

from harness import Msg


def fnv1a(data):
    h = 2166136261
    for byte in data:
        h = (h ^ byte) * 16777619 & 0xFFFFFFFF
    return h


def arrives(s, subject):
    """The subjects that a publish on subject arrives at."""
    c = s.connect()
    c.sub(">").ping()
    return [m.subject for m in c.pub(subject, "x").ping()]


@pytest.mark.parametrize("source,destination,subject,result", [
    ("a", "b", "a", "b"), ("a", "b", "a.b", "a.b"), ("a.b", "x.y.z", "a.b", "x.y.z"),
    ("a.*", "b.$1", "a.x", "b.x"), ("a.*.*", "b.$2.$1", "a.x.y", "b.y.x"),
    ("a.*", "b.{{wildcard(1)}}", "a.x", "b.x"), ("a.*", "b.{{Wildcard(1)}}", "a.x", "b.x"),
    ("a.>", "b.>", "a.x.y", "b.x.y"), ("a.*.>", "b.$1.>", "a.x.y.z", "b.x.y.z"),
    (">", "all.>", "a.b", "all.a.b"), ("*", "one.$1", "a", "one.a"),
    ("a.*.*", "b.{{wildcard(2)}}.c.{{wildcard(1)}}", "a.x.y", "b.y.c.x"),
    ("*", "{{split(1,-)}}", "a-b-c", "a.b.c"), ("*", "x.{{split(1,-)}}", "-a--b-", "x.a.b"),
    ("*", "{{splitfromleft(1,3)}}", "abcdef", "abc.def"),
    ("*", "{{SplitFromLeft(1,3)}}", "abcdef", "abc.def"),
    ("*", "{{splitfromright(1,2)}}", "abcdef", "abcd.ef"),
    ("*", "{{slicefromleft(1,2)}}", "abcdefg", "ab.cd.ef.g"),
    ("*", "{{SliceFromLeft(1,2)}}", "abcdefg", "ab.cd.ef.g"),
    ("*", "{{slicefromright(1,2)}}", "abcdefg", "a.bc.de.fg"),
    ("*", "{{left(1,3)}}", "abcdef", "abc"), ("*", "{{right(1,3)}}", "abcdef", "def"),
    ("*", "{{left(1,30)}}", "abc", "abc"), ("*", "{{splitfromleft(1,30)}}", "abc", "abc"),
    ("a", "b", "A", "A"), ("x.*", "y.$1", "x.日本", "y.日本"),
])
def test_destinations(start, source, destination, subject, result):
    s = start(config='mappings { "%s": "%s" }\n' % (source, destination))
    assert arrives(s, subject) == [result]


@pytest.mark.parametrize("buckets,tokens", [(10, "1"), (10, "1,2"), (3, "2"), (1, "1"), (1000, "2,1")])
def test_partition(start, buckets, tokens):
    s = start(config='mappings { "p.*.*": "out.{{partition(%d,%s)}}" }\n' % (buckets, tokens))
    c = s.connect()
    c.sub("out.*").ping()
    for i in range(30):
        values = {"1": "t%d" % i, "2": "u%d" % (i * 7)}
        c.pub("p.%s.%s" % (values["1"], values["2"]), "")
        key = "".join(values[t] for t in tokens.split(",")).encode()
        assert c.ping()[0].subject == "out.%d" % (fnv1a(key) % buckets)


def test_partition_of_the_whole_subject(start):
    s = start(config='mappings { "w.*": "out.{{partition(7)}}" }\n')
    for subject in ("w.a", "w.ab", "w.xyz"):
        assert arrives(s, subject) == ["out.%d" % (fnv1a(subject.encode()) % 7)]


def test_random(start):
    s = start(config='mappings { "r": "out.{{random(4)}}" }\n')
    c = s.connect()
    c.sub("out.*").ping()
    for _ in range(200):
        c.pub("r")
    counts = collections.Counter(m.subject for m in c.ping())
    assert sum(counts.values()) == 200 and set(counts) == {"out.%d" % i for i in range(4)}


def test_reply_and_headers_pass_unchanged(start):
    s = start(config="mappings { a: b }\n")
    c = s.connect()
    c.sub("b").ping()
    assert c.pub("a", "x", "rep").ping() == [Msg("b", "1", "rep", None, b"x")]
    block = b"NATS/1.0\r\nk: v\r\n\r\n"
    assert c.hpub("a", block, "x", "rep").ping() == [Msg("b", "1", "rep", block, b"x")]


def test_no_responders_names_the_mapped_or_the_original(start):
    s = start(config="mappings { a: b }\n")
    c = s.connect()
    got = c.sub("in").pub("a", "", "in").ping()
    assert len(got) == 1 and got[0].headers.startswith(b"NATS/1.0 503\r\nNats-Subject: ")


def test_a_mapping_is_not_mapped_again(start):
    s = start(config="mappings { a: b, b: c }\n")
    assert arrives(s, "a") == ["b"]
    assert arrives(s, "b") == ["c"]


def test_subscriptions_are_not_mapped(start):
    s = start(config="mappings { a: b }\n")
    c = s.connect()
    c.sub("a").ping()
    assert c.pub("a").ping() == []


# --- weights

def spread(s, subject, count=1000):
    c = s.connect()
    c.sub(">").ping()
    for _ in range(count):
        c.pub(subject)
    return collections.Counter(m.subject for m in c.ping())


def test_weights(start):
    s = start(config="mappings { a: [ {destination: b, weight: 70%}, "
              "{destination: c, weight: 30%} ] }\n")
    counts = spread(s, "a")
    assert set(counts) == {"b", "c"} and 620 < counts["b"] < 780


def test_the_remainder_keeps_the_subject(start):
    s = start(config='mappings { a: [ {destination: b, weight: "40%"} ] }\n')
    counts = spread(s, "a")
    assert set(counts) == {"a", "b"} and 320 < counts["b"] < 480


def test_listed_source_makes_the_remainder_a_loss(start):
    s = start(config="mappings { a: [ {destination: a, weight: 50%} ] }\n")
    counts = spread(s, "a")
    assert set(counts) == {"a"} and 420 < counts["a"] < 580


def test_weight_zero(start):
    s = start(config="mappings { a: [ {destination: b, weight: 0%} ] }\n")
    assert set(spread(s, "a", 50)) == {"a"}


def test_weights_with_wildcards(start):
    s = start(config="mappings { 'w.*': [ {destination: 'x.$1', weight: 50%}, "
              "{destination: 'y.$1', weight: 50%} ] }\n")
    assert set(spread(s, "w.k", 100)) == {"x.k", "y.k"}


@pytest.mark.parametrize("text", [
    "mappings { a: [ {destination: b, weight: 70%}, {destination: c, weight: 40%} ] }",
    "mappings { a: [ {destination: b, weight: 101%} ] }", "mappings { 'a.*': 'b.$2' }", "mappings { 'a.>': 'b' , 'c..d': e }",
    "mappings { a: 'b..c' }", "mappings { a: 'b.*' }", "mappings { '*': '{{nonsense(1)}}' }",
    "mappings { '*': '{{wildcard()}}' }", "mappings { '*': '{{wildcard(x)}}' }",
    "mappings { '*': '{{partition()}}' }", "mappings { '*': '{{split(1)}}' }",
    "mappings { '*': '{{left(2,1)}}' }", "mappings: 5", "mappings { a: 5 }",
    "mappings { a: [ {destination: b, weight: x} ] }",
])
def test_bad_mappings(start, text):
    s = start(config=text + "\n", wait=False)
    assert s.wait_exit() == 1
    assert s.log().startswith("nats-server: ")


# --- which mapping

def test_first_in_order_of_the_file(start):
    """Maps of Go have no order, the reference keeps that of the file."""
    s = start(config="mappings {\n 'a.*': 'star.$1'\n 'a.b': literal\n}\n")
    assert arrives(s, "a.c") == ["star.c"]
    assert arrives(s, "a.b") in (["star.b"], ["literal"])


def test_per_account(start):
    s = start(config="""
accounts {
  A { users [{user: a, password: a}], mappings { x: y } }
  B { users [{user: b, password: b}], maps { x: z } }
}
""")
    for name, result in (("a", "y"), ("b", "z")):
        c = s.connect(user=name, **{"pass": name})
        c.sub(">").ping()
        assert [m.subject for m in c.pub("x").ping()] == [result]


def test_permissions_hold_for_the_mapped_subject(start):
    """A mapping is applied before the permissions are looked up."""
    s = start(config="""
mappings { source: target, other: refused }
authorization { users [ {user: u, password: p, permissions: {publish: [target, other]}} ] }
""")
    c = s.connect(user="u", **{"pass": "p"})
    c.sub(">")
    assert [m.subject for m in c.pub("source").ping()] == ["target"]
    c.pub("other")
    assert c.next().startswith("-ERR 'Permissions Violation for Publish to ")


def test_queue_groups_behind_a_mapping(start):
    s = start(config="mappings { work: 'q.{{random(2)}}' }\n")
    a, b = s.connect(), s.connect()
    for c in (a, b):
        c.sub("q.*", 1, "g").ping()
    p = s.connect()
    for _ in range(100):
        p.pub("work")
    p.ping()
    assert len(a.ping()) + len(b.ping()) == 100


def test_order_is_kept(start):
    s = start(config="mappings { 'o.*': 'm.$1' }\n")
    c, p = s.connect(), s.connect()
    c.sub("m.*").ping()
    for i in range(1000):
        p.pub("o.%d" % (i % 3), str(i))
    p.ping()
    assert [int(m.data) for m in c.ping()] == list(range(1000))


@pytest.mark.ours_only
def test_a_publish_that_waits_is_checked_again(start):
    """Without room in a ring a publish is tried again, and weights may choose another subject."""
    s = start("--shards", "2", config="""
        mappings { in: [ {destination: open, weight: 50%}, {destination: secret, weight: 50%} ] }
        authorization { users [ {user: root, password: p},
            {user: bob, password: p, permissions: {publish: open}} ] }\n""")
    roots = [s.connect(user="root", **{"pass": "p"}).sub("secret") for _ in range(8)]
    opens = [s.connect(user="root", **{"pass": "p"}).sub("open") for _ in range(8)]
    for c in roots + opens:
        c.ping()
    bob = s.connect(user="bob", **{"pass": "p"})
    for _ in range(20):
        bob.send((b"PUB in 15000\r\n" + b"x" * 15000 + b"\r\n") * 100)
    bob.ping()
    assert not any(c.ping() for c in roots)
