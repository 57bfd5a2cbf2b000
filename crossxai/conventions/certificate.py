"""The certificate of a port: is the other network the same function, layer by layer, and are its explanations the same?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from crossxai.attribution import Profile
from crossxai.conventions.agreement import distance, distances
from crossxai.conventions.certificate_outputs import compared, other_outputs, other_size, outputs, probes, ten_times
from crossxai.conventions.certificate_result import LIMITS, Certificate, LayerPair, Line, MapPair
from crossxai.conventions.floor import in_float64
from crossxai.conventions.models import (
    activations,
    common_layers,
    compare_models,
    equal_layers,
    first_apart,
)
from crossxai.conventions.training import Sides, named_alike, trained
from crossxai.errors import CrossXAIError, Unsupported
from crossxai.explainers import get
from crossxai.model import Array, Differentiable, Inputs, Layered
from crossxai.question import Question

SAMPLES = 4
"""How many samples a certificate looks at, each with its pixels shuffled, with noise and ten times as large."""
METHODS: Mapping[str, tuple[str, Profile]] = {
    # Gauss-Legendre: on the baseline itself, one colour, every max-pool is a tie, which frameworks break differently
    "integrated gradients": ("captum.integrated_gradients", "native"),
    "Grad-CAM": ("reference.gradcam", "canonical"),
    "occlusion": ("reference.occlusion", "canonical"),
    "DeepLIFT": ("captum.deep_lift", "canonical"),
}


def certify(one: Question, other: Question) -> Certificate:
    """Compare two questions' models, one sample set and target for both, with gradients, layers and explanations.

    Raises what makes a model untrustworthy, in words.
    """
    few = slice(0, min(SAMPLES, len(one)))
    one, other = one[few], other[few]
    models = compare_models(one, other, layers=False)
    if one.model.predict(one.inputs).shape != other.model.predict(other.inputs).shape:
        line = Line("outputs", "samples", "float32", float("inf"))
        layers = _layers(one, other)
        return Certificate(one.model.name, other.model.name, (line,), layers, "float32", models, **_samples(one))
    exact = _both_exact(one, other)
    explanations, maps = _explanations(one, other, exact)
    lines = [
        *outputs(one, other, exact),
        *other_outputs(one, other, exact),
        *other_size(one, other, exact),
        *_gradients(one, other, exact),
        *explanations,
    ]
    dtype = "float32" if exact is None else "float64"
    layers = _layers(*(exact or (one, other)))
    training = trained(one, other, exact)
    return Certificate(
        one.model.name, other.model.name, (*lines, *training.lines), layers, dtype, models, training.norms, training.weights,
        **_samples(one), **_one_sample(one, maps),
    )  # fmt: skip


def _samples(question: Question) -> dict[str, Any]:
    """What tells a certificate's samples from others."""
    named = dict(zip((m.name for m in question.model.modalities), question.inputs, strict=True))
    digest = hashlib.sha256()
    for name, values in named.items():
        digest.update(f"{name} {values.dtype} {values.shape}".encode() + np.ascontiguousarray(values).tobytes())
    return {"shapes": {name: values.shape for name, values in named.items()}, "sha256": digest.hexdigest()}


def _both_exact(one: Question, other: Question) -> Sides | None:
    """Both questions to copies in float64; None where one has none."""
    ours, theirs = in_float64(one), in_float64(other)
    return None if ours is None or theirs is None else (ours, theirs)


def _gradients(one: Question, other: Question, exact: Sides | None) -> Iterator[Line]:
    if not isinstance(one.model, Differentiable) or not isinstance(other.model, Differentiable):
        return
    for name, given in probes(one).items():
        answers = [_gradient(side, given) for side in (one, other)]
        yield from compared("gradients", name, answers, exact, given, _gradient, _apart)


def _gradient(question: Question, given: Inputs) -> Inputs:
    """At every input, those too that leave their declared range."""
    model, rows = question.model, np.arange(len(question))
    assert isinstance(model, Differentiable)
    return model.vjp(given, lambda outputs: question.target.cotangent(outputs, rows))[1]


def _apart(one: Inputs, other: Inputs) -> float:
    return max(distance(a, b) for a, b in zip(one, other, strict=True))


def _explanations(
    one: Question, other: Question, exact: Sides | None
) -> tuple[list[Line], dict[str, tuple[Inputs, Inputs]]]:
    """Maps on both; on their copies, too, where the maps differ: a ReLU that flips by rounding moves a map."""
    lines: list[Line] = []
    every: dict[str, tuple[Inputs, Inputs]] = {}
    for method in METHODS:
        try:
            ours, theirs = _maps(method, one, other)
            apart, rounding = _apart(ours, theirs), 0.0
            if exact is not None and apart > LIMITS["explanation", "float32"]:
                wide, others = _maps(method, *exact)
                rounding = _apart(wide, ours) + _apart(others, theirs)
                lines.append(Line("explanation", method, "float64", _apart(wide, others)))
        except CrossXAIError as error:
            lines.append(Line("explanation", method, "float32", float("nan"), reason=str(error)))
        else:
            lines.append(Line("explanation", method, "float32", apart, rounding))
            every[method] = ours, theirs
    return lines, every


def _one_sample(question: Question, every: Mapping[str, tuple[Inputs, Inputs]]) -> dict[str, Any]:
    """The sample whose maps are farthest apart, and its maps."""
    if not every:
        return {}
    pairs = {
        method: list(zip(question.modalities, question.values, *maps, strict=True)) for method, maps in every.items()
    }
    apart = [distances(ours, theirs) for some in pairs.values() for _, _, ours, theirs in some]
    row = int(np.argmax(np.max(apart, axis=0)))
    maps = (
        MapPair(method, modality, given[row], ours[row], theirs[row])
        for method, some in pairs.items()
        for modality, given, ours, theirs in some
    )
    return {"sample": row, "maps": tuple(maps)}


def _maps(method: str, one: Question, other: Question) -> tuple[Inputs, Inputs]:
    """The maps of one method on both models, one free input after the other."""
    every: tuple[list[Array], list[Array]] = ([], [])
    for pair in zip(one.parts(), other.parts(), strict=True):
        layers: tuple[dict[str, str], dict[str, str]] = ({}, {})
        if method == "Grad-CAM":
            common = common_layers({"one": pair[0], "other": pair[1]})
            if len(common) < 2:
                raise Unsupported("no layer of both that activation maps can be drawn at gives the same activation")
            layers = ({"layer": common["one"]}, {"layer": common["other"]})
        for maps, question, params in zip(every, pair, layers, strict=True):
            name, profile = METHODS[method]
            maps.append(get(name, profile=profile, **params)(question).values[0])
    return tuple(every[0]), tuple(every[1])


def _layers(one: Question, other: Question) -> tuple[LayerPair, ...]:
    """Layers side by side: those of one name where the networks share names, else those that give the same, and the first
    that does not."""
    if not isinstance(one.model, Layered) or not isinstance(other.model, Layered):
        return ()
    ours, theirs = _everywhere(one), _everywhere(other)
    shared = [(a, b, _between(ours[a], theirs[b])) for a, b in named_alike(ours, theirs).items()]
    if 2 * len(shared) > min(len(ours), len(theirs)):
        return tuple(LayerPair(a, b, apart) for a, b, apart in shared if apart is not None)
    pairs = [LayerPair(ours_name, name, apart) for ours_name, name, apart in equal_layers(ours, theirs)]
    first = first_apart(ours, theirs)
    if first[0]:
        pairs.append(LayerPair(*first, distance(ours[first[0]], theirs[first[1]])))
    return tuple(pairs)


def _everywhere(question: Question) -> dict[str, Array]:
    """Activations at samples and at larger ones, which a ReLU6 in place of a ReLU shows at."""
    usual, large = activations(question), activations(question, ten_times(question.inputs))
    both = {name: np.concatenate([usual[name], large[name]]) for name in usual if name in large}
    return {
        name: np.nan_to_num(v, posinf=0.0, neginf=0.0) for name, v in both.items()
    }  # what overflows in both is equal


def _between(one: Array, other: Array) -> float | None:
    """Relative L2, the smallest over where the channels may be: not every layer tells. Infinity where sizes differ; None where
    the same values may have axes in another order still."""
    orders = [other, *((np.moveaxis(other, 1, -1), np.moveaxis(other, -1, 1)) if other.ndim > 2 else ())]
    apart = [distance(one, turned) for turned in orders if turned.shape == one.shape]
    return min(apart) if apart else None if one.size == other.size else float("inf")
