#include <criterion/criterion.h>
#include "core/auth/perms.h"
#include "core/base/must.h"
#include "tests/support/mem_heap.h"

static struct mem_heap heap;

static void start(void)
{
    mem_heap_init(&heap);
}

static void no_leak(void)
{
    must(heap.live_count == 0);
}

TestSuite(perms, .init = start, .fini = no_leak);

enum { ENTRIES_MAX = 8 };

/* Lists as texts with commas between entries. */
struct lists {
    const char *publish_allow, *publish_deny, *subscribe_allow, *subscribe_deny;
};

static struct perms_list list_of(const char *text, struct bytes entries[ENTRIES_MAX])
{
    struct perms_list list = {.entries = entries};
    while (text != NULL && *text != 0) {
        size_t len = strcspn(text, ",");
        entries[list.count++] = bytes_of(text, len);
        text += len + (text[len] == ',');
    }
    return list;
}

static enum err compile(struct lists l, struct perms **out, struct perms_fault *fault)
{
    struct bytes entries[4][ENTRIES_MAX];
    struct perms_spec spec = {.publish_allow = list_of(l.publish_allow, entries[0]),
                              .publish_deny = list_of(l.publish_deny, entries[1]),
                              .subscribe_allow = list_of(l.subscribe_allow, entries[2]),
                              .subscribe_deny = list_of(l.subscribe_deny, entries[3])};
    return perms_compile(&heap.mem, &spec, out, fault);
}

static struct perms *perms_of(struct lists l)
{
    struct perms *p = NULL;
    struct perms_fault fault;
    cr_assert_eq(compile(l, &p, &fault), ERR_OK);
    return p;
}

static enum perms_verdict sub(const struct perms *p, const char *filter, const char *queue)
{
    return perms_may_subscribe(p, bytes_from_text(filter), bytes_from_text(queue));
}

static bool pub(const struct perms *p, const char *subject)
{
    return perms_may_publish(p, bytes_from_text(subject));
}

static bool delivers(const struct perms *p, const char *subject, const char *queue)
{
    return perms_may_deliver(p, bytes_from_text(subject), bytes_from_text(queue));
}

Test(perms, no_permissions_object_restricts_nothing)
{
    cr_assert(pub(NULL, "a"));
    cr_assert_eq(sub(NULL, ">", ""), PERMS_ALLOWED);
    cr_assert(delivers(NULL, "a", "q"));
    cr_assert(!perms_has_responses(NULL));
}

Test(perms, an_empty_allow_list_allows_everything_and_deny_wins)
{
    struct perms *p = perms_of((struct lists){.publish_deny = "secret.>"});
    cr_assert(pub(p, "anything"));
    cr_assert(pub(p, "secret"));
    cr_assert(!pub(p, "secret.x"));
    cr_assert_eq(sub(p, ">", ""), PERMS_ALLOWED);
    perms_free(&heap.mem, p);
    p = perms_of((struct lists){.publish_allow = "a.>,b", .publish_deny = "a.b"});
    cr_assert(pub(p, "a.c"));
    cr_assert(!pub(p, "a.b"));
    cr_assert(pub(p, "b"));
    cr_assert(!pub(p, "c"));
    perms_free(&heap.mem, p);
}

Test(perms, a_published_subject_with_wildcard_characters_is_taken_literally)
{
    struct perms *p = perms_of((struct lists){.publish_allow = "a.*"});
    cr_assert(pub(p, "a.*"));
    cr_assert(pub(p, "a.>"));
    cr_assert(!pub(p, "*.b"));
    cr_assert(!pub(p, ">"));
    perms_free(&heap.mem, p);
}

Test(perms, empty_tokens_are_never_allowed_and_never_slip_past_a_deny)
{
    struct perms *p = perms_of((struct lists){.publish_allow = ">"});
    cr_assert(!pub(p, "a..b"));
    cr_assert(!pub(p, ""));
    perms_free(&heap.mem, p);
    p = perms_of((struct lists){.publish_deny = "a.>", .subscribe_deny = "a.>"});
    cr_assert(!pub(p, "a..b"));
    cr_assert(!pub(p, "a."));
    cr_assert(!delivers(p, "a..b", ""));
    perms_free(&heap.mem, p);
}

Test(perms, a_wildcard_over_a_deny_is_accepted_and_filtered)
{
    struct perms *p = perms_of((struct lists){.subscribe_deny = "foo.bar"});
    cr_assert_eq(sub(p, "foo.*", ""), PERMS_FILTERED);
    cr_assert_eq(sub(p, ">", ""), PERMS_FILTERED);
    cr_assert_eq(sub(p, "foo.bar", ""), PERMS_DENIED);
    cr_assert_eq(sub(p, "baz.*", ""), PERMS_ALLOWED);
    cr_assert(!delivers(p, "foo.bar", ""));
    cr_assert(delivers(p, "foo.baz", ""));
    perms_free(&heap.mem, p);
}

/* CVE-2022-29946: a queue subscription on a wildcard got what a deny names. */
Test(perms, a_queue_subscription_on_a_wildcard_is_filtered_too)
{
    struct perms *p = perms_of((struct lists){.subscribe_deny = "foo.bar,*.x q.>"});
    cr_assert_eq(sub(p, "foo.*", "q.1"), PERMS_FILTERED);
    cr_assert(!delivers(p, "foo.bar", "q.1"));
    cr_assert(!delivers(p, "foo.bar", "other"));
    cr_assert(!delivers(p, "foo.x", "q.1"));
    cr_assert(delivers(p, "foo.x", "other"));
    cr_assert(delivers(p, "foo.x", ""));
    perms_free(&heap.mem, p);
}

/* GHSA-wh7g: a wildcard subscription that only overlaps a wildcard deny was not filtered. */
Test(perms, a_wildcard_that_overlaps_a_wildcard_deny_is_filtered)
{
    struct perms *p = perms_of((struct lists){.subscribe_deny = "*.secret"});
    cr_assert_eq(sub(p, "foo.*", ""), PERMS_FILTERED);
    cr_assert(!delivers(p, "foo.secret", ""));
    cr_assert(delivers(p, "foo.open", ""));
    perms_free(&heap.mem, p);
}

/* GHSA-jx8g: an entry for a queue beside a plain deny switched the plain one off. */
Test(perms, a_queue_deny_does_not_lift_a_plain_deny)
{
    struct perms *p = perms_of((struct lists){.subscribe_deny = "foo,foo v1"});
    cr_assert_eq(sub(p, "foo", ""), PERMS_DENIED);
    cr_assert_eq(sub(p, "foo", "v1"), PERMS_DENIED);
    cr_assert_eq(sub(p, "foo", "v2"), PERMS_DENIED);
    cr_assert(!delivers(p, "foo", "v2"));
    perms_free(&heap.mem, p);
}

Test(perms, queue_entries_follow_the_table_of_nats_server)
{
    struct perms *p = perms_of((struct lists){.subscribe_allow = "foo v1"});
    cr_assert_eq(sub(p, "foo", ""), PERMS_DENIED);
    cr_assert_eq(sub(p, "foo", "v1"), PERMS_ALLOWED);
    cr_assert_eq(sub(p, "foo", "v2"), PERMS_DENIED);
    perms_free(&heap.mem, p);

    p = perms_of((struct lists){.subscribe_allow = "foo,foo v1"});
    cr_assert_eq(sub(p, "foo", ""), PERMS_ALLOWED);
    cr_assert_eq(sub(p, "foo", "v1"), PERMS_ALLOWED);
    cr_assert_eq(sub(p, "foo", "v2"), PERMS_DENIED);
    perms_free(&heap.mem, p);

    p = perms_of((struct lists){.subscribe_allow = "foo *.dev,bar v1.>"});
    cr_assert_eq(sub(p, "foo", "v1.dev"), PERMS_ALLOWED);
    cr_assert_eq(sub(p, "foo", "v1.prod"), PERMS_DENIED);
    cr_assert_eq(sub(p, "bar", "v1.a.b"), PERMS_ALLOWED);
    cr_assert_eq(sub(p, "bar", "v1"), PERMS_DENIED);
    perms_free(&heap.mem, p);

    p = perms_of((struct lists){.subscribe_allow = "foo", .subscribe_deny = "foo v2.>"});
    cr_assert_eq(sub(p, "foo", ""), PERMS_ALLOWED);
    cr_assert_eq(sub(p, "foo", "v1"), PERMS_ALLOWED);
    cr_assert_eq(sub(p, "foo", "v2.x"), PERMS_DENIED);
    perms_free(&heap.mem, p);
}

/* Seen on nats-server 2.15.2: such SUBs get their error at once, nothing is filtered. */
Test(perms, a_deny_with_a_star_refuses_the_filter_with_a_rest_in_its_place)
{
    struct perms *p = perms_of((struct lists){.subscribe_deny = "foo.*"});
    cr_assert_eq(sub(p, "foo.>", ""), PERMS_DENIED);
    cr_assert_eq(sub(p, ">", ""), PERMS_FILTERED);
    perms_free(&heap.mem, p);
    p = perms_of((struct lists){.subscribe_deny = "*"});
    cr_assert_eq(sub(p, ">", ""), PERMS_DENIED);
    perms_free(&heap.mem, p);
}

/* nats-server 2.15.2 accepts this SUB and delivers foo.x.y; here only foo.x arrives. */
Test(perms, an_allow_with_a_star_never_opens_the_levels_below)
{
    struct perms *p = perms_of((struct lists){.subscribe_allow = "foo.*"});
    cr_assert_eq(sub(p, "foo.>", ""), PERMS_FILTERED);
    cr_assert(delivers(p, "foo.x", ""));
    cr_assert(!delivers(p, "foo.x.y", ""));
    cr_assert_eq(sub(p, "foo.*", ""), PERMS_ALLOWED);
    cr_assert_eq(sub(p, ">", ""), PERMS_DENIED);
    perms_free(&heap.mem, p);
    p = perms_of((struct lists){.subscribe_allow = "*,foo.>"});
    cr_assert_eq(sub(p, "foo.>", ""), PERMS_ALLOWED);
    cr_assert_eq(sub(p, ">", ""), PERMS_FILTERED);
    cr_assert(delivers(p, "foo.a", ""));
    cr_assert(delivers(p, "bar", ""));
    cr_assert(!delivers(p, "bar.a", ""));
    perms_free(&heap.mem, p);
}

Test(perms, bad_entries_are_refused_with_the_texts_of_nats_server)
{
    struct perms *p;
    struct perms_fault fault;
    cr_assert_eq(compile((struct lists){.publish_allow = "a..b"}, &p, &fault), ERR_INVALID);
    cr_assert_str_eq(fault.text, "subject \"a..b\" is not a valid subject");
    cr_assert_eq(compile((struct lists){.publish_deny = "a q"}, &p, &fault), ERR_INVALID);
    cr_assert_str_eq(fault.text, "subject \"a q\" is not a valid subject");
    cr_assert_eq(compile((struct lists){.subscribe_allow = "a b c"}, &p, &fault), ERR_INVALID);
    cr_assert_str_eq(fault.text, "subject \"a b c\" is not a valid subject");
    cr_assert_eq(compile((struct lists){.subscribe_allow = "a. q"}, &p, &fault), ERR_INVALID);
    cr_assert_str_eq(fault.text, "subject \"a.\" is not a valid subject");
    cr_assert_eq(compile((struct lists){.subscribe_deny = "a q..r"}, &p, &fault), ERR_INVALID);
    cr_assert_str_eq(fault.text, "queue \"q..r\" is not a valid queue");
    cr_assert_eq(compile((struct lists){.subscribe_deny = " "}, &p, &fault), ERR_INVALID);
    cr_assert_eq(compile((struct lists){.subscribe_deny = " a"}, &p, &fault), ERR_INVALID);
}

Test(perms, equality_is_that_of_the_lists)
{
    struct perms *a = perms_of((struct lists){.publish_allow = "a,b"});
    struct perms *b = perms_of((struct lists){.publish_allow = "a,b"});
    struct perms *c = perms_of((struct lists){.publish_allow = "b,a"});
    cr_assert(perms_equal(a, b));
    cr_assert(!perms_equal(a, c));
    cr_assert(!perms_equal(a, NULL));
    cr_assert(perms_equal(NULL, NULL));
    perms_free(&heap.mem, a);
    perms_free(&heap.mem, b);
    perms_free(&heap.mem, c);
}

Test(perms, many_literal_entries_are_all_found)
{
    enum { COUNT = 500 };
    struct bytes entries[COUNT];
    char texts[COUNT][8];
    struct perms *p;
    for (uint32_t i = 0; i < COUNT; i++) {
        texts[i][0] = 's';
        size_t len = bytes_u64_text(texts[i] + 1, i);
        entries[i] = bytes_of(texts[i], len + 1);
    }
    struct perms_spec spec = {.publish_allow = {entries, COUNT}};
    cr_assert_eq(perms_compile(&heap.mem, &spec, &p, NULL), ERR_OK);
    for (uint32_t i = 0; i < COUNT; i++) cr_assert(perms_may_publish(p, entries[i]));
    cr_assert(!pub(p, "s500"));
    cr_assert(!pub(p, "s"));
    perms_free(&heap.mem, p);
}

/* --- replies --- */

static struct perms *responder(int64_t max, int64_t ttl_ns)
{
    struct perms *p = NULL;
    struct perms_spec spec = {
        .has_responses = true, .responses_max = max, .responses_ttl_ns = ttl_ns};
    cr_assert_eq(perms_compile(&heap.mem, &spec, &p, NULL), ERR_OK);
    return p;
}

Test(perms, allowed_responses_close_publishing_but_for_replies)
{
    struct perms *p = responder(0, 0);
    struct perms_replies *r;
    struct bytes inbox = BYTES_LITERAL("_INBOX.1");
    cr_assert_eq(perms_spec_of(p)->responses_max, 1);
    cr_assert_eq(perms_spec_of(p)->responses_ttl_ns, PERMS_RESPONSES_TTL_DEFAULT_NS);
    cr_assert(perms_has_responses(p));
    cr_assert(!perms_may_publish(p, inbox));
    cr_assert_eq(perms_replies_open(&heap.mem, 1, &r), ERR_OK);
    cr_assert(!perms_replies_take(r, p, inbox, 0));
    cr_assert_eq(perms_replies_add(r, p, inbox, 0), ERR_OK);
    cr_assert(perms_replies_take(r, p, inbox, 1));
    cr_assert(!perms_replies_take(r, p, inbox, 1), "one message only");
    perms_replies_close(r);
    perms_free(&heap.mem, p);
}

Test(perms, a_reply_permission_ends_with_its_time)
{
    struct perms *p = responder(-1, 1000);
    struct perms_replies *r;
    struct bytes inbox = BYTES_LITERAL("_INBOX.1");
    cr_assert_eq(perms_replies_open(&heap.mem, 1, &r), ERR_OK);
    cr_assert_eq(perms_replies_add(r, p, inbox, 5000), ERR_OK);
    for (int i = 0; i < 100; i++) cr_assert(perms_replies_take(r, p, inbox, 6000));
    cr_assert(!perms_replies_take(r, p, inbox, 6001));
    cr_assert_eq(perms_replies_count(r), 0);
    cr_assert_eq(perms_replies_add(r, p, inbox, 7000), ERR_OK);
    cr_assert_eq(perms_replies_add(r, p, BYTES_LITERAL("other"), 9000), ERR_OK);
    cr_assert_eq(perms_replies_count(r), 1, "adding drops what is expired");
    perms_replies_close(r);
    perms_free(&heap.mem, p);
}

Test(perms, reply_permissions_are_bounded_and_the_oldest_goes)
{
    struct perms *p = responder(1, -1);
    struct perms_replies *r;
    char text[32] = "_INBOX.";
    cr_assert_eq(perms_replies_open(&heap.mem, 1, &r), ERR_OK);
    for (uint64_t i = 0; i < PERMS_REPLIES_MAX + 10; i++) {
        size_t len = bytes_u64_text(text + 7, i);
        cr_assert_eq(perms_replies_add(r, p, bytes_of(text, 7 + len), i), ERR_OK);
    }
    cr_assert_eq(perms_replies_count(r), PERMS_REPLIES_MAX);
    cr_assert(!perms_replies_take(r, p, BYTES_LITERAL("_INBOX.9"), 1u << 30));
    cr_assert(perms_replies_take(r, p, BYTES_LITERAL("_INBOX.10"), 1u << 30));
    perms_replies_close(r);
    perms_free(&heap.mem, p);
}

Test(perms, long_reply_subjects_are_kept_whole_and_too_long_ones_not_at_all)
{
    static char text[PERMS_REPLY_SUBJECT_MAX + 1];
    struct perms *p = responder(2, -1);
    struct perms_replies *r;
    memset(text, 'x', sizeof text);
    cr_assert_eq(perms_replies_open(&heap.mem, 1, &r), ERR_OK);
    cr_assert_eq(perms_replies_add(r, p, bytes_of(text, PERMS_REPLY_SUBJECT_MAX), 1), ERR_OK);
    cr_assert_eq(perms_replies_add(r, p, bytes_of(text, sizeof text), 1), ERR_TOO_LONG);
    cr_assert(!perms_replies_take(r, p, bytes_of(text, 100), 1));
    cr_assert(perms_replies_take(r, p, bytes_of(text, PERMS_REPLY_SUBJECT_MAX), 1));
    perms_replies_close(r);
    perms_free(&heap.mem, p);
}

Test(perms, a_steady_flow_of_replies_allocates_nothing)
{
    struct perms *p = responder(1, -1);
    struct perms_replies *r;
    char text[32] = "_INBOX.";
    uint64_t calls = 0;
    cr_assert_eq(perms_replies_open(&heap.mem, 1, &r), ERR_OK);
    for (uint64_t i = 0; i < 1000; i++) {
        if (i == 10) calls = heap.alloc_count;
        size_t len = bytes_u64_text(text + 7, i);
        cr_assert_eq(perms_replies_add(r, p, bytes_of(text, 7 + len), i), ERR_OK);
        cr_assert(perms_replies_take(r, p, bytes_of(text, 7 + len), i));
    }
    cr_assert_eq(heap.alloc_count, calls);
    perms_replies_close(r);
    perms_free(&heap.mem, p);
}
