/* The memory port: every allocation of core and persist goes through it, under a budget class.
 * io implements it on jemalloc, the simulator with failure injection. One mem belongs to one
 * thread, except where a header says that a structure is shared and locks it by itself. */
#ifndef CORE_BASE_MEM_H
#define CORE_BASE_MEM_H
#include <stddef.h>
#include <stdint.h>
#include "core/base/err.h"

enum mem_class {
    MEM_CONNECTION, /* client records, sid tables */
    MEM_OUTPUT,     /* output chunks, half-received messages, referenced payload blocks */
    MEM_INTEREST,   /* subscriptions and the filter trie */
    MEM_ROUTE,      /* route cache */
    MEM_MAIL,       /* mail rings, spill lists, what stands for payloads that others lent */
    MEM_CONFIG,     /* options, accounts, users, permissions */
    MEM_MONITOR,    /* snapshots, pages, closed-connection records */
    MEM_JETSTREAM,  /* streams, consumers, their indexes, API requests and replies */
    MEM_STORE,      /* groups on their way to disk, read cache, tables of segments */
    MEM_CLASS_COUNT
};

/* Of the budget. From here on what stays is not added to: subscriptions, routes that are kept,
 * streams and consumers. Before others are made to go for it (core/shard/pressure). */
enum { MEM_SHORT_PERCENT = 80 };

struct mem {
    /* NULL when the budget or the machine has no more. 16-byte aligned, contents undefined. */
    void *(*alloc)(struct mem *m, enum mem_class class, size_t bytes);
    /* As alloc, zeroed; large blocks without touching them, so that a table costs what is used of
     * it. NULL: there is no such way, mem_alloc_zero writes the zeros. */
    void *(*alloc_zero)(struct mem *m, enum mem_class class, size_t bytes);
    /* Takes the size that was asked for. p is never NULL. */
    void (*release)(struct mem *m, enum mem_class class, void *p, size_t bytes);
    /* 0 to 100: how much of the budget is taken, by everybody. NULL: there is no budget. */
    uint32_t (*percent)(const struct mem *m);
    /* Bytes of JetStream (MEM_JETSTREAM and MEM_STORE) that everybody on the budget has, to a slice
     * or so. NULL: there is nobody else. */
    uint64_t (*jetstream_bytes)(const struct mem *m);
    void *context;                        /* of the implementation */
    uint64_t used_bytes[MEM_CLASS_COUNT]; /* kept by mem_alloc and mem_free */
};

/* NULL: refuse the request that needed it; nothing changed. bytes > 0. */
NODISCARD void *mem_alloc(struct mem *m, enum mem_class class, size_t bytes);
/* As mem_alloc, zeroed. */
NODISCARD void *mem_alloc_zero(struct mem *m, enum mem_class class, size_t bytes);
/* p may be NULL: nothing happens. bytes is what was asked for. */
void mem_free(struct mem *m, enum mem_class class, void *p, size_t bytes);
/* How much of the budget is taken: 0 to 100. */
uint32_t mem_percent(const struct mem *m);
/* What JetStream has of the budget, on all threads. */
uint64_t mem_jetstream_bytes(const struct mem *m);
/* A copy in new memory when growing or shrinking; NULL leaves the old memory as it is. */
NODISCARD void *mem_resize(struct mem *m, enum mem_class class, void *p, size_t bytes_old,
                           size_t bytes_new);

#endif
