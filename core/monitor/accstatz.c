#include "core/monitor/accstatz.h"

void accstatz_write_traffic(struct json_write *w, const char *key, const struct traffic *t)
{
    json_write_object(w, key);
    json_write_u64(w, "msgs", t->msgs);
    json_write_u64(w, "bytes", t->bytes);
    json_write_end(w);
}

/* With a block per kind of server link, all empty here. */
static void write_data(struct json_write *w, const char *key, const struct traffic *t)
{
    static const struct traffic none = {0, 0};
    json_write_object(w, key);
    json_write_u64(w, "msgs", t->msgs);
    json_write_u64(w, "bytes", t->bytes);
    accstatz_write_traffic(w, "gateways", &none);
    accstatz_write_traffic(w, "routes", &none);
    accstatz_write_traffic(w, "leafs", &none);
    json_write_end(w);
}

void accstatz_write_account(struct json_write *w, const struct account *a,
                            const struct account_snapshot *sums)
{
    json_write_text(w, "acc", a->name);
    json_write_text(w, "name", a->name);
    json_write_u64(w, "conns", sums->connections);
    json_write_u64(w, "leafnodes", sums->leafs);
    json_write_u64(w, "total_conns", (uint64_t)sums->connections + sums->leafs);
    json_write_u64(w, "num_subscriptions", sums->subscriptions);
    write_data(w, "sent", &sums->sent);
    write_data(w, "received", &sums->received);
    json_write_u64(w, "slow_consumers", sums->slow_consumers);
}

static bool is_wanted(const struct page_query *q, struct bytes name)
{
    if (q->name_count == 0) return true;
    for (uint32_t i = 0; i < q->name_count; i++)
        if (bytes_equal(q->names[i], name)) return true;
    return false;
}

enum err accstatz_write(const struct page_input *in, struct json_write *w, uint32_t *shown)
{
    const struct page_query *q = in->query;
    struct account_list accounts;
    struct account_totals totals;
    if (snapshot_accounts_by_name(in, &accounts) != ERR_OK) return ERR_MEMORY;
    if (snapshot_merge_accounts(in, &totals) != ERR_OK) {
        snapshot_accounts_free(in, &accounts);
        return ERR_MEMORY;
    }

    uint32_t count = 0;
    json_write_object(w, NULL);
    json_write_text(w, "server_id", in->server->id);
    json_write_time(w, "now", in->server->now_ns);
    json_write_array(w, "account_statz");
    for (uint32_t i = 0; i < accounts.count; i++) {
        const struct account *a = accounts.list[i];
        const struct account_snapshot *sums = &totals.by_number[a->number];
        if (!is_wanted(q, a->name)) continue;
        if (!q->unused && sums->connections == 0 && sums->leafs == 0) continue;
        json_write_object(w, NULL);
        accstatz_write_account(w, a, sums);
        json_write_end(w);
        count++;
    }
    json_write_end(w);
    json_write_end(w);
    if (shown != NULL) *shown = count;
    snapshot_totals_free(in, &totals);
    snapshot_accounts_free(in, &accounts);
    return ERR_OK;
}
