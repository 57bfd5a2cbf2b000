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
from crossxai.report.words import Fact, Tone

SAME_RANKS = 0.9995  # rounds to 1.000
SMALL_ERROR = 5e-4  # rounds to 0.000
MANY_TIES = 0.5


@dataclass(frozen=True)
class Libraries(Fact):
    """Where libraries agree about a method of the same name on the same model. pairs: the least alike first."""

    key: ClassVar[str] = "libraries_agree"
    rank: ClassVar[float] = 70
    same: ClassVar[float] = SAME_RANKS
    pairs: tuple[LibraryPair, ...]

    @property
    def tone(self) -> Tone:
        """Good where all agree."""
        return "good" if self.agree else "warning" if self.lowest.spearman.mean < 0.9 else "plain"

    @property
    def agree(self) -> bool:
        """Whether every pair ranks the units alike."""
        return self.lowest.spearman.mean >= SAME_RANKS

    @property
    def lowest(self) -> LibraryPair:
        """The pair that agrees least."""
        return self.pairs[0]

    @property
    def highest(self) -> LibraryPair:
        """The pair that agrees most."""
        return self.pairs[-1]

    @property
    def groups(self) -> list[dict[str, LibraryPair]]:
        """Two explainers by model."""
        groups: dict[tuple[str, str], dict[str, LibraryPair]] = {}
        for pair in self.pairs:
            groups.setdefault((pair.first, pair.second), {})[pair.model] = pair
        order = list(self.models)
        return [dict(sorted(group.items(), key=lambda item: order.index(item[0]))) for group in groups.values()]

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
class Frameworks(Fact):
    """Where two models agree about the same explainer. score_gap: the largest difference of their explained scores, NaN if
    unknown. weights: "same" or "different" files, "" if unknown."""

    key: ClassVar[str] = "frameworks_agree"
    rank: ClassVar[float] = 65
    small: ClassVar[float] = SMALL_ERROR
    first: str
    second: str
    pairs: tuple[ModelPair, ...]
    score_gap: float
    weights: str

    @property
    def tone(self) -> Tone:
        """Good where all deterministic explainers agree, a warning where one is far off."""
        if self.other and self.other[0].spearman.mean < 0.9:
            return "warning"
        return "good" if self.fixed and not self.other else "plain"

    @property
    def knows_scores(self) -> bool:
        """Whether the scores of both models are known."""
        return math.isfinite(self.score_gap)

    @property
    def fixed(self) -> list[ModelPair]:
        """Deterministic explainers."""
        return [p for p in self.pairs if not p.stochastic]

    @property
    def same(self) -> list[ModelPair]:
        """Deterministic explainers that rank the units alike on every sample."""
        return [p for p in self.fixed if p.spearman_min >= SAME_RANKS]

    @property
    def other(self) -> list[ModelPair]:
        """Deterministic explainers that do not, the least alike first."""
        return sorted((p for p in self.fixed if p.spearman_min < SAME_RANKS), key=lambda p: p.spearman.mean)

    @property
    def worst(self) -> ModelPair:
        """Of those that rank alike, the one whose values differ most."""
        return max(self.same, key=lambda p: p.error_max)

    @property
    def exact(self) -> int:
        """How many of them differ by less than what rounds to zero."""
        return sum(p.error_max < SMALL_ERROR for p in self.same)

    @property
    def close(self) -> list[ModelPair]:
        """Explainers that draw random numbers, and yet rank alike."""
        return [p for p in self.pairs if p.stochastic and p.spearman_min >= SAME_RANKS]

    @property
    def drawn(self) -> list[ModelPair]:
        """Explainers that draw random numbers and differ, the least alike first."""
        differing = [p for p in self.pairs if p.stochastic and p.spearman_min < SAME_RANKS]
        return sorted(differing, key=lambda p: p.spearman.mean)


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

    key: ClassVar[str] = "degenerate"
    maps: int
    broken: tuple[Broken, ...]

    @property
    def bad(self) -> int:
        """How many there are."""
        return sum(sum(b.kinds.values()) for b in self.broken)

    @property
    def share(self) -> float:
        """Their share of all maps."""
        return self.bad / self.maps

    @property
    def weight(self) -> float:
        """The higher the more there are."""
        return 50 + 60 * self.share if self.broken else 20

    @property
    def tone(self) -> Tone:
        """A warning where there is any."""
        return "warning" if self.broken else "good"


@dataclass(frozen=True)
class Ties(Fact):
    """Explainers most of whose units share their value with another: their tie rates by model."""

    key: ClassVar[str] = "ties"
    rank: ClassVar[float] = 30
    rates: Mapping[str, Mapping[str, float]]

    @property
    def labels(self) -> list[str]:
        """The explainers."""
        return list(dict.fromkeys(label for rates in self.rates.values() for label in rates))

    def rate(self, label: str) -> float:
        """An explainer's tie rate, on the last model that has it."""
        return [rates[label] for rates in self.rates.values() if label in rates][-1]


@dataclass(frozen=True)
class Completeness(Fact):
    """By explainer and model, how far maps that should add up to the change of the score are from it, on average."""

    key: ClassVar[str] = "completeness"
    rank: ClassVar[float] = 20
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
        collected.append(Libraries(models=run.models, pairs=tuple(pairs)))
    collected += _frameworks(run, maps)
    if total := sum(r.maps for r in rows):
        collected.append(Degenerate(models=run.models, maps=total, broken=_broken(run, rows)))
    tied = [r for r in rows if not r.control and r.tie_rate > MANY_TIES]
    ties = {m: {r.label: r.tie_rate for r in tied if r.model == m} for m in run.models}
    if tied:
        collected.append(Ties(models=run.models, rates=ties))
    gaps: dict[str, dict[str, float]] = {}
    for e in run.explanations:
        if "completeness_gap" in e.extras:
            gaps.setdefault(e.label, {})[e.model] = float(np.abs(e.extras["completeness_gap"]).mean())
    return [*collected, Completeness(models=run.models, gaps=gaps)] if gaps else collected


def _frameworks(run: RunRecord, maps: Maps) -> list[Frameworks]:
    """One fact per pair of models. Where a run has one network in two frameworks, pairs of other weights are left out: their maps
    ought to differ."""
    couples = list(dict.fromkeys((p.first, p.second) for p in maps.models))
    twins = [couple for couple in couples if _weights(run, *couple) == "same"]
    frameworks = []
    for first, second in twins or couples:
        pairs = [p for p in maps.models if (p.first, p.second) == (first, second) and not p.control]
        pairs = [p for p in pairs if math.isfinite(p.spearman.mean)]
        gap = math.nan
        if first in run.predictions and second in run.predictions:
            gap = float(np.abs(run.predictions[first].score - run.predictions[second].score).max())
        if pairs:
            about = {"first": first, "second": second, "weights": _weights(run, first, second)}
            frameworks.append(Frameworks(models=run.models, pairs=tuple(pairs), score_gap=gap, **about))
    return frameworks


def _weights(run: RunRecord, first: str, second: str) -> str:
    """Whether the two models are the same model at all."""
    hashes = {m.get("name"): m.get("weights_sha256") for m in run.manifest.get("models", [])}
    one, two = hashes.get(first), hashes.get(second)
    return "" if not one or not two else "same" if one == two else "different"


def _broken(run: RunRecord, rows: Sequence[Row]) -> tuple[Broken, ...]:
    broken = [r for r in rows if r.degenerate]
    broken.sort(key=lambda r: -sum(r.degenerate.values()))
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
