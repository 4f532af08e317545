#include "core/monitor/accountz.h"
#include "core/monitor/subsz.h"

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
    json_write_bool(w, "jetstream_enabled", false);
    json_write_u64(w, "leafnode_connections", sums.leafs);
    json_write_u64(w, "client_connections", sums.connections);
    json_write_u64(w, "subscriptions", sums.subscriptions);
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
