#include "tests/sim/ledger.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/must.h"

enum { PATTERN_SLACK = 1024, FAILURES_SHOWN = 20 };

static const char *const SUBJECTS[LEDGER_SUBJECTS] = {
    "a.1",   "a.2", "a.b.1",    "b.1",    "b.2",    "c.x.y",    "hot",   "d.1",
    "d.2.3", "e",   "secret.a", "deny.x", "void.1", "void.2.x", "hush.q"};
static const char *const FILTERS[LEDGER_FILTERS] = {
    "a.1", "a.2",   "a.*",      "a.>",      "*.1", ">",   "b.1",   "b.*", "a.b.1",  "*.b.*", "hot",
    "hot", "c.x.y", "secret.a", "secret.>", "d.>", "d.1", "d.*.3", "e",   "deny.x", "hush.*"};
static const char *const QUEUES[LEDGER_QUEUES] = {"q0", "workers", "q.two"};

const char *ledger_subject(uint32_t subject)
{
    return SUBJECTS[subject];
}

const char *ledger_filter(uint32_t filter)
{
    return FILTERS[filter];
}

const char *ledger_queue(uint32_t queue)
{
    return QUEUES[queue];
}

void ledger_init(struct ledger *l, uint64_t seed)
{
    memset(l, 0, sizeof *l);
    l->seed = seed;
    l->narrowed_ns = LEDGER_NEVER;
    l->pattern = malloc(LEDGER_PAYLOAD_MAX + PATTERN_SLACK);
    must(l->pattern != NULL);
    uint32_t x = 12345;
    for (uint32_t i = 0; i < LEDGER_PAYLOAD_MAX + PATTERN_SLACK; i++) {
        x = x * 1664525 + 1013904223;
        /* Line ends and verbs in payloads are no different from other bytes. */
        l->pattern[i] = (x >> 24) % 16 == 0 ? '\r' : (x >> 24) % 16 == 1 ? '\n' : (char)(x >> 24);
    }
}

void ledger_deinit(struct ledger *l)
{
    for (uint32_t i = 0; i < l->sub_count; i++) {
        free(l->subs[i]->ids);
        free(l->subs[i]);
    }
    free(l->subs);
    free(l->pubs);
    free(l->pattern);
}

struct ledger_pub *ledger_add_pub(struct ledger *l, uint32_t *id)
{
    if (l->pub_count == l->pub_capacity) {
        l->pub_capacity = l->pub_capacity == 0 ? 1024 : l->pub_capacity * 2;
        l->pubs = realloc(l->pubs, l->pub_capacity * sizeof *l->pubs);
        must(l->pubs != NULL);
    }
    *id = l->pub_count;
    struct ledger_pub *p = &l->pubs[l->pub_count++];
    *p = (struct ledger_pub){.acked_ns = LEDGER_NEVER};
    return p;
}

struct ledger_sub *ledger_add_sub(struct ledger *l, uint32_t *index)
{
    if (l->sub_count == l->sub_capacity) {
        l->sub_capacity = l->sub_capacity == 0 ? 128 : l->sub_capacity * 2;
        l->subs = realloc(l->subs, l->sub_capacity * sizeof *l->subs);
        must(l->subs != NULL);
    }
    struct ledger_sub *s = calloc(1, sizeof *s);
    must(s != NULL);
    s->queue = -1;
    s->acked_ns = s->unsub_sent_ns = s->unsub_acked_ns = s->max_acked_ns = LEDGER_NEVER;
    s->first_pub = l->pub_count;
    *index = l->sub_count;
    l->subs[l->sub_count++] = s;
    return s;
}

void ledger_fail(struct ledger *l, const char *rule, const char *format, ...)
{
    va_list arguments;
    if (l->errors++ >= FAILURES_SHOWN) return;
    fprintf(stderr, "seed %llu: %s: ", (unsigned long long)l->seed, rule);
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
}

uint32_t ledger_subject_text(const struct ledger_pub *p, char *room, size_t room_bytes)
{
    int n = p->subject == LEDGER_SUBJECT_INBOX
                ? snprintf(room, room_bytes, "_INBOX.%u.%u", p->inbox_peer, p->inbox_number)
                : snprintf(room, room_bytes, "%s", SUBJECTS[p->subject]);
    must(n > 0 && (size_t)n < room_bytes);
    return (uint32_t)n;
}

/* By tokens, as the specification words it. */
static bool matches(const char *filter, const char *subject)
{
    while (*filter != 0 && *subject != 0) {
        if (filter[0] == '>' && filter[1] == 0) return true;
        size_t f = strcspn(filter, "."), s = strcspn(subject, ".");
        bool is_star = f == 1 && filter[0] == '*';
        if (!is_star && (f != s || memcmp(filter, subject, f) != 0)) return false;
        filter += f;
        subject += s;
        if (*filter == 0 && *subject == 0) return true;
        if (*filter == 0 || *subject == 0) return false;
        filter++;
        subject++;
    }
    return false;
}

bool ledger_matches(const struct ledger_sub *s, const struct ledger_pub *p)
{
    if (s->filter == LEDGER_FILTER_INBOX)
        return p->subject == LEDGER_SUBJECT_INBOX && p->inbox_peer == s->peer;
    if (p->subject == LEDGER_SUBJECT_INBOX) return FILTERS[s->filter][0] == '>';
    return matches(FILTERS[s->filter], SUBJECTS[p->subject]);
}

bool ledger_may_publish(uint8_t user, uint8_t subject)
{
    return user != USER_RESTRICTED || subject == LEDGER_SUBJECT_INBOX ||
           strncmp(SUBJECTS[subject], "deny.", 5) != 0;
}

bool ledger_may_subscribe(uint8_t user, uint8_t filter)
{
    return user != USER_RESTRICTED || filter == LEDGER_FILTER_INBOX ||
           strncmp(FILTERS[filter], "secret.", 7) != 0;
}

bool ledger_may_receive(uint8_t user, uint8_t subject)
{
    return user != USER_RESTRICTED || subject == LEDGER_SUBJECT_INBOX ||
           (strncmp(SUBJECTS[subject], "secret.", 7) != 0 &&
            strcmp(SUBJECTS[subject], "hush.q") != 0);
}

bool ledger_is_narrowed(const struct ledger_peer *peer, uint8_t subject)
{
    return peer->user == USER_NARROWED && subject != LEDGER_SUBJECT_INBOX &&
           strncmp(SUBJECTS[subject], "b.", 2) == 0;
}

uint32_t ledger_body(const struct ledger *l, uint32_t id, char *room)
{
    const struct ledger_pub *p = &l->pubs[id];
    uint32_t at = 0;
    if (p->has_headers) {
        snprintf(room, LEDGER_HEADER_BYTES + 1, "NATS/1.0\r\nId: %08x\r\n\r\n", id);
        at = LEDGER_HEADER_BYTES;
    }
    char text[LEDGER_ID_BYTES + 1];
    snprintf(text, sizeof text, "%08x", id);
    memcpy(room + at, text, LEDGER_ID_BYTES);
    memcpy(room + at + LEDGER_ID_BYTES, l->pattern + id % PATTERN_SLACK,
           p->bytes - LEDGER_ID_BYTES);
    return at + p->bytes;
}

void ledger_delivered(struct ledger *l, uint32_t sub, uint32_t id)
{
    struct ledger_sub *s = l->subs[sub];
    struct ledger_pub *p = &l->pubs[id];
    if (s->got == s->id_capacity) {
        s->id_capacity = s->id_capacity == 0 ? 64 : s->id_capacity * 2;
        s->ids = realloc(s->ids, s->id_capacity * sizeof *s->ids);
        must(s->ids != NULL);
    }
    s->ids[s->got++] = id;
    p->got++;
    if (s->queue < 0) {
        if (s->last_by_peer[p->peer] > id)
            ledger_fail(l, "R1", "sub %u (peer %u sid %u) got %08x of peer %u after %08x", sub,
                        s->peer, s->sid, id, p->peer, s->last_by_peer[p->peer] - 1);
        s->last_by_peer[p->peer] = id + 1;
    } else if (p->got_group[s->queue] < UINT8_MAX) {
        p->got_group[s->queue]++;
    }
}
