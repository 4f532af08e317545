/* Child tables of the interest index: from a token's hash to a node. Readers take no lock.
 * Private to core/route/interest*.
 *
 * Extendible hashing, so that a table of a million children never has to be copied whole:
 *
 *   table word ──► segment                       a small table: one array of slots
 *   table word ──► directory [2^depth] ──► segments
 *
 * The top bits of the hash pick the directory entry, the low 16 bits the slot where probing
 * starts. A slot is one atomic word: reference of the node above, its 32-bit hash below. Slots
 * never move inside a segment. A segment that is full, or too empty, is replaced as a whole: the
 * new one is filled first, published by one store per directory entry, and the old one retired.
 * A removed slot becomes a tombstone, or free again when nothing follows it.
 *
 * A reader that probes while the writer works finds every child that was there all along, and may
 * or may not see the one that comes or goes. */
#ifndef CORE_ROUTE_INTEREST_TABLE_H
#define CORE_ROUTE_INTEREST_TABLE_H
#include "core/route/interest_memory.h"

/* The child with this token, 0 if there is none. */
uint32_t interest_table_find(const struct interest_memory *m, const _Atomic uintptr_t *table,
                             uint32_t hash, struct bytes token);

/* Under the account's lock. The token is not there yet. ERR_MEMORY, ERR_BUSY: nothing changed. */
NODISCARD enum err interest_table_insert(struct interest_memory *m, struct interest_arena *a,
                                         _Atomic uintptr_t *table, uint32_t hash, uint32_t ref);
/* It is there. Never fails; a table that stays larger than it should is no harm. */
void interest_table_remove(struct interest_memory *m, struct interest_arena *a,
                           _Atomic uintptr_t *table, uint32_t hash, uint32_t ref);
/* Retires the whole table, children or not. */
void interest_table_drop(struct interest_arena *a, _Atomic uintptr_t *table);

/* Every child, in no order. While a writer works a child may come twice. */
struct interest_table_each {
    uintptr_t root;
    uint32_t entry, slot;
    const void *segment;
};
void interest_table_each_init(struct interest_table_each *e, const _Atomic uintptr_t *table);
uint32_t interest_table_each_next(struct interest_table_each *e);

#endif
