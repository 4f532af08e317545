#include "core/base/time_text.h"

#define NS_PER_SECOND INT64_C(1000000000)
#define SECONDS_PER_DAY INT64_C(86400)

struct time_civil time_text_civil(int64_t wall_ns)
{
    int64_t seconds = wall_ns / NS_PER_SECOND;
    int64_t ns = wall_ns % NS_PER_SECOND;
    if (ns < 0) {
        ns += NS_PER_SECOND;
        seconds--;
    }
    int64_t days = seconds / SECONDS_PER_DAY;
    int64_t rest = seconds % SECONDS_PER_DAY;
    if (rest < 0) {
        rest += SECONDS_PER_DAY;
        days--;
    }

    /* Days since 1 March of year 0, so that a leap day is the last of its year; an era is the
     * 400 years after which the calendar repeats. */
    int64_t shifted = days + 719468;
    int64_t era = (shifted >= 0 ? shifted : shifted - 146096) / 146097;
    int64_t day_of_era = shifted - era * 146097;
    int64_t year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    int64_t day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t month_from_march = (5 * day_of_year + 2) / 153;
    int64_t month = month_from_march < 10 ? month_from_march + 3 : month_from_march - 9;
    return (struct time_civil){
        .year = year_of_era + era * 400 + (month <= 2 ? 1 : 0),
        .month = (uint32_t)month,
        .day = (uint32_t)(day_of_year - (153 * month_from_march + 2) / 5 + 1),
        .hour = (uint32_t)(rest / 3600),
        .minute = (uint32_t)(rest / 60 % 60),
        .second = (uint32_t)(rest % 60),
        .nanosecond = (uint32_t)ns,
    };
}

/* "." and value as the fraction of 10^digits without zeros at the end; nothing for 0. */
static void write_fraction(struct text *t, uint64_t value, unsigned digits)
{
    if (value == 0) return;
    while (value % 10 == 0) {
        value /= 10;
        digits--;
    }
    text_char(t, '.');
    text_u64_padded(t, value, digits);
}

void time_text_rfc3339(struct text *t, int64_t wall_ns)
{
    struct time_civil c = time_text_civil(wall_ns);
    text_u64_padded(t, (uint64_t)c.year, 4); /* 64-bit nanoseconds reach from 1677 to 2262 */
    text_char(t, '-');
    text_u64_padded(t, c.month, 2);
    text_char(t, '-');
    text_u64_padded(t, c.day, 2);
    text_char(t, 'T');
    text_u64_padded(t, c.hour, 2);
    text_char(t, ':');
    text_u64_padded(t, c.minute, 2);
    text_char(t, ':');
    text_u64_padded(t, c.second, 2);
    write_fraction(t, c.nanosecond, 9);
    text_char(t, 'Z');
}

void time_text_rfc3339_or_zero(struct text *t, int64_t wall_ns)
{
    if (wall_ns == 0)
        text_string(t, "0001-01-01T00:00:00Z");
    else
        time_text_rfc3339(t, wall_ns);
}

void time_text_duration(struct text *t, int64_t ns)
{
    if (ns == 0) {
        text_string(t, "0s");
        return;
    }
    uint64_t u = ns < 0 ? 0 - (uint64_t)ns : (uint64_t)ns;
    if (ns < 0) text_char(t, '-');
    if (u < 1000) {
        text_u64(t, u);
        text_string(t, "ns");
    } else if (u < 1000000) {
        text_u64(t, u / 1000);
        write_fraction(t, u % 1000, 3);
        text_string(t, "µs");
    } else if (u < (uint64_t)NS_PER_SECOND) {
        text_u64(t, u / 1000000);
        write_fraction(t, u % 1000000, 6);
        text_string(t, "ms");
    } else {
        uint64_t seconds = u / (uint64_t)NS_PER_SECOND;
        if (seconds >= 3600) {
            text_u64(t, seconds / 3600);
            text_char(t, 'h');
        }
        if (seconds >= 60) {
            text_u64(t, seconds / 60 % 60);
            text_char(t, 'm');
        }
        text_u64(t, seconds % 60);
        write_fraction(t, u % (uint64_t)NS_PER_SECOND, 9);
        text_char(t, 's');
    }
}

void time_text_uptime(struct text *t, int64_t ns)
{
    uint64_t seconds = ns < 0 ? 0 : (uint64_t)(ns / NS_PER_SECOND);
    const struct {
        uint64_t value;
        char unit;
    } parts[] = {
        {seconds / (365 * 86400), 'y'}, {seconds / 86400 % 365, 'd'}, {seconds / 3600 % 24, 'h'},
        {seconds / 60 % 60, 'm'},       {seconds % 60, 's'},
    };
    bool is_started = false;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        if (parts[i].value == 0 && !is_started && parts[i].unit != 's') continue;
        is_started = true;
        text_u64(t, parts[i].value);
        text_char(t, parts[i].unit);
    }
}

int64_t time_text_round_trip(int64_t ns)
{
    return ns > 1000 && ns < 1000000 ? ns - ns % 1000 : ns;
}

/* --- parsing --------------------------------------------------------------------------------- */

#define TIME_LAYOUT "2006-01-02T15:04:05Z07:00"

struct parse {
    struct bytes all;
    struct bytes rest;
    struct writer *why;
};

static void write_raw_quoted(struct writer *w, struct bytes b)
{
    writer_char(w, '"');
    for (size_t i = 0; i < b.len; i++) {
        unsigned char c = (unsigned char)b.data[i];
        if (c == '"' || c == '\\') {
            writer_char(w, '\\');
            writer_char(w, (char)c);
        } else if (c < 0x20 || c >= 0x80) {
            writer_text(w, "\\x");
            writer_char(w, "0123456789abcdef"[c >> 4]);
            writer_char(w, "0123456789abcdef"[c & 15]);
        } else {
            writer_char(w, (char)c);
        }
    }
    writer_char(w, '"');
}

static enum err parse_refuse(const struct parse *p, struct bytes value, const char *element)
{
    if (p->why == NULL) return ERR_SYNTAX;
    writer_text(p->why, "parsing time ");
    write_raw_quoted(p->why, p->all);
    writer_text(p->why, " as \"" TIME_LAYOUT "\": cannot parse ");
    write_raw_quoted(p->why, value);
    writer_text(p->why, " as \"");
    writer_text(p->why, element);
    writer_char(p->why, '"');
    return ERR_SYNTAX;
}

static enum err parse_range(const struct parse *p, const char *what)
{
    if (p->why == NULL) return ERR_SYNTAX;
    writer_text(p->why, "parsing time ");
    write_raw_quoted(p->why, p->all);
    writer_text(p->why, ": ");
    writer_text(p->why, what);
    return ERR_SYNTAX;
}

static bool digit_at(struct bytes b, size_t i)
{
    return i < b.len && b.data[i] >= '0' && b.data[i] <= '9';
}

/* A literal of the layout, then a number of two digits (or one, where is_short_fine). */
static enum err parse_number(struct parse *p, const char *prefix, const char *element,
                             bool is_short_fine, uint32_t *value)
{
    size_t prefix_len = strlen(prefix);
    if (!bytes_starts_with(p->rest, bytes_of(prefix, prefix_len)))
        return parse_refuse(p, p->rest, prefix);
    struct bytes at = bytes_of(p->rest.data + prefix_len, p->rest.len - prefix_len);
    size_t digits = digit_at(at, 0) ? (digit_at(at, 1) ? 2 : 1) : 0;
    if (digits == 0 || (digits == 1 && !is_short_fine)) return parse_refuse(p, at, element);
    *value = (uint32_t)(at.data[0] - '0');
    if (digits == 2) *value = *value * 10 + (uint32_t)(at.data[1] - '0');
    p->rest = bytes_of(at.data + digits, at.len - digits);
    return ERR_OK;
}

static enum err parse_zone(struct parse *p, int64_t *offset_seconds)
{
    struct bytes at = p->rest;
    *offset_seconds = 0;
    if (at.len > 0 && at.data[0] == 'Z') {
        p->rest = bytes_of(at.data + 1, at.len - 1);
        return ERR_OK;
    }
    if (at.len < 6 || (at.data[0] != '+' && at.data[0] != '-') || !digit_at(at, 1) ||
        !digit_at(at, 2) || at.data[3] != ':' || !digit_at(at, 4) || !digit_at(at, 5))
        return parse_refuse(p, at, "Z07:00");
    int64_t hours = (at.data[1] - '0') * 10 + at.data[2] - '0';
    int64_t minutes = (at.data[4] - '0') * 10 + at.data[5] - '0';
    if (hours > 24) return parse_range(p, "time zone offset hour out of range");
    if (minutes > 60) return parse_range(p, "time zone offset minute out of range");
    *offset_seconds = (hours * 60 + minutes) * 60;
    if (at.data[0] == '-') *offset_seconds = -*offset_seconds;
    p->rest = bytes_of(at.data + 6, at.len - 6);
    return ERR_OK;
}

static uint32_t days_in(int64_t year, uint32_t month)
{
    static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return days[month - 1] + (month == 2 && is_leap ? 1u : 0u);
}

/* The inverse of time_text_civil's first half. */
static int64_t days_since_1970(int64_t year, uint32_t month, uint32_t day)
{
    if (month <= 2) year--;
    int64_t era = year / 400; /* years are not negative, but for year 0 in January */
    if (year < 0) era = -1;
    int64_t year_of_era = year - era * 400;
    int64_t month_from_march = month > 2 ? (int64_t)month - 3 : (int64_t)month + 9;
    int64_t day_of_year = (153 * month_from_march + 2) / 5 + (int64_t)day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * 146097 + day_of_era - 719468;
}

enum err time_text_parse(struct bytes text, int64_t *wall_ns, struct writer *why)
{
    struct parse p = {text, text, why};
    int64_t year = 0;
    for (size_t i = 0; i < 4; i++) {
        if (!digit_at(text, i)) return parse_refuse(&p, text, "2006");
        year = year * 10 + text.data[i] - '0';
    }
    p.rest = bytes_of(text.data + 4, text.len - 4);

    uint32_t month, day, hour, minute, second;
    enum err e = parse_number(&p, "-", "01", false, &month);
    if (e != ERR_OK) return e;
    if (month < 1 || month > 12) return parse_range(&p, "month out of range");
    e = parse_number(&p, "-", "02", false, &day);
    if (e != ERR_OK) return e;
    e = parse_number(&p, "T", "15", true, &hour);
    if (e != ERR_OK) return e;
    if (hour > 23) return parse_range(&p, "hour out of range");
    e = parse_number(&p, ":", "04", false, &minute);
    if (e != ERR_OK) return e;
    if (minute > 59) return parse_range(&p, "minute out of range");
    e = parse_number(&p, ":", "05", false, &second);
    if (e != ERR_OK) return e;
    if (second > 59) return parse_range(&p, "second out of range");

    int64_t ns = 0;
    if (digit_at(p.rest, 1) && (p.rest.data[0] == '.' || p.rest.data[0] == ',')) {
        size_t i = 1;
        for (int64_t unit = NS_PER_SECOND / 10; digit_at(p.rest, i); i++, unit /= 10)
            ns += unit * (p.rest.data[i] - '0');
        p.rest = bytes_of(p.rest.data + i, p.rest.len - i);
    }
    int64_t offset_seconds;
    e = parse_zone(&p, &offset_seconds);
    if (e != ERR_OK) return e;
    if (p.rest.len > 0) {
        e = parse_range(&p, "extra text: ");
        if (why != NULL) write_raw_quoted(why, p.rest);
        return e;
    }
    if (day < 1 || day > days_in(year, month)) return parse_range(&p, "day out of range");

    int64_t seconds = days_since_1970(year, month, day) * SECONDS_PER_DAY +
                      (int64_t)(hour * 3600 + minute * 60 + second) - offset_seconds;
    if (seconds > INT64_MAX / NS_PER_SECOND - 1)
        *wall_ns = INT64_MAX;
    else if (seconds < INT64_MIN / NS_PER_SECOND + 1)
        *wall_ns = INT64_MIN;
    else
        *wall_ns = seconds * NS_PER_SECOND + ns;
    return ERR_OK;
}
