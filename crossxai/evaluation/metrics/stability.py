"""How steady maps are when the input moves a little, or when the explainer draws anew.

A map that never looks at the model is the steadiest: read these beside the controls, and beside faithfulness."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np

from crossxai.attribution import Attribution, Axis, Explainer, Range, Scores
from crossxai.errors import InvalidInput, Unsupported
from crossxai.evaluation.curves import ranks
from crossxai.evaluation.metrics import similarity
from crossxai.evaluation.metrics.families import ReexplainingMetric, generators, with_values
from crossxai.evaluation.metrics.similarity import Numbers, Similarity
from crossxai.evaluation.parameters import Count, Positive, positive
from crossxai.model import Array, Modality
from crossxai.question import Question

Noise = Literal["normal", "uniform"]
Scale = Literal["raw", "range"] | tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class _Noisy(ReexplainingMetric):
    """A metric of maps of noisy inputs.

    Parameters
    ----------
    draws : int, noisy copies of each sample, each explained once
    size : float, of the noise, in units of `scale`
    noise : {"normal", "uniform"}
        "normal" with standard deviation `size`, or "uniform" in ±`size`, on the measured modality only; noisy values are put
        back into its range, beyond which a model means nothing.
    scale : {"raw", "range"} or tuple of float
        What a size of 1 is. "raw" input units; "range", the width of the modality's declared range, or, where it declares none,
        as tables do, each column's standard deviation over the question's samples (0.01 is nothing for an age in years); or
        numbers of yours, one per channel or column, such as the standard deviations of the training set, which do not depend on
        the question's samples.
    """

    draws: Count = 10
    size: Positive = 0.02
    noise: Noise = "uniform"
    scale: Scale = "raw"

    axis: ClassVar[Axis] = "stability"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "scale", _scale(self.scale, self.name))

    def __call__(self, question: Question, attribution: Attribution, explainer: Explainer | None = None) -> Scores:
        """Scores (n,) of the maps; raises what the explainer raises."""
        # Worked out before the samples go through in blocks, which have spreads of their own.
        units = replace(self, scale=self.units(question))
        return super(_Noisy, units).__call__(question, attribution, explainer)

    def check(self, question: Question) -> None:
        super().check(question)
        self.units(question)

    def units(self, question: Question) -> Scale:
        """ "raw", or what a size of 1 is, one number per channel or column."""
        modality = self.modality_of(question)
        if self.scale == "raw":
            return self.scale
        if isinstance(self.scale, tuple):
            if len(self.scale) != len(modality.features):
                raise InvalidInput(
                    f"{self.name}: scale has {len(self.scale)} numbers, modality {modality.name!r} has "
                    f"{len(modality.features)} {modality.axes[-1]}s: write one per {modality.axes[-1]}"
                )
            return self.scale
        if modality.range is not None:
            return (float(modality.range[1] - modality.range[0]),) * len(modality.features)
        values = ranks.values_of(question.whole, modality).reshape(-1, len(modality.features)).astype(np.float64)
        spread = values.std(axis=0)
        if not spread.any():
            raise Unsupported(
                f"{self.name}: noise is in units of each column's standard deviation, and all columns of "
                f"{modality.name!r} are constant over these samples: write scale=(…), one number per column, or scale='raw'"
            )
        return tuple(spread.tolist())

    def explanations(self, question: Question, explainer: Explainer) -> int:
        return self.draws

    def noisy(self, question: Question, modality: Modality) -> Iterator[Question]:
        """The question with each draw's noise on its inputs."""
        values = ranks.values_of(question, modality)
        rngs = generators(question, self.seed)
        unit = np.ones(1) if isinstance(self.scale, str) else np.asarray(self.scale)
        for _ in range(self.draws):
            if self.noise == "normal":
                drawn = [rng.normal(0, self.size, values.shape[1:]) for rng in rngs]
            else:
                drawn = [rng.uniform(-self.size, self.size, values.shape[1:]) for rng in rngs]
            moved = values + np.stack(drawn) * unit
            yield with_values(question, modality, np.clip(moved, *modality.range) if modality.range else moved)


@dataclass(frozen=True, kw_only=True)
class NoiseCorrelation(_Noisy):
    """Mean correlation of a map with the maps of slightly noisy inputs; higher is better.

    Notes
    -----
    0.95 or more over noise of sd 0.01 of the range is what reports mark as steady. extras["lowest"]: of any draw.
    """

    draws: Count = 5
    size: Positive = 0.01
    noise: Noise = "normal"
    scale: Scale = "range"
    similarity: Similarity = "pearson"

    name: ClassVar[str] = "noise_correlation"
    higher_is_better: ClassVar[bool] = True
    range: ClassVar[Range] = (-1.0, 1.0)
    source: ClassVar[str] = "ours"

    def check(self, question: Question) -> None:
        similarity.check_space(self.similarity, self.modality_of(question), self.name)
        super().check(question)

    def measure(self, question: Question, attribution: Attribution, modality: Modality, explainer: Explainer) -> Scores:
        own = self.units_of(question, attribution, modality)
        moved = (self.units_of(other, explainer(other), modality) for other in self.noisy(question, modality))
        alike = [similarity.between(own, maps, self.similarity) for maps in moved]
        return self.scores(np.mean(alike, axis=0), lowest=np.min(alike, axis=0))


@dataclass(frozen=True, kw_only=True)
class _Sensitivity(_Noisy):
    """Distances of noisy inputs' maps, over the norm of the map.

    Parameters
    ----------
    relative : bool
        Divide by the map's norm, without which explainers of different scale cannot be compared (Yeh et al. do not, Captum
        does).

    Notes
    -----
    ‖Φ(x + δ) - Φ(x)‖ / ‖Φ(x)‖, Frobenius norms, over the maps as the explainer gave them, with all their channels; `reduction`
    plays no part. extras hold both the largest and the mean over draws. A map that is zero everywhere has no norm: NaN.
    """

    relative: bool = True

    higher_is_better: ClassVar[bool] = False
    range: ClassVar[Range] = (0.0, None)
    source: ClassVar[str] = "Yeh et al. 2019"
    takes: ClassVar[str] = "largest"

    def measure(self, question: Question, attribution: Attribution, modality: Modality, explainer: Explainer) -> Scores:
        others = self.noisy(question, modality)
        moved = np.stack([self.distance(question, o, attribution, explainer(o), modality) for o in others])
        extras = {"largest": moved.max(axis=0), "mean": moved.mean(axis=0)}
        return self.scores(extras[self.takes], **extras)

    def distance(
        self, question: Question, other: Question, attribution: Attribution, moved: Attribution, modality: Modality
    ) -> Numbers:
        """How far the maps (n,) are from each other."""
        values: list[Array] = [maps.of(modality.name) for maps in (attribution, moved)]
        own, new = (v.reshape(len(v), -1).astype(np.float64) for v in values)
        usable = np.asarray(np.isfinite(own).all(axis=1) & np.isfinite(new).all(axis=1))
        own, new = (np.where(usable[:, None], maps, 0) for maps in (own, new))  # before infinities meet
        far = np.where(usable, _norm(new - own), np.nan)
        if not self.relative:
            return far
        size = np.where(usable, _norm(own), np.nan)
        return np.where(size > 0, far / np.where(size > 0, size, 1), np.nan)


@dataclass(frozen=True, kw_only=True)
class MaxSensitivity(_Sensitivity):
    """Largest relative change of a map under small noise on the input; lower is better."""

    name: ClassVar[str] = "max_sensitivity"


@dataclass(frozen=True, kw_only=True)
class AverageSensitivity(_Sensitivity):
    """Mean relative change of a map under small noise on the input; lower is better."""

    name: ClassVar[str] = "average_sensitivity"
    source: ClassVar[str] = "Yeh et al. 2019; Bhatt et al. 2020"
    takes: ClassVar[str] = "mean"


@dataclass(frozen=True, kw_only=True)
class LocalLipschitz(_Sensitivity):
    """Largest change of a map per change of the input, over noisy neighbours; lower is better.

    Notes
    -----
    max over draws of ‖Φ(x + δ) - Φ(x)‖₂ / ‖δ‖₂, the map over its norm if `relative`; δ is what is left after the range.
    A sampled maximum: a lower bound of the one Alvarez-Melis and Jaakkola optimise for. A draw that the range undoes
    wholly (δ = 0) counts as no change.
    """

    name: ClassVar[str] = "local_lipschitz"
    source: ClassVar[str] = "Alvarez-Melis and Jaakkola 2018"

    def distance(
        self, question: Question, other: Question, attribution: Attribution, moved: Attribution, modality: Modality
    ) -> Numbers:
        far = super().distance(question, other, attribution, moved, modality)
        step = ranks.values_of(other, modality).astype(np.float64) - ranks.values_of(question, modality)
        length = _norm(step.reshape(len(step), -1))
        return np.where(length > 0, far / np.where(length > 0, length, 1), far * 0)


@dataclass(frozen=True, kw_only=True)
class Repeatability(ReexplainingMetric):
    """Mean correlation of a map with the maps that other seeds of the explainer give; higher is better.

    Parameters
    ----------
    seeds : int, how many other seeds, counted on from the explainer's own

    Notes
    -----
    An explainer without a parameter `seed` draws nothing: its value is 1 without explaining again, NaN where its map has none.
    """

    seeds: Count = 3
    similarity: Similarity = "pearson"

    name: ClassVar[str] = "repeatability"
    higher_is_better: ClassVar[bool] = True
    axis: ClassVar[Axis] = "stability"
    range: ClassVar[Range] = (-1.0, 1.0)
    source: ClassVar[str] = "ours"

    def check(self, question: Question) -> None:
        super().check(question)
        similarity.check_space(self.similarity, self.modality_of(question), self.name)

    def explanations(self, question: Question, explainer: Explainer) -> int:
        return self.seeds if _seed(explainer) is not None else 0

    def measure(self, question: Question, attribution: Attribution, modality: Modality, explainer: Explainer) -> Scores:
        own, start = self.units_of(question, attribution, modality), _seed(explainer)
        if start is None:
            return self.scores(similarity.between(own, own, self.similarity))
        seeded: Any = explainer
        again = (replace(seeded, seed=start + 1 + i)(question) for i in range(self.seeds))
        alike = [similarity.between(own, self.units_of(question, a, modality), self.similarity) for a in again]
        return self.scores(np.mean(alike, axis=0))


def _scale(given: object, metric: str) -> Scale:
    """A scale as `_Noisy` has it; raises `InvalidInput`."""
    if given == "raw" or given == "range":
        return "raw" if given == "raw" else "range"
    numbers = list(given) if isinstance(given, list | tuple | np.ndarray) else []
    for number in numbers:
        if number != 0 or not any(numbers):  # a column that is the same in all samples gets no noise
            positive(number, f"{metric}: each number of scale")
    if not numbers:
        raise InvalidInput(
            f"{metric}: scale is 'raw', 'range' or one number per channel or column, such as (8.0, 12.3); got {given!r}"
        )
    return tuple(float(number) for number in numbers)


def _seed(explainer: Explainer) -> int | None:
    """The explainer's seed, None if it has none."""
    if not dataclasses.is_dataclass(explainer) or "seed" not in {f.name for f in dataclasses.fields(explainer)}:
        return None
    return int(explainer.seed or 0)  # None draws anew each time: any seeds are others


def _norm(rows: Numbers) -> Numbers:
    """Euclidean norms (n,), of huge values too."""
    largest = np.abs(rows).max(axis=1, initial=0)
    safe = np.where(largest > 0, largest, 1)
    return np.asarray(safe * np.linalg.norm(rows / safe[:, None], axis=1) * (largest > 0))
