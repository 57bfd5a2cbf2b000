"""IROF: iterative removal of features, a whole segment of the image at a time.

Rieger and Hansen 2020 (arXiv:2003.08747), section 3: pixels of a segment stand or fall together, so single pixels that are
missing cannot form patterns that are evidence of their own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from scipy.integrate import trapezoid
from skimage.segmentation import slic

from crossxai.errors import InvalidInput, Unsupported
from crossxai.evaluation import baselines, ranking
from crossxai.evaluation.removal import Removal, counts, first_of
from crossxai.evaluation.unit_metric import Found, UnitMetric
from crossxai.model import Array, Modality, to_unit_interval
from crossxai.question import Question, Rows


@dataclass(frozen=True, kw_only=True)
class Irof(UnitMetric):
    """Area over the score, as a share of its start, while segments go, the most relevant first; higher is better.

    1 - the trapezoid area under score(x without the first l segments) / score(x) over l / L. Segments are SLIC's, about
    `segments` of them, `compactness` in Lab units (other channels than red, green, blue take a hundredth of it), of the image
    with its declared range put to [0, 1]; they are ranked by their mean relevance. steps: at most so many removals, 0 for every
    segment in turn.
    relative: False gives the area of score(x) - score(x without …) instead, for scores that may be negative; with True, a
    sample whose score does not start above 0 is NaN. The curve is of scores, on an even grid of fractions.
    """

    segments: int = 100
    compactness: float = 10.0
    steps: int = 0
    fill: baselines.FillLike = "mean"
    relative: bool = True

    name: ClassVar[str] = "irof"
    higher_is_better: ClassVar[bool] = True
    invariant_to: ClassVar[str] = "scale"
    source: ClassVar[str] = "Rieger and Hansen 2020"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._whole("segments")
        self._whole("steps", 0)
        if isinstance(self.compactness, bool) or not isinstance(self.compactness, int | float) or self.compactness <= 0:
            raise InvalidInput(f"{self.name}: compactness must be a positive number, got {self.compactness!r}")
        if not isinstance(self.relative, bool):
            raise InvalidInput(f"{self.name}: relative must be true or false, got {self.relative!r}")
        object.__setattr__(self, "fill", baselines.resolve(self.fill))

    def passes(self, question: Question) -> int:
        """Of the sample with the most segments; exact for each where `steps` is not above its segments."""
        modality = ranking.modality_of(question, self.modality, self.name)
        found = self._segments(question.only(modality.name), modality, np.arange(len(question)))
        return max(len(self._counts(labels)) for labels in found)

    def _measure(self, question: Question, modality: Modality, relevance: Array, rows: Rows) -> Found:
        removal = Removal(question, (modality,), (self.fill,))
        found = self._segments(question, modality, rows)
        labels = dict(zip(rows.tolist(), found, strict=True))

        def masks(row: int) -> npt.NDArray[np.bool_]:
            mine = labels[row]
            flat = relevance[row].reshape(-1).astype(np.float64)
            mean = ranking.means(flat, mine)
            order = ranking.order(question, mean[None], [row], self.seed)[0]
            return first_of(order, self._counts(mine))[:, mine]

        scores = removal.scores(rows, [len(self._counts(mine)) for mine in found], masks)
        grid = np.linspace(0, 1, (self.steps or self.segments) + 1)
        value, curve = np.full(len(rows), np.nan), np.full((len(rows), len(grid)), np.nan)
        for i, (own, mine) in enumerate(zip(scores, found, strict=True)):
            fractions = self._counts(mine) / (int(mine.max()) + 1)
            curve[i] = np.interp(grid, fractions, own)
            drop = own[0] - trapezoid(own, fractions)
            if not self.relative:
                value[i] = drop
            elif own[0] > 0:
                value[i] = drop / own[0]
        extras = {"segments": np.array([int(mine.max()) + 1.0 for mine in found])}
        return Found(value, curve, grid, extras)

    def _counts(self, labels: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.intp]:
        total = int(labels.max()) + 1
        return counts(total, self.steps or total)

    def _segments(self, question: Question, modality: Modality, rows: Rows) -> list[npt.NDArray[np.integer[Any]]]:
        """Segment numbers 0 … L - 1 (pixels,) of each sample."""
        if modality.kind != "image":
            raise Unsupported(
                f"{self.name} segments 2-D images; modality {modality.name!r} is a {modality.kind}: write 'aopc'"
            )
        colour = modality.features == ("red", "green", "blue")
        compactness = self.compactness if colour else self.compactness / 100
        found = []
        for row in rows.tolist():
            image = to_unit_interval(question.values[0][row], modality).astype(np.float64)
            labels = slic(image, self.segments, compactness, convert2lab=colour, channel_axis=-1, start_label=0)
            numbers = np.unique(labels, return_inverse=True)[1].reshape(-1)
            found.append(numbers.astype(np.min_scalar_type(numbers.max())))  # all samples' are held: as small as can be
        return found
