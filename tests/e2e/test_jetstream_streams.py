"""Streams: made, published to, read back, kept over restarts and SIGKILL. nats-py where a client
hides nothing that matters, raw requests elsewhere."""
import asyncio
import datetime
import json
import os
import re
import shutil
import signal
import socket
import time

import nats
import pytest
from nats.js.api import StorageType, StreamConfig
from nats.js.errors import BadRequestError, NotFoundError

from harness import SLOW, free_port, wait_until
from jetstream import Js

ours_only = pytest.mark.ours_only


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 30 * SLOW))


async def connect(server):
    c = await nats.connect(server.url)
    return c, c.jetstream(timeout=5 * SLOW)


async def api(c, subject, body=None):
    data = json.dumps(body).encode() if body is not None else b""
    return json.loads((await c.request("$JS.API." + subject, data, timeout=5 * SLOW)).data)


@pytest.mark.parametrize("storage", [StorageType.FILE, StorageType.MEMORY])
def test_publish_and_read_back(js_server, storage):
    async def go():
        c, js = await connect(js_server)
        name = "READ_" + storage.value
        await js.add_stream(StreamConfig(name=name, subjects=[name + ".>"], storage=storage,
                                         allow_direct=True))
        for i in range(1, 11):
            ack = await js.publish("%s.%d" % (name, i % 3), b"m%d" % i, headers={"n": str(i)})
            assert (ack.stream, ack.seq, ack.duplicate) == (name, i, None)
        m = await js.get_msg(name, 4)
        assert (m.seq, m.subject, m.data, m.headers["n"]) == (4, name + ".1", b"m4", "4")
        m = await js.get_last_msg(name, name + ".2")
        assert (m.seq, m.data) == (8, b"m8")
        m = await js.get_msg(name, 4, direct=True)
        assert (m.seq, m.subject, m.data, m.headers["n"]) == (4, name + ".1", b"m4", "4")
        m = await js.get_last_msg(name, name + ".1", direct=True)
        assert (m.seq, m.data) == (10, b"m10")
        with pytest.raises(NotFoundError):
            await js.get_msg(name, 99)
        info = await js.stream_info(name)
        state = info.state
        assert (state.messages, state.first_seq, state.last_seq) == (10, 1, 10)
        await js.delete_msg(name, 4)
        with pytest.raises(NotFoundError):
            await js.get_msg(name, 4)
        assert (await js.stream_info(name)).state.num_deleted == 1
        await js.purge_stream(name)
        state = (await js.stream_info(name)).state
        assert (state.messages, state.first_seq, state.last_seq) == (0, 11, 10)
        assert (await js.publish(name + ".x", b"")).seq == 11
        await js.delete_stream(name)
        with pytest.raises(NotFoundError):
            await js.stream_info(name)
        await c.close()
    run(go())


@pytest.mark.parametrize("storage", [StorageType.FILE, StorageType.MEMORY])
def test_many_publishes_in_flight_are_acked_in_order(js_server, storage):
    async def go():
        c, js = await connect(js_server)
        name = "MANY_" + storage.value
        await js.add_stream(StreamConfig(name=name, subjects=[name + ".>"], storage=storage))
        acks = await asyncio.gather(*[js.publish("%s.%d" % (name, i), b"x" * 100)
                                      for i in range(1000)])
        assert [a.seq for a in acks] == list(range(1, 1001))
        big = await js.publish(name + ".big", b"b" * 900000)
        assert (await js.get_msg(name, big.seq)).data == b"b" * 900000
        await js.delete_stream(name)
        await c.close()
    run(go())


def test_duplicates_are_told_by_their_id(js_server):
    async def go():
        c, js = await connect(js_server)
        await js.add_stream(StreamConfig(name="DUP", subjects=["dup"]))
        await js.publish("dup", b"1", headers={"Nats-Msg-Id": "a"})
        await js.publish("dup", b"2", headers={"Nats-Msg-Id": "b"})
        # In one write: the second looks at a record that is still in flight.
        acks = await asyncio.gather(*[js.publish("dup", b"3", headers={"Nats-Msg-Id": "c"})
                                      for _ in range(2)])
        assert [(a.seq, a.duplicate) for a in acks] == [(3, None), (3, True)]
        ack = await js.publish("dup", b"1", headers={"Nats-Msg-Id": "a"})
        assert (ack.seq, ack.duplicate) == (1, True)
        assert (await js.stream_info("DUP")).state.messages == 3
        await js.delete_stream("DUP")
        await c.close()
    run(go())


def test_expectations_refuse_what_does_not_fit(js_server):
    async def go():
        c, js = await connect(js_server)
        await js.add_stream(StreamConfig(name="EXP", subjects=["exp.>"]))
        await js.publish("exp.a", b"")
        r = json.loads((await c.request("exp.a", b"", headers={
            "Nats-Expected-Last-Sequence": "7"}, timeout=5)).data)
        assert r == {"error": {"code": 400, "err_code": 10071,
                               "description": "wrong last sequence: 1"}, "stream": "EXP", "seq": 0}
        with pytest.raises(BadRequestError):
            await js.publish("exp.a", b"", headers={"Nats-Expected-Stream": "OTHER"})
        ack = await js.publish("exp.a", b"", headers={"Nats-Expected-Last-Subject-Sequence": "1"})
        assert ack.seq == 2
        await js.delete_stream("EXP")
        await c.close()
    run(go())


def test_the_api_answers_as_nats_server(js_server):
    async def go():
        c, _ = await connect(js_server)
        r = await api(c, "STREAM.CREATE.API", {"name": "API", "subjects": ["api"]})
        assert r["did_create"] is True and r["config"]["max_msgs"] == -1
        assert (await api(c, "STREAM.NAMES"))["streams"] == ["API"]
        r = await api(c, "STREAM.CREATE.OTHER", {"name": "OTHER", "subjects": ["*"]})
        assert r["error"]["err_code"] == 10065
        r = await api(c, "STREAM.UPDATE.API", {"name": "API", "subjects": ["api", "more.*"]})
        assert r["config"]["subjects"] == ["api", "more.*"]
        assert json.loads((await c.request("more.x", b"", timeout=5)).data) == {
            "stream": "API", "seq": 1}
        r = await api(c, "STREAM.UPDATE.API", {"name": "API", "subjects": ["api"]})
        with pytest.raises(nats.errors.NoRespondersError):
            await c.request("more.x", b"", timeout=5)
        r = await api(c, "INFO")
        assert (r["streams"], r["consumers"]) == (1, 0)
        assert (await api(c, "STREAM.DELETE.API"))["success"] is True
        with pytest.raises(nats.errors.NoRespondersError):
            await c.request("api", b"", timeout=5)
        await c.close()
    run(go())


@ours_only
def test_an_unknown_request_is_refused(js_server):
    """nats-server lets the client wait."""
    async def go():
        c, _ = await connect(js_server)
        assert await api(c, "FOO.BAR") == {
            "type": "io.nats.jetstream.api.v1.system_response",
            "error": {"code": 400, "err_code": 10003, "description": "bad request"}}
        await c.close()
    run(go())


def test_limits_and_ages(js_server):
    async def go():
        c, js = await connect(js_server)
        await js.add_stream(StreamConfig(name="LIM", subjects=["lim.*"], max_msgs=5,
                                         max_msgs_per_subject=2))
        for i in range(4):
            await js.publish("lim.a", b"%d" % i)
        assert (await js.stream_info("LIM")).state.messages == 2
        for i in range(9):
            await js.publish("lim.%d" % i, b"")
        state = (await js.stream_info("LIM")).state
        assert (state.messages, state.first_seq) == (5, 9)
        await js.delete_stream("LIM")
        r = await api(c, "STREAM.CREATE.AGE", {"name": "AGE", "subjects": ["age"],
                                               "max_age": 200_000_000, "duplicate_window": 100_000_000})
        assert "error" not in r
        await js.publish("age", b"")
        for _ in range(100 * SLOW):
            if (await js.stream_info("AGE")).state.messages == 0:
                break
            await asyncio.sleep(0.05)
        assert (await js.stream_info("AGE")).state.messages == 0
        await js.delete_stream("AGE")
        await c.close()
    run(go())


def test_a_restart_keeps_streams(start, tmp_path):
    store = str(tmp_path / "store")
    s = start("-js", "-sd", store)

    async def before():
        c, js = await connect(s)
        await js.add_stream(StreamConfig(name="KEEP", subjects=["keep.>"], max_msgs_per_subject=5))
        await js.add_stream(StreamConfig(name="GONE", subjects=["gone"]))
        await js.add_stream(StreamConfig(name="MEM", subjects=["mem"], storage=StorageType.MEMORY))
        for i in range(40):
            await js.publish("keep.%d" % (i % 4), b"m%d" % i, headers={"Nats-Msg-Id": str(i)})
        await js.publish("mem", b"")
        await js.delete_msg("KEEP", 30)
        await js.delete_stream("GONE")
        info = await js.stream_info("KEEP")
        await c.close()
        return info
    info = run(before())
    assert s.stop() == 0
    again = start("-js", "-sd", store)

    async def after():
        c, js = await connect(again)
        fresh = await js.stream_info("KEEP")
        assert fresh.state == info.state
        assert fresh.created == info.created and fresh.config == info.config
        m = await js.get_msg("KEEP", 25)
        assert (m.subject, m.data) == ("keep.0", b"m24")
        ack = await js.publish("keep.3", b"", headers={"Nats-Msg-Id": "39"})
        assert (ack.seq, ack.duplicate) == (40, True)
        assert (await js.publish("keep.3", b"")).seq == 41
        assert [x.config.name for x in await js.streams_info()] == ["KEEP"]
        await js.add_stream(StreamConfig(name="MEM", subjects=["mem"]))
        await c.close()
    run(after())


@ours_only
@pytest.mark.parametrize("sync", ["always", "1h"])
def test_sigkill_loses_nothing_that_was_acknowledged(start, tmp_path, sync):
    store = str(tmp_path / "store")
    config = tmp_path / "sync.conf"
    config.write_text('jetstream { store_dir: "%s", sync_interval: %s }' % (store, sync))
    acked = 0
    for life in range(3):
        s = start("-c", str(config), "-m", "-1")

        async def go(server=s):
            nonlocal acked
            c = await nats.connect(server.url, allow_reconnect=False)
            js = c.jetstream(timeout=5 * SLOW)
            served = server.page("/varz")["jetstream"]["config"]
            assert served.get("sync_always", False) == (sync == "always")
            assert served["sync_interval"] == (120 if sync == "always" else 3600) * 10**9
            if life == 0:
                await js.add_stream(StreamConfig(name="S", subjects=["s"]))
            state = (await js.stream_info("S")).state
            assert state.last_seq >= acked, "acknowledged messages are gone"
            assert state.messages == state.last_seq
            for seq in {1, acked // 2, acked} if acked else ():
                assert (await js.get_msg("S", seq)).seq == seq
            done = 0

            async def one(i):
                nonlocal acked, done
                ack = await js.publish("s", b"x" * 200)
                acked = max(acked, ack.seq)
                done += 1
                if done == 300:
                    os.kill(server.pid, signal.SIGKILL)
            tasks = [asyncio.ensure_future(one(i)) for i in range(600)]
            await asyncio.wait(tasks, timeout=3 * SLOW, return_when=asyncio.FIRST_EXCEPTION)
            for t in tasks:
                t.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            server.process.wait()
            await c.close()
        run(go())
    assert acked >= 900


@pytest.mark.parametrize("kind", ["tcp", pytest.param("unix", marks=ours_only)])
def test_nobody_gets_in_before_the_store_is_read(start, tmp_path, kind):
    """Until then a connection is refused: it does not hang without an INFO."""
    port, path = free_port(), str(tmp_path / "socket")
    s = start("-js", "-sd", str(tmp_path / "store"), "-p", str(port), wait=False,
              config="unix_socket: %r\n" % path if kind == "unix" else None)

    def is_in():
        with socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET) as c:
            return c.connect_ex(path if kind == "unix" else ("127.0.0.1", port)) == 0

    deadline = time.monotonic() + 10 * SLOW
    while not is_in():
        assert s.process.poll() is None and time.monotonic() < deadline, s.log()
    first = datetime.datetime.now()
    found = s.wait_log(r"\] (\S+ \S+) \[INF\]   Max Storage:")
    assert datetime.datetime.strptime(found.group(1), "%Y/%m/%d %H:%M:%S.%f") <= first
    s.wait_ready()


@ours_only
def test_one_server_at_a_time_has_the_store(start, tmp_path):
    store = str(tmp_path / "store")
    start("-js", "-sd", store)
    second = start("-js", "-sd", store, wait=False)
    assert second.process.wait(10 * SLOW) == 1
    assert "another server uses the storage directory" in second.log()
    os.unlink(store + "/jetstream/lock")
    third = start("-js", "-sd", store, wait=False)
    assert third.process.wait(10 * SLOW) == 1
    assert "another server uses the storage directory" in third.log()


@ours_only
def test_a_store_that_is_being_read_holds_no_stop_up(start, tmp_path):
    store = str(tmp_path / "store")
    s = start("-js", "-sd", store)
    count = 400000
    with Js(s) as js:
        js.stream("S", subjects=["s.*"])
        for i in range(0, count, 1000):
            js.c.send(b"".join(b"PUB s.%d 1\r\nx\r\n" % n for n in range(i, i + 1000)))
            js.c.ping()
        wait_until(lambda: js.state("S")["messages"] == count, what="all that was published")
    s.kill()
    s = start("-js", "-sd", store, wait=False)
    s.wait_log("Store Directory")
    s.signal(signal.SIGTERM)
    assert s.wait_exit() == 0
    log = s.log().split("Starting nats-server")[-1]
    assert "Restored" not in log and "Server is ready" not in log, log
    assert re.search(r'Trapped "terminated" signal(.|\n)*Initiating Shutdown(.|\n)*Server Exiting', log)
    # Nothing is lost by it: the next start reads it all.
    s = start("-js", "-sd", store)
    with Js(s) as js:
        assert js.state("S")["messages"] == count


@ours_only
def test_a_log_that_cannot_begin_holds_no_stop_up(start, tmp_path):
    store = str(tmp_path / "store")
    s = start("-js", "-sd", store)
    with Js(s) as js:
        js.stream("S", subjects=["s"])
    assert s.stop() == 0
    last = max(int(name[5:13], 16) for name in os.listdir(store + "/jetstream")
               if name.endswith(".log"))
    # Each name that is none of a file costs a second.
    for number in range(last + 1, last + 40):
        os.mkdir(store + "/jetstream/0000-%08x.log" % number)
    s = start("-js", "-sd", store, wait=False)
    s.wait_log("Restored")
    time.sleep(0.3)
    assert "Server is ready" not in s.log().split("Restored")[1]
    s.signal(signal.SIGTERM)
    began = time.monotonic()
    assert s.wait_exit() == 0
    assert time.monotonic() - began < 4 * SLOW
    assert "disk is slow" not in s.log()


def test_markers_that_are_due_at_a_start_are_no_alarm(start, tmp_path):
    store = str(tmp_path / "store")
    s = start("-js", "-sd", store)
    with Js(s) as js:
        js.stream("S", subjects=["s.*"], allow_msg_ttl=True, subject_delete_marker_ttl=3600 * 10**9,
                  max_age=10**9)
        for i in range(50):
            js.publish("s.%d" % i)
    assert s.stop() == 0
    time.sleep(1.1)
    s = start("-js", "-sd", store)
    with Js(s) as js:
        wait_until(lambda: js.state("S")["last_seq"] == 100, what="the markers")
        assert js.state("S")["messages"] == 50
    assert "refuses publishes" not in s.log()


@ours_only
def test_a_store_that_is_removed_under_the_server_takes_nothing_more(start, tmp_path):
    store = str(tmp_path / "store")
    s = start("-js", "-sd", store, monitor=True)
    with Js(s) as js:
        js.stream("S", subjects=["s"])
        assert js.publish("s", b"kept by nobody")["seq"] == 1
        shutil.rmtree(store)
        s.wait_log(r"\[ERR\] JetStream: the store in \S+ was removed: what is published now would be lost")
        assert js.publish("s", b"refused")["error"]["err_code"] == 10077
        assert js.state("S")["messages"] == 1
        assert s.http("/healthz")[0] == 503
    assert s.stop() == 1
    assert "Shard 0 cannot end its log: it takes no writes" in s.log()


@ours_only  # nats-server counts on from there, past the end
def test_no_sequence_comes_near_the_end_of_numbers(js_server):
    async def go():
        c, js = await connect(js_server)
        end = 2**64 - 1
        r = await api(c, "STREAM.CREATE.FAR", {"name": "FAR", "first_seq": end})
        assert r["error"]["err_code"] == 10052
        await js.add_stream(StreamConfig(name="FAR"))
        await js.publish("FAR", b"1")
        assert (await api(c, "STREAM.PURGE.FAR", {"seq": end}))["error"]["err_code"] == 10003
        assert (await api(c, "STREAM.PURGE.FAR", {"seq": 2**62}))["purged"] == 1
        for i in range(2):
            assert (await js.publish("FAR", b"x")).seq == 2**62 + i
        await c.close()
    run(go())
