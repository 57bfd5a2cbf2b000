"""Which modality? Every explainer's shares by two conventions beside what ablation of the model says, per model of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crossxai.attribution import reduce_channels
from crossxai.evaluation import statistics
from crossxai.evaluation.metrics import modality
from crossxai.evaluation.metrics.modality import DROP, Numbers
from crossxai.evaluation.statistics import Summary
from crossxai.files import Result
from crossxai.model import Array
from crossxai.report import words
from crossxai.report.run import RunRecord, is_control, ok
from crossxai.report.words import Fact, write


@dataclass(frozen=True)
class Shares:
    """One answer's shares: modality → mean over samples with its interval; per_sample (n, modalities); net: the signed sums of
    maps that add up, likewise."""

    shares: Mapping[str, Summary]
    per_sample: Numbers
    net: Mapping[str, Summary]

    @property
    def leader(self) -> str:
        """The modality whose mean share is the largest, its interval above all others'; "" if there is none such."""
        known = {m: s for m, s in self.shares.items() if math.isfinite(s.mean)}
        if not known:
            return ""
        first = max(known, key=lambda m: known[m].mean)
        low = known[first].low if math.isfinite(known[first].low) else known[first].mean
        return first if all(low > s.high for m, s in known.items() if m != first and math.isfinite(s.high)) else ""


@dataclass(frozen=True)
class WhichModality(Fact):
    """What a model's table of shares says, and what its shares depend on.

    units: (how many, of what kind, modality). baseline, baselines: what ablation puts in place of a modality, for all and by
    name. standard_units: tables that the model sees in standard units. ablation: each modality's share of the drops, empty
    without it, and leader the one that clearly comes first. leading: explainer → convention → the one that comes first, or "".
    """

    units: tuple[tuple[int, str, str], ...]
    baseline: Any
    baselines: Mapping[str, Any]
    standard_units: tuple[str, ...]
    ablation: Mapping[str, Summary]
    leader: str
    leading: Mapping[str, Mapping[str, str]]

    @property
    def other(self) -> dict[str, Mapping[str, str]]:
        """Explainers that do not put the leading modality first by every convention."""
        return {label: by for label, by in self.leading.items() if set(by.values()) != {self.leader}}


@dataclass(frozen=True)
class Row:
    """One explainer: its answers by the mean and by the sum, or by ablation alone; or the reason why it has none."""

    label: str
    library: str
    control: bool
    answers: Mapping[str, Shares]
    missing: str = ""

    @property
    def ablation(self) -> bool:
        """Whether it is what the model does, not a map."""
        return "ablation" in self.answers


@dataclass(frozen=True)
class Table:
    """One model's rows, ablation first, controls last, what they say in words, and why they need not agree."""

    model: str
    modalities: tuple[str, ...]
    rows: tuple[Row, ...]
    sentences: tuple[str, ...]
    why: str = ""

    @property
    def has_net(self) -> bool:
        """Whether any row has signed sums."""
        return any(s.net for r in self.rows for s in r.answers.values())

    @property
    def ablation(self) -> Shares | None:
        """What the model does; None if the run has no ablation of whole modalities."""
        return next((r.answers["ablation"] for r in self.rows if r.ablation), None)


def tables(run: RunRecord) -> list[Table]:
    """One per model of a run of several modalities with maps; none for a run of one."""
    names = tuple(m.name for m in run.samples.modalities)
    if len(names) < 2:
        return []
    every = []
    for model in run.models:
        rows = [_row(run, e) for e in run.of(model).values() if ok(e)]
        rows.sort(key=lambda r: (not r.ablation, r.control))
        if any(r.answers for r in rows):
            every.append(_table(run, model, names, rows))
    return every


def units(run: RunRecord, explanation: Result) -> list[Array]:
    """A map's relevance per unit (n, *units), of each modality in the run's order; all of them must be there."""
    maps = []
    for m in run.samples.modalities:
        values, given = explanation.maps[m.name], run.samples.inputs[m.name]
        one = reduce_channels(values.astype(np.float64)) if m.spatial else values.astype(np.float64)
        maps.append(np.broadcast_to(one, given.shape[:-1] if m.spatial else given.shape))
    return maps


def _row(run: RunRecord, explanation: Result) -> Row:
    names = [m.name for m in run.samples.modalities]
    about = (explanation.label, explanation.library, is_control(explanation))
    drops = explanation.attribution.extras.get(DROP)
    if drops is not None and np.shape(drops) == (run.n, len(names)):
        return Row(*about, {"ablation": _shares(names, modality.drop_shares(drops), groups=run.groups)})
    lacking = [name for name in names if name not in explanation.maps]
    if lacking:
        return Row(*about, {}, f"no map of {words.listing(lacking)}")
    maps = units(run, explanation)
    complete = any(key.partition(".")[0] == "completeness_gap" for key in explanation.attribution.extras)
    parts = modality.net(maps) if complete else None
    mean, total = (
        _shares(names, modality.shares(maps, convention), parts, run.groups) for convention in ("mean", "sum")
    )
    return Row(*about, {"mean": mean, "sum": total})


def _shares(
    names: Sequence[str], shares: Numbers, parts: Numbers | None = None, groups: statistics.Groups | None = None
) -> Shares:
    def summaries(columns: Numbers) -> dict[str, Summary]:
        finite = np.where(np.isfinite(columns), columns, np.nan)
        return {name: statistics.summarise(finite[:, i], groups=groups) for i, name in enumerate(names)}

    return Shares(summaries(shares), shares, {} if parts is None else summaries(parts))


def _table(run: RunRecord, model: str, names: tuple[str, ...], rows: Sequence[Row]) -> Table:
    """The table of one model, and its words."""
    truth = Table(model, names, tuple(rows), ()).ablation
    explainers = [r for r in rows if r.answers and not r.control and not r.ablation]
    units = [
        (math.prod(run.samples.inputs[m.name].shape[1:-1]), "pixels") if m.spatial else (len(m.features), "columns")
        for m in run.samples.modalities
    ]
    ablated = next((e for e in run.of(model).values() if ok(e) and DROP in e.attribution.extras), None)
    params = ablated.attribution.params if ablated is not None else {}
    others = params.get("baselines")
    own = dict(others) if isinstance(others, Mapping) else {}
    words = write(
        WhichModality(
            models=run.models,
            units=tuple((*unit, name) for unit, name in zip(units, names, strict=True)),
            baseline=params.get("baseline") if len(own) < len(names) else None,
            baselines=own,
            standard_units=tuple(run.entry(model).get("standard_units", [])),
            ablation=truth.shares if truth else {},
            leader=truth.leader if truth else "",
            leading={r.label: {of: s.leader for of, s in r.answers.items()} for r in explainers},
        )
    )
    return Table(model, names, tuple(rows), words.points, words.headline)


def disagreeing(table: Table) -> dict[str, dict[str, str]]:
    """Explainer → convention → its leading modality, where that is not the one that ablation finds; controls left out."""
    truth = table.ablation
    if truth is None or not truth.leader:
        return {}
    others = {
        row.label: {of: s.leader for of, s in row.answers.items() if s.leader not in ("", truth.leader)}
        for row in table.rows
        if not row.control and not row.ablation
    }
    return {label: other for label, other in others.items() if other}
