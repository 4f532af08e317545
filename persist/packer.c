#include "persist/packer.h"
#include <string.h>
#include "core/base/must.h"
#include "persist/pack_file.h"
#include "persist/record.h"
#include "persist/replay.h"
#include "persist/wipe.h"
#include "persist/wire.h"

enum {
    FIRST_ROOM = 256,
    PIECE_BYTES = 64 * 1024, /* of a segment, read at once where there is no memory for all of it */
};

void packer_init(struct packer *p, const struct blocking *files, struct mem *mem, bool is_direct)
{
    *p = (struct packer){.files = files, .mem = mem, .is_direct = is_direct};
}

static void start(struct packer *p)
{
    must(p->state == PACKER_IDLE);
    packer_init(p, p->files, p->mem, p->is_direct);
    table_init(&p->stream_index, p->mem, MEM_STORE);
    text_init(&p->table, p->mem, MEM_STORE, SIZE_MAX / 4);
    text_init(&p->directory, p->mem, MEM_STORE, SIZE_MAX / 4);
    text_init(&p->raw, p->mem, MEM_STORE, SIZE_MAX / 4);
    p->zstd.mem = p->unzstd.mem = p->mem;
}

void packer_begin(struct packer *p, const struct manifest *m, const struct manifest_segment *s)
{
    must(s->is_closed);
    start(p);
    p->secret = m->secret;
    p->log = m->log;
    p->segment = *s;
    p->number = s->number;
    p->state = PACKER_READING;
}

void packer_look(struct packer *p, const struct manifest *m, const struct manifest_pack *pack)
{
    struct manifest_segment s = {.is_closed = true, .number = pack->number};
    packer_begin(p, m, &s);
    p->pack = *pack;
    p->state = PACKER_LOOKING;
}

void packer_begin_packs(struct packer *p, const struct manifest *m,
                        const struct manifest_pack *packs, uint32_t count, uint32_t number)
{
    must(count > 0 && count <= PACKER_SOURCES_MAX);
    struct manifest_segment s = {
        .is_closed = true, .number = number, .incarnation = packs[0].incarnation};
    packer_begin(p, m, &s);
    for (uint32_t i = 0; i < count; i++) p->sources[i].pack = packs[i];
    p->source_count = count;
}

void packer_wipe(struct packer *p, const struct names_text *name)
{
    start(p);
    p->name = *name;
    p->state = PACKER_WIPING;
}

uint32_t packer_source_of(const struct packer *p, uint32_t message)
{
    uint32_t i = 0;
    while (p->sources[i].end <= message) i++;
    must(i < p->source_count);
    return i;
}

void packer_leave_packs(struct packer *p, uint32_t first)
{
    must(p->state == PACKER_LISTED && first > 0 && first < p->source_count);
    for (uint32_t i = p->sources[first - 1].end; i < p->message_count; i++) {
        struct packer_stream *s = &p->streams[p->messages[i].stream];
        s->message_count--;
        s->live_count -= p->messages[i].is_live;
    }
    p->message_count = p->sources[first - 1].end;
    p->source_count = first;
}

static void close_files(struct packer *p)
{
    for (uint32_t i = 0; i < p->source_count; i++) pack_source_close(&p->sources[i].reader);
    if (p->is_loaded) scan_close(&p->scan);
    p->is_loaded = false;
    if (!p->is_open) return;
    struct vfs_op op = {.kind = VFS_CLOSE, .file = p->file};
    p->is_open = false;
    /* Everything was flushed, or nothing of it counts. */
    (void)!blocking_run(p->files, &op);
}

/* It would take what is left of a full disk until the next start. */
static void remove_file(const struct packer *p)
{
    struct vfs_op op = {.kind = VFS_UNLINK, .path = p->name.text};
    (void)!blocking_run(p->files, &op); /* a start removes it too */
}

void packer_cancel(struct packer *p)
{
    p->is_cancelled = true;
}

void packer_end(struct packer *p)
{
    if (p->state == PACKER_IDLE) return;
    close_files(p);
    mem_free(p->mem, MEM_STORE, p->messages, p->message_room * sizeof *p->messages);
    mem_free(p->mem, MEM_STORE, p->streams, p->stream_room * sizeof *p->streams);
    mem_free(p->mem, MEM_STORE, p->order, p->live_count * sizeof *p->order);
    mem_free(p->mem, MEM_STORE, p->piece, p->piece_room);
    if (p->index != NULL) pack_index_deinit(p->index);
    mem_free(p->mem, MEM_STORE, p->index, sizeof *p->index);
    table_deinit(&p->stream_index);
    text_deinit(&p->table);
    text_deinit(&p->directory);
    text_deinit(&p->raw);
    pack_zstd_deinit(&p->zstd);
    pack_zstd_deinit(&p->unzstd);
    packer_init(p, p->files, p->mem, p->is_direct);
}

/* --- the list ----------------------------------------------------------------------------- */

/* Room for one more element of an array. */
static enum err grow(struct mem *mem, void **array, uint32_t count, uint32_t *room, size_t size)
{
    if (count < *room) return ERR_OK;
    uint32_t wanted = *room == 0 ? FIRST_ROOM : 2 * *room;
    void *to = mem_alloc(mem, MEM_STORE, wanted * size);
    if (to == NULL) return ERR_MEMORY;
    if (count > 0) memcpy(to, *array, count * size);
    mem_free(mem, MEM_STORE, *array, *room * size);
    *array = to;
    *room = wanted;
    return ERR_OK;
}

static enum err find_stream(struct packer *p, uint64_t id, uint32_t *index)
{
    if (p->stream_count > 0 && p->streams[p->stream_last].id == id) {
        *index = p->stream_last;
        return ERR_OK;
    }
    uint64_t hash = hash_bytes(&id, sizeof id, 0);
    uint32_t at;
    for (void *v = table_first(&p->stream_index, hash, &at); v != NULL;
         v = table_next(&p->stream_index, hash, &at)) {
        uint32_t i = (uint32_t)(uintptr_t)v - 1;
        if (p->streams[i].id != id) continue;
        *index = p->stream_last = i;
        return ERR_OK;
    }
    enum err e =
        grow(p->mem, (void **)&p->streams, p->stream_count, &p->stream_room, sizeof *p->streams);
    if (e != ERR_OK) return e;
    e = table_insert(&p->stream_index, hash, (void *)(uintptr_t)(p->stream_count + 1));
    if (e != ERR_OK) return e;
    p->streams[p->stream_count] = (struct packer_stream){.id = id};
    *index = p->stream_last = p->stream_count++;
    return ERR_OK;
}

static enum err on_record(void *context, const struct record *r, const struct store_stub *stub)
{
    struct packer *p = context;
    uint32_t stream;
    if (r->stream == 0) return ERR_OK;
    enum err e = find_stream(p, r->stream, &stream);
    if (e != ERR_OK || r->kind != RECORD_MESSAGE) return e;
    e = grow(p->mem, (void **)&p->messages, p->message_count, &p->message_room,
             sizeof *p->messages);
    if (e != ERR_OK) return e;
    p->messages[p->message_count++] =
        (struct packer_message){.seq = r->seq,
                                .stream = stream,
                                .at = (uint32_t)(place_offset(stub->place) / PLACE_UNIT_BYTES),
                                .bytes = stub->bytes};
    p->streams[stream].message_count++;
    return ERR_OK;
}

/* The same walk as at a start, so that both agree on what a segment holds. */
static enum err read_segment(struct packer *p)
{
    struct recovery_options o = {.blocking = p->files,
                                 .mem = p->mem,
                                 .is_direct = p->is_direct,
                                 .replay = {.context = p, .record = on_record}};
    struct recovery_counts counts = {0};
    struct manifest one;
    struct replay_log log;
    manifest_init(&one, p->mem, p->log, 0, p->secret);
    one.next_segment = p->segment.number + 1;
    one.replay_segment = p->segment.number;
    enum err e = manifest_add(&one, &p->segment);
    if (e != ERR_OK) return e;
    replay_init(&log, &o, &counts, &one, NULL);
    replay_again(&log);
    e = replay_segment(&log, 0);
    p->is_damaged = log.has_damage;
    manifest_deinit(&one);
    /* What cannot be read today is not to be taken for what is not there. */
    if (e == ERR_OK && counts.read_errors > 0) e = ERR_IO;
    return e;
}

/* What a pack says that it does not hold as it was written, it is not rewritten for. */
static enum err read_source(struct packer *p)
{
    struct recovery_options o = {
        .blocking = p->files, .mem = p->mem, .replay = {.context = p, .record = on_record}};
    struct recovery_counts counts = {0};
    struct manifest m = {.log = p->log, .secret = p->secret};
    struct packer_source *s = &p->sources[p->source_at];
    p->source_bad = p->source_at;
    enum err e = pack_file_read(&o, &m, &s->pack, false, &counts);
    s->end = p->message_count;
    p->source_at++;
    if (e == ERR_OK && counts.read_errors > 0) return ERR_IO;
    bool is_whole = counts.damaged_ranges == 0 && counts.damaged_indexes == 0;
    return e == ERR_OK && !is_whole ? ERR_CORRUPT : e;
}

/* --- the pack ----------------------------------------------------------------------------- */

static struct place_key key_of(const struct packer *p, uint32_t number)
{
    return (struct place_key){.secret = p->secret,
                              .log = p->log,
                              .segment = number,
                              .incarnation = p->segment.incarnation};
}

void packer_pack(struct packer *p)
{
    must(p->state == PACKER_LISTED);
    p->live_count = 0;
    for (uint32_t i = 0; i < p->message_count; i++) p->live_count += p->messages[i].is_live;
    must(p->live_count > 0);
    p->state = PACKER_LOADING;
}

void packer_discard(struct packer *p, enum err why)
{
    must(p->state == PACKER_LISTED || p->state == PACKER_PACKED);
    must(why != ERR_OK);
    p->result = why;
    p->state = PACKER_DISCARDING;
}

/* By stream; in a stream the order of the log is that of its sequences, also across packs. */
static void sort_messages(struct packer *p)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < p->stream_count; i++) {
        p->streams[i].order_at = sum;
        sum += p->streams[i].live_count;
    }
    must(sum == p->live_count);
    for (uint32_t i = 0; i < p->message_count; i++)
        if (p->messages[i].is_live) p->order[p->streams[p->messages[i].stream].order_at++] = i;
}

static enum err open_file(struct packer *p)
{
    p->name = names_pack(p->log, p->number);
    struct vfs_op op = {.kind = VFS_OPEN, .path = p->name.text, .flags = VFS_CREATE};
    enum err e = blocking_run(p->files, &op);
    if (e != ERR_OK) return e;
    p->file = op.file;
    p->is_open = true;
    /* Of an attempt that came to nothing. */
    struct vfs_op truncate = {.kind = VFS_TRUNCATE, .file = p->file};
    return blocking_run(p->files, &truncate);
}

static enum err load_segment(struct packer *p)
{
    struct place_key key = key_of(p, p->segment.number);
    enum err e =
        scan_open(&p->scan, p->files, p->mem, &key, p->segment.size, p->is_direct ? VFS_DIRECT : 0);
    if (e != ERR_OK) return e;
    p->is_loaded = true;
    e = scan_at(&p->scan, 0, p->segment.end, &p->data);
    if (e != ERR_MEMORY) return e;
    /* With a small budget the log would grow for ever. */
    p->data = NULL;
    p->scan.window_bytes = PIECE_BYTES;
    return ERR_OK;
}

/* What the segment holds from here on; so many bytes of it can be looked at. */
static enum err look_into(struct packer *p, uint64_t offset, uint64_t *bytes, const char **out)
{
    if (p->data == NULL) return scan_at(&p->scan, offset, *bytes, out);
    *bytes = p->segment.end - offset;
    *out = p->data + offset;
    return ERR_OK;
}

static enum err load_sources(struct packer *p)
{
    enum err e = pack_zstd_init(&p->unzstd, p->mem, false);
    for (uint32_t i = 0; e == ERR_OK && i < p->source_count; i++) {
        p->source_bad = i;
        e = pack_source_open(&p->sources[i].reader, p->files, p->mem, p->log, p->secret,
                             &p->sources[i].pack);
    }
    return e;
}

static enum err load(struct packer *p)
{
    p->order = mem_alloc(p->mem, MEM_STORE, p->live_count * sizeof *p->order);
    p->index = mem_alloc(p->mem, MEM_STORE, sizeof *p->index);
    if (p->index != NULL) pack_index_init(p->index, p->mem);
    if (p->order == NULL || p->index == NULL) return ERR_MEMORY;
    enum err e = pack_zstd_init(&p->zstd, p->mem, true);
    if (e != ERR_OK) return e;
    sort_messages(p);
    e = p->source_count > 0 ? load_sources(p) : load_segment(p);
    return e == ERR_OK ? open_file(p) : e;
}

static enum err write_at(struct packer *p, uint64_t offset, const void *data, uint32_t bytes)
{
    struct vfs_op op = {.kind = VFS_WRITE,
                        .file = p->file,
                        .data = (void *)(uintptr_t)data,
                        .bytes = bytes,
                        .offset = offset};
    return blocking_run(p->files, &op);
}

/* What raw holds becomes the next piece; *piece_bytes: of it in the file. */
static enum err write_piece(struct packer *p, struct pack_piece *piece, bool is_compressed,
                            uint32_t *piece_bytes)
{
    struct place_key key = key_of(p, p->number);
    if (p->raw.is_failed) return ERR_MEMORY;
    piece->raw_bytes = (uint32_t)p->raw.len;
    size_t room = pack_piece_room(p->raw.len);
    if (room > p->piece_room) {
        mem_free(p->mem, MEM_STORE, p->piece, p->piece_room);
        p->piece_room = 0;
        p->piece = mem_alloc(p->mem, MEM_STORE, room);
        if (p->piece == NULL) return ERR_MEMORY;
        p->piece_room = room;
    }
    pack_encode_piece(piece, &key, p->file_at, p->raw.data, is_compressed ? &p->zstd : NULL,
                      p->piece);
    *piece_bytes = PACK_PIECE_BYTES + piece->held_bytes;
    enum err e = write_at(p, p->file_at, p->piece, *piece_bytes);
    uint64_t end = p->file_at + *piece_bytes;
    if (e == ERR_OK)
        p->file_at = (end + PLACE_UNIT_BYTES - 1) / PLACE_UNIT_BYTES * PLACE_UNIT_BYTES;
    return e;
}

/* The next message in the order of the pack. */
static enum err decode(struct packer *p, struct record *r)
{
    const struct packer_message *m = &p->messages[p->order[p->order_at]];
    struct place_key key = key_of(p, p->segment.number);
    uint64_t offset = (uint64_t)m->at * PLACE_UNIT_BYTES;
    uint32_t bytes;
    if (p->source_count > 0) {
        uint32_t from = p->source_bad = packer_source_of(p, p->order[p->order_at]);
        enum err e = pack_source_record(&p->sources[from].reader, &p->unzstd, offset, r);
        return e == ERR_OK && r->seq != m->seq ? ERR_CORRUPT : e;
    }
    uint64_t room = m->bytes;
    const char *data;
    enum err e = look_into(p, offset, &room, &data);
    if (e != ERR_OK) return e;
    e = record_decode(data, room, &key, offset, r, &bytes);
    /* It was whole when it was listed: the disk, or the memory, is at fault. */
    return e == ERR_INCOMPLETE ? ERR_CORRUPT : e;
}

static enum err write_block(struct packer *p)
{
    struct pack_piece piece = {.kind = PACK_BLOCK,
                               .at = (uint32_t)(p->record_bytes / PLACE_UNIT_BYTES)};
    struct pack_table_entry entry = {.offset = p->file_at, .at = p->record_bytes};
    text_clear(&p->raw);
    while (p->order_at < p->live_count) {
        struct packer_message *m = &p->messages[p->order[p->order_at]];
        struct record r;
        enum err e = decode(p, &r);
        if (e != ERR_OK) return e;
        uint32_t bytes = pack_record_bytes(&r);
        if (p->raw.len > 0 && p->raw.len + bytes > PACK_BLOCK_BYTES) break;
        text_fill(&p->raw, 0, bytes);
        if (p->raw.is_failed) return ERR_MEMORY;
        pack_encode_record(&r, p->raw.data + p->raw.len - bytes);
        m->to = (uint32_t)(p->record_bytes / PLACE_UNIT_BYTES);
        p->record_bytes += bytes;
        piece.count++;
        p->order_at++;
    }
    entry.raw_bytes = (uint32_t)p->raw.len;
    enum err e = write_piece(p, &piece, true, &entry.piece_bytes);
    if (e != ERR_OK) return e;
    char encoded[PACK_TABLE_BYTES];
    pack_encode_table_entry(&entry, encoded);
    text_bytes(&p->table, (struct bytes){encoded, sizeof encoded});
    p->block_count++;
    return p->table.is_failed ? ERR_MEMORY : ERR_OK;
}

static enum err write_index(struct packer *p)
{
    struct pack_index *x = p->index;
    const struct packer_message *first = &p->messages[p->order[p->order_at]];
    pack_index_reset(x, p->streams[first->stream].id);
    while (p->order_at < p->live_count) {
        struct packer_message *m = &p->messages[p->order[p->order_at]];
        struct record r;
        if (m->stream != first->stream) break;
        enum err e = decode(p, &r);
        if (e != ERR_OK) return e;
        struct pack_index_message im = {.stream = r.stream,
                                        .seq = r.seq,
                                        .time_ns = r.time_ns,
                                        .at = (uint64_t)m->to * PLACE_UNIT_BYTES,
                                        .headers_bytes = (uint32_t)r.headers.len,
                                        .body_bytes = (uint32_t)r.body.len,
                                        .subject = r.subject};
        e = pack_index_add(x, &im);
        if (e == ERR_FULL) break;
        if (e != ERR_OK) return e;
        m->bytes = pack_record_bytes(&r);
        p->order_at++;
    }
    text_clear(&p->raw);
    pack_index_encode(x, &p->raw);
    struct pack_piece piece = {.kind = PACK_INDEX, .count = x->count};
    struct pack_directory_entry entry = {.stream = x->stream,
                                         .seq_first = x->seq_first,
                                         .seq_last = x->seq_last,
                                         .time_first = x->time_first,
                                         .time_last = x->time_last,
                                         .offset = p->file_at,
                                         .raw_bytes = (uint32_t)p->raw.len,
                                         .count = x->count,
                                         .at = x->at_first};
    enum err e = write_piece(p, &piece, true, &entry.piece_bytes);
    if (e != ERR_OK) return e;
    char encoded[PACK_DIRECTORY_BYTES];
    pack_encode_directory_entry(&entry, encoded);
    text_bytes(&p->directory, (struct bytes){encoded, sizeof encoded});
    p->index_count++;
    return p->directory.is_failed ? ERR_MEMORY : ERR_OK;
}

static enum err write_list(struct packer *p, enum pack_kind kind, const struct text *list,
                           uint32_t count, uint64_t *offset)
{
    struct pack_piece piece = {.kind = kind, .count = count};
    uint32_t unused;
    text_clear(&p->raw);
    text_bytes(&p->raw, text_written(list));
    *offset = p->file_at;
    return write_piece(p, &piece, false, &unused);
}

static enum err write_tables(struct packer *p)
{
    struct place_key key = key_of(p, p->number);
    struct pack_foot feet[PACK_FEET];
    for (uint32_t i = 0; i < PACK_FEET; i++) {
        feet[i] = (struct pack_foot){.block_count = p->block_count,
                                     .index_count = p->index_count,
                                     .message_count = p->live_count,
                                     .record_bytes = p->record_bytes};
        enum err e = write_list(p, PACK_TABLE, &p->table, p->block_count, &feet[i].table_offset);
        if (e != ERR_OK) return e;
        e = write_list(p, PACK_DIRECTORY, &p->directory, p->index_count, &feet[i].directory_offset);
        if (e != ERR_OK) return e;
    }
    p->file_at = place_block_up(p->file_at);
    text_clear(&p->raw);
    text_fill(&p->raw, 0, PACK_FOOT_BYTES);
    if (p->raw.is_failed) return ERR_MEMORY;
    for (uint32_t i = 0; i < PACK_FEET; i++) {
        feet[i].file_bytes = p->file_at + (PACK_FEET - i) * (uint64_t)PACK_FOOT_BYTES;
        pack_encode_foot(&feet[i], &key, p->file_at, p->raw.data);
        enum err e = write_at(p, p->file_at, p->raw.data, PACK_FOOT_BYTES);
        if (e != ERR_OK) return e;
        p->file_at += PACK_FOOT_BYTES;
    }
    return ERR_OK;
}

/* Only now may anything depend on it (P7). */
static enum err flush(const struct packer *p)
{
#ifndef MILLRACE_BREAK_PACK_FLUSH_SKIPPED
    struct vfs_op flush = {.kind = VFS_FLUSH, .file = p->file};
    enum err e = blocking_run(p->files, &flush);
    if (e != ERR_OK) return e;
#endif
    struct vfs_op folder = {.kind = VFS_FLUSH_DIR, .path = ""};
    return blocking_run(p->files, &folder);
}

static enum err look(struct packer *p)
{
    struct recovery_options o = {.blocking = p->files, .mem = p->mem};
    struct manifest m = {.log = p->log, .secret = p->secret};
    return pack_file_directory(&o, &m, &p->pack, &p->directory);
}

/* --- steps -------------------------------------------------------------------------------- */

static void go_to(struct packer *p, enum packer_state state)
{
    p->state = state;
    p->order_at = 0;
}

static enum err run_step(struct packer *p)
{
    enum err e;
    switch (p->state) {
    case PACKER_READING:
        e = p->source_count > 0 ? read_source(p) : read_segment(p);
        if (e == ERR_OK && p->source_at == p->source_count) go_to(p, PACKER_LISTED);
        return e;
    case PACKER_LOOKING:
        e = look(p);
        if (e == ERR_OK) go_to(p, PACKER_LISTED);
        return e;
    case PACKER_WIPING:
        e = wipe_file(p->files, p->mem, p->name.text);
        if (e == ERR_OK) go_to(p, PACKER_WIPED);
        return e;
    case PACKER_DISCARDING:
        if (p->name.text[0] != 0) remove_file(p);
        return p->result;
    case PACKER_LOADING:
        e = load(p);
        if (e == ERR_OK) go_to(p, PACKER_BLOCKS);
        return e;
    case PACKER_BLOCKS:
        e = write_block(p);
        if (e == ERR_OK && p->order_at == p->live_count) go_to(p, PACKER_INDEXES);
        return e;
    case PACKER_INDEXES:
        e = write_index(p);
        if (e == ERR_OK && p->order_at == p->live_count) go_to(p, PACKER_TABLES);
        return e;
    case PACKER_TABLES:
        e = write_tables(p);
        if (e == ERR_OK) go_to(p, PACKER_FLUSHING);
        return e;
    default:
        must(p->state == PACKER_FLUSHING);
        e = flush(p);
        if (e != ERR_OK) return e;
        close_files(p);
        go_to(p, PACKER_PACKED);
        return ERR_OK;
    }
}

bool packer_is_running(const struct packer *p)
{
    return p->state == PACKER_READING || p->state == PACKER_LOOKING || p->state == PACKER_WIPING ||
           p->state == PACKER_DISCARDING ||
           (p->state >= PACKER_LOADING && p->state <= PACKER_FLUSHING);
}

bool packer_step(struct packer *p)
{
    if (!packer_is_running(p)) return false;
    p->result = p->is_cancelled ? ERR_CLOSED : run_step(p);
    if (p->result != ERR_OK) {
        bool has_file = p->is_open;
        close_files(p);
        if (has_file) remove_file(p);
        p->state = PACKER_FAILED;
    }
    return packer_is_running(p);
}
