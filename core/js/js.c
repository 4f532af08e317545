#include "core/js/js.h"
#include "core/base/must.h"

void js_init(struct js *js, struct mem *mem, struct store *file, uint64_t seed,
             uint64_t memory_bytes_max)
{
    *js = (struct js){.mem = mem, .file = file, .seed = seed, .id_next = 1};
    memstore_init(&js->memory, mem, memory_bytes_max);
    table_init(&js->streams, mem, MEM_JETSTREAM);
    table_init(&js->ids, mem, MEM_JETSTREAM);
}

static uint64_t key_of(const struct js *js, uint32_t account, struct bytes name)
{
    return hash_bytes(name.data, name.len, js->seed + account);
}

/* Ids count up: spread over the bits that a table looks at. */
static uint64_t id_key(uint64_t id)
{
    return hash_bytes(&id, sizeof id, 0);
}

struct js_stream *js_each(const struct js *js, uint32_t *at)
{
    return table_each(&js->streams, at);
}

static void free_stream(struct js *js, struct js_stream *s)
{
    mem_free(js->mem, MEM_JETSTREAM, (char *)s->account_name.data, s->account_name.len);
    stream_deinit(&s->stream);
    mem_free(js->mem, MEM_JETSTREAM, s, sizeof *s);
}

void js_deinit(struct js *js)
{
    uint32_t at = 0;
    struct js_stream *s;
    while ((s = js_each(js, &at)) != NULL) free_stream(js, s);
    table_deinit(&js->ids);
    table_deinit(&js->streams);
    memstore_deinit(&js->memory);
}

struct js_stream *js_find(struct js *js, uint32_t account, struct bytes name, bool hidden)
{
    uint32_t at;
    uint64_t hash = key_of(js, account, name);
    for (struct js_stream *s = table_first(&js->streams, hash, &at); s != NULL;
         s = table_next(&js->streams, hash, &at))
        if (s->stream.account == account && bytes_equal(s->stream.config.name, name))
            return s->is_hidden && !hidden ? NULL : s;
    return NULL;
}

struct js_stream *js_find_id(const struct js *js, uint64_t id)
{
    uint32_t at;
    for (struct js_stream *s = table_first(&js->ids, id_key(id), &at); s != NULL;
         s = table_next(&js->ids, id_key(id), &at))
        if (s->stream.id == id) return s;
    return NULL;
}

void js_drop(struct js *js, struct js_stream *s)
{
    struct stream *m = &s->stream;
    if (js->hooks != NULL && js->hooks->closing != NULL)
        js->hooks->closing(js->hooks_context, s);
    if (m->config.storage == STREAM_MEMORY) {
        struct msgs_cursor c;
        struct msgs_entry entry;
        msgs_cursor_init(&c, &m->msgs, 0);
        while (msgs_cursor_next(&c, &entry) != 0) memstore_release(&js->memory, entry.place);
    }
    must(table_remove(&js->ids, id_key(m->id), s) == ERR_OK);
    must(table_remove(&js->streams, key_of(js, m->account, m->config.name), s) == ERR_OK);
    free_stream(js, s);
}

/* Memory is given back as messages go. */
static void removed(void *context, uint64_t seq, uint32_t node, uint64_t place)
{
    struct js_stream *s = context;
    if (s->stream.config.storage == STREAM_MEMORY) memstore_release(&s->js->memory, place);
}

enum err js_add(struct js *js, uint32_t account, struct bytes account_name,
                const struct stream_config *c, uint64_t id, int64_t created_ns,
                struct js_stream **out)
{
    must(js_find(js, account, c->name, true) == NULL);
    if (table_reserve(&js->streams, js->streams.count + 1) != ERR_OK) return ERR_MEMORY;
    if (table_reserve(&js->ids, js->ids.count + 1) != ERR_OK) return ERR_MEMORY;
    struct js_stream *s = mem_alloc_zero(js->mem, MEM_JETSTREAM, sizeof *s);
    if (s == NULL) return ERR_MEMORY;
    enum err e = stream_init(&s->stream, js->mem, id, account, c, created_ns, js->seed);
    if (e != ERR_OK) goto free;
    char *name = account_name.len == 0 ? NULL : mem_alloc(js->mem, MEM_JETSTREAM, account_name.len);
    e = ERR_MEMORY;
    if (name == NULL && account_name.len > 0) goto deinit;
    if (name != NULL) memcpy(name, account_name.data, account_name.len);
    s->account_name = bytes_of(name, account_name.len);
    s->js = js;
    s->is_hidden = true;
    s->stream.watch = (struct stream_watch){.context = s, .removed = removed};
    e = table_insert(&js->streams, key_of(js, account, c->name), s);
    must(e == ERR_OK);
    e = table_insert(&js->ids, id_key(id), s);
    must(e == ERR_OK);
    if (id >= js->id_next) js->id_next = id + 1;
    *out = s;
    return ERR_OK;
deinit:
    stream_deinit(&s->stream);
free:
    mem_free(js->mem, MEM_JETSTREAM, s, sizeof *s);
    return e;
}

struct store *js_store_of(struct js *js, const struct js_stream *s)
{
    return s->stream.config.storage == STREAM_MEMORY ? &js->memory.store : js->file;
}

void js_usage_of(const struct js *js, uint32_t account, struct js_usage *u)
{
    uint32_t at = 0;
    const struct js_stream *s;
    *u = (struct js_usage){0};
    while ((s = js_each(js, &at)) != NULL) {
        const struct stream *m = &s->stream;
        if (m->account != account || s->is_hidden) continue;
        bool is_memory = m->config.storage == STREAM_MEMORY;
        uint64_t reserved = m->config.max_bytes > 0 ? (uint64_t)m->config.max_bytes : 0;
        *(is_memory ? &u->memory : &u->storage) += m->bytes;
        *(is_memory ? &u->reserved_memory : &u->reserved_storage) += reserved;
        u->streams++;
        u->consumers += m->consumer_count;
    }
}

void js_limits_of(const struct js *js, uint32_t account, struct js_limits *limits)
{
    *limits = (struct js_limits){-1, -1, -1, -1, -1, -1, -1, false};
    if (js->limits_of != NULL) js->limits_of(js->context, account, limits);
}

/* --- records --------------------------------------------------------------------------------- */

struct stored {
    struct stream_config_request request;
    int64_t created_ns;
};

static const struct request_field stored_fields[] = {
    REQUEST_FIELD(struct stored, request, "config", REQUEST_OBJECT,
                  .type = &stream_config_request_type),
    REQUEST_FIELD(struct stored, created_ns, "created_ns", REQUEST_INT64),
};
static const struct request_type stored_type = {"StoredStream", stored_fields, 2,
                                                sizeof(struct stored)};

bool js_config_record(const struct stream_config *c, int64_t created_ns, struct text *body)
{
    struct json_write w;
    json_write_init(&w, body, 0);
    json_write_object(&w, NULL);
    stream_config_write(c, &w, "config", false);
    json_write_i64(&w, "created_ns", created_ns);
    json_write_end(&w);
    return !body->is_failed;
}

static enum err replay_config(struct js *js, uint32_t account, const struct record *r)
{
    struct arena arena;
    struct stored stored = {0};
    char text[JSAPI_ERROR_TEXT_BYTES];
    struct writer why;
    writer_init(&why, text, sizeof text);
    arena_init(&arena, js->mem, MEM_JETSTREAM);
    enum err e = request_decode(&arena, r->body, &stored_type, REQUEST_LENIENT, &stored, &why);
    struct stream_config *c = &stored.request.config;
    struct js_stream *s = js_find_id(js, r->stream);
    size_t blank = bytes_find(r->subject, ' ');
    if (e == ERR_SYNTAX || (e == ERR_OK && !stream_config_is_name(c->name)) ||
        blank == r->subject.len) {
        e = ERR_CORRUPT;
    } else if (e == ERR_OK && s != NULL) {
        e = stream_update(&s->stream, c);
    } else if (e == ERR_OK && js_find(js, account, c->name, true) != NULL) {
        e = ERR_CORRUPT;
    } else if (e == ERR_OK) {
        e = js_add(js, account, bytes_of(r->subject.data, blank), c, r->stream, stored.created_ns,
                   &s);
        if (e == ERR_OK) s->is_hidden = false;
    }
    arena_deinit(&arena);
    return e;
}

enum err js_replay(struct js *js, uint32_t account, const struct record *r, uint64_t place)
{
    if (r->stream >= js->id_next) js->id_next = r->stream + 1;
    if (r->kind == RECORD_STREAM) return replay_config(js, account, r);
    struct js_stream *s = js_find_id(js, r->stream);
    if (s == NULL) return ERR_UNKNOWN;
    if (r->kind == RECORD_STREAM_GONE) {
        js_drop(js, s);
        return ERR_OK;
    }
    return stream_replay(&s->stream, r, place);
}
