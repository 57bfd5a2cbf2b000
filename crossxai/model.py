"""What a model is to CrossXAI: its modalities and the few verbs that explainers and metrics need."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from crossxai.errors import InvalidInput
from crossxai.on_demand import OnDemand

Array = npt.NDArray[np.floating[Any]]
Inputs = tuple[Array, ...]
"""One array per modality; axis 0 is the sample, channels come last (NHWC); always a tuple."""

Cotangent = Callable[[Array], Array]
"""Maps the outputs (n, *out) to d(score)/d(outputs), same shape. A function, not an array, because the derivative of a
softmax or sigmoid link depends on the outputs, and a second forward pass to learn them would be wasted."""


@dataclass(frozen=True)
class Modality:
    """One input of a model, declared and never inferred from an array's shape.

    Parameters
    ----------
    name : str, different for each modality of a model
    axes : tuple of str, the axes after the sample axis, ending with "channel" (images, volumes) or "feature" (tables)
    features : tuple of str, the names along that last axis
    range : (float, float), optional, the smallest and largest legal value; None for any

    Raises
    ------
    InvalidInput: if the axes do not end with "channel" or "feature", or names or range are none
    """

    name: str
    axes: tuple[str, ...]
    features: tuple[str, ...]
    range: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if not self.axes or self.axes[-1] not in ("channel", "feature"):
            raise InvalidInput(f"modality {self.name!r}: axes must end with 'channel' or 'feature', got {self.axes}")
        if not self.features:
            raise InvalidInput(f"modality {self.name!r}: name the {self.axes[-1]}s, one per entry of the last axis")
        if not isinstance(self.features, tuple):
            raise InvalidInput(
                f"modality {self.name!r}: names are a tuple, like ('age', 'dose'), got {self.features!r}"
            )
        if self.range is not None and not self.range[0] < self.range[1]:
            raise InvalidInput(f"modality {self.name!r}: range is (smallest, largest), got {self.range}")

    @classmethod
    def image(
        cls,
        name: str = "image",
        channels: tuple[str, ...] = ("red", "green", "blue"),
        range: tuple[float, float] | None = (0.0, 1.0),
    ) -> Modality:
        """A 2-D image of shape (n, height, width, channels), RGB in [0, 1] unless told otherwise."""
        return cls(name, ("y", "x", "channel"), channels, range)

    @classmethod
    def volume(
        cls,
        name: str = "volume",
        channels: tuple[str, ...] = ("value",),
        range: tuple[float, float] | None = (0.0, 1.0),
    ) -> Modality:
        """A 3-D volume of shape (n, depth, height, width, channels), one channel in [0, 1] unless told otherwise."""
        return cls(name, ("z", "y", "x", "channel"), channels, range)

    @classmethod
    def table(cls, features: tuple[str, ...], name: str = "table") -> Modality:
        """A table of shape (n, features), any values."""
        return cls(name, ("feature",), features)

    @property
    def spatial(self) -> bool:
        """Whether the modality has space to draw a map in."""
        return len(self.axes) > 1

    @property
    def kind(self) -> str:
        """ "table", "image" (y, x) or "volume" (any other space)."""
        return "table" if not self.spatial else "image" if self.axes == ("y", "x", "channel") else "volume"

    def check(self, values: Array, where: str = "") -> None:
        """Raise `InvalidInput` unless `values` is a finite float array (n, *axes) of this modality, in its range."""
        label = f"{where}modality {self.name!r}"
        expected = f"(n, {', '.join((*self.axes[:-1], f'{len(self.features)} {self.axes[-1]}s'))})"
        shape = getattr(values, "shape", ())
        if isinstance(values, OnDemand):  # its values are checked when they are read
            values = np.zeros((0, *values.shape[1:]), values.dtype)
        if not isinstance(values, np.ndarray):
            raise InvalidInput(f"{label}: expected a NumPy array {expected}, got {type(values).__name__}")
        if values.dtype not in (np.float32, np.float64):
            write = "x.astype(np.float32) / 255" if values.dtype == np.uint8 else "x.astype(np.float32)"
            raise InvalidInput(f"{label}: expected float32 or float64, got {values.dtype}; write {write}")
        if values.ndim != len(self.axes) + 1:
            raise InvalidInput(f"{label}: expected {len(self.axes) + 1} axes {expected}, got shape {shape}")
        if values.shape[-1] != len(self.features):
            hint = ""
            if self.spatial and values.shape[1] == len(self.features):
                hint = "; this looks like channels first: write np.moveaxis(x, 1, -1)"
            raise InvalidInput(f"{label}: expected shape {expected}, got {shape}{hint}")
        if not np.isfinite(values).all():
            raise InvalidInput(f"{label}: the values hold NaN or infinity")
        if self.range is not None and values.size:
            low, high = float(values.min()), float(values.max())
            slack = 1e-5 * (self.range[1] - self.range[0])
            if low < self.range[0] - slack or high > self.range[1] + slack:
                raise InvalidInput(
                    f"{label}: declared range {self.range}, got values from {low:g} to {high:g}; explainers work on raw "
                    "inputs: leave mean and sd to the adapter's `standardise`, or declare another range"
                )


class Model(Protocol):
    """Anything that maps inputs to outputs; enough for perturbation explainers and for every metric."""

    @property
    def name(self) -> str: ...

    @property
    def modalities(self) -> tuple[Modality, ...]: ...

    def predict(self, inputs: Inputs) -> Array:
        """Outputs (n, *out), class axis last, for a batch that fits in memory; the arrays are the caller's, to be used again."""
        ...


def check_inputs(model: Model, inputs: Inputs) -> None:
    """Raise `InvalidInput` unless the inputs are a tuple of one array per modality, each as its modality declares."""
    modalities = model.modalities
    if not isinstance(inputs, tuple) or len(inputs) != len(modalities):
        given = f"{len(inputs)} arrays" if isinstance(inputs, tuple) else type(inputs).__name__
        names = ", ".join(m.name for m in modalities)
        raise InvalidInput(
            f"model {model.name!r} takes {len(modalities)} modalities ({names}), got {given}; write inputs=({names},)"
        )
    for modality, values in zip(modalities, inputs, strict=True):
        modality.check(values)


@runtime_checkable
class Differentiable(Model, Protocol):
    """A model with gradients."""

    def vjp(self, inputs: Inputs, cotangent: Cotangent) -> tuple[Array, Inputs]:
        """(outputs, gradient of sum(cotangent · outputs) at each input), from one forward and one backward pass."""
        ...


@runtime_checkable
class Layered(Differentiable, Protocol):
    """A model whose inner layers can be read and replaced, whatever its graph (residual connections included).

    Activations are (n, *axes) in the layer's own order. A model may say more about its layers: `axes_of(layer)`, what those axes
    mean, such as ("channel", "y", "x"), or None where the layer's definition does not tell; `layer_axes`, the same as declared by
    the user; `kind_of(layer)`, the class of a layer.
    """

    def activations(self, inputs: Inputs, layers: Collection[str] | None = None) -> dict[str, Array]:
        """Layer name → activation, of the layers (or those named) that run exactly once, in order of execution."""
        ...

    def layer_vjp(self, inputs: Inputs, cotangent: Cotangent, layer: str) -> tuple[Array, Array, Array]:
        """(outputs, the layer's activation, gradient at that activation)."""
        ...

    def read(self, inputs: Inputs, layer: str) -> tuple[Array, Array]:
        """(outputs, the layer's activation), from one forward pass."""
        ...

    def replace(self, inputs: Inputs, layer: str, activation: Array) -> Array:
        """Outputs when that layer's output is replaced by `activation`."""
        ...


@runtime_checkable
class Randomisable(Model, Protocol):
    """A model that can be copied with its weights drawn anew, layer by layer from the output down."""

    def weighted(self, inputs: Inputs) -> tuple[str, ...]:
        """The layers that have weights and run, the one nearest to the output first; found out on the first sample."""
        ...

    def randomised(self, inputs: Inputs, depth: int, seed: int, alone: bool = False) -> Model:
        """A copy whose first `depth` layers of `weighted` are drawn anew (see `crossxai.adapters.checks`), or the last of them
        alone; this model stays as it is.

        Running statistics are kept. Raises `Unsupported` if the network cannot be copied.
        """
        ...


@runtime_checkable
class Retrainable(Model, Protocol):
    """A model that can be copied with its weights drawn anew, and the copy trained."""

    def retrained(self, inputs: Inputs, labels: npt.ArrayLike, seed: int, epochs: int) -> tuple[Model, float]:
        """A copy whose weights are all drawn anew, as `Randomisable` has it, and trained on these samples until it gives every
        label, or for so many epochs; and what it has learned of them: the accuracy, or the share of the values' variance (R²).

        labels: whole numbers (n,) are classes, learned by cross-entropy; floats (n,) or (n, outputs) are values, learned by
        squared error; of several outputs, by the one that counts. By Adam, in batches of at most 16 in an order that depends on
        the seed and on n alone, in evaluation mode, as the copy will be explained: nothing is dropped out, and batch norms keep
        the statistics that these samples have under the weights as they were drawn. 0 epochs: the copy before training. This
        model stays as it is.

        Raises `Unsupported` for a segmentation, for a network without weights or that cannot be copied, and where no gradient
        reaches its weights; `InvalidInput` for labels that do not fit the outputs.
        """
        ...


@runtime_checkable
class Foldable(Model, Protocol):
    """A model that can be copied into one that scores faster."""

    def folded(self, inputs: Inputs) -> Model:
        """A copy whose batch norms are folded into the convolutions before them, for scores alone; weights as they are now.

        Its outputs on these inputs, on their pixels shuffled and on noise differ by at most 3e-4 (1e-10 in float64) of how far
        outputs vary. Raises `Unsupported` if there is nothing to fold, it cannot be done, or they differ by more.
        """
        ...


@runtime_checkable
class Reducible(Model, Protocol):
    """A model that may run its network in less precision than the network's own."""

    @property
    def precision(self) -> str:
        """ "float32" for the network's own, whatever that is; else "bf16"."""
        ...

    def in_full(self) -> Model:
        """The same network in its own precision."""
        ...


LEVELS = 65535
"""Of 16 bits; those of 8 bits are among them, since 65535 = 255 · 257."""


def value_range(modality: Modality, values: Array) -> tuple[float, float]:
    """(lowest, highest): the declared range, else the smallest and largest of these values, all channels together."""
    if modality.range is not None:
        return modality.range
    return float(values.min()), float(values.max())


def to_unit_interval(values: Array, modality: Modality) -> Array:
    """One sample (*axes) with its declared range put to [0, 1], in its own precision; 0 everywhere if all values are the same and
    no range is declared.

    Values of 8 or 16 bits become k / 255 or k / 65535 to the last bit: quickshift decides ties, of which such images are full, by
    differences as small as rounding.
    """
    low, high = value_range(modality, values)
    scaled = (values.astype(np.float64) - low) / (high - low) if high > low else np.zeros(values.shape)
    steps = scaled * LEVELS
    whole = np.round(steps)
    if np.abs(steps - whole).max(initial=0) < 0.02:  # float32 is off by 0.008 at most
        scaled = whole / LEVELS
    return np.asarray(scaled, values.dtype)


def standardise(values: Array, mean: Array, sd: Array) -> Array:
    """(values - mean) / sd, in the values' precision."""
    return np.asarray(((values - mean) / sd).astype(values.dtype))


def equal(one: Any, other: Any) -> bool:
    """Equal in type and in every field that is compared; arrays by their values, NaN equal to NaN; sequences entry by entry."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        exact = not np.issubdtype(one.dtype, np.inexact)
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=not exact)
    if isinstance(one, float) and np.isnan(one):
        return bool(np.isnan(other))
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(equal(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(value, other[key]) for key, value in one.items())
    if is_dataclass(one):
        return all(equal(getattr(one, f.name), getattr(other, f.name)) for f in fields(one) if f.compare)
    return bool(one == other)
