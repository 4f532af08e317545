/* Threads that log as fast as they can, into a pipe with a slow reader and then into a file that
 * is reopened and replaced meanwhile: each line arrives whole, in its thread's order, or is counted
 * as dropped.
 * links: io */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "io/log.h"

enum { THREADS = 3, LINES = 20000, TEXT_BYTES = 16 * 1024 * 1024 };

struct producer {
    struct log *l;
    int number;
};

static void *produce(void *context)
{
    struct producer *me = context;
    char filler[64];
    memset(filler, 'x', sizeof filler);
    for (int i = 0; i < LINES; i++) {
        log_info(me->l, "<%d %d %.*s>", me->number, i, i % (int)sizeof filler, filler);
    }
    return NULL;
}

struct reader {
    int fd;
    char *text;
    size_t bytes;
};

static void *read_slowly(void *context)
{
    struct reader *r = context;
    ssize_t n;
    while ((n = read(r->fd, r->text + r->bytes, 4096)) > 0) {
        r->bytes += (size_t)n;
        if (r->bytes % 7 == 0) usleep(100);
    }
    return NULL;
}

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

/* Counts the producers' lines and checks shape and order. */
static unsigned long check_lines(const char *text)
{
    int last[THREADS], number, index;
    unsigned long count = 0;
    for (int i = 0; i < THREADS; i++) last[i] = -1;
    for (const char *at = strchr(text, '<'); at != NULL; at = strchr(at + 1, '<'), count++) {
        CHECK(sscanf(at, "<%d %d ", &number, &index) == 2);
        CHECK(number >= 0 && number < THREADS);
        CHECK(index > last[number]);
        last[number] = index;
        const char *end = strchr(at, '>');
        CHECK(end != NULL && end[1] == '\n');
        const char *filler = strchr(strchr(at, ' ') + 1, ' ') + 1;
        CHECK(end - filler == index % 64);
    }
    return count;
}

static void run_producers(struct log *l)
{
    pthread_t threads[THREADS];
    struct producer producers[THREADS];
    for (int i = 0; i < THREADS; i++) {
        producers[i] = (struct producer){l, i};
        CHECK(pthread_create(&threads[i], NULL, produce, &producers[i]) == 0);
    }
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
}

static struct log *open_log(const struct log_options *o)
{
    struct log *l;
    char reason[512];
    CHECK(log_open(o, &l, reason, sizeof reason) == ERR_OK);
    CHECK(log_start(l) == ERR_OK);
    return l;
}

static void through_a_pipe(void)
{
    int pipes[2];
    pthread_t thread;
    CHECK(pipe(pipes) == 0);
    struct reader r = {.fd = pipes[0], .text = calloc(1, TEXT_BYTES)};
    struct log *l = open_log(&(struct log_options){.stderr_fd = pipes[1], .has_time = true});
    CHECK(pthread_create(&thread, NULL, read_slowly, &r) == 0);
    run_producers(l);
    CHECK(log_flush(l, 20000));
    unsigned long dropped = log_dropped(l);
    log_close(l);
    close(pipes[1]);
    pthread_join(thread, NULL);
    unsigned long arrived = check_lines(r.text);
    printf("pipe: %lu arrived, %lu dropped\n", arrived, dropped);
    CHECK(arrived + dropped == (unsigned long)THREADS * LINES);
    close(pipes[0]);
    free(r.text);
}

struct disturber {
    struct log *l;
    const struct log_options *o;
    _Atomic bool is_done;
};

static void *disturb(void *context)
{
    struct disturber *d = context;
    char reason[512];
    for (int i = 0; !atomic_load(&d->is_done); i++) {
        if (i % 2 == 0) {
            log_reopen(d->l);
        } else {
            CHECK(log_configure(d->l, d->o, reason, sizeof reason) == ERR_OK);
        }
        usleep(500);
    }
    return NULL;
}

static void through_a_file(void)
{
    char path[] = "/tmp/millrace-model-log-XXXXXX";
    pthread_t thread;
    int fd = mkstemp(path);
    CHECK(fd >= 0);
    struct log_options o = {.file = path, .has_time = true, .is_utc = true};
    struct log *l = open_log(&o);
    struct disturber d = {.l = l, .o = &o};
    CHECK(pthread_create(&thread, NULL, disturb, &d) == 0);
    run_producers(l);
    atomic_store(&d.is_done, true);
    pthread_join(thread, NULL);
    CHECK(log_flush(l, 20000));
    unsigned long dropped = log_dropped(l);
    log_close(l);
    char *text = calloc(1, TEXT_BYTES);
    size_t bytes = 0;
    ssize_t n;
    while ((n = read(fd, text + bytes, TEXT_BYTES - 1 - bytes)) > 0) bytes += (size_t)n;
    unsigned long arrived = check_lines(text);
    printf("file: %lu arrived, %lu dropped\n", arrived, dropped);
    CHECK(arrived + dropped == (unsigned long)THREADS * LINES);
    close(fd);
    unlink(path);
    free(text);
}

int main(void)
{
    through_a_pipe();
    through_a_file();
    return 0;
}
