/* Floating point numbers as the shortest decimal text that reads back as the same number: what Go
 * prints, and so what pages and metrics must print. Exact integer arithmetic, no libc. */
#ifndef CORE_BASE_FLOAT_TEXT_H
#define CORE_BASE_FLOAT_TEXT_H
#include "core/base/text.h"

enum { FLOAT_TEXT_DIGITS_MAX = 17 };

/* A finite number > 0 as 0.d1d2d3... * 10^point; d1 is not 0. Returns the count of digits. */
uint32_t float_text_digits(double value, char digits[FLOAT_TEXT_DIGITS_MAX], int *point);

/* JSON as Go marshals float64: plain below 1e21 and from 1e-6 on, else with an exponent.
 * Infinities and NaN do not exist in JSON: they become 0. */
void float_text_json(struct text *t, double value);
/* A sample value of the Prometheus text format: exponent below 1e-4 and from 1e21 on, +Inf, NaN. */
void float_text_metric(struct text *t, double value);

#endif
