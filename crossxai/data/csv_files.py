"""CSV files as people have them: commas, semicolons or tabs, with or without a byte order mark, in UTF-8 or not."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crossxai.data.odd import LeftOut, Odd
from crossxai.data.pictures import check_file
from crossxai.errors import InvalidFile, InvalidInput
from crossxai.model import Array

ENDINGS = (".csv", ".tsv")
LARGEST = 2**28
"""Bytes of a table, which is held in memory as text."""
NOTHING = ("", "na", "n/a", "nan", "null", "none")
"""Cells that hold nothing, whatever their capitals."""


@dataclass(frozen=True)
class Row:
    """A line of a table by its heads; name: where it stands."""

    name: str
    cells: dict[str, str]


@dataclass(frozen=True)
class Table:
    """A CSV file. left_out: lines with too few or too many cells. decimal: what may stand for the point of its numbers."""

    path: Path
    heads: tuple[str, ...]
    rows: tuple[Row, ...]
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]
    decimal: str = "."

    def head(self, wanted: str) -> str:
        """The head that is meant, "" if there is none: as it is written, else in other capitals."""
        folded = [head for head in self.heads if head.casefold() == wanted.casefold()]
        return wanted if wanted in self.heads else folded[0] if wanted and len(folded) == 1 else ""

    def require(self, wanted: str, what: str, write: str) -> str:
        """The head that is meant; raises `InvalidInput` with the heads that there are and what to write."""
        if found := self.head(wanted):
            return found
        raise InvalidInput(
            f"{self.path} needs a column with the head {wanted}, {what}; there are {', '.join(self.heads)}: write {write}"
        )

    def number(self, text: str, absent: Sequence[str]) -> float:
        """A cell as a number, NaN where it is missing; raises `ValueError` where it is no number."""
        text = text.strip()
        if text.casefold() in NOTHING or text in absent:
            return float("nan")
        value = float(text.replace(",", ".") if self.decimal == "," else text)
        return float("nan") if str(value) in absent else value

    def column(self, head: str, absent: Sequence[str]) -> Array:
        """The numbers of a column, NaN where there is none."""
        values = np.full(len(self.rows), np.nan)
        for place, row in enumerate(self.rows):
            try:
                values[place] = self.number(row.cells[head], absent)
            except ValueError:  # which is told where the row is used
                continue
        return values


def read(path: Path) -> Table:
    """A CSV file whose first line names its columns; raises `InvalidFile` or `InvalidInput`."""
    try:
        check_file(path)
        size = path.stat().st_size
        if size > LARGEST:
            raise InvalidFile(f"{path} has {size / 1e6:.0f} MB: give the rows and columns that are needed")
        text, notes = _decoded(path)
        separator = _separator(text)
        lines = list(_lines(text, separator))
    except Odd:
        raise
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidFile(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    if not lines:
        raise InvalidFile(f"{path} is empty")
    heads = tuple(head.strip() for head in lines[0][1])
    if twice := sorted({head for head in heads if head and heads.count(head) > 1}):
        raise InvalidInput(f"{path} has several columns with the head {', '.join(twice)}: rename all but one")
    rows, left_out = [], []
    for number, cells in lines[1:]:
        name = f"{path.name}, line {number}"
        if len(cells) != len(heads):
            left_out.append(LeftOut(name, f"has {len(cells)} cells under {len(heads)} heads"))
        else:
            rows.append(Row(name, dict(zip(heads, (cell.strip() for cell in cells), strict=True))))
    # Programs that part cells by semicolons do so because 1,5 is a number to them.
    return Table(path, heads, tuple(rows), tuple(left_out), notes, "," if separator == ";" else ".")


def _decoded(path: Path) -> tuple[str, tuple[str, ...]]:
    content = path.read_bytes()
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        return content.decode("utf-16"), ()
    try:
        return content.decode("utf-8-sig"), ()
    except UnicodeDecodeError:
        return content.decode("latin-1"), (f"{path.name} is not UTF-8 and was read as Latin-1",)


def _separator(text: str) -> str:
    """What parts the heads: the most frequent of comma, semicolon and tab outside of quotes."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    plain = "".join(first.split('"')[::2])
    return max(",;\t", key=plain.count)


def _lines(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """(number, cells) of the lines that hold any."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    before = 0
    for cells in reader:
        if any(cell.strip() for cell in cells):
            yield before + 1, cells
        before = reader.line_num
