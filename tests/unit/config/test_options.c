#include <criterion/criterion.h>
#include <stdio.h>
#include "core/auth/account.h"
#include "core/config/flags.h"
#include "core/config/option.h"
#include "core/config/options.h"
#include "core/route/mapping.h"
#include "tests/support/conf_world.h"
#include "tests/support/mem_heap.h"

enum { WORDS_MAX = 16 };

struct fixture {
    struct mem_heap heap;
    struct world world;
    struct account_numbers *numbers;
    struct flags flags;
    struct options_report report;
    struct options *o;
    enum err result;
};

static void fake_sha256(const void *data, size_t bytes, uint8_t digest[32])
{
    (void)data;
    for (int i = 0; i < 32; i++) digest[i] = (uint8_t)bytes;
}

/* content becomes f.conf; line is a command line of words separated by spaces, after -c f.conf. */
static void load_in(struct fixture *f, struct world world, const char *content, char *line)
{
    char *words[WORDS_MAX + 4] = {"millrace", "-c", "f.conf"};
    int count = content == NULL ? 1 : 3;
    memset(f, 0, sizeof(*f));
    mem_heap_init(&f->heap);
    f->world = world;
    if (content != NULL)
        f->world.files[WORLD_FILES_MAX - 1] = (struct world_file){"f.conf", content};
    for (int i = 0; i < WORLD_FILES_MAX - 1; i++)
        if (f->world.files[i].path == NULL) f->world.files[i] = (struct world_file){"", ""};
    for (char *at = strtok(line, " "); at != NULL; at = strtok(NULL, " ")) {
        cr_assert(count < WORDS_MAX);
        words[count++] = at;
    }
    cr_assert_eq(account_numbers_open(&f->heap.mem, &f->numbers), ERR_OK);
    cr_assert_eq(flags_parse(&f->flags, &f->heap.mem, count, words), ERR_OK);
    options_report_init(&f->report, &f->heap.mem);
    struct options_input in = {.source = world_init(&f->world),
                               .flags = &f->flags,
                               .numbers = f->numbers,
                               .seed = 7,
                               .sha256 = fake_sha256};
    f->result = options_load(&f->heap.mem, &in, &f->o, &f->report);
    text_char(&f->report.errors, 0);
    text_char(&f->report.warnings, 0);
    text_char(&f->report.notices, 0);
}

static void load(struct fixture *f, const char *content)
{
    char none[] = "";
    load_in(f, (struct world){0}, content, none);
}

static void unload(struct fixture *f)
{
    if (f->result == ERR_OK) options_free(f->o);
    options_report_deinit(&f->report);
    flags_deinit(&f->flags);
    account_numbers_close(f->numbers);
    cr_assert_eq(f->heap.live_count, 0);
}

static void expect_errors(const char *content, const char *errors)
{
    struct fixture f;
    load(&f, content);
    cr_expect_neq(f.result, ERR_OK, "accepted: %s", content);
    cr_expect_str_eq(f.report.errors.data, errors, "%s\n gives %s\n not   %s", content,
                     f.report.errors.data, errors);
    unload(&f);
}

static void expect_fine(const char *content)
{
    struct fixture f;
    load(&f, content);
    cr_expect_eq(f.result, ERR_OK, "refused: %s: %s", content, f.report.errors.data);
    unload(&f);
}

#define EXPECT_TEXT(bytes_, text)                                                                  \
    cr_expect(bytes_equal(bytes_, BYTES_LITERAL(text)), "%s is %.*s", #bytes_, (int)(bytes_).len,  \
              (bytes_).data)

Test(options, defaults_are_those_of_the_reference)
{
    struct fixture f;
    load(&f, NULL);
    cr_assert_eq(f.result, ERR_OK, "%s", f.report.errors.data);
    const struct options *o = f.o;
    EXPECT_TEXT(o->host, "0.0.0.0");
    EXPECT_TEXT(o->http_host, "0.0.0.0");
    EXPECT_TEXT(o->http_base_path, "/");
    EXPECT_TEXT(o->system_account, "$SYS");
    cr_expect_eq(o->port, 4222);
    cr_expect_eq(o->http_port, OPTIONS_PORT_OFF);
    cr_expect_eq(o->max_control_line, 4096);
    cr_expect_eq(o->max_payload, 1 << 20);
    cr_expect_eq(o->max_pending, 64 << 20);
    cr_expect_eq(o->max_connections, 65536);
    cr_expect_eq(o->max_subscriptions, 0);
    cr_expect_eq(o->max_closed_clients, 10000);
    cr_expect_eq(o->ping_interval_ns, INT64_C(120000000000));
    cr_expect_eq(o->ping_max, 2);
    cr_expect_eq(o->write_deadline_ns, INT64_C(10000000000));
    cr_expect_eq(o->lame_duck_duration_ns, INT64_C(120000000000));
    cr_expect_eq(o->lame_duck_grace_period_ns, INT64_C(10000000000));
    cr_expect_eq(o->auth_timeout_ns, INT64_C(2000000000));
    cr_expect_eq(o->max_process_memory_percent, 80);
    cr_expect(o->logtime);
    cr_expect(!o->tls.is_on);
    cr_expect(!o->auth_required);
    cr_expect_not_null(o->accounts);
    unload(&f);
}

Test(options, zero_means_the_default_where_nats_server_says_so)
{
    struct fixture f;
    load(&f, "port: 0; ping_max: 0; max_payload: 0; max_pending: 0; write_deadline: \"0\"\n"
             "max_connections: 0; max_subs: 0; host: \"\"");
    cr_assert_eq(f.result, ERR_OK, "%s", f.report.errors.data);
    cr_expect_eq(f.o->port, 4222);
    cr_expect_eq(f.o->ping_max, 2);
    cr_expect_eq(f.o->max_payload, 1 << 20);
    cr_expect_eq(f.o->write_deadline_ns, INT64_C(10000000000));
    cr_expect_eq(f.o->max_connections, -1, "none are accepted");
    cr_expect_eq(f.o->max_subscriptions, 0);
    EXPECT_TEXT(f.o->host, "0.0.0.0");
    unload(&f);
}

Test(options, names_fold_case_and_have_aliases)
{
    struct fixture f;
    load(&f, "Max_Conn: 5\nLOGFILE: x.log\nPidFile = p\nmonitor_port 8222\nnet: localhost\n"
             "metrics { Prefix: nats }\ncluster {name: c}");
    cr_assert_eq(f.result, ERR_OK, "%s", f.report.errors.data);
    cr_expect_eq(f.o->max_connections, 5);
    EXPECT_TEXT(f.o->log_file, "x.log");
    EXPECT_TEXT(f.o->pid_file, "p");
    cr_expect_eq(f.o->http_port, 8222);
    EXPECT_TEXT(f.o->host, "localhost");
    EXPECT_TEXT(f.o->http_host, "localhost");
    EXPECT_TEXT(f.o->metrics_prefix, "nats");
    EXPECT_TEXT(f.o->cluster_name, "c");
    unload(&f);
}

/* a.b.c as "a { b { c: value } }" */
static void write_nested(struct writer *w, const char *path, const char *value)
{
    int depth = 0;
    for (const char *c = path; *c != 0; c++) {
        if (*c != '.') {
            writer_char(w, *c);
            continue;
        }
        writer_text(w, " { ");
        depth++;
    }
    writer_text(w, ": ");
    writer_text(w, value);
    while (depth-- > 0) writer_text(w, " }");
    writer_char(w, 0);
    cr_assert(!w->is_full);
}

static const char *some_value(enum option_type type)
{
    bool is_text = type == OPTION_TEXT || type == OPTION_NAME;
    bool is_time = type == OPTION_SYNC || type == OPTION_DURATION_TEXT;
    return type == OPTION_BOOL ? "true" : is_text ? "\"x\"" : is_time ? "\"5s\"" : "7";
}

Test(options, whatever_has_no_effect_is_said_with_its_name_and_place)
{
    size_t count, said = 0;
    const struct option *rows = option_rows(&count);
    for (size_t i = 0; i < count; i++) {
        const struct option *o = &rows[i];
        struct fixture f;
        struct writer w;
        char content[256], wanted[256];
        if (o->type != OPTION_IGNORED && !(o->traits & (OPTION_IDLE | OPTION_HALF))) continue;
        writer_init(&w, content, sizeof content);
        write_nested(&w, o->path, some_value(o->type));
        load(&f, content);
        writer_init(&w, wanted, sizeof wanted);
        writer_text(&w, ": \"");
        writer_text(&w, o->path);
        writer_text(&w, o->traits & OPTION_HALF ? "\" has less effect than on nats-server: "
                                                : "\" has no effect: ");
        writer_text(&w, o->help);
        writer_text(&w, "\n");
        writer_char(&w, 0);
        cr_assert(!w.is_full);
        const char *at = strstr(f.report.notices.data, wanted);
        cr_expect_eq(f.report.notice_count, 1, "%s: %s", content, f.report.notices.data);
        cr_expect(at != NULL && strncmp(f.report.notices.data, "f.conf:1:", 9) == 0, "%s: %s",
                  content, f.report.notices.data);
        cr_expect_eq(f.report.warning_count, 0, "-t goes on to say that the file is valid");
        said++; /* tls.insecure alone is an error too, but the report is complete in any case */
        unload(&f);
    }
    cr_expect(said > 10);
}

static void expect_notices(const char *content, const char *flags, const char *notices)
{
    struct fixture f;
    char line[64];
    snprintf(line, sizeof line, "%s", flags);
    load_in(&f, (struct world){0}, content, line);
    cr_assert_eq(f.result, ERR_OK, "%s", f.report.errors.data);
    cr_expect_str_eq(f.report.notices.data, notices, "%s\n gives %s", content,
                     f.report.notices.data);
    unload(&f);
}

Test(options, what_asks_for_nothing_needs_no_answer)
{
    expect_notices("prof_port: 0\ntls {insecure: false, cert_file: a, key_file: b}\n"
                   "jetstream {sync: Always, unique_tag: \"\", limits {max_ha_assets: 0}}",
                   "", "");
    expect_notices("store_dir: /x\njetstream: false", "", "");
    expect_notices("store_dir: /x\njetstream {}", "", "");
}

Test(options, what_has_no_effect_is_said_of_flags_and_accounts_too)
{
    expect_notices("port: 1", "--profile 5",
                   "flag -profile: \"prof_port\" has no effect: port of the Go profiler, which "
                   "this server has "
                   "not\n");
    expect_notices("store_dir: /x", "",
                   "f.conf:1:1: \"store_dir\" has no effect: JetStream is off\n");
    expect_notices("store_dir: /x", "-js", "");
    expect_notices(
        "accounts {A {\n limits {max_leafnodes: 5}\n jetstream {cluster_traffic: owner}}}", "",
        "f.conf:2:10: \"max_leafnodes\" has no effect: there are no leaf nodes yet\n"
        "f.conf:3:13: \"cluster_traffic\" has no effect: there are no clusters yet\n");
}

Test(options, addresses_come_as_port_or_host_and_port)
{
    struct fixture f;
    load(&f, "listen: 127.0.0.1:-1\nhttp: \"[::1]:8222\"");
    cr_assert_eq(f.result, ERR_OK, "%s", f.report.errors.data);
    EXPECT_TEXT(f.o->host, "127.0.0.1");
    cr_expect_eq(f.o->port, OPTIONS_PORT_RANDOM);
    EXPECT_TEXT(f.o->http_host, "::1");
    cr_expect_eq(f.o->http_port, 8222);
    unload(&f);
    load(&f, "host: 10.0.0.1\nhttp: 8222");
    EXPECT_TEXT(f.o->http_host, "10.0.0.1");
    unload(&f);
    expect_errors("listen: nope", "f.conf:1:1: could not parse address string \"nope\"\n");
    expect_errors("listen: \"h:x\"", "f.conf:1:1: could not parse port \"x\"\n");
    expect_errors("listen: \"::1:5\"", "f.conf:1:1: could not parse address string \"::1:5\"\n");
    expect_errors("listen: true", "f.conf:1:1: expected port or host:port, got a boolean\n");
    expect_errors("port: 70000", "f.conf:1:1: port value is too big\n");
}

Test(options, every_mistake_is_reported_with_its_place)
{
    expect_errors("foo: 1\n  max_payload: true\nping_interval: soon\n",
                  "f.conf:1:1: unknown field \"foo\"\n"
                  "f.conf:2:3: \"max_payload\" must be an integer, not a boolean\n"
                  "f.conf:3:1: error parsing ping_interval: time: invalid duration \"soon\"\n");
    expect_errors("metrics { prefix: p\n nope: 1 }", "f.conf:2:2: unknown field \"nope\"\n");
    expect_errors("metrics: 5", "f.conf:1:1: \"metrics\" must be a map, not an integer\n");
    expect_errors("max_payload: 3GB", "f.conf:1:1: max_payload value is too big\n");
    expect_errors("server_name: \"a b\"", "f.conf:1:1: server name cannot contain spaces\n");
    expect_errors("cluster { name: _ }", "f.conf:1:11: cluster name is reserved\n");
    expect_errors("write_timeout: never",
                  "f.conf:1:1: write_timeout must be 'default', 'close' or 'retry'\n");
    expect_errors("lame_duck_duration: \"29s\"",
                  "f.conf:1:1: invalid lame_duck_duration of 29s, minimum is 30 seconds\n");
    expect_errors("max_sub_tokens: 256", "f.conf:1:1: max_sub_tokens value is too big\n");
    expect_errors("cpus: \"1,x\"", "cpus must be a list such as 0,2-5, not \"1,x\"\n");
    expect_errors("log_file: \"a\\x00b\"",
                  "f.conf:1:1: \"log_file\" must not contain a zero byte\n");
    expect_errors("metrics.prefix: 1", "f.conf:1:1: unknown field \"metrics.prefix\"\n");
}

Test(options, what_does_not_fit_together_is_refused)
{
    expect_errors("lame_duck_duration: 30s\nlame_duck_grace_period: 30s",
                  "lame duck grace period (30s) should be strictly lower than lame duck duration "
                  "(30s)\n");
    expect_errors("max_pending: 1000\nmax_payload: 1001",
                  "max_payload (1001) cannot be higher than max_pending (1000)\n");
    expect_errors("http_port: 1\nhttps_port: 2\ntls {cert_file: c, key_file: k}",
                  "can't specify both HTTP (1) and HTTPs (2) ports\n");
    expect_errors("https: 8443", "TLS cert and key required for HTTPS\n");
}

Test(options, what_is_not_built_is_refused_by_name_unless_it_is_off)
{
    expect_errors("leafnodes { port: 7422 }", "f.conf:1:1: \"leafnodes\" is not supported yet\n");
    expect_errors("ws { port: 1 }", "f.conf:1:1: \"websocket\" is not supported yet\n");
    expect_errors("jetstream {key: x}",
                  "f.conf:1:12: \"jetstream.encryption_key\" is not supported yet\n");
    expect_errors("jetstream {tpm {pcr: 1}, cipher: aes}",
                  "f.conf:1:12: \"jetstream.tpm\" is not supported yet\n"
                  "f.conf:1:26: \"jetstream.cipher\" is not supported yet\n");
    expect_errors("accounts {A {jetstream {R3 {max_memory: 5}}}}",
                  "f.conf:1:25: \"R3\" is not supported yet\n");
    expect_errors("cluster { port: 6222 }", "f.conf:1:11: \"cluster.port\" is not supported yet\n");
    expect_errors("accounts {A {exports: [{stream: x}]}}",
                  "f.conf:1:14: \"exports\" is not supported yet\n");
    expect_fine("jetstream: false");
    expect_fine("jetstream: disabled");
    expect_fine("jetstream {enabled: false, store_dir: x}");
    expect_fine("proxy_protocol: false; ocsp: off; websocket {}; store_dir: x");
}

Test(options, jetstream_is_off_until_it_is_asked_for)
{
    struct fixture f;
    static const char *const on[] = {"jetstream: true", "jetstream: Enabled", "jetstream {}",
                                     "jetstream {domain: a}", "jetstream {enable: true}"};
    static const char *const off[] = {"port: 1", "jetstream: disabled", "jetstream: no",
                                      "jetstream {domain: a, enabled: false}", "store_dir: x"};
    for (size_t i = 0; i < sizeof(on) / sizeof(on[0]); i++) {
        load(&f, on[i]);
        cr_assert_eq(f.result, ERR_OK, "%s: %s", on[i], f.report.errors.data);
        cr_expect(f.o->jetstream.is_on, "%s", on[i]);
        unload(&f);
        load(&f, off[i]);
        cr_assert_eq(f.result, ERR_OK, "%s: %s", off[i], f.report.errors.data);
        cr_expect(!f.o->jetstream.is_on, "%s", off[i]);
        unload(&f);
    }
    expect_errors("jetstream: maybe", "f.conf:1:1: Expected 'enabled' or 'disabled' for string "
                                      "value, got 'maybe'\n");
    expect_errors("jetstream: 5", "f.conf:1:1: Expected map, bool or string to define JetStream, "
                                  "got an integer\n");
    expect_errors("jetstream {domain: a.b}",
                  "f.conf:1:12: invalid domain name: may not contain ., * or >\n");
}

Test(options, jetstream_is_put_together_from_switches_and_blocks)
{
    struct fixture f;
    struct world w = {.variables = {{"MILLRACE_JETSTREAM_STORE_DIR", "/var/x"},
                                    {"MILLRACE_JETSTREAM_LIMITS_MAX_ACK_PENDING", "7"}}};
    char none[] = "", js[] = "-js", both[] = "-js -sd /y", off[] = "--set jetstream=false";
    load_in(&f, w, "jetstream: false", none);
    cr_assert_eq(f.result, ERR_OK, "%s", f.report.errors.data);
    cr_expect(!f.o->jetstream.is_on, "what stands inside does not switch it on");
    EXPECT_TEXT(f.o->store_dir, "/var/x");
    cr_expect_eq(f.o->jetstream.max_ack_pending, 7);
    unload(&f);
    load_in(&f, w, "jetstream {store: /z, domain: hub, enabled: false}", js);
    cr_assert_eq(f.result, ERR_OK, "%s", f.report.errors.data);
    cr_expect(f.o->jetstream.is_on);
    EXPECT_TEXT(f.o->jetstream.domain, "hub");
    EXPECT_TEXT(f.o->store_dir, "/var/x");
    unload(&f);
    load_in(&f, (struct world){0}, "jetstream {store: /z}", both);
    cr_assert_eq(f.result, ERR_OK, "%s", f.report.errors.data);
    EXPECT_TEXT(f.o->store_dir, "/y");
    unload(&f);
    load_in(&f, (struct world){0}, "jetstream {store: /z}", off);
    cr_assert_eq(f.result, ERR_OK, "%s", f.report.errors.data);
    cr_expect(!f.o->jetstream.is_on);
    EXPECT_TEXT(f.o->store_dir, "/z");
    unload(&f);
}

Test(options, jetstream_defaults_and_every_option)
{
    struct fixture f;
    load(&f, "jetstream: true");
    cr_assert_eq(f.result, ERR_OK);
    const struct options_jetstream *j = &f.o->jetstream;
    cr_expect_eq(j->sync_interval_ns, 0);
    cr_expect_eq(j->memory_bytes_max, -1);
    cr_expect_eq(j->storage_bytes_max, -1);
    cr_expect(j->is_strict);
    cr_expect_eq(j->default_max_consumers, 1000);
    cr_expect_eq(j->request_queue_max, 10000);
    cr_expect_eq(j->info_queue_max, 10000);
    cr_expect_eq(f.o->store_dir.len, 0);
    unload(&f);

    load(&f, "jetstream {store: x, sync: \"2m\", max_mem: \"1G\", max_file: 2GB, domain: hub\n"
             "strict: false, unique_tag: az, extension_hint: no_extend, request_queue_limit: 5\n"
             "max_buffered_msgs: 7, max_buffered_size: \"8K\", max_outstanding_catchup: 9\n"
             "meta_compact: 1, meta_compact_size: 2, meta_compact_sync: true\n"
             "max_concurrent_io: 8192\n"
             "limits {max_ack_pending: 10, max_ha_assets: 11, max_request_batch: 12\n"
             "duplicate_window: \"1m\", default_max_consumers: -1\n"
             "batch {max_inflight_per_stream: 1, max_inflight_total: 2, max_msgs: 3, "
             "timeout: 4s}}}");
    cr_assert_eq(f.result, ERR_OK, "%s", f.report.errors.data);
    j = &f.o->jetstream;
    EXPECT_TEXT(f.o->store_dir, "x");
    cr_expect_eq(j->sync_interval_ns, INT64_C(120000000000));
    cr_expect_eq(j->memory_bytes_max, 1 << 30);
    cr_expect_eq(j->storage_bytes_max, INT64_C(2) << 30);
    EXPECT_TEXT(j->domain, "hub");
    cr_expect(!j->is_strict);
    cr_expect_eq(j->max_ack_pending, 10);
    cr_expect_eq(j->max_request_batch, 12);
    cr_expect_eq(j->duplicate_window_ns, INT64_C(60000000000));
    cr_expect_eq(j->default_max_consumers, -1);
    cr_expect_eq(j->request_queue_max, 5);
    cr_expect_eq(j->info_queue_max, 5);
    cr_expect_eq(j->buffered_bytes_max, 8192);
    cr_expect_eq(j->batch_timeout_ns, INT64_C(4000000000));
    cr_expect_eq(j->concurrent_io_max, 8192);
    unload(&f);

    expect_errors("jetstream {max_mem: \"5X\"}",
                  "f.conf:1:12: max_mem must be an integer, or a string that ends in K, M, G or "
                  "T\n");
    expect_errors("jetstream {nope: 5}", "f.conf:1:12: unknown field \"nope\"\n");
    expect_errors("jetstream {limits {nope: 5}}", "f.conf:1:20: unknown field \"nope\"\n");
    expect_errors("jetstream {max_concurrent_io: 2}",
                  "f.conf:1:12: invalid max_concurrent_io of 2, minimum is 4\n");
    expect_errors("store_dir: a\njetstream {store_dir: b}",
                  "f.conf:2:12: Duplicate 'store_dir' configuration\n");
}

Test(options, jetstream_of_accounts)
{
    struct fixture f;
    load(&f, "jetstream: true");
    cr_assert_eq(f.result, ERR_OK);
    cr_expect(f.o->accounts->accounts[0]->jetstream.is_on, "$G has it when nobody else can");
    unload(&f);
    load(&f, "jetstream: true\naccounts {A {jetstream: on}\nB {}\n"
             "C {jetstream {mem: 1KB, disk: 2KB, max_streams: 3, consumers: 4, max_bytes: true\n"
             "  mem_max_stream_bytes: 5, store_max_stream_bytes: 6, max_ack_pending: 7\n"
             "  cluster_traffic: owner}}}");
    cr_assert_eq(f.result, ERR_OK, "%s", f.report.errors.data);
    const struct account_set *set = f.o->accounts;
    cr_expect(!set->accounts[0]->jetstream.is_on);
    cr_expect(account_set_find(set, BYTES_LITERAL("A"))->jetstream.is_on);
    cr_expect_eq(account_set_find(set, BYTES_LITERAL("A"))->jetstream.max_memory, -1);
    cr_expect(!account_set_find(set, BYTES_LITERAL("B"))->jetstream.is_on);
    struct account_jetstream c = account_set_find(set, BYTES_LITERAL("C"))->jetstream;
    cr_expect(c.is_on && c.max_bytes_required);
    cr_expect_eq(c.max_memory, 1024);
    cr_expect_eq(c.max_storage, 2048);
    cr_expect_eq(c.max_streams, 3);
    cr_expect_eq(c.max_consumers, 4);
    cr_expect_eq(c.memory_max_stream_bytes, 5);
    cr_expect_eq(c.storage_max_stream_bytes, 6);
    cr_expect_eq(c.max_ack_pending, 7);
    unload(&f);
    expect_errors("jetstream: true\naccounts {S {jetstream: on}}\nsystem_account: S",
                  "jetstream can not be enabled on the system account\n");
    expect_errors("accounts {A {jetstream {nope: 5}}}", "f.conf:1:25: unknown field \"nope\"\n");
    expect_errors("accounts {A {jetstream {cluster_traffic: nobody}}}",
                  "f.conf:1:25: Expected 'system' or 'owner' string value for "
                  "\"cluster_traffic\", got nobody\n");
}

Test(options, an_unused_key_is_unknown_a_used_one_is_a_variable)
{
    struct fixture f;
    load(&f, "P: 4333\nport: $P");
    cr_assert_eq(f.result, ERR_OK, "%s", f.report.errors.data);
    cr_expect_eq(f.o->port, 4333);
    unload(&f);
}

Test(options, a_bare_number_of_seconds_is_a_warning)
{
    struct fixture f;
    load(&f, "ping_interval: 5");
    cr_expect_eq(f.result, ERR_OK);
    cr_expect_eq(f.o->ping_interval_ns, INT64_C(5000000000));
    cr_expect_eq(f.report.warning_count, 1);
    cr_expect_str_eq(f.report.warnings.data,
                     "f.conf:1:1: invalid use of field \"ping_interval\": ping_interval should be "
                     "converted to a duration\n");
    unload(&f);
    load(&f, "");
    cr_expect_str_eq(f.report.warnings.data, "f.conf: config has no values or is empty\n");
    unload(&f);
    expect_errors("lame_duck_duration: 60",
                  "f.conf:1:1: \"lame_duck_duration\" must be a duration, not an integer\n");
}

Test(options, the_digest_is_that_of_the_canonical_content)
{
    struct fixture f;
    load(&f, "port: 1"); /* {"port":1} and a newline: 11 bytes */
    EXPECT_TEXT(f.o->config_digest, "sha256:0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b"
                                    "0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b0b");
    EXPECT_TEXT(f.o->config_file, "f.conf");
    unload(&f);
}

Test(options, flags_beat_set_beats_environment_beats_file)
{
    struct fixture f;
    struct world w = {.variables = {{"MILLRACE_PORT", "2"},
                                    {"MILLRACE_PING_MAX", "2"},
                                    {"MILLRACE_METRICS_PREFIX", "$x y"},
                                    {"MILLRACE_MAX_CONTROL_LINE", "2kb"}}};
    char line[] = "--set port=3 --set ping_max=3 -p 4 -DV";
    load_in(&f, w,
            "listen: 1.1.1.1:1\nping_max: 1\nmax_control_line: 1kb\nmax_conn: 9\n"
            "debug: false",
            line);
    cr_assert_eq(f.result, ERR_OK, "%s", f.report.errors.data);
    EXPECT_TEXT(f.o->host, "1.1.1.1");
    cr_expect_eq(f.o->port, 4);
    cr_expect_eq(f.o->ping_max, 3);
    cr_expect_eq(f.o->max_control_line, 2048);
    EXPECT_TEXT(f.o->metrics_prefix, "$x y");
    cr_expect_eq(f.o->max_connections, 9);
    cr_expect(f.o->debug);
    cr_expect(f.o->trace);
    unload(&f);
}

Test(options, a_time_of_the_environment_or_of_set_needs_no_quotes)
{
    const int64_t minute = INT64_C(60000000000);
    struct fixture f;
    struct world w = {.variables = {{"MILLRACE_PING_INTERVAL", "1m"},
                                    {"MILLRACE_LAME_DUCK_DURATION", "3m"},
                                    {"MILLRACE_JETSTREAM_SYNC_INTERVAL", "\"4m\""},
                                    {"MILLRACE_AUTHORIZATION_TIMEOUT", "5"}}};
    char none[] = "", sets[] = "--set jetstream.sync=2m --set authorization.timeout=1m30s "
                               "--set ping_interval=7";
    load_in(&f, w, "ping_interval: \"5m\"", none);
    cr_assert_eq(f.result, ERR_OK, "%s", f.report.errors.data);
    cr_expect_eq(f.o->ping_interval_ns, minute);
    cr_expect_eq(f.o->lame_duck_duration_ns, 3 * minute);
    cr_expect_eq(f.o->jetstream.sync_interval_ns, 4 * minute);
    cr_expect_eq(f.o->auth_timeout_ns, minute / 12);
    cr_expect_str_empty(f.report.warnings.data);
    unload(&f);
    load_in(&f, w, "ping_interval: \"5m\"", sets);
    cr_assert_eq(f.result, ERR_OK, "%s", f.report.errors.data);
    cr_expect_eq(f.o->jetstream.sync_interval_ns, 2 * minute);
    cr_expect_eq(f.o->auth_timeout_ns, minute * 3 / 2);
    cr_expect_eq(f.o->ping_interval_ns, 7 * (minute / 60));
    unload(&f);
}

Test(options, environment_names_that_are_no_option_are_named)
{
    struct fixture f;
    struct world w = {.variables = {{"MILLRACE_PING_INTERVALL", "2"},
                                    {"MILLRACE_PORTS_FILE_DIR", "/tmp"},
                                    {"MILLRACE_PORT", "tcp://10.0.0.1:4222"},
                                    {"MILLRACE_SERVICE_HOST", "10.0.0.1"}}};
    char line[] = "";
    load_in(&f, w, "port: 4333", line);
    cr_assert_eq(f.result, ERR_OK, "%s", f.report.errors.data);
    cr_expect_str_eq(f.report.warnings.data, "environment variable MILLRACE_PING_INTERVALL names "
                                             "no option and is not used\n");
    cr_expect_eq(f.o->port, 4333);
    EXPECT_TEXT(f.o->ports_file_dir, "/tmp");
    unload(&f);
}

Test(options, an_alias_in_the_file_is_overridden_too)
{
    struct fixture f;
    char line[] = "--set max_connections=7 -l new.log --user u --pass q";
    load_in(&f, (struct world){0},
            "max_conn: 1\nlogfile: old\nauthorization {username: a, password: b}", line);
    cr_assert_eq(f.result, ERR_OK, "%s", f.report.errors.data);
    cr_expect_eq(f.o->max_connections, 7);
    EXPECT_TEXT(f.o->log_file, "new.log");
    EXPECT_TEXT(f.o->accounts->single.name, "u");
    EXPECT_TEXT(f.o->accounts->single.password, "q");
    unload(&f);
}

Test(options, errors_of_flags_name_the_flag)
{
    struct fixture f;
    char line[] = "-p 70000 --set nope=1 --io sideways";
    load_in(&f, (struct world){0}, NULL, line);
    cr_expect_eq(f.result, ERR_INVALID);
    cr_expect_str_eq(f.report.errors.data, "--set: unknown field \"nope\"\n"
                                           "flag -p: port value is too big\n"
                                           "flag -io: io must be 'auto', 'ring' or 'poll'\n");
    unload(&f);
}

Test(options, a_map_shared_by_a_variable_is_not_changed_by_an_override)
{
    struct fixture f;
    char line[] = "--set metrics.prefix=other";
    load_in(&f, (struct world){0}, "M {prefix: mine}\nmetrics: $M\nserver_metadata: $M", line);
    cr_assert_eq(f.result, ERR_OK, "%s", f.report.errors.data);
    EXPECT_TEXT(f.o->metrics_prefix, "other");
    EXPECT_TEXT(f.o->server_metadata.items[0].value, "mine");
    unload(&f);
}

Test(options, tls_block)
{
    struct fixture f;
    load(&f, "tls {cert_file: c.pem, key_file: k.pem, ca_file: ca.pem, verify_and_map: true\n"
             " timeout: 0.5, first: 300ms, min_version: \"1.3\", connection_rate_limit: 10\n"
             " pinned_certs: [\"00112233445566778899aabbccddeeff"
             "00112233445566778899AABBCCDDEEFF\"]\n"
             " cipher_suites: [\"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256\"] }");
    cr_assert_eq(f.result, ERR_OK, "%s", f.report.errors.data);
    const struct options_tls *t = &f.o->tls;
    cr_expect(t->is_on);
    cr_expect(t->verify);
    cr_expect(t->verify_and_map);
    EXPECT_TEXT(t->cert_file, "c.pem");
    EXPECT_TEXT(t->place, "f.conf:1:1");
    cr_expect_eq(t->timeout_ns, 500000000);
    cr_expect(t->handshake_first);
    cr_expect_eq(t->handshake_first_fallback_ns, 300000000);
    cr_expect_eq(t->min_version, 0x0304);
    cr_expect_eq(t->rate_limit, 10);
    cr_expect_eq(t->pinned_count, 1);
    cr_expect_eq(t->pinned[0][1], 0x11);
    cr_expect_eq(f.o->auth_timeout_ns, 1500000000);
    unload(&f);
    expect_errors("tls {cert_file: c}", "f.conf:1:1: missing 'key_file' in TLS configuration\n");
    expect_errors("tls {nope: c, cert_file: c, key_file: c}",
                  "f.conf:1:6: unknown field \"nope\"\n");
    expect_errors("tls {cert_file: c, key_file: k, min_version: \"1.1\"}",
                  "f.conf:1:33: error parsing tls config: unsupported TLS version: TLS 1.1\n");
    expect_errors("tls {cert_file: c, key_file: k, cipher_suites: [ROT13]}",
                  "f.conf:1:1: unrecognized cipher ROT13\n");
}

Test(options, tls_flags_replace_the_certificates_of_the_file)
{
    struct fixture f;
    char line[] = "--tls --tlscert c --tlskey k";
    load_in(&f, (struct world){0},
            "tls {cert_file: x, key_file: y, ca_file: z, verify: true, timeout: 5}", line);
    cr_assert_eq(f.result, ERR_OK, "%s", f.report.errors.data);
    EXPECT_TEXT(f.o->tls.cert_file, "c");
    cr_expect(!f.o->tls.verify);
    cr_expect_eq(f.o->tls.timeout_ns, INT64_C(5000000000));
    unload(&f);
    char off[] = "--tls=false";
    load_in(&f, (struct world){0}, "tls {cert_file: x, key_file: y}", off);
    cr_expect(!f.o->tls.is_on);
    unload(&f);
    char lone[] = "--tls";
    load_in(&f, (struct world){0}, NULL, lone);
    cr_expect(strstr(f.report.errors.data, "TLS Server certificate must be present and valid"));
    unload(&f);
}

Test(options, one_user_or_a_token)
{
    struct fixture f;
    load(&f, "authorization {user: u, password: p, timeout: 3}");
    cr_assert_eq(f.result, ERR_OK, "%s", f.report.errors.data);
    cr_expect_eq(f.o->accounts->mode, ACCOUNT_MODE_SINGLE);
    cr_expect(f.o->auth_required);
    cr_expect_eq(f.o->auth_timeout_ns, INT64_C(3000000000));
    unload(&f);
    char line[] = "--auth secret";
    load_in(&f, (struct world){0}, NULL, line);
    cr_assert_eq(f.result, ERR_OK, "%s", f.report.errors.data);
    cr_expect_eq(f.o->accounts->mode, ACCOUNT_MODE_TOKEN);
    EXPECT_TEXT(f.o->accounts->token, "secret");
    unload(&f);
    expect_errors("authorization {user: u, pass: p, token: t}",
                  "f.conf:1:1: Cannot have a user/pass and token\n");
    expect_errors("authorization {user: u, users: [{user: a}]}",
                  "f.conf:1:1: Can not have a single user/pass and a users array\n");
    expect_errors("authorization {nope: u}", "f.conf:1:16: unknown field \"nope\"\n");
}

Test(options, users_and_their_permissions)
{
    struct fixture f;
    load(&f, "SERVICE = {publish: {allow: [a, b.>], deny: c}, subscribe: \"x q\"}\n"
             "authorization {\n default_permissions {subscribe: only}\n users = [\n"
             "  {user: one, password: p, permissions: $SERVICE}\n"
             "  {username: two, password: p, allowed_connection_types: [STANDARD, websocket]}\n"
             "  {user: three, permissions: {allow_responses: {max: 5, expires: 60s}}}\n ]\n}");
    cr_assert_eq(f.result, ERR_OK, "%s", f.report.errors.data);
    const struct user *u = account_set_user(f.o->accounts, BYTES_LITERAL("one"));
    cr_assert_not_null(u);
    cr_expect(perms_may_publish(u->permissions, BYTES_LITERAL("b.x")));
    cr_expect(!perms_may_publish(u->permissions, BYTES_LITERAL("c")));
    cr_expect_eq(perms_may_subscribe(u->permissions, BYTES_LITERAL("x"), BYTES_LITERAL("")),
                 PERMS_DENIED);
    u = account_set_user(f.o->accounts, BYTES_LITERAL("two"));
    cr_expect_eq(u->allowed_connections, ACCOUNT_STANDARD | ACCOUNT_WEBSOCKET);
    cr_expect_eq(perms_may_subscribe(u->permissions, BYTES_LITERAL("x"), BYTES_LITERAL("")),
                 PERMS_DENIED, "defaults");
    u = account_set_user(f.o->accounts, BYTES_LITERAL("three"));
    cr_expect(perms_has_responses(u->permissions));
    cr_expect_eq(perms_spec_of(u->permissions)->responses_max, 5);
    unload(&f);
    expect_errors("authorization {users: [{user: a, permissions: {publish: \"a..b\"}}]}",
                  "f.conf:1:48: subject \"a..b\" is not a valid subject\n");
    expect_errors("authorization {users: [{user: a, permissions: {publish: {permit: x}}}]}",
                  "f.conf:1:58: Unknown field name \"permit\" parsing subject permissions, only "
                  "'allow' or 'deny' are permitted\n");
    expect_errors("authorization {users: [{password: a}]}",
                  "f.conf:1:24: User entry requires a user\n");
    expect_errors("authorization {users: [{user: a}, {user: a}]}",
                  "f.conf:1:35: Duplicate user \"a\" detected\n");
    expect_errors("authorization {users: [{user: a, clients: [PIGEON]}]}",
                  "f.conf:1:34: invalid connection types [\"PIGEON\"]\n");
}

Test(options, accounts)
{
    struct fixture f;
    load(&f, "accounts {\n"
             " A {users: [{user: a, password: p}], limits: {max_subs: 5, max_payload: 10}}\n"
             " B {nkey: ACAN36UHFPQAGGU4DAOWUHKHVKBKBPJYFDFSWQCQYVRYGDSUHLZI6YQT\n"
             "    default_permissions {publish: x}, users: [{user: b}], jetstream: disabled}\n"
             " $SYS {users: [{user: admin, password: s}]}\n}\nno_auth_user: a");
    if (f.result != ERR_OK) {
        /* The key above may be no real one for the builder: then only that is wrong. */
        cr_expect_eq(f.report.error_count, 1, "%s", f.report.errors.data);
        unload(&f);
        return;
    }
    const struct account *a = account_set_find(f.o->accounts, BYTES_LITERAL("A"));
    cr_assert_not_null(a);
    cr_expect_eq(a->limits.max_subscriptions, 5);
    cr_expect_eq(a->limits.max_payload, 10);
    cr_expect_eq(a->limits.max_connections, -1);
    EXPECT_TEXT(f.o->no_auth_user, "a");
    unload(&f);
    expect_errors("accounts {$G {}}", "f.conf:1:11: \"$G\" is a Reserved Account\n");
    expect_errors("accounts [A, A]", "f.conf:1:14: Duplicate Account Entry: A\n");
    expect_errors("accounts {A: 5}", "f.conf:1:11: Expected map entries for accounts\n");
    expect_errors("accounts {A {nope: 5}}", "f.conf:1:14: unknown field \"nope\"\n");
}

Test(options, mappings)
{
    struct fixture f;
    load(&f,
         "mappings {foo: bar\n a.*: [{destination: \"b.$1\", weight: 60%}, {dest: c, weight: 40}]"
         "\n d: {destination: e, weight: \"50\"}}\naccounts {A {maps {x: y}}}");
    cr_assert_eq(f.result, ERR_OK, "%s", f.report.errors.data);
    const struct account *a = account_set_find(f.o->accounts, BYTES_LITERAL("A"));
    cr_expect_eq(mapping_set_count(account_set_by_number(f.o->accounts, 0)->mappings), 3);
    cr_expect_eq(mapping_set_count(a->mappings), 1);
    unload(&f);
    expect_errors("mappings {\"a..b\": c}",
                  "f.conf:1:12: Subject \"a..b\" is not a valid subject\n");
    expect_errors("mappings {a: [{dest: c, weight: 101}]}",
                  "f.conf:1:25: Invalid weight 101 for mapping destination\n");
    expect_errors("mappings {a: [{dest: c}]}",
                  "f.conf:1:15: Missing weight for mapping destination \"c\"\n");
    expect_errors("mappings {a: {to: c}}",
                  "f.conf:1:15: Unknown field \"to\" for mapping destination\n");
}

Test(options, base_paths_are_normalised)
{
    static const char *const pairs[][2] = {{"", "/"},        {"/", "/"},        {"x", "/x"},
                                           {"/x/", "/x"},    {"a//b/", "/a/b"}, {"/a/./b/..", "/a"},
                                           {"../../a", "/a"}};
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++) {
        struct fixture f;
        char line[] = "", content[64] = "http_base_path: \"";
        strcat(content, pairs[i][0]);
        strcat(content, "\"");
        load_in(&f, (struct world){0}, content, line);
        cr_expect(bytes_equal(f.o->http_base_path, bytes_from_text(pairs[i][1])), "%s", content);
        unload(&f);
    }
}

Test(options, memory_is_bytes_or_percent)
{
    struct fixture f;
    char line[] = "--max_process_memory 50%";
    load_in(&f, (struct world){0}, "max_process_memory: 2GB", line);
    cr_assert_eq(f.result, ERR_OK, "%s", f.report.errors.data);
    cr_expect_eq(f.o->max_process_memory_bytes, 0);
    cr_expect_eq(f.o->max_process_memory_percent, 50);
    unload(&f);
    load(&f, "max_process_memory: 2GB");
    cr_expect_eq(f.o->max_process_memory_bytes, UINT64_C(2) << 30);
    unload(&f);
    expect_errors("max_process_memory: \"0%\"",
                  "f.conf:1:1: max_process_memory must be a number of bytes, such as 2GB, or a "
                  "percentage, such as 80%\n");
}

Test(options, tags_are_lower_case_and_unique)
{
    struct fixture f;
    load(&f, "server_tags: [A, \" b \", a, \"\", C:d]\nserver_metadata {x: y, z: w}");
    cr_assert_eq(f.result, ERR_OK, "%s", f.report.errors.data);
    cr_expect_eq(f.o->server_tags.count, 3);
    EXPECT_TEXT(f.o->server_tags.items[0], "a");
    EXPECT_TEXT(f.o->server_tags.items[1], "b");
    EXPECT_TEXT(f.o->server_tags.items[2], "c:d");
    cr_expect_eq(f.o->server_metadata.count, 2);
    unload(&f);
}

Test(options, a_syntax_error_is_one_line)
{
    expect_errors("a: [",
                  "f.conf:1:5: Parse error on line 1: 'The array that opens on line 1 is never "
                  "closed'\n");
}

Test(options, running_out_of_memory_leaks_nothing)
{
    for (uint64_t n = 1; n < 500; n++) {
        struct mem_heap heap;
        struct world w = {.files = {{"f.conf", "accounts {A {users: [{user: a, permissions: "
                                               "{publish: x}}]}}\ntls {cert_file: a, key_file: b}\n"
                                               "server_tags: [a, b]"}}};
        char *words[] = {"millrace", "-c", "f.conf", "-p", "5"};
        struct account_numbers *numbers;
        struct flags flags;
        struct options_report report;
        struct options *o = NULL;
        mem_heap_init(&heap);
        cr_assert_eq(account_numbers_open(&heap.mem, &numbers), ERR_OK);
        cr_assert_eq(flags_parse(&flags, &heap.mem, 5, words), ERR_OK);
        options_report_init(&report, &heap.mem);
        heap.fail_at = heap.alloc_count + n;
        struct options_input in = {.source = world_init(&w), .flags = &flags, .numbers = numbers};
        enum err e = options_load(&heap.mem, &in, &o, &report);
        bool was_reached = heap.alloc_count >= heap.fail_at;
        cr_expect_eq(e, was_reached ? ERR_MEMORY : ERR_OK, "allocation %d gives %s", (int)n,
                     err_text(e));
        if (e == ERR_OK) options_free(o);
        options_report_deinit(&report);
        flags_deinit(&flags);
        account_numbers_close(numbers);
        cr_assert_eq(heap.live_count, 0);
        if (!was_reached) return;
    }
    cr_assert_fail("never ran through");
}
