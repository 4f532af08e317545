/* Files that have the name of a segment or a pack, and that the manifest of their log does not
 * name.
 *
 * As a rule a crash left them: a preparation that did not end, or a file that the manifest let go
 * of. They hold nothing and are removed. Not removed is what may be needed after all (P6):
 *
 * 1. The manifest is older than the files, as after a restore of parts of a copy: a segment that it
 *    could not have let go of, since it had not given that number yet, holds groups, though a
 *    segment takes groups only once a manifest names it. All unnamed files of that log get the end
 *    ".kept": the log goes on without them, and the next start must not take them for what a crash
 *    left.
 * 2. Parts of the store could not be read: what holds anything stays as it is. */
#ifndef PERSIST_ORPHANS_H
#define PERSIST_ORPHANS_H
#include "persist/recovery.h"

/* Rule 1: whether this segment, which m does not name, is newer than m. Only options.blocking and
 * options.mem of r are used. ERR_CLOSED, ERR_MEMORY, or the file cannot be opened. */
NODISCARD enum err orphans_is_newer(const struct recovery *r, const struct manifest *m,
                                    uint32_t number, bool *is_newer);
/* Before the manifests are written: renames what rule 1 names, and counts and tells what has that
 * end. ERR_CLOSED, ERR_MEMORY, or the folder cannot be read. */
NODISCARD enum err orphans_keep(struct recovery *r);
/* Behind everything else: removes all others. Errors as above. */
NODISCARD enum err orphans_remove(struct recovery *r);

#endif
