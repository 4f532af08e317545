#include "core/js/pending.h"
#include "core/js/subject_index_walk.h"
#include "core/route/subject.h"

static const struct bytes everything = BYTES_LITERAL(">");

/* The set of all subjects that the filters select. */
static enum err collect(const struct subject_index *x, const struct bytes *filters,
                        uint32_t filter_count, struct node_set *set)
{
    enum err e = node_set_init(set, x->mem, x->node_end);
    if (e != ERR_OK) return e;
    for (uint32_t i = 0; i < filter_count; i++) subject_index_walk_collect(x, filters[i], set);
    return ERR_OK;
}

enum err pending_count(struct subject_index *x, const struct msgs *msgs,
                       const struct bytes *filters, uint32_t filter_count, uint64_t seq,
                       uint64_t *count)
{
    if (filter_count == 0) {
        filters = &everything;
        filter_count = 1;
    }
    uint64_t total = 0;
    for (uint32_t i = 0; i < filter_count; i++) total += subject_index_total(x, filters[i]).msgs;
    if (seq <= msgs_first(msgs) || total == 0) {
        *count = total;
        return ERR_OK;
    }
    if (total == msgs->live_count) {
        *count = msgs_count(msgs, seq, UINT64_MAX);
        return ERR_OK;
    }
    if (filter_count == 1 && !subject_has_wildcard(filters[0])) {
        uint32_t node = subject_index_find(x, filters[0]);
        *count = subject_index_count_from(x, msgs, node, seq);
        return ERR_OK;
    }
    struct node_set set;
    enum err e = collect(x, filters, filter_count, &set);
    if (e != ERR_OK) return e;
    uint64_t behind = msgs_count(msgs, seq, UINT64_MAX);
    if (behind <= msgs->live_count / 2)
        *count = msgs_count_in_set(msgs, seq, UINT64_MAX, &set);
    else
        *count = total - msgs_count_in_set(msgs, 0, seq - 1, &set);
    node_set_deinit(&set, x->mem);
    return ERR_OK;
}
