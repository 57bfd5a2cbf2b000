"""A run's maps through several conventions: each explainer's mean and rank by each, and how often the ranking flips.
Makes the run's models again, checks that they still answer as they did, and writes presets.csv and preset_flips.csv."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from crossxai.attribution import Attribution
from crossxai.errors import BrokenAssumption, CrossXAIError, InvalidFile, InvalidInput, ModelFailed, Unsupported
from crossxai.evaluation import curves, statistics
from crossxai.evaluation.curves import fills, presets, ranks
from crossxai.experiment import specification as experiments
from crossxai.experiment.loading import LoadedModel, load_model
from crossxai.experiment.progress import Failures, Progress
from crossxai.experiment.questions import questions
from crossxai.experiment.specification import Experiment
from crossxai.files import Result, Samples, read_predictions, read_result, read_samples
from crossxai.files.atomic import write_text
from crossxai.question import Question
from crossxai.report.analysis import compared

RANDOM = "controls.random"
MODEL = "the model"
"""In place of a preset, where a whole model failed."""
KINDS = {"deletion": "most relevant gone first", "insertion": "most relevant kept longest"}


@dataclass(frozen=True)
class Rankings:
    """means: a row per model, explainer, preset and metric. pairs: a row per model, kind and two presets. refused: a preset's
    reason for measuring nothing, by model and preset; that of a model that failed stands under `MODEL`."""

    means: pd.DataFrame
    pairs: pd.DataFrame
    refused: dict[tuple[str, str], str]

    def sentences(self) -> list[str]:
        """What the tables say, in words."""
        sentences = []
        for (model, kind), rows in self.pairs.groupby(["model", "kind"], sort=False):
            count, mean = int(rows["pairs"].iloc[0]), rows["share"].mean()
            ordered = rows.sort_values("share", kind="stable")
            near, far = ordered.iloc[0], ordered.iloc[-1]
            sentence = f"{model}, {kind} ({KINDS[str(kind)]}): between two conventions {_percent(mean)} of the {count} pairs of "
            sentence += "explainers change places "
            # Without a tau there is a convention by which all explainers are the same.
            ranked = rows["tau"].notna().any()
            sentence += f"(mean Kendall tau {rows['tau'].mean():.2f})" if ranked else "(no two of them rank anything)"
            if len(rows) > 1 and ranked:
                sentence += f", from {_percent(near['share'])} between {near['a']} and {near['b']}"
                sentence += f" to {_percent(far['share'])} between {far['a']} and {far['b']}"
            best = self.means[(self.means["model"] == model) & (self.means["kind"] == kind) & (self.means["rank"] == 1)]
            winners = list(dict.fromkeys(best["label"]))
            if not winners:
                sentence += ". No explainer is best by any: the first place is shared."
            elif len(winners) == 1:
                sentence += f". Best by all: {winners[0]}."
            else:
                sentence += f". Best by one or another: {', '.join(winners)}."
            sentences.append(sentence)
        sentences += self._no_better()
        sentences += [f"{model}: {preset} is left out: {why}" for (model, preset), why in self.refused.items()]
        return sentences

    def _no_better(self) -> list[str]:
        """Who is not shown to beat random by any convention, per model and kind of curve."""
        sentences = []
        tested = self.means[self.means["versus_random"].isin(("better", "worse", "not told apart"))]
        for (model, kind), rows in tested.groupby(["model", "kind"], sort=False):
            won = set(rows[rows["versus_random"] == "better"]["label"])
            lost = [str(label) for label in dict.fromkeys(rows["label"]) if label not in won]
            if lost:
                sentences.append(f"{model}, {kind}: not shown to beat random by any convention: {', '.join(lost)}.")
        return sentences


def evaluate(
    out: Path,
    names: Sequence[str],
    *,
    models: Sequence[str] = (),
    limit: int = 0,
    modality: str = "",
    folder: Path | None = None,
    trust: bool = False,
    console: Console | None = None,
) -> Rankings:
    """Measure a run's maps by presets and write the two tables beside them. models: only these; all of the run if
    empty. limit: see `presets.get`. modality: whose maps; the model's first if empty. folder: what the paths and
    factories of the run's experiment are relative to. trust: whether models' files may run code of their own."""
    twice = sorted({name for name in names if list(names).count(name) > 1})
    if not names or twice:
        problem = f"{', '.join(twice)} is named twice" if twice else "none is named"
        raise InvalidInput(f"presets: {problem}; write some of {', '.join(presets.PRESETS)}")
    for name in names:
        presets.get(name, limit=limit)
    experiment, lost = _experiment(out, folder)
    known = [spec.name for spec in experiment.models]
    if unknown := [name for name in models if name not in known]:
        raise InvalidInput(f"the run has no model {unknown[0]!r}, only {', '.join(known)}")
    wanted = [spec for spec in experiment.models if not models or spec.name in models]
    held = read_samples(out / "samples.h5")
    rows: list[dict[str, Any]] = []
    refused = {(spec.name, MODEL): lost[spec.name] for spec in wanted if spec.name in lost}
    failures = Failures(out, fresh=False)
    with Progress(console or Console(stderr=True)) as progress:
        for spec in (spec for spec in wanted if spec.name not in lost):
            try:
                with _placed(out, folder):
                    loaded = load_model(spec.model_copy(update={"trust": trust}), experiment.folder)
                explained = _explained(out, spec.name)
                samples = held.in_memory()
                question = _question(experiment, samples, loaded, spec.name, out)
                about = modality or question.modalities[0].name
                maps = _maps(explained, question, about)
                common: dict[str, Any] = {"limit": limit, "modality": about, "seed": experiment.seed}
                mean, sd = loaded.mean.get(about, ()), loaded.sd.get(about, ())
                chosen = {name: presets.get(name, mean=mean, sd=sd, **common) for name in names}
                reasons = {name: _refusal(question, maps[0], metrics) for name, metrics in chosen.items()}
                refused |= {(spec.name, name): reason for name, reason in reasons.items() if reason}
                measuring = [(name, m) for name, metrics in chosen.items() if not reasons[name] for m in metrics]
                rows += _rows(spec.name, question, maps, measuring, samples.groups or None, progress)
            except Exception as error:  # one failure is one row; what the run's user can mend is raised
                if isinstance(error, CrossXAIError) and not isinstance(error, ModelFailed | BrokenAssumption):
                    raise
                refused[spec.name, MODEL] = failures.row(error, spec.name, metric="evaluate")[1]
    if not rows:
        raise InvalidInput("no preset can measure these maps: " + "; ".join(dict.fromkeys(refused.values())))
    means = pd.DataFrame(rows)
    result = Rankings(means, _pairs(means), refused)
    write_text(out / "presets.csv", result.means.to_csv(index=False))
    write_text(out / "preset_flips.csv", result.pairs.to_csv(index=False))
    return result


def _rows(
    model: str,
    question: Question,
    maps: list[Attribution],
    measuring: list[tuple[str, curves.Curve]],
    groups: statistics.Groups | None,
    progress: Progress,
) -> list[dict[str, Any]]:
    """A row per map and metric of a preset, all measured in one stream."""
    metrics = [metric for _, metric in measuring]
    progress.stage(model, curves.passes(question, maps, metrics))
    scores = curves.evaluate(question, maps, metrics, progress.advance)
    progress.finish(f"{model}: evaluated")
    rows: list[dict[str, Any]] = []
    for (preset, metric), column in zip(measuring, zip(*scores, strict=True), strict=True):
        means = [metric.total(own) for own in column]
        ranks = statistics.ranks(means, metric.higher_is_better)
        by_label = {one.explainer: own for one, own in zip(maps, column, strict=True)}
        tests = compared(by_label, RANDOM, groups)
        for (label, own), mean, rank in zip(by_label.items(), means, ranks, strict=True):
            row: dict[str, Any] = {"model": model, "label": label, "preset": preset, "metric": metric.name}
            row["kind"] = "deletion" if metric.inserts == (metric.order == "lerf") else "insertion"
            row |= {"higher_is_better": metric.higher_is_better, "mean": mean, "rank": rank}
            row["n"] = int((~np.isnan(own.value)).sum())
            row["versus_random"] = (
                tests[label].verdict if label in tests else "reference" if RANDOM in by_label else "no test"
            )
            rows.append(row)
    return rows


@contextmanager
def _placed(out: Path, folder: Path | None) -> Iterator[None]:
    """Files and factories that are not found here may lie beside the experiment file, which nobody named."""
    try:
        yield
    except (InvalidInput, InvalidFile) as error:
        if folder is not None:
            raise
        raise type(error)(
            f"{error}; if the run's experiment file is in another folder, name it: "
            f"crossxai evaluate {out} --experiment FILE"
        ) from error


def _experiment(out: Path, folder: Path | None) -> tuple[Experiment, dict[str, str]]:
    """The run's experiment, and the reasons of the models that failed as a whole."""
    path = out / "manifest.json"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
        settings = {**manifest["settings"], "folder": (folder or Path()).resolve()}
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, KeyError, TypeError) as error:
        reason = "it has no settings" if isinstance(error, KeyError | TypeError) else "it is not JSON"
        if isinstance(error, OSError):
            reason = error.strerror or "it cannot be read"
        raise InvalidFile(f"{path} is no finished run's manifest ({reason}): give the folder of a run") from error
    lost = {entry["name"]: entry["failed"] for entry in manifest.get("models", []) if entry.get("failed")}
    return experiments.check(settings, str(path)), lost


def _question(experiment: Experiment, samples: Samples, loaded: LoadedModel, name: str, out: Path) -> Question:
    """What metrics measure, if the model still is the one that was explained."""
    now = questions(experiment, samples, loaded, name)
    measured, outputs = now.measured, now.outputs
    before = read_predictions(out / "predictions" / f"{name}.h5").outputs
    if outputs.shape != before.shape or not np.allclose(outputs, before, rtol=1e-3, atol=1e-4):
        raise InvalidInput(
            f"model {name!r} gives other outputs than in the run: its maps explain another model; run again"
        )
    return measured


def _explained(out: Path, model: str) -> list[Result]:
    """What the run explained of a model, in the order of labels; raises `InvalidInput` where some maps were not kept."""
    explanations = [read_result(path) for path in sorted((out / "explanations" / model).glob("*.h5"))]
    lacking = next((e for e in explanations if e.rows is not None), None)
    if lacking is not None:
        kept, n = len(lacking.attribution), len(lacking.ids)
        raise InvalidInput(
            f'the run kept maps of {kept} of {n} samples (keep_maps = "{lacking.keep_maps}"), and all are to be measured: '
            'run again with keep_maps = "all" or "float16"'
        )
    return explanations


def _maps(explained: Sequence[Result], question: Question, modality: str) -> list[Attribution]:
    """The run's maps of a modality."""
    usable = [e for e in explained if e.status == "ok" and modality in e.maps and e.attribution.ids == question.ids]
    if not usable:
        raise InvalidInput(f"the run holds no map of {modality!r} for model {question.model.name!r} to measure")
    return [e.labelled for e in usable]


def _refusal(question: Question, attribution: Attribution, metrics: Sequence[curves.Curve]) -> str:
    """Why these metrics cannot measure this kind of input, "" if they can; found out on one sample without a forward pass."""
    one = question[:1]
    probe = replace(attribution, values=tuple(np.ones_like(v[:1]) for v in attribution.values), ids=one.ids)
    try:
        for metric in metrics:
            curves.passes(one, [probe], [metric])
            about = ranks.modality_of(one, metric.modality, metric.name)
            place = [m.name for m in one.model.modalities].index(about.name)
            fills.filled(metric.fill, about, one.inputs[place])
    except (Unsupported, InvalidInput) as error:
        return str(error)
    return ""


def _pairs(means: pd.DataFrame) -> pd.DataFrame:
    """Every two presets with a curve of one kind: Kendall's tau, and how many pairs of explainers change places."""
    rows: list[dict[str, Any]] = []
    for (model, kind), group in means.groupby(["model", "kind"], sort=False):
        tables = {str(name): part["rank"].to_numpy() for name, part in group.groupby("preset", sort=False)}
        for a, b in combinations(tables, 2):
            flips = statistics.flips(tables[a], tables[b])
            entry = {"model": model, "kind": kind, "a": a, "b": b, "tau": flips.tau}
            rows.append({**entry, "flipped": flips.flipped, "pairs": flips.pairs, "share": flips.share})
    columns = ["model", "kind", "a", "b", "tau", "flipped", "pairs", "share"]
    return pd.DataFrame(rows, columns=columns)


def _percent(share: float) -> str:
    return "no share" if np.isnan(share) else f"{100 * share:.0f} %"
