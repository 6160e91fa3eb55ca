"""The sealed path: its routes, the proof of a machine, and how frames can be spoiled."""
