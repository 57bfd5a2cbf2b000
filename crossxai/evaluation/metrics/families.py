"""What metrics of a kind share: those of one modality's map, of its units, and those that explain again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from crossxai.attribution import Attribution, Axis, Explainer, Needs, Reduction, Scores
from crossxai.errors import InvalidInput, Unsupported
from crossxai.evaluation.curves import fills, ranks
from crossxai.evaluation.parameters import FromZero, Parameters
from crossxai.model import Array, Modality
from crossxai.question import Question, Rows

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class MapMetric(Parameters):
    """A metric of one modality's map: pixels with all their channels, or columns."""

    reduction: Reduction = "sum"
    modality: str = ""

    needs: ClassVar[Needs] = "nothing"
    invariant_to: ClassVar[str] = "scale"

    def passes(self, question: Question) -> int:
        """Forward passes per sample whose map is finite, exactly, beside those of explanations."""
        return 0

    def modality_of(self, question: Question) -> Modality:
        """The modality that is measured; raises `Unsupported` if that is not clear."""
        return ranks.modality_of(question, self.modality, self.name)

    def units_of(self, question: Question, attribution: Attribution, modality: Modality) -> Array:
        """Relevance per unit (n, *space)."""
        return ranks.units(question, attribution, modality, self.reduction)

    def space_of(self, question: Question, modality: Modality) -> tuple[int, ...]:
        """The sizes of images or volumes; raises `Unsupported` for tables."""
        if not modality.spatial:
            raise Unsupported(f"{self.name} needs an image or a volume; {modality.name!r} has {modality.axes}")
        return ranks.space_of(question, modality)

    def image_of(self, question: Question, modality: Modality) -> tuple[int, int]:
        """Height and width of the images; raises `Unsupported` for other modalities."""
        if modality.axes[:-1] != ("y", "x"):
            raise Unsupported(
                f"{self.name} needs an image with axes y, x, channel; {modality.name!r} has {modality.axes}"
            )
        height, width = ranks.space_of(question, modality)
        return height, width

    def scores(
        self, value: Array, curve: Array | None = None, fractions: Array | None = None, **extras: Array
    ) -> Scores:
        """Scores of some samples: value (m,), curve (m, points) over fractions (points,), extras (m,)."""
        return Scores(self.name, value, self.higher_is_better, curve, fractions, extras)

    def _params(self, question: Question, modality: Modality) -> dict[str, Any]:
        """The parameters as used, for `Scores.params`."""
        return {f.name: getattr(self, f.name) for f in fields(self)} | {"modality": modality.name}


@dataclass(frozen=True, kw_only=True)
class UnitMetric(MapMetric):
    """A metric that perturbs the units of one modality.

    Notes
    -----
    The score is the question's target: the probability or logit of a class, a regression output, the mean output over a region.
    A map that is not finite gives NaN and costs no pass; extras["degenerate"] is 1 for those and for constant ones, and
    extras["tie_rate"], where units are ranked, is the share of units whose value another unit has too.
    """

    seed: FromZero = 0

    needs: ClassVar[Needs] = "scores"
    invariant_to: ClassVar[str] = "order"
    axis: ClassVar[Axis] = "faithfulness"

    def __call__(self, question: Question, attribution: Attribution) -> Scores:
        """One number per sample (n,), NaN where the metric is undefined."""
        modality = self.modality_of(question)
        relevance = self.units_of(question, attribution, modality)
        rows = np.flatnonzero(ranks.usable(relevance))
        scores = self._measure(question.only(modality.name), modality, relevance, rows)
        extras: dict[str, Array] = {"degenerate": ranks.degenerate(relevance)}
        if self.invariant_to == "order":
            extras["tie_rate"] = ranks.tie_rate(relevance)
        extras |= {name: spread(extra, rows, len(question)) for name, extra in scores.extras.items()}
        value = spread(scores.value, rows, len(question))
        curve = None if scores.curve is None else spread(scores.curve, rows, len(question))
        return replace(scores, value=value, curve=curve, extras=extras, params=self._params(question, modality))

    def _measure(self, question: Question, modality: Modality, relevance: Array, rows: Rows) -> Scores:
        """Measure the samples `rows`, whose maps (of relevance (n, *space)) are finite; the modality alone is free."""
        raise NotImplementedError

    def _units(self, question: Question) -> int:
        return int(np.prod(ranks.space_of(question, self.modality_of(question))))

    def _params(self, question: Question, modality: Modality) -> dict[str, Any]:
        params = {**super()._params(question, modality), "link": question.target.link}
        if "fill" in params:
            params["fill"] = fills.describe(params["fill"])
        return {name: list(value) if isinstance(value, tuple) else value for name, value in params.items()}


def spread(values: Array, rows: Rows, n: int) -> Array:
    """values (m, …) of samples `rows` as an array (n, …), NaN elsewhere."""
    result = np.full((n, *values.shape[1:]), np.nan)
    result[rows] = values
    return result


@dataclass(frozen=True, kw_only=True)
class ReexplainingMetric(MapMetric):
    """A metric that explains again, called as metric(question, attribution, explainer) with the question that was explained.

    Parameters
    ----------
    seed : int, of the metric's own draws, per sample; the explainer keeps its seed

    Notes
    -----
    Samples go through in blocks, so that memory holds a few copies of a block, unless the explainer compares samples.
    extras["degenerate"] is 1 for maps that are not finite or constant.
    """

    seed: FromZero = 0

    asks: ClassVar[str] = "explainer"
    together: ClassVar[bool] = False
    """Whether all samples have to be measured at once, because they are put together."""

    def __call__(self, question: Question, attribution: Attribution, explainer: Explainer | None = None) -> Scores:
        """Scores (n,) of the maps; raises what the explainer raises."""
        if explainer is None:
            raise InvalidInput(
                f"{self.name} has maps made again: write metric(question, attribution, explainer), with the explainer "
                "of the map and the question that was explained"
            )
        self.check(question)
        if question.part_of is not None and getattr(explainer, "contrasts", False):
            raise Unsupported(
                f"{self.name} explains again, and {explainer.name} compares samples with each other, of which a shard has some: "
                "measure it in a run without shards"
            )
        modality = self.modality_of(question)
        relevance = self.units_of(question, attribution, modality)
        parts = [
            self.measure(question[rows], _rows(attribution, rows), modality, explainer)
            for rows in blocks(question, explainer, whole=self.together)
        ]
        value = np.concatenate([scores.value for scores in parts])
        extras: dict[str, Array] = {"degenerate": ranks.degenerate(relevance)}
        extras |= {key: np.concatenate([s.extras[key] for s in parts]) for key in parts[0].extras}
        curves = [s.curve for s in parts if s.curve is not None]
        params = {**self._params(question, modality), "link": question.target.link}
        if curves:
            params["curve_over"] = getattr(self, "curve_over", "units")
        curve = np.concatenate(curves) if curves else None
        return Scores(self.name, value, self.higher_is_better, curve, parts[0].fractions, extras, params)

    def measure(self, question: Question, attribution: Attribution, modality: Modality, explainer: Explainer) -> Scores:
        """Scores of a block of samples."""
        raise NotImplementedError

    def check(self, question: Question) -> None:
        """Raise `Unsupported` or `InvalidInput` for a question that this metric cannot measure, without calling the model."""
        self.modality_of(question)

    def explanations(self, question: Question, explainer: Explainer) -> int:
        """How many times each sample is explained again."""
        return 1


def blocks(question: Question, explainer: Explainer, whole: bool = False) -> Iterator[Rows]:
    """The samples in blocks of a few batches; in one block for explainers that compare samples with each other."""
    size = len(question) if whole or getattr(explainer, "contrasts", False) else 4 * question.batch_size
    return (np.arange(start, min(start + size, len(question))) for start in range(0, len(question), size))


def generators(question: Question, seed: int) -> list[np.random.Generator]:
    """One generator per sample, independent of those that explainers draw from with the same seed."""
    return [question.rng(row, seed).spawn(1)[0] for row in range(len(question))]


def with_values(question: Question, modality: Modality, values: Array) -> Question:
    """The same question about other values of one modality, which are no part of a run."""
    given = tuple(
        values.astype(own.dtype, copy=False) if m.name == modality.name else own
        for m, own in zip(question.model.modalities, question.inputs, strict=True)
    )
    return replace(question, inputs=given, part_of=None)


def _rows(attribution: Attribution, rows: Rows) -> Attribution:
    if len(rows) == len(attribution):
        return attribution
    values = tuple(v[rows] for v in attribution.values)
    return replace(attribution, values=values, ids=tuple(attribution.ids[i] for i in rows), extras={})
