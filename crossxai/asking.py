"""What an experiment asks of one model: the question that is explained, the one that is measured, and both in words."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import numpy as np

from crossxai import experiment as experiments
from crossxai.batching import DEFAULT, batched
from crossxai.errors import InvalidInput
from crossxai.experiment import Experiment
from crossxai.files import Samples, Task
from crossxai.measures import Accuracy, Dice, Largest, Measure, predicted_region, probabilities
from crossxai.model import Array
from crossxai.models.loading import in_standard_units
from crossxai.question import Question
from crossxai.sources import Subject
from crossxai.target import Link, Target


def questions(
    experiment: Experiment, samples: Samples, subject: Subject, name: str
) -> tuple[Question, Question, Array]:
    """What explainers are asked and what metrics measure about one model, and its outputs.

    Tables of a model of ours are asked about in standard units, so that zero, every library's baseline, is the training mean.
    """
    model = subject.model
    lacking = [m.name for m in model.modalities if m.name not in samples.inputs]
    if lacking:
        raise InvalidInput(f"model {name!r} needs {', '.join(lacking)}; the data hold {', '.join(samples.inputs)}")
    inputs = tuple(
        in_standard_units(samples.inputs[m.name], *subject.standard[m.name])
        if m.name in subject.standard
        else samples.inputs[m.name]
        for m in model.modalities
    )
    size = experiment.batch_size or DEFAULT
    outputs = np.concatenate(
        batched(len(inputs[0]), size, lambda part: np.array(model.predict(tuple(v[part] for v in inputs))))
    )
    _check_outputs(outputs, name, experiment, samples.task)
    target, measured = _TARGETS[samples.task](experiment.target, outputs, samples, name)
    question = Question(model, inputs, target, samples.ids, batch_size=size)
    return question, replace(question, target=measured), outputs


def _of_classes(asked: experiments.Target, outputs: Array, samples: Samples, name: str) -> tuple[Target, Measure]:
    if asked.output or asked.mask:
        raise InvalidInput("output and mask are of a regression or a segmentation; a class is chosen by of")
    if asked.of == "predicted":
        chosen = outputs.argmax(axis=1)
    else:
        chosen = samples.labels if asked.of == "label" else np.full(len(outputs), asked.of)
    target = Target.classes(chosen, outputs.shape[1], asked.explain)
    if asked.measure == "accuracy":
        return target, Accuracy(chosen, outputs.shape[1])
    if asked.measure == "largest":
        return target, Largest(len(target), outputs.shape[1])
    if asked.measure == "dice":
        raise InvalidInput('measure = "dice" is of a segmentation; these samples have classes')
    return target, replace(target, link=_link(asked, "softmax"))


def _of_value(asked: experiments.Target, outputs: Array, samples: Samples, name: str) -> tuple[Target, Measure]:
    if asked.of != "predicted" or asked.measure in ("largest", "accuracy", "dice"):
        raise InvalidInput(
            f"of = {asked.of!r}, measure = {asked.measure!r}: a regression's value is explained and measured; write "
            'output = 0, its number, and measure = "identity"'
        )
    if asked.output >= outputs.shape[1]:
        raise InvalidInput(f"output = {asked.output}: model {name!r} has outputs 0 … {outputs.shape[1] - 1}")
    target = Target.outputs(asked.output, len(outputs), outputs.shape[1], asked.explain)
    return target, replace(target, link=_link(asked, "identity"))


def _of_region(asked: experiments.Target, outputs: Array, samples: Samples, name: str) -> tuple[Target, Measure]:
    if asked.of not in ("predicted", "label") or asked.measure in ("largest", "accuracy"):
        raise InvalidInput(
            f"of = {asked.of!r}, measure = {asked.measure!r}: of a segmentation the region is explained: write "
            'of = "predicted" or "label", output = the number of its class, measure = a link or "dice"'
        )
    n_classes = outputs.shape[-1]
    if asked.output >= n_classes:
        raise InvalidInput(f"output = {asked.output}: model {name!r} segments classes 0 … {n_classes - 1}")
    if asked.of == "label":
        region = samples.masks[region_of(asked, samples)]
        if region.shape != outputs.shape[:-1]:
            raise InvalidInput(f"the mask has shape {region.shape}, model {name!r} gives {outputs.shape[:-1]}")
    else:
        region = predicted_region(outputs, asked.output)
    empty = [samples.ids[i] for i in np.flatnonzero(~region.reshape(len(region), -1).any(axis=1))]
    if empty:
        raise InvalidInput(
            f"nothing to explain: the {'true' if asked.of == 'label' else 'predicted'} region of model {name!r} is empty for "
            f'{", ".join(empty[:5])}{" and more" if len(empty) > 5 else ""}; write of = "label", or other samples'
        )
    probability: Link = "sigmoid" if n_classes == 1 else "softmax"
    target = Target.regions(region, asked.output, n_classes, asked.explain)
    if asked.measure == "dice":
        return target, Dice(region, asked.output, n_classes, "identity" if probabilities(outputs) else probability)
    return target, replace(target, link=_link(asked, probability))


def _link(asked: experiments.Target, auto: Link) -> Link:
    """The link that metrics measure by; what `measure` can be beside links has been seen to."""
    return auto if asked.measure == "auto" else cast(Link, asked.measure)


_TARGETS = {"classification": _of_classes, "regression": _of_value, "segmentation": _of_region}


def region_of(asked: experiments.Target, samples: Samples) -> str:
    """The name of the mask that is the true region of a segmentation."""
    name = asked.mask or next(iter(samples.masks), "")
    if name not in samples.masks:
        raise InvalidInput(f"the data hold no mask {name!r}, only: {', '.join(samples.masks) or 'none at all'}")
    return name


def _check_outputs(outputs: Array, name: str, experiment: Experiment, task: Task) -> None:
    """Refuse what would run to the end and mean nothing."""
    wanted = {"classification": "classes (n, classes)", "regression": "values (n, outputs)"}
    if (outputs.ndim > 2) != (task == "segmentation"):
        raise InvalidInput(
            f"model {name!r} gives outputs of shape {outputs.shape}; a {task} has {wanted.get(task, 'maps (n, *space, classes)')}"
        )
    finite = np.isfinite(outputs).reshape(len(outputs), -1).all(axis=1)
    if not finite.all():
        raise InvalidInput(f"model {name!r} gives NaN or infinity for {(~finite).sum()} samples")
    target = experiment.target
    again = {"softmax", "sigmoid", "largest", "auto"} & {target.explain, target.measure}
    one = outputs.shape[-1] == 1
    if task != "regression" and again and (task == "segmentation" or not one) and probabilities(outputs):
        found, twice = ("fill [0, 1]", "sigmoid") if one else ("sum to 1", "softmax")
        raise InvalidInput(
            f"model {name!r} gives probabilities already (they {found}): a second {twice} would flatten every curve; "
            'write measure = "identity" under [target]'
        )


def words(experiment: Experiment, samples: Samples) -> str:
    """What is explained and measured, in words."""
    target, of = experiment.target, words_of_what(experiment, samples)
    measure = measured_as(experiment, samples)
    if target.explain == measure:
        return words_of(measure, of)
    if measure in ("largest", "accuracy", "dice"):
        return f"{words_of(target.explain, of)} (metrics measure the {words_of(measure, of)})"
    return f"{words_of(target.explain, of)} (metrics measure its {words_of_link(measure)})"


def measured_as(experiment: Experiment, samples: Samples) -> str:
    """What metrics measure, "auto" resolved."""
    if experiment.target.measure != "auto":
        return experiment.target.measure
    return {"classification": "softmax", "regression": "identity", "segmentation": "sigmoid"}[samples.task]


def words_of(measure: str, of: str) -> str:
    """What is explained or measured, in words."""
    if measure == "largest":
        return "largest probability of any class"
    if measure == "accuracy":
        return f"accuracy (1 where the model's answer is {of}, else 0)"
    if measure == "dice":
        return f"Dice coefficient with {of.rpartition('mean over ')[2]}"
    return f"{words_of_link(measure)} of {of}"


def words_of_what(experiment: Experiment, samples: Samples) -> str:
    """The class, value or region in words."""
    target = experiment.target
    name = samples.classes[target.output] if target.output < len(samples.classes) else f"output {target.output}"
    if samples.task == "regression":
        return name
    if samples.task == "segmentation":
        region = f"the true {region_of(target, samples)}" if target.of == "label" else f"the predicted {name}"
        return f"{name}, mean over {region} region"
    return {"predicted": "the predicted class", "label": "the labelled class"}.get(str(target.of), f"class {target.of}")


def words_of_link(link: str) -> str:
    """What a link makes of an output, in words."""
    return {"identity": "raw output", "softmax": "probability", "sigmoid": "probability"}[link]
