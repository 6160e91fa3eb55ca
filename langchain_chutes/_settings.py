"""The connection arguments shared by the chat model and the embeddings, and the core clients made from them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    field_serializer,
    model_validator,
)

from chutes_core.catalog.catalog import Catalog
from chutes_core.connected import Clients, Connected, wraps
from chutes_core.errors import ChutesError, ConfigurationError
from chutes_core.peers import FIELDS, Word
from chutes_core.secrets.headers import Headers, Query
from chutes_core.settings import TimeLimits, check_address, others_limits
from chutes_core.usage import Ledger
from langchain_chutes._errors import as_langchain

if TYPE_CHECKING:
    from types import TracebackType


__all__ = ["ChutesSettings", "plain_e2ee", "translated_errors"]

_KEY_VARIABLE = "CHUTES_API_KEY"
CONFIG = ConfigDict(extra="forbid", arbitrary_types_allowed=True, protected_namespaces=(), hide_input_in_errors=True)
"""For each model of its own: LangChain's classes say otherwise."""


class ChutesSettings(Connected, BaseModel):
    """The connection arguments: hosts, key, timeouts and retries."""

    model_config = CONFIG

    api_key: SecretStr | Callable[[], Any] | None = Field(default=None, repr=True)
    """A key or token, or a function that returns one. Without it: `CHUTES_OAUTH_TOKEN`, then `CHUTES_API_KEY`, then
    the login stored by `chutes-connect login`."""

    base_url: Annotated[str | None, AfterValidator(partial(check_address, "base_url"))] = None
    """URL of the inference gateway; by default `CHUTES_BASE_URL`, else the public one."""

    management_url: str | None = None
    """URL for the catalogue, the login and end-to-end encryption; by default `CHUTES_MANAGEMENT_URL`, else the
    public one."""

    timeout: Annotated[TimeLimits | float | None, BeforeValidator(others_limits)] = None
    """Timeout for the whole call in seconds, or `TimeLimits` for the connection, first token and gaps. A tuple
    `(connect, read)` and an `httpx.Timeout` are understood."""

    max_retries: int = 2
    """Maximum number of retries, where a retry may help; nothing else retries."""

    default_headers: Mapping[str, str] | None = None
    """Sent with every request. A value may be secret and is not shown, dumped or pickled, unless its header is known
    to be harmless, like `X-Title`."""

    default_query: Mapping[str, str] | None = None
    """Added to the address of every request; shown and dumped as headers are."""

    e2ee: Any = False
    """Encrypt every request end to end to the machine that answers it: True, or an `E2EE` that sets how strictly
    its attestation is checked. Options that do not work encrypted are refused; see docs/privacy.md."""

    http_client: Any = Field(default=None, exclude=True, repr=False)
    """Your own `httpx.Client` (or `httpx2.Client`) for sync calls."""

    http_async_client: Any = Field(default=None, exclude=True, repr=False)
    """Your own `httpx.AsyncClient` (or `httpx2.AsyncClient`) for async calls."""

    catalog: Catalog | None = Field(default=None, exclude=True, repr=False)
    """Model catalogue; by default the newest available."""

    ledger: Ledger = Field(default_factory=Ledger, exclude=True, repr=False)
    """Records tokens and cost; pass the same one to several models to get one total."""

    clock: Any = Field(default=None, exclude=True, repr=False)
    """For tests: a clock such as `chutes_core.testing.VirtualClock`."""

    _passed_on: ClassVar[Mapping[str, str]] = {**Connected._passed_on, "base_url": "base_url"}
    _transports: ClassVar[tuple[str, str]] = ("http_client", "http_async_client")
    _face: ClassVar[str | None] = "langchain"
    _words: ClassVar[Mapping[str, Word]] = FIELDS["langchain"]
    _advice: ClassVar[str] = "Pass request fields that have no argument in extra_body={...}."
    _wraps: ClassVar[Mapping[str, Callable[[Any], Any]]] = wraps(SecretStr, "base_url", "management_url")

    _key_is_given: bool = PrivateAttr(default=False)
    _unpickled: bool = PrivateAttr(default=False)
    _clients: Clients = PrivateAttr(default_factory=Clients)

    def model_post_init(self, context: Any, /) -> None:
        """Call every base class's hook."""
        super().model_post_init(context)

    @model_validator(mode="before")
    @classmethod
    def _known_arguments(cls, given: Any) -> Any:
        """Accept the names other integrations use; refuse unknown arguments and suggest the closest."""
        if not isinstance(given, dict):
            return given
        return cls._read(cls.__name__, given)

    @model_validator(mode="after")
    def _check_settings(self) -> Self:
        self._wrap()
        if self.e2ee is not False:
            self.e2ee = self._sealing(self.e2ee)
        if self.max_retries < 0:
            raise ConfigurationError(f"max_retries must be 0 or a positive whole number, not {self.max_retries}.")
        self._key_is_given = self.api_key is not None
        if self.api_key is None and not os.environ.get("CHUTES_OAUTH_TOKEN") and os.environ.get(_KEY_VARIABLE):
            # Only for display: the client reads the environment itself at every call.
            self.__dict__["api_key"] = SecretStr(os.environ[_KEY_VARIABLE])  # it was not given
        return self

    @field_serializer("default_headers", "default_query")
    def _dumped_headers(self, headers: Mapping[str, str] | None) -> dict[str, str] | None:
        return None if headers is None else Headers(headers).dumped()

    def _cache_part(self) -> str:
        """Return what a cache key needs beside the dump: without showing them, it tells secret headers apart."""
        kept = (Headers.kept(self.default_headers), Query.kept(self.default_query))
        return "".join(str(each.told_apart(self.api_key)) for each in kept if each and each.secret)

    @property
    def lc_secrets(self) -> dict[str, str]:
        """Map secret arguments to the environment variables that hold them."""
        return {"api_key": _KEY_VARIABLE}

    @property
    def lc_attributes(self) -> dict[str, Any]:
        """Return arguments in serializable form."""
        told = {
            "timeout": dataclasses.asdict(self.timeout) if isinstance(self.timeout, TimeLimits) else None,
            "e2ee": plain_e2ee(self.e2ee) or None,
            "default_headers": self._dumped_headers(self.default_headers),
            "default_query": self._dumped_headers(self.default_query),
        }
        return {name: value for name, value in told.items() if value is not None}

    def _own_key(self) -> object:
        return self.api_key if self._key_is_given else None

    def _changed(self, names: Collection[str]) -> None:
        """Drop what was made from the old arguments."""
        super()._changed(names)
        self.__dict__.pop("_serialized", None)  # cached by LangChain as part of its cache keys
        if "api_key" in names:
            self._key_is_given = self.api_key is not None

    def __getstate__(self) -> dict[Any, Any]:
        """Leave out connections, and a literal key, which must not get into pickles."""
        if self.http_client is not None or self.http_async_client is not None:
            raise TypeError("A model with its own http_client cannot be pickled: connections cannot be serialized.")
        state = super().__getstate__()
        values = dict(state["__dict__"])
        if isinstance(values.get("api_key"), SecretStr):
            values["api_key"] = None
        hidden = {**(state["__pydantic_private__"] or {}), "_unpickled": True}
        hidden["_key_is_given"] = values.get("api_key") is not None
        return {**state, "__dict__": values, "__pydantic_private__": hidden}


def plain_e2ee(wish: Any) -> Any:
    """Return an ``e2ee`` setting as plain data."""
    return wish if isinstance(wish, bool) else wish.to_dict()


class _Translation:
    """Context manager that re-raises core errors as errors that are LangChain's too."""

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, ChutesError):
            raise as_langchain(error) from error.__cause__


translated_errors = _Translation()
