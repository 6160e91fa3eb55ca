"""A listener to every hook, for tests; it is gone when its block ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from chutes_core import hooks

NAMES = ("start", "attempt", "retry", "wait", "takeover", "give_up", "end")


@contextmanager
def listening(*names: str) -> Iterator[list[tuple[str, hooks.Event]]]:
    """What hooks are told, in order, with the name of each hook."""
    heard: list[tuple[str, hooks.Event]] = []

    def hear(name: str) -> object:
        def take(event: hooks.Event) -> None:
            heard.append((name, event))

        return take

    added = [(getattr(hooks, f"on_{name}"), hear(name)) for name in names or NAMES]
    for hook, function in added:
        hook.add(function)
    try:
        yield heard
    finally:
        for hook, function in added:
            hook.remove(function)


def told(heard: list[tuple[str, hooks.Event]]) -> list[str]:
    """The names of what was heard, with the outcome of each attempt."""
    return [f"{name} {event.attempt.outcome}" if name == "attempt" and event.attempt else name for name, event in heard]
