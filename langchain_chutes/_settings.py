"""The arguments that the chat model and the embeddings share, and how they become clients of the core."""

from __future__ import annotations

import dataclasses
import inspect
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, SecretStr, field_validator, model_validator

from chutes_core.catalog import Catalog
from chutes_core.errors import ChutesError, ConfigurationError
from chutes_core.settings import Settings, TimeLimits
from chutes_core.usage import Ledger
from langchain_chutes._errors import as_langchain

if TYPE_CHECKING:
    from types import TracebackType

    from chutes_core.client import AsyncChutesClient, ChutesClient

__all__ = ["ChutesSettings", "plain_e2ee", "signed", "translated_errors"]

F = TypeVar("F", bound=Callable[..., Any])

_KEY_VARIABLE = "CHUTES_API_KEY"


class ChutesSettings(BaseModel):
    """Where the service is, who asks, and how patiently: the part of the arguments that concerns the connection."""

    model_config = ConfigDict(
        extra="forbid", arbitrary_types_allowed=True, protected_namespaces=(), hide_input_in_errors=True
    )

    api_key: SecretStr | Callable[[], Any] | None = Field(default=None, repr=True)
    """A key or token, or a function that returns one. Without it `CHUTES_OAUTH_TOKEN` and `CHUTES_API_KEY` are read."""

    base_url: str | None = None
    """The inference gateway; by default `CHUTES_BASE_URL`, else the service's own."""

    management_url: str | None = None
    """The host of the catalogue and of the encrypted path; by default `CHUTES_MANAGEMENT_URL`, else the service's
    own."""

    timeout: TimeLimits | float | None = None
    """Seconds for a whole call, or a `TimeLimits` with limits for the connection, the first token and the gaps."""

    max_retries: int = 2
    """How often a failed call is tried again where that may help; nothing else retries."""

    default_headers: Mapping[str, str] | None = None
    """Sent with every request."""

    e2ee: Any = False
    """Seal every request for the machine that answers it, so that nobody on the way can read it: True, or an `E2EE`
    that says how far the machine's proof is checked. What cannot work sealed is refused; see docs/privacy.md."""

    http_client: Any = Field(default=None, exclude=True, repr=False)
    """Your own `httpx.Client` (or `httpx2.Client`) for blocking calls."""

    http_async_client: Any = Field(default=None, exclude=True, repr=False)
    """Your own `httpx.AsyncClient` (or `httpx2.AsyncClient`) for async calls."""

    catalog: Catalog | None = Field(default=None, exclude=True, repr=False)
    """What is known of the models; by default the newest at hand."""

    ledger: Ledger = Field(default_factory=Ledger, exclude=True, repr=False)
    """Where tokens and cost are added up; share one between models to have one sum."""

    clock: Any = Field(default=None, exclude=True, repr=False)
    """For tests: a clock such as `chutes_core.testing.VirtualClock`."""

    _key_is_given: bool = PrivateAttr(default=False)
    _client: Any = PrivateAttr(default=None)
    _async_client: Any = PrivateAttr(default=None)

    def model_post_init(self, context: Any, /) -> None:
        """Let every class in the line do its part."""
        super().model_post_init(context)

    @model_validator(mode="before")
    @classmethod
    def _known_arguments(cls, given: Any) -> Any:
        """Take the names that other integrations use; refuse what is no argument at all, with the nearest one."""
        if not isinstance(given, dict):
            return given
        return rename_and_check(given, cls.model_fields, cls._other_names(), cls.__name__)

    @classmethod
    def _other_names(cls) -> Mapping[str, str]:
        return {"chutes_api_key": "api_key", "chutes_api_base": "base_url", "request_timeout": "timeout"}

    @field_validator("timeout")
    @classmethod
    def _usable_limits(cls, value: TimeLimits | float | None) -> TimeLimits | float | None:
        TimeLimits.of(value)
        return value

    @model_validator(mode="after")
    def _check_settings(self) -> Self:
        Settings.resolve(base_url=self.base_url, management_url=self.management_url)
        if self.e2ee is not False:
            self.e2ee = self._sealing(self.e2ee)
        if self.max_retries < 0:
            raise ConfigurationError(f"max_retries must be 0 or a positive whole number, not {self.max_retries}.")
        self._key_is_given = self.api_key is not None
        if self.api_key is None and not os.environ.get("CHUTES_OAUTH_TOKEN") and os.environ.get(_KEY_VARIABLE):
            # To show whose key is used; the client reads the environment itself, at every call.
            self.__dict__["api_key"] = SecretStr(os.environ[_KEY_VARIABLE])  # it was not given
        return self

    def _sealing(self, wish: object) -> Any:
        """Look at a wish for encryption, and at what it would have to go with."""
        from chutes_core.e2ee.checks import checked

        model = str(getattr(self, "model", ""))
        return checked(wish, model=model, headers=self.default_headers, catalog=self._known_models)

    @property
    def lc_secrets(self) -> dict[str, str]:
        """Which arguments are secrets, and under which names their values are found elsewhere."""
        return {"api_key": _KEY_VARIABLE}

    @property
    def lc_attributes(self) -> dict[str, Any]:
        """Arguments in a form that can be written down."""
        told: dict[str, Any] = {}
        if isinstance(self.timeout, TimeLimits):
            told["timeout"] = dataclasses.asdict(self.timeout)
        if self.e2ee:
            told["e2ee"] = plain_e2ee(self.e2ee)
        return told

    @property
    def client(self) -> ChutesClient:
        """The blocking client of the core that makes the calls."""
        if self._client is None:
            from chutes_core.client import ChutesClient

            self._client = ChutesClient(**self._client_options(), http_client=self.http_client)
        made: ChutesClient = self._client
        return made

    @property
    def async_client(self) -> AsyncChutesClient:
        """The client of the core for async calls; it serves any number of event loops."""
        if self._async_client is None:
            from chutes_core.client import AsyncChutesClient

            self._async_client = AsyncChutesClient(**self._client_options(), http_client=self.http_async_client)
        made: AsyncChutesClient = self._async_client
        return made

    def _client_options(self) -> dict[str, Any]:
        return {
            "api_key": self.api_key if self._key_is_given else None,
            "base_url": self.base_url,
            "management_url": self.management_url,
            "e2ee": self.e2ee,
            "timeout": self.timeout,
            "max_retries": self.max_retries,
            "default_headers": self.default_headers,
            "catalog": self._known_models(),
            "ledger": self.ledger,
            "clock": self.clock,
        }

    def _known_models(self) -> Catalog:
        """The newest catalogue: a client that fetched the list of models has a newer one than it was given."""
        known: Catalog | None = self.catalog
        if known is None:
            known = self.__dict__["catalog"] = Catalog.load()
        private = self.__pydantic_private__ or {}  # pydantic's own way to these takes a microsecond each
        for made in (private.get("_client"), private.get("_async_client")):
            if made is not None and made.catalog.fetched_at > known.fetched_at:
                known = made.catalog
        return known

    def __setattr__(self, name: str, value: Any) -> None:
        """Set an argument; clients that were made with another value of it do not outlive that."""
        if name == "api_key" and isinstance(value, str):
            value = SecretStr(value)
        super().__setattr__(name, value)
        if self.__pydantic_private__ and name in type(self).model_fields:
            self._changed({name})

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Copy; a copy with other arguments gets clients of its own."""
        if update and isinstance(key := update.get("api_key"), str):
            update = {**update, "api_key": SecretStr(key)}
        copied = super().model_copy(update=update, deep=deep)
        if update:
            copied._client = copied._async_client = None
            copied._changed(update.keys())
        return copied

    def _changed(self, names: Collection[str]) -> None:
        """Let go of what was made of other arguments."""
        self.__dict__.pop("_serialized", None)  # LangChain's, which is a part of the keys of its caches
        if "api_key" in names:
            self._key_is_given = self.api_key is not None
        if not {"http_client", "http_async_client", *self._client_options()}.isdisjoint(names):
            self._client = self._async_client = None

    def __getstate__(self) -> dict[Any, Any]:
        """Leave behind what does not travel: connections, and a literal key, which stays out of pickles."""
        if self.http_client is not None or self.http_async_client is not None:
            raise TypeError("A model with its own http_client cannot be pickled: connections do not travel.")
        state = super().__getstate__()
        values = dict(state["__dict__"])
        if isinstance(values.get("api_key"), SecretStr):
            values["api_key"] = None
        hidden = {**(state["__pydantic_private__"] or {}), "_client": None, "_async_client": None}
        hidden["_key_is_given"] = values.get("api_key") is not None
        return {**state, "__dict__": values, "__pydantic_private__": hidden}


def plain_e2ee(wish: Any) -> Any:
    """Give a wish for encryption as plain data.

    >>> plain_e2ee(True)
    True
    """
    if isinstance(wish, bool):
        return wish
    from chutes_core.e2ee.checks import plain

    return plain(wish)


def rename_and_check(
    given: dict[str, Any], fields: Iterable[str], other_names: Mapping[str, str], owner: str
) -> dict[str, Any]:
    """Give arguments their own names and refuse unknown ones.

    >>> rename_and_check({"model_name": "a"}, ["model"], {"model_name": "model"}, "ChatChutes")
    {'model': 'a'}
    """
    taken: dict[str, Any] = {}
    for name, value in given.items():
        known = name if name in fields else other_names.get(name)
        if known is None:
            close = get_close_matches(name, [*fields, *other_names], n=1)
            hint = f"Did you mean {close[0]!r}? " if close else ""
            raise ConfigurationError(
                f"{owner} has no argument {name!r}. {hint}A field of the request that has no argument travels in "
                "extra_body={...}."
            )
        if known in taken:
            raise ConfigurationError(f"{owner} was given {known!r} twice: {name!r} is another name for it.")
        taken[known] = value
    return taken


class _Translation:
    """Raises the core's errors as errors that are LangChain's too."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, ChutesError):
            raise as_langchain(error) from error.__cause__


translated_errors = _Translation()


def signed(method: F) -> F:
    """Keep a method's signature with it. LangChain reads it at every call, and making it is a twentieth of one.

    >>> @signed
    ... def method(self, run_manager=None): ...
    >>> method.__signature__
    <Signature (self, run_manager=None)>
    """
    method.__signature__ = inspect.signature(method)  # type: ignore[attr-defined]
    return method
