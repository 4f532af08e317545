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

static bool compose(struct republish *r, struct js_stream *s, const struct record *record,
                    struct republish_message *m)
{
    struct writer w;
    writer_init(&w, r->subject, sizeof r->subject);
    if (transform_match(s->stream.republish, record->subject) != ERR_OK ||
        transform_apply(s->stream.republish, record->subject, &r->js->rng, &w) != ERR_OK)
        return false;
    if (!subject_is_literal(writer_written(&w))) return false;
    write_headers(&r->headers, &s->stream, record);
    *m = (struct republish_message){
        .stream = s, .subject = writer_written(&w), .headers = text_written(&r->headers)};
    if (!s->stream.config.republish->headers_only) m->body = record->body;
    return !r->headers.is_failed;
}

enum republish_step republish_next(struct republish *r, struct republish_message *m)
{
    struct record record;
    if (r->is_reading) return REPUBLISH_NONE;
    for (; r->count > 0; pop(r), r->dropped++) {
        const struct republish_item *item = item_at(r, 0);
        struct js_stream *s = js_find_id(r->js, item->stream);
        if (s == NULL || s->stream.republish == NULL) continue; /* no more */
        r->read = (struct store_read){.place = item->place,
                                      .stream = item->stream,
                                      .seq = item->seq,
                                      .context = r->read.context};
        enum err e = store_read(js_store_of(r->js, s), &r->read, &record);
        if (e == ERR_BUSY) {
            r->is_reading = true;
            return REPUBLISH_NONE;
        }
        if (e == ERR_OK && compose(r, s, &record, m)) return REPUBLISH_SEND;
    }
    return REPUBLISH_NONE;
}

enum republish_step republish_read(struct republish *r, enum err result,
                                   const struct record *record, struct republish_message *m)
{
    must(r->is_reading);
    must(r->count > 0);
    r->is_reading = false;
    struct js_stream *s = js_find_id(r->js, item_at(r, 0)->stream);
    if (result == ERR_OK && s != NULL && s->stream.republish != NULL && compose(r, s, record, m))
        return REPUBLISH_SEND;
    pop(r);
    r->dropped++;
    return REPUBLISH_NONE;
}

void republish_done(struct republish *r)
{
    must(r->count > 0);
    pop(r);
}
