"""What a run's modality shares say in words: who disagrees with the model, what tells nothing, what the model hardly uses.

Numbers in square brackets are 95 % intervals.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from crossxai.evaluation.statistics import Summary
from crossxai.report import analysis, modalities, words
from crossxai.report.modalities import Shares, Table, small
from crossxai.report.run import Run
from crossxai.report.wording import Finding, code, names, on, per_model, tally

TOLERANCE = 0.05  # of the attribution, for a modality that tells nothing
HARDLY = 0.1  # of the total drop
MORE = f"More than {words.percent(TOLERANCE)}, the interval excludes it"
LITTLE = f"At most {words.percent(TOLERANCE)}, with its whole interval"
OPEN = f"Not told apart from {words.percent(TOLERANCE)}"
FINDING = ("pointing", "mask_share")
"""The metrics of a map that show whether it finds the planted evidence of a modality."""


def findings(run: Run, rows: Sequence[analysis.Row]) -> list[Finding]:
    """Everything worth saying about modalities; nothing for a run of one modality or without maps."""
    tables = modalities.tables(run)
    return [*_leading(run, tables), *_uninformative(run, tables), *_hardly(run, rows, tables)]


def _leading(run: Run, tables: Sequence[Table]) -> list[Finding]:
    points, counts, wrong = [], {}, 0
    for table in tables:
        truth = table.ablation
        asked = [r for r in table.rows if r.answers and not r.control and not r.ablation]
        if truth is None or not truth.leader or not asked:
            continue
        other = modalities.disagreeing(table)
        counts[table.model] = tally(len(other), len(asked))
        wrong += len(other)
        where = on([table.model], run.models)
        points.append(f"Ablation{where}: {truth.leader}, {_percent(truth.shares[truth.leader])} of the drops.")
        for row in asked:
            led = [
                f"{name} by the {of} ({_percent(row.answers[of].shares[name])})"
                for of, name in other.get(row.label, {}).items()
            ]
            if led:
                points.append(f"{code(row.label)}{where}: {words.listing(led)}.")
    if not counts:
        return []
    if not wrong:
        text = "No explainer puts another modality clearly first than ablation of the model does, by mean or by sum."
        return [Finding("Which modality?", text, tuple(points), 60, "good")]
    points.append(
        "They need not agree: the mean divides by the number of units, the sum counts the noise of every pixel, and ablation "
        "removes a whole modality at once."
    )
    text = "Another leading modality than ablation of the model finds, by at least one convention: "
    return [Finding("Which modality?", f"{text}{per_model(counts, run.models)}.", tuple(points), 72, "warning")]


def _uninformative(run: Run, tables: Sequence[Table]) -> list[Finding]:
    """The shares of modalities that tell nothing, in the data or to the model as it was trained."""
    points, most, clear, by_mean = [], 0.0, 0, 0
    named: dict[str, None] = {}
    for table in tables:
        silent = _silent(run, table)
        if len(silent) == len(table.modalities):  # shares add up to 1: where nothing tells anything, somebody gets them
            continue
        for name, reason in silent.items():
            where = on([table.model], run.models)
            said: dict[str, list[str]] = {}
            for row in table.rows:
                for of, answer in row.answers.items():
                    share = answer.shares[name]
                    if row.control or not math.isfinite(share.mean):
                        continue
                    verdict = _tolerated(share)
                    most, clear = max(most, share.mean), clear + (verdict == MORE)
                    by_mean += verdict == MORE and of == "mean"
                    by = "ablation of the model" if of == "ablation" else f"{code(row.label)} by the {of}"
                    said.setdefault(verdict, []).append(f"{by} {_percent(share)}")
            if said:
                named[name] = None
                points.append(f"{words.capital(name)}{where} is {reason}.")
                points += [f"{verdict}{where}: {'; '.join(found)}." for verdict, found in said.items()]
    if not points:
        return []
    text = f"{words.capital(words.listing(list(named)))} {'tells' if len(named) == 1 else 'tell'} nothing"
    limit = words.percent(TOLERANCE)
    if not clear:
        text += f", and no answer is shown to give more than {limit} of the attribution."
        return [Finding("Uninformative modality", text, tuple(points), 70, "good")]
    text += f", and still {words.count(clear, 'answer')} {'gives' if clear == 1 else 'give'} more than {limit} of the "
    text += f"attribution, up to {small(most)}."
    if by_mean and by_mean == clear:
        points.append(
            "All of them are by the mean per unit, and none by the sum: a table's few columns beside an image's many pixels need "
            "little to get a large share. That is the convention, not what the model uses."
        )
    return [Finding("Uninformative modality", text, tuple(points), 86, "warning")]


def _silent(run: Run, table: Table) -> dict[str, str]:
    """Modality → why it tells nothing."""
    data = run.manifest.get("data")
    structure = data.get("structure") if isinstance(data, Mapping) else None
    given = structure if isinstance(structure, Mapping) else {}
    found = {
        name: "uninformative by the data’s design" for name in table.modalities if given.get(name) == "uninformative"
    }
    without = trained_without(run, table.model)
    if without in table.modalities:
        found.setdefault(without, "shuffled in training")
    return found


def trained_without(run: Run, model: str) -> str:
    """The modality whose values a model was trained on in shuffled order, so that they tell nothing; "" for none."""
    entries: list[Mapping[str, Any]] = [m for m in run.manifest.get("models", []) if m.get("name") == model]
    return str(entries[0].get("trained_without") or "") if entries else ""


def _tolerated(share: Summary) -> str:
    """What the interval says of the tolerance."""
    if not (math.isfinite(share.low) and math.isfinite(share.high)):
        return "No interval"
    if share.low > TOLERANCE:
        return MORE
    return LITTLE if share.high <= TOLERANCE else OPEN


def _hardly(run: Run, rows: Sequence[analysis.Row], tables: Sequence[Table]) -> list[Finding]:
    found = []
    for name in (m.name for m in run.samples.modalities):
        shares = {t.model: t.ablation.shares[name] for t in tables if t.ablation and name not in _silent(run, t)}
        hardly = {model: share for model, share in shares.items() if share.mean < HARDLY}
        if not hardly:
            continue
        each = per_model({model: _percent(share) for model, share in hardly.items()}, run.models)
        points = [
            f"Replacing {name} takes this share of what replacing the modalities one by one takes in all: {each}."
        ]
        points += _variant(run, rows, next(t for t in tables if t.model in hardly), tables, name)
        who = f"The {'model' if len(hardly) == 1 else 'models'} {words.listing(list(hardly))} hardly"
        text = f"{who} {'uses' if len(hardly) == 1 else 'use'} {name}: without it the score changes by less than "
        text += f"{words.percent(HARDLY)} of the total drop."
        found.append(Finding("Hardly used modality", text, tuple(points), 87, "warning"))
    return found


def _variant(run: Run, rows: Sequence[analysis.Row], table: Table, tables: Sequence[Table], name: str) -> list[str]:
    """How it was found out: the same task by a model to which another modality tells nothing, so that it needs this one."""
    variants = [m for m in run.models if trained_without(run, m) not in ("", name) and m != table.model]
    if not variants:
        return [
            "A map that misses the evidence there may then be right about the model. A second model whose other modality was "
            "shuffled in training would show whether the evidence can be found at all."
        ]
    said = []
    for variant in variants:
        other: Shares | None = next((t.ablation for t in tables if t.model == variant), None)
        lost = f": there, replacing {name} takes {_percent(other.shares[name])}" if other is not None else ""
        said.append(f"Trained with shuffled {trained_without(run, variant)}, {variant} has to use {name}{lost}.")
        for metric in run.metrics:
            scores = next(e.scores[metric] for e in run.explanations if metric in e.scores)
            if scores.metric not in FINDING or str(scores.params.get("modality", "")) not in ("", name):
                continue
            sides = []
            for model in (table.model, variant):
                leader = analysis.best([r for r in rows if r.model == model], metric)
                if leader is not None:
                    sides.append(
                        f"{words.number(leader.cells[metric].summary.mean, 2)} on {model} ({names([leader.label])})"
                    )
            if len(sides) == 2:
                title = f"{words.metric(scores.metric)} of {name}"
                said.append(f"Best {title}: {words.listing(sides)}.")
    return said


def _percent(share: Summary) -> str:
    if not (math.isfinite(share.low) and math.isfinite(share.high)):
        return small(share.mean)
    return f"{small(share.mean)} [{small(share.low)} to {small(share.high)}]"
