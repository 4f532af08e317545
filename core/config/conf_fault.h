/* What a configuration is refused with: each function writes the error of the configuration that s
 * reads, with the place of its cursor, and returns the code of it. The texts are those that users
 * of nats-server know, as far as it has them. */
#ifndef CORE_CONFIG_CONF_FAULT_H
#define CORE_CONFIG_CONF_FAULT_H
#include "core/config/conf_scan.h"

/* ERR_SYNTAX. The words "Parse error on line N" are what client suites look for. */
NODISCARD enum err conf_fault_syntax(struct conf_scan *s, const char *what);
/* The same; about, which may be long, stands between before and after. */
NODISCARD enum err conf_fault_syntax_about(struct conf_scan *s, const char *before,
                                           struct bytes about, const char *after);
/* At the end of the text, like the reference: what is open since the line of opening. */
NODISCARD enum err conf_fault_unclosed(struct conf_scan *s, const char *what,
                                       const struct conf_scan *opening);
/* Of the variable name; detail, which may lie in the error itself, stands behind what. */
NODISCARD enum err conf_fault_variable(struct conf_scan *s, struct bytes name, const char *what,
                                       struct bytes detail);
/* ERR_IO: the file is not to be had. */
NODISCARD enum err conf_fault_unread(struct conf_scan *s, struct bytes path, struct bytes why);
/* ERR_MEMORY. */
NODISCARD enum err conf_fault_memory(struct conf_scan *s);

#endif
