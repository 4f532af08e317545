#include "core/js/ackwin.h"
#include "core/base/must.h"

enum { ROOM_MIN = 16, EXPIRE_STEP_NS = 1000000 };

void ackwin_init(struct ackwin *w, struct mem *mem)
{
    *w = (struct ackwin){.mem = mem};
}

void ackwin_clear(struct ackwin *w)
{
    mem_free(w->mem, MEM_JETSTREAM, w->entries, (w->room + 1) * sizeof *w->entries);
    mem_free(w->mem, MEM_JETSTREAM, w->queue, w->queue_room * sizeof *w->queue);
    *w = (struct ackwin){.mem = w->mem, .ticket_last = w->ticket_last};
}

void ackwin_trim(struct ackwin *w)
{
    if (w->pending_count == 0 && w->given_up_count == 0 && w->dirty_count == 0) ackwin_clear(w);
}

/* --- the ring of entries --------------------------------------------------------------------- */

static struct ackwin_entry *entry_at(const struct ackwin *w, uint32_t position)
{
    return &w->entries[(w->head + position) & (w->room - 1)];
}

/* No pending entry has a sequence below. Holes that a record has to tell of stay for a while, tens
 * of thousands at times: who looks for the lowest pending one passes over them once. It lies behind
 * the ring, where an idle consumer, which has none, does not pay for it. */
static uint64_t *low_of(const struct ackwin *w)
{
    return &w->entries[w->room].seq;
}

/* Position of the first entry at or above seq; count when there is none. */
static uint32_t position_of(const struct ackwin *w, uint64_t seq)
{
    uint32_t low = 0, high = w->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (entry_at(w, middle)->seq < seq)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* A hole that no record has to tell of. */
static bool is_void(const struct ackwin_entry *e)
{
    return e->state == ACKWIN_HOLE && !e->is_dirty;
}

static void drop_ends(struct ackwin *w)
{
    while (w->count > 0 && is_void(entry_at(w, 0))) {
        w->head = (w->head + 1) & (w->room - 1);
        w->count--;
    }
    while (w->count > 0 && is_void(entry_at(w, w->count - 1))) w->count--;
}

static void compact(struct ackwin *w)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < w->count; i++)
        if (!is_void(entry_at(w, i))) *entry_at(w, kept++) = *entry_at(w, i);
    w->count = kept;
}

/* Room for one more entry. */
static enum err make_room(struct ackwin *w)
{
    if (w->count < w->room) return ERR_OK;
    uint32_t live = w->pending_count + w->given_up_count + w->dirty_count;
    /* Holes inside: closed when they are so many that closing pays, else the ring doubles. */
    if (w->count > 0 && live < w->count - w->count / 4) {
        compact(w);
        if (w->count < w->room) return ERR_OK;
    }
    if (w->room >= ACKWIN_ENTRIES_MAX) return ERR_FULL;
    uint32_t room = w->room == 0 ? ROOM_MIN : w->room * 2;
    struct ackwin_entry *entries = mem_alloc(w->mem, MEM_JETSTREAM, (room + 1) * sizeof *entries);
    if (entries == NULL) return ERR_MEMORY;
    for (uint32_t i = 0; i < w->count; i++) entries[i] = *entry_at(w, i);
    entries[room] = (struct ackwin_entry){.seq = w->room == 0 ? 0 : *low_of(w)};
    mem_free(w->mem, MEM_JETSTREAM, w->entries, (w->room + 1) * sizeof *entries);
    w->entries = entries;
    w->head = 0;
    w->room = room;
    return ERR_OK;
}

static void set_dirty(struct ackwin *w, struct ackwin_entry *e)
{
    if (e->is_dirty) return;
    e->is_dirty = 1;
    w->dirty_count++;
}

static void count_entry(struct ackwin *w, const struct ackwin_entry *e, uint32_t sign)
{
    if (e->state == ACKWIN_PENDING) w->pending_count += sign;
    if (e->state == ACKWIN_PENDING && e->deliveries > 1) w->redelivered_count += sign;
    if (e->state == ACKWIN_GIVEN_UP) w->given_up_count += sign;
}

static void leave_queue(struct ackwin *w, struct ackwin_entry *e)
{
    if (e->ticket == 0) return;
    e->ticket = 0;
    w->queued_count--;
    if (w->queued_count == 0) w->queue_count = 0; /* all places are void */
}

enum err ackwin_add(struct ackwin *w, uint64_t seq, uint64_t cseq, int64_t now_ns)
{
    must(seq > 0);
    must(w->count == 0 || entry_at(w, w->count - 1)->seq < seq);
    enum err e = make_room(w);
    if (e != ERR_OK) return e;
    struct ackwin_entry *entry = entry_at(w, w->count++);
    *entry = (struct ackwin_entry){
        .seq = seq, .cseq = cseq, .since_ns = now_ns, .deliveries = 1, .state = ACKWIN_PENDING};
    set_dirty(w, entry);
    count_entry(w, entry, 1);
    if (seq < *low_of(w)) *low_of(w) = seq;
    return ERR_OK;
}

struct ackwin_entry *ackwin_find(const struct ackwin *w, uint64_t seq)
{
    uint32_t position = position_of(w, seq);
    if (position == w->count) return NULL;
    struct ackwin_entry *e = entry_at(w, position);
    return e->seq == seq && e->state != ACKWIN_HOLE ? e : NULL;
}

bool ackwin_is_hole(const struct ackwin *w, uint64_t seq)
{
    uint32_t position = position_of(w, seq);
    if (position == w->count) return false;
    const struct ackwin_entry *e = entry_at(w, position);
    return e->seq == seq && e->state == ACKWIN_HOLE && e->is_dirty;
}

static struct ackwin_entry *first_from(const struct ackwin *w, uint32_t position, bool is_pending)
{
    for (; position < w->count; position++) {
        struct ackwin_entry *e = entry_at(w, position);
        if (e->state == ACKWIN_PENDING || (!is_pending && e->state != ACKWIN_HOLE)) return e;
    }
    return NULL;
}

struct ackwin_entry *ackwin_lowest(const struct ackwin *w)
{
    return w->pending_count == 0 ? NULL : first_from(w, position_of(w, *low_of(w)), true);
}

struct ackwin_entry *ackwin_next(const struct ackwin *w, uint64_t seq)
{
    return first_from(w, position_of(w, seq), false);
}

static void make_hole(struct ackwin *w, struct ackwin_entry *e)
{
    must(e->state != ACKWIN_HOLE);
    leave_queue(w, e);
    count_entry(w, e, 0u - 1u);
    e->state = ACKWIN_HOLE;
    if (e->is_saved) {
        set_dirty(w, e);
    } else if (e->is_dirty) {
        e->is_dirty = 0; /* came and went between two records */
        w->dirty_count--;
    }
}

static void raise_low(struct ackwin *w)
{
    const struct ackwin_entry *e = ackwin_lowest(w);
    if (e != NULL) *low_of(w) = e->seq;
}

void ackwin_settle(struct ackwin *w, struct ackwin_entry *e)
{
    make_hole(w, e);
    drop_ends(w);
    raise_low(w);
}

void ackwin_settle_to(struct ackwin *w, uint64_t seq)
{
    for (uint32_t i = 0; i < w->count && entry_at(w, i)->seq <= seq; i++)
        if (entry_at(w, i)->state != ACKWIN_HOLE) make_hole(w, entry_at(w, i));
    drop_ends(w);
    raise_low(w);
}

void ackwin_give_up(struct ackwin *w, struct ackwin_entry *e)
{
    must(e->state == ACKWIN_PENDING);
    leave_queue(w, e);
    count_entry(w, e, 0u - 1u);
    e->state = ACKWIN_GIVEN_UP;
    count_entry(w, e, 1);
    set_dirty(w, e);
}

void ackwin_delivered(struct ackwin *w, struct ackwin_entry *e, int64_t now_ns)
{
    must(e->state == ACKWIN_PENDING);
    leave_queue(w, e);
    if (e->deliveries == 1) w->redelivered_count++;
    if (e->deliveries < ACKWIN_DELIVERIES_MAX) e->deliveries++;
    e->since_ns = now_ns;
    set_dirty(w, e);
}

void ackwin_wait_from(struct ackwin *w, struct ackwin_entry *e, int64_t since_ns, bool is_leaving)
{
    must(e->state == ACKWIN_PENDING);
    if (is_leaving) leave_queue(w, e);
    e->since_ns = since_ns;
    set_dirty(w, e);
}

/* --- the queue ------------------------------------------------------------------------------- */

static struct ackwin_place *place_at(const struct ackwin *w, uint32_t i)
{
    return &w->queue[(w->queue_head + i) & (w->queue_room - 1)];
}

static bool is_place_void(const struct ackwin *w, const struct ackwin_place *p)
{
    const struct ackwin_entry *e = ackwin_find(w, p->seq);
    return e == NULL || e->ticket != p->ticket;
}

static enum err make_queue_room(struct ackwin *w)
{
    if (w->queue_count < w->queue_room) return ERR_OK;
    if (w->queue_count > 0 && w->queued_count < w->queue_count / 2) {
        uint32_t kept = 0;
        for (uint32_t i = 0; i < w->queue_count; i++)
            if (!is_place_void(w, place_at(w, i))) *place_at(w, kept++) = *place_at(w, i);
        w->queue_count = kept;
        return ERR_OK;
    }
    uint32_t room = w->queue_room == 0 ? ROOM_MIN : w->queue_room * 2;
    struct ackwin_place *queue = mem_alloc(w->mem, MEM_JETSTREAM, room * sizeof *queue);
    if (queue == NULL) return ERR_MEMORY;
    for (uint32_t i = 0; i < w->queue_count; i++) queue[i] = *place_at(w, i);
    mem_free(w->mem, MEM_JETSTREAM, w->queue, w->queue_room * sizeof *queue);
    w->queue = queue;
    w->queue_head = 0;
    w->queue_room = room;
    return ERR_OK;
}

enum err ackwin_queue(struct ackwin *w, struct ackwin_entry *e)
{
    must(e->state == ACKWIN_PENDING);
    if (e->ticket != 0) return ERR_OK;
    enum err err = make_queue_room(w);
    if (err != ERR_OK) return err;
    if (++w->ticket_last == 0) w->ticket_last = 1;
    e->ticket = w->ticket_last;
    *place_at(w, w->queue_count++) = (struct ackwin_place){.seq = e->seq, .ticket = e->ticket};
    w->queued_count++;
    return ERR_OK;
}

struct ackwin_entry *ackwin_queue_first(struct ackwin *w)
{
    while (w->queue_count > 0) {
        struct ackwin_entry *e = ackwin_find(w, place_at(w, 0)->seq);
        if (e != NULL && e->ticket == place_at(w, 0)->ticket) return e;
        w->queue_head = (w->queue_head + 1) & (w->queue_room - 1);
        w->queue_count--;
    }
    must(w->queued_count == 0);
    return NULL;
}

struct ackwin_entry *ackwin_each_queued(const struct ackwin *w, uint32_t *at)
{
    while (w->queued_count > 0 && *at < w->count) {
        struct ackwin_entry *e = entry_at(w, (*at)++);
        if (e->ticket != 0) return e;
    }
    return NULL;
}

/* Out of memory: what is not queued expires a little later. */
static void queue_or_wait(struct ackwin *w, struct ackwin_entry *e)
{
    if (ackwin_queue(w, e) != ERR_OK) return;
}

void ackwin_queue_all(struct ackwin *w)
{
    for (uint32_t i = 0; i < w->count; i++)
        if (entry_at(w, i)->state == ACKWIN_PENDING) queue_or_wait(w, entry_at(w, i));
}

int64_t ackwin_wait_ns(const struct ackwin_waits *waits, uint32_t deliveries)
{
    must(deliveries > 0);
    if (waits->backoff_count == 0) return waits->ack_wait_ns;
    uint32_t i = deliveries - 1;
    return waits->backoff_ns[i < waits->backoff_count ? i : waits->backoff_count - 1];
}

int64_t ackwin_expire(struct ackwin *w, const struct ackwin_waits *waits, int64_t now_ns)
{
    int64_t next_ns = INT64_MAX;
    for (uint32_t i = 0; i < w->count && w->pending_count > w->queued_count; i++) {
        struct ackwin_entry *e = entry_at(w, i);
        if (e->state != ACKWIN_PENDING || e->ticket != 0) continue;
        int64_t deadline_ns;
        if (__builtin_add_overflow(e->since_ns, ackwin_wait_ns(waits, e->deliveries), &deadline_ns))
            deadline_ns = INT64_MAX;
        if (deadline_ns <= now_ns) queue_or_wait(w, e);
        if (e->ticket == 0 && deadline_ns < next_ns) next_ns = deadline_ns;
    }
    return next_ns > now_ns && next_ns < now_ns + EXPIRE_STEP_NS ? now_ns + EXPIRE_STEP_NS
           : next_ns <= now_ns                                   ? now_ns + EXPIRE_STEP_NS
                                                                 : next_ns;
}

/* --- records --------------------------------------------------------------------------------- */

struct ackwin_entry *ackwin_next_dirty(const struct ackwin *w, uint64_t seq)
{
    if (w->dirty_count == 0) return NULL;
    for (uint32_t i = position_of(w, seq); i < w->count; i++)
        if (entry_at(w, i)->is_dirty) return entry_at(w, i);
    return NULL;
}

struct ackwin_entry *ackwin_next_told(const struct ackwin *w, uint64_t seq)
{
    for (uint32_t i = position_of(w, seq); i < w->count; i++)
        if (!is_void(entry_at(w, i))) return entry_at(w, i);
    return NULL;
}

void ackwin_set_saved(struct ackwin *w)
{
    for (uint32_t i = 0; i < w->count && w->dirty_count > 0; i++) {
        struct ackwin_entry *e = entry_at(w, i);
        if (!e->is_dirty) continue;
        e->is_dirty = 0;
        e->is_saved = e->state != ACKWIN_HOLE;
        w->dirty_count--;
    }
    must(w->dirty_count == 0);
    if (w->count > 0) drop_ends(w);
}

static bool is_there(const struct ackwin *w, uint32_t position, uint64_t seq)
{
    return position < w->count && entry_at(w, position)->seq == seq;
}

/* The entry of seq, which is a hole if it is new. */
static enum err insert(struct ackwin *w, uint64_t seq, struct ackwin_entry **out)
{
    uint32_t position = position_of(w, seq);
    if (!is_there(w, position, seq)) {
        enum err e = make_room(w);
        if (e != ERR_OK) return e;
        position = position_of(w, seq); /* holes may have been closed */
        for (uint32_t i = w->count; i > position; i--) *entry_at(w, i) = *entry_at(w, i - 1);
        w->count++;
        *entry_at(w, position) = (struct ackwin_entry){.seq = seq, .state = ACKWIN_HOLE};
    }
    *out = entry_at(w, position);
    return ERR_OK;
}

enum err ackwin_settle_again(struct ackwin *w, uint64_t seq)
{
    struct ackwin_entry *e;
    enum err err = insert(w, seq, &e);
    if (err != ERR_OK) return err;
    if (e->state == ACKWIN_HOLE) set_dirty(w, e);
    return ERR_OK;
}

enum err ackwin_restore(struct ackwin *w, const struct ackwin_entry *entry)
{
    struct ackwin_entry *at;
    if (entry->state == ACKWIN_HOLE && !is_there(w, position_of(w, entry->seq), entry->seq))
        return ERR_OK;
    enum err e = insert(w, entry->seq, &at);
    if (e != ERR_OK) return e;
    leave_queue(w, at);
    count_entry(w, at, 0u - 1u);
    if (at->is_dirty) w->dirty_count--;
    *at = *entry;
    at->ticket = 0;
    at->is_saved = entry->state != ACKWIN_HOLE;
    at->is_dirty = 0;
    count_entry(w, at, 1);
    if (at->state == ACKWIN_PENDING && at->seq < *low_of(w)) *low_of(w) = at->seq;
    drop_ends(w);
    return ERR_OK;
}

void ackwin_verify(const struct ackwin *w)
{
    uint32_t pending = 0, given_up = 0, redelivered = 0, queued = 0, dirty = 0;
    must(w->count <= w->room);
    for (uint32_t i = 0; i < w->count; i++) {
        const struct ackwin_entry *e = entry_at(w, i);
        must(i == 0 || entry_at(w, i - 1)->seq < e->seq);
        pending += e->state == ACKWIN_PENDING;
        given_up += e->state == ACKWIN_GIVEN_UP;
        redelivered += e->state == ACKWIN_PENDING && e->deliveries > 1;
        queued += e->ticket != 0;
        dirty += e->is_dirty;
        must(e->ticket == 0 || e->state == ACKWIN_PENDING);
        must(e->state != ACKWIN_PENDING || e->seq >= *low_of(w));
    }
    must(pending == w->pending_count);
    must(given_up == w->given_up_count);
    must(redelivered == w->redelivered_count);
    must(queued == w->queued_count);
    must(dirty == w->dirty_count);
    uint32_t places = 0;
    for (uint32_t i = 0; i < w->queue_count; i++) places += !is_place_void(w, place_at(w, i));
    must(places == queued);
}
