"""Findings about maps: where libraries and frameworks agree, which maps order nothing or little, and which do not add up."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from crossxai.report.analysis import Row
from crossxai.report.comparison import LibraryPair, Maps, ModelPair
from crossxai.report.run import RunRecord
from crossxai.report.words import Fact

SAME_RANKS = 0.9995  # rounds to 1.000
SMALL_ERROR = 5e-4  # rounds to 0.000
MANY_TIES = 0.5


@dataclass(frozen=True)
class LibrariesAgree(Fact):
    """Where libraries agree about a method of the same name on the same model. pairs: the least alike first."""

    same: ClassVar[float] = SAME_RANKS
    pairs: tuple[LibraryPair, ...]

    @property
    def groups(self) -> list[dict[str, LibraryPair]]:
        """Two explainers by model."""
        couples = dict.fromkeys((p.first, p.second) for p in self.pairs)
        by = {(p.first, p.second, p.model): p for p in self.pairs}
        return [{m: by[*couple, m] for m in self.models if (*couple, m) in by} for couple in couples]

    @property
    def profiles(self) -> list[dict[str, tuple[LibraryPair, LibraryPair]]]:
        """Two libraries with their defaults and with the canonical profile, by model."""
        native = {(p.model, p.method, *p.libraries): p for p in self.pairs if p.profile == "native"}
        groups: dict[tuple[str, ...], dict[str, tuple[LibraryPair, LibraryPair]]] = {}
        for pair in self.pairs:
            before = native.get((pair.model, pair.method, *pair.libraries))
            if pair.profile == "canonical" and before is not None:
                groups.setdefault((pair.method, *pair.libraries), {})[pair.model] = (before, pair)
        return list(groups.values())


@dataclass(frozen=True)
class FrameworksAgree(Fact):
    """Where two models agree about the same explainer. score_gap: the largest difference of their explained scores, NaN if
    unknown. weights: "same" or "different" files, "" if unknown."""

    alike: ClassVar[float] = SAME_RANKS
    small: ClassVar[float] = SMALL_ERROR
    first: str
    second: str
    pairs: tuple[ModelPair, ...]
    score_gap: float
    weights: str


@dataclass(frozen=True)
class Broken:
    """An explainer's degenerate maps on a model: how many of each kind, and per class (name, degenerate, all), if known."""

    label: str
    model: str
    kinds: Mapping[str, int]
    maps: int
    classes: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True)
class Degenerate(Fact):
    """Maps that are constant, zero or not finite, the explainer with most of them first."""

    maps: int
    broken: tuple[Broken, ...]

    @property
    def bad(self) -> int:
        """How many there are."""
        return sum(sum(b.kinds.values()) for b in self.broken)


@dataclass(frozen=True)
class Ties(Fact):
    """Explainers most of whose units share their value with another: their tie rates by model."""

    rates: Mapping[str, Mapping[str, float]]

    def rate(self, label: str) -> float:
        """An explainer's tie rate, on the last model that has it."""
        return [rates[label] for rates in self.rates.values() if label in rates][-1]


@dataclass(frozen=True)
class Completeness(Fact):
    """By explainer and model, how far maps that should add up to the change of the score are from it, on average."""

    gaps: Mapping[str, Mapping[str, float]]

    @property
    def largest(self) -> float:
        """The largest gap."""
        return max(gap for gaps in self.gaps.values() for gap in gaps.values())


def facts(run: RunRecord, rows: Sequence[Row], maps: Maps) -> list[Fact]:
    """What maps say, beside each other and by themselves."""
    collected: list[Fact] = []
    pairs = sorted((p for p in maps.libraries if math.isfinite(p.spearman.mean)), key=lambda p: p.spearman.mean)
    if pairs:
        collected.append(LibrariesAgree(models=run.models, pairs=tuple(pairs)))
    collected += _frameworks(run, maps)
    if total := sum(r.maps for r in rows):
        collected.append(Degenerate(models=run.models, maps=total, broken=_broken(run, rows)))
    tied = [r for r in rows if not r.control and r.tie_rate > MANY_TIES]
    ties = {m: {r.label: r.tie_rate for r in tied if r.model == m} for m in run.models}
    if tied:
        collected.append(Ties(models=run.models, rates=ties))
    gaps: dict[str, dict[str, float]] = {}
    for e in run.explanations:
        if "completeness_gap" in e.attribution.extras:
            gaps.setdefault(e.label, {})[e.model] = float(np.abs(e.attribution.extras["completeness_gap"]).mean())
    return [*collected, Completeness(models=run.models, gaps=gaps)] if gaps else collected


def _frameworks(run: RunRecord, maps: Maps) -> list[FrameworksAgree]:
    """One fact per pair of models of two frameworks. Where a run has one network in both, pairs of other weights are left out:
    their maps ought to differ."""
    names = dict.fromkeys((p.first, p.second) for p in maps.models)
    couples = {(a, b): _weights(run, a, b) for a, b in names if run.framework(a) != run.framework(b)}
    twins = [couple for couple, weights in couples.items() if weights == "same"]
    frameworks = []
    for first, second in twins or couples:
        pairs = [p for p in maps.models if (p.first, p.second) == (first, second) and not p.control]
        pairs = [p for p in pairs if math.isfinite(p.spearman.mean)]
        scores = [run.predictions[m].score for m in (first, second) if m in run.predictions]
        gap = float(np.abs(scores[0] - scores[1]).max()) if len(scores) == 2 else math.nan
        if pairs:
            weights = couples[first, second]
            frameworks.append(FrameworksAgree(run.models, first, second, tuple(pairs), gap, weights))
    return frameworks


def _weights(run: RunRecord, first: str, second: str) -> str:
    """Whether the two models are the same model at all."""
    one, two = (run.entry(model).get("weights_sha256") for model in (first, second))
    return "" if not one or not two else "same" if one == two else "different"


def _broken(run: RunRecord, rows: Sequence[Row]) -> tuple[Broken, ...]:
    broken = sorted((r for r in rows if r.degenerate), key=lambda r: -sum(r.degenerate.values()))
    return tuple(Broken(r.label, r.model, r.degenerate, r.maps, _classes(run, r)) for r in broken)


def _classes(run: RunRecord, row: Row) -> tuple[tuple[str, int, int], ...]:
    """Of which classes the degenerate maps are: an explainer that fails on one class alone says so."""
    classes = run.samples.classes
    if getattr(run.samples, "task", "classification") != "classification" or len(classes) < 2:
        return ()
    bad = np.array([bool(kind) for kind in run.of(row.model)[row.label].degenerate])
    labels = np.asarray(run.samples.labels)
    if bad.shape != labels.shape:
        return ()  # an explainer of several modalities counts each map
    counts = [(name, int((bad & (labels == k)).sum()), int((labels == k).sum())) for k, name in enumerate(classes)]
    return tuple(count for count in counts if count[2])
