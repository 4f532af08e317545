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
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <unistd.h>
#include "core/base/must.h"
#include "io/driver.h"
#include "io/driver_slots.h"
#include "io/file_threads.h"

enum {
    POLL_RECV_BYTES = 64 * 1024,
    POLL_EVENTS_MAX = 256,
    POLL_ACCEPTS_MAX = 64, /* per listener and poll */
    POLL_BUFFERS_MIN = 4,
    POLL_FILE_THREADS = 2,
    POLL_ACCEPT_PAUSE_NS = 100 * 1000 * 1000, /* after an error that could come back at once */
};

#define SLOT_WAKE UINT32_MAX /* in epoll data: the driver's own eventfd */

struct slot {
    struct driver_slot common;
    uint8_t events;       /* EPOLLIN, EPOLLOUT as the kernel has them now; 0: not in the set */
    bool is_send_blocked; /* wants EPOLLOUT */
};

struct driver_poll {
    struct driver driver;
    struct driver_slots slots;
    int epoll_fd;
    int wake_fd;
    int reserve_fd;        /* given up for a moment when descriptors run out; -1 if lost */
    atomic_bool is_woken;  /* set by wake, cleared when DONE_WAKE is reported */
    atomic_bool has_files; /* finished file operations may wait to be taken */
    bool is_pwait2_missing;
    uint64_t accept_paused_until_ns; /* 0: not paused */
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

static struct slot *slot_at(struct driver_poll *p, uint32_t slot)
{
    return (struct slot *)driver_slots_at(&p->slots, slot);
}

static uint8_t events_wanted(const struct driver_poll *p, const struct slot *of)
{
    const struct driver_slot *s = &of->common;
    switch ((enum driver_slot_kind)s->kind) {
    case DRIVER_SLOT_FREE: return 0;
    case DRIVER_SLOT_LISTENER: return p->accept_paused_until_ns != 0 ? 0 : EPOLLIN;
    case DRIVER_SLOT_WATCH: return EPOLLIN;
    case DRIVER_SLOT_SOCKET: break;
    }
    if (s->is_closing) return 0;
    bool wants_in = !s->is_suspended && !s->is_recv_ended && !s->is_starved;
    return (uint8_t)((wants_in ? EPOLLIN : 0) | (of->is_send_blocked ? EPOLLOUT : 0));
}

static void events_update(struct driver_poll *p, uint32_t slot)
{
    struct slot *s = slot_at(p, slot);
    uint8_t wanted = events_wanted(p, s);
    if (wanted == s->events) return;
    int op = s->events == 0 ? EPOLL_CTL_ADD : wanted == 0 ? EPOLL_CTL_DEL : EPOLL_CTL_MOD;
    struct epoll_event event = {.events = wanted, .data.u32 = slot};
    p->driver.count.syscalls++;
    int result = epoll_ctl(p->epoll_fd, op, s->common.fd, &event);
    /* Adding again can only fail for want of kernel memory: tried anew at the next poll. */
    if (result < 0 && op == EPOLL_CTL_ADD) {
        must(errno == ENOMEM || errno == ENOSPC);
        driver_slots_todo(&p->slots, slot);
        return;
    }
    must(result == 0);
    s->events = wanted;
}

/* --- sending --------------------------------------------------------------------------------- */

static void send_done(struct driver_poll *p, uint32_t slot, int32_t result, struct done **at)
{
    struct slot *s = slot_at(p, slot);
    s->is_send_blocked = false;
    driver_slots_send_end(&p->slots, &s->common);
    driver_slots_report(at, DONE_SENT, slot, s->common.tag, result);
}

/* One attempt; reports at most one completion. */
static void send_try(struct driver_poll *p, uint32_t slot, struct done **at)
{
    struct slot *s = slot_at(p, slot);
    s->common.is_send_wanted = false;
    if (s->common.send_bytes < 0) {
        send_done(p, slot, s->common.send_bytes, at);
        return;
    }
    uint32_t count;
    struct iovec *iov = driver_slots_send_rest(&s->common, &count);
    struct iovec part = {iov->iov_base, driver_slots_send_cap(p->faults, iov->iov_len)};
    bool is_capped = part.iov_len < iov->iov_len;
    struct msghdr message = {.msg_iov = is_capped ? &part : iov,
                             .msg_iovlen = is_capped ? 1 : count};
    p->driver.count.syscalls++;
    ssize_t sent = -1;
    if (p->faults != NULL && driver_slots_fault(&p->faults->sends, p->faults->send_at))
        errno = p->faults->error;
    else
        sent = sendmsg(s->common.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0 && errno != EAGAIN && errno != EINTR && errno != ENOBUFS) {
        send_done(p, slot, -errno, at);
        return;
    }
    s->is_send_blocked = true;
    if (sent < 0) return;
    p->driver.count.sent_bytes += (uint64_t)sent;
    if (driver_slots_send_advance(&s->common, (size_t)sent)) {
        p->driver.count.sends++;
        send_done(p, slot, s->common.send_bytes, at);
    }
}

/* --- receiving -------------------------------------------------------------------------------- */

/* One attempt; reports at most one completion. */
static void recv_try(struct driver_poll *p, uint32_t slot, struct done **at)
{
    struct driver_slot *s = &slot_at(p, slot)->common;
    if (p->buffers_free_count == 0) {
        p->driver.count.recv_no_buffers++;
        driver_slots_starve(&p->slots, slot);
        driver_slots_todo(&p->slots, slot);
        return;
    }
    uint32_t buffer = p->buffers_free[p->buffers_free_count - 1];
    char *data = p->buffers + (size_t)buffer * POLL_RECV_BYTES;
    p->driver.count.syscalls++;
    ssize_t got = -1;
    if (p->faults != NULL && driver_slots_fault(&p->faults->recvs, p->faults->recv_at))
        errno = p->faults->error;
    else
        got = recv(s->fd, data, POLL_RECV_BYTES, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (got <= 0) {
        s->is_recv_ended = true;
        driver_slots_todo(&p->slots, slot);
        driver_slots_report(at, got == 0 ? DONE_EOF : DONE_ERROR, slot, s->tag,
                            got == 0 ? 0 : -errno);
        return;
    }
    p->buffers_free_count--;
    p->driver.count.recvs++;
    p->driver.count.recv_bytes += (uint64_t)got;
    struct done *d = driver_slots_report(at, DONE_RECV, slot, s->tag, (int32_t)got);
    d->buffer = buffer;
    d->data = data;
    d->len = (size_t)got;
}

/* --- accepting -------------------------------------------------------------------------------- */

/* A connection that stays in the backlog would be reported for ever: it is refused, or accepting
 * pauses. */
static void accept_failed(struct driver_poll *p, uint32_t slot, int error, struct done **at)
{
    struct driver_slot *s = &slot_at(p, slot)->common;
    bool must_pause = driver_slots_accept_must_pause(error);
    if (error == EMFILE || error == ENFILE) {
        p->driver.count.syscalls += 4;
        must_pause = driver_slots_refuse(s->fd, &p->reserve_fd, p->wake_fd, 1) == 0;
    }
    if (must_pause) {
        p->accept_paused_until_ns = driver_slots_now_ns() + POLL_ACCEPT_PAUSE_NS;
        driver_slots_todo(&p->slots, slot);
    }
    driver_slots_report(at, DONE_ACCEPT, slot, s->tag, -error);
}

/* Reports at most `most` completions. */
static void accept_try(struct driver_poll *p, uint32_t slot, uint32_t most, struct done **at)
{
    struct driver_slot *s = &slot_at(p, slot)->common;
    for (uint32_t i = 0; i < most && i < POLL_ACCEPTS_MAX; i++) {
        p->driver.count.syscalls++;
        int fd = accept4(s->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0 && p->faults != NULL &&
            driver_slots_fault(&p->faults->accepts, p->faults->accept_at)) {
            close(fd);
            fd = -1;
            errno = p->faults->error;
        }
        if (fd < 0) {
            if (errno != EAGAIN && errno != EINTR) accept_failed(p, slot, errno, at);
            return;
        }
        driver_slots_report(at, DONE_ACCEPT, slot, s->tag, 0)->fd = fd;
    }
}

static void accept_unpause(struct driver_poll *p)
{
    if (p->accept_paused_until_ns == 0 || driver_slots_now_ns() < p->accept_paused_until_ns) return;
    p->accept_paused_until_ns = 0;
    if (p->reserve_fd < 0) p->reserve_fd = fcntl(p->wake_fd, F_DUPFD_CLOEXEC, 0);
    for (uint32_t i = 0; i < p->slots.count; i++)
        if (slot_at(p, i)->common.kind == DRIVER_SLOT_LISTENER) driver_slots_todo(&p->slots, i);
}

/* --- port calls ------------------------------------------------------------------------------- */

/* At once and not at the next poll: only here can a descriptor be refused. */
static enum err slot_take(struct driver_poll *p, uint32_t slot, uint32_t tag, int fd,
                          enum driver_slot_kind kind)
{
    driver_slots_take(&p->slots, slot, tag, fd, kind);
    struct slot *s = slot_at(p, slot);
    uint8_t wanted = events_wanted(p, s);
    struct epoll_event event = {.events = wanted, .data.u32 = slot};
    p->driver.count.syscalls++;
    if (wanted != 0 && epoll_ctl(p->epoll_fd, EPOLL_CTL_ADD, fd, &event) < 0) {
        driver_slots_free(&p->slots, slot);
        return errno == EPERM || errno == EBADF ? ERR_INVALID : ERR_MEMORY;
    }
    s->events = wanted;
    return ERR_OK;
}

static enum err poll_listen(struct driver *d, uint32_t slot, uint32_t tag, int fd)
{
    /* accept4 until EAGAIN needs it; the caller's listening socket has no other reader. */
    if (fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK) < 0) return ERR_INVALID;
    return slot_take(poll_of(d), slot, tag, fd, DRIVER_SLOT_LISTENER);
}

static void poll_listen_stop(struct driver *d, uint32_t slot)
{
    struct driver_poll *p = poll_of(d);
    must(slot_at(p, slot)->common.kind == DRIVER_SLOT_LISTENER);
    driver_slots_free(&p->slots, slot);
    /* At once: the caller may close its descriptor right after this. */
    events_update(p, slot);
}

static enum err poll_socket_add(struct driver *d, uint32_t slot, uint32_t tag, int fd)
{
    return slot_take(poll_of(d), slot, tag, fd, DRIVER_SLOT_SOCKET);
}

static void suspend_set(struct driver_poll *p, uint32_t slot, bool is_suspended)
{
    struct driver_slot *s = &slot_at(p, slot)->common;
    must(s->kind == DRIVER_SLOT_SOCKET);
    s->is_suspended = is_suspended;
    driver_slots_todo(&p->slots, slot);
}

static void poll_recv_suspend(struct driver *d, uint32_t slot)
{
    suspend_set(poll_of(d), slot, true);
}

static void poll_recv_resume(struct driver *d, uint32_t slot)
{
    suspend_set(poll_of(d), slot, false);
}

static void poll_recv_release(struct driver *d, uint32_t buffer)
{
    struct driver_poll *p = poll_of(d);
    must(buffer < p->buffer_count);
    must(p->buffers_free_count < p->buffer_count);
    p->buffers_free[p->buffers_free_count++] = buffer;
}

static void poll_send(struct driver *d, uint32_t slot, const struct iovec *iov, uint32_t count)
{
    driver_slots_send(&poll_of(d)->slots, slot, iov, count);
}

static void poll_socket_close(struct driver *d, uint32_t slot)
{
    struct driver_poll *p = poll_of(d);
    struct driver_slot *s = &slot_at(p, slot)->common;
    must(s->kind == DRIVER_SLOT_SOCKET);
    s->is_closing = true;
    driver_slots_todo(&p->slots, slot);
}

static void poll_watch(struct driver *d, uint32_t slot, int fd)
{
    enum err e = slot_take(poll_of(d), slot, 0, fd, DRIVER_SLOT_WATCH);
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
    struct driver_slot *s = &slot_at(p, slot)->common;
    if (s->kind == DRIVER_SLOT_SOCKET && s->is_closing) {
        events_update(p, slot);
        if (s->is_sending) send_done(p, slot, -ECANCELED, at);
        p->driver.count.syscalls++;
        close(s->fd);
        driver_slots_free(&p->slots, slot);
        driver_slots_report(at, DONE_CLOSED, slot, s->tag, 0);
        return;
    }
    if (s->is_send_wanted) send_try(p, slot, at);
    events_update(p, slot);
}

static void todo_work(struct driver_poll *p, struct done **at, struct done *end)
{
    /* Slots that are queued anew meanwhile wait for the next poll. */
    uint32_t last = p->slots.todo.last;
    while (p->slots.todo.first != DRIVER_SLOT_NONE && end - *at >= 2) {
        uint32_t slot = p->slots.todo.first;
        driver_slots_todo_pop(&p->slots);
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
        if (p->faults != NULL && driver_slots_fault(&p->faults->files, p->faults->file_at))
            result = -p->faults->error;
        driver_slots_report(at, DONE_FILE, 0, 0, result)->user = op->user;
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
    driver_slots_report(at, DONE_WAKE, 0, 0, 0);
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
    struct slot *s = slot_at(p, slot);
    switch ((enum driver_slot_kind)s->common.kind) {
    case DRIVER_SLOT_FREE: return;
    case DRIVER_SLOT_LISTENER: accept_try(p, slot, most, at); return;
    case DRIVER_SLOT_WATCH: driver_slots_report(at, DONE_WATCH, slot, s->common.tag, 0); return;
    case DRIVER_SLOT_SOCKET: break;
    }
    /* An error or hang-up shows through whichever call the socket waits for. */
    if ((s->events & EPOLLOUT) != 0 && (event->events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0) {
        send_try(p, slot, at);
        if (!s->is_send_blocked) driver_slots_todo(&p->slots, slot);
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
        int count =
            epoll_pwait2(p->epoll_fd, events, most, timeout_ns == UINT64_MAX ? NULL : &t, NULL);
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
    uint64_t now = driver_slots_now_ns();
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
    driver_slots_feed(&p->slots, p->buffers_free_count);
    todo_work(p, &at, end);

    struct epoll_event events[POLL_EVENTS_MAX];
    uint32_t room = (uint32_t)(end - at) / 2;
    int most = room < POLL_EVENTS_MAX ? (int)room : POLL_EVENTS_MAX;
    bool must_not_wait = at != done || p->slots.todo.first != DRIVER_SLOT_NONE ||
                         p->files_taken != NULL ||
                         (p->slots.starved.first != DRIVER_SLOT_NONE && p->buffers_free_count > 0);
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
    driver_slots_close(&p->slots);
    if (p->reserve_fd >= 0) close(p->reserve_fd);
    if (p->wake_fd >= 0) close(p->wake_fd);
    if (p->epoll_fd >= 0) close(p->epoll_fd);
    if (p->buffers != NULL) munmap(p->buffers, (size_t)p->buffer_count * POLL_RECV_BYTES);
    free(p->buffers_free);
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
    *reason = "out of memory or descriptors";
    struct driver_poll *p = calloc(1, sizeof *p);
    if (p == NULL) return ERR_MEMORY;
    p->driver.ops = &poll_ops;
    p->faults = o->faults;
    p->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    p->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    p->reserve_fd = p->wake_fd < 0 ? -1 : fcntl(p->wake_fd, F_DUPFD_CLOEXEC, 0);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = SLOT_WAKE};
    bool is_good = p->reserve_fd >= 0 && p->epoll_fd >= 0 &&
                   driver_slots_open(&p->slots, o->slots_max, sizeof(struct slot)) == ERR_OK &&
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
