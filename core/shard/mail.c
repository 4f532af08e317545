#include "core/shard/mail.h"
#include "core/base/must.h"
#include "core/shard/internal.h"

enum {
    SPILL_FIRST = 16384,
    SPILL_KEPT = 256,    /* what a spill has from the start, and never gives back */
    ANSWERS_BYTES = 208, /* kept free in each spill for what one mail's consumer owes: an answer and
                            a block, or a permit */
};

struct mail_spill {
    uint8_t *data; /* records as in a lane */
    uint32_t len, capacity, at;
};

static bool spill_has_room(struct shard *s, struct mail_spill *p, uint32_t need)
{
    if (p->capacity - p->len >= need) return true;
    if (p->at > 0) {
        memmove(p->data, p->data + p->at, p->len - p->at);
        p->len -= p->at;
        p->at = 0;
        if (p->capacity - p->len >= need) return true;
    }
    uint32_t capacity = p->capacity < SPILL_FIRST ? SPILL_FIRST : p->capacity * 2;
    while (capacity - p->len < need) capacity *= 2;
    uint8_t *grown = mem_resize(s->mem, MEM_MAIL, p->data, p->capacity, capacity);
    if (grown == NULL) return false;
    p->data = grown;
    p->capacity = capacity;
    return true;
}

/* Leaves kept_bytes of room. False: no memory. */
static bool spill(struct shard *s, uint32_t target, uint16_t kind, const void *body, uint32_t bytes,
                  uint32_t kept_bytes)
{
    struct mail_spill *p = &s->spills[target];
    uint32_t need = lane_record_bytes(bytes);
    if (!spill_has_room(s, p, need + kept_bytes)) return false;
    struct lane_record *r = (struct lane_record *)(void *)(p->data + p->len);
    *r = (struct lane_record){.bytes = need, .kind = kind};
    memcpy(r + 1, body, bytes);
    p->len += need;
    s->counts.mail.spills++;
    s->counts.mail.spilled_bytes += need;
    s->counts.mail.spill_bytes_now += need;
    if (s->counts.mail.spill_bytes_now > s->counts.mail.spill_bytes_most)
        s->counts.mail.spill_bytes_most = s->counts.mail.spill_bytes_now;
    return true;
}

bool mail_is_clear(struct shard *s, uint32_t target)
{
    struct mail_spill *p = &s->spills[target];
    struct lane *l = s->outbox->lanes[target];
    while (p->at < p->len) {
        const struct lane_record *r = (const struct lane_record *)(const void *)(p->data + p->at);
        uint32_t body = r->bytes - (uint32_t)sizeof *r;
        if (!lane_has_room(l, r->bytes, r->bytes)) return false;
        memcpy(lane_append(l, r->kind, 0, body), r + 1, body);
        p->at += r->bytes;
        s->counts.mail.spill_bytes_now -= r->bytes;
    }
    p->at = p->len = 0;
    return true;
}

static bool post_or_spill(struct shard *s, uint32_t target, enum mail_kind kind, const void *body,
                          uint32_t bytes, uint32_t kept_bytes)
{
    must(target != s->index && target < s->shard_count);
    uint32_t need = lane_record_bytes(bytes);
    struct lane *l = s->outbox->lanes[target];
    if (!mail_is_clear(s, target) || !lane_has_room(l, need, need))
        return spill(s, target, (uint16_t)kind, body, bytes, kept_bytes);
    memcpy(lane_append(l, (uint16_t)kind, 0, bytes), body, bytes);
    s->counts.mail.sent++;
    s->counts.mail.sent_bytes += need;
    return true;
}

bool mail_post(struct shard *s, uint32_t target, enum mail_kind kind, const void *body,
               uint32_t bytes)
{
    return post_or_spill(s, target, kind, body, bytes, ANSWERS_BYTES);
}

void mail_post_owed(struct shard *s, uint32_t target, enum mail_kind kind, const void *body,
                    uint32_t bytes)
{
    bool is_posted = post_or_spill(s, target, kind, body, bytes, 0);
    must(is_posted);
}

bool mail_may_answer(struct shard *s, uint32_t target)
{
    return target == s->index || mail_is_clear(s, target) ||
           spill_has_room(s, &s->spills[target], ANSWERS_BYTES);
}

uint32_t mail_waiting_bytes(const struct shard *s, uint32_t target)
{
    const struct mail_spill *p = &s->spills[target];
    return p->len - p->at;
}

enum err mail_open(struct shard *s)
{
    s->spills = mem_alloc_zero(s->mem, MEM_MAIL, s->shard_count * sizeof *s->spills);
    if (s->spills == NULL) return ERR_MEMORY;
    for (uint32_t t = 0; t < s->shard_count; t++) {
        if (t == s->index) continue;
        s->spills[t].data = mem_alloc(s->mem, MEM_MAIL, SPILL_KEPT);
        if (s->spills[t].data == NULL) return ERR_MEMORY;
        s->spills[t].capacity = SPILL_KEPT;
    }
    return ERR_OK;
}

void mail_close(struct shard *s)
{
    if (s->spills == NULL) return;
    for (uint32_t t = 0; t < s->shard_count; t++)
        mem_free(s->mem, MEM_MAIL, s->spills[t].data, s->spills[t].capacity);
    mem_free(s->mem, MEM_MAIL, s->spills, s->shard_count * sizeof *s->spills);
    s->spills = NULL;
}
