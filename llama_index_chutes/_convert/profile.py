"""LlamaIndex model metadata from the catalogue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from llama_index.core.base.llms.types import LLMMetadata
from llama_index.core.bridge.pydantic import ConfigDict

from chutes_core import ModelInfo
from chutes_core.warned import warn

__all__ = ["DEFAULT_CONTEXT_WINDOW", "DEFAULT_NUM_OUTPUT", "Described", "described"]

DEFAULT_CONTEXT_WINDOW = 131_072
"""Default context window in tokens, if unknown."""
DEFAULT_NUM_OUTPUT = 8_192
"""Default number of answer tokens to reserve in every prompt, if the model's maximum is unknown."""


class Described(LLMMetadata):
    """The metadata of a model, with the parameters of its requests: tracers record these as those of a call.

    >>> Described(model_name="acme/one", temperature=0.5).model_extra
    {'temperature': 0.5}
    """

    model_config = ConfigDict(extra="allow")


def described(
    model: str,
    infos: Sequence[ModelInfo],
    context_window: int | None,
    max_tokens: int | None,
    calls: bool | None,
    params: Mapping[str, Any] | None = None,
) -> Described:
    """Return the metadata of a model.

    Args:
        model: Its name.
        infos: What is known about each model that may answer; the result holds for all of them.
        context_window: The caller's context window, if set.
        max_tokens: The caller's limit on the answer.
        calls: Whether the model supports tool calls, if set by the caller.
        params: The parameters of its requests.

    >>> info = ModelInfo(id="acme/one", context_length=8192, max_output=8192)
    >>> described("acme/one", [info], None, None, None).num_output
    4096
    """
    window = context_window or min((info.context_length for info in infos if info.context_length), default=0)
    if not window:
        window = DEFAULT_CONTEXT_WINDOW
        warn(
            f"The catalogue does not know the context window of {model!r}; {window:,} tokens are assumed. "
            "Pass context_window=... if you know it."
        )
    output = min((info.max_output for info in infos if info.max_output), default=DEFAULT_NUM_OUTPUT)
    tools = all(info.supports("tools") is not False for info in infos)
    return Described(
        context_window=window,
        # The framework reserves this much in every prompt: keep half the window for the prompt itself.
        num_output=max_tokens or min(output, window // 2),
        is_chat_model=True,
        is_function_calling_model=tools if calls is None else calls,
        model_name=model,
        **(params or {}),
    )
