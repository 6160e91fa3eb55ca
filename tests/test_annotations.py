"""What is data says its types in names that are there when it runs: pydantic reads them, and so do its users' models.

A name that only a type checker imports leaves a model "not fully defined", with some versions of pydantic.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import pkgutil
import typing
from collections.abc import Iterator
from types import ModuleType

import pytest
from pydantic import BaseModel, TypeAdapter

from chutes_core import E2EE, ImagePolicy, TimeLimits, Usage
from chutes_core.fallback import FallbackPolicy

PACKAGES = ("chutes_core", "langchain_chutes", "llama_index_chutes")


def own_modules() -> Iterator[ModuleType]:
    """Import every module of these packages."""
    for package in map(importlib.import_module, PACKAGES):
        for found in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not found.name.endswith(".__main__"):
                yield importlib.import_module(found.name)


def is_data(each: type) -> bool:
    """Tell whether a class's annotations are its fields, and a field of another class may hold it."""
    if dataclasses.is_dataclass(each):  # one that cannot be made without private arguments is made by its owner alone
        return not any(name.startswith("_") for name in needed(each))
    return issubclass(each, BaseModel) or typing.is_typeddict(each) or hasattr(each, "_fields")


def needed(each: type) -> list[str]:
    """Return the arguments that a class cannot do without."""
    parameters = inspect.signature(each).parameters.values()
    return [parameter.name for parameter in parameters if parameter.default is parameter.empty]


def named(each: type) -> str:
    return f"{each.__module__}.{each.__qualname__}"


CLASSES = {each for module in own_modules() for each in vars(module).values() if inspect.isclass(each)}
OWN = (each for each in CLASSES if each.__module__.partition(".")[0] in PACKAGES)
DATA = sorted(filter(is_data, OWN), key=named)
MODELS = [each for each in DATA if issubclass(each, BaseModel)]


@pytest.mark.parametrize("each", DATA, ids=named)
def test_every_field_names_a_type_that_is_there(each: type) -> None:
    """Private fields too; what a model has from a framework is the framework's to name."""
    if issubclass(each, BaseModel):
        inspect.get_annotations(each, eval_str=True)
    else:
        typing.get_type_hints(each, include_extras=True)


@pytest.mark.parametrize("each", MODELS, ids=named)
def test_every_model_is_complete_as_it_is_imported(each: type[BaseModel]) -> None:
    """It waits for no name that its first use may find, and can be built anew."""
    assert each.__pydantic_complete__
    assert each.model_rebuild(force=True)


@pytest.mark.parametrize("each", [FallbackPolicy(), TimeLimits(), ImagePolicy(), E2EE(), Usage(1, 2, 3)])
def test_a_users_model_may_hold_it(each: object) -> None:
    """What a user sets is a field of a model of theirs, too."""
    assert TypeAdapter(type(each)).validate_python(each) == each
