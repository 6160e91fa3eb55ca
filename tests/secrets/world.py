"""A service that writes back everything it is sent, in many forms, and every class that can be given a secret."""

from __future__ import annotations

import base64
import html
import json
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any
from urllib.parse import quote

from pydantic import SecretStr

import langchain_chutes as lc
import llama_index_chutes as li
from chutes_core import AsyncChutesClient, ChutesClient, async_openai_client, openai_client
from chutes_core.wire.pools import http_package

HEADER = "X-Tenant-Token"
TOKEN = "s3cr3t/T0ken+of=tenant~7"
KEY = "Kq9/zX+w2=unusual~key_7"
COOKIE = "session=c00kie-Crumb~42; theme=dark"
PASSWORD = "pa55word~x"
QUERY = "qu3ry/Tenant~9"
BASIC = base64.b64encode(f"me:{PASSWORD}".encode()).decode()
HEADERS = {HEADER: TOKEN, "Cookie": COOKIE, "Proxy-Authorization": f"Basic {BASIC}"}
HARMLESS = {"X-Title": "my title", "HTTP-Referer": "https://app.example"}
ALL = {**HEADERS, **HARMLESS}
MODEL = "Qwen/Qwen3-32B-TEE"

SECRETS = (TOKEN, KEY, "c00kie-Crumb~42", BASIC, PASSWORD, QUERY)

KEYS: Mapping[str, Callable[[], Any]] = {
    "text": lambda: KEY,
    "SecretStr": lambda: SecretStr(KEY),
    "function": lambda: partial(str, KEY),
}


def forms(secret: str) -> set[str]:
    """The forms in which a secret must not be anywhere."""
    whole = base64.b64encode(secret.encode()).decode()
    return {
        secret, secret.upper(), secret.lower(), secret[::-1], quote(secret, safe=""), quote(secret).lower(),
        json.dumps(secret)[1:-1], secret.replace("/", "\\/"), html.escape(secret), secret.encode().hex(),
        whole.rstrip("=")[:-1], base64.urlsafe_b64encode(secret.encode()).decode().rstrip("=")[:-1],
        "".join(f"\\u{ord(each):04x}" for each in secret), secret[: len(secret) * 2 // 3],
    }  # fmt: skip


FORMS = sorted({form.lower() for secret in SECRETS for form in forms(secret)})


def leaks(shown: object) -> list[str]:
    """Return every place where something shown has a form of a secret."""
    lowered = (shown.decode("latin-1") if isinstance(shown, bytes) else str(shown)).lower()
    places = ((form, lowered.find(form)) for form in FORMS)
    return [f"{form} in …{lowered[max(at - 200, 0) : at + 80]}…" for form, at in places if at >= 0]


def logged(text: str) -> list[str]:
    """Return every place where a log has a form of a secret; an address is what an HTTP package itself writes down."""
    return leaks(text.replace(f"?tenant={quote(QUERY, safe='')}", ""))


def echo(sent: Mapping[str, str]) -> list[str]:
    """Write every header back in every form that a server may use."""
    told: list[str] = []
    for name, value in sent.items():
        token = value.partition(" ")[2] or value
        told += [
            f"{name}: {value}", f"_{token}", f"\\n{token}", f"{token}_", quote(token, safe=""), quote(token).lower(),
            quote(quote(token, safe=""), safe=""), json.dumps({"seen": json.dumps(token)}), html.escape(token),
            token.upper(), base64.b64encode(f"user:{token}".encode()).decode(), token.encode().hex(),
            base64.b64encode(token.encode()).decode(), base64.urlsafe_b64encode(f"xy{token}".encode()).decode(),
            "".join(f"\\u{ord(each):04x}" for each in token), "".join(f"&#{ord(each)};" for each in token),
            f"{token[: len(token) // 2]}\n  {token[len(token) // 2 :]}", repr(token.encode()), f"x={token}&y",
        ]  # fmt: skip
    return told


def _chunk(text: str, **more: Any) -> bytes:
    choice = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None}
    return b"data: " + json.dumps({"id": "1", "model": MODEL, "choices": [choice], **more}).encode() + b"\n\n"


class Service:
    """Transports that answer in a way, having written back what they were sent.

    Args:
        way: "status" (an error page), "body" (an error in a good reply), "event" (an error in a stream that had begun),
            "partial" (the same, and the answer before it), "malformed" (no JSON), "long" (a message that is cut off
            inside the secret), "fine".
    """

    def __init__(self, way: str = "fine") -> None:
        self.way = way
        self.seen: list[Mapping[str, str]] = []
        package = http_package()
        self.blocking = package.Client(transport=package.MockTransport(self._answer))
        self.waiting = package.AsyncClient(transport=package.MockTransport(self._answer))

    def _answer(self, request: Any) -> Any:
        package = http_package()
        sent = dict(request.headers.items())
        self.seen.append(sent)
        said = {**sent, **dict(request.url.params)}
        told = echo({name: value for name, value in said.items() if any(secret in value for secret in SECRETS)})
        back = {
            "x-request-id": f"id {sent.get('x-tenant-token')}",
            "x-chutes-invocationid": sent.get("authorization", ""),
        }
        # The SDK logs the request id of a reply that it takes for an answer.
        events = {"x-chutes-invocationid": back["x-chutes-invocationid"], "content-type": "text/event-stream"}
        stream = b'"stream":true' in request.content.replace(b" ", b"")
        if self.way == "status":
            return package.Response(401, json={"detail": {"message": " ".join(told), told[0]: told}}, headers=back)
        if self.way == "long":
            long = "x" * (1000 - len(KEY) * 3 // 4) + sent["authorization"].partition(" ")[2]
            return package.Response(400, json={"detail": long}, headers=back)
        if self.way == "malformed":
            return package.Response(200, content=("{" + " ".join(told)).encode(), headers=events if stream else back)
        if self.way == "body" and not stream:
            return package.Response(200, json={"error": {"message": " ".join(told), "code": 400}}, headers=back)
        if self.way in ("event", "partial", "body") and stream:
            parts = {"event": [_chunk("It is ")], "partial": [_chunk(f"{each} ") for each in told]}.get(self.way, [])
            broken = b"data: " + json.dumps({"error": {"message": " ".join(told), "code": 500}}).encode() + b"\n\n"
            return package.Response(200, content=b"".join((*parts, broken)), headers=events)
        if stream:
            end = _chunk("").replace(b"null", b'"stop"') + b"data: [DONE]\n\n"
            return package.Response(200, content=_chunk("Hi") + end, headers=events)
        message = {"role": "assistant", "content": "Hi"}
        whole = {"id": "1", "model": MODEL, "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        if "embeddings" in str(request.url):
            whole = {"model": MODEL, "data": [{"index": 0, "embedding": [0.6, 0.8]}]}
        return package.Response(200, json=whole, headers=back)


def made(kind: str, service: Service | None = None, key: Any = None, headers: Any = None, **more: Any) -> Any:
    """Make an object of a class, connected to a service."""
    common = {"api_key": KEY if key is None else key, "default_headers": ALL if headers is None else headers, **more}
    if "openai" not in kind:
        common.setdefault("default_query", {"tenant": QUERY})
    if service is not None and kind.startswith("langchain"):
        common |= {"http_client": service.blocking, "http_async_client": service.waiting}
    elif service is not None and kind.startswith("llama"):
        common |= {"http_client": service.blocking, "async_http_client": service.waiting}
    elif service is not None:
        common |= {"http_client": service.waiting if "async" in kind.lower() else service.blocking}
    return MAKERS[kind](common)


def _lc_fallback(given: dict[str, Any]) -> Any:
    return lc.ChutesFallback([MODEL, "zai-org/GLM-5.2-TEE"], policy={"max_attempts": 2, "backoff": 0.001}, **given)


def _li_fallback(given: dict[str, Any]) -> Any:
    return li.ChutesFallback([MODEL, "zai-org/GLM-5.2-TEE"], policy={"max_attempts": 2, "backoff": 0.001}, **given)


MAKERS: Mapping[str, Callable[[dict[str, Any]], Any]] = {
    "ChutesClient": lambda given: ChutesClient(max_retries=0, **given),
    "AsyncChutesClient": lambda given: AsyncChutesClient(max_retries=0, **given),
    "openai_client": lambda given: openai_client(max_retries=0, **given),
    "async_openai_client": lambda given: async_openai_client(max_retries=0, **given),
    "langchain ChatChutes": lambda given: lc.ChatChutes(model=MODEL, max_retries=0, **given),
    "langchain ChutesEmbeddings": lambda given: lc.ChutesEmbeddings(max_retries=0, **given),
    "langchain ChutesFallback": _lc_fallback,
    "llama_index Chutes": lambda given: li.Chutes(model=MODEL, max_retries=0, **given),
    "llama_index ChutesEmbedding": lambda given: li.ChutesEmbedding(max_retries=0, **given),
    "llama_index ChutesFallback": _li_fallback,
}
