"""LangChain model profiles from the catalogue. Unknown values are left out, never guessed.

>>> from chutes_core import Catalog
>>> from chutes_core.catalog.names import model_infos
>>> profile = model_profile(model_infos(Catalog.bundled(), "Qwen/Qwen3-32B-TEE"))
>>> profile["max_input_tokens"], profile["tool_calling"], profile["image_inputs"]
(40960, True, False)
>>> model_profile(model_infos(Catalog.bundled(), "acme/brand-new")) is None
True
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from langchain_core.language_models import ModelProfile

from chutes_core.catalog.joint import every, least
from chutes_core.catalog.model_info import ModelInfo

__all__ = ["Resolved", "model_profile"]


# LangChain's names for what a model has to support, and to take.
_FEATURES = {
    **dict.fromkeys(("tool_calling", "tool_choice", "tool_call_streaming"), "tools"),
    "structured_output": "structured_outputs",
    "reasoning_output": "reasoning",
}
_INPUTS = {
    "text_inputs": "text",
    **dict.fromkeys(("image_inputs", "image_url_inputs", "image_tool_message"), "image"),
    "video_inputs": "video",
    "audio_inputs": "audio",
}
# The gateway accepts no files for any model.
_ALWAYS = {"text_outputs": True, "pdf_inputs": False, "pdf_tool_message": False}


class Resolved(dict[str, Any]):
    """A profile resolved here, not set by the caller; it is resolved again when the model changes."""


def model_profile(infos: Sequence[ModelInfo]) -> ModelProfile | None:
    """Return the profile of a model, or what all models in a routing list share; None if nothing is known."""
    told: dict[str, Any] = {
        "max_input_tokens": least([info.context_length for info in infos]),
        "max_output_tokens": least([info.max_output for info in infos]),
        "temperature": every([_samples(info, "temperature") for info in infos]),
        **{name: every([info.supports(feature) for info in infos]) for name, feature in _FEATURES.items()},
        **{name: every([info.takes(kind) for info in infos]) for name, kind in _INPUTS.items()},
    }
    known = {name: value for name, value in told.items() if value is not None}
    if not known:
        return None
    if len(infos) == 1:
        known["name"] = infos[0].id
    # An earlier langchain-core has fewer names, and warns of any other.
    named = {name: value for name, value in {**known, **_ALWAYS}.items() if name in ModelProfile.__annotations__}
    return cast("ModelProfile", Resolved(named))


def _samples(info: ModelInfo, name: str) -> bool | None:
    return None if info.sampling_parameters is None else name in info.sampling_parameters
