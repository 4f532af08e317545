/* CONNECT from the wire: JSON, fields, verdict. The first byte picks the kind of connection, the
 * rest is the text. Whatever comes in, nothing leaks and nobody is let in without a reason that
 * can be named: a password or token that is part of the input, or no_auth_user. */
#include <stdint.h>
#include <stdlib.h>
#include "core/auth/login.h"
#include "core/base/json.h"
#include "core/base/must.h"
#include "tests/support/mem_heap.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void add_user(struct account_set *set, const char *name, const char *password,
                     const char *nkey, uint32_t connections)
{
    struct account_fault fault;
    struct account_user_spec spec = {.name = bytes_from_text(name),
                                     .password = bytes_from_text(password),
                                     .nkey = bytes_from_text(nkey),
                                     .allowed_connections = connections};
    must(account_set_add_user(set, &spec, &fault) == ERR_OK);
}

static void check(const struct account_set *set, const struct login_options *o,
                  struct login_facts *facts)
{
    struct login l;
    login_begin(set, o, facts, &l);
    if (l.verdict == LOGIN_CRYPTO) {
        must(l.job.password_len <= LOGIN_PASSWORD_BYTES_MAX);
        must(l.job.hash_len <= LOGIN_HASH_BYTES_MAX);
        login_finish(&l, false);
        must(l.verdict == LOGIN_REFUSED);
        return;
    }
    if (l.verdict == LOGIN_REFUSED) {
        must(l.user == NULL && l.permissions == NULL && l.account == ACCOUNT_GLOBAL);
        return;
    }
    must(o->account.len == 0 && !o->new_account);
    must(l.user != NULL && l.user->nkey.len == 0);
    must(l.user->allowed_connections == 0 ||
         (l.user->allowed_connections & facts->connection) != 0);
    if (l.user == set->no_auth && o->user.len + o->pass.len + o->auth_token.len == 0) return;
    must(facts->tls_map || bytes_equal(o->user, l.user->name));
    must(bytes_equal(o->pass, l.user->password));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mem_heap heap;
    struct account_numbers *numbers;
    struct account_set *set;
    struct account_fault fault;
    struct json_fault json_fault;
    struct login_options o;
    if (size == 0) return 0;
    mem_heap_init(&heap);
    json_init(1);
    must(account_numbers_open(&heap.mem, &numbers) == ERR_OK);
    must(account_set_open(&heap.mem, numbers, &set) == ERR_OK);
    add_user(set, "a", "secret", "", 0);
    add_user(set, "b", "$2a$04$abcdefghijklmnopqrstuuHIrMEWpUCQe2YqFR3sXwQ75u4od..9q", "", 0);
    add_user(set, "ws", "secret", "", ACCOUNT_WEBSOCKET);
    add_user(set, "", "", "UAAACAQDAQCQMBYIBEFAWDANBYHRAEISCMKBKFQXDAMRUGY4DUPB63NN", 0);
    if (data[0] & 1) must(account_set_no_auth_user(set, BYTES_LITERAL("ws")) == ERR_OK);
    must(account_set_seal(set, 1, &fault) == ERR_OK);

    struct bytes email = BYTES_LITERAL("a");
    struct login_tls tls = {.emails = &email, .email_count = 1};
    struct login_facts facts = {
        .connection = data[0] & 2 ? ACCOUNT_WEBSOCKET : ACCOUNT_STANDARD,
        .tls_map = (data[0] & 4) != 0,
        .tls = data[0] & 8 ? &tls : NULL,
        .nonce = BYTES_LITERAL("abcdefghijklmno"),
    };
    struct bytes text = bytes_of((const char *)data + 1, size - 1);
    login_options_init(&o);
    enum err e = login_options_read(&heap.mem, text, &o, &json_fault);
    if (e == ERR_OK) {
        check(set, &o, &facts);
        login_options_forget(&heap.mem, &o);
        must(login_options_read(&heap.mem, text, &o, NULL) == ERR_OK);
    } else {
        must(o.kept == NULL && o.secret == NULL);
    }
    login_options_free(&heap.mem, &o);
    account_set_close(set);
    account_numbers_close(numbers);
    must(heap.live_count == 0);
    return 0;
}
