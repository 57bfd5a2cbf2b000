"""Shapes and types of arrays without their memory, while more samples are looked through than memory holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from crossxai.model import Array


def of(values: Mapping[str, Array], mask: Any) -> tuple[dict[str, Array], Any]:
    """A sample's pictures and mask as outlines; tables, which are small, as they are."""
    shapes = {name: _outline(v) if v.ndim > 1 else v for name, v in values.items()}
    return shapes, mask if mask is None else _outline(mask)


def stacked(values: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """All of them (n, …); an outline where one of them is."""
    if any(v.size and not any(v.strides) for v in values):
        return np.broadcast_to(np.zeros((), values[0].dtype), (len(values), *values[0].shape))
    return np.stack(values)


def _outline(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return np.broadcast_to(np.zeros((), values.dtype), values.shape)
