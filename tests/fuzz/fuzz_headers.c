/* Header blocks from the wire: look-ups read nothing outside of the block, and whatever they find
 * lies inside it, without blanks at its ends. The first byte is the length of the key. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/must.h"
#include "core/proto/headers.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The same by hand, without bytes_* helpers: the first line "<key>:..." after the status. */
static bool naive_find(const char *block, size_t len, const char *key, size_t key_len, size_t *from)
{
    size_t line = 0;
    bool is_first = true;
    for (size_t i = 0; i < len; i++) {
        if (block[i] != '\n') continue;
        size_t bytes = i - line;
        if (!is_first && bytes > key_len && memcmp(block + line, key, key_len) == 0 &&
            block[line + key_len] == ':') {
            *from = line + key_len + 1;
            return true;
        }
        is_first = false;
        line = i + 1;
    }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    size_t key_len = data[0];
    if (key_len == 0 || key_len > size - 1) return 0;
    const char *key = (const char *)data + 1;
    size_t len = size - 1 - key_len;
    char *block = malloc(len == 0 ? 1 : len);
    must(block != NULL);
    if (len > 0) memcpy(block, data + 1 + key_len, len);
    struct bytes value = {0};
    size_t from = 0;
    bool is_found = headers_find(bytes_of(block, len), bytes_of(key, key_len), &value);
    /* A key with a line end in it spans lines for nobody. */
    if (memchr(key, '\n', key_len) == NULL)
        must(is_found == naive_find(block, len, key, key_len, &from));
    if (is_found) {
        must(value.data >= block && value.data + value.len <= block + len);
        must(memchr(value.data, '\n', value.len) == NULL || value.len == 0);
        if (value.len > 0) must(value.data[0] != ' ');
        must(value.len == 0 || value.data >= block + from);
    }
    free(block);
    return 0;
}
