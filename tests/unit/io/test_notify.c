#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "io/notify.h"

TestSuite(notify, .timeout = 10);

/* A service manager: a bound socket, by path or abstract. */
static int manager_open(const char *name)
{
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    struct timeval wait = {.tv_sec = 1};
    size_t bytes = strlen(name);
    memcpy(a.sun_path, name, bytes);
    socklen_t length = (socklen_t)(sizeof a.sun_family + bytes);
    if (name[0] == '@') {
        a.sun_path[0] = 0;
    } else {
        length++;
    }
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    cr_assert_eq(bind(fd, (struct sockaddr *)&a, length), 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
    return fd;
}

static void expect(int fd, const char *text)
{
    char got[1024];
    ssize_t n = recv(fd, got, sizeof got - 1, 0);
    cr_assert_geq(n, 0, "nothing came");
    got[n] = 0;
    cr_assert_str_eq(got, text);
}

Test(notify, every_message_is_one_datagram)
{
    char directory[] = "/tmp/millrace-notify-XXXXXX", path[64];
    cr_assert_not_null(mkdtemp(directory));
    snprintf(path, sizeof path, "%s/socket", directory);
    int fd = manager_open(path);
    struct notify n;
    cr_assert_eq(notify_open(&n, path, NULL, NULL), ERR_OK);
    cr_assert_eq(n.watchdog_ns, 0);
    notify_ready(&n, "Serving\nSTOPPING=1");
    expect(fd, "READY=1\nSTATUS=Serving");
    notify_ready(&n, NULL);
    expect(fd, "READY=1");
    notify_reloading(&n, 1234567890);
    expect(fd, "RELOADING=1\nMONOTONIC_USEC=1234567");
    notify_watchdog(&n);
    expect(fd, "WATCHDOG=1");
    notify_stopping(&n);
    expect(fd, "STOPPING=1");
    notify_close(&n);
    close(fd);
    unlink(path);
    rmdir(directory);
}

Test(notify, abstract_names_work)
{
    char name[64];
    snprintf(name, sizeof name, "@millrace-notify-%d", getpid());
    int fd = manager_open(name);
    struct notify n;
    cr_assert_eq(notify_open(&n, name, NULL, NULL), ERR_OK);
    notify_ready(&n, NULL);
    expect(fd, "READY=1");
    notify_close(&n);
    close(fd);
}

Test(notify, without_a_manager_nothing_happens)
{
    struct notify n;
    cr_assert_eq(notify_open(&n, NULL, "1000", NULL), ERR_OK);
    cr_assert_eq(n.fd, -1);
    cr_assert_eq(n.watchdog_ns, 0);
    notify_ready(&n, "x");
    notify_stopping(&n);
    notify_close(&n);
    cr_assert_eq(notify_open(&n, "relative/path", NULL, NULL), ERR_INVALID);
    notify_ready(&n, "x");
    cr_assert_eq(notify_open(&n, "@", NULL, NULL), ERR_INVALID);
}

Test(notify, the_watchdog_is_ours_only_with_our_pid)
{
    struct notify n;
    char pid[16];
    snprintf(pid, sizeof pid, "%d", getpid());
    cr_assert_eq(notify_open(&n, "/nobody", "3000000", pid), ERR_OK);
    cr_assert_eq(n.watchdog_ns, 3000000000u);
    notify_close(&n);
    cr_assert_eq(notify_open(&n, "/nobody", "3000000", "1"), ERR_OK);
    cr_assert_eq(n.watchdog_ns, 0);
    notify_close(&n);
    cr_assert_eq(notify_open(&n, "/nobody", "3s", NULL), ERR_OK);
    cr_assert_eq(n.watchdog_ns, 0);
    notify_close(&n);
}
