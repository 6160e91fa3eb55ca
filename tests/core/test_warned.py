"""Warnings point at whoever called the library."""

from __future__ import annotations

import threading
import warnings

from chutes_core import ChutesClient, Settings
from chutes_core.warned import warn


def test_the_callers_line() -> None:
    """Through all of the library's own frames."""
    with warnings.catch_warnings(record=True, action="always") as caught:
        Settings.resolve(base_url="http://127.0.0.1:9")
        ChutesClient("cpk_0123", base_url="http://127.0.0.1:9")
        warn("Something was changed.")
    assert {each.filename for each in caught} == {__file__}
    assert len({each.lineno for each in caught}) == 3


def test_a_thread_with_frames_of_libraries_alone() -> None:
    """No line of a library is blamed."""
    with warnings.catch_warnings(record=True, action="always") as caught:
        thread = threading.Thread(target=warn, args=("Something was changed.",))
        thread.start()
        thread.join()
    assert len(caught) == 1
    assert "chutes_core" not in caught[0].filename
