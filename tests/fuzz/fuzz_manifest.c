/* Roots and manifests that somebody wrote with right checksums: what decodes is encoded to the same
 * and decodes again, and a store that begins with them is opened for reading, or refused; with no
 * failed assertion, and nothing written. The input: a byte of flags, a root, a manifest, and what
 * stands for each file that the manifest may name. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include "core/base/must.h"
#include "persist/manifest.h"
#include "persist/place.h"
#include "persist/recovery.h"
#include "persist/wire.h"
#include "tests/support/mem_heap.h"
#include "tests/support/vfs_bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    MENDS = 1,
    FILE_BYTES = 128 * 1024,
    ENTRIES_MAX = 61,
    ROOT_SEED = 0x524F4F54,
    MANIFEST_SEED = 0x4D414E49,
    LOG = 0
};

static void mend_root(char *root)
{
    wire_put_u64(root + ROOT_BYTES - 8, XXH3_64bits_withSeed(root, ROOT_BYTES - 8, ROOT_SEED));
}

/* Files of 64 MiB that are not there would be looked through every 8 bytes. */
static void shrink_files(char *manifest)
{
    for (int i = 0; i < ENTRIES_MAX; i++) {
        char *entry = manifest + MANIFEST_HEAD_BYTES + (size_t)i * MANIFEST_ENTRY_BYTES;
        wire_put_u64(entry + 16, wire_u64(entry + 16) % FILE_BYTES);
        if (wire_u32(entry) == 1) wire_put_u64(entry + 24, wire_u64(entry + 24) % FILE_BYTES);
    }
}

static void mend_manifest(char *data, size_t size)
{
    uint32_t bytes = wire_u32(data + 60);
    if (bytes < PLACE_BLOCK_BYTES || bytes > size) return;
    wire_put_u64(data + bytes - 8, XXH3_64bits_withSeed(data, bytes - 8, MANIFEST_SEED ^ LOG));
}

static void try_root(const char *data)
{
    struct root root, again;
    char out[ROOT_BYTES];
    if (root_decode(data, &root) != ERR_OK) return;
    root_encode(&root, out);
    must(root_decode(out, &again) == ERR_OK);
    must(root.incarnation == again.incarnation);
    must(root.store == again.store);
    must(root.secret == again.secret);
    must(root.log_count == again.log_count);
    must(root.generation == again.generation);
}

static void try_manifest(const char *data, size_t size)
{
    struct mem_heap heap;
    struct manifest m, again;
    mem_heap_init(&heap);
    if (manifest_decode(data, size, LOG, &heap.mem, &m) == ERR_OK) {
        size_t bytes = manifest_bytes(&m);
        char *out = malloc(bytes);
        must(out != NULL);
        manifest_encode(&m, out);
        must(manifest_decode(out, bytes, LOG, &heap.mem, &again) == ERR_OK);
        must(again.count == m.count);
        must(again.pack_count == m.pack_count);
        must(again.durable_group == m.durable_group);
        must(again.replay_segment == m.replay_segment);
        manifest_deinit(&again);
        manifest_deinit(&m);
        free(out);
    }
    must(heap.live_count == 0);
}

static enum err on_record(void *context, const struct record *r, const struct store_stub *stub)
{
    ++*(uint64_t *)context;
    must(r->kind > RECORD_NONE);
    must(r->kind < RECORD_KIND_COUNT);
    must(stub->place != 0 || r->kind == RECORD_CHECKPOINT);
    return ERR_OK;
}

static void try_store(const char *root, const char *manifest, size_t bytes, const char *rest,
                      size_t rest_bytes)
{
    struct mem_heap heap;
    struct vfs_bytes files;
    struct recovery r;
    uint64_t records = 0;
    mem_heap_init(&heap);
    vfs_bytes_init(&files);
    vfs_bytes_add(&files, "root-0", root, ROOT_BYTES);
    vfs_bytes_add(&files, "0000-manifest-1", manifest, bytes);
    vfs_bytes_add(&files, "0000-00000001.log", rest, rest_bytes);
    vfs_bytes_add(&files, "0000-00000001.pack", rest, rest_bytes);
    vfs_bytes_add(&files, "0000-00000002.log", rest, rest_bytes);
    struct recovery_options o = {.blocking = &files.blocking,
                                 .mem = &heap.mem,
                                 .is_read_only = true,
                                 .is_thorough = true,
                                 .replay = {.context = &records, .record = on_record}};
    if (recovery_open(&r, &o) == ERR_OK) recovery_close(&r);
    must(files.write_count == 0);
    must(heap.live_count == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { FIXED = 1 + 48 };
    if (size < FIXED) return 0;
    size_t len = size - FIXED, bytes = len < PLACE_BLOCK_BYTES ? len : PLACE_BLOCK_BYTES;
    if (len > (1 << 16)) return 0;
    char *root = calloc(1, ROOT_BYTES), *manifest = calloc(1, PLACE_BLOCK_BYTES);
    must(root != NULL);
    must(manifest != NULL);
    memcpy(root, data + 1, FIXED - 1);
    if (bytes > 0) memcpy(manifest, data + FIXED, bytes);
    if ((data[0] & MENDS) != 0) {
        mend_root(root);
        shrink_files(manifest);
        mend_manifest(manifest, PLACE_BLOCK_BYTES);
    }
    try_root(root);
    try_manifest(manifest, PLACE_BLOCK_BYTES);
    try_store(root, manifest, PLACE_BLOCK_BYTES, (const char *)data + FIXED + bytes, len - bytes);
    free(root);
    free(manifest);
    return 0;
}
