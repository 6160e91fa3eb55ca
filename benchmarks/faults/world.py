"""The world that every client meets: what is asked when, and what each attempt at a model comes to.

Nothing here depends on a client. What attempt `nth` of call `index` at a model meets is drawn from a generator that is
seeded with just these and the run's seed, so two clients that make the same attempt meet the same luck, whatever else
they do. Only what is shared by all calls, outages and capacity, goes by the clock.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from functools import lru_cache

from chutes_core.testing import Answer

MODELS = ("acme/one", "acme/two", "acme/three")
AMOUNT = 100_000
REFUSAL = 0.05  # seconds until a model says no
PER_TOKEN = 0.1
LETTERS = len("0000.00,")  # of each token of a text
TTFT, SIGMA = 0.4, 0.5  # of the lognormal time to the first token
STALL = 5.0
READ = 3.0  # the read limit of every client, in seconds


@dataclass(frozen=True, slots=True)
class Call:
    """One question, and the only right answer to it."""

    index: int
    arrives: float
    tool: bool
    tokens: int

    @property
    def prompt(self) -> str:
        return f"Call {self.index}. " + ("Pay the bill." if self.tool else "Count.")

    @property
    def text(self) -> str:
        """Numbered words of the same length, one for each token."""
        return "" if self.tool else "".join(f"{self.index:04d}.{number:02d}," for number in range(self.tokens))

    def answer_from(self, given: str) -> Answer:
        """The answer of a model that is sent the beginning, and goes on with it; the beginning is read as a prompt."""
        said = len(given) // LETTERS
        assert self.text.startswith(given), "the gateway is sent what the reader was given"
        rest = self.text[said * LETTERS :]
        return Answer(rest, pieces=self.tokens - said, prompt_tokens=Answer().prompt_tokens + said)

    @property
    def tools(self) -> list[tuple[str, dict[str, object]]]:
        return [("pay", {"amount": AMOUNT})] if self.tool else []

    @property
    def answer(self) -> Answer:
        return Answer(self.text, tool_calls=self.tools, pieces=self.tokens)


@dataclass(frozen=True, slots=True)
class Fate:
    """What an attempt meets: a fault by its name in `chutes_core.testing`, "late", or "" for none.

    Attributes:
        after: The tokens before a fault inside the answer.
        first: Seconds to the first token.
        pace: Seconds from token to token.
    """

    kind: str = ""
    after: int = 0
    first: float = TTFT
    pace: float = PER_TOKEN


@dataclass(frozen=True, slots=True)
class Scenario:
    """A kind of bad day.

    Attributes:
        name: Its key.
        title: Its heading.
        told: What happens, for the reader of the results.
        broken: What an attempt that breaks in the middle looks like on the wire; None for models without such luck.
        outage: How a model that is down refuses.
        slow: How many times slower the first model is.
        processes: Independent clients, each with its own memory.
        capacity: Answers that a model gives at the same time.
        spread: Seconds between two calls, on average: of all, or of each process from its answer to its next call.
        whole: The answer is asked for in one piece.
        alive: At every moment at least one model answers.
    """

    name: str
    title: str
    told: str
    broken: str | None = None
    outage: str = ""
    slow: float = 1.0
    processes: int = 1
    capacity: int | None = None
    spread: float = 1.0
    whole: bool = False
    alive: bool = True


_LUCK = (
    "Of all attempts 30 % meet 429 (at capacity), 10 % 503 (cold), 5 % an extra silence of 5 s before the first token"
)
SCENARIOS = {
    each.name: each
    for each in (
        Scenario("iid", "Independent faults", f"{_LUCK}, and 5 % a connection reset in mid-answer.", "reset"),
        Scenario(
            "cut",
            "Cut the Chutes way",
            f"{_LUCK}; 5 % end in mid-answer with a bare `{{\"error\": …}}` line and a clean end of the connection.",
            "error_line",
        ),
        Scenario(
            "splice",
            "Restart inside the stream",
            f"{_LUCK}; in 5 % another machine begins the same answer again inside the stream, under a new chunk id.",
            "restart",
        ),
        Scenario(
            "bursty",
            "Bursty outages",
            "Each model is up for 20 s and then at capacity (429) for 10 s, at phases that leave one up at all times.",
            outage="capacity",
        ),
        Scenario(
            "down",
            "Everything down for 60 s",
            "A third of the way every model answers 503 for 60 s; before and after, all is well.",
            outage="cold",
            alive=False,
        ),
        Scenario(
            "slow",
            "One slow model",
            "The model that is listed first takes five times as long to its first token and for every other.",
            slow=5.0,
        ),
        Scenario(
            "herd",
            "A herd of 50",
            "50 clients that know nothing of each other start in the same instant, and each goes on about a second "
            "after its answer; a model that is giving 14 answers says 429, so all three have room for 42. (The "
            "processes are simulated: 50 independent clients in one process, on one virtual clock.)",
            processes=50,
            capacity=14,
        ),
        Scenario(
            "invoke",
            "Answers in one piece",
            f"{_LUCK}, and 5 % a connection reset; the answer is not asked for as a stream.",
            "reset",
            whole=True,
        ),
    )
}  # fmt: skip


class World:
    """A scenario under a seed."""

    def __init__(self, scenario: Scenario, seed: int, calls: int) -> None:
        self.scenario = scenario
        self.seed = seed
        self.calls = _calls(scenario, seed, calls)
        self._phases = _phases(seed)

    def is_down(self, model: int, now: float) -> bool:
        """Whether a model refuses everybody just now."""
        if self.scenario.name == "down":
            begins = len(self.calls) * self.scenario.spread / 3
            return begins <= now < begins + 60
        return self.scenario.name == "bursty" and (now + self._phases[model]) % 30 < 10

    def fate(self, call: Call, model: int, nth: int, now: float) -> Fate:
        """What the nth attempt of a call at a model meets, when it is made now."""
        luck = random.Random(f"{self.seed}/{call.index}/{model}/{nth}")
        drawn, first, place = luck.random(), TTFT * math.exp(SIGMA * luck.gauss(0, 1)), luck.random()
        pace = self.scenario.slow if model == 0 else 1.0
        if self.scenario.outage:
            return Fate(self.scenario.outage if self.is_down(model, now) else "", first=first)
        if self.scenario.broken is None:
            return Fate(first=first * pace, pace=PER_TOKEN * pace)
        after = 1 + int(place * (call.tokens - 1))
        for kind, share in (("capacity", 0.3), ("cold", 0.1), ("late", 0.05), (self.scenario.broken, 0.05)):
            if (drawn := drawn - share) < 0:
                return Fate(kind, after, first + (STALL if kind == "late" else 0.0))
        return Fate(first=first)


def _calls(scenario: Scenario, seed: int, count: int) -> list[Call]:
    """The questions; they come when they come, and not when the one before has been answered."""
    made, now = [], 0.0
    for index in range(count):
        luck = random.Random(f"{seed}/call/{index}")
        tool = index % 5 == 4
        pause = luck.expovariate(1 / scenario.spread)
        now += pause
        # In a herd each process waits this long before its next call; its first comes at once.
        arrives = now if scenario.processes == 1 else (pause if index >= scenario.processes else 0.0)
        made.append(Call(index, arrives, tool, 6 if tool else luck.randrange(6, 13)))
    return made


@lru_cache(maxsize=64)
def _phases(seed: int) -> tuple[float, ...]:
    """When each model's outages begin, drawn again until never all are down."""
    luck = random.Random(f"{seed}/phases")
    while True:
        phases = tuple(luck.uniform(0, 30) for _ in MODELS)
        if all(any((now / 10 + phase) % 30 >= 10 for phase in phases) for now in range(300)):
            return phases
