"""Plays every scene to every tracer of a framework, and prints what each has of it.

In a process of its own (python -m tests.tracers.play langchain), since some instrumentations cannot be undone.
"""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager

from .scenes import SCENES, TWO, Scene, play_langchain, play_llama_index
from .sinks import LANGCHAIN, LLAMA_INDEX, Seen, Sink

FRAMEWORKS = {
    "langchain": (LANGCHAIN, play_langchain, ("ChatChutes", "ChutesFallback", "with_fallbacks")),
    "llama_index": (LLAMA_INDEX, play_llama_index, ("Chutes", "ChutesFallback")),
}
NAMELESS = ("`get_openai_callback`", "`TokenCountingHandler`")
NAMED = {scene.name: scene for scene in SCENES}


def plays(framework: str) -> Iterator[tuple[str, str, Scene, bool]]:
    """Yield what is played: to which tool, by which class, which scene, and whether it is awaited."""
    tools, _, faces = FRAMEWORKS[framework]
    for tool, face, scene, waits in itertools.product(tools, faces, SCENES, (False, True)):
        fallback = face == "ChutesFallback"
        if (scene.alone or face not in ("ChatChutes", "Chutes")) and (fallback or waits):
            yield tool, face, scene, waits


def flaws(tool: str, seen: Sequence[Seen], scene: Scene) -> Iterator[str]:
    """Yield what is wrong: the tokens of a scene count once, and each call is that of the model that served it."""
    calls = [each for each in seen if each.llm and each.tokens is not None]
    tokens = [each.tokens for each in calls if each.tokens is not None]
    total = sum(each[0] for each in tokens), sum(each[1] for each in tokens)
    if total != scene.truth.tokens:
        yield f"{total} tokens, not {scene.truth.tokens}"
    models = [model for model, *_ in scene.truth.answers]
    if tool == "`get_usage_metadata_callback`":
        models = sorted(set(models))  # it adds up by model
    if tool not in NAMELESS and [call.model for call in calls] != models:
        yield f"the models {[call.model for call in calls]}, not {models}"


def _facts(sink: Callable[[], AbstractContextManager[Sink]], play: Callable[..., None]) -> Iterator[bool]:
    """Yield what a tool has of calls of a fallback; one answer may come in another way than the other."""
    seen: dict[str, list[Seen]] = {}
    for name in ("first failed", "restarted", "all failed"):
        with sink() as made:
            play("ChutesFallback", NAMED[name], made.callbacks, waits=False)
            seen[name] = made.read()
    calls = [each for name in ("first failed", "restarted") for each in seen[name] if each.llm and each.tokens]
    yield [call.tokens for call in calls] == [(11, 4), (11, 4)]
    yield all(call.model == TWO for call in calls)
    yield all(call.params.get("temperature") == 0.5 for call in calls)
    yield all(call.finish == "stop" for call in calls)
    yield any(each.llm and "No model gave a whole answer" in each.error for each in seen["all failed"])
    failed = [each for name in ("first failed", "restarted") for each in seen[name] if not each.llm and each.error]
    yield len(failed) == 2
    yield len(failed) == 2 and all(re.search(r"completion_tokens\W+13\b", each.text) for each in failed)


def report(framework: str) -> dict[str, object]:
    """Return what is wrong with each play, and the rows of the table in the documentation."""
    tools, play, _ = FRAMEWORKS[framework]
    wrong = []
    for tool, face, scene, waits in plays(framework):
        with tools[tool]() as sink:
            play(face, scene, sink.callbacks, waits=waits)
            found = [*flaws(tool, sink.read(), scene), *sink.complaints]
        wrong.append([tool, face, scene.name, waits, found])
    rows = [[tool, *_facts(sink, play)] for tool, sink in tools.items()]
    return {"plays": wrong, "rows": rows}


if __name__ == "__main__":
    print(json.dumps(report(sys.argv[1])))
