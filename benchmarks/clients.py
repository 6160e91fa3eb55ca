"""The clients under measurement: each makes one call and, for a stream, counts the chunks that it saw."""

from __future__ import annotations

import json
from collections.abc import Callable

MESSAGES = [{"role": "user", "content": "Say something long."}]
MODEL = "acme/one"
Call = Callable[[], int]


def body(stream: bool) -> dict[str, object]:
    return {"model": MODEL, "messages": MESSAGES, "stream": stream}


def raw_httpx(url: str, stream: bool) -> Call:
    import httpx

    http = httpx.Client()

    def whole() -> int:
        return len(json.loads(http.post(f"{url}/chat/completions", json=body(False)).content)["choices"])

    def streamed() -> int:
        with http.stream("POST", f"{url}/chat/completions", json=body(True)) as reply:
            lines = (line for line in reply.iter_lines() if line.startswith("data: {"))
            return sum(1 for line in lines if json.loads(line[6:]))

    return streamed if stream else whole


def openai_sdk(url: str, stream: bool) -> Call:
    import openai

    client = openai.OpenAI(api_key="none", base_url=url, max_retries=0)

    def whole() -> int:
        return len(client.chat.completions.create(model=MODEL, messages=MESSAGES).choices)  # type: ignore[arg-type]

    def streamed() -> int:
        return sum(1 for _ in client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True))  # type: ignore[arg-type]

    return streamed if stream else whole


def chutes_core(url: str, stream: bool) -> Call:
    from chutes_core import ChutesClient

    client = ChutesClient("cpk_none", base_url=url)
    if not stream:
        return lambda: len(client.chat(MESSAGES, model=MODEL).choices)
    return lambda: sum(1 for _ in client.stream(MESSAGES, model=MODEL))


def chat_chutes(url: str, stream: bool) -> Call:
    from langchain_chutes import ChatChutes

    model = ChatChutes(model=MODEL, api_key="cpk_none", base_url=url)
    if not stream:
        return lambda: len(model.invoke("Say something long.").text)
    return lambda: sum(1 for _ in model.stream("Say something long."))


def chat_openai(url: str, stream: bool) -> Call:
    from langchain_openai import ChatOpenAI

    model = ChatOpenAI(model=MODEL, api_key="none", base_url=url, max_retries=0)  # type: ignore[arg-type]
    if not stream:
        return lambda: len(model.invoke("Say something long.").text)
    return lambda: sum(1 for _ in model.stream("Say something long."))


def llama_index_chutes(url: str, stream: bool) -> Call:
    from llama_index_chutes import Chutes

    model = Chutes(model=MODEL, api_key="cpk_none", api_base=url)
    if not stream:
        return lambda: len(model.complete("Say something long.").text)
    return lambda: sum(1 for _ in model.stream_complete("Say something long."))


CLIENTS: dict[str, Callable[[str, bool], Call]] = {
    "httpx, JSON parsed": raw_httpx,
    "openai SDK": openai_sdk,
    "chutes_core": chutes_core,
    "ChatChutes": chat_chutes,
    "ChatOpenAI": chat_openai,
    "LlamaIndex Chutes": llama_index_chutes,
}
