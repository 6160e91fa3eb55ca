"""The arguments of a call: a model's own, and those of the call before them. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from chutes_core.errors import RequestRefusedError
from chutes_core.request.tools import tool_choice_param, tool_names

__all__ = ["call_arguments"]


def call_arguments(
    given: Mapping[str, object],
    options: Mapping[str, object],
    other_names: Mapping[str, str],
    read: Mapping[str, Callable[[object], object]],
    *,
    stop: list[str] | None = None,
    stream: bool = False,
) -> dict[str, object]:
    """Build the arguments for ``chat`` and ``stream``; the call's own take precedence.

    Args:
        given: The model's own.
        options: The call's.
        other_names: What other packages call some of them.
        read: By name, how a framework's own form of an argument is read.
        stop: Stop sequences of the call, as frameworks pass them.
        stream: Whether a stream is asked for.

    Raises:
        RequestRefusedError: They cannot be combined.

    >>> call_arguments({"temperature": 0}, {"stop_sequences": ["."]}, {"stop_sequences": "stop"}, {})
    {'temperature': 0, 'stop': ['.']}
    """
    if not other_names.keys().isdisjoint(options):
        options = _renamed(options, other_names)
    arguments = {**given, **options}
    for name in ("stream", "extra_body"):
        arguments.pop(name, None)
    if stop is not None:
        arguments["stop"] = stop
    if not arguments.get("stop", True):
        del arguments["stop"]
    for name, reads in read.items():
        if value := arguments.get(name):
            arguments[name] = reads(value)
    if "tool_choice" in arguments:
        tools = arguments.get("tools") or ()
        choice = tool_choice_param(arguments.pop("tool_choice"), tool_names(tools))  # type: ignore[arg-type]
        if choice is not None:
            arguments["tool_choice"] = choice
    inner: dict[str, object] = {**(given.get("extra_body") or {}), **(options.get("extra_body") or {})}  # type: ignore[dict-item]
    if inner:
        arguments["extra_body"] = inner
    if stream and (arguments.get("n") or inner.get("n") or 1) != 1:
        raise RequestRefusedError(
            "A stream carries one answer: ask for n > 1 with invoke and without streaming=True, or leave n out."
        )
    return arguments


def _renamed(given: Mapping[str, object], other_names: Mapping[str, str]) -> dict[str, object]:
    """Replace aliases by parameter names."""
    taken: dict[str, object] = {}
    for name, value in given.items():
        known = other_names.get(name, name)
        if known in taken:
            raise RequestRefusedError(f"{known!r} was given twice, once under an alias: pass it once.")
        taken[known] = value
    return taken
