#include "core/auth/perms.h"
#include "core/base/list.h"
#include "core/base/must.h"
#include "core/base/table.h"
#include "core/route/subject.h"

/* One entry of a list. */
struct entry {
    struct bytes subject;
    struct bytes queue; /* empty: plain; may have wildcards of its own */
    uint64_t hash;      /* of a literal subject */
};

/* A list as it is searched: literal entries by hash, wildcard entries one by one. */
struct filter_set {
    struct entry *entries;  /* literals first */
    uint32_t entry_count;
    uint32_t literal_count;
    uint32_t slot_count;    /* a power of two; 0 without literals */
    uint32_t *slots;        /* index of an entry and 1; 0: free */
    bool is_set;            /* false: the list was not given */
};

struct perms {
    struct perms_spec spec;
    struct filter_set publish_allow, publish_deny, subscribe_allow, subscribe_deny;
    size_t bytes; /* of this one allocation */
};

/* --- lists: texts to entries --- */

static bool is_blank(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Splits at blanks into at most three words; returns how many there are, 3 for more. */
static uint32_t split_words(struct bytes text, struct bytes words[3])
{
    uint32_t count = 0;
    for (size_t at = 0; at < text.len;) {
        while (at < text.len && is_blank(text.data[at])) at++;
        size_t first = at;
        while (at < text.len && !is_blank(text.data[at])) at++;
        if (at == first) break;
        if (count < 3) words[count] = bytes_of(text.data + first, at - first);
        if (++count == 3) break;
    }
    return count;
}

static enum err refuse(struct perms_fault *fault, const char *noun, struct bytes what)
{
    struct writer w;
    if (fault == NULL) return ERR_INVALID;
    writer_init(&w, fault->text, sizeof fault->text - 1);
    writer_text(&w, noun);
    writer_char(&w, ' ');
    writer_quoted(&w, what);
    writer_text(&w, " is not a valid ");
    writer_text(&w, noun);
    w.data[w.len] = 0;
    return ERR_INVALID;
}

static enum err check_entry(struct bytes text, bool allow_queue, struct perms_fault *fault)
{
    struct bytes words[3];
    if (subject_is_valid(text)) return ERR_OK;
    if (!allow_queue) return refuse(fault, "subject", text);
    if (split_words(text, words) != 2) return refuse(fault, "subject", text);
    if (!subject_is_valid(words[0])) return refuse(fault, "subject", words[0]);
    if (!subject_is_valid(words[1])) return refuse(fault, "queue", words[1]);
    return ERR_OK;
}

enum err perms_check_list(struct perms_list list, bool allow_queue, struct perms_fault *fault)
{
    for (uint32_t i = 0; i < list.count; i++) {
        enum err e = check_entry(list.entries[i], allow_queue, fault);
        if (e != ERR_OK) return e;
    }
    return ERR_OK;
}

/* --- compiling: everything lies in one block behind struct perms --- */

/* Hands out parts of the block; counts only while the block is NULL. */
struct carve {
    char *block;
    size_t used;
};

static void *carve_take(struct carve *c, size_t bytes)
{
    void *p = c->block == NULL ? NULL : c->block + c->used;
    c->used += (bytes + 7) & ~(size_t)7;
    return p;
}

static uint32_t slots_for(uint32_t literal_count)
{
    uint32_t slots = 4;
    if (literal_count == 0) return 0;
    while (slots < literal_count * 2) slots *= 2;
    return slots;
}

static bool is_literal_entry(struct bytes text)
{
    struct bytes words[3];
    return split_words(text, words) > 0 && !subject_has_wildcard(words[0]);
}

static struct perms_list carve_list(struct carve *c, struct perms_list from)
{
    struct bytes *entries = carve_take(c, from.count * sizeof *entries);
    for (uint32_t i = 0; i < from.count; i++) {
        char *text = carve_take(c, from.entries[i].len + 1);
        if (text == NULL) continue;
        memcpy(text, from.entries[i].data, from.entries[i].len);
        text[from.entries[i].len] = 0;
        entries[i] = bytes_of(text, from.entries[i].len);
    }
    return (struct perms_list){entries, from.count};
}

static void set_add_slot(struct filter_set *s, uint32_t index)
{
    uint32_t at = (uint32_t)s->entries[index].hash & (s->slot_count - 1);
    while (s->slots[at] != 0) at = (at + 1) & (s->slot_count - 1);
    s->slots[at] = index + 1;
}

/* list is the copy inside the block (or the caller's while counting). */
static void carve_set(struct carve *c, struct perms_list list, bool is_set, struct filter_set *s)
{
    uint32_t literal_count = 0;
    for (uint32_t i = 0; i < list.count; i++) literal_count += is_literal_entry(list.entries[i]);
    *s = (struct filter_set){.entry_count = list.count, .literal_count = literal_count,
                             .slot_count = slots_for(literal_count), .is_set = is_set};
    s->entries = carve_take(c, list.count * sizeof *s->entries);
    s->slots = carve_take(c, s->slot_count * sizeof *s->slots);
    if (c->block == NULL) return;

    if (s->slot_count > 0) memset(s->slots, 0, s->slot_count * sizeof *s->slots);
    uint32_t literals = 0, wildcards = literal_count;
    for (uint32_t i = 0; i < list.count; i++) {
        struct bytes words[3] = {{0}};
        split_words(list.entries[i], words);
        bool is_literal = is_literal_entry(list.entries[i]);
        uint32_t index = is_literal ? literals++ : wildcards++;
        s->entries[index] = (struct entry){.subject = words[0], .queue = words[1]};
        if (!is_literal) continue;
        s->entries[index].hash = hash_bytes(words[0].data, words[0].len, 0);
        set_add_slot(s, index);
    }
    must(literals == literal_count && wildcards == list.count);
}

static size_t carve_all(struct carve *c, const struct perms_spec *spec, struct perms *p)
{
    carve_take(c, sizeof *p);
    p->spec = *spec;
    p->spec.publish_allow = carve_list(c, spec->publish_allow);
    p->spec.publish_deny = carve_list(c, spec->publish_deny);
    p->spec.subscribe_allow = carve_list(c, spec->subscribe_allow);
    p->spec.subscribe_deny = carve_list(c, spec->subscribe_deny);
    const struct perms_spec *from = c->block == NULL ? spec : &p->spec;
    /* With responses allowed, publishing is closed but for them and what is listed. */
    carve_set(c, from->publish_allow, spec->publish_allow.count > 0 || spec->has_responses,
              &p->publish_allow);
    carve_set(c, from->publish_deny, spec->publish_deny.count > 0, &p->publish_deny);
    carve_set(c, from->subscribe_allow, spec->subscribe_allow.count > 0, &p->subscribe_allow);
    carve_set(c, from->subscribe_deny, spec->subscribe_deny.count > 0, &p->subscribe_deny);
    return c->used;
}

enum err perms_compile(struct mem *mem, const struct perms_spec *spec, struct perms **out,
                       struct perms_fault *fault)
{
    enum err e = perms_check_list(spec->publish_allow, false, fault);
    if (e == ERR_OK) e = perms_check_list(spec->publish_deny, false, fault);
    if (e == ERR_OK) e = perms_check_list(spec->subscribe_allow, true, fault);
    if (e == ERR_OK) e = perms_check_list(spec->subscribe_deny, true, fault);
    if (e != ERR_OK) return e;

    struct perms measured;
    struct carve counting = {0};
    size_t bytes = carve_all(&counting, spec, &measured);
    struct perms *p = mem_alloc(mem, MEM_CONFIG, bytes);
    if (p == NULL) return ERR_MEMORY;
    struct carve carving = {.block = (char *)p};
    must(carve_all(&carving, spec, p) == bytes);
    p->bytes = bytes;
    if (p->spec.has_responses && p->spec.responses_max == 0)
        p->spec.responses_max = PERMS_RESPONSES_MAX_DEFAULT;
    if (p->spec.has_responses && p->spec.responses_ttl_ns == 0)
        p->spec.responses_ttl_ns = PERMS_RESPONSES_TTL_DEFAULT_NS;
    *out = p;
    return ERR_OK;
}

void perms_free(struct mem *mem, struct perms *p)
{
    if (p != NULL) mem_free(mem, MEM_CONFIG, p, p->bytes);
}

const struct perms_spec *perms_spec_of(const struct perms *p)
{
    return &p->spec;
}

static bool lists_equal(struct perms_list a, struct perms_list b)
{
    if (a.count != b.count) return false;
    for (uint32_t i = 0; i < a.count; i++)
        if (!bytes_equal(a.entries[i], b.entries[i])) return false;
    return true;
}

bool perms_equal(const struct perms *a, const struct perms *b)
{
    if (a == NULL || b == NULL) return a == b;
    const struct perms_spec *x = &a->spec, *y = &b->spec;
    if (x->has_responses != y->has_responses) return false;
    if (x->has_responses && (x->responses_max != y->responses_max ||
                             x->responses_ttl_ns != y->responses_ttl_ns))
        return false;
    return lists_equal(x->publish_allow, y->publish_allow) &&
           lists_equal(x->publish_deny, y->publish_deny) &&
           lists_equal(x->subscribe_allow, y->subscribe_allow) &&
           lists_equal(x->subscribe_deny, y->subscribe_deny);
}

/* --- matching --- */

/* What of a set matches a subject. */
struct hits {
    bool has_plain;      /* an entry without a queue */
    bool has_queue;      /* an entry with some queue */
    bool is_queue_named; /* an entry whose queue covers the one asked for */
};

static bool queue_covers(struct bytes entry_queue, struct bytes queue)
{
    /* A queue group may be called "v1.*" itself, so the plain comparison comes first. */
    if (bytes_equal(entry_queue, queue)) return true;
    return subject_has_wildcard(entry_queue) && subject_is_subset(queue, entry_queue);
}

static void hits_add(struct hits *h, const struct entry *e, struct bytes queue)
{
    if (e->queue.len == 0) {
        h->has_plain = true;
        return;
    }
    h->has_queue = true;
    if (queue.len > 0 && queue_covers(e->queue, queue)) h->is_queue_named = true;
}

/* subject_matches with one difference: an empty token is a token like others, which * takes and
 * > too. A deny entry must hold for odd subjects such as "a..b" as well. */
static bool covers(struct bytes filter, struct bytes subject)
{
    struct subject_walk wf, ws;
    struct bytes f, s;
    subject_walk_init(&wf, filter);
    subject_walk_init(&ws, subject);
    while (subject_walk_next(&wf, &f)) {
        if (!subject_walk_next(&ws, &s)) return false;
        if (subject_token_is_rest(f)) return true;
        if (!subject_token_is_star(f) && !bytes_equal(f, s)) return false;
    }
    return !subject_walk_next(&ws, &s);
}

/* Tokens * and > of subject are ordinary here: only * and > of the set match them. */
static struct hits set_match(const struct filter_set *s, struct bytes subject, struct bytes queue)
{
    struct hits h = {0};
    if (s->slot_count > 0) {
        uint64_t hash = hash_bytes(subject.data, subject.len, 0);
        uint32_t at = (uint32_t)hash & (s->slot_count - 1);
        for (; s->slots[at] != 0; at = (at + 1) & (s->slot_count - 1)) {
            const struct entry *e = &s->entries[s->slots[at] - 1];
            if (e->hash == hash && bytes_equal(e->subject, subject)) hits_add(&h, e, queue);
        }
    }
    for (uint32_t i = s->literal_count; i < s->entry_count; i++)
        if (covers(s->entries[i].subject, subject)) hits_add(&h, &s->entries[i], queue);
    return h;
}

bool perms_may_publish(const struct perms *p, struct bytes subject)
{
    struct bytes none = bytes_of(NULL, 0);
    if (p == NULL) return true;
    if (p->publish_allow.is_set) {
        /* Nothing that is allowed has empty tokens. */
        if (subject_has_empty_token(subject)) return false;
        if (!set_match(&p->publish_allow, subject, none).has_plain) return false;
    }
    return !p->publish_deny.is_set || !set_match(&p->publish_deny, subject, none).has_plain;
}

/* A queue entry that matches decides for queue subscriptions, whatever plain entries say:
 * "foo" and "foo v1" together allow plain subscriptions and the queue v1 only. */
static bool is_sub_allowed(const struct perms *p, struct bytes filter, struct bytes queue)
{
    if (!p->subscribe_allow.is_set) return true;
    struct hits h = set_match(&p->subscribe_allow, filter, queue);
    return queue.len > 0 && h.has_queue ? h.is_queue_named : h.has_plain;
}

/* Not so for denies: a plain deny holds for every queue, and a queue deny adds to it. */
static bool is_denied(const struct perms *p, struct bytes subject, struct bytes queue)
{
    if (!p->subscribe_deny.is_set) return false;
    struct hits h = set_match(&p->subscribe_deny, subject, queue);
    return h.has_plain || h.is_queue_named;
}

static bool entry_concerns(const struct entry *e, struct bytes queue)
{
    return e->queue.len == 0 || (queue.len > 0 && queue_covers(e->queue, queue));
}

/* Can a message on some subject of this wildcard filter be denied? */
static bool is_deny_reachable(const struct perms *p, struct bytes filter, struct bytes queue)
{
    const struct filter_set *s = &p->subscribe_deny;
    for (uint32_t i = 0; i < s->entry_count; i++)
        if (entry_concerns(&s->entries[i], queue) &&
            subject_collides(s->entries[i].subject, filter))
            return true;
    return false;
}

/* Is every subject of the filter in the allow list? is_sub_allowed said yes, but token by token:
 * the last token > of a filter is taken by a * of an entry, which names single tokens only. */
static bool is_all_allowed(const struct perms *p, struct bytes filter, struct bytes queue)
{
    const struct filter_set *s = &p->subscribe_allow;
    if (!s->is_set) return true;
    for (uint32_t i = 0; i < s->entry_count; i++)
        if (entry_concerns(&s->entries[i], queue) &&
            subject_is_subset(filter, s->entries[i].subject))
            return true;
    return false;
}

enum perms_verdict perms_may_subscribe(const struct perms *p, struct bytes filter,
                                       struct bytes queue)
{
    if (p == NULL) return PERMS_ALLOWED;
    if (!is_sub_allowed(p, filter, queue)) return PERMS_DENIED;
    if (is_denied(p, filter, queue)) return PERMS_DENIED;
    if (!subject_has_wildcard(filter)) return PERMS_ALLOWED;
    if (is_deny_reachable(p, filter, queue)) return PERMS_FILTERED;
    return is_all_allowed(p, filter, queue) ? PERMS_ALLOWED : PERMS_FILTERED;
}

bool perms_may_deliver(const struct perms *p, struct bytes subject, struct bytes queue)
{
    if (p == NULL) return true;
    if (is_denied(p, subject, queue)) return false;
    if (!p->subscribe_allow.is_set) return true;
    /* Looser than is_sub_allowed: the SUB was granted, any entry that could have done so counts. */
    struct hits h = set_match(&p->subscribe_allow, subject, queue);
    return h.has_plain || h.is_queue_named;
}

bool perms_has_responses(const struct perms *p)
{
    return p != NULL && p->spec.has_responses;
}

/* --- reply permissions --- */

enum { REPLY_ROOM = 104 }; /* an inbox subject is some 52 bytes */

struct reply {
    struct list link; /* by time, oldest first; or in the spare list */
    uint64_t hash;
    uint64_t added_ns;
    uint64_t used_count;
    uint32_t len;
    uint32_t room;
    char subject[];
};

struct perms_replies {
    struct mem *mem;
    uint64_t seed; /* of the hashes */
    struct table by_subject;
    struct list by_age;
    struct list spare; /* of REPLY_ROOM, so that a steady flow allocates nothing */
    uint32_t spare_count;
};

enum { REPLIES_SPARE_MAX = 64 };

enum err perms_replies_open(struct mem *mem, uint64_t seed, struct perms_replies **out)
{
    struct perms_replies *r = mem_alloc_zero(mem, MEM_CONNECTION, sizeof *r);
    if (r == NULL) return ERR_MEMORY;
    r->mem = mem;
    r->seed = seed;
    table_init(&r->by_subject, mem, MEM_CONNECTION);
    list_init(&r->by_age);
    list_init(&r->spare);
    *out = r;
    return ERR_OK;
}

static void reply_free(struct perms_replies *r, struct reply *e)
{
    mem_free(r->mem, MEM_CONNECTION, e, sizeof *e + e->room);
}

static void reply_drop(struct perms_replies *r, struct reply *e)
{
    must(table_remove(&r->by_subject, e->hash, e) == ERR_OK);
    list_remove(&e->link);
    if (e->room == REPLY_ROOM && r->spare_count < REPLIES_SPARE_MAX) {
        list_push(&r->spare, &e->link);
        r->spare_count++;
    } else {
        reply_free(r, e);
    }
}

void perms_replies_close(struct perms_replies *r)
{
    struct list *link;
    if (r == NULL) return;
    while ((link = list_pop(&r->by_age)) != NULL)
        reply_free(r, LIST_OWNER(link, struct reply, link));
    while ((link = list_pop(&r->spare)) != NULL)
        reply_free(r, LIST_OWNER(link, struct reply, link));
    table_deinit(&r->by_subject);
    mem_free(r->mem, MEM_CONNECTION, r, sizeof *r);
}

static struct reply *reply_find(const struct perms_replies *r, struct bytes subject, uint64_t hash)
{
    uint32_t at;
    for (struct reply *e = table_first(&r->by_subject, hash, &at); e != NULL;
         e = table_next(&r->by_subject, hash, &at))
        if (bytes_equal(bytes_of(e->subject, e->len), subject)) return e;
    return NULL;
}

static struct reply *reply_make(struct perms_replies *r, struct bytes subject)
{
    struct list *link = subject.len <= REPLY_ROOM ? list_pop(&r->spare) : NULL;
    struct reply *e;
    if (link != NULL) {
        r->spare_count--;
        e = LIST_OWNER(link, struct reply, link);
    } else {
        uint32_t room = subject.len <= REPLY_ROOM ? REPLY_ROOM : (uint32_t)subject.len;
        e = mem_alloc(r->mem, MEM_CONNECTION, sizeof *e + room);
        if (e == NULL) return NULL;
        e->room = room;
        list_init(&e->link);
    }
    memcpy(e->subject, subject.data, subject.len);
    e->len = (uint32_t)subject.len;
    return e;
}

static bool is_expired(const struct perms *p, const struct reply *e, uint64_t now_ns)
{
    int64_t ttl_ns = p->spec.responses_ttl_ns;
    return ttl_ns > 0 && now_ns > e->added_ns && now_ns - e->added_ns > (uint64_t)ttl_ns;
}

/* All have the same time to live, so the expired ones are the oldest. */
static void replies_prune(struct perms_replies *r, const struct perms *p, uint64_t now_ns)
{
    while (!list_is_empty(&r->by_age)) {
        struct reply *oldest = LIST_OWNER(r->by_age.next, struct reply, link);
        if (!is_expired(p, oldest, now_ns) && r->by_subject.count < PERMS_REPLIES_MAX) return;
        reply_drop(r, oldest);
    }
}

enum err perms_replies_add(struct perms_replies *r, const struct perms *p, struct bytes reply,
                           uint64_t now_ns)
{
    must(perms_has_responses(p));
    if (reply.len == 0 || reply.len > PERMS_REPLY_SUBJECT_MAX) return ERR_TOO_LONG;
    uint64_t hash = hash_bytes(reply.data, reply.len, r->seed);
    struct reply *e = reply_find(r, reply, hash);
    if (e == NULL) {
        replies_prune(r, p, now_ns);
        e = reply_make(r, reply);
        if (e == NULL) return ERR_MEMORY;
        enum err error = table_insert(&r->by_subject, hash, e);
        if (error != ERR_OK) {
            reply_free(r, e);
            return error;
        }
        e->hash = hash;
    }
    e->added_ns = now_ns;
    e->used_count = 0;
    list_remove(&e->link);
    list_push(&r->by_age, &e->link);
    return ERR_OK;
}

bool perms_replies_take(struct perms_replies *r, const struct perms *p, struct bytes subject,
                        uint64_t now_ns)
{
    if (!perms_has_responses(p) || subject.len == 0) return false;
    uint64_t hash = hash_bytes(subject.data, subject.len, r->seed);
    struct reply *e = reply_find(r, subject, hash);
    if (e == NULL) return false;
    if (is_expired(p, e, now_ns)) {
        reply_drop(r, e);
        return false;
    }
    e->used_count++;
    if (p->spec.responses_max > 0 && e->used_count >= (uint64_t)p->spec.responses_max)
        reply_drop(r, e);
    return true;
}

uint32_t perms_replies_count(const struct perms_replies *r)
{
    return r->by_subject.count;
}
