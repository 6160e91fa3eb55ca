"""What the chat model and the fallback have in common: LangChain's methods, over one call that each makes its own way.

The sync and async form of a method share everything except the waiting.
"""

from __future__ import annotations

import inspect
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseChatModel, LanguageModelInput
from langchain_core.language_models.base import LangSmithParams
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_core.runnables import Runnable

from chutes_core.catalog.joint import Method
from chutes_core.request.schema import check_form
from chutes_core.request.tools import tool_choice_param, tool_names
from chutes_core.secrets.headers import Headers, Query
from langchain_chutes._convert.replies import PROVIDER
from langchain_chutes._convert.tools import Tool, tool_params
from langchain_chutes._settings import translated_errors
from langchain_chutes._structured.schemas import Schema

if TYPE_CHECKING:
    from langchain_chutes._structured.forms import Form
    from langchain_chutes._structured.parsers import Source
    from langchain_chutes.chat_models import Call
    from langchain_chutes.fallback.run import Run

__all__ = ["ChatModel"]


class ChatModel(BaseChatModel):
    """A chat model with tools and structured output."""

    if TYPE_CHECKING:  # what a subclass has

        def _asked(
            self, messages: list[BaseMessage], stop: list[str] | None, run_manager: Any, options: dict[str, Any], *,
            whole: bool,
        ) -> Call | Run:  # fmt: skip
            """Prepare a call, or refuse it."""

        def _formed(self, form: Form) -> tuple[Method | None, Source, dict[str, Any]]:
            """Return how an object is asked for: the method, where it will be, and the options of the call."""

        def _is_sealed(self) -> bool:
            """Return whether answers come encrypted."""

    def _tool_list(self, described: list[dict[str, Any]], tools: Sequence[Tool], strict: bool | None) -> list[Any]:
        """Return the tools that are bound."""
        return described

    def _generate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        with translated_errors:
            asked = self._asked(messages, stop, run_manager, kwargs, whole=True)
            return asked.result(asked.read())

    async def _agenerate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        with translated_errors:
            asked = self._asked(messages, stop, run_manager, kwargs, whole=True)
            return asked.result(await asked.aread())

    def _stream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> Iterator[ChatGenerationChunk]:
        with translated_errors:
            asked = self._asked(messages, stop, run_manager, kwargs, whole=False)
            maker = asked.maker()
            with asked.stream() as deltas:
                for delta in deltas:
                    for chunk in maker.step(delta):
                        if run_manager is not None:
                            run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                        yield chunk
                reply = deltas.reply
            yield from maker.end(reply)

    async def _astream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        with translated_errors:
            asked = self._asked(messages, stop, run_manager, kwargs, whole=False)
            maker = asked.maker()
            async with asked.astream() as deltas:
                async for delta in deltas:
                    for chunk in maker.step(delta):
                        if run_manager is not None:
                            await run_manager.on_llm_new_token(chunk.text, chunk=chunk)
                        yield chunk
                reply = deltas.reply
            for chunk in maker.end(reply):
                yield chunk

    def bind_tools(
        self,
        tools: Sequence[Tool],
        *,
        tool_choice: str | bool | Mapping[str, Any] | None = None,
        parallel_tool_calls: bool | None = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Bind tools that the model may call; a fallback's members get them in each provider's format.

        Args:
            tools: Functions, tools, pydantic models, TypedDicts, or tool specifications as dicts.
            tool_choice: "auto", "none", "any" (or "required", or True), or the name of a tool.
            parallel_tool_calls: Whether the model may call several tools at once.
            strict: Whether arguments must follow the schema; sent only if set.
            **kwargs: Other parameters for the calls.
        """
        with translated_errors:
            described = tool_params(tools, strict=strict)
            choice = tool_choice_param(tool_choice, tool_names(described))
        told = self._tool_list(described, tools, strict)
        bound = {"tools": told, "tool_choice": choice, "parallel_tool_calls": parallel_tool_calls, **kwargs}
        return self.bind(**{name: value for name, value in bound.items() if value is not None})

    def with_structured_output(
        self,
        schema: Schema | None = None,
        *,
        method: Method | None = None,
        include_raw: bool = False,
        strict: bool | None = None,
        tools: Sequence[Tool] | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Return structured output that matches a schema.

        To a fallback, an answer that does not match is a failure, and the next member takes over; with
        ``include_raw=True`` it is the answer.

        Args:
            schema: A pydantic model (answers are instances), a TypedDict or a JSON schema (answers are dicts).
                Required unless ``method="json_mode"``.
            method: How to request it; by default the most reliable method the catalogue lists for the model, or for
                each member.
            include_raw: Return ``{"raw": message, "parsed": answer, "parsing_error": error}`` instead of raising
                parsing errors.
            strict: Sent only if set.
            tools: Additional tools for the model, with ``method="json_schema"``; Chutes models only.
            **kwargs: Other parameters for the calls.
        """
        from langchain_chutes._structured.forms import Form
        from langchain_chutes._structured.parsers import answer_parser

        with translated_errors:
            check_form(schema)
        form = Form(schema, method, strict, include_raw, tuple(tools or ()))
        with translated_errors:
            chosen, source, options = self._formed(form)
        if schema is not None:
            kwargs["ls_structured_output_format"] = {"kwargs": {"method": chosen, "strict": strict}, "schema": schema}
        return form.parsed(self.bind(**{**kwargs, **options}), answer_parser(schema, source, quiet=self._is_sealed()))

    def _get_llm_string(self, stop: list[str] | None = None, **kwargs: Any) -> str:
        return super()._get_llm_string(stop, **_shown(kwargs, apart=True))

    def _get_invocation_params(self, stop: list[str] | None = None, **kwargs: Any) -> dict[str, Any]:
        return super()._get_invocation_params(stop, **_shown(kwargs))

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop, **kwargs)
        params["ls_provider"] = PROVIDER
        ends = stop or kwargs.get("stop") or getattr(self, "stop", None)
        if ends:
            params["ls_stop"] = [ends] if isinstance(ends, str) else list(ends)
        return params

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Return True: secrets are serialized as references to the environment."""
        return True


_HIDDEN: Mapping[str, type[Headers]] = {"extra_headers": Headers, "extra_query": Query}


def _shown(options: dict[str, Any], *, apart: bool = False) -> dict[str, Any]:
    """Return the options of a call as caches and tracers are told of them: without what may be secret."""
    if _HIDDEN.keys().isdisjoint(options):
        return options
    hidden = {name: kind(options[name]) for name, kind in _HIDDEN.items() if options.get(name)}
    told = {name: each.told_apart(None) if apart else each.dumped() for name, each in hidden.items()}
    return {**options, **told}


for _method in (ChatModel._generate, ChatModel._agenerate):
    # LangChain reads it at every call, and computing it takes a twentieth of one.
    _method.__signature__ = inspect.signature(_method)  # type: ignore[union-attr]
