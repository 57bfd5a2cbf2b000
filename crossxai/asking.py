"""What an experiment asks of one model: the question that is explained, the one that is measured, and both in words."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from crossxai.batching import DEFAULT, batched
from crossxai.errors import InvalidInput
from crossxai.experiment import Experiment
from crossxai.files import Samples
from crossxai.measures import Accuracy, Largest, Measure
from crossxai.model import Array, Model
from crossxai.question import Question
from crossxai.target import Target


def questions(
    experiment: Experiment, samples: Samples, model: Model, name: str
) -> tuple[Question, Question, Array, Any]:
    """What explainers are asked and what metrics measure about one model, its outputs and the classes chosen."""
    lacking = [m.name for m in model.modalities if m.name not in samples.inputs]
    if lacking:
        raise InvalidInput(f"model {name!r} needs {', '.join(lacking)}; the data hold {', '.join(samples.inputs)}")
    inputs = tuple(samples.inputs[m.name] for m in model.modalities)
    size = experiment.batch_size or DEFAULT
    outputs = np.concatenate(
        batched(len(inputs[0]), size, lambda part: np.array(model.predict(tuple(v[part] for v in inputs))))
    )
    _check_outputs(outputs, name, experiment)
    chosen = _chosen(experiment.target.of, outputs, samples)
    target = Target.classes(chosen, outputs.shape[1], experiment.target.explain)
    question = Question(model, inputs, target, samples.ids, batch_size=size)
    measured = replace(question, target=_measure(target, chosen, experiment.target.measure))
    return question, measured, outputs, chosen


def _measure(target: Target, chosen: Any, measure: str) -> Measure:
    """What metrics measure of the classes chosen (n,)."""
    if measure == "accuracy":
        return Accuracy(chosen, target.out[0])
    if measure == "largest":
        return Largest(len(target), target.out[0])
    return replace(target, link=measure)  # type: ignore[arg-type]


def _chosen(of: str | int, outputs: Array, samples: Samples) -> Any:
    """The class (n,) that is explained for each sample."""
    if of == "predicted":
        return outputs.argmax(axis=1)
    return samples.labels if of == "label" else np.full(len(outputs), of)


def _check_outputs(outputs: Array, name: str, experiment: Experiment) -> None:
    """Refuse what would run to the end and mean nothing."""
    if outputs.ndim != 2:
        raise InvalidInput(
            f"model {name!r} gives outputs of shape {outputs.shape}; an experiment explains classes (n, classes)"
        )
    if not np.isfinite(outputs).all():
        raise InvalidInput(
            f"model {name!r} gives NaN or infinity for {(~np.isfinite(outputs).all(axis=1)).sum()} samples"
        )
    target = experiment.target
    sums_to_one = outputs.shape[1] > 1 and (outputs >= 0).all() and np.allclose(outputs.sum(axis=1), 1, atol=1e-4)
    if {"softmax", "largest"} & {target.explain, target.measure} and sums_to_one:
        raise InvalidInput(
            f"model {name!r} gives probabilities already (they sum to 1): a second softmax would flatten every curve; "
            'write measure = "identity" under [target]'
        )


def words(experiment: Experiment) -> str:
    """What is explained and measured, in words."""
    of, target = words_of_class(experiment), experiment.target
    if target.explain == target.measure:
        return words_of(target.explain, of)
    if target.measure in ("largest", "accuracy"):
        return f"{words_of(target.explain, of)} (metrics measure the {words_of(target.measure, of)})"
    return f"{words_of(target.explain, of)} (metrics measure its {words_of_link(target.measure)})"


def words_of(measure: str, of: str) -> str:
    """What is explained or measured of a class, in words."""
    if measure == "largest":
        return "largest probability of any class"
    if measure == "accuracy":
        return f"accuracy (1 where the model's answer is {of}, else 0)"
    return f"{words_of_link(measure)} of {of}"


def words_of_class(experiment: Experiment) -> str:
    """The class in words."""
    of = experiment.target.of
    return {"predicted": "the predicted class", "label": "the labelled class"}.get(str(of), f"class {of}")


def words_of_link(link: str) -> str:
    """What a link makes of an output, in words."""
    return {"identity": "raw output", "softmax": "probability", "sigmoid": "probability"}[link]
