"""The catalogue of models: a snapshot, a cache on disk, and what the service last returned.

Models come and go within weeks and their rows lack fields, so a catalogue is data with a date. It ships with a
snapshot, keeps fetched rows for an hour, and leaves fetching to the caller: nothing here touches the network. A
catalogue is immutable: :meth:`Catalog.updated` and similar methods return a new one, and threads may share it.

>>> catalog = Catalog.bundled()
>>> catalog.get("Qwen/Qwen3-32B")
<ModelInfo Qwen/Qwen3-32B-TEE: chat, 40,960 tokens, $0.104 in, $0.416 out per 1M, \
json_mode+reasoning+structured_outputs+tools, confidential>
>>> [info.id for info in catalog.select(features="tools", modalities="image", order_by="price", limit=2)]
['google/gemma-4-31B-turbo-TEE', 'Qwen/Qwen3.6-27B-TEE']
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Literal, get_args

from chutes_core.catalog.kinds import KINDS
from chutes_core.catalog.model_info import ModelInfo, parse_row
from chutes_core.catalog.prefill import Measured, applied
from chutes_core.catalog.query import OrderBy, as_words, at_least, at_most, nearest, one_of, ordered
from chutes_core.catalog.traits import Traits, snapshot, traits_for
from chutes_core.catalog.updates import OFFICIAL, merge_chutes, merge_rows, merge_stats
from chutes_core.errors import ConfigurationError, UnknownModelError, redact
from chutes_core.settings import BASE_URL

if TYPE_CHECKING:
    import os
    from pathlib import Path

    from chutes_core.catalog.listing import Models

__all__ = ["Catalog", "ModelInfo", "Traits", "parse_row", "traits_for"]

Source = Literal["bundled", "cache", "live"]


@dataclass(frozen=True, slots=True, repr=False)
class Catalog:
    """The known models, and when the list was fetched.

    Attributes:
        models: All of them, in the service's order: the most used first.
        source: The source of the chat models: ``"bundled"``, ``"cache"`` or ``"live"``.
        fetched_at: When that list was fetched, in seconds since 1970.
        snapshot_date: The date of the snapshot that ships with this library.
        ttl: Seconds after which the list counts as stale.
        offline: Never stale, because nothing may be fetched.
        now: The clock.
        listed: Whether the gateway it is for has given its list; of one's own gateway there are no prices before that.
        measured: What was measured here of the models; their trait ``prefill`` is from there.
    """

    models: tuple[ModelInfo, ...]
    source: Source
    fetched_at: float
    snapshot_date: str
    ttl: float = 3600.0
    offline: bool = False
    now: Callable[[], float] = field(default=time.time, compare=False)
    listed: bool = True
    measured: tuple[Measured, ...] = field(default=(), compare=False)
    _index: Mapping[str, ModelInfo] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        index: dict[str, ModelInfo] = {}
        own = [info for info in self.models if info.user in (None, OFFICIAL)]
        # In order of precedence: an exact name wins over a similar one.
        for names in _NAMES:
            for info in own:
                index.setdefault(names(info), info)
        if len(own) < len(self.models):
            # Anybody may give a chute any name, but none that could be taken for one of the service's own.
            taken = frozenset(index)
            others = [info for info in self.models if info.user not in (None, OFFICIAL)]
            for names in _NAMES:
                for info in others:
                    if (name := names(info)).lower() not in taken:
                        index.setdefault(name, info)
        object.__setattr__(self, "_index", index)

    @classmethod
    def bundled(cls, *, ttl: float = 3600.0, offline: bool = False, now: Callable[[], float] = time.time) -> Catalog:
        """Return the snapshot that ships with this library."""
        shipped = snapshot()
        date, rows = str(shipped["snapshot_date"]), shipped["models"]
        models = tuple(map(ModelInfo.from_dict, rows if isinstance(rows, list) else ()))
        midnight = datetime.fromisoformat(date).replace(tzinfo=UTC).timestamp()
        return cls(models, "bundled", midnight, date, ttl, offline, now)

    @classmethod
    def load(
        cls,
        *,
        cache_dir: str | os.PathLike[str] | None = None,
        ttl: float = 3600.0,
        offline: bool = False,
        now: Callable[[], float] = time.time,
        base_url: str = BASE_URL,
    ) -> Catalog:
        """Return the newest local catalogue: the cache on disk if it is newer than the snapshot.

        It may be stale (see :attr:`is_stale`); an old list beats none. What was measured of the models is beside the
        cache, and holds for either.

        For another gateway than the service's, it has only what is true of the models there too: see
        :meth:`elsewhere`.

        Args:
            cache_dir: The cache folder; by default the platform's.
            ttl: Seconds for which a fetched list is fresh.
            offline: Never treat the list as stale, however old.
            now: The clock, in seconds since 1970.
            base_url: The gateway that it is for.
        """
        from chutes_core.catalog import cache, prefill

        base = cls.bundled(ttl=ttl, offline=offline, now=now)
        measured = prefill.read(cache_dir, base_url=base_url)
        cached = cache.read(cache_dir)
        if cached is None or cached.fetched_at <= base.fetched_at:
            return base._with(base.models, measured=measured)._for(base_url)
        names = {info.id for info in cached.models}
        # A newer library may know models of other kinds that were unknown when the cache was written.
        added = (info for info in base.models if info.kind != "chat" and info.id not in names)
        fresh = replace(base, source="cache", fetched_at=cached.fetched_at)
        return fresh._with((*cached.models, *added), measured=measured)._for(base_url)

    def save(self, cache_dir: str | os.PathLike[str] | None = None) -> Path | None:
        """Write the catalogue to the cache atomically; return the file, or None on failure.

        Which models are hot is not saved: that changes within minutes. Nor is what was measured of them, which has a
        file of its own.
        """
        from chutes_core.catalog import cache

        return cache.write(self.models, self.fetched_at, cache_dir)

    def updated(self, rows: Iterable[Mapping[str, object]], *, fetched_at: float) -> Catalog:
        """Return the catalogue with the service's current list of models (the rows of ``/v1/models``).

        A chat model that is not listed is removed, and what a row omits is unknown. Models of other kinds stay, as do
        traits, hosts, dimensions and speeds, which that list never reports; which models are hot becomes unknown.
        A list without a usable row changes nothing.
        """
        models = merge_rows(self.models, rows)
        if models is self.models:
            return self
        return replace(self, source="live", fetched_at=fetched_at, listed=True)._with(models)

    def with_stats(self, rows: Iterable[Mapping[str, object]]) -> Catalog:
        """Return the catalogue with speeds from the daily statistics (``/invocations/stats/llm``)."""
        return replace(self, models=merge_stats(self.models, rows))

    def with_chutes(self, rows: Iterable[Mapping[str, object]], *, whole: bool = False) -> Catalog:
        """Return the catalogue with what ``/chutes/`` adds.

        That is which models are hot, the versions of their chutes, and the public chutes of every kind but chat, with
        their hosts. If the list is ``whole``, those that it lacks are removed.
        """
        return self._with(merge_chutes(self.models, rows, whole=whole))

    @property
    def providers(self) -> list[str]:
        """The owners of the models, each once, in the order of their names.

        >>> Catalog.bundled().providers[:3]
        ['deepseek-ai', 'google', 'moonshotai']
        """
        return sorted({info.owner for info in self.models if info.owner is not None}, key=str.lower)

    def elsewhere(self) -> Catalog:
        """Return what is true of the models at a gateway of one's own: what they can do, and how they are to be asked.

        Prices, chutes, their versions and speeds are the service's; those of another gateway are in its own list.

        >>> Catalog.bundled().elsewhere().model("Qwen/Qwen3-32B-TEE")
        <ModelInfo Qwen/Qwen3-32B-TEE: chat, 40,960 tokens, json_mode+reasoning+structured_outputs+tools, confidential>
        """
        return replace(self, listed=False)._with(tuple(map(_elsewhere, self.models)))

    def _for(self, base_url: str) -> Catalog:
        return self if base_url == BASE_URL else self.elsewhere()

    def _with(self, models: tuple[ModelInfo, ...], *, measured: tuple[Measured, ...] | None = None) -> Catalog:
        """Return the catalogue with other models, and with what was measured of these."""
        known = self.measured if measured is None else measured
        return replace(self, models=applied(models, known), measured=known)

    @property
    def is_stale(self) -> bool:
        """Whether the list should be fetched again."""
        # A time in the future means that a clock was wrong; it says nothing about age.
        return not self.offline and not 0 <= self.now() - self.fetched_at < self.ttl

    def get(self, model: str) -> ModelInfo | None:
        """Find a model by name; None if there is none.

        Case does not matter, a chute id works too, and a name that exists only with ``-TEE`` is found without it,
        as the service itself does for many.

        >>> Catalog.bundled().get("qwen/qwen3-32b").id
        'Qwen/Qwen3-32B-TEE'
        """
        return self._index.get(model) or self._index.get(model.lower())

    def model(self, model: str) -> ModelInfo:
        """Find a model by name, or raise.

        Raises:
            UnknownModelError: There is none; the message names the closest ones, and says how old the list is.

        >>> Catalog.bundled().model("Qwen/Qwen3-33B")
        Traceback (most recent call last):
        chutes_core.errors.UnknownModelError: The catalogue has no model 'Qwen/Qwen3-33B'. Did you mean \
'Qwen/Qwen3-32B-TEE' or ...
        """
        found = self.get(model)
        if found is not None:
            return found
        asked, near = redact(model), nearest(model, self.models)
        hint = f" Did you mean {' or '.join(map(repr, near))}?" if near else ""
        raise UnknownModelError(
            f"The catalogue has no model {asked!r}.{hint} The catalogue {self._age()}, and models come and "
            "go within weeks: client.models() fetches today's list, and `chutes-connect models` shows it.",
            model=asked,
            suggestions=near,
        )

    def select(
        self,
        *,
        features: Iterable[str] | str = (),
        modalities: Iterable[str] | str = (),
        min_context: int | None = None,
        max_price: float | None = None,
        confidential: bool | None = None,
        kind: str | None = "chat",
        owner: str | None = None,
        tags: Iterable[str] | str = (),
        quantizations: Iterable[str] | str = (),
        hot: bool | None = None,
        order_by: OrderBy | None = None,
        limit: int | None = None,
    ) -> Models:
        """Return the models that meet every condition; the list shows itself as a table in a notebook.

        An unknown value meets none, and sorts last.

        Args:
            features: All of these: "tools", "json_mode", "structured_outputs", "reasoning".
            modalities: All of these as input: "text", "image", "video".
            min_context: The smallest context window, in tokens.
            max_price: The highest price in US dollars per million *answer* tokens (``price_out``).
            confidential: True for confidential compute only, False for models known to lack it.
            kind: "chat", "embedding", "image", "speech", "transcription", "video", "music", "moderation" or "other";
                None for all.
            owner: The part of the name before the slash, or else who published it, in any case.
            tags: All of these.
            quantizations: Any of these, such as "bf16" and "fp8".
            hot: True for models that had machines at the last check, False for those that had none.
            order_by: "price" (of the answer, then of the prompt; cheapest first), "context" (largest first),
                "ttft" (soonest first) or "tps" (fastest first); None for the service's order.
            limit: The most models to return.

        >>> [info.id for info in Catalog.bundled().select(owner="zai-org", order_by="context")]
        ['zai-org/GLM-5.2-TEE', 'zai-org/GLM-5.1-TEE']
        """
        from chutes_core.catalog.listing import Models

        one_of(kind, KINDS, "kind")
        one_of(order_by, get_args(OrderBy), "order_by")
        if limit is not None and limit < 0:
            raise ConfigurationError(f"limit must be 0 or more, not {limit}.")
        wanted = as_words(features, what="feature", known=(info.features for info in self.models))
        inputs = (info.input_modalities for info in self.models)
        taken = as_words(modalities, what="input modality", known=inputs)
        tagged, formats = as_words(tags), as_words(quantizations)
        nothing = frozenset[str]()
        found = (
            info
            for info in self.models
            if (kind is None or info.kind == kind)
            and wanted <= (info.features or nothing)
            and taken <= (info.input_modalities or nothing)
            and at_least(info.context_length, min_context)
            and at_most(info.price_out, max_price)
            and (confidential is None or info.confidential is confidential)
            and (owner is None or (info.owner or "").lower() == owner.lower())
            and tagged <= info.tags
            and (hot is None or info.hot is hot)
            and (not formats or info.quantization in formats)
        )
        return Models(ordered(found, order_by)[:limit])

    def to_openrouter(self) -> list[dict[str, object]]:
        """Return all models in the format of OpenRouter's ``/models``, for tools that read it."""
        return [info.to_openrouter() for info in self.models]

    def __iter__(self) -> Iterator[ModelInfo]:
        return iter(self.models)

    def __len__(self) -> int:
        return len(self.models)

    def __contains__(self, item: object) -> bool:
        return self.get(item) is not None if isinstance(item, str) else item in self.models

    def __repr__(self) -> str:
        return f"<Catalog of {_plural(len(self), 'model')}, which {self._age()}>"

    def _age(self) -> str:
        seconds = max(self.now() - self.fetched_at, 0)
        units = ((86400, "day"), (3600, "hour"), (60, "minute"))
        length, unit = next((each for each in units if seconds >= each[0]), units[-1])
        age = _plural(int(seconds // length), unit)
        if self.source == "bundled":
            return f"is the snapshot of {self.snapshot_date} that ships with this library, {age} old"
        return f"was fetched {age} ago"


def _plural(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _elsewhere(info: ModelInfo) -> ModelInfo:
    return replace(
        info, chute_id=None, version=None, price_in=None, price_out=None, price_cached=None, hot=None, ttft=None,
        tps=None,
    )  # fmt: skip


def _exact_name(info: ModelInfo) -> str:
    return info.id


def _chute_id(info: ModelInfo) -> str:
    return info.chute_id or info.id


def _lower_name(info: ModelInfo) -> str:
    return info.id.lower()


def _name_without_tee(info: ModelInfo) -> str:
    return info.id.lower().removesuffix("-tee")


_NAMES = (_exact_name, _chute_id, _lower_name, _name_without_tee)
