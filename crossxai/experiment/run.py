"""Runs: an experiment becomes tasks, tasks become files, and whatever is on disk already is not computed again.

A folder holds samples.h5, predictions/<model>.h5, explanations/<model>/<label>.h5 and, last of all, manifest.json, before which
plan.json stands in its place; the report reads nothing else. Stop a run anywhere and start it again: it goes on with the first
file that is missing.
"""

from __future__ import annotations

import datetime
import json
import platform
import time
from pathlib import Path
from typing import Any

from rich.console import Console

import crossxai
from crossxai.attribution import Explainer
from crossxai.batching import DEFAULT_BATCH_SIZE
from crossxai.errors import BrokenAssumption, CrossXAIError, InvalidFile, ModelFailed
from crossxai.experiment import loading
from crossxai.experiment.failures import Failures
from crossxai.experiment.model_run import Job, write_failed
from crossxai.experiment.models import LoadedModel, load_model
from crossxai.experiment.progress import Progress
from crossxai.experiment.questions import check_scales, words
from crossxai.experiment.specification import Experiment, ExplainerSpec, ModelSpec
from crossxai.files import Samples, ours, plan, writable_folder, write_samples
from crossxai.files.atomic import write_text
from crossxai.files.fingerprints import version

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
    a model is recorded with its reason and the rest goes on; so it does when one of them raises, or a whole model fails. The
    manifest's `failures` says what did.
    """
    start = time.perf_counter()
    for spec in experiment.explainers:
        loading.explainer(spec, experiment.seed)
    for metric in experiment.metrics:
        loading.metric(metric, experiment, None, {})
    writable_folder(out)
    if (out / "samples.h5").exists() and not ours(out / "samples.h5"):
        raise InvalidFile(f"{out / 'samples.h5'} was not written by CrossXAI and would be lost; choose another folder")
    # A stopped run must not be reported with the settings of the last one.
    for name in ("manifest.json", plan.NAME):
        (out / name).unlink(missing_ok=True)
    samples, data = loading.samples(experiment)
    experiment = loading.with_controls(experiment, samples)
    made = [(spec, loading.explainer(spec, experiment.seed, samples)) for spec in experiment.explainers]
    console = console or Console(stderr=True)
    kept = Failures(out)
    failed: dict[str, str] = {}
    loaded_models: dict[str, LoadedModel] = {}
    for model in experiment.models:
        try:
            loaded_models[model.name] = load_model(model, experiment.folder)
        except (ModelFailed, BrokenAssumption) as error:  # other errors are of the experiment file, and end the run
            _, failed[model.name] = kept.row(error, model.name)
    judges = {
        name: [loading.metric(m, experiment, samples, loaded.mean) for m in experiment.metrics]
        for name, loaded in loaded_models.items()
    }
    write_samples(out / "samples.h5", samples)
    with Progress(console) as progress:
        jobs: dict[str, Job] = {}
        mistakes: list[CrossXAIError] = []
        for name, loaded in loaded_models.items():
            try:
                jobs[name] = Job(experiment, samples, loaded, name, out, progress, console, kept)
            except InvalidFile:
                raise
            except Exception as error:  # one failure is one row; whatever a model raises, the others go on
                if isinstance(error, CrossXAIError) and not isinstance(error, ModelFailed | BrokenAssumption):
                    mistakes.append(error)
                failed[name] = kept.row(error, name)[1]
        if not jobs and mistakes:  # of the experiment, rather than of a model
            raise mistakes[0]
        for name, reason in failed.items():
            _give_up(out, name, experiment, samples, made, reason)
            console.print(
                f"{name} is left out: {reason}", style="yellow", markup=False, highlight=False, soft_wrap=True
            )
        check_scales(experiment, {name: job.kind for name, job in jobs.items()})
        models = [
            _entry(model, loaded_models.get(model.name), failed.get(model.name, "")) for model in experiment.models
        ]
        for entry in models:
            if job := jobs.get(entry["name"]):
                entry["outputs"] = {"kind": job.kind.kind, "known": job.kind.how}
        draft = _manifest(experiment, samples, data, models, kept, start)
        hashes = {name: job.metrics(judges[name]) for name, job in jobs.items()}
        plan.write(out, draft, {name: job.tasks(made) for name, job in jobs.items()}, hashes)
        for entry in models:
            if job := jobs.get(entry["name"]):
                job.explain(made)
                entry["refused"] = job.judge(made, judges[job.name])
    _remove_others(out, experiment)
    text = json.dumps(_manifest(experiment, samples, data, models, kept, start), indent=1)
    write_text(out / "manifest.json", text)
    (out / plan.NAME).unlink(missing_ok=True)
    return out


def failures(out: Path) -> list[dict[str, str]]:
    """What failed in a finished run: model, explainer, metric ("" for all of them), reason and the file of the traceback."""
    return list(json.loads((out / "manifest.json").read_text(encoding="utf-8")).get("failures", []))


def _entry(spec: ModelSpec, loaded: LoadedModel | None, failed: str) -> dict[str, Any]:
    """What the manifest says of a model, before it is judged."""
    about: dict[str, Any] = {
        "name": spec.name,
        "framework": loaded.framework if loaded else "" if spec.factory else spec.framework,
        "weights_sha256": loaded.digest if loaded else "",
        "trained_without": loaded.trained_without if loaded else "",
        "standard_units": list(loaded.standard) if loaded else [],
        "metrics": dict(loaded.metrics) if loaded else {},
        "refused": {},
    }
    return {**about, "failed": failed} if failed else about


def _give_up(
    out: Path,
    name: str,
    experiment: Experiment,
    samples: Samples,
    made: list[tuple[ExplainerSpec, Explainer]],
    reason: str,
) -> None:
    """Rows of the reason in place of a model's files."""
    spec = next(m for m in experiment.models if m.name == name)
    predictions = out / "predictions" / f"{name}.h5"
    if ours(predictions):
        predictions.unlink()
    write_failed(out, name, "" if spec.factory else spec.framework, samples.ids, made, reason, experiment.check)


def _remove_others(out: Path, experiment: Experiment) -> None:
    """Our files of models and explainers that the experiment no longer names would otherwise appear in its report."""
    models, labels = {m.name for m in experiment.models}, {e.shown for e in experiment.explainers}
    for path in (*out.glob("predictions/*.h5"), *out.glob("explanations/*/*.h5")):
        model, label = (path.stem, None) if path.parent.name == "predictions" else (path.parent.name, path.stem)
        if (model not in models or (label is not None and label not in labels)) and ours(path):
            path.unlink()


def _manifest(
    experiment: Experiment,
    samples: Samples,
    data: dict[str, Any],
    models: list[dict[str, Any]],
    failures: Failures,
    start: float,
) -> dict[str, Any]:
    return {
        "title": experiment.title,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "crossxai": crossxai.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: found for name in PACKAGES if (found := version(name))},
        "seed": experiment.seed,
        "batch_size": experiment.batch_size or f"{DEFAULT_BATCH_SIZE}, measured for long streams",
        "task": samples.task,
        "check": experiment.check,
        "target": words(experiment, samples),
        "data": data,
        "models": models,
        "failures": failures.document(),
        "settings": experiment.model_dump(mode="json"),
        "seconds": time.perf_counter() - start,
    }
