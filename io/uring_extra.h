/* What the kernel offers beyond the header of liburing 2.3: constants under #ifndef, and layouts
 * whose fields were renamed between versions of that header, under our own names. Registrations go
 * through the raw io_uring_register call. Whether the running kernel knows them is found by trying
 * (io/ring_check), never by its version. */
#ifndef IO_URING_EXTRA_H
#define IO_URING_EXTRA_H
#include <liburing.h>
#include <stdint.h>

/* Linux 6.12: a buffer of a provided ring is used up piece by piece. */
#ifndef IOU_PBUF_RING_INC
#define IOU_PBUF_RING_INC 2
#endif
#ifndef IORING_CQE_F_BUF_MORE
#define IORING_CQE_F_BUF_MORE (1U << 4) /* more pieces of this buffer follow */
#endif

/* Linux 6.12: io_uring_enter waits min_wait_usec for a whole batch first. */
#ifndef IORING_FEAT_MIN_TIMEOUT
#define IORING_FEAT_MIN_TIMEOUT (1U << 15)
#endif

/* Linux 6.13: a message to a ring, sent by a thread that has none. An enum constant of newer
 * headers, hence a name of our own. */
#define URING_REGISTER_SEND_MSG_RING 31

/* Argument of IORING_REGISTER_PBUF_RING; flags is "pad" in older headers. */
struct uring_buf_reg {
    uint64_t ring_addr;
    uint32_t ring_entries;
    uint16_t bgid;
    uint16_t flags;
    uint64_t resv[3];
};

/* Argument of IORING_ENTER_EXT_ARG; min_wait_usec is "pad" in older headers. */
struct uring_getevents_arg {
    uint64_t sigmask;
    uint32_t sigmask_sz;
    uint32_t min_wait_usec;
    uint64_t ts;
};

_Static_assert(sizeof(struct uring_buf_reg) == sizeof(struct io_uring_buf_reg), "kernel layout");
_Static_assert(sizeof(struct uring_getevents_arg) == sizeof(struct io_uring_getevents_arg),
               "kernel layout");

#endif
