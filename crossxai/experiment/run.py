"""Runs: an experiment becomes tasks, tasks become files, and a run that was stopped goes on with the first that is
missing. A folder holds samples.h5, predictions/<model>.h5, explanations/<model>/<label>.h5 and, last of all,
manifest.json, before which plan.json stands in its place; the report reads nothing else."""

from __future__ import annotations

import csv
import datetime
import gc
import io
import json
import platform
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from rich.console import Console

from crossxai.attribution import Attribution, Explainer, Metric
from crossxai.batching import DEFAULT_BATCH_SIZE
from crossxai.data import odd
from crossxai.errors import BrokenAssumption, CrossXAIError, InvalidFile, ModelFailed
from crossxai.experiment import deciding, defaults, keeping, loading, reading, sharding
from crossxai.experiment.loading import LoadedModel, load_model
from crossxai.experiment.model_run import ModelRun
from crossxai.experiment.progress import Failures, Progress
from crossxai.experiment.questions import Questions, check_scales, describe_target
from crossxai.experiment.sharding import Shard
from crossxai.experiment.specification import Experiment, ExplainerSpec, MetricSpec, ModelSpec
from crossxai.files import Result, Samples, ours, remote, tasks, writable_folder, write_result, write_samples
from crossxai.files.atomic import remove, require_written, write_text
from crossxai.files.tasks import versions
from crossxai.version import __version__

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
LEFT_OUT = "left_out.csv"


@dataclass(frozen=True)
class Prepared:
    """What a program hands over ready-made; the words of the experiment decide about everything else. data: the
    manifest's entry about the samples. models: by the experiment's names. explainers, metrics: by label."""

    samples: Samples | None = None
    data: Mapping[str, Any] = field(default_factory=dict)
    models: Mapping[str, LoadedModel] = field(default_factory=dict)
    explainers: Mapping[str, Explainer] = field(default_factory=dict)
    metrics: Mapping[str, Metric] = field(default_factory=dict)


@dataclass(frozen=True)
class Loaded:
    """What a run begins with. experiment: complete, controls included. data, chosen: entries of the manifest. failed: models that
    cannot be made, with what was raised. metrics: by the model's name. rows: of the samples, those of a shard. asked: by model,
    its questions about all samples, once they are known."""

    experiment: Experiment
    samples: Samples
    data: dict[str, Any]
    models: dict[str, LoadedModel]
    failed: dict[str, Exception]
    explainers: list[tuple[ExplainerSpec, Explainer]]
    metrics: dict[str, list[tuple[MetricSpec, Metric]]]
    chosen: dict[str, Any]
    rows: slice | None = None
    asked: dict[str, Questions] = field(default_factory=dict)

    @cached_property
    def decides(self) -> str:
        """The hash of what decides maps and scores beside settings and samples."""
        return deciding.of_run(self.models, self.explainers, self.metrics)

    def of(self, shard: Shard) -> Loaded:
        """The same for a shard; raises `InvalidInput` where it has no samples, or metrics that cannot be measured in parts."""
        sharding.check_metrics(pair for pairs in self.metrics.values() for pair in pairs)
        return replace(self, rows=shard.rows(len(self.samples.ids)))


def check_names(experiment: Experiment, given: Prepared) -> None:
    """Raise `UnknownName` or `InvalidInput` where an explainer or a metric is not known, or a parameter is wrong."""
    for spec in experiment.explainers:
        if spec.shown not in given.explainers:
            loading.explainer(spec, experiment.seed)
    for metric in experiment.metrics:
        if metric.shown not in given.metrics:
            loading.metric(metric, experiment.seed)


def load(experiment: Experiment, given: Prepared, shard: Shard | None = None) -> Loaded:
    """Load models and samples, and complete the experiment. All samples are loaded, of a shard too: they decide what is asked."""
    failed: dict[str, Exception] = {}
    models = dict(given.models)
    if experiment.data.files:
        load_models(experiment, models, failed)
        models = reading.on_one_scale(experiment, models)
        samples, data = reading.samples(experiment, models)
    elif given.samples is not None:
        samples, data = given.samples, dict(given.data)
    else:
        samples, data = loading.samples(experiment)
    load_models(experiment, models, failed)
    experiment, chosen = defaults.completed(experiment, samples, models)
    experiment = loading.with_controls(experiment, samples)
    explainers = [
        (spec, given.explainers.get(spec.shown) or loading.explainer(spec, experiment.seed, samples))
        for spec in experiment.explainers
    ]
    metrics = {
        name: [
            (m, given.metrics.get(m.shown) or loading.metric(m, experiment.seed, samples, loaded.mean))
            for m in experiment.metrics
        ]
        for name, loaded in models.items()
    }
    loaded_all = Loaded(experiment, samples, data, models, failed, explainers, metrics, chosen)
    return loaded_all if shard is None else loaded_all.of(shard)


def run(
    experiment: Experiment,
    out: Path,
    console: Console | None = None,
    prepared: Prepared | None = None,
    shard: Shard | None = None,
    known: Loaded | None = None,
) -> Path:
    """Run an experiment into the folder `out` and return it; of a shard, into a folder of its own in there. Names,
    parameters, data and models are checked before any map is computed. What an explainer or a metric cannot do for a model is
    recorded with its reason and the rest goes on; so it does when one of them raises, or a whole model fails. The manifest's
    `failures` says what did. known: what `load` returned before, of this run or of another shard of it."""
    start = time.perf_counter()
    given = prepared or Prepared()
    check_names(experiment, given)
    out = out if shard is None else shard.folder(out)
    writable_folder(out)
    require_ours(out)
    remote.fetched(out, "explanations/*/*.h5")
    # A stopped run must not be reported with the settings of the last one.
    for name in ("manifest.json", tasks.PLAN):
        remove(out / name)
    console = console or Console(stderr=True)
    failures = Failures(out)
    loaded = load(experiment, given, shard) if known is None else known if shard is None else known.of(shard)
    failed = {name: failures.row(error, name)[1] for name, error in loaded.failed.items()}
    if loaded.rows is None and loaded.samples.on_demand:
        loaded = replace(loaded, samples=loaded.samples.in_memory())
    experiment, samples, data = loaded.experiment, loaded.samples, loaded.data
    own_samples = samples if loaded.rows is None else samples[loaded.rows]
    explainers, metrics, chosen = loaded.explainers, loaded.metrics, loaded.chosen
    _tell_left_out(out, samples, console)
    for line in defaults.lines(chosen):
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    write_samples(
        out / "samples.h5", own_samples, keeping.own_rows(experiment.keep_maps, samples, experiment.seed, loaded.rows)
    )
    with Progress(console) as progress:
        runs: dict[str, ModelRun] = {}
        mistakes: list[CrossXAIError] = []
        for name, one in loaded.models.items():
            try:
                runs[name] = ModelRun(
                    experiment, samples, one, name, out, progress, console, failures, loaded.rows, loaded.asked,
                    str(data.get("fingerprint", "")),
                )  # fmt: skip
            except InvalidFile:
                raise
            except Exception as error:  # one failure is one row; whatever a model raises, the others go on
                if isinstance(error, CrossXAIError) and not isinstance(error, ModelFailed | BrokenAssumption):
                    mistakes.append(error)
                failed[name] = failures.row(error, name)[1]
        if not runs and mistakes:  # of the experiment, rather than of a model
            raise mistakes[0]
        for name, reason in failed.items():
            _give_up(out, name, experiment, own_samples, explainers, reason)
            console.print(
                f"{name} is left out: {reason}", style="yellow", markup=False, highlight=False, soft_wrap=True
            )
        check_scales(experiment, {name: own.kind for name, own in runs.items()})
        models = {
            model.name: _entry(model, loaded.models.get(model.name), failed.get(model.name, ""))
            for model in experiment.models
        }
        for name, own in runs.items():
            models[name] |= {"outputs": {"kind": own.kind.kind, "known": own.kind.how}, **own.computing}
        further: dict[str, Any] = {"decides": loaded.decides} | ({"chosen": chosen} if chosen else {})
        if shard is not None and loaded.rows is not None:
            outputs = {name: own.outputs for name, own in runs.items()}
            further["shard"] = sharding.about(shard, loaded.rows, len(samples.ids), outputs)
        draft = _manifest(experiment, samples, data, models, failures, further, start)
        hashes = {name: own.metrics(metrics[name]) for name, own in runs.items()}
        tasks.write_plan(out, draft, {name: own.tasks(explainers) for name, own in runs.items()}, hashes)
        for name, own in runs.items():
            own.explain(explainers, metrics[name])
            models[name]["refused"] = own.evaluate(explainers, metrics[name])
    remove_others(out, (m.name for m in experiment.models), (e.shown for e in experiment.explainers))
    predictions = [out / "predictions" / f"{name}.h5" for name in runs]
    maps = [out / "explanations" / m.name / f"{e.shown}.h5" for m in experiment.models for e in experiment.explainers]
    require_written(out / "samples.h5", *predictions, *maps)
    text = json.dumps(_manifest(experiment, samples, data, models, failures, further, start), indent=1)
    write_text(out / "manifest.json", text)
    remove(out / tasks.PLAN)
    gc.collect()  # what libraries tie in circles holds arrays, and so few objects that nobody looks for it: of each part, again
    return out


def finished(folder: Path, loaded: Loaded) -> bool:
    """Whether a folder holds all files of this experiment on these samples by these models, or of a shard of it, without a
    failure."""
    remote.fetched(folder, "manifest.json")
    manifest = sharding.any_manifest(folder)
    if manifest is None or manifest.get("failures") or manifest.get("crossxai") != __version__:
        return False
    wanted = loaded.experiment.model_dump(mode="json"), loaded.data.get("fingerprint"), loaded.decides
    if wanted != (manifest.get("settings"), manifest.get("data", {}).get("fingerprint"), manifest.get("decides")):
        return False
    remote.fetched(folder, "predictions/*.h5")
    first = manifest.get("shard", {}).get("first", 0)
    return all(
        deciding.answers_as_before(own, loaded.samples, folder / "predictions" / f"{name}.h5", first)
        for name, own in loaded.models.items()
    )


def require_ours(out: Path) -> None:
    """Raise `InvalidFile` where a file of somebody else's would be lost."""
    if remote.exists(out / "samples.h5") and not ours(out / "samples.h5"):
        raise InvalidFile(f"{out / 'samples.h5'} was not written by CrossXAI and would be lost; choose another folder")


def _tell_left_out(out: Path, samples: Samples, console: Console) -> None:
    """Print which files are no samples, and write them to a file; one of an earlier run is removed."""
    for line in odd.lines(samples.left_out):
        console.print(line, style="yellow", markup=False, highlight=False, soft_wrap=True)
    path = out / LEFT_OUT
    remove(path)
    if samples.left_out:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([("file", "reason"), *samples.left_out])
        write_text(path, text.getvalue())


def load_models(experiment: Experiment, loaded: dict[str, LoadedModel], failed: dict[str, Exception]) -> None:
    """Add the models that are not loaded yet, and what those raise that cannot be."""
    for spec in (spec for spec in experiment.models if spec.name not in loaded.keys() | failed.keys()):
        try:
            loaded[spec.name] = load_model(spec, experiment.folder)
        except (ModelFailed, BrokenAssumption) as error:  # other errors are of the experiment file, and end the run
            failed[spec.name] = error
    if experiment.data.files and not loaded:
        raise ModelFailed("; ".join(f"model {name!r}: {error}" for name, error in failed.items()))


def failures_of(out: Path) -> list[dict[str, str]]:
    """What failed in a finished run: model, explainer, metric ("" for all of them), reason and the file of the traceback."""
    return list(json.loads((out / "manifest.json").read_text(encoding="utf-8")).get("failures", []))


def _entry(spec: ModelSpec, loaded: LoadedModel | None, failed: str) -> dict[str, Any]:
    """What the manifest says of a model, before its maps are evaluated."""
    about: dict[str, Any] = {
        "name": spec.name,
        "framework": loaded.framework if loaded else spec.declared_framework,
        "weights_sha256": loaded.digest if loaded else "",
        "trained_without": loaded.trained_without if loaded else "",
        "standard_units": list(loaded.standard) if loaded else [],
        "metrics": dict(loaded.metrics) if loaded else {},
        **loading.about_network(loaded.model if loaded else None),
        "refused": {},
    }
    return {**about, "failed": failed} if failed else about


def _give_up(
    out: Path,
    name: str,
    experiment: Experiment,
    samples: Samples,
    explainers: list[tuple[ExplainerSpec, Explainer]],
    reason: str,
) -> None:
    """A row of the reason for each explainer, in place of the files of a model that failed as a whole."""
    spec = next(m for m in experiment.models if m.name == name)
    predictions = out / "predictions" / f"{name}.h5"
    if ours(predictions):
        remove(predictions)
    for entry, explainer in explainers:
        none = Attribution((), (), samples.ids, entry.name, explainer.profile, dict(entry.params))
        about = (name, spec.declared_framework, entry.shown, explainer.library, none)
        row = Result(*about, status="failed", reason=reason, check=experiment.check)
        write_result(out / "explanations" / name / f"{entry.shown}.h5", row)


def remove_others(out: Path, models: Iterable[str], labels: Iterable[str]) -> None:
    """Our files of models and explainers that the experiment no longer names would otherwise appear in its report."""
    models, labels = set(models), set(labels)
    for path in remote.listed(out, "predictions/*.h5", "explanations/*/*.h5"):
        model, label = (path.stem, None) if path.parent.name == "predictions" else (path.parent.name, path.stem)
        if (model not in models or (label is not None and label not in labels)) and ours(path):
            remove(path)


def _manifest(
    experiment: Experiment,
    samples: Samples,
    data: dict[str, Any],
    models: Mapping[str, dict[str, Any]],
    failures: Failures,
    known: Mapping[str, Any],
    start: float,
) -> dict[str, Any]:
    return {
        "title": experiment.title,
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "crossxai": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": versions(PACKAGES),
        "seed": experiment.seed,
        "batch_size": experiment.batch_size or f"{DEFAULT_BATCH_SIZE}, measured for long streams",
        "task": samples.task,
        "check": experiment.check,
        "target": describe_target(experiment, samples),
        "data": data,
        "models": [*models.values()],
        "failures": [asdict(failure) for failure in failures.rows],
        **known,
        "settings": experiment.model_dump(mode="json"),
        "seconds": time.perf_counter() - start,
    }
