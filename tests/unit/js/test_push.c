#include <criterion/criterion.h>
#include <string.h>
#include "core/js/push.h"

struct rig {
    struct outlet outlet;
    char reply[128], headers[256];
    uint32_t count;
};

static void record(struct outlet *o, struct bytes subject, struct bytes reply, struct bytes headers)
{
    struct rig *r = (struct rig *)(void *)o;
    cr_assert(bytes_equal(subject, BYTES_LITERAL("d")));
    memset(r->reply, 0, sizeof r->reply);
    memset(r->headers, 0, sizeof r->headers);
    memcpy(r->reply, reply.data, reply.len);
    memcpy(r->headers, headers.data, headers.len);
    r->count++;
}

static bool listens(struct outlet *o, struct bytes subject)
{
    return true;
}

static const struct push_names names = {{"S", 1}, {"C", 1}, {"d", 1}};
static struct rig rig;
static struct rng rng;
static struct push p;

static void setup(void)
{
    rig = (struct rig){.outlet = {.send = record, .has_interest = listens}};
    rng_init(&rng, 1);
}

TestSuite(push, .init = setup);

static void deliver(uint64_t bytes, int64_t now_ns)
{
    push_delivered(&p, &names, bytes, now_ns, &rng, &rig.outlet);
}

Test(push, half_a_window_asks_and_the_answer_doubles_it)
{
    push_init(&p, &(struct push_setup){.has_flow = true, .heartbeat_ns = 1000}, 0);
    deliver(PUSH_WINDOW_BYTES_MIN / 2, 0);
    cr_assert_eq(rig.count, 0);
    deliver(1, 0);
    cr_assert_eq(rig.count, 1);
    cr_assert_str_eq(rig.headers, "NATS/1.0 100 FlowControl Request\r\n\r\n");
    cr_assert_eq(strlen(rig.reply), strlen("$JS.FC.S.C.") + PUSH_FLOW_ID_BYTES);
    cr_assert_eq(strncmp(rig.reply, "$JS.FC.S.C.", 11), 0);
    char reply[128];
    memcpy(reply, rig.reply, sizeof reply);
    deliver(PUSH_WINDOW_BYTES_MIN / 2, 0);
    cr_assert_eq(rig.count, 1); /* one request at a time */
    cr_assert(push_is_stalled(&p));
    cr_assert_eq(push_beat(&p, &names, 3, 9, true, 1000, &rig.outlet), 2000);
    cr_assert_not_null(strstr(rig.headers, "Nats-Last-Consumer: 3\r\nNats-Last-Stream: 9\r\n"
                                           "Nats-Consumer-Stalled: $JS.FC.S.C."));
    cr_assert(!push_answered(&p, BYTES_LITERAL("$JS.FC.S.C.????")));
    cr_assert(push_answered(&p, bytes_from_text(reply)));
    cr_assert(!push_is_stalled(&p));
    cr_assert_eq(p.window, 2 * PUSH_WINDOW_BYTES_MIN);
    cr_assert_eq(p.out_bytes, PUSH_WINDOW_BYTES_MIN / 2);
    cr_assert(!push_answered(&p, bytes_from_text(reply)));
}

Test(push, the_window_stops_growing)
{
    push_init(&p, &(struct push_setup){.has_flow = true}, 0);
    for (int i = 0; i < 10; i++) {
        while (p.flow_id[0] == 0) deliver(100000, 0);
        cr_assert(push_answered(&p, bytes_from_text(rig.reply)));
    }
    cr_assert_eq(p.window, PUSH_WINDOW_BYTES_MAX);
}

Test(push, heartbeats_come_only_when_nothing_else_does_and_somebody_listens)
{
    push_init(&p, &(struct push_setup){.heartbeat_ns = 1000}, 0);
    cr_assert_eq(push_beat(&p, &names, 0, 0, true, 999, &rig.outlet), 1000);
    deliver(10, 600);
    cr_assert_eq(push_beat(&p, &names, 1, 1, true, 1000, &rig.outlet), 1600);
    cr_assert_eq(rig.count, 0);
    cr_assert_eq(push_beat(&p, &names, 1, 1, false, 1600, &rig.outlet), 2600);
    cr_assert_eq(rig.count, 0);
    cr_assert_eq(push_beat(&p, &names, 1, 1, true, 2600, &rig.outlet), 3600);
    cr_assert_str_eq(rig.headers, "NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 1\r\n"
                                  "Nats-Last-Stream: 1\r\n\r\n");
}

Test(push, a_rate_holds_over_many_messages)
{
    int64_t now_ns = 0;
    push_init(&p, &(struct push_setup){.rate_limit_bps = 8000, .message_bytes_max = 1000}, 0);
    uint64_t bytes = 0;
    for (int i = 0; i < 100; i++) {
        int64_t ready_ns = push_ready_ns(&p, now_ns);
        if (ready_ns > now_ns) now_ns = ready_ns;
        deliver(500, now_ns);
        bytes += 500;
    }
    /* 1000 bytes at once, 500 below zero, the rest at 1000 a second. */
    cr_assert_geq(now_ns, (int64_t)(bytes - 1500) * 1000000 - 1000000);
    cr_assert_leq(now_ns, (int64_t)bytes * 1000000);
    push_init(&p, &(struct push_setup){.rate_limit_bps = UINT64_MAX}, 0);
    for (int i = 0; i < 10; i++) deliver(1 << 20, i);
    cr_assert_leq(push_ready_ns(&p, 10), 10);
}
