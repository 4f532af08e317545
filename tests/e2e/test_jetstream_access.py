"""JetStream for users who may not do everything, for accounts beside each other, and over TLS.
Everything here passes on nats-server too."""
import asyncio
import json

import nats
import pytest
from nats.js.api import StreamConfig

from harness import SLOW, Server, wait_until
from jetstream import Js
from test_jetstream_streams import run
from test_tls import Certs

CONFIG = """
jetstream { store_dir: %s/store, max_mem: 1GB, max_file: 2GB }
accounts {
  A { jetstream: enabled, users [
    {user: a, password: p}
    {user: noapi, password: p, permissions {publish {deny: ["$JS.API.>"]}}}
    {user: noack, password: p, permissions {publish {deny: ["$JS.ACK.>"]}}}
    {user: only, password: p
     permissions {publish {allow: ["s.>"]}, subscribe {allow: ["_INBOX.>"]}}}
    {user: answers, password: p, permissions {subscribe {allow: ["to", "_INBOX.>"]}
     publish {allow: ["$JS.API.>"]}, allow_responses: true}}
  ] }
  B { jetstream { max_file: 20000, max_streams: 1 }, users [{user: b, password: p}] }
}
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("access")
    s = Server(folder, config=CONFIG % folder)
    yield s
    assert s.stop() == 0


def login(server, user):
    return Js(server, user=user, **{"pass": "p"})


@pytest.fixture
def a(server):
    """The first user of account A, with a stream of three messages and a consumer."""
    with login(server, "a") as j:
        j.stream("S", subjects=["s.>"], allow_direct=True)
        for i in range(3):
            j.publish("s.%d" % i, b"m%d" % i)
        j.consumer("S", "C", ack_policy="explicit")
        yield j
        j.api("STREAM.DELETE.S")


def denied(j, subject):
    """The next line refuses a publish to that subject."""
    line = j.c.raw_line().decode()
    return line.strip() == "-ERR 'Permissions Violation for Publish to \"%s\"'" % subject


def test_requests_that_a_user_may_not_make(server, a):
    with login(server, "noapi") as j:
        j.c.pub("$JS.API.STREAM.DELETE.S", reply="_INBOX.1")
        assert denied(j, "$JS.API.STREAM.DELETE.S")
        assert j.publish("s.9", b"x")["seq"] == 4
    with login(server, "only") as j:
        assert j.publish("s.9", b"x")["seq"] == 5
        j.c.pub("$JS.API.INFO", reply="_INBOX.1")
        assert denied(j, "$JS.API.INFO")
    assert a.state("S")["messages"] == 5


def test_acks_that_a_user_may_not_send(server, a):
    with login(server, "noack") as j:
        j.c.sub("_P", "p").pub("$JS.API.CONSUMER.MSG.NEXT.S.C", reply="_P")
        m = j.c.msg()
        j.c.pub(m.reply)
        assert denied(j, m.reply)
    assert a.ok("CONSUMER.INFO.S.C")["num_ack_pending"] == 1


def test_answers_that_a_user_may_send(server, a):
    with login(server, "answers") as j:
        j.c.sub("to", "t")
        j.ok("CONSUMER.CREATE.S.P", {"stream_name": "S", "config": {
            "name": "P", "deliver_subject": "to", "ack_policy": "explicit"}})
        m = j.c.msg()
        while m.sid != "t":
            m = j.c.msg()
        j.c.pub(m.reply)
        wait_until(lambda: a.ok("CONSUMER.INFO.S.P")["ack_floor"]["stream_seq"] == 1,
                   what="the ack")


def test_accounts_do_not_meet(server, a):
    with login(server, "b") as b:
        b.c.sub("$JS.EVENT.>", "e")
        assert b.ok("STREAM.NAMES")["streams"] is None
        assert b.refused("STREAM.INFO.S")[1] == 10059
        b.c.pub("s.1", b"foreign").pub("$JS.ACK.S.C.1.1.1.1.0")
        assert b.status("$JS.API.CONSUMER.MSG.NEXT.S.C")[0] == "503"
        assert b.status("$JS.API.DIRECT.GET.S", b'{"seq":1}')[0] == "503"
        assert a.state("S")["messages"] == 3
        a.ok("STREAM.DELETE.S")
        heard = []
        b.c.pub("end", reply="_INBOX.end").sub("end", "x")
        b.c.pub("end")
        while True:
            m = b.c.msg()
            if m.sid == "x":
                break
            heard.append(m)
        assert all(m.sid != "e" or json.loads(m.data)["client"]["acc"] == "B" for m in heard)


def test_an_account_that_is_full_is_no_other_s_matter(server, a):
    with login(server, "b") as b:
        b.stream("S", subjects=["s.>"])
        reply = {}
        for _ in range(30):
            reply = b.publish("s.1", b"x" * 1000)
            if "error" in reply:
                break
        assert reply["error"]["err_code"] == 10002
        assert b.refused_stream("T", subjects=["t"])[1] == 10027
        assert a.publish("s.1", b"x" * 1000)["seq"] == 4
        b.ok("STREAM.PURGE.S")
        assert "error" not in b.publish("s.1", b"x")
        b.ok("STREAM.DELETE.S")


def test_over_tls(start, tmp_path):
    certs = Certs(tmp_path)
    s = start("-js", "-sd", str(tmp_path / "store"), config=certs.block())
    body = b"x" * 300_000

    async def go():
        c = await nats.connect("tls://localhost:%d" % s.port, tls=certs.context())
        js = c.jetstream()
        await js.add_stream(StreamConfig(name="S", subjects=["s.>"]))
        acks = await asyncio.gather(*[js.publish("s.%d" % i, body) for i in range(8)])
        assert [x.seq for x in acks] == list(range(1, 9))
        ps = await js.pull_subscribe("s.>", "d", stream="S")
        got = []
        while len(got) < 8:
            got += await ps.fetch(8 - len(got), timeout=5 * SLOW)
        assert all(m.data == body for m in got)
        for m in got:
            await m.ack_sync(timeout=5 * SLOW)
        assert (await ps.consumer_info()).ack_floor.stream_seq == 8
        await c.close()
    run(go())
