/* The whole server in one thread: N shards with their real core, io/turn and io/mailbox, each on
 * a stack of its own, so that a shard sleeps inside its driver's poll exactly as a thread would
 * (with its sleeping flag set and offline in the index) while the others run.
 *
 * The scheduler decides who runs next, and when time passes; a shard also gives way inside a turn
 * (at allocations and clock reads of its own), where a thread could be preempted. The index's
 * writer lock is sometimes held for a while, as by a shard that is writing.
 *
 * With a store the shards have JetStream. Then a struct server is one life of the machine:
 * server_crash ends it where it stands, and the next one opens what the disk holds. */
#ifndef TESTS_SIM_SERVER_H
#define TESTS_SIM_SERVER_H
#include <setjmp.h>
#include <ucontext.h>
#include "core/config/options.h"
#include "core/shard/shard.h"
#include "io/mailbox.h"
#include "io/turn.h"
#include "tests/sim/clock.h"
#include "tests/sim/net.h"
#include "tests/sim/simstore.h"

enum { SERVER_SHARDS_MAX = 5, SERVER_STACK_BYTES = 1 << 20, SERVER_ORDERS_MAX = 64 };

struct server_block { /* before each block of memory */
    struct server_block *next, **place;
    _Alignas(16) char data[];
};

struct server_mem { /* the memory port; counts and fails over all of the world's */
    struct mem mem;
    struct server *server;
    uint32_t shard; /* SERVER_SHARDS_MAX: not a shard's own */
};

struct server_stack {
    ucontext_t context; /* for the first step onto it */
    jmp_buf jump;       /* for all others */
    bool is_begun;
    char *bytes;
};

struct server_shard {
    struct server *server;
    uint32_t index;
    struct server_mem mem;
    struct net_driver driver;
    struct shard *shard;
    struct turn *turn;
    struct server_stack stack;
    void *fake_stack; /* of the address sanitizer */
    bool is_sleeping;
    bool can_yield;
    uint64_t wake_ns;  /* the sleep ends then at the latest */
    uint64_t stall_ns; /* the thread gets no processor until then */
    uint64_t turns;
    uint32_t conns;
    bool is_ended;
};

struct server_crypto {
    struct server *server;
    uint32_t shard;
    struct turn_crypto answer;
};

struct server_config {
    uint64_t seed, net_seed;
    uint32_t shard_count;
    uint32_t ring_bytes;
    const char *conf;
    bool is_hostile; /* preemption, stalls, a busy index */
    bool is_crowded; /* outboxes have room for a few effects only, now and then */
    uint64_t fail_alloc_at;
    struct simstore *store; /* NULL: no JetStream */
    uint64_t start_ns;      /* of the clock; 0: its usual start */
    uint64_t recovery_steps; /* the power fails in the middle of the recovery; 0: it does not */
};

struct server {
    struct clock clock;
    struct net net;
    struct rng rng;
    struct server_config config;
    struct server_mem shared_mem, main_mem;
    struct interest *interest;
    struct mailbox_net *mail;
    struct account_numbers *numbers;
    struct options *options, *options_next;
    struct server_facts facts;
    struct server_shard shards[SERVER_SHARDS_MAX];
    uint32_t shard_count, next_target;
    uint64_t next_cid;
    bool is_deaf, is_stopping;
    struct server_stack main_stack;
    const void *asan_stack; /* the main one, of the address sanitizer */
    size_t asan_bytes;
    void *main_fake_stack;
    struct server_shard *current;

    struct order *orders[SERVER_ORDERS_MAX]; /* wait for ring space */
    uint32_t order_target[SERVER_ORDERS_MAX];
    uint32_t order_count;

    _Atomic uint32_t *held_lock; /* of the index */
    uint64_t held_until_ns;
    uint64_t squeeze_until_ns; /* allocations of the output class fail now and then */
    bool was_squeezed;

    uint64_t allocs, failed_allocs, live_blocks;
    struct server_block *blocks; /* all of them, for a crash */
    uint64_t hash; /* of everything that happened */
    uint64_t steps, preemptions;
    uint64_t outbox_full, close_owed, lines_lost; /* turns that ended so */
    struct rng crowd; /* of its own: a seed without a crowd stays the run it was */
    bool has_failed_open;
    bool is_verbose;
    struct {
        uint64_t errors;
    } log;
};

/* False: out of (injected) memory, or recovery_steps; everything is freed. */
bool server_open(struct server *s, const struct server_config *config);
/* All connections are gone or are closed now; runs until all is quiet, then frees everything.
 * False: it did not come to rest. Checks that no block is left. */
bool server_close(struct server *s);
/* The power fails: the threads end where they stand, and what they had goes. */
void server_crash(struct server *s);
/* One step: something runs, or time passes. False: nothing will ever happen again. */
bool server_step(struct server *s);
/* Runs until now + ns. */
void server_run_for(struct server *s, uint64_t ns);
struct net_link *server_connect(struct server *s, uint64_t latency_ns, size_t window_bytes);
/* Hands the order to every shard (or one); done when o->waiting is 0. */
void server_order(struct server *s, struct order *o);
void server_order_one(struct server *s, struct order *o, uint32_t shard);
/* New options from text. False: they were refused. */
bool server_reload(struct server *s, const char *conf, struct order *o);
/* The order of a reload is done: the old options go. */
void server_reloaded(struct server *s);
void server_note(struct server *s, uint64_t a, uint64_t b);
void server_note_bytes(struct server *s, const void *data, size_t bytes);
/* Sums a count over all shards. */
#define SERVER_SUM(s, field)                                                                       \
    ({                                                                                             \
        uint64_t sum_ = 0;                                                                         \
        for (uint32_t i_ = 0; i_ < (s)->shard_count; i_++)                                         \
            if ((s)->shards[i_].shard != NULL) sum_ += (s)->shards[i_].shard->field;               \
        sum_;                                                                                      \
    })

#endif
