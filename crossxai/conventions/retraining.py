"""Copies of a model for the data randomisation test of Adebayo et al. 2018, section 4.2: trained on labels and on shuffled ones.

A network that has memorised shuffled labels has learned something of its samples, but nothing that connects an image with what it
shows. All copies of a model start from the same random weights and see their batches in the same order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from crossxai.assumptions.probes import outputs_in_batches
from crossxai.batching import DEFAULT_BATCH_SIZE
from crossxai.errors import CrossXAIError
from crossxai.model import Inputs, Model, Retrainable
from crossxai.outputs import kind

SAMPLES = 64
"""How many samples the copies are trained on, at most, unless more are explained."""
EPOCHS = 200
DRAWS = 50
MEMORISED = 0.95
"""Of the labels: the accuracy, or the share of the values' variance, below which nothing is said."""
FEWEST_MOVED = 0.25
"""The share of samples that shuffling has to give another label."""

Copy = Literal["start", "labels", "shuffled"]


@dataclass(frozen=True)
class Training:
    """What the copies of a model were trained on, and what they learned.

    n: how many samples. source: whose labels, "data", or "model" where none were given: what the model gives itself. values:
    whether labels are values, not classes. moved: the share of samples that shuffling gave another label. learned, memorised: the
    accuracy, or the share of the values' variance, that the copies reached on labels and on shuffled ones in evaluation mode.
    refusal: why nothing was measured.
    """

    n: int = 0
    source: Literal["data", "model"] = "data"
    values: bool = False
    moved: float = float("nan")
    learned: float = float("nan")
    memorised: float = float("nan")
    refusal: str = ""


@dataclass(frozen=True)
class Retrained:
    """A model's copies: "start" is not trained, "labels" on labels, "shuffled" on shuffled ones; none if refused."""

    training: Training
    copies: Mapping[Copy, Model] = field(default_factory=dict)


def retrain(
    model: Model, inputs: Inputs, labels: npt.ArrayLike | None = None, first: int = 0, seed: int = 0
) -> Retrained:
    """The copies of a model.

    inputs: of at least the samples that are explained, the `first` of them; the others are taken evenly. labels: classes (n,) or
    values (n,) or (n, outputs), as of `Retrainable`; what the model gives itself if None.
    """
    if not isinstance(model, Retrainable):
        return Retrained(Training(refusal=f"model {model.name!r} has no weights that can be trained anew"))
    n = len(inputs[0])
    rows = np.arange(n)
    if n > SAMPLES:
        rows = np.unique(np.r_[:first, np.rint(np.linspace(first, n - 1, max(SAMPLES - first, 1))).astype(int)])
    chosen = tuple(v[rows] for v in inputs)
    training = Training(len(rows), "model" if labels is None else "data")
    try:
        true = _given_by(model, chosen) if labels is None else np.asarray(labels)[rows]
        shuffled = _shuffled(true, seed)
        moved = float((true != shuffled).reshape(len(true), -1).any(axis=1).mean())
        training = replace(training, values=np.issubdtype(true.dtype, np.floating), moved=moved)
        if moved < FEWEST_MOVED:
            few = f"shuffling the labels changes only {moved:.0%} of {len(true)}, as most are the same"
            return Retrained(replace(training, refusal=few))
        start, _ = model.retrained(chosen, true, seed, 0)
        one, learned = model.retrained(chosen, true, seed, EPOCHS)
        other, memorised = model.retrained(chosen, shuffled, seed, EPOCHS)
    except CrossXAIError as error:  # a test that cannot be made takes no other result away
        return Retrained(replace(training, refusal=str(error)))
    training = replace(training, learned=learned, memorised=memorised)
    if min(learned, memorised) < MEMORISED:
        what = "shuffled labels" if learned >= MEMORISED else "labels"
        short = (
            f"{EPOCHS} epochs did not suffice to memorise the {what} ({min(learned, memorised):.0%} of {MEMORISED:.0%})"
        )
        return Retrained(replace(training, refusal=short))
    return Retrained(training, {"start": start, "labels": one, "shuffled": other})


def _given_by(model: Model, inputs: Inputs) -> npt.NDArray[Any]:
    """The class that the model predicts of each sample; the outputs themselves where they are values, or one alone."""
    outputs = outputs_in_batches(model, inputs, DEFAULT_BATCH_SIZE)
    values = outputs.shape[-1] == 1 or kind(model, inputs, outputs).kind == "values"
    return outputs if values else np.asarray(outputs.argmax(axis=-1))


def _shuffled(labels: npt.NDArray[Any], seed: int) -> npt.NDArray[Any]:
    """The labels in the order, of `DRAWS` at random, that correlates least with their own.

    Of two classes most orders of few labels keep, or exchange, more of them than half, and a network that learns them exchanged
    learns the same.
    """
    rng = np.random.default_rng([seed, 1])
    columns = labels.reshape(len(labels), -1) if labels.dtype.kind == "f" else labels[:, None] == np.unique(labels)
    centred = columns - columns.mean(axis=0)
    orders = [rng.permutation(len(labels)) for _ in range(DRAWS)]
    return labels[min(orders, key=lambda order: abs((centred * centred[order]).sum()))]
