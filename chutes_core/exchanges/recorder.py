"""Record exchanges into a file, one JSON line each, as ``tests/gateway`` has them; see docs/recording.md.

A line is made when an exchange is over, and written at once. Nothing that fails here, such as a disk that has become
full, ends a call: it is logged, once.
"""

from __future__ import annotations

import base64
import json
import logging
import os
import re
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from urllib.parse import urlencode, urlsplit

from chutes_core.calls.effects import Arrived, AsyncHand, Effect, Hand, Open, Read, StatusFailure, WireFailure
from chutes_core.errors import ConfigurationError
from chutes_core.exchanges.asked import FILE, recorder_asked_for
from chutes_core.exchanges.redaction import ASKED, Wanted, account_names, filled, redacted
from chutes_core.locks import Gate
from chutes_core.secrets.echoes import Echoes
from chutes_core.secrets.headers import is_secret
from chutes_core.secrets.masking import secrets_in
from chutes_core.secrets.secret import Secret
from chutes_core.settings import is_loopback
from chutes_core.warned import warn

try:
    import fcntl
except ImportError:  # Windows, where processes are not kept from writing at once
    fcntl = None  # type: ignore[assignment]

__all__ = ["AsyncTap", "Recorder", "Tap", "recorder", "told"]

_LOG = logging.getLogger("chutes_core")
_SENT = ("x-chute-id", "x-e2e-path", "x-e2e-stream", "x-enable-thinking", "x-tee-only")
_GOT = ("content-type", "retry-after", "x-chutes-", "x-ratelimit-")
_KNOWN = re.compile(
    r"/(chat/completions|embeddings|models|ping|chutes/?|chutes/(warmup/)?[^/]+|(users|invocations|idp)/.*)$"
)
"""Paths of the service itself; of what else a chute publishes nobody knows what is content."""
_DONE = b"data: [DONE]"  # behind which most readers stop
_MODE = 0o600
_SHORTEST = 8  # of a part of a key that is looked for by itself


def told(path: str, content: bool) -> str:
    """Say what is going to be in a file.

    >>> told("exchanges.jsonl", False)
    'every exchange with the service is recorded in exchanges.jsonl, without keys, prompts and answers.'
    """
    what = "WITH PROMPTS AND ANSWERS, without keys" if content else "without keys, prompts and answers"
    return f"every exchange with the service is recorded in {path}, {what}."


class Recorder:
    """Writes the exchanges of this process into a file.

    Args:
        path: The file; lines are added to it.
        content: Whether what was asked and answered is in it.

    Raises:
        ConfigurationError: Nothing can be written there.
    """

    def __init__(self, path: str, content: bool = True) -> None:
        self.path, self.content = path, content
        self._names: frozenset[str] = frozenset()
        self._process, self._gate, self._failed = os.getpid(), Gate(), False
        try:
            with _opened(path) as file:
                _try_out(file)
        except OSError as error:
            said = error.strerror or str(error)
        else:
            return
        raise ConfigurationError(f"Exchanges cannot be recorded in {path}, which {FILE} names: {said}.")

    def __reduce__(self) -> tuple[object, ...]:
        return recorder_asked_for, ()  # in another process its own environment counts

    def tap(self, hand: Hand) -> Tap:
        """Return a hand that does what another one does, and has it recorded."""
        return Tap(hand, self)

    def atap(self, hand: AsyncHand) -> AsyncTap:
        """Return the same on the event loop."""
        return AsyncTap(hand, self)

    def keep(self, exchange: _Exchange) -> None:
        """Write what was exchanged."""
        try:
            line = json.dumps(self._line(exchange), separators=(", ", ": ")) + "\n"
        except Exception as error:  # of ours: it must not end a call
            self._missed(error)
            return
        if self._process != os.getpid():  # forked, perhaps while another thread was writing
            self._process, self._gate = os.getpid(), Gate()
        # A dropped stream is closed by the garbage collector, which may run in the middle of another write.
        self._gate.change(partial(self._write, line.encode()))

    def _write(self, line: bytes) -> None:
        try:
            with _opened(self.path) as file:
                _append(file, line if _is_whole(file) else b"\n" + line)
        except OSError as error:
            self._missed(error)

    def _missed(self, error: Exception) -> None:
        if not self._failed:
            self._failed = True
            _LOG.warning("%s: an exchange could not be recorded in %s: %s", FILE, self.path, type(error).__name__)

    # --- what is in a line -----------------------------------------------------------------------------

    def _line(self, exchange: _Exchange) -> dict[str, object]:
        request = exchange.open.request
        url = urlsplit(request.url)
        sealed = "/e2e/" in url.path or url.path.endswith("/evidence")
        account, reply = "/users/" in url.path, b"".join(exchange.blocks)
        if account and not sealed:
            self._names |= frozenset(name for name in account_names(reply) if len(name) >= _SHORTEST // 2)
        secrets = {*self._names, *secrets_in(exchange.sent, request.secret), *_parts_of(request.secret)}
        known = _KNOWN.search(url.path) is not None
        wanted = Wanted(Echoes(secrets), self.content, account)
        sent = request.content if request.body is None else json.dumps(request.body, ensure_ascii=False).encode()
        query = f"?{urlencode(request.params)}" if request.params else url.query and f"?{url.query}"
        path = redacted(f"{url.path}{query}".encode("ascii", "replace"), wanted).decode("latin-1")
        line: dict[str, object] = {
            "from": {"host": _host(request.url), "date": time.strftime("%Y-%m-%d", time.gmtime())},
            "send": {"method": request.method, "path": path, **_headers(request.headers, _SENT, wanted)},
        }
        send = line["send"]
        assert isinstance(send, dict)
        if sent is not None:
            asked = wanted._replace(plain=ASKED if known else frozenset())
            send |= {"sealed": len(sent)} if sealed else _sent(sent, asked)
        if exchange.status is None:
            return {**line, "status": None, "end": exchange.end}
        line |= {"status": exchange.status, **({"headers": {}} | _headers(exchange.headers, _GOT, wanted))}
        if sealed:
            line["sealed"] = [len(block) for block in exchange.blocks]
        else:
            media = str(exchange.headers.get("content-type", ""))
            told = wanted if known or exchange.status >= 400 else wanted._replace(plain=frozenset())
            line["blocks"] = _blocks(_kept(reply, media, exchange.status, told), exchange.blocks)
        if exchange.end != "whole" and not (exchange.end == "left" and reply.rstrip().endswith(_DONE)):
            line["end"] = exchange.end
        reader = _reader(url.path, send.get("body"))
        return {**line, "reader": reader} if reader else line


def _kept(reply: bytes, media: str, status: int, wanted: Wanted) -> bytes:
    """Redact the body of a reply; without content, no word of an answer stays that is neither JSON nor a stream."""
    if status >= 400 or wanted.content or reply.lstrip()[:1] in (b"{", b"["):
        return redacted(reply, wanted)
    if "event-stream" not in media:
        return filled(reply)
    lines = redacted(reply, wanted).splitlines(keepends=True)
    return b"".join(line if line.startswith(b"data:") or not line.strip() else _comment(line) for line in lines)


def _comment(line: bytes) -> bytes:
    words, end = line.rstrip(b"\r\n"), line[len(line.rstrip(b"\r\n")) :]
    return filled(words) + end


def _sent(sent: bytes, wanted: Wanted) -> dict[str, object]:
    try:
        return {"body": json.loads(redacted(sent, wanted))}
    except (ValueError, RecursionError):
        return {"bytes": len(sent)}


def _headers(headers: Mapping[str, str], names: Sequence[str], wanted: Wanted) -> dict[str, object]:
    kept = {}
    for name, value in headers.items():
        lowered = name.lower()
        if lowered.startswith(tuple(names)) and not (names is _SENT and is_secret(name, value)):
            said = json.dumps({"id": value}).encode() if "id" in lowered.split("-")[-1] else json.dumps(value).encode()
            found = json.loads(redacted(said, Wanted(wanted.secrets)))
            kept[lowered] = found["id"] if isinstance(found, dict) else found
    return {"headers": kept} if kept else {}


def _host(url: str) -> str:
    name = urlsplit(url).hostname or ""
    return name if is_loopback(url) or f".{name}".endswith(".chutes.ai") else "another gateway"


def _parts_of(secret: Secret | None) -> Iterator[str]:
    """Yield what a key consists of, such as the id of its account."""
    text = "" if secret is None else secret.get_secret_value()
    yield from (part for part in text.replace("_", ".").split(".") if len(part) >= _SHORTEST)


def _reader(path: str, body: object) -> str | None:
    if path.endswith("/chat/completions") and isinstance(body, dict):
        return "stream" if body.get("stream") is True else "chat"
    return "embed" if path.endswith("/embeddings") and isinstance(body, dict) else None


def _blocks(body: bytes, came: Sequence[bytes]) -> list[object]:
    """Cut a body where it was cut when it came; a block that is no text by itself is in base64."""
    found, at = list[object](), 0
    for length in map(len, came):
        block = body[at : at + length]
        at += length
        try:
            found.append(block.decode())
        except UnicodeDecodeError:
            found.append({"base64": base64.b64encode(block).decode()})
    return found


# --- the file -----------------------------------------------------------------------------------------


@contextmanager
def _opened(path: str) -> Iterator[int]:
    """Open the file for this process alone."""
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), _MODE)
    try:
        if fcntl is not None:
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file
    finally:
        os.close(file)


def _try_out(file: int) -> None:
    """Find out now whether anything can be written; others cannot read it from now on."""
    if not stat.S_ISREG(os.fstat(file).st_mode):
        raise OSError("it is no file")
    if hasattr(os, "fchmod"):
        os.fchmod(file, _MODE)
    size = os.fstat(file).st_size
    _append(file, b" " * 4096)
    os.ftruncate(file, size)


def _is_whole(file: int) -> bool:
    """Return whether the last line is whole: one of a process that was killed may not be."""
    size = os.lseek(file, 0, os.SEEK_END)
    if size == 0:
        return True
    os.lseek(file, size - 1, os.SEEK_SET)
    return os.read(file, 1) == b"\n"


def _append(file: int, data: bytes) -> None:
    """Add all of it, or nothing: a line that found no room does not spoil the one after it."""
    size = os.fstat(file).st_size
    try:
        while data:
            data = data[os.write(file, data) :]
    except OSError:
        with suppress(OSError):
            os.ftruncate(file, size)
        raise


_known: dict[tuple[str, bool], Recorder] = {}


def recorder(path: str, content: bool) -> Recorder:
    """Return the one for a file, which all clients of the process share."""
    found = _known.get((path, content))
    if found is None:
        found = _known.setdefault((path, content), Recorder(path, content))
        warn(f"{FILE}: {told(path, content)}")
    return found


# --- what is recorded ---------------------------------------------------------------------------------


class _Exchange:
    """A request, and what has come of its reply; ``sent`` is what is secret in it, and in those before it."""

    def __init__(self, effect: Open) -> None:
        self.open = effect
        self.sent = effect.request.telling
        self.status: int | None = None
        self.headers: Mapping[str, str] = {}
        self.blocks: list[bytes] = []
        self.end = "left"


class _Taps:
    """What both taps have in common: the exchange that is open."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._exchange: _Exchange | None = None
        self._sent: dict[str, str] = {}

    def _begins(self, effect: Effect) -> None:
        if isinstance(effect, Open):
            self._ends()
            self._sent = {**self._sent, **effect.request.telling}  # a redirect may have them in its address
            self._exchange = _Exchange(effect)
            self._exchange.sent = self._sent

    def _after(self, effect: Effect, value: object) -> None:
        """Note what an effect came to."""
        if (exchange := self._exchange) is None:
            return
        if isinstance(value, Arrived):
            exchange.status, exchange.headers = value.status, value
        elif isinstance(value, bytes):
            exchange.blocks.append(value)
        elif isinstance(effect, Read):
            self._ends("whole")

    def _failed(self, failure: WireFailure | StatusFailure) -> None:
        exchange = self._exchange
        if exchange is None:
            return
        if isinstance(failure, StatusFailure):
            exchange.status, exchange.headers = failure.status, failure.headers
            exchange.blocks = [failure.content]
            self._ends("whole")
        else:
            self._ends(failure.reason)

    def _ends(self, end: str = "left") -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.end = end
            self._recorder.keep(exchange)


class Tap(_Taps):
    """A hand that has recorded what another one does."""

    def __init__(self, hand: Hand, recorder: Recorder) -> None:
        super().__init__(recorder)
        self._hand = hand

    def perform(self, effect: Effect) -> object:
        """Perform one effect of a flow."""
        self._begins(effect)
        try:
            value = self._hand.perform(effect)
        except (WireFailure, StatusFailure) as failure:
            self._failed(failure)
            raise
        self._after(effect, value)
        return value

    def close(self) -> None:
        """Release the reply."""
        self._ends()
        self._hand.close()


class AsyncTap(_Taps):
    """A hand on the event loop that has recorded what another one does."""

    def __init__(self, hand: AsyncHand, recorder: Recorder) -> None:
        super().__init__(recorder)
        self._hand = hand

    async def perform(self, effect: Effect) -> object:
        """Perform one effect of a flow."""
        self._begins(effect)
        try:
            value = await self._hand.perform(effect)
        except (WireFailure, StatusFailure) as failure:
            self._failed(failure)
            raise
        self._after(effect, value)
        return value

    async def close(self) -> None:
        """Release the reply."""
        self._ends()
        await self._hand.close()
