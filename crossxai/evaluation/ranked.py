"""A map as an order of removal: pixels with all their channels, single elements, patches, or segments."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from crossxai.attribution import Attribution, Reduction
from crossxai.errors import Unsupported
from crossxai.evaluation import ranking
from crossxai.evaluation.steps import Counts, Rule
from crossxai.model import Array, Modality
from crossxai.question import Question

Unit = Literal["pixel", "element", "patch", "segment"]
Order = Literal["morf", "lerf"]
Reducing = Reduction | Literal["channels_abs_sum"]


class Ranking(NamedTuple):
    """One order of units: of which attribution's map, and how it was made."""

    attribution: int
    modality: str
    reduction: Reducing
    seed: int
    ties: ranking.Ties = "seeded"
    unit: Unit = "pixel"
    size: int = 0
    order: Order = "morf"


class Ranked:
    """The maps (n, *space) of one attribution as positions (pixels, columns or elements) in order of removal, per sample.

    Patches and segments rank by the mean relevance of their pixels, and each comes and goes whole; the positions within one
    keep raster order. Elements are numbered channels first, as libraries that rank them do, which decides their ties.
    """

    def __init__(self, question: Question, attribution: Attribution, modality: Modality, key: Ranking) -> None:
        self.question, self.key = question, key
        self.values = question.inputs[[m.name for m in question.model.modalities].index(modality.name)]
        if key.unit in ("patch", "segment") and not modality.spatial:
            raise Unsupported("a table has no patches or segments: write unit='pixel', which removes columns")
        self.relevance = self._relevance(attribution, modality)
        self.total = int(np.prod(self.relevance.shape[1:]))
        self._labels: dict[int, npt.NDArray[np.intp]] = {}

    def _relevance(self, attribution: Attribution, modality: Modality) -> Array:
        reduction = self.key.reduction
        if reduction == "channels_abs_sum":
            single = attribution.of(modality.name).shape[-1] == 1
            reduction = "sum" if single and modality.spatial else "abs_sum"
        reduced = ranking.units(self.question, attribution, modality, reduction)
        if self.key.unit != "element" or not modality.spatial:
            return reduced
        whole = np.broadcast_to(attribution.of(modality.name), self.values.shape)
        return whole.astype(np.result_type(whole, np.float32), copy=False)

    def __call__(self, row: int) -> npt.NDArray[np.intp]:
        """Positions (total,) of one sample in the order of removal."""
        labels, relevance = self._grouping(row), self._of(row)
        ranked = ranking.order(self.question, relevance[None], [row], self.key.seed, self.key.ties)[0]
        if labels is None:
            if self.key.unit == "element" and self.relevance.ndim > 2:
                channels = self.relevance.shape[-1]
                channel, pixel = np.divmod(ranked, self.total // channels)
                return np.asarray(pixel * channels + channel)
            return np.asarray(ranked)
        place = np.empty(len(ranked), np.intp)
        place[ranked] = np.arange(len(ranked))
        return np.argsort(place[labels], kind="stable")

    def counts(self, row: int, rule: Rule) -> Counts:
        """How many positions of a sample are changed at each point."""
        labels, relevance = self._grouping(row), self._of(row)
        points = rule.counts(relevance)
        if labels is None:
            return points
        ranked = ranking.order(self.question, relevance[None], [row], self.key.seed, self.key.ties)[0]
        return np.concatenate([[0], np.cumsum(np.bincount(labels)[ranked])]).astype(np.intp)[points]

    def _of(self, row: int) -> Array:
        """Relevance (units,) of one sample, the first to go being the largest."""
        values = self.relevance[row]
        if self.key.unit == "element":
            values = np.moveaxis(values, -1, 0)
        flat = np.ascontiguousarray(values).ravel()
        labels = self._grouping(row)
        if labels is not None:
            flat = ranking.means(flat, labels)
        return -flat if self.key.order == "lerf" else flat

    def _grouping(self, row: int) -> npt.NDArray[np.intp] | None:
        if self.key.unit in ("pixel", "element"):
            return None
        place = row if self.key.unit == "segment" else 0
        if place not in self._labels:
            found = _segments(self.values[row], self.key.size) if self.key.unit == "segment" else self._patches()
            self._labels[place] = np.unique(found, return_inverse=True)[1].ravel().astype(np.intp)
        return self._labels[place]

    def _patches(self) -> npt.NDArray[np.intp]:
        """Number of each pixel's patch; patches at the far borders are cut."""
        index: Any = 0
        for axis, length in enumerate(self.relevance.shape[1:]):
            along = np.arange(length) // self.key.size
            shape = [1] * (self.relevance.ndim - 1)
            shape[axis] = length
            index = index * (along[-1] + 1) + along.reshape(shape)
        return np.asarray(index, dtype=np.intp)


def _segments(image: Array, wanted: int) -> npt.NDArray[np.intp]:
    """SLIC superpixels (Achanta et al. 2012), as IROF uses them (Rieger and Hansen 2020, arXiv:2003.08747)."""
    from skimage.segmentation import slic

    low, high = float(image.min()), float(image.max())
    scaled = (image - low) / (high - low) if high > low else np.zeros_like(image)
    return np.asarray(slic(scaled, n_segments=wanted, start_label=0, channel_axis=-1), dtype=np.intp)
