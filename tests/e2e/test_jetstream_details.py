"""What clients of streams and consumers can see and no other file shows: redeliveries in time, flow
control, old and new forms of acks, statuses that are rare, what an update leaves, buckets' requests.
Everything here passes on nats-server too."""
import base64
import hashlib
import json
import re
import time

import pytest

from harness import SLOW, wait_until
from jetstream import Js
from test_jetstream_api import js, login, server  # noqa: F401 (fixtures)
from test_jetstream_deliveries import ACK, Puller, filled, status_of

MS = 10 ** 6
SECOND = 10 ** 9


def count_of(m):
    return int(ACK.match(m.reply).group(1))


# --- consumers

def test_a_message_comes_again_in_time_and_not_too_often(js):
    filled(js, count=1)
    js.consumer("S", "C", ack_policy="explicit", ack_wait=200 * MS, max_deliver=3)
    p, began = Puller(js), time.monotonic()
    counts = [count_of(p.pull(expires=20 * SECOND).msg()) for _ in range(3)]
    assert counts == [1, 2, 3] and time.monotonic() - began >= 0.39
    assert status_of(p.pull(expires=400 * MS).msg()) == "408 Request Timeout"
    info = js.ok("CONSUMER.INFO.S.C")
    assert (info["num_ack_pending"], info["num_pending"]) == (0, 0)
    assert js.state("S")["messages"] == 1


def test_backoff_is_the_wait_for_each_delivery(js):
    filled(js, count=1)
    made = js.consumer("S", "C", ack_policy="explicit", ack_wait=30 * SECOND, max_deliver=4,
                       backoff=[100 * MS, 300 * MS])
    assert made["config"]["ack_wait"] == 100 * MS
    p, at = Puller(js), []
    for i in range(4):
        assert count_of(p.pull(expires=20 * SECOND).msg()) == i + 1
        at.append(time.monotonic())
    gaps = [b - a for a, b in zip(at, at[1:])]
    assert gaps[0] >= 0.05 and gaps[1] >= 0.25 and gaps[2] >= 0.25, gaps


def test_progress_puts_off_the_next_delivery(js):
    filled(js, count=1)
    js.consumer("S", "C", ack_policy="explicit", ack_wait=2 * SECOND)
    p = Puller(js)
    m, began = p.pull().msg(), time.monotonic()
    time.sleep(0.5)
    js.request(m.reply, b"+WPI")
    assert count_of(p.pull(expires=20 * SECOND).msg()) == 2
    assert time.monotonic() - began >= 2.4


def test_an_ack_of_the_second_form(js):
    """$JS.ACK.<domain>.<account hash>.<stream>...: a server that is newer may have sent it."""
    filled(js)
    js.consumer("S", "C", ack_policy="explicit")
    reply = Puller(js).pull().msg().reply
    account = json.loads(js.request("$SYS.REQ.USER.INFO").data)["data"]["account"]
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    name = "".join(digits[b % 62] for b in hashlib.sha256(account.encode()).digest()[:8])
    assert js.request("$JS.ACK.hub.%s.%s" % (name, reply[len("$JS.ACK."):])).data == b""
    assert js.ok("CONSUMER.INFO.S.C")["ack_floor"]["stream_seq"] == 1


def test_an_unknown_ack_does_nothing_and_is_answered(js):
    filled(js, count=1)
    js.consumer("S", "C", ack_policy="explicit")
    m = Puller(js).pull().msg()
    assert js.request(m.reply, b"+WHAT").data == b""
    assert js.ok("CONSUMER.INFO.S.C")["num_ack_pending"] == 1


def test_ack_policy_none_is_done_at_delivery(js):
    filled(js, count=3)
    js.consumer("S", "C", ack_policy="none")
    Puller(js).pull(batch=2).msgs(2)
    info = js.ok("CONSUMER.INFO.S.C")
    assert (info["ack_floor"]["stream_seq"], info["num_ack_pending"], info["num_pending"]) == (2, 0, 1)


def test_flow_control_of_push(js):
    """The first window is 2 MiB: past the half of it the consumer asks, and waits when it is full."""
    js.stream("S", subjects=["s"])
    body = b"x" * 200_000
    for _ in range(30):
        js.publish("s", body)
    js.c.sub("to", "t")
    js.consumer("S", "C", ack_policy="none", deliver_subject="to", flow_control=True,
                idle_heartbeat=300 * MS)
    got, asked, stalled = 0, None, None
    while asked is None or stalled is None:
        m = js.c.msg()
        if m.headers and m.headers.startswith(b"NATS/1.0 100 FlowControl Request"):
            asked = asked or m.reply
        elif m.headers and m.headers.startswith(b"NATS/1.0 100 Idle Heartbeat"):
            stalled = re.search(r"Nats-Consumer-Stalled: (\S+)", m.headers.decode())
        else:
            got += 1
    assert re.match(r"^\$JS\.FC\.S\.C\.[0-9A-Za-z]{4}$", asked), asked
    assert stalled.group(1) == asked and 5 < got < 30
    js.c.pub(asked)
    while got < 30:
        m = js.c.msg()
        if m.headers and m.reply:
            js.c.pub(m.reply)
        elif not m.headers:
            got += 1


def test_replay_as_it_came(js):
    js.stream("S", subjects=["s.*"])
    js.publish("s.1", b"m0")
    time.sleep(0.4)
    js.publish("s.1", b"m1")
    js.c.sub("to", "t")
    js.consumer("S", "C", ack_policy="none", deliver_subject="to", replay_policy="original")
    assert js.c.msg().data == b"m0"
    began = time.monotonic()
    assert js.c.msg().data == b"m1"
    assert time.monotonic() - began >= 0.2


def test_an_update_of_the_deliver_subject(js):
    filled(js, count=2)
    js.consumer("S", "C", ack_policy="none", deliver_subject="to.old")
    made = js.consumer("S", "C", ack_policy="none", deliver_subject="to.new")
    assert made["config"]["deliver_subject"] == "to.new"
    js.c.sub("to.*", "t").sub("to.new", "t2")
    assert js.c.msg().subject in ("s.0", "to.new")


@pytest.mark.parametrize("request_,config,status", [
    ({"expires": 5 * SECOND}, {"max_waiting": 1}, "409 Exceeded MaxWaiting"),
    # The first one will take all that is there, once it may.
    ({"no_wait": True}, {"max_ack_pending": 1}, "408 Requests Pending"),
])
def test_a_pull_behind_another(js, request_, config, status):
    filled(js, count=3)
    js.consumer("S", "C", ack_policy="explicit", **config)
    p = Puller(js)
    p.pull(batch=3 if "max_waiting" in config else 1).msg()
    if "max_waiting" in config:
        p.msgs(2)
    p.pull(batch=9, expires=30 * SECOND)
    js.c.ping()
    wait_until(lambda: js.ok("CONSUMER.INFO.S.C")["num_waiting"] == 1, what="the first request")
    js.c.pub("$JS.API.CONSUMER.MSG.NEXT.S.C", json.dumps(request_), reply="_P.2")
    assert status_of(p.msg()) == status


def test_what_a_pull_left_over(js):
    filled(js, count=1)
    js.consumer("S", "C", ack_policy="explicit")
    p = Puller(js).pull(batch=5, max_bytes=10_000, expires=300 * MS)
    m = p.msg()
    assert m.data == b"m0"
    lines = p.msg().headers.decode().split("\r\n")
    assert lines[0] == "NATS/1.0 408 Request Timeout"
    assert lines[1] == "Nats-Pending-Messages: 4" and lines[2].startswith("Nats-Pending-Bytes: 9")


def test_heartbeats_of_a_pull(js):
    filled(js, count=0)
    js.consumer("S", "C", ack_policy="explicit")
    p = Puller(js).pull(expires=20 * SECOND, idle_heartbeat=100 * MS)
    assert status_of(p.msg()) == "100 Idle Heartbeat"
    js.publish("s.0", b"x")
    m = p.msg()
    while m.data != b"x":
        assert status_of(m) == "100 Idle Heartbeat"
        m = p.msg()


def test_a_pull_of_a_higher_api_level(js):
    filled(js)
    js.consumer("S", "C", ack_policy="explicit")
    assert js.status("$JS.API.CONSUMER.MSG.NEXT.S.C", b"", {"Nats-Required-Api-Level": "9"})[0] == (
        "412 Required Api Level")


def test_a_waiting_pull_keeps_an_ephemeral_one(js):
    filled(js, count=0)
    js.consumer("S", "C", ack_policy="explicit", inactive_threshold=200 * MS)
    p = Puller(js).pull(expires=30 * SECOND)
    time.sleep(1.6)
    js.publish("s.0", b"still there")
    assert p.msg().data == b"still there"


def test_the_limit_of_consumers_of_a_stream(js):
    js.stream("S", subjects=["s"], max_consumers=1)
    js.consumer("S", "C", ack_policy="explicit")
    assert js.refused("CONSUMER.CREATE.S.D", {"stream_name": "S", "config": {"name": "D"}})[:2] == (
        400, 10026)


# --- streams

def test_sealing_sets_what_follows(js):
    js.stream("S", max_age=60 * SECOND)
    config = js.ok("STREAM.UPDATE.S", {"name": "S", "sealed": True})["config"]
    assert (config["max_age"], config["discard"], config["deny_delete"], config["deny_purge"],
            config["sealed"]) == (0, "new", True, True, True)


@pytest.mark.parametrize("config,change", [
    ({"allow_msg_ttl": True}, {"allow_msg_ttl": False}),
    ({"deny_purge": True}, {"deny_purge": False}),
    ({}, {"name": "T"}),
])
def test_more_updates_that_are_refused(js, config, change):
    js.stream("S", **config)
    assert js.refused("STREAM.UPDATE.S", {"name": "S", **config, **change})[1] in (10052, 10056)


def test_to_interest_without_consumers_drops_all(js):
    filled(js)
    js.ok("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.*"], "retention": "interest"})
    wait_until(lambda: js.state("S")["messages"] == 0, what="the end of the messages")
    assert js.state("S")["last_seq"] == 5


def test_a_stream_from_which_all_was_deleted(js):
    filled(js, count=2)
    for seq in (1, 2):
        js.ok("STREAM.MSG.DELETE.S", {"seq": seq})
    state = js.state("S")
    assert (state["messages"], state["first_seq"], state["last_seq"]) == (0, 3, 2)


def test_the_subject_that_counts_is_the_transformed_one(js):
    js.stream("S", subjects=["in.*"], subject_transform={"src": "in.*", "dest": "kept.{{wildcard(1)}}"})
    js.publish("in.a", b"1")
    assert js.publish("in.a", Nats_Expected_Last_Subject_Sequence="0")["error"]["err_code"] == 10071
    assert js.publish("in.a", Nats_Expected_Last_Subject_Sequence="1")["seq"] == 2


def test_republish_of_headers_alone(js):
    js.stream("S", subjects=["s.*"], republish={"src": "s.*", "dest": "out.$1", "headers_only": True})
    js.c.sub("out.*", "o")
    js.c.pub("s.a", b"12345")
    m = js.c.msg()
    assert (m.subject, m.data) == ("out.a", b"")
    assert "Nats-Msg-Size: 5" in m.headers.decode() and "Nats-Last-Sequence: 0" in m.headers.decode()


def test_subjects_of_a_stream_in_pages(js):
    js.stream("S", subjects=["s.*"])
    for i in range(5):
        js.publish("s.%d" % i)
    info = js.ok("STREAM.INFO.S", {"subjects_filter": ">", "offset": 3})
    assert (info["total"], info["offset"], len(info["state"]["subjects"])) == (5, 3, 2)


def test_more_direct_gets(js):
    js.stream("S", subjects=["s.*"], allow_direct=True)
    for i in range(6):
        js.publish("s.%d" % (i % 2), b"m%d" % i, X_Y="z")
    at = js.ok("STREAM.MSG.GET.S", {"seq": 4})["message"]["time"]

    def get(**body):
        return js.request("$JS.API.DIRECT.GET.S", json.dumps(body))
    assert get(seq=2, next_by_subj="s.0").data == b"m2"
    assert get(start_time=at).data == b"m3"
    assert get(last_by_subj="s.1").data == b"m5"
    m = get(seq=1, no_hdr=True)
    assert (m.data, m.headers) == (b"m0", None)
    js.c.sub("_B", "b").pub("$JS.API.DIRECT.GET.S", json.dumps(
        {"multi_last": ["s.*"], "up_to_seq": 4}), reply="_B")
    got = [js.c.msg() for _ in range(3)]
    assert [m.data for m in got[:2]] == [b"m2", b"m3"]
    assert b"Nats-UpTo-Sequence: 4" in got[2].headers
    assert js.status("$JS.API.DIRECT.GET.S.s.9")[0] == "404 Message Not Found"


# --- buckets

def test_requests_that_list_buckets(js):
    js.stream("KV_B", subjects=["$KV.B.>"], max_msgs_per_subject=5)
    js.stream("OBJ_O", subjects=["$O.O.C.>", "$O.O.M.>"])
    js.stream("S", subjects=["s.>"])
    assert js.ok("STREAM.NAMES", {"subject": "$KV.*.>"})["streams"] == ["KV_B"]
    assert [s["config"]["name"] for s in js.ok("STREAM.LIST", {"subject": "$O.*.C.>"})[
        "streams"]] == ["OBJ_O"]


def test_a_bucket_is_made_twice(js):
    bucket = {"subjects": ["$KV.B.>"], "max_msgs_per_subject": 3, "discard": "new",
              "allow_rollup_hdrs": True, "deny_delete": True, "allow_direct": True,
              "max_age": 60 * SECOND, "duplicate_window": 60 * SECOND}
    first = js.stream("KV_B", **bucket)
    assert js.stream("KV_B", **bucket)["created"] == first["created"]
    assert js.refused_stream("KV_B", **dict(bucket, max_msgs_per_subject=4))[1] == 10058


def test_what_a_bucket_s_changes_leave(js):
    js.stream("KV_B", subjects=["$KV.B.>"], max_msgs_per_subject=3, allow_rollup_hdrs=True,
              allow_direct=True, deny_delete=True)
    key = "$KV.B.k"
    for value in (b"1", b"2"):
        js.publish(key, value)
    assert js.publish(key, Nats_Expected_Last_Subject_Sequence="0")["error"]["err_code"] == 10071
    js.publish(key, b"", KV_Operation="PURGE", Nats_Rollup="sub")
    m = js.request("$JS.API.DIRECT.GET.KV_B." + key)
    assert m.data == b"" and b"KV-Operation: PURGE" in m.headers
    assert js.state("KV_B")["messages"] == 1
    assert js.publish(key, b"3", Nats_Expected_Last_Subject_Sequence="3")["seq"] == 4
    made = js.ok("CONSUMER.CREATE.KV_B.w.$KV.B.>", {"stream_name": "KV_B", "config": {
        "name": "w", "filter_subject": "$KV.B.>", "deliver_policy": "last_per_subject"}})
    assert made["num_pending"] == 1
    assert js.ok("STREAM.PURGE.KV_B", {"filter": key, "keep": 1})["purged"] == 1


def test_names_of_objects_are_long_tokens(js):
    js.stream("OBJ_O", subjects=["$O.O.C.>", "$O.O.M.>"], allow_rollup_hdrs=True, allow_direct=True)
    name = base64.urlsafe_b64encode("a name/with - and _ öß.txt".encode() * 20).decode()
    for _ in range(2):
        js.publish("$O.O.M." + name, b'{"name":"x"}', Nats_Rollup="sub")
    assert js.request("$JS.API.DIRECT.GET.OBJ_O.$O.O.M." + name).data == b'{"name":"x"}'
    info = js.ok("STREAM.INFO.OBJ_O", {"subjects_filter": "$O.O.M.*"})
    assert info["state"]["subjects"] == {"$O.O.M." + name: 1}


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_what_has_expired_is_gone_though_max_age_was_raised_since(start, tmp_path, how):
    store = str(tmp_path / "store")
    s = start("-js", "-sd", store)
    with Js(s) as js:
        js.stream("S", subjects=["s"], max_age=10**8, duplicate_window=10**8)
        for _ in range(3):
            js.publish("s", b"old")
        wait_until(lambda: js.state("S")["messages"] == 0, what="expiry")
        js.ok("STREAM.UPDATE.S", {"name": "S", "subjects": ["s"], "max_age": 0})
        assert js.publish("s", b"new")["seq"] == 4
    getattr(s, how)()
    with Js(start("-js", "-sd", store)) as js:
        state = js.state("S")
        assert (state["messages"], state["first_seq"]) == (1, 4)


def test_a_message_of_a_fast_batch_is_refused_where_there_are_none(js):
    js.stream("S", subjects=["s"])
    js.c.sub("batch.>", "2")
    for reply in ("batch.id.10.fail.1.0.$FI", "batch.x.$FI"):
        js.c.pub("s", b"x", reply=reply)
        m = js.c.msg()
        assert m.subject == reply
        assert json.loads(m.data) == {"stream": "S", "seq": 0, "error": {
            "code": 400, "err_code": 10205, "description": "batch publish is disabled"}}
    assert js.state("S")["messages"] == 0


@pytest.mark.parametrize("length", [256, 257, 5000])
def test_the_last_message_id_is_known_whole(js, length):
    js.stream("S", subjects=["s"])
    first, second = "a" * length, "b" * length
    assert js.publish("s", Nats_Msg_Id=first)["seq"] == 1
    error = js.publish("s", Nats_Expected_Last_Msg_Id=second)["error"]
    assert error["err_code"] == 10070
    assert error["description"].startswith("wrong last msg ID: " + first[:500])
    assert js.publish("s", Nats_Expected_Last_Msg_Id=first, Nats_Msg_Id=second)["seq"] == 2


def test_a_pull_with_a_long_reply_subject(js):
    filled(js, count=1)
    js.consumer("S", "C", ack_policy="explicit")
    inbox = "_INBOX." + "r" * 3000
    for body, answer in ((b"{", "400 Bad Request"), (b"1", None)):
        js.c.pub("$JS.API.CONSUMER.MSG.NEXT.S.C", body, reply=inbox)
        m = js.c.msg()
        assert ACK.match(m.reply) if answer is None else status_of(m).startswith(answer)


@pytest.mark.parametrize("storage, err_code", [("file", 10047), ("memory", 10028)])
def test_no_more_is_promised_than_the_machine_has(start, tmp_path, storage, err_code):
    """Where the server has no limit of its own."""
    too_much = 2 ** 62
    js = Js(start("-js", "-sd", str(tmp_path / "store")))
    assert js.refused_stream("S", storage=storage, max_bytes=too_much)[:2] == (500, err_code)
    config = js.stream("S", storage=storage, max_bytes=1000)["config"]
    assert js.refused("STREAM.UPDATE.S", {**config, "max_bytes": too_much})[:2] == (500, err_code)
    assert js.stream("T", storage=storage)["config"]["max_bytes"] == -1
    sums = js.ok("INFO")
    assert sums["reserved_" + ("storage" if storage == "file" else "memory")] == 1000
    js.c.close()
