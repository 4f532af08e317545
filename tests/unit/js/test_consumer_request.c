#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include "core/js/consumer_request.h"
#include "tests/support/mem_heap.h"

/* What nats-server 2.15.2 said to the same request; "ok <name>" when it went on to the stream. */
static const struct {
    const char *subject, *body, *answer;
} rows[] = {
    {"CONSUMER.CREATE.S.c", "", "10056 stream name in subject does not match request"},
    {"CONSUMER.CREATE.S.c", "null", "10056 stream name in subject does not match request"},
    {"CONSUMER.CREATE.S.c", "5",
     "10025 invalid JSON: json: cannot unmarshal number into Go value of type "
     "server.CreateConsumerRequest"},
    {"CONSUMER.CREATE.S.c", "{\"stream_name\":5,\"xyz\":1}",
     "10025 invalid JSON: json: cannot unmarshal number into Go struct field "
     "CreateConsumerRequest.stream_name of type string"},
    {"CONSUMER.CREATE.S.c", "{\"xyz\":1,\"stream_name\":5}",
     "10025 invalid JSON: json: unknown field \"xyz\""},
    {"CONSUMER.CREATE.S.c", "{\"config\":5}",
     "10025 invalid JSON: json: cannot unmarshal number into Go struct field "
     "CreateConsumerRequest.config of type server.ConsumerConfig"},
    {"CONSUMER.CREATE.S.c", "{\"stream_name\":\"S\",\"config\":{\"ack_wait\":\"1s\"}}",
     "10025 invalid JSON: json: cannot unmarshal string into Go struct field "
     "ConsumerConfig.config.ack_wait of type time.Duration"},
    {"CONSUMER.CREATE.S.c", "{\"stream_name\":\"S\",\"config\":{},\"action\":\"bad\"}",
     "10025 invalid JSON: unknown consumer action: \"bad\""},
    {"CONSUMER.CREATE.S.c", "{\"stream_name\":\"S\"", "10025 invalid JSON: unexpected EOF"},
    {"CONSUMER.CREATE.S.c", "{\"stream_name\":\"S\",\"config\":null}", "ok c"},
    {"CONSUMER.CREATE.S.c", "{\"stream_name\":\"S\",\"config\":{\"name\":\"z\"}}", "ok c"},
    {"CONSUMER.CREATE.S.c", "{\"stream_name\":\"S\",\"config\":{\"durable_name\":\"d\"}}",
     "10017 consumer name in subject does not match durable name in request"},
    {"CONSUMER.CREATE.S", "{\"stream_name\":\"S\",\"config\":{}}", "ok "},
    {"CONSUMER.CREATE.S", "{\"stream_name\":\"S\",\"config\":{\"name\":\"z\"}}", "ok z"},
    {"CONSUMER.CREATE.S", "{\"stream_name\":\"S\",\"config\":{\"durable_name\":\"c\"}}",
     "10020 consumer expected to be ephemeral but a durable name was set in request"},
    {"CONSUMER.CREATE.S.c.a.b", "{\"stream_name\":\"S\",\"config\":{}}",
     "10131 Consumer create request did not match filtered subject from create subject"},
    {"CONSUMER.CREATE.S.c.a.b", "{\"stream_name\":\"S\",\"config\":{\"filter_subject\":\"a.b\"}}",
     "ok c"},
    {"CONSUMER.CREATE.S.c.a.b",
     "{\"stream_name\":\"S\",\"config\":{\"filter_subjects\":[\"a.b\"]}}",
     "10137 consumer with multiple subject filters cannot use subject based API"},
    {"CONSUMER.DURABLE.CREATE.S.c", "{\"stream_name\":\"S\",\"config\":{}}",
     "10018 consumer expected to be durable but a durable name was not set"},
    {"CONSUMER.DURABLE.CREATE.S.c", "{\"stream_name\":\"S\",\"config\":{\"durable_name\":\"c\"}}",
     "ok c"},
    {"CONSUMER.CREATE.T.c", "{\"stream_name\":\"S\",\"config\":{}}",
     "10056 stream name in subject does not match request"},
    {"CONSUMER.CREATE.S.c/d", "{\"stream_name\":\"S\",\"config\":{}}",
     "10127 Consumer name can not contain path separators"},
    {"CONSUMER.CREATE.S.c", "{\"stream_name\":\"S\",\"config\":{\"num_replicas\":2}}",
     "10074 replicas > 1 not supported in non-clustered mode"},
};

Test(consumer_request, answers_are_those_of_nats_server)
{
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct mem_heap heap;
        struct arena arena;
        struct consumer_request r;
        struct jsapi_error error;
        char answer[JSAPI_ERROR_TEXT_BYTES + 100];
        mem_heap_init(&heap);
        arena_init(&arena, &heap.mem, MEM_JETSTREAM);
        jsapi_error_clear(&error);
        if (consumer_request_read(&arena, bytes_from_text(rows[i].subject),
                                  bytes_from_text(rows[i].body), REQUEST_STRICT, &r, &error))
            snprintf(answer, sizeof answer, "ok %.*s", (int)r.config.name.len, r.config.name.data);
        else
            snprintf(answer, sizeof answer, "%u %.*s", jsapi_error_err_code(error.id),
                     (int)error.text_len, error.text);
        cr_assert_str_eq(answer, rows[i].answer, "%s %s: %s", rows[i].subject, rows[i].body,
                         answer);
        arena_deinit(&arena);
        cr_assert_eq(heap.live_count, 0);
    }
}
