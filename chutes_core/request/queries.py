"""The text that is embedded for a query: some models were trained with an instruction around it. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from chutes_core.catalog.catalog import Catalog
from chutes_core.catalog.names import model_infos
from chutes_core.errors import ConfigurationError

__all__ = ["TASK", "query_text"]

TASK = "Given a web search query, retrieve relevant passages that answer the query"
"""What queries are for, where nothing else is said."""


def query_text(
    query: str, model: str, known: Callable[[], Catalog], instruction: str | Literal[False] | None, task: str
) -> str:
    r"""Return the text that is embedded for a query.

    Args:
        query: The query.
        model: The model.
        known: Returns the catalogue.
        instruction: A template with ``{query}`` and ``{task}``; None for the one that the model was trained with.
        task: What the queries are for.

    >>> query_text("notice period", "Qwen/Qwen3-Embedding-8B-TEE", Catalog.bundled, None, "Find the clause")
    'Instruct: Find the clause\nQuery: notice period'
    """
    if instruction is None:
        instruction = model_infos(known(), model)[0].traits.query_instruction
    if not instruction:
        return query
    if "{query}" not in instruction:
        raise ConfigurationError("query_instruction must say where the query goes: '... {query}'.")
    return instruction.replace("{task}", task).replace("{query}", query)
