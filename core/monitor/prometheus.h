/* Writing the Prometheus text format, version 0.0.4: families and samples.
 * A name is prefix_name; both are metric name characters already. */
#ifndef CORE_MONITOR_PROMETHEUS_H
#define CORE_MONITOR_PROMETHEUS_H
#include "core/base/histogram.h"
#include "core/base/text.h"

struct prometheus_label {
    const char *name;   /* label name characters */
    struct bytes value; /* any bytes; what is no UTF-8 becomes U+FFFD */
};

/* The HELP and TYPE lines. help is plain ASCII without backslash and newline; NULL: the part of
 * name behind its first underscore, as the exporter has it. */
void prometheus_family(struct text *out, struct bytes prefix, const char *name, const char *type,
                       const char *help);
/* A sample up to the blank before its value; the caller writes the value and a newline. */
void prometheus_sample(struct text *out, struct bytes prefix, const char *name,
                       const struct prometheus_label *labels, size_t label_count);
void prometheus_u64(struct text *out, struct bytes prefix, const char *name,
                    const struct prometheus_label *labels, size_t label_count, uint64_t value);
void prometheus_float(struct text *out, struct bytes prefix, const char *name,
                      const struct prometheus_label *labels, size_t label_count, double value);
/* A whole family of one histogram in seconds: buckets 1-2-5 from 1 µs to 50 s, sum, count.
 * name without "_bucket". A value within a step (3 %) above a bound may count below it. */
void prometheus_histogram(struct text *out, struct bytes prefix, const char *name,
                          const char *help, const struct histogram *h);

#endif
