"""A map as an order of removal: pixels with all their channels, single elements, patches, or segments."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from crossxai.attribution import Attribution, Reduction
from crossxai.errors import Unsupported
from crossxai.evaluation import ranking
from crossxai.evaluation.baselines import BLOCK
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


Labels = npt.NDArray[np.unsignedinteger[Any]]


class Ranked:
    """The maps (n, *space) of one attribution as positions (pixels, columns or elements) in order of removal, per sample.

    Patches and segments rank by the mean relevance of their pixels, and each comes and goes whole; the positions within one
    keep raster order. Elements are numbered channels first, as libraries that rank them do, which decides their ties.
    labels: segments found so far, shared by the rankings of one modality and size.
    """

    def __init__(
        self,
        question: Question,
        attribution: Attribution,
        modality: Modality,
        key: Ranking,
        labels: dict[int, Labels] | None = None,
    ) -> None:
        self.question, self.key = question, key
        self.attribution, self.modality = attribution, modality
        self.values = question.inputs[[m.name for m in question.model.modalities].index(modality.name)]
        if key.unit in ("patch", "segment") and not modality.spatial:
            raise Unsupported("a table has no patches or segments: write unit='pixel', which removes columns")
        first = self._relevance(slice(0, 1))
        self.space, self.total = first.shape[1:], int(np.prod(first.shape[1:]))
        self.length = max(1, BLOCK // max(self.values[0].size, 1))
        self._start, self._block = 0, first
        self._labels: dict[int, Labels] = {} if labels is None else labels

    def quality(self) -> tuple[npt.NDArray[np.bool_], dict[str, Array], list[bytes]]:
        """Whether each map is finite, (n,), its "tie_rate" and "degenerate", and a digest by which equal maps are known."""
        starts = range(0, len(self.values), self.length)
        digests: list[bytes] = []
        found = []
        for relevance in (self._relevance(slice(start, start + self.length)) for start in starts):
            found.append((ranking.usable(relevance), ranking.tie_rate(relevance), ranking.degenerate(relevance)))
            digests.extend(blake2b(np.ascontiguousarray(one).tobytes(), digest_size=16).digest() for one in relevance)
        usable, ties, degenerate = (np.concatenate(column) for column in zip(*found, strict=True))
        return usable, {"tie_rate": ties, "degenerate": degenerate}, digests

    def _relevance(self, rows: slice) -> Array:
        """Relevance (rows, *space) of some samples, channels included if elements are ranked."""
        reduction = self.key.reduction
        if reduction == "channels_abs_sum":
            single = self.attribution.of(self.modality.name).shape[-1] == 1
            reduction = "sum" if single and self.modality.spatial else "abs_sum"
        reduced = ranking.units(self.question, self.attribution, self.modality, reduction, rows)
        if self.key.unit != "element" or not self.modality.spatial:
            return reduced
        whole = np.broadcast_to(self.attribution.of(self.modality.name)[rows], self.values[rows].shape)
        return whole.astype(np.result_type(whole, np.float32), copy=False)

    def __call__(self, row: int) -> npt.NDArray[np.intp]:
        """Positions (total,) of one sample in the order of removal."""
        labels, relevance = self._grouping(row), self._of(row)
        ranked = ranking.order(self.question, relevance[None], [row], self.key.seed, self.key.ties)[0]
        if labels is None:
            if self.key.unit == "element" and len(self.space) > 1:
                channels = self.space[-1]
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
        if not self._start <= row < self._start + len(self._block):
            start = row - row % self.length
            # The block first: when memory runs out in it, the next try must not take the old one for it.
            self._block, self._start = self._relevance(slice(start, start + self.length)), start
        values = self._block[row - self._start]
        if self.key.unit == "element":
            values = np.moveaxis(values, -1, 0)
        flat = np.ascontiguousarray(values).ravel()
        labels = self._grouping(row)
        if labels is not None:
            flat = ranking.means(flat, labels)
        return -flat if self.key.order == "lerf" else flat

    def _grouping(self, row: int) -> Labels | None:
        if self.key.unit in ("pixel", "element"):
            return None
        place = row if self.key.unit == "segment" else -1
        if place not in self._labels:
            found = _segments(self.values[row], self.key.size) if self.key.unit == "segment" else self._patches()
            labels = np.unique(found, return_inverse=True)[1].ravel()
            self._labels[place] = labels.astype(np.min_scalar_type(int(labels.max())))
        return self._labels[place]

    def _patches(self) -> npt.NDArray[np.intp]:
        """Number of each pixel's patch; patches at the far borders are cut."""
        index: Any = 0
        for axis, length in enumerate(self.space):
            along = np.arange(length) // self.key.size
            shape = [1] * len(self.space)
            shape[axis] = length
            index = index * (along[-1] + 1) + along.reshape(shape)
        return np.asarray(index, dtype=np.intp)


def _segments(image: Array, wanted: int) -> npt.NDArray[np.intp]:
    """SLIC superpixels (Achanta et al. 2012), as IROF uses them (Rieger and Hansen 2020, arXiv:2003.08747)."""
    from skimage.segmentation import slic

    low, high = float(image.min()), float(image.max())
    scaled = (image - low) / (high - low) if high > low else np.zeros_like(image)
    return np.asarray(slic(scaled, n_segments=wanted, start_label=0, channel_axis=-1), dtype=np.intp)
