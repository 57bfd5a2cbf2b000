"""What metrics check of their parameters: the type of a field says it, with one wording for all metrics."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import fields
from functools import partial
from typing import Annotated, Any, ClassVar, Literal, get_args, get_origin, get_type_hints

import numpy as np

from crossxai.attribution import Needs, Range
from crossxai.documentation import complete
from crossxai.errors import InvalidInput

SHARED = {
    "reduction": "str\n    How channels become one relevance per pixel.",
    "modality": 'str\n    The one measured, "" for the only free one; the others keep each sample\'s own values.',
    "steps": 'int\n    Intervals between "nothing" and "everything"; fewer if there are fewer units.',
    "seed": "int\n    Of every draw, together with the sample's name.",
    "fill": "str, mapping or callable\n    What replaces a removed unit, in raw input units; see `fills`.",
    "fills": "mapping, default {}\n    The fill of single modalities, by name.",
    "similarity": '{"pearson", "spearman", "ssim"}\n    See `similarity.between`; a map turned upside down is not like itself.',
    "size": "int\n    Side of the central square, in pixels.",
}
"""What parameters of many metrics mean, where a class documents nothing else."""


def choice(value: object, known: Sequence[str], what: str) -> None:
    """Raise `InvalidInput` unless the value is one of the known words."""
    if value not in known:
        words = (", " if len(known) > 3 else " or ").join(known)
        raise InvalidInput(f"{what} {value!r}: write {words}")


def whole(value: Any, what: str, least: int = 1) -> int:
    """A whole number of at least `least`; raises `InvalidInput`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise InvalidInput(f"{what} must be a whole number of at least {least}, got {value!r}")
    return int(value)


def finite(value: Any) -> bool:
    """Whether a value is a finite number."""
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    return number and math.isfinite(value)


def positive(value: Any, what: str) -> Any:
    """A finite number above 0, as it is given; raises `InvalidInput`."""
    if not finite(value) or value <= 0:
        raise InvalidInput(f"{what} must be a finite number above 0, got {value!r}")
    return value


def not_negative(value: Any, what: str) -> Any:
    """A finite number of at least 0, as it is given; raises `InvalidInput`."""
    if not finite(value) or value < 0:
        raise InvalidInput(f"{what} must be a number of at least 0, got {value!r}")
    return value


def _share(value: Any, what: str, most: bool = False) -> float:
    if not finite(value) or not 0 < value <= 1 or (value == 1 and not most):
        span = "above 0, at most 1" if most else "between 0 and 1"
        raise InvalidInput(f"{what} must be a share {span}, got {value!r}")
    return float(value)


def _numbers(value: Any, what: str, top: float) -> tuple[float, ...]:
    given = list(value) if isinstance(value, list | tuple | np.ndarray) else []
    if not given or not all(finite(v) and 0 < v < top for v in given):
        raise InvalidInput(f"{what} must be numbers between 0 and {top:g}, got {value!r}")
    return tuple(v.item() if isinstance(v, np.generic) else v for v in given)


Count = Annotated[int, whole]
FromZero = Annotated[int, partial(whole, least=0)]
FromTwo = Annotated[int, partial(whole, least=2)]
Positive = Annotated[float, positive]
NotNegative = Annotated[float, not_negative]
Share = Annotated[float, _share]
ShareOrAll = Annotated[float, partial(_share, most=True)]
Shares = Annotated[tuple[float, ...], partial(_numbers, top=1)]
Percentages = Annotated[tuple[float, ...], partial(_numbers, top=100)]
"""Types of fields: the number itself, and the function (value, name in messages) that checks it."""


class Parameters:
    """A dataclass of a metric's parameters, whose checks leave plain Python numbers in the fields."""

    name: ClassVar[str]
    higher_is_better: ClassVar[bool]
    needs: ClassVar[Needs] = "scores"
    range: ClassVar[Range] = (None, None)

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        complete(cls, SHARED)

    def __post_init__(self) -> None:
        types = get_type_hints(type(self), include_extras=True)
        for field in (f.name for f in fields(self)):  # type: ignore[arg-type]
            value, kind = getattr(self, field), types[field]
            if get_origin(kind) is Literal:
                choice(value, get_args(kind), f"{self.name}: unknown {field}")
            elif kind is bool and not isinstance(value, bool):
                raise InvalidInput(f"{self.name}: {field} must be true or false, got {value!r}")
            for check in getattr(kind, "__metadata__", ()):
                object.__setattr__(self, field, check(value, f"{self.name}: {field}"))
