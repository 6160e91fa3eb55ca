"""``"chutes:MODEL"`` as the name of a model, for ``init_chat_model`` and whatever is built on it."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from chutes_core.errors import ConfigurationError

__all__ = ["register", "unregister"]

_PROVIDER = "chutes"
# LangChain has no public way to add a provider. These tables are what its functions look names up in.
_PLACES = {
    "langchain.chat_models.base": ("ChatChutes", "_get_chat_model_creator"),
    "langchain.embeddings.base": ("ChutesEmbeddings", "_get_embeddings_class_creator"),
}
"""Where they are, our class for each, and what there keeps the class of a provider that it has looked up."""
_TABLE = "_BUILTIN_PROVIDERS"


def register() -> None:
    """Let LangChain's functions know ``"chutes:MODEL"``: until the process ends, or :func:`unregister` is called.

    LangChain has no public way to add a provider, so this adds the entry ``"chutes"`` to the two tables that
    ``init_chat_model`` and ``init_embeddings`` read (``_BUILTIN_PROVIDERS``), and touches nothing else. It can be
    called any number of times. An entry of LangChain's own is left as it is.

    >>> from langchain.chat_models import init_chat_model
    >>> register()
    >>> init_chat_model("chutes:Qwen/Qwen3-32B-TEE", api_key="cpk_0123", temperature=0).model
    'Qwen/Qwen3-32B-TEE'

    Raises:
        ConfigurationError: This version of LangChain keeps its providers in another way.
    """
    for table, cls, _ in _tables():
        table.setdefault(_PROVIDER, ("langchain_chutes", cls, _made))


def unregister() -> None:
    """Take back what :func:`register` has done."""
    for table, _, finder in _tables():
        if table.get(_PROVIDER, ("",))[-1] is _made:
            del table[_PROVIDER]
        if hasattr(finder, "cache_clear"):
            finder.cache_clear()


def _made(cls: type[Any], **arguments: Any) -> Any:
    return cls(**arguments)


def _tables() -> list[tuple[dict[str, Any], str, Any]]:
    found = []
    for place, (cls, finder) in _PLACES.items():
        try:
            module = import_module(place)
        except ImportError:
            raise ConfigurationError("Names like 'chutes:MODEL' are langchain's: pip install langchain.") from None
        table = getattr(module, _TABLE, None)
        if not isinstance(table, dict):
            raise ConfigurationError(
                "This version of langchain keeps its providers in another way: pass a model, as in "
                "create_agent(ChatChutes(model=...))."
            )
        found.append((table, cls, getattr(module, finder, None)))
    return found
