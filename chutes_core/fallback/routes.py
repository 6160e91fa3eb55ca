"""Routes as data: task names mapped to members and a policy, from a mapping or a file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Self

from chutes_core.errors import ConfigurationError
from chutes_core.fallback.members import OTHER_NAMES
from chutes_core.fallback.policy import FallbackPolicy
from chutes_core.secrets.frames import unseen

__all__ = ["Route", "Routed", "read_routes", "route", "split_models"]


@dataclass(frozen=True, slots=True)
class Route:
    """The members and policy of one task.

    Attributes:
        models: The members in order: model names, or tables with ``model`` and its other arguments.
        policy: The fallback policy.
        options: Arguments for every member, such as ``temperature``.
    """

    models: tuple[str | Mapping[str, object], ...]
    policy: FallbackPolicy = field(default_factory=FallbackPolicy)
    options: Mapping[str, object] = field(default_factory=dict)


def read_routes(source: Mapping[str, object] | str | os.PathLike[str]) -> dict[str, Route]:
    """Read routes from a mapping, or from a TOML or YAML file.

    >>> routes = read_routes({"summarization": {"models": "acme/small, acme/other", "policy": {"deadline": 30}}})
    >>> routes["summarization"].models, routes["summarization"].policy.deadline
    (('acme/small', 'acme/other'), 30)
    """
    raw = source if isinstance(source, Mapping) else _load(Path(source))
    table = raw.get("routes", raw)
    if not isinstance(table, Mapping) or not table:
        raise ConfigurationError("There are no routes: provide a table of names, each with models = [...].")
    return {str(name): _route(str(name), value) for name, value in table.items()}


def route(source: Mapping[str, object] | str | os.PathLike[str], name: str) -> Route:
    """Read one route; for an unknown name, raise an error that suggests the closest.

    >>> route({"chat": ["acme/one", "acme/two"]}, "chat").models
    ('acme/one', 'acme/two')
    """
    routes = read_routes(source)
    if name not in routes:
        close = get_close_matches(name, routes, n=1)
        hint = f"Did you mean {close[0]!r}?" if close else f"The routes are: {', '.join(sorted(routes))}."
        raise ConfigurationError(f"There is no route {name!r}. {hint}")
    return routes[name]


class Routed:
    """Base of a framework's fallback: the ways to make one of what is written down."""

    if TYPE_CHECKING:

        def __init__(self, members: Sequence[object] = (), **arguments: object) -> None:
            """Create a fallback."""

    @classmethod
    @unseen
    def from_models(cls, models: str = "", **arguments: object) -> Self:
        """Create a fallback from a comma-separated string of names.

        ``ChutesFallback.from_models("acme/one, acme/two", api_key=...)`` has two members.
        """
        if not isinstance(models, str) or not models:
            other = next((name for name in ("members", *OTHER_NAMES) if name in arguments), None)
            raise ConfigurationError(
                "from_models() takes one string, models='a/one, b/two'"
                + (f", and no {other!r}" if other else "")
                + ". A list goes to the constructor, as members=['a/one', 'b/two']."
            )
        return cls(split_models(models), **arguments)

    @classmethod
    @unseen
    def route(cls, name: str, source: Mapping[str, object] | str | os.PathLike[str], **arguments: object) -> Self:
        """Create the fallback for a task, from a mapping or a TOML or YAML file of routes.

        ``ChutesFallback.route("summarization", {"summarization": {"models": ["acme/small", "acme/other"], "policy":
        {"deadline": 30}}})`` has two members and 30 seconds. Arguments given here go before the route's.
        """
        if isinstance(name, Mapping | os.PathLike):
            raise ConfigurationError("route() takes the name of the route first, and then the routes or their file.")
        found = route(source, name)
        return cls(found.models, **{"policy": found.policy, **found.options, **arguments})


def split_models(text: str) -> tuple[str, ...]:
    """Split a comma-separated list of model names.

    >>> split_models("acme/one, acme/two")
    ('acme/one', 'acme/two')
    """
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    if not names:
        raise ConfigurationError("Name at least one model.")
    return names


def _route(name: str, value: object) -> Route:
    if isinstance(value, str | list | tuple):
        return Route(_models(name, value))
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"The route {name!r} must be a list of models or a table with models = [...].")
    table = dict(value)
    if other := next((each for each in ("members", *OTHER_NAMES) if each in table and each != "models"), None):
        raise ConfigurationError(f"The route {name!r} has {other!r}: in a table they are called models = [...].")
    models = _models(name, table.pop("models", None))
    policy = table.pop("policy", {})
    if not isinstance(policy, Mapping):
        raise ConfigurationError(f"The policy of the route {name!r} must be a table.")
    return Route(models, FallbackPolicy.from_dict(policy), table)


def _models(name: str, value: object) -> tuple[str | Mapping[str, object], ...]:
    if isinstance(value, str):
        return split_models(value)
    if isinstance(value, list | tuple) and value:
        for each in value:
            named = isinstance(each, Mapping) and isinstance(each.get("model"), str)
            if not named and not (isinstance(each, str) and each.strip()):
                raise ConfigurationError(
                    f'A model of the route {name!r} must be a name, or a table with model = "...".'
                )
        return tuple(value)
    raise ConfigurationError(f"The route {name!r} names no models.")


def _load(path: Path) -> Mapping[str, object]:
    suffix = path.suffix.lower()
    try:
        content = path.read_bytes()
    except OSError as problem:
        raise ConfigurationError(f"The routes in {path.name} cannot be read: {problem.strerror}.") from None
    try:
        if suffix == ".toml":
            import tomllib

            return tomllib.loads(content.decode())
        if suffix in (".yaml", ".yml"):
            return _yaml(content)
    except ValueError as problem:
        raise ConfigurationError(f"The routes in {path.name} are not valid {suffix[1:].upper()}: {problem}") from None
    raise ConfigurationError(f"Routes are read from .toml, .yaml and .yml files, not from {path.name}.")


def _yaml(content: bytes) -> Mapping[str, object]:
    try:
        yaml = import_module("yaml")
    except ImportError:
        raise ConfigurationError("Routes in YAML need PyYAML: pip install pyyaml. TOML needs nothing extra.") from None
    try:
        raw = yaml.safe_load(content)
    except yaml.YAMLError as problem:
        raise ValueError(str(problem)) from None
    return raw if isinstance(raw, Mapping) else {}
