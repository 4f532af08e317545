#include "bench/load_conn.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bench/load_probe.h"
#include "core/base/must.h"

enum { OUT_FIRST_BYTES = 512, IN_FIRST_BYTES = 64 * 1024, TEXT_BYTES = 1024, FIELDS_MAX = 6 };

/* Receives in a row: one reader must keep up with many publishers of the same thread. */
enum { READS_MAX = 16 };

void load_conn_fail(struct load_conn *conn, const char *format, ...)
{
    conn->failed = true;
    if (conn->error[0] != '\0') return;
    va_list args;
    va_start(args, format);
    vsnprintf(conn->error, sizeof(conn->error), format, args);
    va_end(args);
}

/* --- bytes ---------------------------------------------------------------------------------- */

static void bytes_reserve(struct load_bytes *bytes, size_t more, size_t first)
{
    if (bytes->begin == bytes->end) bytes->begin = bytes->end = 0;
    if (bytes->size - bytes->end >= more) return;
    if (bytes->begin > 0) {
        memmove(bytes->data, bytes->data + bytes->begin, bytes->end - bytes->begin);
        bytes->end -= bytes->begin;
        bytes->begin = 0;
    }
    size_t size = bytes->size ? bytes->size : first;
    while (size - bytes->end < more) size *= 2;
    if (size == bytes->size) return;
    bytes->data = realloc(bytes->data, size);
    must(bytes->data != NULL);
    bytes->size = size;
}

void load_conn_put(struct load_conn *conn, const void *data, size_t count)
{
    must(conn->out.end - conn->out.begin + count <= LOAD_CONN_OUT_MAX);
    bytes_reserve(&conn->out, count, OUT_FIRST_BYTES);
    memcpy(conn->out.data + conn->out.end, data, count);
    conn->out.end += count;
}

void load_conn_putf(struct load_conn *conn, const char *format, ...)
{
    char text[TEXT_BYTES];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    must(length >= 0 && (size_t)length < sizeof(text));
    load_conn_put(conn, text, (size_t)length);
}

/* --- opening -------------------------------------------------------------------------------- */

static enum err bind_source(int fd, const char *source)
{
    struct sockaddr_in from = {.sin_family = AF_INET};
    int on = 1;
    if (inet_pton(AF_INET, source, &from.sin_addr) != 1) return ERR_INVALID;
    /* The port is chosen at connect, where only the four-tuple has to be unique. */
    (void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
    return bind(fd, (struct sockaddr *)&from, sizeof(from)) == 0 ? ERR_OK : ERR_IO;
}

enum err load_conn_begin(struct load_conn *conn, const struct load_opts *opts, const char *source)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *list = NULL;
    *conn = (struct load_conn){.fd = -1};
    int failure = getaddrinfo(opts->host, opts->port, &hints, &list);
    if (failure != 0) {
        load_conn_fail(conn, "%s:%s: %s", opts->host, opts->port, gai_strerror(failure));
        return ERR_IO;
    }
    enum err e = ERR_IO;
    int on = 1;
    conn->fd = socket(list->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (conn->fd < 0) goto out;
    (void)setsockopt(conn->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    if (source && list->ai_family == AF_INET && bind_source(conn->fd, source) != ERR_OK) goto out;
    if (connect(conn->fd, list->ai_addr, list->ai_addrlen) != 0 && errno != EINPROGRESS) goto out;
    conn->line = malloc(LOAD_CONN_LINE_MAX);
    must(conn->line != NULL);
    e = ERR_OK;
out:
    if (e != ERR_OK) {
        load_conn_fail(conn, "connect: %s", strerror(errno));
        if (conn->fd >= 0) close(conn->fd);
        conn->fd = -1;
    }
    freeaddrinfo(list);
    return e;
}

void load_conn_close(struct load_conn *conn)
{
    if (conn->fd >= 0) close(conn->fd);
    conn->fd = -1;
    free(conn->line);
    free(conn->in.data);
    free(conn->out.data);
    conn->line = NULL;
    conn->in = (struct load_bytes){0};
    conn->out = (struct load_bytes){0};
}

static void put_json_text(struct load_conn *conn, const char *name, const char *value)
{
    if (value[0] == '\0') return;
    load_conn_putf(conn, ",\"%s\":\"", name);
    for (const char *c = value; *c; c++) {
        if (*c == '"' || *c == '\\')
            load_conn_putf(conn, "\\%c", *c);
        else if ((unsigned char)*c < 0x20)
            load_conn_putf(conn, "\\u%04x", (unsigned)*c);
        else
            load_conn_put(conn, c, 1);
    }
    load_conn_putf(conn, "\"");
}

void load_conn_login(struct load_conn *conn, const struct load_opts *opts)
{
    load_conn_putf(conn,
                   "CONNECT {\"verbose\":false,\"pedantic\":false,\"echo\":true,\"protocol\":1,"
                   "\"headers\":true,\"no_responders\":true,\"lang\":\"c\",\"version\":\"1\","
                   "\"name\":\"load\"");
    put_json_text(conn, "user", opts->user);
    put_json_text(conn, "pass", opts->pass);
    put_json_text(conn, "auth_token", opts->token);
    load_conn_putf(conn, "}\r\nPING\r\n");
}

/* --- receiving ------------------------------------------------------------------------------ */

/* Copies the text of "name":"text" out of the INFO; the rest of the JSON is of no interest. */
static void take_info_text(const char *info, const char *name, char *into, size_t size)
{
    const char *at = strstr(info, name);
    if (!at) return;
    at += strlen(name);
    size_t length = strcspn(at, "\"");
    if (length >= size) length = size - 1;
    memcpy(into, at, length);
    into[length] = '\0';
}

static void handle_line(struct load_conn *conn)
{
    char *line = conn->line;
    line[conn->line_bytes < LOAD_CONN_LINE_MAX ? conn->line_bytes : LOAD_CONN_LINE_MAX - 1] = '\0';
    conn->line_bytes = 0;
    line[strcspn(line, "\r\n")] = '\0';
    if (strcmp(line, "PING") == 0) {
        load_conn_putf(conn, "PONG\r\n");
    } else if (strcmp(line, "PONG") == 0) {
        conn->pongs++;
    } else if (strncmp(line, "INFO ", 5) == 0) {
        conn->infos++;
        take_info_text(line, "\"version\":\"", conn->server_version, sizeof(conn->server_version));
        take_info_text(line, "\"server_name\":\"", conn->server_name, sizeof(conn->server_name));
    } else if (strncmp(line, "-ERR", 4) == 0) {
        conn->errors++;
        load_conn_fail(conn, "%s", line);
    } else if (strcmp(line, "+OK") != 0) {
        conn->errors++;
        load_conn_fail(conn, "out of step: '%.60s'", line);
    }
}

/* Collects a line that is no message, possibly over several reads; *end is behind it. */
static const uint8_t *take_line(struct load_conn *conn, const uint8_t *at, const uint8_t *end)
{
    const uint8_t *newline = memchr(at, '\n', (size_t)(end - at));
    const uint8_t *stop = newline ? newline + 1 : end;
    size_t count = (size_t)(stop - at);
    size_t room = LOAD_CONN_LINE_MAX - conn->line_bytes;
    memcpy(conn->line + conn->line_bytes, at, count < room ? count : room);
    conn->line_bytes += (uint32_t)(count < room ? count : room);
    if (newline) handle_line(conn);
    return stop;
}

static void receive_counting(struct load_conn *conn, const uint8_t *at, size_t count)
{
    const uint8_t *end = at + count;
    uint64_t messages = conn->messages;
    const uint64_t stride = conn->stride_bytes;
    if (conn->skip_bytes > 0) {
        uint64_t skip = conn->skip_bytes < count ? conn->skip_bytes : count;
        conn->skip_bytes -= skip;
        at += skip;
        if (conn->skip_bytes == 0) messages++;
    }
    while (at < end && !conn->failed) {
        if (LIKELY(*at == 'M' && conn->line_bytes == 0 && stride > 0)) {
            uint64_t left = (uint64_t)(end - at);
            if (left < stride) {
                conn->skip_bytes = stride - left;
                break;
            }
            at += stride;
            messages++;
        } else {
            at = take_line(conn, at, end);
        }
    }
    conn->messages = messages;
}

static bool parse_number(const char *at, size_t count, uint64_t *value)
{
    *value = 0;
    if (count == 0 || count > 18) return false;
    for (size_t i = 0; i < count; i++) {
        if (at[i] < '0' || at[i] > '9') return false;
        *value = *value * 10 + (uint64_t)(at[i] - '0');
    }
    return true;
}

/* MSG subject sid [reply] bytes | HMSG subject sid [reply] header-bytes bytes. False: malformed. */
static bool parse_head(const char *line, size_t count, struct load_message *m)
{
    const char *fields[FIELDS_MAX];
    size_t lengths[FIELDS_MAX];
    uint32_t n = 0;
    bool has_headers = line[0] == 'H';
    for (size_t i = 0; i < count;) {
        size_t begin = i;
        while (i < count && line[i] != ' ') i++;
        if (n == FIELDS_MAX || i == begin) return false;
        fields[n] = line + begin;
        lengths[n++] = i - begin;
        i++;
    }
    uint32_t numbers = has_headers ? 2 : 1;
    if (n != 3 + numbers && n != 4 + numbers) {
        return false;
    }
    uint64_t total;
    uint64_t headers = 0;
    if (!parse_number(fields[n - 1], lengths[n - 1], &total)) return false;
    if (has_headers && !parse_number(fields[n - 2], lengths[n - 2], &headers)) return false;
    if (headers > total || total > LOAD_SIZE_MAX) return false;
    if (!parse_number(fields[2], lengths[2], &m->sid)) return false;
    bool has_reply = n == 4 + numbers;
    m->subject = fields[1];
    m->subject_bytes = (uint32_t)lengths[1];
    m->reply = has_reply ? fields[3] : NULL;
    m->reply_bytes = has_reply ? (uint32_t)lengths[3] : 0;
    m->header_bytes = (uint32_t)headers;
    m->payload_bytes = (uint32_t)(total - headers);
    return true;
}

/* Hands out one message at `at`; returns what it took, 0 if it is not whole yet. */
static size_t parse_message(struct load_conn *conn, const uint8_t *at, size_t count, uint64_t now)
{
    struct load_message m = {.now_ns = now};
    const uint8_t *newline = memchr(at, '\n', count);
    if (!newline) return 0;
    size_t head = (size_t)(newline - at) + 1;
    if (head < 2 || newline[-1] != '\r' || !parse_head((const char *)at, head - 2, &m)) {
        conn->errors++;
        load_conn_fail(conn, "malformed: '%.*s'", (int)(head < 60 ? head : 60), (const char *)at);
        return 0;
    }
    size_t body = (size_t)m.header_bytes + m.payload_bytes;
    if (count - head < body + 2) return 0;
    m.payload = at + head + m.header_bytes;
    if (memcmp(m.payload + m.payload_bytes, "\r\n", 2) != 0) {
        conn->errors++;
        load_conn_fail(conn, "no line end behind a payload");
        return 0;
    }
    conn->messages++;
    conn->on_message(conn, &m);
    return head + body + 2;
}

static void receive_parsing(struct load_conn *conn, const uint8_t *data, size_t count)
{
    uint64_t now = load_probe_now_ns();
    const uint8_t *at = data;
    const uint8_t *end = data + count;
    bool carried = conn->in.begin < conn->in.end;
    if (carried) {
        bytes_reserve(&conn->in, count, IN_FIRST_BYTES);
        memcpy(conn->in.data + conn->in.end, data, count);
        conn->in.end += count;
        at = conn->in.data + conn->in.begin;
        end = conn->in.data + conn->in.end;
    }
    while (at < end && !conn->failed) {
        bool is_message = (*at == 'M' || *at == 'H') && conn->line_bytes == 0;
        if (!is_message) {
            at = take_line(conn, at, end);
            continue;
        }
        size_t taken = parse_message(conn, at, (size_t)(end - at), now);
        if (taken == 0) break;
        at += taken;
    }
    if (carried) {
        conn->in.begin = (size_t)(at - conn->in.data);
    } else if (at < end) {
        bytes_reserve(&conn->in, (size_t)(end - at), IN_FIRST_BYTES);
        memcpy(conn->in.data + conn->in.end, at, (size_t)(end - at));
        conn->in.end += (size_t)(end - at);
    }
}

/* One receive; true if there may be more. */
static bool read_once(struct load_conn *conn, uint8_t *buffer)
{
    ssize_t got = recv(conn->fd, buffer, LOAD_CONN_READ_BYTES, MSG_DONTWAIT);
    if (got < 0) {
        if (errno != EAGAIN && errno != EINTR) {
            load_conn_fail(conn, "receive: %s", strerror(errno));
        }
        return false;
    }
    if (got == 0) {
        load_conn_fail(conn, "closed by the server");
        return false;
    }
    if (conn->on_message)
        receive_parsing(conn, buffer, (size_t)got);
    else
        receive_counting(conn, buffer, (size_t)got);
    return got == LOAD_CONN_READ_BYTES && !conn->failed;
}

void load_conn_read(struct load_conn *conn, uint8_t *buffer)
{
    for (int i = 0; i < READS_MAX && read_once(conn, buffer); i++) continue;
}

/* --- sending -------------------------------------------------------------------------------- */

/* What send took; 0 when the socket is full or gone. */
static size_t send_some(struct load_conn *conn, const void *data, size_t count)
{
    ssize_t sent = send(conn->fd, data, count, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent >= 0) return (size_t)sent;
    if (errno != EAGAIN && errno != EINTR) load_conn_fail(conn, "send: %s", strerror(errno));
    return 0;
}

static bool is_between_messages(const struct load_conn *conn)
{
    return !conn->pub || conn->pub->position % conn->pub->tape->frame_bytes == 0;
}

static void write_out(struct load_conn *conn)
{
    size_t count = conn->out.end - conn->out.begin;
    if (count == 0) return;
    conn->out.begin += send_some(conn, conn->out.data + conn->out.begin, count);
}

static void write_tape(struct load_conn *conn)
{
    struct load_pub *pub = conn->pub;
    const struct load_tape *tape = pub->tape;
    size_t tape_bytes = tape->frame_bytes * tape->frame_count;
    size_t count = tape_bytes - pub->position;
    if (count > LOAD_CONN_WRITE_BYTES) count = LOAD_CONN_WRITE_BYTES;
    if (count > pub->bytes_left) count = (size_t)pub->bytes_left;
    if (conn->out.begin < conn->out.end) { /* a PONG is due: only up to the end of this message */
        size_t rest = tape->frame_bytes - pub->position % tape->frame_bytes;
        if (count > rest) count = rest;
    }
    size_t sent = count > 0 ? send_some(conn, tape->data + pub->position, count) : 0;
    pub->position += sent;
    if (pub->bytes_left != UINT64_MAX) pub->bytes_left -= sent;
    if (pub->position == tape_bytes) {
        pub->position = 0;
        pub->frames_begun += tape->frame_count;
        if (pub->stamps) load_tape_stamp(tape, pub->publisher, pub->frames_begun);
    }
    if (pub->bytes_left == 0) {
        must(is_between_messages(conn));
        load_conn_putf(conn, "PING\r\n");
        pub->state = LOAD_PUB_FLUSHING;
        pub->pongs_wanted = conn->pongs + 1;
    }
}

/* A pause does not hold up the end of a phase: what is left then is less than one message. */
static bool has_tape_output(const struct load_conn *conn)
{
    const struct load_pub *pub = conn->pub;
    if (!pub || pub->state != LOAD_PUB_SENDING) return false;
    return !pub->is_paused || pub->bytes_left < pub->tape->frame_bytes;
}

void load_conn_write(struct load_conn *conn)
{
    if (conn->failed) return;
    if (is_between_messages(conn)) {
        write_out(conn);
        if (conn->out.begin < conn->out.end) return;
    }
    if (has_tape_output(conn)) write_tape(conn);
}

bool load_conn_has_output(const struct load_conn *conn)
{
    if (conn->failed) return false;
    return has_tape_output(conn) || conn->out.begin < conn->out.end;
}

/* --- waiting -------------------------------------------------------------------------------- */

/* Polls, reads and writes until `infos` and `pongs` have come. */
static enum err wait_for(struct load_conn *conn, uint64_t infos, uint64_t pongs,
                         uint64_t timeout_ns)
{
    uint64_t deadline = load_probe_now_ns() + timeout_ns;
    uint8_t *buffer = malloc(LOAD_CONN_READ_BYTES);
    must(buffer != NULL);
    enum err e = ERR_OK;
    while (conn->infos < infos || conn->pongs < pongs) {
        uint64_t now = load_probe_now_ns();
        struct pollfd poll_fd = {.fd = conn->fd, .events = POLLIN};
        if (load_conn_has_output(conn)) poll_fd.events |= POLLOUT;
        if (now >= deadline) {
            load_conn_fail(conn, "no answer in time");
            e = ERR_TIMEOUT;
            break;
        }
        (void)poll(&poll_fd, 1, (int)((deadline - now) / 1000000) + 1);
        if (poll_fd.revents & (POLLIN | POLLERR | POLLHUP)) load_conn_read(conn, buffer);
        if (poll_fd.revents & POLLOUT) load_conn_write(conn);
        if (conn->failed) {
            e = ERR_IO;
            break;
        }
    }
    free(buffer);
    return e;
}

enum err load_conn_flush_wait(struct load_conn *conn, uint64_t timeout_ns)
{
    load_conn_putf(conn, "PING\r\n");
    return wait_for(conn, 0, conn->pongs + 1, timeout_ns);
}

enum err load_conn_open(struct load_conn *conn, const struct load_opts *opts, const char *source)
{
    enum err e = load_conn_begin(conn, opts, source);
    if (e != ERR_OK) return e;
    e = wait_for(conn, 1, 0, opts->timeout_ns);
    if (e == ERR_OK) {
        load_conn_login(conn, opts);
        e = wait_for(conn, 1, 1, opts->timeout_ns);
    }
    if (e != ERR_OK) load_conn_close(conn);
    return e;
}
