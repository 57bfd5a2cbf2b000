"""Findings about regions: whether relevance goes to them, whether explainers find a planted signal, and what they are called."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from crossxai.report import words
from crossxai.report.analysis import Row, Verdict, scored
from crossxai.report.run import ORACLE, Run
from crossxai.report.score_findings import Mean, means_of
from crossxai.report.wording import Fact, Tone

FOUND = 0.8
"""The share of samples whose most relevant unit is in the signal from which an explainer counts as finding it."""


@dataclass(frozen=True)
class RegionShare:
    """An explainer's mean share of relevance in a region, the region's share of the area, and the test of both."""

    label: str
    mean: float
    low: float
    high: float
    area: float
    p: float
    verdict: Verdict
    n: int
    missing: int

    @property
    def times(self) -> float:
        """How many times the share of the area; NaN for a region without area."""
        return self.mean / self.area if self.area else math.nan


@dataclass(frozen=True)
class InRegion(Fact):
    """Whether positive relevance goes to a region more than its size explains. shares: by model, the highest first. pointing: the
    share is that of samples whose most relevant unit is in the region."""

    key: ClassVar[str] = "in_region"
    rank: ClassVar[float] = 55
    metric: str
    region: str
    pointing: bool
    area: float
    n: int
    shares: Mapping[str, tuple[RegionShare, ...]]

    @property
    def highest(self) -> dict[str, RegionShare]:
        """Model → the explainer with the highest share."""
        return {m: shares[0] for m, shares in self.shares.items()}

    def labels(self, verdict: Verdict) -> dict[str, list[str]]:
        """Model → the explainers with this verdict against the area."""
        return {m: [x.label for x in shares if x.verdict == verdict] for m, shares in self.shares.items()}


@dataclass(frozen=True)
class Planted(Fact):
    """Who finds a planted signal: means of a pointing game by model. blind: controls that never look at the model and find it."""

    key: ClassVar[str] = "planted"
    rank: ClassVar[float] = 92
    mark: ClassVar[float] = FOUND
    metric: str
    region: str
    area: float
    means: Mapping[str, tuple[Mean, ...]]
    blind: Mapping[str, tuple[str, ...]]

    @property
    def tone(self) -> Tone:
        """A warning where nobody finds it."""
        return "good" if any(self.finders.values()) else "warning"

    @property
    def finders(self) -> dict[str, list[str]]:
        """Model → explainers that find it."""
        return {m: [x.label for x in means if x.mean >= FOUND] for m, means in self.means.items()}

    @property
    def best(self) -> dict[str, Mean]:
        """Model → the explainer that finds it most often."""
        return {m: max(means, key=lambda x: x.mean) for m, means in self.means.items()}


def facts(run: Run, rows: Sequence[Row]) -> list[Fact]:
    """Of every metric that is about a region."""
    collected: list[Fact] = []
    for metric in run.metrics:
        name = region(run, metric)
        signal = run.kinds[metric] == "pointing" and run.samples.truth and name.startswith("the planted")
        if signal and (means := means_of(run, rows, metric)):
            area = next((c.area for r in rows if (c := r.cells.get(metric)) and math.isfinite(c.area)), math.nan)
            blind = {m: _blind(rows, m, metric) for m in means}
            collected.append(
                Planted(models=run.models, metric=metric, region=name, area=area, means=means, blind=blind)
            )
        shares = {model: own for model in run.models if (own := _shares(rows, model, metric))}
        if shares:
            area = max(next(iter(shares.values())), key=lambda x: x.n).area
            pointing = run.kinds[metric] == "pointing"
            collected.append(
                InRegion(
                    models=run.models, metric=metric, region=name, pointing=pointing, area=area, n=run.n, shares=shares
                )
            )
    return collected


def _shares(rows: Sequence[Row], model: str, metric: str) -> tuple[RegionShare, ...]:
    shares = []
    for row in scored(rows, model, metric):
        cell = row.cells[metric]
        mean, test = cell.summary, cell.against_area
        if test is not None:
            numbers = (mean.mean, mean.low, mean.high, cell.area, test.p_holm)
            shares.append(RegionShare(row.label, *numbers, test.verdict, mean.n, mean.n_missing))
    return tuple(sorted(shares, key=lambda x: -x.mean))


def _blind(rows: Sequence[Row], model: str, metric: str) -> tuple[str, ...]:
    """The controls that reach the mark without looking at model or truth."""
    controls = [r for r in rows if r.model == model and r.control and r.label != ORACLE and metric in r.cells]
    return tuple(r.label for r in controls if r.cells[metric].summary.mean >= FOUND)


def region(run: Run, metric: str) -> str:
    """What a share metric's region is called: `the centre 32 × 32 pixels`, `the stain mask`."""
    params = {**_settings(run, metric), **_params(run, metric)}
    only = _only(run, params.get("labels"))
    if "size" in params:
        return f"the centre {params['size']} × {params['size']} pixels{only}"
    if params.get("mask") == "truth":
        data = run.manifest.get("data")
        what = "planted signal" if isinstance(data, Mapping) and data.get("structure") else "truth"
        return f"the {what} of {run.modality(metric) or run.samples.modalities[0].name}"
    masks = list(run.samples.masks)
    mask = str(params.get("mask") or (masks[0] if len(masks) == 1 else ""))
    if not mask:
        return f"the region of {metric}"
    return f"the {mask} mask{only}"


def _only(run: Run, labels: Any) -> str:
    """Of which classes' samples a metric speaks, if not of all."""
    classes = run.samples.classes
    chosen = [x for x in labels if isinstance(x, int)] if isinstance(labels, list) else []
    only = [classes[x] if 0 <= x < len(classes) else str(x) for x in chosen]
    return f" of {words.listing(only)} samples" if only else ""


def _params(run: Run, metric: str) -> Mapping[str, Any]:
    return next((e.scores[metric].params for e in run.explanations if metric in e.scores), {})


def _settings(run: Run, metric: str) -> Mapping[str, Any]:
    """The metric's parameters in the experiment, which name the mask that the scores themselves only hold as numbers."""
    settings = run.manifest.get("settings")
    listed = settings.get("metrics") if isinstance(settings, Mapping) else None
    for entry in listed if isinstance(listed, list) else []:
        if (
            isinstance(entry, Mapping)
            and (entry.get("label") or entry.get("name")) == metric
            and isinstance(entry.get("params"), Mapping)
        ):
            return dict(entry["params"])
    return {}
