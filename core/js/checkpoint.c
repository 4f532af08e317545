#include "core/js/checkpoint.h"
#include "core/base/must.h"
#include "core/base/varint.h"

enum { VERSION = 1 };

/* --- writing --------------------------------------------------------------------------------- */

static bool is_behind(const struct js *js, struct js_stream *s)
{
    const struct staged *staged = &s->stream.staged;
    uint32_t at = 0;
    const struct consumer *c;
    uint64_t told = js->told_ticket;
    if (s->is_hidden || s->restore != NULL) return true;
    /* Orders that are not told of yet come behind the checkpoint. */
    if (s->stream.order_ticket != 0 && s->stream.order_ticket <= told) return true;
    if (staged->op_count > 0 && staged->ops[staged->op_head].ticket <= told) return true;
    while ((c = consumer_set_each(&s->consumers, &at)) != NULL)
        /* Hidden ones too: their record would be behind us, and they would not be in the
         * checkpoint. */
        if (c->order_ticket != 0 && c->order_ticket <= told) return true;
    return false;
}

static void write_gaps(const struct stream *s, struct text *out)
{
    uint64_t end = s->seq_first, first = s->seq_first, last;
    while (s->msgs.live_count > 0 && msgs_gap(&s->msgs, s->seq_last, &first, &last)) {
        varint_put(out, first - end);
        varint_put(out, last - first + 1);
        end = first = last + 1;
    }
    varint_put(out, 0);
    varint_put(out, 0);
}

/* Only these streams have flags that matter; the others are not looked through. */
static void write_flags(const struct stream *s, struct text *out)
{
    struct msgs_cursor cursor;
    struct msgs_entry entry;
    uint64_t seq, before = 0;
    if (s->config.allow_msg_ttl || s->config.subject_delete_marker_ttl > 0) {
        msgs_cursor_init(&cursor, &s->msgs, 0);
        while ((seq = msgs_cursor_next(&cursor, &entry)) != 0) {
            if ((entry.bytes & ~STAGED_BYTES_MASK) == 0) continue;
            varint_put(out, seq - before);
            varint_put(out, entry.bytes & ~STAGED_BYTES_MASK);
            before = seq;
        }
    }
    varint_put(out, 0);
}

static void write_lives(const struct stream *s, struct text *out)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < s->ttl.count; i++) count += msgs_has(&s->msgs, s->ttl.entries[i].seq);
    varint_put(out, count);
    for (uint32_t i = 0; i < s->ttl.count; i++) {
        const struct msg_ttl_entry *e = &s->ttl.entries[i];
        if (!msgs_has(&s->msgs, e->seq)) continue;
        varint_put(out, e->seq);
        varint_put_signed(out, e->deadline_ns);
    }
}

/* Those in flight are not part of the state. */
static void write_ids(const struct stream *s, struct text *out)
{
    uint32_t count = s->dedupe.count;
    uint64_t seq = 0;
    int64_t time_ns = 0;
    while (count > 0 && dedupe_at(&s->dedupe, count - 1)->seq > s->seq_last) count--;
    varint_put(out, count);
    for (uint32_t i = 0; i < count; i++) {
        const struct dedupe_entry *e = dedupe_at(&s->dedupe, i);
        text_bytes(out, bytes_of((const char *)&e->hash, sizeof e->hash));
        varint_put(out, e->seq - seq);
        varint_put_signed(out, e->time_ns - time_ns);
        seq = e->seq;
        time_ns = e->time_ns;
    }
}

static enum err write_consumer(const struct js_stream *s, const struct consumer *c,
                               struct text *part, struct text *out)
{
    struct arena arena;
    struct consumer_config config;
    arena_init(&arena, s->js->mem, MEM_JETSTREAM);
    enum err e = consumer_config_of(c, &arena, &config);
    text_clear(part);
    if (e == ERR_OK && !js_consumer_record(&config, c->created_ns, part)) e = ERR_MEMORY;
    varint_put(out, c->number);
    varint_put(out, c->progress);
    varint_put_signed(out, s->js->clock.wall_ns);
    varint_put_bytes(out, c->name);
    varint_put_bytes(out, text_written(part));
    text_clear(part);
    consumer_encode_copy(c, s->js->clock, part);
    varint_put_bytes(out, text_written(part));
    arena_deinit(&arena);
    return e == ERR_OK && part->is_failed ? ERR_MEMORY : e;
}

static bool is_written(const struct js_stream *s, const struct consumer *c)
{
    return !c->is_hidden && js_consumer_is_kept(s, c);
}

static enum err write_consumers(struct js_stream *s, struct text *part, struct text *out)
{
    uint32_t at = 0;
    uint64_t count = 0;
    const struct consumer *c;
    enum err e = ERR_OK;
    while ((c = consumer_set_each(&s->consumers, &at)) != NULL) count += is_written(s, c);
    varint_put(out, count);
    at = 0;
    while (e == ERR_OK && (c = consumer_set_each(&s->consumers, &at)) != NULL)
        if (is_written(s, c)) e = write_consumer(s, c, part, out);
    return e;
}

enum err checkpoint_write(struct js *js, uint64_t stream, struct text *out)
{
    struct js_stream *s = js_find_id(js, stream);
    if (s == NULL || s->stream.config.storage == STREAM_MEMORY) return ERR_UNKNOWN;
    if (is_behind(js, s)) return ERR_BUSY;
    const struct stream *m = &s->stream;
    struct text part;
    text_init(&part, js->mem, MEM_JETSTREAM, JS_REPLY_BYTES_MAX);
    varint_put(out, VERSION);
    text_bytes(&part, s->account_name);
    text_char(&part, ' ');
    text_bytes(&part, m->config.name);
    varint_put_bytes(out, text_written(&part));
    text_clear(&part);
    enum err e = js_config_record(&m->config, m->created_ns, &part) ? ERR_OK : ERR_MEMORY;
    varint_put_bytes(out, text_written(&part));
    varint_put(out, m->seq_first);
    varint_put(out, m->seq_last);
    varint_put_signed(out, m->time_last_ns);
    varint_put_signed(out, m->clock_ns);
    varint_put(out, m->msgs.live_count);
    /* What is in flight may have set it; a message that is replayed sets it again. */
    varint_put_bytes(out, m->staged.op_count > 0 ? bytes_of(NULL, 0)
                                                 : bytes_of(m->last_id, m->last_id_len));
    varint_put(out, s->consumers.number_next);
    write_gaps(m, out);
    write_flags(m, out);
    write_lives(m, out);
    write_ids(m, out);
    if (e == ERR_OK) e = write_consumers(s, &part, out);
    text_deinit(&part);
    return e == ERR_OK && out->is_failed ? ERR_MEMORY : e;
}

/* --- loading --------------------------------------------------------------------------------- */

struct checkpoint_restore {
    uint64_t seq_first, seq_last, live_count;
    struct bytes gaps, flags, tail; /* in state: what of each is left */
    uint64_t gap_first, gap_end;    /* the next range without messages; equal: there is none */
    uint64_t flag_seq, flag;        /* the next message with flags; 0 none */
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
                                     .seq_first = h.seq_first,
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

enum err checkpoint_place(struct js_stream *s, const struct record *r, uint64_t place)
{
    struct checkpoint_restore *x = s->restore;
    /* A second copy of one, or what came back from before a range that was purged. */
    if (r->seq < x->seq_first || r->seq < s->stream.msgs.seq_end) return ERR_OK;
    while (x->gap_first < x->gap_end && r->seq >= x->gap_end)
        if (!next_gap(x)) return ERR_CORRUPT;
    if (r->seq >= x->gap_first && r->seq < x->gap_end) return ERR_OK;
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
    stream_restore_end(&s->stream);
    /* What went since by a limit may have no place any more: its pack went with it. */
    if (found < x->live_count) s->messages_missing = x->live_count - found;
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
