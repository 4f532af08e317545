/* The must hook of test programs: prints where and aborts. */
#include <stdio.h>
#include <stdlib.h>
#include "core/base/must.h"

void must_fail(const char *file, int line, const char *condition)
{
    fprintf(stderr, "%s:%d: must(%s) failed\n", file, line, condition);
    abort();
}
