"""Findings about modalities: who disagrees with the model, what tells nothing, and what the model hardly uses."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from crossxai.evaluation.statistics import Summary
from crossxai.report import analysis, modalities
from crossxai.report.modalities import Table
from crossxai.report.run import RunRecord
from crossxai.report.words import Fact

TOLERANCE = 0.05  # of the attribution, for a modality that tells nothing
HARDLY = 0.1  # of the total drop
LOCATING = ("pointing", "mask_share")
"""The metrics of a map that show whether it finds the planted evidence of a modality."""

Limit = Literal["more", "at most", "open", "no interval"]
"""What a share's interval says of the tolerance."""


@dataclass(frozen=True)
class Answer:
    """One share of a modality: an explainer's by the "mean" or the "sum", or that of "ablation", which has no label."""

    label: str
    of: str
    modality: str
    share: Summary
    limit: Limit = "no interval"


@dataclass(frozen=True)
class Leading:
    """The modality that ablation finds to lead on a model, its share, and how many explainers answered; other: answers that put
    another one clearly first, by explainer."""

    modality: str
    share: Summary
    explainers: int
    other: Mapping[str, tuple[Answer, ...]]


@dataclass(frozen=True)
class LeadingModality(Fact):
    """Whether explainers put the same modality first as ablation of the model, by model."""

    leading: Mapping[str, Leading]


@dataclass(frozen=True)
class Silent:
    """A modality that tells a model nothing, by the data's "design" or as it was shuffled in "training", and its shares."""

    model: str
    modality: str
    why: str
    answers: tuple[Answer, ...]


@dataclass(frozen=True)
class UninformativeModality(Fact):
    """The shares that modalities get which tell nothing."""

    tolerance: ClassVar[float] = TOLERANCE
    silent: tuple[Silent, ...]


@dataclass(frozen=True)
class Best:
    """The best mean of a metric on a model, and whose it is."""

    model: str
    label: str
    mean: float


@dataclass(frozen=True)
class Variant:
    """A model that was trained with another modality shuffled, so that it needs this one: its share of the drops, None if
    unknown, and by metric of localisation the best explainers of the two models."""

    model: str
    shuffled: str
    share: Summary | None
    best: tuple[tuple[str, Best, Best], ...]


@dataclass(frozen=True)
class HardlyUsedModality(Fact):
    """A modality whose ablation changes the score little, by model; variants: models that have to use it."""

    limit: ClassVar[float] = HARDLY
    modality: str
    shares: Mapping[str, Summary]
    variants: tuple[Variant, ...]


def facts(run: RunRecord, rows: Sequence[analysis.Row]) -> list[Fact]:
    """Everything worth saying about modalities; nothing for a run of one modality or without maps."""
    tables = modalities.tables(run)
    return [*_leading(run, tables), *_uninformative(run, tables), *_hardly(run, rows, tables)]


def _leading(run: RunRecord, tables: Sequence[Table]) -> list[Fact]:
    leading = {}
    for table in tables:
        truth = table.ablation
        explainers = [r for r in table.rows if r.answers and not r.control and not r.ablation]
        if truth is not None and truth.leader and explainers:
            answers = {r.label: r.answers for r in explainers}
            other = {
                label: tuple(Answer(label, of, name, answers[label][of].shares[name]) for of, name in led.items())
                for label, led in modalities.disagreeing(table).items()
            }
            leading[table.model] = Leading(truth.leader, truth.shares[truth.leader], len(explainers), other)
    return [LeadingModality(models=run.models, leading=leading)] if leading else []


def _uninformative(run: RunRecord, tables: Sequence[Table]) -> list[Fact]:
    """The shares of modalities that tell nothing, in the data or to the model as it was trained."""
    silent_modalities = []
    for table in tables:
        silent = _silent(run, table)
        if len(silent) == len(table.modalities):  # shares add up to 1: where nothing tells anything, one gets them
            continue
        for name, why in silent.items():
            answers = tuple(
                Answer("" if of == "ablation" else row.label, of, name, share, _limit(share))
                for row in table.rows
                for of, shares in row.answers.items()
                if not row.control and math.isfinite((share := shares.shares[name]).mean)
            )
            if answers:
                silent_modalities.append(Silent(table.model, name, why, answers))
    return [UninformativeModality(models=run.models, silent=tuple(silent_modalities))] if silent_modalities else []


def _silent(run: RunRecord, table: Table) -> dict[str, str]:
    """Modality → why it tells nothing."""
    data = run.manifest.get("data")
    structure = data.get("structure") if isinstance(data, Mapping) else None
    given = structure if isinstance(structure, Mapping) else {}
    reasons = {name: "design" for name in table.modalities if given.get(name) == "uninformative"}
    without = trained_without(run, table.model)
    if without in table.modalities:
        reasons.setdefault(without, "training")
    return reasons


def trained_without(run: RunRecord, model: str) -> str:
    """The modality whose values a model was trained on in shuffled order, so that they tell nothing; "" for none."""
    return str(run.entry(model).get("trained_without") or "")


def _limit(share: Summary) -> Limit:
    if not (math.isfinite(share.low) and math.isfinite(share.high)):
        return "no interval"
    if share.low > TOLERANCE:
        return "more"
    return "at most" if share.high <= TOLERANCE else "open"


def _hardly(run: RunRecord, rows: Sequence[analysis.Row], tables: Sequence[Table]) -> list[Fact]:
    collected: list[Fact] = []
    for name in (m.name for m in run.samples.modalities):
        shares = {t.model: t.ablation.shares[name] for t in tables if t.ablation and name not in _silent(run, t)}
        hardly = {model: share for model, share in shares.items() if share.mean < HARDLY}
        if hardly:
            variants = tuple(_variants(run, rows, next(iter(hardly)), tables, name))
            collected.append(HardlyUsedModality(models=run.models, modality=name, shares=hardly, variants=variants))
    return collected


def _variants(
    run: RunRecord, rows: Sequence[analysis.Row], model: str, tables: Sequence[Table], name: str
) -> list[Variant]:
    """Models of the same task to which another modality tells nothing, so that they need this one."""
    variants = []
    for variant in run.models:
        shuffled = trained_without(run, variant)
        if variant != model and shuffled not in ("", name):
            drops = next((t.ablation for t in tables if t.model == variant), None)
            best = []
            for metric in run.metrics:
                if run.kinds[metric] in LOCATING and run.modality(metric) in ("", name):
                    leaders = {m: analysis.best(rows, m, metric) for m in (model, variant)}
                    sides = [Best(m, r.label, r.cells[metric].summary.mean) for m, r in leaders.items() if r]
                    if len(sides) == 2:
                        best.append((run.kinds[metric], sides[0], sides[1]))
            share = drops.shares[name] if drops is not None else None
            variants.append(Variant(variant, shuffled, share, tuple(best)))
    return variants
