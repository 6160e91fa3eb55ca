"""What the framework needs to know of a model, out of what the catalogue knows."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from llama_index.core.base.llms.types import LLMMetadata

from chutes_core import ChutesWarning, ModelInfo

__all__ = ["DEFAULT_CONTEXT_WINDOW", "DEFAULT_NUM_OUTPUT", "described"]

DEFAULT_CONTEXT_WINDOW = 131_072
"""The window, in tokens, that a model is taken to have when nobody says otherwise."""
DEFAULT_NUM_OUTPUT = 8_192
"""The tokens of an answer that are reserved in every prompt when nobody says how many the model can give."""


def described(
    model: str, infos: Sequence[ModelInfo], context_window: int | None, max_tokens: int | None, calls: bool | None
) -> LLMMetadata:
    """Describe a model.

    Args:
        model: Its name.
        infos: What is known of each model that may answer: all must be able to.
        context_window: The caller's own word.
        max_tokens: The caller's limit of an answer.
        calls: The caller's own word on whether it calls tools.

    >>> info = ModelInfo(id="acme/one", context_length=8192, max_output=8192)
    >>> described("acme/one", [info], None, None, None).num_output
    4096
    """
    window = context_window or min((info.context_length for info in infos if info.context_length), default=0)
    if not window:
        window = DEFAULT_CONTEXT_WINDOW
        warnings.warn(
            f"The catalogue does not know the context window of {model!r}; {window:,} tokens are assumed. "
            "Pass context_window=... if you know it.",
            ChutesWarning,
            stacklevel=4,
        )
    output = min((info.max_output for info in infos if info.max_output), default=DEFAULT_NUM_OUTPUT)
    tools = all(info.supports("tools") is not False for info in infos)
    return LLMMetadata(
        context_window=window,
        # The framework reserves so much in every prompt: half of the window stays for the prompt itself.
        num_output=max_tokens or min(output, window // 2),
        is_chat_model=True,
        is_function_calling_model=tools if calls is None else calls,
        model_name=model,
    )
