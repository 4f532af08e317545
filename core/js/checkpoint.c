#include "core/js/checkpoint.h"
#include "core/base/must.h"
#include "core/base/varint.h"
#include "core/js/consumer_pack.h"

enum { VERSION = 1 };

/* --- writing --------------------------------------------------------------------------------- */

static bool is_behind(const struct js *js, struct js_stream *s)
{
    const struct staged *staged = &s->stream.staged;
    uint32_t at = 0;
    const struct consumer *c;
    uint64_t told = js->told_ticket;
    if (s->is_hidden || s->restore != NULL) return true;
    /* The record of the consumer that ended would find no consumer, and what is left of this. */
    if (s->ending != NULL || s->sweeps > 0) return true;
    /* Orders that are not told of yet come behind the checkpoint. */
    if (s->stream.order_ticket != 0 && s->stream.order_ticket <= told) return true;
    if (staged->op_count > 0 && staged->ops[staged->op_head].ticket <= told) return true;
    while ((c = consumer_set_each(&s->consumers, &at)) != NULL)
        /* Hidden ones too: their record would be behind us, and they would not be in the
         * checkpoint. */
        if (c->order_ticket != 0 && c->order_ticket <= told) return true;
    return false;
}

/* A message that went after the state was taken, and had not been written yet. */
struct gone {
    uint64_t seq;
    uint32_t flags;
};

enum {
    FRESH_MAX = 512,     /* sorted in one by one, before all that went is merged with them */
    GONE_MAX = 1 << 18,  /* then the state is let go of, and a larger step is taken next time */
    STEP_SHIFT_MAX = 12, /* a step of 64 million: nearly any stream in one piece */
    COUNT_BYTES = 5,     /* a number of 32 bits, written before it is known */
    CONSUMER_COST = 32,  /* messages that take as long as a consumer */
    LOOK_AHEAD = 8,      /* consumers that are fetched from memory before they are needed */
};

enum phase { WRITING_GAPS, WRITING_FLAGS, WRITING_LIVES, WRITING_IDS, WRITING_CONSUMERS };

/* The state of one stream that is being written, as of the moment when that began. */
struct checkpoint_writer {
    struct js_stream *s;
    enum phase phase;
    bool has_flags, is_void;
    uint64_t seq_first, seq_last, live_count; /* of the state */
    uint64_t seq;                             /* what is below is written */
    uint64_t end;                             /* of the last range or message that was written */
    int64_t id_time_ns;                       /* of the last id */
    uint32_t id_count;
    size_t count_at;             /* in out: where the number of ids goes */
    struct msg_ttl_entry *lives; /* of the state: life_count, written up to life_at */
    uint32_t life_count, life_at;
    int64_t wall_ns;       /* of the state */
    struct text consumers; /* of the state, each as keep_consumer has it */
    uint64_t consumer_count;
    struct bytes consumers_left; /* in consumers */
    struct gone *gone; /* by sequence: gone_count of gone_room, those in fresh come to them */
    uint32_t gone_count, gone_room, fresh_count;
    struct gone fresh[FRESH_MAX]; /* by sequence */
    uint32_t left;                /* of this step */
};

/* True: this step may go on. */
static bool spend_more(struct checkpoint_writer *x, uint32_t cost)
{
    if (x->left == 0) return false;
    x->left -= cost < x->left ? cost : x->left;
    return true;
}

static bool spend(struct checkpoint_writer *x)
{
    return spend_more(x, 1);
}

static void end_writer(struct js *js)
{
    struct checkpoint_writer *x = js->writer;
    if (x == NULL) return;
    mem_free(js->mem, MEM_JETSTREAM, x->lives, x->life_count * sizeof *x->lives);
    text_deinit(&x->consumers);
    mem_free(js->mem, MEM_JETSTREAM, x->gone, x->gone_room * sizeof *x->gone);
    mem_free(js->mem, MEM_JETSTREAM, x, sizeof *x);
    js->writer = NULL;
}

/* Those in fresh find their places among the others. False: there are too many. */
static bool merge_gone(struct js *js, struct checkpoint_writer *x)
{
    uint32_t count = x->gone_count + x->fresh_count, from = x->gone_count;
    if (count > GONE_MAX) return false;
    if (count > x->gone_room) {
        uint32_t room = x->gone_room == 0 ? FRESH_MAX : x->gone_room * 2;
        struct gone *grown = mem_resize(js->mem, MEM_JETSTREAM, x->gone,
                                        x->gone_room * sizeof *grown, room * sizeof *grown);
        if (grown == NULL) return false;
        x->gone = grown;
        x->gone_room = room;
    }
    x->gone_count = count;
    for (uint32_t fresh = x->fresh_count; fresh > 0;) {
        bool is_old = from > 0 && x->gone[from - 1].seq > x->fresh[fresh - 1].seq;
        x->gone[--count] = is_old ? x->gone[--from] : x->fresh[--fresh];
    }
    x->fresh_count = 0;
    return true;
}

void checkpoint_removed(struct js *js, const struct js_stream *s, uint64_t seq, uint32_t flags)
{
    struct checkpoint_writer *x = js->writer;
    if (x == NULL || x->s != s || x->is_void || seq > x->seq_last) return;
    bool is_awaited = x->has_flags ? x->phase <= WRITING_FLAGS : x->phase == WRITING_GAPS;
    if (!is_awaited || (!x->has_flags && seq < x->seq)) return;
    if (x->fresh_count == FRESH_MAX && !merge_gone(js, x)) {
        x->is_void = true;
        return;
    }
    uint32_t at = x->fresh_count++;
    for (; at > 0 && x->fresh[at - 1].seq > seq; at--) x->fresh[at] = x->fresh[at - 1];
    x->fresh[at] = (struct gone){seq, flags};
}

void checkpoint_cleared(struct js *js, const struct js_stream *s)
{
    struct checkpoint_writer *x = js->writer;
    if (x != NULL && x->s == s && x->phase <= WRITING_IDS) x->is_void = true;
}

void checkpoint_stop_writing(struct js *js, const struct js_stream *s)
{
    if (js->writer != NULL && (s == NULL || js->writer->s == s)) end_writer(js);
}

/* Of count entries in the order of their sequences the first one from seq on. */
static uint32_t find_from(const void *entries, uint32_t count, uint64_t seq,
                          uint64_t (*seq_at)(const void *entries, uint32_t i))
{
    uint32_t low = 0, high = count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (seq_at(entries, middle) < seq)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static uint64_t seq_of_gone(const void *gone, uint32_t i)
{
    return ((const struct gone *)gone)[i].seq;
}

static uint32_t find_gone(const struct checkpoint_writer *x, uint64_t seq)
{
    return find_from(x->gone, x->gone_count, seq, seq_of_gone);
}

static void write_gap(struct checkpoint_writer *x, uint64_t first, uint64_t last, struct text *out)
{
    varint_put(out, first - x->end);
    varint_put(out, last - first + 1);
    x->end = last + 1;
}

/* False: there is more. */
static bool write_gaps(struct checkpoint_writer *x, struct text *out)
{
    const struct msgs *m = &x->s->stream.msgs;
    uint32_t at = find_gone(x, x->seq);
    while (x->live_count > 0 && x->seq <= x->seq_last) {
        uint64_t first = x->seq, last = x->seq_last;
        if (!spend(x)) return false;
        if (m->live_count > 0 && !msgs_gap(m, x->seq_last, &first, &last)) break;
        /* What went since is live in this state. */
        for (; at < x->gone_count && x->gone[at].seq <= last; at++) {
            x->seq = first;
            if (!spend(x)) return false;
            if (x->gone[at].seq > first) write_gap(x, first, x->gone[at].seq - 1, out);
            first = x->gone[at].seq + 1;
        }
        if (first <= last) write_gap(x, first, last, out);
        x->seq = last + 1;
    }
    varint_put(out, 0);
    varint_put(out, 0);
    return true;
}

static void write_flag(struct checkpoint_writer *x, uint64_t seq, uint32_t flags, struct text *out)
{
    if (flags == 0) return;
    varint_put(out, seq - x->end);
    varint_put(out, flags);
    x->end = seq;
}

/* Only some streams have flags that matter; the others are not looked through. False: there is
 * more. */
static bool write_flags(struct checkpoint_writer *x, struct text *out)
{
    struct msgs_cursor cursor;
    struct msgs_entry entry;
    uint32_t at = find_gone(x, x->seq);
    msgs_cursor_init(&cursor, &x->s->stream.msgs, x->seq);
    while (x->has_flags) {
        uint64_t seq = msgs_cursor_next(&cursor, &entry);
        if (seq == 0 || seq > x->seq_last) seq = x->seq_last + 1;
        for (; at < x->gone_count && x->gone[at].seq < seq; at++) {
            x->seq = x->gone[at].seq;
            if (!spend(x)) return false;
            write_flag(x, x->seq, x->gone[at].flags, out);
        }
        x->seq = seq;
        if (seq > x->seq_last) break;
        if (!spend(x)) return false;
        write_flag(x, seq, entry.bytes & ~STAGED_BYTES_MASK, out);
        x->seq = seq + 1;
    }
    varint_put(out, 0);
    return true;
}

/* Those that are over, too, where they wait for their markers. */
static enum err keep_lives(struct checkpoint_writer *x, struct mem *mem, const struct stream *s)
{
    const struct due *d = &s->due;
    uint32_t count = s->ttl.count;
    for (uint32_t i = d->first; i < d->end; i++) count += d->entries[i].deadline_ns != 0;
    if (count == 0) return ERR_OK;
    x->lives = mem_alloc(mem, MEM_JETSTREAM, count * sizeof *x->lives);
    if (x->lives == NULL) return ERR_MEMORY;
    x->life_count = count;
    if (s->ttl.count > 0) memcpy(x->lives, s->ttl.entries, s->ttl.count * sizeof *x->lives);
    count = s->ttl.count;
    for (uint32_t i = d->first; i < d->end; i++)
        if (d->entries[i].deadline_ns != 0) x->lives[count++] = d->entries[i];
    return ERR_OK;
}

/* Entries of messages that went by another way are passed over when they are read. False: there is
 * more. */
static bool write_lives(struct checkpoint_writer *x, struct text *out)
{
    for (; x->life_at < x->life_count; x->life_at++) {
        if (!spend(x)) return false;
        varint_put(out, x->lives[x->life_at].seq);
        varint_put_signed(out, x->lives[x->life_at].deadline_ns);
    }
    return true;
}

static uint64_t seq_of_id(const void *dedupe, uint32_t i)
{
    return dedupe_at(dedupe, i)->seq;
}

/* Those in flight are not part of the state. What leaves the window meanwhile is left out: no
 * record was made that it would have kept away. False: there is more. */
static bool write_ids(struct checkpoint_writer *x, struct text *out)
{
    const struct dedupe *d = &x->s->stream.dedupe;
    for (uint32_t i = find_from(d, d->count, x->seq, seq_of_id); i < d->count; i++) {
        const struct dedupe_entry *e = dedupe_at(d, i);
        if (e->seq > x->seq_last) break;
        if (!spend(x)) return false;
        x->seq = e->seq + 1;
        if (e->time_ns < d->forgotten_ns) continue;
        text_bytes(out, bytes_of((const char *)&e->hash, sizeof e->hash));
        varint_put(out, e->seq - x->end);
        varint_put_signed(out, e->time_ns - x->id_time_ns);
        x->end = e->seq;
        x->id_time_ns = e->time_ns;
        x->id_count++;
    }
    if (out->is_failed) return true;
    uint32_t count = x->id_count;
    for (int i = 0; i < COUNT_BYTES; i++, count >>= 7)
        out->data[x->count_at + (size_t)i] = (char)(count & 0x7f);
    for (int i = 0; i < COUNT_BYTES - 1; i++)
        out->data[x->count_at + (size_t)i] = (char)(out->data[x->count_at + (size_t)i] | 0x80);
    return true;
}

/* A consumer as it is now, in the least that makes what is written of it. */
static void keep_consumer(const struct js *js, const struct consumer *c, struct text *state,
                          struct text *out)
{
    varint_put(out, c->number);
    varint_put(out, c->progress);
    varint_put_signed(out, c->created_ns);
    varint_put_bytes(out, bytes_of(c->packed, c->packed_bytes));
    text_clear(state);
    consumer_encode_copy(c, js->clock, state);
    varint_put_bytes(out, text_written(state));
}

static bool is_written(const struct js_stream *s, const struct consumer *c)
{
    return !c->is_hidden && js_consumer_is_kept(s, c);
}

static enum err keep_consumers(struct checkpoint_writer *x, struct text *state)
{
    const struct consumer_set *set = &x->s->consumers;
    uint32_t count = consumer_set_count(set);
    for (uint32_t i = 0; i < count && !state->is_failed; i++) {
        if (i + LOOK_AHEAD < count) consumer_expect(set->numbers[i + LOOK_AHEAD]);
        if (i + LOOK_AHEAD / 2 < count) consumer_expect_parts(set->numbers[i + LOOK_AHEAD / 2]);
        if (!is_written(x->s, set->numbers[i])) continue;
        keep_consumer(x->s->js, set->numbers[i], state, &x->consumers);
        x->consumer_count++;
    }
    x->consumers_left = text_written(&x->consumers);
    return state->is_failed || x->consumers.is_failed ? ERR_MEMORY : ERR_OK;
}

static enum err write_consumer(struct checkpoint_writer *x, struct text *record, struct text *out)
{
    struct bytes *rest = &x->consumers_left, packed, state;
    struct arena arena;
    struct consumer_config config;
    uint64_t number, progress;
    int64_t created_ns;
    must(varint_get(rest, &number) && varint_get(rest, &progress) &&
         varint_get_signed(rest, &created_ns) && varint_get_bytes(rest, &packed) &&
         varint_get_bytes(rest, &state));
    arena_init(&arena, record->mem, MEM_JETSTREAM);
    enum err e = consumer_pack_read(&arena, packed, &config);
    text_clear(record);
    if (e == ERR_OK && !js_consumer_record(&config, created_ns, record)) e = ERR_MEMORY;
    if (e == ERR_OK) {
        varint_put(out, number);
        varint_put(out, progress);
        varint_put_signed(out, x->wall_ns);
        varint_put_bytes(out, config.name);
        varint_put_bytes(out, text_written(record));
        varint_put_bytes(out, state);
    }
    arena_deinit(&arena);
    return e;
}

/* ERR_INCOMPLETE: there is more. */
static enum err write_consumers(struct checkpoint_writer *x, struct mem *mem, struct text *out)
{
    struct text record;
    enum err e = ERR_OK;
    text_init(&record, mem, MEM_JETSTREAM, JS_REPLY_BYTES_MAX);
    while (e == ERR_OK && x->consumers_left.len > 0)
        e = spend_more(x, CONSUMER_COST) ? write_consumer(x, &record, out) : ERR_INCOMPLETE;
    text_deinit(&record);
    return e;
}

static enum err write_head(struct js_stream *s, struct text *part, struct text *out)
{
    const struct stream *m = &s->stream;
    varint_put(out, VERSION);
    text_bytes(part, s->account_name);
    text_char(part, ' ');
    text_bytes(part, m->config.name);
    varint_put_bytes(out, text_written(part));
    text_clear(part);
    enum err e = js_config_record(&m->config, m->created_ns, part) ? ERR_OK : ERR_MEMORY;
    varint_put_bytes(out, text_written(part));
    varint_put(out, m->seq_first);
    varint_put(out, m->seq_last);
    varint_put_signed(out, m->time_last_ns);
    varint_put_signed(out, m->clock_ns);
    varint_put(out, m->msgs.live_count);
    /* What is in flight may have set it; a message that is replayed sets it again. */
    varint_put_bytes(out, m->staged.op_count > 0 ? bytes_of(NULL, 0)
                                                 : bytes_of(m->last_id, m->last_id_len));
    varint_put(out, s->consumers.number_next);
    return e;
}

/* Takes all that is of this moment, but for what messages are; as it is in memory where there may
 * be much of it. */
static enum err begin_writing(struct js *js, struct js_stream *s, struct text *out)
{
    const struct stream *m = &s->stream;
    struct text part;
    struct checkpoint_writer *x = mem_alloc_zero(js->mem, MEM_JETSTREAM, sizeof *x);
    if (x == NULL) return ERR_MEMORY;
    js->writer = x;
    x->s = s;
    x->seq_first = x->seq = x->end = m->seq_first;
    x->seq_last = m->seq_last;
    x->live_count = m->msgs.live_count;
    x->has_flags = m->config.allow_msg_ttl || m->config.subject_delete_marker_ttl > 0;
    x->wall_ns = js->clock.wall_ns;
    text_init(&x->consumers, js->mem, MEM_JETSTREAM, SIZE_MAX / 4);
    text_init(&part, js->mem, MEM_JETSTREAM, JS_REPLY_BYTES_MAX);
    enum err e = write_head(s, &part, out);
    if (e == ERR_OK) e = keep_lives(x, js->mem, m);
    if (e == ERR_OK) e = keep_consumers(x, &part);
    text_deinit(&part);
    return e;
}

/* ERR_INCOMPLETE: there is more. */
static enum err go_on_writing(struct js *js, struct text *out)
{
    struct checkpoint_writer *x = js->writer;
    uint32_t shift = js->checkpoint_shift;
    enum err e = ERR_OK;
    if (x->is_void || !merge_gone(js, x)) {
        if (shift < STEP_SHIFT_MAX) js->checkpoint_shift++;
        return ERR_BUSY;
    }
    x->left = (js->checkpoint_step << shift) + 1; /* a gap, and one that went from it */
    switch (x->phase) {
    case WRITING_GAPS:
        if (!write_gaps(x, out)) return ERR_INCOMPLETE;
        x->phase = WRITING_FLAGS;
        x->seq = x->seq_first;
        x->end = 0;
        /* fall through */
    case WRITING_FLAGS:
        if (!write_flags(x, out)) return ERR_INCOMPLETE;
        x->phase = WRITING_LIVES;
        varint_put(out, x->life_count);
        /* fall through */
    case WRITING_LIVES:
        if (!write_lives(x, out)) return ERR_INCOMPLETE;
        x->phase = WRITING_IDS;
        x->seq = x->end = 0;
        x->count_at = out->len;
        text_fill(out, 0, COUNT_BYTES);
        /* fall through */
    case WRITING_IDS:
        if (!write_ids(x, out)) return ERR_INCOMPLETE;
        x->phase = WRITING_CONSUMERS;
        varint_put(out, x->consumer_count);
        /* fall through */
    case WRITING_CONSUMERS: e = write_consumers(x, js->mem, out);
    }
    if (e == ERR_OK) js->checkpoint_shift = 0;
    return e;
}

enum err checkpoint_write(struct js *js, uint64_t stream, struct text *out)
{
    struct js_stream *s = js_find_id(js, stream);
    bool goes_on = out->len > 0 && js->writer != NULL && js->writer->s == s;
    enum err e = ERR_OK;
    if (!goes_on) end_writer(js);
    if (s == NULL || s->stream.config.storage == STREAM_MEMORY) return ERR_UNKNOWN;
    if (!goes_on) {
        if (out->len > 0 || is_behind(js, s)) return ERR_BUSY;
        e = begin_writing(js, s, out);
    }
    if (e == ERR_OK) e = go_on_writing(js, out);
    if (e == ERR_INCOMPLETE && !out->is_failed) return e;
    end_writer(js);
    return (e == ERR_OK || e == ERR_INCOMPLETE) && out->is_failed ? ERR_MEMORY : e;
}

/* --- loading --------------------------------------------------------------------------------- */

struct checkpoint_restore {
    uint64_t seq_first, seq_last, live_count;
    uint64_t seq_next;              /* what lies before it was found, or will not be */
    struct bytes gaps, flags, tail; /* in state: what of each is left */
    uint64_t gap_first, gap_end;    /* the next range without messages; equal: there is none */
    uint64_t flag_seq, flag;        /* the next message with flags; 0 none */
    struct store_point point;       /* it stands for the records up to here */
    uint32_t account;
    size_t bytes;
    char state[]; /* a copy of what is behind the head: it is read as messages come */
};

struct head {
    struct bytes name, config, last_id;
    uint64_t seq_first, seq_last, live_count, number_next;
    int64_t time_last_ns, clock_ns;
};

static bool get_head(struct bytes *rest, struct head *h)
{
    uint64_t version;
    return varint_get(rest, &version) && version == VERSION && varint_get_bytes(rest, &h->name) &&
           varint_get_bytes(rest, &h->config) && varint_get(rest, &h->seq_first) &&
           varint_get(rest, &h->seq_last) && varint_get_signed(rest, &h->time_last_ns) &&
           varint_get_signed(rest, &h->clock_ns) && varint_get(rest, &h->live_count) &&
           varint_get_bytes(rest, &h->last_id) && h->last_id.len <= STREAM_LAST_ID_BYTES &&
           varint_get(rest, &h->number_next) && h->number_next > 0;
}

enum err checkpoint_name(struct bytes body, struct bytes *account_and_name)
{
    uint64_t version;
    bool is_good = varint_get(&body, &version) && version == VERSION &&
                   varint_get_bytes(&body, account_and_name);
    return is_good ? ERR_OK : ERR_CORRUPT;
}

static bool next_gap(struct checkpoint_restore *x)
{
    uint64_t skip, count;
    if (!varint_get(&x->gaps, &skip) || !varint_get(&x->gaps, &count)) return false;
    x->gap_first = x->gap_end + skip;
    x->gap_end = x->gap_first + count;
    return true;
}

static bool next_flag(struct checkpoint_restore *x)
{
    uint64_t skip;
    if (!varint_get(&x->flags, &skip)) return false;
    x->flag_seq = skip == 0 ? 0 : x->flag_seq + skip;
    return skip == 0 || varint_get(&x->flags, &x->flag);
}

/* Past the ranges and the flags, which are read again as messages come. */
static bool split(struct checkpoint_restore *x, struct bytes rest)
{
    uint64_t skip, count;
    x->gaps = rest;
    do
        if (!varint_get(&rest, &skip) || !varint_get(&rest, &count)) return false;
    while (count > 0);
    x->flags = rest;
    for (;;) {
        if (!varint_get(&rest, &skip)) return false;
        if (skip == 0) break;
        if (!varint_get(&rest, &count)) return false;
    }
    x->tail = rest;
    x->gap_first = x->gap_end = x->seq_first;
    x->flag_seq = 0;
    return next_gap(x) && next_flag(x);
}

static enum err make_stream(struct js *js, uint32_t account, uint64_t id, const struct head *h,
                            struct js_stream **s)
{
    struct record r = {.kind = RECORD_STREAM, .stream = id, .subject = h->name, .body = h->config};
    if (js_find_id(js, id) != NULL) return ERR_CORRUPT;
    enum err e = js_replay(js, account, &r, 0);
    if (e != ERR_OK) return e;
    *s = js_find_id(js, id);
    must(*s != NULL);
    return ERR_OK;
}

enum err checkpoint_load(struct js *js, uint32_t account, const struct record *r)
{
    struct head h;
    struct bytes rest = r->body;
    struct js_stream *s;
    if (!get_head(&rest, &h)) return ERR_CORRUPT;
    struct checkpoint_restore *x = mem_alloc(js->mem, MEM_JETSTREAM, sizeof *x + rest.len);
    if (x == NULL) return ERR_MEMORY;
    *x = (struct checkpoint_restore){.bytes = rest.len,
                                     .account = account,
                                     .point = {(uint32_t)r->seq, r->prev_seq},
                                     .seq_first = h.seq_first,
                                     .seq_next = h.seq_first,
                                     .seq_last = h.seq_last,
                                     .live_count = h.live_count};
    if (rest.len > 0) memcpy(x->state, rest.data, rest.len);
    enum err e = split(x, bytes_of(x->state, rest.len)) ? ERR_OK : ERR_CORRUPT;
    if (e == ERR_OK) e = make_stream(js, account, r->stream, &h, &s);
    if (e != ERR_OK) goto free;
    e = stream_restore_begin(&s->stream, h.seq_first, h.seq_last, h.time_last_ns, h.clock_ns,
                             h.last_id);
    if (e != ERR_OK) goto drop;
    if (h.number_next > s->consumers.number_next) s->consumers.number_next = h.number_next;
    s->restore = x;
    return ERR_OK;
drop:
    js_drop(js, s);
free:
    mem_free(js->mem, MEM_JETSTREAM, x, sizeof *x + x->bytes);
    return e;
}

bool checkpoint_knows(const struct js_stream *s, const struct record *r)
{
    return s->restore != NULL && r->kind == RECORD_MESSAGE && r->seq <= s->restore->seq_last;
}

/* Nothing was found from seq_next to here, where something is, or nothing was. In a store without
 * damage it died since. */
static void pass_missing(struct js_stream *s, struct checkpoint_restore *x, uint64_t to,
                         uint64_t next)
{
    if (x->seq_next < to && s->js->is_damaged)
        lost_add(&s->stream.lost, s->js->mem, x->seq_next, to - 1, 0);
    x->seq_next = next;
}

enum err checkpoint_place(struct js_stream *s, const struct record *r, uint64_t place)
{
    struct checkpoint_restore *x = s->restore;
    /* A second copy of one, or what came back from before a range that was purged. */
    if (r->seq < x->seq_first || r->seq < s->stream.msgs.seq_end) return ERR_OK;
    while (x->gap_first < x->gap_end && r->seq >= x->gap_end) {
        pass_missing(s, x, x->gap_first, x->gap_end);
        if (!next_gap(x)) return ERR_CORRUPT;
    }
    if (r->seq >= x->gap_first && r->seq < x->gap_end) return ERR_OK;
    pass_missing(s, x, r->seq, r->seq + 1);
    while (x->flag_seq != 0 && x->flag_seq < r->seq)
        if (!next_flag(x)) return ERR_CORRUPT;
    uint32_t flags = x->flag_seq == r->seq ? (uint32_t)x->flag & ~STAGED_BYTES_MASK : 0;
    return stream_restore_message(&s->stream, r, place, flags);
}

static enum err load_lives(struct stream *s, struct bytes *rest)
{
    uint64_t count, seq;
    int64_t deadline_ns;
    if (!varint_get(rest, &count)) return ERR_CORRUPT;
    for (; count > 0; count--) {
        if (!varint_get(rest, &seq) || !varint_get_signed(rest, &deadline_ns)) return ERR_CORRUPT;
        if (deadline_ns <= 0) return ERR_CORRUPT;
        enum err e =
            msgs_has(&s->msgs, seq) ? msg_ttl_add(&s->ttl, &s->msgs, seq, deadline_ns) : ERR_OK;
        if (e != ERR_OK) return e;
    }
    return ERR_OK;
}

static enum err load_ids(struct stream *s, struct bytes *rest)
{
    uint64_t count, skip, seq = 0;
    int64_t passed, time_ns = 0;
    if (!varint_get(rest, &count)) return ERR_CORRUPT;
    for (; count > 0; count--) {
        struct hash128 hash;
        if (rest->len < sizeof hash) return ERR_CORRUPT;
        memcpy(&hash, rest->data, sizeof hash);
        *rest = bytes_of(rest->data + sizeof hash, rest->len - sizeof hash);
        if (!varint_get(rest, &skip) || !varint_get_signed(rest, &passed)) return ERR_CORRUPT;
        if (skip == 0 || __builtin_add_overflow(seq, skip, &seq) ||
            __builtin_add_overflow(time_ns, passed, &time_ns))
            return ERR_CORRUPT;
        enum err e = dedupe_add(&s->dedupe, hash, seq, time_ns);
        if (e != ERR_OK) return e;
    }
    return ERR_OK;
}

/* Nothing is released here: what is live the checkpoint says, and the other consumers that need it
 * may not be there yet. What no record tells of stays unsaved, and is released in the end. */
static enum err load_consumer(struct js_stream *s, uint32_t account, struct bytes *rest)
{
    struct record r = {.kind = RECORD_CONSUMER, .stream = s->stream.id};
    struct bytes progress;
    uint64_t number;
    int64_t time_ns;
    if (!varint_get(rest, &r.seq) || !varint_get(rest, &number) ||
        !varint_get_signed(rest, &time_ns) || !varint_get_bytes(rest, &r.subject) ||
        !varint_get_bytes(rest, &r.body) || !varint_get_bytes(rest, &progress))
        return ERR_CORRUPT;
    enum err e = js_replay(s->js, account, &r, 0);
    if (e != ERR_OK) return e;
    struct consumer *c = consumer_set_find_number(&s->consumers, r.seq);
    must(c != NULL);
    e = consumer_apply_copy(c, progress, time_ns, s->js->now);
    if (e != ERR_OK) return e;
    c->progress = (uint32_t)number;
    consumer_set_moved_back(&s->consumers);
    return ERR_OK;
}

static enum err load_tail(struct js_stream *s, const struct checkpoint_restore *x)
{
    struct bytes rest = x->tail;
    uint64_t count;
    enum err e = load_lives(&s->stream, &rest);
    if (e == ERR_OK) e = load_ids(&s->stream, &rest);
    if (e != ERR_OK) return e;
    if (!varint_get(&rest, &count)) return ERR_CORRUPT;
    for (; count > 0 && e == ERR_OK; count--) e = load_consumer(s, x->account, &rest);
    return e;
}

enum err checkpoint_end(struct js_stream *s)
{
    struct checkpoint_restore *x = s->restore;
    if (x == NULL) return ERR_OK;
    s->restore = NULL; /* what follows are records like others */
    uint64_t found = s->stream.msgs.live_count;
    /* What went since by a limit or an ack may have no place any more: its segment was freed.
     * Beyond what damage can have taken all did. */
    uint64_t missing = found < x->live_count ? x->live_count - found : 0;
    stream_restore_end(&s->stream, missing);
    struct damage_asker asker = {s->stream.id, x->seq_first, x->seq_last};
    uint64_t most = damage_most(&s->js->damage, x->point, &asker);
    s->messages_lost += missing < most ? missing : most;
    while (s->js->is_damaged && x->gap_first < x->gap_end) {
        pass_missing(s, x, x->gap_first, x->gap_end);
        if (!next_gap(x)) break;
    }
    pass_missing(s, x, x->seq_last + 1, x->seq_last + 1);
    if (most == 0) {
        lost_free(s->stream.lost);
        s->stream.lost = NULL;
    } else if (missing > most) {
        lost_forget(s->stream.lost, s->stream.seq_first);
    }
    uint32_t passed = damage_before(&s->js->damage, x->point);
    if (passed > s->passed) s->passed = passed;
    enum err e = load_tail(s, x);
    s->restore = x;
    checkpoint_drop(s);
    return e;
}

void checkpoint_drop(struct js_stream *s)
{
    struct checkpoint_restore *x = s->restore;
    if (x == NULL) return;
    mem_free(s->js->mem, MEM_JETSTREAM, x, sizeof *x + x->bytes);
    s->restore = NULL;
}

/* --- what the store asks --------------------------------------------------------------------- */

enum store_fate checkpoint_fate(const struct js *js, bool keeps_unknown, uint64_t stream,
                                uint64_t seq, uint64_t place)
{
    const struct js_stream *s = js_find_id(js, stream);
    struct msgs_entry entry;
    if (s == NULL) return keeps_unknown ? STORE_KEEP : STORE_DEAD;
    if (msgs_get(&s->stream.msgs, seq, &entry) != ERR_OK) {
        /* Told as stored, but there was no memory yet to make it visible. */
        const struct staged_op *op = staged_find(&s->stream.staged, seq);
        return op != NULL && op->place == place ? STORE_LIVE : STORE_DEAD;
    }
    return entry.place == place ? STORE_LIVE : STORE_DEAD;
}

uint64_t checkpoint_count(const struct js *js, bool keeps_unknown, uint64_t stream,
                          uint64_t seq_first, uint64_t seq_last)
{
    const struct js_stream *s = js_find_id(js, stream);
    if (s == NULL) return keeps_unknown ? seq_last - seq_first + 1 : 0;
    return msgs_count(&s->stream.msgs, seq_first, seq_last);
}

enum err checkpoint_moved(struct js *js, uint64_t stream, uint64_t seq, uint64_t from, uint64_t to)
{
    struct js_stream *s = js_find_id(js, stream);
    struct msgs_entry entry;
    if (s == NULL) return ERR_OK;
    if (msgs_get(&s->stream.msgs, seq, &entry) != ERR_OK) {
        staged_move(&s->stream.staged, seq, from, to);
        return ERR_OK;
    }
    if (entry.place != from) return ERR_OK;
    return msgs_set_place(&s->stream.msgs, seq, to);
}
