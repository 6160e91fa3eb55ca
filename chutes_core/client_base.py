"""What the sync and async clients share: settings, and the planning of every call."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Self, TypeVar
from urllib.parse import quote

from chutes_core import account
from chutes_core.account import Endpoint
from chutes_core.auth import ApiKey, Credential, LeftBehind
from chutes_core.calls.chute import ChuteCall, chute_request
from chutes_core.calls.clock import Clock, SystemClock
from chutes_core.calls.effects import Flow, WireRequest
from chutes_core.calls.embeddings import EmbedCall, Embeddings, batches, check_texts
from chutes_core.calls.flows import CallPolicy, JsonCall, StreamCall, WarmUpCall, WholeCall
from chutes_core.calls.traced import HEADER, asked_for, traced
from chutes_core.catalog.catalog import Catalog
from chutes_core.catalog.kinds import is_path
from chutes_core.catalog.model_info import ModelInfo
from chutes_core.catalog.names import ModelRef, check_model, model_infos
from chutes_core.errors import APIError, ConfigurationError, Kind, RequestRefusedError, Retry
from chutes_core.exchanges.asked import recorder_asked_for
from chutes_core.failures.hints import Wanted, with_hint
from chutes_core.failures.reading import explained, failure
from chutes_core.request.chat import ChatParams, ChatRequest, build_chat_request
from chutes_core.request.image_policy import ImagePolicy
from chutes_core.request.messages import Message
from chutes_core.response import Reply
from chutes_core.secrets.frames import unseen
from chutes_core.secrets.headers import Headers, Query
from chutes_core.secrets.places import is_stranger
from chutes_core.settings import EMBEDDING_BASE_URL, Settings, TimeLimits, origin_of
from chutes_core.spending.recording import Account
from chutes_core.usage import Ledger
from chutes_core.warned import warn

if TYPE_CHECKING:
    from chutes_core.e2ee import E2EE, SealedPath

__all__ = ["ClientBase"]

T = TypeVar("T")
_OWN_HOST = re.compile(r"https://[a-z0-9-]+\.chutes\.ai(/v1)?")
_PAGE_LIMIT = 30.0  # for management requests, if the client has no limit of its own


class ClientBase:
    """Base of both clients; does no I/O."""

    _is_async = False
    face: str | None = None
    """The framework whose classes make the calls, for hooks: ``"langchain"``, ``"llama_index"`` or None."""

    @unseen
    def __init__(
        self,
        api_key: ApiKey | LeftBehind | None = None,
        *,
        base_url: str | None = None,
        embedding_base_url: str | None = None,
        management_url: str | None = None,
        timeout: TimeLimits | float | None = None,
        max_retries: int = 2,
        default_headers: Mapping[str, str] | None = None,
        default_query: Mapping[str, str] | None = None,
        http_client: object = None,
        catalog: Catalog | None = None,
        ledger: Ledger | None = None,
        inline_images: bool | ImagePolicy = False,
        e2ee: bool | E2EE = False,
        trace: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self.settings = Settings.resolve(
            base_url=base_url, embedding_base_url=embedding_base_url, management_url=management_url
        )
        self.limits = TimeLimits.of(timeout)
        if isinstance(max_retries, bool) or not isinstance(max_retries, int) or max_retries < 0:
            raise ConfigurationError(f"max_retries must be 0 or a positive whole number, not {max_retries!r}.")
        self.max_retries = max_retries
        _check_kind("ledger", ledger, Ledger)
        _check_kind("catalog", catalog, Catalog)
        _check_kind("inline_images", inline_images, bool, ImagePolicy)
        self.ledger = ledger if ledger is not None else Ledger()
        self._credential = Credential(api_key, service=self.settings.management_url, named=self.settings.named)
        self._headers = Headers.kept(default_headers) or Headers()
        self._query = Query.kept(default_query) or Query()
        self._http_client = _checked_http_client(http_client, wants_async=self._is_async)
        self._catalog = catalog
        self._images = ImagePolicy() if inline_images is True else inline_images or None
        self._clock: Clock = clock or SystemClock()
        self._recorder = recorder_asked_for()
        _check_kind("trace", trace, bool)
        self._trace = trace
        if asked_for(self._headers):  # chat calls send it: other replies would come in events too
            others = {name: value for name, value in self._headers.items() if name.lower() != HEADER.lower()}
            self._headers, self._trace = Headers(others), True
        self._sealed = self._sealed_path(e2ee)
        self._embed_steps: dict[str, int] = {}
        self._closed = False

    def __repr__(self) -> str:
        return f"{type(self).__name__}(base_url={self.settings.base_url!r}, api_key={self._credential!r})"

    def __getstate__(self) -> dict[str, object]:
        if self._http_client is not None:
            raise TypeError("A client with its own http_client cannot be pickled: connections cannot be serialized.")
        return dict(self.__dict__)

    def _sealed_path(self, e2ee: bool | E2EE) -> SealedPath | None:
        """Set up end-to-end encryption and refuse incompatible settings; its modules are loaded only here."""
        if e2ee is False:
            return None
        from chutes_core.e2ee import E2EE, SealedPath
        from chutes_core.e2ee.settings import check_headers, check_query

        settings = E2EE.of(e2ee)
        if settings is None:
            return None
        check_headers(self._headers)
        check_query(self._query)
        self._images = self._images or ImagePolicy()  # the gateway cannot fetch images from a request it cannot read
        return SealedPath(settings, management_url=self.settings.management_url, clock=self._clock)

    def _flow(self, call: WholeCall | StreamCall, model: str) -> Flow[Reply]:
        """Run a chat call, encrypted if set."""
        if self.settings.foreign and self._lacks(model, call.payer):
            return self._informed(model, partial(self._chat_way, call, model), call.payer)
        return call.run() if self._sealed is None and call.trace is None else self._chat_way(call, model)

    def _chat_way(self, call: WholeCall | StreamCall, model: str) -> Flow[Reply]:
        if self._sealed is None:
            return call.run() if call.trace is None else traced(call.run(), call.trace)
        call.record.sealed = True

        def arrived() -> Reply | None:
            return call.guard.reply if isinstance(call, StreamCall) and call.guard.delivered else None

        info = self._sealed.target(model, self.catalog)
        if isinstance(call, StreamCall):
            call.in_one_piece = partial(self._sealed.comes_whole, call, info)
        return self._sealed.wrap(call.run(), info, arrived, call.record.waits)

    def _embed_flow(self, call: EmbedCall, model: str) -> Flow[Embeddings]:
        """Run an embedding call, encrypted if set."""
        if self.settings.foreign and self._lacks(model):
            return self._informed(model, partial(self._embed_way, call, model))
        return self._embed_way(call, model)

    def _embed_way(self, call: EmbedCall, model: str) -> Flow[Embeddings]:
        if self._sealed is None:
            return call.run()
        call.record.sealed = True
        return self._sealed.wrap(call.run(), self._sealed.target(model, self.catalog), waits=call.record.waits)

    def _lacks(self, model: str, payer: Account | None = None) -> bool:
        """Return whether a call at a gateway of one's own needs what only that gateway can say.

        That is what the model costs, for a limit in dollars, and its chute, to seal a request for it.
        """
        priced = self.catalog.listed or payer is None or not payer.limited
        return not priced or self._without_chute(model) is not None

    def _without_chute(self, model: str) -> str | None:
        """Return the name of a model for which no request can be sealed, since its chute is not known."""
        if self._sealed is None:
            return None
        self._sealed.check(model, self.catalog)
        name = ModelRef.parse(model).names[0]
        info = self.catalog.get(model) or self.catalog.get(name)
        if info is None:
            return None if self.catalog.listed else name
        return info.id if info.chute_id is None else None

    def _informed(self, model: str, way: Callable[[], Flow[T]], payer: Account | None = None) -> Flow[T]:
        """Ask a gateway of one's own for what it alone knows, and then make the call, whatever it said."""
        policy = self._policy(min(self.limits.total or _PAGE_LIMIT, _PAGE_LIMIT))
        try:
            if not self.catalog.listed:
                self._take_models((yield from self._page(account.MODELS, policy, quiet=True)))
            if (name := self._without_chute(model)) is not None:
                chute = yield from self._page(account.chute_page(name), policy, quiet=True)
                self._catalog = self.catalog.with_chutes([chute])
        except APIError as error:
            if error.retry is not Retry.HERE:
                self._catalog = replace(self.catalog, listed=True)  # it has no list: it is not asked at every call
        if payer is not None:
            payer.infos = model_infos(self.catalog, model)
        return (yield from way())

    def without_retries(self, headers: Mapping[str, str]) -> Self:
        """Return a client with the same settings that makes no retries, and with these headers."""
        made = type(self).__new__(type(self))
        made.__dict__.update(self.__dict__, max_retries=0, _headers=Headers.kept(headers) or Headers())
        return made

    @property
    def default_headers(self) -> Headers:
        """The headers of every request; one that is set here goes along from the next call on."""
        return self._headers

    @property
    def catalog(self) -> Catalog:
        """The model catalogue: the one you passed, the one :meth:`models` fetched, or the newest available."""
        if self._catalog is None:
            self._catalog = Catalog.load(base_url=self.settings.base_url)
        return self._catalog

    def _policy(self, timeout: TimeLimits | float | None) -> CallPolicy:
        if self._closed:
            raise ConfigurationError("This client is closed; create a new one.")
        limits = self.limits if timeout is None else TimeLimits.of(timeout)
        return CallPolicy(limits, self.max_retries, self._clock, explain=self._explained, face=self.face)

    def _page_policy(self) -> CallPolicy:
        return self._policy(self.limits if self.limits.total else _PAGE_LIMIT)

    def _explained(self, error: APIError, wanted: Wanted | None) -> APIError:
        return error if error.model is None else with_hint(error, self.catalog, wanted)

    def _build(self, messages: Sequence[Message], model: str, params: ChatParams, *, stream: bool) -> ChatRequest:
        own: ChatParams = {"trace": True} if self._trace else {}
        told: ChatParams = {"trace": True} if asked_for(params.get("extra_headers")) else {}
        request = build_chat_request(
            messages,
            model,
            {**own, **params, **told},
            stream=stream,
            infos=model_infos(self.catalog, model),
            inline=self._images is not None,
        )
        if request.trace and self._sealed is not None:
            raise RequestRefusedError(
                "Nothing was sent: trace=True asks the gateway what it does, which an encrypted request keeps from it."
            )
        for note in request.notes:
            warn(note)
        return request

    def _chat_wire(self, request: ChatRequest) -> WireRequest:
        headers, query = self._headers.ready(), self._query.ready()
        if request.headers or request.query:  # of this call
            more = (Headers.kept(request.headers) or Headers()).ready()
            anew = {name.lower() for name in more}
            headers = {**{name: value for name, value in headers.items() if name.lower() not in anew}, **more}
            query |= (Query.kept(request.query) or Query()).ready()
            if self._sealed is not None:
                from chutes_core.e2ee.settings import check_headers, check_query

                check_headers(headers)
                check_query(query)
        return WireRequest(f"{self.settings.base_url}/chat/completions", request.body, headers, params=query)

    def _embed_calls(
        self,
        texts: Sequence[str],
        model: str,
        dimensions: int | None,
        batch_size: int,
        concurrency: int,
        policy: CallPolicy,
    ) -> list[EmbedCall]:
        """Plan the batches for a list of texts."""
        checked = check_texts(texts)
        check_model(model)
        for what, number in (("dimensions", dimensions), ("batch_size", batch_size), ("concurrency", concurrency)):
            whole = isinstance(number, int) and not isinstance(number, bool) and number > 0
            if not whole and not (what == "dimensions" and number is None):
                raise RequestRefusedError(f"{what} must be a positive whole number, not {number!r}.")
        info = self.catalog.get(model)
        if info is None and self._sealed is None and len(ModelRef.parse(model).names) > 1:
            raise RequestRefusedError(
                f"Name one embedding model, not a list as in {model!r}: vectors of different models cannot be compared."
            )
        name = info.id if info is not None else model
        address, headers = f"{self._embedding_host(info)}/embeddings", self._headers.ready()
        request = WireRequest(address, None, headers, params=self._query.ready())
        payer, agreed = self._account(() if info is None else (info,)), dict[str, int | str]()
        return [
            EmbedCall(
                request, policy, batch, model=name, dimensions=dimensions, first=number * batch_size, agreed=agreed,
                known=self._embed_steps, ledger=payer,
            )
            for number, batch in enumerate(batches(checked, batch_size))
        ]  # fmt: skip

    def _embedding_host(self, info: ModelInfo | None) -> str:
        """Return the host: the one set, else the model's own, or the gateway if that was replaced."""
        if self.settings.embedding_base_url:
            return self.settings.embedding_base_url
        if self.settings.foreign:
            return self.settings.base_url
        return (info.host if info is not None else None) or EMBEDDING_BASE_URL

    def _chute_call(
        self, chute: str, path: str, payload: object, media_type: str | None, max_bytes: int, policy: CallPolicy
    ) -> ChuteCall:
        if self._sealed is not None:
            raise RequestRefusedError(
                "Nothing was sent: this client encrypts end to end, which call() does not. Use another client for it."
            )
        if isinstance(max_bytes, bool) or not isinstance(max_bytes, int) or max_bytes < 1:
            raise RequestRefusedError(f"max_bytes must be a positive whole number, not {max_bytes!r}.")
        check_model(chute)
        info = self.catalog.model(chute)
        request = chute_request(self._chute_host(info), path, payload, media_type, self._headers.ready())
        return ChuteCall(request, policy, info, most=max_bytes, ledger=self._account((info,)))

    def _chute_host(self, info: ModelInfo) -> str:
        """Return where a chute is: its own host, or with another service, that service's address of it."""
        if info.host is None:
            raise RequestRefusedError(f"{info.id} has no host of its own in the catalogue: use chat() or stream().")
        default, mine = Settings(), self.settings
        if (mine.base_url, mine.management_url) == (default.base_url, default.management_url):
            if _OWN_HOST.fullmatch(info.host):
                return info.host.removesuffix("/v1")
            raise RequestRefusedError(f"Nothing was sent: the host of {info.id} is none of the service's.")
        if info.chute_id is None or not is_path(f"/{info.chute_id}"):
            raise RequestRefusedError(f"The catalogue does not have the chute id of {info.id}: refresh_catalog() may.")
        return f"{mine.management_url}/chutes/{info.chute_id}"

    def _account(self, infos: Sequence[ModelInfo]) -> Account:
        """Return where a call that begins now records its usage."""
        return Account(self.ledger, lambda: self.catalog, infos)

    def _host_of(self, endpoint: Endpoint[T]) -> str:
        return self.settings.base_url if endpoint.gateway else self.settings.management_url

    def _keyless(self, endpoint: Endpoint[T]) -> bool:
        """Return whether a page is asked for without the key.

        Secret headers go where the key may go: to another address that is not named with them, the key has to agree.
        """
        host = self._host_of(endpoint)
        needs_word = self._headers.secret and is_stranger(host) and origin_of(host) not in self.settings.named
        return endpoint.public and not needs_word

    def _page(self, endpoint: Endpoint[T], policy: CallPolicy, *, quiet: bool = False) -> Flow[T]:
        request = WireRequest(
            f"{self._host_of(endpoint)}{endpoint.path}", None, self._headers.ready(), "GET", None, endpoint.params
        )
        call = JsonCall(request, policy if endpoint.gateway else replace(policy, explain=_managed))
        call.record.quiet = quiet
        value = yield from call.run()
        try:
            return endpoint.parse(value)
        except ValueError as problem:
            raise failure(Kind.MALFORMED, f"{endpoint.path}: {problem}") from None

    def _warm_up(self, model: str, policy: CallPolicy) -> WarmUpCall:
        check_model(model)
        info = self.catalog.get(model)
        chute = info.chute_id if info is not None and info.chute_id else model
        if self._sealed is not None:
            chute = self._sealed.settings.chutes.get(info.id if info is not None else model, chute)
            self._sealed.registry.warmed(chute)
        name = quote(chute)
        request = WireRequest(
            f"{self.settings.management_url}/chutes/warmup/{name}", None, self._headers.ready(), "GET"
        )
        explain = policy.explain
        return WarmUpCall(
            request, replace(policy, explain=lambda error, wanted: _managed(explain(error, wanted))), model=model
        )

    def _take_models(self, rows: list[Mapping[str, object]]) -> list[ModelInfo]:
        self._catalog = self.catalog.updated(rows, fetched_at=time.time())
        self._keep_catalog()
        return list(self._catalog)

    def _refresh(self, policy: CallPolicy) -> Flow[None]:
        """Fetch the pages of the list of public chutes and the recent speeds, and keep what they say."""
        found, whole = dict[object, Mapping[str, object]](), False
        for number in range(account.MOST_PAGES):
            page = yield from self._page(account.chutes_page(number), policy)
            before = len(found)
            found.update((chute.get("chute_id"), chute) for chute in page.chutes)  # pages shift while they are read
            whole = page.total is not None and len(found) >= page.total
            short = page.total is None and len(page.chutes) < account.CHUTES_PER_PAGE
            if whole or short or len(found) == before:
                break
        stats = yield from self._page(account.stats_page(self._stats_since()), policy)
        self._catalog = self.catalog.with_chutes(found.values(), whole=whole).with_stats(stats)
        self._keep_catalog()

    def _keep_catalog(self) -> None:
        if not self.settings.foreign:
            self.catalog.save()  # do not save the list of another gateway

    @staticmethod
    def _stats_since() -> str:
        return time.strftime("%Y-%m-%d", time.gmtime(time.time() - 2 * 86400))


def _managed(error: APIError, wanted: Wanted | None = None) -> APIError:
    """Say where to look where the management host lacks a page: no address of a chat has to do with it."""
    if error.kind is not Kind.ROUTE_NOT_FOUND:
        return error
    return explained(error, remedy="Check the management URL; a gateway of your own may have no such page.")


def _check_kind(name: str, value: object, *kinds: type) -> None:
    if value is not None and not isinstance(value, kinds):
        wanted = " or ".join(kind.__name__ for kind in kinds)
        raise ConfigurationError(f"{name} must be a {wanted}, not a {type(value).__name__}.")


def _checked_http_client(http_client: object, *, wants_async: bool) -> object:
    if http_client is None:
        return None
    if not hasattr(http_client, "send") or not hasattr(http_client, "build_request"):
        raise ConfigurationError("http_client must be a client of httpx or httpx2.")
    if hasattr(http_client, "aclose") != wants_async:
        kind = "AsyncClient" if wants_async else "Client"
        raise ConfigurationError(f"http_client must be an httpx.{kind} or httpx2.{kind} here.")
    return http_client
