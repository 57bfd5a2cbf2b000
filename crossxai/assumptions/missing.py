"""Missing values of a table: NaN, and numbers such as 99 or -999 that stand for "not known"."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crossxai.model import Array, Modality

SENTINELS = (-1.0, *(sign * (10.0**digits - 1) for digits in range(1, 7) for sign in (1, -1)))
"""-1, ±9, ±99 … ±999999: what forms, registries and spreadsheets write where nothing is known."""

FEWEST_VALUES = 3
"""A column of fewer different values beside the suspect is a code, such as -1 and 1, and not measured."""


@dataclass(frozen=True)
class Missing:
    """A column of a table that seems to lack values. value: what stands there instead, NaN or a sentinel; count: in how many
    of `of` samples; words: a sentence for users."""

    column: str
    value: float
    count: int
    of: int

    @property
    def words(self) -> str:
        """What was seen, and what to do."""
        if np.isnan(self.value):
            return f"{self.column}: NaN in {self.count} of {self.of} samples; fill them in, or leave these samples out"
        return (
            f"{self.column}: {self.value:g} in {self.count} of {self.of} samples, far from the others: if it stands for a "
            "missing value, fill it in and add a column that says so, or leave these samples out; models and explanations take "
            "it as a number"
        )


def missing_values(values: Array, modality: Modality) -> tuple[Missing, ...]:
    """What seems to be missing in a table (n, features), column by column; nothing for images and volumes.

    A sentinel is one of `SENTINELS` that at least two samples and 1 % of them share, that is the smallest or largest value of
    its column, and whose distance from the next one is more than ten times the median distance between neighbouring values;
    -1 is one, too, where it is the only negative value. A suspicion, since a few real columns look like that.
    """
    if modality.spatial:
        return ()
    found = []
    for name, column in zip(modality.features, np.asarray(values, np.float64).T, strict=True):
        absent = int(np.isnan(column).sum())
        if absent:
            found.append(Missing(name, float("nan"), absent, len(column)))
        found += [Missing(name, v, count, len(column)) for v, count in _sentinels(column[np.isfinite(column)])]
    return tuple(found)


def _sentinels(column: npt.NDArray[np.float64]) -> list[tuple[float, int]]:
    """(value, how often) at either end of a column; several, such as 98 and 99, are taken off one by one."""
    found: list[tuple[float, int]] = []
    different, counts = np.unique(column, return_counts=True)
    for end, next_to in ((-1, -2), (0, 1)):
        if len(different) <= FEWEST_VALUES:
            break
        value, count = float(different[end]), int(counts[end])
        rest = np.delete(different, end)
        gap, usual = abs(value - float(different[next_to])), float(np.median(np.diff(rest)))
        far = gap > 10 * usual or (value == -1 and rest[0] >= 0)
        if value in SENTINELS and count >= max(2, 0.01 * len(column)) and far:
            found.append((value, count))
            different, counts = rest, np.delete(counts, end)
    return found
