"""A third framework's face: the table of the other two, a fallback, and what docs/architecture.md shows of it."""

from __future__ import annotations

import ast
import asyncio
import re
from collections.abc import Mapping, Sequence
from contextlib import aclosing, closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from chutes_core import (
    APIError,
    AsyncChutesClient,
    AsyncFallbackClient,
    Catalog,
    ChutesClient,
    FallbackClient,
    FallbackError,
    Kind,
    RequestRefusedError,
)
from chutes_core.testing import Answer as Scripted
from chutes_core.testing import Fault, FaultScript, FaultyTransport, VirtualClock

from . import third_face
from .scenarios import LIMITS, MODES, SCENARIOS, TOOLS, Scenario, sent
from .scenarios import Turn as TableTurn
from .third_face import AsyncThirdModel, ThirdModel
from .third_framework import (
    Answer,
    AsyncModel,
    Call,
    Model,
    ModelFailed,
    Part,
    Picture,
    Piece,
    Result,
    Text,
    Thought,
    Tool,
    Turn,
    Void,
)

ARCHITECTURE = Path(__file__).resolve().parents[2] / "docs" / "architecture.md"
MODE = pytest.mark.parametrize("mode", MODES)
TWO = ["acme/one", "acme/two"]
WHOLE = Scripted("The answer is forty-two.", pieces=4)
ASK = (Turn("user", [Text("Say hello.")]),)


class Rig:
    """The framework's models, blocking and async, before a scripted service."""

    def __init__(self, script: Sequence[Any], *, model: str | None = None, **options: Any) -> None:
        clock = VirtualClock()
        self.transport = FaultyTransport(FaultScript(script, default=WHOLE), clock=clock)
        given = {"catalog": Catalog.bundled(), "clock": clock, "timeout": LIMITS, **options}
        if model:
            one = ChutesClient("cpk_test", http_client=httpx.Client(transport=self.transport), **given)
            other = AsyncChutesClient("cpk_test", http_client=httpx.AsyncClient(transport=self.transport), **given)
            self.model: Model = ThirdModel(one, model)
            self.async_model: AsyncModel = AsyncThirdModel(other, model)
        else:
            http = httpx.Client(transport=self.transport), httpx.AsyncClient(transport=self.transport)
            self.model = ThirdModel(FallbackClient(TWO, "cpk_test", http_client=http[0], **given))
            self.async_model = AsyncThirdModel(AsyncFallbackClient(TWO, "cpk_test", http_client=http[1], **given))

    def ask(self, mode: str, turns: Sequence[Turn] = ASK, tools: Sequence[Tool] = (), **settings: Any) -> Outcome:
        """Ask in one of the four modes."""
        pieces: list[Piece] = []

        async def waiting() -> None:
            if mode == "async-whole":
                pieces.append(await self.async_model.answer(turns, tools, **settings))
            else:
                async for piece in self.async_model.pieces(turns, tools, **settings):
                    pieces.append(piece)

        try:
            if mode.startswith("async"):
                asyncio.run(waiting())
            elif mode == "sync-whole":
                pieces.append(self.model.answer(turns, tools, **settings))
            else:
                pieces.extend(self.model.pieces(turns, tools, **settings))
        except ModelFailed as error:
            return Outcome(pieces, error)
        return Outcome(pieces)


class Outcome:
    """What came: pieces, the last of them the answer, or an error after them."""

    def __init__(self, pieces: Sequence[Piece], error: ModelFailed | None = None) -> None:
        self.pieces = pieces
        self.error = error

    @property
    def answer(self) -> Answer:
        assert self.error is None, self.error
        last = self.pieces[-1]
        assert isinstance(last, Answer)
        return last

    @property
    def streamed(self) -> str:
        return _said(self.pieces, Text)


def _said(parts: Sequence[Any], kind: type[Text] | type[Thought]) -> str:
    return "".join(part.text for part in parts if isinstance(part, kind))


def turn(told: TableTurn) -> Turn:
    """A turn of the table in the framework's form."""
    if told.tool_call_id:
        return Turn("user", [Result(told.tool_call_id, told.text)])
    parts: list[Part] = [Thought(told.reasoning)] if told.reasoning else []
    parts += [Text(told.text)] if told.text else []
    parts += [Picture(told.image)] if told.image else []
    parts += [Call(*call) for call in told.tool_calls]
    return Turn("model" if told.role == "assistant" else "system" if told.role == "system" else "user", parts)


def tool(told: Mapping[str, Any]) -> Tool:
    """A tool of the table in the framework's form."""
    function = told["function"]
    return Tool(function["name"], function["description"], function["parameters"])


@MODE
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_a_scenario(scenario: Scenario, mode: str) -> None:
    """The same text, reasoning, tool calls, usage and error kinds as the table says."""
    expected = scenario.expected(mode)
    rig = Rig(scenario.script, model=scenario.model, max_retries=scenario.max_retries)
    turns, tools = [turn(told) for told in scenario.ask], [tool(told) for told in scenario.tools]
    outcome = rig.ask(mode, turns, tools, **scenario.params)
    assert len(rig.transport.requests) == expected.attempts
    assert rig.transport.open_replies == 0
    assert sent(scenario, rig.transport.requests[0].body) == scenario.wire
    if expected.error is not None:
        assert outcome.error is not None
        assert isinstance(outcome.error.__cause__, APIError)
        assert outcome.error.__cause__.kind is expected.error
        if mode.endswith("stream"):
            assert outcome.streamed == outcome.error.so_far == expected.text
        return
    answer = outcome.answer
    assert _said(answer.turn.parts, Text) == expected.text
    assert _said(answer.turn.parts, Thought) == expected.reasoning
    calls = [(part.tool, part.arguments) for part in answer.turn.parts if isinstance(part, Call)]
    assert calls == [(name, dict(arguments)) for name, arguments in expected.tool_calls]
    assert [each.partition(":")[0] for each in answer.unusable] == list(expected.invalid_tool_calls)
    assert (answer.tokens, answer.ended) == (expected.usage, expected.finish_reason)
    if mode.endswith("stream"):
        assert outcome.streamed == expected.text
        assert _said(outcome.pieces, Thought) == expected.reasoning


@MODE
@pytest.mark.parametrize("fault", ["capacity", Fault("reset", after=0), Fault("no_finish", after=0), "cold"])
def test_the_next_model_takes_over(fault: Any, mode: str) -> None:
    """The first model fails, and nobody notices: not a word of it, and the answer says whose it is."""
    rig = Rig([fault])
    outcome = rig.ask(mode)
    assert outcome.answer.model == "acme/two"
    assert _said(outcome.answer.turn.parts, Text) == WHOLE.text
    assert [request.model for request in rig.transport.requests] == TWO
    if mode.endswith("stream"):
        assert outcome.streamed == WHOLE.text


@pytest.mark.parametrize("mode", ["sync-stream", "async-stream"])
def test_a_model_that_fails_in_mid_sentence(mode: str) -> None:
    """Its words are void if the policy allows a restart, and otherwise the framework's error says what came."""
    fault = Fault("reset", after=2)
    pieces = list(Rig([fault], policy={"after_commit": "restart"}).ask(mode).pieces)
    void = pieces.index(Void())
    assert 0 < len(_said(pieces[:void], Text)) < len(WHOLE.text)
    assert _said(pieces[void:], Text) == WHOLE.text
    outcome = Rig([fault]).ask(mode)
    assert outcome.error is not None
    assert outcome.error.so_far == outcome.streamed != ""


@MODE
def test_a_tool_call_that_was_cut(mode: str) -> None:
    """It is never seen: the next model's comes, and it is whole."""
    paying = Scripted("", tool_calls=[("pay", {"amount": 1000, "to": "alice"})], pieces=4)
    policy = {"after_commit": "restart"}
    outcome = Rig([Fault("no_finish", after=3, answer=paying), paying], policy=policy).ask(mode, tools=[tool(TOOLS[0])])
    assert outcome.answer.turn.parts == [Call("call_0", "pay", {"amount": 1000, "to": "alice"})]


@MODE
def test_when_all_fail(mode: str) -> None:
    """One error of the framework, whose cause lists the attempts."""
    outcome = Rig(["capacity", "cold"], policy={"max_attempts": 2}).ask(mode)
    assert outcome.error is not None
    assert isinstance(outcome.error.__cause__, FallbackError)
    assert [each.kind for each in outcome.error.__cause__.attempts] == [Kind.CAPACITY, Kind.COLD]


@MODE
def test_what_may_help(mode: str) -> None:
    """Whether to ask again is the core's word; what is refused here is the framework's error too."""
    busy, wrong = Rig(["capacity"], model="acme/one", max_retries=0).ask(mode), Rig([], model="acme/one").ask(mode, [])
    assert busy.error is not None
    assert busy.error.again
    assert wrong.error is not None
    assert not wrong.error.again
    assert isinstance(wrong.error.__cause__, RequestRefusedError)


def test_a_stream_that_is_left() -> None:
    """Closing the framework's stream closes the core's."""
    rig = Rig([])
    with closing(rig.model.pieces(ASK)) as pieces:  # type: ignore[type-var]
        next(pieces)
        assert rig.transport.open_replies == 1
    assert rig.transport.open_replies == 0


async def test_a_stream_that_is_left_async() -> None:
    """The same on an event loop."""
    rig = Rig([])
    async with aclosing(rig.async_model.pieces(ASK)) as pieces:  # type: ignore[type-var]
        await anext(pieces)
        assert rig.transport.open_replies == 1
    assert rig.transport.open_replies == 0


def test_the_page_shows_what_runs() -> None:
    """Each block of docs/architecture.md is a part of the face, as it stands; and the face stays small."""
    page, code = ARCHITECTURE.read_text("utf-8"), Path(third_face.__file__).read_text("utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert blocks
    whole = ast.unparse(ast.parse(code))  # the page has shorter lines
    assert all(ast.unparse(ast.parse(block)) in whole for block in blocks)
    assert len(code.splitlines()) < 150
