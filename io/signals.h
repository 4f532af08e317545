/* Signals as events on a descriptor, and `--signal`, which sends them to a running server. */
#ifndef IO_SIGNALS_H
#define IO_SIGNALS_H
#include <stdbool.h>
#include <stddef.h>
#include "core/base/err.h"

/* Blocks INT, TERM, HUP, USR1 and USR2 in the calling thread (to be called by main before it
 * starts others, which inherit that) and opens a non-blocking signalfd for them; ignores PIPE.
 * QUIT keeps its default: the process dies with a core. ERR_IO: no descriptor. */
NODISCARD enum err signals_open(int *fd);
void signals_close(int fd);
/* The next signal's number, 0 when none waits. */
int signals_next(int fd);
/* INT or TERM waits to be read: what takes long ends now. Takes nothing, on any thread. */
bool signals_end_waits(void);
/* Go's name of a signal for the line `Trapped "interrupt" signal`; static. */
const char *signals_name(int number);

enum { SIGNALS_REASON_BYTES = 4096 };

/* `--signal argument`: command, or command=pid, command=pidfile, command=prefix* where the
 * command is stop, quit, term, reopen, reload or ldm. Without a pid the one running server is
 * searched by process name. ERR_OK: sent, the caller exits 0. Else reason holds the text that
 * follows `nats-server: ` on stderr and the caller exits 1. */
NODISCARD enum err signals_send(const char *argument, char *reason, size_t reason_bytes);

#endif
