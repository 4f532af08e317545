#include "core/config/option.h"
#include "core/base/must.h"
#include "core/config/options.h"

/* Short names for the columns of the table. */
enum {
    RELOAD = OPTION_RELOAD,
    ZERO = OPTION_ZERO,
    MINUS = OPTION_MINUS,
    IDLE = OPTION_IDLE,
    HALF = OPTION_HALF,
};

static const struct option rows[] = {
#define OPTION(path_, aliases_, type_, field, initial_, min_, max_, traits_, reference_, flags_,   \
               group_, help_)                                                                      \
    {.path = path_,                                                                                \
     .aliases = aliases_,                                                                          \
     .type = OPTION_##type_,                                                                       \
     .group = OPTION_GROUP_##group_,                                                               \
     .traits = traits_,                                                                            \
     .offset = offsetof(struct options, field),                                                    \
     .initial = initial_,                                                                          \
     .values = "",                                                                                 \
     .min = min_,                                                                                  \
     .max = max_,                                                                                  \
     .reference = reference_,                                                                      \
     .flags = flags_,                                                                              \
     .help = help_},
#define CHOICE(path_, aliases_, field, values_, initial_, traits_, reference_, flags_, group_,     \
               help_)                                                                              \
    {.path = path_,                                                                                \
     .aliases = aliases_,                                                                          \
     .type = OPTION_CHOICE,                                                                        \
     .group = OPTION_GROUP_##group_,                                                               \
     .traits = traits_,                                                                            \
     .offset = offsetof(struct options, field),                                                    \
     .initial = initial_,                                                                          \
     .values = values_,                                                                            \
     .reference = reference_,                                                                      \
     .flags = flags_,                                                                              \
     .help = help_},
#define BLOCK(path_, aliases_, type_, flags_, group_, help_)                                       \
    {.path = path_,                                                                                \
     .aliases = aliases_,                                                                          \
     .type = OPTION_##type_,                                                                       \
     .group = OPTION_GROUP_##group_,                                                               \
     .initial = "",                                                                                \
     .values = "",                                                                                 \
     .reference = path_,                                                                           \
     .flags = flags_,                                                                              \
     .help = help_},
#define INSIDE(path_, aliases_, flags_, group_, help_)                                             \
    {.path = path_,                                                                                \
     .aliases = aliases_,                                                                          \
     .type = OPTION_INSIDE,                                                                        \
     .group = OPTION_GROUP_##group_,                                                               \
     .initial = "",                                                                                \
     .values = "",                                                                                 \
     .reference = path_,                                                                           \
     .flags = flags_,                                                                              \
     .help = help_},
#define REFUSED(path_, aliases_, flags_, group_)                                                   \
    {.path = path_,                                                                                \
     .aliases = aliases_,                                                                          \
     .type = OPTION_REFUSED,                                                                       \
     .group = OPTION_GROUP_##group_,                                                               \
     .initial = "",                                                                                \
     .values = "",                                                                                 \
     .reference = path_,                                                                           \
     .flags = flags_,                                                                              \
     .help = "not supported yet"},
#define FLAG(flag_, takes_value_, flags_, group_, help_)                                           \
    {.path = "",                                                                                   \
     .aliases = "",                                                                                \
     .type = OPTION_FLAG,                                                                          \
     .flag = OPTION_FLAG_##flag_,                                                                  \
     .takes_value = takes_value_,                                                                  \
     .group = OPTION_GROUP_##group_,                                                               \
     .initial = "",                                                                                \
     .values = "",                                                                                 \
     .reference = "",                                                                              \
     .flags = flags_,                                                                              \
     .help = help_},
#include "core/config/options.def"
#undef OPTION
#undef CHOICE
#undef BLOCK
#undef INSIDE
#undef REFUSED
#undef FLAG
};

enum { ROW_COUNT = sizeof(rows) / sizeof(rows[0]) };

const struct option *option_rows(size_t *count)
{
    *count = ROW_COUNT;
    return rows;
}

bool option_next_word(const char **at, struct bytes *word)
{
    const char *a = *at;
    while (*a == ' ') a++;
    if (*a == 0) return false;
    size_t len = strcspn(a, " ");
    *word = bytes_of(a, len);
    *at = a + len;
    return true;
}

/* "-a, --addr, --net <host>": names up to the first word that is no flag; the space after a comma
 * may be missing, as --help of nats-server has it after -ms and -sl. */
bool option_next_flag(const char **at, struct bytes *name)
{
    const char *a = *at;
    while (*a == ' ' || *a == ',') a++;
    if (*a != '-') return false;
    while (*a == '-') a++;
    size_t len = strcspn(a, " ,");
    *name = bytes_of(a, len);
    *at = a + len;
    return true;
}

/* The block of a path with its dot, and what follows. */
static void split_path(struct bytes path, struct bytes *block, struct bytes *last)
{
    size_t dot = path.len;
    while (dot > 0 && path.data[dot - 1] != '.') dot--;
    *block = bytes_of(path.data, dot);
    *last = bytes_of(path.data + dot, path.len - dot);
}

static bool has_word(const char *words, struct bytes wanted)
{
    struct bytes word;
    while (option_next_word(&words, &word))
        if (bytes_equal_nocase(word, wanted)) return true;
    return false;
}

const struct option *option_find(struct bytes path)
{
    struct bytes block, last, row_block, row_last;
    if (path.len == 0) return NULL;
    split_path(path, &block, &last);
    for (size_t i = 0; i < ROW_COUNT; i++) {
        split_path(bytes_from_text(rows[i].path), &row_block, &row_last);
        if (row_last.len == 0 || !bytes_equal_nocase(block, row_block)) continue;
        if (bytes_equal_nocase(last, row_last) || has_word(rows[i].aliases, last)) return &rows[i];
    }
    return NULL;
}

bool option_is_block(struct bytes path)
{
    for (size_t i = 0; i < ROW_COUNT; i++) {
        struct bytes row = bytes_from_text(rows[i].path);
        if (row.len > path.len && row.data[path.len] == '.' &&
            bytes_equal_nocase(bytes_of(row.data, path.len), path))
            return true;
    }
    return false;
}

const struct option *option_find_flag(struct bytes name)
{
    for (size_t i = 0; i < ROW_COUNT; i++) {
        const char *at = rows[i].flags;
        struct bytes flag;
        while (option_next_flag(&at, &flag))
            if (bytes_equal(flag, name)) return &rows[i];
    }
    return NULL;
}

bool option_takes_value(const struct option *o)
{
    if (o->type == OPTION_FLAG) return o->takes_value;
    /* The one boolean flag of a thing that is refused. */
    if (o->type == OPTION_REFUSED) return strchr(o->flags, '<') != NULL;
    return o->type != OPTION_BOOL;
}

bool option_has_field(const struct option *o)
{
    return o->type < OPTION_LISTEN;
}

const char *option_group_text(enum option_group group)
{
    static const char *const texts[OPTION_GROUP_COUNT] = {
        [OPTION_GROUP_SERVER] = "Server",
        [OPTION_GROUP_LIMITS] = "Limits",
        [OPTION_GROUP_MACHINE] = "Machine",
        [OPTION_GROUP_LOGGING] = "Logging",
        [OPTION_GROUP_JETSTREAM] = "JetStream",
        [OPTION_GROUP_AUTHORIZATION] = "Authorization",
        [OPTION_GROUP_TLS] = "TLS",
        [OPTION_GROUP_CLUSTER] = "Cluster",
        [OPTION_GROUP_PROFILING] = "Profiling",
        [OPTION_GROUP_COMMON] = "Common",
    };
    must(group < OPTION_GROUP_COUNT);
    return texts[group];
}
