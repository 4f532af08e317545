"""Requests on $JS.API, publishes and direct gets: what is answered to good ones and to bad ones.
Everything here passes on nats-server too."""
import base64
import json
import re
import time

import pytest

from harness import Server, wait_until
from jetstream import Js
from test_monitoring import fields

CONFIG = """
server_name: mill
jetstream { store_dir: %s/store, max_mem: 1GB, max_file: 10GB, domain: hub }
accounts {
%s
  SMALL { users [{user: small, password: small}]
    jetstream { max_mem: 2000, max_file: 3000, max_streams: 2, max_consumers: 1, max_ack_pending: 10
                disk_max_stream_bytes: 1500, max_bytes_required: true } }
  NONE { users [{user: none, password: none}] }
}
"""
# One account for each test: streams with the names of others then are other streams.
ACCOUNTS = 120
STREAM_CONFIG = """name description? subjects? retention max_consumers max_msgs max_bytes max_age
max_msgs_per_subject max_msg_size? discard storage num_replicas no_ack? duplicate_window? placement?
compression first_seq? subject_transform? republish? allow_direct mirror_direct
discard_new_per_subject? sealed deny_delete deny_purge allow_rollup_hdrs consumer_limits
allow_msg_ttl subject_delete_marker_ttl? metadata?"""
STREAM_INFO = "type total? offset? limit? config created state domain? cluster? ts did_create?"


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("api")
    s = Server(folder, config=CONFIG % (folder, "\n".join(
        "  A%d { jetstream: enabled, users [{user: a%d, password: a%d}] }" % (i, i, i)
        for i in range(ACCOUNTS))))
    s.accounts_used = 0
    yield s
    assert s.stop() == 0


@pytest.fixture
def js(server):
    assert server.accounts_used < ACCOUNTS
    with login(server, "a%d" % server.accounts_used) as j:
        server.accounts_used += 1
        yield j
        for name in j.ok("STREAM.NAMES")["streams"] or []:
            j.ok("STREAM.DELETE." + name)


def login(server, who):
    return Js(server, user=who, **{"pass": who})


QUEUES = """
server_name: mill
jetstream { store_dir: %s/store, %s }
accounts { A { jetstream: enabled, users [{user: a, password: a}] }
           SYS { users [{user: s, password: s}] } }
system_account: SYS
"""


def test_requests_beyond_the_queue_are_dropped_and_told(start, tmp_path):
    """With a limit of 1 the queue is full with each request. Those that only read have their own."""
    server = start(config=QUEUES % (tmp_path, "request_queue_limit: 1, info_queue_limit: 100"))
    system = login(server, "s")
    system.c.sub("$JS.EVENT.ADVISORY.API.LIMIT_REACHED", sid="2")
    system.c.ping()
    with login(server, "a") as j:
        j.c.pub("$JS.API.STREAM.CREATE.S", json.dumps({"name": "S"}), reply="_INBOX.1")
        told = json.loads(system.c.msg().data)
        assert told.pop("id") and told.pop("timestamp")
        assert told == {"type": "io.nats.jetstream.advisory.v1.api_limit_reached",
                        "server": "mill", "dropped": 1}
        assert j.ok("STREAM.NAMES")["total"] == 0
        j.c.quiet(0.05)
    system.c.close()


def test_publishes_beyond_a_stream_s_buffer_are_refused(start, tmp_path):
    """429 and 10167 for what came while as many waited as may; what was acked is there."""
    server = start(config=QUEUES % (tmp_path, "max_buffered_msgs: 2"))
    with login(server, "a") as j:
        j.stream("S", subjects=["s"])
        burst, stored, refused = 2000, 0, 0
        j.c.sub("acks", sid="2")
        j.c.send(b"PUB s acks 2\r\nok\r\n" * burst)
        for _ in range(burst):
            m = j.c.msg(timeout=20)
            error = json.loads(m.data).get("error")
            stored += error is None
            if error is not None:
                assert m.headers.startswith(b"NATS/1.0 429 Too Many Requests")
                assert error == {"code": 429, "err_code": 10167, "description": "too many requests"}
                refused += 1
        assert stored > 0 and refused > 0
        assert j.state("S")["messages"] == stored


# --- who may ask, and how

def test_nobody_answers_when_jetstream_is_off(start):
    with Js(start()) as j:
        assert j.status("$JS.API.INFO")[0] == "503"


def test_an_account_without_jetstream_is_told_so(server):
    with login(server, "none") as j:
        assert j.refused("INFO") == (503, 10039, "JetStream not enabled for account")
        reply = json.loads(j.request("$JS.hub.API.STREAM.NAMES").data)
        assert reply["error"]["err_code"] == 10039
        for request in ("STREAM.NAMES", "STREAM.LIST", "STREAM.CREATE.S", "STREAM.PURGE.S",
                        "CONSUMER.NAMES.S", "CONSUMER.LIST.S", "CONSUMER.INFO.S.C",
                        "CONSUMER.CREATE.S", "CONSUMER.DELETE.S.C", "CONSUMER.PAUSE.S.C"):
            assert j.refused(request)[1] == 10039
            kind = "_".join(request.lower().split(".")[:2])
            assert j.api(request)["type"] == "io.nats.jetstream.api.v1.%s_response" % kind


def test_bodies_where_they_belong(js):
    js.stream("S", subjects=["s"])
    assert js.refused("STREAM.CREATE.X")[:2] == (400, 10056)
    assert js.refused("STREAM.DELETE.S", {"a": 1})[:2] == (400, 10038)
    assert js.refused("STREAM.CREATE.X", "{")[1] == 10025
    assert js.refused("STREAM.CREATE.X", {"name": "Y"})[:2] == (400, 10056)


def test_unknown_fields_are_refused(js):
    assert js.refused("STREAM.CREATE.X", {"name": "X", "nope": 1}) == (
        400, 10025, 'invalid JSON: json: unknown field "nope"')
    assert js.refused("STREAM.CREATE.X", {"name": "X", "max_msgs": "5"})[1] == 10025


def test_unknown_fields_are_passed_over_without_strict(start, tmp_path):
    s = start(config="jetstream { store_dir: %s, strict: false }" % tmp_path)
    with Js(s) as j:
        j.ok("STREAM.CREATE.X", {"name": "X", "nope": 1})


def test_a_higher_api_level_is_refused(js):
    js.stream("S", subjects=["s"], allow_direct=True)
    level = {"Nats-Required-Api-Level": "6"}
    assert js.refused("STREAM.INFO.S", None, level) == (
        412, 10185, "JetStream minimum api level required")
    assert js.ok("STREAM.INFO.S", None, {"Nats-Required-Api-Level": "5"})
    assert js.status("$JS.API.DIRECT.GET.S", b'{"seq":1}', level)[0] == "412 Required Api Level"


def test_the_domain_is_a_prefix_too(js):
    assert "domain" not in js.stream("KV_B", subjects=["$KV.B.>"])
    assert js.ok("STREAM.UPDATE.KV_B", {"name": "KV_B", "subjects": ["$KV.B.>"]})["domain"] == "hub"
    info = json.loads(js.request("$JS.hub.API.STREAM.INFO.KV_B").data)
    assert (info["config"]["name"], info["domain"]) == ("KV_B", "hub")
    assert js.publish("$JS.hub.API.$KV.B.key", b"v") == {
        "stream": "KV_B", "domain": "hub", "seq": 1}
    assert js.ok("INFO")["domain"] == "hub"


def test_names(js):
    for name in ("a.b", "a b", "a*", "a>", "x" * 256):
        reply = js.api("STREAM.CREATE.x", {"name": name})
        assert "error" in reply, name
    js.stream("x" * 255, subjects=["long"])
    assert js.refused_stream("D", description="d" * 4097)[1] == 10052
    assert js.refused_stream("M", metadata={"k": "v" * 131072})[1] == 10052


def test_account_info(server, js):
    js.stream("S", subjects=["s"], max_bytes=1000, storage="memory")
    js.publish("s", b"12345")
    info = js.ok("INFO")
    fields(info, """type memory storage reserved_memory reserved_storage streams consumers limits
                    domain? api""")
    assert (info["memory"] > 5, info["reserved_memory"], info["streams"]) == (True, 1000, 1)
    assert set(info["limits"].values()) == {-1, False}
    assert (info["api"]["level"], info["api"]["errors"] >= 0) == (5, True)
    with login(server, "small") as j:
        assert j.ok("INFO")["limits"] == {
            "max_memory": 2000, "max_storage": 3000, "max_streams": 2, "max_consumers": 1,
            "max_ack_pending": 10, "memory_max_stream_bytes": -1, "storage_max_stream_bytes": 1500,
            "max_bytes_required": True}


def test_account_limits(server):
    with login(server, "small") as j:
        assert j.refused_stream("S", subjects=["s"]) == (
            400, 10113, "account requires a stream config to have max bytes set")
        assert j.refused_stream("S", subjects=["s"], max_bytes=1501) == (
            400, 10122, "stream max bytes exceeds account limit max stream bytes")
        j.stream("S", subjects=["s"], max_bytes=1500)
        j.stream("T", subjects=["t"], max_bytes=1500)
        assert j.refused_stream("U", subjects=["u"], max_bytes=10)[:2] == (400, 10027)
        j.consumer("S", "C", ack_policy="explicit", max_ack_pending=10)
        assert j.refused("CONSUMER.CREATE.S.D", {"stream_name": "S", "config": {
            "name": "D", "ack_policy": "explicit", "max_ack_pending": 10}})[:2] == (400, 10026)
        for name in "ST":
            j.ok("STREAM.DELETE." + name)


def test_limits_by_reload(start, tmp_path):
    config = """jetstream { store_dir: %s, max_mem: 1KB, max_file: 1KB, limits { max_ack_pending: %d } }
    accounts { A { users [{user: a, password: a}], jetstream { max_streams: %d } } }"""
    s = start(config=config % (tmp_path, 5, 1))
    with login(s, "a") as j:
        j.stream("S", subjects=["s"])
        consumer = {"stream_name": "S", "config": {"name": "C", "ack_policy": "explicit",
                                                   "max_ack_pending": 10}}
        assert j.refused("CONSUMER.CREATE.S.C", consumer)[1] == 10121
        assert j.refused_stream("T", subjects=["t"])[1] == 10027
        s.reload((config % (tmp_path, 20, 2)).replace("1KB", "2MB"))
        wait_until(lambda: j.ok("INFO")["limits"]["max_streams"] == 2, what="the new limits")
        j.ok("CONSUMER.CREATE.S.C", consumer)
        j.stream("T", subjects=["t"], max_bytes=1000000)
        s.reload((config % (tmp_path, 20, 2)).replace("1KB", "1MB"), expect="decreasing jetstream")


@pytest.mark.parametrize("storage", ["memory", "file"])
def test_what_a_reload_adds_can_be_used(start, tmp_path, storage):
    config = "jetstream { store_dir: %s, max_mem: %s, max_file: %s }"
    s = start(config=config % (tmp_path, "1MB", "1MB"))
    with Js(s) as j:
        j.stream("S", subjects=["s"], storage=storage)

        def fill(most):
            return sum("error" not in j.publish("s", b"x" * 100000) for _ in range(most))
        assert 5 <= fill(20) <= 11
        s.reload(config % (tmp_path, "3MB", "3MB"))
        wait_until(lambda: fill(1) == 1, what="the new limit")
        assert 15 <= fill(40) <= 21


@pytest.mark.parametrize("storage", ["memory", "file"])
def test_a_limit_that_is_reached_is_logged(start, tmp_path, storage):
    s = start(config="""jetstream { store_dir: %s, max_mem: 200KB, max_file: 200KB }
    accounts { A { users [{user: a, password: a}], jetstream: enabled }
               B { users [{user: b, password: b}], jetstream { max_mem: 50KB, max_file: 50KB } } }
    """ % tmp_path)

    def refusals(j, subject):
        replies = [j.publish(subject, b"x" * 10000) for _ in range(60)]
        return {r["error"]["err_code"] for r in replies if "error" in r}

    server = "[ERR] JetStream %s resource limits exceeded for server" % storage
    account = '[WRN] JetStream %s resource limits exceeded for account: "B"' % storage
    with login(s, "a") as a, login(s, "b") as b:
        b.stream("T", subjects=["t"], storage=storage)
        assert refusals(b, "t") == {10002}
        s.wait_log(re.escape(account))
        assert server not in s.log()
        a.stream("S", subjects=["s"], storage=storage)
        assert refusals(a, "s") == {10023}
        s.wait_log(re.escape(server))
        assert s.log().count(server) <= 3 and s.log().count(account) <= 3
        a.ok("STREAM.DELETE.S")
        b.ok("STREAM.DELETE.T")


# --- streams

def test_a_stream_lives(js):
    made = js.stream("S", subjects=["s.*"])
    fields(made, STREAM_INFO)
    fields(made["config"], STREAM_CONFIG)
    assert made["type"] == "io.nats.jetstream.api.v1.stream_create_response"
    assert made["did_create"] is True
    assert made["config"]["metadata"].keys() == {"_nats.level", "_nats.req.level", "_nats.ver"}
    again = js.stream("S", subjects=["s.*"])
    assert again["created"] == made["created"]
    assert js.refused_stream("S", subjects=["s.*"], max_msgs=5) == (
        400, 10058, "stream name already in use with a different configuration")
    assert js.refused_stream("T", subjects=["s.1"])[:2] == (400, 10065)
    assert js.ok("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.*"], "max_msgs": 5})[
        "config"]["max_msgs"] == 5
    assert js.refused("STREAM.UPDATE.T", {"name": "T"}) == (404, 10059, "stream not found")
    info = js.ok("STREAM.INFO.S")
    fields(info, STREAM_INFO)
    assert info["cluster"] == {"leader": "mill"}
    assert js.ok("STREAM.DELETE.S")["success"] is True
    assert js.refused("STREAM.INFO.S") == (404, 10059, "stream not found")


@pytest.mark.parametrize("config,code", [
    ({"subjects": ["a", "a"]}, 10052),
    ({"subjects": ["a.>", "a.b"]}, 10052),
    ({"subjects": ["$JS.API.>"]}, 10052),
    ({"subjects": [">"]}, 10052),
    ({"max_age": 1000}, 10052),
    ({"subjects": ["a"], "max_age": 10 ** 9, "duplicate_window": 2 * 10 ** 9}, 10052),
    ({"subjects": ["a"], "duplicate_window": 1000}, 10052),
    ({"subjects": ["a"], "discard_new_per_subject": True}, 10052),
    ({"subjects": ["a"], "sealed": True}, 10052),
    ({"subjects": ["a"], "allow_rollup_hdrs": True, "deny_purge": True}, 10052),
    ({"subjects": ["a"], "num_replicas": 3}, 10074),
    ({"subjects": ["a"], "republish": {"src": "a", "dest": "a"}}, 10052),
    ({"subjects": ["a"], "subject_transform": {"src": "a", "dest": "b.$1"}}, 10156),
    ({"subjects": ["a"], "retention": "sometimes"}, 10025),
])
def test_configurations_that_are_refused(js, config, code):
    assert js.refused_stream("S", **config)[1] == code


def test_defaults_and_what_follows_from_settings(js):
    config = js.stream("S")["config"]
    assert (config["subjects"], config["max_msgs"], config["max_age"], config["retention"],
            config["duplicate_window"]) == (["S"], -1, 0, "limits", 120 * 10 ** 9)
    config = js.stream("T", max_age=10 ** 9)["config"]
    assert config["duplicate_window"] == 10 ** 9
    config = js.stream("U", subject_delete_marker_ttl=10 ** 9, deny_purge=True)["config"]
    assert (config["allow_msg_ttl"], config["allow_rollup_hdrs"], config["deny_purge"]) == (
        True, True, False)
    assert js.stream("V", first_seq=100)["state"]["first_seq"] == 100
    assert js.publish("V")["seq"] == 100
    assert js.stream("W", compression="s2")["config"]["compression"] == "s2"


@pytest.mark.parametrize("change,code", [
    ({"storage": "memory"}, 10052),
    ({"retention": "workqueue"}, 10052),
    ({"deny_delete": False}, 10052),
])
def test_updates_that_are_refused(js, change, code):
    js.stream("S", deny_delete=True)
    assert js.refused("STREAM.UPDATE.S", {"name": "S", "deny_delete": True, **change})[1] == code


@pytest.mark.ours_only  # there several threads take requests, mostly in order
def test_subjects_are_free_behind_the_deletion_that_frees_them(js):
    js.stream("S", subjects=["s.*"])
    gone, made = js.pipelined(("STREAM.DELETE.S", None),
                              ("STREAM.CREATE.T", {"name": "T", "subjects": ["s.*"]}))
    assert gone["success"] and made.get("did_create"), made


@pytest.mark.ours_only  # likewise
def test_pipelined_requests_about_one_name_take_effect_in_their_order(js):
    """A stream that is made anew with other subjects, without waiting for any answer."""
    old = {"name": "ORDER", "subjects": ["order.old"]}
    new = {"name": "ORDER", "subjects": ["order.new"]}
    consumer = {"stream_name": "ORDER", "config": {"name": "c", "durable_name": "c"}}
    replies = js.pipelined(
        ("STREAM.CREATE.ORDER", old),
        ("STREAM.UPDATE.ORDER", dict(old, max_msgs=7)),
        ("CONSUMER.CREATE.ORDER.c", consumer),
        ("STREAM.DELETE.ORDER", None),
        ("STREAM.UPDATE.ORDER", dict(old, max_msgs=8)),
        ("STREAM.CREATE.ORDER", new),
        ("CONSUMER.DELETE.ORDER.c", None),
        ("STREAM.CREATE.ORDER", old))
    errors = [r.get("error", {}).get("err_code") for r in replies]
    assert errors == [None, None, None, None, 10059, None, 10014, 10058], replies
    assert js.ok("STREAM.INFO.ORDER")["config"]["subjects"] == ["order.new"]


@pytest.mark.ours_only  # there they are lost without a word
def test_who_publishes_into_a_stream_that_is_being_deleted_is_answered(js):
    """Stored, or nobody took it: the deletion is on its way to the disk meanwhile."""
    for _ in range(5):
        js.stream("S", subjects=["s"])
        js.c.pub("$JS.API.STREAM.DELETE.S", reply="_INBOX.gone")
        for i in range(20):
            js.c.pub("s", b"x", reply="_INBOX.p%d" % i)
        answers = {m.subject: m for m in (js.c.msg() for _ in range(21))}
        assert json.loads(answers.pop("_INBOX.gone").data)["success"]
        for m in answers.values():
            assert m.headers and m.headers.startswith(b"NATS/1.0 503") or json.loads(m.data)["seq"]


def test_a_smaller_limit_trims(js):
    js.stream("S", subjects=["s.*"])
    for i in range(10):
        js.publish("s.%d" % (i % 2))
    js.ok("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.*"], "max_msgs": 4})
    state = js.state("S")
    assert (state["messages"], state["first_seq"], state["last_seq"]) == (4, 7, 10)


def test_a_sealed_stream_stays_as_it_is(js):
    js.stream("S")
    js.publish("S", b"1")
    js.ok("STREAM.UPDATE.S", {"name": "S", "sealed": True})
    assert js.publish("S", b"2")["error"]["err_code"] == 10109
    assert js.refused("STREAM.PURGE.S")[1] in (10109, 10110)
    assert js.refused("STREAM.MSG.DELETE.S", {"seq": 1})[1] in (10109, 10057)
    assert "error" in js.api("STREAM.UPDATE.S", {"name": "S", "sealed": False})
    js.ok("STREAM.DELETE.S")


def test_deny_delete_and_purge(js):
    js.stream("S", deny_delete=True, deny_purge=True)
    js.publish("S", b"1")
    assert js.refused("STREAM.MSG.DELETE.S", {"seq": 1})[1] == 10057
    assert js.refused("STREAM.PURGE.S")[1] == 10110


def test_lists_in_pages(js):
    for name in ("A", "B", "C"):
        js.stream(name, subjects=[name.lower() + ".>"])
    names = js.ok("STREAM.NAMES")
    fields(names, "type total offset limit streams")
    assert (names["total"], names["offset"], names["limit"], sorted(names["streams"])) == (
        3, 0, 1024, ["A", "B", "C"])
    assert len(js.ok("STREAM.NAMES", {"offset": 2})["streams"]) == 1
    assert js.ok("STREAM.NAMES", {"subject": "b.c"})["streams"] == ["B"]
    lists = js.ok("STREAM.LIST", {"offset": 1})
    assert (lists["limit"], len(lists["streams"])) == (256, 2)


def test_stream_info_with_details(js):
    js.stream("S", subjects=["s.*"])
    for i in range(6):
        js.publish("s.%d" % (i % 3))
    js.ok("STREAM.MSG.DELETE.S", {"seq": 2})
    js.ok("STREAM.MSG.DELETE.S", {"seq": 4})
    info = js.ok("STREAM.INFO.S", {"deleted_details": True, "subjects_filter": "s.>"})
    state = info["state"]
    assert (state["deleted"], state["num_deleted"], state["num_subjects"]) == ([2, 4], 2, 3)
    assert state["subjects"] == {"s.0": 1, "s.1": 1, "s.2": 2}
    assert (info["total"], info["offset"], info["limit"]) == (3, 0, 100000)
    info = js.ok("STREAM.INFO.S", {"subjects_filter": "s.1"})
    assert info["state"]["subjects"] == {"s.1": 1}


def test_purges(js):
    js.stream("S", subjects=["s.*"])
    for i in range(12):
        js.publish("s.%d" % (i % 3))
    assert js.ok("STREAM.PURGE.S", {"filter": "s.1", "keep": 1})["purged"] == 3
    assert js.ok("STREAM.PURGE.S", {"filter": "s.2", "seq": 7})["purged"] == 2
    assert js.refused("STREAM.PURGE.S", {"seq": 3, "keep": 1})[1] == 10003
    # A filter that is no subject matches nothing, above all not everything.
    for no_subject in (">.1", "s.>.1", "s.>.>", "s..1"):
        assert js.ok("STREAM.PURGE.S", {"filter": no_subject})["purged"] == 0
        assert js.refused("STREAM.MSG.GET.S", {"last_by_subj": no_subject})[1] == 10037
    assert js.ok("STREAM.PURGE.S", {"keep": 2})["purged"] == 5
    assert js.ok("STREAM.PURGE.S") == {
        "type": "io.nats.jetstream.api.v1.stream_purge_response", "success": True, "purged": 2}
    state = js.state("S")
    assert (state["messages"], state["first_seq"], state["last_seq"]) == (0, 13, 12)


@pytest.mark.ours_only
def test_numbers_beyond_all_measure_are_refused(js):
    js.stream("S", subjects=["s"], allow_msg_ttl=True)
    for bad in ("1" + 18 * "0", 20 * "9"):
        assert js.publish("s", Nats_TTL=bad)["error"]["err_code"] == 10165, bad
    assert js.publish("s", Nats_TTL=18 * "9")["seq"] == 1
    for bad in (2 ** 62 + 1, 2 ** 64 - 1):
        assert js.refused("STREAM.PURGE.S", {"seq": bad})[:2] == (400, 10003)
    assert js.ok("STREAM.PURGE.S", {"seq": 2 ** 62})["purged"] == 1


def test_messages_by_request(js):
    js.stream("S", subjects=["s.*"])
    for i in range(4):
        js.publish("s.%d" % (i % 2), b"m%d" % i, X_Y="z")
    get = js.ok("STREAM.MSG.GET.S", {"seq": 2})["message"]
    fields(get, "subject seq hdrs? data? time")
    assert (get["subject"], get["seq"], get["data"]) == ("s.1", 2, "bTE=")
    assert js.ok("STREAM.MSG.GET.S", {"last_by_subj": "s.0"})["message"]["seq"] == 3
    assert js.ok("STREAM.MSG.GET.S", {"seq": 2, "next_by_subj": "s.0"})["message"]["seq"] == 3
    assert "hdrs" not in js.ok("STREAM.MSG.GET.S", {"seq": 2, "no_hdr": True})["message"]
    assert js.refused("STREAM.MSG.GET.S", {"seq": 99}) == (404, 10037, "no message found")
    assert js.refused("STREAM.MSG.GET.S", {"seq": 1, "last_by_subj": "s.0"})[1] == 10003
    assert js.refused("STREAM.MSG.GET.S", {"seq": 1, "batch": 5})[1] == 10003
    assert js.ok("STREAM.MSG.DELETE.S", {"seq": 2, "no_erase": True})["success"] is True
    assert js.refused("STREAM.MSG.DELETE.S", {"seq": 2})[1] in (10043, 10057)


@pytest.mark.parametrize("storage,refusal", [
    ("file", (500, 10057, "stream store EOF")), ("memory", (400, 10043, "sequence 7 not found"))])
def test_deleting_what_never_was(js, storage, refusal):
    js.stream("S", storage=storage)
    js.publish("S")
    assert js.refused("STREAM.MSG.DELETE.S", {"seq": 7}) == refusal


# --- publishes

def test_what_a_publish_is_told(js):
    js.stream("S", subjects=["s.*"], max_msg_size=100)
    assert js.publish("s.1", b"x") == {"stream": "S", "domain": "hub", "seq": 1}
    assert js.publish("s.1", b"x" * 101) == {
        "error": {"code": 400, "err_code": 10054,
                  "description": "message size exceeds maximum allowed"}, "stream": "S", "seq": 0}


@pytest.mark.parametrize("headers,code,text", [
    ({"Nats_Expected_Stream": "T"}, 10060, "expected stream does not match"),
    ({"Nats_Expected_Last_Sequence": "7"}, 10071, "wrong last sequence: 2"),
    ({"Nats_Expected_Last_Subject_Sequence": "7"}, 10071, "wrong last sequence: 1"),
    ({"Nats_Expected_Last_Msg_Id": "q"}, 10070, "wrong last msg ID: id"),
    ({"Nats_Rollup": "sub"}, 10111, "rollup not permitted"),
    ({"Nats_TTL": "5s"}, 10166, "per-message TTL is disabled"),
    ({"Nats_Expected_Last_Subject_Sequence_Subject": "s.2"}, 10193,
     "missing sequence for expected last sequence per subject"),
])
def test_expectations_that_fail(js, headers, code, text):
    js.stream("S", subjects=["s.*"])
    js.publish("s.1")
    js.publish("s.2", Nats_Msg_Id="id")
    reply = js.publish("s.1", **headers)
    assert (reply["error"]["err_code"], reply["error"]["description"]) == (code, text)
    assert js.state("S")["last_seq"] == 2


def test_expectations_that_hold(js):
    js.stream("S", subjects=["s.*"])
    js.publish("s.1", Nats_Msg_Id="id")
    assert js.publish("s.2", Nats_Expected_Stream="S", Nats_Expected_Last_Sequence="1",
                      Nats_Expected_Last_Subject_Sequence="0",
                      Nats_Expected_Last_Msg_Id="id")["seq"] == 2
    assert js.publish("s.3", Nats_Expected_Last_Subject_Sequence="2",
                      Nats_Expected_Last_Subject_Sequence_Subject="s.2")["seq"] == 3


@pytest.mark.parametrize("config,text", [
    ({"max_msgs": 1}, "maximum messages exceeded"),
    ({"max_bytes": 60}, "maximum bytes exceeded"),
    ({"max_msgs_per_subject": 1, "discard_new_per_subject": True},
     "maximum messages per subject exceeded"),
])
def test_a_full_stream_that_takes_nothing_new(js, config, text):
    js.stream("S", subjects=["s"], discard="new", **config)
    js.publish("s", b"1234567890")
    reply = js.publish("s", b"1234567890")
    assert (reply["error"]["code"], reply["error"]["err_code"],
            reply["error"]["description"]) == (503, 10077, text)


def test_rollups(js):
    js.stream("S", subjects=["s.*"], allow_rollup_hdrs=True)
    for i in range(6):
        js.publish("s.%d" % (i % 2))
    assert js.publish("s.1", b"all of it", Nats_Rollup="sub")["seq"] == 7
    assert js.state("S")["messages"] == 4
    assert js.publish("s.1", b"all of it", Nats_Rollup="all")["seq"] == 8
    assert js.state("S")["messages"] == 1
    assert js.publish("s.1", Nats_Rollup="some")["error"]["err_code"] == 10111


@pytest.mark.parametrize("storage", ["file", "memory"])
def test_a_rollup_of_a_subject_with_wildcards_is_a_purge(js, storage):
    js.stream("S", subjects=["s.>"], allow_rollup_hdrs=True, storage=storage)
    for subject in ("s.a", "s.b", "s.a.b", "s.c"):
        js.publish(subject)
    # What is published right behind it is decided on what it leaves.
    js.c.hpub("s.*", {"Nats-Rollup": "sub"})
    ack = js.publish("s.a", Nats_Expected_Last_Subject_Sequence="0")
    assert ack["seq"] == 6
    info = js.ok("STREAM.INFO.S", {"subjects_filter": ">"})
    assert info["state"]["subjects"] == {"s.a": 1, "s.a.b": 1, "s.*": 1}


def test_a_lifetime_that_is_raised_keeps_the_other_headers(js):
    js.stream("S", subjects=["s"], allow_msg_ttl=True, allow_direct=True,
              subject_delete_marker_ttl=3600 * 10 ** 9)
    js.c.hpub("s", b"NATS/1.0 100 Any\r\nNats-TTL: 1m\r\nLong: %s\r\n\r\n" % (b"x" * 40000),
              reply="_INBOX.raised")
    assert json.loads(js.c.msg().data)["seq"] == 1
    headers = js.request("$JS.API.DIRECT.GET.S", '{"seq":1}').headers
    assert b"\r\nLong: %s\r\n" % (b"x" * 40000) in headers and b"Nats-TTL: 3600\r\n" in headers


def test_lifetimes_of_messages_and_markers(js):
    js.stream("S", subjects=["s.*"], allow_msg_ttl=True, subject_delete_marker_ttl=10 ** 9)
    began = time.monotonic()
    js.publish("s.1", b"short", Nats_TTL="1s")
    js.publish("s.2", b"for ever", Nats_TTL="never")
    for bad in ("-1", "x", "500ms"):
        assert js.publish("s.1", Nats_TTL=bad)["error"]["err_code"] == 10165, bad
    wait_until(lambda: js.state("S")["last_seq"] == 3, what="the marker")
    assert time.monotonic() - began > 0.5
    marker = js.ok("STREAM.MSG.GET.S", {"last_by_subj": "s.1"})["message"]
    assert "data" not in marker and marker["seq"] == 3
    headers = base64.b64decode(marker["hdrs"]).decode()
    assert "Nats-Marker-Reason: MaxAge" in headers and "Nats-TTL: 1s" in headers
    assert js.ok("STREAM.MSG.GET.S", {"seq": 2})["message"]["data"]


def test_no_ack(js):
    js.stream("S", subjects=["s"], no_ack=True)
    js.c.pub("s", b"1", reply="_INBOX.none")
    wait_until(lambda: js.state("S")["messages"] == 1, what="the message")


def test_an_interest_stream_without_consumers_keeps_nothing(js):
    js.stream("S", subjects=["s"], retention="interest")
    assert js.publish("s")["seq"] == 1
    state = js.state("S")
    assert (state["messages"], state["last_seq"]) == (0, 1)


def test_transform_and_republish(js):
    js.stream("S", subjects=["in.*"], subject_transform={"src": "in.*", "dest": "kept.{{wildcard(1)}}"},
              republish={"src": "kept.*", "dest": "out.$1"})
    js.c.sub("out.>", "9")
    js.c.pub("in.a", b"1").pub("in.a", b"2")
    got = [js.c.msg(), js.c.msg()]
    assert [m.data for m in got] == [b"1", b"2"]
    headers = got[1].headers.decode()
    for line in ("Nats-Stream: S", "Nats-Subject: kept.a", "Nats-Sequence: 2",
                 "Nats-Last-Sequence: 1", "Nats-Time-Stamp: "):
        assert line in headers, headers
    assert js.ok("STREAM.MSG.GET.S", {"seq": 1})["message"]["subject"] == "kept.a"


# --- direct gets

@pytest.mark.parametrize("body,status", [
    (b"", "408 Empty Request"), (b"{", "408 Malformed Request"),
    (b"{}", "408 Empty Request"),
    (b'{"seq":99}', "404 Message Not Found"),
    (b'{"last_by_subj":"no"}', "404 Message Not Found"),
    (b'{"seq":1,"last_by_subj":"s.0"}', "408 Bad Request"),
    (b'{"multi_last":["no"]}', "404 No Results"),
])
def test_direct_gets_that_find_nothing(js, body, status):
    js.stream("S", subjects=["s.*"], allow_direct=True)
    js.publish("s.0")
    assert js.status("$JS.API.DIRECT.GET.S", body)[0] == status


def test_direct_gets(js):
    js.stream("S", subjects=["s.*"], allow_direct=True)
    for i in range(6):
        js.publish("s.%d" % (i % 2), b"m%d" % i)
    m = js.request("$JS.API.DIRECT.GET.S", b'{"seq":3}')
    lines = m.headers.decode().split("\r\n")
    assert (lines[0], m.data) == ("NATS/1.0", b"m2")
    assert [l.split(":")[0] for l in lines[1:5]] == [
        "Nats-Stream", "Nats-Subject", "Nats-Sequence", "Nats-Time-Stamp"]
    assert js.request("$JS.API.DIRECT.GET.S.s.1").data == b"m5"
    js.c.sub("_B", "7").pub("$JS.API.DIRECT.GET.S", b'{"seq":1,"batch":2}', reply="_B")
    got = [js.c.msg() for _ in range(3)]
    assert [m.data for m in got[:2]] == [b"m0", b"m1"]
    assert got[2].headers.startswith(b"NATS/1.0 204 EOB\r\n")
    assert b"Nats-Num-Pending: 4" in got[2].headers
    js.c.pub("$JS.API.DIRECT.GET.S", b'{"multi_last":["s.*"]}', reply="_B")
    got = [js.c.msg() for _ in range(3)]
    assert [m.data for m in got[:2]] == [b"m4", b"m5"]
    assert b"204 EOB" in got[2].headers


def test_no_direct_gets_unless_they_are_allowed(js):
    js.stream("S", subjects=["s"])
    assert js.status("$JS.API.DIRECT.GET.S", b'{"seq":1}')[0] == "503"
