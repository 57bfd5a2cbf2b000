"""Models for tests: one that counts samples, and ones whose truth is known, with explainers that tell it, or do not."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from crossxai.adapters.checks import redrawn
from crossxai.attribution import Attribution, Needs, Profile
from crossxai.model import Array, Cotangent, Inputs, Modality, Model
from crossxai.question import Question
from crossxai.target import Target


class Counting:
    """A model with all the verbs of another, and how many samples went through it forwards and backwards.

    Reading layers (`activations`) and writing down the graph (`graph`) explain nothing and count for nothing; nor does what is
    found out about the model itself, such as a twin's certificate: it is measured on the model that this one watches. What a copy
    with other weights sees counts here, too.
    """

    COPIES = ("randomised", "folded")
    BOTH = ("vjp", "layer_vjp", "attention_vjp")
    FORWARD = ("read", "replace")
    FREE = ("activations", "axes_of", "graph", "kind_of", "layer_axes", "weighted", "streams", "output_axes", "outputs")

    def __init__(self, inner: Model, around: Counting | None = None) -> None:
        self.inner, self.around = inner, around
        self.watches = inner  # what is found out about a model is found out about this one
        self.name, self.modalities = inner.name, inner.modalities
        self.forward = self.backward = 0
        # Set on the object, and only where the inner model has them: a protocol is recognised by its verbs.
        free = {name: getattr(inner, name) for name in self.FREE if hasattr(inner, name)}
        once = {name: self._once(getattr(inner, name)) for name in self.FORWARD if hasattr(inner, name)}
        both = {name: self._both(getattr(inner, name)) for name in self.BOTH if hasattr(inner, name)}
        copies = {name: self._copied(getattr(inner, name)) for name in self.COPIES if hasattr(inner, name)}
        vars(self).update(free | once | both | copies)

    def predict(self, inputs: Inputs) -> Array:
        """Outputs of the inner model; one forward pass per sample."""
        self._count(len(inputs[0]))
        return self.inner.predict(inputs)

    def _count(self, forward: int, backward: int = 0) -> None:
        self.forward += forward
        self.backward += backward
        if self.around is not None:
            self.around._count(forward, backward)

    def _copied(self, verb: Callable[..., Any]) -> Callable[..., Any]:
        """The passes that check a copy happen inside, and count for nothing."""
        return lambda *arguments: Counting(verb(*arguments), self)

    def _once(self, verb: Callable[..., Any]) -> Callable[..., Any]:
        def counted(inputs: Inputs, *arguments: Any) -> Any:
            self._count(len(inputs[0]))
            return verb(inputs, *arguments)

        return counted

    def _both(self, verb: Callable[..., Any]) -> Callable[..., Any]:
        def counted(inputs: Inputs, cotangent: Any, *arguments: Any) -> Any:
            # Attention can be read without a gradient.
            self._count(len(inputs[0]), 0 if cotangent is None else len(inputs[0]))
            return verb(inputs, cotangent, *arguments)

        return counted


class Linear:
    """score = sum over modalities of weights · values."""

    def __init__(self, modalities: tuple[Modality, ...], weights: Inputs) -> None:
        self.name, self.modalities, self.weights = "linear", modalities, weights

    def predict(self, inputs: Inputs) -> Array:
        n = len(inputs[0])
        parts = [(v * w).reshape(n, -1).sum(axis=1) for v, w in zip(inputs, self.weights, strict=True)]
        return np.asarray(sum(parts, np.zeros(n))[:, None])

    def vjp(self, inputs: Inputs, cotangent: Cotangent) -> tuple[Array, Inputs]:
        outputs = self.predict(inputs)
        return outputs, tuple(np.multiply.outer(cotangent(outputs)[:, 0], weights) for weights in self.weights)


class Colours:
    """Class c's score = how much of colour c there is, wherever, in images of any size: mean over space · weights (3, 3)."""

    name = "colours"
    modalities = (Modality.image(),)

    def __init__(self, weights: Array) -> None:
        self.weights = weights

    def predict(self, inputs: Inputs) -> Array:
        return np.asarray(inputs[0].mean(axis=(1, 2)) @ self.weights)

    def vjp(self, inputs: Inputs, cotangent: Cotangent) -> tuple[Array, Inputs]:
        outputs, (n, height, width, channels) = self.predict(inputs), inputs[0].shape
        gradient = (cotangent(outputs) @ self.weights.T / (height * width))[:, None, None]
        return outputs, (np.broadcast_to(gradient, (n, height, width, channels)).copy(),)

    def weighted(self, inputs: Inputs) -> tuple[str, ...]:
        return ("weights",)

    def randomised(self, inputs: Inputs, depth: int, seed: int) -> Colours:
        return Colours(redrawn(self.weights, "weights", 0, seed) if depth else self.weights)


def linear_question(n: int = 12, size: int = 16) -> tuple[Question, Attribution]:
    """A question about a linear model, and its true map: weight times input, positive inside a square and zero elsewhere.

    n dark images (size, size, 3) with a bright square of size / 2 in the middle, the only place that the model looks at.

    The true map is summed over channels.
    """
    rng = np.random.default_rng(0)
    middle = slice(size // 4, size // 4 + size // 2)
    images = rng.uniform(0.1, 0.2, (n, size, size, 3))
    images[:, middle, middle] = rng.uniform(0.8, 1.0, images[:, middle, middle].shape)
    weights = np.zeros((size, size, 3))
    weights[middle, middle] = rng.uniform(0.2, 2.0, weights[middle, middle].shape) / (size * size)
    return _weighed((Modality.image(),), (images,), (weights,))


def pair_question(n: int = 12, size: int = 8) -> tuple[Question, Attribution]:
    """Images (n, size, size, 3) and tables (n, 3) of positive numbers, a linear model with positive weights to which the image
    matters most, and the true maps: weight times input, which add up."""
    rng = np.random.default_rng(0)
    inputs = rng.uniform(0.5, 1.0, (n, size, size, 3)), rng.uniform(0.5, 1.0, (n, 3))
    weights = rng.uniform(0.5, 1.0, (size, size, 3)), rng.uniform(0.05, 0.1, 3)
    return _weighed((Modality.image(), Modality.table(("age", "dose", "grade"))), inputs, weights)


def _weighed(modalities: tuple[Modality, ...], inputs: Inputs, weights: Inputs) -> tuple[Question, Attribution]:
    """The question of a linear model, and weight times input, of images summed over channels."""
    n = len(inputs[0])
    question = Question(Linear(modalities, weights), inputs, Target.outputs(0, n, 1))
    products = [v * w for v, w in zip(inputs, weights, strict=True)]
    maps = tuple(p.sum(axis=-1, keepdims=True) if m.spatial else p for m, p in zip(modalities, products, strict=True))
    complete = {"completeness_gap": np.zeros(n)}
    return question, Attribution(maps, question.modalities, question.ids, "the truth", extras=complete)


def colours_question(n: int = 12, size: int = 16) -> Question:
    """A question about a linear model of three classes, each of which looks at its own colour in a square in the middle.

    n dark images (size, size, 3) of the classes in turn; the square is bright in the channel of the image's class. The model can
    be redrawn, for metrics that have maps made again.
    """
    rng = np.random.default_rng(0)
    labels, middle = np.arange(n) % 3, slice(size // 4, size // 4 + size // 2)
    images = rng.uniform(0.1, 0.3, (n, size, size, 3))
    for i, label in enumerate(labels):
        images[i, middle, middle, label] = rng.uniform(0.7, 0.9, (size // 2, size // 2))
    return Question(Colours(np.diag(rng.uniform(1, 2, 3))), (images,), Target.classes(labels, 3))


@dataclass(frozen=True)
class Oracle:
    """An explainer that gives what a function makes of a question and a seed: maps (n, height, width, 1)."""

    relevance: Callable[[Question, int], Array]
    profile: Profile = "native"
    seed: int = 0

    name: ClassVar[str] = "oracle.any"
    library: ClassVar[str] = "oracle"
    needs: ClassVar[Needs] = "gradients"
    profiles: ClassVar[tuple[Profile, ...]] = ("native",)

    def __call__(self, question: Question) -> Attribution:
        values = self.relevance(question, self.seed)
        return Attribution((values,), question.modalities, question.ids, self.name)


def truth(question: Question, seed: int = 0) -> Array:
    """Gradient times difference from the image's mean: steady, true to the model and its class, wherever zero lies."""
    _, (gradient,) = question.score_and_grad()
    (values,) = question.values
    return np.asarray(((values - values.mean(axis=(1, 2), keepdims=True)) * gradient).sum(axis=-1, keepdims=True))


def anew(question: Question, seed: int = 0) -> Array:
    """Noise that differs for every input, however near, and every seed."""
    (values,) = question.values
    sums = [zlib.crc32(np.ascontiguousarray(image).tobytes()) for image in values]
    return np.stack([np.random.default_rng([seed, s]).random((*values.shape[1:-1], 1)) for s in sums])


def brightness(question: Question, seed: int = 0) -> Array:
    """The image itself, which looks at neither the model nor the class."""
    return np.asarray(question.values[0].sum(axis=-1, keepdims=True))
