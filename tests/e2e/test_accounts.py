"""Accounts are walls: subjects, wildcards, queue groups, replies and limits stay inside."""
import json

import pytest

from harness import Msg, wait_until

TWO = """
accounts {
  A { users [{user: a, password: a}, {user: a2, password: a}] }
  B { users [{user: b, password: b}] }
}
"""


def login(s, who, **options):
    return s.connect(user=who, **{"pass": who[0]}, **options)


def test_subjects_do_not_cross(start):
    s = start(config=TWO)
    a, a2, b = login(s, "a"), login(s, "a2"), login(s, "b")
    for c in (a, b):
        c.sub("x", 1).sub(">", 2).sub("*", 3, "q").ping()
    a2.pub("x", "from a").ping()
    assert len(a.ping()) == 3
    assert b.ping() == []
    b.pub("x", "from b").ping()
    assert a.ping() == []


def test_queue_groups_do_not_cross(start):
    s = start(config=TWO)
    a, b, p = login(s, "a"), login(s, "b"), login(s, "a2")
    a.sub("w", 1, "g").ping()
    b.sub("w", 1, "g").ping()
    for _ in range(40):
        p.pub("w")
    p.ping()
    assert (len(a.ping()), len(b.ping())) == (40, 0)


def test_no_responders_is_per_account(start):
    s = start(config=TWO)
    a, b = login(s, "a"), login(s, "b")
    a.sub("svc").ping()
    assert b.request("svc").headers.startswith(b"NATS/1.0 503")


def test_connections_without_a_user_are_refused(start):
    s = start(config=TWO)
    c = s.client()
    assert c.info["auth_required"] is True
    c.send_connect()
    c.closed("Authorization Violation")


def test_accounts_as_a_list_of_names(start):
    s = start(config="accounts: [A, B]\nauthorization { users [{user: u, password: u}] }\n",
              monitor=True)
    assert {"A", "B"} <= set(s.page("/accountz")["accounts"])


def test_users_of_no_account_are_in_g(start):
    s = start(config="accounts { A { users [{user: a, password: a}] } }\n"
              "authorization { users [{user: u, password: u}] }\n")
    assert login(s, "u").infos[1]["remote_account"] == "$G"
    assert login(s, "a").infos[1]["remote_account"] == "A"


def test_no_auth_user_of_an_account(start):
    s = start(config=TWO + "no_auth_user: b\n")
    c, b = s.connect(), login(s, "b")
    assert c.infos[1]["remote_account"] == "B"
    b.sub("x").ping()
    c.pub("x", "y").ping()
    assert [m.data for m in b.ping()] == [b"y"]


def test_same_user_name_in_two_accounts_is_refused(start):
    s = start(config="accounts { A { users [{user: a, password: a}] }, "
              "B { users [{user: a, password: b}] } }\n", wait=False)
    assert s.wait_exit() == 1
    assert "uplicate" in s.log()


# --- limits

def test_connection_limit(start):
    s = start(config="accounts { A { users [{user: a, password: a}], limits { max_connections: 2 } },"
              " B { users [{user: b, password: b}] } }\n", monitor=True)
    one, _two = login(s, "a"), login(s, "a")
    c = s.client()
    c.send_connect(user="a", **{"pass": "a"})
    c.closed("maximum account active connections exceeded")
    closed = wait_until(lambda: s.page("/connz?state=closed")["connections"])
    assert closed[0]["reason"] == "Maximum Account Connections Exceeded"
    other = login(s, "b")
    one.close()
    wait_until(lambda: s.page("/varz")["connections"] == 2)
    login(s, "a").ping()
    assert other.ping() == []


def test_subscription_limit(start):
    s = start(config="accounts { A { users [{user: a, password: a}], limits { max_subs: 3 } } }\n")
    a = login(s, "a")
    for i in range(3):
        a.sub("s.%d" % i, i)
    assert a.ping() == []
    a.sub("s.3", 3).expect("-ERR 'maximum subscriptions exceeded'")
    assert a.ping() == []


def test_payload_limit(start):
    s = start(config="accounts { A { users [{user: a, password: a}], limits { max_payload: 100 } } }\n")
    a = login(s, "a")
    assert a.infos[1]["max_payload"] == 100
    a.pub("x", "y" * 100).ping()
    a.pub("x", "y" * 101).closed("Maximum Payload Violation")


@pytest.mark.parametrize("text", [
    "accounts { A { limits { max_connections: x } } }", "accounts { A { limits { bogus: 1 } } }",
    "accounts { A { users [{user: u}, 5] } }", "accounts { A { bogus: 1 } }",
    "accounts { $G { } }", "accounts { A { limits: 5 } }",
])
def test_bad_account_blocks(start, text):
    s = start(config=text + "\n", wait=False)
    assert s.wait_exit() == 1
    assert s.log().startswith("nats-server: ")


# --- permissions inside accounts

def test_default_permissions_of_an_account(start):
    s = start(config="""
accounts { A {
  default_permissions: { publish: def }
  users [ {user: a, password: a}, {user: c, password: c, permissions: {publish: own}} ]
} }
""")
    a, c = login(s, "a"), login(s, "c")
    a.pub("def").ping()
    a.pub("own").expect("-ERR 'Permissions Violation for Publish to \"own\"'")
    c.pub("own").ping()
    c.pub("def").expect("-ERR 'Permissions Violation for Publish to \"def\"'")


# --- monitoring by account

def test_connz_and_accstatz_by_account(start):
    s = start(config=TWO, monitor=True)
    a, b = login(s, "a"), login(s, "b")
    a.pub("x", "123").ping()
    rows = s.page("/connz?acc=A&auth=1")["connections"]
    assert [(r["cid"], r["account"]) for r in rows] == [(a.info["client_id"], "A")]
    stats = {r["acc"]: r for r in s.page("/accstatz")["account_statz"]}
    assert (stats["A"]["received"]["msgs"], stats["B"]["received"]["msgs"]) == (1, 0)
    assert b.ping() == []


def test_slow_consumers_are_counted_per_account(start):
    s = start(config=TWO + "max_pending: 1MB\nmax_payload: 1MB\nwrite_deadline: 60s\n", monitor=True)
    slow = s.client(rcvbuf=4096)
    slow.send_connect(user="a", **{"pass": "a"})
    slow.sub("x").ping()
    p = login(s, "a2")
    for _ in range(30):
        p.pub("x", b"z" * 1000000)
    p.ping()
    wait_until(lambda: s.page("/varz")["slow_consumers"] == 1)
    stats = {r["acc"]: r for r in s.page("/accstatz?unused=1")["account_statz"]}
    assert (stats["A"]["slow_consumers"], stats["B"]["slow_consumers"]) == (1, 0)


# --- many accounts

def test_many_accounts(start):
    count = 200
    s = start(config="accounts {\n" + "\n".join(
        "A%d { users [{user: u%d, password: u}] }" % (i, i) for i in range(count)) + "\n}\n")
    clients = [login(s, "u%d" % i) for i in range(count)]
    for c in clients:
        c.sub("same").ping()
    for i, c in enumerate(clients):
        assert c.pub("same", str(i)).ping() == [Msg("same", "1", None, None, b"%d" % i)]


def test_system_account_users_are_walled_off_too(start):
    s = start(config="accounts { $SYS { users [{user: s, password: s}] }, "
              "A { users [{user: a, password: a}] } }\n")
    system, a = login(s, "s"), login(s, "a")
    system.sub("plain").ping()
    a.pub("plain").ping()
    assert system.ping() == []
    info = json.loads(system.request("$SYS.REQ.USER.INFO").data)
    assert info["data"]["account"] == "$SYS"


def test_defining_only_the_system_account_keeps_g(start):
    """nats-server lets everybody in then; see test_advisories for what must not be let in."""
    s = start(config="accounts { $SYS { users [{user: s, password: s}] } }\n")
    c = s.client()
    c.send_connect()
    assert c.ping() == []
