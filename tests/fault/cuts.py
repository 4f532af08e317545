#!/usr/bin/env python3
"""Takes the server away under load, again and again, and holds what it finds at its next start
against all that it had acknowledged.

  cuts.py [--how kill|power] [--rounds N] [--seed S] [--folder DIR] [--config FILE] [--rest S]
          [--verbose]

kill: SIGKILL, on the disk that FOLDER lies on. power: the disk loses what no flush covered
(power_disk.py; root, and nbdkit, nbdfuse, fuse3 from Debian). The server is MILLRACE_SERVER, with
MILLRACE_IO and MILLRACE_EXTRA_FLAGS as in tests/e2e; nats-server does as well. --config: more
lines of configuration. --rest: of power, so many seconds lie between the last that the clients hear
and the cut, so that a server with a sync interval has flushed it. What is wrong is counted by kind; after a round in which anything was, the
next one begins with an empty store. Exit code 0: nothing was.
"""
import argparse
import asyncio
import os
import shutil
import sys
import tempfile
import time

sys.path[:0] = [os.path.dirname(os.path.abspath(__file__)),
                os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e")]
os.environ["MILLRACE_SERVER"] = os.path.abspath(
    os.environ.get("MILLRACE_SERVER", "build/dev/bin/millrace"))
import harness  # noqa: E402
import load  # noqa: E402
import power_disk  # noqa: E402


class Folder:
    """The disk of a killed server: it keeps what it was given."""

    def __init__(self, folder, dice):
        self.path = os.path.join(folder, "store")
        del dice

    def new(self):
        shutil.rmtree(self.path, ignore_errors=True)

    def settle(self):
        pass

    def cut(self):
        pass

    def again(self):
        pass

    def close(self):
        self.new()

    def report(self):
        return ""


class Rounds:
    def __init__(self, args, folder):
        self.args, self.folder = args, folder
        self.memory = load.Memory(args.seed)
        kind = Folder if args.how == "kill" else power_disk.PowerDisk
        self.disk = kind(folder, self.memory.dice)
        self.server = None
        self.starts = []
        self.load = None

    def start(self, is_waited=True):
        config = None
        flags = ["-js", "-sd", self.disk.path]
        if self.args.config:
            with open(self.args.config, encoding="utf-8") as f:
                config = f.read()
        began = time.monotonic()
        self.server = harness.Server(os.path.join(self.folder, "run"), flags, config=config,
                                     wait=is_waited)
        if is_waited:
            self.starts.append(time.monotonic() - began)

    def kill(self):
        if self.server.process.poll() is not None:
            self.memory.is_wrong("server died", self.server.log()[-2000:])
        self.server.process.kill()
        self.server.process.wait()
        self.server.stderr_file.close()

    async def cut_under_load(self):
        dice = self.memory.dice
        running = await self.load.start(self.server.port)
        await asyncio.sleep(dice.uniform(0.1, self.args.seconds))
        if self.args.how == "power":
            for client, _ in running:  # what is said from here on is not held against it
                client.cut()
            await asyncio.sleep(self.args.rest)
        self.disk.cut()
        self.kill()
        await asyncio.gather(*(task for _, task in running))
        self.disk.again()
        while dice.random() < 0.25:  # and once more while it starts
            self.start(False)
            await asyncio.sleep(dice.uniform(0, 0.1))
            self.disk.cut()
            self.kill()
            self.disk.again()

    async def run(self):
        memory = self.memory
        for number in range(1, self.args.rounds + 1):
            before = sum(memory.wrong.values())
            if self.load is None:
                self.disk.new()
                self.start()
                self.load = load.Load(memory)
                await self.load.make(self.server.port)
                self.disk.settle()
            await self.cut_under_load()
            self.start()
            await self.load.check(self.server.port)
            if self.args.verbose:
                print("round %d: %s %s %s" % (number, memory.counts, memory.wrong,
                                              self.disk.report()), flush=True)
            if sum(memory.wrong.values()) > before:
                self.kill()
                self.load = None
        if self.load is not None:
            await self.load.drain(self.server.port)
            self.kill()
        self.disk.close()

    def report(self):
        memory = self.memory
        print("%d rounds of %s, seed %d: %s" % (
            self.args.rounds, self.args.how, self.args.seed,
            ", ".join("%s %d" % c for c in sorted(memory.counts.items()))))
        starts = sorted(self.starts)
        print("%d starts: median %.2f s, longest %.2f s%s" % (
            len(starts), starts[len(starts) // 2], starts[-1], self.disk.report()))
        for text in memory.examples:
            print("  " + text)
        if memory.wrong:
            print("WRONG: " + ", ".join("%s %d" % w for w in sorted(memory.wrong.items())))
        else:
            print("nothing acknowledged was lost")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--how", choices=("kill", "power"), default="kill")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.2, help="of load in a round, at most")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder")
    parser.add_argument("--config")
    parser.add_argument("--rest", type=float, default=0)
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()
    folder = tempfile.mkdtemp(prefix="cuts", dir=args.folder)
    rounds = Rounds(args, folder)
    try:
        asyncio.run(rounds.run())
        rounds.report()
    finally:
        if rounds.server is not None and rounds.server.process.poll() is None:
            rounds.kill()
        rounds.disk.close()
    shutil.rmtree(folder, ignore_errors=True)
    return 1 if rounds.memory.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
