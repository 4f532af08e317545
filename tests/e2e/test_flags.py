"""The command line in Go's syntax, help and version, exit codes, --signal, the files that a
server writes, and its log."""
import json
import os
import re
import signal
import stat
import subprocess
import time

import pytest

import harness
from harness import free_port, run_binary, wait_until

LINE = re.compile(r"^\[(\d+)\] \d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{6} \[(INF|DBG|WRN|ERR|FTL|TRC)\] ")


# --- version, help, bad flags

@pytest.mark.parametrize("word", ["-v", "--v", "-version", "--version", "version", "-v=true"])
def test_version(word):
    r = run_binary(word)
    assert r.returncode == 0
    assert re.match(r"^nats-server: v\d+\.\d+\.\d+\S*\n$", r.stdout)
    assert r.stderr == ""


@pytest.mark.parametrize("word", ["-h", "--h", "-help", "--help", "help"])
def test_help(word):
    r = run_binary(word)
    assert r.returncode == 0
    for group in ("Server Options:", "Logging Options:", "JetStream Options:",
                  "Authorization Options:", "TLS Options:", "Cluster Options:",
                  "Profiling Options:", "Common Options:"):
        assert group in r.stdout, group
    for flag in ("-a, --addr, --net", "-p, --port", "-n, --name", "--server_name", "-P, --pid",
                 "-m, --http_port", "--https_port", "-c, --config", "-t ", "--signal", "-ms,", "-sl,",
                 "--client_advertise", "--ports_file_dir", "-l, --log", "-T, --logtime",
                 "--logtime_utc", "-s, --syslog", "-r, --remote_syslog", "-D, --debug",
                 "-V, --trace", "-VV", "-DV", "-DVV", "--log_size_limit", "--max_traced_msg_len",
                 "-js, --jetstream", "-sd, --store_dir", "--user", "--pass", "--auth", "--tls ",
                 "--tlscert", "--tlskey", "--tlsverify", "--tlscacert", "--routes", "--cluster ",
                 "--cluster_name", "--no_advertise", "--cluster_advertise", "--connect_retries",
                 "--cluster_listen", "--profile", "-h, --help", "-v, --version", "--help_tls"):
        assert flag in r.stdout, flag


@pytest.mark.parametrize("args,text", [
    (["-bogus"], "flag provided but not defined: -bogus"),
    (["--bogus"], "flag provided but not defined: -bogus"),
    (["-p"], "flag needs an argument: -p"), (["-p", "abc"], 'invalid value "abc" for flag -p: parse error'),
    (["-D=maybe"], 'invalid boolean value "maybe" for -D: parse error'),
    (["-pp", "1"], "flag provided but not defined: -pp"),
    (["---p", "1"], "bad flag syntax: ---p"), (["-=1"], "bad flag syntax: -=1"),
    (["-p=99999999999999999999"], "for flag -p: value out of range"),
])
def test_bad_flags_print_usage_and_exit_0(args, text):
    r = run_binary(*args)
    assert r.returncode == 0
    assert text in r.stderr
    assert "Usage: nats-server [options]" in r.stdout


@pytest.mark.parametrize("args", [["foo"], ["-p", "-1", "foo"], ["-D", "true"], ["--", "foo"]])
def test_unrecognized_command(args):
    r = run_binary(*args)
    assert r.returncode == 1
    assert r.stderr == 'nats-server: unrecognized command: "%s"\n' % args[-1]


# --- syntax that must work

@pytest.mark.parametrize("args", [
    ["-a", "127.0.0.1", "-p", "-1"], ["--a", "127.0.0.1", "--p", "-1"],
    ["-a=127.0.0.1", "-p=-1"], ["--addr=127.0.0.1", "--port=-1"],
    ["-net", "127.0.0.1", "-port", "-1"], ["--net", "127.0.0.1", "--port", "-1"],
    ["-addr", "127.0.0.1", "-p", "5", "-p", "-1"],
])
def test_go_syntax(start, args):
    s = start(*args, defaults=False)
    info = s.client().info
    assert info["host"] == "127.0.0.1" and info["port"] == s.port > 0


@pytest.mark.parametrize("args", [["-n", "x"], ["--name", "x"], ["-server_name", "x"],
                                  ["--server_name=x"]])
def test_names(start, args):
    assert start(*args).client().info["server_name"] == "x"


@pytest.mark.parametrize("args", [
    ["-m", "-1"], ["--http_port", "-1"], ["-http_port=-1"]])
def test_monitoring_port(start, args):
    s = start(*args)
    assert s.page("/healthz") == {"status": "ok"}
    assert s.page("/varz")["http_port"] in (-1, s.http_port)


def test_stops_at_the_first_word_that_is_no_flag():
    assert run_binary("version", "-bogus").returncode == 0


def test_user_pass_and_auth(start):
    s = start("-user", "a", "-pass", "b")
    s.connect(user="a", **{"pass": "b"}).ping()
    s = start("-auth", "t")
    s.connect(auth_token="t").ping()


def test_binary_under_another_name(start):
    """The ports file carries the name it was started under."""
    s = start(name="/some/where/broker")
    assert os.path.basename(s.ports_path) == "broker_%d.ports" % s.pid


@pytest.mark.ours_only
def test_errors_carry_the_name_it_was_started_under():
    r = subprocess.run(["millrace", "-t"], executable=harness.BINARY, capture_output=True,
                       text=True, check=False)
    assert r.returncode == 1 and r.stderr.startswith("millrace: must specify")


@pytest.mark.parametrize("args", [["--tls"], ["--tlsverify"], ["--tls", "--tlscert", "/nonexistent"]])
def test_tls_flags_without_certificates(start, args):
    s = start(*args, wait=False)
    assert s.wait_exit() == 1
    assert s.log().startswith("nats-server: ")


@pytest.mark.ours_only
@pytest.mark.parametrize("args,word", [
    (["--cluster", "nats://127.0.0.1:-1"], "cluster"),
    (["--cluster_listen", "nats://127.0.0.1:-1"], "cluster"),
    (["--routes", "nats://127.0.0.1:1"], "routes"),
])
def test_what_is_not_built_yet_is_refused_by_name(start, args, word):
    s = start(*args, wait=False)
    assert s.wait_exit() == 1
    assert word in s.log().lower()


def test_store_dir_alone_leaves_jetstream_off(start, tmp_path):
    s = start("--store_dir", str(tmp_path))
    assert "jetstream" not in s.client().info


def test_routes_without_a_cluster(start):
    s = start("--routes", "nats://127.0.0.1:1", wait=False)
    assert s.wait_exit() == 1
    assert s.log().startswith("nats-server: ")


@pytest.mark.ours_only
def test_io_driver_flag(start):
    for driver in ("poll", "auto"):
        s = start("--io", driver)
        s.connect().ping()
    assert run_binary("--io", "smoke-signals").returncode in (0, 1)


@pytest.mark.ours_only
def test_shards_flag(start):
    for shards in ("1", "2", "4"):
        s = start("--shards", shards)
        a, b = s.connect(), s.connect()
        a.sub("x").ping()
        b.pub("x", "y").ping()
        assert a.msg().data == b"y"


# --- files

def test_pid_file(start, tmp_path):
    path = str(tmp_path / "pid")
    s = start("-P", path)
    with open(path, encoding="ascii") as f:
        assert f.read() == str(s.pid)
    assert stat.S_IMODE(os.stat(path).st_mode) & 0o077 == 0
    assert s.stop() == 0
    assert os.path.exists(path)


def test_pid_file_that_cannot_be_written(start):
    s = start("-P", "/nonexistent/pid", wait=False)
    assert s.wait_exit() == 1
    assert re.search(r"\[FTL\] Could not write pidfile", s.log())


def test_ports_file(start):
    s = start("-m", "-1")
    assert set(s.ports) >= {"nats", "monitoring"}
    assert s.ports["nats"] == ["nats://127.0.0.1:%d" % s.port]
    assert s.ports["monitoring"] == ["http://127.0.0.1:%d" % s.http_port]
    path = s.ports_path
    assert s.stop() == 0
    assert not os.path.exists(path)


def test_ports_file_that_cannot_be_written(start):
    """Reported, but the server runs."""
    s = start("--ports_file_dir", "/nonexistent", wait=False)
    s.wait_log(r"\[ERR\] Error writing ports file")
    assert s.stop() == 0


def test_every_address_of_a_wildcard_listen(start):
    s = start("-a", "0.0.0.0", "-p", "-1", defaults=False)
    assert any(u.startswith("nats://127.0.0.1:") for u in s.ports["nats"])
    s.wait_log(r"Listening for client connections on 0\.0\.0\.0:%d" % s.port)
    assert s.client().info["host"] == "0.0.0.0"


# --- the log

def test_start_lines(start):
    s = start("-n", "mill", "-m", "-1", config="ping_max: 3\n")
    text = s.wait_log(r"(?s)^.*Server is ready\n").group(0)
    lines = text.rstrip("\n").split("\n")
    for line in lines:
        assert LINE.match(line), line
        assert LINE.match(line).group(1) == str(s.pid)
    bare = [LINE.sub("", line) for line in lines]
    wanted = ["Starting nats-server", "  Version:  ", "  Name:     mill", "  ID:       N",
              "Using configuration file: ", "Starting http monitor on 127.0.0.1:%d" % s.http_port,
              "Listening for client connections on 127.0.0.1:%d" % s.port, "Server is ready"]
    places = [next(i for i, line in enumerate(bare) if line.startswith(w)) for w in wanted]
    assert places == sorted(places), bare
    assert re.match(r"  ID:       %s$" % s.client().info["server_id"], bare[places[3]])


def test_stop_lines(start):
    s = start()
    s.connect()
    s.stop()
    assert 'Trapped "interrupt" signal' in s.log()
    assert s.log().index("Initiating Shutdown...") < s.log().index("Server Exiting..")


def test_log_file(start):
    s = start(log_to_file=True)
    s.wait_log("Server is ready")
    with open(s.stderr_path, encoding="utf-8") as f:
        assert "Server is ready" not in f.read()
    with open(os.path.join(s.folder, "server.log"), encoding="utf-8") as f:
        assert "\x1b[" not in f.read()


def test_log_file_that_cannot_be_opened(start):
    s = start("-l", "/nonexistent/log", wait=False)
    assert s.wait_exit() == 1
    assert "/nonexistent/log" in s.log()


def test_no_log_time(start):
    s = start("-T=false")
    s.wait_log(r"(?m)^\[%d\] \[INF\] Server is ready" % s.pid)


def test_log_time_in_utc(start):
    s = start("--logtime_utc", env={"TZ": "America/New_York"})
    stamp = s.wait_log(r"\] (\d{4}/\d\d/\d\d \d\d:\d\d):\d\d\.\d+ \[INF\] Server is ready").group(1)
    assert stamp in {time.strftime("%Y/%m/%d %H:%M", time.gmtime(time.time() - d)) for d in (0, 60)}


def test_debug_and_trace(start):
    s = start("-DV")
    c = s.connect(name="nm")
    c.sub("a").pub("a", "hello").hpub("a", {"k": "v"}, "x").unsub().ping()
    cid = c.info["client_id"]
    c.close()
    s.wait_log("Client connection closed")
    log = s.log()
    who = r"\[TRC\] 127\.0\.0\.1:\d+ - cid:%d - " % cid
    assert re.search(r"\[DBG\] 127\.0\.0\.1:\d+ - cid:%d - Client connection created" % cid, log)
    assert re.search(who + r"<<- \[CONNECT \{", log)
    named = who + r'"v1:test:nm" - ' + r'(?:"\$G[^"]*" - )?'
    for text in (r"<<- \[PING\]", r"->> \[PONG\]", r"<<- \[SUB a 1\]", r"<<- \[PUB a 5\]",
                 r'<<- MSG_PAYLOAD: \["hello"\]', r"->> \[MSG a 1 5\]",
                 r'->> MSG_PAYLOAD: \["hello"\]',
                 r"<<- \[HPUB a 18 19\]", r"->> \[HMSG a 1 18 19\]", r"<<- \[UNSUB 1\]"):
        assert re.search(named + text, log), text


def test_trace_shows_no_secret(start):
    s = start("-DVV", "--user", "u", "--pass", "canary-secret")
    s.connect(user="u", **{"pass": "canary-secret"}).ping()
    c = s.client()
    c.send_connect(user="u", **{"pass": "canary-secret-2"}, auth_token="canary-secret-3")
    c.rest()
    s.wait_log(r"<<- \[CONNECT.*REDACTED")
    assert "canary-secret" not in s.log()


@pytest.mark.ours_only
def test_trace_shows_no_jwt_or_signature(start):
    s = start("-DV")
    s.client().send_connect(jwt="canary-secret", sig="canary-secret", proxy_sig="canary-secret")
    s.wait_log(r"<<- \[CONNECT")
    assert "canary-secret" not in s.log()


def test_max_traced_msg_len(start):
    s = start("-V", "--max_traced_msg_len", "5")
    c = s.connect()
    c.sub("a").pub("a", "0123456789").ping()
    for way in ("<<-", "->>"):
        s.wait_log(way + r' MSG_PAYLOAD: \["01234\.\.\."\]')
    assert "012345" not in s.log()


def test_trace_shows_what_each_receiver_got(start):
    s = start("-V")
    c, plain = s.connect().sub("a"), s.connect(headers=False, no_responders=False).sub("a")
    s.connect().hpub("a", {"k": "v"}, "x").ping()
    c.ping()
    plain.ping()
    for client, said in ((c, r"NATS/1\.0\\r\\nk: ?v\\r\\n\\r\\nx"), (plain, "x")):
        s.wait_log(r'cid:%d - .*->> MSG_PAYLOAD: \["%s"\]' % (client.info["client_id"], said))


def test_trace_shows_headers_with_the_payload(start):
    s = start("-V")
    s.connect().hpub("a", {"k": "v"}, "x").ping()
    s.wait_log(r'MSG_PAYLOAD: \["NATS/1\.0\\r\\nk: ?v\\r\\n\\r\\nx"\]')


def test_trace_headers_shows_no_payload(start):
    s = start(config="trace: true\ntrace_headers: true\n")
    c = s.connect().sub("a").pub("a", "plain-secret").hpub("a", {"k": "v"}, "payload-secret")
    c.ping()
    for way in ("<<-", "->>"):
        s.wait_log(way + r' MSG_PAYLOAD: \["NATS/1\.0\\r\\nk: ?v"\]')
    assert "secret" not in s.log()


def test_an_empty_payload_is_not_traced(start):
    s = start("-V")
    s.connect().sub("a").pub("a", "").ping()
    s.wait_log(r"<<- \[PING\]")
    assert "MSG_PAYLOAD" not in s.log()


@pytest.mark.parametrize("flag", ["-V", "-VV"])
def test_what_the_server_publishes_is_traced_by_vv_alone(start, flag):
    s = start(flag)
    c = s.connect()
    c.sub("in").pub("$SYS.REQ.USER.INFO", "", reply="in").ping()
    c.msg()
    c.ping()
    s.wait_log(r"<<- \[PING\]", count=3)  # that of connect is the first
    own = re.search(r"SYSTEM - <<- \[PUB \S+  \d+\]\n.*SYSTEM - <<- MSG_PAYLOAD: \[", s.log())
    assert bool(own) == (flag == "-VV")


@pytest.mark.ours_only
@pytest.mark.parametrize("name", ["json", "logfmt"])
def test_log_format(start, name):
    s = start("-DV", config="log_format: %s\n" % name)
    s.connect(name='a "b"').pub("a", "x\ny").ping()
    s.wait_log("PING")
    for line in s.log().splitlines():
        if name == "json":
            parsed = json.loads(line)
            assert list(parsed) == ["time", "level", "pid", "msg"] and parsed["pid"] == s.pid
        else:
            assert re.fullmatch(r"time=\S+Z level=[A-Z]{3} pid=%d msg=\"(?:[^\"\\]|\\.)*\"" % s.pid,
                                line), line
    s.reload("log_format: text\n")
    s.wait_log(r"(?m)^\[\d+\] .*Reloaded")


def test_no_trace_by_default(start):
    s = start()
    s.connect().sub("a").pub("a", "hello").ping()
    assert "[TRC]" not in s.log() and "[DBG]" not in s.log()


def test_payload_with_control_bytes_stays_on_its_line(start):
    s = start("-V")
    c = s.connect()
    c.pub("a", b"x\r\n[1] 2026/01/01 00:00:00.000000 [INF] forged\r\n").ping()
    s.wait_log("MSG_PAYLOAD")
    for line in s.log().rstrip("\n").split("\n"):
        assert LINE.match(line), line


def test_log_rotation(start):
    s = start("--log_size_limit", "4000", "-DV", log_to_file=True)
    c = s.connect()
    for i in range(60):
        c.pub("a", "x" * 50).ping()
    names = wait_until(lambda: [n for n in os.listdir(s.folder)
                                if re.match(r"server\.log\.\d{4}\.\d\d\.\d\d\.\d\d\.\d\d\.\d\d\.\d+$", n)])
    assert names
    path = os.path.join(s.folder, "server.log")  # for a moment it is not there while it rotates
    assert os.path.getsize(wait_until(lambda: os.path.exists(path) and path)) < 8000


def test_log_rotation_keeps_so_many(start):
    s = start("-DV", log_to_file=True, config="logfile_size_limit: 3000\nlogfile_max_num: 3\n")
    c = s.connect()
    for i in range(120):
        c.pub("a", "x" * 50).ping()
    def names():
        return [n for n in os.listdir(s.folder) if n.startswith("server.log")]
    wait_until(lambda: len(names()) >= 2)  # the log's writer is a thread of its own
    assert len(names()) <= 4


def test_reopen_of_the_log(start):
    s = start(log_to_file=True)
    path = os.path.join(s.folder, "server.log")
    os.rename(path, path + ".old")
    s.signal(signal.SIGUSR1)
    wait_until(lambda: os.path.exists(path))
    s.wait_log("File log re-opened")


# --- start problems

def test_port_in_use(start):
    a = start()
    b = start("-p", str(a.port), wait=False)
    assert b.wait_exit() == 1
    assert re.search(r"\[FTL\] Error listening on port: 127\.0\.0\.1:%d.*address already in use"
                     % a.port, b.log())


def test_monitoring_port_in_use(start):
    a = start(monitor=True)
    b = start("-m", str(a.http_port), wait=False)
    assert b.wait_exit() == 1
    assert re.search(r"\[FTL\].*%d" % a.http_port, b.log())


def test_bad_port_number(start):
    s = start("-p", "70000", wait=False)
    assert s.wait_exit() == 1


def test_ready_within_a_second(start):
    def seconds():
        begin = time.monotonic()
        start().connect()
        return time.monotonic() - begin
    # The quickest of a few: another process may have the machine for a while.
    assert any(seconds() < 1 * harness.SLOW for _ in range(5))


@pytest.mark.ours_only
def test_secrets_are_wiped_from_the_command_line(start):
    """Advisory 2026-14, and `ps`."""
    s = start("--user", "u", "--pass", "canary-one", monitor=True)
    t = start("--auth", "canary-two")
    for server in (s, t):
        with open("/proc/%d/cmdline" % server.pid, "rb") as f:
            assert b"canary" not in f.read()
    s.connect(user="u", **{"pass": "canary-one"}).ping()


# --- --signal

@pytest.mark.parametrize("word,code", [("quit", 0), ("term", 0), ("stop", -9)])
def test_signal_by_pid(start, word, code):
    s = start()
    r = run_binary("--signal", "%s=%d" % (word, s.pid))
    assert r.returncode == 0, r.stderr
    assert s.wait_exit() == code


@pytest.mark.parametrize("flag", ["-sl", "--sl", "-signal", "--signal"])
def test_signal_by_pid_file(start, tmp_path, flag):
    path = str(tmp_path / "pid")
    s = start("-P", path)
    r = run_binary("%s=quit=%s" % (flag, path))
    assert r.returncode == 0, r.stderr
    assert s.wait_exit() == 0


def test_signal_reload_and_reopen(start):
    s = start(config="debug: false\n", log_to_file=True)
    assert run_binary("--signal", "reload=%d" % s.pid).returncode == 0
    s.wait_log("Reloaded server configuration")
    assert run_binary("--signal", "reopen=%d" % s.pid).returncode == 0
    s.wait_log("File log re-opened")


@pytest.mark.parametrize("text,words", [
    ("bogus=%d", "bogus"), ("stop=99999999", "99999999"), ("stop=/nonexistent.pid", "/nonexistent.pid"),
])
def test_signal_errors(start, text, words):
    s = start()
    r = run_binary("--signal", text % s.pid if "%d" in text else text)
    assert r.returncode == 1
    assert r.stderr.startswith("nats-server: ")
    assert s.connect().ping() == []


def test_memory_and_descriptors_do_not_leak_at_start():
    port = free_port()
    p = subprocess.Popen([harness.BINARY, *harness.driver_flags(), "-a", "127.0.0.1", "-p",
                          str(port)], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: _connects(port))
        for fd in os.listdir("/proc/%d/fd" % p.pid):
            assert fd.isdigit()
        assert len(os.listdir("/proc/%d/fd" % p.pid)) < 100
    finally:
        p.terminate()
        assert p.wait(10) == 0


def _connects(port):
    try:
        harness.Raw(port).close()
        return True
    except OSError:
        return False


def test_the_ports_file_is_json_on_its_own(start):
    s = start(monitor=True)
    with open(s.ports_path, encoding="utf-8") as f:
        assert json.load(f) == s.ports


def test_a_killed_server_can_be_started_again_at_once(start):
    """The kernel ends an io_uring after its process: its listening sockets live a little longer."""
    port, http_port = free_port(), free_port()
    for _ in range(20):
        s = start("-p", str(port), "-m", str(http_port))
        assert s.port == port
        s.kill()


def test_the_first_connections_may_come_to_several_shards_at_once(start):
    for _ in range(15):
        s = start("-DV", *([] if harness.is_reference() else ["--shards", "4"]))
        clients = [s.client(read_info=False) for _ in range(8)]
        for c in clients:
            c.read_info()
        for c in clients:
            c.connect().close()
        s.stop()
