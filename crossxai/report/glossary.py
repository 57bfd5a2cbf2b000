"""The strip of numbers under the title, and what each metric means in a sentence."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass

from crossxai import evaluation
from crossxai.report import words
from crossxai.report.contents import Contents
from crossxai.report.reference_findings import region
from crossxai.report.run import Run


@dataclass(frozen=True)
class KeyNumber:
    """One number worth a tile, and what it counts."""

    value: str
    meaning: str


def key_numbers(contents: Contents) -> list[KeyNumber]:
    """The numbers that a reader in a hurry takes away; only those that the run has."""
    rows, numbers = contents.rows, list[KeyNumber]()
    for metric in contents.run.curves:
        won, total = [], []
        for model in contents.run.models:
            tests = [
                c.versus for r in rows if r.model == model and not r.control and (c := r.cells.get(metric)) and c.versus
            ]
            tests = [t for t in tests if t.verdict != "no test"]
            if tests:
                won.append(sum(t.verdict == "better" for t in tests))
                total.append(len(tests))
        if total:
            where = "" if len(contents.run.models) == 1 else " on each model" if len(set(won)) == 1 else ", by model"
            numbers.append(
                KeyNumber(
                    f"{_range(won)} of {_range(total)}", f"explainers beat random in {words.metric(metric)}{where}"
                )
            )
    fixed = [p.spearman.mean for p in contents.maps.models if not p.control and not p.stochastic]
    fixed = [x for x in fixed if math.isfinite(x)]
    if fixed:
        text = "median rank correlation between models (deterministic explainers)"
        numbers.append(KeyNumber(words.number(statistics.median(fixed)), text))
    shared = [p.spearman.mean for p in contents.maps.libraries if math.isfinite(p.spearman.mean)]
    if shared:
        numbers.append(
            KeyNumber(words.number(min(shared), 2), "lowest rank correlation of one method in two libraries")
        )
    maps = sum(r.maps for r in rows)
    if maps:
        numbers.append(KeyNumber(f"{sum(sum(r.degenerate.values()) for r in rows)} of {maps}", "maps are degenerate"))
    failed = len(contents.run.manifest.get("failures", []))
    if failed:
        numbers.append(KeyNumber(str(failed), f"{'failure' if failed == 1 else 'failures'}: no map, or no scores"))
    missing = len({r.label for r in rows if r.status not in ("ok", "failed")})
    if missing:
        numbers.append(
            KeyNumber(str(missing), f"{'explainer' if missing == 1 else 'explainers'} unsupported on some model")
        )
    return numbers


def _range(numbers: list[int]) -> str:
    low, high = min(numbers), max(numbers)
    return str(low) if low == high else f"{low}–{high}"


def meanings(run: Run) -> list[tuple[str, str]]:
    """(name, sentence) for each metric and each word of the table, with the parameters that this run used."""
    entries = []
    for metric in run.metrics:
        scores = next(e.scores[metric] for e in run.explanations if metric in e.scores)
        direction = "Higher is better." if scores.higher_is_better else "Lower is better."
        entries.append((words.metric(metric), f"{_sentence(run, metric, scores.params)} {direction}"))
    return [*entries, *GENERAL]


def _sentence(run: Run, metric: str, params: Mapping[str, object]) -> str:
    hidden = {"auto_seed", "curve_over", "of_steps", "seed"} | (
        set() if len(run.samples.modalities) > 1 else {"modality"}
    )
    keys = [key for key in params if key not in hidden and params[key] not in (None, "", [], {})]
    settings = [f"{key.replace('_', ' ')} {words.value(params[key])}" for key in keys]
    used = f" Settings: {', '.join(settings)}." if settings else ""
    kind = run.kinds[metric]
    if kind == "deletion":
        text = "Units are removed in the order of the map, most relevant first; the area under the falling score."
    elif kind == "insertion":
        text = "Units are put back in the order of the map, most relevant first; the area under the rising score."
    elif kind == "pointing":
        text = f"Whether the most relevant unit lies in {region(run, metric)}; of tied ones, the fraction inside."
    elif any("area_share" in e.scores[metric].extras for e in run.explanations if metric in e.scores):
        text = (
            f"Share of the map's positive relevance in {region(run, metric)}; a uniform map gets its share of the area."
        )
    else:
        purposes = {entry.name: entry.purpose.partition(";")[0] for entry in evaluation.discover()}
        text = f"{purposes.get(kind, 'See the documentation of this metric')}."
    return text + used


GENERAL = (
    (
        "difference to random",
        "Mean paired difference to the random control on the same model and samples. p: two-sided sign-flip permutation "
        "test, corrected by Holm's method over all explainers of one model and metric; in words at p < 0.05.",
    ),
    ("95% interval", "BCa bootstrap over samples. It speaks of samples like these, not of other data or other models."),
    ("degenerate", "A map that is constant, all zero, or not finite: it orders nothing."),
    ("tie rate", "Share of units whose value another unit of the same map has too; ties are ordered by a seeded draw."),
    ("Spearman", "Correlation of the ranks of two maps' pixels, channels summed, averaged over samples."),
    ("relative difference", "Euclidean norm of the difference of two maps, over the norm of the second."),
    ("seconds", "Time the explainer took for all samples together, on the machine of this run."),
)
