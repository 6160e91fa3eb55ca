"""The literal texts of refusals."""

from __future__ import annotations

import json

import pytest

from chutes_local.wire import errors


def test_detail_is_the_only_key_of_an_error_body() -> None:
    """An error body is {"detail": …} and nothing else."""
    assert json.loads(errors.detail(500, errors.EXHAUSTED).body) == {
        "detail": "exhausted all available targets to no avail"
    }


def test_engine_errors_are_nested_json_with_a_double_prefix() -> None:
    """The engine's error is JSON inside the text, after two prefixes."""
    text = json.loads(errors.engine_400("no").body)["detail"]
    prefix = "Invalid request: Invalid request: "
    assert text.startswith(prefix)
    assert json.loads(text.removeprefix(prefix))["detail"] == {
        "object": "error",
        "message": "no",
        "type": "BadRequestError",
        "param": None,
        "code": 400,
    }


@pytest.mark.parametrize(
    ("engine", "phrase"),
    [
        ("sglang", "Requested token count exceeds the model's maximum context length of 100 tokens. You requested"),
        ("vllm", "This model's maximum context length is 100 tokens. However, you requested 130 tokens"),
    ],
)
def test_overflow_speaks_the_engines_words(engine: str, phrase: str) -> None:
    """SGLang and vLLM put the same refusal differently."""
    assert phrase in json.loads(errors.overflow(engine, 100, 30, 100).body)["detail"]


def test_the_quota_error_is_an_object_and_names_the_reset_only_with_a_quota() -> None:
    """402 for one's own quota carries an object; the time stamp is missing without a quota."""
    with_quota = json.loads(errors.quota_exceeded("2026-01-01T00:00:00+00:00").body)["detail"]
    without = json.loads(errors.quota_exceeded(None).body)["detail"]
    assert with_quota["quota_reset_timestamp"] == "2026-01-01T00:00:00+00:00"
    assert with_quota["message"].startswith("Quota exceeded and account balance is $0.0")
    assert set(without) == {"message"}


@pytest.mark.parametrize(("status", "title"), [(429, "429 Too Many Requests"), (504, "504 Gateway Time-out")])
def test_the_edge_answers_in_html(status: int, title: str) -> None:
    """The edge in front of the service sends nginx's page."""
    answer = errors.nginx(status)
    assert answer.content_type == "text/html"
    assert f"<h1>{title}</h1>".encode() in answer.body
