"""A network brought to the other framework and back, and how far either is from it in outputs, gradients and maps, with the parts
of the product's certificate."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

import crossxai as xai
from crossxai.adapters.tensorflow import KerasModel
from crossxai.conventions.agreement import agreement, distance
from crossxai.conventions.certificate import METHODS
from crossxai.conventions.certificate_result import LIMITS
from crossxai.conventions.floor import SUSPECT
from crossxai.errors import CrossXAIError, UnknownName, Unsupported
from crossxai.explainers import get
from crossxai.model import Array, Inputs
from crossxai.porting import twin
from crossxai.porting.certificate import difference, probe_inputs
from crossxai.question import Question
from crossxai.target import Target
from networks import families

WHAT = ("outputs", "gradients", "integrated gradients", "Grad-CAM", "occlusion")
"""What is compared: outputs as a share of how far they vary, gradients by 1 - cosine, maps by relative L2."""
LIMIT = dict.fromkeys(WHAT, LIMITS["explanation", "float32"]) | {"outputs": 1e-4, "gradients": 1e-5}
EXACT = dict.fromkeys(WHAT, LIMITS["explanation", "float64"]) | {"outputs": 1e-10, "gradients": 1e-12}
"""The most that is rounding in float32, and in float64."""
STEPS = 16
"""Of integrated gradients."""


@dataclass(frozen=True)
class Figure:
    """How far the port (`there`) and the port brought back are from the original, in float32 or float64.

    exact: the farther one in float64, NaN where that was not measured. rounding: how far apart rounding may bring them, which is
    how far each is from itself in float64. reason: why there is no figure.
    """

    there: float = float("nan")
    back: float = float("nan")
    exact: float = float("nan")
    rounding: float = 0.0
    reason: str = ""

    @property
    def worst(self) -> float:
        return float(np.max([self.there, self.back]))  # NaN stays

    def explained(self, what: str) -> bool:
        """Whether it is no more than rounding: within the limit, or equal in float64 and moved by no more than the networks are
        from themselves."""
        if self.worst <= LIMIT[what]:
            return not self.exact > EXACT[what]  # NaN where it was not measured
        return self.exact <= EXACT[what] and self.worst <= min(LIMIT[what] + self.rounding, SUSPECT)


Trip = tuple[Question, Question, Question]
"""The network, its port and the port brought back, asked the same."""
Said = tuple[Inputs, ...]
"""What each of the three answers: outputs, or gradients and maps of each input."""


def exact(name: str, compared: tuple[str, ...] = WHAT) -> dict[str, Figure]:
    """The figures in float64."""
    found = trip(name, "float64")
    return {what: _figure(what, _said(found, what)) for what in compared}


def measured(name: str) -> dict[str, Figure]:
    """The figures in float32; beside them, of outputs, gradients, and maps beyond the limit, those in float64."""
    model, inputs = families.model(name, "float64")
    target = _target(model.predict(inputs))
    # One precision after the other: of the large ones, the networks of both at once take 14 GB.
    said = _all_said(name, "float32", target, WHAT)
    figures = {what: _figure(what, said[what]) for what in WHAT}
    needed = [
        what
        for what, figure in figures.items()
        if not figure.reason and (what in WHAT[:2] or not figure.worst <= LIMIT[what])
    ]
    for what, exactly in _all_said(name, "float64", target, needed).items():
        found = said[what]
        assert not isinstance(found, str)
        figures[what] = _beside(what, figures[what], found, exactly)
    return figures


def _all_said(name: str, dtype: str, target: Target, compared: Sequence[str]) -> dict[str, Said | str]:
    """What the three answer; then the networks, which refer to themselves, are gone."""
    found = trip(name, dtype, target)
    said = {what: _said(found, what) for what in compared}
    del found
    gc.collect()
    return said


def _beside(what: str, figure: Figure, said: Said, exactly: Said | str) -> Figure:
    """The figure with what float64 gives."""
    if isinstance(exactly, str):
        return replace(figure, reason=exactly)
    own, *others = [_apart(what, a, b) for a, b in zip(exactly, said, strict=True)]
    rounding = (own + max(others)) * (2 if what == "gradients" else 1)  # of angles, which 1 - cosine has in square
    return replace(figure, exact=_figure(what, exactly).worst, rounding=rounding)


def trip(name: str, dtype: str, target: Target | None = None) -> Trip:
    """There and back; target: what is explained, the class that the network predicts if None."""
    model, inputs = families.model(name, dtype)
    home, away = ("keras", "torch") if isinstance(model, KerasModel) else ("torch", "keras")
    # DeepLab's convolution that is dilated by 36 pads an image of 4 × 4 places to 76 × 76 in TensorFlow.
    batch_size = 2 if name in families.SEGMENTATION or families.EVERY[name] > 96 else 32
    target = target or _target(model.predict(inputs))
    one = Question(model, inputs, target, batch_size=batch_size, check="off")
    port = _brought(one, away)
    return one, port, _brought(port, home)


def _said(found: Trip, what: str) -> Said | str:
    """What each of the three answers, or why there is no answer."""
    try:
        if what == "outputs":
            return tuple((_outputs(question),) for question in found)
        if what == "gradients":
            return tuple(question.score_and_grad()[1] for question in found)
        parts = zip(*(_parts(what, question) for question in found), strict=True)
        return tuple(zip(*(_maps(what, part) for part in parts), strict=True))
    except CrossXAIError as error:
        return str(error)


def _maps(what: str, found: Trip) -> Inputs:
    """The map of each of the three at one modality."""
    size = min(found[0].values[0].shape[1:-1], default=0)
    settings: dict[str, Iterable[dict[str, Any]]] = {
        "integrated gradients": [{"steps": STEPS}],
        "Grad-CAM": ({"layer": layer} for layer in _layers(found)),
        "occlusion": [{"patch": size // 2, "stride": size // 4} if size else {}],
    }
    name, profile = METHODS[what]
    for params in settings[what]:
        maps = tuple(get(name, profile=profile, **params)(question).values[0] for question in found)
        if maps[0].any():  # zeros compare nothing; of Grad-CAM, an earlier layer may have more
            return maps
    raise Unsupported("the map is zero, or no layer of all can be drawn at")


def _layers(found: Trip) -> Iterator[str]:
    """The layer that is best for the first; then the last ones that all can be drawn at: a padding may have gone into a layer's
    convolution, and of a layer with 2 × 2 places nothing may tell the axes."""
    first, *others = found
    for name in _candidates(first):
        with contextlib.suppress(Unsupported, UnknownName):
            for question in others:
                question.cam_layer(name)
            yield name


def _candidates(question: Question) -> Iterator[str]:
    yield question.cam_layer()
    yield from reversed(question.cam_layers())  # looks at every layer, which takes a while


def _figure(what: str, said: Said | str) -> Figure:
    if isinstance(said, str):
        return Figure(reason=said)
    return Figure(*(_apart(what, said[0], other) for other in said[1:]))


def _apart(what: str, one: Inputs, other: Inputs) -> float:
    pairs = list(zip(one, other, strict=True))
    if what == "outputs":
        return max(difference(a, b) for a, b in pairs)
    if what == "gradients":
        return max(float(1 - agreement(a, b).cosine.min()) for a, b in pairs)
    return max(distance(a, b) for a, b in pairs)


def _outputs(question: Question) -> Array:
    """On samples, the same with their pixels shuffled, and noise."""
    probes = probe_inputs(question.inputs, question.model.modalities)
    return np.concatenate([question.model.predict(given) for given in probes])


def _parts(what: str, question: Question) -> Sequence[Question]:
    """One free modality after the other; of images and volumes for activation maps."""
    parts = [part for part in question.parts() if what != "Grad-CAM" or part.modalities[0].kind != "table"]
    if not parts:
        raise Unsupported("reference.gradcam explains images and volumes")
    return parts


def _target(outputs: Array) -> Target:
    """The class that is predicted; of a map of outputs, the mean of its last one over the half of an image."""
    if outputs.ndim == 2:
        return Target.classes(outputs.argmax(axis=1), outputs.shape[-1])
    half = np.zeros(outputs.shape[:-1], bool)
    half[:, : outputs.shape[1] // 2] = True
    return Target.regions(half, outputs.shape[-1] - 1, outputs.shape[-1])


def _brought(question: Question, framework: str) -> Question:
    """The question to a copy of the model in that framework, in the dtype of its weights."""
    model = question.model
    module = twin(model, question.inputs, framework).module
    gc.collect()  # the graph of the network, and its weights with it
    return replace(question, model=xai.wrap(module, modalities=model.modalities, output_axes=model.output_axes))
