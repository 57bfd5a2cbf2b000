"""What is between files and the arrays of a model: who brings values to the model's size and range, and what was found."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from crossxai.data.odd import LeftOut
from crossxai.errors import InvalidInput
from crossxai.files.spaces import Space
from crossxai.model import Array, Modality


class Reader(Protocol):
    """What turns one modality's values into what a model takes; `crossxai.data.arrays` has it."""

    modalities: tuple[Modality, ...]
    notes: list[str]
    on_demand: bool
    """Whether more samples than memory holds may be asked for, which are then read when they are needed."""

    def picture(self, picture: Any, modality: Modality, remark: Callable[[str], object]) -> npt.NDArray[Any]:
        """A PIL picture (y, x, channel), 8 bits, in the network's size; remark: called with what was changed."""
        ...

    def fitted(self, picture: Any) -> Any:
        """A PIL picture in the network's size."""
        ...

    def arranged(self, values: npt.NDArray[Any], modality: Modality) -> npt.NDArray[Any]:
        """An array with its channels last."""
        ...

    def scaled(self, values: npt.NDArray[Any], modality: Modality) -> Array:
        """Floats in the model's range."""
        ...


@dataclass
class Found:
    """What files hold. values: by modality; labels: a name for each sample, or an array; masks (n, *space) of the first modality
    with space; ids: () where files do not name samples; spaces: by modality, where the voxels of scans lie."""

    values: dict[str, Array]
    labels: list[str] | npt.NDArray[Any] | None
    masks: npt.NDArray[np.bool_] | None
    ids: tuple[str, ...]
    left_out: tuple[LeftOut, ...]
    spaces: dict[str, tuple[Space, ...]] = field(default_factory=dict)


def numbers(values: npt.NDArray[Any], where: str) -> npt.NDArray[Any]:
    """The values; raises `InvalidInput` for text."""
    if values.dtype.kind not in "biuf":
        raise InvalidInput(f"{where} holds {values.dtype}: samples are real numbers")
    return values
