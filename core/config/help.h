/* Texts about options, all made from options.def: the help of the command line, the manual page,
 * the help about TLS, and the options in effect. */
#ifndef CORE_CONFIG_HELP_H
#define CORE_CONFIG_HELP_H
#include "core/base/text.h"
#include "core/config/options.h"

/* --help: groups of flags; program is the name it was started by. */
void help_usage(struct text *out, struct bytes program);
/* --help_tls. */
void help_tls(struct text *out);
/* What "check --help" prints. */
void help_check(struct text *out);
/* --man: roff for man(1). */
void help_man(struct text *out, struct bytes version);
/* --print-config: the options in effect as a configuration file; passwords, tokens and the like
 * read [REDACTED]. */
void help_config(struct text *out, const struct options *o);

struct option;
/* The value of one option that has a field, as it would stand in the file. */
void help_value(struct text *out, const struct option *o, const struct options *options);

#endif
