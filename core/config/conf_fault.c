#include "core/config/conf_fault.h"

static void error_begin(struct conf_scan *s, struct conf_place place, struct writer *w)
{
    s->p->error->place = place;
    /* One byte stays free for the terminating zero. */
    writer_init(w, s->p->error->text, CONF_ERROR_BYTES - 1);
}

static void error_end(struct conf_scan *s, struct writer *w)
{
    s->p->error->text[w->len] = 0;
}

/* A name in a message: as much as stays readable. */
static struct bytes clipped(struct bytes b)
{
    enum { NAME_BYTES_MAX = 200 };
    return b.len <= NAME_BYTES_MAX ? b : bytes_of(b.data, NAME_BYTES_MAX);
}

enum err conf_fault_syntax_about(struct conf_scan *s, const char *before, struct bytes about,
                                 const char *after)
{
    struct writer w;
    error_begin(s, conf_scan_place(s), &w);
    writer_text(&w, "Parse error on line ");
    writer_u64(&w, s->line);
    writer_text(&w, ": '");
    writer_text(&w, before);
    writer_bytes(&w, clipped(about));
    writer_text(&w, after);
    writer_char(&w, '\'');
    error_end(s, &w);
    return ERR_SYNTAX;
}

enum err conf_fault_syntax(struct conf_scan *s, const char *what)
{
    return conf_fault_syntax_about(s, what, bytes_of("", 0), "");
}

enum err conf_fault_unclosed(struct conf_scan *s, const char *what, const struct conf_scan *opening)
{
    struct writer w;
    char line[BYTES_U64_TEXT_MAX];
    size_t len = bytes_u64_text(line, opening->line);
    char room[64];
    writer_init(&w, room, sizeof(room));
    writer_text(&w, what);
    writer_text(&w, " that opens on line ");
    writer_bytes(&w, bytes_of(line, len));
    return conf_fault_syntax_about(s, "The ", writer_written(&w), " is never closed");
}

enum err conf_fault_memory(struct conf_scan *s)
{
    struct writer w;
    error_begin(s, conf_scan_place(s), &w);
    writer_text(&w, "out of memory");
    error_end(s, &w);
    return ERR_MEMORY;
}

enum err conf_fault_variable(struct conf_scan *s, struct bytes name, const char *what,
                             struct bytes detail)
{
    char kept[CONF_ERROR_BYTES / 2];
    struct writer w;
    writer_init(&w, kept, sizeof(kept));
    writer_bytes(&w, clipped(detail));
    struct bytes kept_detail = writer_written(&w);
    error_begin(s, conf_scan_place(s), &w);
    writer_text(&w, "variable reference for '");
    writer_bytes(&w, clipped(name));
    writer_text(&w, "' on line ");
    writer_u64(&w, s->line);
    writer_text(&w, what);
    writer_bytes(&w, kept_detail);
    error_end(s, &w);
    return ERR_SYNTAX;
}

enum err conf_fault_unread(struct conf_scan *s, struct bytes path, struct bytes why)
{
    struct writer w;
    error_begin(s, conf_scan_place(s), &w);
    writer_text(&w, "open ");
    writer_bytes(&w, clipped(path));
    writer_text(&w, ": ");
    writer_bytes(&w, clipped(why));
    error_end(s, &w);
    return ERR_IO;
}
