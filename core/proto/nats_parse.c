#include "core/proto/nats_parse.h"
#include "core/base/must.h"

enum {
    ARGS_MAX = 5, /* one more than any verb takes, so that too many is seen */
    SIZE_DIGITS_MAX = 9,
    LINE_BLANKS_MAX =
        4096, /* blanks before the argument do not count as control line: bounded too */
};

struct verb_row {
    const char *text;
    uint8_t len;
    enum nats_verb verb;
    bool has_headers;
    bool needs_blank;  /* a blank must follow the verb */
    bool ignores_rest; /* everything up to the line end is ignored */
};

static const struct verb_row verb_rows[] = {
    {"PUB", 3, NATS_PUB, false, true, false},          {"HPUB", 4, NATS_PUB, true, true, false},
    {"SUB", 3, NATS_SUB, false, true, false},          {"UNSUB", 5, NATS_UNSUB, false, true, false},
    {"PING", 4, NATS_PING, false, false, true},        {"PONG", 4, NATS_PONG, false, false, true},
    {"CONNECT", 7, NATS_CONNECT, false, false, false}, {"INFO", 4, NATS_INFO, false, false, false},
    {"+OK", 3, NATS_OK, false, false, true},           {"-ERR", 4, NATS_ERR, false, true, false},
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t';
}

static char upper(char c)
{
    return c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
}

int64_t nats_parse_size(struct bytes text)
{
    if (text.len == 0 || text.len > SIZE_DIGITS_MAX) return -1;
    int64_t size = 0;
    for (size_t i = 0; i < text.len; i++) {
        unsigned digit = (unsigned char)text.data[i] - (unsigned)'0';
        if (digit > 9) return -1;
        size = size * 10 + digit;
    }
    return size;
}

/* The verb at the start of data. NATS_DONE: *row is it. NATS_MORE: data is a prefix of one. */
static enum nats_status find_verb(const char *data, size_t len, const struct verb_row **row)
{
    bool is_prefix = false;
    for (size_t v = 0; v < sizeof verb_rows / sizeof verb_rows[0]; v++) {
        const struct verb_row *r = &verb_rows[v];
        size_t shared = len < r->len ? len : r->len;
        size_t i = 0;
        while (i < shared && upper(data[i]) == r->text[i]) i++;
        if (i < shared) continue;
        if (len < r->len) {
            is_prefix = true;
            continue;
        }
        if (r->needs_blank && len > r->len && !is_blank(data[r->len])) return NATS_BAD_VERB;
        *row = r;
        return NATS_DONE;
    }
    return is_prefix ? NATS_MORE : NATS_BAD_VERB;
}

static size_t split_args(const char *at, const char *end, struct bytes *args)
{
    size_t count = 0;
    while (at < end && count < ARGS_MAX) {
        while (at < end && is_blank(*at)) at++;
        const char *start = at;
        while (at < end && !is_blank(*at)) at++;
        if (at > start) args[count++] = bytes_of(start, (size_t)(at - start));
    }
    return count;
}

static bool is_arg_long(const struct bytes *args, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (args[i].len > NATS_ARG_BYTES_MAX) return true;
    return false;
}

/* True when the bytes from args[first] to the line end look exactly as a MSG line wants them:
 * single spaces, and no size with a needless zero (a line that is built again has none, R6). */
static bool is_canonical(const struct bytes *args, size_t first, size_t count, size_t sizes,
                         const char *line_end)
{
    for (size_t i = count - sizes; i < count; i++)
        if (args[i].len > 1 && args[i].data[0] == '0') return false;
    for (size_t i = first; i + 1 < count; i++)
        if (args[i].data + args[i].len + 1 != args[i + 1].data || args[i].data[args[i].len] != ' ')
            return false;
    const struct bytes *last = &args[count - 1];
    return last->data + last->len == line_end && line_end[0] == '\r';
}

/* Everything of a PUB or HPUB after its arguments are split. line_end: the CR or LF;
 * body: the first byte after the line. */
static inline enum nats_status finish_pub(const struct nats_limits *limits, const char *data,
                                          size_t len, const struct bytes *args, size_t count,
                                          const char *line_end, const char *body,
                                          struct nats_op *op, size_t *used)
{
    size_t sizes = op->has_headers ? 2 : 1;
    if (count != 1 + sizes && count != 2 + sizes) return NATS_BAD_ARGS;
    op->subject = args[0];
    op->reply = count == 2 + sizes ? args[1] : bytes_of(NULL, 0);
    int64_t total = nats_parse_size(args[count - 1]);
    int64_t header = op->has_headers ? nats_parse_size(args[count - 2]) : 0;
    if (header < 0 || total < 0 || header > total) return NATS_BAD_ARGS;
    op->total_bytes = (uint32_t)total;
    op->header_bytes = (uint32_t)header;
    if (limits->payload_max >= 0 && total > limits->payload_max) return NATS_PAYLOAD_BIG;

    size_t whole = (size_t)(body - data) + (size_t)total + 2;
    if (UNLIKELY(whole > len)) {
        /* A wrong byte where the CR belongs is refused before the LF is there. */
        if (whole - 1 == len && data[len - 1] != '\r') return NATS_BAD_VERB;
        *used = whole;
        return NATS_MORE;
    }
    if (UNLIKELY(body[total] != '\r' || body[total + 1] != '\n')) return NATS_BAD_VERB;
    op->payload = body;
    op->tail = is_canonical(args, 1, count, sizes, line_end)
                   ? bytes_of(args[1].data, (size_t)(body + total + 2 - args[1].data))
                   : bytes_of(NULL, 0);
    *used = whole;
    return NATS_DONE;
}

static enum nats_status parse_line(const struct nats_limits *limits, const char *data, size_t len,
                                   const struct verb_row *row, struct nats_op *op, size_t *used)
{
    size_t at = row->len;
    const char *newline = at < len ? memchr(data + at, '\n', len - at) : NULL;
    if (row->ignores_rest) {
        *used = newline == NULL ? row->len : (size_t)(newline + 1 - data);
        return newline == NULL ? NATS_SKIP_MORE : NATS_DONE;
    }
    while (at < len && is_blank(data[at])) at++;
    if (newline == NULL) {
        if (len - at > limits->control_line_max) return NATS_LINE_LONG;
        if (at > row->len + (size_t)LINE_BLANKS_MAX) return NATS_LINE_LONG;
        return NATS_MORE;
    }
    const char *line_end = newline;
    if (line_end > data + at && line_end[-1] == '\r') line_end--;
    if ((size_t)(line_end - (data + at)) > limits->control_line_max) return NATS_LINE_LONG;
    if (row->has_headers && !limits->headers_allowed) return NATS_BAD_ARGS;

    struct bytes args[ARGS_MAX];
    size_t count;
    *used = (size_t)(newline + 1 - data);
    switch (row->verb) {
    case NATS_PUB:
        count = split_args(data + at, line_end, args);
        *used = 0;
        if (is_arg_long(args, count)) return NATS_LINE_LONG;
        return finish_pub(limits, data, len, args, count, line_end, newline + 1, op, used);
    case NATS_SUB:
        count = split_args(data + at, line_end, args);
        if (count != 2 && count != 3) return NATS_BAD_ARGS;
        if (is_arg_long(args, count)) return NATS_LINE_LONG;
        op->subject = args[0];
        op->queue = count == 3 ? args[1] : bytes_of(NULL, 0);
        op->sid = args[count - 1];
        return NATS_DONE;
    case NATS_UNSUB:
        count = split_args(data + at, line_end, args);
        if (count != 1 && count != 2) return NATS_BAD_ARGS;
        if (is_arg_long(args, count)) return NATS_LINE_LONG;
        op->sid = args[0];
        op->max = count == 2 ? nats_parse_size(args[1]) : -1;
        return NATS_DONE;
    default: break;
    }
    op->arg = bytes_of(data + at, (size_t)(line_end - (data + at)));
    return NATS_DONE;
}

#ifdef __SSE2__
#include <emmintrin.h>

enum { FAST_BYTES = 72 }; /* verb and 64 bytes of line */

static inline uint64_t mask_of(__m128i a, __m128i b, __m128i c, __m128i d)
{
    return (uint64_t)(uint16_t)_mm_movemask_epi8(a) |
           (uint64_t)(uint16_t)_mm_movemask_epi8(b) << 16 |
           (uint64_t)(uint16_t)_mm_movemask_epi8(c) << 32 |
           (uint64_t)(uint16_t)_mm_movemask_epi8(d) << 48;
}

/* Digits without a needless zero; -1: anything else, the slow path must look. */
static inline int64_t parse_size_fast(const char *at, const char *end)
{
    size_t digits = (size_t)(end - at);
    if (UNLIKELY(digits - 1 >= SIZE_DIGITS_MAX)) return -1;
    uint32_t size = (unsigned char)*at - (uint32_t)'0';
    if (UNLIKELY(size > 9 || (size == 0 && digits > 1))) return -1;
    while (++at < end) {
        uint32_t digit = (unsigned char)*at - (uint32_t)'0';
        if (UNLIKELY(digit > 9)) return -1;
        size = size * 10 + digit;
    }
    return size;
}

/* The usual PUB or HPUB: canonical (see is_canonical), the whole line within 64 bytes and at least
 * as many there. One pass finds the line end and the blanks; the payload is never scanned. Every
 * word goes straight into *op: passed on through an array it would be stored in halves and loaded
 * whole, which stalls. False: the slow path must look, also for everything that is wrong. */
static inline bool parse_pub_fast(const struct nats_limits *limits, const char *data, size_t len,
                                  bool has_headers, struct nats_op *op, size_t *used,
                                  enum nats_status *status)
{
    const char *line = data + (has_headers ? 5 : 4);
    const __m128i *from = (const __m128i *)(const void *)line;
    __m128i v0 = _mm_loadu_si128(from), v1 = _mm_loadu_si128(from + 1);
    __m128i v2 = _mm_loadu_si128(from + 2), v3 = _mm_loadu_si128(from + 3);
    __m128i lf = _mm_set1_epi8('\n'), space = _mm_set1_epi8(' ');
    uint64_t newline = mask_of(_mm_cmpeq_epi8(v0, lf), _mm_cmpeq_epi8(v1, lf),
                               _mm_cmpeq_epi8(v2, lf), _mm_cmpeq_epi8(v3, lf));
    /* Bytes up to the space: it and every control character, the CR before the LF as well. */
    uint64_t low = mask_of(_mm_cmpeq_epi8(_mm_max_epu8(v0, space), space),
                           _mm_cmpeq_epi8(_mm_max_epu8(v1, space), space),
                           _mm_cmpeq_epi8(_mm_max_epu8(v2, space), space),
                           _mm_cmpeq_epi8(_mm_max_epu8(v3, space), space));
    if (newline == 0 || (newline & 3) != 0) return false; /* none, or in the first two bytes */
    unsigned line_len = (unsigned)__builtin_ctzll(newline) - 1;
    if (UNLIKELY(line[line_len] != '\r' || line_len > limits->control_line_max)) return false;

    low &= (1ull << line_len) - 1;
    if (UNLIKELY((low & (low << 1 | 1)) != 0)) return false; /* two in a row, or the first byte */
    unsigned blanks[ARGS_MAX - 1];                           /* between the arguments */
    unsigned count = 0;
    while (low != 0) {
        unsigned at = (unsigned)__builtin_ctzll(low);
        low &= low - 1;
        if (UNLIKELY(line[at] != ' ' || count == ARGS_MAX - 1)) return false;
        blanks[count++] = at;
    }
    unsigned sizes = has_headers ? 2 : 1;
    if (UNLIKELY(count - sizes > 1)) return false;
    op->subject = bytes_of(line, blanks[0]);
    op->reply = bytes_of(NULL, 0);
    if (count > sizes) op->reply = bytes_of(line + blanks[0] + 1, blanks[1] - blanks[0] - 1);
    const char *line_end = line + line_len;
    const char *last = line + blanks[count - 1];
    int64_t total = parse_size_fast(last + 1, line_end);
    int64_t header_bytes = has_headers ? parse_size_fast(line + blanks[count - 2] + 1, last) : 0;
    if (UNLIKELY(total < 0 || header_bytes < 0 || header_bytes > total)) return false;
    if (UNLIKELY(limits->payload_max >= 0 && total > limits->payload_max)) return false;

    const char *body = line_end + 2;
    size_t whole = (size_t)(body - data) + (size_t)total + 2;
    *used = whole;
    if (UNLIKELY(whole > len || body[total] != '\r' || body[total + 1] != '\n')) return false;
    op->verb = NATS_PUB;
    op->has_headers = has_headers;
    op->total_bytes = (uint32_t)total;
    op->header_bytes = (uint32_t)header_bytes;
    op->payload = body;
    op->tail = bytes_of(line + blanks[0] + 1, (size_t)(body + total + 2 - (line + blanks[0] + 1)));
    *status = NATS_DONE;
    return true;
}
#endif

enum nats_status nats_parse(const struct nats_limits *limits, const char *data, size_t len,
                            struct nats_op *op, size_t *used)
{
    *used = 0;
    if (len == 0) return NATS_MORE;
#ifdef __SSE2__
    if (LIKELY(len >= FAST_BYTES)) {
        uint32_t word;
        memcpy(&word, data, sizeof word);
        enum nats_status status;
        /* Little endian, letters without their case bit: "PUB " and "HPUB". */
        bool is_pub = (word & 0xffdfdfdfu) == 0x20425550u;
        bool is_hpub =
            (word & 0xdfdfdfdfu) == 0x42555048u && data[4] == ' ' && limits->headers_allowed;
        if ((is_pub || is_hpub) && parse_pub_fast(limits, data, len, is_hpub, op, used, &status))
            return status;
    }
#endif
    const struct verb_row *row = NULL;
    enum nats_status found = find_verb(data, len, &row);
    if (found != NATS_DONE) return found;
    *op = (struct nats_op){.verb = row->verb, .has_headers = row->has_headers, .max = -1};
    return parse_line(limits, data, len, row, op, used);
}
