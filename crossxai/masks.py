"""Masks of samples that stay with their samples: in a subset, in another order, and as a parameter that can be compared."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from crossxai.errors import InvalidInput

if TYPE_CHECKING:
    from crossxai.question import Question

Masks = npt.NDArray[np.bool_]


def boolean(values: npt.ArrayLike, what: str = "masks") -> Masks:
    """A mask given as booleans, or as the numbers 0 and 1.

    Raises `InvalidInput`, which says what to write instead, for anything else: of a label map, a mask of 0 and 255, or a soft
    mask "non-zero" would silently take what was not meant.
    """
    given = np.asarray(values)
    if given.dtype == bool:
        return given
    if given.dtype.kind not in "uif":
        raise InvalidInput(f"{what} are booleans, or the numbers 0 and 1; got {given.dtype}")
    inside = given == 1
    if (inside | (given == 0)).all():
        return np.asarray(inside)
    if not np.isfinite(given).all():
        raise InvalidInput(
            f"{what} are booleans, or 0 and 1, and none of them NaN or infinite: write False or True for each pixel"
        )
    others = np.unique(given)
    others = others[others != 0]
    shown = ", ".join(f"{v:g}" for v in others[:5]) + (" …" if len(others) > 5 else "")
    if (others != np.round(others)).any():
        raise InvalidInput(f"{what} are booleans, or 0 and 1; these hold fractions ({shown}): write mask > 0.5")
    if len(others) == 1:
        raise InvalidInput(f"{what} are booleans, or 0 and 1; these hold 0 and {shown}: write mask == {others[0]:g}")
    raise InvalidInput(
        f"{what} are booleans, or 0 and 1; these look like a label map ({shown}): write label_map == k, such as "
        f"label_map == {others[0]:g}, for the region of label k"
    )


class SampleMasks:
    """values (n, *space) in the question's order, or (*space) for all samples; booleans, or 0 and 1.

    ids: the samples' names of the masks; with them each sample finds its own mask, also in a subset or another order.
    """

    def __init__(self, values: npt.ArrayLike, ids: tuple[str, ...] = ()) -> None:
        self.values: Masks = boolean(values).copy()
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
