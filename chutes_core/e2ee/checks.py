"""Checks for the frameworks when a model is created with ``e2ee=``: whether it can work at all."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from chutes_core.catalog.catalog import Catalog
from chutes_core.e2ee.attest import require_dcap
from chutes_core.e2ee.seal import require_crypto
from chutes_core.e2ee.settings import E2EE, check_headers, check_known

__all__ = ["checked", "plain"]


def checked(
    wish: object, *, model: str, headers: Mapping[str, str] | None, catalog: Callable[[], Catalog]
) -> bool | E2EE:
    """Return the ``e2ee`` setting in the form a client accepts; raise, with the reason, if it cannot work.

    Args:
        wish: True, False, an ``E2EE``, or a table with its settings.
        model: The model to be asked.
        headers: The headers of every request.
        catalog: Returns the catalogue; called only if requests are to be sealed.

    Raises:
        ConfigurationError: It cannot work; a missing package is named.

    >>> checked(True, model="Qwen/Qwen3-32B-TEE", headers=None, catalog=Catalog.bundled)
    True
    >>> checked(True, model="a/one,b/two", headers=None, catalog=Catalog.bundled)
    Traceback (most recent call last):
    chutes_core.errors.RequestRefusedError: Under e2ee the gateway cannot choose among models, ...
    """
    settings = E2EE.of(wish)
    if settings is None:
        return False
    require_crypto()
    if settings.verify == "full":
        require_dcap()
    check_headers(headers or {})
    check_known(model, catalog(), verify=settings.verify, chutes=settings.chutes)
    return True if wish is True else settings


def plain(wish: bool | E2EE) -> bool | dict[str, object]:
    """Return the setting as plain data, which :func:`checked` reads.

    >>> plain(E2EE(verify="off")), plain(True)
    ({'verify': 'off'}, True)
    """
    return wish.to_dict() if isinstance(wish, E2EE) else wish
