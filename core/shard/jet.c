#include "core/shard/jet.h"
#include "core/base/must.h"

enum {
    STEP_MESSAGES_MAX = 4096, /* acks and pull requests */
    REQUEST_COST = 64,        /* of them a request of the API may take the time of */
    UNITS_PER_COST = SIEVE_STEP / STEP_MESSAGES_MAX,
    ACK_BYTES_MAX = 1024, /* what is no larger finds a place in a full inbox */
    LOST_NS = 250000000,  /* between two looks for room for the ends of consumers, as for acks */
};

/* --- streams --------------------------------------------------------------------------------- */

/* All of a publish's answer but the number and the brace. */
static bool make_ack_head(struct shard *s, struct jet_stream *x)
{
    struct text t;
    struct stream_outcome *o = &s->jet->outcome;
    o->verdict = STREAM_STORE;
    o->seq = 0;
    text_init(&t, s->mem, MEM_JETSTREAM, JET_ACK_BODY_MAX - JET_ACK_DIGITS);
    publish_write_ack(&x->s->stream, o, s->jet->js->domain, &t);
    bool is_good = !t.is_failed && t.len > 2;
    if (is_good) {
        x->ack_head_len = (uint32_t)t.len - 2;
        x->ack_head = mem_alloc(s->mem, MEM_JETSTREAM, x->ack_head_len);
        is_good = x->ack_head != NULL;
        if (is_good) memcpy(x->ack_head, t.data, x->ack_head_len);
    }
    text_deinit(&t);
    return is_good;
}

static void free_stream(struct shard *s, struct jet_stream *x)
{
    if (x->ack_head != NULL) mem_free(s->mem, MEM_JETSTREAM, x->ack_head, x->ack_head_len);
    jet_subs_free(s, x);
    jet_queue_free(s, &x->held);
    mem_free(s->mem, MEM_JETSTREAM, x, sizeof *x);
}

static struct jet_stream *make_stream(struct shard *s, struct js_stream *stream)
{
    struct jet_stream *x = mem_alloc_zero(s->mem, MEM_JETSTREAM, sizeof *x);
    if (x == NULL) return NULL;
    x->s = stream;
    x->jet = s->jet;
    list_init(&x->all);
    list_init(&x->staged);
    list_init(&x->held_link);
    list_init(&x->unsubscribed);
    wheel_timer_init(&x->timer);
    if (!make_ack_head(s, x)) {
        free_stream(s, x);
        return NULL;
    }
    stream->owner = x;
    jet_consumer_init_outlet(x);
    stream->outlet = &x->outlet;
    list_push(&s->jet->streams, &x->all);
    list_push(&s->jet->unsubscribed, &x->unsubscribed);
    jet_publish_arm(s, x);
    /* What ended while nobody ran goes before anybody can ask for it; markers come by the timer. */
    if (stream_expire_next_ns(&stream->stream) <= s->now.wall_ns) {
        while (stream_expire(&stream->stream, s->now.wall_ns)) continue;
        wheel_arm(&s->jet->wheel, &x->timer, s->now.mono_ns);
    }
    return x;
}

static void on_opened(void *context, struct js_stream *stream)
{
    struct shard *s = context;
    jet_share_apply(s, stream->stream.account);
    if (make_stream(s, stream) != NULL) {
        jet_subs_step(s);
        return;
    }
    /* It is on disk and serves again after the next start. */
    struct writer *w = session_log_open(s, NULL);
    writer_text(w, "JetStream stream '");
    writer_bytes(w, stream->account_name);
    writer_text(w, " > ");
    writer_bytes(w, stream->stream.config.name);
    writer_text(w, "' cannot be served: out of memory");
    session_log_close(s, LOG_LEVEL_ERR);
}

static void on_updated(void *context, struct js_stream *stream)
{
    struct shard *s = context;
    struct jet_stream *x = stream->owner;
    if (x == NULL) return;
    list_remove(&x->unsubscribed);
    list_push(&s->jet->unsubscribed, &x->unsubscribed);
    jet_subs_step(s);
    jet_publish_arm(s, x);
}

/* Entries of a stream that goes: nobody looks at its memory any more. */
static void forget(void *entry, const void *x)
{
    struct jet_message *e = entry;
    if (e->stream == x) e->stream = NULL;
}

static void on_closing(void *context, struct js_stream *stream)
{
    struct shard *s = context;
    struct jet_stream *x = stream->owner;
    if (x == NULL) return;
    stream->owner = NULL;
    stream->outlet = &s->jet->js->silent;
    jet_subs_forget(s, x);
    jet_queue_each(&s->jet->inbox, forget, x);
    jet_publish_forget(s, x);
    jet_api_forget(s, x);
    list_remove(&x->all);
    list_remove(&x->staged);
    list_remove(&x->held_link);
    wheel_cancel(&x->timer);
    free_stream(s, x);
}

static void on_stored(void *context, struct js_stream *stream, uint64_t seq, uint32_t node)
{
    struct shard *s = context;
    deliver_stored(&s->jet->deliver, stream, seq, node);
}

/* Push consumers want to know whether somebody listens. */
static void watch(struct shard *s, const struct js_stream *stream, const struct consumer *c, int by)
{
    struct shard_account *a = session_account(s, stream->stream.account);
    if (a == NULL || !consumer_is_push(c)) return;
    must(by > 0 || a->push_count > 0);
    bool was_on = a->push_count > 0;
    a->push_count += (uint32_t)by;
    if (was_on != (a->push_count > 0)) interest_watch(a->trie, s->index, a->push_count > 0);
}

static void on_consumer_opened(void *context, struct js_stream *stream, struct consumer *c)
{
    struct shard *s = context;
    struct jet_stream *x = stream->owner;
    if (x != NULL) jet_subs_for_consumer(s, x, c);
    /* What is delivered is acked; at a start all of them follow in the first step. */
    if (s->jet->js->hooks != NULL) jet_subs_step(s);
    watch(s, stream, c, 1);
    deliver_opened(&s->jet->deliver, stream, c, s->now);
}

static void on_consumer_updated(void *context, struct js_stream *stream, struct consumer *c)
{
    struct shard *s = context;
    deliver_updated(&s->jet->deliver, stream, c, s->now);
}

static void on_consumer_closing(void *context, struct js_stream *stream, struct consumer *c)
{
    struct shard *s = context;
    watch(s, stream, c, -1);
    jet_advisory_consumer_gone(s, stream, c);
    deliver_closing(&s->jet->deliver, stream, c);
}

static void on_consumer_ending(void *context, struct js_stream *stream, struct consumer *c)
{
    struct shard *s = context;
    deliver_ending(&s->jet->deliver, stream, c, s->now);
}

static enum err on_consumer_settling(void *context, struct js_stream *stream, struct consumer *c)
{
    struct shard *s = context;
    return deliver_settling(&s->jet->deliver, stream, c, s->now);
}

static enum err on_consumers_saving(void *context, struct js_stream *stream)
{
    struct shard *s = context;
    return deliver_saving(&s->jet->deliver, stream, s->now);
}

static bool is_settled_behind(void *context, const struct js_stream *stream, uint64_t seq,
                              struct bytes subject, uint64_t ticket)
{
    const struct shard *s = context;
    return deliver_is_settled_behind(&s->jet->deliver, stream, seq, subject, ticket);
}

static void on_consumer_room(void *context, struct js_stream *stream)
{
    struct shard *s = context;
    deliver_room(&s->jet->deliver, stream);
}

static const struct js_hooks hooks = {.opened = on_opened,
                                      .updated = on_updated,
                                      .closing = on_closing,
                                      .stored = on_stored,
                                      .consumer_opened = on_consumer_opened,
                                      .consumer_updated = on_consumer_updated,
                                      .consumer_closing = on_consumer_closing,
                                      .consumer_settling = on_consumer_settling,
                                      .consumer_room = on_consumer_room,
                                      .consumer_ending = on_consumer_ending,
                                      .consumers_saving = on_consumers_saving,
                                      .is_settled_behind = is_settled_behind};

static void limits_of(void *context, uint32_t account, struct js_limits *limits)
{
    const struct shard *s = context;
    const struct account *a = account_set_by_number(s->options->accounts, account);
    if (a == NULL) return;
    const struct account_jetstream *j = &a->jetstream;
    *limits = (struct js_limits){.max_memory = j->max_memory,
                                 .max_storage = j->max_storage,
                                 .max_streams = j->max_streams,
                                 .max_consumers = j->max_consumers,
                                 .max_ack_pending = j->max_ack_pending,
                                 .memory_max_stream_bytes = j->memory_max_stream_bytes,
                                 .storage_max_stream_bytes = j->storage_max_stream_bytes,
                                 .max_bytes_required = j->max_bytes_required};
}

static bool is_on(void *context, uint32_t account)
{
    const struct shard *s = context;
    const struct account *a = account_set_by_number(s->options->accounts, account);
    return a != NULL && a->jetstream.is_on;
}

/* --- life ------------------------------------------------------------------------------------ */

/* All shards start at once, and another may just be making an account: its push consumers would not
 * be counted (watch), and never hear of who comes. That takes microseconds. */
static enum err reach_account(struct shard *s, uint32_t account)
{
    struct interest_account *trie;
    enum err e;
    do e = interest_account_of(s->interest, account, &trie);
    while (e == ERR_BUSY);
    if (e == ERR_OK && session_account(s, account) == NULL) e = ERR_MEMORY;
    return e == ERR_MEMORY ? e : ERR_OK;
}

static enum err open_jet(struct shard *s, const struct shard_log *log)
{
    struct jet *j = mem_alloc_zero(s->mem, MEM_JETSTREAM, sizeof *j);
    if (j == NULL) return ERR_MEMORY;
    s->jet = s->jets[s->jet_count++] = j;
    j->shard = s;
    j->js = log->js;
    j->log = log->number;
    j->port = log->store;
    j->inside.state = CLIENT_OPEN;
    jet_subs_look_again(j);
    wheel_init(&j->wheel, s->config.now.mono_ns);
    list_init(&j->streams);
    list_init(&j->staged);
    list_init(&j->held);
    list_init(&j->unsubscribed);
    list_init(&j->requests);
    list_init(&j->reading);
    list_init(&j->working);
    list_init(&j->directs);
    list_init(&j->direct_work);
    list_init(&j->direct_rest);
    list_init(&j->direct_dry);
    list_init(&j->asking);
    list_init(&j->answered);
    list_init(&j->behind);
    table_init(&j->firsts, s->mem, MEM_JETSTREAM);
    list_init(&j->telling);
    uint32_t at = 0;
    struct js_stream *stream;
    jet_consumer_open(s);
    /* Room that stays, so that somebody can be told that there is none. */
    struct jet_queue *const kept[] = {&j->inbox, &j->acks, &j->ready, &j->out};
    for (size_t i = 0; i < sizeof kept / sizeof kept[0]; i++)
        if (jet_queue_room(s, kept[i], 0) == NULL) return ERR_MEMORY; /* jet_close is called */
    j->js->limits_of = limits_of;
    j->js->is_on = is_on;
    j->js->context = s;
    js_limits_changed(j->js); /* a replay knows of none */
    while ((stream = js_each(j->js, &at)) != NULL) {
        if (reach_account(s, stream->stream.account) != ERR_OK) return ERR_MEMORY;
        if (make_stream(s, stream) == NULL) return ERR_MEMORY;
        uint32_t place = 0;
        struct consumer *c;
        while ((c = consumer_set_each(&stream->consumers, &place)) != NULL)
            on_consumer_opened(s, stream, c);
    }
    j->js->hooks = &hooks;
    j->js->hooks_context = s;
    return ERR_OK;
}

enum err jet_open(struct shard *s, const struct shard_config *config)
{
    if (config->log_count == 0) return ERR_OK;
    s->jets = mem_alloc_zero(s->mem, MEM_JETSTREAM, config->log_count * sizeof(struct jet *));
    if (s->jets == NULL) return ERR_MEMORY;
    table_init(&s->jet_shares, s->mem, MEM_JETSTREAM);
    enum err e = ERR_OK;
    for (uint32_t i = 0; e == ERR_OK && i < config->log_count; i++) {
        must(config->logs[i].number % s->shard_count == s->index);
        e = open_jet(s, &config->logs[i]);
    }
    s->jet = s->jets[0];
    return e;
}

static void close_jet(struct shard *s)
{
    struct jet *j = s->jet;
    j->js->hooks = NULL;
    j->js->limits_of = NULL;
    j->js->is_on = NULL;
    deliver_deinit(&j->deliver);
    while (!list_is_empty(&j->streams))
        on_closing(s, LIST_OWNER(j->streams.next, struct jet_stream, all)->s);
    jet_subs_close(s);
    jet_api_close(s);
    jet_queue_free(s, &j->acks);
    jet_queue_free(s, &j->ready);
    jet_queue_free(s, &j->inbox);
    jet_queue_free(s, &j->forwards);
    jet_queue_free(s, &j->out);
    jet_queue_free(s, &j->interest);
    mem_free(s->mem, MEM_JETSTREAM, j->scratch, j->scratch_bytes);
    mem_free(s->mem, MEM_JETSTREAM, j->work.data, j->work.capacity);
    mem_free(s->mem, MEM_JETSTREAM, j, sizeof *j);
}

void jet_close(struct shard *s)
{
    if (s->jets == NULL) return;
    uint32_t count = s->jet_count;
    s->jet_count = 0; /* nobody tells one that is closed of what leaves the index */
    for (uint32_t i = 0; i < count; i++) {
        s->jet = s->jets[i];
        if (s->jet != NULL) close_jet(s);
    }
    mem_free(s->mem, MEM_JETSTREAM, s->jets, s->config.log_count * sizeof(struct jet *));
    jet_share_close(s);
    s->jets = NULL;
    s->jet = NULL;
}

/* Runs it for each log in turn. */
static void each(struct shard *s, void (*run)(struct shard *s))
{
    for (uint32_t i = 0; i < s->jet_count; i++) {
        s->jet = s->jets[i];
        run(s);
    }
    if (s->jet_count > 0) s->jet = s->jets[0];
}

struct jet *jet_of_log(struct shard *s, uint32_t log)
{
    for (uint32_t i = 0; i < s->jet_count; i++)
        if (s->jets[i]->log == log) return s->jets[i];
    return NULL;
}

static void use_options(struct shard *s)
{
    const struct options_jetstream *o = &s->options->jetstream;
    struct js *js = s->jet->js;
    js->duplicate_window_max = o->duplicate_window_ns;
    js->max_ack_pending = o->max_ack_pending;
    js->max_batch = o->max_request_batch;
    js->consumers_default_max = o->default_max_consumers > 0 ? o->default_max_consumers : 0;
    js->total.memory.max = o->memory_bytes_max;
    if (o->memory_bytes_max >= 0) js->memory.bytes_max = (uint64_t)o->memory_bytes_max;
    js->total.storage.max = o->storage_bytes_max;
    jet_subs_look_again(s->jet);
    js_limits_changed(js);
}

void jet_use_options(struct shard *s)
{
    each(s, use_options);
    jet_share_look_again(s);
}

static void tell_pullers(struct shard *s)
{
    struct list *all = &s->jet->streams;
    for (struct list *link = all->next; link != all; link = link->next) {
        struct js_stream *x = LIST_OWNER(link, struct jet_stream, all)->s;
        struct consumer *c;
        uint32_t at = 0;
        while ((c = consumer_set_each(&x->consumers, &at)) != NULL)
            pullq_shutdown(&c->live->pulls, x->outlet);
    }
}

void jet_tell_pullers(struct shard *s)
{
    each(s, tell_pullers);
}

void shard_flush(struct shard *s, struct shard_time now)
{
    for (uint32_t i = 0; i < s->jet_count; i++) {
        js_ends_again(s->jets[i]->js);
        deliver_flush(&s->jets[i]->deliver, now);
    }
}

/* --- the step -------------------------------------------------------------------------------- */

static bool take(struct shard *s, struct jet_sub what, const struct message *m)
{
    if (what.kind == JET_SUB_PUBLISH) {
        jet_publish_take(s, what.stream, m);
        return true;
    }
    /* What is sent to a stream has a subscription of its own; without that nobody answers. */
    if (what.kind == JET_SUB_API && (bytes_starts_with(m->subject, BYTES_LITERAL(JET_DIRECT_GET)) ||
                                     bytes_starts_with(m->subject, BYTES_LITERAL(JET_MSG_NEXT))))
        return false;
    if (what.kind == JET_SUB_NEXT && !jet_consumer_exists(what.stream, m->subject)) return false;
    if (what.kind == JET_SUB_ACK && !jet_consumer_takes_ack(what.stream, m->subject)) return false;
    struct jet_queue *q = &s->jet->inbox;
    bool is_full = q->bytes > JET_INBOX_BYTES_MAX && m->total_bytes > ACK_BYTES_MAX;
    if (UNLIKELY(is_full || jet_queue_message(s, q, what.kind, what.stream, m) != ERR_OK))
        jet_send_refusal(s, what.kind, m);
    /* More than a step takes: who sends it waits a little (R5b). */
    if (UNLIKELY(q->count > STEP_MESSAGES_MAX || q->bytes > JET_INBOX_BYTES_MAX / 2))
        jet_publish_slow_down(s, m);
    return true;
}

bool jet_take(struct shard *s, const struct sub *sub, const struct message *m)
{
    struct jet_sub what = jet_subs_what(sub);
    struct jet *before = s->jet;
    s->jet = what.stream == NULL ? s->jets[0] : what.stream->jet;
    bool is_taken = take(s, what, m);
    s->jet = before;
    return is_taken;
}

static void read_only(struct shard *s, enum err e)
{
    struct jet *j = s->jet;
    struct writer *w = session_log_open(s, NULL);
    if (e == ERR_DENIED && !j->is_read_only) {
        j->is_read_only = true;
        writer_text(w, "JetStream: the store cannot be written any more; it serves reads only "
                       "until a restart");
    } else {
        writer_text(w, "JetStream: a write to the store failed: ");
        writer_text(w, err_text(e));
    }
    session_log_close(s, LOG_LEVEL_ERR);
}

/* One record at a time is timed; others that are in flight beside it are not counted. */
static void end_timing(struct shard *s, uint64_t ticket)
{
    struct jet *j = s->jet;
    struct histogram *h = s->histograms[SHARD_HISTOGRAM_COMMIT];
    if (j->timed_ticket == 0 || j->timed_ticket > ticket) return;
    if (h != NULL) histogram_add(h, s->now.mono_ns - j->timed_ns);
    j->timed_ticket = 0;
}

static void take_events(struct shard *s)
{
    struct jet *j = s->jet;
    struct store_event e;
    j->js->clock = s->now;
    if (UNLIKELY(jet_subs_is_due(j))) jet_subs_step(s);
    jet_send_waiting(s);
    while (j->port.next(j->port.store, &e)) {
        switch (e.kind) {
        case STORE_STORED:
            j->stored_ticket = e.ticket;
            end_timing(s, e.ticket);
            js_ends_stored(j->js, e.ticket);
            jet_publish_stored(s, e.ticket);
            jet_api_stored(s, e.ticket);
            /* It settles what comes before each record of its own. */
            deliver_store_stored(&j->deliver, e.ticket);
            jet_publish_settle(s, e.ticket);
            break;
        case STORE_FAILED:
            j->timed_ticket = 0;
            read_only(s, e.err);
            js_ends_failed(j->js, e.ticket);
            jet_publish_failed(s, e.ticket, e.err);
            jet_api_failed(s, e.ticket, e.err);
            deliver_store_failed(&j->deliver, e.ticket, s->now);
            jet_api_go_on(s);
            break;
        case STORE_READ:
            if (deliver_is_read(&j->deliver, e.read)) {
                deliver_read(&j->deliver, e.read, e.err, &e.record, s->now);
            } else {
                struct jet_reader *r = e.read->context;
                r->done(s, r, e.err, &e.record);
            }
            break;
        }
    }
    js_ends_again(j->js); /* before clients publish anything behind */
    deliver_save_early(&j->deliver, s->now);
}

void jet_events(struct shard *s)
{
    each(s, take_events);
}

static void take_inbox(struct shard *s)
{
    struct jet *j = s->jet;
    const struct jet_message *e;
    struct message m;
    uint32_t spent = 0, left;
    /* What comes in meanwhile is for the next step. */
    for (uint64_t n = j->inbox.count; n > 0 && spent < STEP_MESSAGES_MAX; n--) {
        if (UNLIKELY(jet_send_is_full(j))) return;
        e = jet_queue_first(&j->inbox);
        bool is_request = e->kind == JET_SUB_API || e->kind == JET_SUB_ROUTED;
        spent += is_request || e->kind == JET_SUB_DIRECT ? REQUEST_COST : 1;
        bool is_of_stream = !is_request;
        const struct list *last = j->working.prev;
        if (jet_queue_read(s, e, &m) && (!is_of_stream || e->stream != NULL)) switch (e->kind) {
            case JET_SUB_API: jet_api_route(s, &m); break;
            case JET_SUB_ROUTED: jet_api_request(s, &m); break;
            case JET_SUB_DIRECT:
                left = SIEVE_STEP;
                jet_api_direct(s, e->stream, &m, &left);
                spent += (SIEVE_STEP - left) / UNITS_PER_COST;
                break;
            case JET_SUB_NEXT: jet_consumer_pull(s, e->stream, &m); break;
            case JET_SUB_ACK: jet_consumer_ack(s, e->stream, &m); break;
            case JET_SUB_FLOW: jet_consumer_flow(s, e->stream, &m); break;
            default: break;
            }
        if (j->working.prev != last) spent += STEP_MESSAGES_MAX; /* it took a piece of work */
        jet_queue_pop(s, &j->inbox);
    }
}

static void step(struct shard *s)
{
    struct jet *j = s->jet;
    struct wheel_timer *t;
    take_inbox(s);
    jet_api_step(s);
    jet_api_work(s);
    jet_api_run_due(s); /* orders that waited for that, before what was published behind them */
    js_roll(j->js);
    /* What waited for these orders: a limit behind it finds the room that acks before it made. */
    deliver_store_stored(&j->deliver, j->stored_ticket);
    jet_publish_settle_again(s);
    jet_api_tell_dropped(s);
    while ((t = wheel_pop(&j->wheel, s->now.mono_ns)) != NULL)
        jet_publish_expire(s, LIST_OWNER(t, struct jet_stream, timer));
    jet_publish_step(s);
    jet_send_waiting(s);
    jet_consumer_step(s);
    jet_send_waiting(s);
}

void jet_step(struct shard *s)
{
    each(s, step);
    jet_share_step(s);
}

static uint64_t deadline_ns(const struct shard *s, const struct jet *j)
{
    uint64_t next = wheel_next_ns(&j->wheel), of_deliver = deliver_next_ns(&j->deliver);
    bool has_asked = j->inbox.count > 0 || !list_is_empty(&j->direct_work);
    if ((has_asked && !jet_send_is_full(j)) || !list_is_empty(&j->answered) ||
        !list_is_empty(&j->working) || js_is_rolling(j->js) || jet_publish_is_due(j))
        return 0;
    if (of_deliver < next) next = of_deliver;
    if (jet_api_tell_ns(j) < next) next = jet_api_tell_ns(j);
    bool rests = j->rests_until_ns > s->now.mono_ns;
    if (j->has_more && j->out.count == 0 && !rests) return 0;
    if (j->has_more && rests && j->rests_until_ns < next) next = j->rests_until_ns;
    bool waits = jet_subs_is_due(j) || j->out.count > 0 || jet_api_is_due(j) ||
                 j->interest.count > 0 || j->is_interest_lost || j->is_unsettled ||
                 j->forwards.count > 0 || !list_is_empty(&j->telling) ||
                 !list_is_empty(&j->direct_rest) || !list_is_empty(&j->direct_dry);
    if (waits && s->now.mono_ns + JET_RETRY_NS < next) next = s->now.mono_ns + JET_RETRY_NS;
    /* What clients do before has them written again, too. */
    if (!list_is_empty(&j->js->ends_lost) && s->now.mono_ns + LOST_NS < next)
        next = s->now.mono_ns + LOST_NS;
    return next;
}

uint64_t jet_deadline_ns(const struct shard *s)
{
    uint64_t first = s->share.is_due ? s->now.mono_ns + JET_RETRY_NS : UINT64_MAX;
    for (uint32_t i = 0; i < s->jet_count; i++) {
        uint64_t next = deadline_ns(s, s->jets[i]);
        if (next < first) first = next;
    }
    return first;
}
