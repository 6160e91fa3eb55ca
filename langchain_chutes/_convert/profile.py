"""LangChain model profiles from the catalogue. Unknown values are left out, never guessed.

>>> from chutes_core import Catalog
>>> profile = model_profile(model_infos(Catalog.bundled(), "Qwen/Qwen3-32B-TEE"))
>>> profile["max_input_tokens"], profile["tool_calling"], profile["image_inputs"]
(40960, True, False)
>>> model_profile(model_infos(Catalog.bundled(), "acme/brand-new")) is None
True
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

from langchain_core.language_models import ModelProfile

from chutes_core.catalog.model_info import ModelInfo
from chutes_core.catalog.names import model_infos

__all__ = ["Resolved", "default_method", "echoes_reasoning", "model_infos", "model_profile"]


class Resolved(dict[str, Any]):
    """A profile resolved here, not set by the caller; it is resolved again when the model changes."""


def echoes_reasoning(infos: Sequence[ModelInfo]) -> bool:
    """Return whether any model that may answer wants the reasoning of its earlier turns."""
    return any(info.traits.echo_reasoning is True for info in infos)


def model_profile(infos: Sequence[ModelInfo]) -> ModelProfile | None:
    """Return the profile of a model, or what all models in a routing list share; None if nothing is known."""
    told: dict[str, Any] = {
        "max_input_tokens": _least(infos, lambda info: info.context_length),
        "max_output_tokens": _least(infos, lambda info: info.max_output),
        "tool_calling": _all(infos, lambda info: info.supports("tools")),
        "tool_choice": _all(infos, lambda info: info.supports("tools")),
        "tool_call_streaming": _all(infos, lambda info: info.supports("tools")),
        "structured_output": _all(infos, lambda info: info.supports("structured_outputs")),
        "reasoning_output": _all(infos, lambda info: info.supports("reasoning")),
        "text_inputs": _all(infos, lambda info: info.takes("text")),
        "image_inputs": _all(infos, lambda info: info.takes("image")),
        "image_url_inputs": _all(infos, lambda info: info.takes("image")),
        "image_tool_message": _all(infos, lambda info: info.takes("image")),
        "video_inputs": _all(infos, lambda info: info.takes("video")),
        "audio_inputs": _all(infos, lambda info: info.takes("audio")),
        "temperature": _all(infos, lambda info: _samples(info, "temperature")),
    }
    known = {name: value for name, value in told.items() if value is not None}
    if not known:
        return None
    if len(infos) == 1:
        known["name"] = infos[0].id
    # The gateway accepts no files for any model.
    known.update(text_outputs=True, pdf_inputs=False, pdf_tool_message=False)
    # An earlier langchain-core has fewer names, and warns of any other.
    made = Resolved({name: value for name, value in known.items() if name in ModelProfile.__annotations__})
    return cast("ModelProfile", made)


def default_method(infos: Sequence[ModelInfo]) -> str:
    """Return the most reliable structured-output method that every model that may answer supports.

    All inference engines can enforce a schema, so that is tried if nothing is known.
    """
    for feature, method in (
        ("structured_outputs", "json_schema"),
        ("tools", "function_calling"),
        ("json_mode", "json_mode"),
    ):
        if all(info.supports(feature) is True for info in infos):
            return method
    unknown = any(info.features is None for info in infos)
    return "json_schema" if unknown else "function_calling"


def _least(infos: Sequence[ModelInfo], value: Callable[[ModelInfo], int | None]) -> int | None:
    numbers = [value(info) for info in infos]
    known = [number for number in numbers if number is not None]
    return min(known) if known and len(known) == len(numbers) else None


def _all(infos: Sequence[ModelInfo], holds: Callable[[ModelInfo], bool | None]) -> bool | None:
    answers = [holds(info) for info in infos]
    if False in answers:
        return False
    return None if None in answers else True


def _samples(info: ModelInfo, name: str) -> bool | None:
    return None if info.sampling_parameters is None else name in info.sampling_parameters
