"""What the page shows of agreement: matrices as tables of coloured numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from crossxai.report import words
from crossxai.report.comparison import TOP_SHARE
from crossxai.report.contents import Contents
from crossxai.report.plots import pictures


@dataclass(frozen=True)
class Entry:
    """One coloured cell of a matrix."""

    text: str
    background: str
    ink: str
    title: str
    diagonal: bool


@dataclass(frozen=True)
class Matrix:
    """One measure between all explainers. reading: how its halves are to be read."""

    measure: str
    title: str
    meaning: str
    reading: str
    labels: tuple[str, ...]
    rows: tuple[tuple[Entry, ...], ...]
    scale: str
    low: str
    high: str


MEANINGS = {
    "spearman": ("Spearman rank correlation", "1: same order of pixels, 0: unrelated orders, −1: reversed"),
    "cosine": ("Cosine similarity", "1: same direction, 0: unrelated, −1: opposite sign"),
    "top_k": (
        f"Overlap of the top {words.percent(TOP_SHARE)}",
        f"1: the same top pixels, 0: none in common; chance gives about {TOP_SHARE:g}",
    ),
}


def matrices(contents: Contents) -> list[Matrix]:
    """Every measure; with two models one matrix holds both, one below and the other above the diagonal."""
    models = [m for m in contents.run.models if any(key[0] == m for key in contents.maps.index)]
    sides = [(models[0], models[1])] if len(models) == 2 else [(model, model) for model in models]
    return [_matrix(contents, measure, *side) for side in sides for measure in MEANINGS]


def _matrix(contents: Contents, measure: str, below: str, above: str) -> Matrix:
    index, means = contents.maps.index, contents.maps.means[measure]
    labels = tuple(x for x in contents.run.labels if (below, x) in index or (above, x) in index)
    signed = measure != "top_k"
    low = -1.0 if signed else 0.0
    rows = []
    for i, one in enumerate(labels):
        row = []
        for j, two in enumerate(labels):
            # Below the diagonal both maps come from `below`, above it from `above`, on it one from each.
            a, b = ((below, one), (below, two)) if i > j else ((above, one), (above, two))
            if i == j:
                a, b = (below, one), (above, one)
            known = a in index and b in index and not (i == j and below == above)
            value = float(means[index[a], index[b]]) if known else math.nan
            models = below if i > j else above if i < j else f"{below} and {above}"
            row.append(_entry(value, low, signed, f"{one} and {two}, {models}", i == j))
        rows.append(tuple(row))
    title, meaning = MEANINGS[measure]
    if below == above:
        reading = f"Mean over samples, maps of {below}." if len(contents.run.models) > 1 else "Mean over samples."
    else:
        reading = f"Below the diagonal: {below}. Above it: {above}. On it: the same explainer, {below} against {above}."
    limits = (words.number(low, 0), "1")
    return Matrix(measure, title, meaning, reading, labels, tuple(rows), pictures.scale(signed), *limits)


def _entry(value: float, low: float, signed: bool, where: str, diagonal: bool) -> Entry:
    if not math.isfinite(value):
        return Entry("", "#f3f4f6", "#6b7280", f"{where}: undefined", diagonal)
    shade = pictures.colour(value, low, 1.0, signed)
    red, green, blue = (int(shade[k : k + 2], 16) for k in (1, 3, 5))
    dark = float(np.dot((0.299, 0.587, 0.114), (red, green, blue))) < 140
    text = words.number(value, 2)
    text = text.replace("0.", ".", 1) if text.lstrip(words.MINUS).startswith("0.") else text
    return Entry(text, shade, "#ffffff" if dark else "#111827", f"{where}: {words.number(value, 3)}", diagonal)
