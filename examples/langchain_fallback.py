"""One model made of three: one is at capacity, one dies in the middle of a sentence, and there is a whole answer.

    python examples/langchain_fallback.py

Nothing leaves this machine and no key is needed: the embedded Chutes answers with an echo, and fails on demand.
"""

from __future__ import annotations

from collections.abc import Sequence

from chutes_local import serve
from langchain_chutes import ChutesFallback, FallbackPolicy
from langchain_chutes.fallback import render

MEMBERS = ["zai-org/GLM-5.2-TEE", "Qwen/Qwen3-32B-TEE", "google/gemma-4-31B-turbo-TEE"]
QUESTION = "Say that the answer is whole, however many machines it took."


def main(members: Sequence[str] = MEMBERS) -> None:
    faults = [f"{members[0]}=capacity", f"{members[1]}=error_line x2"]
    with serve(backend="echo", faults=faults) as server:
        model, newcomer = (
            ChutesFallback(
                list(members),
                policy=FallbackPolicy(first_token=8, deadline=60, after_commit="restart"),
                api_key=server.api_key,
                base_url=server.base_url,
            )
            for _ in range(2)
        )

        answer = model.invoke(QUESTION)
        print(answer.text)
        for attempt in answer.response_metadata["chutes_attempts"]:
            print(f"  {attempt['model']}: {attempt['kind'] or attempt['outcome']}")

        # The first model knows by now who is unwell, and would ask the third one at once.
        print("\nThe same as a stream, in which an answer may begin anew:")
        for shown in render(newcomer.stream(QUESTION)):
            print(f"\r\033[K{shown}", end="", flush=True)
        print(f"\n\n{newcomer.health}")


if __name__ == "__main__":
    main()
