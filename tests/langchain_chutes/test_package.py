"""The package: what it offers, and what importing it loads."""

from __future__ import annotations

import subprocess
import sys

import pytest

import langchain_chutes


def test_all_names_are_there() -> None:
    """What is announced can be imported, and nothing else."""
    assert set(langchain_chutes.__all__) <= set(dir(langchain_chutes))
    for name in langchain_chutes.__all__:
        assert getattr(langchain_chutes, name) is not None
    with pytest.raises(AttributeError, match="ChatChute"):
        _ = langchain_chutes.ChatChute


HEAVY = ("openai", "httpx", "numpy", "ssl", "asyncio", "langchain_core.language_models.base", "langsmith")
LATER = ("openai", "chutes_core.client", "chutes_core.wire.pools", "langchain_chutes.embeddings")


def loaded(program: str, modules: tuple[str, ...]) -> list[str]:
    """Which of some modules a program loads, in a process of its own."""
    show = f"{program}; import sys; print(*[name for name in {modules!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", show], check=True, capture_output=True, text=True)
    return done.stdout.split()


def test_importing_the_package_loads_nothing_heavy() -> None:
    """The classes, the client and the SDK are loaded when they are used."""
    base = set(loaded("import langchain_core.language_models", HEAVY))
    both = set(loaded("import langchain_core.language_models, langchain_chutes", HEAVY))
    assert both == base


def test_a_model_object_loads_no_client() -> None:
    """Importing the class and making a model loads neither the client nor the SDK."""
    program = "from langchain_chutes import ChatChutes; ChatChutes(model='Qwen/Qwen3-32B-TEE', api_key='cpk_0123')"
    assert loaded(program, LATER) == []
