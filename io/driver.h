/* The port between a shard's loop and the kernel: sockets, file writes and reads, waking, waiting.
 * Two implementations: driver_ring (io_uring) and driver_poll (epoll and a few file threads); the
 * simulator has a third. One driver belongs to one shard's thread; only driver_ops.wake may be
 * called from other threads.
 *
 * A socket is known by its slot, a small number that the caller chooses (below slots_max). Every
 * completion names slot and tag; tag is the caller's generation, so that a late completion of an
 * earlier holder of the slot is seen as such. Between socket_close and DONE_CLOSED the slot may
 * not be used again: the driver reports DONE_CLOSED once no operation of the socket is in flight.
 *
 * Calls only queue work; nothing is reported from inside them. Completions come from poll(), in
 * the order in which they happened per socket. */
#ifndef IO_DRIVER_H
#define IO_DRIVER_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include "core/base/err.h"

enum done_kind {
    DONE_ACCEPT, /* fd: a connected, non-blocking, close-on-exec socket; slot: the listener's.
                    result < 0: accept failed with that negative errno; accepting goes on
                    (EMFILE: after a pause) */
    DONE_RECV,   /* data, len: received bytes, held until recv_release(buffer) */
    DONE_EOF,    /* the peer ended its side; no more DONE_RECV follows */
    DONE_ERROR,  /* receiving failed with negative errno result; no more DONE_RECV follows */
    DONE_SENT,   /* all bytes of the one send in flight left (result = bytes), or result is a
                    negative errno */
    DONE_CLOSED, /* the socket is closed, no operation is in flight, the slot is free */
    DONE_FILE,   /* a file operation ended: result bytes or negative errno; user as given */
    DONE_WAKE,   /* another thread called wake */
    DONE_WATCH,  /* the watched descriptor (signals, a pipe) became readable; slot as given */
};

struct done {
    enum done_kind kind;
    uint32_t slot;
    uint32_t tag;
    int32_t result;
    int fd;
    uint32_t buffer;  /* for recv_release */
    const char *data;
    size_t len;
    void *user;
};

struct driver; /* an implementation embeds it first */

enum file_op_kind {
    FILE_WRITE,
    FILE_READ,
    FILE_FLUSH,    /* the file's data and what is needed to read it back */
    FILE_FLUSH_DIR, /* path, a directory: its names */
    FILE_OPEN,     /* result: the new descriptor, close-on-exec. What is no regular file is not
                      there; -EISDIR: it would be created, and something has its name */
    FILE_CLOSE,
    FILE_ALLOCATE, /* bytes_total from offset on, the size grows unless keeps_size */
    FILE_TRUNCATE, /* to offset */
    FILE_SIZE,     /* size_result */
    FILE_RENAME,   /* path to path_to */
    FILE_UNLINK,   /* path */
    FILE_MKDIR,    /* path; an existing directory is no error */
    FILE_LIST,     /* path, a directory: names with their zeros into data, from entry offset on */
};

/* One file operation. The caller keeps it, and its memory, until DONE_FILE. Operations in flight
 * together end in any order. A transfer may be short: result tells. */
struct file_op {
    enum file_op_kind kind;
    int fd;
    bool is_durable;     /* FILE_WRITE: complete only once on stable storage (RWF_DSYNC) */
    void *data;
    uint32_t bytes;
    uint64_t offset;
    uint64_t bytes_total; /* FILE_ALLOCATE */
    bool keeps_size;      /* likewise */
    uint64_t size_result; /* FILE_SIZE: out */
    const char *path;    /* relative to the directory fd, or absolute; zero-terminated */
    const char *path_to;
    int open_flags;      /* FILE_OPEN: O_RDWR, O_CREAT, O_DIRECT ... */
    void *user;          /* returned in done.user */
    struct file_op *next; /* of the driver */
    int32_t result;       /* of the driver */
};

struct driver_ops {
    const char *name; /* "ring" or "poll", for the log */
    /* Starts accepting on a listening socket (driver does not own fd). tag comes back. */
    enum err (*listen)(struct driver *d, uint32_t slot, uint32_t tag, int fd);
    /* Stops accepting; no DONE_ACCEPT after it (one already queued is closed by the driver). */
    void (*listen_stop)(struct driver *d, uint32_t slot);
    /* Takes the connected socket fd into slot and starts receiving. From ERR_OK on the driver owns
     * fd; after an error it is still the caller's. */
    enum err (*socket_add)(struct driver *d, uint32_t slot, uint32_t tag, int fd);
    /* Receiving stops soon (bytes already taken may still come as DONE_RECV) and goes on later.
     * Both are idempotent. */
    void (*recv_suspend)(struct driver *d, uint32_t slot);
    void (*recv_resume)(struct driver *d, uint32_t slot);
    /* Returns a DONE_RECV buffer. Order of release is free. */
    void (*recv_release)(struct driver *d, uint32_t buffer);
    /* Sends all bytes of iov[0..count) in order; at most one send per socket is in flight.
     * The iov array is copied (count <= DRIVER_IOV_MAX); its bytes must stay until DONE_SENT. */
    void (*send)(struct driver *d, uint32_t slot, const struct iovec *iov, uint32_t count);
    /* Shuts the socket down, joins its operations, closes it; then DONE_CLOSED. A send in flight
     * still reports DONE_SENT first (negative result). No DONE_RECV afterwards. Idempotent. */
    void (*socket_close)(struct driver *d, uint32_t slot);
    /* Reports DONE_WATCH in each poll that finds fd readable (so the reader should drain it) until
     * the driver is closed, which does not close fd. */
    void (*watch)(struct driver *d, uint32_t slot, int fd);
    enum err (*file_submit)(struct driver *d, struct file_op *op);
    /* Submits what is queued and reaps completions into done[0..max). Waits until there is at
     * least one or until timeout_ns passed: 0 does not wait, UINT64_MAX waits for ever.
     * max is at least DRIVER_DONE_MIN. Returns their number; it may be 0 before timeout_ns passed
     * (a signal, a completion that only the driver cared for). */
    uint32_t (*poll)(struct driver *d, struct done *done, uint32_t max, uint64_t timeout_ns);
    /* From any thread: makes a poll of this driver return with DONE_WAKE. */
    void (*wake)(struct driver *d);
    /* Closes all sockets that the driver owns and waits for file operations; reports nothing. */
    void (*close)(struct driver *d);
};

struct driver {
    const struct driver_ops *ops;
    struct {
        uint64_t polls, syscalls, completions, recvs, recv_bytes, sends, sent_bytes;
        uint64_t recv_rearms, recv_no_buffers, cq_overflows, wakes;
    } count; /* for /metrics; written by the shard's thread only */
};

enum {
    DRIVER_IOV_MAX = 64,
    DRIVER_DONE_MIN = 4,
};

/* Failure injection for tests: the n-th result of a kind (from 1) becomes -error; 0 never. */
struct driver_faults {
    uint64_t accept_at, recv_at, send_at, file_at;
    int error;                             /* a positive errno */
    uint32_t send_bytes_max;               /* each attempt to send takes no more; 0: no limit */
    uint64_t accepts, recvs, sends, files; /* results so far */
};

struct driver_options {
    uint32_t slots_max;          /* sockets, listeners and watches together */
    uint32_t recv_buffer_bytes;  /* total memory for received bytes of this shard, e.g. 4 MiB: what
                                    comes in one turn and what is not released yet */
    bool use_io_features;        /* false: none beyond liburing 2.3 (--io-features none) */
    struct driver_faults *faults; /* NULL except in tests */
};

/* Fails with ERR_UNSUPPORTED where io_uring is forbidden or lacks what the driver needs; *reason
 * is then a static text for the log. Must be called by the thread that will use it. */
NODISCARD enum err driver_ring_open(const struct driver_options *o, struct driver **out,
                                    const char **reason);
NODISCARD enum err driver_poll_open(const struct driver_options *o, struct driver **out,
                                    const char **reason);

#endif
