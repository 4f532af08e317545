#include <criterion/criterion.h>
#include "core/auth/account.h"
#include "core/config/flags.h"
#include "core/config/help.h"
#include "core/config/option.h"
#include "tests/support/conf_world.h"
#include "tests/support/mem_heap.h"

struct fixture {
    struct mem_heap heap;
    struct text out;
};

static void setup(struct fixture *f)
{
    mem_heap_init(&f->heap);
    text_init(&f->out, &f->heap.mem, MEM_CONFIG, 1 << 20);
}

static void teardown(struct fixture *f)
{
    text_deinit(&f->out);
    cr_assert_eq(f->heap.live_count, 0);
}

static const char *written(struct fixture *f)
{
    text_char(&f->out, 0);
    cr_assert(!f->out.is_failed);
    return f->out.data;
}

Test(help, groups_stand_in_the_order_of_the_reference)
{
    static const char *const groups[] = {"Server", "Logging", "JetStream", "Authorization",
                                         "TLS",    "Cluster", "Profiling", "Common"};
    struct fixture f;
    setup(&f);
    help_usage(&f.out, BYTES_LITERAL("nats-server"));
    const char *at = strstr(written(&f), "Usage: nats-server [options]\n"
                                         "       nats-server check [--dump] <store>\n");
    for (size_t i = 0; at != NULL && i < sizeof(groups) / sizeof(groups[0]); i++) {
        char title[64] = "\n";
        strcat(title, groups[i]);
        strcat(title, " Options:\n");
        at = strstr(at, title);
        cr_expect_not_null(at, "%s", groups[i]);
    }
    teardown(&f);
}

Test(help, every_flag_is_shown_within_a_line)
{
    struct fixture f;
    setup(&f);
    help_usage(&f.out, BYTES_LITERAL("x"));
    const char *text = written(&f);
    size_t count;
    const struct option *rows = option_rows(&count);
    for (size_t i = 0; i < count; i++)
        if (rows[i].flags[0] != 0) cr_expect_not_null(strstr(text, rows[i].flags));
    for (const char *line = text; *line != 0; line += strcspn(line, "\n") + 1)
        cr_expect(strcspn(line, "\n") <= 130, "%.140s", line);
    teardown(&f);
}

Test(help, manual_names_every_option_that_works)
{
    struct fixture f;
    setup(&f);
    help_man(&f.out, BYTES_LITERAL("1.0"));
    const char *text = written(&f);
    cr_expect_eq(strncmp(text, ".TH MILLRACE 1", 14), 0);
    size_t count;
    const struct option *rows = option_rows(&count);
    for (size_t i = 0; i < count; i++)
        if (rows[i].type != OPTION_REFUSED && rows[i].path[0] != 0)
            cr_expect_not_null(strstr(text, rows[i].path), "%s", rows[i].path);
    /* A heading has something under it. */
    for (const char *at = strstr(text, ".SS "); at != NULL; at = strstr(at + 1, ".SS "))
        cr_expect_eq(strncmp(at + strcspn(at, "\n"), "\n.TP\n", 5), 0, "%.40s", at);
    cr_expect_not_null(strstr(text, "listen for clients on this address. Default"));
    cr_expect_not_null(strstr(text, "\n.B millrace\n[options]\n.br\n"
                                    ".B millrace check\n[\\-\\-dump] <store>\n"));
    cr_expect_not_null(strstr(text, "; also permissions, default_permission"));
    cr_expect_not_null(strstr(text, "; also store, storedir"));
    teardown(&f);
}

/* The options in effect of content, and the same again when that text is loaded. */
static void print_config(struct fixture *f, const char *content, struct text *out)
{
    struct world w = {.files = {{"f.conf", content}}};
    struct account_numbers *numbers;
    struct options_report report;
    struct options *o = NULL;
    struct flags flags;
    char *words[] = {"x", "-c", "f.conf"};
    cr_assert_eq(account_numbers_open(&f->heap.mem, &numbers), ERR_OK);
    cr_assert_eq(flags_parse(&flags, &f->heap.mem, 3, words), ERR_OK);
    options_report_init(&report, &f->heap.mem);
    struct options_input in = {.source = world_init(&w), .flags = &flags, .numbers = numbers};
    enum err e = options_load(&f->heap.mem, &in, &o, &report);
    text_char(&report.errors, 0);
    cr_assert_eq(e, ERR_OK, "%s in\n%s", report.errors.data, content);
    help_config(out, o);
    text_char(out, 0);
    options_free(o);
    options_report_deinit(&report);
    flags_deinit(&flags);
    account_numbers_close(numbers);
}

Test(help, printed_options_load_again_to_the_same)
{
    struct fixture f;
    struct text again;
    setup(&f);
    text_init(&again, &f.heap.mem, MEM_CONFIG, 1 << 20);
    print_config(&f,
                 "listen: 127.0.0.1:4333\nserver_tags: [a, b]\nserver_metadata {x: \"y \\\" z\"}\n"
                 "tls {cert_file: c, key_file: k, first: 100ms}\nping_interval: 90s\n"
                 "authorization {users: [{user: u, password: secret1, permissions: {publish: "
                 "{allow: [x], deny: [y]}, allow_responses: true}}]}\n"
                 "accounts {A {limits {max_subs: 5}, users: [{user: v, password: secret2, "
                 "clients: [STANDARD]}], default_permissions {publish: w.x}, "
                 "mappings {m: [{dest: \"m.1\", weight: 30%}, {dest: n, weight: 50%}], \"k.*\": "
                 "\"l.$1\"}, jetstream {mem: 5, max_bytes: true}}}\nmappings {g: h}\n"
                 "jetstream {sync: 5s, store: x, limits {max_ack_pending: 3, batch {max_msgs: 4}}}",
                 &f.out);
    cr_expect_not_null(strstr(f.out.data, "    sync_interval: \"5s\"\n"));
    cr_expect_not_null(strstr(f.out.data, "        max_ack_pending: 3\n"));
    cr_expect_not_null(strstr(f.out.data, "            max_msgs: 4\n"));
    cr_expect_not_null(strstr(f.out.data, "jetstream: {max_memory: 5, max_bytes_required: true}"));
    cr_expect_not_null(strstr(f.out.data, "default_permissions: {publish: {allow: [\"w.x\"]"));
    cr_expect_not_null(strstr(f.out.data, "{destination: \"m.1\", weight: 30%}, {destination: "
                                          "\"n\", weight: 50%}"));
    cr_expect_not_null(strstr(f.out.data, "\"g\": [{destination: \"h\", weight: 100%}]"));
    cr_expect_null(strstr(f.out.data, "secret"));
    cr_expect_not_null(strstr(f.out.data, "port: 4333\n"));
    cr_expect_not_null(strstr(f.out.data, "ping_interval: \"1m30s\"\n"));
    print_config(&f, f.out.data, &again);
    cr_expect_str_eq(again.data, f.out.data);
    text_deinit(&again);
    teardown(&f);
}
