"""Split off reasoning sent inside the content, between ``<think>`` and ``</think>``."""

from __future__ import annotations

__all__ = ["ThinkSplitter", "split_whole"]


class ThinkSplitter:
    r"""Separates ``<think>…</think>`` at the start of an answer from the answer, however the text is chunked.

    Only a tag at the very beginning counts: one inside the answer is part of it. With ``inside`` the text begins as
    reasoning, with or without the opening tag.

    >>> splitter = ThinkSplitter()
    >>> [splitter.feed(piece) for piece in ("<thi", "nk>so", " it is</th", "ink>\n\nYes")]
    [('', ''), ('so', ''), (' it is', ''), ('', 'Yes')]
    """

    OPEN, CLOSE = "<think>", "</think>"

    def __init__(self, *, inside: bool = False) -> None:
        self._blanks: list[str] = []
        self._held = ""
        self._state = "before"
        self._untagged = "inside" if inside else "answer"

    @property
    def passes(self) -> bool:
        """Whether all further text belongs to the answer."""
        return self._state == "answer"

    def stop(self) -> str:
        """Stop looking for tags and return what was held back, as part of the answer."""
        held = "".join([*self._blanks, self._held])
        self._state, self._blanks, self._held = "answer", [], ""
        return held

    def feed(self, text: str) -> tuple[str, str]:
        """Take more content and return (reasoning, answer)."""
        if self._state == "answer":
            return "", text
        if self._state == "before":
            text = self._open(text)
        self._held += text
        reasoning = self._inside() if self._state == "inside" else ""
        if self._state == "after":
            self._held = self._held.lstrip()
            self._state = "answer" if self._held else "after"
        return reasoning, self.stop() if self._state == "answer" else ""

    def close(self) -> tuple[str, str]:
        """Return what was held back for a tag that never came."""
        if self._state == "before":
            self._state = self._untagged
        inside, held = self._state == "inside", self.stop()
        return (held, "") if inside else ("", held)

    def _open(self, text: str) -> str:
        """Look for the opening tag and return what follows it; what may be its beginning is held back."""
        head = self._held + text
        if not self._held:
            head = text.lstrip()
            self._blanks.append(text[: len(text) - len(head)])
        self._held = ""
        if head.startswith(self.OPEN):
            self._blanks, self._state = [], "inside"
            return head[len(self.OPEN) :]
        if not self.OPEN.startswith(head):
            head = "".join([*self._blanks, head])
            self._blanks, self._state = [], self._untagged
        return head

    def _inside(self) -> str:
        thought, tag, rest = self._held.partition(self.CLOSE)
        if tag:
            self._held, self._state = rest, "after"
            return thought
        keep = next((n for n in range(len(self.CLOSE) - 1, 0, -1) if thought.endswith(self.CLOSE[:n])), 0)
        self._held = thought[len(thought) - keep :]
        return thought[: len(thought) - keep]


def split_whole(content: str, *, inside: bool = False) -> tuple[str, str]:
    r"""Split complete content into (reasoning, answer).

    A closing tag on its own line is enough: the opening one may be in the model's template.

    >>> split_whole("Let me see.\n</think>\n\nYes")
    ('Let me see.\n', 'Yes')
    """
    opened = content.lstrip().startswith(ThinkSplitter.OPEN)
    if not (inside or opened or ThinkSplitter.CLOSE in content):
        return "", content
    alone = not opened and any(line.strip(" \t") == ThinkSplitter.CLOSE for line in content.split("\n"))
    splitter = ThinkSplitter(inside=inside or alone)
    thought, answer = splitter.feed(content)
    rest_thought, rest_answer = splitter.close()
    return thought + rest_thought, answer + rest_answer
