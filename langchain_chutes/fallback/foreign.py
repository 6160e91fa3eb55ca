"""Models that a fallback asks through LangChain: how they are asked, and how their chunks are read.

Those of other providers get tools and schemas through their own ``bind_tools`` and ``with_structured_output``.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import aclosing, closing
from dataclasses import dataclass
from typing import Any, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.outputs.chat_generation import merge_chat_generation_chunks
from langchain_core.runnables import Runnable, RunnableConfig, RunnableSequence

from chutes_core.errors import Kind
from chutes_core.failures.reading import failure
from chutes_core.fallback import carried
from chutes_core.fallback.carried import Carried, CarriedReply, check_whole
from chutes_core.request.tools import Toolbox
from chutes_core.response import Choice, Reply, ToolCallDelta
from chutes_core.usage import Usage
from langchain_chutes._convert.replies import usage_in
from langchain_chutes._convert.spoiling import spoiled
from langchain_chutes._structured.forms import Form
from langchain_chutes._structured.schemas import titled
from langchain_chutes.chat_models import ChatChutes
from langchain_chutes.fallback.tracing import Runs

__all__ = ["Question"]

# Options that only the gateway understands.
_OURS = frozenset(
    {"min_p", "repetition_penalty", "length_penalty", "chat_template_kwargs", "structured_outputs"}
    | {"on_length", "trace", "extra_headers", "extra_query"}
    | {"guided_json", "guided_choice", "guided_grammar"}
)
# Where these providers report that an answer is complete; others may not.
_ENDINGS = {
    **dict.fromkeys(
        ("openai", "openrouter", "deepseek", "groq", "fireworks", "xai", "together"),
        ("finish_reason", "status"),
    ),
    "anthropic": ("stop_reason",),
}
_CUT = ("length", "max_tokens", "MAX_TOKENS")
"""How providers say that an answer reached its limit."""
_WHOLE = ("content", "additional_kwargs", "response_metadata", "tool_calls", "usage_metadata", "id")


@dataclass(frozen=True, slots=True)
class Question(carried.Question[ChatGenerationChunk]):
    """A request to a model through LangChain."""

    model: BaseChatModel
    options: dict[str, Any]
    form: Form | None  # to ask for
    messages: Sequence[BaseMessage]
    stop: list[str] | None
    check: Form | None  # to check the answer against
    whole: bool  # whether the answer is wanted in one piece
    runs: Runs | None
    config: RunnableConfig | None

    @property
    def blocks(self) -> bool:
        """Whether the model has only blocking calls, which LangChain would run in the event loop's executor."""
        cls = type(self.model)
        return cls._astream is BaseChatModel._astream and cls._agenerate is BaseChatModel._agenerate

    def fetch(self) -> Generator[ChatGenerationChunk, None, None]:
        """Ask the model, and yield its chunks."""
        given = self._stream("stream")
        with closing(given if self.runs is None else self.runs.unseen(given)) as messages:
            yield from map(as_chunk, messages)

    async def afetch(self) -> AsyncGenerator[ChatGenerationChunk, None]:
        """Async version of :meth:`fetch`."""
        given = self._stream("astream")
        async with aclosing(given if self.runs is None else self.runs.aunseen(given)) as messages:
            async for message in messages:
                yield as_chunk(message)

    def _stream(self, method: str) -> Any:
        model, options = self._bound()
        return getattr(model, method)(list(self.messages), self.config, stop=self.stop, **options)

    def _bound(self) -> tuple[Runnable[Any, Any], dict[str, Any]]:
        if isinstance(self.model, ChatChutes):
            return self.model, self.options
        try:
            return bind_foreign(self.model, self.options, self.form)
        except (NotImplementedError, TypeError, ValueError) as problem:
            raise failure(Kind.UNSUPPORTED, str(problem), model=self.name) from problem

    def reading(self) -> _Reading:
        """Return what reads the chunks."""
        return _Reading(self)


def bind_foreign(
    model: BaseChatModel, options: dict[str, Any], form: Form | None
) -> tuple[Runnable[Any, Any], dict[str, Any]]:
    """Bind tools or structured output to a model in its own way; return it with the remaining call options."""
    options = {name: value for name, value in options.items() if name not in _OURS}
    if isinstance(options.get("reasoning"), bool | str):
        del options["reasoning"]
    if form is not None:
        schema = cast("type", form.schema and titled(form.schema))
        asked = model.with_structured_output(schema, **_set(method=form.method, strict=form.strict))
        return asked.first if isinstance(asked, RunnableSequence) else asked, options  # without its parser
    tools, choice = options.pop("tools", None), options.pop("tool_choice", None)
    if not tools:
        return model, options
    parameters = inspect.signature(model.bind_tools).parameters
    raw, told = (tools.tools, tools.options) if isinstance(tools, Toolbox) else (tools, {})
    wishes = _set(strict=told.get("strict"), parallel_tool_calls=options.pop("parallel_tool_calls", None))
    wishes = {name: wish for name, wish in wishes.items() if name in parameters}
    if choice is not None and choice is not False:
        wishes["tool_choice"] = _name(choice)
    return model.bind_tools(cast("list[dict[str, Any]]", list(raw)), **wishes), options


def _set(**wishes: Any) -> dict[str, Any]:
    """Return the wishes that there are."""
    return {name: wish for name, wish in wishes.items() if wish is not None}


def _name(choice: object) -> object:
    """Return a tool choice in the form that every provider accepts."""
    if isinstance(choice, Mapping):
        function = choice.get("function")
        return function.get("name", choice) if isinstance(function, Mapping) else dict(choice)
    return "any" if choice in (True, "required") else choice


def as_chunk(message: BaseMessage) -> ChatGenerationChunk:
    """Convert a message from a member's run to a chunk of the fallback's."""
    if not isinstance(message, AIMessageChunk):
        assert isinstance(message, AIMessage)
        # A model that does not stream returns its answer in one piece; adding up chunks makes no invalid call valid.
        told: dict[str, Any] = {name: getattr(message, name) for name in _WHOLE}
        told["invalid_tool_calls"] = [
            {**call, "args": spoiled(call["args"] or "")} for call in message.invalid_tool_calls
        ]
        message = AIMessageChunk(**told, chunk_position="last")
    if message.id is not None and message.id.startswith("lc_"):
        message.id = None  # it names the attempt's run, but the answer belongs to the fallback's
    return ChatGenerationChunk(message=message)


class _Reading:
    """Reads the chunks of one answer, and ends it as a Chutes model would.

    The model name and other metadata come only with the last chunk, because LangChain concatenates names and lists
    across chunks.
    """

    def __init__(self, question: Question) -> None:
        self._question = question
        self._seen: list[ChatGenerationChunk] = []
        self._told: dict[str, Any] = {}
        self._last: dict[str, Any] = {}
        self._calls: dict[object, list[str]] = {}
        self._usage: Usage | None = None

    def shows(self, chunk: ChatGenerationChunk) -> bool:
        """Return whether a chunk shows any of the answer."""
        message = cast("AIMessageChunk", chunk.message)
        return bool(message.content or message.tool_call_chunks or message.additional_kwargs.get("reasoning_content"))

    def take(self, chunk: ChatGenerationChunk) -> Carried:
        """Take a chunk and return what it says, with the rest held back for the end."""
        message = cast("AIMessageChunk", chunk.message)
        self._usage = usage_in(message.usage_metadata or {}) or self._usage
        pieces = []
        for number, piece in enumerate(message.tool_call_chunks):
            index, arguments = piece.get("index"), piece.get("args") or ""
            key = ("last", number) if index is None else index
            self._calls.setdefault(key, []).append(arguments)
            place = index if isinstance(index, int) else number
            pieces.append(ToolCallDelta(place, piece.get("id"), piece.get("name"), arguments))
        told = message.response_metadata
        self._told.update(told)
        last = message.chunk_position == "last"
        if "model_name" in told or last:
            if last:
                self._last = told
            kept = {} if last else {name: value for name, value in told.items() if name != "model_name"}
            # The model's own run adds up these same objects, so do not change them.
            update = {"response_metadata": kept, "chunk_position": None}
            chunk = ChatGenerationChunk(message=message.model_copy(update=update))
        self._seen.append(chunk)
        thought = message.additional_kwargs.get("reasoning_content")
        return Carried(
            str(message.text), thought if isinstance(thought, str) else "", pieces, usage=self._usage, origin=chunk,
            shown=bool(message.content),
        )  # fmt: skip

    def end(self) -> CarriedReply:
        """Return the whole answer, or raise if it is not whole."""
        endings = _ENDINGS.get(str(self._told.get("model_provider")))
        ended = None if endings is None else any(self._told.get(name) for name in endings)
        said = any(map(self.shows, self._seen))
        cut = any(self._told.get(name) in _CUT for name in ("finish_reason", "stop_reason"))
        check_whole(
            self._question.name,
            said=said,
            ended=ended,
            calls=("".join(each) for each in self._calls.values()),
            refused=cut and self._question.options.get("on_length") == "raise",
        )
        name = self._told.get("model_name")
        told = {**self._last, "model_name": name} if name else self._last
        last = ChatGenerationChunk(message=AIMessageChunk(content="", response_metadata=told, chunk_position="last"))
        whole = None
        if self._question.whole or self._question.check is not None:
            whole = merge_chat_generation_chunks([*self._seen, last])
        if self._question.check is not None:
            self._question.check.check(cast("ChatGenerationChunk", whole), self._question.name)
        reply = self.arrived()
        model = name if isinstance(name, str) else None
        origin = whole if self._question.whole else last
        return CarriedReply(None, model, reply.choices, reply.usage, origin=origin)

    def arrived(self) -> Reply:
        """Return what has arrived."""
        if not self._seen:
            return Reply(None, None, ())
        text = "".join(str(chunk.message.text) for chunk in self._seen)
        thought = "".join(str(chunk.message.additional_kwargs.get("reasoning_content") or "") for chunk in self._seen)
        ending = self._told.get("finish_reason")
        choice = Choice(0, text, thought, (), (), ending if isinstance(ending, str) else None)
        return Reply(None, self._question.name, (choice,), self._usage)
