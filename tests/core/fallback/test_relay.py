"""What of an attempt is given out, and when: one table, for every mode."""

from __future__ import annotations

from typing import Any, Literal

import pytest

from chutes_core import Kind
from chutes_core.failures.reading import failure
from chutes_core.fallback import Call, FallbackPolicy, GiveUp, Health, Member, Try
from chutes_core.fallback.carried import Carried
from chutes_core.fallback.relay import Relay, Restart
from chutes_core.reply.structured import Form
from chutes_core.response import Choice, Delta, Reply, ToolCallDelta
from chutes_core.usage import Usage

ROLE, TEXT, MORE, BLANK = Delta(), Delta("Fo"), Delta("ur"), Delta("\n\n")
THOUGHT, CALL = Delta(reasoning="Hm."), Delta(tool_calls=[ToolCallDelta(0, "1", "pay", '{"a": 1}')])
PICTURE, WHOLE = Carried(origin="picture", shown=True), Reply(None, None, (Choice(0, "Four", "", (), (), "stop"),))
Mode = Literal["raise", "hold", "restart"]


def relay(mode: Mode = "raise", **options: Any) -> Relay:
    """A relay in the middle of its first attempt."""
    members = [Member("one"), Member("two")]
    call = Call(members, FallbackPolicy(after_commit=mode), Health(), now=lambda: 0.0, visible=True)
    made = Relay(call, **options)
    step = call.next()
    assert isinstance(step, Try)
    assert not made.begin(step)
    return made


def died(made: Relay) -> list[Delta] | None:
    """Let the attempt die; return what comes before the next one, or None if there is none."""
    made.broke(failure(Kind.RESET), Try(Member("one"), made.call.policy))  # type: ignore[arg-type]
    step = made.call.next()
    return None if isinstance(step, GiveUp) else list(made.begin(step))  # type: ignore[arg-type]


@pytest.mark.parametrize("mode", ["raise", "hold", "restart"])
@pytest.mark.parametrize(
    ("deltas", "given", "commits"),
    [
        ([ROLE, TEXT, MORE], [[], [ROLE, TEXT], [MORE]], True),
        ([BLANK, BLANK, TEXT], [[], [], [BLANK, BLANK, TEXT]], True),
        ([ROLE, BLANK], [[], []], False),
        ([ROLE, THOUGHT, THOUGHT], [[], [ROLE, THOUGHT], [THOUGHT]], False),
        ([THOUGHT, TEXT], [[THOUGHT], [TEXT]], True),
        ([CALL, CALL], [[], []], False),
        ([THOUGHT, CALL], [[THOUGHT], []], False),
        ([TEXT, CALL, MORE], [[TEXT], [], [MORE]], True),
        ([PICTURE], [[PICTURE]], True),
    ],
)
def test_what_is_given_out_and_what_commits(mode: Mode, deltas: Any, given: Any, commits: bool) -> None:
    """Text commits, reasoning goes out and is void, calls wait; with hold all of it waits."""
    made = relay(mode)
    got = [list(made.take(delta)) for delta in deltas]
    assert got == (given if mode != "hold" else [[]] * len(deltas))
    seen = mode != "hold" and any(each is not ROLE for part in given for each in part)
    after = died(made)
    if commits and mode == "raise":
        assert after is None
    else:
        assert after == ([Restart(model="two", text=commits)] if seen else [])


@pytest.mark.parametrize("mode", ["raise", "hold", "restart"])
def test_a_whole_answer_comes_out_whole(mode: Mode) -> None:
    """Calls last, and nothing twice or lost."""
    made = relay(mode)
    deltas = [ROLE, THOUGHT, BLANK, TEXT, CALL, MORE, Delta(usage=Usage(1, 2, 3))]
    out = [each for delta in deltas for each in made.take(delta)]
    out += made.end(WHOLE)
    kept = [each for each in out if each is not CALL]
    assert kept == [each for each in deltas if each is not CALL]
    assert (out[-1] is CALL) is (mode != "hold")
    assert sum(each is CALL for each in out) == 1
    assert made.latest is WHOLE


def test_reasoning_may_have_to_wait() -> None:
    """For a reader who cannot be told that it is void."""
    made = relay(thinks=False)
    assert [list(made.take(each)) for each in (THOUGHT, TEXT)] == [[], [THOUGHT, TEXT]]


def test_a_reader_of_objects_sees_the_first_value() -> None:
    """In text as in calls, and nothing before."""
    made = relay(objects=Form({}))
    text, value = Delta('{"name": '), Delta('"Ada"')
    assert [list(made.take(each)) for each in (THOUGHT, text, value, CALL)] == [[], [], [THOUGHT, text, value], [CALL]]
    assert died(made) is None


def test_a_second_death_is_marked_once() -> None:
    """What is void already is not made void again."""
    made = relay("restart")
    made.take(TEXT)
    assert died(made) == [Restart(model="two", text=True)]
    made.take(ROLE)
    made.broke(failure(Kind.COLD), Try(Member("two"), made.call.policy))  # type: ignore[arg-type]
    while not isinstance(step := made.call.next(), Try):
        assert not isinstance(step, GiveUp)
    assert list(made.begin(step)) == []


def test_text_beside_a_call_does_not_wait() -> None:
    """It would come behind what follows it."""
    made = relay()
    both = Delta("ur", tool_calls=CALL.tool_calls)
    assert [list(made.take(each)) for each in (TEXT, both, MORE)] == [[TEXT], [Delta("ur")], [MORE]]
    assert list(made.end(WHOLE)) == [Delta(tool_calls=CALL.tool_calls)]


@pytest.mark.parametrize("mode", ["raise", "restart", "resume"])
def test_the_end_comes_last(mode: Any) -> None:
    """Behind the last word, and behind calls."""
    made = relay(mode)
    end = Delta(finish_reason="tool_calls", usage=Usage(1, 2, 3))
    words = Delta("The answer is forty-two, as ever")
    out = [each for delta in (words, CALL, end) for each in made.take(delta)]
    made.accept(WHOLE)
    out += made.end(WHOLE)
    assert "".join(each.content for each in out) == words.content
    assert [bool(each.tool_calls) for each in out][-2:] == [True, False]
    assert out[-1] is end


def test_blank_text_is_not_given_out_with_reasoning() -> None:
    """It is text, which reasoning's marker does not void."""
    made = relay()
    assert [list(made.take(each)) for each in (BLANK, THOUGHT, Delta("\n", "Hm."))] == [
        [],
        [THOUGHT],
        [Delta("", "Hm.")],
    ]
    assert died(made) == [Restart(model="two", text=False)]
    made = relay()
    given = [each for delta in (BLANK, THOUGHT, TEXT) for each in made.take(delta)]
    assert "".join(each.content for each in given) == "\n\nFo"


def test_where_json_is_asked_for_a_call_is_none() -> None:
    """It waits until it is whole, and commits nobody."""
    made = relay(objects=Form({}), form=Form({}))
    assert list(made.take(CALL)) == []
    assert died(made) == []
