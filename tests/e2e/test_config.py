"""The configuration file: grammar, units, includes, variables, errors with their position, -t."""
import os
import re

import pytest

from harness import run_binary


def check(folder, text, name="server.conf", **options):
    path = os.path.join(str(folder), name)
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    return run_binary("-t", "-c", path, **options), path


def good(folder, text, **options):
    r, path = check(folder, text, **options)
    assert r.returncode == 0, r.stderr
    return r, path


def bad(folder, text, *words, **options):
    r, path = check(folder, text, **options)
    assert r.returncode == 1, (r.stdout, r.stderr)
    assert r.stderr.startswith("nats-server: "), r.stderr
    for word in words:
        assert word in r.stderr, r.stderr
    return r, path


# --- -t

def test_valid_file(tmp_path):
    r, path = good(tmp_path, "port: 4222\n")
    assert re.match(r"^nats-server: configuration file %s is valid \(sha256:[0-9a-f]{64}\)\n$"
                    % re.escape(path), r.stderr)
    assert r.stdout == ""


def test_the_digest_is_that_of_the_parsed_content(tmp_path):
    r, _ = good(tmp_path, "port: 4222\n")
    assert "797533ebd0dfba7d34a0f9337ecf147e442871f48ddfd07ed751575a5737267e" in r.stderr
    r, _ = good(tmp_path, "# a comment\n{ port = 4222 }\n")
    assert "797533ebd0dfba7d34a0f9337ecf147e442871f48ddfd07ed751575a5737267e" in r.stderr


def test_digest_in_varz(start):
    s = start(config="max_payload: 2000\n", monitor=True)
    r = run_binary("-t", "-c", s.config_path)
    digest = re.search(r"sha256:[0-9a-f]{64}", r.stderr).group(0)
    assert s.page("/varz")["config_digest"] == digest


def test_t_needs_a_file():
    r = run_binary("-t")
    assert r.returncode == 1
    assert r.stderr == "nats-server: must specify [-c, --config] option to check " \
                       "configuration file syntax\n"


def test_missing_file():
    for args in (("-c", "/nonexistent"), ("-t", "-c", "/nonexistent"), ("-c", "/")):
        r = run_binary(*args)
        assert r.returncode == 1 and r.stderr.startswith("nats-server: ")


def test_empty_file(tmp_path):
    check(tmp_path, "")
    r = run_binary("-t", "-c", str(tmp_path / "server.conf"))
    assert r.returncode in (0, 1)


# --- grammar: everything here says the same

@pytest.mark.parametrize("text", [
    "max_payload: 2000\nping_max: 3\nserver_name: mill\n",
    "max_payload = 2000\nping_max = 3\nserver_name = mill\n",
    "max_payload 2000\nping_max 3\nserver_name mill\n",
    "max_payload: 2000, ping_max: 3, server_name: mill",
    "max_payload: 2000; ping_max: 3; server_name: mill;",
    "{ max_payload: 2000, ping_max: 3, server_name: mill }\n",
    '{"max_payload": 2000, "ping_max": 3, "server_name": "mill"}',
    '{\n  "max_payload": 2000,\n  "ping_max": 3,\n  "server_name": "mill"\n}\n',
    "'max_payload': 2000\n\"ping_max\": 3\n server_name: 'mill'\n",
    "MAX_PAYLOAD: 2000\nPing_Max: 3\nServer_Name: mill\n",
    "# c\nmax_payload: 2000 # c\n// c\nping_max: 3 // c\nserver_name: mill # c\n#",
    "\n\n  max_payload  :  2000\n\tping_max\t=\t3\n  server_name   mill\n\n",
    "max_payload:2000\nping_max=3\nserver_name:mill\n",
    "max_payload: 1\nmax_payload: 2000\nping_max: 3\nserver_name: mill\n",
    "max_payload: 2k\nping_max: 3\nserver_name: mill\n",
    "p: 2000\nmax_payload: $p\nping_max: 3\nN: mill\nserver_name: $N\n",
    "max_payload: 2000\r\nping_max: 3\r\nserver_name: mill\r\n",
])
def test_spellings(start, text):
    s = start(config=text, monitor=True)
    v = s.page("/varz")
    assert (v["max_payload"], v["ping_max"], v["server_name"]) == (2000, 3, "mill")


@pytest.mark.parametrize("word,value", [
    ("1000", 1000), ("1k", 1000), ("1K", 1000), ("1kb", 1024), ("1KB", 1024), ("1ki", 1024),
    ("1kib", 1024), ("1KiB", 1024), ("2m", 2000000), ("2mb", 2 << 20), ("2Mi", 2 << 20),
    ("2MiB", 2 << 20), ("3MB", 3 << 20), ("0001000", 1000),
])
def test_integer_units(start, word, value):
    s = start(config="max_payload: %s\n" % word)
    assert s.client().info["max_payload"] == value


@pytest.mark.parametrize("word,value", [
    ("true", True), ("True", True), ("TRUE", True), ("on", True), ("On", True), ("yes", True),
    ("YES", True), ("false", False), ("off", False), ("no", False), ("No", False)])
def test_booleans(start, word, value):
    s = start(config="no_header_support: %s\n" % word)
    assert s.client().info["headers"] is not value


@pytest.mark.parametrize("word,seconds", [
    ("2s", 2), ('"2s"', 2), ("1500ms", 1.5), ("1h", 3600), ('"5m"', 300), ("'1m30s'", 90),
    ('"1h2m3.5s"', 3723.5), ("100us", 0.0001), ('"1.5h"', 5400)])
def test_durations(start, word, seconds):
    s = start(config="ping_interval: %s\n" % word, monitor=True)
    assert s.page("/varz")["ping_interval"] == round(seconds * 1e9)


@pytest.mark.parametrize("text,name", [
    ('server_name: "a\\tb\\x41\\"c\\\\d"'.replace("\\t", ""), 'abA"c\\d'),
    ("server_name: 'raw\\x41'", "raw\\x41"),
    ("server_name: bare-word_1.2:3", "bare-word_1.2:3"),
    ('server_name: "日本"', "日本"),
    ("server_name: 5e7bcd", "5e7bcd"), ("server_name: 2s", "2s"),
    ("server_name: 1.2.3.4:5", "1.2.3.4:5"),
])
def test_strings(start, text, name):
    s = start(config=text + "\n")
    assert s.client().info["server_name"] == name


def test_arrays(start):
    for text in ("[a, b, c]", "[a\nb\nc]", "[ 'a',\n\"b\"\n c, ]", "[\n # x\n a,\n b // y\n c\n]"):
        s = start(config="server_tags: %s\n" % text, monitor=True)
        assert s.page("/varz")["tags"] == ["a", "b", "c"]


def test_maps_and_metadata(start):
    s = start(config="server_metadata { a: b, 'c d': \"e f\" }\n", monitor=True)
    assert s.page("/varz")["metadata"] == {"a": "b", "c d": "e f"}


def test_block_strings(start):
    s = start(config="server_name: (\n  mill\n)\n", wait=False)
    s.stop()


def test_loose_file_of_a_client_suite(start):
    """The syntax that the JavaScript clients' harness writes."""
    s = start(config="""
http 127.0.0.1:-1
server_tags [
  one
  two
]
authorization {
  users [
    {
      user a
      password b
      permissions {
        publish [
          x.>
          y
        ]
      }
    }
  ]
}
""")
    assert s.page("/varz")["tags"] == ["one", "two"]
    c = s.connect(user="a", **{"pass": "b"})
    c.pub("x.1").pub("y").ping()
    c.pub("z").expect("-ERR 'Permissions Violation for Publish to \"z\"'")


# --- includes

def test_include(start, tmp_path):
    os.makedirs(tmp_path / "s0" / "sub")
    (tmp_path / "s0" / "users.conf").write_text("users [ {user: a, password: b} ]\n")
    (tmp_path / "s0" / "sub" / "one.conf").write_text("max_payload: 3000\ninclude 'two.conf'\n")
    (tmp_path / "s0" / "sub" / "two.conf").write_text("ping_max: 7\n")
    s = start(config="include sub/one.conf\nauthorization {\n  include users.conf\n}\n",
              monitor=True)
    v = s.page("/varz")
    assert (v["max_payload"], v["ping_max"]) == (3000, 7)
    s.connect(user="a", **{"pass": "b"}).ping()


@pytest.mark.parametrize("text", ["include missing.conf\n", "include 'missing.conf'\n",
                                  "a { include missing.conf }\n"])
def test_missing_include(tmp_path, text):
    bad(tmp_path, text, "missing.conf", "no such file")


@pytest.mark.ours_only
def test_include_of_itself(tmp_path):
    """Must end with an error, not with an exhausted stack."""
    bad(tmp_path, "include server.conf\n")


def test_error_in_an_included_file_names_it(tmp_path):
    (tmp_path / "inc.conf").write_text("port: 4222\n\nnonsense: 5\n")
    r, _ = bad(tmp_path, "include inc.conf\n", "nonsense")
    assert "inc.conf:3:" in r.stderr


# --- variables

def test_variables_from_enclosing_blocks(start):
    s = start(config="""
P = secret
server_name = $P
OUTER = 2500
max_payload = $OUTER
authorization {
  P = inner
  users [ {user: a, password: $P} ]
}
""")
    s.connect(user="a", **{"pass": "inner"}).ping()
    assert s.client().info["max_payload"] == 2500


def test_variables_as_whole_blocks(start):
    """The way the Java client's suite writes permissions."""
    s = start(config="""
SERVICE = { publish: "svc.>", subscribe: [ "_INBOX.>", "x" ] }
LIST = [ a, b ]
server_tags: $LIST
authorization { users [ {user: a, password: b, permissions: $SERVICE} ] }
""", monitor=True)
    c = s.connect(user="a", **{"pass": "b"})
    c.pub("svc.1").ping()
    c.pub("other").expect("-ERR 'Permissions Violation for Publish to \"other\"'")
    assert s.page("/varz")["tags"] == ["a", "b"]


@pytest.mark.parametrize("text,value", [("3000", 3000), ("3k", 3000), ("3kb", 3072)])
def test_variables_from_the_environment(start, text, value):
    s = start(config="max_payload: $MILL_TEST_SIZE\n", env={"MILL_TEST_SIZE": text})
    assert s.client().info["max_payload"] == value


def test_environment_strings(start):
    s = start(config="server_name: $MILL_TEST_NAME\n", env={"MILL_TEST_NAME": "pod-0"})
    assert s.client().info["server_name"] == "pod-0"


def test_unknown_variable(tmp_path):
    bad(tmp_path, "port: $NO_SUCH_VARIABLE_HERE\n", "NO_SUCH_VARIABLE_HERE", "can not be found")


def test_variable_cycle(tmp_path):
    r, _ = check(tmp_path, "port: $A\n", env={"A": "$B", "B": "$A"})
    assert r.returncode == 1


def test_a_key_used_as_a_variable_is_known(tmp_path):
    good(tmp_path, "anything: 5\nping_max: $anything\n")
    bad(tmp_path, "anything: 5\nping_max: 3\n", 'unknown field "anything"')


def test_bcrypt_text_is_no_variable(tmp_path):
    good(tmp_path, "authorization { user: a, password: "
                   "$2a$11$W2zko751KUvVy59mUTWmpOdWjpEm5qhcCZRd05GjI/sSOT.xtiHyG }\n")


# --- errors and their positions

@pytest.mark.parametrize("text,position,words", [
    ("foo: 1\n", ":1:", ['unknown field "foo"']),
    ("port: 4222\n\nfoo: 1\n", ":3:", ['unknown field "foo"']),
    ("authorization {\n  user: a\n  bogus: b\n}\n", ":3:", ['unknown field "bogus"']),
    ("accounts { A { users: [ {user: a, password: b, colour: red} ] } }\n", ":1:", ["colour"]),
    ("tls {\n cert_file: x\n wrong: 1\n}\n", ":3:", ['unknown field "wrong"']),
    ("port: x\n", ":1:", []), ("debug: maybe\n", ":1:", []), ("max_payload: 1x\n", ":1:", []),
    ("max_payload: []\n", ":1:", []), ("ping_max: {}\n", ":1:", []), ("tls: 5\n", ":1:", []),
    ("authorization: 5\n", ":1:", []), ("max_connections: 5.5\n", ":1:", []),
    ("server_tags: {a: b}\n", ":1:", []),
    ("ping_interval: 5x\n", ":1:", ['unknown unit "x" in duration "5x"']),
    ('write_deadline: "fast"\n', ":1:", ["write_deadline"]),
    ("listen: \"1:2:3\"\n", ":1:", ["1:2:3"]),
    ("listen: nowhere\n", ":1:", []),
    ("max_sub_tokens: 300\n", ":1:", ["max_sub_tokens"]),
    ('lame_duck_duration: "10s"\n', ":1:", ["lame_duck_duration", "30"]),
    ("server_name: \"a b\"\n", ":1:", ["spaces"]),
    ("write_timeout: maybe\n", ":1:", ["write_timeout"]),
    ("accounts { $G {} }\n", ":1:", ["$G", "Reserved"]),
    ("mappings: { a: \"b.$2\" }\n", ":1:", ["b.$2"]),
])
def test_errors_with_position(tmp_path, text, position, words):
    r, path = bad(tmp_path, text, *words)
    assert r.stderr.startswith("nats-server: %s%s" % (path, position)), r.stderr


@pytest.mark.parametrize("text,lines", [
    # What is never closed may be reported where it opens or where the file ends.
    ("a {\n", (1, 2)), ("port: [1\n", None), ("port: \n", None),
    ("authorization {\n user: a\n", (1, 3)), ("a: \"x\n", (1, 2)), ("a: (\nfoo\n", (1, 3)),
    ("server_tags: [a b]\n", (1,)), ("port: 1 2 3 {\n", None),
    ("= 5\n", None), ("a: [\n\n", None), ("port: @\n{", None),
    ('a: "\\q"\n', None), ("a: ]\n", None),
])
def test_parse_errors(tmp_path, text, lines):
    r, _ = bad(tmp_path, text, "Parse error on line" if lines else "")
    if lines:
        assert any("Parse error on line %d: " % line in r.stderr for line in lines)


@pytest.mark.parametrize("text", ["ping_interval: 5m\n", "ping_interval: 5\n",
                                  "write_deadline: 5\n"])
def test_a_plain_number_as_duration_fails_under_t_only(tmp_path, start, text):
    r, path = check(tmp_path, text)
    assert r.returncode == 1
    field = text.split(":")[0]
    assert field in r.stderr and "should be converted to a duration" in r.stderr
    if "5m" not in text:
        s = start(config=text, monitor=True)
        s.connect()


def test_deep_nesting_is_refused_or_taken_but_does_not_crash(tmp_path):
    for opener, closer in (("a {", "}"), ("[", "]")):
        r, _ = check(tmp_path, "x: " + opener * 500 + closer * 500 + "\n")
        assert r.returncode in (0, 1)


@pytest.mark.parametrize("text", [b"\x00\x01\x02", b"port: \xff\xfe\n", b"\xef\xbb\xbfport: 4222\n",
                                  b"a" * 100000, b"port: " + b"9" * 400 + b"\n", b"{" * 300,
                                  b"$", b"include", b"include \n", b"'", b"\\", b"port: $\n"])
def test_hostile_files(tmp_path, text):
    path = tmp_path / "server.conf"
    path.write_bytes(text)
    r = run_binary("-t", "-c", str(path))
    assert r.returncode in (0, 1), r.stderr


# --- every option is known by all its names

OPTIONS = """
listen: "127.0.0.1:4222"; port: 4222; host: 127.0.0.1; net: 127.0.0.1; client_advertise: "a:1"
server_name: x; server_tags: x; server_metadata: {a: b}; debug: true; trace: true
trace_verbose: true; trace_headers: true; logtime: true; logtime_utc: true; logfile: x; log_file: x
logfile_size_limit: 5; log_size_limit: 5; logfile_max_num: 3; log_max_num: 3; syslog: false
remote_syslog: "udp://x"; pidfile: x; pid_file: x; ports_file_dir: x; prof_port: 0
http: "127.0.0.1:8222"; http_port: 8222; monitor_port: 8222; http_base_path: "/x"
max_control_line: 4096; max_payload: 1MB; max_pending: 64MB; max_connections: 10; max_conn: 10
max_subscriptions: 5; max_subs: 5; max_sub_tokens: 5; max_subscription_tokens: 5
ping_interval: 1s; ping_max: 2; write_deadline: 2s; write_timeout: close; max_traced_msg_len: 5
lame_duck_duration: "2m"; lame_duck_grace_period: 10s; max_closed_clients: 5
no_fast_producer_stall: true; no_header_support: true; disable_sublist_cache: true
no_sublist_cache: true; connect_error_reports: 5; reconnect_error_reports: 5
authorization: {user: a, password: b}; accounts: {A: {}}; system_account: "$SYS"; system: "$SYS"
no_system_account: true; no_system: true; no_sys_acc: true; mappings: {a: b}; maps: {a: b}
allow_non_tls: false; feature_flags: {js_ack_fc_v2: false}; default_js_domain: {}
accounts: {A: {jetstream: enabled}}; accounts: {A: {jetstream: {max_mem: 1K, max_file: 2K, streams: 3}}}
jetstream: {enabled: false, max_memory_store: 1G, max_file_store: 2G, sync_interval: always, domain: x}
jetstream: {enabled: false, strict: false, unique_tag: a, extension_hint: x, max_buffered_size: 1M}
jetstream: {enabled: false, limits: {max_ack_pending: 1, batch: {timeout: 5s}}, meta_compact: 5}
jetstream: {enabled: false, max_outstanding_catchup: 1M, request_queue_limit: 5, info_queue_limit: 6}
""".replace("\n", ";").strip(";").split(";")


@pytest.mark.parametrize("option", [o.strip() for o in OPTIONS if o.strip()])
def test_option_names(tmp_path, option):
    good(tmp_path, option + "\n")


@pytest.mark.ours_only
@pytest.mark.parametrize("option", [
    "cluster { port: 6222 }", "gateway { name: a, port: 7222 }", "leafnodes { port: 7422 }",
    "leaf { port: 7422 }", "websocket { port: 8080, no_tls: true }", "ws { port: 8080, no_tls: true }",
    "mqtt { port: 1883 }", "operator: /tmp/x.jwt", "resolver: MEMORY", "resolver_preload: {A: b}",
    "trusted_keys: [OABC]", "ocsp: true", "ocsp_cache: true", "proxy_protocol: true",
    "proxies { trusted: [] }",
    "authorization { auth_callout { issuer: A, auth_users: [a] } }",
    "accounts { A { exports: [{service: a}] } }", "accounts { A { exports: [{stream: a}] } }",
    "accounts { A {}, B { imports: [{stream: {account: A, subject: a}}] } }",
    "accounts { A { msg_trace: x } }",
    "jetstream { enabled: false, key: x }",
])
def test_what_is_not_built_yet_is_refused_by_name(tmp_path, option):
    r, _ = check(tmp_path, option + "\n")
    assert r.returncode == 1
    names = re.findall(r"[a-z_]+", option)
    assert any(n in r.stderr.lower() for n in names), r.stderr
    assert "unknown field" not in r.stderr or "not supported" in r.stderr, r.stderr


@pytest.mark.ours_only
def test_what_has_no_effect_is_said_at_start_and_at_reload(start, tmp_path):
    said = r"\[WRN\] %s: \"%s\" has "
    config = "prof_port: 7\nconnect_error_reports: 9\njetstream { enabled: false\n  unique_tag: az }\n"
    s = start(config=config, monitor=True)
    for times in (1, 2):
        for place, name in (("1:1", "prof_port"), ("2:1", "connect_error_reports"),
                            ("4:3", "jetstream.unique_tag")):
            s.wait_log(said % (re.escape(s.config_path) + ":" + place, re.escape(name)))
            assert len(re.findall(said % (".*", re.escape(name)), s.log())) == times, s.log()
        s.reload(count=times)
    r = run_binary("-t", "-c", s.config_path)
    assert r.returncode == 0
    for place, name in (("1:1", "prof_port"), ("4:3", "jetstream.unique_tag")):
        assert ': [WRN] %s:%s: "%s" has no effect: ' % (s.config_path, place, name) in r.stderr
    r = run_binary("--print-config", "-c", s.config_path)
    assert r.stderr == ""
    assert "has no effect" not in r.stdout


# --- start

def test_flags_override_the_file(start):
    s = start("-n", "flag", config="server_name: file\nport: 1\nhost: 256.0.0.1\n")
    assert s.client().info["server_name"] == "flag"


def test_listen_in_the_file(start):
    s = start(config='listen: "127.0.0.1:-1"\nhttp: "127.0.0.1:-1"\n', defaults=False)
    assert s.client().info["host"] == "127.0.0.1"
    assert s.page("/varz")["http_host"] == "127.0.0.1"


def test_bad_host(start):
    s = start("-a", "256.1.1.1", "-p", "-1", defaults=False, wait=False)
    assert s.wait_exit() == 1
    assert "[FTL]" in s.log()


def test_option_relations(start):
    for text in ("max_payload: 100\nmax_pending: 50\n",
                 'lame_duck_grace_period: "5m"\nlame_duck_duration: "2m"\n'):
        s = start(config=text, wait=False)
        assert s.wait_exit() == 1, text
        assert "nats-server: " in s.log() or "[FTL]" in s.log()
