"""What a client is to the benchmark, and the list of all of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

from benchmarks.faults.judge import Seen
from benchmarks.faults.server import Server
from benchmarks.faults.virtual import LoopClock
from benchmarks.faults.world import Call

URL = "https://gateway.test/v1"
KEY = "cpk_benchmark"


@dataclass(frozen=True, slots=True)
class Kit:
    """What a client is made of: the way to the gateway, and the time."""

    server: Server
    clock: LoopClock

    def http(self) -> Any:
        """An async HTTP client of the package that the installed openai SDK is built on."""
        import openai

        package = openai.DefaultAsyncHttpxClient.__mro__[1].__module__.partition(".")[0]
        return import_module(package).AsyncClient(transport=self.server, trust_env=False, timeout=None)


class Asker(Protocol):
    """A client that is ready to ask."""

    def stream(self, call: Call) -> AsyncIterator[Seen]:
        """Ask, and give out what a reader gets to see."""

    async def whole(self, call: Call) -> list[Seen]:
        """Ask for the answer in one piece."""


@dataclass(frozen=True, slots=True)
class Client:
    """One client under test.

    Attributes:
        name: Its key.
        title: What it is called in tables.
        told: How it is set up.
        needs: The packages it is made of.
        make: Makes one for a run.
        promise: It is ours, set to give whole answers only: the aims are its own.
    """

    name: str
    title: str
    told: str
    needs: tuple[str, ...]
    make: Callable[[Kit], Asker]
    ours: bool = False
    promise: bool = False

    def missing(self) -> list[str]:
        """The packages that are not installed."""
        return [name for name in self.needs if find_spec(name) is None]


def all_clients() -> dict[str, Client]:
    """Every client by its key, ours first; nothing of theirs is imported."""
    from benchmarks.faults import ours, peers

    return {each.name: each for each in (*ours.CLIENTS, *peers.CLIENTS)}
