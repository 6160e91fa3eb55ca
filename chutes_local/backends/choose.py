"""The choice of a backend.

>>> import asyncio
>>> from chutes_local.backends.backend import Backend, ChatRequest
>>> async def ask(backend: Backend) -> str:
...     await backend.start()
...     try:
...         request = ChatRequest(messages=({"role": "user", "content": "ping"},))
...         return "".join([delta.content async for delta in backend.chat(request)])
...     finally:
...         await backend.stop()
>>> asyncio.run(ask(choose_backend("echo")))
'This is the echo backend, not a model. You said: ping'
"""

from __future__ import annotations

import importlib.util
from typing import get_args

from chutes_local.backends.backend import Backend, BackendError, BackendKind

__all__ = ["choose_backend"]


def choose_backend(kind: BackendKind = "auto") -> Backend:
    """Create a backend: ``llama``, ``echo``, or for ``auto`` llama if its wheel is installed, else echo.

    >>> choose_backend("echo").is_model
    False
    """
    from chutes_local.backends.echo import EchoBackend
    from chutes_local.backends.llama import XLlamaCppBackend

    if kind not in get_args(BackendKind):
        raise ValueError(f"There is no backend {kind!r}; choose one of {', '.join(get_args(BackendKind))}.")
    installed = importlib.util.find_spec("xllamacpp") is not None
    if kind == "llama" and not installed:
        raise BackendError(
            "xllamacpp is not installed, so there is no model to run."
            ' `pip install "chutes-connect[local]"` installs it where a wheel for this machine exists;'
            " the echo backend runs everywhere, but is not a model."
        )
    return XLlamaCppBackend() if kind == "llama" or (kind == "auto" and installed) else EchoBackend()
