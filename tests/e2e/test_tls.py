"""TLS: who speaks first, whose certificate counts, what is negotiated, and its errors. All keys
and certificates are made here by the openssl command."""
import hashlib
import re
import shutil
import signal
import socket
import ssl
import subprocess
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from harness import SLOW, Closed, Raw, run_binary, wait_until


def openssl(*args, cwd):
    subprocess.run(["openssl", *args], cwd=cwd, check=True, capture_output=True)


class Certs:
    """A certificate authority in a folder."""

    def __init__(self, folder):
        self.folder = folder
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test ca", "-days", "2",
                cwd=folder)
        openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                "-keyout", "evil.key", "-out", "evil.pem", "-subj", "/CN=test ca", "-days", "2",
                cwd=folder)
        self.issue("server", "/CN=localhost", "DNS:localhost,IP:127.0.0.1")
        self.issue("second", "/CN=second", "DNS:localhost,IP:127.0.0.1")
        self.issue("client", "/O=Test/CN=client")
        self.issue("stranger", "/CN=client", ca="evil")

    def issue(self, name, subject, san=None, ca="ca", kind=None):
        openssl("req", "-newkey", *(kind or ["ec", "-pkeyopt", "ec_paramgen_curve:P-256"]),
                "-nodes", "-keyout", name + ".key", "-out", name + ".csr", "-subj", subject,
                cwd=self.folder)
        extension = []
        with open(str(self.folder / (name + ".ext")), "w", encoding="utf-8") as f:
            f.write("basicConstraints=CA:FALSE\n")
            if san:
                f.write("subjectAltName=%s\n" % san)
        extension = ["-extfile", name + ".ext"]
        openssl("x509", "-req", "-in", name + ".csr", "-CA", ca + ".pem", "-CAkey", ca + ".key",
                "-CAcreateserial", "-out", name + ".pem", "-days", "2", *extension,
                cwd=self.folder)

    def path(self, name):
        return str(self.folder / name)

    def block(self, extra="", name="server"):
        return 'tls { cert_file: "%s", key_file: "%s", ca_file: "%s"\n %s }\n' % (
            self.path(name + ".pem"), self.path(name + ".key"), self.path("ca.pem"), extra)

    def context(self, name=None, verify=True, least=None, most=None):
        c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        c.load_verify_locations(self.path("ca.pem"))
        if not verify:
            c.check_hostname = False
            c.verify_mode = ssl.CERT_NONE
        if name:
            c.load_cert_chain(self.path(name + ".pem"), self.path(name + ".key"))
        if least:
            c.minimum_version = least
        if most:
            c.maximum_version = most
        return c

    def sha256_of_key(self, name):
        der = subprocess.run("openssl x509 -in %s.pem -pubkey -noout | openssl pkey -pubin "
                             "-outform der" % name, shell=True, cwd=self.folder, check=True,
                             capture_output=True).stdout
        return hashlib.sha256(der).hexdigest()


@pytest.fixture(scope="module")
def certs(tmp_path_factory):
    return Certs(tmp_path_factory.mktemp("certs"))


def works(c):
    c.send_connect()
    c.ping()
    assert len(c.sub("a").pub("a", "x" * 5000).ping()) == 1


# --- INFO first

def test_info_then_handshake(start, certs):
    s = start(config=certs.block(), monitor=True)
    c = s.client(tls=certs.context())
    assert c.info["tls_required"] is True
    assert "tls_verify" not in c.info and "tls_available" not in c.info
    works(c)
    conn = s.page("/connz")["connections"][0]
    assert conn["tls_version"] == "1.3"
    assert conn["tls_cipher_suite"].startswith("TLS_")
    assert "tls_first" not in conn
    assert s.page("/varz")["tls_required"] is True
    assert s.ports["nats"][0].startswith("tls://")


def test_flags(start, certs):
    s = start("--tls", "--tlscert", certs.path("server.pem"), "--tlskey", certs.path("server.key"))
    works(s.client(tls=certs.context()))
    s = start("--tlsverify", "--tlscert", certs.path("server.pem"), "--tlskey",
              certs.path("server.key"), "--tlscacert", certs.path("ca.pem"))
    c = s.client(tls=certs.context("client"))
    assert c.info["tls_verify"] is True
    works(c)


def test_plain_client_is_refused(start, certs):
    s = start(config=certs.block(), monitor=True)
    c = s.client()
    c.send_connect()
    with pytest.raises((Closed, AssertionError)):
        c.send("PING\r\n").expect("PONG")
    wait_until(lambda: s.page("/connz?state=closed")["num_connections"] == 1)
    assert s.page("/connz?state=closed")["connections"][0]["reason"] == "TLS Handshake Failure"


def test_handshake_timeout(start, certs):
    s = start(config=certs.block("timeout: 0.3"), monitor=True)
    c = s.client()
    begin = time.monotonic()
    data = c.rest()  # nats-server's own read deadline usually wins, and then says nothing
    assert data in (b"", b"-ERR 'Secure Connection - TLS Required'\r\n")
    assert 0.2 < time.monotonic() - begin < 4 * SLOW
    assert s.page("/varz")["tls_timeout"] == 0.3


def test_large_messages_and_many_clients(start, certs):
    s = start(config=certs.block())
    receivers = [s.client(tls=certs.context()) for _ in range(5)]
    for r in receivers:
        r.send_connect()
        r.sub("big").ping()
    p = s.client(tls=certs.context())
    p.send_connect()
    bodies = [bytes([i]) * (50000 * i + 1) for i in range(20)]
    for body in bodies:
        p.pub("big", body)
    p.ping()
    for r in receivers:
        assert [m.data for m in r.ping()] == bodies


def test_plaintext_before_the_handshake_is_dropped(start, certs):
    """Commands smuggled in before the handshake must not be worked on after it."""
    s = start(config=certs.block())
    watcher = s.client(tls=certs.context())
    watcher.send_connect()
    watcher.sub(">").ping()
    c = s.client()
    c.send('CONNECT {"verbose":false}\r\nPUB smuggled 0\r\n\r\n')
    time.sleep(0.02)
    try:
        c.start_tls(certs.context())
        c.send("PING\r\n")
        c.next(1)
    except (OSError, Closed, ssl.SSLError):
        pass
    assert [m for m in watcher.ping() if m.subject == "smuggled"] == []


# --- allow_non_tls

def test_allow_non_tls(start, certs):
    s = start(config=certs.block() + "allow_non_tls: true\n")
    c = s.client()
    assert "tls_required" not in c.info and c.info["tls_available"] is True
    c.send_connect()
    c.ping()
    works(s.client(tls=certs.context()))


# --- handshake first

@pytest.mark.parametrize("value", ["true", "on"])
def test_handshake_first(start, certs, value):
    s = start(config=certs.block("handshake_first: %s" % value), monitor=True)
    c = s.client(tls=(certs.context(), "first"))
    assert c.info["tls_required"] is True
    works(c)
    assert s.page("/connz")["connections"][0]["tls_first"] is True
    silent = s.client(read_info=False)
    silent.quiet(0.2)


@pytest.mark.parametrize("value,least,most", [("auto", 0.04, 3), ('"300ms"', 0.25, 3)])
def test_handshake_first_with_a_fallback(start, certs, value, least, most):
    s = start(config=certs.block("handshake_first: %s" % value))
    def seconds():
        begin = time.monotonic()
        works(s.client(tls=(certs.context(), "first")))
        return time.monotonic() - begin
    # The quickest of a few: another process may have the machine for a while.
    assert any(seconds() < 0.25 * SLOW for _ in range(5))
    begin = time.monotonic()
    c = s.client(tls=certs.context())
    assert least < time.monotonic() - begin < most * SLOW
    works(c)


# --- client certificates

def test_verify(start, certs):
    s = start(config=certs.block("verify: true"), monitor=True)
    c = s.client(tls=certs.context("client"))
    works(c)
    peer = s.page("/connz?auth=1")["connections"][0]["tls_peer_certs"]
    assert peer[0]["subject"] == "CN=client,O=Test"
    assert peer[0]["spki_sha256"] == certs.sha256_of_key("client")
    assert re.match(r"^[0-9a-f]{64}$", peer[0]["cert_sha256"])
    for name in (None, "stranger"):
        with pytest.raises((ssl.SSLError, OSError, Closed, AssertionError)):
            c = s.client(tls=certs.context(name))  # with TLS 1.3 the refusal comes later
            c.send_connect()
            c.ping()
    assert s.page("/varz")["tls_verify"] is True


def test_verify_and_map(start, certs):
    certs.issue("mail", "/CN=mail", "email:derek@example.com,DNS:other.example.com")
    certs.issue("dns", "/CN=dns", "DNS:app.example.com")
    certs.issue("dn", "/C=US/O=Example/OU=Dev/CN=app")
    certs.issue("nobody", "/CN=nobody")
    s = start(config=certs.block("verify_and_map: true") + """
        authorization { users [
            {user: "derek@example.com", permissions: {publish: mail}}
            {user: "app.example.com", permissions: {publish: dns}}
            {user: "CN=app,OU=Dev,O=Example,C=US", permissions: {publish: dn}}
        ] }\n""", monitor=True)
    for name in ("mail", "dns", "dn"):
        c = s.client(tls=certs.context(name))
        c.send_connect()
        c.ping()
        c.pub(name)
        assert c.ping() == []
        other = "x." + name
        c.pub(other).expect("-ERR 'Permissions Violation for Publish to \"%s\"'" % other)
        users = [x.get("authorized_user") for x in s.page("/connz?auth=1")["connections"]]
        assert len(users) >= 1
    c = s.client(tls=certs.context("nobody"))
    c.send_connect()
    c.closed("Authorization Violation")


def test_verify_and_map_ignores_the_password(start, certs):
    """The certificate is the identity; a CONNECT cannot choose another user."""
    certs.issue("u1", "/CN=u1", "DNS:u1.example.com")
    s = start(config=certs.block("verify_and_map: true") + """
        authorization { users [ {user: "u1.example.com", permissions: {publish: one}},
                                {user: "admin", password: "admin"} ] }\n""")
    c = s.client(tls=certs.context("u1"))
    c.send_connect(user="admin", **{"pass": "wrong"})
    c.send("PING\r\n")
    got = c.next()
    if got == "PONG":
        c.pub("two").expect("-ERR 'Permissions Violation for Publish to \"two\"'")
    else:
        assert got == "-ERR 'Authorization Violation'"


def test_pinned_certs(start, certs):
    s = start(config=certs.block('verify: true\n pinned_certs: ["%s"]'
                                 % certs.sha256_of_key("client")))
    works(s.client(tls=certs.context("client")))
    certs.issue("unpinned", "/CN=unpinned")
    with pytest.raises((ssl.SSLError, OSError, Closed, AssertionError)):
        c = s.client(tls=certs.context("unpinned"))
        c.send_connect()
        c.ping()


@pytest.mark.parametrize("again", range(3))
def test_first_handshakes_at_the_same_time(start, certs, again):
    """They share certificates that libcrypto fills in at the first use. When that first use is in
    two helpers at once, tsan tells of it in about one start of thirty."""
    s = start(config=certs.block("verify: true"))
    contexts = [certs.context("client") for _ in range(8)]
    with ThreadPoolExecutor(len(contexts)) as pool:
        for c in pool.map(lambda x: s.client(tls=x), contexts):
            works(c)


def test_a_reload_closes_who_is_no_longer_pinned(start, certs):
    certs.issue("other", "/CN=other")
    pins = [certs.sha256_of_key("client"), certs.sha256_of_key("other")]
    block = 'verify: true\n pinned_certs: ["%s"]'
    s = start(config=certs.block(block % '", "'.join(pins)), monitor=True)
    kept = s.client(tls=certs.context("client"))
    lost = s.client(tls=certs.context("other"))
    kept.connect()
    lost.connect()
    s.reload(certs.block(block % pins[0]))
    with pytest.raises((Closed, OSError)):
        lost.ping()
    assert kept.ping() == []
    wait_until(lambda: s.page("/connz?state=closed")["connections"])
    assert s.page("/connz?state=closed")["connections"][0]["reason"] == "TLS Handshake Failure"


# --- versions and ciphers

def test_lowest_version_is_1_2(start, certs):
    s = start(config=certs.block())
    works(s.client(tls=certs.context(most=ssl.TLSVersion.TLSv1_2)))
    s = start(config=certs.block('min_version: "1.3"'))
    works(s.client(tls=certs.context()))
    with pytest.raises((ssl.SSLError, OSError)):
        s.client(tls=certs.context(most=ssl.TLSVersion.TLSv1_2))


@pytest.mark.parametrize("value", ['"1.0"', '"1.1"', '"1.4"', '"x"'])
def test_bad_min_version(start, certs, value):
    s = start(config=certs.block("min_version: " + value), wait=False)
    assert s.wait_exit() == 1


def test_cipher_suites(start, certs):
    s = start(config=certs.block(
        'cipher_suites: ["TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"]'), monitor=True)
    c = s.client(tls=certs.context(most=ssl.TLSVersion.TLSv1_2))
    works(c)
    conn = s.page("/connz")["connections"][0]
    assert conn["tls_cipher_suite"] == "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"
    assert conn["tls_version"] == "1.2"
    context = certs.context(most=ssl.TLSVersion.TLSv1_2)
    context.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
    with pytest.raises((ssl.SSLError, OSError)):
        s.client(tls=context)


@pytest.mark.parametrize("value", [
    '["TLS_NONSENSE"]', '["TLS_RSA_WITH_RC4_128_SHA"]', "[]"])
def test_bad_cipher_suites(start, certs, value):
    s = start(config=certs.block("cipher_suites: " + value), wait=False)
    assert s.wait_exit() == 1


def test_curves(start, certs):
    s = start(config=certs.block('curve_preferences: ["CurveP256"]'))
    works(s.client(tls=certs.context()))
    s = start(config=certs.block('curve_preferences: ["CurveX"]'), wait=False)
    assert s.wait_exit() == 1


def test_several_certificates(start, certs):
    s = start(config='tls { certs: [ {cert_file: "%s", key_file: "%s"}, '
              '{cert_file: "%s", key_file: "%s"} ] }\n' % (
                  certs.path("server.pem"), certs.path("server.key"),
                  certs.path("second.pem"), certs.path("second.key")))
    works(s.client(tls=certs.context()))


def test_rsa_certificate(start, certs):
    certs.issue("rsa", "/CN=localhost", "DNS:localhost", kind=["rsa:2048"])
    s = start(config=certs.block(name="rsa"))
    works(s.client(tls=certs.context(most=ssl.TLSVersion.TLSv1_2)))
    works(s.client(tls=certs.context()))


# --- errors in the configuration

@pytest.mark.parametrize("block", [
    "tls { cert_file: /nonexistent.pem, key_file: /nonexistent.key }",
    "tls { cert_file: '%(server.pem)s' }",
    "tls { cert_file: '%(server.pem)s', key_file: '%(client.key)s' }",
    "tls { cert_file: '%(server.pem)s', key_file: '%(server.key)s', ca_file: /nonexistent }",
    "tls { cert_file: '%(server.pem)s', key_file: '%(server.key)s', unknown: 1 }",
    "tls { cert_file: '%(server.pem)s', key_file: '%(server.key)s', verify: 5 }",
    "tls { cert_file: '%(server.key)s', key_file: '%(server.key)s' }",
    "tls { cert_file: '%(server.pem)s', key_file: '%(server.key)s', timeout: x }",
])
def test_configuration_errors(start, certs, tmp_path, block):
    paths = {name: certs.path(name) for name in ("server.pem", "server.key", "client.key")}
    s = start(config=block % paths + "\n", wait=False)
    assert s.wait_exit() == 1
    assert s.log().startswith("nats-server: ") or "[FTL]" in s.log()
    # -t finds the same: it reads the files too.
    path = tmp_path / "server.conf"
    path.write_text(block % paths + "\n", encoding="utf-8")
    r = run_binary("-t", "-c", str(path))
    assert r.returncode == 1 and str(path) in r.stderr, r.stderr


@pytest.mark.ours_only
def test_a_missing_certificate_names_the_line_of_its_block(start):
    s = start(config='ping_max: 3\ntls { cert_file: "/no/such", key_file: "/no/key" }\n', wait=False)
    assert s.wait_exit() == 1
    assert re.search(r"\.conf:2:1: .*open /no/such: no such file or directory", s.log()), s.log()


def test_a_stop_does_not_wait_for_who_has_not_said_hello(start, certs):
    s = start(config=certs.block('handshake_first: "300s"'))
    with socket.create_connection(("127.0.0.1", s.port)):
        works(s.client(tls=(certs.context(), "first")))
        assert s.stop() == 0


# --- rate limit

def test_connection_rate_limit(start, certs):
    s = start(config=certs.block("connection_rate_limit: 3"))
    time.sleep(1.05)
    errors = 0
    for _ in range(8):
        c = s.client(read_info=False)
        try:
            c.read_info()
            c.start_tls(certs.context())
            c.send_connect()
            c.ping()
        except (AssertionError, OSError, ssl.SSLError):
            errors += 1
    assert errors >= 4
    s.wait_log(r"\[WRN\] Rejected \d+ connections due to TLS rate limiting")
    time.sleep(1.1)
    works(s.client(tls=certs.context()))


# --- reload

def test_reload_of_certificates(start, certs):
    s = start(config=certs.block())
    old = s.client(tls=certs.context())
    old.send_connect()
    old.ping()

    def name():
        c = s.client(tls=certs.context())
        return dict(x[0] for x in c.socket.getpeercert()["subject"])["commonName"]

    assert name() == "localhost"
    s.reload(certs.block(name="second"))
    assert name() == "second"
    works(old)
    s.write_config(certs.block(name="nonexistent"))
    s.signal(signal.SIGHUP)
    s.wait_log(r"\[ERR\].*")
    assert name() == "second"


def test_reload_of_certificates_in_the_same_files(start, certs, tmp_path):
    for suffix in ("pem", "key"):
        shutil.copy(certs.path("server." + suffix), tmp_path / ("x." + suffix))
    s = start(config='tls { cert_file: "%s", key_file: "%s" }\n' % (
        tmp_path / "x.pem", tmp_path / "x.key"))
    for suffix in ("pem", "key"):
        shutil.copy(certs.path("second." + suffix), tmp_path / ("x." + suffix))
    s.reload()
    c = s.client(tls=certs.context())
    assert dict(x[0] for x in c.socket.getpeercert()["subject"])["commonName"] == "second"


# --- https monitoring

def test_https_monitoring(start, certs):
    s = start("-ms", "-1", config=certs.block())
    url = s.ports["monitoring"][0]
    assert url.startswith("https://")
    with urllib.request.urlopen(url + "/varz", context=certs.context(verify=False), timeout=5) as r:
        assert r.status == 200 and b"server_id" in r.read()


# --- hostile bytes

@pytest.mark.parametrize("data", [
    b"", b"\x16", b"\x16\x03\x01\xff\xff" + b"\0" * 100, b"\x16\x03\x01\x00\x05" + b"\x01" * 5,
    b"\x15\x03\x03\x00\x02\x02\x28", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 2000,
    b"\x80\x2e\x01\x00\x02" + b"\0" * 50])
def test_hostile_bytes_in_the_handshake(start, certs, data):
    s = start(config=certs.block("timeout: 0.5"))
    c = s.client()
    try:
        c.send(data)
        c.socket.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # the server was faster
    c.rest()
    c.close()
    works(s.client(tls=certs.context()))


def test_client_leaves_during_the_handshake(start, certs):
    s = start(config=certs.block(), monitor=True)
    for _ in range(20):
        c = s.client()
        c.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03")
        c.close()
    wait_until(lambda: s.page("/varz")["connections"] == 0)
    works(s.client(tls=certs.context()))


def test_last_words_before_the_end(start, certs):
    """A message and the end of the stream in one write: the message counts, the end is clean."""
    s = start(config=certs.block() + "allow_non_tls: true\n", monitor=True)
    listener = s.connect().sub("x")
    listener.ping()
    with Raw(s.port) as c:
        cipher_in, cipher_out = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = certs.context().wrap_bio(cipher_in, cipher_out, server_hostname="localhost")

        def pump(step):
            while True:
                try:
                    return step()
                except ssl.SSLWantReadError:
                    c.send(cipher_out.read())
                    cipher_in.write(c.socket.recv(65536))

        pump(tls.do_handshake)
        tls.write(b'CONNECT {"verbose":false}\r\nPING\r\n')
        while b"PONG" not in pump(lambda: tls.read(65536)):
            pass
        tls.write(b"PUB x 2\r\nhi\r\n")
        with pytest.raises(ssl.SSLWantReadError):
            tls.unwrap()
        c.send(cipher_out.read())
        assert listener.msg().data == b"hi"
    wait_until(lambda: s.page("/connz?state=closed")["connections"])
    assert s.page("/connz?state=closed")["connections"][0]["reason"] == "Client Closed"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("first", ["", "handshake_first: auto"])
def test_all_words_and_the_end_of_the_stream_with_the_last_of_the_handshake(start, certs, version,
                                                                            first):
    """The end is seen while a helper still has the handshake: what came with it counts."""
    s = start(config=certs.block(first) + "allow_non_tls: true\n")
    listener = s.connect().sub("x")
    listener.ping()
    for _ in range(10):
        with s.client(read_info=not first) as c:
            cipher_in, cipher_out = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = certs.context(least=version, most=version).wrap_bio(
                cipher_in, cipher_out, server_hostname="localhost")
            while True:
                try:
                    tls.do_handshake()
                    break
                except ssl.SSLWantReadError:
                    c.send(cipher_out.read())
                    cipher_in.write(c.socket.recv(65536))
            tls.write(b'CONNECT {"verbose":true}\r\nPUB x 2\r\nhi\r\n')
            c.send(cipher_out.read())
            c.socket.shutdown(socket.SHUT_WR)
            assert listener.msg().data == b"hi"
            cipher_in.write(c.rest())
            plain = b""
            while cipher_in.pending:
                plain += tls.read(65536)
            assert plain.count(b"+OK") == 2, plain


def test_help_tls():
    r = run_binary("--help_tls")
    assert r.returncode == 0
    assert "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384" in r.stdout + r.stderr
    assert "cipher_suites" in r.stdout + r.stderr


def test_authentication_timeout_after_tls(start, certs):
    s = start(config=certs.block("timeout: 0.2") +
              "authorization { user: a, password: b, timeout: 0.3 }\n")
    c = Raw(s.port, tls=certs.context())
    c.closed("Authentication Timeout", timeout=5)
