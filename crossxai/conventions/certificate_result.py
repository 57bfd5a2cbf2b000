"""The result of `certify`: every measurement with its limit, and the layers of two networks side by side."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from crossxai.conventions.models import ModelParity
from crossxai.conventions.search import Switch
from crossxai.model import Array, Modality

if TYPE_CHECKING:
    import pandas

Kind = Literal["outputs", "gradients", "layers", "explanation", "training", "weights"]
LIMITS: Mapping[tuple[Kind, str], float] = {
    ("outputs", "float32"): 1e-4,
    ("outputs", "float64"): 1e-10,
    ("gradients", "float32"): 5e-3,
    ("gradients", "float64"): 1e-6,
    ("layers", "float32"): 1e-4,
    ("layers", "float64"): 1e-9,
    ("explanation", "float32"): 1e-3,
    ("explanation", "float64"): 1e-6,
    ("training", "float64"): 1e-9,
    ("weights", "float64"): 1e-6,
}
"""The largest difference that counts as rounding: of outputs as a share of how far they vary, else relative L2."""


@dataclass(frozen=True)
class Line:
    """One measurement.

    kind: what is compared. name: on which inputs, or of which explainer. dtype: what both networks computed in; their copies in
    "float64". value: the difference. rounding: what rounding alone makes: how far both networks are from their own copies in
    float64, which round less; 0 where that was not measured. reason: why there is no value, which is NaN then.
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
    """A layer of either network that should give the same, and how far they are apart (relative L2; infinite if sizes differ)."""

    one: str
    other: str
    distance: float


@dataclass(frozen=True, eq=False)
class MapPair:
    """One method's maps of one sample, whose input is `given`, on both networks; without a sample axis."""

    method: str
    modality: Modality
    given: Array
    one: Array
    other: Array


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
        The conventions that are in the way where outputs differ; its layers are not looked for, see `first`.
    norms : tuple of LayerPair
        Their batch norms side by side; the distance is of running statistics after one pass in training mode.
    weights : tuple of LayerPair
        Their layers with weights side by side; the distance is of the sums of the gradients there, see `training`.
    shapes : mapping
        Modality -> the shape of the samples' array.
    sha256 : str
        Of the samples' values.
    sample : int
        Which sample `maps` are of, the one whose maps are farthest apart.
    maps : tuple of MapPair
        Its maps by every method that could be asked.
    """

    one: str
    other: str
    lines: tuple[Line, ...]
    layers: tuple[LayerPair, ...]
    layers_dtype: str
    models: ModelParity
    norms: tuple[LayerPair, ...] = ()
    weights: tuple[LayerPair, ...] = ()
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict, hash=False)
    sha256: str = ""
    sample: int = 0
    maps: tuple[MapPair, ...] = field(default=(), compare=False)

    @property
    def holds(self) -> bool:
        """Whether both are one function and explain alike, as far as could be measured."""
        return all(line.holds for line in self.lines)

    @property
    def first(self) -> LayerPair | None:
        """The first layer that differs by more than rounding, else the first one that trains otherwise; None where none does."""
        compared = (
            (self.layers, LIMITS["layers", self.layers_dtype]),
            (self.norms, LIMITS["training", "float64"]),
            (self.weights, LIMITS["weights", "float64"]),
        )
        return next((pair for pairs, limit in compared for pair in pairs if not pair.distance <= limit), None)

    @property
    def other_shapes(self) -> bool:
        """Whether outputs have other shapes, so that nothing else was measured."""
        return [line.value for line in self.lines] == [float("inf")]

    @property
    def trains_otherwise(self) -> bool:
        """Whether all that differs is what happens in training."""
        differ = {line.kind for line in self.lines if not line.holds}
        return bool(differ) and differ <= {"training", "weights"}

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

    def _repr_html_(self) -> str:
        # What draws lies above, and is known by its name alone.
        shown: str = importlib.import_module("crossxai.report.certificate").certificate_html(self)
        return shown
