"""Names of a package that are loaded when they are first asked for, so that importing it is cheap."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module

__all__ = ["lazily"]


def lazily(package: str, homes: Mapping[str, str]) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Return the ``__getattr__`` and the ``__dir__`` of a package; ``__version__`` is loaded like the others.

    Args:
        package: Its name.
        homes: By name, which module below it has it.

    >>> load, _ = lazily("chutes_core", {"Usage": "usage"})
    >>> load("Usage")
    <class 'chutes_core.usage.Usage'>
    """
    module = sys.modules[package]

    def load(name: str) -> object:
        value: object
        if name == "__version__":
            value = import_module("importlib.metadata").version("chutes-connect")
        elif name in homes:
            value = getattr(import_module(f"{package}.{homes[name]}"), name)
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        setattr(module, name, value)
        return value

    def names() -> list[str]:
        return sorted({*vars(module), *module.__all__})

    return load, names
