"""The connection settings and clients shared by the LLM and the embedding model."""

from __future__ import annotations

from asyncio import AbstractEventLoop, Semaphore
from collections.abc import Callable, Collection, Mapping, MutableMapping
from difflib import get_close_matches
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar
from weakref import WeakKeyDictionary

from llama_index.core.bridge.pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    field_serializer,
    field_validator,
)
from llama_index.core.schema import BaseComponent

from chutes_core import ConfigurationError, Ledger, TimeLimits
from chutes_core.auth import LeftBehind, wrapped_key
from chutes_core.secrets.frames import unseen
from chutes_core.secrets.guarded import Guarded
from chutes_core.secrets.headers import Headers
from chutes_core.settings import check_address

if TYPE_CHECKING:
    from chutes_core import AsyncChutesClient, Catalog, ChutesClient

__all__ = ["ChutesComponent", "kept", "refuse_unknown"]

# Connections are not sent to another process, and keys neither: it uses its own.
_STAYS_HERE = ("http_client", "async_http_client", "clock")


def _hidden(key: object) -> object:
    """Wrap a plain key so that no repr, traceback or dump shows it."""
    return wrapped_key(key, SecretStr)


class _Clients:
    """The clients of one component in one process; copies and pickles start without them."""

    def __init__(self) -> None:
        self.made: dict[str, tuple[object, Any]] = {}
        self.places: WeakKeyDictionary[AbstractEventLoop, tuple[int, Semaphore]] = WeakKeyDictionary()

    def __deepcopy__(self, memo: object) -> _Clients:
        return _Clients()

    def __reduce__(self) -> tuple[type[_Clients], tuple[()]]:
        return _Clients, ()


def kept(component: BaseModel, name: str) -> Any:
    """Read a private attribute directly: pydantic's own access costs more than the rest of preparing a call."""
    private = component.__pydantic_private__
    return None if private is None else private[name]


class ChutesComponent(Guarded, BaseComponent):
    """The connection settings as fields, with clients created from them on first use.

    Settings can be changed at any time; the next call uses them.
    """

    model_config = ConfigDict(
        extra="forbid",
        hide_input_in_errors=True,
        arbitrary_types_allowed=True,
        protected_namespaces=("pydantic_model_",),
    )

    api_key: Annotated[Any, BeforeValidator(_hidden)] = Field(
        default=None,
        exclude=True,
        repr=False,
        description="A key or token, a SecretStr, or a function; None uses the environment, then the stored login.",
    )
    api_base: str | None = Field(default=None, description="URL of the service; by default the public one.")
    management_url: str | None = Field(
        default=None, description="URL for the catalogue, the login and end-to-end encryption."
    )
    e2ee: Any = Field(
        default=False,
        description="Seal every request for the machine that answers it: True, or an E2EE that says how its proof is "
        "checked.",
    )
    timeout: TimeLimits | float | None = Field(
        default=None, description="Time limits, or seconds for the whole call including retries."
    )
    max_retries: int = Field(default=2, ge=0, description="Maximum number of retries, where a retry may help.")
    default_headers: MutableMapping[str, str] | None = Field(
        default=None, description="Headers for every request; what may be secret is masked in serialized data."
    )
    http_client: Any = Field(default=None, exclude=True, repr=False, description="Your own httpx or httpx2 Client.")
    async_http_client: Any = Field(
        default=None, exclude=True, repr=False, description="Your own httpx or httpx2 AsyncClient."
    )
    catalog: Any = Field(
        default=None,
        exclude=True,
        repr=False,
        description="Model catalogue; None uses the newest available.",
    )
    ledger: Any = Field(default_factory=Ledger, exclude=True, repr=False, description="Records tokens and cost.")
    clock: Any = Field(default=None, exclude=True, repr=False, description="For tests: a virtual clock.")

    _clients: _Clients = PrivateAttr(default_factory=_Clients)
    _unpickled: bool = PrivateAttr(default=False)
    _wraps: ClassVar[Mapping[str, Callable[[Any], Any]]] = {
        "api_key": _hidden,
        "default_headers": Headers.kept,
        "api_base": partial(check_address, "api_base"),
        "management_url": partial(check_address, "management_url"),
    }
    _hints: ClassVar[Mapping[str, str]] = {}
    _other_names: ClassVar[Mapping[str, str]] = {"model_name": "model", "base_url": "api_base"}

    if not TYPE_CHECKING:  # type checkers see the fields instead of this signature

        @unseen
        def __init__(self, **data: Any) -> None:
            data = _by_field_name(type(self), data)
            refuse_unknown(type(self).__name__, type(self).model_fields, data, self._hints)
            unpickled = isinstance(data.get("api_key"), LeftBehind)
            super().__init__(**{**data, "api_key": None} if unpickled else data)
            self._unpickled = unpickled
            if self.e2ee is not False:
                self.e2ee = self._sealing(self.e2ee)

    def _sealing(self, wish: object) -> Any:
        """Validate ``e2ee`` and the options it must work with."""
        from chutes_core.e2ee.checks import checked

        model = str(getattr(self, "model", "") or getattr(self, "model_name", ""))
        return checked(wish, model=model, headers=self.default_headers, catalog=self._known_models)

    @field_serializer("e2ee")
    def _plain_e2ee(self, wish: Any) -> Any:
        if isinstance(wish, bool):
            return wish
        from chutes_core.e2ee.checks import plain

        return plain(wish)

    @field_validator("timeout", mode="after")
    @classmethod
    def _usable_limits(cls, value: TimeLimits | float | None) -> TimeLimits | float | None:
        TimeLimits.of(value)
        return value

    @field_serializer("default_headers")
    def _dumped_headers(self, headers: Mapping[str, str] | None) -> dict[str, str] | None:
        # The framework's caches know a component by this, and the answers may differ with a header.
        return None if headers is None else Headers(headers).told_apart(self.api_key)

    def __getstate__(self) -> dict[str, Any]:
        # The framework's own __getstate__ removes what it cannot pickle from the live object: give it a copy.
        copy = self.model_copy(update=dict.fromkeys(_STAYS_HERE))
        if not callable(self.api_key):
            copy.__dict__["api_key"] = LeftBehind()
        object.__setattr__(copy, "__pydantic_private__", None)
        return BaseComponent.__getstate__(copy)

    def _own_settings(self) -> dict[str, Any]:
        """Return the client settings that differ between the LLM and the embedding model."""
        return {"base_url": self.api_base}

    def _client(self, headers: Mapping[str, str] | None = None) -> ChutesClient:
        """Return the sync client; ``headers`` replace its own."""
        catalog = self.catalog if headers is None else self._known_models()
        return self._made("blocking", self.http_client, catalog, headers)  # type: ignore[no-any-return]

    def _async_client(self, headers: Mapping[str, str] | None = None) -> AsyncChutesClient:
        http_client, catalog = self.async_http_client, self._known_models()
        return self._made("async", http_client, catalog, headers)  # type: ignore[no-any-return]

    def _known_models(self) -> Catalog:
        """Return the given catalogue, or the newest available, read once."""
        return self._client().catalog if self.catalog is None else self.catalog

    def _made(self, kind: str, http_client: object, catalog: object, headers: Mapping[str, str] | None) -> Any:
        """Return the client of a kind, recreated when its settings have changed."""
        sent = self.default_headers if headers is None else headers
        settings = {
            "timeout": self.timeout,
            "max_retries": self.max_retries,
            "default_headers": sent,
            "management_url": self.management_url,
            "e2ee": self.e2ee,
            "ledger": self.ledger,
            "clock": self.clock,
            "http_client": http_client,
            "catalog": catalog,
            **self._own_settings(),
        }
        wanted = (self.api_key, settings)
        made = kept(self, "_clients").made
        place = kind if headers is None else f"{kind}, other headers"
        known = made.get(place)
        if known is not None and known[0] == wanted:
            return known[1]
        from chutes_core import AsyncChutesClient, ChutesClient

        key = LeftBehind() if self.api_key is None and kept(self, "_unpickled") else self.api_key
        # Keep a copy of the headers, so that in-place changes are noticed too.
        copied = dict(sent or {})
        wanted = (self.api_key, {**settings, "default_headers": copied} if copied else settings)
        client = (AsyncChutesClient if kind == "async" else ChutesClient)(key, **settings)
        client.face = "llama_index"
        made[place] = (wanted, client)
        return client


def _by_field_name(cls: type[ChutesComponent], data: Mapping[str, Any]) -> dict[str, Any]:
    """Replace other integrations' argument names by ours."""
    named = dict(data)
    for other, name in cls._other_names.items():
        if other in named:
            if name in named:
                raise ConfigurationError(f"{other!r} is another name for {name!r}: give one of them.")
            named[name] = named.pop(other)
    return named


def refuse_unknown(
    owner: str, fields: Collection[str], data: Mapping[str, object], hints: Mapping[str, str] | None = None
) -> None:
    """Refuse an unknown argument and suggest the closest one.

    >>> refuse_unknown("Chutes", ["model"], {"modle": "acme/one"})
    Traceback (most recent call last):
    chutes_core.errors.ConfigurationError: Chutes has no argument 'modle'. Did you mean 'model'?
    """
    for name in data:
        if name in fields:
            continue
        hint = (hints or {}).get(name, "")
        if not hint and (close := get_close_matches(name, fields, n=1, cutoff=0.7)):
            hint = f"Did you mean {close[0]!r}?"
        raise ConfigurationError(f"{owner} has no argument {name!r}. {hint}".rstrip())
