"""What is read of one model, and that nothing is made up."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chutes_core.catalog.model_info import KINDS, ModelInfo, Traits, parse_row, traits_for

ROW: dict[str, object] = {
    "id": "acme/Large-2-TEE",
    "root": "acme/Large-2-FP8",
    "owned_by": "sglang",
    "chute_id": "ac059e33-eb27-541c-b9a9-24b214036475",
    "confidential_compute": True,
    "context_length": 131072,
    "max_model_len": 262144,
    "max_output_length": 65536,
    "input_modalities": ["text", "image"],
    "output_modalities": ["text"],
    "quantization": "fp8",
    "supported_features": ["tools", "json_mode"],
    "supported_sampling_parameters": ["temperature", "top_p"],
    "pricing": {"prompt": 0.4, "completion": 3.0, "input_cache_read": 0.039999999999999994},
    "price": {"input": {"usd": 9.0, "tao": 0.1}},
}

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
# Half of all keys are real ones, so that their values get every wrong type.
rows = st.dictionaries(st.sampled_from(sorted(ROW)) | st.text(), json_values, max_size=12)


def parsed(**changes: object) -> ModelInfo:
    info = parse_row({**ROW, **changes})
    assert info is not None
    return info


def test_every_field_of_a_full_row_is_read() -> None:
    """A full row of the service fills every field that it has."""
    assert parsed() == ModelInfo(
        id="acme/Large-2-TEE",
        root="acme/Large-2-FP8",
        engine="sglang",
        kind="chat",
        owner="acme",
        chute_id="ac059e33-eb27-541c-b9a9-24b214036475",
        context_length=131072,
        max_output=65536,
        input_modalities=frozenset({"text", "image"}),
        output_modalities=frozenset({"text"}),
        features=frozenset({"tools", "json_mode"}),
        sampling_parameters=frozenset({"temperature", "top_p"}),
        quantization="fp8",
        confidential=True,
        price_in=0.4,
        price_out=3.0,
        price_cached=0.04,
    )


def test_what_a_row_does_not_say_is_unknown() -> None:
    """A row with nothing but a name leaves every other fact None, with no default in its place."""
    info = parse_row({"id": "bare"})
    assert info is not None
    told = {field.name: getattr(info, field.name) for field in dataclasses.fields(info)}
    known = {name for name, value in told.items() if value is not None}
    assert known == {"id", "kind", "tags", "traits"}
    assert (info.tags, info.traits) == (frozenset(), Traits())


@pytest.mark.parametrize("name", [None, 7, "", " ", " acme/one", "acme/one\n", "a\x00b", ["acme/one"], {}])
def test_a_row_without_a_usable_id_is_none(name: object) -> None:
    """A row that cannot be asked for is no model."""
    assert parse_row({**ROW, "id": name}) is None


@pytest.mark.parametrize(
    ("wire", "field", "wrong"),
    [
        ("root", "root", 5),
        ("owned_by", "engine", "chutes"),
        ("owned_by", "engine", None),
        ("chute_id", "chute_id", "../users/me"),
        ("confidential_compute", "confidential", "true"),
        ("confidential_compute", "confidential", 1),
        ("max_output_length", "max_output", -1),
        ("max_output_length", "max_output", True),
        ("max_output_length", "max_output", "65536"),
        ("input_modalities", "input_modalities", "text"),
        ("input_modalities", "input_modalities", ["text", None]),
        ("supported_features", "features", {"tools": True}),
        ("supported_sampling_parameters", "sampling_parameters", 3),
        ("quantization", "quantization", ["fp8"]),
    ],
)
def test_a_field_of_the_wrong_type_is_unknown(wire: str, field: str, wrong: object) -> None:
    """A value that makes no sense is dropped alone; the rest of the row stands."""
    info = parsed(**{wire: wrong})
    assert getattr(info, field) is None
    assert dataclasses.replace(info, **{field: getattr(parsed(), field)}) == parsed()


@pytest.mark.parametrize("wrong", [-0.1, "0.4", True, float("nan"), float("inf"), 10**400, None, {}])
def test_a_price_is_a_number_that_is_not_negative(wrong: object) -> None:
    """A price of any other sort is unknown, in either of its places."""
    info = parsed(pricing={"prompt": wrong, "completion": 0}, price={"input": {"usd": wrong}, "output": wrong})
    assert info.price_in is None
    assert info.price_out == 0.0


def test_the_longer_price_table_stands_in_for_the_shorter() -> None:
    """A price missing from ``pricing`` is read from ``price``."""
    info = parsed(pricing=None, price={"input": {"usd": 0.5}, "output": 3, "input_cache_read": {"tao": 1}})
    assert (info.price_in, info.price_out, info.price_cached) == (0.5, None, None)


def test_the_window_falls_back_to_the_engines() -> None:
    """The published window counts, and the engine's only where there is none."""
    assert parsed().context_length == 131072
    assert parsed(context_length=None).context_length == 262144
    assert parsed(context_length="big", max_model_len=None).context_length is None


@pytest.mark.parametrize(
    ("modalities", "kind"),
    [
        (["text"], "chat"),
        (["text", "image"], "chat"),
        (["image"], "image"),
        (["embeddings"], "embedding"),
        (["audio"], "other"),
        (None, "chat"),
    ],
)
def test_the_kind_follows_from_what_a_model_gives(modalities: object, kind: str) -> None:
    """A row that says nothing is chat, because the list it is from is the chat gateway's."""
    assert parsed(output_modalities=modalities).kind == kind


def test_tags_of_a_row_join_those_of_its_family() -> None:
    """A row's own tags and the family's are one set."""
    assert parsed(id="Qwen/Qwen3-8B", tags=["small"]).tags == {"small", "qwen"}


@given(rows)
def test_no_row_of_any_shape_makes_the_reader_fail(row: dict[str, object]) -> None:
    """Any JSON object gives a model or None, and a model that survives being stored."""
    info = parse_row(row)
    if info is not None:
        assert info.id == row["id"]
        assert ModelInfo.from_dict(json.loads(json.dumps(info.to_dict()))) == info


names = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
words = st.frozensets(st.sampled_from(["text", "image", "tools", "fp8"]))
facts = st.fixed_dictionaries(
    {"id": names | st.sampled_from(["Qwen/Qwen3.6-27B", "zai-org/GLM-5"])},
    optional={
        "root": names,
        "owner": names,
        "engine": st.sampled_from(["sglang", "vllm"]),
        "kind": st.sampled_from(KINDS),
        "host": st.just("https://x.chutes.ai/v1"),
        "context_length": st.integers(1, 10**9),
        "features": words,
        "tags": words,
        "confidential": st.booleans(),
        "hot": st.booleans(),
        "price_in": st.integers(0, 10**6).map(lambda cents: cents / 100),
        "ttft": st.sampled_from([0.25, 1.5]),
        "traits": st.sampled_from([Traits(), Traits(single_system=False, query_instruction="{query}")]),
    },
)


@given(facts)
def test_a_stored_model_comes_back_as_it_was(fields: dict[str, object]) -> None:
    """Plain data made from a model gives the same model, also where it differs from its family."""
    info = ModelInfo(**fields)  # type: ignore[arg-type]
    assert ModelInfo.from_dict(json.loads(json.dumps(info.to_dict()))) == info


def test_what_the_id_says_is_not_stored() -> None:
    """A stored model leaves its family's traits out, so that a newer table of families reaches it."""
    info = parsed(id="Qwen/Qwen3.6-27B")
    assert info.traits.single_system is True
    assert {"traits", "tags", "owner"}.isdisjoint(info.to_dict())


def test_from_dict_refuses_what_has_no_id() -> None:
    """A stored row without an id is a ValueError that shows it."""
    with pytest.raises(ValueError, match="needs an id, and this is not one: 'None'"):
        ModelInfo.from_dict({"kind": "chat"})


@pytest.mark.parametrize(
    "host",
    [
        "https://evil.example/v1", "http://own.chutes.ai/v1", "https://own.chutes.ai.example/v1", "https://chutes.ai",
        "https://me@own.chutes.ai", "https://own.chutes.ai/v1?a=b", "http://127.0.0.1:8000/v1", 5, "",
    ],
)  # fmt: skip
def test_a_host_that_is_not_the_service_s_is_unknown(host: object) -> None:
    """A stored host is used only if a key may be sent there."""
    assert ModelInfo.from_dict({"id": "a", "host": host}).host is None
    assert ModelInfo.from_dict({"id": "a", "host": "https://own.chutes.ai/v1"}).host is not None


def test_supports_and_takes_know_three_answers() -> None:
    """Yes, no, and not known are told apart."""
    info, bare = parsed(), ModelInfo(id="bare")
    assert [info.supports("tools"), info.supports("reasoning"), bare.supports("tools")] == [True, False, None]
    assert [info.takes("image"), info.takes("video"), bare.takes("image")] == [True, False, None]


def test_owner_is_the_part_before_the_slash() -> None:
    """A name without a slash has no owner."""
    assert [ModelInfo(id=name).owner for name in ("acme/one", "one", "/one")] == ["acme", None, None]


def test_repr_says_what_matters_on_one_line() -> None:
    """The repr names kind, window, prices, features and confidentiality, where known."""
    full = "chat, 131,072 tokens, $0.4 in, $3 out per 1M, json_mode+tools, confidential"
    assert repr(parsed()) == f"<ModelInfo acme/Large-2-TEE: {full}>"
    vectors = ModelInfo(id="v", kind="embedding", dimensions=4096)
    assert repr(vectors) == "<ModelInfo v: embedding, 4,096 dimensions>"
    assert repr(ModelInfo(id="free", price_in=0.0)) == "<ModelInfo free: chat, $0 in per 1M>"


def test_a_model_is_an_immutable_value() -> None:
    """Equal models are equal and hash alike, and none can be changed."""
    assert len({parsed(), parsed()}) == 1
    with pytest.raises(dataclasses.FrozenInstanceError):
        parsed().id = "other"  # type: ignore[misc]


def test_openrouter_shape() -> None:
    """The export carries exact per-token prices as text and OpenRouter's words for what is supported."""
    exported = parsed(supported_features=["tools", "structured_outputs", "reasoning"]).to_openrouter()
    assert exported["id"] == "acme/Large-2-TEE"
    assert exported["hugging_face_id"] == "acme/Large-2-FP8"
    assert exported["context_length"] == 131072
    assert exported["pricing"] == {
        "prompt": "0.0000004",
        "completion": "0.000003",
        "input_cache_read": "0.00000004",
    }
    assert exported["architecture"] == {
        "modality": "text+image->text",
        "input_modalities": ["text", "image"],
        "output_modalities": ["text"],
    }
    assert exported["top_provider"] == {
        "context_length": 131072,
        "max_completion_tokens": 65536,
        "is_moderated": False,
    }
    assert exported["supported_parameters"] == [
        "include_reasoning",
        "reasoning",
        "response_format",
        "structured_outputs",
        "temperature",
        "tool_choice",
        "tools",
        "top_p",
    ]


def test_openrouter_shape_of_an_unknown_model_claims_nothing() -> None:
    """What is unknown is null or left out of the export; a price of nothing is "0"."""
    exported = ModelInfo(id="bare", price_in=0.0).to_openrouter()
    assert (exported["kind"], exported["tags"]) == ("chat", [])
    assert exported["pricing"] == {"prompt": "0"}
    assert exported["context_length"] is None
    assert exported["architecture"] == {"modality": None, "input_modalities": [], "output_modalities": []}
    assert exported["supported_parameters"] == []


def test_json_mode_alone_is_a_response_format() -> None:
    """JSON mode without structured outputs exports ``response_format`` only."""
    exported = ModelInfo(id="a", features=frozenset({"json_mode"})).to_openrouter()
    assert exported["supported_parameters"] == ["response_format"]


def test_a_kind_of_another_version_is_not_chat() -> None:
    """A kind that this version does not know is "other"; only an entry without one is chat."""
    assert ModelInfo.from_dict({"id": "a", "kind": "hologram"}).kind == "other"
    assert ModelInfo.from_dict({"id": "a"}).kind == "chat"
    assert ModelInfo(id="a", kind="video", tags=frozenset({"new"})).to_openrouter()["kind"] == "video"


def test_the_owner_of_a_name_without_one_is_who_published_it() -> None:
    """The part before the slash comes first."""
    assert [ModelInfo(id=name, user="me").owner for name in ("acme/a", "a", "/a")] == ["acme", "me", "me"]


def test_traits_for_is_offered_here_too() -> None:
    """A parsed model has the traits of its family."""
    assert parsed(id="moonshotai/Kimi-K3-TEE").traits == traits_for("moonshotai/Kimi-K3-TEE")
