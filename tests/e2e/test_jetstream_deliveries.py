"""Consumers at the level of the protocol: what may be configured, what is delivered and with which
subjects and headers, statuses, pauses, advisories. Everything here passes on nats-server too."""
import json
import re
import time

import pytest

from harness import SLOW, wait_until
from jetstream import Js
from test_jetstream_api import js, login, server  # noqa: F401 (fixtures)
from test_monitoring import fields

CONSUMER_CONFIG = """durable_name? name? description? deliver_policy opt_start_seq? opt_start_time?
ack_policy ack_wait? max_deliver? backoff? filter_subject? filter_subjects? replay_policy
rate_limit_bps? sample_freq? max_waiting? max_ack_pending? flow_control? headers_only? max_batch?
max_expires? max_bytes? deliver_subject? deliver_group? idle_heartbeat? inactive_threshold?
num_replicas mem_storage? metadata? pause_until?"""
CONSUMER_INFO = """type stream_name name created config delivered ack_floor num_ack_pending
num_redelivered num_waiting num_pending cluster? push_bound? paused? pause_remaining? ts"""
ACK = re.compile(r"^\$JS\.ACK\.S\.C\.(\d+)\.(\d+)\.(\d+)\.(\d+)\.(\d+)$")
HEAD = '"type":"io.nats.jetstream.%s","id":"'


def filled(js, count=5, **config):
    js.stream("S", subjects=["s.*"], **config)
    for i in range(count):
        js.publish("s.%d" % (i % 2), b"m%d" % i)


def refused(js, **config):
    name = config.get("name", "C")
    return js.refused("CONSUMER.CREATE.S." + name, {
        "stream_name": "S", "config": {"name": name, **config}})


class Puller:
    """Pull requests with a reply of their own."""

    def __init__(self, js, consumer="C"):
        self.js, self.consumer = js, consumer
        js.c.sub("_P.*", "p")

    def pull(self, **request):
        self.js.c.pub("$JS.API.CONSUMER.MSG.NEXT.S." + self.consumer,
                      json.dumps(request) if request else b"", reply="_P.1")
        return self

    def msg(self):
        while True:
            m = self.js.c.msg()
            if m.sid == "p":
                return m

    def msgs(self, count):
        return [self.msg() for _ in range(count)]


def status_of(m):
    return m.headers.decode().split("\r\n")[0][len("NATS/1.0 "):]


# --- what may be configured

def test_a_consumer_lives(js):
    filled(js)
    made = js.consumer("S", "C", ack_policy="explicit", description="d", metadata={"a": "b"})
    fields(made, CONSUMER_INFO)
    fields(made["config"], CONSUMER_CONFIG)
    assert made["type"] == "io.nats.jetstream.api.v1.consumer_create_response"
    assert (made["num_pending"], made["delivered"], made["ack_floor"]) == (
        5, {"consumer_seq": 0, "stream_seq": 0}, {"consumer_seq": 0, "stream_seq": 0})
    config = made["config"]
    assert (config["max_waiting"], config["max_ack_pending"], config["ack_wait"],
            config["max_deliver"]) == (512, 1000, 30 * 10 ** 9, -1)
    assert js.consumer("S", "C", ack_policy="explicit", description="d", metadata={"a": "b"})[
        "created"] == made["created"]
    info = js.ok("CONSUMER.INFO.S.C")
    fields(info, CONSUMER_INFO)
    names = js.ok("CONSUMER.NAMES.S")
    fields(names, "type total offset limit consumers")
    assert (names["total"], names["limit"], names["consumers"]) == (1, 1024, ["C"])
    lists = js.ok("CONSUMER.LIST.S")
    assert (lists["limit"], [c["name"] for c in lists["consumers"]]) == (256, ["C"])
    assert js.ok("CONSUMER.DELETE.S.C")["success"] is True
    assert js.refused("CONSUMER.INFO.S.C") == (404, 10014, "consumer not found")
    assert js.refused("CONSUMER.INFO.T.C") == (404, 10059, "stream not found")


def test_actions(js):
    filled(js)

    def make(action, **config):
        return js.api("CONSUMER.CREATE.S.C", {"stream_name": "S", "action": action,
                                              "config": {"name": "C", **config}})
    assert make("update")["error"]["err_code"] == 10149
    assert "error" not in make("create")
    assert make("create", description="other")["error"]["err_code"] == 10148
    assert make("update", description="other")["config"]["description"] == "other"


def test_subjects_and_bodies_agree(js):
    filled(js)
    body = {"stream_name": "S", "config": {"name": "C", "filter_subject": "s.1"}}
    assert js.ok("CONSUMER.CREATE.S.C.s.1", body)["num_pending"] == 2
    assert js.refused("CONSUMER.CREATE.S.C.s.0", body)[1] == 10131
    assert js.refused("CONSUMER.CREATE.T.C", body)[1] == 10056
    assert js.refused("CONSUMER.DURABLE.CREATE.S.D", {
        "stream_name": "S", "config": {"durable_name": "E"}})[1] == 10017
    assert js.refused("CONSUMER.CREATE.S.C", {"stream_name": "S", "config": {"nope": 1}})[1] == 10025
    made = js.ok("CONSUMER.CREATE.S", {"stream_name": "S", "config": {}})
    assert re.match("^[A-Za-z0-9]{8}$", made["name"]), made["name"]
    assert made["config"]["inactive_threshold"] == 5 * 10 ** 9


@pytest.mark.parametrize("config,code", [
    ({"durable_name": "D"}, 10017),
    ({"deliver_subject": "d.*"}, 10079),
    ({"deliver_subject": "s.1"}, 10081),
    ({"deliver_subject": "d", "max_waiting": 5}, 10080),
    ({"deliver_subject": "d", "flow_control": True}, 10108),
    ({"deliver_subject": "d", "idle_heartbeat": 1000}, 10083),
    ({"idle_heartbeat": 10 ** 9}, 10088),
    ({"flow_control": True}, 10089),
    ({"rate_limit_bps": 1000}, 10086),
    ({"backoff": [10 ** 9, 2 * 10 ** 9], "max_deliver": 1}, 10116),
    ({"filter_subjects": ["s.1", "s.*"]}, 10138),
    ({"filter_subjects": ["s.1", ""]}, 10139),
    ({"filter_subject": "s.1", "filter_subjects": ["s.0"]}, 10136),
    ({"deliver_policy": "last_per_subject"}, 10094),
    ({"deliver_policy": "by_start_sequence"}, 10094),
    ({"deliver_policy": "new", "opt_start_seq": 3}, 10094),
    ({"deliver_policy": "by_start_time"}, 10094),
    ({"sample_freq": "x"}, 10095),
    ({"max_expires": 10}, 10115),
    ({"num_replicas": 3}, 10074),
    ({"description": "d" * 4097}, 10107),
    ({"ack_policy": "perhaps"}, 10025),
])
def test_configurations_that_are_refused(js, config, code):
    filled(js)
    assert refused(js, **{"ack_policy": "explicit", **config})[1] == code


@pytest.mark.parametrize("change", [
    {"deliver_policy": "new"}, {"ack_policy": "all"}, {"replay_policy": "original"},
    {"max_waiting": 7}, {"mem_storage": True},
])
def test_updates_that_are_refused(js, change):
    filled(js)
    js.consumer("S", "C", ack_policy="explicit")
    got = refused(js, **{"ack_policy": "explicit", **change})
    assert got[1] == 10012 and "can not be updated" in got[2]


def test_updates_that_are_taken(js):
    filled(js)
    js.consumer("S", "C", ack_policy="explicit")
    change = {"description": "new", "ack_wait": 10 ** 9, "max_deliver": 7, "max_ack_pending": 5,
              "headers_only": True, "metadata": {"k": "v"}, "filter_subject": "s.1"}
    got = js.consumer("S", "C", ack_policy="explicit", **change)
    for key, value in change.items():
        if key != "metadata":
            assert got["config"][key] == value, key
    assert got["config"]["metadata"]["k"] == "v" and got["num_pending"] == 2


def test_a_work_queue_is_divided(js):
    js.stream("S", subjects=["s.*"], retention="workqueue")
    assert refused(js, ack_policy="none")[1] in (10084, 10098)
    assert refused(js, ack_policy="explicit", deliver_policy="new")[1] == 10101
    js.consumer("S", "C", ack_policy="explicit", filter_subject="s.1")
    assert refused(js, name="D", ack_policy="explicit", filter_subject="s.1")[1] == 10100
    assert refused(js, name="D", ack_policy="explicit")[1] in (10099, 10100)
    js.consumer("S", "D", ack_policy="explicit", filter_subject="s.2")


# --- deliveries

def test_the_reply_of_a_delivery(js):
    filled(js)
    js.consumer("S", "C", ack_policy="explicit")
    got = Puller(js).pull(batch=2).msgs(2)
    assert [(m.subject, m.data) for m in got] == [("s.0", b"m0"), ("s.1", b"m1")]
    for i, m in enumerate(got):
        delivered, stream_seq, consumer_seq, at, pending = map(int, ACK.match(m.reply).groups())
        assert (delivered, stream_seq, consumer_seq, pending) == (1, i + 1, i + 1, 4 - i)
        assert abs(at / 1e9 - time.time()) < 3600


def test_acks_move_the_floor_and_are_answered(js):
    filled(js)
    js.consumer("S", "C", ack_policy="explicit")
    got = Puller(js).pull(batch=4).msgs(4)
    assert js.request(got[1].reply, b"+ACK").data == b""
    info = js.ok("CONSUMER.INFO.S.C")
    assert (info["ack_floor"]["stream_seq"], info["num_ack_pending"]) == (0, 3)
    assert js.request(got[0].reply).data == b""
    info = js.ok("CONSUMER.INFO.S.C")
    assert (info["ack_floor"]["stream_seq"], info["ack_floor"]["consumer_seq"],
            info["num_ack_pending"], info["num_pending"]) == (2, 2, 2, 1)


def test_naks_bring_it_back(js):
    filled(js, count=2)
    js.consumer("S", "C", ack_policy="explicit")
    p = Puller(js)
    first = p.pull().msg()
    js.request(first.reply, b"-NAK")
    again = p.pull().msg()
    assert (again.data, ACK.match(again.reply).group(1)) == (b"m0", "2")
    began = time.monotonic()
    js.request(again.reply, b'-NAK {"delay": 200000000}')
    assert p.pull().msg().data == b"m1"
    third = p.pull(expires=5 * 10 ** 9 * SLOW).msg()
    assert (third.data, ACK.match(third.reply).group(1)) == (b"m0", "3")
    assert time.monotonic() - began >= 0.19
    assert js.ok("CONSUMER.INFO.S.C")["num_redelivered"] == 1


def test_ack_all_takes_those_below(js):
    filled(js)
    js.consumer("S", "C", ack_policy="all")
    got = Puller(js).pull(batch=4).msgs(4)
    js.request(got[2].reply, b"+ACK")
    info = js.ok("CONSUMER.INFO.S.C")
    assert (info["ack_floor"]["stream_seq"], info["num_ack_pending"]) == (3, 1)


def test_next_acks_and_asks(js):
    filled(js)
    js.consumer("S", "C", ack_policy="explicit")
    p = Puller(js)
    first = p.pull().msg()
    js.c.pub(first.reply, b'+NXT {"batch": 2}', reply="_P.2")
    got = p.msgs(2)
    assert [(m.subject, m.data) for m in got] == [("s.1", b"m1"), ("s.0", b"m2")]
    assert js.ok("CONSUMER.INFO.S.C")["ack_floor"]["stream_seq"] == 1


def test_headers_only(js):
    filled(js, count=1)
    js.consumer("S", "C", ack_policy="explicit", headers_only=True)
    m = Puller(js).pull().msg()
    assert (m.data, "Nats-Msg-Size: 2" in m.headers.decode()) == (b"", True)


def test_max_ack_pending_holds_back(js):
    filled(js)
    js.consumer("S", "C", ack_policy="explicit", max_ack_pending=2)
    p = Puller(js)
    got = p.pull(batch=5, expires=30 * 10 ** 9).msgs(2)
    js.c.ping()
    assert js.ok("CONSUMER.INFO.S.C")["num_ack_pending"] == 2
    js.c.pub(got[0].reply, b"")
    assert p.msg().data == b"m2"


def test_push_to_a_queue_group_while_somebody_listens(js):
    filled(js)
    made = js.consumer("S", "C", ack_policy="none", deliver_subject="to", deliver_group="g")
    assert "push_bound" not in made
    js.c.sub("to", "t", queue="g")
    got = [js.c.msg() for _ in range(5)]
    assert [m.data for m in got] == [b"m%d" % i for i in range(5)]
    assert js.ok("CONSUMER.INFO.S.C")["push_bound"] is True


def test_heartbeats_of_push(js):
    filled(js, count=1)
    js.c.sub("to", "t")
    js.consumer("S", "C", ack_policy="none", deliver_subject="to", idle_heartbeat=100_000_000)
    got = [js.c.msg() for _ in range(2)]
    assert got[0].data == b"m0"
    assert got[1].headers.decode().split("\r\n")[:3] == [
        "NATS/1.0 100 Idle Heartbeat", "Nats-Last-Consumer: 1", "Nats-Last-Stream: 1"]


def test_an_ephemeral_one_goes(js):
    filled(js)
    js.consumer("S", "C", ack_policy="none", inactive_threshold=100_000_000)
    wait_until(lambda: js.api("CONSUMER.INFO.S.C").get("error", {}).get("err_code") == 10014,
               10 * SLOW, "the end of the consumer")


def test_pause_and_resume(js):
    filled(js)
    js.consumer("S", "C", ack_policy="explicit")
    until = "2099-01-01T00:00:00Z"
    got = js.ok("CONSUMER.PAUSE.S.C", {"pause_until": until})
    fields(got, "type paused pause_until pause_remaining?")
    assert (got["paused"], got["pause_until"]) == (True, until)
    info = js.ok("CONSUMER.INFO.S.C")
    assert info["paused"] is True and info["pause_remaining"] > 10 ** 18
    p = Puller(js).pull(no_wait=True)
    assert status_of(p.msg()) == "404 No Messages"
    got = js.ok("CONSUMER.PAUSE.S.C")
    assert got["paused"] is False
    assert p.pull().msg().data == b"m0"


def test_reset(js):
    filled(js)
    js.consumer("S", "C", ack_policy="explicit")
    p = Puller(js)
    got = p.pull(batch=3).msgs(3)
    js.request(got[0].reply)
    assert js.ok("CONSUMER.RESET.S.C")["reset_seq"] == 2
    assert p.pull().msg().data == b"m1"
    assert js.ok("CONSUMER.RESET.S.C", {"seq": 4})["reset_seq"] == 4
    assert p.pull().msg().data == b"m3"


@pytest.mark.parametrize("retention", ["workqueue", "interest"])
def test_what_a_reset_passes_over(start, tmp_path, retention):
    """A work queue keeps it for a reset back, also over a restart, until a late ack settles it; an
    interest stream has nobody to keep it for."""
    flags = ("-js", "-sd", str(tmp_path / "store"))
    s = start(*flags)
    with Js(s) as js:
        js.stream("S", subjects=["s.*"], retention=retention)
        js.consumer("S", "C", durable_name="C", ack_policy="explicit", filter_subject="s.1")
        js.consumer("S", "D", durable_name="D", ack_policy="explicit", filter_subject="s.2")
        for i in range(8):
            js.publish("s.%d" % (1 + i % 2), b"m%d" % i)
        got = Puller(js).pull(batch=3).msgs(3)
        js.request(got[1].reply)
        assert js.ok("CONSUMER.RESET.S.C", {"seq": 6})["num_pending"] == 1
        left = 7 if retention == "workqueue" else 5
        wait_until(lambda: js.state("S")["messages"] == left, 5 * SLOW, "the messages")
        if retention == "workqueue":
            js.request(got[2].reply)
            wait_until(lambda: js.state("S")["messages"] == 6, 5 * SLOW, "the late ack")
        state = js.state("S")
    assert s.stop() == 0
    s = start(*flags)
    with Js(s) as js:
        assert js.state("S") == state
        assert js.ok("CONSUMER.RESET.S.C", {"seq": 1})["reset_seq"] == 1
        expected = [b"m0", b"m6"] if retention == "workqueue" else [b"m6"]
        assert [m.data for m in Puller(js).pull(batch=9).msgs(len(expected))] == expected
        assert [m.data for m in Puller(js, "D").pull(batch=4).msgs(4)] == [b"m1", b"m3", b"m5", b"m7"]


def test_other_filters_let_an_interest_stream_forget(start, tmp_path):
    """What only the earlier filters of a consumer wanted goes with them, pending or not; what
    another one still waits for stays. A start finds the same."""
    flags = ("-js", "-sd", str(tmp_path / "store"))

    def update(js, name, *filters):
        js.consumer("S", name, durable_name=name, ack_policy="explicit",
                    filter_subjects=list(filters))

    s = start(*flags)
    with Js(s) as js:
        js.stream("S", subjects=["s.*"], retention="interest")
        update(js, "C", "s.1", "s.2", "s.3")
        update(js, "D", "s.2")
        for i in range(9):
            js.publish("s.%d" % (1 + i % 3), b"m%d" % i)
        assert len(Puller(js).pull(batch=4).msgs(4)) == 4
        update(js, "C", "s.3", "s.4")
        assert js.state("S")["messages"] == 6
        js.publish("s.1", b"nobody's")
        js.publish("s.4", b"m9")
        update(js, "D", "s.2", "s.3")
        state = js.state("S")
        assert state["messages"] == 7
    assert s.stop() == 0
    with Js(start(*flags)) as js:
        assert js.state("S") == state
        expected = [b"m1", b"m2", b"m4", b"m5", b"m7", b"m8"]
        assert [m.data for m in Puller(js, "D").pull(batch=6).msgs(6)] == expected


def test_a_start_finds_what_orders_in_flight_together_left(start, tmp_path):
    """The deletion of a consumer, or its reset, and behind it the creation of another one, which the
    messages that go by the first are nothing to: they stayed here, and were gone after a start."""
    flags = ("-js", "-sd", str(tmp_path / "store"))

    def create(name):
        return ("CONSUMER.CREATE.S." + name, {"stream_name": "S", "config": {
            "name": name, "durable_name": name, "ack_policy": "explicit"}})

    s = start(*flags)
    with Js(s) as js:
        js.stream("S", subjects=["s"], retention="interest")
        js.ok(*create("A"))
        for i in range(10):
            js.publish("s", b"m%d" % i)
        js.pipelined(("CONSUMER.RESET.S.A", {"seq": 6}), create("B"))
        assert js.state("S")["messages"] == 5
        js.pipelined(("CONSUMER.DELETE.S.A", {}), ("CONSUMER.DELETE.S.B", {}), create("C"))
        js.publish("s", b"m10")
        state = js.state("S")
        assert state["messages"] == 1
    assert s.stop() == 0
    with Js(start(*flags)) as js:
        assert js.state("S") == state
        assert Puller(js, "C").pull().msg().data == b"m10"


def test_who_waits_for_an_order_without_a_record_is_answered(start, tmp_path):
    """Also in a process that has stored nothing yet: the count of a consumer in memory takes several
    steps here, and the same request again waits for it."""
    flags = ("-js", "-sd", str(tmp_path / "store"))
    s = start(*flags)
    with Js(s) as js:
        js.stream("S", subjects=["s.>"])
        for i in range(4000):
            js.c.pub("s.%d.%s" % (i, "xy"[i % 2]), b"")
        wait_until(lambda: js.state("S")["messages"] == 4000, 10 * SLOW, "the messages")
    assert s.stop() == 0
    s = start(*flags)
    with Js(s) as js:
        create = ("CONSUMER.CREATE.S.c", {"stream_name": "S", "config": {
            "durable_name": "c", "mem_storage": True, "filter_subject": "s.*.x"}})
        assert [r["num_pending"] for r in js.pipelined(create, create)] == [2000, 2000]


# --- statuses of pull requests

@pytest.mark.parametrize("config,request_,status", [
    ({}, {"batch": 10, "no_wait": True}, "404 No Messages"),
    ({}, {"expires": 100_000_000}, "408 Request Timeout"),
    ({"max_batch": 5}, {"batch": 6}, "409 Exceeded MaxRequestBatch of 5"),
    ({"max_expires": 10 ** 9}, {"expires": 2 * 10 ** 9}, "409 Exceeded MaxRequestExpires of 1s"),
    ({"max_bytes": 100}, {"max_bytes": 200}, "409 Exceeded MaxRequestMaxBytes of 100"),
    ({}, {"idle_heartbeat": 10 ** 9, "expires": 10 ** 9},
     "400 Bad Request - heartbeat value too large"),
    ({}, {"nope": 1, "batch": "x"}, None),
])
def test_statuses_of_pulls(js, config, request_, status):
    js.stream("S", subjects=["s.*"])
    js.consumer("S", "C", ack_policy="explicit", **config)
    got = status_of(Puller(js).pull(**request_).msg())
    if status is None:
        assert got.startswith("400 Bad Request")
    else:
        assert got == status


def test_a_pull_that_ends_early(js):
    filled(js, count=3)
    js.consumer("S", "C", ack_policy="explicit")
    p = Puller(js).pull(batch=10, no_wait=True)
    got = p.msgs(4)
    assert [m.data for m in got[:3]] == [b"m0", b"m1", b"m2"]
    assert status_of(got[3]) in ("404 No Messages", "408 Request Timeout")
    js.c.pub("$JS.API.CONSUMER.MSG.NEXT.S.C", b'{"batch":1,"expires":60000000000}', reply="_P.1")
    js.c.ping()
    js.c.pub("$JS.API.CONSUMER.DELETE.S.C", reply="_INBOX.x")
    assert status_of(p.msg()) == "409 Consumer Deleted"


def test_a_pull_of_a_push_consumer(js):
    filled(js)
    js.consumer("S", "C", ack_policy="explicit", deliver_subject="to")
    assert status_of(Puller(js).pull().msg()) == "409 Consumer is push based"


def test_max_bytes_of_a_pull(js):
    filled(js)
    js.consumer("S", "C", ack_policy="explicit")
    p = Puller(js)
    assert status_of(p.pull(batch=5, max_bytes=10).msg()) == "409 Message Size Exceeds MaxBytes"


# --- advisories

def advisories(js, count):
    got = {}
    while len(got) < count:
        m = js.c.msg()
        if m.sid == "adv":
            got[m.subject] = json.loads(m.data)
    return got


def check_advisory(a, kind, **expected):
    keys = list(a)
    assert keys[:3] == ["type", "id", "timestamp"]
    assert a["type"] == "io.nats.jetstream." + kind
    assert re.match("^[0-9A-Za-z]{22}$", a["id"])
    assert a["domain"] == "hub" and keys[-1] == "domain"
    assert {k: a[k] for k in keys[3:-1]} == expected


def test_advisories_of_deliveries(js):
    filled(js, count=4)
    js.c.sub("$JS.EVENT.*.CONSUMER.*.S.C", "adv")
    js.consumer("S", "C", ack_policy="explicit", max_deliver=1, ack_wait=600_000_000,
                sample_freq="100%")
    got = Puller(js).pull(batch=4).msgs(4)
    js.c.pub(got[0].reply, b"+ACK").pub(got[1].reply, b"-NAK").pub(got[2].reply, b"+TERM because")
    event = "$JS.EVENT.ADVISORY.CONSUMER."
    a = advisories(js, 4)
    metric = a["$JS.EVENT.METRIC.CONSUMER.ACK.S.C"]
    assert metric.pop("ack_time") > 0
    check_advisory(metric, "metric.v1.consumer_ack", stream="S", consumer="C", consumer_seq=1,
                   stream_seq=1, deliveries=1)
    check_advisory(a[event + "MSG_NAKED.S.C"], "advisory.v1.nak", stream="S", consumer="C",
                   consumer_seq=2, stream_seq=2, deliveries=1)
    check_advisory(a[event + "MSG_TERMINATED.S.C"], "advisory.v1.terminated", stream="S",
                   consumer="C", consumer_seq=3, stream_seq=3, deliveries=1, reason="because")
    given_up = a[event + "MAX_DELIVERIES.S.C"]
    assert given_up.pop("stream_seq") in (2, 4)
    check_advisory(given_up, "advisory.v1.max_deliver", stream="S", consumer="C", deliveries=1)


def test_advisories_of_streams_and_consumers(js):
    event = "$JS.EVENT.ADVISORY."
    js.c.sub(event + "STREAM.>", "adv")

    def after(subject, body):
        js.c.pub("$JS.API." + subject, body, reply="_INBOX.x")
        return advisories(js, 1)
    stream = {"stream": "S"}
    config = b'{"name":"S","subjects":["s"],"max_msgs":%d}'
    a = after("STREAM.CREATE.S", config % 5)
    check_advisory(a[event + "STREAM.CREATED.S"], "advisory.v1.stream_action", action="create",
                   **stream)
    a = after("STREAM.UPDATE.S", config % 7)
    check_advisory(a[event + "STREAM.UPDATED.S"], "advisory.v1.stream_action", action="modify",
                   **stream)
    js.c.unsub("adv").sub(event + "CONSUMER.>", "adv")
    consumer = {"stream": "S", "consumer": "C"}
    a = after("CONSUMER.CREATE.S.C", b'{"stream_name":"S","config":{"name":"C"}}')
    check_advisory(a[event + "CONSUMER.CREATED.S.C"], "advisory.v1.consumer_action",
                   action="create", **consumer)
    until = "2099-01-01T00:00:00Z"
    a = after("CONSUMER.PAUSE.S.C", b'{"pause_until":"%s"}' % until.encode())
    check_advisory(a[event + "CONSUMER.PAUSE.S.C"], "advisory.v1.consumer_pause", paused=True,
                   pause_until=until, **consumer)
    a = after("CONSUMER.DELETE.S.C", b"")
    check_advisory(a[event + "CONSUMER.DELETED.S.C"], "advisory.v1.consumer_action",
                   action="delete", **consumer)
    js.c.unsub("adv").sub(event + "STREAM.>", "adv")
    a = after("STREAM.DELETE.S", b"")
    check_advisory(a[event + "STREAM.DELETED.S"], "advisory.v1.stream_action", action="delete",
                   **stream)


def test_a_pause_that_ends_by_itself_is_told_too(js):
    subject = "$JS.EVENT.ADVISORY.CONSUMER.PAUSE.S.C"
    js.stream("S", subjects=["s"])
    js.c.sub(subject, "adv")
    until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 1 + SLOW))
    js.c.pub("$JS.API.CONSUMER.CREATE.S.C", json.dumps({
        "stream_name": "S", "config": {"name": "C", "pause_until": until}}), reply="_INBOX.x")
    for is_paused in (True, False):
        check_advisory(advisories(js, 1)[subject], "advisory.v1.consumer_pause", stream="S",
                       consumer="C", paused=is_paused, pause_until=until)


def test_requests_are_audited(js):
    js.c.sub("$JS.EVENT.ADVISORY.API", "adv")
    js.c.pub("$JS.API.STREAM.CREATE.S", b'{"name":"S"}', reply="_INBOX.x")
    a = advisories(js, 1)["$JS.EVENT.ADVISORY.API"]
    fields(a, "type id timestamp server client subject request? response domain?")
    assert (a["server"], a["subject"], a["request"]) == (
        "mill", "$JS.API.STREAM.CREATE.S", '{"name":"S"}')
    assert json.loads(a["response"])["did_create"] is True
    client = a["client"]
    assert (client["kind"], client["client_type"], client["server"], client["host"]) == (
        "Client", "nats", "mill", "127.0.0.1")
    assert client["acc"] == client["user"].upper()


@pytest.mark.parametrize("subscribed, queue, deliver, group, is_heard", [
    ("d.x", "", "d.x", "", True), ("d.x", "g", "d.x", "g", True),
    ("d.x", "", "d.x", "g", False), ("d.x", "h", "d.x", "g", False), ("d.x", "g", "d.x", "", False),
    ("d.*", "", "d.x", "", False), (">", "", "d.x", "", False), ("d.>", "g", "d.x", "g", False)])
def test_only_its_own_subscription_makes_a_push_consumer_deliver(
        js, server, subscribed, queue, deliver, group, is_heard):
    """Somebody who looks at `>` must not take what waits for a client that is away."""
    js.stream("S", subjects=["s.>"])
    js.publish("s.1", b"one")
    with login(server, "a%d" % (server.accounts_used - 1)) as other:
        listener = other.c
        listener.sub(subscribed, sid="7", queue=queue or None)
        listener.ping()
        config = {"name": "c", "deliver_subject": deliver, "ack_policy": "none"}
        if group:
            config["deliver_group"] = group
        js.ok("CONSUMER.CREATE.S.c", {"stream_name": "S", "config": config})
        if is_heard:
            while b"one" not in listener.msg().data:
                pass
        info = js.ok("CONSUMER.INFO.S.c")
        assert info.get("push_bound", False) == is_heard
        assert info["num_pending"] == (0 if is_heard else 1)


def test_an_ack_of_a_consumer_that_takes_none_or_is_not_there_has_no_responders(js):
    js.stream("S")
    assert js.status("$JS.ACK.S.none.1.1.1.1.0")[0] == "503"
    js.consumer("S", "deaf", ack_policy="none")
    assert js.status("$JS.ACK.S.deaf.1.1.1.1.0")[0] == "503"


def test_what_is_sent_to_consumers_is_heard_from_the_first_one_on(js):
    """100,000 streams without any would have half a million subscriptions for nobody."""
    js.stream("S")
    assert js.status("$JS.FC.S.c.x")[0] == "503"
    assert js.status("$JS.API.CONSUMER.MSG.NEXT.S.c")[0] == "503"
    js.ok("CONSUMER.CREATE.S.c", {"stream_name": "S", "config": {"name": "c",
                                                                 "ack_policy": "explicit"}})
    assert js.status("$JS.API.CONSUMER.MSG.NEXT.S.c", b'{"no_wait":true}')[0][:3] == "404"
    assert js.status("$JS.FC.S.c.x")[0] == "503", "none with flow control"
