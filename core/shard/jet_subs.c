/* Subscriptions of JetStream in the interest index: those of each stream, and $JS.API.> of each
 * account.
 *
 * What cannot enter the index now, for a busy writer or for memory, stays owed (`unsubscribed`,
 * `wants_accounts`) and is tried again in each step. */
#include "core/base/must.h"
#include "core/shard/jet.h"

/* ERR_BUSY, ERR_MEMORY: nothing changed. */
static enum err subscribe(struct shard *s, uint32_t account, struct bytes filter,
                          enum jet_sub_kind kind, struct jet_stream *stream, uint32_t *index)
{
    struct jet_sub what = {.kind = (uint8_t)kind, .stream = stream};
    struct shard_account *a = session_account(s, account);
    uint32_t fresh;
    if (a == NULL) return ERR_MEMORY;
    enum err e =
        sub_acquire(s->subs, &s->jet->inside, bytes_of((const char *)&what, sizeof what), &fresh);
    if (e != ERR_OK) return e;
    sub_at(s->subs, fresh)->flags |= CLIENT_SUB_FLAG_INTERNAL;
    e = interest_insert(s->interest, a->trie, s->index, filter, bytes_of(NULL, 0), fresh);
    if (e != ERR_OK) {
        sub_release(s->subs, fresh);
        return e;
    }
    *index = fresh;
    return ERR_OK;
}

static enum err add_sub(struct jet_stream *x, struct bytes filter, enum jet_sub_kind kind)
{
    struct shard *s = x->jet->shard;
    if (x->sub_count == x->sub_room) {
        uint32_t room = x->sub_room == 0 ? 4 : x->sub_room * 2;
        uint32_t *subs = mem_resize(s->mem, MEM_JETSTREAM, x->subs, x->sub_room * sizeof *subs,
                                    room * sizeof *subs);
        if (subs == NULL) return ERR_MEMORY;
        x->subs = subs;
        x->sub_room = room;
    }
    enum err e = subscribe(s, x->s->stream.account, filter, kind, x, &x->subs[x->sub_count]);
    if (e == ERR_OK) x->sub_count++;
    return e;
}

enum { FILTER_ROOM = 2 * INTEREST_FILTER_BYTES_MAX + 64 }; /* of interest_filter_of */
_Static_assert((int)JS_SUBJECT_BYTES_MAX == (int)INTEREST_FILTER_BYTES_MAX, "what it takes");

struct jet_sub jet_subs_what(const struct sub *sub)
{
    struct jet_sub what;
    memcpy(&what, sub_sid(sub).data, sizeof what);
    return what;
}

static uint64_t key_of(struct bytes filter, uint8_t kind)
{
    return hash_bytes(filter.data, filter.len, kind);
}

/* Its subscriptions by kind and filter: a stream may have thousands of subjects. */
static enum err index_subs(struct jet_stream *x, struct table *subs)
{
    char room[FILTER_ROOM];
    struct shard *s = x->jet->shard;
    struct bytes filter, queue;
    table_init(subs, s->mem, MEM_JETSTREAM);
    enum err e = table_reserve(subs, x->sub_count + 1);
    for (uint32_t i = 0; e == ERR_OK && i < x->sub_count; i++) {
        struct sub *sub = sub_at(s->subs, x->subs[i]);
        e = interest_filter_of(s->interest, sub, room, sizeof room, &filter, &queue);
        if (e == ERR_OK) e = table_insert(subs, key_of(filter, jet_subs_what(sub).kind), sub);
    }
    return e;
}

/* Takes it out: what is left at the end is wanted no more. */
static bool take_filter(struct jet_stream *x, struct table *subs, struct bytes filter, uint8_t kind)
{
    char room[FILTER_ROOM];
    struct shard *s = x->jet->shard;
    struct bytes own, queue;
    uint32_t at;
    uint64_t hash = key_of(filter, kind);
    for (struct sub *sub = table_first(subs, hash, &at); sub != NULL;
         sub = table_next(subs, hash, &at)) {
        if (jet_subs_what(sub).kind != kind ||
            interest_filter_of(s->interest, sub, room, sizeof room, &own, &queue) != ERR_OK ||
            !bytes_equal(own, filter))
            continue;
        must(table_remove(subs, hash, sub) == ERR_OK);
        return true;
    }
    return false;
}

static const struct {
    const char *before, *behind;
    enum jet_sub_kind kind;
} stream_subs[] = {
    {JET_DIRECT_GET, "", JET_SUB_DIRECT}, {JET_DIRECT_GET, ".>", JET_SUB_DIRECT},
    {JET_MSG_NEXT, ".*", JET_SUB_NEXT},   {"$JS.ACK.", ".>", JET_SUB_ACK},
    {"$JS.ACK.*.*.", ".>", JET_SUB_ACK},  {"$JS.FC.", ".>", JET_SUB_FLOW},
    {"$JS.FC.*.*.", ".>", JET_SUB_FLOW},
};

static bool is_wanted(const struct jet_stream *x, enum jet_sub_kind kind)
{
    if (kind == JET_SUB_DIRECT) return x->s->stream.config.allow_direct;
    return kind == JET_SUB_FLOW ? x->has_flow : x->has_consumers;
}

/* The subscriptions that it should have; old is left with those that it has beside them. */
static enum err add_missing(struct jet_stream *x, struct table *old)
{
    const struct stream_config *c = &x->s->stream.config;
    char room[FILTER_ROOM];
    enum err e = ERR_OK;
    for (size_t i = 0; e == ERR_OK && i < sizeof stream_subs / sizeof stream_subs[0]; i++) {
        struct writer w;
        writer_init(&w, room, sizeof room);
        writer_text(&w, stream_subs[i].before);
        writer_bytes(&w, c->name);
        writer_text(&w, stream_subs[i].behind);
        if (!is_wanted(x, stream_subs[i].kind)) continue;
        if (!take_filter(x, old, writer_written(&w), (uint8_t)stream_subs[i].kind))
            e = add_sub(x, writer_written(&w), stream_subs[i].kind);
    }
    for (uint32_t i = 0; e == ERR_OK && i < c->subjects.count; i++) {
        /* A store may hold such a stream from when they were taken. Nobody can publish on it, and
         * an error here would hold up all streams behind this one. */
        if (c->subjects.items[i].len > JS_SUBJECT_BYTES_MAX) continue;
        if (!take_filter(x, old, c->subjects.items[i], JET_SUB_PUBLISH))
            e = add_sub(x, c->subjects.items[i], JET_SUB_PUBLISH);
    }
    return e;
}

/* Those in old go; their maximum, which has no other use, marks them. */
static void drop_subs(struct jet_stream *x, const struct table *old)
{
    struct shard *s = x->jet->shard;
    uint32_t at = 0, kept = 0;
    struct sub *sub;
    while ((sub = table_each(old, &at)) != NULL) sub->max = 1;
    for (uint32_t i = 0; i < x->sub_count; i++)
        if (sub_at(s->subs, x->subs[i])->max == 0)
            x->subs[kept++] = x->subs[i];
        else
            session_forget_sub(s, x->s->stream.account, x->subs[i]);
    x->sub_count = kept;
}

void jet_subs_for_consumer(struct shard *s, struct jet_stream *x, const struct consumer *c)
{
    bool has_flow = x->has_flow || (c->push != NULL && c->push->has_flow);
    if (x->has_consumers && x->has_flow == has_flow) return;
    x->has_consumers = true;
    x->has_flow = has_flow;
    list_remove(&x->unsubscribed);
    list_push(&s->jet->unsubscribed, &x->unsubscribed);
}

/* New subscriptions come before old ones go, so that no publish of another shard falls between. */
static enum err update_subs(struct jet_stream *x)
{
    struct table old;
    enum err e = index_subs(x, &old);
    if (e == ERR_OK) e = add_missing(x, &old);
    if (e == ERR_OK) drop_subs(x, &old);
    table_deinit(&old);
    return e;
}

static enum err subscribe_accounts(struct shard *s)
{
    struct jet *j = s->jet;
    const struct account_set *set = s->options->accounts;
    for (uint32_t i = 0; i < set->account_count; i++) {
        uint32_t number = set->accounts[i]->number;
        if (number >= j->api_count) {
            uint32_t count = number + 8;
            uint32_t *subs = mem_resize(s->mem, MEM_JETSTREAM, j->api_subs,
                                        j->api_count * sizeof *subs, count * sizeof *subs);
            if (subs == NULL) return ERR_MEMORY;
            memset(subs + j->api_count, 0, (count - j->api_count) * sizeof *subs);
            j->api_subs = subs;
            j->api_count = count;
        }
        if (j->api_subs[number] != 0) continue;
        enum err e = subscribe(s, number, BYTES_LITERAL("$JS.API.>"), JET_SUB_API, NULL,
                               &j->api_subs[number]);
        if (e != ERR_OK) return e;
    }
    return ERR_OK;
}

void jet_subs_step(struct shard *s)
{
    struct jet *j = s->jet;
    if (j->wants_accounts && subscribe_accounts(s) == ERR_OK) j->wants_accounts = false;
    struct list *link = j->unsubscribed.next;
    while (link != &j->unsubscribed) {
        struct jet_stream *x = LIST_OWNER(link, struct jet_stream, unsubscribed);
        link = link->next;
        if (update_subs(x) != ERR_OK) return;
        list_remove(&x->unsubscribed);
    }
}

void jet_subs_look_again(struct jet *j)
{
    j->wants_accounts = j->log == 0;
}

bool jet_subs_is_due(const struct jet *j)
{
    return j->wants_accounts || !list_is_empty(&j->unsubscribed);
}

void jet_subs_forget(struct shard *s, struct jet_stream *x)
{
    for (uint32_t i = 0; i < x->sub_count; i++)
        session_forget_sub(s, x->s->stream.account, x->subs[i]);
    x->sub_count = 0;
    list_remove(&x->unsubscribed);
}

void jet_subs_free(struct shard *s, struct jet_stream *x)
{
    must(x->sub_count == 0);
    mem_free(s->mem, MEM_JETSTREAM, x->subs, x->sub_room * sizeof *x->subs);
}

void jet_subs_close(struct shard *s)
{
    struct jet *j = s->jet;
    for (uint32_t i = 0; i < j->api_count; i++)
        if (j->api_subs[i] != 0) session_forget_sub(s, i, j->api_subs[i]);
    mem_free(s->mem, MEM_JETSTREAM, j->api_subs, j->api_count * sizeof *j->api_subs);
}
