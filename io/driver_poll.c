/* The driver port on epoll, for places where io_uring is forbidden and for sanitizers, which
 * cannot see what the kernel writes through a ring. Files go to a few threads.
 *
 * 1. A socket is in the epoll set exactly while it wants something (level-triggered): a suspended
 *    or ended socket would otherwise report its hang-up for ever.
 * 2. Port calls only change the slot and put it on the todo list; poll() works the list off
 *    before it waits. So a suspend and resume within one turn cost no system call.
 * 3. A slot whose receive found no buffer leaves the set and waits on the starved list, first
 *    come first served; each poll takes back as many slots as buffers are free. One that came
 *    back may want nothing any more, so poll() does not wait while both are left.
 * 4. At most POLL_RECV_BYTES are received per socket and poll, so no socket starves others. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include "core/base/must.h"
#include "io/driver.h"
#include "io/file_threads.h"

enum {
    POLL_RECV_BYTES = 64 * 1024,
    POLL_EVENTS_MAX = 256,
    POLL_ACCEPTS_MAX = 64,   /* per listener and poll */
    POLL_BUFFERS_MIN = 4,
    POLL_FILE_THREADS = 2,
    POLL_ACCEPT_PAUSE_NS = 100 * 1000 * 1000, /* when the reserved descriptor did not help */
};

#define SLOT_NONE UINT32_MAX
#define SLOT_WAKE UINT32_MAX /* in epoll data: the driver's own eventfd */

enum slot_kind { SLOT_FREE, SLOT_LISTENER, SLOT_SOCKET, SLOT_WATCH };

/* What is left of the one send in flight. */
struct send_rest {
    struct send_rest *next_free;
    uint32_t index, count;
    struct iovec iov[DRIVER_IOV_MAX];
};

struct slot {
    uint8_t kind;
    uint8_t events;      /* EPOLLIN, EPOLLOUT as the kernel has them now; 0: not in the set */
    bool is_todo;
    bool is_suspended;
    bool is_recv_ended;  /* DONE_EOF or DONE_ERROR was reported */
    bool is_starved;
    bool is_closing;
    bool is_sending;
    bool is_send_new;    /* not tried yet */
    bool is_send_blocked; /* wants EPOLLOUT */
    int fd;
    uint32_t tag;
    uint32_t todo_next, starved_next;
    int32_t send_bytes;   /* sent so far of the send in flight, or its error before it began */
    struct iovec send_one; /* the send in flight while it has one piece */
    struct send_rest *send_rest; /* or NULL */
};

/* A list of slots through one of their next fields, first in first out. */
struct slot_queue {
    uint32_t first, last;
};

struct driver_poll {
    struct driver driver;
    struct slot *slots;
    uint32_t slots_max;
    int epoll_fd;
    int wake_fd;
    int reserve_fd;        /* given up for a moment when descriptors run out; -1 if lost */
    atomic_bool is_woken;  /* set by wake, cleared when DONE_WAKE is reported */
    atomic_bool has_files; /* finished file operations may wait to be taken */
    bool is_pwait2_missing;
    uint64_t accept_paused_until_ns; /* 0: not paused */
    struct slot_queue todo, starved;
    struct send_rest *free_rests;
    struct file_threads *files;
    struct file_op *files_taken; /* not reported yet */
    struct driver_faults *faults;
    char *buffers; /* buffer_count times POLL_RECV_BYTES */
    uint32_t buffer_count, buffers_free_count;
    uint32_t *buffers_free; /* a stack: the last one released is warm */
};

static struct driver_poll *poll_of(struct driver *d)
{
    return (struct driver_poll *)d;
}

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* The n-th result is replaced by the fault's error; true when this is the one. */
static bool fault_hits(uint64_t *count, uint64_t at)
{
    return ++*count == at;
}

static struct slot *slot_at(struct driver_poll *p, uint32_t slot)
{
    must(slot < p->slots_max);
    return &p->slots[slot];
}

static void todo_push(struct driver_poll *p, uint32_t slot)
{
    struct slot *s = &p->slots[slot];
    if (s->is_todo) return;
    s->is_todo = true;
    s->todo_next = SLOT_NONE;
    if (p->todo.first == SLOT_NONE)
        p->todo.first = slot;
    else
        p->slots[p->todo.last].todo_next = slot;
    p->todo.last = slot;
}

static void starved_push(struct driver_poll *p, uint32_t slot)
{
    struct slot *s = &p->slots[slot];
    must(!s->is_starved);
    s->is_starved = true;
    s->starved_next = SLOT_NONE;
    if (p->starved.first == SLOT_NONE)
        p->starved.first = slot;
    else
        p->slots[p->starved.last].starved_next = slot;
    p->starved.last = slot;
}

static void starved_take_back(struct driver_poll *p)
{
    for (uint32_t i = 0; i < p->buffers_free_count && p->starved.first != SLOT_NONE; i++) {
        uint32_t slot = p->starved.first;
        p->starved.first = p->slots[slot].starved_next;
        p->slots[slot].is_starved = false;
        todo_push(p, slot);
    }
}

/* Only on close, which is rare: the list is walked. */
static void starved_remove(struct driver_poll *p, uint32_t slot)
{
    if (!p->slots[slot].is_starved) return;
    uint32_t before = SLOT_NONE;
    for (uint32_t i = p->starved.first; i != slot; i = p->slots[i].starved_next) before = i;
    uint32_t after = p->slots[slot].starved_next;
    if (before == SLOT_NONE)
        p->starved.first = after;
    else
        p->slots[before].starved_next = after;
    if (p->starved.last == slot) p->starved.last = before;
    p->slots[slot].is_starved = false;
}

static uint8_t events_wanted(const struct driver_poll *p, const struct slot *s)
{
    switch ((enum slot_kind)s->kind) {
    case SLOT_FREE: return 0;
    case SLOT_LISTENER: return p->accept_paused_until_ns != 0 ? 0 : EPOLLIN;
    case SLOT_WATCH: return EPOLLIN;
    case SLOT_SOCKET: break;
    }
    if (s->is_closing) return 0;
    bool wants_in = !s->is_suspended && !s->is_recv_ended && !s->is_starved;
    return (uint8_t)((wants_in ? EPOLLIN : 0) | (s->is_send_blocked ? EPOLLOUT : 0));
}

static void events_update(struct driver_poll *p, uint32_t slot)
{
    struct slot *s = &p->slots[slot];
    uint8_t wanted = events_wanted(p, s);
    if (wanted == s->events) return;
    int op = s->events == 0 ? EPOLL_CTL_ADD : wanted == 0 ? EPOLL_CTL_DEL : EPOLL_CTL_MOD;
    struct epoll_event event = {.events = wanted, .data.u32 = slot};
    p->driver.count.syscalls++;
    int result = epoll_ctl(p->epoll_fd, op, s->fd, &event);
    /* Adding again can only fail for want of kernel memory: tried anew at the next poll. */
    if (result < 0 && op == EPOLL_CTL_ADD) {
        must(errno == ENOMEM || errno == ENOSPC);
        todo_push(p, slot);
        return;
    }
    must(result == 0);
    s->events = wanted;
}

static struct done *done_add(struct done **at, enum done_kind kind, uint32_t slot, uint32_t tag,
                             int32_t result)
{
    struct done *d = (*at)++;
    *d = (struct done){.kind = kind, .slot = slot, .tag = tag, .result = result, .fd = -1};
    return d;
}

/* --- sending --------------------------------------------------------------------------------- */

static void send_done(struct driver_poll *p, uint32_t slot, int32_t result, struct done **at)
{
    struct slot *s = &p->slots[slot];
    if (s->send_rest != NULL) {
        s->send_rest->next_free = p->free_rests;
        p->free_rests = s->send_rest;
        s->send_rest = NULL;
    }
    s->is_sending = s->is_send_new = s->is_send_blocked = false;
    done_add(at, DONE_SENT, slot, s->tag, result);
}

/* Drops sent bytes from the front; true when nothing is left. */
static bool send_advance(struct slot *s, size_t sent)
{
    struct send_rest *r = s->send_rest;
    struct iovec *iov = r == NULL ? &s->send_one : &r->iov[r->index];
    uint32_t left = r == NULL ? 1 : r->count - r->index;
    while (left > 0 && sent >= iov->iov_len) {
        sent -= iov->iov_len;
        iov++;
        left--;
    }
    if (r != NULL) r->index = r->count - left;
    if (left == 0) return true;
    iov->iov_base = (char *)iov->iov_base + sent;
    iov->iov_len -= sent;
    return false;
}

/* One attempt; reports at most one completion. */
static void send_try(struct driver_poll *p, uint32_t slot, struct done **at)
{
    struct slot *s = &p->slots[slot];
    struct send_rest *r = s->send_rest;
    struct msghdr message = {.msg_iov = r == NULL ? &s->send_one : &r->iov[r->index],
                             .msg_iovlen = r == NULL ? 1 : r->count - r->index};
    struct iovec short_one = message.msg_iov[0];
    if (p->faults != NULL && p->faults->send_bytes_max != 0) {
        if (short_one.iov_len > p->faults->send_bytes_max)
            short_one.iov_len = p->faults->send_bytes_max;
        message.msg_iov = &short_one;
        message.msg_iovlen = 1;
    }
    ssize_t sent;
    s->is_send_new = false;
    if (s->send_bytes < 0) {
        send_done(p, slot, s->send_bytes, at);
        return;
    }
    p->driver.count.syscalls++;
    if (p->faults != NULL && fault_hits(&p->faults->sends, p->faults->send_at)) {
        sent = -1;
        errno = p->faults->error;
    } else {
        sent = sendmsg(s->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    }
    if (sent < 0) {
        if (errno == EAGAIN || errno == EINTR || errno == ENOBUFS) {
            s->is_send_blocked = true;
            return;
        }
        send_done(p, slot, -errno, at);
        return;
    }
    p->driver.count.sent_bytes += (uint64_t)sent;
    s->send_bytes += (int32_t)sent;
    s->is_send_blocked = true;
    if (send_advance(s, (size_t)sent)) {
        p->driver.count.sends++;
        send_done(p, slot, s->send_bytes, at);
    }
}

/* --- receiving -------------------------------------------------------------------------------- */

/* One attempt; reports at most one completion. */
static void recv_try(struct driver_poll *p, uint32_t slot, struct done **at)
{
    struct slot *s = &p->slots[slot];
    if (p->buffers_free_count == 0) {
        p->driver.count.recv_no_buffers++;
        starved_push(p, slot);
        todo_push(p, slot);
        return;
    }
    uint32_t buffer = p->buffers_free[p->buffers_free_count - 1];
    char *data = p->buffers + (size_t)buffer * POLL_RECV_BYTES;
    ssize_t got;
    p->driver.count.syscalls++;
    if (p->faults != NULL && fault_hits(&p->faults->recvs, p->faults->recv_at)) {
        got = -1;
        errno = p->faults->error;
    } else {
        got = recv(s->fd, data, POLL_RECV_BYTES, MSG_DONTWAIT);
    }
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) {
        s->is_recv_ended = true;
        todo_push(p, slot);
        done_add(at, got == 0 ? DONE_EOF : DONE_ERROR, slot, s->tag, got == 0 ? 0 : -errno);
        return;
    }
    p->buffers_free_count--;
    p->driver.count.recvs++;
    p->driver.count.recv_bytes += (uint64_t)got;
    struct done *d = done_add(at, DONE_RECV, slot, s->tag, (int32_t)got);
    d->buffer = buffer;
    d->data = data;
    d->len = (size_t)got;
}

/* --- accepting -------------------------------------------------------------------------------- */

/* Out of descriptors: the connection is taken with the reserved one and closed, since one that
 * stays in the backlog would be reported for ever. False when that did not help. */
static bool accept_refuse(struct driver_poll *p, int listen_fd)
{
    if (p->reserve_fd < 0) return false;
    close(p->reserve_fd);
    int fd = accept4(listen_fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) close(fd);
    p->reserve_fd = fcntl(p->wake_fd, F_DUPFD_CLOEXEC, 0);
    p->driver.count.syscalls += 4;
    return fd >= 0;
}

static void accept_failed(struct driver_poll *p, uint32_t slot, int error, struct done **at)
{
    struct slot *s = &p->slots[slot];
    bool is_short = error == EMFILE || error == ENFILE;
    bool needs_pause = is_short || error == ENOBUFS || error == ENOMEM;
    if (is_short && accept_refuse(p, s->fd)) needs_pause = false;
    if (needs_pause) {
        p->accept_paused_until_ns = now_ns() + POLL_ACCEPT_PAUSE_NS;
        todo_push(p, slot);
    }
    done_add(at, DONE_ACCEPT, slot, s->tag, -error);
}

/* Reports at most `most` completions. */
static void accept_try(struct driver_poll *p, uint32_t slot, uint32_t most, struct done **at)
{
    struct slot *s = &p->slots[slot];
    for (uint32_t i = 0; i < most && i < POLL_ACCEPTS_MAX; i++) {
        p->driver.count.syscalls++;
        int fd = accept4(s->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0 && p->faults != NULL && fault_hits(&p->faults->accepts, p->faults->accept_at)) {
            close(fd);
            fd = -1;
            errno = p->faults->error;
        }
        if (fd < 0) {
            if (errno == EAGAIN || errno == EINTR) return;
            accept_failed(p, slot, errno, at);
            return;
        }
        done_add(at, DONE_ACCEPT, slot, s->tag, 0)->fd = fd;
    }
}

static void accept_unpause(struct driver_poll *p)
{
    if (p->accept_paused_until_ns == 0 || now_ns() < p->accept_paused_until_ns) return;
    p->accept_paused_until_ns = 0;
    if (p->reserve_fd < 0) p->reserve_fd = fcntl(p->wake_fd, F_DUPFD_CLOEXEC, 0);
    for (uint32_t i = 0; i < p->slots_max; i++)
        if (p->slots[i].kind == SLOT_LISTENER) todo_push(p, i);
}

/* --- port calls ------------------------------------------------------------------------------- */

static enum err slot_take(struct driver_poll *p, uint32_t slot, uint32_t tag, int fd,
                          enum slot_kind kind)
{
    struct slot *s = slot_at(p, slot);
    must(s->kind == SLOT_FREE);
    must(fd >= 0);
    bool is_todo = s->is_todo; /* still queued by its last holder: the entry serves this one */
    uint32_t todo_next = s->todo_next;
    *s = (struct slot){.kind = (uint8_t)kind, .fd = fd, .tag = tag, .is_todo = is_todo,
                       .todo_next = todo_next, .starved_next = SLOT_NONE};
    uint8_t wanted = events_wanted(p, s);
    struct epoll_event event = {.events = wanted, .data.u32 = slot};
    p->driver.count.syscalls++;
    if (wanted != 0 && epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        s->kind = SLOT_FREE;
        return errno == EPERM || errno == EBADF ? ERR_INVALID : ERR_MEMORY;
    }
    s->events = wanted;
    return ERR_OK;
}

static enum err poll_listen(struct driver *d, uint32_t slot, uint32_t tag, int fd)
{
    /* accept4 until EAGAIN needs it; the caller's listening socket has no other reader. */
    if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0) return ERR_INVALID;
    return slot_take(poll_of(d), slot, tag, fd, SLOT_LISTENER);
}

static void poll_listen_stop(struct driver *d, uint32_t slot)
{
    struct driver_poll *p = poll_of(d);
    struct slot *s = slot_at(p, slot);
    must(s->kind == SLOT_LISTENER);
    s->kind = SLOT_FREE;
    /* At once: the caller may close its descriptor right after this. */
    events_update(p, slot);
}

static enum err poll_socket_add(struct driver *d, uint32_t slot, uint32_t tag, int fd)
{
    return slot_take(poll_of(d), slot, tag, fd, SLOT_SOCKET);
}

static void poll_recv_suspend(struct driver *d, uint32_t slot)
{
    struct driver_poll *p = poll_of(d);
    struct slot *s = slot_at(p, slot);
    must(s->kind == SLOT_SOCKET);
    s->is_suspended = true;
    todo_push(p, slot);
}

static void poll_recv_resume(struct driver *d, uint32_t slot)
{
    struct driver_poll *p = poll_of(d);
    struct slot *s = slot_at(p, slot);
    must(s->kind == SLOT_SOCKET);
    s->is_suspended = false;
    todo_push(p, slot);
}

static void poll_recv_release(struct driver *d, uint32_t buffer)
{
    struct driver_poll *p = poll_of(d);
    must(buffer < p->buffer_count);
    must(p->buffers_free_count < p->buffer_count);
    p->buffers_free[p->buffers_free_count++] = buffer;
}

static struct send_rest *send_rest_take(struct driver_poll *p)
{
    struct send_rest *r = p->free_rests;
    if (r != NULL) {
        p->free_rests = r->next_free;
        return r;
    }
    return malloc(sizeof *r);
}

static void poll_send(struct driver *d, uint32_t slot, const struct iovec *iov, uint32_t count)
{
    struct driver_poll *p = poll_of(d);
    struct slot *s = slot_at(p, slot);
    must(s->kind == SLOT_SOCKET);
    must(!s->is_sending && !s->is_closing);
    must(count >= 1 && count <= DRIVER_IOV_MAX);
    s->is_sending = s->is_send_new = true;
    s->send_bytes = 0;
    s->send_one = iov[0];
    todo_push(p, slot);
    if (count == 1) return;
    s->send_rest = send_rest_take(p);
    if (s->send_rest == NULL) {
        s->send_bytes = -ENOMEM;
        return;
    }
    s->send_rest->index = 0;
    s->send_rest->count = count;
    memcpy(s->send_rest->iov, iov, count * sizeof *iov);
}

static void poll_socket_close(struct driver *d, uint32_t slot)
{
    struct driver_poll *p = poll_of(d);
    struct slot *s = slot_at(p, slot);
    must(s->kind == SLOT_SOCKET);
    s->is_closing = true;
    todo_push(p, slot);
}

static void poll_watch(struct driver *d, uint32_t slot, int fd)
{
    enum err e = slot_take(poll_of(d), slot, 0, fd, SLOT_WATCH);
    must(e == ERR_OK);
}

static void wake_write(struct driver_poll *p)
{
    uint64_t one = 1;
    ssize_t written = write(p->wake_fd, &one, sizeof one);
    must(written == (ssize_t)sizeof one);
}

/* Of the many wakes before one DONE_WAKE only the first writes. The flag is cleared after the
 * eventfd was read, so a wake that sees it set is answered by the DONE_WAKE that follows. */
static void poll_wake(struct driver *d)
{
    struct driver_poll *p = poll_of(d);
    if (!atomic_exchange(&p->is_woken, true)) wake_write(p);
}

static void files_ring(void *context)
{
    struct driver_poll *p = context;
    atomic_store(&p->has_files, true);
    wake_write(p);
}

static enum err poll_file_submit(struct driver *d, struct file_op *op)
{
    struct driver_poll *p = poll_of(d);
    return file_threads_submit(p->files, op);
}

/* --- one poll --------------------------------------------------------------------------------- */

/* Reports at most two completions. */
static void todo_run(struct driver_poll *p, uint32_t slot, struct done **at)
{
    struct slot *s = &p->slots[slot];
    if (s->kind == SLOT_SOCKET && s->is_closing) {
        events_update(p, slot);
        starved_remove(p, slot);
        if (s->is_sending) send_done(p, slot, -ECANCELED, at);
        p->driver.count.syscalls++;
        close(s->fd);
        s->kind = SLOT_FREE;
        done_add(at, DONE_CLOSED, slot, s->tag, 0);
        return;
    }
    if (s->is_send_new) send_try(p, slot, at);
    events_update(p, slot);
}

static void todo_work(struct driver_poll *p, struct done **at, struct done *end)
{
    /* Slots that are queued anew meanwhile wait for the next poll. */
    uint32_t last = p->todo.last;
    while (p->todo.first != SLOT_NONE && end - *at >= 2) {
        uint32_t slot = p->todo.first;
        p->todo.first = p->slots[slot].todo_next;
        p->slots[slot].is_todo = false;
        todo_run(p, slot, at);
        if (slot == last) break;
    }
}

static void files_report(struct driver_poll *p, struct done **at, struct done *end)
{
    if (p->files_taken == NULL && atomic_exchange(&p->has_files, false))
        p->files_taken = file_threads_take(p->files);
    while (p->files_taken != NULL && *at < end) {
        struct file_op *op = p->files_taken;
        p->files_taken = op->next;
        int32_t result = op->result;
        if (p->faults != NULL && fault_hits(&p->faults->files, p->faults->file_at))
            result = -p->faults->error;
        done_add(at, DONE_FILE, 0, 0, result)->user = op->user;
    }
}

/* Reports at most one completion itself; files_report follows. */
static void wake_report(struct driver_poll *p, struct done **at)
{
    uint64_t count;
    p->driver.count.syscalls++;
    ssize_t got = read(p->wake_fd, &count, sizeof count);
    (void)got; /* EAGAIN: a spurious event is harmless */
    if (!atomic_exchange(&p->is_woken, false)) return;
    p->driver.count.wakes++;
    done_add(at, DONE_WAKE, 0, 0, 0);
}

/* Reports at most two completions, or `most` of a listener. */
static void event_run(struct driver_poll *p, const struct epoll_event *event, uint32_t most,
                      struct done **at)
{
    if (event->data.u32 == SLOT_WAKE) {
        wake_report(p, at);
        return;
    }
    uint32_t slot = event->data.u32;
    struct slot *s = &p->slots[slot];
    switch ((enum slot_kind)s->kind) {
    case SLOT_FREE: return;
    case SLOT_LISTENER: accept_try(p, slot, most, at); return;
    case SLOT_WATCH: done_add(at, DONE_WATCH, slot, s->tag, 0); return;
    case SLOT_SOCKET: break;
    }
    /* An error or hang-up shows through whichever call the socket waits for. */
    if ((s->events & EPOLLOUT) != 0 && (event->events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0) {
        send_try(p, slot, at);
        if (!s->is_send_blocked) todo_push(p, slot);
    }
    if ((s->events & EPOLLIN) != 0 && (event->events & (EPOLLIN | EPOLLERR | EPOLLHUP)) != 0)
        recv_try(p, slot, at);
}

static int events_wait(struct driver_poll *p, struct epoll_event *events, int most,
                       uint64_t timeout_ns)
{
    p->driver.count.syscalls++;
    if (!p->is_pwait2_missing) {
        struct timespec t = {(time_t)(timeout_ns / 1000000000u), (long)(timeout_ns % 1000000000u)};
        int count = epoll_pwait2(p->epoll_fd, events, most, timeout_ns == UINT64_MAX ? NULL : &t,
                                 NULL);
        if (count >= 0 || errno != ENOSYS) return count;
        p->is_pwait2_missing = true;
    }
    int timeout_ms = -1;
    if (timeout_ns != UINT64_MAX) {
        uint64_t ms = timeout_ns / 1000000u + (timeout_ns % 1000000u != 0);
        timeout_ms = ms > 1000000u ? 1000000 : (int)ms;
    }
    return epoll_wait(p->epoll_fd, events, most, timeout_ms);
}

static uint64_t timeout_capped(const struct driver_poll *p, uint64_t timeout_ns)
{
    if (p->accept_paused_until_ns == 0) return timeout_ns;
    uint64_t now = now_ns();
    uint64_t left = p->accept_paused_until_ns > now ? p->accept_paused_until_ns - now : 0;
    return left < timeout_ns ? left : timeout_ns;
}

static uint32_t poll_poll(struct driver *d, struct done *done, uint32_t max, uint64_t timeout_ns)
{
    struct driver_poll *p = poll_of(d);
    must(max >= DRIVER_DONE_MIN);
    struct done *at = done, *end = done + max;
    p->driver.count.polls++;
    accept_unpause(p);
    files_report(p, &at, end - 2);
    starved_take_back(p);
    todo_work(p, &at, end);

    struct epoll_event events[POLL_EVENTS_MAX];
    uint32_t room = (uint32_t)(end - at) / 2;
    int most = room < POLL_EVENTS_MAX ? (int)room : POLL_EVENTS_MAX;
    bool must_not_wait = at != done || p->todo.first != SLOT_NONE || p->files_taken != NULL ||
                         (p->starved.first != SLOT_NONE && p->buffers_free_count > 0);
    int count = 0;
    if (most > 0)
        count = events_wait(p, events, most, must_not_wait ? 0 : timeout_capped(p, timeout_ns));
    for (int i = 0; i < count; i++) {
        uint32_t others = (uint32_t)(count - i - 1) * 2;
        event_run(p, &events[i], (uint32_t)(end - at) - others, &at);
    }
    files_report(p, &at, end);
    p->driver.count.completions += (uint64_t)(at - done);
    return (uint32_t)(at - done);
}

/* --- open and close --------------------------------------------------------------------------- */

static void poll_close(struct driver *d)
{
    struct driver_poll *p = poll_of(d);
    if (p->files != NULL) file_threads_close(p->files);
    for (uint32_t i = 0; p->slots != NULL && i < p->slots_max; i++) {
        if (p->slots[i].kind == SLOT_SOCKET) close(p->slots[i].fd);
        free(p->slots[i].send_rest);
    }
    while (p->free_rests != NULL) {
        struct send_rest *r = p->free_rests;
        p->free_rests = r->next_free;
        free(r);
    }
    if (p->reserve_fd >= 0) close(p->reserve_fd);
    if (p->wake_fd >= 0) close(p->wake_fd);
    if (p->epoll_fd >= 0) close(p->epoll_fd);
    if (p->buffers != NULL) munmap(p->buffers, (size_t)p->buffer_count * POLL_RECV_BYTES);
    free(p->buffers_free);
    free(p->slots);
    free(p);
}

static const struct driver_ops poll_ops = {
    .name = "poll",
    .listen = poll_listen,
    .listen_stop = poll_listen_stop,
    .socket_add = poll_socket_add,
    .recv_suspend = poll_recv_suspend,
    .recv_resume = poll_recv_resume,
    .recv_release = poll_recv_release,
    .send = poll_send,
    .socket_close = poll_socket_close,
    .watch = poll_watch,
    .file_submit = poll_file_submit,
    .poll = poll_poll,
    .wake = poll_wake,
    .close = poll_close,
};

static bool buffers_open(struct driver_poll *p, uint32_t bytes)
{
    p->buffer_count = bytes / POLL_RECV_BYTES;
    if (p->buffer_count < POLL_BUFFERS_MIN) p->buffer_count = POLL_BUFFERS_MIN;
    void *map = mmap(NULL, (size_t)p->buffer_count * POLL_RECV_BYTES, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (map == MAP_FAILED) return false;
    p->buffers = map;
    p->buffers_free = calloc(p->buffer_count, sizeof *p->buffers_free);
    if (p->buffers_free == NULL) return false;
    while (p->buffers_free_count < p->buffer_count) {
        p->buffers_free[p->buffers_free_count] = p->buffer_count - 1 - p->buffers_free_count;
        p->buffers_free_count++;
    }
    return true;
}

enum err driver_poll_open(const struct driver_options *o, struct driver **out, const char **reason)
{
    must(o->slots_max > 0 && o->slots_max < SLOT_NONE);
    *reason = "out of memory or descriptors";
    struct driver_poll *p = calloc(1, sizeof *p);
    if (p == NULL) return ERR_MEMORY;
    p->driver.ops = &poll_ops;
    p->slots_max = o->slots_max;
    p->faults = o->faults;
    p->todo = p->starved = (struct slot_queue){SLOT_NONE, SLOT_NONE};
    p->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    p->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    p->reserve_fd = p->wake_fd < 0 ? -1 : fcntl(p->wake_fd, F_DUPFD_CLOEXEC, 0);
    p->slots = calloc(o->slots_max, sizeof *p->slots);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = SLOT_WAKE};
    bool is_good = p->slots != NULL && p->reserve_fd >= 0 && p->epoll_fd >= 0 &&
                   buffers_open(p, o->recv_buffer_bytes) &&
                   file_threads_open(POLL_FILE_THREADS, files_ring, p, &p->files) == ERR_OK &&
                   epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, p->wake_fd, &event) == 0;
    if (!is_good) {
        poll_close(&p->driver);
        return ERR_MEMORY;
    }
    *out = &p->driver;
    *reason = "";
    return ERR_OK;
}
