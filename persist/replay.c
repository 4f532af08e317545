#include "persist/replay.h"
#include <string.h>
#include "core/base/must.h"
#include "persist/record.h"

/* Where in a segment the walk is. */
struct walk {
    struct replay_log *log;
    struct scan scan;
    struct manifest_segment *segment;
    uint32_t index;
    uint64_t at, limit;
    uint64_t group, group_last; /* that hold what is emitted: two where headers are gone */
};

void replay_init(struct replay_log *l, const struct recovery_options *o, struct recovery_counts *c,
                 struct manifest *m, struct checkpoints *checkpoints)
{
    *l = (struct replay_log){.checkpoints = checkpoints,
                             .options = o,
                             .counts = c,
                             .manifest = m,
                             .durable = m->durable_group};
#ifdef MILLRACE_BREAK_W_IGNORED
    l->durable = 0;
#endif
}

void replay_again(struct replay_log *l)
{
    l->pass = REPLAY_RECORDS;
    l->is_cut = false; /* what was cut is closed now, or holds nothing */
    l->expected = 0;
    l->place_before = 0;
}

static struct place_key key_of(const struct replay_log *l, const struct manifest_segment *s)
{
    return (struct place_key){.secret = l->manifest->secret,
                              .log = l->manifest->log,
                              .segment = s->number,
                              .incarnation = s->incarnation};
}

static enum err open_segment(const struct replay_log *l, const struct manifest_segment *s,
                             struct scan *out)
{
    struct place_key key = key_of(l, s);
    return scan_open(out, l->options->blocking, l->options->mem, &key, s->size,
                     VFS_AHEAD | (l->options->is_direct ? VFS_DIRECT : 0));
}

static enum err progress(const struct replay_log *l)
{
    const struct store_replay *replay = &l->options->replay;
    return replay->progress == NULL
               ? ERR_OK
               : replay->progress(replay->context, l->counts->bytes_read, l->counts->bytes_total);
}

/* --- what is told ------------------------------------------------------------------------- */

static enum err emit_checkpoint(struct walk *w, const struct record *r)
{
    struct replay_log *l = w->log;
    if (l->checkpoints == NULL) return ERR_OK;
    if (r->kind != RECORD_CHECKPOINT && r->kind != RECORD_STREAM_GONE) return ERR_OK;
    w->segment->has_checkpoints = true;
    if (r->kind == RECORD_STREAM_GONE) return checkpoints_end(l->checkpoints, r->stream);
    return checkpoints_take(l->checkpoints, r, w->segment->incarnation, l->manifest->log);
}

/* What a checkpoint stands for is no news, but messages say where they lie. */
static bool is_contained(const struct walk *w, const struct record *r)
{
    const struct replay_log *l = w->log;
    if (l->checkpoints == NULL) return false;
    if (r->kind == RECORD_CHECKPOINT) return true;
    /* Its name may belong to another one by now, whose checkpoint was given before. */
    if (checkpoints_is_gone(l->checkpoints, r->stream)) return true;
    if (r->kind == RECORD_MESSAGE) return false;
    /* Where nobody knows on which side of the checkpoint it lies: what can happen twice does. */
    bool can_repeat = r->kind == RECORD_PURGE || r->kind == RECORD_ERASE ||
                      r->kind == RECORD_PROGRESS || r->kind == RECORD_CONSUMER_GONE;
    return checkpoints_contain(l->checkpoints, r->stream, w->segment->incarnation, l->manifest->log,
                               can_repeat ? w->group_last : w->group);
}

static enum err emit(struct walk *w, const struct record *r, uint64_t offset, uint32_t bytes)
{
    const struct store_replay *replay = &w->log->options->replay;
    struct manifest *m = w->log->manifest;
    if (r->stream > m->stream_max) m->stream_max = r->stream;
    if (w->log->pass == REPLAY_CHECKPOINTS) return emit_checkpoint(w, r);
    if (is_contained(w, r)) return ERR_OK;
    struct store_stub stub = {.place = place_of(w->scan.key.log, w->scan.key.segment, offset),
                              .bytes = bytes};
    w->log->counts->records++;
    w->log->place_before = stub.place;
    return replay->record == NULL ? ERR_OK : replay->record(replay->context, r, &stub);
}

static void tell_now(struct walk *w, struct store_lost *lost)
{
    const struct store_replay *replay = &w->log->options->replay;
    struct recovery_counts *c = w->log->counts;
    lost->log = w->scan.key.log;
    lost->segment = w->scan.key.segment;
    lost->end = (struct store_point){w->segment->incarnation, w->group_last};
    if (lost->kind == STORE_LOST_DAMAGED) {
        w->log->has_damage = true;
        c->damaged_ranges++;
        c->damaged_bytes += lost->bytes;
    }
    if (replay->lost != NULL) replay->lost(replay->context, lost);
}

static void tell_lost(struct walk *w, struct store_lost *lost)
{
    enum replay_pass told_in = lost->kind == STORE_LOST_CUT ? REPLAY_CHECKPOINTS : REPLAY_RECORDS;
    if (w->log->pass == told_in) tell_now(w, lost);
}

/* --- damaged ranges ----------------------------------------------------------------------- */

/* A range that holds no record. The newest is held back: if it stays the only one of its group, the
 * header's count says how many records it held. */
struct salvage {
    struct store_lost lost;
    bool has_lost;
    uint32_t range_count, found;
    uint64_t room; /* for records, in all of the ranges that are not told yet */
};

static void salvage_lost(struct walk *w, struct salvage *v, uint64_t from, uint64_t to,
                         uint64_t group)
{
    if (from == to) return;
    if (v->has_lost) tell_lost(w, &v->lost);
    v->lost = (struct store_lost){.kind = STORE_LOST_DAMAGED,
                                  .offset = from,
                                  .bytes = to - from,
                                  .group = group,
                                  .place_before = w->log->place_before};
    v->has_lost = true;
    v->range_count++;
    /* A group that has lost its header still begins with the place of it. */
    uint64_t head = group == 0 && from % PLACE_BLOCK_BYTES == 0 ? GROUP_HEAD_BYTES : 0;
    v->room += to - from > head ? (to - from - head) / RECORD_BYTES_MIN : 0;
}

static enum err try_record(struct walk *w, uint64_t at, uint64_t to, struct record *r,
                           uint32_t *bytes)
{
    const char *data;
    enum err e = scan_at(&w->scan, at, RECORD_BYTES_MIN, &data);
    if (e != ERR_OK) return e;
    e = record_decode(data, RECORD_BYTES_MIN, &w->scan.key, at, r, bytes);
    if (e != ERR_INCOMPLETE) return e;
    uint32_t need = *bytes;
    if (at + need > to) return ERR_CORRUPT;
    e = scan_at(&w->scan, at, need, &data);
    if (e != ERR_OK) return e;
    return record_decode(data, need, &w->scan.key, at, r, bytes);
}

/* End of the range without the zeros at its end. */
static enum err trim(struct walk *w, uint64_t from, uint64_t to, uint64_t *end)
{
    *end = from;
    for (uint64_t at = from; at < to; at += PLACE_UNIT_BYTES) {
        const char *data;
        static const char zeros[PLACE_UNIT_BYTES] = {0};
        enum err e = scan_at(&w->scan, at, PLACE_UNIT_BYTES, &data);
        if (e != ERR_OK) return e;
        if (memcmp(data, zeros, sizeof zeros) != 0) *end = at + PLACE_UNIT_BYTES;
    }
    return ERR_OK;
}

/* How many records lie in the ranges, and of a single one what it seems to have been. */
static enum err count_lost(struct walk *w, struct salvage *v, const struct group_head *head)
{
    struct store_lost *lost = &v->lost;
    const char *data;
    lost->record_max = v->room;
    if (head == NULL || v->found > head->record_count) return ERR_OK;
    lost->record_max = head->record_count - v->found;
    if (v->range_count != 1) return ERR_OK;
    lost->has_count = true;
    lost->record_count = head->record_count - v->found;
    if (lost->record_count != 1 || lost->bytes < RECORD_BYTES_MIN) return ERR_OK;
    enum err e = scan_at(&w->scan, lost->offset, RECORD_BYTES_MIN, &data);
    if (e != ERR_OK) return e;
    struct record r;
    record_decode_parts(data, &r);
    lost->stream_hint = r.stream;
    lost->seq_hint = r.seq;
    lost->kind_hint = (uint8_t)r.kind;
    return ERR_OK;
}

static enum err salvage_tell(struct walk *w, struct salvage *v, const struct group_head *head)
{
    if (!v->has_lost) return ERR_OK;
    enum err e = count_lost(w, v, head);
    if (e != ERR_OK) return e;
    tell_lost(w, &v->lost);
    v->has_lost = false;
    v->room = 0;
    return ERR_OK;
}

/* Every record that validates in [from, to), at any multiple of 8, is replayed; the rest is told as
 * lost. head: of the group, if its header is valid; else the records are of groups up to
 * w->group_last, padding may be among the bytes, and zeros at the end of the range are taken for
 * it, unless there is nothing else. */
static enum err salvage(struct walk *w, uint64_t from, uint64_t to, const struct group_head *head)
{
    struct salvage v = {0};
    uint64_t good = from, at = from, number = head == NULL ? 0 : head->number;
    w->group = head == NULL ? w->log->expected : number;
    if (head != NULL || w->group_last < w->group) w->group_last = w->group;
    while (at + RECORD_BYTES_MIN <= to) {
        struct record r;
        uint32_t bytes;
        enum err e = try_record(w, at, to, &r, &bytes);
        if (e == ERR_OK) {
            salvage_lost(w, &v, good, at, number);
            /* A checkpoint may lie in it, and end with this record. */
            if (head == NULL) e = salvage_tell(w, &v, head);
            if (e == ERR_OK) e = emit(w, &r, at, bytes);
            if (e != ERR_OK) return e;
            v.found++;
            at += bytes;
            good = at;
        } else if (e == ERR_CORRUPT) {
            at += PLACE_UNIT_BYTES;
        } else {
            return e;
        }
    }
    uint64_t end = to;
    if (head == NULL) {
        enum err e = trim(w, good, to, &end);
        if (e != ERR_OK) return e;
        if (end == from) end = to;
    }
    salvage_lost(w, &v, good, end, number);
    /* Blocks of zeros behind it may have held some too. */
    uint64_t padded = place_block_up(end);
    if (padded < to && v.has_lost)
        v.room += (to - padded) / RECORD_BYTES_MIN;
    else if (padded < to)
        salvage_lost(w, &v, padded, to, number);
    return salvage_tell(w, &v, head);
}

/* --- the rest of the log ------------------------------------------------------------------ */

static void saw_head(struct replay_log *l, const struct group_head *h)
{
#ifndef MILLRACE_BREAK_W_IGNORED
    if (h->durable > l->durable) l->durable = h->durable;
#else
    (void)l, (void)h;
#endif
}

/* Takes W from all valid headers of s from offset on. first: the first of them, number 0 if none.
 */
static enum err survey_range(struct replay_log *l, struct scan *s, uint64_t offset, uint64_t end,
                             struct group_head *first, uint64_t *first_at)
{
    struct group_head h;
    uint64_t at;
    first->number = 0;
    enum err e;
    while ((e = scan_find(s, offset, end, &h, &at)) == ERR_OK) {
        saw_head(l, &h);
        if (first->number == 0) {
            *first = h;
            *first_at = at;
        }
        offset = at + PLACE_BLOCK_BYTES;
    }
    if (e != ERR_UNKNOWN) return e;
    /* A header that cannot be read might have moved W: no decision without it. */
    return s->error_count > 0 ? ERR_IO : ERR_OK;
}

/* Once per segment at most: after the first survey of a log, W is final. */
static enum err survey(struct walk *w)
{
    struct replay_log *l = w->log;
    if (l->surveyed_segment == w->segment->number) return ERR_OK;
    struct group_head first;
    uint64_t at;
    enum err e = survey_range(l, &w->scan, w->at, w->limit, &first, &at);
    if (e != ERR_OK) return e;
    l->next_number = 0;
    l->empty_from = first.number == 0 ? w->at : UINT64_MAX;
    for (uint32_t i = w->index + 1; i < l->manifest->count; i++) {
        const struct manifest_segment *m = &l->manifest->segments[i];
        struct scan s;
        if (m->incarnation != w->segment->incarnation) break;
        e = open_segment(l, m, &s);
        if (e != ERR_OK) return e;
        e = survey_range(l, &s, 0, m->is_closed ? m->end : m->size, &first, &at);
        scan_close(&s);
        if (e != ERR_OK) return e;
        if (l->next_number == 0 && first.number > 0) {
            l->next_number = first.number;
            l->next_offset = at;
            l->next_segment = m->number;
        }
    }
    l->surveyed_segment = w->segment->number;
    return ERR_OK;
}

/* --- the walk ----------------------------------------------------------------------------- */

/* Records between the one that is replayed and the one that is told of (enum store_nearness). */
static const uint32_t AHEAD[STORE_NEARNESS_COUNT] = {24, 12, 5};

/* The records of a group that are still to come, seen from some way ahead. */
struct outlook {
    const struct walk *walk;
    const char *data;
    uint32_t at[STORE_NEARNESS_COUNT], end;
};

static void look_ahead(struct outlook *o, enum store_nearness nearness)
{
    const struct store_replay *replay = &o->walk->log->options->replay;
    struct record r;
    uint32_t bytes;
    if (o->at[nearness] >= o->end) return;
    record_decode_checked(o->data + o->at[nearness], &r, &bytes);
    o->at[nearness] += bytes;
    replay->expect(replay->context, o->walk->log->manifest->log, r.stream, nearness);
}

static void outlook_init(struct outlook *o, const struct walk *w, const char *data, uint32_t end)
{
    bool is_wanted = w->log->pass == REPLAY_RECORDS && w->log->options->replay.expect != NULL;
    *o = (struct outlook){.walk = w, .data = data, .end = is_wanted ? end : 0};
    for (uint32_t n = 0; n < STORE_NEARNESS_COUNT; n++) {
        o->at[n] = GROUP_HEAD_BYTES;
        for (uint32_t i = 0; i < AHEAD[n]; i++) look_ahead(o, (enum store_nearness)n);
    }
}

static enum err take_group(struct walk *w, const struct group_head *h, const char *data)
{
    uint32_t at = GROUP_HEAD_BYTES, end = at + h->record_bytes, bytes;
    struct outlook outlook;
    w->group = w->group_last = h->number;
    outlook_init(&outlook, w, data, end);
    while (at < end) {
        struct record r;
        for (uint32_t n = 0; n < STORE_NEARNESS_COUNT; n++)
            look_ahead(&outlook, (enum store_nearness)n);
        record_decode_checked(data + at, &r, &bytes);
        enum err e = emit(w, &r, w->at + at, bytes);
        if (e != ERR_OK) return e;
        at += bytes;
    }
    w->log->counts->groups += w->log->pass == REPLAY_RECORDS;
    return ERR_OK;
}

static void took(struct walk *w, const struct group_head *h)
{
    if (w->segment->first_group == 0) w->segment->first_group = h->number;
    w->segment->last_group = h->number;
    w->log->expected = h->number + 1;
    w->at += h->bytes;
}

/* The next valid header of a segment that was surveyed: what held none then is not read again. */
static enum err find_surveyed(struct walk *w, uint64_t from, struct group_head *h, uint64_t *at)
{
    must(w->log->surveyed_segment == w->segment->number);
    if (from >= w->log->empty_from) return ERR_UNKNOWN;
    return scan_find(&w->scan, from, w->limit, h, at);
}

/* Nothing from here on counts. Valid groups there are told, for the log of the server. */
static enum err cut(struct walk *w)
{
    struct store_lost lost = {.kind = STORE_LOST_CUT,
                              .offset = w->at,
                              .group = w->log->expected,
                              .place_before = w->log->place_before};
    struct group_head h;
    uint64_t at, from = w->at;
    enum err e;
    while ((e = find_surveyed(w, from, &h, &at)) == ERR_OK) {
        w->log->counts->cut_groups++;
        lost.bytes = at + h.bytes - w->at;
        from = at + PLACE_BLOCK_BYTES;
    }
    if (e != ERR_UNKNOWN) return e;
    w->log->is_cut = true;
    if (lost.bytes == 0 && w->log->next_number == 0) return ERR_OK; /* simply the end */
    tell_lost(w, &lost);
    return ERR_OK;
}

/* The header at w->at is that of the group expected. */
static enum err on_group(struct walk *w, const struct group_head *h)
{
    const char *data;
    enum err e = scan_at(&w->scan, w->at, h->bytes, &data);
    if (e != ERR_OK) return e;
    saw_head(w->log, h);
    if (group_is_whole(h, data, &w->scan.key, w->at)) {
        e = take_group(w, h, data);
        if (e == ERR_OK) took(w, h);
        return e;
    }
    if (h->number > w->log->durable && !w->segment->is_closed) {
        e = survey(w);
        if (e != ERR_OK) return e;
        if (h->number > w->log->durable) return cut(w);
    }
    e = salvage(w, w->at + GROUP_HEAD_BYTES, w->at + GROUP_HEAD_BYTES + h->record_bytes, h);
    if (e == ERR_OK) took(w, h);
    return e;
}

/* The bytes from w->at to `to` held groups up to `last`, of which no header is valid. */
static enum err on_rot(struct walk *w, uint64_t to, uint64_t last)
{
    w->group_last = last;
    enum err e = salvage(w, w->at, to, NULL);
    w->at = to;
    return e;
}

/* No valid header of the group expected at w->at, in a segment whose end is known. */
static enum err on_gap_closed(struct walk *w)
{
    struct group_head h;
    uint64_t at;
    enum err e = scan_find(&w->scan, w->at, w->limit, &h, &at);
    if (e == ERR_UNKNOWN) return on_rot(w, w->limit, w->segment->last_group);
    if (e != ERR_OK) return e;
    e = on_rot(w, at, h.number - 1);
    w->log->expected = h.number;
    return e;
}

static enum err on_gap(struct walk *w)
{
    struct replay_log *l = w->log;
    if (w->segment->is_closed) return on_gap_closed(w);
    enum err e = survey(w);
    if (e != ERR_OK) return e;
    struct group_head h;
    uint64_t at;
    e = find_surveyed(w, w->at, &h, &at);
    if (e != ERR_OK && e != ERR_UNKNOWN) return e;
    bool is_here = e == ERR_OK;
    uint64_t next = is_here ? h.number : l->next_number;
    if (!is_here && next == l->expected && l->next_offset == 0) {
        w->limit = w->at; /* the log goes on in the next segment, nothing is missing */
        return ERR_OK;
    }
    if (l->expected > l->durable) return cut(w);
    uint64_t last = next > 0 && next - 1 < l->durable ? next - 1 : l->durable;
    e = on_rot(w, is_here ? at : w->limit, last);
    if (e != ERR_OK) return e;
    w->segment->last_group = last;
    l->expected = w->segment->last_group + 1;
    return ERR_OK;
}

static enum err walk(struct walk *w)
{
    struct replay_log *l = w->log;
    while (w->at < w->limit && !l->is_cut) {
        struct group_head h;
        enum err e = scan_head(&w->scan, w->at, &h);
        if (e != ERR_OK && e != ERR_CORRUPT) return e;
        if (e == ERR_OK && l->expected == 0) l->expected = h.number;
        bool is_next = e == ERR_OK && h.number == l->expected && w->at + h.bytes <= w->limit;
        e = is_next ? on_group(w, &h) : on_gap(w);
        if (e == ERR_OK) e = progress(l);
        if (e != ERR_OK) return e;
    }
    return ERR_OK;
}

/* Nothing in it is of interest to this pass. */
static bool is_passed_over(const struct replay_log *l, const struct manifest_segment *s)
{
    if (l->pass == REPLAY_RECORDS) return !s->is_closed;
    return s->is_closed ? !s->has_checkpoints : l->is_cut;
}

/* A segment that may hold groups has its file, in full length, before the manifest names it (P7).
 */
static void tell_missing(struct walk *w)
{
    uint64_t have = w->scan.is_missing ? 0 : w->scan.file_bytes;
    if (have >= w->segment->size) return;
    struct store_lost lost = {
        .kind = STORE_LOST_DAMAGED, .offset = have, .bytes = w->segment->size - have};
    tell_now(w, &lost);
}

enum err replay_segment(struct replay_log *l, uint32_t index)
{
    struct walk w = {.log = l, .segment = &l->manifest->segments[index], .index = index};
    struct manifest_segment *s = w.segment;
    if (l->expected == 0 && s->first_group > 0) l->expected = s->first_group;
    if (l->expected == 0 && index == 0 && l->manifest->replay_segment == 0) l->expected = 1;
    if (s->is_closed && s->last_group > l->durable) l->durable = s->last_group;
    if (is_passed_over(l, s)) {
        if (s->is_closed && s->last_group > 0) l->expected = s->last_group + 1;
        return ERR_OK;
    }
    enum err e = open_segment(l, s, &w.scan);
    if (e != ERR_OK) return e;
    w.limit = s->is_closed ? s->end : s->size;
    if (!s->is_closed) tell_missing(&w);
    e = walk(&w);
    l->counts->read_errors += w.scan.error_count;
    l->counts->bytes_read += w.scan.read_bytes;
    scan_close(&w.scan);
    if (e != ERR_OK) return e;
    if (!s->is_closed && s->last_group > 0) {
        s->is_closed = true;
        s->end = w.at;
    }
    if (s->last_group > 0) l->expected = s->last_group + 1;
    return ERR_OK;
}
