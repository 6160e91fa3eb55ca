"""The requests of the recordings, sent to the embedded Chutes, and how its replies differ from the recorded ones."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

from chutes_core.e2ee.seal import ReplyKey, from_base64, seal
from chutes_local import LocalChutes
from chutes_local.world.oauth import DEMO_CLIENT_ID, DEMO_CLIENT_SECRET, DEMO_REDIRECT, AuthorizeQuery

from .recordings import Case

__all__ = ["Got", "asked", "differences"]

MODEL = "Qwen/Qwen3-32B-TEE"
EMBEDDER = "Qwen/Qwen3-Embedding-8B-TEE"
NAMES = {
    "chutesai/Plain-8B": "Qwen/Qwen3.6-27B-TEE",
    "tiny/Capacity-TEE": "google/gemma-4-31B-turbo-TEE",
    "zai-org/GLM-5.1-TEE": "zai-org/GLM-5.2-TEE",
}
"""Models that only the recorder had, and those of the embedded Chutes that stand for them."""
KEYS = {
    "malformed": "cpk_short",
    "unknown": f"cpk_{'a' * 32}.{'b' * 32}.{'fake' * 8}",
    "unknown token": "cak_fake",
    "no key of the service": "sk-123",
    "without balance": "cpk_poor",
    "of a small plan, without balance": "cpk_small",
    "scoped": "cpk_scoped",
}
PREFIX = {"llm": "", "api": "/api", "embed": "/embed", "chute": "/chute/"}
QUESTION = [{"role": "user", "content": "Tell me the weather of a city, please."}]
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "get_weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
]
_AN_ID = re.compile("00000000-0000-4000-8000-[0-9]{12}")
SCOPES = "openid profile account:read chutes:invoke"


# --- sending ------------------------------------------------------------------------------------------


def prepared(server: LocalChutes, case: Case) -> None:
    """Bring the server into the state in which the recorder's was."""
    server.reset()
    setup, account = case.setup, server.accounts.default
    account.balance, account.quota = 25.5, {"with a quota of 3": 3, "subscribed": 300}.get(_key(case), 0)
    for chute in server.fleet:
        chute.tee = chute.name != NAMES["chutesai/Plain-8B"]
    for model, changes in setup.get("models", {}).items():
        server.change(NAMES.get(model, model), **changes)
    if _key(case) == "without balance":
        server.accounts.of("cpk_poor").quota = 3 if "quota_reset" in json.dumps(case.json) else 0
    if case.status < 300 and any(name in json.dumps([case.send, case.json]) for name in ('"fast"', "/fast", "/abc")):
        alias = "abc" if case.send["path"].endswith("abc") else "fast"
        server.world.aliases[alias] = [row.chute_id for row in server.fleet.chutes[:2]]
        server.world.alias_times[alias] = "2026-01-02T00:00:00.000000Z"
    if "fault" in setup:
        server.faults.parse(f"*={setup['fault']}")


def _key(case: Case) -> str:
    return str(case.send.get("key", "good"))


def _headers(server: LocalChutes, case: Case) -> dict[str, str]:
    key = _key(case)
    known = KEYS.get(key, server.api_key)
    if key == "token":
        known = str(_tokens(server)["access_token"])
    return {**({} if key == "none" else {"authorization": f"Bearer {known}"}), **case.send.get("headers", {})}


def _tokens(server: LocalChutes) -> dict[str, object]:
    query = server.oauth.check(AuthorizeQuery(DEMO_CLIENT_ID, DEMO_REDIRECT, SCOPES))
    return server.oauth.exchange(
        server.oauth.grant_code(query), DEMO_REDIRECT, DEMO_CLIENT_ID, secret=DEMO_CLIENT_SECRET
    )


def _with_tokens(server: LocalChutes, form: str, case: Case) -> str:
    """A form with tokens of this server in place of those of the recorder, where they are to be good ones."""
    if case.status != 200 or "crt_fake" not in form:
        return form
    real = {
        "crt_fake": str(_tokens(server)["refresh_token"]),
        "cid_fake": DEMO_CLIENT_ID,
        "csc_fake": DEMO_CLIENT_SECRET,
    }
    for fake, good in real.items():
        form = form.replace(fake, good)
    return form


def _url(server: LocalChutes, case: Case) -> str:
    site, path = case.send["site"], case.send["path"]
    slug = server.chute_url(case.asked).rpartition("/chute/")[2].removesuffix("/v1") if site == "chute" else ""
    if case.status == 200:
        path = _AN_ID.sub(server.fleet.chutes[0].chute_id, path)  # the id of a model that only the recorder had
    return f"{server.url}{PREFIX[site]}{slug}{path}"


def _body(server: LocalChutes, case: Case) -> dict[str, Any]:
    given = case.send.get("body")
    if not isinstance(given, Mapping):
        return {} if given is None else {"content": _with_tokens(server, str(given), case).encode()}
    body = dict(given)
    if case.send["path"].startswith("/v1/chat") and "messages" not in body:
        body["messages"] = QUESTION
    for name, other in NAMES.items():
        if "model" in body:
            body["model"] = body["model"].replace(name, other)
    body.pop("max_tokens", None)  # the recorder's engine ended by rule
    if "max_tokens" in case.setup:
        body["max_tokens"] = case.setup["max_tokens"]
    if "tools" in body:
        body["tool_choice"] = "required"
    return {"json": body}


# --- the sealed path ----------------------------------------------------------------------------------


@dataclass
class Got:
    """A reply: its status, its headers, and its body; of a sealed stream also what is inside."""

    status: int
    headers: Mapping[str, str]
    content: bytes
    inside: bytes | None = None


def _sealed(server: LocalChutes, case: Case, http: httpx.Client) -> Got:
    """Seal a request for a machine of the server, as a client does."""
    model = EMBEDDER if case.send["headers"]["x-e2e-path"].endswith("embeddings") else MODEL
    chute, headers = server.fleet.find(model), _headers(server, case)
    assert chute is not None
    row = http.get(f"{server.url}/api/e2e/instances/{chute.chute_id}", headers=headers).json()["instances"][0]
    body: dict[str, Any] = {"model": model, "input": ["a"]}
    if model is MODEL:
        body = {"model": model, "messages": QUESTION, "stream": case.send["headers"]["x-e2e-stream"] == "true"}
        body |= {"tools": TOOLS, "tool_choice": "required"} if "calls" in case.ours else {}
        body |= {"chat_template_kwargs": {"enable_thinking": True}} if "reasoning" in case.ours else {}
    request = seal(row["e2e_pubkey"], json.dumps(body).encode())
    headers |= {"x-chute-id": chute.chute_id, "x-instance-id": row["instance_id"], "x-e2e-nonce": row["nonces"][0]}
    headers["content-type"] = "application/octet-stream"
    reply = http.post(f"{server.url}/api/e2e/invoke", headers=headers, content=request.blob)
    inside = None
    if reply.headers["content-type"].startswith("text/event-stream"):
        inside = _opened(request.key, reply.content)
    return Got(reply.status_code, reply.headers, reply.content, inside)


def _opened(key: ReplyKey, content: bytes) -> bytes:
    """What is inside of a sealed stream; a reader takes no tool call out of one."""
    frames, plain = None, []
    for line in content.splitlines():
        event = json.loads(line.removeprefix(b"data: ")) if line.startswith(b"data: {") else {}
        if "e2e_init" in event:
            frames = key.frames(from_base64(event["e2e_init"]))
        elif "e2e" in event:
            assert frames is not None
            plain.append(frames.open(from_base64(event["e2e"])).rstrip(b"\n") + b"\n\n")
    return b"".join(plain)


def asked(server: LocalChutes, case: Case, http: httpx.Client) -> Got:
    """Send the request of a case to the server, and read the reply to its end."""
    prepared(server, case)
    if case.send.get("body") == "<sealed>" and "x-e2e-path" in case.send.get("headers", {}):
        return _sealed(server, case, http)
    headers, sending = _headers(server, case), _body(server, case)
    if "content" in sending and case.send["site"] == "api":
        headers["content-type"] = "application/x-www-form-urlencoded"
    reply = http.request(case.send["method"], _url(server, case), headers=headers, **sending)
    return Got(reply.status_code, reply.headers, reply.content)


# --- comparing ----------------------------------------------------------------------------------------

HEADERS = ("x-", "cache-control")
MAPS = ("cord_refs", "gpu_price_estimates")
"""Objects whose keys are names: they are compared like lists."""


def shape(value: Any) -> Any:
    """A value without its values: keys and types, a list by its first element."""
    if isinstance(value, Mapping):
        return {
            key: [shape(each) for each in inner.values()] if key in MAPS else shape(inner)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [shape(value[0])] if value else []
    if isinstance(value, bool) or value is None or isinstance(value, str):
        return {True: "true or false", False: "true or false", None: "null"}.get(value, "text")
    return "number"


def _events(content: bytes) -> list[Any]:
    """The events of a stream; what is no JSON is a text, and what is no event has a ! before it."""
    found: list[Any] = []
    for line in filter(None, content.decode().split("\n")):
        text = line.removeprefix("data: ")
        if not line.startswith("data: "):
            found.append(f"!{line}")
        else:
            found.append(json.loads(text) if text.startswith("{") else text)
    return found


def _kind(event: Any) -> str:
    if not isinstance(event, dict) or "choices" not in event:
        return event if event == "[DONE]" else "what is no event" if isinstance(event, str) else ", ".join(event)
    if not event["choices"]:
        return "usage"
    choice = event["choices"][0]
    delta = choice["delta"]
    if choice["finish_reason"]:
        return "finish"
    if calls := delta.get("tool_calls"):
        return "call" if calls[0]["function"]["name"] else "arguments"
    return next((name for name in ("role", "reasoning_content", "content") if delta.get(name)), "nothing")


def _in_order(events: list[Any], most: int = 0) -> dict[str, Any]:
    """The kinds of events in their order, at most so many, and the shape of the first of each."""
    kinds = [_kind(event) for event in events]
    order = [kind for place, kind in enumerate(kinds) if place == 0 or kind != kinds[place - 1]]
    order = order[: most or None]
    return {"order": " ".join(order), **{kind: shape(events[kinds.index(kind)]) for kind in order}}


def _differ(path: str, recorded: Any, local: Any) -> Iterator[str]:
    if isinstance(recorded, dict) and isinstance(local, dict):
        for key in sorted(recorded.keys() | local.keys()):
            place = f"{path}.{key}" if path else str(key)
            if key not in local or key not in recorded:
                yield f"{place}: {'only there' if key in recorded else 'only here'}"
            else:
                yield from _differ(place, recorded[key], local[key])
    elif isinstance(recorded, list) and isinstance(local, list):
        if recorded and local:
            yield from _differ(f"{path}[]", recorded[0], local[0])
    elif recorded != local:
        there, here = (
            "an object" if isinstance(each, dict) else "a list" if isinstance(each, list) else str(each)
            for each in (recorded, local)
        )
        yield f"{path}: {there} there, {here} here"


def _facts(status: int, headers: Mapping[str, str], content: bytes, streamed: bool, most: int = 0) -> dict[str, Any]:
    kept = {name.lower() for name in headers if name.lower().startswith(HEADERS)}
    facts: dict[str, Any] = {"status": status, "headers": dict.fromkeys(sorted(kept), "text")}
    facts["type"] = headers.get("content-type", "").partition(";")[0]
    if streamed:
        return {**facts, "stream": _in_order(_events(content), most)}
    try:
        body = json.loads(content)
    except ValueError:
        return {**facts, "body": content.decode(errors="replace") if "octet" not in facts["type"] else "sealed"}
    if isinstance(body, dict) and isinstance(body.get("detail"), str):
        return {**facts, "detail": body["detail"]}
    return {**facts, "body": shape(body)}


def differences(case: Case, got: Got) -> list[str]:
    """Where the server's reply differs from the recorded one: status, headers, detail, keys, types, order of events."""
    recorded = _facts(case.status, case.headers, b"".join(case.pieces), case.streamed)
    if case.facts.get("sealed") and not case.streamed:
        recorded["body"] = "sealed"
    most = 0 if case.whole else len(recorded["stream"]["order"].split())  # what came later is not known
    streamed = got.headers.get("content-type", "").startswith("text/event-stream")
    local = _facts(got.status, got.headers, got.inside or got.content, streamed, most)
    return list(_differ("", recorded, local))
