// Permissions against a naive oracle: every small allow list x deny list x filter x queue.
// links: auth
/* The oracle works on arrays of tokens and knows the rules as sentences:
 *   a SUB is granted by the allow list, looked up as if its tokens were ordinary words, and not
 *   refused by the deny list in the same way; of the subjects that a granted SUB matches, those
 *   arrive that some allow entry names and no deny entry names.
 * It shares no code with core/auth/perms. */
#include <stdio.h>
#include <stdlib.h>
#include "core/auth/perms.h"
#include "tests/support/mem_heap.h"

enum { TOKENS_MAX = 8, LIST_MAX = 2 };

struct words {
    char text[TOKENS_MAX][8];
    int count;
};

static struct words split(const char *subject)
{
    struct words w = {.count = 1};
    int at = 0;
    for (const char *c = subject; *c != 0; c++) {
        if (*c == '.') {
            w.count++;
            at = 0;
        } else {
            w.text[w.count - 1][at++] = *c;
        }
    }
    return w;
}

static int is_word(const struct words *w, int i, const char *text)
{
    return strcmp(w->text[i], text) == 0;
}

/* Do words from i on fit the filter from i on? All words of the subject are ordinary. */
static int fits_from(const struct words *filter, const struct words *subject, int i)
{
    if (i == filter->count) return i == subject->count;
    if (i == subject->count) return 0;
    if (is_word(filter, i, ">")) return 1;
    if (!is_word(filter, i, "*") && !is_word(subject, i, filter->text[i])) return 0;
    return fits_from(filter, subject, i + 1);
}

static int fits(const char *filter, const char *subject)
{
    struct words f = split(filter), s = split(subject);
    return fits_from(&f, &s, 0);
}

/* An entry of a subscribe list, e.g. "a.* q": its two halves. */
struct pair {
    const char *subject, *queue; /* queue "": plain */
};

static const struct pair pairs[] = {
    {"a", ""},    {"b", ""},    {"*", ""},     {">", ""},     {"a.b", ""},
    {"a.*", ""},  {"*.b", ""},  {"a.>", ""},   {"*.*", ""},   {"a", "q"},
    {"a.b", "q"}, {"a.*", "q"}, {">", "q"},    {"*.b", "v.*"}, {"a.>", "v.>"},
    {"*", "v.x"}, {"a.*", ">"}, {"a.b.c", ""},
};
enum { PAIRS = sizeof pairs / sizeof pairs[0] };

static const char *const filters[] = {"a",   "*",   ">",     "a.b",   "a.*", "*.b",
                                      "a.>", "*.*", "*.>",   "a.b.c", "c",   "a.*.c"};
static const char *const queues[] = {"", "q", "v.x", "v.*", "w"};
static const char *const subjects[] = {"a",     "b",     "c",     "a.a",   "a.b",   "a.c",
                                       "b.b",   "c.c",   "a.b.c", "a.c.c", "b.b.b", "c.b"};
enum {
    FILTERS = sizeof filters / sizeof filters[0],
    QUEUES = sizeof queues / sizeof queues[0],
    SUBJECTS = sizeof subjects / sizeof subjects[0],
};

/* A list by the numbers of its pairs; -1: no entry. */
struct list {
    int entries[LIST_MAX];
};

/* Queue names are matched as subjects, and literally too: a group may be called v.* itself. A
 * group with a > for its last token is not among the queues here. */
static int queue_fits(const char *entry, const char *queue)
{
    if (strcmp(entry, queue) == 0) return 1;
    struct words e = split(entry), q = split(queue);
    /* A star in the queue's own name is only taken by a wildcard, which fits_from does. */
    return strpbrk(entry, "*>") != NULL && fits_from(&e, &q, 0);
}

static int is_empty(struct list l)
{
    return l.entries[0] < 0 && l.entries[1] < 0;
}

struct found {
    int plain, any_queue, my_queue;
};

static struct found look(struct list l, const char *subject, const char *queue)
{
    struct found f = {0};
    for (int i = 0; i < LIST_MAX; i++) {
        if (l.entries[i] < 0) continue;
        const struct pair *p = &pairs[l.entries[i]];
        if (!fits(p->subject, subject)) continue;
        if (p->queue[0] == 0) {
            f.plain = 1;
        } else {
            f.any_queue = 1;
            if (queue[0] != 0 && queue_fits(p->queue, queue)) f.my_queue = 1;
        }
    }
    return f;
}

static int grants(struct list allow, struct list deny, const char *filter, const char *queue)
{
    if (!is_empty(allow)) {
        struct found f = look(allow, filter, queue);
        int granted = f.plain;
        if (queue[0] != 0 && f.any_queue) granted = f.my_queue;
        if (!granted) return 0;
    }
    struct found f = look(deny, filter, queue);
    return !f.plain && !f.my_queue;
}

static int arrives(struct list allow, struct list deny, const char *subject, const char *queue)
{
    struct found a = look(allow, subject, queue), d = look(deny, subject, queue);
    if (d.plain || d.my_queue) return 0;
    return is_empty(allow) || a.plain || a.my_queue;
}

static struct perms *compile(struct mem *mem, struct list allow, struct list deny, int is_publish)
{
    char texts[2][LIST_MAX][32];
    struct bytes entries[2][LIST_MAX];
    uint32_t counts[2] = {0, 0};
    const struct list *lists[2] = {&allow, &deny};
    for (int k = 0; k < 2; k++) {
        for (int i = 0; i < LIST_MAX; i++) {
            if (lists[k]->entries[i] < 0) continue;
            const struct pair *p = &pairs[lists[k]->entries[i]];
            int len = snprintf(texts[k][counts[k]], 32, p->queue[0] ? "%s %s" : "%s", p->subject,
                               p->queue);
            entries[k][counts[k]] = bytes_of(texts[k][counts[k]], (size_t)len);
            counts[k]++;
        }
    }
    struct perms_list a = {entries[0], counts[0]}, d = {entries[1], counts[1]};
    struct perms_spec spec = {0};
    if (is_publish) {
        spec.publish_allow = a;
        spec.publish_deny = d;
    } else {
        spec.subscribe_allow = a;
        spec.subscribe_deny = d;
    }
    struct perms *p;
    struct perms_fault fault;
    if (perms_compile(mem, &spec, &p, &fault) != ERR_OK) {
        fprintf(stderr, "perms_compile: %s\n", fault.text);
        exit(1);
    }
    return p;
}

static void fail(struct list allow, struct list deny, const char *what, const char *filter,
                 const char *queue, const char *subject)
{
    const struct list *lists[2] = {&allow, &deny};
    fprintf(stderr, "%s: filter \"%s\" queue \"%s\" subject \"%s\"\n", what, filter, queue,
            subject);
    for (int k = 0; k < 2; k++)
        for (int i = 0; i < LIST_MAX; i++)
            if (lists[k]->entries[i] >= 0)
                fprintf(stderr, "  %s \"%s %s\"\n", k == 0 ? "allow" : "deny",
                        pairs[lists[k]->entries[i]].subject, pairs[lists[k]->entries[i]].queue);
    exit(1);
}

struct tally {
    uint64_t granted, refused, filtered, arrived, held_back;
};

static void check_subscribe(struct mem *mem, struct list allow, struct list deny,
                            struct tally *tally)
{
    struct perms *p = compile(mem, allow, deny, 0);
    for (int f = 0; f < FILTERS; f++) {
        for (int q = 0; q < QUEUES; q++) {
            struct bytes filter = bytes_from_text(filters[f]), queue = bytes_from_text(queues[q]);
            enum perms_verdict v = perms_may_subscribe(p, filter, queue);
            int expected = grants(allow, deny, filters[f], queues[q]);
            if ((v != PERMS_DENIED) != expected)
                fail(allow, deny, "verdict", filters[f], queues[q], "");
            tally->granted += v != PERMS_DENIED;
            tally->refused += v == PERMS_DENIED;
            tally->filtered += v == PERMS_FILTERED;
            if (v == PERMS_DENIED) continue;
            for (int s = 0; s < SUBJECTS; s++) {
                if (!fits(filters[f], subjects[s])) continue;
                int is_delivered = v == PERMS_ALLOWED ||
                                   perms_may_deliver(p, bytes_from_text(subjects[s]), queue);
                if (is_delivered != arrives(allow, deny, subjects[s], queues[q]))
                    fail(allow, deny, "delivery", filters[f], queues[q], subjects[s]);
                tally->arrived += (uint64_t)is_delivered;
                tally->held_back += (uint64_t)!is_delivered;
            }
        }
    }
    perms_free(mem, p);
}

static void check_publish(struct mem *mem, struct list allow, struct list deny)
{
    for (int k = 0; k < LIST_MAX; k++) {
        if (allow.entries[k] >= 0 && pairs[allow.entries[k]].queue[0] != 0) return;
        if (deny.entries[k] >= 0 && pairs[deny.entries[k]].queue[0] != 0) return;
    }
    struct perms *p = compile(mem, allow, deny, 1);
    for (int s = 0; s < SUBJECTS + FILTERS; s++) {
        const char *subject = s < SUBJECTS ? subjects[s] : filters[s - SUBJECTS];
        int expected = (is_empty(allow) || look(allow, subject, "").plain) &&
                       !look(deny, subject, "").plain;
        if (perms_may_publish(p, bytes_from_text(subject)) != expected)
            fail(allow, deny, "publish", "", "", subject);
    }
    perms_free(mem, p);
}

int main(void)
{
    struct mem_heap heap;
    struct tally tally = {0};
    mem_heap_init(&heap);
    for (int a = -1; a < PAIRS; a++) {
        for (int b = -1; b < a || b < 0; b++) {
            for (int c = -1; c < PAIRS; c++) {
                for (int d = -1; d < c || d < 0; d++) {
                    struct list allow = {{a, b}}, deny = {{c, d}};
                    check_subscribe(&heap.mem, allow, deny, &tally);
                    check_publish(&heap.mem, allow, deny);
                }
            }
        }
    }
    printf("granted %llu, refused %llu, filtered %llu, arrived %llu, held back %llu\n",
           (unsigned long long)tally.granted, (unsigned long long)tally.refused,
           (unsigned long long)tally.filtered, (unsigned long long)tally.arrived,
           (unsigned long long)tally.held_back);
    if (heap.live_count != 0 || tally.filtered == 0 || tally.held_back == 0) return 1;
    return 0;
}
