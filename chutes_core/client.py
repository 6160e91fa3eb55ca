"""The clients: one call in, one whole answer or one honest error out.

Both say what to send; :mod:`chutes_core.flows` decides what happens, and :mod:`chutes_core.wire` does it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar, Unpack, cast

from chutes_core import account, pools
from chutes_core.account import AccountPages, AsyncAccountPages, Endpoint, Utilization
from chutes_core.client_base import ClientBase
from chutes_core.conversation import Message
from chutes_core.effects import Flow, adrive, arun, drive, run
from chutes_core.embeddings import BATCH_SIZE, CONCURRENCY, EmbedCall, Embeddings
from chutes_core.flows import StreamCall, WarmUpStatus, WholeCall
from chutes_core.model_info import ModelInfo
from chutes_core.request import ChatParams
from chutes_core.response import Delta, Reply
from chutes_core.settings import TimeLimits
from chutes_core.transport import asender, sender, shared_request
from chutes_core.wire import AsyncWire, SyncWire

if TYPE_CHECKING:
    import httpx

__all__ = ["AsyncChutesClient", "AsyncStream", "ChutesClient", "Stream"]

T = TypeVar("T")
_PAGE_LIMIT = 30.0  # for a page of the management host, where the client has no limit of its own


class Stream(Iterator[Delta]):
    """A streamed answer: iterate over its deltas, then read :attr:`reply`.

    Nothing is sent before the first delta is asked for. Leaving the ``with`` block, closing the stream or
    dropping it gives its connection back.
    """

    def __init__(self, flow: Flow[Reply], call: StreamCall, wire: SyncWire) -> None:
        self._call = call
        self._outcome: list[Reply] = []
        self._steps = cast("Generator[Delta, None, None]", drive(flow, wire, self._outcome))

    @property
    def reply(self) -> Reply:
        """The whole reply once the stream has ended; before that, what has arrived."""
        return self._outcome[0] if self._outcome else self._call.guard.reply

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Delta:
        return next(self._steps)

    def close(self) -> None:
        """Stop, and give the connection back."""
        self._steps.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncStream(AsyncIterator[Delta]):
    """A streamed answer: ``async for`` over its deltas, then read :attr:`reply`."""

    def __init__(self, flow: Flow[Reply], call: StreamCall, wire: AsyncWire) -> None:
        self._call = call
        self._outcome: list[Reply] = []
        self._steps = cast("AsyncGenerator[Delta, None]", adrive(flow, wire, self._outcome))

    @property
    def reply(self) -> Reply:
        """The whole reply once the stream has ended; before that, what has arrived."""
        return self._outcome[0] if self._outcome else self._call.guard.reply

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delta:
        return await anext(self._steps)

    async def aclose(self) -> None:
        """Stop, and give the connection back."""
        await self._steps.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class ChutesClient(ClientBase):
    """Chutes, blocking. Safe to share between threads.

    Args:
        api_key: A key or token, a SecretStr, or a function that returns one; without it
            ``CHUTES_OAUTH_TOKEN`` and ``CHUTES_API_KEY`` are read.
        base_url: The inference gateway.
        embedding_base_url: The host for embeddings of every model; by default each model's own.
        management_url: The host of the account and the catalogue.
        timeout: Time limits, or seconds for the whole call.
        max_retries: How often a failed call is tried again where that may help.
        default_headers: Sent with every request.
        http_client: Your own ``httpx.Client`` or ``httpx2.Client``.
        catalog: What is known of the models.
        ledger: Where tokens and cost are added up.
        inline_images: Fetch remote images here and send them along.
        e2ee: Seal every request for the machine that answers it, so that nobody on the way can read it; an ``E2EE``
            object says how far the machine's proof is checked. See docs/privacy.md.
        clock: For tests.

    >>> client = ChutesClient("cpk_0123")
    >>> client
    ChutesClient(base_url='https://llm.chutes.ai/v1', api_key=Credential('cpk_****'))
    """

    def chat(
        self,
        messages: Sequence[Message],
        *,
        model: str,
        timeout: TimeLimits | float | None = None,
        **params: Unpack[ChatParams],
    ) -> Reply:
        """Ask, and wait for the whole answer.

        Raises:
            ConfigurationError: Refused here, before anything was sent.
            APIError: There is no whole answer; ``.partial`` has what there is of one.
        """
        policy = self._policy(timeout)
        request = self._build(messages, model, params, stream=False)
        call = WholeCall(self._chat_wire(request), policy, request, self._images, self._record)
        return run(self._flow(call, model), self._wire())

    def stream(
        self,
        messages: Sequence[Message],
        *,
        model: str,
        timeout: TimeLimits | float | None = None,
        **params: Unpack[ChatParams],
    ) -> Stream:
        """Ask, and take the answer as it comes.

        A failure before the first delta is retried like that of :meth:`chat`; after it, it is raised.
        """
        policy = self._policy(timeout)
        request = self._build(messages, model, params, stream=True)
        call = StreamCall(self._chat_wire(request), policy, request, self._images, self._record)
        return Stream(self._flow(call, model), call, self._wire())

    def embed(
        self,
        texts: Sequence[str],
        *,
        model: str,
        dimensions: int | None = None,
        batch_size: int = BATCH_SIZE,
        concurrency: int = CONCURRENCY,
        timeout: TimeLimits | float | None = None,
        on_batch: Callable[[int], object] | None = None,
    ) -> Embeddings:
        """Turn texts into vectors, in their order, some requests at a time.

        ``on_batch`` is called with the number of texts of every request that succeeded, from its thread.
        """
        calls = self._embed_calls(texts, model, dimensions, batch_size, concurrency, self._policy(timeout))

        def one(call: EmbedCall) -> Embeddings:
            part = run(self._embed_flow(call, model), self._wire())
            if on_batch is not None:
                on_batch(len(part.vectors))
            return part

        if len(calls) <= 1:
            return Embeddings.join([one(call) for call in calls], model)
        with ThreadPoolExecutor(max_workers=min(concurrency, len(calls))) as workers:
            pending = [workers.submit(one, call) for call in calls]
            try:
                return Embeddings.join([future.result() for future in pending], model)
            except BaseException:
                for future in pending:
                    future.cancel()
                raise

    def models(self) -> list[ModelInfo]:
        """Fetch the list of models, which changes within weeks, and remember it."""
        return self._take_models(self._get(account.MODELS))

    def refresh_catalog(self) -> None:
        """Fetch the list of models, which of them are hot, and how fast they were of late."""
        self.models()
        self._take_chutes(self._get(account.CHUTES), self._get(account.stats_page(self._stats_since())))

    def utilization(self) -> list[Utilization]:
        """Return how loaded each model is."""
        return self._get(account.UTILIZATION)

    def stats(self, start_date: str) -> list[Mapping[str, object]]:
        """Return the speed of every model on each day since a date such as ``"2026-08-01"``."""
        return self._get(account.stats_page(start_date))

    @property
    def account(self) -> AccountPages:
        """Your account: balance, quota, use."""
        return AccountPages(self._get)

    def warm_up(self, model: str, *, timeout: TimeLimits | float | None = None) -> Iterator[WarmUpStatus]:
        """Wake a cold model and yield what the service says meanwhile, until it is hot.

        Raises:
            ColdModelError: The service gave up waiting.
        """
        call = self._warm_up(model, self._policy(timeout))
        yield from cast("Iterator[WarmUpStatus]", drive(call.run(), self._wire(), []))

    def close(self) -> None:
        """Close the client; a shared pool closes with the last client that uses it."""
        if self._closed:
            return
        self._closed = True
        pools.sync_pools().release(self)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _wire(self, *, public: bool = False) -> SyncWire:
        own = cast("httpx.Client | None", self._http_client)
        send = sender(pools.sync_pools().get(self), shared_request) if own is None else sender(own, own.build_request)
        return SyncWire(send, None if public else self._credential, clock=self._clock)

    def _get(self, endpoint: Endpoint[T]) -> T:
        flow = self._page(endpoint, self._policy(self.limits if self.limits.total else _PAGE_LIMIT))
        return run(flow, self._wire(public=endpoint.public))


class AsyncChutesClient(ClientBase):
    """Chutes on the event loop: the twin of :class:`ChutesClient`, with the same arguments.

    One object serves any number of event loops, one after the other or at the same time.

    >>> client = AsyncChutesClient("cpk_0123", timeout=30)
    >>> client.limits.total
    30
    """

    _is_async = True

    async def chat(
        self,
        messages: Sequence[Message],
        *,
        model: str,
        timeout: TimeLimits | float | None = None,
        **params: Unpack[ChatParams],
    ) -> Reply:
        """Ask, and wait for the whole answer."""
        policy = self._policy(timeout)
        request = self._build(messages, model, params, stream=False)
        call = WholeCall(self._chat_wire(request), policy, request, self._images, self._record)
        return await arun(self._flow(call, model), self._wire())

    def stream(
        self,
        messages: Sequence[Message],
        *,
        model: str,
        timeout: TimeLimits | float | None = None,
        **params: Unpack[ChatParams],
    ) -> AsyncStream:
        """Ask, and take the answer as it comes: ``async for delta in client.stream(...)``."""
        policy = self._policy(timeout)
        request = self._build(messages, model, params, stream=True)
        call = StreamCall(self._chat_wire(request), policy, request, self._images, self._record)
        return AsyncStream(self._flow(call, model), call, self._wire())

    async def embed(
        self,
        texts: Sequence[str],
        *,
        model: str,
        dimensions: int | None = None,
        batch_size: int = BATCH_SIZE,
        concurrency: int = CONCURRENCY,
        timeout: TimeLimits | float | None = None,
        on_batch: Callable[[int], object] | None = None,
    ) -> Embeddings:
        """Turn texts into vectors, in their order, some requests at a time."""
        calls = self._embed_calls(texts, model, dimensions, batch_size, concurrency, self._policy(timeout))
        places = asyncio.Semaphore(concurrency)

        async def one(call: EmbedCall) -> Embeddings:
            async with places:
                part = await arun(self._embed_flow(call, model), self._wire())
            if on_batch is not None:
                on_batch(len(part.vectors))
            return part

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(one(call)) for call in calls]
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return Embeddings.join([task.result() for task in tasks], model)

    async def models(self) -> list[ModelInfo]:
        """Fetch the list of models, which changes within weeks, and remember it."""
        return self._take_models(await self._get(account.MODELS))

    async def refresh_catalog(self) -> None:
        """Fetch the list of models, which of them are hot, and how fast they were of late."""
        await self.models()
        chutes = await self._get(account.CHUTES)
        self._take_chutes(chutes, await self._get(account.stats_page(self._stats_since())))

    async def utilization(self) -> list[Utilization]:
        """Return how loaded each model is."""
        return await self._get(account.UTILIZATION)

    async def stats(self, start_date: str) -> list[Mapping[str, object]]:
        """Return the speed of every model on each day since a date such as ``"2026-08-01"``."""
        return await self._get(account.stats_page(start_date))

    @property
    def account(self) -> AsyncAccountPages:
        """Your account: balance, quota, use."""
        return AsyncAccountPages(self._get)

    async def warm_up(self, model: str, *, timeout: TimeLimits | float | None = None) -> AsyncIterator[WarmUpStatus]:
        """Wake a cold model and yield what the service says meanwhile, until it is hot."""
        call = self._warm_up(model, self._policy(timeout))
        async for status in adrive(call.run(), self._wire(), []):
            yield cast("WarmUpStatus", status)

    async def aclose(self) -> None:
        """Close the client; the pool of this event loop closes with the last client that uses it."""
        if self._closed:
            return
        self._closed = True
        await pools.async_pools().release(self)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _wire(self, *, public: bool = False) -> AsyncWire:
        own = cast("httpx.AsyncClient | None", self._http_client)
        send = asender(self._http, shared_request if own is None else own.build_request)
        return AsyncWire(send, None if public else self._credential, clock=self._clock)

    async def _http(self) -> httpx.AsyncClient:
        if self._http_client is None:
            return await pools.async_pools().get(self)
        return cast("httpx.AsyncClient", self._http_client)

    async def _get(self, endpoint: Endpoint[T]) -> T:
        flow = self._page(endpoint, self._policy(self.limits if self.limits.total else _PAGE_LIMIT))
        return await arun(flow, self._wire(public=endpoint.public))
