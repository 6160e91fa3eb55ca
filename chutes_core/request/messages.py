"""Adapt messages to what Chutes accepts, without changing the caller's own.

The gateway refuses what other services accept: a ``developer`` role, several system messages where the model's
template takes one, files, broken tool-call arguments replayed from history.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence

from chutes_core.errors import RequestRefusedError
from chutes_core.json_text import unfenced

__all__ = ["Message", "fit_messages", "prompt_bytes", "remote_images"]

Message = Mapping[str, object]
"""One message of a conversation in OpenAI's format."""

MAX_REMOTE_IMAGES = 8
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_MEDIA = ("image_url", "video_url", "image", "video")


def fit_messages(
    messages: Sequence[Message], *, single_system: bool = False, inline: bool = False
) -> list[dict[str, object]]:
    """Return the messages in the form the gateway accepts.

    Args:
        messages: The conversation; it is not changed.
        single_system: The model's template takes one system message, at the start.
        inline: Remote images will be fetched here, so the gateway's limit on them does not apply.

    Raises:
        RequestRefusedError: The service would refuse a message, or lose part of it.

    >>> fit_messages([{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "Hi"}])[0]
    {'role': 'system', 'content': 'Be brief.'}
    """
    if isinstance(messages, str | bytes | Mapping) or not isinstance(messages, Iterable):
        raise RequestRefusedError("messages must be a list of messages such as {'role': 'user', 'content': 'Hello'}.")
    fitted = [_fit(message, position) for position, message in enumerate(messages)]
    if not fitted:
        raise RequestRefusedError("messages is empty: a conversation needs at least one message.")
    if not inline and len(list(remote_images(fitted))) > MAX_REMOTE_IMAGES:
        raise RequestRefusedError(
            f"The gateway fetches at most {MAX_REMOTE_IMAGES} remote images or videos per request: send fewer, or "
            "let the client inline them (inline_images=True)."
        )
    return _one_system(fitted) if single_system else fitted


def remote_images(messages: Iterable[Message]) -> Iterable[str]:
    """Yield the URLs of images and videos that the gateway would have to fetch."""
    for message in messages:
        for part in _parts(message):
            url = media_url(part)
            if url is not None and _scheme(url) != "data":
                yield url


def media_url(part: Mapping[str, object]) -> str | None:
    """Return the URL in an image or video part; None for any other part."""
    kind = part.get("type")
    if kind not in _MEDIA:
        return None
    holder = part.get(str(kind))
    url = holder.get("url") if isinstance(holder, Mapping) else holder
    return url if isinstance(url, str) else None


def _scheme(url: str) -> str:
    # Not urlsplit: it copies a data: URI of megabytes several times, and caches it.
    return url[:10].partition(":")[0].lower()


def prompt_bytes(messages: Iterable[Message]) -> int:
    """Count the bytes of text in a conversation, with tool calls but without media."""
    total = 0
    for message in messages:
        content = message.get("content")
        texts = [content] if isinstance(content, str) else [part.get("text") for part in _parts(message)]
        texts += [json.dumps(message["tool_calls"])] if message.get("tool_calls") else []
        total += sum(len(text.encode("utf-8", "replace")) for text in texts if isinstance(text, str))
    return total


def _fit(message: object, position: int) -> dict[str, object]:
    if not isinstance(message, Mapping):
        raise RequestRefusedError(f"Message {position} is a {type(message).__name__}, not a mapping with a role.")
    fitted = dict(message)
    role = fitted.get("role")
    if not isinstance(role, str) or role not in _ROLES:
        raise RequestRefusedError(
            f"Message {position} has the role {role!r}; the service accepts system, user, assistant and tool."
        )
    if role == "developer":
        fitted["role"] = "system"
    content = fitted.get("content")
    if isinstance(content, list | tuple):
        fitted["content"] = [_fit_part(part, position) for part in content]
    elif content is not None and not isinstance(content, str):
        raise RequestRefusedError(f"The content of message {position} must be text or a list of parts.")
    if "tool_calls" in fitted:
        calls = fitted.pop("tool_calls")
        if calls:
            fitted["tool_calls"] = [_fit_call(call, position) for call in calls]
    return fitted


def _fit_part(part: object, position: int) -> dict[str, object]:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    if not isinstance(part, Mapping):
        raise RequestRefusedError(f"A content part of message {position} is a {type(part).__name__}, not a mapping.")
    kind = part.get("type")
    if kind in ("file", "file_url", "input_file"):
        raise RequestRefusedError(
            f"Message {position} has a file, which Chutes does not accept: send its text, or its pages as images."
        )
    if kind not in _MEDIA:
        return dict(part)
    url = media_url(part)
    if url is None or _scheme(url) not in ("http", "https", "data"):
        raise RequestRefusedError(
            f"Message {position}: a part of type {kind!r} needs an http(s) address or a data: URI."
        )
    holder = part[str(kind)]
    # The bare-string form is accepted for https on port 443 only, the dict form for http and https.
    return {**part, str(kind): dict(holder) if isinstance(holder, Mapping) else {"url": url}}


def _fit_call(call: object, position: int) -> dict[str, object]:
    """Ensure that the arguments of a tool call in the history are JSON text.

    Mere differences in notation are fixed. Broken JSON is refused: the gateway would answer 400, and guessing the
    rest of a truncated call would make the model believe that it wrote it.
    """
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(call, Mapping) or not isinstance(function, Mapping):
        raise RequestRefusedError(f"A tool call of message {position} has no function.")
    arguments = function.get("arguments")
    try:
        text = arguments if isinstance(arguments, str) else json.dumps({} if arguments is None else arguments)
        text = unfenced(text) or "{}"
        json.loads(text, parse_constant=_no_constant)
    except (TypeError, ValueError, RecursionError) as problem:
        raise RequestRefusedError(
            f"Message {position} replays a call of the tool {function.get('name')!r} whose arguments are not "
            f"valid JSON ({problem}). A call that was cut off must not be sent back: drop it, or ask the model again."
        ) from None
    return {**call, "function": {**function, "arguments": text}}


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is not JSON")


def _one_system(messages: list[dict[str, object]]) -> list[dict[str, object]]:
    """Join all system messages into one at the start."""
    systems = [message for message in messages if message["role"] == "system"]
    if len(systems) <= 1 and (not systems or messages[0] is systems[0]):
        return messages
    contents = [message.get("content") for message in systems]
    joined: object
    if all(isinstance(content, str) for content in contents):
        joined = "\n\n".join(content for content in contents if isinstance(content, str) and content)
    else:
        joined = [part for message in systems for part in _parts(message)]
    return [{"role": "system", "content": joined}, *(message for message in messages if message["role"] != "system")]


def _parts(message: object) -> list[Mapping[str, object]]:
    content = message.get("content") if isinstance(message, Mapping) else None
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [part for part in content if isinstance(part, Mapping)] if isinstance(content, list | tuple) else []
