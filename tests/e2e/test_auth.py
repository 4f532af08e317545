"""Who may log in, and what a user may then publish and subscribe."""
import base64
import re
import time

import bcrypt
import pytest

import nkey
from harness import SLOW, Msg

PW = {"pass": "s3cr3t"}
SALT = b"$2b$04$abcdefghijklmnopqrstuu"  # fixed: the hashes are part of test names


def users(*rows, extra=""):
    return "authorization { users [ %s ], %s }\n" % (", ".join("{%s}" % r for r in rows), extra)


def one(permissions):
    """A server configuration with user u / p under these permissions, and all-powerful user z."""
    return users("user: u, password: p, permissions: {%s}" % permissions, "user: z, password: z")


def login(s, user="u", password="p", **options):
    return s.connect(user=user, **{"pass": password}, **options)


def refused(s, text="Authorization Violation", **fields):
    c = s.client()
    c.send_connect(**fields)
    c.closed(text)


def pub_denied(subject):
    return "-ERR 'Permissions Violation for Publish to \"%s\"'" % subject


def sub_denied(subject, queue=None):
    return "-ERR 'Permissions Violation for Subscription to \"%s\"%s'" % (
        subject, ' using queue "%s"' % queue if queue else "")


# --- user and password, token

@pytest.mark.parametrize("args,config", [
    (("--user", "joe", "--pass", "s3cr3t"), None),
    ((), "authorization { user: joe, password: s3cr3t }\n"),
    ((), "authorization { username: joe, pass: s3cr3t }\n"),
    ((), users("user: joe, password: s3cr3t")),
    ((), users("username: joe, pass: s3cr3t")),
    ((), users('user: joe, password: "%s"' % bcrypt.hashpw(b"s3cr3t", SALT).decode())),
    ((), users("user: joe, password: %s" % bcrypt.hashpw(
        b"s3cr3t", SALT).decode().replace("$2b$", "$2a$"))),
])
def test_user_and_password(start, args, config):
    s = start(*args, config=config)
    assert s.connect(user="joe", **PW).ping() == []
    refused(s, user="joe", **{"pass": "wrong"})
    refused(s, user="joe", **{"pass": ""})
    refused(s, user="joe")
    refused(s, user="Joe", **PW)
    refused(s, user="", **PW)
    refused(s)
    refused(s, auth_token="s3cr3t")


@pytest.mark.parametrize("prefix", [b"2a", b"2b", b"2y"])
def test_bcrypt_prefixes(start, prefix):
    h = bcrypt.hashpw(b"s3cr3t", SALT).replace(b"$2b$", b"$%s$" % prefix).decode()
    s = start(config=users("user: joe, password: '%s'" % h))
    s.connect(user="joe", **PW).ping()
    refused(s, user="joe", **{"pass": h})


def test_a_zero_byte_does_not_end_a_password(start):
    h = bcrypt.hashpw(b"s3cr3t", SALT).decode()
    s = start(config=users("user: joe, password: '%s'" % h))
    s.connect(user="joe", **PW).ping()
    refused(s, user="joe", **{"pass": "s3cr3t\0x"})
    refused(s, user="joe", **{"pass": "s3cr3t\0"})


@pytest.mark.parametrize("args,config", [
    (("--auth", "t0k3n"), None), ((), "authorization { token: t0k3n }\n"),
    ((), "authorization { token: '%s' }\n" % bcrypt.hashpw(b"t0k3n", SALT).decode())])
def test_token(start, args, config):
    s = start(*args, config=config)
    s.connect(auth_token="t0k3n").ping()
    refused(s, auth_token="wrong")
    refused(s)
    refused(s, user="t0k3n", **{"pass": "t0k3n"})


def test_flags_override_the_file(start):
    s = start("--user", "a", "--pass", "b", config="authorization { user: x, password: y }\n")
    s.connect(user="a", **{"pass": "b"}).ping()
    refused(s, user="x", **{"pass": "y"})


def test_second_connect_authenticates_again(start):
    s = start(config=users("user: a, password: a", "user: b, password: b"))
    c = s.connect(user="a", **{"pass": "a"})
    c.send_connect(user="b", **{"pass": "b"})
    assert c.ping() == []
    c.send_connect(user="b", **{"pass": "wrong"})
    c.closed("Authorization Violation")


@pytest.mark.parametrize("length", [0, 1, 71, 72, 73, 255, 2000])
def test_password_lengths(start, length):
    s = start(config=users("user: joe, password: '%s'" % bcrypt.hashpw(
        b"x" * 72, SALT).decode(), "user: z, password: z"))
    c = s.client()
    c.send_connect(user="joe", **{"pass": "x" * length})
    if length == 72:
        assert c.ping() == []
    else:
        c.send("PING\r\n")
        data = c.rest() if length < 72 else b""
        assert length >= 72 or data.startswith(b"-ERR 'Authorization Violation'")


def test_auth_failure_is_logged_and_listed(start):
    s = start("--user", "a", "--pass", "b", monitor=True)
    refused(s, user="a", **{"pass": "canary-secret"})
    assert s.page("/connz?state=closed")["connections"][0]["reason"] == "Authentication Failure"
    s.wait_log(r"authentication error")
    assert "canary-secret" not in s.log()


# --- timeouts

def test_authentication_timeout(start):
    s = start(config="authorization { user: a, password: b, timeout: 0.3 }\n", monitor=True)
    c = s.client()
    begin = time.monotonic()
    c.closed("Authentication Timeout")
    assert 0.2 < time.monotonic() - begin < 4 * SLOW
    assert s.page("/connz?state=closed")["connections"][0]["reason"] == "Authentication Timeout"
    assert s.page("/varz")["auth_timeout"] == 0.3


def test_default_authentication_timeout_is_two_seconds(start):
    s = start("--auth", "x")
    begin = time.monotonic()
    s.client().closed("Authentication Timeout")
    assert 1.9 < time.monotonic() - begin < 4 * SLOW


def test_no_timeout_without_authorization(start):
    s = start(config="authorization { timeout: 0.1 }\n")
    c = s.client()
    c.quiet(0.4)
    assert c.send("PING\r\n").next() == "PONG"


# --- nkeys

def test_nkey(start):
    good, bad = nkey.Key(), nkey.Key()
    s = start(config=users("nkey: " + good.public))
    nkey.connect(s, good).ping()
    c = s.client()
    c.send_connect(nkey=good.public, sig=good.sign(c.info["nonce"], standard=True))
    assert c.ping() == []
    c = s.client()
    c.send_connect(nkey=bad.public, sig=bad.sign(c.info["nonce"]))
    c.closed("Authorization Violation")
    c = s.client()
    c.send_connect(nkey=good.public, sig=bad.sign(c.info["nonce"]))
    c.closed("Authorization Violation")
    refused(s)
    refused(s, nkey=good.public)


def test_nkey_of_another_nonce(start):
    key = nkey.Key()
    s = start(config=users("nkey: " + key.public))
    refused(s, nkey=key.public, sig=key.sign(s.client().info["nonce"]))


@pytest.mark.parametrize("sig", ["", "A", "AAAA", "!!!!", "A" * 86, "A" * 88, "A" * 3000,
                                 base64.b64encode(b"x" * 63).decode()])
def test_bad_signatures(start, sig):
    key = nkey.Key()
    s = start(config=users("nkey: " + key.public))
    refused(s, nkey=key.public, sig=sig)
    nkey.connect(s, key).ping()


def test_nkey_and_password_users_side_by_side(start):
    key = nkey.Key()
    s = start(config=users("nkey: " + key.public, "user: a, password: b"))
    nkey.connect(s, key).ping()
    s.connect(user="a", **{"pass": "b"}).ping()
    refused(s, user=key.public, **{"pass": ""})


# --- no_auth_user

def test_no_auth_user(start):
    s = start(config=users("user: a, password: a, permissions: {publish: ok}",
                           "user: b, password: b") + "no_auth_user: a\n")
    c = s.connect()
    c.pub("no").expect(pub_denied("no"))
    c.pub("ok").ping()
    s.connect(user="b", **{"pass": "b"}).pub("no").ping()
    refused(s, user="b", **{"pass": "a"})


def test_no_auth_user_without_any_connect(start):
    s = start(config=users("user: a, password: a, permissions: {publish: ok}")
              + "no_auth_user: a\n")
    c = s.client()
    c.send("PUB no 0\r\n\r\n").expect(pub_denied("no"))
    c.send("PING\r\n").expect("PONG")


def test_no_auth_user_must_exist(start):
    s = start(config=users("user: a, password: a") + "no_auth_user: nobody\n", wait=False)
    assert s.wait_exit() == 1
    assert "no_auth_user" in s.log()


# --- permissions: publish

@pytest.mark.parametrize("rule,allowed,denied", [
    ("publish: a", ["a"], ["b", "a.b", "A"]),
    ("publish: [a, b.*]", ["a", "b.x"], ["b", "b.x.y", "c"]),
    ("publish: {allow: a.>}", ["a.b", "a.b.c"], ["a", "b"]),
    ("publish: {deny: a.>}", ["a", "b"], ["a.b", "a.b.c"]),
    ("publish: {allow: a.*, deny: a.x}", ["a.y"], ["a.x", "b"]),
    ("publish: {allow: \">\", deny: [secret, \"*.secret\"]}", ["a", "a.b"], ["secret", "x.secret"]),
    ("pub: {allow: [], deny: x}", ["a"], ["x"]),
    ("import: a", ["a"], ["b"]),
    ("publish: {allow: []}", ["a", "b.c"], []),
])
def test_publish_permissions(start, rule, allowed, denied):
    s = start(config=one(rule))
    z = login(s, "z", "z")
    z.sub(">").ping()
    c = login(s)
    for subject in allowed:
        assert c.pub(subject).ping() == []
    for subject in denied:
        c.pub(subject).expect(pub_denied(subject))
    assert c.ping() == []
    assert [m.subject for m in z.ping() if not m.subject.startswith("$SYS")] == allowed


def test_a_denied_publish_keeps_the_connection_and_its_payload_is_skipped(start):
    s = start(config=one("publish: ok"))
    c = login(s)
    c.send("PUB no 13\r\nPUB ok 1\r\nx\r\n\r\nPING\r\n")
    c.expect(pub_denied("no"), "PONG")
    c.hpub("no", {"a": "b"}, "PING\r\n").expect(pub_denied("no"))
    assert c.ping() == []


def test_wildcard_publish_subject_against_permissions(start):
    s = start(config=one('publish: {allow: "a.*", deny: "a.b"}'))
    c = login(s)
    c.pub("a.c").ping()
    c.pub("a.b").expect(pub_denied("a.b"))


# --- permissions: subscribe

@pytest.mark.parametrize("rule,allowed,denied", [
    ("subscribe: a", ["a"], ["b", "*", ">", "a.b"]),
    ("subscribe: [a.*, b]", ["a.x", "a.*", "b"], ["*.*", "*.>", "c"]),
    ("subscribe: {deny: a.>}", ["a", "b", ">", "*.b", "a.*"][:4], ["a.b", "a.>", "a.b.c"]),
    ("subscribe: {allow: a.>, deny: a.b}", ["a.>", "a.c", "a.*"], ["a.b", "b", ">"]),
    ("sub: {deny: \">\"}", [], ["a", ">", "*"]),
    ("export: a", ["a"], ["b"]),
])
def test_subscribe_permissions(start, rule, allowed, denied):
    s = start(config=one(rule))
    c = login(s)
    for i, subject in enumerate(allowed):
        assert c.sub(subject, i).ping() == [], subject
    for i, subject in enumerate(denied):
        c.sub(subject, 100 + i).expect(sub_denied(subject))
    assert c.ping() == []


@pytest.mark.ours_only
def test_a_star_does_not_allow_the_rest(start):
    """nats-server takes the filter `a.>` as covered by `a.*` and delivers all of it. Ours accepts
    the subscription too, but delivers only what the allow list names."""
    s = start(config=one("subscribe: a.*"))
    c, z = login(s), login(s, "z", "z")
    c.sub("a.>").ping()
    z.pub("a.b").pub("a.b.c").ping()
    assert c.msg().subject == "a.b"
    c.quiet(0.1)


def test_a_wildcard_over_a_deny_filters_at_delivery(start):
    s = start(config=one("subscribe: {deny: [secret.>, \"*.private\"]}"))
    c, z = login(s), login(s, "z", "z")
    c.sub(">").ping()
    for subject in ("secret.a", "x.private", "x.public", "secret"):
        z.pub(subject)
    z.ping()
    assert [m.subject for m in c.ping()] == ["x.public", "secret"]


def test_queue_over_a_deny_takes_another_member(start):
    """CVE-2022-29946: the filter holds for queue members too, and the group still delivers."""
    s = start(config=one("subscribe: {deny: w.secret}"))
    c, z, p = login(s), login(s, "z", "z"), login(s, "z", "z")
    c.sub("w.*", 1, "g").ping()
    z.sub("w.*", 1, "g").ping()
    for _ in range(50):
        p.pub("w.secret")
    p.ping()
    assert (len(c.ping()), len(z.ping())) == (0, 50)


@pytest.mark.parametrize("rule,allowed,denied", [
    ('subscribe: ["a q"]', [("a", "q")], [("a", None), ("a", "r"), ("b", "q")]),
    ('subscribe: ["a q*"]', [("a", "q*")], [("a", "r"), ("a", None)]),
    ('subscribe: ["a *.dev"]', [("a", "x.dev")], [("a", "x.prod"), ("a", None)]),
    ('subscribe: ["a v2.>", b]', [("a", "v2.x"), ("b", None), ("b", "any")], [("a", "v1"), ("a", None)]),
    ('subscribe: {allow: ">", deny: ["a q"]}', [("a", None), ("a", "r"), ("b", "q")], [("a", "q")]),
    ('subscribe: {allow: ["a", "a dev"], deny: "> *.prod"}', [("a", None), ("a", "dev")], [("a", "x.prod")]),
])
def test_queue_permissions(start, rule, allowed, denied):
    s = start(config=one(rule))
    c = login(s)
    for i, (subject, queue) in enumerate(allowed):
        assert c.sub(subject, i, queue).ping() == [], (subject, queue)
    for i, (subject, queue) in enumerate(denied):
        c.sub(subject, 100 + i, queue)
        assert c.next() == sub_denied(subject, queue)


# --- default permissions, allow_responses

def test_default_permissions(start):
    s = start(config=users(
        "user: u, password: p", "user: v, password: p, permissions: {publish: other}",
        extra="default_permissions: {publish: def, subscribe: {deny: x}}"))
    c = login(s)
    c.pub("def").ping()
    c.pub("other").expect(pub_denied("other"))
    c.sub("x").expect(sub_denied("x"))
    c = login(s, "v")
    c.pub("other").ping()
    c.pub("def").expect(pub_denied("def"))
    c.sub("x").ping()


def test_allow_responses_once(start):
    s = start(config=one("subscribe: svc, allow_responses: true"))
    c, z = login(s), login(s, "z", "z")
    c.sub("svc").ping()
    z.sub("in.*").pub("svc", "", "in.1").ping()
    c.msg()
    assert c.pub("in.1", "first").ping() == []
    c.pub("in.1", "second").expect(pub_denied("in.1"))
    c.pub("in.2").expect(pub_denied("in.2"))
    assert [m.data for m in z.ping()] == [b"first"]


def test_allow_responses_max_and_expires(start):
    s = start(config=one('subscribe: svc, publish: own, allow_responses: {max: 3, expires: "600ms"}'))
    c, z = login(s), login(s, "z", "z")
    c.sub("svc").ping()
    z.pub("svc", "", "in.1").ping()
    c.msg()
    c.pub("own").ping()
    for _ in range(3):
        assert c.pub("in.1").ping() == []
    c.pub("in.1").expect(pub_denied("in.1"))
    z.pub("svc", "", "in.2").ping()
    c.msg()
    assert c.pub("in.2").ping() == []
    time.sleep(0.7)
    c.pub("in.2").expect(pub_denied("in.2"))


def test_allow_responses_unlimited(start):
    s = start(config=one('subscribe: svc, allow_responses: {max: -1, expires: "1m"}'))
    c, z = login(s), login(s, "z", "z")
    c.sub("svc").ping()
    z.pub("svc", "", "in.1").ping()
    c.msg()
    for _ in range(50):
        c.pub("in.1")
    assert c.ping() == []


# --- connection types, proxies

def test_allowed_connection_types(start):
    s = start(config=users("user: u, password: p, allowed_connection_types: [STANDARD]",
                           "user: w, password: p, allowed_connection_types: [WEBSOCKET, MQTT]",
                           "user: e, password: p, allowed_connection_types: [standard, leafnode]"))
    login(s).ping()
    login(s, "e").ping()
    refused(s, user="w", **{"pass": "p"})


def test_allowed_connection_types_hold_for_no_auth_user(start):
    """GHSA-hmmp: the short way in checks them too."""
    s = start(config=users("user: w, password: p, allowed_connection_types: [WEBSOCKET]")
              + "no_auth_user: w\n")
    c = s.client()
    c.send_connect()
    c.closed("Authorization Violation")
    c = s.client()
    c.send("SUB a 1\r\n")
    c.closed("Authorization Violation")


def test_unknown_connection_type(start):
    s = start(config=users("user: u, password: p, allowed_connection_types: [TELEPATHY]"),
              wait=False)
    assert s.wait_exit() == 1
    assert "TELEPATHY" in s.log()


# --- user info

def test_user_info(start):
    s = start(config=one('publish: {allow: ["a", "$SYS.REQ.USER.INFO"]}, subscribe: "_INBOX.>", '
                         'allow_responses: {max: 5, expires: "1m"}'))
    c = login(s)
    data = c.request_json("$SYS.REQ.USER.INFO")
    assert data["server"]["id"] == c.info["server_id"]
    data["data"]["permissions"]["publish"]["allow"].sort()
    assert data["data"] == {
        "user": "u", "account": "$G", "account_name": "$G",
        "permissions": {"publish": {"allow": ["$SYS.REQ.USER.INFO", "a"]},
                        "subscribe": {"allow": ["_INBOX.>"]},
                        "responses": {"max": 5, "ttl": 60000000000}}}
    assert login(s, "z", "z").request_json("$SYS.REQ.USER.INFO")["data"] == {
        "user": "z", "account": "$G", "account_name": "$G"}


# --- configuration errors

@pytest.mark.parametrize("config,text", [
    ("authorization { user: a, password: b, users: [{user: c, password: d}] }", "user"),
    ("authorization { token: t, users: [{user: c, password: d}] }", "token"),
    ("authorization { users: [{user: c, password: d}, {user: c, password: e}] }", "uplicate"),
    ("authorization { users: [{nkey: UABC}] }", "nkey"),
    ("authorization { users: [{password: d}] }", "user"),
    ("authorization { users: [{user: c, password: d, permissions: {publish: 5}}] }", ""),
    ("authorization { users: [{user: c, password: d, permissions: {publish: {allow: 'a..b'}}}] }", "a..b"),
    ("authorization { users: [{user: c, password: d, permissions: {what: a}}] }", "what"),
    ("authorization { user: a, password: b }\naccounts { A { users: [{user: c, password: d}] } }", ""),
])
def test_configuration_errors(start, config, text):
    s = start(config=config + "\n", wait=False)
    assert s.wait_exit() == 1
    assert text in s.log()


def test_plain_token_is_not_accepted_as_a_password(start):
    s = start("--auth", "tok")
    refused(s, user="tok")
    refused(s, **{"pass": "tok"})


def test_messages_still_flow_between_users(start):
    s = start(config=one("publish: a, subscribe: b"))
    c, z = login(s), login(s, "z", "z")
    z.sub("a").ping()
    c.sub("b").pub("a", "1").ping()
    assert z.ping() == [Msg("a", "1", None, None, b"1")]
    z.pub("b", "2").ping()
    assert c.ping() == [Msg("b", "1", None, None, b"2")]


def test_reserved_reply_prefixes(start):
    s = start()
    c = s.connect()
    for reply in ("_R_.abc", "$JS.ACK.x"):
        c.pub("a", "", reply).expect(
            "-ERR 'Permissions Violation for Publish with Reply of \"%s\"'" % reply)


# --- the log

def violations(s, count):
    line = r"\[ERR\] 127\.0\.0\.1:\d+ - cid:\d+( - .*Violation.*)\n"
    s.wait_log(line, count=count)  # a trace shows what the client is told, before or behind
    return re.findall(line, s.log())


def test_the_log_names_who_may_not(start):
    s = start(config=one("publish: ok, subscribe: {allow: [ok, 'ok q'], deny: 'x q'}")
              + "max_sub_tokens: 3\n")
    c = login(s, name="app")
    c.pub("no").pub('n"o').sub("no", 2).sub("x", 3, "q").ping()
    c.pub("ok", "", "_R_.x").ping()
    who = ' - "v1:test:app" - "$G/user:u" - '
    assert violations(s, 5) == [
        who + 'Publish Violation - Subject "no"', who + 'Publish Violation - Subject "n\\"o"',
        who + 'Subscription Violation - Subject "no", SID 2',
        who + 'Subscription Violation - Subject "x", Queue: "q", SID 3',
        who + 'Publish Violation - Reply "_R_.x"']


def test_the_log_names_nobody_where_nobody_is_asked(start):
    s = start(config="max_sub_tokens: 3\n")
    s.connect(lang="", version="").pub("a", "", "_R_.x").sub("a.b.c.d", 4, "q").ping()
    s.connect(lang="", version="", user="joe").pub("a", "", "_R_.x").ping()
    assert violations(s, 3) == [
        ' - Publish Violation - Reply "_R_.x"',
        ' - Subscription Violation Too Many Tokens - Subject "a.b.c.d", SID 4',
        ' - "$G/user:joe" - Publish Violation - Reply "_R_.x"']


def test_the_log_names_the_account_of_a_user(start):
    s = start(config="accounts { A { users: [ {user: joe, password: p, permissions: {publish: ok}} ] } }\n")
    login(s, "joe", lang="", version="").pub("no").ping()
    assert violations(s, 1) == [' - "A/user:joe" - Publish Violation - Subject "no"']


def test_the_log_shows_no_token_or_password(start):
    s = start("-DV", config="authorization { token: canary-secret }\n")
    s.connect(auth_token="canary-secret", lang="", version="").pub("a", "", "_R_.x").ping()
    assert violations(s, 1) == [' - "$G/token" - Publish Violation - Reply "_R_.x"']
    assert "canary-secret" not in s.log()


def test_the_log_names_an_nkey(start):
    key = nkey.Key()
    s = start(config=users("nkey: %s, permissions: {publish: ok}" % key.public))
    nkey.connect(s, key, lang="", version="").pub("no").ping()
    assert violations(s, 1) == [' - "$G/nkey:%s" - Publish Violation - Subject "no"' % key.public]
