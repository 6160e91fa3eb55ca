"""A failure that is also the openai SDK's: caught as either, and on its way to another process our own."""

from __future__ import annotations

import pickle
from typing import Any

import httpx
import openai
import pytest

from chutes_core import (
    AccountLimitError,
    AuthenticationError,
    CapacityError,
    ChutesError,
    ConnectionFailedError,
    EmptyReplyError,
    Kind,
    MissingKeyError,
    StreamInterruptedError,
    TimeLimitError,
    openai_client,
)
from chutes_core.openai_sdk.errors import as_openai
from chutes_core.testing import FaultyTransport

KEY = "cpk_" + "0123456789abcdef"


def test_a_failure_of_both_libraries_travels() -> None:
    """In a pickle it is the failure that it was, with what it knew."""
    said: Any = [{"role": "user", "content": "Say something."}]
    client = openai_client(KEY, http_client=httpx.Client(transport=FaultyTransport(["no_finish"])), max_retries=0)
    with pytest.raises(StreamInterruptedError) as caught:
        list(client.chat.completions.create(model="acme/one", messages=said, stream=True))
    again = pickle.loads(pickle.dumps(caught.value))
    assert type(again) is StreamInterruptedError
    assert (again.kind, again.partial, str(again)) == (caught.value.kind, caught.value.partial, str(caught.value))


@pytest.mark.parametrize(
    "error",
    [
        CapacityError("busy", kind=Kind.CAPACITY),
        AccountLimitError("limit"),
        AuthenticationError("no"),
        TimeLimitError("late"),
        EmptyReplyError("none"),
        MissingKeyError("no key"),
    ],
)
def test_every_failure_can_be_both(error: ChutesError) -> None:
    """Whichever failure it is, its type and the SDK's base catch it, and its words stay."""
    both = as_openai(error)
    assert isinstance(both, type(error))
    assert isinstance(both, openai.OpenAIError)
    assert str(both) == str(error)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (TimeLimitError("late"), openai.APITimeoutError),
        (ConnectionFailedError("lost"), openai.APIConnectionError),
        (CapacityError("busy"), openai.APIError),
        (MissingKeyError("no key"), openai.OpenAIError),
    ],
)
def test_a_failure_has_the_sdks_closest_class(error: ChutesError, kind: type[Exception]) -> None:
    """Code that tells a time limit from a lost connection still does."""
    both = as_openai(error)
    assert isinstance(both, kind)
    assert isinstance(both, openai.APITimeoutError) == (kind is openai.APITimeoutError)
