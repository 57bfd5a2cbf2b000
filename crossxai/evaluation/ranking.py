"""The units a metric removes (pixels with all channels, or columns), and their order by relevance."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from crossxai.attribution import Attribution, Reduction, reduce_channels
from crossxai.errors import InvalidInput, UnknownName, Unsupported
from crossxai.model import Array, Modality
from crossxai.question import Question

Ties = Literal["seeded", "stable", "flipped", "unstable"]


def modality_of(question: Question, name: str, metric: str) -> Modality:
    """The modality a metric works on: the one named, else the only free one; raises `Unsupported` if several are free."""
    if name:
        known = {m.name: m for m in question.model.modalities}
        if name not in known:
            raise UnknownName("modality", name, known)
        return known[name]
    if len(question.modalities) != 1:
        raise Unsupported(
            f"{metric} judges one modality at a time, {len(question.modalities)} are free "
            f"({', '.join(question.free)}): write modality={question.free[0]!r}"
        )
    return question.modalities[0]


def space_of(question: Question, modality: Modality) -> tuple[int, ...]:
    """Shape of one sample's units: the axes without channels for an image, the columns for a table."""
    values = question.inputs[[m.name for m in question.model.modalities].index(modality.name)]
    return values.shape[1:-1] if modality.spatial else values.shape[1:]


def units(
    question: Question,
    attribution: Attribution,
    modality: Modality,
    reduction: Reduction = "sum",
    rows: slice = slice(None),
) -> Array:
    """One relevance per unit, (n, *space), in the question's order of samples; NaN and infinite maps pass through.

    rows: only these samples'.

    Raises `InvalidInput` if the attribution is about other samples, lacks the modality, or does not broadcast to the
    inputs: maps are never resized here, because the way of resizing belongs to the explainer.
    """
    if attribution.ids != question.ids:
        raise InvalidInput(
            f"{attribution.explainer} explains samples {_some(attribution.ids)}, the question asks about "
            f"{_some(question.ids)}: evaluate with the question that was explained, same samples in the same order"
        )
    names = [m.name for m in attribution.modalities]
    if modality.name not in names:
        raise InvalidInput(f"{attribution.explainer} holds no map of {modality.name!r}, only of {', '.join(names)}")
    # A map with NaN or opposite infinities is the caller's to count, not worth a warning.
    with np.errstate(invalid="ignore", over="ignore"):
        values = attribution.of(modality.name)[rows]
        values = values.astype(
            np.result_type(values, np.float32), copy=False
        )  # a map of booleans or integers ranks too
        reduced = reduce_channels(values, reduction) if modality.spatial else values
    shape = (len(reduced), *space_of(question, modality))
    if any(have not in (1, want) for have, want in zip(reduced.shape[1:], shape[1:], strict=True)):
        raise InvalidInput(
            f"{attribution.explainer}: map of {modality.name!r} has shape {reduced.shape[1:]}, the input has "
            f"{shape[1:]}: resize it to the input first"
        )
    return np.broadcast_to(reduced, shape)


def order(
    question: Question, relevance: Array, rows: npt.ArrayLike, seed: int = 0, ties: Ties = "seeded"
) -> npt.NDArray[np.intp]:
    """Unit numbers (m, units), most relevant first, for relevance (m, *space) of samples `rows` (m,).

    Ties, "seeded": one permutation per sample breaks them, drawn from the sample's name and the seed, hence the same for every
    explainer; raster order would favour the top-left corner. The others are what libraries do: "stable" keeps raster order,
    "flipped" is NumPy's default argsort read backwards, "unstable" that of the negative; the last two depend on the
    processor that NumPy sorts on.
    """
    flat = relevance.reshape(len(relevance), -1)
    if ties == "stable":
        return np.argsort(-flat, axis=1, kind="stable")
    if ties == "flipped":
        return np.argsort(flat, axis=1)[:, ::-1]
    if ties == "unstable":
        return np.argsort(-flat, axis=1)
    result = np.empty(flat.shape, dtype=np.intp)
    for i, row in enumerate(np.asarray(rows, dtype=np.intp).tolist()):
        shuffled = question.rng(row, seed).permutation(flat.shape[1])
        result[i] = shuffled[np.argsort(-flat[i, shuffled], kind="stable")]
    return result


def tie_rate(relevance: Array) -> npt.NDArray[np.float64]:
    """Share of units whose value equals another unit's value, per sample (n,); NaN for maps that are not finite."""
    flat = np.sort(relevance.reshape(len(relevance), -1), axis=1)
    same = flat[:, 1:] == flat[:, :-1]
    tied = np.zeros(flat.shape, dtype=bool)
    tied[:, 1:] |= same
    tied[:, :-1] |= same
    return np.where(usable(relevance), tied.mean(axis=1), np.nan)


def means(flat: Array, labels: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.float64]:
    """Mean relevance of each group of units, for relevance (units,) and group numbers (units,) from 0, none missing.

    Around one value of the group, so that groups of one value have exactly that, whatever their sizes: a constant map would
    else be ranked by rounding.
    """
    first = flat[np.unique(labels, return_index=True)[1]].astype(np.float64)
    return np.asarray(first + np.bincount(labels, weights=flat - first[labels]) / np.bincount(labels))


def usable(relevance: Array) -> npt.NDArray[np.bool_]:
    """Whether each map (n, *space) is finite everywhere, (n,)."""
    return np.asarray(np.isfinite(relevance.reshape(len(relevance), -1)).all(axis=1))


def degenerate(relevance: Array) -> npt.NDArray[np.float64]:
    """1.0 for maps that rank nothing (NaN, infinite, or constant over two or more units), else 0.0; shape (n,)."""
    flat = relevance.reshape(len(relevance), -1)
    constant = (flat == flat[:, :1]).all(axis=1) & (flat.shape[1] > 1)
    return np.asarray(constant | ~usable(relevance), dtype=np.float64)


def _some(ids: tuple[str, ...]) -> str:
    return f"({', '.join(ids[:3])}{', …' if len(ids) > 3 else ''}; {len(ids)} in all)"
