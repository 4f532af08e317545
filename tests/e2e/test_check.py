"""`millrace check STORE`: what it says of a store that is whole, damaged, in use, of a newer version,
or none at all; and that it changes nothing. And what a start says of things with names of files."""
import base64
import json
import os
import subprocess

import harness
import pytest
import xxhash
from fixture_store import unpack
from harness import Server, run_binary
from jetstream import Js

pytestmark = pytest.mark.ours_only

CLEAN, DAMAGED, UNREADABLE = 0, 1, 2
LOG = "0000-00000001.log"


def check(store, *flags):
    return run_binary("check", *flags, str(store), timeout=60)


def dump(store):
    r = check(store, "--dump")
    assert r.stdout != "", r.stderr
    return [json.loads(line) for line in r.stdout.splitlines()]


def flip(store, file, offset, bit=1):
    path = os.path.join(store, "jetstream", file)
    with open(path, "r+b") as f:
        f.seek(offset)
        byte = f.read(1)[0]
        f.seek(offset)
        f.write(bytes([byte ^ bit]))


def files(store):
    folder = os.path.join(store, "jetstream")
    out = {}
    for name in sorted(os.listdir(folder)):
        stat = os.stat(os.path.join(folder, name))
        out[name] = (stat.st_size, stat.st_mtime_ns)
    return out


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Two streams and a consumer, stopped."""
    folder = tmp_path_factory.mktemp("original")
    store = str(folder / "store")
    s = Server(folder / "server", ["-js", "-sd", store, "--shards", "1"])
    with Js(s) as js:
        js.stream("ORDERS", subjects=["orders.>"])
        js.stream("OTHER", subjects=["other"])
        js.consumer("ORDERS", "c", durable_name="c", ack_policy="explicit")
        for i in range(20):
            js.publish("orders.%d" % (i % 3), b"order %d" % i)
            js.publish("other", b"\x00\xff %d" % i)
    assert s.stop() == 0
    return store


@pytest.fixture
def store(original, tmp_path):
    """A copy to be damaged."""
    copy = str(tmp_path / "store")
    subprocess.run(["cp", "-r", "--sparse=always", original, copy], check=True)
    return copy


def test_clean_store(store):
    before = files(store)
    r = check(store)
    assert r.returncode == CLEAN, r.stdout + r.stderr
    assert "40 MESSAGE" in r.stdout and "4 STREAM" in r.stdout and "1 CONSUMER" in r.stdout
    assert r.stdout.splitlines()[-1] == "clean"
    assert r.stderr == "", "no progress line where there is no terminal"
    assert check(os.path.join(store, "jetstream")).stdout.splitlines()[1:] == r.stdout.splitlines()[1:]
    assert files(store) == before, "a check writes nothing"


def test_a_killed_server_leaves_a_clean_store(start, tmp_path):
    store = str(tmp_path / "store")
    s = start("-js", "-sd", store)
    with Js(s) as js:
        js.stream("S", subjects=["s"])
        for i in range(5):
            js.publish("s", b"%d" % i)
    s.kill()
    r = check(store)
    assert r.returncode == CLEAN, r.stdout + r.stderr
    assert "5 MESSAGE" in r.stdout


def test_dump_has_every_record(store):
    records = dump(store)
    orders = [r for r in records if r["kind"] == "MESSAGE" and r["subject"].startswith("orders")]
    assert [r["seq"] for r in orders] == list(range(1, 21))
    assert [base64.b64decode(r["body"]) for r in orders] == [b"order %d" % i for i in range(20)]
    assert [r["prev_seq"] for r in orders[:5]] == [0, 0, 0, 1, 2]
    assert [r["subject"] for r in records if r["kind"] == "STREAM"] == ["$G ORDERS"] * 2 + ["$G OTHER"] * 2
    assert all(r["file"] == LOG for r in records)
    assert [r["offset"] for r in records] == sorted(r["offset"] for r in records)


def test_a_dump_that_finds_no_room_is_no_success(start, tmp_path):
    """A few lines stay in a buffer until the end."""
    store = str(tmp_path / "store")
    s = start("-js", "-sd", store)
    with Js(s) as js:
        js.stream("S", subjects=["s"])
    assert s.stop() == 0
    with open("/dev/full", "w", encoding="ascii") as full:
        r = subprocess.run([harness.NAME, "check", "--dump", store], executable=harness.BINARY,
                           env=harness.ENVIRONMENT, stdout=full, stderr=subprocess.PIPE, text=True,
                           check=False, timeout=60 * harness.SLOW)
    assert r.returncode == UNREADABLE
    assert "the dump cannot be written" in r.stderr


def test_a_flipped_byte_is_found_and_what_it_cost_is_said(store):
    lost = next(r for r in dump(store) if r["subject"] == "orders.1" and r["seq"] == 8)
    flip(store, LOG, lost["offset"] + 50)
    r = check(store)
    assert r.returncode == DAMAGED
    lines = r.stdout.splitlines()
    assert lines[0].startswith("1. damaged: %s, " % LOG), lines
    assert (" bytes at %d (group " % lost["offset"]) in lines[0]
    assert lines[0].endswith(": records; 1 record is lost")
    assert lines[1] == "  stream %d (ORDERS of account $G): message 8" % lost["stream"]
    assert lines[-1].startswith("damaged: 1 ranges")
    # All else is there, in the dump as well.
    seqs = [r["seq"] for r in dump(store) if r["subject"].startswith("orders")]
    assert seqs == [i for i in range(1, 21) if i != 8]


def figure(server, name):
    lines = server.http("/metrics")[2].splitlines()
    return float(next(l for l in lines if l.startswith("millrace_jetstream_" + name + " ")).split()[1])


def test_a_server_says_the_same_of_it(start, store):
    lost = next(r for r in dump(store) if r["subject"] == "orders.1" and r["seq"] == 8)
    flip(store, LOG, lost["offset"] + 50)
    s = start("-js", "-sd", store, monitor=True)
    s.wait_log(r"damaged in the store: log 0, segment 1, \d+ bytes at %d\n" % lost["offset"])
    assert figure(s, "damaged_ranges") == 1 and figure(s, "lost_messages") == 1
    status, _, body = s.http("/healthz?details=1")
    assert status == 503 and "1 messages were lost to damage" in body
    assert s.http("/healthz")[0] == 200, "a damaged stream must not keep a server from starting"
    with Js(s) as js:
        state = js.ok("STREAM.INFO.ORDERS", {"deleted_details": True})["state"]
        assert (state["messages"], state["last_seq"], state["deleted"]) == (19, 20, [8])
        assert state["lost"]["msgs"] == [8] and state["lost"]["bytes"] > 0
        assert "lost" not in js.state("ORDERS"), "with the deleted ones only"
        assert js.publish("orders.1", b"next")["seq"] == 21
        assert js.state("OTHER")["messages"] == 20


@pytest.mark.parametrize("is_killed", [True, False])
def test_a_stream_says_that_it_lost_all_it_had(start, tmp_path, is_killed):
    store = str(tmp_path / "store")
    s = start("-js", "-sd", store)
    with Js(s) as js:
        js.stream("S", subjects=["s"])
        js.publish("s", b"only")
        js.stream("BEHIND", subjects=["b"])  # the end of a log may be one that was never written
    if is_killed:
        s.kill()
    else:
        assert s.stop() == 0
    flip(store, LOG, next(r for r in dump(store) if r["kind"] == "MESSAGE")["offset"] + 50)
    s = start("-js", "-sd", store, monitor=True)
    assert s.http("/healthz?account=$G&stream=S")[0] == 503
    with Js(s) as js:
        state = js.ok("STREAM.INFO.S", {"deleted_details": True})["state"]
        assert (state["messages"], state["first_seq"]) == (0, 2)
        assert state["lost"]["msgs"] == [1]


def of_stream(store, stream):
    return [r for r in dump(store) if r["stream"] == stream]


@pytest.mark.parametrize("which", [0, 1])
def test_one_damaged_block_does_not_take_a_configuration(start, store, which):
    """STREAM records lie in the log twice, in different blocks."""
    both = [r for r in of_stream(store, 1) if r["kind"] == "STREAM"]
    assert len(both) == 2 and both[0]["offset"] // 4096 != both[1]["offset"] // 4096
    flip(store, LOG, both[which]["offset"] + 50)
    s = start("-js", "-sd", store)
    with Js(s) as js:
        state = js.ok("STREAM.INFO.ORDERS")["state"]
        assert (state["messages"], state["last_seq"]) == (20, 20)
        assert js.ok("CONSUMER.INFO.ORDERS.c")["num_pending"] == 20
    assert "1 damaged ranges" in s.log() and "everything else is served" in s.log()


@pytest.mark.parametrize("which", [0, 1])
def test_an_update_is_there_twice_too(start, tmp_path, which):
    store = str(tmp_path / "store")
    s = start("-js", "-sd", store, "--shards", "1")
    with Js(s) as js:
        js.stream("S", subjects=["s"], max_msgs=10)
        js.ok("STREAM.UPDATE.S", {"name": "S", "subjects": ["s"], "max_msgs": 100})
        for _ in range(30):
            js.publish("s")
    assert s.stop() == 0
    updates = [r for r in of_stream(store, 1) if r["kind"] == "STREAM"][2:]
    assert len(updates) == 2
    flip(store, LOG, updates[which]["offset"] + 50)
    s = start("-js", "-sd", store)
    with Js(s) as js:
        info = js.ok("STREAM.INFO.S")
        assert info["config"]["max_msgs"] == 100 and info["state"]["messages"] == 30


def test_messages_whose_stream_is_lost_are_told(start, store):
    """Its configuration, twice, was all that said which stream they are of."""
    for r in of_stream(store, 1):
        if r["kind"] == "STREAM":
            flip(store, LOG, r["offset"] + 50)
    s = start("-js", "-sd", store)
    with Js(s) as js:
        assert js.ok("STREAM.NAMES")["streams"] == ["OTHER"]
    assert "JetStream: 20 messages are of streams whose configuration is not in the store" in s.log()
    assert "everything else is served" not in s.log()


def test_the_sequence_of_a_damaged_last_message_is_not_given_again(start, store):
    """Nothing behind it shows that it was there, nor that it was not one of the other stream."""
    last = [r for r in dump(store) if r["kind"] == "MESSAGE"][-1]
    assert (last["subject"], last["seq"]) == ("other", 20)
    flip(store, LOG, last["offset"] + 50)
    for i in range(3):
        s = start("-js", "-sd", store, monitor=True)
        assert figure(s, "lost_messages") == 1
        assert [s.http("/healthz?account=$G&stream=" + name)[0] for name in ("OTHER", "ORDERS")] == [503, 200]
        with Js(s) as js:
            assert (js.state("OTHER")["messages"], js.state("OTHER")["last_seq"]) == (19 + i, 20 + i)
            lost = [js.ok("STREAM.INFO." + name, {"deleted_details": True})["state"].get("lost")
                    for name in ("ORDERS", "OTHER")]
            assert lost[0] is None and lost[1]["msgs"] == [20]
            assert (js.state("ORDERS")["messages"], js.state("ORDERS")["last_seq"]) == (20 + i, 21 + i)
            assert js.publish("other", b"next")["seq"] == 21 + i
            assert js.publish("orders.1", b"next")["seq"] == 22 + i
        assert s.stop() == 0


def test_a_damaged_block_of_a_pack(start, tmp_path):
    store = unpack(str(tmp_path / "store"))
    pack = next(n for n in files(store) if n.endswith(".pack"))
    flip(store, pack, 100)
    r = check(store)
    assert r.returncode == DAMAGED
    assert "1. damaged: %s, " % pack in r.stdout and " bytes at 0: block of messages; " in r.stdout
    assert "(JOBS of account $G): message 2\n" in r.stdout
    # A start reads the index; who asks for a message of the block meets it.
    s = start("-js", "-sd", store, monitor=True)
    assert figure(s, "damaged_ranges") == 0
    with Js(s) as js:
        for _ in range(2):
            assert js.refused("STREAM.MSG.GET.JOBS", {"seq": 2})[1] == 10037
        js.ok("STREAM.MSG.GET.ORDERS", {"seq": 60})
        assert js.publish("jobs.1", b"next")["seq"] == 61
    s.wait_log(r"damaged in the store: log \d, pack 1, \d+ bytes at 0: read for message 2 of stream JOBS\n")
    assert figure(s, "damaged_ranges") == 1
    with Js(s) as js:
        state = js.ok("STREAM.INFO.JOBS", {"deleted_details": True})["state"]
        assert state["lost"]["msgs"] == [2] and 2 not in state["deleted"]
    assert s.http("/healthz?details=1")[0] == 503


@pytest.mark.parametrize("feet", [1, 0])
def test_a_pack_that_was_cut(start, tmp_path, feet):
    store = unpack(str(tmp_path / "store"))
    pack = next(n for n in files(store) if n.endswith(".pack"))
    os.truncate(os.path.join(store, "jetstream", pack), files(store)[pack][0] - (2 - feet) * 4096 + 1)
    r = check(store)
    assert r.returncode == DAMAGED
    assert "nothing is lost" in r.stdout and "0 ranges with 0 bytes are lost" in r.stdout
    s = start("-js", "-sd", store, monitor=True)
    with Js(s) as js:
        if feet == 1:  # the other one says where everything is
            js.ok("STREAM.MSG.GET.JOBS", {"seq": 2})
            return
        assert js.refused("STREAM.MSG.GET.JOBS", {"seq": 2})[1] == 10037
        assert js.publish("jobs.1", b"next")["seq"] == 61
    s.wait_log(r"damaged in the store: log \d, pack 1, \d+ bytes at 0: read for message 2 of stream JOBS\n")
    assert s.http("/healthz?details=1")[0] == 503


def test_a_damaged_index_of_a_pack_costs_nothing(tmp_path):
    store = unpack(str(tmp_path / "store"))
    pack = next(n for n in files(store) if n.endswith(".pack"))
    size = files(store)[pack][0]
    for at, what in ((size - 100, "foot"), (size - 5000, "foot")):
        flip(store, pack, at)
        r = check(store)
        flip(store, pack, at)
        assert r.returncode == DAMAGED
        assert "%s, 4096 bytes at %d: %s; nothing is lost" % (pack, at // 4096 * 4096, what) in r.stdout
    assert check(store).returncode == CLEAN


def test_a_damaged_copy_costs_nothing(store):
    flip(store, "root-0", 100)
    flip(store, "0000-manifest-1", 40)
    r = check(store)
    assert r.returncode == DAMAGED
    assert "root-0, 4096 bytes at 0: a copy; nothing is lost" in r.stdout
    assert "0000-manifest-1, 4096 bytes at 0: a copy; nothing is lost" in r.stdout
    assert "40 MESSAGE" in r.stdout


def test_a_log_that_a_start_could_not_make_is_no_damage(start, store):
    """A start with more shards on a full disk leaves two empty manifests, and no root counts them."""
    put(store, {"0001-manifest-0": b"", "0001-manifest-1": b""})
    r = check(store)
    assert r.returncode == CLEAN, r.stdout
    s = start("-js", "-sd", store, "--shards", "2")
    assert s.stop() == 0
    put(store, {"0001-manifest-0": b"", "0001-manifest-1": b""})
    r = check(store)
    assert r.returncode == DAMAGED, "now the root counts it"
    assert "0001-manifest-1, 0 bytes at 0: a copy; what was in it is lost" in r.stdout


def test_without_a_root_the_manifests_are_enough(store):
    flip(store, "root-0", 100)
    flip(store, "root-1", 100)
    r = check(store)
    assert r.returncode == DAMAGED
    assert "root-0" in r.stdout and "root-1" in r.stdout and "40 MESSAGE" in r.stdout


def test_without_root_and_manifests_nothing_can_be_said(store):
    for name in ("root-0", "root-1", "0000-manifest-0", "0000-manifest-1"):
        flip(store, name, 100)
    r = check(store)
    assert r.returncode == UNREADABLE
    assert "neither its root nor any manifest is valid" in r.stderr


def test_a_missing_segment_is_lost(store):
    os.unlink(os.path.join(store, "jetstream", LOG))
    r = check(store)
    assert r.returncode == DAMAGED
    assert "damaged: %s, " % LOG in r.stdout


def damage(store, file, at):
    with open(os.path.join(store, "jetstream", file), "r+b") as f:
        f.seek(at)
        f.write(b"\xa5" * 64)


def content(store, file):
    with open(os.path.join(store, "jetstream", file), "rb") as f:
        return os.fstat(f.fileno()).st_size, xxhash.xxh3_64(f.read(1 << 20)).hexdigest()


def test_what_is_damaged_stays_as_it_is(start, tmp_path):
    """Nothing that cannot be read is overwritten, renamed or removed, however often it is started."""
    store = unpack(str(tmp_path / "store"))
    pack = next(n for n in files(store) if n.endswith(".pack"))
    log = "0000-00000001.log"
    damage(store, pack, 64)
    damage(store, log, 4096 + 64)
    before, said = [content(store, file) for file in (pack, log)], []
    for _ in range(2):
        s = start("-js", "-sd", store, monitor=True)
        with Js(s) as js:
            state = js.state("JOBS")
            said.append((figure(s, "damaged_ranges"), figure(s, "lost_messages"), state["messages"]))
            seq = js.publish("jobs.1", b"next")["seq"]
            assert seq == state["last_seq"] + 1
            js.ok("STREAM.MSG.DELETE.JOBS", {"seq": seq})
        assert s.stop() == 0
        assert [content(store, file) for file in (pack, log)] == before
    assert said[0] == said[1] and said[0][0] > 0


def test_a_store_whose_manifest_is_damaged_is_left_alone(store):
    """Both copies: no start knows what belongs to the log, so none touches anything."""
    flip(store, "0000-manifest-0", 200)
    flip(store, "0000-manifest-1", 200)
    before = files(store)
    for _ in range(2):
        r = run_binary("-js", "-sd", store, "-p", "-1", timeout=60)
        assert r.returncode != 0
        assert "damaged in both copies; nothing was touched" in r.stdout + r.stderr
        assert files(store) == before


def test_a_store_in_use_is_refused(start, tmp_path):
    store = str(tmp_path / "store")
    start("-js", "-sd", store)
    r = check(store)
    assert r.returncode == UNREADABLE
    assert "a server uses this store" in r.stderr


def test_no_store(tmp_path):
    for path in (tmp_path, tmp_path / "nothing"):
        r = check(path)
        assert r.returncode == UNREADABLE
        assert "there is no store" in r.stderr


@pytest.mark.parametrize("file", ["root-1", "0000-manifest-0"])
def test_a_newer_version_is_refused_by_name(store, file):
    path = os.path.join(store, "jetstream", file)
    with open(path, "rb") as f:
        data = bytearray(f.read())
    data[8:12] = (9).to_bytes(4, "little")
    seed = 0x524F4F54 if file.startswith("root") else 0x4D414E49
    data[-8:] = xxhash.xxh3_64_intdigest(bytes(data[:-8]), seed=seed).to_bytes(8, "little")
    with open(path, "wb") as f:
        f.write(data)
    before = files(store)
    for flags in ([], ["--dump"]):
        r = check(store, *flags)
        assert r.returncode == UNREADABLE
        assert file + " has format version 9, this program knows 1" in r.stderr
        assert r.stdout == ""
    assert files(store) == before


def test_help():
    for words in (["--help"], ["-h"], ["--dump", "-help"]):
        r = run_binary("check", *words)
        assert r.returncode == 0
        assert r.stdout.startswith("\nUsage: millrace check [--dump] <store>\n") and r.stderr == ""


def test_words_it_does_not_take(tmp_path):
    for words in (["check"], ["check", "--dump"], ["check", "a", "b"], ["check", "a", "--fix"]):
        r = run_binary(*words)
        assert r.returncode == 2, "1 would say that something is damaged"
        assert "check takes the folder of one store, and --dump" in r.stderr
    assert "check [--dump] <store>" in run_binary("--help").stdout


@pytest.mark.parametrize("file", ["root-0", "0000-manifest-1"])
def test_a_start_names_what_has_the_name_of_a_file(store, file):
    path = os.path.join(store, "jetstream", file)
    os.unlink(path)
    os.mkfifo(path)
    r = run_binary("-p", "-1", "-js", "-sd", store, driver=True)
    assert r.returncode == 1
    assert "cannot open the store %s/jetstream: something else has the name of a file: %s" % (
        store, file) in r.stderr


def test_folders_and_fifos_with_names_of_files_of_the_log(store, start):
    folder = os.path.join(store, "jetstream")
    last = max(int(name[5:13], 16) for name in os.listdir(folder) if name.endswith(".log"))
    for number in range(last + 1, last + 4):
        os.mkdir(os.path.join(folder, "0000-%08x.log" % number))
    os.mkdir(os.path.join(folder, "0000-%08x.pack" % last))
    os.unlink(os.path.join(folder, LOG))
    os.mkfifo(os.path.join(folder, LOG))
    s = start("-js", "-sd", store, "--shards", "1")
    s.wait_log("damaged in the store: log 0, segment 1,")
    s.wait_log("0000-%08x.pack is no part of the store" % last)
    s.wait_log("3 entries of the folder have names of segments or packs")
    with Js(s) as js:
        js.stream("NEW", subjects=["new"])
        js.publish("new", b"1")


def get(store, name):
    with open(os.path.join(store, "jetstream", name), "rb") as f:
        return f.read()


def put(store, contents):
    for name, data in contents.items():
        with open(os.path.join(store, "jetstream", name), "wb") as f:
            f.write(data)


def test_files_newer_than_the_manifest_are_kept(start, store):
    """Manifests that came back from a copy: what was written since is not removed, at no later start
    either, and is there again with the manifests that belong to it."""
    names = ("0000-manifest-0", "0000-manifest-1")
    flags = ("-js", "-sd", store, "--shards", "1")
    older = {name: get(store, name) for name in names}
    s = start(*flags)
    with Js(s) as js:
        assert js.publish("other", b"newer")["seq"] == 21
    assert s.stop() == 0
    newer = {name: get(store, name) for name in names}
    put(store, older)
    r = check(store)
    assert r.returncode == DAMAGED
    assert "or keeps them as FILE.kept" in r.stdout
    assert "a segment that is newer than its manifest, and not read; what was in it is lost" in r.stdout
    for _ in range(2):
        s = start(*flags)
        with Js(s) as js:
            assert js.state("OTHER")["last_seq"] == 20
        assert s.stop() == 0
        kept = [name for name in files(store) if name.endswith(".log.kept")]
        assert kept
        for name in kept:
            assert "[ERR] JetStream: %s is no part of the store" % name in s.log()
    assert "%d files FILE.kept" % len(kept) in check(store).stdout
    for name in kept:
        path = os.path.join(store, "jetstream", name)
        os.rename(path, path[:-len(".kept")])
    put(store, newer)
    s = start(*flags)
    with Js(s) as js:
        assert js.state("OTHER")["last_seq"] == 21
        got = js.ok("STREAM.MSG.GET.OTHER", {"seq": 21})["message"]["data"]
        assert base64.b64decode(got) == b"newer"


def test_what_no_manifest_names_goes_only_from_a_store_without_damage(start, store):
    flags = ("-js", "-sd", store, "--shards", "1")
    strange = {"0000-00000001.pack": b"of a crash"}
    put(store, strange)
    assert start(*flags).stop() == 0
    assert "0000-00000001.pack" not in files(store)
    put(store, strange)
    flip(store, LOG, 4096 + 64)
    for _ in range(2):
        s = start(*flags)
        assert s.stop() == 0
        assert "[ERR] JetStream: 0000-00000001.pack is no part of the store" in s.log()
        assert get(store, "0000-00000001.pack") == b"of a crash"


def test_an_incarnation_is_given_once(start, store):
    """Checksums depend on it. The root came back from a copy, the manifests did not."""
    names = ("root-0", "root-1")
    flags = ("-js", "-sd", store, "--shards", "1")
    older = {name: get(store, name) for name in names}
    assert start(*flags).stop() == 0
    assert start(*flags).stop() == 0
    given = int.from_bytes(get(store, "0000-manifest-0")[56:60], "little")
    put(store, older)
    assert start(*flags).stop() == 0
    assert int.from_bytes(get(store, "0000-manifest-0")[56:60], "little") == given + 1
    assert int.from_bytes(get(store, "root-0")[12:16], "little") == given + 1
