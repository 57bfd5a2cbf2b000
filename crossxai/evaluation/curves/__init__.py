"""Deletion and insertion, and the engine of masked copies: `evaluate` runs many metrics at once, `passes` and `memory`
say beforehand what it costs."""

from crossxai.evaluation.curves.deletion import Curve, Deletion, Insertion, evaluate, memory, passes

__all__ = ["Curve", "Deletion", "Insertion", "evaluate", "memory", "passes"]
