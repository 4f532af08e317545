"""Reads a store as docs/FORMAT.md describes it, and from nothing else: the proof that the page is
enough. For stores that are whole: what does not validate raises Damaged.

  store = Store(folder)
  store.records()   every record, in the order of a replay
  store.streams()   the streams that these make, with their live messages
"""
import json
import os
import struct
from collections import namedtuple

import xxhash
import zstandard

KINDS = {1: "MESSAGE", 2: "SKIP", 3: "ERASE", 4: "PURGE", 5: "STREAM", 6: "STREAM_GONE",
         7: "CONSUMER", 8: "CONSUMER_GONE", 9: "PROGRESS", 10: "CHECKPOINT"}
LAST = 2  # flag of a CHECKPOINT
M64 = (1 << 64) - 1
BLOCK = 4096

Record = namedtuple("Record", "file offset kind flags stream seq prev_seq time_ns subject headers "
                              "body incarnation log group")


class Damaged(Exception):
    pass


def need(condition, what):
    if not condition:
        raise Damaged(what)


def up(n, unit):
    return (n + unit - 1) // unit * unit


def xxh3(data, seed):
    return xxhash.xxh3_64_intdigest(data, seed=seed)


# --- checksums that know their place


class Key:
    def __init__(self, secret, log, number, incarnation, packed=False):
        self.secret, self.log, self.number, self.incarnation = secret, log, number, incarnation
        self.packed = packed

    def checksum(self, offset, data):
        place = ((self.packed << 63 | self.log << 55 | self.number << 23) + offset // 8) & M64
        x = self.secret ^ place * 0x9E3779B97F4A7C15 & M64
        x ^= self.incarnation * 0xC2B2AE3D27D4EB4F & M64
        x = (x ^ x >> 32) * 0xD6E8FEB86659FD93 & M64
        return xxh3(data, x ^ x >> 32)


# --- root and manifests


def newest(copies):
    good = [c for c in copies if c is not None]
    need(good, "no valid copy")
    return max(good, key=lambda c: c["generation"])


def read_bytes(path):
    try:
        with open(path, "rb") as f:
            return f.read()
    except FileNotFoundError:
        return b""


def root_of(data):
    if len(data) < BLOCK or data[:8] != b"MILROOT1":
        return None
    if xxh3(data[:4088], 0x524F4F54) != struct.unpack_from("<Q", data, 4088)[0]:
        return None
    version, incarnation, store, secret, logs, _, generation = struct.unpack_from("<IIQQIIQ", data, 8)
    need(version == 1, "a newer version")
    return {"incarnation": incarnation, "store": store, "secret": secret, "logs": logs,
            "generation": generation}


def manifest_of(data, log):
    if len(data) < BLOCK or data[:8] != b"MILLMAN1":
        return None
    size, count, _, flags, replay, _ = struct.unpack_from("<IIIIIQ", data, 60)
    if size > len(data) or xxh3(data[:size - 8], 0x4D414E49 ^ log) != struct.unpack_from(
            "<Q", data, size - 8)[0]:
        return None
    version, number, store, secret, generation, durable = struct.unpack_from("<IIQQQQ", data, 8)
    need(version == 1 and number == log, "a newer version")
    m = {"store": store, "secret": secret, "generation": generation, "durable": durable,
         "clean": flags & 1, "replay": replay, "segments": [], "packs": []}
    for i in range(count):
        at = 128 + 64 * i
        kind, number, incarnation, state = struct.unpack_from("<IIII", data, at)
        need(kind in (1, 2), "a newer version")
        if kind == 1:
            size, end, last, first = struct.unpack_from("<QQQQ", data, at + 16)
            m["segments"].append({"number": number, "incarnation": incarnation,
                                  "closed": state == 2, "size": size, "end": end, "first": first})
        else:
            size, messages, record_bytes = struct.unpack_from("<QQQ", data, at + 16)
            m["packs"].append({"number": number, "incarnation": incarnation, "size": size,
                               "messages": messages, "bytes": record_bytes})
    return m


# --- records


def parts(data, at, tail):
    """The record at `at`, and its length; tail: bytes of the checksum behind it."""
    size, kind, flags, subject = struct.unpack_from("<IBBH", data, at)
    stream, seq, prev, time_ns, headers, body = struct.unpack_from("<QQQqII", data, at + 8)
    need(size == up(48 + subject + headers + body + tail, 8), "length of a record")
    need(kind in KINDS, "kind of a record")
    a = at + 48
    return size, dict(kind=KINDS[kind], flags=flags, stream=stream, seq=seq, prev_seq=prev,
                      time_ns=time_ns, subject=bytes(data[a:a + subject]),
                      headers=bytes(data[a + subject:a + subject + headers]),
                      body=bytes(data[a + subject + headers:a + subject + headers + body]))


def segment_records(folder, log, m, s):
    key = Key(m["secret"], log, s["number"], s["incarnation"])
    name = "%04x-%08x.log" % (log, s["number"])
    end = s["end"] if s["closed"] else s["size"]
    at = 0
    with open(os.path.join(folder, name), "rb") as f:
        while at < end:
            head = f.read(64)
            magic, hlog, _, segment, incarnation, number, _, size, bytes_, count = struct.unpack_from(
                "<IHHIIQQIII", head)
            good = magic == 0x3147524D and key.checksum(at, head[:56]) == struct.unpack_from(
                "<Q", head, 56)[0] and (hlog, segment, incarnation) == (log, s["number"],
                                                                        s["incarnation"])
            if not good and not s["closed"]:
                return  # the end of what was written
            need(good and size % BLOCK == 0, "header of a group in " + name)
            data = f.read(size - 64)[:bytes_]
            r = 0
            for _ in range(count):
                n, record = parts(data, r, 8)
                need(key.checksum(at + 64 + r, data[r:r + n - 8]) == struct.unpack_from(
                    "<Q", data, r + n - 8)[0], "a record in " + name)
                yield Record(file=name, offset=at + 64 + r, incarnation=s["incarnation"], log=log,
                             group=number, **record)
                r += n
            need(r == bytes_, "records of a group in " + name)
            at += size


# --- packs

PIECES = {"block": 0x314B4C42, "index": 0x31584449, "table": 0x314C4254, "directory": 0x31524944}


def piece(data, key, offset, what):
    checksum, kind, held, raw, form, at, count = struct.unpack_from("<QIIIIII", data, offset)
    need(kind == PIECES[what], "kind of a " + what)
    need(key.checksum(offset, data[offset + 8:offset + 32 + held]) == checksum, what)
    content = data[offset + 32:offset + 32 + held]
    if form == 1:
        content = zstandard.ZstdDecompressor().decompress(content, max_output_size=raw)
    need(len(content) == raw, "length of a " + what)
    return content, at * 8, count


def index_entries(data):
    count, subjects, stream, seq, time_ns = struct.unpack_from("<IIQQq", data)
    columns = [struct.unpack_from("<%dI" % count, data, 32 + 4 * count * c) for c in range(5)]
    times = struct.unpack_from("<%dQ" % count, data, 32 + 20 * count)
    at, names = 32 + 28 * count, []
    for _ in range(subjects):
        uses, length = struct.unpack_from("<IH", data, at)
        names.append((uses, data[at + 6:at + 6 + length]))
        at += 6 + length
    need(at == len(data), "length of an index")
    where = subject = 0
    for i in range(count):
        seq += columns[0][i]
        where = (where + columns[1][i]) & 0xFFFFFFFF
        subject = (subject + columns[4][i]) & 0xFFFFFFFF
        time_ns = (time_ns + times[i]) & M64
        yield stream, seq, time_ns, where * 8, columns[2][i], columns[3][i], names[subject][1]


def pack_records(folder, log, m, p):
    key = Key(m["secret"], log, p["number"], p["incarnation"], packed=True)
    name = "%04x-%08x.pack" % (log, p["number"])
    data = read_bytes(os.path.join(folder, name))
    need(len(data) == p["size"], "size of " + name)
    tables = []
    for at in (len(data) - 2 * BLOCK, len(data) - BLOCK):
        foot = data[at:at + BLOCK]
        need(key.checksum(at, foot[8:]) == struct.unpack_from("<Q", foot)[0], "a foot of " + name)
        magic, version, flog, number, incarnation, blocks, indexes = struct.unpack_from(
            "<IIIIIII", foot, 8)
        need((magic, version) == (0x31544650, 1), "a foot of " + name)
        need((flog, number, incarnation) == (log, p["number"], p["incarnation"]), "whose foot it is")
        table_at, directory_at, messages, record_bytes, size = struct.unpack_from("<QQQQQ", foot, 40)
        need((messages, record_bytes, size) == (p["messages"], p["bytes"], p["size"]), "sums")
        table, _, count = piece(data, key, table_at, "table")
        need(count == blocks, "blocks")
        directory, _, count = piece(data, key, directory_at, "directory")
        need(count == indexes, "indexes")
        tables.append((table, directory))
    need(tables[0] == tables[1], "two tables that differ")
    table, directory = tables[0]
    found = []
    for i in range(len(table) // 24):
        offset, first, raw, length, _ = struct.unpack_from("<QIIII", table, 24 * i)
        content, start, count = piece(data, key, offset, "block")
        need((start, len(content)) == (first * 8, raw), "an entry of the table")
        r = 0
        for _ in range(count):
            n, record = parts(content, r, 0)
            found.append(Record(file=name, offset=start + r, incarnation=p["incarnation"], log=log,
                                group=0, **record))
            r += n
        need(r == len(content), "records of a block")
    indexed = []
    for i in range(len(directory) // 64):
        stream, first, last, tfirst, tlast, offset = struct.unpack_from("<QQQqqQ", directory, 64 * i)
        content, _, count = piece(data, key, offset, "index")
        entries = list(index_entries(content))
        need((entries[0][:2], entries[-1][:2]) == ((stream, first), (stream, last)), "an index")
        need((entries[0][2], entries[-1][2]) == (tfirst, tlast), "times of an index")
        indexed += entries
    need(indexed == [(r.stream, r.seq, r.time_ns, r.offset, len(r.headers), len(r.body), r.subject)
                     for r in found], "the indexes say other things than the blocks")
    return found


# --- bodies


class Varints:
    def __init__(self, data):
        self.data, self.at = data, 0

    def get(self):
        value = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    def signed(self):
        v = self.get()
        return v >> 1 ^ -(v & 1)

    def raw(self, count):
        self.at += count
        return self.data[self.at - count:self.at]

    def text(self):
        return self.raw(self.get())


def progress(body):
    """{from, delivered, floor, whole, entries: {seq: (state, deliveries)}}"""
    v = Varints(body)
    need(v.get() == 1, "version of PROGRESS")
    p = {"whole": v.get() & 1, "from": v.get(), "delivered": (v.get(), v.get()),
         "floor": (v.get(), v.get()), "resume": v.get(), "entries": {}}
    seq = 0
    for _ in range(v.get()):
        seq += v.get()
        word = v.get()
        if word & 3:
            v.signed()
            v.signed()
        p["entries"][seq] = (word & 3, word >> 2)
    need(v.at == len(body), "length of PROGRESS")
    return p


def settled(p, seq):
    if seq in p["entries"]:
        return p["entries"][seq][0] == 0
    return p["from"] < seq <= p["delivered"][1]


def checkpoint(body):
    v = Varints(body)
    need(v.get() == 1, "version of CHECKPOINT")
    c = {"name": v.text().decode(), "config": v.text(), "first": v.get(), "last": v.get(),
         "time": v.signed(), "clock": v.signed(), "live": v.get(), "last_id": v.text(),
         "next_consumer": v.get(), "gone": [], "flags": {}, "lives": {}, "ids": [], "consumers": []}
    end = c["first"]
    while True:
        first, count = end + v.get(), v.get()
        if count == 0:
            break
        end = first + count
        c["gone"].append((first, end - 1))
    seq = 0
    while (step := v.get()) != 0:
        seq += step
        c["flags"][seq] = v.get()
    for _ in range(v.get()):
        seq = v.get()
        c["lives"][seq] = v.signed()
    seq = time_ns = 0
    for _ in range(v.get()):
        digest = v.raw(16)
        seq, time_ns = seq + v.get(), time_ns + v.signed()
        c["ids"].append((digest, seq, time_ns))
    for _ in range(v.get()):
        c["consumers"].append((v.get(), v.get(), v.signed(), v.text(), v.text(), v.text()))
    need(v.at == len(body), "length of CHECKPOINT")
    return c


# --- streams


def matches(subject, filter_):
    """Whether a subject is one of a filter's."""
    s, f = subject.split(b"."), filter_.split(b".")
    for i, token in enumerate(f):
        if token == b">":
            return len(s) > i
        if i >= len(s) or token not in (b"*", s[i]):
            return False
    return len(s) == len(f)


def cost(r):
    return len(r.subject) + len(r.headers) + len(r.body) + 30 + (4 if r.headers else 0)


class Consumer:
    def __init__(self, name, body):
        self.name, self.number = name, 0
        self.progress = None
        self.configure(body)

    def configure(self, body):
        config = json.loads(body)["config"]
        self.filters = config.get("filter_subjects") or [config.get("filter_subject") or ">"]

    def takes(self, r):
        return any(matches(r.subject, f.encode()) for f in self.filters)

    def apply(self, body, number):
        self.progress, self.number = progress(body), number
        return self.progress


class Stream:
    def __init__(self, name, body):
        self.account, self.name = name.split(" ", 1)
        self.live = {}  # by sequence, ascending
        self.last = 0
        self.consumers = {}
        self.unplaced = None  # of a checkpoint: what is live and has no place yet
        self.configure(body)
        if self.config.get("first_seq"):
            self.last = self.config["first_seq"] - 1

    def configure(self, body):
        self.config = json.loads(body)["config"]
        self.limit()

    @property
    def first(self):
        return min(self.live, default=self.last + 1)

    def restore(self, c):
        self.last = c["last"]
        self.unplaced = set(range(c["first"], c["last"] + 1))
        for first, last in c["gone"]:
            self.unplaced -= set(range(first, last + 1))
        need(len(self.unplaced) == c["live"], "live messages of a checkpoint")
        for number, count, _, name, body, state in c["consumers"]:
            self.consumers[number] = Consumer(name.decode(), body)
            self.consumers[number].apply(state, count)

    def limit(self):
        c = self.config
        per = c.get("max_msgs_per_subject", -1)
        if per > 0:
            seen = {}
            for seq in sorted(self.live, reverse=True):
                subject = self.live[seq].subject
                seen[subject] = seen.get(subject, 0) + 1
                if seen[subject] > per:
                    del self.live[seq]
        if c.get("discard", "old") != "old":
            return
        bytes_ = sum(cost(r) for r in self.live.values())
        for seq in sorted(self.live):
            over = 0 < c.get("max_msgs", -1) < len(self.live) or 0 < c.get("max_bytes", -1) < bytes_
            if not over:
                break
            bytes_ -= cost(self.live.pop(seq))

    def roll_up(self, r):
        if not self.config.get("allow_rollup_hdrs"):
            return
        for line in r.headers.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name != b"Nats-Rollup":
                continue
            for seq in [s for s, m in self.live.items()
                        if value.strip().lower() == b"all" or matches(m.subject, r.subject)]:
                del self.live[seq]

    def purge(self, r):
        keep = int(r.body or b"0")
        names = [s for s in sorted(self.live) if not r.subject or matches(self.live[s].subject, r.subject)]
        if keep:
            names = names[:-keep]
        for seq in names:
            if r.seq == 0 or seq < r.seq:
                del self.live[seq]
        if not r.subject and not keep and r.seq > self.last:
            self.last = r.seq - 1

    def settle(self, p):
        if self.config["retention"] == "limits":
            return
        for seq in [s for s in self.live if settled(p, s)]:
            if self.config["retention"] == "workqueue" or not self.is_wanted(seq):
                del self.live[seq]

    def is_wanted(self, seq):
        """By a consumer of an interest stream."""
        return any(c.takes(self.live[seq]) and
                   not (c.progress and settled_for_good(c.progress, seq))
                   for c in self.consumers.values())

    def forget_unwanted(self):
        if self.config["retention"] == "interest":
            for seq in [s for s in self.live if not self.is_wanted(s)]:
                del self.live[seq]

    def end_twin(self, r):
        """The record of its end is missing."""
        for number, c in list(self.consumers.items()):
            if c.name == r.subject.decode() and number < r.seq:
                del self.consumers[number]
                self.forget_unwanted()

    def set_consumer(self, r):
        c = self.consumers.get(r.seq)
        if c is None:
            self.end_twin(r)
            self.consumers[r.seq] = Consumer(r.subject.decode(), r.body)
            return
        filters = c.filters
        c.configure(r.body)
        if c.filters != filters:
            self.forget_unwanted()

    def apply(self, r):
        if r.kind == "MESSAGE" and self.unplaced is not None and r.seq <= self.last:
            if r.seq in self.unplaced:
                self.live[r.seq] = r
            return
        if self.unplaced is not None:
            self.live = dict(sorted(self.live.items()))
            self.unplaced = None
        if r.kind in ("MESSAGE", "SKIP"):
            need(r.seq > self.last, "an old sequence")
            self.last = r.seq
            if r.kind == "MESSAGE":
                self.roll_up(r)
                self.live[r.seq] = r
                self.limit()
        elif r.kind == "ERASE":
            self.live.pop(r.seq, None)
        elif r.kind == "PURGE":
            self.purge(r)
        elif r.kind == "STREAM":
            self.configure(r.body)
        elif r.kind == "CONSUMER":
            self.set_consumer(r)
        elif r.kind == "CONSUMER_GONE":
            self.consumers.pop(r.seq, None)
            self.forget_unwanted()
        elif r.kind == "PROGRESS" and r.seq in self.consumers:
            c = self.consumers[r.seq]
            if r.prev_seq == 0 or r.prev_seq > c.number:
                self.settle(c.apply(r.body, r.prev_seq))


def settled_for_good(p, seq):
    return seq <= p["floor"][1] or settled(p, seq)


class Store:
    def __init__(self, folder):
        self.folder = folder
        self.root = newest([root_of(read_bytes(os.path.join(folder, "root-%d" % i))) for i in (0, 1)])
        self.logs = [newest(self.manifests(log)) for log in range(self.log_count())]
        need(all(m["store"] == self.root["store"] for m in self.logs), "of another store")

    def manifests(self, log):
        names = ["%04x-manifest-%d" % (log, i) for i in (0, 1)]
        return [manifest_of(read_bytes(os.path.join(self.folder, name)), log) for name in names]

    def log_count(self):
        """A root that came back from a copy may count fewer than there are."""
        count = self.root["logs"]
        names = [n for n in os.listdir(self.folder) if n[4:-1] == "-manifest-"] if count else []
        for log in {int(n[:4], 16) for n in names}:
            if any(m and m["store"] == self.root["store"] for m in self.manifests(log)):
                count = max(count, log + 1)
        return count

    def records(self):
        starts = {s["incarnation"] for m in self.logs for s in m["segments"] + m["packs"]}
        for start in sorted(starts):
            for log, m in enumerate(self.logs):
                for p in m["packs"]:
                    if p["incarnation"] == start:
                        yield from pack_records(self.folder, log, m, p)
                for s in m["segments"]:
                    if s["incarnation"] == start and (s["closed"] or not m["clean"]):
                        yield from segment_records(self.folder, log, m, s)

    def checkpoints(self, records):
        """The newest whole one of each stream: {id: (state, incarnation, log, group)}"""
        whole, runs = {}, {}
        for r in records:
            if r.kind != "CHECKPOINT":
                continue
            run = runs.get(r.stream, [])
            if r.seq == 0:
                run = []
            if len(run) != r.seq or any(x.prev_seq != r.prev_seq for x in run):
                runs.pop(r.stream, None)
                continue
            runs[r.stream] = run + [r]
            if r.flags & LAST:
                body = b"".join(x.body for x in runs.pop(r.stream))
                whole[r.stream] = (checkpoint(body), r.incarnation, r.log, r.prev_seq)
        return whole

    def streams(self):
        """{"account name": Stream}"""
        records = list(self.records())
        gone = {r.stream for r in records if r.kind == "STREAM_GONE"}
        by_id, stands = {}, {}
        for stream, (state, *where) in self.checkpoints(records).items():
            if stream in gone:
                continue
            s = by_id[stream] = Stream(state["name"], state["config"])
            s.restore(state)
            stands[stream] = where
        for r in records:
            if r.stream in gone or r.kind == "CHECKPOINT":
                continue
            if r.stream in stands and r.kind != "MESSAGE":
                incarnation, log, group = stands[r.stream]
                same = (r.incarnation, r.log) == (incarnation, log)
                if (r.group <= group) if same else r.incarnation < incarnation:
                    continue
            if r.stream in by_id:
                by_id[r.stream].apply(r)
            elif r.kind == "STREAM":
                by_id[r.stream] = Stream(r.subject.decode(), r.body)
        return {"%s %s" % (s.account, s.name): s for s in by_id.values()
                if s.config.get("storage") != "memory"}
