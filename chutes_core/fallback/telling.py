"""What hooks and the log are told of a fallback's call: each member's attempt, and who takes over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypedDict, Unpack

from chutes_core import hooks
from chutes_core.attempt import Attempt
from chutes_core.calls.record import name_of
from chutes_core.errors import APIError
from chutes_core.fallback.call import Call, Try
from chutes_core.response import Reply

__all__ = ["About", "Telling"]


class About(TypedDict, total=False):
    """What only who begins a call knows of it."""

    url: str
    face: str | None
    streamed: bool
    request: Mapping[str, object] | None


class _More(TypedDict, total=False):
    """The fields of an event beside those of the call."""

    request: Mapping[str, object] | None
    reply: Reply | None
    error: str | None
    request_id: str | None
    how: hooks.How | None
    first: float | None


class Telling:
    """Tells of one call; what only its caller knows is not asked for before somebody listens.

    Args:
        call: The call.
        about: What its caller knows of it.
    """

    __slots__ = ("_about", "_call", "_last", "_made", "_tried")

    def __init__(self, call: Call, about: About) -> None:
        self._call = call
        self._about = about
        self._last: Attempt | None = None
        self._made = 0
        self._tried: set[str] = set()

    def starts(self) -> None:
        """Tell that the call begins."""
        if hooks.on_start.active:
            request = self._about.get("request")
            hooks.on_start.tell(self._event(self._first, request=None if self._sealed else request))

    def begins(self, step: Try, *, beside: bool = False) -> None:
        """Tell of an attempt that begins, if it is not the first."""
        member = step.member
        if self._tried:
            again: hooks.How = "again" if member.place in self._tried else "next"
            how: hooks.How = "resume" if step.resume else "restart" if step.restart else again
            hooks.taken_over(self._event(member.name, how="hedge" if beside else how))
        self._tried.add(member.place)

    def ended(self, attempt: Attempt, error: BaseException | None) -> None:
        """Tell of an attempt that has ended."""
        self._last = attempt
        self._made += attempt.outcome != "skipped"
        if attempt.outcome != "answered" or hooks.on_attempt.active:
            request_id = error.request_id if isinstance(error, APIError) else None
            hooks.attempted(self._event(attempt.model, request_id=request_id))

    def over(self, reply: Reply | None, error: BaseException | None) -> None:
        """Tell that the call is over."""
        if hooks.on_give_up.active and isinstance(error, Exception) and self._call.made:
            hooks.on_give_up.tell(self._event(self._call.attempts[-1].model))
        if hooks.on_end.active:
            model = self._call.served.name if self._call.served is not None else self._first
            shown = None if self._sealed else reply
            hooks.on_end.tell(self._event(model, reply=shown, error=name_of(error), first=self._call.first_after))

    @property
    def _first(self) -> str:
        return next((member.name for member in self._call.order), "")

    @property
    def _sealed(self) -> bool:
        return any(member.sealed for member in self._call.order)

    def _event(self, model: str, **more: Unpack[_More]) -> hooks.Event:
        return hooks.Event(
            call=self._call,
            operation="chat",
            model=model,
            url=self._about.get("url", ""),
            face=self._about.get("face"),
            fallback=True,
            streamed=self._about.get("streamed", False),
            attempt=_wordless(self._last) if self._last is not None else None,
            number=self._made,
            **more,
        )


def _wordless(attempt: Attempt) -> Attempt:
    """Return an attempt without what the service said of it, which may quote what was asked."""
    return attempt if attempt.outcome == "skipped" else replace(attempt, detail="")
