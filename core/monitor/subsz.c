#include "core/monitor/subsz.h"
#include "core/monitor/connz.h"

static double ratio(uint64_t part, uint64_t whole)
{
    return whole == 0 ? 0.0 : (double)part / (double)whole;
}

/* nats-server counts every look-up as a match and its cache as part of the index; here a look-up
 * is a hit of a shard's route cache or a walk of the index. The average fan-out is not kept per
 * cached subject: deliveries per received message stand in for it. */
void subsz_write_counts(const struct page_input *in, struct json_write *w, bool account_only)
{
    struct shard_counts counts;
    snapshot_merge_counts(in, &counts);
    const struct interest_counts *i =
        account_only ? &in->server->interest_account : &in->server->interest;
    uint64_t hits = account_only ? 0 : counts.route_cache.hits;
    uint64_t entries = account_only ? 0 : counts.route_cache.entries;

    json_write_u64(w, "num_subscriptions", i->subscriptions);
    json_write_u64(w, "num_cache", entries);
    json_write_u64(w, "num_inserts", i->inserts);
    json_write_u64(w, "num_removes", i->removes);
    json_write_u64(w, "num_matches", i->matches + hits);
    json_write_float(w, "cache_hit_rate", ratio(hits, i->matches + hits));
    json_write_u64(w, "max_fanout", i->max_fanout);
    json_write_float(w, "avg_fanout", account_only ? 0.0 : ratio(counts.out.msgs, counts.in.msgs));
}

/* Element number skip and those after it, up to limit, over the lists of all shards. */
static void write_list(const struct page_input *in, struct json_write *w)
{
    uint64_t skip = (uint64_t)in->query->offset, left = (uint64_t)in->query->limit;
    bool is_open = false;
    for (uint32_t i = 0; i < in->shard_count; i++) {
        for (const struct sub_snapshot *s = in->shards[i]->subs; s != NULL && left > 0;
             s = s->next) {
            if (skip > 0) {
                skip--;
                continue;
            }
            if (!is_open) json_write_array(w, "subscriptions_list");
            is_open = true;
            connz_write_sub(w, s, true);
            left--;
        }
    }
    if (is_open) json_write_end(w);
}

void subsz_write(const struct page_input *in, struct json_write *w)
{
    const struct page_query *q = in->query;
    uint64_t total = 0;
    for (uint32_t i = 0; i < in->shard_count; i++) total += in->shards[i]->subs_matched;

    json_write_object(w, NULL);
    json_write_text(w, "server_id", in->server->id);
    json_write_time(w, "now", in->server->now_ns);
    subsz_write_counts(in, w, q->account.len != 0);
    json_write_u64(w, "total", q->subs ? total : 0);
    json_write_i64(w, "offset", q->offset);
    json_write_i64(w, "limit", q->limit);
    if (q->subs) write_list(in, w);
    json_write_end(w);
}
