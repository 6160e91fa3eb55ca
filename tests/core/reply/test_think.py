"""Reasoning inside the content is told from the answer, however the text is cut."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chutes_core.reply.think import ThinkSplitter, split_whole

PIECES = ["<think>", "</think>", "<", "</", "th", "ink>", "<thi", "\n", " ", "a", "Yes", "<b>", "/think>"]
TEXTS = st.lists(st.sampled_from(PIECES), max_size=8).map("".join)


def fed(pieces: list[str], *, inside: bool = False) -> tuple[str, str]:
    """What a splitter makes of a text that comes in pieces."""
    splitter = ThinkSplitter(inside=inside)
    parts = [splitter.feed(piece) for piece in pieces] + [splitter.close()]
    return "".join(thought for thought, _ in parts), "".join(answer for _, answer in parts)


@given(TEXTS, st.booleans(), st.data())
def test_any_split_gives_the_same(text: str, inside: bool, data: st.DataObject) -> None:
    """Where the text is cut makes no difference."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    whole = fed([text], inside=inside)
    assert fed(pieces, inside=inside) == whole
    assert fed(list(text), inside=inside) == whole


@given(TEXTS, st.booleans())
def test_nothing_but_tags_and_blanks_is_lost(text: str, inside: bool) -> None:
    """Reasoning and answer together are the text, but for one pair of tags and the blanks beside them."""
    thought, answer = fed([text], inside=inside)
    opened, closed = ThinkSplitter.OPEN, ThinkSplitter.CLOSE
    possible = [thought + answer, opened + thought, opened + thought + closed + answer, thought + closed + answer]
    assert "".join(text.split()) in ["".join(each.split()) for each in possible]


CASES = [
    # content, begins inside, reasoning, answer
    ("<think>so</think>\n\nYes", False, "so", "Yes"),
    ("\n <think>so</think>Yes", False, "so", "Yes"),
    ("<think></think>Yes", False, "", "Yes"),
    ("<think>so", False, "so", ""),
    ("<think>so</thi", False, "so</thi", ""),
    ("<think>a < b </ c</think>Yes", False, "a < b </ c", "Yes"),
    (
        "<think>so</think>The tag <think> opens and </think> closes.",
        False,
        "so",
        "The tag <think> opens and </think> closes.",
    ),
    ("<think>so</think> \n", False, "so", ""),
    ("Yes", False, "", "Yes"),
    ("  Yes", False, "", "  Yes"),
    ("  ", False, "", "  "),
    ("<thi", False, "", "<thi"),
    ("<thin ice", False, "", "<thin ice"),
    ("Use <think> to think.", False, "", "Use <think> to think."),
    ("Write </think> at the end.", False, "", "Write </think> at the end."),
    ("so</think>Yes", True, "so", "Yes"),
    ("<think>so</think>Yes", True, "so", "Yes"),
    ("so it is", True, "so it is", ""),
    ("<thi", True, "<thi", ""),
    ("", False, "", ""),
    ("", True, "", ""),
]


@pytest.mark.parametrize(("content", "inside", "thought", "answer"), CASES)
def test_where_the_reasoning_ends(content: str, inside: bool, thought: str, answer: str) -> None:
    """A tag counts at the head alone, and what is cut off inside the reasoning stays reasoning."""
    assert fed([content], inside=inside) == (thought, answer)
    assert split_whole(content, inside=inside) == (thought, answer)


def test_a_closing_tag_alone_on_its_line() -> None:
    """A whole content may lack the opening tag, which stands in the model's template."""
    assert split_whole("Let me see.\n</think>\n\nYes") == ("Let me see.\n", "Yes")
    assert split_whole("</think>\n\nYes") == ("", "Yes")
    assert split_whole("<thin>\n </think> \nYes")[1] == "Yes"


def test_text_comes_as_soon_as_it_can_be_told_apart() -> None:
    """Nothing is held back but what may be the beginning of a tag."""
    splitter = ThinkSplitter()
    assert splitter.feed("<think>so ") == ("so ", "")
    assert not splitter.passes
    assert splitter.feed("it <") == ("it ", "")
    assert splitter.feed("is</think>Y") == ("<is", "Y")
    assert splitter.passes
    assert splitter.feed("es <") == ("", "es <")


def test_giving_up_returns_what_was_held() -> None:
    """When the reasoning turns out to come elsewhere, the held text is the answer's, and tags mean nothing."""
    splitter = ThinkSplitter()
    assert splitter.feed(" <th") == ("", "")
    assert splitter.stop() == " <th"
    assert splitter.feed("ink>") == ("", "ink>")
