"""What is on the cassettes: each a short program, recorded by ``cassettes/record.py`` and replayed by the tests.

A program gets the arguments that lead a model to the recording (none while it is made, when the environment
leads to the service) and returns what came out, so that recording and replay can be compared.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import vcr
from langchain_core.messages import HumanMessage
from vcr.request import Request

from chutes_core import ChutesError
from langchain_chutes import ChatChutes, ChutesEmbeddings

__all__ = ["FOLDER", "INTERACTIONS", "MODEL", "PLACE", "SETTINGS", "STREAM_TIME", "options", "recorder"]

FOLDER = Path(__file__).parents[2] / "cassettes"
MODEL = "Qwen/Qwen3-32B-TEE"
STREAM_TIME = "TestChatIntegration.test_stream_time"
SEEING = "google/gemma-4-31B-turbo-TEE"
PLACE = "https://chutes.invalid"
"""Stands in the cassettes for the server, whose port is another one each time."""

_KEPT = ("content-type", "x-chutes-")
_PATHS = {"/chat/completions": "/v1/chat/completions", "/embeddings": "/embed/v1/embeddings"}


def scrub_request(request: Request) -> Request | None:
    """Take out of a request who sent it and where to; only what the service is asked stays.

    The embedded Chutes runs in the process that records, and what it asks its own model is not recorded.
    """
    address = urlsplit(request.uri)
    known = next((path for end, path in _PATHS.items() if address.path.endswith(end)), None)
    if known is None or (address.path == "/v1/embeddings" and not address.netloc.endswith(".chutes.ai")):
        return None
    request.uri = f"{PLACE}{known}"
    request.headers = {"Authorization": "Bearer ****", "Content-Type": "application/json"}
    return request


def scrub_response(response: dict[str, Any]) -> dict[str, Any]:
    """Keep those headers of a response that mean something."""
    headers = response["headers"].items()
    return {**response, "headers": {name: value for name, value in headers if name.lower().startswith(_KEPT)}}


SETTINGS: dict[str, Any] = {
    "match_on": ["method", "uri", "body"],
    "before_record_request": scrub_request,
    "before_record_response": scrub_response,
    "decode_compressed_response": True,
}


def recorder(mode: str = "none") -> vcr.VCR:
    """Make the recorder; with "none" a request that is not on the cassette is an error."""
    folder, suffix = str(FOLDER), vcr.VCR.ensure_suffix(".yaml")
    return vcr.VCR(cassette_library_dir=folder, path_transformer=suffix, record_mode=mode, **SETTINGS)


def options() -> dict[str, Any]:
    """The arguments of a replay: a key that is none, and an address that nobody has."""
    return {"api_key": "cpk_replay", "base_url": f"{PLACE}/v1"}


def _chat(given: dict[str, Any], **more: Any) -> ChatChutes:
    return ChatChutes(model=MODEL, temperature=0, max_tokens=40, max_retries=0, **given, **more)


def invoke(given: dict[str, Any]) -> Any:
    """A plain question."""
    message = _chat(given).invoke("What is the capital of France?")
    return [message.text, message.usage_metadata]


def stream(given: dict[str, Any]) -> Any:
    """The same, streamed."""
    chunks = list(_chat(given).stream("Count to three."))
    return ["".join(chunk.text for chunk in chunks), chunks[-1].usage_metadata]


def tool_call(given: dict[str, Any]) -> Any:
    """A forced call of a tool, streamed."""

    def get_weather(city: str) -> str:
        """Tell the weather in a city."""
        return city

    bound = _chat(given).bind_tools([get_weather], tool_choice="any")
    first, *rest = bound.stream("What is the weather in Oslo?")
    return (first + rest).tool_calls  # type: ignore[union-attr, operator]


def structured(given: dict[str, Any]) -> Any:
    """An answer of a given form."""
    schema = {
        "title": "Person",
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 12}, "age": {"type": "integer"}},
        "required": ["name", "age"],
    }
    return _chat(given).with_structured_output(schema).invoke([HumanMessage("Anna is 31 years old.")])


def unknown_model(given: dict[str, Any]) -> Any:
    """A model that is not there."""
    try:
        ChatChutes(model="acme/nowhere", max_retries=0, **given).invoke("Hello")
    except ChutesError as error:
        return [type(error).__name__, getattr(error, "status_code", None)]
    return None


def embed(given: dict[str, Any]) -> Any:
    """A few vectors of few dimensions."""
    host = {"embedding_base_url": f"{PLACE}/embed/v1"} if given else {}
    embeddings = ChutesEmbeddings(**given, **host, dimensions=32, max_retries=0)
    return [[round(number, 5) for number in vector] for vector in embeddings.embed_documents(["one", "two"])]


def stream_time(given: dict[str, Any]) -> Any:
    """What LangChain's own test of the time a stream takes sends."""
    model = ChatChutes(model=SEEING, temperature=0, max_tokens=100, timeout=60, stop=[], max_retries=2, **given)
    return "".join(chunk.text for chunk in model.stream("Write a story about a cat."))


INTERACTIONS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "invoke": invoke,
    "stream": stream,
    "tool_call": tool_call,
    "structured": structured,
    "unknown_model": unknown_model,
    "embed": embed,
    STREAM_TIME: stream_time,
}
