"""The openai SDK configured for Chutes, for code that uses neither LangChain nor LlamaIndex.

>>> client = openai_client("cpk_0123")
>>> client.base_url, client.api_key
(URL('https://llm.chutes.ai/v1/'), '****')

It is the stock client with our transport as its ``http_client``, which adds the key and host to each request and
checks each reply, so that an incomplete answer raises even where the SDK would not notice.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self, cast

from chutes_core.auth import ApiKey, Credential
from chutes_core.calls.clock import Clock
from chutes_core.calls.effects import Authorize, Effect, Open, StatusFailure, WireRequest, run
from chutes_core.calls.embeddings import malformed, read_embeddings
from chutes_core.calls.flows import CallPolicy, WholeCall
from chutes_core.calls.record import Record
from chutes_core.catalog.catalog import Catalog, ModelInfo
from chutes_core.client_base import ClientBase
from chutes_core.door import loads
from chutes_core.errors import APIError, ConfigurationError, Retry
from chutes_core.failures.hints import with_hint
from chutes_core.failures.reading import error_from_response
from chutes_core.openai_sdk.bill import Bill
from chutes_core.openai_sdk.passthrough import PassThrough
from chutes_core.openai_sdk.transport import AsyncTransport, Transport
from chutes_core.reply.guard import StreamGuard
from chutes_core.reply.vectors import count_inputs, rows_in_order
from chutes_core.request.chat import ChatRequest
from chutes_core.response import Reply, ReplyMeta
from chutes_core.secrets.frames import unseen
from chutes_core.secrets.headers import MASK, Headers, HiddenText
from chutes_core.secrets.masking import Known
from chutes_core.secrets.places import check_place
from chutes_core.secrets.secret import Secret
from chutes_core.settings import TimeLimits, origin_of
from chutes_core.usage import Ledger

if TYPE_CHECKING:
    import httpx
    import openai

    from chutes_core.exchanges.recorder import Recorder
    from chutes_core.fallback.client import AsyncFallbackClient, FallbackClient

__all__ = ["AsyncDoor", "Door", "Question", "async_openai_client", "openai_client", "read_json"]

_FOREIGN = (
    "openai-organization",
    "openai-project",
    "host",
    "content-length",
    "authorization",
    "user-agent",
    "accept-encoding",
    "x-chutes-trace",  # the answer would come in events, which the SDK could not read
)


@unseen
def openai_client(
    api_key: ApiKey | None = None,
    *,
    base_url: str | None = None,
    embedding_base_url: str | None = None,
    management_url: str | None = None,
    timeout: object = None,
    max_retries: int | None = None,
    default_headers: Mapping[str, str] | None = None,
    http_client: object = None,
    catalog: Catalog | None = None,
    ledger: Ledger | None = None,
    fallback: FallbackClient | None = None,
) -> openai.OpenAI:
    """Create a stock ``openai.OpenAI`` client for Chutes.

    Args:
        api_key: A key or token, or a function that returns one; without it ``CHUTES_OAUTH_TOKEN``, then
            ``CHUTES_API_KEY``, then the login stored by ``chutes-connect login``.
        base_url: URL of the inference gateway.
        embedding_base_url: One URL for all embedding models; by default each model's own host.
        management_url: URL of the service whose stored login is used.
        timeout: Seconds, or an ``openai.Timeout``; by default 600 s, and 10 s to connect.
        max_retries: Maximum number of retries by the SDK, where the failure table allows them; by default 2.
        default_headers: Headers for every request.
        http_client: Your own ``httpx.Client`` or ``httpx2.Client``.
        catalog: Model catalogue; by default the newest available.
        ledger: Records tokens and cost; a ``Budget`` refuses calls that could exceed it.
        fallback: Several models: ``model="fallback"`` asks its members, another name that model alone. It has its own
            keys, limits and ledger, so no other argument goes with it.

    Raises:
        ConfigurationError: The SDK is not installed, or an argument cannot be right.

    >>> from chutes_core import FallbackClient
    >>> openai_client(fallback=FallbackClient(["acme/one", "acme/two"], "cpk_0123")).max_retries
    0
    """
    _require_sdk()
    import openai

    arguments = _arguments(
        False, fallback, timeout, max_retries, api_key=api_key, base_url=base_url,
        embedding_base_url=embedding_base_url, management_url=management_url, default_headers=default_headers,
        http_client=http_client, catalog=catalog, ledger=ledger,
    )  # fmt: skip
    return openai.OpenAI(**arguments)  # type: ignore[arg-type]


@unseen
def async_openai_client(
    api_key: ApiKey | None = None,
    *,
    base_url: str | None = None,
    embedding_base_url: str | None = None,
    management_url: str | None = None,
    timeout: object = None,
    max_retries: int | None = None,
    default_headers: Mapping[str, str] | None = None,
    http_client: object = None,
    catalog: Catalog | None = None,
    ledger: Ledger | None = None,
    fallback: AsyncFallbackClient | None = None,
) -> openai.AsyncOpenAI:
    """Create a stock ``openai.AsyncOpenAI`` client for any number of event loops; see :func:`openai_client`.

    >>> async_openai_client("cpk_0123").max_retries
    2
    """
    _require_sdk()
    import openai

    arguments = _arguments(
        True, fallback, timeout, max_retries, api_key=api_key, base_url=base_url,
        embedding_base_url=embedding_base_url, management_url=management_url, default_headers=default_headers,
        http_client=http_client, catalog=catalog, ledger=ledger,
    )  # fmt: skip
    return openai.AsyncOpenAI(**arguments)  # type: ignore[arg-type]


def _require_sdk() -> None:
    try:
        import openai  # noqa: F401
    except ImportError as error:
        problem = str(error)
    else:
        return
    raise ConfigurationError(f"The openai clients are an extra ({problem}): pip install 'chutes-connect[openai]'")


def _arguments(
    is_async: bool, fallback: object, timeout: object, max_retries: int | None, **given: object
) -> dict[str, object]:
    """Return the arguments of the SDK's client, with what sends its requests."""
    import openai

    http = openai.DefaultAsyncHttpxClient if is_async else openai.DefaultHttpxClient
    transports = AsyncTransport if is_async else Transport
    door: Door
    if fallback is not None:
        from chutes_core.openai_sdk.fallback import Asks, AsyncAsks

        asked = {"timeout": timeout, "max_retries": max_retries}
        _refuse_beside(**{"api_key": given["api_key"], **asked, **given})
        asks = AsyncAsks(fallback) if is_async else Asks(fallback)  # type: ignore[arg-type]
        door, timeout, max_retries = asks.door, openai.Timeout(None), 0  # the policy's hold
        transport = transports(door, asks)  # type: ignore[arg-type]
    else:
        door = (AsyncDoor if is_async else Door)(**given)  # type: ignore[arg-type]
        transport = transports(door)  # type: ignore[arg-type]
    return {**_options(door, timeout, max_retries), "http_client": http(transport=transport)}  # type: ignore[arg-type]


def _refuse_beside(**given: object) -> None:
    """Refuse arguments that a fallback has of its own."""
    if found := [name for name, value in given.items() if value is not None]:
        raise ConfigurationError(
            f"{', '.join(found)}: the members of a fallback have their own. Give what is for all of them to "
            "FallbackClient([...], 'cpk_...', ...), and time limits to its policy."
        )


def _options(door: Door, timeout: object, max_retries: int | None) -> dict[str, object]:
    import openai

    return {
        # The transport adds the key to each request, so the SDK never holds it.
        "api_key": MASK,
        "base_url": door.settings.base_url,
        "timeout": openai.Timeout(600.0, connect=10.0) if timeout is None else timeout,
        "max_retries": 2 if max_retries is None else max_retries,
        # The same for secret headers.
        "default_headers": Headers(door.default_headers.ready()).dumped(),
    }


@dataclass(frozen=True, slots=True)
class Question:
    """What is needed to send a request and to check its reply.

    ``chat`` and ``body`` are the model request; both are None on paths passed through unchanged. ``infos`` is what was
    looked up of its model.
    """

    url: str
    content: bytes
    model: str | None = None
    chat: ChatRequest | None = None
    body: Mapping[str, object] | None = None
    infos: Sequence[ModelInfo] = ()

    @property
    def streams(self) -> bool:
        """Whether the request is streaming."""
        return self.chat is not None and self.chat.stream

    @property
    def include_usage(self) -> bool:
        """Whether a separate usage chunk was requested."""
        options = self.chat.body.get("stream_options") if self.chat else None
        return isinstance(options, dict) and bool(options.get("include_usage"))


class Door(ClientBase):
    """Decides where each request goes, with which key, and whether its reply is valid. Does no I/O."""

    @classmethod
    def of(cls, client: ClientBase) -> Self:
        """Return the door with the settings of a client.

        >>> from chutes_core import ChutesClient
        >>> Door.of(ChutesClient("cpk_0123", base_url="https://example.org/v1")).settings.base_url
        'https://example.org/v1'
        """
        made = cls.__new__(cls)
        made.__dict__.update(client.__dict__)
        return made

    @property
    def own_client(self) -> object:
        """The given HTTP client; None uses the shared connection pools."""
        return self._http_client

    @property
    def sealed(self) -> bool:
        """Whether the client that this door is made of encrypts its requests, which a door cannot."""
        return self._sealed is not None

    @property
    def recorder(self) -> Recorder | None:
        """What records its exchanges, if that is asked for."""
        return self._recorder

    @property
    def clock(self) -> Clock:
        """The clock."""
        return self._clock

    @property
    def credential(self) -> Credential:
        """The source of the key."""
        return self._credential

    def question(self, request: httpx.Request) -> Question:
        """Read the request that the SDK is about to send."""
        url, content = str(request.url), request.content
        path = request.url.path
        body = read_json(content) if path.endswith(("/chat/completions", "/embeddings")) else None
        if not isinstance(body, dict):
            return Question(url, content)
        model = body.get("model") if isinstance(body.get("model"), str) else None
        if path.endswith("/embeddings"):
            if not url.startswith(f"{self.settings.base_url}/"):
                return Question(url, content, model, body=body)  # with_options(base_url=...) set the host
            return self._embedding(content, body, model or "")
        asked = body.get("n")
        chat = ChatRequest(
            model=model or "",
            body={"stream": False, **body},
            choices=asked if isinstance(asked, int) else 1,
            allow_empty=bool(body.get("stop") or body.get("stop_token_ids")),
        )
        return Question(url, content, model, chat, body)

    def _embedding(self, content: bytes, body: dict[str, object], model: str) -> Question:
        """Route an embedding to its model's own host, under its name there."""
        info = self.catalog.get(model)
        if info is not None and info.id != model:
            content = json.dumps({**body, "model": info.id}).encode()
        return Question(
            f"{self._embedding_host(info)}/embeddings", content, model, None, body, () if info is None else (info,)
        )

    def record(self, question: Question) -> Record:
        """Return what is told of a request."""
        operation = "chat" if question.chat is not None else "embeddings" if question.body is not None else "request"
        return Record(operation, question.model, question.url, "openai", streamed=question.streams)

    def bill(self, question: Question) -> Bill:
        """Reserve what a request may use.

        Raises:
            BudgetExceededError: The ledger is a budget, and the request does not fit.
        """
        return Bill(
            self._account(question.infos), {**question.body, "model": question.model or ""} if question.body else None
        )

    def outgoing(self, request: httpx.Request, question: Question, secret: Secret) -> WireRequest:
        """Build the request to send: the SDK's, minus the headers meant for OpenAI, plus the key and secret headers."""
        foreign = {*_FOREIGN, *(name for name in _custom_headers() if name not in map(str.lower, self._headers))}
        own = {name.lower(): value for name, value in self._headers.items()}
        sent = {
            name: own.get(name.lower(), value) if value == MASK else value
            for name, value in request.headers.items()
            if name.lower() not in foreign
        }
        given = request.headers.get("authorization", "")
        if MASK not in given:  # with_options(api_key=...) set another, or none
            check_place(question.url, Secret("", places=self._named_in_code(question.url)))
            return WireRequest(question.url, None, {**sent, **_other(given)}, request.method, content=question.content)
        return WireRequest(question.url, None, sent, request.method, secret, content=question.content)

    def _named_in_code(self, url: str) -> set[str]:
        """Return the addresses that were named together with another key: where our settings did not lead it."""
        mine, origin = self.settings, origin_of(url)
        ours = {origin_of(each) for each in (mine.base_url, mine.embedding_base_url, mine.management_url) if each}
        return {*mine.named, *([origin] if origin.startswith("https:") and origin not in ours else [])}

    def stream(self, question: Question, headers: Mapping[str, str]) -> PassThrough:
        """Return the guard for a streamed reply."""
        chat = cast("ChatRequest", question.chat)
        guard = StreamGuard(
            model=chat.model, choices=chat.choices, allow_empty=chat.allow_empty, meta=ReplyMeta.parse(headers)
        )
        return PassThrough(guard, include_usage=question.include_usage)

    def check(
        self, question: Question, headers: Mapping[str, str], content: bytes, bill: Bill
    ) -> tuple[bytes, Reply | None]:
        """Check a non-streamed reply as our own client does, and record what it used.

        Returns:
            The reply as it is passed on, and of a chat what was read of it.

        Raises:
            APIError: The reply is not a complete answer.
        """
        if question.chat is not None:
            policy = CallPolicy(TimeLimits(), 0, self._clock)
            call = WholeCall(WireRequest(question.url), policy, question.chat, ledger=bill.account)
            call.record.quiet = True
            reply = run(call.run(), _Given(headers, content))
            return (_with_text(content) if b'"tool_calls"' in content else content), reply
        if question.body is not None:
            return _checked_vectors(question.body, content, question.model, bill), None
        return content, None

    def failure(self, question: Question, answer: StatusFailure, known: Known) -> APIError:
        """Return what an error status means."""
        error = known.mask(error_from_response(answer.status, answer.content, answer.headers, model=question.model))
        return with_hint(error, self.catalog, "embedding" if question.chat is None else "chat")

    def refusal(self, error: APIError) -> tuple[bytes, dict[str, str]]:
        """Convert a failure to OpenAI's format, with the retry headers that the SDK obeys."""
        said = {"message": str(error), "type": "chutes", "code": error.kind.value, "param": None}
        advice = {"content-type": "application/json", "x-should-retry": str(error.retry is Retry.HERE).lower()}
        if error.retry_after is not None:
            advice["retry-after"] = f"{error.retry_after:.3f}"
        return json.dumps({"error": said}).encode(), advice

    def settled(self, stream: PassThrough, bill: Bill) -> None:
        """Record what a stream used, complete or not, and release its reservation."""
        guard = stream.guard
        if guard.reply.usage is not None or guard.delivered or guard.whole:
            bill.account(guard.reply.model, guard.reply.usage)
        bill.close()


class AsyncDoor(Door):
    """The same for async HTTP clients."""

    _is_async = True


class _Given:
    """A hand whose reply has already arrived."""

    def __init__(self, headers: Mapping[str, str], content: bytes) -> None:
        self._headers = headers
        self._blocks = [content]

    def perform(self, effect: Effect) -> object:
        if isinstance(effect, Open):
            return self._headers
        return None if isinstance(effect, Authorize) or not self._blocks else self._blocks.pop()

    def close(self) -> None:
        """Do nothing: nothing is open."""


def _other(authorization: str) -> dict[str, str]:
    """Return the header of another key, masked where tools show it."""
    return {"Authorization": HiddenText(authorization)} if authorization else {}


def read_json(content: bytes) -> object:
    """Return what a body says; None if it is not JSON."""
    try:
        return loads(content)
    except ValueError:
        return None


def _with_text(content: bytes) -> bytes:
    """Return a reply that was read with the arguments of its calls as text, as the SDK has them."""
    reply = cast("Mapping[str, list[Mapping[str, Mapping[str, object]]]]", loads(content))
    written = False
    for choice in reply["choices"]:
        for call in cast("list[Mapping[str, dict[str, object]]]", choice["message"].get("tool_calls") or []):
            if isinstance(arguments := call["function"].get("arguments"), dict):
                call["function"]["arguments"], written = json.dumps(arguments), True
    return json.dumps(reply).encode() if written else content


def _checked_vectors(asked: Mapping[str, object], content: bytes, model: str | None, bill: Bill) -> bytes:
    """Check the reply to an embeddings request; its rows are put in order, because the SDK's users count on that."""
    reply, dimensions = read_json(content), asked.get("dimensions")
    if reply is None:
        raise malformed("the body is not JSON", model)
    coded = asked.get("encoding_format") == "base64"  # which is what the SDK asks for and decodes
    found = read_embeddings(reply, count_inputs(asked.get("input")), model=model, account=bill.account, coded=coded)
    if isinstance(dimensions, int) and any(len(vector) != dimensions for vector in found.vectors[:1]):
        said = f"{dimensions} dimensions were asked for and {len(found.vectors[0])} came"
        raise malformed(said, model)
    rows = [row for _, row in rows_in_order(reply, None)]
    fields = cast("Mapping[str, object]", reply)
    return content if rows == fields["data"] else json.dumps({**fields, "data": rows}).encode()


def _custom_headers() -> list[str]:
    """Return the headers that an SDK environment variable adds to every request; they are meant for OpenAI."""
    lines = os.environ.get("OPENAI_CUSTOM_HEADERS", "").splitlines()
    return [line.partition(":")[0].strip().lower() for line in lines]
