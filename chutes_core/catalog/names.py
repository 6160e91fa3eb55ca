"""The names of models: what a model string means, and what is known of each model that it names."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from chutes_core.catalog.model_info import ModelInfo, traits_for
from chutes_core.errors import RequestRefusedError

if TYPE_CHECKING:
    from chutes_core.catalog.catalog import Catalog

__all__ = ["ModelRef", "check_model", "model_infos"]


@dataclass(frozen=True, slots=True)
class ModelRef:
    """A parsed model string: one model, or a routing list that the gateway works through.

    >>> ModelRef.parse("a/one, b/two:latency")
    ModelRef(names=('a/one', 'b/two'), strategy='latency', thinking=False)
    >>> ModelRef.parse("a/one:THINKING").wire
    'a/one'
    """

    names: tuple[str, ...]
    strategy: str | None = None
    thinking: bool = False

    @classmethod
    def parse(cls, model: str) -> ModelRef:
        """Parse a model string: ``name`` or ``a,b,c``, either with ``:latency``, ``:throughput`` or ``:THINKING``.

        The gateway knows ``:THINKING`` only at the very end of a single name; here it works with a list or a
        strategy too, because it is turned into a field of the body.
        """
        check_model(model)
        rest, strategy, thinking = model.strip(), None, False
        while True:
            head, colon, suffix = rest.rpartition(":")
            if colon and suffix == "THINKING":
                rest, thinking = head, True
            elif colon and suffix.lower() in ("latency", "throughput") and strategy is None:
                rest, strategy = head, suffix.lower()
            else:
                break
        names = [name.strip() for name in rest.split(",") if name.strip()]
        marked = [name for name in names if name.endswith(":THINKING")]
        if marked and not thinking and len(marked) != len(names):
            raise RequestRefusedError("':THINKING' applies to the whole request: put it at the end of the list.")
        if not names:
            raise RequestRefusedError(f"The model string {model!r} names no model.")
        unmarked = dict.fromkeys(name.removesuffix(":THINKING") for name in names)
        return cls(tuple(unmarked), strategy, thinking or bool(marked))

    @property
    def wire(self) -> str:
        """The string to send."""
        return ",".join(self.names) + (f":{self.strategy}" if self.strategy else "")

    @property
    def routed(self) -> bool:
        """Whether the gateway chooses among several models."""
        return len(self.names) > 1 or self.strategy is not None


def check_model(model: object) -> None:
    """Raise if ``model`` is not a model name."""
    if not isinstance(model, str) or not model.strip():
        raise RequestRefusedError(f"model must be the name of a model, such as 'Qwen/Qwen3-32B-TEE', not {model!r}.")


def model_infos(catalog: Catalog, model: str) -> list[ModelInfo]:
    """Return what is known about each model that may answer; for an unknown one, its family's traits.

    >>> from chutes_core import Catalog
    >>> model_infos(Catalog.bundled(), "Qwen/Qwen3-32B-TEE, acme/one")
    [<ModelInfo Qwen/Qwen3-32B-TEE: ...>, <ModelInfo acme/one: chat>]
    """
    check_model(model)
    whole = catalog.get(model)
    if whole is not None:
        return [whole]
    return [catalog.get(name) or _unlisted(name) for name in ModelRef.parse(model).names]


@lru_cache(maxsize=256)
def _unlisted(name: str) -> ModelInfo:
    return ModelInfo(id=name, traits=traits_for(name))
