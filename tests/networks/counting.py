"""Small NumPy models for tests of metrics: of classes, one regression output, or a segmented image; they count what they see."""

from __future__ import annotations

from typing import Any

import numpy as np

from crossxai import Attribution, Modality, Question, Target
from crossxai.model import Array, Inputs

SIDE = 8
IMAGE = Modality.image()
TABLE = Modality.table(("age", "size", "grade"))


class Counting:
    """Logits of three classes, one output, or two classes per pixel: linear, or bent by a sine."""

    name = "counting"

    def __init__(
        self,
        modalities: tuple[Modality, ...] = (IMAGE,),
        task: str = "class",
        side: int = SIDE,
        linear: bool = False,
        classes: int = 3,
    ) -> None:
        rng = np.random.default_rng(7)
        outputs = {"class": classes, "regression": 1, "segmentation": side * side * 2}[task]
        sizes = [side * side * len(m.features) if m.spatial else len(m.features) for m in modalities]
        self.modalities, self.task, self.side, self.linear = modalities, task, side, linear
        self.weights = [rng.normal(size=(size, outputs)) / np.sqrt(size) for size in sizes]
        self.seen, self.largest = 0, 0

    def predict(self, inputs: Inputs) -> Array:
        self.seen += len(inputs[0])
        self.largest = max(self.largest, len(inputs[0]))
        # Sample by sample, so that rounding cannot depend on the batch.
        logits = np.stack([sum(v[i].reshape(-1) @ w for v, w in zip(inputs, self.weights, strict=True))
                           for i in range(len(inputs[0]))]).astype(np.float64)  # fmt: skip
        if not self.linear:
            logits = logits + 0.5 * np.sin(3 * logits)
        return logits.reshape(-1, self.side, self.side, 2) if self.task == "segmentation" else logits


def inputs_of(modalities: tuple[Modality, ...], n: int, side: int = SIDE, dtype: Any = np.float64) -> Inputs:
    rng = np.random.default_rng(0)
    return tuple(
        rng.random((n, side, side, len(m.features))).astype(dtype)
        if m.spatial
        else rng.normal(size=(n, len(m.features))).astype(dtype)
        for m in modalities
    )


def ask(
    n: int = 4,
    link: str = "softmax",
    modalities: tuple[Modality, ...] = (IMAGE,),
    task: str = "class",
    side: int = SIDE,
    linear: bool = False,
    batch_size: int = 5,
    classes: int = 3,
    dtype: Any = np.float64,
) -> Question:
    model = Counting(modalities, task, side, linear, classes)
    if task == "class":
        target = Target.classes(np.arange(n) % 3, classes, link)  # type: ignore[arg-type]
    elif task == "regression":
        target = Target.outputs(0, n, 1)
    else:
        masks = np.zeros((n, side, side))
        for i in range(n):
            masks[i, i % 3 : i % 3 + 3, 2:5] = 1
        target = Target.regions(masks, 1, 2, "softmax")
    ids = tuple(f"s{i}" for i in range(n))
    return Question(model, inputs_of(modalities, n, side, dtype), target, ids, batch_size=batch_size, check="off")


def answer(question: Question, *values: Array, **extras: Array) -> Attribution:
    return Attribution(values, question.modalities, question.ids, "test", extras=extras)


def some_map(question: Question, channels: int = 1, seed: int = 1) -> Array:
    return np.random.default_rng(seed).normal(size=(*question.values[0].shape[:-1], channels))


def contributions(question: Question) -> tuple[Array, ...]:
    """What each entry adds to a linear model's score, removed against zero."""
    labels = question.target.weights.argmax(axis=1)
    model: Any = question.model
    return tuple(v * w[:, labels].T.reshape(v.shape) for v, w in zip(question.inputs, model.weights, strict=True))
