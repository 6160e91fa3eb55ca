"""What the models of both frameworks share to ask the service: the clients that their settings make."""

from __future__ import annotations

from asyncio import AbstractEventLoop, Semaphore
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import lru_cache, partial
from typing import TYPE_CHECKING, ClassVar, TypeVar, get_args
from weakref import WeakKeyDictionary

from chutes_core.auth import LeftBehind, wrapped_key
from chutes_core.catalog.catalog import Catalog
from chutes_core.peers import Word, known_arguments
from chutes_core.secrets.guarded import Guarded
from chutes_core.secrets.headers import Headers, Query
from chutes_core.settings import Settings, check_address, usable_limits

if TYPE_CHECKING:
    from chutes_core.client import AsyncChutesClient, AsyncStream, ChutesClient, Stream
    from chutes_core.e2ee import E2EE
    from chutes_core.fallback.live import LiveStats
    from chutes_core.response import Reply

__all__ = ["Clients", "Connected", "ModelCall", "wraps"]

T = TypeVar("T")


class Clients:
    """The clients of one component in one process, with its catalogue, and its places per event loop.

    Deep copies and pickles start without.

    >>> import copy
    >>> clients = Clients()
    >>> copy.deepcopy(clients) is clients
    False
    """

    def __init__(self) -> None:
        self.made: dict[tuple[bool, bool], tuple[Mapping[str, str], ChutesClient | AsyncChutesClient]] = {}
        self.catalog: Catalog | None = None
        self.places: WeakKeyDictionary[AbstractEventLoop, dict[int, Semaphore]] = WeakKeyDictionary()

    def __deepcopy__(self, memo: object) -> Clients:
        return Clients()

    def __reduce__(self) -> tuple[type[Clients], tuple[()]]:
        return Clients, ()


def wraps(secret: Callable[[str], object], *addresses: str) -> dict[str, Callable[[object], object]]:
    """Return how the fields of a connection are wrapped, or refused: key, headers, time limits, and these addresses.

    Args:
        secret: The framework's class of secrets.
        *addresses: The fields with addresses.
    """
    return {
        "api_key": partial(wrapped_key, wrap=secret),
        "default_headers": Headers.kept,  # type: ignore[dict-item]  # refuses what are none
        "default_query": Query.kept,  # type: ignore[dict-item]
        "timeout": usable_limits,
        **{name: partial(check_address, name) for name in addresses},
    }


class Connected(Guarded):
    """Base of a pydantic model with the settings of a client as its fields, and :class:`Clients` in ``_clients``.

    Settings can be changed at any time; the next call uses them.
    """

    if TYPE_CHECKING:
        api_key: object
        catalog: Catalog | None
        default_headers: Mapping[str, str] | None
        e2ee: object
        max_retries: int

    _passed_on: ClassVar[Mapping[str, str]] = {
        name: name for name in ("timeout", "max_retries", "management_url", "e2ee", "ledger", "clock", "default_query")
    }
    """The options of a client, and the fields that they come from."""
    _transports: ClassVar[tuple[str, str]] = ("http_client", "async_http_client")
    """The fields with the caller's own HTTP clients, blocking and async."""

    _face: ClassVar[str | None] = None
    """The framework, for whoever watches the calls."""
    _words: ClassVar[Mapping[str, Word]] = {}
    """What other packages' arguments are here."""
    _advice: ClassVar[str] = ""
    """What to do about an argument that nobody knows."""

    _clients: Clients
    _unpickled: bool

    def _changed(self, names: Collection[str]) -> None:
        fields = ("api_key", "catalog", "default_headers", *self._transports, *self._passed_on.values())
        if not set(fields).isdisjoint(names):
            self._clients = Clients()

    def __repr_args__(self) -> Iterable[tuple[str | None, object]]:
        """Return what a repr shows: the model, and what else was set of what this package's classes have."""
        values = self.__dict__
        first = "model_name" if "model_name" in type(self).model_fields else "model"
        yield first, values.get(first)
        for name, field in type(self).model_fields.items():
            value = values.get(name)
            shown = name in self.model_fields_set and field.repr and name not in (first, "api_key")
            if shown and _is_ours(type(self), name) and value is not None and value != field.default and value != {}:
                yield name, value

    @classmethod
    def _read(cls, owner: str, given: Mapping[str, T], *more: str) -> dict[str, T]:
        """Return arguments under the names of the fields; ``more`` are others that the owner has."""
        fields = cls.model_fields
        unset = [name for name, field in fields.items() if type(None) not in get_args(field.annotation)]
        return known_arguments(owner, given, [*fields, *more], cls._words, unset=unset, advice=cls._advice)

    @property
    def client(self) -> ChutesClient:
        """The core's sync client, for what the framework has no method for: ``llm.client.models()``."""
        return self._client()

    @property
    def async_client(self) -> AsyncChutesClient:
        """The core's async client; it works with any number of event loops."""
        return self._async_client()

    def _client(self, headers: Mapping[str, str] | None = None) -> ChutesClient:
        """Return the sync client; ``headers`` replace its own."""
        return self._made(False, headers)  # type: ignore[return-value]

    def _async_client(self, headers: Mapping[str, str] | None = None) -> AsyncChutesClient:
        """Return the async client, for any number of event loops; ``headers`` replace its own."""
        return self._made(True, headers)  # type: ignore[return-value]

    def _own_key(self) -> object:
        """Return the key that was given; None leaves it to the environment and the stored login."""
        return self.api_key

    def _known_models(self) -> Catalog:
        """Return the newest catalogue: a client that fetched the model list has a newer one than it was given."""
        private = self.__pydantic_private__  # not `self._clients`: pydantic's own access costs more than the rest
        clients: Clients = private["_clients"] if private else Clients()
        known = clients.catalog if self.catalog is None else self.catalog
        if known is None:
            address = self._passed_on.get("base_url")
            settings = Settings.resolve(base_url=getattr(self, address) if address is not None else None)
            known = clients.catalog = Catalog.load(base_url=settings.base_url)
        for _, client in [*clients.made.values()] if clients.made else ():
            newest = client.catalog
            if (newest.listed, newest.fetched_at) > (known.listed, known.fetched_at):
                known = newest
        return known

    def _made(self, is_async: bool, headers: Mapping[str, str] | None) -> ChutesClient | AsyncChutesClient:
        """Return a client, made anew if there is a newer catalogue or a header has changed."""
        sent = (self.default_headers if headers is None else headers) or {}
        catalog = self._known_models()
        private: Mapping[str, Clients] = self.__pydantic_private__  # type: ignore[assignment]
        made = private["_clients"].made
        known = made.get((is_async, headers is None))
        if known is not None and known[1].catalog is catalog and known[0] == sent:
            return known[1]
        from chutes_core.client import AsyncChutesClient, ChutesClient

        key = self._own_key()
        client = (AsyncChutesClient if is_async else ChutesClient)(
            LeftBehind() if key is None and self._unpickled else key,  # type: ignore[arg-type]
            http_client=getattr(self, self._transports[is_async]),
            catalog=catalog,
            default_headers=sent,
            **{option: getattr(self, name) for option, name in self._passed_on.items()},
        )
        client.face = self._face
        made[is_async, headers is None] = (dict(sent), client)
        return client

    def _live_stats(self) -> LiveStats | None:
        """Return the statistics of the service, to be fetched with the caller's own client."""
        from chutes_core.fallback.live import LiveStats

        client = getattr(self, self._transports[0])
        return LiveStats.of_service(self._client().settings, self._known_models(), http_client=client)

    def _is_sealed(self) -> bool:
        """Return whether answers come encrypted."""
        return bool(self.e2ee)

    def _sealing(self, wish: object) -> bool | E2EE:
        """Validate ``e2ee`` and the options it must work with."""
        from chutes_core.e2ee.checks import checked

        model = str(getattr(self, "model", "") or getattr(self, "model_name", ""))
        return checked(wish, model=model, headers=self.default_headers, catalog=self._known_models)


@lru_cache(maxsize=256)
def _is_ours(cls: type, name: str) -> bool:
    """Return whether a field is of a class of this package, and not of the framework's."""
    owners = (each.__module__ for each in cls.__mro__ if name in vars(each).get("__annotations__", ()))
    return "_chutes" in next(owners, "").partition(".")[0]


class ModelCall:
    """A call of one model: use one of its four ways, once."""

    def __init__(self, model: Connected, request: Mapping[str, object]) -> None:
        self._model = model
        self._request = request

    def read(self) -> Reply:
        """Return the whole answer."""
        return self._model._client().chat(**self._request)  # type: ignore[arg-type]

    async def aread(self) -> Reply:
        """Async version of :meth:`read`."""
        return await self._model._async_client().chat(**self._request)  # type: ignore[arg-type]

    def stream(self) -> Stream:
        """Stream the deltas of the answer."""
        return self._model._client().stream(**self._request)  # type: ignore[arg-type]

    def astream(self) -> AsyncStream:
        """Async version of :meth:`stream`."""
        return self._model._async_client().stream(**self._request)  # type: ignore[arg-type]
