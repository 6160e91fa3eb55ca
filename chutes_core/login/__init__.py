"""A stored login: created once with ``chutes-connect login``, then used by every client without a variable set.

:mod:`.store` keeps it, readable only by its owner; :mod:`.renew` renews it, one renewal at a time across threads and
processes; :mod:`.pkce`, :mod:`.loopback` and :mod:`.browser` create it, and need the extra ``cli``.

>>> import tempfile
>>> from chutes_core.secrets.secret import Secret
>>> with tempfile.TemporaryDirectory() as folder:
...     store = LoginStore(folder=folder)
...     store.save(StoredLogin.of_key(store.service, Secret("cpk_0123")))
...     store.load().access
Secret('cpk_****')
"""

from __future__ import annotations

from chutes_core.login.errors import LoginEndedError, LoginError
from chutes_core.login.store import LoginStore, StoredLogin

__all__ = ["LoginEndedError", "LoginError", "LoginStore", "StoredLogin"]
