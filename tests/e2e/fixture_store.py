"""The store that lies in tests/fixtures: unpacking it, and what a server says of it."""
import base64
import hashlib
import json
import os
import tarfile

FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "fixtures")
ARCHIVE = os.path.join(FOLDER, "store-1.tar.xz")
MANIFEST = os.path.join(FOLDER, "store-1.json")


def unpack(to):
    """A store folder, to be given with -sd; its files have holes where nothing was written."""
    # Debian 12's Python has no extraction filters yet; the archive is our own.
    options = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    with tarfile.open(ARCHIVE) as t:
        t.extractall(to, **options)
    return to


def digest(headers, data):
    return hashlib.sha256(headers + b"|" + data).hexdigest()[:16]


def messages(js, stream, state):
    """[sequence, subject, digest of headers and data, time] of all that is there."""
    out = []
    for seq in range(state["first_seq"], state["last_seq"] + 1):
        reply = js.api("STREAM.MSG.GET." + stream, {"seq": seq})
        if "error" in reply:
            assert reply["error"]["err_code"] == 10037, reply
            continue
        m = reply["message"]
        out.append([m["seq"], m["subject"],
                    digest(base64.b64decode(m.get("hdrs", "")), base64.b64decode(m.get("data", ""))),
                    m["time"]])
    return out


def consumer(js, stream, name):
    info = js.ok("CONSUMER.INFO.%s.%s" % (stream, name))
    numbers = {k: info[k] for k in ("num_ack_pending", "num_redelivered", "num_pending")}
    for k in ("delivered", "ack_floor"):
        numbers[k] = [info[k]["consumer_seq"], info[k]["stream_seq"]]
    config = {k: v for k, v in info["config"].items() if k != "metadata"}
    return {"created": info["created"], "config": config, **numbers}


def describe(js):
    """All that the store holds, as a client sees it."""
    out = {}
    for stream in sorted(js.ok("STREAM.NAMES")["streams"]):
        info = js.ok("STREAM.INFO." + stream)
        names = js.ok("CONSUMER.NAMES." + stream)["consumers"] or []
        config = {k: v for k, v in info["config"].items() if k != "metadata"}
        out[stream] = {"created": info["created"], "config": config, "state": info["state"],
                       "messages": messages(js, stream, info["state"]),
                       "consumers": {n: consumer(js, stream, n) for n in sorted(names)}}
    return out


def expected():
    with open(MANIFEST, encoding="utf-8") as f:
        return json.load(f)
