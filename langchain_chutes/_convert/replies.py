"""Convert replies and stream deltas to LangChain results and chunks. Pure.

Messages and text chunks skip validation, which would cost more than everything else together; their contents are
known to be valid, and a test compares them with validated ones. Usage, metadata and ``chunk_position="last"`` come
only on the last chunk of a complete answer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import invalid_tool_call, tool_call_chunk
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from pydantic import BaseModel

from chutes_core.reply.body import meta_body, token_counts
from chutes_core.reply.call_pieces import CallPiece, CallPieces
from langchain_chutes._convert.spoiling import spoiled

if TYPE_CHECKING:
    from chutes_core.response import Choice, Delta, Reply
    from chutes_core.usage import Usage

__all__ = ["PROVIDER", "ChunkMaker", "chat_result", "response_metadata", "summed_usage", "usage_in", "usage_metadata"]

PROVIDER = "chutes"
M = TypeVar("M", bound=BaseModel)

# A fingerprint of the prompt, which must not be sent to tracing services.
# What LangChain itself keeps there is not for a server to set.
_PRIVATE = frozenset({"prompt_sha256", "output_version"})


def usage_metadata(usage: Usage | None) -> UsageMetadata | None:
    """Convert token counts; what the service did not report is left out.

    >>> from chutes_core import Usage
    >>> usage_metadata(Usage(9, 5, 14, cached_tokens=4))
    {'input_tokens': 9, 'output_tokens': 5, 'total_tokens': 14, 'input_token_details': {'cache_read': 4}}
    """
    if usage is None:
        return None
    made = UsageMetadata(
        input_tokens=usage.prompt_tokens, output_tokens=usage.completion_tokens, total_tokens=usage.total_tokens
    )
    if usage.cached_tokens is not None:
        made["input_token_details"] = {"cache_read": usage.cached_tokens}
    if usage.reasoning_tokens is not None:
        made["output_token_details"] = {"reasoning": usage.reasoning_tokens}
    return made


def usage_in(raw: Mapping[str, Any]) -> Usage | None:
    """Read LangChain's usage metadata; None if there is none.

    >>> usage_in({"input_tokens": 9, "output_tokens": 5, "total_tokens": 14, "input_token_details": {"cache_read": 4}})
    Usage(prompt_tokens=9, completion_tokens=5, total_tokens=14, reasoning_tokens=None, cached_tokens=4)
    """
    if "input_tokens" not in raw and "output_tokens" not in raw:
        return None
    from chutes_core.usage import Usage

    prompt, answer = int(raw.get("input_tokens") or 0), int(raw.get("output_tokens") or 0)
    cached = (raw.get("input_token_details") or {}).get("cache_read")
    thought = (raw.get("output_token_details") or {}).get("reasoning")
    return Usage(prompt, answer, int(raw.get("total_tokens") or prompt + answer), thought, cached)


def response_metadata(reply: Reply, choice: Choice, cost: float | None) -> dict[str, Any]:
    """Return a reply's metadata: model, finish reason, quota, cost, unknown fields."""
    told: dict[str, Any] = {
        **reply.extra,
        **choice.extra,
        "model_provider": PROVIDER,
        "model_name": reply.model,
        "finish_reason": choice.finish_reason,
        "id": reply.id,
        "created": reply.created,
        "logprobs": choice.logprobs,
        "cost": cost,
        **meta_body(reply.meta),
    }
    return {name: value for name, value in told.items() if value is not None and name not in _PRIVATE}


def chat_result(reply: Reply, cost: float | None = None) -> ChatResult:
    """Convert a whole reply; usage and cost cover all choices and are attached to the first."""
    first, *others = reply.choices
    made = [_generation(reply, first, usage_metadata(reply.usage), cost)]
    made += [_generation(reply, choice, None, None) for choice in others]
    return ChatResult(generations=made, llm_output=_llm_output(reply))


def _llm_output(reply: Reply) -> dict[str, Any]:
    """Return what token counters of the older kind look for."""
    counts = {} if reply.usage is None else {"token_usage": token_counts(reply.usage)}
    return {"model_name": reply.model, **counts}


def summed_usage(outputs: Iterable[Mapping[str, Any] | None]) -> dict[str, Any]:
    """Add up the token usage of several calls.

    >>> summed_usage([{"token_usage": {"total_tokens": 2}}, None, {"token_usage": {"total_tokens": 3}}])
    {'token_usage': {'total_tokens': 5}}
    """
    total: Counter[str] = Counter()
    for output in outputs:
        total.update((output or {}).get("token_usage") or {})
    return {"token_usage": dict(total)} if total else {}


def _generation(reply: Reply, choice: Choice, usage: UsageMetadata | None, cost: float | None) -> ChatGeneration:
    told = {"reasoning_content": choice.reasoning, "refusal": choice.refusal}
    fields: dict[str, Any] = {
        "content": choice.content,
        "additional_kwargs": {name: text for name, text in told.items() if text},
        "response_metadata": response_metadata(reply, choice, cost),
        "usage_metadata": usage,
    }
    if isinstance(name := choice.extra.get("name"), str):
        fields["name"] = name
    if choice.tool_calls or choice.invalid_tool_calls:
        fields["tool_calls"] = [
            {"name": call.name, "args": call.args, "id": call.id, "type": "tool_call"} for call in choice.tool_calls
        ]
        fields["invalid_tool_calls"] = [
            {"type": "invalid_tool_call", "id": call.id, "name": call.name, "args": call.arguments, "error": call.error}
            for call in choice.invalid_tool_calls
        ]
    # Tracers read how it ended beside the message.
    ending = {"finish_reason": choice.finish_reason}
    made = {"text": choice.content, "message": _fast(AIMessage, fields), "generation_info": ending}
    return _fast(ChatGeneration, made)


class ChunkMaker:
    """Converts the deltas of one stream to chunks.

    Args:
        price: Returns what a reply cost.
        blocks: Make standard content blocks (``output_version="v1"``), numbered so that they merge correctly.
    """

    def __init__(self, price: Callable[[Any], float | None] = lambda reply: None, *, blocks: bool = False) -> None:
        self._price = price
        self._blocks = blocks
        self._kind = ""
        self._number = -1
        self._tools = CallPieces(spoiled)
        # Sent with the first chunk, where the event protocol looks for it.
        self._metadata: dict[str, Any] = {"model_provider": PROVIDER}

    def step(self, delta: Delta) -> Sequence[ChatGenerationChunk]:
        """Return the chunks for a delta: one, or none for a delta that only ends the answer."""
        if delta.tool_calls:
            said = [self._said(delta)] if delta.content or delta.reasoning else []
            return [*said, *(self._called(piece) for piece in self._tools.step(delta.tool_calls))]
        if delta.content or delta.reasoning:
            return [self._said(delta)]
        return []

    def end(self, reply: Reply) -> Iterator[ChatGenerationChunk]:
        """Yield the closing chunks of a complete answer."""
        choice = reply.choices[0]
        for piece in self._tools.end(choice):
            yield self._called(piece)
        metadata = {**self._metadata, **response_metadata(reply, choice, self._price(reply))}
        if choice.invalid_tool_calls:
            metadata["tool_call_errors"] = {call.id: call.error for call in choice.invalid_tool_calls}
        if self._blocks:
            metadata["output_version"] = "v1"
        yield ChatGenerationChunk(
            message=AIMessageChunk(
                content=[] if self._blocks else "",
                additional_kwargs={"refusal": choice.refusal} if choice.refusal else {},
                response_metadata=metadata,
                usage_metadata=usage_metadata(reply.usage),
                chunk_position="last",
            ),
            generation_info={"finish_reason": choice.finish_reason},
        )

    def _said(self, delta: Delta) -> ChatGenerationChunk:
        kept = {"reasoning_content": delta.reasoning} if delta.reasoning else {}
        content: Any = delta.content
        if self._blocks:
            content = [self._block("reasoning", delta.reasoning)] if delta.reasoning else []
            content += [self._block("text", delta.content)] if delta.content else []
        metadata = self._first_metadata()
        message = _fast(AIMessageChunk, {"content": content, "additional_kwargs": kept, "response_metadata": metadata})
        return _fast(ChatGenerationChunk, {"text": delta.content, "message": message})

    def _block(self, kind: str, text: str) -> dict[str, Any]:
        if kind != self._kind:  # a different kind starts a new block
            self._kind, self._number = kind, self._number + 1
        return {"type": kind, kind: text, "index": f"lc_{self._number}"}

    def _called(self, piece: CallPiece) -> ChatGenerationChunk:
        chunk = tool_call_chunk(index=piece.place, args=piece.arguments, id=piece.id, name=piece.name)
        content: Any = ""
        if self._blocks:
            index = f"lc_tool_{chunk['index']}"
            content = [{**chunk, "index": index}]
            self._kind = index
        fields = {"content": content, "tool_call_chunks": [chunk], "response_metadata": self._first_metadata()}
        if piece.parsed:
            return ChatGenerationChunk(message=AIMessageChunk(**fields))
        unread = [invalid_tool_call(name=chunk["name"], args=chunk["args"], id=chunk["id"])]
        message = _fast(AIMessageChunk, {**fields, "invalid_tool_calls": unread})
        return _fast(ChatGenerationChunk, {"text": "", "message": message})

    def _first_metadata(self) -> dict[str, Any]:
        metadata, self._metadata = self._metadata, {}
        if self._blocks:
            metadata["output_version"] = "v1"
        return metadata


def _template(model: type[BaseModel]) -> tuple[dict[str, Any], list[tuple[str, Any]], bool]:
    """Return a model's field defaults: values that can be shared, and factories for the rest; and if it takes more."""
    fields = model.model_fields.items()
    plain = {name: None if field.default_factory else field.default for name, field in fields}
    makers = [(name, field.default_factory) for name, field in fields if field.default_factory is not None]
    return plain, makers, model.model_config.get("extra") == "allow"


_TEMPLATES: dict[Any, Any] = {
    model: _template(model) for model in (AIMessage, AIMessageChunk, ChatGeneration, ChatGenerationChunk)
}
_set = object.__setattr__


def _fast(model: type[M], given: dict[str, Any]) -> M:
    """Create a model instance without validation, filling in defaults."""
    plain, makers, more = _TEMPLATES[model]
    values = plain.copy()
    for name, make in makers:
        values[name] = make()
    values.update(given)
    made = model.__new__(model)
    _set(made, "__dict__", values)
    _set(made, "__pydantic_fields_set__", set(given))
    _set(made, "__pydantic_extra__", {} if more else None)
    _set(made, "__pydantic_private__", None)
    return made
