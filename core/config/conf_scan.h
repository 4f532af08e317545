/* One text of a configuration being read: the cursor, and what the grammar of conf.h counts as
 * space, newline and comment. The files of core/config/conf_* share one struct conf_parse for each
 * configuration and have one struct conf_scan for each text of it.
 *
 * A copy of a scan is the place where something began. Pure; borrows the text. */
#ifndef CORE_CONFIG_CONF_SCAN_H
#define CORE_CONFIG_CONF_SCAN_H
#include "core/base/must.h"
#include "core/config/conf.h"

/* What all files of one configuration share. */
struct conf_parse {
    struct arena *arena;
    struct conf_source *source;
    struct conf_error *error;
    uint64_t value_count; /* with variables written out */
    uint32_t include_count;
};

struct conf_env_link;

/* One text being read. Positions are bytes; a column counts bytes from 1. */
struct conf_scan {
    struct conf_parse *p;
    struct bytes file;
    const char *at, *end, *line_start;
    uint32_t line;
    uint32_t depth;         /* maps and arrays that are open here */
    uint32_t include_depth; /* files that are open above this one */
    uint32_t env_depth;
    const struct conf_env_link *env;
    bool may_include; /* the text of an environment variable may not */
};

enum { CONF_SCAN_END = -1 }; /* instead of a byte: there is no more */

/* --- bytes ---------------------------------------------------------------------------------- */

static inline struct conf_place conf_scan_place(const struct conf_scan *s)
{
    return (struct conf_place){s->file, s->line, (uint32_t)(s->at - s->line_start) + 1};
}

static inline int conf_scan_peek(const struct conf_scan *s)
{
    return s->at < s->end ? (unsigned char)*s->at : CONF_SCAN_END;
}

static inline int conf_scan_peek_second(const struct conf_scan *s)
{
    return s->end - s->at > 1 ? (unsigned char)s->at[1] : CONF_SCAN_END;
}

static inline void conf_scan_advance(struct conf_scan *s)
{
    must(s->at < s->end);
    if (*s->at++ == '\n') {
        s->line++;
        s->line_start = s->at;
    }
}

static inline bool conf_scan_is_blank(int c)
{
    return c == ' ' || c == '\t';
}

static inline bool conf_scan_is_newline(int c)
{
    return c == '\n' || c == '\r';
}

static inline bool conf_scan_is_digit(int c)
{
    return c >= '0' && c <= '9';
}

/* --- what is passed over -------------------------------------------------------------------- */

/* Bytes of the space that starts at a, 0 if none does: what Unicode counts as white space, since
 * the reference skips a no-break space pasted from a web page where it stands between entries. */
unsigned conf_scan_space_bytes(const char *a, const char *end);
/* Past one space. false: none stands here. */
bool conf_scan_skip_space(struct conf_scan *s);
void conf_scan_skip_spaces(struct conf_scan *s);
void conf_scan_skip_blanks(struct conf_scan *s);
/* Up to the newline, which stays. false: no comment starts here. */
bool conf_scan_skip_comment(struct conf_scan *s);
/* The character at the cursor as a slice, for messages. */
struct bytes conf_scan_character(const struct conf_scan *s);

#endif
