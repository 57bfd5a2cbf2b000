"""The grid pointing game: whose picture, of four put together, does a map point at?"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from crossxai.attribution import Attribution, Axis, Explainer, Range, Scores
from crossxai.errors import CrossXAIError, ModelFailed, Unsupported
from crossxai.evaluation.curves import ranks
from crossxai.evaluation.metrics.families import ReexplainingMetric, blocks, generators, with_values
from crossxai.evaluation.metrics.localisation import Masks, pointing, relevance_mass
from crossxai.model import Array, Modality
from crossxai.question import Question


@dataclass(frozen=True, kw_only=True)
class GridPointing(ReexplainingMetric):
    """Share of positive relevance in a sample's own cell of a 2 × 2 mosaic with samples of other classes; higher is better.

    Parameters
    ----------
    mosaic : {"double", "same"}
        "double", the published one, is twice as high and wide, for models that take any size. "same" halves each image by
        averaging 2 × 2 pixels, for all models: the model then sees what it was not trained on, and values lie far below those
        of the published one.

    Notes
    -----
    Each sample is put into a cell drawn for it; the others hold samples explained for other classes, all different where
    there are enough, drawn from those of the question, which should be ones that the model is sure of. Chance is 1/4.
    extras: "hit", 1 where the own cell has more positive relevance than any other, and "pointing", 1 where the most
    relevant pixel lies in it; ties count by fractions, and chance is 1/4 of both. NaN where the mosaic's map has no
    positive relevance or is not finite, and where the map of the sample itself is not finite: that explainer has already
    failed.
    """

    mosaic: Literal["same", "double"] = "double"

    name: ClassVar[str] = "grid_pointing"
    higher_is_better: ClassVar[bool] = True
    axis: ClassVar[Axis] = "localisation"
    range: ClassVar[Range] = (0.0, 1.0)
    source: ClassVar[str] = "Böhle et al. 2021"
    contrasts: ClassVar[bool] = True
    sees_whole: ClassVar[bool] = True
    together: ClassVar[bool] = True

    def check(self, question: Question) -> None:
        super().check(question)
        modality = self.modality_of(question)
        if modality.kind != "image":
            raise Unsupported(f"{self.name} puts images together; {modality.name!r} has axes {modality.axes}")
        if question.target.weights.ndim != 2:
            raise Unsupported(f"{self.name} needs one class per sample, the target weighs a map of outputs")
        space = ranks.space_of(question, modality)
        if self.mosaic == "same" and (space[0] % 2 or space[1] % 2):
            raise Unsupported(f"{self.name} halves images, {space[0]} × {space[1]} is odd: write mosaic='double'")
        if len(classes := _classes(question.whole)) and classes.max() == 0:
            raise Unsupported(f"{self.name} needs samples explained for different classes; all are of one")

    def measure(self, question: Question, attribution: Attribution, modality: Modality, explainer: Explainer) -> Scores:
        plan = self.plan(question)
        value, hit, pointed = np.empty((3, len(question)))
        for rows in blocks(question, explainer):
            mosaics = self.mosaics(question.whole, modality, plan[rows])
            mosaic = with_values(question[rows], modality, mosaics)
            relevance = self.units_of(mosaic, self._explain(explainer, mosaic), modality)
            own = plan[rows] == _places(question)[rows, None]
            height, width = relevance.shape[1] // 2, relevance.shape[2] // 2
            mask = own.reshape(-1, 2, 2).repeat(height, axis=1).repeat(width, axis=2)
            value[rows], pointed[rows] = relevance_mass(relevance, mask), pointing(relevance, mask)
            hit[rows] = _hits(relevance, own)
        usable = ranks.usable(self.units_of(question, attribution, modality)) & np.isfinite(value)
        extras = {"hit": np.where(usable, hit, np.nan), "pointing": np.where(usable, pointed, np.nan)}
        return self.scores(np.where(usable, value, np.nan), chance=np.full(len(question), 0.25), **extras)

    def _explain(self, explainer: Explainer, mosaic: Question) -> Attribution:
        """The explainer's map; a framework's error about a size that its network cannot take becomes a refusal."""
        if self.mosaic == "same":
            return explainer(mosaic)
        try:
            return explainer(mosaic)
        except _of_shapes() as error:
            if isinstance(error, CrossXAIError) and not isinstance(error, ModelFailed):
                raise
            raise Unsupported(
                f"{self.name}: model {mosaic.model.name!r} cannot take images twice as high and wide: write mosaic='same' "
                f"({str(error).partition(chr(10))[0]})"
            ) from error

    def plan(self, question: Question) -> np.typing.NDArray[np.intp]:
        """Which sample of the whole question is in which cell of each sample's mosaic, (n, 4): row by row, itself once."""
        whole = question.whole
        classes = _classes(whole)
        # In the order of their names, so that the order of the question does not matter.
        named = np.array(sorted(range(len(whole)), key=lambda i: whole.ids[i]), dtype=np.intp)
        plan = np.empty((len(question), 4), dtype=np.intp)
        for row, (place, rng) in enumerate(zip(_places(question), generators(question, self.seed), strict=True)):
            others = rng.permutation(named[classes[named] != classes[place]])
            first = np.sort(np.unique(classes[others], return_index=True)[1])
            ordered = np.concatenate([others[first], np.delete(others, first)])
            cell = int(rng.integers(4))
            plan[row] = np.insert(np.resize(ordered, 3), cell, place)
        return plan

    def mosaics(self, question: Question, modality: Modality, plan: np.typing.NDArray[np.intp]) -> Array:
        """The mosaics (m, height, width, channels) of a plan (m, 4)."""
        values = ranks.values_of(question, modality)
        cells = [self._cell(values[plan[:, cell]]) for cell in range(4)]
        return np.concatenate([np.concatenate(cells[:2], axis=2), np.concatenate(cells[2:], axis=2)], axis=1)

    def _cell(self, images: Array) -> Array:
        if self.mosaic == "double":
            return images
        n, height, width, channels = images.shape
        halves = images.reshape(n, height // 2, 2, width // 2, 2, channels)
        return np.asarray(halves.mean(axis=(2, 4)), dtype=images.dtype)


def _of_shapes() -> tuple[type[Exception], ...]:
    """What torch and Keras raise for a wrong shape, TensorFlow out of its graphs, and some of ours."""
    tensorflow = sys.modules.get("tensorflow")
    errors = (CrossXAIError, RuntimeError, ValueError)
    return errors if tensorflow is None else (*errors, tensorflow.errors.OpError)


def _places(question: Question) -> np.typing.NDArray[np.intp]:
    """Where each sample stands in the whole question."""
    places = {name: place for place, name in enumerate(question.whole.ids)}
    return np.array([places[name] for name in question.ids], dtype=np.intp)


def _classes(question: Question) -> np.typing.NDArray[np.intp]:
    """A number per sample, the same for samples explained for the same class."""
    return np.unique(question.target.weights, axis=0, return_inverse=True)[1].reshape(-1)


def _hits(relevance: Array, own: Masks) -> Array:
    """1 where the own cell (m, 4) of each mosaic has the most positive relevance (m, height, width); of tied cells its part."""
    m, height, width = relevance.shape
    positive = np.maximum(relevance.astype(np.float64), 0)
    cells = positive.reshape(m, 2, height // 2, 2, width // 2).sum(axis=(2, 4)).reshape(m, 4)
    most = cells >= cells.max(axis=1, keepdims=True) * (1 - 1e-9)
    return np.asarray((most & own).sum(axis=1) / np.maximum(most.sum(axis=1), 1))
