#include <criterion/criterion.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "core/base/json.h"
#include "core/config/flags.h"
#include "core/js/checkpoint.h"
#include "core/shard/jet.h"
#include "tests/support/conf_world.h"

/* Two shards without io, and no memory for what dry says: what shard 0 owes to shard 1 finds
 * its ring full and must arrive all the same. */
enum {
    SHARDS = 2,
    SLOTS = 128,
    WAITERS = 100, /* connections of shard 1 that ask shard 0 for a permit */
    REQUESTS = 20,
    LOANS = 5,
    LOAN_BYTES = 20000, /* above what mail carries itself */
    NARROW = 512,       /* ring from 0 to 1 */
    WIDE = 1 << 17,
    LISTENER = 0, /* on shard 0 */
    ASKER = 0,    /* on shard 1 */
};

static const char conf[] =
    "jetstream: {}\n"
    "accounts: { A: { jetstream: enabled, limits: {max_connections: 102}, users: [\n"
    "  {user: deaf, password: p, permissions: {subscribe: {deny: \"q.x\"}}},\n"
    "  {user: guest, password: p} ] } }\n"
    "no_auth_user: guest\n";

/* What is appended is durable at the next step, unless it is held. */
struct log {
    struct memstore store; /* first */
    struct js js;
    uint64_t told;
    bool is_held;
    bool is_dry;   /* reads find no memory */
    bool is_stuck; /* or no file */
    struct store_ops ops;
    const struct store_ops *own_ops;
};

struct rig {
    struct mem mem; /* of both, on malloc */
    struct directory directory;
    struct log *logs; /* [SHARDS]; NULL: no JetStream */
    struct shard_log ports[SHARDS];
    _Atomic int64_t live;
    bool is_racing;       /* the next start of shard 1, with one that makes an account */
    _Atomic bool is_slow; /* memory for the index; it becomes false as somebody waits for it */
    size_t bytes_max;     /* a larger block is not to be had; 0: any is */
    uint32_t dry;         /* classes of memory that have none, by bit */
    struct account_numbers *numbers;
    struct options *options;
    struct interest *interest;
    struct server_facts facts;
    struct shard *shards[SHARDS];
    struct outbox outboxes[SHARDS];
    struct lane lanes[SHARDS]; /* [sender] towards the other */
    struct lane *lane_lists[SHARDS][SHARDS];
    struct shard_time now;
    char got[1 << 23]; /* what shard 1 sent to ASKER */
    size_t got_len;
    bool holds_sends; /* of shard 0: they stay in flight */
    uint64_t in_flight;
    uint32_t stuck_slot; /* what is sent to this one of shard 1 stays in flight; 0: none */
    uint64_t stuck_bytes;
};

static void *take(struct mem *m, enum mem_class class, size_t bytes)
{
    struct rig *r = m->context;
    if ((r->dry >> class & 1) != 0) return NULL;
    if (r->bytes_max != 0 && bytes > r->bytes_max) return NULL;
    if (class == MEM_INTEREST && atomic_exchange(&r->is_slow, false)) usleep(50000);
    r->live++;
    return malloc(bytes);
}

static void give(struct mem *m, enum mem_class class, void *p, size_t bytes)
{
    struct rig *r = m->context;
    (void)class, (void)bytes;
    r->live--;
    free(p);
}

static void no_refresh(struct lane *l)
{
    (void)l;
}

static void run(struct rig *r, uint32_t shard, struct event *e)
{
    r->outboxes[shard].count = 0;
    r->outboxes[shard].text.len = 0;
    r->now.mono_ns += 1000000;
    cr_assert_eq(shard_step(r->shards[shard], e, e != NULL, r->now, &r->outboxes[shard]),
                 e != NULL);
    struct client *c;
    while ((c = shard_next_dirty(r->shards[shard])) != NULL) {
        struct bytes runs[64];
        struct event sent = {.kind = EVENT_SENT, .conn = c->id};
        uint32_t n = output_gather(&c->output, runs, 64, 1 << 20, &sent.sent.bytes);
        for (uint32_t i = 0; shard == 1 && conn_id_slot(c->id) == ASKER && i < n; i++) {
            cr_assert(r->got_len + runs[i].len < sizeof r->got);
            memcpy(r->got + r->got_len, runs[i].data, runs[i].len);
            r->got_len += runs[i].len;
        }
        r->in_flight = sent.sent.bytes;
        if (shard == 1 && r->stuck_slot != 0 && conn_id_slot(c->id) == r->stuck_slot) {
            r->stuck_bytes = sent.sent.bytes;
            continue;
        }
        if (shard == 0 && r->holds_sends) return;
        run(r, shard, &sent);
    }
}

static struct conn_id id_of(uint32_t slot, uint32_t generation)
{
    return conn_id_of(slot, generation);
}

static void open_client(struct rig *r, uint32_t shard, uint32_t slot, uint32_t generation)
{
    struct event e = {.kind = EVENT_OPENED, .conn = id_of(slot, generation)};
    e.opened.ip = BYTES_LITERAL("::1");
    e.opened.cid = 5 + slot;
    run(r, shard, &e);
}

static void say(struct rig *r, uint32_t shard, uint32_t slot, const char *text, size_t len)
{
    struct event e = {.kind = EVENT_BYTES, .conn = id_of(slot, 1)};
    e.bytes.data = text;
    e.bytes.len = len;
    run(r, shard, &e);
    cr_assert_eq(e.bytes.used, len);
}

/* Its first verb makes it log in: it waits for the permit and is asked again later. */
static void open_waiter(struct rig *r, uint32_t slot, uint32_t generation)
{
    struct event e = {.kind = EVENT_BYTES, .conn = id_of(slot, generation)};
    open_client(r, 1, slot, generation);
    e.bytes.data = "PING\r\n";
    e.bytes.len = 6;
    run(r, 1, &e);
}

static void close_client(struct rig *r, uint32_t shard, uint32_t slot, uint32_t generation)
{
    struct event ended = {.kind = EVENT_ENDED, .conn = id_of(slot, generation)};
    struct event gone = {.kind = EVENT_GONE, .conn = id_of(slot, generation)};
    run(r, shard, &ended);
    run(r, shard, &gone);
}

/* The other shard reads what this one mailed. */
static void deliver(struct rig *r, uint32_t sender)
{
    struct lane *l = &r->lanes[sender];
    struct event e = {.kind = EVENT_MAIL};
    e.mail.sender = sender;
    e.mail.ring = l->ring;
    e.mail.ring_bytes = l->ring_bytes;
    e.mail.at = l->head;
    e.mail.end = l->tail;
    run(r, 1 - sender, &e);
    l->head = e.mail.at;
}

static bool has_mail(const struct rig *r)
{
    return r->lanes[0].head != r->lanes[0].tail || r->lanes[1].head != r->lanes[1].tail;
}

static void settle(struct rig *r)
{
    for (int round = 0; round < 200; round++) {
        deliver(r, 1);
        deliver(r, 0);
    }
    cr_assert(!has_mail(r));
}

static uint32_t open_count(const struct rig *r)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < SLOTS; i++) {
        const struct client *c = r->shards[1]->clients[i];
        count += c != NULL && c->state == CLIENT_OPEN;
    }
    return count;
}

static bool next_event(struct store *store, struct store_event *out)
{
    struct log *l = (struct log *)(void *)store;
    if (l->is_held || l->told == l->store.ticket) return false;
    l->told = l->store.ticket;
    *out = (struct store_event){.kind = STORE_STORED, .ticket = l->told};
    return true;
}

static enum err read_log(struct store *store, struct store_read *q, struct record *out)
{
    struct log *l = (struct log *)(void *)store;
    if (l->is_dry || l->is_stuck) return l->is_dry ? ERR_MEMORY : ERR_IO;
    return l->own_ops->read(store, q, out);
}

static struct shard_log open_log(struct rig *r, uint32_t i)
{
    struct log *l = &r->logs[i];
    memstore_init(&l->store, &r->mem, 1 << 24);
    l->own_ops = l->store.store.ops;
    l->ops = *l->own_ops;
    l->ops.read = read_log;
    l->store.store.ops = &l->ops;
    js_init(&l->js, &r->mem, &l->store.store, 5, 1 << 20);
    l->js.log = i;
    l->js.id_next = i + 1;
    l->js.id_step = SHARDS;
    l->js.directory = i == 0 ? &r->directory : NULL;
    return (struct shard_log){
        .number = i, .js = &l->js, .store = {.store = &l->store.store, .next = next_event}};
}

static void close_logs(struct rig *r)
{
    for (uint32_t i = 0; r->logs != NULL && i < SHARDS; i++) {
        js_deinit(&r->logs[i].js);
        memstore_deinit(&r->logs[i].store);
    }
    if (r->logs != NULL) directory_deinit(&r->directory);
    free(r->logs);
}

static void *make_account(void *interest)
{
    struct interest_account *trie;
    cr_assert_eq(interest_account_of(interest, 1000, &trie), ERR_OK);
    return NULL;
}

/* Another thread is making an account, and goes on with that for a while. */
static pthread_t start_race(struct rig *r)
{
    pthread_t thread;
    r->is_slow = true;
    cr_assert_eq(pthread_create(&thread, NULL, make_account, r->interest), 0);
    while (r->is_slow) usleep(100);
    return thread;
}

static void open_shards(struct rig *r)
{
    cr_assert_eq(interest_open(&r->mem, SHARDS, 1, &r->interest), ERR_OK);
    for (uint32_t i = 0; i < SHARDS; i++) {
        struct shard_config config = {.index = i,
                                      .shard_count = SHARDS,
                                      .mem = &r->mem,
                                      .interest = r->interest,
                                      .options = r->options,
                                      .server = &r->facts,
                                      .seed = 7,
                                      .slots_max = SLOTS,
                                      .now = r->now};
        if (r->logs != NULL) {
            config.logs = &r->ports[i];
            config.log_count = 1;
            config.log_total = SHARDS;
            config.directory = i == 0 ? &r->directory : NULL;
        }
        uint32_t bytes = i == 0 && r->logs == NULL ? NARROW : WIDE;
        r->lanes[i] = (struct lane){
            .ring = aligned_alloc(64, bytes), .ring_bytes = bytes, .refresh = no_refresh};
        r->lane_lists[i][1 - i] = &r->lanes[i];
        struct outbox *o = &r->outboxes[i];
        o->effects = malloc(OUTBOX_EFFECTS_MAX * sizeof *o->effects);
        writer_init(&o->text, malloc(OUTBOX_TEXT_BYTES), OUTBOX_TEXT_BYTES);
        o->lanes = r->lane_lists[i];
        o->lane_count = SHARDS;
        bool is_racing = i == 1 && r->is_racing;
        pthread_t thread;
        if (is_racing) thread = start_race(r);
        cr_assert_eq(shard_open(&config, &r->shards[i]), ERR_OK);
        if (is_racing) pthread_join(thread, NULL);
        r->shards[i]->outbox = o;
        interest_online(r->interest, i);
    }
}

static void open_rig(struct rig *r)
{
    struct world world = {.files = {{"server.conf", conf}}};
    struct flags flags;
    struct options_report report;
    char *argv[] = {"millrace", "-c", "server.conf"};
    struct options_input in = {.source = world_init(&world), .flags = &flags, .seed = 1};
    r->mem = (struct mem){.alloc = take, .release = give, .context = r};
    json_init(1);
    options_report_init(&report, &r->mem);
    cr_assert_eq(account_numbers_open(&r->mem, &r->numbers), ERR_OK);
    in.numbers = r->numbers;
    cr_assert_eq(flags_parse(&flags, &r->mem, 3, argv), ERR_OK);
    cr_assert_eq(options_load(&r->mem, &in, &r->options, &report), ERR_OK);
    flags_deinit(&flags);
    options_report_deinit(&report);
    r->now = (struct shard_time){1000000000, 1700000000000000000};
    r->facts = (struct server_facts){.id = BYTES_LITERAL("NABC"), .name = BYTES_LITERAL("n")};
    if (r->logs != NULL) directory_init(&r->directory, &r->mem, 5);
    for (uint32_t i = 0; r->logs != NULL && i < SHARDS; i++) r->ports[i] = open_log(r, i);
    open_shards(r);
}

static void close_shards(struct rig *r)
{
    for (uint32_t i = 0; i < SHARDS; i++) {
        interest_offline(r->interest, i);
        shard_close(r->shards[i]);
        free(r->outboxes[i].effects);
        free(r->outboxes[i].text.data);
        free(r->lanes[i].ring);
    }
    interest_close(r->interest);
}

static void close_rig(struct rig *r)
{
    close_shards(r);
    close_logs(r);
    options_free(r->options);
    account_numbers_close(r->numbers);
    cr_assert_eq(r->live, 0, "%ld blocks left", (long)r->live);
    free(r);
}

static void ask(struct rig *r)
{
    for (int i = 0; i < REQUESTS; i++) {
        static const char request[] = "PUB q.x in 1\r\nx\r\n";
        say(r, 1, ASKER, request, sizeof request - 1);
    }
}

static void lend(struct rig *r)
{
    char *message = malloc(LOAN_BYTES + 64);
    int len = snprintf(message, 64, "PUB big %d\r\n", LOAN_BYTES);
    memset(message + len, 'x', LOAN_BYTES);
    memcpy(message + len + LOAN_BYTES, "\r\n", 2);
    for (int i = 0; i < LOANS; i++) say(r, 1, ASKER, message, (size_t)len + LOAN_BYTES + 2);
    free(message);
}

static uint32_t count_of(const struct rig *r, const char *text)
{
    uint32_t count = 0;
    size_t len = strlen(text);
    for (size_t i = 0; i + len <= r->got_len; i++) count += memcmp(r->got + i, text, len) == 0;
    return count;
}

Test(relay, what_is_owed_arrives_though_ring_and_memory_are_at_their_end)
{
    struct rig *r = calloc(1, sizeof *r);
    open_rig(r);
    open_client(r, 0, LISTENER, 1);
    open_client(r, 1, ASKER, 1);
    settle(r);
    static const char listen[] =
        "CONNECT {\"verbose\":false,\"user\":\"deaf\",\"pass\":\"p\"}\r\nSUB q.* 1\r\nSUB big "
        "2\r\n";
    say(r, 0, LISTENER, listen, sizeof listen - 1);
    static const char begin[] =
        "CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true,"
        "\"user\":\"guest\",\"pass\":\"p\"}\r\n";
    say(r, 1, ASKER, begin, sizeof begin - 1);
    settle(r);
    static const char inbox[] = "SUB in 1\r\n";
    say(r, 1, ASKER, inbox, sizeof inbox - 1);
    ask(r); /* the table of open requests is made while there is memory */
    settle(r);
    cr_assert_eq(count_of(r, "NATS/1.0 503"), REQUESTS);

    /* Shard 0 refers to lent blocks, then cannot say anything any more. */
    r->holds_sends = true;
    lend(r);
    deliver(r, 1);
    for (uint32_t i = 1; i <= WAITERS; i++) open_waiter(r, i, 1);
    ask(r);
    r->dry = 1u << MEM_MAIL;
    for (int i = 0; i < 3; i++) deliver(r, 1);
    cr_assert(r->lanes[1].head != r->lanes[1].tail, "nothing waits");
    r->holds_sends = false;
    struct event sent = {.kind = EVENT_SENT, .conn = id_of(LISTENER, 1)};
    sent.sent.bytes = r->in_flight;
    run(r, 0, &sent);
    r->dry = 0;
    settle(r);
    cr_assert_eq(open_count(r), WAITERS + 1, "%u of them got their permit", open_count(r));
    cr_assert_eq(count_of(r, "NATS/1.0 503"), 2 * REQUESTS);

    /* Permits go home as well: there is room for as many connections as before. */
    r->dry = 1u << MEM_MAIL;
    r->lanes[1].ring_bytes = NARROW;
    r->lanes[1].head = r->lanes[1].tail = r->lanes[1].tail / NARROW * NARROW;
    for (uint32_t i = 1; i <= WAITERS; i++) close_client(r, 1, i, 1);
    r->dry = 0;
    run(r, 1, NULL);
    settle(r);
    for (uint32_t i = 1; i <= WAITERS; i++) {
        open_waiter(r, i, 2);
        settle(r);
    }
    cr_assert_eq(open_count(r), WAITERS + 1, "%u of them came back", open_count(r));
    for (uint32_t i = 1; i <= WAITERS; i++) close_client(r, 1, i, 2);
    close_client(r, 0, LISTENER, 1);
    close_client(r, 1, ASKER, 1);
    settle(r);
    close_rig(r);
}

/* A listener on one shard, an asker on the other, of the same account. has_echo: the asker gets
 * what it publishes. */
static struct rig *open_guests(bool has_echo)
{
    static const char listener[] =
        "CONNECT {\"verbose\":false,\"user\":\"guest\",\"pass\":\"p\"}\r\n";
    char asker[96];
    int len =
        snprintf(asker, sizeof asker,
                 "CONNECT {\"verbose\":false,\"echo\":%s,\"user\":\"guest\",\"pass\":\"p\"}\r\n",
                 has_echo ? "true" : "false");
    struct rig *r = calloc(1, sizeof *r);
    open_rig(r);
    open_client(r, 0, LISTENER, 1);
    say(r, 0, LISTENER, listener, sizeof listener - 1);
    open_client(r, 1, ASKER, 1);
    say(r, 1, ASKER, asker, (size_t)len);
    settle(r);
    return r;
}

static void close_guests(struct rig *r)
{
    close_client(r, 0, LISTENER, 1);
    close_client(r, 1, ASKER, 1);
    settle(r);
    close_rig(r);
}

/* R3: also those beyond the ones that are picked for, and whatever room their names take. */
Test(relay, each_of_very_many_groups_gets_a_message)
{
    enum { GROUPS = 200, NAME = 3000, LONG_GROUPS = 40 };
    static char line[NAME + 64];
    struct rig *r = open_guests(true);
    for (int i = 0; i < GROUPS; i++) {
        int len = snprintf(line, sizeof line, "SUB many g%d %d\r\n", i, i + 1);
        say(r, 0, LISTENER, line, (size_t)len);
        if (i % 2 == 0) say(r, 1, ASKER, line, (size_t)len);
    }
    say(r, 1, ASKER, "PUB many 1\r\nx\r\n", 15);
    settle(r);
    cr_assert_eq(r->shards[0]->clients[LISTENER]->out.msgs + r->shards[1]->clients[ASKER]->out.msgs,
                 GROUPS);
    uint64_t before = r->shards[0]->clients[LISTENER]->out.msgs;
    for (int i = 0; i < LONG_GROUPS; i++) {
        int len = snprintf(line, sizeof line, "SUB wide %0*d %d\r\n", NAME, i, 1000 + i);
        say(r, 0, LISTENER, line, (size_t)len);
    }
    say(r, 1, ASKER, "PUB wide 1\r\nx\r\n", 15);
    settle(r);
    cr_assert_eq(r->shards[1]->counts.parks[PARK_MAIL], 0, "it waits for room that never comes");
    cr_assert_eq(r->shards[0]->clients[LISTENER]->out.msgs - before, LONG_GROUPS);
    close_guests(r);
}

/* R3: a group beyond those that are picked for goes on, too, where its members here may not have
 * the message. */
Test(relay, each_of_very_many_groups_goes_on_where_no_member_here_is_able)
{
    enum { GROUPS = 200 };
    char line[64];
    struct rig *r = open_guests(false);
    for (int i = 0; i < GROUPS; i++) {
        int len = snprintf(line, sizeof line, "SUB many g%d %d\r\n", i, i + 1);
        say(r, 0, LISTENER, line, (size_t)len);
        say(r, 1, ASKER, line, (size_t)len);
    }
    say(r, 1, ASKER, "PUB many 1\r\nx\r\n", 15);
    settle(r);
    cr_assert_eq(r->shards[0]->clients[LISTENER]->out.msgs, GROUPS, "%lu",
                 (unsigned long)r->shards[0]->clients[LISTENER]->out.msgs);
    close_guests(r);
}

/* What receivers leave when they are closed in the midst of a fan-out goes home behind it: the room
 * in the ring is that of the message. */
Test(relay, receivers_that_are_closed_by_a_message_leave_it_its_room)
{
    enum { PUBLISHER = 1, RECEIVERS = 20, PENDING_MAX = 30000 };
    static const char deaf[] = "CONNECT {\"verbose\":false,\"user\":\"deaf\",\"pass\":\"p\"}\r\n"
                               "SUB q.* 1\r\nSUB big 2\r\n";
    static const char guest[] = "CONNECT {\"verbose\":false,\"user\":\"guest\",\"pass\":\"p\"}\r\n";
    static const char publish[] = "PUB q.y 5\r\nhello\r\n";
    struct rig *r = calloc(1, sizeof *r);
    open_rig(r);
    open_client(r, 0, LISTENER, 1);
    say(r, 0, LISTENER, deaf, sizeof deaf - 1);
    for (uint32_t slot = ASKER; slot <= RECEIVERS; slot++) {
        open_client(r, 1, slot, 1);
        say(r, 1, slot, guest, sizeof guest - 1);
        settle(r);
        say(r, 1, slot, "SUB q.y 1\r\n", 11);
    }
    cr_assert_eq(open_count(r), RECEIVERS + 1);
    int64_t pending_max = r->options->max_pending;

    /* Blocks of shard 1, more than the ring to it has room to tell of. */
    r->holds_sends = true;
    for (int i = 0; i < 4; i++) lend(r);
    deliver(r, 1);
    r->holds_sends = false;
    open_client(r, 0, PUBLISHER, 1);
    say(r, 0, PUBLISHER, guest, sizeof guest - 1);
    settle(r);
    r->options->max_pending = PENDING_MAX;
    r->got_len = 0;
    say(r, 0, PUBLISHER, publish, sizeof publish - 1);
    cr_assert_eq(r->shards[0]->counts.slow_consumers.clients, 1);
    settle(r);
    cr_assert_eq(count_of(r, "hello"), 1);

    /* Permits of connections. */
    say(r, 0, PUBLISHER, "SUB q.* 1\r\n", 11);
    r->lanes[1].ring_bytes = NARROW;
    r->lanes[1].head = r->lanes[1].tail = r->lanes[1].tail / NARROW * NARROW;
    r->options->max_pending = 1;
    uint64_t before = r->shards[0]->counts.mail.received;
    say(r, 1, ASKER, publish, sizeof publish - 1);
    cr_assert_eq(r->shards[1]->counts.slow_consumers.clients, RECEIVERS + 1);
    r->options->max_pending = pending_max;
    settle(r);
    cr_assert_eq(r->shards[0]->counts.mail.received - before, RECEIVERS + 2);
    cr_assert_eq(r->shards[0]->clients[PUBLISHER]->out.msgs, 1);
    for (uint32_t slot = ASKER; slot <= RECEIVERS; slot++) close_client(r, 1, slot, 1);
    close_client(r, 0, PUBLISHER, 1);
    close_client(r, 0, LISTENER, 1);
    settle(r);
    close_rig(r);
}

static void subscribe(struct rig *r, uint32_t shard, uint32_t slot, const char *subject, int group,
                      int sid)
{
    char line[64];
    int len = snprintf(line, sizeof line, "SUB %s g%d %d\r\n", subject, group, sid);
    say(r, shard, slot, line, (size_t)len);
    run(r, shard, NULL);
}

/* R9: the answers of the groups before it must not be taken for the answer of the one able one. */
Test(relay, a_request_waits_for_each_of_many_forwards)
{
    enum { GROUPS = 60, ABLE = 30, CROWD = 300, DEAF = 1, WORKER = 2 };
    struct rig *r = calloc(1, sizeof *r);
    open_rig(r);
    static const char deaf[] = "CONNECT {\"verbose\":false,\"user\":\"deaf\",\"pass\":\"p\"}\r\n";
    static const char guest[] =
        "CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true,"
        "\"user\":\"guest\",\"pass\":\"p\"}\r\n";
    open_client(r, 0, LISTENER, 1);
    say(r, 0, LISTENER, deaf, sizeof deaf - 1);
    for (uint32_t slot = ASKER; slot <= WORKER; slot++) {
        open_client(r, 1, slot, 1);
        const char *login = slot == DEAF ? deaf : guest;
        say(r, 1, slot, login, strlen(login));
        settle(r);
    }
    static const char inbox[] = "SUB in 1\r\n";
    say(r, 1, ASKER, inbox, sizeof inbox - 1);
    /* Each group has its crowd on shard 0, where nobody may take the request, and one member on
     * shard 1: only that of one in the middle may, whichever end is forwarded first. */
    for (int g = 0; g < GROUPS; g++) {
        for (int i = 0; i < CROWD; i++) subscribe(r, 0, LISTENER, "q.*", g, g * CROWD + i);
        bool is_able = g == ABLE;
        subscribe(r, 1, is_able ? WORKER : DEAF, is_able ? "q.x" : "q.*", g, g + 2);
    }
    uint64_t before = r->shards[0]->counts.queue_forwards;
    static const char request[] = "PUB q.x in 1\r\nx\r\n";
    say(r, 1, ASKER, request, sizeof request - 1);
    settle(r);
    uint64_t forwards = r->shards[0]->counts.queue_forwards - before;
    cr_assert_eq(forwards, GROUPS, "only %lu forwards", (unsigned long)forwards);
    cr_assert_eq(r->shards[1]->clients[WORKER]->out.msgs, 1);
    cr_assert_eq(count_of(r, "NATS/1.0 503"), 0, "a 503 came though somebody got the request");

    /* And without that one it comes, once. */
    close_client(r, 1, WORKER, 1);
    settle(r);
    say(r, 1, ASKER, request, sizeof request - 1);
    settle(r);
    cr_assert_eq(count_of(r, "NATS/1.0 503"), 1);
    close_client(r, 0, LISTENER, 1);
    close_client(r, 1, ASKER, 1);
    close_client(r, 1, DEAF, 1);
    settle(r);
    close_rig(r);
}

/* A stream of shard 1, or what else the API is to do with it. */
static void ask_api(struct rig *r, const char *verb, const char *name, const char *more,
                    const char *reply)
{
    char line[256], body[128];
    int len =
        snprintf(body, sizeof body, "{\"name\":\"%s\",\"subjects\":[\"%s\"]%s}", name, name, more);
    len = snprintf(line, sizeof line, "PUB $JS.API.STREAM.%s.%s %s %d\r\n%s\r\n", verb, name, reply,
                   len, body);
    say(r, 1, ASKER, line, (size_t)len);
}

/* names: of streams that live on shard 1. */
static struct rig *open_jet_rig(char names[][8], uint32_t count)
{
    static const char begin[] =
        "CONNECT {\"verbose\":false,\"headers\":true,\"user\":\"guest\",\"pass\":\"p\"}\r\n";
    static const char inbox[] = "SUB in 1\r\n";
    struct rig *r = calloc(1, sizeof *r);
    r->logs = calloc(SHARDS, sizeof *r->logs);
    open_rig(r);
    open_client(r, 1, ASKER, 1);
    settle(r);
    say(r, 1, ASKER, begin, sizeof begin - 1);
    settle(r);
    say(r, 1, ASKER, inbox, sizeof inbox - 1);
    for (uint32_t found = 0, i = 0; found < count; i++) {
        snprintf(names[found], sizeof names[found], "S%u", i);
        found += js_place(BYTES_LITERAL("A"), bytes_from_text(names[found]), SHARDS) == 1;
    }
    return r;
}

static void close_jet_rig(struct rig *r)
{
    close_client(r, 1, ASKER, 1);
    settle(r);
    close_rig(r);
}

Test(relay, the_directory_is_told_of_many_streams_when_its_ring_has_room_again, .timeout = 60)
{
    enum { COUNT = 5 };
    char names[COUNT][8];
    struct rig *r = open_jet_rig(names, COUNT);
    r->logs[1].is_held = true;
    for (int i = 0; i < COUNT; i++) ask_api(r, "CREATE", names[i], "", "in");
    settle(r);
    cr_assert_eq(r->logs[1].store.ticket, COUNT);
    struct lane *l = &r->lanes[1];
    l->ring_bytes = NARROW;
    l->tail = l->tail / NARROW * NARROW + NARROW;
    l->head = l->tail - NARROW; /* all of it is unread */
    r->logs[1].is_held = false;
    for (int i = 0; i < 3; i++) run(r, 1, NULL);
    cr_assert_eq(count_of(r, "did_create"), 0, "a client knows more than the directory");
    l->head = l->tail;
    for (int i = 0; i < 3; i++) run(r, 1, NULL);
    cr_assert_eq(count_of(r, "did_create"), 0, "what was sent is not read yet");
    cr_assert_neq(shard_awaits(r->shards[1], 0), 0);
    settle(r);
    run(r, 1, NULL);
    cr_assert_eq(count_of(r, "did_create"), COUNT);
    cr_assert_eq(shard_awaits(r->shards[1], 0), 0);
    for (int i = 0; i < COUNT; i++) {
        const struct directory_entry *e =
            directory_find(&r->directory, r->shards[1]->clients[ASKER]->account->number,
                           bytes_from_text(names[i]));
        cr_assert_not_null(e);
        cr_assert(!e->is_new && !e->is_claimed);
    }
    close_jet_rig(r);
}

Test(relay, requests_behind_a_claim_go_on_in_their_order)
{
    enum { COUNT = 60 };
    char names[1][8], more[32];
    struct rig *r = open_jet_rig(names, 1);
    const struct jet *j = r->shards[1]->jets[0];
    uint32_t behind_most = 0;
    ask_api(r, "CREATE", names[0], "", "in");
    settle(r);
    cr_assert_eq(count_of(r, "did_create"), 1);
    for (int i = 1; i <= COUNT; i++) {
        snprintf(more, sizeof more, ",\"max_msgs\":%d", i);
        ask_api(r, "UPDATE", names[0], more, i == COUNT ? "in" : "");
    }
    for (int round = 0; round < 20 * COUNT && count_of(r, "max_msgs\":60") == 0; round++) {
        uint32_t behind = 0;
        deliver(r, 1);
        deliver(r, 0);
        /* However many wait, one is looked up. */
        for (const struct list *link = j->behind.next; link != &j->behind; link = link->next)
            behind++;
        if (behind > behind_most) behind_most = behind;
        cr_assert_leq(j->firsts.count, 1);
    }
    cr_assert_eq(behind_most, COUNT - 1);
    settle(r);
    cr_assert_eq(count_of(r, "max_msgs\":60"), 1);
    const struct js_stream *s = js_find_id(&r->logs[1].js, 2);
    cr_assert_eq(s->stream.config.max_msgs, COUNT);
    cr_assert_eq(j->firsts.count, 0);
    close_jet_rig(r);
}

/* Sends a request on the API, or a publish, and lets everything happen that it leads to. */
static void request(struct rig *r, const char *subject, const char *body)
{
    char line[256];
    int len = snprintf(line, sizeof line, "PUB %s in %zu\r\n%s\r\n", subject, strlen(body), body);
    r->got_len = 0;
    say(r, 1, ASKER, line, (size_t)len);
    settle(r);
}

/* A stream of shard 1 for direct gets, and its name. */
static struct rig *open_direct_rig(char subject[48])
{
    char names[1][8];
    struct rig *r = open_jet_rig(names, 1);
    ask_api(r, "CREATE", names[0], ",\"allow_direct\":true", "in");
    settle(r);
    cr_assert_eq(count_of(r, "did_create"), 1);
    request(r, names[0], "hello");
    cr_assert_eq(count_of(r, "\"seq\":1"), 1);
    snprintf(subject, 48, "$JS.API.DIRECT.GET.%s", names[0]);
    return r;
}

/* J4: whoever asks while there is no memory is told so, by either shard. */
Test(relay, a_request_without_memory_is_refused)
{
    char direct[48], info[96];
    struct rig *r = open_direct_rig(direct);
    const char *name = direct + sizeof "$JS.API.DIRECT.GET." - 1;
    snprintf(info, sizeof info, "$JS.API.STREAM.INFO.%s", name);
    request(r, info, "");
    cr_assert_eq(count_of(r, "\"messages\":1"), 1);
    r->dry = 1u << MEM_JETSTREAM;
    request(r, info, "");
    cr_assert_eq(count_of(r, "\"err_code\":10023"), 1, "%.*s", (int)r->got_len, r->got);
    request(r, "$JS.API.INFO", ""); /* of shard 0 */
    cr_assert_eq(count_of(r, "\"err_code\":10023"), 1, "%.*s", (int)r->got_len, r->got);
    request(r, direct, "{\"seq\":1}");
    cr_assert_eq(count_of(r, "NATS/1.0 503 Insufficient Resources"), 1);
    request(r, name, "x");
    cr_assert_eq(count_of(r, "\"error\":"), 1, "%.*s", (int)r->got_len, r->got);
    r->dry = 0;
    request(r, direct, "{\"seq\":1}");
    cr_assert_eq(count_of(r, "hello"), 1);
    close_jet_rig(r);
}

/* Nor does the stream's shard have any for the account, of which it has heard nothing yet. */
Test(relay, who_asks_a_shard_without_memory_for_the_account_is_closed)
{
    static const char begin[] =
        "CONNECT {\"verbose\":false,\"user\":\"guest\",\"pass\":\"p\"}\r\nSUB in0 1\r\n";
    char names[1][8], line[64];
    struct rig *r = open_jet_rig(names, 1);
    close_client(r, 1, ASKER, 1);
    settle(r);
    close_shards(r);
    open_shards(r);
    open_client(r, 0, LISTENER, 1);
    say(r, 0, LISTENER, begin, sizeof begin - 1);
    int len = snprintf(line, sizeof line, "PUB $JS.API.STREAM.INFO.%s in0 0\r\n\r\n", names[0]);
    r->dry = 1u << MEM_CONNECTION;
    say(r, 0, LISTENER, line, (size_t)len);
    deliver(r, 0);
    deliver(r, 1);
    r->dry = 0;
    cr_assert_eq(r->shards[0]->clients[LISTENER]->state, CLIENT_CLOSING);
    close_client(r, 0, LISTENER, 1);
    settle(r);
    close_rig(r);
}

/* J4: the answers are there, but find neither room in the ring nor memory to wait for it. */
static void ask_without_way_out(const char *verb, const char *body)
{
    enum { COUNT = 40 };
    static const char begin[] =
        "CONNECT {\"verbose\":false,\"user\":\"guest\",\"pass\":\"p\"}\r\nSUB in0 1\r\n";
    char names[1][8], line[96];
    struct rig *r = open_jet_rig(names, 1);
    ask_api(r, "CREATE", names[0], ",\"allow_direct\":true", "in");
    settle(r);
    static char message[1000];
    memset(message, 'x', sizeof message - 1);
    char publish[1100];
    int head = snprintf(publish, sizeof publish, "PUB %s 999\r\n%s\r\n", names[0], message);
    say(r, 1, ASKER, publish, (size_t)head);
    settle(r);
    open_client(r, 0, LISTENER, 1);
    say(r, 0, LISTENER, begin, sizeof begin - 1);
    struct lane *l = &r->lanes[1];
    l->ring_bytes = NARROW;
    l->tail = l->tail / NARROW * NARROW + NARROW;
    l->head = l->tail - NARROW; /* all of it is unread */
    int len = snprintf(line, sizeof line, "PUB $JS.API.%s.%s in0 %zu\r\n%s\r\n", verb, names[0],
                       strlen(body), body);
    for (int i = 0; i < COUNT; i++) say(r, 0, LISTENER, line, (size_t)len);
    r->bytes_max = 32768;
    deliver(r, 0);
    run(r, 1, NULL);
    r->bytes_max = 0;
    l->head = l->tail;
    l->ring_bytes = WIDE;
    settle(r);
    const struct client *c = r->shards[0]->clients[LISTENER];
    cr_assert(c->state == CLIENT_CLOSING || c->out.msgs == COUNT, "%lu answers",
              (unsigned long)c->out.msgs);
    close_client(r, 0, LISTENER, 1);
    close_jet_rig(r);
}

Test(relay, an_answer_that_cannot_leave_or_wait_closes_who_asked)
{
    ask_without_way_out("STREAM.INFO", "");
    ask_without_way_out("DIRECT.GET", "{\"seq\":1}");
}

Test(relay, a_message_that_no_memory_is_found_to_read_is_waited_for)
{
    char direct[48];
    struct rig *r = open_direct_rig(direct);
    r->logs[1].is_dry = true;
    request(r, direct, "{\"seq\":1}");
    cr_assert_eq(r->got_len, 0);
    r->logs[1].is_dry = false;
    run(r, 1, NULL);
    cr_assert_eq(count_of(r, "hello"), 1);

    /* But not for ever. */
    r->logs[1].is_dry = true;
    request(r, direct, "{\"seq\":1}");
    cr_assert_eq(r->got_len, 0);
    r->now.mono_ns += 3000000000;
    run(r, 1, NULL);
    cr_assert_eq(count_of(r, "NATS/1.0 503 Insufficient Resources"), 1);
    r->logs[1].is_dry = false;
    close_jet_rig(r);
}

Test(relay, a_message_whose_file_finds_no_descriptor_is_not_told_to_be_gone)
{
    char direct[48], get[64];
    struct rig *r = open_direct_rig(direct);
    snprintf(get, sizeof get, "$JS.API.STREAM.MSG.GET.%s",
             direct + sizeof "$JS.API.DIRECT.GET." - 1);
    r->logs[1].is_stuck = true;
    request(r, get, "{\"seq\":1}");
    cr_assert_eq(count_of(r, "insufficient resources"), 1, "%.*s", (int)r->got_len, r->got);
    r->logs[1].is_stuck = false;
    close_jet_rig(r);
}

Test(relay, a_message_that_moves_before_it_is_read_is_found_where_it_lies)
{
    char direct[48];
    struct rig *r = open_direct_rig(direct);
    struct js *js = &r->logs[1].js;
    struct js_stream *s = js_find_id(js, 2);
    struct msgs_entry entry;
    struct store_stub stub;
    struct record record;
    r->logs[1].is_stuck = true;
    request(r, direct, "{\"seq\":1}");
    cr_assert_eq(r->got_len, 0);
    r->logs[1].is_stuck = false;
    cr_assert_eq(msgs_get(&s->stream.msgs, 1, &entry), ERR_OK);
    struct store_read q = {.place = entry.place, .stream = s->stream.id, .seq = 1};
    cr_assert_eq(store_read(&r->logs[1].store.store, &q, &record), ERR_OK);
    cr_assert_eq(store_append(&r->logs[1].store.store, &record, &stub), ERR_OK);
    cr_assert_eq(checkpoint_moved(js, s->stream.id, 1, entry.place, stub.place), ERR_OK);
    memstore_release(&r->logs[1].store, entry.place);
    run(r, 1, NULL);
    cr_assert_eq(count_of(r, "hello"), 1, "%.*s", (int)r->got_len, r->got);
    close_jet_rig(r);
}

Test(relay, a_newer_message_stands_for_one_that_goes_before_it_is_read)
{
    char direct[48], key[96];
    struct rig *r = open_direct_rig(direct);
    const char *name = direct + sizeof "$JS.API.DIRECT.GET." - 1;
    r->logs[1].is_dry = true;
    snprintf(key, sizeof key, "%s.%s", direct, name);
    request(r, key, "");
    cr_assert_eq(r->got_len, 0);
    request(r, name, "again");
    snprintf(key, sizeof key, "$JS.API.STREAM.MSG.DELETE.%s", name);
    request(r, key, "{\"seq\":1,\"no_erase\":true}");
    cr_assert_eq(count_of(r, "\"success\":true"), 1, "%.*s", (int)r->got_len, r->got);
    r->logs[1].is_dry = false;
    for (int i = 0; i < 3; i++) run(r, 1, NULL);
    cr_assert_eq(count_of(r, "again"), 1, "%.*s", (int)r->got_len, r->got);
    close_jet_rig(r);
}

Test(relay, headers_that_found_no_memory_say_the_same_later)
{
    char direct[48];
    struct rig *r = open_direct_rig(direct);
    request(r, direct + sizeof "$JS.API.DIRECT.GET." - 1, "again");
    r->logs[1].is_dry = true;
    request(r, direct, "{\"seq\":1,\"batch\":2}");
    r->logs[1].is_dry = false;
    r->dry = 1u << MEM_JETSTREAM;
    for (int i = 0; i < 3; i++) run(r, 1, NULL);
    cr_assert_eq(r->got_len, 0);
    r->dry = 0;
    for (int i = 0; i < 3; i++) run(r, 1, NULL);
    cr_assert_eq(count_of(r, "Nats-Num-Pending: 1\r\nNats-Last-Sequence: 0\r\n\r\nhello"), 1,
                 "%.*s", (int)r->got_len, r->got);
    cr_assert_eq(count_of(r, "Nats-Num-Pending: 0\r\nNats-Last-Sequence: 1\r\n\r\nagain"), 1);
    close_jet_rig(r);
}

/* J4: the stream is deleted before its message is read. */
Test(relay, a_direct_get_of_a_stream_that_goes_is_answered)
{
    char direct[48], line[96];
    struct rig *r = open_direct_rig(direct);
    r->logs[1].is_dry = true;
    request(r, direct, "{\"seq\":1}");
    cr_assert_eq(r->got_len, 0);
    snprintf(line, sizeof line, "$JS.API.STREAM.DELETE.%s",
             direct + sizeof "$JS.API.DIRECT.GET." - 1);
    request(r, line, "");
    cr_assert_eq(count_of(r, "\"success\":true"), 1, "%.*s", (int)r->got_len, r->got);
    cr_assert_eq(count_of(r, "NATS/1.0 404 Message Not Found"), 1);
    r->logs[1].is_dry = false;
    close_jet_rig(r);
}

/* What was begun for many answers goes on when those before have left. */
Test(relay, answers_that_find_no_room_are_bounded)
{
    enum { COUNT = 40, BYTES = 100000 };
    char direct[48];
    struct rig *r = open_direct_rig(direct);
    const struct jet *j = r->shards[1]->jets[0];
    char line[128];
    static const char listen[] =
        "CONNECT {\"verbose\":false,\"headers\":true,\"user\":\"guest\",\"pass\":\"p\"}\r\n"
        "SUB in0 1\r\n";
    open_client(r, 0, LISTENER, 1);
    say(r, 0, LISTENER, listen, sizeof listen - 1);
    char *publish = malloc(BYTES + 64);
    int head =
        snprintf(publish, 64, "PUB %s %d\r\n", direct + sizeof "$JS.API.DIRECT.GET." - 1, BYTES);
    memset(publish + head, 'x', BYTES);
    memcpy(publish + head + BYTES, "\r\n", 2);
    for (int i = 0; i < COUNT; i++) say(r, 1, ASKER, publish, (size_t)head + BYTES + 2);
    free(publish);
    settle(r);
    r->logs[1].is_dry = true;
    int len = snprintf(line, sizeof line, "PUB %s in0 21\r\n{\"seq\":2,\"batch\":100}\r\n", direct);
    say(r, 1, ASKER, line, (size_t)len);
    settle(r);
    struct lane *l = &r->lanes[1];
    l->ring_bytes = NARROW;
    l->tail = l->tail / NARROW * NARROW + NARROW;
    l->head = l->tail - NARROW; /* all of it is unread */
    r->logs[1].is_dry = false;
    for (int i = 0; i < 3; i++) run(r, 1, NULL);
    cr_assert_gt(j->out.bytes, JET_OUT_BYTES_MAX);
    cr_assert_lt(j->out.bytes, JET_OUT_BYTES_MAX + 2 * BYTES);
    cr_assert_gt(shard_deadline_ns(r->shards[1]), r->now.mono_ns, "it does not spin meanwhile");
    l->head = l->tail;
    settle(r);
    cr_assert_eq(r->shards[0]->clients[LISTENER]->out.msgs, COUNT + 1); /* and the end */
    close_client(r, 0, LISTENER, 1);
    close_jet_rig(r);
}

/* R5b, as deliveries do. */
Test(relay, a_batch_pauses_for_a_slow_reader)
{
    enum { COUNT = 3000, BYTES = 1000, READER = 1, PENDING_MAX = 1000000 };
    static const char begin[] = "CONNECT {\"verbose\":false,\"headers\":true,\"user\":\"guest\","
                                "\"pass\":\"p\"}\r\n";
    char direct[48], line[128];
    struct rig *r = open_direct_rig(direct);
    char *publish = malloc(BYTES + 64);
    int head =
        snprintf(publish, 64, "PUB %s %d\r\n", direct + sizeof "$JS.API.DIRECT.GET." - 1, BYTES);
    memset(publish + head, 'x', BYTES);
    memcpy(publish + head + BYTES, "\r\n", 2);
    for (int i = 0; i < COUNT; i++) say(r, 1, ASKER, publish, (size_t)head + BYTES + 2);
    free(publish);
    settle(r);
    open_client(r, 1, READER, 1);
    say(r, 1, READER, begin, sizeof begin - 1);
    settle(r);
    say(r, 1, READER, "SUB slow 1\r\n", 12);
    r->shards[1]->stall_bytes = PENDING_MAX / 4 * 3;
    r->options->max_pending = PENDING_MAX;
    r->stuck_slot = READER;
    int len =
        snprintf(line, sizeof line,
                 "PUB %s slow 43\r\n{\"seq\":2,\"batch\":9999,\"max_bytes\":90000000}\r\n", direct);
    say(r, 1, ASKER, line, (size_t)len);
    settle(r);
    const struct client *c = r->shards[1]->clients[READER];
    cr_assert_eq(c->state, CLIENT_OPEN, "it was closed");
    cr_assert_gt(c->out.msgs, PENDING_MAX / BYTES / 2);
    cr_assert_lt(c->out.msgs, PENDING_MAX / BYTES);
    cr_assert_gt(shard_deadline_ns(r->shards[1]), r->now.mono_ns, "it does not spin meanwhile");
    r->stuck_slot = 0;
    struct event sent = {.kind = EVENT_SENT, .conn = id_of(READER, 1)};
    sent.sent.bytes = r->stuck_bytes;
    run(r, 1, &sent);
    settle(r);
    settle(r);
    cr_assert_eq(c->out.msgs, COUNT + 1);
    close_client(r, 1, READER, 1);
    close_jet_rig(r);
}

/* A stream is made without memory for its subscriptions; settle once more when that has changed. */
static struct rig *open_unheard_rig(void)
{
    char names[1][8];
    struct rig *r = open_jet_rig(names, 1);
    r->dry = 1u << MEM_INTEREST;
    ask_api(r, "CREATE", names[0], "", "in");
    settle(r);
    cr_assert(!list_is_empty(&r->shards[1]->jets[0]->unsubscribed), "there was memory");
    cr_assert_eq(count_of(r, "did_create"), 0);
    return r;
}

/* What is published behind the answer finds the stream. */
Test(relay, a_stream_is_told_of_when_its_subscriptions_are_there)
{
    struct rig *r = open_unheard_rig();
    r->dry = 0;
    settle(r);
    cr_assert_eq(count_of(r, "did_create"), 1);
    close_jet_rig(r);
}

Test(relay, an_answer_does_not_wait_for_subscriptions_for_ever)
{
    struct rig *r = open_unheard_rig();
    r->now.mono_ns += 3000000000;
    settle(r);
    cr_assert_eq(count_of(r, "did_create"), 1);
    r->dry = 0;
    close_jet_rig(r);
}

/* A change that finds neither room in the ring nor memory is told as one that may be any. */
Test(relay, a_push_consumer_of_another_shard_hears_of_a_subscription_without_memory)
{
    char names[1][8], line[192], body[128];
    static const char begin[] = "CONNECT {\"verbose\":false,\"user\":\"guest\",\"pass\":\"p\"}\r\n";
    struct rig *r = open_jet_rig(names, 1);
    open_client(r, 0, LISTENER, 1);
    say(r, 0, LISTENER, begin, sizeof begin - 1);
    ask_api(r, "CREATE", names[0], "", "in");
    settle(r);
    snprintf(line, sizeof line, "$JS.API.CONSUMER.CREATE.%s.c", names[0]);
    snprintf(body, sizeof body,
             "{\"stream_name\":\"%s\",\"config\":{\"name\":\"c\",\"deliver_subject\":\"d.x\"}}",
             names[0]);
    request(r, line, body);
    cr_assert_eq(count_of(r, "\"deliver_subject\":\"d.x\""), 1, "%.*s", (int)r->got_len, r->got);
    request(r, names[0], "hello");
    struct lane *l = &r->lanes[0];
    l->ring_bytes = NARROW;
    l->tail = l->tail / NARROW * NARROW + NARROW;
    l->head = l->tail - NARROW; /* all of it is unread */
    r->dry = 1u << MEM_MAIL;
    for (int i = 0; i < 8; i++)
        say(r, 0, LISTENER, i % 2 == 0 ? "SUB d.y 2\r\n" : "UNSUB 2\r\n", i % 2 == 0 ? 11 : 9);
    say(r, 0, LISTENER, "SUB d.x 1\r\n", 11);
    cr_assert_eq(r->shards[0]->interest_owed, 1);
    r->dry = 0;
    l->head = l->tail;
    l->ring_bytes = WIDE;
    run(r, 0, NULL);
    settle(r);
    cr_assert_eq(r->shards[0]->interest_owed, 0);
    cr_assert_eq(r->shards[0]->clients[LISTENER]->out.msgs, 1);
    close_client(r, 0, LISTENER, 1);
    close_jet_rig(r);
}

/* Shards start at once, and one makes an account while another counts its push consumers. */
Test(relay, a_push_consumer_is_counted_at_a_start_beside_a_busy_index)
{
    char names[1][8], line[64], body[128];
    struct rig *r = open_jet_rig(names, 1);
    ask_api(r, "CREATE", names[0], "", "in");
    settle(r);
    snprintf(line, sizeof line, "$JS.API.CONSUMER.CREATE.%s.c", names[0]);
    snprintf(body, sizeof body,
             "{\"stream_name\":\"%s\",\"config\":{\"name\":\"c\",\"deliver_subject\":\"d.x\"}}",
             names[0]);
    request(r, line, body);
    cr_assert_eq(count_of(r, "\"deliver_subject\":\"d.x\""), 1);
    uint32_t account = js_find_id(&r->logs[1].js, 2)->stream.account;
    close_client(r, 1, ASKER, 1);
    settle(r);
    close_shards(r);
    r->is_racing = true;
    open_shards(r);
    cr_assert_gt(r->shards[1]->account_count, account, "it was passed over");
    cr_assert_eq(r->shards[1]->accounts[account]->push_count, 1);
    close_rig(r);
}
