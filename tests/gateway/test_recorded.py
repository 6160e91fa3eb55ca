"""What the service's own code answered, through every reader of ours, in three framings."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from chutes_local.wire.seal import MachineKey, possible

from . import surfaces
from .framings import FRAMINGS, Answers, Sent, plain
from .recordings import BY_NAME, CASES, LEFT_OUT, RECORDINGS, Case

READ = [case for case in CASES if case.reader]
OPEN = [
    case for case in READ if case.reader not in ("discovery", "sealed", "sealed_stream", "sealed_whole", "evidence")
]
SEALED = [case for case in READ if case not in OPEN]
LIST: dict[str, str] = {"content-type": "application/json"}


def _json(value: Any) -> Sent:
    return Sent(200, LIST, [json.dumps(value).encode()])


def readers(case: Case) -> dict[str, surfaces.Reader]:
    """Who reads the reply of a case."""
    if case.reader in ("chat", "stream"):
        return surfaces.CHAT
    if case.reader == "embed":
        return surfaces.EMBED
    if case.reader == "traced":
        return surfaces.TRACED
    return {each.__name__: each for each in surfaces.PAGES[str(case.reader)]}


def expected(case: Case, reader: surfaces.Reader) -> dict[str, Any]:
    """What one of the readers can show of what is to come out: the frameworks have no place for every count."""
    ours = case.ours
    if reader not in (surfaces.core, surfaces.core_async, *surfaces.TRACED.values()):
        ours.pop("quota", None)
    if case.reader == "embed" and reader is not surfaces.embed_core:
        ours.pop("usage", None)
    if reader in (surfaces.sdk, surfaces.embed_sdk):
        ours |= case.facts.get("sdk", {})
        if "error" in ours:
            ours = {name: value for name, value in ours.items() if name in ("error", "partial")}
    return {name: value for name, value in ours.items() if value or name != "reasoning"}


def framings(case: Case) -> list[tuple[str, Any]]:
    """The three; a stream that is another one's but for the model's name is not read byte by byte once more."""
    again = "events_of" in case.facts
    return [(name, serving) for name, serving in FRAMINGS.items() if not (again and name == "byte by byte")]


def open_answers(case: Case) -> Answers:
    def answer(method: str, path: str, body: bytes) -> Sent:
        if case.reader == "chutes" and not path.startswith("/chutes/"):  # the catalogue asks for all three
            return plain(BY_NAME["core_models" if path == "/v1/models" else "cmp_stats"])
        return plain(case)

    return answer


@pytest.mark.parametrize("case", OPEN, ids=lambda case: case.name)
def test_a_recorded_reply(case: Case) -> None:
    """Each reader makes of it what is written beside it, however it is cut."""
    for framing, serving in framings(case):
        with serving(open_answers(case)) as wire:
            for name, reader in readers(case).items():
                if reader in surfaces.OWN_POOL and wire.sync is not None:
                    continue
                assert (framing, name, reader(case, wire)) == (framing, name, expected(case, reader))


STREAMED = [case for case in OPEN if case.reader == "stream" and case.streamed and "events_of" not in case.facts]


def in_events(case: Case) -> Sent:
    """A recorded stream as the gateway sends it when it is traced: each piece in an event."""
    found, asked, _, answered = BY_NAME["cmp_trace"].pieces
    pieces = [found, asked]
    for piece in case.pieces:
        told = json.loads(piece) if piece.startswith(b'{"error"') else {"result": piece.decode()}
        pieces.append(b"data: " + json.dumps(told).encode() + b"\n\n")
    return Sent(200, case.headers, [*pieces, answered], True, case.whole)


@pytest.mark.parametrize("case", STREAMED, ids=lambda case: case.name)
def test_a_recorded_stream_in_events(case: Case) -> None:
    """Traced, it comes to the same: the answer, or the same failure with the same text."""
    sent = in_events(case)
    for name, serving in framings(case):
        if name == "byte by byte":
            continue
        with serving(lambda method, path, body: sent) as wire:
            found = surfaces.traced(case, wire)
        steps = found.pop("trace", None)
        assert (name, found) == (name, expected(case, surfaces.core))
        assert steps is None or [step for step, _ in steps] in (["found", "asked", "answered"], ["found", "asked"])


# --- the sealed path ----------------------------------------------------------------------------------


def sealed_answers(case: Case, machine: MachineKey) -> Answers:
    """A service with one machine, whose replies are those of the case."""
    rows = [{"instance_id": "m1", "e2e_pubkey": machine.public, "nonces": [f"n{number}" for number in range(10)]}]

    def answer(method: str, path: str, body: bytes) -> Sent:
        if path.startswith("/e2e/instances/") and case.reader != "discovery":
            return _json({"instances": rows, "nonce_expires_in": 60, "nonce_expires_at": 1_767_312_060})
        if path.startswith("/servers/"):
            return plain(BY_NAME["e2ee_verify_default.3"])
        if not case.reader.startswith("sealed_"):  # type: ignore[union-attr]
            return plain(case)
        _, seal = machine.open(body)
        if case.reader == "sealed_whole":
            held = BY_NAME[case.facts["holds"]]
            return Sent(case.status, case.headers, [seal.whole(held.pieces[0])])
        return Sent(case.status, case.headers, list(_frames(case, seal)), True, case.whole)

    return answer


def _frames(case: Case, seal: Any) -> Iterator[bytes]:
    """Each line of the answer in a frame of its own, as the service passes them on.

    Where a machine told its usage in the clear, the service leaves out that line, but not the blank one behind it.
    """
    yield from _line_and_blank(seal.begin())
    for place, line in enumerate(case.pieces):
        if place % 2 == 0 and b'"usage"' in line:
            yield b"\n"
        yield from _line_and_blank(seal.frame(line))


def _line_and_blank(event: bytes) -> list[bytes]:
    return [event[:-1], event[-1:]]


@pytest.mark.skipif(not possible(), reason="needs cryptography 48")
@pytest.mark.parametrize(
    "case", [each for each in SEALED if each.name != "e2ee_tools_stream"], ids=lambda case: case.name
)
def test_a_recorded_reply_of_the_sealed_path(case: Case) -> None:
    """The same, of the sealed path: its refusals as they were, its answers sealed anew.

    Tool calls are not streamed there any more.
    """
    machine = MachineKey()
    for framing, serving in framings(case):
        with serving(sealed_answers(case, machine)) as wire:
            for name, reader in surfaces.SEALED.items():
                assert (framing, name, reader(case, wire)) == (framing, name, case.ours)


# --- the file -----------------------------------------------------------------------------------------


def test_every_recording_is_a_case_or_left_out() -> None:
    """Each recording is in a case, or on the list with a reason."""
    found = {name for case in CASES for name in case.facts["recorded"]}
    assert len(found | set(LEFT_OUT)) == RECORDINGS
    assert not found & set(LEFT_OUT)
    assert all(LEFT_OUT.values())
    assert len(BY_NAME) == len(CASES)


@pytest.mark.parametrize("reader", [surfaces.core, surfaces.core_async])
def test_a_restart_that_goes_on_as_it_began_is_one_answer(reader: surfaces.Reader) -> None:
    """A recorded restart, and behind it the rest of the same answer: the reader sees it once and whole."""
    begun, rest = BY_NAME["mid_dieonce"], BY_NAME["core_stream"]
    again = [line.replace(b"reply-1", b"reply-2") for line in rest.pieces]
    sent = Sent(200, begun.headers, [*begun.pieces[:-2], *again], True)
    for framing, serving in FRAMINGS.items():
        with serving(lambda method, path, body: sent) as wire:
            assert (framing, reader(begun, wire)) == (framing, rest.ours)
