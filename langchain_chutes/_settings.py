"""The connection arguments shared by the chat model and the embeddings, and the core clients made from them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    field_serializer,
    field_validator,
    model_validator,
)

from chutes_core.auth import LeftBehind, wrapped_key
from chutes_core.catalog.catalog import Catalog
from chutes_core.errors import ChutesError, ConfigurationError
from chutes_core.secrets.guarded import Guarded
from chutes_core.secrets.headers import Headers
from chutes_core.settings import TimeLimits, check_address, known_arguments
from chutes_core.usage import Ledger
from langchain_chutes._errors import as_langchain

if TYPE_CHECKING:
    from types import TracebackType

    from chutes_core.client import AsyncChutesClient, ChutesClient

__all__ = ["ChutesSettings", "plain_e2ee", "translated_errors"]

_KEY_VARIABLE = "CHUTES_API_KEY"
ADVICE = "Pass request fields that have no argument in extra_body={...}."
CONFIG = ConfigDict(extra="forbid", arbitrary_types_allowed=True, protected_namespaces=(), hide_input_in_errors=True)
"""For each model of its own: LangChain's classes say otherwise."""


class ChutesSettings(Guarded, BaseModel):
    """The connection arguments: hosts, key, timeouts and retries."""

    model_config = CONFIG

    api_key: SecretStr | Callable[[], Any] | None = Field(default=None, repr=True)
    """A key or token, or a function that returns one. Without it: `CHUTES_OAUTH_TOKEN`, then `CHUTES_API_KEY`, then
    the login stored by `chutes-connect login`."""

    base_url: str | None = None
    """URL of the inference gateway; by default `CHUTES_BASE_URL`, else the public one."""

    management_url: str | None = None
    """URL for the catalogue, the login and end-to-end encryption; by default `CHUTES_MANAGEMENT_URL`, else the
    public one."""

    timeout: TimeLimits | float | None = None
    """Timeout for the whole call in seconds, or `TimeLimits` for the connection, first token and gaps."""

    max_retries: int = 2
    """Maximum number of retries, where a retry may help; nothing else retries."""

    default_headers: Mapping[str, str] | None = None
    """Sent with every request. A value may be secret and is not shown, dumped or pickled, unless its header is known
    to be harmless, like `X-Title`."""

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

    _passed_on: ClassVar[tuple[str, ...]] = (
        "base_url", "management_url", "e2ee", "timeout", "max_retries", "default_headers", "ledger", "clock",
    )  # fmt: skip
    """The arguments that a client takes as they are."""

    _wraps: ClassVar[Mapping[str, Callable[[Any], Any]]] = {
        "api_key": lambda key: wrapped_key(key, SecretStr),
        "default_headers": Headers.kept,
        "base_url": partial(check_address, "base_url"),
        "management_url": partial(check_address, "management_url"),
    }

    _key_is_given: bool = PrivateAttr(default=False)
    _unpickled: bool = PrivateAttr(default=False)
    _client: Any = PrivateAttr(default=None)
    _async_client: Any = PrivateAttr(default=None)

    def model_post_init(self, context: Any, /) -> None:
        """Call every base class's hook."""
        super().model_post_init(context)

    @model_validator(mode="before")
    @classmethod
    def _known_arguments(cls, given: Any) -> Any:
        """Accept the names other integrations use; refuse unknown arguments and suggest the closest."""
        if not isinstance(given, dict):
            return given
        return known_arguments(cls.__name__, given, cls.model_fields, cls._other_names(), advice=ADVICE)

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

    def _sealing(self, wish: object) -> Any:
        """Validate ``e2ee`` and the options it must work with."""
        from chutes_core.e2ee.checks import checked

        model = str(getattr(self, "model", ""))
        return checked(wish, model=model, headers=self.default_headers, catalog=self._known_models)

    @field_serializer("default_headers")
    def _dumped_headers(self, headers: Mapping[str, str] | None) -> dict[str, str] | None:
        return None if headers is None else Headers(headers).dumped()

    def _cache_part(self) -> str:
        """Return what a cache key needs beside the dump: without showing them, it tells secret headers apart."""
        headers = Headers.kept(self.default_headers)
        return str(headers.told_apart(self.api_key)) if headers and headers.secret else ""

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
        }
        return {name: value for name, value in told.items() if value is not None}

    @property
    def client(self) -> ChutesClient:
        """The core's sync client."""
        if self._client is None:
            from chutes_core.client import ChutesClient

            self._client = ChutesClient(**self._client_options(), http_client=self.http_client)
            self._client.face = "langchain"
        return self._client  # type: ignore[no-any-return]

    @property
    def async_client(self) -> AsyncChutesClient:
        """The core's async client; it works with any number of event loops."""
        if self._async_client is None:
            from chutes_core.client import AsyncChutesClient

            self._async_client = AsyncChutesClient(**self._client_options(), http_client=self.http_async_client)
            self._async_client.face = "langchain"
        return self._async_client  # type: ignore[no-any-return]

    def _client_options(self) -> dict[str, Any]:
        return {
            "api_key": self.api_key if self._key_is_given else LeftBehind() if self._unpickled else None,
            "catalog": self._known_models(),
            **{name: getattr(self, name) for name in self._passed_on},
        }

    def _known_models(self) -> Catalog:
        """Return the newest catalogue: a client that fetched the model list has a newer one than it was given."""
        known: Catalog | None = self.catalog
        if known is None:
            known = self.__dict__["catalog"] = Catalog.load()
        private = self.__pydantic_private__ or {}  # pydantic's own attribute access costs a microsecond each
        for made in (private.get("_client"), private.get("_async_client")):
            if made is not None and made.catalog.fetched_at > known.fetched_at:
                known = made.catalog
        return known

    def _changed(self, names: Collection[str]) -> None:
        """Drop what was made from the old arguments."""
        self.__dict__.pop("_serialized", None)  # cached by LangChain as part of its cache keys
        if "api_key" in names:
            self._key_is_given = self.api_key is not None
        if not {"api_key", "catalog", "http_client", "http_async_client", *self._passed_on}.isdisjoint(names):
            self._client = self._async_client = None

    def __getstate__(self) -> dict[Any, Any]:
        """Leave out connections, and a literal key, which must not get into pickles."""
        if self.http_client is not None or self.http_async_client is not None:
            raise TypeError("A model with its own http_client cannot be pickled: connections cannot be serialized.")
        state = super().__getstate__()
        values = dict(state["__dict__"])
        if isinstance(values.get("api_key"), SecretStr):
            values["api_key"] = None
        hidden = {**(state["__pydantic_private__"] or {}), "_client": None, "_async_client": None}
        hidden["_key_is_given"] = values.get("api_key") is not None
        hidden["_unpickled"] = True
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
