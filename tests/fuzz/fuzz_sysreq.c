/* Requests on $SYS.REQ: the first line is the subject, the rest the body; a subject that begins
 * with ! comes from a normal account. Whatever comes in, a normal account sees only itself, each
 * reply is valid JSON, and nothing leaks. */
#include <stdint.h>
#include "core/base/json.h"
#include "core/base/must.h"
#include "core/monitor/sysreq.h"
#include "tests/support/mem_heap.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_scope(const struct page_query *q, enum sysreq_verdict verdict)
{
    must(verdict == SYSREQ_SILENT || verdict == SYSREQ_REFUSED || verdict == SYSREQ_COLLECT ||
         verdict == SYSREQ_USER);
    if (verdict != SYSREQ_COLLECT) return;
    if (q->page == PAGE_CONNZ) {
        must(bytes_equal(q->account, BYTES_LITERAL("A")));
        must(q->account_number == 5);
    } else {
        must(q->page == PAGE_ACCSTATZ);
        must(q->name_count == 1);
        must(bytes_equal(q->names[0], BYTES_LITERAL("A")));
    }
}

static void check_json(struct mem_heap *heap, const struct text *body)
{
    struct json_doc *doc;
    must(json_open(&heap->mem, MEM_MONITOR, text_written(body), NULL, &doc, NULL) == ERR_OK);
    json_close(doc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes text = bytes_of((const char *)data, size);
    size_t line = bytes_find(text, '\n');
    struct bytes subject = bytes_of(text.data, line);
    size_t skip = line == text.len ? line : line + 1;
    struct bytes body = bytes_of(text.data + skip, text.len - skip);
    bool is_system = !bytes_starts_with(subject, BYTES_LITERAL("!"));
    if (!is_system) subject = bytes_of(subject.data + 1, subject.len - 1);

    struct mem_heap heap;
    struct options options;
    struct account a = {.name = BYTES_LITERAL("A"), .number = 5};
    struct account *accounts[] = {&a};
    struct account_set set = {.accounts = accounts, .account_count = 1, .system = UINT32_MAX};
    struct page_query query;
    struct sysreq r;
    struct text error, out;
    mem_heap_init(&heap);
    json_init(1);
    options_init(&options);
    options.accounts = &set;
    text_init(&error, &heap.mem, MEM_MONITOR, 1 << 20);
    text_init(&out, &heap.mem, MEM_MONITOR, 1 << 24);
    struct server_snapshot server = {.id = BYTES_LITERAL("ID"), .options = &options};
    struct sysreq_from from = {is_system ? BYTES_LITERAL("$SYS") : BYTES_LITERAL("A"), is_system};

    enum sysreq_verdict verdict =
        sysreq_parse(&heap.mem, &server, &from, subject, body, &query, &r, &error);
    if (!is_system) check_scope(&query, verdict);
    if (verdict == SYSREQ_REFUSED) {
        sysreq_write_error(&out, &server, 400, text_written(&error));
        check_json(&heap, &out);
    }
    if (verdict == SYSREQ_COLLECT) {
        struct shard_snapshot *s;
        must(snapshot_open(&heap.mem, 0, &s) == ERR_OK);
        const struct shard_snapshot *shards[] = {s};
        struct page_input in = {&query, &server, shards, 1, &heap.mem};
        enum err e = sysreq_write_reply(&in, &r, BYTES_LITERAL("id"), &error, &out);
        must(e == ERR_OK || e == ERR_CLOSED);
        if (e == ERR_OK && query.page != PAGE_ACCOUNT_NSUBS) check_json(&heap, &out);
        snapshot_close(s);
    }
    text_deinit(&error);
    text_deinit(&out);
    must(heap.live_count == 0);
    return 0;
}
