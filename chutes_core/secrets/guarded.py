"""What the models of both frameworks share to keep secrets: whichever way a setting comes in, it is wrapped at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, ClassVar, Self

from chutes_core.secrets.frames import unseen

if TYPE_CHECKING:
    from pydantic import BaseModel
else:
    BaseModel = object  # the core works without pydantic: a model has it as its other base

__all__ = ["Guarded"]


class Guarded(BaseModel):
    """Base of a pydantic model: settings that may be secret are wrapped when the model is made, copied or changed.

    No exception on the way shows them, neither as a variable of a frame nor as the input that was refused.
    """

    _wraps: ClassVar[Mapping[str, Callable[[object], object]]] = {}
    """For each such field, a function that returns its value wrapped, or refuses it."""

    def _changed(self, names: Collection[str]) -> None:
        """Drop what was made from the old values of these fields."""

    def _wrap(self) -> Self:
        """Wrap what pydantic has put in place, which may have come in without validation."""
        values = self.__dict__
        values.update({name: wrap(values[name]) for name, wrap in self._wraps.items() if name in values})
        return self

    @unseen
    def model_copy(self, *, update: Mapping[str, object] | None = None, deep: bool = False) -> Self:
        """Copy the model; a copy with changed arguments forgets what was made from the old ones."""
        copied = super().model_copy(update=update, deep=deep)._wrap()
        if update:
            copied._changed(update.keys())
        return copied

    if not TYPE_CHECKING:  # type checkers know the fields from pydantic

        @unseen
        def __new__(cls, *nameless, **data):
            """Make an empty model; refuse, without showing it, what has no name."""
            if nameless:
                first = "model_name" if "model_name" in cls.model_fields else "model"
                raise TypeError(f"{cls.__name__} takes its arguments by name, such as {first}=...")
            return super().__new__(cls)

        @unseen
        def __init__(self, **data):
            super().__init__(**data)
            self._wrap()

        @unseen
        def __setattr__(self, name, value):
            wrap = self._wraps.get(name)
            super().__setattr__(name, value if wrap is None else wrap(value))
            if self.__pydantic_private__ and name in type(self).model_fields:
                self._changed({name})

        @unseen
        def copy(self, **options):
            """Copy the model in pydantic's older way."""
            copied = super().copy(**options)._wrap()
            copied._changed(options.get("update") or ())
            return copied

        @classmethod
        @unseen
        def model_validate(cls, obj, **options):
            """Make a model from a dict."""
            return super().model_validate(obj, **options)

        @classmethod
        @unseen
        def model_construct(cls, _fields_set=None, **values):
            """Make a model without validation."""
            return super().model_construct(_fields_set, **values)._wrap()
