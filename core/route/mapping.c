#include "core/route/mapping.h"
#include "core/base/must.h"
#include "core/route/subject.h"

struct target {
    struct transform *transform;
    uint32_t limit; /* sum of the weights up to here: taken when the dice shows less */
};

struct entry {
    struct bytes source; /* owned, of the set's mem */
    bool has_wildcard;
    uint32_t target_count, target_room;
    struct target *targets;
};

struct mapping_set {
    struct mem *mem;
    struct bytes cluster; /* owned */
    struct entry *entries;
    uint32_t count, room;
};

static enum err refuse(struct writer *why, const char *text)
{
    if (why != NULL) writer_text(why, text);
    return ERR_INVALID;
}

static enum err copy_bytes(struct mem *mem, struct bytes from, struct bytes *out)
{
    *out = bytes_of(NULL, 0);
    if (from.len == 0) return ERR_OK;
    char *p = mem_alloc(mem, MEM_CONFIG, from.len);
    if (p == NULL) return ERR_MEMORY;
    memcpy(p, from.data, from.len);
    *out = bytes_of(p, from.len);
    return ERR_OK;
}

static void free_bytes(struct mem *mem, struct bytes b)
{
    mem_free(mem, MEM_CONFIG, (void *)(uintptr_t)b.data, b.len);
}

enum err mapping_set_open(struct mem *mem, struct bytes cluster, struct mapping_set **out)
{
    struct mapping_set *set = mem_alloc_zero(mem, MEM_CONFIG, sizeof *set);
    if (set == NULL) return ERR_MEMORY;
    set->mem = mem;
    if (copy_bytes(mem, cluster, &set->cluster) != ERR_OK) {
        mem_free(mem, MEM_CONFIG, set, sizeof *set);
        return ERR_MEMORY;
    }
    *out = set;
    return ERR_OK;
}

static void entry_free(struct mem *mem, struct entry *e)
{
    for (uint32_t i = 0; i < e->target_count; i++) transform_free(mem, e->targets[i].transform);
    mem_free(mem, MEM_CONFIG, e->targets, e->target_room * sizeof *e->targets);
    free_bytes(mem, e->source);
}

void mapping_set_free(struct mem *mem, struct mapping_set *set)
{
    if (set == NULL) return;
    must(mem == set->mem);
    for (uint32_t i = 0; i < set->count; i++) entry_free(mem, &set->entries[i]);
    mem_free(mem, MEM_CONFIG, set->entries, set->room * sizeof *set->entries);
    free_bytes(mem, set->cluster);
    mem_free(mem, MEM_CONFIG, set, sizeof *set);
}

uint32_t mapping_set_count(const struct mapping_set *set)
{
    return set->count;
}

struct bytes mapping_set_source(const struct mapping_set *set, uint32_t entry)
{
    must(entry < set->count);
    return set->entries[entry].source;
}

bool mapping_set_destination(const struct mapping_set *set, uint32_t entry, uint32_t i,
                             struct bytes *destination, uint32_t *weight_sum)
{
    must(entry < set->count);
    const struct entry *e = &set->entries[entry];
    if (i >= e->target_count) return false;
    *destination = transform_destination(e->targets[i].transform);
    *weight_sum = e->targets[i].limit;
    return true;
}

/* Destination i by itself and beside those before it. */
static enum err check_destination(struct mem *mem, struct bytes source,
                                  const struct mapping_destination *d, uint32_t i,
                                  struct writer *why)
{
    uint32_t sum = d[i].weight;
    for (uint32_t k = 0; k < i; k++) {
        if (bytes_equal(d[k].cluster, d[i].cluster)) sum += d[k].weight;
        if (!bytes_equal(d[k].subject, d[i].subject)) continue;
        if (why != NULL) {
            writer_text(why, "duplicate entry for ");
            writer_quoted(why, d[i].subject);
        }
        return ERR_INVALID;
    }
    if (d[i].weight > 100)
        return refuse(why, "individual weights need to be <= 100");
    if (sum > 100) return refuse(why, "total weight needs to be <= 100");
    /* nats-server takes an empty destination and falls over at the first publish. */
    if (d[i].subject.len == 0) return refuse(why, "invalid subject");
    return transform_check(mem, source, d[i].subject, why);
}

static enum err add_target(struct mem *mem, struct entry *e, struct bytes destination,
                           uint32_t weight, struct writer *why)
{
    must(e->target_count < e->target_room);
    uint32_t before = e->target_count == 0 ? 0 : e->targets[e->target_count - 1].limit;
    struct transform *t;
    enum err err = transform_compile(mem, e->source, destination, TRANSFORM_PLAIN, why, &t);
    if (err != ERR_OK) return err;
    e->targets[e->target_count++] = (struct target){t, before + weight};
    return ERR_OK;
}

/* Those of our cluster if there are any, else those of no cluster; then what the weights leave. */
static enum err add_targets(const struct mapping_set *set, struct entry *e,
                            const struct mapping_destination *d, uint32_t count,
                            struct writer *why)
{
    struct bytes cluster = bytes_of(NULL, 0);
    bool has_source = false;
    uint32_t sum = 0;
    for (uint32_t i = 0; i < count; i++) {
        if (bytes_equal(d[i].cluster, set->cluster)) cluster = set->cluster;
        if (bytes_equal(d[i].subject, e->source)) has_source = true;
    }
    for (uint32_t i = 0; i < count; i++) {
        if (!bytes_equal(d[i].cluster, cluster)) continue;
        enum err err = add_target(set->mem, e, d[i].subject, d[i].weight, why);
        if (err != ERR_OK) return err;
        sum += d[i].weight;
    }
    if (sum == 100 || has_source) return ERR_OK;
    /* A * becomes a marker of at most six bytes. */
    char room[TRANSFORM_DESTINATION_BYTES_MAX];
    struct writer same;
    writer_init(&same, room, sizeof room);
    transform_write_markers(e->source, &same);
    must(!same.is_full);
    return add_target(set->mem, e, writer_written(&same), 100 - sum, why);
}

enum err mapping_set_add(struct mapping_set *set, struct bytes source,
                         const struct mapping_destination *destinations, uint32_t count,
                         struct writer *why)
{
    struct mem *mem = set->mem;
    if (!subject_is_valid(source) || source.len > TRANSFORM_SUBJECT_BYTES_MAX)
        return refuse(why, "invalid subject");
    for (uint32_t i = 0; i < count; i++) {
        enum err e = check_destination(mem, source, destinations, i, why);
        if (e != ERR_OK) return e;
    }
    if (set->count == set->room) {
        uint32_t room = set->room == 0 ? 4 : set->room * 2;
        struct entry *entries = mem_resize(mem, MEM_CONFIG, set->entries,
                                           set->room * sizeof *entries, room * sizeof *entries);
        if (entries == NULL) return ERR_MEMORY;
        set->entries = entries;
        set->room = room;
    }
    struct entry entry = {.has_wildcard = subject_has_wildcard(source), .target_room = count + 1};
    enum err e = copy_bytes(mem, source, &entry.source);
    if (e != ERR_OK) return e;
    entry.targets = mem_alloc(mem, MEM_CONFIG, entry.target_room * sizeof *entry.targets);
    if (entry.targets == NULL) {
        free_bytes(mem, entry.source);
        return ERR_MEMORY;
    }
    e = add_targets(set, &entry, destinations, count, why);
    if (e != ERR_OK) {
        entry_free(mem, &entry);
        return e;
    }
    for (uint32_t i = 0; i < set->count; i++) {
        if (!bytes_equal(set->entries[i].source, source)) continue;
        entry_free(mem, &set->entries[i]);
        set->entries[i] = entry;
        return ERR_OK;
    }
    set->entries[set->count++] = entry;
    return ERR_OK;
}

enum mapping_result mapping_set_apply(const struct mapping_set *set, struct bytes subject,
                                      struct rng *rng, char *room, size_t room_bytes,
                                      struct bytes *out)
{
    uint32_t at = 0, chosen = 0;
    while (at < set->count && !subject_is_subset(subject, set->entries[at].source)) at++;
    if (at == set->count) return MAPPING_UNCHANGED;
    const struct entry *e = &set->entries[at];
    if (e->target_count != 1 || e->targets[0].limit != 100) {
        uint32_t dice = rng_below(rng, 100);
        while (chosen < e->target_count && dice >= e->targets[chosen].limit) chosen++;
        if (chosen == e->target_count) return MAPPING_DROPPED;
    }
    struct writer w;
    writer_init(&w, room, room_bytes);
    /* Where nats-server finds a literal source at once it has not cut the subject into tokens yet,
     * and {{partition(n)}} hashes nothing at all. Clients that look at the partition see it, and
     * test_mapping keeps it. */
    bool is_key_empty = at == 0 && !e->has_wildcard;
    if (transform_apply_with_key(e->targets[chosen].transform, subject, is_key_empty, rng, &w) !=
        ERR_OK)
        return MAPPING_DROPPED;
    *out = writer_written(&w);
    return MAPPING_MAPPED;
}
