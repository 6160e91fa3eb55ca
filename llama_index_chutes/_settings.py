"""The connection settings and clients shared by the LLM and the embedding model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from llama_index.core.bridge.pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    SecretStr,
    field_serializer,
)
from llama_index.core.schema import BaseComponent

from chutes_core import Ledger, TimeLimits
from chutes_core.auth import LeftBehind
from chutes_core.connected import Clients, Connected, wraps
from chutes_core.peers import FIELDS, Word
from chutes_core.secrets.frames import unseen
from chutes_core.secrets.headers import Headers
from chutes_core.settings import others_limits

__all__ = ["ChutesComponent", "kept"]

# Connections are not sent to another process, and keys neither: it uses its own.
_STAYS_HERE = ("http_client", "async_http_client", "clock")


def kept(component: BaseModel, name: str) -> Any:
    """Read a private attribute directly: pydantic's own access costs more than the rest of preparing a call."""
    private = component.__pydantic_private__
    return None if private is None else private[name]


class ChutesComponent(Connected, BaseComponent):
    """The connection settings as fields, with clients created from them on first use.

    Settings can be changed at any time; the next call uses them.
    """

    model_config = ConfigDict(
        extra="forbid",
        hide_input_in_errors=True,
        arbitrary_types_allowed=True,
        protected_namespaces=("pydantic_model_",),
    )

    api_key: Any = Field(
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
    timeout: Annotated[TimeLimits | float | None, BeforeValidator(others_limits)] = Field(
        default=None,
        description="Time limits, or seconds for the whole call including retries; also (connect, read), or httpx's.",
    )
    max_retries: int = Field(default=2, ge=0, description="Maximum number of retries, where a retry may help.")
    default_headers: MutableMapping[str, str] | None = Field(
        default=None, description="Headers for every request; what may be secret is masked in serialized data."
    )
    default_query: MutableMapping[str, str] | None = Field(
        default=None, description="Added to the address of every request; what may be secret is masked as in headers."
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

    _clients: Clients = PrivateAttr(default_factory=Clients)
    _unpickled: bool = PrivateAttr(default=False)
    _wraps: ClassVar[Mapping[str, Callable[[Any], Any]]] = wraps(SecretStr, "api_base", "management_url")
    _face: ClassVar[str | None] = "llama_index"
    _words: ClassVar[Mapping[str, Word]] = FIELDS["llama_index"]

    if not TYPE_CHECKING:  # type checkers see the fields instead of this signature

        @unseen
        def __init__(self, **data: Any) -> None:
            cls = type(self)
            data = cls._read(cls.__name__, data)
            unpickled = isinstance(data.get("api_key"), LeftBehind)
            super().__init__(**{**data, "api_key": None} if unpickled else data)
            self._unpickled = unpickled
            if self.e2ee is not False:
                self.e2ee = self._sealing(self.e2ee)

    @field_serializer("e2ee")
    def _plain_e2ee(self, wish: Any) -> Any:
        return wish if isinstance(wish, bool) else wish.to_dict()

    @field_serializer("default_headers", "default_query")
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
