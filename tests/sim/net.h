/* The simulated network: connections between clients and shards, and the driver (io/driver.h)
 * through which a shard sees them.
 *
 * A link has two directions, each a queue of bytes in flight or waiting. Towards the shard: what
 * the client wrote arrives after the link's latency and is handed out in random pieces. Towards
 * the client: a send of the shard moves as the window allows, straight out of the shard's memory
 * and as late as the rules of the driver permit, so that memory given back too early shows as
 * wrong bytes. Faults: stalls (the client reads nothing), resets, half-closes, and the n-th call of
 * a kind failing.
 *
 * Everything random comes from the net's own generator: a run with another split seed makes the
 * same bytes in other pieces. */
#ifndef TESTS_SIM_NET_H
#define TESTS_SIM_NET_H
#include "core/base/list.h"
#include "core/base/rng.h"
#include "io/driver.h"
#include "tests/sim/clock.h"

enum { NET_LINKS_MAX = 4096, NET_SLOTS_MAX = 256, NET_SHARDS_MAX = 8, NET_FILES_MAX = 256 };

/* Bytes in order: those before visible may be read. */
struct net_queue {
    char *data;
    size_t first, visible, end, capacity;
    uint64_t last_ns; /* arrival of the last bytes: order is kept */
};

struct net;
struct net_driver;

struct net_link {
    struct net *net;
    uint32_t fd; /* index in the net; what DONE_ACCEPT says */
    uint64_t latency_ns;
    size_t window_bytes; /* towards the client: in flight or unread */
    struct net_queue up, down;
    bool is_up_ended;    /* the client shut its side down, behind what it wrote */
    bool is_up_arrived;  /* and this reached the shard */
    bool is_reset;       /* by the client: both directions are dead */
    bool is_closed;      /* by the shard */
    uint64_t closed_ns;  /* when */
    bool is_client_gone; /* nobody reads or writes any more */

    /* The shard's side, once it took the socket. */
    struct net_driver *driver;
    uint32_t slot, tag;
    bool is_ready; /* in the driver's list */
    struct list ready;
    bool is_suspended, is_end_told, is_closing;
    struct iovec iov[DRIVER_IOV_MAX];
    uint32_t iov_count, iov_at;
    size_t iov_offset;
    bool is_sending;
    int32_t send_total;
    int send_result; /* 0 under way; > 0 done; < 0 failed */

    void (*on_readable)(void *context); /* of the client: bytes or the end came */
    void *context;
};

struct net_faults { /* the n-th call from 1 fails; 0 never */
    uint64_t accept_at, recv_at, send_at, add_at;
    uint64_t accepts, recvs, sends, adds;
};

struct net {
    struct clock *clock;
    struct rng rng;
    uint32_t piece_bytes_max; /* largest DONE_RECV */
    struct net_link *links[NET_LINKS_MAX];
    uint32_t link_count;
    struct net_faults faults;
    uint64_t pieces, short_pieces;
};

/* A driver of one shard. */
struct net_driver {
    struct driver driver;
    struct net *net;
    struct net_link *slots[NET_SLOTS_MAX];
    struct list ready; /* links with something to tell */
    uint32_t accepts[NET_LINKS_MAX];
    uint32_t accept_first, accept_end; /* only shard 0's */
    bool is_woken;
    uint32_t buffers_out; /* pieces not given back */
    char **buffers;
    uint32_t buffer_capacity;
    uint32_t *buffer_free;
    uint32_t buffer_free_count;
    void *files[NET_FILES_MAX]; /* operations that ended, for DONE_FILE */
    uint32_t file_count;
    /* Lets others run until something is ready or the time has come. */
    void (*sleep)(void *context, uint64_t timeout_ns);
    void *context;
};

void net_init(struct net *n, struct clock *c, uint64_t seed);
void net_deinit(struct net *n);
void net_driver_init(struct net_driver *d, struct net *n);
void net_driver_deinit(struct net_driver *d);
bool net_driver_is_ready(const struct net_driver *d);
/* A file operation ended: the next poll says so. */
void net_driver_file_done(struct net_driver *d, void *user);

/* The client's side. NULL: refused. The listener is accept_by's driver. */
struct net_link *net_connect(struct net *n, struct net_driver *accept_by, uint64_t latency_ns,
                             size_t window_bytes);
void net_write(struct net_link *l, const void *data, size_t bytes);
size_t net_unsent(const struct net_link *l); /* written, not yet taken by the shard */
/* Takes up to bytes_max; 0: nothing there now. */
size_t net_read(struct net_link *l, char *to, size_t bytes_max);
bool net_is_ended(const struct net_link *l); /* all is read and the shard closed */
void net_half_close(struct net_link *l);
void net_reset(struct net_link *l);
/* An accepted socket that nobody takes. */
void net_refuse(struct net *n, int fd);

#endif
