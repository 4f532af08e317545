#include "persist/reader.h"
#include <string.h>
#include "core/base/must.h"
#include "persist/names.h"
#include "persist/record.h"

enum { FIRST_ROOM = 16, AHEAD_BLOCKS = 2 };
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

static uint64_t order_of(uint32_t log, uint32_t segment)
{
    return (uint64_t)log << 32 | segment;
}

/* Index of the first segment at or behind (log, segment). */
static uint32_t index_of(const struct reader *r, uint32_t log, uint32_t segment)
{
    uint32_t low = 0, high = r->segment_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct place_key *k = &r->segments[middle].key;
        if (order_of(k->log, k->segment) < order_of(log, segment))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct reader_segment *find(const struct reader *r, uint32_t log, uint32_t segment)
{
    uint32_t i = index_of(r, log, segment);
    if (i == r->segment_count) return NULL;
    struct reader_segment *s = &r->segments[i];
    return s->key.log == log && s->key.segment == segment ? s : NULL;
}

static struct reader_segment *find_by_place(const struct reader *r, uint64_t place)
{
    return place_is_packed(place) ? NULL : find(r, place_log(place), place_segment(place));
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
    mem_free(r->mem, MEM_STORE, x->memory, x->memory_bytes);
    *x = (struct reader_exact){0};
}

void reader_deinit(struct reader *r)
{
    for (int i = 0; i < READER_EXACT_MAX; i++) free_exact(r, &r->exact[i]);
    mem_free(r->mem, MEM_STORE, r->segments, r->segment_room * sizeof *r->segments);
    mem_free(r->mem, MEM_STORE, r->scratch, READ_CACHE_BLOCK_BYTES);
    read_cache_deinit(&r->cache);
    r->segments = NULL;
    r->segment_count = r->segment_room = 0;
}

enum err reader_add(struct reader *r, uint32_t log, uint32_t segment, uint32_t incarnation,
                    uint64_t size, uint64_t written)
{
    must(find(r, log, segment) == NULL);
    if (r->segment_count == r->segment_room) {
        uint32_t room = r->segment_room == 0 ? FIRST_ROOM : 2 * r->segment_room;
        struct reader_segment *to = mem_alloc(r->mem, MEM_STORE, room * sizeof *to);
        if (to == NULL) return ERR_MEMORY;
        if (r->segment_count > 0) memcpy(to, r->segments, r->segment_count * sizeof *to);
        mem_free(r->mem, MEM_STORE, r->segments, r->segment_room * sizeof *to);
        r->segments = to;
        r->segment_room = room;
    }
    uint32_t i = index_of(r, log, segment);
    memmove(&r->segments[i + 1], &r->segments[i], (r->segment_count - i) * sizeof *r->segments);
    r->segments[i] = (struct reader_segment){
        .key = {.secret = r->secret, .log = log, .segment = segment, .incarnation = incarnation},
        .size = size,
        .written = written};
    r->segment_count++;
    return ERR_OK;
}

void reader_set_written(struct reader *r, uint32_t log, uint32_t segment, uint64_t written)
{
    struct reader_segment *s = find(r, log, segment);
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
    return place_of(s->key.log, s->key.segment, start);
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
        r->counts.corrupt++;
        return ERR_CORRUPT;
    }
    /* The cache, or the way from the disk, may be at fault: once more, from the disk. */
    q->state |= TRIED_AGAIN | IS_EXACT;
    return ERR_BUSY;
}

static enum err try_blocks(struct reader *r, struct store_read *q, struct record *out)
{
    const struct reader_segment *s = find_by_place(r, q->place);
    if (s == NULL) return ERR_UNKNOWN;
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
    struct reader_segment *s = find(r, l->log, l->segment);
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
                              .log = s->key.log,
                              .segment = s->key.segment};
    if (submit_load(r, l)) s->state = READER_CLOSING;
}

static void on_opened(struct vfs_op *op)
{
    struct reader_load *l = op->context;
    struct reader *r = l->reader;
    end_load(r, l);
    struct reader_segment *s = find(r, l->log, l->segment);
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
    struct names_text name = names_segment(s->key.log, s->key.segment);
    *l = (struct reader_load){
        .op = {.kind = VFS_OPEN, .flags = VFS_READ_ONLY | r->flags, .done = on_opened},
        .log = s->key.log,
        .segment = s->key.segment};
    /* The path must stay until the open ended. */
    _Static_assert(sizeof name.text <= sizeof l->name, "room for the name");
    memcpy(l->name, name.text, sizeof name.text);
    l->op.path = l->name;
    if (!submit_load(r, l)) return;
    s->state = READER_OPENING;
    r->open_count++;
}

/* --- loading ------------------------------------------------------------------------------ */

static void on_loaded(struct vfs_op *op)
{
    struct reader_load *l = op->context;
    struct reader *r = l->reader;
    end_load(r, l);
    struct reader_segment *s = find(r, l->log, l->segment);
    must(s != NULL && s->flying > 0);
    s->flying--;
    read_cache_loaded(l->block, 0);
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
                              .log = s->key.log,
                              .segment = s->key.segment,
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

/* --- exact ranges ------------------------------------------------------------------------- */

static struct reader_exact *exact_of(struct reader *r, const struct store_read *q)
{
    for (int i = 0; i < READER_EXACT_MAX; i++)
        if (r->exact[i].request == q) return &r->exact[i];
    return NULL;
}

static void on_exact(struct vfs_op *op)
{
    struct reader_exact *x = op->context;
    struct reader *r = x->reader;
    struct reader_segment *s = find(r, x->log, x->segment);
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
    *x = (struct reader_exact){.reader = r,
                               .log = s->key.log,
                               .segment = s->key.segment,
                               .memory_bytes = bytes + PLACE_BLOCK_BYTES};
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
    x->request = q;
    s->flying++;
    r->flying++;
    return ERR_BUSY;
}

/* --- requests that wait ------------------------------------------------------------------- */

/* What q needs is asked for. ERR_OK: all is there. ERR_BUSY: not yet. Others end the request. */
static enum err serve(struct reader *r, struct store_read *q)
{
    struct reader_segment *s = find_by_place(r, q->place);
    if (r->is_stopping) return ERR_CLOSED;
    if (s == NULL) return ERR_UNKNOWN;
    if (s->state == READER_CLOSED && s->open_result != ERR_OK) return s->open_result;
    if (s->state == READER_CLOSED) open_file(r, s);
    if (s->state != READER_OPEN) return ERR_BUSY;
    if ((q->state & IS_EXACT) != 0) {
        struct reader_exact *x = exact_of(r, q);
        if (x == NULL) return start_exact(r, s, q);
        return x->is_done ? ERR_OK : ERR_BUSY;
    }
    uint64_t offset = place_offset(q->place), end = offset + need_of(q);
    uint64_t first = block_start(offset), last = block_start(end - 1);
    bool has_failed = false, is_there = want_block(r, s, first, end, &has_failed);
    if (last != first && !want_block(r, s, last, end, &has_failed)) is_there = false;
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
    for (uint64_t at = first; at <= last; at += READ_CACHE_BLOCK_BYTES) {
        struct read_cache_block *b = read_cache_find(&r->cache, block_key(s, at));
        must(b != NULL && b->state == READ_CACHE_VALID);
        must(is_pinned || b->pin_count > 0);
        b->pin_count += is_pinned ? 1 : -1u;
    }
}

/* Every request that waits is looked at; those that have all they need become ready. */
static void pump(struct reader *r)
{
    struct reader_list again = r->waiting;
    r->waiting = (struct reader_list){0};
    for (struct store_read *q = list_take(&again); q != NULL; q = list_take(&again)) {
        q->result = serve(r, q);
        if (q->result == ERR_BUSY) {
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
        if (!place_is_packed(q->place) && place_log(q->place) == s->key.log &&
            place_segment(q->place) == s->key.segment)
            return true;
    return false;
}

bool reader_retire(struct reader *r, uint32_t log, uint32_t segment)
{
    struct reader_segment *s = find(r, log, segment);
    if (s == NULL) return true;
    if (s->flying > 0 || is_wanted(&r->waiting, s) || is_wanted(&r->ready, s)) return false;
    if (s->state == READER_OPEN) close_file(r, s);
    if (s->state != READER_CLOSED) return false;
    for (uint64_t at = 0; at < s->size; at += READ_CACHE_BLOCK_BYTES) {
        struct read_cache_block *b = read_cache_find(&r->cache, block_key(s, at));
        if (b != NULL) read_cache_drop(b);
    }
    r->segment_count--;
    memmove(s, s + 1, (size_t)(r->segments + r->segment_count - s) * sizeof *s);
    return true;
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
    enum err e = try_blocks(r, q, out);
    struct reader_segment *s = find_by_place(r, q->place);
    if (e != ERR_BUSY) {
        if (e == ERR_OK && s->state == READER_OPEN)
            read_ahead(r, s, block_start(place_offset(q->place)));
        return e;
    }
    r->counts.waits++;
    if (s->state == READER_CLOSED) s->open_result = ERR_OK; /* a new request, a new attempt */
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

void reader_expect(struct reader *r, uint64_t place, uint32_t bytes)
{
    struct reader_segment *s = find_by_place(r, place);
    if (s == NULL || r->is_stopping) return;
    if (s->state == READER_CLOSED) open_file(r, s);
    uint64_t start = block_start(place_offset(place));
    if (s->state != READER_OPEN || bytes > READ_CACHE_BLOCK_BYTES) return;
    if (read_cache_find(&r->cache, block_key(s, start)) == NULL) (void)load_block(r, s, start);
}

static enum err answer_exact(struct reader *r, struct store_read *q, struct record *out)
{
    struct reader_exact *x = exact_of(r, q);
    struct reader_segment *s = find_by_place(r, q->place);
    must(x != NULL && x->is_done && s != NULL);
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
