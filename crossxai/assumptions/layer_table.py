"""Every layer of a model as a table: its shape, what its axes mean, and whether an activation map can be drawn there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from crossxai.assumptions.facts import html_table
from crossxai.assumptions.layer_facts import about_layers
from crossxai.errors import Unsupported
from crossxai.model import Differentiable, Inputs, Layered, Model

COLUMNS = ("layer", "kind", "shape", "axes", "map")


@dataclass(frozen=True)
class Layer:
    """One layer that runs once in a pass.

    kind: its class. shape: of its activation after the sample axis. axes: what these mean, such as ("channel", "y", "x") or
    ("token", "channel"); empty where nothing tells. maps: the inputs whose activation maps can be drawn here, with their (y, x)
    places; default: those inputs whose maps are drawn here unless another layer is named. reason: why no map can be drawn.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    axes: tuple[str, ...]
    maps: dict[str, tuple[int, int]]
    default: tuple[str, ...]
    reason: str = ""

    def cells(self, several: bool) -> tuple[str, ...]:
        """The layer as text, in the order of `COLUMNS`; several: whether the model has more than one input with maps."""
        places = [
            f"{f'{name}: ' if several else ''}{y} × {x}{' (default)' if name in self.default else ''}"
            for name, (y, x) in self.maps.items()
        ]
        drawn = ", ".join(places) or f"none: {self.reason}"
        return self.name, self.kind, " × ".join(map(str, self.shape)), ", ".join(self.axes), drawn


@dataclass(frozen=True)
class Layers:
    """The layers of a model in order of execution; shows itself as a table. refused: by input, why it has no default layer."""

    model: str
    layers: tuple[Layer, ...]
    refused: dict[str, str]

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[Layer]:
        return iter(self.layers)

    def __getitem__(self, name: str) -> Layer:
        return next(layer for layer in self.layers if layer.name == name)

    @property
    def default(self) -> dict[str, str]:
        """By input, the layer where its activation maps are drawn if none is named."""
        return {name: layer.name for layer in self.layers for name in layer.default}

    def rows(self) -> list[tuple[str, ...]]:
        """One row of text per layer, in the order of `COLUMNS`."""
        several = len({name for layer in self.layers for name in layer.maps}) > 1
        return [layer.cells(several) for layer in self.layers]

    def __str__(self) -> str:
        rows = [COLUMNS, *self.rows()]
        widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        return "\n".join([f"layers of model {self.model!r}", *lines])

    def __repr__(self) -> str:
        return f"Layers({self.model}: {len(self)} layers, default {', '.join(self.default.values()) or 'none'})"

    def _repr_html_(self) -> str:
        return html_table(repr(self), COLUMNS, self.rows())


def layers_of(model: Model, inputs: Inputs) -> Layers:
    """The layers of a model for inputs of these sizes; raises `Unsupported` where its layers cannot be read."""
    if not isinstance(model, Layered):
        gives = "scores and gradients" if isinstance(model, Differentiable) else "scores"
        raise Unsupported(f"the layers of model {model.name!r} cannot be read: it gives {gives} alone")
    seen: dict[str, Any] = {m.name: about_layers(model, inputs, m.name) for m in model.modalities if m.spatial}
    drawable = {name: own.drawable() for name, own in seen.items()}
    default: dict[str, str] = {}
    refused: dict[str, str] = {}
    for name, own in seen.items():
        try:
            default[name] = own.default()
        except Unsupported as error:
            refused[name] = str(error)
    shapes = next((own.layers.shapes for own in seen.values()), None)
    if shapes is None:
        shapes = {name: values.shape[1:] for name, values in model.activations(tuple(v[:1] for v in inputs)).items()}
    named: Any = getattr(model, "class_of", None) or getattr(model, "kind_of", None)
    rows = []
    for layer, shape in shapes.items():
        maps = {name: drawable[name][layer][:2] for name in seen if layer in drawable[name]}
        axes, reason = next((own.read_as(layer) for own in seen.values()), ((), "no input is an image"))
        kind = named(layer) if named else ""
        chosen = tuple(name for name, where in default.items() if where == layer)
        rows.append(Layer(layer, kind, tuple(shape), axes, maps, chosen, "" if maps else reason))
    return Layers(model.name, tuple(rows), refused)
