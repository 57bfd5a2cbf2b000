"""What metrics check of their parameters, each with one wording."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np

from crossxai.attribution import Reduction
from crossxai.errors import InvalidInput


def reduces(reduction: object, metric: str) -> None:
    """Raise `InvalidInput` unless it is a way to make one relevance per pixel."""
    if reduction not in get_args(Reduction):
        raise InvalidInput(f"{metric}: unknown reduction {reduction!r}: write {', '.join(get_args(Reduction))}")


def whole(value: object, least: int, what: str) -> None:
    """Raise `InvalidInput` unless the value is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise InvalidInput(f"{what} must be a whole number of at least {least}, got {value!r}")


def positive(value: object, what: str) -> None:
    """Raise `InvalidInput` unless the value is a finite number above 0."""
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    if not number or not 0 < float(value) < math.inf:  # type: ignore[arg-type]
        raise InvalidInput(f"{what} must be a finite number above 0, got {value!r}")
