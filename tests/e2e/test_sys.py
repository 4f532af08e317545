"""The system account: events about clients, accounts and the server, and the requests that it
answers."""
import gzip
import json
import re
import signal

import pytest

from harness import Msg, wait_until

CONFIG = """
server_name: mill
server_tags: [t1]
accounts {
  $SYS { users [{user: sys, password: sys}] }
  A { users [{user: a, password: a}] }
  B { users [{user: b, password: b}] }
}
"""
SERVER = ["name", "host", "id", "ver", "tags", "feature_flags", "jetstream", "flags", "seq", "time"]
STATSZ = ["start", "mem", "cores", "cpu", "connections", "total_connections", "active_accounts",
          "subscriptions", "sent", "sent_to_clients", "received", "received_from_clients",
          "slow_consumers"]


@pytest.fixture
def system(start):
    """(server, connection of the system account)"""
    s = start(config=CONFIG, monitor=True)
    return s, s.connect(user="sys", **{"pass": "sys"})


def login(s, who, **options):
    return s.connect(user=who, **{"pass": who}, **options)


def event(c, subject, timeout=None):
    """The JSON of the next message on subject; others are skipped."""
    while True:
        m = c.msg(timeout)
        if m.subject == subject:
            return json.loads(m.data)


# --- events

def test_connect_event(system):
    s, c = system
    c.sub("$SYS.ACCOUNT.*.CONNECT").ping()
    a = login(s, "a", name="nm")
    e = event(c, "$SYS.ACCOUNT.A.CONNECT")
    assert list(e) == ["type", "id", "timestamp", "server", "client"]
    assert e["type"] == "io.nats.server.advisory.v1.client_connect"
    assert list(e["server"]) == SERVER
    assert (e["server"]["name"], e["server"]["id"], e["server"]["tags"]) == (
        "mill", a.info["server_id"], ["t1"])
    client = e["client"]
    assert {k: client[k] for k in ("host", "id", "acc", "user", "name", "lang", "ver", "kind",
                                   "client_type")} == {
        "host": "127.0.0.1", "id": a.info["client_id"], "acc": "A", "user": "a", "name": "nm",
        "lang": "test", "ver": "1", "kind": "Client", "client_type": "nats"}
    assert "pass" not in client


def test_disconnect_event(system):
    s, c = system
    c.sub("$SYS.ACCOUNT.A.DISCONNECT").ping()
    a = login(s, "a")
    a.sub("x").pub("x", "123").ping()
    a.close()
    e = event(c, "$SYS.ACCOUNT.A.DISCONNECT")
    assert list(e) == ["type", "id", "timestamp", "server", "client", "sent", "received", "reason"]
    assert e["type"] == "io.nats.server.advisory.v1.client_disconnect"
    assert (e["sent"]["msgs"], e["sent"]["bytes"]) == (1, 3)
    assert (e["received"]["msgs"], e["received"]["bytes"]) == (1, 3)
    assert e["reason"] == "Client Closed"
    assert e["client"]["stop"] >= e["client"]["start"]


def test_disconnect_reasons(system):
    s, c = system
    c.sub("$SYS.ACCOUNT.A.DISCONNECT").ping()
    a = login(s, "a")
    a.send("BLAH\r\n")
    assert event(c, "$SYS.ACCOUNT.A.DISCONNECT")["reason"] in ("Parse Error", "Protocol Violation")
    a = login(s, "a")
    a.send("PUB x 99999999\r\n")
    assert event(c, "$SYS.ACCOUNT.A.DISCONNECT")["reason"] == "Maximum Message Payload Exceeded"


def test_auth_error_event(system):
    s, c = system
    c.sub("$SYS.SERVER.*.CLIENT.AUTH.ERR").ping()
    bad = s.client()
    bad.send_connect(user="a", **{"pass": "canary-secret"})
    bad.closed("Authorization Violation")
    m = c.msg()
    assert m.subject == "$SYS.SERVER.%s.CLIENT.AUTH.ERR" % c.info["server_id"]
    e = json.loads(m.data)
    assert e["type"] == "io.nats.server.advisory.v1.client_disconnect"
    assert (e["reason"], e["client"]["user"]) == ("Authentication Failure", "a")
    assert b"canary-secret" not in m.data


def test_account_connections_event(system):
    s, c = system
    c.sub("$SYS.ACCOUNT.*.SERVER.CONNS", 1).sub("$SYS.SERVER.ACCOUNT.*.CONNS", 2).ping()
    a = login(s, "a")
    seen = {}
    while len(seen) < 2:
        m = c.msg()
        seen[m.subject] = json.loads(m.data)
    assert set(seen) == {"$SYS.ACCOUNT.A.SERVER.CONNS", "$SYS.SERVER.ACCOUNT.A.CONNS"}
    e = seen["$SYS.ACCOUNT.A.SERVER.CONNS"]
    assert e["type"] == "io.nats.server.advisory.v1.account_connections"
    assert (e["acc"], e["conns"], e["leafnodes"], e["total_conns"]) == ("A", 1, 0, 1)
    a.close()
    e = event(c, "$SYS.ACCOUNT.A.SERVER.CONNS")
    assert (e["conns"], e["total_conns"]) == (0, 0)


def test_statsz_event(system):
    s, c = system
    c.sub("$SYS.SERVER.*.STATSZ").ping()
    m = c.msg(11)
    assert m.subject == "$SYS.SERVER.%s.STATSZ" % c.info["server_id"]
    e = json.loads(m.data)
    assert list(e) == ["server", "statsz"]
    assert list(e["statsz"])[:len(STATSZ)] == STATSZ
    assert e["statsz"]["connections"] == 1


def test_shutdown_and_lame_duck_events(system):
    s, c = system
    c.sub("$SYS.SERVER.*.LAMEDUCK").ping()
    s.signal(signal.SIGUSR2)
    assert c.msg().subject == "$SYS.SERVER.%s.LAMEDUCK" % c.info["server_id"]


def test_shutdown_event(system):
    s, c = system
    c.sub("$SYS.SERVER.*.SHUTDOWN").ping()
    s.signal(signal.SIGINT)
    assert c.msg().subject == "$SYS.SERVER.%s.SHUTDOWN" % c.info["server_id"]


def test_events_stay_in_the_system_account(system):
    s, _ = system
    b = login(s, "b")
    b.sub("$SYS.>").sub(">", 2).ping()
    login(s, "a").close()
    b.quiet(0.2)


def test_event_numbers_count_up(system):
    s, c = system
    c.sub("$SYS.ACCOUNT.A.CONNECT").ping()
    numbers = []
    for _ in range(3):
        login(s, "a")
        numbers.append(event(c, "$SYS.ACCOUNT.A.CONNECT")["server"]["seq"])
    assert numbers == sorted(set(numbers))


# --- requests to the server

@pytest.mark.parametrize("name,key", [
    ("VARZ", "connections"), ("CONNZ", "num_connections"), ("SUBSZ", "num_subscriptions"),
    ("ROUTEZ", "num_routes"), ("GATEWAYZ", "outbound_gateways"), ("LEAFZ", "leafnodes"),
    ("ACCOUNTZ", "accounts"), ("JSZ", "streams"), ("HEALTHZ", "status")])
@pytest.mark.parametrize("target", ["PING", "id"])
def test_server_requests(system, name, key, target):
    _, c = system
    where = c.info["server_id"] if target == "id" else "PING"
    r = c.request_json("$SYS.REQ.SERVER.%s.%s" % (where, name))
    assert list(r) == ["server", "data"]
    assert list(r["server"]) == SERVER
    assert key in r["data"]


def test_the_pages_are_those_of_http(system):
    s, c = system
    for name in ("VARZ", "CONNZ", "ACCOUNTZ", "ROUTEZ", "LEAFZ", "GATEWAYZ"):
        r = c.request_json("$SYS.REQ.SERVER.PING." + name)["data"]
        assert list(r) == list(s.page("/" + name.lower()))


def test_healthz(system):
    _, c = system
    r = c.request_json("$SYS.REQ.SERVER.PING.HEALTHZ")
    assert r["data"] == {"status": "ok", "status_code": 200}


def test_idz(system):
    _, c = system
    for where in ("PING", c.info["server_id"]):
        assert c.request_json("$SYS.REQ.SERVER.%s.IDZ" % where) == {
            "name": "mill", "host": "127.0.0.1", "id": c.info["server_id"]}


@pytest.mark.parametrize("subject", ["$SYS.REQ.SERVER.PING", "$SYS.REQ.SERVER.PING.STATSZ"])
def test_statsz_request(system, subject):
    _, c = system
    r = c.request_json(subject)
    assert list(r) == ["server", "statsz"]
    assert list(r["statsz"])[:len(STATSZ)] == STATSZ


def test_options_of_a_request(system):
    s, c = system
    a = login(s, "a", name="one")
    a.sub("x").ping()
    login(s, "b", name="two")
    r = c.request_json("$SYS.REQ.SERVER.PING.CONNZ", {"acc": "A", "auth": True,
                                                      "subscriptions": True})
    rows = r["data"]["connections"]
    assert [(x["name"], x["authorized_user"], x["subscriptions_list"]) for x in rows] == [
        ("one", "a", ["x"])]
    r = c.request_json("$SYS.REQ.SERVER.PING.CONNZ", {"limit": 1, "offset": 1})
    assert (r["data"]["num_connections"], r["data"]["limit"], r["data"]["offset"]) == (1, 1, 1)
    r = c.request_json("$SYS.REQ.SERVER.PING.CONNZ", {"cid": a.info["client_id"]})
    assert [x["cid"] for x in r["data"]["connections"]] == [a.info["client_id"]]
    r = c.request_json("$SYS.REQ.SERVER.PING.SUBSZ", {"subscriptions": True, "account": "A",
                                                      "test": "x"})
    assert [x["subject"] for x in r["data"]["subscriptions_list"]] == ["x"]


def test_request_errors(system):
    _, c = system
    r = json.loads(c.request("$SYS.REQ.SERVER.PING.VARZ", "{bad").data)
    assert r["error"]["code"] == 400 and "data" not in r
    r = c.request_json("$SYS.REQ.SERVER.PING.CONNZ", {"sort": "bogus"})
    assert r["error"] == {"code": 500, "description": "invalid sorting option: bogus"}


@pytest.mark.parametrize("filters,answered", [
    ({"server_name": "mill"}, True), ({"server_name": "mi"}, True), ({"server_name": "other"}, False),
    ({"server_name": "mi", "exact_match": True}, False),
    ({"server_name": "mill", "exact_match": True}, True), ({"host": "127.0.0.1"}, True),
    ({"host": "nowhere"}, False), ({"tags": ["t1"]}, True), ({"tags": ["t1", "t2"]}, False),
    ({"cluster": "c"}, False), ({}, True)])
def test_filters(system, filters, answered):
    _, c = system
    try:
        r = c.request_json("$SYS.REQ.SERVER.PING.VARZ", filters, timeout=2 if answered else 0.2)
        assert answered and r["data"]["server_name"] == "mill"
    except TimeoutError:
        assert not answered


def test_unknown_request(system):
    _, c = system
    r = c.request("$SYS.REQ.SERVER.%s.NOPE" % c.info["server_id"])
    assert r.headers.startswith(b"NATS/1.0 503")


def test_reload_request(system):
    s, c = system
    subject = "$SYS.REQ.SERVER.%s.RELOAD" % c.info["server_id"]
    s.write_config(CONFIG + "max_payload: 2000\n")
    r = c.request_json(subject)
    assert "error" not in r
    assert s.client().info["max_payload"] == 2000
    s.write_config(CONFIG + "bogus: 2000\n")
    r = c.request_json(subject)
    assert r["error"]["code"] == 500 and "bogus" in r["error"]["description"]


def test_kick_request(system):
    s, c = system
    a = login(s, "a")
    subject = "$SYS.REQ.SERVER.%s.KICK" % c.info["server_id"]
    assert "error" not in c.request_json(subject, {"cid": a.info["client_id"]})
    a.closed()
    wait_until(lambda: s.page("/connz?state=closed")["num_connections"] == 1)
    assert s.page("/connz?state=closed")["connections"][0]["reason"] == "Kicked"
    r = c.request_json(subject, {"cid": 99999})
    assert r["error"] == {"code": 500, "description": "no such client or leafnode id"}


def test_lame_duck_of_one_client(system):
    s, c = system
    a, b = login(s, "a"), login(s, "b")
    c.request_json("$SYS.REQ.SERVER.%s.LDM" % c.info["server_id"], {"cid": a.info["client_id"]})
    wait_until(a.is_readable)
    a.quiet(0.05)
    assert a.infos[-1]["ldm"] is True
    b.quiet(0.05)
    assert a.ping() == []


# --- requests about accounts

@pytest.mark.parametrize("name,key", [("SUBSZ", "num_subscriptions"), ("CONNZ", "connections"),
                                      ("LEAFZ", "leafs"), ("INFO", "account_name")])
def test_account_requests(system, name, key):
    s, c = system
    a = login(s, "a")
    a.sub("x").ping()
    r = c.request_json("$SYS.REQ.ACCOUNT.A." + name)
    assert list(r) == ["server", "data"] and key in r["data"]
    if name == "CONNZ":
        assert [x["cid"] for x in r["data"]["connections"]] == [a.info["client_id"]]


def test_account_conns_request(system):
    s, c = system
    login_a = login(s, "a")
    r = c.request_json("$SYS.REQ.ACCOUNT.A.CONNS")
    assert login_a.ping() == []
    body = r.get("data", r)
    assert (body["acc"], body["conns"]) == ("A", 1)


def test_account_statz_request(system):
    s, c = system
    a = login(s, "a")
    a.pub("x", "123").ping()
    r = c.request_json("$SYS.REQ.ACCOUNT.PING.STATZ", {"accounts": ["A"]})
    rows = r["data"]["account_statz"]
    assert [(x["acc"], x["received"]["msgs"], x["received"]["bytes"]) for x in rows] == [("A", 1, 3)]


@pytest.mark.parametrize("subject", ["$SYS.REQ.ACCOUNT.PING.CONNZ", "$SYS.REQ.SERVER.PING.CONNZ"])
def test_a_normal_account_sees_itself_alone(system, subject):
    s, _ = system
    a, b = login(s, "a"), login(s, "b")
    r = a.request_json(subject)
    assert [x["cid"] for x in r["data"]["connections"]] == [a.info["client_id"]]
    assert b.ping() == []


def test_statz_of_a_normal_account(system):
    s, _ = system
    a = login(s, "a")
    login(s, "b")
    r = a.request_json("$SYS.REQ.ACCOUNT.PING.STATZ")
    assert [x["acc"] for x in r["data"]["account_statz"]] == ["A"]


@pytest.mark.parametrize("subject", [
    "$SYS.REQ.SERVER.PING", "$SYS.REQ.SERVER.PING.VARZ", "$SYS.REQ.SERVER.%s.VARZ",
    "$SYS.REQ.SERVER.%s.KICK", "$SYS.REQ.SERVER.%s.RELOAD", "$SYS.REQ.ACCOUNT.B.CONNZ",
    "$SYS.REQ.ACCOUNT.B.INFO", "$SYS.REQ.ACCOUNT.$SYS.CONNZ"])
def test_a_normal_account_is_not_served(system, subject):
    s, _ = system
    a = login(s, "a")
    r = a.request(subject % a.info["server_id"] if "%s" in subject else subject)
    assert r.headers and r.headers.startswith(b"NATS/1.0 503")


def test_user_info(system):
    s, c = system
    r = login(s, "a").request_json("$SYS.REQ.USER.INFO")
    assert r["data"] == {"user": "a", "account": "A", "account_name": "A"}
    assert c.request_json("$SYS.REQ.USER.INFO")["data"]["account"] == "$SYS"


# --- which account is the system account

def test_another_system_account(start):
    s = start(config="system_account: S\naccounts { S { users [{user: s, password: s}] }, "
              "A { users [{user: a, password: a}] } }\n", monitor=True)
    c = s.connect(user="s", **{"pass": "s"})
    assert c.infos[1]["acc_is_sys"] is True
    assert "data" in c.request_json("$SYS.REQ.SERVER.PING.VARZ")
    assert s.page("/varz")["system_account"] == "S"


def test_no_system_account(start):
    s = start(config="no_system_account: true\n", monitor=True)
    c = s.connect()
    assert "system_account" not in s.page("/varz")
    assert c.sub("a").pub("a").ping() == [Msg("a", "1", None, None, b"")]


@pytest.mark.parametrize("encoding", ["gzip"])
def test_compressed_reply(system, encoding):

    _, c = system
    m = c.request("$SYS.REQ.SERVER.PING.VARZ", "", headers={"Accept-Encoding": encoding})
    if m.headers and b"Content-Encoding" in m.headers:
        assert re.search(rb"Content-Encoding: ?gzip", m.headers)
        assert json.loads(gzip.decompress(m.data))["data"]["server_name"] == "mill"
    else:
        assert json.loads(m.data)["data"]["server_name"] == "mill"


def test_a_flood_of_requests(start):
    """Far more requests in one write than a turn of the server has room for."""
    s = start()
    c = s.connect()
    c.send(b"PUB $SYS.REQ.USER.INFO x 0\r\n\r\n" * 30000)
    assert c.ping() == []
    assert s.connect().ping() == []
