"""The certificate of a port: is the other network the same function, layer by layer, and are its explanations the same?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from crossxai.attribution import Profile
from crossxai.conventions.agreement import distance
from crossxai.conventions.floor import in_float64
from crossxai.conventions.models import (
    ModelParity,
    activations,
    common_layers,
    compare_models,
    equal_layers,
    first_difference,
)
from crossxai.conventions.search import Switch
from crossxai.errors import CrossXAIError, Unsupported
from crossxai.explainers import get
from crossxai.model import Array, Differentiable, Inputs, Layered
from crossxai.porting.certificate import difference, probe_inputs
from crossxai.question import Question

if TYPE_CHECKING:
    import pandas

Kind = Literal["outputs", "gradients", "layers", "explanation"]
SAMPLES = 4
"""How many samples a certificate looks at, each with its pixels shuffled, with noise and ten times as large."""
LARGE = 10.0
"""What inputs are multiplied by to leave the range that a network was made for."""
LIMITS: Mapping[tuple[Kind, str], float] = {
    ("outputs", "float32"): 1e-4,
    ("outputs", "float64"): 1e-10,
    ("gradients", "float32"): 5e-3,
    ("gradients", "float64"): 1e-9,
    ("layers", "float32"): 1e-4,
    ("layers", "float64"): 1e-9,
    ("explanation", "float32"): 1e-3,
    ("explanation", "float64"): 1e-6,
}
"""The largest difference that counts as rounding: of outputs as a share of how far they vary, else relative L2."""
FINER = 2.0**-29
"""The distance of neighbouring numbers in float64, as a share of that in float32."""
Sides = tuple[Question, Question]
METHODS: Mapping[str, tuple[str, Profile]] = {
    # Gauss-Legendre: on the baseline itself, one colour, every max-pool is a tie, which frameworks break differently
    "integrated gradients": ("captum.integrated_gradients", "native"),
    "Grad-CAM": ("reference.gradcam", "canonical"),
    "occlusion": ("reference.occlusion", "canonical"),
    "DeepLIFT": ("captum.deep_lift", "canonical"),
}


@dataclass(frozen=True)
class Line:
    """One measurement.

    kind: what is compared. name: on which inputs, or of which explainer. dtype: what both networks computed in; their copies in
    "float64". value: the difference. rounding: what rounding alone makes: how far both networks are from their own copies in
    float64, which rounds finer by `FINER`; 0 where that was not measured. reason: why there is no value, which is NaN then.
    """

    kind: Kind
    name: str
    dtype: str
    value: float
    rounding: float = 0.0
    reason: str = ""

    @property
    def limit(self) -> float:
        """The largest value that is rounding."""
        return LIMITS[self.kind, self.dtype] + self.rounding

    @property
    def holds(self) -> bool:
        """Whether it is no more than rounding; what could not be measured breaks nothing."""
        return bool(self.reason) or self.value <= self.limit


@dataclass(frozen=True)
class LayerPair:
    """A layer of either network that should give the same, and how far they are apart (relative L2)."""

    one: str
    other: str
    distance: float


@dataclass(frozen=True)
class Certificate:
    """Two networks compared.

    Attributes
    ----------
    one, other : str
        The models' names.
    lines : tuple of Line
        Every measurement, with its limit.
    layers : tuple of LayerPair
        Their layers side by side, in the order in which the first one runs them.
    layers_dtype : {"float32", "float64"}
        What the layers were compared in.
    models : ModelParity
        What is in the way where outputs differ: a convention, or the first layer.
    """

    one: str
    other: str
    lines: tuple[Line, ...]
    layers: tuple[LayerPair, ...]
    layers_dtype: str
    models: ModelParity

    @property
    def holds(self) -> bool:
        """Whether both are one function and explain alike, as far as could be measured."""
        return all(line.holds for line in self.lines)

    @property
    def first(self) -> LayerPair | None:
        """The first layer that differs by more than rounding; None where none does."""
        limit = LIMITS["layers", self.layers_dtype]
        return next((pair for pair in self.layers if not pair.distance <= limit), None)

    @property
    def causes(self) -> tuple[tuple[Switch, ...], ...]:
        """The sets of conventions of inputs and scores that make both equal, where one does."""
        return self.models.causes

    @property
    def summary(self) -> pandas.DataFrame:
        """One row per measurement: kind, name, dtype, value, limit, holds and reason."""
        import pandas  # heavy, and not needed for a page

        columns = ["kind", "name", "dtype", "value", "limit", "holds", "reason"]
        return pandas.DataFrame([[getattr(line, c) for c in columns] for line in self.lines], columns=columns)

    def __repr__(self) -> str:
        worst = max((line.value for line in self.lines if line.kind == "outputs"), default=float("nan"))
        verdict = "holds" if self.holds else "fails"
        where = "" if self.first is None else f"; first layer that differs: {self.first.one}"
        return f"Certificate({self.one} | {self.other}: {verdict}, outputs differ by {worst:.1e}{where})"


def certify(one: Question, other: Question) -> Certificate:
    """Compare two questions' models, one sample set and target for both, with gradients, layers and explanations.

    Raises what makes a model untrustworthy, in words.
    """
    few = slice(0, min(SAMPLES, len(one)))
    one, other = one[few], other[few]
    models = compare_models(one, other)
    if np.isinf(models.outputs):
        line = Line("outputs", "samples", "float32", float("inf"))
        return Certificate(one.model.name, other.model.name, (line,), (), "float32", models)
    exact = _both_exact(one, other)
    lines = [*_outputs(one, other, exact), *_gradients(one, other, exact), *_explanations(one, other, exact)]
    dtype = "float32" if exact is None else "float64"
    layers = _layers(*(exact or (one, other)))
    return Certificate(one.model.name, other.model.name, tuple(lines), layers, dtype, models)


def _both_exact(one: Question, other: Question) -> Sides | None:
    """Both questions to copies in float64; None where one has none."""
    ours, theirs = in_float64(one), in_float64(other)
    return None if ours is None or theirs is None else (ours, theirs)


def _probes(question: Question) -> dict[str, Inputs]:
    """What networks are compared on."""
    named = zip(
        ("samples", "pixels shuffled", "noise"), probe_inputs(question.inputs, question.model.modalities), strict=True
    )
    return {**dict(named), "ten times as large": tuple(v * v.dtype.type(LARGE) for v in question.inputs)}


def _wide(given: Inputs) -> Inputs:
    return tuple(v.astype(np.float64) for v in given)


def _outputs(one: Question, other: Question, exact: Sides | None) -> Iterator[Line]:
    for name, given in _probes(one).items():
        ours, theirs = one.model.predict(given), other.model.predict(given)
        rounding = 0.0
        if exact is not None:
            wide, others = (side.model.predict(_wide(given)) for side in exact)
            rounding = difference(wide, ours) + difference(others, theirs)
            yield Line("outputs", name, "float64", difference(wide, others), FINER * rounding)
        yield Line("outputs", name, "float32", difference(ours, theirs), rounding)
        if name == "samples":
            alone = np.concatenate([other.model.predict(tuple(v[[row]] for v in given)) for row in range(len(one))])
            yield Line("outputs", "one at a time", "float32", difference(ours, alone), rounding)


def _gradients(one: Question, other: Question, exact: Sides | None) -> Iterator[Line]:
    if not isinstance(one.model, Differentiable) or not isinstance(other.model, Differentiable):
        return
    for name, given in _probes(one).items():
        ours, theirs = _gradient(one, given), _gradient(other, given)
        rounding = 0.0
        if exact is not None:
            wide, others = (_gradient(side, _wide(given)) for side in exact)
            rounding = _apart(wide, ours) + _apart(others, theirs)
            yield Line("gradients", name, "float64", _apart(wide, others), FINER * rounding)
        yield Line("gradients", name, "float32", _apart(ours, theirs), rounding)


def _gradient(question: Question, given: Inputs) -> Inputs:
    """At every input, those too that leave their declared range."""
    model, rows = question.model, np.arange(len(question))
    assert isinstance(model, Differentiable)
    return model.vjp(given, lambda outputs: question.target.cotangent(outputs, rows))[1]


def _apart(one: Inputs, other: Inputs) -> float:
    return max(distance(a, b) for a, b in zip(one, other, strict=True))


def _explanations(one: Question, other: Question, exact: Sides | None) -> Iterator[Line]:
    """Maps on both; on their copies, too, where the maps differ: a ReLU that flips by rounding moves a map."""
    for method in METHODS:
        try:
            ours, theirs = _maps(method, one, other)
            apart, rounding = _apart(ours, theirs), 0.0
            if exact is not None and apart > LIMITS["explanation", "float32"]:
                wide, others = _maps(method, *exact)
                rounding = _apart(wide, ours) + _apart(others, theirs)
                yield Line("explanation", method, "float64", _apart(wide, others))
        except CrossXAIError as error:
            yield Line("explanation", method, "float32", float("nan"), reason=str(error))
        else:
            yield Line("explanation", method, "float32", apart, rounding)


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
    ours, theirs = activations(one), activations(other)
    named = {_letters(name): name for name in theirs}
    shared = {
        n: named[_letters(n)]
        for n in ours
        if _letters(n) in named and ours[n].shape == theirs[named[_letters(n)]].shape
    }
    if 2 * len(shared) > min(len(ours), len(theirs)):
        return tuple(LayerPair(a, b, distance(ours[a], theirs[b])) for a, b in shared.items())
    pairs = [LayerPair(ours_name, name, apart) for ours_name, name, apart in equal_layers(ours, theirs)]
    first = first_difference(one, other)
    if first[0]:
        pairs.append(LayerPair(*first, distance(ours[first[0]], theirs[first[1]])))
    return tuple(pairs)


def _letters(name: str) -> str:
    """A name without what frameworks write differently: "layer1.0.conv1" and "layer1_0_conv1"."""
    return re.sub(r"[^A-Za-z0-9]", "_", name).lower()
