#include "io/notify.h"
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "core/base/bytes.h"

enum { MESSAGE_BYTES_MAX = 512 };

static uint64_t watchdog_of(const char *usec, const char *pid)
{
    uint64_t value = 0, owner = 0;
    if (usec == NULL || bytes_to_u64(bytes_from_text(usec), 16, &value) != ERR_OK) return 0;
    if (pid != NULL) {
        if (bytes_to_u64(bytes_from_text(pid), 10, &owner) != ERR_OK) return 0;
        if (owner != (uint64_t)getpid()) return 0;
    }
    return value * 1000;
}

enum err notify_open(struct notify *n, const char *socket_name, const char *watchdog_usec,
                     const char *watchdog_pid)
{
    *n = (struct notify){.fd = -1};
    if (socket_name == NULL || socket_name[0] == 0) return ERR_OK;
    size_t bytes = strlen(socket_name);
    bool is_abstract = socket_name[0] == '@';
    if ((socket_name[0] != '/' && !is_abstract) || bytes < 2) return ERR_INVALID;
    if (bytes >= sizeof n->address.sun_path) return ERR_INVALID;

    n->address.sun_family = AF_UNIX;
    memcpy(n->address.sun_path, socket_name, bytes + 1);
    n->address_bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + bytes);
    if (is_abstract) {
        n->address.sun_path[0] = 0;
    } else {
        n->address_bytes++;
    }
    n->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (n->fd < 0) return ERR_IO;
    n->watchdog_ns = watchdog_of(watchdog_usec, watchdog_pid);
    return ERR_OK;
}

void notify_close(struct notify *n)
{
    if (n->fd >= 0) close(n->fd);
    n->fd = -1;
}

static void send_text(struct notify *n, const char *text, size_t bytes)
{
    if (n->fd < 0) return;
    (void)sendto(n->fd, text, bytes, MSG_NOSIGNAL, (const struct sockaddr *)&n->address,
                 n->address_bytes);
}

/* Lines "NAME=value"; a status goes on one line, so a newline in it ends it. */
static void send_with_status(struct notify *n, const char *head, const char *status)
{
    char text[MESSAGE_BYTES_MAX];
    int bytes = status == NULL
                    ? snprintf(text, sizeof text, "%s", head)
                    : snprintf(text, sizeof text, "%s%sSTATUS=%.*s", head, head[0] == 0 ? "" : "\n",
                               (int)strcspn(status, "\n"), status);
    if (bytes < 0) return;
    send_text(n, text, (size_t)bytes < sizeof text ? (size_t)bytes : sizeof text - 1);
}

void notify_ready(struct notify *n, const char *status)
{
    send_with_status(n, "READY=1", status);
}

void notify_reloading(struct notify *n, uint64_t monotonic_ns)
{
    char text[64];
    int bytes = snprintf(text, sizeof text, "RELOADING=1\nMONOTONIC_USEC=%llu",
                         (unsigned long long)(monotonic_ns / 1000));
    send_text(n, text, (size_t)bytes);
}

void notify_stopping(struct notify *n)
{
    send_with_status(n, "STOPPING=1", NULL);
}

void notify_watchdog(struct notify *n)
{
    send_with_status(n, "WATCHDOG=1", NULL);
}
