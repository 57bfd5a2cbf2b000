"""What the ends of a run's curves say of its areas: how much an order of units can gain, and whether the model extrapolates."""

from __future__ import annotations

import math
from dataclasses import dataclass

from crossxai.model import Array
from crossxai.report import analysis
from crossxai.report.run import Run

SMALL = 0.2  # of the larger end: the ends of the curves are alike
FAR = 1.0  # widths of the scores of whole inputs, outside them: the model extrapolates


@dataclass(frozen=True)
class Ends:
    """The mean scores at both ends of a model's curves, and the mean curves' extreme if it lies far beyond both, else NaN."""

    start: float
    end: float
    extreme: float

    @property
    def passes_both(self) -> bool:
        """Whether a mean curve goes far beyond both ends."""
        return math.isfinite(self.extreme)


@dataclass(frozen=True)
class Scale:
    """The lowest and the highest score of whole inputs, and of the mean curves."""

    low: float
    high: float
    lowest: float
    highest: float


def alike_ends(run: Run, metric: str) -> dict[str, Ends]:
    """Models whose curves end about where they start: no order can make much difference, unless half removed moves the model
    more than wholly removed."""
    found = {}
    for model, curves in _curves(run, metric).items():
        # All curves of a model share both ends: nothing changed, and everything changed.
        start, end = float(curves[0][0]), float(curves[0][-1])
        size = max(abs(start), abs(end))
        if abs(end - start) >= SMALL * size:
            continue
        lowest, highest = _extremes(curves)
        below, above = min(start, end) - lowest, highest - max(start, end)
        extreme = math.nan if max(below, above) <= SMALL * size else lowest if below >= above else highest
        found[model] = Ends(start, end, extreme)
    return found


def off_scale(run: Run, metric: str) -> dict[str, Scale]:
    """Models of a regression whose curves leave the scores of whole inputs by far: they are fed what they never saw."""
    found: dict[str, Scale] = {}
    if getattr(run.samples, "task", "classification") != "regression":
        return found
    for model, curves in _curves(run, metric).items():
        one = next(c for e in run.of(model).values() if (c := analysis.mean_curve(e, metric)) is not None)[1]
        whole = one[:, 0] if run.kinds[metric] == "deletion" else one[:, -1]
        low, high = float(whole.min()), float(whole.max())
        lowest, highest = _extremes(curves)
        if min(lowest - low, high - highest) < -FAR * (high - low) and len(whole) > 1:
            found[model] = Scale(low, high, lowest, highest)
    return found


def changed(run: Run, metric: str) -> str:
    """What a curve does to units, step by step."""
    return "removed" if run.kinds[metric] == "deletion" else "put back"


def units(run: Run, metric: str) -> str:
    """What is ranked: pixels of an image, columns of a table."""
    name = run.modality(metric)
    kinds = {"pixels" if m.spatial else "columns" for m in run.samples.modalities if name in ("", m.name)}
    return kinds.pop() if len(kinds) == 1 else "units"


def _extremes(curves: list[Array]) -> tuple[float, float]:
    return min(float(c.min()) for c in curves), max(float(c.max()) for c in curves)


def _curves(run: Run, metric: str) -> dict[str, list[Array]]:
    """Model → the mean curves of its explainers; models without any left out."""
    found = {
        model: [c[1].mean(axis=0) for e in run.of(model).values() if (c := analysis.mean_curve(e, metric)) is not None]
        for model in run.models
    }
    return {model: curves for model, curves in found.items() if curves}
