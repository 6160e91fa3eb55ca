"""What a model's chat template needs, by model family, matched on the id.

The table is data: ``families`` in ``data/catalog.json``. A model that no catalogue lists still has the traits of its
family; a trait that is not established is None.

>>> traits_for("Qwen/Qwen3.6-27B-TEE").single_system
True
>>> traits_for("acme/brand-new").single_system is None
True
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Literal, cast, get_args

from chutes_core.catalog import checked

__all__ = ["Prefill", "Traits", "family_tags", "snapshot", "traits_for"]

Prefill = Literal["as_is", "thinking_off", "no"]
_PREFILLS = get_args(Prefill)


@dataclass(frozen=True, slots=True, kw_only=True)
class Traits:
    """Traits of a model's chat template. None means unknown, never a guess.

    Attributes:
        single_system: The template accepts one system message, at the beginning, and rejects any other.
        echo_reasoning: The assistant's earlier reasoning must be sent back in the history; without it the model loses
            its thread between tool calls.
        starts_thinking: The text always begins inside the reasoning, without an opening ``<think>``. Never True for
            models whose thinking can be switched off, since their text is then the answer.
        thinking_default: Whether the model thinks if the request does not say.
        query_instruction: The template an embedding model expects around a query, with ``{task}`` and ``{query}``.
        prefill: Whether an answer goes on where an assistant message at the end leaves off: ``"as_is"``, only with
            thinking switched off (``"thinking_off"``), or ``"no"``. Nothing but a measurement tells, so no family has
            it: see :mod:`chutes_core.catalog.prefill`.
    """

    single_system: bool | None = None
    echo_reasoning: bool | None = None
    starts_thinking: bool | None = None
    thinking_default: bool | None = None
    query_instruction: str | None = None
    prefill: Prefill | None = None

    @classmethod
    def from_dict(cls, raw: Mapping[str, object]) -> Traits:
        """Read traits from plain data; a value of the wrong type counts as unknown.

        >>> Traits.from_dict({"single_system": True, "echo_reasoning": "yes"}).to_dict()
        {'single_system': True}
        """
        told = raw.get("query_instruction")
        instruction = told if isinstance(told, str) and "{query}" in told else None
        return cls(
            single_system=checked.flag(raw.get("single_system")),
            echo_reasoning=checked.flag(raw.get("echo_reasoning")),
            starts_thinking=checked.flag(raw.get("starts_thinking")),
            thinking_default=checked.flag(raw.get("thinking_default")),
            query_instruction=instruction,
            prefill=cast("Prefill | None", checked.one_of(raw.get("prefill"), _PREFILLS)),
        )

    def to_dict(self) -> dict[str, object]:
        """Return the known traits as plain data."""
        known = ((each.name, getattr(self, each.name)) for each in fields(self))
        return {name: value for name, value in known if value is not None}


def traits_for(model: str) -> Traits:
    r"""Return the traits of the family that an id belongs to, listed or not.

    >>> traits_for("Qwen/Qwen3-Embedding-8B-TEE").query_instruction
    'Instruct: {task}\nQuery: {query}'
    """
    return _family(model)[0]


def family_tags(model: str) -> frozenset[str]:
    """Return the tags of the family that an id belongs to.

    >>> sorted(family_tags("unsloth/Mistral-Nemo-Instruct-2407-TEE"))
    ['mistral']
    """
    return _family(model)[1]


@lru_cache(maxsize=1)
def snapshot() -> Mapping[str, object]:
    """Load the snapshot that ships with this library: models, families, and the snapshot date."""
    from importlib.resources import files

    text = (files("chutes_core") / "data" / "catalog.json").read_text("utf-8")
    loaded: Mapping[str, object] = json.loads(text)
    return loaded


@lru_cache(maxsize=1024)
def _family(model: str) -> tuple[Traits, frozenset[str]]:
    families = snapshot()["families"]
    return _merged(families if isinstance(families, list) else [], model)


def _merged(families: Iterable[Mapping[str, object]], model: str) -> tuple[Traits, frozenset[str]]:
    """Merge the matching rows: the first to set a trait wins, tags accumulate."""
    name, merged, tags = model.lower(), dict[str, object](), set[str]()
    for row in families:
        if fnmatchcase(name, str(row["match"])):
            merged = {**row, **merged}
            words = row.get("tags")
            tags.update(words if isinstance(words, list) else ())
    return Traits.from_dict(merged), frozenset(tags)
