#include "persist/pack_source.h"
#include "persist/names.h"

static enum err make_room(struct mem *mem, char **data, size_t *room, size_t bytes)
{
    if (bytes <= *room) return ERR_OK;
    mem_free(mem, MEM_STORE, *data, *room);
    *room = 0;
    *data = mem_alloc(mem, MEM_STORE, bytes);
    if (*data == NULL) return ERR_MEMORY;
    *room = bytes;
    return ERR_OK;
}

/* Into s->piece. */
static enum err read_at(struct pack_source *s, uint64_t offset, uint32_t bytes)
{
    if (offset > s->size || bytes > s->size - offset) return ERR_CORRUPT;
    enum err e = make_room(s->mem, &s->piece, &s->piece_room, bytes);
    if (e != ERR_OK) return e;
    struct vfs_op op = {
        .kind = VFS_READ, .file = s->file, .data = s->piece, .bytes = bytes, .offset = offset};
    e = blocking_run(s->files, &op);
    return e == ERR_OK && op.bytes_done < bytes ? ERR_CORRUPT : e;
}

static enum err read_table(struct pack_source *s, uint32_t copy)
{
    uint64_t offset;
    uint32_t bytes;
    enum err e =
        read_at(s, s->size - (uint64_t)PACK_FEET * PACK_FOOT_BYTES, PACK_FEET * PACK_FOOT_BYTES);
    if (e == ERR_OK) e = pack_table_locate(s->piece, &s->key, s->size, copy, &offset, &bytes);
    if (e == ERR_OK) e = read_at(s, offset, bytes);
    return e == ERR_OK ? pack_table_take(&s->table, s->mem, s->piece, bytes, &s->key, offset) : e;
}

enum err pack_source_open(struct pack_source *s, const struct blocking *files, struct mem *mem,
                          uint32_t log, uint64_t secret, const struct manifest_pack *p)
{
    *s = (struct pack_source){
        .files = files,
        .mem = mem,
        .key = {.secret = secret, .log = log, .segment = p->number, .incarnation = p->incarnation},
        .size = p->size};
    struct names_text name = names_pack(log, p->number);
    struct vfs_op op = {.kind = VFS_OPEN, .path = name.text, .flags = VFS_READ_ONLY};
    enum err e = blocking_run(files, &op);
    if (e != ERR_OK) return e;
    s->file = op.file;
    s->is_open = true;
    if (s->size < (uint64_t)PACK_FEET * PACK_FOOT_BYTES) return ERR_CORRUPT;
    e = read_table(s, PACK_FEET - 1);
    return e == ERR_CORRUPT ? read_table(s, 0) : e;
}

void pack_source_close(struct pack_source *s)
{
    if (s->mem == NULL) return;
    struct vfs_op op = {.kind = VFS_CLOSE, .file = s->file};
    if (s->is_open) (void)!blocking_run(s->files, &op); /* it was only read */
    pack_table_free(&s->table, s->mem);
    mem_free(s->mem, MEM_STORE, s->piece, s->piece_room);
    mem_free(s->mem, MEM_STORE, s->raw, s->raw_room);
    *s = (struct pack_source){0};
}

static enum err load_block(struct pack_source *s, struct pack_zstd *z,
                           const struct pack_table_entry *t)
{
    struct pack_piece p;
    s->held = NULL;
    enum err e = read_at(s, t->offset, t->piece_bytes);
    if (e == ERR_OK)
        e = pack_decode_piece(s->piece, t->piece_bytes, &s->key, t->offset, PACK_BLOCK, &p);
    if (e == ERR_OK && p.raw_bytes != t->raw_bytes) return ERR_CORRUPT;
    if (e == ERR_OK) e = make_room(s->mem, &s->raw, &s->raw_room, p.raw_bytes);
    if (e == ERR_OK) e = pack_unpack(&p, s->piece, z, s->raw);
    if (e == ERR_OK) s->held = t;
    return e;
}

enum err pack_source_record(struct pack_source *s, struct pack_zstd *z, uint64_t at,
                            struct record *out)
{
    const struct pack_table_entry *t = pack_table_find(&s->table, at);
    uint32_t bytes;
    if (t == NULL) return ERR_CORRUPT;
    if (t != s->held) {
        enum err e = load_block(s, z, t);
        if (e != ERR_OK) return e;
    }
    return pack_decode_record(s->raw + (at - t->at), t->raw_bytes - (at - t->at), out, &bytes);
}
