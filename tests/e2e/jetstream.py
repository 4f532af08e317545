"""A raw client for JetStream's requests: what is sent and what comes back, nothing hidden."""
import json


class Js:
    """One connection with an inbox of its own."""

    def __init__(self, server, **login):
        self.c = server.connect(**login)
        self.c.sub("_INBOX.*")
        self.count = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.c.close()

    def request(self, subject, data=b"", headers=None):
        """Publishes with a reply and returns the answer, a harness.Msg."""
        self.count += 1
        inbox = "_INBOX.%d" % self.count
        if headers is None:
            self.c.pub(subject, data, reply=inbox)
        else:
            self.c.hpub(subject, headers, data, reply=inbox)
        while True:
            m = self.c.msg()
            if m.subject == inbox:
                return m

    def api(self, subject, body=None, headers=None):
        """The JSON of the answer; body is text, bytes or what becomes JSON."""
        data = body if isinstance(body, (bytes, str)) else b"" if body is None else json.dumps(body)
        return json.loads(self.request("$JS.API." + subject, data, headers).data)

    def pipelined(self, *requests):
        """The answers to (subject, body) that are sent at once."""
        first = self.count + 1
        for subject, body in requests:
            self.count += 1
            self.c.pub("$JS.API." + subject, json.dumps(body) if body is not None else b"",
                       reply="_INBOX.%d" % self.count)
        replies = {}
        while len(replies) < len(requests):
            m = self.c.msg()
            replies[m.subject] = json.loads(m.data)
        return [replies["_INBOX.%d" % (first + i)] for i in range(len(requests))]

    def ok(self, subject, body=None, headers=None):
        reply = self.api(subject, body, headers)
        assert "error" not in reply, (subject, reply["error"])
        return reply

    def refused(self, subject, body=None, headers=None):
        """(code, err_code, description) of the refusal."""
        reply = self.api(subject, body, headers)
        assert "error" in reply, (subject, reply)
        e = reply["error"]
        return e["code"], e["err_code"], e["description"]

    def stream(self, stream, **config):
        return self.ok("STREAM.CREATE." + stream, {"name": stream, **config})

    def refused_stream(self, stream, **config):
        return self.refused("STREAM.CREATE." + stream, {"name": stream, **config})

    def consumer(self, stream, consumer, **config):
        return self.ok("CONSUMER.CREATE.%s.%s" % (stream, consumer), {
            "stream_name": stream, "config": {"name": consumer, **config}})

    def publish(self, subject, data=b"", **headers):
        """The PubAck; _ in a header's name stands for -."""
        named = {k.replace("_", "-"): v for k, v in headers.items()}
        return json.loads(self.request(subject, data, named or None).data)

    def state(self, stream):
        return self.ok("STREAM.INFO." + stream)["state"]

    def status(self, subject, data=b"", headers=None):
        """First line and headers of an answer that is a status."""
        m = self.request(subject, data, headers)
        assert m.headers is not None, m
        lines = m.headers.decode().split("\r\n")
        return lines[0][len("NATS/1.0 "):], dict(l.split(": ", 1) for l in lines[1:] if l)
