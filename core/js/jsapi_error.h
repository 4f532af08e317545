/* An error of the JetStream API: which row of jsapi_errors.def, and its description with the
 * placeholders filled in. A result type: functions that can refuse take one as their last argument
 * and set it; the caller writes it into the reply. */
#ifndef CORE_JS_JSAPI_ERROR_H
#define CORE_JS_JSAPI_ERROR_H
#include "core/base/bytes.h"
#include "core/base/json_write.h"

enum jsapi_id {
    JSAPI_NONE, /* no error */
#define JSAPI_ERROR(name, err_code, code, description) JSAPI_##name,
#include "core/js/jsapi_errors.def"
#undef JSAPI_ERROR
    JSAPI_COUNT
};

enum { JSAPI_ERROR_TEXT_BYTES = 1000 };

struct jsapi_error {
    enum jsapi_id id;
    uint32_t text_len;
    char text[JSAPI_ERROR_TEXT_BYTES]; /* cut at the end of a character when longer */
};

static inline void jsapi_error_clear(struct jsapi_error *e)
{
    e->id = JSAPI_NONE;
    e->text_len = 0;
}

/* A row without placeholders. */
void jsapi_error_set(struct jsapi_error *e, enum jsapi_id id);
/* The first placeholder becomes value; the second (if the row has one) other. */
void jsapi_error_set_text(struct jsapi_error *e, enum jsapi_id id, struct bytes value);
void jsapi_error_set_two(struct jsapi_error *e, enum jsapi_id id, struct bytes value,
                         struct bytes other);
void jsapi_error_set_u64(struct jsapi_error *e, enum jsapi_id id, uint64_t value);
/* As the others, false always: return jsapi_error_refuse(e, id); in a function that checks. */
bool jsapi_error_refuse(struct jsapi_error *e, enum jsapi_id id);
bool jsapi_error_refuse_text(struct jsapi_error *e, enum jsapi_id id, struct bytes value);

uint32_t jsapi_error_err_code(enum jsapi_id id);
uint32_t jsapi_error_code(enum jsapi_id id);
static inline struct bytes jsapi_error_description(const struct jsapi_error *e)
{
    return bytes_of(e->text, e->text_len);
}

/* The member "error":{"code":..,"err_code":..,"description":".."}. e holds an error. */
void jsapi_error_write(const struct jsapi_error *e, struct json_write *w);

#endif
