/* The server as a client of itself: its own subscriptions on $SYS.REQ.>, its events, and subject
 * mappings. */
#include "core/base/must.h"
#include "core/route/mapping.h"
#include "core/shard/internal.h"

void system_open(struct shard *s)
{
    (void)s;
}

void system_close(struct shard *s)
{
    (void)s;
}

bool system_map_subject(struct shard *s, const struct mapping_set *mappings, struct bytes *subject,
                        char *room, size_t room_bytes)
{
    struct bytes mapped;
    switch (mapping_set_apply(mappings, *subject, &s->rng, room, room_bytes, &mapped)) {
    case MAPPING_MAPPED: *subject = mapped; return true;
    case MAPPING_DROPPED: return false;
    default: return true;
    }
}

void system_deliver(struct shard *s, struct sub *sub, const struct message *m)
{
    (void)s, (void)sub, (void)m;
}

void system_connected(struct shard *s, struct client *c)
{
    (void)s, (void)c;
}

void system_disconnected(struct shard *s, struct client *c)
{
    (void)s, (void)c;
}

void system_auth_failed(struct shard *s, struct client *c, enum closed_reason reason)
{
    (void)s, (void)c, (void)reason;
}

/* An internal message of the server in an account. */
void system_publish(struct shard *s, uint32_t account, struct bytes subject, struct bytes reply,
                    struct bytes payload)
{
    struct shard_account *a = session_account(s, account);
    char *copy = mem_alloc(s->mem, MEM_MONITOR, payload.len + 2);
    if (copy == NULL || a == NULL) {
        mem_free(s->mem, MEM_MONITOR, copy, payload.len + 2);
        return;
    }
    if (payload.len > 0) memcpy(copy, payload.data, payload.len);
    memcpy(copy + payload.len, "\r\n", 2);
    struct message m = {.account = a,
                        .subject = subject,
                        .reply = reply,
                        .total_bytes = (uint32_t)payload.len,
                        .payload = copy,
                        .origin_shard = s->index};
    enum park_reason reason;
    /* No room in a mail ring: the event is lost for that shard and counted; the server does not
     * park. */
    if (fanout_publish(s, &m, NULL, &reason) == FANOUT_PARK) s->counts.dropped_msgs++;
    mem_free(s->mem, MEM_MONITOR, copy, payload.len + 2);
}
