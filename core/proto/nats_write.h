/* Encoders of what the server says: INFO, MSG and HMSG lines, -ERR texts (NATS client protocol).
 * MSG lines are written straight into output chunks by core/shard/fanout; here is what is built
 * once per connection or per error. */
#ifndef CORE_PROTO_NATS_WRITE_H
#define CORE_PROTO_NATS_WRITE_H
#include "core/base/bytes.h"

/* Fields of INFO in nats-server's order; empty texts and false are omitted unless noted. */
struct nats_info {
    struct bytes server_id, server_name, version, go, git_commit; /* first four always */
    struct bytes host;                                            /* always */
    int port;                                                     /* always */
    bool headers;                                                 /* always */
    bool auth_required, tls_required, tls_verify, tls_available;
    int32_t max_payload; /* always */
    bool jetstream;
    uint64_t client_id;
    struct bytes client_ip, nonce, cluster;
    bool ldm;
    bool connect_info; /* the second INFO, after the first PING */
    struct bytes remote_account;
    bool is_system_account;
    struct bytes xkey;
    struct bytes domain; /* of JetStream */
};

enum {
    NATS_INFO_BYTES_MAX = 4096, /* with names of NATS_INFO_NAMES_NEAR bytes in all */
    NATS_INFO_NAMES_NEAR = 512,
    NATS_INFO_BYTES_PER_CHAR = 6, /* \u0001 */
};

/* "INFO {...} \r\n"; w becomes full when it does not fit. */
void nats_write_info(struct writer *w, const struct nats_info *i);
/* Appends text as a JSON string, quotes included. */
void nats_write_json_text(struct writer *w, struct bytes text);

/* -ERR texts that do not depend on anything: "-ERR '<text>'\r\n". */
#define NATS_ERR_LINE(text) BYTES_LITERAL("-ERR '" text "'\r\n")

#endif
