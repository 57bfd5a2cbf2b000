"""RunRecord: everything a run directory holds, read once and checked to belong together."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from crossxai.errors import InvalidFile
from crossxai.evaluation import statistics
from crossxai.files import (
    Predictions,
    Result,
    Samples,
    read_predictions,
    read_result,
    read_samples,
    tasks,
)
from crossxai.files.drawing import drawn
from crossxai.files.results import maps_in
from crossxai.on_demand import HELD, Rows
from crossxai.report import words

RANDOM = "controls.random"
CENTRE = "controls.centre"
ORACLE = "controls.oracle"
CONTROLS = "controls"
CURVES = ("deletion", "insertion")
ROOM, MOST = 4, 2000
"""Where the maps that are read are drawn: how much more memory comparing them takes, and of how many samples they are at most."""


class _Counts(Protocol):
    """n samples, of n_groups groups; 0 where each sample stands for itself."""

    @property
    def n(self) -> int: ...

    @property
    def n_groups(self) -> int: ...


class Counted:
    """What is said of samples, or of the groups they belong to."""

    @property
    def units(self: _Counts) -> int:
        """How many groups, or else samples, there are: so many say something of their own."""
        return self.n_groups or self.n

    @property
    def unit(self: _Counts) -> str:
        """What they are."""
        return "group" if self.n_groups else "sample"


@dataclass(frozen=True)
class RunRecord(Counted):
    """One run: samples, each model's predictions, every explanation. models: in the manifest's order. stopped: of a run that is
    not finished, how far it came, in words, and `lacking` what is missing, a line each. drawn: whether maps were read of some
    samples that have them, because all take too much memory."""

    directory: Path
    manifest: Mapping[str, Any]
    samples: Samples
    predictions: Mapping[str, Predictions]
    explanations: tuple[Result, ...]
    models: tuple[str, ...]
    stopped: str = ""
    lacking: tuple[str, ...] = ()
    drawn: bool = False

    @property
    def n(self) -> int:
        """The number of samples."""
        return len(self.samples.ids)

    @cached_property
    def groups(self) -> npt.NDArray[np.intp] | None:
        """The number of each sample's group, None where each stands for itself."""
        numbers = {label: number for number, label in enumerate(dict.fromkeys(self.samples.groups))}
        return np.array([numbers[label] for label in self.samples.groups], dtype=np.intp) if numbers else None

    @property
    def n_groups(self) -> int:
        """The number of groups, 0 where each sample stands for itself."""
        return 0 if self.groups is None else int(self.groups.max()) + 1

    @cached_property
    def _comparisons(self) -> dict[tuple[str, str, str, str], statistics.Comparison]:
        return {}

    def comparison(self, model: str, metric: str, label: str, control: str) -> statistics.Comparison:
        """An explainer's scores against another one's on the same samples, worked out once however many findings ask."""
        key = (model, metric, label, control)
        if key not in self._comparisons:
            own, other = (self.of(model)[x].scores[metric] for x in (label, control))
            higher = other.higher_is_better
            self._comparisons[key] = statistics.compare(own.value, other.value, higher, groups=self.groups)
        return self._comparisons[key]

    @cached_property
    def kept(self) -> npt.NDArray[np.intp] | None:
        """The places of the samples of which all maps were kept, and read; None where those of all samples were."""
        held = [set(e.rows.tolist()) for e in self.explanations if ok(e) and e.rows is not None]
        return np.array(sorted(set.intersection(*held)), dtype=np.intp) if held else None

    @cached_property
    def mapped(self) -> RunRecord:
        """The run as far as its maps were kept: of those samples alone, and without maps where there are none of any sample."""
        rows = self.kept
        if rows is None:
            return self
        if not len(rows):
            return replace(self, explanations=tuple(map(_without_maps, self.explanations)))
        predictions = {model: one.part(rows) for model, one in self.predictions.items()}
        explanations = tuple(e.part(rows) if ok(e) else e for e in self.explanations)
        return replace(self, samples=self.samples[rows], predictions=predictions, explanations=explanations)

    @property
    def few(self) -> bool:
        """Whether these are too few for intervals to hold the mean as often as they say, where scores are skewed."""
        return self.units < statistics.FEWEST

    @property
    def counted(self) -> str:
        """How many samples there are, and of how many groups, in words."""
        samples = words.count(self.n, "sample")
        return f"{samples} of {words.count(self.n_groups, 'group')}" if self.n_groups else samples

    @property
    def labels(self) -> tuple[str, ...]:
        """Every explainer's label once, libraries first, controls last."""
        return tuple(dict.fromkeys(e.label for e in sorted(self.explanations, key=_order)))

    @property
    def simple_controls(self) -> tuple[str, ...]:
        """The labels of controls that are neither noise nor an oracle."""
        oracles = {e.label for e in self.explanations if e.attribution.explainer == ORACLE}
        return tuple(x for x in self.labels if x.startswith(f"{CONTROLS}.") and x not in (RANDOM, *oracles))

    @property
    def metrics(self) -> tuple[str, ...]:
        """Every metric's label once: deletion and insertion first, then by label."""
        return (*self.curves, *sorted(self.kinds.keys() - set(self.curves)))

    @cached_property
    def kinds(self) -> Mapping[str, str]:
        """Every metric's label, and the metric's own name, which is the same unless a run has one metric several times."""
        return {label: scores.metric for e in self.explanations for label, scores in e.scores.items()}

    @property
    def curves(self) -> tuple[str, ...]:
        """The labels of deletion and insertion, which most findings are about."""
        return tuple(sorted((x for x in self.kinds if self.kinds[x] in CURVES), key=lambda x: (self.kinds[x], x)))

    def modality(self, metric: str) -> str:
        """The modality that a metric measures; "" where its scores do not say."""
        names = (e.scores[metric].params.get("modality") for e in self.explanations if metric in e.scores)
        return next((str(name) for name in names if name), "")

    def of(self, model: str) -> dict[str, Result]:
        """One model's explanations by label, libraries first, controls last."""
        return {e.label: e for e in sorted(self.explanations, key=_order) if e.model == model}

    def entry(self, model: str) -> Mapping[str, Any]:
        """What the manifest says of a model; empty if nothing."""
        return next((m for m in self.manifest.get("models", []) if m.get("name") == model), {})

    def framework(self, model: str) -> str:
        """The framework a model runs in, "" when no file says."""
        names = [e.framework for e in self.explanations if e.model == model]
        return next(filter(None, [str(self.entry(model).get("framework", "")), *names]), "")


def _order(explanation: Result) -> tuple[bool, str, str]:
    return (is_control(explanation), explanation.library, explanation.label)


def is_control(explanation: Result) -> bool:
    """Whether an explanation is a control: a map that never asks the model."""
    return explanation.library == CONTROLS


def ok(explanation: Result) -> bool:
    """Whether an explanation has maps."""
    return explanation.status == "ok"


def _without_maps(explanation: Result) -> Result:
    return replace(explanation, attribution=replace(explanation.attribution, values=(), modalities=()))


def load(directory: Path) -> RunRecord:
    """Read a run directory, also one of a run that was stopped; raises `InvalidFile` if a file is missing, damaged, or about
    other samples."""
    if not (directory / "samples.h5").exists() and (directory / "shards").is_dir():
        raise InvalidFile(f"{directory} holds shards of a run: `crossxai merge {directory}` joins them")
    samples = read_samples(directory / "samples.h5")
    finished = (directory / "manifest.json").exists()
    begun = None if finished else tasks.read_plan(directory)
    manifest = _manifest(directory / "manifest.json") if finished else begun or {}
    predictions = {p.model: p for p in map(read_predictions, sorted((directory / "predictions").glob("*.h5")))}
    paths = sorted((directory / "explanations").glob("*/*.h5"))
    some = _looked_at(paths, samples, int(manifest.get("seed") or 0))
    explanations = tuple(_explanation(path, samples, some) for path in paths)
    if begun is not None:  # what an earlier run left is none of this one's
        explanations = tuple(tasks.belonging(begun, explanations))
    for model, prediction in predictions.items():
        if len(prediction.score) != len(samples.ids) or len(prediction.outputs) != len(samples.ids):
            raise InvalidFile(
                f"{directory}: {model} has predictions for {len(prediction.score)} samples, samples.h5 has {len(samples.ids)}"
            )
    listed = [str(m["name"]) for m in manifest.get("models", []) if "name" in m]
    models = tuple(dict.fromkeys([*listed, *predictions, *(e.model for e in explanations)]))
    run = RunRecord(directory, manifest, samples, predictions, explanations, models, drawn=some is not None)
    if finished:
        return run
    if begun is None:
        stopped = "nothing says what it set out to do" if explanations else "no map is done"
        return replace(run, stopped=stopped)
    return replace(run, stopped=tasks.describe_progress(begun, list(explanations)), lacking=tuple(_lacking(begun, run)))


def _lacking(begun: Mapping[str, Any], run: RunRecord) -> list[str]:
    """What a stopped run has not done yet, a line per model."""
    lines = []
    for model, labels in begun["tasks"].items():
        done = {e.label: e for e in run.explanations if e.model == model}
        maps = [f"`{label}`" for label in labels if label not in done]
        scores = [f"`{label}`" for label, e in done.items() if ok(e) and not e.scores]
        parts = [f"no map yet of {words.listing(maps)}"] if maps else []
        parts += [f"no scores yet of {words.listing(scores)}"] if scores else []
        lines += [f"{model}: {'; '.join(parts)}."] if parts else []
    return lines


def _manifest(path: Path) -> Mapping[str, Any]:
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidFile(f"{path} cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise InvalidFile(f"{path} is not JSON: {error}") from error
    if not isinstance(manifest, dict):
        raise InvalidFile(f"{path} should hold a JSON object, found {type(manifest).__name__}")
    return manifest


def _looked_at(paths: Sequence[Path], samples: Samples, seed: int) -> Rows | None:
    """The places of the samples whose maps are read, some of each class; None for all that have maps, where memory holds them."""
    sizes, held = zip(*map(maps_in, paths), strict=True) if paths else ((), ())
    of = [len(samples.ids) if rows is None else len(rows) for rows in held]
    if sum(size * n for size, n in zip(sizes, of, strict=True)) <= HELD:
        return None
    known = [rows for size, rows in zip(sizes, held, strict=True) if size and rows is not None]
    most = min(MOST, max(1, HELD // ROOM // sum(sizes)))
    return drawn(samples, most, seed, reduce(np.intersect1d, known) if known else None)


def _explanation(path: Path, samples: Samples, some: Rows | None) -> Result:
    explanation = read_result(path, rows=some if maps_in(path)[0] else None, on_demand=True)
    if not ok(explanation):
        return explanation
    if explanation.ids != samples.ids:
        raise InvalidFile(f"{path} explains other samples than samples.h5, or in another order; run `crossxai` again")
    if explanation.rows is not None:  # the names of a million samples once
        explanation = replace(explanation, samples=samples.ids)
    n = len(samples.ids)
    for name, scores in explanation.scores.items():
        if len(scores.value) != n:
            raise InvalidFile(f"{path}: {name} has {len(scores.value)} values for {n} samples")
    return explanation
