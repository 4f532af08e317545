"""The monitoring pages: fields in their order, exact counters after known traffic, parameters,
errors. The field lists are those of the reference; `?` marks one that is left out when empty."""
import http.client
import json
import re
import socket
import time

import pytest

from harness import Raw, wait_until

VARZ = """server_id server_name version proto git_commit? go host port auth_required? tls_required?
tls_verify? tls_ocsp_peer_verify? ip? connect_urls? ws_connect_urls? max_connections
max_subscriptions? ping_interval ping_max http_host http_port http_base_path https_port auth_timeout
max_control_line max_payload max_pending cluster gateway leaf mqtt websocket jetstream tls_timeout
write_deadline write_timeout? start now uptime mem cores gomaxprocs gomemlimit? cpu connections
total_connections routes remotes leafnodes in_msgs in_bytes in_client_msgs in_client_bytes out_msgs
out_bytes out_client_msgs out_client_bytes slow_consumers stale_connections stalled_clients
subscriptions http_req_stats config_load_time config_digest tags? metadata? feature_flags?
trusted_operators_jwt? trusted_operators_claim? system_account? pinned_account_fails?
ocsp_peer_cache? slow_consumer_stats stale_connection_stats? disk_io_wait_stats proxies?
tls_cert_not_after?"""
CONNZ = "server_id now num_connections total offset limit connections"
CONN = """cid kind? type? ip port start last_activity stop? reason? rtt? uptime idle pending_bytes
in_msgs out_msgs in_bytes out_bytes stalls? subscriptions name? lang? version? tls_version?
tls_cipher_suite? tls_peer_certs? tls_first? authorized_user? account? subscriptions_list?
subscriptions_list_detail? jwt? issuer_key? name_tag? tags? mqtt_client? proxy?"""
DETAIL = "account? account_tag? subject qgroup? sid msgs max? cid"
SUBSZ = """server_id now num_subscriptions num_cache num_inserts num_removes num_matches
cache_hit_rate max_fanout avg_fanout total offset limit subscriptions_list?"""
JSZ = """memory storage reserved_memory reserved_storage accounts ha_assets api server_id now
disabled? config? limits? streams streams_leader? consumers consumers_leader? messages bytes
meta_cluster? account_details? total"""
ACCOUNT = """account_name update_time? is_system? expired complete jetstream_enabled
leafnode_connections client_connections subscriptions mappings? exports? imports? jwt? issuer_key?
name_tag? tags? decoded_jwt? validation_result_jwt? revoked_user? sublist_stats? responses?"""
STAT = """acc name conns leafnodes total_conns num_subscriptions sent received slow_consumers"""
TIME = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z$")
SPAN = re.compile(r"^(\d+y)?(\d+d)?(\d+h)?(\d+m)?\d+s$")


def fields(value, spec):
    """The keys of value are those of spec, in its order; those with `?` may be missing."""
    names = spec.split()
    keys = list(value)
    known = [n.rstrip("?") for n in names]
    assert [k for k in keys if k not in known] == [], "unknown fields"
    assert keys == [k for k in known if k in value], "order"
    assert [n for n in names if not n.endswith("?") and n not in value] == [], "missing fields"


def conn_of(s, c, query=""):
    got = s.page("/connz?cid=%d%s" % (c.info["client_id"], query))["connections"]
    assert len(got) == 1
    return got[0]


# --- the pages themselves

@pytest.mark.parametrize("path", ["/varz", "/connz", "/subsz", "/subscriptionsz", "/routez",
                                  "/gatewayz", "/leafz", "/accountz", "/accstatz", "/jsz",
                                  "/healthz", "/ipqueuesz"])
def test_json_pages(server, path):
    status, headers, body = server.http(path)
    assert status == 200
    assert headers["content-type"] == "application/json"
    assert headers["access-control-allow-origin"] == "*"
    value = json.loads(body)
    if path not in ("/healthz", "/ipqueuesz"):
        assert body == json.dumps(value, indent=2, ensure_ascii=False) or "e-" in body
        assert value["server_id"] == server.client().info["server_id"]
        assert TIME.match(value["now"])


def test_index(server):
    status, headers, body = server.http("/")
    assert status == 200 and headers["content-type"].startswith("text/html")
    for name in ("varz", "connz", "subsz", "routez", "leafz", "gatewayz", "accountz", "accstatz",
                 "jsz", "healthz"):
        assert name in body, name


@pytest.mark.ours_only
def test_index_tells_both_versions(server):
    assert re.search(r"<h1>Millrace \d+\.\d+\.\d+ \(nats-server %s\)</h1>"
                     % re.escape(server.page("/varz")["version"]), server.http("/")[2])


def test_unknown_page(server):
    status, _, body = server.http("/nothing")
    assert status == 404 and body == "404 page not found\n"


def test_expvar_and_stacks(server):
    status, headers, body = server.http("/debug/vars")
    assert status == 200 and headers["content-type"].startswith("application/json")
    assert "cmdline" in json.loads(body)
    assert server.http("/stacksz")[0] == 200


def test_head_and_post(server):
    status, headers, body = server.http("/varz", method="HEAD")
    assert status == 200 and body == "" and headers["content-type"] == "application/json"
    for method in ("POST", "PUT", "DELETE", "OPTIONS", "FOO"):
        status, headers, body = server.http("/varz", method=method)
        assert status == 200 and "server_id" in json.loads(body), method
        assert headers["access-control-allow-origin"] == "*"
        assert server.http("/nothing", method=method)[0] == 404


def test_no_jsonp(server):
    body = server.http("/varz?callback=f")[2]
    assert body.startswith("{")


def test_many_requests_of_one_client(server):
    c = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=5)
    for _ in range(20):
        c.request("GET", "/varz")
        r = c.getresponse()
        assert r.status == 200 and json.loads(r.read())
    c.close()


@pytest.mark.parametrize("path", ["/mon", "mon", "/a/b/"])
def test_base_path(start, path):
    s = start(config='http_base_path: "%s"\n' % path, monitor=True)
    base = "/" + path.strip("/")
    assert s.http(base + "/varz")[0] == 200
    assert s.http("/varz")[0] == 404
    assert s.http(base + "/healthz")[0] == 200


@pytest.mark.parametrize("data", [
    b"\r\n\r\n", b"GET", b"GET /varz HTTP/9.9\r\n\r\n", b"\x00" * 500, b"GET /" + b"a" * 70000,
    b"GET /varz HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 5000, b"PING\r\n",
    b"GET /connz?" + b"a=b&" * 3000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /%zz%00 HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_hostile_requests(server, data):
    with socket.create_connection(("127.0.0.1", server.http_port), 5) as c:
        try:
            c.sendall(data)
            c.shutdown(socket.SHUT_WR)
            while c.recv(65536):
                pass
        except OSError:
            pass
    assert server.http("/healthz")[0] == 200


SECOND = b"GET /varz HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.mark.ours_only  # Go serves on, and refuses what is not clear; the library takes much for clear
@pytest.mark.parametrize("headers", [
    b"Content-Length: 0\r\nContent-Length: %d\r\n\r\n", b"Content-Length: %d\r\nContent-Length: 0\r\n\r\n",
    b"content-length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"Content-Length: %d\r\n\r\n",
    b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", b"Content-Length : %d\r\n\r\n",
    b" Content-Length: %d\r\n\r\n", b"Content-Length:\r\n %d\r\n\r\n", b"X: a\r\n\tContent-Length: %d\r\n\r\n",
    b"Content-Length: 0\x00%d\r\n\r\n", b"X: a\n\n", b"\r\n", b"Connection: keep-alive\r\n\r\n"])
def test_a_connection_has_one_request(server, headers):
    """A proxy in front may find the request's end elsewhere: what follows could be a stranger's."""
    if b"%d" in headers:
        headers = headers % len(SECOND)
    with socket.create_connection(("127.0.0.1", server.http_port), 5) as c:
        c.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + headers + SECOND)
        data = b""
        while part := c.recv(65536):
            data += part
    assert data.count(b"HTTP/1.1 ") == 1 and b"server_id" not in data, data
    assert b"Connection: close" in data, data


def test_each_header_stands_there_once(server):
    """Browsers refuse a page with two of Access-Control-Allow-Origin."""
    c = http.client.HTTPConnection("127.0.0.1", server.http_port, timeout=5)
    for path in ("/varz", "/healthz", "/connz", "/healthz?stream=x", "/varz?subs=z"):
        c.request("GET", path)
        r = c.getresponse()
        r.read()
        names = [name.lower() for name, _ in r.getheaders()]
        assert len(names) == len(set(names)), (path, names)
    c.close()


# --- varz

def test_varz_fields(server):
    v = server.page("/varz")
    fields(v, VARZ)
    for block in ("cluster", "gateway", "leaf", "mqtt", "websocket", "jetstream"):
        assert v[block] == {}
    for block in ("slow_consumer_stats", "stale_connection_stats"):
        assert v[block] == {"clients": 0, "routes": 0, "gateways": 0, "leafs": 0}
    fields(v["disk_io_wait_stats"], "waiters waits wait_time max_wait_time")
    assert TIME.match(v["start"]) and TIME.match(v["config_load_time"])
    assert SPAN.match(v["uptime"])
    assert v["mem"] > 0 and v["cores"] >= 1 and v["cpu"] >= 0
    assert v["feature_flags"] == {"js_ack_fc_v2": False, "js_api_reply_v2": False,
                                  "js_raft_delete_range": True, "js_snapshot_sources": False}


def test_varz_defaults(start):
    s = start(monitor=True)
    v = s.page("/varz")
    wanted = {
        "proto": 1, "host": "127.0.0.1", "port": s.port, "max_connections": 65536, "ping_max": 2,
        "ping_interval": 120 * 10**9, "http_host": "127.0.0.1", "http_base_path": "",
        "https_port": 0, "auth_timeout": 2, "tls_timeout": 2, "max_control_line": 4096,
        "max_payload": 1048576, "max_pending": 67108864, "write_deadline": 10**10,
        "connections": 0, "total_connections": 0, "routes": 0, "remotes": 0, "leafnodes": 0,
        "in_msgs": 0, "in_bytes": 0, "in_client_msgs": 0, "in_client_bytes": 0, "out_msgs": 0,
        "out_bytes": 0, "out_client_msgs": 0, "out_client_bytes": 0, "slow_consumers": 0,
        "stale_connections": 0, "stalled_clients": 0, "http_req_stats": {"/varz": 1},
        "system_account": "$SYS"}
    assert {k: v[k] for k in wanted} == wanted
    for absent in ("auth_required", "tls_required", "tags", "metadata", "max_subscriptions"):
        assert absent not in v


def test_varz_counters_are_exact(start):
    s = start(monitor=True)
    subscriptions = s.page("/varz")["subscriptions"]
    a, b = s.connect(), s.connect()
    a.sub("x", 1).sub("x", 2).sub("y", 3, "q").ping()
    b.sub("x", 1).ping()
    for _ in range(10):
        b.pub("x", "12345")
    b.hpub("y", b"NATS/1.0\r\n\r\n", "123").pub("nobody", "1234567").ping()
    a.ping()
    v = s.page("/varz")
    assert {k: v[k] for k in v if k.startswith(("in_", "out_"))} == {
        "in_msgs": 12, "in_bytes": 72, "in_client_msgs": 12, "in_client_bytes": 72,
        "out_msgs": 31, "out_bytes": 165, "out_client_msgs": 31, "out_client_bytes": 165}
    assert v["connections"] == v["total_connections"] == 2
    assert v["subscriptions"] - subscriptions == 4
    ca, cb = conn_of(s, a), conn_of(s, b)
    assert (ca["in_msgs"], ca["in_bytes"], ca["out_msgs"], ca["out_bytes"]) == (0, 0, 21, 115)
    assert (cb["in_msgs"], cb["in_bytes"], cb["out_msgs"], cb["out_bytes"]) == (12, 72, 10, 50)
    assert (ca["subscriptions"], cb["subscriptions"]) == (3, 1)
    a.close()
    wait_until(lambda: s.page("/varz")["connections"] == 1)
    v = s.page("/varz")
    assert v["total_connections"] == 2 and v["subscriptions"] - subscriptions == 1
    assert (v["in_msgs"], v["out_msgs"]) == (12, 31)


def test_stripped_headers_count_as_sent(start):
    """The reference counts the message, not what this receiver could take of it."""
    s = start(monitor=True)
    a, b = s.connect(headers=False, no_responders=False), s.connect()
    a.sub("x").ping()
    b.hpub("x", b"NATS/1.0\r\nA: b\r\n\r\n", "123").ping()
    a.ping()
    v = s.page("/varz")
    assert (v["in_bytes"], v["out_bytes"]) == (21, 21)


def test_http_request_counts(start):
    s = start(monitor=True)
    for path in ("/varz", "/connz", "/connz", "/subsz", "/subscriptionsz", "/healthz", "/"):
        s.http(path)
    counts = s.page("/varz")["http_req_stats"]
    assert counts["/varz"] == 2 and counts["/connz"] == 2
    assert counts["/subsz"] == 2
    assert counts["/"] == 1


# --- connz

def test_connz_fields(server, client):
    c = client(name="nm")
    page = server.page("/connz")
    fields(page, CONNZ)
    conn = conn_of(server, c)
    fields(conn, CONN)
    assert (conn["kind"], conn["type"], conn["ip"], conn["name"]) == (
        "Client", "nats", "127.0.0.1", "nm")
    assert conn["port"] == c.socket.getsockname()[1]
    assert TIME.match(conn["start"]) and TIME.match(conn["last_activity"])
    assert SPAN.match(conn["uptime"]) and SPAN.match(conn["idle"])
    assert conn["pending_bytes"] == 0
    for absent in ("stop", "reason", "subscriptions_list", "authorized_user", "account",
                   "tls_version", "jwt", "stalls"):
        assert absent not in conn


def test_rtt_is_a_go_duration(server, client):
    c = client()
    conn = conn_of(server, c)
    assert re.match(r"^\d+(\.\d+)?(ns|µs|ms|s)$", conn["rtt"])


def test_connz_subscriptions(server, client):
    c = client()
    c.sub("a", 1).sub("b.*", 2, "q").unsub(1, 5).pub("a").ping()
    assert "subscriptions_list" not in conn_of(server, c)
    assert sorted(conn_of(server, c, "&subs=1")["subscriptions_list"]) == ["a", "b.*"]
    detail = conn_of(server, c, "&subs=detail")["subscriptions_list_detail"]
    for row in detail:
        fields(row, DETAIL)
    cid = c.info["client_id"]
    assert sorted(detail, key=lambda r: r["sid"]) == [
        {"subject": "a", "sid": "1", "msgs": 1, "max": 5, "cid": cid},
        {"subject": "b.*", "qgroup": "q", "sid": "2", "msgs": 0, "cid": cid}]


def test_connz_auth(start):
    s = start(config="accounts { A { users [{user: a, password: b}] } }\n", monitor=True)
    s2 = s.connect(user="a", **{"pass": "b"})
    assert "authorized_user" not in conn_of(s, s2)
    conn = conn_of(s, s2, "&auth=true")
    assert (conn["authorized_user"], conn["account"]) == ("a", "A")
    for query, count in (("user=a", 1), ("user=b", 0), ("acc=A", 1), ("acc=$G", 0), ("acc=NO", 0)):
        assert len(s.page("/connz?auth=1&" + query)["connections"] or []) == count, query


def test_connz_paging(start):
    s = start(monitor=True)
    clients = [s.connect() for _ in range(7)]
    ids = [c.info["client_id"] for c in clients]
    page = s.page("/connz?limit=3&offset=2")
    assert [c["cid"] for c in page["connections"]] == ids[2:5]
    assert (page["num_connections"], page["total"], page["offset"], page["limit"]) == (3, 7, 2, 3)
    page = s.page("/connz?offset=99")
    assert (page["num_connections"], page["total"], page["connections"]) == (0, 7, [])
    page = s.page("/connz?limit=0")
    assert page["limit"] == 1024
    assert s.page("/connz?limit=-5&offset=-3")["num_connections"] == 7


@pytest.mark.parametrize("query", [
    "offset=9223372036854775807&limit=9223372036854775807",
    "offset=9223372036854775807", "limit=9223372036854775807", "offset=-9223372036854775808",
    "limit=-9223372036854775808", "offset=1&limit=9223372036854775807"])
@pytest.mark.parametrize("page", ["connz", "subsz"])
def test_paging_at_the_ends_of_int64(server, client, page, query):
    """Advisory 2026-28."""
    client()
    assert server.http("/%s?%s" % (page, query))[0] == 200
    assert server.http("/healthz")[0] == 200


SORTS = ["cid", "start", "subs", "pending", "msgs_to", "msgs_from", "bytes_to", "bytes_from",
         "last", "idle", "uptime", "rtt"]


@pytest.mark.parametrize("sort", SORTS)
def test_connz_sorts(server, client, sort):
    client(), client()
    assert server.http("/connz?sort=" + sort)[0] == 200


def test_connz_sort_order(start):
    s = start(monitor=True)
    a, b, c = s.connect(), s.connect(), s.connect()
    for n, x in ((1, a), (3, b), (2, c)):
        for i in range(n):
            x.sub("s%d" % i, i)
        for i in range(n * 2):
            x.pub("p", "x" * n)
        x.ping()
    order = [x.info["client_id"] for x in (b, c, a)]
    for sort in ("subs", "msgs_from", "bytes_from"):
        assert [r["cid"] for r in s.page("/connz?sort=" + sort)["connections"]] == order, sort
    ids = [x.info["client_id"] for x in (a, b, c)]
    assert [r["cid"] for r in s.page("/connz?sort=cid")["connections"]] == ids
    assert [r["cid"] for r in s.page("/connz?sort=start")["connections"]] == ids
    assert [r["cid"] for r in s.page("/connz?sort=last")["connections"]] == \
        [x.info["client_id"] for x in (c, b, a)]


def test_connz_states(start):
    s = start(monitor=True)
    a, b = s.connect(name="a"), s.connect(name="b")
    a.close()
    wait_until(lambda: s.page("/connz?state=closed")["num_connections"] == 1)
    closed = s.page("/connz?state=closed")["connections"][0]
    fields(closed, CONN)
    assert closed["name"] == "a" and closed["reason"] == "Client Closed"
    assert TIME.match(closed["stop"])
    assert [c["name"] for c in s.page("/connz?state=open")["connections"]] == ["b"]
    for word in ("any", "all", "ANY", "All"):
        assert sorted(c["name"] for c in s.page("/connz?state=" + word)["connections"]) == ["a", "b"]
    assert len(s.page("/connz?state=closed&sort=stop")["connections"]) == 1
    assert len(s.page("/connz?state=closed&sort=reason")["connections"]) == 1
    assert b.ping() == []


@pytest.mark.parametrize("shards", [pytest.param(3, marks=pytest.mark.ours_only), None])
def test_closed_connections_are_bounded(start, shards):
    s = start(config="max_closed_clients: 5\n" + ("shards: 3\n" if shards else ""), monitor=True)
    for i in range(12):
        s.connect(name="n%d" % i).close()
        wait_until(lambda n=i: s.page("/varz")["connections"] == 0)
    page = s.page("/connz?state=closed")
    assert [c["name"] for c in page["connections"]] == ["n%d" % i for i in range(7, 12)]
    assert page["total"] == 5


@pytest.mark.parametrize("path,text", [
    ("/connz?sort=bogus", "invalid sorting option: bogus"),
    ("/connz?cid=x", "Error decoding uint64 for 'cid': strconv.ParseUint: parsing \"x\": invalid syntax"),
    ("/connz?cid=-1", "Error decoding uint64 for 'cid': strconv.ParseUint: parsing \"-1\": invalid syntax"),
    ("/connz?subs=9", "Error decoding boolean for 'subs': strconv.ParseBool: parsing \"9\": invalid syntax"),
    ("/connz?auth=x", "Error decoding boolean for 'auth': strconv.ParseBool: parsing \"x\": invalid syntax"),
    ("/connz?limit=x", "Error decoding int for 'limit': strconv.Atoi: parsing \"x\": invalid syntax"),
    ("/connz?offset=1.5", "Error decoding int for 'offset': strconv.Atoi: parsing \"1.5\": invalid syntax"),
    ("/connz?limit=99999999999999999999",
     "Error decoding int for 'limit': strconv.Atoi: parsing \"99999999999999999999\": value out of range"),
    ("/connz?sort=stop", "sort by stop only valid on closed connections"),
    ("/connz?state=bogus", "Error decoding state for bogus"),
    ("/subsz?test=a.*", "invalid test subject, must be valid publish subject: a.*"),
    ("/subsz?subs=x", "Error decoding boolean for 'subs': strconv.ParseBool: parsing \"x\": invalid syntax"),
    ("/accountz?acc=NO", "Account NO does not exist"),
    ("/accstatz?unused=x",
     "Error decoding boolean for 'unused': strconv.ParseBool: parsing \"x\": invalid syntax"),
    ("/jsz?accounts=x",
     "Error decoding boolean for 'accounts': strconv.ParseBool: parsing \"x\": invalid syntax"),
])
def test_bad_parameters(server, path, text):
    status, headers, body = server.http(path)
    assert (status, body) == (400, text)
    assert headers["content-type"].startswith("text/plain")


@pytest.mark.parametrize("word", ["1", "t", "T", "TRUE", "true", "True"])
def test_boolean_spellings(server, client, word):
    c = client()
    c.sub("a").ping()
    assert conn_of(server, c, "&subs=" + word)["subscriptions_list"] == ["a"]


@pytest.mark.parametrize("word", ["0", "f", "F", "FALSE", "false", "False", ""])
def test_false_spellings(server, client, word):
    c = client()
    c.sub("a").ping()
    assert "subscriptions_list" not in conn_of(server, c, "&subs=" + word)


# --- subsz

def test_subsz(start):
    s = start(config="accounts { $SYS { users [{user: s, password: s}] }, "
              "A { users [{user: a, password: a}] } }\nno_auth_user: a\n", monitor=True)
    fields(s.page("/subsz"), SUBSZ)
    c = s.connect()
    c.sub("sz.a", 1).sub("sz.*", 2, "q").ping()
    page = s.page("/subsz?subs=1&acc=A")
    fields(page, SUBSZ)
    mine = [r for r in page["subscriptions_list"] if r["subject"].startswith("sz.")]
    assert sorted(r["subject"] for r in mine) == ["sz.*", "sz.a"]
    for row in mine:
        fields(row, DETAIL)
        assert row["account"] == "A" and row["cid"] == c.info["client_id"]
    assert s.page("/subsz?acc=NO")["num_subscriptions"] == 0
    tested = s.page("/subsz?subs=1&test=sz.b")["subscriptions_list"]
    assert [r["subject"] for r in tested] == ["sz.*"]
    page = s.page("/subsz?subs=1&limit=1&offset=1&acc=A")
    assert (len(page["subscriptions_list"]), page["limit"], page["offset"]) == (1, 1, 1)


def test_subsz_follows_subscriptions(start):
    s = start(monitor=True)
    before = s.page("/subsz")["num_subscriptions"]
    c = s.connect()
    for i in range(100):
        c.sub("n.%d" % i, i)
    c.ping()
    assert s.page("/subsz")["num_subscriptions"] - before == 100
    c.close()
    wait_until(lambda: s.page("/subsz")["num_subscriptions"] == before)


# --- accounts

def test_accountz(start):
    s = start(config="accounts { A { users [{user: a, password: a}], mappings { x: y } } }\n",
              monitor=True)
    c = s.connect(user="a", **{"pass": "a"})
    page = s.page("/accountz")
    fields(page, "server_id now system_account? accounts? account_detail?")
    assert page["system_account"] == "$SYS"
    assert sorted(page["accounts"]) == ["$G", "$SYS", "A"]
    detail = s.page("/accountz?acc=A")["account_detail"]
    fields(detail, ACCOUNT)
    assert (detail["account_name"], detail["client_connections"], detail["expired"],
            detail["complete"], detail["jetstream_enabled"]) == ("A", 1, False, True, False)
    assert detail["mappings"] == {"x": [{"subject": "y", "weight": 100}]}
    assert s.page("/accountz?acc=$SYS")["account_detail"]["is_system"] is True
    assert c.ping() == []


def test_accstatz(start):
    s = start(config="accounts { A { users [{user: a, password: a}] }, B {} }\n", monitor=True)
    c = s.connect(user="a", **{"pass": "a"})
    c.sub("x").pub("x", "123").ping()
    page = s.page("/accstatz")
    assert [a["acc"] for a in page["account_statz"]] == ["A"]
    row = page["account_statz"][0]
    fields(row, STAT)
    assert (row["conns"], row["total_conns"], row["slow_consumers"]) == (1, 1, 0)
    for side in ("sent", "received"):
        assert (row[side]["msgs"], row[side]["bytes"]) == (1, 3)
    every = s.page("/accstatz?unused=1")["account_statz"]
    assert {"A", "B", "$G", "$SYS"} == {a["acc"] for a in every}


# --- pages of what is not there

def test_empty_pages(server):
    page = server.page("/routez")
    fields(page, "server_id server_name now import? export? num_routes routes")
    assert (page["num_routes"], page["routes"]) == (0, [])
    page = server.page("/gatewayz")
    fields(page, "server_id now name? host? port? outbound_gateways inbound_gateways")
    assert (page["outbound_gateways"], page["inbound_gateways"]) == ({}, {})
    page = server.page("/leafz")
    fields(page, "server_id now leafnodes leafs")
    assert (page["leafnodes"], page["leafs"]) == (0, [])
    status, _, body = server.http("/raftz")
    assert (status, body) == (404, "No Raft nodes registered")


def test_jsz_when_off(server):
    page = server.page("/jsz")
    fields(page, JSZ)
    assert page["disabled"] is True
    assert page["config"] == {"max_memory": 0, "max_storage": 0}
    assert page["api"] == {"level": 0, "total": 0, "errors": 0}
    assert (page["streams"], page["consumers"], page["messages"], page["bytes"]) == (0, 0, 0, 0)


# --- healthz

@pytest.mark.parametrize("query", ["", "?js-enabled-only=true", "?js-server-only=1",
                                   "?js-meta-only=true", "?account=x"])
def test_healthz(server, query):
    status, _, body = server.http("/healthz" + query)
    assert (status, body) == (200, '{"status":"ok"}')


def test_healthz_bad_request(server):
    status, _, body = server.http("/healthz?stream=x")
    assert status == 400
    assert body == '{"status":"error","error":"\\"account\\" must not be empty when checking ' \
                   'stream health"}'


# --- the pages while there is work

def test_pages_under_load(start):
    s = start(monitor=True)
    c, p = s.connect(), s.connect()
    c.sub("load.>").ping()
    end = time.monotonic() + 1
    count = 0
    while time.monotonic() < end:
        for _ in range(200):
            p.pub("load.x", "payload")
            count += 1
        for path in ("/varz", "/connz?subs=1", "/subsz?subs=1", "/accstatz"):
            assert s.http(path)[0] == 200
        p.ping()
        assert len(c.ping()) == 200
    assert s.page("/varz")["in_msgs"] == count


def test_pages_with_many_connections(start):
    s = start(monitor=True)
    clients = [Raw(s.port) for _ in range(300)]
    for c in clients:
        c.send_connect(name="n")
        c.sub("s").ping()
    page = s.page("/connz?subs=1&limit=1000")
    assert page["num_connections"] == 300
    assert len({c["cid"] for c in page["connections"]}) == 300
    assert [c["cid"] for c in page["connections"]] == sorted(c["cid"] for c in page["connections"])


def test_monitoring_costs_no_client_slot(start):
    s = start(config="max_connections: 1\n", monitor=True)
    c = s.connect()
    for _ in range(5):
        assert s.page("/varz")["connections"] == 1
    assert c.ping() == []
