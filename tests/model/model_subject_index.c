// The indexes of a stream (msgs, subject_index, walks, searches) against plain arrays.
// links: js
/* The oracle holds every message in an array by sequence and every subject as a string; each
 * question is answered by a loop over all of it. Subjects are chosen so that they are prefixes of
 * each other, differ in odd bytes, and have tokens in common. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/must.h"
#include "core/base/rng.h"
#include "core/js/search.h"
#include "core/js/sieve.h"
#include "core/js/subject_index_walk.h"
#include "core/route/subject.h"
#include "tests/support/mem_heap.h"

enum { SEQS_MAX = 20000, SUBJECTS = 400, TEXT_MAX = 400 };
/* The oracle's loops take many times as long under a sanitizer: fewer seeds. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
enum { SEEDS = 3 };
#else
enum { SEEDS = 12 };
#endif

struct message {
    struct msgs_entry entry;
    int subject;
    bool is_live;
};

struct world {
    struct mem_heap heap;
    struct rng rng;
    struct msgs msgs;
    struct subject_index index;
    uint64_t base;  /* sequence of messages[0] */
    uint32_t count; /* of messages */
    int64_t now;
    struct message messages[SEQS_MAX];
    char subjects[SUBJECTS][TEXT_MAX];
    int sorted[SUBJECTS]; /* in byte order */
    uint32_t claims[SUBJECTS];
    uint32_t list_max;
    uint64_t seed;
    struct sieve sieve;
    struct bytes sieve_slice;
    char sieve_filter[TEXT_MAX];
};

static void fail(const struct world *w, const char *what)
{
    fprintf(stderr, "seed %llu: %s\n", (unsigned long long)w->seed, what);
    exit(1);
}

#define CHECK(condition) ((condition) ? (void)0 : fail(w, #condition))

static struct bytes subject_of(const struct world *w, int i)
{
    return bytes_from_text(w->subjects[i]);
}

static bool is_known(const struct world *w, int count, const char *text)
{
    for (int i = 0; i < count; i++)
        if (strcmp(w->subjects[i], text) == 0) return true;
    return false;
}

static void make_subject(struct world *w, char *text)
{
    static const char *const words[] = {
        "a", "b", "aa", "ab", "a-b", "*", ">", "\x7f", "\xc3\xa9", "longer-word-1", "longer-word-2",
        "0", "1", "10", "100"};
    uint32_t tokens = 1 + rng_below(&w->rng, 4);
    text[0] = 0;
    if (rng_below(&w->rng, w->seed % 4 == 0 ? 2 : 16) ==
        0) { /* a ladder: more levels than a walk has frames */
        memset(text, 'a', 100);
        text[1 + rng_below(&w->rng, 99)] = 0;
        return;
    }
    for (uint32_t i = 0; i < tokens; i++) {
        if (i > 0) strcat(text, ".");
        strcat(text, words[rng_below(&w->rng, sizeof words / sizeof words[0])]);
    }
}

static void world_init(struct world *w, uint64_t seed)
{
    mem_heap_init(&w->heap);
    rng_init(&w->rng, seed);
    w->seed = seed;
    w->list_max = seed % 3 == 0 ? 0 : 1 + (uint32_t)(seed % 8);
    msgs_init(&w->msgs, &w->heap.mem);
    subject_index_init(&w->index, &w->heap.mem, w->list_max);
    w->base = seed % 2 == 0 ? 1 : UINT64_C(1000000000000000000);
    w->now = INT64_C(1700000000000000000);
    w->count = 0;
    memset(w->claims, 0, sizeof w->claims);
    for (int i = 0; i < SUBJECTS; i++) {
        char text[TEXT_MAX];
        do make_subject(w, text);
        while (is_known(w, i, text));
        strcpy(w->subjects[i], text);
        int at = i;
        while (at > 0 && strcmp(w->subjects[w->sorted[at - 1]], text) > 0) {
            w->sorted[at] = w->sorted[at - 1];
            at--;
        }
        w->sorted[at] = i;
    }
}

static uint64_t seq_of(const struct world *w, uint32_t i)
{
    return w->base + i;
}

static uint32_t node_of(const struct world *w, int subject)
{
    return subject_index_find(&w->index, subject_of(w, subject));
}

static void append(struct world *w, int subject)
{
    uint32_t node;
    bool is_new, was_there = node_of(w, subject) != MSGS_NODE_NONE;
    if (w->count == SEQS_MAX) return;
    CHECK(subject_index_intern(&w->index, subject_of(w, subject), &node, &is_new) == ERR_OK);
    CHECK(is_new == !was_there);
    w->now += rng_below(&w->rng, 3) * (rng_below(&w->rng, 2000) == 0 ? INT64_C(5000000000) : 1000);
    struct message *m = &w->messages[w->count];
    *m = (struct message){.entry = {.place = rng_below(&w->rng, 3000) == 0
                                                 ? rng_next(&w->rng)
                                                 : w->count * UINT64_C(200),
                                    .time_ns = w->now,
                                    .bytes = rng_below(&w->rng, 5000),
                                    .node = node},
                          .subject = subject,
                          .is_live = true};
    if (w->seed % 2 == 0 && rng_below(&w->rng, 4) == 0) {
        CHECK(msgs_reserve(&w->msgs, 1 + rng_below(&w->rng, 3000)) == ERR_OK);
        w->heap.fail_at = w->heap.alloc_count + 1;
        w->heap.fail_from = 1;
    }
    CHECK(msgs_append(&w->msgs, seq_of(w, w->count), &m->entry) == ERR_OK);
    subject_index_add(&w->index, node, seq_of(w, w->count));
    w->heap.fail_at = 0;
    w->heap.fail_from = 0;
    w->count++;
}

static void remove_message(struct world *w, uint32_t i)
{
    struct message *m = &w->messages[i];
    struct msgs_entry entry;
    if (!m->is_live) {
        CHECK(msgs_remove(&w->msgs, seq_of(w, i), &entry) == ERR_UNKNOWN);
        return;
    }
    if (rng_below(&w->rng, 8) == 0) {
        w->heap.fail_at = w->heap.alloc_count + 1;
        w->heap.fail_from = 1;
    }
    CHECK(msgs_remove(&w->msgs, seq_of(w, i), &entry) == ERR_OK);
    CHECK(memcmp(&entry, &m->entry, sizeof entry) == 0);
    m->is_live = false;
    bool is_last = subject_index_remove(&w->index, entry.node, seq_of(w, i));
    w->heap.fail_at = 0;
    w->heap.fail_from = 0;
    for (uint32_t k = 0; k < w->count; k++)
        if (w->messages[k].is_live && w->messages[k].subject == m->subject) {
            CHECK(!is_last);
            return;
        }
    CHECK(is_last);
    if (w->claims[m->subject] == 0) CHECK(node_of(w, m->subject) == MSGS_NODE_NONE);
}

/* Removes the oldest until at most limit messages of the subject are left. */
static void limit_subject(struct world *w, int subject, uint32_t limit)
{
    uint32_t node = node_of(w, subject);
    while (node != MSGS_NODE_NONE && subject_index_node(&w->index, node)->count > limit) {
        uint64_t first = subject_index_first(&w->index, &w->msgs, node);
        remove_message(w, (uint32_t)(first - w->base));
        node = node_of(w, subject);
    }
}

static void check_subject(struct world *w, int subject)
{
    uint64_t first = 0, last = 0, count = 0;
    uint32_t node = node_of(w, subject);
    for (uint32_t i = 0; i < w->count; i++) {
        if (!w->messages[i].is_live || w->messages[i].subject != subject) continue;
        CHECK(w->messages[i].entry.node == node);
        if (count++ == 0) first = seq_of(w, i);
        last = seq_of(w, i);
    }
    if (node == MSGS_NODE_NONE) {
        CHECK(count == 0);
        return;
    }
    CHECK(bytes_equal(subject_index_subject(&w->index, node), subject_of(w, subject)));
    const struct subject_node *n = subject_index_node(&w->index, node);
    CHECK(n->count == count);
    CHECK(n->claims == w->claims[subject]);
    if (count == 0) return;
    CHECK(n->first <= first);
    CHECK(n->last >= last);
    uint32_t from = rng_below(&w->rng, w->count);
    uint64_t next = 0, behind = 0;
    for (uint32_t i = w->count; i-- > from;)
        if (w->messages[i].is_live && w->messages[i].subject == subject) {
            next = seq_of(w, i);
            behind++;
        }
    CHECK(subject_index_count_from(&w->index, &w->msgs, node, seq_of(w, from)) == behind);
    CHECK(subject_index_next(&w->index, &w->msgs, node, seq_of(w, from)) == next);
    if (rng_below(&w->rng, 2) == 0) return; /* so that bounds stay stale for a while */
    CHECK(subject_index_first(&w->index, &w->msgs, node) == first);
    CHECK(subject_index_last(&w->index, &w->msgs, node) == last);
}

static void check_order(struct world *w)
{
    uint32_t from = rng_below(&w->rng, w->count), to = from + rng_below(&w->rng, w->count - from);
    uint64_t next = 0, prev = 0, inside = 0, first = 0, last = 0, live = 0;
    for (uint32_t i = 0; i < w->count; i++) {
        if (!w->messages[i].is_live) continue;
        live++;
        if (first == 0) first = seq_of(w, i);
        last = seq_of(w, i);
        if (i >= from && next == 0) next = seq_of(w, i);
        if (i <= from) prev = seq_of(w, i);
        if (i >= from && i <= to) inside++;
    }
    CHECK(w->msgs.live_count == live);
    CHECK(w->index.msg_count == live);
    CHECK(msgs_first(&w->msgs) == first);
    CHECK(msgs_last(&w->msgs) == last);
    CHECK(msgs_next(&w->msgs, seq_of(w, from)) == next);
    CHECK(msgs_prev(&w->msgs, seq_of(w, from)) == prev);
    CHECK(msgs_count(&w->msgs, seq_of(w, from), seq_of(w, to)) == inside);
    struct msgs_entry entry, there;
    CHECK(msgs_next_entry(&w->msgs, seq_of(w, from), &there) == next);
    CHECK(next == 0 || (msgs_get(&w->msgs, next, &entry) == ERR_OK && entry.place == there.place &&
                        entry.node == there.node && entry.time_ns == there.time_ns));
    enum err e = msgs_get(&w->msgs, seq_of(w, from), &entry);
    CHECK(e == (w->messages[from].is_live ? ERR_OK : ERR_UNKNOWN));
    if (e == ERR_OK) CHECK(memcmp(&entry, &w->messages[from].entry, sizeof entry) == 0);
    if (e == ERR_OK && rng_below(&w->rng, 4) == 0) {
        w->messages[from].entry.place =
            rng_below(&w->rng, 30) == 0 ? rng_next(&w->rng) : from * UINT64_C(200) + 7;
        CHECK(msgs_set_place(&w->msgs, seq_of(w, from), w->messages[from].entry.place) == ERR_OK);
    }

    int64_t time = w->messages[from].entry.time_ns + (int64_t)rng_below(&w->rng, 3) - 1;
    uint64_t at_time = 0;
    for (uint32_t i = w->count; i-- > 0;)
        if (w->messages[i].is_live && w->messages[i].entry.time_ns >= time) at_time = seq_of(w, i);
    CHECK(msgs_seq_at_time(&w->msgs, time) == at_time);

    uint64_t gap_first = seq_of(w, from), gap_last;
    uint64_t stream_last = seq_of(w, w->count - 1) + rng_below(&w->rng, 3);
    uint32_t i = from;
    while (i < w->count && w->messages[i].is_live) i++;
    bool has_gap = seq_of(w, i) <= stream_last;
    CHECK(msgs_gap(&w->msgs, stream_last, &gap_first, &gap_last) == has_gap);
    if (has_gap) {
        CHECK(gap_first == seq_of(w, i));
        while (i < w->count && !w->messages[i].is_live) i++;
        CHECK(gap_last == (i == w->count ? stream_last : seq_of(w, i) - 1));
    }
}

static void check_cursor(struct world *w)
{
    struct msgs_cursor c;
    struct msgs_entry entry;
    uint32_t i = rng_below(&w->rng, w->count);
    msgs_cursor_init(&c, &w->msgs, seq_of(w, i));
    for (; i < w->count; i++) {
        if (!w->messages[i].is_live) continue;
        CHECK(msgs_cursor_next(&c, &entry) == seq_of(w, i));
        CHECK(memcmp(&entry, &w->messages[i].entry, sizeof entry) == 0);
    }
    CHECK(msgs_cursor_next(&c, &entry) == 0);
}

/* A filter from a subject: tokens become stars, the tail becomes >. */
static void make_filter(struct world *w, char *filter)
{
    const char *subject = w->subjects[rng_below(&w->rng, SUBJECTS)];
    size_t len = 0;
    for (uint32_t n = 0;; n++) {
        struct bytes token = subject_token(bytes_from_text(subject), n);
        if (token.len == 0) break;
        if (len > 0) filter[len++] = '.';
        if (rng_below(&w->rng, 6) == 0) {
            filter[len++] = '>';
            break;
        }
        if (rng_below(&w->rng, 3) == 0 || subject_token_is_rest(token)) {
            filter[len++] = '*';
        } else {
            memcpy(filter + len, token.data, token.len);
            len += token.len;
        }
    }
    filter[len] = 0;
}

/* One that lives over all changes, asked in small pieces. */
static void check_sieve(struct world *w)
{
    uint32_t from = rng_below(&w->rng, w->count), to = from + rng_below(&w->rng, w->count - from);
    uint64_t seq = 0, resume, count = 0, selected = 0, next = 0;
    if (w->sieve.filter_count == 0 || rng_below(&w->rng, 50) == 0) {
        if (w->sieve.filter_count > 0) sieve_deinit(&w->sieve);
        make_filter(w, w->sieve_filter);
        w->sieve_slice = bytes_from_text(w->sieve_filter);
        sieve_init(&w->sieve, &w->heap.mem, &w->msgs, &w->index, &w->sieve_slice, 1);
        w->sieve.compared = rng_below(&w->rng, 2) == 0 ? SIEVE_COMPARE_MAX : 0; /* walks at once */
    }
    for (uint32_t i = from; i <= to; i++) {
        const struct message *m = &w->messages[i];
        if (!m->is_live || !subject_matches(subject_of(w, m->subject), w->sieve_slice)) continue;
        if (selected++ == 0) next = seq_of(w, i);
    }
    resume = seq_of(w, from);
    do {
        uint32_t left = 1 + rng_below(&w->rng, 1000);
        seq = sieve_next(&w->sieve, resume, seq_of(w, to), &left, &resume);
    } while (seq == 0 && resume != 0);
    CHECK(seq == next);
    resume = seq_of(w, from);
    do {
        uint32_t left = 1 + rng_below(&w->rng, 1000);
        resume = sieve_count(&w->sieve, resume, seq_of(w, to), &left, &count);
    } while (resume != 0);
    CHECK(count == selected);
}

/* The same by pieces of any size. */
static void check_pieces(struct world *w, struct bytes filter, uint32_t from, uint32_t keys,
                         uint64_t msgs)
{
    struct subject_index_rest rest;
    struct subject_total total = {0};
    struct search q;
    uint64_t next = 0, last = 0, seq, resume;
    uint32_t left;
    enum err e;
    for (uint32_t i = 0; i < w->count; i++) {
        const struct message *m = &w->messages[i];
        if (!m->is_live || !subject_matches(subject_of(w, m->subject), filter)) continue;
        last = seq_of(w, i);
        if (i >= from && next == 0) next = last;
    }
    subject_index_rest_init(&rest, &w->heap.mem);
    do left = 1 + rng_below(&w->rng, 8);
    while (subject_index_rest_total(&rest, &w->index, filter, &left, &total, &e));
    CHECK(e == ERR_OK && total.keys == keys && total.msgs == msgs);
    subject_index_rest_deinit(&rest);
    search_init(&q, &w->heap.mem, &w->msgs, &w->index, filter);
    resume = seq_of(w, from);
    do {
        left = 1 + rng_below(&w->rng, 4000);
        seq = search_next(&q, resume, &left, &resume);
    } while (seq == 0 && resume != 0);
    CHECK(seq == next);
    q.is_walking = rng_below(&w->rng, 2) == 0; /* not only where it is near */
    do left = 1 + rng_below(&w->rng, 4000);
    while (search_last(&q, &left, &seq, &e));
    CHECK(e == ERR_OK && seq == last);
    search_deinit(&q);
}

static void check_filter(struct world *w)
{
    char text[TEXT_MAX];
    make_filter(w, text);
    struct bytes filter = bytes_from_text(text);
    uint32_t from = rng_below(&w->rng, w->count);
    uint64_t msgs = 0;
    static uint64_t last_of[SUBJECTS];
    memset(last_of, 0, sizeof last_of);
    for (uint32_t i = 0; i < w->count; i++) {
        const struct message *m = &w->messages[i];
        if (!m->is_live || !subject_matches(subject_of(w, m->subject), filter)) continue;
        msgs++;
        last_of[m->subject] = seq_of(w, i);
    }

    int after = rng_below(&w->rng, 2) == 0 ? -1 : (int)rng_below(&w->rng, SUBJECTS);
    char after_text[TEXT_MAX] = "";
    if (after >= 0) strcpy(after_text, w->subjects[after]);
    if (after >= 0 && rng_below(&w->rng, 4) == 0) after_text[strlen(after_text) - 1] ^= 1;
    struct subject_index_walk walk;
    uint64_t keys = 0;
    subject_index_walk_begin(&walk, &w->index, filter, bytes_from_text(after_text));
    for (int k = 0; k < SUBJECTS; k++) {
        int subject = w->sorted[k];
        if (last_of[subject] == 0) continue;
        keys++;
        if (after_text[0] != 0 && strcmp(w->subjects[subject], after_text) <= 0) continue;
        CHECK(subject_index_walk_next(&walk) == node_of(w, subject));
    }
    CHECK(subject_index_walk_next(&walk) == MSGS_NODE_NONE);

    struct subject_total total = subject_index_total(&w->index, filter);
    CHECK(total.keys == keys);
    CHECK(total.msgs == msgs);
    if (rng_below(&w->rng, 16) == 0) check_pieces(w, filter, from, keys, msgs);
}

static void check(struct world *w)
{
    if (w->count == 0) return;
    check_order(w);
    check_filter(w);
    if (w->count > 0 && rng_below(&w->rng, 4) == 0) check_sieve(w);
    check_subject(w, (int)rng_below(&w->rng, SUBJECTS));
    if (rng_below(&w->rng, 20) == 0) check_cursor(w);
}

static void claim(struct world *w)
{
    int subject = (int)rng_below(&w->rng, SUBJECTS);
    uint32_t node;
    bool is_new;
    CHECK(subject_index_intern(&w->index, subject_of(w, subject), &node, &is_new) == ERR_OK);
    w->claims[subject]++;
}

static void unclaim(struct world *w)
{
    int subject = (int)rng_below(&w->rng, SUBJECTS);
    if (w->claims[subject] == 0) return;
    subject_index_drop(&w->index, node_of(w, subject));
    w->claims[subject]--;
}

static void purge(struct world *w)
{
    for (uint32_t i = 0; i < w->count; i++) w->messages[i].is_live = false;
    msgs_clear(&w->msgs);
    subject_index_purge(&w->index);
}

static void change_limit(struct world *w)
{
    w->list_max = w->list_max == 0 ? 1 + rng_below(&w->rng, 8) : 0;
    for (int i = 0; i < SUBJECTS && w->list_max > 0; i++) limit_subject(w, i, w->list_max);
    subject_index_list_begin(&w->index, w->list_max);
    uint32_t left;
    struct subject_index_listing at = {0};
    do { /* other things happen between its pieces */
        if (w->count > 0) remove_message(w, rng_below(&w->rng, w->count));
        if (rng_below(&w->rng, 4) == 0) claim(w);
        if (rng_below(&w->rng, 4) == 0) unclaim(w);
        if (rng_below(&w->rng, 4) == 0 && w->list_max == 0) append(w, (int)rng_below(&w->rng, 20));
        if (rng_below(&w->rng, 20) == 0) check(w);
        left = SUBJECT_INDEX_LIST_COST * (1 + rng_below(&w->rng, 400));
    } while (subject_index_list_step(&w->index, &w->msgs, &at, &left));
    check(w);
}

/* As a start does it: in turn mostly, and nothing is asked meanwhile. */
static void append_in_bulk(struct world *w)
{
    subject_index_bulk_begin(&w->index);
    for (uint32_t i = 0; i < 2 * SUBJECTS; i++)
        append(w, rng_below(&w->rng, 8) == 0 ? (int)rng_below(&w->rng, SUBJECTS)
                                             : (int)(i % SUBJECTS));
    subject_index_bulk_end(&w->index);
    check(w);
}

static void run(struct world *w, uint64_t seed, uint32_t steps)
{
    world_init(w, seed);
    if (w->list_max == 0 && seed % 3 == 0) append_in_bulk(w);
    for (uint32_t step = 0; step < steps; step++) {
        uint32_t dice = rng_below(&w->rng, 100);
        uint32_t phase = step * 4 / steps; /* grows, churns, shrinks, grows */
        if (dice < (phase == 2 ? 20u : 60u)) {
            uint32_t burst = rng_below(&w->rng, 50) == 0 ? 1500 : 1;
            for (uint32_t i = 0; i < burst; i++) {
                int subject = (int)rng_below(&w->rng, rng_below(&w->rng, 2) ? SUBJECTS : 20);
                append(w, subject);
                if (w->list_max > 0) limit_subject(w, subject, w->list_max);
            }
        } else if (dice < 90 && w->count > 0) {
            uint32_t burst = rng_below(&w->rng, 10) == 0 ? 200 : 1;
            uint32_t at = rng_below(&w->rng, w->count);
            for (uint32_t i = 0; i < burst; i++)
                remove_message(w, rng_below(&w->rng, 3) == 0 ? (at + i) % w->count
                                                             : rng_below(&w->rng, w->count));
        } else if (dice < 94) {
            claim(w);
        } else if (dice < 98) {
            unclaim(w);
        } else if (rng_below(&w->rng, 40) == 0) {
            purge(w);
        } else if (rng_below(&w->rng, 20) == 0) {
            change_limit(w);
        }
        check(w);
    }
    for (int i = 0; i < SUBJECTS; i++)
        for (; w->claims[i] > 0; w->claims[i]--) subject_index_drop(&w->index, node_of(w, i));
    for (uint32_t i = 0; i < w->count; i++)
        if (w->messages[i].is_live) remove_message(w, i);
    CHECK(w->index.leaf_count == 0);
    CHECK(w->index.key_count == 0);
    CHECK(w->msgs.slot_count == 0);
    if (w->sieve.filter_count > 0) sieve_deinit(&w->sieve);
    w->sieve = (struct sieve){.filter_count = 0};
    msgs_clear(&w->msgs);
    subject_index_clear(&w->index);
    CHECK(w->heap.live_count == 0);
    CHECK(w->heap.mem.used_bytes[MEM_JETSTREAM] == 0);
}

int main(int argc, char **argv)
{
    struct world *w = calloc(1, sizeof *w);
    uint64_t first = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    uint64_t last = argc > 2 ? strtoull(argv[2], NULL, 10) : (argc > 1 ? first : SEEDS);
    must(w != NULL);
    for (uint64_t seed = first; seed <= last; seed++) run(w, seed, 3000);
    free(w);
    return 0;
}
