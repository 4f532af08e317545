#include <criterion/criterion.h>
#include "core/auth/account.h"
#include "core/base/must.h"
#include "tests/support/mem_heap.h"

static const char *const user_key = "UAAACAQDAQCQMBYIBEFAWDANBYHRAEISCMKBKFQXDAMRUGY4DUPB63NN";
static const char *const account_key = "AAAACAQDAQCQMBYIBEFAWDANBYHRAEISCMKBKFQXDAMRUGY4DUPB776S";

static struct mem_heap heap;
static struct account_numbers *numbers;
static struct account_set *set;
static struct account_fault fault;

static void start(void)
{
    mem_heap_init(&heap);
    cr_assert_eq(account_numbers_open(&heap.mem, &numbers), ERR_OK);
    cr_assert_eq(account_set_open(&heap.mem, numbers, &set), ERR_OK);
}

static void finish(void)
{
    account_set_close(set);
    account_numbers_close(numbers);
    must(heap.live_count == 0);
}

TestSuite(account, .init = start, .fini = finish);

static enum err add_user(const char *name, const char *password, struct account *a)
{
    struct account_user_spec spec = {.name = bytes_from_text(name),
                                     .password = bytes_from_text(password),
                                     .account = a};
    return account_set_add_user(set, &spec, &fault);
}

static enum err add_nkey(const char *nkey, const char *password)
{
    struct account_user_spec spec = {.nkey = bytes_from_text(nkey),
                                     .password = bytes_from_text(password)};
    return account_set_add_user(set, &spec, &fault);
}

static enum err authorize(const char *user, const char *password, const char *token, bool users)
{
    struct account_authorization a = {.user = bytes_from_text(user),
                                      .password = bytes_from_text(password),
                                      .token = bytes_from_text(token),
                                      .has_users = users};
    set->is_authorization_defined = true;
    return account_set_authorize(set, &a, &fault);
}

static struct account *add_account(const char *name)
{
    struct account *a = NULL;
    cr_assert_eq(account_add(set, bytes_from_text(name), &a, &fault), ERR_OK);
    return a;
}

static enum err seal(void)
{
    return account_set_seal(set, 11, &fault);
}

Test(account, nothing_configured_asks_for_nothing)
{
    cr_assert_eq(seal(), ERR_OK);
    cr_assert_eq(set->mode, ACCOUNT_MODE_NONE);
    cr_assert(!set->auth_required && !set->info_auth_required && !set->nonce_required);
    cr_assert_eq(set->accounts[0]->number, ACCOUNT_GLOBAL);
    cr_assert_eq(set->system, ACCOUNT_SYSTEM);
    cr_assert_eq(account_set_find(set, BYTES_LITERAL("$SYS"))->is_system, true);
    cr_assert_eq(account_set_by_number(set, 0)->limits.max_connections, -1);
}

Test(account, numbers_stay_with_their_names_over_reloads)
{
    uint32_t a = add_account("A")->number;
    add_account("B");
    struct account_set *next;
    struct account *b, *again;
    cr_assert_eq(account_set_open(&heap.mem, numbers, &next), ERR_OK);
    cr_assert_eq(account_add(next, BYTES_LITERAL("B"), &b, &fault), ERR_OK);
    cr_assert_eq(account_add(next, BYTES_LITERAL("A"), &again, &fault), ERR_OK);
    cr_assert_eq(a, 2);
    cr_assert_eq(b->number, 3);
    cr_assert_eq(again->number, 2);
    cr_assert(bytes_equal(account_numbers_name(numbers, 3), BYTES_LITERAL("B")));
    account_set_close(next);
}

Test(account, reserved_and_double_accounts_are_refused)
{
    struct account *a;
    cr_assert_eq(account_add(set, BYTES_LITERAL("$G"), &a, &fault), ERR_DENIED);
    cr_assert_str_eq(fault.text, "\"$G\" is a Reserved Account");
    add_account("A");
    cr_assert_eq(account_add(set, BYTES_LITERAL("A"), &a, &fault), ERR_EXISTS);
    cr_assert_str_eq(fault.text, "Duplicate Account Entry: A");
    add_account("$SYS");
    cr_assert_eq(account_add(set, BYTES_LITERAL("$SYS"), &a, &fault), ERR_EXISTS);
    cr_assert_eq(account_set_nkey(set, add_account("B"), BYTES_LITERAL("foo"), &fault),
                 ERR_INVALID);
    cr_assert_str_eq(fault.text, "Not a valid public nkey for an account: \"foo\"");
    cr_assert_eq(account_set_nkey(set, add_account("C"), bytes_from_text(account_key), &fault),
                 ERR_OK);
}

Test(account, bad_users_are_refused_with_the_texts_of_nats_server)
{
    cr_assert_eq(add_user("", "x", NULL), ERR_INVALID);
    cr_assert_str_eq(fault.text, "User entry requires a user");
    cr_assert_eq(add_nkey("UA", ""), ERR_INVALID);
    cr_assert_str_eq(fault.text, "Not a valid public nkey for a user");
    cr_assert_eq(add_nkey(account_key, ""), ERR_INVALID);
    cr_assert_eq(add_nkey(user_key, "x"), ERR_INVALID);
    cr_assert_str_eq(fault.text, "Nkey users do not take usernames or passwords");
    cr_assert_eq(add_nkey(user_key, ""), ERR_OK);
    cr_assert_eq(add_nkey(user_key, ""), ERR_EXISTS);
    cr_assert(strstr(fault.text, "Duplicate nkey \"UAAA") == fault.text);
    cr_assert_eq(add_user("a", "x", NULL), ERR_OK);
    cr_assert_eq(add_user("a", "x", add_account("A")), ERR_EXISTS);
    cr_assert_str_eq(fault.text, "Duplicate user \"a\" detected");
}

Test(account, modes_do_not_mix)
{
    cr_assert_eq(authorize("a", "b", "t", false), ERR_INVALID);
    cr_assert_str_eq(fault.text, "Cannot have a user/pass and token");
    cr_assert_eq(authorize("a", "b", "", true), ERR_INVALID);
    cr_assert_str_eq(fault.text, "Can not have a single user/pass and a users array");
    cr_assert_eq(authorize("", "", "t", true), ERR_INVALID);
    cr_assert_str_eq(fault.text, "Can not have a token and a users array");
    cr_assert_eq(authorize("a", "b", "", false), ERR_OK);
    cr_assert_eq(add_user("x", "x", add_account("A")), ERR_INVALID);
    cr_assert_str_eq(fault.text, "Can not have a single user/pass and accounts");
    cr_assert_eq(authorize("", "", "t", false), ERR_OK);
    cr_assert_eq(add_user("x", "x", add_account("B")), ERR_INVALID);
    cr_assert_str_eq(fault.text, "Can not have a token and accounts");
}

Test(account, users_of_accounts_may_come_before_the_authorization_block)
{
    cr_assert_eq(add_user("x", "x", add_account("A")), ERR_OK);
    cr_assert_eq(authorize("a", "b", "", false), ERR_INVALID);
    cr_assert_str_eq(fault.text, "Can not have a single user/pass and a users array");
}

Test(account, no_auth_user_must_be_there)
{
    cr_assert_eq(account_set_no_auth_user(set, BYTES_LITERAL("x")), ERR_OK);
    cr_assert_eq(seal(), ERR_UNKNOWN);
    cr_assert_str_eq(fault.text, "no_auth_user: \"x\" present, but users/nkeys are not defined");
    cr_assert_eq(add_user("y", "y", NULL), ERR_OK);
    cr_assert_eq(seal(), ERR_UNKNOWN);
    cr_assert_str_eq(fault.text, "no_auth_user: \"x\" not present as user or nkey in "
                                 "authorization block or account configuration");
    cr_assert_eq(add_user("x", "x", NULL), ERR_OK);
    cr_assert_eq(seal(), ERR_OK);
    cr_assert(set->auth_required);
    cr_assert(!set->info_auth_required);
    cr_assert(bytes_equal(set->no_auth->name, BYTES_LITERAL("x")));
}

Test(account, an_unknown_system_account_is_refused)
{
    cr_assert_eq(account_set_system(set, BYTES_LITERAL("$SYS")), ERR_OK);
    cr_assert_eq(seal(), ERR_UNKNOWN);
    cr_assert_str_eq(fault.text, "error resolving system account: account missing");
}

Test(account, default_permissions_go_to_users_without_their_own)
{
    struct bytes subject = BYTES_LITERAL("a"), other = BYTES_LITERAL("b");
    struct perms_spec spec = {.publish_allow = {&subject, 1}}, own = {.publish_allow = {&other, 1}};
    struct account_authorization authorization = {.has_users = true};
    struct account *a = add_account("A");
    struct account_user_spec with_own = {.name = BYTES_LITERAL("own")};
    cr_assert_eq(account_set_compile(set, &spec, &authorization.default_permissions, &fault),
                 ERR_OK);
    cr_assert_eq(account_set_compile(set, &own, &with_own.permissions, &fault), ERR_OK);
    cr_assert_eq(account_set_add_user(set, &with_own, &fault), ERR_OK);
    cr_assert_eq(add_user("plain", "x", NULL), ERR_OK);
    cr_assert_eq(add_user("inside", "x", a), ERR_OK);
    cr_assert_eq(account_set_authorize(set, &authorization, &fault), ERR_OK);
    cr_assert_eq(account_set_compile(set, &own, &a->default_permissions, &fault), ERR_OK);
    cr_assert_eq(seal(), ERR_OK);
    cr_assert_eq(account_set_user(set, BYTES_LITERAL("own"))->permissions, with_own.permissions);
    cr_assert_eq(account_set_user(set, BYTES_LITERAL("plain"))->permissions,
                 authorization.default_permissions);
    cr_assert_eq(account_set_user(set, BYTES_LITERAL("inside"))->permissions,
                 a->default_permissions);
    cr_assert_eq(a->user_count, 1);
    cr_assert_eq(account_set_by_number(set, 0)->user_count, 2);
}

Test(account, bcrypt_is_told_by_its_prefix)
{
    cr_assert(account_is_bcrypt(BYTES_LITERAL("$2a$11$abc")));
    cr_assert(account_is_bcrypt(BYTES_LITERAL("$2y$04$")));
    cr_assert(!account_is_bcrypt(BYTES_LITERAL("$2c$11$abc")));
    cr_assert(!account_is_bcrypt(BYTES_LITERAL("$2a$1x$abc")));
    cr_assert(!account_is_bcrypt(BYTES_LITERAL("$2a$11")));
    cr_assert(!account_is_bcrypt(BYTES_LITERAL("x$2a$11$abc")));
    cr_assert_eq(add_user("a", "$2a$11$abc", NULL), ERR_OK);
    cr_assert_eq(seal(), ERR_OK);
    cr_assert(!set->has_plain_passwords);
    cr_assert(bytes_equal(set->decoy_bcrypt, BYTES_LITERAL("$2a$11$abc")));
}

Test(account, connection_types_are_known_in_any_case)
{
    uint32_t bit = 0;
    cr_assert_eq(account_connection_parse(BYTES_LITERAL("standard"), &bit), ERR_OK);
    cr_assert_eq(bit, ACCOUNT_STANDARD);
    cr_assert_eq(account_connection_parse(BYTES_LITERAL("LeafNode_WS"), &bit), ERR_OK);
    cr_assert_eq(bit, ACCOUNT_LEAFNODE_WS);
    cr_assert_eq(account_connection_parse(BYTES_LITERAL("foo"), &bit), ERR_UNKNOWN);
}

/* CVE-2023-47090: adding a system account alone switched authorization off. The table is what
 * nats-server 2.15.2 does: who may come in without credentials, and as whom. */
Test(account, a_lone_system_account_gets_an_internal_user_for_g)
{
    add_account("SYS");
    cr_assert_eq(account_set_system(set, BYTES_LITERAL("SYS")), ERR_OK);
    cr_assert_eq(add_user("admin", "x", NULL), ERR_OK);
    cr_assert_eq(seal(), ERR_OK);
    cr_assert(set->auth_required);
    cr_assert(set->info_auth_required, "INFO does not tell of the internal user");
    cr_assert(set->no_auth->is_internal);
    cr_assert_eq(set->no_auth->account, ACCOUNT_GLOBAL);
    cr_assert(bytes_starts_with(set->no_auth->name, BYTES_LITERAL("nats-")));
    cr_assert_eq(set->no_auth->name.len, 13);
    cr_assert_gt(set->system, 1);
}

Test(account, the_internal_user_keeps_its_name_for_one_seed)
{
    struct account_set *next;
    struct account *sys;
    add_account("$SYS");
    cr_assert_eq(seal(), ERR_OK);
    cr_assert_eq(account_set_open(&heap.mem, numbers, &next), ERR_OK);
    cr_assert_eq(account_add(next, BYTES_LITERAL("$SYS"), &sys, &fault), ERR_OK);
    cr_assert_eq(account_set_seal(next, 11, &fault), ERR_OK);
    cr_assert(bytes_equal(set->no_auth->name, next->no_auth->name));
    account_set_close(next);
}

Test(account, no_internal_user_beside_an_authorization_block)
{
    add_account("SYS");
    cr_assert_eq(account_set_system(set, BYTES_LITERAL("SYS")), ERR_OK);
    cr_assert_eq(authorize("", "", "", false), ERR_OK);
    cr_assert_eq(seal(), ERR_OK);
    cr_assert_null(set->no_auth);
}

Test(account, no_internal_user_beside_a_token_or_user_of_the_flags)
{
    add_account("SYS");
    cr_assert_eq(account_set_system(set, BYTES_LITERAL("SYS")), ERR_OK);
    cr_assert_eq(authorize("", "", "t", false), ERR_OK);
    set->is_authorization_defined = false;
    cr_assert_eq(seal(), ERR_OK);
    cr_assert_null(set->no_auth);
    cr_assert_eq(set->mode, ACCOUNT_MODE_TOKEN);
}

Test(account, no_internal_user_beside_another_account)
{
    add_account("SYS");
    add_account("A");
    cr_assert_eq(account_set_system(set, BYTES_LITERAL("SYS")), ERR_OK);
    cr_assert_eq(add_user("admin", "x", NULL), ERR_OK);
    cr_assert_eq(seal(), ERR_OK);
    cr_assert_null(set->no_auth);
    cr_assert(set->auth_required && set->info_auth_required);
}

Test(account, running_out_of_memory_anywhere_leaves_nothing_behind)
{
    for (uint64_t n = 1; n < 60; n++) {
        struct account_numbers *ns = NULL;
        struct account_set *s = NULL;
        struct account *a = NULL;
        uint64_t live = heap.live_count;
        heap.alloc_count = 0;
        heap.fail_at = n;
        enum err e = account_numbers_open(&heap.mem, &ns);
        if (e == ERR_OK) e = account_set_open(&heap.mem, ns, &s);
        if (e == ERR_OK) e = account_add(s, BYTES_LITERAL("A"), &a, &fault);
        for (uint32_t i = 0; i < 20 && e == ERR_OK; i++) {
            char name[BYTES_U64_TEXT_MAX];
            struct account_user_spec spec = {.name = bytes_of(name, bytes_u64_text(name, i)),
                                             .account = a};
            e = account_set_add_user(s, &spec, &fault);
        }
        if (e == ERR_OK) e = account_set_seal(s, 1, &fault);
        heap.fail_at = 0;
        account_set_close(s);
        account_numbers_close(ns);
        cr_assert_eq(heap.live_count, live);
        if (e == ERR_OK) {
            cr_assert_gt(n, 8);
            return;
        }
        cr_assert_eq(e, ERR_MEMORY);
    }
    cr_assert_fail("never enough memory");
}
