"""Streams spread over shards: what spans all of them is one, and a start with another number of
shards finds everything."""
import json
import os
import shutil
import signal

import pytest
from harness import wait_until
from jetstream import Js
from store_reader import Store

pytestmark = pytest.mark.ours_only

COUNT = 12


def names(count=COUNT):
    return ["S%02d" % i for i in range(count)]


def fill(js, round_):
    for n in names():
        js.publish(n + ".x", "%s %d" % (n, round_))


def check(js, rounds):
    assert js.ok("STREAM.NAMES")["streams"] == names()
    page = js.ok("STREAM.LIST")
    assert [s["config"]["name"] for s in page["streams"]] == names()
    assert [s["state"]["messages"] for s in page["streams"]] == [rounds] * COUNT
    info = js.ok("INFO")
    assert (info["streams"], info["consumers"]) == (COUNT, 2 * COUNT)
    for n in names():
        got = js.request("$JS.API.DIRECT.GET.%s.%s.x" % (n, n))
        assert got.data.decode() == "%s %d" % (n, rounds - 1)
        assert js.ok("CONSUMER.INFO.%s.c" % n)["num_pending"] == rounds


@pytest.mark.parametrize("is_killed", [False, True], ids=["stop", "kill"])
def test_any_number_of_shards_finds_all_streams(start, tmp_path, is_killed):
    store = str(tmp_path / "store")
    for round_, shards in enumerate([3, 1, 4, 2]):
        s = start("-js", "-sd", store, "--shards", str(shards))
        with Js(s) as js:
            if round_ == 0:
                for n in names():
                    js.stream(n, subjects=[n + ".>"], allow_direct=True)
                    js.consumer(n, "c", durable_name="c", ack_policy="explicit")
                    js.consumer(n, "p", durable_name="p", deliver_subject="push." + n)
            else:
                check(js, round_)
            fill(js, round_)
            check(js, round_ + 1)
            js.stream("NEW", subjects=["new"])
            assert js.ok("STREAM.DELETE.NEW")["success"]
        if is_killed:
            os.kill(s.pid, signal.SIGKILL)
            s.process.wait()
        else:
            assert s.stop() == 0


def test_a_root_from_before_there_were_more_shards_finds_all_streams(start, tmp_path):
    """A copy that came back in part: it counts fewer logs than there are."""
    store = str(tmp_path / "store")
    roots = [os.path.join(store, "jetstream", "root-%d" % i) for i in range(2)]
    s = start("-js", "-sd", store, "--shards", "1")
    assert s.stop() == 0
    for root in roots:
        shutil.copy(root, root + ".older")
    s = start("-js", "-sd", store, "--shards", "3")
    with Js(s) as js:
        for n in names():
            js.stream(n, subjects=[n + ".>"])
            js.publish(n + ".x", "1")
    assert s.stop() == 0
    for root in roots:
        os.replace(root + ".older", root)
    streams = Store(os.path.join(store, "jetstream")).streams().values()
    assert sorted(s.name for s in streams) == names()
    s = start("-js", "-sd", store, "--shards", "1")
    with Js(s) as js:
        assert js.ok("STREAM.NAMES")["streams"] == names()
        assert [js.state(n)["messages"] for n in names()] == [1] * COUNT
    assert s.stop() == 0


def test_subjects_of_streams_on_different_shards_do_not_overlap(start, tmp_path):
    s = start("-js", "-sd", str(tmp_path / "store"), "--shards", "3")
    with Js(s) as js:
        for n in names():
            js.stream(n, subjects=["only." + n])
        for n in names(6):
            assert js.refused_stream(n + "B", subjects=["only.*"])[1] == 10065
            assert js.refused("STREAM.UPDATE." + n, {
                "name": n, "subjects": ["only.*"]})[1] == 10065
        assert js.ok("STREAM.UPDATE.S00", {"name": "S00", "subjects": ["other"]})
        for n in names(6):
            assert js.refused_stream(n + "B", subjects=["other"])[1] == 10065
        js.stream("FREE", subjects=["only.S00"])
        # All at once: one of them gets it, and the others are refused.
        replies = js.pipelined(*[("STREAM.CREATE.%sC" % n, {"name": n + "C", "subjects": ["race"]})
                                 for n in names()])
        assert [r.get("error", {}).get("err_code") for r in replies].count(10065) == COUNT - 1
        made = [r["config"]["name"] for r in replies if "error" not in r]
        assert len(made) == 1
        assert sorted(js.ok("STREAM.NAMES")["streams"]) == sorted(names() + ["FREE"] + made)
        assert js.ok("STREAM.NAMES", {"subject": "race"})["streams"] == made


def test_requests_behind_a_creation_come_behind_it(start, tmp_path):
    s = start("-js", "-sd", str(tmp_path / "store"), "--shards", "3")
    with Js(s) as js:
        for n in names():
            made, changed, consumer, info, gone, again = js.pipelined(
                ("STREAM.CREATE." + n, {"name": n, "subjects": [n]}),
                ("STREAM.UPDATE." + n, {"name": n, "subjects": [n], "max_msgs": 7}),
                ("CONSUMER.CREATE.%s.c" % n, {"stream_name": n, "config": {"name": "c"}}),
                ("STREAM.INFO." + n, None), ("STREAM.DELETE." + n, None),
                ("STREAM.CREATE." + n, {"name": n, "subjects": [n, n + ".2"]}))
            assert made["did_create"] and changed["config"]["max_msgs"] == 7
            assert "error" not in consumer, consumer
            assert info["config"]["subjects"] == [n]
            assert gone["success"] and again["config"]["subjects"] == [n, n + ".2"]


def test_subjects_are_free_behind_the_deletion_that_frees_them(start, tmp_path):
    s = start("-js", "-sd", str(tmp_path / "store"), "--shards", "3")
    with Js(s) as js:
        before = "FIRST"
        js.stream(before, subjects=["moving.*"])
        for n in names():
            gone, made = js.pipelined(
                ("STREAM.DELETE." + before, None),
                ("STREAM.CREATE." + n, {"name": n, "subjects": ["moving.*"]}))
            assert gone["success"] and made.get("did_create"), made
            before = n
        # A deletion that is refused is no promise.
        refused, overlap = js.pipelined(
            ("STREAM.DELETE." + before, {"not": "empty"}),
            ("STREAM.CREATE.LAST", {"name": "LAST", "subjects": ["moving.x"]}))
        assert refused["error"]["err_code"] == 10038 and overlap["error"]["err_code"] == 10065


@pytest.mark.parametrize("shards", [3, 1])
def test_requests_behind_a_creation_that_waits_for_a_deletion_wait_too(start, tmp_path, shards):
    s = start("-js", "-sd", str(tmp_path / "store"), "--shards", str(shards))
    with Js(s) as js:
        before = "FIRST"
        js.stream(before, subjects=["moving.*"])
        for n in names():
            replies = js.pipelined(
                ("STREAM.DELETE." + before, None),
                ("STREAM.CREATE." + n, {"name": n, "subjects": ["moving.*"]}),
                ("CONSUMER.CREATE.%s.c" % n, {"stream_name": n, "config": {"name": "c"}}),
                ("STREAM.UPDATE." + n, {"name": n, "subjects": ["moving.*"], "max_msgs": 7}),
                ("STREAM.INFO." + n, None))
            assert ["error" in r for r in replies] == [False] * 5, replies
            before = n


def test_the_limit_of_streams_is_one_for_all_shards(start, tmp_path):
    conf = """
        jetstream { store_dir: "%s" }
        accounts { A { users: [{user: a, password: a}]
                       jetstream { max_streams: 5, max_file: 1M } } }
        no_auth_user: a
    """ % (tmp_path / "store")
    s = start("--shards", "3", config=conf)
    with Js(s) as js:
        for n in names(5):
            js.stream(n, subjects=[n], max_bytes=200000)
        for n in names()[5:]:
            assert js.refused_stream(n, subjects=[n])[1] == 10027
        assert js.ok("STREAM.DELETE.S00")["success"]
        for n in names()[5:]:
            assert js.refused_stream(n, subjects=[n], max_bytes=300000)[1] == 10047
        js.stream("S11", subjects=["S11"], max_bytes=200000)
        info = js.ok("INFO")
        assert (info["streams"], info["reserved_storage"]) == (5, 1000000)
        # The place and the bytes of one whose deletion is under way: right behind it they are free.
        before = "S11"
        for n in names()[5:9]:
            gone, made = js.pipelined(
                ("STREAM.DELETE." + before, None),
                ("STREAM.CREATE." + n, {"name": n, "subjects": [n], "max_bytes": 200000}))
            assert gone["success"] and made.get("did_create"), made
            before = n


@pytest.mark.parametrize("shards", [3, 1])
def test_the_limit_of_bytes_is_one_for_all_shards(start, tmp_path, shards):
    conf = """
        jetstream { store_dir: "%s" }
        accounts { A { users: [{user: a, password: a}]
                       jetstream { max_file: 1M } } }
        no_auth_user: a
    """ % (tmp_path / "store")
    s = start("--shards", "3", config=conf)
    with Js(s) as js:
        for n in names():
            js.stream(n, subjects=[n])
    if shards != 3:  # then one shard has three logs
        assert s.stop() == 0
        s = start("--shards", str(shards), config=conf)
    with Js(s) as js:
        acks = [js.publish(n, b"x" * 10000) for _ in range(10) for n in names()]
        refused = [a["error"]["err_code"] for a in acks if "error" in a]
        assert set(refused) == {10002}
        assert len(acks) - len(refused) < 110  # of 120; a message or two may cross with mail
        used = js.ok("INFO")["storage"]
        assert 980000 <= used <= 1000000 + 30000
        # What goes on one shard makes room on the others.
        for n in names()[:8]:
            assert js.ok("STREAM.PURGE." + n)["success"]
        for n in names():
            assert "error" not in js.publish(n, b"x" * 10000)


def test_a_limit_that_comes_by_a_reload_counts_what_all_shards_hold(start, tmp_path):
    conf = """
        jetstream { store_dir: "%s" }
        accounts { A { users: [{user: a, password: a}]
                       jetstream { max_file: %s } } }
        no_auth_user: a
    """
    s = start("--shards", "3", config=conf % (tmp_path / "store", "-1"))
    with Js(s) as js:
        for n in names():
            js.stream(n, subjects=[n])
            js.publish(n, b"x" * 100000)
        s.reload(conf % (tmp_path / "store", "1M"))
        # The other shards store nothing that would make them tell what they hold.
        acks = [js.publish("S00", b"x" * 1000) for _ in range(100)]
        assert acks[-1]["error"]["err_code"] == 10002


def test_a_shutdown_is_told_to_pullers_of_streams_on_all_shards(start, tmp_path):
    s = start("-js", "-sd", str(tmp_path / "store"), "--shards", "3")
    with Js(s) as js:
        for n in names():
            js.stream(n, subjects=[n])
            js.consumer(n, "c", durable_name="c", ack_policy="explicit")
            js.c.pub("$JS.API.CONSUMER.MSG.NEXT.%s.c" % n, '{"expires": 60000000000}',
                     reply="_INBOX.wait-" + n)
        js.c.ping()
        for n in names():
            wait_until(lambda n=n: js.ok("CONSUMER.INFO.%s.c" % n)["num_waiting"] == 1,
                       what="it waits there")
        s.process.send_signal(signal.SIGINT)
        told = [js.c.msg() for _ in names()]
        assert sorted(m.subject for m in told) == ["_INBOX.wait-" + n for n in names()]
        assert all(m.headers.startswith(b"NATS/1.0 409 Server Shutdown") for m in told)


@pytest.mark.parametrize("length", [4097, 70000])
def test_a_subject_that_nobody_can_publish_on_is_refused(start, tmp_path, length):
    """One that was taken kept the subscriptions of all later streams out of the index."""
    s = start("-js", "-sd", str(tmp_path / "store"), "--shards", "3")
    with Js(s) as js:
        for n in names():
            assert js.refused_stream("LONG" + n, subjects=[n + "." + "x" * length])[1] == 10052
            js.stream(n, subjects=[n + ".*"])
            assert js.publish(n + ".x", b"taken")["seq"] == 1
            config = {"name": "LONG", "deliver_subject": "x" * length, "ack_policy": "none"}
            assert js.refused("CONSUMER.CREATE.%s.LONG" % n,
                              {"stream_name": n, "config": config})[1] == 10112


def test_audits_name_clients_of_other_shards(start, tmp_path):
    s = start("-js", "-sd", str(tmp_path / "store"), "--shards", "3")
    with s.connect() as watcher:
        watcher.sub("$JS.EVENT.ADVISORY.API")
        watcher.ping()
        for i in range(6):
            name = "client %d" % i
            with Js(s, name=name, lang="x", version="1") as js:
                js.stream("S%d" % i, subjects=["s.%d" % i])
                js.refused("STREAM.INFO.none")
                js.ok("STREAM.NAMES")
                for subject in ["STREAM.CREATE.S%d" % i, "STREAM.INFO.none", "STREAM.NAMES"]:
                    audit = json.loads(watcher.msg().data)
                    assert audit["subject"] == "$JS.API." + subject
                    assert audit["client"]["name"] == name
                    assert audit["client"]["id"] == js.c.info["client_id"]
                    assert audit["client"]["acc"] == "$G"
                    assert json.loads(audit["response"])["type"].startswith("io.nats.jetstream.api")
