#include "core/js/time_parse.h"
#include "core/base/must.h"
#include "core/base/time_text.h"

#define NS_PER_SECOND INT64_C(1000000000)
#define LAYOUT "2006-01-02T15:04:05Z07:00"

struct scan {
    struct bytes rest;
    const char *wanted; /* NULL: all well so far. The part of the layout that did not match */
    const char *range;  /* NULL: all well. The part whose value is out of range */
};

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static void skip(struct scan *s, size_t count)
{
    s->rest.data += count;
    s->rest.len -= count;
}

/* digits of them, at least digits_min. What follows a fault is not looked at. */
static int64_t take_number(struct scan *s, size_t digits_min, size_t digits, const char *wanted)
{
    int64_t value = 0;
    size_t len = 0;
    if (s->wanted != NULL) return 0;
    while (len < digits && len < s->rest.len && is_digit(s->rest.data[len]))
        value = value * 10 + (s->rest.data[len++] - '0');
    if (len < digits_min) {
        s->wanted = wanted;
        return 0;
    }
    skip(s, len);
    return value;
}

static void take_char(struct scan *s, char c, const char *wanted)
{
    if (s->wanted != NULL) return;
    if (s->rest.len == 0 || s->rest.data[0] != c)
        s->wanted = wanted;
    else
        skip(s, 1);
}

static void check_range(struct scan *s, int64_t value, int64_t low, int64_t high, const char *name)
{
    if (s->wanted == NULL && s->range == NULL && (value < low || value > high)) s->range = name;
}

/* ".123" or ",123", if a digit follows; further digits than nanoseconds are dropped. */
static int64_t take_fraction(struct scan *s)
{
    int64_t ns = 0, scale = NS_PER_SECOND;
    if (s->wanted != NULL || s->rest.len < 2 || !is_digit(s->rest.data[1])) return 0;
    if (s->rest.data[0] != '.' && s->rest.data[0] != ',') return 0;
    for (skip(s, 1); s->rest.len > 0 && is_digit(s->rest.data[0]); skip(s, 1)) {
        scale /= 10;
        ns += (s->rest.data[0] - '0') * scale;
    }
    return ns;
}

/* "Z" or "+07:00" in minutes. */
static int64_t take_zone(struct scan *s)
{
    if (s->wanted != NULL) return 0;
    if (s->rest.len > 0 && s->rest.data[0] == 'Z') {
        skip(s, 1);
        return 0;
    }
    struct scan zone = *s;
    bool is_west = s->rest.len > 0 && s->rest.data[0] == '-';
    take_char(&zone, is_west ? '-' : '+', "");
    int64_t hours = take_number(&zone, 2, 2, "");
    take_char(&zone, ':', "");
    int64_t minutes = take_number(&zone, 2, 2, "");
    if (zone.wanted != NULL) {
        s->wanted = "Z07:00";
        return 0;
    }
    s->rest = zone.rest;
    check_range(s, hours, 0, 24, "time zone offset hour");
    check_range(s, minutes, 0, 60, "time zone offset minute");
    return is_west ? -(hours * 60 + minutes) : hours * 60 + minutes;
}

static bool is_leap(int64_t year)
{
    return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
}

static int64_t days_in(int64_t year, int64_t month)
{
    static const uint8_t days[13] = {0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    if (month < 1 || month > 12) return 31;
    return month == 2 && is_leap(year) ? 29 : days[month];
}

/* Days since 1970-01-01 of a day in years 0 to 9999; a year begins in March, as in time_text. */
static int64_t days_since_1970(int64_t year, int64_t month, int64_t day)
{
    int64_t y = month <= 2 ? year + 399 : year + 400; /* never negative */
    int64_t era = y / 400, year_of_era = y % 400;
    int64_t day_of_year = (153 * (month + (month > 2 ? -3 : 9)) + 2) / 5 + day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return (era - 1) * 146097 + day_of_era - 719468;
}

static enum err refuse(struct bytes text, const struct scan *s, struct writer *why)
{
    writer_text(why, "parsing time ");
    writer_quoted(why, text);
    if (s->wanted != NULL) {
        writer_text(why, " as \"" LAYOUT "\": cannot parse ");
        writer_quoted(why, s->rest);
        writer_text(why, " as ");
        writer_quoted(why, bytes_from_text(s->wanted));
    } else if (s->range != NULL) {
        writer_text(why, ": ");
        writer_text(why, s->range);
        writer_text(why, " out of range");
    } else {
        writer_text(why, ": extra text: ");
        writer_quoted(why, s->rest);
    }
    return ERR_SYNTAX;
}

enum err time_parse_rfc3339(struct bytes text, struct time_stamp *t, struct writer *why)
{
    struct scan s = {.rest = text};
    int64_t year = take_number(&s, 4, 4, "2006");
    take_char(&s, '-', "-");
    int64_t month = take_number(&s, 2, 2, "01");
    check_range(&s, month, 1, 12, "month");
    if (s.range != NULL) return refuse(text, &s, why);
    take_char(&s, '-', "-");
    int64_t day = take_number(&s, 2, 2, "02");
    take_char(&s, 'T', "T");
    int64_t hour = take_number(&s, 1, 2, "15");
    check_range(&s, hour, 0, 23, "hour");
    if (s.range != NULL) return refuse(text, &s, why);
    take_char(&s, ':', ":");
    int64_t minute = take_number(&s, 2, 2, "04");
    check_range(&s, minute, 0, 59, "minute");
    if (s.range != NULL) return refuse(text, &s, why);
    take_char(&s, ':', ":");
    int64_t second = take_number(&s, 2, 2, "05");
    check_range(&s, second, 0, 59, "second");
    if (s.range != NULL) return refuse(text, &s, why);
    int64_t ns = take_fraction(&s);
    int64_t offset = take_zone(&s);
    if (s.wanted != NULL || s.range != NULL || s.rest.len > 0) return refuse(text, &s, why);
    check_range(&s, day, 1, days_in(year, month), "day");
    if (s.range != NULL) return refuse(text, &s, why);

    int64_t seconds =
        days_since_1970(year, month, day) * 86400 + hour * 3600 + minute * 60 + second;
    seconds -= offset * 60;
    *t = (struct time_stamp){.is_set = true, .offset_minutes = (int16_t)offset};
    /* 0001-01-01T00:00:00Z */
    t->is_zero = seconds == INT64_C(-62135596800) && ns == 0;
    if (__builtin_mul_overflow(seconds, NS_PER_SECOND, &t->wall_ns) ||
        __builtin_add_overflow(t->wall_ns, ns, &t->wall_ns))
        t->wall_ns = seconds < 0 ? INT64_MIN : INT64_MAX;
    return ERR_OK;
}

void time_parse_write(struct text *out, const struct time_stamp *t)
{
    must(t->is_set);
    if (t->is_zero || t->offset_minutes == 0) {
        time_text_rfc3339_or_zero(out, t->is_zero ? 0 : t->wall_ns);
        return;
    }
    int64_t shift = (int64_t)t->offset_minutes * 60 * NS_PER_SECOND, local;
    if (__builtin_add_overflow(t->wall_ns, shift, &local)) local = t->wall_ns;
    time_text_rfc3339(out, local);
    if (out->is_failed) return;
    must(out->data[out->len - 1] == 'Z');
    out->len--;
    uint32_t minutes = (uint32_t)(t->offset_minutes < 0 ? -t->offset_minutes : t->offset_minutes);
    text_char(out, t->offset_minutes < 0 ? '-' : '+');
    text_u64_padded(out, minutes / 60, 2);
    text_char(out, ':');
    text_u64_padded(out, minutes % 60, 2);
}
