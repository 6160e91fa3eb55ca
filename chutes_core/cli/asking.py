"""One question, to one model or to several in turn: the deltas as they come, and in the end a whole answer."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from chutes_core import pools
from chutes_core.cli.answers import Answered, Meter, Restart
from chutes_core.fallback import Attempt, Call, FallbackPolicy, Health, Member, Needs, Try
from chutes_core.fallback.drivers import Relay, fallback
from chutes_core.response import Delta, Reply

if TYPE_CHECKING:
    from chutes_core.client import ChutesClient, Stream
    from chutes_core.clock import Clock
    from chutes_core.conversation import Message
    from chutes_core.request import ChatParams
    from chutes_core.settings import TimeLimits

__all__ = ["Question", "needs_of"]

Part = Delta | Restart


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
        self._stream: Stream | None = None
        self._call: Call | None = None
        self._told = 0
        self.meter = Meter(clock.now())

    def __iter__(self) -> Generator[Part, None, None]:
        self._service.ledger.reset()
        # Made before the clock runs: it takes longer than some answers.
        pools.http_package()
        pools.ssl_context()
        self.meter = Meter(self._clock.now())
        parts = self._one(self._models[0]) if len(self._models) == 1 else self._several()
        with closing(parts):
            for part in parts:
                self.meter.take(part, self._clock.now())
                if isinstance(part, Restart):
                    self._tell()  # why, before the reader hears that
                yield part

    @property
    def answered(self) -> Answered:
        """The whole answer, once all parts have come."""
        reply = self._stream.reply if self._stream is not None else Reply(None, None, ())
        attempts = self._call.attempts if self._call is not None else ()
        return Answered(reply, self.meter, self._service.ledger.totals(), tuple(attempts))

    def _one(self, model: str, limits: TimeLimits | None = None) -> Generator[Part, None, None]:
        with self._service.stream(self._messages, model=model, timeout=limits, **self._params) as self._stream:
            yield from self._stream

    def _several(self) -> Generator[Part, None, None]:
        catalog = self._service.catalog
        infos = [(name, catalog.get(name)) for name in self._models]
        members = [Member(info.id if info is not None else name, info=info) for name, info in infos]
        # Where parts are given out as they come, a reader is told when they are void.
        policy = FallbackPolicy(after_commit="restart")
        if self._deadline is not None:
            policy = replace(policy, deadline=self._deadline)
        call = Call(
            members, policy, self._health, needs_of(self._messages, self._params),
            now=self._clock.now, visible=not self._whole,
        )  # fmt: skip
        self._call = call
        relay = Relay[Part](
            call,
            shows=lambda part: isinstance(part, Delta) and bool(part.content or part.reasoning),
            usage=lambda part: part.usage if isinstance(part, Delta) else None,
            marker=lambda step: Restart(step.member.name),
            whole=self._whole,
        )
        try:
            yield from fallback(relay, self._ask, clock=self._clock)
        finally:
            self._tell()

    def _ask(self, step: Try) -> Generator[Part, None, None]:
        self._tell()
        yield from self._one(step.member.name, step.limits)

    def _tell(self) -> None:
        """Tell of the attempts that have failed since the last time."""
        attempts = self._call.attempts if self._call is not None else []
        for attempt in attempts[self._told :]:
            if attempt.outcome in ("failed", "skipped"):
                self._on_failure(attempt)
        self._told = len(attempts)


def needs_of(messages: Sequence[Message], params: Mapping[str, object]) -> Needs:
    """What a question asks of a model; the tokens are an estimate that errs on the low side.

    >>> needs_of([{"role": "user", "content": "word " * 1000}], {"max_tokens": 100}).tokens
    1100
    """
    texts = [message["content"] for message in messages if isinstance(message.get("content"), str)]
    body = {**params, "messages": list(messages)}
    return Needs.of(body, sum(len(str(text)) for text in texts) // 5)
