"""Every failure is ours and LangChain's at once."""

from __future__ import annotations

import pickle

import pytest
from langchain_core import exceptions as lc

from chutes_core import (
    APIError,
    ChutesError,
    ConfigurationError,
    Kind,
    MissingKeyError,
    RequestRefusedError,
    UnknownModelError,
)
from chutes_core import errors as core
from chutes_core.failures.reading import FACTS, failure
from chutes_core.testing import Answer
from langchain_chutes import ChatChutes
from langchain_chutes._errors import _TWINS, as_langchain

from .models import MODES, call

FAMILY = {
    Kind.CAPACITY: (lc.ModelRateLimitError, True),
    Kind.RATE_LIMIT: (lc.ModelRateLimitError, True),
    Kind.ACCOUNT_LIMIT: (lc.ModelRateLimitError, False),
    Kind.EDGE_LIMIT: (lc.ModelRateLimitError, False),
    Kind.COLD: (lc.ModelAPIError, False),
    Kind.EXHAUSTED: (lc.ModelAPIError, True),
    Kind.GATEWAY_TIMEOUT: (lc.ModelAPIError, False),
    Kind.PAYMENT: (lc.ModelError, False),
    Kind.AUTHENTICATION: (lc.ModelAuthenticationError, False),
    Kind.PERMISSION: (lc.ModelPermissionDeniedError, False),
    Kind.MODEL_NOT_FOUND: (lc.ModelNotFoundError, False),
    Kind.CONTEXT_LENGTH: (lc.ContextOverflowError, False),
    Kind.BAD_REQUEST: (lc.ModelInvalidRequestError, False),
    Kind.CONNECT: (lc.ModelConnectionError, True),
    Kind.STALL: (lc.ModelTimeoutError, True),
    Kind.TRUNCATED: (lc.ModelAPIError, True),
    Kind.RESTARTED: (lc.ModelAPIError, True),
    Kind.EMPTY: (lc.ModelAPIError, True),
}


@pytest.mark.parametrize(("kind", "family"), FAMILY.items())
def test_a_kind_has_its_place_in_langchains_family(kind: Kind, family: tuple[type[Exception], bool]) -> None:
    """The class, and whether the same request may succeed when it is made again."""
    error = as_langchain(failure(kind, "x"))
    assert isinstance(error, family[0])
    assert isinstance(error, FACTS[kind].error)
    assert error.is_retryable is family[1]  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", Kind)
def test_every_kind_keeps_its_facts(kind: Kind) -> None:
    """Message, status, body, model and partial answer are as the core told them, also after a pickle."""
    plain = failure(kind, "busy", model="acme/one", status_code=429, body={"detail": "busy"}, retry_after=3)
    error = as_langchain(plain)
    assert isinstance(error, lc.ModelError)
    for one in (error, pickle.loads(pickle.dumps(error))):
        assert type(one) is type(error)
        assert str(one) == str(plain)
        assert (one.kind, one.status_code, one.body, one.model) == (kind, 429, {"detail": "busy"}, "acme/one")
        assert (one.scope, one.retry, one.partial, one.is_retryable) == (
            plain.scope, plain.retry, "", error.is_retryable
        )  # fmt: skip


def test_every_error_of_the_core_has_a_twin() -> None:
    """None is forgotten, except the roots, which are never raised."""
    known = {getattr(core, name) for name in core.__all__}
    raised = {each for each in known if isinstance(each, type) and issubclass(each, ChutesError)}
    assert raised - set(_TWINS) == {ChutesError, ConfigurationError}


def test_a_twin_of_something_else_is_itself() -> None:
    """What has no twin, and what is one already, passes through."""
    plain = ConfigurationError("x")
    assert as_langchain(plain) is plain
    twin = as_langchain(failure(Kind.COLD))
    assert as_langchain(twin) is twin


@pytest.mark.parametrize("mode", MODES)
def test_a_refusal_at_the_door_is_langchains_too(mode: str) -> None:
    """What is refused before anything is sent can be caught like what the service refuses."""
    outcome = call(mode, [Answer()], params={"temprature": 0})
    assert isinstance(outcome.error, RequestRefusedError)
    assert isinstance(outcome.error, lc.ModelInvalidRequestError)
    assert outcome.transport.requests == []


def test_a_missing_key_is_an_authentication_error() -> None:
    """It is noticed before anything is sent."""
    with pytest.raises(MissingKeyError) as caught:
        ChatChutes(model="acme/one").invoke("Hi")
    assert isinstance(caught.value, lc.ModelAuthenticationError)


def test_an_unknown_model_keeps_its_suggestions() -> None:
    """Attributes of every class go along."""
    error = as_langchain(UnknownModelError("x", model="a", suggestions=("b",)))
    assert isinstance(error, lc.ModelNotFoundError)
    assert (error.model, error.suggestions) == ("a", ("b",))


def test_the_traceback_leads_to_the_call() -> None:
    """The error is raised once, without a second traceback for its other form."""
    outcome = call("sync-whole", ["auth"])
    assert isinstance(outcome.error, APIError)
    assert outcome.error.__suppress_context__
    assert outcome.error.__traceback__ is not None
