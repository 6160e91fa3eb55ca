"""An answer that plays a script."""

from __future__ import annotations

from typing import Any

from chutes_core.response import Delta, Reply


class Played:
    """An answer that plays its deltas, in both colours; an exception among them is raised."""

    def __init__(self, deltas: list[Any], reply: Reply) -> None:
        self._deltas = iter(deltas)
        self.reply = reply
        self.closed = False

    def __iter__(self) -> Played:
        return self

    def __next__(self) -> Delta:
        step = next(self._deltas)
        if isinstance(step, BaseException):
            raise step
        return step  # type: ignore[no-any-return]

    def __enter__(self) -> Played:
        return self

    def __exit__(self, *error: object) -> None:
        self.closed = True

    def __aiter__(self) -> Played:
        return self

    async def __anext__(self) -> Delta:
        try:
            return next(self)
        except StopIteration:
            raise StopAsyncIteration from None

    async def __aenter__(self) -> Played:
        return self

    async def __aexit__(self, *error: object) -> None:
        self.closed = True
