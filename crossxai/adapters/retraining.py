"""Networks trained anew on given labels: what is to be learned, in which order, and when to stop; frameworks give the steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit, softmax

from crossxai.assumptions.probes import outputs_in_batches
from crossxai.errors import InvalidInput, Unsupported
from crossxai.model import Array, Cotangent, Inputs, Model
from crossxai.outputs import check_known, kind, sums_to_one
from crossxai.target import class_numbers

BATCH = 16
CALIBRATED = 64
"""Statistics of batch norms are those of so many samples, at most."""
STRIDE = 0.05
"""Adam moves a weight by about its rate in a step: this share of the weights' root mean square, so that networks of any scale
leave their start and memorise in tens of epochs."""
TINY = 1e-30
"""The smallest divisor of a slope at probabilities."""

Step = Callable[[Inputs, Cotangent], None]
"""Moves the weights once, against the gradient of a loss whose slope at the outputs a cotangent gives."""


@dataclass(frozen=True)
class Lesson:
    """wanted (n, outputs): a one for the class of each sample, or values. outputs: what the network's outputs are."""

    wanted: Array
    outputs: str

    def slope(self, rows: npt.NDArray[np.intp], outputs: Array) -> Array:
        """d(loss)/d(outputs) of some samples: mean cross-entropy, or mean squared error in units of the values' variance."""
        wanted: Array = self.wanted[rows].astype(outputs.dtype)
        slopes: Array
        if self.outputs == "values":
            slopes = 2 * (outputs - wanted) / self.variance
        elif self.outputs == "logits":
            slopes = (expit(outputs) if outputs.shape[1] == 1 else softmax(outputs, axis=1)) - wanted
        elif self.outputs == "log_probabilities":
            slopes = -wanted
        elif sums_to_one(outputs):
            slopes = -wanted / np.maximum(outputs, TINY)
        else:
            slopes = (outputs - wanted) / np.maximum(outputs * (1 - outputs), TINY)
        return np.asarray(slopes / len(rows), outputs.dtype)

    @property
    def variance(self) -> float:
        """Of the values, the mean over outputs."""
        return float(self.wanted.var(axis=0).mean())

    @property
    def enough(self) -> float:
        """What `learned` has to reach for training to end."""
        return 0.99 if self.outputs == "values" else 1.0

    def learned(self, outputs: Array) -> float:
        """The accuracy on all samples; of values, the share of their variance that is explained (R²)."""
        if self.outputs == "values":
            return float(1 - ((outputs - self.wanted) ** 2).mean() / self.variance)
        if outputs.shape[1] == 1:
            return float(((outputs > (0 if self.outputs == "logits" else 0.5)) == (self.wanted > 0)).mean())
        return float((outputs.argmax(axis=1) == self.wanted.argmax(axis=1)).mean())


def lesson_of(model: Model, inputs: Inputs, labels: npt.ArrayLike) -> Lesson:
    """What a model is to learn from labels: whole numbers (n,) are classes, of a single output 0 and 1; floats (n,) or (n,
    outputs) are values. Raises `InvalidInput` for labels that the model cannot have, `Unsupported` for a segmentation."""
    given = np.asarray(labels)
    one = np.asarray(model.predict(tuple(v[:1] for v in inputs)))
    if one.ndim != 2:
        raise Unsupported(
            f"model {model.name!r} gives outputs of shape {one.shape}, a map of scores: it is not trained anew, as labels are "
            "one per sample"
        )
    if len(given) != len(inputs[0]):
        raise InvalidInput(f"{len(given)} labels for {len(inputs[0])} samples: give each sample one")
    n_outputs = one.shape[1]
    if np.issubdtype(given.dtype, np.floating):
        wanted = given.reshape(len(given), -1)
        if wanted.shape[1] != n_outputs or not np.isfinite(wanted).all():
            raise InvalidInput(
                f"model {model.name!r} has {n_outputs} outputs; values to learn are finite numbers of shape ({len(given)}, "
                f"{n_outputs}), got shape {given.shape}"
            )
        lesson = Lesson(wanted, "values")
        if not lesson.variance:
            raise InvalidInput("all values to learn are the same: there is nothing to learn")
        return lesson
    known = kind(model, inputs)
    check_known(known, model.name, "what it is trained to give")
    if known.kind == "values":
        raise InvalidInput(f"model {model.name!r} gives values, not classes: write its labels as floats")
    if n_outputs == 1 and known.kind == "log_probabilities":
        raise Unsupported(f"model {model.name!r} gives the logarithm of one probability: it is not trained anew")
    numbers = class_numbers(given, max(n_outputs, 2))
    wanted = numbers[:, None] if n_outputs == 1 else np.eye(n_outputs)[numbers]
    return Lesson(np.asarray(wanted, np.float64), known.kind)


def rate_of(weights: Iterable[npt.NDArray[Any]]) -> float:
    """The learning rate for weights of this scale."""
    every = np.concatenate([np.ravel(w).astype(np.float64) for w in weights])
    return STRIDE * float(np.sqrt((every**2).mean()))


def teach(model: Model, step: Step, inputs: Inputs, lesson: Lesson, seed: int, epochs: int) -> float:
    """Take steps until the model gives what is wanted of every sample, at most so many epochs; what is learned in the end.

    The order of batches depends on the seed and the number of samples alone. Raises `Unsupported` where outputs are not finite.
    """
    rng, n = np.random.default_rng(seed), len(lesson.wanted)
    for epoch in range(epochs + 1):
        outputs = outputs_in_batches(model, inputs, BATCH)
        if not np.isfinite(outputs).all():
            raise Unsupported(f"model {model.name!r}, trained anew from random weights, gives NaN or infinity")
        learned = lesson.learned(outputs)
        if epoch == epochs or (epoch and learned >= lesson.enough):
            break
        for rows in np.array_split(rng.permutation(n), -(-n // BATCH)):
            step(tuple(v[rows] for v in inputs), partial(lesson.slope, rows))
    return learned
