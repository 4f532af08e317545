/* The connections of a turn (io/turn.h): what the driver reports of a socket becomes events of the
 * shard, received bytes wait here until the shard has taken them, TLS lies between, and what the
 * shard has to say is sent. For io/turn.c, which runs these functions in the order of a turn; each
 * that takes count adds to the events of the turn and moves it on. */
#ifndef IO_TURN_CONN_H
#define IO_TURN_CONN_H
#include "core/base/must.h"
#include "io/turn.h"

static inline struct conn_id turn_conn_id(const struct turn *t, uint32_t slot)
{
    return conn_id_of(slot, t->conns[slot].generation);
}

static inline struct event *turn_conn_event(struct turn *t, uint32_t *count, enum event_kind kind,
                                            uint32_t slot)
{
    must(*count < TURN_EVENTS_MAX);
    struct event *e = &t->events[*count];
    t->event_slots[*count] = slot;
    (*count)++;
    *e = (struct event){.kind = kind};
    if (slot != UINT32_MAX) e->conn = turn_conn_id(t, slot);
    return e;
}

/* NULL: it is gone. */
struct turn_conn *turn_conn_find(struct turn *t, struct conn_id id);

/* New connections whose first bytes do not matter, last words that took too long, and handshakes.
 */
void turn_conn_run_deadlines(struct turn *t, uint32_t *count);
/* What was left by earlier steps, or came of TLS since. */
void turn_conn_offer(struct turn *t, uint32_t *count);
/* A completion, also one that is not of a connection: at most TURN_EVENTS_PER_DONE events. */
void turn_conn_done(struct turn *t, const struct done *d, uint32_t *count);
/* After a step that consumed events [from, to) of count: what the shard took is released, what it
 * left waits. */
void turn_conn_settle(struct turn *t, uint32_t from, uint32_t to, uint32_t count);

/* EFFECT_CLOSE, EFFECT_RESUME, EFFECT_TLS. */
void turn_conn_close(struct turn *t, const struct effect *e);
void turn_conn_resume(struct turn *t, uint32_t slot);
void turn_conn_await_tls(struct turn *t, uint32_t slot);

/* Sends what the connections of the shard have to say. */
void turn_conn_flush(struct turn *t);
/* Connections whose last words are said. */
void turn_conn_close_flushed(struct turn *t);

#endif
