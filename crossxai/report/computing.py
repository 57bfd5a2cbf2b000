"""Findings about how models computed: what a reduced precision did to their outputs and gradients, as the run measured it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crossxai.report.run import RunRecord
from crossxai.report.words import Fact


@dataclass(frozen=True)
class Effect:
    """What the precision of one model did, on some samples; numbers are NaN where the manifest has none. See
    `crossxai.assumptions.reduced.Effect`. share: the largest difference over how far outputs vary."""

    model: str
    precision: str
    samples: int
    largest: float
    mean: float
    share: float
    changed: float
    gradients: int
    distance: float
    ranks: float


@dataclass(frozen=True)
class ReducedPrecision(Fact):
    """Models that ran in less precision than their weights have. of: whose class is predicted, a sample's or a pixel's."""

    effects: tuple[Effect, ...]
    of: str


def facts(run: RunRecord) -> list[Fact]:
    """What reduced precision did, if a model ran in one."""
    effects = [
        _effect(name, entry) for name in run.models if isinstance(entry := run.entry(name).get("precision"), Mapping)
    ]
    of = "pixel" if run.samples.task == "segmentation" else "sample"
    return [ReducedPrecision(models=run.models, effects=tuple(effects), of=of)] if effects else []


def _effect(model: str, entry: Mapping[str, Any]) -> Effect:
    numbers = {key: _number(entry.get(key)) for key in ("largest", "mean", "changed", "distance", "ranks")}
    spread = _number(entry.get("spread"))
    counts = (_number(entry.get(key)) for key in ("samples", "gradients"))
    samples, gradients = (int(value) if math.isfinite(value) else 0 for value in counts)
    share = numbers["largest"] / spread if spread > 0 else math.nan
    return Effect(model, str(entry.get("precision", "")), samples, share=share, gradients=gradients, **numbers)


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else math.nan
