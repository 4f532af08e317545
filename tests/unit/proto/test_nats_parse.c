#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include "core/base/rng.h"
#include "core/proto/headers.h"
#include "core/proto/nats_parse.h"

static const struct nats_limits LIMITS = {
    .control_line_max = 4096, .payload_max = 1 << 20, .headers_allowed = true};

static enum nats_status parse(const char *text, struct nats_op *op)
{
    size_t used;
    return nats_parse(&LIMITS, text, strlen(text), op, &used);
}

static bool is_text(struct bytes b, const char *text)
{
    return bytes_equal(b, bytes_from_text(text));
}

Test(nats_parse, a_publish_with_reply_yields_subject_reply_and_payload)
{
    struct nats_op op;
    cr_assert_eq(parse("PUB foo.bar _INBOX.1 5\r\nhello\r\n", &op), NATS_DONE);
    cr_assert_eq(op.verb, NATS_PUB);
    cr_assert(is_text(op.subject, "foo.bar"));
    cr_assert(is_text(op.reply, "_INBOX.1"));
    cr_assert(is_text(op.tail, "_INBOX.1 5\r\nhello\r\n"));
}

Test(nats_parse, odd_blanks_and_bare_newlines_are_legal_but_have_no_tail)
{
    struct nats_op op;
    cr_assert_eq(parse("pub \tfoo  \t reply   5\nhello\r\n", &op), NATS_DONE);
    cr_assert(is_text(op.subject, "foo"));
    cr_assert(is_text(op.reply, "reply"));
    cr_assert_null(op.tail.data);
    cr_assert_eq(op.total_bytes, 5);
}

/* With another line feed within the bytes that one pass looks at: it read 4 GiB further on. */
Test(nats_parse, a_publish_that_ends_before_its_subject_is_refused)
{
    static const char *const bad[] = {"PUB \n", "PUB \r\n", "HPUB \n", "HPUB \r\n", "PUB x\n"};
    struct nats_op op;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char text[256];
        snprintf(text, sizeof text, "%sb\r\nPUB m 1\r\nc\r\n%0100d", bad[i], 0);
        cr_assert_eq(parse(text, &op), NATS_BAD_ARGS, "%s", bad[i]);
    }
}

Test(nats_parse, headers_are_counted_and_never_longer_than_the_message)
{
    struct nats_op op;
    cr_assert_eq(parse("HPUB foo 12 14\r\nNATS/1.0\r\n\r\nhi\r\n", &op), NATS_DONE);
    cr_assert_eq(op.header_bytes, 12);
    cr_assert_eq(op.total_bytes, 14);
    cr_assert_eq(parse("HPUB foo 15 14\r\n", &op), NATS_BAD_ARGS);
    struct nats_limits plain = LIMITS;
    plain.headers_allowed = false;
    size_t used;
    cr_assert_eq(nats_parse(&plain, "HPUB foo 2 4\r\n", 14, &op, &used), NATS_BAD_ARGS);
}

Test(nats_parse, sizes_have_at_most_nine_digits)
{
    static const char *const bad[] = {
        "-1", "2147483648x", "9223372036854775808", "12345678901234567890", "1234567890", "0x10",
        "+5", "1e3"};
    struct nats_op op;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char line[64];
        snprintf(line, sizeof line, "PUB foo %s\r\n", bad[i]);
        cr_assert_eq(parse(line, &op), NATS_BAD_ARGS, "%s", bad[i]);
    }
    cr_assert_eq(parse("PUB foo 999999999\r\n", &op), NATS_PAYLOAD_BIG);
    cr_assert_eq(parse("PUB foo 0\r\n\r\n", &op), NATS_DONE);
}

Test(nats_parse, a_wrong_verb_is_refused_at_its_first_wrong_byte)
{
    struct nats_op op;
    cr_assert_eq(parse("X", &op), NATS_BAD_VERB);
    cr_assert_eq(parse("PUX", &op), NATS_BAD_VERB);
    cr_assert_eq(parse("PUBfoo", &op), NATS_BAD_VERB);
    cr_assert_eq(parse("RS+ a b\r\n", &op), NATS_BAD_VERB);
    cr_assert_eq(parse("PU", &op), NATS_MORE);
    cr_assert_eq(parse("PUB foo 2\r\nokXY", &op), NATS_BAD_VERB);
    cr_assert_eq(parse("PUB foo 2\r\nokX", &op), NATS_BAD_VERB);
}

Test(nats_parse, the_control_line_limit_counts_the_argument_alone)
{
    char line[5000];
    struct nats_op op;
    size_t used;
    memcpy(line, "SUB ", 4);
    memset(line + 4, 'a', 4094);
    memcpy(line + 4 + 4094, " 1\r\n", 4);
    cr_assert_eq(nats_parse(&LIMITS, line, 4 + 4098, &op, &used), NATS_DONE);
    memset(line + 4, 'a', 4095);
    memcpy(line + 4 + 4095, " 1\r\n", 4);
    cr_assert_eq(nats_parse(&LIMITS, line, 4 + 4099, &op, &used), NATS_LINE_LONG);
    memset(line + 4, 'a', 4200);
    cr_assert_eq(nats_parse(&LIMITS, line, 4 + 4097, &op, &used), NATS_LINE_LONG);
}

Test(nats_parse, ping_ignores_what_follows_up_to_the_line_end)
{
    struct nats_op op;
    size_t used;
    cr_assert_eq(nats_parse(&LIMITS, "PINGxyz", 7, &op, &used), NATS_SKIP_MORE);
    cr_assert_eq(used, 4);
    cr_assert_eq(nats_parse(&LIMITS, "ping what\r\nPUB", 14, &op, &used), NATS_DONE);
    cr_assert_eq(used, 11);
}

Test(nats_parse, unsub_takes_a_bad_maximum_for_none)
{
    struct nats_op op;
    cr_assert_eq(parse("UNSUB 1 x5\r\n", &op), NATS_DONE);
    cr_assert_eq(op.max, -1);
    cr_assert_eq(parse("UNSUB 1 5\r\n", &op), NATS_DONE);
    cr_assert_eq(op.max, 5);
    cr_assert_eq(parse("UNSUB 1 5 6\r\n", &op), NATS_BAD_ARGS);
}

/* R6: every prefix of a valid stream asks for more and never decides otherwise; the fast path
 * (64 bytes and more) and the slow one give the same slices. */
Test(nats_parse, prefixes_ask_for_more_and_both_paths_agree)
{
    static const char *const streams[] = {"CONNECT {\"verbose\":false}\r\n",
                                          "PUB a.b.c 3\r\nabc\r\n",
                                          "PUB a r 0\r\n\r\n",
                                          "HPUB a.b r.s 12 14\r\nNATS/1.0\r\n\r\nhi\r\n",
                                          "SUB a.* q 7\r\n",
                                          "SUB > 1\n",
                                          "UNSUB 7 3\r\n",
                                          "PING\r\n",
                                          "PONG\r\n",
                                          "+OK\r\n",
                                          "-ERR 'x'\r\n",
                                          "INFO {}\r\n",
                                          "PUB  x\t1\r\nz\r\n"};
    for (size_t s = 0; s < sizeof streams / sizeof streams[0]; s++) {
        size_t len = strlen(streams[s]);
        struct nats_op whole;
        size_t used;
        cr_assert_eq(nats_parse(&LIMITS, streams[s], len, &whole, &used), NATS_DONE, "%s",
                     streams[s]);
        cr_assert_eq(used, len);
        for (size_t cut = 0; cut < len; cut++) {
            char *exact = malloc(cut + 1); /* exact size: a read past it is seen by ASan */
            memcpy(exact, streams[s], cut);
            struct nats_op part;
            enum nats_status st = nats_parse(&LIMITS, exact, cut, &part, &used);
            cr_assert(st == NATS_MORE || st == NATS_SKIP_MORE, "%s cut at %zu", streams[s], cut);
            if (st == NATS_MORE && used != 0) cr_assert_eq(used, len);
            free(exact);
        }
        char padded[512];
        memcpy(padded, streams[s], len);
        memset(padded + len, 'P', sizeof padded - len);
        struct nats_op fast;
        cr_assert_eq(nats_parse(&LIMITS, padded, sizeof padded, &fast, &used), NATS_DONE);
        cr_assert_eq(used, len);
        cr_assert_eq(fast.verb, whole.verb);
        if (whole.verb == NATS_PUB) {
            cr_assert(bytes_equal(fast.subject, whole.subject));
            cr_assert(bytes_equal(fast.reply, whole.reply));
            cr_assert(bytes_equal(fast.tail, whole.tail));
            cr_assert_eq(fast.header_bytes, whole.header_bytes);
            cr_assert_eq(fast.total_bytes, whole.total_bytes);
        }
    }
}

Test(headers, the_first_match_wins_and_case_counts)
{
    struct bytes block = BYTES_LITERAL("NATS/1.0 100 Idle\r\na: 1\r\nA:  2 \r\na: 3\r\n\r\n");
    struct bytes value;
    cr_assert(headers_find(block, BYTES_LITERAL("a"), &value) && is_text(value, "1"));
    cr_assert(headers_find(block, BYTES_LITERAL("A"), &value) && is_text(value, "2 "));
    cr_assert_not(headers_find(block, BYTES_LITERAL("NATS/1.0 100 Idle"), &value));
    cr_assert_not(headers_find(block, BYTES_LITERAL("b"), &value));
}
