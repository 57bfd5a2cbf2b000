"""What a masked copy of a sample is, and which of the sample's units its fill replaces."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from crossxai.evaluation.curves.fills import Fill
from crossxai.evaluation.curves.ranks import Blocks, Positions, Ranked
from crossxai.model import Inputs

Masks = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.int64]


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
        end = self.end(count)
        return self.positions[end:] if inserts else self.positions[:end]

    def end(self, count: int) -> int:
        """How many positions the first units or groups hold."""
        return count if self.ends is None else int(self.ends[count])


class Subsets(NamedTuple):
    """Masks (subsets, units), no order's beginnings; a copy's `units` numbers them from 1, of one more than there are."""

    masks: Masks

    def hidden(self, count: int, inserts: bool) -> Positions:
        """The positions that the fill replaces."""
        return np.flatnonzero(self.masks[count - 1] ^ inserts)


Source = Callable[[int], Order | Subsets]
"""A sample's number → its order; called once per sample, in order of samples, and again where memory ran out."""


class Ordering(NamedTuple):
    """How many units an order has (of each sample, if they differ), and which order each sample's is equal to. ranked: maps whose
    order it is."""

    source: Source
    units: int | Positions
    equal: Positions | None = None
    ranked: Ranked | None = None


class Kind(NamedTuple):
    """A fill of one modality, and its samples with everything replaced."""

    place: int
    fill: Fill
    filled: Blocks
    imputes: bool


class Filling(NamedTuple):
    """What replaces units, one kind per modality. trail: the counts of the steps so far, where every step fills anew."""

    kinds: tuple[int, ...]
    seed: int
    trail: tuple[int, ...]


class Copies(Protocol):
    """What a stream of copies reads of the engine that numbers and builds them, `masking.Masking`."""

    orders: list[Ordering]
    fills: list[Filling]
    kinds: list[Kind]

    def decode(self, codes: Codes) -> Iterable[Copy]:
        """The copies behind codes (m,)."""
        ...

    def built_alone(self, codes: Codes) -> Masks:
        """Which codes (m,) are of copies that the host has to build."""
        ...

    def build(self, codes: Codes) -> Inputs:
        """One batch of copies."""
        ...

    def order_of(self, copy: Copy) -> Order | Subsets:
        """The order of a copy's sample."""
        ...
