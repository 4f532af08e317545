#include "persist/compact.h"
#include "core/base/must.h"
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
    c->resume_ns = l->now_ns + for_ns;
    c->state = COMPACT_PAUSED;
}

static uint64_t longer(uint64_t *pause_ns, uint64_t first_ns, uint64_t max_ns)
{
    uint64_t now = *pause_ns == 0 ? first_ns : *pause_ns;
    *pause_ns = 2 * now > max_ns ? max_ns : 2 * now;
    return now;
}

static void fail(struct slog *l)
{
    struct compact *c = &l->compact;
    c->counts.errors++;
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

static bool is_due(const struct slog *l)
{
    if (l->options.hooks == NULL || l->options.files == NULL) return false;
    if (l->manifest.count < 2) return false;
    if (sealed_count(l) <= (uint64_t)l->options.sealed_wait + compact_extra(l)) return false;
    const struct manifest_segment *s = &l->manifest.segments[0];
    for (uint32_t i = 0; i < l->old_count; i++)
        if (l->olds[i].segment == s->number) return false;
    return s->last_group <= l->told_group;
}

static void begin(struct slog *l)
{
    struct compact *c = &l->compact;
    c->segment = l->manifest.segments[0];
    c->ask_at = c->move_at = 0;
    begin_streams(c, 1);
    c->has_pack = false;
    c->writing = NULL;
    packer_begin(&c->packer, &l->manifest, &c->segment);
    c->state = COMPACT_READING;
}

static void judge(struct slog *l);

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
        judge(l);
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
        packer_end(&c->packer); /* it stays as it is */
        c->counts.errors++;
        c->state = COMPACT_IDLE;
    } else if (c->packer.state == PACKER_FAILED) {
        fail(l);
    }
}

static void ask(struct slog *l)
{
    struct compact *c = &l->compact;
    struct packer *p = &c->packer;
    const struct store_hooks *h = l->options.hooks;
    for (uint32_t n = 0; n < COMPACT_ASK_SLICE && c->ask_at < p->message_count; n++) {
        struct packer_message *m = &p->messages[c->ask_at++];
        uint64_t place = place_of(p->log, p->segment.number, (uint64_t)m->at * PLACE_UNIT_BYTES);
        enum store_fate fate = h->fate(h->context, p->streams[m->stream].id, m->seq, place);
        m->is_live = fate == STORE_LIVE;
        p->streams[m->stream].live_count += m->is_live;
        c->counts.messages++;
        c->counts.live += m->is_live;
        if (fate != STORE_KEEP) continue;
        packer_end(p);
        c->state = COMPACT_PINNED;
        return;
    }
    if (c->ask_at < p->message_count) return;
    c->asked_group = l->told_group;
    for (uint32_t i = 0; i < p->stream_count && !c->has_pack; i++)
        c->has_pack = p->streams[i].live_count > 0;
    if (c->has_pack) packer_pack(p);
    c->state = c->has_pack ? COMPACT_WRITING : COMPACT_CHECKPOINTING;
}

/* --- checkpoints -------------------------------------------------------------------------- */

/* False: not all of it fits in now. */
static bool append_parts(struct slog *l)
{
    struct compact *c = &l->compact;
    size_t part_bytes = l->options.group_bytes / 2;
    if (part_bytes > COMPACT_PART_BYTES) part_bytes = COMPACT_PART_BYTES;
    while (c->writing != NULL) {
        size_t left = c->body.len - c->body_at, bytes = left < part_bytes ? left : part_bytes;
        if (commit_staged_percent(&l->commit) > COMPACT_STAGED_PERCENT) return false;
        struct record r = {.kind = RECORD_CHECKPOINT,
                           .flags = bytes == left ? RECORD_LAST : 0,
                           .stream = c->writing->stream,
                           .seq = c->part,
                           .prev_seq = c->writing->copies[c->slot].group,
                           .body = {c->body.data + c->body_at, bytes}};
        struct store_stub stub;
        if (slog_append_own(l, &r, &stub) != ERR_OK) return false;
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
    if (known != NULL && known->end_ticket > l->told_ticket) {
        ask_again(l);
        return false;
    }
    text_clear(&c->body);
    enum err e = h->checkpoint(h->context, stream, &c->body);
    if (e == ERR_UNKNOWN) {
        forget_done(l, stream);
        c->stream_at++;
        return true;
    }
    struct compact_done *d = e == ERR_OK && !c->body.is_failed ? make_done(l, stream) : NULL;
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
    c->slot = d->copies[d->newest].ticket == 0 ? d->newest : COMPACT_COPIES - 1 - d->newest;
    d->copies[c->slot] = (struct compact_copy){.group = l->told_group};
    c->writing = d;
    c->body_at = 0;
    c->part = 0;
    c->part_bytes = 0;
    return true;
}

static void name_without(struct slog *l)
{
    struct compact *c = &l->compact;
    must(l->manifest.segments[0].number == c->segment.number);
    if (c->has_pack) {
        struct manifest_pack pack = {.number = c->segment.number,
                                     .incarnation = c->segment.incarnation,
                                     .size = c->packer.file_at,
                                     .message_count = c->packer.live_count,
                                     .record_bytes = c->packer.record_bytes};
        if (manifest_add_pack(&l->manifest, &pack) != ERR_OK) return; /* the next turn */
        c->counts.packs++;
        c->counts.pack_bytes += pack.size;
    }
    manifest_remove_first(&l->manifest);
    c->wanted = ++l->manifest_wanted;
    c->state = COMPACT_NAMING;
}

static void checkpoint_streams(struct slog *l)
{
    struct compact *c = &l->compact;
    const struct packer *p = &c->packer;
    if (l->now_ns < c->resume_ns) return;
    for (uint32_t n = 0; n < COMPACT_CHECKPOINT_SLICE; n++) {
        if (c->writing != NULL && !append_parts(l)) return;
        if (c->stream_at == p->stream_count) break;
        uint64_t stream = p->streams[c->stream_at].id;
        if (covering(c, find_done(c, stream)) >= c->copies)
            c->stream_at++;
        else if (!begin_checkpoint(l, stream))
            return;
    }
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
    enum err e = reader_add_pack(&l->reader, l->manifest.log, c->segment.number,
                                 c->segment.incarnation, c->packer.file_at);
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
        uint64_t from = place_of(p->log, c->segment.number, (uint64_t)m->at * PLACE_UNIT_BYTES);
        if (m->is_live &&
            h->moved(h->context, p->streams[m->stream].id, m->seq, from,
                     place_packed(p->log, c->segment.number, (uint64_t)m->to * PLACE_UNIT_BYTES),
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
        slog_end_recycling(l, NULL);
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
    c->counts.segments++;
    c->retry_ns = 0;
    c->look_ns = l->now_ns; /* as fast as packs are made they are looked at */
    c->state = COMPACT_IDLE;
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
        struct slog_ready ready = {
            .number = c->number, .size = c->segment.size, .file = c->file, .is_open = true};
        c->counts.recycled++;
        slog_end_recycling(l, &ready);
        finish(l);
    }
}

static void drain(struct slog *l)
{
    struct compact *c = &l->compact;
    if (!reader_retire(&l->reader, false, l->manifest.log, c->segment.number)) return;
    c->from = names_segment(l->manifest.log, c->segment.number);
    if (l->ready_count >= SLOG_READY_MAX || c->segment.size != l->options.segment_bytes) {
        file_step(l, COMPACT_UNLINKING);
        return;
    }
    if (!slog_begin_recycling(l, &c->number)) return; /* one is being made: next turn */
    c->to = names_segment(l->manifest.log, c->number);
    file_step(l, COMPACT_RENAMING);
}

/* --- packs that nobody needs -------------------------------------------------------------- */

/* In turns the oldest one, since limits remove the oldest messages, and each of the others. */
static const struct manifest_pack *pack_to_look_at(struct slog *l)
{
    struct compact *c = &l->compact;
    const struct manifest *m = &l->manifest;
    c->looks_at_oldest = !c->looks_at_oldest;
    if (c->looks_at_oldest) return &m->packs[0];
    for (uint32_t i = 0; i < m->pack_count; i++)
        if (m->packs[i].number > c->look_after) {
            c->look_after = m->packs[i].number;
            return &m->packs[i];
        }
    c->look_after = 0;
    return &m->packs[0];
}

static bool may_look(const struct slog *l)
{
    return l->options.hooks != NULL && l->options.files != NULL &&
           l->options.hooks->needs != NULL && l->manifest.pack_count > 0;
}

static void look(struct slog *l)
{
    struct compact *c = &l->compact;
    c->pack = *pack_to_look_at(l);
    c->look_ns = l->now_ns + COMPACT_LOOK_NS;
    packer_look(&c->packer, &l->manifest, &c->pack);
    c->state = COMPACT_LOOKING;
}

static bool is_needed(const struct slog *l)
{
    const struct compact *c = &l->compact;
    const struct store_hooks *h = l->options.hooks;
    for (size_t at = 0; at < c->packer.directory.len; at += PACK_DIRECTORY_BYTES) {
        struct pack_directory_entry d;
        pack_decode_directory_entry(c->packer.directory.data + at, &d);
        if (h->needs(h->context, d.stream, d.seq_first, d.seq_last)) return true;
    }
    return false;
}

static void judge(struct slog *l)
{
    struct compact *c = &l->compact;
    bool is_dead = !is_needed(l);
    packer_end(&c->packer);
    c->state = is_dead ? COMPACT_DOOMED : COMPACT_IDLE;
    c->asked_group = l->told_group;
}

static void drop(struct slog *l)
{
    struct compact *c = &l->compact;
#ifndef MILLRACE_BREAK_DROPPED_BEFORE_DURABLE
    if (l->commit.durable < c->asked_group) return;
#endif
    manifest_remove_pack(&l->manifest, c->pack.number);
    c->wanted = ++l->manifest_wanted;
    c->look_ns = l->now_ns; /* the next one may be dead too */
    c->state = COMPACT_DROPPING;
}

static void shed(struct slog *l)
{
    struct compact *c = &l->compact;
    if (!reader_retire(&l->reader, true, l->manifest.log, c->pack.number)) return;
    c->from = names_pack(l->manifest.log, c->pack.number);
    c->counts.dropped++;
    file_step(l, COMPACT_UNLINKING);
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
        packer_end(&c->packer);
        c->state = COMPACT_DRAINING;
        drain(l);
        return;
    case COMPACT_DRAINING: drain(l); return;
    case COMPACT_DOOMED: drop(l); return;
    case COMPACT_DROPPING:
        if (l->manifest_written < c->wanted) return;
        c->state = COMPACT_SHEDDING;
        shed(l);
        return;
    case COMPACT_SHEDDING: shed(l); return;
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
    case COMPACT_WRITING: return c->is_job_out ? l->now_ns + COMPACT_POLL_NS : l->now_ns;
    case COMPACT_ASKING: return l->now_ns;
    case COMPACT_CHECKPOINTING:
        if (c->writing == NULL && c->stream_at == c->packer.stream_count) return UINT64_MAX;
        return l->now_ns < c->resume_ns ? c->resume_ns : l->now_ns + COMPACT_BUSY_NS;
    case COMPACT_SHEDDING: return l->now_ns + COMPACT_BUSY_NS;
    case COMPACT_DOOMED: return l->commit.durable < c->asked_group ? UINT64_MAX : l->now_ns;
    case COMPACT_DROPPING:
    case COMPACT_NAMING:
        return l->manifest_written < c->wanted ? UINT64_MAX : l->now_ns + COMPACT_BUSY_NS;
    case COMPACT_MOVING:
    case COMPACT_DRAINING: return l->now_ns + COMPACT_BUSY_NS;
    default: return UINT64_MAX;
    }
}

bool compact_stop(struct slog *l)
{
    struct compact *c = &l->compact;
    if (c->is_job_out) packer_cancel(&c->packer);
    if (c->is_job_out || c->is_flying) return false;
    packer_end(&c->packer);
    c->writing = NULL;
    c->state = COMPACT_IDLE;
    return true;
}
