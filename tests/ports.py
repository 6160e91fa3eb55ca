"""Ports that are free, and stay free until the test uses them."""

from __future__ import annotations

import random
import socket

# Below those that the system gives to whoever asks for any port: no other program gets one of these in between.
_RANGE = range(10_240, 32_000)


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port at which nobody listens."""
    for port in random.SystemRandom().sample(_RANGE, 100):
        try:
            socket.create_server((host, port)).close()
        except OSError:
            continue
        return port
    raise AssertionError("of 100 ports none is free")
