"""Keys and tokens: where they come from, and how they stay hidden.

A key is looked for in the argument, then in ``CHUTES_OAUTH_TOKEN``, then in ``CHUTES_API_KEY``, then in the login
stored by ``chutes-connect login``. It may be a string, anything with ``get_secret_value()`` (pydantic's
``SecretStr``), or a function that returns one, plain or async, which is called for every call and so may refresh a
token.

A key goes to the service, to this machine, and to an address that was named together with it: both as arguments, or the
address behind the key, ``cpk_…@https://gateway.example`` (:mod:`chutes_core.secrets.places`).
"""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Awaitable, Callable, Collection, Mapping
from typing import TypeAlias, cast

from chutes_core.errors import ConfigurationError, MissingKeyError
from chutes_core.secrets.secret import ENVIRONMENT, Secret, SupportsSecret
from chutes_core.settings import check_address, origin_of
from chutes_core.warned import warn

__all__ = ["ApiKey", "Credential", "KeyFunction", "LeftBehind", "wrapped_key"]

_MISSING = (
    "No Chutes key was given, none is in the environment and no login is stored, so nothing was sent (the service "
    "answers a request without a key with a 429 that looks like overload). Pass api_key=..., or set CHUTES_API_KEY "
    "to a key ('cpk_…'), or CHUTES_OAUTH_TOKEN to a token ('cak_…'), or sign in once: chutes-connect login."
)
_NOT_CARRIED = (
    "There is no Chutes key in this process, so nothing was sent. A key is not carried along when a client or a model "
    "is pickled, as it is for a worker process. Set CHUTES_API_KEY (or CHUTES_OAUTH_TOKEN) in the environment of that "
    "process, or make the client there with api_key=..., or give it as api_key a function that can be imported there "
    "and returns the key: functions are carried along."
)


ApiKey: TypeAlias = "str | SupportsSecret | Callable[[], str] | Callable[[], Awaitable[str]]"
"""The types accepted as a key."""


class LeftBehind:
    """Stands for the key in what was pickled: the other process looks for one of its own.

    >>> Credential(LeftBehind(), env={}).secret()
    Traceback (most recent call last):
    chutes_core.errors.MissingKeyError: There is no Chutes key in this process, so nothing was sent. ...
    """


class KeyFunction:
    """A function that returns a key, without its repr: that of a ``functools.partial`` shows its arguments.

    >>> from functools import partial
    >>> KeyFunction(partial(str, "cpk_0123"))
    <a function>
    """

    __slots__ = ("function",)

    def __init__(self, function: Callable[[], object]) -> None:
        self.function: Callable[[], object] = function

    def __call__(self) -> object:
        """Return the key."""
        return self.function()

    def __repr__(self) -> str:
        return "<a function>"

    def __eq__(self, other: object) -> bool:
        return self.function == (other.function if isinstance(other, KeyFunction) else other)

    def __hash__(self) -> int:
        return hash(self.function)


def wrapped_key(key: object, wrap: Callable[[str], object]) -> object:
    """Wrap a key so that neither a text nor a function shows it.

    Raises:
        ConfigurationError: It is none of what can be a key.

    >>> wrapped_key("cpk_0123", Secret), wrapped_key(lambda: "cpk_0123", Secret), wrapped_key(None, Secret)
    (Secret('cpk_****'), <a function>, None)
    """
    if key is None or isinstance(key, SupportsSecret | KeyFunction):
        return key
    if isinstance(key, str):
        return wrap(key)
    if callable(key):
        return KeyFunction(key)
    raise ConfigurationError("api_key must be a key, a SecretStr, or a function that returns one.")


class Credential:
    """The key of a client, from any source.

    When pickled or sent to another process it drops a literal key and reads the environment there.

    Args:
        api_key: The key; without one, every call reads the environment, then the stored login.
        env: The environment; an empty one also disables the stored login.
        service: The management URL whose login to use; by default that of the environment.
        named: Addresses that are given together with the key, as origins: it may go there too.

    >>> credential = Credential("cpk_0123", env={})
    >>> credential
    Credential('cpk_****')
    >>> credential.secret()
    Secret('cpk_****')
    """

    def __init__(
        self,
        api_key: ApiKey | LeftBehind | None = None,
        *,
        env: Mapping[str, str] | None = None,
        service: str | None = None,
        named: Collection[str] = (),
    ) -> None:
        self._env = env
        self._service = service
        self._named = named
        self._source: Secret | Callable[[], object] | None = None
        self._missing = _NOT_CARRIED if isinstance(api_key, LeftBehind) else _MISSING
        if api_key is None or isinstance(api_key, LeftBehind):
            return
        if callable(api_key):
            source = cast("Callable[[], object]", api_key)
            self._source = source.function if isinstance(source, KeyFunction) else source
            return
        found = _read(api_key, "api_key", named)
        del api_key
        self._source = _usable(found)
        _warn_of_shape(self._source)

    @property
    def renewable(self) -> bool:
        """Whether asking again may return another key."""
        return callable(self._source)

    def secret(self, refused: Secret | None = None) -> Secret:
        """Return the current key.

        Args:
            refused: A key that the service rejected: a stored login that still holds it is renewed.

        Raises:
            MissingKeyError: There is none; nothing should be sent.
            ConfigurationError: The key is an async function, which needs the async client.
        """
        if not callable(self._source):
            return self.at_hand() or self._from_login(refused)
        value = self._source()
        if inspect.isawaitable(value):
            if inspect.iscoroutine(value):
                value.close()
            raise ConfigurationError("api_key is an async function: use the async client, or give a plain function.")
        found = _read(value, "api_key", self._named)
        del value
        return _usable(found)

    async def asecret(self, refused: Secret | None = None) -> Secret:
        """Return the current key; a plain function, like a renewal, runs in a thread and may block."""
        if not callable(self._source):
            if (secret := self.at_hand()) is not None:
                return secret
            return await asyncio.to_thread(self._from_login, refused)
        value = self._source() if inspect.iscoroutinefunction(self._source) else await asyncio.to_thread(self._source)
        found = _read(await value if inspect.isawaitable(value) else value, "api_key", self._named)
        del value
        return _usable(found)

    def at_hand(self) -> Secret | None:
        """Return the given key or that of the environment, without calling a function or reading the stored login.

        It never waits for the network, which suits code that only has to tell accounts apart.

        >>> Credential("cpk_0123", env={}).at_hand(), Credential(env={}).at_hand(), Credential(input).at_hand()
        (Secret('cpk_****'), None, None)

        Raises:
            ConfigurationError: The key cannot be sent.
        """
        if self._source is not None:
            return self._source if isinstance(self._source, Secret) else None
        values = (_from_variable(name, self._env) for name in ENVIRONMENT)
        found = next((value for value in values if value is not None), None)
        if found is None:
            return None
        secret = _usable(found)
        _warn_of_shape(secret)
        return secret

    def _from_login(self, refused: Secret | None) -> Secret:
        # Imported here because both import this module.
        from chutes_core.login.renew import current_login
        from chutes_core.login.store import FOLDER_VARIABLE, LoginStore, default_folder
        from chutes_core.settings import Settings

        if self._env is None or self._env.get(FOLDER_VARIABLE):
            service = self._service or Settings.resolve(env=self._env).management_url
            login = current_login(LoginStore(service, folder=default_folder(self._env)), refused=refused)
            if login is not None:
                return login.access
        raise MissingKeyError(self._missing)

    def __repr__(self) -> str:
        if self._source is None:
            return "Credential(from the environment)"
        return "Credential(from a function)" if callable(self._source) else f"Credential{str(repr(self._source))[6:]}"

    def __getstate__(self) -> dict[str, object]:
        source = self._source if callable(self._source) else None
        return {
            "_env": None,
            "_service": self._service,
            "_named": self._named,
            "_source": source,
            "_missing": _NOT_CARRIED,
        }

    def __copy__(self) -> Credential:
        return self

    def __deepcopy__(self, memo: object) -> Credential:
        return self


# A traceback may show the variables of every frame it passes. So a function that reads a key returns its error
# instead of raising it, and the one that raises it no longer holds the key.


def _read(value: object, source: str, named: Collection[str] = ()) -> Secret | ConfigurationError:
    """Read a key in any of its forms; return an error, without the key, if it could not be sent in a header.

    Args:
        value: The key; behind an ``@``, an address that it may go to.
        source: Where it was given.
        named: Other addresses that it may go to, as origins.
    """
    text = value.get_secret_value() if isinstance(value, SupportsSecret) else value
    if not isinstance(text, str):
        return ConfigurationError(f"The key must be a string, a SecretStr or a function, not {type(value).__name__}.")
    text = text.strip()
    if not text:
        return MissingKeyError(_MISSING)
    if not text.isascii() or not text.isprintable() or " " in text:
        return ConfigurationError(
            "The key has characters that no key has (spaces, line breaks or non-ASCII): copy it again."
        )
    text, at, address = text.partition("@")
    if not at:
        return Secret(text, source, named)
    place = _origin(address)
    if not text or place is None:
        return ConfigurationError(
            "What is behind the @ of the key must be the address that the key may go to, without a path, such as "
            "https://gateway.example. What was given is not repeated here, because it may be part of a key."
        )
    return Secret(text, source, {*named, place})


def _origin(address: str) -> str | None:
    """Read the address behind a key, which is https unless it says something else."""
    address = (address if "://" in address else f"https://{address}").rstrip("/")
    try:
        check_address("it", address)
    except ConfigurationError:
        return None
    return origin_of(address) if address.count("/") == 2 else None


def _from_variable(name: str, env: Mapping[str, str] | None) -> Secret | ConfigurationError | None:
    value = (os.environ if env is None else env).get(name, "")
    return _read(value, name) if value.strip() else None


def _usable(found: Secret | ConfigurationError) -> Secret:
    if isinstance(found, ConfigurationError):
        raise found
    return found


def _warn_of_shape(secret: Secret) -> None:
    if not secret.get_secret_value().startswith(("cpk_", "cak_")):
        warn("The key does not begin with 'cpk_' or 'cak_' as Chutes keys and tokens do; it is used as is.")
