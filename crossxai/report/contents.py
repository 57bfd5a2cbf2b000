"""Contents: everything a report says, worked out once and written in several formats.

Findings are sorted by weight: what failed, what beats random, what beats simpler controls, agreement, and then notes; a finding
that many maps are unusable moves up with their share.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from crossxai.report import (
    analysis,
    certainty,
    comparison,
    control_findings,
    map_findings,
    modality_findings,
    places,
    region_findings,
    run_findings,
    score_findings,
    shortcuts,
    wording,
)
from crossxai.report.analysis import Row
from crossxai.report.certainty import Ranking
from crossxai.report.comparison import Maps
from crossxai.report.places import Places
from crossxai.report.run import Run, load
from crossxai.report.verdict import verdict
from crossxai.report.wording import Finding


@dataclass(frozen=True)
class Contents:
    """A run, its table, its maps compared, where they lie, what it says in words, and how sure the rankings are.

    verdict: the sentence that the page begins with, as a headline without details.
    """

    run: Run
    rows: tuple[Row, ...]
    maps: Maps
    places: tuple[Places, ...]
    findings: tuple[Finding, ...]
    rankings: tuple[Ranking, ...]
    verdict: Finding


def gather(directory: Path) -> Contents:
    """Read a run directory and work out what it says; raises `InvalidFile`."""
    run = load(directory)
    rows, maps = analysis.table(run), comparison.compare(run)
    where = tuple(places.places(run))
    findings = find(run, rows, maps, where)
    rankings = certainty.rankings(run, rows)
    return Contents(run, rows, maps, where, findings, rankings, wording.write(verdict(run, rows)))


def find(run: Run, rows: Sequence[Row], maps: Maps, where: Sequence[Places] = ()) -> tuple[Finding, ...]:
    """Everything worth saying, most important first."""
    facts = [
        *score_findings.facts(run, rows),
        *control_findings.facts(run, rows),
        *region_findings.facts(run, rows),
        *map_findings.facts(run, rows, maps),
        *run_findings.facts(run, rows),
        *modality_findings.facts(run, rows),
        *shortcuts.facts(run, where),
    ]
    return tuple(sorted(map(wording.write, facts), key=lambda f: -f.weight))
