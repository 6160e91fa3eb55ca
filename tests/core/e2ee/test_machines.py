"""What clients of one process share: machines, for the same service, key and settings."""

from __future__ import annotations

import os

import pytest

from chutes_core.calls.clock import SystemClock
from chutes_core.e2ee import E2EE
from chutes_core.e2ee import machines as module
from chutes_core.e2ee.instances import Ask, Instance, Seat
from chutes_core.e2ee.machines import Registry, registry_for
from chutes_core.secrets.secret import Secret
from chutes_core.testing import VirtualClock

KEY, SETTINGS, URL = Secret("cpk_one"), E2EE(), "https://a.example"


def test_clients_with_the_same_key_share_machines() -> None:
    """A program may make a client for every request."""
    registry = Registry(VirtualClock())
    machines = registry.of(URL, SETTINGS, KEY)
    assert registry.of(URL, E2EE(), Secret("cpk_one")) is machines
    others = [
        registry.of("https://b.example", SETTINGS, KEY),
        registry.of(URL, E2EE(verify="off"), KEY),
        registry.of(URL, E2EE(verify="full", collateral=lambda raw: ""), KEY),
        registry.of(URL, SETTINGS, Secret("cpk_two")),
        registry.of(URL, SETTINGS, None),
    ]
    assert len({id(each) for each in [machines, *others]}) == 6


def test_questions_are_counted_for_a_service_whatever_the_key() -> None:
    """The service counts them for all together."""
    registry = Registry(VirtualClock())
    for number in range(10):
        assert isinstance(registry.of(URL, SETTINGS, Secret(f"cpk_{number}")).pool.take("c"), Ask)
    assert not isinstance(registry.of(URL, SETTINGS, KEY).pool.take("c"), Ask)
    assert isinstance(registry.of("https://b.example", SETTINGS, KEY).pool.take("c"), Ask)


def test_keys_are_not_kept_and_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what tells them apart, and of the last so many."""
    monkeypatch.setattr(module, "_MOST_KEYS", 3)
    registry = Registry(VirtualClock())
    first = registry.of(URL, SETTINGS, KEY)
    for number in range(3):
        registry.of(URL, SETTINGS, Secret(f"cpk_{number}"))
    assert "cpk_" not in repr(vars(registry))
    assert registry.of(URL, SETTINGS, KEY) is not first


def test_the_system_clock_has_one_registry_and_every_other_clock_its_own() -> None:
    """So that tests do not meet."""
    assert registry_for(SystemClock()) is registry_for(SystemClock())
    clock = VirtualClock()
    assert registry_for(clock) is not registry_for(clock)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_begins_without_numbers() -> None:
    """Both would use the same ones."""
    registry = registry_for(SystemClock())

    def turn() -> object:
        return registry.of(URL, SETTINGS, KEY).pool.take("c")

    ask = turn()
    assert isinstance(ask, Ask)
    registry.of(URL, SETTINGS, KEY).pool.answered(ask, [Instance("i", "k", ("1", "2"))], 60.0)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover
        os.write(writing, type(turn()).__name__.encode())
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    with os.fdopen(reading, "rb") as said:
        assert said.read() == b"Ask"
    assert isinstance(turn(), Seat)
