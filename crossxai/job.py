"""Job: one model of an experiment, its question, its maps and their scores, each in a file as soon as it is known."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import Progress

import crossxai
from crossxai import sources
from crossxai.asking import measured_as, questions, said_of, words_of, words_of_what
from crossxai.attribution import Attribution, Explainer
from crossxai.errors import InvalidFile, InvalidInput, MissingDependency, UnknownName, Unsupported
from crossxai.evaluation import baselines, curves, joint
from crossxai.evaluation.modality import DROP
from crossxai.experiment import Experiment, ExplainerSpec, MetricSpec
from crossxai.files import (
    Explanation,
    Predictions,
    Samples,
    read_explanation,
    write_explanation,
    write_predictions,
)
from crossxai.judging import apart, asked, attribution, cost_of, judging_cost
from crossxai.masks import SampleMasks
from crossxai.question import Question
from crossxai.scores import Metric

CONTROLS = "controls"


class Job:
    """One model of an experiment: its question, its maps and their scores."""

    def __init__(
        self,
        experiment: Experiment,
        samples: Samples,
        subject: sources.Subject,
        name: str,
        out: Path,
        progress: Progress,
        console: Console,
    ) -> None:
        self.name, self.out, self.progress, self.console = name, out, progress, console
        self.framework = subject.framework
        asked_of = questions(experiment, samples, subject, name)
        self.question, self.measured, self.kind = asked_of.explained, asked_of.measured, asked_of.kind
        outputs = asked_of.outputs
        self.identity = _hash(
            {
                "crossxai": crossxai.__version__,
                "model": subject.digest or hashlib.sha256(np.ascontiguousarray(outputs).tobytes()).hexdigest(),
                "framework": self.framework,
                "samples": sources.fingerprint(samples),
                "chosen": hashlib.sha256(np.ascontiguousarray(self.question.target.weights).tobytes()).hexdigest(),
                "link": self.question.target.link,
            }
        )
        words = words_of_what(experiment, samples)
        write_predictions(
            out / "predictions" / f"{name}.h5",
            Predictions(
                model=name,
                framework=self.framework,
                outputs=outputs,
                score=self.measured.target.score(outputs, np.arange(len(outputs))),
                target=words_of(measured_as(experiment, samples), words),
                info={**said_of(asked_of, experiment, samples), **_chosen(samples, self.question)},
            ),
        )

    def explain(self, made: list[tuple[ExplainerSpec, Explainer]]) -> None:
        """Maps of every explainer whose file is missing or of another task."""
        todo = [(spec, explainer) for spec, explainer in made if self._on_disk(spec, explainer) is None]
        costs = [cost_of(explainer, self.question) for _, explainer in todo]
        bar = self.progress.add_task(self.name, total=sum(costs))
        for (spec, explainer), cost in zip(todo, costs, strict=True):
            self.progress.update(bar, description=f"{self.name}: {spec.shown}")
            answer: Attribution | None = None
            reason = ""
            try:
                answer = explainer(self.question)
            except (Unsupported, InvalidInput, UnknownName, MissingDependency) as error:
                reason = str(error)
            write_explanation(self._path(spec.shown), self._explanation(spec, explainer, answer, reason))
            self.progress.advance(bar, cost)
        self.progress.update(bar, description=f"{self.name}: explained", completed=sum(costs))

    def judge(
        self, made: list[tuple[ExplainerSpec, Explainer]], metrics: list[tuple[MetricSpec, Metric]]
    ) -> dict[str, str]:
        """Scores that the files lack, in one stream; returns the metrics that refuse, with their reasons."""
        found = [self._on_disk(spec, explainer) for spec, explainer in made]
        explained = [e for e in found if e is not None and e.status == "ok"]
        if not explained:
            return {}
        refused = self._refused(explained[0], metrics)
        usable = {spec.shown: metric for spec, metric in metrics if spec.shown not in refused}
        hashes = {name: _hash({"metric": _content(m), "link": self.measured.target.link}) for name, m in usable.items()}
        about = {name: self._modality(metric) for name, metric in usable.items()}
        alone = {e.label: joint.refusals(usable, self.measured, attribution(e, self.measured)) for e in explained}
        refused |= {f"{metric} of {label}": why for label, found in alone.items() for metric, why in found.items()}
        for metric in usable:
            without = [x for x, found in alone.items() if metric in found and not x.startswith(f"{CONTROLS}.")]
            if without:
                self._warn(f"{metric} is left out of {', '.join(without)}: {alone[without[0]][metric]}")
        # A metric judges the maps of one modality, which an explainer may not have, or all that can be compared.
        only = {spec.shown: spec.only for spec, _ in metrics}
        every = {
            e.label: {
                name: hashes[name]
                for name in usable
                if about[name] in e.values
                and (DROP not in e.extras or getattr(usable[name], "axis", "") == "cross-modal")
                and name not in alone[e.label]
                and (not only[name] or e.label in only[name] or e.library == CONTROLS)
            }
            for e in explained
        }
        groups: dict[tuple[str, ...], list[Explanation]] = {}
        for explanation in explained:
            wanted = every[explanation.label]
            lacking = tuple(name for name in wanted if explanation.judged.get(name) != wanted[name])
            if lacking or set(explanation.judged) != set(wanted):
                groups.setdefault(lacking, []).append(explanation)
        work = [
            (group, [attribution(e, self.question) for e in group], *apart({name: usable[name] for name in names}))
            for names, group in groups.items()
        ]
        explainers = {spec.shown: explainer for spec, explainer in made}
        total = sum(
            curves.passes(self.measured, maps, [*judges.values()])
            + sum(judging_cost(m, self.question, explainers[e.label]) for m in others.values() for e in group)
            for group, maps, judges, others in work
        )
        bar = self.progress.add_task(f"{self.name}: judging", total=total)
        for group, maps, judges, others in work:
            self.progress.update(bar, description=f"{self.name}: judging")
            results = curves.evaluate(self.measured, maps, [*judges.values()], lambda n: self.progress.advance(bar, n))
            for explanation, one, scores in zip(group, maps, results, strict=True):
                explainer = explainers[explanation.label]
                known = {**explanation.scores, **dict(zip(judges, scores, strict=True))}
                for label, other in others.items():
                    self.progress.update(bar, description=f"{self.name}: {label} of {explanation.label}")
                    known[label] = asked(other, self.question, one, explainer, self._warn)
                    self.progress.advance(bar, judging_cost(other, self.question, explainer))
                judged = every[explanation.label]
                write_explanation(
                    self._path(explanation.label),
                    replace(explanation, scores={name: known[name] for name in judged}, judged=judged),
                )
        # `steps="auto"` may need fewer passes than the most that were announced.
        self.progress.update(bar, description=f"{self.name}: judged", completed=total)
        return refused

    def _warn(self, words: str) -> None:
        self.console.print(f"[yellow]{self.name}: {words}")

    def _modality(self, metric: Metric) -> str:
        """The modality whose maps a metric judges; the first unless it names one."""
        return str(getattr(metric, "modality", None) or self.question.modalities[0].name)

    def _refused(self, explanation: Explanation, metrics: list[tuple[MetricSpec, Metric]]) -> dict[str, str]:
        """Metrics that cannot judge this kind of input, found out on one sample without a forward pass."""
        one = self.measured[:1]
        maps = {m.name: np.full_like(v, np.nan) for m, v in zip(one.modalities, one.values, strict=True)}
        complete = {"completeness_gap": np.zeros(1)}  # whether maps add up is asked of each explainer's own
        probe = attribution(replace(explanation, ids=one.ids, values=maps, extras=complete), one)
        refused: dict[str, str] = {}
        for spec, metric in metrics:
            try:
                if hasattr(metric, "check"):
                    metric.check(self.question)
                elif isinstance(metric, curves.Curve):
                    curves.passes(one, [probe], [metric])
                    modality, values = one.only(self._modality(metric)).one
                    baselines.filled(metric.fill, modality, values)
                else:
                    metric(one, probe)
            except (Unsupported, InvalidInput) as error:
                refused[spec.shown] = str(error)
                self._warn(f"{spec.shown} is left out: {error}")
        return refused

    def _path(self, label: str) -> Path:
        return self.out / "explanations" / self.name / f"{label}.h5"

    def _task(self, spec: ExplainerSpec, explainer: Explainer) -> str:
        library = {"gradcam": "grad-cam", "controls": "numpy"}.get(explainer.library, explainer.library)
        return _hash({"on": self.identity, "name": spec.name, "params": repr(explainer), "version": version(library)})

    def _on_disk(self, spec: ExplainerSpec, explainer: Explainer) -> Explanation | None:
        path = self._path(spec.shown)
        if not path.is_file():
            return None
        try:
            explanation = read_explanation(path)
        except InvalidFile as error:
            self.console.print(f"[yellow]{path.name} is unreadable and is computed again: {error}")
            return None
        return explanation if explanation.task == self._task(spec, explainer) else None

    def _explanation(
        self, spec: ExplainerSpec, explainer: Explainer, answer: Attribution | None, reason: str
    ) -> Explanation:
        common: dict[str, Any] = {
            "model": self.name,
            "framework": self.framework,
            "label": spec.shown,
            "explainer": spec.name,
            "library": explainer.library,
            "profile": explainer.profile,
            "ids": self.question.ids,
            "task": self._task(spec, explainer),
            "convention": getattr(explainer, "conventions", {}).get(explainer.profile, ""),
        }
        if answer is None:
            return Explanation(**common, params=dict(spec.params), status="unsupported", reason=reason)
        return Explanation(
            **common,
            params=_plain(dict(answer.params)),
            values={m.name: v for m, v in zip(answer.modalities, answer.values, strict=True)},
            degenerate=tuple(answer.degenerate().tolist()),
            seconds=answer.seconds,
            extras={name: np.asarray(extra) for name, extra in answer.extras.items()},
        )


def _chosen(samples: Samples, question: Question) -> dict[str, Any]:
    """The class explained of each sample, where there are classes."""
    return {"classes": question.target.weights.argmax(axis=1).tolist()} if samples.task == "classification" else {}


def version(package: str) -> str:
    """A package's installed version, "" if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _content(metric: Metric) -> list[str]:
    """A metric's name and parameters as built, arrays by their hash, so that other masks or seeds are another metric."""
    values = {name: getattr(metric, name) for name in getattr(metric, "__dataclass_fields__", {})}
    digests = {
        name: hashlib.sha256(np.ascontiguousarray(v).tobytes()).hexdigest() if isinstance(v, np.ndarray) else repr(v)
        for name, v in values.items()
    }
    return [metric.name, *(f"{name}={digest}" for name, digest in digests.items())]


def _plain(params: Any) -> Any:
    """Parameters as JSON can hold them: masks by their size and hash."""
    if isinstance(params, dict):
        return {name: _plain(value) for name, value in params.items()}
    return repr(params) if isinstance(params, SampleMasks) else params


def _hash(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
