"""Parse a request body into a job: the gateway's guardrails, then the engine's own checks.

The order is the service's: JSON, names and thinking switches, tools, the gateway's guardrails (not on a model's
own host), and then whatever the engine would refuse.

>>> parse_json(b"{")
Traceback (most recent call last):
chutes_local.wire.errors.Refused: 400 {"detail":"Invalid request JSON: ..."}
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from chutes_local.backends.backend import ChatRequest
from chutes_local.gateway.forced_call import JSON_OBJECT, SchemaError, bounded
from chutes_local.gateway.messages import Flat, check_files, check_history, check_roles, flatten
from chutes_local.gateway.prefill import Beginning, beginning, continues
from chutes_local.gateway.reasoning import form_of, thinking_wanted
from chutes_local.gateway.tools import Tool, check_tools, offered
from chutes_local.wire import errors
from chutes_local.wire.errors import Refused
from chutes_local.wire.read import read_json
from chutes_local.world.fleet import SHAPE_CHOICES, Chute, Reasoning, Shape

Body = Mapping[str, object]
DEFAULT_MAX_TOKENS = 512
"""The limit when ``max_tokens`` is left out: enough for a small model, which might not stop by itself."""
CHARACTERS_PER_TOKEN = 4
_KEY = re.compile(r"""(?<!\w)([`'"])([A-Za-z_]\w*)\1""")
_FOLLOWED = ("properties", "items", "additionalProperties", "allOf", "anyOf", "oneOf", "not", "if", "then", "else")


@dataclass(frozen=True, slots=True)
class Job:
    """One answer to produce: the engine's part and the gateway's part."""

    request: ChatRequest
    n: int = 1
    tools: Sequence[Tool] = ()
    shape: Shape = field(default_factory=Shape)
    reasoning: Reasoning = "off"
    question: str = ""
    preface: str = ""
    prompt_tokens: int = 0
    begun: Beginning | None = None


def parse_json(raw: bytes) -> dict[str, object]:
    """Parse a body that must be a JSON object."""
    try:
        body = read_json(raw)
    except ValueError as error:
        raise Refused(errors.detail(400, f"Invalid request JSON: {error}")) from error
    if not isinstance(body, dict):
        raise Refused(errors.unhandled())
    return body


def wants_stream(body: Body) -> bool:
    """Read ``stream``; for anything but a real boolean, ``null`` included, the service finds no cord."""
    value = body.get("stream", False)
    if not isinstance(value, bool):
        raise Refused(errors.detail(404, errors.NO_CORD))
    return value


def check_gateway(body: Body) -> None:
    """Refuse what the gateway refuses for every model: files, and patterns in structured output."""
    check_files(_messages(body))
    structured = body.get("structured_outputs")
    structured = structured if isinstance(structured, Mapping) else {}
    if body.get("guided_regex") or structured.get("regex"):
        raise Refused(errors.detail(400, errors.NO_REGEX))
    if has_pattern(_schema_of(body)) or has_pattern(_read(structured.get("json"))):
        raise Refused(errors.detail(400, errors.NO_SCHEMA_PATTERN))


def has_pattern(schema: object) -> bool:
    """Return whether the service finds a ``pattern`` in a schema.

    It takes ``properties`` for a schema too: so a property's own schema is not looked at, and a property of that name
    counts, as does the ``pattern`` of a property named like a keyword that it follows.

    >>> has_pattern({"properties": {"zip": {"pattern": "[0-9]+"}}})
    False
    >>> has_pattern({"properties": {"pattern": {"type": "string"}}})
    True
    """
    if not isinstance(schema, Mapping):
        return False
    followed = (schema[key] for key in _FOLLOWED if key in schema)
    inner = (part for value in followed for part in (value if isinstance(value, list) else [value]))
    return "pattern" in schema or any(map(has_pattern, inner))


def _read(value: object) -> object:
    """Read a schema that may be given as text; what is no JSON is left to the engine."""
    try:
        return read_json(value.encode()) if isinstance(value, str) else value
    except ValueError:
        return None


def read_shape(chute: Chute, headers: Mapping[str, str]) -> Shape:
    """Return the model's shape, as changed by the ``X-Local-…`` headers of this request."""
    changes: dict[str, object] = {
        name: headers[header] for name in SHAPE_CHOICES if (header := "x-local-" + name.replace("_", "-")) in headers
    }
    if "x-local-tool-calls" in headers:
        text = headers["x-local-tool-calls"]
        changes["tool_calls"] = int(text) if text.isdecimal() else text
    try:
        return chute.shape.changed(**changes) if changes else chute.shape
    except ValueError as error:
        raise Refused(errors.detail(400, f"X-Local header: {error}")) from error


def chat_job(body: Body, chute: Chute, headers: Mapping[str, str], *, thinking: bool) -> Job:
    """Check a chat request as the engine behind ``chute`` would, and return the job."""
    messages = _messages(body)
    if not messages:
        raise Refused(errors.engine_400("messages: at least one message is required"))
    check_history(messages)
    check_roles(messages, developer=chute.fact("developer_role"), strict_system=chute.fact("strict_system"))
    tools = check_tools(body)
    flat = flatten(messages)
    for medium in flat.kinds:
        if not chute.takes(medium):
            raise Refused(errors.engine_400(f"{chute.name} is not a multimodal model: it takes no {medium}"))
    called = offered(body.get("tool_choice"), tools, messages)
    shape = read_shape(chute, headers)
    asked = cast("Reasoning | None", headers.get("x-local-reasoning"))
    prompt_tokens = sum(estimate_tokens(message["content"]) + 4 for message in flat.messages)
    question = next((m["content"] for m in reversed(flat.messages) if m["role"] == "user"), "")
    schema = None if called else _answer_schema(body, question)
    begun = beginning(flat.messages, body, shape) if continues(body, chute.engine) else None
    goes_on = begun is not None and begun.left_open
    request = _engine_request(body, chute, begun.messages if begun else flat.messages, prompt_tokens, schema)
    return Job(
        request=replace(request, continued=goes_on),
        n=_number(body, "n", 1, 1, 128),
        tools=called,
        shape=shape,
        reasoning="off" if goes_on else form_of(chute, asked, thinking or thinking_wanted(body)),
        question=question,
        preface="" if schema or goes_on else _preface(flat),
        prompt_tokens=prompt_tokens,
        begun=begun,
    )


def text_job(body: Body, chute: Chute) -> Job:
    """Do the same for ``/v1/completions``, whose prompt is one text or a list of one."""
    prompt = body.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str) or not prompt:
        raise Refused(errors.engine_400("prompt: one non-empty text is required"))
    tokens = estimate_tokens(prompt)
    request = _engine_request(body, chute, [{"role": "user", "content": prompt}], tokens, None)
    return Job(request, n=_number(body, "n", 1, 1, 128), prompt_tokens=tokens)


def named_keys(question: str) -> Body | None:
    """Build a schema from the quoted keys in a JSON mode question: a small model would not find them by itself.

    >>> named_keys("Return JSON with `name` and 'age' keys")["required"]
    ['name', 'age']
    """
    names = list(dict.fromkeys(key for _, key in _KEY.findall(question)))
    if not names:
        return None
    return {"type": "object", "properties": {name: {"type": "string"} for name in names}, "required": names}


def estimate_tokens(text: str) -> int:
    """Estimate the tokens of a text, for the window check: one per four characters.

    >>> estimate_tokens("four score")
    3
    """
    return math.ceil(len(text) / CHARACTERS_PER_TOKEN)


def _messages(body: Body) -> list[Mapping[str, object]]:
    messages = body.get("messages", [])
    if not isinstance(messages, list) or not all(isinstance(item, Mapping) for item in messages):
        raise Refused(errors.engine_400("messages: a list of objects is required"))
    return messages


def _engine_request(
    body: Body, chute: Chute, messages: list[dict[str, str]], prompt_tokens: int, schema: Body | None
) -> ChatRequest:
    wanted = body.get("max_tokens", body.get("max_completion_tokens"))
    limit = _number({"max_tokens": wanted}, "max_tokens", 0, 1, 2**31) if wanted is not None else 0
    if prompt_tokens + limit > chute.window:
        raise Refused(errors.overflow(chute.engine, chute.window, prompt_tokens, limit))
    stop = body.get("stop") or []
    if not isinstance(stop, str | list):
        raise Refused(errors.engine_400("stop: a text or a list of texts is required"))
    return ChatRequest(
        messages=messages,
        max_tokens=limit or DEFAULT_MAX_TOKENS,
        temperature=_real(body, "temperature", 0.0, 2.0),
        top_p=_real(body, "top_p", 0.0, 1.0),
        top_k=_number(body, "top_k", 0, -1, 2**31) if body.get("top_k") is not None else None,
        seed=_number(body, "seed", 0, -(2**63), 2**63) if body.get("seed") is not None else None,
        stop=(stop,) if isinstance(stop, str) else tuple(map(str, stop)),
        json_schema=schema,
    )


def _answer_schema(body: Body, question: str) -> Body | None:
    form = body.get("response_format")
    kind = form.get("type") if isinstance(form, Mapping) else None
    if form is None or kind == "text":
        return None
    if kind == "json_object":
        return named_keys(question) or JSON_OBJECT
    schema = _schema_of(body)
    if not isinstance(schema, Mapping):
        raise Refused(errors.engine_400("response_format: json_object, or json_schema with a schema, is required"))
    try:
        bounded(schema)
    except SchemaError as error:
        raise Refused(errors.engine_400(f"response_format: {error}")) from error
    return schema


def _schema_of(body: Body) -> object:
    form = body.get("response_format")
    described = form.get("json_schema") if isinstance(form, Mapping) and form.get("type") == "json_schema" else None
    return described.get("schema") if isinstance(described, Mapping) else None


def _preface(flat: Flat) -> str:
    if not flat.media:
        return ""
    return f"(The local model cannot see. It was sent: {'; '.join(flat.media)}.) "


def _real(body: Body, name: str, low: float, high: float) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise Refused(errors.engine_400(f"{name} must be in [{low:g}, {high:g}], got {json.dumps(value)}."))
    return float(value)


def _number(body: Body, name: str, default: int, low: int, high: int) -> int:
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise Refused(errors.engine_400(f"{name} must be a whole number of at least {low}, got {json.dumps(value)}."))
    return value
