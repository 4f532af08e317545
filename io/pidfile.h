/* The two small files that tell others about a running server: its pid, and its ports. */
#ifndef IO_PIDFILE_H
#define IO_PIDFILE_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/base/bytes.h"
#include "core/base/err.h"

/* Writes the decimal pid without a newline, mode 0600. It stays when the server ends.
 * On failure reason is `open <path>: <why>` as Go words it. */
NODISCARD enum err pidfile_write(const char *path, char *reason, size_t reason_bytes);

enum { PIDFILE_URLS_MAX = 16 };

/* URLs such as nats://127.0.0.1:4222; a list without any is left out. */
struct pidfile_ports {
    struct {
        const char *items[PIDFILE_URLS_MAX];
        uint32_t count;
    } nats, monitoring, cluster, profile, websocket;
};

enum { PIDFILE_PATH_BYTES = 4096 };

/* The path of the ports file: <directory>/<base name of program>_<pid>.ports.
 * ERR_TOO_LONG: it does not fit PIDFILE_PATH_BYTES. */
NODISCARD enum err pidfile_ports_path(const char *directory, const char *program,
                                      char path[PIDFILE_PATH_BYTES]);
/* Written whole under another name and renamed: a reader that waits for it never sees a part. */
NODISCARD enum err pidfile_ports_write(const char *path, const struct pidfile_ports *ports,
                                       char *reason, size_t reason_bytes);
void pidfile_ports_remove(const char *path);

#endif
