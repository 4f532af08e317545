/* One option as a row of options.def, and the ways to find it: by its path in the file (or an
 * alias) and by a flag. The table is constant and shared by everybody. */
#ifndef CORE_CONFIG_OPTION_H
#define CORE_CONFIG_OPTION_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "core/base/bytes.h"
#include "core/base/text.h"

enum option_type {
    /* With a field. */
    OPTION_BOOL,
    OPTION_INT32,
    OPTION_INT64,
    OPTION_U8,
    OPTION_U32,
    OPTION_DURATION,      /* a bare integer means seconds, with a warning */
    OPTION_DURATION_TEXT, /* a string only */
    OPTION_SECONDS,       /* integer, float or duration */
    OPTION_TEXT,
    OPTION_NAME,  /* a text without spaces */
    OPTION_TEXTS, /* an array of strings */
    OPTION_TAGS,  /* a string or an array of them; kept in lower case */
    OPTION_PAIRS,
    OPTION_CHOICE,
    OPTION_MEMORY,
    OPTION_BASE_PATH,
    OPTION_CERTS,
    OPTION_PINNED,
    OPTION_HANDSHAKE,
    OPTION_TLS_VERSION,
    OPTION_SIZE, /* an integer, or a text such as "10G" in powers of 1024 */
    OPTION_SYNC, /* "always", which is 0, or a duration */
    /* Without. */
    OPTION_LISTEN,
    OPTION_HTTP,
    OPTION_HTTPS,
    OPTION_JETSTREAM,
    OPTION_STORE_DIR, /* in the block; its field is that of the other spelling */
    OPTION_AUTHORIZATION,
    OPTION_ACCOUNTS,
    OPTION_MAPPINGS,
    OPTION_TLS,
    OPTION_IGNORED,
    OPTION_INSIDE,
    OPTION_REFUSED,
    OPTION_FLAG,
};

enum option_traits {
    OPTION_RELOAD = 1 << 0,
    OPTION_ZERO = 1 << 1,
    OPTION_MINUS = 1 << 2,
    OPTION_IDLE = 1 << 3,
    OPTION_HALF = 1 << 4,
    OPTION_SECRET = 1 << 5,
};

enum option_group {
    OPTION_GROUP_SERVER,
    OPTION_GROUP_LIMITS,
    OPTION_GROUP_MACHINE,
    OPTION_GROUP_LOGGING,
    OPTION_GROUP_JETSTREAM,
    OPTION_GROUP_AUTHORIZATION,
    OPTION_GROUP_TLS,
    OPTION_GROUP_CLUSTER,
    OPTION_GROUP_PROFILING,
    OPTION_GROUP_COMMON,
    OPTION_GROUP_COUNT
};

/* Flags that stand for no option of the file. */
enum option_flag {
    OPTION_FLAG_NONE,
    OPTION_FLAG_CONFIG,
    OPTION_FLAG_SET,
    OPTION_FLAG_TEST,
    OPTION_FLAG_PRINT_CONFIG,
    OPTION_FLAG_SIGNAL,
    OPTION_FLAG_VV,
    OPTION_FLAG_DV,
    OPTION_FLAG_DVV,
    OPTION_FLAG_TLS,
    OPTION_FLAG_HELP,
    OPTION_FLAG_VERSION,
    OPTION_FLAG_VERBOSE,
    OPTION_FLAG_HELP_TLS,
    OPTION_FLAG_MAN,
    OPTION_FLAG_CHECK, /* a word, no flag: see take_check in flags.c */
};

struct option {
    const char *path;    /* "" for a mere flag */
    const char *aliases; /* of the last word */
    enum option_type type;
    enum option_flag flag;
    bool takes_value; /* of a mere flag; see option_takes_value */
    enum option_group group;
    unsigned traits;
    size_t offset;       /* of the field in struct options */
    const char *initial; /* the default, as it would stand in the file */
    const char *values;  /* of a choice, separated by spaces */
    int64_t min, max;
    const char *reference; /* name in messages about reloads */
    const char *flags;     /* "" for none */
    const char *help;
};

const struct option *option_rows(size_t *count);
/* path as in the file, any case, aliases allowed in its last word. NULL: no such option. */
const struct option *option_find(struct bytes path);
/* Some option stands in a block of this path. */
bool option_is_block(struct bytes path);
/* name without dashes. NULL: no such flag. */
const struct option *option_find_flag(struct bytes name);
/* false: a boolean flag, bare or with =true. */
bool option_takes_value(const struct option *o);
/* Has a field, so it can be set by MILLRACE_A_B and printed as one value. */
bool option_has_field(const struct option *o);
/* Walks words separated by spaces: false when there are no more. */
bool option_next_word(const char **at, struct bytes *word);
/* Walks the names in flags, without dashes. */
bool option_next_flag(const char **at, struct bytes *name);
const char *option_group_text(enum option_group group);

#endif
