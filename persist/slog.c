#include "persist/slog.h"
#include <string.h>
#include "core/base/must.h"
#include "persist/names.h"
#include "persist/record.h"

static void go_on(struct slog *l);

/* --- events ------------------------------------------------------------------------------- */

static void tell_stored(struct slog *l)
{
    uint64_t ticket = l->commit.written_ticket;
    struct store_event *last = l->event_count == 0 ? NULL : &l->events[l->event_count - 1];
    if (last != NULL && last->kind == STORE_STORED) {
        last->ticket = ticket;
        l->event_groups[l->event_count - 1] = l->commit.written;
        return;
    }
    must(l->event_count < SLOG_EVENTS_MAX);
    l->event_groups[l->event_count] = l->commit.written;
    l->events[l->event_count++] = (struct store_event){.kind = STORE_STORED, .ticket = ticket};
}

static void tell_failed(struct slog *l, uint64_t ticket, enum err e)
{
    must(l->event_count < SLOG_EVENTS_MAX);
    l->events[l->event_count++] =
        (struct store_event){.kind = STORE_FAILED, .ticket = ticket, .err = e};
    l->untold_count++;
}

bool slog_next_event(struct slog *l, struct store_event *out)
{
    if (l->is_telling) l->untold_count--; /* who heard of it last has drawn its conclusions */
    l->is_telling = false;
    if (l->event_count > 0) {
        *out = l->events[0];
        l->is_telling = out->kind == STORE_FAILED;
        if (out->kind == STORE_STORED) {
            l->told_group = l->event_groups[0];
            l->told_ticket = out->ticket;
        }
        l->event_count--;
        memmove(l->events, l->events + 1, l->event_count * sizeof *l->events);
        memmove(l->event_groups, l->event_groups + 1, l->event_count * sizeof *l->event_groups);
        return true;
    }
    return reader_next(&l->reader, out);
}

/* --- the manifest ------------------------------------------------------------------------- */

static void free_manifest_data(struct slog *l)
{
    mem_free(l->options.mem, MEM_STORE, l->manifest_data, l->manifest_bytes);
    l->manifest_data = NULL;
}

static void read_only(struct slog *l)
{
    if (l->state == SLOG_READ_ONLY) return;
    l->state = SLOG_READ_ONLY;
    l->counts.failures++;
}

void slog_give_up(struct slog *l)
{
    if (l->state == SLOG_OPENING || l->state == SLOG_RUNNING) read_only(l);
}

static void on_manifest(struct pair *p)
{
    struct slog *l = p->context;
    free_manifest_data(l);
    if (p->result == ERR_OK)
        l->manifest_written = l->manifest_writing;
    else
        read_only(l);
    go_on(l);
}

static void write_manifest(struct slog *l)
{
    if (l->pair.state != PAIR_IDLE || l->manifest_data != NULL) return;
    if (l->manifest_written == l->manifest_wanted) return;
    l->manifest_bytes = manifest_bytes(&l->manifest);
    l->manifest_data = mem_alloc(l->options.mem, MEM_STORE, l->manifest_bytes);
    if (l->manifest_data == NULL) return; /* the next turn tries again */
    l->manifest.generation++;
    l->manifest.durable_group = l->commit.durable;
    l->manifest.next_group = l->commit.durable + 1;
    manifest_encode(&l->manifest, l->manifest_data);
    l->manifest_writing = l->manifest_wanted;
    l->counts.manifests++;
    if (pair_write(&l->pair, l->manifest_data, l->manifest_bytes) != ERR_OK) free_manifest_data(l);
}

/* --- segments ------------------------------------------------------------------------------ */

static struct place_key key_of(const struct slog *l, uint32_t segment)
{
    return (struct place_key){.secret = l->manifest.secret,
                              .log = l->manifest.log,
                              .segment = segment,
                              .incarnation = l->manifest.incarnation};
}

static void name_made(struct slog *l, const struct slog_ready *ready, bool is_fresh)
{
    l->has_no_space = ready->is_small; /* it was all that there is room for */
    l->made = *ready;
    struct manifest_segment entry = {.number = ready->number,
                                     .incarnation = l->manifest.incarnation,
                                     .size = ready->size,
                                     .is_scrubbed = ready->is_scrubbed,
                                     .is_fresh = is_fresh};
    /* No group has gone anywhere since the last segment went, so the next one goes here. */
    if (l->manifest.count == 0) entry.first_group = l->commit.written + 1;
    /* Room for both was made before the preparation began. */
    must(manifest_add(&l->manifest, &entry) == ERR_OK);
    must(l->manifest.next_segment == ready->number);
    l->manifest.next_segment++;
    l->make_wanted = ++l->manifest_wanted;
    l->counts.segments++;
}

/* What is left of the current segment. */
static uint64_t current_room(const struct slog *l)
{
    return l->current == 0 ? 0 : l->commit.segment_bytes - l->commit.offset;
}

uint64_t slog_room(const struct slog *l)
{
    uint64_t room = current_room(l);
    for (uint32_t i = 0; i < l->ready_count; i++) room += l->ready[i].size;
    return room;
}

/* For the next segment to be made. Where none is left, a smaller one is better than none: without
 * it nothing could be deleted, and a full disk would stay full. */
static void set_next_bytes(struct slog *l, enum err last)
{
    uint64_t all = l->options.segment_bytes;
    uint64_t half = l->maker.size / 2 / PLACE_BLOCK_BYTES * PLACE_BLOCK_BYTES;
    bool is_smaller = last == ERR_NO_SPACE && l->ready_count == 0 && current_room(l) < all / 2 &&
                      half >= all / SLOG_SMALLEST_PART && half > 0;
    l->small_bytes = is_smaller ? half : 0;
    if (last != ERR_OK && !is_smaller) l->retry_ns = l->now_ns + SLOG_RETRY_NS;
}

static void on_made(struct segment *s)
{
    struct slog *l = s->context;
    bool is_small = l->small_bytes != 0;
    l->is_making = false;
    set_next_bytes(l, s->result);
    if (s->result != ERR_OK) {
        /* Something that is no file has its name. */
        if (s->result == ERR_INVALID) l->manifest.next_segment++;
        l->has_no_space = s->result == ERR_NO_SPACE;
        go_on(l);
        return;
    }
    struct slog_ready ready = {.number = l->manifest.next_segment,
                               .size = s->size,
                               .file = s->file,
                               .is_open = true,
                               .is_small = is_small};
    name_made(l, &ready, true);
    go_on(l);
}

bool slog_begin_recycling(struct slog *l, uint32_t *number)
{
    must(l->ready_count < SLOG_READY_MAX);
    if (l->is_making || l->make_wanted != 0) return false;
    if (manifest_reserve(&l->manifest, l->manifest.count + 1) != ERR_OK) return false;
    l->is_making = true;
    *number = l->manifest.next_segment;
    return true;
}

bool slog_take_number(struct slog *l, uint32_t *number)
{
    if (l->is_making || l->make_wanted != 0) return false;
    *number = l->manifest.next_segment++;
    return true;
}

void slog_end_recycling(struct slog *l, const struct slog_ready *ready, bool is_wiped)
{
    must(l->is_making);
    l->is_making = false;
    if (ready != NULL)
        name_made(l, ready, is_wiped);
    else
        l->manifest.next_segment++; /* nobody knows what has this name now */
    go_on(l);
}

static void make_segment(struct slog *l)
{
    bool is_wanted = l->state == SLOG_OPENING || l->state == SLOG_RUNNING;
    if (!is_wanted || l->is_making || l->make_wanted != 0) return;
    if (l->ready_count >= SLOG_READY_MADE || l->now_ns < l->retry_ns) return;
    enum err e = manifest_reserve(&l->manifest, l->manifest.count + 1);
    if (e == ERR_OK)
        e = segment_prepare(&l->maker, l->manifest.log, l->manifest.next_segment,
                            l->small_bytes == 0 ? l->options.segment_bytes : l->small_bytes);
    if (e == ERR_OK)
        l->is_making = true;
    else
        l->retry_ns = l->now_ns + SLOG_RETRY_NS;
}

/* The segment that was made counts once the manifest that names it is durable. */
static void take_made(struct slog *l)
{
    if (l->make_wanted == 0 || l->manifest_written < l->make_wanted) return;
    if (reader_add(&l->reader, l->manifest.log, l->made.number, l->manifest.incarnation,
                   l->made.size, 0) != ERR_OK)
        return;
    l->make_wanted = 0;
    l->ready[l->ready_count++] = l->made;
    if (l->state == SLOG_OPENING) l->state = SLOG_RUNNING;
}

/* No group is OPEN. */
static void keep_old_file(struct slog *l)
{
    if (l->current == 0) return;
    must(l->old_count < SLOG_OLD_MAX);
    l->olds[l->old_count++] = (struct slog_old){.segment = l->current,
                                                .file = l->current_file,
                                                .group_last = l->commit.newest - 1,
                                                .ticket_last = l->commit.ticket};
}

static enum err move_on(struct slog *l)
{
    if (l->ready_count == 0) return l->has_no_space ? ERR_NO_SPACE : ERR_FULL;
    if (l->old_count >= SLOG_OLD_MAX / 2) return ERR_FULL;
    commit_close(&l->commit);
    keep_old_file(l);
    struct slog_ready next = l->ready[0];
    l->ready_count--;
    memmove(l->ready, l->ready + 1, l->ready_count * sizeof *l->ready);
    struct place_key key = key_of(l, next.number);
    l->current = next.number;
    l->current_file = next.file;
    commit_move(&l->commit, &key, next.size);
    return ERR_OK;
}

/* Segments before the current one get their end into the manifest when all of them is durable. */
static void note_written(struct slog *l, const struct commit_group *g)
{
    struct manifest_segment *s = manifest_find(&l->manifest, g->key.segment);
    must(s != NULL && !s->is_closed);
    if (s->first_group == 0) s->first_group = g->number;
    s->last_group = g->number;
    s->end = g->offset + g->bytes;
    s->has_checkpoints = s->has_checkpoints || g->has_checkpoints;
    reader_set_written(&l->reader, g->key.log, g->key.segment, s->end);
}

static void on_old_closed(struct vfs_op *op)
{
    struct slog *l = op->context;
    l->is_closing = false;
    l->flying--;
    go_on(l);
}

static void close_old(struct slog *l)
{
    if (l->is_closing || l->old_count == 0) return;
    /* All that is in it is durable: so no flight and no flush uses the file. */
    if (l->commit.durable < l->olds[0].group_last) return;
    struct manifest_segment *s = manifest_find(&l->manifest, l->olds[0].segment);
    must(s != NULL);
    s->is_closed = true;
    l->close_op = (struct vfs_op){
        .kind = VFS_CLOSE, .file = l->olds[0].file, .done = on_old_closed, .context = l};
    if (vfs_submit(l->options.vfs, &l->close_op) != ERR_OK) return;
    l->is_closing = true;
    l->flying++;
    l->old_count--;
    memmove(l->olds, l->olds + 1, l->old_count * sizeof *l->olds);
}

/* --- groups ------------------------------------------------------------------------------- */

static void on_written(struct vfs_op *op);

static bool file_of(const struct slog *l, uint32_t segment, struct vfs_file *out)
{
    if (segment == l->current) {
        *out = l->current_file;
        return true;
    }
    for (uint32_t i = 0; i < l->old_count; i++)
        if (l->olds[i].segment == segment) {
            *out = l->olds[i].file;
            return true;
        }
    return false;
}

static bool is_always(const struct slog *l)
{
    return l->options.sync_interval_ns == 0;
}

uint32_t slog_file_flags(const struct slog *l)
{
    /* Between two flushes the page cache is what outlives the process. */
    return l->options.is_direct && is_always(l) ? VFS_DIRECT : 0;
}

static void set_part(const struct slog *l, struct slog_flight *f)
{
    struct commit_group *g = f->group;
    uint32_t left = g->bytes - f->sent;
    struct vfs_file file;
    must(file_of(l, g->key.segment, &file));
    f->op = (struct vfs_op){.kind = VFS_WRITE,
                            .file = file,
                            .data = g->data + f->sent,
                            .bytes = left < SLOG_WRITE_BYTES_MAX ? left : SLOG_WRITE_BYTES_MAX,
                            .offset = g->offset + f->sent,
                            .flags = slog_file_flags(l),
#ifndef MILLRACE_BREAK_DATA_FLUSH_SKIPPED
                            .is_durable = is_always(l),
#endif
                            .done = on_written,
                            .context = f};
}

static enum err send_part(struct slog *l, struct slog_flight *f)
{
    set_part(l, f);
    return vfs_submit(l->options.vfs, &f->op);
}

static void fail(struct slog *l, enum err e)
{
    if (l->state == SLOG_FAILING || l->state == SLOG_READ_ONLY) return;
    if (l->state == SLOG_STOPPING) l->is_stop_wanted = true;
    l->failure = e;
    l->fail_wanted = 0;
    l->counts.failures++;
    l->state = SLOG_FAILING;
}

/* The group of f was written, or could not be. */
static void end_flight(struct slog *l, struct slog_flight *f, enum err e)
{
    struct commit_group *g = f->group;
    f->group = NULL;
    if (e != ERR_OK) fail(l, e);
    /* P3: what landed beside or after a failure counts for nothing. */
    if (l->state == SLOG_FAILING || l->state == SLOG_READ_ONLY) {
        commit_gave_up(g);
        return;
    }
    uint64_t before = l->commit.written;
    l->dirty_bytes += is_always(l) ? 0 : g->bytes;
    if (!commit_landed(&l->commit, g)) return;
    for (uint64_t n = before + 1; n <= l->commit.written; n++)
        note_written(l, commit_group_at(&l->commit, n));
    if (is_always(l)) commit_set_durable(&l->commit, l->commit.written, l->commit.written_ticket);
    tell_stored(l);
}

static void on_written(struct vfs_op *op)
{
    struct slog_flight *f = op->context;
    struct slog *l = f->log;
    if (op->result == ERR_OK && op->bytes_done == op->bytes) {
        f->sent += op->bytes;
        if (f->sent < f->group->bytes && send_part(l, f) == ERR_OK) return;
    }
    l->flying--;
    bool is_whole = f->sent == f->group->bytes;
    end_flight(l, f, is_whole || op->result != ERR_OK ? op->result : ERR_IO);
    go_on(l);
}

/* ERR_BUSY: it is to be submitted. */
static enum err write_now(struct slog *l, struct slog_flight *f)
{
    if (is_always(l) || l->dirty_bytes > SLOG_DIRTY_BYTES_MAX) return ERR_BUSY;
    while (f->sent < f->group->bytes) {
        set_part(l, f);
        enum err e = vfs_write_now(l->options.vfs, &f->op);
        /* A part that went already is written once more: the same bytes. */
        if (e == ERR_BUSY) f->sent = 0;
        if (e != ERR_OK) return e;
        f->sent += f->op.bytes;
    }
    return ERR_OK;
}

static void send_groups(struct slog *l)
{
    if (l->state != SLOG_RUNNING && l->state != SLOG_STOPPING) return;
    for (uint32_t i = 0; i < SLOG_FLYING_MAX; i++) {
        struct slog_flight *f = &l->flights[i];
        if (f->group != NULL) continue;
        f->group = commit_next(&l->commit);
        if (f->group == NULL) return;
        f->log = l;
        f->sent = 0;
        l->announced = l->commit.durable;
        l->counts.groups++;
        l->counts.group_bytes += f->group->bytes;
#ifdef MILLRACE_BREAK_ACK_BEFORE_THE_PREFIX
        if (f->group->ticket_last > l->commit.written_ticket) {
            l->commit.written_ticket = f->group->ticket_last;
            tell_stored(l);
        }
#endif
        enum err e = write_now(l, f);
        if (e != ERR_BUSY) {
            end_flight(l, f, e);
            if (e != ERR_OK) return;
            continue;
        }
        if (send_part(l, f) != ERR_OK) {
            commit_gave_up(f->group);
            f->group = NULL;
            fail(l, ERR_MEMORY);
            return;
        }
        l->flying++;
    }
}

/* --- flushes ------------------------------------------------------------------------------ */

static bool wants_flush(const struct slog *l)
{
    return !is_always(l) && !l->is_flushing && !l->has_lost_flush &&
           l->commit.durable < l->commit.written;
}

/* Before it a flush may wait; 0: it may not. */
static uint64_t flush_due_ns(const struct slog *l)
{
    uint64_t pause = l->options.sync_interval_ns;
    /* An earlier segment is waited for: its file, the manifest. */
    if (l->state != SLOG_RUNNING || l->old_count > 0 || l->flush_ns == 0) return 0;
    return l->flush_ns + (pause < SLOG_FLUSH_PAUSE_NS ? pause : SLOG_FLUSH_PAUSE_NS);
}

static void on_flushed(struct vfs_op *op)
{
    struct slog *l = op->context;
    l->is_flushing = false;
    l->flying--;
    if (op->result == ERR_OK) {
        l->dirty_bytes -= l->flush_bytes;
        commit_set_durable(&l->commit, l->flush_group, l->flush_ticket);
    } else {
        l->has_lost_flush = true;
        fail(l, op->result);
    }
    go_on(l);
}

/* Of the oldest segment that needs it, so that what is durable is a prefix of the log. */
static void flush(struct slog *l)
{
    if (!wants_flush(l) || l->now_ns < flush_due_ns(l)) return;
    struct vfs_file file = l->current_file;
    l->flush_group = l->commit.written;
    l->flush_ticket = l->commit.written_ticket;
    for (uint32_t i = 0; i < l->old_count; i++) {
        const struct slog_old *o = &l->olds[i];
        if (o->group_last <= l->commit.durable) continue;
        file = o->file;
        if (o->group_last < l->flush_group) {
            l->flush_group = o->group_last;
            l->flush_ticket = o->ticket_last;
        }
        break;
    }
    l->flush_bytes = l->dirty_bytes;
    l->flush_op =
        (struct vfs_op){.kind = VFS_FLUSH, .file = file, .done = on_flushed, .context = l};
    if (vfs_submit(l->options.vfs, &l->flush_op) != ERR_OK) return; /* the next turn */
    l->is_flushing = true;
    l->flush_ns = l->now_ns;
    l->flying++;
    l->counts.flushes++;
}

/* What is open goes out if a slot is free; else it grows until one is. */
static void close_open(struct slog *l)
{
    for (uint32_t i = 0; i < SLOG_FLYING_MAX; i++)
        if (l->flights[i].group == NULL) {
            commit_close(&l->commit);
            return;
        }
}

/* --- failures ----------------------------------------------------------------------------- */

static void drop_staged(struct slog *l, enum err e)
{
    commit_close(&l->commit);
    uint64_t newest = l->commit.ticket, first = commit_fail(&l->commit);
    compact_unstage(l, first);
    if (first <= newest) tell_failed(l, first, e);
}

/* Nothing flies any more: the cut goes into the manifest, then its publishers are told. */
static void settle_failure(struct slog *l)
{
    for (uint32_t i = 0; i < SLOG_FLYING_MAX; i++)
        if (l->flights[i].group != NULL) return;
    if (l->event_count >= SLOG_EVENTS_MAX - 1) return;
    if (l->state == SLOG_READ_ONLY) {
        if (!commit_is_idle(&l->commit)) drop_staged(l, ERR_DENIED);
        return;
    }
    /* What was stored before goes to the disk first; after a failed flush it counts as it is, and a
     * start tells what of it is missing. */
    if (l->is_flushing || wants_flush(l)) return;
    if (l->fail_wanted == 0) {
        for (uint32_t i = 0; i < l->manifest.count; i++) {
            struct manifest_segment *s = &l->manifest.segments[i];
            bool is_old = false;
            for (uint32_t k = 0; k < l->old_count; k++)
                is_old = is_old || l->olds[k].segment == s->number;
            if (s->number == l->current || is_old) s->is_closed = true;
        }
        l->fail_wanted = ++l->manifest_wanted;
        return;
    }
    if (l->manifest_written < l->fail_wanted) return;
    drop_staged(l, l->failure);
    keep_old_file(l);
    l->current = 0;
    l->has_lost_flush = false;
    l->dirty_bytes = 0;
    commit_set_durable(&l->commit, l->commit.written, l->commit.written_ticket);
    for (uint32_t i = 0; i < l->old_count; i++)
        if (l->olds[i].group_last > l->commit.written) {
            l->olds[i].group_last = l->commit.written; /* those behind it are gone */
            l->olds[i].ticket_last = l->commit.written_ticket;
        }
    l->state = l->is_stop_wanted ? SLOG_STOPPING : SLOG_RUNNING;
}

/* --- the store port ----------------------------------------------------------------------- */

static bool is_freeing(const struct slog *l)
{
    return l->options.hooks != NULL && l->options.sealed_wait < SLOG_SEALED_MAX &&
           l->compact.state != COMPACT_PINNED;
}

/* Segments that took groups: the current one, and those that wait to be freed. */
static uint32_t used_count(const struct slog *l)
{
    return l->manifest.count - l->ready_count - (l->make_wanted != 0);
}

/* The reserve is at work, or smaller than it should be: what is left is for what frees space. */
static bool is_on_reserve(const struct slog *l)
{
    return l->has_no_space && (l->ready_count == 0 || l->ready[0].is_small);
}

/* Publishers never take the last ready segment when no other can be made, and wait when too much
 * waits to be freed. */
static enum err may_publish_on(const struct slog *l)
{
    if (l->ready_count < SLOG_READY_MADE && l->has_no_space) return ERR_NO_SPACE;
    uint32_t most = SLOG_SEALED_MAX + 1 + compact_extra(l);
    return is_freeing(l) && used_count(l) > most ? ERR_FULL : ERR_OK;
}

/* How near the log is to refusing publishes because the disk is slower than they are: segments are
 * not made, flushed or freed fast enough. Of what is stuck nothing is said: whoever waits for that
 * waits for ever, so publishers run on to the bound and are refused there. */
static uint32_t behind_percent(const struct slog *l)
{
    if (l->state != SLOG_RUNNING || l->has_no_space) return 0;
    uint64_t segment = l->options.segment_bytes, left = current_room(l), percent = 0;
    uint64_t room = left + l->ready_count * segment;
    if (room < segment && l->now_ns >= l->retry_ns) percent = 100 - room * 100 / segment;
    if (l->old_count > 0) {
        uint64_t used = left < segment ? segment - left : 0;
        uint64_t open =
            ((uint64_t)l->old_count * segment + used) * 100 / ((SLOG_OLD_MAX / 2 + 1) * segment);
        if (open > percent) percent = open;
    }
    /* As many as may lie there do not count: nothing is done about them. */
    uint32_t idle = l->options.sealed_wait + 1;
    if (used_count(l) > idle && is_freeing(l) && l->compact.retry_ns == 0) {
        uint32_t most = SLOG_SEALED_MAX + 2 + compact_extra(l);
        idle += compact_extra(l);
        uint64_t full = used_count(l) * segment;
        full = full < left + idle * segment ? 0 : full - left - idle * segment;
        uint64_t sealed = full * 100 / ((most - idle) * segment);
        if (sealed > percent) percent = sealed;
    }
    return percent > 100 ? 100 : (uint32_t)percent;
}

enum err slog_append_own(struct slog *l, const struct record *r, struct store_stub *out)
{
    if (l->state == SLOG_READ_ONLY || l->state == SLOG_STOPPING || l->state == SLOG_STOPPED)
        return ERR_DENIED;
    /* What is appended before a failure is known would be taken for a part of it. */
    if (l->state == SLOG_OPENING && l->has_no_space) return ERR_NO_SPACE;
    if (l->state != SLOG_RUNNING || l->untold_count > 0) return ERR_FULL;
    bool is_publish = record_is_publish(r->kind);
    if (is_publish && is_on_reserve(l)) return ERR_NO_SPACE;
    uint32_t bytes = record_bytes(r);
    if (bytes == 0 || GROUP_HEAD_BYTES + (uint64_t)bytes > l->options.segment_bytes)
        return ERR_TOO_LONG;
    if (r->stream > l->manifest.stream_max) l->manifest.stream_max = r->stream;
    /* A smaller segment may have no room for it either. */
    while (l->current == 0 || !commit_has_room(&l->commit, bytes)) {
        enum err e = is_publish ? may_publish_on(l) : ERR_OK;
        if (e == ERR_OK) e = move_on(l);
        if (e != ERR_OK) return e;
    }
    bool is_end = r->kind == RECORD_STREAM_GONE && l->options.hooks != NULL;
    enum err e = is_end ? compact_prepare_end(l, r->stream) : ERR_OK;
    if (e == ERR_OK) e = commit_append(&l->commit, r, bytes, out);
    if (e != ERR_OK) return e == ERR_MEMORY ? ERR_FULL : e;
    if (is_end) compact_end(l, r->stream, out->ticket);
    l->counts.records++;
    l->counts.record_bytes += bytes;
    l->last_append_ns = l->now_ns;
    l->last_group_with_records = l->commit.newest - 1;
    return ERR_OK;
}

static enum err slog_append(struct store *store, const struct record *r, struct store_stub *out)
{
    must(r->kind != RECORD_CHECKPOINT); /* those are the log's own */
    return slog_append_own((struct slog *)store, r, out);
}

static enum err slog_read(struct store *store, struct store_read *q, struct record *out)
{
    struct slog *l = (struct slog *)store;
    uint32_t bytes;
    const char *data = commit_find(&l->commit, q->place, &bytes);
    if (data == NULL) return reader_read(&l->reader, q, out);
    record_decode_checked(data, out, &bytes);
    return out->stream == q->stream && out->seq == q->seq ? ERR_OK : ERR_UNKNOWN;
}

static uint32_t slog_staged_percent(const struct store *store)
{
    return commit_staged_percent(&((const struct slog *)store)->commit);
}

static uint32_t slog_behind_percent(const struct store *store)
{
    return behind_percent((const struct slog *)store);
}

static const struct store_ops SLOG_OPS = {.append = slog_append,
                                          .read = slog_read,
                                          .staged_percent = slog_staged_percent,
                                          .behind_percent = slog_behind_percent};

/* --- life --------------------------------------------------------------------------------- */

static enum err know_segments(struct slog *l, const struct manifest *all, uint32_t count)
{
    for (uint32_t m = 0; m < count; m++) {
        for (uint32_t i = 0; i < all[m].pack_count; i++) {
            const struct manifest_pack *p = &all[m].packs[i];
            enum err e =
                reader_add_pack(&l->reader, all[m].log, p->number, p->incarnation, p->size);
            if (e != ERR_OK) return e;
        }
        for (uint32_t i = 0; i < all[m].count; i++) {
            const struct manifest_segment *s = &all[m].segments[i];
            if (!s->is_closed) continue;
            enum err e =
                reader_add(&l->reader, all[m].log, s->number, s->incarnation, s->size, s->end);
            if (e != ERR_OK) return e;
        }
    }
    return ERR_OK;
}

/* Of each copy, made at a start, and more when half of it is used: the disk may be full when the
 * manifest grows, and without it nothing can be freed. */
static uint64_t manifest_room(const struct slog *l)
{
    uint64_t now = manifest_bytes(&l->manifest);
    uint64_t least = l->options.segment_bytes / SLOG_MANIFEST_PART;
    return now > PLACE_BLOCK_BYTES && 2 * now > least ? 2 * now : least;
}

enum err slog_open(struct slog *l, const struct slog_options *o, const struct manifest *own,
                   const struct manifest *all, uint32_t count)
{
    *l = (struct slog){.store.ops = &SLOG_OPS, .options = *o, .state = SLOG_OPENING};
    uint32_t flags = o->is_direct ? VFS_DIRECT : 0;
    enum err e = manifest_copy(&l->manifest, own, o->mem);
    if (e != ERR_OK) return e;
    e = commit_init(&l->commit, o->mem, o->group_bytes, o->staging_bytes, own->next_group);
    if (e != ERR_OK) goto free_manifest;
    e = reader_init(&l->reader, o->vfs, o->mem, own->secret, flags, o->cache_bytes);
    if (e != ERR_OK) goto free_commit;
    e = know_segments(l, all, count);
    if (e != ERR_OK) goto free_reader;
    pair_init(&l->pair, o->vfs, names_manifest(own->log, 0), names_manifest(own->log, 1), 0);
    l->pair.done = on_manifest;
    l->pair.context = l;
    l->pair.reserve_bytes = manifest_room(l);
    segment_init(&l->maker, o->vfs, o->mem, flags, slog_file_flags(l), on_made, l);
    l->announced = l->told_group = l->commit.durable;
    /* Of an earlier start: soon. */
    if (l->manifest.has_scrubs && o->hooks != NULL && o->files != NULL) l->scrub_ns = 1;
    compact_init(l);
    return ERR_OK;
free_reader:
    reader_deinit(&l->reader);
free_commit:
    commit_deinit(&l->commit);
free_manifest:
    manifest_deinit(&l->manifest);
    return e;
}

/* Nothing is left to do but to close the files, one after the other. */
static void stop_files(struct slog *l)
{
    if (l->reader.flying > 0 || l->reader.open_count > 0) {
        reader_stop(&l->reader);
        return;
    }
    if (l->current != 0 && l->old_count < SLOG_OLD_MAX) {
        keep_old_file(l);
        l->current = 0;
    }
    while (l->ready_count > 0 && l->old_count < SLOG_OLD_MAX) {
        struct slog_ready *r = &l->ready[--l->ready_count];
        l->olds[l->old_count++] = (struct slog_old){.segment = r->number, .file = r->file};
    }
    if (l->is_closing) return;
    if (l->old_count > 0) {
        l->close_op = (struct vfs_op){.kind = VFS_CLOSE,
                                      .file = l->olds[--l->old_count].file,
                                      .done = on_old_closed,
                                      .context = l};
        if (vfs_submit(l->options.vfs, &l->close_op) != ERR_OK) return;
        l->is_closing = true;
        l->flying++;
        return;
    }
    if (l->pair.state == PAIR_CLOSING) return;
    if (l->pair.open_count > 0) {
        pair_close(&l->pair);
        return;
    }
    l->state = SLOG_STOPPED;
}

static void go_on_stopping(struct slog *l)
{
    if (!commit_is_idle(&l->commit) || !compact_stop(l) || l->is_making) return;
    if (l->commit.durable < l->commit.written) return;
    if (l->make_wanted != 0) {
        take_made(l);
        if (l->make_wanted != 0) return;
    }
    if (!l->manifest.is_clean) {
        for (uint32_t i = 0; i < l->manifest.count; i++) {
            struct manifest_segment *s = &l->manifest.segments[i];
            if (s->last_group > 0) s->is_closed = true;
        }
        l->manifest.is_clean = true;
        l->manifest_wanted++;
        write_manifest(l);
        return;
    }
    if (l->manifest_written == l->manifest_wanted) stop_files(l);
}

static void go_on(struct slog *l)
{
    write_manifest(l);
    take_made(l);
    if (l->state == SLOG_FAILING || l->state == SLOG_READ_ONLY) settle_failure(l);
    send_groups(l);
    flush(l);
    if (l->state == SLOG_RUNNING) close_old(l);
    make_segment(l);
    write_manifest(l);
    if (l->state == SLOG_STOPPING) go_on_stopping(l);
}

/* Without room it has to wait for the next segment, and nobody may wait for it by turns. */
static bool wants_empty_group(const struct slog *l)
{
    return l->state == SLOG_RUNNING && commit_is_idle(&l->commit) && l->current != 0 &&
           l->commit.durable == l->commit.written && l->last_group_with_records > l->announced &&
           l->commit.offset + PLACE_BLOCK_BYTES <= l->commit.segment_bytes;
}

/* --- what is to be overwritten ------------------------------------------------------------- */

static uint64_t scrub_wait(const struct slog *l)
{
    return l->options.scrub_wait_ns == 0 ? SLOG_SCRUB_NS : l->options.scrub_wait_ns;
}

void slog_scrub(struct slog *l, uint64_t place)
{
    if (l->options.hooks == NULL || l->options.files == NULL) return;
    compact_scrub(l, place);
    manifest_scrub(&l->manifest, place);
    l->scrub_wanted = ++l->manifest_wanted;
    if (l->scrub_ns == 0) l->scrub_ns = l->now_ns + scrub_wait(l);
}

/* The current segment, or one that is ready, is to be overwritten in this pass. */
static bool has_open_scrub(const struct slog *l)
{
    for (uint32_t i = 0; i < l->manifest.count; i++) {
        const struct manifest_segment *s = &l->manifest.segments[i];
        bool is_behind = l->current != 0 && s->number < l->current;
        if (s->is_scrubbed && !s->is_closed && !is_behind && s->number <= l->scrub_last)
            return true;
    }
    return false;
}

/* Segments are closed, also those that are ready: these hold their earlier life. */
static void close_scrubbed(struct slog *l)
{
    if (l->current == 0) {
        if (l->ready_count > 1) (void)!move_on(l);
        return;
    }
    if (l->commit.offset == 0 && commit_is_idle(&l->commit))
        (void)!commit_add_empty(&l->commit);
    else if (commit_is_idle(&l->commit) && l->ready_count > 1)
        (void)!move_on(l);
}

static void scrub(struct slog *l)
{
    if (l->state != SLOG_RUNNING || l->scrub_ns == 0 || l->now_ns < l->scrub_ns) return;
    if (!l->is_scrubbing) l->scrub_last = l->manifest.next_segment - 1;
    l->is_scrubbing = true;
    if (has_open_scrub(l)) {
        close_scrubbed(l);
        return;
    }
    for (uint32_t i = 0; i < l->manifest.count; i++)
        if (l->manifest.segments[i].is_scrubbed && l->manifest.segments[i].number <= l->scrub_last)
            return;
    if (compact_is_scrubbing(l)) return;
    l->is_scrubbing = false;
    bool is_left = manifest_is_scrubbed(&l->manifest);
    l->scrub_ns = is_left ? l->now_ns + scrub_wait(l) : 0;
    l->manifest.has_scrubs = is_left;
    l->manifest_wanted++;
}

void slog_turn(struct slog *l, uint64_t now_ns)
{
    l->now_ns = now_ns;
    if (l->state == SLOG_RUNNING || l->state == SLOG_STOPPING) close_open(l);
    if (wants_empty_group(l) && now_ns >= l->last_append_ns + SLOG_IDLE_NS)
        if (commit_add_empty(&l->commit) != ERR_OK) l->last_append_ns = now_ns; /* later */
    scrub(l);
    compact_turn(l);
    /* Its checkpoints go out now: nobody may come for another turn. */
    if (l->state == SLOG_RUNNING) close_open(l);
    go_on(l);
}

enum err slog_seal(struct slog *l)
{
    if (l->state != SLOG_RUNNING || l->current == 0) return ERR_FULL;
    if (l->commit.offset == 0 && commit_is_idle(&l->commit)) return ERR_FULL;
    return move_on(l);
}

bool slog_is_helped(const struct slog *l)
{
    return l->compact.is_job_out;
}

static bool has_unsent(const struct slog *l)
{
    return l->state == SLOG_RUNNING && l->commit.unsent < l->commit.newest &&
           commit_group_at(&l->commit, l->commit.unsent)->state == COMMIT_CLOSED;
}

/* Something found no memory that is not waited for by anything that ends: the manifest, a segment
 * that it names by now, a read. */
static bool is_short(const struct slog *l)
{
    bool is_unwritten = l->manifest_written != l->manifest_wanted;
    if (is_unwritten && l->pair.state == PAIR_IDLE && l->manifest_data == NULL) return true;
    if (l->make_wanted != 0 && l->manifest_written >= l->make_wanted) return true;
    return l->reader.waiting.first != NULL && l->reader.flying == 0;
}

static uint64_t own_deadline_ns(const struct slog *l)
{
    /* Groups that landed in the turn itself have events, and may have left some behind. */
    if (!is_always(l) && (l->event_count > 0 || (l->flying == 0 && has_unsent(l))))
        return l->now_ns;
    uint64_t flush = wants_flush(l) ? flush_due_ns(l) : UINT64_MAX, other = UINT64_MAX;
    bool needs_segment = l->state == SLOG_OPENING || l->state == SLOG_RUNNING;
    bool is_made = l->is_making || l->make_wanted != 0; /* its file, or its name in the manifest */
    if (wants_empty_group(l))
        other = l->last_append_ns + SLOG_IDLE_NS;
    else if (needs_segment && l->ready_count < SLOG_READY_MADE && !is_made)
        other = l->retry_ns;
    /* What is damaged is let go of by nobody, and nothing that stands with it. */
    uint64_t step = l->compact.state == COMPACT_PINNED ? SLOG_SCRUB_NS : SLOG_SCRUB_STEP_NS;
    uint64_t next = l->is_scrubbing ? l->now_ns + step : l->scrub_ns;
    if (l->state == SLOG_RUNNING && l->scrub_ns != 0 && next < other) other = next;
    if (is_short(l) && other > l->now_ns + SLOG_MEMORY_RETRY_NS)
        other = l->now_ns + SLOG_MEMORY_RETRY_NS;
    return flush < other ? flush : other;
}

uint64_t slog_deadline_ns(const struct slog *l)
{
    uint64_t own = own_deadline_ns(l);
    uint64_t freeing = l->state == SLOG_RUNNING ? compact_deadline_ns(l) : UINT64_MAX;
    return own < freeing ? own : freeing;
}

void slog_stop(struct slog *l)
{
    if (l->state == SLOG_FAILING) l->is_stop_wanted = true;
    if (l->state == SLOG_OPENING || l->state == SLOG_RUNNING) l->state = SLOG_STOPPING;
}

void slog_close(struct slog *l)
{
    segment_abandon(&l->maker);
    compact_deinit(l);
    free_manifest_data(l);
    reader_deinit(&l->reader);
    commit_deinit(&l->commit);
    manifest_deinit(&l->manifest);
}
