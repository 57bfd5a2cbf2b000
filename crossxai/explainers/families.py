"""What families of methods share, whichever library computes: paths, windows, groups, noise, and enlarging a small map."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from crossxai.errors import InvalidInput
from crossxai.explainers.groups import Labels, check_segmentation, count, groups
from crossxai.explainers.method import Method, Passes
from crossxai.model import Array, Inputs, Modality
from crossxai.question import Question, Rows
from crossxai.resizing import bilinear as bilinear

Window = tuple[slice, ...]


@dataclass(frozen=True, kw_only=True)
class PathMethod(Method, copied_by="steps", least={"steps": 2}):
    """What integrated gradients share, whichever library walks the path.

    Parameters
    ----------
    steps : int, default 50
        Points on the path, at least 2.
    baseline : float, default 0.0
        Where the path starts: one value for every input entry, in raw input units (0 is black).
    """

    steps: int = 50
    baseline: float = 0.0

    def passes(self, question: Question) -> Passes:
        return self.steps + 2, self.steps  # two more for the completeness gap

    def completeness_gap(self, question: Question, total: Array) -> Array:
        """total (n,), the sum of each map, minus score(input) - score(baseline): 0 for an exact integral."""
        start = tuple(np.full_like(v, self.baseline) for v in question.values)
        return np.asarray(total - (question.score() - question.score(start, np.arange(len(question)))))


@dataclass(frozen=True, kw_only=True)
class WindowMethod(Method):
    """What occlusion shares, whichever library slides the window.

    Parameters
    ----------
    patch : int, default 16
        Side of the window in pixels (columns, for tables), along every axis of a volume.
    stride : int, default 8
        Step of the window in pixels, at most `patch`.
    """

    patch: int = 16
    stride: int = 8
    baseline: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.stride <= self.patch:
            raise InvalidInput(f"{self.name}: 0 < stride ≤ patch is needed, got {self.stride} and {self.patch}")

    def windows(self, modality: Modality, values: Array) -> list[Window]:
        """Slices along each axis of space, the last one clipped at the border, or of one column each for a table."""
        if not modality.spatial:
            return [(slice(column, column + 1),) for column in range(values.shape[-1])]
        axes = []
        for size in values.shape[1:-1]:
            count = math.ceil(max(size - self.patch, 0) / self.stride) + 1
            axes.append([slice(i * self.stride, min(i * self.stride + self.patch, size)) for i in range(count)])
        return list(itertools.product(*axes))

    def passes(self, question: Question) -> Passes:
        pairs = zip(question.modalities, question.values, strict=True)
        return 1 + sum(len(self.windows(modality, values)) for modality, values in pairs), 0

    def check_space(self, question: Question, tables: bool = False) -> None:
        """Raise `InvalidInput` if the window is larger than an image (or than a table, where it slides over columns)."""
        for modality, values in zip(question.modalities, question.values, strict=True):
            space = values.shape[1:] if tables and not modality.spatial else values.shape[1:-1]
            if any(size < self.patch for size in space):
                raise InvalidInput(f"{self.name}: patch {self.patch} is larger than modality {modality.name!r} {space}")


@dataclass(frozen=True, kw_only=True)
class RiseMethod(Method, least={"samples": 1, "grid": 1}):
    """What RISE shares, whichever library draws the masks.

    Parameters
    ----------
    samples : int, default 4000
        Masks.
    grid : int, default 7
        Cells of a mask along each side.
    keep : float, default 0.5
        Probability of a cell to be shown, between 0 and 1.
    """

    samples: int = 4000
    grid: int = 7
    keep: float = 0.5
    baseline: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.keep < 1:
            raise InvalidInput(f"{self.name}: 0 < keep < 1 is needed, got {self.keep}")


@dataclass(frozen=True, kw_only=True)
class GroupMethod(Method, least={"patch": 1}):
    """What methods share that switch groups of entries on and off.

    Parameters
    ----------
    segmentation : str, default 'grid'
        How entries are grouped: "grid", "quickshift", "slic", "felzenszwalb", "scalars", "modalities", or the path of a .npz
        file; "" is "quickshift" for images and "slic" for volumes. See `crossxai.explainers.groups.groups`.
    """

    segmentation: str = "grid"
    patch: int = 16
    baseline: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.segmentation:  # "" is what suits images and volumes each
            check_segmentation(self.segmentation, self.name)

    def group_count(self, question: Question) -> int:
        """How many groups each sample has; `InvalidInput` where that depends on the image, and there are several."""
        if self.segmentation not in ("grid", "scalars", "modalities"):
            if len(question) == 1:
                return self.labels(question, 0)[1]
            raise InvalidInput(f"the number of groups of segmentation {self.segmentation!r} depends on the image")
        return count(groups(question, 0, self.segmentation, self.patch))

    def labels(self, question: Question, row: int) -> tuple[tuple[Labels, ...], int]:
        """The group numbers of one sample's entries, and how many groups there are."""
        labels = groups(question, row, self.segmentation, self.patch, getattr(self, "seed", 0))
        return labels, count(labels)

    def baselines(self, question: Question) -> tuple[float, ...]:
        """One fill per free modality, as Captum takes them."""
        return tuple(self.baseline for _ in question.values)

    def alike(self, question: Question) -> Iterator[tuple[Rows, tuple[Labels, ...]]]:
        """Samples with equally many groups, and their group numbers stacked: (m, *space, 1 or channels) per modality."""
        every = [self.labels(question, row) for row in range(len(question))]
        counts = np.array([number for _, number in every])
        for number in np.unique(counts):
            rows = np.flatnonzero(counts == number)
            yield rows, tuple(np.stack(column) for column in zip(*(every[row][0] for row in rows), strict=True))


def noise(question: Question, row: int, samples: int, seed: int) -> tuple[Array, ...]:
    """Standard normal numbers (samples, *shape) for one sample, one array per free modality, in their order."""
    rng = question.rng(row, seed)
    return tuple(rng.normal(size=(samples, *v.shape[1:])).astype(v.dtype) for v in question.values)


def over_channels(question: Question, maps: Sequence[Array], reduce: Callable[..., Array] = np.sum) -> Inputs:
    """Maps of the free modalities, those of images and volumes reduced over their channels to (n, …, 1); tables as they are."""
    by_modality = zip(question.modalities, maps, strict=True)
    return tuple(np.asarray(reduce(v, axis=-1, keepdims=True)) if m.spatial else v for m, v in by_modality)
