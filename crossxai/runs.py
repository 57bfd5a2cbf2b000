"""Runs: an experiment becomes tasks, tasks become files, and whatever is on disk already is not computed again.

A folder holds samples.h5, predictions/<model>.h5, explanations/<model>/<label>.h5 and, last of all, manifest.json; the
report reads nothing else. Stop a run anywhere and start it again: it goes on with the first file that is missing.
"""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import json
import platform
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

import crossxai
from crossxai import evaluation, explainers, sources
from crossxai.atomic import write_text
from crossxai.attribution import Attribution, Explainer
from crossxai.errors import InvalidFile, InvalidInput, Unsupported
from crossxai.evaluation import curves
from crossxai.experiment import Experiment, ExplainerSpec, MetricSpec
from crossxai.explainers import Method
from crossxai.files import (
    Explanation,
    Predictions,
    Samples,
    read_explanation,
    writable_folder,
    write_explanation,
    write_predictions,
    write_samples,
)
from crossxai.question import Question
from crossxai.scores import Metric, Scores
from crossxai.target import Target

PACKAGES = (
    "numpy",
    "torch",
    "torchvision",
    "tensorflow",
    "keras",
    "captum",
    "grad-cam",
    "lime",
    "xplique",
    "scikit-image",
)


def run(experiment: Experiment, out: Path, console: Console | None = None) -> Path:
    """Run an experiment into the folder `out` and return it; raises before any work if a name or a parameter is wrong."""
    start = time.perf_counter()
    made = [(spec, _explainer(spec, experiment.seed)) for spec in experiment.explainers]
    writable_folder(out)
    samples, data = sources.samples(experiment)
    write_samples(out / "samples.h5", samples)
    models: list[dict[str, Any]] = []
    console = console or Console(stderr=True)
    with Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("passes"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as progress:
        for spec in experiment.models:
            subject = sources.subject(spec, experiment.folder, console.is_terminal)
            metrics = [_metric(m, experiment, samples, subject.mean) for m in experiment.metrics]
            job = _Job(experiment, samples, subject, spec.name, out, progress, console)
            job.explain(made)
            job.judge(made, metrics)
            models.append(
                {
                    "name": spec.name,
                    "framework": subject.framework,
                    "weights_sha256": subject.digest,
                    "metrics": dict(subject.metrics),
                }
            )
    _remove_others(out, experiment)
    write_text(out / "manifest.json", json.dumps(_manifest(experiment, data, models, start), indent=1))
    return out


class _Job:
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
        model = subject.model
        inputs = tuple(samples.inputs[m.name] for m in model.modalities)
        size = experiment.batch_size
        outputs = np.concatenate(
            [model.predict(tuple(v[i : i + size] for v in inputs)) for i in range(0, len(inputs[0]), size)]
        )
        of = experiment.target.of
        if outputs.ndim != 2:
            raise InvalidInput(
                f"model {name!r} gives outputs of shape {outputs.shape}; an experiment explains classes (n, classes)"
            )
        chosen = (
            outputs.argmax(axis=1)
            if of == "predicted"
            else samples.labels
            if of == "label"
            else np.full(len(outputs), of)
        )
        target = Target.classes(chosen, outputs.shape[1], experiment.target.explain)
        self.question = Question(model, inputs, target, samples.ids, batch_size=size)
        self.measured = replace(self.question, target=replace(target, link=experiment.target.measure))
        self.identity = _hash(
            {
                "crossxai": crossxai.__version__,
                "model": subject.digest or hashlib.sha256(np.ascontiguousarray(outputs).tobytes()).hexdigest(),
                "framework": self.framework,
                "samples": sources.fingerprint(samples),
                "chosen": chosen.tolist(),
                "link": experiment.target.explain,
            }
        )
        words = _class(experiment)
        write_predictions(
            out / "predictions" / f"{name}.h5",
            Predictions(
                model=name,
                framework=self.framework,
                outputs=outputs,
                score=self.measured.target.score(outputs, np.arange(len(outputs))),
                target=f"{_kind(experiment.target.measure)} of {words}",
                info={"explained": f"{_kind(experiment.target.explain)} of {words}", "classes": chosen.tolist()},
            ),
        )

    def explain(self, made: list[tuple[ExplainerSpec, Explainer]]) -> None:
        """Maps of every explainer whose file is missing or of another task."""
        todo = [(spec, explainer) for spec, explainer in made if self._on_disk(spec, explainer) is None]
        costs = [_cost(explainer, self.question) for _, explainer in todo]
        bar = self.progress.add_task(self.name, total=sum(costs))
        for (spec, explainer), cost in zip(todo, costs, strict=True):
            self.progress.update(bar, description=f"{self.name}: {spec.shown}")
            answer: Attribution | None = None
            reason = ""
            try:
                answer = explainer(self.question)
            except Unsupported as error:
                reason = str(error)
            write_explanation(self._path(spec), self._explanation(spec, explainer, answer, reason))
            self.progress.advance(bar, cost)
        self.progress.update(bar, description=f"{self.name}: explained", completed=sum(costs))

    def judge(self, made: list[tuple[ExplainerSpec, Explainer]], metrics: list[tuple[MetricSpec, Metric]]) -> None:
        """Scores of every map that lacks them, in one stream over samples, explainers, steps and metrics."""
        judged = _hash({"metrics": [spec.model_dump() for spec, _ in metrics], "link": self.measured.target.link})
        found = [self._on_disk(spec, explainer) for spec, explainer in made]
        todo = [e for e in found if e is not None and e.status == "ok" and e.judged != judged]
        maps = [_attribution(e, self.question) for e in todo]
        usable = [metric for _, metric in metrics]
        bar = self.progress.add_task(f"{self.name}: judging", total=curves.passes(self.measured, maps, usable))
        results = curves.evaluate(self.measured, maps, usable, lambda n: self.progress.advance(bar, n))
        for explanation, scores in zip(todo, results, strict=True):
            by_name: dict[str, Scores] = {s.metric: s for s in scores}
            write_explanation(
                self.out / "explanations" / self.name / f"{explanation.label}.h5",
                replace(explanation, scores=by_name, judged=judged),
            )
        self.progress.update(bar, description=f"{self.name}: judged")

    def _path(self, spec: ExplainerSpec) -> Path:
        return self.out / "explanations" / self.name / f"{spec.shown}.h5"

    def _task(self, spec: ExplainerSpec, explainer: Explainer) -> str:
        library = {"gradcam": "grad-cam", "controls": "numpy"}.get(explainer.library, explainer.library)
        return _hash({"on": self.identity, "name": spec.name, "params": repr(explainer), "version": _version(library)})

    def _on_disk(self, spec: ExplainerSpec, explainer: Explainer) -> Explanation | None:
        path = self._path(spec)
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
            params=dict(answer.params),
            values={m.name: v for m, v in zip(answer.modalities, answer.values, strict=True)},
            degenerate=tuple(answer.degenerate().tolist()),
            seconds=answer.seconds,
        )


def _attribution(explanation: Explanation, question: Question) -> Attribution:
    modalities = question.modalities
    values = tuple(explanation.values[m.name] for m in modalities)
    return Attribution(values, modalities, explanation.ids, explanation.label, explanation.profile)


def _explainer(spec: ExplainerSpec, seed: int) -> Explainer:
    kinds = explainers.discover()
    params = dict(spec.params)
    if spec.name in kinds:
        names = kinds[spec.name].__dataclass_fields__
        if "seed" in names:
            params.setdefault("seed", seed)
    return explainers.get(spec.name, profile=spec.profile, **params)


def _metric(
    spec: MetricSpec, experiment: Experiment, samples: Samples, mean: tuple[float, ...]
) -> tuple[MetricSpec, Metric]:
    """A metric, with what only the data know filled in: the dataset's mean colour, the ground-truth mask."""
    params = dict(spec.params)
    if params.get("fill") == "dataset_mean":
        if not mean:
            raise InvalidInput(
                f"metric {spec.name}: this model names no training mean; write fill = {{dataset_mean = [0.7, …]}}"
            )
        params["fill"] = {"dataset_mean": list(mean)}
    if spec.name == "mask_share":
        name, labels = params.pop("mask", next(iter(samples.masks), "")), params.pop("labels", None)
        if name not in samples.masks:
            raise InvalidInput(
                f"metric mask_share: no mask {name!r} in the data; there is {', '.join(samples.masks) or 'none'}"
            )
        mask = samples.masks[name]
        if labels is not None:  # an empty mask makes a sample undefined, which is what other labels should be
            mask = mask & np.isin(samples.labels, labels).reshape(-1, *[1] * (mask.ndim - 1))
        params |= {"masks": mask, "ids": samples.ids}
    known = {
        f: v for e in evaluation.discover() if e.name == spec.name for f, v in e.metric.__dataclass_fields__.items()
    }
    if "seed" in known:
        params.setdefault("seed", experiment.seed)
    return spec, evaluation.get(spec.name, **params)


def _cost(explainer: Explainer, question: Question) -> int:
    """Forward passes of an explainer, a backward one counted as two; at least one, so that every task moves the bar."""
    if not isinstance(explainer, Method):
        return len(question)
    forward, backward = explainer.passes(question)
    return len(question) * max(1, forward + 2 * backward)


def _remove_others(out: Path, experiment: Experiment) -> None:
    """Files of models and explainers that the experiment no longer names would otherwise appear in its report."""
    models, labels = {m.name for m in experiment.models}, {e.shown for e in experiment.explainers}
    for path in (*out.glob("predictions/*.h5"), *out.glob("explanations/*/*.h5")):
        model, label = (path.stem, None) if path.parent.name == "predictions" else (path.parent.name, path.stem)
        if model not in models or (label is not None and label not in labels):
            path.unlink()


def _manifest(
    experiment: Experiment, data: dict[str, Any], models: list[dict[str, Any]], start: float
) -> dict[str, Any]:
    return {
        "title": experiment.title,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "crossxai": crossxai.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
        "seed": experiment.seed,
        "batch_size": experiment.batch_size,
        "target": _words(experiment),
        "data": data,
        "models": models,
        "settings": json.loads(experiment.model_dump_json()),
        "seconds": time.perf_counter() - start,
    }


def _words(experiment: Experiment) -> str:
    of, target = _class(experiment), experiment.target
    if target.explain == target.measure:
        return f"{_kind(target.explain)} of {of}"
    return f"{_kind(target.explain)} of {of} (metrics measure its {_kind(target.measure)})"


def _class(experiment: Experiment) -> str:
    of = experiment.target.of
    return {"predicted": "the predicted class", "label": "the labelled class"}.get(str(of), f"class {of}")


def _kind(link: str) -> str:
    return {"identity": "logit", "softmax": "probability", "sigmoid": "probability"}[link]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _hash(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
