"""Space on disk: what a stream's limits removed comes back, what is left is packed, and all of it
survives SIGKILL."""
import base64
import ctypes
import errno
import functools
import os
import platform
import resource
import signal
import struct
import subprocess

import harness
import pytest
from harness import SLOW, wait_until
from jetstream import Js

pytestmark = pytest.mark.ours_only

SEGMENT = 64 << 20
BODY = 1 << 19


def store_files(store):
    """Segments and packs of the log that has most."""
    names = os.listdir(os.path.join(store, "jetstream"))
    logs = {n[:5] for n in names if n.endswith(".log")}
    return (max(([n for n in names if n.endswith(".log") and n.startswith(log)] for log in logs),
                key=len), [n for n in names if n.endswith(".pack")])


def body_of(i):
    return (b"%07d." % i) * (BODY // 8)


def mebibytes(store):
    """What du says of the files of a log."""
    folder = os.path.join(store, "jetstream")
    return sum(os.stat(os.path.join(folder, n)).st_blocks * 512
               for n in os.listdir(folder) if n.endswith((".log", ".pack"))) / (1 << 20)


def test_what_a_log_with_few_messages_takes(start, tmp_path):
    """The sizes that docs/OPERATIONS.md names under Space."""
    store = str(tmp_path / "store")
    s = start("-js", "-sd", store, "--shards", "1")

    def takes(size, seconds=10):
        wait_until(lambda: size - 1 <= mebibytes(store) <= size + 1, seconds * SLOW,
                   what="%d MiB, not %d" % (size, mebibytes(store)))
    takes(128)
    with Js(s) as js:
        js.stream("S", subjects=["s"])
        for _ in range(75):
            js.publish("s", b"x" * 200)
        takes(192)
        js.ok("STREAM.MSG.DELETE.S", {"seq": 1})
        takes(256, 30)


def test_full_segments_are_packed_and_recycled(start, tmp_path):
    store = str(tmp_path / "store")
    s = start("-js", "-sd", store)
    last = {}
    with Js(s) as js:
        js.stream("LAST", subjects=["last.*"], max_msgs_per_subject=1)
        js.consumer("LAST", "c", ack_policy="explicit", durable_name="c")
        for i in range(6 * SEGMENT // BODY):
            subject = "last.%d" % (i % 3 if i > 5 else i)
            seq = js.publish(subject, body_of(i))["seq"]
            last[subject] = (seq, i)
        wait_until(lambda: len(store_files(store)[0]) <= 6 and store_files(store)[1], 30 * SLOW,
                   what="packed and recycled segments")
    os.kill(s.pid, signal.SIGKILL)
    s.process.wait()
    again = start("-js", "-sd", store)
    with Js(again) as js:
        state = js.state("LAST")
        assert (state["messages"], state["num_subjects"]) == (6, 6)
        assert state["last_seq"] == 6 * SEGMENT // BODY
        for subject, (seq, i) in last.items():
            got = js.ok("STREAM.MSG.GET.LAST", {"last_by_subj": subject})["message"]
            assert got["seq"] == seq, subject
            assert base64.b64decode(got["data"]) == body_of(i)
        assert js.ok("CONSUMER.INFO.LAST.c")["num_pending"] == 6


def start_with_one_message(start, store):
    s = start("-js", "-sd", store)
    with Js(s) as js:
        js.stream("S", subjects=["s"])
        assert js.publish("s", b"kept")["seq"] == 1
    return s


def expect_the_message(js):
    assert base64.b64decode(js.ok("STREAM.MSG.GET.S", {"seq": 1})["message"]["data"]) == b"kept"


def test_a_start_gives_back_what_the_last_segment_did_not_need(start, tmp_path):
    """A disk that was full when the server went would have no room for the next one."""
    store = str(tmp_path / "store")
    s = start_with_one_message(start, store)
    os.kill(s.pid, signal.SIGKILL)
    s.process.wait()
    again = start("-js", "-sd", store)
    sizes = [os.path.getsize(os.path.join(store, "jetstream", n)) for n in store_files(store)[0]]
    assert min(sizes) < SEGMENT // 64, sizes
    with Js(again) as js:
        expect_the_message(js)


def test_a_limit_of_file_sizes_is_a_full_disk(start, tmp_path):
    """What was stored without it is served and can be deleted."""
    store = str(tmp_path / "store")
    start_with_one_message(start, store).stop()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SEGMENT // 2, hard))
    try:
        again = start("-js", "-sd", store)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    with Js(again) as js:
        assert js.publish("s", b"x")["error"]["err_code"] == 10047
        expect_the_message(js)
        assert js.ok("STREAM.PURGE.S")["purged"] == 1


class Filter(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("rules", ctypes.c_char_p)]


def without_fallocate():
    """In a child: the system call (of x86-64) says what NFS before 4.2 does."""
    rules = b"".join(struct.pack("HBBI", *r) for r in (
        (0x20, 0, 0, 0), (0x15, 0, 1, 285), (0x06, 0, 0, 0x50000 | errno.EOPNOTSUPP),
        (0x06, 0, 0, 0x7fff0000)))
    prctl = ctypes.CDLL(None).prctl
    prctl(38, 1, 0, 0, 0)
    prctl(22, 2, ctypes.byref(Filter(4, rules)))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the number of the system call")
def test_a_file_system_that_cannot_reserve_space(start, tmp_path, monkeypatch):
    store = str(tmp_path / "store")
    monkeypatch.setattr(harness.subprocess, "Popen",
                        functools.partial(subprocess.Popen, preexec_fn=without_fallocate))
    start_with_one_message(start, store).stop()
    again = start("-js", "-sd", store)
    with Js(again) as js:
        expect_the_message(js)
        assert js.publish("s", b"x")["seq"] == 2
