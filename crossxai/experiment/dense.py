"""Samples of models that give maps or boxes, where files say no truth: what the first model itself finds stands in its place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from crossxai.data.arrays import Batch
from crossxai.errors import InvalidInput
from crossxai.experiment.specification import Target
from crossxai.files import Samples, Task
from crossxai.measures import predicted_region
from crossxai.measures.detection import CORNERS, Box, inside
from crossxai.model import Array, Model
from crossxai.on_demand import some


def gives_boxes(model: Model) -> bool:
    """Whether a model is a detector, whose outputs are boxes."""
    return isinstance(getattr(model, "boxes", None), str)


def samples_of_dense(
    model: Model, batch: Batch, outputs: Array, classes: Sequence[str], groups: Sequence[str]
) -> tuple[Samples, str]:
    """A batch as samples of a segmentation or a detection, and in words what stands for labels.

    outputs: of all samples, (n, *space, classes), or (n, detections, 4 + classes) of a detector. Of a detector the box that is
    found most surely is a mask, which pages outline and metrics of places may name.
    """
    masks: dict[str, npt.NDArray[np.bool_]] = {}
    task: Task = "segmentation"
    if gives_boxes(model):
        box, task = Box.strongest(outputs), "detection"
        labels = np.asarray(box.labels)
        image = next(v for m, v in zip(model.modalities, batch.inputs, strict=True) if m.spatial)
        masks = {"strongest detection": inside(box.boxes, image.shape[1:3])}
        words = f"no labels are read: the class of the strongest box that {model.name} finds takes their place"
        n_classes = box.shape[1] - CORNERS
    else:
        n_classes = outputs.shape[-1]
        labels = most_common(outputs)
        words = f"no true regions are known: what {model.name} predicts is explained"
    made = Samples(
        batch.ids or tuple(map(str, range(len(batch)))),
        model.modalities,
        {m.name: v for m, v in zip(model.modalities, batch.inputs, strict=True)},
        labels,
        tuple(classes) if len(classes) == n_classes else tuple(map(str, range(n_classes))),
        masks,
        task=task,
        groups=tuple(groups),
        left_out=batch.left_out,
    )
    return made, words


def chosen_classes(target: Target) -> tuple[int, ...]:
    """The classes that are explained where they are predicted; () where nobody names one, or true regions are explained."""
    if isinstance(target.of, int):
        return (target.of,)
    if target.of == "label" or "output" not in target.model_fields_set:
        return ()
    return target.output if isinstance(target.output, tuple) else (target.output,)


def with_regions(samples: Samples, outputs: Array, target: Target, kind: str) -> Samples:
    """The samples in which a class to explain is predicted at all, once for each of several classes; the others are left out.

    outputs: the first model's, whose regions decide; kind: what they are. Rows of one sample are a group.
    """
    each, n_classes = chosen_classes(target), outputs.shape[-1]
    several = isinstance(target.output, tuple) and not isinstance(target.of, int)
    if max(each) >= n_classes:
        raise InvalidInput(f"output = {max(each)}: the first model segments classes 0 … {n_classes - 1}")
    rows, labels, lost = list[int](), list[int](), list[tuple[str, str]]()
    named = [f"class {name}" if name.isdecimal() else name for name in samples.classes]
    regions = {label: predicted_region(outputs, label, kind) for label in each}
    for row, sample in enumerate(samples.ids):
        here = [label for label, region in regions.items() if region[row].any()]
        rows += [row] * len(here)
        labels += here
        if absent := ", ".join(named[label] for label in each if label not in here):
            lost.append((sample, f"{absent}: predicted nowhere"))
    if not rows:
        return samples  # the error about empty regions says so
    ids = [samples.ids[row] + (f" {named[label]}" if several else "") for row, label in zip(rows, labels, strict=True)]
    index = np.array(rows, np.intp)
    return replace(
        samples,
        ids=tuple(ids),
        inputs={name: some(values, index) for name, values in samples.inputs.items()},
        labels=np.array(labels),
        masks={name: some(values, index) for name, values in samples.masks.items()},
        truth={name: some(values, index) for name, values in samples.truth.items()},
        groups=tuple((samples.groups or samples.ids)[row] for row in rows) if several or samples.groups else (),
        left_out=(*samples.left_out, *lost),
    )


def most_common(outputs: Array) -> npt.NDArray[np.intp]:
    """The class that is predicted in most places of each sample, of outputs (n, *space, classes)."""
    if outputs.shape[-1] == 1:
        return np.zeros(len(outputs), int)
    predicted = outputs.argmax(axis=-1).reshape(len(outputs), -1)
    return np.array([np.bincount(row).argmax() for row in predicted])


def which_class(outputs: Array, classes: Sequence[str], name: str) -> InvalidInput:
    """The error that asks for a class of a segmentation, with those that are predicted and in how many places."""
    n = outputs.shape[-1]
    shares = np.array([predicted_region(outputs, label).mean() for label in range(n)])
    order = [int(k) for k in np.argsort(-shares, kind="stable") if shares[k] > 0][:6]
    write = next((k for k in order if k), order[0])  # 0 is mostly the background
    named = [
        f"{k} ({f'{classes[k]}, ' if len(classes) == n and classes[k] != str(k) else ''}{shares[k]:.0%})" for k in order
    ]
    return InvalidInput(
        f"model {name!r} segments {n} classes: say which is explained, [target] output = {write} in a file, --target "
        f"class={write} on the command line. It predicts {', '.join(named)} of these pixels"
    )
