"""Faults, and the plan that decides which request gets which.

A plan is a list of rules, checked in order on every attempt at a model; the first that fires wins. As text a rule
is ``TARGET=KIND``, where the target is a model id, a pattern (``Qwen/*``) or a path (``/v1/models``), with

* ``:0.3`` for a probability, drawn from the plan's seed: ``Qwen/Qwen3-32B-TEE=capacity:0.3``
* ``x2`` for the first two requests: ``Qwen/Qwen3-32B-TEE=cold x2``
* ``(after=3, seconds=1, value=300)`` for details: ``*=stall(after=5, seconds=2)``
* ``>`` for a script, one step per request: ``*=capacity > reset(after=1) > ok``

>>> plan = FaultPlan("Qwen/Qwen3-32B-TEE=capacity x2")
>>> [str(plan.draw("Qwen/Qwen3-32B-TEE")) for _ in range(3)]
['capacity', 'capacity', 'None']
"""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from chutes_local.faults.kinds import Fault, Phase

OK = "ok"
_STEP = re.compile(
    r"(?P<kind>[a-z][a-z0-9_-]*?)\s*(?:\((?P<options>[^()]*)\))?\s*"
    r"(?::\s*(?P<probability>[0-9.]+))?\s*(?:x\s*(?P<times>\d+))?"
)


Step = Fault | None


@dataclass(slots=True)
class _Rule:
    """One rule of a plan, and how much of it is left."""

    target: str
    steps: tuple[Step, ...]
    probability: float
    left: int | None
    dice: random.Random
    drawn: int = field(default=0)

    def fits(self, names: Sequence[str]) -> bool:
        # "*" means every model, not every path.
        path = self.target.startswith("/")
        return self.left != 0 and any(name.startswith("/") is path and fnmatchcase(name, self.target) for name in names)

    def fire(self) -> tuple[bool, Step]:
        """Return whether this rule fires, and with which step."""
        if self.probability < 1 and self.dice.random() >= self.probability:
            return False, None
        step = self.steps[self.drawn % len(self.steps)]
        self.drawn += 1
        if self.left is not None:
            self.left -= 1
        return True, step

    def text(self) -> str:
        steps = " > ".join(OK if step is None else str(step) for step in self.steps)
        chance = f":{self.probability:g}" if self.probability < 1 else ""
        left = "" if self.left is None else f" ({self.left} left)"
        return f"{self.target}={steps}{chance}{left}"


class FaultPlan:
    """A list of fault rules; thread-safe, and may change while the server runs.

    >>> plan = FaultPlan(seed=7).add("*", "capacity", probability=0.5)
    >>> first = [str(plan.draw("a")) for _ in range(6)]
    >>> again = FaultPlan("*=capacity:0.5", seed=7)
    >>> first == [str(again.draw("a")) for _ in range(6)]
    True
    """

    def __init__(self, *specs: str, seed: int = 0) -> None:
        """Parse the rules in ``specs``; ``seed`` makes probabilities reproducible."""
        self.seed = seed
        self._lock = threading.Lock()
        self._rules: list[_Rule] = []
        self.parse(*specs)

    def add(self, target: str, fault: Fault | str, *, probability: float = 1.0, times: int | None = None) -> FaultPlan:
        """Let ``fault`` strike ``target``: always, with a probability, or only the first ``times`` times."""
        return self._append(target, [fault], probability, times)

    def script(self, target: str, steps: Iterable[Fault | str | None]) -> FaultPlan:
        """Use one step per request to ``target``; ``None`` or ``"ok"`` lets the request succeed.

        >>> plan = FaultPlan().script("m", ["cold", None, "reset"])
        >>> [str(plan.draw("m")) for _ in range(4)]
        ['cold', 'None', 'reset', 'None']
        """
        listed = list(steps)
        return self._append(target, listed, 1.0, len(listed))

    def parse(self, *specs: str) -> FaultPlan:
        """Add rules written as text; see the module docstring."""
        for spec in specs:
            target, equals, right = spec.partition("=")
            if not equals or not target.strip() or not right.strip():
                raise ValueError(f"{spec!r} is not a fault rule: use TARGET=KIND, such as '*=capacity:0.3'.")
            steps = [_read_step(part, spec) for part in right.split(">")]
            if len(steps) == 1:
                fault, probability, times = steps[0]
                self._append(target.strip(), [fault], probability, times)
                continue
            if any(probability < 1 for _, probability, _ in steps):
                raise ValueError(f"{spec!r}: a step of a script takes no probability.")
            self.script(target.strip(), [fault for fault, _, times in steps for _ in range(times or 1)])
        return self

    def draw(self, *names: str) -> Fault | None:
        """Return the fault for one attempt at a target with these ``names``, if any."""
        with self._lock:
            for rule in self._rules:
                if rule.fits(names):
                    decided, fault = rule.fire()
                    if decided:
                        return fault
        return None

    def clear(self) -> None:
        """Remove every rule; probabilities of new rules start from the seed again."""
        with self._lock:
            self._rules.clear()

    def describe(self) -> list[str]:
        """List the rules as text, with the remaining count of limited ones."""
        with self._lock:
            return [rule.text() for rule in self._rules]

    def __repr__(self) -> str:
        """Return the rules and the seed."""
        return f"FaultPlan({', '.join(map(repr, self.describe()))}, seed={self.seed})"

    def _append(
        self, target: str, steps: Sequence[Fault | str | None], probability: float, times: int | None
    ) -> FaultPlan:
        faults = tuple(None if step in (None, OK) else as_fault(step) for step in steps)
        if not faults:
            raise ValueError(f"The script for {target!r} has no steps.")
        if not 0 <= probability <= 1:
            raise ValueError(f"{target}: the probability must be between 0 and 1, not {probability}.")
        late = [fault.kind for fault in faults if fault and fault.phase is Phase.STREAM]
        if target.startswith("/") and late:
            raise ValueError(f"{target} is a path, but {late[0]} strikes inside a model's answer: name a model.")
        with self._lock:
            dice = random.Random(f"{self.seed}/{len(self._rules)}/{target}")
            self._rules.append(_Rule(target, faults, probability, times, dice))
        return self


def as_fault(step: Fault | str | None) -> Fault:
    """Parse a fault written as text.

    >>> as_fault("stall(after=3, seconds=0.5)")
    Fault(kind='stall', after=3, seconds=0.5, value='')
    """
    if isinstance(step, Fault):
        return step
    fault, probability, times = _read_step(step or "", step or "")
    if not isinstance(fault, Fault) or probability < 1 or times is not None:
        raise ValueError(f"{step!r}: name only a kind here; probability and count are arguments of add().")
    return fault


def _read_step(text: str, spec: str) -> tuple[Fault | None, float, int | None]:
    match = _STEP.fullmatch(text.strip())
    if not match:
        raise ValueError(f"{spec!r}: cannot read {text.strip()!r}; write KIND, KIND:0.3, KIND x2 or KIND(after=3).")
    probability = float(match["probability"] or 1)
    times = int(match["times"]) if match["times"] else None
    if match["kind"] == OK:
        return None, probability, times
    return Fault(match["kind"], **_read_options(match["options"] or "", spec)), probability, times  # type: ignore[arg-type]


def _read_options(text: str, spec: str) -> dict[str, object]:
    readers = {"after": int, "seconds": float, "value": str}
    options: dict[str, object] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, _, value = part.partition("=")
        reader = readers.get(name.strip())
        if reader is None:
            raise ValueError(f"{spec!r}: no option {name.strip()!r}; the options are after, seconds and value.")
        options[name.strip()] = reader(value.strip())
    return options
