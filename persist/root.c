#include "persist/root.h"
#include <xxhash.h>
#include "core/base/must.h"
#include "persist/place.h"
#include "persist/wire.h"

#define MAGIC 0x31544F4F524C494Du
enum { SEED = 0x524F4F54, CHECKED_BYTES = ROOT_BYTES - 8 };

void root_encode(const struct root *r, char *out)
{
    must(r->log_count <= PLACE_LOGS_MAX);
    memset(out, 0, ROOT_BYTES);
    wire_put_u64(out, MAGIC);
    wire_put_u32(out + 8, ROOT_VERSION);
    wire_put_u32(out + 12, r->incarnation);
    wire_put_u64(out + 16, r->store);
    wire_put_u64(out + 24, r->secret);
    wire_put_u32(out + 32, r->log_count);
    wire_put_u64(out + 40, r->generation);
    wire_put_u64(out + CHECKED_BYTES, XXH3_64bits_withSeed(out, CHECKED_BYTES, SEED));
}

enum err root_decode(const char *data, struct root *out)
{
    if (wire_u64(data) != MAGIC) return ERR_CORRUPT;
    if (wire_u64(data + CHECKED_BYTES) != XXH3_64bits_withSeed(data, CHECKED_BYTES, SEED))
        return ERR_CORRUPT;
    if (wire_u32(data + 8) != ROOT_VERSION) return ERR_UNSUPPORTED;
    struct root r = {.incarnation = wire_u32(data + 12),
                     .store = wire_u64(data + 16),
                     .secret = wire_u64(data + 24),
                     .log_count = wire_u32(data + 32),
                     .generation = wire_u64(data + 40)};
    if (r.log_count > PLACE_LOGS_MAX) return ERR_CORRUPT;
    *out = r;
    return ERR_OK;
}
