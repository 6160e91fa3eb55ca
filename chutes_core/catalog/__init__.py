"""What is known of the models: the catalogue, its entries, and where they come from."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chutes_core.catalog.catalog import Catalog
    from chutes_core.catalog.model_info import ModelInfo, Traits, traits_for

__all__ = ["Catalog", "ModelInfo", "Traits", "traits_for"]


def __getattr__(name: str) -> object:
    """Import on first use: what reads one entry needs no catalogue."""
    from importlib import import_module

    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{'catalog' if name == 'Catalog' else 'model_info'}"), name)
