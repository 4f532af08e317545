/* /accstatz: connections and traffic per account.
 * Accounts without connections are left out unless the query wants unused ones. */
#ifndef CORE_MONITOR_ACCSTATZ_H
#define CORE_MONITOR_ACCSTATZ_H
#include "core/base/json_write.h"
#include "core/monitor/snapshot.h"

/* One object; *shown (may be NULL) is how many accounts it holds. ERR_MEMORY. */
NODISCARD enum err accstatz_write(const struct page_input *in, struct json_write *w,
                                  uint32_t *shown);
/* One account's counts as members of an open object. */
void accstatz_write_account(struct json_write *w, const struct account *a,
                            const struct account_snapshot *sums);
/* Messages and bytes under key, without further members. */
void accstatz_write_traffic(struct json_write *w, const char *key, const struct traffic *t);

#endif
