#include "io/ring_check.h"
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include "io/bufring.h"

enum {
    CHECK_BYTES_INCREMENTAL = 24 << 20,
    CHECK_BYTES_PLAIN = 2 << 20, /* old and simple: is it there at all? */
    CHECK_BYTES_MIN = 64 << 10,  /* less than this in the whole time is a failure */
    CHECK_NS = 50 * 1000 * 1000,
    CHECK_WRITE_WORDS = 40 * 1000, /* no power of two: pieces end anywhere */
    CHECK_BUFFERS = 16,
    CHECK_BUFFER_BYTES = 32 * 1024,
    CHECK_ENTER_NS = 5 * 1000 * 1000,
};

/* The stream is the words 0, 1, 2 ... as 64-bit numbers. */
struct check {
    struct uring u;
    struct bufring b;
    int write_fd, read_fd;
    uint64_t *words;
    uint64_t bytes; /* of the whole trial */
    uint64_t sent_bytes, received_bytes;
    uint64_t begun_ns;
    bool is_armed, is_wrong;
    uint32_t held[CHECK_BUFFERS * 64]; /* pieces not released yet */
    uint32_t held_count;
};

static uint64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* A TCP connection over loopback, or a pair of Unix sockets where there is no loopback. */
static bool sockets_open(struct check *c)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t at_len = sizeof at;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    c->write_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    c->read_fd = -1;
    if (listener >= 0 && c->write_fd >= 0 && bind(listener, (void *)&at, sizeof at) == 0 &&
        listen(listener, 1) == 0 && getsockname(listener, (void *)&at, &at_len) == 0 &&
        connect(c->write_fd, (void *)&at, sizeof at) == 0)
        c->read_fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (listener >= 0) close(listener);
    if (c->read_fd >= 0) return true;
    if (c->write_fd >= 0) close(c->write_fd);
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) return false;
    c->write_fd = pair[0];
    c->read_fd = pair[1];
    return true;
}

/* Writes until the socket takes no more. */
static void pattern_write(struct check *c)
{
    while (c->sent_bytes < c->bytes) {
        uint64_t first = c->sent_bytes / 8;
        for (uint64_t i = 0; i < CHECK_WRITE_WORDS; i++) c->words[i] = first + i;
        uint64_t skip = c->sent_bytes % 8, left = c->bytes - c->sent_bytes;
        uint64_t bytes = CHECK_WRITE_WORDS * 8 - skip;
        ssize_t n = send(c->write_fd, (char *)c->words + skip, bytes < left ? bytes : left,
                         MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n <= 0) return;
        c->sent_bytes += (uint64_t)n;
    }
}

static bool pattern_holds(uint64_t at, const char *data, uint32_t bytes)
{
    uint32_t i = 0;
    for (; i < bytes && (at + i) % 8 != 0; i++)
        if ((uint8_t)data[i] != (uint8_t)((at + i) / 8 >> ((at + i) % 8 * 8))) return false;
    for (; i + 8 <= bytes; i += 8) {
        uint64_t word;
        __builtin_memcpy(&word, data + i, 8);
        if (word != (at + i) / 8) return false;
    }
    for (; i < bytes; i++)
        if ((uint8_t)data[i] != (uint8_t)((at + i) / 8 >> ((at + i) % 8 * 8))) return false;
    return true;
}

static void completion_check(struct check *c, const struct io_uring_cqe *cqe)
{
    if ((cqe->flags & IORING_CQE_F_MORE) == 0) c->is_armed = false;
    if ((cqe->flags & IORING_CQE_F_BUFFER) != 0) {
        uint32_t bytes = cqe->res > 0 ? (uint32_t)cqe->res : 0;
        uint32_t buffer = cqe->flags >> IORING_CQE_BUFFER_SHIFT;
        /* bufring_take asserts what a sane kernel keeps; this one is on trial. */
        if (buffer >= c->b.count || c->b.buffers[buffer].is_used_up ||
            bytes > c->b.buffer_bytes - c->b.buffers[buffer].used_bytes ||
            c->held_count == sizeof c->held / sizeof c->held[0]) {
            c->is_wrong = true;
            return;
        }
        struct bufring_piece piece = bufring_take(&c->b, cqe->flags, bytes);
        c->held[c->held_count++] = piece.buffer;
        if (!pattern_holds(c->received_bytes, piece.data, piece.bytes)) c->is_wrong = true;
        c->received_bytes += piece.bytes;
    }
    if (cqe->res <= 0 && cqe->res != -ENOBUFS) c->is_wrong = true;
}

static void completions_check(struct check *c)
{
    unsigned head, count = 0;
    struct io_uring_cqe *cqe;
    io_uring_for_each_cqe(&c->u.ring, head, cqe)
    {
        completion_check(c, cqe);
        count++;
        if (c->is_wrong) break;
    }
    io_uring_cq_advance(&c->u.ring, count);
}

static void recv_arm(struct check *c)
{
    struct io_uring_sqe *sqe = uring_sqe(&c->u);
    if (sqe == NULL) {
        c->is_wrong = true;
        return;
    }
    io_uring_prep_recv_multishot(sqe, c->read_fd, NULL, 0, 0);
    sqe->flags |= IOSQE_BUFFER_SELECT;
    sqe->buf_group = c->b.group;
    c->is_armed = true;
}

static void check_run(struct check *c)
{
    c->begun_ns = now_ns();
    while (!c->is_wrong && c->received_bytes < c->bytes) {
        if (now_ns() - c->begun_ns > CHECK_NS) {
            c->is_wrong = c->received_bytes < CHECK_BYTES_MIN;
            return;
        }
        pattern_write(c);
        if (!c->is_armed) recv_arm(c);
        uring_enter(&c->u, 1, CHECK_ENTER_NS);
        completions_check(c);
        /* Half of the time buffers are kept until they ran out. */
        bool must_starve = c->received_bytes % (2 << 20) < (1 << 20);
        if (must_starve && bufring_available(&c->b) > 0 && c->is_armed) continue;
        while (c->held_count > 0) bufring_release(&c->b, c->held[--c->held_count]);
        bufring_publish(&c->b);
    }
}

bool ring_check_recv(bool is_incremental)
{
    const char *reason;
    bool is_good = false;
    struct check *c = calloc(1, sizeof *c);
    if (c == NULL) return false;
    c->bytes = is_incremental ? CHECK_BYTES_INCREMENTAL : CHECK_BYTES_PLAIN;
    c->words = malloc(CHECK_WRITE_WORDS * 8);
    if (c->words == NULL || uring_open(&c->u, 8, 1024, &reason) != ERR_OK) goto free_check;
    struct bufring_options o = {.count = CHECK_BUFFERS,
                                .buffer_bytes = CHECK_BUFFER_BYTES,
                                .window = CHECK_BUFFERS,
                                .is_incremental = is_incremental};
    if (bufring_open(&c->b, &c->u, &o) != ERR_OK) goto close_uring;
    if (!sockets_open(c)) goto close_bufring;
    check_run(c);
    is_good = !c->is_wrong;
    /* The receive must end before its buffers go. */
    shutdown(c->read_fd, SHUT_RDWR);
    for (uint32_t i = 0; i < 100 && c->is_armed; i++) {
        uring_enter(&c->u, 1, CHECK_ENTER_NS);
        c->is_wrong = false;
        completions_check(c);
        while (c->held_count > 0) bufring_release(&c->b, c->held[--c->held_count]);
    }
    close(c->read_fd);
    close(c->write_fd);
close_bufring:
    bufring_close(&c->b);
close_uring:
    uring_close(&c->u);
free_check:
    free(c->words);
    free(c);
    return is_good;
}

bool ring_check_operations(struct uring *u)
{
    const int needed[] = {IORING_OP_RECV,   IORING_OP_SEND,         IORING_OP_SENDMSG,
                          IORING_OP_ACCEPT, IORING_OP_ASYNC_CANCEL, IORING_OP_POLL_ADD,
                          IORING_OP_READ,   IORING_OP_WRITE,        IORING_OP_FSYNC};
    struct io_uring_probe *probe = io_uring_get_probe_ring(&u->ring);
    if (probe == NULL) return false;
    bool are_known = true;
    for (size_t i = 0; i < sizeof needed / sizeof needed[0]; i++)
        are_known = are_known && io_uring_opcode_supported(probe, needed[i]);
    io_uring_free_probe(probe);
    return are_known;
}
