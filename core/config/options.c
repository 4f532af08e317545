#include "core/config/options.h"
#include "core/base/must.h"

#define SECOND INT64_C(1000000000)
#define NO_TEXT ((struct bytes){"", 0})

static void tls_init(struct options_tls *t)
{
    *t = (struct options_tls){
        .cert_file = NO_TEXT, .key_file = NO_TEXT, .ca_file = NO_TEXT, .min_version = 0x0303};
}

void options_init(struct options *o)
{
    must(o != NULL);
    *o = (struct options){
        .config_file = NO_TEXT,
        .config_digest = NO_TEXT,
        .host = BYTES_LITERAL("0.0.0.0"),
        .port = 4222,
        .unix_socket = NO_TEXT,
        .server_name = NO_TEXT,
        .client_advertise = NO_TEXT,
        .pid_file = NO_TEXT,
        .ports_file_dir = NO_TEXT,
        .max_control_line = 4096,
        .max_payload = 1024 * 1024,
        .max_pending = 64 * 1024 * 1024,
        .max_connections = 65536,
        .max_closed_clients = 10000,
        .ping_interval_ns = 120 * SECOND,
        .ping_max = 2,
        .write_deadline_ns = 10 * SECOND,
        .lame_duck_duration_ns = 120 * SECOND,
        .lame_duck_grace_period_ns = 10 * SECOND,
        .auth_timeout_ns = 2 * SECOND,
        .system_account = BYTES_LITERAL("$SYS"),
        .no_auth_user = NO_TEXT,
        .logtime = true,
        .log_file = NO_TEXT,
        .remote_syslog = NO_TEXT,
        .http_host = BYTES_LITERAL("0.0.0.0"),
        .http_base_path = BYTES_LITERAL("/"),
        .metrics_prefix = BYTES_LITERAL("gnatsd"),
        .cluster_name = NO_TEXT,
        .store_dir = NO_TEXT,
        .connect_error_reports = 3600,
        .reconnect_error_reports = 1,
        .cpus = NO_TEXT,
        .max_process_memory_percent = 80,
    };
    tls_init(&o->tls);
}
