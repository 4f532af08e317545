#include "core/shard/token.h"
#include <string.h>
#include "core/base/must.h"

uint32_t token_take(struct token_table *x, struct mem *mem, struct conn_id conn,
                    struct bytes subject, struct bytes reply)
{
    must(conn.bits != 0);
    if (x->count == TOKEN_COUNT_MAX) return 0;
    if (x->slots == NULL)
        x->slots = mem_alloc_zero(mem, MEM_MAIL, TOKEN_COUNT_MAX * sizeof *x->slots);
    if (x->slots == NULL) return 0;
    while (x->slots[x->hint].conn.bits != 0) x->hint = (x->hint + 1) % TOKEN_COUNT_MAX;
    struct token *t = &x->slots[x->hint];
    char *text = t->text;
    if (subject.len + reply.len > TOKEN_TEXT_MAX) {
        t->far = text = mem_alloc(mem, MEM_MAIL, subject.len + reply.len);
        if (text == NULL) return 0;
    }
    must(subject.len <= UINT16_MAX);
    must(reply.len <= UINT16_MAX);
    memcpy(text, subject.data, subject.len);
    memcpy(text + subject.len, reply.data, reply.len);
    t->subject_len = (uint16_t)subject.len;
    t->reply_len = (uint16_t)reply.len;
    t->conn = conn;
    t->weight = 0;
    t->generation = (uint16_t)(t->generation + 1);
    if (t->generation == 0) t->generation = 1;
    x->count++;
    return (uint32_t)t->generation * TOKEN_COUNT_MAX + x->hint;
}

struct token *token_at(const struct token_table *x, uint32_t number)
{
    if (number == 0 || x->slots == NULL) return NULL;
    struct token *t = &x->slots[number % TOKEN_COUNT_MAX];
    return t->conn.bits != 0 && t->generation == number / TOKEN_COUNT_MAX ? t : NULL;
}

static const char *text_of(const struct token *t)
{
    return t->far != NULL ? t->far : t->text;
}

struct bytes token_subject(const struct token *t)
{
    return bytes_of(text_of(t), t->subject_len);
}

struct bytes token_reply(const struct token *t)
{
    return bytes_of(text_of(t) + t->subject_len, t->reply_len);
}

void token_free(struct token_table *x, struct mem *mem, struct token *t)
{
    must(t->conn.bits != 0);
    must(x->count > 0);
    if (t->far != NULL) mem_free(mem, MEM_MAIL, t->far, (size_t)t->subject_len + t->reply_len);
    t->far = NULL;
    t->conn.bits = 0;
    x->count--;
}

void token_free_of(struct token_table *x, struct mem *mem, struct conn_id conn)
{
    for (uint32_t i = 0; x->count > 0 && i < TOKEN_COUNT_MAX; i++)
        if (x->slots[i].conn.bits == conn.bits) token_free(x, mem, &x->slots[i]);
}

void token_deinit(struct token_table *x, struct mem *mem)
{
    for (uint32_t i = 0; x->count > 0 && i < TOKEN_COUNT_MAX; i++)
        if (x->slots[i].conn.bits != 0) token_free(x, mem, &x->slots[i]);
    mem_free(mem, MEM_MAIL, x->slots, TOKEN_COUNT_MAX * sizeof *x->slots);
    *x = (struct token_table){0};
}
