"""Findings against what is known: maps that ignore the model, the known truth of labels, and regions with planted signals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, ClassVar

from crossxai.report import analysis, words
from crossxai.report.analysis import Row, Test, Verdict, scored
from crossxai.report.run import ORACLE, RunRecord
from crossxai.report.score_findings import Mean, means_of
from crossxai.report.words import Fact

FOUND = 0.8
"""The share of samples whose most relevant unit is in the signal from which an explainer counts as finding it."""


@dataclass(frozen=True)
class Against:
    """Explainers against one control by a metric on a model: those that are better, and those that are worse."""

    better: tuple[str, ...]
    worse: tuple[str, ...]
    total: int


@dataclass(frozen=True)
class AgainstControl:
    """One control and one metric, by model."""

    metric: str
    control: str
    models: Mapping[str, Against]

    @property
    def losing(self) -> dict[str, Against]:
        """Models on which more than half of the explainers are worse than the control."""
        return {m: x for m, x in self.models.items() if 2 * len(x.worse) > x.total}

    @property
    def better(self) -> dict[str, tuple[str, ...]]:
        """Model → the explainers that are better."""
        return {m: x.better for m, x in self.models.items()}


@dataclass(frozen=True)
class SimpleControls(Fact):
    """Explainers against maps that ignore the model and are no noise either. able: whether n samples
    or groups, can show any difference."""

    n: int
    counts: str
    able: bool
    comparisons: tuple[AgainstControl, ...]

    @property
    def few(self) -> bool:
        """Whether fewer than half of the explainers beat some control."""
        return any(2 * len(x.better) < x.total for c in self.comparisons for x in c.models.values())

    @property
    def strongest(self) -> AgainstControl | None:
        """The comparison in which the largest share of explainers, and more than half, is worse than a control."""
        losing = [c for c in self.comparisons if c.losing]
        return max(losing, key=lambda c: max(len(x.worse) / x.total for x in c.losing.values()), default=None)


@dataclass(frozen=True)
class TruthScore:
    """The mean of the known truth, its verdict against random ("" without one), and explainers better and worse than it."""

    mean: float
    versus: str
    better: tuple[str, ...]
    worse: int
    total: int


@dataclass(frozen=True)
class KnownTruth(Fact):
    """Whether metrics can tell the known truth from noise, by metric and model."""

    control: str
    scores: Mapping[str, Mapping[str, TruthScore]]

    @property
    def blind(self) -> dict[str, list[str]]:
        """Metric → the models on which the truth is not shown to beat random; metrics without such a model left out."""
        failing = {
            metric: [m for m, x in scores.items() if x.versus not in ("", "better")]
            for metric, scores in self.scores.items()
        }
        return {metric: models for metric, models in failing.items() if models}

    def better(self, metric: str) -> dict[str, tuple[str, ...]]:
        """Model → explainers better than the truth."""
        return {m: x.better for m, x in self.scores[metric].items()}


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


@dataclass(frozen=True)
class Planted(Fact):
    """Who finds a planted signal: means of a pointing game by model. blind: controls that never look at the model and find it."""

    mark: ClassVar[float] = FOUND
    metric: str
    region: str
    area: float
    means: Mapping[str, tuple[Mean, ...]]
    blind: Mapping[str, tuple[str, ...]]

    @property
    def best(self) -> dict[str, Mean]:
        """Model → the explainer that finds it most often."""
        return {m: max(means, key=lambda x: x.mean) for m, means in self.means.items()}


def facts(run: RunRecord, rows: Sequence[Row]) -> list[Fact]:
    """What the comparisons with controls other than random say, and every metric that is about a region."""
    collected: list[Fact] = []
    controls = _simple_controls(run)
    if controls:
        least = [analysis.least_p(_tests(run, m, c.metric, c.control)) for c in controls for m in c.models]
        able = min(least) < analysis.ALPHA
        collected.append(
            SimpleControls(models=run.models, n=run.units, counts=run.unit, able=able, comparisons=controls)
        )
    if truth := _known_truth(run, rows):
        collected.append(KnownTruth(models=run.models, control=ORACLE, scores=truth))
    return [*collected, *_regions(run, rows)]


def _simple_controls(run: RunRecord) -> tuple[AgainstControl, ...]:
    """Against every control but random and oracles."""
    comparisons = (
        AgainstControl(*pair, {m: _against(tests) for m in run.models if (tests := _tests(run, m, *pair))})
        for pair in product(run.curves, run.simple_controls)
    )
    return tuple(c for c in comparisons if c.models)


def _tests(run: RunRecord, model: str, metric: str, control: str) -> dict[str, Test]:
    """The tests of explainers against a control that could be made."""
    tests = analysis.against(run, model, metric, control, libraries_only=True)
    return {label: test for label, test in tests.items() if test.verdict != "no test"}


def _against(tests: Mapping[str, Test]) -> Against:
    ordered = sorted(tests, key=lambda label: -abs(tests[label].difference))
    better, worse = (tuple(x for x in ordered if tests[x].verdict == verdict) for verdict in ("better", "worse"))
    return Against(better, worse, len(tests))


def _known_truth(run: RunRecord, rows: Sequence[Row]) -> dict[str, dict[str, TruthScore]]:
    truth: dict[str, dict[str, TruthScore]] = {}
    for metric in run.curves:
        for row in (r for r in rows if r.label == ORACLE and metric in r.cells):
            tests = analysis.against(run, row.model, metric, ORACLE, libraries_only=True)
            if tests:
                cell, verdicts = row.cells[metric], {x: t.verdict for x, t in tests.items()}
                better = tuple(x for x, v in verdicts.items() if v == "better")
                worse = sum(v == "worse" for v in verdicts.values())
                own = (cell.summary.mean, cell.versus.verdict if cell.versus else "")
                truth.setdefault(metric, {})[row.model] = TruthScore(*own, better, worse, len(tests))
    return truth


def _regions(run: RunRecord, rows: Sequence[Row]) -> list[Fact]:
    """Of every metric that is about a region."""
    collected: list[Fact] = []
    for metric in run.metrics:
        name = region(run, metric)
        signal = run.kinds[metric] == "pointing" and run.samples.truth and name.startswith("the planted")
        if signal and (means := means_of(run, rows, metric)):
            area = next((c.area for r in rows if (c := r.cells.get(metric)) and math.isfinite(c.area)), math.nan)
            blind = {m: _blind(rows, m, metric) for m in means}
            collected.append(Planted(run.models, metric, name, area, means, blind))
        shares = {model: own for model in run.models if (own := _shares(rows, model, metric))}
        if shares:
            area = max(next(iter(shares.values())), key=lambda x: x.n).area
            pointing = run.kinds[metric] == "pointing"
            collected.append(InRegion(run.models, metric, name, pointing, area, run.n, shares))
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


def region(run: RunRecord, metric: str) -> str:
    """What a share metric's region is called: `the centre 32 × 32 pixels`, `the stain mask`."""
    held = (e.scores[metric].params for e in run.explanations if metric in e.scores)
    params = {**_settings(run, metric), **next(held, {})}
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


def _only(run: RunRecord, labels: Any) -> str:
    """Of which classes' samples a metric speaks, if not of all."""
    classes = run.samples.classes
    chosen = [x for x in labels if isinstance(x, int)] if isinstance(labels, list) else []
    only = [classes[x] if 0 <= x < len(classes) else str(x) for x in chosen]
    return f" of {words.listing(only)} samples" if only else ""


def _settings(run: RunRecord, metric: str) -> Mapping[str, Any]:
    """The metric's parameters in the experiment, which name the mask that the scores themselves only hold as numbers."""
    settings = run.manifest.get("settings")
    listed = settings.get("metrics") if isinstance(settings, Mapping) else None
    entries = [x for x in listed if isinstance(x, Mapping)] if isinstance(listed, list) else []
    params = (x.get("params") for x in entries if (x.get("label") or x.get("name")) == metric)
    return next((dict(own) for own in params if isinstance(own, Mapping)), {})
