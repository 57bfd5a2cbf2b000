"""Contents: everything a report says, worked out once and written in several formats."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from crossxai.report import analysis, certainty, comparison, findings
from crossxai.report.analysis import Row
from crossxai.report.certainty import Ranking
from crossxai.report.comparison import Maps
from crossxai.report.phrases import Finding
from crossxai.report.run import Run, load


@dataclass(frozen=True)
class Contents:
    """A run, its table, its maps compared, what they say in words, and how sure the rankings are."""

    run: Run
    rows: tuple[Row, ...]
    maps: Maps
    findings: tuple[Finding, ...]
    rankings: tuple[Ranking, ...]


def gather(directory: Path) -> Contents:
    """Read a run directory and work out what it says; raises `InvalidFile`."""
    run = load(directory)
    rows, maps = analysis.table(run), comparison.compare(run)
    return Contents(run, rows, maps, findings.find(run, rows, maps), certainty.rankings(run, rows))
