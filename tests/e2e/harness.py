"""What the end-to-end tests share: a server process and a raw protocol client.

The server under test is the binary named by MILLRACE_SERVER; MILLRACE_IO adds `--io <driver>`,
MILLRACE_EXTRA_FLAGS adds anything else. The same tests run against nats-server itself
(MILLRACE_SERVER=/path/to/nats-server), which is how a test is known to be right.
"""
import base64
import contextlib
import http.client
import json
import os
import random
import re
import select
import shlex
import signal
import socket
import ssl
import subprocess
import time
from collections import namedtuple
from functools import lru_cache

# What tells the tests about the server is not for the server, which would warn of it.
ENVIRONMENT = {k: v for k, v in os.environ.items() if not k.startswith("MILLRACE_")}
BINARY = os.environ.get("MILLRACE_SERVER", "build/dev/bin/millrace")
DRIVER = os.environ.get("MILLRACE_IO")
EXTRA = shlex.split(os.environ.get("MILLRACE_EXTRA_FLAGS", ""))
# Sanitizers slow the server down by about this much; deadlines of tests stretch with it.
SLOW = 4 if os.environ.get("MILLRACE_SANITIZE") else 1
WAIT = 5 * SLOW
# Tools know the server under this name, so that is the one it is started under.
NAME = "nats-server"
SANITIZER_REPORT = re.compile(
    r"ERROR: \w+Sanitizer|WARNING: ThreadSanitizer|runtime error:|must\(.*\) failed")


@lru_cache(None)
def is_reference():
    """Whether the server under test is nats-server itself: it knows no --io."""
    out = subprocess.run([BINARY, "--help"], capture_output=True, text=True, check=False)
    return "--io" not in out.stdout + out.stderr


def driver_flags():
    return (["--io", DRIVER] if DRIVER else []) + EXTRA


def run_binary(*args, env=None, cwd=None, timeout=20, driver=False):
    """Runs the binary to its end; the result has returncode, stdout and stderr."""
    flags = driver_flags() if driver else []
    return subprocess.run([NAME, *flags, *args], executable=BINARY, capture_output=True,
                          text=True, check=False, timeout=timeout * SLOW, cwd=cwd, env={**ENVIRONMENT, **(env or {})},
                          stdin=subprocess.DEVNULL)


def wait_until(condition, seconds=WAIT, what="condition"):
    """Polls until condition() is true and returns its value."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError("timed out waiting for " + what)
        time.sleep(0.005)


def free_port():
    """Below those that the kernel gives to clients: a test beside this one may open thousands of
    connections, and one of them would take the port before the server does."""
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as f:
        first = int(f.read().split()[0])
    while True:
        port = random.SystemRandom().randrange(max(1024, first // 2), first)
        with contextlib.suppress(OSError), socket.socket() as s:
            s.bind(("127.0.0.1", port))
            return port


class Server:
    """A running server. Ports are random and come from the ports file."""

    def __init__(self, folder, args=(), config=None, env=None, wait=True, defaults=True, name=None,
                 monitor=False, log_to_file=False):
        self.folder = str(folder)
        os.makedirs(self.folder, exist_ok=True)
        self.stderr_path = os.path.join(self.folder, "stderr.log")
        self.config_path = None
        flags = list(driver_flags())
        if defaults:
            flags += ["-a", "127.0.0.1", "-p", "-1"]
        flags += ["--ports_file_dir", self.folder]
        if monitor:
            flags += ["-m", "-1"]
        if config is not None:
            self.config_path = os.path.join(self.folder, "server.conf")
            self.write_config(config)
            flags += ["-c", self.config_path]
        if log_to_file:
            flags += ["-l", os.path.join(self.folder, "server.log")]
        self.args = flags + list(args)
        self.stderr_file = open(self.stderr_path, "ab")
        self.process = subprocess.Popen(
            [name or NAME, *self.args], executable=BINARY, stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL, stderr=self.stderr_file, cwd=self.folder,
            env={**ENVIRONMENT, **(env or {})})
        self.name = os.path.basename(name or NAME)
        self.ports = {}
        if wait:
            self.wait_ready()

    def write_config(self, text):
        """In one piece: a server that reloads meanwhile must not find half of it."""
        with open(self.config_path + ".next", "w", encoding="utf-8") as f:
            f.write(text)
        os.replace(self.config_path + ".next", self.config_path)

    @property
    def pid(self):
        return self.process.pid

    @property
    def ports_path(self):
        return os.path.join(self.folder, "%s_%d.ports" % (self.name, self.pid))

    def wait_ready(self):
        def ports():
            if self.process.poll() is not None:
                raise AssertionError("server left with %d:\n%s" % (
                    self.process.returncode, self.log()))
            try:
                with open(self.ports_path, encoding="utf-8") as f:
                    return json.loads(f.read())
            except (FileNotFoundError, ValueError):
                return None
        self.ports = wait_until(ports, 10 * SLOW, "the ports file\n" + self.log())

    def port_of(self, kind):
        return int(self.ports[kind][0].rsplit(":", 1)[1])

    @property
    def port(self):
        return self.port_of("nats")

    @property
    def url(self):
        return "nats://127.0.0.1:%d" % self.port

    @property
    def http_port(self):
        return self.port_of("monitoring")

    def log(self):
        """All log lines so far, wherever they went."""
        text = ""
        for path in (self.stderr_path, os.path.join(self.folder, "server.log")):
            with contextlib.suppress(FileNotFoundError):
                with open(path, encoding="utf-8", errors="replace") as f:
                    text += f.read()
        return text

    def wait_log(self, pattern, seconds=WAIT, count=1):
        def found():
            matches = list(re.finditer(pattern, self.log()))
            return matches[count - 1] if len(matches) >= count else None
        try:
            return wait_until(found, seconds, "log")
        except AssertionError:
            raise AssertionError("no %r in the log:\n%s" % (pattern, self.log())) from None

    def client(self, **options):
        """A raw connection; the INFO line has been read."""
        return Raw(self.port, **options)

    def connect(self, **options):
        """A raw connection that has sent CONNECT and seen the PONG."""
        keywords = {k: options.pop(k) for k in ("host", "tls", "rcvbuf") if k in options}
        return Raw(self.port, **keywords).connect(**options)

    def http(self, path, port=None, method="GET", headers=None):
        """(status, headers, body text) of one monitoring request."""
        c = http.client.HTTPConnection("127.0.0.1", port or self.http_port, timeout=WAIT)
        try:
            c.request(method, path, headers=headers or {})
            r = c.getresponse()
            return r.status, {k.lower(): v for k, v in r.getheaders()}, r.read().decode()
        finally:
            c.close()

    def page(self, path):
        """A monitoring page as Python values, order of fields kept."""
        status, _, body = self.http(path)
        assert status == 200, (status, body)
        return json.loads(body)

    def memory(self, field="VmRSS"):
        """Bytes, by a field of /proc's status: VmHWM is the peak."""
        with open("/proc/%d/status" % self.pid, encoding="ascii") as f:
            return next(int(l.split()[1]) << 10 for l in f if l.startswith(field + ":"))

    def descriptors(self):
        return len(os.listdir("/proc/%d/fd" % self.pid))

    def signal(self, number):
        self.process.send_signal(number)

    def wait_stopped(self):
        """After SIGSTOP: until every thread has stopped."""
        def is_stopped():
            tasks = "/proc/%d/task" % self.process.pid
            for task in os.listdir(tasks):
                with open("%s/%s/stat" % (tasks, task), encoding="ascii") as f:
                    if f.read().rsplit(")", 1)[1].split()[0] != "T":
                        return False
            return True
        wait_until(is_stopped)

    def reload(self, config=None, expect=r"Reloaded server configuration", count=None):
        """Writes config, sends HUP and waits for the verdict in the log."""
        before = len(re.findall(expect, self.log()))
        if config is not None:
            self.write_config(config)
        self.signal(signal.SIGHUP)
        return self.wait_log(expect, count=before + 1)

    def wait_exit(self, seconds=10 * SLOW):
        return self.process.wait(seconds)

    def stop(self):
        """Ends the server; returns its exit code and fails on a sanitizer's report."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(10 * SLOW)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                self.stderr_file.close()
                raise AssertionError("server did not leave on SIGINT:\n" + self.log()) from None
        self.stderr_file.close()
        report = self.report()
        if report:
            raise AssertionError("sanitizer or assertion report:\n" + report)
        return self.process.returncode

    def report(self):
        """What a sanitizer or a failed assertion said, from its first line on; "" if nothing."""
        log = self.log()
        found = SANITIZER_REPORT.search(log)
        return log[found.start():][:6000] if found else ""

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


Msg = namedtuple("Msg", "subject sid reply headers data")


class Closed(AssertionError):
    """The server closed the connection while the test waited for more."""


class Raw:
    """A protocol client that hides nothing: bytes out, lines and messages in."""

    def __init__(self, port, host="127.0.0.1", tls=None, read_info=True, rcvbuf=None,
                 answer_pings=True):
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        if rcvbuf:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
        self.socket.settimeout(WAIT)
        self.socket.connect((host, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""
        self.infos = []
        self.answer_pings = answer_pings
        if tls == "first":
            raise ValueError("pass tls=(context, 'first')")
        context, first = (tls if isinstance(tls, tuple) else (tls, None)) if tls else (None, None)
        if first:
            self.start_tls(context)
        if read_info:
            self.read_info()
        if context and not first:
            self.start_tls(context)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    @property
    def info(self):
        return self.infos[0]

    def read_info(self):
        line = self.raw_line()
        assert line.startswith(b"INFO "), line
        self.infos.append(json.loads(line[5:]))

    def start_tls(self, context):
        self.socket = context.wrap_socket(self.socket, server_hostname="localhost")

    # --- out

    def send(self, data):
        self.socket.sendall(data.encode() if isinstance(data, str) else data)
        return self

    def send_connect(self, **options):
        fields = {"verbose": False, "pedantic": False, "lang": "test", "version": "1",
                  "protocol": 1, "headers": True, "no_responders": True}
        fields.update(options)
        return self.send("CONNECT %s\r\n" % json.dumps(
            {k: v for k, v in fields.items() if v is not None}))

    def connect(self, **options):
        self.send_connect(**options)
        self.ping()
        if options.get("protocol", 1) == 1 and len(self.infos) == 1:
            self.read_info()  # comes right after the first PONG
        return self

    def pub(self, subject, data=b"", reply=None):
        data = data.encode() if isinstance(data, str) else data
        return self.send(b"PUB %s%s %d\r\n%s\r\n" % (
            subject.encode(), b" " + reply.encode() if reply else b"", len(data), data))

    def hpub(self, subject, headers, data=b"", reply=None):
        data = data.encode() if isinstance(data, str) else data
        block = headers if isinstance(headers, bytes) else b"NATS/1.0\r\n" + b"".join(
            b"%s: %s\r\n" % (k.encode(), v.encode()) for k, v in headers.items()) + b"\r\n"
        return self.send(b"HPUB %s%s %d %d\r\n%s%s\r\n" % (
            subject.encode(), b" " + reply.encode() if reply else b"", len(block),
            len(block) + len(data), block, data))

    def sub(self, subject, sid="1", queue=None):
        return self.send("SUB %s%s %s\r\n" % (subject, " " + queue if queue else "", sid))

    def unsub(self, sid="1", most=None):
        return self.send("UNSUB %s%s\r\n" % (sid, "" if most is None else " %d" % most))

    # --- in

    def fill(self, timeout=None):
        """Reads once; raises Closed at the end of the stream."""
        self.socket.settimeout(WAIT if timeout is None else timeout)
        try:
            data = self.socket.recv(65536)
        except (ConnectionResetError, ssl.SSLEOFError, BrokenPipeError):
            data = b""
        if not data:
            raise Closed("closed by the server; unread: %r" % self.buffer)
        self.buffer += data

    def raw_line(self, timeout=None):
        while b"\r\n" not in self.buffer:
            self.fill(timeout)
        line, self.buffer = self.buffer.split(b"\r\n", 1)
        return line

    def raw_bytes(self, count):
        while len(self.buffer) < count:
            self.fill()
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def next(self, timeout=None):
        """The next thing from the server: a Msg, or a line as text. Asynchronous INFO goes to
        self.infos and PING is answered, unless answer_pings is off."""
        while True:
            line = self.raw_line(timeout)
            if line.startswith(b"INFO "):
                self.infos.append(json.loads(line[5:]))
                continue
            if line == b"PING" and self.answer_pings:
                self.send("PONG\r\n")
                continue
            parts = line.decode("utf-8", "replace").split(" ")
            if parts[0] in ("MSG", "HMSG"):
                header_count = 0
                if parts[0] == "HMSG":
                    header_count = int(parts[-2])
                    del parts[-2]
                total = int(parts[-1])
                reply = (parts[3] or None) if len(parts) == 5 else None
                body = self.raw_bytes(total + 2)
                assert body[-2:] == b"\r\n", body
                headers = body[:header_count] if parts[0] == "HMSG" else None
                return Msg(parts[1], parts[2], reply, headers, body[header_count:-2])
            return line.decode("utf-8", "replace")

    def expect(self, *lines):
        for line in lines:
            got = self.next()
            assert got == line, "expected %r, got %r" % (line, got)
        return self

    def msg(self, timeout=None):
        got = self.next(timeout)
        assert isinstance(got, Msg), got
        return got

    def ping(self):
        """PING, and everything that arrived before its PONG."""
        self.send("PING\r\n")
        return self.until_pong()

    def until_pong(self):
        got = []
        while True:
            item = self.next()
            if item == "PONG":
                return got
            got.append(item)

    def quiet(self, seconds=0.1):
        """Fails if anything arrives within seconds."""
        try:
            got = self.next(seconds)
        except (TimeoutError, socket.timeout):
            return
        raise AssertionError("unexpected %r" % (got,))

    def rest(self, timeout=None):
        """Everything until the server closes, as bytes."""
        deadline = time.monotonic() + (timeout or WAIT)
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise AssertionError("still open; read %r" % self.buffer)
            try:
                self.fill(left)
            except Closed:
                data, self.buffer = self.buffer, b""
                return data
            except (TimeoutError, socket.timeout):
                continue

    def closed(self, *errors, timeout=None):
        """Expects exactly these -ERR texts, then the end of the stream."""
        data = self.rest(timeout)
        lines = [l for l in data.split(b"\r\n") if l and not l.startswith((b"INFO ", b"PING"))]
        assert lines == [b"-ERR '%s'" % e.encode() for e in errors], data

    def is_readable(self, seconds=0):
        return bool(self.buffer) or bool(select.select([self.socket], [], [], seconds)[0])

    def request(self, subject, data="", timeout=None, headers=None):
        """One request over a fresh inbox; returns the Msg."""
        inbox = "_INBOX." + base64.b32encode(os.urandom(10)).decode()
        sid = "r" + inbox[-6:]
        self.sub(inbox, sid).unsub(sid, 1)
        if headers:
            self.hpub(subject, headers, data, inbox)
        else:
            self.pub(subject, data, inbox)
        while True:
            got = self.next(timeout)
            if isinstance(got, Msg) and got.sid == sid:
                return got

    def request_json(self, subject, payload=None, timeout=None):
        data = json.dumps(payload) if payload is not None else ""
        return json.loads(self.request(subject, data, timeout).data)
