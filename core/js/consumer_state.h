/* What the files of consumer share: core/js/consumer.h is the one for everybody else. */
#ifndef CORE_JS_CONSUMER_STATE_H
#define CORE_JS_CONSUMER_STATE_H
#include "core/js/consumer.h"
#include "core/js/sieve.h"

/* Last messages of the subjects as they were when the consumer was made: sequences in order. */
struct consumer_latest {
    uint32_t room, count, at; /* the next one is seqs[at] */
    uint32_t live;            /* from at on, those that are still there */
    uint64_t resume;          /* behind this sequence everything is delivered */
    uint64_t seqs[];          /* bit 63: gone */
};

/* Says what happened, and to whom. */
void consumer_state_tell(const struct consumer *c, struct outlet_event *e, struct outlet *o);

/* Messages that were there when the consumer was made come at the pace of their arrival. */
struct consumer_pace {
    uint64_t end;    /* it ends behind this sequence */
    int64_t time_ns; /* of the message replayed last, and when that was; 0: none yet */
    int64_t mono_ns;
};

struct consumer_rare {
    bool is_replay; /* replay original that goes on */
    bool has_sieve; /* while messages are searched */
    struct consumer_pace pace;
    struct sieve sieve;
};

/* Something may be put into live from now on. ERR_MEMORY. */
NODISCARD enum err consumer_state_wake(struct consumer *c);

#define CONSUMER_LATEST_GONE (UINT64_C(1) << 63)

/* Makes the list of subjects whose last message lies in [from, to]. ERR_MEMORY. */
NODISCARD enum err consumer_state_open_latest(struct consumer *c, uint64_t from, uint64_t to);
void consumer_state_close_latest(struct consumer *c);
/* Counts again from the indexes, as far as there is memory for it. */
void consumer_state_recount(struct consumer *c);
/* The lowest pending delivery may have gone. */
void consumer_state_move_floor(struct consumer *c, uint64_t settled_seq);

#endif
