/* Little-endian numbers at any address: how every format of persist reads and writes its fields. */
#ifndef PERSIST_WIRE_H
#define PERSIST_WIRE_H
#include <stdint.h>
#include <string.h>

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the formats are little-endian");

static inline uint64_t wire_u64(const char *p)
{
    uint64_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline uint32_t wire_u32(const char *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline uint16_t wire_u16(const char *p)
{
    uint16_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void wire_put_u64(char *p, uint64_t v)
{
    memcpy(p, &v, sizeof v);
}

static inline void wire_put_u32(char *p, uint32_t v)
{
    memcpy(p, &v, sizeof v);
}

static inline void wire_put_u16(char *p, uint16_t v)
{
    memcpy(p, &v, sizeof v);
}

#endif
