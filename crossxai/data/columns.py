"""The columns of tables, and missing values: filled in by a rule that the user states, or refused with row and column."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from crossxai.data.csv_files import Table
from crossxai.data.declared import Files
from crossxai.data.files import Entry, Listing
from crossxai.data.odd import Odd, readable
from crossxai.errors import InvalidInput
from crossxai.model import Array, Modality

WRITE = 'missing = "median", "mean" or a number, which takes its place, or "drop", which leaves such samples out'


@dataclass
class Filler:
    """What becomes of missing values. filled: how many, by column; said: other sentences on the table."""

    declared: Files
    filled: dict[str, int] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)

    def fill(self, value: float, column: str, where: str, known: Array) -> float:
        """The value, or what takes its place; NaN where its sample is to be left out. known: all values of the column."""
        rule = self.declared.missing
        if not np.isnan(value) or rule == "drop":
            return value
        if rule is None:
            raise InvalidInput(f"{where}: {column!r} is missing; write {WRITE}")
        self.filled[column] = self.filled.get(column, 0) + 1
        if not isinstance(rule, str):
            return float(rule)
        present = known[np.isfinite(known)]
        if not present.size:
            raise InvalidInput(f"{column!r} has no {rule}: all of its values are missing; write a number")
        return float(present.mean() if rule == "mean" else np.median(present))

    @property
    def notes(self) -> tuple[str, ...]:
        """Sentences on what was filled in."""
        if not self.filled:
            return tuple(self.said)
        rule = self.declared.missing
        by = f"the {rule} of their column" if isinstance(rule, str) else f"{rule:g}"
        columns = ", ".join(f"{name} {count}" for name, count in self.filled.items())
        return (*self.said, f"missing values were replaced by {by} ({columns})")


class Columns:
    """The values of a table's modality, by the names of its columns; by their order where the model's have none of their own."""

    def __init__(self, declared: Files, listing: Listing, modality: Modality, filler: Filler) -> None:
        self.declared, self.modality, self.filler = declared, modality, filler
        heads = {feature: self._find(listing, feature) for feature in modality.features}
        lacking = [feature for feature, found in heads.items() if found is None]
        if len(lacking) == len(heads):
            heads, lacking = self._by_order(listing) or (heads, lacking)
        if lacking:
            there = ", ".join(dict.fromkeys(head for table in listing.tables for head in table.heads)) or "no table"
            raise InvalidInput(
                f"{modality.name!r} takes the columns {', '.join(modality.features)}; {listing.where} lacks {', '.join(lacking)} "
                f'(there is {there}): write table = "….csv" and key = "…", or name the columns so'
            )
        self.columns = {feature: found for feature, found in heads.items() if found is not None}
        self.known = {f: table.column(head, declared.absent) for f, (table, head) in self.columns.items()}

    def _find(self, listing: Listing, feature: str) -> tuple[Table, str] | None:
        return next(((table, head) for table in listing.tables if (head := table.head(feature))), None)

    def _by_order(self, listing: Listing) -> tuple[dict[str, tuple[Table, str] | None], list[str]] | None:
        for table in listing.tables:
            free = [head for head in table.heads if head not in listing.used and head.casefold() != "id"]
            if len(free) == len(self.modality.features):
                order = ", ".join(free)
                listing_note = f"the columns of {table.path.name} are taken in their order ({order})"
                self.filler.said.append(listing_note)
                return {f: (table, head) for f, head in zip(self.modality.features, free, strict=True)}, []
        return None

    def row(self, entry: Entry) -> Array:
        """One sample's values; raises `Odd` for what is no number, and where missing values leave a sample out."""
        values = []
        for feature, (table, head) in self.columns.items():
            cell = entry.row.cells[head]
            try:
                value = table.number(cell, self.declared.absent)
            except ValueError:
                raise Odd(
                    entry.row.name, f"has {readable(cell)!r} in the column {head!r}, which is no number"
                ) from None
            value = self.filler.fill(value, head, entry.row.name, self.known[feature])
            if not np.isfinite(value):
                missing = "lacks a value" if np.isnan(value) else "has an infinite value"
                raise Odd(entry.row.name, f"{missing} in the column {head!r}")
            values.append(value)
        return np.array(values, np.float32)
