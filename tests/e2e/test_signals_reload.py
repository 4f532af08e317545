"""Signals, and a reload that takes all of a new configuration or nothing."""
import contextlib
import os
import signal
import time

import pytest

from harness import Closed, is_reference, run_binary, wait_until

FAILED = r"\[ERR\] Failed to reload server configuration: .*"
DONE = r"Reloaded server configuration"


def user(name, permissions=""):
    return "{user: %s, password: %s %s}" % (
        name, name, ", permissions: {%s}" % permissions if permissions else "")


def users(*rows):
    return "authorization { users [ %s ] }\n" % ", ".join(rows)


def login(s, name):
    return s.connect(user=name, **{"pass": name})


# --- exit

@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_exit_0(start, number):
    s = start()
    c = s.connect()
    s.signal(number)
    assert s.wait_exit() == 0
    c.closed()


def test_exit_with_many_clients_and_work_in_flight(start):
    s = start()
    clients = [s.connect() for _ in range(50)]
    for c in clients:
        c.sub("x")
        for _ in range(20):
            c.pub("x", "y" * 1000)
    s.signal(signal.SIGTERM)
    assert s.wait_exit() == 0


def test_a_second_signal_while_stopping(start):
    s = start()
    for _ in range(5):
        s.signal(signal.SIGINT)
    assert s.wait_exit() == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_the_port_is_free_at_once(start, number):
    """Suites start the next server on the same port without a pause."""
    s = start()
    port = s.port
    for _ in range(8):
        c = s.connect()
        c.sub("x").ping()
        s.signal(number)
        s.wait_exit()
        s = start("-p", str(port))
    assert s.connect().ping() == []


def test_sigpipe_does_not_kill(start):
    s = start()
    s.signal(signal.SIGPIPE)
    assert s.connect().ping() == []


def test_shutdown_is_the_reason(start):
    s = start("-D")
    s.connect()
    s.signal(signal.SIGINT)
    assert s.wait_exit() == 0


# --- reload in general

def test_reload_without_a_file(start):
    s = start()
    s.signal(signal.SIGHUP)
    s.wait_log(r"\[ERR\] Failed to reload server configuration: can only reload config when a "
               "file is provided")
    assert s.connect().ping() == []


def test_reload_of_nothing(start):
    s = start(config="max_payload: 1000\n")
    m = s.reload(expect=r"Reloaded server configuration \(sha256:[0-9a-f]{64}\)")
    digest = run_binary("-t", "-c", s.config_path).stderr.split("(")[1].split(")")[0]
    assert digest in m.group(0)
    assert 'Trapped "hangup" signal' in s.log()


@pytest.mark.parametrize("text", ["bogus: 1\n", "max_payload: {\n", "include missing.conf\n",
                                  "max_payload: x\n", "port: $NOWHERE\n"])
def test_a_broken_file_changes_nothing(start, text):
    s = start(config="max_payload: 1000\n")
    c = s.connect()
    s.reload(text, expect=FAILED)
    assert s.client().info["max_payload"] == 1000
    assert c.sub("a").pub("a").ping()
    s.reload("max_payload: 2000\n")
    assert s.client().info["max_payload"] == 2000


@pytest.mark.ours_only
def test_a_crowd_loses_its_user(start):
    """More connections are closed by one reload than a turn of the server has room for."""
    users = "authorization { users: [{user: %s, password: p}] }\n"
    s = start("--shards", "1", config=users % "a")
    crowd = []
    for _ in range(4200):
        crowd.append(s.client().send_connect(user="a", **{"pass": "p"}))
    for c in crowd:
        c.ping()
    s.reload(users % "b")
    for c in crowd:
        with pytest.raises((Closed, ConnectionError)):
            c.ping()
        c.close()
    assert s.connect(user="b", **{"pass": "p"}).ping() == []


def test_file_that_vanished(start):
    s = start(config="max_payload: 1000\n")
    os.unlink(s.config_path)
    s.signal(signal.SIGHUP)
    s.wait_log(FAILED)
    assert s.client().info["max_payload"] == 1000


@pytest.mark.parametrize("old,new,field", [
    ("server_name: a", "server_name: b", "ServerName"),
    ("max_pending: 10MB", "max_pending: 20MB", "MaxPending"),
    ("max_subscriptions: 10", "max_subscriptions: 20", "MaxSubs"),
    ("http: '127.0.0.1:-1'", "http: '127.0.0.1:1'", "HTTPPort"),
    ("system_account: A\naccounts {A {}, B {}}", "system_account: B\naccounts {A {}, B {}}",
     "SystemAccount"),
])
def test_what_cannot_change_rejects_everything(start, old, new, field):
    s = start(config="max_payload: 1000\n%s\n" % old)
    s.reload("max_payload: 2000\n%s\n" % new,
             expect=r"\[ERR\] .*config reload not supported for %s: old=.*, new=.*" % field)
    s.wait_log(FAILED)
    assert s.client().info["max_payload"] == 1000
    assert "Reloaded: " not in s.log()


def test_port_in_the_file_cannot_change(start):
    s = start(config="listen: '127.0.0.1:-1'\n", defaults=False)
    s.reload("listen: '127.0.0.1:4321'\n", expect=FAILED)
    assert s.connect().ping() == []


def test_flags_stay_in_force_over_a_reload(start):
    s = start("-D", "--user", "u", "--pass", "p", config="max_payload: 1000\n")
    s.reload("max_payload: 2000\ndebug: false\nport: 1\nauthorization {user: x, password: y}\n")
    s.connect(user="u", **{"pass": "p"}).ping()
    c = s.client()
    assert c.info["max_payload"] == 2000
    c.send_connect(user="x", **{"pass": "y"})
    c.closed("Authorization Violation")


# --- what can change

def test_limits(start):
    s = start(config="max_payload: 1000\nmax_control_line: 1k\n", monitor=True)
    c = s.connect()
    s.reload("max_payload: 50\nmax_control_line: 2k\nping_max: 5\nping_interval: '1m'\n"
             "write_deadline: '3s'\nmax_connections: 77\n")
    v = s.page("/varz")
    assert (v["max_payload"], v["max_control_line"], v["ping_max"], v["ping_interval"],
            v["write_deadline"], v["max_connections"]) == (50, 2000, 5, 60 * 10**9, 3 * 10**9, 77)
    s.connect().pub("a", "x" * 51).closed("Maximum Payload Violation")
    assert c.pub("a", "x" * 40).ping() == []
    assert s.connect().sub("a" * 1500).ping() == []
    for what in ("max_payload", "max_control_line", "ping_max", "ping_interval", "write_deadline",
                 "max_connections"):
        assert "Reloaded: %s = " % what in s.log()


def test_config_load_time_and_digest(start):
    s = start(config="max_payload: 1000\n", monitor=True)
    before = s.page("/varz")
    s.reload("max_payload: 1001\n")
    after = s.page("/varz")
    assert after["config_load_time"] > before["config_load_time"]
    assert after["config_digest"] != before["config_digest"]


def test_fewer_connections(start):
    s = start(config="max_connections: 10\n", monitor=True)
    clients = [s.connect() for _ in range(6)]
    s.reload("max_connections: 2\n")
    wait_until(lambda: s.page("/varz")["connections"] == 2)
    gone = 0
    for c in clients:
        try:
            c.ping()
        except (Closed, OSError):
            gone += 1
    assert gone == 4
    s.client(read_info=False).closed("maximum connections exceeded")


def test_debug_and_trace(start):
    s = start(config="debug: false\n")
    s.reload("debug: true\ntrace: true\n")
    s.connect().pub("a", "hello").ping()
    s.wait_log(r"\[TRC\].*PUB a 5")
    s.reload("debug: false\ntrace: false\n")
    s.connect().pub("after").ping()
    assert "PUB after" not in s.log()


def test_log_file(start, tmp_path):
    a, b = tmp_path / "a.log", tmp_path / "b.log"
    s = start(config="log_file: '%s'\n" % a)
    wait_until(lambda: a.exists() and "Server is ready" in a.read_text())
    s.write_config("log_file: '%s'\n" % b)
    s.signal(signal.SIGHUP)
    wait_until(lambda: b.exists() and "Reloaded" in b.read_text())


def test_pid_file_and_tags(start, tmp_path):
    s = start(config="server_tags: [a]\n", monitor=True)
    path = tmp_path / "late.pid"
    s.reload("server_tags: [b, c]\npid_file: '%s'\nserver_metadata: {x: y}\n" % path)
    assert s.page("/varz")["tags"] == ["b", "c"]
    assert path.read_text() == str(s.pid)


def test_client_advertise(start):
    s = start(config="client_advertise: 'a:1'\n")
    s.reload("client_advertise: 'b:2'\n")
    info = s.client().info
    assert (info["host"], info["port"]) == ("b", 2)


# --- users

def test_new_user_and_removed_user(start):
    s = start(config=users(user("a"), user("b")))
    a, b = login(s, "a"), login(s, "b")
    s.reload(users(user("a"), user("c")))
    assert a.sub("x").pub("x").ping()
    b.closed()
    login(s, "c").ping()
    c = s.client()
    c.send_connect(user="b", **{"pass": "b"})
    c.closed("Authorization Violation")


def test_changed_password(start):
    s = start(config=users("{user: a, password: one}", user("b")))
    a = s.connect(user="a", **{"pass": "one"})
    s.reload(users("{user: a, password: two}", user("b")))
    data = a.rest()
    assert data in (b"", b"-ERR 'Authorization Violation'\r\n"), data
    s.connect(user="a", **{"pass": "two"}).ping()


@pytest.mark.parametrize("before, more", [
    ("debug: false\n", {"pass": "wrong"}), ("authorization { token: t }\n", {"auth_token": "t"})])
@pytest.mark.parametrize("after", [
    users(user("root"), user("bob")), "authorization { user: root, password: root }\n"])
def test_a_name_nobody_asked_for_proves_nothing(start, before, more, after):
    """Where no user was asked for, CONNECT may name any; a reload must not believe it."""
    s = start(config=before)
    c = s.connect(user="root", **more)
    s.reload(after)
    assert c.rest() in (b"", b"-ERR 'Authorization Violation'\r\n")


def test_an_nkey_nobody_asked_for_is_no_name(start):
    """bob, who calls himself root where no nkeys are in use, gets bob's new rights, not root's."""
    config = ("authorization { users [ {user: root, password: same}, {user: bob, password: same, "
              "permissions: {publish: %s} } ] }\n")
    s = start(config=config % "a")
    c = s.connect(user="bob", nkey="root", **{"pass": "same"})
    s.reload(config % "b")
    refused = ["-ERR 'Permissions Violation for Publish to \"secret\"'"]
    if is_reference():  # it looks for an nkey then, and closes
        with contextlib.suppress(Closed, OSError):
            assert c.pub("secret", "x").ping() == refused
        return
    assert c.pub("secret", "x").ping() == refused
    assert c.pub("b", "x").ping() == []
    assert c.pub("a", "x").ping() == ["-ERR 'Permissions Violation for Publish to \"a\"'"]


def test_switching_authorization_on(start):
    s = start(config="debug: false\n")
    a = s.connect()
    s.reload("authorization {user: u, password: p}\n")
    data = a.rest()
    assert data in (b"", b"-ERR 'Authorization Violation'\r\n"), data
    assert s.client().info["auth_required"] is True
    s.reload("debug: false\n")
    assert s.connect().ping() == []


def test_subscriptions_no_longer_permitted_are_removed(start):
    s = start(config=users(user("a"), user("z")))
    a, z = login(s, "a"), login(s, "z")
    a.sub("keep", 1).sub("drop", 2).sub("drop", 3, "q").ping()
    s.reload(users(user("a", "subscribe: keep"), user("z")))
    lines = sorted([a.next(), a.next()])
    assert lines == sorted([
        "-ERR 'Permissions Violation for Subscription to \"drop\" (sid \"2\")'",
        "-ERR 'Permissions Violation for Subscription to \"drop\" using queue \"q\" (sid \"3\")'"])
    z.pub("drop").pub("keep").ping()
    assert [m.subject for m in a.ping()] == ["keep"]
    s.wait_log(r'\[INF\] Removed sub "drop" \(sid "2"\) for User "a" - not authorized')
    s.wait_log(r'\[INF\] Removed sub "drop" using queue "q" \(sid "3"\) for User "a" - not authorized')


def test_publish_permissions_change_under_a_connection(start):
    s = start(config=users(user("a", "publish: x")))
    a = login(s, "a")
    a.pub("x").ping()
    s.reload(users(user("a", "publish: y")))
    a.pub("x").expect("-ERR 'Permissions Violation for Publish to \"x\"'")
    assert a.pub("y").ping() == []


def test_messages_are_not_lost_by_a_reload(start):
    """A stream of messages passes while reloads go on."""
    s = start(config="max_payload: 1000\n")
    c, p = s.connect(), s.connect()
    c.sub("flow").ping()
    count = 0
    for i in range(10):
        s.write_config("max_payload: %d\nping_max: %d\n" % (1000 + i, 2 + i))
        s.signal(signal.SIGHUP)
        for _ in range(200):
            p.pub("flow", str(count))
            count += 1
        time.sleep(0.005)
    p.ping()
    got = [int(m.data) for m in c.ping()]
    assert got == list(range(count))
    s.wait_log(DONE)


def test_reload_storm(start):
    s = start(config="max_payload: 1000\n")
    for _ in range(50):
        s.signal(signal.SIGHUP)
    wait_until(lambda: s.client().info["max_payload"] == 1000)
    s.reload("max_payload: 1234\n")
    wait_until(lambda: s.client().info["max_payload"] == 1234)


# --- accounts

def test_accounts_change(start):
    one = "accounts { A { users [%s] }, B { users [%s] } }\n" % (user("a"), user("b"))
    two = "accounts { A { users [%s, %s] }, C { users [%s] } }\n" % (user("a"), user("d"), user("b"))
    s = start(config=one)
    a, b = login(s, "a"), login(s, "b")
    a.sub("x").ping()
    s.reload(two)
    b.closed()
    d, b2 = login(s, "d"), login(s, "b")
    d.pub("x", "from d").ping()
    b2.pub("x", "from b").ping()
    assert [m.data for m in a.ping()] == [b"from d"]
    assert b2.infos[1]["remote_account"] == "C"


# --- mappings

def test_mappings_change(start):
    s = start(config="mappings { old: new }\n")
    c = s.connect()
    c.sub(">").ping()
    assert [m.subject for m in c.pub("old").ping()] == ["new"]
    s.reload("mappings { old: newer }\n")
    assert [m.subject for m in c.pub("old").ping()] == ["newer"]
    s.reload("mappings { other: new }\n")
    assert [m.subject for m in c.pub("old").ping()] == ["old"]
