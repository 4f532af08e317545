#include "persist/pack_index.h"
#include "core/base/table.h"
#include "persist/wire.h"

_Static_assert(PACK_INDEX_MESSAGES_MAX < UINT16_MAX, "numbers of subjects fit the hash");

/* --- building ----------------------------------------------------------------------------- */

void pack_index_init(struct pack_index *x, struct mem *mem)
{
    *x = (struct pack_index){.mem = mem};
    text_init(&x->text, mem, MEM_STORE, PACK_INDEX_SUBJECTS_BYTES + RECORD_SUBJECT_BYTES_MAX);
}

void pack_index_deinit(struct pack_index *x)
{
    text_deinit(&x->text);
}

void pack_index_reset(struct pack_index *x, uint64_t stream)
{
    x->stream = stream;
    x->count = x->subject_count = x->subject_last = 0;
    x->at_last = 0;
    memset(x->hash, 0, sizeof x->hash);
    text_clear(&x->text);
}

static bool is_subject(const struct pack_index *x, uint32_t number, struct bytes subject)
{
    const struct pack_index_subject *s = &x->table[number];
    return s->bytes == subject.len &&
           memcmp(x->text.data + s->text_at, subject.data, subject.len) == 0;
}

static enum err number_of(struct pack_index *x, struct bytes subject, uint32_t *number)
{
    uint64_t slot = hash_bytes(subject.data, subject.len, 0) % PACK_INDEX_HASH_SLOTS;
    while (x->hash[slot] != 0) {
        *number = x->hash[slot] - 1u;
        if (is_subject(x, *number, subject)) return ERR_OK;
        slot = (slot + 1) % PACK_INDEX_HASH_SLOTS;
    }
    if (x->text.len > PACK_INDEX_SUBJECTS_BYTES) return ERR_FULL;
    uint32_t text_at = (uint32_t)x->text.len;
    text_bytes(&x->text, subject);
    if (x->text.is_failed) return ERR_MEMORY;
    *number = x->subject_count++;
    x->table[*number] =
        (struct pack_index_subject){.text_at = text_at, .bytes = (uint16_t)subject.len};
    x->hash[slot] = (uint16_t)(*number + 1);
    return ERR_OK;
}

enum err pack_index_add(struct pack_index *x, const struct pack_index_message *m)
{
    must(m->stream == x->stream);
    if (x->count == PACK_INDEX_MESSAGES_MAX) return ERR_FULL;
    if (x->count > 0 && m->seq - x->seq_last > UINT32_MAX) return ERR_FULL;
    uint32_t number;
    enum err e = number_of(x, m->subject, &number);
    if (e != ERR_OK) return e;
    if (x->count == 0) {
        x->seq_first = m->seq;
        x->seq_before = x->seq_last = m->seq - 1;
        x->time_first = x->time_before = x->time_last = m->time_ns;
        x->at_first = m->at;
    }
    uint32_t i = x->count++;
    x->seqs[i] = (uint32_t)(m->seq - x->seq_last);
    x->times[i] = (uint64_t)m->time_ns - (uint64_t)x->time_last;
    x->ats[i] = (uint32_t)((m->at - x->at_last) / PLACE_UNIT_BYTES);
    x->headers[i] = m->headers_bytes;
    x->bodies[i] = m->body_bytes;
    x->subjects[i] = number - x->subject_last;
    x->table[number].count++;
    x->seq_last = m->seq;
    x->time_last = m->time_ns;
    x->at_last = m->at;
    x->subject_last = number;
    return ERR_OK;
}

static void put(struct text *out, const void *data, size_t bytes)
{
    text_bytes(out, (struct bytes){data, bytes});
}

void pack_index_encode(const struct pack_index *x, struct text *out)
{
    char head[PACK_INDEX_HEAD_BYTES];
    wire_put_u32(head, x->count);
    wire_put_u32(head + 4, x->subject_count);
    wire_put_u64(head + 8, x->stream);
    wire_put_u64(head + 16, x->seq_before);
    wire_put_u64(head + 24, (uint64_t)x->time_before);
    put(out, head, sizeof head);
    put(out, x->seqs, x->count * sizeof *x->seqs);
    put(out, x->ats, x->count * sizeof *x->ats);
    put(out, x->headers, x->count * sizeof *x->headers);
    put(out, x->bodies, x->count * sizeof *x->bodies);
    put(out, x->subjects, x->count * sizeof *x->subjects);
    put(out, x->times, x->count * sizeof *x->times);
    for (uint32_t i = 0; i < x->subject_count; i++) {
        char entry[6];
        wire_put_u32(entry, x->table[i].count);
        wire_put_u16(entry + 4, x->table[i].bytes);
        put(out, entry, sizeof entry);
        put(out, x->text.data + x->table[i].text_at, x->table[i].bytes);
    }
}

/* --- reading ------------------------------------------------------------------------------ */

enum column { SEQ, AT, HEADERS, BODY, SUBJECT, COLUMNS_OF_4 };

static uint32_t column(const struct pack_index_reader *r, enum column c, uint32_t i)
{
    return wire_u32(r->data + PACK_INDEX_HEAD_BYTES + ((size_t)c * r->count + i) * 4);
}

static uint64_t time_column(const struct pack_index_reader *r, uint32_t i)
{
    return wire_u64(r->data + PACK_INDEX_HEAD_BYTES + (size_t)COLUMNS_OF_4 * r->count * 4 +
                    (size_t)i * 8);
}

enum err pack_index_open(struct pack_index_reader *r, const char *raw, size_t len,
                         uint32_t *subject_at)
{
    if (len < PACK_INDEX_HEAD_BYTES) return ERR_CORRUPT;
    *r = (struct pack_index_reader){.data = raw,
                                    .len = len,
                                    .count = wire_u32(raw),
                                    .subject_count = wire_u32(raw + 4),
                                    .stream = wire_u64(raw + 8),
                                    .seq = wire_u64(raw + 16),
                                    .time_ns = (int64_t)wire_u64(raw + 24),
                                    .subject_at = subject_at};
    if (r->count > PACK_INDEX_MESSAGES_MAX || r->subject_count > r->count) return ERR_CORRUPT;
    size_t at = PACK_INDEX_HEAD_BYTES + (size_t)r->count * PACK_INDEX_MESSAGE_BYTES;
    for (uint32_t i = 0; i < r->subject_count; i++) {
        if (at + 6 > len) return ERR_CORRUPT;
        subject_at[i] = (uint32_t)at + 4;
        at += 6 + (size_t)wire_u16(raw + at + 4);
    }
    if (at != len) return ERR_CORRUPT;
    for (uint32_t i = 0, number = 0, units = 0; i < r->count; i++) {
        number += column(r, SUBJECT, i);
        units += column(r, AT, i);
        if (number >= r->subject_count || units >= PACK_RECORDS_BYTES_MAX / PLACE_UNIT_BYTES)
            return ERR_CORRUPT;
    }
    return ERR_OK;
}

bool pack_index_next(struct pack_index_reader *r, struct pack_index_message *out)
{
    if (r->at == r->count) return false;
    uint32_t i = r->at++;
    r->seq += column(r, SEQ, i);
    r->units += column(r, AT, i);
    r->time_ns = (int64_t)((uint64_t)r->time_ns + time_column(r, i));
    r->subject += column(r, SUBJECT, i);
    const char *subject = r->data + r->subject_at[r->subject];
    *out = (struct pack_index_message){.stream = r->stream,
                                       .seq = r->seq,
                                       .time_ns = r->time_ns,
                                       .at = (uint64_t)r->units * PLACE_UNIT_BYTES,
                                       .headers_bytes = column(r, HEADERS, i),
                                       .body_bytes = column(r, BODY, i),
                                       .subject = {subject + 2, wire_u16(subject)}};
    return true;
}
