#include "tests/sim/peer.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/must.h"

static const char *const USERS[USER_COUNT] = {"all",    "restricted", "narrowed",
                                              "victim", "bcrypt",     "other"};

void peer_init(struct peer *p, struct server *s, struct ledger *l, uint32_t index, uint8_t user)
{
    memset(p, 0, sizeof *p);
    p->server = s;
    p->ledger = l;
    p->index = index;
    p->record = &l->peers[index];
    *p->record = (struct ledger_peer){.user = user,
                                      .account = user == USER_OTHER,
                                      .closed_ns = LEDGER_NEVER,
                                      .gone_ns = LEDGER_NEVER};
    if (index >= l->peer_count) l->peer_count = index + 1;
    p->next_sid = 1;
    p->next_inbox = 1;
    p->is_echo = true;
}

void peer_deinit(struct peer *p)
{
    free(p->expects);
    free(p->notes);
    free(p->rx);
    free(p->tx);
    free(p->sub_of_sid);
    free(p->request_of_inbox);
}

static void *grow(void *old, uint32_t *capacity, uint32_t need, size_t item)
{
    uint32_t before = *capacity;
    if (need < before) return old;
    uint32_t count = before == 0 ? 64 : before;
    while (count <= need) count *= 2;
    char *grown = realloc(old, count * item);
    must(grown != NULL);
    memset(grown + before * item, 0, (count - before) * item);
    *capacity = count;
    return grown;
}

/* --- writing ------------------------------------------------------------------------------ */

static char *tx_room(struct peer *p, size_t bytes)
{
    if (p->tx_len + bytes > p->tx_capacity) {
        p->tx_capacity = (p->tx_len + bytes) * 2 + 1024;
        p->tx = realloc(p->tx, p->tx_capacity);
        must(p->tx != NULL);
    }
    return p->tx + p->tx_len;
}

void peer_raw(struct peer *p, const char *text, size_t bytes)
{
    memcpy(tx_room(p, bytes), text, bytes);
    p->tx_len += bytes;
}

static void say(struct peer *p, const char *text)
{
    peer_raw(p, text, strlen(text));
}

void peer_flush(struct peer *p)
{
    if (p->tx_len > 0 && p->link != NULL) net_write(p->link, p->tx, p->tx_len);
    p->tx_len = 0;
}

static void expect(struct peer *p, enum peer_expected kind, const char *text)
{
    p->expects = grow(p->expects, &p->expect_capacity, p->expect_end, sizeof(struct peer_expect));
    struct peer_expect *e = &p->expects[p->expect_end++];
    *e = (struct peer_expect){.kind = (uint8_t)kind, .acks = p->note_end};
    if (text != NULL) snprintf(e->text, sizeof e->text, "%s", text);
}

static void expect_ok(struct peer *p)
{
    if (p->is_verbose) expect(p, EXPECT_OK, NULL);
}

static void note(struct peer *p, enum peer_note_kind kind, uint32_t index)
{
    p->notes = grow(p->notes, &p->note_capacity, p->note_end, sizeof(struct peer_note));
    p->notes[p->note_end++] = (struct peer_note){(uint8_t)kind, index};
}

void peer_connect(struct peer *p)
{
    char room[512];
    snprintf(room, sizeof room,
             "CONNECT {\"verbose\":%s,\"pedantic\":%s,\"echo\":%s,\"headers\":%s,"
             "\"no_responders\":%s,\"user\":\"%s\",\"pass\":\"%s\",\"protocol\":1,"
             "\"lang\":\"sim\",\"version\":\"1\",\"name\":\"p%u\"}\r\n",
             p->is_verbose ? "true" : "false", p->is_pedantic ? "true" : "false",
             p->is_echo ? "true" : "false", p->is_headers ? "true" : "false",
             p->is_no_responders ? "true" : "false", USERS[p->record->user],
             p->is_bad_login ? "evil" : "good", p->index);
    p->record->is_echo = p->is_echo;
    p->record->is_headers = p->is_headers;
    p->record->is_no_responders = p->is_no_responders;
    say(p, room);
    if (p->is_bad_login)
        p->is_condemned = true;
    else
        expect_ok(p);
}

void peer_ping(struct peer *p)
{
    say(p, "PING\r\n");
    expect(p, EXPECT_PONG, NULL);
    p->pings_out++;
}

static uint32_t add_sid(struct peer *p, uint32_t sub)
{
    uint32_t sid = p->next_sid++;
    p->sub_of_sid = grow(p->sub_of_sid, &p->sid_capacity, sid, sizeof *p->sub_of_sid);
    p->sub_of_sid[sid] = sub + 1;
    return sid;
}

uint32_t peer_sub(struct peer *p, uint8_t filter, int8_t queue)
{
    uint32_t index;
    struct ledger_sub *s = ledger_add_sub(p->ledger, &index);
    s->peer = p->index;
    s->filter = filter;
    s->queue = queue;
    s->sid = add_sid(p, index);
    s->sent_ns = p->server->clock.now_ns;
    s->is_denied = !ledger_may_subscribe(p->record->user, filter);
    char room[128], text[64];
    if (filter == LEDGER_FILTER_INBOX)
        snprintf(text, sizeof text, "_INBOX.%u.*", p->index);
    else
        snprintf(text, sizeof text, "%s", ledger_filter(filter));
    if (queue >= 0)
        snprintf(room, sizeof room, "SUB %s %s %u\r\n", text, ledger_queue((uint32_t)queue),
                 s->sid);
    else
        snprintf(room, sizeof room, "SUB %s  %u\r\n", text, s->sid);
    say(p, room);
    if (s->is_denied)
        expect(p, EXPECT_ERROR, "'Permissions Violation for Subscription");
    else
        expect_ok(p);
    note(p, NOTE_SUB, index);
    return index;
}

void peer_unsub(struct peer *p, uint32_t sub, uint32_t max)
{
    struct ledger_sub *s = p->ledger->subs[sub];
    char room[64];
    must(s->peer == p->index);
    if (max > 0)
        snprintf(room, sizeof room, "UNSUB %u %u\r\n", s->sid, max);
    else
        snprintf(room, sizeof room, "UNSUB %u\r\n", s->sid);
    say(p, room);
    if (max > 0) {
        s->max = max;
        note(p, NOTE_MAX, sub);
    } else {
        if (s->unsub_sent_ns == LEDGER_NEVER) s->unsub_sent_ns = p->server->clock.now_ns;
        note(p, NOTE_UNSUB, sub);
    }
    expect_ok(p);
}

void peer_publish(struct peer *p, const struct peer_publish *what)
{
    uint32_t id;
    struct ledger_pub *m = ledger_add_pub(p->ledger, &id);
    m->peer = p->index;
    m->account = p->record->account;
    m->subject = what->subject;
    m->inbox_peer = what->inbox_peer;
    m->inbox_number = what->inbox_number;
    m->bytes = what->bytes < LEDGER_ID_BYTES ? LEDGER_ID_BYTES : what->bytes;
    m->has_headers = what->has_headers && p->is_headers;
    m->is_no_echo = !p->is_echo;
    m->is_denied = !ledger_may_publish(p->record->user, what->subject);
    m->sent_ns = p->server->clock.now_ns;
    char subject[64], reply[64] = "", line[256];
    ledger_subject_text(m, subject, sizeof subject);
    if (what->wants_reply) {
        m->reply_number = p->next_inbox++;
        m->wants_503 = p->is_no_responders && p->inbox_sid != 0 && !m->is_denied;
        snprintf(reply, sizeof reply, "_INBOX.%u.%u ", p->index, m->reply_number);
        p->request_of_inbox = grow(p->request_of_inbox, &p->inbox_capacity, m->reply_number,
                                   sizeof *p->request_of_inbox);
        p->request_of_inbox[m->reply_number] = id + 1;
    }
    uint32_t total = m->bytes + (m->has_headers ? LEDGER_HEADER_BYTES : 0);
    if (m->has_headers)
        snprintf(line, sizeof line, "HPUB %s %s%u %u\r\n", subject, reply, LEDGER_HEADER_BYTES,
                 total);
    else
        snprintf(line, sizeof line, "%s %s %s%u\r\n", id % 7 == 0 ? "pub" : "PUB", subject, reply,
                 total);
    say(p, line);
    must(ledger_body(p->ledger, id, tx_room(p, total + 64)) == total);
    p->tx_len += total;
    say(p, "\r\n");
    if (m->is_denied)
        expect(p, EXPECT_ERROR, "'Permissions Violation for Publish");
    else
        expect_ok(p);
    note(p, NOTE_PUB, id);
}

void peer_hoard(struct peer *p, uint32_t count)
{
    char room[64];
    for (uint32_t i = 0; i < count; i++) {
        snprintf(room, sizeof room, "SUB hoard.%u.%u %u\r\n", p->index, i, PEER_HOARD_SID + i);
        say(p, room);
        expect_ok(p);
    }
}

/* --- the end ------------------------------------------------------------------------------ */

static void end(struct peer *p)
{
    p->is_over = true;
    if (p->record->closed_ns == LEDGER_NEVER) p->record->closed_ns = p->server->clock.now_ns;
    server_note(p->server, 11, p->index);
}

void peer_leave(struct peer *p, bool by_reset)
{
    if (p->is_over || p->link == NULL) return;
    p->is_leaving = true;
    if (p->record->closed_ns == LEDGER_NEVER) p->record->closed_ns = p->server->clock.now_ns;
    if (by_reset) {
        net_reset(p->link);
        end(p);
    } else {
        net_half_close(p->link);
    }
}

/* --- reading ------------------------------------------------------------------------------ */

static void bad(struct peer *p, const char *what, const char *at, size_t bytes)
{
    char text[81];
    size_t n = bytes < 80 ? bytes : 80;
    for (size_t i = 0; i < n; i++) text[i] = at[i] >= 32 && at[i] < 127 ? at[i] : '.';
    text[n] = 0;
    ledger_fail(p->ledger, "protocol", "peer %u: %s: [%s]", p->index, what, text);
    p->is_over = true; /* nothing after it can be read */
    p->record->closed_ns = p->server->clock.now_ns;
}

static void acknowledge(struct peer *p, uint32_t up_to)
{
    uint64_t now = p->server->clock.now_ns;
    for (; p->note_first < up_to; p->note_first++) {
        uint32_t i = p->notes[p->note_first].index;
        switch (p->notes[p->note_first].kind) {
        case NOTE_PUB: p->ledger->pubs[i].acked_ns = now; break;
        case NOTE_SUB: p->ledger->subs[i]->acked_ns = now; break;
        case NOTE_MAX: p->ledger->subs[i]->max_acked_ns = now; break;
        case NOTE_UNSUB:
            if (p->ledger->subs[i]->unsub_acked_ns > now) p->ledger->subs[i]->unsub_acked_ns = now;
            break;
        }
    }
}

static bool take_expected(struct peer *p, enum peer_expected kind, const char *line, size_t len)
{
    if (p->expect_first == p->expect_end || p->expects[p->expect_first].kind != kind) {
        bad(p, "unexpected reply", line, len);
        return false;
    }
    return true;
}

/* After a reload: a subscription that is not allowed any more goes with an -ERR of its own. */
static bool take_narrowed(struct peer *p, const char *line, size_t len)
{
    const char *at = memmem(line, len, " (sid \"", 7);
    if (at == NULL || p->record->user != USER_NARROWED) return false;
    uint32_t sid = (uint32_t)strtoul(at + 7, NULL, 10);
    if (sid >= p->sid_capacity || p->sub_of_sid[sid] == 0) return false;
    struct ledger_sub *s = p->ledger->subs[p->sub_of_sid[sid] - 1];
    if (s->unsub_sent_ns > p->ledger->narrowed_ns) s->unsub_sent_ns = p->ledger->narrowed_ns;
    return true;
}

static void on_error(struct peer *p, const char *line, size_t len)
{
    snprintf(p->error, sizeof p->error, "%.*s", (int)(len < 79 ? len : 79), line);
    if (take_narrowed(p, line, len)) return;
    /* A SUB that was on its way when the reload came. */
    if (p->record->user == USER_NARROWED && p->ledger->narrowed_ns != LEDGER_NEVER &&
        strncmp(line + 5, "'Permissions Violation for Subscription", 39) == 0) {
        if (p->is_verbose) p->expect_first++;
        return;
    }
    if (p->expect_first < p->expect_end) {
        const struct peer_expect *e = &p->expects[p->expect_first];
        if (e->kind == EXPECT_ERROR && strncmp(line + 5, e->text, strlen(e->text)) == 0) {
            p->expect_first++;
            return;
        }
    }
    /* Words before a close. */
    if (strncmp(line + 5, "'Authorization Violation'", 25) == 0 ||
        strncmp(line + 5, "'Stale Connection'", 18) == 0 ||
        strncmp(line + 5, "'Authentication Timeout'", 24) == 0 ||
        (p->server->failed_allocs > 0 &&
         strncmp(line + 5, "'maximum account active connections exceeded'", 45) == 0))
        return;
    bad(p, "unexpected -ERR", line, len);
}

/* "NATS/1.0 503" for the request that asked with this reply. */
static void on_503(struct peer *p, uint32_t number, const char *body, uint32_t bytes)
{
    if (number >= p->inbox_capacity || p->request_of_inbox[number] == 0) {
        bad(p, "503 for no request", body, bytes);
        return;
    }
    uint32_t id = p->request_of_inbox[number] - 1;
    struct ledger_pub *m = &p->ledger->pubs[id];
    char subject[64], want[160];
    ledger_subject_text(m, subject, sizeof subject);
    int n = snprintf(want, sizeof want, "NATS/1.0 503\r\nNats-Subject: %s\r\n\r\n", subject);
    if ((uint32_t)n != bytes || memcmp(want, body, bytes) != 0) bad(p, "503", body, bytes);
    m->got_503++;
}

static uint32_t inbox_number(const struct peer *p, const char *subject, size_t len)
{
    char want[64];
    int n = snprintf(want, sizeof want, "_INBOX.%u.", p->index);
    if (len <= (size_t)n || memcmp(subject, want, (size_t)n) != 0) return 0;
    return (uint32_t)strtoul(subject + n, NULL, 10);
}

struct words {
    const char *at[8];
    size_t len[8];
    uint32_t count;
};

static void split_words(const char *line, size_t len, struct words *w)
{
    size_t i = 0;
    w->count = 0;
    while (i < len && w->count < 8) {
        size_t from = i;
        while (i < len && line[i] != ' ') i++;
        w->at[w->count] = line + from;
        w->len[w->count++] = i - from;
        i++;
    }
}

static uint32_t number(const struct words *w, uint32_t i)
{
    uint32_t n = 0;
    for (size_t k = 0; k < w->len[i]; k++) n = n * 10 + (uint32_t)(w->at[i][k] - '0');
    return n;
}

static uint32_t sub_of(struct peer *p, uint32_t sid)
{
    return sid < p->sid_capacity ? p->sub_of_sid[sid] : 0;
}

static void check_message(struct peer *p, const struct words *w, bool is_hmsg, const char *body,
                          uint32_t head, uint32_t total)
{
    uint32_t sub = sub_of(p, number(w, 2));
    if (sub == 0) {
        bad(p, "message for an unknown sid", w->at[0], 60);
        return;
    }
    struct ledger_sub *s = p->ledger->subs[sub - 1];
    if (is_hmsg && total == head && strncmp(body, "NATS/1.0 503", 12) == 0) {
        on_503(p, inbox_number(p, w->at[1], w->len[1]), body, total);
        return;
    }
    char text[9] = "", want[64];
    if (total - head < LEDGER_ID_BYTES) {
        bad(p, "short payload", w->at[0], 60);
        return;
    }
    memcpy(text, body + head, 8);
    uint32_t id = (uint32_t)strtoul(text, NULL, 16);
    if (id >= p->ledger->pub_count) {
        bad(p, "payload of nobody", body + head, 40);
        return;
    }
    struct ledger_pub *m = &p->ledger->pubs[id];
    uint32_t n = ledger_subject_text(m, want, sizeof want);
    if (n != w->len[1] || memcmp(want, w->at[1], n) != 0) bad(p, "subject", w->at[0], 60);
    /* Without headers on one side there are none. */
    bool has_headers = m->has_headers && p->is_headers;
    if (has_headers != is_hmsg || total != m->bytes + (is_hmsg ? LEDGER_HEADER_BYTES : 0) ||
        (is_hmsg && head != LEDGER_HEADER_BYTES)) {
        bad(p, "sizes", w->at[0], 60);
        return;
    }
    static char expected[LEDGER_PAYLOAD_MAX + 256];
    ledger_body(p->ledger, id, expected);
    uint32_t skip = m->has_headers && !has_headers ? LEDGER_HEADER_BYTES : 0;
    if (memcmp(expected + skip, body, total) != 0) bad(p, "payload", w->at[0], 60);
    bool has_reply = w->count == (is_hmsg ? 6u : 5u);
    int r = m->reply_number == 0
                ? 0
                : snprintf(want, sizeof want, "_INBOX.%u.%u", m->peer, m->reply_number);
    if (has_reply != (r > 0) ||
        (has_reply && ((size_t)r != w->len[3] || memcmp(want, w->at[3], (size_t)r) != 0)))
        bad(p, "reply", w->at[0], 60);
    if (s->max > 0 && s->max_acked_ns != LEDGER_NEVER && s->got >= s->max)
        ledger_fail(p->ledger, "R2", "peer %u sid %u: %08x after its maximum of %u", p->index,
                    s->sid, id, s->max);
    if (s->unsub_acked_ns != LEDGER_NEVER)
        ledger_fail(p->ledger, "R2", "peer %u sid %u: %08x after UNSUB", p->index, s->sid, id);
    if (s->is_denied) ledger_fail(p->ledger, "R2", "peer %u: denied sub served", p->index);
    ledger_delivered(p->ledger, sub - 1, id);
    server_note(p->server, id, s->sid);
    if (has_reply && p->answers && p->to_answer_count < 16) {
        p->to_answer[p->to_answer_count][0] = m->peer;
        p->to_answer[p->to_answer_count++][1] = m->reply_number;
    }
}

/* MSG and HMSG; false: not complete yet. */
static bool on_message(struct peer *p, const char *line, size_t len, size_t left, size_t *used)
{
    struct words w;
    split_words(line, len, &w);
    bool is_hmsg = line[0] == 'H';
    uint32_t least = is_hmsg ? 5 : 4;
    if (w.count < least || w.count > least + 1) {
        bad(p, "message line", line, len);
        return true;
    }
    uint32_t total = number(&w, w.count - 1);
    uint32_t head = is_hmsg ? number(&w, w.count - 2) : 0;
    if (total > LEDGER_PAYLOAD_MAX + 64 || head > total) {
        bad(p, "message sizes", line, len);
        return true;
    }
    if (left < len + 2 + total + 2) return false;
    const char *body = line + len + 2;
    if (body[total] != '\r' || body[total + 1] != '\n') {
        bad(p, "no line end behind the payload", line, len);
        return true;
    }
    *used = len + 2 + total + 2;
    check_message(p, &w, is_hmsg, body, head, total);
    return true;
}

static void on_line(struct peer *p, const char *line, size_t len)
{
    if (len >= 5 && memcmp(line, "INFO ", 5) == 0) {
        if (memmem(line, len, "\"ldm\":true", 10) != NULL) p->is_ldm_told = true;
        p->is_ready = true;
    } else if (len == 4 && memcmp(line, "PING", 4) == 0) {
        if (!p->is_leaving) net_write(p->link, "PONG\r\n", 6);
    } else if (len == 4 && memcmp(line, "PONG", 4) == 0) {
        if (!take_expected(p, EXPECT_PONG, line, len)) return;
        p->pings_out--;
        acknowledge(p, p->expects[p->expect_first++].acks);
    } else if (len == 3 && memcmp(line, "+OK", 3) == 0) {
        if (take_expected(p, EXPECT_OK, line, len)) p->expect_first++;
    } else if (len > 5 && memcmp(line, "-ERR ", 5) == 0) {
        on_error(p, line, len);
    } else {
        bad(p, "unknown line", line, len);
    }
}

static void parse(struct peer *p)
{
    while (p->rx_at < p->rx_len && !p->is_over) {
        const char *line = p->rx + p->rx_at;
        size_t left = p->rx_len - p->rx_at;
        const char *newline = memchr(line, '\n', left);
        if (newline == NULL) break;
        size_t len = (size_t)(newline - line);
        if (len == 0 || line[len - 1] != '\r') {
            bad(p, "line without CR", line, len);
            return;
        }
        len--;
        size_t used = len + 2;
        if (memcmp(line, "MSG ", 4) == 0 || memcmp(line, "HMSG ", 5) == 0) {
            if (!on_message(p, line, len, left, &used)) break;
        } else {
            on_line(p, line, len);
        }
        p->rx_at += used;
    }
    if (p->rx_at == p->rx_len) p->rx_at = p->rx_len = 0;
}

static void read_alarm(void *context, uint64_t unused);

static void read_some(struct peer *p)
{
    if (p->is_over) return;
    bool is_slow = p->read_bytes > 0 && p->server->clock.now_ns < p->read_until_ns;
    size_t want = is_slow ? p->read_bytes : 1 << 20;
    for (;;) {
        if (p->rx_at > 0 && p->rx_capacity - p->rx_len < want) {
            memmove(p->rx, p->rx + p->rx_at, p->rx_len - p->rx_at);
            p->rx_len -= p->rx_at;
            p->rx_at = 0;
        }
        if (p->rx_capacity - p->rx_len < want) {
            p->rx_capacity = p->rx_len + want;
            p->rx = realloc(p->rx, p->rx_capacity);
            must(p->rx != NULL);
        }
        size_t n = net_read(p->link, p->rx + p->rx_len, want);
        if (n == 0) break;
        server_note_bytes(p->server, p->rx + p->rx_len, n < 64 ? n : 64);
        server_note(p->server, n, p->index);
        p->rx_len += n;
        parse(p);
        if (is_slow || p->is_over) break;
    }
    if (p->is_over) return;
    if (net_is_ended(p->link)) {
        p->record->gone_ns = p->link->closed_ns;
        end(p);
        return;
    }
    if (is_slow && !p->has_read_alarm) {
        p->has_read_alarm = true;
        clock_set(&p->server->clock, p->read_every_ns, read_alarm, p, 0);
    }
}

static void read_alarm(void *context, uint64_t unused)
{
    struct peer *p = context;
    (void)unused;
    p->has_read_alarm = false;
    read_some(p);
}

static void on_readable(void *context)
{
    struct peer *p = context;
    if (p->has_read_alarm) return;
    read_some(p);
}

void peer_read_slowly(struct peer *p, uint32_t bytes, uint64_t every_ns, uint64_t for_ns)
{
    p->read_bytes = bytes;
    p->read_every_ns = every_ns;
    p->read_until_ns = p->server->clock.now_ns + for_ns;
}

bool peer_start(struct peer *p, uint64_t latency_ns, size_t window_bytes)
{
    p->link = server_connect(p->server, latency_ns, window_bytes);
    if (p->link == NULL) return false;
    p->link->on_readable = on_readable;
    p->link->context = p;
    return true;
}
