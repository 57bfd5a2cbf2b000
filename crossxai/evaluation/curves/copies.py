"""What a masked copy of a sample is, and which of the sample's units its fill replaces."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from crossxai.evaluation.curves.ranks import Positions

Masks = npt.NDArray[np.bool_]


class Copy(NamedTuple):
    """A sample whose first `units` units of an order hold their fill, or all but those; order -1: all units, fill -1: none."""

    row: int
    order: int
    units: int
    inserts: bool
    fill: int


class Order(NamedTuple):
    """Positions (units,) in order of removal; ends (groups + 1,): how many of them the first groups hold, where groups go."""

    positions: Positions
    ends: Positions | None = None

    def hidden(self, count: int, inserts: bool) -> Positions:
        """The positions that the fill replaces."""
        end = count if self.ends is None else int(self.ends[count])
        return self.positions[end:] if inserts else self.positions[:end]


class Subsets(NamedTuple):
    """Masks (subsets, units), no order's beginnings; a copy's `units` numbers them from 1, of one more than there are."""

    masks: Masks

    def hidden(self, count: int, inserts: bool) -> Positions:
        """The positions that the fill replaces."""
        return np.flatnonzero(self.masks[count - 1] ^ inserts)


Source = Callable[[int], Order | Subsets]
"""A sample's number → its order; called once per sample, in order of samples, and again where memory ran out."""
