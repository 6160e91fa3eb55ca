"""Resolve the ``model`` string to the chutes to try, in order: names, lists, aliases, ranking.

>>> fleet = Fleet.load()
>>> resolve("Qwen/Qwen3-32B-TEE, google/gemma-4-31B-turbo-TEE:latency", fleet, {}, "vllm")[0].name
'google/gemma-4-31B-turbo-TEE'
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from chutes_local.world.fleet import Chute, Fleet

FAILOVER = frozenset({429, 503})
"""The only statuses after which the gateway tries the next member of a list or alias."""

THINKING = ":THINKING"
RANKINGS = (":latency", ":throughput")

Aliases = Mapping[str, Sequence[str]]


def rename(model: str, fleet: Fleet) -> str:
    """Apply the gateway's renames, which match the whole string, never a list member.

    >>> rename("Qwen/Qwen3-32B", Fleet.load())
    'Qwen/Qwen3-32B-TEE'
    >>> rename("Qwen/Qwen3-32B,x", Fleet.load())
    'Qwen/Qwen3-32B,x'
    """
    if model.startswith("THUDM/"):
        model = "zai-org/" + model.removeprefix("THUDM/")
    return fleet.renames.get(model, model)


def split_thinking(model: str) -> tuple[str, bool]:
    """Remove a ``:THINKING`` suffix. With several, all after the first is lost, as on the real service.

    >>> split_thinking("a:THINKING,b:THINKING")
    ('a', True)
    """
    if model.endswith(THINKING):
        return model.split(THINKING)[0], True
    return model, False


def resolve(model: str, fleet: Fleet, aliases: Aliases, template: str) -> list[Chute]:
    """List the chutes to try, best first. An empty list means ``404 model not found``."""
    exact = fleet.find(model)
    if exact is not None:
        return _serving([exact], template)
    base, ranking = _split_ranking(model)
    if "," in base:
        names = [part.strip() for part in base.split(",")]
        found = [chute for name in names for chute in _expand(name, fleet, aliases)]
    else:
        single = fleet.find(base)
        if single is not None:
            return _serving([single], template)
        found = _expand(base, fleet, aliases)
    members = _serving(list({chute.name: chute for chute in found}.values()), template)
    return _ranked([chute for chute in members if chute.machines > 0], ranking)


def _split_ranking(model: str) -> tuple[str, str]:
    for suffix in RANKINGS:
        if model.lower().endswith(suffix):
            return model[: -len(suffix)], suffix
    return model, ""


def _expand(name: str, fleet: Fleet, aliases: Aliases) -> list[Chute]:
    chute = fleet.find(name)
    if chute is not None:
        return [chute]
    members = (fleet.find(chute_id) for chute_id in aliases.get(name.lower(), ()))
    return [member for member in members if member is not None]


def _serving(chutes: list[Chute], template: str) -> list[Chute]:
    return [chute for chute in chutes if chute.template == template]


def _ranked(chutes: list[Chute], ranking: str) -> list[Chute]:
    free = [chute for chute in chutes if not chute.busy]
    if not ranking or not free:
        return free + [chute for chute in chutes if chute.busy]
    if ranking == ":latency":
        return sorted(free, key=lambda c: (c.ttft is None, c.ttft or 0.0))
    return sorted(free, key=lambda c: (c.tps is None, -(c.tps or 0.0)))
