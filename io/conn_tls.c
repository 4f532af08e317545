/* One struct turn_tls per TLS connection. It belongs to its shard's thread, except between
 * submit_handshake and handshake_returned, when a helper has it.
 *
 *   WAITING --ciphertext--> AT_HELPER --more needed--> WAITING
 *                              |--finished--> READY      |--refused--> FAILED */
#include "io/conn_tls.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/must.h"
#include "io/server.h"
#include "io/tls.h"

enum {
    HANDSHAKE_NS_DEFAULT = 2000000000u,
    PLAIN_MARGIN = TLS_RECORD_BYTES_MAX + 1024, /* a record that was half there before */
};

enum tls_state { TLS_WAITING, TLS_AT_HELPER, TLS_READY, TLS_FAILED };

struct turn_tls {
    struct helper_job job;
    struct server *server;
    struct turn *turn;
    struct conn_id conn;
    uint32_t shard;
    enum tls_state state;
    bool is_first, is_closed; /* closed while a helper has it: freed when it returns */
    bool has_ended;           /* the peer's end-of-stream alert came; FAILED then */
    struct tls_conn *tls;
    enum err result; /* of the helper */
    char *in;        /* ciphertext for the helper; what it left comes first */
    size_t in_len;
    char *out; /* handshake bytes or alerts to send */
    size_t out_len;
    size_t out_sending; /* the first bytes of out are being sent */
    char *plain;
    size_t plain_at, plain_len;
    char *sealed; /* ciphertext of the send in flight */
    struct tls_peer *peer;
    struct login_tls names;
    struct conn_tls facts;
    char spki[2 * TLS_PIN_BYTES], cert[2 * TLS_PIN_BYTES];
};

/* --- the context ---------------------------------------------------------------------------- */

struct tls_context *conn_tls_context(struct server *s)
{
    pthread_mutex_lock(&s->tls_lock);
    struct tls_context *t = s->tls == NULL ? NULL : tls_context_hold(s->tls);
    pthread_mutex_unlock(&s->tls_lock);
    return t;
}

/* *made stays NULL without a tls block. */
static enum err make_context(const struct options *o, struct tls_context **made, char *reason,
                             size_t reason_bytes)
{
    if (!o->tls.is_on) return ERR_OK;
    struct tls_pair first = {o->tls.cert_file.data, o->tls.key_file.data};
    uint32_t count = o->tls.cert_count > 0 ? o->tls.cert_count : 1;
    struct tls_pair *pairs = calloc(count, sizeof *pairs);
    if (pairs == NULL) {
        snprintf(reason, reason_bytes, "out of memory");
        return ERR_MEMORY;
    }
    if (o->tls.cert_count == 0) pairs[0] = first;
    for (uint32_t i = 0; i < o->tls.cert_count; i++)
        pairs[i] = (struct tls_pair){o->tls.certs[i].cert_file.data, o->tls.certs[i].key_file.data};
    struct tls_options t = {.pairs = pairs,
                            .pair_count = count,
                            .ca_file = o->tls.ca_file.data,
                            .verify = o->tls.verify || o->tls.verify_and_map,
                            .min_version = o->tls.min_version,
                            .allow_insecure_cipher_suites = true, /* the configuration asked */
                            .cipher_suites = o->tls.cipher_suites.items,
                            .cipher_suite_count = o->tls.cipher_suites.count,
                            .curves = o->tls.curve_preferences.items,
                            .curve_count = o->tls.curve_preferences.count,
                            .pinned = o->tls.pinned,
                            .pinned_count = o->tls.pinned_count};
    char fault[SERVER_REASON_BYTES] = "";
    enum err e = tls_context_open(&t, made, fault, sizeof fault);
    free(pairs);
    if (e == ERR_OK) return ERR_OK;
    const char *place = o->tls.place.len > 0 ? o->tls.place.data : "tls";
    snprintf(reason, reason_bytes, "%s: %s", place, fault);
    return e;
}

enum err conn_tls_check(const struct options *o, char *reason, size_t reason_bytes)
{
    struct tls_context *made = NULL;
    enum err e = make_context(o, &made, reason, reason_bytes);
    tls_context_drop(made);
    return e;
}

enum err conn_tls_load(struct server *s, const struct options *o, char *reason, size_t reason_bytes)
{
    struct tls_context *made = NULL;
    enum err e = make_context(o, &made, reason, reason_bytes);
    if (e != ERR_OK) return e;
    pthread_mutex_lock(&s->tls_lock);
    struct tls_context *old = s->tls;
    s->tls = made;
    pthread_mutex_unlock(&s->tls_lock);
    tls_context_drop(old);
    return ERR_OK;
}

void conn_tls_unload(struct server *s)
{
    tls_context_drop(s->tls);
    s->tls = NULL;
}

/* --- what turn asks about a new connection
 * ---------------------------------------------------------- */

static const struct options *options_of(void *context)
{
    struct server *s = context;
    return atomic_load(&s->options);
}

static uint64_t handshake_ns(void *context)
{
    const struct options *o = options_of(context);
    return o->tls.timeout_ns > 0 ? (uint64_t)o->tls.timeout_ns : HANDSHAKE_NS_DEFAULT;
}

static bool wants_peek(void *context, uint64_t *wait_ns)
{
    const struct options *o = options_of(context);
    if (!o->tls.is_on || !o->tls.handshake_first) return false;
    *wait_ns = o->tls.handshake_first_fallback_ns > 0 ? (uint64_t)o->tls.handshake_first_fallback_ns
                                                      : handshake_ns(context);
    return true;
}

static bool is_first_only(void *context)
{
    const struct options *o = options_of(context);
    return o->tls.is_on && o->tls.handshake_first && o->tls.handshake_first_fallback_ns == 0;
}

static bool may_begin(void *context)
{
    struct server *s = context;
    pthread_mutex_lock(&s->tls_lock);
    s->tls_rate.limit = options_of(s)->tls.rate_limit;
    bool is_allowed = tls_rate_allow(&s->tls_rate, server_now(NULL).mono_ns);
    pthread_mutex_unlock(&s->tls_lock);
    return is_allowed;
}

void conn_tls_tick(struct server *s)
{
    pthread_mutex_lock(&s->tls_lock);
    uint64_t blocked = tls_rate_blocked(&s->tls_rate);
    pthread_mutex_unlock(&s->tls_lock);
    if (blocked > 0)
        log_warn(s->log, "Rejected %llu connections due to TLS rate limiting",
                 (unsigned long long)blocked);
}

static bool allows_plaintext(void *context)
{
    return options_of(context)->allow_non_tls;
}

/* --- life
 * --------------------------------------------------------------------------------------------- */

static struct turn_tls *open_tls(void *context, struct turn *t, struct conn_id conn, bool is_first)
{
    struct server *s = context;
    struct turn_tls *x = calloc(1, sizeof *x);
    if (x == NULL) return NULL;
    *x = (struct turn_tls){
        .server = s, .turn = t, .conn = conn, .shard = t->index, .is_first = is_first};
    struct tls_context *c = conn_tls_context(s);
    x->out = malloc(TLS_OUT_ROOM * 2);
    enum err e = c == NULL || x->out == NULL ? ERR_MEMORY : tls_conn_open(c, &x->tls);
    tls_context_drop(c);
    if (e == ERR_OK) return x;
    free(x->out);
    free(x);
    return NULL;
}

static void free_tls(struct turn_tls *x)
{
    tls_conn_close(x->tls);
    tls_peer_free(x->peer);
    free(x->in);
    free(x->out);
    free(x->plain);
    free(x->sealed);
    free(x);
}

static void close_tls(struct turn_tls *x)
{
    x->is_closed = true;
    if (x->state != TLS_AT_HELPER) free_tls(x);
}

/* --- reading
 * ------------------------------------------------------------------------------------------ */

/* Decrypts all of cipher. Plain bytes are never more than the ciphertext and the half record. */
static void decrypt(struct turn_tls *x, struct bytes cipher)
{
    must(x->plain_at == x->plain_len);
    size_t room = cipher.len + PLAIN_MARGIN;
    free(x->plain);
    x->plain = malloc(room);
    x->plain_at = x->plain_len = 0;
    if (x->plain == NULL) {
        x->state = TLS_FAILED;
        return;
    }
    struct tls_io io = {
        .in = cipher, .out = x->out, .out_bytes = x->out_len, .out_room = TLS_OUT_ROOM * 2};
    enum err e = ERR_OK;
    while (e == ERR_OK) {
        size_t len = 0;
        e = tls_conn_read(x->tls, &io, x->plain + x->plain_len, room - x->plain_len, &len);
        if (e == ERR_OK) x->plain_len += len;
    }
    x->out_len = io.out_bytes;
    if (e != ERR_INCOMPLETE) x->state = TLS_FAILED;
    x->has_ended = e == ERR_CLOSED;
}

static void learn_facts(struct turn_tls *x)
{
    x->facts = (struct conn_tls){.version = bytes_from_text(tls_conn_version(x->tls)),
                                 .cipher = bytes_from_text(tls_conn_cipher_suite(x->tls)),
                                 .is_first = x->is_first};
    x->peer = tls_conn_peer(x->tls);
    /* With verify_and_map the name is the login: without memory for it nobody comes in. */
    if (x->peer == NULL && options_of(x->server)->tls.verify_and_map) x->state = TLS_FAILED;
    const struct tls_peer *p = x->peer;
    if (p == NULL || p->cert_count == 0) return;
    x->names = (struct login_tls){.emails = p->emails.items,
                                  .dns = p->dns.items,
                                  .uris = p->uris.items,
                                  .email_count = p->emails.count,
                                  .dns_count = p->dns.count,
                                  .uri_count = p->uris.count,
                                  .dn = p->dn,
                                  .dcs = p->dcs,
                                  .rdn = p->rdn};
    bytes_to_hex(p->certs[0].spki_sha256, TLS_PIN_BYTES, x->spki);
    bytes_to_hex(p->certs[0].cert_sha256, TLS_PIN_BYTES, x->cert);
    x->facts.names = &x->names;
    x->facts.subject = p->certs[0].subject;
    x->facts.spki_sha256 = bytes_of(x->spki, sizeof x->spki);
    x->facts.cert_sha256 = bytes_of(x->cert, sizeof x->cert);
}

/* --- handshake
 * ----------------------------------------------------------------------------------------- */

static void run_handshake(struct helper_job *job, uint32_t helper)
{
    struct turn_tls *x = (struct turn_tls *)job;
    struct tls_io io = {
        .in = bytes_of(x->in, x->in_len), .out = x->out, .out_room = TLS_OUT_ROOM * 2};
    (void)helper;
    x->result = tls_conn_handshake(x->tls, &io);
    x->out_len = io.out_bytes;
    memmove(x->in, io.in.data, io.in.len);
    x->in_len = io.in.len;
}

/* On the shard's thread again. */
static void handshake_returned(void *context, struct turn *t)
{
    struct turn_tls *x = context;
    if (x->is_closed) {
        free_tls(x);
        return;
    }
    x->state = x->result == ERR_OK           ? TLS_READY
               : x->result == ERR_INCOMPLETE ? TLS_WAITING
                                             : TLS_FAILED;
    if (x->state == TLS_FAILED) {
        log_error(x->server->log, "TLS handshake error: %s", tls_conn_reason(x->tls));
    } else if (x->state == TLS_READY) {
        learn_facts(x);
        if (x->in_len > 0 && x->state == TLS_READY) decrypt(x, bytes_of(x->in, x->in_len));
        free(x->in);
        x->in = NULL;
        x->in_len = 0;
    }
    turn_tls_ready(t, x->conn);
}

static void handshake_done(struct helper_job *job, uint32_t helper, bool is_cancelled)
{
    struct turn_tls *x = (struct turn_tls *)job;
    if (is_cancelled) return; /* the process ends */
    struct turn_call call = {.run = handshake_returned, .context = x};
    server_mail(x->server, server_sender_helper(x->server, helper), x->shard, TURN_MAIL_CALL, &call,
                sizeof call);
}

static bool feed(struct turn_tls *x, struct bytes cipher)
{
    if (x->state == TLS_FAILED) return true; /* dropped */
    if (x->state == TLS_AT_HELPER || x->plain_at < x->plain_len) return false;
    if (x->state == TLS_READY) {
        decrypt(x, cipher);
        return true;
    }
    if (x->out_len > 0) return false; /* our part of the handshake is still being sent */
    char *grown = x->in_len + cipher.len > TLS_HANDSHAKE_BYTES_MAX
                      ? NULL
                      : realloc(x->in, x->in_len + cipher.len);
    if (grown == NULL) {
        x->state = TLS_FAILED;
        return true;
    }
    memcpy(grown + x->in_len, cipher.data, cipher.len);
    x->in = grown;
    x->in_len += cipher.len;
    x->state = TLS_AT_HELPER;
    x->job.run = run_handshake;
    x->job.done = handshake_done;
    if (helper_submit(x->server->helpers, &x->job) != ERR_OK) x->state = TLS_FAILED;
    return true;
}

static struct bytes plain(struct turn_tls *x)
{
    if (x->state == TLS_AT_HELPER) return bytes_of(NULL, 0);
    return bytes_of(x->plain + x->plain_at, x->plain_len - x->plain_at);
}

static void plain_used(struct turn_tls *x, size_t used)
{
    x->plain_at += used;
    if (x->plain_at < x->plain_len) return;
    free(x->plain);
    x->plain = NULL;
    x->plain_at = x->plain_len = 0;
}

/* --- writing
 * -------------------------------------------------------------------------------------------- */

static struct bytes handshake_out(struct turn_tls *x)
{
    if (x->state == TLS_AT_HELPER || x->out_len == 0) return bytes_of(NULL, 0);
    x->out_sending = x->out_len;
    return bytes_of(x->out, x->out_len);
}

static void handshake_sent(struct turn_tls *x)
{
    /* What was received meanwhile may have called for an answer. */
    x->out_len -= x->out_sending;
    memmove(x->out, x->out + x->out_sending, x->out_len);
    x->out_sending = 0;
}

static uint64_t seal(struct turn_tls *x, const struct bytes *runs, uint32_t count,
                     struct bytes *cipher)
{
    size_t bytes = 0;
    for (uint32_t i = 0; i < count; i++) bytes += tls_ciphertext_max(runs[i].len);
    free(x->sealed);
    x->sealed = malloc(x->out_len + bytes);
    *cipher = bytes_of(x->sealed, 0);
    if (x->sealed == NULL || x->state != TLS_READY) return 0;
    /* What the protocol itself has to say goes first: records are numbered. */
    memcpy(x->sealed, x->out, x->out_len);
    struct tls_io io = {.out = x->sealed, .out_bytes = x->out_len, .out_room = x->out_len + bytes};
    x->out_len = 0;
    uint64_t done = 0;
    for (uint32_t i = 0; i < count; i++) {
        size_t taken = 0;
        if (tls_conn_write(x->tls, &io, runs[i], &taken) != ERR_OK) break;
        done += taken;
        if (taken < runs[i].len) break;
    }
    *cipher = bytes_of(x->sealed, io.out_bytes);
    return done;
}

static const struct conn_tls *facts(struct turn_tls *x)
{
    return x->state == TLS_READY || (x->state == TLS_FAILED && x->facts.version.len > 0) ? &x->facts
                                                                                         : NULL;
}

static bool failed(const struct turn_tls *x)
{
    return x->state == TLS_FAILED;
}

static bool is_busy(const struct turn_tls *x)
{
    return x->state == TLS_AT_HELPER;
}

static bool has_ended(const struct turn_tls *x)
{
    return x->has_ended;
}

static const struct turn_tls_ops ops = {
    .wants_peek = wants_peek,
    .is_first_only = is_first_only,
    .open = open_tls,
    .feed = feed,
    .plain = plain,
    .plain_used = plain_used,
    .is_busy = is_busy,
    .seal = seal,
    .handshake_out = handshake_out,
    .handshake_sent = handshake_sent,
    .facts = facts,
    .failed = failed,
    .has_ended = has_ended,
    .close = close_tls,
    .allows_plaintext = allows_plaintext,
    .may_begin = may_begin,
    .handshake_ns = handshake_ns,
};

const struct turn_tls_ops *conn_tls_ops(struct server *s)
{
    (void)s;
    return &ops;
}
