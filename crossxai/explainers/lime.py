"""LIME on any model: the lime library's own sampling and regression, scores from the question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from crossxai.errors import InvalidInput
from crossxai.explainers.coalitions import lime_samples
from crossxai.explainers.groups import groups
from crossxai.explainers.method import Answer, Method, Passes
from crossxai.explainers.patching import patched
from crossxai.model import Array, to_unit_interval
from crossxai.process import require
from crossxai.question import Question

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Image(Method):
    """Weights of a linear model over segments that are shown or hidden (Ribeiro et al. 2016), painted on the segments.

    Native: the library's quickshift(4, 200, 0.2), 1000 samples, hidden segments filled with their own mean colour, cosine
    distance of the binary samples, width 0.25, Ridge(1). Canonical: the same distance, kernel and regression, segments and
    binary samples that depend on the sample's name and the seed alone, hidden segments filled with `fill` (0, black, unless
    given), no feature selection. segmentation: quickshift, slic, felzenszwalb, grid or the path of a .npz file, with `patch`
    as in `crossxai.explainers.groups`. lime itself takes 1 or 3 channels; with other numbers its segmentation and its mean
    colours, which know three, are ours for all. The extra `r2` (n,) is the weighted fit of the linear model.
    """

    name: ClassVar = "lime.image"
    library: ClassVar = "lime"
    summary: ClassVar = "local linear model over image segments"
    needs: ClassVar = "scores"
    fits: ClassVar = True
    family: ClassVar = "surrogate"
    reference: ClassVar = "Ribeiro et al. 2016"
    kinds: ClassVar = ("image",)
    conventions: ClassVar = {
        "native": "hidden segments filled with their mean colour, cosine distance, width 0.25, Ridge(1)",
        "canonical": "hidden segments filled with one value, cosine distance, width 0.25, Ridge(1), no feature selection",
    }

    samples: int = 1000
    segmentation: str = "quickshift"
    patch: int = 16
    fill: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.samples < 2:
            raise InvalidInput(f"{self.name}: samples must be at least 2, got {self.samples}")
        known = ("quickshift", "slic", "felzenszwalb", "grid")
        if self.segmentation not in known and not self.segmentation.endswith(".npz"):
            given = repr(self.segmentation)
            raise InvalidInput(
                f"{self.name}: segmentation is one of {', '.join(known)}, or a .npz file's path, got {given}"
            )
        if self.patch < 1:
            raise InvalidInput(f"{self.name}: patch must be at least 1, got {self.patch}")

    def passes(self, question: Question) -> Passes:
        return self.samples, 0

    def explain(self, question: Question) -> Answer:
        library = require("lime.lime_image", "lime", self.name)
        _, values = question.one
        maps = np.zeros((*values.shape[:3], 1), np.float32)
        fit = np.zeros(len(values))
        with patched(
            [library], tqdm=lambda rows: rows
        ):  # its progress bar, one per image, has no option to turn it off
            for row in range(len(values)):
                maps[row, ..., 0], fit[row] = self._one(library, question, row)
        return (maps,), {"r2": fit}

    def _one(self, library: Any, question: Question, row: int) -> tuple[npt.NDArray[np.float64], float]:
        rng = question.rng(row, self.seed)
        modality, image = question.modalities[0], question.values[0][row]
        channels = image.shape[-1]
        canonical = self.profile == "canonical"
        # lime's own segmentation wherever it has one: it draws its seed.
        given = canonical or self.segmentation != "quickshift" or channels not in (1, 3)
        grey = channels == 1 and not canonical  # lime makes colours of grey

        def scores(images: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
            copies = (images[..., :1] if grey else images).astype(image.dtype)
            return question.score((copies,), np.full(len(copies), row))[:, None]

        kind = library.LimeImageExplainer
        fill = 0.0 if canonical and self.fill is None else self.fill
        if fill is None and channels not in (1, 3):
            kind, fill = _mean_filled(kind), 0.0
        state = np.random.RandomState(0 if canonical else rng.integers(2**32))  # lime takes no Generator
        seed = 0 if canonical else int(rng.integers(1000))
        if given:
            segments = groups(question, row, self.segmentation, self.patch, self.seed)[0][..., 0]
        else:  # as the library calls it, with the image in [0, 1]
            own = library.SegmentationAlgorithm("quickshift", kernel_size=4, max_dist=200, ratio=0.2, random_seed=seed)
            inside = to_unit_interval(image, modality)
            segments = own(np.repeat(inside, 3, axis=-1) if grey else inside)
        explainer = kind(
            feature_selection="none" if canonical else "auto",
            random_state=state,
        )
        if canonical:
            explainer.random_state = _Drawn(lime_samples(rng, self.samples, int(segments.max()) + 1))
        answer = explainer.explain_instance(
            np.repeat(image, 3, axis=-1) if grey else image,
            scores,
            labels=(0,),
            top_labels=None,
            hide_color=fill,
            num_samples=self.samples,
            batch_size=question.batch_size,
            segmentation_fn=lambda _image: segments,
            random_seed=seed,
        )
        weights = np.zeros(int(answer.segments.max()) + 1)
        for segment, weight in answer.local_exp[0]:
            weights[segment] = weight
        fit = answer.score[0] if isinstance(answer.score, dict) else answer.score
        return weights[answer.segments], float(fit)


class _Drawn:
    """Answers lime's one call, `randint(0, 2, size)`, with samples drawn before."""

    def __init__(self, samples: Labels) -> None:
        self.samples = samples

    def randint(self, _low: int, _high: int, _size: int) -> Labels:
        return self.samples.reshape(-1)


def _mean_filled(kind: Any) -> Any:
    """lime's explainer with hidden segments filled with their mean over every channel, of which it knows three."""

    class MeanFilled(kind):  # type: ignore[misc]
        def data_labels(
            self, image: Array, fudged_image: Array, segments: Labels, *arguments: Any, **options: Any
        ) -> Any:
            for segment in np.unique(segments):
                fudged_image[segments == segment] = image[segments == segment].mean(axis=0)
            return super().data_labels(image, fudged_image, segments, *arguments, **options)

    return MeanFilled
