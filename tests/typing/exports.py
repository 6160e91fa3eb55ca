"""Read by mypy alone: what a user's type checker infers from the public names."""

from __future__ import annotations

from typing import assert_type

import chutes_core

assert_type(chutes_core.__version__, str)
