/* Transforms: source, destination and subject, one a line. What compiles must apply to any subject
 * that matches, and the reverse of an import must lead back. */
#include <stdint.h>
#include <stdlib.h>
#include "core/base/must.h"
#include "core/route/mapping.h"
#include "core/route/subject.h"
#include "tests/support/mem_heap.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct bytes line(struct bytes *rest)
{
    size_t end = bytes_find(*rest, '\n');
    struct bytes first = bytes_of(rest->data, end);
    size_t skip = end < rest->len ? end + 1 : end;
    *rest = bytes_of(rest->data + skip, rest->len - skip);
    return first;
}

static void check_reverse(struct mem *mem, const struct transform *t, struct bytes subject,
                          struct rng *rng)
{
    struct transform *back;
    char there[8192], here[8192];
    struct writer to, from;
    if (transform_reverse(mem, t, &back) != ERR_OK) return;
    writer_init(&to, there, sizeof there);
    writer_init(&from, here, sizeof here);
    if (transform_apply(t, subject, rng, &to) == ERR_OK &&
        transform_match(back, writer_written(&to)) == ERR_OK &&
        transform_apply(back, writer_written(&to), rng, &from) == ERR_OK)
        must(bytes_equal(writer_written(&from), subject));
    transform_free(mem, back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mem_heap heap;
    struct rng rng;
    struct bytes rest = bytes_of((const char *)data, size), out;
    struct bytes source = line(&rest), destination = line(&rest), subject = line(&rest);
    char why_room[TRANSFORM_WHY_BYTES_MAX], room[8192];
    struct writer why, w;
    struct transform *t = NULL;
    struct mapping_set *set;
    mem_heap_init(&heap);
    rng_init(&rng, size);
    for (int use = TRANSFORM_PLAIN; use <= TRANSFORM_IMPORT; use++) {
        writer_init(&why, why_room, sizeof why_room);
        enum err e =
            transform_compile(&heap.mem, source, destination, (enum transform_use)use, &why, &t);
        must(e == ERR_OK || (e == ERR_INVALID && why.len > 0));
        if (e != ERR_OK || t == NULL) continue;
        writer_init(&w, room, sizeof room);
        if (transform_match(t, subject) == ERR_OK) {
            must(transform_apply(t, subject, &rng, &w) == ERR_OK || w.is_full);
            /* Every wildcard is used, so the way back is unique. */
            if (use == TRANSFORM_IMPORT) check_reverse(&heap.mem, t, subject, &rng);
        }
        transform_free(&heap.mem, t);
    }
    must(mapping_set_open(&heap.mem, bytes_of(NULL, 0), &set) == ERR_OK);
    struct mapping_destination d = {destination, size % 101, bytes_of(NULL, 0)};
    if (mapping_set_add(set, source, &d, 1, NULL) == ERR_OK && subject.len > 0)
        (void)mapping_set_apply(set, subject, &rng, room, sizeof room, &out);
    mapping_set_free(&heap.mem, set);
    must(heap.live_count == 0);
    return 0;
}
