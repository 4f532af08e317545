"""The Unix socket's file: who may take it, and who takes it away."""
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile

import pytest

import harness

pytestmark = pytest.mark.ours_only  # nats-server has no such listener


@pytest.fixture
def path():
    """Short: the name of a Unix socket has 107 bytes at most."""
    folder = tempfile.mkdtemp(prefix="mr")
    yield os.path.join(folder, "s")
    shutil.rmtree(folder)


def is_served(path):
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as s:
        s.settimeout(harness.WAIT)
        s.connect(path)
        return s.recv(5) == b"INFO "
    return False


def refused(path, folder):
    server = harness.Server(folder, ["--set", "unix_socket=" + path], wait=False)
    try:
        assert server.wait_exit() == 1
    finally:
        server.kill()
        server.stop()
    assert "Error listening on unix_socket %s: Address already in use" % path in server.log()


def test_a_file_that_is_no_socket_stays(path, tmp_path):
    with open(path, "w", encoding="ascii") as f:
        f.write("precious")
    refused(path, tmp_path / "file")
    with open(path, encoding="ascii") as f:
        assert f.read() == "precious"
    os.unlink(path)
    os.symlink(path + "nowhere", path)
    refused(path, tmp_path / "link")
    assert not os.path.exists(path + "nowhere")


def test_a_busy_listener_keeps_its_file(path, tmp_path):
    """Its backlog is full, so it cannot be asked whether it is there: neither wait nor replace."""
    with socket.socket(socket.AF_UNIX) as busy, contextlib.ExitStack() as crowd:
        busy.bind(path)
        busy.listen(0)
        for _ in range(3):
            s = crowd.enter_context(socket.socket(socket.AF_UNIX))
            s.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                s.connect(path)
        refused(path, tmp_path / "s")
        assert os.path.exists(path)


def test_a_socket_of_another_kind_keeps_its_file(path, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(path)
        refused(path, tmp_path / "s")
        assert os.path.exists(path)


def test_a_killed_server_can_be_started_again_at_once(path, tmp_path):
    """The kernel keeps the old listener for some milliseconds after the process is gone."""
    for i in range(8):
        server = harness.Server(tmp_path / str(i), ["--set", "unix_socket=" + path])
        assert is_served(path)
        server.kill()
        server.stop()
    assert os.path.exists(path)


def test_the_end_of_a_server_leaves_its_successors_file(path, start):
    first = start("--set", "unix_socket=" + path)
    os.unlink(path)
    second = start("--set", "unix_socket=" + path)
    assert first.stop() == 0
    assert is_served(path)
    assert second.stop() == 0
    assert not os.path.exists(path)


def test_who_is_at_the_other_end(path, start):
    s = start("-D", "--set", "unix_socket=" + path, monitor=True)
    code = ("import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]);"
            "s.sendall(b'CONNECT {\"verbose\":false}\\r\\nPING\\r\\n');"
            "print(s.recv(4096)[:5], flush=True); sys.stdin.read()")
    with subprocess.Popen([sys.executable, "-c", code, path], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE) as other:
        assert b"INFO " in other.stdout.readline()
        [c] = s.page("/connz")["connections"]
        assert (c["peer_uid"], c["peer_gid"]) == (os.getuid(), os.getgid())
        assert c["peer_pid"] == other.pid
        assert c["ip"] == ""
        other.stdin.close()
    harness.wait_until(lambda: s.page("/connz?state=closed")["connections"], what="its end")
    [c] = s.page("/connz?state=closed")["connections"]
    assert c["peer_pid"] == other.pid
    s.wait_log(r"\[DBG\] unix uid:%d gid:%d pid:%d - cid:%d - Client connection created"
               % (os.getuid(), os.getgid(), other.pid, c["cid"]))
    with s.client():
        [c] = s.page("/connz")["connections"]
        assert "peer_uid" not in c
