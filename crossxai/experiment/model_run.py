"""One model of an experiment: its question, its maps and their scores, each in a file as soon as it is known."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from crossxai.attribution import Attribution, Explainer, Metric
from crossxai.errors import InvalidFile, InvalidInput, StorageFailed, Unsupported
from crossxai.evaluation import curves
from crossxai.evaluation.curves import fills
from crossxai.evaluation.metrics import completeness
from crossxai.evaluation.metrics.modality import DROP
from crossxai.experiment import computing, deciding, keeping, sharding
from crossxai.experiment.loading import LoadedModel
from crossxai.experiment.origin import origin_of
from crossxai.experiment.progress import Failures, Progress, evaluation_cost, explaining_cost, stream_cost
from crossxai.experiment.questions import (
    Questions,
    describe_explained,
    describe_measure,
    describe_questions,
    measured_as,
    questions,
)
from crossxai.experiment.scoring import evaluate_alone, evaluate_stream, split_by_question
from crossxai.experiment.specification import Experiment, ExplainerSpec, MetricSpec
from crossxai.files import Predictions, Result, Samples, read_result, write_predictions, write_result
from crossxai.files.atomic import require_written
from crossxai.files.records import extras_of
from crossxai.files.tasks import digest, fingerprint
from crossxai.measures.detection import Box
from crossxai.on_demand import OnDemand
from crossxai.version import __version__

CONTROLS = "controls"
Refused = dict[str, str]
Wanted = dict[str, dict[str, str]]
Work = tuple[list[Result], list[Attribution], dict[str, Metric], dict[str, Metric]]


class ModelRun:
    """One model of an experiment: its question, its maps and their scores."""

    def __init__(
        self,
        experiment: Experiment,
        samples: Samples,
        loaded: LoadedModel,
        name: str,
        out: Path,
        progress: Progress,
        console: Console,
        failures: Failures,
        rows: slice | None = None,
        asked: dict[str, Questions] | None = None,
        known: str = "",
    ) -> None:
        """rows: of the samples, those of a shard; all of them decide what is asked, and are one `whole` question. asked: by
        model, where those questions are remembered for other shards. known: the samples' fingerprint."""
        self.name, self.out, self.progress, self.console, self.failures = name, out, progress, console, failures
        self.framework, self.check = loaded.framework, experiment.check
        by, known = None, known or fingerprint(samples)
        if rows is not None and samples.on_demand:
            spec = next(spec.model_dump(mode="json") for spec in experiment.models if spec.name == name)
            model = [spec, loaded.digest, computing.stated(loaded.model)]
            key = {"model": model, "samples": known, "crossxai": __version__}
            by = partial(sharding.outputs_once, out.parent, key, rows)
        about = (asked or {}).get(name) or questions(experiment, samples, loaded, name, by)
        if asked is not None:
            asked[name] = about
        self.question, self.measured, outputs, self.kind = about
        self.outputs = sharding.summary(outputs)
        target = self.question.target
        chosen = target.explained if isinstance(target, Box) else target.weights
        self.computing = computing.measured(about)
        self.identity = digest(
            {
                **computing.precision(loaded.model),
                "crossxai": __version__,
                "model": loaded.digest if loaded.complete else f"{loaded.digest} {_hash(outputs)}",
                "framework": self.framework,
                "samples": known,
                "chosen": _hash(chosen),
                "link": self.question.target.link,
                "check": experiment.check,
            }
        )
        explained = describe_explained(experiment, samples)
        info = {**describe_questions(about, experiment, samples), "check": self.check}
        self.rows = keeping.own_rows(experiment.keep_maps, samples, experiment.seed, rows)
        self.keep = keeping.in_force(experiment.keep_maps, self.rows)
        if rows is not None:
            self.question, self.measured = self.question.part(rows), self.measured.part(rows)
            outputs, samples = outputs[rows], samples[rows]
        if samples.task == "classification":
            info["classes"] = self.question.target.weights.argmax(axis=1).tolist()  # the class explained of each sample
        predictions = Predictions(
            model=name,
            framework=self.framework,
            outputs=outputs,
            score=self.measured.target.score(outputs, np.arange(len(outputs))),
            target=describe_measure(measured_as(experiment, samples), explained),
            info=info,
        )
        wanted = experiment.target.model_dump(exclude_defaults=True, exclude={"measure"}) or {"of": "predicted"}
        origin = replace(origin_of(self.question, outputs, {"target": wanted}), model=name)
        file = out / "predictions" / f"{name}.h5"
        write_predictions(file, predictions, self.question.target, origin, samples)

    def explain(
        self, explainers: list[tuple[ExplainerSpec, Explainer]], metrics: list[tuple[MetricSpec, Metric]]
    ) -> None:
        """Maps of every explainer whose file is missing, of another task, or of a failure, which may have passed; or whose maps
        were not kept as they are to be, or before a metric that is new."""
        on_disk = [self.on_disk(spec, explainer) for spec, explainer in explainers]
        known = [file is not None and self.suffices(file, metrics) for file in on_disk]
        todo = [pair for pair, done in zip(explainers, known, strict=True) if not done]
        costs = [explaining_cost(explainer, self.question) for _, explainer in todo]
        self.progress.stage(self.name, sum(cost for cost, _ in costs))
        for (spec, explainer), cost in zip(todo, costs, strict=True):
            try:
                with self.progress.step(f"{self.name}: {spec.shown}", *cost):
                    self._write(spec, explainer, self._explain(explainer))
            except Exception as error:  # one failure is one row; whatever an explainer raises, the others go on
                status, reason = self.failures.row(error, self.name, spec.shown)
                if status == "failed":
                    self._warn(f"{spec.shown} has failed: {reason}")
                self._write(spec, explainer, None, status, reason)
        self.progress.finish(f"{self.name}: explained")

    def _explain(self, explainer: Explainer) -> Attribution:
        """The maps of an explainer; one that compares samples with each other explains all of them, also in a shard."""
        if self.question.part_of is None or not getattr(explainer, "contrasts", False):
            return explainer(self.question)
        whole = self.question.whole
        if large := sum(v.nbytes for v in whole.inputs if isinstance(v, OnDemand)):
            raise Unsupported(
                f"compares samples with each other, and all of them, {large / 2**30:.1f} GiB, do not fit into memory: take fewer"
            )
        return of_samples(explainer(whole), self.question.ids)

    def tasks(self, explainers: list[tuple[ExplainerSpec, Explainer]]) -> dict[str, str]:
        """Each explainer's label, and the hash of what decides its maps."""
        return {spec.shown: self._task(spec, explainer) for spec, explainer in explainers}

    def metrics(self, metrics: list[tuple[MetricSpec, Metric]]) -> dict[str, str]:
        """Each metric's label, and the hash of what decides its scores."""
        link = self.measured.target.link
        return {spec.shown: deciding.of_scores(metric, link) for spec, metric in metrics}

    def suffices(self, file: Result, metrics: list[tuple[MetricSpec, Metric]]) -> bool:
        """Whether a file has all that is needed of an explainer, or its maps, from which the rest is measured."""
        if file.status != "ok" or file.whole:
            return file.status != "failed"
        return file.keep_maps == self.keep and file.evaluated == self._evaluated(metrics)

    def _evaluated(self, metrics: list[tuple[MetricSpec, Metric]]) -> str:
        return digest({"metrics": self.metrics(metrics), "only": {spec.shown: spec.only for spec, _ in metrics}})

    def evaluate(
        self, explainers: list[tuple[ExplainerSpec, Explainer]], metrics: list[tuple[MetricSpec, Metric]]
    ) -> dict[str, str]:
        """Scores that the files lack, in one stream; returns the metrics that refuse, with their reasons."""
        files = [self._written(spec, explainer) for spec, explainer in explainers]
        ok = [e for e in files if e is not None and e.status == "ok"]
        before_this = {metric: why for e in ok for metric, why in e.refused.items()}
        explained = [e for e in ok if e.whole]  # others are measured
        if not explained:
            return before_this
        refused, every, work = self.work(explained, metrics)
        by_label = {spec.shown: explainer for spec, explainer in explainers}
        costs = {
            (label, e.label): evaluation_cost(m, self.question, by_label[e.label])
            for group, _, _, others in work
            for label, m in others.items()
            for e in group
        }
        stream_passes = sum(stream_cost(stream, self.measured, maps) for _, maps, stream, _ in work)
        self.progress.stage(f"{self.name}: evaluating", stream_passes + sum(cost for cost, _ in costs.values()))
        before = len(self.failures.rows)
        for group, maps, stream, others in work:
            self.progress.say(f"{self.name}: evaluating")
            results = evaluate_stream(stream, self.measured, maps, self.progress.advance, self._refuse)
            for explanation, one, scores in zip(group, maps, results, strict=True):
                explainer = by_label[explanation.label]
                known = {**explanation.scores, **scores}
                for label, other in others.items():
                    title = f"{self.name}: {label} of {explanation.label}"
                    with self.progress.step(title, *costs[label, explanation.label], announce=False):
                        known[label] = evaluate_alone(label, other, self.question, one, explainer, self._refuse)
                wanted = every[explanation.label]
                failed = {f.metric for f in self.failures.rows[before:] if f.explainer == explanation.label}
                held = {name: known[name] for name in wanted}
                own = {name: key for name, key in wanted.items() if name not in failed}
                measured = replace(explanation, scores=held, score_hashes=own)
                evaluated = "" if failed else self._evaluated(metrics)
                self._save(self._kept(measured, refused, evaluated))
        # `steps="auto"` may need fewer passes than the most that were announced.
        self.progress.finish(f"{self.name}: evaluated")
        written = {e.label for group, *_ in work for e in group}
        for explanation in explained if self.keep != "all" else []:
            if explanation.label not in written:
                self._save(self._kept(explanation, refused, self._evaluated(metrics)))
        return before_this | refused

    def _kept(self, result: Result, refused: Refused, evaluated: str) -> Result:
        """A measured result with what is kept of its maps, and what a later run must know to take it as it is."""
        if self.keep == "all":
            return result
        own = (f for f in refused if " of " not in f or f.endswith(f" of {result.label}"))
        others = {metric: refused[metric] for metric in own}
        return replace(keeping.reduced(result, self.keep, self.rows), evaluated=evaluated, refused=others)

    def work(
        self, explained: list[Result], metrics: list[tuple[MetricSpec, Metric]]
    ) -> tuple[Refused, Wanted, list[Work]]:
        """What these maps lack: metrics that refuse, with their reasons; the hash of every score that a label should have; and
        groups of maps that lack the same, with metrics of the stream and others."""
        refused = self._refused(explained[0], metrics)
        usable = {spec.shown: metric for spec, metric in metrics if spec.shown not in refused}
        hashes = self.metrics(metrics)
        refusals = {e.label: completeness.refusals(usable, self.measured, e.labelled) for e in explained}
        refused |= {
            f"{metric} of {label}": why for label, reasons in refusals.items() for metric, why in reasons.items()
        }
        for metric in usable:
            without = [x for x, reasons in refusals.items() if metric in reasons and not x.startswith(f"{CONTROLS}.")]
            if without:
                self._warn(f"{metric} is left out of {', '.join(without)}: {refusals[without[0]][metric]}")
        only = {spec.shown: spec.only for spec, _ in metrics}
        every: Wanted = {}
        groups: dict[tuple[str, ...], list[Result]] = {}
        for e in explained:
            measuring = [name for name, m in usable.items() if self._measures(m, e, only[name])]
            wanted = {name: hashes[name] for name in measuring if name not in refusals[e.label]}
            every[e.label] = wanted
            lacking = tuple(name for name in wanted if e.score_hashes.get(name) != wanted[name])
            if lacking or set(e.score_hashes) != set(wanted):
                groups.setdefault(lacking, []).append(e)
        work = [
            (group, [e.labelled for e in group], *split_by_question({name: usable[name] for name in names}))
            for names, group in groups.items()
        ]
        return refused, every, work

    def _refuse(self, error: Exception, label: str, metric: str) -> str:
        status, reason = self.failures.row(error, self.name, label, metric)
        self._warn(f"{metric} of {label} {'has failed' if status == 'failed' else 'is left out'}: {reason}")
        return reason

    def _warn(self, message: str) -> None:
        self.console.print(f"{self.name}: {message}", style="yellow", markup=False, highlight=False, soft_wrap=True)

    def _modality(self, metric: Metric) -> str:
        """The modality whose maps a metric measures; the first unless it names one."""
        return str(getattr(metric, "modality", None) or self.question.modalities[0].name)

    def _measures(self, metric: Metric, result: Result, only: Sequence[str]) -> bool:
        """Whether a metric measures these maps: of its modality, which an explainer may not have, and comparable with others."""
        if self._modality(metric) not in result.maps:
            return False
        if DROP in result.attribution.extras and getattr(metric, "axis", "") != "cross-modal":
            return False
        return not only or result.label in only or result.library == CONTROLS

    def _refused(self, explanation: Result, metrics: list[tuple[MetricSpec, Metric]]) -> dict[str, str]:
        """Metrics that cannot measure this kind of input, tested on one sample without a forward pass."""
        one = self.measured.whole[:1]
        maps = tuple(np.full_like(v, np.nan) for v in one.values)
        complete = {"completeness_gap": np.zeros(1)}  # whether maps add up is tested on each explainer's own
        probe = Attribution(maps, one.modalities, one.ids, explanation.label, extras=complete)
        refused: dict[str, str] = {}
        for spec, metric in metrics:
            try:
                if hasattr(metric, "check"):
                    metric.check(self.question)
                elif isinstance(metric, curves.Curve):
                    curves.passes(one, [probe], [metric])
                    modality, values = one.only(self._modality(metric)).one
                    fills.filled(metric.fill, modality, values)
                else:
                    metric(one, probe)
            except (Unsupported, InvalidInput) as error:
                refused[spec.shown] = str(error)
                self._warn(f"{spec.shown} is left out: {error}")
            except Exception:
                pass  # of a map of NaN; a failure on real maps is reported when they are measured
        return refused

    def _path(self, label: str) -> Path:
        return self.out / "explanations" / self.name / f"{label}.h5"

    def _task(self, spec: ExplainerSpec, explainer: Explainer) -> str:
        return deciding.of_maps(spec, explainer, self.identity)

    def on_disk(self, spec: ExplainerSpec, explainer: Explainer) -> Result | None:
        """The explainer's maps in the run's folder, if they are of this task."""
        path = self._path(spec.shown)
        if not path.is_file():
            return None
        try:
            return self._of_task(read_result(path), spec, explainer)
        except InvalidFile as error:
            self._warn(f"{path.name} is unreadable and is computed again: {error}")
            return None

    def _written(self, spec: ExplainerSpec, explainer: Explainer) -> Result | None:
        """The same of maps that are there by now; raises `StorageFailed` where they are not."""
        try:
            return self._of_task(read_result(self._path(spec.shown)), spec, explainer)
        except InvalidFile as error:
            raise StorageFailed(
                f"{error}; it was written before: see whether its disk is still there and run this again"
            ) from error

    def _of_task(self, explanation: Result, spec: ExplainerSpec, explainer: Explainer) -> Result | None:
        known = explanation.task == self._task(spec, explainer) and explanation.ids == self.question.ids
        return explanation if known else None

    def _write(
        self, spec: ExplainerSpec, explainer: Explainer, own: Attribution | None, status: str = "ok", reason: str = ""
    ) -> None:
        """The file of an explainer's maps, or of the reason why there are none."""
        degenerate = () if own is None else tuple(own.degenerate().tolist())
        if own is None:
            own = Attribution((), (), self.question.ids, spec.name, params=dict(spec.params))
        result = Result(
            self.name,
            self.framework,
            spec.shown,
            explainer.library,
            replace(own, explainer=spec.name, profile=explainer.profile),
            degenerate=degenerate,
            status=status,
            reason=reason,
            task=self._task(spec, explainer),
            check=self.check,
            convention=getattr(explainer, "conventions", {}).get(explainer.profile, ""),
        )
        self._save(result)

    def _save(self, result: Result) -> None:
        require_written(self.out / "samples.h5")
        write_result(self._path(result.label), result)


def of_samples(maps: Attribution, ids: Sequence[str]) -> Attribution:
    """The maps of some samples by their names."""
    places = {name: place for place, name in enumerate(maps.ids)}
    rows = np.array([places[name] for name in ids])
    extras = extras_of(maps.extras, rows, len(maps))
    return replace(maps, values=tuple(v[rows] for v in maps.values), ids=tuple(ids), extras=extras)


def _hash(values: Any) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()
