"""From nothing to answers: a streamed one, a tool call, a structured one, one with its source, an honest error, an
answer that three models were asked for, and one that goes on after its machine has died.

    make demo        or        python examples/demo.py [--backend echo]

Nothing leaves this machine and no key is needed: the embedded Chutes speaks the service's interface, with a
135M model behind it. The first run fetches that model, every later one starts in seconds, also without a network.
What is shown is that the pipe is whole. How well a large model answers is another matter.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # while modules are imported, Ctrl-C ends the program without a word

from chutes_core import Catalog, ChutesClient, FallbackClient, IncompleteAnswerError
from chutes_core.catalog.prefill import applied, measured_now
from chutes_local import LocalChutes, serve
from chutes_local.backends.backend import BackendError
from langchain_chutes import ChutesFallback, FallbackPolicy

MODEL = "google/gemma-4-31B-turbo-TEE"
EMBEDDING_MODEL = "Qwen/Qwen3-Embedding-8B-TEE"

WEATHER: Mapping[str, object] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}
MULTIPLY: Mapping[str, object] = {
    "type": "function",
    "function": {
        "name": "multiply",
        "description": "Multiply two numbers.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "number"}, "b": {"type": "number"}},
            "required": ["a", "b"],
        },
    },
}
PERSON: Mapping[str, object] = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "city": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "city", "age"],
    "additionalProperties": False,
}
LIBRARY: Mapping[str, str] = {
    "bridges.txt": "The bridge over the Alder river was built in 1931 and is painted red.",
    "bakery.txt": "The bakery on Mill Street opens at six in the morning and sells rye bread.",
    "library.txt": "The town library lends books for four weeks and is closed on Mondays.",
    "station.txt": "Trains to the coast leave from platform two every half an hour.",
}


def user(text: str) -> list[Mapping[str, object]]:
    return [{"role": "user", "content": text}]


@contextmanager
def step(title: str) -> Iterator[None]:
    """Print a heading, and how long what follows took."""
    began = time.perf_counter()
    print(f"\n== {title}", flush=True)
    yield
    print(f"   ({time.perf_counter() - began:.1f} s)", flush=True)


def streamed_answer(client: ChutesClient) -> None:
    question = "What is the capital of France?"
    print(f"   {question}\n   ", end="", flush=True)
    with client.stream(user(question), model=MODEL, temperature=0, max_tokens=80) as stream:
        for delta in stream:
            print(delta.content, end="", flush=True)
    usage = stream.reply.usage
    print(f"\n   finish_reason={stream.reply.finish_reason}, {usage.total_tokens if usage else '?'} tokens")


def tool_call(client: ChutesClient) -> None:
    question = "What is the weather in Paris?"
    reply = client.chat(user(question), model=MODEL, tools=[WEATHER, MULTIPLY], tool_choice="required")
    print(f"   {question}")
    for call in reply.tool_calls:
        print(f"   {call.name}({', '.join(f'{key}={value!r}' for key, value in call.args.items())})")


def structured_answer(client: ChutesClient) -> None:
    question = "Extract as JSON: Ada Lovelace lives in London and is 36 years old."
    form = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
    reply = client.chat(user(question), model=MODEL, temperature=0, response_format=form)
    print(f"   {question}\n   {json.loads(reply.content)}")


def answer_with_source(client: ChutesClient) -> None:
    question = "When was the bridge built?"
    asked, *shelf = client.embed([question, *LIBRARY.values()], model=EMBEDDING_MODEL).vectors
    nearness = [sum(a * b for a, b in zip(asked, vector, strict=True)) for vector in shelf]
    source, passage = list(LIBRARY.items())[nearness.index(max(nearness))]
    prompt = f"{passage}\n\n{question} Answer in one sentence."
    reply = client.chat(user(prompt), model=MODEL, temperature=0, max_tokens=60)
    print(f"   {question}\n   {reply.content.strip()}\n   [source: {source}, likeness {max(nearness):.2f}]")


def honest_error(client: ChutesClient, chutes: LocalChutes) -> None:
    chutes.faults.parse(f"{MODEL}=error_line x1")
    print("   A machine dies in the middle of an answer, which many clients take for its end. Here:\n   ", end="")
    try:
        with client.stream(user("Tell a long story."), model=MODEL, max_tokens=60) as stream:
            for delta in stream:
                print(delta.content, end="", flush=True)
    except IncompleteAnswerError as error:
        print(f"\n   {type(error).__name__}: {error}")


def next_model(chutes: LocalChutes) -> None:
    first, second, third = "zai-org/GLM-5.2-TEE", "Qwen/Qwen3-32B-TEE", MODEL
    chutes.faults.clear()
    chutes.faults.parse(f"{first}=capacity")
    chutes.faults.parse(f"{second}=error_line")
    model = ChutesFallback(
        [first, second, third],
        policy=FallbackPolicy(first_token=20, deadline=60),
        api_key=chutes.api_key,
        base_url=chutes.base_url,
        temperature=0,
        max_tokens=60,
    )
    answer = model.invoke("What is the capital of France?")
    for attempt in answer.response_metadata["chutes_attempts"]:
        print(f"   {attempt['model']}: {attempt['kind'] or attempt['outcome']}")
    print(f"   {answer.text}")


def goes_on(chutes: LocalChutes) -> None:
    chutes.faults.clear()
    chutes.faults.parse(f"{MODEL}=error_line(after=9) x1")
    # `chutes-connect models check --prefill` measures which models go on with an answer; these do.
    catalog = Catalog.load(offline=True)
    measured = [measured_now(info, "as_is") for info in catalog.models if info.id == MODEL]
    client = FallbackClient(
        [MODEL],
        chutes.api_key,
        base_url=chutes.base_url,
        catalog=replace(catalog, models=applied(catalog.models, measured)),
        policy=FallbackPolicy(after_commit="resume"),
    )
    print("   Its machine dies in mid-sentence, and nobody sees it:\n   ", end="")
    with client, client.stream(user("Why is the sky blue?"), temperature=0, max_tokens=40) as stream:
        for delta in stream:
            print(delta.content, end="", flush=True)
    print()
    for attempt in stream.reply.attempts:
        print(f"   {attempt.model}: {attempt.kind or attempt.outcome}, {attempt.delivered} characters given out")


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--backend", choices=("auto", "llama", "echo"), default="auto")
    backend = options.parse_args().backend
    began = time.perf_counter()
    try:
        with step("Starting the embedded Chutes"):
            chutes = serve(backend=backend)
            print(f"   {chutes.base_url}, on {chutes.world.backend.name}")
    except BackendError as error:
        print(error, file=sys.stderr)
        return 1
    with (
        chutes,
        ChutesClient(
            chutes.api_key,
            base_url=chutes.base_url,
            embedding_base_url=chutes.embedding_base_url,
            management_url=chutes.management_url,
        ) as client,
    ):
        with step("A streamed answer"):
            streamed_answer(client)
        with step("A tool call"):
            tool_call(client)
        with step("A structured answer"):
            structured_answer(client)
        with step("An answer with its source"):
            answer_with_source(client)
        with step("An honest error"):
            honest_error(client, chutes)
        with step("The next model takes over"):
            next_model(chutes)
        with step("A broken stream goes on"):
            goes_on(chutes)
    print(f"\nAll of it took {time.perf_counter() - began:.1f} s.")
    return 0


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
