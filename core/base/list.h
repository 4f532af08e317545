/* Intrusive doubly linked list with a sentinel. A link that is in no list points to itself. */
#ifndef CORE_BASE_LIST_H
#define CORE_BASE_LIST_H
#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next, *prev;
};

#define LIST_OWNER(link, type, member) ((type *)(void *)((char *)(link)-offsetof(type, member)))

/* For the sentinel and for each link. */
static inline void list_init(struct list *l)
{
    l->next = l->prev = l;
}

/* A sentinel: holds nothing. A link: is in no list. */
static inline bool list_is_empty(const struct list *l)
{
    return l->next == l;
}

static inline void list_push(struct list *sentinel, struct list *link)
{
    link->next = sentinel;
    link->prev = sentinel->prev;
    sentinel->prev->next = link;
    sentinel->prev = link;
}

/* Harmless on a link that is in no list. */
static inline void list_remove(struct list *link)
{
    link->prev->next = link->next;
    link->next->prev = link->prev;
    link->next = link->prev = link;
}

/* The oldest link, taken out; NULL when empty. */
static inline struct list *list_pop(struct list *sentinel)
{
    struct list *first = sentinel->next;
    if (first == sentinel) return NULL;
    list_remove(first);
    return first;
}

#endif
