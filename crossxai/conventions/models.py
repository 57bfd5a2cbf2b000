"""Whether two models are one function: scores and gradients; and where not, which convention or which layer parts them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from crossxai.conventions.agreement import distance
from crossxai.conventions.convention import CONVENTIONS, MODEL, Option
from crossxai.conventions.floor import NUDGES, in_float64, nudged
from crossxai.conventions.search import Switch
from crossxai.conventions.situation import rounded, situated
from crossxai.errors import CrossXAIError, Unsupported
from crossxai.model import Array, Differentiable, Inputs, Layered
from crossxai.porting.certificate import difference, probe_inputs
from crossxai.question import Question

SAMPLES = 4
"""How many samples models are compared on, each with its pixels shuffled and with noise."""
OUTPUTS = 1e-4
"""Largest difference of outputs, as a share of how far they vary, at which models in float32 are equal."""
GRADIENTS = 5e-3
"""Largest relative L2 of gradients: above it a difference is no rounding (one ReLU that flips moves the third digit)."""


@dataclass(frozen=True)
class ModelParity:
    """Two models side by side.

    outputs: the largest difference of outputs as a share of how far they vary; infinite where their shapes differ. gradients: the
    largest relative L2 of a sample's input gradients; NaN where a model gives none. exact: the same of the models' copies in
    float64, where no ReLU flips by rounding; measured where gradients differ, NaN where a model has no such copy. rounding: that
    of the first model's own gradients where the inputs' last bits are drawn anew; measured where there is no exact one.
    causes: the sets of conventions that make the first model's outputs those of the second or, if turned, the second's those of
    the first. layers: of each model, the first layer whose activation differs; empty where none was compared.
    rest: the difference of outputs that is left where the second model is given the first's activation there; NaN where it cannot
    be. last: where some is left, the layers after which, given equal activations, none is; empty where no such layers were found.
    """

    outputs: float
    gradients: float
    exact: float = float("nan")
    rounding: float = 0.0
    causes: tuple[tuple[Switch, ...], ...] = ()
    turned: bool = False
    layers: tuple[str, str] = ("", "")
    rest: float = float("nan")
    last: tuple[str, str] = ("", "")

    @property
    def equal(self) -> bool:
        """Whether the models are one function, as far as measured."""
        if np.isfinite(self.exact):
            return self.outputs <= OUTPUTS and self.exact <= OUTPUTS
        return self.outputs <= OUTPUTS and not self.gradients > max(GRADIENTS, 3 * self.rounding)

    @property
    def rest_agrees(self) -> bool:
        """Whether what follows the first layer that differs is one function, as far as measured."""
        return self.rest <= OUTPUTS


def compare_models(one: Question, other: Question, layers: bool = True) -> ModelParity:
    """Both questions' models on the same samples; raises what makes a model untrustworthy, in words. layers: whether to look for
    the layer that parts them, too."""
    few = slice(0, min(SAMPLES, len(one)))
    one, other = one[few], other[few]
    if one.model.predict(one.inputs).shape != other.model.predict(other.inputs).shape:
        return ModelParity(float("inf"), float("nan"))
    one.trusted()
    other.trusted()
    probes = probe_inputs(one.inputs, one.model.modalities)
    given = tuple(np.concatenate(column) for column in zip(*probes, strict=True))
    outputs = difference(one.model.predict(given), other.model.predict(given))
    gradients = float("nan")
    ours: Inputs = ()
    if isinstance(one.model, Differentiable) and isinstance(other.model, Differentiable):
        ours, theirs = one.score_and_grad()[1], other.score_and_grad()[1]
        gradients = max(distance(a, b) for a, b in zip(ours, theirs, strict=True))
    exact, rounding = float("nan"), 0.0
    if gradients > GRADIENTS:  # a ReLU that flips, or a wrong gradient: float64 tells them apart, else rounding itself
        exact = _exact_gradients(one, other)
        if np.isnan(exact):
            again = [nudged(one, draw).score_and_grad()[1] for draw in range(NUDGES)]
            rounding = max(distance(a, b) for drawn in again for a, b in zip(ours, drawn, strict=True))
    parity = ModelParity(outputs, gradients, exact, rounding)
    if parity.equal:
        return parity
    if causes := _causes(one, other, given):
        return replace(parity, causes=causes)
    if causes := _causes(other, one, given):
        return replace(parity, causes=causes, turned=True)
    if not layers:
        return parity
    first = first_difference(one, other)
    rest, last = what_follows(one, other, first) if first[0] else (float("nan"), ("", ""))
    return replace(parity, layers=first, rest=rest, last=last)


def _exact_gradients(one: Question, other: Question) -> float:
    """How far the gradients of both models' copies in float64 are apart; NaN where one has none."""
    exact, exact_other = in_float64(one), in_float64(other)
    if exact is None or exact_other is None:
        return float("nan")
    try:
        ours, theirs = exact.score_and_grad()[1], exact_other.score_and_grad()[1]
    except (CrossXAIError, MemoryError):  # its code may know float32 alone
        return float("nan")
    return max(distance(a, b) for a, b in zip(ours, theirs, strict=True))


def _causes(one: Question, other: Question, given: tuple[Array, ...]) -> tuple[tuple[Switch, ...], ...]:
    """The smallest sets of conventions of stage "model" under which the first model gives what the second does."""
    if len(one.free) > 1:
        return ()
    wanted = other.model.predict(given)
    choices: list[tuple[str, Option]] = [
        (name, option)
        for name, usual in MODEL.items()
        for option in CONVENTIONS[name].choices({})
        if option != usual and option != "predicted"
    ]
    for size in (1, 2, 3):
        closing = []
        for some in itertools.combinations(choices, size):
            setting = {**MODEL, **dict(some)}
            if len(dict(some)) == size and _outputs_differ(one, setting, given, wanted) <= OUTPUTS:
                closing.append(tuple(Switch(*pair) for pair in some))
        if closing:
            return tuple(closing)
    return ()


def _outputs_differ(one: Question, setting: dict[str, Option], given: tuple[Array, ...], wanted: Array) -> float:
    try:
        model = situated(one, {**setting, "target": "given"}).model
        modality = one.modalities[0]
        place, how = one.model.modalities.index(modality), str(setting["dtype"])
        given = (*given[:place], rounded(given[place], modality, how), *given[place + 1 :])
    except Unsupported:
        return float("inf")
    places = {"given": 0, "next": -1, "previous": 1}[str(setting["target"])]
    return difference(np.roll(model.predict(given), places, axis=-1), wanted)


def first_difference(one: Question, other: Question) -> tuple[str, str]:
    """The first layer of each model, in order of execution, whose activations part; ("", "") where they cannot be compared.

    Layers are paired in order by equal activations, whatever their names; channels first and last are one.
    """
    if not isinstance(one.model, Layered) or not isinstance(other.model, Layered):
        return "", ""
    return first_apart(activations(one), activations(other))


def first_apart(ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> tuple[str, str]:
    """The same of activations."""
    pairs = equal_layers(ours, theirs)
    names, others = list(ours), list(theirs)
    after, other_after = (names.index(pairs[-1][0]) + 1, others.index(pairs[-1][1]) + 1) if pairs else (0, 0)
    for name in names[after:]:
        for other_name in others[other_after:]:
            if ours[name].shape == theirs[other_name].shape:
                return name, other_name
    return "", ""


def what_follows(one: Question, other: Question, layers: tuple[str, str]) -> tuple[float, tuple[str, str]]:
    """`rest` and `last` of `ModelParity`: whether the layers after the first that differs agree, given equal activations.

    From the end of the second model, each layer is given the activation of one of the first model's that has its shape, as long
    as outputs agree then.
    """
    model = other.model
    assert isinstance(model, Layered)
    wanted, ours, theirs = one.model.predict(one.inputs), activations(one), activations(other)

    def left(name: str, other_name: str) -> float:
        activation = ours[name]
        if _channel_first(model, other_name, activation):
            activation = np.moveaxis(activation, -1, 1)
        try:
            return difference(wanted, model.replace(other.inputs, other_name, activation))
        except CrossXAIError:  # a layer that does not take another activation
            return float("nan")

    rest, last = left(*layers), ("", "")
    if rest <= OUTPUTS:
        return rest, last
    later = [list(names)[list(names).index(layer) + 1 :] for names, layer in zip((ours, theirs), layers, strict=True)]
    for other_name in reversed(later[1]):
        fitting = (name for name in later[0] if ours[name].shape == theirs[other_name].shape)
        name = next((name for name in fitting if left(name, other_name) <= OUTPUTS), "")
        if not name:
            break
        last = (name, other_name)
    return rest, last


def equal_layers(ours: Mapping[str, Array], theirs: Mapping[str, Array]) -> list[tuple[str, str, float]]:
    """The layers of two models that give the same, in order, with their distance."""
    pairs, others, after = [], list(theirs.items()), 0
    for name, activation in ours.items():
        for place in range(after, len(others)):
            if _same(activation, others[place][1]):
                pairs.append((name, others[place][0], distance(activation, others[place][1])))
                after = place + 1
                break
    return pairs


def common_layers(questions: Mapping[str, Question]) -> dict[str, str]:
    """Per model, the layer to draw activation maps at: one that gives the same activation in all.

    Their own choices where these are the same, else the last layer of the first model that the others have, too. A model without
    it is left out. Empty where the first model's layers cannot be drawn at.
    """
    few = {name: question[: min(SAMPLES, len(question))] for name, question in questions.items()}
    first, *rest = few
    try:
        candidates = list(dict.fromkeys([few[first].cam_layer(), *reversed(few[first].cam_layers())]))
        drawable = {name: [few[name].cam_layer(), *reversed(few[name].cam_layers())] for name in rest}
    except Unsupported:
        return {}
    if not rest:
        return {first: candidates[0]}
    every = {name: activations(question) for name, question in few.items()}
    best: dict[str, str] = {}
    for layer in candidates:
        own = every[first][layer]
        matched = {first: layer}
        for name in rest:
            match = next((other for other in drawable[name] if _same(own, every[name][other])), None)
            if match is not None:
                matched[name] = match
        if len(matched) > len(best):
            best = matched
        if len(best) == len(few):
            break
    return best


def activations(question: Question, given: Inputs | None = None) -> dict[str, Array]:
    """Every layer's output, images channels last, in order of execution; at other inputs where some are given."""
    model = question.model
    assert isinstance(model, Layered)
    found = model.activations(question.inputs if given is None else given)
    return {name: np.moveaxis(v, 1, -1) if _channel_first(model, name, v) else v for name, v in found.items()}


def _channel_first(model: Layered, layer: str, activation: Array) -> bool:
    """Whether a layer's own planes have their channels first."""
    axes_of = getattr(model, "axes_of", lambda _layer: None)
    return activation.ndim == 4 and (axes_of(layer) or ("",))[0] == "channel"


def _same(a: Array, b: Array) -> bool:
    return a.shape == b.shape and distance(a, b) <= OUTPUTS
