#include "io/driver_slots.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum err driver_slots_open(struct driver_slots *t, uint32_t count, size_t slot_bytes)
{
    must(count > 0 && count < DRIVER_SLOT_NONE);
    must(slot_bytes >= sizeof(struct driver_slot));
    *t = (struct driver_slots){.slot_bytes = slot_bytes,
                               .count = count,
                               .todo = {DRIVER_SLOT_NONE, DRIVER_SLOT_NONE},
                               .starved = {DRIVER_SLOT_NONE, DRIVER_SLOT_NONE}};
    /* Zeroed by the kernel when first touched: a large table costs what is used of it. */
    t->slots = calloc(count, slot_bytes);
    return t->slots == NULL ? ERR_MEMORY : ERR_OK;
}

void driver_slots_close(struct driver_slots *t)
{
    for (uint32_t i = 0; t->slots != NULL && i < t->count; i++) {
        struct driver_slot *s = driver_slots_at(t, i);
        if (s->kind == DRIVER_SLOT_SOCKET) close(s->fd);
        free(s->send_pieces);
    }
    while (t->free_pieces != NULL) {
        struct driver_slot_pieces *p = t->free_pieces;
        t->free_pieces = p->next_free;
        free(p);
    }
    free(t->slots);
}

void driver_slots_take(struct driver_slots *t, uint32_t slot, uint32_t tag, int fd,
                       enum driver_slot_kind kind)
{
    struct driver_slot *s = driver_slots_at(t, slot);
    must(s->kind == DRIVER_SLOT_FREE);
    must(!s->is_starved);
    must(fd >= 0);
    /* Still queued by its last holder: the entry serves this one. */
    bool is_todo = s->is_todo;
    uint32_t todo_next = s->todo_next, generation = s->generation + 1;
    memset(s, 0, t->slot_bytes);
    s->kind = (uint8_t)kind;
    s->fd = fd;
    s->tag = tag;
    s->generation = generation;
    s->is_todo = is_todo;
    s->todo_next = todo_next;
    driver_slots_todo(t, slot);
}

static void starved_remove(struct driver_slots *t, uint32_t slot)
{
    uint32_t before = DRIVER_SLOT_NONE, at = t->starved.first;
    for (; at != slot; at = driver_slots_at(t, at)->starved_next) before = at;
    struct driver_slot *s = driver_slots_at(t, slot);
    if (before == DRIVER_SLOT_NONE)
        t->starved.first = s->starved_next;
    else
        driver_slots_at(t, before)->starved_next = s->starved_next;
    if (t->starved.last == slot) t->starved.last = before;
    s->is_starved = false;
}

void driver_slots_free(struct driver_slots *t, uint32_t slot)
{
    struct driver_slot *s = driver_slots_at(t, slot);
    must(s->kind != DRIVER_SLOT_FREE);
    must(!s->is_sending);
    /* The list is walked: closing while buffers are short is rare. */
    if (s->is_starved) starved_remove(t, slot);
    s->kind = DRIVER_SLOT_FREE;
    s->generation++;
}

void driver_slots_todo(struct driver_slots *t, uint32_t slot)
{
    struct driver_slot *s = driver_slots_at(t, slot);
    if (s->is_todo) return;
    s->is_todo = true;
    s->todo_next = DRIVER_SLOT_NONE;
    if (t->todo.first == DRIVER_SLOT_NONE)
        t->todo.first = slot;
    else
        driver_slots_at(t, t->todo.last)->todo_next = slot;
    t->todo.last = slot;
}

void driver_slots_todo_pop(struct driver_slots *t)
{
    struct driver_slot *s = driver_slots_at(t, t->todo.first);
    must(s->is_todo);
    t->todo.first = s->todo_next;
    s->is_todo = false;
}

void driver_slots_starve(struct driver_slots *t, uint32_t slot)
{
    struct driver_slot *s = driver_slots_at(t, slot);
    if (s->is_starved) return;
    s->is_starved = true;
    s->starved_next = DRIVER_SLOT_NONE;
    if (t->starved.first == DRIVER_SLOT_NONE)
        t->starved.first = slot;
    else
        driver_slots_at(t, t->starved.last)->starved_next = slot;
    t->starved.last = slot;
}

void driver_slots_feed(struct driver_slots *t, uint32_t most)
{
    for (; most > 0 && t->starved.first != DRIVER_SLOT_NONE; most--) {
        uint32_t slot = t->starved.first;
        struct driver_slot *s = driver_slots_at(t, slot);
        t->starved.first = s->starved_next;
        s->is_starved = false;
        driver_slots_todo(t, slot);
    }
}

static struct driver_slot_pieces *pieces_take(struct driver_slots *t)
{
    struct driver_slot_pieces *p = t->free_pieces;
    if (p == NULL) return malloc(sizeof *p);
    t->free_pieces = p->next_free;
    return p;
}

void driver_slots_send(struct driver_slots *t, uint32_t slot, const struct iovec *iov,
                       uint32_t count)
{
    struct driver_slot *s = driver_slots_at(t, slot);
    must(s->kind == DRIVER_SLOT_SOCKET);
    must(!s->is_sending && !s->is_closing);
    must(count >= 1 && count <= DRIVER_IOV_MAX);
    s->is_sending = s->is_send_wanted = true;
    s->send_bytes = 0;
    s->send_one = iov[0];
    driver_slots_todo(t, slot);
    if (count == 1) return;
    s->send_pieces = pieces_take(t);
    if (s->send_pieces == NULL) {
        s->send_bytes = -ENOMEM;
        return;
    }
    s->send_pieces->index = 0;
    s->send_pieces->count = count;
    memcpy(s->send_pieces->iov, iov, count * sizeof *iov);
}

bool driver_slots_send_advance(struct driver_slot *s, size_t sent)
{
    struct driver_slot_pieces *p = s->send_pieces;
    uint32_t left;
    struct iovec *iov = driver_slots_send_rest(s, &left);
    s->send_bytes += (int32_t)sent;
    while (left > 0 && sent >= iov->iov_len) {
        sent -= iov->iov_len;
        iov++;
        left--;
    }
    if (p != NULL) p->index = p->count - left;
    if (left == 0) return true;
    iov->iov_base = (char *)iov->iov_base + sent;
    iov->iov_len -= sent;
    return false;
}

void driver_slots_send_end(struct driver_slots *t, struct driver_slot *s)
{
    if (s->send_pieces != NULL) {
        s->send_pieces->next_free = t->free_pieces;
        t->free_pieces = s->send_pieces;
        s->send_pieces = NULL;
    }
    s->is_sending = s->is_send_wanted = false;
}

bool driver_slots_accept_must_pause(int error)
{
    return error != ECONNABORTED && error != EPROTO;
}

uint32_t driver_slots_refuse(int listen_fd, int *reserve_fd, int spare_fd, uint32_t most)
{
    uint32_t count = 0;
    while (count < most && *reserve_fd >= 0) {
        close(*reserve_fd);
        int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) close(fd);
        *reserve_fd = fcntl(spare_fd, F_DUPFD_CLOEXEC, 0);
        if (fd < 0) break;
        count++;
    }
    return count;
}

uint64_t driver_slots_now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}
