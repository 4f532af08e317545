/* Subjects: tokens between dots; * stands for one token, a final > for one or more.
 * Rules of spec: NATS protocol, subject names (IsValidSubject of nats-server). */
#ifndef CORE_ROUTE_SUBJECT_H
#define CORE_ROUTE_SUBJECT_H
#include "core/base/bytes.h"

enum { SUBJECT_TOKENS_MAX = 4096 };

/* Non-empty tokens, no space, tab, CR, LF, FF inside, > only as last token. Wildcards allowed. */
bool subject_is_valid(struct bytes subject);
/* Valid and without wildcard tokens. */
bool subject_is_literal(struct bytes subject);
/* Has * or > as a whole token. */
bool subject_has_wildcard(struct bytes subject);
uint32_t subject_token_count(struct bytes subject);
/* Token n (from 0) or an empty slice. */
struct bytes subject_token(struct bytes subject, uint32_t n);
/* Literal subject against filter. */
bool subject_matches(struct bytes literal, struct bytes filter);
/* Every literal that a matches, b matches too (a subset of b). */
bool subject_is_subset(struct bytes a, struct bytes b);
/* Some literal matches both. */
bool subject_collides(struct bytes a, struct bytes b);
/* Spread over 64 bits; never 0. */
uint64_t subject_hash(uint32_t account, struct bytes subject);

/* Walks tokens without counting them first. */
struct subject_walk {
    const char *at, *end;
    bool is_done;
};
void subject_walk_init(struct subject_walk *w, struct bytes subject);
bool subject_walk_next(struct subject_walk *w, struct bytes *token);

#endif
