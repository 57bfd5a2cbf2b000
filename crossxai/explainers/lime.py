"""LIME on any model: the lime library's own sampling and regression, scores from the question."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from crossxai.errors import InvalidInput, Unsupported
from crossxai.explainers.coalitions import lime_samples
from crossxai.explainers.groups import groups
from crossxai.explainers.method import Answer, Method, Passes
from crossxai.process import require
from crossxai.question import Question


@dataclass(frozen=True, kw_only=True)
class Image(Method):
    """Weights of a linear model over segments that are shown or hidden (Ribeiro et al. 2016), painted on the segments.

    Native: the library's quickshift(4, 200, 0.2), 1000 samples, hidden segments filled with their own mean colour, cosine
    distance of the binary samples, width 0.25, Ridge(1). Canonical: the same distance, kernel and regression; segments of
    `groups.groups`, binary samples of `coalitions.lime_samples`, hidden segments filled with `fill` (0, black, unless given),
    no feature selection. The extra `r2` (n,) is the weighted fit of the linear model.
    """

    name: ClassVar = "lime.image"
    library: ClassVar = "lime"
    summary: ClassVar = "local linear model over image segments"
    needs: ClassVar = "scores"
    family: ClassVar = "surrogate"
    reference: ClassVar = "Ribeiro et al. 2016"
    kinds: ClassVar = ("image",)

    samples: int = 1000
    fill: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples < 2:
            raise InvalidInput(f"{self.name}: samples must be at least 2, got {self.samples}")

    def passes(self, question: Question) -> Passes:
        return self.samples, 0

    def explain(self, question: Question) -> Answer:
        library = require("lime.lime_image", "lime", self.name)
        _, values = question.one
        if values.shape[-1] not in (1, 3):
            raise Unsupported(f"{self.name} explains images with 1 or 3 channels, not {values.shape[-1]}")
        maps = np.zeros((*values.shape[:3], 1), np.float32)
        fit = np.zeros(len(values))
        with _quiet(library):
            for row in range(len(values)):
                maps[row, ..., 0], fit[row] = self._one(library, question, row)
        return (maps,), {"r2": fit}

    def _one(self, library: Any, question: Question, row: int) -> tuple[npt.NDArray[np.float64], float]:
        rng = question.rng(row, self.seed)
        image = question.values[0][row]
        channels = image.shape[-1]

        def scores(images: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
            copies = images[..., :channels].astype(image.dtype)
            return question.score((copies,), np.full(len(copies), row))[:, None]

        canonical = self.profile == "canonical"
        explainer = library.LimeImageExplainer(
            feature_selection="none" if canonical else "auto",
            random_state=np.random.RandomState(rng.integers(2**32)),  # lime takes no Generator
        )
        segments: npt.NDArray[np.int64] | None = None
        if canonical:
            segments = groups(question, row, "quickshift", seed=self.seed)[0][..., 0]
            shown = lime_samples(question.rng(row, self.seed), self.samples, int(segments.max()) + 1)
            explainer.random_state = _Drawn(shown)
        answer = explainer.explain_instance(
            np.repeat(image, 3, axis=-1) if channels == 1 else image,
            scores,
            labels=(0,),
            top_labels=None,
            hide_color=0.0 if canonical and self.fill is None else self.fill,
            num_samples=self.samples,
            batch_size=question.batch_size,
            segmentation_fn=None if segments is None else lambda _image: segments,
            random_seed=int(rng.integers(1000)),
        )
        weights = np.zeros(int(answer.segments.max()) + 1)
        for segment, weight in answer.local_exp[0]:
            weights[segment] = weight
        fit = answer.score[0] if isinstance(answer.score, dict) else answer.score
        return weights[answer.segments], float(fit)


class _Drawn:
    """Answers lime's one call, `randint(0, 2, size)`, with binary samples drawn already."""

    def __init__(self, shown: npt.NDArray[np.int64]) -> None:
        self.shown = shown

    def randint(self, _low: int, _high: int, _size: int) -> npt.NDArray[np.int64]:
        return self.shown.ravel()


@contextmanager
def _quiet(library: Any) -> Iterator[None]:
    """Without lime's own progress bar, one per image, which it has no option to turn off."""
    bar = library.tqdm
    library.tqdm = lambda rows: rows
    try:
        yield
    finally:
        library.tqdm = bar
