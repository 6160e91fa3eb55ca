"""The chutes this server pretends to run: names, rows, machines, and how each behaves.

>>> fleet = Fleet.load()
>>> fleet.find("Qwen/Qwen3-32B-TEE").window
40960
>>> fleet.find("Qwen/Qwen3-32B") is None
True
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from importlib import resources
from typing import Literal, cast, get_args

from chutes_local.faults.kinds import Target

Reasoning = Literal["off", "reasoning_content", "reasoning", "think", "close_only"]
ToolDeltas = Literal["sequential", "interleaved", "whole"]
Dimensions = Literal["honour", "refuse_400", "refuse_422", "refuse_500"]
Prefill = Literal["honoured", "closed", "as_user", "in_think", "crash", "echo", "stripped"]
SHAPE_CHOICES: dict[str, tuple[str, ...]] = {
    "reasoning": get_args(Reasoning),
    "tool_deltas": get_args(ToolDeltas),
    "dimensions": get_args(Dimensions),
    "prefill": get_args(Prefill),
}


@dataclass(frozen=True, slots=True)
class Shape:
    """The shape of a model's answers, where models on Chutes differ.

    Args:
        reasoning: the form of a reasoning block; ``None`` is the engine's own form, and only if the request
            enables thinking.
        tool_calls: how many tools are called at once when one is called.
        tool_deltas: whether the fragments of several calls come in sequence, interleaved, or whole.
        dimensions: whether an embedding request with ``dimensions`` is honoured or refused, and how.
        prefill: what becomes of the beginning of an answer that is to be continued: it is ``honoured``; its turn is
            ``closed`` and the model answers anew; it is read ``as_user``; the continuation is reasoning
            (``in_think``) unless thinking is switched off; a ``crash``; it comes back first (``echo``); or white
            space at its end is lost (``stripped``).
    """

    reasoning: Reasoning | None = None
    tool_calls: int = 1
    tool_deltas: ToolDeltas = "sequential"
    dimensions: Dimensions = "honour"
    prefill: Prefill = "honoured"

    def changed(self, **changes: object) -> Shape:
        """Return a copy with ``changes``, validated.

        >>> Shape().changed(reasoning="think").reasoning
        'think'
        """
        for name, value in changes.items():
            choices = SHAPE_CHOICES.get(name)
            if choices and value not in choices:
                raise ValueError(f"{name} must be one of {', '.join(choices)}, not {value!r}.")
            if name == "tool_calls" and not (isinstance(value, int) and value >= 1):
                raise ValueError(f"tool_calls must be a whole number of at least 1, not {value!r}.")
        return replace(self, **changes)  # type: ignore[arg-type]


@dataclass(slots=True)
class Chute:
    """One available model. Tests may set machines, busy, disabled, tee and shape."""

    name: str
    chute_id: str
    template: str
    engine: str
    window: int
    facts: Mapping[str, object]
    ttft: float | None = None
    tps: float | None = None
    tee: bool = True
    shape: Shape = field(default_factory=Shape)
    machines: int = 2
    busy: bool = False
    disabled: bool = False
    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    @property
    def slug(self) -> str:
        """The host label of this chute.

        >>> Fleet.load().find("Qwen/Qwen3-Embedding-8B-TEE").slug
        'chutes-qwen-qwen3-embedding-8b-tee'
        """
        return "chutes-" + re.sub(r"[^a-z0-9]+", "-", self.name.lower()).strip("-")

    @property
    def target(self) -> Target:
        """The facts that a fault's error text needs."""
        return Target(self.name, self.chute_id, self.window, self.engine)

    @property
    def price(self) -> tuple[float, float]:
        """Prices in USD per million tokens, input and output."""
        low, high = cast("tuple[float, float]", self.facts.get("usd", (0.0, 0.0)))
        return low, high

    def fact(self, name: str) -> bool:
        """Return whether the data file sets this flag for the model."""
        return bool(self.facts.get(name))

    def takes(self, medium: str) -> bool:
        """Return whether the row lists this kind of input, or lists none at all."""
        inputs = self.facts.get("inputs")
        return not isinstance(inputs, list) or medium in inputs


STATE = ("machines", "busy", "disabled", "tee")


class Fleet:
    """All chutes, found by name, id or slug."""

    def __init__(self, chutes: list[Chute], features: list[str], sampling: list[str]) -> None:
        """Hold ``chutes`` in the order of the data file, the most used first."""
        self.chutes = chutes
        self.features = features
        self.sampling = sampling
        self._by_name = {key: chute for chute in chutes for key in (chute.name, chute.chute_id)}
        self._by_slug = {chute.slug: chute for chute in chutes}
        self.renames = {c.name.removesuffix("-TEE"): c.name for c in chutes if c.name.endswith("-TEE")}

    @classmethod
    def load(cls) -> Fleet:
        """Load the rows that ship with the package."""
        text = resources.files("chutes_local").joinpath("data/models.json").read_text(encoding="utf-8")
        data = json.loads(text)
        return cls([_chute(row) for row in data["chutes"]], data["features"], data["sampling"])

    def find(self, name: str) -> Chute | None:
        """Find by name or chute id."""
        return self._by_name.get(name)

    def at(self, slug: str) -> Chute | None:
        """Find by host label; the embedding chute's older label still works."""
        return self._by_slug.get(slug) or self._by_slug.get(f"{slug}-tee")

    def change(self, name: str, **changes: object) -> Chute:
        """Change a model: its state (``machines=0``) or its shape (``reasoning="think"``)."""
        chute = self.find(name)
        if chute is None:
            raise ValueError(f"No model {name!r} here; the models are {', '.join(c.name for c in self.chutes)}.")
        known = (*STATE, *(f.name for f in fields(Shape)))
        if unknown := [key for key in changes if key not in known]:
            raise ValueError(f"{unknown[0]} cannot be changed; only {', '.join(known)} can.")
        for key in STATE:
            wanted = int if key == "machines" else bool
            if key in changes and (type(changes[key]) is not wanted or int(cast(int, changes[key])) < 0):
                kind = "a whole number of at least 0" if wanted is int else "true or false"
                raise ValueError(f"{key} must be {kind}, not {changes[key]!r}.")
        chute.shape = chute.shape.changed(**{k: v for k, v in changes.items() if k not in STATE})
        for key in STATE:
            if key in changes:
                setattr(chute, key, changes[key])
        return chute

    def reset(self) -> None:
        """Undo every change and reset the counters."""
        for fresh, chute in zip(Fleet.load().chutes, self.chutes, strict=True):
            for item in fields(Chute):
                setattr(chute, item.name, getattr(fresh, item.name))

    def __iter__(self) -> Iterator[Chute]:
        """Iterate over the chutes."""
        return iter(self.chutes)


def _chute(row: Mapping[str, object]) -> Chute:
    return Chute(
        name=str(row["id"]),
        chute_id=str(row["chute_id"]),
        template=str(row.get("template", "vllm")),
        engine=str(row["engine"]),
        window=cast(int, row.get("max_model_len", 131072)),
        facts=row,
        ttft=cast("float | None", row["ttft"]),
        tps=cast("float | None", row["tps"]),
        tee=bool(row.get("tee", True)),
    )
