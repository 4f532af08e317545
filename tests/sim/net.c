#include "tests/sim/net.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/must.h"

enum { QUEUE_FIRST = 1024, BUFFERS_FIRST = 64 };

/* --- queues ------------------------------------------------------------------------------- */

static void queue_room(struct net_queue *q, size_t bytes)
{
    if (q->first > 0 && (q->first == q->end || q->end + bytes > q->capacity)) {
        memmove(q->data, q->data + q->first, q->end - q->first);
        q->visible -= q->first;
        q->end -= q->first;
        q->first = 0;
    }
    if (q->end + bytes <= q->capacity) return;
    size_t capacity = q->capacity == 0 ? QUEUE_FIRST : q->capacity;
    while (capacity < q->end + bytes) capacity *= 2;
    q->data = realloc(q->data, capacity);
    must(q->data != NULL);
    q->capacity = capacity;
}

static void queue_put(struct net_queue *q, const void *data, size_t bytes)
{
    queue_room(q, bytes);
    memcpy(q->data + q->end, data, bytes);
    q->end += bytes;
}

/* --- links -------------------------------------------------------------------------------- */

static void mark_ready(struct net_link *l)
{
    if (l->driver == NULL || l->is_ready) return;
    l->is_ready = true;
    list_push(&l->driver->ready, &l->ready);
}

static bool has_news(const struct net_link *l)
{
    if (l->send_result != 0) return true;
    if (l->is_closing) return !l->is_sending;
    if (l->is_end_told || l->is_suspended) return false;
    if (l->is_reset) return true;
    return l->up.visible > l->up.first || (l->is_up_arrived && l->up.first == l->up.end);
}

static uint64_t arrival(struct net_link *l, struct net_queue *q)
{
    uint64_t now = l->net->clock->now_ns;
    uint64_t at = now + l->latency_ns;
    if (at < q->last_ns) at = q->last_ns;
    q->last_ns = at;
    return at - now;
}

static void up_arrived(void *link, uint64_t bytes)
{
    struct net_link *l = link;
    l->up.visible += bytes;
    if (has_news(l)) mark_ready(l);
}

static void up_end_arrived(void *link, uint64_t unused)
{
    struct net_link *l = link;
    (void)unused;
    l->is_up_arrived = true;
    if (has_news(l)) mark_ready(l);
}

static void down_arrived(void *link, uint64_t bytes)
{
    struct net_link *l = link;
    l->down.visible += bytes;
    if (l->on_readable != NULL && !l->is_client_gone) l->on_readable(l->context);
}

/* Moves what the window allows out of the shard's memory. */
static void pump(struct net_link *l)
{
    size_t moved = 0;
    while (l->is_sending && l->iov_at < l->iov_count) {
        size_t used = l->down.end - l->down.first;
        size_t room = used >= l->window_bytes ? 0 : l->window_bytes - used;
        if (room == 0) break;
        const struct iovec *v = &l->iov[l->iov_at];
        size_t n = v->iov_len - l->iov_offset;
        if (n > room) n = room;
        queue_put(&l->down, (const char *)v->iov_base + l->iov_offset, n);
        moved += n;
        l->iov_offset += n;
        if (l->iov_offset < v->iov_len) continue;
        l->iov_at++;
        l->iov_offset = 0;
    }
    if (moved > 0) clock_set(l->net->clock, arrival(l, &l->down), down_arrived, l, moved);
    if (l->is_sending && l->iov_at == l->iov_count) {
        l->is_sending = false;
        l->send_result = l->send_total;
        mark_ready(l);
    }
}

struct net_link *net_connect(struct net *n, struct net_driver *accept_by, uint64_t latency_ns,
                             size_t window_bytes)
{
    if (n->link_count == NET_LINKS_MAX || accept_by->accept_end == NET_LINKS_MAX) return NULL;
    struct net_link *l = calloc(1, sizeof *l);
    must(l != NULL);
    *l = (struct net_link){
        .net = n, .fd = n->link_count, .latency_ns = latency_ns, .window_bytes = window_bytes};
    list_init(&l->ready);
    n->links[n->link_count++] = l;
    accept_by->accepts[accept_by->accept_end++] = l->fd;
    return l;
}

void net_write(struct net_link *l, const void *data, size_t bytes)
{
    if (bytes == 0 || l->is_reset || l->is_up_ended || l->is_closed) return;
    queue_put(&l->up, data, bytes);
    clock_set(l->net->clock, arrival(l, &l->up), up_arrived, l, bytes);
}

size_t net_unsent(const struct net_link *l)
{
    return l->up.end - l->up.first;
}

size_t net_read(struct net_link *l, char *to, size_t bytes_max)
{
    size_t n = l->down.visible - l->down.first;
    if (n > bytes_max) n = bytes_max;
    if (n == 0) return 0;
    memcpy(to, l->down.data + l->down.first, n);
    l->down.first += n;
    pump(l);
    return n;
}

bool net_is_ended(const struct net_link *l)
{
    return l->is_closed && l->down.first == l->down.end;
}

void net_half_close(struct net_link *l)
{
    if (l->is_up_ended || l->is_reset) return;
    l->is_up_ended = true;
    clock_set(l->net->clock, arrival(l, &l->up), up_end_arrived, l, 0);
}

static void fail_send(struct net_link *l, int error)
{
    if (!l->is_sending) return;
    l->is_sending = false;
    l->send_result = -error;
    mark_ready(l);
}

void net_reset(struct net_link *l)
{
    if (l->is_reset) return;
    l->is_reset = true;
    l->is_client_gone = true;
    fail_send(l, ECONNRESET);
    if (has_news(l)) mark_ready(l);
}

void net_refuse(struct net *n, int fd)
{
    struct net_link *l = n->links[fd];
    l->is_closed = true;
    l->closed_ns = n->clock->now_ns;
    if (l->on_readable != NULL) l->on_readable(l->context);
}

/* --- the driver --------------------------------------------------------------------------- */

static struct net_driver *of(struct driver *d)
{
    return (struct net_driver *)d;
}

static bool fails(uint64_t *count, uint64_t at)
{
    return ++*count == at;
}

static enum err driver_listen(struct driver *d, uint32_t slot, uint32_t tag, int fd)
{
    (void)d, (void)slot, (void)tag, (void)fd;
    return ERR_OK;
}

static void driver_listen_stop(struct driver *d, uint32_t slot)
{
    (void)d, (void)slot;
}

static enum err driver_socket_add(struct driver *driver, uint32_t slot, uint32_t tag, int fd)
{
    struct net_driver *d = of(driver);
    struct net_link *l = d->net->links[fd];
    must(slot < NET_SLOTS_MAX && d->slots[slot] == NULL && l->driver == NULL);
    if (fails(&d->net->faults.adds, d->net->faults.add_at)) return ERR_MEMORY;
    d->slots[slot] = l;
    l->driver = d;
    l->slot = slot;
    l->tag = tag;
    if (has_news(l)) mark_ready(l);
    return ERR_OK;
}

static void driver_recv_suspend(struct driver *driver, uint32_t slot)
{
    struct net_link *l = of(driver)->slots[slot];
    must(l != NULL);
    l->is_suspended = true;
}

static void driver_recv_resume(struct driver *driver, uint32_t slot)
{
    struct net_link *l = of(driver)->slots[slot];
    must(l != NULL);
    l->is_suspended = false;
    if (has_news(l)) mark_ready(l);
}

static void driver_recv_release(struct driver *driver, uint32_t buffer)
{
    struct net_driver *d = of(driver);
    must(buffer < d->buffer_capacity && d->buffers[buffer] != NULL);
    free(d->buffers[buffer]);
    d->buffers[buffer] = NULL;
    d->buffer_free[d->buffer_free_count++] = buffer;
    d->buffers_out--;
}

static void driver_send(struct driver *driver, uint32_t slot, const struct iovec *iov,
                        uint32_t count)
{
    struct net_driver *d = of(driver);
    struct net_link *l = d->slots[slot];
    must(l != NULL && !l->is_sending && l->send_result == 0 && !l->is_closing);
    must(count > 0 && count <= DRIVER_IOV_MAX);
    l->is_sending = true;
    l->iov_count = count;
    l->iov_at = 0;
    l->iov_offset = 0;
    l->send_total = 0;
    for (uint32_t i = 0; i < count; i++) {
        must(iov[i].iov_len > 0);
        l->iov[i] = iov[i];
        l->send_total += (int32_t)iov[i].iov_len;
    }
    d->driver.count.sends++;
    if (l->is_reset || fails(&d->net->faults.sends, d->net->faults.send_at))
        fail_send(l, EPIPE);
    else
        pump(l);
}

static void driver_socket_close(struct driver *driver, uint32_t slot)
{
    struct net_link *l = of(driver)->slots[slot];
    must(l != NULL);
    if (l->is_closing) return;
    l->is_closing = true;
    fail_send(l, ECONNABORTED);
    mark_ready(l);
}

static void driver_watch(struct driver *d, uint32_t slot, int fd)
{
    (void)d, (void)slot, (void)fd;
}

static enum err driver_file_submit(struct driver *d, struct file_op *op)
{
    (void)d, (void)op;
    return ERR_UNSUPPORTED;
}

static uint32_t buffer_take(struct net_driver *d)
{
    if (d->buffer_free_count == 0) {
        uint32_t old = d->buffer_capacity;
        uint32_t capacity = old == 0 ? BUFFERS_FIRST : old * 2;
        d->buffers = realloc(d->buffers, capacity * sizeof *d->buffers);
        d->buffer_free = realloc(d->buffer_free, capacity * sizeof *d->buffer_free);
        must(d->buffers != NULL && d->buffer_free != NULL);
        for (uint32_t i = capacity; i-- > old;) {
            d->buffers[i] = NULL;
            d->buffer_free[d->buffer_free_count++] = i;
        }
        d->buffer_capacity = capacity;
    }
    return d->buffer_free[--d->buffer_free_count];
}

/* How much of n bytes comes in one piece: all, a few, or something between. */
static size_t piece_of(struct net *n, size_t bytes)
{
    if (bytes > n->piece_bytes_max) bytes = n->piece_bytes_max;
    n->pieces++;
    uint32_t how = rng_below(&n->rng, 8);
    if (how >= 3 || bytes == 1) return bytes;
    n->short_pieces++;
    uint32_t most = how == 0 && bytes > 12 ? 12 : (uint32_t)bytes;
    return 1 + rng_below(&n->rng, most);
}

static void report_recv(struct net_driver *d, struct net_link *l, struct done *out)
{
    size_t n = piece_of(d->net, l->up.visible - l->up.first);
    uint32_t buffer = buffer_take(d);
    /* A block of its own, exactly as long: a sanitizer sees each step beyond it. */
    char *data = malloc(n);
    must(data != NULL);
    memcpy(data, l->up.data + l->up.first, n);
    l->up.first += n;
    d->buffers[buffer] = data;
    d->buffers_out++;
    *out = (struct done){.kind = DONE_RECV,
                         .slot = l->slot,
                         .tag = l->tag,
                         .buffer = buffer,
                         .data = data,
                         .len = n};
}

static bool report(struct net_driver *d, struct net_link *l, struct done *out)
{
    *out = (struct done){.slot = l->slot, .tag = l->tag};
    if (l->send_result != 0) {
        out->kind = DONE_SENT;
        out->result = l->send_result;
        l->send_result = 0;
        return true;
    }
    if (l->is_closing) {
        out->kind = DONE_CLOSED;
        d->slots[l->slot] = NULL;
        l->driver = NULL;
        l->is_closed = true;
        l->closed_ns = d->net->clock->now_ns;
        if (l->on_readable != NULL && !l->is_client_gone) l->on_readable(l->context);
        return true;
    }
    if (l->is_reset) {
        out->kind = DONE_ERROR;
        out->result = -ECONNRESET;
        l->is_end_told = true;
        return true;
    }
    if (l->up.visible > l->up.first) {
        if (fails(&d->net->faults.recvs, d->net->faults.recv_at)) {
            out->kind = DONE_ERROR;
            out->result = -EIO;
            l->is_end_told = true;
            return true;
        }
        report_recv(d, l, out);
        return true;
    }
    out->kind = DONE_EOF;
    l->is_end_told = true;
    return true;
}

bool net_driver_is_ready(const struct net_driver *d)
{
    return d->is_woken || d->file_count > 0 || !list_is_empty(&d->ready) ||
           d->accept_first < d->accept_end;
}

void net_driver_file_done(struct net_driver *d, void *user)
{
    must(d->file_count < NET_FILES_MAX);
    d->files[d->file_count++] = user;
}

static uint32_t driver_poll(struct driver *driver, struct done *done, uint32_t max,
                            uint64_t timeout_ns)
{
    struct net_driver *d = of(driver);
    d->sleep(d->context, timeout_ns);
    uint32_t count = 0;
    if (max > 64) max = 64;
    if (d->is_woken) done[count++] = (struct done){.kind = DONE_WAKE};
    d->is_woken = false;
    uint32_t files = d->file_count < max - count ? d->file_count : max - count;
    for (uint32_t i = 0; i < files; i++)
        done[count++] = (struct done){.kind = DONE_FILE, .slot = UINT32_MAX, .user = d->files[i]};
    d->file_count -= files;
    memmove(d->files, d->files + files, d->file_count * sizeof *d->files);
    while (d->accept_first < d->accept_end && count < max) {
        struct done *out = &done[count++];
        *out = (struct done){.kind = DONE_ACCEPT, .slot = UINT32_MAX};
        if (fails(&d->net->faults.accepts, d->net->faults.accept_at))
            out->result = -EMFILE;
        else
            out->fd = (int)d->accepts[d->accept_first++];
    }
    while (count < max && !list_is_empty(&d->ready)) {
        struct net_link *l = LIST_OWNER(list_pop(&d->ready), struct net_link, ready);
        l->is_ready = false;
        if (!has_news(l)) continue;
        report(d, l, &done[count++]);
        if (l->driver != NULL && has_news(l)) mark_ready(l);
        /* Not always everything at once. */
        if (rng_below(&d->net->rng, 16) == 0) break;
    }
    return count;
}

static void driver_wake(struct driver *driver)
{
    of(driver)->is_woken = true;
}

static void driver_close(struct driver *driver)
{
    (void)driver;
}

static const struct driver_ops OPS = {
    .name = "sim",
    .listen = driver_listen,
    .listen_stop = driver_listen_stop,
    .socket_add = driver_socket_add,
    .recv_suspend = driver_recv_suspend,
    .recv_resume = driver_recv_resume,
    .recv_release = driver_recv_release,
    .send = driver_send,
    .socket_close = driver_socket_close,
    .watch = driver_watch,
    .file_submit = driver_file_submit,
    .poll = driver_poll,
    .wake = driver_wake,
    .close = driver_close,
};

void net_driver_init(struct net_driver *d, struct net *n)
{
    memset(d, 0, sizeof *d);
    d->driver.ops = &OPS;
    d->net = n;
    list_init(&d->ready);
}

void net_driver_deinit(struct net_driver *d)
{
    for (uint32_t i = 0; i < d->buffer_capacity; i++) free(d->buffers[i]);
    free(d->buffers);
    free(d->buffer_free);
}

void net_init(struct net *n, struct clock *c, uint64_t seed)
{
    memset(n, 0, sizeof *n);
    n->clock = c;
    n->piece_bytes_max = 32768;
    rng_init(&n->rng, seed);
}

void net_deinit(struct net *n)
{
    for (uint32_t i = 0; i < n->link_count; i++) {
        free(n->links[i]->up.data);
        free(n->links[i]->down.data);
        free(n->links[i]);
    }
}
