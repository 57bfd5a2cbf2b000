"""Masks of samples that stay with their samples: in a subset, in another order, and as a parameter that can be compared."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

from crossxai.errors import InvalidInput
from crossxai.question import Question

Masks = npt.NDArray[np.bool_]


class SampleMasks:
    """values (n, *space) in the question's order, or (*space) for all samples; non-zero inside.

    ids: the samples' names of the masks; with them each sample finds its own mask, also in a subset or another order.
    """

    def __init__(self, values: npt.ArrayLike, ids: tuple[str, ...] = ()) -> None:
        given = np.asarray(values)
        if given.dtype.kind not in "buif" or not np.isfinite(given).all():
            raise InvalidInput("masks must be numbers, non-zero inside and none of them NaN or infinite")
        self.values: Masks = given != 0
        self.ids = ids
        self.values.flags.writeable = False

    def of(self, question: Question, space: tuple[int, ...], who: str) -> Masks:
        """The masks of a question's samples, (n, *space) or (*space); raises `InvalidInput` in the name of `who`."""
        inside, ids = self.values, self.ids
        if ids:
            if len(ids) != len(inside):
                raise InvalidInput(f"{who}: {len(inside)} masks for {len(ids)} ids")
            places = {name: i for i, name in enumerate(ids)}
            if len(places) < len(ids):
                twice = sorted({name for name in ids if ids.count(name) > 1})
                raise InvalidInput(f"{who}: several masks of one id ({', '.join(twice[:3])}): give each sample one")
            missing = [name for name in question.ids if name not in places]
            if missing:
                raise InvalidInput(f"{who}: no mask for samples {', '.join(missing[:3])}")
            inside = inside[[places[name] for name in question.ids]]
        if inside.shape not in (space, (len(question), *space)):
            raise InvalidInput(f"{who}: masks have shape {inside.shape}, expected {(len(question), *space)} or {space}")
        return inside

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, SampleMasks):
            return NotImplemented
        return self.ids == other.ids and np.array_equal(self.values, other.values)

    def __hash__(self) -> int:
        return hash(repr(self))

    def __deepcopy__(self, memo: dict[int, Any]) -> SampleMasks:
        return self  # nothing in it changes

    def __repr__(self) -> str:
        digest = hashlib.sha256(self.values.tobytes() + repr(self.ids).encode()).hexdigest()
        return f"masks {' × '.join(str(size) for size in self.values.shape)}, sha256 {digest[:16]}"
