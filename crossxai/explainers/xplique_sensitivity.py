"""Xplique's sensitivity analysis on any model: its own designs and estimators, every score from the question."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np

from crossxai.attribution import Needs, Profile
from crossxai.errors import InvalidInput, UnknownName
from crossxai.explainers.method import Answer
from crossxai.explainers.xplique_bridge import XpliqueMethod, score
from crossxai.model import Array
from crossxai.process import require
from crossxai.question import Question

SAMPLERS = {
    "sobol": "TFSobolSequence",
    "scipy_sobol": "ScipySobolSequence",
    "halton": "HaltonSequence",
    "latin_hypercube": "LatinHypercube",
}
PERTURBATIONS = ("inpainting", "blurring", "amplitude")


@dataclass(frozen=True, kw_only=True)
class _Sensitivity(XpliqueMethod):
    """grid: cells along each side of an image. designs: points of the design. perturbation: what a mask m in [0, 1] does to
    an image x: "inpainting" x · m, "blurring" x · m + blur(x) · (1 - m) with a box of 10 pixels, "amplitude" x · (m - 0.5).
    sampler: "sobol", "scipy_sobol", "halton" (the same design for every sample) or "latin_hypercube" (drawn for each sample
    by its name and `seed`).

    Images only: Xplique cuts them into a grid of squares. Bicubic resize of the grid. At most 4 · batch_size copies exist at
    once. There is no canonical profile: no other library has the method.
    """

    family: ClassVar = "perturbation"
    needs: ClassVar[Needs] = "scores"
    kinds: ClassVar = ("image",)
    profiles: ClassVar[tuple[Profile, ...]] = ("native",)
    estimators: ClassVar[dict[str, str]]
    dimensions: ClassVar[int]
    """Coordinates of the design per cell."""

    grid: int = 8
    designs: int = 32
    perturbation: str = "inpainting"
    sampler: str = "sobol"
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for kind, given, known in (
            ("perturbation", self.perturbation, PERTURBATIONS),
            ("sampler", self.sampler, tuple(SAMPLERS)),
            ("estimator", self.estimator, tuple(self.estimators)),  # type: ignore[attr-defined]
        ):
            if given not in known:
                raise UnknownName(f"{kind} of {self.name}", given, known)
        if self.grid < 1 or self.designs < 2:
            given = f"grid {self.grid}, designs {self.designs}"
            raise InvalidInput(f"{self.name}: grid ≥ 1 and designs ≥ 2 are needed, got {given}")
        most = int((1111 / self.dimensions) ** 0.5)
        if self.sampler == "sobol" and self.grid > most:
            raise InvalidInput(
                f"{self.name}: TensorFlow's Sobol sequence has 1111 dimensions, enough for a grid of {most}, got {self.grid}: "
                'write sampler = "scipy_sobol"'
            )

    def _explain(self, library: Any, question: Question, rows: Array) -> Answer:
        _, values = question.one
        parts = require("xplique.attributions.global_sensitivity_analysis", "xplique", self.name)
        if self.sampler != "latin_hypercube":
            return (self._method(parts, question, self._sampler(parts))(values, rows).numpy(),), {}
        maps = []
        for row in range(len(question)):
            sampler = self._sampler(parts)
            # The library seeds it with nothing at all, and its own wrapper passes no seed on.
            draw = sampler.qmc.LatinHypercube
            rng = question.rng(row, self.seed)
            sampler.qmc = SimpleNamespace(LatinHypercube=lambda d, draw=draw, rng=rng: draw(d, seed=rng))
            maps.append(self._method(parts, question, sampler)(values[row : row + 1], rows[row : row + 1]).numpy())
        return (np.concatenate(maps),), {}

    def _options(self, question: Question) -> dict[str, Any]:
        return {
            "operator": score,
            "batch_size": 4 * question.batch_size,
            "grid_size": self.grid,
            "nb_design": self.designs,
            "perturbation_function": self.perturbation,
        }

    def _sampler(self, parts: Any) -> Any:
        raise NotImplementedError

    def _method(self, parts: Any, question: Question, sampler: Any) -> Any:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Sobol(_Sensitivity):
    __doc__ = f"""Total Sobol indices of the cells of a grid: the share of the score's variance that a cell has a hand in (Fel et
    al. 2021). designs: a power of two; estimator: "jansen", "homma", "janon", "glen" or "saltelli".

    {_Sensitivity.__doc__}"""

    name: ClassVar = "xplique.sobol"
    summary: ClassVar = "total Sobol indices of the cells of a grid"
    reference: ClassVar = "Fel et al. 2021"
    conventions: ClassVar = {"native": "share of the variance under continuous masks, bicubic resize"}
    estimators: ClassVar = {
        kind: f"{kind.capitalize()}Estimator" for kind in ("jansen", "homma", "janon", "glen", "saltelli")
    }
    dimensions: ClassVar = 2

    estimator: str = "jansen"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.designs & (self.designs - 1):
            raise InvalidInput(f"{self.name}: designs is a power of two, got {self.designs}")

    def passes(self, question: Question) -> tuple[int, int]:
        return self.designs * (self.grid**2 + 2), 0

    def _sampler(self, parts: Any) -> Any:
        return getattr(parts, f"{SAMPLERS[self.sampler]}RS")()

    def _method(self, parts: Any, question: Question, sampler: Any) -> Any:
        estimator = _sobol_estimator(self.estimators[self.estimator])
        return parts.SobolAttributionMethod(None, sampler=sampler, estimator=estimator, **self._options(question))


@cache
def _sobol_estimator(kind: str) -> Any:
    """Kept, because every instance is compiled again."""
    return getattr(require("xplique.attributions.global_sensitivity_analysis", "xplique", "Sobol indices"), kind)()


@dataclass(frozen=True, kw_only=True)
class Hsic(_Sensitivity):
    __doc__ = f"""Dependence of the score on the cells of a grid, by the Hilbert-Schmidt independence criterion (Novello et al.
    2022). estimator: the kernel of the masks, "binary" (then they are rounded to 0 and 1), "rbf" or "sobolev".

    The width of the output's kernel is the median score, and not, as usual, the median distance of scores: the map changes if
    a constant is added to the score, and is NaN where the median is 0. The estimator's matrices hold 2²⁴ numbers at most,
    but at least designs².

    {_Sensitivity.__doc__}"""

    name: ClassVar = "xplique.hsic"
    summary: ClassVar = "dependence of the score on the cells of a grid"
    reference: ClassVar = "Novello et al. 2022"
    conventions: ClassVar = {"native": "Hilbert-Schmidt criterion, width the median score, bicubic resize"}
    estimators: ClassVar = {"binary": "BinaryEstimator", "rbf": "RbfEstimator", "sobolev": "SobolevEstimator"}
    dimensions: ClassVar = 1

    designs: int = 500
    estimator: str = "binary"

    def passes(self, question: Question) -> tuple[int, int]:
        return self.designs, 0

    def _sampler(self, parts: Any) -> Any:
        return getattr(parts, SAMPLERS[self.sampler])(binary=self.estimator == "binary")

    def _method(self, parts: Any, question: Question, sampler: Any) -> Any:
        return parts.HsicAttributionMethod(
            None,
            sampler=sampler,
            estimator=getattr(parts, self.estimators[self.estimator])(),
            estimator_batch_size=max(1, 2**24 // self.designs**2),
            **self._options(question),
        )
