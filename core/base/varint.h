/* Numbers of one to ten bytes, seven bits each, the lowest first, for the bodies of records; signed
 * ones folded (0, -1, 1, -2, ...), so that small ones stay short. */
#ifndef CORE_BASE_VARINT_H
#define CORE_BASE_VARINT_H
#include "core/base/text.h"

void varint_put(struct text *out, uint64_t value);
void varint_put_signed(struct text *out, int64_t value);
/* The length, then the bytes. */
void varint_put_bytes(struct text *out, struct bytes b);

/* Each takes from the front of rest. False: there is none, or it is no number. */
NODISCARD bool varint_get(struct bytes *rest, uint64_t *value);
NODISCARD bool varint_get_signed(struct bytes *rest, int64_t *value);
NODISCARD bool varint_get_bytes(struct bytes *rest, struct bytes *b);

#endif
