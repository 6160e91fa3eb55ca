"""Read recorded exchanges, and find out what the readers of this package make of them; nothing is sent."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from chutes_core.calls.clock import SystemClock
from chutes_core.calls.effects import (
    Arrived,
    Effect,
    Flow,
    Open,
    Read,
    StatusFailure,
    WireFailure,
    WireRequest,
    run,
)
from chutes_core.calls.embeddings import Embeddings, read_embeddings
from chutes_core.calls.flows import CallPolicy, JsonCall, StreamCall, WholeCall
from chutes_core.catalog.catalog import Catalog
from chutes_core.catalog.names import model_infos
from chutes_core.door import loads
from chutes_core.errors import APIError, ConfigurationError
from chutes_core.request.chat import ChatRequest, starts_thinking
from chutes_core.response import Reply
from chutes_core.settings import TimeLimits

__all__ = ["Exchange", "made_of", "read_exchanges"]


@dataclass(frozen=True)
class Exchange:
    """One recorded exchange.

    Attributes:
        facts: What the line says of it.
    """

    facts: Mapping[str, object]

    @property
    def reader(self) -> str | None:
        """What reads such a reply: ``"chat"``, ``"stream"`` or ``"embed"``; None if it is of another kind."""
        return cast("str | None", self.facts.get("reader"))

    @property
    def send(self) -> Mapping[str, object]:
        """The request."""
        return cast("Mapping[str, object]", self.facts["send"])

    @property
    def body(self) -> Mapping[str, object]:
        """The body of the request, if it is an object."""
        body = self.send.get("body")
        return body if isinstance(body, dict) else {}

    @property
    def status(self) -> int | None:
        """The status of the reply; None if none came."""
        return cast("int | None", self.facts.get("status"))

    @property
    def end(self) -> str:
        """How the reply ended: ``"whole"``, ``"left"`` by the program, or why no more came."""
        return str(self.facts.get("end", "whole"))

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers of the reply."""
        return cast("Mapping[str, str]", self.facts.get("headers", {}))

    @property
    def sealed(self) -> bool:
        """Whether it was encrypted end to end: then no word of it is in the recording."""
        return "sealed" in self.facts

    @property
    def blocks(self) -> list[bytes]:
        """The body of the reply, in the blocks in which it came."""
        blocks = cast("Sequence[str | Mapping[str, str]]", self.facts.get("blocks", ()))
        return [block.encode() if isinstance(block, str) else base64.b64decode(block["base64"]) for block in blocks]


def read_exchanges(path: str | Path) -> list[Exchange]:
    """Read a file of exchanges.

    Raises:
        ConfigurationError: It is none.
    """
    found = []
    for number, line in enumerate(Path(path).read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            facts = loads(line)
        except ValueError:
            facts = None
        exchange = Exchange(facts) if isinstance(facts, dict) else None
        if exchange is None or not _is_one(exchange):
            raise ConfigurationError(f"{path}: line {number} is no recorded exchange.")
        found.append(exchange)
    return found


def _is_one(exchange: Exchange) -> bool:
    try:
        _ = exchange.blocks
        texts = (*exchange.headers.keys(), *exchange.headers.values(), exchange.reader or "")
        plain = all(isinstance(each, str) for each in texts) and isinstance(exchange.status, int | None)
        return plain and isinstance(exchange.send, dict) and {"method", "path"} <= set(exchange.send)
    except (KeyError, TypeError, ValueError, AttributeError):
        return False


def made_of(exchange: Exchange) -> dict[str, object]:
    """Return what the readers make of the reply: an answer, vectors, a value, or an error with what follows from it.

    >>> send = {"method": "POST", "path": "/v1/chat/completions", "body": {"model": "acme/one"}}
    >>> made_of(Exchange({"send": send, "status": 401, "blocks": ["{}"], "reader": "chat"}))
    {'error': 'authentication', 'scope': 'account', 'retry': 'elsewhere'}
    """
    try:
        return run(_reading(exchange), _Player(exchange))
    except APIError as error:
        partial = {"partial": error.partial} if error.partial else {}
        return {"error": error.kind.value, "scope": error.scope.value, "retry": error.retry.value, **partial}


def _reading(exchange: Exchange) -> Flow[dict[str, object]]:
    body, model, reader = exchange.body, str(exchange.body.get("model", "")), exchange.reader
    request = WireRequest(str(exchange.send["path"]), body, method=str(exchange.send["method"]))
    policy = CallPolicy(TimeLimits(), 0, SystemClock())
    if reader not in ("chat", "stream"):
        asked = JsonCall(request, policy, model=model or None)
        asked.record.quiet = True
        value = yield from asked.run()
        if reader is None:
            return {"value": value}
        texts = body.get("input")
        return _vectors(read_embeddings(value, len(texts) if isinstance(texts, list) else 1, model=model))
    choices, infos = body.get("n"), model_infos(Catalog.bundled(), model)
    chat = ChatRequest(
        model,
        dict(body),
        choices=choices if isinstance(choices, int) else 1,
        starts_thinking=starts_thinking(body, infos),
    )
    call = StreamCall(request, policy, chat) if reader == "stream" else WholeCall(request, policy, chat)
    call.record.quiet = True
    return _answer((yield from call.run()))


def _answer(reply: Reply) -> dict[str, object]:
    usage, meta = reply.usage, reply.meta
    calls = [[call.name, call.args] for call in reply.tool_calls]
    invalid = [[call.name, call.error] for call in reply.invalid_tool_calls]
    return {
        "text": reply.content,
        **({"reasoning": reply.reasoning} if reply.reasoning else {}),
        **({"calls": calls} if calls else {}),
        **({"invalid": invalid} if invalid else {}),
        "finish": reply.finish_reason,
        "usage": None if usage is None else [usage.prompt_tokens, usage.completion_tokens, usage.total_tokens],
        "model": reply.model,
        **(
            {"quota": [meta.quota_total, meta.quota_used, meta.quota_remaining]} if meta.quota_total is not None else {}
        ),
    }


def _vectors(made: Embeddings) -> dict[str, object]:
    usage = made.usage
    return {
        "count": len(made.vectors),
        "width": len(made.vectors[0]),
        "begins": [[round(number, 4) for number in vector[:4]] for vector in made.vectors],
        **({} if usage is None else {"usage": [usage.prompt_tokens, usage.completion_tokens, usage.total_tokens]}),
    }


class _Player:
    """A hand whose service is a recording."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._blocks = iter(exchange.blocks)

    def perform(self, effect: Effect) -> object:
        """Perform one effect of a flow."""
        exchange = self._exchange
        if isinstance(effect, Open):
            if exchange.status is None:
                raise WireFailure("connect" if exchange.end not in ("timeout", "connect_timeout") else "timeout", _SAID)
            if exchange.status >= 300:
                raise StatusFailure(exchange.status, exchange.headers, b"".join(self._blocks))
            return Arrived(exchange.headers, exchange.status, ())
        if isinstance(effect, Read):
            block = next(self._blocks, None)
            if block is None and exchange.end != "whole":
                raise WireFailure("broken", _SAID)
            return block
        return None

    def close(self) -> None:
        """Nothing is held."""


_SAID = "as it was recorded"
