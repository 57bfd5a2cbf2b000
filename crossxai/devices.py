"""Models on a device of their own: what masks and scores copies of samples there, and verbs that take tensors, not arrays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy.typing as npt

from crossxai.batching import Clock
from crossxai.model import Array, Model


class CopyParts(NamedTuple):
    """What copies of one modality are made of: tensors of a device of shape (*axes), or with axes of length 1 that hold for all.

    samples: whole samples; fills: what replaces their units; ranks: a number per unit, see `DeviceBackend.mask`.
    """

    samples: list[Any]
    fills: list[Any]
    ranks: list[Any]


class Factor(NamedTuple):
    """What a copy hides: the units whose number is hidden in its row of a table; tensors of a device.

    numbers: whole numbers, broadcastable to (*axes); table: 0 and 1 (rows, numbers), 1 where a number is hidden; rows: those of
    copies (m,).
    """

    numbers: Any
    table: Any
    rows: Any


PAIR = 4096
"""Numbers of a fill and of ranks are one: PAIR * fill + ranks."""


class DeviceBackend(Protocol):
    """Where a model runs: copies are masked, run and scored there, and nothing waits for it but `take`. Tensors are its own."""

    @property
    def clock(self) -> Clock | None:
        """Time there; None where it cannot be measured without waiting."""
        ...

    def put(self, values: npt.NDArray[Any]) -> Any:
        """An array there: float64 becomes float32 unless the model runs in float64; whole numbers (below 2^24) stay exact."""
        ...

    def ranks(self, values: Any, ties: Any) -> Any:
        """The place of each value in their descending order, in the same shape; of equal ones, the earlier in `ties` is first."""
        ...

    def blurred(self, values: Any, matrices: Sequence[Any]) -> Any:
        """values (*axes) whose first axes are multiplied by one matrix each, from the left; not in less than float32."""
        ...

    def mask(self, copies: Any, parts: Sequence[CopyParts]) -> list[Any]:
        """Masked copies (m, *axes) of every modality, from whole numbers (m, 3 + modalities) for each copy.

        They are the sample's number in the parts; an end; a bit; and for each modality a fill and ranks (see `PAIR`), or -1
        where nothing is masked. A unit is hidden whose rank is below the end, or if a bit is not -1, in whose rank that bit is
        set; or all but these where the end is negative, which then stands for -1 - end.
        """
        ...

    def hide(self, samples: Sequence[Any], which: Any, factors: Sequence[Factor], fill: Any) -> Any:
        """Copies (m, *axes) of samples[which], which (m,), whose units hold the fill, broadcastable to (*axes), where all factors
        hide them; unmasked where there are no factors."""
        ...

    def smooth_masks(self, patterns: Any, corners: Any, matrices: Sequence[Any], space: Sequence[int]) -> Any:
        """Masks (m, *space): patterns (m, *cells) enlarged by one matrix (larger, cells) along each axis, and of that the part
        that begins at corners (m, axes)."""
        ...

    def dim(self, sample: Any, masks: Any, fill: Any) -> Any:
        """Copies (m, *space, channels) of one sample: mask · sample + (1 - mask) · fill."""
        ...

    def weigh(self, masks: Any, scores: Any) -> Any:
        """sum(scores · masks) (*space) of scores (m,) and masks (m, *space), in float64."""
        ...

    def predict(self, inputs: list[Any]) -> Any:
        """The model's outputs (m, *out), class axis last, in full precision."""
        ...

    def score(self, outputs: Any, copies: Any, weights: list[Any], link: str) -> Any:
        """sum(link(outputs) · weights) of each copy (m,), weights (*out) being those of the samples in the parts."""
        ...

    def take(self, tensors: list[Any]) -> Array:
        """All numbers of tensors, one tensor after the other, in one array on the host: waits until they are made."""
        ...


@runtime_checkable
class DeviceModel(Model, Protocol):
    """A model beside which copies can be masked and scored."""

    def device_backend(self) -> DeviceBackend | None:
        """Where it runs; None if that is the host's own memory, where NumPy masks as fast."""
        ...


@runtime_checkable
class TensorModel(Model, Protocol):
    """A model that libraries of its own framework can ask by tensors on its device, from end to end."""

    @property
    def tensor_library(self) -> str:
        """Whose tensors they are: "torch" or "tensorflow"."""
        ...

    def tensor_device(self) -> Any:
        """The device that it runs on, as that library names it; None if that is the CPU, where NumPy shares the memory."""
        ...

    def scores_there(self, inputs: list[Any], weights: Any, link: str) -> Any:
        """sum(link(outputs) · weights) (m,) of channels-last tensors on the device; weights (m, *out), class axis last."""
        ...

    def gradients_there(self, inputs: list[Any], weights: Any, link: str) -> tuple[Any, list[Any]]:
        """The same, and its gradient at each input, zeros where none arrives, from one forward and one backward pass."""
        ...
