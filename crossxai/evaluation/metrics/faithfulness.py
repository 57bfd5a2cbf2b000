"""UnitMetric: what metrics of one modality's units share, and the checks of their parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from crossxai.attribution import Attribution, Needs, Reduction, Scores
from crossxai.documentation import Documented
from crossxai.errors import InvalidInput
from crossxai.evaluation.curves import fills, ranks
from crossxai.evaluation.parameters import reduces, whole
from crossxai.model import Array, Modality
from crossxai.question import Question, Rows

Numbers = npt.NDArray[np.float64]
Range = tuple[float | None, float | None]


@dataclass(frozen=True)
class Found:
    """What a metric found of some samples: value (m,), curve (m, points) over fractions (points,), extras (m,)."""

    value: Numbers
    curve: Numbers | None = None
    fractions: Numbers | None = None
    extras: Mapping[str, Numbers] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class UnitMetric(Documented):
    """A metric of one modality: pixels with all their channels, or columns.

    Parameters
    ----------
    reduction : str
        How channels become one relevance per pixel.
    modality : str
        The one perturbed, "" for the only free one; the others keep each sample's own values.
    seed : int
        Of every draw, together with the sample's name.

    Notes
    -----
    The score is the question's target: the probability or logit of a class, a regression output, the mean output over a region.
    A map that is not finite gives NaN and costs no pass; extras["degenerate"] is 1 for those and for constant ones, and
    extras["tie_rate"], where units are ranked, is the share of units whose value another unit has too.
    """

    reduction: Reduction = "sum"
    modality: str = ""
    seed: int = 0

    name: ClassVar[str]
    higher_is_better: ClassVar[bool]
    needs: ClassVar[Needs] = "scores"
    invariant_to: ClassVar[str] = "order"
    range: ClassVar[Range] = (None, None)
    axis: ClassVar[Literal["faithfulness"]] = "faithfulness"
    source: ClassVar[str]

    def __post_init__(self) -> None:
        reduces(self.reduction, self.name)
        self._whole("seed", 0)

    def __call__(self, question: Question, attribution: Attribution) -> Scores:
        """One number per sample (n,), NaN where the metric is undefined."""
        modality = ranks.modality_of(question, self.modality, self.name)
        relevance = self._relevance(question, attribution, modality)
        rows = np.flatnonzero(ranks.usable(relevance))
        found = self._measure(question.only(modality.name), modality, relevance, rows)
        extras: dict[str, Array] = {"degenerate": ranks.degenerate(relevance)}
        if self.invariant_to == "order":
            extras["tie_rate"] = ranks.tie_rate(relevance)
        extras |= {name: spread(extra, rows, len(question)) for name, extra in found.extras.items()}
        return Scores(
            self.name,
            spread(found.value, rows, len(question)),
            self.higher_is_better,
            None if found.curve is None else spread(found.curve, rows, len(question)),
            found.fractions,
            extras,
            self._params(question, modality),
        )

    def passes(self, question: Question) -> int:
        """Forward passes per sample whose map is finite, exactly."""
        raise NotImplementedError

    def _measure(self, question: Question, modality: Modality, relevance: Array, rows: Rows) -> Found:
        """Judge the samples `rows`, whose maps (of relevance (n, *space)) are finite; the modality alone is free."""
        raise NotImplementedError

    def _relevance(self, question: Question, attribution: Attribution, modality: Modality) -> Array:
        return ranks.units(question, attribution, modality, self.reduction)

    def _units(self, question: Question) -> int:
        return int(np.prod(ranks.space_of(question, ranks.modality_of(question, self.modality, self.name))))

    def _params(self, question: Question, modality: Modality) -> dict[str, Any]:
        params = {f.name: getattr(self, f.name) for f in fields(self)}
        if "fill" in params:
            params["fill"] = fills.describe(fills.resolve(params["fill"]))
        params = {name: list(value) if isinstance(value, tuple) else value for name, value in params.items()}
        return {**params, "modality": modality.name, "link": question.target.link}

    def _whole(self, field: str, least: int = 1) -> None:
        value = getattr(self, field)
        whole(value, least, f"{self.name}: {field}")
        object.__setattr__(self, field, int(value))

    def _share(self, field: str, whole: bool = False) -> None:
        value = getattr(self, field)
        if not _number(value) or not 0 < value <= 1 or (value == 1 and not whole):
            limits = "above 0, at most 1" if whole else "between 0 and 1"
            raise InvalidInput(f"{self.name}: {field} must be a share {limits}, got {value!r}")
        object.__setattr__(self, field, float(value))

    def _list(self, field: str, top: float) -> None:
        """A list of numbers between 0 and top, both excluded."""
        value = getattr(self, field)
        if (
            not isinstance(value, list | tuple | np.ndarray)
            or not len(value)
            or not all(_number(v) and 0 < v < top for v in value)
        ):
            raise InvalidInput(f"{self.name}: {field} must be numbers between 0 and {top:g}, got {value!r}")
        object.__setattr__(self, field, tuple(v.item() if isinstance(v, np.generic) else v for v in value))

    def _one_of(self, field: str, known: tuple[str, ...]) -> None:
        value = getattr(self, field)
        if value not in known:
            raise InvalidInput(f"{self.name}: unknown {field} {value!r}: write {' or '.join(known)}")


def spread(values: Array, rows: Rows, n: int) -> Array:
    """values (m, …) of samples `rows` as an array (n, …), NaN elsewhere."""
    result = np.full((n, *values.shape[1:]), np.nan)
    result[rows] = values
    return result


def _number(value: object) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and bool(np.isfinite(value))
