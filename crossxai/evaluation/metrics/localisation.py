"""How much of a map lies where the evidence is known to be: inside a mask, or at the centre of a patch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from crossxai.attribution import Attribution, Axis, Range, Scores
from crossxai.errors import InvalidInput
from crossxai.evaluation.curves import ranks
from crossxai.evaluation.metrics.families import MapMetric, Numbers
from crossxai.model import Array, Modality
from crossxai.question import Question
from crossxai.target import SampleMasks, as_mask

Masks = npt.NDArray[np.bool_]


def relevance_mass(relevance: Array, masks: Masks) -> Numbers:
    """Share of positive relevance (n, *space) inside masks (n, *space), (n,) in [0, 1]; negative relevance counts as 0.

    NaN where there is no positive relevance, the mask is empty, or the map is not finite.
    """
    flat, inside = flattened(relevance, masks)
    positive = np.where(defined(flat, inside)[:, None], np.maximum(flat, 0), 0)
    positive /= np.where(positive.any(axis=1), positive.max(axis=1), 1)[:, None]  # sums of huge values stay finite
    total = positive.sum(axis=1)
    return np.where(total > 0, (positive * inside).sum(axis=1) / np.where(total > 0, total, 1), np.nan)


def pointing(relevance: Array, masks: Masks) -> Numbers:
    """Whether the largest relevance (n, *space) is inside masks (n, *space), 1 or 0; of tied maxima, the fraction inside.

    Without the tolerance of Zhang et al. 2018. NaN where the mask is empty or the map is not finite.
    """
    flat, inside = flattened(relevance, masks)
    highest = flat == flat.max(axis=1, keepdims=True)
    hits = (highest & inside).sum(axis=1) / np.maximum(highest.sum(axis=1), 1)
    return np.where(defined(flat, inside), hits, np.nan)


def centre_mask(space: tuple[int, ...], size: int) -> Masks:
    """A mask (*space) of the central size × size pixels, of volumes size³; the first of the middles if parities differ."""
    if not isinstance(size, int) or not 1 <= size <= min(space):
        kind, unit = ("image", "pixels") if len(space) == 2 else ("volume", "voxels")
        wanted, given = (" × ".join(map(str, sizes)) for sizes in ([size] * len(space), space))
        raise InvalidInput(f"the centre of a {given} {kind} cannot be {wanted} whole {unit}")
    mask = np.zeros(space, dtype=bool)
    mask[tuple(slice((length - size) // 2, (length - size) // 2 + size) for length in space)] = True
    return mask


@dataclass(frozen=True, kw_only=True)
class Region(MapMetric):
    """A metric that compares a map with a region.

    Notes
    -----
    The region's share of the area is extras["area_share"] for metrics that are a share of the positive relevance,
    extras["chance"] for others that chance gives it to, extras["mask_area"] for the rest. extras["degenerate"] is 1 for maps
    that are not finite or constant.
    """

    higher_is_better: ClassVar[bool] = True
    axis: ClassVar[Axis] = "localisation"
    range: ClassVar[Range] = (0.0, 1.0)
    area_as: ClassVar[str] = "area_share"

    def __call__(self, question: Question, attribution: Attribution) -> Scores:
        """Scores (n,) in [0, 1]; no forward pass."""
        modality = self.modality_of(question)
        relevance = self.units_of(question, attribution, modality)
        masks = np.broadcast_to(self._masks(question, modality), relevance.shape)
        extras: dict[str, Array] = {
            self.area_as: masks.reshape(len(masks), -1).mean(axis=1),
            "degenerate": ranks.degenerate(relevance),
        }
        scores = self._measured(relevance, masks)
        return replace(scores, extras={**extras, **scores.extras}, params=self._params(question, modality))

    def measure(self, relevance: Array, masks: Masks) -> Numbers:
        """The scores (n,) of maps (n, *space) and masks (n, *space)."""
        return relevance_mass(relevance, masks)

    def _measured(self, relevance: Array, masks: Masks) -> Scores:
        return self.scores(self.measure(relevance, masks))

    def _masks(self, question: Question, modality: Modality) -> Masks:
        raise NotImplementedError

    def _params(self, question: Question, modality: Modality) -> dict[str, Any]:
        params = super()._params(question, modality)
        return {name: value for name, value in params.items() if name not in ("masks", "ids")}

    def _centre(self, question: Question, modality: Modality, size: int, ids: tuple[str, ...]) -> Masks:
        """The centre (n, *space) of the samples that are meant; an empty mask makes the others undefined."""
        meant = np.isin(np.array(question.ids), np.array(ids)) if ids else np.ones(len(question), bool)
        centre = centre_mask(self.space_of(question, modality), size)
        return meant.reshape(-1, *[1] * centre.ndim) & centre

    def _given(self, question: Question, modality: Modality, masks: npt.ArrayLike, ids: tuple[str, ...]) -> Masks:
        return SampleMasks(masks, ids).of(question.ids, ranks.space_of(question, modality), self.name)


@dataclass(frozen=True)
class CentreShare(Region):
    """Share of positive relevance in the central size × size pixels; higher is better where the label is decided there.

    Parameters
    ----------
    ids : tuple of str
        The samples that it is meant for, such as PatchCamelyon's positives, whose tumour the centre holds; others have no value.
        All samples if empty.
    """

    size: int = 32
    ids: tuple[str, ...] = ()

    name: ClassVar[str] = "centre_share"
    source: ClassVar[str] = "ours; mass as in Arras et al. 2022"

    def _masks(self, question: Question, modality: Modality) -> Masks:
        return self._centre(question, modality, self.size, self.ids)


@dataclass(frozen=True, eq=False)
class Masked(Region):
    """A metric that compares a map with each sample's own mask.

    Parameters
    ----------
    masks : array, (n, *space) in the question's order, or (*space) for all samples; booleans, or 0 and 1
    ids : tuple of str
        The samples' names of the masks; with them each sample finds its own mask, also in a subset or another order.
    """

    masks: npt.ArrayLike
    ids: tuple[str, ...] = ()

    def _masks(self, question: Question, modality: Modality) -> Masks:
        return self._given(question, modality, self.masks, self.ids)


@dataclass(frozen=True, eq=False)
class MaskShare(Masked):
    """Share of positive relevance inside each sample's mask; higher is better where the mask marks the evidence.

    Notes
    -----
    This is Relevance Mass Accuracy.
    """

    name: ClassVar[str] = "mask_share"
    source: ClassVar[str] = "Arras et al. 2022"


@dataclass(frozen=True, eq=False)
class Pointing(Region):
    """Whether the most relevant unit is inside the mask, or the central size × size pixels without one; higher is better.

    Parameters
    ----------
    masks : array or None
        (n, *space) in the question's order, or (*space) for all samples; booleans, or 0 and 1. None for the centre.
    ids : tuple of str, the samples' names of the masks; without masks, the samples that have a value, all if empty

    Notes
    -----
    Chance gives the share of the area that the region has: a ninth for the centre 32 × 32 of 96 × 96.
    """

    masks: npt.ArrayLike | None = None
    ids: tuple[str, ...] = ()
    size: int = 32

    name: ClassVar[str] = "pointing"
    source: ClassVar[str] = "Zhang et al. 2018"
    invariant_to: ClassVar[str] = "order"

    def measure(self, relevance: Array, masks: Masks) -> Numbers:
        return pointing(relevance, masks)

    def _masks(self, question: Question, modality: Modality) -> Masks:
        if self.masks is None:
            return self._centre(question, modality, self.size, self.ids)
        return self._given(question, modality, self.masks, self.ids)

    def _params(self, question: Question, modality: Modality) -> dict[str, Any]:
        params = super()._params(question, modality)
        return {name: value for name, value in params.items() if name != "size" or self.masks is None}


def flattened(relevance: Array, masks: Masks) -> tuple[Numbers, Masks]:
    """Maps and masks (n, *space) as (n, units)."""
    if np.shape(masks) != relevance.shape:
        raise InvalidInput(f"maps of shape {relevance.shape} need masks of the same shape, got {np.shape(masks)}")
    n = len(relevance)
    return relevance.reshape(n, -1).astype(np.float64), as_mask(masks).reshape(n, -1)


def defined(flat: Numbers, inside: Masks) -> Masks:
    """Whether each sample has a finite map and a mask that is not empty, (n,)."""
    return np.asarray(np.isfinite(flat).all(axis=1) & inside.any(axis=1))
