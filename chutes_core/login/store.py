"""Where a login is kept: a file that its owner alone can read, or the system's keyring.

There is one login for each service (each management address), so that a login at the embedded Chutes neither
replaces yours nor is ever sent to the service.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from glob import escape, glob
from pathlib import Path

from chutes_core.errors import ChutesWarning
from chutes_core.login.errors import LoginError
from chutes_core.login.keyring import forget, from_keyring, to_keyring
from chutes_core.login.lock import locked
from chutes_core.login.value import Keeper, StoredLogin, from_json, to_json
from chutes_core.settings import MANAGEMENT_URL

__all__ = ["FOLDER_VARIABLE", "Keeper", "LoginStore", "StoredLogin", "default_folder"]

FOLDER_VARIABLE = "CHUTES_CONFIG_DIR"
_VERSION = 1
_ROOM = 16_384


class LoginStore:
    """The place of one service's login.

    Args:
        service: The management address.
        folder: Where the files are; by default ``CHUTES_CONFIG_DIR``, or the platform's folder for settings.
    """

    def __init__(self, service: str = MANAGEMENT_URL, *, folder: str | os.PathLike[str] | None = None) -> None:
        self.service = service
        self.folder = default_folder() if folder is None else Path(folder)
        digest = hashlib.sha256(service.encode()).hexdigest()[:12]
        self.path = self.folder / ("login.json" if service == MANAGEMENT_URL else f"login-{digest}.json")

    def __repr__(self) -> str:
        return f"LoginStore({self.service!r}, folder={str(self.folder)!r})"

    def exclusive(self) -> AbstractContextManager[None]:
        """Keep every other thread and process from renewing or replacing the login meanwhile.

        Raises:
            LoginError: The folder cannot be written, or another program holds the lock and does not end.
        """
        _make_folder(self.folder)
        return locked(self.path.with_suffix(".lock"))

    def load(self) -> StoredLogin | None:
        """Return the login; None where there is none.

        Raises:
            LoginError: There is a file, and it cannot be used.
        """
        found = _read(self.path)
        if isinstance(found, StoredLogin) and found.keeper == "keyring":
            found = from_keyring(found)
        if isinstance(found, LoginError):
            raise found
        return found

    def save(self, login: StoredLogin) -> None:
        """Keep a login, whole or not at all.

        Raises:
            LoginError: It could not be written.
        """
        _make_folder(self.folder)
        problem = to_keyring(login) if login.keeper == "keyring" else None
        left_behind = login.keeper == "file" and self._in_keyring()
        problem = problem or _write(self.path, login)
        if problem is not None:
            del login
            raise problem
        if left_behind:
            forget(self.service)

    def _in_keyring(self) -> bool:
        found = _read(self.path)
        return isinstance(found, StoredLogin) and found.keeper == "keyring"

    def check_writable(self) -> None:
        """Find out whether :meth:`save` could write, before a renewal uses up the old token."""
        _make_folder(self.folder)
        name = ""
        try:
            handle, name = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.folder)
            with open(handle, "wb") as file:
                # A full disk still takes an empty file: what shows is whether there is room for what will come.
                file.write(os.urandom(_ROOM))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            reason = error.strerror or error
        else:
            return
        finally:
            _remove(name)
        raise _unwritable(self.path, reason)

    def delete(self) -> None:
        """Forget the login, and what a program left that was killed while it wrote one."""
        if self._in_keyring():
            forget(self.service)
        self.path.unlink(missing_ok=True)
        for name in glob(f"{escape(str(self.folder))}/.{self.path.name}.*"):
            _remove(name)


def default_folder(env: Mapping[str, str] | None = None) -> Path:
    """Return the folder of the environment, else the platform's own for a user's settings.

    >>> default_folder({"CHUTES_CONFIG_DIR": "here"}).name
    'here'
    """
    chosen = (os.environ if env is None else env).get(FOLDER_VARIABLE, "").strip()
    if chosen:
        return Path(chosen).expanduser()
    from platformdirs import user_config_dir

    return Path(user_config_dir("chutes-connect"))


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
    else:
        return
    raise _unwritable(folder, reason)


def _unwritable(path: Path, reason: object) -> LoginError:
    return LoginError(
        f"The login cannot be kept at {path} ({reason}). Make the folder writable, or set {FOLDER_VARIABLE} to another."
    )


# A traceback may show the variables of every frame it passes. So what handles the plain text of a token gives its
# objection back instead of raising it.


def _read(path: Path) -> StoredLogin | LoginError | None:
    advice = "Run `chutes-connect logout` and sign in again."
    try:
        mode = path.stat().st_mode
        loaded = json.loads(path.read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        return LoginError(f"The login at {path} cannot be read ({error.strerror or error}).")
    except (ValueError, RecursionError):
        return LoginError(f"The login at {path} is damaged. {advice}")
    if isinstance(loaded, dict) and isinstance(loaded.get("version"), int) and loaded["version"] > _VERSION:
        return LoginError(f"The login at {path} was written by a newer chutes-connect. Upgrade, or: {advice}")
    login = from_json(loaded) if isinstance(loaded, dict) else None
    if login is None:
        return LoginError(f"The login at {path} is damaged. {advice}")
    if os.name == "posix" and mode & 0o077:
        _make_private(path)
    return login


def _make_private(path: Path) -> None:
    with suppress(OSError):
        path.chmod(0o600)
    warnings.warn(
        f"Other users of this machine could read the login at {path}, and now cannot. If any of them may have: "
        "`chutes-connect logout`, and sign in again.",
        ChutesWarning,
        stacklevel=4,
    )


def _write(path: Path, login: StoredLogin) -> LoginError | None:
    temporary = ""
    try:
        # In the same folder, because only within one file system is the replacement atomic. mkstemp's mode is 0600.
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with open(handle, "w", encoding="utf-8") as file:
            json.dump({"version": _VERSION, **to_json(login)}, file)
            file.flush()
            os.fsync(file.fileno())  # the old pair is worthless by now: this one must survive a crash
        os.replace(temporary, path)
        _settle(path.parent)
    except OSError as error:
        return _unwritable(path, error.strerror or error)
    finally:
        _remove(temporary)
    return None


def _settle(folder: Path) -> None:
    """Have a replacement on the disk too, where the system can do that for a folder."""
    if os.name != "posix":
        return
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove(name: str) -> None:
    """Remove a file that may be there."""
    with suppress(OSError):
        os.unlink(name)
