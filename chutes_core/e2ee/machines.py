"""The machines a sealed request may go to: listed by the service, and attested.

:class:`Machines` combines the decisions of :mod:`~chutes_core.e2ee.instances` and the checks of
:mod:`~chutes_core.e2ee.attest`, as flows: only machines with a valid proof enter the pool, so a request cannot be
sealed for any other.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import logging
import os
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import cast

from chutes_core.calls.clock import Clock, SystemClock
from chutes_core.calls.effects import Flow, Sleep, StatusFailure, WireFailure
from chutes_core.e2ee import attest
from chutes_core.e2ee.asking import Asking, parsed
from chutes_core.e2ee.attest import ProofError, Quote
from chutes_core.e2ee.collateral import collateral, platform_of
from chutes_core.e2ee.frames import Habits
from chutes_core.e2ee.instances import Ask, Instance, InstancePool, RequestRate, Seat, read_instances
from chutes_core.e2ee.measurements import Row, as_of, bundled, listed, named, rehearsed
from chutes_core.e2ee.settings import E2EE, Verify
from chutes_core.errors import APIError, Kind
from chutes_core.failures.reading import failure, kind_of, message_of
from chutes_core.response import Attested
from chutes_core.secrets.secret import Secret
from chutes_core.settings import is_loopback

__all__ = ["Machines", "Proof", "Registry", "registry_for"]

_LOG = logging.getLogger("chutes_core.e2ee")
_PROOF_LASTS = 600.0
_LIST_LASTS = 3600.0
_MOST_KEYS = 100
_NO_PROOF = frozenset({400, 403, 404})


@dataclass(frozen=True, slots=True)
class Proof:
    """What a machine has proved, and when.

    Attributes:
        verify: How far the proof was checked.
        measured_as: The system that it booted, by its name in the list of measurements.
        at: The time by the clock.
        when: The time in seconds since 1970.
    """

    verify: Verify
    measured_as: str
    at: float
    when: float = 0.0


class Machines:
    """The machines of a service known for one key, and their proofs."""

    def __init__(self, url: str, clock: Clock, settings: E2EE, rate: RequestRate) -> None:
        self.pool = InstancePool(clock, rate)
        self._url = url
        self._clock = clock
        self._settings = settings
        self._lock = threading.Lock()
        self._proofs: dict[tuple[str, str], Proof] = {}
        self._lists: dict[str, tuple[float, object]] = {}

    @property
    def proofs(self) -> Mapping[str, Proof]:
        """The machines' proofs, by instance."""
        with self._lock:
            return {instance: proof for (instance, _), proof in self._proofs.items()}

    def attested(self, seat: Seat) -> Attested | None:
        """Return what the machine of a seat has proved, for the metadata of its replies."""
        with self._lock:
            proof = self._proofs.get((seat.instance, seat.public_key))
        if proof is None:
            return None
        when = datetime.fromtimestamp(proof.when, UTC).isoformat(timespec="seconds")
        return Attested(seat.instance, proof.measured_as, proof.verify, when)

    def seat(self, chute: str, asking: Asking, avoid: set[str], waits: Callable[[float], object]) -> Flow[Seat]:
        """Find an attested machine, and a nonce that admits one request to it.

        Where the service's rate limit is used up, it waits for as long as the call may, and tells ``waits``.
        """
        waited: int | None = None
        while True:
            turn = self.pool.take(chute, avoid=avoid, waited=waited)
            if isinstance(turn, Seat):
                # The service says how long its numbers hold, but not for how long a proof does.
                if self._settings.verify == "off" or self._proof(turn.instance, turn.public_key) is not None:
                    return turn
                self.pool.gone(chute, turn)
                continue
            if isinstance(turn, Ask):
                yield from self._fill(turn, asking)
                continue
            waited = None if turn.limited else turn.number
            left = asking.left()
            if left is not None and turn.seconds >= left:
                if not turn.limited:
                    raise WireFailure("timeout", "the time limit passed")
                said = "no more machines may be requested in this minute"
                raise failure(Kind.ENDPOINT_LIMIT, said, model=asking.model, retry_after=turn.seconds)
            if turn.limited:
                waits(turn.seconds)
            yield Sleep(turn.seconds)

    def _fill(self, ask: Ask, asking: Asking) -> Flow[None]:
        """Request machines from the service, on behalf of all waiting calls."""
        problem: Callable[[], Exception] | None = None
        cold = False
        try:
            value = yield from asking.json(f"{self._url}/e2e/instances/{ask.chute}")
            try:
                instances, seconds = read_instances(value)
            except ValueError as error:
                raise failure(Kind.MALFORMED, str(error), model=asking.model) from None
            if self._settings.verify != "off":
                instances = yield from self._proven(ask.chute, instances, asking)
            if not instances:
                raise failure(Kind.COLD, "the service listed no machine", model=asking.model)
            self.pool.answered(ask, instances, seconds)
        except (WireFailure, StatusFailure, APIError) as error:
            problem, cold = _again(error), _has_none(error)
            raise
        finally:
            self.pool.given_up(ask, problem, cold=cold)

    # --------------------------------------------------------------------- proofs

    def _proven(self, chute: str, instances: Sequence[Instance], asking: Asking) -> Flow[list[Instance]]:
        """Return the machines with a recent proof, asking for new proofs if any lacks one."""
        if any(self._proof(each.id, each.public_key) is None for each in instances):
            refused = yield from self._ask_for_proof(chute, instances, asking)
        proven = [each for each in instances if self._proof(each.id, each.public_key) is not None]
        if instances and not proven:
            raise failure(Kind.ATTESTATION, "; ".join(sorted(set(refused.values()))), model=asking.model)
        return proven

    def _proof(self, instance: str, public_key: str) -> Proof | None:
        with self._lock:
            proof = self._proofs.get((instance, public_key))
        return proof if proof is not None and self._clock.now() - proof.at < _PROOF_LASTS else None

    def _prove(self, instance: Instance, entry: str) -> None:
        now = self._clock.now()
        with self._lock:
            self._proofs = {key: proof for key, proof in self._proofs.items() if now - proof.at < _PROOF_LASTS}
            self._proofs[instance.id, instance.public_key] = Proof(self._settings.verify, entry, now, time.time())

    def _revoke(self, chute: str, instance: Instance) -> None:
        with self._lock:
            self._proofs = {key: proof for key, proof in self._proofs.items() if key[0] != instance.id}
        self.pool.barred(chute, instance.id)

    def _ask_for_proof(self, chute: str, instances: Sequence[Instance], asking: Asking) -> Flow[dict[str, str]]:
        """Request fresh evidence of all machines; return the reasons of those that fail."""
        number = secrets.token_hex(32)
        refusal: StatusFailure | None = None
        try:
            published = yield from self._published(asking)
            evidence = yield from asking.json(f"{self._url}/chutes/{chute}/evidence", {"nonce": number})
        except StatusFailure as answer:
            refusal = answer
        if refusal is not None:
            if refusal.status not in _NO_PROOF:
                raise refusal
            said = message_of(parsed(refusal.content))
            raise failure(Kind.ATTESTATION, said, model=asking.model, status_code=refusal.status)
        try:
            quotes = attest.quotes_of(evidence)
        except ValueError as problem:
            raise failure(Kind.ATTESTATION, str(problem), model=asking.model) from None
        reasons: dict[str, str] = {}
        for instance in instances:
            try:
                entry = yield from self._check(quotes.get(instance.id), number, instance, published, asking)
            except ProofError as problem:
                reasons[instance.id] = str(problem)
                _LOG.warning("%s: machine %s is not used: %s", asking.model, instance.id, problem)
                if instance.id in quotes:
                    self._revoke(chute, instance)  # its earlier proof is void now
                continue
            self._prove(instance, entry)
        return reasons

    def _check(
        self,
        quote: Quote | ProofError | None,
        number: str,
        instance: Instance,
        published: Sequence[object],
        asking: Asking,
    ) -> Flow[str]:
        if quote is None:
            raise ProofError("the service has no evidence of it")
        if isinstance(quote, ProofError):
            raise quote
        settings = self._settings
        attest.check_binding(quote, number, instance.public_key, debug=settings.debug)
        attest.check_certificate(quote)
        entry = self._measured(quote, published)
        if settings.verify == "full":
            lists = yield from self._collateral(quote, asking)
            attest.check_signature(quote, lists, int(time.time()), tcb=settings.tcb, evaluation=settings.evaluation)
        return entry

    def _measured(self, quote: Quote, published: Sequence[object]) -> str:
        """Return which of the accepted systems a machine has booted."""
        accepted = (*self._accepted(), *named(published, self._settings.allow))
        with contextlib.suppress(ProofError):
            return attest.check_measurements(quote, accepted)
        source = (
            f"the list of {as_of()} in this release" if self._settings.measurements is None else "your measurements"
        )
        try:
            theirs = attest.check_measurements(quote, published)
        except ProofError:
            raise ProofError(f"its measurements are neither in {source} nor allowed by name") from None
        raise ProofError(
            f"its measurements are not in {source}. The service calls them {theirs!r}: a later release may have them; "
            f"to accept them, E2EE(allow=[{theirs!r}])"
        )

    def _accepted(self) -> Sequence[Row]:
        """Return the rows of the systems that are accepted, whatever the service publishes."""
        given = self._settings.measurements
        if given is None:
            return (*bundled(), rehearsed()) if is_loopback(self._url) else bundled()
        if not callable(given):
            return listed(given)
        try:
            return listed(given)
        except Exception as problem:  # the user's function may raise anything
            raise ProofError(f"the measurements could not be had: {type(problem).__name__}: {problem}") from None

    def _published(self, asking: Asking) -> Flow[Sequence[object]]:
        """Return the service's own list, unless nothing of it could be accepted."""
        if self._settings.measurements is not None and not self._settings.allow:
            return []
        found = yield from self._listed(f"{self._url}/servers/tee/measurements", asking)
        return found if isinstance(found, list) else []

    def _collateral(self, quote: Quote, asking: Asking) -> Flow[str]:
        if self._settings.collateral is not None:
            try:
                return self._settings.collateral(quote.raw)
            except Exception as problem:  # the user's function may raise anything
                raise ProofError(f"its collateral could not be fetched: {type(problem).__name__}: {problem}") from None
        fmspc, ca = platform_of(quote)
        name = f"collateral {fmspc} {ca}"
        found = self._kept(name)
        if found is None:
            said = ""
            try:
                found = yield from collateral(asking.public, fmspc, ca)
            except StatusFailure as answer:  # of the vendor, and no word of the service's
                said = f"the vendor answered with status {answer.status}"
            if said:
                raise ProofError(f"its collateral could not be fetched: {said}")
            self._keep(name, found)
        return cast("str", found)

    def _listed(self, url: str, asking: Asking) -> Flow[object]:
        found = self._kept(url)
        if found is None:
            found = yield from asking.json(url)
            self._keep(url, found)
        return found

    def _kept(self, name: str) -> object:
        with self._lock:
            at, found = self._lists.get(name, (0.0, None))
        return found if self._clock.now() - at < _LIST_LASTS else None

    def _keep(self, name: str, value: object) -> None:
        with self._lock:
            self._lists[name] = (self._clock.now(), value)


def _again(error: Exception) -> Callable[[], Exception]:
    """Return a factory of copies of an error, one per waiting call: a shared exception would collect all tracebacks."""
    if isinstance(error, StatusFailure):
        return lambda: StatusFailure(error.status, error.headers, error.content)
    if isinstance(error, WireFailure):
        return lambda: WireFailure(error.reason, error.said)
    return lambda: copy.copy(error)


def _has_none(error: Exception) -> bool:
    """Return whether a model has no machine, or none that could prove itself: it will not have one at once."""
    if isinstance(error, StatusFailure):
        return kind_of(error.status, message_of(parsed(error.content))) is Kind.COLD
    return isinstance(error, APIError) and error.kind in (Kind.COLD, Kind.ATTESTATION)


class Registry:
    """The machines known to all clients of a process, by service, key and settings.

    Nonces belong to a key, and the service's rate limit is shared: without this, a program that creates a client per
    request would ask each time, and soon be refused. The keys themselves are not kept.
    """

    def __init__(self, clock: Clock, per_minute: int = 10) -> None:
        self._clock = clock
        self._per_minute = per_minute
        self.forget()

    def forget(self) -> None:
        """Discard everything."""
        self._lock = threading.Lock()
        self._rates: dict[str, RequestRate] = {}
        self._habits: dict[tuple[str, str], Habits] = {}
        self._known: OrderedDict[tuple[object, ...], Machines] = OrderedDict()

    def of(self, url: str, settings: E2EE, secret: Secret | None) -> Machines:
        """Return the machines of a service for a key."""
        key = hashlib.sha256(secret.get_secret_value().encode()).digest() if secret is not None else b""
        name = (url, settings, key)
        with self._lock:
            found = self._known.get(name)
            if found is None:
                rate = self._rates.setdefault(url, RequestRate(self._clock, self._per_minute))
                found = self._known[name] = Machines(url, self._clock, settings, rate)
            self._known.move_to_end(name)
            while len(self._known) > _MOST_KEYS:
                self._known.popitem(last=False)
        return found

    def habits(self, url: str, chute: str) -> Habits:
        """Return what was seen of the streams of a model."""
        with self._lock:
            return self._habits.setdefault((url, chute), Habits())

    def warmed(self, chute: str) -> None:
        """Note that a model may be cold no longer: the next call asks."""
        with self._lock:
            known = list(self._known.values())
        for each in known:
            each.pool.warmed(chute)


_shared = Registry(SystemClock())


def registry_for(clock: Clock) -> Registry:
    """Return the registry of this process; a custom clock gets its own."""
    return _shared if type(clock) is SystemClock else Registry(clock)


if hasattr(os, "register_at_fork"):
    # The nonces stay with the parent: used by both processes, each would be refused to one of them.
    os.register_at_fork(after_in_child=_shared.forget)
