"""What somebody asks of a model, in a few words: ``tools, <=0.3$, ctx>=100k, tee``. Pure.

A demand is a word (``tools``, ``vision``, ``hot``), its opposite (``!reasoning``), a limit (``ctx>=100k``,
``in<=0.1``), a choice (``owner=zai-org``) or a part of the name (``~coder``). What is not known of a model never meets
a demand.
"""

from __future__ import annotations

import argparse
import operator
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from chutes_cli.numbers import tokens
from chutes_core.catalog.model_info import KINDS, ModelInfo

__all__ = ["WORDS", "Demand", "fitting", "limited", "named", "owned", "read_demands", "tagged", "unmet"]

Fact = Callable[[ModelInfo], "bool | None"]


@dataclass(frozen=True, slots=True)
class Demand:
    """One demand: as it was written, and whether a model meets it (None: not known)."""

    text: str
    met_by: Fact


def _feature(name: str) -> Fact:
    return lambda info: info.supports(name)


def _input(name: str) -> Fact:
    return lambda info: info.takes(name)


WORDS: Mapping[str, Fact] = {
    "tools": _feature("tools"),
    "json": _feature("json_mode"),
    "structured": _feature("structured_outputs"),
    "reasoning": _feature("reasoning"),
    "vision": _input("image"),
    "video": _input("video"),
    "tee": lambda info: info.confidential,
    "hot": lambda info: info.hot,
    "cold": lambda info: None if info.hot is None else not info.hot,
}
_NUMBERS: Mapping[str, Callable[[ModelInfo], float | None]] = {
    "out": lambda info: info.price_out,
    "in": lambda info: info.price_in,
    "ctx": lambda info: info.context_length,
    "answer": lambda info: info.max_output,
    "ttft": lambda info: info.ttft,
    "tps": lambda info: info.tps,
}
_CHOICES: Mapping[str, Callable[[ModelInfo], str | None]] = {
    "owner": lambda info: info.owner,
    "kind": lambda info: info.kind,
    "quantization": lambda info: info.quantization,
    "engine": lambda info: info.engine,
}
_SIGNS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}
_LIMIT = re.compile(r"(?P<name>[a-z]*)\s*(?P<sign><=|>=|<|>)\s*\$?(?P<number>[0-9.,_]+\s*[km]?)\s*\$?")
_CHOICE = re.compile(r"(?P<name>[a-z]+)\s*=\s*(?P<value>\S+)")


def read_demands(text: str) -> list[Demand]:
    """Read demands with commas between them.

    >>> info = ModelInfo(id="acme/coder", price_out=0.25, context_length=131072, features=frozenset({"tools"}))
    >>> [demand.met_by(info) for demand in read_demands("tools, <=0.3$, ctx>=100k, ~coder, !reasoning, tee")]
    [True, True, True, True, True, None]
    >>> read_demands("fast")
    Traceback (most recent call last):
    argparse.ArgumentTypeError: 'fast' is not a valid demand. Use tools, json, structured, reasoning, vision, ...
    """
    return [_read(part.strip()) for part in text.split(",") if part.strip()]


def _read(text: str) -> Demand:
    plain = text.lower()
    if plain.startswith("!") and plain[1:] in WORDS:
        return Demand(text, _opposite(WORDS[plain[1:]]))
    if plain in WORDS:
        return Demand(text, WORDS[plain])
    if plain.startswith("~") and plain[1:]:
        return Demand(text, named(plain[1:]))
    if (limit := _LIMIT.fullmatch(plain)) and (limit["name"] or "out") in _NUMBERS:
        return Demand(text, limited(limit["name"] or "out", limit["sign"], tokens_or_number(limit["number"])))
    if (choice := _CHOICE.fullmatch(plain)) and choice["name"] in _CHOICES:
        return _choice(text, choice["name"], choice["value"])
    raise argparse.ArgumentTypeError(
        f"{text!r} is not a valid demand. Use {', '.join(WORDS)} (or !tools), a limit such as <=0.3$, in<=0.1, "
        "ctx>=100k, answer>=32k, ttft<=2 or tps>=40, a choice such as owner=zai-org or quantization=fp8, or "
        "~part-of-the-name"
    )


def tokens_or_number(text: str) -> float:
    """Read a number, with ``k`` or ``m`` behind it if you like.

    >>> tokens_or_number("0.3"), tokens_or_number("100k")
    (0.3, 100000.0)
    """
    try:
        return float(text)
    except ValueError:
        return float(tokens(text))


def _opposite(fact: Fact) -> Fact:
    def met(info: ModelInfo) -> bool | None:
        found = fact(info)
        return None if found is None else not found

    return met


def named(part: str) -> Fact:
    """Ask for a part of the name."""
    return lambda info: part.lower() in info.id.lower()


def tagged(tag: str) -> Fact:
    """Ask for a tag."""
    return lambda info: tag in info.tags


def owned(text: str, owner: str) -> Demand:
    """Ask for an owner, in any case."""
    return _choice(text, "owner", owner.lower())


def limited(name: str, sign: str, bound: float) -> Fact:
    """Ask for a number within a bound."""

    def met(info: ModelInfo) -> bool | None:
        value = _NUMBERS[name](info)
        return None if value is None else bool(_SIGNS[sign](value, bound))

    return met


def _choice(text: str, name: str, value: str) -> Demand:
    if name == "kind" and value not in KINDS:
        raise argparse.ArgumentTypeError(f"{value!r} is not a kind of model. Use {', '.join(KINDS)}")

    def met(info: ModelInfo) -> bool | None:
        found = _CHOICES[name](info)
        return None if found is None else found.lower() == value

    return Demand(text, met)


def fitting(models: Iterable[ModelInfo], demands: Sequence[Demand]) -> list[ModelInfo]:
    """Return the models that meet every demand."""
    return [info for info in models if all(demand.met_by(info) for demand in demands)]


def unmet(models: Sequence[ModelInfo], demands: Sequence[Demand]) -> str:
    """Say why no model meets all demands: how many meet each of them.

    >>> unmet([ModelInfo(id="acme/one", price_out=3.0)], read_demands("<=0.3, ~one"))
    'No model meets all of this: <=0.3 (0 of 1), ~one (1 of 1).'
    """
    counts = (f"{each.text} ({len(fitting(models, [each]))} of {len(models)})" for each in demands)
    return f"No model meets all of this: {', '.join(counts)}."
