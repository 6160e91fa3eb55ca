"""``python -m chutes_cli``: the command where no script of its name is on the path."""

from __future__ import annotations

import sys

from chutes_cli import main

sys.exit(main())
