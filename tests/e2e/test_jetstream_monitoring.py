"""JetStream at the monitoring pages, in INFO and in the replies of the system account: fields in
their order and values after known traffic."""
import asyncio
import json
import re
import time

import nats
import pytest

from harness import SLOW, wait_until
from test_monitoring import JSZ, TIME, fields

CONFIG = """
server_name: mill
jetstream { store_dir: %s/store, max_mem: 1GB, max_file: 10GB, domain: hub
            limits { max_ack_pending: 5000, duplicate_window: "2m" } }
accounts {
  SYS { users [{user: sys, password: sys}] }
  A { jetstream: enabled, users [{user: a, password: a}] }
  B { jetstream { max_mem: 1MB, max_file: 2MB }, users [{user: b, password: b}] }
  C { users [{user: c, password: c}] }
}
system_account: SYS
no_auth_user: a
"""
STATS = "memory storage reserved_memory reserved_storage accounts ha_assets api"
CONFIGURATION = "max_memory max_storage store_dir? sync_interval sync_always? domain compress_ok strict"
LIMITS = {"max_ack_pending": 5000, "max_duplicate_window": 120 * 10 ** 9,
          "default_max_consumers": 1000}
STREAM = "name created cluster config? state consumer_detail?"
STATE = "messages bytes first_seq first_ts last_seq last_ts num_subjects num_deleted? consumer_count"
CONSUMER = """stream_name name created config? delivered ack_floor num_ack_pending num_redelivered
num_waiting num_pending ts"""
NO_LIMIT = 2 ** 64 - 1


async def fill(url):
    """Stream ORDERS (file, 9 messages, one deleted, consumers D and P) and MEM (memory, 3)."""
    c = await nats.connect(url)

    async def api(subject, body):
        reply = await c.request("$JS.API." + subject, json.dumps(body).encode(), timeout=5 * SLOW)
        assert "error" not in json.loads(reply.data), reply.data

    await api("STREAM.CREATE.ORDERS", {"name": "ORDERS", "subjects": ["orders.>"]})
    await api("STREAM.CREATE.MEM", {"name": "MEM", "subjects": ["mem.>"], "storage": "memory",
                                    "max_bytes": 100000})
    await api("CONSUMER.DURABLE.CREATE.ORDERS.D", {
        "stream_name": "ORDERS", "config": {
            "durable_name": "D", "ack_policy": "explicit", "description": "desc",
            "metadata": {"team": "x"}}})
    await api("CONSUMER.DURABLE.CREATE.ORDERS.P", {
        "stream_name": "ORDERS", "config": {
            "durable_name": "P", "ack_policy": "explicit", "deliver_subject": "push.here"}})
    js = c.jetstream(timeout=5 * SLOW)
    for i in range(10):
        await js.publish("orders.%d" % (i % 3), b"x" * 10)
    for i in range(3):
        await js.publish("mem.a", b"x" * 10)
    await api("STREAM.MSG.DELETE.ORDERS", {"seq": 4})
    await c.close()


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    import harness
    folder = tmp_path_factory.mktemp("jsz")
    s = harness.Server(folder, config=CONFIG % folder, monitor=True)
    asyncio.run(asyncio.wait_for(fill(s.url), 30 * SLOW))
    yield s
    assert s.stop() == 0


def by_name(entries):
    return {e["name"]: e for e in entries}


def check_config(config, has_store_dir=True):
    fields(config, CONFIGURATION)
    assert config["max_memory"] == 2 ** 30 and config["max_storage"] == 10 * 2 ** 30
    assert config["domain"] == "hub" and config["strict"] is True
    assert ("store_dir" in config) == has_store_dir
    if has_store_dir:
        assert config["store_dir"].endswith("/store/jetstream")


def test_info_names_jetstream_and_its_domain(filled):
    with filled.connect() as c:
        assert (c.info["jetstream"], c.info["domain"], c.info["api_lvl"]) == (True, "hub", 5)
        keys = list(c.info)
        assert keys.index("jetstream") == keys.index("max_payload") + 1
        assert keys.index("domain") < keys.index("api_lvl")


def test_varz(filled):
    js = filled.page("/varz")["jetstream"]
    assert list(js) == ["config", "stats", "limits"]
    check_config(js["config"])
    assert js["limits"] == LIMITS
    fields(js["stats"], STATS)
    api = js["stats"].pop("api")
    assert js["stats"] == {"memory": 93, "storage": 432, "reserved_memory": 100000,
                           "reserved_storage": 0, "accounts": 2, "ha_assets": 0}
    assert (api["level"], api["total"] >= 5, api["errors"]) == (5, True, 0)


@pytest.mark.ours_only
def test_durability_is_named(filled):
    assert filled.page("/varz")["jetstream"]["config"]["sync_always"] is True


def test_jsz_sums(filled):
    z = filled.page("/jsz")
    fields(z, JSZ)
    check_config(z["config"])
    assert z["limits"] == LIMITS
    assert {k: z[k] for k in ("memory", "storage", "reserved_memory", "accounts", "streams",
                              "consumers", "messages", "bytes", "total")} == {
        "memory": 93, "storage": 432, "reserved_memory": 100000, "accounts": 2, "streams": 2,
        "consumers": 2, "messages": 12, "bytes": 525, "total": 2}
    assert "account_details" not in z and "disabled" not in z
    assert "account_details" not in filled.page("/jsz?acc=nope")
    assert filled.page("/jsz?leader-only=1")["streams"] == 2


def test_jsz_accounts(filled):
    z = filled.page("/jsz?accounts=1")
    assert [a["name"] for a in z["account_details"]] == ["A", "B"]
    a, b = z["account_details"]
    for x in a, b:
        fields(x, "name id " + STATS)
    assert (a["memory"], a["storage"], a["reserved_memory"], a["reserved_storage"]) == (
        93, 432, NO_LIMIT, NO_LIMIT)
    assert (a["api"]["total"] >= 5, b["api"]["total"]) == (True, 0)
    assert (b["reserved_memory"], b["reserved_storage"]) == (2 ** 20, 2 * 2 ** 20)
    for query, names in (("accounts=1&limit=1", ["A"]), ("accounts=1&offset=1", ["B"]),
                         ("acc=B", ["B"]), ("accounts=1&offset=5", [])):
        got = filled.page("/jsz?" + query).get("account_details", [])
        assert [x["name"] for x in got] == names, query


def test_jsz_streams(filled):
    z = filled.page("/jsz?acc=A&streams=1&raft=1&stream-leader-only=1")
    assert (z["streams_leader"], z["consumers_leader"]) == (2, 2)
    streams = by_name(z["account_details"][0]["stream_detail"])
    assert sorted(streams) == ["MEM", "ORDERS"]
    for s in streams.values():
        fields(s, STREAM)
        fields(s["state"], STATE)
        assert "config" not in s and "consumer_detail" not in s
        assert s["cluster"] == {"leader": "mill"}
    state = streams["ORDERS"]["state"]
    assert TIME.match(state.pop("first_ts")) and TIME.match(state.pop("last_ts"))
    assert state == {"messages": 9, "bytes": 432, "first_seq": 1, "last_seq": 10,
                     "num_subjects": 3, "num_deleted": 1, "consumer_count": 2}


def test_jsz_consumers_and_configurations(filled):
    z = filled.page("/jsz?consumers=1&config=1")
    streams = by_name(z["account_details"][0]["stream_detail"])
    assert streams["ORDERS"]["config"]["metadata"] == {"_nats.req.level": "0"}
    assert "consumer_detail" not in streams["MEM"]
    consumers = by_name(streams["ORDERS"]["consumer_detail"])
    assert sorted(consumers) == ["D", "P"]
    for c in consumers.values():
        fields(c, CONSUMER)
        assert (c["num_pending"], c["num_ack_pending"], c["num_waiting"]) == (9, 0, 0)
    assert consumers["D"]["config"] == {
        "durable_name": "D", "name": "D", "description": "desc", "deliver_policy": "all",
        "ack_policy": "explicit", "ack_wait": 30 * 10 ** 9, "max_deliver": -1,
        "replay_policy": "instant", "max_waiting": 512, "max_ack_pending": 1000, "num_replicas": 0,
        "metadata": {"_nats.req.level": "0", "team": "x"}}
    plain = filled.page("/jsz?acc=A&consumers=1")["account_details"][0]["stream_detail"]
    assert all("config" not in s for s in plain)
    assert "config" not in by_name(plain)["ORDERS"]["consumer_detail"][0]


def test_jsz_bad_parameter(filled):
    assert filled.http("/jsz?streams=x")[0] == 400


@pytest.mark.parametrize("query,status,error", [
    ("", 200, None),
    ("account=A&stream=ORDERS&consumer=D", 200, None),
    ("js-enabled-only=1", 200, None),
    ("js-server-only=1&account=NO", 200, None),
    ("account=NO", 404, 'JetStream account "NO" not found'),
    ("account=A&stream=NO", 404, 'JetStream stream "NO" not found on account "A"'),
    ("account=A&stream=ORDERS&consumer=NO", 404,
     'JetStream consumer "NO" not found for stream "ORDERS" on account "A"'),
    ("stream=ORDERS", 400, '"account" must not be empty when checking stream health'),
])
def test_healthz(filled, query, status, error):
    got, _, body = filled.http("/healthz?" + query)
    assert got == status
    health = json.loads(body)
    assert health == ({"status": "ok"} if error is None else {
        "status": "error" if status == 400 else "unavailable", "error": error})


def test_a_failed_check_is_logged(filled):
    time.sleep(1.1)  # of those of one second ours logs the first
    filled.http("/healthz?account=A&stream=NOPE")
    filled.wait_log(r'\[WRN\] Healthcheck failed: '
                    r'"JetStream stream \\"NOPE\\" not found on account \\"A\\""')
    time.sleep(1.1)
    filled.http("/healthz?account=NOBODY&details=1")
    filled.wait_log(r"\[WRN\] Healthcheck failed: 1 errors")


@pytest.mark.ours_only
def test_failed_checks_do_not_fill_the_log(filled):
    time.sleep(1.1)
    before = filled.log().count("Healthcheck failed")
    began = time.monotonic()
    for i in range(30):
        filled.http("/healthz?stream=%d" % i)
    filled.http("/healthz")
    count = filled.log().count("Healthcheck failed") - before
    assert 1 <= count <= 2 + time.monotonic() - began


def test_healthz_details(filled):
    status, _, body = filled.http("/healthz?account=A&stream=NO&details=1")
    assert status == 404
    assert json.loads(body) == {"status": "error", "errors": [{
        "type": "STREAM", "account": "A", "stream": "NO",
        "error": 'JetStream stream "NO" not found on account "A"'}]}


def test_account_pages(filled):
    for account, is_on in (("A", True), ("C", False)):
        detail = filled.page("/accountz?acc=" + account)["account_detail"]
        assert detail["jetstream_enabled"] is is_on


def ask(server, subject, body=b""):
    with server.connect(user="sys", **{"pass": "sys"}) as c:
        c.sub("inbox").pub(subject, body.decode(), reply="inbox")
        return json.loads(c.msg().data)


def test_system_requests(filled):
    reply = ask(filled, "$SYS.REQ.SERVER.PING.JSZ", b'{"consumer": true, "config": true}')
    assert reply["server"]["jetstream"] is True and reply["server"]["flags"] & 1
    assert reply["server"]["domain"] == "hub"
    assert sorted(by_name(reply["data"]["account_details"][0]["stream_detail"])) == [
        "MEM", "ORDERS"]
    data = ask(filled, "$SYS.REQ.ACCOUNT.A.JSZ", b'{"streams": true}')["data"]
    assert (data["name"], len(data["stream_detail"])) == ("A", 2)
    error = ask(filled, "$SYS.REQ.ACCOUNT.C.JSZ")["error"]
    assert error == {"code": 500, "description": 'account "C" not jetstream enabled'}
    health = ask(filled, "$SYS.REQ.SERVER.PING.HEALTHZ")["data"]
    assert health == {"status": "ok", "status_code": 200}
    stats = ask(filled, "$SYS.REQ.SERVER.PING.STATSZ")["statsz"]
    check_config(stats["jetstream"]["config"], has_store_dir=False)
    assert stats["jetstream"]["stats"]["storage"] == 432


@pytest.mark.ours_only
def test_metrics(filled):
    def text():
        status, _, body = filled.http("/metrics")
        assert status == 200
        return body if isinstance(body, str) else body.decode()
    got = text()
    for line in (r'jetstream_server_total_messages\{.*domain="hub".*\} 12',
                 r'jetstream_account_storage_used\{.*account="A".*\} 432',
                 r'jetstream_stream_total_messages\{.*stream_name="ORDERS".*\} 9',
                 r'jetstream_consumer_num_pending\{.*consumer_name="D".*consumer_desc="desc"\} 9',
                 r'gnatsd_varz_jetstream_stats_storage\{.*\} 432',
                 r'gnatsd_accountz_jetstream_enabled\{.*account_name="A".*\} 1',
                 r'gnatsd_healthz_status\{.*\} 0',
                 r'millrace_jetstream_sync_always 1',
                 r'millrace_jetstream_store_state\{state="ok"\} 1',
                 r'millrace_jetstream_consumer_lag_seconds\{.*consumer_name="D".*\} [0-9.e-]+',
                 r'millrace_jetstream_recovery_seconds [0-9.e-]+'):
        assert re.search("^" + line + "$", got, re.M), line
    wait_until(lambda: float(re.search(r"^millrace_jetstream_commit_seconds_count (\S+)$", text(),
                                       re.M).group(1)) > 0, what="a timed commit")
    records = float(re.search(r"^millrace_jetstream_records_total (\S+)$", got, re.M).group(1))
    assert records >= 10
    assert float(re.search(r"^millrace_jetstream_written_bytes_per_byte (\S+)$", got,
                           re.M).group(1)) >= 1
