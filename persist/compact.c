#include "persist/compact.h"
#include "core/base/must.h"
#include "persist/record.h"
#include "persist/slog.h"

static uint64_t hash_of(uint64_t stream)
{
    return hash_bytes(&stream, sizeof stream, 0);
}

/* --- checkpoints that were written -------------------------------------------------------- */

static struct compact_done *find_done(const struct compact *c, uint64_t stream)
{
    uint64_t hash = hash_of(stream);
    uint32_t at;
    struct compact_done *d = table_first(&c->done, hash, &at);
    while (d != NULL && d->stream != stream) d = table_next(&c->done, hash, &at);
    return d;
}

static struct compact_done *make_done(struct slog *l, uint64_t stream)
{
    struct compact *c = &l->compact;
    struct compact_done *d = find_done(c, stream);
    if (d != NULL) return d;
    d = mem_alloc_zero(l->options.mem, MEM_STORE, sizeof *d);
    if (d == NULL) return NULL;
    d->stream = stream;
    if (table_insert(&c->done, hash_of(stream), d) == ERR_OK) return d;
    mem_free(l->options.mem, MEM_STORE, d, sizeof *d);
    return NULL;
}

static void forget_done(struct slog *l, uint64_t stream)
{
    struct compact_done *d = find_done(&l->compact, stream);
    if (d == NULL) return;
    must(table_remove(&l->compact.done, hash_of(stream), d) == ERR_OK);
    l->compact.held_bytes -= d->bytes;
    mem_free(l->options.mem, MEM_STORE, d, sizeof *d);
}

/* How many of its checkpoints stand for all that the segment holds of it, and stay when it goes. */
static uint32_t covering(const struct compact *c, const struct compact_done *d)
{
    uint32_t count = 0;
    for (uint32_t i = 0; d != NULL && i < COMPACT_COPIES; i++)
        count += d->copies[i].ticket != 0 && d->copies[i].segment > c->segment.number &&
                 d->copies[i].group >= c->segment.last_group;
    return count;
}

uint32_t compact_extra(const struct slog *l)
{
    return (uint32_t)(2 * COMPACT_COPIES * l->compact.held_bytes / l->options.segment_bytes);
}

static void begin_streams(struct compact *c, uint32_t copies)
{
    c->is_measuring = false;
    c->is_measured = c->is_measured && copies > 1;
    c->is_collecting = false;
    c->copies = copies;
    c->stream_at = 0;
}

void compact_unstage(struct slog *l, uint64_t ticket)
{
    struct compact *c = &l->compact;
    uint32_t at = 0;
    struct compact_done *d;
    while ((d = table_each(&c->done, &at)) != NULL) {
        for (uint32_t i = 0; i < COMPACT_COPIES; i++)
            if (d->copies[i].ticket >= ticket) d->copies[i].ticket = 0;
        if (d->end_ticket >= ticket) d->end_ticket = 0;
    }
    c->writing = NULL; /* parts of it may be among what was lost */
    begin_streams(c, 1);
}

enum err compact_prepare_end(struct slog *l, uint64_t stream)
{
    return make_done(l, stream) == NULL ? ERR_MEMORY : ERR_OK;
}

void compact_end(struct slog *l, uint64_t stream, uint64_t ticket)
{
    struct compact_done *d = find_done(&l->compact, stream);
    must(d != NULL);
    d->end_ticket = ticket;
}

/* --- steps -------------------------------------------------------------------------------- */

static void pause(struct slog *l, uint64_t for_ns)
{
    struct compact *c = &l->compact;
    must(!c->is_job_out);
    packer_end(&c->packer);
    c->writing = NULL;
    c->is_collecting = false;
    c->resume_ns = l->now_ns + for_ns;
    c->state = COMPACT_PAUSED;
}

static void end_run(struct compact *c)
{
    c->is_run = false;
    c->run_count = 0;
    c->run_bytes = c->run_messages = 0;
}

static uint64_t longer(uint64_t *pause_ns, uint64_t first_ns, uint64_t max_ns)
{
    uint64_t now = *pause_ns == 0 ? first_ns : *pause_ns;
    *pause_ns = 2 * now > max_ns ? max_ns : 2 * now;
    return now;
}

/* As long as this process runs. */
static void leave_pack(struct slog *l, const struct manifest_pack *p)
{
    manifest_find_pack(&l->manifest, p->number)->is_left = true;
}

/* The packs stay as they are for now. */
static void give_up_run(struct slog *l)
{
    struct compact *c = &l->compact;
    c->look_ns = l->now_ns + longer(&c->look_retry_ns, COMPACT_RETRY_NS, COMPACT_RETRY_MAX_NS);
    packer_end(&c->packer);
    c->writing = NULL;
    c->is_collecting = false;
    end_run(c);
    c->state = COMPACT_IDLE;
}

static void fail(struct slog *l)
{
    struct compact *c = &l->compact;
    c->counts.errors++;
    c->packer_result = c->packer.result;
    if (c->is_run) {
        /* One that is damaged takes the others with it only until the next run. */
        if (c->packer.result == ERR_CORRUPT) leave_pack(l, &c->run[c->packer.source_bad]);
        give_up_run(l);
        return;
    }
    pause(l, longer(&c->retry_ns, COMPACT_RETRY_NS, COMPACT_RETRY_MAX_NS));
}

/* Core does not know yet, or has no memory. */
static void ask_again(struct slog *l)
{
    struct compact *c = &l->compact;
    c->resume_ns = l->now_ns + longer(&c->busy_ns, COMPACT_BUSY_NS, COMPACT_BUSY_MAX_NS);
}

/* Closed segments at the front of the log. */
static uint32_t sealed_count(const struct slog *l)
{
    uint32_t count = 0;
    while (count < l->manifest.count && l->manifest.segments[count].is_closed) count++;
    return count;
}

/* One that is closed is to be scrubbed: it goes, and what lies before it. */
static bool has_sealed_scrub(const struct slog *l)
{
    for (uint32_t i = 0; i < l->manifest.count && l->manifest.segments[i].is_closed; i++)
        if (l->manifest.segments[i].is_scrubbed) return true;
    return false;
}

/* Closed segments that are left as they are; on a full disk only what else would be written for
 * ever, since what is dead in the others may be all that can be freed. */
static uint64_t rest_count(const struct slog *l)
{
    bool is_pressed = l->has_no_space && l->options.sealed_wait < SLOG_SEALED_MAX;
    return (is_pressed ? 0 : (uint64_t)l->options.sealed_wait) + compact_extra(l);
}

static bool is_due(const struct slog *l)
{
    if (l->options.hooks == NULL || l->options.files == NULL) return false;
    if (l->manifest.count < 2) return false;
    if (!l->manifest.segments[0].is_closed) return false;
    if (sealed_count(l) <= rest_count(l) && !has_sealed_scrub(l)) return false;
    const struct manifest_segment *s = &l->manifest.segments[0];
    for (uint32_t i = 0; i < l->old_count; i++)
        if (l->olds[i].segment == s->number) return false;
    return s->last_group <= l->told_group;
}

static void begin(struct slog *l)
{
    struct compact *c = &l->compact;
    uint32_t number = l->manifest.segments[0].number;
    /* Something that is no file has the name of its pack. */
    if (c->packer_result == ERR_INVALID && !slog_take_number(l, &number)) {
        pause(l, COMPACT_BUSY_NS); /* a segment is being made with the next one */
        return;
    }
    c->segment = l->manifest.segments[0];
    c->ask_at = c->move_at = 0;
    begin_streams(c, 1);
    c->has_pack = c->scrubs_output = c->is_wiped = c->is_unwipeable = false;
    c->writing = NULL;
    end_run(c);
    packer_begin(&c->packer, &l->manifest, &c->segment);
    c->packer.number = number;
    c->packer_result = ERR_OK;
    c->state = COMPACT_READING;
}

static void begin_judging(struct slog *l);

static void work_on(struct slog *l)
{
    struct compact *c = &l->compact;
    if (c->is_job_out) return;
    if (packer_is_running(&c->packer)) {
        const struct slog_helper *h = l->options.helper;
        if (h == NULL)
            (void)packer_step(&c->packer);
        else
            c->is_job_out = h->start(h->context, &c->packer);
        if (c->is_job_out) return; /* the packer is somebody else's now */
    }
    if (c->packer.state == PACKER_LISTED && c->state == COMPACT_LOOKING) {
        begin_judging(l);
        return;
    }
    if (c->packer.state == PACKER_LISTED && c->packer.is_damaged) {
        /* P6: what is in the damaged parts nobody knows, so nothing of it is let go of. */
        c->counts.errors++;
        packer_end(&c->packer);
        c->state = COMPACT_PINNED;
        return;
    }
    if (c->packer.state == PACKER_LISTED) c->state = COMPACT_ASKING;
    if (c->packer.state == PACKER_PACKED) c->state = COMPACT_CHECKPOINTING;
    if (c->packer.state == PACKER_FAILED && c->state == COMPACT_LOOKING) {
        c->counts.errors++;
        if (c->packer.result == ERR_CORRUPT) leave_pack(l, &c->pack);
        give_up_run(l);
    } else if (c->packer.state == PACKER_FAILED && c->state != COMPACT_WIPING) {
        fail(l);
    }
}

/* Where the message of this index of the packer's list lies until it moves. */
static uint64_t place_before(const struct compact *c, uint32_t i)
{
    const struct packer *p = &c->packer;
    uint64_t offset = (uint64_t)p->messages[i].at * PLACE_UNIT_BYTES;
    if (!c->is_run) return place_of(p->log, p->segment.number, offset);
    return place_packed(p->log, p->sources[packer_source_of(p, i)].pack.number, offset);
}

/* As many packs of the run as one can hold. */
static void fit_run(struct compact *c)
{
    struct packer *p = &c->packer;
    uint64_t bytes = 0;
    for (uint32_t source = 0, i = 0; source < p->source_count; source++) {
        for (; i < p->sources[source].end; i++)
            bytes += p->messages[i].is_live ? p->messages[i].bytes : 0;
        if (bytes <= PACK_RECORDS_BYTES_MAX || source == 0) continue;
        packer_leave_packs(p, source);
        c->run_count = source;
    }
}

static void ask(struct slog *l)
{
    struct compact *c = &l->compact;
    struct packer *p = &c->packer;
    const struct store_hooks *h = l->options.hooks;
    for (uint32_t n = 0; n < COMPACT_ASK_SLICE && c->ask_at < p->message_count; n++) {
        struct packer_message *m = &p->messages[c->ask_at++];
        uint64_t place = place_before(c, c->ask_at - 1);
        enum store_fate fate = h->fate(h->context, p->streams[m->stream].id, m->seq, place);
        m->is_live = fate == STORE_LIVE;
        p->streams[m->stream].live_count += m->is_live;
        c->counts.messages++;
        c->counts.live += m->is_live;
        if (fate != STORE_KEEP) continue;
        if (c->is_run) {
            leave_pack(l, &c->run[packer_source_of(p, c->ask_at - 1)]);
            give_up_run(l);
            return;
        }
        packer_end(p);
        c->state = COMPACT_PINNED;
        return;
    }
    if (c->ask_at < p->message_count) return;
    c->asked_group = l->told_group;
    if (c->is_run) {
        c->segment = (struct manifest_segment){.last_group = c->asked_group};
        fit_run(c);
    }
    for (uint32_t i = 0; i < p->stream_count && !c->has_pack; i++)
        c->has_pack = p->streams[i].live_count > 0;
    if (c->has_pack) packer_pack(p);
    c->state = c->has_pack ? COMPACT_WRITING : COMPACT_CHECKPOINTING;
}

/* --- checkpoints -------------------------------------------------------------------------- */

/* The disk has no room for the checkpoints: deletes and packs that went dead are not to wait for
 * it. */
static void leave_it(struct slog *l)
{
    struct compact *c = &l->compact;
    c->writing = NULL;
    packer_discard(&c->packer, ERR_NO_SPACE);
    c->state = COMPACT_WRITING; /* where it fails */
}

/* False: not all of it fits in now. */
static bool append_parts(struct slog *l)
{
    struct compact *c = &l->compact;
    size_t part_bytes = l->options.group_bytes / 2;
    if (part_bytes > COMPACT_PART_BYTES) part_bytes = COMPACT_PART_BYTES;
    while (c->writing != NULL) {
        size_t left = c->body.len - c->body_at, bytes = left < part_bytes ? left : part_bytes;
        if (c->part == 0 && c->writing->end_ticket != 0) {
            c->writing = NULL; /* it would begin behind the end of its stream */
            return true;
        }
        if (commit_staged_percent(&l->commit) > COMPACT_STAGED_PERCENT) return false;
        struct record r = {.kind = RECORD_CHECKPOINT,
                           .flags = bytes == left ? RECORD_LAST : 0,
                           .stream = c->writing->stream,
                           .seq = c->part,
                           .prev_seq = c->writing->copies[c->slot].group,
                           .body = {c->body.data + c->body_at, bytes}};
        struct store_stub stub;
        enum err e = slog_append_own(l, &r, &stub);
        if (e == ERR_NO_SPACE) leave_it(l);
        if (e != ERR_OK) return false;
        if (c->part == 0) c->writing->copies[c->slot].segment = place_segment(stub.place);
        c->part++;
        c->part_bytes += stub.bytes;
        c->body_at += bytes;
        c->counts.checkpoint_bytes += bytes;
        if ((r.flags & RECORD_LAST) == 0) continue;
        c->counts.checkpoints++;
        c->writing->copies[c->slot].ticket = c->ticket_last = stub.ticket;
        c->writing->newest = c->slot;
        c->held_bytes += c->part_bytes - c->writing->bytes;
        c->writing->bytes = c->part_bytes;
        c->writing = NULL;
    }
    return true;
}

/* False: not now. */
static bool begin_checkpoint(struct slog *l, uint64_t stream)
{
    struct compact *c = &l->compact;
    const struct store_hooks *h = l->options.hooks;
    const struct compact_done *known = find_done(c, stream);
    bool is_scrub_named = l->manifest_written >= l->scrub_wanted;
    bool is_over = known != NULL && known->end_ticket > l->told_ticket;
    if (is_over || (!is_scrub_named && !c->is_collecting)) {
        c->is_collecting = false;
        ask_again(l);
        return false;
    }
    if (!c->is_collecting) {
        text_clear(&c->body);
        c->collect_group = l->told_group;
    }
    enum err e = h->checkpoint(h->context, stream, &c->body);
    c->is_collecting = e == ERR_INCOMPLETE;
    if (c->is_collecting) {
        c->counts.pieces++;
        return false; /* the next turn has more of it */
    }
    if (e == ERR_UNKNOWN) {
        forget_done(l, stream);
        c->stream_at++;
        return true;
    }
    struct compact_done *d = e == ERR_OK && !c->body.is_failed ? make_done(l, stream) : NULL;
    if (e == ERR_DENIED && c->is_run) {
        for (uint32_t i = 0; i < c->run_count; i++) leave_pack(l, &c->run[i]);
        give_up_run(l);
        return false;
    }
    if (e == ERR_DENIED) {
        packer_end(&c->packer);
        c->state = COMPACT_PINNED;
        return false;
    }
    if (d == NULL) {
        ask_again(l);
        return false;
    }
    c->busy_ns = 0;
    if (c->is_measuring) {
        uint64_t missing = COMPACT_COPIES - covering(c, d);
        c->measured_bytes += missing * (c->body.len + 2 * RECORD_BYTES_MIN);
        c->stream_at++;
        return true;
    }
    c->slot = d->copies[d->newest].ticket == 0 ? d->newest : COMPACT_COPIES - 1 - d->newest;
    d->copies[c->slot] = (struct compact_copy){.group = c->collect_group};
    c->writing = d;
    c->body_at = 0;
    c->part = 0;
    c->part_bytes = 0;
    return true;
}

static struct manifest_pack written_pack(const struct packer *p)
{
    return (struct manifest_pack){.number = p->number,
                                  .incarnation = p->segment.incarnation,
                                  .size = p->file_at,
                                  .message_count = p->live_count,
                                  .record_bytes = p->record_bytes};
}

static void name_without(struct slog *l)
{
    struct compact *c = &l->compact;
    struct manifest_pack pack = written_pack(&c->packer);
    c->pack_number = pack.number;
    pack.is_scrubbed = c->scrubs_output;
    /* What was to be scrubbed since the job began, its entries say. */
    c->segment.is_scrubbed = !c->is_run && l->manifest.segments[0].is_scrubbed;
    for (uint32_t i = 0; i < c->run_count; i++)
        c->run[i].is_scrubbed = manifest_find_pack(&l->manifest, c->run[i].number)->is_scrubbed;
    if (c->is_run) {
        manifest_replace_packs(&l->manifest, c->run[0].number, c->run_count,
                               c->has_pack ? &pack : NULL);
    } else {
        must(l->manifest.segments[0].number == c->segment.number);
        if (c->has_pack && manifest_add_pack(&l->manifest, &pack) != ERR_OK) return; /* next turn */
        manifest_remove_first(&l->manifest);
    }
    c->counts.packs += c->has_pack;
    c->counts.pack_bytes += c->has_pack ? pack.size : 0;
    c->wanted = ++l->manifest_wanted;
    c->state = COMPACT_NAMING;
}

/* All of its messages here stay where a start finds them, or its checkpoints know better. */
static bool is_covered(const struct compact *c, const struct packer_stream *s)
{
    if (c->is_run && s->live_count == s->message_count) return true;
    return covering(c, find_done(c, s->id)) >= c->copies;
}

/* Else they would take what is kept for deletes, and wait there for room that never comes. */
static bool is_to_be_measured(const struct slog *l)
{
    const struct compact *c = &l->compact;
    bool is_short = l->has_no_space && l->ready_count < SLOG_READY_MADE;
    return is_short && !c->is_measuring && !c->is_measured;
}

static void begin_measuring(struct compact *c)
{
    begin_streams(c, COMPACT_COPIES);
    c->writing = NULL;
    c->is_measuring = true;
    c->measured_bytes = 0;
}

/* False: the job came to nothing. */
static bool go_on_measuring(struct slog *l)
{
    struct compact *c = &l->compact;
    if (c->measured_bytes > slog_room(l) / 2) {
        leave_it(l);
        return false;
    }
    if (c->stream_at < c->packer.stream_count) return true;
    begin_streams(c, 1);
    c->is_measured = true;
    return true;
}

static void checkpoint_streams(struct slog *l)
{
    struct compact *c = &l->compact;
    const struct packer *p = &c->packer;
    if (l->now_ns < c->resume_ns) return;
    if (is_to_be_measured(l)) begin_measuring(c);
    for (uint32_t n = 0; n < COMPACT_CHECKPOINT_SLICE; n++) {
        if (c->writing != NULL && !append_parts(l)) return;
        if (c->stream_at == p->stream_count) break;
        uint64_t stream = p->streams[c->stream_at].id;
        if (is_covered(c, &p->streams[c->stream_at]))
            c->stream_at++;
        else if (!begin_checkpoint(l, stream))
            return;
    }
    if (c->is_measuring && !go_on_measuring(l)) return;
    if (c->stream_at < p->stream_count || c->writing != NULL) return;
#ifndef MILLRACE_BREAK_DROPPED_BEFORE_DURABLE
    if (l->commit.durable < c->asked_group) return;
#endif
#ifndef MILLRACE_BREAK_CHECKPOINT_NOT_DURABLE
    if (c->ticket_last > l->commit.durable_ticket) return;
#endif
    if (c->copies < COMPACT_COPIES)
        begin_streams(c, c->copies + 1);
    else
        name_without(l);
}

/* --- moving ------------------------------------------------------------------------------- */

static bool know_pack(struct slog *l)
{
    struct compact *c = &l->compact;
    const struct packer *p = &c->packer;
    enum err e =
        reader_add_pack(&l->reader, l->manifest.log, p->number, p->segment.incarnation, p->file_at);
    return e == ERR_OK;
}

/* False: there is more. */
static bool move(struct slog *l)
{
    struct compact *c = &l->compact;
    const struct packer *p = &c->packer;
    const struct store_hooks *h = l->options.hooks;
    for (uint32_t n = 0; n < COMPACT_ASK_SLICE && c->move_at < p->message_count; n++) {
        const struct packer_message *m = &p->messages[c->move_at];
        uint64_t from = place_before(c, c->move_at);
        if (m->is_live &&
            h->moved(h->context, p->streams[m->stream].id, m->seq, from,
                     place_packed(p->log, p->number, (uint64_t)m->to * PLACE_UNIT_BYTES),
                     m->bytes) != ERR_OK)
            return false;
        c->move_at++;
    }
    return c->move_at == p->message_count;
}

/* --- the file ----------------------------------------------------------------------------- */

static void on_file(struct vfs_op *op);
static void finish(struct slog *l);

/* The file is left to the next start, which removes it; a handle, if it is open, to the process. */
static void give_up_file(struct slog *l, enum compact_state at)
{
    struct compact *c = &l->compact;
    c->counts.errors++;
    finish(l);
    if (at == COMPACT_RENAMING || at == COMPACT_OPENING || at == COMPACT_FLUSHING)
        slog_end_recycling(l, NULL, false);
}

static void file_step(struct slog *l, enum compact_state state)
{
    struct compact *c = &l->compact;
    c->state = state;
    c->op = (struct vfs_op){.done = on_file, .context = l, .path = c->from.text};
    switch (state) {
    case COMPACT_RENAMING:
        c->op.kind = VFS_RENAME;
        c->op.path_to = c->to.text;
        break;
    case COMPACT_OPENING:
        c->op.kind = VFS_OPEN;
        c->op.path = c->to.text;
        c->op.flags = slog_file_flags(l);
        break;
    case COMPACT_FLUSHING:
        c->op.kind = VFS_FLUSH_DIR;
        c->op.path = "";
        break;
    default: c->op.kind = VFS_UNLINK; break;
    }
    c->is_flying = vfs_submit(l->options.vfs, &c->op) == ERR_OK;
    if (!c->is_flying) give_up_file(l, state);
}

static void finish(struct slog *l)
{
    struct compact *c = &l->compact;
    c->state = COMPACT_IDLE;
    c->look_ns = l->now_ns; /* as fast as packs are made they are looked at */
    c->is_wiped = c->is_unwipeable = false;
    if (c->is_run) {
        c->look_retry_ns = 0;
        c->state = ++c->shed_at < c->run_count ? COMPACT_SHEDDING : COMPACT_IDLE;
        if (c->state == COMPACT_IDLE) end_run(c);
        return;
    }
    c->counts.segments++;
    c->retry_ns = 0;
}

static void on_file(struct vfs_op *op)
{
    struct slog *l = op->context;
    struct compact *c = &l->compact;
    c->is_flying = false;
    if (op->result != ERR_OK) {
        give_up_file(l, c->state);
    } else if (c->state == COMPACT_UNLINKING) {
        finish(l);
    } else if (c->state == COMPACT_RENAMING) {
        file_step(l, COMPACT_OPENING);
    } else if (c->state == COMPACT_OPENING) {
        c->file = op->file;
        file_step(l, COMPACT_FLUSHING);
    } else {
        struct slog_ready ready = {.number = c->number,
                                   .size = c->segment.size,
                                   .file = c->file,
                                   .is_open = true,
                                   .is_scrubbed = c->segment.is_scrubbed && !c->is_wiped};
        c->counts.recycled++;
        slog_end_recycling(l, &ready, c->is_wiped);
        finish(l);
    }
}

static void wipe(struct compact *c)
{
    packer_wipe(&c->packer, &c->from);
    c->state = COMPACT_WIPING;
}

/* What cannot be written now, but may be soon. */
static bool is_passing(enum err e)
{
    return e == ERR_MEMORY || e == ERR_FULL || e == ERR_CLOSED;
}

/* False: not yet, or it could not be and is tried again. What the disk does not take is not waited
 * for, since nothing else would ever be freed: the file goes as it is, and is never used again. */
static bool is_wiping_over(struct slog *l)
{
    struct compact *c = &l->compact;
    if (c->is_job_out || packer_is_running(&c->packer)) return false;
    c->is_wiped = c->packer.state == PACKER_WIPED;
    c->counts.wiped += c->is_wiped;
    c->counts.errors += !c->is_wiped;
    c->is_unwipeable = !c->is_wiped && !is_passing(c->packer.result);
    c->counts.unwiped += c->is_unwipeable;
    packer_end(&c->packer);
    bool is_over = c->is_wiped || c->is_unwipeable;
    if (!is_over)
        c->resume_ns =
            l->now_ns + longer(&c->look_retry_ns, COMPACT_RETRY_NS, COMPACT_RETRY_MAX_NS);
    c->state = c->is_run ? COMPACT_SHEDDING : COMPACT_DRAINING;
    return is_over;
}

static void drain(struct slog *l)
{
    struct compact *c = &l->compact;
    if (!reader_retire(&l->reader, false, l->manifest.log, c->segment.number)) return;
    c->from = names_segment(l->manifest.log, c->segment.number);
    if (c->segment.is_scrubbed && !c->is_wiped && !c->is_unwipeable) {
        wipe(c);
        return;
    }
    bool is_of_use = c->segment.size == l->options.segment_bytes && !c->is_unwipeable;
    if (l->ready_count >= SLOG_READY_MAX || !is_of_use) {
        file_step(l, COMPACT_UNLINKING);
        return;
    }
    if (!slog_begin_recycling(l, &c->number)) return; /* one is being made: next turn */
    c->to = names_segment(l->manifest.log, c->number);
    file_step(l, COMPACT_RENAMING);
}

/* --- packs of which little is needed ------------------------------------------------------- */

static bool may_look(const struct slog *l)
{
    if (l->options.hooks == NULL || l->options.files == NULL || l->options.hooks->count == NULL ||
        l->manifest.pack_count == 0)
        return false;
    /* Segments that wait come first, but on a full disk. */
    return l->has_no_space || sealed_count(l) <= rest_count(l) + SLOG_SEALED_MAX / 2;
}

/* In turns the oldest one, since limits remove the oldest messages, and each of the others. */
static uint32_t pack_to_look_at(struct slog *l)
{
    struct compact *c = &l->compact;
    c->looks_at_oldest = !c->looks_at_oldest;
    if (c->looks_at_oldest) return 0;
    if (++c->look_after >= l->manifest.pack_count) c->look_after = 0;
    return c->look_after;
}

static void look_at(struct slog *l, const struct manifest_pack *p)
{
    struct compact *c = &l->compact;
    c->pack = *p;
    packer_look(&c->packer, &l->manifest, p);
    c->state = COMPACT_LOOKING;
}

static bool may_join(const struct compact *c, const struct manifest_pack *p)
{
    if (p->is_left || c->run_count == PACKER_SOURCES_MAX) return false;
    return c->run_count == 0 || (c->run_bytes <= PACK_RECORDS_BYTES_MAX / 4 * 3 &&
                                 c->run_messages + p->message_count <= COMPACT_RUN_MESSAGES);
}

static void join(struct compact *c, const struct manifest_pack *p, uint64_t bytes)
{
    c->run[c->run_count++] = *p;
    c->run_bytes += bytes;
    c->run_messages += p->message_count;
}

/* Small ones from here on, enough of them. */
static bool has_small_ones(struct slog *l, uint32_t at)
{
    struct compact *c = &l->compact;
    const struct manifest *m = &l->manifest;
    for (; at < m->pack_count && may_join(c, &m->packs[at]); at++) {
        const struct manifest_pack *p = &m->packs[at];
        if (p->size > l->options.segment_bytes / COMPACT_SMALL_PART) break;
        join(c, p, p->record_bytes);
    }
    if (c->run_count >= COMPACT_SMALL_RUN) return true;
    end_run(c);
    return false;
}

static void begin_run(struct slog *l)
{
    struct compact *c = &l->compact;
    uint32_t number;
    if (!slog_take_number(l, &number)) {
        end_run(c);
        c->state = COMPACT_IDLE; /* the next look finds them again */
        return;
    }
    c->is_run = true;
    c->ask_at = c->move_at = c->shed_at = 0;
    begin_streams(c, 1);
    c->has_pack = c->scrubs_output = c->is_wiped = c->is_unwipeable = false;
    c->writing = NULL;
    packer_begin_packs(&c->packer, &l->manifest, c->run, c->run_count, number);
    c->state = COMPACT_READING;
}

/* The first pack that is to be scrubbed. UINT32_MAX: there is none. */
static uint32_t scrubbed_pack(const struct slog *l)
{
    for (uint32_t i = 0; i < l->manifest.pack_count; i++)
        if (l->manifest.packs[i].is_scrubbed && !l->manifest.packs[i].is_left) return i;
    return UINT32_MAX;
}

static void look(struct slog *l)
{
    struct compact *c = &l->compact;
    uint32_t scrubbed = l->is_scrubbing ? scrubbed_pack(l) : UINT32_MAX;
    if (scrubbed != UINT32_MAX) {
        end_run(c);
        c->look_ns = l->now_ns;
        join(c, &l->manifest.packs[scrubbed], 0);
        begin_run(l);
        return;
    }
    uint32_t at = pack_to_look_at(l);
    bool is_busy = l->told_ticket != c->looked_ticket;
    c->look_ns = l->now_ns + (is_busy ? COMPACT_LOOK_SOON_NS : COMPACT_LOOK_NS);
    c->looked_ticket = l->told_ticket;
    end_run(c);
    if (has_small_ones(l, at))
        begin_run(l);
    else if (!l->manifest.packs[at].is_left)
        look_at(l, &l->manifest.packs[at]);
}

static void begin_judging(struct slog *l)
{
    struct compact *c = &l->compact;
    c->judge_at = 0;
    c->judge_bytes = 0;
    c->state = COMPACT_JUDGING;
}

/* Of the index at this place of the directory: its records, and how much of them is needed, taken
 * as alike in size. */
static uint64_t needed_of(const struct slog *l, size_t at)
{
    const struct compact *c = &l->compact;
    const struct store_hooks *h = l->options.hooks;
    const struct text *directory = &c->packer.directory;
    struct pack_directory_entry d, next = {.at = c->pack.record_bytes};
    pack_decode_directory_entry(directory->data + at, &d);
    if (at + PACK_DIRECTORY_BYTES < directory->len)
        pack_decode_directory_entry(directory->data + at + PACK_DIRECTORY_BYTES, &next);
    uint64_t count = h->count(h->context, d.stream, d.seq_first, d.seq_last);
    if (count >= d.count) return next.at - d.at;
    return (uint64_t)((double)(next.at - d.at) * (double)count / d.count) + 1;
}

static void judge(struct slog *l)
{
    struct compact *c = &l->compact;
    for (uint32_t n = 0; n < COMPACT_JUDGE_SLICE && c->judge_at < c->packer.directory.len; n++) {
        c->judge_bytes += needed_of(l, c->judge_at);
        c->judge_at += PACK_DIRECTORY_BYTES;
    }
    if (c->judge_at < c->packer.directory.len) return;
    uint32_t most = l->has_no_space ? COMPACT_FULL_PERCENT : COMPACT_SPARSE_PERCENT;
    bool is_sparse = c->judge_bytes * 100 <= c->pack.record_bytes * most;
    packer_end(&c->packer);
    c->state = COMPACT_IDLE;
    if (is_sparse) {
        join(c, &c->pack, c->judge_bytes);
        const struct manifest_pack *end = l->manifest.packs + l->manifest.pack_count;
        const struct manifest_pack *next = manifest_find_pack(&l->manifest, c->pack.number) + 1;
        if (next < end && may_join(c, next)) {
            look_at(l, next);
            return;
        }
    }
    if (c->run_count > 0) begin_run(l);
}

static void shed(struct slog *l)
{
    struct compact *c = &l->compact;
    uint32_t number = c->run[c->shed_at].number;
    if (!reader_retire(&l->reader, true, l->manifest.log, number)) return;
    c->from = names_pack(l->manifest.log, number);
    if (c->run[c->shed_at].is_scrubbed && !c->is_wiped && !c->is_unwipeable)
        wipe(c);
    else
        file_step(l, COMPACT_UNLINKING);
}

static void begin_shedding(struct slog *l)
{
    struct compact *c = &l->compact;
    uint64_t written = c->has_pack ? c->packer.file_at : 0;
    *(c->has_pack ? &c->counts.rewritten : &c->counts.dropped) += c->run_count;
    for (uint32_t i = 0; i < c->run_count; i++) c->counts.freed_bytes += c->run[i].size;
    c->counts.freed_bytes -= written < c->counts.freed_bytes ? written : c->counts.freed_bytes;
    packer_end(&c->packer);
    c->state = COMPACT_SHEDDING;
    shed(l);
}

/* --- life --------------------------------------------------------------------------------- */

void compact_init(struct slog *l)
{
    struct compact *c = &l->compact;
    *c = (struct compact){.state = COMPACT_IDLE};
    packer_init(&c->packer, l->options.files, l->options.files_mem, l->options.is_direct);
    table_init(&c->done, l->options.mem, MEM_STORE);
    text_init(&c->body, l->options.mem, MEM_STORE, SIZE_MAX / 4);
}

void compact_deinit(struct slog *l)
{
    struct compact *c = &l->compact;
    uint32_t at = 0;
    struct compact_done *d;
    while ((d = table_each(&c->done, &at)) != NULL)
        mem_free(l->options.mem, MEM_STORE, d, sizeof *d);
    table_deinit(&c->done);
    text_deinit(&c->body);
    packer_end(&c->packer);
}

void compact_turn(struct slog *l)
{
    struct compact *c = &l->compact;
    if (c->is_job_out) c->is_job_out = !l->options.helper->is_done(l->options.helper->context);
    if (l->state != SLOG_RUNNING) return;
    switch (c->state) {
    case COMPACT_PAUSED:
        if (l->now_ns < c->resume_ns) return;
        c->state = COMPACT_IDLE;
        /* fall through */
    case COMPACT_IDLE:
        if (may_look(l) && l->now_ns >= c->look_ns)
            look(l);
        else if (is_due(l))
            begin(l);
        return;
    case COMPACT_LOOKING:
    case COMPACT_READING:
    case COMPACT_WRITING: work_on(l); return;
    case COMPACT_ASKING: ask(l); return;
    case COMPACT_CHECKPOINTING: checkpoint_streams(l); return;
    case COMPACT_NAMING:
#ifndef MILLRACE_BREAK_FREED_BEFORE_THE_MANIFEST
        if (l->manifest_written < c->wanted) return;
#endif
        must(!c->packer.is_damaged);
        if (c->has_pack && !know_pack(l)) return;
        c->state = COMPACT_MOVING;
        /* fall through */
    case COMPACT_MOVING:
        if (c->has_pack && !move(l)) return;
        if (c->is_run) {
            begin_shedding(l);
            return;
        }
        packer_end(&c->packer);
        c->state = COMPACT_DRAINING;
        drain(l);
        return;
    case COMPACT_WIPING:
        work_on(l);
        if (!is_wiping_over(l)) return;
        compact_turn(l);
        return;
    case COMPACT_DRAINING:
        if (l->now_ns >= c->resume_ns) drain(l);
        return;
    case COMPACT_JUDGING: judge(l); return;
    case COMPACT_SHEDDING:
        if (l->now_ns >= c->resume_ns) shed(l);
        return;
    default: return; /* an operation will say */
    }
}

uint64_t compact_deadline_ns(const struct slog *l)
{
    const struct compact *c = &l->compact;
    switch (c->state) {
    case COMPACT_PAUSED: return c->resume_ns;
    case COMPACT_IDLE:
        if (is_due(l)) return l->now_ns;
        return may_look(l) ? c->look_ns : UINT64_MAX;
    case COMPACT_LOOKING:
    case COMPACT_READING:
    case COMPACT_WIPING:
    case COMPACT_WRITING: return c->is_job_out ? l->now_ns + COMPACT_POLL_NS : l->now_ns;
    case COMPACT_JUDGING:
    case COMPACT_ASKING: return l->now_ns;
    case COMPACT_CHECKPOINTING:
        if (c->writing == NULL && c->stream_at == c->packer.stream_count) return UINT64_MAX;
        return l->now_ns < c->resume_ns ? c->resume_ns : l->now_ns + COMPACT_BUSY_NS;
    case COMPACT_SHEDDING: return l->now_ns + COMPACT_BUSY_NS;
    case COMPACT_NAMING:
        return l->manifest_written < c->wanted ? UINT64_MAX : l->now_ns + COMPACT_BUSY_NS;
    case COMPACT_MOVING:
    case COMPACT_DRAINING: return l->now_ns + COMPACT_BUSY_NS;
    default: return UINT64_MAX;
    }
}

void compact_scrub(struct slog *l, uint64_t place)
{
    struct compact *c = &l->compact;
    uint32_t number = place_segment(place);
    bool is_of_job = false, is_packed = place_is_packed(place);
    bool has_job = c->state >= COMPACT_READING && c->state <= COMPACT_DRAINING;
    if (has_job && !c->is_run && !is_packed && number == c->segment.number)
        is_of_job = c->segment.is_scrubbed = true;
    for (uint32_t i = 0; has_job && c->is_run && is_packed && i < c->run_count; i++)
        if (c->run[i].number == number) is_of_job = c->run[i].is_scrubbed = true;
    /* The file has no entry from the naming on: it held what its pack holds now, and perhaps what
     * other packs do. */
    bool is_nameless = !c->is_run && c->state >= COMPACT_NAMING && c->state <= COMPACT_FLUSHING;
    if (is_nameless && is_packed && (number == c->pack_number || !c->segment.is_fresh))
        c->segment.is_scrubbed = true;
    /* One of the packs of the run held it, until it moved: those that are not removed yet. */
    bool is_moved = c->is_run && c->state >= COMPACT_NAMING && is_packed;
    for (uint32_t i = c->shed_at; is_moved && number == c->pack_number && i < c->run_count; i++)
        c->run[i].is_scrubbed = true;
    if (!is_of_job || c->state < COMPACT_ASKING) return;
    /* It may have been said to be needed, and be on its way into the new pack. */
    c->scrubs_output = true;
    if (c->has_pack && c->state >= COMPACT_NAMING && c->packer.state == PACKER_PACKED)
        manifest_find_pack(&l->manifest, c->packer.number)->is_scrubbed = true;
}

bool compact_is_scrubbing(const struct slog *l)
{
    const struct compact *c = &l->compact;
    if (scrubbed_pack(l) != UINT32_MAX) return true;
    bool is_idle = c->state == COMPACT_IDLE || c->state == COMPACT_PAUSED;
    for (uint32_t i = c->shed_at; !is_idle && c->is_run && i < c->run_count; i++)
        if (c->run[i].is_scrubbed) return true;
    return !is_idle && !c->is_run && c->segment.is_scrubbed;
}

bool compact_stop(struct slog *l)
{
    struct compact *c = &l->compact;
    if (c->is_flying) return false;
    if (c->is_job_out)
        packer_cancel(&c->packer); /* nothing names what it writes; compact_deinit ends it */
    else
        packer_end(&c->packer);
    c->writing = NULL;
    c->is_collecting = false;
    c->state = COMPACT_IDLE;
    return true;
}
