"""Which metrics share a table: all of a small run, else an axis of quality each, with what the axis asks in words."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from crossxai import evaluation
from crossxai.attribution import Axis
from crossxai.report.panels import Column

WIDEST = 6  # columns of means and of differences side by side that a page of ordinary width shows without scrolling
NOTES = {
    "faithfulness": "Does the map name what the model uses?",
    "localisation": "Does the map lie where the evidence is known to be?",
    "stability": "Does the map stay when little changes? A control never looks at the model, so it changes little or not at "
    "all: to be worse than random is no fault here, and to be stable no proof of being right.",
    "randomisation": "Does the map go when the model is destroyed, or another class is asked about? A control never looks at "
    "the model, so it stays; an explainer that is not better than random is not shown to look at what changed.",
    "complexity": "How concentrated or smooth is the map? That only describes it: a map of one pixel is the simplest, and may "
    "be wrong.",
    "cross-modal": "Does each modality get what the model, or the data, give it? A share has no better direction.",
    "axiomatic": "Does the map hold what its definition promises? Only some methods promise it; it is no fault of the others.",
}


@dataclass(frozen=True)
class Table:
    """Columns of one table. title, note: its axis, in words; "" where one table has all. maps: it has the maps' own columns."""

    title: str
    note: str
    columns: tuple[Column, ...]
    maps: bool

    @property
    def width(self) -> int:
        """Columns after the explainer's name."""
        return _width(self.columns) + 3 * self.maps


def tables(columns: Sequence[Column]) -> list[Table]:
    """One table for few metrics, else one or more per axis; what is of the maps alone has its own if there is no room."""
    if _width(columns) <= WIDEST:
        narrow = _width(columns) + 3 <= WIDEST + 1  # those of the maps hold little
        scores = Table("", "", tuple(columns), narrow)
        return [scores] if narrow else [scores, Table("Maps", "", (), True)]
    axes = {entry.name: axis for entry in evaluation.discover() if (axis := getattr(entry.metric, "axis", "")) in NOTES}
    found: list[Table] = []
    for axis in (*get_args(Axis), ""):
        chosen = [c for c in columns if axes.get(c.kind, "") == axis]
        parts = -(-_width(chosen) // WIDEST)
        for i in range(parts):
            # Parts of like size: four metrics are 2 and 2.
            part = chosen[i * len(chosen) // parts : (i + 1) * len(chosen) // parts]
            title = (axis or "other metrics").capitalize() + (f", {i + 1} of {parts}" if parts > 1 else "")
            found.append(Table(title, NOTES.get(axis, "") if i == 0 else "", tuple(part), False))
    return [*found, Table("Maps", "", (), True)]


def _width(columns: Sequence[Column]) -> int:
    return len(columns) + sum(c.compared for c in columns)
