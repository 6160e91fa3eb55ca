"""The list of members, for a framework that is made up here: what both real ones make of it is in tests/parity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest

from chutes_core import ChutesWarning, ConfigurationError, RequestRefusedError, TimeLimits
from chutes_core.auth import KeyFunction
from chutes_core.catalog.catalog import Catalog
from chutes_core.catalog.joint import price
from chutes_core.catalog.model_info import ModelInfo
from chutes_core.connected import Connected
from chutes_core.fallback import FallbackPolicy, Member
from chutes_core.fallback.roster import (
    Roster,
    Seat,
    account_id,
    foreign_member,
    named,
    own_member,
    refuse_several,
    seated,
    shortest,
    taken_limit,
)
from chutes_core.response import Reply
from chutes_core.secrets.secret import Secret
from chutes_core.usage import Usage

INFO = ModelInfo(id="acme/one")


@dataclass
class Base:
    """A chat model of the framework."""

    model: str = ""
    max_retries: int | None = 2
    api_key: str = ""
    e2ee: object = False
    timeout: TimeLimits | float | None = None


class Model(Base):
    """A Chutes model, with what the list needs of one."""

    @classmethod
    def _read(cls, owner: str, given: Mapping[str, object], *more: str) -> dict[str, object]:
        if unknown := given.keys() - {"api_key", "e2ee", "timeout", *more}:
            raise ConfigurationError(f"{owner} has no argument {min(unknown)!r}")
        return dict(given)

    def _sealing(self, wish: object) -> object:
        return f"sealed {wish}"

    def model_copy(self, *, update: Mapping[str, Any]) -> Model:
        return replace(self, **update)


class Stranger(Base):
    """Another provider's model."""


class Odd(Stranger):
    """And one more."""


@dataclass
class Fallback(Base):
    """A fallback, which is a model too."""

    members: list[Base] = field(default_factory=list)
    policy: FallbackPolicy = field(default_factory=FallbackPolicy)


def quiet(model: Base) -> Base | None:
    return None if model.max_retries is None else replace(model, max_retries=0)


PLACE = f"{__name__}:Stranger"
PROVIDERS = {"other": PLACE, "absent": "no_such_package.models:Model"}
ROSTER = Roster(Base, "Model", PROVIDERS, cast("type[Connected]", Model), Model, quiet)  # type: ignore[arg-type]


def names(listed: Any, **shared: object) -> list[str]:
    return [each.model for each in ROSTER.members(listed, shared)]


def test_names_tables_models_and_fallbacks_may_be_listed() -> None:
    """A fallback's members take its place; none of them retries; names and tables share the arguments."""
    inner = Fallback(members=[Model("acme/four", e2ee=True), Model("acme/five")])
    made = ROSTER.members(
        [
            "acme/one",
            {"model": "acme/two", "api_key": "b"},
            {"model": "x", "provider": "other"},
            Model("acme/3"),
            inner,
        ],
        {"api_key": "a", "max_retries": None},
    )
    assert [each.model for each in made] == ["acme/one", "acme/two", "x", "acme/3", "acme/four", "acme/five"]
    assert [each.api_key for each in made] == ["a", "b", "", "", "", ""]
    assert {each.max_retries for each in made} == {0}
    assert type(made[2]) is Stranger
    assert [each.e2ee for each in ROSTER.members(["acme/one", inner], {"e2ee": True})] == [True, True, "sealed True"]


@pytest.mark.parametrize(
    ("listed", "shared", "said"),
    [
        ("acme/one", {}, "from_models"),
        ((), {}, "at least one model"),
        ({"model": "acme/one"}, {}, "at least one model"),
        ([7], {}, "the name of a model or a Model, not int"),
        (["acme/one"], {"models": []}, "no 'models' beside its members"),
        (["acme/one"], {"max_retries": 1}, "max_attempts"),
        (["acme/one"], {"colour": 1}, "^ChutesFallback has no argument 'colour'"),
        ([Model("acme/one")], {"api_key": "a", "timeout": 1}, "^api_key, timeout: these arguments"),
        (["acme/one", Model("a"), "acme/one"], {}, "'acme/one' is listed twice"),
        ([{"model": "acme/one"}, {"model": "acme/one"}], {}, "'acme/one' is listed twice"),
        ([Model("acme/one")] * 2, {}, "'acme/one' is listed twice"),
        ([Stranger("acme/one")], {"e2ee": True}, "Stranger cannot be asked sealed"),
        ([{"provider": "nobody"}], {}, "no provider 'nobody' here. Use absent, other, or"),
        ([{"provider": "absent"}], {}, "provider='absent' needs Model: pip install no-such-package-models"),
        ([{"provider": f"{__name__}:None"}], {}, "needs None: it is not in"),
        ([{"provider": "json:dumps"}], {}, "json:dumps is not a Model"),
    ],
)
def test_what_cannot_be_meant_is_refused(listed: Any, shared: dict[str, object], said: str) -> None:
    """With what to do."""
    with pytest.raises(ConfigurationError, match=said):
        ROSTER.members(listed, shared)


def test_retries_that_stay_are_told_of_once() -> None:
    """For all members together, where the caller's own line is."""
    with pytest.warns(ChutesWarning, match="^Stranger, Odd: its own retries cannot") as told:
        made = ROSTER.members([Stranger("a", None), Stranger("b", None), Odd("c", None)], {})
    assert [each.max_retries for each in made] == [None] * 3
    assert (len(told), told[0].filename) == (1, __file__)


def test_members_are_exchanged_for_models() -> None:
    """Names would be without the arguments that the others share."""
    assert [each.max_retries for each in ROSTER.exchanged([Model("a"), Model("b")])] == [0, 0]
    for wrong in ("acme/one", [], ["acme/one"], None):
        with pytest.raises(ConfigurationError, match=r"a list of models, .* names are for the constructor"):
            ROSTER.exchanged(wrong)


# ------------------------------------------------------------------------------------------ for the engine


def test_an_account_is_told_by_its_key_and_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """In whatever form the key was given, and without showing it."""
    told = account_id("chutes", "https://example.org", "cpk_0123")
    assert told == account_id("chutes", "https://example.org", Secret("cpk_0123"))
    assert account_id("p", "", print) == account_id("p", "", KeyFunction(print)) != account_id("p", "", None)
    others = [account_id("chutes", "https://example.com", "cpk_0123"), account_id("other", "", "cpk_0123")]
    assert len({told, *others}) == 3
    assert "cpk" not in told

    def own(key: object) -> Member:
        return own_member("acme/one", None, key, [ModelInfo(id="acme/one")], False)

    assert own(print).account != own(None).account
    monkeypatch.setenv("CHUTES_API_KEY", "with space")  # the first call says what is wrong with it
    assert own(None).account == own_member("acme/two", None, None, [INFO], False).account
    monkeypatch.setenv("CHUTES_API_KEY", "cpk_0123")
    assert own(None).account == own("cpk_0123").account


def test_hosts_are_told_apart() -> None:
    """The public one has no name in the health's keys."""
    here = own_member("a", None, "k", [ModelInfo(id="a")], False)
    there = own_member("a", "https://example.org/v1", "k", [ModelInfo(id="a")], True)
    assert (here.host, there.host, here.sealed, there.sealed) == ("", "https://example.org/v1", "", "binding")
    one, other = foreign_member(Other("m")), foreign_member(Other("n"))
    assert (one.name, one.host) == ("m", "Other")
    assert one.account != other.account


def test_another_providers_model_is_known_by_what_its_class_says() -> None:
    """Whatever it calls its name, its address and its key; a name that is given goes before."""
    there = SimpleNamespace(model_id="m", azure_endpoint="https://example.org", groq_api_key="gsk_0123")
    same = SimpleNamespace(model="n", base_url="https://example.org", api_key="gsk_0123")
    assert (foreign_member(there).name, foreign_member(there).host) == ("m", "https://example.org")
    assert foreign_member(there).account == foreign_member(same).account
    assert foreign_member(same, "other/n").name == "other/n"
    assert foreign_member(SimpleNamespace()).name == "SimpleNamespace"


class Other:
    """A model that says no more than its name."""

    def __init__(self, name: str) -> None:
        self.model_name = name


def test_the_same_model_again_is_another_chance() -> None:
    """With another key it has its own health, with other settings not; with neither it is refused."""
    members = [Member("acme/one", account, INFO) for account in "aabba"]
    placed = seated(members, lambda place: place)
    assert [each.target for each in placed] == ["|acme/one"] * 2 + ["#b|acme/one"] * 2 + ["|acme/one"]
    assert len({each.place for each in placed}) == 5
    assert seated([Member("acme/one"), Member("acme/one", host="h")], lambda place: 0)[1].host == "h"
    with pytest.raises(ConfigurationError, match="'acme/one' is listed twice with the same key and settings"):
        seated(members, lambda place: place % 4)


def test_those_that_differ_only_in_their_model_share_a_pool() -> None:
    """Neither sealed ones do, nor other providers'."""
    members = [
        Member("a", "k", INFO), Member("b", "k", INFO), Member("c", "k", INFO), Member("d", "l", INFO),
        Member("e", "k", INFO, sealed="off"), Member("f", "k"),
    ]  # fmt: skip
    settings = ["x", "x", "y", "x", "x", "x"]
    pools = [each.pool for each in seated(members, settings.__getitem__)]
    assert pools == ["pool-0", "pool-0", "pool-1", "pool-2", None, None]


def test_limits_are_the_shortest_of_all() -> None:
    """Each by itself; another provider's model has none that are known."""
    step = TimeLimits(connect=None, first_token=8, gap=5, total=None)
    assert shortest(step) is step
    assert shortest(step, TimeLimits(connect=None, gap=9, total=3)) == replace(step, total=3)
    model = Model(timeout=4)
    assert Seat(model, Member("a", info=INFO)).limits(step).total == 4
    assert Seat(model, Member("a", info=INFO)).limits(step, TimeLimits(total=3)).total == 3
    assert Seat(model, Member("a")).limits(step) is step


# ------------------------------------------------------------------------------------------ a call's own wishes


def test_a_calls_limit_is_taken_out_of_its_parameters() -> None:
    """Under either name; what is no limit is refused."""
    params: dict[str, object] = {"timeout": TimeLimits(gap=1), "request_timeout": 3, "seed": 1}
    assert taken_limit(params) == TimeLimits(gap=1)
    assert params == {"seed": 1}
    assert taken_limit({"request_timeout": 3}) == TimeLimits(total=3)
    assert taken_limit({"timeout": None}) is taken_limit({}) is None
    with pytest.raises(ConfigurationError, match="positive"):
        taken_limit({"timeout": -1})


@pytest.mark.parametrize(
    ("params", "settings", "refused"),
    [
        ({}, {}, False),
        ({"n": 1}, {"n": 2}, False),
        ({"n": 2}, {}, True),
        ({"n": None}, {"n": 2}, True),
        ({"extra_body": {"n": 3}}, {}, True),
        ({}, {"additional_kwargs": {"extra_body": {"n": 3}}}, True),
        ({"n": "2"}, {"extra_body": None}, False),
    ],
)
def test_several_answers_are_refused(params: Any, settings: dict[str, object], refused: bool) -> None:
    """Wherever they were asked for; a call's own number comes before a member's."""
    model = Model()
    vars(model).update(settings)
    ask = partial(refuse_several, params, [Model(), model])
    if not refused:
        ask()
        return
    with pytest.raises(RequestRefusedError, match="A fallback returns one answer"):
        ask()


def again(seat: Seat[str], model: str) -> Seat[str]:
    """The same member with another model."""
    return Seat(model, replace(seat.member, name=model))


def test_a_call_may_name_its_model() -> None:
    """A member of that name, all of them if there are several, or the first of ours with it."""
    foreign, one, two = Seat("f", Member("other/model")), Seat("1", Member("a", info=INFO)), Seat("2", Member("b"))
    seats = [foreign, one, two, Seat("3", Member("b", "other account"))]
    assert named(seats, None, again) is seats
    assert [seat.model for seat in named(seats, "b", again)] == ["2", "3"]
    assert [(seat.model, seat.member.name) for seat in named(seats, "c", again)] == [("c", "c")]
    assert [seat.model for seat in named([foreign], "other/model", again)] == ["f"]
    with pytest.raises(RequestRefusedError, match="'c' is none of this fallback's members"):
        named([foreign], "c", again)
    for name in ("", 3, ["a"]):
        with pytest.raises(RequestRefusedError, match="the name of one model"):
            named(seats, name, again)


def test_an_answer_costs_what_its_model_does() -> None:
    """The one that the answer names; what nobody knows has no price, and is not asked for without need."""
    used = Usage(1_000_000, 0, 1_000_000)
    known = [[], [ModelInfo(id="a", price_in=2.0, price_out=3.0)]]
    catalogs = [Catalog(each, source="here", fetched_at=0.0, snapshot_date="2026-01-01") for each in known]
    assert price(catalogs, Reply(None, "a", (), used)) == 2.0
    for reply in (Reply(None, "b", (), used), Reply(None, "a", ()), Reply(None, None, (), used)):
        assert price(catalogs, reply) is None
