"""Attribution: an explainer's answer; Explainer: whatever gives one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt

from crossxai.equality import equal
from crossxai.errors import InvalidInput, UnknownName
from crossxai.model import Array, Inputs, Modality
from crossxai.question import Question

Profile = Literal["native", "canonical"]
Needs = Literal["scores", "gradients", "layers", "module", "attention", "nothing"]
Reduction = Literal["sum", "mean", "abs_sum", "abs_max"]


@dataclass(frozen=True)
class Attribution:
    """One map per free modality, broadcastable to the inputs: (n, *axes), or with a last axis of 1 for per-pixel maps.

    params: the explainer's parameters as used. profile: "native" (the library's defaults) or "canonical" (the
    documented definition on which libraries meet). extras: what else the explainer learnt. seconds: time it took.
    notes: short sentences for the reader of the maps, such as the layer and the grid they were drawn at.
    """

    values: Inputs
    modalities: tuple[Modality, ...]
    ids: tuple[str, ...]
    explainer: str
    profile: str = "native"
    params: Mapping[str, Any] = field(default_factory=dict)
    extras: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = float("nan")
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.values) != len(self.modalities):
            raise InvalidInput(f"{len(self.values)} maps for {len(self.modalities)} modalities")
        for modality, values in zip(self.modalities, self.values, strict=True):
            if values.ndim != len(modality.axes) + 1 or values.shape[-1] not in (1, len(modality.features)):
                raise InvalidInput(
                    f"{self.explainer}: map of {modality.name!r} has shape {values.shape}, axes {modality.axes}"
                )
            if len(values) != len(self.ids):
                raise InvalidInput(f"{self.explainer}: {len(values)} maps for {len(self.ids)} samples")

    def __eq__(self, other: object) -> bool:
        return equal(self, other)

    def __hash__(self) -> int:
        return hash((self.explainer, self.profile, self.ids))

    def __len__(self) -> int:
        return len(self.ids)

    def __repr__(self) -> str:
        maps = ", ".join(f"{m.name} {v.shape}" for m, v in zip(self.modalities, self.values, strict=True))
        return f"Attribution({self.explainer}, {self.profile}: {maps})"

    def of(self, modality: str) -> Array:
        """The map of one modality, by name."""
        names = [m.name for m in self.modalities]
        if modality not in names:
            raise UnknownName("modality of this attribution", modality, names)
        return self.values[names.index(modality)]

    def units(self, modality: str, reduction: Reduction = "sum") -> Array:
        """One number per unit that a metric removes: pixels (n, *space) for images, columns (n, features) for tables."""
        values = self.of(modality)
        if not next(m for m in self.modalities if m.name == modality).spatial:
            return values
        return reduce_channels(values, reduction)

    def degenerate(self) -> npt.NDArray[np.str_]:
        """Per sample: "" for a usable map, else "nan" (NaN or infinite), "zero" or "constant"; all modalities together."""
        flat = np.concatenate([v.reshape(len(self), -1) for v in self.values], axis=1)
        kinds = np.full(len(self), "", dtype="<U8")
        kinds[np.ptp(flat, axis=1) == 0] = "constant"
        kinds[(flat == 0).all(axis=1)] = "zero"
        kinds[~np.isfinite(flat).all(axis=1)] = "nan"
        return kinds


def reduce_channels(values: Array, reduction: Reduction = "sum") -> Array:
    """Take the channel axis (last) away: sum, mean, sum of absolute values, or largest absolute value."""
    if reduction == "sum":
        return np.asarray(values.sum(axis=-1))
    if reduction == "mean":
        return np.asarray(values.mean(axis=-1))
    if reduction == "abs_sum":
        return np.asarray(np.abs(values).sum(axis=-1))
    if reduction == "abs_max":
        return np.asarray(np.abs(values).max(axis=-1))
    raise InvalidInput(f"unknown reduction {reduction!r}: write sum, mean, abs_sum or abs_max")


class Explainer(Protocol):
    """A frozen dataclass of parameters that answers questions; see `crossxai.explainers`."""

    name: ClassVar[str]
    library: ClassVar[str]
    needs: ClassVar[Needs]
    profiles: ClassVar[tuple[Profile, ...]]

    @property
    def profile(self) -> Profile: ...

    def __call__(self, question: Question) -> Attribution: ...
