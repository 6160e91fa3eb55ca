"""What both frameworks must make of the same bytes: a table that knows neither of them.

A scenario is a script for :class:`chutes_core.testing.FaultyTransport`, what is asked, and what must come out,
whole and streamed. Each framework's test translates ``ask`` and ``tools`` into its own objects, makes the call
in the four modes of :data:`MODES`, and compares with ``scenario.expected(mode)``.

What is common to all scenarios: a whole answer leaves ``attempts`` requests at the transport and no open
reply; an error is the core's own type with this ``kind`` (also the framework's, where that has error types),
costs ``attempts`` requests, and in a stream comes after exactly the text of ``.partial``; a stream carries its
usage once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from chutes_core import Kind, TimeLimits
from chutes_core.testing import Answer, Fault

__all__ = ["LIMITS", "MODEL", "MODES", "SCENARIOS", "TOOLS", "Expected", "Scenario", "Turn", "sent"]

MODEL = "acme/one"
MODES = ("sync-whole", "sync-stream", "async-whole", "async-stream")
LIMITS = TimeLimits(connect=5, first_token=20, gap=10, total=120)
"""The time limits of every scenario, on the virtual clock."""

Entry = Answer | Fault | str


@dataclass(frozen=True)
class Turn:
    """One message of the conversation.

    Attributes:
        role: "system", "user", "assistant" or "tool".
        text: What it says.
        image: An image beside the text, as an address or a data: URI.
        tool_calls: Of the assistant: triples of id, name and arguments.
        reasoning: Of the assistant: what it had thought.
        tool_call_id: Of a tool: which call it answers.
    """

    role: str
    text: str = ""
    image: str | None = None
    tool_calls: Sequence[tuple[str, str, Mapping[str, Any]]] = ()
    reasoning: str = ""
    tool_call_id: str | None = None


@dataclass(frozen=True)
class Expected:
    """What must come out.

    Attributes:
        text: The answer; of a stream that breaks, what was delivered before.
        reasoning: What the model thought.
        tool_calls: Pairs of name and arguments, valid ones only.
        invalid_tool_calls: The names of the calls that are not valid.
        usage: Prompt and completion tokens; None when the service did not say.
        finish_reason: Of the answer.
        error: The kind of the failure; None for a whole answer.
        attempts: How many requests it took.
    """

    text: str = ""
    reasoning: str = ""
    tool_calls: Sequence[tuple[str, Mapping[str, Any]]] = ()
    invalid_tool_calls: Sequence[str] = ()
    usage: tuple[int, int] | None = None
    finish_reason: str = "stop"
    error: Kind | None = None
    attempts: int = 1


@dataclass(frozen=True)
class Scenario:
    """A script, a question and its outcome.

    Attributes:
        name: A slug.
        script: What the transport plays.
        whole: What a call in one piece comes to.
        streamed: What a streamed call comes to, where it differs.
        ask: The conversation.
        tools: JSON descriptions of tools in OpenAI's form (``TOOLS``), or none.
        params: Parameters of the call under the names of :class:`chutes_core.ChatParams`.
        model: The model that is asked.
        max_retries: Of the client.
        wire: What the body of the first request must hold, key by key.
    """

    name: str
    script: Sequence[Entry]
    whole: Expected
    streamed: Expected | None = None
    ask: Sequence[Turn] = (Turn("user", "Say hello."),)
    tools: Sequence[Mapping[str, Any]] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    model: str = MODEL
    max_retries: int = 0
    wire: Mapping[str, Any] = field(default_factory=dict)

    def expected(self, mode: str) -> Expected:
        """What holds in one of the modes."""
        return self.streamed or self.whole if mode.endswith("stream") else self.whole


def _function(name: str, description: str, **properties: str) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {key: {"type": kind} for key, kind in properties.items()},
        "required": list(properties),
    }
    return {"type": "function", "function": {"name": name, "description": description, "parameters": schema}}


TOOLS = (
    _function("add", "Add two whole numbers.", a="integer", b="integer"),
    _function("pay", "Pay somebody.", amount="integer", to="string"),
)

TEXT = "The answer is forty-two, of course."
PIECES = 5
ANSWER = Answer(TEXT, pieces=PIECES)
PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR4"
    "2mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def said(answer: Answer = ANSWER, **changes: Any) -> Expected:
    """What a whole answer comes to."""
    return replace(
        Expected(
            text=answer.text,
            reasoning=answer.reasoning,
            tool_calls=tuple((name, dict(arguments)) for name, arguments in answer.tool_calls),
            usage=(answer.prompt_tokens, len(answer.deltas())),
            finish_reason=answer.ending,
        ),
        **changes,
    )


def failed(kind: Kind, text: str = "", **changes: Any) -> Expected:
    """What a failure comes to."""
    return replace(Expected(text=text, error=kind), **changes)


def sent(scenario: Scenario, body: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a request's body that the scenario has an opinion on, to compare with ``scenario.wire``."""
    return {key: body.get(key) for key in scenario.wire}


def _delivered(after: int) -> str:
    """The text of the first deltas of the standard answer."""
    size = -(-len(TEXT) // PIECES)
    return TEXT[: after * size]


def _broken(name: str, kind: Kind, whole: Expected) -> Scenario:
    """A stream that breaks after two deltas, and what the same fault does to a reply in one piece."""
    return Scenario(f"fault-{name}", [Fault(name, after=2, answer=ANSWER)], whole, streamed=failed(kind, _delivered(2)))


def _refused(name: str, kind: Kind) -> Scenario:
    """A fault that comes instead of an answer."""
    return Scenario(f"fault-{name.replace(':', '-')}", [name], failed(kind))


_PAYING = Answer("", tool_calls=[("pay", {"amount": 1000, "to": "alice"})], pieces=4)
_TWO_CALLS = Answer("Two sums.", tool_calls=[("add", {"a": 1, "b": 2}), ("add", {"a": 3, "b": 4})])
_THOUGHT = Answer("Yes.", reasoning="Let me think about that.", pieces=6)
_HISTORY = (
    Turn("system", "Be brief."),
    Turn("user", "What is 1 + 2?"),
    Turn("assistant", "", tool_calls=[("call_7", "add", {"a": 1, "b": 2})]),
    Turn("tool", "3", tool_call_id="call_7"),
)
_HISTORY_WIRE = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "What is 1 + 2?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "call_7", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}}
        ],
    },
    {"role": "tool", "content": "3", "tool_call_id": "call_7"},
]

_ANSWERS = [
    Scenario("text", [ANSWER], said(), wire={"model": MODEL, "messages": [{"role": "user", "content": "Say hello."}]}),
    Scenario(
        "parameters",
        [ANSWER],
        said(),
        params={"temperature": 0.0, "max_tokens": 64, "top_p": 0.9, "seed": 7, "stop": ["END"]},
        wire={"temperature": 0.0, "max_tokens": 64, "top_p": 0.9, "seed": 7, "stop": ["END"], "top_k": None},
    ),
    Scenario("nothing-invented", [ANSWER], said(), wire=dict.fromkeys(["temperature", "max_tokens", "n", "tools"])),
    Scenario("cached-tokens", [replace(ANSWER, cached_tokens=5)], said()),
    *(
        Scenario(f"reasoning-{form}", [answer], said(answer, usage=(11, len(answer.deltas()))))
        for form in ("reasoning_content", "reasoning", "think")
        for answer in [replace(_THOUGHT, reasoning_field=form)]
    ),
    Scenario(
        "thinking-off",
        [ANSWER],
        said(),
        params={"reasoning": False},
        wire={"chat_template_kwargs": {"thinking": False, "enable_thinking": False}},
    ),
    Scenario("tool-call", [_PAYING], said(_PAYING), tools=TOOLS, wire={"tools": list(TOOLS)}),
    Scenario("tool-calls", [_TWO_CALLS], said(_TWO_CALLS), tools=TOOLS),
    Scenario(
        "tool-call-finished-by-stop",
        [replace(_PAYING, finish_reason="stop")],
        said(_PAYING),
        tools=TOOLS,
    ),
    Scenario("tool-result", [ANSWER], said(), ask=_HISTORY, tools=TOOLS, wire={"messages": _HISTORY_WIRE}),
    Scenario(
        "image",
        [ANSWER],
        said(),
        ask=[Turn("user", "What is this?", image=PIXEL)],
        wire={
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "text", "text": "What is this?"},
                        {"type": "image_url", "image_url": {"url": PIXEL}},
                    ],
                }
            ]
        },
    ),
    Scenario(
        "length", [replace(ANSWER, finish_reason="length")], said(finish_reason="length"), params={"max_tokens": 5}
    ),
    Scenario("no-usage", [Fault("no_usage", answer=ANSWER)], said(usage=None)),
    Scenario("no-done", [Fault("no_done", answer=ANSWER)], said()),
    Scenario("slow-drip", [Fault("slow_drip", answer=ANSWER)], said()),
    Scenario("short-stall", [Fault("stall", seconds=5.0, answer=ANSWER)], said()),
    Scenario("reasoning-only", [Fault("reasoning_only", answer=ANSWER)], failed(Kind.EMPTY)),
]

_RETRIES = [
    Scenario("retried-capacity", ["capacity", ANSWER], said(attempts=2), max_retries=2),
    Scenario("retried-exhausted", ["exhausted", "bad_gateway", ANSWER], said(attempts=3), max_retries=2),
    Scenario("retried-refused", ["refused", ANSWER], said(attempts=2), max_retries=2),
    Scenario(
        "retried-error-line",
        [Fault("error_line", answer=ANSWER), ANSWER],
        said(attempts=2),
        streamed=failed(Kind.STREAM_ERROR, _delivered(2)),
        max_retries=2,
    ),
    Scenario("not-retried-auth", ["auth", ANSWER], failed(Kind.AUTHENTICATION), max_retries=2),
    Scenario("not-retried-cold", ["cold", ANSWER], failed(Kind.COLD), max_retries=2),
    Scenario("not-retried-overflow", ["overflow", ANSWER], failed(Kind.CONTEXT_LENGTH), max_retries=2),
]

_FAULTS = [
    _refused("capacity", Kind.CAPACITY),
    _refused("retry_after:300", Kind.CAPACITY),
    _refused("retry_after:date", Kind.CAPACITY),
    _refused("retry_after:garbage", Kind.CAPACITY),
    _refused("account_limit", Kind.ACCOUNT_LIMIT),
    _refused("keyless", Kind.EDGE_LIMIT),
    _refused("cold", Kind.COLD),
    _refused("disabled", Kind.DISABLED),
    _refused("exhausted", Kind.EXHAUSTED),
    _refused("bad_gateway", Kind.BAD_GATEWAY),
    _refused("gateway_timeout", Kind.GATEWAY_TIMEOUT),
    _refused("quota", Kind.PAYMENT),
    _refused("tee_balance", Kind.TEE_PAYMENT),
    _refused("owner_balance", Kind.OWNER_PAYMENT),
    _refused("auth", Kind.AUTHENTICATION),
    _refused("not_found", Kind.MODEL_NOT_FOUND),
    _refused("overflow", Kind.CONTEXT_LENGTH),
    _refused("bad_request", Kind.BAD_REQUEST),
    _refused("refused", Kind.CONNECT),
    Scenario("fault-hang", ["hang"], failed(Kind.TOTAL_TIMEOUT), streamed=failed(Kind.FIRST_TOKEN_TIMEOUT)),
    Scenario(
        "fault-hang_after_headers",
        ["hang_after_headers"],
        failed(Kind.TOTAL_TIMEOUT),
        streamed=failed(Kind.FIRST_TOKEN_TIMEOUT),
    ),
    Scenario("fault-empty", ["empty"], failed(Kind.MALFORMED), streamed=failed(Kind.EMPTY)),
    Scenario("fault-role_only", ["role_only"], failed(Kind.EMPTY)),
    _broken("stall", Kind.STALL, failed(Kind.TOTAL_TIMEOUT)),
    _broken("reset", Kind.RESET, failed(Kind.RESET)),
    _broken("no_finish", Kind.TRUNCATED, failed(Kind.TRUNCATED)),
    _broken("error_line", Kind.STREAM_ERROR, failed(Kind.EXHAUSTED)),
    _broken("error_event", Kind.STREAM_ERROR, failed(Kind.UPSTREAM)),
    _broken("restart", Kind.RESTARTED, failed(Kind.RESET)),
    _broken("malformed", Kind.MALFORMED, failed(Kind.MALFORMED)),
    _broken("done_only", Kind.TRUNCATED, failed(Kind.TRUNCATED)),
    Scenario(
        "fault-restart-in-a-tool-call",
        [Fault("restart", after=2, answer=_PAYING)],
        failed(Kind.RESET),
        streamed=failed(Kind.RESTARTED),
        tools=TOOLS,
    ),
    Scenario(
        "fault-cut-tool-call",
        [Fault("no_finish", after=3, answer=_PAYING)],
        failed(Kind.TRUNCATED),
        streamed=failed(Kind.TRUNCATED),
        tools=TOOLS,
    ),
]

SCENARIOS: tuple[Scenario, ...] = (*_ANSWERS, *_RETRIES, *_FAULTS)
