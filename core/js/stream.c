#include "core/js/stream.h"
#include "core/base/duration.h"
#include "core/base/must.h"
#include "core/proto/headers.h"
#include "core/route/subject.h"

enum {
    FILE_OVERHEAD = 30,
    FILE_HEADERS_OVERHEAD = 4,
    MEMORY_OVERHEAD = 16,
    STATE_DELETED_COST = 32, /* units of core/js/sieve, of a deleted sequence that is written */
    STATE_GAP_COST = 128,    /* and of a gap of them */
    TRIM_LOOK_COST = 32,     /* and of a look at how many messages a subject has */
    FILE_RECORD_BYTES_MAX = 32 * 1024 * 1024, /* nats-server's bound of a stored message */
};

#define TTL_HEADER "Nats-TTL"
#define ROLLUP_HEADER "Nats-Rollup"
#define ID_HEADER "Nats-Msg-Id"

uint32_t stream_message_bytes(enum stream_storage storage, size_t subject, size_t headers,
                              size_t body)
{
    size_t bytes = subject + headers + body;
    if (storage == STREAM_MEMORY)
        bytes += MEMORY_OVERHEAD;
    else
        bytes += FILE_OVERHEAD + (headers > 0 ? FILE_HEADERS_OVERHEAD : 0);
    must(bytes <= STAGED_BYTES_MASK);
    return (uint32_t)bytes;
}

static uint64_t limit_of(int64_t limit)
{
    return limit > 0 ? (uint64_t)limit : 0;
}

static struct staged_limits limits_in(const struct stream_config *c)
{
    bool is_old = c->discard == STREAM_DISCARD_OLD;
    return (struct staged_limits){
        .max_msgs = is_old ? limit_of(c->max_msgs) : 0,
        .max_bytes = is_old ? limit_of(c->max_bytes) : 0,
        .max_msgs_per_subject = limit_of(c->max_msgs_per_subject),
    };
}

static struct staged_limits limits_of(const struct stream *s)
{
    return limits_in(&s->config);
}

/* --- life ------------------------------------------------------------------------------------ */

static uint32_t list_max_of(const struct stream_config *c)
{
    int64_t per = c->max_msgs_per_subject;
    return per > 0 && per <= SUBJECT_INDEX_LIST_MAX ? (uint32_t)per : 0;
}

/* The configuration and what is compiled from it. Nothing is changed on an error. */
static enum err take_config(struct stream *s, const struct stream_config *c)
{
    struct arena arena;
    struct stream_config copy;
    struct transform *transform = NULL, *republish = NULL;
    arena_init(&arena, s->mem, MEM_JETSTREAM);
    /* Twice: the first copy says how much memory the second takes. Servers have many streams. */
    enum err e = stream_config_copy(&arena, c, &copy);
    size_t bytes = arena.used_bytes;
    arena_deinit(&arena);
    if (e == ERR_OK) e = arena_reserve(&arena, bytes);
    if (e == ERR_OK) e = stream_config_copy(&arena, c, &copy);
    if (e == ERR_OK && copy.subject_transform != NULL)
        e = transform_compile(s->mem, copy.subject_transform->src, copy.subject_transform->dest,
                              TRANSFORM_PLAIN, NULL, &transform);
    if (e == ERR_OK && copy.republish != NULL)
        e = transform_compile(s->mem, copy.republish->src, copy.republish->dest, TRANSFORM_PLAIN,
                              NULL, &republish);
    if (e != ERR_OK) {
        transform_free(s->mem, transform);
        arena_deinit(&arena);
        return e;
    }
    transform_free(s->mem, s->transform);
    transform_free(s->mem, s->republish);
    arena_deinit(&s->arena);
    s->arena = arena;
    s->config = copy;
    s->transform = transform;
    s->republish = republish;
    return ERR_OK;
}

static const struct stream_watch nobody = {0};

enum err stream_init(struct stream *s, struct mem *mem, uint64_t id, uint32_t account,
                     const struct stream_config *c, int64_t created_ns, uint64_t seed)
{
    *s = (struct stream){
        .mem = mem, .id = id, .account = account, .created_ns = created_ns, .watch = &nobody};
    arena_init(&s->arena, mem, MEM_JETSTREAM);
    enum err e = take_config(s, c);
    if (e != ERR_OK) return e;
    rng_init(&s->rng, id);
    if (c->first_seq > 0) {
        s->seq_first = c->first_seq;
        s->seq_last = c->first_seq - 1;
    }
    msgs_init(&s->msgs, mem);
    subject_index_init(&s->subjects, mem, list_max_of(c));
    dedupe_init(&s->dedupe, mem, seed, c->duplicate_window, DEDUPE_ENTRIES_MAX);
    msg_ttl_init(&s->ttl, mem);
    due_init(&s->due, mem);
    staged_init(&s->staged, mem);
    staged_reset(&s->staged, 0, 0, s->seq_last);
    return ERR_OK;
}

struct stream_rollup {
    struct stream_purge purge;
    size_t bytes;
    char subject[]; /* its filter */
};

static void end_rollup(struct stream *s)
{
    if (s->rollup == NULL) return;
    stream_purge_end(&s->rollup->purge);
    mem_free(s->mem, MEM_JETSTREAM, s->rollup, sizeof *s->rollup + s->rollup->bytes);
    s->rollup = NULL;
}

void stream_deinit(struct stream *s)
{
    quota_bytes_give_back(s->account_bytes, s->bytes);
    quota_bytes_give_back(s->server_bytes, s->bytes);
    end_rollup(s);
    staged_deinit(&s->staged);
    msg_ttl_clear(&s->ttl);
    dedupe_clear(&s->dedupe);
    subject_index_clear(&s->subjects);
    msgs_clear(&s->msgs);
    due_clear(&s->due);
    mem_free(s->mem, MEM_JETSTREAM, s->last_id, s->last_id_room);
    transform_free(s->mem, s->transform);
    transform_free(s->mem, s->republish);
    lost_free(s->lost);
    arena_deinit(&s->arena);
}

/* --- the durable state ----------------------------------------------------------------------- */

bool stream_remove(struct stream *s, uint64_t seq)
{
    struct msgs_entry entry;
    bool was_first = seq == s->seq_first;
    if (msgs_remove(&s->msgs, seq, &entry) != ERR_OK) return false;
    uint32_t bytes = entry.bytes & STAGED_BYTES_MASK;
    must(s->bytes >= bytes);
    s->bytes -= bytes;
    quota_bytes_give_back(s->account_bytes, bytes);
    quota_bytes_give_back(s->server_bytes, bytes);
    if (s->watch->removed != NULL) s->watch->removed(s->watch_context, seq, &entry);
    staged_removed(&s->staged, seq, entry.node, bytes);
    /* A message in flight has a claim on its subject's number, so that stands. */
    (void)subject_index_remove(&s->subjects, entry.node, seq);
    if (s->msgs.live_count == 0)
        s->seq_first = s->seq_last + 1;
    else if (was_first)
        s->seq_first = msgs_next(&s->msgs, seq);
    return true;
}

static bool has_markers(const struct stream *s)
{
    return s->config.subject_delete_marker_ttl > 0;
}

static bool is_over(const struct stream *s)
{
    struct staged_limits l = limits_of(s);
    return s->msgs.live_count > 0 && ((l.max_msgs != 0 && s->msgs.live_count > l.max_msgs) ||
                                      (l.max_bytes != 0 && s->bytes > l.max_bytes));
}

/* There is one. From where it was last: the head of a block may be thousands that are gone. */
static uint64_t first_live(const struct stream *s)
{
    uint64_t first = msgs_next(&s->msgs, s->seq_first);
    return LIKELY(first != 0) ? first : msgs_first(&s->msgs);
}

/* With messages missing, a limit per subject takes others than it took, and what was over and not
 * the last of its subject is there: what then goes by the limits of the whole was not to go. They
 * wait for the last record. */
static bool is_limit_early(const struct stream *s)
{
    bool has_others = s->config.max_msgs_per_subject > 0 || s->config.subject_delete_marker_ttl > 0;
    return s->is_partial && has_others && s->msgs.live_count <= s->partial_most;
}

static void enforce_now(struct stream *s)
{
    while (is_over(s)) (void)stream_remove(s, first_live(s));
}

static void enforce(struct stream *s)
{
    if (UNLIKELY(is_limit_early(s))) return;
    enforce_now(s);
}

static void trim_subject(struct stream *s, uint32_t node, uint64_t count_max)
{
    while (subject_index_node(&s->subjects, node)->count > count_max)
        (void)stream_remove(s, subject_index_first(&s->subjects, &s->msgs, node));
}

/* A rollup of a subject with wildcards is a purge by filter, which keeps the rollup: it is newest.
 */
static void trim_matching(struct stream *s, uint32_t node)
{
    char name[SUBJECT_INDEX_BYTES_MAX]; /* the index moves its keys when others leave it */
    struct bytes subject = subject_index_subject(&s->subjects, node);
    uint64_t count;
    memcpy(name, subject.data, subject.len);
    stream_purge(s, bytes_of(name, subject.len), 0, 1, &count);
}

/* A message of this subject becomes part of the stream; the subject has its number. */
static enum err apply_message(struct stream *s, const struct staged_op *op)
{
    struct msgs_entry entry = {.place = op->place, .time_ns = op->time_ns};
    entry.bytes = op->bytes;
    entry.node = op->node;
    if (op->deadline_ns != 0) {
        enum err e = msg_ttl_reserve(&s->ttl, &s->msgs, 1);
        if (e != ERR_OK) return e;
    }
    enum err e = msgs_append(&s->msgs, op->seq, &entry);
    if (e != ERR_OK) return e;
    if (op->deadline_ns != 0)
        must(msg_ttl_add(&s->ttl, &s->msgs, op->seq, op->deadline_ns) == ERR_OK);
    if (s->msgs.live_count == 1) s->seq_first = op->seq;
    subject_index_add(&s->subjects, op->node, op->seq);
    s->bytes += op->bytes & STAGED_BYTES_MASK;
    quota_bytes_use(s->account_bytes, op->bytes & STAGED_BYTES_MASK);
    quota_bytes_use(s->server_bytes, op->bytes & STAGED_BYTES_MASK);
    s->seq_last = op->seq;
    s->time_last_ns = op->time_ns;
    return ERR_OK;
}

bool stream_keeps_last(const struct stream *s, const struct staged_op *op)
{
    return (op->flags & STAGED_ROLLUP_ALL) != 0 && s->watch->cleared != NULL &&
           op->deadline_ns == 0;
}

/* All but the message that was stored last go, without a look at any of them: it is put into
 * indexes of its own, which take the place of the others. False: no memory for those, or other
 * messages are in flight that count on numbers of subjects. */
static bool keep_last(struct stream *s, const struct staged_op *op)
{
    struct msgs_entry entry = {
        .place = op->place, .time_ns = op->time_ns, .bytes = op->bytes, .node = op->node};
    struct subject_index subjects;
    struct msgs msgs;
    bool is_new;
    if (s->staged.op_count > 0) return false;
    struct bytes subject = subject_index_subject(&s->subjects, op->node);
    subject_index_init(&subjects, s->mem, s->subjects.list_max);
    msgs_init(&msgs, s->mem);
    if (subject_index_intern(&subjects, subject, &entry.node, &is_new) != ERR_OK ||
        msgs_append(&msgs, op->seq, &entry) != ERR_OK) {
        subject_index_clear(&subjects);
        msgs_clear(&msgs);
        return false;
    }
    subject_index_add(&subjects, entry.node, op->seq);
    subjects.renewals = s->subjects.renewals + 1;
    subject_index_clear(&s->subjects);
    msgs_clear(&s->msgs);
    msg_ttl_clear(&s->ttl);
    s->subjects = subjects;
    s->msgs = msgs;
    uint64_t bytes = s->bytes - (op->bytes & STAGED_BYTES_MASK);
    quota_bytes_give_back(s->account_bytes, bytes);
    quota_bytes_give_back(s->server_bytes, bytes);
    s->bytes -= bytes;
    s->seq_first = op->seq;
    s->watch->cleared(s->watch_context);
    return true;
}

static void rest(struct stream *s)
{
    if (s->staged.op_count > 0) return;
    staged_reset(&s->staged, s->msgs.live_count, s->bytes, s->seq_last);
    staged_shrink(&s->staged);
    due_again(&s->due);
}

/* What the rollup removes goes by pieces, while nothing is published: its order is in flight until
 * then. False: it goes at once, at a start or without memory. */
static bool begin_rollup(struct stream *s, const struct staged_op *op)
{
    bool is_large = (op->flags & (STAGED_ROLLUP_LARGE | STAGED_ROLLUP_MATCHING)) != 0;
    if (!is_large || !s->is_order_message || s->watch->rolling == NULL) return false;
    struct bytes subject = BYTES_LITERAL("");
    if ((op->flags & STAGED_ROLLUP_ALL) == 0)
        subject = subject_index_subject(&s->subjects, op->node);
    struct stream_rollup *r = mem_alloc(s->mem, MEM_JETSTREAM, sizeof *r + subject.len);
    if (r == NULL) return false;
    r->bytes = subject.len;
    if (subject.len > 0) memcpy(r->subject, subject.data, subject.len);
    stream_purge_begin(s, &r->purge, bytes_of(r->subject, subject.len), op->seq, 0);
    s->rollup = r;
    if (!stream_purge_step(s, &r->purge)) {
        end_rollup(s);
        enforce(s);
        return true;
    }
    /* A ticket of memory says nothing to who waits for the file store: one long durable. */
    if (s->config.storage == STREAM_MEMORY) s->order_ticket = STREAM_TICKET_FIRST;
    s->watch->rolling(s->watch_context);
    return true;
}

bool stream_rollup_step(struct stream *s)
{
    if (s->rollup == NULL) return false;
    if (stream_purge_step(s, &s->rollup->purge)) return true;
    end_rollup(s);
    enforce(s);
    rest(s);
    s->order_ticket = 0;
    s->is_order_message = false;
    return false;
}

static void apply_evictions(struct stream *s, const struct staged_op *op)
{
    /* One that is over and waits for a marker goes for it. */
    if (subject_index_node(&s->subjects, op->node)->waits)
        (void)stream_remove(s, subject_index_first(&s->subjects, &s->msgs, op->node));
    bool is_large = s->msgs.live_count > STREAM_PURGE_BATCH && stream_keeps_last(s, op);
    if (s->watch->stored != NULL) s->watch->stored(s->watch_context, op->seq, op->node);
    if ((is_large && keep_last(s, op)) || begin_rollup(s, op)) return;
    if ((op->flags & STAGED_ROLLUP_MATCHING) != 0) trim_matching(s, op->node);
    uint64_t per_subject = limit_of(s->config.max_msgs_per_subject);
    if ((op->flags & STAGED_ROLLUP) != 0) per_subject = 1;
    if (per_subject != 0) trim_subject(s, op->node, per_subject);
    if ((op->flags & STAGED_ROLLUP_ALL) != 0)
        while (s->msgs.live_count > 1) (void)stream_remove(s, first_live(s));
    enforce(s);
}

static void expire_before(struct stream *s, int64_t time_ns);
static enum err look_again(struct stream *s);

static void apply_skip(struct stream *s, const struct staged_op *op)
{
    s->seq_last = op->seq;
    s->time_last_ns = op->time_ns;
    if (s->msgs.live_count == 0) s->seq_first = op->seq + 1;
}

/* At a start the limits take what is there when all of an order before has gone, and who starts at
 * the last message finds that of then. What they take nothing for does not wait: it was answered,
 * and is looked for. */
static bool is_behind_sweep(const struct stream *s, const struct staged_op *op)
{
    if (LIKELY(s->sweep_ticket == 0) || op->ticket <= s->sweep_ticket) return false;
    if (s->start_ticket != 0 && op->ticket > s->start_ticket) return true;
    struct staged_limits l = limits_of(s);
    uint64_t of_subject =
        (op->flags & STAGED_SKIP) != 0 ? 0 : subject_index_node(&s->subjects, op->node)->count;
    return (l.max_msgs != 0 && s->msgs.live_count >= l.max_msgs) ||
           (l.max_bytes != 0 && s->bytes + (op->bytes & STAGED_BYTES_MASK) > l.max_bytes) ||
           (l.max_msgs_per_subject != 0 && of_subject >= l.max_msgs_per_subject);
}

enum err stream_settle(struct stream *s, uint64_t ticket)
{
    while (s->staged.op_count > 0) {
        const struct staged_op *head = &s->staged.ops[s->staged.op_head];
        if (head->ticket > ticket) break;
        if (is_behind_sweep(s, head)) return ERR_BUSY;
        expire_before(s, head->time_ns);
        struct staged_op op = *head;
        if ((op.flags & STAGED_SKIP) == 0) {
            enum err e = apply_message(s, &op);
            s->is_short = e != ERR_OK;
            if (e != ERR_OK) return e;
        } else {
            apply_skip(s, &op);
        }
        struct staged_op popped;
        must(staged_pop(&s->staged, &popped));
        if ((op.flags & STAGED_SKIP) == 0) apply_evictions(s, &popped);
    }
    rest(s);
    if (s->is_order_message && s->order_ticket <= ticket && s->rollup == NULL) {
        s->order_ticket = 0;
        s->is_order_message = false;
    }
    return ERR_OK;
}

void stream_unstage(struct stream *s, uint64_t ticket)
{
    struct staged_limits l = limits_of(s);
    uint64_t seq_dropped;
    staged_unstage(&s->staged, ticket, &s->subjects, &s->msgs, s->bytes, &l, &seq_dropped);
    if (seq_dropped != 0) {
        dedupe_drop_from(&s->dedupe, seq_dropped);
        /* Whose id is last is known by its record only: until the next message there is none. */
        s->last_id_len = 0;
    }
    /* Another order is over when who staged it says so: it may be at work without a record. */
    if (s->is_order_message && s->order_ticket >= ticket && s->rollup == NULL) {
        s->order_ticket = 0;
        s->is_order_message = false;
    }
    rest(s);
}

void stream_stage_order(struct stream *s, uint64_t ticket)
{
    must(s->order_ticket == 0);
    s->order_ticket = ticket;
}

/* --- removal by request ---------------------------------------------------------------------- */

/* Everything goes, without a look at any of it. */
static uint64_t clear(struct stream *s)
{
    uint64_t count = s->msgs.live_count;
    must(s->staged.op_count == 0);
    quota_bytes_give_back(s->account_bytes, s->bytes);
    quota_bytes_give_back(s->server_bytes, s->bytes);
    s->bytes = 0;
    msgs_clear(&s->msgs);
    subject_index_purge(&s->subjects);
    msg_ttl_clear(&s->ttl);
    s->seq_first = s->seq_last + 1;
    s->watch->cleared(s->watch_context);
    rest(s);
    return count;
}

/* The sequence behind the last one that goes, when so many go of all there are: halves the range
 * until it holds as many. */
static uint64_t end_for_keep(const struct stream *s, uint64_t end, uint64_t count)
{
    uint64_t low = s->seq_first, high = end;
    while (low < high) {
        uint64_t middle = low + (high - low) / 2;
        if (msgs_count(&s->msgs, 0, middle) < count)
            low = middle + 1;
        else
            high = middle;
    }
    return count == 0 ? 0 : low < end ? low + 1 : end;
}

void stream_purge_begin(struct stream *s, struct stream_purge *p, struct bytes filter, uint64_t seq,
                        uint64_t keep)
{
    bool is_all = filter.len == 0 || bytes_equal(filter, BYTES_LITERAL(">"));
    *p = (struct stream_purge){.filter = is_all ? BYTES_LITERAL("") : filter};
    sieve_init(&p->sieve, s->mem, &s->msgs, &s->subjects, &p->filter, 1);
    p->at = s->seq_first == 0 ? 1 : s->seq_first;
    if (seq == 1) return;
    p->end = seq != 0 && seq <= s->seq_last ? seq : s->seq_last + 1;
    if (is_all && keep == 0) p->seq_next = seq == 0 ? p->end : seq;
    uint64_t live = s->msgs.live_count;
    if (is_all && keep > 0) p->end = end_for_keep(s, p->end, live > keep ? live - keep : 0);
    if (is_all || keep == 0) return;
    p->keep = keep;
    p->before = s->seq_last;
}

/* The last message at or below seq that the filter selects. */
static uint64_t prev_selected(struct stream *s, struct stream_purge *p, uint64_t seq,
                              uint32_t *left, uint64_t *resume)
{
    if (subject_has_wildcard(p->filter)) return sieve_prev(&p->sieve, seq, left, resume);
    uint32_t node = subject_index_find(&s->subjects, p->filter);
    *resume = 0;
    *left -= *left < SIEVE_WALK ? *left : SIEVE_WALK;
    if (node == MSGS_NODE_NONE || seq == 0) return 0;
    return subject_index_last_within(&s->subjects, &s->msgs, node, seq, left, resume);
}

/* Goes back over those that are kept; where the last of them lies what goes ends. What is removed
 * by another way meanwhile is made up for by an older one. True: there is more. */
static bool pass_kept(struct stream *s, struct stream_purge *p, uint32_t *left)
{
    while (p->keep > 0) {
        uint64_t resume = p->before;
        uint64_t seq = *left > 0 ? prev_selected(s, p, p->before, left, &resume) : 0;
        if (seq == 0 && resume != 0) {
            p->before = resume;
            *left = 0;
            return true;
        }
        p->before = seq > 0 ? seq - 1 : 0;
        p->keep = seq > 0 ? p->keep - 1 : 0;
        if (p->keep == 0 && seq < p->end) p->end = seq;
    }
    return false;
}

bool stream_purge_find_end(struct stream *s, struct stream_purge *p)
{
    uint32_t left = SIEVE_STEP;
    return pass_kept(s, p, &left);
}

/* The next one that goes at or above p->at; 0: none, or not found yet with *resume. */
static uint64_t next_to_purge(struct stream *s, struct stream_purge *p, uint32_t *left,
                              uint64_t *resume)
{
    *resume = 0;
    if (p->at >= p->end) return 0;
    if (p->filter.len == 0) {
        uint64_t seq = msgs_next(&s->msgs, p->at);
        return seq < p->end ? seq : 0;
    }
    if (!subject_has_wildcard(p->filter)) {
        uint32_t node = subject_index_find(&s->subjects, p->filter);
        if (node == MSGS_NODE_NONE) return 0;
        uint64_t seq = subject_index_next_within(&s->subjects, &s->msgs, node, p->at, left, resume);
        if (*resume >= p->end) *resume = 0;
        return seq < p->end ? seq : 0;
    }
    return sieve_next(&p->sieve, p->at, p->end - 1, left, resume);
}

bool stream_purge_step(struct stream *s, struct stream_purge *p)
{
    uint32_t left = SIEVE_STEP, batch = STREAM_PURGE_BATCH;
    uint64_t resume = 0;
    bool is_whole = p->filter.len == 0 && p->end > s->seq_last && p->end > 0;
    if (is_whole && s->watch->cleared != NULL && s->staged.op_count == 0) {
        p->count += clear(s);
        p->at = p->end;
    }
    if (pass_kept(s, p, &left)) return true;
    while (left > 0) {
        uint64_t seq = next_to_purge(s, p, &left, &resume);
        if (seq == 0) break;
        if (batch == 0) return true;
        if (p->is_quiet)
            batch--;
        else
            stream_batch_spend(s, &batch);
        (void)stream_remove(s, seq);
        p->count++;
        p->at = seq + 1;
    }
    if (resume != 0) p->at = resume;
    if (resume != 0 || (left == 0 && p->at < p->end)) return true;
    if (p->seq_next > s->seq_last) {
        s->seq_first = p->seq_next;
        s->seq_last = p->seq_next - 1;
    }
    rest(s);
    return false;
}

bool stream_purge_left(struct stream *s, struct stream_purge *p, uint64_t *first)
{
    uint32_t left = SIEVE_STEP;
    uint64_t resume = 0;
    *first = s->seq_first;
    if (p->filter.len == 0) return false;
    *first = 0;
    if (!subject_is_valid(p->filter)) return false;
    if (!p->is_done) p->at = p->end > 0 ? p->end : 1;
    p->is_done = true;
    p->end = UINT64_MAX;
    *first = next_to_purge(s, p, &left, &resume);
    if (*first == 0 && resume != 0) {
        p->at = resume;
        return true;
    }
    if (*first == 0) *first = s->seq_last + 1;
    return false;
}

void stream_purge_end(struct stream_purge *p)
{
    sieve_deinit(&p->sieve);
}

void stream_purge(struct stream *s, struct bytes filter, uint64_t seq, uint64_t keep,
                  uint64_t *count)
{
    struct stream_purge p;
    stream_purge_begin(s, &p, filter, seq, keep);
    while (stream_purge_step(s, &p)) continue;
    *count = p.count;
    stream_purge_end(&p);
}

static bool is_raised(uint64_t before, uint64_t limit)
{
    return before != 0 && (limit == 0 || limit > before);
}

/* What a limit took does not come back with a higher one: that is not waited for. */
static void enforce_before(struct stream *s, const struct stream_config *c)
{
    struct staged_limits before = limits_of(s), l = limits_in(c);
    bool is_higher =
        is_raised(before.max_msgs, l.max_msgs) || is_raised(before.max_bytes, l.max_bytes);
    if (s->is_partial && is_higher) enforce_now(s);
}

enum err stream_update(struct stream *s, const struct stream_config *c)
{
    uint32_t list_before = list_max_of(&s->config);
    enforce_before(s, c);
    enum err e = look_again(s); /* it may not be over any more */
    if (e == ERR_OK) e = take_config(s, c);
    if (e != ERR_OK) return e;
    dedupe_set_window(&s->dedupe, c->duplicate_window, s->clock_ns);
    if (list_max_of(&s->config) != list_before)
        subject_index_list_begin(&s->subjects, list_max_of(&s->config));
    rest(s);
    return ERR_OK;
}

/* False: a piece is done. */
static bool trim_subjects(struct stream *s, uint32_t *node, uint32_t *batch)
{
    uint64_t max = limit_of(s->config.max_msgs_per_subject), left = SIEVE_STEP;
    struct subject_index *x = &s->subjects;
    for (; max > 0 && *node < x->node_end; ++*node) {
        if (left < TRIM_LOOK_COST) return false;
        left -= TRIM_LOOK_COST;
        if (!subject_index_is_used(x, *node)) continue;
        while (subject_index_node(x, *node)->count > max) {
            if (*batch == 0) return false;
            stream_batch_spend(s, batch);
            /* It may lie far behind the one before. */
            uint64_t bound = subject_index_node(x, *node)->first;
            uint64_t seq = subject_index_first(x, &s->msgs, *node);
            if (seq - bound >= left) *batch = 0;
            left -= seq - bound < left ? seq - bound : left;
            (void)stream_remove(s, seq);
        }
    }
    return true;
}

bool stream_trim(struct stream *s, struct stream_trim *t)
{
    uint32_t batch = STREAM_PURGE_BATCH, left = SIEVE_STEP;
    if (subject_index_list_step(&s->subjects, &s->msgs, &t->listing, &left)) return true;
    if (!trim_subjects(s, &t->node, &batch)) return true;
    while (is_over(s) && !is_limit_early(s)) {
        if (batch == 0) return true;
        stream_batch_spend(s, &batch);
        (void)stream_remove(s, first_live(s));
    }
    rest(s);
    return false;
}

/* --- life times ------------------------------------------------------------------------------ */

/* Removed when it ended, by age or by a life of its own (until deadline_ns, else 0); the last one
 * of its subject stays until its marker takes its place. Of a start without all messages it is not
 * known to be that: then it goes as well, if its marker was made that comes next. By age it does
 * not go, since a later configuration may let it be, and what is gone without a record would be
 * back; unless it is in the way of others at the end. False: nothing happened, there is no memory
 * for what waits. */
static bool end_message(struct stream *s, uint64_t seq, const struct msgs_entry *entry,
                        int64_t deadline_ns)
{
    const struct subject_node *n = subject_index_node(&s->subjects, entry->node);
    bool is_last_known = !s->is_partial || (deadline_ns == 0 && !s->is_crowded);
    bool is_marked = has_markers(s) && (entry->bytes & STREAM_ENTRY_MARKER) == 0 && is_last_known;
    if (!is_marked || n->count > 1) return stream_remove(s, seq);
    if (n->waits && deadline_ns == 0) return true;
    /* It may be in there by age: a later configuration may have none, then this stands. */
    if (due_reserve(&s->due) != ERR_OK) return false;
    due_add(&s->due, seq, deadline_ns);
    subject_index_set_waits(&s->subjects, entry->node, true);
    return true;
}

/* The next one whose own life is over. False: as end_message. */
static bool end_life(struct stream *s)
{
    struct msg_ttl_entry x = s->ttl.entries[0];
    struct msgs_entry entry;
    bool is_there = msgs_get(&s->msgs, x.seq, &entry) == ERR_OK;
    if (is_there && !end_message(s, x.seq, &entry, x.deadline_ns)) return false;
    must(msg_ttl_pop(&s->ttl, x.deadline_ns) == x.seq);
    return true;
}

static bool end_age(struct stream *s, uint64_t seq, const struct msgs_entry *entry)
{
    if ((entry->bytes & STREAM_ENTRY_NEVER) == 0 && !end_message(s, seq, entry, 0)) return false;
    s->age_floor = seq + 1;
    return true;
}

/* True: there is more. False as well when there is no memory for what waits: later. */
static bool expire_in_order(struct stream *s, int64_t now_ns)
{
    int64_t age = s->config.max_age;
    for (uint32_t batch = STREAM_EXPIRE_BATCH;; stream_batch_spend(s, &batch)) {
        struct msgs_entry entry;
        bool has_life = s->ttl.count > 0 && msg_ttl_next_ns(&s->ttl) <= now_ns;
        int64_t until_ns = has_life ? msg_ttl_next_ns(&s->ttl) : now_ns;
        uint64_t seq = age > 0 ? msgs_next_entry(&s->msgs, s->age_floor, &entry) : 0;
        if (seq != 0) s->age_floor = seq;
        bool is_aged = seq != 0 && entry.time_ns <= until_ns - age;
        if (!is_aged && !has_life) return false;
        if (batch == 0) return true;
        if (is_aged ? !end_age(s, seq, &entry) : !end_life(s)) return false;
    }
}

/* What waits for its marker is found again, by what the configuration then says: some 50 ns each.
 * ERR_MEMORY: nothing changed. */
static enum err look_again(struct stream *s)
{
    struct due *d = &s->due;
    struct msgs_entry entry;
    uint32_t life_count = 0;
    for (uint32_t i = d->first; i < d->end; i++) life_count += d->entries[i].deadline_ns != 0;
    enum err e = life_count == 0 ? ERR_OK : msg_ttl_reserve(&s->ttl, &s->msgs, life_count);
    if (e != ERR_OK) return e;
    for (uint32_t i = d->first; i < d->end; i++) {
        const struct msg_ttl_entry *x = &d->entries[i];
        if (msgs_get(&s->msgs, x->seq, &entry) != ERR_OK) continue;
        subject_index_set_waits(&s->subjects, entry.node, false);
        if (x->deadline_ns != 0)
            must(msg_ttl_add(&s->ttl, &s->msgs, x->seq, x->deadline_ns) == ERR_OK);
    }
    due_clear(d);
    s->age_floor = 0;
    return ERR_OK;
}

/* Publishes with ids forget older ones; here the last ones go when no more of them come. */
static bool forget_ids(struct stream *s, int64_t now_ns)
{
    return now_ns >= dedupe_end_ns(&s->dedupe) &&
           dedupe_expire(&s->dedupe, now_ns, STREAM_EXPIRE_BATCH);
}

static bool expire_batch(struct stream *s, int64_t now_ns)
{
    bool has_more = expire_in_order(s, now_ns);
    rest(s);
    return has_more;
}

bool stream_expire_until(struct stream *s, int64_t time_ns)
{
    if (time_ns > s->clock_ns) s->clock_ns = time_ns;
    return expire_batch(s, time_ns);
}

/* Before a record does what it does: what is too old by age is older than the rest, and limits take
 * it first, there or not. Not so where messages have lives of their own, or stay for ever, or wait
 * for markers: then all that is over has gone before. */
static bool needs_all(const struct stream *s)
{
    return s->config.allow_msg_ttl;
}

static void expire_before(struct stream *s, int64_t time_ns)
{
    (void)forget_ids(s, time_ns);
    while (stream_expire_until(s, time_ns) && needs_all(s)) continue;
}

bool stream_expire(struct stream *s, int64_t now_ns)
{
    if (now_ns > s->clock_ns) s->clock_ns = now_ns;
    bool has_more = forget_ids(s, now_ns);
    /* Records in flight come before what goes after their time: so it is at a start. One that finds
     * no memory may need what is given back here. */
    if (s->config.storage == STREAM_FILE && !s->is_short) {
        if (s->order_ticket != 0) return has_more;
        int64_t head_ns = staged_time_ns(&s->staged);
        if (head_ns < now_ns) now_ns = head_ns;
    }
    return expire_batch(s, now_ns) || has_more;
}

bool stream_is_overdue(const struct stream *s, int64_t now_ns)
{
    return msg_ttl_is_due(&s->ttl, now_ns, STREAM_EXPIRE_BATCH);
}

bool stream_expire_ahead(struct stream *s, int64_t now_ns)
{
    bool has_more = stream_expire(s, now_ns);
    /* Behind what is in flight. If nothing is, there was no memory for what waits. */
    bool is_overdue = s->staged.op_count > 0 && stream_is_overdue(s, now_ns);
    return !is_overdue && !(has_more && needs_all(s));
}

int64_t stream_expire_next_ns(const struct stream *s)
{
    if (due_count(&s->due) > 0) return 0;
    int64_t next = msg_ttl_next_ns(&s->ttl), of_ids = dedupe_end_ns(&s->dedupe);
    if (of_ids < next) next = of_ids;
    if (s->config.max_age > 0) {
        struct msgs_entry entry;
        uint64_t seq = msgs_next(&s->msgs, s->age_floor);
        int64_t end_ns;
        if (seq != 0 && msgs_get(&s->msgs, seq, &entry) == ERR_OK &&
            !__builtin_add_overflow(entry.time_ns, s->config.max_age, &end_ns) && end_ns < next)
            next = end_ns;
    }
    return next;
}

/* --- in flight ------------------------------------------------------------------------------- */

enum err stream_hold_id(struct stream *s, size_t id_bytes)
{
    if (id_bytes > STREAM_LAST_ID_BYTES || id_bytes <= s->last_id_room) return ERR_OK;
    char *grown = mem_resize(s->mem, MEM_JETSTREAM, s->last_id, s->last_id_room, id_bytes);
    if (grown == NULL) return ERR_MEMORY;
    s->last_id = grown;
    s->last_id_room = (uint32_t)id_bytes;
    return ERR_OK;
}

/* Room was made; one that is too long is not remembered. */
static void set_last_id(struct stream *s, struct bytes id)
{
    s->last_id_len = id.len <= s->last_id_room ? (uint32_t)id.len : 0;
    if (s->last_id_len > 0) memcpy(s->last_id, id.data, id.len);
}

void stream_stage(struct stream *s, const struct stream_outcome *o, uint64_t ticket, uint64_t place)
{
    must(o->verdict == STREAM_STORE);
    struct staged_op op = o->op;
    struct staged_limits l = limits_of(s);
    op.ticket = ticket;
    op.place = place;
    s->clock_ns = op.time_ns;
    staged_push(&s->staged, &op, &s->subjects, &s->msgs, &l);
    /* What it leaves is not worked out ahead: as with a purge, later publishes wait. */
    if ((op.flags & (STAGED_ROLLUP_MATCHING | STAGED_ROLLUP_LARGE)) != 0) {
        stream_stage_order(s, ticket);
        s->is_order_message = true;
    }

    struct bytes id = BYTES_LITERAL("");
    (void)headers_find(o->record.headers, BYTES_LITERAL(ID_HEADER), &id);
    set_last_id(s, id);
}

void stream_cancel(struct stream *s, const struct stream_outcome *o)
{
    must(o->verdict == STREAM_STORE);
    dedupe_drop_from(&s->dedupe, o->op.seq);
    if ((o->op.flags & STAGED_SKIP) == 0) subject_index_drop(&s->subjects, o->op.node);
}

/* --- replay ---------------------------------------------------------------------------------- */

bool stream_parse_ttl(struct bytes value, int64_t *seconds)
{
    *seconds = 0;
    if (value.len == 0) return true;
    if (bytes_equal_nocase(value, BYTES_LITERAL("never"))) {
        *seconds = -1;
        return true;
    }
    int64_t ns;
    if (duration_parse(value, &ns, NULL) == ERR_OK) {
        *seconds = ns / JS_SECOND;
        return ns >= JS_SECOND;
    }
    uint64_t number;
    if (bytes_to_u64(value, 18, &number) != ERR_OK) return false;
    *seconds = (int64_t)number;
    return true;
}

/* What the stream keeps of a message beside its place. The headers are as they are stored. */
static void describe(const struct stream *s, const struct record *r, struct staged_op *op)
{
    struct bytes value;
    int64_t seconds = 0;
    *op = (struct staged_op){.seq = r->seq, .time_ns = r->time_ns};
    op->bytes =
        stream_message_bytes(s->config.storage, r->subject.len, r->headers.len, r->body.len);
    if (r->headers.len == 0) return;
    if (headers_find(r->headers, BYTES_LITERAL(TTL_HEADER), &value))
        (void)stream_parse_ttl(value, &seconds);
    if (seconds < 0) op->bytes |= STREAM_ENTRY_NEVER;
    if (seconds > 0 && s->config.allow_msg_ttl)
        op->deadline_ns =
            seconds > INT64_MAX / JS_SECOND / 4 ? INT64_MAX : r->time_ns + seconds * JS_SECOND;
    if (headers_find(r->headers, BYTES_LITERAL("Nats-Marker-Reason"), &value) ||
        (headers_find(r->headers, BYTES_LITERAL("KV-Operation"), &value) &&
         bytes_equal(value, BYTES_LITERAL("PURGE"))))
        op->bytes |= STREAM_ENTRY_MARKER;
    if (s->config.allow_rollup_hdrs && !s->config.deny_purge &&
        headers_find(r->headers, BYTES_LITERAL(ROLLUP_HEADER), &value) && value.len == 3)
        op->flags |= bytes_equal_nocase(value, BYTES_LITERAL("sub"))   ? STAGED_ROLLUP
                     : bytes_equal_nocase(value, BYTES_LITERAL("all")) ? STAGED_ROLLUP_ALL
                                                                       : 0;
    if ((op->flags & STAGED_ROLLUP) != 0 && subject_has_wildcard(r->subject))
        op->flags |= STAGED_ROLLUP_MATCHING;
}

void stream_describe(const struct stream *s, const struct record *r, struct staged_op *op)
{
    describe(s, r, op);
    if (r->kind == RECORD_SKIP) op->flags |= STAGED_SKIP;
}

static enum err append_replayed(struct stream *s, struct bytes subject, struct staged_op *op)
{
    bool is_new;
    enum err e = subject_index_intern(&s->subjects, subject, &op->node, &is_new);
    if (e != ERR_OK) return e;
    e = apply_message(s, op);
    if (e != ERR_OK) subject_index_drop(&s->subjects, op->node);
    return e;
}

static enum err replay_message(struct stream *s, const struct record *r, uint64_t place)
{
    struct staged_op op;
    struct bytes id;
    expire_before(s, r->time_ns);
    stream_describe(s, r, &op);
    op.place = place;
    if (headers_find(r->headers, BYTES_LITERAL(ID_HEADER), &id) && id.len > 0) {
        struct hash128 hash = dedupe_hash(&s->dedupe, id);
        (void)dedupe_expire(&s->dedupe, r->time_ns, 16);
#ifdef MILLRACE_BREAK_MESSAGE_IDS_FORGOTTEN
        hash.low = hash.high = 0;
#endif
        /* It was stored: an earlier one of this id was forgotten by then. */
        if (dedupe_find(&s->dedupe, hash, r->time_ns) < r->seq) {
            enum err e = dedupe_add(&s->dedupe, hash, r->seq, r->time_ns);
            if (e != ERR_OK) return e;
        }
        enum err e = stream_hold_id(s, id.len);
        if (e != ERR_OK) return e;
        set_last_id(s, id);
    } else {
        s->last_id_len = 0;
    }
    if (r->kind == RECORD_SKIP) {
        apply_skip(s, &op);
        rest(s);
        return ERR_OK;
    }
    enum err e = append_replayed(s, r->subject, &op);
    if (e == ERR_MEMORY && is_limit_early(s)) {
        s->partial_most = 0; /* there is memory for what the limits allow */
        enforce(s);
        rest(s);
        e = append_replayed(s, r->subject, &op);
    }
    if (e != ERR_OK) return e;
    /* The overlay has to know of it before evictions leave it again. */
    rest(s);
    apply_evictions(s, &op);
    rest(s);
    return ERR_OK;
}

enum err stream_replay(struct stream *s, const struct record *r, uint64_t place)
{
    must(s->staged.op_count == 0);
    uint64_t count, keep = 0;
    switch (r->kind) {
    case RECORD_MESSAGE:
    case RECORD_SKIP:
        if (r->seq <= s->seq_last || r->seq > STREAM_SEQ_MAX) return ERR_CORRUPT;
        return replay_message(s, r, place);
    case RECORD_ERASE:
        while (stream_expire_until(s, r->time_ns)) continue;
        (void)stream_remove(s, r->seq);
        return ERR_OK;
    case RECORD_PURGE:
        while (stream_expire_until(s, r->time_ns)) continue;
        if (r->seq > STREAM_SEQ_MAX) return ERR_CORRUPT;
        if (r->body.len > 0 && bytes_to_u64(r->body, BYTES_U64_TEXT_MAX, &keep) != ERR_OK)
            return ERR_CORRUPT;
        stream_purge(s, r->subject, r->seq, keep, &count);
        return ERR_OK;
    default: return ERR_INVALID;
    }
}

/* --- checkpoints ----------------------------------------------------------------------------- */

enum err stream_restore_begin(struct stream *s, uint64_t seq_first, uint64_t seq_last,
                              int64_t time_last_ns, int64_t clock_ns, struct bytes last_id)
{
    must(s->msgs.live_count == 0 && s->staged.op_count == 0);
    must(last_id.len <= STREAM_LAST_ID_BYTES);
    enum err e = stream_hold_id(s, last_id.len);
    if (e != ERR_OK) return e;
    s->seq_first = seq_first;
    s->seq_last = seq_last;
    s->time_last_ns = time_last_ns;
    s->clock_ns = clock_ns;
    set_last_id(s, last_id);
    subject_index_bulk_begin(&s->subjects);
    return ERR_OK;
}

enum err stream_restore_message(struct stream *s, const struct record *r, uint64_t place,
                                uint32_t flags)
{
    struct msgs_entry entry = {.place = place, .time_ns = r->time_ns};
    uint32_t bytes =
        stream_message_bytes(s->config.storage, r->subject.len, r->headers.len, r->body.len);
    bool is_new;
    entry.bytes = bytes | flags;
    enum err e = subject_index_intern(&s->subjects, r->subject, &entry.node, &is_new);
    if (e != ERR_OK) return e;
    e = msgs_append(&s->msgs, r->seq, &entry);
    if (e != ERR_OK) {
        subject_index_drop(&s->subjects, entry.node);
        return e;
    }
    subject_index_add(&s->subjects, entry.node, r->seq);
    s->bytes += bytes;
    quota_bytes_use(s->account_bytes, bytes);
    quota_bytes_use(s->server_bytes, bytes);
    return ERR_OK;
}

void stream_expect(const struct stream *s, bool is_next)
{
    if (is_next) {
        msgs_expect(&s->msgs);
        subject_index_expect(&s->subjects);
        return;
    }
    __builtin_prefetch(&s->config.storage);
    __builtin_prefetch(&s->bytes);
    __builtin_prefetch(&s->msgs.live_count);
    __builtin_prefetch(&s->subjects.runs);
    __builtin_prefetch(&s->subjects.root);
}

void stream_restore_end(struct stream *s, uint64_t missing)
{
    s->is_partial = missing > 0;
    s->partial_most = s->msgs.live_count + missing + STREAM_PARTIAL_MORE;
    subject_index_bulk_end(&s->subjects);
    if (s->msgs.live_count > 0)
        s->seq_first = msgs_first(&s->msgs);
    else if (s->seq_last > 0 && s->seq_first <= s->seq_last)
        s->seq_first = s->seq_last + 1; /* all that was live is lost */
    rest(s);
}

void stream_replayed(struct stream *s, int64_t now_ns)
{
    if (!s->is_partial) return;
    s->is_crowded = is_over(s);
    if (s->is_crowded) must(look_again(s) == ERR_OK); /* no life waits while it is partial */
    /* What was over was gone before a limit took another. What is over since then has its marker,
     * but goes before a limit takes one that is not. */
    expire_before(s, s->clock_ns);
    if (is_over(s) && now_ns > s->clock_ns) expire_before(s, now_ns);
    s->is_partial = false;
    enforce(s);
    rest(s);
}

void stream_pass(struct stream *s, uint64_t seq)
{
    must(s->staged.op_count == 0 && seq >= s->seq_last);
    s->seq_last = seq;
    if (s->msgs.live_count == 0) s->seq_first = seq + 1;
    rest(s);
}

/* --- reading --------------------------------------------------------------------------------- */

uint64_t stream_seq_at_time(const struct stream *s, int64_t time_ns)
{
    uint64_t seq = msgs_seq_at_time(&s->msgs, time_ns);
    return seq != 0 ? seq : s->seq_last + 1;
}

/* 0: Go's zero time. */
static void write_time(struct json_write *w, const char *key, int64_t wall_ns)
{
    if (wall_ns != 0)
        json_write_time(w, key, wall_ns);
    else
        json_write_text(w, key, BYTES_LITERAL("0001-01-01T00:00:00Z"));
}

static void write_head(const struct stream *s, struct stream_report *q, struct json_write *w)
{
    struct msgs_entry first = {0};
    bool is_empty = s->msgs.live_count == 0;
    if (!is_empty) must(msgs_get(&s->msgs, s->seq_first, &first) == ERR_OK);
    json_write_object(w, "state");
    json_write_u64(w, "messages", s->msgs.live_count);
    json_write_u64(w, "bytes", s->bytes);
    json_write_u64(w, "first_seq", s->seq_first);
    write_time(w, "first_ts", first.time_ns);
    json_write_u64(w, "last_seq", s->seq_last);
    write_time(w, "last_ts", s->time_last_ns);
    json_write_u64_if(w, "num_subjects",
                      subject_index_total(&s->subjects, BYTES_LITERAL(">")).keys);
    q->seq_next = s->seq_first;
    q->seq_last = s->seq_last;
    q->deleted = is_empty ? 0 : s->seq_last - s->seq_first + 1 - s->msgs.live_count;
    q->part = STREAM_REPORT_SUBJECTS;
    if (q->subjects_filter.len == 0 || q->offset >= q->total.keys)
        q->part = STREAM_REPORT_GAPS;
    else
        json_write_object(w, "subjects");
    q->at = 0;
}

/* True: the rest of them in the next piece. */
static bool write_subjects(const struct stream *s, struct stream_report *q, struct json_write *w,
                           uint32_t *left)
{
    struct subject_index_walk walk;
    enum err e = ERR_OK;
    uint32_t node, steps = *left / SIEVE_WALK, spent = 0;
    if (steps == 0) return true;
    subject_index_rest_begin(&q->rest, &walk, &s->subjects, q->subjects_filter);
    walk.left = steps;
    while (spent < steps && q->at < q->offset + STREAM_SUBJECTS_PAGE &&
           (node = subject_index_walk_next(&walk)) != MSGS_NODE_NONE) {
        if (q->at++ < q->offset) continue;
        spent++; /* as much again */
        json_write_key(w, subject_index_subject(&s->subjects, node));
        json_write_u64(w, NULL, subject_index_node(&s->subjects, node)->count);
    }
    bool has_more = subject_index_rest_end(&q->rest, &walk, &e);
    if (e != ERR_OK) w->out->is_failed = true; /* nobody gets half an answer */
    if (has_more && q->at < q->offset + STREAM_SUBJECTS_PAGE && !w->out->is_failed) {
        *left = 0;
        return true;
    }
    json_write_end(w);
    return false;
}

/* True: the rest of them in the next piece. */
static bool write_deleted(const struct stream *s, struct stream_report *q, struct json_write *w,
                          uint32_t *left)
{
    uint64_t first = q->seq_next, last;
    while (first <= q->seq_last && msgs_gap(&s->msgs, q->seq_last, &first, &last)) {
        for (; first <= last && *left > 0 && !w->out->is_failed; first++) {
            json_write_u64(w, NULL, first);
            *left -= *left < STATE_DELETED_COST ? *left : STATE_DELETED_COST;
        }
        *left -= *left < STATE_GAP_COST ? *left : STATE_GAP_COST;
        if (w->out->is_failed) break;
        q->seq_next = first;
        if (*left == 0) return true;
    }
    json_write_end(w);
    return false;
}

void stream_report_init(struct stream_report *q, struct mem *mem)
{
    *q = (struct stream_report){0};
    subject_index_rest_init(&q->rest, mem);
}

void stream_report_deinit(struct stream_report *q)
{
    subject_index_rest_deinit(&q->rest);
}

bool stream_report_count(const struct stream *s, struct stream_report *q, uint32_t *left,
                         enum err *e)
{
    uint32_t steps = *left / SIEVE_WALK, spent = steps;
    *e = ERR_OK;
    if (q->subjects_filter.len == 0) return false;
    bool has_more =
        subject_index_rest_total(&q->rest, &s->subjects, q->subjects_filter, &steps, &q->total, e);
    *left = has_more ? 0 : *left - (spent - steps) * SIEVE_WALK;
    return has_more && *e == ERR_OK;
}

bool stream_report_write(const struct stream *s, struct stream_report *q, struct json_write *w,
                         uint32_t *left)
{
    if (q->part == STREAM_REPORT_HEAD) write_head(s, q, w);
    if (q->part == STREAM_REPORT_SUBJECTS) {
        if (*left == 0 || write_subjects(s, q, w, left)) return true;
        q->part = STREAM_REPORT_GAPS;
    }
    if (q->part == STREAM_REPORT_GAPS) {
        json_write_u64_if(w, "num_deleted", q->deleted);
        q->part = STREAM_REPORT_TAIL;
        if (q->has_deleted && q->deleted > 0) {
            json_write_array(w, "deleted");
            q->part = STREAM_REPORT_DELETED;
        }
    }
    if (q->part == STREAM_REPORT_DELETED && (*left == 0 || write_deleted(s, q, w, left)))
        return true;
    if (q->has_deleted) lost_write(s->lost, w);
    json_write_u64(w, "consumer_count", s->consumer_count);
    json_write_end(w);
    return false;
}

void stream_write_state(const struct stream *s, struct json_write *w)
{
    struct stream_report q;
    uint32_t left = UINT32_MAX;
    stream_report_init(&q, s->mem);
    must(!stream_report_write(s, &q, w, &left));
    stream_report_deinit(&q);
}
