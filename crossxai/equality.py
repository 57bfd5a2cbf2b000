"""Whether two dataclasses that hold arrays are equal: `==` between arrays gives an array, which is no answer."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np


def equal(one: Any, other: Any) -> bool:
    """Equal in type and in every field; arrays by their values, NaN equal to NaN; sequences entry by entry."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, np.ndarray):
        exact = not np.issubdtype(one.dtype, np.inexact)
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=not exact)
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(equal(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(equal(value, other[key]) for key, value in one.items())
    if is_dataclass(one):
        return all(equal(getattr(one, f.name), getattr(other, f.name)) for f in fields(one))
    return bool(one == other)
