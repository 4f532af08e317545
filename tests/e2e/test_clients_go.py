"""The official Go client: each test runs one scenario of tests/e2e/go, built by tools/test-env."""
import json
import os
import signal
import subprocess

import pytest

import nkey
from harness import SLOW
from test_tls import Certs

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CLIENT = os.path.join(ROOT, "build", "e2e-go", "client")

if not os.path.exists(CLIENT) and not os.environ.get("MILLRACE_E2E_REQUIRE"):
    pytest.skip("tools/test-env has not built the Go client", allow_module_level=True)


@pytest.fixture(scope="module")
def certs(tmp_path_factory):
    return Certs(tmp_path_factory.mktemp("certs"))


def scenario(name, url, *args):
    r = subprocess.run([CLIENT, name, url, *args], capture_output=True, text=True, check=False,
                       timeout=60 * SLOW)
    assert r.returncode == 0, r.stderr
    value = json.loads(r.stdout.strip().splitlines()[-1])
    return value


def test_publish_subscribe(server):
    r = scenario("pubsub", server.url)
    assert (r["subject"], r["data"], r["headers"], r["max_payload"]) == (
        "greet.joe", "hello", True, 1048576)
    assert r["server"] == server.client().info["version"]


def test_request_reply(server):
    assert scenario("request", server.url) == {"answers": ["%d!" % i for i in range(100)]}


def test_queue_group(server):
    counts = scenario("queue", server.url)["counts"]
    assert sum(counts) == 600 and min(counts) > 100


def test_headers(server):
    assert scenario("headers", server.url) == {"values": ["one", "two"], "data": "body"}


def test_no_responders(server):
    assert scenario("noresponders", server.url) == {"no_responders": True}


def test_drain(server):
    assert scenario("drain", server.url) == {"count": 500}


def test_auto_unsubscribe(server):
    assert scenario("autounsub", server.url)["count"] == 7


def test_bulk_in_order(server):
    assert scenario("bulk", server.url) == {"count": 20000, "wrong": 0}


def test_wildcards(server):
    assert scenario("wildcards", server.url) == {
        "a.b.c": 1, "a.*.c": 1, "a.>": 1, "*.b.*": 1, ">": 1, "a.b": 0, "a.*": 0}


def test_synchronous_subscription(server):
    assert scenario("sync", server.url) == {"timeout": True, "data": "x"}


def test_user_and_token(start):
    s = start("--user", "u", "--pass", "p")
    assert scenario("connect", s.url.replace("//", "//u:p@"))["connected"] is True
    assert "authorization violation" in scenario("connect", s.url)["error"].lower()
    s = start("--auth", "tok")
    assert scenario("connect", s.url.replace("//", "//tok@"))["connected"] is True


def test_nkey(start, tmp_path):
    key, other = nkey.Key(), nkey.Key()
    s = start(config="authorization { users [ {nkey: %s} ] }\n" % key.public)
    (tmp_path / "seed").write_text(key.seed + "\n")
    (tmp_path / "other").write_text(other.seed + "\n")
    assert scenario("nkey", s.url, str(tmp_path / "seed"))["connected"] is True
    assert "error" in scenario("nkey", s.url, str(tmp_path / "other"))


def test_permission_errors(start):
    s = start(config="authorization { users [ {user: u, password: p, permissions: {publish: ok, "
              "subscribe: ok}} ] }\n")
    r = scenario("denied", s.url.replace("//", "//u:p@"), "no")
    assert r["connected"] is True
    assert 'permissions violation for publish to "no"' in r["texts"][0]
    assert 'permissions violation for subscription to "no"' in r["texts"][1]


def test_tls(start, certs):
    s = start(config=certs.block())
    url = "tls://localhost:%d" % s.port
    assert scenario("tls", url, certs.path("ca.pem"))["connected"] is True
    s = start(config=certs.block("handshake_first: true"))
    url = "tls://localhost:%d" % s.port
    assert scenario("tls", url, certs.path("ca.pem"), "first")["connected"] is True


def begin(name, url):
    p = subprocess.Popen([CLIENT, name, url], stdout=subprocess.PIPE, text=True)
    assert p.stdout.readline() == "ready\n"
    return p


def test_reconnect(start):
    s = start()
    port = s.port
    p = begin("reconnect", s.url)
    s.kill()
    start("-p", str(port))
    out, _ = p.communicate(timeout=20 * SLOW)
    assert json.loads(out) == {"delivered": True}


def test_lame_duck(start):
    s = start(config='lame_duck_duration: "30s"\nlame_duck_grace_period: "300ms"\n')
    p = begin("lameduck", s.url)
    s.signal(signal.SIGUSR2)
    out, _ = p.communicate(timeout=20 * SLOW)
    assert json.loads(out) == {"told": True}


def test_streams(js_server):
    assert scenario("streams", js_server.url) == {
        "state": [6, 1, 6], "subjects": {"ORDERS.0": 3, "ORDERS.1": 3}, "last": "4",
        "deleted": 10037, "changed": [2, "few"], "names": ["ORDERS"], "found": "ORDERS",
        "overlap": 10065, "missing": 10059, "streams": 1}


def test_publish_with_ids_and_expectations(js_server):
    assert scenario("publish", js_server.url) == {
        "acks": ["PUB", 1, False, 1, True], "refused": [10060, 10071, 10071, 10070], "fits": 2,
        "many": 500}


def test_pull_consumer(js_server):
    assert scenario("pull", js_server.url) == {
        "meta": [4, 4, 1, 16], "seen": [2, *range(5, 21)], "again": [2], "waited": True,
        "floor": [20, 0], "none": True, "late": "late"}


def test_push_consumer(js_server):
    assert scenario("push", js_server.url) == {"got": [str(i) for i in range(11)], "bound": True}


def test_ordered_consumer(js_server):
    assert scenario("ordered", js_server.url) == {"right": 150}


def test_key_value(js_server):
    assert scenario("kv", js_server.url) == {
        "revisions": [1, 2, 3], "exists": True, "stale": 10071, "got": ["3", 3], "first": "1",
        "history": ["1", "3"], "keys": ["k.a", "k.b"], "deleted": True, "again": 6, "changes": [
            "k.a KeyValuePutOp 1", "k.b KeyValuePutOp 2", "k.a KeyValuePutOp 3",
            "k.b KeyValueDeleteOp ", "k.a KeyValuePurgeOp ", "k.b KeyValuePutOp 4"]}


def test_object_store(js_server):
    assert scenario("objects", js_server.url) == {
        "put": [300000, 5], "same": True, "replaced": "other", "deleted": True,
        "names": ["small"], "sealed": 10109}
