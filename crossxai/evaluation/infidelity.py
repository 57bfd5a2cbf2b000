"""Infidelity: the mean squared error with which a map predicts how the score answers to perturbations.

Yeh et al. 2019 (NeurIPS; arXiv:1901.09392), definition 2.1: E over I of (I · map - (score(x) - score(x - I)))².
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt

from crossxai.attribution import Attribution
from crossxai.errors import InvalidInput, Unsupported
from crossxai.evaluation import baselines, ranking
from crossxai.evaluation.removal import Maker, Removal, score_copies
from crossxai.evaluation.unit_metric import Found, Numbers, Range, UnitMetric
from crossxai.model import Array, Inputs, Modality
from crossxai.question import Question, Rows

Perturbation = Literal["square", "subset", "noise"]
Reading = Literal["contributions", "gradients"]
Normalise = Literal["positive", "signed", "none"]


@dataclass(frozen=True, kw_only=True)
class Infidelity(UnitMetric):
    """Mean squared error of the score's change that a map predicts for random perturbations; lower is better.

    perturbation: "square" removes one square of pixels, its side drawn from 1 to `share` of the shorter side and its place
    from all places; "subset" removes each unit with probability `share`; "noise" subtracts Gaussian noise of standard
    deviation `sd`, in raw units. fill: what replaces removed units, see `baselines`. samples: perturbations per sample.
    reading: "contributions" for maps in units of the score (integrated gradients, input × gradient, Shapley values), where
    I counts which units go; "gradients" for maps in score per input (saliency), where I is the change of the input itself,
    channel by channel: such a map needs all channels. Noise needs gradients.
    normalise: "positive" first multiplies the map by the number of at least 0 that suits it best, so that maps in other units
    than the score's can be compared; "signed" by the best number of all (Yeh et al., their code; Captum's `normalize`), which
    forgives a map that is upside down; "none" takes the map as it is, which only means something in the score's units. A map
    that predicts nothing, such as zero, gets the mean square of the changes.
    """

    samples: int = 64
    perturbation: Perturbation = "square"
    share: float = 0.5
    sd: float = 0.1
    fill: baselines.FillLike = "zero"
    reading: Reading = "contributions"
    normalise: Normalise = "positive"

    name: ClassVar[str] = "infidelity"
    higher_is_better: ClassVar[bool] = False
    invariant_to: ClassVar[str] = "scale"
    range: ClassVar[Range] = (0.0, None)
    source: ClassVar[str] = "Yeh et al. 2019"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._whole("samples")
        self._share("share", whole=True)
        self._one_of("perturbation", get_args(Perturbation))
        self._one_of("reading", get_args(Reading))
        if isinstance(self.sd, bool) or not isinstance(self.sd, int | float) or not 0 < self.sd < np.inf:
            raise InvalidInput(f"{self.name}: sd must be a positive number, got {self.sd!r}")
        self._one_of("normalise", get_args(Normalise))
        if self.normalise == "none":
            object.__setattr__(self, "invariant_to", "nothing")
        if self.perturbation == "noise" and self.reading == "contributions":
            raise InvalidInput(
                f"{self.name}: noise changes inputs by amounts, which a map of contributions says nothing of: "
                "write reading='gradients', or perturbation='subset'"
            )
        object.__setattr__(self, "fill", baselines.resolve(self.fill))

    def passes(self, question: Question) -> int:
        return 1 + self.samples

    def _relevance(self, question: Question, attribution: Attribution, modality: Modality) -> Array:
        relevance = ranking.units(question, attribution, modality, self.reduction)
        if self.reading == "contributions":
            return relevance
        values = attribution.of(modality.name)
        if values.shape[-1] != len(modality.features):
            raise Unsupported(
                f"{self.name}: reading='gradients' needs one value per channel, {attribution.explainer} gives one per "
                "pixel: use the explainer's native profile, or write reading='contributions'"
            )
        return np.broadcast_to(values, question.only(modality.name).values[0].shape)

    def _measure(self, question: Question, modality: Modality, relevance: Array, rows: Rows) -> Found:
        removal = Removal(question, (modality,), (self.fill,))
        if self.perturbation == "square" and modality.kind != "image":
            raise Unsupported(
                f"{self.name} cuts squares out of 2-D images; modality {modality.name!r} is a {modality.kind}: "
                "write perturbation='subset'"
            )
        predicted: dict[int, Numbers] = {}

        def sample(row: int) -> Maker:
            flat = relevance[row].reshape(-1).astype(np.float64)
            if self.perturbation == "noise":
                noise = self.noise(question, row)
                predicted[row] = noise.reshape(self.samples, -1) @ flat
                return _moved(question.values[0][row], noise)
            masks = self.masks(question, row)
            maker = removal.maker(row, np.concatenate([np.zeros((1, removal.units), dtype=bool), masks]))
            if self.reading == "contributions":
                predicted[row] = np.array([flat[mask].sum() for mask in masks])
            else:
                own = question.values[0][row].astype(np.float64)
                copies = (maker(np.array([j + 1]))[0][0] for j in range(self.samples))
                predicted[row] = np.array([(own - copy).reshape(-1) @ flat for copy in copies])
            return maker

        found = score_copies(question, rows, [1 + self.samples] * len(rows), sample)
        value = [self._error(predicted[row], s[0] - s[1:]) for row, s in zip(rows.tolist(), found, strict=True)]
        return Found(np.array(value, dtype=np.float64))

    def _error(self, predicted: Numbers, drops: Numbers) -> float:
        if self.normalise != "none":
            square = float((predicted**2).sum())
            best = float((predicted * drops).sum()) / square if square > 0 else 0.0
            predicted = predicted * (max(best, 0.0) if self.normalise == "positive" else best)
        return float(((predicted - drops) ** 2).mean())

    def masks(self, question: Question, row: int) -> npt.NDArray[np.bool_]:
        """What "square" and "subset" remove of one sample, (samples, units)."""
        modality = question.modalities[0]
        space, rng = ranking.space_of(question, modality), question.rng(row, self.seed)
        if self.perturbation == "subset":
            return np.asarray(rng.random((self.samples, int(np.prod(space)))) < self.share)
        masks = np.zeros((self.samples, *space), dtype=bool)
        largest = max(1, round(self.share * min(space)))
        for mask in masks:
            side = int(rng.integers(1, largest, endpoint=True))
            top, left = (int(rng.integers(0, length - side, endpoint=True)) for length in space)
            mask[top : top + side, left : left + side] = True
        return masks.reshape(self.samples, -1)

    def noise(self, question: Question, row: int) -> Numbers:
        """What "noise" subtracts from one sample, (samples, *axes)."""
        shape = question.values[0].shape[1:]
        return np.asarray(self.sd * question.rng(row, self.seed).standard_normal((self.samples, *shape)))


def _moved(own: Array, noise: Numbers) -> Maker:
    """The sample itself, then less each noise."""

    def make(numbers: Rows) -> Inputs:
        copies = np.repeat(own[None], len(numbers), axis=0)
        moved = numbers > 0
        copies[moved] -= noise[numbers[moved] - 1].astype(own.dtype)
        return (copies,)

    return make
