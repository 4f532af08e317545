"""Lame duck: tell the clients, take no new ones, let them go over time, leave with 0."""
import signal
import socket
import time

import pytest

from harness import run_binary, wait_until

SHORT = 'lame_duck_duration: "30s"\nlame_duck_grace_period: "200ms"\n'


def test_clients_are_told_and_new_ones_refused(start):
    s = start(config=SHORT)
    c, old = s.connect(), s.connect(protocol=0)
    s.signal(signal.SIGUSR2)
    wait_until(lambda: c.is_readable())
    c.quiet(0.1)
    assert c.infos[-1]["ldm"] is True
    assert "connect_urls" not in c.infos[-1] or c.infos[-1]["connect_urls"] == []
    with pytest.raises((ConnectionRefusedError, ConnectionResetError, AssertionError, OSError)):
        s.client()
    assert c.sub("a").pub("a").ping()
    assert old.sub("a").pub("a").ping()
    assert len(old.infos) == 1
    s.wait_log("Entering lame duck mode, stop accepting new clients")


def test_leaves_when_the_last_client_is_gone(start):
    s = start(config=SHORT)
    clients = [s.connect() for _ in range(3)]
    begin = time.monotonic()
    s.signal(signal.SIGUSR2)
    for c in clients:
        c.rest(20)
    assert s.wait_exit(20) == 0
    assert time.monotonic() - begin < 15


def test_leaves_at_once_without_clients(start):
    s = start(config=SHORT)
    s.signal(signal.SIGUSR2)
    assert s.wait_exit(10) == 0


def test_grace_period_comes_first(start):
    s = start(config='lame_duck_duration: "30s"\nlame_duck_grace_period: "700ms"\n')
    c = s.connect()
    begin = time.monotonic()
    s.signal(signal.SIGUSR2)
    c.rest(20)
    assert time.monotonic() - begin > 0.6
    assert s.wait_exit(20) == 0


def test_term_is_ignored_meanwhile_and_int_is_not(start):
    s = start(config='lame_duck_duration: "30s"\nlame_duck_grace_period: "20s"\n')
    c = s.connect()
    s.signal(signal.SIGUSR2)
    s.wait_log("Entering lame duck mode")
    s.signal(signal.SIGTERM)
    time.sleep(0.2)
    assert s.process.poll() is None
    assert c.ping() == []
    s.signal(signal.SIGINT)
    assert s.wait_exit() == 0


def test_by_the_signal_flag(start, tmp_path):
    s = start("-P", str(tmp_path / "pid"), config=SHORT)
    c = s.connect()
    r = run_binary("-sl=ldm=%s" % (tmp_path / "pid"))
    assert r.returncode == 0, r.stderr
    c.rest(20)
    assert s.wait_exit(20) == 0


def test_the_listener_is_closed_at_once(start):
    s = start(config='lame_duck_duration: "30s"\nlame_duck_grace_period: "5s"\n')
    c = s.connect()
    s.signal(signal.SIGUSR2)
    s.wait_log("Entering lame duck mode")

    def refused():
        try:
            socket.create_connection(("127.0.0.1", s.port), 1).close()
            return False
        except OSError:
            return True
    wait_until(refused)
    assert c.ping() == []


def test_second_signal_changes_nothing(start):
    s = start(config=SHORT)
    c = s.connect()
    s.signal(signal.SIGUSR2)
    s.signal(signal.SIGUSR2)
    c.rest(20)
    assert s.wait_exit(20) == 0
