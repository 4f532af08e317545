/* The options of the server: one immutable object made from defaults, configuration file,
 * environment, --set and flags (in rising order), shared by all shards and replaced as a whole on
 * reload. Every option is one row of options.def, which says its name in the file, its flag, its
 * type, range and default, and where it lies in struct options.
 *
 * Invariants: nothing changes after options_load. Everything an options object points to lies in
 * its own arena (class MEM_CONFIG) and dies with options_free; whoever uses the object must be
 * done with it by then (the reload waits until every shard has switched). Each text is followed
 * by a zero byte, so that .data is a C string; a text that was not given has len 0 and data "". */
#ifndef CORE_CONFIG_OPTIONS_H
#define CORE_CONFIG_OPTIONS_H
#include <stdbool.h>
#include <stdint.h>
#include "core/base/bytes.h"
#include "core/base/err.h"
#include "core/base/mem.h"
#include "core/base/text.h"

struct account_set;

enum {
    OPTIONS_PORT_OFF = 0,     /* this listener is not wanted (monitoring) */
    OPTIONS_PORT_RANDOM = -1, /* the kernel picks one */
};

enum options_io { OPTIONS_IO_AUTO, OPTIONS_IO_RING, OPTIONS_IO_POLL };
enum options_io_features { OPTIONS_IO_FEATURES_AUTO, OPTIONS_IO_FEATURES_NONE };
enum options_log_format { OPTIONS_LOG_TEXT, OPTIONS_LOG_JSON, OPTIONS_LOG_LOGFMT };
/* What happens to a client whose write deadline passed. */
enum options_write_timeout {
    OPTIONS_WRITE_TIMEOUT_DEFAULT, /* for clients the same as close */
    OPTIONS_WRITE_TIMEOUT_CLOSE,
    OPTIONS_WRITE_TIMEOUT_RETRY,
};

struct options_texts {
    const struct bytes *items;
    uint32_t count;
};

struct options_pair {
    struct bytes key, value;
};

struct options_pairs {
    const struct options_pair *items;
    uint32_t count;
};

struct options_cert_pair {
    struct bytes cert_file, key_file;
};

enum { OPTIONS_PIN_BYTES = 32 };

/* A tls block; is_on false: all the rest is empty. Files are not read by core. */
struct options_tls {
    bool is_on;
    struct bytes place; /* "<file>:<line>:<col>" of the block, for errors about its files */
    struct bytes cert_file, key_file, ca_file;
    const struct options_cert_pair *certs; /* further pairs; then cert_file is empty */
    uint32_t cert_count;
    bool is_insecure;    /* accepted; means nothing to a listener */
    bool verify;         /* the client must show a certificate that ca_file vouches for */
    bool verify_and_map; /* and its name picks the user; implies verify */
    int64_t timeout_ns;  /* for the handshake; 0: the default of 2 s */
    int64_t rate_limit;  /* handshakes a second; 0: no limit */
    const uint8_t (*pinned)[OPTIONS_PIN_BYTES]; /* SHA-256 of the public key; none: any key */
    uint32_t pinned_count;
    bool handshake_first;                   /* no INFO before TLS */
    int64_t handshake_first_fallback_ns;    /* then INFO after all; 0: never */
    uint16_t min_version;                   /* 0x0303 or 0x0304 */
    struct options_texts cipher_suites;     /* IANA names; none: the defaults */
    struct options_texts curve_preferences; /* names as in the file; none: the defaults */
};

/* What the jetstream block says; store_dir stands in struct options. */
struct options_jetstream {
    bool is_on;
    int64_t sync_interval_ns;  /* 0: always, acknowledged means on disk */
    int64_t memory_bytes_max;  /* of all memory streams; below 0: by the size of the machine */
    int64_t storage_bytes_max; /* of all file streams; below 0: by the free disk */
    struct bytes domain;       /* or empty */
    bool is_strict;            /* true: unknown fields in requests are refused */
    int64_t max_ack_pending;   /* 0 or less: no limit; the same for the next */
    int64_t max_request_batch;
    int64_t duplicate_window_ns;   /* 0: no limit */
    int64_t default_max_consumers; /* 1000; below 0: no limit */
    int64_t request_queue_max;     /* always positive after options_load */
    int64_t info_queue_max;        /* the same */
    /* Accepted for the sake of existing files. */
    int64_t max_ha_assets;
    int64_t batch_stream_max, batch_total_max, batch_messages_max, batch_timeout_ns;
    int64_t buffered_messages_max, buffered_bytes_max;
    struct bytes unique_tag, extension_hint;
    int64_t catchup_bytes_max;
    int64_t meta_compact, meta_compact_bytes;
    bool meta_compact_sync;
    int64_t concurrent_io_max;
};

struct options {
    /* Where these options come from. */
    struct bytes config_file;   /* empty: none */
    struct bytes config_digest; /* "sha256:<hex>", empty without a file */

    /* Server. */
    struct bytes host;             /* "0.0.0.0" */
    int32_t port;                  /* 4222; OPTIONS_PORT_RANDOM */
    struct bytes unix_socket;      /* path of one more listener for clients; empty: none */
    struct bytes server_name;      /* empty: the server id */
    struct bytes client_advertise; /* host[:port] told to clients in place of our own; or empty */
    struct options_texts server_tags;
    struct options_pairs server_metadata;
    struct bytes pid_file;
    struct bytes ports_file_dir;
    bool no_header_support;

    /* Limits. */
    int32_t max_control_line;        /* bytes; 4096 */
    int32_t max_payload;             /* bytes; 1 MiB */
    int64_t max_pending;             /* bytes; 64 MiB */
    int64_t max_connections;         /* 65536; negative: none are accepted */
    int64_t max_subscriptions;       /* of one connection; 0 or less: no limit */
    uint8_t max_sub_tokens;          /* of one subject; 0: no limit */
    int64_t max_closed_clients;      /* kept for connz; 10000 */
    int32_t preauth_max;             /* connections that have not logged in yet; 0: no limit */
    int32_t preauth_max_per_address; /* the same for one address; 0: no limit */
    bool no_fast_producer_stall;

    /* Liveness. */
    int64_t ping_interval_ns;  /* 2 min */
    int64_t ping_max;          /* 2 */
    int64_t write_deadline_ns; /* 10 s */
    enum options_write_timeout write_timeout;
    int64_t lame_duck_duration_ns;     /* 2 min */
    int64_t lame_duck_grace_period_ns; /* 10 s */

    /* Login. The users themselves, also the single user or token of the authorization block, are
     * in accounts. */
    const struct account_set *accounts; /* never NULL after options_load */
    bool auth_required;
    int64_t auth_timeout_ns;     /* 2 s; with TLS its timeout and 1 s */
    struct bytes system_account; /* "$SYS" */
    bool no_system_account;
    struct bytes no_auth_user; /* user of clients that bring no credentials; may be empty */

    /* TLS of the client listener; it serves the https monitoring port too. */
    struct options_tls tls;
    bool allow_non_tls;

    /* Log. */
    bool debug, trace, trace_verbose, trace_headers;
    enum options_log_format log_format;
    bool logtime; /* true */
    bool logtime_utc;
    struct bytes log_file;  /* empty: stderr */
    int64_t log_size_limit; /* bytes; 0: no limit */
    int64_t log_max_num;    /* rotated files kept; 0: all */
    bool syslog;
    struct bytes remote_syslog;
    int64_t max_traced_msg_len; /* bytes; 0: no limit */

    /* Monitoring. */
    struct bytes http_host; /* as host when not given */
    int32_t http_port;      /* OPTIONS_PORT_OFF, OPTIONS_PORT_RANDOM or a port */
    int32_t https_port;
    struct bytes http_base_path; /* "/" or "/x/y", without a slash at the end */
    struct bytes metrics_prefix; /* of the names at /metrics; "gnatsd" */

    /* JetStream. */
    struct options_jetstream jetstream;
    struct bytes store_dir; /* as it was given; empty: the default of the program */

    /* Accepted for the sake of existing files; told to monitoring pages. */
    struct bytes cluster_name;
    int32_t prof_port;
    int64_t connect_error_reports;   /* 3600 */
    int64_t reconnect_error_reports; /* 1 */

    /* How the process uses the machine. */
    uint32_t shards;   /* 0: one per usable core */
    struct bytes cpus; /* list such as "0,2-5"; empty: all that are allowed */
    bool pin;          /* each shard's thread to one core */
    enum options_io io;
    enum options_io_features io_features;
    uint64_t max_process_memory_bytes;  /* 0: by percent */
    uint8_t max_process_memory_percent; /* of the machine or the control group; 80 */

    struct options_memory *memory; /* of options_load; NULL for options made by options_init */
};

/* All defaults, nothing in an arena, no accounts: for tests and as the base of options_load. */
void options_init(struct options *o);

struct account_numbers;
struct conf_source;
struct flags;

/* What loading found, as lines that end with a newline: "<file>:<line>:<col>: <text>". */
struct options_report {
    struct text errors;   /* the options are not usable */
    struct text warnings; /* they are, but -t fails */
    struct text notices;  /* for the log: what has no effect, what is unwise */
    uint32_t error_count, warning_count, notice_count;
};

/* mem must outlive the report. */
void options_report_init(struct options_report *r, struct mem *mem);
void options_report_deinit(struct options_report *r);

struct options_input {
    struct conf_source *source; /* files and environment */
    const struct flags *flags;  /* NULL: none; names the configuration file */
    struct account_numbers *numbers;
    uint64_t seed; /* of account_set_seal: the same over reloads */
    /* SHA-256, which core has not. NULL: no digest. */
    void (*sha256)(const void *data, size_t bytes, uint8_t digest[32]);
};

/* Makes options from everything that in names. The report is complete in any case.
 * ERR_OK: *out is immutable from now on and belongs to the caller until options_free.
 * ERR_INVALID, ERR_SYNTAX, ERR_IO: the report has errors, *out is not written. ERR_MEMORY. */
NODISCARD enum err options_load(struct mem *mem, const struct options_input *in,
                                struct options **out, struct options_report *report);
/* o may be NULL. Nobody may look at it any more. */
void options_free(struct options *o);

#endif
