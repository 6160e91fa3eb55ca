"""The encrypted path as a layer around a call: the call is unchanged, and this layer seals it.

A flow (:mod:`chutes_core.calls.flows`) yields ``Open`` to send a request and ``Read`` for the bytes of its reply.
:meth:`SealedPath.wrap` runs such a flow and handles both: for an ``Open`` it finds a machine, checks its proof, and
sends the request sealed for that machine; after a ``Read`` it decrypts the bytes. Everything else passes through, so
retries, timeouts, the guard and the ledger are those of the plain path, and failures here use the same failure table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TypeVar, cast
from urllib.parse import urlsplit

from chutes_core.calls.bodies import JSON, Gauge, TooLargeError
from chutes_core.calls.clock import Clock
from chutes_core.calls.effects import Flow, Open, Read, StatusFailure, WireFailure, WireRequest, layered, opened
from chutes_core.calls.flows import StreamCall
from chutes_core.catalog.catalog import Catalog
from chutes_core.catalog.model_info import ModelInfo
from chutes_core.e2ee.asking import Asking, parsed
from chutes_core.e2ee.attest import require_dcap
from chutes_core.e2ee.frames import AnotherAnswerError, FrameReader, Habits, MachineError, other_model
from chutes_core.e2ee.instances import Seat
from chutes_core.e2ee.machines import Machines, registry_for
from chutes_core.e2ee.privacy import readable, without_words
from chutes_core.e2ee.seal import SealBrokenError, SealedRequest, require_crypto, seal
from chutes_core.e2ee.settings import E2EE, check_known, comes_whole, fit_body, names_it, target
from chutes_core.errors import APIError, Kind
from chutes_core.failures.reading import failure, kind_of, message_of, reported_error
from chutes_core.response import Attested, Reply
from chutes_core.secrets.secret import Secret
from chutes_core.wire.sending import encoded

__all__ = ["SealedPath"]

T = TypeVar("T")


def _nothing() -> None:
    """Return None: nothing has arrived yet, as with a reply that is not streamed."""


def _untold(seconds: float) -> None:
    """Tell nobody that a call waits."""


class SealedPath:
    """One client's encrypted path, shared by all its calls, threads and loops.

    Args:
        settings: How far the machines' proofs are checked.
        management_url: The host of ``/e2e``.
        clock: The clock.

    Raises:
        ConfigurationError: A package is missing.
    """

    def __init__(self, settings: E2EE, *, management_url: str, clock: Clock) -> None:
        require_crypto()
        if settings.verify == "full":
            require_dcap()
        self.settings = settings
        self.url = management_url
        self.clock = clock
        self.registry = registry_for(clock)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.settings!r})"

    def __getstate__(self) -> dict[str, object]:
        # Nonces must not be copied: two processes would use the same ones.
        return {name: value for name, value in self.__dict__.items() if name != "registry"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self.registry = registry_for(self.clock)

    def target(self, model: str, catalog: Catalog) -> ModelInfo:
        """Find the one model that a request can be sealed for; see :func:`chutes_core.e2ee.settings.target`."""
        return target(model, catalog, verify=self.settings.verify, chutes=self.settings.chutes)

    def comes_whole(self, call: StreamCall, info: ModelInfo) -> bool:
        """Return whether a streamed answer is asked for in one piece, which is one seal."""
        streams, habits = self.settings.streams, self.habits(cast("str", info.chute_id))
        uncounted = habits.silent or (habits.packs and streams == "counted")
        return call.unseen or uncounted or comes_whole(call.body, streams)

    def habits(self, chute: str) -> Habits:
        """Return what was seen of a model's streams."""
        return self.registry.habits(self.url, chute)

    def check(self, model: str, catalog: Catalog) -> None:
        """Refuse a name for which nothing could ever be sealed."""
        check_known(model, catalog, verify=self.settings.verify, chutes=self.settings.chutes)

    def machines(self, secret: Secret | None) -> Machines:
        """Return the machines known for a key, with their proofs."""
        return self.registry.of(self.url, self.settings, secret)

    def wrap(
        self,
        call: Flow[T],
        info: ModelInfo,
        arrived: Callable[[], Reply | None] = _nothing,
        waits: Callable[[float], object] = _untold,
    ) -> Flow[T]:
        """Run a call to one model sealed.

        Args:
            call: The call, as it would run on the plain path.
            info: The model, with a chute id (:func:`chutes_core.e2ee.settings.target`).
            arrived: Returns what has arrived of a streamed answer, for errors.
            waits: Is told for how many seconds the call waits until machines may be asked for.
        """
        attempt = _Attempts(self, info, arrived, waits)
        try:
            return attempt.signed((yield from layered(call, attempt.answer)))
        except APIError as problem:
            error = without_words(problem, opened=attempt.opened)
        raise error  # outside the handler it has no context, and so nothing of the decrypted answer


class _Attempts:
    """The attempts of one call: the current state, and the machines to avoid."""

    def __init__(
        self,
        path: SealedPath,
        info: ModelInfo,
        arrived: Callable[[], Reply | None],
        waits: Callable[[float], object],
    ) -> None:
        self._path = path
        self._arrived = arrived
        self._waits = waits
        self._model, self._chute = info.id, cast("str", info.chute_id)
        self._avoid: set[str] = set()
        self._machines: Machines | None = None
        self._seat: Seat | None = None
        self._sealed: SealedRequest | None = None
        self._frames: FrameReader | None = None
        self._attested: Attested | None = None
        self._ended = False
        self._most = JSON
        self.opened = False
        """Whether any part of the sealed answer has been decrypted and passed on."""

    def signed(self, result: T) -> T:
        """Return the result of the call, a reply with what its machine has proved."""
        if not isinstance(result, Reply) or self._attested is None:
            return result
        return cast("T", replace(result, meta=replace(result.meta, attested=self._attested)))

    def answer(self, step: Open | Read) -> Flow[object]:
        """Perform an effect of the call, sealed."""
        if isinstance(step, Open):
            return (yield from self._open(step))
        return (yield from (self._read_whole(step) if self._frames is None else self._read_frames(step)))

    def _open(self, step: Open) -> Flow[object]:
        self.opened = self._ended = False
        asking = Asking(step, self._path.clock, self._model)
        body = encoded(fit_body(cast("Mapping[str, object]", step.request.body), self._model))
        self._machines = machines = self._path.machines(step.request.secret)
        self._seat = seat = yield from machines.seat(self._chute, asking, self._avoid, self._waits)
        self._attested = machines.attested(seat)
        try:
            self._sealed = seal(seat.public_key, body)
        except SealBrokenError as problem:
            said = str(problem)
            machines.pool.gone(self._chute, seat)
        else:
            return (yield from self._send(step, asking, seat, self._sealed))
        raise failure(Kind.SEALED_INSTANCE, said, model=self._model)

    def _send(self, step: Open, asking: Asking, seat: Seat, sealed: SealedRequest) -> Flow[object]:
        stream = cast("Mapping[str, object]", step.request.body).get("stream") is True
        self._frames = self._frame_reader(sealed) if stream else None
        headers = {
            **step.request.headers,
            "Content-Type": "application/octet-stream",
            "X-Chute-Id": self._chute,
            "X-Instance-Id": seat.instance,
            "X-E2E-Nonce": seat.nonce,
            "X-E2E-Stream": "true" if stream else "false",
            "X-E2E-Path": _path_of(step.request.url),
        }
        url, secret = f"{self._path.url}/e2e/invoke", step.request.secret
        request = WireRequest(url, None, headers, secret=secret, content=sealed.blob)
        self._most = step.most
        # What is sealed is longer than what is in it, by a third and an envelope, and its bytes are any.
        most = step.most.times(2)._replace(values=0)
        try:
            return (yield from opened(Open(request, step.connect, asking.left(), most), self._path.clock.now))
        except StatusFailure as answer:
            refused = readable(answer)
        except WireFailure:
            self._avoid.add(seat.instance)
            raise
        self._learn(seat, refused)
        raise refused

    def _frame_reader(self, sealed: SealedRequest) -> FrameReader:
        counted = self._path.settings.streams == "counted"
        return FrameReader(sealed.key, self._answers, counted=counted, habits=self._path.habits(self._chute))

    def _answers(self, model: object) -> bool:
        return names_it(model, self._model)

    def _learn(self, seat: Seat, answer: StatusFailure) -> None:
        """Record from an error what the next attempt needs to know."""
        pool = cast("Machines", self._machines).pool
        self._avoid.add(seat.instance)
        kind = kind_of(answer.status, message_of(parsed(answer.content)))
        if kind is Kind.SEALED_NONCE:
            pool.stale(self._chute, seat)
        elif kind is Kind.SEALED_INSTANCE:
            pool.gone(self._chute, seat)

    def _read_frames(self, step: Read) -> Flow[object]:
        frames = cast("FrameReader", self._frames)
        block = (yield step) if frames.reported is None else b""
        said, reported, kind = "", None, Kind.SEALED_REPLY
        try:
            if block is None:
                frames.close()
                return None
            plain = frames.feed(cast("bytes", block))
        except SealBrokenError as problem:
            said = str(problem)
            kind = Kind.RESTARTED if isinstance(problem, AnotherAnswerError) else kind
        except MachineError as problem:
            reported = problem.body
        else:
            self.opened = self.opened or bool(plain)
            return plain
        self._avoid.add(cast("Seat", self._seat).instance)
        partial = self._arrived()
        if said:
            raise failure(kind, said, model=self._model, partial_reply=partial)
        raise reported_error({"error": reported}, model=self._model, partial_reply=partial, delivered=self.opened)

    def _read_whole(self, step: Read) -> Flow[object]:
        """Collect a reply that is not streamed, and decrypt it."""
        if self._ended:
            return None
        asking = Asking(step, self._path.clock, self._model)
        blocks: list[bytes] = []
        while (block := (yield Read(asking.left()))) is not None:
            blocks.append(cast("bytes", block))
        self._ended = True
        if not any(blocks):
            return None
        try:
            plain = cast("SealedRequest", self._sealed).key.whole(b"".join(blocks), self._most.sent)
            Gauge(self._most).take(plain)
            self._check_model(plain)
        except (SealBrokenError, TooLargeError) as problem:
            said = str(problem)
        else:
            self.opened = True
            return plain
        self._avoid.add(cast("Seat", self._seat).instance)
        raise failure(Kind.SEALED_REPLY, said, model=self._model)

    def _check_model(self, plain: bytes) -> None:
        """Check that a reply is of the model that was asked; what is no reply is for the call to read."""
        reply = parsed(plain)
        if (
            isinstance(reply, dict)
            and ("choices" in reply or "data" in reply)
            and not self._answers(reply.get("model"))
        ):
            raise SealBrokenError(other_model(reply.get("model")))


def _path_of(url: str) -> str:
    """Return the path of a request on the machine, which begins with ``/v1`` whatever the host."""
    path = urlsplit(url).path
    return path[path.rindex("/v1/") :] if "/v1/" in path else path
