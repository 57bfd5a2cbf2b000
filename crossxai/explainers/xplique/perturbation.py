"""Xplique's masks on any model: occlusion and RISE, every score from the question."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from crossxai.attribution import Profile
from crossxai.errors import InvalidInput, Unsupported
from crossxai.explainers.families import WindowMethod
from crossxai.explainers.method import Maps, Passes
from crossxai.explainers.xplique import XpliqueMethod, score, seeded
from crossxai.model import Array
from crossxai.question import Question


@dataclass(frozen=True, kw_only=True)
class Occlusion(WindowMethod, XpliqueMethod):
    """Drop of the score when a sliding patch is replaced by `baseline` (Zeiler & Fergus 2014).

    Native: Xplique's 3 × 3 patches at stride 3 (in tables, 3 columns), overlapping drops summed, an uncovered border left at
    0. Canonical: divided by the number of patches over each pixel, and the patches must cover the image exactly; in tables
    one column at a time.
    """

    name: ClassVar = "xplique.occlusion"
    summary: ClassVar = "score drop under a sliding patch"
    family: ClassVar = "perturbation"
    reference: ClassVar = "Zeiler & Fergus 2014"
    conventions: ClassVar = {
        "native": "overlapping patches summed, an uncovered border left at 0",
        "canonical": "overlapping patches averaged",
    }
    needs: ClassVar = "scores"

    patch: int = 3
    stride: int = 3

    def _window(self, question: Question) -> tuple[tuple[int, ...], int, int]:
        """(the space it slides over, patch, stride)."""
        modality, values = question.one
        if modality.spatial:
            return values.shape[1:-1], self.patch, self.stride
        return values.shape[1:], *((self.patch, self.stride) if self.profile == "native" else (1, 1))

    def passes(self, question: Question) -> Passes:
        space, patch, stride = self._window(question)
        return 1 + math.prod((size - patch) // stride + 1 for size in space), 0

    def _explain(self, library: Any, question: Question, rows: Array) -> Maps:
        modality, values = question.one
        space, patch, stride = self._window(question)
        self.check_space(question, tables=self.profile == "native")
        method = library.Occlusion(
            None,
            operator=score,
            batch_size=question.batch_size,
            patch_size=patch,
            patch_stride=stride,
            occlusion_value=self.baseline,
        )
        if self.profile == "canonical" and any((size - patch) % stride for size in space):
            raise Unsupported(
                f"{self.name}, profile canonical: patches of {patch} at stride {stride} leave a border of {space} "
                "uncovered; choose them so that (size - patch) is a multiple of stride"
            )
        maps = method(values, rows).numpy()
        if self.profile == "canonical":
            masks = library.Occlusion._get_masks(values.shape[1:], method.patch_size, method.patch_stride).numpy()
            count = masks.sum(axis=0).astype(np.float32)
            maps = maps / (count[..., None] if modality.spatial else count)
        return (maps,), {}


@dataclass(frozen=True, kw_only=True)
class Rise(XpliqueMethod):
    """Mean of random masks, weighted by the score under each (Petsiuk et al. 2018), one sample and one seed at a time.

    Xplique draws one crop per batch of 32 masks, the most copies that exist at once, and divides by the sum of the masks;
    there is no canonical profile, since the paper's one crop per mask does not exist in Xplique.

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

    name: ClassVar = "xplique.rise"
    summary: ClassVar = "mean of random masks weighted by their scores"
    family: ClassVar = "perturbation"
    reference: ClassVar = "Petsiuk et al. 2018"
    conventions: ClassVar = {"native": "one crop per batch of 32 masks, divided by the sum of the masks"}
    needs: ClassVar = "scores"
    profiles: ClassVar[tuple[Profile, ...]] = ("native",)

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

    def _explain(self, library: Any, question: Question, rows: Array) -> Maps:
        (values,) = question.values
        method = library.Rise(
            None,
            operator=score,
            nb_samples=self.samples,
            grid_size=self.grid,
            preservation_probability=self.keep,
            mask_value=self.baseline,
        )
        maps = []
        for row in range(len(question)):
            with seeded(library.Rise, int(question.rng(row, self.seed).integers(2**31))):
                maps.append(method(values[row : row + 1], rows[row : row + 1]).numpy())
        return (np.concatenate(maps),), {}
