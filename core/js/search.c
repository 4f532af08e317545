#include "core/js/search.h"
#include "core/base/must.h"
#include "core/route/subject.h"

enum { SCAN_BACK_MAX = 1024 }; /* messages from the end on that are compared */

void search_init(struct search *q, struct mem *mem, const struct msgs *msgs,
                 const struct subject_index *subjects, struct bytes filter)
{
    *q = (struct search){.mem = mem, .msgs = msgs, .subjects = subjects, .filter = filter};
    sieve_init(&q->sieve, mem, msgs, subjects, NULL, 1);
    subject_index_rest_init(&q->rest, mem);
}

void search_deinit(struct search *q)
{
    sieve_deinit(&q->sieve);
    subject_index_rest_deinit(&q->rest);
}

static bool is_everything(const struct search *q)
{
    return q->filter.len == 0 || bytes_equal(q->filter, BYTES_LITERAL(">"));
}

uint64_t search_next(struct search *q, uint64_t seq, uint32_t *left, uint64_t *resume)
{
    *resume = 0;
    if (is_everything(q)) return msgs_next(q->msgs, seq);
    if (subject_has_wildcard(q->filter)) {
        q->sieve.filters = &q->filter; /* q may have been moved */
        return sieve_next(&q->sieve, seq, UINT64_MAX, left, resume);
    }
    uint32_t node = subject_index_find(q->subjects, q->filter);
    if (node == MSGS_NODE_NONE) return 0;
    return subject_index_next_within(q->subjects, q->msgs, node, seq, left, resume);
}

/* The messages of one subject up to seq. False: not through. */
static bool look_at(struct search *q, uint32_t node, uint64_t seq, uint32_t *left)
{
    uint64_t resume, found;
    found = subject_index_last_within(q->subjects, q->msgs, node, seq, left, &resume);
    if (found > q->last) q->last = found;
    q->cut_node = node;
    q->cut_seq = resume > q->last ? resume : 0;
    return q->cut_seq == 0;
}

/* The subject of before, if it still has its number. */
static bool go_on(struct search *q, uint32_t *left)
{
    uint64_t seq = q->cut_seq;
    q->cut_seq = 0;
    if (seq == 0 || !subject_index_is_used(q->subjects, q->cut_node)) return true;
    if (!subject_matches(subject_index_subject(q->subjects, q->cut_node), q->filter)) return true;
    return look_at(q, q->cut_node, seq, left);
}

/* A filter that selects much has it near, one that selects little is found by the index. */
static bool is_near(struct search *q, uint32_t *left)
{
    uint64_t seq = msgs_last(q->msgs);
    for (uint32_t i = 0; i < SCAN_BACK_MAX && seq != 0; i++, seq = msgs_prev(q->msgs, seq - 1)) {
        struct msgs_entry entry;
        must(msgs_get(q->msgs, seq, &entry) == ERR_OK);
        *left = *left > SIEVE_WALK ? *left - SIEVE_WALK : 0;
        if (!subject_matches(subject_index_subject(q->subjects, entry.node), q->filter)) continue;
        q->last = seq;
        return true;
    }
    return false;
}

/* True: there is more. */
static bool walk(struct search *q, uint32_t *left, enum err *e)
{
    struct subject_index_walk w;
    uint32_t node, steps = *left / SIEVE_WALK;
    subject_index_rest_begin(&q->rest, &w, q->subjects, q->filter);
    w.left = steps;
    while ((node = subject_index_walk_next(&w)) != MSGS_NODE_NONE) {
        if (subject_index_node(q->subjects, node)->last <= q->last) continue;
        if (!look_at(q, node, UINT64_MAX, left)) break;
    }
    uint32_t spent = (steps - w.left) * SIEVE_WALK;
    *left = *left > spent ? *left - spent : 0;
    q->is_walked = !subject_index_rest_end(&q->rest, &w, e);
    return !q->is_walked || q->cut_seq != 0;
}

void search_last_again(struct search *q)
{
    subject_index_rest_deinit(&q->rest);
    q->is_walking = q->is_walked = false;
    q->last = q->cut_seq = 0;
}

/* What one of several pieces found may have gone since, and a newer one be there. */
static bool is_gone(struct search *q)
{
    if (q->last == 0 || msgs_has(q->msgs, q->last)) return false;
    search_last_again(q);
    return true;
}

bool search_last(struct search *q, uint32_t *left, uint64_t *seq, enum err *e)
{
    *e = ERR_OK;
    *seq = 0;
    if (is_everything(q)) {
        *seq = msgs_last(q->msgs);
        return false;
    }
    if (!go_on(q, left)) return true;
    if (q->is_walked) {
        if (is_gone(q)) return true;
        *seq = q->last;
        return false;
    }
    if (!subject_has_wildcard(q->filter)) {
        uint32_t node = subject_index_find(q->subjects, q->filter);
        q->is_walked = true;
        if (node != MSGS_NODE_NONE && !look_at(q, node, UINT64_MAX, left)) return true;
    } else if (q->is_walking || !is_near(q, left)) {
        q->is_walking = true;
        if (*left < SIEVE_WALK) return true;
        if (walk(q, left, e)) return true;
    }
    if (is_gone(q)) return true;
    *seq = q->last;
    return false;
}
