#include "core/js/deliver.h"
#include "core/base/must.h"
#include "core/js/ack.h"
#include "core/route/subject.h"

#define MS UINT64_C(1000000)
#define RETRY_NS (10 * MS) /* memory or the store is short */
#define EMPTY BYTES_LITERAL("")
enum {
    SEARCH_COST = 1024, /* messages that a piece of a consumer's search takes the time of */
    /* Beside subject, headers and body: the target, the reply, and in headers of ours their first
     * line, Nats-Msg-Size with twenty digits and the ends of lines. */
    FRAME_BYTES = JS_SUBJECT_BYTES_MAX + ACK_SUBJECT_BYTES_MAX + 10 + 15 + 20 + 4,
};

/* An ack that is answered once the record is durable. */
struct deliver_reply {
    struct deliver_reply *next;
    uint32_t bytes;
    char text[];
};

/* A record in flight. */
struct deliver_flight {
    struct list link;
    uint64_t ticket, stream;
    uint64_t consumer;          /* its number */
    struct deliver_consumer *x; /* NULL: the consumer has gone, or was closed without memory */
    struct deliver_flight *older, *newer; /* of the same consumer; NULL: none in flight */
    struct deliver_reply *replies;
    struct consumer_releases asked; /* of the body, up to asked_seq; 0: not yet */
    uint64_t asked_seq;
    bool is_behind_reset; /* that was in flight */
    bool is_released;     /* what the record settled is gone already */
    uint32_t bytes;       /* of the body, kept where messages go by it */
    char body[];
};

struct deliver_reading {
    struct store_read read; /* first */
    struct list link;
    struct deliver_consumer *x; /* NULL: the consumer has gone, or was told otherwise */
    struct consumer_pick pick;
};

struct deliver_consumer {
    struct consumer *c;
    struct js_stream *s;
    struct list ready, unsaved;
    struct wheel_timer timer;
    uint64_t unsaved_ns; /* when it is to be saved */
    uint64_t push_key;   /* in pushes; 0 none */
    uint64_t rest_ns;    /* no deliveries before */
    struct deliver_reply *replies;
    struct deliver_flight *flight; /* the newest one of it */
    struct deliver_reading *reading;
    struct wake_entry *entries; /* one or &one */
    uint32_t entry_count;
    uint32_t rest_ms; /* the last rest; 0: the last message was no trouble */
    struct wake_entry one;
};

#define OWNER(link, member) LIST_OWNER(link, struct deliver_consumer, member)

/* --- life ------------------------------------------------------------------------------------ */

void deliver_init(struct deliver *d, struct js *js, const struct deliver_port *port, void *context,
                  struct shard_time now)
{
    *d = (struct deliver){.js = js, .port = port, .context = context};
    wheel_init(&d->wheel, now.mono_ns);
    list_init(&d->ready);
    list_init(&d->unsaved);
    list_init(&d->flights);
    list_init(&d->readings);
    table_init(&d->pushes, js->mem, MEM_JETSTREAM);
    republish_init(&d->republish, js, d);
    text_init(&d->body, js->mem, MEM_JETSTREAM, RECORD_DATA_BYTES_MAX);
}

static void *allocate(struct deliver *d, size_t bytes)
{
    return mem_alloc(d->js->mem, MEM_JETSTREAM, bytes);
}

static void give_back(struct deliver *d, void *memory, size_t bytes)
{
    mem_free(d->js->mem, MEM_JETSTREAM, memory, bytes);
}

static void free_replies(struct deliver *d, struct deliver_reply *r)
{
    while (r != NULL) {
        struct deliver_reply *next = r->next;
        give_back(d, r, sizeof *r + r->bytes);
        r = next;
    }
}

static void free_flight(struct deliver *d, struct deliver_flight *f)
{
    if (f->x != NULL && f->x->flight == f) f->x->flight = f->older;
    if (f->older != NULL) f->older->newer = f->newer;
    if (f->newer != NULL) f->newer->older = f->older;
    list_remove(&f->link);
    free_replies(d, f->replies);
    give_back(d, f, sizeof *f + f->bytes);
}

/* One is kept, so that reads that do not wait allocate nothing. */
static void free_reading(struct deliver *d, struct deliver_reading *r)
{
    list_remove(&r->link);
    if (d->spare == NULL)
        d->spare = r;
    else
        give_back(d, r, sizeof *r);
}

static struct deliver_reading *take_reading(struct deliver *d)
{
    struct deliver_reading *r = d->spare;
    d->spare = NULL;
    return r != NULL ? r : allocate(d, sizeof *r);
}

static void leave_all(struct deliver *d, struct deliver_consumer *x)
{
    for (uint32_t i = 0; i < x->entry_count; i++) wake_leave(&x->s->wake, &x->entries[i]);
    if (x->entries != &x->one) give_back(d, x->entries, x->entry_count * sizeof *x->entries);
    x->entries = NULL;
    x->entry_count = 0;
}

static enum err join_all(struct deliver *d, struct deliver_consumer *x)
{
    const struct consumer *c = x->c;
    uint32_t count = c->filter_count > 1 ? c->filter_count : 1;
    must(x->entries == NULL);
    x->entries = count == 1 ? &x->one : allocate(d, count * sizeof *x->entries);
    if (x->entries == NULL) return ERR_MEMORY;
    for (uint32_t i = 0; i < count; i++) {
        struct bytes filter = c->filter_count == 0 ? EMPTY : c->filters[i];
        enum err e = wake_join(&x->s->wake, filter, &x->entries[i], x);
        if (e == ERR_OK) continue;
        for (uint32_t j = 0; j < i; j++) wake_leave(&x->s->wake, &x->entries[j]);
        if (x->entries != &x->one) give_back(d, x->entries, count * sizeof *x->entries);
        x->entries = NULL;
        return e;
    }
    x->entry_count = count;
    return ERR_OK;
}

static void stop_waiting(struct deliver_consumer *x)
{
    for (uint32_t i = 0; i < x->entry_count; i++) wake_stop(&x->s->wake, &x->entries[i]);
}

static void make_ready(struct deliver *d, struct deliver_consumer *x)
{
    stop_waiting(x);
    if (list_is_empty(&x->ready)) list_push(&d->ready, &x->ready);
}

static void arm(struct deliver *d, struct deliver_consumer *x, int64_t at_ns)
{
    if (at_ns == INT64_MAX) return;
    uint64_t at = at_ns < 0 ? 0 : (uint64_t)at_ns;
    if (wheel_is_armed(&x->timer) && x->timer.deadline_ns <= at) return;
    wheel_arm(&d->wheel, &x->timer, at);
}

static void forget_push(struct deliver *d, struct deliver_consumer *x)
{
    if (x->push_key == 0) return;
    must(table_remove(&d->pushes, x->push_key, x) == ERR_OK);
    x->push_key = 0;
}

static void be_short(struct deliver *d, struct shard_time now)
{
    d->short_ns = now.mono_ns + RETRY_NS;
}

static void bind(struct deliver *d, struct deliver_consumer *x, struct shard_time now)
{
    struct consumer *c = x->c;
    struct consumer_config config;
    struct arena arena;
    bool is_bound = c->is_bound;
    arena_init(&arena, d->js->mem, MEM_JETSTREAM);
    if (consumer_config_of(c, &arena, &config) == ERR_OK) {
        is_bound =
            x->s->outlet->is_heard(x->s->outlet, config.deliver_subject, config.deliver_group);
    } else { /* without memory for a look at the group it stays as it is, for a while */
        d->is_bind_owed = true;
        be_short(d, now);
    }
    arena_deinit(&arena);
    if (is_bound == c->is_bound) return;
    consumer_set_bound(c, is_bound, now);
    wheel_arm(&d->wheel, &x->timer, now.mono_ns);
    make_ready(d, x);
}

/* Filters and deliver subject as they are now. */
static enum err follow(struct deliver *d, struct deliver_consumer *x, struct shard_time now)
{
    if (x->entries != NULL) leave_all(d, x);
    forget_push(d, x);
    enum err e = join_all(d, x);
    if (e != ERR_OK || !consumer_is_push(x->c)) return e;
    uint64_t key = subject_hash(1, x->s->stream.account, consumer_deliver_subject(x->c)) | 1;
    e = table_insert(&d->pushes, key, x);
    if (e != ERR_OK) return e;
    x->push_key = key;
    bind(d, x, now);
    return ERR_OK;
}

static void release(struct deliver *d, struct js_stream *s, struct deliver_flight *f)
{
    const struct consumer *c = consumer_set_find_number(&s->consumers, f->consumer);
    if (f->bytes > 0 && c != NULL && !f->is_released)
        js_progress_stored(d->js, s, c, bytes_of(f->body, f->bytes), f->ticket);
    f->is_released = true;
}

/* The consumer ends, or is reset, and the record of that comes behind those in flight: what they
 * settled goes now, while the consumer is what it was. */
static void release_early(struct deliver *d, struct js_stream *s, const struct consumer *c)
{
    for (struct list *link = d->flights.next; link != &d->flights; link = link->next) {
        struct deliver_flight *f = LIST_OWNER(link, struct deliver_flight, link);
        if (f->stream == s->stream.id && f->consumer == c->number) release(d, s, f);
    }
}

/* No record will tell of their acks. */
static void refuse(struct deliver *d, struct js_stream *s, struct deliver_reply *replies)
{
    for (const struct deliver_reply *r = replies; r != NULL; r = r->next)
        s->outlet->send(s->outlet, bytes_of(r->text, r->bytes), EMPTY,
                        BYTES_LITERAL(DELIVER_NO_ANSWER));
    free_replies(d, replies);
}

static void close(struct deliver *d, struct deliver_consumer *x)
{
    struct list *link;
    x->c->owner = NULL;
    if (x->entries != NULL) leave_all(d, x);
    forget_push(d, x);
    list_remove(&x->ready);
    list_remove(&x->unsaved);
    wheel_cancel(&x->timer);
    if (x->reading != NULL) x->reading->x = NULL;
    for (link = d->flights.next; link != &d->flights; link = link->next) {
        struct deliver_flight *f = LIST_OWNER(link, struct deliver_flight, link);
        if (f->x != x) continue;
        f->x = NULL;
        x->c->has_flights = true;
    }
    refuse(d, x->s, x->replies);
    give_back(d, x, sizeof *x);
}

static bool is_urgent(const struct deliver_consumer *x)
{
    return x->replies != NULL || x->s->stream.config.retention != STREAM_LIMITS;
}

static void note_change(struct deliver *d, struct deliver_consumer *x, struct shard_time now)
{
    if (!consumer_is_unsaved(x->c)) return;
    if (list_is_empty(&x->unsaved)) {
        x->unsaved_ns = now.mono_ns + DELIVER_SAVE_MS * MS;
        list_push(&d->unsaved, &x->unsaved);
    }
    if (!is_urgent(x) || x->unsaved_ns == 0) return;
    /* Those at the head are saved at the end of the turn. */
    x->unsaved_ns = 0;
    list_remove(&x->unsaved);
    list_push(d->unsaved.next, &x->unsaved);
}

/* Somebody uses it, or something is to happen by itself. */
static bool is_used(const struct consumer *c)
{
    return consumer_is_push(c) || c->inactive_ns > 0 || c->pause_until_ns > 0 ||
           c->live->pulls.count > 0 || c->live->window.pending_count > 0 || consumer_is_unsaved(c);
}

static void close_unused(struct deliver *d, struct deliver_consumer *x)
{
    struct consumer *c = x->c;
    if (is_used(c) || x->flight != NULL || x->reading != NULL || x->replies != NULL ||
        !list_is_empty(&x->ready))
        return;
    close(d, x);
    consumer_rest(c);
}

/* Records that were on their way when it was closed without memory: who acks once more waits for
 * them. */
static void take_flights(struct deliver *d, struct deliver_consumer *x)
{
    if (!x->c->has_flights) return;
    x->c->has_flights = false;
    for (struct list *link = d->flights.next; link != &d->flights; link = link->next) {
        struct deliver_flight *f = LIST_OWNER(link, struct deliver_flight, link);
        if (f->stream != x->s->stream.id || f->consumer != x->c->number) continue;
        f->x = x;
        x->flight = f; /* the last one is the newest */
    }
}

static enum err open(struct deliver *d, struct js_stream *s, struct consumer *c,
                     struct shard_time now)
{
    struct deliver_consumer *x = allocate(d, sizeof *x);
    if (x == NULL) return ERR_MEMORY;
    *x = (struct deliver_consumer){.c = c, .s = s};
    list_init(&x->ready);
    list_init(&x->unsaved);
    wheel_timer_init(&x->timer);
    c->owner = x;
    take_flights(d, x);
    enum err e = follow(d, x, now);
    if (e != ERR_OK) {
        close(d, x);
        return e;
    }
    wheel_arm(&d->wheel, &x->timer, now.mono_ns);
    note_change(d, x, now);
    return ERR_OK;
}

void deliver_opened(struct deliver *d, struct js_stream *s, struct consumer *c,
                    struct shard_time now)
{
    must(c->owner == NULL);
    if (open(d, s, c, now) != ERR_OK) be_short(d, now);
}

void deliver_updated(struct deliver *d, struct js_stream *s, struct consumer *c,
                     struct shard_time now)
{
    struct deliver_consumer *x = c->owner;
    if (x == NULL) {
        /* Nobody uses it: but it may have to be saved, or have a time to look after now. */
        if (open(d, s, c, now) != ERR_OK) be_short(d, now);
        return;
    }
    must(x->s == s);
    if (follow(d, x, now) != ERR_OK) {
        close(d, x); /* opened again when there is memory */
        be_short(d, now);
        return;
    }
    wheel_arm(&d->wheel, &x->timer, now.mono_ns);
    note_change(d, x, now);
    make_ready(d, x);
}

void deliver_closing(struct deliver *d, struct js_stream *s, struct consumer *c)
{
    release_early(d, s, c);
    if (c->owner != NULL) close(d, c->owner);
}

/* Consumers that were opened, or looked for listeners, when there was no memory. Who uses another
 * one opens it. */
static void open_missing(struct deliver *d, struct shard_time now)
{
    uint32_t at = 0;
    struct js_stream *s;
    d->short_ns = 0;
    if (d->is_bind_owed) {
        d->is_bind_owed = false;
        deliver_interest_all(d, now);
    }
    while ((s = js_each(d->js, &at)) != NULL) {
        uint32_t at_consumer = 0;
        struct consumer *c;
        while ((c = consumer_set_each(&s->consumers, &at_consumer)) != NULL)
            if (!c->is_hidden && c->owner == NULL && is_used(c) && open(d, s, c, now) != ERR_OK) {
                be_short(d, now);
                return;
            }
    }
}

void deliver_deinit(struct deliver *d)
{
    uint32_t at = 0;
    struct js_stream *s;
    struct list *link;
    while ((s = js_each(d->js, &at)) != NULL) {
        uint32_t at_consumer = 0;
        struct consumer *c;
        while ((c = consumer_set_each(&s->consumers, &at_consumer)) != NULL)
            if (c->owner != NULL) close(d, c->owner);
    }
    while ((link = d->flights.next) != &d->flights)
        free_flight(d, LIST_OWNER(link, struct deliver_flight, link));
    while ((link = d->readings.next) != &d->readings)
        free_reading(d, LIST_OWNER(link, struct deliver_reading, link));
    give_back(d, d->spare, sizeof *d->spare);
    table_deinit(&d->pushes);
    republish_deinit(&d->republish);
    text_deinit(&d->body);
}

/* --- records --------------------------------------------------------------------------------- */

static void answer(struct deliver *d, struct js_stream *s, struct deliver_reply *replies)
{
    for (const struct deliver_reply *r = replies; r != NULL; r = r->next)
        s->outlet->send(s->outlet, bytes_of(r->text, r->bytes), EMPTY, EMPTY);
    free_replies(d, replies);
}

static void save_later(struct deliver *d, struct deliver_consumer *x, struct shard_time now)
{
    list_remove(&x->unsaved);
    x->unsaved_ns = now.mono_ns + DELIVER_SAVE_MS * MS;
    list_push(&d->unsaved, &x->unsaved);
}

/* Its body is in d->body. */
static enum err append(struct deliver *d, struct deliver_consumer *x, struct shard_time now)
{
    const struct stream *stream = &x->s->stream;
    /* An order in flight may make it an interest stream. */
    bool is_body_kept = stream->config.retention != STREAM_LIMITS || stream->order_ticket != 0;
    uint32_t bytes = is_body_kept ? (uint32_t)d->body.len : 0;
    struct deliver_flight *f = allocate(d, sizeof *f + bytes);
    if (f == NULL) return ERR_MEMORY;
    struct store_stub stub;
    struct record record = {.kind = RECORD_PROGRESS, .stream = x->s->stream.id};
    record.seq = x->c->number;
    record.prev_seq = x->c->progress + 1u;
    record.time_ns = now.wall_ns;
    record.body = text_written(&d->body);
    enum err e = store_append(d->js->file, &record, &stub);
    if (e != ERR_OK) {
        give_back(d, f, sizeof *f + bytes);
        return e;
    }
    x->c->progress++;
    *f = (struct deliver_flight){.ticket = stub.ticket,
                                 .stream = x->s->stream.id,
                                 .consumer = x->c->number,
                                 .x = x,
                                 .older = x->flight,
                                 .replies = x->replies,
                                 .is_behind_reset = x->c->is_reset && x->c->order_ticket != 0,
                                 .bytes = bytes};
#ifdef MILLRACE_BREAK_ACK_ANSWERED_EARLY
    answer(d, x->s, f->replies);
    f->replies = NULL;
#endif
    if (bytes > 0) memcpy(f->body, d->body.data, bytes);
    x->replies = NULL;
    if (f->older != NULL) f->older->newer = f;
    x->flight = f;
    list_push(&d->flights, &f->link);
    return ERR_OK;
}

/* Not ERR_OK: it is tried again later. */
static enum err save(struct deliver *d, struct deliver_consumer *x, struct shard_time now)
{
    /* A start would not know whose record it is behind that of the end. Should that one fail, this
     * comes later. */
    if (x->c->is_ending) {
        save_later(d, x, now);
        return ERR_BUSY;
    }
    text_clear(&d->body);
    consumer_encode(x->c, now, false, &d->body);
    enum err e = d->body.is_failed ? ERR_MEMORY : ERR_OK;
    if (e == ERR_OK && js_consumer_is_kept(x->s, x->c)) e = append(d, x, now);
    if (e != ERR_OK) {
        /* Without memory for the body its reader is told everything, but nothing goes by it. */
        consumer_encode_lost(x->c, d->body.is_failed ? EMPTY : text_written(&d->body));
        save_later(d, x, now);
        return e;
    }
    d->saved++;
    list_remove(&x->unsaved);
    if (js_consumer_is_kept(x->s, x->c)) return ERR_OK;
    struct deliver_reply *replies = x->replies;
    x->replies = NULL;
    answer(d, x->s, replies);
    js_progress_stored(d->js, x->s, x->c, text_written(&d->body), 0);
    close_unused(d, x);
    return ERR_OK;
}

static void save_due(struct deliver *d, struct shard_time now)
{
    struct list *link;
    while ((link = d->unsaved.next) != &d->unsaved) {
        struct deliver_consumer *x = OWNER(link, unsaved);
        if (x->unsaved_ns > now.mono_ns) return;
        (void)!save(d, x, now);
    }
}

/* Also of one that was closed without memory. */
static enum err save_now(struct deliver *d, struct js_stream *s, struct consumer *c,
                         struct shard_time now)
{
    if (!consumer_is_unsaved(c)) return ERR_OK;
    enum err e = c->owner == NULL ? open(d, s, c, now) : ERR_OK;
    return e == ERR_OK ? save(d, c->owner, now) : e;
}

enum err deliver_settling(struct deliver *d, struct js_stream *s, struct consumer *c,
                          struct shard_time now)
{
    if (s->stream.config.retention == STREAM_LIMITS || c->is_hidden) return ERR_OK;
    enum err e = save_now(d, s, c, now);
    if (e == ERR_OK) release_early(d, s, c);
    return e;
}

enum err deliver_saving(struct deliver *d, struct js_stream *s, struct shard_time now)
{
    struct list *link = d->unsaved.next;
    while (link != &d->unsaved) {
        struct deliver_consumer *x = OWNER(link, unsaved);
        link = link->next;
        /* What one that ends settles now lies behind its end, and counts for nothing. */
        if (x->s != s || x->c->is_ending || !js_consumer_is_kept(s, x->c)) continue;
        enum err e = save(d, x, now);
        if (e != ERR_OK) return e;
    }
    return ERR_OK;
}

/* The body of a record says so of a message with this subject. Asked in ascending order, as far as
 * may be: it is read once then. */
static bool settles(struct deliver_flight *f, const struct consumer *c, uint64_t seq,
                    struct bytes subject)
{
    if (f->bytes == 0 || f->is_released) return false;
    if (f->asked_seq == 0 || seq < f->asked_seq)
        consumer_releases_begin(&f->asked, bytes_of(f->body, f->bytes));
    f->asked_seq = seq;
    if (consumer_releases_next(&f->asked, seq) != seq) return false;
    return f->asked.is_named || consumer_matches(c, subject);
}

/* Its newest record in flight; NULL: none. */
static struct deliver_flight *newest_of(const struct deliver *d, const struct js_stream *s,
                                        struct consumer *c)
{
    const struct deliver_consumer *x = c->owner;
    if (x != NULL) return x->flight;
    if (!c->has_flights) return NULL;
    for (struct list *link = d->flights.prev; link != &d->flights; link = link->prev) {
        struct deliver_flight *f = LIST_OWNER(link, struct deliver_flight, link);
        if (f->stream == s->stream.id && f->consumer == c->number) return f;
    }
    c->has_flights = false;
    return NULL;
}

bool deliver_is_settled_behind(const struct deliver *d, const struct js_stream *s, uint64_t seq,
                               struct bytes subject, uint64_t ticket)
{
    uint32_t at = 0;
    struct consumer *c;
    if (s->stream.config.storage == STREAM_MEMORY) return false;
    while ((c = consumer_set_each(&s->consumers, &at)) != NULL) {
        /* Delivered before it got other filters: it needs it no more, acked or not. */
        if (!consumer_matches(c, subject)) continue;
        struct deliver_flight *f = newest_of(d, s, c);
        bool is_behind = consumer_is_unsaved(c) && consumer_is_settled_unsaved(c, seq, subject);
        for (; f != NULL && f->ticket > ticket; f = f->older)
            is_behind = is_behind || settles(f, c, seq, subject);
        /* Who acks a message once more has settled it before all the same. */
        if (is_behind && (f == NULL || f->ticket < ticket || !settles(f, c, seq, subject)))
            return true;
    }
    return false;
}

void deliver_ending(struct deliver *d, struct js_stream *s, struct consumer *c,
                    struct shard_time now)
{
    bool is_told = s->stream.config.retention != STREAM_LIMITS && js_consumer_is_kept(s, c);
    if (is_told) (void)!save_now(d, s, c, now);
}

/* A change of the stream that goes by pieces comes before it, as in the log: what a limit takes
 * must not depend on what was acked behind. */
static bool is_behind_order(const struct js_stream *s, const struct deliver_flight *f)
{
    /* That of an end says nothing. */
    uint64_t order = s->ending != NULL ? s->ending->ticket : s->stream.order_ticket;
    uint64_t sweep = s->stream.sweep_ticket;
    if (sweep != 0 && (order == 0 || sweep < order)) order = sweep;
    return f->bytes > 0 && order != 0 && order < f->ticket;
}

void deliver_store_stored(struct deliver *d, uint64_t ticket)
{
    struct list *link = d->flights.next;
    while (link != &d->flights) {
        struct deliver_flight *f = LIST_OWNER(link, struct deliver_flight, link);
        link = link->next;
        if (f->ticket > ticket) return;
        struct js_stream *s = js_find_id(d->js, f->stream);
        if (s != NULL) {
            answer(d, s, f->replies);
            f->replies = NULL;
            /* What was published before comes before it, and the rest behind: at a start a limit
             * finds room only where an earlier record made it. Without memory it comes later. */
            if (s->stream.config.storage == STREAM_FILE)
                (void)!stream_settle(&s->stream, f->ticket);
            if (is_behind_order(s, f)) continue;
            release(d, s, f);
        }
        struct deliver_consumer *x = f->x;
        free_flight(d, f);
        if (x != NULL) close_unused(d, x);
    }
}

static struct deliver_reply **end_of(struct deliver_reply **list)
{
    while (*list != NULL) list = &(*list)->next;
    return list;
}

static void append_replies(struct deliver_flight *f, struct deliver_consumer *x)
{
    *end_of(&f->replies) = x->replies;
    x->replies = f->replies;
    f->replies = NULL;
}

static void lose(struct deliver *d, struct deliver_flight *f, struct consumer *c,
                 struct shard_time now)
{
    /* What it settled the next record tells. What went early, before a reset, too: it is in the
     * log, and nobody else would let it go at a start. But not while the reset stands, since that
     * next one would settle what it passed over. */
    bool is_void = f->is_released && c->is_reset;
    struct bytes body = is_void ? EMPTY : bytes_of(f->body, f->bytes);
    if (f->is_behind_reset && c->is_undone)
        consumer_encode_undone(c, body);
    else
        consumer_encode_lost(c, body);
    if (c->owner == NULL) {
        be_short(d, now); /* it was closed without memory */
        return;
    }
    save_later(d, c->owner, now);
    /* Whoever waits for it waits for the next one, if that tells of it for certain. */
    if (!f->is_released) append_replies(f, c->owner);
}

void deliver_store_failed(struct deliver *d, uint64_t ticket, struct shard_time now)
{
    struct list *link = d->flights.next;
    while (link != &d->flights) {
        struct deliver_flight *f = LIST_OWNER(link, struct deliver_flight, link);
        link = link->next;
        if (f->ticket < ticket) continue;
        d->has_early = d->has_early || f->is_released;
        struct js_stream *s = js_find_id(d->js, f->stream);
        struct consumer *c = f->x != NULL ? f->x->c : NULL;
        if (c == NULL && s != NULL) c = consumer_set_find_number(&s->consumers, f->consumer);
        if (c != NULL) lose(d, f, c, now);
        if (s != NULL) {
            refuse(d, s, f->replies);
            f->replies = NULL;
        }
        free_flight(d, f);
    }
}

void deliver_save_early(struct deliver *d, struct shard_time now)
{
    if (LIKELY(!d->has_early)) return;
    for (struct list *link = d->unsaved.next; link != &d->unsaved;) {
        struct deliver_consumer *x = OWNER(link, unsaved);
        link = link->next;
        if (is_urgent(x) && !x->c->is_ending && save(d, x, now) != ERR_OK) return;
    }
    d->has_early = false;
}

/* --- clients --------------------------------------------------------------------------------- */

/* *is_there: it is, but memory is short if there is no result. */
static struct deliver_consumer *find(struct deliver *d, struct js_stream *s, struct bytes name,
                                     struct shard_time now, bool *is_there)
{
    struct consumer *c = consumer_set_find(&s->consumers, name);
    *is_there = c != NULL && !c->is_hidden;
    if (!*is_there) return NULL;
    if (c->owner == NULL && open(d, s, c, now) != ERR_OK) return NULL;
    return c->owner;
}

static void pull(struct deliver *d, struct deliver_consumer *x, struct bytes body,
                 struct bytes reply, struct shard_time now)
{
    struct arena arena;
    arena_init(&arena, d->js->mem, MEM_JETSTREAM);
    consumer_pull(x->c, now, &arena, body, reply, x->s->outlet);
    arena_deinit(&arena);
    /* Its timer finds the earliest end of a request. */
    wheel_arm(&d->wheel, &x->timer, now.mono_ns);
    make_ready(d, x);
}

bool deliver_pull(struct deliver *d, struct js_stream *s, struct bytes name, struct bytes body,
                  struct bytes reply, struct shard_time now)
{
    bool is_there;
    struct deliver_consumer *x = find(d, s, name, now, &is_there);
    if (x != NULL)
        pull(d, x, body, reply, now);
    else if (is_there)
        s->outlet->send(s->outlet, reply, EMPTY, BYTES_LITERAL(PULLQ_NO_MEMORY));
    return is_there;
}

static enum err answer_ack(struct deliver *d, struct deliver_consumer *x, struct bytes reply)
{
    bool is_saved = !consumer_is_unsaved(x->c) && x->flight == NULL;
    struct deliver_reply *r = is_saved ? NULL : allocate(d, sizeof *r + reply.len);
    if (is_saved) {
        x->s->outlet->send(x->s->outlet, reply, EMPTY, EMPTY);
        return ERR_OK;
    }
    if (r == NULL) return ERR_MEMORY;
    *r = (struct deliver_reply){.bytes = (uint32_t)reply.len};
    memcpy(r->text, reply.data, reply.len);
    *end_of(consumer_is_unsaved(x->c) ? &x->replies : &x->flight->replies) = r;
    return ERR_OK;
}

enum err deliver_ack(struct deliver *d, struct js_stream *s, struct bytes subject,
                     struct bytes payload, struct bytes reply, struct shard_time now)
{
    struct ack_subject a;
    struct ack_payload p;
    struct arena arena;
    if (ack_parse_subject(subject, &a) != ERR_OK) return ERR_UNKNOWN;
    bool is_there;
    struct deliver_consumer *x = find(d, s, a.consumer, now, &is_there);
    if (x == NULL) return is_there ? ERR_MEMORY : ERR_UNKNOWN;
    arena_init(&arena, d->js->mem, MEM_JETSTREAM);
    ack_parse_payload(&arena, payload, &p);
    enum err e = consumer_ack(x->c, now, &a, &p, &d->js->rng, s->outlet);
    arena_deinit(&arena);
    if (e == ERR_OK && reply.len > 0)
        e = answer_ack(d, x, reply);
    else if (e == ERR_UNKNOWN)
        e = ERR_OK;
    if (p.kind == ACK_NEXT) pull(d, x, p.next, reply, now);
    note_change(d, x, now);
    arm(d, x, x->c->expire_ns);
    make_ready(d, x);
    return e;
}

void deliver_flow(struct deliver *d, struct js_stream *s, struct bytes subject)
{
    struct bytes stream, consumer;
    if (ack_parse_flow(subject, &stream, &consumer) != ERR_OK) return;
    const struct consumer *found = consumer_set_find(&s->consumers, consumer);
    if (found == NULL || found->owner == NULL) return;
    struct deliver_consumer *x = found->owner;
    consumer_flow(x->c, subject);
    make_ready(d, x);
}

void deliver_interest(struct deliver *d, uint32_t account, struct bytes filter,
                      struct shard_time now)
{
    struct deliver_consumer *x;
    uint32_t at = 0;
    if (d->pushes.count == 0) return;
    if (subject_has_wildcard(filter)) return; /* nobody is heard by those */
    uint64_t key = subject_hash(1, account, filter) | 1;
    for (x = table_first(&d->pushes, key, &at); x != NULL; x = table_next(&d->pushes, key, &at))
        bind(d, x, now);
}

void deliver_interest_all(struct deliver *d, struct shard_time now)
{
    struct deliver_consumer *x;
    uint32_t at = 0;
    while ((x = table_each(&d->pushes, &at)) != NULL) bind(d, x, now);
}

/* --- deliveries ------------------------------------------------------------------------------ */

void deliver_stored(struct deliver *d, struct js_stream *s, uint64_t seq, uint32_t node)
{
    struct list woken;
    struct list *link;
    if (s->stream.republish != NULL) republish_add(&d->republish, s, seq, node);
    if (s->wake.waiting_count == 0) return;
    list_init(&woken);
    wake_stored(&s->wake, subject_index_subject(&s->stream.subjects, node), &woken);
    while ((link = list_pop(&woken)) != NULL)
        make_ready(d, LIST_OWNER(link, struct wake_entry, link)->owner);
}

void deliver_room(struct deliver *d, struct js_stream *s)
{
    uint32_t at = 0;
    struct consumer *c;
    while ((c = consumer_set_each(&s->consumers, &at)) != NULL) {
        struct deliver_consumer *x = c->owner;
        /* Those that wait for a message have had room all the time. */
        if (x != NULL && x->entry_count > 0 && !x->entries[0].is_waiting) make_ready(d, x);
    }
}

enum run {
    RUN_ON,        /* the next message */
    RUN_AGAIN,     /* in another turn */
    RUN_SEARCHING, /* likewise, after a long piece of a search */
    RUN_OVER,      /* something else has to happen first */
};

/* The headers of a message that goes without its body. */
static struct bytes size_headers(struct deliver *d, const struct record *r)
{
    struct text *t = &d->body;
    text_clear(t);
    if (r->headers.len > 2)
        text_bytes(t, bytes_of(r->headers.data, r->headers.len - 2));
    else
        text_string(t, "NATS/1.0\r\n");
    text_string(t, "Nats-Msg-Size: ");
    text_u64(t, r->body.len);
    text_string(t, "\r\n\r\n");
    return text_written(t);
}

static enum run retry_later(struct deliver *d, struct deliver_consumer *x, struct shard_time now)
{
    arm(d, x, (int64_t)(now.mono_ns + RETRY_NS));
    return RUN_OVER;
}

/* Not delivered: ask the consumer again. */
static enum run send(struct deliver *d, struct deliver_consumer *x,
                     const struct consumer_pick *pick, const struct record *r,
                     struct shard_time now)
{
    struct consumer_delivery *delivery = &d->delivery;
    struct consumer_message m = {
        .subject = r->subject.len, .headers = r->headers.len, .body = r->body.len};
    struct outlet *o = x->s->outlet;
    /* Behind consumer_deliver it counts as sent, and of an AckNone consumer it does not come again.
     */
    if (d->port->has_room != NULL &&
        !d->port->has_room(d->context, m.subject + m.headers + m.body + FRAME_BYTES))
        return retry_later(d, x, now);
    if (!consumer_deliver(x->c, now, pick, &m, o, delivery))
        return delivery->is_short ? retry_later(d, x, now) : RUN_ON;
    struct bytes headers = r->headers, body = r->body;
    if (delivery->headers_only) {
        headers = size_headers(d, r);
        body = EMPTY;
    }
    bool goes_on = d->port->message(d->context, x->s, delivery->target, r->subject,
                                    bytes_of(delivery->ack.text, delivery->ack.len), headers, body);
    consumer_delivered_done(x->c, now, delivery, &d->js->rng, o);
    d->delivered++;
    if (goes_on) {
        x->rest_ms = 0;
        return RUN_ON;
    }
    x->rest_ms = x->rest_ms == 0 ? DELIVER_CONGESTED_MS : x->rest_ms * 2;
    if (x->rest_ms > DELIVER_CONGESTED_MS_MAX) x->rest_ms = DELIVER_CONGESTED_MS_MAX;
    x->rest_ns = now.mono_ns + x->rest_ms * MS;
    arm(d, x, (int64_t)x->rest_ns);
    return RUN_OVER;
}

static enum run wait_for_read(struct deliver *d, struct deliver_consumer *x,
                              struct deliver_reading *r)
{
    r->x = x;
    r->pick.is_fresh = false;
    x->reading = r;
    list_push(&d->readings, &r->link);
    return RUN_OVER;
}

/* False: try again later. */
static bool failed(struct deliver *d, struct deliver_consumer *x, const struct consumer_pick *pick,
                   enum err e, struct shard_time now)
{
    struct msgs_entry entry;
    if (e == ERR_MEMORY || e == ERR_IO) {
        arm(d, x, (int64_t)(now.mono_ns + RETRY_NS));
        return false;
    }
    /* It may have gone, or moved, while the read was on its way. */
    bool has_moved =
        msgs_get(x->c->feed->msgs, pick->seq, &entry) != ERR_OK || entry.place != pick->entry.place;
    if (!has_moved) consumer_skip(x->c, pick, x->s->outlet);
    return true;
}

static enum run fetch(struct deliver *d, struct deliver_consumer *x,
                      const struct consumer_pick *pick, struct shard_time now)
{
    struct js_stream *s = x->s;
    struct record record;
    struct deliver_reading *r = take_reading(d);
    if (r == NULL) return retry_later(d, x, now);
    *r = (struct deliver_reading){.pick = *pick};
    list_init(&r->link);
    r->read = (struct store_read){
        .place = pick->entry.place, .stream = s->stream.id, .seq = pick->seq, .context = d};
    enum err e = store_read(js_store_of(d->js, s), &r->read, &record);
    if (e == ERR_BUSY) return wait_for_read(d, x, r);
    free_reading(d, r);
    if (e != ERR_OK) return failed(d, x, pick, e, now) ? RUN_ON : RUN_OVER;
    return send(d, x, pick, &record, now);
}

static enum run run_once(struct deliver *d, struct deliver_consumer *x, struct shard_time now)
{
    struct consumer_pick pick;
    switch (consumer_next(x->c, now, x->s->outlet, &pick)) {
    case CONSUMER_DELIVER: return fetch(d, x, &pick, now);
    case CONSUMER_IDLE:
        for (uint32_t i = 0; i < x->entry_count; i++) wake_wait(&x->s->wake, &x->entries[i]);
        return RUN_OVER;
    case CONSUMER_LATER: arm(d, x, pick.at_ns); return RUN_OVER;
    case CONSUMER_AGAIN: return RUN_SEARCHING;
    default: return RUN_OVER; /* a pull, an ack, an answer or its timer wakes it */
    }
}

static void run_one(struct deliver *d, struct deliver_consumer *x, struct shard_time now,
                    uint32_t *left)
{
    /* A record behind that of a change would tell of deliveries by the filters before it. */
    bool may_run = x->reading == NULL && x->rest_ns <= now.mono_ns && x->c->order_ticket == 0;
    d->delivery.ack.is_known = false;
    enum run run = may_run ? RUN_ON : RUN_OVER;
    if (x->rest_ns > now.mono_ns) arm(d, x, (int64_t)x->rest_ns);
    for (uint32_t i = 0; run == RUN_ON; i++) {
        if (i == DELIVER_RUN_MAX || *left == 0 || !d->port->may_send(d->context)) {
            run = RUN_AGAIN;
            break;
        }
        (*left)--;
        run = run_once(d, x, now);
    }
    if (run == RUN_AGAIN) make_ready(d, x);
    if (run == RUN_SEARCHING) {
        make_ready(d, x);
        *left = *left > SEARCH_COST ? *left - SEARCH_COST : 0;
    }
    note_change(d, x, now);
    arm(d, x, x->c->expire_ns);
    close_unused(d, x);
}

static void resend(struct deliver *d, const struct republish_message *m)
{
    (void)d->port->message(d->context, m->stream, m->subject, m->subject, EMPTY, m->headers,
                           m->body);
    republish_done(&d->republish);
}

/* False: not all of it. */
static bool resend_all(struct deliver *d, struct shard_time now, uint32_t *left)
{
    struct republish_message m;
    for (; d->republish.count > 0; (*left)--) {
        if (*left == 0 || !d->port->may_send(d->context)) return false;
        if (republish_next(&d->republish, &m) == REPUBLISH_NONE) break;
        resend(d, &m);
    }
    if (d->republish.is_short) be_short(d, now);
    return true;
}

void deliver_read(struct deliver *d, struct store_read *read, enum err result,
                  const struct record *record, struct shard_time now)
{
    must(deliver_is_read(d, read));
    if (read == &d->republish.read) {
        struct republish_message m;
        if (republish_read(&d->republish, result, record, &m) == REPUBLISH_SEND) resend(d, &m);
        if (d->republish.is_short) be_short(d, now);
        return;
    }
    struct deliver_reading *r = (struct deliver_reading *)read;
    struct deliver_consumer *x = r->x;
    if (x != NULL) {
        x->reading = NULL;
        bool goes_on = result == ERR_OK || failed(d, x, &r->pick, result, now);
        d->delivery.ack.is_known = false;
        if (result == ERR_OK && x->c->order_ticket == 0 && d->port->may_send(d->context))
            goes_on = send(d, x, &r->pick, record, now) == RUN_ON;
        note_change(d, x, now);
        arm(d, x, x->c->expire_ns);
        if (goes_on) make_ready(d, x);
    }
    free_reading(d, r);
}

/* --- turns ----------------------------------------------------------------------------------- */

static void end_inactive(struct deliver *d, struct deliver_consumer *x, struct shard_time now)
{
    uint64_t ticket;
    struct js_stream *s = x->s;
    struct consumer *c = x->c;
    if (c->order_ticket != 0) { /* it is being changed, or deleted already */
        wheel_arm(&d->wheel, &x->timer, now.mono_ns + DELIVER_SAVE_MS * MS);
        return;
    }
    if (!js_may_delete(s)) {
        wheel_arm(&d->wheel, &x->timer, now.mono_ns + RETRY_NS);
        return;
    }
    /* What it settled happens where the log has it, behind publishes in flight before. */
    deliver_ending(d, s, c, now);
    if (x->flight != NULL && x->flight->bytes > 0) {
        wheel_arm(&d->wheel, &x->timer, now.mono_ns + RETRY_NS);
        return;
    }
    if (d->port->gone != NULL) d->port->gone(d->context, s, c);
    if (js_consumer_delete(d->js, s, c, now.wall_ns, &ticket) == ERR_OK) return;
    wheel_arm(&d->wheel, &x->timer, now.mono_ns + DELIVER_SAVE_MS * MS);
}

static void run_timers(struct deliver *d, struct shard_time now)
{
    struct wheel_timer *t;
    while ((t = wheel_pop(&d->wheel, now.mono_ns)) != NULL) {
        struct deliver_consumer *x = LIST_OWNER(t, struct deliver_consumer, timer);
        bool is_gone;
        int64_t next_ns = consumer_timer(x->c, now, x->s->outlet, &is_gone);
        if (is_gone) {
            end_inactive(d, x, now);
            continue;
        }
        /* One that is due now again would never let the loop end. */
        if (next_ns <= (int64_t)now.mono_ns) next_ns = (int64_t)(now.mono_ns + MS);
        arm(d, x, next_ns);
        note_change(d, x, now);
        make_ready(d, x);
    }
}

void deliver_flush(struct deliver *d, struct shard_time now)
{
    struct list later;
    struct list *link;
    list_init(&later);
    /* What cannot be written now stays unsaved. */
    while ((link = list_pop(&d->unsaved)) != NULL) list_push(&later, link);
    while ((link = list_pop(&later)) != NULL) {
        list_push(&d->unsaved, link);
        (void)!save(d, OWNER(link, unsaved), now);
    }
}

/* One run of each that is ready. Those that become ready again wait for the next round. */
static void run_round(struct deliver *d, struct shard_time now, uint32_t *left)
{
    struct list round;
    struct list *link;
    list_init(&round);
    list_push(&d->ready, &round);
    list_remove(&d->ready);
    list_init(&d->ready);
    while (*left > 0 && d->port->may_send(d->context) && (link = list_pop(&round)) != NULL)
        run_one(d, OWNER(link, ready), now, left);
    /* What is left comes first next time. */
    while (!list_is_empty(&round)) {
        link = round.prev;
        list_remove(link);
        list_push(d->ready.next, link);
    }
}

bool deliver_run(struct deliver *d, struct shard_time now, uint32_t messages_max)
{
    uint32_t left = messages_max;
    if (d->short_ns != 0 && d->short_ns <= now.mono_ns) open_missing(d, now);
    run_timers(d, now);
    bool is_through = resend_all(d, now, &left);
    /* Each in turn, and again while there is room in this step: a step has its price, so the only
     * reader of a long stream should not have one for each run of it. */
    while (left > 0 && !list_is_empty(&d->ready) && d->port->may_send(d->context))
        run_round(d, now, &left);
    save_due(d, now);
    return !is_through || !list_is_empty(&d->ready);
}

uint64_t deliver_next_ns(const struct deliver *d)
{
    uint64_t next = wheel_next_ns(&d->wheel);
    if (d->short_ns != 0 && d->short_ns < next) next = d->short_ns;
    if (!list_is_empty(&d->unsaved)) {
        uint64_t at = LIST_OWNER(d->unsaved.next, struct deliver_consumer, unsaved)->unsaved_ns;
        if (at < next) next = at;
    }
    return next;
}
