#include "persist/pack_file.h"
#include "core/base/must.h"
#include "persist/names.h"
#include "persist/record.h"
#include "persist/wire.h"

enum {
    /* More than any piece that packer writes can be, but for one with a single large record. */
    PIECE_BYTES_MAX = 2 * PLACE_SEGMENT_BYTES_MAX,
    FIND_BYTES = 64 * 1024,
    WARM_BYTES = 4 * 1024 * 1024, /* indexes of some 400,000 messages */
};

struct buffer {
    char *data;
    size_t room;
};

struct pack_file {
    const struct recovery_options *options;
    struct recovery_counts *counts;
    struct mem *mem;
    const struct manifest_pack *pack;
    struct place_key key;
    struct vfs_file file;
    struct buffer piece, raw, table, directory;
    uint32_t block_count, index_count;
    uint32_t *block_messages; /* by block, as the indexes say; NULL: nobody counts */
    bool has_all_indexes;     /* so that is exact */
    uint64_t given;
    struct {
        const char *what;
        uint64_t offset, bytes;
    } part; /* of the feet that is being read */
    uint32_t *subject_at;
    struct pack_zstd zstd;
    enum err stopped; /* what the callback said */
};

/* --- reading pieces ----------------------------------------------------------------------- */

static enum err make_room(struct pack_file *f, struct buffer *b, size_t bytes)
{
    if (bytes <= b->room) return ERR_OK;
    mem_free(f->mem, MEM_STORE, b->data, b->room);
    b->room = 0;
    b->data = mem_alloc(f->mem, MEM_STORE, bytes);
    if (b->data == NULL) return ERR_MEMORY;
    b->room = bytes;
    return ERR_OK;
}

/* ERR_CORRUPT: the file has not so many bytes there, or they cannot be read. */
static enum err read_at(struct pack_file *f, uint64_t offset, size_t bytes)
{
    if (offset > f->pack->size || bytes > f->pack->size - offset) return ERR_CORRUPT;
    enum err e = make_room(f, &f->piece, bytes);
    if (e != ERR_OK) return e;
    struct vfs_op op = {.kind = VFS_READ,
                        .file = f->file,
                        .data = f->piece.data,
                        .bytes = (uint32_t)bytes,
                        .offset = offset};
    e = blocking_run(f->options->blocking, &op);
    if (e == ERR_CLOSED || e == ERR_MEMORY) return e;
    f->counts->bytes_read += e == ERR_OK ? op.bytes_done : 0;
    f->counts->read_errors += e != ERR_OK;
    return e == ERR_OK && op.bytes_done == bytes ? ERR_OK : ERR_CORRUPT;
}

/* The piece at offset into f->piece; its length is in its header. */
static enum err read_piece(struct pack_file *f, uint64_t offset, enum pack_kind kind,
                           struct pack_piece *out)
{
    enum err e = read_at(f, offset, PACK_PIECE_BYTES);
    if (e != ERR_OK) return e;
    uint64_t bytes = PACK_PIECE_BYTES + (uint64_t)wire_u32(f->piece.data + 12);
    if (wire_u32(f->piece.data + 8) != (uint32_t)kind || bytes > PIECE_BYTES_MAX)
        return ERR_CORRUPT;
    e = read_at(f, offset, bytes);
    if (e != ERR_OK) return e;
    e = pack_decode_piece(f->piece.data, bytes, &f->key, offset, kind, out);
    /* Who looks a message up reads these as they lie. */
    bool is_plain = kind == PACK_TABLE || kind == PACK_DIRECTORY;
    if (e == ERR_OK && is_plain && out->is_compressed) return ERR_CORRUPT;
    return e == ERR_OK && out->raw_bytes > PIECE_BYTES_MAX ? ERR_CORRUPT : e;
}

static enum err read_raw(struct pack_file *f, uint64_t offset, enum pack_kind kind,
                         struct buffer *to, struct pack_piece *out)
{
    enum err e = read_piece(f, offset, kind, out);
    if (e == ERR_OK) e = make_room(f, to, out->raw_bytes > 0 ? out->raw_bytes : 1);
    return e == ERR_OK ? pack_unpack(out, f->piece.data, &f->zstd, to->data) : e;
}

/* --- what is told ------------------------------------------------------------------------- */

static enum err give(struct pack_file *f, const struct record *r, uint64_t at)
{
    const struct store_replay *replay = &f->options->replay;
    struct store_stub stub = {.place = place_packed(f->key.log, f->key.segment, at),
                              .bytes = pack_record_bytes(r)};
    f->counts->records++;
    f->given++;
    if (replay->record == NULL) return ERR_OK;
    f->stopped = replay->record(replay->context, r, &stub);
    /* Not to be taken for damage. */
    return f->stopped == ERR_OK ? ERR_OK : ERR_CLOSED;
}

static enum err emit(struct pack_file *f, const struct pack_index_message *m)
{
    struct record r = {.kind = RECORD_MESSAGE,
                       .stream = m->stream,
                       .seq = m->seq,
                       .time_ns = m->time_ns,
                       .subject = m->subject,
                       .headers = {NULL, m->headers_bytes},
                       .body = {NULL, m->body_bytes}};
    return give(f, &r, m->at);
}

static struct store_lost range_of(const struct pack_file *f, uint64_t offset, uint64_t bytes)
{
    return (struct store_lost){.kind = STORE_LOST_DAMAGED,
                               .is_packed = true,
                               .log = f->key.log,
                               .segment = f->key.segment,
                               .offset = offset,
                               .bytes = bytes};
}

/* Something that is said elsewhere too. */
static void tell_copy(struct pack_file *f, const char *what, uint64_t offset, uint64_t bytes)
{
    const struct recovery_watch *watch = f->options->watch;
    struct store_lost range = range_of(f, offset, bytes);
    f->counts->damaged_indexes++;
    if (watch != NULL) watch->copy(f->options->replay.context, what, &range);
}

static void tell_lost(struct pack_file *f, uint64_t offset, uint64_t bytes, uint32_t count,
                      bool has_count)
{
    const struct store_replay *replay = &f->options->replay;
    struct store_lost lost = range_of(f, offset, bytes);
    lost.record_count = count;
    lost.has_count = has_count;
    f->counts->damaged_ranges++;
    f->counts->damaged_bytes += bytes;
    if (replay->lost != NULL) replay->lost(replay->context, &lost);
}

static bool is_whole(const struct pack_file *f)
{
    return f->options->watch != NULL && f->options->watch->is_whole;
}

/* --- indexes, opened ---------------------------------------------------------------------- */

static struct pack_directory_entry directory_entry(const struct pack_file *f, uint32_t i)
{
    struct pack_directory_entry d = {.at = f->pack->record_bytes};
    if (i < f->index_count)
        pack_decode_directory_entry(f->directory.data + (size_t)i * PACK_DIRECTORY_BYTES, &d);
    return d;
}

static enum err open_index(struct pack_file *f, const struct pack_directory_entry *d,
                           struct pack_index_reader *r)
{
    struct pack_piece p;
    enum err e = read_raw(f, d->offset, PACK_INDEX, &f->raw, &p);
    if (e == ERR_OK) e = pack_index_open(r, f->raw.data, p.raw_bytes, f->subject_at);
    return e == ERR_OK && r->stream != d->stream ? ERR_CORRUPT : e;
}

/* What lay in [from, to) among all records, as far as the indexes are whole. */
static enum err tell_messages(struct pack_file *f, uint64_t from, uint64_t to)
{
    for (uint32_t i = 0; i < f->index_count; i++) {
        struct pack_directory_entry d = directory_entry(f, i);
        struct pack_index_reader r;
        struct pack_index_message m;
        if (d.at >= to || directory_entry(f, i + 1).at <= from) continue;
        enum err e = open_index(f, &d, &r);
        while (e == ERR_OK && pack_index_next(&r, &m))
            if (m.at >= from && m.at < to)
                f->options->watch->message(f->options->replay.context, m.stream, m.seq);
        if (e != ERR_OK && e != ERR_CORRUPT) return e;
    }
    return ERR_OK;
}

/* --- blocks ------------------------------------------------------------------------------- */

static struct pack_table_entry table_entry(const struct pack_file *f, uint32_t i)
{
    struct pack_table_entry t;
    pack_decode_table_entry(f->table.data + (size_t)i * PACK_TABLE_BYTES, &t);
    return t;
}

/* The last block that begins at or before `at`. */
static uint32_t block_of(const struct pack_file *f, uint64_t at)
{
    uint32_t low = 0, high = f->block_count;
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (table_entry(f, middle).at > at)
            high = middle;
        else
            low = middle;
    }
    return low;
}

/* The records of the block in f->raw that lie in [from, to) among all. is_given: they are wanted.
 */
static enum err walk_block(struct pack_file *f, const struct pack_piece *p, uint64_t from,
                           uint64_t to, bool is_given)
{
    uint64_t first = (uint64_t)p->at * PLACE_UNIT_BYTES, at = 0;
    uint32_t count = 0;
    while (at < p->raw_bytes) {
        struct record r;
        uint32_t bytes;
        enum err e = pack_decode_record(f->raw.data + at, p->raw_bytes - at, &r, &bytes);
        if (e != ERR_OK) return e;
        struct pack_index_message m = {.stream = r.stream,
                                       .seq = r.seq,
                                       .time_ns = r.time_ns,
                                       .at = first + at,
                                       .headers_bytes = (uint32_t)r.headers.len,
                                       .body_bytes = (uint32_t)r.body.len,
                                       .subject = r.subject};
        if (first + at >= PACK_RECORDS_BYTES_MAX) return ERR_CORRUPT;
        bool is_wanted = is_given && first + at >= from && first + at < to;
        if (is_wanted) e = is_whole(f) ? give(f, &r, first + at) : emit(f, &m);
        if (e != ERR_OK) return e;
        at += bytes;
        count++;
    }
    return count == p->count ? ERR_OK : ERR_CORRUPT;
}

static enum err read_block(struct pack_file *f, uint32_t i, uint64_t from, uint64_t to,
                           bool is_given)
{
    struct pack_table_entry t = table_entry(f, i);
    struct pack_piece p;
    enum err e = read_raw(f, t.offset, PACK_BLOCK, &f->raw, &p);
    if (e == ERR_OK) e = walk_block(f, &p, from, to, is_given);
    if (e != ERR_CORRUPT) return e;
    tell_lost(f, t.offset, t.piece_bytes, f->block_messages == NULL ? 0 : f->block_messages[i],
              f->block_messages != NULL && f->has_all_indexes);
    return f->options->watch == NULL ? ERR_OK : tell_messages(f, t.at, t.at + t.raw_bytes);
}

/* The messages in [from, to) from the blocks themselves. */
static enum err read_blocks(struct pack_file *f, uint64_t from, uint64_t to)
{
    if (f->block_count == 0) return ERR_OK;
    for (uint32_t i = block_of(f, from); i < f->block_count && table_entry(f, i).at < to; i++) {
        enum err e = read_block(f, i, from, to, true);
        if (e != ERR_OK) return e;
    }
    return ERR_OK;
}

/* The next place from *offset on where a block may begin; the end of the file: there is none. What
 * cannot be read is passed over. */
static enum err find_block(struct pack_file *f, uint64_t *offset)
{
    while (*offset + PACK_PIECE_BYTES <= f->pack->size) {
        uint64_t left = f->pack->size - *offset;
        size_t bytes = left < FIND_BYTES ? (size_t)left : FIND_BYTES;
        enum err e = read_at(f, *offset, bytes);
        if (e == ERR_CORRUPT) {
            *offset = place_block_down(*offset) + PLACE_BLOCK_BYTES;
            continue;
        }
        if (e != ERR_OK) return e;
        for (size_t at = 0; at + PACK_PIECE_BYTES <= bytes; at += PLACE_UNIT_BYTES) {
            if (wire_u32(f->piece.data + at + 8) != (uint32_t)PACK_BLOCK) continue;
            *offset += at;
            return ERR_OK;
        }
        /* A header may lie across the end of what was read. */
        *offset += bytes - PACK_PIECE_BYTES + PLACE_UNIT_BYTES;
        *offset = *offset / PLACE_UNIT_BYTES * PLACE_UNIT_BYTES;
    }
    *offset = f->pack->size;
    return ERR_OK;
}

/* Neither table is whole: the blocks follow each other from the start of the file. */
static enum err walk_file(struct pack_file *f)
{
    uint64_t offset = 0, bad_from = 0;
    bool is_bad = false;
    while (offset + PACK_PIECE_BYTES <= f->pack->size) {
        struct pack_piece p;
        enum err e = read_raw(f, offset, PACK_BLOCK, &f->raw, &p);
        if (e != ERR_OK && e != ERR_CORRUPT) return e;
        if (e == ERR_OK) e = walk_block(f, &p, 0, UINT64_MAX, true);
        if (e == ERR_OK) {
            if (is_bad) tell_lost(f, bad_from, offset - bad_from, 0, false);
            is_bad = false;
            offset += PACK_PIECE_BYTES + (uint64_t)p.held_bytes;
            offset = (offset + PLACE_UNIT_BYTES - 1) / PLACE_UNIT_BYTES * PLACE_UNIT_BYTES;
            continue;
        }
        if (e != ERR_CORRUPT) return e;
        if (!is_bad) bad_from = offset;
        is_bad = true;
        offset += PLACE_UNIT_BYTES;
        e = find_block(f, &offset);
        if (e != ERR_OK) return e;
    }
    /* Behind the last block there are indexes, tables and feet: no message is lost with them. */
    if (is_bad && f->given < f->pack->message_count)
        tell_lost(f, bad_from, f->pack->size - bad_from,
                  (uint32_t)(f->pack->message_count - f->given), true);
    return ERR_OK;
}

/* --- indexes, read ------------------------------------------------------------------------ */

static enum err read_index(struct pack_file *f, const struct pack_directory_entry *d)
{
    struct pack_index_reader r;
    struct pack_index_message m;
    enum err e = open_index(f, d, &r);
    while (e == ERR_OK && pack_index_next(&r, &m)) {
        if (f->block_messages != NULL) f->block_messages[block_of(f, m.at)]++;
        if (!is_whole(f)) e = emit(f, &m);
    }
    return e;
}

static enum err read_indexes(struct pack_file *f)
{
    for (uint32_t i = 0; i < f->index_count; i++) {
        struct pack_directory_entry d = directory_entry(f, i);
        enum err e = read_index(f, &d);
        if (e == ERR_CORRUPT) {
            f->has_all_indexes = false;
            tell_copy(f, "index", d.offset, d.piece_bytes);
            e = is_whole(f) ? ERR_OK : read_blocks(f, d.at, directory_entry(f, i + 1).at);
        }
        if (e != ERR_OK) return e;
    }
    return ERR_OK;
}

static void at_part(struct pack_file *f, const char *what, uint64_t offset, uint64_t bytes)
{
    f->part.what = what;
    f->part.offset = offset;
    f->part.bytes = bytes;
}

/* One of the two feet with its table and directory. ERR_CORRUPT: something of it is damaged. */
static enum err open_foot(struct pack_file *f, uint32_t copy)
{
    struct pack_foot foot;
    struct pack_piece p;
    uint64_t bytes = (uint64_t)(PACK_FEET - copy) * PACK_FOOT_BYTES;
    at_part(f, "foot", f->pack->size > bytes ? f->pack->size - bytes : 0, PACK_FOOT_BYTES);
    if (f->pack->size < (uint64_t)PACK_FEET * PACK_FOOT_BYTES) return ERR_CORRUPT;
    uint64_t offset = f->part.offset;
    enum err e = read_at(f, offset, PACK_FOOT_BYTES);
    if (e == ERR_OK) e = pack_decode_foot(f->piece.data, &f->key, offset, &foot);
    if (e != ERR_OK) return e;
    at_part(f, "table of blocks", foot.table_offset,
            PACK_PIECE_BYTES + (uint64_t)foot.block_count * PACK_TABLE_BYTES);
    e = read_raw(f, foot.table_offset, PACK_TABLE, &f->table, &p);
    if (e == ERR_OK && (p.count != foot.block_count || foot.block_count == 0 ||
                        p.raw_bytes != (uint64_t)p.count * PACK_TABLE_BYTES))
        e = ERR_CORRUPT;
    if (e != ERR_OK) return e;
    at_part(f, "directory of indexes", foot.directory_offset,
            PACK_PIECE_BYTES + (uint64_t)foot.index_count * PACK_DIRECTORY_BYTES);
    e = read_raw(f, foot.directory_offset, PACK_DIRECTORY, &f->directory, &p);
    if (e == ERR_OK &&
        (p.count != foot.index_count || p.raw_bytes != (uint64_t)p.count * PACK_DIRECTORY_BYTES))
        e = ERR_CORRUPT;
    if (e != ERR_OK) return e;
    f->block_count = foot.block_count;
    f->index_count = foot.index_count;
    return ERR_OK;
}

/* As open_foot; what is damaged is told. */
static enum err try_foot(struct pack_file *f, uint32_t copy)
{
    enum err e = open_foot(f, copy);
    if (e == ERR_CORRUPT) tell_copy(f, f->part.what, f->part.offset, f->part.bytes);
    return e;
}

static enum err read_all(struct pack_file *f, bool check)
{
    f->subject_at = mem_alloc(f->mem, MEM_STORE, PACK_INDEX_MESSAGES_MAX * sizeof *f->subject_at);
    if (f->subject_at == NULL) return ERR_MEMORY;
    enum err e = pack_zstd_init(&f->zstd, f->mem, false);
    if (e != ERR_OK) return e;
    enum err first = check ? try_foot(f, 0) : ERR_CORRUPT; /* not needed, only looked at */
    if (first != ERR_OK && first != ERR_CORRUPT) return first;
    e = try_foot(f, 1);
    if (e == ERR_CORRUPT) e = open_foot(f, 0);
    if (e == ERR_CORRUPT) return walk_file(f);
    if (e != ERR_OK) return e;
    f->has_all_indexes = true;
    if (check) {
        f->block_messages =
            mem_alloc_zero(f->mem, MEM_STORE, f->block_count * sizeof *f->block_messages);
        if (f->block_messages == NULL) return ERR_MEMORY;
    }
    e = read_indexes(f);
    for (uint32_t i = 0; check && e == ERR_OK && i < f->block_count; i++)
        e = read_block(f, i, 0, UINT64_MAX, is_whole(f));
    return e;
}

static void free_all(struct pack_file *f)
{
    mem_free(f->mem, MEM_STORE, f->piece.data, f->piece.room);
    mem_free(f->mem, MEM_STORE, f->raw.data, f->raw.room);
    mem_free(f->mem, MEM_STORE, f->table.data, f->table.room);
    mem_free(f->mem, MEM_STORE, f->directory.data, f->directory.room);
    mem_free(f->mem, MEM_STORE, f->subject_at, PACK_INDEX_MESSAGES_MAX * sizeof *f->subject_at);
    mem_free(f->mem, MEM_STORE, f->block_messages, f->block_count * sizeof *f->block_messages);
    pack_zstd_deinit(&f->zstd);
}

static struct pack_file file_of(const struct recovery_options *o, const struct manifest *m,
                                const struct manifest_pack *p, struct recovery_counts *counts)
{
    return (struct pack_file){.options = o,
                              .counts = counts,
                              .mem = o->mem,
                              .pack = p,
                              .zstd.mem = o->mem,
                              .key = {.secret = m->secret,
                                      .log = m->log,
                                      .segment = p->number,
                                      .incarnation = p->incarnation}};
}

static enum err open_file(struct pack_file *f)
{
    struct names_text name = names_pack(f->key.log, f->key.segment);
    struct vfs_op op = {.kind = VFS_OPEN, .path = name.text, .flags = VFS_READ_ONLY};
    enum err e = blocking_run(f->options->blocking, &op);
    f->file = op.file;
    return e;
}

static enum err close_file(struct pack_file *f, enum err e)
{
    free_all(f);
    struct vfs_op close = {.kind = VFS_CLOSE, .file = f->file};
    enum err closed = blocking_run(f->options->blocking, &close);
    return closed == ERR_CLOSED ? closed : e;
}

enum err pack_file_directory(const struct recovery_options *o, const struct manifest *m,
                             const struct manifest_pack *p, struct text *out)
{
    struct recovery_counts counts = {0};
    struct pack_file f = file_of(o, m, p, &counts);
    enum err e = open_file(&f);
    if (e != ERR_OK) return e;
    e = open_foot(&f, 1);
    if (e == ERR_CORRUPT) e = open_foot(&f, 0);
    if (e == ERR_OK)
        text_bytes(out,
                   (struct bytes){f.directory.data, (size_t)f.index_count * PACK_DIRECTORY_BYTES});
    if (e == ERR_OK && out->is_failed) e = ERR_MEMORY;
    return close_file(&f, e);
}

enum err pack_file_read(const struct recovery_options *o, const struct manifest *m,
                        const struct manifest_pack *p, bool check, struct recovery_counts *counts)
{
    struct pack_file f = file_of(o, m, p, counts);
    enum err e = open_file(&f);
    if (e == ERR_UNKNOWN) {
        tell_lost(&f, 0, p->size, (uint32_t)p->message_count, true);
        return ERR_OK;
    }
    if (e != ERR_OK) return e;
    e = read_all(&f, check);
    if (f.stopped != ERR_OK) e = f.stopped;
    return close_file(&f, e);
}

/* --- ahead of the reading ------------------------------------------------------------------- */

void pack_file_warm_begin(struct pack_warm *w, const struct recovery_options *o,
                          const struct manifest *m, const struct manifest_pack *p)
{
    *w = (struct pack_warm){.mem = o->mem};
    struct names_text name = names_pack(m->log, p->number);
    struct vfs_op op = {.kind = VFS_OPEN, .path = name.text, .flags = VFS_READ_ONLY};
    if (blocking_run(o->blocking, &op) != ERR_OK) return; /* told when it is to be read */
    uint64_t bytes = p->size < WARM_BYTES ? p->size : WARM_BYTES;
    w->op = (struct vfs_op){.kind = VFS_READ,
                            .flags = VFS_AHEAD,
                            .file = op.file,
                            .bytes = (uint32_t)bytes,
                            .offset = p->size - bytes};
    w->memory = mem_alloc(w->mem, MEM_STORE, WARM_BYTES);
    w->op.data = w->memory;
    if (w->memory != NULL && blocking_begin(o->blocking, &w->op, &w->is_done) == ERR_OK) return;
    mem_free(w->mem, MEM_STORE, w->memory, WARM_BYTES);
    w->memory = NULL;
    struct vfs_op close = {.kind = VFS_CLOSE, .file = op.file};
    (void)!blocking_run(o->blocking, &close);
}

enum err pack_file_warm_end(struct pack_warm *w, const struct blocking *b)
{
    if (w->memory == NULL) return ERR_OK;
    (void)!blocking_end(b, &w->op);
    mem_free(w->mem, MEM_STORE, w->memory, WARM_BYTES);
    w->memory = NULL;
    struct vfs_op close = {.kind = VFS_CLOSE, .file = w->op.file};
    return blocking_run(b, &close) == ERR_CLOSED ? ERR_CLOSED : ERR_OK;
}
