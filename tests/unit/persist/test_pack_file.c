#include <criterion/criterion.h>
#include "core/base/must.h"
#include "persist/pack_file.h"
#include "tests/support/mem_heap.h"
#include "tests/support/vfs_bytes.h"

static struct mem_heap heap;
static struct vfs_bytes files;

static void setup(void)
{
    mem_heap_init(&heap);
    vfs_bytes_init(&files);
}

static void teardown(void)
{
    must(heap.live_count == 0);
}

TestSuite(pack_file, .init = setup, .fini = teardown);

static void begin(struct pack_warm *w, uint32_t number)
{
    struct recovery_options o = {.blocking = &files.blocking, .mem = &heap.mem};
    struct manifest m = {.log = 0};
    struct manifest_pack p = {.number = number, .size = 5000};
    pack_file_warm_begin(w, &o, &m, &p);
}

/* The end of the next pack is on its way while somebody works; one that is not there, or cannot be
 * read, is told when it is its turn. */
Test(pack_file, what_is_read_ahead_fails_nobody)
{
    static char bytes[5000];
    struct pack_warm w;
    vfs_bytes_add(&files, "0000-00000001.pack", bytes, sizeof bytes);
    begin(&w, 1);
    cr_assert_eq(files.flying_count, 1);
    cr_assert_eq(pack_file_warm_end(&w, &files.blocking), ERR_OK);
    cr_assert_eq(files.flying_count, 0);
    begin(&w, 2);
    cr_assert_eq(files.flying_count, 0);
    cr_assert_eq(pack_file_warm_end(&w, &files.blocking), ERR_OK);
    files.fail_bytes = sizeof bytes;
    begin(&w, 1);
    cr_assert_eq(pack_file_warm_end(&w, &files.blocking), ERR_OK);
}
