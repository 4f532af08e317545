#include "core/js/republish.h"
#include "core/base/must.h"
#include "core/js/msg_headers.h"
#include "core/route/subject.h"

enum { ROOM_MIN = 64 };

void republish_init(struct republish *r, struct js *js, void *context)
{
    *r = (struct republish){.js = js, .read = {.context = context}};
    text_init(&r->headers, js->mem, MEM_JETSTREAM, RECORD_DATA_BYTES_MAX);
}

static struct republish_item *item_at(const struct republish *r, uint32_t index)
{
    return &r->items[(r->head + index) & (r->room - 1)];
}

static void pop(struct republish *r)
{
    const struct republish_item *item = item_at(r, 0);
    if (item->is_memory) memstore_release(&r->js->memory, item->place);
    r->head = (r->head + 1) & (r->room - 1);
    r->count--;
    r->is_reading = false;
}

void republish_deinit(struct republish *r)
{
    while (r->count > 0) pop(r);
    mem_free(r->js->mem, MEM_JETSTREAM, r->items, r->room * sizeof *r->items);
    text_deinit(&r->headers);
}

static bool grow(struct republish *r)
{
    uint32_t room = r->room == 0 ? ROOM_MIN : r->room * 2;
    if (r->count < r->room) return true;
    if (r->count == REPUBLISH_WAITING_MAX) return false;
    struct republish_item *items = mem_alloc(r->js->mem, MEM_JETSTREAM, room * sizeof *items);
    if (items == NULL) return false;
    for (uint32_t i = 0; i < r->count; i++) items[i] = *item_at(r, i);
    mem_free(r->js->mem, MEM_JETSTREAM, r->items, r->room * sizeof *r->items);
    r->items = items;
    r->room = room;
    r->head = 0;
    return true;
}

void republish_add(struct republish *r, struct js_stream *s, uint64_t seq, uint32_t node)
{
    struct msgs_entry entry;
    struct bytes subject = subject_index_subject(&s->stream.subjects, node);
    if (s->stream.republish == NULL || transform_match(s->stream.republish, subject) != ERR_OK)
        return;
    must(msgs_get(&s->stream.msgs, seq, &entry) == ERR_OK);
    if (!grow(r)) {
        r->dropped++;
        return;
    }
    bool is_memory = s->stream.config.storage == STREAM_MEMORY;
    if (is_memory) memstore_retain(&r->js->memory, entry.place);
    r->count++;
    *item_at(r, r->count - 1) = (struct republish_item){
        .stream = s->stream.id, .seq = seq, .place = entry.place, .is_memory = is_memory};
}

static void write_headers(struct text *out, const struct stream *s, const struct record *m)
{
    text_clear(out);
    msg_headers_write(s, m, out);
    text_string(out, "\r\nNats-Last-Sequence: ");
    text_u64(out, m->prev_seq);
    if (s->config.republish->headers_only) {
        text_string(out, "\r\nNats-Msg-Size: ");
        text_u64(out, m->body.len);
    }
    text_string(out, "\r\n\r\n");
}

/* Not ERR_OK: no memory, or it goes nowhere. */
static enum err compose(struct republish *r, struct js_stream *s, const struct record *record,
                        struct republish_message *m)
{
    struct writer w;
    writer_init(&w, r->subject, sizeof r->subject);
    if (transform_match(s->stream.republish, record->subject) != ERR_OK ||
        transform_apply(s->stream.republish, record->subject, &r->js->rng, &w) != ERR_OK)
        return ERR_DENIED;
    if (!subject_is_literal(writer_written(&w))) return ERR_DENIED;
    write_headers(&r->headers, &s->stream, record);
    *m = (struct republish_message){
        .stream = s, .subject = writer_written(&w), .headers = text_written(&r->headers)};
    if (!s->stream.config.republish->headers_only) m->body = record->body;
    return r->headers.is_failed ? ERR_MEMORY : ERR_OK;
}

/* Where it lies now: what waits long may be moved meanwhile, and its old place be used again. */
static uint64_t place_of(const struct republish_item *item, const struct js_stream *s)
{
    struct msgs_entry entry;
    bool is_live = !item->is_memory && msgs_get(&s->stream.msgs, item->seq, &entry) == ERR_OK;
    return is_live ? entry.place : item->place;
}

enum republish_step republish_next(struct republish *r, struct republish_message *m)
{
    struct record record;
    r->is_short = false;
    if (r->is_reading) return REPUBLISH_NONE;
    for (; r->count > 0; pop(r)) {
        const struct republish_item *item = item_at(r, 0);
        struct js_stream *s = js_find_id(r->js, item->stream);
        if (s == NULL || s->stream.republish == NULL) continue; /* no more */
        r->read = (struct store_read){.place = place_of(item, s),
                                      .stream = item->stream,
                                      .seq = item->seq,
                                      .context = r->read.context};
        enum err e = store_read(js_store_of(r->js, s), &r->read, &record);
        r->is_reading = e == ERR_BUSY;
        if (e == ERR_OK) e = compose(r, s, &record, m);
        if (e == ERR_OK) return REPUBLISH_SEND;
        r->is_short = e == ERR_MEMORY;
        if (r->is_reading || r->is_short) return REPUBLISH_NONE;
        r->dropped += e != ERR_DENIED;
    }
    return REPUBLISH_NONE;
}

enum republish_step republish_read(struct republish *r, enum err result,
                                   const struct record *record, struct republish_message *m)
{
    must(r->is_reading);
    must(r->count > 0);
    r->is_reading = false;
    const struct republish_item *item = item_at(r, 0);
    struct js_stream *s = js_find_id(r->js, item->stream);
    bool is_wanted = s != NULL && s->stream.republish != NULL;
    enum err e = is_wanted ? result : ERR_DENIED;
    if (e == ERR_OK) e = compose(r, s, record, m);
    if (e == ERR_OK) return REPUBLISH_SEND;
    r->is_short = e == ERR_MEMORY || (is_wanted && place_of(item, s) != r->read.place);
    if (r->is_short) return REPUBLISH_NONE;
    r->dropped += e != ERR_DENIED;
    pop(r);
    return REPUBLISH_NONE;
}

void republish_done(struct republish *r)
{
    must(r->count > 0);
    pop(r);
}
