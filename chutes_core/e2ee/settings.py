"""What the encrypted path can and cannot do, given that only the machine can read the request.

On the plain path the gateway completes names, chooses among models, expands aliases, enables thinking by a header, and
fetches images. Here it sees nothing, so each of these is done by the client or refused before anything is sent, with
the reason.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from inspect import iscoroutinefunction
from types import MappingProxyType
from typing import Literal, get_args
from uuid import NAMESPACE_OID, uuid5

from chutes_core.catalog.catalog import Catalog
from chutes_core.catalog.model_info import ModelInfo
from chutes_core.catalog.names import ModelRef
from chutes_core.e2ee.measurements import listed
from chutes_core.errors import ConfigurationError, RequestRefusedError, UnknownModelError

__all__ = [
    "E2EE",
    "Collateral",
    "Streams",
    "Verify",
    "check_headers",
    "check_known",
    "check_name",
    "check_query",
    "check_verify",
    "chute_named",
    "comes_whole",
    "fit_body",
    "names_it",
    "target",
]

Verify = Literal["binding", "full", "off"]
"""How far a machine's proof is checked; see :mod:`chutes_core.e2ee.attest`."""

Collateral = Callable[[bytes], str]
"""Returns the collateral for the vendor's signature on a quote, as JSON."""

Measurements = Sequence[Mapping[str, object]] | str | os.PathLike[str] | Callable[[], object] | None
"""The systems that are accepted: rows, a file of them, or a function that returns them."""

Streams = Literal["counted", "whole", "ordered"]
"""How a streamed answer is asked for; see :mod:`chutes_core.e2ee.frames`."""

_NO_PINS: Mapping[str, str] = MappingProxyType({})
_STATUSES = ("UpToDate", "SWHardeningNeeded", "ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded", "OutOfDate",
             "OutOfDateConfigurationNeeded")  # fmt: skip
_FUNCTIONS = ("collateral", "measurements")
_OF_THE_VENDOR = ("collateral", "tcb", "evaluation")
# Whoever gets a tool call or an object acts on it, and what may be told apart by its end alone is not counted out.
_ACTED_ON = ("tools", "functions", "response_format", "structured_outputs", "json_schema", "regex", "ebnf")
_GUIDED = ("guided_", "structural_")
_UNCOUNTABLE = ("stop", "stop_token_ids", "stop_regex", "best_of")


def check_verify(verify: object) -> Verify:
    """Raise unless ``verify`` is a known way to verify."""
    for known in get_args(Verify):
        if verify == known:
            found: Verify = known
            return found
    raise ConfigurationError(f"verify must be one of {', '.join(map(repr, get_args(Verify)))}, not {verify!r}.")


def check_headers(headers: Mapping[str, str]) -> None:
    """Refuse headers that the gateway would have to act on.

    >>> check_headers({"X-Enable-Thinking": "true"})
    Traceback (most recent call last):
    chutes_core.errors.ConfigurationError: Under e2ee the header 'X-Enable-Thinking' has no effect...
    """
    for name in headers:
        if name.lower() == "x-enable-thinking":
            raise ConfigurationError(
                f"Under e2ee the header {name!r} has no effect: the gateway cannot read the request. "
                "Pass reasoning=True to the call, which is sent inside the request."
            )


def check_query(query: Collection[str]) -> None:
    """Refuse what is added to an address: a sealed request has another one.

    >>> check_query({"tenant": "a"})
    Traceback (most recent call last):
    chutes_core.errors.ConfigurationError: Under e2ee the address of a request is another: ...
    """
    if query:
        raise ConfigurationError(
            "Under e2ee the address of a request is another: pass no default_query or extra_query."
        )


@dataclass(frozen=True, slots=True)
class E2EE:
    """Settings of the encrypted path; ``e2ee=True`` means ``E2EE()``. See docs/privacy.md.

    Attributes:
        verify: How far the machines' proofs are checked: ``"binding"``, ``"full"`` or ``"off"``.
        collateral: For ``"full"``: a function from a quote's bytes to the collateral for the vendor's signature, in
            the JSON format of ``dcap-qvl``. None fetches it from the vendor.
        measurements: The systems that a machine may have booted: rows of the form in which the service publishes them,
            a JSON file of such rows, or a function that returns them. None takes the list of this release.
        allow: Names of systems (``"8xh200 1.3.0"``) that are accepted besides, as the service publishes them.
        chutes: Chute ids by model name, where they are not those that the names give.
        streams: How streamed answers are asked for: ``"counted"`` as they come, while their tokens add up;
            ``"whole"`` in one piece; ``"ordered"`` as they come, though a piece might be missing.
        tcb: For ``"full"``: what the vendor may say of the processor's firmware.
        evaluation: For ``"full"``: the least number of the vendor's evaluation of firmware.
        debug: Accept machines whose memory a debugger can read.

    >>> E2EE(verify="some")
    Traceback (most recent call last):
    chutes_core.errors.ConfigurationError: verify must be one of 'binding', 'full', 'off', not 'some'.
    >>> E2EE(streams="whole", allow=["8xh200 1.5.0"])
    E2EE(verify='binding', collateral=None, allow=['8xh200 1.5.0'], streams='whole')
    """

    verify: Verify = "binding"
    collateral: Collateral | None = None
    measurements: Measurements = field(default=None, hash=False)
    allow: Sequence[str] = ()
    chutes: Mapping[str, str] = field(default_factory=dict, hash=False)
    streams: Streams = "counted"
    tcb: Sequence[str] = ("UpToDate",)
    evaluation: int = 17
    debug: bool = False

    def __repr__(self) -> str:
        how = None if self.collateral is None else "<a function>"  # whose own repr may show its arguments
        more = self.to_dict()
        if callable(self.measurements):
            more["measurements"] = "<a function>"
        elif isinstance(self.measurements, tuple):
            more["measurements"] = f"<{len(self.measurements)} rows>"
        told = [f", {name}={value!r}" for name, value in more.items() if name != "verify"]
        return f"{type(self).__name__}(verify={self.verify!r}, collateral={how}{''.join(told)})"

    def __post_init__(self) -> None:
        check_verify(self.verify)
        _check_choice("streams", self.streams, get_args(Streams))
        for name in ("allow", "tcb"):
            object.__setattr__(self, name, _names(name, getattr(self, name)))
        for status in self.tcb:
            _check_choice("tcb", status, _STATUSES)
        if isinstance(self.evaluation, bool) or not isinstance(self.evaluation, int) or self.evaluation < 0:
            raise ConfigurationError(f"evaluation must be 0 or a positive whole number, not {self.evaluation!r}.")
        if not isinstance(self.debug, bool):
            raise ConfigurationError(f"debug must be True or False, not {self.debug!r}.")
        if self.collateral is not None and not callable(self.collateral):
            raise ConfigurationError("collateral must be a function that takes the bytes of a quote.")
        for name in _FUNCTIONS:
            if iscoroutinefunction(getattr(self, name)):
                raise ConfigurationError(f"{name} must be a function that is not async: its result is needed at once.")
        for each in fields(self):
            if each.name in _OF_THE_VENDOR and self.verify != "full" and getattr(self, each.name) != each.default:
                raise ConfigurationError(
                    f"{each.name} is about the processor vendor's signature, which verify='full' checks; with "
                    f"verify={self.verify!r} it would change nothing."
                )
        object.__setattr__(self, "chutes", _pins(self.chutes))
        given = self.measurements
        if given is not None and not callable(given):
            rows = listed(given)
            if not isinstance(given, str | os.PathLike):
                object.__setattr__(self, "measurements", rows)

    @classmethod
    def of(cls, wish: object) -> E2EE | None:
        """Read a caller's value: True, False, an object of this class, or a table from a configuration file.

        >>> E2EE.of(True), E2EE.of({"verify": "off"}), E2EE.of(False)
        (E2EE(verify='binding', collateral=None), E2EE(verify='off', collateral=None), None)
        """
        if isinstance(wish, cls):
            return wish
        if isinstance(wish, Mapping):
            known = [each.name for each in fields(cls)]
            for name in wish:
                if name not in known:
                    raise ConfigurationError(f"E2EE has no {name!r}; its settings are {', '.join(known)}.")
            return cls(**wish)
        if not isinstance(wish, bool):
            raise ConfigurationError(f"e2ee must be True, False or an E2EE object, not {wish!r}.")
        return cls() if wish else None

    def to_dict(self) -> dict[str, object]:
        """Return the settings that differ from the defaults, as plain data.

        Functions cannot be. Without the one for the collateral, it is fetched from the vendor; without the one for
        measurements no machine is accepted, until it is set again.

        >>> E2EE(verify="off").to_dict(), E2EE(measurements=lambda: []).to_dict()
        ({'verify': 'off'}, {'verify': 'binding', 'measurements': []})
        """
        plain: dict[str, object] = {"verify": self.verify}
        for each in fields(self):
            value = getattr(self, each.name)
            if value not in (each.default, {}) and each.name not in (*_FUNCTIONS, "verify"):
                plain[each.name] = _plain(value)
        if self.measurements is not None:
            given = self.measurements
            plain["measurements"] = [] if callable(given) else _plain(given)
        return plain

    def __reduce__(self) -> tuple[object, ...]:
        return _made, ({each.name: _plain(getattr(self, each.name)) for each in fields(self)},)


def _made(settings: Mapping[str, object]) -> E2EE:
    return E2EE(**settings)  # type: ignore[arg-type]


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple):
        return [_plain(each) for each in value]
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _check_choice(name: str, value: object, known: Sequence[str]) -> None:
    if value not in known:
        raise ConfigurationError(f"{name} must be one of {', '.join(map(repr, known))}, not {value!r}.")


def _names(name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(each, str) for each in value):
        raise ConfigurationError(f"{name} must be a list of names, not {value!r}.")
    return tuple(value)


def _pins(value: object) -> dict[str, str]:
    if not isinstance(value, Mapping) or not all(isinstance(each, str) for pair in value.items() for each in pair):
        raise ConfigurationError(f"chutes must be a table of chute ids by model name, not {value!r}.")
    return dict(value)


def chute_named(name: str) -> str:
    """Return the chute id that the name of one of the service's own models gives.

    >>> chute_named("Qwen/Qwen3-32B-TEE")
    'ac059e33-eb27-541c-b9a9-24b214036475'
    """
    return str(uuid5(NAMESPACE_OID, f"chutes::chute::{name}"))


def names_it(given: object, model: str) -> bool:
    """Return whether an answer's model is the one that was asked; the service itself renames models to ``-TEE``.

    >>> names_it("qwen/qwen3-32b", "Qwen/Qwen3-32B-TEE"), names_it("acme/other", "Qwen/Qwen3-32B-TEE")
    (True, False)
    """
    return isinstance(given, str) and given.lower().removesuffix("-tee") == model.lower().removesuffix("-tee")


def comes_whole(body: Mapping[str, object], streams: Streams) -> bool:
    """Return whether the answer to a request is asked for in one piece, streamed or not.

    >>> comes_whole({"tools": [{}]}, "counted"), comes_whole({"stop": ["."]}, "ordered")
    (True, False)
    """
    formed = (name for name in body if name in _ACTED_ON or name.startswith(_GUIDED))
    if streams == "whole" or any(body[name] for name in formed):
        return True
    several = body.get("n")
    return streams == "counted" and (any(body.get(name) for name in _UNCOUNTABLE) or several not in (None, 1))


def check_name(model: str) -> ModelRef:
    """Raise for a model string that names several models; whether a name is known is checked at the call.

    >>> check_name("a/one:latency")
    Traceback (most recent call last):
    chutes_core.errors.RequestRefusedError: Under e2ee the gateway cannot choose among models, ...
    """
    ref = ModelRef.parse(model)
    if ref.routed:
        raise RequestRefusedError(
            f"Under e2ee the gateway cannot choose among models, because it cannot read the request: {ref.wire!r} "
            "must be one name. A client-side fallback asks one model after another, each with e2ee."
        )
    return ref


def check_known(model: str, catalog: Catalog, *, verify: Verify, chutes: Mapping[str, str] = _NO_PINS) -> None:
    """Raise for a model that is certain to fail, before the first call.

    A name missing from the catalogue may be a new one, which ``client.models()`` fetches; one that does not have the
    form of a model name is an alias.

    >>> check_known("acme/brand-new", Catalog.bundled(), verify="binding")
    >>> check_known("my-alias", Catalog.bundled(), verify="binding")
    Traceback (most recent call last):
    chutes_core.errors.UnknownModelError: ...an alias of yours cannot be resolved...
    """
    name = check_name(model).names[0]
    info = catalog.get(name)
    if ("/" not in name) if info is None else info.chute_id is not None:
        target(model, catalog, verify=verify, chutes=chutes)


def target(model: str, catalog: Catalog, *, verify: Verify, chutes: Mapping[str, str] = _NO_PINS) -> ModelInfo:
    """Find the one model that a request can be sealed for.

    Whose machines are listed for it is decided by its chute id: the one that is pinned in ``chutes``, the one that the
    caller asks for, or the one that its name gives; never one that the service alone names.

    Raises:
        RequestRefusedError: It names several models, one without confidential compute, or one whose chute id in the
            catalogue is another than its name gives.
        UnknownModelError: The catalogue does not have it (nor any alias).

    >>> target("qwen/qwen3-32b:THINKING", Catalog.bundled(), verify="binding").id
    'Qwen/Qwen3-32B-TEE'
    >>> target("Qwen/Qwen3-32B-TEE, other/one", Catalog.bundled(), verify="binding")
    Traceback (most recent call last):
    chutes_core.errors.RequestRefusedError: Under e2ee the gateway cannot choose among models, ...
    """
    info = catalog.get(model) if isinstance(model, str) else None
    if info is None:
        model = check_name(model).names[0]
        info = catalog.get(model)
        if info is None and model in chutes:
            info = ModelInfo(id=model)
        if info is None:
            raise _unknown(model, catalog)
    if info.id in chutes:
        info = replace(info, chute_id=chutes[info.id])
    elif info.chute_id is None:
        raise _unknown(info.id, catalog)
    elif info.chute_id not in (model, chute_named(info.id)):
        raise RequestRefusedError(
            f"Nothing was sent: the catalogue has another chute for {info.id} than its name gives, so its machines may "
            f"run another model. If it is yours, or you trust it: E2EE(chutes={{{info.id!r}: {info.chute_id!r}}})."
        )
    if verify != "off" and info.confidential is False:
        raise RequestRefusedError(
            f"{info.id} does not run in confidential compute, so its machines can prove nothing. Choose a model with "
            "confidential=True in the catalogue, or set verify='off' and trust them."
        )
    return info


def _unknown(name: str, catalog: Catalog) -> UnknownModelError:
    """Build the catalogue's error, and add why a name that the gateway may know does not help here."""
    try:
        catalog.model(name)
        said, near = f"The catalogue does not have the chute id of {name!r}.", tuple[str, ...]()
    except UnknownModelError as error:
        said, near = str(error), error.suggestions
    return UnknownModelError(
        f"{said} Under e2ee a request is sealed for one model of the catalogue; an alias of yours cannot be resolved, "
        "because the gateway cannot read the request.",
        model=name,
        suggestions=near,
    )


def fit_body(body: Mapping[str, object], model: str) -> dict[str, object]:
    """Change a request body as the gateway does on the plain path.

    >>> fit_body({"model": "alias", "tools": [{}]}, "acme/one")
    {'model': 'acme/one', 'tools': [{}], 'tool_choice': 'auto'}
    """
    fitted = {**body, "model": model}
    if fitted.get("tools") and fitted.get("tool_choice") is None:
        fitted["tool_choice"] = "auto"
    if fitted.get("continue_final_message"):
        fitted["add_generation_prompt"] = False
    return fitted
