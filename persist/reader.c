#include "persist/reader.h"
#include <string.h>
#include "core/base/must.h"
#include "persist/names.h"
#include "persist/record.h"

enum { FIRST_ROOM = 16, AHEAD_BLOCKS = 2, AHEAD_STEP_BYTES = 16384 };
/* store_read.state: bits. */
enum { TRIED_AGAIN = 1, IS_EXACT = 2 };

static void pump(struct reader *r);

/* --- lists and tables --------------------------------------------------------------------- */

static void list_add(struct reader_list *l, struct store_read *q)
{
    q->next = NULL;
    if (l->last == NULL)
        l->first = q;
    else
        l->last->next = q;
    l->last = q;
}

static struct store_read *list_take(struct reader_list *l)
{
    struct store_read *q = l->first;
    if (q == NULL) return NULL;
    l->first = q->next;
    if (l->first == NULL) l->last = NULL;
    return q;
}

/* What of a place names the file. */
static uint64_t order_of(bool is_packed, uint32_t log, uint32_t segment)
{
    return (is_packed ? place_packed(log, segment, 0) : place_of(log, segment, 0)) >>
           PLACE_OFFSET_BITS;
}

static uint64_t order_of_segment(const struct reader_segment *s)
{
    return order_of(s->is_packed, s->key.log, s->key.segment);
}

/* Index of the first file at or behind this one. */
static uint32_t index_of(const struct reader *r, uint64_t order)
{
    uint32_t low = 0, high = r->segment_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (order_of_segment(&r->segments[middle]) < order)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct reader_segment *find(const struct reader *r, uint64_t order)
{
    uint32_t i = index_of(r, order);
    if (i == r->segment_count) return NULL;
    struct reader_segment *s = &r->segments[i];
    return order_of_segment(s) == order ? s : NULL;
}

static struct reader_segment *find_by_place(const struct reader *r, uint64_t place)
{
    return find(r, place >> PLACE_OFFSET_BITS);
}

enum err reader_init(struct reader *r, struct vfs *vfs, struct mem *mem, uint64_t secret,
                     uint32_t flags, uint64_t cache_bytes)
{
    *r = (struct reader){.vfs = vfs, .mem = mem, .secret = secret, .flags = flags};
    enum err e = read_cache_init(&r->cache, mem, cache_bytes);
    if (e != ERR_OK) return e;
    r->scratch = mem_alloc(mem, MEM_STORE, READ_CACHE_BLOCK_BYTES);
    if (r->scratch != NULL) return ERR_OK;
    read_cache_deinit(&r->cache);
    return ERR_MEMORY;
}

static void free_exact(struct reader *r, struct reader_exact *x)
{
    mem_free(r->mem, MEM_STORE, x->raw, x->packed.raw_bytes);
    mem_free(r->mem, MEM_STORE, x->memory, x->memory_bytes);
    *x = (struct reader_exact){0};
}

void reader_deinit(struct reader *r)
{
    for (int i = 0; i < READER_EXACT_MAX; i++) free_exact(r, &r->exact[i]);
    for (int i = 0; i < READER_LOADS_MAX; i++)
        mem_free(r->mem, MEM_STORE, r->loads[i].memory, r->loads[i].memory_bytes);
    for (uint32_t i = 0; i < r->segment_count; i++) pack_table_free(&r->segments[i].table, r->mem);
    mem_free(r->mem, MEM_STORE, r->tabling.memory, r->tabling.memory_bytes);
    if (r->zstd.memory != NULL) pack_zstd_deinit(&r->zstd);
    mem_free(r->mem, MEM_STORE, r->segments, r->segment_room * sizeof *r->segments);
    mem_free(r->mem, MEM_STORE, r->scratch, READ_CACHE_BLOCK_BYTES);
    read_cache_deinit(&r->cache);
    r->segments = NULL;
    r->segment_count = r->segment_room = 0;
}

static enum err add(struct reader *r, const struct reader_segment *new)
{
    uint64_t order = order_of_segment(new);
    must(find(r, order) == NULL);
    if (r->segment_count == r->segment_room) {
        uint32_t room = r->segment_room == 0 ? FIRST_ROOM : 2 * r->segment_room;
        struct reader_segment *to = mem_alloc(r->mem, MEM_STORE, room * sizeof *to);
        if (to == NULL) return ERR_MEMORY;
        if (r->segment_count > 0) memcpy(to, r->segments, r->segment_count * sizeof *to);
        mem_free(r->mem, MEM_STORE, r->segments, r->segment_room * sizeof *to);
        r->segments = to;
        r->segment_room = room;
    }
    uint32_t i = index_of(r, order);
    memmove(&r->segments[i + 1], &r->segments[i], (r->segment_count - i) * sizeof *r->segments);
    r->segments[i] = *new;
    r->segment_count++;
    return ERR_OK;
}

enum err reader_add(struct reader *r, uint32_t log, uint32_t segment, uint32_t incarnation,
                    uint64_t size, uint64_t written)
{
    struct reader_segment s = {
        .key = {.secret = r->secret, .log = log, .segment = segment, .incarnation = incarnation},
        .size = size,
        .written = written};
    return add(r, &s);
}

enum err reader_add_pack(struct reader *r, uint32_t log, uint32_t pack, uint32_t incarnation,
                         uint64_t size)
{
    struct reader_segment s = {
        .key = {.secret = r->secret, .log = log, .segment = pack, .incarnation = incarnation},
        .is_packed = true,
        .size = size,
        .written = size};
    if (r->zstd.memory == NULL) {
        enum err e = pack_zstd_init(&r->zstd, r->mem, false);
        if (e != ERR_OK) return e;
    }
    return add(r, &s);
}

void reader_set_written(struct reader *r, uint32_t log, uint32_t segment, uint64_t written)
{
    struct reader_segment *s = find(r, order_of(false, log, segment));
    must(s != NULL);
    must(written <= s->size);
    s->written = written;
}

/* --- from memory -------------------------------------------------------------------------- */

static uint32_t need_of(const struct store_read *q)
{
    return q->bytes >= RECORD_BYTES_MIN ? q->bytes : RECORD_BYTES_MIN;
}

static uint64_t block_start(uint64_t offset)
{
    return offset / READ_CACHE_BLOCK_BYTES * READ_CACHE_BLOCK_BYTES;
}

static uint64_t block_key(const struct reader_segment *s, uint64_t start)
{
    return s->is_packed ? place_packed(s->key.log, s->key.segment, start)
                        : place_of(s->key.log, s->key.segment, start);
}

/* The block that holds the bytes up to end, if it is there and reaches that far. */
static struct read_cache_block *block_with(struct reader *r, const struct reader_segment *s,
                                           uint64_t start, uint64_t end)
{
    struct read_cache_block *b = read_cache_find(&r->cache, block_key(s, start));
    if (b == NULL || b->state != READ_CACHE_VALID) return NULL;
    uint64_t to = end - start < READ_CACHE_BLOCK_BYTES ? end - start : READ_CACHE_BLOCK_BYTES;
    return b->valid_bytes >= to ? b : NULL;
}

/* The range in one piece; NULL: not all of it is in memory. */
static const char *gather(struct reader *r, const struct reader_segment *s, uint64_t offset,
                          uint32_t bytes)
{
    uint64_t start = block_start(offset), last = block_start(offset + bytes - 1);
    struct read_cache_block *b = block_with(r, s, start, offset + bytes);
    if (b == NULL) return NULL;
    if (start == last) return b->data + (offset - start);
    struct read_cache_block *c = block_with(r, s, last, offset + bytes);
    if (c == NULL) return NULL;
    uint32_t first = (uint32_t)(last - offset);
    must(bytes <= READ_CACHE_BLOCK_BYTES);
    memcpy(r->scratch, b->data + (offset - start), first);
    memcpy(r->scratch + first, c->data, bytes - first);
    return r->scratch;
}

static bool is_asked_for(const struct store_read *q, const struct record *out)
{
    return out->stream == q->stream && out->seq == q->seq;
}

static void forget_blocks(struct reader *r, const struct reader_segment *s, uint64_t offset,
                          uint32_t bytes)
{
    for (uint64_t at = block_start(offset); at < offset + bytes; at += READ_CACHE_BLOCK_BYTES) {
        struct read_cache_block *b = read_cache_find(&r->cache, block_key(s, at));
        if (b != NULL && b->state == READ_CACHE_VALID && b->pin_count == 0) read_cache_drop(b);
    }
}

/* What lies there cannot be read, also straight from the disk. */
static void damaged(struct reader *r, const struct store_read *q, const struct reader_segment *s,
                    uint64_t offset, uint64_t bytes)
{
    struct reader_damage d = {.range = {.kind = STORE_LOST_DAMAGED,
                                        .is_packed = s->is_packed,
                                        .log = s->key.log,
                                        .segment = s->key.segment,
                                        .offset = offset,
                                        .bytes = bytes},
                              .stream = q->stream,
                              .seq = q->seq};
    r->counts.corrupt++;
    for (uint32_t i = 0; i < r->damage_count; i++) {
        const struct store_lost *known = &r->damage[i].range;
        if (known->log == d.range.log && known->segment == d.range.segment &&
            known->is_packed == d.range.is_packed && known->offset == offset)
            return;
    }
    if (r->damage_count == READER_DAMAGE_MAX) return;
    r->damage[r->damage_count++] = d;
    r->counts.damaged_ranges++;
    r->counts.damaged_bytes += bytes;
}

bool reader_next_damage(struct reader *r, struct reader_damage *out)
{
    if (r->damage_told == r->damage_count) return false;
    *out = r->damage[r->damage_told++];
    return true;
}

/* ERR_BUSY: more has to be read. q->bytes becomes the true length once it is known. */
static enum err answer(struct reader *r, struct store_read *q, const struct reader_segment *s,
                       const char *data, uint32_t bytes, struct record *out)
{
    uint32_t length;
    enum err e = record_decode(data, bytes, &s->key, place_offset(q->place), out, &length);
    if (e == ERR_INCOMPLETE && place_offset(q->place) + length <= s->written && length > q->bytes) {
        q->bytes = length;
        return ERR_BUSY;
    }
    if (e == ERR_OK) return is_asked_for(q, out) ? ERR_OK : ERR_UNKNOWN;
    if ((q->state & TRIED_AGAIN) != 0) {
        damaged(r, q, s, place_offset(q->place), bytes);
        return ERR_CORRUPT;
    }
    /* The cache, or the way from the disk, may be at fault: once more, from the disk. */
    q->state |= TRIED_AGAIN | IS_EXACT;
    return ERR_BUSY;
}

/* data: a block of a pack, checked when it was unpacked. */
static enum err answer_packed(const struct store_read *q, const struct pack_table_entry *b,
                              const char *data, struct record *out)
{
    uint64_t skip = place_offset(q->place) - b->at;
    uint32_t length;
    enum err e = pack_decode_record(data + skip, b->raw_bytes - skip, out, &length);
    return e == ERR_OK && is_asked_for(q, out) ? ERR_OK : ERR_UNKNOWN;
}

static enum err try_packed(struct reader *r, struct store_read *q, const struct reader_segment *s,
                           struct record *out)
{
    if (s->table_state != READER_HAS_TABLE) return ERR_BUSY;
    const struct pack_table_entry *t = pack_table_find(&s->table, place_offset(q->place));
    if (t == NULL) return ERR_UNKNOWN;
    if (t->raw_bytes > READ_CACHE_BLOCK_BYTES) q->state |= IS_EXACT;
    if ((q->state & IS_EXACT) != 0) return ERR_BUSY;
    const struct read_cache_block *b = read_cache_find(&r->cache, block_key(s, t->at));
    if (b == NULL || b->state != READ_CACHE_VALID || b->has_failed) return ERR_BUSY;
    return answer_packed(q, t, b->data, out);
}

static enum err try_blocks(struct reader *r, struct store_read *q, struct record *out)
{
    const struct reader_segment *s = find_by_place(r, q->place);
    if (s == NULL) return ERR_UNKNOWN;
    if (s->is_packed) return try_packed(r, q, s, out);
    uint64_t offset = place_offset(q->place);
    for (;;) {
        uint32_t need = need_of(q);
        if (offset + need > s->written) return ERR_UNKNOWN;
        if (need > READ_CACHE_BLOCK_BYTES) q->state |= IS_EXACT;
        if ((q->state & IS_EXACT) != 0) return ERR_BUSY;
        const char *data = gather(r, s, offset, need);
        if (data == NULL) return ERR_BUSY;
        enum err e = answer(r, q, s, data, need, out);
        if (e != ERR_BUSY) return e;
        if ((q->state & IS_EXACT) != 0) forget_blocks(r, s, offset, need);
    }
}

/* --- files -------------------------------------------------------------------------------- */

static struct reader_load *free_load(struct reader *r)
{
    for (int i = 0; i < READER_LOADS_MAX; i++)
        if (!r->loads[i].is_busy) return &r->loads[i];
    return NULL;
}

static void end_load(struct reader *r, struct reader_load *l)
{
    must(r->flying > 0);
    r->flying--;
    l->is_busy = false;
}

static bool submit_load(struct reader *r, struct reader_load *l)
{
    l->reader = r;
    l->op.context = l;
    if (vfs_submit(r->vfs, &l->op) != ERR_OK) return false;
    l->is_busy = true;
    r->flying++;
    return true;
}

static void on_closed(struct vfs_op *op)
{
    struct reader_load *l = op->context;
    struct reader *r = l->reader;
    end_load(r, l);
    struct reader_segment *s = find(r, l->order);
    must(s != NULL);
    s->state = READER_CLOSED;
    r->open_count--;
    pump(r);
}

static void close_file(struct reader *r, struct reader_segment *s)
{
    struct reader_load *l = free_load(r);
    if (l == NULL) return;
    *l = (struct reader_load){.op = {.kind = VFS_CLOSE, .file = s->file, .done = on_closed},
                              .order = order_of_segment(s)};
    if (submit_load(r, l)) s->state = READER_CLOSING;
}

static void on_opened(struct vfs_op *op)
{
    struct reader_load *l = op->context;
    struct reader *r = l->reader;
    end_load(r, l);
    struct reader_segment *s = find(r, l->order);
    must(s != NULL);
    s->open_result = op->result;
    s->state = op->result == ERR_OK ? READER_OPEN : READER_CLOSED;
    s->file = op->file;
    if (op->result != ERR_OK) r->open_count--;
    pump(r);
}

/* One that nobody reads now. */
static void close_another(struct reader *r)
{
    for (uint32_t i = 0; i < r->segment_count; i++)
        if (r->segments[i].state == READER_OPEN && r->segments[i].flying == 0) {
            close_file(r, &r->segments[i]);
            return;
        }
}

static void open_file(struct reader *r, struct reader_segment *s)
{
    struct reader_load *l = free_load(r);
    if (l == NULL) return;
    if (r->open_count >= READER_FILES_MAX) {
        close_another(r);
        return;
    }
    struct names_text name = s->is_packed ? names_pack(s->key.log, s->key.segment)
                                          : names_segment(s->key.log, s->key.segment);
    *l = (struct reader_load){
        .op = {.kind = VFS_OPEN, .flags = VFS_READ_ONLY | r->flags, .done = on_opened},
        .order = order_of_segment(s)};
    /* The path must stay until the open ended. */
    _Static_assert(sizeof name.text <= sizeof l->name, "room for the name");
    memcpy(l->name, name.text, sizeof name.text);
    l->op.path = l->name;
    if (!submit_load(r, l)) return;
    s->state = READER_OPENING;
    r->open_count++;
}

/* --- loading ------------------------------------------------------------------------------ */

/* The piece that was read becomes the block. */
static bool unpack(struct reader *r, const struct reader_segment *s,
                   const struct pack_table_entry *t, const char *piece, uint64_t len, char *raw)
{
    struct pack_piece p;
    if (len < t->piece_bytes) return false;
    enum err e = pack_decode_piece(piece, t->piece_bytes, &s->key, t->offset, PACK_BLOCK, &p);
    if (e != ERR_OK || p.raw_bytes != t->raw_bytes) return false;
    return pack_unpack(&p, piece, &r->zstd, raw) == ERR_OK;
}

static void take_packed(struct reader *r, struct reader_load *l, const struct reader_segment *s)
{
    uint64_t skip = l->packed.offset - l->op.offset;
    const char *piece = (const char *)l->op.data + skip;
    bool is_good = l->op.result == ERR_OK && l->op.bytes_done >= skip &&
                   unpack(r, s, &l->packed, piece, l->op.bytes_done - skip, l->block->data);
    if (l->op.result == ERR_OK)
        r->counts.read_bytes += l->op.bytes_done;
    else
        r->counts.errors++;
    l->block->valid_bytes = is_good ? l->packed.raw_bytes : 0;
    l->block->has_failed = !is_good;
    mem_free(r->mem, MEM_STORE, l->memory, l->memory_bytes);
    l->memory = NULL;
}

static void on_loaded(struct vfs_op *op)
{
    struct reader_load *l = op->context;
    struct reader *r = l->reader;
    end_load(r, l);
    struct reader_segment *s = find(r, l->order);
    must(s != NULL && s->flying > 0);
    s->flying--;
    read_cache_loaded(l->block, 0);
    if (s->is_packed) {
        take_packed(r, l, s);
        pump(r);
        return;
    }
    if (op->result == ERR_OK) {
        r->counts.read_bytes += op->bytes_done;
        l->block->valid_bytes = op->bytes_done < l->valid_bytes ? op->bytes_done : l->valid_bytes;
    } else {
        r->counts.errors++;
    }
    l->block->has_failed = l->block->valid_bytes < l->valid_bytes;
    pump(r);
}

/* False: not now. */
static bool load_block(struct reader *r, struct reader_segment *s, uint64_t start)
{
    struct reader_load *l = free_load(r);
    if (l == NULL || start >= s->written) return false;
    struct read_cache_block *b = read_cache_take(&r->cache, block_key(s, start));
    if (b == NULL) return false;
    uint64_t left = s->size - start, valid = s->written - start;
    *l = (struct reader_load){.op = {.kind = VFS_READ,
                                     .file = s->file,
                                     .data = b->data,
                                     .offset = start,
                                     .flags = r->flags,
                                     .done = on_loaded},
                              .order = order_of_segment(s),
                              .block = b};
    l->op.bytes = left < READ_CACHE_BLOCK_BYTES ? (uint32_t)left : READ_CACHE_BLOCK_BYTES;
    l->valid_bytes = valid < l->op.bytes ? (uint32_t)valid : l->op.bytes;
    if (!submit_load(r, l)) {
        read_cache_loaded(b, 0);
        read_cache_drop(b);
        return false;
    }
    s->flying++;
    return true;
}

/* The bytes of the file around a piece, as direct reads want them. */
static void around(const struct pack_table_entry *t, uint64_t *start, uint64_t *bytes)
{
    *start = place_block_down(t->offset);
    *bytes = place_block_up(t->offset + t->piece_bytes) - *start;
}

static bool load_packed(struct reader *r, struct reader_segment *s,
                        const struct pack_table_entry *t)
{
    struct reader_load *l = free_load(r);
    uint64_t start, bytes;
    around(t, &start, &bytes);
    if (l == NULL) return false;
    char *memory = mem_alloc(r->mem, MEM_STORE, bytes + PLACE_BLOCK_BYTES);
    if (memory == NULL) return false;
    struct read_cache_block *b = read_cache_take(&r->cache, block_key(s, t->at));
    if (b == NULL) goto free_memory;
    *l = (struct reader_load){.op = {.kind = VFS_READ,
                                     .file = s->file,
                                     .data = (char *)place_block_up((uint64_t)(uintptr_t)memory),
                                     .bytes = (uint32_t)bytes,
                                     .offset = start,
                                     .flags = r->flags,
                                     .done = on_loaded},
                              .order = order_of_segment(s),
                              .block = b,
                              .packed = *t,
                              .memory = memory,
                              .memory_bytes = bytes + PLACE_BLOCK_BYTES};
    if (submit_load(r, l)) {
        s->flying++;
        return true;
    }
    l->memory = NULL;
    read_cache_loaded(b, 0);
    read_cache_drop(b);
free_memory:
    mem_free(r->mem, MEM_STORE, memory, bytes + PLACE_BLOCK_BYTES);
    return false;
}

/* --- tables of packs ---------------------------------------------------------------------- */

static void read_table(struct reader *r, struct reader_segment *s);

static void end_tabling(struct reader *r)
{
    mem_free(r->mem, MEM_STORE, r->tabling.memory, r->tabling.memory_bytes);
    r->tabling.memory = NULL;
    r->tabling.is_busy = false;
}

static void on_table(struct vfs_op *op)
{
    struct reader *r = op->context;
    struct reader_tabling *t = &r->tabling;
    struct reader_segment *s = find(r, t->order);
    must(s != NULL && s->flying > 0);
    s->flying--;
    r->flying--;
    enum err e = op->result;
    bool is_short = e == ERR_OK && op->bytes_done < op->bytes;
    /* Of a file that was cut the first foot may be there. */
    if (is_short) memset(t->data + op->bytes_done, 0, op->bytes - op->bytes_done);
    if (is_short && s->table_state == READER_TABLE) e = ERR_CORRUPT;
    if (e == ERR_OK && s->table_state == READER_FEET)
        e = pack_table_locate(t->data, &s->key, s->size, t->copy, &t->offset, &t->bytes);
    else if (e == ERR_OK)
        e = pack_table_take(&s->table, r->mem, t->data + (t->offset - op->offset), t->bytes,
                            &s->key, t->offset);
    enum reader_table_state stage = s->table_state;
    end_tabling(r);
    if (e == ERR_OK) {
        s->table_state = stage == READER_FEET ? READER_TABLE : READER_HAS_TABLE;
    } else if (e != ERR_MEMORY && t->copy > 0) {
        t->copy--; /* the other one may be whole */
        s->table_state = READER_FEET;
    } else {
        s->table_state = READER_NO_TABLE;
        s->table_result = e;
        r->counts.errors++;
    }
    if (s->table_state == READER_FEET || s->table_state == READER_TABLE) read_table(r, s);
    pump(r);
}

/* The next stage of a pack's table; the state says which. */
static void read_table(struct reader *r, struct reader_segment *s)
{
    struct reader_tabling *t = &r->tabling;
    uint64_t start = s->size - 2 * (uint64_t)PACK_FOOT_BYTES, bytes = 2 * PACK_FOOT_BYTES;
    must(!t->is_busy);
    if (s->table_state == READER_TABLE) {
        start = place_block_down(t->offset);
        bytes = place_block_up(t->offset + t->bytes) - start;
    }
    t->order = order_of_segment(s);
    t->memory_bytes = bytes + PLACE_BLOCK_BYTES;
    t->memory = mem_alloc(r->mem, MEM_STORE, t->memory_bytes);
    t->data = (char *)place_block_up((uint64_t)(uintptr_t)t->memory);
    t->op = (struct vfs_op){.kind = VFS_READ,
                            .file = s->file,
                            .data = t->data,
                            .bytes = (uint32_t)bytes,
                            .offset = start,
                            .flags = r->flags,
                            .done = on_table,
                            .context = r};
    if (t->memory == NULL || vfs_submit(r->vfs, &t->op) != ERR_OK) {
        end_tabling(r);
        s->table_state = READER_NO_TABLE;
        s->table_result = ERR_MEMORY;
        return;
    }
    t->is_busy = true;
    s->flying++;
    r->flying++;
}

/* ERR_BUSY: it is on its way, or another is. */
static enum err want_table(struct reader *r, struct reader_segment *s)
{
    if (s->table_state == READER_HAS_TABLE) return ERR_OK;
    if (s->table_result != ERR_OK) return s->table_result;
    if (r->tabling.is_busy || s->table_state != READER_NO_TABLE) return ERR_BUSY;
    if (s->size < (uint64_t)PACK_FEET * PACK_FOOT_BYTES) return ERR_CORRUPT;
    r->tabling.copy = PACK_FEET - 1;
    s->table_state = READER_FEET;
    read_table(r, s);
    return s->table_result == ERR_OK ? ERR_BUSY : s->table_result;
}

/* --- asking ------------------------------------------------------------------------------- */

/* Asks for a block unless it is there or on its way. True: it is there, far enough. */
static bool want_block(struct reader *r, struct reader_segment *s, uint64_t start, uint64_t end,
                       bool *has_failed)
{
    struct read_cache_block *b = read_cache_find(&r->cache, block_key(s, start));
    if (b != NULL && b->state == READ_CACHE_LOADING) return false;
    if (b != NULL && block_with(r, s, start, end) != NULL) return true;
    if (b != NULL && b->has_failed) {
        *has_failed = true;
        return true;
    }
    if (b != NULL) {
        if (b->pin_count > 0) return false;
        read_cache_drop(b); /* loaded before the segment grew */
    }
    (void)load_block(r, s, start);
    return false;
}

/* The same for two, which may be one. Neither takes the other's place. */
static bool want_both(struct reader *r, struct reader_segment *s, uint64_t first, uint64_t last,
                      uint64_t end, bool *has_failed)
{
    if (first == last) return want_block(r, s, first, end, has_failed);
    struct read_cache_block *there[] = {block_with(r, s, first, end), block_with(r, s, last, end)};
    for (int i = 0; i < 2; i++)
        if (there[i] != NULL) there[i]->pin_count++;
    bool has_first = want_block(r, s, first, end, has_failed);
    bool has_last = want_block(r, s, last, end, has_failed);
    for (int i = 0; i < 2; i++)
        if (there[i] != NULL) there[i]->pin_count--;
    return has_first && has_last;
}

/* Reading goes forward: what comes next is loaded while this is used. */
static void read_ahead(struct reader *r, struct reader_segment *s, uint64_t start)
{
    if (start < READ_CACHE_BLOCK_BYTES) return;
    if (read_cache_find(&r->cache, block_key(s, start - READ_CACHE_BLOCK_BYTES)) == NULL) return;
    for (uint64_t i = 1; i <= AHEAD_BLOCKS; i++) {
        uint64_t next = start + i * READ_CACHE_BLOCK_BYTES;
        if (next + READ_CACHE_BLOCK_BYTES > s->written) return;
        if (read_cache_find(&r->cache, block_key(s, next)) == NULL && !load_block(r, s, next))
            return;
    }
}

static void expect_packed(struct reader *r, struct reader_segment *s,
                          const struct pack_table_entry *t)
{
    if (t == NULL || t->raw_bytes > READ_CACHE_BLOCK_BYTES) return;
    if (read_cache_find(&r->cache, block_key(s, t->at)) == NULL) (void)load_packed(r, s, t);
}

static void read_ahead_packed(struct reader *r, struct reader_segment *s, uint64_t offset)
{
    const struct pack_table_entry *t = pack_table_find(&s->table, offset);
    const struct pack_table_entry *end = s->table.entries + s->table.count;
    if (t == s->table.entries || read_cache_find(&r->cache, block_key(s, t[-1].at)) == NULL) return;
    for (int i = 1; i <= AHEAD_BLOCKS && t + i < end; i++) expect_packed(r, s, t + i);
}

/* --- exact ranges ------------------------------------------------------------------------- */

static struct reader_exact *exact_of(struct reader *r, const struct store_read *q)
{
    for (int i = 0; i < READER_EXACT_MAX; i++)
        if (r->exact[i].request == q && &r->exact[i] != r->given) return &r->exact[i];
    return NULL;
}

static void on_exact(struct vfs_op *op)
{
    struct reader_exact *x = op->context;
    struct reader *r = x->reader;
    struct reader_segment *s = find(r, x->order);
    must(s != NULL && s->flying > 0);
    s->flying--;
    r->flying--;
    x->is_done = true;
    r->counts.read_bytes += op->result == ERR_OK ? op->bytes_done : 0;
    pump(r);
}

static enum err start_exact(struct reader *r, struct reader_segment *s, struct store_read *q)
{
    struct reader_exact *x = exact_of(r, NULL);
    if (x == NULL) return ERR_BUSY;
    uint64_t offset = place_offset(q->place), start = place_block_down(offset);
    uint64_t bytes = place_block_up(offset + need_of(q)) - start;
    const struct pack_table_entry *t = s->is_packed ? pack_table_find(&s->table, offset) : NULL;
    if (s->is_packed && t == NULL) return ERR_UNKNOWN;
    if (s->is_packed) around(t, &start, &bytes);
    *x = (struct reader_exact){
        .reader = r, .order = order_of_segment(s), .memory_bytes = bytes + PLACE_BLOCK_BYTES};
    x->memory = mem_alloc(r->mem, MEM_STORE, x->memory_bytes);
    if (x->memory == NULL) {
        *x = (struct reader_exact){0};
        return ERR_MEMORY;
    }
    x->data = (char *)place_block_up((uint64_t)(uintptr_t)x->memory);
    x->op = (struct vfs_op){.kind = VFS_READ,
                            .file = s->file,
                            .data = x->data,
                            .bytes = (uint32_t)bytes,
                            .offset = start,
                            .flags = r->flags,
                            .done = on_exact,
                            .context = x};
    if (vfs_submit(r->vfs, &x->op) != ERR_OK) {
        free_exact(r, x);
        return ERR_MEMORY;
    }
    if (t != NULL) x->packed = *t;
    x->request = q;
    s->flying++;
    r->flying++;
    return ERR_BUSY;
}

/* --- requests that wait ------------------------------------------------------------------- */

/* What core may take for lost is lost: no descriptor, no right and the like pass. */
static enum err as_told(enum err e)
{
    bool is_told =
        e == ERR_BUSY || e == ERR_UNKNOWN || e == ERR_CORRUPT || e == ERR_MEMORY || e == ERR_CLOSED;
    return is_told ? e : ERR_IO;
}

static enum err serve_packed(struct reader *r, struct reader_segment *s, struct store_read *q)
{
    const struct pack_table_entry *t = pack_table_find(&s->table, place_offset(q->place));
    if (t == NULL) return ERR_UNKNOWN;
    const struct read_cache_block *b = read_cache_find(&r->cache, block_key(s, t->at));
    if (t->raw_bytes > READ_CACHE_BLOCK_BYTES || (b != NULL && b->has_failed)) {
        q->state |= IS_EXACT;
        return start_exact(r, s, q);
    }
    if (b == NULL) (void)load_packed(r, s, t);
    return b != NULL && b->state == READ_CACHE_VALID ? ERR_OK : ERR_BUSY;
}

/* What q needs is asked for. ERR_OK: all is there. ERR_BUSY: not yet. Others end the request. */
static enum err serve(struct reader *r, struct store_read *q)
{
    struct reader_segment *s = find_by_place(r, q->place);
    if (r->is_stopping) return ERR_CLOSED;
    if (s == NULL) return ERR_UNKNOWN;
    if (s->state == READER_CLOSED && s->open_result != ERR_OK) return as_told(s->open_result);
    if (s->state == READER_CLOSED) open_file(r, s);
    if (s->state != READER_OPEN) return ERR_BUSY;
    enum err e = s->is_packed ? want_table(r, s) : ERR_OK;
    if (e == ERR_CORRUPT) damaged(r, q, s, 0, s->size); /* where anything lies is not known */
    if (e != ERR_OK) return as_told(e);
    if (s->is_packed && (q->state & IS_EXACT) == 0) return serve_packed(r, s, q);
    if ((q->state & IS_EXACT) != 0) {
        struct reader_exact *x = exact_of(r, q);
        if (x == NULL) return start_exact(r, s, q);
        return x->is_done ? ERR_OK : ERR_BUSY;
    }
    uint64_t offset = place_offset(q->place), end = offset + need_of(q);
    uint64_t first = block_start(offset), last = block_start(end - 1);
    bool has_failed = false, is_there = want_both(r, s, first, last, end, &has_failed);
    if (has_failed) {
        q->state |= IS_EXACT;
        return start_exact(r, s, q);
    }
    return is_there ? ERR_OK : ERR_BUSY;
}

static void pin(struct reader *r, const struct store_read *q, bool is_pinned)
{
    struct reader_segment *s = find_by_place(r, q->place);
    if ((q->state & IS_EXACT) != 0 || s == NULL) return;
    uint64_t offset = place_offset(q->place), end = offset + need_of(q);
    uint64_t first = block_start(offset), last = block_start(end - 1);
    if (s->is_packed) first = last = pack_table_find(&s->table, offset)->at;
    for (uint64_t at = first; at <= last; at += READ_CACHE_BLOCK_BYTES) {
        struct read_cache_block *b = read_cache_find(&r->cache, block_key(s, at));
        must(b != NULL && b->state == READ_CACHE_VALID);
        must(is_pinned || b->pin_count > 0);
        b->pin_count += is_pinned ? 1 : -1u;
    }
}

static void let_go_of_held(struct reader *r)
{
    for (int i = 0; i < 2; i++) {
        if (r->held[i] != NULL) r->held[i]->pin_count--;
        r->held[i] = NULL;
    }
}

/* What is there of two blocks stays until the other one is. Without this, requests that need more
 * blocks than the cache has could take them from each other for ever. */
static void hold(struct reader *r, const struct store_read *q)
{
    const struct reader_segment *s = find_by_place(r, q->place);
    if (s->is_packed || (q->state & IS_EXACT) != 0) return;
    uint64_t offset = place_offset(q->place), ends[2] = {offset, offset + need_of(q) - 1};
    for (int i = 0; i < 2; i++) {
        struct read_cache_block *b = read_cache_find(&r->cache, block_key(s, block_start(ends[i])));
        if (b == NULL || b->state != READ_CACHE_VALID) continue;
        b->pin_count++;
        r->held[i] = b;
    }
}

/* Every request that waits is looked at; those that have all they need become ready. */
static void pump(struct reader *r)
{
    let_go_of_held(r);
    struct reader_list again = r->waiting;
    r->waiting = (struct reader_list){0};
    for (struct store_read *q = list_take(&again); q != NULL; q = list_take(&again)) {
        q->result = serve(r, q);
        if (q->result == ERR_BUSY) {
            if (r->waiting.first == NULL) hold(r, q);
            list_add(&r->waiting, q);
            continue;
        }
        if (q->result == ERR_OK) pin(r, q, true);
        list_add(&r->ready, q);
    }
    if (!r->is_stopping) return;
    for (uint32_t i = 0; i < r->segment_count; i++)
        if (r->segments[i].state == READER_OPEN && r->segments[i].flying == 0)
            close_file(r, &r->segments[i]);
}

static bool is_wanted(const struct reader_list *l, const struct reader_segment *s)
{
    for (const struct store_read *q = l->first; q != NULL; q = q->next)
        if (q->place >> PLACE_OFFSET_BITS == order_of_segment(s)) return true;
    return false;
}

static void drop_block(struct reader *r, uint64_t key)
{
    struct read_cache_block *b = read_cache_find(&r->cache, key);
    if (b != NULL) read_cache_drop(b);
}

bool reader_retire(struct reader *r, bool is_packed, uint32_t log, uint32_t segment)
{
    struct reader_segment *s = find(r, order_of(is_packed, log, segment));
    if (s == NULL) return true;
    if (s->flying > 0 || is_wanted(&r->waiting, s) || is_wanted(&r->ready, s)) return false;
    if (s->state == READER_OPEN) close_file(r, s);
    if (s->state != READER_CLOSED) return false;
    for (uint64_t at = 0; !is_packed && at < s->size; at += READ_CACHE_BLOCK_BYTES)
        drop_block(r, block_key(s, at));
    for (uint32_t i = 0; i < s->table.count; i++)
        drop_block(r, block_key(s, s->table.entries[i].at));
    pack_table_free(&s->table, r->mem);
    r->segment_count--;
    memmove(s, s + 1, (size_t)(r->segments + r->segment_count - s) * sizeof *s);
    return true;
}

/* The way of a reader that goes forward: the same block as before, no neighbour of which has to be
 * asked for. False: nothing is known. */
static bool read_near(struct reader *r, const struct store_read *q, struct record *out)
{
    const struct read_cache_block *b = r->near.block;
    uint64_t offset = place_offset(q->place), at = offset - block_start(offset);
    if (b == NULL || b->key != r->near.key || b->state != READ_CACHE_VALID) return false;
    if (q->place - at / PLACE_UNIT_BYTES != b->key || at >= b->valid_bytes) return false;
    if (q->place / AHEAD_STEP_BYTES != r->ahead_at) return false;
    uint32_t length;
    enum err e =
        record_decode(b->data + at, b->valid_bytes - at, &r->near.place, offset, out, &length);
    return e == ERR_OK && is_asked_for(q, out);
}

static void stay_near(struct reader *r, const struct reader_segment *s, uint64_t place)
{
    r->near.block = NULL;
    if (s->is_packed) return;
    uint64_t key = block_key(s, block_start(place_offset(place)));
    r->near = (struct reader_near){read_cache_find(&r->cache, key), key, s->key};
}

static void let_go_of_given(struct reader *r)
{
    if (r->given != NULL) free_exact(r, r->given);
    r->given = NULL;
}

enum err reader_read(struct reader *r, struct store_read *q, struct record *out)
{
    let_go_of_given(r);
    r->counts.reads++;
    q->state = 0;
    if (read_near(r, q, out)) return ERR_OK;
    enum err e = try_blocks(r, q, out);
    struct reader_segment *s = find_by_place(r, q->place);
    if (e != ERR_BUSY) {
        if (e == ERR_OK) stay_near(r, s, q->place);
        /* Once per stretch of a block: a look at its neighbours is a search of the cache. */
        uint64_t near = q->place / AHEAD_STEP_BYTES;
        if (e == ERR_OK && s->state == READER_OPEN && near != r->ahead_at) {
            r->ahead_at = near;
            pin(r, q, true); /* *out lies in there */
            if (s->is_packed)
                read_ahead_packed(r, s, place_offset(q->place));
            else
                read_ahead(r, s, block_start(place_offset(q->place)));
            pin(r, q, false);
        }
        return e;
    }
    r->counts.waits++;
    if (s->state == READER_CLOSED) s->open_result = ERR_OK; /* a new request, a new attempt */
    s->table_result = ERR_OK;
    q->result = serve(r, q);
    if (q->result == ERR_BUSY) {
        list_add(&r->waiting, q);
        return ERR_BUSY;
    }
    /* All is there but in a way that only reader_next hands out; or an error. */
    if (q->result != ERR_OK) return q->result;
    pin(r, q, true);
    list_add(&r->ready, q);
    return ERR_BUSY;
}

static enum err answer_exact_packed(struct reader *r, struct store_read *q, struct reader_exact *x,
                                    const struct reader_segment *s, struct record *out)
{
    uint64_t skip = x->packed.offset - x->op.offset;
    enum err e = x->op.result;
    if (e == ERR_OK) {
        x->raw = mem_alloc(r->mem, MEM_STORE, x->packed.raw_bytes);
        if (x->raw == NULL) e = ERR_MEMORY;
    }
    bool is_good = e == ERR_OK && x->op.bytes_done >= skip &&
                   unpack(r, s, &x->packed, x->data + skip, x->op.bytes_done - skip, x->raw);
    if (e == ERR_OK) e = is_good ? answer_packed(q, &x->packed, x->raw, out) : ERR_CORRUPT;
    if (e == ERR_CORRUPT && (q->state & TRIED_AGAIN) == 0) {
        q->state |= TRIED_AGAIN;
        e = ERR_BUSY;
    }
    if (e == ERR_CORRUPT) damaged(r, q, s, x->packed.offset, x->packed.piece_bytes);
    x->request = NULL;
    if (e == ERR_OK)
        r->given = x;
    else
        free_exact(r, x);
    return e;
}

static enum err answer_exact(struct reader *r, struct store_read *q, struct record *out)
{
    struct reader_exact *x = exact_of(r, q);
    struct reader_segment *s = find_by_place(r, q->place);
    must(x != NULL && x->is_done && s != NULL);
    if (s->is_packed) return answer_exact_packed(r, q, x, s, out);
    uint64_t skip = place_offset(q->place) - x->op.offset;
    enum err e = x->op.result;
    if (e == ERR_OK && x->op.bytes_done < skip + need_of(q)) e = ERR_CORRUPT;
    if (e == ERR_OK) e = answer(r, q, s, x->data + skip, need_of(q), out);
    x->request = NULL;
    if (e == ERR_OK) {
        r->given = x;
        return e;
    }
    /* The first exact read is the second try of a record that was in the cache; a big one has its
     * own second try. */
    free_exact(r, x);
    return e;
}

bool reader_next(struct reader *r, struct store_event *out)
{
    let_go_of_given(r);
    /* Pins and exact ranges that were let go of since may be what somebody waits for. */
    if (r->waiting.first != NULL && r->ready.first == NULL) pump(r);
    for (struct store_read *q = list_take(&r->ready); q != NULL; q = list_take(&r->ready)) {
        struct store_event event = {.kind = STORE_READ, .err = q->result, .read = q};
        if (q->result == ERR_OK) {
            pin(r, q, false);
            event.err = (q->state & IS_EXACT) != 0 ? answer_exact(r, q, &event.record)
                                                   : try_blocks(r, q, &event.record);
        }
        if (event.err != ERR_BUSY) {
            *out = event;
            return true;
        }
        list_add(&r->waiting, q);
        pump(r);
    }
    return false;
}

void reader_stop(struct reader *r)
{
    let_go_of_given(r);
    r->is_stopping = true;
    pump(r);
}
