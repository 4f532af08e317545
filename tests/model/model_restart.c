/* Random publishes, deliveries, acks, requests, failures of the log and time against a start: what
 * the records give back must be what the process has. links: js
 *
 * A stream of random retention and limits with a few consumers that come, go, get other filters and
 * are reset. Records become durable by pieces, or fail from one on. When nothing is in flight any
 * more a second process is made of the records, or of a checkpoint, which is written by pieces
 * beside all that, and what came behind it: it must hold the same messages, and its consumers must
 * have got as far. It takes the place of the first one now and then.
 * Usage: model_restart [seed [rounds]] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/must.h"
#include "core/base/rng.h"
#include "core/js/checkpoint.h"
#include "core/js/deliver.h"
#include "core/js/jsapi.h"
#include "core/js/publish.h"
#include "tests/support/mem_heap.h"

enum {
    RECORDS_MAX = 20000,
    REQUESTS_MAX = 12,
    ACKS_MAX = 64,
    STEPS = 600,
    ROUNDS = 60,
    IDLE_STEPS = 2000,
    CONSUMERS = 4,
};

struct logged {
    struct record record;
    void *memory;
    bool is_gone;
};

struct asked {
    struct js_request r;
    char subject[96], body[600];
    enum { FREE, WAITING, WORKING } state;
    uint64_t order;
};

struct process {
    struct js js;
    struct deliver deliver;
};

struct world {
    struct store store; /* first */
    struct outlet outlet;
    struct mem_heap heap;
    struct rng rng;
    struct process *process;
    struct logged *log;
    uint64_t log_count, stored;
    struct text state;     /* of a checkpoint that is being written */
    uint64_t state_stored; /* the records that it stands for */
    uint64_t checkpoints;
    struct asked asked[REQUESTS_MAX];
    uint64_t asked_count;
    struct shard_time now;
    struct text out;
    char acks[ACKS_MAX][128];
    uint32_t ack_count, consumers;
    const char *retention;
    uint64_t seed, checks, messages, failures;
    bool is_loud, has_failures, is_short;
};

static struct world *world;

static uint32_t below(uint32_t bound)
{
    return rng_below(&world->rng, bound);
}

#define SAY(...)                                                                                   \
    do {                                                                                           \
        if (world->is_loud) printf(__VA_ARGS__);                                                   \
    } while (0)

/* --- the log --------------------------------------------------------------------------------- */

static struct bytes copy(char **at, struct bytes from)
{
    char *to = *at;
    if (from.len > 0) memcpy(to, from.data, from.len);
    *at += from.len;
    return bytes_of(to, from.len);
}

static enum err log_append(struct store *s, const struct record *r, struct store_stub *out)
{
    struct world *w = (struct world *)(void *)s;
    must(w->log_count < RECORDS_MAX);
    struct logged *l = &w->log[w->log_count++];
    char *at = malloc(r->subject.len + r->headers.len + r->body.len + 1);
    must(at != NULL);
    *l = (struct logged){.record = *r, .memory = at};
    l->record.subject = copy(&at, r->subject);
    l->record.headers = copy(&at, r->headers);
    l->record.body = copy(&at, r->body);
    *out = (struct store_stub){.ticket = w->log_count, .place = w->log_count, .bytes = 1};
    SAY("  %llu: kind %d seq %llu %.*s\n", (unsigned long long)w->log_count, (int)r->kind,
        (unsigned long long)r->seq, (int)r->subject.len, r->subject.data);
    return ERR_OK;
}

static enum err log_read(struct store *s, struct store_read *q, struct record *out)
{
    struct world *w = (struct world *)(void *)s;
    must(q->place > 0 && q->place <= w->log_count);
    *out = w->log[q->place - 1].record;
    must(out->seq == q->seq && out->stream == q->stream);
    return ERR_OK;
}

static uint32_t log_percent(const struct store *s)
{
    return 0;
}

static const struct store_ops log_ops = {log_append, log_read, log_percent, NULL};

/* --- a process ------------------------------------------------------------------------------- */

static void on_send(struct outlet *o, struct bytes subject, struct bytes reply,
                    struct bytes headers)
{
}

static bool has_interest(struct outlet *o, struct bytes subject)
{
    return true;
}

static bool is_heard(struct outlet *o, struct bytes subject, struct bytes group)
{
    return true;
}

static void on_event(struct outlet *o, const struct outlet_event *e)
{
}

static bool may_send(void *context)
{
    return true;
}

static bool on_message(void *context, struct js_stream *s, struct bytes target,
                       struct bytes subject, struct bytes reply, struct bytes headers,
                       struct bytes body)
{
    if (reply.len == 0 || reply.len >= sizeof world->acks[0]) return true;
    uint32_t i = world->ack_count < ACKS_MAX ? world->ack_count++ : below(ACKS_MAX);
    memcpy(world->acks[i], reply.data, reply.len);
    world->acks[i][reply.len] = '\0';
    return true;
}

static const struct deliver_port port = {may_send, on_message, NULL, NULL};

static void opened(void *context, struct js_stream *s)
{
    s->outlet = &world->outlet;
}

static void stored(void *context, struct js_stream *s, uint64_t seq, uint32_t node)
{
    deliver_stored(&world->process->deliver, s, seq, node);
}

static void consumer_opened(void *context, struct js_stream *s, struct consumer *c)
{
    deliver_opened(&world->process->deliver, s, c, world->now);
}

static void consumer_updated(void *context, struct js_stream *s, struct consumer *c)
{
    deliver_updated(&world->process->deliver, s, c, world->now);
}

static void consumer_closing(void *context, struct js_stream *s, struct consumer *c)
{
    deliver_closing(&world->process->deliver, s, c);
}

static enum err consumer_settling(void *context, struct js_stream *s, struct consumer *c)
{
    return deliver_settling(&world->process->deliver, s, c, world->now);
}

static void consumer_ending(void *context, struct js_stream *s, struct consumer *c)
{
    deliver_ending(&world->process->deliver, s, c, world->now);
}

static enum err consumers_saving(void *context, struct js_stream *s)
{
    return deliver_saving(&world->process->deliver, s, world->now);
}

static bool is_settled_behind(void *context, const struct js_stream *s, uint64_t seq,
                              struct bytes subject, uint64_t ticket)
{
    return deliver_is_settled_behind(&world->process->deliver, s, seq, subject, ticket);
}

static const struct js_hooks hooks = {.opened = opened,
                                      .stored = stored,
                                      .consumer_opened = consumer_opened,
                                      .consumer_updated = consumer_updated,
                                      .consumer_closing = consumer_closing,
                                      .consumer_settling = consumer_settling,
                                      .consumer_ending = consumer_ending,
                                      .consumers_saving = consumers_saving,
                                      .is_settled_behind = is_settled_behind};

static struct process *open_process(struct world *w)
{
    struct process *p = calloc(1, sizeof *p);
    must(p != NULL);
    js_init(&p->js, &w->heap.mem, &w->store, 5, 1 << 20);
    p->js.hooks = &hooks;
    p->js.now = p->js.clock = w->now;
    p->js.told_ticket = w->stored;
    p->js.checkpoint_step = 1 + below(20);
    deliver_init(&p->deliver, &p->js, &port, w, w->now);
    return p;
}

static void close_process(struct process *p)
{
    deliver_deinit(&p->deliver);
    js_deinit(&p->js);
    free(p);
}

/* One of the last two, or none. */
static const struct record *choose_checkpoint(struct world *w)
{
    const struct record *found = NULL;
    uint32_t skip = below(3);
    for (uint64_t i = w->log_count; i-- > 0 && skip < 2;) {
        if (w->log[i].is_gone || w->log[i].record.kind != RECORD_CHECKPOINT) continue;
        found = &w->log[i].record;
        if (skip++ == 1) break;
    }
    return found;
}

static struct process *start_process(struct world *w)
{
    struct process *p = open_process(w);
    const struct record *checkpoint = choose_checkpoint(w);
    uint64_t known = 0;
    p->js.hooks = NULL;
    if (checkpoint != NULL) {
        SAY("a start from a checkpoint of %llu\n", (unsigned long long)checkpoint->prev_seq);
        known = checkpoint->prev_seq;
        must(js_replay(&p->js, 0, checkpoint, 0) == ERR_OK);
    }
    for (uint64_t i = 0; i < w->log_count; i++) {
        if (w->log[i].is_gone || w->log[i].record.kind == RECORD_CHECKPOINT) continue;
        if (i < known && w->log[i].record.kind != RECORD_MESSAGE) continue;
        enum err e = js_replay(&p->js, 0, &w->log[i].record, i + 1);
        must(e == ERR_OK || e == ERR_UNKNOWN);
    }
    js_replay_end(&p->js);
    while (js_is_rolling(&p->js)) js_roll(&p->js);
    p->js.hooks = &hooks;
    return p;
}

static struct js_stream *stream_in(struct process *p)
{
    return js_find(&p->js, 0, BYTES_LITERAL("S"), false);
}

/* --- requests -------------------------------------------------------------------------------- */

/* Nothing is refused because something else is under way. */
static void check_answer(struct bytes answer)
{
    static const char failed[] = "\"err_code\":10077"; /* the store did */
    if (world->has_failures) return;
    if (memmem(answer.data, answer.len, failed, sizeof failed - 1) == NULL) return;
    printf("seed %llu: %.*s\n", (unsigned long long)world->seed, (int)answer.len, answer.data);
    fflush(stdout);
    must(false);
}

static void go_on(struct asked *a, enum js_step step)
{
    a->state = step == JS_WAIT_STORED ? WAITING : step == JS_MORE ? WORKING : FREE;
    a->order = ++world->asked_count;
    if (a->state != FREE) return;
    must(step == JS_REPLY || step == JS_SILENT);
    SAY("  answer to %s: %.*s\n", a->subject, (int)a->r.out->len, a->r.out->data);
    if (step == JS_REPLY) check_answer(text_written(a->r.out));
    jsapi_end(&a->r);
}

static void ask(const char *subject, const char *body)
{
    struct asked *a = NULL;
    for (uint32_t i = 0; i < REQUESTS_MAX && a == NULL; i++)
        if (world->asked[i].state == FREE) a = &world->asked[i];
    if (a == NULL) return;
    snprintf(a->subject, sizeof a->subject, "%s", subject);
    snprintf(a->body, sizeof a->body, "%s", body);
    SAY("%s %s\n", subject, body);
    a->r = (struct js_request){.account_name = BYTES_LITERAL("$G"),
                               .subject = bytes_from_text(a->subject),
                               .body = bytes_from_text(a->body),
                               .out = &world->out,
                               .mono_ns = world->now.mono_ns,
                               .now_ns = world->now.wall_ns};
    go_on(a, jsapi_run(&world->process->js, &a->r));
}

/* The first by ticket, then by coming, of those that stood there before. */
static struct asked *next_waiting(uint64_t from, uint64_t to, uint64_t before)
{
    struct asked *first = NULL;
    for (uint32_t i = 0; i < REQUESTS_MAX; i++) {
        struct asked *a = &world->asked[i];
        if (a->state != WAITING || a->order > before || a->r.ticket < from || a->r.ticket > to)
            continue;
        if (first == NULL || a->r.ticket < first->r.ticket ||
            (a->r.ticket == first->r.ticket && a->order < first->order))
            first = a;
    }
    return first;
}

static void end_wait(uint64_t from, uint64_t to, enum err e)
{
    uint64_t before = world->asked_count;
    struct asked *a;
    while ((a = next_waiting(from, to, before)) != NULL) {
        if (e != ERR_OK && a->r.order == JS_ORDER_AGAIN) {
            a->r.ticket = 0;
            a->order = ++world->asked_count;
            continue;
        }
        if (e == ERR_OK) deliver_store_stored(&world->process->deliver, a->r.ticket);
        go_on(a, jsapi_stored(&world->process->js, &a->r, e));
    }
}

/* --- turns ----------------------------------------------------------------------------------- */

static void become_durable(uint64_t ticket)
{
    struct process *p = world->process;
    struct js_stream *s;
    SAY("durable to %llu\n", (unsigned long long)ticket);
    p->js.clock = world->now;
    world->stored = p->js.told_ticket = ticket;
    js_ends_stored(&p->js, ticket);
    end_wait(0, ticket, ERR_OK);
    deliver_store_stored(&p->deliver, ticket);
    if ((s = stream_in(p)) != NULL) (void)!stream_settle(&s->stream, ticket);
}

static void fail(uint64_t ticket)
{
    struct process *p = world->process;
    struct js_stream *s = stream_in(p);
    SAY("fails from %llu\n", (unsigned long long)ticket);
    for (uint64_t i = ticket; i <= world->log_count; i++) world->log[i - 1].is_gone = true;
    p->js.clock = world->now;
    world->failures++;
    text_clear(&world->state);
    js_ends_failed(&p->js, ticket);
    if (s != NULL) stream_unstage(&s->stream, ticket);
    end_wait(ticket, UINT64_MAX, ERR_IO);
    deliver_store_failed(&p->deliver, ticket, world->now);
    end_wait(0, 0, ERR_OK);
    js_ends_again(&p->js);
    deliver_save_early(&p->deliver, world->now);
}

/* True: something is under way. */
static bool step(void)
{
    struct process *p = world->process;
    struct js_stream *s;
    uint64_t before = world->asked_count;
    bool is_busy = false;
    p->js.clock = world->now;
    for (uint32_t i = 0; i < REQUESTS_MAX; i++)
        if (world->asked[i].state == WORKING && world->asked[i].order <= before && below(3) == 0)
            go_on(&world->asked[i], jsapi_stored(&p->js, &world->asked[i].r, ERR_OK));
    if (next_waiting(0, world->stored, UINT64_MAX) != NULL) end_wait(0, world->stored, ERR_OK);
    js_roll(&p->js);
    deliver_store_stored(&p->deliver, world->stored);
    if ((s = stream_in(p)) != NULL) (void)!stream_settle(&s->stream, world->stored);
    is_busy |= deliver_run(&p->deliver, world->now, 1000);
    is_busy |= js_is_rolling(&p->js);
    for (uint32_t i = 0; i < REQUESTS_MAX; i++) is_busy |= world->asked[i].state != FREE;
    return is_busy;
}

static void pass(uint64_t ms)
{
    world->now.mono_ns += ms * 1000000;
    world->now.wall_ns += (int64_t)ms * 1000000;
    world->process->js.now = world->process->js.clock = world->now;
}

/* --- what happens ---------------------------------------------------------------------------- */

static void publish(void)
{
    static const char *const headers[] = {"",
                                          "",
                                          "",
                                          "",
                                          "NATS/1.0\r\nNats-TTL: 1s\r\n\r\n",
                                          "NATS/1.0\r\nNats-TTL: never\r\n\r\n",
                                          "NATS/1.0\r\nNats-Rollup: sub\r\n\r\n"};
    char scratch[PUBLISH_SCRATCH_EXTRA + 256], subject[8], id[40];
    struct js_stream *s = stream_in(world->process);
    struct stream_outcome o;
    struct store_stub stub;
    struct writer w;
    if (s == NULL) return;
    const char *head = headers[below(7)];
    if (below(4) == 0) {
        snprintf(id, sizeof id, "NATS/1.0\r\nNats-Msg-Id: %u\r\n\r\n", below(30));
        head = id;
    }
    snprintf(subject, sizeof subject, "s.%u", below(4));
    writer_init(&w, scratch, sizeof scratch);
    publish_check(&s->stream, bytes_from_text(subject), bytes_from_text(head),
                  bytes_of("0123456789", below(10)), world->now.wall_ns, &w, &o);
    if (o.verdict != STREAM_STORE) return;
    SAY("publish %s as %llu\n", subject, (unsigned long long)o.seq);
    must(store_append(&world->store, &o.record, &stub) == ERR_OK);
    stream_stage(&s->stream, &o, stub.ticket, stub.place);
    world->messages++;
}

static void pull(void)
{
    char name[4], batch[4];
    struct js_stream *s = stream_in(world->process);
    if (s == NULL) return;
    snprintf(name, sizeof name, "c%u", below(world->consumers));
    snprintf(batch, sizeof batch, "%u", 1 + below(5));
    (void)!deliver_pull(&world->process->deliver, s, bytes_from_text(name), bytes_from_text(batch),
                        BYTES_LITERAL("in"), world->now);
}

static void ack(void)
{
    static const char *const payloads[] = {"", "", "", "", "", "+TERM", "-NAK"};
    struct js_stream *s = stream_in(world->process);
    if (s == NULL || world->ack_count == 0) return;
    uint32_t i = below(world->ack_count);
    SAY("ack %s\n", world->acks[i]);
    (void)!deliver_ack(&world->process->deliver, s, bytes_from_text(world->acks[i]),
                       bytes_from_text(payloads[below(7)]), BYTES_LITERAL(""), world->now);
    memmove(world->acks[i], world->acks[--world->ack_count], sizeof world->acks[0]);
}

static void come_to_rest(void);

static bool is_there(uint32_t n)
{
    char name[8];
    const struct js_stream *s = stream_in(world->process);
    snprintf(name, sizeof name, "c%u", n);
    return s != NULL && consumer_set_find(&s->consumers, bytes_from_text(name)) != NULL;
}

static void ask_consumer(void)
{
    static const char *const filters[] = {"\"s.0\"", "\"s.1\"", "\"s.2\",\"s.3\"",
                                          "\"s.0\",\"s.2\"", "\"s.*\""};
    bool is_queue = strcmp(world->retention, "workqueue") == 0;
    char subject[64], body[400];
    uint32_t n = below(world->consumers);
    /* What is published beside a change of filters may stay for nobody, until one who looks. */
    bool rests = strcmp(world->retention, "interest") == 0 && is_there(n);
    if (rests) come_to_rest();
    snprintf(subject, sizeof subject, "$JS.API.CONSUMER.CREATE.S.c%u", n);
    snprintf(body, sizeof body,
             "{\"stream_name\":\"S\",\"config\":{\"durable_name\":\"c%u\",\"ack_policy\":\"%s\","
             "\"deliver_policy\":\"%s\",\"filter_subjects\":[%s],\"max_deliver\":%d%s}}",
             n,
             is_queue || below(4) > 0 ? "explicit"
             : below(2) == 0          ? "all"
                                      : "none",
             is_queue || below(3) > 0 ? "all"
             : below(2) == 0          ? "new"
                                      : "last_per_subject",
             filters[is_queue && below(5) > 0 ? n % 3 : below(5)], below(3) == 0 ? 2 : -1,
             below(5) == 0 ? ",\"inactive_threshold\":400000000" : "");
    ask(subject, body);
    if (rests) come_to_rest();
}

static void ask_of_consumer(void)
{
    char subject[64], body[64];
    uint32_t n = below(world->consumers), seq = below(20);
    struct js_stream *s = stream_in(world->process);
    if (below(2) == 0) {
        snprintf(subject, sizeof subject, "$JS.API.CONSUMER.DELETE.S.c%u", n);
        ask(subject, "");
        return;
    }
    if (s != NULL && s->stream.seq_first + 2 > 12) seq += (uint32_t)s->stream.seq_first - 10;
    /* What is published below the place of all stays for nobody, until one looks from below. */
    bool is_interest = strcmp(world->retention, "interest") == 0;
    if (s != NULL && is_interest && seq > s->stream.seq_last + 1)
        seq = (uint32_t)s->stream.seq_last + 1;
    snprintf(subject, sizeof subject, "$JS.API.CONSUMER.RESET.S.c%u", n);
    snprintf(body, sizeof body, below(2) == 0 ? "" : "{\"seq\":%u}", seq);
    ask(subject, body);
}

static void ask_stream(bool is_new)
{
    char body[600];
    bool is_limits = strcmp(world->retention, "limits") == 0;
    if (!is_new && below(8) == 0 && strcmp(world->retention, "workqueue") != 0)
        come_to_rest(), world->retention = is_limits ? "interest" : "limits";
    bool is_wild = below(3) == 0;
    snprintf(body, sizeof body,
             "{\"name\":\"S\",\"subjects\":[\"s.*\"],\"retention\":\"%s\",\"max_msgs\":%d,"
             "\"max_bytes\":%d,\"max_msgs_per_subject\":%d,\"max_age\":%lld,\"discard\":\"%s\","
             "\"duplicate_window\":%lld,\"allow_msg_ttl\":true,\"allow_rollup_hdrs\":true}",
             world->retention, is_wild ? -1 : 1 + (int)below(12),
             below(3) > 0 ? -1 : 60 + (int)below(400), below(3) > 0 ? -1 : 1 + (int)below(4),
             below(3) > 0 ? 0LL : 1000000000LL * (1 + below(3)), below(4) == 0 ? "new" : "old",
             1000000000LL);
    ask(is_new ? "$JS.API.STREAM.CREATE.S" : "$JS.API.STREAM.UPDATE.S", body);
}

static void ask_removal(void)
{
    char body[100];
    struct js_stream *s = stream_in(world->process);
    if (s == NULL) return;
    uint64_t seq = s->stream.seq_first + below(6);
    switch (below(6)) {
    case 0:
        snprintf(body, sizeof body, "{\"filter\":\"s.%u\",\"keep\":%u}", below(4), below(3));
        break;
    case 1: snprintf(body, sizeof body, "{\"keep\":%u}", below(6)); break;
    case 2: snprintf(body, sizeof body, "{\"seq\":%llu}", (unsigned long long)seq); break;
    case 3: snprintf(body, sizeof body, "{\"filter\":\"s.*\",\"keep\":%u}", below(4)); break;
    default:
        snprintf(body, sizeof body, "{\"seq\":%llu,\"no_erase\":true}", (unsigned long long)seq);
        ask("$JS.API.STREAM.MSG.DELETE.S", body);
        return;
    }
    ask("$JS.API.STREAM.PURGE.S", body);
}

/* As a purge does to all, when memory is short. */
static void close_one(void)
{
    char name[4];
    struct process *p = world->process;
    struct js_stream *s = stream_in(p);
    snprintf(name, sizeof name, "c%u", below(world->consumers));
    struct consumer *c = s == NULL ? NULL : consumer_set_find(&s->consumers, bytes_from_text(name));
    if (c == NULL || c->owner == NULL || c->is_hidden) return;
    SAY("no memory for %s\n", name);
    world->heap.fail_at = world->heap.alloc_count + 1;
    deliver_updated(&p->deliver, s, c, world->now);
    world->heap.fail_at = 0;
}

/* The next piece of it, or its first one. */
static void go_on_with_checkpoint(void)
{
    struct world *w = world;
    const struct js_stream *s = stream_in(w->process);
    if (s == NULL) return;
    if (w->state.len == 0) w->state_stored = w->stored;
    enum err e = checkpoint_write(&w->process->js, s->stream.id, &w->state);
    if (e == ERR_INCOMPLETE) return;
    if (e == ERR_OK) {
        struct store_stub stub;
        struct record r = {.kind = RECORD_CHECKPOINT,
                           .flags = RECORD_LAST,
                           .stream = s->stream.id,
                           .seq = 1,
                           .prev_seq = w->state_stored,
                           .body = text_written(&w->state)};
        must(store_append(&w->store, &r, &stub) == ERR_OK);
        w->checkpoints++;
    }
    text_clear(&w->state);
}

static void act(void)
{
    uint64_t in_flight = world->log_count - world->stored;
    uint32_t n = below(100);
    struct js_stream *s = stream_in(world->process);
    if (n < 30)
        publish();
    else if (n < 45)
        pull();
    else if (n < 65)
        ack();
    else if (n < 70)
        ask_consumer();
    else if (n < 73)
        ask_of_consumer();
    else if (n < 74)
        ask_stream(s == NULL);
    else if (n < 76)
        ask_removal();
    else if (n < 80)
        pass(1 + below(n == 79 ? 1500 : 100));
    else if (n < 83 && s != NULL)
        (void)stream_expire(&s->stream, world->now.wall_ns);
    else if (n < 90 && in_flight > 0)
        become_durable(world->stored + 1 + below((uint32_t)in_flight));
    else if (n == 91 && world->is_short)
        close_one();
    else if (n == 90 && in_flight > 0 && world->has_failures)
        fail(world->stored + 1 + below((uint32_t)in_flight));
    else if (n < 95)
        go_on_with_checkpoint();
    else
        (void)step();
}

/* --- the same -------------------------------------------------------------------------------- */

static void differ(const char *what, uint64_t a, uint64_t b)
{
    printf("seed %llu: %s: live %llu, after a start %llu\n", (unsigned long long)world->seed, what,
           (unsigned long long)a, (unsigned long long)b);
    fflush(stdout);
    must(false);
}

static void same(const char *what, uint64_t a, uint64_t b)
{
    if (a != b) differ(what, a, b);
}

/* It may have gone past different sequences that its filters did not select by then. */
static void compare_consumer(const struct consumer *a, const struct consumer *b)
{
    same("consumer number", a->number, b->number);
    same("delivered by number", a->delivered_cseq, b->delivered_cseq);
    same("pending", a->live->window.pending_count, b->live->window.pending_count);
    same("given up", a->live->window.given_up_count, b->live->window.given_up_count);
}

static void compare(struct process *x, struct process *y)
{
    struct js_stream *a = stream_in(x), *b = stream_in(y);
    same("stream", a != NULL, b != NULL);
    if (a == NULL || b == NULL) return;
    uint64_t last = a->stream.seq_last;
    while (stream_expire(&a->stream, world->now.wall_ns)) continue;
    while (stream_expire(&b->stream, world->now.wall_ns)) continue;
    same("last", last, b->stream.seq_last);
    for (uint64_t seq = 1; seq <= last; seq++) {
        struct msgs_entry m, n;
        bool is_a = msgs_get(&a->stream.msgs, seq, &m) == ERR_OK;
        bool is_b = msgs_get(&b->stream.msgs, seq, &n) == ERR_OK;
        if (is_a != is_b) differ(is_a ? "kept only live" : "kept only after a start", seq, seq);
    }
    same("first", a->stream.seq_first, b->stream.seq_first);
    same("bytes", a->stream.bytes, b->stream.bytes);
    same("consumers", a->stream.consumer_count, b->stream.consumer_count);
    uint32_t at = 0;
    struct consumer *c;
    while ((c = consumer_set_each(&a->consumers, &at)) != NULL) {
        struct consumer *d = consumer_set_find(&b->consumers, c->name);
        same("consumer", 1, d != NULL);
        compare_consumer(c, d);
    }
    for (uint32_t i = 0; i < 30; i++) {
        char id[16];
        struct hash128 hash;
        snprintf(id, sizeof id, "%u", i);
        hash = dedupe_hash(&a->stream.dedupe, bytes_from_text(id));
        same("id", dedupe_find(&a->stream.dedupe, hash, world->now.wall_ns),
             dedupe_find(&b->stream.dedupe, hash, world->now.wall_ns));
    }
}

static void come_to_rest(void)
{
    for (int i = 0; i < IDLE_STEPS; i++) {
        if (world->stored < world->log_count) become_durable(world->log_count);
        bool is_short = world->process->deliver.short_ns != 0;
        if (is_short) pass(10);
        bool is_busy = step() || is_short;
        deliver_flush(&world->process->deliver, world->now);
        if (!is_busy && world->stored == world->log_count) return;
    }
    printf("seed %llu: it does not come to rest\n", (unsigned long long)world->seed);
    fflush(stdout);
    must(false);
}

static void check(void)
{
    come_to_rest();
    struct process *again = start_process(world);
    compare(world->process, again);
    world->checks++;
    if (below(4) > 0) {
        close_process(again);
        return;
    }
    SAY("start\n");
    text_clear(&world->state);
    close_process(world->process);
    world->process = again;
    world->ack_count = 0;
    struct js_stream *s = stream_in(again);
    uint32_t at = 0;
    struct consumer *c;
    if (s == NULL) return;
    s->outlet = &world->outlet;
    while ((c = consumer_set_each(&s->consumers, &at)) != NULL)
        deliver_opened(&again->deliver, s, c, world->now);
}

static void run(uint64_t seed, bool is_loud)
{
    static const char *const retentions[] = {"limits", "interest", "workqueue", "workqueue"};
    struct world *w = calloc(1, sizeof *w);
    must(w != NULL);
    world = w;
    w->store.ops = &log_ops;
    w->seed = seed;
    w->is_loud = is_loud;
    if (is_loud) setvbuf(stdout, NULL, _IOLBF, 0);
    w->log = calloc(RECORDS_MAX, sizeof *w->log);
    must(w->log != NULL);
    w->outlet = (struct outlet){on_send, has_interest, is_heard, on_event};
    mem_heap_init(&w->heap);
    rng_init(&w->rng, seed);
    text_init(&w->out, &w->heap.mem, MEM_JETSTREAM, 1 << 20);
    text_init(&w->state, &w->heap.mem, MEM_JETSTREAM, 1 << 20);
    w->now = (struct shard_time){.mono_ns = 1000000000, .wall_ns = INT64_C(1795263937500000000)};
    w->retention = retentions[below(4)];
    w->consumers = strcmp(w->retention, "limits") == 0 ? 1 : CONSUMERS;
    w->has_failures = below(3) == 0;
    w->is_short = below(2) == 0;
    w->process = open_process(w);
    ask_stream(true);
    come_to_rest();
    for (int i = 0; i < STEPS * 4; i++) {
        act();
        if (i % (STEPS / 10) == 0 && below(2) == 0) check();
    }
    check();
    close_process(w->process);
    printf("seed %llu: %s, %llu messages, %llu records, %llu failures, %llu starts, "
           "%llu checkpoints\n",
           (unsigned long long)seed, w->retention, (unsigned long long)w->messages,
           (unsigned long long)w->log_count, (unsigned long long)w->failures,
           (unsigned long long)w->checks, (unsigned long long)w->checkpoints);
    for (uint64_t i = 0; i < w->log_count; i++) free(w->log[i].memory);
    text_deinit(&w->out);
    text_deinit(&w->state);
    must(w->heap.live_count == 0);
    free(w->log);
    free(w);
}

int main(int argc, char **argv)
{
    uint64_t seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    int rounds = argc > 2 ? atoi(argv[2]) : ROUNDS;
    for (int i = 0; i < rounds; i++) run(seed + (uint64_t)i, argc > 3);
    return 0;
}
