/* Names of a store's files (docs/FORMAT.md, "Files"). */
#ifndef PERSIST_NAMES_H
#define PERSIST_NAMES_H
#include <stdbool.h>
#include <stdint.h>

enum { NAMES_BYTES_MAX = 40 };

struct names_text {
    char text[NAMES_BYTES_MAX]; /* zero-terminated */
};

struct names_text names_root(uint32_t copy);
struct names_text names_manifest(uint32_t log, uint32_t copy);
struct names_text names_segment(uint32_t log, uint32_t segment);
struct names_text names_pack(uint32_t log, uint32_t pack);
/* For a segment or a pack that no manifest names, and that is not removed: its name and ".kept". */
struct names_text names_kept(const char *name);
bool names_is_kept(const char *name);
/* True if name is that of a segment. */
bool names_is_segment(const char *name, uint32_t *log, uint32_t *segment);
bool names_is_pack(const char *name, uint32_t *log, uint32_t *pack);
/* True for that of a copy of a manifest. */
bool names_is_manifest(const char *name, uint32_t *log);
/* True for a name that only a store gives: its presence means that there is, or was, a store. */
bool names_is_of_store(const char *name);

#endif
