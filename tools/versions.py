"""Print the installed version of each distribution named on the command line."""

from __future__ import annotations

import sys
from importlib.metadata import version

if __name__ == "__main__":
    print(" ".join(f"{name} {version(name)}" for name in sys.argv[1:]))
