"""An experiment's samples from files, read as its first model takes them; and labels by name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from crossxai.data import arrays
from crossxai.data.arrays import Batch
from crossxai.errors import BrokenAssumption, InvalidInput, ModelFailed
from crossxai.experiment import loading
from crossxai.experiment.loading import LoadedModel
from crossxai.experiment.questions import predicted
from crossxai.experiment.specification import Experiment
from crossxai.files import Samples, Task
from crossxai.files.tasks import fingerprint
from crossxai.model import Model


def samples(experiment: Experiment, models: Mapping[str, LoadedModel]) -> tuple[Samples, dict[str, Any]]:
    """The samples of an experiment whose data are files, and the manifest's entry about them; of models by name the first says
    how pictures are read. Raises `InvalidInput` where another takes other values or another size."""
    data, (first, loaded) = experiment.data, next(iter(models.items()))
    batch = arrays.read(loaded.model, str(experiment.folder / data.files), samples=data.n)
    for name, other in models.items():
        _check_same(first, loaded.model, name, other.model)
    made, words = samples_of(loaded.model, batch, experiment.batch_size)
    if data.groups is not None:
        made = replace(made, groups=loading.groups(experiment.folder / data.groups, made.ids))
    description = f"{data.description} {words}".strip()
    about = {"source": data.files, "split": "", "n": len(made.ids), "description": description}
    return made, {**about, "fingerprint": fingerprint(made)}


def models_and_samples(
    experiment: Experiment,
) -> tuple[dict[str, LoadedModel], dict[str, str], Samples, dict[str, Any]]:
    """The models of an experiment by name, the reasons of those that cannot be made, its samples and the entry about them."""
    given = (
        None if experiment.data.files else loading.samples(experiment)
    )  # wrong data are told before a model is loaded
    models: dict[str, LoadedModel] = {}
    failed: dict[str, str] = {}
    for spec in experiment.models:
        try:
            models[spec.name] = loading.load_model(spec, experiment.folder)
        except (ModelFailed, BrokenAssumption) as error:  # other errors are of the experiment file
            failed[spec.name] = str(error)
    if given is None and not models:
        raise ModelFailed("; ".join(f"model {name!r}: {reason}" for name, reason in failed.items()))
    return models, failed, *(given or samples(experiment, models))


def _check_same(first: str, one: Model, name: str, other: Model) -> None:
    """Raise `InvalidInput` unless two models take the same pictures."""
    ranges = [{m.name: m.range for m in model.modalities if m.spatial} for model in (one, other)]
    for key in ranges[0].keys() & ranges[1].keys():
        if ranges[0][key] != ranges[1][key]:
            (low, high), (other_low, other_high) = (r[key] or (0.0, 1.0) for r in ranges)
            scale = (high - low) / (other_high - other_low)
            raise InvalidInput(
                f"model {first!r} takes values of {key!r} from {low:g} to {high:g}, model {name!r} from {other_low:g} to "
                f"{other_high:g}: write for {name!r} range = [{low:g}, {high:g}] and standardise = [mean, sd] with, per channel, "
                f"mean {low - other_low * scale:.6g} and sd {scale:.6g}"
            )
    size, other_size = (getattr(getattr(model, "recognised", None), "size", None) for model in (one, other))
    if size and other_size and size != other_size:
        raise InvalidInput(
            f"model {first!r} takes pictures of {size[0]} × {size[1]} pixels, model {name!r} of {other_size[0]} × "
            f"{other_size[1]}: write size for both"
        )


def samples_of(
    model: Model,
    batch: Batch,
    batch_size: int | None = None,
    classes: Sequence[str] = (),
    groups: Sequence[Any] = (),
) -> tuple[Samples, str]:
    """A batch as samples of classes or of a regression, and in words what became of it. Raises `InvalidInput`."""
    labels, notes = batch.labels, list(batch.notes)
    shown = slice(None if labels is None else 1)  # one sample tells the shape
    outputs = predicted(model, tuple(v[shown] for v in batch.inputs), batch_size)
    if outputs.ndim != 2:
        raise InvalidInput(
            f"model {model.name!r} gives outputs of shape {outputs.shape}: compare takes classes and values; of a segmentation "
            "write an experiment file whose data name the true regions"
        )
    known = tuple(classes) or getattr(getattr(model, "recognised", None), "classes", ())
    if batch.label_names:
        labels, known, note = _numbered(batch.label_names, known, outputs.shape[1])
        notes += [note] if note else []
    if labels is None and outputs.shape[1] == 1:
        raise InvalidInput(
            "labels are needed where the model has one output: classes 0 and 1, or a regression's true values"
        )
    if labels is None:
        labels = outputs.argmax(axis=1)
        why = "labels are not classes of the model" if batch.label_names else "no labels were given"
        notes.insert(0, f"{why}: the classes that {model.name} predicts take their place")
    task: Task = "regression" if np.issubdtype(labels.dtype, np.floating) else "classification"
    made = Samples(
        batch.ids or tuple(map(str, range(len(batch)))),
        model.modalities,
        {m.name: v for m, v in zip(model.modalities, batch.inputs, strict=True)},
        labels,
        known if len(known) == outputs.shape[1] or classes else tuple(map(str, range(outputs.shape[1]))),
        task=task,
        groups=arrays.as_groups(groups, len(batch)),
    )
    return made, ". ".join(f"{note[:1].upper()}{note[1:]}" for note in notes) + ("." if notes else "")


def _numbered(names: Sequence[str], known: Sequence[str], n: int) -> tuple[Any, tuple[str, ...], str]:
    """(labels or None, classes, what was done) for labels that are words: numbers as they are, names of the model's classes, or,
    where there are as many names as outputs, in the order of the alphabet."""
    classes = tuple(known)
    try:
        values = np.array([float(name) for name in names])
    except ValueError:
        values = None
    if values is not None:
        whole = bool((values == values.round()).all())
        if whole:
            return values.astype(int), classes, ""
        if n == 1:
            return values, classes, ""
        raise InvalidInput(f"labels are classes 0 … {n - 1} of the model, or their names; got {names[0]!r}")
    places = {name.casefold(): place for place, name in enumerate(known)}
    if len(known) == n and all(name.casefold() in places for name in names):
        return np.array([places[name.casefold()] for name in names]), classes, ""
    own = sorted(set(names))
    if len(own) == n:
        order = ", ".join(f"{name} {place}" for place, name in enumerate(own))
        return (
            np.array([own.index(name) for name in names]),
            tuple(own),
            f"classes are numbered by the alphabet: {order}",
        )
    return None, classes, ""
