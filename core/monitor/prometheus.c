#include "core/monitor/prometheus.h"
#include "core/base/float_text.h"
#include "core/base/utf8.h"

static void write_label_value(struct text *out, struct bytes value)
{
    text_char(out, '"');
    for (size_t at = 0; at < value.len;) {
        size_t len = utf8_length(bytes_of(value.data + at, value.len - at));
        char c = value.data[at];
        if (len == 0) {
            text_string(out, "\xef\xbf\xbd");
            len = 1;
        } else if (c == '\\' || c == '"') {
            text_char(out, '\\');
            text_char(out, c);
        } else if (c == '\n') {
            text_string(out, "\\n");
        } else {
            text_bytes(out, bytes_of(value.data + at, len));
        }
        at += len;
    }
    text_char(out, '"');
}

static void write_name(struct text *out, struct bytes prefix, const char *name)
{
    text_bytes(out, prefix);
    text_char(out, '_');
    text_string(out, name);
}

void prometheus_family(struct text *out, struct bytes prefix, const char *name, const char *type,
                       const char *help)
{
    if (help == NULL) {
        const char *underscore = strchr(name, '_');
        help = underscore == NULL ? name : underscore + 1;
    }
    text_string(out, "# HELP ");
    write_name(out, prefix, name);
    text_char(out, ' ');
    text_string(out, help);
    text_string(out, "\n# TYPE ");
    write_name(out, prefix, name);
    text_char(out, ' ');
    text_string(out, type);
    text_char(out, '\n');
}

void prometheus_sample(struct text *out, struct bytes prefix, const char *name,
                       const struct prometheus_label *labels, size_t label_count)
{
    write_name(out, prefix, name);
    if (label_count > 0) {
        text_char(out, '{');
        for (size_t i = 0; i < label_count; i++) {
            if (i > 0) text_char(out, ',');
            text_string(out, labels[i].name);
            text_char(out, '=');
            write_label_value(out, labels[i].value);
        }
        text_char(out, '}');
    }
    text_char(out, ' ');
}

void prometheus_u64(struct text *out, struct bytes prefix, const char *name,
                    const struct prometheus_label *labels, size_t label_count, uint64_t value)
{
    prometheus_sample(out, prefix, name, labels, label_count);
    text_u64(out, value);
    text_char(out, '\n');
}

void prometheus_float(struct text *out, struct bytes prefix, const char *name,
                      const struct prometheus_label *labels, size_t label_count, double value)
{
    prometheus_sample(out, prefix, name, labels, label_count);
    float_text_metric(out, value);
    text_char(out, '\n');
}

static void write_bucket(struct text *out, struct bytes prefix, const char *name, struct bytes le,
                         uint64_t count)
{
    write_name(out, prefix, name);
    text_string(out, "_bucket{le=\"");
    text_bytes(out, le);
    text_string(out, "\"} ");
    text_u64(out, count);
    text_char(out, '\n');
}

void prometheus_histogram(struct text *out, struct bytes prefix, const char *name, const char *help,
                          const struct histogram *h)
{
    static const struct {
        uint64_t ns;
        const char *seconds;
    } bounds[] = {
        {UINT64_C(1000), "1e-06"},     {UINT64_C(2000), "2e-06"},     {UINT64_C(5000), "5e-06"},
        {UINT64_C(10000), "1e-05"},    {UINT64_C(20000), "2e-05"},    {UINT64_C(50000), "5e-05"},
        {UINT64_C(100000), "0.0001"},  {UINT64_C(200000), "0.0002"},  {UINT64_C(500000), "0.0005"},
        {UINT64_C(1000000), "0.001"},  {UINT64_C(2000000), "0.002"},  {UINT64_C(5000000), "0.005"},
        {UINT64_C(10000000), "0.01"},  {UINT64_C(20000000), "0.02"},  {UINT64_C(50000000), "0.05"},
        {UINT64_C(100000000), "0.1"},  {UINT64_C(200000000), "0.2"},  {UINT64_C(500000000), "0.5"},
        {UINT64_C(1000000000), "1"},   {UINT64_C(2000000000), "2"},   {UINT64_C(5000000000), "5"},
        {UINT64_C(10000000000), "10"}, {UINT64_C(20000000000), "20"}, {UINT64_C(50000000000), "50"},
    };
    prometheus_family(out, prefix, name, "histogram", help);
    for (size_t i = 0; i < sizeof bounds / sizeof bounds[0]; i++) {
        /* The step that the bound lies in counts as below it, so that a round value such as
         * exactly 1 ms is in its bucket. */
        uint64_t last = histogram_step_last(histogram_step_of(bounds[i].ns));
        write_bucket(out, prefix, name, bytes_from_text(bounds[i].seconds),
                     histogram_count_to(h, last));
    }
    write_bucket(out, prefix, name, BYTES_LITERAL("+Inf"), h->count);
    write_name(out, prefix, name);
    text_string(out, "_sum ");
    float_text_metric(out, (double)h->sum_ns / 1e9);
    text_char(out, '\n');
    write_name(out, prefix, name);
    text_string(out, "_count ");
    text_u64(out, h->count);
    text_char(out, '\n');
}
