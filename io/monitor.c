#include "io/monitor.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "core/base/text.h"
#include "core/monitor/page.h"
#include "core/route/interest.h"
#include "io/conn_tls.h"
#include "io/pidfile.h"
#include "io/sysinfo.h"
#include "io/tls.h"

enum { PAGE_WAIT_NS = 2000000000u };

struct monitor {
    struct http_server *http;
    struct mem_jemalloc mem; /* of the HTTP thread */
    struct page_counts counts;
};

/* --- what belongs to no shard
 * -------------------------------------------------------------------------- */

static void describe_server(struct server *s, const struct options *o, const struct page_query *q,
                            struct server_snapshot *out)
{
    int64_t now = server_now(NULL).wall_ns;
    pthread_mutex_lock(&s->figures_lock);
    *out = (struct server_snapshot){.id = s->facts.id,
                                    .name = s->facts.name,
                                    .version = s->facts.version,
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
                                    .process = s->process};
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

void monitor_render(struct server *s, uint32_t sender, struct page_query *q, struct mem *mem,
                    struct text *body, struct page_answer *answer)
{
    /* The options may be replaced meanwhile: the reload waits for this lock before it frees them.
     */
    pthread_rwlock_rdlock(&s->options_lock);
    const struct options *o = atomic_load(&s->options);
    if (q->account.len > 0) {
        const struct account *a = account_set_find(o->accounts, q->account);
        q->account_number = a == NULL ? QUERY_NO_ACCOUNT : a->number;
    }
    struct order *order = calloc(1, sizeof *order);
    struct shard_snapshot **shards = calloc(s->shard_count, sizeof *shards);
    bool is_done = false;
    if (order != NULL && shards != NULL) {
        *order = (struct order){.kind = ORDER_SNAPSHOT, .query = q, .snapshots = shards};
        is_done = server_order(s, order, sender, PAGE_WAIT_NS);
    }
    bool is_whole = is_done;
    for (uint32_t i = 0; is_done && i < s->shard_count; i++)
        is_whole = is_whole && shards[i] != NULL;
    if (!is_whole) {
        *answer = (struct page_answer){.status = 503, .content_type = "text/plain; charset=utf-8"};
        text_string(body, is_done ? "out of memory\n" : "the server is too busy to answer\n");
    } else {
        struct server_snapshot server;
        describe_server(s, o, q, &server);
        server.pages = &s->monitor->counts;
        struct page_input in = {.query = q,
                                .server = &server,
                                .shards = (const struct shard_snapshot *const *)shards,
                                .shard_count = s->shard_count,
                                .mem = mem};
        page_render(&in, body, answer);
    }
    pthread_rwlock_unlock(&s->options_lock);
    if (!is_done) return; /* a shard may still write into order and shards: they stay */
    order->kind = ORDER_SNAPSHOT_FREE;
    if (server_order(s, order, sender, PAGE_WAIT_NS)) {
        free(order);
        free(shards);
    }
}

/* --- HTTP
 * ---------------------------------------------------------------------------------------------------
 */

static void serve(void *context, const struct http_request *r, struct http_response *response)
{
    struct server *s = context;
    struct monitor *m = s->monitor;
    enum page page = query_page_of_path(r->path);
    if (page == PAGE_NONE) {
        http_response_not_found(response);
        return;
    }
    m->counts.requests[page]++;
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
        monitor_render(s, server_sender_monitor(s), q, &m->mem.mem, &body, &answer);
    response->status = answer.status;
    response->content_type = answer.content_type;
    if (answer.is_cors && response->extra_count < HTTP_EXTRA_HEADERS_MAX) {
        response->extra[response->extra_count].name = "Access-Control-Allow-Origin";
        memcpy(response->extra[response->extra_count].value, "*", 2);
        response->extra_count++;
    }
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

void monitor_close(struct server *s)
{
    struct monitor *m = s->monitor;
    if (m == NULL) return;
    http_close(m->http);
    mem_jemalloc_deinit(&m->mem);
    free(m);
    s->monitor = NULL;
}

void server_monitor_take(struct server *s, int fd, bool is_https)
{
    struct sockaddr_storage a;
    socklen_t len = sizeof a;
    struct tls_context *t = is_https ? conn_tls_context(s) : NULL;
    if (s->monitor == NULL || getpeername(fd, (struct sockaddr *)&a, &len) != 0 ||
        (is_https && t == NULL))
        close(fd);
    else
        (void)!http_take(s->monitor->http, fd, (struct sockaddr *)&a, len,
                         t); /* it owns fd whatever it says */
    tls_context_drop(t);
}
