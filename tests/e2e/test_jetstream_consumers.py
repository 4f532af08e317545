"""Consumers as nats-py uses them: pull, push, ordered, queue groups, acks of every kind, Key-Value and
Object Store, and what a restart keeps of them."""
import asyncio
import json
import signal
import time

import nats
import pytest
from nats.errors import TimeoutError as NatsTimeout
from nats.js.api import (AckPolicy, ConsumerConfig, DeliverPolicy, ObjectStoreConfig,
                         RetentionPolicy, StorageType, StreamConfig)
from nats.js.errors import KeyNotFoundError, KeyWrongLastSequenceError, NotFoundError

from harness import SLOW
from test_jetstream_streams import connect, run

STORAGES = [StorageType.FILE, StorageType.MEMORY]
T = 5 * SLOW


async def until(condition, what):
    for _ in range(200 * SLOW):
        if await condition() if asyncio.iscoroutinefunction(condition) else condition():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("timed out waiting for " + what)


async def fill(js, name, count, storage=StorageType.FILE, **config):
    await js.add_stream(StreamConfig(name=name, subjects=[name + ".>"], storage=storage, **config))
    await asyncio.gather(*[js.publish("%s.%d" % (name, i % 4), b"m%d" % i)
                           for i in range(count)])


@pytest.mark.parametrize("storage", STORAGES)
def test_pull(js_server, storage):
    async def go():
        c, js = await connect(js_server)
        name = "PULL_" + storage.value
        await fill(js, name, 20, storage)
        ps = await js.pull_subscribe(name + ".>", "dur", stream=name)
        got = await ps.fetch(5, timeout=T)
        assert [(m.subject, m.data) for m in got] == [
            ("%s.%d" % (name, i % 4), b"m%d" % i) for i in range(5)]
        meta = got[4].metadata
        assert (meta.sequence.stream, meta.sequence.consumer, meta.num_delivered,
                meta.num_pending) == (5, 5, 1, 15)
        for m in got:
            await m.ack_sync(timeout=T)
        info = await ps.consumer_info()
        assert (info.num_pending, info.num_ack_pending, info.ack_floor.stream_seq,
                info.delivered.stream_seq) == (15, 0, 5, 5)
        got = await ps.fetch(15, timeout=T)
        assert [m.data for m in got] == [b"m%d" % i for i in range(5, 20)]
        for m in got:
            await m.ack()
        with pytest.raises(NatsTimeout):
            await ps.fetch(1, timeout=0.3)
        waiting = asyncio.ensure_future(ps.fetch(1, timeout=T))
        await asyncio.sleep(0.1)
        await js.publish(name + ".9", b"wake")
        assert (await waiting)[0].data == b"wake"
        with pytest.raises(nats.errors.NoRespondersError):
            await c.request("$JS.API.CONSUMER.MSG.NEXT.%s.none" % name, b"", timeout=T)
        assert await js.delete_consumer(name, "dur")
        with pytest.raises(NotFoundError):
            await js.consumer_info(name, "dur")
        await js.delete_stream(name)
        await c.close()
    run(go())


def test_every_kind_of_ack(js_server):
    async def go():
        c, js = await connect(js_server)
        await fill(js, "ACKS", 4)
        ps = await js.pull_subscribe("ACKS.>", "d", stream="ACKS",
                                     config=ConsumerConfig(ack_wait=0.8, max_deliver=3))
        a, b, d, e = await ps.fetch(4, timeout=T)
        await a.ack_sync(timeout=T)
        await b.term()
        await d.nak()
        again = (await ps.fetch(1, timeout=T))[0]
        assert (again.data, again.metadata.num_delivered) == (b"m2", 2)
        await again.ack_sync(timeout=T)
        # The fourth is left alone until its ack wait is over.
        again = (await ps.fetch(1, timeout=T))[0]
        assert (again.data, again.metadata.num_delivered) == (b"m3", 2)
        for _ in range(4):
            await again.in_progress()
            await asyncio.sleep(0.25)
        await again.ack_sync(timeout=T)
        info = await ps.consumer_info()
        assert (info.num_ack_pending, info.ack_floor.stream_seq, info.num_pending) == (0, 4, 0)
        await js.delete_stream("ACKS")
        await c.close()
    run(go())


@pytest.mark.parametrize("storage", STORAGES)
def test_push_ordered_and_queue(js_server, storage):
    async def go():
        c, js = await connect(js_server)
        name = "PUSH_" + storage.value
        await fill(js, name, 300, storage)
        got, ordered, shared = [], [], [[], []]

        async def take(m):
            got.append(m.data)
            await m.ack()

        async def take_ordered(m):
            ordered.append(m.data)
        sub = await js.subscribe(name + ".>", durable="push", cb=take, stream=name, manual_ack=True)
        second = await js.subscribe(name + ".>", ordered_consumer=True, cb=take_ordered)
        members = []
        for i in range(2):
            async def take_shared(m, at=i):
                shared[at].append(m.data)
                await m.ack()
            members.append(await js.subscribe(name + ".>", queue="q", durable="q", cb=take_shared,
                                              stream=name, manual_ack=True))
        expected = [b"m%d" % i for i in range(300)]
        await until(lambda: len(got) == 300 and len(ordered) == 300, "300 messages")
        assert got == expected and ordered == expected
        await until(lambda: sum(map(len, shared)) == 300, "the group's messages")
        assert sorted(shared[0] + shared[1]) == sorted(expected)
        await js.publish(name + ".x", b"more")
        await until(lambda: got[-1] == b"more" and ordered[-1] == b"more", "one more")

        async def is_settled():
            return (await js.consumer_info(name, "push")).ack_floor.stream_seq == 301
        await until(is_settled, "the acks")
        # Nobody listens: nothing is delivered, nothing is lost.
        await sub.unsubscribe()
        await second.unsubscribe()
        for m in members:
            await m.unsubscribe()
        await js.publish(name + ".x", b"later")
        await js.subscribe(name + ".>", durable="push", cb=take, stream=name, manual_ack=True)
        await until(lambda: got[-1] == b"later", "what was published meanwhile")
        assert len(got) == 302
        await js.delete_stream(name)
        await c.close()
    run(go())


def test_where_a_consumer_starts(js_server):
    async def go():
        c, js = await connect(js_server)
        await fill(js, "START", 12)

        async def first(policy, count=1, subject="START.>", **more):
            config = ConsumerConfig(deliver_policy=policy, **more)
            ps = await js.pull_subscribe(subject, stream="START", config=config)
            return [m.data for m in await ps.fetch(count, timeout=T)]
        assert await first(DeliverPolicy.ALL) == [b"m0"]
        assert await first(DeliverPolicy.ALL, subject="START.2", count=3) == [b"m2", b"m6", b"m10"]
        assert await first(DeliverPolicy.LAST) == [b"m11"]
        assert await first(DeliverPolicy.LAST_PER_SUBJECT, count=4) == [b"m8", b"m9", b"m10", b"m11"]
        assert await first(DeliverPolicy.BY_START_SEQUENCE, opt_start_seq=7) == [b"m6"]
        await js.delete_stream("START")
        await c.close()
    run(go())


def test_work_queue_and_interest_streams_forget_what_is_acked(js_server):
    async def go():
        c, js = await connect(js_server)
        await fill(js, "WORK", 10, retention=RetentionPolicy.WORK_QUEUE)
        ps = await js.pull_subscribe("WORK.>", "w", stream="WORK")
        for m in await ps.fetch(4, timeout=T):
            await m.ack_sync(timeout=T)

        async def is_six():
            return (await js.stream_info("WORK")).state.messages == 6
        await until(is_six, "acked messages to go")
        await js.delete_stream("WORK")

        await js.add_stream(StreamConfig(name="INT", subjects=["int"],
                                         retention=RetentionPolicy.INTEREST))
        await js.publish("int", b"nobody")
        one = await js.pull_subscribe("int", "one", stream="INT")
        two = await js.pull_subscribe("int", "two", stream="INT")
        await js.publish("int", b"both")
        assert (await js.stream_info("INT")).state.messages == 1
        await (await one.fetch(1, timeout=T))[0].ack_sync(timeout=T)
        assert (await js.stream_info("INT")).state.messages == 1
        m = (await two.fetch(1, timeout=T))[0]
        assert m.data == b"both"
        await m.ack_sync(timeout=T)

        async def is_empty():
            return (await js.stream_info("INT")).state.messages == 0
        await until(is_empty, "the message to go")
        await js.delete_stream("INT")
        await c.close()
    run(go())


@pytest.mark.parametrize("storage", STORAGES)
def test_key_value(js_server, storage):
    async def go():
        c, js = await connect(js_server)
        kv = await js.create_key_value(bucket="kv_" + storage.value, history=5, storage=storage)
        for i in range(3):
            assert await kv.put("a.b", b"v%d" % i) == i + 1
        await kv.put("c", b"x")
        e = await kv.get("a.b")
        assert (e.value, e.revision) == (b"v2", 3)
        assert (await kv.get("a.b", revision=2)).value == b"v1"
        assert [h.value for h in await kv.history("a.b")] == [b"v0", b"v1", b"v2"]
        with pytest.raises(KeyWrongLastSequenceError):
            await kv.update("a.b", b"z", last=1)
        assert await kv.update("a.b", b"z", last=3) == 5
        watcher = await kv.watchall()
        seen = []
        while True:
            e = await watcher.updates(timeout=T)
            if e is None:
                break
            seen.append((e.key, e.value))
        assert seen == [("c", b"x"), ("a.b", b"z")]
        await kv.delete("c")
        e = await watcher.updates(timeout=T)
        assert (e.key, e.operation) == ("c", "DEL")
        await watcher.stop()
        assert await kv.keys() == ["a.b"]
        with pytest.raises(KeyNotFoundError):
            await kv.get("c")
        await kv.purge("a.b")
        assert (await kv.status()).values == 3
        await js.delete_key_value("kv_" + storage.value)
        await c.close()
    run(go())


def test_object_store(js_server):
    async def go():
        c, js = await connect(js_server)
        store = await js.create_object_store("ob", config=ObjectStoreConfig())
        data = b"0123456789" * 100000
        info = await store.put("file", data)
        assert (info.size, info.chunks) == (len(data), 8)
        assert (await store.get("file")).data == data
        assert [x.name for x in await store.list()] == ["file"]
        await store.delete("file")
        await c.close()
    run(go())


def test_a_restart_keeps_consumers(start, tmp_path):
    folder = str(tmp_path / "store")
    s = start("-js", "-sd", folder)

    async def before():
        c, js = await connect(s)
        await fill(js, "R", 20)
        ps = await js.pull_subscribe("R.>", "dur", stream="R")
        got = await ps.fetch(8, timeout=T)
        for m in got[:5]:
            await m.ack_sync(timeout=T)
        await js.add_consumer("R", ConsumerConfig(durable_name="gone",
                                                  ack_policy=AckPolicy.EXPLICIT))
        await js.delete_consumer("R", "gone")
        kv = await js.create_key_value(bucket="k", history=1)
        await kv.put("x", b"y")
        await c.close()
    run(before())
    assert s.stop() == 0
    again = start("-js", "-sd", folder)

    async def after():
        c, js = await connect(again)
        info = await js.consumer_info("R", "dur")
        assert (info.delivered.stream_seq, info.ack_floor.stream_seq, info.num_ack_pending,
                info.num_pending) == (8, 5, 3, 12)
        assert [x.name for x in await js.consumers_info("R")] == ["dur"]
        ps = await js.pull_subscribe("R.>", "dur", stream="R")
        assert [m.data for m in await ps.fetch(2, timeout=T)] == [b"m8", b"m9"]
        assert (await (await js.key_value("k")).get("x")).value == b"y"
        await c.close()
    run(after())


def test_what_a_pull_request_is_told(js_server):
    async def go():
        c, js = await connect(js_server)
        await fill(js, "TOLD", 2)
        await js.add_consumer("TOLD", ConsumerConfig(durable_name="d",
                                                     ack_policy=AckPolicy.EXPLICIT))
        inbox = c.new_inbox()
        sub = await c.subscribe(inbox)
        subject = "$JS.API.CONSUMER.MSG.NEXT.TOLD.d"
        await c.publish(subject, json.dumps({"batch": 5, "no_wait": True}).encode(), reply=inbox)
        assert [(await sub.next_msg(timeout=T)).data for _ in range(2)] == [b"m0", b"m1"]
        end = await sub.next_msg(timeout=T)
        assert end.headers["Status"] == "404"
        await c.publish(subject, json.dumps({"batch": 1, "expires": 100_000_000}).encode(),
                        reply=inbox)
        end = await sub.next_msg(timeout=T)
        assert (end.headers["Status"], end.headers["Nats-Pending-Messages"]) == ("408", "1")
        await c.publish(subject, b'{"batch": 1, "expires": 5000000000}', reply=inbox)
        await c.flush()
        await js.delete_consumer("TOLD", "d")
        end = await sub.next_msg(timeout=T)
        assert (end.headers["Status"], end.headers["Description"]) == ("409", "Consumer Deleted")
        await js.add_consumer("TOLD", ConsumerConfig(durable_name="e", max_ack_pending=1))
        await c.publish("$JS.API.CONSUMER.MSG.NEXT.TOLD.e", json.dumps({
            "batch": 5, "no_wait": True, "expires": 60 * 10**9, "idle_heartbeat": 10**8}).encode(),
                        reply=inbox)
        assert (await sub.next_msg(timeout=T)).data == b"m0"
        end = await sub.next_msg(timeout=T)  # stands still at max_ack_pending
        assert end.headers["Status"] == "404"
        await js.delete_stream("TOLD")
        await c.close()
    run(go())


def test_who_waits_is_told_of_the_shutdown(start, tmp_path):
    s = start("-js", "-sd", str(tmp_path / "store"))

    async def go():
        c = await nats.connect(s.url, allow_reconnect=False)
        js = c.jetstream(timeout=T)
        await fill(js, "S", 1)
        await js.add_consumer("S", ConsumerConfig(durable_name="d"))
        inbox = c.new_inbox()
        sub = await c.subscribe(inbox)
        await c.publish("$JS.API.CONSUMER.MSG.NEXT.S.d", b'{"batch": 3, "expires": 30000000000}',
                        reply=inbox)
        assert (await sub.next_msg(timeout=T)).data == b"m0"
        s.signal(signal.SIGTERM)
        end = await sub.next_msg(timeout=T)
        assert (end.headers["Status"], end.headers["Description"]) == ("409", "Server Shutdown")
        assert end.headers["Nats-Pending-Messages"] == "2"
    run(go())


@pytest.mark.ours_only
def test_clients_of_every_shard(start, tmp_path):
    """Streams live on one shard, clients on all: publishes, acks, deliveries and interest go by mail."""
    s = start("-js", "-sd", str(tmp_path / "store"), "--shards", "3")

    async def go():
        pairs = [await connect(s) for _ in range(6)]
        await fill(pairs[0][1], "S", 50)
        big = b"b" * 200000
        for at, (c, js) in enumerate(pairs):
            ack = await js.publish("S.big", big)
            assert (await js.get_msg("S", ack.seq)).data == big
            got = []

            async def take(m, got=got):
                got.append(m.data)
                await m.ack()
            sub = await js.subscribe("S.>", durable="p%d" % at, cb=take, stream="S", manual_ack=True)
            await until(lambda: len(got) == 51 + at, "all messages on connection %d" % at)
            assert got[:50] == [b"m%d" % i for i in range(50)] and got[50] == big
            ps = await js.pull_subscribe("S.>", "q%d" % at, stream="S")
            for m in await ps.fetch(51 + at, timeout=T):
                await m.ack_sync(timeout=T)
            # The subscription goes and comes back on another connection, perhaps of another shard.
            await sub.unsubscribe()
            await js.publish("S.more", b"more")
            await js.delete_msg("S", (await js.stream_info("S")).state.last_seq)
            _, other = pairs[at - 1]
            again = await other.subscribe("S.>", durable="p%d" % at, cb=take, stream="S",
                                          manual_ack=True)
            await js.publish("S.last", b"last%d" % at)
            await until(lambda: got[-1] == b"last%d" % at, "delivery on the other connection")
            await again.unsubscribe()
            await js.delete_msg("S", (await js.stream_info("S")).state.last_seq)
        kv = await pairs[1][1].create_key_value(bucket="k")
        watcher = await (await pairs[2][1].key_value("k")).watchall()
        assert await watcher.updates(timeout=T) is None
        await kv.put("x", b"y")
        assert (await watcher.updates(timeout=T)).value == b"y"
        for c, _ in pairs:
            await c.close()
    run(go())


@pytest.mark.ours_only
@pytest.mark.parametrize("shards", ["1", "2"])
def test_a_slow_receiver_is_waited_for(start, tmp_path, shards):
    """R5b: a push consumer without flow control does not run its receiver over."""
    s = start("-js", "-sd", str(tmp_path / "store"), "--shards", shards,
              monitor=True)
    c = s.connect()
    other = s.connect()  # of another shard, where there are two
    other.request_json("$JS.API.STREAM.CREATE.B",
                       {"name": "B", "subjects": ["b"], "storage": "memory"})
    other.send((b"PUB b 10000\r\n" + b"x" * 10000 + b"\r\n") * 7000).ping()
    info = other.request_json("$JS.API.STREAM.INFO.B")
    assert info["state"]["messages"] == 7000
    c.send("SUB d 1\r\n").ping()
    config = {"stream_name": "B", "config": {"durable_name": "d", "deliver_subject": "d",
                                             "ack_policy": "none"}}
    other.request_json("$JS.API.CONSUMER.DURABLE.CREATE.B.d", config)
    time.sleep(0.3)  # 70 MB come through a queue of 64 while nobody reads
    left = 7000 * len(b"MSG b 1 $JS.ACK.B.d.1. 10000\r\n" + b"x" * 10000 + b"\r\n")
    while left > 0:
        try:
            got = c.socket.recv(1 << 20)
        except TimeoutError:
            raise AssertionError("%d bytes to come: %s %s" % (
                left, s.http("/connz?subs=1")[2], s.http("/jsz?consumers=1")[2])) from None
        assert got, "closed with %d bytes to come: %s" % (left, s.log())
        left -= len(got)
    other.close()
    c.close()
