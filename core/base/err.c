#include "core/base/err.h"

const char *err_text(enum err e)
{
    switch (e) {
#define ERR(name, text) \
    case ERR_##name: return text;
#include "core/base/err.def"
#undef ERR
    case ERR_COUNT: break;
    }
    return "?";
}
