"""Fixtures: `server` and `js_server` (a plain one and one with JetStream, each shared by the tests of
a file), `start` (servers made to measure)."""
import os

import pytest

import harness


def pytest_collection_modifyitems(items):
    reference = None
    for item in items:
        if item.get_closest_marker("ours_only"):
            reference = harness.is_reference() if reference is None else reference
            if reference:
                item.add_marker(pytest.mark.skip(reason="differs from nats-server by design"))
        if item.get_closest_marker("not_yet"):
            reference = harness.is_reference() if reference is None else reference
            if not reference:
                item.add_marker(pytest.mark.xfail(reason="not built yet", strict=False))


def pytest_sessionstart(session):
    harness.BINARY = os.path.abspath(harness.BINARY)
    if not os.access(harness.BINARY, os.X_OK):
        raise pytest.UsageError("MILLRACE_SERVER is no program: " + harness.BINARY)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A server without any option, shared by the tests of a file."""
    s = harness.Server(tmp_path_factory.mktemp("server"), monitor=True)
    yield s
    assert s.stop() == 0


@pytest.fixture(scope="module")
def js_server(tmp_path_factory):
    """A server with JetStream, shared by the tests of a file."""
    folder = tmp_path_factory.mktemp("js")
    s = harness.Server(folder, ["-js", "-sd", str(folder / "store")])
    yield s
    assert s.stop() == 0


@pytest.fixture
def start(tmp_path):
    """start(args=..., config=...) gives a Server; all are stopped after the test."""
    running = []

    def start_one(*args, **options):
        folder = tmp_path / ("s%d" % len(running))
        s = harness.Server(folder, args, **options)
        running.append(s)
        return s

    yield start_one
    problems = []
    for s in running:
        if s.process.poll() is None:
            try:
                s.stop()
            except AssertionError as e:
                problems.append(str(e))
        elif s.report():
            problems.append(s.report())
    assert not problems, "\n".join(problems)


@pytest.fixture
def client(server):
    """connected(**options): raw clients of the shared server, closed after the test."""
    opened = []

    def open_one(raw=False, **options):
        c = server.client(**options) if raw else server.connect(**options)
        opened.append(c)
        return c

    yield open_one
    for c in opened:
        c.close()
