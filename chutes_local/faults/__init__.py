"""Faults on demand: their kinds, the plan that draws them, and how an answer is spoiled."""
