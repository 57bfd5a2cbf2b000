"""The same model asked in another way: another score or class, inputs laid out, scaled or rounded otherwise."""

from __future__ import annotations

from collections.abc import Callable, Collection
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
    if chosen["dtype"] != MODEL["dtype"]:
        place, how = question.model.modalities.index(question.modalities[0]), str(chosen["dtype"])
        inputs = list(question.inputs)
        inputs[place] = rounded(inputs[place], question.one[0], how)
        return situated(replace(question, inputs=tuple(inputs)), {**chosen, "dtype": MODEL["dtype"]})
    model: Model = question.model
    _, values = question.one
    score, target = str(chosen["score"]), question.target
    if not isinstance(target, Target):
        raise Unsupported(f"a {type(target).__name__} has no other score or class")
    if score != "logit" and (target.link != "identity" or target.out[-1] < 2):
        raise Unsupported("the score is a logit only where the target's link is identity and there are classes")
    if chosen["channel_order"] == "bgr" and values.shape[-1] != 3:
        raise Unsupported("colours have an order only where an image has three channels")
    if chosen["layout"] != "declared" and values.ndim != 4:
        raise Unsupported("only an image can be laid out in another way")
    if chosen["layout"] == "swapped" and values.shape[1] != values.shape[2]:
        raise Unsupported("height and width can be swapped only where both are equal")
    flipped, factor = chosen["channel_order"] == "bgr", 255.0 if chosen["input_scale"] == "255" else 1.0
    layout = str(chosen["layout"])

    def given(v: Array) -> Array:
        return np.ascontiguousarray(LAYOUTS[layout]((v[..., ::-1] if flipped else v) * v.dtype.type(factor)))

    def back(gradient: Array) -> Array:
        """At what the model was given: a pipeline that works on values 255 times as large sees no other."""
        own = LAYOUTS[BACK[layout]](gradient)
        return own[..., ::-1] if flipped else own

    asked = reframed(model, question.free[0], given, back, score)
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


def rounded(values: Array, modality: Modality, how: str) -> Array:
    """Values as an option of "dtype" has them."""
    if how == "float32":
        return values
    if how == "float16":
        return np.asarray(values.astype(np.float16).astype(values.dtype))
    if modality.range is None:
        raise Unsupported("256 steps need a declared range")
    low, high = modality.range
    step = values.dtype.type((high - low) / 255)
    return np.asarray(np.floor((values - values.dtype.type(low)) / step) * step + values.dtype.type(low))


LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "declared": lambda v: v,
    "reshaped": lambda v: np.moveaxis(v.reshape(len(v), v.shape[3], *v.shape[1:3]), 1, -1),
    "unshaped": lambda v: np.ascontiguousarray(np.moveaxis(v, -1, 1)).reshape(v.shape),
    "swapped": lambda v: np.swapaxes(v, 1, 2),
}
"""Option of "layout" -> what the model sees (n, y, x, channels) of an image."""
BACK = {"declared": "declared", "reshaped": "unshaped", "unshaped": "reshaped", "swapped": "swapped"}
"""The layout that undoes another."""


def baseline_of(question: Question, setting: Setting) -> Array:
    """What hidden entries are filled with, per channel, in raw units."""
    modality, values = question.one
    value = np.full(values.shape[-1], setting["baseline"], values.dtype)
    if setting["baseline_units"] == "raw":
        return value
    if setting["baseline_units"] == "range":
        low, high = modality.range or (0.0, 1.0)
        return np.asarray(low + value * (high - low) if len(value) == 3 else np.zeros_like(value), values.dtype)
    model = question.model.model if isinstance(question.model, ReframedScores) else question.model
    pair = getattr(model, "standardise", {}).get(modality.name)
    if pair is None:
        raise Unsupported(f"model {model.name!r} declares no mean and sd that it standardises {modality.name} with")
    mean, sd = (np.asarray(v, values.dtype) for v in pair)
    return np.asarray(mean + value * sd)


def reframed(
    model: Model, modality: str, given: Callable[[Array], Array], back: Callable[[Array], Array], score: str = "logit"
) -> Model:
    """The model behind other values of one modality, with the verbs that it has of scores, gradients and layers.

    given: what the model sees of values (n, *axes). back: the gradient at those values, from the one at what the model sees.
    score: what is made of the outputs, an option of the convention "score".
    """
    if isinstance(model, Layered):
        return Reframed(model, modality, given, back, score)
    kind = ReframedGradients if isinstance(model, Differentiable) else ReframedScores
    return kind(model, modality, given, back, score)


class ReframedScores:
    """See `reframed`."""

    def __init__(
        self,
        model: Model,
        modality: str,
        given: Callable[[Array], Array],
        back: Callable[[Array], Array],
        score: str,
    ) -> None:
        self.model, self.given, self.back, self.score = model, given, back, score
        self.place = [m.name for m in model.modalities].index(modality)
        self.name = model.name

    @property
    def modalities(self) -> tuple[Modality, ...]:
        return self.model.modalities

    @property
    def computes(self) -> str:
        return str(getattr(self.model, "computes", ""))

    def predict(self, inputs: Inputs) -> Array:
        return self._scored(self.model.predict(self._given(inputs)))

    def _given(self, inputs: Inputs) -> Inputs:
        return (*inputs[: self.place], self.given(inputs[self.place]), *inputs[self.place + 1 :])

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
    """The same with gradients."""

    model: Differentiable

    def vjp(self, inputs: Inputs, cotangent: Cotangent) -> tuple[Array, Inputs]:
        outputs, gradients = self.model.vjp(self._given(inputs), lambda y: self._through(y, cotangent))
        own = self.back(gradients[self.place])
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
