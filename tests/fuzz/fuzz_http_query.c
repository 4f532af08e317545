/* Parameters of monitoring pages, as a query string behind one byte that picks the page: parsed,
 * then the page is rendered from a few connections. Whatever comes in, numbers stay in range, texts
 * lie inside the query, a page of JSON is valid JSON, and nothing leaks. */
#include <stdint.h>
#include "core/base/json.h"
#include "core/base/must.h"
#include "core/monitor/page.h"
#include "core/route/subject.h"
#include "tests/support/mem_heap.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { PARAMS_MAX = 32, CONNS = 40 };

static size_t split(struct bytes text, struct query_param *params)
{
    size_t count = 0;
    while (text.len > 0 && count < PARAMS_MAX) {
        size_t end = bytes_find(text, '&');
        struct bytes part = bytes_of(text.data, end);
        size_t equals = bytes_find(part, '=');
        params[count].name = bytes_of(part.data, equals);
        params[count].value = equals == part.len
                                  ? bytes_of(NULL, 0)
                                  : bytes_of(part.data + equals + 1, part.len - equals - 1);
        count++;
        size_t skip = end == text.len ? end : end + 1;
        text = bytes_of(text.data + skip, text.len - skip);
    }
    return count;
}

static void check_text(const struct page_query *q, struct bytes text)
{
    if (text.len == 0) return;
    must(text.data >= q->text);
    must(text.data + text.len <= q->text + q->text_bytes);
}

static void check_query(const struct page_query *q)
{
    must(q->text_bytes <= QUERY_TEXT_MAX);
    check_text(q, q->user);
    check_text(q, q->account);
    check_text(q, q->mqtt_client);
    check_text(q, q->test);
    check_text(q, q->stream);
    check_text(q, q->prefix);
    if (q->page == PAGE_CONNZ || q->page == PAGE_SUBSZ || q->page == PAGE_METRICS) {
        must(q->offset >= 0);
        must(q->limit > 0);
        must(query_window(q) >= (uint64_t)q->offset);
    }
    if (q->test.len != 0) must(subject_is_literal(q->test));
}

static void collect(struct shard_snapshot *s, const struct page_query *q)
{
    struct snapshot_pick pick;
    snapshot_pick_init(&pick, s, q);
    for (uint64_t cid = 1; cid <= CONNS; cid++) {
        struct conn_facts facts = {.cid = cid,
                                   .account = (uint32_t)(cid % 3),
                                   .start_ns = (int64_t)cid,
                                   .rtt_ns = (int64_t)(cid * 7 % 5),
                                   .subscriptions = (uint32_t)(cid % 4)};
        s->conns_total++;
        if (query_wants_conn(q, &facts))
            snapshot_pick_offer(&pick, query_conn_key(q, &facts), cid, (void *)(uintptr_t)cid);
    }
    must(pick.count <= CONNS);
    must(pick.count <= query_window(q));
    for (uint64_t i = 0; i < pick.count; i++) {
        struct conn_snapshot *c = snapshot_add_conn(s);
        must(c != NULL);
        c->cid = (uintptr_t)pick.best[i].conn;
        /* Foreign text in a page. */
        c->name = snapshot_text(s, q->user);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    struct mem_heap heap;
    struct query_param params[PARAMS_MAX];
    struct page_query query;
    struct text error, body;
    struct options options;
    struct page_answer answer;
    mem_heap_init(&heap);
    json_init(1);
    options_init(&options);
    text_init(&error, &heap.mem, MEM_MONITOR, 1 << 20);
    text_init(&body, &heap.mem, MEM_MONITOR, 1 << 24);
    size_t count = split(bytes_of((const char *)data + 1, size - 1), params);
    struct server_snapshot server = {.options = &options, .is_ready = true, .now_ns = 1000};
    enum page page = (enum page)(data[0] % PAGE_COUNT);

    enum err e = query_parse(&query, page, params, count, &error);
    if (e != ERR_OK) {
        must(e == ERR_INVALID);
        must(error.len > 0);
        page_refuse(&error, &body, &answer);
        must(answer.status == 400);
    } else {
        check_query(&query);
        snapshot_resolve(&server, &query);
        struct shard_snapshot *s;
        must(snapshot_open(&heap.mem, 0, &s) == ERR_OK);
        if (query.collect & COLLECT_CONNECTIONS) collect(s, &query);
        const struct shard_snapshot *shards[] = {s};
        struct page_input in = {&query, &server, shards, 1, &heap.mem};
        page_render(&in, &body, &answer);
        must(body.len > 0);
        if (answer.content_type[0] == 'a') {
            struct json_doc *doc;
            must(json_open(&heap.mem, MEM_MONITOR, text_written(&body), NULL, &doc, NULL) ==
                 ERR_OK);
            json_close(doc);
        }
        snapshot_close(s);
    }
    text_deinit(&error);
    text_deinit(&body);
    must(heap.live_count == 0);
    return 0;
}
