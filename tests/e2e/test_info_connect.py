"""INFO and CONNECT: fields, defaults, the asynchronous INFO, and what a bad CONNECT gets."""
import json
import re
import time

import pytest

import nkey
from harness import Msg, is_reference, run_binary

NKEY_SERVER = re.compile(r"^N[A-Z2-7]{55}$")
NKEY_CURVE = re.compile(r"^X[A-Z2-7]{55}$")


# --- INFO

def test_info_line_is_first_and_one_line(server):
    with server.client(read_info=False) as c:
        line = c.raw_line()
        assert line.startswith(b"INFO {") and line.endswith(b"} ")
        c.quiet(0.05)


def test_info_fields(server, client):
    info = client(raw=True).info
    assert NKEY_SERVER.match(info["server_id"])
    assert info["server_name"] == info["server_id"]
    assert re.match(r"^\d+\.\d+\.\d+", info["version"])
    assert tuple(int(x) for x in info["version"].split("-")[0].split(".")) >= (2, 14, 0)
    assert info["proto"] == 1
    assert isinstance(info["go"], str)
    assert info["host"] == "127.0.0.1"
    assert info["port"] == server.port
    assert info["headers"] is True
    assert info["max_payload"] == 1048576
    assert info["client_ip"] == "127.0.0.1"
    assert isinstance(info["client_id"], int)
    assert info["api_lvl"] == 5
    assert NKEY_CURVE.match(info["xkey"])
    for absent in ("auth_required", "tls_required", "tls_verify", "tls_available", "jetstream",
                   "nonce", "cluster", "connect_urls", "ldm", "connect_info", "remote_account",
                   "acc_is_sys", "domain", "leafnode_urls"):
        assert absent not in info, absent


def test_info_field_order(client):
    keys = [k for k in client(raw=True).info if k != "git_commit"]
    assert keys == ["server_id", "server_name", "version", "proto", "go", "host", "port", "headers",
                    "max_payload", "client_id", "client_ip", "api_lvl", "xkey"]


def test_client_ids_count_up(client):
    ids = [client(raw=True).info["client_id"] for _ in range(5)]
    assert ids == sorted(ids) and len(set(ids)) == 5


def test_server_name_and_max_payload_are_told(start):
    s = start("-n", "mill", config="max_payload: 1234\nserver_tags: [a, b]\n")
    info = s.client().info
    assert (info["server_name"], info["max_payload"]) == ("mill", 1234)


def test_a_long_server_name_is_told_whole(start):
    name = "mill" * 1000
    s = start("-m", "-1", config=f"server_name: {name}\n")
    assert s.client().info["server_name"] == name
    assert s.page("/varz")["server_name"] == name


def test_no_header_support(start):
    s = start(config="no_header_support: true\n")
    c = s.connect(no_responders=False)
    assert c.info["headers"] is False
    c.hpub("a", {"k": "v"}).closed()


def test_auth_required_and_nonce(start):
    s = start("--user", "u", "--pass", "p")
    info = s.client().info
    assert info["auth_required"] is True and "nonce" not in info
    s = start(config="authorization { users [ {nkey: %s} ] }\n" % nkey.Key().public)
    nonces = {s.client().info["nonce"] for _ in range(20)}
    assert len(nonces) == 20
    assert all(re.match(r"^[A-Za-z0-9_-]{15}$", n) for n in nonces)


def test_auth_required_is_false_with_no_auth_user(start):
    s = start(config="authorization { users [ {user: a, password: b} ] }\nno_auth_user: a\n")
    assert "auth_required" not in s.client().info


def test_client_advertise_is_told(start):
    s = start("--client_advertise", "nats.example.com:5555")
    info = s.client().info
    assert (info["host"], info["port"]) == ("nats.example.com", 5555)


# --- the INFO after the first PING

def test_info_after_the_first_ping(server, client):
    c = client(raw=True)
    c.send_connect(protocol=1)
    c.send("PING\r\n")
    assert c.raw_line() == b"PONG"
    line = c.raw_line()
    assert line.startswith(b"INFO ")
    info = json.loads(line[5:])
    assert info["connect_info"] is True
    assert info["remote_account"] == "$G"
    assert info["client_ip"] == "127.0.0.1"
    assert info["client_id"] == c.info["client_id"]
    assert "acc_is_sys" not in info
    c.send("PING\r\n")
    assert c.raw_line() == b"PONG"
    c.quiet(0.05)


def test_no_second_info_for_protocol_0(client):
    c = client(raw=True)
    c.send_connect(protocol=0)
    c.send("PING\r\n")
    assert c.raw_line() == b"PONG"
    c.quiet(0.05)
    assert len(c.infos) == 1


def test_no_second_info_before_connect(client):
    c = client(raw=True)
    c.send("PING\r\n")
    assert c.raw_line() == b"PONG"
    c.quiet(0.05)


def test_second_info_of_the_system_account(start):
    s = start(config='accounts { $SYS { users [ {user: s, password: p} ] } }\n')
    c = s.connect(user="s", **{"pass": "p"})
    c.quiet(0.05)
    assert c.infos[1]["acc_is_sys"] is True
    assert c.infos[1]["remote_account"] == "$SYS"


# --- CONNECT

def test_defaults_before_connect_are_verbose(client):
    c = client(raw=True)
    c.send("SUB a 1\r\n").expect("+OK")
    c.send("PUB a 2\r\nhi\r\n")
    assert {c.next(), c.next()} == {"+OK", Msg("a", "1", None, None, b"hi")}
    c.send("UNSUB 1\r\n").expect("+OK")
    c.send("PING\r\n").expect("PONG")


def test_defaults_of_an_empty_connect(client):
    c = client(raw=True)
    c.send("CONNECT {}\r\n").expect("+OK")
    c.send("PUB a.* 0\r\n\r\n").expect("-ERR 'Invalid Publish Subject'", "+OK")
    c.hpub("a", {"a": "b"}).closed()


@pytest.mark.parametrize("protocol", [-1, 2, 3, 100])
def test_invalid_client_protocol(client, protocol):
    c = client(raw=True)
    c.send_connect(protocol=protocol)
    c.closed("invalid client protocol")


def test_no_responders_requires_headers(client):
    c = client(raw=True)
    c.send_connect(no_responders=True, headers=False)
    c.closed("no responders requires headers support")


@pytest.mark.parametrize("fields", [{"account": "A"}, {"account": "A", "new_account": True}])
def test_account_in_connect_is_refused(client, fields):
    """Left from old times; it must not pick an account (CVE-2022-24450)."""
    c = client(raw=True)
    c.send_connect(**fields)
    c.closed("Authorization Violation")


def test_jwt_is_discarded_without_an_operator(client):
    c = client(raw=True)
    c.send_connect(jwt="eyJ0eXAiOiJKV1QiLCJhbGciOiJlZDI1NTE5LW5rZXkifQ.e30.AAAA", sig="AAAA")
    assert c.ping() == []


def test_unknown_fields_are_ignored(client):
    c = client(raw=True)
    c.send('CONNECT {"verbose":false,"unknown":{"deep":[1,2,{"x":null}]},"name":null}\r\n')
    assert c.ping() == []


def test_field_names_in_any_case(client):
    """Go's JSON takes names in any case, and clients have come to rely on stranger things."""
    c = client(raw=True)
    c.send('CONNECT {"Verbose":false,"PEDANTIC":true}\r\n')
    c.send("PUB a.* 0\r\n\r\n").expect("-ERR 'Invalid Publish Subject'")


def test_second_connect_drops_subscriptions(client):
    c = client()
    c.sub("a").ping()
    c.send_connect()
    assert c.pub("a", "x").ping() == []
    c.sub("a", 2)
    assert [m.sid for m in c.pub("a", "x").ping()] == ["2"]


def test_second_connect_changes_options(client):
    c = client()
    c.send_connect(verbose=True)
    c.expect("+OK")
    c.send("SUB a 1\r\n").expect("+OK")


def test_name_lang_version_show_in_connz(server, client):
    c = client(name="tester é", lang="python", version="9.8.7")
    conn = server.page("/connz?cid=%d" % c.info["client_id"])["connections"][0]
    assert (conn["name"], conn["lang"], conn["version"]) == ("tester é", "python", "9.8.7")


def test_connect_must_come_first_if_auth_is_required(start):
    s = start("--auth", "tok")
    for line in ("PING\r\n", "SUB a 1\r\n", "PUB a 0\r\n\r\n", "INFO {}\r\n", "+OK\r\n", "X\r\n"):
        c = s.client()
        c.send(line)
        c.closed("Authorization Violation")


def test_verbose_answers(client):
    c = client()
    c.send_connect(verbose=True)
    c.expect("+OK")
    c.send("SUB v 1\r\n").expect("+OK")
    c.send("UNSUB 1\r\n").expect("+OK")
    c.send("UNSUB 99\r\n").expect("+OK")
    c.send("PUB v 2\r\nhi\r\n").expect("+OK")
    c.hpub("v", {"a": "b"}).expect("+OK")
    c.send("PING\r\n").expect("PONG")
    c.send("PONG\r\nPING\r\n").expect("PONG")


def test_verbose_with_an_error_gives_no_ok(start):
    s = start(config="authorization { users [ {user: a, password: a, permissions: "
              "{publish: ok, subscribe: ok}} ] }\n")
    c = s.client()
    c.send_connect(user="a", **{"pass": "a"}, verbose=True)
    c.expect("+OK")
    c.send("PUB no 0\r\n\r\n").expect("-ERR 'Permissions Violation for Publish to \"no\"'")
    c.send("SUB no 1\r\n").expect("-ERR 'Permissions Violation for Subscription to \"no\"'")
    c.send("PUB ok 0\r\n\r\n").expect("+OK")
    c.send("PING\r\n").expect("PONG")


def test_server_pings_about_two_seconds_after_connect(start):
    """The first PING measures the round trip; it does not wait for ping_interval."""
    s = start()
    c = s.client(answer_pings=False)
    begin = time.monotonic()
    c.send_connect()
    c.send("PING\r\n")
    assert c.raw_line() == b"PONG"
    c.read_info()
    assert c.raw_line(30) == b"PING"
    assert 1.8 <= time.monotonic() - begin


def test_ipv6_and_localhost_listen(start):
    s = start("-a", "::1", "-p", "-1", defaults=False)
    c = s.client(host="::1")
    assert c.info["host"] == "::1" and c.info["client_ip"] == "::1"
    assert "[::1]:%d" % s.port in s.ports["nats"][0]


@pytest.mark.skipif(is_reference(), reason="the text of `go` is ours")
def test_version_matches_the_program(server, client):
    assert run_binary("-v").stdout.strip().endswith("v" + client(raw=True).info["version"])
