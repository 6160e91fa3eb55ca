"""The embedded Chutes: a server on your machine that speaks like Chutes and fails on demand.

It is for rehearsal and tests: answers come from a 135M model on your CPU or from an echo that is not a model,
never from the service.

>>> from chutes_local import serve
>>> with serve(backend="echo", faults=["Qwen/Qwen3-32B-TEE=capacity x2"]) as chutes:
...     chutes.faults.describe()
['Qwen/Qwen3-32B-TEE=capacity (2 left)']
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chutes_local.faults.kinds import Fault
    from chutes_local.faults.plan import FaultPlan
    from chutes_local.server import LocalChutes, serve
    from chutes_local.world.accounts import API_KEY
    from chutes_local.world.journal import Entry, Journal

    __version__: str

__all__ = ["API_KEY", "Entry", "Fault", "FaultPlan", "Journal", "LocalChutes", "__version__", "serve"]

_HOMES = {
    "API_KEY": "world.accounts",
    "Entry": "world.journal",
    "Fault": "faults.kinds",
    "FaultPlan": "faults.plan",
    "Journal": "world.journal",
    "LocalChutes": "server",
    "serve": "server",
}


def __getattr__(name: str) -> object:
    """Import on first use: the model's process imports this package too and needs no web server."""
    if name == "__version__":
        from importlib.metadata import version

        return version("chutes-connect")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    try:
        return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        raise ImportError(f"chutes_local needs {error.name}: pip install 'chutes-connect[local]'") from None


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
