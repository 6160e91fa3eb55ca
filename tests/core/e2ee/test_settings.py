"""What the encrypted path refuses before anything is sent, and what it does on this side."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from chutes_core import Catalog, ConfigurationError, RequestRefusedError, UnknownModelError
from chutes_core.e2ee import E2EE
from chutes_core.e2ee.settings import check_headers, check_known, check_name, chute_named, fit_body, target
from chutes_core.openai_sdk.door import async_openai_client, openai_client

CATALOG = Catalog.bundled()
MODEL = "Qwen/Qwen3-32B-TEE"


@pytest.mark.parametrize("model", [MODEL, "qwen/qwen3-32b", f"{MODEL}:THINKING"])
def test_a_name_is_completed_on_this_side(model: str) -> None:
    """As the gateway would: another case, without the suffix, with the mark for thinking."""
    assert target(model, CATALOG, verify="binding").id == MODEL


def test_the_id_of_a_chute_is_a_name_too() -> None:
    """The machine gets the name that it knows."""
    info = CATALOG.model(MODEL)
    assert info.chute_id
    assert target(info.chute_id, CATALOG, verify="binding").id == MODEL


@pytest.mark.parametrize("model", [f"{MODEL},other/one", f"{MODEL}:latency", "a/one:throughput", "a/one, b/two"])
def test_a_list_of_models_is_refused_with_the_reason(model: str) -> None:
    """The gateway would have to choose; a fallback of ours does it on this side."""
    for refuse in (lambda: check_name(model), lambda: target(model, CATALOG, verify="binding")):
        with pytest.raises(RequestRefusedError, match=r"cannot choose among models.*A client-side fallback"):
            refuse()


def test_an_alias_is_refused_with_the_reason() -> None:
    """The gateway would have to look it up."""
    with pytest.raises(UnknownModelError, match="an alias of yours cannot be resolved") as caught:
        target("my-favourite", CATALOG, verify="binding")
    assert caught.value.model == "my-favourite"


def test_a_model_without_an_id_is_refused() -> None:
    """It cannot be said where the request should go."""
    with pytest.raises(UnknownModelError, match="does not have the chute id"):
        target("acme/one", CATALOG.updated([{"id": "acme/one"}], fetched_at=0.0), verify="binding")


def test_a_model_without_confidential_compute_has_nothing_to_prove() -> None:
    """Unless no proof is wanted."""
    row = {"id": "acme/one", "chute_id": chute_named("acme/one"), "confidential_compute": False}
    catalog = CATALOG.updated([row], fetched_at=0.0)
    with pytest.raises(RequestRefusedError, match="can prove nothing"):
        target("acme/one", catalog, verify="binding")
    assert target("acme/one", catalog, verify="off").chute_id == chute_named("acme/one")


def test_a_chute_that_only_the_service_names_is_refused() -> None:
    """A row could send the prompt to another model's machines; by its id, or pinned, it is the caller's choice."""
    other = CATALOG.model("zai-org/GLM-5.2-TEE").chute_id
    catalog = CATALOG.updated([{"id": MODEL, "chute_id": other, "confidential_compute": True}], fetched_at=0.0)
    assert other is not None
    with pytest.raises(RequestRefusedError, match="another chute for Qwen/Qwen3-32B-TEE than its name gives"):
        target(MODEL, catalog, verify="binding")
    assert target(other, catalog, verify="binding").chute_id == other
    assert target(MODEL, catalog, verify="binding", chutes={MODEL: "mine"}).chute_id == "mine"


def test_a_pinned_chute_needs_no_catalogue() -> None:
    """Nor what the catalogue says of it."""
    assert target("me/private", CATALOG, verify="binding", chutes={"me/private": "mine"}).chute_id == "mine"


def test_the_ids_of_all_shipped_models_are_those_that_their_names_give() -> None:
    """So none of them needs a pin."""
    infos = [info for info in CATALOG.models if info.chute_id is not None]
    assert infos
    assert all(info.chute_id == chute_named(info.id) for info in infos)


@pytest.mark.parametrize("name", ["X-Enable-Thinking", "x-enable-thinking"])
def test_the_header_for_thinking_is_refused(name: str) -> None:
    """Nobody would act on it."""
    with pytest.raises(ConfigurationError, match="reasoning=True"):
        check_headers({"X-Title": "mine", name: "true"})
    check_headers({"X-Title": "mine"})


@pytest.mark.parametrize(
    ("body", "fitted"),
    [
        ({"tools": [{}]}, {"tools": [{}], "tool_choice": "auto"}),
        ({"tools": [{}], "tool_choice": "none"}, {"tools": [{}], "tool_choice": "none"}),
        ({"tools": []}, {"tools": []}),
        ({"continue_final_message": True}, {"continue_final_message": True, "add_generation_prompt": False}),
    ],
)
def test_the_body_gets_what_the_gateway_would_put_in(body: dict[str, Any], fitted: dict[str, Any]) -> None:
    """The exact name, a choice beside tools, one of two switches that exclude each other."""
    assert fit_body({"model": "any", **body}, MODEL) == {"model": MODEL, **fitted}


@pytest.mark.parametrize("wish", ["full", None, 1])
def test_what_is_no_wish_for_encryption_is_refused(wish: object) -> None:
    """A word in the wrong place does not leave a call in the clear."""
    with pytest.raises(ConfigurationError, match="e2ee must be"):
        E2EE.of(wish)
    settings = E2EE(verify="off")
    assert E2EE.of(settings) is settings


def test_settings_come_from_a_table_too() -> None:
    """As a route in a file has them; what is no setting is refused."""
    assert E2EE.of({"verify": "full"}) == E2EE(verify="full")
    assert E2EE.of(E2EE(verify="off").to_dict()) == E2EE(verify="off")
    assert "s3cr3t" not in repr(E2EE(verify="full", collateral=partial(str, "s3cr3t")))
    for wrong, said in (
        ({"verify": "some"}, "verify must be"),
        ({"proof": "full"}, "E2EE has no 'proof'"),
        ({"collateral": "https://a.example"}, "must be a function"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            E2EE.of(wrong)


@pytest.mark.parametrize("model", ["my-alias", "9f6c2a0e-0000-0000-0000-000000000000", f"{MODEL},a/b"])
def test_what_can_never_work_is_seen_before_a_call(model: str) -> None:
    """A name that may be one of today's is left to the call, which looks into today's list."""
    with pytest.raises(ConfigurationError, match="Under e2ee"):
        check_known(model, CATALOG, verify="binding")
    check_known("acme/of-today", CATALOG, verify="binding")
    check_known(f"{MODEL}:THINKING", CATALOG, verify="binding")


def test_the_door_for_the_openai_sdk_is_not_sealed() -> None:
    """It has no such argument: the SDK builds the request itself, for one address."""
    for door in (openai_client, async_openai_client):
        with pytest.raises(TypeError, match="e2ee"):
            door("cpk_0123", e2ee=True)  # type: ignore[call-arg]
