"""Reasoning blocks in the forms that models on Chutes use.

The small model does not reason before it answers, and the block says so. A block is always shown if the model's
shape or the header ``X-Local-Reasoning`` names a form, otherwise only if the request enables thinking.

>>> [frame.kind for frame in reasoning_frames("reasoning")][:2]
['reasoning', 'reasoning']
>>> reasoning_frames("think")[0].text
'<thi'
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

from chutes_local.wire.encode import Frame
from chutes_local.world.fleet import Chute, Reasoning

FIELDS: Sequence[Reasoning] = ("reasoning_content", "reasoning")
"""The forms that are a field of their own; the others are tags in the content."""
PARTS: Sequence[str] = (
    "This is a rehearsal",
    " of reasoning:",
    " the local model",
    " answers without",
    " thinking.",
)


def thinking_wanted(body: Mapping[str, object]) -> bool:
    """Read the thinking switches as the gateway does: either key, else an effort other than ``none``.

    >>> thinking_wanted({"chat_template_kwargs": {"reasoning_effort": "low"}})
    True
    """
    options = body.get("chat_template_kwargs")
    if not isinstance(options, Mapping):
        return False
    for key in ("thinking", "enable_thinking"):
        if key in options:
            return bool(options[key])
    effort = options.get("effective_reasoning_effort", options.get("reasoning_effort", "none"))
    return bool(effort != "none")


def thinking_switched_off(body: Mapping[str, object]) -> bool:
    """Return whether a request says that the model should not think, rather than nothing about it.

    >>> thinking_switched_off({"chat_template_kwargs": {"enable_thinking": False}}), thinking_switched_off({})
    (True, False)
    """
    options = body.get("chat_template_kwargs")
    switched = isinstance(options, Mapping) and any(key in options for key in ("thinking", "enable_thinking"))
    return switched and not thinking_wanted(body)


def form_of(chute: Chute, asked: Reasoning | None, thinking: bool) -> Reasoning:
    """Return the form in which reasoning is shown; ``off`` means not at all."""
    fixed = asked or chute.shape.reasoning
    if fixed:
        return fixed
    if not thinking:
        return "off"
    own = chute.facts.get("reasoning")
    engine_form: Reasoning = "reasoning" if chute.engine == "vllm" else "reasoning_content"
    return cast(Reasoning, own) if own else engine_form


def reasoning_frames(form: Reasoning, index: int = 0) -> list[Frame]:
    """Return the block as frames; tags inside the content are split across frames, as real tokens split them."""
    if form == "off":
        return []
    if form in FIELDS:
        return [Frame("reasoning", index, part) for part in PARTS]
    opening = ["<thi", "nk>\n"] if form == "think" else []
    return [Frame("content", index, part) for part in (*opening, *PARTS, "\n</th", "ink>", "\n\n")]
