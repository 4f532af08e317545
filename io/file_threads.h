/* A few threads that carry out file operations by blocking calls: all of them for the poll driver,
 * for the ring driver the rare ones that change names or sizes (they would block a kernel worker
 * anyway, and so the ring needs no right to open files).
 *
 * Owned by one driver's thread, which alone submits and takes. Threads start at the first
 * submission. Operations end in any order. */
#ifndef IO_FILE_THREADS_H
#define IO_FILE_THREADS_H
#include <stdint.h>
#include "io/driver.h"

struct file_threads;

/* ring(context) is called by a worker each time finished operations wait to be taken and none
 * did before. */
NODISCARD enum err file_threads_open(uint32_t thread_count, void (*ring)(void *context),
                                     void *context, struct file_threads **out);
/* Waits for what was submitted; what nobody took is forgotten. */
void file_threads_close(struct file_threads *f);

/* op stays the caller's, untouched, until it comes back from file_threads_take.
 * ERR_MEMORY: no thread could be started; nothing changed. */
NODISCARD enum err file_threads_submit(struct file_threads *f, struct file_op *op);

/* All finished operations as a list through next, oldest first; NULL: none. */
struct file_op *file_threads_take(struct file_threads *f);

/* Carries op out on the calling thread: bytes, a descriptor or 0, or a negative errno. */
int32_t file_threads_run(struct file_op *op);

#endif
