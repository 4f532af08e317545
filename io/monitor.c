#include "io/monitor.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "core/base/text.h"
#include "core/monitor/healthz.h"
#include "core/monitor/page.h"
#include "core/route/interest.h"
#include "io/conn_tls.h"
#include "io/pidfile.h"
#include "io/sysinfo.h"
#include "io/system_port.h"
#include "io/tls.h"

static const uint64_t UNHEALTHY_LOG_NS = 1000000000u;

struct monitor {
    pthread_mutex_t lock; /* of http: shard 0 hands sockets over while main closes it */
    struct http_server *http;
    struct mem_jemalloc mem; /* of the HTTP thread */
    struct page_counts counts;
    uint64_t unhealthy_logged_ns; /* of the HTTP thread */
};

/* --- what belongs to no shard
 * -------------------------------------------------------------------------- */

void monitor_describe(struct server *s, const struct options *o, const struct page_query *q,
                      struct server_snapshot *out)
{
    int64_t now = server_now(NULL).wall_ns;
    pthread_mutex_lock(&s->figures_lock);
    *out = (struct server_snapshot){.id = s->facts.id,
                                    .name = s->facts.name,
                                    .version = s->facts.version,
                                    .own_version = BYTES_LITERAL(SERVER_VERSION),
                                    .go_version = s->facts.go,
                                    .host = s->facts.host,
                                    .port = s->facts.port,
                                    .http_port = s->http_port,
                                    .https_port = s->https_port,
                                    .cluster = o->cluster_name,
                                    .is_auth_required = o->accounts->auth_required,
                                    .is_tls_required = o->tls.is_on && !o->allow_non_tls,
                                    .is_tls_verify = o->tls.verify || o->tls.verify_and_map,
                                    .options = o,
                                    .start_ns = s->facts.start_wall_ns,
                                    .now_ns = now,
                                    .config_load_ns = s->config_load_ns,
                                    .config_digest = o->config_digest,
                                    .cores = sysinfo_cores(),
                                    .shards = s->shard_count,
                                    .memory_limit_bytes = (int64_t)s->budget.process_bytes_max,
                                    .is_ready = atomic_load(&s->is_ready),
                                    .is_lame_duck = atomic_load(&s->is_lame_duck),
                                    .domain = o->jetstream.domain,
                                    .system_dropped = system_port_dropped(s),
                                    .process = s->process};
    if (s->has_storage)
        out->jetstream = (struct server_jetstream){
            .is_on = true,
            .store_dir = bytes_from_text(s->storage.folder),
            .sync_interval_ns = (int64_t)s->storage.sync_interval_ns,
            .memory_max = o->jetstream.memory_bytes_max >= 0 ? o->jetstream.memory_bytes_max
                                                             : s->storage.memory_max,
            .storage_max = o->jetstream.storage_bytes_max >= 0 ? o->jetstream.storage_bytes_max
                                                               : s->storage.storage_max};
    out->seq = ++s->event_seq;
    pthread_mutex_unlock(&s->figures_lock);
    struct sysinfo_process p;
    sysinfo_process(&p);
    out->process.resident_bytes = p.resident_bytes;
    out->process.virtual_bytes = p.virtual_bytes;
    out->process.cpu_seconds = p.cpu_seconds;
    out->process.open_fds = p.open_fds;
    out->process.max_fds = p.max_fds;
    out->process.start_ns = s->facts.start_wall_ns;
    struct tls_context *t = conn_tls_context(s);
    if (t != NULL) out->tls_not_after_ns = tls_context_not_after(t) * 1000000000;
    tls_context_drop(t);
    interest_count_all(s->interest, &out->interest);
    if (q->account_number != QUERY_NO_ACCOUNT)
        interest_count(s->interest, q->account_number, &out->interest_account);
}

/* --- snapshots
 * ------------------------------------------------------------------------------------------- */

static bool collect(struct server *s, uint32_t sender, struct page_query **q,
                    struct monitor_pages *out)
{
    struct order *order = calloc(1, sizeof *order);
    struct shard_snapshot **filled = calloc(s->shard_count, sizeof *filled);
    if (order == NULL || filled == NULL) {
        free(order);
        free(filled);
        return false;
    }
    *order = (struct order){.kind = ORDER_SNAPSHOT, .query = *q, .snapshots = filled};
    server_reap(s, sender);
    /* A shard that did not answer may still look at them. */
    if (!server_order(s, order, sender, ORDER_WAIT_NS)) {
        server_abandon(s, order);
        *q = NULL;
        return false;
    }
    *out = (struct monitor_pages){order, filled, (const struct shard_snapshot *const *)filled};
    for (uint32_t i = 0; i < s->shard_count; i++) {
        if (filled[i] != NULL) continue;
        monitor_release(s, sender, out);
        return false;
    }
    return true;
}

static int compare_ends(const void *a, const void *b)
{
    const struct query_end *x = a, *y = b;
    return query_end_is_before(*x, *y) ? 1 : query_end_is_before(*y, *x) ? -1 : 0;
}

/* Each shard keeps as many records of closed connections as all may have together. True: that is
 * too many; *from is the oldest that counts. */
static bool find_closed_from(const struct server *s, const struct monitor_pages *p, uint64_t max,
                             struct query_end *from)
{
    uint64_t count = 0, at = 0;
    for (uint32_t i = 0; i < s->shard_count; i++) count += p->shards[i]->closed_kept;
    if (count <= max || max == 0) return false;
    struct query_end *all = malloc(count * sizeof *all);
    if (all == NULL) return false;
    for (uint32_t i = 0; i < s->shard_count; i++) {
        const struct shard_snapshot *x = p->shards[i];
        if (x->closed_kept > 0) memcpy(all + at, x->closed_ends, x->closed_kept * sizeof *all);
        at += x->closed_kept;
    }
    qsort(all, count, sizeof *all, compare_ends);
    *from = all[max - 1];
    free(all);
    return true;
}

bool monitor_collect(struct server *s, uint32_t sender, struct page_query **q,
                     struct monitor_pages *out)
{
    uint64_t max = (uint64_t)atomic_load(&s->options)->max_closed_clients;
    if (!collect(s, sender, q, out)) return false;
    if (!find_closed_from(s, out, max, &(*q)->closed_from)) return true;
    monitor_release(s, sender, out);
    return collect(s, sender, q, out);
}

void monitor_release(struct server *s, uint32_t sender, struct monitor_pages *p)
{
    p->order->kind = ORDER_SNAPSHOT_FREE;
    p->order->query = NULL; /* the caller's */
    if (!server_order(s, p->order, sender, ORDER_WAIT_NS)) {
        server_abandon(s, p->order);
        return;
    }
    free(p->order);
    free(p->filled);
}

/* At most one line a second: a port that everybody may ask must not fill a disk. in NULL: no shard
 * answered. */
static void log_unhealthy(struct server *s, const struct page_input *in)
{
    struct monitor *m = s->monitor;
    char room[8 * 1024];
    struct text line;
    uint64_t now = server_now(NULL).mono_ns;
    if (m->unhealthy_logged_ns != 0 && now - m->unhealthy_logged_ns < UNHEALTHY_LOG_NS) return;
    text_init_in(&line, room, sizeof room);
    if (in != NULL)
        healthz_write_failure(in, &line);
    else
        text_string(&line, "Healthcheck failed: \"the server is too busy to answer\"");
    if (line.len == 0) return;
    m->unhealthy_logged_ns = now;
    log_text(s->log, LOG_LABEL_WRN, text_written(&line));
}

static void render(struct server *s, struct page_query **query, struct text *body,
                   struct page_answer *answer)
{
    struct monitor *m = s->monitor;
    struct page_query *q = *query;
    enum page page = q->page; /* q is not ours any more if no shard answers */
    struct monitor_pages pages;
    struct server_snapshot server;
    /* The options may be replaced meanwhile: a reload waits for this lock before it frees them. */
    pthread_rwlock_rdlock(&s->options_lock);
    const struct options *o = atomic_load(&s->options);
    server.options = o;
    snapshot_resolve(&server, q);
    if (monitor_collect(s, server_sender_monitor(s), query, &pages)) {
        monitor_describe(s, o, q, &server);
        server.pages = &m->counts; /* this thread's own */
        struct page_input in = {.query = q,
                                .server = &server,
                                .shards = pages.shards,
                                .shard_count = s->shard_count,
                                .mem = &m->mem.mem};
        page_render(&in, body, answer);
        if (page == PAGE_HEALTHZ && answer->status != 200) log_unhealthy(s, &in);
        monitor_release(s, server_sender_monitor(s), &pages);
    } else {
        *answer = (struct page_answer){.status = 503, .content_type = "text/plain; charset=utf-8"};
        text_string(body, "the server is too busy to answer\n");
        if (page == PAGE_HEALTHZ) log_unhealthy(s, NULL);
    }
    pthread_rwlock_unlock(&s->options_lock);
}

static void serve(void *context, const struct http_request *r, struct http_response *response)
{
    struct server *s = context;
    struct monitor *m = s->monitor;
    enum page page = query_page_of_path(r->path);
    if (page == PAGE_NONE) {
        http_response_not_found(response);
        return;
    }
    pthread_mutex_lock(&s->figures_lock);
    m->counts.requests[page]++;
    pthread_mutex_unlock(&s->figures_lock);
    struct query_param params[HTTP_PARAMS_MAX];
    for (uint32_t i = 0; i < r->param_count; i++)
        params[i] = (struct query_param){r->params[i].name, r->params[i].value};
    struct page_query *q = malloc(sizeof *q);
    if (q == NULL) {
        http_response_text(response, 503, "out of memory");
        return;
    }
    struct text body, error;
    struct page_answer answer = {.status = 200, .content_type = "application/json"};
    text_init(&body, &m->mem.mem, MEM_MONITOR, PAGE_BYTES_MAX);
    text_init(&error, &m->mem.mem, MEM_MONITOR, 4096);
    if (query_parse(q, page, params, r->param_count, &error) != ERR_OK)
        page_refuse(&error, &body, &answer);
    else
        render(s, &q, &body, &answer);
    response->status = answer.status;
    response->content_type = answer.content_type;
    response->has_cors = answer.is_cors;
    (void)!http_response_body(response,
                              bytes_of(body.data, body.len)); /* without memory: an empty 500 */
    text_deinit(&body);
    text_deinit(&error);
    free(q);
}

enum err monitor_open(struct server *s)
{
    const struct options *o = atomic_load(&s->options);
    struct monitor *m = calloc(1, sizeof *m);
    if (m == NULL) return ERR_MEMORY;
    mem_jemalloc_init(&m->mem, &s->budget);
    pthread_mutex_init(&m->lock, NULL);
    s->monitor = m;
    struct http_options h = {
        .serve = serve, .context = s, .base_path = o->http_base_path.data, .log = s->log};
    enum err e = http_open(&h, &m->http);
    if (e == ERR_OK) return ERR_OK;
    mem_jemalloc_deinit(&m->mem);
    free(m);
    s->monitor = NULL;
    return e;
}

void monitor_copy_counts(struct server *s, struct page_counts *out)
{
    pthread_mutex_lock(&s->figures_lock);
    *out = s->monitor->counts;
    pthread_mutex_unlock(&s->figures_lock);
}

void monitor_tick(struct server *s)
{
    struct monitor *m = s->monitor;
    pthread_mutex_lock(&m->lock);
    if (m->http != NULL) http_expire(m->http);
    pthread_mutex_unlock(&m->lock);
}

void monitor_close(struct server *s)
{
    struct monitor *m = s->monitor;
    if (m == NULL) return;
    pthread_mutex_lock(&m->lock);
    struct http_server *http = m->http;
    m->http = NULL;
    pthread_mutex_unlock(&m->lock);
    http_close(http);
}

void monitor_free(struct server *s)
{
    struct monitor *m = s->monitor;
    if (m == NULL) return;
    pthread_mutex_destroy(&m->lock);
    mem_jemalloc_deinit(&m->mem);
    free(m);
    s->monitor = NULL;
}

void server_monitor_take(struct server *s, int fd, bool is_https)
{
    struct sockaddr_storage a;
    socklen_t len = sizeof a;
    struct tls_context *t = is_https ? conn_tls_context(s) : NULL;
    struct monitor *m = s->monitor;
    pthread_mutex_lock(&m->lock);
    if (m->http == NULL || getpeername(fd, (struct sockaddr *)&a, &len) != 0 ||
        (is_https && t == NULL))
        close(fd);
    else
        /* It owns fd whatever it says. */
        (void)!http_take(m->http, fd, (struct sockaddr *)&a, len, t);
    pthread_mutex_unlock(&m->lock);
    tls_context_drop(t);
}
