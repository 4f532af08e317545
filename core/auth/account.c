#include "core/auth/account.h"
#include "core/base/must.h"
#include "core/base/rng.h"

enum { BLOCK_BYTES = 4096, ARRAY_START = 8 };

/* Memory of texts and objects: blocks that live as long as the set. */
struct block {
    struct block *next;
    size_t bytes, used;
    _Alignas(16) char data[];
};

/* Permissions by who compiled them, to be freed with the set. */
struct owned_perms {
    struct owned_perms *next;
    struct perms *perms;
};

struct account_private {
    struct account_numbers *numbers;
    struct block *blocks;
    struct owned_perms *perms;
    struct table users_by_name, users_by_nkey, accounts_by_name;
    struct bytes system_name; /* as set; empty: not set */
    uint32_t account_room, user_room;
    void (*release_mappings)(struct mem *mem, struct mapping_set *m);
};

/* Which block a user came from decides whose default permissions it gets. */
struct user_entry {
    struct user user;
    bool is_of_account;
    bool has_own_permissions;
};

static uint64_t name_hash(struct bytes name)
{
    return hash_bytes(name.data, name.len, 0);
}

/* --- faults --- */

static enum err refuse(struct account_fault *fault, enum err e, const char *before,
                       struct bytes what, bool is_quoted, const char *after)
{
    struct writer w;
    if (fault == NULL) return e;
    writer_init(&w, fault->text, sizeof fault->text - 1);
    writer_text(&w, before);
    if (is_quoted)
        writer_quoted(&w, what);
    else
        writer_bytes(&w, what);
    writer_text(&w, after);
    w.data[w.len] = 0;
    return e;
}

static enum err refuse_plain(struct account_fault *fault, enum err e, const char *text)
{
    return refuse(fault, e, text, bytes_of(NULL, 0), false, "");
}

static enum err no_memory(struct account_fault *fault)
{
    return refuse_plain(fault, ERR_MEMORY, "out of memory");
}

/* --- connection types, bcrypt --- */

enum err account_connection_parse(struct bytes name, uint32_t *bit)
{
    static const struct {
        const char *name;
        enum account_connection bit;
    } rows[] = {
        {"STANDARD", ACCOUNT_STANDARD},       {"WEBSOCKET", ACCOUNT_WEBSOCKET},
        {"LEAFNODE", ACCOUNT_LEAFNODE},       {"LEAFNODE_WS", ACCOUNT_LEAFNODE_WS},
        {"MQTT", ACCOUNT_MQTT},               {"MQTT_WS", ACCOUNT_MQTT_WS},
        {"IN_PROCESS", ACCOUNT_IN_PROCESS},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (!bytes_equal_nocase(name, bytes_from_text(rows[i].name))) continue;
        *bit = rows[i].bit;
        return ERR_OK;
    }
    return ERR_UNKNOWN;
}

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

bool account_is_bcrypt(struct bytes p)
{
    const char *s = p.data;
    if (p.len < 7 || s[0] != '$' || s[1] != '2' || s[3] != '$' || s[6] != '$') return false;
    if (s[2] != 'a' && s[2] != 'b' && s[2] != 'x' && s[2] != 'y') return false;
    return is_digit(s[4]) && is_digit(s[5]);
}

/* --- numbers --- */

struct number_entry {
    struct bytes name;
    uint32_t number;
    char text[];
};

struct account_numbers {
    struct mem *mem;
    struct table by_name;
    struct number_entry **entries;
    uint32_t count, room;
};

enum err account_numbers_open(struct mem *mem, struct account_numbers **out)
{
    uint32_t number;
    struct account_numbers *n = mem_alloc_zero(mem, MEM_CONFIG, sizeof *n);
    if (n == NULL) return ERR_MEMORY;
    n->mem = mem;
    table_init(&n->by_name, mem, MEM_CONFIG);
    if (account_numbers_of(n, BYTES_LITERAL(ACCOUNT_GLOBAL_NAME), &number) != ERR_OK ||
        account_numbers_of(n, BYTES_LITERAL(ACCOUNT_SYSTEM_NAME), &number) != ERR_OK) {
        account_numbers_close(n);
        return ERR_MEMORY;
    }
    must(number == ACCOUNT_SYSTEM);
    *out = n;
    return ERR_OK;
}

void account_numbers_close(struct account_numbers *n)
{
    if (n == NULL) return;
    for (uint32_t i = 0; i < n->count; i++)
        mem_free(n->mem, MEM_CONFIG, n->entries[i],
                 sizeof *n->entries[i] + n->entries[i]->name.len + 1);
    mem_free(n->mem, MEM_CONFIG, n->entries, n->room * sizeof *n->entries);
    table_deinit(&n->by_name);
    mem_free(n->mem, MEM_CONFIG, n, sizeof *n);
}

/* Room for one more pointer in an array of them. */
static enum err grow(struct mem *mem, void *array, uint32_t count, uint32_t *room)
{
    void **at = array;
    uint32_t wanted = *room == 0 ? ARRAY_START : *room * 2;
    if (count < *room) return ERR_OK;
    void *grown = mem_resize(mem, MEM_CONFIG, *at, *room * sizeof(void *),
                             wanted * sizeof(void *));
    if (grown == NULL) return ERR_MEMORY;
    *at = grown;
    *room = wanted;
    return ERR_OK;
}

enum err account_numbers_of(struct account_numbers *n, struct bytes name, uint32_t *number)
{
    uint64_t hash = name_hash(name);
    uint32_t at;
    for (struct number_entry *e = table_first(&n->by_name, hash, &at); e != NULL;
         e = table_next(&n->by_name, hash, &at)) {
        if (!bytes_equal(e->name, name)) continue;
        *number = e->number;
        return ERR_OK;
    }
    if (grow(n->mem, &n->entries, n->count, &n->room) != ERR_OK) return ERR_MEMORY;
    size_t bytes = sizeof(struct number_entry) + name.len + 1;
    struct number_entry *e = mem_alloc_zero(n->mem, MEM_CONFIG, bytes);
    if (e == NULL) return ERR_MEMORY;
    if (name.len > 0) memcpy(e->text, name.data, name.len);
    e->name = bytes_of(e->text, name.len);
    e->number = n->count;
    if (table_insert(&n->by_name, hash, e) != ERR_OK) {
        mem_free(n->mem, MEM_CONFIG, e, bytes);
        return ERR_MEMORY;
    }
    n->entries[n->count++] = e;
    *number = e->number;
    return ERR_OK;
}

struct bytes account_numbers_name(const struct account_numbers *n, uint32_t number)
{
    must(number < n->count);
    return n->entries[number]->name;
}

/* --- the set's memory --- */

/* Zeroed, for the life of the set. NULL: out of memory. */
static void *set_alloc(struct account_set *set, size_t bytes)
{
    struct block *b = set->private->blocks;
    bytes = (bytes + 15) & ~(size_t)15;
    if (b == NULL || b->bytes - b->used < bytes) {
        size_t size = bytes > BLOCK_BYTES ? bytes : BLOCK_BYTES;
        b = mem_alloc_zero(set->mem, MEM_CONFIG, sizeof *b + size);
        if (b == NULL) return NULL;
        b->bytes = size;
        b->next = set->private->blocks;
        set->private->blocks = b;
    }
    void *p = b->data + b->used;
    b->used += bytes;
    return p;
}

/* The empty text never fails and has an address too. */
static enum err set_copy(struct account_set *set, struct bytes from, struct bytes *to)
{
    if (from.len == 0) {
        *to = bytes_of("", 0);
        return ERR_OK;
    }
    char *text = set_alloc(set, from.len + 1);
    if (text == NULL) return ERR_MEMORY;
    memcpy(text, from.data, from.len);
    *to = bytes_of(text, from.len);
    return ERR_OK;
}

static enum err set_add_account(struct account_set *set, struct bytes name, struct account **out)
{
    struct account_private *p = set->private;
    struct bytes copy;
    uint32_t number;
    if (grow(set->mem, &set->accounts, set->account_count, &p->account_room) != ERR_OK)
        return ERR_MEMORY;
    struct account *a = set_alloc(set, sizeof *a);
    if (a == NULL || set_copy(set, name, &copy) != ERR_OK) return ERR_MEMORY;
    if (account_numbers_of(p->numbers, name, &number) != ERR_OK) return ERR_MEMORY;
    if (table_insert(&p->accounts_by_name, name_hash(name), a) != ERR_OK) return ERR_MEMORY;
    *a = (struct account){.name = copy, .nkey = bytes_of("", 0), .number = number,
                          .limits = {-1, -1, -1, -1},
                          .jetstream = account_jetstream_open(false)};
    set->accounts[set->account_count++] = a;
    *out = a;
    return ERR_OK;
}

enum err account_set_open(struct mem *mem, struct account_numbers *numbers,
                          struct account_set **out)
{
    struct account *a;
    struct account_set *set = mem_alloc_zero(mem, MEM_CONFIG, sizeof *set);
    if (set == NULL) return ERR_MEMORY;
    set->mem = mem;
    set->system = UINT32_MAX;
    set->private = mem_alloc_zero(mem, MEM_CONFIG, sizeof *set->private);
    if (set->private == NULL) {
        mem_free(mem, MEM_CONFIG, set, sizeof *set);
        return ERR_MEMORY;
    }
    set->private->numbers = numbers;
    table_init(&set->private->users_by_name, mem, MEM_CONFIG);
    table_init(&set->private->users_by_nkey, mem, MEM_CONFIG);
    table_init(&set->private->accounts_by_name, mem, MEM_CONFIG);
    struct bytes empty = bytes_of("", 0);
    set->single = (struct user){.name = empty, .password = empty, .nkey = empty};
    set->token = set->no_auth_user = set->decoy_bcrypt = empty;
    set->private->system_name = empty;
    if (set_add_account(set, BYTES_LITERAL(ACCOUNT_GLOBAL_NAME), &a) != ERR_OK ||
        set_add_account(set, BYTES_LITERAL(ACCOUNT_SYSTEM_NAME), &a) != ERR_OK) {
        account_set_close(set);
        return ERR_MEMORY;
    }
    *out = set;
    return ERR_OK;
}

void account_set_close(struct account_set *set)
{
    if (set == NULL) return;
    struct mem *mem = set->mem;
    struct account_private *p = set->private;
    for (uint32_t i = 0; i < set->account_count; i++) {
        struct mapping_set *m = set->accounts[i]->mappings;
        if (m != NULL && p->release_mappings != NULL) p->release_mappings(mem, m);
    }
    for (struct owned_perms *o = p->perms; o != NULL; o = o->next) perms_free(mem, o->perms);
    table_deinit(&p->users_by_name);
    table_deinit(&p->users_by_nkey);
    table_deinit(&p->accounts_by_name);
    mem_free(mem, MEM_CONFIG, set->accounts, p->account_room * sizeof *set->accounts);
    mem_free(mem, MEM_CONFIG, set->users, p->user_room * sizeof *set->users);
    for (struct block *b = p->blocks, *next; b != NULL; b = next) {
        next = b->next;
        /* Passwords are in here. */
        memset(b->data, 0, b->used);
        __asm__ volatile("" : : "r"(b->data) : "memory");
        mem_free(mem, MEM_CONFIG, b, sizeof *b + b->bytes);
    }
    mem_free(mem, MEM_CONFIG, p, sizeof *p);
    mem_free(mem, MEM_CONFIG, set, sizeof *set);
}

/* --- looking up --- */

static struct account *find_account(const struct account_set *set, struct bytes name)
{
    uint64_t hash = name_hash(name);
    uint32_t at;
    for (struct account *a = table_first(&set->private->accounts_by_name, hash, &at); a != NULL;
         a = table_next(&set->private->accounts_by_name, hash, &at))
        if (bytes_equal(a->name, name)) return a;
    return NULL;
}

const struct account *account_set_find(const struct account_set *set, struct bytes name)
{
    return find_account(set, name);
}

const struct account *account_set_by_number(const struct account_set *set, uint32_t number)
{
    /* Not through the numbers: a load on another thread may be adding to them. */
    for (uint32_t i = 0; i < set->account_count; i++)
        if (set->accounts[i]->number == number) return set->accounts[i];
    return NULL;
}

const struct user *account_set_user(const struct account_set *set, struct bytes name)
{
    uint64_t hash = name_hash(name);
    uint32_t at;
    for (const struct user *u = table_first(&set->private->users_by_name, hash, &at); u != NULL;
         u = table_next(&set->private->users_by_name, hash, &at))
        if (bytes_equal(u->name, name)) return u;
    return NULL;
}

const struct user *account_set_user_by_nkey(const struct account_set *set, struct bytes nkey)
{
    uint64_t hash = name_hash(nkey);
    uint32_t at;
    for (const struct user *u = table_first(&set->private->users_by_nkey, hash, &at); u != NULL;
         u = table_next(&set->private->users_by_nkey, hash, &at))
        if (bytes_equal(u->nkey, nkey)) return u;
    return NULL;
}

/* --- building --- */

struct account_jetstream account_jetstream_open(bool is_on)
{
    return (struct account_jetstream){.is_on = is_on,
                                      .max_memory = -1,
                                      .max_storage = -1,
                                      .max_streams = -1,
                                      .max_consumers = -1,
                                      .max_ack_pending = -1,
                                      .memory_max_stream_bytes = -1,
                                      .storage_max_stream_bytes = -1};
}

enum err account_add(struct account_set *set, struct bytes name, struct account **out,
                     struct account_fault *fault)
{
    must(!set->is_sealed);
    if (bytes_equal(name, BYTES_LITERAL(ACCOUNT_GLOBAL_NAME)))
        return refuse(fault, ERR_DENIED, "", name, true, " is a Reserved Account");
    struct account *a = find_account(set, name);
    if (a != NULL && a->is_configured)
        return refuse(fault, ERR_EXISTS, "Duplicate Account Entry: ", name, false, "");
    if (a == NULL && set_add_account(set, name, &a) != ERR_OK) return no_memory(fault);
    a->is_configured = true;
    *out = a;
    return ERR_OK;
}

enum err account_set_nkey(struct account_set *set, struct account *a, struct bytes nkey,
                          struct account_fault *fault)
{
    must(!set->is_sealed);
    if (!nkey_is_valid(NKEY_ACCOUNT, nkey))
        return refuse(fault, ERR_INVALID, "Not a valid public nkey for an account: ", nkey, true,
                      "");
    return set_copy(set, nkey, &a->nkey) == ERR_OK ? ERR_OK : no_memory(fault);
}

enum err account_set_compile(struct account_set *set, const struct perms_spec *spec,
                             const struct perms **out, struct account_fault *fault)
{
    struct perms_fault why;
    struct perms *p;
    must(!set->is_sealed);
    struct owned_perms *o = set_alloc(set, sizeof *o);
    if (o == NULL) return no_memory(fault);
    enum err e = perms_compile(set->mem, spec, &p, &why);
    if (e == ERR_MEMORY) return no_memory(fault);
    if (e != ERR_OK) return refuse_plain(fault, e, why.text);
    *o = (struct owned_perms){.next = set->private->perms, .perms = p};
    set->private->perms = o;
    *out = p;
    return ERR_OK;
}

void account_set_own_mappings(struct account_set *set,
                              void (*release)(struct mem *mem, struct mapping_set *m))
{
    set->private->release_mappings = release;
}

/* Names and nkeys share one space: no_auth_user may mean either. */
static bool is_user_known(const struct account_set *set, struct bytes id)
{
    return account_set_user(set, id) != NULL || account_set_user_by_nkey(set, id) != NULL;
}

static enum err check_user(const struct account_set *set, const struct account_user_spec *spec,
                           struct account_fault *fault)
{
    bool is_nkey = spec->nkey.len > 0;
    if (!is_nkey && spec->name.len == 0)
        return refuse_plain(fault, ERR_INVALID, "User entry requires a user");
    if (is_nkey && !nkey_is_valid(NKEY_USER, spec->nkey))
        return refuse_plain(fault, ERR_INVALID, "Not a valid public nkey for a user");
    if (is_nkey && (spec->name.len > 0 || spec->password.len > 0))
        return refuse_plain(fault, ERR_INVALID, "Nkey users do not take usernames or passwords");
    if (set->single.name.len > 0)
        return refuse_plain(fault, ERR_INVALID,
                            spec->account == NULL
                                ? "Can not have a single user/pass and a users array"
                                : "Can not have a single user/pass and accounts");
    if (set->token.len > 0)
        return refuse_plain(fault, ERR_INVALID,
                            spec->account == NULL ? "Can not have a token and a users array"
                                                  : "Can not have a token and accounts");
    if (is_nkey && is_user_known(set, spec->nkey))
        return refuse(fault, ERR_EXISTS, "Duplicate nkey ", spec->nkey, true, " detected");
    if (!is_nkey && is_user_known(set, spec->name))
        return refuse(fault, ERR_EXISTS, "Duplicate user ", spec->name, true, " detected");
    return ERR_OK;
}

static enum err add_user(struct account_set *set, const struct account_user_spec *spec,
                         struct user_entry **out)
{
    struct account_private *p = set->private;
    bool is_nkey = spec->nkey.len > 0;
    if (grow(set->mem, &set->users, set->user_count, &p->user_room) != ERR_OK) return ERR_MEMORY;
    struct user_entry *e = set_alloc(set, sizeof *e);
    if (e == NULL) return ERR_MEMORY;
    struct user *u = &e->user;
    if (set_copy(set, spec->name, &u->name) != ERR_OK ||
        set_copy(set, spec->password, &u->password) != ERR_OK ||
        set_copy(set, spec->nkey, &u->nkey) != ERR_OK)
        return ERR_MEMORY;
    if (is_nkey) must(nkey_decode_as(NKEY_USER, spec->nkey, u->nkey_raw) == ERR_OK);
    u->account = spec->account == NULL ? ACCOUNT_GLOBAL : spec->account->number;
    u->allowed_connections = spec->allowed_connections;
    u->is_bcrypt = account_is_bcrypt(u->password);
    u->is_proxy_required = spec->is_proxy_required;
    u->permissions = spec->permissions;
    e->is_of_account = spec->account != NULL;
    e->has_own_permissions = spec->permissions != NULL;
    struct table *table = is_nkey ? &p->users_by_nkey : &p->users_by_name;
    if (table_insert(table, name_hash(is_nkey ? u->nkey : u->name), u) != ERR_OK)
        return ERR_MEMORY;
    set->users[set->user_count++] = u;
    *out = e;
    return ERR_OK;
}

enum err account_set_add_user(struct account_set *set, const struct account_user_spec *spec,
                              struct account_fault *fault)
{
    struct user_entry *added;
    must(!set->is_sealed);
    enum err e = check_user(set, spec, fault);
    if (e != ERR_OK) return e;
    return add_user(set, spec, &added) == ERR_OK ? ERR_OK : no_memory(fault);
}

enum err account_set_authorize(struct account_set *set, const struct account_authorization *a,
                               struct account_fault *fault)
{
    must(!set->is_sealed);
    bool has_users = a->has_users || set->user_count > 0;
    if ((a->user.len > 0 || a->password.len > 0) && a->token.len > 0)
        return refuse_plain(fault, ERR_INVALID, "Cannot have a user/pass and token");
    if (has_users && a->user.len > 0)
        return refuse_plain(fault, ERR_INVALID,
                            "Can not have a single user/pass and a users array");
    if (has_users && a->token.len > 0)
        return refuse_plain(fault, ERR_INVALID, "Can not have a token and a users array");
    struct bytes user, password, token;
    if (set_copy(set, a->user, &user) != ERR_OK ||
        set_copy(set, a->password, &password) != ERR_OK ||
        set_copy(set, a->token, &token) != ERR_OK)
        return no_memory(fault);
    set->single.name = user;
    set->single.password = password;
    set->single.is_bcrypt = account_is_bcrypt(password);
    set->token = token;
    set->is_token_bcrypt = account_is_bcrypt(token);
    set->default_permissions = a->default_permissions;
    return ERR_OK;
}

enum err account_set_system(struct account_set *set, struct bytes name)
{
    must(!set->is_sealed);
    return set_copy(set, name, &set->private->system_name);
}

enum err account_set_no_auth_user(struct account_set *set, struct bytes name)
{
    must(!set->is_sealed);
    return set_copy(set, name, &set->no_auth_user);
}

/* --- sealing --- */

static enum err seal_no_auth_user(struct account_set *set, struct account_fault *fault)
{
    struct bytes name = set->no_auth_user;
    if (name.len == 0) return ERR_OK;
    if (set->user_count == 0)
        return refuse(fault, ERR_UNKNOWN, "no_auth_user: \"", name, false,
                      "\" present, but users/nkeys are not defined");
    set->no_auth = account_set_user(set, name);
    if (set->no_auth == NULL) set->no_auth = account_set_user_by_nkey(set, name);
    if (set->no_auth == NULL)
        return refuse(fault, ERR_UNKNOWN, "no_auth_user: \"", name, false,
                      "\" not present as user or nkey in authorization block or account "
                      "configuration");
    return ERR_OK;
}

static enum err seal_system(struct account_set *set, struct account_fault *fault)
{
    struct bytes name = set->private->system_name;
    struct account *a;
    if (name.len > 0) {
        a = find_account(set, name);
        /* $SYS is always there, but naming it means one that the file defines. */
        if (a == NULL || (!a->is_configured && a->number != ACCOUNT_GLOBAL))
            return refuse_plain(fault, ERR_UNKNOWN,
                                "error resolving system account: account missing");
    } else {
        a = find_account(set, BYTES_LITERAL(ACCOUNT_SYSTEM_NAME));
        must(a != NULL);
        if (set->no_system_account && !a->is_configured) return ERR_OK;
    }
    a->is_system = true;
    set->system = a->number;
    return ERR_OK;
}

static uint32_t configured_count(const struct account_set *set)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < set->account_count; i++) count += set->accounts[i]->is_configured;
    return count;
}

/* A file that only adds a system account must not lock the clients of $G out, and must not let
 * them in as anybody but $G either. So, as nats-server does, when no authorization block, no
 * no_auth_user and no other account is there, an internal user of $G takes those that bring no
 * credentials; whoever brings some is checked. */
static enum err seal_lone_system(struct account_set *set, uint64_t seed,
                                 struct account_fault *fault)
{
    bool is_named = set->private->system_name.len > 0 ||
                    find_account(set, BYTES_LITERAL(ACCOUNT_SYSTEM_NAME))->is_configured;
    if (!is_named || configured_count(set) != 1 || set->no_auth_user.len > 0 ||
        set->is_authorization_defined || set->single.name.len > 0 || set->token.len > 0)
        return ERR_OK;

    char name[13] = "nats-", password[16];
    struct rng rng;
    rng_init(&rng, seed);
    do {
        rng_text(&rng, name + 5, sizeof name - 5);
    } while (is_user_known(set, bytes_of(name, sizeof name)));
    rng_text(&rng, password, sizeof password);
    struct account_user_spec spec = {.name = bytes_of(name, sizeof name),
                                     .password = bytes_of(password, sizeof password)};
    struct user_entry *added;
    if (add_user(set, &spec, &added) != ERR_OK) return no_memory(fault);
    added->user.is_internal = true;
    set->no_auth = &added->user;
    set->no_auth_user = added->user.name;
    return ERR_OK;
}

/* Without accounts of the file everybody's is $G, and there JetStream is. */
static void seal_jetstream(struct account_set *set)
{
    bool has_others = false;
    for (uint32_t i = 0; i < set->account_count; i++) {
        const struct account *a = set->accounts[i];
        has_others |= a->number != ACCOUNT_GLOBAL && a->number != set->system && a->is_configured;
    }
    struct account *global = set->accounts[0];
    if (!has_others && !global->is_system) global->jetstream = account_jetstream_open(true);
}

static void seal_users(struct account_set *set)
{
    for (uint32_t i = 0; i < set->user_count; i++) {
        struct user *u = set->users[i];
        struct user_entry *e = (struct user_entry *)(void *)u;
        const struct account *a = account_set_by_number(set, u->account);
        must(a != NULL);
        find_account(set, a->name)->user_count++;
        if (!e->has_own_permissions && !u->is_internal)
            u->permissions = e->is_of_account ? a->default_permissions : set->default_permissions;
        set->name_user_count += u->name.len > 0;
        if (u->is_bcrypt && set->decoy_bcrypt.len == 0) set->decoy_bcrypt = u->password;
        if (u->nkey.len > 0)
            set->nonce_required = true;
        else if (!u->is_bcrypt && !u->is_internal)
            set->has_plain_passwords = true;
    }
    if (set->single.password.len > 0 && !set->single.is_bcrypt) set->has_plain_passwords = true;
    if (set->single.is_bcrypt) set->decoy_bcrypt = set->single.password;
}

enum err account_set_seal(struct account_set *set, uint64_t seed, struct account_fault *fault)
{
    must(!set->is_sealed);
    enum err e = seal_no_auth_user(set, fault);
    if (e == ERR_OK) e = seal_system(set, fault);
    if (e == ERR_OK) e = seal_lone_system(set, seed, fault);
    if (e != ERR_OK) return e;
    seal_users(set);
    seal_jetstream(set);

    if (set->user_count > 0)
        set->mode = ACCOUNT_MODE_USERS;
    else if (set->token.len > 0)
        set->mode = ACCOUNT_MODE_TOKEN;
    else if (set->single.name.len > 0)
        set->mode = ACCOUNT_MODE_SINGLE;
    must(set->mode == ACCOUNT_MODE_USERS ||
         set->user_count == 0); /* account_set_authorize keeps them apart */
    set->auth_required = set->mode != ACCOUNT_MODE_NONE;
    /* The internal user is no promise to clients: INFO asks them for credentials. */
    set->info_auth_required =
        set->auth_required && (set->no_auth == NULL || set->no_auth->is_internal);
    set->is_sealed = true;
    return ERR_OK;
}
