"""Messages made fit for the gateway, and the caller's own left as they were."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chutes_core.errors import RequestRefusedError
from chutes_core.request.messages import fit_messages, prompt_bytes, remote_images

USER = {"role": "user", "content": "Hi"}
PNG = "data:image/png;base64,AAAA"
REMOTE = "https://pictures.test/a.png"


def image(url: object, kind: str = "image_url") -> dict[str, object]:
    return {"type": kind, kind: url}


def user(*parts: object) -> dict[str, object]:
    return {"role": "user", "content": list(parts)}


def call(arguments: object, **more: object) -> dict[str, object]:
    function = {"name": "pay", "arguments": arguments}
    return {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "t1", "type": "function", "function": function}],
    }


def arguments_of(message: dict[str, Any]) -> object:
    return message["tool_calls"][0]["function"]["arguments"]


# ------------------------------------------------------------------------------------------------ roles


def test_developer_becomes_system() -> None:
    """The role that the service's templates do not know is sent as the one they do."""
    assert fit_messages([{"role": "developer", "content": "Be brief."}, USER]) == [
        {"role": "system", "content": "Be brief."},
        USER,
    ]


@pytest.mark.parametrize("role", ["system", "user", "assistant", "tool", "function"])
def test_other_roles_and_unknown_fields_stay(role: str) -> None:
    """Nothing else about a message is changed or dropped."""
    message = {"role": role, "content": "x", "name": "n", "tool_call_id": "t1", "reasoning_content": "because"}
    assert fit_messages([message]) == [message]


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ("Hi", "must be a list of messages"),
        (b"Hi", "must be a list of messages"),
        (USER, "must be a list of messages"),
        (None, "must be a list of messages"),
        ([], "is empty"),
        (["Hi"], "Message 0 is a str"),
        ([USER, None], "Message 1 is a NoneType"),
        ([USER, {"content": "x"}], "Message 1 has the role None"),
        ([{"role": "human", "content": "x"}], "the role 'human'; the service accepts system, user"),
        ([{"role": ["user"], "content": "x"}], "the role \\['user'\\]"),
        ([{"role": "user", "content": 7}], "content of message 0 must be text or a list of parts"),
        ([{"role": "user", "content": {"type": "text"}}], "content of message 0"),
        ([user(7)], "content part of message 0 is a int"),
        ([user({"type": "file", "file": {}})], "has a file, which Chutes does not accept"),
        ([user({"type": "file_url", "file_url": "x"})], "has a file"),
        ([user({"type": "input_file"})], "has a file"),
        ([user(image("pictures/a.png"))], "needs an http.s. address or a data: URI"),
        ([user(image("file:///etc/passwd"))], "needs an http"),
        ([user(image({"url": None}))], "needs an http"),
        ([user(image({}, "video_url"))], "a part of type 'video_url' needs an http"),
        ([user({"type": "image_url"})], "needs an http"),
    ],
)
def test_what_could_only_be_refused_is_refused_here(messages: Any, words: str) -> None:
    """The error names the message and what is wrong with it."""
    with pytest.raises(RequestRefusedError, match=words):
        fit_messages(messages)


def test_a_generator_of_messages_will_do() -> None:
    """Messages are read once, from anything that gives them."""
    assert fit_messages(iter([USER])) == [USER]  # type: ignore[arg-type]


# ------------------------------------------------------------------------------------------------ parts


def test_parts() -> None:
    """A text is a part of its own kind, a tuple is a list, and parts of other kinds are passed on."""
    audio = {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}
    fitted = fit_messages([{"role": "user", "content": ("Look:", {"type": "text", "text": "here"}, audio)}])
    assert fitted[0]["content"] == [{"type": "text", "text": "Look:"}, {"type": "text", "text": "here"}, audio]


@pytest.mark.parametrize("kind", ["image_url", "video_url", "image", "video"])
@pytest.mark.parametrize("url", [REMOTE, "HTTP://pictures.test/a.png", PNG])
def test_a_bare_address_gets_its_object(kind: str, url: str) -> None:
    """The form that the gateway takes for plain http too is used, and a detail stays."""
    assert fit_messages([user(image(url, kind))])[0]["content"] == [image({"url": url}, kind)]
    detailed = image({"url": url, "detail": "low"}, kind)
    assert fit_messages([user(detailed)])[0]["content"] == [detailed]


def test_eight_remote_images_and_no_more() -> None:
    """The gateway's limit is kept here, over all messages, and the error says what helps."""
    eight = [user(image(f"{REMOTE}?{number}")) for number in range(8)]
    assert len(fit_messages([*eight, user(*[image(PNG), image(PNG.replace("data", "DATA"))] * 5)])) == 9
    with pytest.raises(RequestRefusedError, match=r"at most 8 .*inline_images=True"):
        fit_messages([*eight, user(image(REMOTE))])


def test_the_addresses_to_fetch() -> None:
    """Remote addresses are found in order, in whatever company."""
    messages: list[Any] = [
        USER,
        "no message",
        {"role": "assistant", "content": None},
        user("text", 7, image(PNG), image({"url": REMOTE}), {"type": "text", "text": REMOTE}),
        user(image("http://b.test/v.mp4", "video")),
    ]
    assert list(remote_images(messages)) == [REMOTE, "http://b.test/v.mp4"]


def test_a_large_image_is_not_kept() -> None:
    """Reading the kind of a data URI's address neither copies it nor leaves it in some cache."""
    from urllib.parse import urlsplit

    before = urlsplit.cache_info().currsize  # type: ignore[attr-defined]
    fit_messages([user(image("data:image/png;base64," + "A" * 1_000_000))])
    assert urlsplit.cache_info().currsize == before  # type: ignore[attr-defined]


# ------------------------------------------------------------------------------------------------ tool calls


@pytest.mark.parametrize(
    ("arguments", "sent"),
    [
        ('{"amount": 1}', '{"amount": 1}'),
        (' {"amount": 1}\n', '{"amount": 1}'),
        ("", "{}"),
        ("  ", "{}"),
        (None, "{}"),
        ({"amount": 1}, '{"amount": 1}'),
        ('```json\n{"amount": 1}\n```', '{"amount": 1}'),
        ("```\n{}\n```", "{}"),
        ("null", "null"),
    ],
)
def test_arguments_written_differently_are_put_right(arguments: object, sent: str) -> None:
    """A call of history goes out with its arguments as JSON text, and nothing else of it changes."""
    (fitted,) = fit_messages([call(arguments)])
    assert fitted == call(sent)


@pytest.mark.parametrize(
    "arguments",
    ['{"amount": 10', "{amount: 1}", '{"a": 1} {"b": 2}', '{"amount": NaN}', {"amount": float("inf")}, {"a": object()}],
)
def test_broken_arguments_are_not_replayed(arguments: object) -> None:
    """A call that was cut, or is no JSON, is refused by name, and never completed by guessing."""
    with pytest.raises(RequestRefusedError, match=r"Message 1 replays a call of the tool 'pay'.*must not be sent back"):
        fit_messages([USER, call(arguments)])


@pytest.mark.parametrize("broken", [7, {"id": "t1"}, {"function": "pay"}])
def test_a_call_without_a_function_is_refused(broken: object) -> None:
    """What is no tool call is not sent as one."""
    with pytest.raises(RequestRefusedError, match="tool call of message 0 has no function"):
        fit_messages([{"role": "assistant", "content": "", "tool_calls": [broken]}])


@pytest.mark.parametrize("calls", [None, []])
def test_no_tool_calls_are_left_out(calls: object) -> None:
    """A null or empty list of calls, as the service itself gives, is not sent back."""
    assert fit_messages([{"role": "assistant", "content": "x", "tool_calls": calls}]) == [
        {"role": "assistant", "content": "x"}
    ]


# ------------------------------------------------------------------------------------------------ system messages

PART = {"type": "text", "text": "parts"}


@pytest.mark.parametrize(
    ("systems_and_others", "joined"),
    [
        ([("system", "One."), ("user", "Hi"), ("system", "Two.")], "One.\n\nTwo."),
        ([("user", "Hi"), ("system", "Late.")], "Late."),
        ([("system", "One."), ("developer", "Two."), ("user", "Hi")], "One.\n\nTwo."),
        ([("system", ""), ("system", "Two."), ("user", "Hi")], "Two."),
        ([("system", "One."), ("system", [PART]), ("user", "Hi")], [{"type": "text", "text": "One."}, PART]),
        ([("system", None), ("system", "Two."), ("user", "Hi")], [{"type": "text", "text": "Two."}]),
    ],
)
def test_system_messages_are_joined_where_a_template_needs_it(
    systems_and_others: list[tuple[str, object]], joined: object
) -> None:
    """A strict template gets one system message, at the start, with all that any of them said."""
    messages = [{"role": role, "content": content} for role, content in systems_and_others]
    others = [message for message in messages if message["role"] == "user"]
    assert fit_messages(messages, single_system=True) == [{"role": "system", "content": joined}, *others]


def test_system_messages_stay_where_they_are_otherwise() -> None:
    """No other model has its messages moved."""
    messages = [{"role": "system", "content": "One."}, USER, {"role": "system", "content": "Two."}]
    assert fit_messages(messages) == messages


@pytest.mark.parametrize("messages", [[USER], [{"role": "system", "content": "One.", "name": "n"}, USER]])
def test_what_a_strict_template_takes_is_not_touched(messages: list[dict[str, object]]) -> None:
    """No system message, or one at the start, is already right."""
    assert fit_messages(messages, single_system=True) == messages


# ------------------------------------------------------------------------------------------------ counting


@pytest.mark.parametrize(
    ("messages", "count"),
    [
        ([USER], 2),
        ([{"role": "user", "content": "é"}], 2),
        ([{"role": "user", "content": "\ud800"}], 1),
        ([user({"type": "text", "text": "four"}, image(PNG))], 4),
        ([{"role": "assistant", "content": None}], 0),
    ],
)
def test_bytes_of_a_prompt(messages: list[dict[str, object]], count: int) -> None:
    """Text is counted in bytes, and media are not."""
    assert prompt_bytes(messages) == count


def test_tool_calls_count_too() -> None:
    """What the model reads of earlier calls is part of the prompt."""
    message = call("{}")
    assert prompt_bytes([message]) == len(json.dumps(message["tool_calls"]))


# ------------------------------------------------------------------------------------------------ purity

CONTENTS = (
    st.none()
    | st.text(max_size=4)
    | st.lists(st.sampled_from(["text", PART, image(PNG), image({"url": REMOTE}), {"type": "file"}, 7]), max_size=3)
)
CALLS = st.lists(
    st.sampled_from(["{}", "", "{", None]).map(lambda given: {"function": {"name": "pay", "arguments": given}}),
    max_size=2,
)
MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "developer", "user", "assistant", "tool", "human"]), "content": CONTENTS},
        optional={"tool_calls": CALLS},
    ),
    max_size=5,
)


@given(MESSAGES, st.booleans())
def test_the_callers_messages_are_never_changed(messages: list[dict[str, object]], single: bool) -> None:
    """Fitted or refused, what the caller gave is as it was; and what was fitted once is fit."""
    before = copy.deepcopy(messages)
    try:
        fitted = fit_messages(messages, single_system=single)
    except RequestRefusedError:
        fitted = None
    assert messages == before
    if fitted is not None:
        assert fit_messages(fitted, single_system=single) == fitted
        if single:
            assert "system" not in [message["role"] for message in fitted[1:]]
