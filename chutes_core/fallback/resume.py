"""Going on with an answer that broke off: what is asked, and whether what comes is a continuation.

The text that a reader was given is sent back as the beginning of the assistant's message, for a model to continue. Not
every model does: some close the turn and answer anew, some take the text for the user's, and what they say may read
fluently. So only models are asked that were seen to continue (``Traits.prefill``), only for plain text, and what comes
is held back until it cannot be the same answer from its beginning, an echo, or a thought.

A seam inside a word, or after a space, leads a model astray. So the reader is given whole words, without the space
behind the last one, until the answer has ended: what is held back is not part of the seam.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from chutes_core.errors import APIError, ConfigurationError, Kind
from chutes_core.failures.reading import failure

__all__ = ["BROKEN", "LEAST", "Resume", "Seam", "Words", "can_go_on", "continued", "fits"]

# Failures of an answer that was going on: a machine, not the request.
BROKEN = frozenset(
    {Kind.STALL, Kind.RESET, Kind.TRUNCATED, Kind.RESTARTED, Kind.STREAM_ERROR, Kind.MALFORMED}
    | {Kind.TOTAL_TIMEOUT, Kind.NOT_RESUMED}
)
_LONGEST_WORD = 32
_SEEN = 24  # characters of a continuation before any is given out
LEAST = 16
"""Characters that two answers have in common only if they are the same: less is not given out, nor gone on with."""
# What templates split off, strip or read as tokens of their own.
_MARKERS = ("<think", "</think", "<|", "|>", "<\uff5c", "[INST]", "[THINK]", "<tool_call")
_UNFINISHED = re.compile("[\ufffd\ud800-\udfff\u200d\ufe00-\ufe0f]$")
_NEVER = (
    "response_format", "guided_json", "guided_choice", "guided_grammar", "structured_outputs", "logprobs",
    "top_logprobs", "echo", "stop_token_ids", "continue_final_message",
)  # fmt: skip


_CHANGED = ("max_tokens", "max_completion_tokens", "min_tokens", "chat_template_kwargs")


@dataclass(frozen=True, slots=True)
class Resume:
    """Where an attempt goes on.

    Attributes:
        text: What the reader was given.
        reasoning: The reasoning before it.
        used: The answer's tokens so far.
        same: Whether the model is the one that broke off.
        thinking_off: Whether this model continues only if it does not think.
    """

    text: str
    reasoning: str = ""
    used: int = 0
    same: bool = False
    thinking_off: bool = False


def can_go_on(text: str) -> bool:
    """Return whether a text can be given to a model to continue.

    >>> can_go_on("The sky is blue, since"), can_go_on("Sure!"), can_go_on("Use a <think> tag for it")
    (True, False, False)
    """
    return len(text.strip()) >= LEAST and not any(each in text for each in _MARKERS) and not _UNFINISHED.search(text)


def continued(arguments: Mapping[str, object], resume: Resume) -> dict[str, object]:
    """Return the arguments of a call that goes on with an answer.

    Raises:
        ConfigurationError: A request like this cannot be continued; this member is passed over.

    >>> asked = {"messages": [{"role": "user", "content": "Why?"}], "max_tokens": 9}
    >>> continued(asked, Resume("The sky", used=2))
    {'messages': [{'role': 'user', 'content': 'Why?'}, {'role': 'assistant', 'content': 'The sky'}],
     'max_tokens': 7, 'continue_final_message': True, 'add_generation_prompt': False}
    """
    everything, messages = _everything(arguments)
    extra = arguments.get("extra_body")
    if isinstance(extra, Mapping):  # or what is changed here would not be what is sent
        moved = {name: extra[name] for name in _CHANGED if name in extra}
        arguments = {**arguments, **moved, "extra_body": {name: extra[name] for name in extra if name not in moved}}
    if (problem := _problem(everything, messages, resume)) is not None:
        raise ConfigurationError(f"An answer to this request cannot be gone on with: {problem}.")
    last: dict[str, object] = {"role": "assistant", "content": resume.text}
    made = {**arguments, "messages": [*messages, last], "continue_final_message": True, "add_generation_prompt": False}
    for name in ("max_tokens", "max_completion_tokens", "min_tokens"):
        if isinstance(limit := arguments.get(name), int):
            made[name] = max(limit - resume.used, 0 if name == "min_tokens" else 1)
    if resume.thinking_off:
        chosen = made.get("chat_template_kwargs")
        off = {"enable_thinking": False, "thinking": False}
        made["chat_template_kwargs"] = {**(chosen if isinstance(chosen, Mapping) else {}), **off}
    elif resume.reasoning:
        last["reasoning_content"] = resume.reasoning
    return made


def fits(arguments: Mapping[str, object]) -> bool:
    """Return whether an answer to a request could be gone on with, whatever it will be.

    >>> asked = {"messages": [{"role": "user", "content": "Why?"}]}
    >>> fits(asked), fits({**asked, "logprobs": True})
    (True, False)
    """
    return _problem(*_everything(arguments), Resume("", same=True)) is None


def _everything(arguments: Mapping[str, object]) -> tuple[dict[str, object], Sequence[Mapping[str, object]]]:
    """Return all fields of a request, wherever they were given, and its messages."""
    extra = arguments.get("extra_body")
    fields = {**arguments, **(extra if isinstance(extra, Mapping) else {})}
    return fields, cast("Sequence[Mapping[str, object]]", arguments["messages"])


def _problem(given: Mapping[str, object], messages: Sequence[Mapping[str, object]], resume: Resume) -> str | None:
    for name in _NEVER:
        if given.get(name):
            return f"it has {name}"
    if given.get("tools") and not (resume.same and given.get("tool_choice") in (None, "auto", "none")):
        return "another model might have called one of its tools, or a tool must be called"
    if messages and messages[-1].get("role") == "assistant":
        return "it ends with an assistant's message itself"
    limits = [given[name] for name in ("max_tokens", "max_completion_tokens") if isinstance(given.get(name), int)]
    if any(cast("int", limit) <= resume.used for limit in limits):
        return "its max_tokens are used up"
    stops = given.get("stop")
    for stop in [stops] if isinstance(stops, str) else stops if isinstance(stops, list | tuple) else []:
        if any(resume.text.endswith(stop[:length]) for length in range(1, len(stop))):
            return f"what was given out may end in the beginning of its stop sequence {stop!r}"
    return None


def _may_repeat(text: str) -> bool:
    """Return whether the same text may follow a text at once, without a space, as its continuation."""
    begins_a_word = text[0].isascii() and text[0].isalnum() and text[-1].isascii()
    return not begins_a_word or (text + text).find(text, 1) < len(text)


def _fuses(text: str, more: str) -> bool:
    """Return whether a word that had ended would go on without a space."""
    both = text[-1:] + more[:1]
    return len(both) == 2 and both.isascii() and both.isalnum() and len(text.split()[-1]) <= _LONGEST_WORD


class Words:
    """Gives out a text that grows in whole words, once there are so many characters of it.

    >>> words = Words()
    >>> [words.take(text) for text in ("The sk", "y is ", "blue")], words.rest()
    (['The', ' sky is', ''], ' blue')
    """

    def __init__(self, least: int = 0) -> None:
        self._least = least
        self._held = ""

    def take(self, text: str) -> str:
        """Take the next piece, and return what is certain to end with a word."""
        whole = self._held + text
        bare = whole.rstrip()
        edge = max(bare.rfind(" "), bare.rfind("\n"), bare.rfind("\t"))
        if bare != whole:
            cut = len(bare)  # the last word has ended
        elif len(whole) - edge <= _LONGEST_WORD:
            cut = len(whole[: edge + 1].rstrip()) if edge >= 0 else 0
        else:  # no language with spaces: the last piece may be half of something
            cut = len(self._held)
        if cut < self._least:
            self._held = whole
            return ""
        self._held, self._least = whole[cut:], 0
        return whole[:cut]

    def rest(self) -> str:
        """Return what is held back, at the end of the answer."""
        held, self._held = self._held, ""
        return held


class Seam:
    """Lets a continuation through once it is certain to be one.

    >>> seam = Seam("The sky is blue, since light", "acme/one")
    >>> seam.take(" of short waves is"), seam.take(" scattered most.")
    ('', ' of short waves is scattered most.')
    >>> Seam("The sky is blue, since light", "acme/one").take("The sky is blue, because there is air.")
    Traceback (most recent call last):
    chutes_core.errors.IncompleteAnswerError: acme/one: ... (it began the answer anew). ...
    """

    def __init__(self, given: str, model: str) -> None:
        self._given = given.lstrip()  # what comes is compared without the blanks before it
        self._model = model
        self._held = ""
        self.open = False

    def refused(self, why: str) -> APIError:
        """Return the failure of an answer that is no continuation."""
        return failure(Kind.NOT_RESUMED, why, model=self._model)

    def take(self, text: str, *, ends: bool = False) -> str:
        """Take the next piece of the continuation, and return what may be given out."""
        self._held += text
        bare = self._held.lstrip()
        if bare.startswith(self._given):  # an echo, or the same answer once more: what is new is behind it
            if bare != self._held or _may_repeat(self._given):
                raise self.refused("it says the same again, or began the answer anew")
            self.open, self._held = True, bare[len(self._given) :]
        elif (
            bare[:LEAST] == self._given[:LEAST]
            and len(bare) >= LEAST
            and not (self._given.startswith(bare) and not ends)
        ):
            raise self.refused("it began the answer anew")
        if any(each in self._held for each in _MARKERS):
            raise self.refused("it began with a mark of its template")
        waits = len(self._held) < _SEEN or self._given.startswith(bare)
        if not self.open and waits and not ends:
            return ""
        if not self.open and _fuses(self._given, self._held):
            raise self.refused("it goes on inside a word that had ended, as a new answer does")
        self.open, held, self._held = True, self._held, ""
        return held
