"""The same model asked in another way: another score or class, colours in another order, values on another scale."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
from scipy.special import log_softmax, softmax

from crossxai.conventions.convention import MODEL, Setting
from crossxai.errors import Unsupported
from crossxai.model import Array, Cotangent, Differentiable, Inputs, Layered, Modality, Model
from crossxai.question import Question
from crossxai.target import Target


def situated(question: Question, setting: Setting) -> Question:
    """The question as the conventions of stage "model" have it; itself where they are the usual ones.

    Raises `Unsupported` where an option does not apply: the next class of one output, a softmax of a regression.
    """
    chosen = {name: setting.get(name, usual) for name, usual in MODEL.items()}
    if chosen == MODEL:
        return question
    model: Model = question.model
    _, values = question.one
    score, target = str(chosen["score"]), question.target
    if not isinstance(target, Target):
        raise Unsupported(f"a {type(target).__name__} has no other score or class")
    if score != "logit" and (target.link != "identity" or target.out[-1] < 2):
        raise Unsupported("the score is a logit only where the target's link is identity and there are classes")
    if chosen["channel_order"] == "bgr" and values.shape[-1] != 3:
        raise Unsupported("colours have an order only where an image has three channels")
    flipped, factor = chosen["channel_order"] == "bgr", 255.0 if chosen["input_scale"] == "255" else 1.0
    reframed: type[ReframedScores] = ReframedScores
    if isinstance(model, Differentiable):
        reframed = Reframed if isinstance(model, Layered) else ReframedGradients
    asked = reframed(model, score, question.free[0], flipped, factor)
    return replace(question, model=asked, target=_target(question, asked, target, str(chosen["target"])), check="off")


def _target(question: Question, asked: Model, target: Target, which: str) -> Target:
    if which == "given":
        return target
    count = target.out[-1]
    if count < 2 or len(target.out) > 1:
        raise Unsupported("another class needs a classification of at least two classes")
    if which in ("next", "previous"):
        return replace(target, weights=np.roll(target.weights, 1 if which == "next" else -1, axis=-1))
    return replace(target, weights=np.eye(count)[asked.predict(question.inputs).argmax(axis=-1)])


class ReframedScores:
    """A model with another function of its outputs, and other inputs.

    modality: whose colours are flipped and whose values are multiplied by factor before the model sees them.
    """

    def __init__(self, model: Model, score: str, modality: str, flipped: bool, factor: float) -> None:
        self.model, self.score, self.flipped, self.factor = model, score, flipped, factor
        self.place = [m.name for m in model.modalities].index(modality)
        self.name = model.name

    @property
    def modalities(self) -> tuple[Modality, ...]:
        return self.model.modalities

    def predict(self, inputs: Inputs) -> Array:
        return self._scored(self.model.predict(self._given(inputs)))

    def _given(self, inputs: Inputs) -> Inputs:
        values = inputs[self.place]
        values = (values[..., ::-1] if self.flipped else values) * values.dtype.type(self.factor)
        return (*inputs[: self.place], np.ascontiguousarray(values), *inputs[self.place + 1 :])

    def _scored(self, outputs: Array) -> Array:
        if self.score == "logit":
            return outputs
        if self.score == "log_probability":
            return np.asarray(log_softmax(outputs, axis=-1))
        p = softmax(outputs, axis=-1)
        return np.asarray(softmax(p, axis=-1) if self.score == "doubled_softmax" else p)

    def _through(self, outputs: Array, cotangent: Cotangent) -> Array:
        """The cotangent of the model's own outputs."""
        upstream = cotangent(self._scored(outputs))
        if self.score == "logit":
            return upstream
        p = softmax(outputs, axis=-1)
        if self.score == "log_probability":
            return np.asarray(upstream - p * upstream.sum(axis=-1, keepdims=True))
        if self.score == "doubled_softmax":
            upstream = _softmax_slope(softmax(p, axis=-1), upstream)
        return _softmax_slope(p, upstream)


def _softmax_slope(p: Array, upstream: Array) -> Array:
    return np.asarray(p * (upstream - (p * upstream).sum(axis=-1, keepdims=True)))


class ReframedGradients(ReframedScores):
    """The same with gradients, at what the model was given: a pipeline that works on other values sees no other."""

    model: Differentiable

    def vjp(self, inputs: Inputs, cotangent: Cotangent) -> tuple[Array, Inputs]:
        outputs, gradients = self.model.vjp(self._given(inputs), lambda y: self._through(y, cotangent))
        own = gradients[self.place]
        own = own[..., ::-1] if self.flipped else own
        return self._scored(outputs), (*gradients[: self.place], own, *gradients[self.place + 1 :])


class Reframed(ReframedGradients):
    """The same with layers."""

    model: Layered

    def activations(self, inputs: Inputs, layers: Collection[str] | None = None) -> dict[str, Array]:
        return self.model.activations(self._given(inputs), layers)

    def layer_vjp(self, inputs: Inputs, cotangent: Cotangent, layer: str) -> tuple[Array, Array, Array]:
        outputs, activation, gradient = self.model.layer_vjp(
            self._given(inputs), lambda y: self._through(y, cotangent), layer
        )
        return self._scored(outputs), activation, gradient

    def read(self, inputs: Inputs, layer: str) -> tuple[Array, Array]:
        outputs, activation = self.model.read(self._given(inputs), layer)
        return self._scored(outputs), activation

    def replace(self, inputs: Inputs, layer: str, activation: Array) -> Array:
        return self._scored(self.model.replace(self._given(inputs), layer, activation))
