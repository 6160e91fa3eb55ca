"""Refusals: errors that are the core's and LangChain's, and the messages that stand for them.

A model that refuses raises, also where LangChain would return a message without text. Other providers' models return
that message, and with ``include_raw=True`` ours do too: the error is then what parsing it came to.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig

from chutes_core.errors import Kind, RefusalError
from chutes_core.failures.reading import failure
from chutes_core.response import Choice, Reply
from langchain_chutes._errors import as_langchain

__all__ = ["Telling", "raise_if_refused"]

_FILTERS = frozenset({"content_filter", "refusal", "safety"})


def raise_if_refused(message: BaseMessage, *, quiet: bool = False) -> None:
    """Raise a ``RefusalError`` if the model refused instead of answering, as any provider says it.

    A ``quiet`` one quotes nothing of the answer, which came encrypted.

    >>> raise_if_refused(AIMessage("", additional_kwargs={"refusal": "I cannot help with that."}))
    Traceback (most recent call last):
    langchain_chutes._errors.RefusalError: the model refused to answer, ... (I cannot help with that.). ...
    """
    told = message.response_metadata
    ending = next((told[name] for name in ("finish_reason", "stop_reason") if isinstance(told.get(name), str)), "")
    refusal = _refusal(message)
    if not refusal and ending.lower() not in _FILTERS:
        return
    choice = Choice(0, str(message.text), "", (), (), ending or None, refusal=refusal)
    model = told.get("model_name")
    reply = Reply(message.id, model, (choice,))
    said = refusal or f"finish_reason {ending!r}"
    found = failure(Kind.REFUSED, said, model=model, partial_reply=reply)
    if quiet:
        from chutes_core.e2ee.privacy import without_words

        found = without_words(found, opened=True)
    error = as_langchain(found)
    error.raw_message = message  # type: ignore[attr-defined]
    raise error


def _refusal(message: BaseMessage) -> str:
    """Return the words of a refusal, from where providers put them."""
    content = message.content if isinstance(message.content, list) else []
    blocks = (block.get("refusal") for block in content if isinstance(block, Mapping))
    return next((each for each in (message.additional_kwargs.get("refusal"), *blocks) if isinstance(each, str)), "")


class Telling(Runnable[Any, Any]):
    """A model whose refusal is its message."""

    def __init__(self, model: Runnable[Any, Any]) -> None:
        self._model = model

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Ask the model."""
        try:
            return self._model.invoke(input, config, **kwargs)
        except RefusalError as error:
            return AIMessage(error.partial or "", **_told(error))

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        """Ask the model."""
        try:
            return await self._model.ainvoke(input, config, **kwargs)
        except RefusalError as error:
            return AIMessage(error.partial or "", **_told(error))

    def stream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Iterator[Any]:
        """Stream the answer; what it said before it was ended has been shown."""
        try:
            yield from self._model.stream(input, config, **kwargs)
        except RefusalError as error:
            yield AIMessageChunk(content="", chunk_position="last", **_told(error))

    async def astream(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> AsyncIterator[Any]:
        """Stream the answer; what it said before it was ended has been shown."""
        try:
            async for chunk in self._model.astream(input, config, **kwargs):
                yield chunk
        except RefusalError as error:
            yield AIMessageChunk(content="", chunk_position="last", **_told(error))


def _told(error: RefusalError) -> dict[str, Any]:
    reply = error.partial_reply
    ending = reply.finish_reason if reply is not None else None
    told = {"model_name": error.model, "finish_reason": ending or "content_filter"}
    return {"additional_kwargs": {"refusal": error.refusal} if error.refusal else {}, "response_metadata": told}
