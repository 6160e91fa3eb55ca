"""What holds for every test and every doctest: no stranger's environment, no network, no live call unasked.

This file stands beside the packages, not in tests/, because their doctests run under the same rules.
Connections are limited to this machine by pytest-socket's `--allow-hosts` in pyproject.toml.
"""

from __future__ import annotations

import itertools
import os
import random
from collections.abc import Iterator

import platformdirs
import pytest
from hypothesis import settings

pytest_plugins = ["tests.leftovers"]

# How long an example takes says something about the machine, not about the code.
settings.register_profile("repository", deadline=None, derandomize=bool(os.environ.get("CI")))
settings.load_profile("repository")

# The samples in tests/typing are for mypy alone.
collect_ignore = ["tests/typing"]

SCRUBBED_PREFIXES = ("CHUTES_", "OPENAI_", "LANGCHAIN_", "LANGSMITH_")
PROXY_VARIABLES = frozenset({"http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"})


def is_scrubbed(name: str) -> bool:
    """Tell whether an environment variable could change what a test sees."""
    return name.startswith(SCRUBBED_PREFIXES) or name.lower() in PROXY_VARIABLES


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--plain-httpx",
        action="store_true",
        help="have the core's own connections run on httpx, as where no package brings httpx2",
    )


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--plain-httpx"):
        from chutes_core.wire import pools

        found = pools.find_spec
        pools.find_spec = lambda name: None if name == "httpx2" else found(name)  # type: ignore[assignment]


@pytest.fixture(autouse=True)
def _losers_are_waited_for() -> Iterator[None]:
    """Wait until whoever lost a race has closed its answer, however slow the machine is: calls wait but a moment."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("chutes_core.fallback.readers._CLOSING", 60.0)
        yield


_number = itertools.count()
_cache_dir = platformdirs.user_cache_dir


@pytest.fixture(autouse=True)
def _clean_environment(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Hide keys, logins, endpoints and proxies of the developer's shell; a live test keeps all but the logins."""
    # Its own MonkeyPatch and not the fixture: Hypothesis objects to function-scoped fixtures it can see.
    with pytest.MonkeyPatch.context() as patch:
        if request.node.get_closest_marker("live") is None:
            for name in filter(is_scrubbed, list(os.environ)):
                patch.delenv(name)
        # Each test has a place for logins of its own, which does not exist before it stores one.
        number = next(_number)
        patch.setenv("CHUTES_CONFIG_DIR", str(tmp_path_factory.getbasetemp() / f"logins-{number}"))
        # And for the list of models, which another run, or its user, may have cached. The weights are everybody's.
        cache = str(tmp_path_factory.getbasetemp() / f"cache-{number}")

        def found(*words: object, **options: object) -> str:
            return cache if (words, options) == (("chutes-connect",), {}) else _cache_dir(*words, **options)  # type: ignore[arg-type]

        patch.setattr("platformdirs.user_cache_dir", found)
        yield


# The files that take longest, mostly by waiting for real models and other processes.
LONG = (
    "tests/integration/test_ray.py",
    "tests/integration/test_core.py",
    "tests/langchain_chutes/test_standard.py",
    "tests/local/backends/test_backend.py",
    "tests/llama_index_chutes/test_examples.py",
    "tests/langchain_chutes/test_examples.py",
    "tests/local/test_docs_browser.py",
    "tests/local/test_login_browser.py",
    "tests/local/test_pytest_plugin.py",
)


def place(item: pytest.Item) -> int:
    """Begin the longest files first: one that is begun last has the other processes wait for it."""
    file = item.nodeid.partition("::")[0]
    return LONG.index(file) if file in LONG else len(LONG)


def shuffle(items: list[pytest.Item], seed: str) -> None:
    """Put the files in another order, and the tests in each of them, to find tests that need one before them."""
    chance = random.Random(seed)
    files = {item.nodeid.partition("::")[0]: chance.random() for item in items}
    items.sort(key=lambda item: (files[item.nodeid.partition("::")[0]], chance.random()))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip live tests without a key, open the network for those that run, and begin what takes longest."""
    items.sort(key=place)
    if seed := os.environ.get("SHUFFLE"):
        shuffle(items, seed)
    for item in items:
        if item.get_closest_marker("live") is not None:
            item.add_marker(pytest.mark.enable_socket)
            if not os.environ.get("CHUTES_API_KEY"):
                item.add_marker(pytest.mark.skip(reason="a live test: set CHUTES_API_KEY to run it"))
