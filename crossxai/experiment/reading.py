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
from crossxai.experiment.dense import chosen_classes, gives_boxes, samples_of_dense, with_regions
from crossxai.experiment.loading import LoadedModel
from crossxai.experiment.questions import predicted
from crossxai.experiment.specification import Experiment
from crossxai.files import Samples, Task
from crossxai.files.tasks import fingerprint
from crossxai.model import Modality, Model
from crossxai.outputs import kind

MASK = "mask"
"""The name of the masks that come with files."""
PREDICTED = "predicted"
"""What the entry about samples says of labels that are the first model's own classes, for want of true ones."""


def samples(experiment: Experiment, models: Mapping[str, LoadedModel]) -> tuple[Samples, dict[str, Any]]:
    """The samples of an experiment whose data are files, and the manifest's entry about them; of models by name the first says
    how pictures are read. Raises `InvalidInput` where another takes other values or another size."""
    data, adapters = experiment.data, {name: loaded.model for name, loaded in models.items()}
    check_ranges(adapters)
    _check_sizes(adapters)
    first = next(iter(adapters.values()))
    batch = arrays.read(first, data.given(experiment.folder), samples=data.n, on_demand=True)
    made, words, labelled = samples_of(first, batch, experiment.batch_size)
    if data.groups is not None:
        made = replace(made, groups=loading.groups(experiment.folder / data.groups, made.ids))
    if made.task == "segmentation" and chosen_classes(experiment.target):
        outputs = predicted(first, batch.inputs, experiment.batch_size)
        made = with_regions(made, outputs, experiment.target, kind(first, batch.inputs, outputs).kind)
    description = f"{data.description} {words}".strip()
    about = {"source": data.files, "split": "", "labels": labelled, "n": len(made.ids), "description": description}
    return made, {**about, "fingerprint": fingerprint(made)}


def models_and_samples(
    experiment: Experiment,
) -> tuple[dict[str, LoadedModel], dict[str, str], Samples, dict[str, Any]]:
    """The models of an experiment by name, the reasons of those that cannot be made, its samples and the entry about them."""
    # Wrong data are told before a model is loaded, unless it is the model that says how they are read.
    given = None if experiment.data.files else loading.samples(experiment)
    models: dict[str, LoadedModel] = {}
    failed: dict[str, str] = {}
    for spec in experiment.models:
        try:
            models[spec.name] = loading.load_model(spec, experiment.folder)
        except (ModelFailed, BrokenAssumption) as error:  # other errors are of the experiment file
            failed[spec.name] = str(error)
    if given is None and not models:
        raise ModelFailed("; ".join(f"model {name!r}: {reason}" for name, reason in failed.items()))
    if given is None:
        models = on_one_scale(experiment, models)
    made, about = given or samples(experiment, models)
    return models, failed, made.in_memory(), about


def on_one_scale(experiment: Experiment, models: Mapping[str, LoadedModel]) -> dict[str, LoadedModel]:
    """The models, all of which take pictures with the values that the first one takes: one that takes others, and of which the
    experiment does not say which, is given a step before it that turns the first one's values into its own."""
    changed = dict(models)
    if not models:
        return changed
    first = next(iter(models.values())).model
    specs = {spec.name: spec for spec in experiment.models}
    for name, loaded in models.items():
        spec, other = specs[name], loaded.model
        wanted = {m.name: m.range for m, _ in _other_ranges(first, other)}
        if not wanted or spec.trained or spec.range is not None or len(set(wanted.values())) > 1:
            continue
        constants = dict(getattr(other, "standardise", {}))
        constants |= {m.name: _in_other_values(m, n, other) for m, n in _other_ranges(first, other)}
        told = spec.model_copy(update={"range": next(iter(wanted.values())), "standardise": constants})
        changed[name] = loading.load_model(told, experiment.folder)
    return changed


def _other_ranges(one: Model, other: Model) -> list[tuple[Modality, Modality]]:
    """Modalities with space that both take, and for which they declare other values."""
    pairs = ((m, n) for m in one.modalities for n in other.modalities if m.name == n.name and m.spatial)
    return [(m, n) for m, n in pairs if m.range is not None and n.range is not None and m.range != n.range]


def _in_other_values(m: Modality, n: Modality, model: Model) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(mean, sd) per channel that make of values of `m` what the network inside of a model of `n` is given."""
    assert m.range is not None
    assert n.range is not None
    (low, high), (other_low, other_high) = m.range, n.range
    step = (high - low) / (other_high - other_low)
    channels = len(m.features)
    mean, sd = dict(getattr(model, "standardise", {})).get(n.name, ((0.0,) * channels, (1.0,) * channels))
    return tuple(low + (float(v) - other_low) * step for v in mean), tuple(float(v) * step for v in sd)


def check_ranges(models: Mapping[str, Model]) -> None:
    """Raise `InvalidInput` where models that get the same images declare other values for them."""
    (first, one), *others = models.items()
    for name, other in others:
        for m, n in _other_ranges(one, other):
            assert m.range is not None
            assert n.range is not None
            (low, high), (other_low, other_high) = m.range, n.range
            mean, sd = (_once(values) for values in _in_other_values(m, n, other))
            raise InvalidInput(
                f"model {first!r} takes values of {m.name!r} from {low:g} to {high:g}, model {name!r} from {other_low:g} to "
                f"{other_high:g}: write for {name!r} range = [{low:g}, {high:g}] and standardise = [mean, sd] with, per channel, "
                f"mean {mean} and sd {sd}"
            )


def _once(values: Sequence[float]) -> str:
    """Values as text; one where all are the same."""
    texts = [f"{value:.6g}" for value in values]
    return texts[0] if len(set(texts)) == 1 else f"[{', '.join(texts)}]"


def _check_sizes(models: Mapping[str, Model]) -> None:
    """Raise `InvalidInput` where models that get the same pictures say other sizes for them."""
    sizes = {name: getattr(getattr(model, "recognised", None), "size", None) for name, model in models.items()}
    if len({size for size in sizes.values() if size}) > 1:
        listed = ", ".join(f"{name!r} of {' × '.join(map(str, size))}" for name, size in sizes.items() if size)
        raise InvalidInput(f"models take pictures of other sizes in pixels ({listed}): write size for all")
    for key in ("levels", "orientation"):
        told = {name: getattr(getattr(model, "recognised", None), key, None) for name, model in models.items()}
        if len(set(told.values())) > 1:
            listed = ", ".join(f"{name!r} {value or 'nothing'}" for name, value in told.items())
            raise InvalidInput(
                f"models get the same scans, and declare other {key} of them ({listed}): write it for all"
            )


def samples_of(
    model: Model,
    batch: Batch,
    batch_size: int | None = None,
    classes: Sequence[str] = (),
    groups: Sequence[Any] = (),
) -> tuple[Samples, str, str]:
    """A batch as samples of classes or of a regression, in words what became of it, and `PREDICTED` where the model's own classes
    stand for labels, else "". Raises `InvalidInput`."""
    labels, notes = batch.labels, list(batch.notes)
    shown = slice(None if labels is None else 1)  # one sample tells the shape
    outputs = predicted(model, tuple(v[shown] for v in batch.inputs), batch_size)
    known = tuple(classes) or getattr(getattr(model, "recognised", None), "classes", ())
    if outputs.ndim != 2 and (batch.masks is None or gives_boxes(model)):
        every = outputs if labels is None else predicted(model, batch.inputs, batch_size)
        made, stands = samples_of_dense(model, batch, every, known, arrays.as_groups(groups, len(batch)))
        return made, _sentences([stands, *notes]), PREDICTED
    n = outputs.shape[-1]
    if batch.label_names:
        labels, known, note = _numbered(batch.label_names, known, n)
        notes += [note] if note else []
    if labels is None and outputs.ndim > 2:
        if n > 2:
            raise InvalidInput(f"masks of which of {n} classes? Write labels, the class that each sample's mask shows")
        labels = np.full(len(batch), n - 1)
    if labels is None and n == 1:
        raise InvalidInput(
            "labels are needed where the model has one output: classes 0 and 1, or a regression's true values"
        )
    labelled = ""
    if labels is None:
        labels, labelled = outputs.argmax(axis=1), PREDICTED
        why = "labels are not classes of the model" if batch.label_names else "no labels were given"
        notes.insert(0, f"{why}: the classes that {model.name} predicts take their place")
    task: Task = "regression" if np.issubdtype(labels.dtype, np.floating) else "classification"
    if outputs.ndim > 2:
        task = "segmentation"
    if len(known) != n and not classes and not (n == 1 and len(known) == 2):
        known = tuple(map(str, range(2 if n == 1 and task == "classification" else n)))
    made = Samples(
        batch.ids or tuple(map(str, range(len(batch)))),
        model.modalities,
        {m.name: v for m, v in zip(model.modalities, batch.inputs, strict=True)},
        labels,
        known,
        task=task,
        groups=arrays.as_groups(groups, len(batch)),
        left_out=batch.left_out,
        spaces=batch.spaces,
        **_regions(model, batch),
    )
    return made, _sentences(notes), labelled


def _sentences(notes: Sequence[str]) -> str:
    return " ".join(f"{note[:1].upper()}{note[1:]}." for note in notes)


def _regions(model: Model, batch: Batch) -> dict[str, Any]:
    """The masks of a batch as true regions, and as the truth of the modality that they were drawn on."""
    if batch.masks is None:
        return {}
    drawn = next(m.name for m in model.modalities if m.spatial)
    return {"masks": {MASK: batch.masks}, "truth": {drawn: batch.masks}}


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
    if len(own) == max(n, 2):  # one output tells two classes apart
        order = ", ".join(f"{name} {place}" for place, name in enumerate(own))
        numbers = np.array([own.index(name) for name in names])
        return numbers, tuple(own), f"classes are numbered by the alphabet: {order}"
    return None, classes, ""
