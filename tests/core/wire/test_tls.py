"""An encrypted connection without I/O: whatever pieces its bytes come in, what is said arrives."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chutes_core.wire import pools
from chutes_core.wire.tls import Tls
from tests.core.wire.certificate import made


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate of 127.0.0.1."""
    return made(tmp_path_factory.mktemp("tls"))


def ends(certificate: Path, name: str = "127.0.0.1") -> tuple[Tls, Tls]:
    """A client that trusts the certificate, and the server that has it."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    client = ssl.create_default_context(cafile=str(certificate))
    return Tls(client, name), Tls(server, None, server_side=True)


def pass_on(giver: Tls, taker: Tls, step: int) -> None:
    """Bring what one end sends to the other, in pieces."""
    data = giver.to_send()
    for start in range(0, len(data), step):
        taker.take(data[start : start + step])


def shaken(client: Tls, server: Tls, step: int = 10_000) -> None:
    """Shake hands."""
    over = [False, False]
    for _ in range(10):
        over[0] = over[0] or client.shake_hands()
        pass_on(client, server, step)
        over[1] = over[1] or server.shake_hands()
        pass_on(server, client, step)
        if all(over):
            return
    raise AssertionError("the handshake does not end")


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=300), max_size=5), st.integers(1, 500))
def test_what_is_said_arrives(certificate: Path, said: list[bytes], step: int) -> None:
    """In both directions, byte by byte or all at once."""
    client, server = ends(certificate)
    shaken(client, server, step)
    for each in said:
        client.say(each)
        pass_on(client, server, step)
        server.say(server.said())
        pass_on(server, client, step)
    assert client.said() == b"".join(said)


def test_much_at_once(certificate: Path) -> None:
    """More than one record holds."""
    client, server = ends(certificate)
    shaken(client, server)
    client.say(bytes(1_000_000))
    pass_on(client, server, 100_000)
    assert server.said() == bytes(1_000_000)


def test_the_end(certificate: Path) -> None:
    """What was said before it is read, and then that nothing more will come."""
    client, server = ends(certificate)
    shaken(client, server)
    server.say(b"bye")
    with pytest.raises(ssl.SSLWantReadError):
        server.object.unwrap()
    pass_on(server, client, 1000)
    assert (client.said(), client.ended) == (b"bye", True)


def test_bytes_that_were_changed(certificate: Path) -> None:
    """Nothing of them is given out."""
    client, server = ends(certificate)
    shaken(client, server)
    client.said()
    server.say(b"a word")
    data = bytearray(server.to_send())
    data[-1] ^= 1
    client.take(bytes(data))
    with pytest.raises(ssl.SSLError):
        client.said()


@pytest.mark.parametrize("kind", ["Client", "AsyncClient"])
def test_what_connects_looks_at_certificates_and_names(kind: str) -> None:
    """The pools do, and so do the clients that choose a proxy for each request."""
    client: Any = pools._client(kind)
    contexts = {pools.ssl_context(), client._transport._pool._ssl_context}
    assert [(each.verify_mode, each.check_hostname) for each in contexts] == [(ssl.CERT_REQUIRED, True)]


def test_another_name(certificate: Path) -> None:
    """A certificate of somebody else is refused, and the other end is told."""
    client, server = ends(certificate, "127.0.0.2")
    with pytest.raises(ssl.SSLCertVerificationError):
        shaken(client, server)
    assert client.to_send()
