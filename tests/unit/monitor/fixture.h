/* A server of two shards with a few connections, for the tests of the monitoring pages. */
#ifndef TESTS_UNIT_MONITOR_FIXTURE_H
#define TESTS_UNIT_MONITOR_FIXTURE_H
#include <criterion/criterion.h>
#include <stdio.h>
#include "core/base/json_write.h"
#include "core/base/must.h"
#include "core/monitor/page.h"
#include "core/monitor/snapshot.h"
#include "tests/support/mem_heap.h"

#define FIXTURE_START_NS INT64_C(1795252566000000500) /* 2026-11-21T09:16:06.0000005Z */
#define FIXTURE_SECOND_NS INT64_C(1000000000)

struct fixture {
    struct mem_heap heap;
    struct options options;
    struct account global, system, a;
    struct account *accounts[3];
    struct account_set set;
    struct server_snapshot server;
    struct page_counts pages;
    struct shard_snapshot *shards[2];
    struct page_query query;
    struct page_input in;
    struct text error, body;
    struct page_answer answer;
};

static inline void fixture_open(struct fixture *f)
{
    mem_heap_init(&f->heap);
    options_init(&f->options);
    f->global = (struct account){.name = BYTES_LITERAL("$G"), .number = 0};
    f->system = (struct account){.name = BYTES_LITERAL("$SYS"), .number = 1, .is_system = true};
    f->a = (struct account){.name = BYTES_LITERAL("A"), .number = 5};
    f->accounts[0] = &f->global;
    f->accounts[1] = &f->system;
    f->accounts[2] = &f->a;
    for (int i = 0; i < 3; i++)
        f->accounts[i]->limits = (struct account_limits){-1, -1, -1, -1};
    f->set = (struct account_set){.accounts = f->accounts, .account_count = 3, .system = 1};
    f->options.accounts = &f->set;
    f->pages = (struct page_counts){{0}};
    f->server = (struct server_snapshot){
        .id = BYTES_LITERAL("NAQZHTZPDAL6U23JWP4R4MZJWNBTYBOXZJLYACHK4L7C5T6VHXBTS4M6"),
        .name = BYTES_LITERAL("one"),
        .version = BYTES_LITERAL("2.15.2"),
        .own_version = BYTES_LITERAL("0.1.0"),
        .go_version = BYTES_LITERAL("c17"),
        .host = BYTES_LITERAL("0.0.0.0"),
        .port = 4222,
        .http_port = 8222,
        .options = &f->options,
        .start_ns = FIXTURE_START_NS,
        .now_ns = FIXTURE_START_NS + 34 * FIXTURE_SECOND_NS,
        .config_load_ns = FIXTURE_START_NS,
        .process = {.resident_bytes = 16236544, .cpu_percent = 1.5, .open_fds = 12},
        .cores = 2,
        .shards = 2,
        .pages = &f->pages,
        .is_ready = true,
    };
    for (uint32_t i = 0; i < 2; i++)
        cr_assert_eq(snapshot_open(&f->heap.mem, i, &f->shards[i]), ERR_OK);
    text_init(&f->error, &f->heap.mem, MEM_MONITOR, 1 << 20);
    text_init(&f->body, &f->heap.mem, MEM_MONITOR, PAGE_BYTES_MAX);
    query_init(&f->query, PAGE_VARZ);
    f->in = (struct page_input){.query = &f->query,
                                .server = &f->server,
                                .shards = (const struct shard_snapshot *const *)f->shards,
                                .shard_count = 2,
                                .mem = &f->heap.mem};
}

static inline void fixture_close(struct fixture *f)
{
    for (int i = 0; i < 2; i++) snapshot_close(f->shards[i]);
    text_deinit(&f->error);
    text_deinit(&f->body);
    cr_assert_eq(f->heap.live_count, 0, "nothing leaks");
    cr_assert_eq(f->heap.mem.used_bytes[MEM_MONITOR], 0);
}

/* Fresh snapshots: what was collected for another query must not stay. */
static inline void fixture_reset(struct fixture *f)
{
    for (uint32_t i = 0; i < 2; i++) {
        snapshot_close(f->shards[i]);
        cr_assert_eq(snapshot_open(&f->heap.mem, i, &f->shards[i]), ERR_OK);
    }
}

/* Parses "a=b&c=d" (nothing is escaped in tests) as parameters of page. */
static inline enum err fixture_query(struct fixture *f, enum page page, const char *text)
{
    struct query_param params[16];
    size_t count = 0;
    for (struct bytes rest = bytes_from_text(text); rest.len > 0;) {
        size_t end = bytes_find(rest, '&');
        struct bytes part = bytes_of(rest.data, end);
        size_t equals = bytes_find(part, '=');
        params[count].name = bytes_of(part.data, equals);
        params[count].value = equals == part.len
                                  ? bytes_of(NULL, 0)
                                  : bytes_of(part.data + equals + 1, part.len - equals - 1);
        count++;
        size_t skip = end == rest.len ? end : end + 1;
        rest = bytes_of(rest.data + skip, rest.len - skip);
    }
    text_clear(&f->error);
    enum err e = query_parse(&f->query, page, params, count, &f->error);
    if (e == ERR_OK) snapshot_resolve(&f->server, &f->query);
    return e;
}

/* Connection number i of a shard: cid, traffic and times follow from cid. Odd ones are in A. */
static inline struct conn_snapshot fixture_conn(uint64_t cid)
{
    bool in_a = cid % 2 == 1;
    return (struct conn_snapshot){
        .cid = cid,
        .kind = CONN_KIND_CLIENT,
        .type = CONN_TYPE_NATS,
        .ip = BYTES_LITERAL("127.0.0.1"),
        .port = (uint16_t)(50000 + cid),
        .account = in_a ? 5 : 0,
        .account_name = in_a ? BYTES_LITERAL("A") : BYTES_LITERAL("$G"),
        .account_tag = in_a ? BYTES_LITERAL("A") : BYTES_LITERAL("$G"),
        .start_ns = FIXTURE_START_NS + (int64_t)cid * FIXTURE_SECOND_NS,
        .last_activity_ns = FIXTURE_START_NS + 30 * FIXTURE_SECOND_NS - (int64_t)cid,
        .rtt_ns = (int64_t)(100000 + cid * 7001 % 50000),
        .pending_bytes = cid * 13 % 7,
        .in = {cid * 3 % 11, cid * 30 % 110},
        .out = {cid * 5 % 13, cid * 50 % 130},
        .subscriptions = (uint32_t)(cid * 7 % 5),
        .name = BYTES_LITERAL("client"),
        .lang = BYTES_LITERAL("c"),
        .version = BYTES_LITERAL("1.0"),
        .user = in_a ? BYTES_LITERAL("u") : BYTES_LITERAL(""),
    };
}

static inline struct conn_facts fixture_facts(const struct fixture *f,
                                              const struct conn_snapshot *c)
{
    return (struct conn_facts){.cid = c->cid,
                               .account = c->account,
                               .user = c->user,
                               .mqtt_client = c->mqtt_client,
                               .start_ns = c->start_ns,
                               .last_activity_ns = c->last_activity_ns,
                               .stop_ns = c->stop_ns,
                               .rtt_ns = c->rtt_ns,
                               .now_ns = f->server.now_ns,
                               .reason = c->reason,
                               .pending_bytes = c->pending_bytes,
                               .in = c->in,
                               .out = c->out,
                               .subscriptions = c->subscriptions};
}

/* What a shard does: its connections first..last by the query, into its snapshot. */
static inline void fixture_collect(struct fixture *f, uint32_t shard, uint64_t first, uint64_t last,
                                   bool is_closed)
{
    struct shard_snapshot *s = f->shards[shard];
    struct snapshot_pick pick;
    snapshot_pick_init(&pick, s, &f->query);
    for (uint64_t cid = first; cid <= last; cid++) {
        struct conn_snapshot c = fixture_conn(cid);
        if (is_closed) {
            c.reason = (enum closed_reason)(1 + cid % (CLOSED_REASON_COUNT - 1));
            c.stop_ns = c.start_ns + (int64_t)(cid * 31 % 17) * FIXTURE_SECOND_NS;
        }
        struct conn_facts facts = fixture_facts(f, &c);
        if (f->query.account.len != 0 && c.account != f->query.account_number) continue;
        if (is_closed)
            s->closed_total++;
        else
            s->conns_total++;
        if (!query_wants_conn(&f->query, &facts)) continue;
        snapshot_pick_offer(&pick, query_conn_key(&f->query, &facts), cid, (void *)(uintptr_t)cid);
    }
    for (uint64_t i = 0; i < pick.count; i++) {
        struct conn_snapshot *c = is_closed ? snapshot_add_closed(s) : snapshot_add_conn(s);
        cr_assert_not_null(c);
        struct conn_snapshot *next = c->next;
        uint64_t cid = (uintptr_t)pick.best[i].conn;
        *c = fixture_conn(cid);
        c->next = next;
        if (is_closed) {
            c->reason = (enum closed_reason)(1 + cid % (CLOSED_REASON_COUNT - 1));
            c->stop_ns = c->start_ns + (int64_t)(cid * 31 % 17) * FIXTURE_SECOND_NS;
        }
    }
    if (is_closed)
        s->closed_matched = pick.offered;
    else
        s->conns_matched = pick.offered;
}

/* The body with a zero behind it. */
static inline const char *fixture_render(struct fixture *f)
{
    text_clear(&f->body);
    page_render(&f->in, &f->body, &f->answer);
    text_char(&f->body, '\0');
    return f->body.data;
}

/* --- reading JSON back: enough for what this server writes --- */

static inline const char *fixture_skip_value(const char *at)
{
    int depth = 0;
    do {
        while (*at == ' ' || *at == '\n') at++;
        if (*at == '"') {
            for (at++; *at != '"'; at++) {
                cr_assert_neq(*at, '\0');
                if (*at == '\\') at++;
            }
            at++;
        } else if (*at == '{' || *at == '[') {
            depth++;
            at++;
        } else if (*at == '}' || *at == ']') {
            depth--;
            at++;
        } else if (depth > 0 && (*at == ',' || *at == ':')) {
            at++;
        } else {
            cr_assert_neq(*at, '\0');
            while (*at != ',' && *at != '}' && *at != ']' && *at != '\n' && *at != '\0') at++;
        }
        while (*at == ' ' || *at == '\n') at++;
    } while (depth > 0);
    return at;
}

/* The value of member name of the object that at stands on; NULL when it is not there. */
static inline const char *fixture_member(const char *at, const char *name)
{
    cr_assert_not_null(at);
    while (*at == ' ' || *at == '\n') at++;
    cr_assert_eq(*at, '{', "an object, not %.20s", at);
    at++;
    for (;;) {
        while (*at == ' ' || *at == '\n' || *at == ',') at++;
        if (*at == '}') return NULL;
        const char *key = at + 1;
        at = fixture_skip_value(at);
        const char *key_end = at;
        while (*key_end != '"') key_end--;
        cr_assert_eq(*at, ':');
        at++;
        while (*at == ' ' || *at == '\n') at++;
        if ((size_t)(key_end - key) == strlen(name) && memcmp(key, name, strlen(name)) == 0)
            return at;
        at = fixture_skip_value(at);
    }
}

/* The value at a path such as "connections.0.cid". */
static inline const char *fixture_at(const char *at, const char *path)
{
    char name[64];
    while (*path != '\0') {
        size_t len = strcspn(path, ".");
        cr_assert_lt(len, sizeof name);
        memcpy(name, path, len);
        name[len] = '\0';
        path += path[len] == '.' ? len + 1 : len;
        if (name[0] >= '0' && name[0] <= '9') {
            cr_assert_eq(*at, '[');
            at++;
            while (*at == ' ' || *at == '\n') at++;
            for (int skip = name[0] - '0'; skip > 0; skip--) {
                at = fixture_skip_value(at);
                while (*at == ' ' || *at == '\n' || *at == ',') at++;
            }
            if (*at == ']') return NULL;
        } else {
            at = fixture_member(at, name);
            if (at == NULL) return NULL;
        }
    }
    return at;
}

static inline void fixture_expect(const char *page, const char *path, const char *value)
{
    const char *at = fixture_at(page, path);
    cr_expect_not_null(at, "%s is there", path);
    if (at == NULL) return;
    size_t len = strlen(value);
    bool is_end = strncmp(at, value, len) == 0 && strchr(",}]\n ", at[len]) != NULL;
    cr_expect(is_end || at[len] == '\0', "%s: %.40s, not %s", path, at, value);
}

/* Members of the object at come in the order of fields ("server_id now cluster? ..."), none is
 * unknown, and those without ? are all there. */
static inline void fixture_expect_fields(const char *at, const char *fields)
{
    while (*at == ' ' || *at == '\n') at++;
    cr_assert_eq(*at, '{');
    at++;
    while (*fields != '\0') {
        size_t len = strcspn(fields, " ?");
        bool is_optional = fields[len] == '?';
        while (*at == ' ' || *at == '\n' || *at == ',') at++;
        bool is_here = *at == '"' && strncmp(at + 1, fields, len) == 0 && at[1 + len] == '"';
        cr_expect(is_here || is_optional, "%.*s is missing at %.40s", (int)len, fields, at);
        if (is_here) {
            at = fixture_skip_value(at);
            cr_assert_eq(*at, ':');
            at = fixture_skip_value(at + 1);
        }
        fields += len;
        while (*fields == ' ' || *fields == '?') fields++;
    }
    while (*at == ' ' || *at == '\n') at++;
    cr_expect_eq(*at, '}', "no further member: %.40s", at);
}

#endif
