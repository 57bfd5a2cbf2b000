"""What a run will cost, before it runs: passes of every explainer and metric, time, memory and disk. Nothing is written.

Models and samples are loaded, models are checked, and a few batches are timed; that is what a run begins with, too."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from crossxai.attribution import Explainer, needs_explainer
from crossxai.batching import DEFAULT_BATCH_SIZE
from crossxai.errors import CrossXAIError
from crossxai.evaluation import curves
from crossxai.evaluation.curves.deletion import Curve, takes_copy
from crossxai.experiment import keeping
from crossxai.experiment.counting import Counted, counting
from crossxai.experiment.model_run import ModelRun
from crossxai.experiment.parts import parts_of
from crossxai.experiment.progress import Failures, Progress
from crossxai.experiment.run import Loaded, Prepared, check_names, load, load_models
from crossxai.experiment.sharding import Shard
from crossxai.experiment.specification import Experiment, ExplainerSpec
from crossxai.experiment.trials import Trials, UnknownPasses, passes
from crossxai.explainers import Method
from crossxai.files import Result
from crossxai.files.maps import HALF
from crossxai.files.remote import fetched
from crossxai.report import score_files

BATCHES = 4.0
"""Batches of copies that explainers hold at most."""
PAGE = 400_000
"""Bytes of a page without samples, and of a map on it."""
PICTURE = 8_000
NAME = 80
"""Bytes of a sample's name, and of what is wrong with its map, in an explainer's file."""
SCORE = 40
"""Bytes of a score with its tie rate and the like, without its curve."""


@dataclass(frozen=True)
class Row:
    """A step of a run on a model. kind: "preparing", "explainer" or "metric". bounded: whether its passes are no exact number;
    note: why, or why there are none. whole: whether each shard does it for all samples."""

    model: str
    kind: str
    name: str
    forward: int = 0
    backward: int = 0
    seconds: float = 0.0
    bounded: bool = False
    note: str = ""
    whole: bool = False


@dataclass(frozen=True)
class Plan:
    """What a run will cost. memory, disk: bytes, at most. passing: of disk, what more stands there until maps are
    measured, where not all are kept. samples: of this part, `of` all, on so many of which passes were `counted`; parts: in which
    one process makes them. loading, loaded: of what is done before the first question, seconds and (forward, backward) passes.
    chosen: the manifest's entry about explainers and metrics that nobody named; failed: models that cannot be made, and why."""

    rows: tuple[Row, ...]
    memory: int
    disk: int
    passing: int
    samples: int
    of: int
    counted: int
    parts: int
    loading: float
    loaded: tuple[int, int]
    chosen: dict[str, Any]
    failed: dict[str, str]

    @property
    def passes(self) -> tuple[int, int]:
        """All (forward, backward) passes."""
        return sum(row.forward for row in self.rows), sum(row.backward for row in self.rows)

    @property
    def seconds(self) -> float:
        """The time in all."""
        return sum(row.seconds for row in self.rows)

    @property
    def bounded(self) -> bool:
        """Whether there may be fewer passes."""
        return any(row.bounded for row in self.rows)


def plan(experiment: Experiment, out: Path, prepared: Prepared | None = None, shard: Shard | None = None) -> Plan:
    """What `run` would do into this folder, where finished maps and scores are used again; raises what it would raise first."""
    given = prepared or Prepared()
    check_names(experiment, given)
    start = time.perf_counter()
    out = out if shard is None else shard.folder(out)
    fetched(out, "explanations/*/*.h5")
    models, failed = dict(given.models), dict[str, Exception]()
    load_models(experiment, models, failed)
    with counting([one.model for one in models.values()]) as counted, tempfile.TemporaryDirectory() as folder:
        loaded = load(experiment, replace(given, models=models), shard=shard)
        loading = time.perf_counter() - start
        loaded_passes = [counted.of(one.model) for one in loaded.models.values()]
        parts = 1 if shard else parts_of(loaded)
        if parts > 1:  # one of which is looked at: maps of all samples may be more than memory holds
            loaded = loaded.of(Shard(1, parts))
        elif shard is None and loaded.samples.on_demand:
            loaded = replace(loaded, samples=loaded.samples.in_memory())
        rows: list[Row] = []
        memory = disk = whole = 0
        for name in loaded.models:
            own = _OfModel(loaded, name, Path(folder) / "run", out, counted, start)  # shards write beside it, too
            rows += own.rows()
            memory, disk, start = max(memory, own.memory()), disk + own.disk() + own.tables(), time.perf_counter()
            whole = max(whole, own.maps() - own.disk())
    every, of_these = len(loaded.samples.ids), range(len(loaded.samples.ids))[loaded.rows or slice(None)]
    n = len(of_these) if shard else every
    scale = n / len(of_these)
    kept = keeping.rows_of(loaded.experiment.keep_maps, loaded.samples, loaded.experiment.seed)
    drawn = n if kept is None else min(len(kept), n)
    inputs = sum(values.nbytes for values in loaded.samples.inputs.values()) / every
    inputs *= (
        drawn if loaded.samples.on_demand else n
    )  # of maps that are not kept, images that are read on demand are not
    pages = PAGE + drawn * sum(row.kind == "explainer" and not row.note for row in rows) * PICTURE
    forward, backward = (sum(passes) for passes in zip(*loaded_passes, strict=True)) if loaded_passes else (0, 0)
    return Plan(
        rows=tuple(_scaled(row, scale) for row in rows),
        memory=memory,
        disk=round(disk * scale + inputs) + pages,
        passing=round(whole * scale),
        samples=n,
        of=every,
        counted=len(of_these),
        parts=parts,
        loading=loading,
        loaded=(forward, backward),
        chosen=loaded.chosen,
        failed={name: str(error) for name, error in loaded.failed.items()},
    )


def _scaled(row: Row, scale: float) -> Row:
    """A step of more samples than those on which it was counted."""
    if scale == 1 or row.kind == "preparing" or row.whole:
        return row
    forward, backward = round(row.forward * scale), round(row.backward * scale)
    return replace(row, forward=forward, backward=backward, seconds=row.seconds * scale)


class _OfModel:
    """One model of a plan: a run of it in a folder that is thrown away."""

    def __init__(self, loaded: Loaded, name: str, folder: Path, out: Path, counted: Counted, start: float) -> None:
        quiet = Console(quiet=True)
        self.name, self.loaded, self.counted, self.start = name, loaded, counted, start
        self.model = loaded.models[name].model
        self.run = ModelRun(
            loaded.experiment, loaded.samples, loaded.models[name], name, folder, Progress(quiet, silent=True), quiet,
            Failures(folder), loaded.rows,
        )  # fmt: skip
        self.run.out = out  # where finished maps are looked for; nothing more is written
        self.question = self.run.question
        self.quick = self.run.measured
        self.trials = Trials(self.model, [explainer for _, explainer in loaded.explainers], counted)
        self.curves = dict.fromkeys((spec.shown for spec, _ in loaded.metrics[name]), 0.0)  # bytes of a sample's

    def rows(self) -> list[Row]:
        """Preparing, explainers in their order, then metrics."""
        explained: list[Result] = []
        rows: list[Row] = []
        tried = 0.0
        for spec, explainer in self.loaded.explainers:
            done = self.run.on_disk(spec, explainer)
            if done is not None and self.run.suffices(done, self.loaded.metrics[self.name]):
                rows.append(Row(self.name, "explainer", spec.shown, note="done"))
                explained += [done] if done.status == "ok" and done.whole else []
                continue
            began = time.perf_counter()
            row = self._explainer(spec, explainer)
            tried += time.perf_counter() - began
            rows.append(row)
            if not row.note or row.bounded:
                maps = self.trials.stand_in(spec.shown, explainer, self.question)
                explained.append(Result(self.name, self.run.framework, spec.shown, explainer.library, maps))
        metrics = self._metrics(explained)
        before = self.counted.of(self.model)
        prepared = time.perf_counter() - self.start
        forward, backward, masked = self._pace()
        timed = [replace(row, seconds=row.forward * forward + row.backward * backward) for row in rows]
        timed += [replace(row, seconds=row.forward * masked + row.backward * backward) for row in metrics]
        preparing = Row(self.name, "preparing", "predictions, checks, layers", *before, prepared)
        return [preparing, *timed]

    def _explainer(self, spec: ExplainerSpec, explainer: Explainer) -> Row:
        """The passes of an explainer; what it measures of the model beforehand is measured here."""
        n = len(self.question)
        try:
            if isinstance(explainer, Method):
                contrasts = bool(getattr(explainer, "contrasts", False))
                part = explainer.ready(self.question.whole if contrasts else self.question)
                forward, backward = passes(explainer, part)
                self.trials.add(spec.shown, explainer, part, (forward + backward) / len(part))
                return Row(self.name, "explainer", spec.shown, forward, backward, whole=contrasts)
        except UnknownPasses as unknown:
            return Row(self.name, "explainer", spec.shown, n, 0, bounded=True, note=str(unknown))
        except CrossXAIError as error:
            return Row(self.name, "explainer", spec.shown, note=str(error))
        why = f"how many passes {spec.shown} makes is not known; one for each sample is counted"
        return Row(self.name, "explainer", spec.shown, n, 0, bounded=True, note=why)

    def _metrics(self, explained: list[Result]) -> list[Row]:
        """A row per metric: what it adds to the passes of those before it, since curves share their ends."""
        if not explained:
            return []
        given = self.loaded.metrics[self.name]
        refused, _, work = self.run.work(explained, given)
        by_label = {spec.shown: explainer for spec, explainer in self.loaded.explainers}
        sums: dict[str, tuple[int, int]] = {}
        bounded = {
            spec.shown: reason
            for spec, metric in given
            if isinstance(metric, Curve)
            and (
                reason := PRECISE
                if getattr(metric.rule, "precision", None) is not None
                else ALIKE
                if self.trials.missing
                else ""
            )
        }
        for group, maps, stream, others in work:
            before = 0
            for place, label in enumerate(stream):
                first = [*stream.values()][: place + 1]
                after = curves.passes(self.run.measured, maps, first)
                forward, backward = sums.get(label, (0, 0))
                sums[label] = forward + after - before, backward
                points = curves.passes(self.run.measured, maps[:1], [stream[label]]) / len(self.question)
                self.curves[label] = max(self.curves[label], 8 * points * _numbers(stream[label]))
                before = after
            if before and takes_copy(self.question, before * sum(v[0].size for v in self.question.inputs)):
                self.quick = self.run.measured.folded()
            for label, metric in others.items():
                for one in group:
                    own = self._alone(metric, by_label[one.label])
                    forward, backward = sums.get(label, (0, 0))
                    sums[label] = forward + own[0], backward + own[1]
        rows = [
            Row(self.name, "metric", label, *passes, bounded=label in bounded, note=bounded.get(label, ""))
            for label, passes in sums.items()
        ]
        return rows + [Row(self.name, "metric", label, note=why) for label, why in refused.items() if label not in sums]

    def _alone(self, metric: Any, explainer: Explainer) -> tuple[int, int]:
        """(forward, backward) of a metric of the explained question, its explanations included."""
        try:
            own = len(self.question) * int(metric.passes(self.question)) if hasattr(metric, "passes") else 0
            if not needs_explainer(metric):
                return own, 0
            forward, backward = (
                passes(explainer, self.question) if isinstance(explainer, Method) else (len(self.question), 0)
            )
            times = metric.explanations(self.question, explainer)
            return own + times * forward, times * backward
        except CrossXAIError:  # it will be a row with its reason
            return 0, 0

    def _pace(self) -> tuple[float, float, float]:
        """Seconds of one sample in a batch: a forward pass, a backward one, and a forward one of curves; none is counted."""
        with self.counted.paused():
            rows = np.arange(min(DEFAULT_BATCH_SIZE, self.question.batch_size)) % len(self.question)
            values = tuple(v[rows] for v in self.question.values)
            forward = _timed(lambda: self.question.score(values, rows)) / len(rows)
            masked = forward
            if self.quick is not self.run.measured:
                masked = _timed(lambda: self.quick.score(values, rows)) / len(rows)
            try:
                both = _timed(lambda: self.question.score_and_grad(values, rows)) / len(rows)
            except CrossXAIError:
                return forward, 0.0, masked
        return forward, max(0.0, both - forward), masked

    def memory(self) -> int:
        """Bytes: what this process holds after a batch of the model, four batches of copies, and every map."""
        sample = sum(int(v[0].nbytes) for v in self.question.inputs)
        return _resident() + round(BATCHES * DEFAULT_BATCH_SIZE * sample) + self.maps()

    def maps(self) -> int:
        """Bytes of all maps."""
        one = sum(int(v[0].nbytes) for v in self.question.inputs)
        return len(self.question) * one * len(self.loaded.explainers)

    def tables(self) -> int:
        """Bytes of names, scores, curves and predictions in the files of a run, and of the report's scores."""
        n, explainers = len(self.question), len(self.loaded.explainers)
        own = NAME + sum(SCORE + curve for curve in self.curves.values())
        outputs = np.size(getattr(self.question.target, "weights", 0)) * 12  # what is explained beside them
        return round(n * explainers * own) + outputs + score_files.size(n * explainers * len(self.curves))

    def disk(self) -> int:
        """Bytes of those that are kept."""
        rows, whole = self.run.rows, self.maps()
        if rows is not None:
            return whole // len(self.question) * len(rows)
        return whole // 2 if self.run.keep == HALF else whole


def _numbers(metric: Any) -> int:
    """How many numbers a sample's curve has per point: none where areas are estimated, two where points differ by sample."""
    if not isinstance(metric, Curve) or metric.auto:
        return 0
    return 1 if metric.unit in ("pixel", "element") and not getattr(metric.rule, "reads", True) else 2


PRECISE = "at most: the precision decides how many points are needed"
ALIKE = "at most: equal maps of methods of one name share their passes"


def _timed(work: Callable[[], object]) -> float:
    """Seconds of the second time, since a first one may trace or allocate."""
    work()
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _resident() -> int:
    """The most bytes that this process has held; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024
