"""Storage of a login: a file that only its owner can read, or the system's keyring.

There is one login per service (management URL), so a login with the embedded Chutes neither replaces yours nor is ever
sent to the service.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from glob import escape, glob
from pathlib import Path

from chutes_core.folders import make_folder
from chutes_core.login.errors import LoginError
from chutes_core.login.keyring import forget, from_keyring, to_keyring
from chutes_core.login.lock import locked
from chutes_core.login.value import Keeper, StoredLogin, from_json, to_json
from chutes_core.settings import MANAGEMENT_URL
from chutes_core.warned import warn

__all__ = ["FOLDER_VARIABLE", "Keeper", "LoginStore", "StoredLogin", "default_folder"]

FOLDER_VARIABLE = "CHUTES_CONFIG_DIR"
_VERSION = 1
_ROOM = 16_384


class LoginStore:
    """The stored login of one service.

    Args:
        service: The management URL.
        folder: The folder of the files; by default ``CHUTES_CONFIG_DIR``, or the platform's settings folder.
    """

    def __init__(self, service: str = MANAGEMENT_URL, *, folder: str | os.PathLike[str] | None = None) -> None:
        self.service = service
        self.folder = default_folder() if folder is None else Path(folder)
        digest = hashlib.sha256(service.encode()).hexdigest()[:12]
        self.path = self.folder / ("login.json" if service == MANAGEMENT_URL else f"login-{digest}.json")

    def __repr__(self) -> str:
        return f"LoginStore({self.service!r}, folder={str(self.folder)!r})"

    def exclusive(self) -> AbstractContextManager[None]:
        """Lock out every other thread and process that would renew or replace the login.

        Raises:
            LoginError: The folder is not writable, or another program keeps holding the lock.
        """
        _make_folder(self.folder)
        return locked(self.path.with_suffix(".lock"))

    def load(self) -> StoredLogin | None:
        """Return the login; None if there is none.

        Raises:
            LoginError: The file exists but is unusable.
        """
        found = _read(self.path)
        if isinstance(found, StoredLogin) and found.keeper == "keyring":
            found = from_keyring(found)
        if isinstance(found, LoginError):
            raise found
        return found

    def save(self, login: StoredLogin) -> None:
        """Store a login atomically.

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
        """Check that :meth:`save` can write, before a renewal uses up the old token."""
        _make_folder(self.folder)
        name = ""
        try:
            handle, name = tempfile.mkstemp(prefix=f".{self.path.name}.", dir=self.folder)
            with open(handle, "wb") as file:
                # A full disk still accepts an empty file, so check for enough room.
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
        """Delete the login, and temporary files of programs killed while writing one."""
        if self._in_keyring():
            forget(self.service)
        self.path.unlink(missing_ok=True)
        for name in glob(f"{escape(str(self.folder))}/.{self.path.name}.*"):
            _remove(name)


def default_folder(env: Mapping[str, str] | None = None) -> Path:
    """Return the folder from the environment, else the platform's user settings folder.

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
        make_folder(folder)
    except OSError as error:
        reason = error.strerror or error
    else:
        return
    raise _unwritable(folder, reason)


def _unwritable(path: Path, reason: object) -> LoginError:
    return LoginError(
        f"The login cannot be stored at {path} ({reason}). Make its folder writable, or set {FOLDER_VARIABLE}."
    )


# A traceback may show the variables of every frame it passes. So functions that handle the plain text of a token return
# errors instead of raising them.


def _read(path: Path) -> StoredLogin | LoginError | None:
    advice = "Run `chutes-connect logout` and sign in again."
    try:
        about, above = path.stat(), path.parent.stat().st_mode
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
    if os.name == "posix":
        if about.st_uid not in (0, os.geteuid()) and os.geteuid() != 0:
            return LoginError(
                f"The login at {path} belongs to another user of this machine, and is not used. Remove it."
            )
        if about.st_mode & 0o077:
            _make_private(path)
        if above & stat.S_IWOTH and not above & stat.S_ISVTX:
            warn(f"Every user of this machine can put another login in the place of yours: chmod go-w {path.parent}")
    return login


def _make_private(path: Path) -> None:
    with suppress(OSError):
        path.chmod(0o600)
    warn(
        f"Other users of this machine could read the login at {path}; this is now fixed. If one of them may have read "
        "it, run `chutes-connect logout` and sign in again."
    )


def _write(path: Path, login: StoredLogin) -> LoginError | None:
    temporary = ""
    try:
        # In the same folder, because the replacement is atomic only within one file system. mkstemp's mode is 0600.
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with open(handle, "w", encoding="utf-8") as file:
            json.dump({"version": _VERSION, **to_json(login)}, file)
            file.flush()
            os.fsync(file.fileno())  # the old pair is already void: the new one must survive a crash
        os.replace(temporary, path)
        _settle(path.parent)
    except OSError as error:
        return _unwritable(path, error.strerror or error)
    finally:
        _remove(temporary)
    return None


def _settle(folder: Path) -> None:
    """Flush a replacement to disk, if the system supports that for a folder."""
    if os.name != "posix":
        return
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _remove(name: str) -> None:
    """Remove a file if it exists."""
    with suppress(OSError):
        os.unlink(name)
