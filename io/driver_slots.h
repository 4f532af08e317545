/* What both drivers keep per slot and do alike: who holds it, the send in flight, the list of
 * slots with something to do, the list of those whose receive found no buffer.
 *
 * struct driver_slot begins the slot of a driver; the table knows its stride. Private to the
 * drivers. */
#ifndef IO_DRIVER_SLOTS_H
#define IO_DRIVER_SLOTS_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include "core/base/must.h"
#include "io/driver.h"

#define DRIVER_SLOT_NONE UINT32_MAX

enum driver_slot_kind {
    DRIVER_SLOT_FREE,
    DRIVER_SLOT_LISTENER,
    DRIVER_SLOT_SOCKET,
    DRIVER_SLOT_WATCH,
};

/* The pieces of a send that has more than one. */
struct driver_slot_pieces {
    struct driver_slot_pieces *next_free;
    struct msghdr message; /* of the ring */
    uint32_t index, count; /* index: the first not sent whole */
    struct iovec iov[DRIVER_IOV_MAX];
};

struct driver_slot {
    uint8_t kind;
    bool is_todo;
    bool is_starved;
    bool is_suspended;
    bool is_recv_ended; /* DONE_EOF or DONE_ERROR was reported */
    bool is_closing;
    bool is_sending;     /* from send to DONE_SENT */
    bool is_send_wanted; /* the (rest of the) send is to be tried at the next poll */
    int fd;
    uint32_t tag;
    uint32_t generation; /* another one for each holder */
    uint32_t todo_next, starved_next;
    int32_t send_bytes;  /* sent so far of the send in flight, or its error before it began */
    struct iovec send_one;
    struct driver_slot_pieces *send_pieces; /* or NULL: send_one is all */
};

/* A list through one of the next fields, first in first out. */
struct driver_slot_list {
    uint32_t first, last;
};

struct driver_slots {
    uint8_t *slots; /* each of slot_bytes */
    size_t slot_bytes;
    uint32_t count;
    struct driver_slot_list todo, starved;
    struct driver_slot_pieces *free_pieces;
};

NODISCARD enum err driver_slots_open(struct driver_slots *t, uint32_t count, size_t slot_bytes);
void driver_slots_close(struct driver_slots *t);

static inline struct driver_slot *driver_slots_at(const struct driver_slots *t, uint32_t slot)
{
    must(slot < t->count);
    return (struct driver_slot *)(void *)(t->slots + slot * t->slot_bytes);
}

/* Gives a free slot to a new holder and puts it on the todo list. The rest of the driver's slot
 * is zeroed. */
void driver_slots_take(struct driver_slots *t, uint32_t slot, uint32_t tag, int fd,
                       enum driver_slot_kind kind);
/* It may still be on the todo list. */
void driver_slots_free(struct driver_slots *t, uint32_t slot);

/* Both lists: no effect if the slot is on it. */
void driver_slots_todo(struct driver_slots *t, uint32_t slot);
void driver_slots_starve(struct driver_slots *t, uint32_t slot);
/* Takes the first slot off the todo list. */
void driver_slots_todo_pop(struct driver_slots *t);
/* Moves up to most slots from the starved list to the todo list. */
void driver_slots_feed(struct driver_slots *t, uint32_t most);

/* The send of a socket begins: iov is copied. Without memory it ends with send_bytes -ENOMEM. */
void driver_slots_send(struct driver_slots *t, uint32_t slot, const struct iovec *iov,
                       uint32_t count);
/* What is left to send, and the number of pieces. */
static inline struct iovec *driver_slots_send_rest(struct driver_slot *s, uint32_t *count)
{
    struct driver_slot_pieces *p = s->send_pieces;
    *count = p == NULL ? 1 : p->count - p->index;
    return p == NULL ? &s->send_one : &p->iov[p->index];
}
/* sent bytes left; true when it was the rest. */
bool driver_slots_send_advance(struct driver_slot *s, size_t sent);
void driver_slots_send_end(struct driver_slots *t, struct driver_slot *s);

/* Appends a completion at *at. */
static inline struct done *driver_slots_report(struct done **at, enum done_kind kind, uint32_t slot,
                                              uint32_t tag, int32_t result)
{
    struct done *d = (*at)++;
    *d = (struct done){.kind = kind, .slot = slot, .tag = tag, .result = result, .fd = -1};
    return d;
}

/* Counts a result; true when it is the one to be replaced by the fault's error. */
static inline bool driver_slots_fault(uint64_t *count, uint64_t at)
{
    return ++*count == at;
}

/* The most that a test lets one attempt to send take of bytes. */
static inline size_t driver_slots_send_cap(const struct driver_faults *f, size_t bytes)
{
    return f != NULL && f->send_bytes_max != 0 && bytes > f->send_bytes_max ? f->send_bytes_max
                                                                           : bytes;
}

/* After an accept error: false when it is the fault of one connection, so that accepting may go
 * on at once; else trying at once could fail for ever. */
bool driver_slots_accept_must_pause(int error);
/* Out of descriptors: takes up to most connections out of the backlog of the non-blocking listener
 * with the descriptor held in reserve, and closes them; else they would wait there until their
 * clients give up. Returns their number. spare_fd is what the reserve is a copy of. */
uint32_t driver_slots_refuse(int listen_fd, int *reserve_fd, int spare_fd, uint32_t most);

uint64_t driver_slots_now_ns(void);

#endif
