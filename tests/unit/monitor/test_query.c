#include "tests/unit/monitor/fixture.h"

static struct fixture f;

static void setup(void)
{
    fixture_open(&f);
}

static void teardown(void)
{
    fixture_close(&f);
}

static const char *refusal(enum page page, const char *text)
{
    cr_assert_eq(fixture_query(&f, page, text), ERR_INVALID, "%s", text);
    text_char(&f.error, '\0');
    return f.error.data;
}

TestSuite(query, .init = setup, .fini = teardown);

Test(query, nothing_given_is_the_defaults)
{
    cr_assert_eq(fixture_query(&f, PAGE_CONNZ, ""), ERR_OK);
    cr_assert_eq(f.query.limit, 1024);
    cr_assert_eq(f.query.offset, 0);
    cr_assert_eq(f.query.state, CONN_STATE_OPEN);
    cr_assert_eq(f.query.sort, CONN_SORT_CID);
    cr_assert_eq(f.query.collect, COLLECT_CONNECTIONS);
    cr_assert_eq(f.query.account_number, QUERY_NO_ACCOUNT);
}

Test(query, booleans_have_twelve_spellings)
{
    const char *yes[] = {"1", "t", "T", "TRUE", "true", "True"};
    const char *no[] = {"0", "f", "F", "FALSE", "false", "False", ""};
    char text[32];
    for (size_t i = 0; i < 6; i++) {
        snprintf(text, sizeof text, "auth=%s", yes[i]);
        cr_assert_eq(fixture_query(&f, PAGE_CONNZ, text), ERR_OK);
        cr_assert(f.query.auth);
    }
    for (size_t i = 0; i < 7; i++) {
        snprintf(text, sizeof text, "auth=%s", no[i]);
        cr_assert_eq(fixture_query(&f, PAGE_CONNZ, text), ERR_OK);
        cr_assert_not(f.query.auth);
    }
}

Test(query, errors_read_as_those_of_nats_server)
{
    cr_expect_str_eq(refusal(PAGE_CONNZ, "subs=x"),
                     "Error decoding boolean for 'subs': strconv.ParseBool: parsing \"x\": "
                     "invalid syntax");
    cr_expect_str_eq(refusal(PAGE_CONNZ, "limit=99999999999999999999"),
                     "Error decoding int for 'limit': strconv.Atoi: parsing "
                     "\"99999999999999999999\": value out of range");
    cr_expect_str_eq(refusal(PAGE_CONNZ, "offset=1a"),
                     "Error decoding int for 'offset': strconv.Atoi: parsing \"1a\": "
                     "invalid syntax");
    cr_expect_str_eq(refusal(PAGE_CONNZ, "cid=-1"),
                     "Error decoding uint64 for 'cid': strconv.ParseUint: parsing \"-1\": "
                     "invalid syntax");
    cr_expect_str_eq(refusal(PAGE_CONNZ, "state=fo"), "Error decoding state for fo");
    cr_expect_str_eq(refusal(PAGE_CONNZ, "sort=blah"), "invalid sorting option: blah");
    cr_expect_str_eq(refusal(PAGE_CONNZ, "sort=stop"),
                     "sort by stop only valid on closed connections");
    cr_expect_str_eq(refusal(PAGE_CONNZ, "sort=reason&state=any"),
                     "sort by reason only valid on closed connections");
    cr_expect_str_eq(refusal(PAGE_SUBSZ, "test=a.*"),
                     "invalid test subject, must be valid publish subject: a.*");
    cr_expect_str_eq(refusal(PAGE_ACCSTATZ, "unused=maybe"),
                     "Error decoding boolean for 'unused': strconv.ParseBool: parsing \"maybe\": "
                     "invalid syntax");
    cr_expect_str_eq(refusal(PAGE_METRICS, "prefix=a-b"),
                     "invalid prefix: letters, digits and underscores only");
}

Test(query, the_first_error_in_the_order_of_decoding_is_told)
{
    cr_expect_str_eq(refusal(PAGE_CONNZ, "cid=x&auth=y&sort=z"),
                     "Error decoding boolean for 'auth': strconv.ParseBool: parsing \"y\": "
                     "invalid syntax");
}

Test(query, of_two_parameters_with_one_name_the_first_counts)
{
    cr_assert_eq(fixture_query(&f, PAGE_CONNZ, "limit=3&limit=x"), ERR_OK);
    cr_assert_eq(f.query.limit, 3);
}

Test(query, unknown_parameters_are_ignored)
{
    cr_assert_eq(fixture_query(&f, PAGE_VARZ, "callback=x&auth=maybe"), ERR_OK);
}

Test(query, numbers_reach_both_ends_without_overflow)
{
    cr_assert_eq(fixture_query(&f, PAGE_CONNZ,
                               "offset=9223372036854775807&limit=9223372036854775807"),
                 ERR_OK);
    cr_assert_eq(query_window(&f.query), UINT64_MAX - 1);
    cr_assert_eq(fixture_query(&f, PAGE_CONNZ, "offset=-9223372036854775808&limit=-5"), ERR_OK);
    cr_assert_eq(f.query.offset, 0);
    cr_assert_eq(f.query.limit, 1024);
    cr_expect_str_eq(refusal(PAGE_CONNZ, "offset=9223372036854775808"),
                     "Error decoding int for 'offset': strconv.Atoi: parsing "
                     "\"9223372036854775808\": value out of range");
    cr_assert_eq(fixture_query(&f, PAGE_CONNZ, "cid=18446744073709551615"), ERR_OK);
    cr_assert_eq(f.query.cid, UINT64_MAX);
    cr_assert_eq(f.query.limit, 1, "one connection is one line");
}

Test(query, details_win_over_the_plain_list)
{
    cr_assert_eq(fixture_query(&f, PAGE_CONNZ, "subs=Detail"), ERR_OK);
    cr_assert(f.query.subs_detail);
    cr_assert_not(f.query.subs);
    cr_assert(f.query.collect & COLLECT_CONNECTION_SUBS);
}

Test(query, shards_collect_no_more_than_the_page_shows)
{
    cr_assert_eq(fixture_query(&f, PAGE_VARZ, ""), ERR_OK);
    cr_assert_eq(f.query.collect, COLLECT_JETSTREAM);
    cr_assert_eq(fixture_query(&f, PAGE_JSZ, "accounts=1"), ERR_OK);
    cr_assert_eq(f.query.collect, COLLECT_JETSTREAM | COLLECT_JS_MESSAGES);
    cr_assert_eq(fixture_query(&f, PAGE_JSZ, "consumers=1"), ERR_OK);
    cr_assert_eq(f.query.collect, COLLECT_JETSTREAM | COLLECT_JS_MESSAGES | COLLECT_JS_STREAMS |
                                      COLLECT_JS_CONSUMERS);
    cr_assert_eq(fixture_query(&f, PAGE_HEALTHZ, "account=A&stream=S"), ERR_OK);
    cr_assert_eq(f.query.collect, COLLECT_JETSTREAM | COLLECT_JS_ASSET);
    cr_assert_eq(fixture_query(&f, PAGE_CONNZ, "state=closed"), ERR_OK);
    cr_assert_eq(f.query.collect, COLLECT_CLOSED);
    cr_assert_eq(fixture_query(&f, PAGE_CONNZ, "state=ALL"), ERR_OK);
    cr_assert_eq(f.query.collect, COLLECT_CLOSED | COLLECT_CONNECTIONS);
    cr_assert_eq(fixture_query(&f, PAGE_SUBSZ, ""), ERR_OK);
    cr_assert_eq(f.query.collect, 0);
    cr_assert_eq(fixture_query(&f, PAGE_SUBSZ, "subs=1"), ERR_OK);
    cr_assert_eq(f.query.collect, COLLECT_SUBS);
}

Test(query, texts_outlive_the_request)
{
    char text[] = "acc=A&user=u";
    cr_assert_eq(fixture_query(&f, PAGE_CONNZ, text), ERR_OK);
    memset(text, 'x', sizeof text - 1);
    cr_assert(bytes_equal(f.query.account, BYTES_LITERAL("A")));
    cr_assert(bytes_equal(f.query.user, BYTES_LITERAL("u")));
    cr_assert_eq(f.query.account_number, 5);
}

Test(query, a_query_beyond_its_room_is_refused)
{
    static char long_text[QUERY_TEXT_MAX + 16];
    memset(long_text, 'u', sizeof long_text - 1);
    memcpy(long_text, "user=", 5);
    cr_expect_str_eq(refusal(PAGE_CONNZ, long_text), "query too long");
}

Test(query, paths_name_pages_and_the_old_name_works)
{
    cr_assert_eq(query_page_of_path(BYTES_LITERAL("/")), PAGE_ROOT);
    cr_assert_eq(query_page_of_path(BYTES_LITERAL("/subscriptionsz")), PAGE_SUBSZ);
    cr_assert_eq(query_page_of_path(BYTES_LITERAL("/debug/vars")), PAGE_EXPVARZ);
    cr_assert_eq(query_page_of_path(BYTES_LITERAL("/varz/")), PAGE_NONE);
    cr_assert_eq(query_page_of_path(BYTES_LITERAL("")), PAGE_NONE);
    cr_assert_str_eq(query_path_of_page(PAGE_SUBSZ), "/subsz");
    cr_assert_null(query_path_of_page(PAGE_IDZ));
}
