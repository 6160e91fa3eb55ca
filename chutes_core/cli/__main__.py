"""``python -m chutes_core.cli``: the command where no script of its name is on the path."""

from __future__ import annotations

import sys

from chutes_core.cli import main

sys.exit(main())
