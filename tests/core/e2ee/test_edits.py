"""Whatever a relay without keys does to the parts of a stream: the original answer, or an error."""

from __future__ import annotations

import json
from typing import Any

import pytest
import sealed_edits
from hypothesis import given, settings
from hypothesis import strategies as st

from chutes_core.calls.effects import run
from chutes_core.e2ee.frames import FrameReader
from chutes_core.e2ee.seal import SealBrokenError
from chutes_core.errors import APIError
from chutes_local.wire.seal import ReplySeal

from .edits import ERROR, FOREIGN, LATE, OTHER, REPEATED, SAME, SPOKEN, THOUGHT, Relay, parts_of, tried
from .machine import asked
from .service import ANSWER, INFO, Hand, Service, WireFailure, planned, sealed_path

CALL = {"id": "call_1", "type": "function", "function": {"name": "pay", "arguments": '{"amount": 1250}'}}
CALLS = {
    **ANSWER,
    "choices": [{"index": 0, "message": {"content": None, "tool_calls": [CALL]}, "finish_reason": "tool_calls"}],
}
TOOLS = [{"type": "function", "function": {"name": "pay", "parameters": {"type": "object"}}}]


def test_no_edit_comes_to_another_answer() -> None:
    """Each kind of edit at each place: of answers with reasoning and without, of engines that count in two ways."""
    found = tried()
    assert {kind: outcomes[OTHER] for kind, outcomes in found.items()} == dict.fromkeys(found, 0)
    assert all(outcomes[ERROR] for outcomes in found.values())


@settings(max_examples=40)
@given(st.data())
def test_nor_do_several(data: st.DataObject) -> None:
    """Any sequence of parts, some twice, some foreign, some not at all."""
    words = data.draw(st.sampled_from([SPOKEN, THOUGHT, REPEATED]))
    relay = Relay(words, clear=data.draw(st.booleans()), **data.draw(st.sampled_from([{}, LATE])))
    sent = data.draw(st.lists(st.integers(FOREIGN, relay.count - 1), max_size=relay.count + 2))
    assert relay.outcome(sent) in (SAME, ERROR)


@pytest.mark.parametrize("ends", [0, 1])
@pytest.mark.parametrize("role", [0, 1])
@pytest.mark.parametrize("total", [0, 1])
def test_what_remains_is_in_the_first_answer_of_a_model(total: int, role: int, ends: int) -> None:
    """As docs/privacy.md says: the last part, where the end counts no token, and the two where reasoning ends."""
    for words, lost in ((SPOKEN, [len(SPOKEN)]), (THOUGHT, [2, 3, len(THOUGHT)])):
        changed = []
        for place in range(len(words) + 4):
            relay = Relay(words, clear=False, knows=False, role=role, ends=ends, total=total)
            if relay.outcome([each for each in range(relay.count) if each != place]) == OTHER:
                changed.append(place)
        assert changed == (lost if ends == 0 else lost[:-1])


def test_a_model_whose_parts_do_not_add_up_is_asked_for_its_answer_in_one_piece() -> None:
    """At once if nothing was given out yet, and from then on."""
    service = Service()
    path = sealed_path(service)

    def packed(service: Service, reply: ReplySeal, body: dict[str, Any]) -> list[bytes]:
        chunk = {"id": "1", "model": INFO.id, "choices": [{"index": 0, "delta": {"content": "On the"}}]}
        chunk["usage"] = {"completion_tokens": 2}
        return [reply.begin(), reply.frame(b"data: " + json.dumps(chunk).encode())]

    service.script = [packed]
    for _ in range(2):
        flow, _call = planned(service, path, stream=True)
        assert run(flow, Hand(service)).content == "On the floes."
    assert [body["stream"] for body in service.bodies] == [True, False, False]


@pytest.mark.parametrize(
    ("delta", "usage"),
    [({"content": "On"}, None), ({"tool_calls": [{"index": 0, **CALL}]}, {"completion_tokens": 1})],
    ids=["no count", "tool call"],
)
@pytest.mark.parametrize("how", ["counted", "ordered"])
def test_a_machine_that_does_not_count_is_not_streamed(how: str, delta: Any, usage: Any) -> None:
    """Nothing of its first stream is given out either, nor of a tool call that nobody asked for: at once, in the same
    attempt, it is asked in one piece.
    """

    def silent(service: Service, reply: ReplySeal, body: dict[str, Any]) -> list[bytes]:
        chunk = {"id": "1", "model": INFO.id, "choices": [{"index": 0, "delta": delta}], "usage": usage}
        return [reply.begin(), reply.frame(b"data: " + json.dumps(chunk).encode())]

    service = Service(script=[silent])
    path = sealed_path(service, streams=how)
    for _ in range(2):
        flow, _call = planned(service, path, stream=True, retries=0)
        assert run(flow, Hand(service)).content == "On the floes."
    assert [body["stream"] for body in service.bodies] == [True, False, False]


def test_another_failure_of_a_stream_is_no_reason_to_ask_at_once() -> None:
    """Not even where other calls have shown that the model is not to be streamed: a retry waits."""
    service = Service()
    path = sealed_path(service)

    def busy(service: Service, reply: ReplySeal, body: dict[str, Any]) -> list[bytes]:
        path.habits(str(INFO.chute_id)).packs = True
        raise WireFailure("connect", "no route")

    service.script = [busy]
    flow, _ = planned(service, path, stream=True, retries=0)
    with pytest.raises(APIError, match="no route"):
        run(flow, Hand(service))


@pytest.mark.parametrize("end", ["closed", "reset", "late", "marked"])
def test_an_end_that_counts_nothing_is_none_before_the_total_has_come(end: str) -> None:
    """Else the last parts could be left out together with it, however the relay then ends the stream."""

    def cut(service: Service, reply: ReplySeal, body: dict[str, Any]) -> list[Any]:
        begin, parts = reply.begin(), parts_of(reply, SPOKEN, clear=False, **LATE)
        tails = {"reset": WireFailure("broken", "reset"), "late": WireFailure("timeout", "late"), "marked": parts[-1]}
        return [begin, *parts[:3], parts[-3], *([tails[end]] if end in tails else [])]

    service = Service(script=[cut])
    path = sealed_path(service)
    flow, _ = planned(service, path, stream=True, retries=0)
    with pytest.raises(APIError) as caught:
        run(flow, Hand(service))
    assert caught.value.partial == "amount: 1"
    # A machine that marks the end of an answer without its total will do so again.
    assert path.habits(str(INFO.chute_id)).packs is (end == "marked")


@pytest.mark.parametrize(("counts", "fits"), [((1, 1, 2), False), ((2, 4, 4), False), ((2, 4, 7), True)])
def test_parts_that_only_have_to_be_in_order_count_on(counts: tuple[int, ...], fits: bool) -> None:
    """Of two that count as many tokens nobody could tell which was the first."""
    key, reply = asked()
    reader = FrameReader(key, counted=False)
    begin, parts = reply.begin(), []
    for word, count in zip("abc", counts, strict=True):
        chunk = {"id": "1", "model": "m", "choices": [{"index": 0, "delta": {"content": word}}]}
        parts.append(reply.frame(b"data: " + json.dumps({**chunk, "usage": {"completion_tokens": count}}).encode()))
    if fits:
        assert reader.feed(b"".join([begin, *parts])).count(b"data: {") == 3
    else:
        with pytest.raises(SealBrokenError, match="may have been exchanged"):
            reader.feed(b"".join([begin, *parts]))


@pytest.mark.parametrize(("how", "streamed"), [("counted", False), ("whole", False), ("ordered", True)])
def test_the_caller_decides_how_it_is_streamed(how: str, streamed: bool) -> None:
    """In parts that need not add up, or never in parts."""
    service = Service()
    path = sealed_path(service, streams=how)
    path.habits(str(INFO.chute_id)).packs = True
    flow, _ = planned(service, path, stream=True)
    run(flow, Hand(service))
    assert [body["stream"] for body in service.bodies] == [streamed]


@pytest.mark.parametrize(
    "params",
    [
        {"tools": TOOLS},
        {"response_format": {"type": "json_object"}},
        {"stop": ["."]},
        {"n": 2},
        *({"extra_body": {name: "x"}} for name in ("guided_regex", "regex", "ebnf", "structural_tag", "stop_regex")),
    ],
    ids=str,
)
def test_what_is_acted_on_comes_in_one_piece(params: dict[str, Any]) -> None:
    """Tool calls and objects; and what cannot be counted."""
    service = Service(script=[lambda s, r, b: [r.whole(json.dumps(CALLS).encode())]])
    flow, _ = planned(service, sealed_path(service), stream=True, retries=0, params=params)
    if params.get("n"):
        with pytest.raises(APIError):  # the second answer is missing
            run(flow, Hand(service))
    else:
        reply = run(flow, Hand(service))
        assert [(each.id, each.args) for each in reply.tool_calls] == [("call_1", {"amount": 1250})]
    assert "stream_options" not in service.bodies[0]
    assert service.bodies[0]["stream"] is False


@settings(max_examples=40)
@given(st.data())
def test_a_tool_call_never_changes(data: st.DataObject) -> None:
    """It is one seal: a changed byte, a cut, another one put in its place."""

    def changed(service: Service, reply: ReplySeal, body: dict[str, Any]) -> list[bytes]:
        blob = bytearray(reply.whole(json.dumps(CALLS).encode()))
        how = data.draw(st.sampled_from(["flip", "cut", "more", "twice"]))
        if how == "flip":
            blob[data.draw(st.integers(0, len(blob) - 1))] ^= data.draw(st.integers(1, 255))
        elif how == "cut":
            del blob[data.draw(st.integers(0, len(blob) - 1)) :]
        else:
            blob += bytes(blob) if how == "twice" else data.draw(st.binary(min_size=1, max_size=40))
        return [bytes(blob)]

    service = Service(script=[changed])
    flow, _ = planned(service, sealed_path(service), stream=True, retries=0, params={"tools": TOOLS})
    with pytest.raises(APIError):
        run(flow, Hand(service))


def test_an_answer_of_another_model_is_refused_before_anything_is_given_out() -> None:
    """In one piece and as a stream."""
    for stream in (False, True):

        def another(service: Service, reply: ReplySeal, body: dict[str, Any]) -> list[bytes]:
            if not body["stream"]:
                return [reply.whole(json.dumps({**ANSWER, "model": "acme/other"}).encode())]
            chunk = {"id": "1", "model": "acme/other", "choices": [{"index": 0, "delta": {"content": "On"}}]}
            chunk["usage"] = {"completion_tokens": 1}
            return [reply.begin(), reply.frame(b"data: " + json.dumps(chunk).encode())]

        service = Service(script=[another])
        flow, _ = planned(service, sealed_path(service), stream=stream, retries=0)
        with pytest.raises(APIError, match="the answer is of 'acme/other', which was not asked") as caught:
            run(flow, Hand(service))
        assert caught.value.partial == ""


def test_a_reply_says_what_its_machine_proved() -> None:
    """Which machine, which system, how far it was checked, and when."""
    service = Service()
    for stream in (False, True):
        flow, _ = planned(service, sealed_path(service), stream=stream)
        found = run(flow, Hand(service)).meta.attested
        assert found.machine.startswith("machine-")
        assert found.measured_as == "embedded server (no hardware) 0"
        assert found.verify == "binding"
        assert found.at.endswith("+00:00")
    flow, _ = planned(service, sealed_path(service, verify="off"))
    assert run(flow, Hand(service)).meta.attested is None


def test_the_page_says_what_came_of_them() -> None:
    """The table in docs/privacy.md is a run of the edits."""
    page = sealed_edits.PAGE.read_text("utf-8")
    assert sealed_edits.renewed(page) == page
