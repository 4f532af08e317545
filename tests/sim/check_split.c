/* R6: what the server answers never depends on how bytes were split into reads. One connection
 * says the same bytes in other pieces, to a server of the same seed, and must hear the same. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "core/base/must.h"
#include "tests/sim/workload.h"

enum { SCRIPT_BYTES = 40000, HEARD_BYTES = 1 << 20, VERBS = 60 };
static const uint64_t RUN_NS = 300000000;

static size_t write_script(uint64_t seed, char *room)
{
    struct rng r;
    rng_init(&r, seed);
    size_t n = (size_t)snprintf(room, SCRIPT_BYTES,
                                "CONNECT {\"verbose\":%s,\"headers\":true,\"user\":\"u\","
                                "\"pass\":\"p\",\"no_responders\":true}\r\n",
                                rng_below(&r, 2) ? "true" : "false");
    for (int i = 0; i < VERBS; i++) {
        uint32_t bytes = rng_below(&r, 400), k = rng_below(&r, 3);
        switch (rng_below(&r, 8)) {
        case 0: n += (size_t)snprintf(room + n, SCRIPT_BYTES - n, "SUB s.%u  %d\r\n", k, i); break;
        case 1: n += (size_t)snprintf(room + n, SCRIPT_BYTES - n, "sub\ts.> %d\n", i); break;
        case 2:
            n += (size_t)snprintf(room + n, SCRIPT_BYTES - n, "UNSUB %u %u\r\n",
                                  rng_below(&r, VERBS), k);
            break;
        case 3: n += (size_t)snprintf(room + n, SCRIPT_BYTES - n, "PING\r\n"); break;
        case 4:
            n += (size_t)snprintf(room + n, SCRIPT_BYTES - n, "PUB s.%u s.r %u\r\n%0*u\r\n", k,
                                  bytes + 10, (int)(bytes % 400) + 10, i);
            break;
        case 5:
            n += (size_t)snprintf(room + n, SCRIPT_BYTES - n,
                                  "HPUB s.%u 12 %u\r\nNATS/1.0\r\n\r\n%0*u\r\n", k, bytes + 22,
                                  (int)(bytes % 400) + 10, i);
            break;
        case 6: n += (size_t)snprintf(room + n, SCRIPT_BYTES - n, "PONG\r\n+OK\r\n"); break;
        default:
            n += (size_t)snprintf(room + n, SCRIPT_BYTES - n, "PUB  s.%u   0\r\n\r\n", k);
            break;
        }
        must(n + 2000 < SCRIPT_BYTES);
    }
    static const char *const ends[] = {
        "PING\r\n",         "PXNG\r\n", "PUB s.1 abc\r\n", "SUB\r\n", "PUB s.1 5\r\n123456789\r\n",
        "HPUB s.1 9 4\r\n", "\r\n"};
    n += (size_t)snprintf(room + n, SCRIPT_BYTES - n, "%s", ends[rng_below(&r, 7)]);
    return n;
}

static size_t listen_to(uint64_t seed, uint64_t net_seed, uint32_t piece_bytes, const char *script,
                        size_t bytes, char *heard)
{
    struct server *s = calloc(1, sizeof *s);
    must(s != NULL);
    struct server_config config = {.seed = seed,
                                   .net_seed = net_seed,
                                   .shard_count = 3,
                                   .ring_bytes = 65536,
                                   .conf = "port: 4222\nauthorization { user: u, password: p }\n"};
    must(server_open(s, &config));
    s->net.piece_bytes_max = piece_bytes;
    struct net_link *l = server_connect(s, 1000, HEARD_BYTES);
    server_run_for(s, 1000000);
    net_write(l, script, bytes);
    server_run_for(s, RUN_NS);
    size_t n = net_read(l, heard, HEARD_BYTES);
    net_reset(l);
    must(server_close(s));
    free(s);
    return n;
}

void check_split(uint64_t seed, uint64_t *errors)
{
    char *script = malloc(SCRIPT_BYTES), *whole = malloc(HEARD_BYTES), *cut = malloc(HEARD_BYTES);
    must(script != NULL && whole != NULL && cut != NULL);
    size_t bytes = write_script(seed, script);
    size_t a = listen_to(seed, 1, SCRIPT_BYTES, script, bytes, whole);
    size_t b = listen_to(seed, seed + 2, 1 + (uint32_t)(seed % 40), script, bytes, cut);
    must(a > 300); /* INFO and more */
    size_t same = 0;
    while (same < a && same < b && whole[same] == cut[same]) same++;
    if (a != b || same < a) {
        fprintf(stderr, "seed %llu: R6: %zu and %zu bytes, same up to %zu\n  [%.60s]\n  [%.60s]\n",
                (unsigned long long)seed, a, b, same, whole + same, cut + same);
        ++*errors;
    }
    free(script);
    free(whole);
    free(cut);
}
