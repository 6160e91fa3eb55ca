"""Exceptions without frames, and functions whose arguments no exception shows."""

from __future__ import annotations

import inspect
import traceback
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator
from pydantic_core import PydanticCustomError

from chutes_core.errors import ConfigurationError
from chutes_core.secrets.frames import unseen, without_frames

KEY = "s3cr3t-key"


def shown(error: BaseException) -> str:
    """The traceback with the variables of all frames but that of the test."""
    stack = traceback.TracebackException.from_exception(error, capture_locals=True)
    return "".join(str(frame.locals) for frame in stack.stack if not frame.name.startswith("test_")) + str(error)


def fail(inner: object, kind: type[Exception] = ConfigurationError) -> None:
    raise kind("no")


@unseen
def plain(api_key: str, kind: type[Exception] = ConfigurationError) -> None:
    """Fail further down."""
    fail(api_key, kind)


def test_a_function_shows_nothing_that_it_was_given() -> None:
    """The frames below it are left out, and its own has forgotten its arguments."""
    with pytest.raises(ConfigurationError) as caught:
        plain(KEY)
    trace = caught.value.__traceback__
    assert [frame.name for frame in traceback.extract_tb(trace)][1:] == ["called"]
    assert KEY not in shown(caught.value)


def test_a_function_is_otherwise_what_it_was() -> None:
    """Its name, text and signature, and what it returns."""
    assert (plain.__name__, plain.__doc__) == ("plain", "Fail further down.")
    assert list(inspect.signature(plain).parameters) == ["api_key", "kind"]
    assert unseen(max)(1, 2) == 2


def test_an_exception_that_nobody_expects_says_where_it_is_from() -> None:
    """Without variables; one of ours says enough by itself."""
    with pytest.raises(KeyError) as caught:
        plain(KEY, KeyError)
    assert "fail (" in caught.value.__notes__[0]
    assert KEY not in shown(caught.value)
    with pytest.raises(ConfigurationError) as expected:
        plain(KEY)
    assert not hasattr(expected.value, "__notes__")


def test_what_the_caller_was_handling_keeps_its_frames() -> None:
    """Only what happened inside is cut off, in causes, contexts and groups."""

    def inside() -> None:
        try:
            raise KeyError(KEY)
        except KeyError as error:
            raise ExceptionGroup("two", [ValueError(1), error]) from error

    def outside() -> None:
        try:
            raise LookupError("the caller's")
        except LookupError as outer:
            try:
                inside()
            except ExceptionGroup as error:
                raise without_frames(error, outer) from error.__cause__

    with pytest.raises(ExceptionGroup) as caught:
        outside()
    error = caught.value
    assert error.__cause__ is not None
    assert error.__cause__.__traceback__ is None
    assert error.__cause__.__context__ is not None
    assert error.__cause__.__context__.__traceback__ is not None


class Model(BaseModel):
    model_config = ConfigDict(extra="forbid")
    number: int = 0
    text: str = ""

    @field_validator("text")
    @classmethod
    def _check(cls, value: str) -> str:
        if value == "own":
            raise PydanticCustomError("own_kind", "not {{this}} {value}", {"value": 5})
        if value:
            raise ConfigurationError("no such {text}")
        return value

    @unseen
    def __init__(self, **data: Any) -> None:
        super().__init__(**data)


@pytest.mark.parametrize(
    ("given", "kinds"),
    [
        ({"number": KEY}, ["int_parsing"]),
        ({"number": [KEY], "other": KEY}, ["int_type", "extra_forbidden"]),
        ({"text": KEY}, ["value_error"]),
        ({"text": "own", "number": KEY}, ["int_parsing", "own_kind"]),
        ({"text": b"\xff" + KEY.encode()}, ["string_unicode"]),
    ],
)
def test_a_refusal_by_pydantic_does_not_repeat_the_input(given: dict[str, Any], kinds: list[str]) -> None:
    """It says the same of the same places."""
    with pytest.raises(ValidationError) as caught:
        Model(**given)
    error = caught.value
    assert sorted(line["type"] for line in error.errors()) == sorted(kinds)
    assert {line["input"] for line in error.errors()} == {"****"}
    assert KEY not in str(error) + repr(error) + repr(error.errors()) + error.json() + shown(error)
    if "value_error" in kinds:
        assert "Value error, no such {text}" in str(error)
    if "own_kind" in kinds:
        assert "not {{this}} 5" in str(error)
