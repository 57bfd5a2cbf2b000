"""The referee's methods that hide parts of the input: windows, random masks, and groups of entries (LIME, Shapley values). Where
the model runs on a device, the same copies are made there, see `device_copies`."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from crossxai.errors import InvalidInput, Unsupported
from crossxai.explainers.device_copies import group_scorer, masked_sum, window_scores
from crossxai.explainers.families import GroupMethod, RiseMethod, Window, WindowMethod, bilinear
from crossxai.explainers.groups import Labels, count, groups, lime_samples, shap_coalitions, spread
from crossxai.explainers.method import Maps, Passes, explainer, profiles
from crossxai.explainers.reference import Referee
from crossxai.model import Array, Inputs
from crossxai.question import Question, Rows


@explainer("reference.occlusion", "score drop under a sliding window", "Zeiler & Fergus 2014")
@profiles(canonical="overlapping windows averaged, a clipped window at the border")
class Occlusion(Referee, WindowMethod, needs="scores", family="perturbation"):
    """Drop of the score when a sliding window is replaced by `baseline` (Zeiler & Fergus 2014), all channels at once.

    Each pixel has the mean drop of the windows over it; the last window of a row is clipped, so that the border is
    covered. Columns of a table are hidden one at a time; one modality is occluded at a time.
    """

    def explain(self, question: Question) -> Maps:
        self.check_space(question)
        pairs = list(zip(question.modalities, question.values, strict=True))
        every = [self.windows(modality, values) for modality, values in pairs]
        there = window_scores(question, every, self.baseline)
        scores: Array = self._scores(question, every) if there is None else there
        drops = iter(scores[0] - scores[1:])
        maps: list[Array] = []
        for (modality, values), windows in zip(pairs, every, strict=True):
            shape = (*values.shape[1:-1], 1) if modality.spatial else values.shape[1:]
            total, count = np.zeros((len(question), *shape)), np.zeros(shape)
            for window in windows:
                total[(slice(None), *window)] += next(drops).reshape(-1, *[1] * len(shape))
                count[window] += 1
            maps.append((total / count).astype(values.dtype))
        return tuple(maps), {}

    def _scores(self, question: Question, every: list[list[Window]]) -> Array:
        """Scores (1 + windows, n): untouched, and with one window of one modality filled at a time."""
        n, scores = len(question), [question.score()[None]]
        for place, windows in enumerate(every):
            rows = np.tile(np.arange(n), len(windows))

            def occluded(part: Rows, place: int = place, windows: list[Window] = windows, rows: Rows = rows) -> Inputs:
                copies = [v[rows[part]] for v in question.values]
                for copy, position in zip(copies[place], part, strict=True):
                    copy[windows[position // n]] = self.baseline
                return tuple(copies)

            scores.append(question.score_stream(rows, occluded).reshape(len(windows), n))
        return np.concatenate(scores)


@explainer("reference.rise", "mean of random masks weighted by their scores", "Petsiuk et al. 2018")
@profiles(canonical="one crop per mask, divided by samples times keep")
class Rise(Referee, RiseMethod, needs="scores", family="perturbation", kinds=("image", "volume"), joint=False):
    """Mean of random masks, weighted by the score under each (Petsiuk et al. 2018, eq. 6).

    A mask is a binary pattern, enlarged bilinearly to (grid + 1) cells and cropped at a random offset of up to one cell, every
    mask with a crop of its own (section 3.2). The sum is divided by samples · keep.
    """

    def explain(self, question: Question) -> Maps:
        _, values = question.one
        space = values.shape[1:-1]
        if self.grid > min(space):
            raise InvalidInput(
                f"{self.name}: grid {self.grid} is finer than the {question.modalities[0].kind}'s {space} pixels"
            )
        maps = np.zeros((*values.shape[:-1], 1), values.dtype)
        cells = tuple(math.ceil(size / self.grid) for size in space)
        for row in range(len(values)):
            rng = question.rng(row, self.seed)
            patterns = (rng.random((self.samples, *(self.grid for _ in space))) < self.keep).astype(values.dtype)
            corners = rng.integers(0, cells, (self.samples, len(space)))
            total = masked_sum(question, row, patterns, corners, cells, self.baseline)
            if total is None:
                total = self._sum(question, row, patterns, corners, cells)
            maps[row, ..., 0] = total / (self.samples * self.keep)
        return (maps,), {}

    def _sum(self, question: Question, row: int, patterns: Array, corners: Rows, cells: tuple[int, ...]) -> Numbers:
        """sum(score · mask) (*space) over the masks of one sample."""
        image = question.values[0][row]
        total = np.zeros(image.shape[:-1])
        for start in range(0, self.samples, question.batch_size):
            part = slice(start, start + question.batch_size)
            masks = self._masks(patterns[part], corners[part], cells, total.shape)
            shown = masks[..., None] * image + (1 - masks[..., None]) * image.dtype.type(self.baseline)
            total += np.tensordot(question.score((shown,), np.full(len(shown), row)), masks, axes=1)
        return total

    def _masks(self, patterns: Array, corners: Rows, cells: tuple[int, ...], space: tuple[int, ...]) -> Array:
        large = bilinear(patterns, *((self.grid + 1) * cell for cell in cells))
        crops = [tuple(slice(at, at + size) for at, size in zip(corner, space, strict=True)) for corner in corners]
        return np.stack([mask[crop] for mask, crop in zip(large, crops, strict=True)])


@explainer("reference.drise", "RISE as detectors are explained: of how well a box is found", "Petsiuk et al. 2021")
@profiles(canonical="one crop per mask, divided by samples times keep")
class DRise(Rise):
    """Mean of random masks, weighted by how well a detector still finds a box under each (Petsiuk et al. 2021, D-RISE).

    `reference.rise` with the paper's finer masks and more of them; what a box scores is said by the target, `xai.Box`. Of any
    other target it is RISE.
    """

    samples: int = 5000
    grid: int = 16
    keep: float = 0.5


Numbers = npt.NDArray[np.float64]

LIMIT = 12
"""The most groups whose coalitions are all scored: 2¹² = 4096 passes per sample."""


@dataclass(frozen=True, kw_only=True)
class _Groups(Referee, GroupMethod, needs="scores"):
    """What methods share that show and hide groups of entries."""

    def explain(self, question: Question) -> Maps:
        columns: list[tuple[Array, ...]] = []
        for row in range(len(question)):
            labels = self._labels(question, row)
            columns.append(spread(self._weights(question, row, labels), labels))
        stacked = [np.stack(column) for column in zip(*columns, strict=True)]
        return tuple(s.astype(v.dtype) for s, v in zip(stacked, question.values, strict=True)), {}

    def _labels(self, question: Question, row: int) -> tuple[Labels, ...]:
        return groups(question, row, self.segmentation, self.patch)

    def _weights(self, question: Question, row: int, labels: tuple[Labels, ...]) -> Numbers:
        """One weight per group of this sample."""
        raise NotImplementedError

    def _scores(self, question: Question, row: int, labels: tuple[Labels, ...], shown: Labels) -> Numbers:
        """Scores (m,) of one sample with the groups of each coalition (m, groups) shown and the others at `baseline`."""
        there = group_scorer(question, row, labels, self.baselines(question))
        if there is not None:
            return there(shown)
        scores = question.score_stream(
            np.full(len(shown), row),
            lambda part: tuple(
                np.where(shown[part][:, numbers] == 1, values[row], values.dtype.type(self.baseline))
                for values, numbers in zip(question.values, labels, strict=True)
            ),
        )
        return scores.astype(np.float64)


@explainer("reference.lime", "local linear model over segments", "Ribeiro et al. 2016")
@profiles(canonical="cosine distance of binary samples, kernel exp(-d²/2w²) with w = 0.25, Ridge(1)")
class Lime(_Groups, family="surrogate", joint=False, fits=True, least={"samples": 2}):
    """Weights of a linear model of the score over groups shown or hidden (Ribeiro et al. 2016, eq. 1 and 2).

    Binary samples drawn from the sample's name and the seed, the first showing everything; weighted by exp(-d² / 2w²),
    w = 0.25, of their cosine distance d to it; ridge regression with penalty 1 and an intercept.
    """

    segmentation: str = ""
    samples: int = 1000
    seed: int = 0

    def _labels(self, question: Question, row: int) -> tuple[Labels, ...]:
        return groups(question, row, self.segmentation, self.patch, self.seed)

    def _weights(self, question: Question, row: int, labels: tuple[Labels, ...]) -> Numbers:
        z = lime_samples(question.rng(row, self.seed), self.samples, count(labels))
        y = self._scores(question, row, labels, z)
        shown = z.sum(axis=1)
        distance = 1 - shown / np.sqrt(np.maximum(shown, 1) * z.shape[1])  # 1 for a sample that shows nothing
        weight = np.exp(-(distance**2) / (2 * 0.25**2))
        centred = z - np.average(z, axis=0, weights=weight)
        gram = centred.T @ (weight[:, None] * centred) + np.eye(z.shape[1])
        solved = np.linalg.solve(gram, centred.T @ (weight * (y - np.average(y, weights=weight))))
        return np.asarray(solved)


@explainer("reference.shapley", "exact Shapley values of groups", "Shapley 1953")
@profiles(canonical="every coalition, hidden groups filled with one value")
class Shapley(_Groups, family="Shapley"):
    """Shapley values of groups by full enumeration (Shapley 1953): a group's mean gain over all orders of joining.

    Every coalition is scored, so at most 12 groups (nine of a 96 × 96 image, with the default patch); they add up to
    score(input) - score(baseline).
    """

    patch: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.segmentation not in ("grid", "scalars", "modalities"):
            raise InvalidInput(
                f"{self.name}: the number of coalitions must be known beforehand, and segmentation "
                f"{self.segmentation!r} depends on the image: write grid, scalars or modalities"
            )

    def passes(self, question: Question) -> Passes:
        number = self.group_count(question)
        if number > LIMIT:
            raise Unsupported(
                f"{self.name} asks for every coalition of at most {LIMIT} groups, here are {number} (2^{number} passes per "
                "sample): choose a larger patch, or reference.kernel_shap"
            )
        return 2**number, 0

    def explain(self, question: Question) -> Maps:
        self.passes(question)
        return super().explain(question)

    def _weights(self, question: Question, row: int, labels: tuple[Labels, ...]) -> Numbers:
        number = count(labels)
        coalitions = np.arange(2**number)  # bit i says whether group i is in
        shown = coalitions[:, None] >> np.arange(number) & 1
        scores = self._scores(question, row, labels, shown)
        sizes = shown.sum(axis=1)
        share = np.array([1 / (number * math.comb(number - 1, size)) for size in range(number)])
        values = np.zeros(number)
        for group in range(number):
            without = coalitions[shown[:, group] == 0]
            values[group] = (share[sizes[without]] * (scores[without | 1 << group] - scores[without])).sum()
        return values


@explainer(
    "reference.kernel_shap", "Shapley values of groups by regression on random coalitions", "Lundberg & Lee 2017"
)
@profiles(canonical="coalitions drawn from the Shapley kernel, both ends met exactly")
class KernelShap(_Groups, family="Shapley", fits=True, least={"samples": 1}):
    """Shapley values of groups by regression on drawn coalitions (Lundberg & Lee 2017, theorem 2).

    Coalitions are drawn from the Shapley kernel and so weigh the same; score(baseline) and score(input) are met exactly.

    Parameters
    ----------
    samples : int, default 1000
        Coalitions drawn, beside everything and nothing.
    """

    samples: int = 1000
    seed: int = 0

    def passes(self, question: Question) -> Passes:
        return self.samples + 2, 0

    def _weights(self, question: Question, row: int, labels: tuple[Labels, ...]) -> Numbers:
        number = count(labels)
        drawn = shap_coalitions(question.rng(row, self.seed), self.samples, number)
        ends = np.stack([np.zeros(number, np.int64), np.ones(number, np.int64)])
        scores = self._scores(question, row, labels, np.concatenate([ends, drawn]))
        return shapley_regression(drawn, np.ones(self.samples), scores[2:], scores[0], scores[1])


def shapley_regression(shown: Labels, weights: Numbers, scores: Numbers, empty: float, full: float) -> Numbers:
    """The phi (groups,) that minimises sum(weights · (empty + shown · phi - scores)²) with sum(phi) = full - empty.
    shown: coalitions (m, groups), neither the empty nor the full one. The shortest of several such phi."""
    even = (full - empty) / shown.shape[1]
    rest = scores - empty - shown.sum(axis=1) * even
    within = shown - shown.mean(axis=1, keepdims=True)  # what differs from `even` adds up to nothing
    root = np.sqrt(weights)
    return np.asarray(even + np.linalg.lstsq(root[:, None] * within, root * rest, rcond=None)[0])
