"""The official JavaScript clients, old and new: each test runs one scenario of tests/e2e/node."""
import json
import os
import shutil
import signal
import subprocess

import pytest

import nkey
from harness import SLOW
from test_tls import Certs

HERE = os.path.dirname(os.path.abspath(__file__))
MODULES = os.path.join(os.path.dirname(os.path.dirname(HERE)), "build", "e2e-node", "node_modules")
ENV = {**os.environ, "NODE_PATH": MODULES}

if not (os.path.exists(MODULES) and shutil.which("node")) \
        and not os.environ.get("MILLRACE_E2E_REQUIRE"):
    pytest.skip("tools/test-env has not installed the Node clients", allow_module_level=True)

pytestmark = pytest.mark.parametrize("library", ["nats", "@nats-io/transport-node"])


@pytest.fixture(scope="module")
def certs(tmp_path_factory):
    return Certs(tmp_path_factory.mktemp("certs"))


def command(library, name, url, *args, script="scenario.cjs"):
    return ["node", os.path.join(HERE, "node", script), library, name, url, *args]


def scenario(*args, script="scenario.cjs"):
    r = subprocess.run(command(*args, script=script), capture_output=True, text=True, check=False, env=ENV,
                       timeout=60 * SLOW)
    assert r.returncode == 0, r.stderr
    return json.loads(r.stdout.strip().splitlines()[-1])


def test_publish_subscribe(server, library):
    r = scenario(library, "pubsub", server.url)
    assert (r["subject"], r["data"], r["values"], r["max_payload"]) == (
        "greet.joe", "hello", ["one", "two"], 1048576)


def test_request_reply(server, library):
    r = scenario(library, "request", server.url)
    assert r == {"answers": ["%d!" % i for i in range(100)], "many": 200}


def test_no_responders(server, library):
    name = scenario(library, "noresponders", server.url)["name"]
    assert "503" in name or "no responders" in name


def test_queue_group(server, library):
    counts = scenario(library, "queue", server.url)["counts"]
    assert sum(counts) == 600 and min(counts) > 100


def test_bulk_in_order(server, library):
    assert scenario(library, "bulk", server.url) == {"count": 20000, "wrong": 0}


def test_drain(server, library):
    assert scenario(library, "drain", server.url) == {"count": 500, "closed": True}


def test_user_token_nkey(start, library):
    s = start("--user", "u", "--pass", "p")
    assert scenario(library, "user", s.url, "u", "p") == {"connected": True}
    assert "uthorization" in scenario(library, "user", s.url, "u", "x")["error"]
    s = start("--auth", "tok")
    assert scenario(library, "token", s.url, "tok") == {"connected": True}
    key = nkey.Key()
    s = start(config="authorization { users [ {nkey: %s} ] }\n" % key.public)
    assert scenario(library, "nkey", s.url, key.seed) == {"connected": True}
    assert "error" in scenario(library, "nkey", s.url, nkey.Key().seed)


def test_permission_errors(start, library):
    s = start(config="authorization { users [ {user: u, password: p, permissions: {publish: ok, "
              "subscribe: ok}} ] }\n")
    r = scenario(library, "denied", s.url)
    assert r["open"] is True
    text = " ".join(r["texts"]).lower()
    assert "permission" in text and "publish" in text and "subscription" in text


def test_tls(start, certs, library):
    s = start(config=certs.block())
    url = "localhost:%d" % s.port
    assert scenario(library, "tls", url, certs.path("ca.pem")) == {"connected": True}
    s = start(config=certs.block("handshake_first: true"))
    url = "localhost:%d" % s.port
    assert scenario(library, "tls", url, certs.path("ca.pem"), "first") == {"connected": True}


def begin(*args):
    p = subprocess.Popen(command(*args), stdout=subprocess.PIPE, text=True, env=ENV)
    assert p.stdout.readline() == "ready\n"
    return p


def test_reconnect(start, library):
    s = start()
    port = s.port
    p = begin(library, "reconnect", s.url)
    s.kill()
    start("-p", str(port))
    out, _ = p.communicate(timeout=30 * SLOW)
    assert json.loads(out) == {"delivered": True}


def test_lame_duck(start, library):
    s = start(config='lame_duck_duration: "30s"\nlame_duck_grace_period: "300ms"\n')
    p = begin(library, "lameduck", s.url)
    s.signal(signal.SIGUSR2)
    out, _ = p.communicate(timeout=20 * SLOW)
    assert json.loads(out) == {"told": True}


def streams(server, library, name):
    return scenario(library, name, server.url, script="streams.cjs")


def test_streams(js_server, library):
    assert streams(js_server, library, "streams") == {
        "state": [4, 3, 6, {"ORDERS.new": 3, "ORDERS.paid": 1}], "message": "p", "deleted": [4],
        "purged": 1, "changed": [1, "few", 1], "names": ["ORDERS"], "listed": ["ORDERS"],
        "found": "ORDERS", "other": 10065, "missing": 10059, "account": [1, True], "gone": True}


def test_publish_with_ids_and_expectations(js_server, library):
    assert streams(js_server, library, "publish") == {
        "first": ["PUB", 1, False], "again": [1, True], "refused": [10060, 10071, 10071, 10070],
        "fits": 2, "many": True}


def test_pull_consumer(js_server, library):
    r = streams(js_server, library, "pull")
    assert r == {
        "fetched": ["0", "1", "2", "3"], "info": [4, 4, 1, 16], "waited": True, "again": [[2, 2]],
        "seen": [2, *range(5, 21)], "floor": [20, 0, 0], "none": True, "late": "late",
        "names": ["d"], "gone": True}


def test_ordered_consumer(js_server, library):
    assert streams(js_server, library, "ordered") == {"count": 150, "right": True}


def test_push_consumer(js_server, library):
    assert streams(js_server, library, "push") == {
        "got": [str(i) for i in range(11)], "name": "p", "bound": True, "floor": 11}


def test_key_value(js_server, library):
    assert streams(js_server, library, "kv") == {
        "revisions": [1, 2, 3], "exists": True, "stale": True, "got": ["k.a", "4", 3, "PUT"],
        "first": "1", "history": [[3, "4"], [4, "6"], [5, "7"]], "deleted": "DEL", "again": 7,
        "keys": ["k.a", "k.b"], "status": ["B", 4, 3], "missing": None, "ttl": [True, None],
        "gone": True, "changes": [
            ["k.a", "PUT", "1"], ["k.b", "PUT", "2"], ["k.a", "PUT", "4"], ["k.a", "PUT", "6"],
            ["k.a", "PUT", "7"], ["k.b", "DEL", ""], ["k.b", "PUT", "8"], ["k.a", "PURGE", ""]]}


def test_object_store(js_server, library):
    assert streams(js_server, library, "objects") == {
        "put": ["dir/big file", 300000, 5], "same": True, "listed": ["dir/big file", "small"],
        "replaced": "other", "deleted": [None, True], "status": ["FILES", "things", False],
        "sealed": True, "refused": True, "gone": True}
