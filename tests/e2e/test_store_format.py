"""The bytes of a store: what was written before is served today, and docs/FORMAT.md is enough to read
it (store_reader.py knows nothing else)."""
import base64
import json
import os
import subprocess

import harness
import pytest
from fixture_store import describe, digest, expected, unpack
from harness import NAME, run_binary
from jetstream import Js
from store_reader import Store, cost

pytestmark = pytest.mark.ours_only


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """As it was unpacked: for those who only read."""
    return unpack(str(tmp_path_factory.mktemp("store")))


def test_the_fixture_holds_what_it_should(store):
    reader = Store(os.path.join(store, "jetstream"))
    assert (reader.root["incarnation"], reader.root["logs"]) == (2, 2)
    seen = {(r.kind, r.file.rsplit(".", 1)[1]) for r in reader.records()}
    assert seen == {("MESSAGE", "pack")} | {(kind, "log") for kind in (
        "MESSAGE", "ERASE", "PURGE", "STREAM", "STREAM_GONE", "CONSUMER", "CONSUMER_GONE",
        "PROGRESS", "CHECKPOINT")}
    r = run_binary("check", store, timeout=60)
    assert (r.returncode, r.stdout.splitlines()[-1]) == (0, "clean"), r.stdout + r.stderr


def test_a_store_of_format_1_is_served(start, tmp_path):
    s = start("-js", "-sd", unpack(str(tmp_path / "store")))
    with Js(s) as js:
        holds, wanted = describe(js), expected()
    assert holds.keys() == wanted.keys()
    for stream, want in wanted.items():
        assert holds[stream] == want, stream


def test_a_store_of_nats_server_is_named_and_left_alone(start, tmp_path):
    """Whoever comes from there with the same store_dir is told why there are no streams."""
    store = tmp_path / "jetstream"
    meta = store / "$G" / "streams" / "OLD" / "meta.inf"
    meta.parent.mkdir(parents=True)
    meta.write_text("{}")
    s = start("-js", "-sd", str(tmp_path))
    with Js(s) as js:
        assert js.api("STREAM.NAMES")["total"] == 0
    assert meta.read_text() == "{}"
    lines = [line for line in s.log().splitlines() if "is of nats-server" in line]
    assert len(lines) == 1 and "[WRN]" in lines[0] and str(store / "$G" / "streams") in lines[0]


def dumped(r):
    """As `check --dump` prints it."""
    return {"file": r.file, "offset": r.offset, "kind": r.kind, "flags": r.flags,
            "stream": r.stream, "seq": r.seq, "prev_seq": r.prev_seq, "time_ns": r.time_ns,
            "subject": r.subject.decode(), "headers": base64.b64encode(r.headers).decode(),
            "body": base64.b64encode(r.body).decode()}


def test_a_reader_made_from_the_page_finds_every_record(store):
    """Side by side: some records are large."""
    mine = Store(os.path.join(store, "jetstream")).records()
    with subprocess.Popen([NAME, "check", "--dump", store], executable=harness.BINARY,
                          stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as p:
        for line in p.stdout:
            assert dumped(next(mine)) == json.loads(line)
        assert next(mine, None) is None
        assert p.wait() == 0


def test_a_reader_made_from_the_page_finds_what_is_live(store):
    streams = Store(os.path.join(store, "jetstream")).streams()
    wanted = expected()
    assert sorted(streams) == sorted("$G " + name for name in wanted)
    for name, want in wanted.items():
        s, state = streams["$G " + name], want["state"]
        found = [[r.seq, r.subject.decode(), digest(r.headers, r.body)] for r in s.live.values()]
        assert found == [m[:3] for m in want["messages"]], name
        assert (len(s.live), s.first, s.last, sum(cost(r) for r in s.live.values())) == (
            state["messages"], state["first_seq"], state["last_seq"], state["bytes"]), name
        assert sorted(c.name for c in s.consumers.values()) == sorted(want["consumers"])
        for c in s.consumers.values():
            info = want["consumers"][c.name]
            p = c.progress or {"delivered": (0, 0), "floor": (0, 0), "entries": {}}
            assert list(p["delivered"]) == info["delivered"], (name, c.name)
            # It passes what is gone without a record of its own.
            assert p["floor"][1] <= info["ack_floor"][1], (name, c.name)


def test_what_ends_of_consumers_and_other_filters_leave(start, tmp_path):
    """Of an interest stream: the page says what these records take out."""
    s = start("-js", "-sd", str(tmp_path))
    with Js(s) as js:
        js.stream("S", subjects=["s.*"], retention="interest")
        for name, filters in (("A", ["s.1", "s.2"]), ("B", ["s.2", "s.3"]), ("C", ["s.4"])):
            js.consumer("S", name, durable_name=name, ack_policy="explicit", filter_subjects=filters)
        for i in range(12):
            js.publish("s.%d" % (1 + i % 4), b"m%d" % i)
        js.consumer("S", "A", durable_name="A", ack_policy="explicit", filter_subjects=["s.1"])
        js.consumer("S", "B", durable_name="B", ack_policy="explicit", filter_subjects=["s.2"])
        js.ok("CONSUMER.DELETE.S.C")
        assert js.state("S")["messages"] == 6
    assert s.stop() == 0
    live = Store(str(tmp_path / "jetstream")).streams()["$G S"].live
    assert [(r.seq, r.subject) for r in live.values()] == [
        (1, b"s.1"), (2, b"s.2"), (5, b"s.1"), (6, b"s.2"), (9, b"s.1"), (10, b"s.2")]
