"""Which layer an activation map is drawn at, and how its axes are read: for a question with one free image."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from crossxai.assumptions import layout, placing
from crossxai.assumptions.facts import itself, kind_of, known
from crossxai.assumptions.layout import Layout, Responses
from crossxai.assumptions.placing import Placed
from crossxai.errors import UnknownName, Unsupported
from crossxai.measures import Measure
from crossxai.model import Array, Inputs, Layered, Modality

PROJECTIONS = frozenset({"Linear", "NonDynamicallyQuantizableLinear", "LazyLinear", "Dense", "EinsumDense"})
"""Kinds of layers whose outputs over places are queries, keys, values or a step of an MLP: a map can be drawn there if it is
asked for, but the default is a layer of the network's stream."""
VIEWS = {2: (("y", "x"),), 3: (("y", "x"), ("z", "y"))}
"""The pairs of axes along which cells of the input are cut: one of images, two of volumes, which have three axes."""
ROOM = 2**27
"""Bytes of activations of all layers that exist at once while they are measured: two of a ResNet-50 at 224 pixels."""


@dataclass
class Layers:
    """What is known about the layers of a model for inputs of one kind.

    shapes: of every layer that runs once, its activation's shape after the sample axis, in order of execution. By modality,
    reached: the layers that change when its values do; measured: the layouts that layers show, and how clear they were, in words;
    placed: whether layers whose definition tells respond where a map would be painted. dependent: by layer and target, whether
    the score moves when the layer's places do.
    """

    shapes: dict[str, tuple[int, ...]]
    reached: dict[str, frozenset[str]] = field(default_factory=dict)
    measured: dict[str, dict[str, tuple[Layout | None, str]]] = field(default_factory=dict)
    placed: dict[str, dict[str, Placed]] = field(default_factory=dict)
    dependent: dict[tuple[str, str], bool] = field(default_factory=dict)


class CamLayers:
    """The layers of a question's model, seen from its one free modality; `check`: whether places are measured."""

    def __init__(self, model: Layered, inputs: Inputs, free: Modality, target: Measure, check: bool) -> None:
        self.model, self.free, self.target, self.check = model, free, target, check
        self.plain: Any = itself(model)  # finding out counts for no explainer
        self.one: Inputs = tuple(v[:1] for v in inputs)
        self.layers: Layers = known(model, ("layers", kind_of(inputs)), self._shapes)

    def choose(self, layer: str = "") -> str:
        """The layer named, else the `default`; raises `Unsupported` where it has no space, as told, declared or measured."""
        if not layer:
            return self.default()
        shapes = self.layers.shapes
        if layer not in shapes:  # called so in a model of the same network: torch's "ct.relu2" is Keras's "ct_relu2"
            layer = next((n for n in shapes if n.replace("_", ".") == layer.replace("_", ".")), layer)
        self._check_runs(layer)
        if len(self.model.modalities) > 1 and layer not in self._reached(self.free.name):
            raise Unsupported(f"model {self.model.name!r} has no layer {layer!r} that {self.free.name!r} reaches")
        self.layout(layer)
        return layer

    def layout(self, layer: str) -> Layout:
        """How to read the layer's activation; raises `Unsupported`, with the declaration to write, where nothing tells."""
        self._check_runs(layer)
        known, words = self._layout(layer)
        if known is None:
            raise layout.refusal(layer, self.model.name, self.layers.shapes[layer], words)
        if known.how != "the layer's definition" or not self.check:
            return known
        place = self._placed(layer)
        if place.verdict != "wrong":
            return known
        # Where y and x are clearly exchanged, and nothing else, the measurement tells how to read it.
        measured, _ = self._measured(layer)
        if measured is None:
            raise placing.refusal(layer, self.model.name, known.axes, place.words)
        return measured

    def choose_plain(self, layer: str, purpose: str) -> str:
        """`choose(layer)`; raises `Unsupported` unless its definition says that it holds planes, as a twin's does."""
        layer = self.choose(layer)
        how = self.layout(layer)
        if how.tokens is not None or how.how == "measured":
            raise Unsupported(
                f"{purpose} reads layers in a twin of the network, which holds planes as convolutions give them; layer "
                f"{layer!r} of model {self.model.name!r} has {how.words()}: name another, or take gradcam.gradcam"
            )
        return layer

    def size(self, layer: str) -> tuple[int, ...]:
        """([z,] y, x, channel) of the layer's activation."""
        return self.layout(layer).size(self.layers.shapes[layer])

    def read_as(self, layer: str) -> tuple[tuple[str, ...], str]:
        """What the axes of a layer mean, () where nothing tells, and why no map can be drawn there, if that is so."""
        known, words = self._layout(layer)
        if known is None:
            return self._axes(layer) or (), words
        y, x, channel = known.size(self.layers.shapes[layer])
        if y * x == 1:
            return known.axes, "one place"
        if (y, x, channel) == self.target.out:
            return known.axes, "the output itself"
        return known.axes, self._placed(layer).words if self.check else ""

    def words(self, layer: str) -> str:
        """Layer, axes and grid of a map, in one sentence."""
        *space, channel = self.size(layer)
        grid = " × ".join(map(str, space))
        return f"drawn at layer {layer!r}: {self.layout(layer).words()}; {grid} places, {channel} channels"

    def default(self) -> str:
        """The last layer with space that the free modality reaches and the score depends on; projections come last.

        Layers that no other modality with space reaches are the only ones if there are any: a map of one image must not be
        painted on another.
        """
        names = self.candidates()
        stream = [n for n in names if not self._projects(n)]
        ordered = [*reversed(stream), *(n for n in reversed(names) if n not in stream)]
        drawable = [n for n in ordered if self._drawable(n)]
        for name in drawable:
            if self._moves_score(name):
                self._check_tokens(name, names)
                return name
        if drawable:  # nothing moves the score, as where outputs are constant: the map is zero, and says so
            return drawable[0]
        weighted = self.plain.weighted(self.one) if hasattr(self.plain, "weighted") else ()
        again = [n for n in reversed(weighted) if n not in self.layers.shapes]
        several = (
            f". {', '.join(again)} run more than once in a pass, or not on whole samples: call a layer of its own on the result "
            "that the map is wanted at (torch.nn.Identity, keras.layers.Identity), and name that"
        )
        raise Unsupported(
            f"model {self.model.name!r} has no layer with a spatial activation that modality {self.free.name!r} reaches and "
            f"the score depends on, as far as layers tell their axes or they can be measured: name one by layer=…, of "
            f"{', '.join(list(self.layers.shapes)[-8:])}, and declare its axes at the adapter by layer_axes={{…}}"
            f"{several if again else ''}"
        )

    def _check_tokens(self, name: str, names: list[str]) -> None:
        """Raise `Unsupported` if the layer is a plane before tokens that could not be read: the patch embedding, say."""
        if self.layout(name).tokens is not None:
            return
        shapes = self.layers.shapes
        later = names[names.index(name) + 1 :]
        later = [n for n in later if len(shapes[n]) == 2 and min(shapes[n]) > 1 and max(shapes[n]) > 3]
        unread = [n for n in later if self._layout(n)[0] is None]
        if later and len(unread) == len(later):
            raise layout.refusal(unread[-1], self.model.name, shapes[unread[-1]], self._layout(unread[-1])[1])

    def drawable(self) -> dict[str, tuple[int, ...]]:
        """Every layer where a map can be drawn: its ([z,] y, x, channel), in order of execution."""
        names = [name for name in self.candidates() if self._drawable(name)]
        right = [name for name in names if not self.check or self._placed(name).verdict != "wrong"]
        return {name: self.size(name) for name in right or names}

    def candidates(self) -> list[str]:
        """Layers of tokens, or of the modality's dimensions, that it reaches; those of its own encoder alone if there are any."""
        names = [n for n, shape in self.layers.shapes.items() if self._spacious(shape)]
        if len(self.model.modalities) == 1:
            return names
        names = [n for n in names if n in self._reached(self.free.name)]
        others = [m.name for m in self.model.modalities if m.spatial and m.name != self.free.name]
        own = [n for n in names if not any(n in self._reached(other) for other in others)]
        return own if any(self._drawable(n) for n in reversed(own)) else names

    def _drawable(self, layer: str) -> bool:
        known, _ = self._layout(layer)
        if known is None:
            return False
        size = known.size(self.layers.shapes[layer])
        # A segmentation network's last layers give the output itself, which explains nothing.
        return math.prod(size[:-1]) > 1 and size != self.target.out

    @property
    def _dimensions(self) -> int:
        """Of the free modality's space."""
        return len(self.free.axes) - 1

    def _spacious(self, shape: tuple[int, ...]) -> bool:
        """Whether an activation of this shape may have the free modality's space: as tokens, or in its dimensions."""
        return len(shape) in (2, self._dimensions + 1) and math.prod(shape) > 1

    def _layout(self, layer: str) -> tuple[Layout | None, str]:
        shape = self.layers.shapes[layer]
        streams = getattr(self.plain, "streams", None)
        tokens = None if streams is None else streams.tokens.get(self.free.name)
        stated = dict(getattr(self.plain, "layer_axes", None) or {}).get(layer)
        if stated is not None:
            return layout.declared(stated, shape, tokens, layer, self._dimensions), "declared"
        axes = self._axes(layer)
        known = layout.defined(axes, shape, self._dimensions) or layout.streamed(shape, tokens, self._dimensions)
        if known is not None:
            return known, known.how
        if axes is not None and len(axes) == len(shape):
            return None, f"its axes are ({', '.join(axes)})"
        if not self._spacious(shape):
            return None, f"{len(shape)} axes"
        if self._dimensions != 2:
            return None, f"axes are measured for images, and {self.free.name!r} is a {self.free.kind}"
        return self._measured(layer)

    def _measured(self, layer: str) -> tuple[Layout | None, str]:
        """The layout that the layer's responses show, and how clearly, in words."""
        if self._dimensions not in VIEWS:
            return None, f"modality {self.free.name!r} is neither an image nor a volume"
        if self.free.name not in self.layers.measured:
            self._measure()
        return self.layers.measured[self.free.name].get(layer, (None, "it does not run once per sample"))

    def _placed(self, layer: str) -> Placed:
        """Whether the layer responds where a map by its definition would be painted."""
        self._measured(layer)
        return self.layers.placed.get(self.free.name, {}).get(layer, Placed("unclear"))

    def _measure(self) -> None:
        """What all layers show, from one pass per cell of the input, or of each view of a volume."""
        shapes = {n: s for n, s in self.layers.shapes.items() if self._spacious(s)}
        before = self.plain.activations(self.one, list(shapes))
        at = [m.name for m in self.model.modalities].index(self.free.name)
        aspect = self.one[at].shape[1] / self.one[at].shape[2]
        seen = {cut: self._responses(at, cut, shapes, before) for cut in VIEWS[self._dimensions]}
        measured: dict[str, tuple[Layout | None, str]] = {}
        own: dict[str, Placed] = {}
        for name in (n for n in shapes if n in before):
            views = {cut: responses[name] for cut, responses in seen.items()}
            defined = layout.defined(self._axes(name), shapes[name], self._dimensions)
            if defined is None:
                if self._dimensions == 2:
                    measured[name] = next(iter(views.values())).layout(shapes[name], aspect)
                continue
            linear = bool((before[name] < 0).any())
            own[name] = placing.together([view.placed(defined.axes, linear, cut) for cut, view in views.items()])
            measured[name] = None, own[name].words
            if own[name].verdict != "right" and self._dimensions == 2:
                # Only y and x exchanged, and nothing else, is read as measured; all other contradictions are refused.
                (view,) = views.values()
                swapped = tuple({"y": "x", "x": "y"}.get(axis, axis) for axis in defined.axes)
                reading, _ = view.layout(shapes[name], aspect)
                if reading is not None and reading.axes == swapped:
                    exchanged = view.placed(swapped, linear).verdict != "wrong"
                    measured[name] = (Layout(swapped) if exchanged else None), own[name].words
        self.layers.measured[self.free.name], self.layers.placed[self.free.name] = measured, placing.carried(own)

    def _responses(
        self, at: int, cut: tuple[str, str], shapes: Mapping[str, tuple[int, ...]], before: Mapping[str, Array]
    ) -> dict[str, Responses]:
        """How all layers change when each cell of modality number `at`, cut along two axes, is replaced."""
        responses = {n: Responses.empty(shapes[n]) for n in shapes if n in before}
        space = layout.SPACE[self._dimensions]
        copies = layout.cells(self.one[at][0], (space.index(cut[0]), space.index(cut[1])))
        step = max(1, min(len(copies), ROOM // max(1, sum(a.nbytes for a in before.values()))))
        for start in range(0, len(copies), step):
            part = copies[start : start + step]
            inputs = list(np.repeat(v, len(part), axis=0) for v in self.one)
            inputs[at] = part
            for name, after in self.plain.activations(tuple(inputs), list(responses)).items():
                if name in responses and after.shape == (len(part), *before[name].shape[1:]):
                    responses[name].add(before[name], after)
        return responses

    def _check_runs(self, layer: str) -> None:
        """Raise what the model says of a layer that it does not have, or that does not run once and give one array."""
        if layer not in self.layers.shapes:
            self.plain.read(self.one, layer)
            raise UnknownName(f"layer of model {self.model.name!r}", layer, self.layers.shapes)

    def _axes(self, layer: str) -> tuple[str, ...] | None:
        return self.plain.axes_of(layer) if hasattr(self.plain, "axes_of") else None

    def _projects(self, layer: str) -> bool:
        """Whether a layer is a projection, or a part of one, such as a step between the stream and its queries."""
        parts = layer.split(".") if hasattr(self.plain, "kind_of") else []
        return any(self.plain.kind_of(".".join(parts[: end + 1])) in PROJECTIONS for end in range(len(parts)))

    def _shapes(self) -> Layers:
        before = self.plain.activations(self.one)
        return Layers({name: activation.shape[1:] for name, activation in before.items() if len(activation) == 1})

    def _reached(self, modality: str) -> frozenset[str]:
        """Layers whose activation changes when the modality's values are replaced by noise."""
        if modality not in self.layers.reached:
            noise = np.random.default_rng([0, 1])  # not the stream that made the inputs, should their seed be 0, too
            changed = list(self.one)
            for i, declared in enumerate(self.model.modalities):
                if declared.name == modality:
                    low, high = declared.range or (float(self.one[i].min()) - 1, float(self.one[i].max()) + 1)
                    changed[i] = noise.uniform(low, high, self.one[i].shape).astype(self.one[i].dtype)
            before, after = self.plain.activations(self.one), self.plain.activations(tuple(changed))
            moved = (n for n in before if n in after and not np.array_equal(before[n], after[n]))
            self.layers.reached[modality] = frozenset(moved)
        return self.layers.reached[modality]

    def _moves_score(self, layer: str) -> bool:
        """Whether the score of the first sample moves when the layer's places are emptied, or doubled."""
        key = (layer, f"{self.free.name} {type(self.target).__name__} {self.target.link}")
        if key in self.layers.dependent:
            return self.layers.dependent[key]
        how = self.layout(layer)
        inputs = tuple(np.repeat(v, 3, axis=0) for v in self.one)
        _, own = self.plain.read(self.one, layer)
        space = how.space(own)
        changed = np.concatenate([space, space * 0, 2 * space + space.std()]).astype(own.dtype)
        outputs = self.plain.replace(inputs, layer, how.restored(changed, np.repeat(own, 3, axis=0)))
        scores = self.target.score(outputs, np.zeros(3, np.intp)).astype(np.float64)
        moved = bool(not np.isfinite(scores).all() or np.ptp(scores) > 1e-6 * np.abs(scores).max())
        self.layers.dependent[key] = moved
        return moved
