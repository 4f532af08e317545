/* The program: flags, configuration, start, signals, reload, lame duck, end.
 * Exit codes: 0 as asked, 1 for a problem with the configuration, the start or the end of the
 * store; those of `check` are in io/checker.h. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>
#include "core/base/json.h"
#include "core/base/must.h"
#include "core/config/conf.h"
#include "core/config/flags.h"
#include "core/config/help.h"
#include "core/config/reload.h"
#include "io/checker.h"
#include "io/conn_tls.h"
#include "io/crypto.h"
#include "io/lame_duck.h"
#include "io/monitor.h"
#include "io/notify.h"
#include "io/pidfile.h"
#include "io/server.h"
#include "io/signals.h"
#include "io/sysinfo.h"
#include "io/system_port.h"

static const uint64_t RELOAD_WAIT_NS = 10000000000u;

enum {
    REASON_BYTES = 8192,
    MEMORY_WATCH_PERCENT = 60, /* of the budget: from here on the process is looked at often */
    MEMORY_WATCH_MS = 10,

    REPORT_BYTES_MAX = 1 << 20,
    STACK_BYTES_MIN = 256 << 10,
};

/* The hook of core's assertions: says where, then a core dump. */
void must_fail(const char *file, int line, const char *condition)
{
    fprintf(stderr, "[%d] millrace: %s:%d: must(%s) failed\n", (int)getpid(), file, line,
            condition);
    abort();
}

struct program {
    const char *name; /* as it was started */
    struct mem_jemalloc_budget unlimited;
    struct mem_jemalloc mem;
    struct flags flags;
    struct account_numbers *numbers;
    uint64_t seed;
    struct conf_source source;
    struct options *options;
    struct server server;
    struct notify notify;
    struct sysinfo_cpu cpu;
    char ports_path[PIDFILE_PATH_BYTES];
    int signal_fd, timer_fd;
};

/* --- configuration -------------------------------------------------------------------------------
 */

static enum err read_file(struct conf_source *s, struct arena *arena, struct bytes path,
                          struct bytes *content, struct bytes *why)
{
    (void)s;
    struct stat st;
    int fd = open(path.data, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0 || S_ISDIR(st.st_mode)) {
        int e = fd < 0 ? errno : EISDIR;
        *why = bytes_from_text(e == ENOENT   ? "no such file or directory"
                               : e == EACCES ? "permission denied"
                               : e == EISDIR ? "is a directory"
                                             : strerror(e));
        if (fd >= 0) close(fd);
        return ERR_IO;
    }
    size_t room = (size_t)st.st_size + 1;
    char *data = arena_alloc(arena, room);
    size_t len = 0;
    while (data != NULL && len < (size_t)st.st_size) {
        ssize_t n = read(fd, data + len, (size_t)st.st_size - len);
        if (n <= 0) break;
        len += (size_t)n;
    }
    close(fd);
    if (data == NULL) return ERR_MEMORY;
    *content = bytes_of(data, len);
    return ERR_OK;
}

static bool get_environment(struct conf_source *s, struct bytes name, struct bytes *value)
{
    char key[256];
    (void)s;
    if (name.len >= sizeof key) return false;
    memcpy(key, name.data, name.len);
    key[name.len] = 0;
    const char *text = getenv(key);
    if (text == NULL) return false;
    *value = bytes_from_text(text);
    return true;
}

static bool environment_name_at(struct conf_source *s, size_t at, struct bytes *name)
{
    (void)s;
    if (environ[at] == NULL) return false;
    struct bytes all = bytes_from_text(environ[at]);
    *name = bytes_of(all.data, bytes_find(all, '='));
    return true;
}

static void sha256(const void *data, size_t bytes, uint8_t digest[32])
{
    crypto_sha256(bytes_of(data, bytes), digest);
}

static enum err load(struct program *p, struct options **out, struct options_report *report)
{
    struct options_input in = {.source = &p->source,
                               .flags = &p->flags,
                               .numbers = p->numbers,
                               .seed = p->seed,
                               .sha256 = sha256};
    return options_load(&p->mem.mem, &in, out, report);
}

/* "<program>: <label><line>" for each line. */
static void print_lines(const struct program *p, const char *label, const struct text *lines)
{
    const char *at = lines->data;
    const char *end = at + lines->len;
    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t len = newline == NULL ? (size_t)(end - at) : (size_t)(newline - at);
        fprintf(stderr, "%s: %s%.*s\n", p->name, label, (int)len, at);
        at += len + 1;
    }
}

static void log_lines(struct log *log, enum log_label label, const struct text *lines)
{
    const char *at = lines->data;
    const char *end = at + lines->len;
    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t len = newline == NULL ? (size_t)(end - at) : (size_t)(newline - at);
        log_text(log, label, bytes_of(at, len));
        at += len + 1;
    }
}

static struct log_options log_options_of(const struct program *p, const struct options *o)
{
    static const enum log_format formats[] = {[OPTIONS_LOG_TEXT] = LOG_TEXT,
                                              [OPTIONS_LOG_JSON] = LOG_JSON,
                                              [OPTIONS_LOG_LOGFMT] = LOG_LOGFMT};
    return (struct log_options){.file = o->log_file.data,
                                .file_bytes_max =
                                    o->log_size_limit > 0 ? (uint64_t)o->log_size_limit : 0,
                                .files_max = o->log_max_num > 0 ? (uint64_t)o->log_max_num : 0,
                                .remote_syslog = o->remote_syslog.data,
                                .has_syslog = o->syslog,
                                .tag = p->name,
                                .stderr_fd = 2,
                                .has_time = o->logtime,
                                .is_utc = o->logtime_utc,
                                .has_debug = o->debug,
                                .has_trace = o->trace,
                                .format = formats[o->log_format]};
}

/* --- actions that end at once
 * ----------------------------------------------------------------------- */

static void print_text(FILE *f, const struct text *t)
{
    fwrite(t->data, 1, t->len, f);
    fflush(f);
}

static int print_version(const struct program *p)
{
    printf("nats-server: v%s\n", SERVER_NATS_VERSION);
    if (p->flags.is_verbose) printf("millrace: v%s\n", SERVER_VERSION);
    return 0;
}

static int print_help(struct program *p, void (*write)(struct text *out))
{
    struct text t;
    text_init(&t, &p->mem.mem, MEM_CONFIG, REPORT_BYTES_MAX);
    if (write != NULL)
        write(&t);
    else
        help_usage(&t, bytes_from_text(p->name));
    print_text(stdout, &t);
    text_deinit(&t);
    return 0;
}

static void write_man(struct text *out)
{
    help_man(out, BYTES_LITERAL(SERVER_VERSION));
}

static int send_signal(struct program *p)
{
    char argument[4096], reason[SIGNALS_REASON_BYTES];
    snprintf(argument, sizeof argument, "%s%s%s", p->flags.signal.data,
             p->flags.signal_target.len > 0 ? "=" : "",
             p->flags.signal_target.len > 0 ? p->flags.signal_target.data : "");
    if (signals_send(argument, reason, sizeof reason) == ERR_OK) return 0;
    fprintf(stderr, "%s: %s\n", p->name, reason);
    return 1;
}

static int test_config(struct program *p, const struct options_report *report)
{
    print_lines(p, "", &report->warnings); /* errors here, warnings at a start */
    if (report->warning_count > 0) return 1;
    print_lines(p, "[WRN] ", &report->notices);
    char reason[SERVER_REASON_BYTES] = "";
    if (conn_tls_check(p->options, reason, sizeof reason) != ERR_OK) {
        fprintf(stderr, "%s: %s\n", p->name, reason);
        return 1;
    }
    fprintf(stderr, "%s: configuration file %s is valid (%s)\n", p->name,
            p->options->config_file.data, p->options->config_digest.data);
    return 0;
}

static int print_config(struct program *p)
{
    struct text t;
    text_init(&t, &p->mem.mem, MEM_CONFIG, REPORT_BYTES_MAX);
    help_config(&t, p->options);
    print_text(stdout, &t);
    text_deinit(&t);
    return 0;
}

/* --- start
 * ------------------------------------------------------------------------------------------- */

static void log_banner(struct program *p)
{
    struct server *s = &p->server;
    const struct options *o = p->options;
    log_info(s->log, "Starting nats-server");
    log_info(s->log, "  Version:  %s", SERVER_NATS_VERSION);
    log_info(s->log, "  Millrace: %s", SERVER_VERSION);
    log_info(s->log, "  Git:      [not set]");
    if (o->cluster_name.len > 0) log_info(s->log, "  Cluster:  %s", o->cluster_name.data);
    log_info(s->log, "  Name:     %s", s->facts.name.data);
    log_info(s->log, "  ID:       %s", s->id_text);
    if (o->config_file.len > 0)
        log_info(s->log, "Using configuration file: %s (%s)", o->config_file.data,
                 o->config_digest.data);
    if (o->accounts->has_plain_passwords)
        log_warn(s->log, "Plaintext passwords detected, use nkeys or bcrypt");
}

static const char *bracketed(const char *host, char *room, size_t room_bytes)
{
    bool is_v6 = strchr(host, ':') != NULL;
    snprintf(room, room_bytes, is_v6 ? "[%s]" : "%s", host);
    return room;
}

static void log_listening(struct program *p)
{
    struct server *s = &p->server;
    const struct options *o = p->options;
    char host[256];
    const char *http_host = o->http_host.len > 0 ? o->http_host.data : o->host.data;
    bracketed(http_host, host, sizeof host);
    if (s->http_port > 0) log_info(s->log, "Starting http monitor on %s:%d", host, s->http_port);
    if (s->https_port > 0) log_info(s->log, "Starting https monitor on %s:%d", host, s->https_port);
    log_info(s->log, "Listening for client connections on %s:%d",
             bracketed(o->host.data, host, sizeof host), s->facts.port);
    if (o->unix_socket.len > 0)
        log_info(s->log, "Listening for client connections on unix:%s", o->unix_socket.data);
    if (o->tls.is_on) log_info(s->log, "TLS required for client connections");
    log_info(s->log, "Shards: %u", s->shard_count);
    log_info(s->log, "Server is ready");
}

enum { ADDRESSES_MAX = PIDFILE_URLS_MAX };

/* URLs of a listener: those of every address of the machine when it listens on all. */
static uint32_t list_urls(const char *scheme, const char *host, int port, char urls[][320],
                          const char **items)
{
    char room[256];
    uint32_t count = 0;
    bool is_any = strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
    struct ifaddrs *list = NULL;
    if (is_any && getifaddrs(&list) != 0) list = NULL;
    for (struct ifaddrs *a = list; a != NULL && count < ADDRESSES_MAX; a = a->ifa_next) {
        char text[INET6_ADDRSTRLEN];
        if (a->ifa_addr == NULL) continue;
        int family = a->ifa_addr->sa_family;
        const void *raw = family == AF_INET
                              ? (void *)&((struct sockaddr_in *)(void *)a->ifa_addr)->sin_addr
                              : (void *)&((struct sockaddr_in6 *)(void *)a->ifa_addr)->sin6_addr;
        if ((family != AF_INET && family != AF_INET6) ||
            inet_ntop(family, raw, text, sizeof text) == NULL)
            continue;
        snprintf(urls[count], 320, "%s://%s:%d", scheme, bracketed(text, room, sizeof room), port);
        items[count] = urls[count];
        count++;
    }
    if (list != NULL) freeifaddrs(list);
    if (count > 0) return count;
    snprintf(urls[0], 320, "%s://%s:%d", scheme, bracketed(host, room, sizeof room), port);
    items[0] = urls[0];
    return 1;
}

static bool write_pid(struct program *p, char *reason, size_t reason_bytes)
{
    const struct options *o = p->options;
    char why[SERVER_REASON_BYTES - 64];
    if (o->pid_file.len == 0 || pidfile_write(o->pid_file.data, why, sizeof why) == ERR_OK)
        return true;
    snprintf(reason, reason_bytes, "Could not write pidfile: %s", why);
    return false;
}

static void write_ports(struct program *p)
{
    struct server *s = &p->server;
    const struct options *o = p->options;
    if (o->ports_file_dir.len == 0) return;
    char nats[ADDRESSES_MAX][320], http[ADDRESSES_MAX][320], why[SERVER_REASON_BYTES - 64];
    const char *http_host = o->http_host.len > 0 ? o->http_host.data : o->host.data;
    struct pidfile_ports ports = {0};
    ports.nats.count = list_urls(o->tls.is_on ? "tls" : "nats", o->host.data, s->facts.port, nats,
                                 ports.nats.items);
    if (s->http_port > 0)
        ports.monitoring.count =
            list_urls("http", http_host, s->http_port, http, ports.monitoring.items);
    else if (s->https_port > 0)
        ports.monitoring.count =
            list_urls("https", http_host, s->https_port, http, ports.monitoring.items);
    if (pidfile_ports_path(o->ports_file_dir.data, p->name, p->ports_path) == ERR_OK &&
        pidfile_ports_write(p->ports_path, &ports, why, sizeof why) == ERR_OK)
        return;
    log_error(s->log, "Error writing ports file (%s): %s", p->ports_path, why);
    p->ports_path[0] = 0;
}

static void write_files(struct program *p)
{
    char reason[SERVER_REASON_BYTES];
    if (!write_pid(p, reason, sizeof reason)) log_error(p->server.log, "%s", reason);
    write_ports(p);
}

static int fatal(struct program *p, const char *reason)
{
    log_fatal(p->server.log, "%s", reason);
    log_close(p->server.log);
    return 1;
}

static void set_budget(struct program *p)
{
    const struct options *o = p->options;
    uint64_t bytes = o->max_process_memory_bytes;
    if (bytes == 0 && o->max_process_memory_percent > 0)
        bytes = sysinfo_memory_limit() / 100 * o->max_process_memory_percent;
    mem_jemalloc_budget_init(&p->server.budget, bytes);
}

/* --- while it runs
 * ------------------------------------------------------------------------------------ */

/* The first line of a report is the reason that the log and $SYS.REQ.SERVER.<id>.RELOAD give. */
static void reload_ended(struct program *p, const char *reason)
{
    struct server *s = &p->server;
    pthread_mutex_lock(&s->figures_lock);
    snprintf(s->reload_failure, sizeof s->reload_failure, "%s", reason);
    pthread_mutex_unlock(&s->figures_lock);
    atomic_fetch_add(&s->reload_count, 1);
    if (reason[0] != 0) log_error(s->log, "Failed to reload server configuration: %s", reason);
}

static void first_line(const struct text *lines, char *reason, size_t reason_bytes)
{
    const char *newline = lines->len == 0 ? NULL : memchr(lines->data, '\n', lines->len);
    size_t len = newline == NULL ? lines->len : (size_t)(newline - lines->data);
    snprintf(reason, reason_bytes, "%.*s", (int)len, lines->len == 0 ? "" : lines->data);
}

/* Every shard takes over the new options; the old ones go when none looks at them any more. */
static void replace_options(struct program *p, struct options *fresh,
                            const struct reload_report *changes)
{
    struct server *s = &p->server;
    struct options *old = p->options;
    struct order *order = calloc(1, sizeof *order);
    bool is_done = false;
    server_reap(s, server_sender_main(s));
    pthread_rwlock_wrlock(&s->options_lock);
    atomic_store(&s->options, fresh);
    p->options = fresh;
    if (order != NULL) {
        *order = (struct order){.kind = ORDER_OPTIONS,
                                .options = fresh,
                                .tells_info = changes->info_changed,
                                .checks_pins = changes->pinned_changed};
        is_done = server_order(s, order, server_sender_main(s), RELOAD_WAIT_NS);
    }
    pthread_rwlock_unlock(&s->options_lock);
    if (order == NULL) return; /* nobody was told: the shards keep the old object */
    if (is_done) {
        options_free(old);
        free(order);
    } else {
        order->replaced = old; /* a shard that did not answer may still look at it */
        server_abandon(s, order);
    }
}

/* max_connections was lowered: the excess is closed. */
static void close_excess(struct server *s)
{
    int64_t max = atomic_load(&s->options)->max_connections;
    while ((int64_t)atomic_load(&s->conn_count) > max) {
        struct order o = {.kind = ORDER_CLOSE_SOME, .reason = CLOSED_MAX_CONNECTIONS};
        uint32_t before = atomic_load(&s->conn_count);
        uint32_t fullest = lame_duck_fullest(s);
        o.count = before - (uint32_t)(max < 0 ? 0 : max);
        (void)server_order_one(s, &o, fullest, server_sender_main(s), ORDER_WAIT_FOR_EVER);
        struct timespec pause = {.tv_nsec = 20000000};
        for (int i = 0; i < 50 && atomic_load(&s->conn_count) >= before; i++)
            nanosleep(&pause, NULL);
        if (atomic_load(&s->conn_count) >= before) return;
    }
}

/* SIGHUP: all or nothing. */
static void reload(struct program *p)
{
    struct server *s = &p->server;
    struct options_report report;
    struct reload_report changes;
    struct options *fresh = NULL;
    char reason[SERVER_REASON_BYTES] = "";
    struct timespec now;
    if (p->options->config_file.len == 0) {
        reload_ended(p, "can only reload config when a file is provided using -c or --config");
        return;
    }
    clock_gettime(CLOCK_MONOTONIC, &now);
    notify_reloading(&p->notify, (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec);
    options_report_init(&report, &p->mem.mem);
    reload_report_init(&changes, &p->mem.mem);
    if (load(p, &fresh, &report) != ERR_OK) {
        log_lines(s->log, LOG_LABEL_ERR, &report.errors);
        first_line(&report.errors, reason, sizeof reason);
        goto end;
    }
    log_lines(s->log, LOG_LABEL_WRN, &report.warnings);
    log_lines(s->log, LOG_LABEL_WRN, &report.notices);
    if (reload_compare(p->options, fresh, &changes) != ERR_OK) {
        first_line(&changes.refused, reason, sizeof reason);
        if (changes.refused_count > 1) log_lines(s->log, LOG_LABEL_ERR, &changes.refused);
        goto end;
    }
    if (server_open_accounts(s, fresh) != ERR_OK) {
        snprintf(reason, sizeof reason, "out of memory");
        goto end;
    }
    if (conn_tls_load(s, fresh, reason, sizeof reason) != ERR_OK) goto end;
    reason[0] = 0;
    if (changes.log_changed) {
        struct log_options lo = log_options_of(p, fresh);
        char why[SERVER_REASON_BYTES];
        if (log_configure(s->log, &lo, why, sizeof why) != ERR_OK) log_error(s->log, "%s", why);
    }
    replace_options(p, fresh, &changes);
    fresh = NULL;
    if (changes.limits_changed) close_excess(s);
    pthread_mutex_lock(&s->figures_lock);
    s->config_load_ns = server_now(NULL).wall_ns;
    pthread_mutex_unlock(&s->figures_lock);
    if (changes.files_changed) write_files(p);
    log_lines(s->log, LOG_LABEL_INF, &changes.applied);
    log_info(s->log, "Reloaded server configuration (%s)", p->options->config_digest.data);
end:
    reload_ended(p, reason);
    options_free(fresh);
    reload_report_deinit(&changes);
    options_report_deinit(&report);
    notify_ready(&p->notify, NULL);
}

static void each_second(struct program *p)
{
    struct server *s = &p->server;
    uint64_t expirations;
    if (read(p->timer_fd, &expirations, sizeof expirations) < 0) return;
    sysinfo_cpu_sample(&p->cpu);
    pthread_mutex_lock(&s->figures_lock);
    s->process.cpu_percent = p->cpu.percent;
    pthread_mutex_unlock(&s->figures_lock);
    mem_jemalloc_decay();
    mem_jemalloc_budget_watch(&s->budget);
    if (s->has_storage) storage_watch(&s->storage);
    monitor_tick(s);
    conn_tls_tick(s);
    notify_watchdog(&p->notify);
}

/* Until a signal ends the server. */
static void run(struct program *p)
{
    struct server *s = &p->server;
    struct lame_duck duck = {0};
    struct pollfd fds[2] = {{.fd = p->signal_fd, .events = POLLIN},
                            {.fd = p->timer_fd, .events = POLLIN}};
    for (;;) {
        int timeout = lame_duck_timeout_ms(&duck);
        bool is_short = mem_jemalloc_budget_percent(&s->budget) >= MEMORY_WATCH_PERCENT;
        if (is_short && (timeout < 0 || timeout > MEMORY_WATCH_MS)) timeout = MEMORY_WATCH_MS;
        if (poll(fds, 2, timeout) < 0 && errno != EINTR) return;
        if (fds[1].revents != 0) each_second(p);
        if (is_short) mem_jemalloc_budget_watch(&s->budget);
        if (lame_duck_step(&duck, s)) return;
        for (int n = signals_next(p->signal_fd); n != 0; n = signals_next(p->signal_fd)) {
            log_info(s->log, "Trapped \"%s\" signal", signals_name(n));
            switch (n) {
            case SIGINT: return;
            case SIGTERM:
                if (!duck.is_on) return;
                break;
            case SIGHUP: reload(p); break;
            case SIGUSR1: log_reopen(s->log); break;
            case SIGUSR2: lame_duck_begin(&duck, s); break;
            default: break;
            }
        }
    }
}

/* INT or TERM came while the store was being read: nobody was served, and nothing waits to be
 * written. */
static _Noreturn void end_start(struct program *p)
{
    struct server *s = &p->server;
    for (int n = signals_next(p->signal_fd); n != 0; n = signals_next(p->signal_fd))
        log_info(s->log, "Trapped \"%s\" signal", signals_name(n));
    log_info(s->log, "Initiating Shutdown...");
    notify_stopping(&p->notify);
    log_info(s->log, "Server Exiting..");
    log_close(s->log);
    _exit(0); /* threads that did start hold nothing that must be saved */
}

static int serve(struct program *p, const struct options_report *report)
{
    struct server *s = &p->server;
    char reason[REASON_BYTES] = "";
    struct log_options lo = log_options_of(p, p->options);
    if (log_open(&lo, &s->log, reason, sizeof reason) != ERR_OK) {
        fprintf(stderr, "%s: %s\n", p->name, reason);
        return 1;
    }
    set_budget(p);
    atomic_store(&s->options, p->options);
    s->numbers = p->numbers;
    s->config_load_ns = server_now(NULL).wall_ns;
    if (server_check_files(s, reason, sizeof reason) != ERR_OK) return fatal(p, reason);
    if (signals_open(&p->signal_fd) != ERR_OK) return fatal(p, "cannot handle signals");
    p->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct itimerspec second = {.it_interval.tv_sec = 1, .it_value.tv_sec = 1};
    if (p->timer_fd < 0 || timerfd_settime(p->timer_fd, 0, &second, NULL) != 0)
        return fatal(p, "cannot make a timer");
    if (server_identify(s) != ERR_OK) return fatal(p, "out of memory");
    log_banner(p);
    log_lines(s->log, LOG_LABEL_WRN, &report->warnings);
    log_lines(s->log, LOG_LABEL_WRN, &report->notices);
    if (!write_pid(p, reason, sizeof reason)) return fatal(p, reason);
    if (conn_tls_load(s, p->options, reason, sizeof reason) != ERR_OK) return fatal(p, reason);
    if (log_start(s->log) != ERR_OK) return fatal(p, "cannot start the log's thread");
    if (monitor_open(s) != ERR_OK) return fatal(p, "cannot start the monitoring thread");
    if (system_port_open(s) != ERR_OK) return fatal(p, "out of memory");
    enum err e = server_start(s, reason, sizeof reason);
    if (e == ERR_CLOSED) end_start(p);
    if (e != ERR_OK) {
        fatal(p, reason[0] != 0 ? reason : "out of memory");
        _exit(1); /* threads that did start hold nothing that must be saved */
    }
    if (system_port_start(s) != ERR_OK) log_error(s->log, "cannot start the system thread");
    write_ports(p);
    atomic_store(&s->is_ready, true);
    log_listening(p);
    char status[128];
    snprintf(status, sizeof status, "Listening on port %d", s->facts.port);
    notify_ready(&p->notify, status);

    run(p);

    log_info(s->log, "Initiating Shutdown...");
    notify_stopping(&p->notify);
    if (p->ports_path[0] != 0) pidfile_ports_remove(p->ports_path);
    system_port_farewell(s, true);
    monitor_close(s);
    system_port_close(s);
    struct server_end end = server_stop(s);
    int code = end.is_unclean ? 1 : 0;
    if (!end.is_held) {
        system_port_free(s);
        monitor_free(s);
        server_free(s);
        conn_tls_unload(s);
    }
    log_info(s->log, "Server Exiting..");
    log_close(s->log);
    if (end.is_held) _exit(code);
    return code;
}

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash == NULL ? path : slash + 1;
}

static int check_store(struct program *p)
{
    struct checker_options o = {.program = p->name,
                                .store = p->flags.store.data,
                                .mem = &p->mem.mem,
                                .is_dump = p->flags.is_dump};
    return checker_run(&o);
}

static int act(struct program *p)
{
    switch (p->flags.action) {
    case FLAGS_USAGE: fprintf(stderr, "%s\n", p->flags.message.data); return print_help(p, NULL);
    case FLAGS_ERROR: fprintf(stderr, "%s: %s\n", p->name, p->flags.message.data); return 1;
    case FLAGS_CHECK_ERROR: fprintf(stderr, "%s: %s\n", p->name, p->flags.message.data); return 2;
    case FLAGS_VERSION: return print_version(p);
    case FLAGS_HELP: return print_help(p, NULL);
    case FLAGS_HELP_TLS: return print_help(p, help_tls);
    case FLAGS_HELP_CHECK: return print_help(p, help_check);
    case FLAGS_MAN: return print_help(p, write_man);
    case FLAGS_SIGNAL: return send_signal(p);
    case FLAGS_CHECK: return check_store(p);
    default: break;
    }
    struct options_report report;
    options_report_init(&report, &p->mem.mem);
    enum err e = load(p, &p->options, &report);
    int status = 1;
    if (e == ERR_MEMORY)
        fprintf(stderr, "%s: out of memory\n", p->name);
    else if (e != ERR_OK)
        print_lines(p, "", &report.errors);
    else if (p->flags.action == FLAGS_TEST)
        status = test_config(p, &report);
    else if (p->flags.action == FLAGS_PRINT_CONFIG)
        status = print_config(p);
    else
        status = serve(p, &report);
    options_report_deinit(&report);
    return status;
}

static NOINLINE int main_with_stack(int argc, char **argv)
{
    struct program *p = calloc(1, sizeof *p);
    if (p == NULL) return 1;
    p->name = base_name(argv[0]);
    if (crypto_init() != ERR_OK) {
        fprintf(stderr, "%s: the cryptographic library does not start\n", p->name);
        return 1;
    }
    mem_jemalloc_budget_init(&p->unlimited, 0);
    mem_jemalloc_init(&p->mem, &p->unlimited);
    crypto_random(&p->seed, sizeof p->seed);
    json_init((uint32_t)p->seed | 1);
    server_init(&p->server);
    sysinfo_cpu_init(&p->cpu);
    p->source = (struct conf_source){
        .read = read_file, .getenv = get_environment, .name_at = environment_name_at, .context = p};
    if (notify_open(&p->notify, getenv("NOTIFY_SOCKET"), getenv("WATCHDOG_USEC"),
                    getenv("WATCHDOG_PID")) != ERR_OK)
        fprintf(stderr, "%s: NOTIFY_SOCKET cannot be used\n", p->name);
    if (account_numbers_open(&p->mem.mem, &p->numbers) != ERR_OK ||
        flags_parse(&p->flags, &p->mem.mem, argc, argv) != ERR_OK) {
        fprintf(stderr, "%s: out of memory\n", p->name);
        return 1;
    }
    flags_wipe(&p->flags, argv);
    int status = act(p);
    options_free(p->options);
    account_numbers_close(p->numbers);
    flags_deinit(&p->flags);
    free(p);
    return status;
}

int main(int argc, char **argv)
{
    if (sysinfo_raise_stack(STACK_BYTES_MIN)) return main_with_stack(argc, argv);
    fprintf(stderr, "%s: the limit of the stack (ulimit -s) is below %d KiB\n", base_name(argv[0]),
            STACK_BYTES_MIN / 1024);
    return 1;
}
