"""What a server writes back of a secret is masked in a failure, in whatever form, in time linear in its length."""

from __future__ import annotations

import base64
import codecs
import html
import json
import random
import string
import urllib.parse
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chutes_core.errors import Kind
from chutes_core.failures.reading import failure
from chutes_core.response import Choice, Reply, ToolCall
from chutes_core.secrets import echoes
from chutes_core.secrets.echoes import Echoes, replaced
from chutes_core.secrets.masking import Known
from chutes_core.secrets.secret import Secret

KEY = "Kq9/zX+w2=unusual~key_7"
TOKEN = "s3cr3t-t0ken"


def known(key: str | None = KEY, **headers: str) -> Known:
    made = Known()
    made.learn({name.replace("_", "-"): value for name, value in headers.items()}, Secret(key) if key else None)
    return made


LONG = "Kq9zX7w2unusual1key8Bf6tRd4Gm0Lp5Hs3Vn"


@pytest.mark.parametrize(
    "said",
    [LONG[:24], LONG[-20:], LONG[9:30], f"{LONG[:19]}<br>{LONG[19:]}",
     "".join(f"%{ord(each):02x}" for each in LONG[:24]), LONG[:24].upper(),
     base64.b64encode(f"user:{LONG[:24]}".encode()).decode()],
)  # fmt: skip
def test_a_part_of_a_long_secret_is_masked(said: str) -> None:
    """A server may have cut it, at either end and without a sign of that, or put something in between."""
    found = known(LONG).value({"detail": f"it says {said} here"})
    assert isinstance(found, dict)
    assert not any(LONG[place : place + 9].lower() in str(found).lower() for place in range(len(LONG) - 8))
    assert said not in str(found)
    assert found["detail"].startswith("it says ")
    assert found["detail"].endswith(" here")


def test_a_part_that_anybody_could_write_is_not_masked() -> None:
    """Neither a short one, nor words: a secret header may be a sentence."""
    sentence = known(None, x_about="the department of public health in town 12")
    for text in (f"no {LONG[:10]}", "the department of public health", "of public health in town"):
        assert sentence.value(text) == text
    assert known("cpk_" + "0" * 40).value("chute 11d0b1a3-000000000000") == "chute 11d0b1a3-000000000000"


FORMS: Mapping[str, Callable[[str], str]] = {
    "plain": str,
    "capitals": str.upper,
    "small": str.lower,
    "url": lambda text: urllib.parse.quote(text, safe=""),
    "small url": lambda text: urllib.parse.quote(text, safe="").lower(),
    "form": urllib.parse.quote_plus,
    "url twice": lambda text: urllib.parse.quote(urllib.parse.quote(text, safe=""), safe=""),
    "url three times": lambda text: urllib.parse.quote(urllib.parse.quote(urllib.parse.quote(text, safe=""))),
    "every character": lambda text: "".join(f"%{ord(each):02x}" for each in text),
    "json": lambda text: json.dumps(text)[1:-1],
    "json in json": lambda text: json.dumps(json.dumps(json.dumps(text))),
    "slashes": lambda text: text.replace("/", "\\/"),
    "unicode": lambda text: "".join(f"\\u{ord(each):04X}" for each in text),
    "unicode in json": lambda text: json.dumps("".join(f"\\u{ord(each):04x}" for each in text)),
    "bytes": lambda text: "".join(f"\\x{ord(each):02x}" for each in text),
    "html": html.escape,
    "entities": lambda text: "".join(f"&#{ord(each)};" for each in text),
    "hexadecimal entities": lambda text: "".join(f"&#x{ord(each):X};" for each in text),
    "hex": lambda text: text.encode().hex(),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "urlsafe base64": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "basic": lambda text: "Basic " + base64.b64encode(f"me:{text}".encode()).decode(),
    "basic, longer": lambda text: "Basic " + base64.b64encode(f"user:{text}\n".encode()).decode(),
    "mime": lambda text: codecs.encode(f"{'x' * 51}{text}".encode(), "base64").decode(),
    "two lines": lambda text: f"{text[:7]}\r\n   {text[7:]}",
    "repr": lambda text: repr(text.encode())[2:-1],
    "wide unicode": lambda text: "".join(f"\\U{ord(each):08x}" for each in text),
    "octal": lambda text: "".join(f"\\{ord(each):03o}" for each in text),
    "braces": lambda text: "".join(f"\\u{{{ord(each):x}}}" for each in text),
    "javascript": lambda text: "".join(f"%u{ord(each):04x}" for each in text),
    "blanks": lambda text: " ".join(text[at : at + 4] for at in range(0, len(text), 4)),
    "letter by letter": " ".join,
    "zero width": lambda text: f"{text[:7]}\u200b{text[7:]}",
    "url in unicode": lambda text: FORMS["unicode"](FORMS["every character"](text)),
    "unicode in url": lambda text: urllib.parse.quote(FORMS["unicode"](text), safe=""),
    "url in entities": lambda text: FORMS["entities"](urllib.parse.quote(text, safe="")),
    "base64 of base64": lambda text: base64.b64encode(base64.b64encode(text.encode())).decode(),
    "base64 of url": lambda text: base64.b64encode(FORMS["every character"](text).encode()).decode(),
    "base64 of json": lambda text: base64.b64encode(json.dumps({"key": text, "ok": False}).encode()).decode(),
    "base64 of utf-16": lambda text: base64.b64encode(text.encode("utf-16-le")).decode(),
    "base64 in url": lambda text: urllib.parse.quote(base64.b64encode(f"me:{text}".encode()).decode(), safe=""),
    "base64 with blanks": lambda text: " ".join(codecs.encode(text.encode(), "base64").decode().strip()),
    "hex with colons": lambda text: text.encode().hex(":"),
    "list of hex": lambda text: ", ".join(f"0x{ord(each):02x}" for each in text),
}


OPENED = ("base64 of base64", "base64 of url", "base64 of utf-16")
"""Forms that are found only where the code around them is opened."""


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("around", ["{}", "key {} is bad", "_{}_", "\\n{}", "a{}b", "{{'{}': 1}}", "x={}&y=2", "<{}>"])
def test_every_form_is_masked(form: str, around: str) -> None:
    """Wherever it stands."""
    if form in OPENED and around in ("_{}_", "a{}b"):
        pytest.skip("with other letters beside it, it is another code")
    text = around.format(FORMS[form](KEY))
    masked = known().text(text)
    assert "****" in masked
    assert echoes_of(KEY, masked) == []


def echoes_of(secret: str, text: str) -> list[str]:
    """The forms in which a text has most of a secret."""
    lowered = "".join(urllib.parse.unquote_plus(text).lower().split())
    parts = (FORMS[form](secret).lower() for form in FORMS)
    return [part for part in parts if "".join(part.split())[: len(part) * 3 // 4] in lowered]


@settings(max_examples=100, deadline=None)
@given(
    st.text(string.ascii_letters + string.digits + "!#$%&'*+-./:=?@_~", min_size=12, max_size=60),
    st.text(max_size=40),
    st.text(max_size=40),
    st.sampled_from(sorted(FORMS)),
)
def test_any_secret_in_any_text_is_masked(secret: str, before: str, after: str, form: str) -> None:
    """What is around it stays, but for what could be part of a code."""
    mask = known(secret)
    masked = mask.text(f"{before} {FORMS[form](secret)} {after}")
    assert "****" in masked
    assert FORMS[form](secret) not in masked
    assert mask.text(masked) == masked


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=200))
def test_a_text_without_secrets_stays_as_it_is(text: str) -> None:
    """The same object, even."""
    assert known("0123456789abcdefghij-nowhere").text(text) is text


def test_what_is_inside_a_header_is_secret_too() -> None:
    """The token behind a scheme, the values of cookies and parameters, and what basic authentication encodes."""
    basic = base64.b64encode(b"me:pa55word~x").decode()
    mask = known(
        None, X_Auth=f"Token {TOKEN}", Cookie="theme=dark; session=c00kie-42", Proxy_Authorization=f"Basic {basic}",
        X_Sign='keyId="an-id-17",signature="aa11bb22cc"', X_Title="an ordinary title",
    )  # fmt: skip
    text = f"{TOKEN}; c00kie-42; pa55word~x; {basic}; an-id-17; aa11bb22cc; dark; an ordinary title"
    assert mask.text(text) == "****; ****; ****; ****; ****; ****; dark; an ordinary title"


@pytest.mark.parametrize(("value", "text"), [
    ("true", "it is true"), ("1", "1 of 1"), ("none", "none"), ("chutes", "chutes.ai"), ("dark17", "dark1789"),
    ("x" * 11, "y" + "x" * 11),
])  # fmt: skip
def test_short_values_do_not_spoil_messages(value: str, text: str) -> None:
    """A word is no secret that could be found in a sentence; a short value counts where it stands alone."""
    assert known(None, X_Mode=value).text(text) == text
    assert known(None, X_Mode="dark17").text("a (dark17) theme") == "a (****) theme"


def test_a_secret_that_was_cut_off_is_masked() -> None:
    """A message quotes a part of a body, which may end inside a secret."""
    said = "x" * (1000 - 10) + KEY
    error = known().mask(failure(Kind.BAD_REQUEST, said, body={"detail": said}))
    assert KEY[:4] not in str(error)
    assert known().message(f"it said: {KEY[:6]}…") == "it said: ****…"
    assert known().message(f"(it said: {KEY[:4]})") == "(it said: ****)"
    assert known().message(f"it said: {KEY[:6]} and more") == f"it said: {KEY[:6]} and more"


def test_every_part_of_a_failure_is_masked() -> None:
    """Text, body (also its keys and numbers), request id, what had arrived, notes; and nothing else is changed."""
    call = ToolCall("1", "pay", json.dumps({"key": KEY}))
    reply = Reply("1", "acme/one", (Choice(0, f"It is {KEY}.", f"hm, {KEY}", (call,), (), None),))
    body = {"detail": [{KEY: [KEY, 1, True, None, 1.5, ("a", KEY)]}], "pin": 12345678, "fine": {"a": ["b"]}}
    error = failure(
        Kind.STREAM_ERROR, f"no {KEY}", model="acme/one", status_code=401, body=body, request_id=f"id-{KEY}",
        partial_reply=reply, retry_after=3.5,
    )  # fmt: skip
    error.add_note(f"see {KEY}")
    try:
        try:
            raise ValueError(KEY)
        except ValueError:
            raise error  # noqa: B904
    except type(error) as caught:
        masked = known(X_Pin="12345678").mask(caught)
    assert masked is error
    shown = repr([vars(error), str(error), error.partial, error.partial_reply, error.__notes__, error.__context__])
    assert KEY not in shown
    assert error.__traceback__ is None
    assert error.body == {
        "detail": [{"****": ["****", 1, True, None, 1.5, ("a", "****")]}], "pin": "****", "fine": {"a": ["b"]}
    }  # fmt: skip
    assert (error.kind, error.status_code, error.model, error.retry_after) == (Kind.STREAM_ERROR, 401, "acme/one", 3.5)
    assert isinstance(error.kind, Kind)
    assert error.partial == "It is ****."
    assert error.partial_reply is not None
    assert json.loads(error.partial_reply.choices[0].tool_calls[0].arguments) == {"key": "****"}


def test_what_has_no_secret_is_the_same_object() -> None:
    """A partial answer is rebuilt only if it has to be."""
    reply = Reply("1", "acme/one", (Choice(0, "Hi", "", (), (), None),))
    assert known().value(reply) is reply
    assert known().value(replace(reply, id=KEY)) == replace(reply, id="****")


def test_depth_has_an_end() -> None:
    """A body that is nested deeper than any is cut, and nothing overflows."""
    deep: Any = KEY
    for _ in range(10_000):
        deep = [deep]
    assert KEY not in repr(known().value(deep))


@pytest.mark.parametrize(
    "piece", [
        KEY, "%25", "%", "\\", "\\u0041", "&#65;", "&", " ", "=", "A", KEY[:4], KEY[:-1], "(", "…", ")",
        base64.b64encode(b"xx" + KEY.encode()).decode().rstrip("="), base64.b64encode(KEY.encode()).decode(), "+",
    ],
)  # fmt: skip
def test_a_hostile_text_takes_linear_time(piece: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Counted in steps of the interpreter and of the loops over a code, not in seconds."""
    widened: list[int] = []
    original = echoes._whole_code

    def counting(text: str, start: int, end: int) -> tuple[int, int]:
        found = original(text, start, end)
        widened.append((start - found[0]) + (found[1] - end))
        return found

    monkeypatch.setattr(echoes, "_whole_code", counting)
    mask = known(X_Key=TOKEN)

    def work(length: int) -> int:
        widened.clear()
        mask.message(piece * (length // len(piece)))
        return sum(widened) + len(widened)

    work(1_000)
    few, many = work(2_000), work(20_000)
    assert many <= 11 * few + 100


def test_nothing_is_sought_where_nothing_was_sent() -> None:
    """A call without a key and without headers has nothing to mask."""
    assert list(Echoes([]).spans("anything")) == []
    assert known(None).text("anything at all") == "anything at all"
    assert replaced("abc", [(0, 1), (1, 2), (0, 2)], "*") == "*c"


def test_a_long_body_is_searched_at_once() -> None:
    """A megabyte of text, and a row of a hundred thousand short ones."""
    chance = random.Random(7)
    text = "".join(chance.choices(string.printable, k=1_000_000))
    assert known(X_Key=TOKEN).text(text + KEY).endswith("****")
    assert known().value([KEY[:5]] * 100_000)[0] == KEY[:5]  # type: ignore[index]
