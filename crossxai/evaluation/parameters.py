"""What metrics check of their parameters, each with one wording."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from crossxai.documentation import Documented
from crossxai.errors import InvalidInput


def choice(value: object, known: Sequence[str], what: str) -> None:
    """Raise `InvalidInput` unless the value is one of the known words."""
    if value not in known:
        words = (", " if len(known) > 3 else " or ").join(known)
        raise InvalidInput(f"{what} {value!r}: write {words}")


def whole(value: object, least: int, what: str) -> None:
    """Raise `InvalidInput` unless the value is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise InvalidInput(f"{what} must be a whole number of at least {least}, got {value!r}")


def finite(value: Any) -> bool:
    """Whether a value is a finite number."""
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    return number and math.isfinite(value)


def positive(value: Any, what: str) -> None:
    """Raise `InvalidInput` unless the value is a finite number above 0."""
    if not finite(value) or value <= 0:
        raise InvalidInput(f"{what} must be a finite number above 0, got {value!r}")


def not_negative(value: Any, what: str) -> None:
    """Raise `InvalidInput` unless the value is a finite number of at least 0."""
    if not finite(value) or value < 0:
        raise InvalidInput(f"{what} must be a number of at least 0, got {value!r}")


class Parameters(Documented):
    """A dataclass of a metric's parameters, whose checks leave plain Python numbers in the fields."""

    name: ClassVar[str]

    def _one_of(self, field: str, known: Sequence[str]) -> None:
        choice(getattr(self, field), known, f"{self.name}: unknown {field}")

    def _whole(self, field: str, least: int = 1) -> None:
        value = getattr(self, field)
        whole(value, least, f"{self.name}: {field}")
        object.__setattr__(self, field, int(value))

    def _flag(self, field: str) -> None:
        value = getattr(self, field)
        if not isinstance(value, bool):
            raise InvalidInput(f"{self.name}: {field} must be true or false, got {value!r}")

    def _share(self, field: str, whole: bool = False) -> None:
        value = getattr(self, field)
        if not finite(value) or not 0 < value <= 1 or (value == 1 and not whole):
            limits = "above 0, at most 1" if whole else "between 0 and 1"
            raise InvalidInput(f"{self.name}: {field} must be a share {limits}, got {value!r}")
        object.__setattr__(self, field, float(value))

    def _numbers(self, field: str, top: float) -> None:
        """Numbers between 0 and top, both excluded, of which there is at least one."""
        value = getattr(self, field)
        given = list(value) if isinstance(value, list | tuple | np.ndarray) else []
        if not given or not all(finite(v) and 0 < v < top for v in given):
            raise InvalidInput(f"{self.name}: {field} must be numbers between 0 and {top:g}, got {value!r}")
        object.__setattr__(self, field, tuple(v.item() if isinstance(v, np.generic) else v for v in given))
