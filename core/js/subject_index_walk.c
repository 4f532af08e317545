#include "core/js/subject_index_walk.h"
#include "core/js/subject_index_branch.h"

/* Where a filter stands after some bytes of a subject. A star takes exactly one token, so there is
 * never more than one way to go on. */
enum mode {
    MODE_LITERAL,    /* the byte at filter_at comes next; at its end: nothing may follow */
    MODE_STAR_START, /* a token begins that a star takes; filter_at lies behind the star */
    MODE_STAR,       /* inside it */
    MODE_REST_START, /* at least one byte has to follow, then everything matches */
    MODE_REST,       /* everything matches, the end as well */
};

static void token_start(struct subject_index_match *m, struct bytes filter, uint32_t at)
{
    bool is_one = at + 1 == filter.len || (at + 1 < filter.len && filter.data[at + 1] == '.');
    m->filter_at = at;
    m->mode = MODE_LITERAL;
    if (at < filter.len && filter.data[at] == '*' && is_one) {
        m->filter_at = at + 1;
        m->mode = MODE_STAR_START;
    } else if (at < filter.len && filter.data[at] == '>' && at + 1 == filter.len) {
        m->mode = MODE_REST_START;
    }
}

/* Goes over the bytes [from, to) of a subject. False: nothing that begins so can match. */
static bool match_bytes(struct subject_index_match *m, struct bytes filter, struct bytes subject,
                        uint32_t from, uint32_t to)
{
    for (uint32_t i = from; i < to; i++) {
        char c = subject.data[i];
        switch ((enum mode)m->mode) {
        case MODE_REST: return true;
        case MODE_REST_START: m->mode = MODE_REST; return true;
        case MODE_LITERAL:
            if (m->filter_at == filter.len || filter.data[m->filter_at] != c) return false;
            m->filter_at++;
            if (c == '.') token_start(m, filter, m->filter_at);
            break;
        case MODE_STAR_START:
            if (c == '.') return false;
            m->mode = MODE_STAR;
            break;
        case MODE_STAR:
            if (c != '.') break;
            if (m->filter_at == filter.len) return false;
            token_start(m, filter, m->filter_at + 1);
            break;
        }
    }
    return true;
}

/* May the subject end here? */
static bool match_end(const struct subject_index_match *m, struct bytes filter)
{
    if (m->mode == MODE_REST) return true;
    return (m->mode == MODE_LITERAL || m->mode == MODE_STAR) && m->filter_at == filter.len;
}

/* Nothing but stars is left of the filter, the token that the match stands in included. */
static bool is_all_stars(const struct subject_index_match *m, struct bytes filter)
{
    if (m->mode != MODE_STAR && m->mode != MODE_STAR_START) return false;
    for (uint32_t i = m->filter_at; i < filter.len; i += 2)
        if (filter.data[i] != '.' || filter.data[i + 1] != '*' ||
            (i + 2 < filter.len && filter.data[i + 2] != '.'))
            return false;
    return true;
}

/* Advances the match over the bytes that the keys of the branch share, from those `from` on.
 * False: none of its keys matches. */
static bool enter_branch(const struct subject_index_walk *w, struct subject_index_match *m,
                         struct subject_index_branch *b, uint32_t from)
{
    if (m->mode == MODE_REST) return true;
    if (!match_bytes(m, w->filter, subject_index_key_of(w->index, b->witness), from, b->depth))
        return false;
    if (b->tokens_min == w->tokens && b->tokens_max == w->tokens && is_all_stars(m, w->filter))
        m->mode = MODE_REST; /* the number of tokens is right, and no word is asked for */
    return true;
}

/* Does the leaf match, whose bytes up to from are done? */
static bool leaf_matches(const struct subject_index_walk *w, struct subject_index_match m,
                         uint32_t leaf, uint32_t from)
{
    if (m.mode != MODE_REST) {
        struct bytes subject = subject_index_key_of(w->index, leaf);
        if (!match_bytes(&m, w->filter, subject, from, (uint32_t)subject.len)) return false;
        if (!match_end(&m, w->filter)) return false;
    }
    /* Subjects with claims alone are not there for others. No look when there are none. */
    return w->has_claimed || w->index->leaf_count == w->index->key_count ||
           subject_index_record(w->index, leaf)->count > 0;
}

static void push(struct subject_index_walk *w, uint32_t branch, struct subject_index_match match,
                 uint32_t child)
{
    if (w->depth - w->lost == SUBJECT_INDEX_WALK_FRAMES) w->lost++;
    w->frames[w->depth++ % SUBJECT_INDEX_WALK_FRAMES] =
        (struct subject_index_frame){.match = match, .branch = branch, .child = child};
}

/* Frames for the path to `after`, each set behind the child that was followed; those with no
 * child left are left out. */
static void seek(struct subject_index_walk *w, struct bytes after)
{
    const struct subject_index *x = w->index;
    struct subject_index_match match;
    uint32_t link = x->root, from = 0;
    token_start(&match, w->filter, 0);
    w->depth = w->lost = 0;
    w->pending = MSGS_NODE_NONE;
    while (link != MSGS_NODE_NONE) {
        struct bytes key = subject_index_key_of(x, subject_index_leaf_of(x, link));
        uint32_t end = (uint32_t)key.len, same = from;
        struct subject_index_branch *b = NULL;
        if (subject_index_is_branch(link)) {
            b = subject_index_branch_at(x, link);
            end = b->depth;
        }
        while (same < end && same < after.len && key.data[same] == after.data[same]) same++;
        bool is_behind = same < end && (same == after.len || (unsigned char)key.data[same] >
                                                                 (unsigned char)after.data[same]);
        if (b == NULL) {
            if (is_behind && leaf_matches(w, match, link, from)) w->pending = link;
            return;
        }
        if (same < end && !is_behind) return;
        if (!enter_branch(w, &match, b, from)) return;
        if (is_behind) {
            push(w, link, match, 0);
            return;
        }
        if (after.len == end) { /* the end child is `after` itself, all others follow it */
            push(w, link, match, 1);
            return;
        }
        unsigned char byte = (unsigned char)after.data[end];
        uint32_t i = subject_index_child_from(b, byte);
        bool is_followed = i < b->child_count && subject_index_bytes_of(b)[i] == byte;
        if (i + is_followed < b->child_count) push(w, link, match, i + 1 + is_followed);
        if (!is_followed) return;
        link = b->links[i];
        from = end;
    }
}

void subject_index_walk_begin(struct subject_index_walk *w, const struct subject_index *x,
                              struct bytes filter, struct bytes after)
{
    must(filter.len > 0);
    w->index = x;
    w->left = UINT32_MAX;
    w->has_claimed = false;
    w->filter = filter;
    w->tokens = 1;
    for (size_t i = 0; i < filter.len; i++) w->tokens += filter.data[i] == '.';
    if (after.len > 0) {
        seek(w, after);
        return;
    }
    w->depth = w->lost = 0;
    w->pending = MSGS_NODE_NONE;
    struct subject_index_match match;
    token_start(&match, filter, 0);
    if (subject_index_is_branch(x->root)) {
        struct subject_index_branch *b = subject_index_branch_at(x, x->root);
        if (enter_branch(w, &match, b, 0)) push(w, x->root, match, 0);
    } else if (x->root != MSGS_NODE_NONE && leaf_matches(w, match, x->root, 0)) {
        w->pending = x->root;
    }
}

/* The greatest subject at or below the link. */
static struct bytes last_key(const struct subject_index *x, uint32_t link)
{
    while (subject_index_is_branch(link)) {
        const struct subject_index_branch *b = subject_index_branch_at(x, link);
        link = b->child_count > 0 ? b->links[b->child_count - 1] : b->end;
    }
    return subject_index_key_of(x, link);
}

static void pop(struct subject_index_walk *w)
{
    uint32_t branch = w->frames[(w->depth - 1) % SUBJECT_INDEX_WALK_FRAMES].branch;
    w->depth--;
    /* The frames above have left the ring: their path is that of the last key here, and all
     * frames from here on down have no child left. */
    if (w->depth > 0 && w->depth == w->lost) seek(w, last_key(w->index, branch));
}

/* The next child of the frame that may match; MSGS_NODE_NONE: none is left. */
static uint32_t next_child(const struct subject_index_walk *w, struct subject_index_frame *f,
                           struct subject_index_branch *b)
{
    if (f->child == 0) {
        f->child = 1;
        if (b->end != MSGS_NODE_NONE) return b->end;
    }
    if (f->match.mode == MODE_LITERAL) { /* one byte is asked for, or the end */
        if (f->match.filter_at == w->filter.len) return MSGS_NODE_NONE;
        unsigned char byte = (unsigned char)w->filter.data[f->match.filter_at];
        uint32_t i = subject_index_child_from(b, byte), wanted = i + 1;
        bool is_there = i < b->child_count && subject_index_bytes_of(b)[i] == byte;
        bool is_done = f->child > wanted;
        f->child = b->child_count + 1u;
        return is_there && !is_done ? b->links[i] : MSGS_NODE_NONE;
    }
    return f->child <= b->child_count ? b->links[f->child++ - 1] : MSGS_NODE_NONE;
}

/* The next leaf, or, with takes_branches, the next branch all of whose keys match. */
static uint32_t step(struct subject_index_walk *w, bool takes_branches)
{
    uint32_t link = w->pending;
    if (link != MSGS_NODE_NONE) {
        w->pending = MSGS_NODE_NONE;
        return link;
    }
    while (w->depth > 0) {
        struct subject_index_frame *f = &w->frames[(w->depth - 1) % SUBJECT_INDEX_WALK_FRAMES];
        /* It stops where it has looked at a child: there is a key to begin again behind. */
        if (w->left == 0 && f->child > 0) break;
        w->left -= w->left > 0;
        struct subject_index_branch *b = subject_index_branch_at(w->index, f->branch);
        if (takes_branches && f->match.mode == MODE_REST && f->child == 0) {
            link = f->branch;
            pop(w);
            return link;
        }
        link = next_child(w, f, b);
        if (link == MSGS_NODE_NONE) {
            pop(w);
        } else if (subject_index_is_branch(link)) {
            struct subject_index_match match = f->match;
            if (enter_branch(w, &match, subject_index_branch_at(w->index, link), b->depth))
                push(w, link, match, 0);
        } else if (leaf_matches(w, f->match, link, b->depth)) {
            return link;
        }
    }
    return MSGS_NODE_NONE;
}

struct bytes subject_index_walk_position(const struct subject_index_walk *w)
{
    if (w->depth == 0) return bytes_of(NULL, 0);
    const struct subject_index_frame *f = &w->frames[(w->depth - 1) % SUBJECT_INDEX_WALK_FRAMES];
    struct subject_index_branch *b = subject_index_branch_at(w->index, f->branch);
    must(f->child > 0);
    if (f->child == 1) return bytes_of(subject_index_key_of(w->index, b->witness).data, b->depth);
    uint32_t seen = f->child - 1u < b->child_count ? f->child - 1u : b->child_count;
    return last_key(w->index, seen > 0 ? b->links[seen - 1] : b->end);
}

uint32_t subject_index_walk_next(struct subject_index_walk *w)
{
    return step(w, false);
}

struct subject_total subject_index_total(const struct subject_index *x, struct bytes filter)
{
    struct subject_total total;
    must(subject_index_total_within(x, filter, UINT32_MAX, &total));
    return total;
}

/* What the rest of the walk meets is added. */
static void add_total(struct subject_index_walk *w, struct subject_total *total)
{
    const struct subject_index *x = w->index;
    uint32_t link;
    while ((link = step(w, true)) != MSGS_NODE_NONE) {
        if (subject_index_is_branch(link)) {
            const struct subject_index_branch *b = subject_index_branch_at(x, link);
            total->keys += b->keys;
            total->msgs += b->msgs;
        } else {
            total->keys++;
            total->msgs += subject_index_record(x, link)->count;
        }
    }
}

bool subject_index_total_within(const struct subject_index *x, struct bytes filter, uint32_t steps,
                                struct subject_total *out)
{
    struct subject_index_walk w;
    *out = (struct subject_total){0};
    subject_index_walk_begin(&w, x, filter, bytes_of(NULL, 0));
    w.left = steps;
    add_total(&w, out);
    return w.depth == 0;
}

/* --- by pieces ------------------------------------------------------------------------------- */

void subject_index_rest_init(struct subject_index_rest *r, struct mem *mem)
{
    *r = (struct subject_index_rest){.mem = mem};
}

void subject_index_rest_deinit(struct subject_index_rest *r)
{
    mem_free(r->mem, MEM_JETSTREAM, r->text, r->room);
    *r = (struct subject_index_rest){.mem = r->mem};
}

void subject_index_rest_begin(const struct subject_index_rest *r, struct subject_index_walk *w,
                              const struct subject_index *x, struct bytes filter)
{
    subject_index_walk_begin(w, x, filter, bytes_of(r->text, r->len));
}

bool subject_index_rest_end(struct subject_index_rest *r, const struct subject_index_walk *w,
                            enum err *e)
{
    struct bytes at = subject_index_walk_position(w);
    *e = ERR_OK;
    if (w->depth == 0) {
        r->len = 0;
        return false;
    }
    if (at.len > r->room) {
        uint32_t room = (uint32_t)at.len * 2;
        char *text = mem_resize(r->mem, MEM_JETSTREAM, r->text, r->room, room);
        if (text == NULL) {
            *e = ERR_MEMORY;
            return true;
        }
        r->text = text;
        r->room = room;
    }
    if (at.len > 0) memcpy(r->text, at.data, at.len);
    r->len = (uint32_t)at.len;
    return true;
}

bool subject_index_rest_total(struct subject_index_rest *r, const struct subject_index *x,
                              struct bytes filter, uint32_t *left, struct subject_total *total,
                              enum err *e)
{
    struct subject_index_walk w;
    subject_index_rest_begin(r, &w, x, filter);
    w.left = *left;
    add_total(&w, total);
    *left = w.left;
    return subject_index_rest_end(r, &w, e);
}

void subject_index_walk_collect(const struct subject_index *x, struct bytes filter,
                                struct node_set *set)
{
    struct subject_index_walk w;
    uint32_t node;
    must(set->node_count >= x->node_end);
    subject_index_walk_begin(&w, x, filter, bytes_of(NULL, 0));
    while ((node = subject_index_walk_next(&w)) != MSGS_NODE_NONE) node_set_add(set, node);
}
