"""An answer that begins anew in the same stream: the same one, as far as it was given out, or another.

The gateway heals a machine that dies by asking the next one, in the middle of the stream. If what that one says is what
was given out already, word for word, the answer simply goes on behind it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from chutes_core.response import Delta

__all__ = ["Replay"]


@dataclass(slots=True)
class Replay:
    """Compares a second beginning with what was given out of the first.

    Attributes:
        thought: The reasoning that was given out, as far as it has not come again.
        said: The text, likewise.

    >>> replay = Replay("", "The answer is")
    >>> [replay.step(Delta(text)) for text in ("The answer", " is 42")][-1].content, replay.over
    (' 42', True)
    """

    thought: str
    said: str

    @property
    def over(self) -> bool:
        """Whether all of it has come again."""
        return not (self.thought or self.said)

    def step(self, delta: Delta) -> Delta | None:
        """Return what a delta adds to what was given out; None if it is something else."""
        reasoning, content = _behind(self.thought, delta.reasoning), _behind(self.said, delta.content)
        if reasoning is None or content is None or (reasoning and self.said):
            return None
        self.thought, said = self.thought[len(delta.reasoning) :], self.said[len(delta.content) :]
        if (self.thought and (delta.content or delta.tool_calls)) or (said and delta.tool_calls):
            return None  # it comes to the point, or acts, sooner than before
        self.said = said
        return replace(delta, reasoning=reasoning, content=content)


def _behind(given: str, text: str) -> str | None:
    """Return what a text adds behind what was given out; None if it differs."""
    if given.startswith(text):
        return ""
    return text[len(given) :] if text.startswith(given) else None
