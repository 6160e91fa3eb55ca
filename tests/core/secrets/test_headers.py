"""Headers: which values may be secret, how they hide, and what travels."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any

import pytest

from chutes_core.errors import ConfigurationError
from chutes_core.secrets.headers import Headers, HiddenText, is_secret

TOKEN = "s3cr3t-t0ken"


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("X-Title", "me", False),
        ("x-title", "me", False),
        ("HTTP-Referer", "https://app.test/page", False),
        ("User-Agent", "app/1 (me@app.test)", False),
        ("X-TEE-Only", "true", False),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", False),
        ("X-Local-Reasoning", "none", False),
        ("X-Request-Id", "17", False),
        ("X-Title", "cpk_0123456789", True),
        ("User-Agent", "Bearer 0123456789", True),
        ("Referer", "https://app.test/page?token=1", True),
        ("HTTP-Referer", "https://me:secret@app.test", True),
        ("Cookie", "a=b", True),
        ("X-Api-Key", "1", True),
        ("X-Titles", "me", True),
        ("X-Anything-At-All", "me", True),
    ],
)
def test_a_value_is_secret_unless_its_name_is_harmless(name: str, value: str, secret: bool) -> None:
    """And there is no key in it."""
    assert is_secret(name, value) is secret
    assert (value in repr(Headers({name: value}))) is not secret


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"X": 5}, "'X' must be text"),
        ({5: "x"}, "without a name must be text"),
        ({"X": f"{TOKEN}\n"}, "'X' has characters"),
        ({"X": f"{TOKEN}é"}, "'X' has characters"),
        ({"X": f" {TOKEN}"}, "'X' has characters .* blanks"),
        ({"": TOKEN}, "without a name"),
        ({f"X-Key: {TOKEN}": ""}, "'X-Key' has characters that are not allowed in the name of one"),
        ({f"X Key {TOKEN}": ""}, "'X' has characters"),
        ({"authorization": f"Bearer {TOKEN}"}, "api_key"),
        ([TOKEN], "not a list"),
        (TOKEN, "not a str"),
    ],
)
def test_an_invalid_header_is_refused_without_its_value(given: Any, words: str) -> None:
    """The name is said up to where it stops being one."""
    with pytest.raises(ConfigurationError, match=words) as caught:
        Headers(given)
    assert TOKEN not in str(caught.value)


def test_a_value_can_be_read_sent_compared_and_changed() -> None:
    """It is a text like any other, and the headers are a mapping like any other."""
    headers = Headers({"X-Key": TOKEN, "X-Title": "me"})
    assert headers["X-Key"] == TOKEN
    assert headers["X-Key"].encode() == TOKEN.encode()
    assert f"{headers['X-Key']}" == TOKEN
    assert headers == {"X-Key": TOKEN, "X-Title": "me"}
    assert headers == Headers(headers)
    assert headers != {"X-Key": TOKEN}
    assert (headers.secret, headers.missing, len(headers)) == (("X-Key",), (), 2)
    del headers["X-Title"]
    headers["X-Key"] = "another"
    assert headers.ready() == {"X-Key": "another"}
    assert repr(headers.ready()) == "{'X-Key': '****'}"
    assert Headers.kept(headers) is headers
    assert Headers.kept(None) is None


def test_values_stay_in_the_process() -> None:
    """A pickle has the names, a copy has everything, and a bare value does not pickle at all."""
    headers = Headers({"X-Key": TOKEN, "X-Title": "me"})
    data = pickle.dumps(headers)
    assert TOKEN.encode() not in data
    there = pickle.loads(data)
    assert (there["X-Title"], there.missing) == ("me", ("X-Key",))
    assert copy.copy(headers) == copy.deepcopy(headers) == headers
    assert copy.deepcopy(headers) is not headers
    assert isinstance(copy.deepcopy(headers["X-Key"]), HiddenText)
    for each in (headers["X-Key"], dict(headers)):
        with pytest.raises(TypeError, match="cannot be pickled"):
            pickle.dumps(each)
    with pytest.raises(TypeError):
        json.dumps(headers)


def test_a_missing_value_is_named_before_anything_is_sent() -> None:
    """What was dumped is read back as missing, however it was masked."""
    headers = Headers({"X-Key": TOKEN, "Cookie": "a=b", "X-Title": "me"})
    for dumped in (headers.dumped(), headers.told_apart("cpk_0123"), json.loads(json.dumps(headers.told_apart(None)))):
        again = Headers(dumped)
        assert again.missing == ("X-Key", "Cookie")
        assert (again.dumped(), again.told_apart("cpk_0123")) == (dumped, dumped)
        with pytest.raises(ConfigurationError, match=r"X-Key, Cookie .*default_headers\['X-Key'\] = "):
            again.ready()


def test_a_fingerprint_tells_values_apart_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the same in every process that has the key, and worthless without it."""
    one, two = Headers({"X-Key": "one"}), Headers({"X-Key": "two"})
    assert one.told_apart("cpk_0123") == Headers({"X-Key": "one"}).told_apart("cpk_0123") != two.told_apart("cpk_0123")
    assert one.told_apart("cpk_0123") != one.told_apart("cpk_4567")
    assert one.told_apart(None) == one.told_apart(lambda: "cpk_0123") != one.told_apart("cpk_0123")
    assert Headers({"X-Other": "one"}).told_apart(None)["X-Other"] != one.told_apart(None)["X-Key"]
    monkeypatch.setenv("CHUTES_API_KEY", "cpk_0123")
    assert one.told_apart(None) == one.told_apart("cpk_0123") == {"X-Key": "**** b786d3fc37f58456"}


@pytest.mark.parametrize("name", ["X-Local-Token", "x-stainless-api-key", "X-STAINLESS-SESSION", "x-local-password"])
def test_a_harmless_family_has_no_harmless_secrets(name: str) -> None:
    """A name that tells of a secret is one, whatever it begins with."""
    assert is_secret(name, "s3cr3t")
    assert "s3cr3t" not in repr(Headers({name: "s3cr3t"}))
    assert not is_secret("X-Stainless-Lang", "python")
