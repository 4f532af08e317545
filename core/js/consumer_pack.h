/* The configuration of a consumer as a consumer keeps it in memory. Packed, a setting that is not
 * set takes nothing:
 *
 *   field number, value  (ascending; integers as varints, texts and lists behind their length)
 *
 * Field numbers are places in consumer_config_type, one more is is_nameless. Equal configurations
 * have equal packed bytes. The packed form never leaves the process. */
#ifndef CORE_JS_CONSUMER_PACK_H
#define CORE_JS_CONSUMER_PACK_H
#include "core/js/consumer_config.h"

/* Bytes that the packed form takes. */
size_t consumer_pack_bytes(const struct consumer_config *c);
/* Into out, which has room for them. */
void consumer_pack(const struct consumer_config *c, char *out);
/* c borrows from packed and, for its lists, from the arena. ERR_MEMORY. */
NODISCARD enum err consumer_pack_read(struct arena *arena, struct bytes packed,
                                      struct consumer_config *c);

#endif
