"""The official Python client."""
import asyncio
import signal
import ssl

import nats
import nats.errors
import pytest

import nkey
from harness import SLOW
from test_tls import Certs


def run(coroutine):
    return asyncio.run(asyncio.wait_for(coroutine, 20 * SLOW))


@pytest.fixture(scope="module")
def certs(tmp_path_factory):
    return Certs(tmp_path_factory.mktemp("certs"))


def test_publish_subscribe(server):
    async def go():
        c = await nats.connect(server.url)
        got = asyncio.Queue()
        await c.subscribe("greet.*", cb=got.put)
        await c.publish("greet.joe", b"hello", headers={"k": "v"})
        m = await got.get()
        assert (m.subject, m.data, m.headers) == ("greet.joe", b"hello", {"k": "v"})
        await c.close()
    run(go())


def test_request_reply(server):
    async def go():
        c, d = await nats.connect(server.url), await nats.connect(server.url)

        async def answer(m):
            await m.respond(m.data + b"!")
        await c.subscribe("add", "workers", cb=answer)
        await c.flush()
        for i in range(100):
            assert (await d.request("add", b"%d" % i, timeout=5)).data == b"%d!" % i
        many = await asyncio.gather(*[d.request("add", b"%d" % i, timeout=5) for i in range(200)])
        assert [m.data for m in many] == [b"%d!" % i for i in range(200)]
        assert (await d.request("add", b"x", old_style=True, timeout=5)).data == b"x!"
        await c.close()
        await d.close()
    run(go())


def test_no_responders(server):
    async def go():
        c = await nats.connect(server.url)
        with pytest.raises(nats.errors.NoRespondersError):
            await c.request("nobody", b"", timeout=5)
        await c.close()
    run(go())


def test_queue_group(server):
    async def go():
        clients = [await nats.connect(server.url) for _ in range(3)]
        counts = [0, 0, 0]
        for i, c in enumerate(clients):
            async def count(_, i=i):
                counts[i] += 1
            await c.subscribe("work", "g", cb=count)
            await c.flush()
        p = await nats.connect(server.url)
        for _ in range(300):
            await p.publish("work", b"")
        await p.flush()
        for c in clients:
            await c.flush()
        await asyncio.sleep(0.05)
        assert sum(counts) == 300 and min(counts) > 20
        for c in clients + [p]:
            await c.close()
    run(go())


def test_drain(server):
    async def go():
        c, p = await nats.connect(server.url), await nats.connect(server.url)
        got = []

        async def slow(m):
            await asyncio.sleep(0.0005)
            got.append(m)
        await c.subscribe("d", cb=slow)
        await c.flush()
        for _ in range(200):
            await p.publish("d", b"x")
        await p.flush()
        await c.drain()
        assert len(got) == 200 and c.is_closed
        await p.close()
    run(go())


def test_unsubscribe_with_a_limit(server):
    async def go():
        c = await nats.connect(server.url)
        s = await c.subscribe("u")
        await s.unsubscribe(limit=3)
        for _ in range(10):
            await c.publish("u", b"")
        await c.flush()
        got = [m async for m in s.messages]
        assert len(got) == 3
        await c.close()
    run(go())


def test_max_payload(start):
    s = start(config="max_payload: 100\n")

    async def go():
        c = await nats.connect(s.url)
        assert c.max_payload == 100
        with pytest.raises(nats.errors.MaxPayloadError):
            await c.publish("a", b"x" * 101)
        await c.close()
    run(go())


def test_credentials(start):
    s = start(config="authorization { users [ {user: u, password: p} ] }\n")

    async def go():
        c = await nats.connect(s.url, user="u", password="p")
        await c.flush()
        await c.close()
        c = await nats.connect(s.url.replace("//", "//u:p@"))
        await c.close()
        with pytest.raises(Exception) as e:
            await nats.connect(s.url, user="u", password="wrong", allow_reconnect=False)
        assert "authorization violation" in str(e.value).lower()
    run(go())


def test_token_and_nkey(start, tmp_path):
    token = start("--auth", "t")
    key = nkey.Key()
    (tmp_path / "seed").write_text(key.seed)
    keyed = start(config="authorization { users [ {nkey: %s} ] }\n" % key.public)

    async def go():
        c = await nats.connect(token.url, token="t")
        await c.close()
        for options in ({"nkeys_seed_str": key.seed}, {"nkeys_seed": str(tmp_path / "seed")}):
            c = await nats.connect(keyed.url, **options)
            await c.flush()
            await c.close()
    run(go())


def test_permission_errors_reach_the_callback(start):
    s = start(config="authorization { users [ {user: u, password: p, permissions: {publish: ok, "
              "subscribe: ok}} ] }\n")

    async def go():
        errors = asyncio.Queue()
        c = await nats.connect(s.url, user="u", password="p", error_cb=errors.put)
        await c.publish("no", b"")
        await c.subscribe("no")
        await c.flush()
        texts = [str(await errors.get()).lower(), str(await errors.get()).lower()]
        assert 'permissions violation for publish to "no"' in texts[0]
        assert 'permissions violation for subscription to "no"' in texts[1]
        assert c.is_connected
        await c.close()
    run(go())


@pytest.mark.parametrize("first", [False, True])
def test_tls(start, certs, first):
    s = start(config=certs.block("handshake_first: true" if first else "verify: true"))

    async def go():
        context = ssl.create_default_context(cafile=certs.path("ca.pem"))
        context.load_cert_chain(certs.path("client.pem"), certs.path("client.key"))
        c = await nats.connect("tls://localhost:%d" % s.port, tls=context,
                               tls_handshake_first=first)
        await c.flush()
        await c.close()
    run(go())


def test_reconnect(start):
    s = start()
    port = s.port

    async def go():
        again = asyncio.Event()

        async def back():
            again.set()
        c = await nats.connect(s.url, reconnect_time_wait=0.05, max_reconnect_attempts=-1,
                               reconnected_cb=back)
        got = asyncio.Queue()
        await c.subscribe("again", cb=got.put)
        await c.flush()
        s.kill()
        t = start("-p", str(port))
        await again.wait()
        await c.publish("again", b"x")
        assert (await got.get()).data == b"x"
        await c.close()
        assert t.connect().ping() == []
    run(go())


def test_lame_duck(start):
    s = start(config='lame_duck_duration: "30s"\nlame_duck_grace_period: "300ms"\n')

    async def go():
        told = asyncio.Event()

        async def lame():
            told.set()
        c = await nats.connect(s.url, lame_duck_mode_cb=lame, allow_reconnect=False)
        await c.flush()
        s.signal(signal.SIGUSR2)
        await told.wait()
        await c.close()
    run(go())
    assert s.wait_exit() == 0


def test_counters_of_varz_and_connz(start):
    """The client's own suite checks these numbers."""
    s = start(monitor=True)

    async def go():
        c = await nats.connect(s.url)
        await c.subscribe("one")
        for i in range(5):
            await c.publish("one", b"hello" * i)
        await c.flush()
        v = s.page("/varz")
        assert (v["in_msgs"], v["in_bytes"], v["out_msgs"], v["out_bytes"]) == (5, 50, 5, 50)
        k = s.page("/connz")["connections"][0]
        assert (k["in_msgs"], k["in_bytes"], k["out_msgs"], k["out_bytes"], k["subscriptions"]) == (
            5, 50, 5, 50, 1)
        assert k["lang"] == "python3"
        await c.close()
    run(go())


def test_many_messages_in_order(server):
    async def go():
        c, p = await nats.connect(server.url), await nats.connect(server.url)
        got, done = [], asyncio.Event()

        async def note(m):
            got.append(int(m.data))
            if len(got) == 10000:
                done.set()
        await c.subscribe("bulk.>", cb=note, pending_msgs_limit=-1, pending_bytes_limit=-1)
        await c.flush()
        for i in range(10000):
            await p.publish("bulk.%d" % (i % 5), b"%d" % i)
        await p.flush()
        await done.wait()
        assert got == list(range(10000))
        await c.close()
        await p.close()
    run(go())
