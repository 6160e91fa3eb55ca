"""Continue the last message instead of answering it: the flags of a request, and what each model makes of them.

A prefilled request ends with the beginning of the answer, as a message of the assistant, and says
``"continue_final_message": true, "add_generation_prompt": false``. The answer has only what follows.

>>> body = {"messages": [{"role": "user", "content": "Count."}, {"role": "assistant", "content": "1, 2,"}]}
>>> asked = repaired({**body, "continue_final_message": True})
>>> asked["add_generation_prompt"], continues(asked, "vllm"), continues(body, "vllm")
(False, True, False)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from chutes_local.gateway.reasoning import thinking_switched_off
from chutes_local.wire import errors
from chutes_local.wire.errors import Refused
from chutes_local.world.fleet import Prefill, Shape

Body = Mapping[str, object]
CONTINUE = "continue_final_message"
NEW_TURN = "add_generation_prompt"
_BOTH = f"Cannot set both `{CONTINUE}` and `{NEW_TURN}` to True."


@dataclass(frozen=True, slots=True)
class Beginning:
    """The beginning of an answer, and what the model makes of it.

    Attributes:
        way: The model's way with it.
        messages: The messages as the model reads them.
        left_open: Whether the last of them is continued, rather than answered.
        text: The beginning as it was sent.
    """

    way: Prefill
    messages: list[dict[str, str]]
    left_open: bool
    text: str


def repaired(body: Body) -> Body:
    """Settle flags that contradict, as the gateway does; a model's own host does not.

    >>> repaired({"messages": [{"role": "user"}], "continue_final_message": True})["continue_final_message"]
    False
    """
    if not body.get(CONTINUE) or not body.get(NEW_TURN, True):
        return body
    return {**body, NEW_TURN: False} if _last_role(body) == "assistant" else {**body, CONTINUE: False}


def continues(body: Body, engine: str) -> bool:
    """Return whether an engine continues the last message, or refuse flags that contradict.

    vLLM begins a new turn unless it is told not to, so there a missing flag contradicts too.
    """
    if not body.get(CONTINUE):
        return False
    if body.get(NEW_TURN, engine == "vllm"):
        raise Refused(errors.engine_400(_BOTH))
    return _last_role(body) == "assistant"


def beginning(messages: Sequence[Mapping[str, str]], body: Body, shape: Shape) -> Beginning:
    """Read the beginning of the answer from the last of the flattened messages, in the model's way."""
    *before, last = map(dict, messages)
    way, text = shape.prefill, last["content"]
    if way == "in_think" and shape.reasoning is None and thinking_switched_off(body):
        way = "honoured"
    if way == "as_user":
        last["role"] = "user"
    elif way == "stripped":
        last["content"] = text.rstrip()
    return Beginning(way, [*before, last], way not in ("closed", "as_user"), text)


def _last_role(body: Body) -> object:
    messages = body.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    return last.get("role") if isinstance(last, Mapping) else None
