"""One model of a plan: the steps of its run, with their passes, and the memory and disk of its files."""

from __future__ import annotations

import sys
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
from crossxai.experiment.counting import Counted
from crossxai.experiment.model_run import ModelRun
from crossxai.experiment.progress import Failures, Progress
from crossxai.experiment.run import Loaded
from crossxai.experiment.specification import ExplainerSpec
from crossxai.experiment.trials import Trials, UnknownPasses, passes
from crossxai.explainers import Method
from crossxai.files import Result
from crossxai.files.maps import HALF
from crossxai.report import score_files

BATCHES = 4.0
"""Batches of copies that explainers hold at most."""
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


class PlannedModel:
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
