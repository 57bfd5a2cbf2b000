"""What every adapter tells of the model that it wraps: a description, a check, and one line."""

from __future__ import annotations

import html
import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from crossxai.adapters.checks import MeanSd, check_modalities, constants, original_layers
from crossxai.adapters.retraining import CALIBRATED, Step, lesson_of, teach
from crossxai.assumptions.checking import Check, check
from crossxai.assumptions.layer_facts import drawn_at
from crossxai.assumptions.layer_table import Layers, layers_of
from crossxai.assumptions.probes import noise
from crossxai.attention import Attentive, Streams
from crossxai.errors import CrossXAIError, InvalidInput, Unsupported
from crossxai.loaders.loaded import Resize
from crossxai.measures import Measure
from crossxai.model import Array, Differentiable, Inputs, Layered, Modality
from crossxai.outputs import Outputs, check_declared, kind


@dataclass(frozen=True)
class Description:
    """What an adapter took a model for. lines: (label, words) in order; shown as text, and as a table in a notebook."""

    model: str
    lines: tuple[tuple[str, str], ...]

    def __str__(self) -> str:
        return "\n".join([f"model {self.model!r}", *(f"  {label}: {words}" for label, words in self.lines)])

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{html.escape(s)}</th><td>{html.escape(w)}</td></tr>" for s, w in self.lines)
        return f"<table><caption>{html.escape(self.model)}</caption>{rows}</table>"


Layout = Literal["NHWC", "NCHW"]
Size = tuple[int, ...]


@dataclass(frozen=True)
class Recognised:
    """What `wrap` took a network for, and how it reads inputs for it.

    adapter: module and class, imported when used. size: (height, width) that the network takes, or of volumes (depth, height,
    width), None for any. layout: the order of axes in which images are handed over. levels, orientation: of scans in files, see
    `wrap`.
    assumed: what nothing told, a sentence each with what to write instead. Of a network
    by name or file: told, where its weights and preprocessing come from, a sentence each; resize, how pictures are brought to it;
    classes, the names of its outputs; random, whether nobody trained its weights.
    """

    taken_for: str
    adapter: str
    modalities: tuple[Modality, ...]
    standardise: Mapping[str, MeanSd] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    size: Size | None = None
    layout: Layout = "NHWC"
    levels: tuple[float, float] | Literal["scan"] | None = None
    orientation: str = ""
    batch_size: int | None = None
    assumed: tuple[str, ...] = ()
    told: tuple[str, ...] = ()
    resize: Resize | None = None
    classes: tuple[str, ...] = ()
    random: bool = False

    def lines(self) -> tuple[str, ...]:
        """What it was taken for, what came with it, and what was assumed, a sentence each."""
        kind, unit = ("volumes", "voxels") if self.size and len(self.size) == 3 else ("images", "pixels")
        size = f"{kind} of {' × '.join(map(str, self.size))} {unit}" if self.size else ""
        resize = str(self.resize or "")
        layout = "images are handed over channels first (NCHW)" if self.layout == "NCHW" else ""
        lines = (f"taken for {self.taken_for}", *self.told, resize or size, layout, *self.assumed)
        return tuple(line for line in lines if line)


class Described(ABC):
    """An adapter that describes and checks its model. framework and network say what it wraps."""

    framework: ClassVar[str]
    recognised: Recognised | None = None
    """What `crossxai.wrap` recognised, which says so in `lines()`; None for an adapter made by hand."""

    def __init__(
        self, name: str, modalities: tuple[Modality, ...], output_axes: tuple[str, ...], outputs: Outputs | None
    ) -> None:
        self.name = name
        self.modalities = check_modalities(modalities)
        self.output_axes = output_axes
        self.outputs = check_declared(outputs)

    @property
    @abstractmethod
    def network(self) -> Any:
        """The object that the adapter wraps."""

    @abstractmethod
    def predict(self, inputs: Inputs) -> Array:
        """Outputs (n, *out), class axis last."""

    @property
    def size(self) -> str:
        """How large the network is, in words; "" where it does not tell."""
        return ""

    def check(
        self, inputs: Inputs | Array, target: Measure | None = None, labels: npt.ArrayLike | None = None
    ) -> Check:
        """Measure what explainers and metrics rely on in this model; parameters, result and errors as of `crossxai.check`."""
        return check(self, inputs, target, labels)

    def layers(self, inputs: Inputs | Array | None = None) -> Layers:
        """List the layers of the model: shapes, axes, and where activation maps can be drawn.

        Parameters
        ----------
        inputs : tuple of arrays (n, *axes), optional
            One per modality, one sample is enough; an array alone for one modality. Noise of the size that the model takes, or
            of 64 pixels a side, if not given.

        Returns
        -------
        Layers, a table with one row per layer that runs once in a pass, in order of execution

        Raises
        ------
        Unsupported: where the model shows no layers, as a function, an ONNX file or TorchScript
        """
        given = noise(self) if inputs is None else inputs
        return layers_of(self, given if isinstance(given, tuple) else (given,))

    def describe(self, inputs: Inputs | Array | None = None) -> Description:
        """Say what the model was taken for: framework, inputs, outputs, and what explainers can use.

        Parameters
        ----------
        inputs : tuple of arrays (n, *axes), optional
            One per modality, two samples are enough; an array alone for one modality. With them, what is not declared is
            measured: what the outputs are, and the layer where activation maps are drawn.

        Returns
        -------
        Description, a few lines of text
        """
        given = inputs if isinstance(inputs, tuple) or inputs is None else (inputs,)
        constants = dict(getattr(self, "standardise", {}))
        lines = [("network", ", ".join(part for part in (_class_of(self.network), self.framework, self.size) if part))]
        lines += [(f"input {m.name}", _input(m, constants)) for m in self.modalities]
        lines.append(("outputs", f"(n, {', '.join(self.output_axes)}), {_kind(self, given)}"))
        gradients = "yes" if isinstance(self, Differentiable) else "none: explainers that need them refuse"
        lines.append(("gradients", gradients))
        if isinstance(self, Layered):
            lines += [(f"activation maps of {m.name}", _layer(self, given, m)) for m in self.modalities if m.spatial]
        if isinstance(self, Attentive) and self.streams is not None:
            lines.append(("tokens", ", ".join(f"{name} {tokens.grid}" for name, tokens in self.streams.tokens.items())))
        lines += [("recognised", line) for line in (self.recognised.lines() if self.recognised is not None else ())]
        return Description(self.name, tuple(lines))

    def __repr__(self) -> str:
        inputs = ", ".join(f"{m.name} ({', '.join(m.axes)})" for m in self.modalities)
        return f"{type(self).__name__}({self.name}: {type(self.network).__name__}, {inputs} → {', '.join(self.output_axes)})"


T = TypeVar("T")


class Declared(Described):
    """An adapter of a framework's network, whose layers can be read: what is declared about it, and the layers' names."""

    def __init__(
        self,
        name: str,
        modalities: tuple[Modality, ...],
        output_axes: tuple[str, ...],
        outputs: Outputs | None,
        output: str | int | None,
        standardise: Mapping[str, MeanSd] | None,
        streams: Streams | None,
        layer_axes: Mapping[str, tuple[str, ...]] | None,
    ) -> None:
        super().__init__(name, modalities, output_axes, outputs)
        self.output = output
        self.streams = streams if streams is None else streams.check(self.modalities)
        self.layer_axes = dict(layer_axes or {})
        self._constants = dict(standardise or {})
        pairs = constants(standardise, self.modalities)
        self._pairs = [None if not mean.any() and (sd == 1).all() else (mean, sd) for mean, sd in pairs]
        self._lock = threading.RLock()  # hooks belong to the network, so one request at a time

    @property
    def standardise(self) -> dict[str, MeanSd]:
        """(mean, sd) by modality, as declared."""
        return dict(self._constants)

    @property
    def _declarations(self) -> dict[str, Any]:
        """What is declared about a network and holds of its copies, but for its inputs and the axes of its layers."""
        return {
            "standardise": self._constants, "output_axes": self.output_axes, "output": self.output, "streams": self.streams,
            "outputs": self.outputs, "name": self.name,
        }  # fmt: skip

    @abstractmethod
    def _weights(self, inputs: Inputs) -> dict[str, Any]:
        """The layers that have weights and run, the one nearest to the output first, with what the framework knows them by."""

    def weighted(self, inputs: Inputs) -> tuple[str, ...]:
        """The layers that have trainable weights and run, frozen ones too, the one nearest to the output first."""
        return tuple(self._weights(inputs))

    def _first_weights(self, inputs: Inputs, depth: int, alone: bool) -> dict[str, Any]:
        """The first `depth` of `weighted`, or the last of these alone; raises `InvalidInput` unless there are so many."""
        weights = self._weights(inputs)
        if isinstance(depth, bool) or not isinstance(depth, int | np.integer) or not 0 <= depth <= len(weights):
            raise InvalidInput(
                f"model {self.name!r} has {len(weights)} layers with weights: depth is a whole number from 0 to {len(weights)}, "
                f"got {depth!r}"
            )
        return {name: weights[name] for name in list(weights)[max(depth - 1, 0) if alone else 0 : depth]}

    @abstractmethod
    def randomised(self, inputs: Inputs, depth: int, seed: int, alone: bool = False) -> Declared:
        """See `crossxai.model.Randomisable`."""

    def retrained(self, inputs: Inputs, labels: npt.ArrayLike, seed: int, epochs: int) -> tuple[Declared, float]:
        """A copy whose weights are drawn anew and then trained on these samples, and what it has learned; see
        `crossxai.model.Retrainable`."""
        if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 0:
            raise InvalidInput(f"epochs must be a whole number of at least 0, got {epochs!r}")
        lesson, depth = lesson_of(self, inputs, labels), len(self.weighted(inputs))
        if not depth:
            raise Unsupported(f"model {self.name!r} has no layer with weights, so it cannot be trained anew")
        twin = self.randomised(inputs, depth, seed)
        twin._calibrate(tuple(v[:CALIBRATED] for v in inputs))
        return twin, teach(twin, twin._trainer(inputs), inputs, lesson, seed, epochs)

    @abstractmethod
    def _calibrate(self, inputs: Inputs) -> None:
        """Give batch norms the statistics of these samples."""

    @abstractmethod
    def _trainer(self, inputs: Inputs) -> Step:
        """Steps that train all weights of this model itself."""

    def _by_original_names(self, layers: Mapping[str, T]) -> dict[str, T]:
        """What is known by layer; of a twin (`crossxai.porting`) by the layers of the network that it was made from."""
        original = original_layers(self.network) or {name: name for name in layers}
        return {name: layers[own] for name, own in original.items() if own in layers}


def _kind(model: Described, inputs: Inputs | None) -> str:
    if model.outputs is not None:
        return f"{model.outputs} as declared"
    if inputs is None:
        return "not declared: describe(inputs) measures what they are"
    try:
        known = kind(model, tuple(values[:2] for values in inputs))
        return f"{known.kind}: {known.how}"
    except CrossXAIError as error:
        return str(error)


def _layer(model: Any, inputs: Inputs | None, modality: Modality) -> str:
    if inputs is None:
        return "describe(inputs) measures at which layer"
    try:
        return drawn_at(model, inputs, modality.name)
    except CrossXAIError as error:
        return str(error)


def _class_of(network: Any) -> str:
    kind = network if isinstance(network, type) or hasattr(network, "__qualname__") else type(network)
    return f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")


def _input(modality: Modality, constants: Mapping[str, MeanSd]) -> str:
    names = ", ".join(modality.features[:4]) + (f" … ({len(modality.features)})" if len(modality.features) > 4 else "")
    values = "any values" if modality.range is None else f"values {modality.range[0]:g} to {modality.range[1]:g}"
    parts = [f"(n, {', '.join(modality.axes)}) with {names}", values]
    if modality.name in constants:
        mean, sd = (", ".join(f"{v:.4g}" for v in list(part)[:4]) for part in constants[modality.name])
        parts.append(f"standardised by the adapter with mean {mean} and sd {sd}")
    return "; ".join(parts)
