/* The whole server in one process: what its threads share, and how they start and stop.
 *
 * Threads: main (signals, reload, lame duck), one per shard (io/loop), helpers (bcrypt,
 * signatures, TLS handshakes), the log writer, the monitor (HTTP). Every thread that mails shards
 * has a sender number of its own: shards 0..n-1, main n, monitor n+1, system n+2, helpers from n+3.
 */
#ifndef IO_SERVER_H
#define IO_SERVER_H
#include <pthread.h>
#include <stdatomic.h>
#include <sys/types.h>
#include "core/config/options.h"
#include "io/driver.h"
#include "io/helper.h"
#include "io/http.h"
#include "io/log.h"
#include "io/mem_jemalloc.h"
#include "io/storage.h"
#include "io/tls.h"
#include "io/turn.h"

enum {
    SERVER_HELPERS = 2,
    SERVER_RING_BYTES = 1 << 20, /* mail ring of each pair of shards */
    SERVER_LISTENERS_MAX = 4,
    SERVER_RECV_BYTES = 4 << 20, /* receive buffers per shard */
    SERVER_REASON_BYTES = 4096,

    /* Descriptors: of the process (standard ones, signals, log, listeners, what a reload reads,
     * connections that are being refused), of a shard (driver, bells, folder), of a log (manifests,
     * segments that are written, made or recycled, what packing reads and writes; and those that
     * are open for reading), of the monitoring pages. */
    SERVER_FILES_BASE = 48,
    SERVER_FILES_SHARD = 4,
    SERVER_FILES_LOG_LEAST = 10,
    SERVER_FILES_LOG = 20 + READER_FILES_MAX,
    SERVER_FILES_PAGES = 2 * HTTP_CONNECTIONS_MAX,
    SERVER_REFUSED_MAX = 16, /* clients beyond all room that are told so */
};

/* What the limit of open files is shared by. */
struct server_files {
    uint64_t limit;
    uint32_t shard_count, log_count; /* no logs without JetStream */
    bool has_pages;                  /* the monitoring port */
};

struct admission; /* io/listener: who may connect */

/* How the logs of a shard ended, or those of all. */
struct server_end {
    bool is_unclean; /* one could not write its end: the next start recovers, as after a crash */
    bool is_held;    /* the disk did not answer in time: threads are left, which only the end of the
                        process ends */
};

/* One shard's thread and all that only it touches. */
struct server_shard {
    struct server *server;
    uint32_t index;
    pthread_t thread;
    bool is_started;
    struct mem_jemalloc mem;
    struct driver *driver;
    struct shard *shard;
    struct turn *turn;
    int cpu;                /* to pin to; -1 not */
    _Atomic uint32_t conns; /* for placement; written by its thread and by shard 0 */
    enum err failure;       /* why it could not start; read once is_open is set */
    _Atomic bool is_open;   /* 0 until the loop runs, or cannot */
    struct server_end end;  /* read once is_ended is set */
    _Atomic bool is_ended;  /* its logs have ended, or never will */
};

struct server_listener {
    int fd;
    uint32_t slot; /* in shard 0's driver */
    bool is_unix;
    bool is_http, is_https;
    dev_t device; /* of the Unix socket's file */
    ino_t inode;
};

struct server {
    _Atomic(const struct options *) options;
    struct log *log;
    struct server_facts facts;
    char id_text[64], xkey_text[64];
    char *name_text; /* the server's name, whole; NULL: it has none but its id */
    char host_text[256];
    struct mem_jemalloc_budget budget;
    struct mem_jemalloc shared_mem;  /* interest index, mailbox: locked by their users */
    struct mem_jemalloc main_mem;    /* options, accounts */
    struct account_numbers *numbers; /* main's; set before server_start */
    struct mem *shard_mem[INTEREST_SHARDS_MAX];
    struct storage storage;
    bool has_storage; /* JetStream is on */
    struct interest *interest;
    struct mailbox_net *mail;
    struct helper_pool *helpers;
    struct server_shard *shards;
    uint32_t shard_count;
    uint32_t slots_max; /* connections of one shard */
    uint64_t files_max; /* descriptors of the process */
    uint32_t clients_max; /* that these have room for, whatever max_connections says */
    struct server_listener listeners[SERVER_LISTENERS_MAX];
    uint32_t listener_count;
    struct admission *admission;
    struct turn_hooks hooks;
    bool use_ring;
    _Atomic uint64_t next_cid;
    _Atomic uint32_t conn_count;
    int http_port, https_port; /* the real ones; 0 none */
    _Atomic bool is_deaf;      /* the client listeners accept no more */
    _Atomic bool is_stopping;  /* the loops end when their connections are gone */
    _Atomic bool is_lame_duck;
    pthread_mutex_t order_lock;
    struct order *abandoned; /* under order_lock; linked by next */
    pthread_cond_t order_done;
    struct monitor *monitor;
    struct system_port *system_port;
    _Atomic uint64_t reload_count;            /* reloads that ended, well or not */
    char reload_failure[SERVER_REASON_BYTES]; /* why the last one failed; under figures_lock */
    struct tls_context *tls;                  /* current; under tls_lock */
    struct tls_rate tls_rate;                 /* connection_rate_limit; under tls_lock */
    pthread_mutex_t tls_lock;
    pthread_rwlock_t options_lock; /* readers: pages being rendered; writer: the reload */
    pthread_mutex_t figures_lock;  /* the following */
    struct process_counts process; /* cpu figures, kept by main once a second */
    int64_t config_load_ns;
    uint64_t event_seq;
    _Atomic bool is_ready;
};

#define SERVER_VERSION "0.1.0"       /* of Millrace itself */
#define SERVER_NATS_VERSION "2.15.2" /* what INFO, /varz and -v say: client suites gate on it */

void server_init(struct server *s);
/* Makes the server's id and keys; before server_start. Needs options. */
NODISCARD enum err server_identify(struct server *s);
/* Makes room in the interest index for every account of o; before shards see o. ERR_MEMORY: some
 * are there now, which does no harm. */
NODISCARD enum err server_open_accounts(struct server *s, const struct options *o);
/* Raises the limit of open files to what is allowed, and sees whether it is enough. Needs options.
 * ERR_FULL: too few to start with; reason says how many are needed. */
NODISCARD enum err server_check_files(struct server *s, char *reason, size_t reason_bytes);
/* How many clients there is room for beside what the server and its store need for themselves: at
 * most half of a low limit, but never less than least. 0: the limit is below least, or at it. */
uint32_t server_clients_of(const struct server_files *f, uint64_t *least);
/* Needs options, server_check_files, log, budget and main_mem. On failure reason says why; the
 * process ends then. ERR_CLOSED: INT or TERM came while the store was being read; no reason. */
NODISCARD enum err server_start(struct server *s, char *reason, size_t reason_bytes);
/* Closes all connections, ends the shards and helpers. is_held: the process must end without
 * server_free. */
NODISCARD struct server_end server_stop(struct server *s);
/* The last part of it: waits until the logs of every shard have ended, and for the threads that are
 * not held. */
NODISCARD struct server_end server_join(struct server *s);
void server_free(struct server *s);
uint32_t server_default_shards(void);

uint32_t server_sender_main(const struct server *s);
uint32_t server_sender_monitor(const struct server *s);
uint32_t server_sender_system(const struct server *s);
uint32_t server_sender_helper(const struct server *s, uint32_t helper);

/* Hands an order to every shard, or to one, and waits until it is done. sender: the caller's own
 * number. False: the deadline passed first; then server_abandon takes the order. */
static const uint64_t ORDER_WAIT_NS = 2000000000u, ORDER_WAIT_FOR_EVER = UINT64_MAX / 4;
bool server_order(struct server *s, struct order *o, uint32_t sender, uint64_t timeout_ns);
bool server_order_one(struct server *s, struct order *o, uint32_t shard, uint32_t sender,
                      uint64_t timeout_ns);
/* Takes a heap order that was not done in time, with what it points to (query, snapshots,
 * replaced; a publish has its texts in its own block): all is freed when the last shard is done
 * with it, by a later server_reap or the stop. */
void server_abandon(struct server *s, struct order *o);
/* Frees the abandoned orders that are done by now. sender: the caller's own number. */
void server_reap(struct server *s, uint32_t sender);
/* Mails to a shard from a thread that is no shard. Waits for ring space. */
void server_mail(struct server *s, uint32_t sender, uint32_t shard, uint16_t kind, const void *body,
                 uint32_t bytes);
struct shard_time server_now(void *unused);

/* A connection for the monitoring port; owns fd. */
void server_monitor_take(struct server *s, int fd, bool is_https);

#endif
