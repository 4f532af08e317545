/* Subjects: tokens between dots; * stands for one token, a final > for one or more.
 * Rules of spec: NATS protocol, subject names (IsValidSubject of nats-server). */
#ifndef CORE_ROUTE_SUBJECT_H
#define CORE_ROUTE_SUBJECT_H
#include "core/base/bytes.h"

/* Non-empty tokens, no space, tab, CR, LF, FF inside, > only as the last token. Wildcards are
 * allowed. */
bool subject_is_valid(struct bytes subject);
/* Valid and without wildcard tokens. */
bool subject_is_literal(struct bytes subject);
/* Has * or > as a whole token. */
bool subject_has_wildcard(struct bytes subject);
/* Has a token of no bytes (the empty subject is one). Nothing matches such a subject. */
bool subject_has_empty_token(struct bytes subject);
uint32_t subject_token_count(struct bytes subject);
/* Token n (from 0) or an empty slice. */
struct bytes subject_token(struct bytes subject, uint32_t n);
/* Literal subject against a valid filter. The tokens * and > of the subject are ordinary there
 * (a publish on such a subject is legal): only a wildcard of the filter matches them. A subject
 * with an empty token matches nothing. */
bool subject_matches(struct bytes literal, struct bytes filter);
/* Every literal that a matches, b matches too (a subset of b). Both are valid; an empty token in a
 * is matched by a > alone, as in nats-server's mappings. */
bool subject_is_subset(struct bytes a, struct bytes b);
/* Some literal matches both. Both are valid. */
bool subject_collides(struct bytes a, struct bytes b);
/* Spread over 64 bits; never 0. seed: a secret, so that nobody can make subjects that collide. */
uint64_t subject_hash(uint64_t seed, uint32_t account, struct bytes subject);

static inline bool subject_token_is_star(struct bytes token)
{
    return token.len == 1 && token.data[0] == '*';
}

static inline bool subject_token_is_rest(struct bytes token)
{
    return token.len == 1 && token.data[0] == '>';
}

/* Walks tokens without counting them first. */
struct subject_walk {
    const char *at, *end;
    bool is_done;
};

static inline void subject_walk_init(struct subject_walk *w, struct bytes subject)
{
    *w = (struct subject_walk){.at = subject.data};
    w->end = subject.len == 0 ? subject.data : subject.data + subject.len;
}

/* The next token, empty ones included; false after the last. The empty subject is one empty
 * token. */
static inline bool subject_walk_next(struct subject_walk *w, struct bytes *token)
{
    if (w->is_done) return false;
    const char *at = w->at;
    /* A byte loop: tokens are short, and a call of memchr costs more than it saves. */
    while (at != w->end && *at != '.') at++;
    *token = bytes_of(w->at, (size_t)(at - w->at));
    if (at == w->end)
        w->is_done = true;
    else
        w->at = at + 1;
    return true;
}

#endif
