#include "persist/check.h"
#include <string.h>
#include "core/base/must.h"
#include "persist/orphans.h"
#include "persist/pack_file.h"
#include "persist/replay.h"
#include "persist/wire.h"

enum { LIST_BYTES = 4096, VERSION_AT = 8 };

/* The newest number of something that is counted without gaps in the log. */
struct track {
    enum check_gap_kind kind;
    uint64_t stream, consumer;
    uint64_t last;     /* number */
    uint64_t place;    /* of its record; 0: none yet */
    struct bytes name; /* CHECK_MESSAGES: of the stream; may be empty */
};

/* --- what is found ------------------------------------------------------------------------ */

uint32_t check_range_count(const struct check *c)
{
    return (uint32_t)(c->ranges.len / sizeof(struct check_range));
}

struct check_range check_range_at(const struct check *c, uint32_t index)
{
    struct check_range r;
    must(index < check_range_count(c));
    memcpy(&r, c->ranges.data + index * sizeof r, sizeof r);
    return r;
}

uint32_t check_gap_count(const struct check *c)
{
    return (uint32_t)(c->gaps.len / sizeof(struct check_gap));
}

struct check_gap check_gap_at(const struct check *c, uint32_t index)
{
    struct check_gap g;
    must(index < check_gap_count(c));
    memcpy(&g, c->gaps.data + index * sizeof g, sizeof g);
    return g;
}

static void add_range(struct check *c, const struct check_range *r)
{
    if (r->kind == CHECK_LOST) {
        c->counts.lost_ranges++;
        c->counts.lost_bytes += r->bytes;
    }
    c->counts.copy_ranges += r->kind == CHECK_COPY;
    c->counts.cut_ranges += r->kind == CHECK_CUT;
    if (check_range_count(c) == CHECK_RANGES_MAX)
        c->counts.ranges_left_out++;
    else
        text_bytes(&c->ranges, bytes_of((const char *)r, sizeof *r));
}

/* One more number of the same row is another row only if it does not follow the last one. */
static void add_gap(struct check *c, const struct check_gap *g)
{
    uint32_t count = check_gap_count(c);
    if (count > 0) {
        struct check_gap before = check_gap_at(c, count - 1);
        if (before.kind == g->kind && before.stream == g->stream &&
            before.consumer == g->consumer && before.last + 1 == g->first && g->place_before == 0 &&
            before.range_first == g->range_first && before.range_end == g->range_end) {
            before.last = g->last;
            memcpy(c->gaps.data + (count - 1) * sizeof before, &before, sizeof before);
            return;
        }
    }
    if (count == CHECK_RANGES_MAX)
        c->counts.ranges_left_out++;
    else
        text_bytes(&c->gaps, bytes_of((const char *)g, sizeof *g));
}

static void tell_file(struct check *c, enum check_kind kind, struct names_text file,
                      const char *what, uint64_t offset, uint64_t bytes)
{
    struct check_range r = {
        .kind = kind, .file = file, .what = what, .offset = offset, .bytes = bytes};
    add_range(c, &r);
}

static void on_lost(void *context, const struct store_lost *lost)
{
    struct check *c = context;
    struct check_range r = {
        .kind = lost->kind == STORE_LOST_CUT ? CHECK_CUT : CHECK_LOST,
        .file = lost->is_packed ? names_pack(lost->log, lost->segment)
                                : names_segment(lost->log, lost->segment),
        .place = lost->is_packed ? 0
                                 : place_of(lost->log, lost->segment,
                                            lost->offset / PLACE_UNIT_BYTES * PLACE_UNIT_BYTES),
        .what = lost->is_packed ? "block of messages" : "records",
        .offset = lost->offset,
        .bytes = lost->bytes,
        .group = lost->group,
        .record_count = lost->record_count,
        .has_count = lost->has_count};
    add_range(c, &r);
}

static void on_copy(void *context, const char *what, const struct store_lost *range)
{
    tell_file(context, CHECK_COPY, names_pack(range->log, range->segment), what, range->offset,
              range->bytes);
}

static void on_message(void *context, uint64_t stream, uint64_t seq)
{
    struct check *c = context;
    uint32_t count = check_range_count(c);
    struct check_gap g = {.kind = CHECK_MESSAGES,
                          .stream = stream,
                          .first = seq,
                          .last = seq,
                          .range_first = count - 1,
                          .range_end = count};
    if (count > 0) add_gap(c, &g);
}

/* --- what is missing ---------------------------------------------------------------------- */

static uint64_t hash_of(enum check_gap_kind kind, uint64_t stream, uint64_t consumer)
{
    uint64_t key[3] = {(uint64_t)kind, stream, consumer};
    return hash_bytes(key, sizeof key, 0);
}

static struct track *find(const struct check *c, enum check_gap_kind kind, uint64_t stream,
                          uint64_t consumer)
{
    uint64_t hash = hash_of(kind, stream, consumer);
    uint32_t at;
    struct track *t = table_first(&c->streams, hash, &at);
    while (t != NULL && (t->kind != kind || t->stream != stream || t->consumer != consumer))
        t = table_next(&c->streams, hash, &at);
    return t;
}

static struct track *find_or_add(struct check *c, enum check_gap_kind kind, uint64_t stream,
                                 uint64_t consumer)
{
    struct track *t = find(c, kind, stream, consumer);
    if (t != NULL) return t;
    t = mem_alloc_zero(c->options.mem, MEM_STORE, sizeof *t);
    if (t == NULL) return NULL;
    *t = (struct track){.kind = kind, .stream = stream, .consumer = consumer};
    if (table_insert(&c->streams, hash_of(kind, stream, consumer), t) == ERR_OK) return t;
    mem_free(c->options.mem, MEM_STORE, t, sizeof *t);
    return NULL;
}

/* A record of this number was read; numbers that it skipped are missing: a stream lies in one log,
 * of which only the front is freed. */
static enum err follow(struct check *c, enum check_gap_kind kind, const struct record *r,
                       uint64_t consumer, uint64_t number, uint64_t place)
{
    struct track *t = find_or_add(c, kind, r->stream, consumer);
    if (t == NULL) return ERR_MEMORY;
    bool is_same = t->place != 0 && place_log(t->place) == place_log(place);
    if (is_same && number > t->last + 1) {
        struct check_gap g = {.kind = kind,
                              .stream = r->stream,
                              .consumer = consumer,
                              .first = t->last + 1,
                              .last = number - 1,
                              .place_before = t->place,
                              .place_after = place};
        add_gap(c, &g);
    }
    t->last = number;
    t->place = place;
    return ERR_OK;
}

/* Where the gaps lay; one that is between no damaged ranges is none. */
static void locate_gaps(struct check *c)
{
    uint32_t count = check_gap_count(c), kept = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct check_gap g = check_gap_at(c, i);
        bool is_located = g.place_before == 0;
        for (uint32_t k = 0; g.place_before != 0 && k < check_range_count(c); k++) {
            struct check_range r = check_range_at(c, k);
            if (r.kind != CHECK_LOST || r.place < g.place_before || r.place > g.place_after)
                continue;
            if (!is_located) g.range_first = k;
            g.range_end = k + 1;
            is_located = true;
        }
        if (!is_located) continue;
        memcpy(c->gaps.data + kept * sizeof g, &g, sizeof g);
        kept++;
    }
    c->gaps.len = kept * sizeof(struct check_gap);
}

static enum err set_name(struct check *c, uint64_t stream, struct bytes name)
{
    struct track *t = find_or_add(c, CHECK_MESSAGES, stream, 0);
    if (t == NULL) return ERR_MEMORY;
    if (name.len == 0 || bytes_equal(t->name, name)) return ERR_OK;
    char *copy = mem_alloc(c->options.mem, MEM_STORE, name.len);
    if (copy == NULL) return ERR_MEMORY;
    memcpy(copy, name.data, name.len);
    mem_free(c->options.mem, MEM_STORE, (char *)(uintptr_t)t->name.data, t->name.len);
    t->name = bytes_of(copy, name.len);
    return ERR_OK;
}

struct bytes check_stream_name(const struct check *c, uint64_t stream)
{
    const struct track *t = find(c, CHECK_MESSAGES, stream, 0);
    return t == NULL ? bytes_of(NULL, 0) : t->name;
}

/* A purge may move the sequences of its stream on. */
static enum err follow_purge(struct check *c, const struct record *r, uint64_t place)
{
    const struct track *t = find(c, CHECK_MESSAGES, r->stream, 0);
    bool moves = t != NULL && r->subject.len == 0 && r->seq > t->last + 1;
    return moves ? follow(c, CHECK_MESSAGES, r, 0, r->seq - 1, place) : ERR_OK;
}

static enum err follow_part(struct check *c, const struct record *r, uint64_t place)
{
    struct bytes name;
    struct track *t = find_or_add(c, CHECK_PARTS, r->stream, 0);
    enum err e = ERR_OK;
    if (t == NULL) return ERR_MEMORY;
    c->counts.checkpoints += (r->flags & RECORD_LAST) != 0;
    if (r->seq == 0 && c->options.name != NULL && c->options.name(r->body, &name) == ERR_OK)
        e = set_name(c, r->stream, name);
    /* A new one may begin before the last one is whole. */
    if (r->seq == 0) t->place = 0;
    return e == ERR_OK ? follow(c, CHECK_PARTS, r, 0, r->seq, place) : e;
}

static enum err follow_record(struct check *c, const struct record *r, uint64_t place)
{
    switch (r->kind) {
    case RECORD_MESSAGE:
    case RECORD_SKIP: return follow(c, CHECK_MESSAGES, r, 0, r->seq, place);
    case RECORD_PURGE: return follow_purge(c, r, place);
    case RECORD_PROGRESS: return follow(c, CHECK_PROGRESS, r, r->seq, r->prev_seq, place);
    case RECORD_STREAM: return set_name(c, r->stream, r->subject);
    case RECORD_CHECKPOINT: return follow_part(c, r, place);
    default: return ERR_OK;
    }
}

static enum err on_record(void *context, const struct record *r, const struct store_stub *stub)
{
    struct check *c = context;
    struct check_place place = {.offset = place_offset(stub->place),
                                .is_packed = place_is_packed(stub->place)};
    uint32_t log = place_log(stub->place), number = place_segment(stub->place);
    c->counts.kinds[r->kind]++;
    c->counts.packed_messages += place.is_packed;
    enum err e = place.is_packed ? ERR_OK : follow_record(c, r, stub->place);
    if (e != ERR_OK || c->options.record == NULL) return e;
    place.file = place.is_packed ? names_pack(log, number) : names_segment(log, number);
    return c->options.record(c->options.context, r, &place);
}

static void progress(struct check *c)
{
    if (c->options.progress != NULL)
        c->options.progress(c->options.context, c->bytes_before, c->counts.read.bytes_total);
}

static void end_file(struct check *c)
{
    c->bytes_before += c->file_bytes;
    progress(c);
}

/* --- root and manifests ------------------------------------------------------------------- */

/* The whole file into memory of the port. ERR_UNKNOWN: there is none. ERR_CORRUPT: it is larger
 * than any that a server writes. */
static enum err read_file(const struct check *c, const char *path, char **data, uint32_t *bytes)
{
    const struct blocking *b = c->options.blocking;
    struct vfs_op open = {.kind = VFS_OPEN, .path = path, .flags = VFS_READ_ONLY};
    enum err e = blocking_run(b, &open);
    if (e != ERR_OK) return e;
    struct vfs_op size = {.kind = VFS_SIZE, .file = open.file};
    e = blocking_run(b, &size);
    if (e == ERR_OK && size.size > MANIFEST_BYTES_MAX) e = ERR_CORRUPT;
    *bytes = e == ERR_OK ? (uint32_t)size.size : 0;
    *data = e == ERR_OK ? mem_alloc(c->options.mem, MEM_STORE, (size_t)*bytes + 1) : NULL;
    if (e == ERR_OK && *data == NULL) e = ERR_MEMORY;
    struct vfs_op read = {.kind = VFS_READ, .file = open.file, .data = *data, .bytes = *bytes};
    if (e == ERR_OK) e = blocking_run(b, &read);
    struct vfs_op close = {.kind = VFS_CLOSE, .file = open.file};
    (void)!blocking_run(b, &close);
    if (e != ERR_OK && *data != NULL) mem_free(c->options.mem, MEM_STORE, *data, *bytes + 1ul);
    if (e == ERR_OK && read.bytes_done < *bytes)
        memset(*data + read.bytes_done, 0, *bytes - read.bytes_done);
    return e;
}

static enum err is_newer(struct check *c, struct names_text file, uint32_t version)
{
    c->newer = file;
    c->newer_version = version == MANIFEST_VERSION ? 0 : version;
    return ERR_UNSUPPORTED;
}

static bool is_stop(enum err e)
{
    return e == ERR_MEMORY || e == ERR_CLOSED || e == ERR_FULL || e == ERR_DENIED;
}

/* What one copy of a pair said. A missing one is told only if the other is there. */
struct pair_found {
    enum err result[2];
    uint32_t bytes[2];
};

/* Both copies were tried. Tells what is wrong with them; true if one is valid. */
static bool judge_pair(struct check *c, const struct pair_found *p, const struct names_text *names)
{
    static const char *const WHAT[] = {"a copy, which cannot be read", "a copy, which is missing",
                                       "a copy"};
    bool is_good = p->result[0] == ERR_OK || p->result[1] == ERR_OK;
    bool is_there = p->result[0] != ERR_UNKNOWN || p->result[1] != ERR_UNKNOWN;
    for (int copy = 0; is_there && copy < 2; copy++) {
        if (p->result[copy] == ERR_OK) continue;
        int what = p->result[copy] == ERR_IO ? 0 : p->result[copy] == ERR_UNKNOWN ? 1 : 2;
        tell_file(c, is_good ? CHECK_COPY : CHECK_LOST, names[copy], WHAT[what], 0, p->bytes[copy]);
    }
    return is_good;
}

static enum err read_root(struct check *c)
{
    struct names_text names[2] = {names_root(0), names_root(1)};
    struct pair_found found = {0};
    for (int copy = 0; copy < 2; copy++) {
        struct root root;
        char *data = NULL;
        uint32_t bytes = 0;
        enum err e = read_file(c, names[copy].text, &data, &bytes);
        if (is_stop(e)) return e;
        if (e == ERR_OK) {
            e = bytes < ROOT_BYTES ? ERR_CORRUPT : root_decode(data, &root);
            if (e == ERR_UNSUPPORTED) (void)!is_newer(c, names[copy], wire_u32(data + VERSION_AT));
            mem_free(c->options.mem, MEM_STORE, data, bytes + 1ul);
        }
        if (e == ERR_UNSUPPORTED) return e;
        if (e == ERR_OK && (!c->has_root || root.generation > c->root.generation)) c->root = root;
        c->has_root = c->has_root || e == ERR_OK;
        found.result[copy] = e;
        found.bytes[copy] = bytes;
    }
    (void)judge_pair(c, &found, names);
    return ERR_OK;
}

/* Whether a manifest is of this store; without a root the first one decides. */
static bool is_ours(struct check *c, const struct manifest *m)
{
    if (!c->has_root && c->log_count == 0) c->root.store = m->store;
    return m->store == c->root.store;
}

static enum err read_copy(struct check *c, uint32_t log, struct names_text name, uint32_t *bytes,
                          struct manifest *out)
{
    char *data = NULL;
    enum err e = read_file(c, name.text, &data, bytes);
    if (e != ERR_OK) return e;
    e = manifest_decode(data, *bytes, log, c->options.mem, out);
    if (e == ERR_UNSUPPORTED) (void)!is_newer(c, name, wire_u32(data + VERSION_AT));
    if (e == ERR_OK && !is_ours(c, out)) {
        manifest_deinit(out);
        e = ERR_CORRUPT;
    }
    mem_free(c->options.mem, MEM_STORE, data, *bytes + 1ul);
    return e;
}

/* A start that was to give the store more logs and did not get to the root, as on a full disk. The
 * next one that wants this log makes both copies anew. */
static bool is_made_in_part(const struct check *c, uint32_t log, const struct pair_found *p)
{
    return c->has_root && log >= c->root.log_count && !c->has_log[log] && p->result[0] != ERR_IO &&
           p->result[1] != ERR_IO;
}

static enum err read_manifest(struct check *c, uint32_t log)
{
    struct names_text names[2] = {names_manifest(log, 0), names_manifest(log, 1)};
    struct pair_found found = {0};
    for (int copy = 0; copy < 2; copy++) {
        struct manifest m;
        enum err e = read_copy(c, log, names[copy], &found.bytes[copy], &m);
        if (is_stop(e) || e == ERR_UNSUPPORTED) return e;
        found.result[copy] = e;
        if (e != ERR_OK) continue;
        if (!c->has_log[log] || m.generation > c->logs[log].generation) {
            if (c->has_log[log]) manifest_deinit(&c->logs[log]);
            c->logs[log] = m;
            c->has_log[log] = true;
        } else {
            manifest_deinit(&m);
        }
    }
    bool is_counted = c->has_root && log < c->root.log_count;
    if (is_counted && found.result[0] == ERR_UNKNOWN && found.result[1] == ERR_UNKNOWN)
        tell_file(c, CHECK_LOST, names[0], "a manifest, of which both copies are missing", 0, 0);
    if (!is_made_in_part(c, log, &found)) c->log_count += judge_pair(c, &found, names);
    return ERR_OK;
}

/* --- segments and packs ------------------------------------------------------------------- */

static uint64_t bytes_to_read(const struct check *c)
{
    uint64_t sum = 0;
    for (uint32_t log = 0; log < PLACE_LOGS_MAX; log++) {
        if (!c->has_log[log]) continue;
        const struct manifest *m = &c->logs[log];
        for (uint32_t i = 0; i < m->count; i++)
            sum += m->segments[i].is_closed ? m->segments[i].end
                   : m->is_clean            ? 0
                                            : m->segments[i].size;
        for (uint32_t i = 0; i < m->pack_count; i++) sum += m->packs[i].size;
    }
    return sum;
}

/* After a clean stop what is not closed was never used. */
static bool is_used(const struct manifest *m, const struct manifest_segment *s)
{
    return s->is_closed || !m->is_clean;
}

/* A disk that cannot read now what decides about the cut. */
static enum err end_segment(struct check *c, uint32_t log, uint32_t index, enum err e)
{
    const struct manifest_segment *s = &c->logs[log].segments[index];
    if (e != ERR_IO) return e;
    tell_file(c, CHECK_LOST, names_segment(log, s->number), "records that cannot be read now", 0,
              s->size);
    return ERR_OK;
}

static enum err find_cuts(struct check *c, struct replay_log *logs)
{
    for (uint32_t log = 0; log < PLACE_LOGS_MAX; log++) {
        struct manifest *m = &c->logs[log];
        if (!c->has_log[log]) continue;
        replay_init(&logs[log], &c->recovery, &c->counts.read, m, NULL);
        for (uint32_t i = 0; i < m->count; i++) {
            if (!is_used(m, &m->segments[i])) continue;
            m->segments[i].has_checkpoints = false; /* they come with all other records */
            enum err e = end_segment(c, log, i, replay_segment(&logs[log], i));
            if (e != ERR_OK) return e;
        }
        replay_again(&logs[log]);
    }
    return ERR_OK;
}

static enum err read_pack(struct check *c, uint32_t log, const struct manifest_pack *p)
{
    c->counts.packs++;
    c->file_bytes = p->size;
    progress(c);
    enum err e = pack_file_read(&c->recovery, &c->logs[log], p, true, &c->counts.read);
    end_file(c);
    if (e == ERR_UNSUPPORTED) return is_newer(c, names_pack(log, p->number), 0);
    return e;
}

static enum err read_log(struct check *c, struct replay_log *logs, uint32_t log,
                         uint32_t incarnation)
{
    const struct manifest *m = &c->logs[log];
    enum err e = ERR_OK;
    for (uint32_t i = 0; e == ERR_OK && i < m->pack_count; i++)
        if (m->packs[i].incarnation == incarnation) e = read_pack(c, log, &m->packs[i]);
    for (uint32_t i = 0; e == ERR_OK && i < m->count; i++) {
        if (m->segments[i].incarnation != incarnation || !is_used(m, &m->segments[i])) continue;
        c->counts.segments++;
        c->file_bytes = m->segments[i].is_closed ? m->segments[i].end : m->segments[i].size;
        progress(c);
        e = end_segment(c, log, i, replay_segment(&logs[log], i));
        end_file(c);
    }
    return e;
}

static uint32_t next_incarnation(const struct check *c, uint32_t after)
{
    uint32_t next = UINT32_MAX;
    for (uint32_t log = 0; log < PLACE_LOGS_MAX; log++) {
        if (!c->has_log[log]) continue;
        const struct manifest *m = &c->logs[log];
        for (uint32_t i = 0; i < m->count; i++)
            if (m->segments[i].incarnation > after && m->segments[i].incarnation < next)
                next = m->segments[i].incarnation;
        for (uint32_t i = 0; i < m->pack_count; i++)
            if (m->packs[i].incarnation > after && m->packs[i].incarnation < next)
                next = m->packs[i].incarnation;
    }
    return next;
}

static enum err read_all(struct check *c)
{
    struct replay_log *logs =
        mem_alloc_zero(c->options.mem, MEM_STORE, PLACE_LOGS_MAX * sizeof *logs);
    if (logs == NULL) return ERR_MEMORY;
    enum err e = find_cuts(c, logs);
    c->counts.read.bytes_total = bytes_to_read(c); /* with the cuts */
    for (uint32_t n = next_incarnation(c, 0); e == ERR_OK && n != UINT32_MAX;
         n = next_incarnation(c, n))
        for (uint32_t log = 0; e == ERR_OK && log < PLACE_LOGS_MAX; log++)
            if (c->has_log[log]) e = read_log(c, logs, log, n);
    mem_free(c->options.mem, MEM_STORE, logs, PLACE_LOGS_MAX * sizeof *logs);
    return e;
}

/* --- files that no manifest names --------------------------------------------------------- */

static bool is_orphan(const struct check *c, const char *name)
{
    uint32_t log, number;
    if (names_is_segment(name, &log, &number))
        return log < PLACE_LOGS_MAX && c->has_log[log] &&
               manifest_find(&c->logs[log], number) == NULL;
    return names_is_pack(name, &log, &number) && log < PLACE_LOGS_MAX && c->has_log[log] &&
           manifest_find_pack(&c->logs[log], number) == NULL;
}

/* The manifest came back from an older copy: what was written since is not in the store. */
static enum err look_at_newer(struct check *c, const char *name)
{
    uint32_t log, number;
    bool is_newer;
    if (!names_is_segment(name, &log, &number) || !is_orphan(c, name)) return ERR_OK;
    const struct recovery r = {.options = c->recovery};
    enum err e = orphans_is_newer(&r, &c->logs[log], number, &is_newer);
    if (is_stop(e)) return e;
    if (e == ERR_OK && is_newer)
        tell_file(c, CHECK_LOST, names_segment(log, number),
                  "a segment that is newer than its manifest, and not read", 0, 0);
    return ERR_OK;
}

/* Also whether there is anything of a store at all. */
static enum err look_at_names(struct check *c, bool *found)
{
    char *names = mem_alloc(c->options.mem, MEM_STORE, LIST_BYTES);
    if (names == NULL) return ERR_MEMORY;
    struct vfs_op op = {.kind = VFS_LIST, .path = "", .data = names, .bytes = LIST_BYTES};
    enum err e;
    *found = false;
    do {
        e = blocking_run(c->options.blocking, &op);
        for (uint32_t at = 0; e == ERR_OK && at < op.bytes_done;
             at += (uint32_t)strlen(names + at) + 1) {
            *found = *found || names_is_of_store(names + at);
            c->counts.orphans += is_orphan(c, names + at);
            c->counts.kept += names_is_kept(names + at);
            e = look_at_newer(c, names + at);
            op.offset++;
        }
    } while (e == ERR_OK && op.bytes_done > 0);
    mem_free(c->options.mem, MEM_STORE, names, LIST_BYTES);
    return e;
}

/* --- life --------------------------------------------------------------------------------- */

static const struct recovery_watch WATCH = {
    .copy = on_copy, .message = on_message, .is_whole = true};

enum err check_run(struct check *c, const struct check_options *o)
{
    *c = (struct check){.options = *o};
    text_init(&c->ranges, o->mem, MEM_STORE, SIZE_MAX / 4);
    text_init(&c->gaps, o->mem, MEM_STORE, SIZE_MAX / 4);
    table_init(&c->streams, o->mem, MEM_STORE);
    c->recovery =
        (struct recovery_options){.blocking = o->blocking,
                                  .mem = o->mem,
                                  .is_direct = o->is_direct,
                                  .is_read_only = true,
                                  .is_thorough = true,
                                  .replay = {.context = c, .record = on_record, .lost = on_lost},
                                  .watch = &WATCH};
    bool found;
    enum err e = read_root(c);
    for (uint32_t log = 0; e == ERR_OK && log < PLACE_LOGS_MAX; log++) e = read_manifest(c, log);
    if (e == ERR_OK) e = look_at_names(c, &found);
    if (e != ERR_OK) return e;
    if (!c->has_root && c->log_count == 0)
        return found || check_range_count(c) > 0 ? ERR_CORRUPT : ERR_UNKNOWN;
    e = read_all(c);
    locate_gaps(c);
    return e == ERR_OK && (c->ranges.is_failed || c->gaps.is_failed) ? ERR_MEMORY : e;
}

void check_close(struct check *c)
{
    uint32_t at = 0;
    struct track *t;
    while ((t = table_each(&c->streams, &at)) != NULL) {
        mem_free(c->options.mem, MEM_STORE, (char *)(uintptr_t)t->name.data, t->name.len);
        mem_free(c->options.mem, MEM_STORE, t, sizeof *t);
    }
    table_deinit(&c->streams);
    text_deinit(&c->ranges);
    text_deinit(&c->gaps);
    for (uint32_t log = 0; log < PLACE_LOGS_MAX; log++)
        if (c->has_log[log]) manifest_deinit(&c->logs[log]);
}
