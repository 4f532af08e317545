/* The outside world of a configuration test: files and environment variables by name. */
#ifndef TESTS_SUPPORT_CONF_WORLD_H
#define TESTS_SUPPORT_CONF_WORLD_H
#include "core/config/conf.h"

enum { WORLD_FILES_MAX = 4 };

struct world_file {
    const char *path, *content;
};

struct world {
    struct conf_source source; /* hand this out */
    struct world_file files[WORLD_FILES_MAX], variables[WORLD_FILES_MAX];
};

static inline bool world_find(const struct world_file *rows, struct bytes name,
                              struct bytes *content)
{
    for (int i = 0; i < WORLD_FILES_MAX && rows[i].path != NULL; i++) {
        if (!bytes_equal(bytes_from_text(rows[i].path), name)) continue;
        *content = bytes_from_text(rows[i].content);
        return true;
    }
    return false;
}

static inline enum err world_read(struct conf_source *s, struct arena *arena, struct bytes path,
                                  struct bytes *content, struct bytes *why)
{
    struct world *w = s->context;
    (void)arena;
    if (world_find(w->files, path, content)) return ERR_OK;
    *why = BYTES_LITERAL("no such file or directory");
    return ERR_IO;
}

static inline bool world_getenv(struct conf_source *s, struct bytes name, struct bytes *value)
{
    struct world *w = s->context;
    return world_find(w->variables, name, value);
}

static inline bool world_name_at(struct conf_source *s, size_t at, struct bytes *name)
{
    struct world *w = s->context;
    if (at >= WORLD_FILES_MAX || w->variables[at].path == NULL) return false;
    *name = bytes_from_text(w->variables[at].path);
    return true;
}

static inline struct conf_source *world_init(struct world *w)
{
    w->source = (struct conf_source){
        .read = world_read, .getenv = world_getenv, .context = w, .name_at = world_name_at};
    return &w->source;
}

#endif
