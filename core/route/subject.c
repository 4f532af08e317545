#include "core/route/subject.h"
#include "core/base/must.h"
#include "core/base/table.h"

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f';
}

static bool is_wildcard(struct bytes token)
{
    return subject_token_is_star(token) || subject_token_is_rest(token);
}

bool subject_is_valid(struct bytes subject)
{
    struct subject_walk w;
    struct bytes token;
    bool has_rest = false;
    subject_walk_init(&w, subject);
    while (subject_walk_next(&w, &token)) {
        if (token.len == 0 || has_rest) return false;
        for (size_t i = 0; i < token.len; i++)
            if (is_blank(token.data[i])) return false;
        has_rest = subject_token_is_rest(token);
    }
    return true;
}

bool subject_is_literal(struct bytes subject)
{
    return subject_is_valid(subject) && !subject_has_wildcard(subject);
}

bool subject_has_wildcard(struct bytes subject)
{
    struct subject_walk w;
    struct bytes token;
    subject_walk_init(&w, subject);
    while (subject_walk_next(&w, &token))
        if (is_wildcard(token)) return true;
    return false;
}

bool subject_has_empty_token(struct bytes subject)
{
    const char *s = subject.data;
    size_t len = subject.len;
    if (len == 0 || s[0] == '.' || s[len - 1] == '.') return true;
    for (size_t i = 1; i < len; i++)
        if (s[i] == '.' && s[i - 1] == '.') return true;
    return false;
}

uint32_t subject_token_count(struct bytes subject)
{
    uint32_t count = 1;
    if (subject.len == 0) return 0;
    for (size_t i = 0; i < subject.len; i++) count += subject.data[i] == '.';
    return count;
}

struct bytes subject_token(struct bytes subject, uint32_t n)
{
    struct subject_walk w;
    struct bytes token;
    subject_walk_init(&w, subject);
    while (subject_walk_next(&w, &token))
        if (n-- == 0) return token;
    return bytes_of(NULL, 0);
}

bool subject_matches(struct bytes literal, struct bytes filter)
{
    struct subject_walk wl, wf;
    struct bytes l, f;
    if (subject_has_empty_token(literal)) return false;
    subject_walk_init(&wl, literal);
    subject_walk_init(&wf, filter);
    while (subject_walk_next(&wf, &f)) {
        if (!subject_walk_next(&wl, &l)) return false;
        if (subject_token_is_rest(f) && wf.is_done) return true;
        if (!subject_token_is_star(f) && !bytes_equal(l, f)) return false;
    }
    return !subject_walk_next(&wl, &l);
}

bool subject_is_subset(struct bytes a, struct bytes b)
{
    struct subject_walk wa, wb;
    struct bytes ta, tb;
    subject_walk_init(&wa, a);
    subject_walk_init(&wb, b);
    while (subject_walk_next(&wb, &tb)) {
        if (!subject_walk_next(&wa, &ta)) return false;
        if (subject_token_is_rest(tb)) return true;
        if (ta.len == 0 || subject_token_is_rest(ta)) return false;
        if (subject_token_is_star(tb)) continue;
        if (subject_token_is_star(ta) || !bytes_equal(ta, tb)) return false;
    }
    return !subject_walk_next(&wa, &ta);
}

bool subject_collides(struct bytes a, struct bytes b)
{
    struct subject_walk wa, wb;
    struct bytes ta = {0}, tb = {0};
    subject_walk_init(&wa, a);
    subject_walk_init(&wb, b);
    for (;;) {
        bool has_a = subject_walk_next(&wa, &ta), has_b = subject_walk_next(&wb, &tb);
        if (!has_a || !has_b) return has_a == has_b;
        if (subject_token_is_rest(ta) || subject_token_is_rest(tb)) return true;
        if (subject_token_is_star(ta) || subject_token_is_star(tb)) continue;
        if (!bytes_equal(ta, tb)) return false;
    }
}

uint64_t subject_hash(uint64_t seed, uint32_t account, struct bytes subject)
{
    /* The account moves the seed by an odd constant, so that equal subjects of two accounts
     * differ in all bits. 0 marks an empty cell in the tables keyed by this hash. */
    uint64_t hash =
        hash_bytes(subject.data, subject.len, seed + account * UINT64_C(0x9e3779b97f4a7c15));
    return hash | (uint64_t)(hash == 0);
}
