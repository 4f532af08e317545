#include "core/monitor/page.h"
#include "core/monitor/accountz.h"
#include "core/monitor/accstatz.h"
#include "core/monitor/connz.h"
#include "core/monitor/gatewayz.h"
#include "core/monitor/healthz.h"
#include "core/monitor/jsz.h"
#include "core/monitor/leafz.h"
#include "core/monitor/metrics.h"
#include "core/monitor/root.h"
#include "core/monitor/routez.h"
#include "core/monitor/subsz.h"
#include "core/monitor/varz.h"

static const char type_json[] = "application/json";
static const char type_text[] = "text/plain; charset=utf-8";

/* Go's expvar page, as far as it makes sense for another language. */
static void write_expvars(const struct page_input *in, struct json_write *w)
{
    struct shard_counts counts;
    snapshot_merge_counts(in, &counts);
    uint64_t used = 0;
    for (int i = 0; i < MEM_CLASS_COUNT; i++) used += counts.memory_bytes[i];
    json_write_object(w, NULL);
    json_write_array(w, "cmdline");
    json_write_text(w, NULL, BYTES_LITERAL("nats-server"));
    json_write_end(w);
    json_write_object(w, "memstats");
    json_write_u64(w, "Alloc", used);
    json_write_u64(w, "HeapAlloc", used);
    json_write_u64(w, "Sys", in->server->process.resident_bytes);
    json_write_end(w);
    json_write_end(w);
}

static void write_nothing(struct json_write *w)
{
    json_write_object(w, NULL);
    json_write_end(w);
}

enum err page_write(const struct page_input *in, struct json_write *w, struct text *error)
{
    switch (in->query->page) {
    case PAGE_VARZ:
        varz_write(in, w);
        return ERR_OK;
    case PAGE_CONNZ:
        return connz_write(in, w);
    case PAGE_ROUTEZ:
        routez_write(in, w);
        return ERR_OK;
    case PAGE_GATEWAYZ:
        gatewayz_write(in, w);
        return ERR_OK;
    case PAGE_LEAFZ:
        leafz_write(in, w);
        return ERR_OK;
    case PAGE_SUBSZ:
        subsz_write(in, w);
        return ERR_OK;
    case PAGE_ACCOUNTZ:
        return accountz_write(in, w, error);
    case PAGE_ACCSTATZ:
        return accstatz_write(in, w, NULL);
    case PAGE_JSZ:
        return jsz_write(in, w, error);
    case PAGE_HEALTHZ:
        (void)healthz_write(in, w, true);
        return ERR_OK;
    case PAGE_EXPVARZ:
        write_expvars(in, w);
        return ERR_OK;
    case PAGE_IPQUEUESZ: /* there are no internal queues of that kind, and no Raft groups */
    case PAGE_RAFTZ:
        write_nothing(w);
        return ERR_OK;
    default:
        return ERR_UNKNOWN;
    }
}

/* What each shard is doing, in place of the stacks of goroutines. */
static void write_shards(const struct page_input *in, struct text *body)
{
    for (uint32_t i = 0; i < in->shard_count; i++) {
        const struct shard_snapshot *s = in->shards[i];
        text_string(body, "shard ");
        text_u64(body, s->shard);
        text_string(body, ": turns ");
        text_u64(body, s->counts.turns);
        text_string(body, ", busy ms ");
        text_u64(body, s->counts.busy_ns / 1000000);
        text_string(body, ", connections ");
        text_u64(body, s->counts.connections);
        text_string(body, ", parked ");
        text_u64(body, s->counts.parked);
        text_string(body, ", pending bytes ");
        text_u64(body, s->counts.pending_bytes);
        text_string(body, ", spilled bytes ");
        text_u64(body, s->counts.mail.spill_bytes_now);
        text_char(body, '\n');
    }
}

static void answer_text(struct text *body, struct page_answer *answer, unsigned status,
                        const char *text)
{
    text_clear(body);
    text_string(body, text);
    *answer = (struct page_answer){status, type_text, false};
}

void page_refuse(const struct text *error, struct text *body, struct page_answer *answer)
{
    text_clear(body);
    text_bytes(body, text_written(error));
    *answer = (struct page_answer){400, type_text, false};
}

static void render_json(const struct page_input *in, struct text *body, struct page_answer *answer)
{
    struct json_write w;
    struct text error;
    text_init(&error, in->mem, MEM_MONITOR, PAGE_BYTES_MAX);
    json_write_init(&w, body, PAGE_INDENT);
    *answer = (struct page_answer){200, type_json, true};
    enum err e = page_write(in, &w, &error);
    if (e == ERR_INVALID)
        page_refuse(&error, body, answer);
    else if (e != ERR_OK)
        answer_text(body, answer, 503, "out of memory");
    text_deinit(&error);
}

void page_render(const struct page_input *in, struct text *body, struct page_answer *answer)
{
    struct json_write w;
    *answer = (struct page_answer){200, type_text, true};
    switch (in->query->page) {
    case PAGE_NONE:
        answer_text(body, answer, 404, "404 page not found\n");
        return;
    case PAGE_ROOT:
        *answer = (struct page_answer){200, "text/html; charset=utf-8", false};
        root_write(in, body);
        break;
    case PAGE_HEALTHZ: /* the one page without indentation */
        json_write_init(&w, body, 0);
        *answer = (struct page_answer){healthz_write(in, &w, false), type_json, true};
        break;
    case PAGE_RAFTZ:
        answer_text(body, answer, 404, "No Raft nodes registered");
        return;
    case PAGE_STACKSZ:
        write_shards(in, body);
        break;
    case PAGE_METRICS:
        *answer = (struct page_answer){200, "text/plain; version=0.0.4; charset=utf-8", true};
        if (metrics_write(in, body) != ERR_OK) body->is_failed = true;
        break;
    default:
        render_json(in, body, answer);
    }
    bool is_long = body->is_failed && body->capacity == body->bytes_max;
    if (is_long)
        answer_text(body, answer, 503, "this page is too long: ask for less of it\n");
    else if (body->is_failed || snapshot_is_short(in))
        answer_text(body, answer, 503, "out of memory");
}
