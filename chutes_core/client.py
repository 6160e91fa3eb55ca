"""The sync and async clients: every call returns a complete answer or raises a clear error.

They build the requests; :mod:`chutes_core.calls.flows` makes the decisions, and :mod:`chutes_core.wire.hands` does the
I/O.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar, Unpack, cast

from chutes_core import account
from chutes_core.account import AccountPages, AsyncAccountPages, Endpoint, Utilization
from chutes_core.calls.chute import MOST_BYTES, ChuteReply
from chutes_core.calls.effects import AsyncHand, Flow, Hand, adrive, arun, drive, run
from chutes_core.calls.embeddings import BATCH_SIZE, CONCURRENCY, EmbedCall, Embeddings
from chutes_core.calls.flows import StreamCall, WarmUpStatus, WholeCall
from chutes_core.catalog.model_info import ModelInfo
from chutes_core.client_base import ClientBase
from chutes_core.default_model import default_model
from chutes_core.request.chat import ChatParams
from chutes_core.request.messages import Message
from chutes_core.response import Delta, Reply
from chutes_core.settings import TimeLimits
from chutes_core.wire import pools
from chutes_core.wire.direct import AsyncPool
from chutes_core.wire.hands import AsyncWire, SyncWire
from chutes_core.wire.sending import asender, sender
from chutes_core.wire.through import AsyncThrough, Through

if TYPE_CHECKING:
    import httpx

__all__ = ["AsyncChutesClient", "AsyncStream", "ChutesClient", "Stream"]

T = TypeVar("T")


class Stream(Iterator[Delta]):
    """A streamed answer: iterate over its deltas, then read :attr:`reply`.

    Nothing is sent until you request the first delta. Leaving the ``with`` block, or closing or dropping the stream,
    releases its connection.
    """

    def __init__(self, flow: Flow[Reply], call: StreamCall, wire: Hand) -> None:
        self._call = call
        self._outcome: list[Reply] = []
        self._steps = cast("Generator[Delta, None, None]", drive(flow, wire, self._outcome))

    @property
    def reply(self) -> Reply:
        """The whole reply once the stream has ended; until then, what has arrived."""
        return self._outcome[0] if self._outcome else self._call.guard.reply

    def quiet(self, *, unseen: bool = False) -> Self:
        """Tell no hook of this call, and log nothing: a fallback does, of which it is an attempt.

        Where it is ``unseen`` before it is whole, and sealed, it is asked for in one piece.
        """
        self._call.record.quiet, self._call.unseen = True, unseen
        return self

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Delta:
        return next(self._steps)

    def close(self) -> None:
        """Stop the stream and release the connection."""
        self._steps.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncStream(AsyncIterator[Delta]):
    """A streamed answer: ``async for`` over its deltas, then read :attr:`reply`."""

    def __init__(self, flow: Flow[Reply], call: StreamCall, wire: AsyncHand) -> None:
        self._call = call
        self._outcome: list[Reply] = []
        self._steps = cast("AsyncGenerator[Delta, None]", adrive(flow, wire, self._outcome))

    @property
    def reply(self) -> Reply:
        """The whole reply once the stream has ended; until then, what has arrived."""
        return self._outcome[0] if self._outcome else self._call.guard.reply

    def quiet(self, *, unseen: bool = False) -> Self:
        """Tell no hook of this call, and log nothing: a fallback does, of which it is an attempt.

        Where it is ``unseen`` before it is whole, and sealed, it is asked for in one piece.
        """
        self._call.record.quiet, self._call.unseen = True, unseen
        return self

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Delta:
        return await self._steps.__anext__()

    async def aclose(self) -> None:
        """Stop the stream and release the connection."""
        await self._steps.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class ChutesClient(ClientBase):
    """Sync client for Chutes. Thread-safe.

    Args:
        api_key: A key or token, a SecretStr, or a function that returns one; without it ``CHUTES_OAUTH_TOKEN``, then
            ``CHUTES_API_KEY``, then the login stored by ``chutes-connect login``.
        base_url: URL of the inference gateway.
        embedding_base_url: One URL for all embedding models; by default each model's own host.
        management_url: URL for the account, the catalogue and the login.
        timeout: Time limits, or seconds for the whole call.
        max_retries: Maximum number of retries, where a retry may help.
        default_headers: Headers for every request.
        default_query: Added to the address of every chat and embedding request; as secret as headers are.
        http_client: Your own ``httpx.Client`` or ``httpx2.Client``.
        catalog: Model catalogue; by default the newest available.
        ledger: Records tokens and cost; a ``Budget`` also limits them.
        inline_images: Download remote images and send them inline.
        e2ee: Encrypt every request end to end to the machine that answers it: True, or an ``E2EE`` that sets how
            strictly its attestation is checked. See docs/privacy.md.
        trace: Have the gateway tell which machines it asks, at every call: see ``ChatParams``.
        clock: For tests.

    >>> client = ChutesClient("cpk_0123")
    >>> client
    ChutesClient(base_url='https://llm.chutes.ai/v1', api_key=Credential('cpk_****'))
    """

    def chat(
        self,
        messages: Sequence[Message],
        *,
        model: str | None = None,
        timeout: TimeLimits | float | None = None,
        **params: Unpack[ChatParams],
    ) -> Reply:
        """Send a chat request and return the whole answer; without a model, of the default one.

        Raises:
            ConfigurationError: The request was refused locally; nothing was sent.
            APIError: There is no complete answer; ``.partial`` has the text received so far.
        """
        policy = self._policy(timeout)
        if model is None:
            model = default_model()
        request = self._build(messages, model, params, stream=False)
        call = WholeCall(self._chat_wire(request), policy, request, self._images, self._account(request.infos))
        return run(self._flow(call, model), self._wire())

    def stream(
        self,
        messages: Sequence[Message],
        *,
        model: str | None = None,
        timeout: TimeLimits | float | None = None,
        **params: Unpack[ChatParams],
    ) -> Stream:
        """Send a chat request and stream the answer.

        Failures before the first delta are retried as in :meth:`chat`; later ones are raised.
        """
        policy = self._policy(timeout)
        if model is None:
            model = default_model()
        request = self._build(messages, model, params, stream=True)
        call = StreamCall(self._chat_wire(request), policy, request, self._images, self._account(request.infos))
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
        """Embed texts in concurrent batches; vectors are in the order of the texts.

        ``on_batch`` is called with the number of texts after each successful batch, from its thread.
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
            pending = [workers.submit(copy_context().run, one, call) for call in calls]  # spans have their parents
            try:
                return Embeddings.join([future.result() for future in pending], model)
            except BaseException:
                for future in pending:
                    future.cancel()
                raise

    def call(
        self,
        chute: str,
        path: str,
        payload: Mapping[str, object] | bytes | None = None,
        *,
        media_type: str | None = None,
        max_bytes: int = MOST_BYTES,
        timeout: TimeLimits | float | None = None,
    ) -> ChuteReply:
        """Call any public chute on its own host: for pictures, speech, and whatever else it publishes.

        Args:
            chute: Its name in the catalogue, or its id; :meth:`refresh_catalog` fetches those of today.
            path: One of the paths that it publishes, as in ``info.paths``.
            payload: A mapping is sent as JSON, bytes as they are; without a payload the request is a GET.
            media_type: What the bytes are, such as "audio/wav".
            max_bytes: How large the reply may be.
            timeout: Time limits, or seconds for the whole call.

        Raises:
            ConfigurationError: The request was refused locally; nothing was sent.
            UnknownModelError: The catalogue has no such chute.
            APIError: There is no complete answer.
        """
        call = self._chute_call(chute, path, payload, media_type, max_bytes, self._policy(timeout))
        return run(call.run(), self._wire())

    def models(self) -> list[ModelInfo]:
        """Fetch the list of models, which changes within weeks, and keep it."""
        return self._take_models(self._get(account.MODELS))

    def refresh_catalog(self) -> None:
        """Fetch the list of models, the public chutes of every other kind, which are hot, and their recent speed."""
        self.models()
        run(self._refresh(self._page_policy()), self._wire(public=self._keyless(account.chutes_page(0))))

    def utilization(self) -> list[Utilization]:
        """Return the current load of each model."""
        return self._get(account.UTILIZATION)

    def stats(self, start_date: str) -> list[Mapping[str, object]]:
        """Return every model's daily speed since a date such as ``"2026-08-01"``."""
        return self._get(account.stats_page(start_date))

    @property
    def account(self) -> AccountPages:
        """Your account: balance, quota, usage."""
        return AccountPages(self._get)

    def warm_up(self, model: str, *, timeout: TimeLimits | float | None = None) -> Iterator[WarmUpStatus]:
        """Wake a cold model, yielding the service's status until it is hot.

        Raises:
            ColdModelError: The service gave up waiting.
        """
        call = self._warm_up(model, self._policy(timeout))
        yield from cast("Iterator[WarmUpStatus]", drive(call.run(), self._wire(), []))

    def close(self) -> None:
        """Close the client; a shared connection pool closes with its last client."""
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

    def _wire(self, *, public: bool = False) -> Hand:
        own = cast("httpx.Client | None", self._http_client)
        send = sender(pools.sync_pools().get(self) if own is None else Through(own))
        wire = SyncWire(send, None if public else self._credential, clock=self._clock)
        return wire if self._recorder is None else self._recorder.tap(wire)

    def _get(self, endpoint: Endpoint[T]) -> T:
        flow = self._page(endpoint, self._page_policy())
        return run(flow, self._wire(public=self._keyless(endpoint)))


class AsyncChutesClient(ClientBase):
    """Async client for Chutes, with the same arguments as :class:`ChutesClient`.

    One object can be used in any number of event loops, in sequence or concurrently.

    >>> client = AsyncChutesClient("cpk_0123", timeout=30)
    >>> client.limits.total
    30
    """

    _is_async = True

    async def chat(
        self,
        messages: Sequence[Message],
        *,
        model: str | None = None,
        timeout: TimeLimits | float | None = None,
        **params: Unpack[ChatParams],
    ) -> Reply:
        """Send a chat request and return the whole answer."""
        policy = self._policy(timeout)
        if model is None:
            model = default_model()
        request = self._build(messages, model, params, stream=False)
        call = WholeCall(self._chat_wire(request), policy, request, self._images, self._account(request.infos))
        return await arun(self._flow(call, model), self._wire())

    def stream(
        self,
        messages: Sequence[Message],
        *,
        model: str | None = None,
        timeout: TimeLimits | float | None = None,
        **params: Unpack[ChatParams],
    ) -> AsyncStream:
        """Send a chat request and stream the answer: ``async for delta in client.stream(...)``."""
        policy = self._policy(timeout)
        if model is None:
            model = default_model()
        request = self._build(messages, model, params, stream=True)
        call = StreamCall(self._chat_wire(request), policy, request, self._images, self._account(request.infos))
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
        """Embed texts in concurrent batches; vectors are in the order of the texts."""
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

    async def call(
        self,
        chute: str,
        path: str,
        payload: Mapping[str, object] | bytes | None = None,
        *,
        media_type: str | None = None,
        max_bytes: int = MOST_BYTES,
        timeout: TimeLimits | float | None = None,
    ) -> ChuteReply:
        """Call any public chute on its own host, as :meth:`ChutesClient.call` does."""
        call = self._chute_call(chute, path, payload, media_type, max_bytes, self._policy(timeout))
        return await arun(call.run(), self._wire())

    async def models(self) -> list[ModelInfo]:
        """Fetch the list of models, which changes within weeks, and keep it."""
        return self._take_models(await self._get(account.MODELS))

    async def refresh_catalog(self) -> None:
        """Fetch the list of models, the public chutes of every other kind, which are hot, and their recent speed."""
        await self.models()
        await arun(self._refresh(self._page_policy()), self._wire(public=self._keyless(account.chutes_page(0))))

    async def utilization(self) -> list[Utilization]:
        """Return the current load of each model."""
        return await self._get(account.UTILIZATION)

    async def stats(self, start_date: str) -> list[Mapping[str, object]]:
        """Return every model's daily speed since a date such as ``"2026-08-01"``."""
        return await self._get(account.stats_page(start_date))

    @property
    def account(self) -> AsyncAccountPages:
        """Your account: balance, quota, usage."""
        return AsyncAccountPages(self._get)

    async def warm_up(self, model: str, *, timeout: TimeLimits | float | None = None) -> AsyncIterator[WarmUpStatus]:
        """Wake a cold model, yielding the service's status until it is hot."""
        call = self._warm_up(model, self._policy(timeout))
        async for status in adrive(call.run(), self._wire(), []):
            yield cast("WarmUpStatus", status)

    async def aclose(self) -> None:
        """Close the client; this event loop's connection pool closes with its last client."""
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

    def _wire(self, *, public: bool = False) -> AsyncHand:
        wire = AsyncWire(asender(self._http), None if public else self._credential, clock=self._clock)
        return wire if self._recorder is None else self._recorder.atap(wire)

    async def _http(self) -> AsyncPool | AsyncThrough:
        if self._http_client is None:
            return await pools.async_pools().get(self)
        return AsyncThrough(cast("httpx.AsyncClient", self._http_client))

    async def _get(self, endpoint: Endpoint[T]) -> T:
        flow = self._page(endpoint, self._page_policy())
        return await arun(flow, self._wire(public=self._keyless(endpoint)))
