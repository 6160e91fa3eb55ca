"""Faults, and the plan that decides which request gets which.

A plan is a list of rules, checked in order on every attempt at a model; the first that fires wins. Rules that are *set*
replace those with the same target and come first; rules that are *added* come last, and replace a rule with the same
target that would never have let them have a turn. As text a rule
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

import difflib
import random
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TypeVar

from chutes_local.faults.kinds import Fault, Phase

T = TypeVar("T")
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
    dice: random.Random = field(default_factory=random.Random)
    drawn: int = field(default=0)

    @property
    def is_endless(self) -> bool:
        """Whether no other rule for the same target will ever have a turn after this one."""
        return self.left is None and self.probability >= 1

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

    def __init__(self, *specs: str, seed: int = 0, models: Sequence[str] = ()) -> None:
        """Parse the rules in ``specs``; ``seed`` makes probabilities reproducible.

        If ``models`` are named, a rule must be for one of them, or for a path.
        """
        self.seed, self.models = seed, tuple(models)
        self._lock = threading.Lock()
        self._rules: list[_Rule] = []
        self.parse(*specs)

    def add(self, target: str, fault: Fault | str, *, probability: float = 1.0, times: int | None = None) -> FaultPlan:
        """Let ``fault`` strike ``target``: always, with a probability, or only the first ``times`` times."""
        return self._append(self._rule(target, [fault], probability, times))

    def script(self, target: str, steps: Iterable[Fault | str | None]) -> FaultPlan:
        """Use one step per request to ``target``; ``None`` or ``"ok"`` lets the request succeed.

        >>> plan = FaultPlan().script("m", ["cold", None, "reset"])
        >>> [str(plan.draw("m")) for _ in range(4)]
        ['cold', 'None', 'reset', 'None']
        """
        listed = list(steps)
        return self._append(self._rule(target, listed, 1.0, len(listed)))

    def parse(self, *specs: str) -> FaultPlan:
        """Add rules written as text, all or none; see the module docstring."""
        return self._append(*self._read(specs))

    def set(self, *specs: str) -> FaultPlan:
        """Set rules written as text: they replace those with the same targets, and come before all others.

        >>> FaultPlan("a=cold", "*=auth").set("a=capacity x1").describe()
        ['a=capacity (1 left)', '*=auth']
        """
        return self.take(FaultPlan(*specs, seed=self.seed, models=self.models))

    def take(self, other: FaultPlan) -> FaultPlan:
        """Set the rules of another plan, and its seed."""
        new = list(other._rules)
        with self._lock:
            self.seed = other.seed
            targets = {rule.target for rule in new}
            self._rules = [*new, *(rule for rule in self._rules if rule.target not in targets)]
        return self

    def _read(self, specs: Iterable[str]) -> Iterator[_Rule]:
        for spec in specs:
            target, equals, right = spec.partition("=")
            if not equals or not target.strip() or not right.strip():
                raise ValueError(f"{spec!r} is not a fault rule: use TARGET=KIND, such as '*=capacity:0.3'.")
            steps = [_read_step(part, spec) for part in right.split(">")]
            if len(steps) == 1:
                fault, probability, times = steps[0]
                yield self._rule(target.strip(), [fault], probability, times)
                continue
            if any(probability < 1 for _, probability, _ in steps):
                raise ValueError(f"{spec!r}: a step of a script takes no probability.")
            script = [fault for fault, _, times in steps for _ in range(1 if times is None else times)]
            yield self._rule(target.strip(), script, 1.0, len(script))

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

    def _rule(self, target: str, steps: Sequence[Fault | str | None], probability: float, times: int | None) -> _Rule:
        faults = tuple(None if step in (None, OK) else as_fault(step) for step in steps)
        if not faults:
            raise ValueError(f"The script for {target!r} has no steps.")
        if isinstance(probability, bool) or not isinstance(probability, int | float) or not 0 <= probability <= 1:
            raise ValueError(f"{target}: the probability must be between 0 and 1, not {probability!r}.")
        if times is not None and (isinstance(times, bool) or not isinstance(times, int) or times < 1):
            raise ValueError(f"{target}: times must be a whole number of at least 1, not {times!r}.")
        late = [fault.kind for fault in faults if fault and fault.phase is Phase.STREAM]
        if target.startswith("/") and late:
            raise ValueError(f"{target} is a path, but {late[0]} strikes inside a model's answer: name a model.")
        self._check_target(target)
        return _Rule(target, faults, probability, times)

    def _check_target(self, target: str) -> None:
        """Refuse a rule that could never strike, since no model here has such a name."""
        known = any(fnmatchcase(name, target) for name in self.models)
        if known or not self.models or target.startswith("/"):
            return
        near = difflib.get_close_matches(target, self.models, n=3, cutoff=0.4) or self.models[:3]
        raise ValueError(f"There is no model {target!r} here. Did you mean {' or '.join(near)}?")

    def _append(self, *rules: _Rule) -> FaultPlan:
        with self._lock:
            for rule in rules:
                kept = [each for each in self._rules if not (each.target == rule.target and each.is_endless)]
                rule.dice.seed(f"{self.seed}/{len(kept)}/{rule.target}")
                self._rules = [*kept, rule]
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
    probability = _option("the probability", float, match["probability"] or "1", spec)
    times = _option("the count", int, match["times"], spec) if match["times"] else None
    if match["kind"] == OK:
        return None, probability, times
    return Fault(match["kind"], **_read_options(match["options"] or "", spec)), probability, times  # type: ignore[arg-type]


def _read_options(text: str, spec: str) -> dict[str, object]:
    readers: dict[str, Callable[[str], object]] = {"after": int, "seconds": float, "value": str}
    options: dict[str, object] = {}
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        name, _, value = (piece.strip() for piece in part.partition("="))
        reader = readers.get(name)
        if reader is None:
            raise ValueError(f"{spec!r}: no option {name!r}; the options are after, seconds and value.")
        if name in options:
            raise ValueError(f"{spec!r}: {name} is given twice.")
        options[name] = _option(name, reader, value, spec)
    return options


def _option(name: str, reader: Callable[[str], T], text: str, spec: str) -> T:
    try:
        return reader(text)
    except ValueError:
        kind = "a whole number" if reader is int else "a number"
        raise ValueError(f"{spec!r}: {name} must be {kind}, not {text[:40]!r}.") from None
