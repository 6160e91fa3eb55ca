"""One model: what it is, what it can do, what it costs. Anything the service did not report is None.

>>> info = parse_row({"id": "acme/one", "max_model_len": 8192, "pricing": {"prompt": 0.1, "completion": 0.4}})
>>> info
<ModelInfo acme/one: chat, 8,192 tokens, $0.1 in, $0.4 out per 1M>
>>> info.supports("tools") is None
True
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import Decimal

from chutes_core.catalog import checked
from chutes_core.catalog.kinds import KINDS
from chutes_core.catalog.traits import Traits, family_tags, traits_for

__all__ = ["KINDS", "ModelInfo", "Traits", "parse_row", "traits_for"]

_UNKNOWN = Traits()
_ENGINES = ("sglang", "vllm")
# A chute id becomes part of URL paths, so it may hold nothing that could end one.
_CHUTE_ID = re.compile(r"[A-Za-z0-9._-]+")
# Keys are sent to it, and whoever may write the cache may write this.
_HOST = re.compile(r"https://[a-z0-9-]+\.chutes\.ai(/v1)?")


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class ModelInfo:
    """What is known about one model.

    Attributes:
        id: The name to request it by.
        root: The repository of the weights; the service does not accept it as a name.
        engine: ``"sglang"`` or ``"vllm"``.
        kind: What it is for: "chat", "embedding", "image", "speech", "transcription", "video", "music",
            "moderation", or "other" where the service does not say.
        owner: The part of the id before the slash, or else the user who published it.
        user: The user who published its chute, where it is in the service's list of chutes: ``"chutes"`` is Chutes.
        chute_id: The service's own id for it; usable as a name too.
        version: The service's id for what is deployed under that id now.
        host: The base URL of its own host; None is the gateway.
        paths: The paths that it publishes on its own host.
        context_length: The context window: tokens of prompt and answer together.
        max_output: The most tokens in an answer.
        input_modalities: What it accepts: "text", "image", "video".
        output_modalities: What it produces.
        features: Some of "tools", "json_mode", "structured_outputs", "reasoning".
        sampling_parameters: The sampling parameters that it accepts.
        quantization: The number format of the weights, such as "fp8".
        confidential: Whether the service says it runs in confidential compute; the suffix of a name proves nothing.
        price_in: US dollars per million prompt tokens.
        price_out: The same for answer tokens.
        price_cached: The same for cached prompt tokens.
        dimensions: The length of an embedding.
        hot: Whether machines were up at the last check.
        ttft: Seconds to the first token, averaged over a day.
        tps: Tokens per second, averaged over a day.
        tags: Words to filter by, such as the family name.
        traits: What its chat template needs.
    """

    id: str
    root: str | None = None
    engine: str | None = None
    kind: str = "chat"
    owner: str | None = None
    user: str | None = None
    chute_id: str | None = None
    version: str | None = None
    host: str | None = None
    paths: frozenset[str] | None = None
    context_length: int | None = None
    max_output: int | None = None
    input_modalities: frozenset[str] | None = None
    output_modalities: frozenset[str] | None = None
    features: frozenset[str] | None = None
    sampling_parameters: frozenset[str] | None = None
    quantization: str | None = None
    confidential: bool | None = None
    price_in: float | None = None
    price_out: float | None = None
    price_cached: float | None = None
    dimensions: int | None = None
    hot: bool | None = None
    ttft: float | None = None
    tps: float | None = None
    tags: frozenset[str] = frozenset()
    traits: Traits = _UNKNOWN

    def __post_init__(self) -> None:
        if self.owner is None:
            object.__setattr__(self, "owner", (self.id.partition("/")[0] if "/" in self.id else "") or self.user)

    def supports(self, feature: str) -> bool | None:
        """Return whether the model has a feature such as "tools"; None if the service does not say."""
        return None if self.features is None else feature in self.features

    def takes(self, modality: str) -> bool | None:
        """Return whether the model accepts an input such as "image"; None if the service does not say."""
        return None if self.input_modalities is None else modality in self.input_modalities

    def to_dict(self) -> dict[str, object]:
        """Return what is known as plain data, without what the id alone implies.

        >>> ModelInfo(id="acme/one", features=frozenset({"tools"}), price_in=0.1).to_dict()
        {'id': 'acme/one', 'kind': 'chat', 'features': ['tools'], 'price_in': 0.1}
        """
        implied = ModelInfo(id=self.id, tags=family_tags(self.id), traits=traits_for(self.id))
        told = {name: getattr(self, name) for name in _NAMES}
        return {
            name: _plain(value)
            for name, value in told.items()
            if name in ("id", "kind") or value != getattr(implied, name)
        }

    @classmethod
    def from_dict(cls, raw: Mapping[str, object]) -> ModelInfo:
        """Create from the output of :meth:`to_dict`; a field of the wrong type counts as unknown.

        Raises:
            ValueError: There is no usable id.
        """
        name = checked.text(raw.get("id"))
        if name is None:
            raise ValueError(f"a model needs an id, and this is not one: {str(raw.get('id'))[:80]!r}")
        tags, traits = checked.words(raw.get("tags")), raw.get("traits")
        return cls(
            id=name,
            root=checked.text(raw.get("root")),
            engine=checked.one_of(raw.get("engine"), _ENGINES),
            # A kind that only another version of this library knows is no chat model.
            kind=(checked.one_of(raw["kind"], KINDS) or "other") if "kind" in raw else "chat",
            owner=checked.text(raw.get("owner")),
            user=checked.text(raw.get("user")),
            chute_id=checked.matching(raw.get("chute_id"), _CHUTE_ID),
            version=checked.text(raw.get("version")),
            host=checked.matching(raw.get("host"), _HOST),
            paths=checked.words(raw.get("paths")),
            context_length=checked.count(raw.get("context_length")),
            max_output=checked.count(raw.get("max_output")),
            input_modalities=checked.words(raw.get("input_modalities")),
            output_modalities=checked.words(raw.get("output_modalities")),
            features=checked.words(raw.get("features")),
            sampling_parameters=checked.words(raw.get("sampling_parameters")),
            quantization=checked.text(raw.get("quantization")),
            confidential=checked.flag(raw.get("confidential")),
            price_in=checked.number(raw.get("price_in")),
            price_out=checked.number(raw.get("price_out")),
            price_cached=checked.number(raw.get("price_cached")),
            dimensions=checked.count(raw.get("dimensions")),
            hot=checked.flag(raw.get("hot")),
            ttft=checked.number(raw.get("ttft")),
            tps=checked.number(raw.get("tps")),
            tags=family_tags(name) if tags is None else tags,
            traits=Traits.from_dict(traits) if isinstance(traits, Mapping) else traits_for(name),
        )

    def to_openrouter(self) -> dict[str, object]:
        """Return the model in the format of OpenRouter's list of models: prices per token, as text."""
        taken, given = _modalities(self.input_modalities), _modalities(self.output_modalities)
        prices = {"prompt": self.price_in, "completion": self.price_out}
        prices["input_cache_read"] = self.price_cached
        return {
            "id": self.id,
            "canonical_slug": self.id,
            "hugging_face_id": self.root,
            "name": self.id,
            "kind": self.kind,
            "tags": sorted(self.tags),
            "context_length": self.context_length,
            "architecture": {
                "modality": f"{'+'.join(taken)}->{'+'.join(given)}" if taken and given else None,
                "input_modalities": taken,
                "output_modalities": given,
            },
            "pricing": {name: _per_token(price) for name, price in prices.items() if price is not None},
            "top_provider": {
                "context_length": self.context_length,
                "max_completion_tokens": self.max_output,
                "is_moderated": False,
            },
            "per_request_limits": None,
            "supported_parameters": self._parameters(),
        }

    def _parameters(self) -> list[str]:
        told = set(self.sampling_parameters or ())
        for feature, parameters in _OPENROUTER_PARAMETERS.items():
            if self.supports(feature):
                told.update(parameters)
        return sorted(told)

    def __repr__(self) -> str:
        ways = ((self.price_in, "in"), (self.price_out, "out"))
        prices = [f"${price:g} {way}" for price, way in ways if price is not None]
        parts = [
            self.kind,
            f"{self.context_length:,} tokens" if self.context_length is not None else "",
            f"{self.dimensions:,} dimensions" if self.dimensions is not None else "",
            f"{', '.join(prices)} per 1M" if prices else "",
            "+".join(sorted(self.features or ())),
            "confidential" if self.confidential else "",
        ]
        return f"<ModelInfo {self.id}: {', '.join(filter(None, parts))}>"


_NAMES = tuple(each.name for each in fields(ModelInfo))
_OPENROUTER_PARAMETERS = {
    "tools": ("tools", "tool_choice"),
    "json_mode": ("response_format",),
    "structured_outputs": ("response_format", "structured_outputs"),
    "reasoning": ("reasoning", "include_reasoning"),
}


def parse_row(row: Mapping[str, object]) -> ModelInfo | None:
    """Read one row of the service's list of models; None if it has no usable id.

    The published context window is ``context_length``; rows without it still have the engine's ``max_model_len``.

    >>> parse_row({"id": "acme/one", "context_length": "big", "max_model_len": 4096}).context_length
    4096
    >>> parse_row({"object": "model"}) is None
    True
    """
    name = checked.text(row.get("id"))
    if name is None:
        return None
    given = checked.words(row.get("output_modalities"))
    return ModelInfo.from_dict(
        {
            "id": name,
            "root": row.get("root"),
            "engine": row.get("owned_by"),
            "kind": _kind(given),
            "chute_id": row.get("chute_id"),
            "context_length": checked.count(row.get("context_length")) or row.get("max_model_len"),
            "max_output": row.get("max_output_length"),
            "input_modalities": row.get("input_modalities"),
            "output_modalities": row.get("output_modalities"),
            "features": row.get("supported_features"),
            "sampling_parameters": row.get("supported_sampling_parameters"),
            "quantization": row.get("quantization"),
            "confidential": row.get("confidential_compute"),
            "price_in": _price(row, "prompt", "input"),
            "price_out": _price(row, "completion", "output"),
            "price_cached": _price(row, "input_cache_read", "input_cache_read"),
            "tags": sorted(family_tags(name) | (checked.words(row.get("tags")) or frozenset())),
        }
    )


def _kind(given: frozenset[str] | None) -> str:
    """Return the kind of a row: chat, unless its output modalities say otherwise."""
    if given is None or "text" in given:
        return "chat"
    medium = next((kind for kind in ("image", "video") if kind in given), "other")
    return "embedding" if given & {"embedding", "embeddings"} else medium


def _price(row: Mapping[str, object], name: str, long_name: str) -> float | None:
    """Return a price per million tokens, from either of its two places.

    A price written as text is ignored: OpenRouter writes prices that way, and means dollars per token.
    """
    short, long = row.get("pricing"), row.get("price")
    found = checked.number(short.get(name)) if isinstance(short, Mapping) else None
    entry = long.get(long_name) if isinstance(long, Mapping) else None
    return checked.number(entry.get("usd")) if found is None and isinstance(entry, Mapping) else found


def _modalities(words: frozenset[str] | None) -> list[str]:
    return sorted(words or (), key=lambda word: (word != "text", word))


def _per_token(price: float) -> str:
    """Move the decimal point six places, exactly: 0.104 per million is "0.000000104" each."""
    return f"{Decimal(repr(price)).scaleb(-6).normalize():f}"


def _plain(value: object) -> object:
    if isinstance(value, frozenset):
        return sorted(value)
    return value.to_dict() if isinstance(value, Traits) else value
