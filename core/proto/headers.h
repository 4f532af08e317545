/* The header block of a message: "NATS/1.0[ status[ description]]\r\n", "Key: Value\r\n"...,
 * "\r\n". The server does not validate what clients send; look-ups are case-sensitive and the first
 * match wins, as in nats-server. Hostile input: nothing is asserted about it. */
#ifndef CORE_PROTO_HEADERS_H
#define CORE_PROTO_HEADERS_H
#include "core/base/bytes.h"

/* The value of key, without spaces before it (those behind it count, as there); false when there is
 * none. */
bool headers_find(struct bytes block, struct bytes key, struct bytes *value);

#endif
