#include <criterion/criterion.h>
#include "core/auth/account.h"
#include "core/config/flags.h"
#include "core/config/reload.h"
#include "tests/support/conf_world.h"
#include "tests/support/mem_heap.h"

struct fixture {
    struct mem_heap heap;
    struct account_numbers *numbers;
    struct options *old, *new;
    struct reload_report report;
    enum err result;
};

static struct options *load(struct fixture *f, const char *content)
{
    struct world w = {.files = {{"f.conf", content}}};
    struct options_report report;
    struct options *o = NULL;
    struct flags flags;
    char *words[] = {"x", "-c", "f.conf"};
    cr_assert_eq(flags_parse(&flags, &f->heap.mem, 3, words), ERR_OK);
    options_report_init(&report, &f->heap.mem);
    struct options_input in = {
        .source = world_init(&w), .flags = &flags, .numbers = f->numbers, .seed = 7};
    enum err e = options_load(&f->heap.mem, &in, &o, &report);
    text_char(&report.errors, 0);
    cr_assert_eq(e, ERR_OK, "%s", report.errors.data);
    options_report_deinit(&report);
    flags_deinit(&flags);
    return o;
}

static void compare(struct fixture *f, const char *old, const char *new)
{
    memset(f, 0, sizeof(*f));
    mem_heap_init(&f->heap);
    cr_assert_eq(account_numbers_open(&f->heap.mem, &f->numbers), ERR_OK);
    f->old = load(f, old);
    f->new = load(f, new);
    reload_report_init(&f->report, &f->heap.mem);
    f->result = reload_compare(f->old, f->new, &f->report);
    text_char(&f->report.applied, 0);
    text_char(&f->report.refused, 0);
}

static void done(struct fixture *f)
{
    reload_report_deinit(&f->report);
    options_free(f->old);
    options_free(f->new);
    account_numbers_close(f->numbers);
    cr_assert_eq(f->heap.live_count, 0);
}

static void expect_applied(const char *old, const char *new, const char *lines)
{
    struct fixture f;
    compare(&f, old, new);
    cr_expect_eq(f.result, ERR_OK, "%s", f.report.refused.data);
    cr_expect_str_eq(f.report.applied.data, lines);
    done(&f);
}

static void expect_refused(const char *old, const char *new, const char *lines)
{
    struct fixture f;
    compare(&f, old, new);
    cr_expect_eq(f.result, ERR_DENIED);
    cr_expect_str_eq(f.report.refused.data, lines);
    done(&f);
}

Test(reload, nothing_changed_says_nothing)
{
    expect_applied("port: 1\nauthorization {users: [{user: a, permissions {publish: x}}]}",
                   "port: 1\nauthorization {users: [{user: a, permissions {publish: x}}]}", "");
}

Test(reload, changes_are_named_with_their_new_value)
{
    expect_applied("debug: false\nping_interval: 2m", "debug: true\nping_interval: 5s",
                   "Reloaded: ping_interval = 5s\nReloaded: debug = true\n");
    expect_applied("max_payload: 100\nmax_connections: 5", "max_payload: 200\nmax_connections: 6",
                   "Reloaded: max_payload = 200\nReloaded: max_connections = 6\n");
    expect_applied("server_tags: a", "server_tags: b\npid_file: /x",
                   "Reloaded: pid_file = /x\nReloaded: tags\n");
    expect_applied("port: 1", "port: 1\nno_fast_producer_stall: true",
                   "Reloaded: fast producers will not be stalled\n");
}

Test(reload, one_change_that_needs_a_restart_refuses_all)
{
    expect_refused("port: 4222\ndebug: false", "port: 4223\ndebug: true",
                   "config reload not supported for Port: old=4222, new=4223\n");
    expect_refused("host: a", "host: b", "config reload not supported for Host: old=a, new=b\n");
    expect_refused("max_pending: 100mb", "max_pending: 200mb",
                   "config reload not supported for MaxPending: old=104857600, new=209715200\n");
    expect_refused("debug: true", "debug: true\nlame_duck_duration: \"3m\"",
                   "config reload not supported for LameDuckDuration: old=2m0s, new=3m0s\n");
}

Test(reload, jetstream_grows_but_does_not_move)
{
    expect_applied("jetstream {max_mem: 10, max_file: 10}", "jetstream {max_mem: 11, max_file: 12}",
                   "Reloaded: JetStream max_mem_store = 11\n"
                   "Reloaded: JetStream max_file_store = 12\n");
    expect_applied("jetstream {limits {max_ack_pending: 1, max_request_batch: 2}}", "jetstream {}",
                   "Reloaded: JetStream limits\n");
    expect_applied("store_dir: a", "store_dir: b\njetstream {enabled: false, domain: c}", "");
    expect_applied("accounts {A {jetstream: on}}", "accounts {A {jetstream {mem: 5}}}",
                   "Reloaded: accounts\n");
    expect_refused("jetstream {max_mem: 10}", "jetstream {max_mem: 9}",
                   "config reload not supported for decreasing jetstream max memory and store\n");
    expect_refused("jetstream {max_file: 10}", "jetstream {}",
                   "config reload not supported for jetstream max memory and max store\n");
    expect_refused("jetstream {}", "jetstream {max_file: 10}",
                   "config reload not supported for jetstream dynamic max memory and store\n");
    expect_refused("jetstream {store: a}", "jetstream {store: b}",
                   "config reload not supported for StoreDir: old=a, new=b\n");
    expect_refused("jetstream {sync: always}", "jetstream {sync: \"1s\"}",
                   "config reload not supported for SyncInterval: old=always, new=1s\n");
    expect_refused("port: 5", "port: 5\njetstream: true",
                   "config reload not supported for JetStream: old=false, new=true\n");
}

Test(reload, a_random_port_is_no_change)
{
    expect_applied("port: 4222\nhttp_port: 8222", "port: -1\nhttp_port: -1", "");
}

Test(reload, users_and_accounts)
{
    struct fixture f;
    compare(&f, "authorization {users: [{user: a, password: x}]}",
            "authorization {users: [{user: a, password: y}]}");
    cr_expect_str_eq(f.report.applied.data, "Reloaded: authorization users\n");
    cr_expect(f.report.auth_changed);
    done(&f);
    expect_applied("authorization {user: a, password: x}", "authorization {user: b, password: x}",
                   "Reloaded: authorization username\n");
    expect_applied("authorization {token: x, timeout: 2}", "authorization {token: y, timeout: 3}",
                   "Reloaded: authorization timeout = 3\nReloaded: authorization token\n");
    expect_applied("accounts {A {limits {max_subs: 1}}}", "accounts {A {limits {max_subs: 2}}}",
                   "Reloaded: accounts\n");
    expect_applied("mappings {a: b}\naccounts {A {mappings {x: [{dest: y, weight: 40%}]}}}",
                   "mappings {a: b}\naccounts {A {mappings {x: [{dest: y, weight: 40%}]}}}", "");
    expect_applied("accounts {A {mappings {x: [{dest: y, weight: 40%}]}}}",
                   "accounts {A {mappings {x: [{dest: y, weight: 50%}]}}}", "Reloaded: accounts\n");
    expect_applied("accounts {A {mappings {x: y}}}", "accounts {A {mappings {x: z}}}",
                   "Reloaded: accounts\n");
    expect_applied("accounts {A {mappings {x: y}}}", "accounts {A {}}", "Reloaded: accounts\n");
    expect_refused("accounts {A {users: [{user: a}]}}\nno_auth_user: a",
                   "accounts {A {users: [{user: a}]}}",
                   "config reload not supported for NoAuthUser: old=a, new=\n");
}

Test(reload, tls_is_read_anew_every_time)
{
    struct fixture f;
    compare(&f, "tls {cert_file: c, key_file: k}", "tls {cert_file: c, key_file: k, timeout: 5}");
    cr_expect_eq(f.result, ERR_OK);
    cr_expect(f.report.tls_changed);
    cr_expect_str_eq(f.report.applied.data, "Reloaded: tls = enabled\nReloaded: tls timeout = 5\n"
                                            "Reloaded: authorization timeout = 6\n");
    done(&f);
}
