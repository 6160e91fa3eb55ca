"""What the encrypted path can and cannot do, given that only the machine can read the request.

On the plain path the gateway completes names, chooses among models, expands aliases, enables thinking by a header, and
fetches images. Here it sees nothing, so each of these is done by the client or refused before anything is sent, with
the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from chutes_core.catalog.catalog import Catalog
from chutes_core.catalog.model_info import ModelInfo
from chutes_core.catalog.names import ModelRef
from chutes_core.errors import ConfigurationError, RequestRefusedError, UnknownModelError

__all__ = [
    "E2EE",
    "Collateral",
    "Verify",
    "check_headers",
    "check_known",
    "check_name",
    "check_verify",
    "fit_body",
    "target",
]

Verify = Literal["binding", "full", "off"]
"""How far a machine's proof is checked; see :mod:`chutes_core.e2ee.attest`."""

Collateral = Callable[[bytes], str]
"""Returns the collateral for the vendor's signature on a quote, as JSON."""


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


@dataclass(frozen=True, slots=True)
class E2EE:
    """Settings of the encrypted path; ``e2ee=True`` means ``E2EE()``.

    Attributes:
        verify: How far the machines' proofs are checked: ``"binding"``, ``"full"`` or ``"off"``.
        collateral: For ``"full"``: a function from a quote's bytes to the collateral for the vendor's signature, in
            the JSON format of ``dcap-qvl``. None fetches it from the vendor.

    >>> E2EE(verify="some")
    Traceback (most recent call last):
    chutes_core.errors.ConfigurationError: verify must be one of 'binding', 'full', 'off', not 'some'.
    """

    verify: Verify = "binding"
    collateral: Collateral | None = None

    def __repr__(self) -> str:
        how = None if self.collateral is None else "<a function>"  # whose own repr may show its arguments
        return f"{type(self).__name__}(verify={self.verify!r}, collateral={how})"

    def __post_init__(self) -> None:
        check_verify(self.verify)

    @classmethod
    def of(cls, wish: object) -> E2EE | None:
        """Read a caller's value: True, False, an object of this class, or a table from a configuration file.

        >>> E2EE.of(True), E2EE.of({"verify": "off"}), E2EE.of(False)
        (E2EE(verify='binding', collateral=None), E2EE(verify='off', collateral=None), None)
        """
        if isinstance(wish, cls):
            return wish
        if isinstance(wish, Mapping):
            return cls._of_table(wish)
        if not isinstance(wish, bool):
            raise ConfigurationError(f"e2ee must be True, False or an E2EE object, not {wish!r}.")
        return cls() if wish else None

    @classmethod
    def _of_table(cls, table: Mapping[str, object]) -> E2EE:
        for name in table:
            if name not in ("verify", "collateral"):
                raise ConfigurationError(f"E2EE has no {name!r}; its settings are verify and collateral.")
        collateral = table.get("collateral")
        if collateral is not None and not callable(collateral):
            raise ConfigurationError("collateral must be a function that takes the bytes of a quote.")
        return cls(check_verify(table.get("verify", "binding")), collateral)

    def to_dict(self) -> dict[str, object]:
        """Return the settings as plain data, without the function: the collateral is then fetched from the vendor.

        >>> E2EE(verify="off").to_dict()
        {'verify': 'off'}
        """
        return {"verify": self.verify}


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


def check_known(model: str, catalog: Catalog, *, verify: Verify) -> None:
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
        target(model, catalog, verify=verify)


def target(model: str, catalog: Catalog, *, verify: Verify) -> ModelInfo:
    """Find the one model that a request can be sealed for.

    Raises:
        RequestRefusedError: It names several models, or one without confidential compute.
        UnknownModelError: The catalogue does not have it (nor any alias).

    >>> target("qwen/qwen3-32b:THINKING", Catalog.bundled(), verify="binding").id
    'Qwen/Qwen3-32B-TEE'
    >>> target("Qwen/Qwen3-32B-TEE, other/one", Catalog.bundled(), verify="binding")
    Traceback (most recent call last):
    chutes_core.errors.RequestRefusedError: Under e2ee the gateway cannot choose among models, ...
    """
    info = catalog.get(model) if isinstance(model, str) else None
    if info is None:
        name = check_name(model).names[0]
        info = catalog.get(name)
        if info is None:
            raise _unknown(name, catalog)
    if info.chute_id is None:
        raise _unknown(info.id, catalog)
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
