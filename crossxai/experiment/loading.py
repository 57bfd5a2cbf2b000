"""From an experiment's words to samples, models, explainers and metrics."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from crossxai import evaluation, explainers
from crossxai.attribution import Explainer
from crossxai.errors import InvalidInput, ModelFailed
from crossxai.experiment import factories
from crossxai.experiment.specification import Experiment, ExplainerSpec, MetricSpec, ModelSpec
from crossxai.files import Samples
from crossxai.files.fingerprints import fingerprint
from crossxai.model import Array, Model
from crossxai.process import require
from crossxai.scores import Metric
from crossxai.studies import medical
from crossxai.studies.medical import declared
from crossxai.studies.networks import loading
from crossxai.studies.pcam import histology
from crossxai.studies.pcam import samples as patches
from crossxai.studies.pcam.reading import PCam, cache_folder

ORACLE = "controls.oracle"
TRUTH = "truth"


@dataclass(frozen=True)
class Subject:
    """A model ready to be explained, and what the manifest says of it.

    mean, sd: of the training set, by modality, per channel or column, as the model takes them; empty if not known. standard:
    (mean, sd) of the tables that the model takes in standard units. trained_without: the modality that told it nothing.
    """

    model: Model
    framework: str
    digest: str
    metrics: Mapping[str, float]
    mean: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    sd: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    standard: Mapping[str, tuple[Array, Array]] = field(default_factory=dict)
    trained_without: str = ""


def samples(experiment: Experiment) -> tuple[Samples, dict[str, Any]]:
    """The samples of an experiment and the manifest's entry about them."""
    data = experiment.data
    if data.factory:
        found = factories.call(data.factory, experiment.folder, InvalidInput)
        if not isinstance(found, Samples):
            raise InvalidInput(
                f"data factory {data.factory} must return crossxai.files.Samples, got {type(found).__name__}"
            )
        about = {"source": data.factory, "split": "", "description": data.description}
        return found, {**about, "n": len(found.ids), "fingerprint": fingerprint(found)}
    if data.source == "medical":
        return _medical(experiment)
    root = (
        histology.build(cache_folder() / "histology")
        if data.source == "embedded"
        else experiment.folder / (data.root or "")
    )
    split, kind = PCam(root, data.split), patches.kind(root)
    rows = _balanced(split.labels(), data.n, experiment.seed)
    found = patches.samples(split, rows, kind)
    return found, {
        "source": kind.source,
        "split": data.split,
        "n": len(rows),
        "of": len(split),
        "fingerprint": fingerprint(found),
        "description": data.description or kind.description,
    }


def _medical(experiment: Experiment) -> tuple[Samples, dict[str, Any]]:
    """The explanation set of one of the medical tasks."""
    data = experiment.data
    assert data.root is not None  # the experiment's own check
    assert data.task
    root = experiment.folder / data.root
    whole = medical.read(root, data.task, xai=True)
    planted = declared.planted(root)
    said = declared.DESCRIPTIONS[data.task] + ("" if planted else declared.WITHOUT_SIGNAL)
    if data.n > len(whole.ids):
        raise InvalidInput(f"data.n = {data.n} samples asked for, the explanation set holds {len(whole.ids)}")
    classes = data.task == "classification"
    rows = _balanced(whole.labels, data.n, experiment.seed) if classes else np.arange(data.n)
    found = Samples(
        ids=tuple(whole.ids[row] for row in rows),
        modalities=declared.DECLARED[data.task],
        inputs={name: values[rows] for name, values in whole.inputs.items()},
        labels=whole.labels[rows],
        classes=declared.CLASSES[data.task],
        masks={name: mask[rows] for name, mask in whole.masks.items()},
        # Of a control set the masks say where the signal would lie; nothing decides there.
        truth={name: mask[rows] & planted for name, mask in whole.truth.items()},
        task=data.task,
    )
    return found, {
        "source": f"procedural medical set, {data.task}",
        "split": "explanation set",
        "n": len(rows),
        "of": len(whole.ids),
        "structure": declared.structure(root, data.task),
        "fingerprint": fingerprint(found),
        "description": data.description or said + declared.PROCEDURAL,
    }


def subject(spec: ModelSpec, folder: Path, progress: bool = True) -> Subject:
    """The model that an experiment names; trains the embedded one first if it is not in the cache."""
    if spec.factory:
        model = factories.call(spec.factory, folder, ModelFailed)
        if not (hasattr(model, "predict") and hasattr(model, "modalities")):
            raise InvalidInput(
                f"model factory {spec.factory} must return a Model (an adapter), got {type(model).__name__}"
            )
        _declare(model, spec)
        mean, sd = _declared_statistics(model)
        return Subject(model, type(model).__module__.rpartition(".")[2], "", {}, mean, sd)
    require(spec.framework, spec.framework, f"model {spec.name!r}")
    path = folder / spec.checkpoint if spec.checkpoint != "embedded" else embedded_checkpoint(progress)
    held = loading.load(path, spec.framework, spec.name, standard_tables=True)
    mean = {name: tuple(mean) for name, (mean, _) in held.statistics.items()}
    sd = {name: tuple(sd) for name, (_, sd) in held.statistics.items()}
    about = (held.metrics, mean, sd, held.standard, held.trained_without)
    return Subject(held.model, spec.framework, held.digest, *about)


def _declared_statistics(model: Any) -> tuple[dict[str, tuple[float, ...]], dict[str, tuple[float, ...]]]:
    """(mean, sd) by modality, which a model's adapter standardises with: those of its training set, as far as anyone knows."""
    declared = dict(getattr(model, "standardise", {}))
    mean, sd = ({name: tuple(float(v) for v in pair[i]) for name, pair in declared.items()} for i in (0, 1))
    return mean, sd


def _declare(model: Any, spec: ModelSpec) -> None:
    """What the experiment says of the model's outputs, kept where adapters keep it."""
    if spec.outputs is None:
        return
    try:
        model.outputs = spec.outputs
    except AttributeError as error:
        raise InvalidInput(
            f"model {spec.name!r}: outputs = {spec.outputs!r} cannot be set on its {type(model).__name__}: declare it there"
        ) from error


def with_controls(experiment: Experiment, samples: Samples) -> Experiment:
    """The experiment with the controls that its explainers lack: those that have an answer for these samples.

    `controls = false` in the experiment leaves them out, all but those that it names.
    """
    if not experiment.controls:
        return experiment
    # An oracle of a mask, such as a planted shortcut, is not that of the truth.
    known = [spec for spec in experiment.explainers if spec.name != ORACLE or "mask" not in spec.params]
    named = {spec.name for spec in known} | {spec.shown for spec in experiment.explainers}
    spatial = any(m.spatial for m in samples.modalities)
    wanted = ["controls.random", *(("controls.centre", "controls.edges") if spatial else ())]
    wanted += ["controls.oracle"] if any(mask.any() for mask in samples.truth.values()) else []
    added = tuple(ExplainerSpec(name=name) for name in wanted if name not in named)
    return experiment.model_copy(update={"explainers": (*experiment.explainers, *added)})


def explainer(spec: ExplainerSpec, seed: int, samples: Samples | None = None) -> Explainer:
    """The explainer of an entry; the experiment's seed is its own where it draws and names none.

    The oracle is told the truth that the samples know, or their `mask` of its params, for the samples of its `labels`; without
    samples, names and parameters alone are checked.
    """
    kind = explainers.discover().get(spec.name)
    params = dict(spec.params)
    if spec.name == ORACLE and "masks" not in params:
        params = _truth(params, samples)
    if kind is not None and "seed" in kind.__dataclass_fields__:
        params.setdefault("seed", seed)
    return explainers.get(spec.name, profile=spec.profile, **params)


def metric(
    spec: MetricSpec, experiment: Experiment, samples: Samples | None, mean: Mapping[str, tuple[float, ...]]
) -> tuple[MetricSpec, Metric]:
    """A metric, with what only the data know filled in: the dataset's mean colour, the ground-truth mask.

    Without samples, names and parameters are checked, with stand-ins for what is not known yet.
    """
    params = dict(spec.params)
    fields = {f.name: f for e in evaluation.discover() if e.name == spec.name for f in dataclasses.fields(e.metric)}
    if params.get("fill") == "dataset_mean":
        del params["fill"]
        params |= {} if samples is None else _fills(spec, mean, all_modalities="fills" in fields)
    if "labels" in params and "mask" not in params and "size" in fields:
        params["ids"] = _named(f"metric {spec.shown}", samples, params.pop("labels"))
    elif "mask" in params or ("masks" in fields and fields["masks"].default is dataclasses.MISSING):
        name, labels = params.pop("mask", None), params.pop("labels", None)
        if samples is None:
            params |= {"masks": np.ones((1, 1)), "ids": ()}
        else:
            params |= {
                "masks": _mask(f"metric {spec.shown}", samples, name, labels, params.get("modality")),
                "ids": samples.ids,
            }
    if "seed" in fields:
        params.setdefault("seed", experiment.seed)
    return spec, evaluation.get(spec.name, **params)


def _fills(spec: MetricSpec, mean: Mapping[str, tuple[float, ...]], all_modalities: bool) -> dict[str, Any]:
    """The training mean as a metric's fill: of the modality that it judges, or of all that it changes together."""
    about = spec.params.get("modality") or next(iter(mean), "")
    if about not in mean:
        what = f" of {about!r}" if about else ""
        raise InvalidInput(
            f"metric {spec.shown}: this model names no training mean{what}; write fill = {{ dataset_mean = [0.7, 0.6, 0.5] }}"
        )
    if all_modalities:
        return {"fills": {name: {"dataset_mean": list(values)} for name, values in mean.items()}}
    return {"fill": {"dataset_mean": list(mean[about])}}


def _truth(params: dict[str, Any], samples: Samples | None) -> dict[str, Any]:
    """What the oracle is made with: masks by modality, and the samples' names."""
    name, labels = params.pop("mask", None), params.pop("labels", None)
    if samples is None:
        return params
    found: dict[str, Any] = dict(samples.truth)
    if name is not None:
        first = next((m.name for m in samples.modalities if m.spatial), "")
        found = {first: _mask(ORACLE, samples, name, None)}
    if labels is not None:
        found = {key: _of_labels(values, samples, labels) for key, values in found.items()}
    return {**params, "masks": found, "ids": samples.ids} if found else params


def _named(who: str, samples: Samples | None, labels: list[int]) -> tuple[str, ...]:
    """The names of the samples of these labels; a metric of the centre has no value for the others."""
    if samples is None:
        return ()
    chosen = tuple(np.array(samples.ids)[np.isin(samples.labels, labels)].tolist())
    if not chosen:
        raise InvalidInput(
            f"{who}: no sample has a label in {labels!r}; there are {np.unique(samples.labels).tolist()}"
        )
    return chosen


def _of_labels(mask: Any, samples: Samples, labels: list[int]) -> Any:
    """An empty mask makes a sample undefined, which is what other labels should be."""
    return mask & np.isin(samples.labels, labels).reshape(-1, *[1] * (mask.ndim - 1))


def _mask(who: str, samples: Samples, name: str | None, labels: list[int] | None, modality: str | None = None) -> Any:
    """A mask of the data by its name; "truth" is what decides in the modality that is judged, the first unless one is named."""
    known = dict(samples.masks)
    about = modality or next((m.name for m in samples.modalities if m.spatial), "")
    if about in samples.truth:
        known[TRUTH] = samples.truth[about]
    if name is None and known:
        name = next(iter(known))
    if not isinstance(name, str) or name not in known:
        raise InvalidInput(f"{who}: no mask {name!r} in the data; there is {', '.join(known) or 'none'}")
    mask = known[name]
    return mask if labels is None else _of_labels(mask, samples, labels)


def embedded_checkpoint(progress: bool = True) -> Path:
    """The ResNet-18 of the embedded set: from the cache, else trained now (a minute or two); in Keras without torch."""
    from crossxai.studies.training import TrainSettings, fit

    root = histology.build(cache_folder() / "histology")
    torch = all(importlib.util.find_spec(package) for package in ("torch", "torchvision"))
    settings = TrainSettings(framework="torch" if torch else "tensorflow")
    return fit(root, settings, cache_folder() / "models", progress)


def _balanced(labels: Any, n: int, seed: int) -> Any:
    """n rows, as near to half of each class as the data allow, in random but reproducible order."""
    if n > len(labels):
        raise InvalidInput(f"data.n = {n} samples asked for, the split holds {len(labels)}")
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(labels))
    positive, negative = order[labels[order] == 1], order[labels[order] != 1]
    take = min(len(positive), max((n + 1) // 2, n - len(negative)))
    return np.sort(np.concatenate([positive[:take], negative[: n - take]]))
