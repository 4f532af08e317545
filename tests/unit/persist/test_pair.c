#include <criterion/criterion.h>
#include "persist/pair.h"
#include "persist/place.h"

/* A disk whose operations end one after the other; it may have no room to give. */
struct rig {
    struct vfs vfs; /* first */
    struct vfs_op *flying;
    struct pair pair;
    bool is_full;
    uint64_t reserved[2]; /* of each copy */
    int asked;
    char data[4 * PLACE_BLOCK_BYTES];
};

static enum err submit(struct vfs *v, struct vfs_op *op)
{
    struct rig *r = (struct rig *)(void *)v;
    cr_assert_null(r->flying);
    r->flying = op;
    return ERR_OK;
}

static const struct vfs_ops ops = {submit, NULL};

static void open_rig(struct rig *r)
{
    *r = (struct rig){.vfs = {&ops}};
    pair_init(&r->pair, &r->vfs, names_manifest(0, 0), names_manifest(0, 1), 0);
    r->pair.reserve_bytes = 2 * PLACE_BLOCK_BYTES;
}

static void write_blocks(struct rig *r, uint32_t count)
{
    cr_assert_eq(pair_write(&r->pair, r->data, count * PLACE_BLOCK_BYTES), ERR_OK);
    while (r->flying != NULL) {
        struct vfs_op *op = r->flying;
        r->flying = NULL;
        op->result = ERR_OK;
        if (op->kind == VFS_ALLOCATE) {
            if (r->is_full)
                op->result = ERR_NO_SPACE;
            else
                r->reserved[r->asked % 2] = op->size;
            r->asked++;
        }
        op->done(op);
    }
    cr_assert_eq(r->pair.state, PAIR_IDLE);
}

Test(pair, room_that_a_full_disk_refused_is_asked_for_again)
{
    struct rig r;
    open_rig(&r);
    r.is_full = true;
    write_blocks(&r, 1);
    cr_assert_eq(r.asked, 1);
    r.is_full = false;
    r.asked = 0;
    write_blocks(&r, 1);
    cr_assert_eq(r.asked, 2);
    cr_assert_eq(r.reserved[0], 2 * PLACE_BLOCK_BYTES);
    cr_assert_eq(r.reserved[1], 2 * PLACE_BLOCK_BYTES);
    write_blocks(&r, 1);
    cr_assert_eq(r.asked, 2, "it is there");
}

Test(pair, room_grows_when_more_than_half_of_it_is_used)
{
    struct rig r;
    open_rig(&r);
    write_blocks(&r, 1);
    write_blocks(&r, 2);
    cr_assert_eq(r.asked, 4);
    cr_assert_eq(r.reserved[1], 4 * PLACE_BLOCK_BYTES);
    write_blocks(&r, 2);
    cr_assert_eq(r.asked, 4);
}
