#include "core/js/sieve.h"
#include <string.h>
#include "core/base/must.h"
#include "core/route/subject.h"

enum {
    VERDICTS_STEP = 4096,
    VERDICTS_IN_WORD = 32,
};
#define ALL_NO UINT64_C(0x5555555555555555)

static size_t bytes_for(uint32_t node_count)
{
    return node_count / VERDICTS_IN_WORD * sizeof(uint64_t);
}

void sieve_init(struct sieve *s, struct mem *mem, const struct msgs *msgs,
                const struct subject_index *subjects, const struct bytes *filters,
                uint32_t filter_count)
{
    *s = (struct sieve){.mem = mem,
                        .msgs = msgs,
                        .subjects = subjects,
                        .filters = filters,
                        .filter_count = filter_count};
    subject_index_rest_init(&s->seed_rest, mem);
}

void sieve_deinit(struct sieve *s)
{
    mem_free(s->mem, MEM_JETSTREAM, s->verdicts.words, bytes_for(s->verdicts.node_count));
    subject_index_rest_deinit(&s->seed_rest);
    s->verdicts = (struct msgs_verdicts){0};
}

static void set(struct sieve *s, uint32_t node, enum msgs_verdict verdict)
{
    if (node >= s->verdicts.node_count) return;
    uint64_t *word = &s->verdicts.words[node / VERDICTS_IN_WORD];
    uint32_t shift = node % VERDICTS_IN_WORD * 2;
    *word = (*word & ~(UINT64_C(3) << shift)) | (uint64_t)verdict << shift;
}

static void forget(struct sieve *s)
{
    if (s->verdicts.node_count > 0) memset(s->verdicts.words, 0, bytes_for(s->verdicts.node_count));
    /* A walk that is always cut short would lead nowhere. */
    if (s->is_seeding) s->is_lazy = true;
    s->is_seeding = s->is_seeded = false;
    s->compared = 0;
}

/* Room for all numbers there are, where memory allows it, and nothing of old owners of a number. */
static void refresh(struct sieve *s)
{
    struct msgs_verdicts *v = &s->verdicts;
    if (s->renewals != s->subjects->renewals) forget(s);
    s->renewals = s->subjects->renewals;
    if (s->subjects->node_end <= v->node_count) return;
    uint32_t wanted = (s->subjects->node_end / VERDICTS_STEP + 1) * VERDICTS_STEP;
    size_t old = bytes_for(v->node_count), bytes = bytes_for(wanted);
    uint64_t *words = mem_resize(s->mem, MEM_JETSTREAM, v->words, old, bytes);
    if (words == NULL) return;
    memset((char *)words + old, 0, bytes - old);
    *v = (struct msgs_verdicts){.words = words, .node_count = wanted};
}

/* --- the index ------------------------------------------------------------------------------- */

/* What was not selected of the numbers that were there when the walk began is known to be not. */
static void end_seeding(struct sieve *s)
{
    uint64_t *words = s->verdicts.words;
    for (uint32_t i = 0; i < s->seed_end / VERDICTS_IN_WORD; i++) {
        uint64_t known = (words[i] | words[i] >> 1) & ALL_NO;
        words[i] |= ~known & ALL_NO; /* MSGS_VERDICT_NO is 1 */
    }
    s->is_seeding = false;
    s->is_seeded = true;
}

static void seed(struct sieve *s, uint32_t *left)
{
    uint32_t node;
    enum err e;
    if (!s->is_seeding) {
        s->is_seeding = true;
        s->seed_filter = s->seed_rest.len = 0;
        s->seed_end = s->subjects->node_end;
    }
    while (s->seed_filter < s->filter_count && *left >= SIEVE_WALK) {
        struct subject_index_walk w;
        uint32_t steps = *left / SIEVE_WALK;
        subject_index_rest_begin(&s->seed_rest, &w, s->subjects, s->filters[s->seed_filter]);
        w.left = steps;
        w.has_claimed = true;
        while ((node = subject_index_walk_next(&w)) != MSGS_NODE_NONE)
            set(s, node, MSGS_VERDICT_YES);
        *left -= (steps - w.left) * SIEVE_WALK;
        /* Without room for the position it begins anew, behind the last one it has room for. */
        if (subject_index_rest_end(&s->seed_rest, &w, &e)) {
            *left = 0;
            return;
        }
        s->seed_filter++;
    }
    if (s->seed_filter == s->filter_count)
        end_seeding(s);
    else
        *left = 0;
}

/* --- messages -------------------------------------------------------------------------------- */

static bool matches(const struct sieve *s, uint32_t node)
{
    struct bytes subject = subject_index_subject(s->subjects, node);
    for (uint32_t i = 0; i < s->filter_count; i++)
        if (subject_matches(subject, s->filters[i])) return true;
    return false;
}

/* The verdict on the subject of message seq, which is there. */
static bool judge(struct sieve *s, uint64_t seq, uint32_t *left)
{
    struct msgs_entry entry;
    must(msgs_get(s->msgs, seq, &entry) == ERR_OK);
    enum msgs_verdict verdict = msgs_verdict_of(&s->verdicts, entry.node);
    if (verdict != MSGS_VERDICT_UNKNOWN) return verdict == MSGS_VERDICT_YES;
    bool is_match = matches(s, entry.node);
    s->compared++;
    uint64_t cost = (uint64_t)SIEVE_COMPARE * s->filter_count;
    *left = cost < *left ? *left - (uint32_t)cost : 0;
    set(s, entry.node, is_match ? MSGS_VERDICT_YES : MSGS_VERDICT_NO);
    return is_match;
}

static bool is_seed_due(const struct sieve *s)
{
    /* A lone subject is found by a walk that cannot be told of those without messages. */
    bool may_seed = s->subjects->leaf_count > 1 && !s->is_seeded && !s->is_lazy &&
                    s->verdicts.node_count >= s->subjects->node_end;
    return s->is_seeding || (may_seed && s->compared >= SIEVE_COMPARE_MAX);
}

/* Up to the first message that is selected; with count those are counted and passed. */
static uint64_t run(struct sieve *s, uint64_t seq, uint64_t to, uint64_t *count, uint32_t *left,
                    uint64_t *resume)
{
    refresh(s);
    *resume = seq;
    while (*left > 0) {
        if (is_seed_due(s)) {
            seed(s, left);
            continue;
        }
        seq = msgs_sift(s->msgs, seq, to, &s->verdicts, count, left, resume);
        if (seq == 0) return 0;
        bool is_match = judge(s, seq, left);
        if (is_match && count == NULL) {
            *resume = 0;
            return seq;
        }
        if (is_match) ++*count;
        *resume = ++seq;
    }
    return 0;
}

uint64_t sieve_next(struct sieve *s, uint64_t seq, uint64_t to, uint32_t *left, uint64_t *resume)
{
    return run(s, seq, to, NULL, left, resume);
}

uint64_t sieve_prev(struct sieve *s, uint64_t seq, uint32_t *left, uint64_t *resume)
{
    refresh(s);
    *resume = 0;
    while (*left > 0) {
        *resume = seq;
        if (is_seed_due(s)) {
            seed(s, left);
            continue;
        }
        seq = seq > 0 ? msgs_prev(s->msgs, seq) : 0;
        *resume = 0;
        *left -= *left < SIEVE_WALK ? *left : SIEVE_WALK;
        if (seq == 0 || judge(s, seq, left)) return seq;
        *resume = --seq;
    }
    return 0;
}

uint64_t sieve_count(struct sieve *s, uint64_t seq, uint64_t to, uint32_t *left, uint64_t *count)
{
    uint64_t resume;
    (void)run(s, seq, to, count, left, &resume);
    return resume;
}
