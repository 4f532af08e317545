"""Load on JetStream by clients that remember everything they were told, for tests that take the
server away from under them.

A worker is one kind of use: it runs until its connection is gone, and after the next start says
what of its memory is no longer true. An answer that never came leaves a question that both outcomes
answer; everything else is exact. What is wrong goes into Memory.wrong, by kind.
"""
import asyncio
import contextlib
import json
import random


WRONG_LAST_SEQUENCE = 10071
EXAMPLES = 3  # told of each kind


class Gone(Exception):
    """The connection ended before the answer came."""


class Reply:
    __slots__ = ("subject", "reply", "headers", "data")

    def __init__(self, subject, reply, headers, data):
        self.subject, self.reply, self.headers, self.data = subject, reply, headers, data

    def status(self):
        return int(self.headers[9:12]) if self.headers[9:12].isdigit() else 0

    def header(self, name):
        for line in self.headers.split("\r\n")[1:]:
            if line.startswith(name + ":"):
                return line[len(name) + 1:].strip()
        return None


def ack_of(r):
    """(sequence, whether it is a duplicate, error code) of the answer to a publish; 0 for none."""
    ack = json.loads(r.data) if r.data.startswith(b"{") else {}
    error = ack.get("error", {}).get("err_code", 0 if "seq" in ack else -1)
    return 0 if error else ack["seq"], ack.get("duplicate", False), error


class Client(asyncio.Protocol):
    """Raw protocol; answers by the last token of their inbox, deliveries by subscription."""

    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.buffer = bytearray()
        self.waiting = {}
        self.targets = {}
        self.count = 0
        self.gone = self.loop.create_future()
        self.ready = self.loop.create_future()
        self.transport = None

    @classmethod
    async def connect(cls, port):
        _, c = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        c.write(b'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\n'
                b"SUB _I.%d.* 1\r\nPING\r\n" % id(c))
        await asyncio.wait_for(asyncio.wait((c.ready, c.gone), return_when="FIRST_COMPLETED"), 20)
        if not c.ready.done():
            raise Gone
        return c

    def connection_made(self, transport):
        self.transport = transport

    def connection_lost(self, exc):
        if not self.gone.done():
            self.gone.set_result(None)
        waiting, self.waiting = self.waiting, {}
        for answer in waiting.values():
            answer(None)

    def cut(self):
        """From now on nothing that is said is heard."""
        self.transport.abort()
        self.data_received = lambda data: None
        self.connection_lost(None)

    def write(self, data):
        if self.gone.done() or self.transport.is_closing():
            raise Gone
        self.transport.write(data)

    def data_received(self, data):
        b = self.buffer
        b += data
        at = 0
        while True:
            end = b.find(b"\r\n", at)
            if end < 0:
                break
            verb = b[at:at + 3]
            if verb in (b"MSG", b"HMS"):
                words = b[at:end].decode().split(" ")
                size = int(words[-1])
                if len(b) < end + 4 + size:
                    break
                head = int(words[-2]) if verb == b"HMS" else 0
                reply = words[3] if len(words) == (6 if head else 5) else None
                body = bytes(b[end + 2:end + 2 + size])
                at = end + 4 + size
                self.take(words[1], words[2], reply, body[:head].decode(), body[head:])
                continue
            if verb == b"PIN":
                self.transport.write(b"PONG\r\n")
            elif verb == b"PON" and not self.ready.done():
                self.ready.set_result(None)
            at = end + 2
        del b[:at]

    def take(self, subject, sid, reply, headers, data):
        r = Reply(subject, reply, headers, data)
        if sid != "1":
            with contextlib.suppress(Gone):
                self.targets[sid](r)
            return
        answer = self.waiting.pop(int(subject.rsplit(".", 1)[1]), None)
        if answer is not None:
            answer(r)

    def subscribe(self, subject, target):
        self.count += 1
        sid = "s%d" % self.count
        self.targets[sid] = target
        self.write(b"SUB %s %s\r\n" % (subject.encode(), sid.encode()))

    def publish(self, subject, data, reply=None, headers=None):
        reply = b"" if reply is None else reply.encode() + b" "
        if headers is None:
            self.write(b"PUB %s %s%d\r\n%s\r\n" % (subject.encode(), reply, len(data), data))
            return
        head = "NATS/1.0\r\n" + "".join("%s: %s\r\n" % h for h in headers.items()) + "\r\n"
        head = head.encode()
        self.write(b"HPUB %s %s%d %d\r\n%s%s\r\n" % (
            subject.encode(), reply, len(head), len(head) + len(data), head, data))

    def ask(self, answer, subject, data=b"", headers=None):
        """answer(Reply) comes later, answer(None) if the connection goes."""
        self.count += 1
        self.waiting[self.count] = answer
        self.publish(subject, data, "_I.%d.%d" % (id(self), self.count), headers)

    async def request(self, subject, data=b"", headers=None, seconds=30):
        future = self.loop.create_future()
        self.ask(lambda r: future.done() or future.set_result(r), subject, data, headers)
        r = await asyncio.wait_for(future, seconds)
        if r is None:
            raise Gone
        return r

    async def api(self, subject, body=None):
        data = b"" if body is None else json.dumps(body).encode()
        return json.loads((await self.request("$JS.API." + subject, data)).data)

    async def read_all(self, stream, first=1):
        """Every message from sequence first on: [(sequence, subject, body, headers)]."""
        out = []
        more = True
        while more:
            done = self.loop.create_future()
            batch = []
            inbox = "_B.%d.%d" % (id(self), self.count)

            def take(r, batch=batch, done=done):
                if r.status() != 0 and not done.done():
                    done.set_result(r.status())
                elif r.header("Nats-Sequence") is not None:
                    batch.append((int(r.header("Nats-Sequence")), r.header("Nats-Subject"),
                                  r.data, r.headers))
            self.subscribe(inbox, take)
            sid = "s%d" % self.count
            self.publish("$JS.API.DIRECT.GET." + stream,
                         json.dumps({"seq": first, "batch": 500}).encode(), inbox)
            await asyncio.wait((done, self.gone), timeout=30, return_when="FIRST_COMPLETED")
            if self.gone.done():
                raise Gone
            if not done.done():
                raise asyncio.TimeoutError("direct get of " + stream)
            self.write(b"UNSUB %s\r\n" % sid.encode())
            del self.targets[sid]
            out += batch
            more = len(batch) == 500
            first = out[-1][0] + 1 if out else first
        return out


class Memory:
    """What all workers share: the dice, what went wrong, and counts. pace: seconds that a worker
    rests for each thing it asked for."""

    def __init__(self, seed, pace=0.0):
        self.dice = random.Random(seed)
        self.pace = pace
        self.wrong = {}
        self.examples = []
        self.counts = {}

    def is_wrong(self, kind, text, count=1):
        if count > 0:
            before = self.wrong.get(kind, 0)
            self.wrong[kind] = before + count
            if before < EXAMPLES:
                self.examples.append("%s: %s" % (kind, text))

    def count(self, name, by=1):
        self.counts[name] = self.counts.get(name, 0) + by

    async def rest(self, asked=1):
        if self.pace > 0:
            await asyncio.sleep(asked * self.pace)


async def make_stream(c, name, **config):
    r = await c.api("STREAM.CREATE." + name, {"name": name, "storage": "file", "num_replicas": 1,
                                              "allow_direct": True, **config})
    assert "error" not in r, r


async def state_of(c, m, stream):
    """None, and a note of it, if the stream is gone."""
    r = await c.api("STREAM.INFO." + stream)
    if "error" in r:
        m.is_wrong("stream lost", "%s: %s" % (stream, r["error"]["description"]))
        return None
    return r["state"]


class Publisher:
    """Many at once, each with a message id; what got no answer is sent again after the start."""

    def __init__(self, m, ledger, number, window=64):
        self.m, self.ledger, self.number, self.window = m, ledger, number, window
        self.unknown = {}  # id -> nothing; in the order of sending
        self.next = 0
        self.room = None
        self.recent = []
        self.is_over = False

    def subject(self):
        return "%s.%d" % (self.ledger.subject, self.number)

    def body_of(self, name):
        return (name + " ").encode().ljust(40 + hash_of(name) % 400, b".")

    def send(self, c, name):
        def answer(r):
            self.room.set()
            if r is None:
                return
            self.in_flight -= 1
            self.unknown.pop(name, None)
            seq, _, _ = ack_of(r)
            if seq == 0:
                self.m.count("refused")
                self.ledger.sent.discard(name)
                return
            self.ledger.seen(seq, name)
            self.recent.append((name, seq))
            self.m.count("acknowledged")
        self.in_flight += 1
        c.ask(answer, self.subject(), self.body_of(name), {"Nats-Msg-Id": name})

    async def run(self, c):
        self.in_flight = 0
        self.room = asyncio.Event()
        for name in list(self.unknown):
            self.send(c, name)
        while not self.is_over:
            await self.m.rest(self.window - self.in_flight)
            while self.in_flight < self.window:
                self.next += 1
                name = "%s-%d-%d" % (self.ledger.stream, self.number, self.next)
                self.unknown[name] = None
                self.ledger.sent.add(name)
                self.send(c, name)
            self.room.clear()
            await asyncio.wait_for(self.room.wait(), 30)
            if c.gone.done():
                raise Gone
        while self.in_flight > 0 and not c.gone.done():
            await asyncio.sleep(0.01)

    async def check(self, c):
        """What was acknowledged within the window is a duplicate of itself."""
        recent, self.recent = self.recent[-200:], []
        for name, seq in self.m.dice.sample(recent, min(5, len(recent))):
            r = await c.request(self.subject(), self.body_of(name), {"Nats-Msg-Id": name})
            again, is_duplicate, _ = ack_of(r)
            self.m.count("repeated")
            if again != seq or not is_duplicate:
                self.m.is_wrong("stored twice", "%s at %d again: %s" % (name, seq, r.data))
                self.ledger.again.add(again)


def hash_of(name):
    return sum(name.encode()) * 7919


class Ledger:
    """A stream of publishers: which id stands under which sequence."""

    def __init__(self, m, stream, subject, is_queue=False):
        self.m, self.stream, self.subject, self.is_queue = m, stream, subject, is_queue
        self.known = {}  # sequence -> id: acknowledged, or seen by anybody
        self.sent = set()
        self.again = set()
        self.floor = 1  # purged below, and confirmed
        self.floor_unknown = 1
        self.highest = 0
        self.consumers = []

    def seen(self, seq, name):
        if self.is_queue and seq <= self.consumers[0].below:
            return  # acked long ago; its publisher had not heard of it
        before = self.known.setdefault(seq, name)
        if before != name:
            self.m.is_wrong("sequence reused",
                            "%s %d: %s, then %s" % (self.stream, seq, before, name))
        self.highest = max(self.highest, seq)

    async def check(self, c):
        state = await state_of(c, self.m, self.stream)
        if state is None:
            self.m.is_wrong("lost", self.stream, len(self.known))
            return
        if state["last_seq"] < self.highest:
            self.m.is_wrong("sequence went back", "%s: %d, was %d" % (
                self.stream, state["last_seq"], self.highest))
        there = await c.read_all(self.stream, 1)
        self.m.count("read", len(there))
        got, last = {}, {}
        for seq, subject, body, _ in there:
            name = body.split(b" ", 1)[0].decode()
            if seq < self.floor:
                self.m.is_wrong("came back", "%s %d is purged" % (self.stream, seq))
                continue
            if name not in self.sent:
                self.m.is_wrong("never sent", "%s %d: %s" % (self.stream, seq, name))
            got[seq] = name
            number = int(name.rsplit("-", 1)[1])
            if number <= last.get(subject, 0) and seq not in self.again:
                kind = "stored twice" if number == last[subject] else "out of order"
                self.m.is_wrong(kind, "%s %d: %s" % (self.stream, seq, name))
            last[subject] = max(number, last.get(subject, 0))
        if self.floor_unknown > self.floor:  # all of a purge, or nothing of it
            below = [s for s in self.known if s < self.floor_unknown and s not in self.gone_by_ack()]
            left = sum(1 for s in below if s in got)
            if left == 0:
                self.floor = self.floor_unknown
        self.floor_unknown = self.floor
        self.forget()
        maybe, gone = self.gone_by_ack(), self.gone_surely()
        for seq, name in self.known.items():
            if seq in got:
                if got[seq] != name:
                    self.m.is_wrong("sequence reused", "%s %d: %s, now %s" % (
                        self.stream, seq, name, got[seq]))
                if seq in gone:
                    self.m.is_wrong("came back", "%s %d was acked" % (self.stream, seq))
            elif seq not in maybe:
                self.m.is_wrong("lost", "%s %d %s" % (self.stream, seq, name))
        for seq, name in got.items():
            self.known.setdefault(seq, name)
            self.highest = max(self.highest, seq)
        for consumer in self.consumers:
            await consumer.check_floor(c, state)

    def gone_by_ack(self):
        return self.consumers[0].acked if self.is_queue else ()

    def gone_surely(self):
        return self.consumers[0].confirmed if self.is_queue else ()

    def forget(self):
        for seq in [s for s in self.known if s < self.floor]:
            self.sent.discard(self.known.pop(seq))


class Trimmer:
    """Purges what is old, now and then."""

    def __init__(self, m, ledger, keep):
        self.m, self.ledger, self.keep = m, ledger, keep

    async def run(self, c):
        ledger = self.ledger
        while True:
            await asyncio.wait((c.gone,), timeout=self.m.dice.uniform(0.05, 0.4))
            if c.gone.done():
                raise Gone
            to = ledger.highest - self.keep
            for consumer in ledger.consumers:
                to = min(to, consumer.below + 1)
            if to <= ledger.floor:
                continue
            ledger.floor_unknown = to
            r = await c.api("STREAM.PURGE." + ledger.stream, {"seq": to})
            if "error" not in r:
                ledger.floor = to
                ledger.forget()
                self.m.count("purges")

    async def check(self, c):
        pass


class Fetcher:
    """A durable pull consumer: acks with an answer, without one, refuses some, and holds its
    floor and what comes again against what was confirmed."""

    def __init__(self, m, ledger, name):
        self.m, self.ledger, self.name = m, ledger, name
        self.acked = set()      # an ack was sent
        self.confirmed = set()  # and answered
        self.below = 0          # all up to here are confirmed, or purged
        self.old = set()        # confirmed before this connection
        self.old_below = 0
        ledger.consumers.append(self)

    def config(self):
        return {"stream_name": self.ledger.stream, "config": {
            "durable_name": self.name, "ack_policy": "explicit", "ack_wait": 2000000000,
            "max_ack_pending": 2000}}

    async def make(self, c):
        r = await c.api("CONSUMER.DURABLE.CREATE.%s.%s" % (self.ledger.stream, self.name),
                        self.config())
        assert "error" not in r, r

    def take(self, c, r):
        words = r.reply.split(".")
        seq, name = int(words[5]), r.data.split(b" ", 1)[0].decode()
        self.m.count("delivered")
        if seq in self.old or seq <= self.old_below:
            self.m.is_wrong("acked came again", "%s %d" % (self.ledger.stream, seq))
        self.ledger.seen(seq, name)
        if name not in self.ledger.sent:
            self.m.is_wrong("never sent", "%s delivered %s" % (self.name, name))
        luck = self.m.dice.random()
        if luck < 0.01:
            c.publish(r.reply, b"-NAK")
        elif luck < 0.05:
            self.acked.add(seq)
            c.publish(r.reply, b"+ACK")
        elif luck < 0.99:
            self.acked.add(seq)

            def answer(a):
                if a is not None and a.status() == 0:
                    self.confirmed.add(seq)
                    self.m.count("acks")
            c.ask(answer, r.reply, b"+ACK")

    async def run(self, c):
        self.old, self.old_below = set(self.confirmed), self.below
        wake = asyncio.Event()
        left = [0]

        def take(r):
            if r.status() != 0:
                left[0] = 0
            else:
                left[0] -= 1
                self.take(c, r)
            if left[0] <= 0:
                wake.set()
        c.subscribe("_P.%d" % id(self), take)
        c.gone.add_done_callback(lambda _: wake.set())
        while True:
            left[0] = 100
            wake.clear()
            c.publish("$JS.API.CONSUMER.MSG.NEXT.%s.%s" % (self.ledger.stream, self.name),
                      b'{"batch":100,"expires":500000000}', "_P.%d" % id(self))
            await asyncio.wait_for(wake.wait(), 30)
            if c.gone.done():
                raise Gone

    async def check(self, c):
        pass  # by its ledger, which has read the stream

    async def check_floor(self, c, state):
        r = await c.api("CONSUMER.INFO.%s.%s" % (self.ledger.stream, self.name))
        if "error" in r:
            self.m.is_wrong("consumer lost", r["error"]["description"])
            return
        floor, delivered = r["ack_floor"]["stream_seq"], r["delivered"]["stream_seq"]
        if not floor <= delivered <= max(state["last_seq"], delivered if floor == 0 else 0):
            self.m.is_wrong("ack floor", "%s: floor %d, delivered %d, last %d" % (
                self.name, floor, delivered, state["last_seq"]))
        known, sure = self.ledger.known, self.below
        start = max(self.below + 1, self.ledger.floor)
        for seq in range(start, self.ledger.highest + 1):
            if seq not in self.confirmed:
                break
            sure = seq
        if floor < sure:
            self.m.is_wrong("ack floor", "%s: floor %d, confirmed up to %d" % (
                self.name, floor, sure))
        for seq in range(start, floor + 1):
            if seq in known and seq not in self.acked:
                self.m.is_wrong("skipped", "%s: floor %d, %d was never acked" % (
                    self.name, floor, seq))
        # A floor that a start gave is on disk: what lies below it is not looked at again.
        self.below = max(self.below, floor)
        for s in (self.acked, self.confirmed):
            s.difference_update([q for q in s if q <= self.below])
        if self.ledger.is_queue:
            for seq in [q for q in known if q <= self.below]:
                self.ledger.sent.discard(known.pop(seq))


class Eraser:
    """One request at a time to its own subjects of a shared stream, whose content is known to the
    message: publish, erase one, purge a subject, purge all but a few."""

    def __init__(self, m, number, stream="ERASE"):
        self.m, self.number, self.stream = m, number, stream
        self.model = {}  # sequence -> (subject, body)
        self.highest = 0
        self.open = None
        self.next = 0

    async def run(self, c):
        dice = self.m.dice
        while True:
            await self.m.rest()
            luck = dice.random()
            if luck < 0.7 or not self.model:
                self.next += 1
                subject = "erase.%d.%d" % (self.number, dice.randrange(5))
                body = b"%d-%d" % (self.number, self.next)
                self.open = ("publish", subject, body)
                seq, _, _ = ack_of(await c.request(subject, body))
                if seq == 0:
                    self.m.count("refused")
                    continue
                self.model[seq] = (subject, body)
                self.highest = seq
                self.m.count("acknowledged")
            elif luck < 0.95:
                seq = dice.choice(list(self.model))
                self.open = ("erase", seq)
                r = await c.api("STREAM.MSG.DELETE." + self.stream,
                                {"seq": seq, "no_erase": dice.random() < 0.5})
                if r.get("success"):
                    del self.model[seq]
                    self.m.count("deletes")
            else:
                subject = "erase.%d.%s" % (self.number, dice.choice("01234>"))
                keep = dice.choice((0, 0, 2))
                self.open = ("purge", subject, keep)
                body = {"filter": subject}
                if keep:
                    body["keep"] = keep
                r = await c.api("STREAM.PURGE." + self.stream, body)
                if r.get("success"):
                    self.purge(subject, keep)
                    self.m.count("purges")
            self.open = None

    def purge(self, subject, keep):
        mine = [s for s, (of, _) in sorted(self.model.items())
                if subject.endswith(">") or of == subject]
        for seq in mine[:len(mine) - keep]:
            del self.model[seq]

    def check_against(self, there):
        mine = {seq: (subject, body) for seq, subject, body, _ in there
                if subject.startswith("erase.%d." % self.number)}
        before = dict(self.model)
        if mine != self.model and self.open is not None:
            if self.open[0] == "publish":
                more = set(mine) - set(self.model)
                if len(more) == 1 and mine[next(iter(more))] == self.open[1:]:
                    self.model.update({s: mine[s] for s in more})
            elif self.open[0] == "erase":
                self.model.pop(self.open[1], None)
            else:
                self.purge(*self.open[1:])
            if mine != self.model:
                self.model = before
        self.open = None
        for seq in set(self.model) - set(mine):
            self.m.is_wrong("lost", "%s %d %s" % (self.stream, seq, self.model[seq]))
        for seq in set(mine) - set(self.model):
            self.m.is_wrong("came back", "%s %d %s" % (self.stream, seq, mine[seq]))
        for seq in set(mine) & set(self.model):
            if mine[seq] != self.model[seq]:
                self.m.is_wrong("sequence reused", "%s %d %s, was %s" % (
                    self.stream, seq, mine[seq], self.model[seq]))
        self.model = mine

    async def check(self, c):
        pass  # by Erasers


class Erasers:
    """The stream of some: read once for all of them."""

    def __init__(self, m, count):
        self.m = m
        self.each = [Eraser(m, i) for i in range(count)]

    async def check(self, c):
        state = await state_of(c, self.m, "ERASE")
        if state is None:
            self.m.is_wrong("lost", "ERASE", sum(len(e.model) for e in self.each))
            return
        highest = max(e.highest for e in self.each)
        if state["last_seq"] < highest:
            self.m.is_wrong("sequence went back", "ERASE: %d, was %d" % (
                state["last_seq"], highest))
        there = await c.read_all("ERASE")
        for e in self.each:
            e.check_against(there)


class Keys:
    """Compare-and-set on keys of a bucket: each value names the revision it was written on, so that
    the history of a key is a chain. Some are shared by all writers."""

    def __init__(self, m, number, shared):
        self.m, self.number, self.shared = m, number, shared
        self.open = None
        self.next = 0

    async def run(self, c):
        dice = self.m.dice
        shared = self.shared
        while True:
            await self.m.rest()
            key = "shared.%d" % dice.randrange(4) if dice.random() < 0.4 else \
                "own.%d.%d" % (self.number, dice.randrange(6))
            revision = shared.last.get(key, 0)
            self.next += 1
            body = b"%d-%d-%d" % (self.number, self.next, revision)
            headers = {"Nats-Expected-Last-Subject-Sequence": revision}
            luck = dice.random()
            if revision != 0 and luck < 0.15:
                headers["KV-Operation"] = "DEL"
            elif revision != 0 and luck < 0.25:
                headers["KV-Operation"] = "PURGE"
                headers["Nats-Rollup"] = "sub"
            shared.open.add(body)
            seq, _, error = ack_of(await c.request("$KV.B." + key, body, headers))
            if seq != 0:
                shared.stored(key, seq, body)
                self.m.count("acknowledged")
            elif error == WRONG_LAST_SEQUENCE:
                self.m.count("compared and refused")
            else:
                self.m.count("refused")
            shared.open.discard(body)

    async def check(self, c):
        pass


class Bucket:
    """What the writers of the bucket know together."""

    def __init__(self, m):
        self.m = m
        self.last = {}     # key -> revision
        self.values = {}   # revision -> (key, body)
        self.open = set()  # bodies that may be there

    def stored(self, key, seq, body):
        before = self.values.setdefault(seq, (key, body))
        if before != (key, body):
            self.m.is_wrong("sequence reused", "KV_B %d: %s, was %s" % (seq, (key, body), before))
        self.last[key] = max(seq, self.last.get(key, 0))

    async def check(self, c):
        if await state_of(c, self.m, "KV_B") is None:
            self.m.is_wrong("lost", "KV_B", len(self.last))
            return
        there = await c.read_all("KV_B")
        keys = {}
        for seq, subject, body, headers in there:
            key = subject[len("$KV.B."):]
            keys.setdefault(key, []).append((seq, body, headers))
            if seq in self.values:
                if self.values[seq] != (key, body):
                    self.m.is_wrong("sequence reused", "KV_B %d: %s, was %s" % (
                        seq, (key, body), self.values[seq]))
            elif body not in self.open:
                self.m.is_wrong("came back", "KV_B %d: %s was not acknowledged" % (seq, body))
        for key, history in keys.items():
            if any("KV-Operation: PURGE" in h for _, _, h in history[1:]):
                self.m.is_wrong("came back", "%s: older than its purge" % key)
                continue
            for (a, _, _), (b, body, _) in zip(history, history[1:]):
                if int(body.rsplit(b"-", 1)[1]) != a:
                    self.m.is_wrong("compare-and-set", "%s: %d was written on %s, not on %d" % (
                        key, b, body, a))
        for key, last in self.last.items():
            history = keys.get(key, [])
            if not history or history[-1][0] < last:
                self.m.is_wrong("lost", "KV_B %s: revision %d" % (key, last))
        self.last = {key: history[-1][0] for key, history in keys.items()}
        self.values = {s: (k, b) for k, history in keys.items() for s, b, _ in history}
        self.open = set()


class Chain:
    """One at a time, each on the sequence of the one before of its subject."""

    def __init__(self, m, ledger, number):
        self.m, self.ledger, self.number = m, ledger, number
        self.last, self.next, self.open = 0, 0, None

    def subject(self):
        return "%s.chain%d" % (self.ledger.subject, self.number)

    async def run(self, c):
        while True:
            await self.m.rest()
            self.next += 1
            name = "%s-chain%d-%d" % (self.ledger.stream, self.number, self.next)
            self.ledger.sent.add(name)
            self.open = name
            r = await c.request(self.subject(), name.encode() + b" chained",
                                {"Nats-Expected-Last-Subject-Sequence": self.last})
            seq, _, error = ack_of(r)
            if seq != 0:
                self.last = seq
                self.ledger.seen(seq, name)
                self.m.count("acknowledged")
            elif error == WRONG_LAST_SEQUENCE:
                before = self.last  # of a stream that is purged from its front, too
                await self.check(c)
                if self.last == before:
                    self.m.is_wrong("compare-and-set", "%s on %d: %s" % (name, before, r.data))
            else:
                self.m.count("refused")
            self.open = None

    async def check(self, c):
        """Whether the last one was stored is read, since both may be so."""
        r = await c.request("$JS.API.DIRECT.GET.%s.%s" % (self.ledger.stream, self.subject()))
        there = int(r.header("Nats-Sequence") or 0)
        if there != self.last and there != 0:
            name = r.data.split(b" ", 1)[0].decode()
            if there < self.last or name != self.open:
                self.m.is_wrong("lost", "%s: last is %s at %d, was %d" % (
                    self.subject(), name, there, self.last))
        elif there == 0 and self.last >= self.ledger.floor:
            self.m.is_wrong("lost", "%s: nothing, was %d" % (self.subject(), self.last))
        self.last, self.open = there, None


class Load:
    """Everything at once."""

    def __init__(self, m):
        self.m = m
        self.log = Ledger(m, "LOG", "log")
        self.work = Ledger(m, "WORK", "work", is_queue=True)
        self.bucket = Bucket(m)
        self.erasers = Erasers(m, 3)
        self.publishers = [Publisher(m, self.log, i) for i in range(3)] + \
            [Publisher(m, self.work, i, window=32) for i in range(2)]
        self.fetchers = [Fetcher(m, self.log, "reader"), Fetcher(m, self.work, "worker")]
        self.loaders = [Chain(m, self.log, i) for i in range(2)] + self.erasers.each + \
            [Keys(m, i, self.bucket) for i in range(3)] + [Trimmer(m, self.log, 3000)]

    async def make(self, port):
        c = await Client.connect(port)
        await make_stream(c, "LOG", subjects=["log.>"])
        await make_stream(c, "WORK", subjects=["work.>"], retention="workqueue")
        await make_stream(c, "ERASE", subjects=["erase.>"])
        await make_stream(c, "KV_B", subjects=["$KV.B.>"], max_msgs_per_subject=5,
                          allow_rollup_hdrs=True, discard="new")
        for f in self.fetchers:
            await f.make(c)
        c.cut()

    async def start(self, port, workers=None):
        """Clients at work: [(client, task)]."""
        workers = self.publishers + self.fetchers + self.loaders if workers is None else workers
        clients = [await Client.connect(port) for _ in workers]
        return [(c, asyncio.ensure_future(run(w, c))) for w, c in zip(workers, clients)]

    async def check(self, port):
        """After a start: what of all that is remembered is not so."""
        c = await Client.connect(port)
        for w in [self.log, self.work, self.bucket, self.erasers] + self.loaders + self.publishers:
            await w.check(c)
        c.cut()

    async def drain(self, port, seconds=60):
        """No more is published; everything must reach its consumers and be acked."""
        for p in self.publishers:
            p.is_over = True
        running = await self.start(port, self.publishers + self.fetchers)
        c = await Client.connect(port)
        left = None
        for _ in range(seconds * 4):
            await asyncio.sleep(0.25)
            left = [(await c.api("CONSUMER.INFO.%s.%s" % (f.ledger.stream, f.name)))
                    for f in self.fetchers]
            left = [i.get("num_pending", 1) + i.get("num_ack_pending", 1) for i in left]
            queue = (await c.api("STREAM.INFO.WORK")).get("state", {"messages": 1})
            left.append(queue["messages"])
            if left == [0, 0, 0]:
                break
        else:
            self.m.is_wrong("stuck", "left for the consumers, and in the work queue: %s" % left)
        c.cut()
        for client, task in running:
            client.cut()
            await task


async def run(worker, c):
    """Until the connection is gone. Any other end is a fault of the worker, and seen."""
    try:
        await worker.run(c)
    except Gone:
        pass
    except asyncio.TimeoutError:
        worker.m.is_wrong("no answer", type(worker).__name__)
