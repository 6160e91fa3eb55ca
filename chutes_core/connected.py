"""What the models of both frameworks share to ask the service: the clients that their settings make."""

from __future__ import annotations

from asyncio import AbstractEventLoop, Semaphore
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, ClassVar
from weakref import WeakKeyDictionary

from chutes_core.auth import LeftBehind
from chutes_core.secrets.guarded import Guarded

if TYPE_CHECKING:
    from chutes_core.catalog.catalog import Catalog
    from chutes_core.client import AsyncChutesClient, ChutesClient
    from chutes_core.e2ee import E2EE

__all__ = ["Clients", "Connected"]


class Clients:
    """The clients of one component in one process, and its places per event loop; copies and pickles start without.

    >>> import copy
    >>> clients = Clients()
    >>> copy.deepcopy(clients) is clients
    False
    """

    def __init__(self) -> None:
        self.made: dict[tuple[bool, bool], tuple[Catalog | None, Mapping[str, str], object]] = {}
        self.places: WeakKeyDictionary[AbstractEventLoop, dict[int, Semaphore]] = WeakKeyDictionary()

    def __deepcopy__(self, memo: object) -> Clients:
        return Clients()

    def __reduce__(self) -> tuple[type[Clients], tuple[()]]:
        return Clients, ()


class Connected(Guarded):
    """Base of a pydantic model with the settings of a client as its fields, and :class:`Clients` in ``_clients``.

    Settings can be changed at any time; the next call uses them.
    """

    if TYPE_CHECKING:
        api_key: object
        catalog: Catalog | None
        default_headers: Mapping[str, str] | None

    _passed_on: ClassVar[Mapping[str, str]] = {
        name: name for name in ("timeout", "max_retries", "management_url", "e2ee", "ledger", "clock")
    }
    """The options of a client, and the fields that they come from."""
    _transports: ClassVar[tuple[str, str]] = ("http_client", "async_http_client")
    """The fields with the caller's own HTTP clients, blocking and async."""

    _face: ClassVar[str | None] = None
    """The framework, for whoever watches the calls."""

    _clients: Clients
    _unpickled: bool

    def _changed(self, names: Collection[str]) -> None:
        fields = ("api_key", "catalog", "default_headers", *self._transports, *self._passed_on.values())
        if not set(fields).isdisjoint(names):
            self._clients = Clients()

    def _client(self, headers: Mapping[str, str] | None = None) -> ChutesClient:
        """Return the sync client; ``headers`` replace its own."""
        catalog = self.catalog if headers is None else self._known_models()
        return self._made(False, catalog, headers)  # type: ignore[return-value]

    def _async_client(self, headers: Mapping[str, str] | None = None) -> AsyncChutesClient:
        """Return the async client; ``headers`` replace its own."""
        return self._made(True, self._known_models(), headers)  # type: ignore[return-value]

    def _known_models(self) -> Catalog:
        """Return the given catalogue, or the newest available, read once."""
        return self._client().catalog if self.catalog is None else self.catalog

    def _made(self, is_async: bool, catalog: Catalog | None, headers: Mapping[str, str] | None) -> object:
        """Return a client, made anew if its catalogue or a header has changed."""
        sent = (self.default_headers if headers is None else headers) or {}
        private: Mapping[str, Clients] = self.__pydantic_private__  # type: ignore[assignment]
        made = private["_clients"].made  # not `self._clients`: pydantic's own access costs more than the rest
        known = made.get((is_async, headers is None))
        if known is not None and known[0] is catalog and known[1] == sent:
            return known[2]
        from chutes_core.client import AsyncChutesClient, ChutesClient

        client = (AsyncChutesClient if is_async else ChutesClient)(
            LeftBehind() if self.api_key is None and self._unpickled else self.api_key,  # type: ignore[arg-type]
            http_client=getattr(self, self._transports[is_async]),
            catalog=catalog,
            default_headers=sent,
            **{option: getattr(self, name) for option, name in self._passed_on.items()},
        )
        client.face = self._face
        made[is_async, headers is None] = (catalog, dict(sent), client)
        return client

    def _sealing(self, wish: object) -> bool | E2EE:
        """Validate ``e2ee`` and the options it must work with."""
        from chutes_core.e2ee.checks import checked

        model = str(getattr(self, "model", "") or getattr(self, "model_name", ""))
        return checked(wish, model=model, headers=self.default_headers, catalog=self._known_models)
