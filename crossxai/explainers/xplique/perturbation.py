"""Xplique's masks on any model: occlusion, RISE and sensitivity analysis by its own designs; every score from the question."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, partial
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from crossxai.errors import InvalidInput, Unsupported
from crossxai.explainers.families import RiseMethod, WindowMethod
from crossxai.explainers.method import NATIVE, Maps, Passes, explainer, profiles
from crossxai.explainers.xplique import NumberedQuestion, XpliqueMethod, seeded
from crossxai.process import require
from crossxai.question import Question


@explainer("xplique.occlusion", "score drop under a sliding patch", "Zeiler & Fergus 2014")
@profiles(native="overlapping patches summed, an uncovered border left at 0", canonical="overlapping patches averaged")
class Occlusion(WindowMethod, XpliqueMethod, needs="scores", family="perturbation"):
    """Drop of the score when a sliding patch is replaced by `baseline` (Zeiler & Fergus 2014).

    Native: Xplique's 3 × 3 patches at stride 3 (in tables, 3 columns), overlapping drops summed, an uncovered border left at
    0. Canonical: divided by the number of patches over each pixel, and the patches must cover the image exactly; in tables
    one column at a time.
    """

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

    def _explain(self, library: Any, question: Question, asked: NumberedQuestion) -> Maps:
        modality, values = question.one
        space, patch, stride = self._window(question)
        self.check_space(question, tables=self.profile == "native")
        method = library.Occlusion(
            None,
            operator=asked.operator,
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
        maps = method(values, asked.rows).numpy()
        if self.profile == "canonical":
            masks = library.Occlusion._get_masks(values.shape[1:], method.patch_size, method.patch_stride).numpy()
            count = masks.sum(axis=0).astype(np.float32)
            maps = maps / (count[..., None] if modality.spatial else count)
        return (maps,), {}


@explainer("xplique.rise", "mean of random masks weighted by their scores", "Petsiuk et al. 2018")
@profiles(native="one crop per batch of 32 masks, divided by the sum of the masks")
class Rise(RiseMethod, XpliqueMethod, needs="scores", family="perturbation"):
    """Mean of random masks, weighted by the score under each (Petsiuk et al. 2018), one sample and one seed at a time.

    Xplique draws one crop per batch of 32 masks, the most copies that exist at once, and divides by the sum of the masks;
    there is no canonical profile, since the paper's one crop per mask does not exist in Xplique.
    """

    def _explain(self, library: Any, question: Question, asked: NumberedQuestion) -> Maps:
        (values,) = question.values
        method = library.Rise(
            None,
            operator=asked.operator,
            nb_samples=self.samples,
            grid_size=self.grid,
            preservation_probability=self.keep,
            mask_value=self.baseline,
        )
        maps = []
        for row in range(len(question)):
            with seeded(library.Rise, int(question.rng(row, self.seed).integers(2**31))):
                maps.append(method(values[row : row + 1], asked.rows[row : row + 1]).numpy())
        return (np.concatenate(maps),), {}


SAMPLERS = {
    "sobol": "TFSobolSequence",
    "scipy_sobol": "ScipySobolSequence",
    "halton": "HaltonSequence",
    "latin_hypercube": "LatinHypercube",
}
SOBOL = {kind: f"{kind.capitalize()}Estimator" for kind in ("jansen", "homma", "janon", "glen", "saltelli")}
HSIC = {kind: f"{kind.capitalize()}Estimator" for kind in ("binary", "rbf", "sobolev")}
PERTURBATIONS = ("inpainting", "blurring", "amplitude")


@dataclass(frozen=True, kw_only=True)
class _Sensitivity(
    XpliqueMethod,
    needs="scores",
    family="perturbation",
    kinds=("image",),
    profiles=NATIVE,
    least={"grid": 1, "designs": 2},
    choices={"perturbation": PERTURBATIONS, "sampler": SAMPLERS},
):
    """What Xplique's sensitivity analyses share.

    Parameters
    ----------
    grid : int, default 8
        Cells along each side of an image.
    designs : int, default 32
        Points of the design, at least 2 (`xplique.sobol`: a power of two).
    perturbation : str, default 'inpainting'
        What a mask m in [0, 1] does to an image x: "inpainting" x · m, "blurring" x · m + blur(x) · (1 - m) with a box of 10
        pixels, "amplitude" x · (m - 0.5).
    sampler : str, default 'sobol'
        "sobol", "scipy_sobol", "halton" (the same design for every sample) or "latin_hypercube" (drawn for each sample).
    seed : int, default 0
        Seeds "latin_hypercube", together with the sample's name.

    Notes
    -----
    Images only: Xplique cuts them into a grid of squares. Bicubic resize of the grid. At most 4 · batch_size copies exist at
    once. There is no canonical profile: no other library has the method.
    """

    dimensions: ClassVar[int]
    """Coordinates of the design per cell."""
    replicated: ClassVar[str] = ""
    """What the library's samplers of replicated designs have at the end of their names."""

    grid: int = 8
    designs: int = 32
    perturbation: str = "inpainting"
    sampler: str = "sobol"
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        most = int((1111 / self.dimensions) ** 0.5)
        if self.sampler == "sobol" and self.grid > most:
            raise InvalidInput(
                f"{self.name}: TensorFlow's Sobol sequence has 1111 dimensions, enough for a grid of {most}, got {self.grid}: "
                'write sampler = "scipy_sobol"'
            )

    def _explain(self, library: Any, question: Question, asked: NumberedQuestion) -> Maps:
        _, values = question.one
        sampler = f"{SAMPLERS[self.sampler]}{self.replicated}"
        if self.sampler != "latin_hypercube":
            return (self._method(asked, _part(sampler, **self.binary))(values, asked.rows).numpy(),), {}
        maps = []
        for row in range(len(question)):
            drawing = _fresh(sampler, **self.binary)
            # The library gives it no seed, and has no way to.
            draw, rng = drawing.qmc.LatinHypercube, question.rng(row, self.seed)
            drawing.qmc = SimpleNamespace(LatinHypercube=partial(draw, seed=rng))
            maps.append(self._method(asked, drawing)(values[row : row + 1], asked.rows[row : row + 1]).numpy())
        return (np.concatenate(maps),), {}

    @property
    def binary(self) -> dict[str, bool]:
        """What the sampler has to know of the masks."""
        return {}

    def _method(self, asked: NumberedQuestion, sampler: Any) -> Any:
        return _fresh(
            self.original,
            model=None,
            sampler=sampler,
            operator=asked.operator,
            batch_size=4 * asked.question.batch_size,
            grid_size=self.grid,
            nb_design=self.designs,
            perturbation_function=self.perturbation,
            **self._estimation(),
        )

    def _estimation(self) -> dict[str, Any]:
        """The library's estimator, and its options."""
        raise NotImplementedError


def _fresh(kind: str, **options: Any) -> Any:
    """One of the library's samplers, estimators or methods of this family."""
    return getattr(require("xplique.attributions.global_sensitivity_analysis", "xplique", kind), kind)(**options)


_part = cache(_fresh)
"""The same, kept: the library traces and compiles again what each instance computes."""


@explainer("xplique.sobol", "total Sobol indices of the cells of a grid", "Fel et al. 2021")
@profiles(native="share of the variance under continuous masks, bicubic resize")
class Sobol(
    _Sensitivity, original="SobolAttributionMethod", choices={"estimator": SOBOL}, dimensions=2, replicated="RS"
):
    """Total Sobol indices of the cells of a grid: the share of the score's variance that a cell has a hand in (Fel et al. 2021).

    Parameters
    ----------
    estimator : str, default 'jansen'
        "jansen", "homma", "janon", "glen" or "saltelli".
    """

    estimator: str = "jansen"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.designs & (self.designs - 1):
            raise InvalidInput(f"{self.name}: designs is a power of two, got {self.designs}")

    def passes(self, question: Question) -> tuple[int, int]:
        return self.designs * (self.grid**2 + 2), 0

    def _estimation(self) -> dict[str, Any]:
        return {"estimator": _part(SOBOL[self.estimator])}


@explainer("xplique.hsic", "dependence of the score on the cells of a grid", "Novello et al. 2022")
@profiles(native="Hilbert-Schmidt criterion, width the median score, bicubic resize")
class Hsic(_Sensitivity, original="HsicAttributionMethod", choices={"estimator": HSIC}, dimensions=1):
    """Dependence of the score on the cells of a grid, by the Hilbert-Schmidt independence criterion (Novello et al. 2022).

    The width of the output's kernel is the median score, and not, as usual, the median distance of scores: the map changes if
    a constant is added to the score, and is NaN where the median is 0. The estimator's matrices hold 2²⁴ numbers at most,
    but at least designs².

    Parameters
    ----------
    estimator : str, default 'binary'
        The kernel of the masks: "binary" (then they are rounded to 0 and 1), "rbf" or "sobolev".
    """

    designs: int = 500
    estimator: str = "binary"

    def passes(self, question: Question) -> tuple[int, int]:
        return self.designs, 0

    @property
    def binary(self) -> dict[str, bool]:
        return {"binary": self.estimator == "binary"}

    def _estimation(self) -> dict[str, Any]:
        size = max(1, 2**24 // self.designs**2)
        return {"estimator": _fresh(HSIC[self.estimator]), "estimator_batch_size": size}
