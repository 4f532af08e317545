#include "core/js/consumer_set.h"
#include "core/base/must.h"
#include "core/js/consumer_pack.h"
#include "core/js/overlap.h"
#include "core/route/subject.h"

enum {
    NAME_BYTES = 8,
    WANTED_MIN = 8, /* consumers; fewer are asked one by one */
};

void consumer_set_init(struct consumer_set *s, struct mem *mem, const struct consumer_feed *feed)
{
    *s = (struct consumer_set){.mem = mem, .feed = feed, .number_next = 1};
    table_init(&s->names, mem, MEM_JETSTREAM);
}

static void free_consumer(struct consumer_set *s, struct consumer *c)
{
    consumer_close(c);
    mem_free(s->mem, MEM_JETSTREAM, c, sizeof *c);
}

static void forget_wanted(struct consumer_set *s)
{
    if (s->wanted == NULL) return;
    overlap_list_close(s->wanted);
    mem_free(s->mem, MEM_JETSTREAM, s->wanted, sizeof *s->wanted);
    s->wanted = NULL;
}

static void forget_order(struct consumer_set *s)
{
    if (s->order == NULL) return;
    consumer_order_deinit(s->order);
    mem_free(s->mem, MEM_JETSTREAM, s->order, sizeof *s->order);
    s->order = NULL;
}

void consumer_set_deinit(struct consumer_set *s)
{
    uint32_t at = 0;
    struct consumer *c;
    forget_wanted(s);
    forget_order(s);
    while ((c = table_each(&s->names, &at)) != NULL) free_consumer(s, c);
    table_deinit(&s->names);
    mem_free(s->mem, MEM_JETSTREAM, s->numbers, s->number_room * sizeof *s->numbers);
}

static uint64_t hash_of(struct bytes name)
{
    return hash_bytes(name.data, name.len, 0);
}

struct consumer *consumer_set_find(const struct consumer_set *s, struct bytes name)
{
    uint32_t at;
    uint64_t hash = hash_of(name);
    for (struct consumer *c = table_first(&s->names, hash, &at); c != NULL;
         c = table_next(&s->names, hash, &at))
        if (bytes_equal(c->name, name)) return c;
    return NULL;
}

/* Of the first number that is not below, among count of them: new ones come at the end. */
static uint32_t position_of(const struct consumer_set *s, uint64_t number, uint32_t count)
{
    uint32_t low = 0, high = count;
    if (count > 0 && s->numbers[count - 1]->number < number) return count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (s->numbers[middle]->number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Room for one more. */
static enum err reserve_number(struct consumer_set *s)
{
    if (s->names.count < s->number_room) return ERR_OK;
    uint32_t room = s->number_room + s->number_room / 2 + 2;
    struct consumer **grown =
        mem_resize(s->mem, MEM_JETSTREAM, s->numbers, s->number_room * sizeof(struct consumer *),
                   room * sizeof(struct consumer *));
    if (grown == NULL) return ERR_MEMORY;
    s->numbers = grown;
    s->number_room = room;
    return ERR_OK;
}

struct consumer *consumer_set_find_number(const struct consumer_set *s, uint64_t number)
{
    uint32_t at = position_of(s, number, s->names.count);
    return at < s->names.count && s->numbers[at]->number == number ? s->numbers[at] : NULL;
}

struct consumer *consumer_set_each(const struct consumer_set *s, uint32_t *at)
{
    return table_each(&s->names, at);
}

/* --- what may be created --------------------------------------------------------------------- */

/* No other consumer may get a message that this one gets; without memory nothing is promised. */
static bool is_partition(const struct consumer_set *s, const struct consumer_config *c)
{
    uint32_t at = 0;
    const struct consumer *other;
    uint32_t count = consumer_config_filter_count(c);
    const struct bytes *filters =
        c->filter_subject.len > 0 ? &c->filter_subject : c->filter_subjects.items;
    struct overlap_list list;
    if (overlap_list_open(&list, s->mem, filters, count) != ERR_OK) return false;
    bool is_one = true;
    while (is_one && (other = table_each(&s->names, &at)) != NULL) {
        if (bytes_equal(other->name, c->name)) continue;
        is_one = other->filter_count > 0 || count == 0;
        for (uint32_t i = 0; is_one && i < other->filter_count; i++)
            is_one = !overlap_list_meets(&list, other->filters[i], NULL);
    }
    overlap_list_close(&list);
    return is_one;
}

static bool check_update(struct consumer_set *s, struct arena *arena,
                         const struct consumer_set_bounds *bounds, const struct consumer_request *r,
                         const struct consumer *old, struct jsapi_error *error)
{
    struct consumer_config config;
    if (consumer_config_of(old, arena, &config) != ERR_OK)
        return jsapi_error_refuse(error, JSAPI_INSUFFICIENT_RESOURCES);
    size_t bytes = consumer_pack_bytes(&r->config);
    char *packed = arena_alloc(arena, bytes);
    if (packed == NULL) return jsapi_error_refuse(error, JSAPI_INSUFFICIENT_RESOURCES);
    consumer_pack(&r->config, packed);
    bool is_same = bytes_equal(bytes_of(packed, bytes), bytes_of(old->packed, old->packed_bytes));
    if (r->action == CONSUMER_ACTION_CREATE && !is_same)
        return jsapi_error_refuse(error, JSAPI_CONSUMER_ALREADY_EXISTS);
    if (bounds->rules.is_workqueue && !is_partition(s, &r->config))
        return jsapi_error_refuse(error, JSAPI_CONSUMER_WQ_CONSUMER_NOT_UNIQUE);
    return is_same || consumer_config_check_update(&config, &r->config, old->is_bound, error);
}

static bool check_count(const struct consumer_set *s, const struct consumer_set_bounds *bounds,
                        struct jsapi_error *error)
{
    int64_t max = bounds->max_consumers > 0 ? bounds->max_consumers : bounds->max_consumers_default;
    if (max <= 0 || consumer_set_count(s) < max) return true;
    return jsapi_error_refuse(error, JSAPI_MAXIMUM_CONSUMERS_LIMIT);
}

static bool check_workqueue(const struct consumer_set *s, const struct consumer_config *c,
                            struct jsapi_error *error)
{
    if (c->ack_policy != CONSUMER_ACK_EXPLICIT)
        return jsapi_error_refuse(error, JSAPI_CONSUMER_WQ_REQUIRES_EXPLICIT_ACK);
    if (c->deliver_policy != CONSUMER_DELIVER_ALL)
        return jsapi_error_refuse(error, JSAPI_CONSUMER_WQ_CONSUMER_NOT_DELIVER_ALL);
    if (consumer_set_count(s) == 0) return true;
    if (consumer_config_filter_count(c) == 0)
        return jsapi_error_refuse(error, JSAPI_CONSUMER_WQ_MULTIPLE_UNFILTERED);
    if (!is_partition(s, c))
        return jsapi_error_refuse(error, JSAPI_CONSUMER_WQ_CONSUMER_NOT_UNIQUE);
    return true;
}

static bool pick_name(const struct consumer_set *s, struct arena *arena, struct rng *rng,
                      struct consumer_config *c)
{
    char *name = arena_alloc(arena, NAME_BYTES);
    if (name == NULL) return false;
    do {
        rng_text(rng, name, NAME_BYTES);
    } while (consumer_set_find(s, bytes_of(name, NAME_BYTES)) != NULL);
    c->name = bytes_of(name, NAME_BYTES);
    c->is_nameless = true;
    return true;
}

bool consumer_set_check(struct consumer_set *s, struct arena *arena,
                        const struct consumer_set_bounds *bounds, struct consumer_request *r,
                        struct rng *rng, struct consumer **existing, struct jsapi_error *error)
{
    struct consumer_config *c = &r->config;
    struct consumer *old = c->name.len == 0 ? NULL : consumer_set_find(s, c->name);
    *existing = NULL;
    if (old != NULL) {
        /* Only CONSUMER.PAUSE changes that of an existing one. */
        struct consumer_config config;
        if (consumer_config_of(old, arena, &config) != ERR_OK)
            return jsapi_error_refuse(error, JSAPI_INSUFFICIENT_RESOURCES);
        c->pause_until = config.pause_until;
    }
    if (!consumer_config_set_defaults(c, &bounds->rules, r->pedantic, error)) return false;
    if (!consumer_config_check(s->mem, c, &bounds->rules, error)) return false;
    if (old != NULL) {
        if (!check_update(s, arena, bounds, r, old, error)) return false;
        consumer_config_settle(c);
        *existing = old;
        return true;
    }
    if (r->action == CONSUMER_ACTION_UPDATE)
        return jsapi_error_refuse(error, JSAPI_CONSUMER_DOES_NOT_EXIST);
    if (!check_count(s, bounds, error)) return false;
    if (bounds->rules.is_workqueue && !check_workqueue(s, c, error)) return false;
    if (c->name.len > JS_NAME_BYTES_MAX) {
        jsapi_error_set_u64(error, JSAPI_CONSUMER_NAME_TOO_LONG, JS_NAME_BYTES_MAX);
        return false;
    }
    if (c->name.len == 0 && !pick_name(s, arena, rng, c))
        return jsapi_error_refuse(error, JSAPI_INSUFFICIENT_RESOURCES);
    consumer_config_settle(c);
    return true;
}

/* --- come and go ----------------------------------------------------------------------------- */

enum err consumer_set_add(struct consumer_set *s, const struct consumer_config *config,
                          uint64_t number, int64_t created_ns, struct shard_time now,
                          struct consumer **c)
{
    if (consumer_set_find(s, config->name) != NULL) return ERR_EXISTS;
    struct consumer *new = mem_alloc(s->mem, MEM_JETSTREAM, sizeof *new);
    if (new == NULL) return ERR_MEMORY;
    uint64_t used = number != 0 ? number : s->number_next;
    bool is_hidden = number == 0;
    enum err e = (is_hidden ? consumer_open_hidden : consumer_open)(new, s->mem, s->feed, used,
                                                                    config, created_ns, now);
    if (e != ERR_OK) goto free_new;
    e = reserve_number(s);
    if (e == ERR_OK) e = table_insert(&s->names, hash_of(new->name), new);
    if (e != ERR_OK) goto close_new;
    uint32_t count = s->names.count - 1, at = position_of(s, used, count);
    memmove(s->numbers + at + 1, s->numbers + at, (count - at) * sizeof(struct consumer *));
    s->numbers[at] = new;
    s->floor = 0;
    if (used >= s->number_next) s->number_next = used + 1;
    *c = new;
    return ERR_OK;

close_new:
    consumer_close(new);
free_new:
    mem_free(s->mem, MEM_JETSTREAM, new, sizeof *new);
    return e;
}

void consumer_set_drop(struct consumer_set *s, struct consumer *c)
{
    uint32_t at = position_of(s, c->number, s->names.count);
    must(s->numbers[at] == c);
    memmove(s->numbers + at, s->numbers + at + 1,
            (s->names.count - at - 1) * sizeof(struct consumer *));
    must(table_remove(&s->names, hash_of(c->name), c) == ERR_OK);
    if (s->order != NULL) consumer_order_remove(s->order, c);
    free_consumer(s, c);
}

/* --- lists ----------------------------------------------------------------------------------- */

void consumer_set_show(struct consumer_set *s, struct consumer *c)
{
    if (!c->is_hidden) return;
    s->hidden_count--;
    c->is_hidden = false;
    if (s->order == NULL || c->number >= s->order->number_next) return;
    if (consumer_order_add(s->order, c) != ERR_OK) forget_order(s);
}

bool consumer_set_order(struct consumer_set *s, uint32_t *left, enum err *e)
{
    *e = ERR_MEMORY;
    if (s->order == NULL) {
        s->order = mem_alloc(s->mem, MEM_JETSTREAM, sizeof *s->order);
        if (s->order == NULL) return false;
        consumer_order_init(s->order, s->mem);
    }
    struct consumer_order *o = s->order;
    uint32_t at = position_of(s, o->number_next, s->names.count);
    for (; at < s->names.count; at++) {
        struct consumer *c = s->numbers[at];
        if (*left < CONSUMER_SET_ORDER_COST) return true;
        *left -= CONSUMER_SET_ORDER_COST;
        if (!c->is_hidden && consumer_order_add(o, c) != ERR_OK) {
            forget_order(s);
            return false;
        }
        o->number_next = c->number + 1;
    }
    *e = ERR_OK;
    return false;
}

void consumer_set_order_done(struct consumer_set *s)
{
    if (s->names.count < CONSUMER_SET_ORDER_MIN) forget_order(s);
}

/* --- the stream ------------------------------------------------------------------------------ */

bool consumer_set_removed(struct consumer_set *s, uint64_t seq, struct bytes subject,
                          struct outlet *o)
{
    uint32_t at = 0;
    bool has_room = false;
    struct consumer *c;
    if (seq < s->floor) return false;
    uint64_t floor = *s->feed->last_seq + 1;
    while ((c = table_each(&s->names, &at)) != NULL) {
        has_room |= consumer_removed(c, seq, subject, o);
        uint64_t first = consumer_first_of_interest(c);
        if (first < floor) floor = first;
    }
    s->floor = floor;
    return has_room;
}

void consumer_set_moved_back(struct consumer_set *s)
{
    s->floor = 0;
}

void consumer_set_purged(struct consumer_set *s, struct bytes filter, uint64_t first)
{
    uint32_t at = 0;
    struct consumer *c;
    while ((c = table_each(&s->names, &at)) != NULL) consumer_purged(c, filter, first);
}

bool consumer_set_needs(const struct consumer_set *s, uint64_t seq, struct bytes subject,
                        uint64_t ticket)
{
    uint32_t at = 0;
    const struct consumer *c;
    while ((c = table_each(&s->names, &at)) != NULL) {
        if (ticket != 0 && c->created_ticket > ticket) continue;
        if (consumer_needs(c, seq, subject)) return true;
    }
    return false;
}

bool consumer_set_has_order(const struct consumer_set *s)
{
    uint32_t at = 0;
    const struct consumer *c;
    while ((c = table_each(&s->names, &at)) != NULL)
        if (!c->is_hidden && !c->is_ending && c->order_ticket != 0) return true;
    return false;
}

void consumer_set_end(struct consumer_set *s, struct consumer *c, bool is_ending)
{
    c->is_ending = is_ending;
    s->changes++;
}

/* Without memory there is none. */
static void collect_wanted(struct consumer_set *s)
{
    struct consumer *c;
    uint32_t at = 0, count = 0;
    forget_wanted(s);
    while ((c = table_each(&s->names, &at)) != NULL) count += c->filter_count;
    struct overlap_list *l = mem_alloc(s->mem, MEM_JETSTREAM, sizeof *l);
    if (l == NULL) return;
    s->wanted = l;
    if (overlap_list_open(l, s->mem, NULL, 0) != ERR_OK) goto free;
    if (count > 0) l->claims = mem_alloc(s->mem, MEM_JETSTREAM, count * sizeof *l->claims);
    if (count > 0 && l->claims == NULL) {
        forget_wanted(s);
        return;
    }
    l->room = count;
    s->is_all_wanted = false;
    s->wanted_changes = s->changes;
    for (at = 0; (c = table_each(&s->names, &at)) != NULL;) {
        if (c->is_ending) continue;
        if (c->filter_count == 0) s->is_all_wanted = true;
        for (uint32_t i = 0; i < c->filter_count; i++) {
            if (overlap_claim(&l->overlap, 0, c->filters[i], c, &l->claims[l->count]) != ERR_OK) {
                forget_wanted(s);
                return;
            }
            l->count++;
        }
    }
    return;
free:
    mem_free(s->mem, MEM_JETSTREAM, l, sizeof *l);
    s->wanted = NULL;
}

bool consumer_set_matches(struct consumer_set *s, struct bytes subject)
{
    uint32_t at = 0;
    const struct consumer *c;
    /* A subject may have tokens that are wildcards elsewhere. */
    if (s->feed->changes == &s->changes && s->names.count >= WANTED_MIN &&
        !subject_has_wildcard(subject)) {
        if (s->wanted == NULL || s->wanted_changes != s->changes) collect_wanted(s);
        if (s->wanted != NULL)
            return s->is_all_wanted || overlap_meets(&s->wanted->overlap, 0, subject, NULL);
    }
    while ((c = table_each(&s->names, &at)) != NULL)
        if (!c->is_ending && consumer_matches(c, subject)) return true;
    return false;
}
