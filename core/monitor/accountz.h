/* /accountz: names of all accounts, or one account in detail. */
#ifndef CORE_MONITOR_ACCOUNTZ_H
#define CORE_MONITOR_ACCOUNTZ_H
#include "core/base/json_write.h"
#include "core/monitor/snapshot.h"

/* One object. ERR_INVALID: the account does not exist, *error says so. ERR_MEMORY. */
NODISCARD enum err accountz_write(const struct page_input *in, struct json_write *w,
                                  struct text *error);
/* Only the detail of account a, under key. */
void accountz_write_detail(const struct page_input *in, struct json_write *w, const char *key,
                           const struct account *a);

#endif
