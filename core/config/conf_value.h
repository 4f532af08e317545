/* Values of a configuration as they stand in its text: quoted and bare texts, blocks, booleans,
 * numbers, times. What has values inside, and variables, is core/config/conf_parse.c.
 *
 * Every value is counted (CONF_VALUES_MAX) and lies in the arena of the configuration. Each
 * function starts at the first byte of what it reads and ends behind its last one. ERR_SYNTAX,
 * ERR_MEMORY: the error of the configuration is written. */
#ifndef CORE_CONFIG_CONF_VALUE_H
#define CORE_CONFIG_CONF_VALUE_H
#include "core/config/conf_scan.h"

/* more of them than are written: what a variable stands for. */
NODISCARD enum err conf_value_count(struct conf_scan *s, uint64_t more);
/* An empty one, at the cursor. */
NODISCARD enum err conf_value_new(struct conf_scan *s, enum conf_kind kind,
                                  struct conf_value **value);
NODISCARD enum err conf_value_text(struct conf_scan *s, struct bytes text,
                                   struct conf_value **value);

/* At the opening quote, which is any byte; moves past the closing one. */
NODISCARD enum err conf_value_quoted(struct conf_scan *s, bool has_escapes, struct bytes *text);
NODISCARD enum err conf_value_parse_quoted(struct conf_scan *s, struct conf_value **value);
NODISCARD enum err conf_value_parse_block(struct conf_scan *s, struct conf_value **value);
/* A bare word. When it is a variable, *value is not written and *variable is the word with its $;
 * else *variable is empty. */
NODISCARD enum err conf_value_parse_bare(struct conf_scan *s, struct conf_value **value,
                                         struct bytes *variable);
/* Something that starts with a digit or a minus. */
NODISCARD enum err conf_value_parse_number(struct conf_scan *s, struct conf_value **value);

#endif
