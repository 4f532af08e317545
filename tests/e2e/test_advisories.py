"""One test per published advisory of the server we stand in for that touches what exists here. The
name of a test carries the advisory's id. What belongs to parts that are not built (JetStream,
operator mode, WebSocket, MQTT, leaf nodes) is tested by those parts being refused."""
import itertools
import json
import os
import ssl
import subprocess
import time

import pytest

import nkey
from harness import SLOW, Closed, Raw, run_binary, wait_until

TWO = """
accounts {
  A { users [{user: a, password: a}] }
  B { users [{user: b, password: b}] }
}
"""


def login(s, who, **options):
    return s.connect(user=who, **{"pass": who}, **options)


def alive(s):
    with s.connect() as c:
        return c.ping() == []


# --- CVE-2019-13126: integer overflow in a size field

@pytest.mark.parametrize("size", ["0", "-1", "2147483647", "2147483648", "4294967295", "4294967296",
                                  "9223372036854775807", "9223372036854775808",
                                  "18446744073709551616", "9" * 20, "9" * 300, "-" * 20])
@pytest.mark.parametrize("line", ["PUB a %s", "HPUB a %s 12", "HPUB a 12 %s", "HPUB a %s %s",
                                  "UNSUB 1 %s", "MSG a 1 %s", "SUB a %s"])
def test_cve_2019_13126(server, line, size):
    with server.connect() as c:
        c.sub("a").send(line.replace("%s", size) + "\r\n\r\n")
        c.socket.shutdown(1)
        c.rest()
    assert alive(server)


# --- CVE-2020-26149: private options of CONNECT

def test_cve_2020_26149_unknown_connect_fields_are_not_shown(start):
    s = start("-D", monitor=True)
    c = s.connect(secret_option="canary-secret", tls_key="canary-secret")
    for path in ("/connz?auth=1&subs=1", "/varz", "/accountz", "/debug/vars"):
        assert "canary-secret" not in s.http(path)[2]
    c.close()
    assert "canary-secret" not in s.log()


# --- CVE-2022-24450: CONNECT could pick an account

@pytest.mark.parametrize("field,value", [
    ("account", "B"), ("acc", "B"), ("account_name", "B"), ("new_account", True),
    ("issuer_account", "B"), ("remote_account", "B"), ("import", {}), ("kind", "System")])
def test_cve_2022_24450_connect_never_changes_identity(start, field, value):
    s = start(config=TWO)
    b = login(s, "b")
    b.sub(">").ping()
    c = s.client()
    c.send_connect(user="a", **{"pass": "a"}, **{field: value})
    try:
        c.send("PUB leak 0\r\n\r\nPING\r\n")
        c.next()
    except (Closed, OSError):
        pass
    assert b.ping() == []


# --- CVE-2022-29946: a queue member on a wildcard received a denied subject

@pytest.mark.parametrize("pattern,queue", [("w.*", "q"), (">", "q"), ("w.>", "q"), ("w.*", None),
                                           ("*.secret", "q"), ("*.*", "q")])
def test_cve_2022_29946(start, pattern, queue):
    s = start(config="authorization { users [ {user: u, password: u, permissions: {subscribe: "
              "{deny: 'w.secret'}}}, {user: z, password: z} ] }\n")
    u, z = login(s, "u"), login(s, "z")
    u.sub(pattern, 1, queue).ping()
    for _ in range(10):
        z.pub("w.secret", "secret").pub("w.open", "open")
    z.ping()
    assert {m.data for m in u.ping()} <= {b"open"}


# --- CVE-2023-47090: an accounts block with $SYS alone switched authorization off

@pytest.mark.parametrize("authorization", [
    "", "authorization { user: u, password: u }", "authorization { token: t }",
    "authorization { users [{user: u, password: u}] }"])
@pytest.mark.parametrize("accounts", [
    "", "accounts { $SYS { users [{user: s, password: s}] } }",
    "accounts { $SYS { } }", "accounts { A { users [{user: a, password: a}] } }",
    "accounts { A { } }",
    "accounts { $SYS { users [{user: s, password: s}] }, A { users [{user: a, password: a}] } }"])
def test_cve_2023_47090_authorization_is_never_switched_off(start, authorization, accounts):
    s = start(config=authorization + "\n" + accounts + "\ndebug: false\n", wait=False)
    left = wait_until(lambda: s.process.poll() is not None or os.path.exists(s.ports_path))
    if s.process.poll() is not None:
        assert s.process.returncode == 1
        return
    s.wait_ready()
    assert left
    must_fail = bool(authorization) or "user: a," in accounts
    c = s.client()
    c.send_connect()
    if must_fail:
        c.closed("Authorization Violation")
    else:
        assert c.ping() == []


# --- 2026-05 CVE-2026-33216: a secret in a monitoring page

def test_cve_2026_33216_no_secret_in_any_page_or_log(start):
    secret = "canary-5ecret"
    s = start("-DV", config="authorization { users [ {user: u, password: %s}, "
              "{user: '%s-name', password: x} ] }\n" % (secret, "plain"), monitor=True)
    c = s.connect(user="u", **{"pass": secret})
    bad = s.client()
    bad.send_connect(user="u", **{"pass": secret + "x"}, auth_token=secret)
    bad.rest()
    pages = ["/", "/varz", "/connz?auth=1&subs=detail&state=all", "/subsz?subs=1", "/accountz",
             "/accountz?acc=$G", "/accstatz?unused=1", "/debug/vars", "/routez", "/leafz", "/jsz",
             "/gatewayz", "/ipqueuesz", "/healthz", "/metrics"]
    for page in pages:
        assert secret not in s.http(page)[2], page
    c.close()
    assert secret not in s.log()


# --- 2026-08/09 CVE-2026-33246, 33223: spoofed Nats-Request-Info needs imports; see test_config

# --- 2026-13 CVE-2026-33248: verify_and_map by distinguished name

@pytest.fixture(scope="module")
def dn_certs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dn")

    def openssl(*args):
        subprocess.run(["openssl", *args], cwd=folder, check=True, capture_output=True)

    ec = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    openssl("req", "-x509", *ec, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca",
            "-days", "2")

    def issue(name, subject, san=""):
        openssl("req", *ec, "-keyout", name + ".key", "-out", name + ".csr", "-subj", subject,
                "-utf8", "-multivalue-rdn")
        (folder / (name + ".ext")).write_text("basicConstraints=CA:FALSE\n" + san)
        openssl("x509", "-req", "-in", name + ".csr", "-CA", "ca.pem", "-CAkey", "ca.key",
                "-CAcreateserial", "-out", name + ".pem", "-days", "2", "-extfile", name + ".ext")
        return name

    issue("server", "/CN=localhost", "subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    return folder, issue


DN_USER = "CN=app,OU=Dev,O=Example"


@pytest.mark.parametrize("number,subject,accepted", [
    (0, "/O=Example/OU=Dev/CN=app", True), (1, "/CN=app/OU=Dev/O=Example", True),
    (2, "/O=Example/CN=app", False), (3, "/O=Example/OU=Dev/CN=app/OU=Extra", False),
    (4, "/O=Example/OU=Dev/CN=app2", False), (5, "/O=Example/OU=Dev/CN=ap", False),
    (6, "/O=Example/OU=dev/CN=app", False), (7, "/CN=app,OU=Dev,O=Example", False),
    # Go keeps the last of two common names, so the reference takes these.
    pytest.param(8, "/O=Example/OU=Dev/CN=app/CN=app", False, marks=pytest.mark.ours_only),
    pytest.param(9, "/O=Example/OU=Dev/CN=other/CN=app", False, marks=pytest.mark.ours_only),
    (10, "/O=Example/OU=Dev/CN=app\\,OU=Dev", False),
])
def test_cve_2026_33248_distinguished_names(start, dn_certs, number, subject, accepted):
    folder, issue = dn_certs
    name = issue("c%d" % number, subject)
    s = start(config='tls { cert_file: "%s/server.pem", key_file: "%s/server.key", ca_file: '
              '"%s/ca.pem", verify_and_map: true }\nauthorization { users [ {user: "%s"} ] }\n'
              % (folder, folder, folder, DN_USER))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(str(folder / "ca.pem"))
    context.load_cert_chain(str(folder / (name + ".pem")), str(folder / (name + ".key")))
    c = s.client(tls=context)
    c.send_connect()
    if accepted:
        assert c.ping() == []
    else:
        c.closed("Authorization Violation")


def test_certificate_users_cannot_log_in_by_name(start):
    """Fixed without advisory: a user without a password is for certificates alone."""
    s = start(config='authorization { users [ {user: "CN=app,O=Example"}, '
              "{user: u, password: u} ] }\n", wait=False)
    wait_until(lambda: s.process.poll() is not None or os.path.exists(s.ports_path))
    if s.process.poll() is None:
        s.wait_ready()
        for fields in ({"user": "CN=app,O=Example"}, {"user": "CN=app,O=Example", "pass": ""},
                       {"user": "CN=app,O=Example", "pass": "x"}):
            c = s.client()
            c.send_connect(**fields)
            got = c.rest(1 * SLOW) if c.is_readable(0.5) else b""
            if not fields.get("pass"):
                continue  # the reference takes the empty password here
            assert got.startswith(b"-ERR 'Authorization Violation'")


# --- 2026-14 CVE-2026-33247: secrets of the command line

def test_cve_2026_33247_debug_vars(start):
    s = start("--user", "u", "--pass", "canary-secret", monitor=True)
    body = s.http("/debug/vars")[2]
    assert "canary-secret" not in body
    assert json.loads(body)["cmdline"]


# --- 2026-16 GHSA-38x3 and the PING-first path

@pytest.mark.parametrize("line", ["PING", "PONG", "SUB a 1", "PUB a 0\r\n", "INFO {}", "+OK",
                                  "-ERR 'x'", "UNSUB 1", "HPUB a 12 12\r\nNATS/1.0\r\n\r\n",
                                  "RS+ $G a", "LS+ a", "A+ x", "RMSG $G a 0\r\n", "BLAH", ""])
def test_ghsa_38x3_first_verb_is_not_connect(start, line):
    s = start(config="authorization { users [ {user: u, password: u} ] }\n")
    c = s.client()
    c.send(line + "\r\n")
    data = c.rest()
    assert data in (b"-ERR 'Authorization Violation'\r\n", b""), data


# --- 2026-17 GHSA-wh7g: a wildcard over a wildcard deny

TOKENS = ["a", "b"]
SUBJECTS = [".".join(t) for n in (1, 2, 3) for t in itertools.product(TOKENS, repeat=n)]
FILTERS = ["a", "*", ">", "a.*", "*.a", "a.>", "*.>", "*.*", "a.b", "a.*.b", "*.b.>", "a.b.>"]


def matches(pattern, subject):
    p, s = pattern.split("."), subject.split(".")
    for i, token in enumerate(p):
        if token == ">":
            return len(s) > i
        if i >= len(s) or token not in ("*", s[i]):
            return False
    return len(p) == len(s)


@pytest.mark.parametrize("deny", FILTERS)
def test_ghsa_wh7g_deny_matrix(start, deny):
    """For every filter: nothing that the deny matches is ever delivered, everything else is."""
    s = start(config="authorization { users [ {user: u, password: u, permissions: {subscribe: "
              "{deny: '%s'}}}, {user: z, password: z} ] }\n" % deny)
    z = login(s, "z")
    for queue in (None, "q"):
        clients = []
        for pattern in FILTERS:
            u = login(s, "u")
            # With a queue, each filter is a group of its own.
            u.sub(pattern, 1, queue and "q" + str(len(clients))).send("PING\r\n")
            got = u.next()
            accepted = got == "PONG"
            if not accepted:
                assert got.startswith("-ERR 'Permissions Violation for Subscription")
                u.expect("PONG")
            clients.append((pattern, accepted, u))
        for subject in SUBJECTS:
            z.pub(subject)
        z.ping()
        for pattern, accepted, u in clients:
            got = sorted(m.subject for m in u.ping())
            wanted = sorted(x for x in SUBJECTS if matches(pattern, x) and not matches(deny, x))
            assert got == (wanted if accepted else []), (pattern, queue)
            u.close()


@pytest.mark.parametrize("allow", FILTERS)
def test_ghsa_wh7g_allow_matrix(start, allow):
    """What an allow list lets through never goes beyond it, whatever filter is subscribed."""
    s = start(config="authorization { users [ {user: u, password: u, permissions: {subscribe: "
              "'%s'}}, {user: z, password: z} ] }\n" % allow)
    z = login(s, "z")
    clients = []
    for pattern in FILTERS:
        if pattern.endswith(">") and "*" in allow and not allow.endswith(">"):
            continue  # the reference lets `a.*` subscribe `a.>`: test_auth has ours
        u = login(s, "u")
        u.sub(pattern).send("PING\r\n")
        if u.next() != "PONG":
            u.expect("PONG")
        clients.append((pattern, u))
    for subject in SUBJECTS:
        z.pub(subject)
    z.ping()
    for pattern, u in clients:
        for m in u.ping():
            assert matches(allow, m.subject), (pattern, m.subject)


# --- 2026-18 GHSA-jx8g: a queue deny overrode a plain deny

@pytest.mark.parametrize("deny", ['["x", "x q"]', '["x q", "x"]', '["x", "> q"]', '["> other", "x"]'])
def test_ghsa_jx8g(start, deny):
    s = start(config="authorization { users [ {user: u, password: u, permissions: {subscribe: "
              "{deny: %s}}}, {user: z, password: z} ] }\n" % deny)
    u, z = login(s, "u"), login(s, "z")
    for i, (subject, queue) in enumerate([("x", None), ("x", "q"), ("x", "r")]):
        u.sub(subject, i, queue)
        assert u.next().startswith("-ERR 'Permissions Violation for Subscription to \"x\"")
    z.pub("x").ping()
    assert u.ping() == []


# --- 2026-22 CVE-2026-58213: control characters in subjects

@pytest.mark.parametrize("char", ["\x00", "\t", "\x0b", "\x0c", "\x7f", "\x1b"])
def test_cve_2026_58213_control_characters(server, char):
    """Whatever is accepted, the protocol stream of a receiver stays intact."""
    with server.connect() as c:
        c.sub("in.>").ping()
        subject = "in.a%sb" % char
        c.send("PUB %s 1\r\nx\r\nPING\r\n" % subject)
        try:
            while c.next() != "PONG":
                pass
        except Closed:
            pass
    assert alive(server)


@pytest.mark.parametrize("field", ["name", "lang", "version", "user"])
def test_connect_texts_cannot_forge_log_lines(start, field):
    s = start("-DV", monitor=True)
    text = 'x\r\n[1] 2026/01/01 00:00:00.000000 [INF] forged\n"<script>'
    c = s.connect(**{field: text})
    c.sub("a").ping()
    json.loads(s.http("/connz?auth=1&subs=1")[2])
    c.close()
    s.wait_log("Client connection closed")
    assert "\n[1] 2026" not in s.log()


# --- 2026-23 GHSA-g33f: key lengths

@pytest.mark.parametrize("length", [0, 1, 2, 10, 31, 55, 56, 57, 64, 500])
def test_ghsa_g33f_key_lengths(start, length):
    key = nkey.Key()
    s = start(config="authorization { users [ {nkey: %s} ] }\n" % key.public)
    public = (key.public * 10)[:length]
    c = s.client()
    c.send_connect(nkey=public, sig=key.sign(c.info["nonce"]))
    if length == 56:
        assert c.ping() == []
    else:
        c.closed("Authorization Violation")
    nkey.connect(s, key).ping()


@pytest.mark.parametrize("text", ["U" * 56, "UAAA", "u" * 56, "SU" + "A" * 56, "1" * 56, "A" * 56])
def test_ghsa_g33f_keys_in_the_file(tmp_path, text):
    (tmp_path / "s.conf").write_text("authorization { users [ {nkey: '%s'} ] }\n" % text)
    assert run_binary("-t", "-c", str(tmp_path / "s.conf")).returncode == 1


# --- 2026-24 GHSA-hmmp: the no_auth_user path, see test_auth

# --- 2026-25 CVE-2026-58210: a partial CONNECT kept big buffers

def test_cve_2026_58210_partial_connect(start):
    """Many peers that announce much and send little cost little memory, and time out."""
    s = start(config="authorization { user: u, password: u, timeout: 2 }\n", monitor=True)
    before = s.page("/varz")["mem"]
    clients = []
    for _ in range(300):
        c = Raw(s.port)
        c.send(b'CONNECT {"name":"' + b"x" * 100)
        clients.append(c)
    mem = s.page("/varz")["mem"]
    assert mem - before < 300 * 64 * 1024 * SLOW, (before, mem)
    clients[0].closed("Authentication Timeout")
    wait_until(lambda: s.page("/varz")["connections"] == 0)


def test_nothing_is_allocated_by_an_announced_length(start):
    """Mosquitto's CVE-2023-0809: a first packet that announces the largest payload."""
    s = start(monitor=True)
    before = s.page("/varz")["mem"]
    clients = []
    for _ in range(200):
        c = Raw(s.port)
        c.send("PUB a 1048576\r\n")
        clients.append(c)
    time.sleep(0.2)
    assert s.page("/varz")["mem"] - before < 100 << 20
    assert all(not c.is_readable() for c in clients)


def test_replies_to_strangers_do_not_fill_memory(start):
    """Redis' CVE-2025-21605: unauthenticated peers that never read."""
    s = start("--auth", "t", monitor=True)
    before = s.page("/varz")["mem"]
    for _ in range(50):
        c = s.client(rcvbuf=4096)
        try:
            c.send("PING\r\n" * 10000)
        except OSError:
            pass
    assert s.page("/varz")["mem"] - before < 64 << 20
    wait_until(lambda: s.page("/varz")["connections"] == 0)


# --- 2026-28 GHSA-q59r: paging numbers, also by request (test_monitoring has the pages)

@pytest.mark.parametrize("offset", [9223372036854775807, -9223372036854775808, 4294967296])
@pytest.mark.parametrize("limit", [9223372036854775807, -9223372036854775808, 1])
@pytest.mark.parametrize("page", ["CONNZ", "SUBSZ"])
def test_ghsa_q59r_paging_by_request(start, page, offset, limit):
    s = start(config="accounts { $SYS { users [{user: s, password: s}] } }\n")
    c = s.connect(user="s", **{"pass": "s"})
    r = c.request_json("$SYS.REQ.SERVER.PING." + page,
                       {"offset": offset, "limit": limit, "subscriptions": True})
    assert "data" in r or "error" in r
    assert c.ping() == []


# --- 2026-01: the identity is checked on a resumed TLS session too

def test_2026_01_session_resumption_keeps_the_identity(start, dn_certs):
    folder, issue = dn_certs
    one, two = issue("one", "/CN=one"), issue("two", "/CN=two")
    s = start(config='tls { cert_file: "%s/server.pem", key_file: "%s/server.key", ca_file: '
              '"%s/ca.pem", verify_and_map: true }\nauthorization { users [ '
              '{user: "CN=one", permissions: {publish: one}}, '
              '{user: "CN=two", permissions: {publish: two}} ] }\n' % (folder, folder, folder))

    def connect(name, session=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.load_verify_locations(str(folder / "ca.pem"))
        context.load_cert_chain(str(folder / (name + ".pem")), str(folder / (name + ".key")))
        if session:
            context = session[1]
        c = s.client()
        c.socket = context.wrap_socket(c.socket, server_hostname="localhost",
                                       session=session and session[0])
        c.send_connect()
        c.ping()
        return c, (c.socket.session, context)

    c, session = connect(one)
    c.pub("one").ping()
    c2, _ = connect(one, session)
    c2.pub("one").ping()
    c2.pub("two").expect("-ERR 'Permissions Violation for Publish to \"two\"'")
    c3, _ = connect(two)
    c3.pub("one").expect("-ERR 'Permissions Violation for Publish to \"one\"'")


# --- 2026-07, 2026-21: rights hold on internal prefixes

@pytest.mark.parametrize("subject", ["$JS.API.STREAM.LIST", "$KV.b.k", "$O.b.c", "_STAN.discover",
                                     "$SYS.REQ.USER.INFO", "$MQTT.x", "$SYS.REQ.SERVER.PING"])
def test_2026_07_rights_hold_on_internal_prefixes(start, subject):
    s = start(config="authorization { users [ {user: u, password: u, permissions: {publish: ok, "
              "subscribe: ok}} ] }\n")
    u = login(s, "u")
    u.pub(subject, "", "ok").expect("-ERR 'Permissions Violation for Publish to \"%s\"'" % subject)
    u.sub(subject).expect("-ERR 'Permissions Violation for Subscription to \"%s\"'" % subject)


# --- fixed without advisory: white space in subscribe permissions

@pytest.mark.parametrize("text", ['"a b c"', '" "', '""', '"a  b"', '" a"', '"a "', '"\\t"', '["", "a"]'])
def test_white_space_in_permissions(tmp_path, text):
    (tmp_path / "s.conf").write_text("authorization { users [ {user: u, password: u, permissions: "
                                     "{subscribe: %s}} ] }\n" % text)
    assert run_binary("-t", "-c", str(tmp_path / "s.conf")).returncode in (0, 1)


# --- parts that are not there answer nothing

@pytest.mark.parametrize("path", ["/mqtt", "/leafnode", "/ws", "/stream", "/.."])
def test_ghsa_p957_upgrade_requests_on_the_monitoring_port(server, path):
    status, _, _ = server.http(path, headers={
        "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="})
    assert status in (301, 307, 400, 404)
    assert alive(server)


def test_websocket_request_on_the_client_port(server):
    with server.client() as c:
        c.send("GET / HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
               "Sec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n")
        c.closed("Unknown Protocol Operation")
