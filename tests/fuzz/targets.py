"""Every parser of ours that meets bytes from outside, each with some bytes of the right kind to begin with.

A target is a function of bytes. It may raise what its parser documents, and nothing else. A new parser gets a row here.
"""

from __future__ import annotations

import io
import json
import socket
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy  # noqa: F401  # else the memory that it takes would be that of the first tensor

from chutes_core import APIError, ConfigurationError, ModelInfo, Usage, account, json_text
from chutes_core.calls.bodies import BodyError, Gauge, Most, Unpacker
from chutes_core.catalog import cache as catalog_cache
from chutes_core.catalog import updates
from chutes_core.catalog.model_info import parse_row
from chutes_core.door import loads
from chutes_core.e2ee import attest
from chutes_core.e2ee.frames import FrameReader, MachineError
from chutes_core.e2ee.instances import read_instances
from chutes_core.e2ee.seal import SealBrokenError
from chutes_core.exchanges.redaction import Wanted, redacted
from chutes_core.exchanges.replaying import made_of, read_exchanges
from chutes_core.failures.reading import error_from_response
from chutes_core.failures.redirects import destination, next_place
from chutes_core.login import loopback, pkce, store, tokens
from chutes_core.reply.assemble import flaw_of, parse_reply
from chutes_core.reply.guard import StreamGuard
from chutes_core.reply.sse import EventDecoder, EventTooLongError
from chutes_core.reply.structured import Form, FormError, in_text, pieces
from chutes_core.reply.think import split_whole
from chutes_core.reply.vectors import decode_vectors
from chutes_core.request.schema import is_refused, without_patterns
from chutes_core.response import ReplyMeta
from chutes_core.secrets.echoes import Echoes
from chutes_core.wire.fetch import Fetched
from chutes_core.wire.framing import Inbox
from chutes_core.wire.public_address import is_public
from chutes_local.backends.convert import ConversionError, read_safetensors
from tests.core.e2ee.machine import asked, sealed_lines

ROOT = Path(__file__).resolve().parents[2]
FORM = Form({"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "string"}}, "required": ["a"]})
SMALL = Most(1 << 16, 1 << 16, values=10_000, lines=10_000)


@dataclass(frozen=True)
class Target:
    """One parser.

    Attributes:
        read: Hands it bytes.
        seeds: Bytes of the kind it is for.
        raises: What it documents.
        as_json: Whether the seeds are JSON, of which parts are exchanged too.
    """

    read: Callable[[bytes], object]
    seeds: tuple[bytes, ...]
    raises: tuple[type[Exception], ...] = ()
    as_json: bool = False


def _halves(data: bytes) -> tuple[bytes, bytes]:
    """Cut bytes at a place that they say themselves: nothing may depend on how the network cuts them."""
    at = (data[0] * 7 + len(data)) % (len(data) + 1) if data else 0
    return data[:at], data[at:]


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace")


def _of_json(read: Callable[[Any], object], *seeds: object, raises: tuple[type[Exception], ...] = ()) -> Target:
    """A parser of a value that came through the door for JSON."""

    def parsed(data: bytes) -> object:
        try:
            value = loads(data)
        except ValueError:
            return None
        return read(value)

    return Target(parsed, tuple(json.dumps(each).encode() for each in seeds), raises, as_json=True)


def _rows(read: Callable[[Any], object]) -> Callable[[Any], object]:
    return lambda value: read(value if isinstance(value, list) else [value])


def _mapped(read: Callable[[Any], object]) -> Callable[[Any], object]:
    return lambda value: read(value) if isinstance(value, dict) else None


# ------------------------------------------------------------------------------------------- streams and bodies


def _events(data: bytes) -> object:
    decoder = EventDecoder()
    return [*(payload for half in _halves(data) for payload in decoder.feed(half)), *decoder.close()]


def _guarded(data: bytes) -> object:
    guard = StreamGuard(heals=True)
    found = [delta for half in _halves(data) for delta in guard.feed(half)]
    return found, list(guard.close()), guard.reply


def _chunked(data: bytes) -> object:
    inbox, contents = Inbox(BodyError), []
    inbox.expect()
    inbox.put(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
    inbox.take(4096)
    inbox.take_over()
    for half in _halves(data):
        inbox.put(half)
        while part := inbox.contents():
            contents.append(part)
    return contents, inbox.take(4096, all_came=True)


def _headers(data: bytes) -> object:
    inbox, taken = Inbox(BodyError), []
    inbox.expect()
    for half in _halves(data):
        inbox.put(half)
        while part := inbox.take(1000):
            taken.append(part)
    return taken, inbox.take(1000, all_came=True), inbox.take_over()


def _unpacked(encoding: str) -> Callable[[bytes], object]:
    def read(data: bytes) -> object:
        unpacker, gauge = Unpacker(encoding), Gauge(SMALL, packed=True)
        for half in _halves(data):
            for piece in unpacker.feed(half):
                gauge.take(piece)
        return unpacker.close()

    return read


def _failed(data: bytes) -> object:
    status = 400 + (data[0] * 256 + data[-1]) % 200 if data else 500
    return error_from_response(status, data, {}, model="acme/one", now=0.0)


def _failed_headers(data: bytes) -> object:
    name, _, value = _text(data).partition(":")
    headers = {"retry-after": value, "location": value, name.lower(): value}
    meta = ReplyMeta.parse(headers)
    place = next_place("POST", "https://host.example/v1", 307, headers), destination(302, headers)
    return meta, place, error_from_response(429, b"", {"Retry-After": value}, now=0.0)


def _whole(value: Any) -> object:
    reply = parse_reply(value)
    return flaw_of(reply), reply


# --------------------------------------------------------------------------------------------------- sealed


def _sealed(data: bytes) -> object:
    """A stream whose lines are as a machine sealed them, where the bytes say so, and the relay's where not."""
    key, reply = asked()
    lines = sealed_lines(reply)
    made = [
        lines[int(line)] if len(line) < 3 and line.isdigit() and int(line) < len(lines) else line + b"\n"
        for line in data.split(b"\n")
    ]
    reader = FrameReader(key)
    plain = [reader.feed(half) for half in _halves(b"".join(made))]
    return plain, reader.close()


def _evidence(value: Any) -> object:
    return [each for each in attest.quotes_of(value).values() if isinstance(each, attest.Quote)]


def _measured(value: Any) -> object:
    quote = attest.Quote.parse(QUOTE)
    return attest.check_measurements(quote, value)


QUOTE = (4).to_bytes(2, "little") + bytes(2) + (0x81).to_bytes(4, "little") + bytes(624)


# ---------------------------------------------------------------------------------------------------- login


@cache
def _sign_in() -> pkce.SignIn:
    return pkce.SignIn("https://host.example", pkce.OAuthApp("app", redirect_uri="http://127.0.0.1:1456/callback"))


def _callback(data: bytes) -> object:
    answer = _sign_in().read(_text(data))
    assert answer.code is None or "=" not in _text(data).strip().strip("'\""), "a code without the state was taken"
    return answer


def _granted(data: bytes) -> object:
    def post(url: str, form: object) -> Fetched:
        return Fetched(200 if len(data) % 3 else 400, {}, data)

    with patch.object(tokens, "_post", post):
        return tokens.request_tokens("https://host.example", {})


class _Connection(socket.socket):
    """What a browser sent, without a browser."""

    def __init__(self, data: bytes) -> None:
        self.sent, self.came = io.BytesIO(data), bytearray()

    def makefile(self, *arguments: Any, **options: Any) -> Any:
        return self.sent

    def sendall(self, data: Any, *flags: int) -> None:
        self.came += bytes(data)

    def settimeout(self, value: float | None) -> None: ...

    def close(self) -> None: ...


def _redirected(data: bytes) -> object:
    class Handler(loopback._Handler):
        answer_path = "/callback"

        def judge(self, query: str) -> pkce.Answer:
            return _sign_in().read(query)

        def tell(self, answer: pkce.Answer) -> None:
            assert answer.code is None, "a code without the state was taken"

    connection = _Connection(data)
    Handler(connection, ("127.0.0.1", 1), None)  # type: ignore[arg-type]
    return bytes(connection.came)


# ---------------------------------------------------------------------------------------------------- files


def _in_file(name: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    def of_file(data: bytes) -> object:
        with TemporaryDirectory() as folder:
            path = Path(folder, name)
            path.write_bytes(data)
            path.chmod(0o600)
            return read(path)

    return of_file


def _catalogue(path: Path) -> object:
    return catalog_cache.read(path.parent)


def _login(path: Path) -> object:
    found = store._read(path)
    return found.good_for(0.0) if isinstance(found, store.StoredLogin) else found


def _recorded(data: bytes) -> object:
    for content in (True, False):
        kept = redacted(data + b'"cpk_fake_0123"', Wanted(Echoes(["cpk_fake_0123"]), content))
        assert len(kept) == len(data) + 15, "what is recorded has another length"
        assert b"cpk_fake_0123" not in kept, "a secret is recorded"
    return kept


def _safetensors() -> bytes:
    header = b'{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    return len(header).to_bytes(8, "little") + header + bytes(8)


# ------------------------------------------------------------------------------------------------- the list

_CHUNK = {
    "id": "1",
    "model": "acme/one",
    "created": 5,
    "choices": [{"index": 0, "delta": {"role": "assistant", "content": "Hi", "reasoning_content": "hm"}}],
    "usage": {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4},
}
_CALL = {"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
_STREAM = (
    b"data: " + json.dumps(_CHUNK).encode() + b"\n\ndata: "
    + json.dumps({"choices": [{"index": 0, "delta": {"tool_calls": [_CALL]}, "finish_reason": "stop"}]}).encode()
    + b"\n\ndata: [DONE]\n\n"
)  # fmt: skip
_REPLY = {
    "id": "1",
    "choices": [{"message": {"content": "<think>hm</think>Yes", "tool_calls": [_CALL]}, "finish_reason": "stop"}],
    "usage": _CHUNK["usage"],
}
_ROW = {
    "id": "acme/One-TEE", "chute_id": "6e1f8b0e", "context_length": 4096, "max_output_length": 512,
    "pricing": {"prompt": 0.1, "completion": 0.2, "input_cache_read": 0.05}, "price": {"input": {"usd": 0.1}},
    "input_modalities": ["text", "image"], "output_modalities": ["text"], "confidential_compute": True,
    "supported_features": ["tools", "json_mode"], "supported_sampling_parameters": ["seed"], "quantization": "fp8",
}  # fmt: skip
_CHUTE = {
    "chute_id": "6e1f8b0e", "name": "acme/one", "slug": "acme-one", "user": {"username": "chutes"}, "hot": True,
    "standard_template": "vllm", "cords": [{"path": "generate", "public_api_path": "/generate", "method": "POST"}],
    "tagline": "One", "current_estimated_price": {"usd": {"hour": 1.5}, "per_million_tokens": {"usd": 0.1}},
}  # fmt: skip
_MACHINES = {
    "instances": [{"instance_id": "i", "e2e_pubkey": "aGk=", "nonces": ["n", "m"]}],
    "nonce_expires_in": 60,
}
_EVIDENCE = {"evidence": [{"instance_id": "i", "quote": "AAAA", "gpu_evidence": [{"certificate": "AA", "arch": "H"}]}]}
_LISTED = [{"name": "v", "version": "1", "mrtd": "00" * 48, "runtime_rtmrs": {f"RTMR{n}": "00" * 48 for n in range(4)}}]
_SCHEMA = {"type": "object", "properties": {"a": {"type": "string", "pattern": "^a"}}, "$defs": {"B": {"anyOf": [{}]}}}
_GZIP = zlib.compress(b'{"a": 1}' * 50, wbits=31)
_LOGIN = {"version": 1, "service": "https://host.example", "access": "a", "expires_at": 1.0, "keeper": "file"}
_QUOTA = {
    "chute_id": "*",
    "quota": 200,
    "used": 5.5,
    "effective_date": "2026-08-22T00:00:00Z",
    "payment_refresh_date": None,
}
_EXCHANGE = {
    "send": {"method": "POST", "path": "/v1/chat/completions", "body": {"model": "acme/one"}},
    "status": 200,
    "headers": {"content-type": "application/json"},
    "blocks": [json.dumps(_REPLY), {"base64": "e30="}],
}
_CASSETTE = (ROOT / "cassettes/outcomes.json").read_bytes()[:1500]

TARGETS = {
    "sse": Target(
        _events, (_STREAM, b": ping\r\n\r\ndata\r\rdata: x\n\n", b'data: {"a":\n{"error": 1}'), (EventTooLongError,)
    ),
    "guard": Target(_guarded, (_STREAM, _STREAM[:-20] + _STREAM, b'{"error": {"code": 500}}\n'), (APIError,)),
    "chunked": Target(
        _chunked, (b"5\r\nhello\r\n0\r\n\r\n", b"a;x=y\r\n0123456789\r\n0\r\nt: 1\r\n\r\n"), (BodyError,)
    ),
    "headers": Target(_headers, (b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\r\na: b\r\n\r\nrest",)),
    "gzip": Target(_unpacked("gzip"), (_GZIP, _GZIP * 2, zlib.compress(bytes(300_000), wbits=31)), (BodyError,)),
    "deflate": Target(_unpacked("deflate"), (zlib.compress(b"a" * 99), zlib.compress(b"a", wbits=-15)), (BodyError,)),
    "reply": _of_json(_mapped(_whole), _REPLY, raises=(ValueError,)),
    "usage": _of_json(Usage.parse, _CHUNK["usage"], raises=(ValueError,)),
    "vectors": _of_json(
        lambda value: decode_vectors(value, None),
        {"data": [{"index": 0, "embedding": [0.5, 1]}, {"index": 1, "embedding": "AACAPwAAgD8="}]},
        raises=(ValueError,),
    ),
    "error body": Target(
        _failed,
        (
            b'{"detail": "Invalid request: {\\"detail\\": {\\"message\\": \\"long\\", \\"code\\": 400}}"}',
            b'{"detail": {"message": "Quota exceeded", "quota_reset_timestamp": "2026-08-23T00:00:00+00:00"}}',
            b'{"detail": [{"loc": ["body", "alias"], "msg": "field required"}], "error": {"message": "m", "code": 5}}',
            b'"Invalid request: Invalid request: Invalid request: x"',
            b"<html><title>502</title></html>",
        ),
        as_json=True,
    ),
    "error headers": Target(
        _failed_headers,
        (
            b"x-chutes-quota-total: 200",
            b"retry-after:Wed, 21 Oct 2026 07:28:00 GMT",
            b"retry-after:Mon, 01 Jan 0001 00:00:00 -0000",
            b"location://[::1]:8080/v1",
        ),
    ),
    "sealed frames": Target(
        _sealed,
        (
            b"\n".join(str(number).encode() for number in range(20)),
            b'0\n1\n2\ndata: {"usage":{"completion_tokens":1}}\ndata: {"e2e_error":"x"}\ndata: {"e2e":"AAAA"}',
        ),
        (SealBrokenError, MachineError),
    ),
    "machines": _of_json(read_instances, _MACHINES, {**_MACHINES, "nonce_expires_in": 10**400}, raises=(ValueError,)),
    "evidence": _of_json(_evidence, _EVIDENCE, raises=(ValueError,)),
    "quote": Target(attest.Quote.parse, (QUOTE, QUOTE[:100]), (attest.ProofError,)),
    "measurements": _of_json(_measured, _LISTED, raises=(attest.ProofError,)),
    "models": _of_json(_rows(lambda rows: updates.merge_rows((), rows)), [_ROW]),
    "model row": _of_json(
        _mapped(lambda row: (info := parse_row(row)) and (info.to_dict(), info.to_openrouter())), _ROW
    ),
    "model": _of_json(
        _mapped(ModelInfo.from_dict), {"id": "acme/one", "price_in": 0.1, "kind": "chat"}, raises=(ValueError,)
    ),
    "chutes": _of_json(_rows(lambda rows: updates.merge_chutes((), rows, whole=True)), [_CHUTE]),
    "statistics": _of_json(
        _rows(lambda rows: updates.merge_stats((), rows)),
        [{"chute_id": "6e1f8b0e", "name": "acme/one", "date": "2026-08-22", "average_tps": 9.5, "average_ttft": 0.2}],
    ),
    "prices": _of_json(
        lambda value: [
            read(value)
            for read in (account.parse_discounts, account.parse_usage, account.parse_utilization, account.parse_chutes)
        ],
        [{"chute_id": "*", "discount": 0.1, "amount": 1.5, "bucket": "2026-08-22T00:00:00", "count": 3, "name": "n"}],
        {"items": [_CHUTE], "total": 1, "page": 0, "limit": 25},
        raises=(ValueError,),
    ),
    "account": _of_json(
        lambda value: [
            read(value) for read in (account.parse_profile, account.parse_quota_usage, account.parse_subscription)
        ],
        {
            "username": "u",
            "user_id": "i",
            "balance": 1.5,
            **_QUOTA,
            "four_hour": {"usage": 1, "cap": 2, "reset_at": "x"},
        },
        raises=(ValueError,),
    ),
    "quotas": _of_json(account.parse_quotas, [_QUOTA], {"*": 0}, raises=(ValueError,)),
    "tokens": Target(
        _granted,
        (
            b'{"access_token": "a", "expires_in": 60, "refresh_token": "r", "scope": "s"}',
            b'{"error": "invalid_grant", "error_description": "no"}',
            b'{"access_token": "a", "expires_in": ' + b"9" * 400 + b"}",
        ),
        as_json=True,
    ),
    "callback": Target(
        _callback, (b"http://127.0.0.1:1456/callback?code=a&state=b", b"error=access_denied&error_description=no")
    ),
    "browser": Target(
        _redirected,
        (
            b"GET /callback?code=a&state=b HTTP/1.1\r\nHost: 127.0.0.1:1456\r\n\r\n",
            b"GET //[/callback HTTP/1.1\r\n\r\n",
            b"POST /callback HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello",
        ),
    ),
    "model's JSON": Target(
        lambda data: [value.read() for value in json_text.values(_text(data))],
        (b'```json\n{"a": [1, 2.5e3, "b\\u00e9"]}\n```', b'I say {"a": 1} and [true, null', b'{"a": 1, "a": 2}'),
        (ValueError,),
    ),
    "structured answer": Target(
        lambda data: (list(pieces(_text(data), FORM)), in_text(_text(data), FORM, lambda found: found.value)),
        (b'{"a": 1, "b": "x"}', b'<think>{"a": 2}</think>```json\n{"a": 1}\n```', b'[{"a": 1}, {"b": 2}]'),
        (FormError,),
    ),
    "thoughts": Target(lambda data: split_whole(_text(data)), (b"<think>hm</think>Yes", b"  <think>a<think>b</think>")),
    "schema": _of_json(lambda value: (is_refused(value), without_patterns(value)), _SCHEMA),
    "address": Target(
        lambda data: is_public(_text(data)), (b"::ffff:10.0.0.1", b"64:ff9b::1.2.3.4%eth0", b"010.1.1.1")
    ),
    "catalogue file": Target(
        _in_file("catalog.json", _catalogue),
        (json.dumps({"schema": catalog_cache.SCHEMA, "fetched_at": 1.0, "models": [{"id": "acme/one"}]}).encode(),),
        as_json=True,
    ),
    "recorded file": Target(
        _in_file("exchanges.jsonl", lambda path: [made_of(each) for each in read_exchanges(path)]),
        tuple(json.dumps({**_EXCHANGE, "reader": reader}).encode() for reader in ("chat", "stream", "embed", None)),
        (ConfigurationError,),
        as_json=True,
    ),
    "redaction": Target(
        _recorded, (_STREAM, json.dumps(_REPLY).encode(), b'{"id": "chatcmpl-77ab01cd", "user": "a@b.c"}')
    ),
    "login file": Target(
        _in_file("login.json", _login),
        tuple(json.dumps({**_LOGIN, **each}).encode() for each in ({}, {"expires_at": 10**400})),
        as_json=True,
    ),
    "safetensors": Target(
        read_safetensors, (_safetensors(), bytes(8), (2).to_bytes(8, "little") + b"[]"), (ConversionError,)
    ),
    "door": Target(loads, (_CASSETTE, b'{"a": "\\ud83d\\ude00", "b": 1e999}'), (ValueError,), as_json=True),
}
