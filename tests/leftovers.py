"""What a test leaves behind fails that test, and not one that happens to run later.

After each test, when its fixtures are gone, garbage is collected, and what is there is compared with what was there
before: processes, threads, open files, sockets and pipes, temporary files, tasks that the end of their loop cut off,
and the settings of the process. What belongs to a fixture of a wider scope counts as there for as long as that lives.
What is about to go is waited for, so that a slow machine fails nothing.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import re
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep  # by name: a test may have replaced them
from typing import Any

import pytest

# How long something that is on its way out, such as a process that was told to end, may take to go, in seconds.
PATIENCE = 30.0
# Threads that a process has once, whichever test is the first to need them.
SHARED_THREADS = {"tqdm_monitor"}  # one for all progress bars
# How often a loop that is to close goes round for its tasks: one that closes a generator needs a few.
STEPS = 20
# After so many tests, with more than so many objects that outlived one, these are put where the collector does not
# look at them again; so that it costs less with the check than it did without.
OFTEN, MANY = 5, 500
# The signals that a program may have a say in.
SIGNALS = [signal.Signals[name] for name in ("SIGHUP", "SIGINT", "SIGTERM", "SIGCHLD", "SIGALRM", "SIGPIPE", "SIGUSR1")]

Things = dict[tuple[str, object], str]


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:  # not on this system
        return []


def _threads() -> Things:
    return {
        ("thread", thread.ident): f"the thread {thread.name!r}"
        for thread in threading.enumerate()
        if thread.name not in SHARED_THREADS and not isinstance(thread, threading._DummyThread)
    }


def _files() -> Things:
    found: Things = {}
    for number in _names("/proc/self/fd"):
        with suppress(OSError):  # the one that listed the folder is closed
            behind = os.readlink(f"/proc/self/fd/{number}")
            found["file", (number, behind)] = f"descriptor {number}, open on {behind}"
    return found


def _processes() -> Things:
    found: Things = {}
    for thread in _names("/proc/self/task"):
        with suppress(OSError):
            for child in map(int, Path(f"/proc/self/task/{thread}/children").read_text().split()):
                found["process", child] = f"the process {child}: {_command(child)}"
    return found


def _command(process: int) -> str:
    place = Path(f"/proc/{process}")
    command = place.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    if command:
        return command[:200].strip()
    # Neither one that has ended has a command line, nor one that is just becoming another program.
    _, name, state = re.split(r"[()]", place.joinpath("stat").read_text(), maxsplit=2)
    return "ended, but not waited for" if state.split()[0] == "Z" else name


def _temporary(folder: str) -> Things:
    return {("temporary", name): f"the temporary file {name}" for name in _names(folder)}


def settings() -> dict[str, object]:
    """Return what a test can change for all that follow."""
    root = logging.getLogger()
    handlers = [handler for handler in root.handlers if not type(handler).__module__.startswith("_pytest")]
    found: dict[str, object] = {f"${name}": os.environ[name] for name in os.environ if name != "PYTEST_CURRENT_TEST"}
    found |= {f"the handler of {number.name}": signal.getsignal(number) for number in SIGNALS}
    with suppress(FileNotFoundError):
        found["the current folder"] = os.getcwd()
    return found | {
        "the root logger": (root.level, *handlers),
        "sys.path": tuple(sys.path),
        "sys.excepthook": sys.excepthook,
        "time.monotonic": time.monotonic,
        "time.sleep": time.sleep,
    }


class Leftovers:
    """Remembers what there was before a test, and compares."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.there: set[tuple[str, object]] = set()
        self.sockets: set[tuple[str, object]] = set()
        self.settings: dict[str, object] = {}
        self.latest: tuple[Things, dict[str, object]] | None = None
        self.count = 0
        self.wider: dict[object, tuple[Things, dict[str, object]]] = {}
        self.complaints: list[str] = []
        self.failed = False
        self.engine = False

    def things(self) -> Things:
        """Return whatever a test can leave behind."""
        return {**_threads(), **_files(), **_processes(), **_temporary(self.folder)}

    def begin(self) -> None:
        """Take what is there; what a failed test held is nobody's fault any more."""
        if self.failed:
            self.failed = False
            for name in ("last_exc", "last_type", "last_value", "last_traceback"):
                vars(sys).pop(name, None)
            with self.listening():
                gc.collect()
            self.latest = None
        self.complaints.clear()
        # Nothing happens between two tests: what the last check has seen is what there is.
        there, self.settings = self.latest or (self.things(), settings())
        self.sockets = set(filter(_is_socket, there))
        # What belongs to a wider fixture counts for as long as that lives.
        self.there = there.keys() - self._wider()

    def belongs(self, fixture: object, there: Things, were: dict[str, object]) -> None:
        """Note what a wider fixture made and changed."""
        made, now = self.things(), settings()
        changed = [name for name in now.keys() | were.keys() if now.get(name) != were.get(name)]
        self.wider[fixture] = (
            {name: made[name] for name in made.keys() - there.keys()},
            {name: were.get(name) for name in changed},
        )
        self.settings = {**self.settings, **{name: now.get(name) for name in changed}}

    def gone(self, fixture: object) -> None:
        """Expect nothing of a wider fixture any more."""
        _, were = self.wider.pop(fixture, ({}, {}))
        self.settings = {**self.settings, **were}

    def check(self) -> None:
        """Fail the test if anything is left, and end or put back what can be, so that no other test is concerned."""
        with self.listening():
            gc.collect()
            self.count += 1
            if self.count % OFTEN == 1 and len(gc.get_objects(generation=2)) > MANY:
                gc.freeze()
            there = self.things()
            extra = self._extra(there)
            if any(map(_is_socket, extra)):
                close_shared_pool()
            until, pause = monotonic() + PATIENCE, 0.001
            while extra and not self.failed and monotonic() < until:
                sleep(pause)
                pause = min(2 * pause, 0.1)
                gc.collect()
                there = self.things()
                extra = self._extra(there)
        now = settings()
        self.latest = there, now
        found = [*extra.values(), *self.complaints, *self._changes(now)]
        for kind, name in extra:
            if kind == "process":
                with suppress(OSError):
                    os.kill(int(str(name)), signal.SIGKILL)
        if found and not self.failed:
            pytest.fail("it left behind:\n" + "\n".join(f"- {each}" for each in found), pytrace=False)

    def _extra(self, there: Things) -> Things:
        extra = {name: there[name] for name in there.keys() - self.there - self._wider()}
        # A server that was there may have closed its door and opened it again.
        for _ in (self.sockets | set(filter(_is_socket, self._wider()))) - there.keys():
            extra.pop(next(filter(_is_socket, extra), ("", "")), None)
        for thing in list(extra):
            if (thing[0] == "process" and _reaped(int(str(thing[1])))) or (self.engine and _is_socket(thing)):
                del extra[thing]
        return extra

    def _wider(self) -> set[tuple[str, object]]:
        return {name for made, _ in self.wider.values() for name in made}

    def _changes(self, now: dict[str, object]) -> Iterator[str]:
        were = self.settings
        for name in sorted(now.keys() | were.keys()):
            if now.get(name) != were.get(name):
                self.latest = None
                yield f"{name}: was {were.get(name)!r}, is {now.get(name)!r}"
                if name.startswith("$"):
                    os.environ.pop(name[1:], None)
                    os.environ |= {name[1:]: str(were[name])} if were.get(name) is not None else {}
        if now.get("the current folder") != were.get("the current folder"):
            os.chdir(str(were["the current folder"]))

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Note what objects complain of as they are collected, such as a file that nobody closed."""
        before, sys.unraisablehook = sys.unraisablehook, self._complain
        try:
            yield
        finally:
            sys.unraisablehook = before

    def _complain(self, about: Any) -> None:
        self.complaints.append(f"{about.exc_value!r} of {about.object!r}")


def _is_socket(thing: tuple[str, object]) -> bool:
    return thing[0] == "file" and "socket" in str(thing[1])


def close_shared_pool() -> None:
    """Close the connections that the process keeps for the next call of any client: they are no test's fault."""
    pools = sys.modules.get("chutes_core.wire.pools")
    if pools is not None:
        shared = pools.sync_pools()
        with shared._lock:
            http, shared._http = shared._http, None
        if http is not None:
            http.close()


def _reaped(process: int) -> bool:
    """Tell whether a child that nobody waits for any more has ended."""
    try:
        return os.waitpid(process, os.WNOHANG)[0] == process
    except ChildProcessError:
        return True


class _Heard(logging.Handler):
    """Takes down what asyncio tells only the log: tasks destroyed while pending, exceptions nobody asked for."""

    def __init__(self, take: Callable[[str], object]) -> None:
        super().__init__(logging.ERROR)
        self._take = take

    def emit(self, record: logging.LogRecord) -> None:
        self._take(record.getMessage())


class Plugin:
    """Puts the check around every test."""

    def __init__(self, folder: str) -> None:
        self.leftovers = Leftovers(folder)
        complaints = self.leftovers.complaints
        logging.getLogger("asyncio").addHandler(_Heard(complaints.append))
        cancel = asyncio.runners._cancel_all_tasks  # type: ignore[attr-defined]

        def noted(loop: asyncio.AbstractEventLoop) -> None:
            for _ in range(STEPS):
                if asyncio.all_tasks(loop):
                    loop.run_until_complete(asyncio.sleep(0))
            tasks = asyncio.all_tasks(loop)
            complaints.extend(f"a task that was not done when its loop closed: {task!r}" for task in tasks)
            cancel(loop)

        asyncio.runners._cancel_all_tasks = noted  # type: ignore[attr-defined]

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Iterator[None]:
        self.leftovers.begin()
        # The embedded Chutes keeps connections to its models, and opens new ones, for as long as it runs.
        self.leftovers.engine = item.get_closest_marker("local") is not None
        return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Iterator[None]:
        try:
            result = yield
        except BaseException:
            self.leftovers.failed = True
            raise
        finally:
            getattr(item, "funcargs", {}).clear()  # pytest lets go of a test's fixtures a little later
            self.leftovers.check()
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self) -> Iterator[None]:
        report: Any = yield
        self.leftovers.failed |= report.failed
        return report  # type: ignore[no-any-return]

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Iterator[None]:
        if fixturedef.scope == "function":
            return (yield)
        there, were = self.leftovers.things(), settings()
        try:
            return (yield)
        finally:
            self.leftovers.belongs(fixturedef, there, were)

    def pytest_fixture_post_finalizer(self, fixturedef: pytest.FixtureDef[Any]) -> None:
        self.leftovers.gone(fixturedef)


def pytest_configure(config: pytest.Config) -> None:
    # Temporary files have a folder that nobody else writes to, with a short name, since paths of sockets have a limit.
    place = os.environ.get("PYTEST_DEBUG_TEMPROOT") or tempfile.gettempdir()
    folder = tempfile.TemporaryDirectory(prefix="tests-", dir=place)
    patch = pytest.MonkeyPatch()
    patch.setenv("PYTEST_DEBUG_TEMPROOT", place)  # where tmp_path is, as before
    patch.setenv("TMPDIR", folder.name)
    patch.setattr(tempfile, "tempdir", folder.name)
    config.add_cleanup(folder.cleanup)
    config.add_cleanup(patch.undo)
    _adopt()
    config.pluginmanager.register(Plugin(folder.name))


def _adopt() -> None:
    """Become the parent of processes whose own has ended, so that they are seen (Linux)."""
    import ctypes

    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
