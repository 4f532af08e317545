#include "core/monitor/accountz.h"
#include "core/monitor/js_snapshot.h"
#include "core/monitor/subsz.h"
#include "core/route/mapping.h"

/* The weight is the sum up to its destination, as nats-server shows it. */
static void write_mapping(struct json_write *w, const struct mapping_set *set, uint32_t entry)
{
    struct bytes destination;
    uint32_t weight_sum;
    json_write_key(w, mapping_set_source(set, entry));
    json_write_array(w, NULL);
    for (uint32_t i = 0; mapping_set_destination(set, entry, i, &destination, &weight_sum); i++) {
        json_write_object(w, NULL);
        json_write_text(w, "subject", destination);
        json_write_u64(w, "weight", weight_sum);
        json_write_end(w);
    }
    json_write_end(w);
}

/* In the order of the sources, which are all different: the next larger one each time. */
static void write_mappings(struct json_write *w, const struct mapping_set *set)
{
    uint32_t count = set == NULL ? 0 : mapping_set_count(set);
    if (count == 0) return;
    json_write_object(w, "mappings");
    struct bytes last = {NULL, 0};
    for (uint32_t written = 0; written < count; written++) {
        uint32_t next = count;
        for (uint32_t i = 0; i < count; i++) {
            struct bytes source = mapping_set_source(set, i);
            if (written > 0 && bytes_compare(source, last) <= 0) continue;
            if (next == count || bytes_compare(source, mapping_set_source(set, next)) < 0) next = i;
        }
        if (next == count) break;
        write_mapping(w, set, next);
        last = mapping_set_source(set, next);
    }
    json_write_end(w);
}

void accountz_write_detail(const struct page_input *in, struct json_write *w, const char *key,
                           const struct account *a)
{
    struct account_snapshot sums;
    snapshot_merge_account(in, a->number, &sums);

    json_write_object(w, key);
    json_write_text(w, "account_name", a->name);
    json_write_time(w, "update_time", in->server->config_load_ns);
    json_write_bool_if(w, "is_system", a->is_system);
    json_write_bool(w, "expired", false);
    json_write_bool(w, "complete", true);
    json_write_bool(w, "jetstream_enabled", js_snapshot_has_account(in->server, a));
    json_write_u64(w, "leafnode_connections", sums.leafs);
    json_write_u64(w, "client_connections", sums.connections);
    json_write_u64(w, "subscriptions", sums.subscriptions);
    write_mappings(w, a->mappings);
    json_write_text_if(w, "issuer_key", a->nkey);
    json_write_text(w, "name_tag", a->name);
    json_write_object(w, "sublist_stats");
    subsz_write_counts(in, w, true);
    json_write_end(w);
    json_write_end(w);
}

static enum err write_names(const struct page_input *in, struct json_write *w)
{
    struct account_list accounts;
    if (snapshot_accounts_by_name(in, &accounts) != ERR_OK) return ERR_MEMORY;
    /* An empty list is left out, but there always is $G. */
    if (accounts.count > 0) {
        json_write_array(w, "accounts");
        for (uint32_t i = 0; i < accounts.count; i++)
            json_write_text(w, NULL, accounts.list[i]->name);
        json_write_end(w);
    }
    snapshot_accounts_free(in, &accounts);
    return ERR_OK;
}

enum err accountz_write(const struct page_input *in, struct json_write *w, struct text *error)
{
    const struct page_query *q = in->query;
    const struct account *a = NULL;
    if (q->account.len != 0) {
        a = snapshot_account_by_name(in->server, q->account);
        if (a == NULL) {
            text_string(error, "Account ");
            text_bytes(error, q->account);
            text_string(error, " does not exist");
            return ERR_INVALID;
        }
    }

    json_write_object(w, NULL);
    json_write_text(w, "server_id", in->server->id);
    json_write_time(w, "now", in->server->now_ns);
    json_write_text_if(w, "system_account", snapshot_system_account(in->server));
    if (a != NULL)
        accountz_write_detail(in, w, "account_detail", a);
    else if (write_names(in, w) != ERR_OK)
        return ERR_MEMORY;
    json_write_end(w);
    return ERR_OK;
}
