"""The referee's methods that hide windows of the input."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from crossxai.errors import InvalidInput
from crossxai.explainers.families import WindowMethod, bilinear
from crossxai.explainers.method import Maps, Passes
from crossxai.explainers.reference import Referee
from crossxai.model import Array, Inputs, Modality
from crossxai.question import Question, Rows

Window = tuple[slice, ...]


@dataclass(frozen=True, kw_only=True)
class Occlusion(Referee, WindowMethod):
    """Drop of the score when a sliding window is replaced by `baseline` (Zeiler & Fergus 2014), all channels at once.

    Each pixel has the mean drop of the windows over it; the last window of a row is clipped, so that the border is
    covered. Columns of a table are hidden one at a time; one modality is occluded at a time.
    """

    name: ClassVar = "reference.occlusion"
    summary: ClassVar = "score drop under a sliding window"
    needs: ClassVar = "scores"
    family: ClassVar = "perturbation"
    reference: ClassVar = "Zeiler & Fergus 2014"
    conventions: ClassVar = {"canonical": "overlapping windows averaged, a clipped window at the border"}

    def passes(self, question: Question) -> Passes:
        pairs = zip(question.modalities, question.values, strict=True)
        return 1 + sum(len(self._windows(modality, values)) for modality, values in pairs), 0

    def explain(self, question: Question) -> Maps:
        self.check_space(question)
        n, untouched = len(question), question.score()
        maps: list[Array] = []
        for place, (modality, values) in enumerate(zip(question.modalities, question.values, strict=True)):
            windows = self._windows(modality, values)
            rows = np.tile(np.arange(n), len(windows))

            def occluded(part: Rows, place: int = place, windows: list[Window] = windows, rows: Rows = rows) -> Inputs:
                copies = [v[rows[part]] for v in question.values]
                for copy, position in zip(copies[place], part, strict=True):
                    copy[windows[position // n]] = self.baseline
                return tuple(copies)

            drops = untouched - question.score_stream(rows, occluded).reshape(len(windows), n)
            shape = (*values.shape[1:-1], 1) if modality.spatial else values.shape[1:]
            total, count = np.zeros((n, *shape)), np.zeros(shape)
            for window, drop in zip(windows, drops, strict=True):
                total[(slice(None), *window)] += drop.reshape(n, *[1] * len(shape))
                count[window] += 1
            maps.append((total / count).astype(values.dtype))
        return tuple(maps), {}

    def _windows(self, modality: Modality, values: Array) -> list[Window]:
        """Slices along each axis of space, or of one column each for a table."""
        if not modality.spatial:
            return [(slice(column, column + 1),) for column in range(values.shape[-1])]
        axes = []
        for size in values.shape[1:-1]:
            count = math.ceil(max(size - self.patch, 0) / self.stride) + 1
            axes.append([slice(i * self.stride, min(i * self.stride + self.patch, size)) for i in range(count)])
        return list(itertools.product(*axes))


@dataclass(frozen=True, kw_only=True)
class Rise(Referee):
    """Mean of random masks, weighted by the score under each (Petsiuk et al. 2018, eq. 6).

    A mask is a binary pattern, enlarged bilinearly to (grid + 1) cells and cropped at a random offset of up to one cell, every
    mask with a crop of its own (section 3.2). The sum is divided by samples · keep.

    Parameters
    ----------
    samples : int, default 4000
        Masks.
    grid : int, default 7
        Cells of a mask along each side.
    keep : float, default 0.5
        Probability of a cell to be shown, between 0 and 1.
    baseline : float, default 0.0
        What hidden entries are filled with, in raw input units (0 is black).
    seed : int, default 0
        Seeds the draws of each sample, together with its name.
    """

    name: ClassVar = "reference.rise"
    summary: ClassVar = "mean of random masks weighted by their scores"
    needs: ClassVar = "scores"
    family: ClassVar = "perturbation"
    reference: ClassVar = "Petsiuk et al. 2018"
    joint: ClassVar = False
    kinds: ClassVar = ("image",)
    conventions: ClassVar = {"canonical": "one crop per mask, divided by samples times keep"}

    samples: int = 4000
    grid: int = 7
    keep: float = 0.5
    baseline: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples < 1 or self.grid < 1 or not 0 < self.keep < 1:
            raise InvalidInput(f"{self.name}: needs samples ≥ 1, grid ≥ 1 and 0 < keep < 1, got {self}")

    def passes(self, question: Question) -> Passes:
        return self.samples, 0

    def explain(self, question: Question) -> Maps:
        _, values = question.one
        maps = np.zeros((*values.shape[:3], 1), values.dtype)
        for row, image in enumerate(values):
            rng = question.rng(row, self.seed)
            if self.grid > min(image.shape[:2]):
                raise InvalidInput(f"{self.name}: grid {self.grid} is finer than the image's {image.shape[:2]} pixels")
            cells = tuple(math.ceil(size / self.grid) for size in image.shape[:2])
            patterns = (rng.random((self.samples, self.grid, self.grid)) < self.keep).astype(values.dtype)
            corners = rng.integers(0, cells, (self.samples, 2))
            total = np.zeros(image.shape[:2])
            for start in range(0, self.samples, question.batch_size):
                part = slice(start, start + question.batch_size)
                masks = self._masks(patterns[part], corners[part], cells, image.shape[:2])
                shown = masks[..., None] * image + (1 - masks[..., None]) * values.dtype.type(self.baseline)
                total += np.tensordot(question.score((shown,), np.full(len(shown), row)), masks, axes=1)
            maps[row, ..., 0] = total / (self.samples * self.keep)
        return (maps,), {}

    def _masks(self, patterns: Array, corners: Rows, cells: tuple[int, ...], space: tuple[int, ...]) -> Array:
        large = bilinear(patterns, (self.grid + 1) * cells[0], (self.grid + 1) * cells[1])
        return np.stack([mask[y : y + space[0], x : x + space[1]] for mask, (y, x) in zip(large, corners, strict=True)])
