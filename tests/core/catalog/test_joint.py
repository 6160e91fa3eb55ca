"""What holds whichever of several models answers."""

from __future__ import annotations

from chutes_core import Catalog, ModelInfo
from chutes_core.catalog.joint import echoes_reasoning, every, least, structured_method
from chutes_core.catalog.model_info import Traits
from chutes_core.catalog.names import model_infos

ONE = ModelInfo(id="acme/one", features=frozenset({"tools", "reasoning"}))
TWO = ModelInfo(id="acme/two", features=frozenset({"tools"}), traits=Traits(echo_reasoning=True))
BARE = ModelInfo(id="acme/bare")
KNOWN = Catalog((ONE, TWO, BARE), "live", 0.0, "2026-01-01", offline=True)


def test_what_is_unknown_of_one_is_unknown_of_all() -> None:
    """Unless another one settles it."""
    assert (least([]), least([3, 2]), least([3, None])) == (None, 2, None)
    assert (every([]), every([True, None]), every([None, False])) == (True, None, False)


def test_reasoning_is_echoed_if_one_of_them_wants_it() -> None:
    """Any of them may answer."""
    assert echoes_reasoning(model_infos(KNOWN, "acme/one,acme/two"))
    assert not echoes_reasoning([ONE])


def test_a_model_that_is_not_listed_has_the_traits_of_its_family() -> None:
    """Tomorrow's GLM is a GLM."""
    assert echoes_reasoning(model_infos(KNOWN, "zai-org/GLM-5.9"))


def test_the_method_for_a_list_is_one_that_all_have() -> None:
    """The first feature that every member is known to have."""
    assert structured_method([ONE, TWO]) == "function_calling"
    assert structured_method([ONE, BARE]) == "json_schema"


def test_a_schema_that_cannot_be_sent_is_asked_for_otherwise() -> None:
    """By a tool call where that is possible or nothing is known."""
    assert structured_method([TWO], by_schema=False) == "function_calling"
    assert structured_method([BARE], by_schema=False) == "function_calling"
