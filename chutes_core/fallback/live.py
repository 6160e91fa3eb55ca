"""How fast models are just now, by the service's own statistics: fetched beside the calls, which never wait for it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from weakref import WeakValueDictionary

from chutes_core.catalog import Catalog
from chutes_core.model_info import ModelInfo
from chutes_core.settings import BASE_URL, MANAGEMENT_URL, Settings

__all__ = ["LiveStats"]

Fetch = Callable[[], Iterable[ModelInfo]]

_RETRY = 30.0
_LONGEST = 3600.0
_LOST = 120.0  # a fetch that has not come back by then never will, as in a process that was forked meanwhile
_DAYS = 2


def _in_a_thread(job: Callable[[], None]) -> None:
    threading.Thread(target=job, name="chutes-statistics", daemon=True).start()


class LiveStats:
    """Models with their speeds, brought up to date in the background.

    A call that wants them says so with :meth:`wanted` and goes on with what is there. At most one fetch is under way
    at a time, and the next one begins when the last is ``every`` seconds old. A fetch that failed is tried again after
    30 s, and after twice as long each time; its exception is kept in :attr:`error` and raised nowhere.

    Args:
        fetch: Gives models with their speeds; it may block.
        every: Seconds for which they are good.
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
        """Begin a fetch if one is due; return at once."""
        if self._now() < self._due:
            return
        with self._lock:
            if self._now() < self._due:
                return
            self._due = self._now() + _LOST
        try:
            self._spawn(self._refresh)
        except RuntimeError as problem:  # no thread can be had, as at the end of the process
            self._note(problem)

    def of(self, info: ModelInfo) -> ModelInfo:
        """The model with its speeds as they were fetched last; itself where there are none."""
        found = self._models.get(info.id)
        return info if found is None or (found.ttft is None and found.tps is None) else found

    def _refresh(self) -> None:
        try:
            self._models = {info.id: info for info in self._fetch()}
        except Exception as problem:  # whatever it is, calls go on with what they have
            self._note(problem)
        else:
            self.error, self._failed = None, 0
            self._due = self._now() + self._every

    def _note(self, problem: Exception) -> None:
        self.error, self._failed = problem, self._failed + 1
        self._due = self._now() + min(_RETRY * 2 ** (self._failed - 1), _LONGEST)

    @classmethod
    def of_service(cls, settings: Settings, catalog: Catalog, *, http_client: object = None) -> LiveStats | None:
        """The one for a service; None where nothing is to be fetched.

        That is so with an offline catalogue, and where the gateway was replaced and the host of the statistics was
        not: then they would be those of another service. Without an ``http_client`` of one's own it is the same for
        the whole process.

        Args:
            settings: Where the service is.
            catalog: The models to which the statistics are added.
            http_client: A blocking client of httpx to fetch with.
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
