"""The form that structured answers are asked for in."""

from __future__ import annotations

from pydantic import BaseModel


class Person(BaseModel):
    """A person."""

    name: str
    age: int
    city: str
    about: str
