"""See that every module has its tests where they are looked for, or is named below with where they are instead.

`chutes_core/reply/guard.py` has `tests/core/reply/test_guard.py`. A module may be listed only while it has none.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
HOMES = {
    "chutes_core": "tests/core",
    "chutes_cli": "tests/cli",
    "chutes_local": "tests/local",
    "langchain_chutes": "tests/langchain_chutes",
    "llama_index_chutes": "tests/llama_index_chutes",
}
# Values and names alone, with nothing to decide: who uses them tests them, and mypy holds them.
DATA = (
    "chutes_core/login/errors.py",
    "chutes_core/request/image_policy.py",
    "chutes_core/testing/plays.py",
)
# A part of what another module does, and tested as that: a file of its own would say the same once more.
THROUGH: Mapping[str, tuple[str, ...]] = {
    "tests/cli/commands/test_chat.py": (
        "chutes_cli/asking.py",
        "chutes_cli/prompts.py",
        "chutes_cli/screen.py",
        "chutes_cli/talk.py",
        "chutes_cli/waiting.py",
    ),
    "tests/cli/commands/test_doctor.py": ("chutes_cli/checks.py",),
    "tests/cli/commands/test_embed.py": ("chutes_cli/npy.py",),
    "tests/cli/commands/test_models.py": ("chutes_cli/model_table.py",),
    "tests/cli/test_main.py": ("chutes_cli/options.py",),
    "tests/core/corpus/test_parts.py": (
        "chutes_core/corpus/progress.py",
        "chutes_core/corpus/tables.py",
    ),
    "tests/core/e2ee/test_flow.py": (
        "chutes_core/e2ee/asking.py",
        "chutes_core/e2ee/privacy.py",
    ),
    "tests/core/fallback/test_call.py": ("chutes_core/fallback/order.py",),
    "tests/core/fallback/test_client.py": ("chutes_core/fallback/run.py",),
    "tests/core/login/test_loopback.py": ("chutes_core/login/browser.py",),
    "tests/core/login/test_store.py": ("chutes_core/login/value.py",),
    "tests/core/openai_sdk/test_door.py": (
        "chutes_core/openai_sdk/exchange.py",
        "chutes_core/openai_sdk/transport.py",
    ),
    "tests/core/openai_sdk/test_fallback.py": (
        "chutes_core/openai_sdk/completion.py",
        "chutes_core/reply/body.py",
    ),
    "tests/core/reply/test_assemble.py": ("chutes_core/response.py",),
    "tests/core/secrets/test_masking.py": ("chutes_core/secrets/echoes.py",),
    "tests/core/test_auth.py": ("chutes_core/secrets/secret.py",),
    "tests/core/test_client.py": (
        "chutes_core/calls/effects.py",
        "chutes_core/client_base.py",
        "chutes_core/wire/hands.py",
        "chutes_core/wire/pools.py",
        "chutes_core/wire/sending.py",
    ),
    "tests/core/test_faults.py": (
        "chutes_core/testing/answers.py",
        "chutes_core/testing/faults.py",
    ),
    "tests/langchain_chutes/test_chat_models.py": ("langchain_chutes/_settings.py",),
    "tests/langchain_chutes/test_cost.py": ("chutes_core/spending/totals.py",),
    "tests/langchain_chutes/test_embeddings.py": ("chutes_core/request/queries.py",),
    "tests/langchain_chutes/test_e2ee.py": ("chutes_core/e2ee/checks.py",),
    "tests/langchain_chutes/fallback/test_model.py": (
        "langchain_chutes/fallback/error.py",
        "langchain_chutes/fallback/foreign.py",
        "langchain_chutes/_convert/restart.py",
        "langchain_chutes/fallback/run.py",
    ),
    "tests/langchain_chutes/fallback/test_habits.py": ("langchain_chutes/fallback/tracing.py",),
    "tests/langchain_chutes/structured/test_forms.py": ("langchain_chutes/_structured/schemas.py",),
    "tests/langchain_chutes/structured/test_parsers.py": ("langchain_chutes/_chat_model.py",),
    "tests/llama_index_chutes/fallback/test_engines.py": ("llama_index_chutes/fallback/wanted.py",),
    "tests/llama_index_chutes/fallback/test_foreign.py": ("llama_index_chutes/_chat_model.py",),
    "tests/llama_index_chutes/test_settings.py": (
        "chutes_core/connected.py",
        "chutes_core/secrets/guarded.py",
        "llama_index_chutes/_convert/profile.py",
    ),
    "tests/llama_index_chutes/structured/test_plans.py": (
        "chutes_core/reply/reader.py",
        "chutes_core/request/objects.py",
        "llama_index_chutes/_convert/unusable.py",
        "llama_index_chutes/llms.py",
    ),
    "tests/local/backends/test_backend.py": (
        "chutes_local/backends/choose.py",
        "chutes_local/backends/engine.py",
        "chutes_local/backends/llama.py",
    ),
    "tests/local/backends/test_process.py": ("chutes_local/backends/_child.py",),
    "tests/local/e2ee/test_routes.py": (
        "chutes_local/e2ee/proof.py",
        "chutes_local/e2ee/spoil.py",
        "chutes_local/wire/seal.py",
        "chutes_local/world/sealing.py",
        "chutes_local/world/world.py",
    ),
    "tests/local/gateway/test_inference.py": (
        "chutes_local/app.py",
        "chutes_local/world/access.py",
    ),
    "tests/local/management/test_account.py": ("chutes_local/management/pages.py",),
    "tests/local/test_server.py": ("chutes_local/wire/listener.py",),
    "tests/parity/test_members.py": (
        "chutes_core/fallback/face.py",
        "langchain_chutes/fallback/members.py",
        "llama_index_chutes/fallback/members.py",
    ),
}


def home(module: Path) -> Path:
    """Return where the tests of a module are looked for.

    >>> home(Path("chutes_core/reply/guard.py")).as_posix(), home(Path("chutes_local/backends/_child.py")).as_posix()
    ('tests/core/reply/test_guard.py', 'tests/local/backends/test_child.py')
    >>> home(Path("chutes_local/__main__.py")).as_posix()
    'tests/local/test_main.py'
    """
    package, *rooms, _ = module.parts
    return Path(HOMES[package], *(room.strip("_") for room in rooms), f"test_{module.stem.strip('_')}.py")


def modules(root: Path) -> Iterator[Path]:
    """Yield the modules, except those that only stand for their package."""
    for package in HOMES:
        for path in sorted((root / package).rglob("*.py")):
            if path.name != "__init__.py":
                yield path.relative_to(root)


def problems(
    root: Path, through: Mapping[str, tuple[str, ...]] = THROUGH, data: tuple[str, ...] = DATA
) -> Iterator[str]:
    """Yield every module without tests, and every line of the lists that is not true, or no longer."""
    listed = {module: test for test, tested in through.items() for module in tested} | dict.fromkeys(data, "")
    found = {module.as_posix(): home(module).as_posix() for module in modules(root)}
    for module, test in found.items():
        if (root / test).is_file() == (module in listed):
            yield f"{module} has {test}, and is listed too" if module in listed else f"{module} has no {test}"
    yield from (f"{module} is listed, and does not exist" for module in sorted(listed.keys() - found.keys()))
    yield from (f"{test} is listed, and does not exist" for test in through if not (root / test).is_file())


def main() -> int:
    wrong = list(problems(ROOT))
    told = f"{sum(1 for _ in modules(ROOT))} modules, each with its tests where they are looked for, or listed"
    print("\n".join(f"tests: {each}" for each in wrong) if wrong else f"tests: {told}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
