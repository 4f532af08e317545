#include "core/base/time_text.h"

#define NS_PER_SECOND INT64_C(1000000000)
#define SECONDS_PER_DAY INT64_C(86400)

struct time_text_civil time_text_civil(int64_t wall_ns)
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
    return (struct time_text_civil){
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
    struct time_text_civil c = time_text_civil(wall_ns);
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
