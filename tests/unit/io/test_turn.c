#include "io/turn.h"
#include <criterion/criterion.h>
#include <stdlib.h>
#include "core/base/json.h"
#include "core/config/flags.h"
#include "core/route/interest_account.h"
#include "io/loop.h"
#include "tests/support/conf_world.h"
#include "tests/support/mem_heap.h"

/* One shard with its turn, on a driver that does nothing but what the test says. */
enum { SENDER_MAIN = 1, SENDERS = 2, SLOTS = 4, RING_BYTES = 1 << 16, FLOOD = 200 };

struct rig {
    struct driver driver;
    struct mem_heap heap;
    struct account_numbers *numbers;
    struct options *options;
    struct interest *interest;
    struct mailbox_net *mail;
    struct server_facts facts;
    struct shard *shard;
    struct turn *turn;
    struct shard_time now;
    struct done next[FLOOD]; /* completions of the next poll */
    uint32_t next_count;
    uint32_t sends, sends_empty, closes, orders_done, released, suspends, resumes, sleeps;
    _Atomic bool is_stopping;
    bool stops_at_a_look; /* the end comes, with its wake-up, while the shard looks for work */
};

static struct rig *rig; /* for the calls that bring no context */

/* --- the driver --- */

static enum err socket_add(struct driver *d, uint32_t slot, uint32_t tag, int fd)
{
    (void)d, (void)slot, (void)tag, (void)fd;
    return ERR_OK;
}

static void recv_suspend(struct driver *d, uint32_t slot)
{
    (void)d, (void)slot;
    rig->suspends++;
}

static void recv_resume(struct driver *d, uint32_t slot)
{
    (void)d, (void)slot;
    rig->resumes++;
}

static void recv_release(struct driver *d, uint32_t buffer)
{
    (void)d, (void)buffer;
    rig->released++;
}

static void send_runs(struct driver *d, uint32_t slot, const struct iovec *iov, uint32_t count)
{
    size_t bytes = 0;
    (void)d, (void)slot;
    for (uint32_t i = 0; i < count; i++) bytes += iov[i].iov_len;
    rig->sends++;
    rig->sends_empty += bytes == 0;
}

static void socket_close(struct driver *d, uint32_t slot)
{
    (void)d;
    rig->closes++;
    rig->next[rig->next_count++] = (struct done){.kind = DONE_CLOSED, .slot = slot, .tag = 1};
}

static uint32_t poll_once(struct driver *d, struct done *done, uint32_t max, uint64_t timeout_ns)
{
    uint32_t count = rig->next_count;
    (void)d;
    cr_assert_leq(count, max);
    if (timeout_ns > 0) rig->sleeps++;
    if (rig->stops_at_a_look) atomic_store(&rig->is_stopping, true);
    memcpy(done, rig->next, count * sizeof *done);
    rig->next_count = 0;
    return count;
}

static void ignore_wake(struct driver *d)
{
    (void)d;
}

static const struct driver_ops driver_ops = {.name = "rig",
                                             .socket_add = socket_add,
                                             .recv_suspend = recv_suspend,
                                             .recv_resume = recv_resume,
                                             .recv_release = recv_release,
                                             .send = send_runs,
                                             .socket_close = socket_close,
                                             .poll = poll_once,
                                             .wake = ignore_wake};

/* --- a TLS that is through its handshake at once and never has memory to seal --- */

static const struct conn_tls tls_facts = {.version = BYTES_LITERAL("1.3")};

static bool wants_peek(void *context, uint64_t *wait_ns)
{
    (void)context;
    *wait_ns = 1000000000;
    return true;
}

static bool yes(void *context)
{
    (void)context;
    return true;
}

static uint64_t second(void *context)
{
    (void)context;
    return 1000000000;
}

static struct turn_tls *open_tls(void *context, struct turn *t, struct conn_id conn, bool is_first)
{
    (void)context, (void)conn, (void)is_first;
    return (struct turn_tls *)(void *)t; /* never looked into */
}

static bool feed(struct turn_tls *x, struct bytes cipher)
{
    (void)x, (void)cipher;
    return true;
}

static struct bytes nothing(struct turn_tls *x)
{
    (void)x;
    return bytes_of(NULL, 0);
}

static void used(struct turn_tls *x, size_t bytes)
{
    (void)x;
    cr_assert_eq(bytes, 0);
}

static uint64_t seal_nothing(struct turn_tls *x, const struct bytes *runs, uint32_t count,
                             struct bytes *cipher)
{
    (void)x, (void)runs, (void)count;
    *cipher = bytes_of(NULL, 0);
    return 0;
}

static const struct conn_tls *facts(struct turn_tls *x)
{
    (void)x;
    return &tls_facts;
}

static bool never(const struct turn_tls *x)
{
    (void)x;
    return false;
}

static void close_tls(struct turn_tls *x)
{
    (void)x;
}

static const struct turn_tls_ops tls_ops = {.wants_peek = wants_peek,
                                            .is_first_only = yes,
                                            .open = open_tls,
                                            .feed = feed,
                                            .plain = nothing,
                                            .plain_used = used,
                                            .is_busy = never,
                                            .seal = seal_nothing,
                                            .handshake_out = nothing,
                                            .facts = facts,
                                            .failed = never,
                                            .has_ended = never,
                                            .close = close_tls,
                                            .allows_plaintext = yes,
                                            .handshake_ns = second,
                                            .may_begin = yes};

/* --- the hooks --- */

static struct shard_time now(void *context)
{
    (void)context;
    rig->now.mono_ns += 1000;
    return rig->now;
}

static void ignore_log(void *context, enum log_level level, struct bytes text)
{
    (void)context, (void)level, (void)text;
}

static void order_done(void *context, struct order *o, uint32_t shard)
{
    (void)context, (void)o, (void)shard;
    rig->orders_done++;
}

static void gone(void *context, uint32_t shard, struct turn_conn *c)
{
    (void)context, (void)shard, (void)c;
}

static void logged_in(void *context, struct turn_conn *c)
{
    (void)context, (void)c;
}

static void take_request(void *context, uint32_t shard, const struct system_request *r)
{
    (void)context, (void)shard, (void)r;
}

static void wake(void *context, uint32_t who)
{
    (void)context, (void)who;
}

static void load(struct rig *r)
{
    struct world world = {.files = {{"server.conf", "port: 4222\n"}}};
    struct flags flags;
    struct options_report report;
    char *argv[] = {"millrace", "-c", "server.conf"};
    struct options_input in = {.source = world_init(&world), .flags = &flags, .seed = 1};
    options_report_init(&report, &r->heap.mem);
    cr_assert_eq(account_numbers_open(&r->heap.mem, &r->numbers), ERR_OK);
    in.numbers = r->numbers;
    cr_assert_eq(flags_parse(&flags, &r->heap.mem, 3, argv), ERR_OK);
    cr_assert_eq(options_load(&r->heap.mem, &in, &r->options, &report), ERR_OK);
    flags_deinit(&flags);
    options_report_deinit(&report);
}

static void open_rig(void)
{
    struct rig *r = rig = calloc(1, sizeof *r);
    mem_heap_init(&r->heap);
    json_init(1);
    load(r);
    r->driver.ops = &driver_ops;
    r->now = (struct shard_time){1000000000, 1700000000000000000};
    r->facts = (struct server_facts){.id = BYTES_LITERAL("NABC"), .name = BYTES_LITERAL("n")};
    struct mem *mem = &r->heap.mem;
    cr_assert_eq(interest_open(mem, 1, 1, &r->interest), ERR_OK);
    cr_assert_eq(mailbox_open(mem, 1, SENDERS, RING_BYTES, wake, NULL, &r->mail), ERR_OK);
    struct shard_config config = {.shard_count = 1,
                                  .mem = mem,
                                  .interest = r->interest,
                                  .options = r->options,
                                  .server = &r->facts,
                                  .seed = 1,
                                  .slots_max = SLOTS,
                                  .now = r->now};
    cr_assert_eq(shard_open(&config, &r->shard), ERR_OK);
    struct turn_config turn = {.shard = r->shard,
                               .driver = &r->driver,
                               .mail = r->mail,
                               .mem = mem,
                               .hooks = {.now = now,
                                         .log = ignore_log,
                                         .order_done = order_done,
                                         .gone = gone,
                                         .logged_in = logged_in,
                                         .system = take_request,
                                         .tls = &tls_ops},
                               .slots_max = SLOTS};
    cr_assert_eq(turn_open(&turn, &r->turn), ERR_OK);
    interest_online(r->interest, 0);
}

static void close_rig(void)
{
    struct rig *r = rig;
    interest_offline(r->interest, 0);
    turn_close(r->turn);
    shard_close(r->shard);
    mailbox_close(r->mail);
    interest_close(r->interest);
    options_free(r->options);
    account_numbers_close(r->numbers);
    cr_assert_eq(r->heap.live_count, 0);
    free(r);
}

Test(turn, a_shard_that_stood_still_runs_every_order_that_waits)
{
    enum { ORDERS = 3 * TURN_ORDERS_MAX + 1 };
    open_rig();
    struct order *orders = calloc(ORDERS, sizeof *orders);
    struct lane *lane = mailbox_lane(rig->mail, SENDER_MAIN, 0);
    for (int i = 0; i < ORDERS; i++) {
        struct order *o = &orders[i];
        o->kind = ORDER_KICK;
        memcpy(lane_append(lane, TURN_MAIL_ORDER, 0, sizeof o), &o, sizeof o);
    }
    mailbox_publish(rig->mail, SENDER_MAIN);
    for (int i = 0; i < 10; i++) turn_run(rig->turn, 0);
    cr_assert_eq(rig->orders_done, ORDERS, "%u of %u", rig->orders_done, (unsigned)ORDERS);
    free(orders);
    close_rig();
}

/* As after many short sleeps: a look pays. */
static struct spin eager(void)
{
    struct spin spin;
    spin_init(&spin, 2);
    for (int i = 0; i < 32; i++) spin_slept(&spin, true, SPIN_NS_MIN);
    return spin;
}

/* The wake-up rings once: whoever heard it while it looked must not wait for it. */
Test(turn, a_shard_that_looks_for_work_hears_of_the_end)
{
    open_rig();
    struct spin spin = eager();
    loop_turn(rig->turn, &spin, &rig->is_stopping);
    cr_assert_eq(spin.spins, 1);
    cr_assert_eq(rig->sleeps, 1, "nothing was found and nothing stopped");
    spin = eager();
    rig->stops_at_a_look = true;
    loop_turn(rig->turn, &spin, &rig->is_stopping);
    cr_assert_eq(spin.spins, 1);
    cr_assert_eq(rig->sleeps, 1, "it slept behind the end");
    close_rig();
}

Test(turn, without_memory_to_seal_a_connection_is_lost_and_nothing_spins)
{
    open_rig();
    struct turn_socket socket = {.fd = -1, .cid = 5};
    cr_assert_eq(turn_take(rig->turn, &socket), ERR_OK);
    turn_run(rig->turn, 0);
    rig->next[rig->next_count++] =
        (struct done){.kind = DONE_RECV, .slot = 0, .tag = 1, .data = "\x16", .len = 1};
    for (int i = 0; i < 10; i++) turn_run(rig->turn, 0);
    cr_assert_eq(rig->sends_empty, 0, "a send of no bytes completes at once, for ever");
    cr_assert_eq(rig->sends, 0);
    cr_assert_eq(rig->closes, 1);
    cr_assert_eq(turn_conn_count(rig->turn), 0);
    close_rig();
}

/* All buffers of the shard in the hands of one: it gives back what its next turns do not need. */
Test(turn, a_flood_of_one_connection_leaves_buffers_for_others)
{
    static const char ping[] = "PING\r\n";
    open_rig();
    struct turn_socket socket = {.fd = -1, .cid = 5, .is_unix = true};
    cr_assert_eq(turn_take(rig->turn, &socket), ERR_OK);
    turn_run(rig->turn, 0);
    uint32_t used = rig->released;
    for (uint32_t i = 0; i < FLOOD; i++)
        rig->next[rig->next_count++] = (struct done){
            .kind = DONE_RECV, .slot = 0, .tag = 1, .data = ping, .len = sizeof ping - 1};
    turn_run(rig->turn, 0);
    cr_assert_geq(rig->released - used, FLOOD - TURN_HELD_MAX, "%u of %u buffers are back",
                  rig->released - used, (unsigned)FLOOD);
    cr_assert_eq(rig->suspends, 1);
    for (int i = 0; i < FLOOD; i++) turn_run(rig->turn, 0);
    cr_assert_eq(rig->released - used, FLOOD);
    cr_assert_eq(rig->resumes, 1);
    rig->next[rig->next_count++] = (struct done){.kind = DONE_EOF, .slot = 0, .tag = 1};
    turn_run(rig->turn, 0);
    rig->now.mono_ns += 2 * TURN_FLUSH_NS; /* the rig sends nothing */
    for (int i = 0; i < 3; i++) turn_run(rig->turn, 0);
    cr_assert_eq(turn_conn_count(rig->turn), 0);
    close_rig();
}

/* The step ends behind the first bytes, whose SUB waits for the index; at the start of the next one
 * the connection is resumed, and the second bytes are not what it goes on with. */
Test(turn, what_a_parked_connection_left_comes_before_what_was_offered_behind_it)
{
    static const char first[] = "CONNECT {\"verbose\":false}\r\nSUB a 1\r\nSUB b",
                      second[] = " 2\r\n";
    open_rig();
    struct turn_socket socket = {.fd = -1, .cid = 5, .is_unix = true};
    cr_assert_eq(turn_take(rig->turn, &socket), ERR_OK);
    turn_run(rig->turn, 0);
    struct client *c = shard_client(rig->shard, conn_id_of(0, 1));
    cr_assert_not_null(c);
    rig->shard->accounts[ACCOUNT_GLOBAL]->trie->is_locked = 1;
    rig->turn->outbox.withheld = OUTBOX_EFFECTS_MAX - OUTBOX_RESERVE - 1; /* room for one, */
    rig->options->trace = true;                                           /* a line of the log */
    rig->next[rig->next_count++] = (struct done){
        .kind = DONE_RECV, .slot = 0, .tag = 1, .data = first, .len = sizeof first - 1};
    rig->next[rig->next_count++] = (struct done){
        .kind = DONE_RECV, .slot = 0, .tag = 1, .data = second, .len = sizeof second - 1};
    turn_run(rig->turn, 0);
    rig->shard->accounts[ACCOUNT_GLOBAL]->trie->is_locked = 0;
    for (int i = 0; i < 5; i++) turn_run(rig->turn, 0);
    cr_expect_eq(c->state, CLIENT_OPEN);
    cr_expect_eq(c->sub_count, 2);
    rig->turn->outbox.withheld = 0;
    rig->next[rig->next_count++] = (struct done){.kind = DONE_EOF, .slot = 0, .tag = 1};
    turn_run(rig->turn, 0);
    rig->now.mono_ns += 2 * TURN_FLUSH_NS;
    for (int i = 0; i < 3; i++) turn_run(rig->turn, 0);
    close_rig();
}

static void turn_with(enum done_kind kind, uint32_t slot, const char *data)
{
    rig->next[rig->next_count++] =
        (struct done){.kind = kind, .slot = slot, .tag = 1, .data = data, .len = strlen(data)};
    turn_run(rig->turn, 0);
}

/* Whether looking for work pays is learned from answers: neither the end of an own send nor what
 * others say unasked is one. */
Test(turn, an_answer_comes_from_who_was_sent_something_last)
{
    static const char connect[] = "CONNECT {\"verbose\":false}\r\n";
    open_rig();
    struct turn_socket socket = {.fd = -1, .cid = 5, .is_unix = true};
    cr_assert_eq(turn_take(rig->turn, &socket), ERR_OK);
    cr_assert_eq(turn_take(rig->turn, &socket), ERR_OK);
    turn_run(rig->turn, 0);
    cr_assert_eq(rig->sends, 2, "INFO for each");
    turn_with(DONE_SENT, 0, "");
    cr_expect(!rig->turn->has_news && !rig->turn->is_answered);
    turn_with(DONE_RECV, 0, connect);
    cr_expect(rig->turn->has_news && rig->turn->is_answered);
    turn_with(DONE_RECV, 0, "PING\r\n");
    cr_assert_eq(rig->sends, 3);
    turn_with(DONE_RECV, 1, connect);
    cr_expect(rig->turn->has_news && !rig->turn->is_answered, "slot 0 was sent something last");
    turn_with(DONE_RECV, 0, "PUB a 0\r\n\r\n");
    cr_expect(rig->turn->is_answered);
    for (uint32_t slot = 0; slot < 2; slot++) turn_with(DONE_EOF, slot, "");
    rig->now.mono_ns += 2 * TURN_FLUSH_NS;
    for (int i = 0; i < 3; i++) turn_run(rig->turn, 0);
    close_rig();
}
