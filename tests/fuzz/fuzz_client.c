/* A whole shard fed with the bytes of one hostile client, beside a quiet subscriber. There is no
 * io: this file carries out the effects by hand.
 *
 * The first input byte picks the configuration, the second the seed of the splits, the rest is the
 * stream. It runs twice, whole and cut at places that the seed picks, and everything that either
 * client receives must be the same (rule R6). Nothing leaks. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/json.h"
#include "core/base/must.h"
#include "core/config/flags.h"
#include "core/shard/shard.h"
#include "tests/support/conf_world.h"
#include "tests/support/mem_heap.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    CONFIG_COUNT = 3,
    CLIENTS = 2, /* slot 0 listens, slot 1 is the hostile one */
    SLOTS = 4,
    ROUNDS_MAX = 100000,
    RUNS_MAX = 64,
    SEND_MAX = 1 << 20,
};

static const char *const configs[CONFIG_COUNT] = {
    "port: 4222\n",
    "port: 4222\n"
    "no_auth_user: guest\n"
    "accounts: {\n"
    "  A: { users: [ {user: a, password: p, permissions: {publish: {allow: [\"x.>\", \"y\"],\n"
    "        deny: \"x.z\"}, subscribe: {allow: [\">\"], deny: [\"d.*\", \"q.> bad\"]},\n"
    "        allow_responses: {max: 2, expires: \"1m\"}}},\n"
    "       {user: guest, password: g} ]\n"
    "       mappings: { m: m.one, \"w.*.*\": \"w.$2.$1\", p: [{dest: p1, weight: 50%},\n"
    "        {dest: p2, weight: 50%}] } }\n"
    "  S: { users: [ {user: s, password: s} ] } }\n"
    "system_account: S\n",
    "port: 4222\n"
    "max_control_line: 256\nmax_payload: 512\nmax_subs: 8\nmax_sub_tokens: 4\n"
    "authorization: { timeout: 1, users: [ {user: u, password: p},\n"
    "  {user: b, password: \"$2a$04$abcdefghijklmnopqrstuuHIrMEWpUCQe2YqFR3sXwQ75u4od..9q\"} ] }\n",
};

struct log_bytes {
    char *data;
    size_t len, capacity;
};

/* One run of the stream. */
struct rig {
    struct mem_heap heap;
    struct account_numbers *numbers;
    struct options *options;
    struct interest *interest;
    struct shard *shard;
    struct outbox outbox;
    struct lane *lanes[1];
    struct shard_time now;
    struct log_bytes got[CLIENTS];
    bool is_closed[CLIENTS], is_flushed[CLIENTS], is_resumed[CLIENTS], is_gone[CLIENTS];
    struct event events[64];
    uint32_t event_count;
};

static struct conn_id id_of(int client)
{
    return conn_id_of((uint32_t)client, 1);
}

static void log_add(struct log_bytes *l, struct bytes b)
{
    if (l->capacity - l->len < b.len) {
        l->capacity = (l->capacity + b.len) * 2;
        l->data = realloc(l->data, l->capacity);
        must(l->data != NULL);
    }
    if (b.len > 0) memcpy(l->data + l->len, b.data, b.len);
    l->len += b.len;
}

static struct event *add(struct rig *r, enum event_kind kind, int client)
{
    must(r->event_count < sizeof r->events / sizeof r->events[0]);
    struct event *e = &r->events[r->event_count++];
    *e = (struct event){.kind = kind, .conn = id_of(client)};
    return e;
}

static void run_effects(struct rig *r, struct event *next, uint32_t *next_count)
{
    for (uint32_t i = 0; i < r->outbox.count; i++) {
        const struct effect *e = &r->outbox.effects[i];
        uint32_t slot = conn_id_slot(e->conn);
        switch (e->kind) {
        case EFFECT_CLOSE:
            must(slot < CLIENTS && !r->is_closed[slot]);
            r->is_closed[slot] = true;
            r->is_flushed[slot] = e->close.flush;
            break;
        case EFFECT_RESUME: r->is_resumed[slot] = true; break;
        case EFFECT_CRYPTO:
            must(*next_count < 8);
            next[*next_count] = (struct event){.kind = EVENT_CRYPTO, .conn = e->conn};
            next[*next_count].crypto.ticket = e->crypto.ticket;
            next[*next_count].crypto.is_valid = true;
            (*next_count)++;
            break;
        case EFFECT_SYSTEM: shard_system_done(r->shard, e->system.request); break;
        case EFFECT_LOG:
        case EFFECT_LOGGED_IN: break;
        default: must(false);
        }
    }
    r->outbox.count = 0;
    r->outbox.text.len = 0;
}

/* Steps with the events at hand until all that they caused is done. */
static void step(struct rig *r)
{
    for (int round = 0;; round++) {
        must(round < ROUNDS_MAX);
        uint32_t count = r->event_count, at = 0, next_count = 0;
        struct event next[8];
        do {
            at += shard_step(r->shard, r->events + at, count - at, r->now, &r->outbox);
            run_effects(r, next, &next_count);
        } while (at < count);
        r->event_count = 0;
        for (uint32_t i = 0; i < next_count; i++) r->events[r->event_count++] = next[i];
        struct client *c;
        while ((c = shard_next_dirty(r->shard)) != NULL) {
            struct bytes runs[RUNS_MAX];
            uint64_t bytes;
            uint32_t slot = conn_id_slot(c->id);
            uint32_t n = output_gather(&c->output, runs, RUNS_MAX, SEND_MAX, &bytes);
            for (uint32_t i = 0; i < n; i++) log_add(&r->got[slot], runs[i]);
            add(r, EVENT_SENT, (int)slot)->sent.bytes = bytes;
        }
        if (r->event_count == 0) return;
    }
}

/* Offers data until the shard has taken all of it, as io does: what it leaves comes again after
 * EFFECT_RESUME. */
static void feed(struct rig *r, int client, const char *data, size_t len)
{
    size_t at = 0;
    /* As large as the bytes and no larger, so that a sanitizer sees a read beyond the end. */
    char *copy = malloc(len == 0 ? 1 : len);
    must(copy != NULL);
    if (len > 0) memcpy(copy, data, len);
    for (int round = 0; at < len && !r->is_closed[client]; round++) {
        must(round < ROUNDS_MAX);
        struct event e = {.kind = EVENT_BYTES, .conn = id_of(client)};
        e.bytes.data = copy + at;
        e.bytes.len = len - at;
        r->is_resumed[client] = false;
        r->events[0] = e;
        r->event_count = 1;
        uint32_t next_count = 0;
        struct event next[8];
        must(shard_step(r->shard, r->events, 1, r->now, &r->outbox) == 1);
        at += r->events[0].bytes.used;
        must(at <= len);
        r->event_count = 0;
        run_effects(r, next, &next_count);
        for (uint32_t i = 0; i < next_count; i++) r->events[r->event_count++] = next[i];
        step(r);
        if (at < len && !r->is_resumed[client] && !r->is_closed[client]) {
            /* Parked: only time can wake it. */
            uint64_t at_ns = shard_deadline_ns(r->shard);
            must(at_ns != UINT64_MAX);
            if (at_ns > r->now.mono_ns) r->now.mono_ns = at_ns;
            step(r);
        }
    }
    while (r->is_resumed[client] && !r->is_closed[client]) {
        r->is_resumed[client] = false;
        add(r, EVENT_BYTES, client);
        step(r);
    }
    free(copy);
}

static void open_rig(struct rig *r, int config)
{
    struct world world = {.files = {{"server.conf", configs[config]}}};
    struct flags flags;
    struct options_report report;
    memset(r, 0, sizeof *r);
    mem_heap_init(&r->heap);
    json_init(1);
    r->now = (struct shard_time){.mono_ns = 1000000000, .wall_ns = 1700000000000000000};
    must(account_numbers_open(&r->heap.mem, &r->numbers) == ERR_OK);
    options_report_init(&report, &r->heap.mem);
    char *argv[] = {"millrace", "-c", "server.conf"};
    struct options_input in = {.source = world_init(&world),
                               .flags = &flags,
                               .numbers = r->numbers,
                               .seed = 1};
    must(flags_parse(&flags, &r->heap.mem, 3, argv) == ERR_OK);
    must(options_load(&r->heap.mem, &in, &r->options, &report) == ERR_OK);
    flags_deinit(&flags);
    options_report_deinit(&report);
    must(interest_open(&r->heap.mem, 1, 1, &r->interest) == ERR_OK);
    r->outbox.effects = malloc(OUTBOX_EFFECTS_MAX * sizeof *r->outbox.effects);
    char *text = malloc(OUTBOX_TEXT_BYTES);
    must(r->outbox.effects != NULL && text != NULL);
    writer_init(&r->outbox.text, text, OUTBOX_TEXT_BYTES);
    r->outbox.lanes = r->lanes;
    r->outbox.lane_count = 1;
}

static void open_shard(struct rig *r)
{
    static const struct server_facts facts = {
        .id = {"NABC", 4}, .name = {"n", 1}, .version = {"2.15.2", 6}, .go = {"c17", 3},
        .xkey = {"X", 1}, .host = {"127.0.0.1", 9}, .port = 4222};
    struct shard_config config = {.shard_count = 1,
                                  .mem = &r->heap.mem,
                                  .interest = r->interest,
                                  .options = r->options,
                                  .server = &facts,
                                  .seed = 7,
                                  .slots_max = SLOTS,
                                  .now = r->now};
    must(shard_open(&config, &r->shard) == ERR_OK);
    interest_online(r->interest, 0);
    r->shard->outbox = &r->outbox;
    for (int i = 0; i < CLIENTS; i++) {
        struct event *e = add(r, EVENT_OPENED, i);
        e->opened = (struct conn_opened){
            .ip = BYTES_LITERAL("::1"), .port = 1, .cid = 5u + (uint64_t)i};
        step(r);
    }
}

static void close_rig(struct rig *r)
{
    for (int i = 0; i < CLIENTS; i++) {
        if (!r->is_closed[i]) add(r, EVENT_ENDED, i)->ended.reason = ENDED_EOF;
        step(r);
        must(r->is_closed[i]);
        add(r, EVENT_GONE, i);
        step(r);
    }
    while (!list_is_empty(&r->shard->reaping)) step(r);
    interest_offline(r->interest, 0);
    shard_close(r->shard);
    interest_close(r->interest);
    options_free(r->options);
    account_numbers_close(r->numbers);
    free(r->outbox.effects);
    free(r->outbox.text.data);
    must(r->heap.live_count == 0);
}

static uint32_t next_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 16;
}

/* seed 0: in one piece. */
static void play(struct rig *r, int config, uint32_t seed, const char *data, size_t size)
{
    static const char *const hello[CONFIG_COUNT] = {
        "CONNECT {\"verbose\":false,\"headers\":true}\r\nSUB > 1\r\nSUB q.> g 2\r\nPING\r\n",
        "CONNECT {\"verbose\":false,\"headers\":true,"
        "\"user\":\"guest\",\"pass\":\"g\"}\r\nSUB > 1\r\n"
        "SUB q.> g 2\r\nPING\r\n",
        "CONNECT {\"verbose\":false,"
        "\"user\":\"u\",\"pass\":\"p\"}\r\nSUB > 1\r\n"
        "SUB q.> g 2\r\nPING\r\n",
    };
    open_rig(r, config);
    open_shard(r);
    feed(r, 0, hello[config], strlen(hello[config]));
    must(!r->is_closed[0]);
    for (size_t at = 0; at < size && !r->is_closed[1];) {
        size_t len = size - at;
        if (seed != 0) {
            uint32_t style = next_random(&seed);
            size_t longest = style % 4 == 0 ? 1 : style % 4 == 1 ? 8 : 200;
            size_t cut = 1 + next_random(&seed) % longest;
            if (cut < len) len = cut;
        }
        feed(r, 1, data + at, len);
        at += len;
    }
    close_rig(r);
}

/* What the two runs gave, for whoever looks into a difference. */
static void show(const struct rig *r, const char *name, int client)
{
    const struct log_bytes *l = &r->got[client];
    fprintf(stderr, "client %d, %s, closed %d, flushed %d, %zu bytes:\n", client, name,
            r->is_closed[client], r->is_flushed[client], l->len);
    fwrite(l->data, 1, l->len, stderr);
    fputc('\n', stderr);
}

static void compare(const struct rig *whole, const struct rig *split, int client)
{
    const struct log_bytes *a = &whole->got[client], *b = &split->got[client];
    bool is_same = whole->is_closed[client] == split->is_closed[client];
    size_t len = a->len < b->len ? a->len : b->len;
    /* A close that drops output drops what this run had not sent yet. */
    if (whole->is_flushed[client] || split->is_flushed[client])
        is_same = is_same && a->len == b->len;
    is_same = is_same && (len == 0 || memcmp(a->data, b->data, len) == 0);
    if (!is_same) {
        show(whole, "whole", client);
        show(split, "split", client);
    }
    must(is_same);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rig *rigs = calloc(2, sizeof *rigs);
    must(rigs != NULL);
    if (size >= 2) {
        const char *stream = (const char *)data + 2;
        int config = data[0] % CONFIG_COUNT;
        play(&rigs[0], config, 0, stream, size - 2);
        play(&rigs[1], config, data[1] + 1u, stream, size - 2);
        for (int i = 0; i < CLIENTS; i++) compare(&rigs[0], &rigs[1], i);
    }
    for (int i = 0; i < 2; i++)
        for (int c = 0; c < CLIENTS; c++) free(rigs[i].got[c].data);
    free(rigs);
    return 0;
}
