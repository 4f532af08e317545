#include "core/proto/headers.h"

bool headers_find(struct bytes block, struct bytes key, struct bytes *value)
{
    if (block.len == 0) return false; /* its data may be NULL */
    const char *at = block.data;
    const char *end = block.data + block.len;
    bool is_first = true;
    while (at < end) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        if (newline == NULL) return false;
        struct bytes line = bytes_of(at, (size_t)(newline - at));
        at = newline + 1;
        if (is_first) {
            is_first = false;
            continue;
        }
        if (!bytes_starts_with(line, key) || line.len <= key.len || line.data[key.len] != ':')
            continue;
        struct bytes v = bytes_of(line.data + key.len + 1, line.len - key.len - 1);
        if (v.len > 0 && v.data[v.len - 1] == '\r') v.len--;
        while (v.len > 0 && v.data[0] == ' ') v = bytes_of(v.data + 1, v.len - 1);
        *value = v;
        return true;
    }
    return false;
}
