/* The one error type of the project: what can go wrong below the protocol, as an enum.
 * Texts for clients live in the .def tables of their protocol, not here. */
#ifndef CORE_BASE_ERR_H
#define CORE_BASE_ERR_H

/* Results that must be looked at. */
#define NODISCARD __attribute__((warn_unused_result))
/* Checks the arguments of a printf-like function. */
#define PRINTF_LIKE(text, first) __attribute__((format(printf, text, first)))

enum err {
#define ERR(name, text) ERR_##name,
#include "core/base/err.def"
#undef ERR
    ERR_COUNT
};

/* Text for logs, static storage; "?" for a value that is no error of ours. */
const char *err_text(enum err e);

#endif
