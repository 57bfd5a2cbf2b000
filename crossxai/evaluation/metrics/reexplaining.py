"""What metrics share that explain again: other inputs, other targets or another model than those of the map."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from crossxai.attribution import Attribution, Explainer, Needs, Reduction, Scores
from crossxai.documentation import Documented
from crossxai.errors import InvalidInput
from crossxai.evaluation.curves import ranks
from crossxai.evaluation.parameters import reduces, whole
from crossxai.model import Array, Modality
from crossxai.question import Question

Rows = npt.NDArray[np.intp]


@dataclass(frozen=True, kw_only=True)
class ReexplainingMetric(Documented):
    """A metric that explains again, called as metric(question, attribution, explainer) with the question that was explained.

    Parameters
    ----------
    reduction : str
        How channels become one relevance per pixel.
    modality : str
        The one whose map is measured, "" for the only free one.
    seed : int
        Of the metric's own draws, per sample; the explainer keeps its seed.

    Notes
    -----
    Samples go through in blocks, so that memory holds a few copies of a block, unless the explainer compares samples.
    extras["degenerate"] is 1 for maps that are not finite or constant.
    """

    reduction: Reduction = "sum"
    modality: str = ""
    seed: int = 0

    name: ClassVar[str]
    higher_is_better: ClassVar[bool]
    needs: ClassVar[Needs] = "nothing"
    asks: ClassVar[str] = "explainer"

    def __post_init__(self) -> None:
        reduces(self.reduction, self.name)
        whole(self.seed, 0, f"{self.name}: seed")

    def __call__(self, question: Question, attribution: Attribution, explainer: Explainer | None = None) -> Scores:
        """Scores (n,) of the maps; raises what the explainer raises when it is asked again."""
        if explainer is None:
            raise InvalidInput(
                f"{self.name} has maps made again: write metric(question, attribution, explainer), with the explainer "
                "that made the map and the question that it answered"
            )
        self.check(question)
        modality = ranks.modality_of(question, self.modality, self.name)
        relevance = ranks.units(question, attribution, modality, self.reduction)
        found = [
            self.measure(question[rows], _rows(attribution, rows), modality, explainer)
            for rows in blocks(question, explainer, whole=self.together)
        ]
        value = np.concatenate([scores.value for scores in found])
        extras: dict[str, Array] = {"degenerate": ranks.degenerate(relevance)}
        extras |= {key: np.concatenate([s.extras[key] for s in found]) for key in found[0].extras}
        curves = [s.curve for s in found if s.curve is not None]
        params = {
            **{f.name: getattr(self, f.name) for f in dataclasses.fields(self)},
            "modality": modality.name,
            "link": question.target.link,
        }
        if curves:
            params["curve_over"] = getattr(self, "curve_over", "units")
        return Scores(
            self.name,
            value,
            self.higher_is_better,
            np.concatenate(curves) if curves else None,
            found[0].fractions,
            extras,
            params,
        )

    @property
    def together(self) -> bool:
        """Whether all samples have to be judged at once, because they are put together."""
        return False

    def measure(self, question: Question, attribution: Attribution, modality: Modality, explainer: Explainer) -> Scores:
        """Scores of a block of samples."""
        raise NotImplementedError

    def check(self, question: Question) -> None:
        """Raise `Unsupported` or `InvalidInput` for a question that this metric cannot judge, without asking the model."""
        ranks.modality_of(question, self.modality, self.name)

    def explanations(self, question: Question, explainer: Explainer) -> int:
        """How many times each sample is explained again."""
        raise NotImplementedError

    def passes(self, question: Question) -> int:
        """Forward passes per sample of the metric's own, beside those of the explanations."""
        return 0

    def of(self, question: Question, attribution: Attribution, modality: Modality) -> Array:
        """Relevance per unit (n, *space)."""
        return ranks.units(question, attribution, modality, self.reduction)

    def scores(
        self, value: Array, curve: Array | None = None, fractions: Array | None = None, **extras: Array
    ) -> Scores:
        """A block's scores, for `measure`."""
        return Scores(self.name, value, self.higher_is_better, curve, fractions, extras)


def blocks(question: Question, explainer: Explainer, whole: bool = False) -> Iterator[Rows]:
    """The samples in blocks of a few batches; in one block for explainers that compare samples with each other."""
    size = len(question) if whole or getattr(explainer, "contrasts", False) else 4 * question.batch_size
    return (np.arange(start, min(start + size, len(question))) for start in range(0, len(question), size))


def generators(question: Question, seed: int) -> list[np.random.Generator]:
    """One generator per sample, independent of those that explainers draw from with the same seed."""
    return [question.rng(row, seed).spawn(1)[0] for row in range(len(question))]


def with_values(question: Question, modality: Modality, values: Array) -> Question:
    """The same question about other values of one modality, put back into its range."""
    low, high = modality.range or (None, None)
    clipped = values if modality.range is None else np.clip(values, low, high)
    given = tuple(
        clipped.astype(own.dtype, copy=False) if m.name == modality.name else own
        for m, own in zip(question.model.modalities, question.inputs, strict=True)
    )
    return replace(question, inputs=given)


def values_of(question: Question, modality: Modality) -> Array:
    """The inputs (n, *axes) of one modality."""
    return question.inputs[[m.name for m in question.model.modalities].index(modality.name)]


def _rows(attribution: Attribution, rows: Rows) -> Attribution:
    if len(rows) == len(attribution):
        return attribution
    values = tuple(v[rows] for v in attribution.values)
    extras: dict[str, Any] = {}
    return replace(attribution, values=values, ids=tuple(attribution.ids[i] for i in rows), extras=extras)
