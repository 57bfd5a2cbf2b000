"""A model for images and volumes larger than its network takes: it looks at overlapping windows, joined into one answer."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from crossxai.adapters.describing import Described, Recognised
from crossxai.attribution import Attribution
from crossxai.errors import InvalidInput, Unsupported
from crossxai.measures import Measure
from crossxai.model import Array, Cotangent, Differentiable, Inputs, Model
from crossxai.question import Question
from crossxai.target import Target

Join = Literal["mean", "max"]
Places = list[tuple[slice, ...]]
SIGMA = 0.125
"""Of the Gaussian that outputs in space are weighed with, as a share of the window; that of nnU-Net."""
LEAST = 1e-3
"""The smallest weight of a pixel of a window, so that corners that one window alone sees keep their precision."""


class SlidingWindow(Described):
    """A model that asks another about overlapping windows of an image or volume.

    Of a segmentation, outputs of windows are averaged with a Gaussian weight (Isensee et al. 2021, nnU-Net), so that seams
    vanish; of classes or values, the output is the mean, or the largest, of all windows'. Scores and gradients are those of the
    joined outputs. Explainers that need layers, attention or the network itself explain each window alone, and their maps are
    averaged with the same weights, which the maps' notes say.

    Parameters
    ----------
    model : Model, whose network takes images or volumes of the window's size; tables are handed to it whole
    size : int or tuple of int, pixels of a window along each spatial axis
    overlap : float in [0, 1), how much of a window its neighbour sees, too; 0.5 if not given
    join : {"mean", "max"}, how classes or values of all windows become one output
    batch_size : int, the most windows that the network sees at once
    name : str, the name in messages, files and reports; the model's own if not given

    Raises
    ------
    InvalidInput: if there is no space to move a window in, or an argument is wrong
    """

    framework = "windows of a model"

    def __init__(
        self,
        model: Model,
        size: int | Sequence[int],
        *,
        overlap: float = 0.5,
        join: Join = "mean",
        batch_size: int = 32,
        name: str = "",
    ) -> None:
        axes = {m.axes[:-1] for m in model.modalities if m.spatial}
        if len(axes) != 1:
            inputs = ", ".join(f"{m.name} ({', '.join(m.axes)})" for m in model.modalities)
            raise InvalidInput(f"windows move over images, or over volumes; model {model.name!r} takes {inputs}")
        (self.space,) = axes
        self.window = (size,) * len(self.space) if isinstance(size, int) else tuple(size)
        if len(self.window) != len(self.space) or not all(isinstance(s, int) and s > 0 for s in self.window):
            raise InvalidInput(f"a window has a size in pixels along {', '.join(self.space)}, got {size!r}")
        if not 0 <= overlap < 1:
            raise InvalidInput(f"overlap is a share of the window, at least 0 and below 1, got {overlap!r}")
        if join not in get_args(Join):
            raise InvalidInput(f'join is "mean" or "max", got {join!r}')
        outputs = getattr(model, "outputs", None)
        if outputs == "log_probabilities":
            raise Unsupported(
                f"model {model.name!r} gives log-probabilities, whose mean over windows is none: give it logits or probabilities"
            )
        output_axes = getattr(model, "output_axes", ("class",))
        self.dense = output_axes[:-1] == self.space
        if not self.dense and len(output_axes) > 1:
            raise Unsupported(
                f"model {model.name!r} gives outputs ({', '.join(output_axes)}) for a space of ({', '.join(self.space)}): "
                "windows are joined of classes, values, or a segmentation of the same space"
            )
        super().__init__(name or model.name, model.modalities, output_axes, outputs if join == "mean" else None)
        self.model, self.overlap, self.join, self.batch_size = model, overlap, join, batch_size
        axis_weights = [_gaussian(length) for length in self.window]
        self._weights = np.maximum(math.prod(np.ix_(*axis_weights)), LEAST)[..., None]

    @property
    def network(self) -> Any:
        """The network that sees the windows."""
        return getattr(self.model, "network", self.model)

    @property
    def precision(self) -> str:
        """What the network computes in, as it was declared."""
        return str(getattr(self.model, "precision", "float32"))

    @property
    def computes(self) -> str:
        """The narrowest floating dtype that the network computes in, as far as it says."""
        return str(getattr(self.model, "computes", ""))

    def in_full(self) -> SlidingWindow:
        """The same windows of the network in the precision of its weights."""
        other = copy.copy(self)
        other.model = self.model.in_full()  # type: ignore[attr-defined]
        return other

    def places(self, inputs: Inputs) -> Places:
        """Where the windows of these inputs lie, the last one along each axis at the border; raises `InvalidInput` where an image
        is smaller than a window."""
        spaces = {v.shape[1:-1] for m, v in zip(self.modalities, inputs, strict=True) if m.spatial}
        if len(spaces) > 1:
            raise InvalidInput(f"model {self.name!r} cuts all its inputs alike; they are of {sorted(spaces)} pixels")
        (space,) = spaces
        if any(whole < part for whole, part in zip(space, self.window, strict=True)):
            raise InvalidInput(
                f"model {self.name!r} looks at windows of {_shown(self.window)} pixels; these images have {_shown(space)}: give "
                "it larger images, or the network without windows"
            )
        along = [starts(whole, part, self.overlap) for whole, part in zip(space, self.window, strict=True)]
        return [
            tuple(slice(s, s + w) for s, w in zip(corner, self.window, strict=True))
            for corner in itertools.product(*along)
        ]

    def cost(self, inputs: Inputs) -> str:
        """How many windows an image is cut into, in words."""
        number = len(self.places(inputs))
        return f"{number} windows of {_shown(self.window)} pixels: one pass of an image is {number} of the network"

    def predict(self, inputs: Inputs) -> Array:
        """Outputs (n, *out) joined over windows."""
        places = self.places(inputs)
        joined = _Joined(self, inputs, places)
        for part in self._batches(len(inputs[0]) * len(places)):
            joined.add(part, self.model.predict(self._cut(inputs, places, part)))
        return joined.outputs()

    def vjp(self, inputs: Inputs, cotangent: Cotangent) -> tuple[Array, Inputs]:
        """(joined outputs, gradients); two forward passes of each window where they do not all fit into one batch."""
        model = self.model
        if not isinstance(model, Differentiable):
            raise Unsupported(f"needs gradients, which model {self.name!r} does not give")
        places = self.places(inputs)
        gradients = tuple(np.zeros_like(v) for v in inputs)
        joined = _Joined(self, inputs, places)
        batches = list(self._batches(len(inputs[0]) * len(places)))
        if len(batches) > 1:
            for part in batches:
                joined.add(part, model.predict(self._cut(inputs, places, part)))
            joined.pull_back(cotangent)

        def slope(outputs: Array, part: npt.NDArray[np.intp]) -> Array:
            if len(batches) == 1:
                joined.add(part, outputs)
                joined.pull_back(cotangent)
            return joined.shares(part).astype(outputs.dtype, copy=False)

        for part in batches:
            _, of_windows = model.vjp(self._cut(inputs, places, part), lambda y, part=part: slope(y, part))  # type: ignore[misc]
            for modality, whole, one in zip(self.modalities, gradients, of_windows, strict=True):
                for position, gradient in zip(part, one, strict=True):
                    sample, place = divmod(int(position), len(places))
                    whole[sample][places[place] if modality.spatial else ...] += gradient
        return joined.outputs(), gradients

    def explain_windows(self, question: Question, explain: Callable[[Question], Attribution]) -> Attribution:
        """What an explainer says of each window alone, averaged where windows overlap: one map per image."""
        places, pieces = self.places(question.inputs), []
        for row in range(len(question)):  # one image's windows at a time
            one = question[[row]]
            maps = explain(self._question(one, places))
            values = tuple(
                self._blended(v, m.spatial, one.inputs, places)
                for m, v in zip(maps.modalities, maps.values, strict=True)
            )
            pieces.append((maps, values))
        first = pieces[0][0]
        return replace(
            first,
            values=tuple(np.concatenate(column) for column in zip(*(values for _, values in pieces), strict=True)),
            ids=question.ids,
            extras={},
            seconds=sum(maps.seconds for maps, _ in pieces),
            notes=(
                f"each of {len(places)} windows of {_shown(self.window)} pixels was explained alone, and the maps were averaged",
                *dict.fromkeys(note for maps, _ in pieces for note in maps.notes),
            ),
        )

    def _question(self, one: Question, places: Places) -> Question:
        """The question about the windows of one image."""
        every = np.arange(len(places))
        return Question(
            self.model,
            self._cut(one.inputs, places, every),
            self._target(one.target, places),
            tuple(f"{one.ids[0]} window {place}" for place in every),
            one.free,
            min(one.batch_size, self.batch_size),
            one.check,
        )

    def _target(self, target: Measure, places: Places) -> Measure:
        """What is explained of each window: the same class, or its part of a region."""
        if not isinstance(target, Target):
            raise Unsupported(
                f"model {self.name!r} explains windows alone, which needs a Target, got {type(target).__name__}"
            )
        if not self.dense:
            return target[np.zeros(len(places), np.intp)]
        return replace(target, weights=np.stack([target.weights[0][place] for place in places]))

    def _blended(self, values: Array, spatial: bool, inputs: Inputs, places: Places) -> Array:
        """Maps of one image's windows as one map (1, …); tables' values are averaged."""
        if not spatial:
            return np.asarray(values.mean(axis=0, keepdims=True))
        weight = self._weight_of_all(inputs, places)
        total = np.zeros((*weight.shape[:-1], values.shape[-1]))
        for place, value in zip(places, values, strict=True):
            total[place] += self._weights * value
        return np.asarray((total / weight)[None], values.dtype)

    def _weight_of_all(self, inputs: Inputs, places: Places) -> npt.NDArray[np.float64]:
        """What the windows over each place weigh together, (*space, 1)."""
        space = next(v.shape[1:-1] for m, v in zip(self.modalities, inputs, strict=True) if m.spatial)
        weight = np.zeros((*space, 1))
        for place in places:
            weight[place] += self._weights
        return weight

    def _batches(self, total: int) -> Iterator[npt.NDArray[np.intp]]:
        for start in range(0, total, self.batch_size):
            yield np.arange(start, min(start + self.batch_size, total))

    def _cut(self, inputs: Inputs, places: Places, part: npt.NDArray[np.intp]) -> Inputs:
        """Windows number `part`: those of the first sample come first."""
        samples, numbers = np.divmod(part, len(places))
        return tuple(
            np.stack([v[s][places[p]] for s, p in zip(samples, numbers, strict=True)]) if m.spatial else v[samples]
            for m, v in zip(self.modalities, inputs, strict=True)
        )


class _Joined:
    """The outputs of all windows as one answer per sample, added batch by batch so that a segmentation's never all exist."""

    def __init__(self, model: SlidingWindow, inputs: Inputs, places: Places) -> None:
        self.model, self.places, self.n = model, places, len(inputs[0])
        self.weight = model._weight_of_all(inputs, places)
        self.total = self.slope = np.zeros(0)
        self.dtype: Any = np.float32

    def add(self, part: npt.NDArray[np.intp], outputs: Array) -> None:
        """Windows number `part` gave these outputs."""
        model = self.model
        if model.dense and outputs.shape[1:-1] != model.window:
            raise Unsupported(
                f"model {model.name!r} gives maps of {_shown(outputs.shape[1:-1])} for windows of {_shown(model.window)} pixels: "
                "windows are joined where a map is as large as its window; enlarge it at the end of the network"
            )
        if not self.total.size:
            shape = (
                (*self.weight.shape[:-1], outputs.shape[-1]) if model.dense else (len(self.places), *outputs.shape[1:])
            )
            self.total, self.dtype = np.zeros((self.n, *shape)), outputs.dtype
        for position, output in zip(part, outputs, strict=True):
            sample, place = divmod(int(position), len(self.places))
            if model.dense:
                self.total[sample][self.places[place]] += model._weights * output
            else:
                self.total[sample, place] = output

    def outputs(self) -> Array:
        """The answers (n, *out)."""
        if self.model.dense:
            return np.asarray(self.total / self.weight, self.dtype)
        return np.asarray(self.total.max(axis=1) if self.model.join == "max" else self.total.mean(axis=1), self.dtype)

    def pull_back(self, cotangent: Cotangent) -> None:
        """Keep the slope at the answers, for a window's share of each."""
        slope = cotangent(self.outputs())
        share = self.weight if self.model.dense else len(self.places) if self.model.join == "mean" else 1
        self.slope = np.asarray(slope / share)

    def shares(self, part: npt.NDArray[np.intp]) -> Array:
        """The slope at the outputs of windows number `part`."""
        samples, numbers = np.divmod(part, len(self.places))
        if self.model.dense:
            pairs = zip(samples, numbers, strict=True)
            return np.stack([self.model._weights * self.slope[s][self.places[p]] for s, p in pairs])
        if self.model.join == "mean":
            return np.asarray(self.slope[samples])
        largest = self.total[samples].argmax(axis=1) == numbers[:, None]  # of each class, the window that decided
        return np.asarray(self.slope[samples] * largest)


def in_windows(
    model: Model, window: int | Sequence[int], overlap: float, join: Join, size: int | tuple[int, ...] | None
) -> SlidingWindow:
    """What `wrap` makes of a model and a window: pictures keep their own size, or are brought to `size`."""
    found: Recognised | None = getattr(model, "recognised", None)
    at_once = found.batch_size if found is not None else None
    windows = SlidingWindow(model, window, overlap=overlap, join=join, batch_size=at_once or 32)
    if found is not None:
        told = f"windows of {_shown(windows.window)} pixels move over images and overlap by {windows.overlap:.0%}"
        whole = (size,) * len(windows.space) if isinstance(size, int) else size
        windows.recognised = replace(found, size=whole, resize=None, batch_size=None, told=(*found.told, told))
    return windows


def starts(whole: int, part: int, overlap: float) -> list[int]:
    """Where windows begin along an axis: evenly, and the last one ends at the border."""
    step = max(1, int(part * (1 - overlap)))
    return [*range(0, whole - part, step), whole - part]


def _gaussian(length: int) -> npt.NDArray[np.float64]:
    """A bell over the pixels of one axis, 1 in the middle."""
    away = np.arange(length) - (length - 1) / 2
    bell: npt.NDArray[np.float64] = np.exp(-(away**2) / (2 * (SIGMA * length) ** 2))
    return bell


def _shown(sizes: Sequence[int]) -> str:
    return " × ".join(str(size) for size in sizes)
