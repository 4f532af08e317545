#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include "core/base/base64.h"
#include "core/base/json.h"
#include "core/config/flags.h"
#include "core/js/js.h"
#include "core/shard/shard.h"
#include "tests/support/conf_world.h"
#include "tests/support/mem_heap.h"

/* One shard without io: what it sends is in got. */
struct rig {
    struct mem_heap heap;
    struct account_numbers *numbers;
    struct options *options;
    struct interest *interest;
    struct shard *shard;
    struct outbox outbox;
    struct lane *lanes[1];
    struct shard_time now;
    struct server_facts facts;
    const struct shard_log *log; /* NULL: no JetStream */
    struct directory *directory;
    char got[8192];
};

static void load(struct rig *r, const char *conf)
{
    struct world world = {.files = {{"server.conf", conf}}};
    struct flags flags;
    struct options_report report;
    char *argv[] = {"millrace", "-c", "server.conf"};
    struct options_input in = {.source = world_init(&world), .flags = &flags, .seed = 1};
    options_report_init(&report, &r->heap.mem);
    cr_assert_eq(account_numbers_open(&r->heap.mem, &r->numbers), ERR_OK);
    in.numbers = r->numbers;
    cr_assert_eq(flags_parse(&flags, &r->heap.mem, 3, argv), ERR_OK);
    cr_assert_eq(options_load(&r->heap.mem, &in, &r->options, &report), ERR_OK);
    flags_deinit(&flags);
    options_report_deinit(&report);
}

static struct rig *open_rig_on(struct rig *r, const char *conf, uint64_t seed)
{
    json_init(1);
    load(r, conf);
    r->now = (struct shard_time){1000000000, 1700000000000000000};
    r->facts = (struct server_facts){.id = BYTES_LITERAL("NABC"), .name = BYTES_LITERAL("n")};
    cr_assert_eq(interest_open(&r->heap.mem, 1, 1, &r->interest), ERR_OK);
    r->outbox.effects = malloc(OUTBOX_EFFECTS_MAX * sizeof *r->outbox.effects);
    writer_init(&r->outbox.text, malloc(OUTBOX_TEXT_BYTES), OUTBOX_TEXT_BYTES);
    r->outbox.lanes = r->lanes;
    r->outbox.lane_count = 1;
    struct shard_config config = {.shard_count = 1,
                                  .mem = &r->heap.mem,
                                  .interest = r->interest,
                                  .options = r->options,
                                  .server = &r->facts,
                                  .seed = seed,
                                  .slots_max = 4,
                                  .now = r->now,
                                  .logs = r->log,
                                  .log_count = r->log != NULL,
                                  .log_total = r->log != NULL,
                                  .directory = r->directory};
    cr_assert_eq(shard_open(&config, &r->shard), ERR_OK);
    interest_online(r->interest, 0);
    return r;
}

static struct rig *open_rig(const char *conf, uint64_t seed)
{
    struct rig *r = calloc(1, sizeof *r);
    mem_heap_init(&r->heap);
    return open_rig_on(r, conf, seed);
}

static void step(struct rig *r, struct event *e)
{
    r->outbox.count = 0;
    r->outbox.text.len = 0;
    cr_assert_eq(shard_step(r->shard, e, 1, r->now, &r->outbox), 1);
    size_t len = 0;
    struct client *c;
    while ((c = shard_next_dirty(r->shard)) != NULL) {
        struct bytes runs[16];
        uint64_t bytes;
        uint32_t n = output_gather(&c->output, runs, 16, sizeof r->got - 1, &bytes);
        for (uint32_t i = 0; i < n; i++) {
            memcpy(r->got + len, runs[i].data, runs[i].len);
            len += runs[i].len;
        }
    }
    r->got[len] = 0;
}

static void stop_rig(struct rig *r, struct conn_id conn)
{
    struct event gone = {.kind = EVENT_GONE, .conn = conn};
    step(r, &gone);
    interest_offline(r->interest, 0);
    shard_close(r->shard);
    interest_close(r->interest);
}

static void free_rig(struct rig *r)
{
    options_free(r->options);
    account_numbers_close(r->numbers);
    free(r->outbox.effects);
    free(r->outbox.text.data);
    cr_assert_eq(r->heap.live_count, 0);
    free(r);
}

static void close_rig(struct rig *r, struct conn_id conn)
{
    stop_rig(r, conn);
    free_rig(r);
}

static const char nkey_conf[] =
    "authorization: { users: [ "
    "{nkey: UAAACAQDAQCQMBYIBEFAWDANBYHRAEISCMKBKFQXDAMRUGY4DUPB63NN} ] }\n";

/* Whatever the shard's generator gives: its outputs are seen by clients (which member of a group
 * gets a message), so they must not tell the nonces to come. */
Test(shard, nonce_is_what_io_brings_and_nothing_else)
{
    for (uint64_t seed = 1; seed <= 2; seed++) {
        struct rig *r = open_rig(nkey_conf, seed);
        struct event e = {.kind = EVENT_OPENED, .conn = conn_id_of(0, 1)};
        e.opened.ip = BYTES_LITERAL("::1");
        e.opened.cid = 5;
        char nonce[64] = "\"nonce\":\"";
        for (int i = 0; i < CONN_NONCE_BYTES; i++) e.opened.nonce[i] = (uint8_t)(200 + i);
        size_t len = base64_encode(BASE64_URL, e.opened.nonce, CONN_NONCE_BYTES, nonce + 9);
        cr_assert_eq(len, 15);
        memcpy(nonce + 9 + len, "\"", 2);
        step(r, &e);
        cr_assert_not_null(strstr(r->got, nonce), "%s has no %s", r->got, nonce);
        close_rig(r, e.conn);
    }
}

static void open_client(struct rig *r, struct conn_id id)
{
    struct event e = {.kind = EVENT_OPENED, .conn = id};
    e.opened.ip = BYTES_LITERAL("::1");
    e.opened.cid = id.bits;
    step(r, &e);
    static const char hello[] = "CONNECT {\"verbose\":false}\r\n";
    struct event bytes = {.kind = EVENT_BYTES, .conn = id};
    bytes.bytes.data = hello;
    bytes.bytes.len = sizeof hello - 1;
    step(r, &bytes);
    cr_assert_eq(bytes.bytes.used, bytes.bytes.len);
}

/* An answer of the server takes no memory of its own: who asked hears of it when there is none. */
Test(shard, what_the_server_says_needs_no_memory)
{
    static const char answer[] = "NATS/1.0 503\r\n\r\n\r\n";
    struct rig *r = open_rig("max_control_line: 4096\n", 1);
    struct event e = {.kind = EVENT_BYTES, .conn = conn_id_of(0, 1)};
    static const char sub[] = "CONNECT {\"headers\":true,\"verbose\":false}\r\nSUB in 1\r\n";
    open_client(r, e.conn);
    e.bytes.data = sub;
    e.bytes.len = sizeof sub - 1;
    step(r, &e);
    struct order o = {.kind = ORDER_PUBLISH,
                      .subject = BYTES_LITERAL("in"),
                      .payload = bytes_of(answer, sizeof answer - 3),
                      .header_bytes = sizeof answer - 3};
    struct event sent = {.kind = EVENT_SENT, .conn = e.conn}, order = {.kind = EVENT_ORDER};
    const struct output *out = &shard_client(r->shard, e.conn)->output;
    sent.sent.bytes = out->pending_bytes;
    step(r, &sent);
    order.order = &o;
    step(r, &order);
    cr_assert_str_eq(r->got, "HMSG in 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n");
    step(r, &order); /* it may enter the route cache now */
    uint64_t allocs = r->heap.alloc_count;
    step(r, &order); /* into what is left of the room that the first one made */
    cr_assert_eq(r->heap.alloc_count, allocs);
    cr_assert_eq(out->pending_bytes, 3 * strlen("HMSG in 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n"));
    close_rig(r, e.conn);
}

/* One read may hold ten thousand of them, and a turn several reads. */
Test(shard, who_subscribes_to_much_lets_others_come_between)
{
    enum { SUBS = 4000, LINE_BYTES = 32 };
    struct rig *r = open_rig("max_control_line: 4096\n", 1);
    struct conn_id much = conn_id_of(0, 1), little = conn_id_of(1, 1);
    open_client(r, much);
    open_client(r, little);
    char *lines = malloc(SUBS * LINE_BYTES);
    size_t len = 0, at = 0;
    for (int i = 0; i < SUBS; i++)
        len += (size_t)snprintf(lines + len, LINE_BYTES, "SUB a.%d %d\r\n", i, i);
    static const char one[] = "SUB b 1\r\nPING\r\n";
    uint32_t steps = 0;
    for (; at < len && steps < SUBS; steps++) {
        struct event e[2] = {{.kind = EVENT_BYTES, .conn = much},
                             {.kind = EVENT_BYTES, .conn = little}};
        e[0].bytes.data = lines + at;
        e[0].bytes.len = len - at;
        e[1].bytes.data = one;
        e[1].bytes.len = sizeof one - 1;
        r->outbox.count = 0;
        cr_assert_eq(shard_step(r->shard, e, 2, r->now, &r->outbox), 2);
        cr_assert_gt(e[0].bytes.used, 0, "and comes on itself");
        cr_assert_eq(e[1].bytes.used, e[1].bytes.len);
        if (at + e[0].bytes.used < len) cr_assert_eq(shard_deadline_ns(r->shard), 0);
        at += e[0].bytes.used;
    }
    cr_assert_eq(at, len);
    cr_assert(steps >= 4 && steps < 100, "%u", steps);
    cr_assert_eq(r->shard->counts.subscriptions, SUBS + 1);
    cr_assert_eq(r->shard->counts.parks[PARK_TURN], steps - 1);
    free(lines);
    struct event gone = {.kind = EVENT_GONE, .conn = much};
    step(r, &gone);
    for (int i = 0; i < 100 && r->shard->counts.subscriptions > 0; i++) {
        gone = (struct event){.kind = EVENT_GONE, .conn = little};
        step(r, &gone);
    }
    close_rig(r, little);
}

/* A message of 5 kB to three, where a turn may send 8: the answer to somebody else goes first, and
 * the third receiver is served in the next turn, before anything more is made. */
Test(shard, what_is_large_is_sent_behind_the_rest_and_over_several_turns)
{
    enum { BYTES = 5000 };
    struct rig *r = open_rig("max_control_line: 4096\n", 1);
    static char text[BYTES + 64];
    struct client *sent[8], *c;
    uint32_t count = 0;
    for (uint32_t slot = 0; slot < 4; slot++) open_client(r, conn_id_of(slot, 1));
    for (uint32_t slot = 1; slot < 4; slot++) {
        static const char sub[] = "SUB a 1\r\n";
        struct event e = {.kind = EVENT_BYTES, .conn = conn_id_of(slot, 1)};
        e.bytes.data = sub;
        e.bytes.len = sizeof sub - 1;
        step(r, &e);
    }
    for (uint32_t slot = 0; slot < 4; slot++) {
        struct event e = {.kind = EVENT_SENT, .conn = conn_id_of(slot, 1)};
        e.sent.bytes = shard_client(r->shard, e.conn)->output.pending_bytes;
        step(r, &e);
    }
    r->shard->flush_bytes_max = 8192;
    struct event pub = {.kind = EVENT_BYTES, .conn = conn_id_of(0, 1)};
    int head = snprintf(text, sizeof text, "PUB a %d\r\n", BYTES);
    memset(text + head, 'x', BYTES);
    memcpy(text + head + BYTES, "\r\nPING\r\n", 8);
    pub.bytes.data = text;
    pub.bytes.len = (size_t)head + BYTES + 8;
    r->outbox.count = 0;
    cr_assert_eq(shard_step(r->shard, &pub, 1, r->now, &r->outbox), 1);
    while ((c = shard_next_dirty(r->shard)) != NULL) sent[count++] = c;
    cr_assert_eq(count, 3);
    cr_assert_eq(sent[0]->id.bits, pub.conn.bits, "its PONG");
    cr_assert(r->shard->is_late);
    struct event sent_pong = {.kind = EVENT_SENT, .conn = pub.conn};
    sent_pong.sent.bytes = 6;
    cr_assert_eq(shard_step(r->shard, &sent_pong, 1, r->now, &r->outbox), 1);
    c = shard_next_dirty(r->shard);
    cr_assert(c != NULL && c != sent[1] && c != sent[2]);
    cr_assert_null(shard_next_dirty(r->shard));
    cr_assert_not(r->shard->is_late);
    for (uint32_t slot = 1; slot < 4; slot++) {
        struct event gone = {.kind = EVENT_GONE, .conn = conn_id_of(slot, 1)};
        step(r, &gone);
    }
    close_rig(r, pub.conn);
}

/* --- a store that is behind --- */

struct slow_store {         /* stores at once, and says it cannot go on like that */
    struct memstore memory; /* first */
    struct store_ops ops;
    enum err (*append)(struct store *store, const struct record *r, struct store_stub *out);
    uint64_t told;
    uint32_t percent;
    uint32_t room;       /* for so many records, then it is full of what it writes */
    bool is_writing;     /* and tells of none */
    bool fails;          /* what it writes now */
    bool is_telling;     /* of a failure: until it is asked again it takes nothing, as the log */
    uint32_t gone_count; /* records of consumers that ended */
};

static enum err slow_append(struct store *store, const struct record *r, struct store_stub *out)
{
    struct slow_store *s = (struct slow_store *)(void *)store;
    if (s->room == 0 || s->is_telling) return ERR_FULL;
    s->room--;
    s->gone_count += r->kind == RECORD_CONSUMER_GONE;
    return s->append(store, r, out);
}

static uint32_t slow_staged(const struct store *s)
{
    return ((const struct slow_store *)(const void *)s)->room == 0 ? 100 : 0;
}

static uint32_t slow_percent(const struct store *s)
{
    return ((const struct slow_store *)(const void *)s)->percent;
}

static bool slow_next(struct store *store, struct store_event *out)
{
    struct slow_store *s = (struct slow_store *)(void *)store;
    s->is_telling = false;
    if (s->is_writing || s->told == s->memory.ticket) return false;
    *out = (struct store_event){.kind = STORE_STORED, .ticket = s->memory.ticket};
    if (s->fails)
        *out = (struct store_event){.kind = STORE_FAILED, .err = ERR_IO, .ticket = s->told + 1};
    s->told = s->memory.ticket;
    s->is_telling = s->fails;
    s->fails = false;
    return true;
}

static size_t send(struct rig *r, struct conn_id conn, const char *text)
{
    struct event e = {.kind = EVENT_BYTES, .conn = conn};
    e.bytes.data = text;
    e.bytes.len = strlen(text);
    step(r, &e);
    return e.bytes.used;
}

/* R5b: above 75 % of max_pending a message costs its publisher 2 ms, unless the receiver has not
 * taken a byte for a second: then it would wait for nobody. */
Test(shard, a_publisher_waits_for_who_is_slow_and_not_for_who_is_stuck)
{
    enum { MAX_PENDING = 64 * 1024, BODY = 1024 };
    struct rig *r = open_rig("max_payload: 4096\nmax_pending: 65536\n", 1);
    struct conn_id reader = conn_id_of(0, 1), publisher = conn_id_of(1, 1);
    char pub[BODY + 32], body[BODY + 1];
    memset(body, 'x', BODY);
    body[BODY] = 0;
    snprintf(pub, sizeof pub, "PUB s %d\r\n%s\r\n", BODY, body);
    open_client(r, reader);
    open_client(r, publisher);
    send(r, reader, "SUB s 1\r\n");
    struct client *c = shard_client(r->shard, reader);
    while (c->output.pending_bytes <= MAX_PENDING / 4 * 3) send(r, publisher, pub);
    uint64_t before = r->shard->counts.stalled_clients;
    send(r, publisher, pub);
    cr_assert_eq(r->shard->counts.stalled_clients, before + 1);
    cr_assert_eq(shard_client(r->shard, publisher)->resume_ns, r->now.mono_ns + 2000000);
    r->now.mono_ns += 1000000000;
    send(r, publisher, "");
    send(r, publisher, pub);
    cr_assert_eq(r->shard->counts.stalled_clients, before + 1, "it waited for who does not read");
    cr_assert_eq(c->state, CLIENT_OPEN);
    struct event gone = {.kind = EVENT_GONE, .conn = publisher};
    step(r, &gone);
    close_rig(r, reader);
}

/* How long the shard would leave its publisher alone after this one of two messages. */
static uint64_t stall_at(struct rig *r, struct slow_store *slow, struct conn_id conn,
                         uint32_t percent)
{
    static const char one[] = "PUB s 2\r\nok\r\n", two[] = "PUB s 2\r\nok\r\nPUB s 2\r\nok\r\n";
    slow->percent = percent;
    size_t used = send(r, conn, two);
    if (used == sizeof two - 1) return 0;
    cr_assert_eq(used, sizeof one - 1, "it waits after each message");
    uint64_t wait = shard_client(r->shard, conn)->resume_ns - r->now.mono_ns;
    cr_assert_leq(shard_deadline_ns(r->shard), r->now.mono_ns + wait);
    cr_assert_eq(send(r, conn, one), 0, "and is not heard meanwhile");
    r->now.mono_ns += wait;
    slow->percent = 0;
    cr_assert_eq(send(r, conn, ""), 0);
    cr_assert_eq(send(r, conn, one), sizeof one - 1);
    return wait;
}

struct slow_rig {
    struct slow_store slow;
    struct js js;
    struct directory directory;
    struct shard_log log;
};

/* One client, subscribed to "in", and a stream S of the subject s. */
static struct rig *open_slow_rig(struct slow_rig *x, struct conn_id conn)
{
    struct rig *r = calloc(1, sizeof *r);
    mem_heap_init(&r->heap);
    x->slow = (struct slow_store){.room = UINT32_MAX};
    memstore_init(&x->slow.memory, &r->heap.mem, 1 << 20);
    x->slow.ops = *x->slow.memory.store.ops;
    x->slow.append = x->slow.ops.append;
    x->slow.ops.append = slow_append;
    x->slow.ops.staged_percent = slow_staged;
    x->slow.ops.behind_percent = slow_percent;
    x->slow.memory.store.ops = &x->slow.ops;
    js_init(&x->js, &r->heap.mem, &x->slow.memory.store, 1, 1 << 20);
    x->js.id_next = x->js.id_step = 1;
    x->js.total.memory.max = x->js.total.storage.max = -1;
    x->js.message_bytes_max = 1 << 20;
    directory_init(&x->directory, &r->heap.mem, 1);
    x->log = (struct shard_log){.js = &x->js,
                                .store = {.store = &x->slow.memory.store, .next = slow_next}};
    x->js.directory = r->directory = &x->directory;
    r->log = &x->log;
    open_rig_on(r, "jetstream: enabled\n", 1);
    open_client(r, conn);
    static const char create[] = "SUB in 1\r\nPUB $JS.API.STREAM.CREATE.S in 29\r\n"
                                 "{\"name\":\"S\",\"subjects\":[\"s\"]}\r\n";
    struct event sent = {.kind = EVENT_SENT, .conn = conn};
    sent.sent.bytes = shard_client(r->shard, conn)->output.pending_bytes;
    step(r, &sent);
    send(r, conn, create);
    for (int i = 0; i < 4 && r->got[0] == 0; i++) send(r, conn, "");
    cr_assert_not_null(strstr(r->got, "stream_create_response"), "%s", r->got);
    return r;
}

static void close_slow_rig(struct rig *r, struct slow_rig *x, struct conn_id conn)
{
    stop_rig(r, conn);
    js_deinit(&x->js);
    directory_deinit(&x->directory);
    memstore_deinit(&x->slow.memory);
    free_rig(r);
}

/* 75 % is for slowing down, 100 % for refusals (P1); and a log that is only behind is never full
 * for publishers who were slowed down enough. */
Test(shard, who_publishes_into_a_log_that_is_behind_waits_the_longer_the_fuller_it_is)
{
    struct slow_rig x;
    struct conn_id conn = conn_id_of(0, 1);
    struct rig *r = open_slow_rig(&x, conn);
    cr_assert_eq(stall_at(r, &x.slow, conn, 74), 0);
    cr_assert_eq(stall_at(r, &x.slow, conn, 75), 2000000);
    cr_assert_eq(stall_at(r, &x.slow, conn, 85), 32000000);
    cr_assert_eq(stall_at(r, &x.slow, conn, 100), 512000000);
    close_slow_rig(r, &x, conn);
}

/* Publishers of other shards, and many at once, are slowed down too late for what they have sent:
 * that waits for room, and nobody is refused. */
Test(shard, a_publish_into_a_log_that_is_full_of_what_it_writes_waits_for_room)
{
    struct slow_rig x;
    struct conn_id conn = conn_id_of(0, 1), other = conn_id_of(1, 1);
    struct rig *r = open_slow_rig(&x, conn);
    struct event sent = {.kind = EVENT_SENT, .conn = conn};
    open_client(r, other);
    sent.sent.bytes = shard_client(r->shard, conn)->output.pending_bytes;
    step(r, &sent);
    x.slow.room = 1;
    x.slow.is_writing = true;
    send(r, conn, "PUB s in 2\r\nok\r\n");
    send(r, other, "PUB s in 2\r\nok\r\n");
    cr_assert_eq(r->got[0], 0, "%s", r->got);
    cr_assert_gt(shard_deadline_ns(r->shard), r->now.mono_ns, "it spins");
    x.slow.room = 5;
    x.slow.is_writing = false;
    send(r, other, "");
    cr_assert_not_null(strstr(r->got, "\"seq\":1}"), "%s", r->got);
    sent.sent.bytes = shard_client(r->shard, conn)->output.pending_bytes;
    step(r, &sent);
    for (int i = 0; i < 4 && r->got[0] == 0; i++) send(r, other, "");
    cr_assert_not_null(strstr(r->got, "\"seq\":2}"), "%s", r->got);
    cr_assert_null(strstr(r->got, "error"), "%s", r->got);
    struct event gone = {.kind = EVENT_GONE, .conn = other};
    step(r, &gone);
    close_slow_rig(r, &x, conn);
}

/* It is told as stored. Nobody stores anything behind it that would bring it along. */
Test(shard, a_stored_message_that_found_no_memory_is_there_as_soon_as_it_does)
{
    struct slow_rig x;
    struct conn_id conn = conn_id_of(0, 1);
    struct rig *r = open_slow_rig(&x, conn);
    const struct js_stream *s = js_find_id(&x.js, 1);
    cr_assert_not_null(s);
    x.slow.is_writing = true;
    send(r, conn, "PUB s 2\r\nok\r\n");
    cr_assert_eq(s->stream.staged.op_count, 1);
    x.slow.is_writing = false;
    r->heap.fail_from = 1;
    r->heap.fail_at = r->heap.alloc_count + 1;
    send(r, conn, "");
    r->heap.fail_at = 0;
    cr_assert_eq(s->stream.msgs.live_count, 0);
    uint64_t deadline_ns = shard_deadline_ns(r->shard);
    cr_assert_gt(deadline_ns, r->now.mono_ns, "it spins");
    cr_assert_leq(deadline_ns, r->now.mono_ns + 100000000);
    r->now.mono_ns = deadline_ns;
    send(r, conn, "");
    cr_assert_eq(s->stream.msgs.live_count, 1);
    close_slow_rig(r, &x, conn);
}

/* Nobody waits for it: a start would have the consumer, though clients heard that it is gone. */
Test(shard, the_end_of_an_inactive_consumer_is_recorded_again_where_its_record_failed)
{
    struct slow_rig x;
    struct conn_id conn = conn_id_of(0, 1);
    struct rig *r = open_slow_rig(&x, conn);
    const struct js_stream *s = js_find_id(&x.js, 1);
    send(r, conn,
         "PUB $JS.API.CONSUMER.CREATE.S.c 73\r\n{\"stream_name\":\"S\",\"config\":{\"name\":\"c\","
         "\"inactive_threshold\":1000000000}}\r\n");
    for (int i = 0; i < 4; i++) send(r, conn, "");
    cr_assert_eq(s->stream.consumer_count, 1);
    x.slow.is_writing = true;
    r->now.mono_ns += 2000000000;
    send(r, conn, "");
    cr_assert_eq(s->stream.consumer_count, 0);
    cr_assert_eq(x.slow.gone_count, 1);
    x.slow.is_writing = false;
    x.slow.fails = true;
    x.slow.room = 0;
    send(r, conn, "");
    cr_assert_eq(x.slow.gone_count, 1);
    uint64_t deadline_ns = shard_deadline_ns(r->shard);
    cr_assert_gt(deadline_ns, r->now.mono_ns, "it spins");
    cr_assert_leq(deadline_ns, r->now.mono_ns + 1000000000);
    x.slow.room = 1; /* for it, and not for what is published behind */
    r->now.mono_ns = deadline_ns;
    send(r, conn, "PUB s 2\r\nok\r\n");
    cr_assert_eq(x.slow.gone_count, 2);
    send(r, conn, "");
    cr_assert_eq(x.slow.gone_count, 2);
    x.slow.room = UINT32_MAX;
    close_slow_rig(r, &x, conn);
}

/* What is too old goes by pieces, and behind what is in flight, for which there was no memory. */
Test(shard, a_publish_behind_one_that_found_no_memory_goes_on_when_that_does)
{
    struct slow_rig x;
    struct conn_id conn = conn_id_of(0, 1);
    struct rig *r = open_slow_rig(&x, conn);
    struct stream *s = &js_find_id(&x.js, 1)->stream;
    send(r, conn, "PUB s 2\r\nok\r\n");
    send(r, conn, "");
    cr_assert_eq(s->msgs.live_count, 1);
    s->config.allow_msg_ttl = true;
    x.slow.is_writing = true;
    send(r, conn, "CONNECT {\"headers\":true,\"verbose\":false}\r\n");
    send(r, conn, "HPUB s 26 28\r\nNATS/1.0\r\nNats-TTL: 1h\r\n\r\nok\r\n");
    cr_assert_eq(s->staged.op_count, 1, "%s", r->got);
    while (s->ttl.count < 3 * MSG_TTL_DUE_MAX || s->ttl.count < s->ttl.room)
        cr_assert_eq(msg_ttl_add(&s->ttl, &s->msgs, 1, r->now.wall_ns + 1), ERR_OK);
    x.slow.is_writing = false;
    r->heap.fail_from = 1;
    r->heap.fail_at = r->heap.alloc_count + 1;
    send(r, conn, "");
    r->heap.fail_at = 0;
    cr_assert_eq(s->staged.op_count, 1);
    r->now.wall_ns += 1000000;
    send(r, conn, "PUB s 2\r\nok\r\n");
    for (int i = 0; i < 8; i++) {
        r->now.mono_ns += 10000000;
        send(r, conn, "");
    }
    cr_assert_eq(s->seq_last, 3);
    close_slow_rig(r, &x, conn);
}
