/* Pack files that somebody wrote with the store's own secret: pieces, the columns of an index,
 * table, directory and feet. The first byte picks one of them or a whole file, whose checksums are
 * mended then. Nothing is read outside of the input, what unpacks has the length it says, and a
 * file is read to its end with every message inside of what the pack may hold. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/must.h"
#include "persist/pack.h"
#include "persist/pack_file.h"
#include "persist/pack_index.h"
#include "persist/pack_table.h"
#include "persist/wire.h"
#include "tests/support/mem_heap.h"
#include "tests/support/vfs_bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { FILE_BYTES_MAX = 1 << 16, RAW_BYTES_MAX = 1 << 20 };

static const struct place_key KEY = {
    .secret = 0x1234567812345678, .log = 0, .segment = 1, .incarnation = 1};

static bool lies_in(struct bytes part, const char *data, size_t len)
{
    return part.len == 0 || (part.data >= data && part.data + part.len <= data + len);
}

static void try_records(const char *data, size_t len)
{
    for (size_t at = 0; at < len;) {
        struct record r;
        uint32_t bytes;
        if (pack_decode_record(data + at, len - at, &r, &bytes) != ERR_OK) return;
        must(bytes > 0);
        must(bytes <= len - at);
        must(lies_in(r.subject, data + at, bytes));
        must(lies_in(r.headers, data + at, bytes));
        must(lies_in(r.body, data + at, bytes));
        must(pack_record_bytes(&r) == bytes);
        at += bytes;
    }
}

static void try_index(const char *data, size_t len)
{
    struct pack_index_reader r;
    struct pack_index_message m;
    uint32_t *subject_at = malloc(PACK_INDEX_MESSAGES_MAX * sizeof *subject_at), count = 0;
    must(subject_at != NULL);
    if (pack_index_open(&r, data, len, subject_at) == ERR_OK) {
        while (pack_index_next(&r, &m)) {
            must(lies_in(m.subject, data, len));
            must(m.at < PACK_RECORDS_BYTES_MAX);
            must(++count <= PACK_INDEX_MESSAGES_MAX);
        }
        must(count == r.count);
    }
    free(subject_at);
}

static void mend_piece(char *data, size_t len, uint64_t offset)
{
    if (len < PACK_PIECE_BYTES) return;
    uint64_t bytes = PACK_PIECE_BYTES + (uint64_t)wire_u32(data + 12);
    if (bytes > len) return;
    wire_put_u64(data, place_checksum_packed(&KEY, offset, data + 8, bytes - 8));
}

static void try_piece(const char *data, size_t len)
{
    struct mem_heap heap;
    struct pack_zstd z;
    struct pack_piece p;
    mem_heap_init(&heap);
    must(pack_zstd_init(&z, &heap.mem, false) == ERR_OK);
    enum pack_kind kind = len < PACK_PIECE_BYTES ? PACK_BLOCK : (enum pack_kind)wire_u32(data + 8);
    if (pack_decode_piece(data, len, &KEY, 0, kind, &p) == ERR_OK && p.raw_bytes <= RAW_BYTES_MAX) {
        char *raw = malloc(p.raw_bytes + 1);
        must(raw != NULL);
        if (pack_unpack(&p, data, &z, raw) == ERR_OK) {
            if (kind == PACK_INDEX)
                try_index(raw, p.raw_bytes);
            else
                try_records(raw, p.raw_bytes);
        }
        free(raw);
    }
    pack_zstd_deinit(&z);
    must(heap.live_count == 0);
}

/* Every piece that begins where one may, both feet, and what these name. */
static void mend_file(char *data, size_t len)
{
    size_t feet = (size_t)PACK_FEET * PACK_FOOT_BYTES;
    for (size_t at = 0; at + PACK_PIECE_BYTES <= len; at += PLACE_UNIT_BYTES) {
        uint32_t kind = wire_u32(data + at + 8);
        if (kind == PACK_BLOCK || kind == PACK_INDEX || kind == PACK_TABLE ||
            kind == PACK_DIRECTORY)
            mend_piece(data + at, len - at, at);
    }
    if (len < feet) return;
    for (size_t at = len - feet; at < len; at += PACK_FOOT_BYTES)
        wire_put_u64(data + at,
                     place_checksum_packed(&KEY, at, data + at + 8, PACK_FOOT_BYTES - 8));
}

struct sums {
    uint64_t file_bytes, records;
};

static enum err on_record(void *context, const struct record *r, const struct store_stub *stub)
{
    struct sums *s = context;
    must(r->kind == RECORD_MESSAGE);
    must(place_is_packed(stub->place));
    must(place_segment(stub->place) == KEY.segment);
    s->records++;
    return ERR_OK;
}

static void on_lost(void *context, const struct store_lost *lost)
{
    const struct sums *s = context;
    must(lost->is_packed);
    (void)s;
}

static void try_file(const char *data, size_t len)
{
    struct mem_heap heap;
    struct vfs_bytes files;
    struct manifest m;
    struct recovery_counts counts = {0};
    struct text directory;
    struct sums sums = {.file_bytes = len};
    mem_heap_init(&heap);
    vfs_bytes_init(&files);
    vfs_bytes_add(&files, "0000-00000001.pack", data, len);
    manifest_init(&m, &heap.mem, 0, 7, KEY.secret);
    m.next_segment = 2;
    struct manifest_pack p = {
        .number = 1, .incarnation = 1, .size = len, .message_count = 1, .record_bytes = len};
    must(manifest_add_pack(&m, &p) == ERR_OK);
    struct recovery_options o = {
        .blocking = &files.blocking,
        .mem = &heap.mem,
        .is_read_only = true,
        .is_thorough = true,
        .replay = {.context = &sums, .record = on_record, .lost = on_lost}};
    for (int check = 0; check < 2; check++) {
        enum err e = pack_file_read(&o, &m, &m.packs[0], check != 0, &counts);
        must(e == ERR_OK || e == ERR_UNSUPPORTED);
    }
    text_init(&directory, &heap.mem, MEM_STORE, 1 << 20);
    (void)!pack_file_directory(&o, &m, &m.packs[0], &directory);
    text_deinit(&directory);
    for (uint32_t copy = 0; len >= (size_t)PACK_FEET * PACK_FOOT_BYTES && copy < PACK_FEET;
         copy++) {
        struct pack_table t = {0};
        uint64_t offset;
        uint32_t bytes;
        const char *feet = data + (len - (size_t)PACK_FEET * PACK_FOOT_BYTES);
        if (pack_table_locate(feet, &KEY, len, copy, &offset, &bytes) != ERR_OK) continue;
        must(offset + bytes <= len);
        if (pack_table_take(&t, &heap.mem, data + offset, bytes, &KEY, offset) != ERR_OK) continue;
        (void)pack_table_find(&t, 0);
        (void)pack_table_find(&t, UINT64_MAX);
        pack_table_free(&t, &heap.mem);
    }
    manifest_deinit(&m);
    must(heap.live_count == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0 || size - 1 > FILE_BYTES_MAX) return 0;
    size_t len = size - 1;
    char *copy = malloc(len == 0 ? 1 : len);
    must(copy != NULL);
    if (len > 0) memcpy(copy, data + 1, len);
    switch (data[0] % 4) {
    case 0: try_index(copy, len); break;
    case 1: try_records(copy, len); break;
    case 2:
        mend_piece(copy, len, 0);
        try_piece(copy, len);
        break;
    default:
        /* A whole file is a multiple of 4096: the rest of the last block is the front's. */
        if (len >= PLACE_BLOCK_BYTES) {
            len = len / PLACE_BLOCK_BYTES * PLACE_BLOCK_BYTES;
            mend_file(copy, len);
            try_file(copy, len);
        }
    }
    free(copy);
    return 0;
}
