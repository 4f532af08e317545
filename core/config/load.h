/* The value tree to struct options: what options_load's parts share while one object is made.
 * Errors are collected, not returned: every mistake of a file is reported at once. Functions
 * return ERR_MEMORY or ERR_OK; whether the options are usable, the report says. */
#ifndef CORE_CONFIG_LOAD_H
#define CORE_CONFIG_LOAD_H
#include "core/base/arena.h"
#include "core/config/conf.h"
#include "core/config/option.h"
#include "core/config/options.h"

struct account_set;

struct load {
    struct mem *mem;
    struct arena *arena;   /* of the options object: what is kept */
    struct arena *scratch; /* the tree, paths and lists that end with the load */
    struct options *o;
    struct options_report *report;
    /* Blocks that are built once everything is known; NULL: not given. */
    const struct conf_value *authorization, *accounts, *mappings, *tls;
    const struct conf_value *store_dir; /* the one of its two spellings that counts */
    bool has_jetstream; /* something said whether JetStream is on */
    bool has_auth_timeout;
    struct account_set *set; /* being built; the options' own once sealed */
};

/* Begins a line of the report with the place of v (NULL: none); load_end ends it. */
struct text *load_error(struct load *l, const struct conf_value *v);
struct text *load_warning(struct load *l, const struct conf_value *v);
struct text *load_notice(struct load *l, const struct conf_value *v);
void load_end(struct text *line);
/* A whole error of one fixed text. */
void load_error_text(struct load *l, const struct conf_value *v, const char *text);
/* In double quotes, escaped. */
void load_quoted(struct text *out, struct bytes b);
/* "\"<name>\" must be <wanted>, not <what v is>" */
void load_wrong_type(struct load *l, const struct conf_value *v, struct bytes name,
                     const char *wanted);
/* "unknown field \"<name>\"", unless v is there to be used as a variable. */
void load_unknown(struct load *l, const struct conf_value *v, struct bytes name);
/* "\"<name>\" is not supported yet", unless v asks for nothing: false, or an empty map or array. */
void load_refused(struct load *l, const struct conf_value *v, struct bytes name);
/* "\"<name>\" has no effect: <why>", for the log: nothing is ignored in silence. */
void load_idle(struct load *l, const struct conf_value *v, struct bytes name, const char *why);

/* Readers of one value; false: an error was reported. name is what the file calls it. */
bool load_bool(struct load *l, const struct conf_value *v, struct bytes name, bool *out);
bool load_integer(struct load *l, const struct conf_value *v, struct bytes name, int64_t *out);
/* Borrowed from the tree. */
bool load_text(struct load *l, const struct conf_value *v, struct bytes name, struct bytes *out);
/* An integer or float of seconds, or a duration. */
bool load_seconds(struct load *l, const struct conf_value *v, struct bytes name, int64_t *ns);
/* Into the arena of the options, with a zero behind it. */
NODISCARD enum err load_keep(struct load *l, struct bytes text, struct bytes *kept);
/* A string or an array of strings, borrowed texts in an array of the arena; is_valid false: an
 * error was reported. */
NODISCARD enum err load_texts(struct load *l, const struct conf_value *v, struct bytes name,
                              struct options_texts *out, bool *is_valid);

/* A boolean, or one of the words enabled, enable, disabled, disable in any case. */
bool load_is_switch(const struct conf_value *v, bool *is_on);
/* The same; false: an error was reported. */
bool load_switch(struct load *l, const struct conf_value *v, bool *is_on);

/* Every entry of map into the options; block is the path of map, "" for the file. */
NODISCARD enum err load_map(struct load *l, const struct conf_value *map, struct bytes block);

/* The types that options.def calls CERTS, PINNED, HANDSHAKE, TLS_VERSION. */
NODISCARD enum err load_tls_value(struct load *l, const struct option *o,
                                  const struct conf_value *v);
/* What must hold between the values of the tls block. */
void load_tls_check(struct load *l);
/* The names that cipher_suites and curve_preferences may hold, for --help_tls. */
void load_tls_names(struct text *out);

/* Accounts, users, permissions, mappings from the blocks kept in l; sets o->accounts. */
NODISCARD enum err load_auth(struct load *l, struct account_numbers *numbers, uint64_t seed);

#endif
