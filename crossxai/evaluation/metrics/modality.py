"""How much of a map belongs to each modality, under two conventions that need not agree, and how much of the score does.

By the mean a column counts as much as an average pixel, by the sum all noise counts; ablation asks the model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, get_args

import numpy as np
import numpy.typing as npt

from crossxai.attribution import Attribution, Axis, Needs, Range, Reduction, Scores
from crossxai.errors import UnknownName, Unsupported
from crossxai.evaluation.curves import ranks
from crossxai.evaluation.curves.fills import Fill, FillLike, by_modality, describe, filled, of_modalities
from crossxai.evaluation.curves.masking import scores_replaced
from crossxai.evaluation.parameters import Parameters, choice
from crossxai.model import Array, Modality
from crossxai.question import Question

Numbers = npt.NDArray[np.float64]
Of = Literal["mean", "sum"]
DROP = "modality_drop"
"""The extra (n, modalities) of an explainer that replaces whole modalities; its maps hold one number per modality."""


def shares(units: Sequence[Array], of: Of) -> Numbers:
    """Each modality's share (n, modalities) of absolute relevance (n, *units); NaN where one is not finite or all are 0."""
    choice(of, get_args(Of), "unknown convention of")
    flat = [u.reshape(len(u), -1).astype(np.float64) for u in units]
    usable = np.asarray(np.isfinite(np.concatenate(flat, axis=1)).all(axis=1))
    largest = np.max([np.abs(np.where(usable[:, None], f, 0)).max(axis=1) for f in flat], axis=0)
    # Over the largest value, so that sums of huge and of tiny maps are numbers.
    sized = [np.abs(np.where(usable[:, None], f, 0)) / np.where(largest > 0, largest, 1)[:, None] for f in flat]
    parts = np.stack([s.mean(axis=1) if of == "mean" else s.sum(axis=1) for s in sized], axis=1)
    return _normalised(parts, usable)


def drop_shares(drops: npt.ArrayLike) -> Numbers:
    """Each modality's share of the absolute drops (n, modalities); NaN where all are 0 or one is not finite."""
    given = np.asarray(drops, dtype=np.float64)
    usable = np.asarray(np.isfinite(given).all(axis=1))
    return _normalised(np.abs(np.where(usable[:, None], given, 0)), usable)


def net(units: Sequence[Array]) -> Numbers:
    """Signed sum of each modality's relevance (n, modalities): of maps that add up, its part in the change of the score."""
    with np.errstate(invalid="ignore"):  # opposite infinities
        return np.stack([u.reshape(len(u), -1).sum(axis=1, dtype=np.float64) for u in units], axis=1)


def agreement(one: Numbers, other: Numbers) -> Numbers:
    """1 - total variation distance of two sets of shares (n, modalities), (n,) in [0, 1]; NaN where either is."""
    return np.asarray(1 - np.abs(one - other).sum(axis=1) / 2)


@dataclass(frozen=True, kw_only=True)
class _OfModalities(Parameters):
    """A metric of shares of modalities.

    Parameters
    ----------
    of : {"mean", "sum"}
        "mean" absolute attribution per unit (a pixel with all its channels, or a column), or the "sum" over all units.

    Notes
    -----
    Refused with `Unsupported` where the question has one free modality, or the map lacks one of them. Samples whose map is
    zero or not finite have no share: NaN.
    """

    of: Of = "mean"
    reduction: Reduction = "sum"

    higher_is_better: ClassVar[bool] = True
    asks: ClassVar[str] = "explained"
    axis: ClassVar[Axis] = "cross-modal"
    range: ClassVar[Range] = (0.0, 1.0)
    invariant_to: ClassVar[str] = "scale"

    def check(self, question: Question) -> None:
        """Raise `Unsupported` for a question of one free modality."""
        if len(question.modalities) < 2:
            raise Unsupported(
                f"{self.name} shares attribution out among modalities, and only {question.free[0]!r} is free: ask about a "
                "question of several modalities"
            )

    def _units(self, question: Question, attribution: Attribution) -> list[Array]:
        self.check(question)
        lacking = [m.name for m in question.modalities if m.name not in {a.name for a in attribution.modalities}]
        if lacking:
            raise Unsupported(
                f"{self.name} compares {', '.join(question.free)}; {attribution.explainer} has no map of "
                f"{', '.join(lacking)}, so there is nothing to share out"
            )
        return [ranks.units(question, attribution, m, self.reduction) for m in question.modalities]


@dataclass(frozen=True, kw_only=True)
class ModalityShare(_OfModalities):
    """Share of a map's absolute attribution that one modality gets; which share is right, the data or an ablation say.

    Parameters
    ----------
    modality : str, the one whose share it is, "" for the first free one

    Notes
    -----
    No direction is better: `higher_is_better` is formal, and reports mark no best. extras: "share.<name>" of every
    modality, and "net.<name>", the signed sum of its relevance, for maps that say that they add up (an extra
    "completeness_gap").
    """

    modality: str = ""

    name: ClassVar[str] = "modality_share"
    needs: ClassVar[Needs] = "nothing"
    describes: ClassVar[bool] = True
    source: ClassVar[str] = (
        "ours; by the mean as in multi-modal workshops, by the sum as in MM-SHAP, Parcalabescu and Frank 2023"
    )

    def check(self, question: Question) -> None:
        super().check(question)
        self._place(question)

    def __call__(self, question: Question, attribution: Attribution) -> Scores:
        """Shares (n,) in [0, 1]; no forward pass."""
        units = self._units(question, attribution)
        place = self._place(question)
        parts = shares(units, self.of)
        extras: dict[str, Array] = {"degenerate": _degenerate(units)}
        extras |= {f"share.{m.name}": parts[:, i] for i, m in enumerate(question.modalities)}
        if any(key.partition(".")[0] == "completeness_gap" for key in attribution.extras):
            extras |= {f"net.{m.name}": net(units)[:, i] for i, m in enumerate(question.modalities)}
        params = {"of": self.of, "modality": question.modalities[place].name, "reduction": self.reduction}
        return Scores(self.name, parts[:, place], self.higher_is_better, extras=extras, params=params)

    def passes(self, question: Question) -> int:
        """None: the map is enough."""
        return 0

    def _place(self, question: Question) -> int:
        names = [m.name for m in question.modalities]
        if self.modality and self.modality not in names:
            raise UnknownName("free modality", self.modality, names)
        return names.index(self.modality) if self.modality else 0


@dataclass(frozen=True, kw_only=True)
class ModalityAgreement(_OfModalities):
    """Agreement of a map's modality shares with those of ablation, 1 less their total variation distance; higher is better.

    Parameters
    ----------
    of : {"sum", "mean"}
        "sum" over all units, since drops are sums over all units of a modality: by the "mean", a map that is right about an
        image and a table of 12 columns agrees hardly better than random numbers.
    fill : str, mapping or callable
        What replaces any modality, in raw input units; see `fills`.

    Notes
    -----
    Ablation: the absolute drop of the explained score when one whole modality is replaced by its fill, the others fixed, as a
    share of all modalities' drops. It has its own blind spots: where two modalities hold the same evidence, neither matters.
    extras: "drop.<name>" and "share.<name>" of every modality.
    """

    of: Of = "sum"
    fill: FillLike = "zero"
    fills: Mapping[str, FillLike] = field(default_factory=dict)

    name: ClassVar[str] = "modality_agreement"
    source: ClassVar[str] = "ours; ablation as in Zeiler and Fergus 2014, of a whole modality"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "fills", by_modality(self.fills, self.name))

    def check(self, question: Question) -> None:
        super().check(question)
        for (modality, fill), values in zip(self._fills(question).items(), question.values, strict=True):
            filled(fill, modality, values[:1])

    def __call__(self, question: Question, attribution: Attribution) -> Scores:
        """Agreement (n,) in [0, 1], from modalities + 1 forward passes per sample."""
        units = self._units(question, attribution)
        dropped = self.drops(question)
        mine, ablated = shares(units, self.of), drop_shares(dropped)
        extras: dict[str, Array] = {"degenerate": _degenerate(units)}
        for i, modality in enumerate(question.modalities):
            extras |= {f"share.{modality.name}": mine[:, i], f"drop.{modality.name}": dropped[:, i]}
        params = {
            "of": self.of,
            "reduction": self.reduction,
            "fills": {m.name: describe(fill) for m, fill in self._fills(question).items()},
            "link": question.target.link,
        }
        return Scores(self.name, agreement(mine, ablated), self.higher_is_better, extras=extras, params=params)

    def passes(self, question: Question) -> int:
        """Forward passes per sample: the input, and each modality replaced."""
        return 1 + len(question.modalities)

    def drops(self, question: Question) -> Numbers:
        """How much the score falls when each modality alone is replaced, (n, modalities)."""
        scores = scores_replaced(question, [{m: fill} for m, fill in self._fills(question).items()])
        return np.asarray(scores[:, :1] - scores[:, 1:])

    def _fills(self, question: Question) -> dict[Modality, Fill]:
        return of_modalities(question, self.fill, self.fills)


def _normalised(parts: Numbers, usable: npt.NDArray[np.bool_]) -> Numbers:
    total = parts.sum(axis=1, keepdims=True)
    known = usable[:, None] & (total > 0)
    return np.where(known, parts / np.where(total > 0, total, 1), np.nan)


def _degenerate(units: Sequence[Array]) -> Array:
    flat = np.concatenate([u.reshape(len(u), -1) for u in units], axis=1)
    return ranks.degenerate(flat)
