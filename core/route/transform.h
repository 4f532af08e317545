/* Subject transforms: subjects that match a source filter become others, as in "orders.*.*" to
 * "orders.$2.{{partition(10,1)}}". Compiled once, with the error texts of nats-server, and
 * applied without memory. Immutable, so every shard may use it.
 * Rules of spec: NATS protocol, accounts and mappings (1.9). */
#ifndef CORE_ROUTE_TRANSFORM_H
#define CORE_ROUTE_TRANSFORM_H
#include "core/base/bytes.h"
#include "core/base/mem.h"
#include "core/base/rng.h"

enum {
    TRANSFORM_SUBJECT_BYTES_MAX = 4096, /* of a source */
    TRANSFORM_DESTINATION_BYTES_MAX = 4 * TRANSFORM_SUBJECT_BYTES_MAX, /* a * may become $1234 */
    TRANSFORM_WHY_BYTES_MAX = TRANSFORM_DESTINATION_BYTES_MAX + 256, /* room for any text of why */
};

struct transform;

enum transform_use {
    TRANSFORM_PLAIN,
    TRANSFORM_IMPORT, /* only wildcard functions, all of them used: it can be reversed */
};

/* source: a filter, empty for ">". destination: tokens, $1 or {{function(...)}}.
 * An empty destination is no transform: *out is NULL.
 * ERR_INVALID: why (may be NULL) holds the text; nothing allocated. ERR_MEMORY. */
NODISCARD enum err transform_compile(struct mem *mem, struct bytes source, struct bytes destination,
                                     enum transform_use use, struct writer *why,
                                     struct transform **out);
/* The stricter check of configuration files and streams, which looks at the characters of the
 * destination too. Errors as above. */
NODISCARD enum err transform_check(struct mem *mem, struct bytes source, struct bytes destination,
                                   struct writer *why);
/* t may be NULL. */
void transform_free(struct mem *mem, struct transform *t);
struct bytes transform_source(const struct transform *t);
struct bytes transform_destination(const struct transform *t);

/* Does the source match? ERR_INVALID: subject has an empty token or a wildcard. ERR_UNKNOWN: no. */
NODISCARD enum err transform_match(const struct transform *t, struct bytes subject);
/* Writes what subject becomes; the source matches it. ERR_TOO_LONG: it does not fit. */
NODISCARD enum err transform_apply(const struct transform *t, struct bytes subject, struct rng *rng,
                                   struct writer *out);
/* The same; is_key_empty: {{partition(n)}} hashes nothing instead of the subject, see mapping. */
NODISCARD enum err transform_apply_with_key(const struct transform *t, struct bytes subject,
                                            bool is_key_empty, struct rng *rng,
                                            struct writer *out);
/* The way back of a TRANSFORM_IMPORT. ERR_INVALID: there is none. ERR_MEMORY. */
NODISCARD enum err transform_reverse(struct mem *mem, const struct transform *t,
                                     struct transform **out);
/* "foo.*.*" to "foo.$1.$2": the destination that leaves subjects as they are. */
void transform_write_markers(struct bytes filter, struct writer *out);

#endif
