"""Current model speeds from the service's statistics, fetched in the background so that calls never wait."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from weakref import WeakValueDictionary

from chutes_core.catalog.catalog import Catalog
from chutes_core.catalog.model_info import ModelInfo
from chutes_core.settings import BASE_URL, MANAGEMENT_URL, Settings

__all__ = ["LiveStats"]

Fetch = Callable[[], Iterable[ModelInfo]]

_RETRY = 30.0
_LONGEST = 3600.0
_LOST = 120.0  # a fetch not back by then never will be, such as after a fork
_DAYS = 2


def _in_a_thread(job: Callable[[], None]) -> None:
    threading.Thread(target=job, name="chutes-statistics", daemon=True).start()


class LiveStats:
    """Models with their speeds, updated in the background.

    A call requests them with :meth:`wanted` and goes on with what is there. At most one fetch runs at a time, and the
    next one starts when the last is ``every`` seconds old. A failed fetch is retried after 30 s, doubling each time;
    its exception is kept in :attr:`error` and never raised.

    Args:
        fetch: Returns models with their speeds; it may block.
        every: Seconds for which they are fresh.
        now: The clock.
        spawn: Runs a function in the background.

    >>> stats = LiveStats(lambda: [ModelInfo(id="acme/one", ttft=0.4, tps=50.0)], spawn=lambda job: job())
    >>> stats.wanted(); stats.of(ModelInfo(id="acme/one")).ttft
    0.4
    """

    def __init__(
        self,
        fetch: Fetch,
        *,
        every: float = 300.0,
        now: Callable[[], float] = time.monotonic,
        spawn: Callable[[Callable[[], None]], None] = _in_a_thread,
    ) -> None:
        self.error: Exception | None = None
        self._fetch = fetch
        self._every = every
        self._now = now
        self._spawn = spawn
        self._lock = threading.Lock()
        self._models: Mapping[str, ModelInfo] = {}
        self._due = float("-inf")
        self._failed = 0

    def wanted(self) -> None:
        """Start a fetch if one is due, without waiting."""
        if self._now() < self._due:
            return
        with self._lock:
            if self._now() < self._due:
                return
            self._due = self._now() + _LOST
        try:
            self._spawn(self._refresh)
        except RuntimeError as problem:  # no thread can be started, as at interpreter shutdown
            self._note(problem)

    def of(self, info: ModelInfo) -> ModelInfo:
        """Return the model with its last fetched speeds; unchanged if there are none."""
        found = self._models.get(info.id)
        return info if found is None or (found.ttft is None and found.tps is None) else found

    def _refresh(self) -> None:
        try:
            self._models = {info.id: info for info in self._fetch()}
        except Exception as problem:  # whatever it is, calls go on with the old speeds
            self._note(problem)
        else:
            self.error, self._failed = None, 0
            self._due = self._now() + self._every

    def _note(self, problem: Exception) -> None:
        self.error, self._failed = problem, self._failed + 1
        self._due = self._now() + min(_RETRY * 2 ** (self._failed - 1), _LONGEST)

    @classmethod
    def of_service(cls, settings: Settings, catalog: Catalog, *, http_client: object = None) -> LiveStats | None:
        """Return the statistics of a service; None if nothing is to be fetched.

        Nothing is fetched with an offline catalogue, or if the gateway was replaced but the host of the statistics was
        not: they would be another service's. Without a custom ``http_client`` the object is shared by the process.

        Args:
            settings: The URLs of the service.
            catalog: The models to which the statistics are added.
            http_client: A blocking httpx client to fetch with.
        """
        replaced = settings.base_url != BASE_URL
        if catalog.offline or (replaced and settings.management_url == MANAGEMENT_URL):
            return None

        def fetch() -> Iterable[ModelInfo]:
            from chutes_core.client import ChutesClient

            since = time.strftime("%Y-%m-%d", time.gmtime(time.time() - _DAYS * 86400))
            client = ChutesClient(
                base_url=settings.base_url,
                management_url=settings.management_url,
                catalog=catalog,
                http_client=http_client,
                max_retries=0,
            )
            with client:
                return catalog.with_stats(client.stats(since))

        if http_client is not None:
            return cls(fetch)
        with _SHARED_LOCK:
            found = _SHARED.get(settings.management_url)
            if found is None:
                found = _SHARED[settings.management_url] = cls(fetch)
            return found


_SHARED: WeakValueDictionary[str, LiveStats] = WeakValueDictionary()
_SHARED_LOCK = threading.Lock()
