/* Open requests that no local subscription took (R9): who waits for the word whether another shard
 * had somebody, and what his 503 will say.
 *
 * Weights are counts, so nothing is lost by dividing: a mail sets out with one unit of its own and
 * one for each group that it names. A group that is forwarded takes its unit along, a group's mail
 * that is forwarded again has only that one to give, and what a mail has left when it is done goes
 * home with its answer. The token is complete when every unit is back.
 *
 * The number of a token goes out with its mail. One that is used again has another generation, so
 * that a late answer finds nothing. Owned by one shard. */
#ifndef CORE_SHARD_TOKEN_H
#define CORE_SHARD_TOKEN_H
#include "core/base/bytes.h"
#include "core/base/effect.h"
#include "core/base/mem.h"

enum {
    TOKEN_COUNT_MAX = 1024, /* then a publisher parks */
    TOKEN_TEXT_MAX = 208,   /* of subject and reply that need no memory of their own */
};

struct token {
    struct conn_id conn; /* bits 0: free */
    uint32_t weight;     /* still out; the owner of the table counts */
    uint16_t generation;
    uint16_t subject_len, reply_len;
    char text[TOKEN_TEXT_MAX];
    char *far; /* texts that are longer */
};

/* All zero: empty. */
struct token_table {
    struct token *slots; /* [TOKEN_COUNT_MAX]; NULL until one is needed */
    uint32_t hint, count;
};

/* Its number, never 0, with a copy of the texts and weight 0. 0: TOKEN_COUNT_MAX are open, or there
 * is no memory; nothing changed. */
uint32_t token_take(struct token_table *x, struct mem *mem, struct conn_id conn,
                    struct bytes subject, struct bytes reply);
/* NULL: no number, or that of one that is free again. */
struct token *token_at(const struct token_table *x, uint32_t number);
/* Borrowed until it is free. */
struct bytes token_subject(const struct token *t);
struct bytes token_reply(const struct token *t);
void token_free(struct token_table *x, struct mem *mem, struct token *t);
/* All of a connection that goes. */
void token_free_of(struct token_table *x, struct mem *mem, struct conn_id conn);
/* The table's memory too; it is empty then. */
void token_deinit(struct token_table *x, struct mem *mem);

#endif
