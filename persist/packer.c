#include "persist/packer.h"
#include <string.h>
#include "core/base/must.h"
#include "persist/place.h"
#include "persist/replay.h"

enum { FIRST_ROOM = 256 };

void packer_init(struct packer *p, const struct blocking *files, struct mem *mem, bool is_direct)
{
    *p = (struct packer){.files = files, .mem = mem, .is_direct = is_direct};
}

void packer_begin(struct packer *p, const struct manifest *m, const struct manifest_segment *s)
{
    must(p->state == PACKER_IDLE);
    must(s->is_closed);
    packer_init(p, p->files, p->mem, p->is_direct);
    table_init(&p->stream_index, p->mem, MEM_STORE);
    p->secret = m->secret;
    p->log = m->log;
    p->segment = *s;
    p->state = PACKER_READING;
}

void packer_end(struct packer *p)
{
    if (p->state == PACKER_IDLE) return;
    mem_free(p->mem, MEM_STORE, p->messages, p->message_room * sizeof *p->messages);
    mem_free(p->mem, MEM_STORE, p->streams, p->stream_room * sizeof *p->streams);
    table_deinit(&p->stream_index);
    packer_init(p, p->files, p->mem, p->is_direct);
}

/* --- the list ----------------------------------------------------------------------------- */

/* Room for one more element of an array. */
static enum err grow(struct mem *mem, void **array, uint32_t count, uint32_t *room, size_t size)
{
    if (count < *room) return ERR_OK;
    uint32_t wanted = *room == 0 ? FIRST_ROOM : 2 * *room;
    void *to = mem_alloc(mem, MEM_STORE, wanted * size);
    if (to == NULL) return ERR_MEMORY;
    if (count > 0) memcpy(to, *array, count * size);
    mem_free(mem, MEM_STORE, *array, *room * size);
    *array = to;
    *room = wanted;
    return ERR_OK;
}

static enum err find_stream(struct packer *p, uint64_t id, uint32_t *index)
{
    if (p->stream_count > 0 && p->streams[p->stream_last].id == id) {
        *index = p->stream_last;
        return ERR_OK;
    }
    uint64_t hash = hash_bytes(&id, sizeof id, 0);
    uint32_t at;
    for (void *v = table_first(&p->stream_index, hash, &at); v != NULL;
         v = table_next(&p->stream_index, hash, &at)) {
        uint32_t i = (uint32_t)(uintptr_t)v - 1;
        if (p->streams[i].id != id) continue;
        *index = p->stream_last = i;
        return ERR_OK;
    }
    enum err e =
        grow(p->mem, (void **)&p->streams, p->stream_count, &p->stream_room, sizeof *p->streams);
    if (e != ERR_OK) return e;
    e = table_insert(&p->stream_index, hash, (void *)(uintptr_t)(p->stream_count + 1));
    if (e != ERR_OK) return e;
    p->streams[p->stream_count] = (struct packer_stream){.id = id};
    *index = p->stream_last = p->stream_count++;
    return ERR_OK;
}

static enum err on_record(void *context, const struct record *r, const struct store_stub *stub)
{
    struct packer *p = context;
    uint32_t stream;
    if (r->stream == 0) return ERR_OK;
    enum err e = find_stream(p, r->stream, &stream);
    if (e != ERR_OK || r->kind != RECORD_MESSAGE) return e;
    e = grow(p->mem, (void **)&p->messages, p->message_count, &p->message_room,
             sizeof *p->messages);
    if (e != ERR_OK) return e;
    p->messages[p->message_count++] =
        (struct packer_message){.seq = r->seq,
                                .stream = stream,
                                .at = (uint32_t)(place_offset(stub->place) / PLACE_UNIT_BYTES),
                                .bytes = stub->bytes};
    return ERR_OK;
}

/* The same walk as at a start, so that both agree on what a segment holds. */
static enum err read_segment(struct packer *p)
{
    struct recovery_options o = {.blocking = p->files,
                                 .mem = p->mem,
                                 .is_direct = p->is_direct,
                                 .replay = {.context = p, .record = on_record}};
    struct recovery_counts counts = {0};
    struct manifest one;
    struct replay_log log;
    manifest_init(&one, p->mem, p->log, 0, p->secret);
    one.next_segment = p->segment.number + 1;
    one.replay_segment = p->segment.number;
    enum err e = manifest_add(&one, &p->segment);
    if (e != ERR_OK) return e;
    replay_init(&log, &o, &counts, &one, NULL);
    replay_again(&log);
    e = replay_segment(&log, 0);
    p->is_damaged = log.has_damage;
    manifest_deinit(&one);
    return e;
}

bool packer_step(struct packer *p)
{
    if (p->state != PACKER_READING) return false;
    p->result = read_segment(p);
    p->state = p->result == ERR_OK ? PACKER_LISTED : PACKER_FAILED;
    return false;
}
