#define ZSTD_STATIC_LINKING_ONLY /* contexts in memory of the port */
#include <zstd.h>
#include "persist/pack.h"
#include "persist/record.h"
#include "persist/wire.h"

enum { FOOT_MAGIC = 0x31544650, LEVEL = 1, CHECKSUM_BYTES = 8 };
enum { AS_IT_IS = 0, ZSTD_FRAME = 1 };

/* --- compression -------------------------------------------------------------------------- */

enum err pack_zstd_init(struct pack_zstd *z, struct mem *mem, bool is_compressor)
{
    *z = (struct pack_zstd){.mem = mem};
    z->bytes = is_compressor ? ZSTD_estimateCCtxSize(LEVEL) : ZSTD_estimateDCtxSize();
    z->memory = mem_alloc(mem, MEM_STORE, z->bytes);
    if (z->memory == NULL) return ERR_MEMORY;
    z->context = is_compressor ? (void *)ZSTD_initStaticCCtx(z->memory, z->bytes)
                               : (void *)ZSTD_initStaticDCtx(z->memory, z->bytes);
    must(z->context != NULL);
    return ERR_OK;
}

void pack_zstd_deinit(struct pack_zstd *z)
{
    mem_free(z->mem, MEM_STORE, z->memory, z->bytes);
    *z = (struct pack_zstd){.mem = z->mem};
}

size_t pack_piece_room(size_t raw_bytes)
{
    return PACK_PIECE_BYTES + ZSTD_compressBound(raw_bytes);
}

/* --- pieces ------------------------------------------------------------------------------- */

static uint64_t checksum(const struct place_key *k, uint64_t offset, const char *piece,
                         uint32_t held_bytes)
{
    return place_checksum_packed(k, offset, piece + CHECKSUM_BYTES,
                                 PACK_PIECE_BYTES - CHECKSUM_BYTES + (size_t)held_bytes);
}

void pack_encode_piece(struct pack_piece *p, const struct place_key *k, uint64_t offset,
                       const char *raw, struct pack_zstd *z, char *out)
{
    char *held = out + PACK_PIECE_BYTES;
    size_t bytes = 0;
    if (z != NULL && p->raw_bytes > 0) {
        bytes = ZSTD_compressCCtx(z->context, held, ZSTD_compressBound(p->raw_bytes), raw,
                                  p->raw_bytes, LEVEL);
        /* What does not become smaller is not worth unpacking. */
        if (ZSTD_isError(bytes) || bytes > p->raw_bytes - p->raw_bytes / 16) bytes = 0;
    }
    p->is_compressed = bytes > 0;
    p->held_bytes = p->is_compressed ? (uint32_t)bytes : p->raw_bytes;
    if (!p->is_compressed && p->raw_bytes > 0) memcpy(held, raw, p->raw_bytes);
    wire_put_u32(out + 8, p->kind);
    wire_put_u32(out + 12, p->held_bytes);
    wire_put_u32(out + 16, p->raw_bytes);
    wire_put_u32(out + 20, p->is_compressed ? ZSTD_FRAME : AS_IT_IS);
    wire_put_u32(out + 24, p->at);
    wire_put_u32(out + 28, p->count);
    wire_put_u64(out, checksum(k, offset, out, p->held_bytes));
}

enum err pack_decode_piece(const char *data, size_t len, const struct place_key *k, uint64_t offset,
                           enum pack_kind kind, struct pack_piece *out)
{
    if (len < PACK_PIECE_BYTES || wire_u32(data + 8) != (uint32_t)kind) return ERR_CORRUPT;
    uint32_t held = wire_u32(data + 12), form = wire_u32(data + 20);
    if (held > len - PACK_PIECE_BYTES) return ERR_CORRUPT;
#ifndef MILLRACE_BREAK_PACK_CHECKSUM_SKIPPED
    if (wire_u64(data) != checksum(k, offset, data, held)) return ERR_CORRUPT;
#endif
    struct pack_piece p = {.kind = kind,
                           .held_bytes = held,
                           .raw_bytes = wire_u32(data + 16),
                           .is_compressed = form == ZSTD_FRAME,
                           .at = wire_u32(data + 24),
                           .count = wire_u32(data + 28)};
    if (form != ZSTD_FRAME && form != AS_IT_IS) return ERR_CORRUPT;
    if (!p.is_compressed && p.raw_bytes != held) return ERR_CORRUPT;
    *out = p;
    return ERR_OK;
}

enum err pack_unpack(const struct pack_piece *p, const char *data, struct pack_zstd *z, char *raw)
{
    const char *held = data + PACK_PIECE_BYTES;
    if (!p->is_compressed) {
        if (p->raw_bytes > 0) memcpy(raw, held, p->raw_bytes);
        return ERR_OK;
    }
    size_t bytes = ZSTD_decompressDCtx(z->context, raw, p->raw_bytes, held, p->held_bytes);
    return bytes == p->raw_bytes ? ERR_OK : ERR_CORRUPT;
}

/* --- table and directory ------------------------------------------------------------------ */

void pack_encode_table_entry(const struct pack_table_entry *e, char *out)
{
    wire_put_u64(out, e->offset);
    wire_put_u32(out + 8, (uint32_t)(e->at / PLACE_UNIT_BYTES));
    wire_put_u32(out + 12, e->raw_bytes);
    wire_put_u32(out + 16, e->piece_bytes);
    wire_put_u32(out + 20, 0);
}

void pack_decode_table_entry(const char *data, struct pack_table_entry *out)
{
    *out = (struct pack_table_entry){.offset = wire_u64(data),
                                     .at = (uint64_t)wire_u32(data + 8) * PLACE_UNIT_BYTES,
                                     .raw_bytes = wire_u32(data + 12),
                                     .piece_bytes = wire_u32(data + 16)};
}

void pack_encode_directory_entry(const struct pack_directory_entry *e, char *out)
{
    wire_put_u64(out, e->stream);
    wire_put_u64(out + 8, e->seq_first);
    wire_put_u64(out + 16, e->seq_last);
    wire_put_u64(out + 24, (uint64_t)e->time_first);
    wire_put_u64(out + 32, (uint64_t)e->time_last);
    wire_put_u64(out + 40, e->offset);
    wire_put_u32(out + 48, e->piece_bytes);
    wire_put_u32(out + 52, e->raw_bytes);
    wire_put_u32(out + 56, e->count);
    wire_put_u32(out + 60, (uint32_t)(e->at / PLACE_UNIT_BYTES));
}

void pack_decode_directory_entry(const char *data, struct pack_directory_entry *out)
{
    *out = (struct pack_directory_entry){.stream = wire_u64(data),
                                         .seq_first = wire_u64(data + 8),
                                         .seq_last = wire_u64(data + 16),
                                         .time_first = (int64_t)wire_u64(data + 24),
                                         .time_last = (int64_t)wire_u64(data + 32),
                                         .offset = wire_u64(data + 40),
                                         .piece_bytes = wire_u32(data + 48),
                                         .raw_bytes = wire_u32(data + 52),
                                         .count = wire_u32(data + 56),
                                         .at = (uint64_t)wire_u32(data + 60) * PLACE_UNIT_BYTES};
}

/* --- feet --------------------------------------------------------------------------------- */

void pack_encode_foot(const struct pack_foot *f, const struct place_key *k, uint64_t offset,
                      char *out)
{
    memset(out, 0, PACK_FOOT_BYTES);
    wire_put_u32(out + 8, FOOT_MAGIC);
    wire_put_u32(out + 12, PACK_VERSION);
    wire_put_u32(out + 16, k->log);
    wire_put_u32(out + 20, k->segment);
    wire_put_u32(out + 24, k->incarnation);
    wire_put_u32(out + 28, f->block_count);
    wire_put_u32(out + 32, f->index_count);
    wire_put_u64(out + 40, f->table_offset);
    wire_put_u64(out + 48, f->directory_offset);
    wire_put_u64(out + 56, f->message_count);
    wire_put_u64(out + 64, f->record_bytes);
    wire_put_u64(out + 72, f->file_bytes);
    wire_put_u64(out, place_checksum_packed(k, offset, out + CHECKSUM_BYTES,
                                            PACK_FOOT_BYTES - CHECKSUM_BYTES));
}

enum err pack_decode_foot(const char *data, const struct place_key *k, uint64_t offset,
                          struct pack_foot *out)
{
    if (wire_u32(data + 8) != FOOT_MAGIC) return ERR_CORRUPT;
    if (wire_u64(data) !=
        place_checksum_packed(k, offset, data + CHECKSUM_BYTES, PACK_FOOT_BYTES - CHECKSUM_BYTES))
        return ERR_CORRUPT;
    if (wire_u32(data + 12) != PACK_VERSION) return ERR_UNSUPPORTED;
    struct pack_foot f = {.block_count = wire_u32(data + 28),
                          .index_count = wire_u32(data + 32),
                          .table_offset = wire_u64(data + 40),
                          .directory_offset = wire_u64(data + 48),
                          .message_count = wire_u64(data + 56),
                          .record_bytes = wire_u64(data + 64),
                          .file_bytes = wire_u64(data + 72)};
    if (f.file_bytes < offset + PACK_FOOT_BYTES || f.table_offset >= offset ||
        f.directory_offset >= offset)
        return ERR_CORRUPT;
    *out = f;
    return ERR_OK;
}

/* --- records ------------------------------------------------------------------------------ */

uint32_t pack_record_bytes(const struct record *r)
{
    uint64_t sum = RECORD_HEAD_BYTES + (uint64_t)r->subject.len + r->headers.len + r->body.len;
    return (uint32_t)((sum + PLACE_UNIT_BYTES - 1) / PLACE_UNIT_BYTES * PLACE_UNIT_BYTES);
}

void pack_encode_record(const struct record *r, char *out)
{
    uint32_t bytes = pack_record_bytes(r);
    memset(out + bytes - PLACE_UNIT_BYTES, 0, PLACE_UNIT_BYTES);
    record_encode_parts(r, bytes, out);
}

enum err pack_decode_record(const char *data, size_t len, struct record *out, uint32_t *bytes)
{
    if (len < RECORD_HEAD_BYTES) return ERR_CORRUPT;
    uint8_t kind = (uint8_t)data[4];
    uint64_t sum = RECORD_HEAD_BYTES + (uint64_t)wire_u16(data + 6) + wire_u32(data + 40) +
                   wire_u32(data + 44);
    uint32_t length = wire_u32(data);
    sum = (sum + PLACE_UNIT_BYTES - 1) / PLACE_UNIT_BYTES * PLACE_UNIT_BYTES;
    if (length != sum || length > len) return ERR_CORRUPT;
    if (kind == RECORD_NONE || kind >= RECORD_KIND_COUNT) return ERR_CORRUPT;
    record_decode_parts(data, out);
    *bytes = length;
    return ERR_OK;
}
