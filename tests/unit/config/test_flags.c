#include <criterion/criterion.h>
#include "core/config/flags.h"
#include "tests/support/mem_heap.h"

enum { WORDS_MAX = 16 };

struct fixture {
    struct mem_heap heap;
    struct flags f;
    char *words[WORDS_MAX];
    int count;
};

/* line: words separated by spaces, after the program's name. It is cut up. */
static void parse(struct fixture *x, char *line)
{
    mem_heap_init(&x->heap);
    x->count = 0;
    x->words[x->count++] = "nats-server";
    for (char *at = strtok(line, " "); at != NULL; at = strtok(NULL, " ")) {
        cr_assert(x->count < WORDS_MAX);
        x->words[x->count++] = at;
    }
    cr_assert_eq(flags_parse(&x->f, &x->heap.mem, x->count, x->words), ERR_OK);
}

static void done(struct fixture *x)
{
    flags_deinit(&x->f);
    cr_assert_eq(x->heap.live_count, 0);
}

static void expect(const char *line, enum flags_action action, const char *message)
{
    struct fixture x;
    char room[256];
    cr_assert(strlen(line) < sizeof(room));
    strcpy(room, line);
    parse(&x, room);
    cr_expect_eq(x.f.action, action, "%s gives action %d", line, x.f.action);
    cr_expect(bytes_equal(x.f.message, bytes_from_text(message)), "%s says %.*s", line,
              (int)x.f.message.len, x.f.message.data);
    done(&x);
}

/* The last value that flags gave to an option. */
static const struct conf_value *value_of(const struct fixture *x, const char *path)
{
    const struct conf_value *found = NULL;
    for (const struct flags_setting *s = x->f.settings; s != NULL; s = s->next)
        if (strcmp(s->option->path, path) == 0) found = &s->value;
    cr_assert_not_null(found, "%s", path);
    return found;
}

Test(flags, one_dash_or_two_space_or_equals)
{
    static const char *const lines[] = {"-p 4333",    "--p 4333",    "-p=4333",      "--p=4333",
                                        "-port 4333", "--port=4333", "-p 1 -p 4333", "-p 0x10ed",
                                        "-p +4333",   "-p 010355"};
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        struct fixture x;
        char line[32];
        strcpy(line, lines[i]);
        parse(&x, line);
        cr_expect_eq(x.f.action, FLAGS_RUN);
        cr_expect_eq(value_of(&x, "port")->integer, 4333, "%s", lines[i]);
        done(&x);
    }
}

Test(flags, a_value_may_begin_with_a_dash)
{
    struct fixture x;
    char line[] = "-p -1 -a -x";
    parse(&x, line);
    cr_expect_eq(value_of(&x, "port")->integer, -1);
    cr_expect(bytes_equal(value_of(&x, "host")->text, BYTES_LITERAL("-x")));
    done(&x);
}

Test(flags, booleans_are_bare_or_with_equals)
{
    struct fixture x;
    char line[] = "-D -T=false --logtime_utc=1 -V=T";
    parse(&x, line);
    cr_expect(value_of(&x, "debug")->boolean);
    cr_expect(!value_of(&x, "logtime")->boolean);
    cr_expect(value_of(&x, "logtime_utc")->boolean);
    cr_expect(value_of(&x, "trace")->boolean);
    done(&x);
    expect("-D false", FLAGS_ERROR, "unrecognized command: \"false\"");
    expect("-D=maybe", FLAGS_USAGE, "invalid boolean value \"maybe\" for -D: parse error");
}

Test(flags, combined_debug_and_trace)
{
    struct fixture x;
    char line[] = "-DVV";
    parse(&x, line);
    cr_expect(value_of(&x, "debug")->boolean);
    cr_expect(value_of(&x, "trace")->boolean);
    cr_expect(value_of(&x, "trace_verbose")->boolean);
    done(&x);
    char off[] = "-DV=false";
    parse(&x, off);
    cr_expect(!value_of(&x, "debug")->boolean);
    done(&x);
}

Test(flags, mistakes_print_the_usage)
{
    expect("-nope", FLAGS_USAGE, "flag provided but not defined: -nope");
    expect("--nope=1 -p 5", FLAGS_USAGE, "flag provided but not defined: -nope");
    expect("-p", FLAGS_USAGE, "flag needs an argument: -p");
    expect("-p x", FLAGS_USAGE, "invalid value \"x\" for flag -p: parse error");
    expect("-p 99999999999999999999", FLAGS_USAGE,
           "invalid value \"99999999999999999999\" for flag -p: value out of range");
    expect("---p 1", FLAGS_USAGE, "bad flag syntax: ---p");
    expect("-=1", FLAGS_USAGE, "bad flag syntax: -=1");
    expect("--set nothing", FLAGS_USAGE,
           "invalid value \"nothing\" for flag -set: must be name=value");
}

Test(flags, words_without_a_dash)
{
    expect("version", FLAGS_VERSION, "");
    expect("HELP", FLAGS_HELP, "");
    expect("-p 1 start", FLAGS_ERROR, "unrecognized command: \"start\"");
    expect("-- version", FLAGS_VERSION, "");
    expect("-", FLAGS_ERROR, "unrecognized command: \"-\"");
    expect("-v start", FLAGS_VERSION, "");
}

Test(flags, words_that_check_does_not_take)
{
    static const char said[] = "check takes the folder of one store, and --dump";
    expect("check", FLAGS_CHECK_ERROR, said);
    expect("check --dump", FLAGS_CHECK_ERROR, said);
    expect("check a b", FLAGS_CHECK_ERROR, said);
    expect("check --fix a", FLAGS_CHECK_ERROR, said);
    expect("check -dump a", FLAGS_CHECK, "");
    expect("check a b --help", FLAGS_CHECK_ERROR, said);
}

Test(flags, actions)
{
    expect("", FLAGS_RUN, "");
    expect("-v", FLAGS_VERSION, "");
    expect("--version -h", FLAGS_VERSION, "");
    expect("-h", FLAGS_HELP, "");
    expect("--help_tls", FLAGS_HELP_TLS, "");
    expect("--man", FLAGS_MAN, "");
    expect("-t -c x", FLAGS_TEST, "");
    expect("-t", FLAGS_ERROR,
           "must specify [-c, --config] option to check configuration file syntax");
    expect("--print-config", FLAGS_PRINT_CONFIG, "");
    expect("-v=false", FLAGS_RUN, "");
}

Test(flags, signals_name_a_process)
{
    struct fixture x;
    char line[] = "-sl=ldm=1234";
    parse(&x, line);
    cr_expect_eq(x.f.action, FLAGS_SIGNAL);
    cr_expect(bytes_equal(x.f.signal, BYTES_LITERAL("ldm")));
    cr_expect(bytes_equal(x.f.signal_target, BYTES_LITERAL("1234")));
    done(&x);
    char bare[] = "--signal reload";
    parse(&x, bare);
    cr_expect(bytes_equal(x.f.signal, BYTES_LITERAL("reload")));
    cr_expect_eq(x.f.signal_target.len, 0);
    done(&x);
    expect("--signal stop=1=2", FLAGS_ERROR, "invalid signal parameters: [2]");
}

Test(flags, what_is_not_built_is_refused_by_name)
{
    expect("-js", FLAGS_RUN, "");
    expect("-js=false", FLAGS_RUN, "");
    expect("-js -v", FLAGS_VERSION, "");
    expect("--cluster nats://x:1", FLAGS_ERROR,
           "flag -cluster is not supported yet (cluster.listen)");
    expect("-routes a,b -p 1", FLAGS_ERROR, "flag -routes is not supported yet (cluster.routes)");
    expect("-cluster_name x -sd=/data --profile 1", FLAGS_RUN, "");
    expect("-js -nope", FLAGS_USAGE, "flag provided but not defined: -nope");
}

Test(flags, the_last_of_several_set_flags_is_kept_in_order)
{
    struct fixture x;
    char line[] = "--set a.b=1 --set c==";
    parse(&x, line);
    cr_expect(bytes_equal(x.f.sets->path, BYTES_LITERAL("a.b")));
    cr_expect(bytes_equal(x.f.sets->next->value, BYTES_LITERAL("=")));
    done(&x);
}

Test(flags, secrets_are_copied_and_wiped_from_the_command_line)
{
    struct fixture x;
    char line[] = "--user me --pass=s3cret -auth tok -p 5";
    parse(&x, line);
    flags_wipe(&x.f, x.words);
    cr_expect_str_eq(x.words[2], "xx");
    cr_expect_str_eq(x.words[3], "--pass=xxxxxx");
    cr_expect_str_eq(x.words[5], "xxx");
    cr_expect_str_eq(x.words[7], "5");
    cr_expect(bytes_equal(value_of(&x, "authorization.password")->text, BYTES_LITERAL("s3cret")));
    done(&x);
}

Test(flags, every_flag_of_the_reference_is_known)
{
    static const char *const names[] = {"h",
                                        "help",
                                        "port",
                                        "p",
                                        "n",
                                        "name",
                                        "server_name",
                                        "addr",
                                        "a",
                                        "net",
                                        "client_advertise",
                                        "D",
                                        "debug",
                                        "V",
                                        "VV",
                                        "trace",
                                        "DV",
                                        "DVV",
                                        "T",
                                        "logtime",
                                        "logtime_utc",
                                        "user",
                                        "pass",
                                        "auth",
                                        "m",
                                        "http_port",
                                        "ms",
                                        "https_port",
                                        "c",
                                        "config",
                                        "t",
                                        "sl",
                                        "signal",
                                        "P",
                                        "pid",
                                        "ports_file_dir",
                                        "l",
                                        "log",
                                        "log_size_limit",
                                        "s",
                                        "syslog",
                                        "r",
                                        "remote_syslog",
                                        "version",
                                        "v",
                                        "profile",
                                        "routes",
                                        "cluster",
                                        "cluster_listen",
                                        "cluster_advertise",
                                        "no_advertise",
                                        "connect_retries",
                                        "cluster_name",
                                        "help_tls",
                                        "tls",
                                        "tlsverify",
                                        "tlscert",
                                        "tlskey",
                                        "tlscacert",
                                        "max_traced_msg_len",
                                        "js",
                                        "jetstream",
                                        "sd",
                                        "store_dir"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        cr_expect_not_null(option_find_flag(bytes_from_text(names[i])), "%s", names[i]);
}

Test(flags, running_out_of_memory_leaks_nothing)
{
    char *words[] = {"x", "-p", "5", "--set", "a=b", "--pass", "q", "-sl", "ldm=5"};
    for (uint64_t n = 1;; n++) {
        struct mem_heap heap;
        struct flags f;
        mem_heap_init(&heap);
        heap.fail_at = n;
        enum err e = flags_parse(&f, &heap.mem, 9, words);
        bool was_reached = heap.alloc_count >= n;
        cr_expect_eq(e, was_reached ? ERR_MEMORY : ERR_OK);
        if (e == ERR_OK) flags_deinit(&f);
        cr_assert_eq(heap.live_count, 0);
        if (!was_reached) break;
    }
}
