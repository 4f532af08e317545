#include <criterion/criterion.h>
#include "core/js/quota.h"

Test(quota, as_much_more_as_less_is_a_change)
{
    struct quota_bytes all = {.max = -1};
    quota_bytes_use(&all, 10);
    uint64_t before = all.used, changes = all.changes;
    quota_bytes_use(&all, 5);
    quota_bytes_give_back(&all, 5);
    cr_assert_eq(all.used, before);
    cr_assert_neq(all.changes, changes);
}
