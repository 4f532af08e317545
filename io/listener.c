#include "io/listener.h"
#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>
#include "core/base/must.h"
#include "core/base/table.h"
#include "io/crypto.h"

enum {
    BACKLOG = 4096,
    ADDRESS_BUCKETS = 1024,
    SHORT_PERCENT = 92, /* of the memory budget: nobody new comes in */
    REFUSED_TELL_NS = 1000000000,
    FIRST_CID = 5, /* nats-server's first client has this number too */
    BIND_PAUSE_NS = 5000000,
    BIND_TRIES = 200, /* one second: see bind_patiently */
};

/* Connections before login, counted by address; entries that reach zero are freed. */
struct address_count {
    struct address_count *next;
    uint32_t count;
    uint8_t len;
    char ip[46];
};

struct admission {
    pthread_mutex_t lock;
    uint32_t pre_login;
    uint64_t refused_pre_login, refused_memory;
    uint64_t told_ns; /* when the log last heard of refusals for memory */
    uint64_t told_pre_login_ns;
    uint64_t failed_accepts, told_failed_ns; /* shard 0's */
    uint64_t refused_files, told_files_ns;   /* shard 0's */
    struct address_count *buckets[ADDRESS_BUCKETS];
};

/* Seeded: who owns an IPv6 network has more addresses than buckets, and picks among them. */
static struct address_count **find_address(const struct server *s, const char *ip, size_t len)
{
    uint64_t hash = hash_bytes(ip, len, interest_seed(s->interest));
    struct address_count **at = &s->admission->buckets[hash % ADDRESS_BUCKETS];
    while (*at != NULL && ((*at)->len != len || memcmp((*at)->ip, ip, len) != 0)) at = &(*at)->next;
    return at;
}

/* One more connection from ip that has not logged in. False: over a cap. */
static bool admit(struct server *s, const struct turn_socket *socket)
{
    const struct options *o = atomic_load(&s->options);
    struct admission *a = s->admission;
    bool is_admitted = false;
    pthread_mutex_lock(&a->lock);
    struct address_count **at = find_address(s, socket->ip, socket->ip_len);
    uint32_t here = *at == NULL ? 0 : (*at)->count;
    if ((o->preauth_max <= 0 || a->pre_login < (uint32_t)o->preauth_max) &&
        (o->preauth_max_per_address <= 0 || socket->is_unix ||
         here < (uint32_t)o->preauth_max_per_address)) {
        if (*at == NULL) *at = calloc(1, sizeof **at);
        if (*at != NULL) {
            memcpy((*at)->ip, socket->ip, socket->ip_len);
            (*at)->len = socket->ip_len;
            (*at)->count++;
            a->pre_login++;
            is_admitted = true;
        }
    }
    if (!is_admitted) a->refused_pre_login++;
    pthread_mutex_unlock(&a->lock);
    return is_admitted;
}

static void leave_pre_login(struct server *s, const struct turn_socket *socket)
{
    struct admission *a = s->admission;
    pthread_mutex_lock(&a->lock);
    struct address_count **at = find_address(s, socket->ip, socket->ip_len);
    must(*at != NULL && a->pre_login > 0);
    a->pre_login--;
    if (--(*at)->count == 0) {
        struct address_count *empty = *at;
        *at = empty->next;
        free(empty);
    }
    pthread_mutex_unlock(&a->lock);
}

/* --- listening -----------------------------------------------------------------------------------
 */

/* An errno as Go words it: in lower case. */
static const char *go_error(int e, char room[128])
{
    snprintf(room, 128, "%s", strerror(e));
    room[0] = (char)tolower((unsigned char)room[0]);
    return room;
}

static void fail(char *reason, size_t reason_bytes, const char *what, const char *host, int port)
{
    char room[128];
    snprintf(reason, reason_bytes, "Error listening on port: %s:%d, \"listen tcp %s:%d: %s: %s\"",
             host, port, host, port, what, go_error(errno, room));
}

/* The kernel takes an io_uring apart in the background after its process has ended, and until then
 * the accept that flew in it keeps the old listening socket alive. So a server that is started
 * right after its predecessor was killed finds the port taken for some milliseconds: it waits for
 * it. A port that another program really has is refused a second later than it could be. */
static bool bind_patiently(int fd, const struct sockaddr *address, socklen_t bytes)
{
    struct timespec pause = {.tv_nsec = BIND_PAUSE_NS};
    for (int i = 0; i < BIND_TRIES; i++) {
        if (bind(fd, address, bytes) == 0) return true;
        if (errno != EADDRINUSE) return false;
        nanosleep(&pause, NULL);
    }
    errno = EADDRINUSE;
    return false;
}

/* A socket that is bound to host:port and does not listen yet; port -1: the kernel picks. */
static int bind_tcp(const char *host, int port, char *reason, size_t reason_bytes)
{
    char service[16];
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    snprintf(service, sizeof service, "%d", port < 0 ? 0 : port);
    bool is_any = strcmp(host, "0.0.0.0") == 0;
    int e = getaddrinfo(host[0] == 0 ? NULL : is_any ? "::" : host, service, &hints, &list);
    if (e != 0) {
        snprintf(reason, reason_bytes,
                 "Error listening on port: %s:%d, \"listen tcp: lookup %s: %s\"", host, port, host,
                 gai_strerror(e));
        return -1;
    }
    int fd = -1;
    for (struct addrinfo *a = list; a != NULL && fd < 0; a = a->ai_next) {
        int on = 1, off = 0;
        fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd < 0) continue;
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        /* "0.0.0.0" means every address, IPv6 too, as in Go's net package. */
        if (a->ai_family == AF_INET6)
            setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, is_any ? &off : &on, sizeof on);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (!bind_patiently(fd, a->ai_addr, a->ai_addrlen)) {
            int why = errno;
            close(fd);
            fd = -1;
            errno = why;
        }
    }
    if (fd < 0 && is_any && (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL)) {
        /* No IPv6 on this machine. */
        struct sockaddr_in any = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)(port < 0 ? 0 : port))};
        int on = 1;
        fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (fd >= 0) setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        if (fd >= 0 && !bind_patiently(fd, (struct sockaddr *)&any, sizeof any)) {
            int why = errno;
            close(fd);
            fd = -1;
            errno = why;
        }
    }
    if (fd < 0) fail(reason, reason_bytes, "bind", host, port);
    freeaddrinfo(list);
    return fd;
}

static int port_of(int fd)
{
    struct sockaddr_storage a;
    socklen_t len = sizeof a;
    if (getsockname(fd, (struct sockaddr *)&a, &len) != 0) return 0;
    return ntohs(a.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&a)->sin6_port
                                         : ((struct sockaddr_in *)&a)->sin_port);
}

/* Removes a socket file that nobody listens on: a killed server left it behind. Only a refusal says
 * so; a listener whose backlog is full, or that may not be asked, is alive. The file of a server
 * that was killed just now seems alive for as long as its port does: see bind_patiently. */
static void unix_clear(const struct sockaddr_un *a)
{
    struct timespec pause = {.tv_nsec = BIND_PAUSE_NS};
    struct stat st;
    for (int i = 0; i < BIND_TRIES; i++) {
        if (lstat(a->sun_path, &st) != 0 || !S_ISSOCK(st.st_mode)) return;
        int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (probe < 0) return;
        bool is_dead =
            connect(probe, (const struct sockaddr *)a, sizeof *a) != 0 && errno == ECONNREFUSED;
        close(probe);
        if (is_dead) {
            unlink(a->sun_path);
            return;
        }
        nanosleep(&pause, NULL);
    }
}

/* *file tells the socket file from one that another server puts in its place later. */
static int listen_unix(const char *path, struct stat *file, char *reason, size_t reason_bytes)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof a.sun_path) {
        snprintf(reason, reason_bytes, "unix_socket: the path %s is longer than %zu bytes", path,
                 sizeof a.sun_path - 1);
        return -1;
    }
    memcpy(a.sun_path, path, strlen(path));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) goto failed;
    unix_clear(&a);
    if (bind(fd, (struct sockaddr *)&a, sizeof a) != 0) goto failed;
    if (lstat(path, file) != 0 || listen(fd, BACKLOG) != 0) {
        int why = errno;
        unlink(path);
        errno = why;
        goto failed;
    }
    return fd;
failed:
    snprintf(reason, reason_bytes, "Error listening on unix_socket %s: %s", path, strerror(errno));
    if (fd >= 0) close(fd);
    return -1;
}

static void add(struct server *s, struct server_listener l)
{
    must(s->listener_count < SERVER_LISTENERS_MAX);
    l.slot = s->slots_max + s->listener_count;
    s->listeners[s->listener_count++] = l;
}

enum err listener_open(struct server *s, char *reason, size_t reason_bytes)
{
    const struct options *o = atomic_load(&s->options);
    s->admission = calloc(1, sizeof *s->admission);
    if (s->admission == NULL) return ERR_MEMORY;
    pthread_mutex_init(&s->admission->lock, NULL);
    atomic_store(&s->next_cid, FIRST_CID);
    int fd = bind_tcp(o->host.data, o->port, reason, reason_bytes);
    if (fd < 0) return ERR_IO;
    s->facts.port = port_of(fd);
    add(s, (struct server_listener){.fd = fd});
    const int ports[2] = {o->http_port, o->https_port};
    for (int i = 0; i < 2; i++) {
        if (ports[i] == OPTIONS_PORT_OFF) continue;
        const char *host = o->http_host.len > 0 ? o->http_host.data : o->host.data;
        fd = bind_tcp(host, ports[i], reason, reason_bytes);
        if (fd < 0) return ERR_IO;
        *(i == 0 ? &s->http_port : &s->https_port) = port_of(fd);
        add(s, (struct server_listener){.fd = fd, .is_http = i == 0, .is_https = i == 1});
    }
    return ERR_OK;
}

static void start_accepting(void *server, struct turn *t)
{
    struct server *s = server;
    for (uint32_t i = 0; i < s->listener_count; i++)
        if (t->driver->ops->listen(t->driver, s->listeners[i].slot, 0, s->listeners[i].fd) !=
            ERR_OK)
            log_error(s->log, "Cannot accept on listener %u", i);
}

enum err listener_listen(struct server *s, char *reason, size_t reason_bytes)
{
    const struct options *o = atomic_load(&s->options);
    for (uint32_t i = 0; i < s->listener_count; i++) {
        if (listen(s->listeners[i].fd, BACKLOG) == 0) continue;
        fail(reason, reason_bytes, "listen", o->host.data, port_of(s->listeners[i].fd));
        return ERR_IO;
    }
    if (o->unix_socket.len > 0) {
        /* Made here and not bound earlier: a file that nobody listens on is another server's to
         * remove. */
        struct stat file;
        int fd = listen_unix(o->unix_socket.data, &file, reason, reason_bytes);
        if (fd < 0) return ERR_IO;
        add(s, (struct server_listener){
                   .fd = fd, .is_unix = true, .device = file.st_dev, .inode = file.st_ino});
    }
    struct turn_call call = {.run = start_accepting, .context = s};
    server_mail(s, server_sender_main(s), 0, TURN_MAIL_CALL, &call, sizeof call);
    return ERR_OK;
}

/* --- accepting
 * ------------------------------------------------------------------------------------ */

static void name_peer(int fd, struct turn_socket *out)
{
    struct sockaddr_storage a;
    socklen_t len = sizeof a;
    if (getpeername(fd, (struct sockaddr *)&a, &len) != 0) return;
    if (a.ss_family == AF_INET) {
        struct sockaddr_in *in = (struct sockaddr_in *)&a;
        inet_ntop(AF_INET, &in->sin_addr, out->ip, sizeof out->ip);
        out->port = ntohs(in->sin_port);
    } else if (a.ss_family == AF_INET6) {
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&a;
        out->port = ntohs(in6->sin6_port);
        if (IN6_IS_ADDR_V4MAPPED(&in6->sin6_addr))
            inet_ntop(AF_INET, &in6->sin6_addr.s6_addr[12], out->ip, sizeof out->ip);
        else
            inet_ntop(AF_INET6, &in6->sin6_addr, out->ip, sizeof out->ip);
    }
    out->ip_len = (uint8_t)strlen(out->ip);
}

static uint32_t least_loaded(const struct server *s)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < s->shard_count; i++)
        if (atomic_load_explicit(&s->shards[i].conns, memory_order_relaxed) <
            atomic_load_explicit(&s->shards[best].conns, memory_order_relaxed))
            best = i;
    return best;
}

/* Mails the socket to its shard, or keeps it here when that ring is full. */
static void place(struct server *s, struct turn *t, const struct turn_socket *socket)
{
    uint32_t target = least_loaded(s);
    if (target != 0) {
        struct lane *l = t->outbox.lanes[target];
        uint32_t bytes = lane_record_bytes(sizeof *socket);
        if (lane_has_room(l, bytes, bytes)) {
            memcpy(lane_append(l, TURN_MAIL_SOCKET, 0, sizeof *socket), socket, sizeof *socket);
            atomic_fetch_add(&s->shards[target].conns, 1);
            return;
        }
    }
    atomic_fetch_add(&s->shards[0].conns, 1);
    if (turn_take(t, socket) != ERR_OK) listener_refused(s, 0, socket);
}

void listener_refused(void *server, uint32_t shard, const struct turn_socket *socket)
{
    struct server *s = server;
    close(socket->fd);
    atomic_fetch_sub(&s->shards[shard].conns, 1);
    leave_pre_login(s, socket);
    atomic_fetch_sub(&s->conn_count, 1);
    log_error(s->log, "Error accepting a connection: no memory or no slot");
}

/* One line a second is enough to know. */
static void refuse_for_memory(struct server *s, struct turn *t, int fd)
{
    struct admission *a = s->admission;
    close(fd);
    pthread_mutex_lock(&a->lock);
    a->refused_memory++;
    uint64_t refused = a->refused_memory;
    bool is_told = t->now.mono_ns - a->told_ns < REFUSED_TELL_NS;
    if (!is_told) a->told_ns = t->now.mono_ns;
    pthread_mutex_unlock(&a->lock);
    if (!is_told)
        log_warn(s->log, "New connections are refused: the memory budget is short (%llu so far)",
                 (unsigned long long)refused);
}

/* As above: closed without a word, since who has not said who it is may be anybody. */
static void refuse_pre_login(struct server *s, struct turn *t, const struct turn_socket *socket)
{
    struct admission *a = s->admission;
    close(socket->fd);
    pthread_mutex_lock(&a->lock);
    uint64_t refused = a->refused_pre_login;
    bool is_told =
        a->told_pre_login_ns != 0 && t->now.mono_ns - a->told_pre_login_ns < REFUSED_TELL_NS;
    if (!is_told) a->told_pre_login_ns = t->now.mono_ns;
    pthread_mutex_unlock(&a->lock);
    if (!is_told)
        log_warn(s->log,
                 "New connections are refused: too many have not logged in, the last from %s "
                 "(preauth_max, preauth_max_per_address; %llu so far)",
                 socket->ip_len > 0 ? socket->ip : "the Unix socket", (unsigned long long)refused);
}

/* As above: where descriptors are short, every stranger who connects makes one of these. */
static void accept_failed(struct admission *a, struct log *log, uint64_t now_ns, int error)
{
    a->failed_accepts++;
    if (a->told_failed_ns != 0 && now_ns - a->told_failed_ns < REFUSED_TELL_NS) return;
    a->told_failed_ns = now_ns;
    log_error(log, "Temporary Client Accept Error (%s; %llu so far)", strerror(error),
              (unsigned long long)a->failed_accepts);
}

/* What is left of the descriptors is the store's, or strangers who only connect could stop it. */
static void tell_no_room(struct server *s, uint64_t now_ns)
{
    struct admission *a = s->admission;
    a->refused_files++;
    if (a->told_files_ns != 0 && now_ns - a->told_files_ns < REFUSED_TELL_NS) return;
    a->told_files_ns = now_ns;
    log_warn(s->log,
             "New connections are refused: the limit of open files, %llu, has room for %u clients "
             "(LimitNOFILE, ulimit -n; %llu so far)",
             (unsigned long long)s->files_max, s->clients_max,
             (unsigned long long)a->refused_files);
}

static struct conn_peer unix_peer(int fd)
{
    struct ucred of;
    socklen_t bytes = sizeof of;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &of, &bytes) != 0) return (struct conn_peer){0};
    return (struct conn_peer){.is_known = true, .uid = of.uid, .gid = of.gid, .pid = of.pid};
}

void listener_on_done(void *server, struct turn *t, const struct done *d)
{
    struct server *s = server;
    if (d->kind != DONE_ACCEPT) return;
    if (d->result < 0) {
        accept_failed(s->admission, s->log, t->now.mono_ns, -d->result);
        return;
    }
    uint32_t i = d->slot - s->slots_max;
    must(i < s->listener_count);
    const struct server_listener *l = &s->listeners[i];
    if (l->is_http || l->is_https) {
        server_monitor_take(s, d->fd, l->is_https);
        return;
    }
    const struct options *o = atomic_load(&s->options);
    struct turn_socket socket = {.fd = d->fd, .is_unix = l->is_unix};
    if (!l->is_unix) {
        int on = 1;
        setsockopt(d->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        name_peer(d->fd, &socket);
    } else {
        socket.peer = unix_peer(d->fd);
    }
    if (mem_jemalloc_budget_percent(&s->budget) >= SHORT_PERCENT) {
        refuse_for_memory(s, t, d->fd);
        return;
    }
    if (atomic_load(&s->is_stopping) || atomic_load(&s->is_lame_duck)) {
        close(d->fd);
        return;
    }
    if (atomic_load(&s->conn_count) >= s->clients_max + SERVER_REFUSED_MAX) {
        close(d->fd); /* as many as there is room for are being told */
        tell_no_room(s, t->now.mono_ns);
        return;
    }
    if (!admit(s, &socket)) {
        refuse_pre_login(s, t, &socket);
        return;
    }
    socket.cid = atomic_fetch_add(&s->next_cid, 1);
    /* Whether or not nonces are asked for today: a reload may come before the shard's INFO. */
    crypto_random(socket.nonce, sizeof socket.nonce);
    uint32_t count = atomic_fetch_add(&s->conn_count, 1);
    if (o->max_connections <= 0 || count >= (uint64_t)o->max_connections)
        socket.refusal = CLOSED_MAX_CONNECTIONS;
    if (count >= s->clients_max && socket.refusal == 0) {
        socket.refusal = CLOSED_MAX_CONNECTIONS;
        tell_no_room(s, t->now.mono_ns);
    }
    place(s, t, &socket);
}

void listener_gone(void *server, uint32_t shard, struct turn_conn *c)
{
    struct server *s = server;
    atomic_fetch_sub(&s->shards[shard].conns, 1);
    atomic_fetch_sub(&s->conn_count, 1);
    if (!c->is_logged_in) leave_pre_login(s, c->socket);
}

void listener_logged_in(void *server, struct turn_conn *c)
{
    if (c->is_logged_in) return;
    c->is_logged_in = true;
    leave_pre_login(server, c->socket);
}

static void stop_accepting(void *server, struct turn *t)
{
    struct server *s = server;
    if (atomic_exchange(&s->is_deaf, true)) return;
    for (uint32_t i = 0; i < s->listener_count; i++) {
        struct server_listener *l = &s->listeners[i];
        if (l->is_http || l->is_https) continue;
        t->driver->ops->listen_stop(t->driver, l->slot);
        /* A connection in the backlog is refused now, not when the process ends. */
        shutdown(l->fd, SHUT_RD);
    }
}

void listener_stop(struct server *s)
{
    struct turn_call call = {.run = stop_accepting, .context = s};
    server_mail(s, server_sender_main(s), 0, TURN_MAIL_CALL, &call, sizeof call);
}

/* The socket file, unless a successor's is there by now: one may start during the lame duck. As
 * long as our socket is open its inode number is nobody else's. */
static void unix_remove(const struct server_listener *l, const char *path)
{
    struct stat st;
    if (lstat(path, &st) == 0 && st.st_dev == l->device && st.st_ino == l->inode) unlink(path);
}

void listener_close(struct server *s)
{
    const struct options *o = atomic_load(&s->options);
    for (uint32_t i = 0; i < s->listener_count; i++) {
        if (s->listeners[i].is_unix) unix_remove(&s->listeners[i], o->unix_socket.data);
        close(s->listeners[i].fd);
    }
    s->listener_count = 0;
    if (s->admission == NULL) return;
    for (uint32_t b = 0; b < ADDRESS_BUCKETS; b++)
        while (s->admission->buckets[b] != NULL) {
            struct address_count *a = s->admission->buckets[b];
            s->admission->buckets[b] = a->next;
            free(a);
        }
    pthread_mutex_destroy(&s->admission->lock);
    free(s->admission);
    s->admission = NULL;
}
