"""Deletion and insertion, and the engine that builds, scores and shares masked copies of samples for every metric.

`Deletion` and `Insertion` are the metrics, `evaluate` runs many at once, `passes` and `memory` say beforehand what it costs.
"""

from crossxai.evaluation.curves.deletion import Curve, Deletion, Insertion, evaluate, memory, passes

__all__ = ["Curve", "Deletion", "Insertion", "evaluate", "memory", "passes"]
