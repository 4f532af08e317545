/* What a reload changes: old and new options compared row by row of options.def.
 * All or nothing: one change that needs a restart refuses the whole reload, as in nats-server. */
#ifndef CORE_CONFIG_RELOAD_H
#define CORE_CONFIG_RELOAD_H
#include "core/base/text.h"
#include "core/config/options.h"

struct reload_report {
    struct text applied; /* lines "Reloaded: <what>", each with a newline, for the log */
    struct text refused; /* lines "config reload not supported for <what>: old=X, new=Y" */
    uint32_t applied_count, refused_count;
    /* What the shards and io have to look at beyond taking over the new object. */
    bool log_changed;       /* log file, syslog, times in lines */
    bool tls_changed;       /* make new TLS contexts */
    bool pinned_changed;    /* check the clients that are connected */
    bool auth_changed;      /* users, accounts, permissions: check every client */
    bool limits_changed;    /* max_connections: close what is too much */
    bool info_changed;      /* clients get a new INFO: max_payload, client_advertise ... */
    bool files_changed;     /* pid file, ports file */
    bool jetstream_changed; /* what may be stored, limits of streams and consumers */
};

void reload_report_init(struct reload_report *r, struct mem *mem);
void reload_report_deinit(struct reload_report *r);
/* ERR_OK: the new options may replace the old. ERR_DENIED: they may not, refused says why; nothing
 * is to be changed. ERR_MEMORY. A port of -1 in new stands for the port of old. */
NODISCARD enum err reload_compare(const struct options *old, const struct options *new,
                                  struct reload_report *r);

#endif
