/* Messages to the service manager (systemd's sd_notify protocol) without its library: datagrams
 * to the Unix socket that NOTIFY_SOCKET names. Without one every call is a no-op. */
#ifndef IO_NOTIFY_H
#define IO_NOTIFY_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>
#include "core/base/err.h"

struct notify {
    int fd; /* -1: nobody listens */
    struct sockaddr_un address;
    socklen_t address_bytes;
    uint64_t watchdog_ns; /* a ping is due within this; 0: none is wanted */
};

/* socket_name is NOTIFY_SOCKET: a path or "@name"; watchdog_usec is WATCHDOG_USEC, watchdog_pid is
 * WATCHDOG_PID (another process's watchdog is not ours). Each may be NULL.
 * ERR_INVALID: socket_name is neither; ERR_IO: no socket. Then nothing is sent later. */
NODISCARD enum err notify_open(struct notify *n, const char *socket_name, const char *watchdog_usec,
                               const char *watchdog_pid);
void notify_close(struct notify *n);

/* Never wait; a datagram that cannot be sent is lost. status may be NULL. */
void notify_ready(struct notify *n, const char *status);
void notify_reloading(struct notify *n, uint64_t monotonic_ns);
void notify_stopping(struct notify *n);
void notify_watchdog(struct notify *n);

#endif
