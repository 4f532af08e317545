"""A disk that loses power: ext4 on a loop device on nbdfuse on nbdkit with power_disk.c, whose
writes are volatile until a flush. Needs root, Debian's nbdkit, nbdkit-plugin-dev, libnbd-bin,
fuse3, and a compiler."""
import os
import socket
import subprocess
import time

SOURCE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "power_disk.c")


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


class PowerDisk:
    def __init__(self, folder, dice, megabytes=2048):
        self.folder, self.dice, self.megabytes = folder, dice, megabytes
        self.image = self.at("image")
        self.path = self.at("mount", "store")
        self.nbdkit = self.fuse = self.loop = None
        self.cuts = self.lost = self.kept = self.flushes = 0
        self.is_mounted = False
        os.makedirs(self.at("mount"), exist_ok=True)
        os.makedirs(self.at("fuse"), exist_ok=True)
        run("cc", "-O2", "-Wall", "-shared", "-fPIC", "-o", self.at("power_disk.so"), SOURCE)

    def at(self, *names):
        return os.path.join(self.folder, *names)

    def wait_for(self, condition, what):
        for _ in range(2000):
            if condition():
                return
            time.sleep(0.005)
        raise AssertionError("timed out waiting for " + what)

    def new(self):
        self.close()
        with open(self.image, "wb") as f:
            f.truncate(self.megabytes << 20)
        self.attach()
        run("mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=0,lazy_journal_init=0", self.loop)
        self.mount()

    def attach(self):
        sock, control = self.at("nbd.sock"), self.at("control.sock")
        for path in (sock, control):
            if os.path.exists(path):
                os.unlink(path)
        self.nbdkit = subprocess.Popen(["nbdkit", "-f", "-U", sock, self.at("power_disk.so"),
                                        "file=" + self.image, "control=" + control])
        self.wait_for(lambda: os.path.exists(sock) and os.path.exists(control), "nbdkit")
        disk = self.at("fuse", "disk")
        with open(self.at("nbdfuse.log"), "ab") as log:  # of a disk that is off it has much to say
            self.fuse = subprocess.Popen(["nbdfuse", disk, "--unix", sock], stderr=log)
        self.wait_for(lambda: os.path.exists(disk), "nbdfuse")
        self.loop = subprocess.run(["losetup", "-f", "--show", "--direct-io=on", disk], check=True,
                                   capture_output=True, text=True).stdout.strip()

    def mount(self):
        run("mount", "-t", "ext4", self.loop, self.at("mount"))
        self.is_mounted = True

    def settle(self):
        """What is there by now has been there for long."""
        run("sync", "-f", self.at("mount"))

    def cut(self):
        """Of each sector that no flush covered, this cut keeps none, all, or throws a coin."""
        share = self.dice.choice((0, 0, 50, 100))
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(self.at("control.sock"))
            s.sendall(b"%d %d\n" % (share, self.dice.randrange(1 << 30)))
            volatile, kept, flushes = map(int, s.recv(100).split())
        self.cuts += 1
        self.lost += volatile - kept
        self.kept += kept
        self.flushes += flushes

    def detach(self):
        if self.is_mounted:
            # Writes still held by the kernel meet a disk that is off, and are forgotten.
            self.wait_for(lambda: subprocess.run(["umount", self.at("mount")], check=False,
                                                 stderr=subprocess.DEVNULL).returncode == 0,
                          "umount")
            self.is_mounted = False
        if self.loop is not None:
            run("losetup", "-d", self.loop)
            self.loop = None
        if self.fuse is not None:
            self.wait_for(lambda: subprocess.run(["fusermount3", "-u", self.at("fuse")], check=False,
                                                 stderr=subprocess.DEVNULL).returncode == 0,
                          "fusermount")
            self.fuse.wait()
            self.fuse = None
        if self.nbdkit is not None:
            self.nbdkit.terminate()
            self.nbdkit.wait()
            self.nbdkit = None

    def again(self):
        """The power is back."""
        self.detach()
        self.attach()
        self.mount()

    def close(self):
        self.detach()

    def report(self):
        return "; %d power cuts: %d sectors that no flush covered, %d of them survived; " \
            "%d flushes" % (self.cuts, self.lost + self.kept, self.kept, self.flushes)
