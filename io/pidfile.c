#include "io/pidfile.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "io/sysinfo.h"

enum { JSON_BYTES_MAX = 8192 };

static enum err failed(const char *verb, const char *path, char *reason, size_t reason_bytes)
{
    char why[SYSINFO_ERRNO_TEXT_BYTES];
    snprintf(reason, reason_bytes, "%s %s: %s", verb, path, sysinfo_errno_text(errno, why));
    return ERR_IO;
}

static enum err write_file(const char *path, mode_t mode, struct bytes text, char *reason,
                           size_t reason_bytes)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    if (fd < 0) return failed("open", path, reason, reason_bytes);
    enum err e = ERR_OK;
    if (write(fd, text.data, text.len) != (ssize_t)text.len) {
        e = failed("write", path, reason, reason_bytes);
    }
    if (close(fd) != 0 && e == ERR_OK) e = failed("close", path, reason, reason_bytes);
    return e;
}

enum err pidfile_write(const char *path, char *reason, size_t reason_bytes)
{
    char digits[BYTES_U64_TEXT_MAX];
    size_t n = bytes_u64_text(digits, (uint64_t)getpid());
    return write_file(path, 0600, bytes_of(digits, n), reason, reason_bytes);
}

enum err pidfile_ports_path(const char *directory, const char *program,
                            char path[PIDFILE_PATH_BYTES])
{
    const char *slash = strrchr(program, '/');
    size_t bytes = strlen(directory);
    while (bytes > 1 && directory[bytes - 1] == '/') bytes--;
    int n = snprintf(path, PIDFILE_PATH_BYTES, "%.*s/%s_%d.ports", (int)bytes, directory,
                     slash == NULL ? program : slash + 1, (int)getpid());
    return n < 0 || n >= PIDFILE_PATH_BYTES ? ERR_TOO_LONG : ERR_OK;
}

static void write_list(struct writer *w, const char *name, const char *const *urls, uint32_t count)
{
    if (count == 0) return;
    if (w->len > 1) writer_char(w, ',');
    writer_quoted(w, bytes_from_text(name));
    writer_text(w, ":[");
    for (uint32_t i = 0; i < count && i < PIDFILE_URLS_MAX; i++) {
        if (i > 0) writer_char(w, ',');
        writer_quoted(w, bytes_from_text(urls[i])); /* hosts and digits: the same as JSON's */
    }
    writer_char(w, ']');
}

enum err pidfile_ports_write(const char *path, const struct pidfile_ports *p, char *reason,
                             size_t reason_bytes)
{
    char text[JSON_BYTES_MAX], draft[PIDFILE_PATH_BYTES + 8];
    struct writer w;
    writer_init(&w, text, sizeof text);
    writer_char(&w, '{');
    write_list(&w, "nats", p->nats.items, p->nats.count);
    write_list(&w, "monitoring", p->monitoring.items, p->monitoring.count);
    write_list(&w, "cluster", p->cluster.items, p->cluster.count);
    write_list(&w, "profile", p->profile.items, p->profile.count);
    write_list(&w, "websocket", p->websocket.items, p->websocket.count);
    writer_char(&w, '}');
    if (w.is_full) {
        snprintf(reason, reason_bytes, "too many ports for %s", path);
        return ERR_TOO_LONG;
    }
    int n = snprintf(draft, sizeof draft, "%s.tmp", path);
    if (n < 0 || (size_t)n >= sizeof draft) return ERR_TOO_LONG;
    enum err e = write_file(draft, 0666, writer_written(&w), reason, reason_bytes);
    if (e == ERR_OK && rename(draft, path) != 0) {
        e = failed("rename", draft, reason, reason_bytes);
    }
    if (e != ERR_OK) (void)unlink(draft);
    return e;
}

void pidfile_ports_remove(const char *path)
{
    (void)unlink(path);
}
