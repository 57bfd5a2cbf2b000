"""Contents: everything a report says, worked out once and written in several formats."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from crossxai.report import analysis, certainty, comparison, findings, places
from crossxai.report.analysis import Row
from crossxai.report.certainty import Ranking
from crossxai.report.comparison import Maps
from crossxai.report.phrases import Finding
from crossxai.report.places import Places
from crossxai.report.run import Run, load


@dataclass(frozen=True)
class Contents:
    """A run, its table, its maps compared, where they lie, what it says in words, and how sure the rankings are."""

    run: Run
    rows: tuple[Row, ...]
    maps: Maps
    places: tuple[Places, ...]
    findings: tuple[Finding, ...]
    rankings: tuple[Ranking, ...]


def gather(directory: Path) -> Contents:
    """Read a run directory and work out what it says; raises `InvalidFile`."""
    run = load(directory)
    rows, maps = analysis.table(run), comparison.compare(run)
    where = tuple(places.places(run))
    said = findings.find(run, rows, maps, where)
    return Contents(run, rows, maps, where, said, certainty.rankings(run, rows))
