"""One question, to one model or to several in turn: the deltas as they come, and in the end a whole answer."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, cast

from chutes_cli.answers import Answered, Meter
from chutes_core.fallback import Attempt, FallbackPolicy, Health
from chutes_core.fallback.client import FallbackClient
from chutes_core.fallback.stream import FallbackReply
from chutes_core.response import Delta, Reply
from chutes_core.wire import pools

if TYPE_CHECKING:
    from chutes_core.calls.clock import Clock
    from chutes_core.client import ChutesClient
    from chutes_core.request.chat import ChatParams
    from chutes_core.request.messages import Message

__all__ = ["Question"]


class Question:
    """One question and its answer: iterate over the parts, then read :attr:`answered`.

    Args:
        service: The client.
        models: Who may answer; of several, the next takes over when one fails.
        messages: The conversation.
        params: The parameters of the call.
        clock: The clock.
        health: What is known of the members; shared by the questions of a conversation.
        deadline: Seconds for all of it, where there are several models.
        whole: Give nothing out before an answer is whole, where there are several.
        on_failure: Is told of every member that failed or was left out.
    """

    def __init__(
        self,
        service: ChutesClient,
        models: Sequence[str],
        messages: Sequence[Message],
        params: Mapping[str, object],
        *,
        clock: Clock,
        health: Health | None = None,
        deadline: float | None = None,
        whole: bool = False,
        on_failure: Callable[[Attempt], object] = lambda attempt: None,
    ) -> None:
        self._service = service
        self._models = models
        self._messages = messages
        self._params = cast("ChatParams", dict(params))
        self._clock = clock
        self._health = health or Health(now=clock.now)
        self._deadline = deadline
        self._whole = whole
        self._on_failure = on_failure
        self._reply = Reply(None, None, ())
        self.meter = Meter(clock.now())

    def __iter__(self) -> Generator[Delta, None, None]:
        self._service.ledger.reset()
        # Made before the clock runs: it takes longer than some answers.
        pools.http_package()
        pools.ssl_context()
        self.meter = Meter(self._clock.now())
        parts = self._one() if len(self._models) == 1 else self._several()
        with closing(parts):
            for part in parts:
                self.meter.take(part, self._clock.now())
                yield part

    @property
    def answered(self) -> Answered:
        """The whole answer, once all parts have come."""
        attempts = self._reply.attempts if isinstance(self._reply, FallbackReply) else ()
        return Answered(self._reply, self.meter, self._service.ledger.totals(), attempts)

    def _one(self) -> Generator[Delta, None, None]:
        with self._service.stream(self._messages, model=self._models[0], **self._params) as stream:
            yield from stream
        self._reply = stream.reply

    def _several(self) -> Generator[Delta, None, None]:
        # Where parts are given out as they come, a reader is told when they are void.
        policy = FallbackPolicy(after_commit="restart", deadline=self._deadline or FallbackPolicy().deadline)
        found = ((name, self._service.catalog.get(name)) for name in self._models)
        names = [info.id if info is not None else name for name, info in found]
        with FallbackClient.over(
            self._service, names, policy=policy, health=self._health, on_attempt=self._tell, clock=self._clock
        ) as client:
            if self._whole:
                self._reply = reply = client.chat(self._messages, **self._params)
                yield Delta(reply.content, reply.reasoning)
                return
            with client.stream(self._messages, **self._params) as stream:
                yield from stream
            self._reply = stream.reply

    def _tell(self, attempt: Attempt) -> None:
        if attempt.outcome in ("failed", "skipped"):
            self._on_failure(attempt)
