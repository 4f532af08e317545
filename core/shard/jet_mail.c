/* What the JetStream of one shard has to say to that of another.
 *
 *   client ──> shard 0 ──REQUEST──> the shard of the stream's log ──> client
 *
 *   a shard that creates or changes a stream          shard 0, with the directory
 *        CLAIM_ASK ──────────────────────────────────────> directory_claim
 *        jsapi_claimed <────────────────────────── CLAIM
 *        NOTICE (done, undone, gone) ────────────────────> directory_settle, directory_drop
 *
 *   shard 0, asked for all streams                    every other shard
 *        USAGE_ASK ──> <── USAGE                      sums of an account
 *        PAGE_ASK ──> <── PAGE_PART ... PAGE_END      infos of the streams on one page
 *
 *   a shard that answered a client of another one: AUDIT ──> that client's, which tells of it
 *   a shard whose streams grew: USED ──────────────────> every other one (core/shard/jet_share)
 *
 * An answer finds its request by log and token; one that finds none is of a request that is over.
 * What is asked is answered while the mail is consumed, so that room for the answer is there (M1).
 */
#include "core/base/must.h"
#include "core/shard/jet.h"

enum jet_mail_kind {
    JET_MAIL_REQUEST = 1,
    JET_MAIL_CLAIM_ASK,
    JET_MAIL_CLAIM,
    JET_MAIL_NOTICE,
    JET_MAIL_USAGE_ASK,
    JET_MAIL_USAGE,
    JET_MAIL_PAGE_ASK,
    JET_MAIL_PAGE_PART,
    JET_MAIL_PAGE_END,
    JET_MAIL_USED,
    JET_MAIL_AUDIT,
};

struct jet_mail {
    uint8_t kind, word; /* a verdict or a notice */
    uint16_t log;       /* of who asks; REQUEST: of who is asked */
    uint32_t account;
    uint64_t token;  /* USED: bytes in memory */
    uint64_t stream; /* PAGE_PART: number of the item; USED: bytes in files */
    int64_t max_bytes;
    bool is_new, is_memory;
};

struct jet_mail_usage {
    struct jet_mail mail;
    struct quota sum;
};
_Static_assert(sizeof(struct jet_mail_usage) <= RELAY_JET_BYTES_MAX, "an answer");

/* One stream of a page that is asked for. */
struct jet_mail_item {
    uint64_t stream;
    uint32_t log, number;
};

static struct bytes bytes_of_mail(const struct jet_mail *mail)
{
    return bytes_of((const char *)mail, sizeof *mail);
}

static bool send_texts(struct shard *s, uint32_t shard, const struct jet_mail *mail,
                       struct bytes subject, struct bytes payload)
{
    struct message m = {.account = session_account(s, mail->account),
                        .target = bytes_of_mail(mail),
                        .subject = subject,
                        .payload = payload.data,
                        .total_bytes = (uint32_t)payload.len,
                        .origin_shard = s->index};
    return m.account != NULL && relay_jet_message(s, shard, &m);
}

/* --- requests that are handed on -------------------------------------------------------------- */

bool jet_mail_request(struct shard *s, uint32_t shard, uint32_t log, const struct message *m)
{
    struct jet_mail mail = {
        .kind = JET_MAIL_REQUEST, .log = (uint16_t)log, .account = m->account->number};
    struct message copy = *m;
    copy.target = bytes_of_mail(&mail);
    if (s->index == JET_DIRECTORY_SHARD && !relay_has_room(s, shard, &copy)) return false;
    return relay_jet_message(s, shard, &copy);
}

static void on_request(struct shard *s, uint32_t log, struct message *m)
{
    struct jet *j = log == JET_LOG_ANY ? s->jets[0] : jet_of_log(s, log);
    must(j != NULL);
    must(log != JET_LOG_ANY || s->config.directory != NULL);
    uint8_t kind = log == JET_LOG_ANY ? JET_SUB_API : JET_SUB_ROUTED;
    if (m->account == NULL) { /* no memory to know it, and so none to answer in it */
        s->counts.dropped_msgs++;
        relay_end_client(s, m->origin_shard, m->origin);
        return;
    }
    if (m->payload != NULL && jet_queue_message(s, &j->inbox, kind, NULL, m) == ERR_OK) return;
    struct jet *before = s->jet;
    s->jet = j;
    jet_send_refusal(s, kind, m);
    s->jet = before;
}

/* --- claims ----------------------------------------------------------------------------------- */

/* Subjects one behind the other, each with its length before it; with room for CRLF. */
static char *pack_subjects(struct arena *arena, const struct request_texts *subjects, size_t *bytes)
{
    *bytes = 0;
    for (uint32_t i = 0; i < subjects->count; i++)
        *bytes += sizeof(uint16_t) + subjects->items[i].len;
    char *packed = arena_alloc(arena, *bytes + 2), *to = packed;
    for (uint32_t i = 0; packed != NULL && i < subjects->count; i++) {
        uint16_t len = (uint16_t)subjects->items[i].len;
        memcpy(to, &len, sizeof len);
        memcpy(to + sizeof len, subjects->items[i].data, len);
        to += sizeof len + len;
    }
    return packed;
}

static bool unpack_subjects(struct arena *arena, struct bytes packed, struct request_texts *out)
{
    *out = (struct request_texts){0};
    for (size_t at = 0; at < packed.len; out->count++) {
        uint16_t len;
        memcpy(&len, packed.data + at, sizeof len);
        at += sizeof len + len;
    }
    out->items = arena_alloc(arena, (out->count + 1) * sizeof *out->items);
    if (out->items == NULL) return false;
    for (size_t at = 0, i = 0; at < packed.len; i++) {
        uint16_t len;
        memcpy(&len, packed.data + at, sizeof len);
        out->items[i] = bytes_of(packed.data + at + sizeof len, len);
        at += sizeof len + len;
    }
    return true;
}

bool jet_mail_claim(struct shard *s, struct jet_request *q)
{
    const struct directory_ask *a = &q->r.ask;
    struct jet_mail mail = {.kind = JET_MAIL_CLAIM_ASK,
                            .log = (uint16_t)a->log,
                            .account = a->account,
                            .token = q->token,
                            .stream = a->stream,
                            .max_bytes = a->max_bytes,
                            .is_new = a->is_new,
                            .is_memory = a->is_memory};
    size_t bytes = 0;
    const char *packed = pack_subjects(&q->r.arena, &a->subjects, &bytes);
    struct bytes info = bytes_of(packed, bytes);
    if (packed == NULL || !send_texts(s, JET_DIRECTORY_SHARD, &mail, a->name, info)) return false;
    q->owed = 1;
    return true;
}

static enum directory_verdict claim(struct shard *s, const struct jet_mail *mail,
                                    const struct message *m)
{
    struct arena arena;
    struct directory_ask a = {.account = mail->account,
                              .log = mail->log,
                              .stream = mail->stream,
                              .name = m->subject,
                              .is_new = mail->is_new,
                              .is_memory = mail->is_memory,
                              .max_bytes = mail->max_bytes,
                              .now_ns = s->now.mono_ns};
    if (m->payload == NULL) return DIRECTORY_MEMORY;
    arena_init(&arena, s->mem, MEM_JETSTREAM);
    enum directory_verdict v = DIRECTORY_MEMORY;
    if (unpack_subjects(&arena, bytes_of(m->payload, m->total_bytes), &a.subjects))
        v = js_claim(s->jets[0]->js, &a);
    arena_deinit(&arena);
    return v;
}

static void on_claim_ask(struct shard *s, uint32_t sender, const struct jet_mail *mail,
                         const struct message *m)
{
    must(s->config.directory != NULL);
    struct jet_mail back = {.kind = JET_MAIL_CLAIM,
                            .log = mail->log,
                            .token = mail->token,
                            .word = (uint8_t)claim(s, mail, m)};
    relay_jet_owed(s, sender, &back, sizeof back);
}

bool jet_mail_notice(struct shard *s, const struct jet_request *q)
{
    struct jet_mail mail = {
        .kind = JET_MAIL_NOTICE, .word = (uint8_t)q->r.notice, .stream = q->r.stream_id};
    return relay_jet(s, JET_DIRECTORY_SHARD, &mail, sizeof mail);
}

static void on_notice(struct shard *s, const struct jet_mail *mail)
{
    must(s->config.directory != NULL);
    if (mail->word == JS_NOTICE_GONE)
        directory_drop(s->config.directory, mail->stream);
    else
        directory_settle(s->config.directory, mail->stream, mail->word == JS_NOTICE_DONE);
}

bool jet_mail_used(struct shard *s, uint32_t shard, uint32_t account, uint64_t memory,
                   uint64_t storage)
{
    struct jet_mail mail = {
        .kind = JET_MAIL_USED, .account = account, .token = memory, .stream = storage};
    return relay_jet(s, shard, &mail, sizeof mail);
}

/* --- what all shards have --------------------------------------------------------------------- */

static void add_usage(struct shard *s, uint32_t account, struct quota *sum)
{
    for (uint32_t i = 0; i < s->jet_count; i++) {
        const struct quota *q = js_quota_of(s->jets[i]->js, account);
        if (q != NULL) quota_add(sum, q);
    }
}

bool jet_mail_usage(struct shard *s, struct jet_request *q)
{
    struct jet_mail mail = {.kind = JET_MAIL_USAGE_ASK,
                            .log = (uint16_t)s->jet->log,
                            .account = q->r.account,
                            .token = q->token};
    add_usage(s, q->r.account, &q->usage);
    for (uint32_t i = 0; i < s->shard_count; i++) {
        if (i == s->index) continue;
        if (!relay_jet(s, i, &mail, sizeof mail)) return false;
        q->owed++;
    }
    return true;
}

static void on_usage_ask(struct shard *s, uint32_t sender, const struct jet_mail *mail)
{
    struct jet_mail_usage back = {.mail = *mail};
    back.mail.kind = JET_MAIL_USAGE;
    add_usage(s, mail->account, &back.sum);
    relay_jet_owed(s, sender, &back, sizeof back);
}

static bool ask_page_of(struct shard *s, struct jet_request *q, uint32_t shard)
{
    const struct js_page *page = &q->r.page;
    struct jet_mail mail = {.kind = JET_MAIL_PAGE_ASK,
                            .log = (uint16_t)s->jet->log,
                            .account = q->r.account,
                            .token = q->token};
    struct jet_mail_item items[JS_LIST_PAGE + 1]; /* room for CRLF */
    uint32_t count = 0;
    must(page->count <= JS_LIST_PAGE);
    for (uint32_t i = 0; i < page->count; i++)
        if (page->items[i].log % s->shard_count == shard)
            items[count++] = (struct jet_mail_item){page->items[i].stream, page->items[i].log, i};
    if (count == 0) return true;
    memset(&items[count], 0, sizeof items[count]);
    struct bytes list = bytes_of((const char *)items, count * sizeof *items);
    if (!send_texts(s, shard, &mail, bytes_of(NULL, 0), list)) return false;
    q->owed++;
    return true;
}

static bool keep_text(struct jet_request *q, struct js_page_item *item, struct bytes text)
{
    q->page_bytes += text.len;
    return q->page_bytes <= JS_REPLY_BYTES_MAX &&
           arena_text(&q->r.arena, text, &item->text) == ERR_OK;
}

/* Another log of this shard has it. */
static bool write_here(struct shard *s, struct jet_request *q, struct js_page_item *item)
{
    struct text text;
    const struct jet *j = jet_of_log(s, item->log);
    if (item->log % s->shard_count != s->index || j == NULL || j == s->jet) return true;
    text_init(&text, s->mem, MEM_JETSTREAM, JS_REPLY_BYTES_MAX);
    jsapi_write_item(j->js, s->now.wall_ns, item->stream, &text);
    bool is_good = !text.is_failed && keep_text(q, item, text_written(&text));
    text_deinit(&text);
    return is_good;
}

bool jet_mail_page(struct shard *s, struct jet_request *q)
{
    bool is_good = true;
    for (uint32_t i = 0; is_good && i < q->r.page.count; i++)
        is_good = write_here(s, q, &q->r.page.items[i]);
    for (uint32_t i = 0; is_good && i < s->shard_count; i++)
        if (i != s->index) is_good = ask_page_of(s, q, i);
    if (!is_good) q->r.page.is_failed = true;
    return is_good;
}

/* False: no memory. */
static bool send_part(struct shard *s, uint32_t sender, const struct jet_mail *mail,
                      const struct jet_mail_item *item)
{
    struct text text;
    const struct jet *j = jet_of_log(s, item->log);
    struct jet_mail part = *mail;
    part.kind = JET_MAIL_PAGE_PART;
    part.stream = item->number;
    must(j != NULL);
    text_init(&text, s->mem, MEM_JETSTREAM, JS_REPLY_BYTES_MAX);
    jsapi_write_item(j->js, s->now.wall_ns, item->stream, &text);
    size_t bytes = text.len;
    text_string(&text, "\r\n");
    bool is_good = !text.is_failed && (bytes == 0 || send_texts(s, sender, &part, bytes_of(NULL, 0),
                                                                bytes_of(text.data, bytes)));
    text_deinit(&text);
    return is_good;
}

static void on_page_ask(struct shard *s, uint32_t sender, const struct jet_mail *mail,
                        const struct message *m)
{
    struct jet_mail back = *mail;
    struct jet_mail_item item;
    bool is_good = m->payload != NULL;
    for (uint32_t at = 0; is_good && at < m->total_bytes; at += (uint32_t)sizeof item) {
        memcpy(&item, m->payload + at, sizeof item);
        is_good = send_part(s, sender, mail, &item);
    }
    back.kind = JET_MAIL_PAGE_END;
    back.word = is_good;
    relay_jet_owed(s, sender, &back, sizeof back);
}

/* --- audits ----------------------------------------------------------------------------------- */

bool jet_mail_audit(struct shard *s, const struct jet_audit *audit)
{
    struct jet_mail mail = {.kind = JET_MAIL_AUDIT, .account = audit->account};
    struct text text;
    text_init(&text, s->mem, MEM_JETSTREAM, 2 * JS_REPLY_BYTES_MAX);
    text_bytes(&text, audit->request);
    text_bytes(&text, audit->response);
    struct message m = {.account = session_account(s, audit->account),
                        .target = bytes_of_mail(&mail),
                        .subject = audit->subject,
                        .header_bytes = (uint32_t)audit->request.len,
                        .total_bytes = (uint32_t)text.len,
                        .origin = audit->origin,
                        .origin_shard = audit->origin_shard};
    text_string(&text, "\r\n");
    m.payload = text.data;
    bool is_sent = !text.is_failed && m.account != NULL &&
                   relay_has_room(s, audit->origin_shard, &m) &&
                   relay_jet_message(s, audit->origin_shard, &m);
    text_deinit(&text);
    return is_sent;
}

static void on_audit(struct shard *s, const struct jet_mail *mail, const struct message *m)
{
    struct jet *before = s->jet;
    struct jet_audit audit = {.account = mail->account,
                              .subject = m->subject,
                              .origin = m->origin,
                              .origin_shard = m->origin_shard};
    if (m->payload == NULL) {
        s->counts.dropped_msgs++;
        return;
    }
    audit.request = bytes_of(m->payload, m->header_bytes);
    audit.response = bytes_of(m->payload + m->header_bytes, m->total_bytes - m->header_bytes);
    s->jet = s->jets[0];
    jet_advisory_audit(s, &audit);
    s->jet = before;
}

/* --- answers ---------------------------------------------------------------------------------- */

static struct jet_request *find_asking(struct shard *s, const struct jet_mail *mail)
{
    const struct jet *j = jet_of_log(s, mail->log);
    if (j == NULL) return NULL;
    for (struct list *link = j->asking.next; link != &j->asking; link = link->next) {
        struct jet_request *q = LIST_OWNER(link, struct jet_request, link);
        if (q->token == mail->token) return q;
    }
    return NULL;
}

static void on_part(struct shard *s, const struct jet_mail *mail, const struct message *m)
{
    struct jet_request *q = find_asking(s, mail);
    if (q == NULL) return;
    must(q->wait == JS_WAIT_PAGE);
    must(mail->stream < q->r.page.count);
    if (m->payload == NULL ||
        !keep_text(q, &q->r.page.items[mail->stream], bytes_of(m->payload, m->total_bytes)))
        q->r.page.is_failed = true;
}

static void on_answer(struct shard *s, const struct jet_mail *mail, const char *body)
{
    struct jet_mail_usage usage;
    struct jet_request *q = find_asking(s, mail);
    if (q == NULL) return;
    if (mail->kind == JET_MAIL_CLAIM) q->verdict = mail->word;
    if (mail->kind == JET_MAIL_PAGE_END && !mail->word) q->r.page.is_failed = true;
    if (mail->kind == JET_MAIL_USAGE) {
        memcpy(&usage, body, sizeof usage);
        quota_add(&q->usage, &usage.sum);
    }
    must(q->owed > 0);
    if (--q->owed > 0) return;
    list_remove(&q->link);
    list_push(&jet_of_log(s, mail->log)->answered, &q->link);
}

void jet_mail(struct shard *s, uint32_t sender, const char *body)
{
    struct jet_mail mail;
    memcpy(&mail, body, sizeof mail);
    switch (mail.kind) {
    case JET_MAIL_NOTICE: on_notice(s, &mail); return;
    case JET_MAIL_USED: jet_share_told(s, sender, mail.account, mail.token, mail.stream); return;
    case JET_MAIL_USAGE_ASK: on_usage_ask(s, sender, &mail); return;
    default: on_answer(s, &mail, body); return;
    }
}

void jet_mail_message(struct shard *s, uint32_t sender, const struct message *m)
{
    struct jet_mail mail;
    struct message copy = *m;
    must(m->target.len == sizeof mail);
    memcpy(&mail, m->target.data, sizeof mail);
    copy.target = bytes_of(NULL, 0);
    switch (mail.kind) {
    case JET_MAIL_REQUEST: on_request(s, mail.log, &copy); return;
    case JET_MAIL_CLAIM_ASK: on_claim_ask(s, sender, &mail, &copy); return;
    case JET_MAIL_PAGE_ASK: on_page_ask(s, sender, &mail, &copy); return;
    case JET_MAIL_PAGE_PART: on_part(s, &mail, &copy); return;
    case JET_MAIL_AUDIT: on_audit(s, &mail, &copy); return;
    default: must(false);
    }
}
