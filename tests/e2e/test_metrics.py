"""/metrics: what the Prometheus exporter of NATS would have shown, without the exporter, under the
names that dashboards know."""
import re

import pytest

pytestmark = pytest.mark.ours_only

SAMPLE = re.compile(r'^([a-zA-Z_:][a-zA-Z0-9_:]*)(\{(?:[a-zA-Z_][a-zA-Z0-9_]*="(?:[^"\\\n]|\\.)*",?)*\})? '
                    r'(-?[0-9.]+(?:e[+-]?[0-9]+)?|[+-]?Inf|NaN)$')


def parse(text):
    """{name: {labels text: value}}; fails on a line that is no sample."""
    values, types = {}, {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name not in types, "two TYPE lines for " + name
            types[name] = kind
        elif line and not line.startswith("#"):
            m = SAMPLE.match(line)
            assert m, line
            name, labels, value = m.groups()
            rows = values.setdefault(name, {})
            assert labels not in rows, "twice: " + line
            rows[labels] = float(value)
    return values, types


def scrape(s, path="/metrics"):
    status, headers, body = s.http(path)
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    assert body.endswith("\n")
    return parse(body)


def one(values, name):
    rows = list(values[name].values())
    assert len(rows) == 1, values[name]
    return rows[0]


def test_text_format(server):
    values, types = scrape(server)
    assert values and set(types.values()) <= {"gauge", "counter", "histogram", "untyped", "summary"}


def test_names_of_varz(server):
    values, types = scrape(server)
    for field in ("cpu mem cores gomaxprocs connections total_connections max_connections routes "
                  "remotes leafnodes subscriptions slow_consumers stale_connections stalled_clients "
                  "in_msgs out_msgs in_bytes out_bytes in_client_msgs out_client_msgs "
                  "in_client_bytes out_client_bytes max_payload max_pending max_control_line "
                  "ping_interval ping_max port http_port https_port proto auth_timeout tls_timeout "
                  "write_deadline").split():
        assert "gnatsd_varz_" + field in values, field
    assert types["gnatsd_varz_in_msgs"] == "gauge"
    for field in ("clients", "routes", "gateways", "leafs"):
        assert "gnatsd_varz_slow_consumer_stats_" + field in values


def test_names_of_the_other_pages(server):
    values, _ = scrape(server)
    for name in ("connz_num_connections", "connz_total", "connz_offset", "connz_limit",
                 "connz_pending_bytes", "connz_subscriptions", "connz_in_msgs", "connz_out_msgs",
                 "connz_in_bytes", "connz_out_bytes", "routez_num_routes",
                 "subsz_num_subscriptions", "subsz_num_cache", "subsz_num_inserts",
                 "subsz_num_removes", "subsz_num_matches", "subsz_cache_hit_rate",
                 "subsz_max_fanout", "subsz_avg_fanout", "healthz_status"):
        assert "gnatsd_" + name in values, name
    assert one(values, "gnatsd_healthz_status") == 0
    for name in ("process_resident_memory_bytes", "process_open_fds", "process_start_time_seconds"):
        assert name in values, name


def test_values_follow_the_traffic(start):
    s = start(monitor=True)
    c = s.connect()
    c.sub("x")
    for _ in range(10):
        c.pub("x", "12345")
    c.ping()
    values, _ = scrape(s)
    assert one(values, "gnatsd_varz_in_msgs") == 10
    assert one(values, "gnatsd_varz_out_bytes") == 50
    assert one(values, "gnatsd_varz_connections") == 1
    assert one(values, "gnatsd_connz_num_connections") == 1


def test_time_of_the_loop_moves(start):
    s = start("--shards", "2", monitor=True)
    clients = [s.connect() for _ in range(4)]  # on both shards
    for c in clients:
        c.sub("x")
        c.ping()

    def figures():
        values, _ = scrape(s)
        own = {name: one(values, "millrace_%s_seconds_count" % name)
               for name in ("turn", "deliver", "mail")}
        sums = {name: one(values, "millrace_%s_seconds_sum" % name) for name in own}
        busy = values["millrace_shard_busy_seconds_total"]
        assert len(busy) == 2
        return own, sums, busy

    before, _, busy_before = figures()
    for _ in range(40):
        for c in clients:
            c.pub("x", "12345")
            c.ping()
    after, sums, busy = figures()
    for name, count in after.items():
        assert count > before[name], name
        assert 0 < sums[name] / count < 5, (name, sums[name], count)
    assert all(busy[shard] > busy_before[shard] for shard in busy)
    assert sum(busy.values()) == pytest.approx(sums["turn"], rel=1e-3)


def test_every_number_of_varz_is_there(server):
    values, _ = scrape(server)
    page = server.page("/varz")
    for key, value in page.items():
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            assert "gnatsd_varz_" + key in values, key


def test_other_prefix(server):
    values, _ = scrape(server, "/metrics?prefix=nats")
    assert "nats_varz_in_msgs" in values and "gnatsd_varz_in_msgs" not in values


def test_labels_are_escaped(start):
    s = start("-n", 'we"ird\\name', monitor=True)
    scrape(s)


def test_many_connections_do_not_make_many_series(start):
    s = start(monitor=True)
    before = sum(len(r) for r in scrape(s)[0].values())
    clients = [s.connect(name="n%d" % i) for i in range(50)]
    after = sum(len(r) for r in scrape(s)[0].values())
    assert after - before < 50
    assert clients[0].ping() == []
