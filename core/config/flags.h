/* The command line by the rules of Go's flag package, which nats-server uses:
 *
 *   -x and --x are the same; -x=v or -x v; a boolean only bare or as -x=v
 *   parsing stops at the first word without a dash, and behind "--"
 *   an unknown or malformed flag: one line on standard error, the usage on standard output, exit 0
 *
 * The words "version" and "help" work without a dash, and so does "check STORE", which may be
 * followed or preceded by --dump; any other word is an error. The last of several equal flags
 * wins. Texts are copied, so that argv can be wiped afterwards. */
#ifndef CORE_CONFIG_FLAGS_H
#define CORE_CONFIG_FLAGS_H
#include "core/base/arena.h"
#include "core/config/conf.h"
#include "core/config/option.h"

enum flags_action {
    FLAGS_RUN,
    FLAGS_USAGE,        /* print message and a newline on stderr, the help on stdout; exit 0 */
    FLAGS_ERROR,        /* print "<program>: <message>" and a newline on stderr; exit 1 */
    FLAGS_CHECK_ERROR,  /* the same, of check, whose 1 says that something is damaged; exit 2 */
    FLAGS_VERSION,      /* is_verbose: ours too; exit 0 */
    FLAGS_HELP,         /* exit 0 */
    FLAGS_HELP_TLS,     /* exit 0 */
    FLAGS_HELP_CHECK,   /* exit 0 */
    FLAGS_MAN,          /* exit 0 */
    FLAGS_SIGNAL,       /* signal and signal_target; exit 0 or 1 */
    FLAGS_TEST,         /* load, say that the file is valid, exit 0 or 1 */
    FLAGS_PRINT_CONFIG, /* load, print, exit 0 or 1 */
    FLAGS_CHECK,        /* look through store, is_dump: print its records; exit 0, 1 or 2 */
};

enum flags_tls { FLAGS_TLS_UNSAID, FLAGS_TLS_ON, FLAGS_TLS_OFF };

/* One option given by a flag. */
struct flags_setting {
    struct flags_setting *next;
    const struct option *option;
    struct conf_value value; /* its place says which flag */
};

/* --set path=value */
struct flags_set {
    struct flags_set *next;
    struct bytes path, value;
};

/* Bytes of argv that should not stay readable in the process list. */
struct flags_secret {
    struct flags_secret *next;
    int index;
    size_t at, len;
};

struct flags {
    enum flags_action action;
    struct bytes message; /* of FLAGS_USAGE, FLAGS_ERROR and FLAGS_CHECK_ERROR */
    struct bytes config_file;
    struct bytes signal;        /* ldm, stop, quit, term, reopen, reload */
    struct bytes signal_target; /* pid, pid file or pid*; empty: find the one server */
    struct bytes store; /* of FLAGS_CHECK, zero-terminated */
    bool is_dump;
    bool is_verbose;
    enum flags_tls tls;
    bool has_tls_flags;                             /* any of --tls... but --tls=false */
    struct flags_setting *settings, *settings_last; /* in the order given */
    struct flags_set *sets, *sets_last;
    struct flags_secret *secrets;
    struct arena arena;
};

/* argv as main gets it, argv[0] included. ERR_MEMORY: nothing to deinit.
 * ERR_OK: f->action says what is to be done, be it to complain. */
NODISCARD enum err flags_parse(struct flags *f, struct mem *mem, int argc, char *const *argv);
void flags_deinit(struct flags *f);
/* Overwrites the secrets in argv, the one that was parsed. */
void flags_wipe(const struct flags *f, char **argv);

#endif
