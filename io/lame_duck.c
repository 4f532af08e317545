#include "io/lame_duck.h"
#include <limits.h>
#include "io/listener.h"
#include "io/system_port.h"

enum {
    INTERVAL_NS_MIN = 1000000u,    /* two closes are at least so far apart, */
    INTERVAL_NS_MAX = 1000000000u, /* and at most so far */
};

void lame_duck_begin(struct lame_duck *d, struct server *s)
{
    if (d->is_on) return;
    d->is_on = true;
    atomic_store(&s->is_lame_duck, true);
    log_info(s->log, "Entering lame duck mode, stop accepting new clients");
    listener_stop(s);
    struct order o = {.kind = ORDER_LAME_DUCK};
    (void)server_order(s, &o, server_sender_main(s), ORDER_WAIT_FOR_EVER);
    system_port_farewell(s, false);
    uint64_t grace = (uint64_t)atomic_load(&s->options)->lame_duck_grace_period_ns;
    d->next_ns = server_now(NULL).mono_ns + (atomic_load(&s->conn_count) == 0 ? 0 : grace);
}

int lame_duck_timeout_ms(const struct lame_duck *d)
{
    if (!d->is_on) return -1;
    uint64_t now = server_now(NULL).mono_ns;
    if (d->next_ns <= now) return 0;
    uint64_t ms = (d->next_ns - now) / 1000000u + 1;
    return ms > INT_MAX ? INT_MAX : (int)ms;
}

static void plan(struct lame_duck *d, struct server *s)
{
    const struct options *o = atomic_load(&s->options);
    uint64_t count = atomic_load(&s->conn_count);
    uint64_t time = (uint64_t)(o->lame_duck_duration_ns - o->lame_duck_grace_period_ns);
    d->batch = 1;
    d->interval_ns = count == 0 ? INTERVAL_NS_MIN : time / count;
    if (d->interval_ns < INTERVAL_NS_MIN) {
        d->batch = (uint32_t)(INTERVAL_NS_MIN / (d->interval_ns == 0 ? 1 : d->interval_ns)) + 1;
        d->interval_ns = INTERVAL_NS_MIN;
    }
    if (d->interval_ns > INTERVAL_NS_MAX) d->interval_ns = INTERVAL_NS_MAX;
}

uint32_t lame_duck_fullest(const struct server *s)
{
    uint32_t fullest = 0;
    for (uint32_t i = 1; i < s->shard_count; i++)
        if (atomic_load(&s->shards[i].conns) > atomic_load(&s->shards[fullest].conns)) fullest = i;
    return fullest;
}

bool lame_duck_step(struct lame_duck *d, struct server *s)
{
    uint64_t now = server_now(NULL).mono_ns;
    if (!d->is_on || now < d->next_ns) return false;
    if (!d->is_closing) {
        d->is_closing = true;
        plan(d, s);
        log_info(s->log, "Closing existing clients");
    }
    uint32_t fullest = lame_duck_fullest(s);
    if (atomic_load(&s->conn_count) == 0) return true;
    struct order o = {.kind = ORDER_CLOSE_SOME, .count = d->batch};
    (void)server_order_one(s, &o, fullest, server_sender_main(s), ORDER_WAIT_FOR_EVER);
    d->next_ns = now + d->interval_ns;
    return false;
}
