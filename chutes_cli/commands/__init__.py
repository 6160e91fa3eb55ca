"""One module for each command of ``chutes-connect``, with ``add(commands)`` that registers it."""
