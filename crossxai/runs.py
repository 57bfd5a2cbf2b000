"""Runs: an experiment becomes tasks, tasks become files, and whatever is on disk already is not computed again.

A folder holds samples.h5, predictions/<model>.h5, explanations/<model>/<label>.h5 and, last of all, manifest.json; the
report reads nothing else. Stop a run anywhere and start it again: it goes on with the first file that is missing.
"""

from __future__ import annotations

import datetime
import json
import platform
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

import crossxai
from crossxai import sources
from crossxai.asking import check_scales, words
from crossxai.atomic import write_text
from crossxai.batching import DEFAULT
from crossxai.errors import InvalidFile
from crossxai.experiment import Experiment
from crossxai.files import Samples, ours, writable_folder, write_samples
from crossxai.job import Job, version

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
    """Run an experiment into the folder `out` and return it.

    Names, parameters, data and models are checked before any map is computed. What an explainer or a metric cannot do for
    a model is recorded with its reason and the rest goes on.
    """
    start = time.perf_counter()
    for spec in experiment.explainers:
        sources.explainer(spec, experiment.seed)
    for metric in experiment.metrics:
        sources.metric(metric, experiment, None, {})
    writable_folder(out)
    if (out / "samples.h5").exists() and not ours(out / "samples.h5"):
        raise InvalidFile(f"{out / 'samples.h5'} was not written by CrossXAI and would be lost; choose another folder")
    # A stopped run must not be reported with the settings of the last one.
    (out / "manifest.json").unlink(missing_ok=True)
    samples, data = sources.samples(experiment)
    experiment = sources.with_controls(experiment, samples)
    made = [(spec, sources.explainer(spec, experiment.seed, samples)) for spec in experiment.explainers]
    console = console or Console(stderr=True)
    subjects = [sources.subject(spec, experiment.folder, console.is_terminal) for spec in experiment.models]
    metrics = [
        [sources.metric(m, experiment, samples, subject.mean) for m in experiment.metrics] for subject in subjects
    ]
    write_samples(out / "samples.h5", samples)
    models: list[dict[str, Any]] = []
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
        jobs = [
            Job(experiment, samples, subject, spec.name, out, progress, console)
            for spec, subject in zip(experiment.models, subjects, strict=True)
        ]
        check_scales(experiment, {job.name: job.kind for job in jobs})
        for job, subject, judges in zip(jobs, subjects, metrics, strict=True):
            job.explain(made)
            refused = job.judge(made, judges)
            models.append(
                {
                    "name": job.name,
                    "framework": subject.framework,
                    "outputs": {"kind": job.kind.kind, "known": job.kind.how},
                    "weights_sha256": subject.digest,
                    "trained_without": subject.trained_without,
                    "standard_units": list(subject.standard),
                    "metrics": dict(subject.metrics),
                    "refused": refused,
                }
            )
    _remove_others(out, experiment)
    write_text(out / "manifest.json", json.dumps(_manifest(experiment, samples, data, models, start), indent=1))
    return out


def _remove_others(out: Path, experiment: Experiment) -> None:
    """Our files of models and explainers that the experiment no longer names would otherwise appear in its report."""
    models, labels = {m.name for m in experiment.models}, {e.shown for e in experiment.explainers}
    for path in (*out.glob("predictions/*.h5"), *out.glob("explanations/*/*.h5")):
        model, label = (path.stem, None) if path.parent.name == "predictions" else (path.parent.name, path.stem)
        if (model not in models or (label is not None and label not in labels)) and ours(path):
            path.unlink()


def _manifest(
    experiment: Experiment, samples: Samples, data: dict[str, Any], models: list[dict[str, Any]], start: float
) -> dict[str, Any]:
    return {
        "title": experiment.title,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "crossxai": crossxai.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: found for name in PACKAGES if (found := version(name))},
        "seed": experiment.seed,
        "batch_size": experiment.batch_size or f"{DEFAULT}, measured for long streams",
        "task": samples.task,
        "target": words(experiment, samples),
        "data": data,
        "models": models,
        "settings": experiment.model_dump(mode="json"),
        "seconds": time.perf_counter() - start,
    }
