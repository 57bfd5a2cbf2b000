"""The questions of an experiment on one model: the one that is explained, the one that is measured, and both in words."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt

from crossxai.assumptions.probes import outputs_in_batches
from crossxai.batching import DEFAULT_BATCH_SIZE
from crossxai.errors import InvalidInput
from crossxai.experiment import specification as experiments
from crossxai.experiment.dense import which_class
from crossxai.experiment.loading import LoadedModel
from crossxai.experiment.specification import Experiment
from crossxai.files import Samples, Task
from crossxai.measures import Accuracy, Dice, Largest, Measure, Probability, predicted_region
from crossxai.measures.detection import FOUND, Box
from crossxai.model import Array, Inputs, Model, standardise
from crossxai.outputs import Kind, check_known, kind, probability_link
from crossxai.question import Question
from crossxai.target import Link, Target

Ask = Callable[[slice | None], Array]
OutputsBy = Callable[[Ask], Array]


class Questions(NamedTuple):
    """The questions on one model. explained: the question of explainers; measured: that of metrics; outputs: the model's on all
    samples, and kind: what they are."""

    explained: Question
    measured: Question
    outputs: Array
    kind: Kind


def questions(
    experiment: Experiment, samples: Samples, loaded: LoadedModel, name: str, outputs_by: OutputsBy | None = None
) -> Questions:
    """What explainers explain and metrics measure of one model, and its outputs. Tables of our own models are explained
    in standard units, so that zero, every library's baseline, is the training mean. outputs_by: gives the outputs on all samples,
    by a function that asks the model for those of some, or of all."""
    model = loaded.model
    lacking = [m.name for m in model.modalities if m.name not in samples.inputs]
    if lacking:
        raise InvalidInput(f"model {name!r} needs {', '.join(lacking)}; the data hold {', '.join(samples.inputs)}")
    inputs = tuple(
        standardise(samples.inputs[m.name], *loaded.standard[m.name])
        if m.name in loaded.standard
        else samples.inputs[m.name]
        for m in model.modalities
    )

    def ask(rows: slice | None = None) -> Array:
        part = inputs if rows is None else tuple(v[rows] for v in inputs)
        return predicted(model, part, experiment.batch_size)

    outputs = ask() if outputs_by is None else outputs_by(ask)
    _check_outputs(outputs, name, samples.task)
    regression = samples.task == "regression" and getattr(model, "outputs", None) is None
    known = Kind("values", "those of a regression") if regression else kind(model, inputs, outputs)
    target, measured = _TARGETS[samples.task](experiment.target, outputs, samples, _NamedOutputs(name, known))
    size = experiment.batch_size or DEFAULT_BATCH_SIZE
    question = Question(model, inputs, target, samples.ids, batch_size=size, check=experiment.check)
    return Questions(question, replace(question, target=measured), outputs, known)


def predicted(model: Model, inputs: Inputs, batch_size: int | None) -> Array:
    """The model's outputs (n, *out) on all samples."""
    return outputs_in_batches(model, inputs, batch_size or DEFAULT_BATCH_SIZE)


@dataclass(frozen=True)
class _NamedOutputs:
    """A model's name, and what its outputs are."""

    name: str
    kind: Kind

    def probability(self, n_classes: int, link: str = "auto") -> Probability:
        return probability_link(self.kind, n_classes, self.name, link)

    def explained(self, explain: str, n_classes: int) -> Link:
        """The link that explainers see the outputs through."""
        if explain == "identity":
            return "identity"
        if explain != "logit":
            return self.probability(n_classes, explain)
        check_known(self.kind, self.name, "where their logits are")
        return "log_odds" if self.kind.kind in ("probabilities", "log_probabilities") else "identity"


def _of_classes(
    wanted: experiments.Target, outputs: Array, samples: Samples, model: _NamedOutputs
) -> tuple[Target, Measure]:
    if wanted.output or wanted.mask:
        raise InvalidInput("output and mask are of a regression or a segmentation; a class is chosen by of")
    n_classes = outputs.shape[1]
    if wanted.of == "predicted":
        chosen = outputs.argmax(axis=1)
    elif wanted.of == "label":
        chosen = samples.labels
        if chosen.max() >= n_classes:
            raise InvalidInput(
                f'of = "label": model {model.name!r} has {n_classes} outputs, and the labels of the data go up to '
                f'{chosen.max()}: write of = "predicted", or number the labels as the model does'
            )
    else:
        chosen = np.full(len(outputs), wanted.of)
    target = Target.classes(chosen, n_classes, model.explained(wanted.explain, n_classes))
    if wanted.measure == "accuracy":
        return target, Accuracy(chosen, n_classes)
    if wanted.measure == "largest":
        return target, Largest(len(target), n_classes, model.probability(n_classes))
    if wanted.measure == "dice":
        raise InvalidInput('measure = "dice" is of a segmentation; these samples have classes')
    if wanted.measure == "identity":
        return target, replace(target, link="identity")
    # One output is no class of several: which class it is the probability of, measure = "sigmoid" says.
    link = "softmax" if wanted.measure == "auto" else wanted.measure
    return target, replace(target, link=model.probability(n_classes, link))


def _of_value(
    wanted: experiments.Target, outputs: Array, samples: Samples, model: _NamedOutputs
) -> tuple[Target, Measure]:
    if wanted.of != "predicted" or wanted.measure in ("largest", "accuracy", "dice"):
        raise InvalidInput(
            f"of = {wanted.of!r}, measure = {wanted.measure!r}: a regression's value is explained and measured; write "
            'output = 0, its number, and measure = "identity"'
        )
    if wanted.explain == "logit":
        raise InvalidInput('explain = "logit" is of classes; a regression has a value: write explain = "identity"')
    if isinstance(wanted.output, tuple):
        raise InvalidInput(f"output = {list(wanted.output)}: of a regression one value is explained, output = 0")
    if wanted.output >= outputs.shape[1]:
        raise InvalidInput(f"output = {wanted.output}: model {model.name!r} has outputs 0 … {outputs.shape[1] - 1}")
    target = Target.outputs(wanted.output, len(outputs), outputs.shape[1], cast(Link, wanted.explain))
    measure = "identity" if wanted.measure == "auto" else wanted.measure
    return target, replace(target, link=cast(Link, measure))


def _segmented(wanted: experiments.Target, samples: Samples) -> int | npt.NDArray[Any] | None:
    """The class of a segmentation that is explained, of all samples or of each; None where nobody says."""
    if isinstance(wanted.of, int):
        return wanted.of
    if isinstance(wanted.output, tuple):  # a row for each of several
        return np.asarray(samples.labels)
    if "output" in wanted.model_fields_set:
        return wanted.output
    shown = np.unique(samples.labels)
    return int(shown[0]) if wanted.of == "label" and len(shown) == 1 else None  # all true regions show one class


def _of_box(wanted: experiments.Target, outputs: Array, samples: Samples, model: _NamedOutputs) -> tuple[Box, Box]:
    if wanted != experiments.Target(of=wanted.of):
        raise InvalidInput(
            "of a detector the strongest detection is explained and measured, of any class or one: write of alone"
        )
    box = Box.strongest(outputs, {"predicted": None, "label": samples.labels}.get(str(wanted.of), wanted.of))
    return box, box


def _of_region(
    wanted: experiments.Target, outputs: Array, samples: Samples, model: _NamedOutputs
) -> tuple[Target, Measure]:
    n_classes, several = outputs.shape[-1], isinstance(wanted.output, tuple)
    label = _segmented(wanted, samples)
    if label is None and n_classes > 1:
        raise which_class(outputs, samples.classes, model.name)
    label = 0 if label is None else label
    if wanted.measure in ("largest", "accuracy") or (several and wanted.measure == "dice"):
        raise InvalidInput(
            f"of = {wanted.of!r}, measure = {wanted.measure!r}: of a segmentation the region is explained: write "
            'of = "predicted", "label" or a class, output = the number of its class, measure = a link or, of one class, "dice"'
        )
    if np.max(label) >= n_classes:
        raise InvalidInput(f"output = {np.max(label)}: model {model.name!r} segments classes 0 … {n_classes - 1}")
    if wanted.of == "label":
        region = samples.masks[region_of(wanted, samples)][:]
        if region.shape != outputs.shape[:-1]:
            raise InvalidInput(f"the mask has shape {region.shape}, model {model.name!r} gives {outputs.shape[:-1]}")
    else:
        if n_classes == 1:
            check_known(model.kind, model.name, "where the predicted region is")
        region = predicted_region(outputs, label, model.kind.kind)
    empty = [samples.ids[i] for i in np.flatnonzero(~region.reshape(len(region), -1).any(axis=1))]
    if empty:
        raise InvalidInput(
            f"nothing to explain: the {'true' if wanted.of == 'label' else 'predicted'} region of model {model.name!r} is empty "
            f'for {", ".join(empty[:5])}{" and more" if len(empty) > 5 else ""}; write of = "label", or other samples'
        )
    target = Target.regions(region, label, n_classes, model.explained(wanted.explain, n_classes))
    if wanted.measure == "dice":
        return target, Dice(region, int(label), n_classes, model.probability(n_classes))
    if wanted.measure == "identity":
        return target, replace(target, link="identity")
    return target, replace(target, link=model.probability(n_classes, wanted.measure))


_TARGETS: dict[str, Callable[..., tuple[Measure, Measure]]] = {
    "classification": _of_classes,
    "regression": _of_value,
    "segmentation": _of_region,
    "detection": _of_box,
}


def region_of(wanted: experiments.Target, samples: Samples) -> str:
    """The name of the mask that is the true region of a segmentation."""
    name = wanted.mask or next(iter(samples.masks), "")
    if name not in samples.masks:
        raise InvalidInput(f"the data hold no mask {name!r}, only: {', '.join(samples.masks) or 'none at all'}")
    return name


def _check_outputs(outputs: Array, name: str, task: Task) -> None:
    """Refuse what would run to the end and mean nothing."""
    wanted = {"classification": "classes (n, classes)", "regression": "values (n, outputs)"}
    if (outputs.ndim > 2) != (task in ("segmentation", "detection")):
        raise InvalidInput(
            f"model {name!r} gives outputs of shape {outputs.shape}; a {task} has {wanted.get(task, 'maps (n, *space, classes)')}"
        )
    finite = np.isfinite(outputs).reshape(len(outputs), -1).all(axis=1)
    if not finite.all():
        raise InvalidInput(f"model {name!r} gives NaN or infinity for {(~finite).sum()} samples")


def check_scales(experiment: Experiment, kinds: Mapping[str, Kind]) -> None:
    """Raise `InvalidInput` where metrics would measure logits of one model and probabilities of another, by model: two scales in
    one table."""
    scales = {name: known.kind for name, known in kinds.items()}
    if experiment.target.measure == "identity" and "probabilities" in scales.values() and len(set(scales.values())) > 1:
        given = ", ".join(f"{name} {scale.replace('_', '-')}" for name, scale in scales.items())
        raise InvalidInput(
            f'measure = "identity" puts two scales into one table ({given}): write measure = "auto", which measures '
            "the probabilities of all"
        )


def describe_questions(questions: Questions, experiment: Experiment, samples: Samples) -> dict[str, str]:
    """What one model's outputs are and what was made of them, in words, for its file of predictions."""
    of = describe_explained(experiment, samples)
    explained = describe_measure(explained_as(experiment.target, samples), of)
    if getattr(questions.explained.target, "link", "") == "log_odds":
        explained = f"{describe_measure('log_odds', of)}, computed from the probabilities that the model gives"
    link = getattr(questions.measured.target, "probability", questions.measured.target.link)
    return {
        "explained": explained,
        "outputs": questions.kind.kind,
        "outputs_known": questions.kind.how,
        "measured_by": link,
    }


def describe_target(experiment: Experiment, samples: Samples) -> str:
    """What is explained and measured, in words."""
    explained, of = explained_as(experiment.target, samples), describe_explained(experiment, samples)
    measure = measured_as(experiment, samples)
    if explained == measure:
        return describe_measure(measure, of)
    if measure in ("largest", "accuracy", "dice"):
        return f"{describe_measure(explained, of)} (metrics measure the {describe_measure(measure, of)})"
    return f"{describe_measure(explained, of)} (metrics measure its {describe_link(measure)})"


def explained_as(target: experiments.Target, samples: Samples) -> str:
    """What explainers explain: the link, or how well a box is found."""
    return FOUND if samples.task == "detection" else target.explain


def measured_as(experiment: Experiment, samples: Samples) -> str:
    """What metrics measure, "auto" resolved."""
    if experiment.target.measure != "auto":
        return experiment.target.measure
    measures = {"classification": "softmax", "regression": "identity", "segmentation": "sigmoid", "detection": FOUND}
    return measures[samples.task]


def describe_measure(measure: str, of: str) -> str:
    """What is explained or measured, in words."""
    if measure == FOUND:
        return of
    if measure == "largest":
        return "largest probability of any class"
    if measure == "accuracy":
        return f"accuracy (1 where the model's answer is {of}, else 0)"
    if measure == "dice":
        return f"Dice coefficient with {of.rpartition('mean over ')[2]}"
    return f"{describe_link(measure)} of {of}"


def describe_explained(experiment: Experiment, samples: Samples) -> str:
    """The class, value or region in words."""
    target = experiment.target
    if samples.task == "detection":
        label = "" if isinstance(target.of, str) else f" of class {samples.classes[target.of]}"
        return f"overlap times score of the strongest detection{' of its label' if target.of == 'label' else label}"
    if samples.task == "segmentation":
        number = _segmented(target, samples)
        if isinstance(number, np.ndarray):
            return f"each class of {', '.join(map(str, np.unique(number)))}, mean over its region"
        number = number or 0
        name = samples.classes[number] if number < len(samples.classes) else f"output {number}"
        name = f"class {name}" if name.isdecimal() else name
        region = f"the true {region_of(target, samples)}" if target.of == "label" else f"the predicted {name}"
        return f"{name}, mean over {region} region"
    if samples.task == "regression":
        value = target.output if isinstance(target.output, int) else 0
        return samples.classes[value] if value < len(samples.classes) else f"output {value}"
    return {"predicted": "the predicted class", "label": "the labelled class"}.get(str(target.of), f"class {target.of}")


def describe_link(link: str) -> str:
    """What a link makes of an output, in words."""
    names = {"identity": "raw output", "logit": "logit", "log_odds": "log-odds"}
    return names.get(link, "probability")
