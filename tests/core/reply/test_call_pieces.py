"""The pieces of a tool call add up to it, whatever it is."""

from __future__ import annotations

import json

import pytest

from chutes_core.reply.assemble import ChoiceDraft, ToolDraft
from chutes_core.reply.call_pieces import CallPiece, CallPieces
from chutes_core.reply.think import ThinkSplitter
from chutes_core.response import ToolCallDelta


def streamed(text: str, size: int = 1) -> tuple[list[CallPiece], list[CallPiece]]:
    """What is given out of a call while it arrives, and at its end; an invalid one ends in a bang."""
    pieces = CallPieces(lambda text, shown: text[shown:] + "!")
    deltas = [ToolCallDelta(0, None, None, text[start : start + size]) for start in range(0, len(text), size)]
    early = [piece for delta in deltas for piece in pieces.step([delta])]
    draft = ChoiceDraft(0, ThinkSplitter(), tools={0: ToolDraft("call_7", "pay", [text])}, finish_reason="tool_calls")
    return early, list(pieces.end(draft.finished("1")))


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_valid_call_is_the_sum_of_its_pieces(size: int) -> None:
    """Long arguments come in fewer pieces than they have parts, and the id with the last if no other had it."""
    text = json.dumps({"note": "so " * 300})
    early, late = streamed(text, size)
    assert "".join(piece.arguments for piece in early + late) == text
    assert len(early) < 200
    assert [piece.id for piece in early + late if piece.id] == ["call_7"]


def test_an_invalid_call_ends_as_the_framework_needs_it() -> None:
    """After as much as was given out; what is long and may be no JSON is not for the framework to parse."""
    early, late = streamed('{"note": "' + "so " * 300)
    assert "".join(piece.arguments for piece in early + late).endswith("so !")
    assert not all(piece.parsed for piece in streamed("[" * 1000)[1])


def test_arguments_that_do_not_begin_as_an_object_wait_for_the_end() -> None:
    """A model that writes the object as a string has made a valid call, which is given out whole."""
    early, late = streamed(json.dumps(json.dumps({"amount": 1})))
    assert early == []
    assert [json.loads(piece.arguments) for piece in late] == [{"amount": 1}]


def test_a_call_in_one_delta_is_given_out_at_once() -> None:
    """With its id and its name."""
    pieces = CallPieces(lambda text, shown: text)
    assert list(pieces.step([ToolCallDelta(2, "call_2", "pay", "{}")])) == [
        CallPiece(2, "{}", "call_2", "pay", parsed=True)
    ]
