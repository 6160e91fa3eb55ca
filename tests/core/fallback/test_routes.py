"""Routes as data: from mappings, TOML and YAML, with mistakes named."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from chutes_core import ConfigurationError
from chutes_core.fallback import FallbackPolicy
from chutes_core.fallback.routes import Route, Routed, read_routes, route, split_models

TOML = """
[routes.summarization]
models = ["acme/small", "acme/other"]
temperature = 0.2
[routes.summarization.policy]
deadline = 30
order = "price"

[routes.analysis]
models = ["acme/large", { model = "acme/spare", api_key = "cpk_fake_of_another_account" }]
"""
YAML = """
summarization: "acme/small, acme/other"
analysis:
  models: [acme/large]
"""


def test_toml(tmp_path: Path) -> None:
    """A TOML file has tables of models, policy and options."""
    file = tmp_path / "routes.toml"
    file.write_text(TOML)
    routes = read_routes(file)
    assert routes["summarization"] == Route(
        ("acme/small", "acme/other"), FallbackPolicy(deadline=30, order="price"), {"temperature": 0.2}
    )
    assert routes["analysis"].models[1] == {"model": "acme/spare", "api_key": "cpk_fake_of_another_account"}


def test_yaml(tmp_path: Path) -> None:
    """A YAML file may leave out what has a default, and write models as a line."""
    file = tmp_path / "routes.yaml"
    file.write_text(YAML)
    assert read_routes(file)["summarization"].models == ("acme/small", "acme/other")
    assert route(file, "analysis").models == ("acme/large",)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({}, "no routes"),
        ({"routes": []}, "no routes"),
        ({"a": 7}, "'a' must be a list of models"),
        ({"a": []}, "'a' names no models"),
        ({"a": {"policy": {}}}, "'a' names no models"),
        ({"a": {"models": ["x"], "policy": 7}}, "policy of the route 'a'"),
        ({"a": {"models": ["x"], "policy": {"dedline": 3}}}, "deadline"),
        ({"a": [""]}, "must be a name"),
        ({"a": [{"name": "x"}]}, "must be a name"),
        ({"a": " , "}, "at least one"),
    ],
)
def test_mistakes_are_named(source: Any, message: str) -> None:
    """Whatever is wrong with a table, the message says where."""
    with pytest.raises(ConfigurationError, match=message):
        read_routes(source)


def test_a_missing_route_names_the_nearest() -> None:
    """A misspelt name is an error with what there is."""
    source = {"summarization": ["x"], "chat": ["y"]}
    with pytest.raises(ConfigurationError, match="Did you mean 'summarization'"):
        route(source, "summarisation")
    with pytest.raises(ConfigurationError, match="The routes are: chat, summarization"):
        route(source, "zzz")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("r.toml", "= broken", "not valid TOML"),
        ("r.yaml", "a: [", "not valid YAML"),
        ("r.yml", "7", "no routes"),
        ("r.ini", "", "not from r.ini"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, name: str, content: str, message: str) -> None:
    """A file that cannot be understood is an error with its name and reason."""
    (tmp_path / name).write_text(content)
    with pytest.raises(ConfigurationError, match=message):
        read_routes(tmp_path / name)


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is not there, and YAML without its package, say what to do."""
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        read_routes(tmp_path / "absent.toml")
    monkeypatch.setitem(sys.modules, "yaml", None)
    (tmp_path / "r.yaml").write_text(YAML)
    with pytest.raises(ConfigurationError, match="pip install pyyaml"):
        read_routes(tmp_path / "r.yaml")


def test_a_line_of_models() -> None:
    """Names between commas, with or without spaces."""
    assert split_models(" a,b , c ") == ("a", "b", "c")


class Made(Routed):
    """What a framework's fallback is made of."""

    def __init__(self, members: Any = (), **arguments: Any) -> None:
        self.members, self.arguments = members, arguments


def test_a_fallback_is_made_of_what_is_written_down() -> None:
    """A list or a route; what is given beside the route goes before what it says."""
    assert Made.from_models("a/b, c/d", api_key="cpk_0123").members == ("a/b", "c/d")
    made = Made.route("short", {"short": {"models": ["a/b"], "temperature": 0, "seed": 1}}, temperature=1)
    assert (made.members, made.arguments) == (("a/b",), {"policy": FallbackPolicy(), "temperature": 1, "seed": 1})
