"""The encrypted stream: read as it was sent, or an error; never something else."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chutes_core.e2ee import frames
from chutes_core.e2ee.frames import AnotherAnswerError, FrameReader, Habits, MachineError, UncountedError
from chutes_core.e2ee.seal import SealBrokenError
from chutes_local.wire.seal import event

from .machine import WORDS, asked, chunk, plain_events, read, sealed_lines, text_of

ANSWER = "".join(WORDS)
MODEL = "acme/sea-TEE"


@given(st.data())
def test_however_it_is_cut_into_reads_the_text_is_the_same(data: st.DataObject) -> None:
    """Any split of the bytes, down to one at a time."""
    key, reply = asked()
    whole = b"".join(sealed_lines(reply))
    cuts = sorted(data.draw(st.sets(st.integers(0, len(whole)), max_size=40)))
    blocks = [whole[start:end] for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    assert text_of(read(key, blocks)) == ANSWER


@settings(max_examples=400)
@given(st.data())
def test_a_changed_byte_anywhere_is_an_error(data: st.DataObject) -> None:
    """In a sealed frame, in the clear usage, in the beginning, in what stands between them."""
    key, reply = asked()
    lines = sealed_lines(reply)
    whole = bytearray(b"".join(lines))
    # After the line of the sealed end marker nothing is read any more.
    place = data.draw(st.integers(0, len(whole) - 3))
    whole[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises((SealBrokenError, MachineError)):
        read(key, [bytes(whole)])


@settings(max_examples=50)
@given(st.data())
def test_every_line_is_guarded(data: st.DataObject) -> None:
    """The same, with each sort of line as often as the others, so that short ones are not missed."""
    key, reply = asked()
    lines = sealed_lines(reply)
    which = data.draw(st.integers(0, len(lines) - 2))
    line = bytearray(lines[which])
    line[data.draw(st.integers(0, len(line) - 1))] ^= data.draw(st.integers(1, 255))
    with pytest.raises((SealBrokenError, MachineError)):
        read(key, [*lines[:which], bytes(line), *lines[which + 1 :]])


@given(st.data())
def test_a_cut_is_an_error_or_lacks_the_end(data: st.DataObject) -> None:
    """Inside a frame it is told here; between two of them the end marker is missing, which the guard sees."""
    key, reply = asked()
    whole = b"".join(sealed_lines(reply))
    end = data.draw(st.integers(0, len(whole) - 3))
    reader = FrameReader(key)
    reader.feed(whole[:end])
    assert not reader.done
    if whole[:end] and not whole[:end].endswith(b"\n"):
        with pytest.raises(SealBrokenError, match="inside a frame"):
            reader.close()
    else:
        reader.close()


def test_what_follows_the_sealed_end_is_not_read() -> None:
    """The answer is whole, and nothing can be added to it."""
    key, reply = asked()
    lines = sealed_lines(reply)
    assert text_of(read(key, [*lines, b"garbage\n", reply.frame(plain_events()[0])])) == ANSWER


def test_a_frame_that_comes_twice_is_an_error() -> None:
    """A replay, with and without the usage beside it."""
    for again in ([3, 4], [4]):
        key, reply = asked()
        lines = sealed_lines(reply)
        with pytest.raises(SealBrokenError, match=r"a second time"):
            read(key, [*lines[:5], *(lines[place] for place in again), *lines[5:]])


def test_frames_in_another_order_are_an_error() -> None:
    """Each counts the tokens so far, and one that counts fewer than the one before came too late."""
    key, reply = asked()
    lines = sealed_lines(reply)
    with pytest.raises(SealBrokenError, match="out of order"):
        read(key, [*lines[:3], *lines[5:7], *lines[3:5], *lines[7:]])


def test_frames_in_another_order_are_an_error_without_a_usage_in_the_clear_too() -> None:
    """The service passes no usage on, and a gateway could leave it out: the sealed one tells the order."""
    key, reply = asked()
    begin, *frames = [line for line in sealed_lines(reply) if not line.startswith(b'data: {"usage"')]
    with pytest.raises(SealBrokenError, match="out of order"):
        read(key, [begin, frames[0], frames[2], frames[1], *frames[3:]])


def test_counts_of_several_choices_do_not_mix() -> None:
    """An engine counts for each choice by itself, and for all at the end."""
    key, reply = asked()
    first, second, total = chunk("a", 1), chunk("b", 1), chunk("", 2)
    second["choices"][0]["index"] = 1
    total["choices"] = []
    events = [b"data: " + json.dumps(each).encode() + b"\n\n" for each in (first, second, total)]
    assert read(key, sealed_lines(reply, [*events, b"data: [DONE]\n\n"])).count(b"data: {") == 3


@pytest.mark.parametrize("usage", [None, {"completion_tokens": "many"}, {}, {"completion_tokens": True}])
def test_a_usage_without_numbers_ends_the_streaming(usage: object) -> None:
    """Before anything is passed on, and after others that had a number; and the model is not streamed again."""
    inside = b"data: " + json.dumps({**chunk("a", 1), "usage": usage}).encode() + b"\n\n"
    key, reply = asked()
    habits = Habits()
    with pytest.raises(UncountedError, match="does not say how many tokens"):
        read(key, [reply.begin(), event({"usage": usage}), reply.frame(inside)], habits=habits)
    assert habits.silent
    key, reply = asked()
    with pytest.raises(UncountedError, match="does not say how many tokens"):
        read(key, [reply.begin(), reply.frame(plain_events()[0]), reply.frame(inside)])


def is_asked(model: object) -> bool:
    return model == MODEL


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"id": None}, "does not say which answer"),
        ({"id": ""}, "does not say which answer"),
        ({"model": "acme/other"}, "is of 'acme/other', which was not asked"),
        ({"model": None}, "names no model"),
        ({"choices": [{"delta": {"content": "a"}}]}, "does not say which choice"),
        ({"choices": [{"index": "0", "delta": {"content": "a"}}]}, "does not say which choice"),
    ],
)
def test_a_part_has_to_say_what_it_is_of(change: dict[str, object], said: str) -> None:
    """Its answer, its choice, and the model that was asked: before anything is passed on, and in the middle."""
    odd = b"data: " + json.dumps({**chunk(" b", 2), **change}).encode() + b"\n\n"
    key, reply = asked()
    with pytest.raises(SealBrokenError, match=said):
        read(key, [reply.begin(), reply.frame(odd)], answers=is_asked)
    key, reply = asked()
    reader = FrameReader(key, is_asked)
    assert reader.feed(reply.begin() + reply.frame(plain_events()[0]))
    with pytest.raises(SealBrokenError, match=said):
        reader.feed(reply.frame(odd))


def test_a_part_of_another_answer_is_an_error() -> None:
    """Of the same machine, under the same key."""
    key, reply = asked()
    other = plain_events()[1].replace(b"c1", b"c2")
    with pytest.raises(AnotherAnswerError):
        read(key, [reply.begin(), reply.frame(plain_events()[0]), reply.frame(other)])


@pytest.mark.parametrize(
    ("counts", "fits"),
    [
        ([(0, ""), (1, "a"), (2, "b")], True),
        ([(1, ""), (1, "a"), (2, "b")], True),  # the opening counts the first token
        ([(1, ""), (2, "b")], False),
        ([(2, "b")], False),
        ([(0, "a"), (1, "b")], False),  # or the first could be gone
        ([(1, "a"), (3, "c")], False),
        ([(1, "a"), (1, "b")], False),
        ([(1, "a"), (5, " \U0001f6ab")], True),  # four bytes, of which some engines show the last alone
        ([(1, "a"), (6, " \U0001f6ab")], False),
        ([(1, "a"), (3, "\u4e2d")], False),
    ],
)
def test_every_part_counts_one_token_more(counts: list[tuple[int, str]], fits: bool) -> None:
    """What opens an answer shows nothing; no two parts count the same."""
    key, reply = asked()
    begin = reply.begin()
    frames = [reply.frame(b"data: " + json.dumps(chunk(text, count)).encode()) for count, text in counts]
    if fits:
        assert text_of(read(key, [begin, *frames])) == "".join(text for _, text in counts)
    else:
        with pytest.raises(UncountedError, match="missing or arrived out of order"):
            read(key, [begin, *frames])


@pytest.mark.parametrize("total", [False, True], ids=["counted end", "total after it"])
@pytest.mark.parametrize(
    ("end", "more", "fits"),
    [
        ("stop", 0, True),
        ("stop", 1, True),  # the token that ends an answer
        ("stop", 2, False),
        ("length", 0, True),
        ("length", 1, False),  # no token ends an answer that was cut: the last one was taken out
    ],
)
def test_an_end_counts_one_token_at_the_most(end: str, more: int, fits: bool, total: bool) -> None:
    """And none where the limit ended the answer; whether it counts itself or the total after it does."""
    key, reply = asked()
    ends, after = chunk("", 1 + more, end), {**chunk("", 1 + more), "choices": []}
    if total:
        del ends["usage"]
    events = [chunk("a", 1), ends, after]
    parts = [reply.begin(), *(reply.frame(b"data: " + json.dumps(each).encode()) for each in events)]
    if fits:
        assert read(key, parts).count(b"data: {") == 3
    else:
        with pytest.raises(UncountedError, match="missing or arrived out of order"):
            read(key, parts)


@pytest.mark.parametrize("stated", [{"completion_tokens": 9}, None])
def test_a_usage_in_the_clear_that_is_not_the_sealed_one_is_an_error(stated: object) -> None:
    """Somebody changed the bill, or the answer."""
    key, reply = asked()
    inside = plain_events()[0]
    with pytest.raises(SealBrokenError, match="differs from the sealed one"):
        read(key, [reply.begin(), event({"usage": stated}), reply.frame(inside)])


def test_a_usage_that_no_frame_confirms_is_an_error() -> None:
    """Two in a row, or one before what is no event at all."""
    key, reply = asked()
    with pytest.raises(SealBrokenError, match="twice"):
        read(key, [reply.begin(), event({"usage": None}), event({"usage": None})])
    with pytest.raises(SealBrokenError, match="differs from the sealed one"):
        read(key, [reply.begin(), event({"usage": None}), reply.frame(b"no event")])


def test_without_usage_in_the_clear_the_stream_reads_the_same() -> None:
    """It is for the service's bill, not for us."""
    key, reply = asked()
    assert text_of(read(key, [reply.begin(), *map(reply.frame, plain_events())])) == ANSWER


def test_an_answer_in_the_clear_is_an_error() -> None:
    """Nobody may go on with the answer outside the seal."""
    key, reply = asked()
    with pytest.raises(SealBrokenError):
        read(key, [reply.begin(), *plain_events()])


def test_an_end_marker_in_the_clear_ends_nothing() -> None:
    """It is passed over; the sealed one is still to come."""
    key, reply = asked()
    reader = FrameReader(key)
    assert reader.feed(reply.begin() + b"data: [DONE]\n\n") == b""
    assert not reader.done


@pytest.mark.parametrize(
    "line",
    [
        b"data: {}\n",
        b'data: {"e2e":"AA==","usage":null}\n',
        b'data: {"other":1}\n',
        b'data: {"e2e":1}\n',
        b'data: {"e2e":"AA=="}\n',
        b'data:{"usage":null}\n',
        b": comment\n",
        b"event: message\n",
        b'{"error":"exhausted"}\n',
        b"data: {" + b"[" * 100_000 + b"}\n",
    ],
)
def test_a_line_of_another_form_is_an_error(line: bytes) -> None:
    """An unknown part, several parts, another spelling of an event, a bare body."""
    key, reply = asked()
    with pytest.raises(SealBrokenError):
        read(key, [reply.begin(), line])


def test_the_beginning_comes_once_and_first() -> None:
    """A frame before it, and a second e2e_init, are errors."""
    key, reply = asked()
    begin = reply.begin()
    with pytest.raises(SealBrokenError, match="before the key"):
        read(key, [reply.frame(b"x")])
    with pytest.raises(SealBrokenError, match="second e2e_init"):
        read(key, [begin, begin])


def test_an_error_of_the_machine_is_handed_on() -> None:
    """With what it said, and without a word of the answer."""
    key, reply = asked()
    with pytest.raises(MachineError) as caught:
        read(key, [reply.begin(), event({"e2e_error": "out of memory"})])
    assert caught.value.body == "out of memory"
    assert str(caught.value) == "the machine reported an error"


def test_what_a_machine_said_before_its_error_is_read_first() -> None:
    """The network may join them; the next bytes, if any come, are not read."""
    key, reply = asked()
    reader = FrameReader(key)
    error = b'data: {"e2e_error": "out of memory"}\n'
    assert reader.feed(reply.begin() + reply.frame(b"data: {}") + error) == b"data: {}\n\n"
    with pytest.raises(MachineError):
        reader.feed(reply.frame(b"data: {}"))


def test_a_line_without_an_end_does_not_grow_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """At some length it is an error."""
    monkeypatch.setattr(frames, "MAX_LINE", 1000)
    key, _ = asked()
    reader = FrameReader(key)
    assert reader.feed(b"0" * 1000) == b""
    with pytest.raises(SealBrokenError, match="longer than 1,000 bytes"):
        reader.feed(b"0")


def looked_at(monkeypatch: pytest.MonkeyPatch, size: int, step: int) -> int:
    """How many bytes of its own store a reader looks at while a line of this size comes in steps of that one."""
    looked = [0]

    class Counting(bytearray):
        def __bytes__(self) -> bytes:
            looked[0] += len(self)
            return bytes(memoryview(self))

    monkeypatch.setattr(frames, "bytearray", Counting, raising=False)
    key, _ = asked()
    reader = FrameReader(key)
    for start in range(0, size, step):
        assert reader.feed(b"0" * min(step, size - start)) == b""
    with pytest.raises(SealBrokenError, match="not a valid frame"):
        reader.feed(b"\n")
    return looked[0]


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_a_long_line_is_looked_at_once(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """However small the pieces are in which it comes, ten times the length is ten times the work."""
    assert looked_at(monkeypatch, 5_000, step) == 5_001
    assert looked_at(monkeypatch, 50_000, step) == 50_001


def test_the_limit_is_that_of_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many lines at once are no long one, and a long one is none because others come with it."""
    monkeypatch.setattr(frames, "MAX_LINE", 3000)
    key, reply = asked()
    reader = FrameReader(key)
    lines = b"".join([reply.begin(), *(reply.frame(b"data: {}") for _ in range(30))])
    assert len(lines) > 3000
    assert reader.feed(lines) == b"data: {}\n\n" * 30
    with pytest.raises(SealBrokenError, match="longer than 3,000 bytes"):
        reader.feed(b"data: " + b"0" * 3000 + b"\n" + reply.frame(b"data: {}"))


def test_a_frame_of_several_lines_stays_what_it_was() -> None:
    """A frame may hold a whole event with its blank line, one line, or a bare body at the end."""
    key, reply = asked()
    plain = read(key, [reply.begin(), reply.frame(b'data: {"a": 1}'), reply.frame(b'{"error": "x"}')])
    assert plain == b'data: {"a": 1}\n\n{"error": "x"}\n\n'
