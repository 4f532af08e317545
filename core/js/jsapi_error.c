#include "core/js/jsapi_error.h"
#include "core/base/must.h"

struct row {
    uint16_t err_code;
    uint16_t code;
    const char *description;
};

static const struct row rows[JSAPI_COUNT] = {
#define JSAPI_ERROR(name, err_code_, code_, description_)                                          \
    [JSAPI_##name] = {err_code_, code_, description_},
#include "core/js/jsapi_errors.def"
#undef JSAPI_ERROR
};

static const struct row *row_of(enum jsapi_id id)
{
    must(id > JSAPI_NONE);
    must(id < JSAPI_COUNT);
    return &rows[id];
}

/* Appends what fits; a cut never splits a character. */
static void append(struct jsapi_error *e, struct bytes b)
{
    size_t room = sizeof e->text - e->text_len;
    size_t len = b.len;
    if (len > room) {
        len = room;
        while (len > 0 && ((unsigned char)b.data[len] & 0xC0) == 0x80) len--;
    }
    if (len > 0) memcpy(e->text + e->text_len, b.data, len);
    e->text_len += (uint32_t)len;
}

void jsapi_error_set_two(struct jsapi_error *e, enum jsapi_id id, struct bytes value,
                         struct bytes other)
{
    struct bytes rest = bytes_from_text(row_of(id)->description);
    struct bytes fill = value;
    e->id = id;
    e->text_len = 0;
    for (;;) {
        size_t open = bytes_find(rest, '{');
        append(e, bytes_of(rest.data, open));
        if (open == rest.len) return;
        rest = bytes_of(rest.data + open, rest.len - open);
        size_t close = bytes_find(rest, '}');
        must(close < rest.len);
        append(e, fill);
        fill = other;
        rest = bytes_of(rest.data + close + 1, rest.len - close - 1);
    }
}

void jsapi_error_set_text(struct jsapi_error *e, enum jsapi_id id, struct bytes value)
{
    jsapi_error_set_two(e, id, value, BYTES_LITERAL(""));
}

void jsapi_error_set(struct jsapi_error *e, enum jsapi_id id)
{
    must(strchr(row_of(id)->description, '{') == NULL);
    jsapi_error_set_text(e, id, BYTES_LITERAL(""));
}

void jsapi_error_set_u64(struct jsapi_error *e, enum jsapi_id id, uint64_t value)
{
    char digits[BYTES_U64_TEXT_MAX];
    jsapi_error_set_text(e, id, bytes_of(digits, bytes_u64_text(digits, value)));
}

bool jsapi_error_refuse(struct jsapi_error *e, enum jsapi_id id)
{
    jsapi_error_set(e, id);
    return false;
}

bool jsapi_error_refuse_text(struct jsapi_error *e, enum jsapi_id id, struct bytes value)
{
    jsapi_error_set_text(e, id, value);
    return false;
}

uint32_t jsapi_error_err_code(enum jsapi_id id)
{
    return row_of(id)->err_code;
}

uint32_t jsapi_error_code(enum jsapi_id id)
{
    return row_of(id)->code;
}

void jsapi_error_write(const struct jsapi_error *e, struct json_write *w)
{
    const struct row *r = row_of(e->id);
    json_write_object(w, "error");
    json_write_u64(w, "code", r->code);
    json_write_u64(w, "err_code", r->err_code);
    json_write_text_if(w, "description", jsapi_error_description(e));
    json_write_end(w);
}
