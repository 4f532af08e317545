/* Names in client certificates: distinguished names (RFC 4514 text) parsed and compared.
 * Two names are the same if they have the same relative names, each the same set of attributes;
 * types compare without case, values byte by byte after unescaping. Foreign bytes. */
#ifndef CORE_AUTH_TLSNAME_H
#define CORE_AUTH_TLSNAME_H
#include <stdbool.h>
#include "core/base/bytes.h"

enum { TLSNAME_ATTRIBUTES_MAX = 64, TLSNAME_BYTES_MAX = 4096 };

struct tlsname_attribute {
    struct bytes type, value; /* into room */
    uint32_t rdn;             /* index of its relative name */
};

struct tlsname {
    struct tlsname_attribute attributes[TLSNAME_ATTRIBUTES_MAX];
    uint32_t attribute_count;
    uint32_t rdn_count;
    char room[TLSNAME_BYTES_MAX];
};

/* ERR_SYNTAX: no distinguished name. ERR_TOO_LONG: beyond the limits above. */
NODISCARD enum err tlsname_parse(struct bytes text, struct tlsname *out);
/* Same relative names in the same order. */
bool tlsname_equal(const struct tlsname *a, const struct tlsname *b);
/* In any order; each relative name of one is paired with its own of the other. */
bool tlsname_equal_unordered(const struct tlsname *a, const struct tlsname *b);

#endif
